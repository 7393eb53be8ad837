//! The rights that `create` needs. They are reviewed before anything is written, so that a refusal names all of them.

use super::needed::{GrantableRight, asked, lacked};
use crate::{
    cli::{
        Error,
        connection::Workplace,
        denial::Denial,
        grant::AdvisedRight,
        lacking::{self, LackedRight},
    },
    crd::{ApiToken, GROUP},
    outside::{Refusal, Verb, desk::Intent, rights::Right},
    verifier::index::Key,
};

/// The parts of a command line on which its rights depend.
pub(super) struct CreationRights<'a> {
    /// The name of the new token.
    pub(super) name: &'a str,
    /// The Instance, if the user names one.
    pub(super) instance: Option<Key>,
    /// True if the command waits for the value.
    pub(super) waits: bool,
    /// True if the command reads the value, and nothing gives the right to it by itself.
    pub(super) reads: bool,
    /// The flag of `grant` that gives the right to the value.
    pub(super) value: &'static str,
}

/// The words before the rights that are missing.
const NOTHING: &str = "nothing was created: ";

impl CreationRights<'_> {
    /// The rights to read the Instance, to create the token, and to read its value.
    fn needed(&self, home: &str) -> Vec<GrantableRight> {
        let ours = |verb, resource| Right::new(verb, GROUP, resource);
        let instance = match &self.instance {
            Some(Key { namespace, name }) => {
                let look = if **namespace == *home { "--create" } else { "--view" };
                GrantableRight::new(ours(Verb::GET, "instances"), namespace, Some(name), &[look])
            }
            None => GrantableRight::new(ours(Verb::LIST, "instances"), home, None, &["--create"]),
        };
        let mut needed =
            vec![instance, GrantableRight::new(ours(Verb::CREATE, "apitokens"), home, None, &["--create"])];
        if self.waits {
            let read = ours(Verb::GET, "apitokens");
            needed.push(GrantableRight::new(read, home, Some(self.name), &["--create"]));
        }
        needed.extend(self.reads.then(|| self.to_value(home)));
        needed
    }

    /// The right to read the value.
    pub(super) fn to_value(&self, home: &str) -> GrantableRight {
        GrantableRight::to_value(home, self.name, &[self.value, self.name])
    }
}

/// Succeeds if the user may do all that the command does. `wanted` is the new token, if its Instance could be read.
///
/// # Errors
/// A right is missing. The text names all that are missing, with the commands that give them.
pub(super) async fn review(
    place: &Workplace,
    rights: &CreationRights<'_>,
    wanted: Option<&ApiToken>,
    intent: Intent,
) -> Result<(), Error> {
    let mut missing = lacked(place, &rights.needed(&place.namespace), intent).await?;
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(wanted) = wanted {
        missing.extend(lacked(place, &asked(place, wanted).await?, intent).await?);
    }
    Err(lacking::lacks(place, NOTHING, &missing).await)
}

/// The error of a refused creation. If an admission policy misses a right, the text names all rights that are missing.
pub(super) async fn refused(place: &Workplace, wanted: &ApiToken, refusal: Refusal) -> Error {
    let Some(missing) = missing(place, wanted, &refusal).await else { return Error::of_write(refusal, wanted) };
    lacking::lacks(place, NOTHING, &missing).await
}

/// The rights that the user lacks, if an admission policy has refused the creation for want of one of several.
async fn missing(place: &Workplace, wanted: &ApiToken, refusal: &Refusal) -> Option<Vec<LackedRight>> {
    let Some(Denial::Policy(text)) = Denial::of(refusal) else { return None };
    let advised = AdvisedRight::of(text)?.right;
    // The wait of the creation was in vain, so this one does not wait again.
    let mut missing = lacked(place, &asked(place, wanted).await.ok()?, Intent::Rehearse).await.ok()?;
    if !missing.contains(&advised) {
        missing.insert(0, advised);
    }
    (missing.len() > 1).then_some(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_of_a_creation_depend_on_what_it_prints() {
        let rights = |waits, reads, instance| CreationRights { name: "ci", instance, waits, reads, value: "--claim" };
        let told = |rights: CreationRights<'_>| {
            let told = |GrantableRight { right, words }: GrantableRight| {
                format!("{} {} {}", right.right, right.namespace, words.join(" "))
            };
            rights.needed("n").into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(
            told(rights(true, true, None)),
            [
                "list instances.tokenry.dev n --create",
                "create apitokens.tokenry.dev n --create",
                "get apitokens.tokenry.dev n --create",
                "get secrets n --claim ci"
            ]
        );
        let granted = told(rights(true, false, None));
        assert!(granted.len() == 3 && !granted.iter().any(|right| right.contains("secrets")), "{granted:?}");
        let elsewhere = told(rights(false, false, Some(Key::new("m", "eem"))));
        assert_eq!(elsewhere, ["get instances.tokenry.dev m --view", "create apitokens.tokenry.dev n --create"]);
    }
}
