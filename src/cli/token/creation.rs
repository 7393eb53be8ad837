//! The rights that `create` needs. They are reviewed before anything is written, so that a refusal names all of them.

use super::needed::{self, GrantableRight, asked, lacked};
use crate::{
    cli::{Error, connection::Workplace, denial::Denial, lacking},
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
    /// True if the token gets a role or policies, and the user does not name them with their Instance.
    pub(super) names_less: bool,
}

/// The words before the rights that are missing.
const NOTHING: &str = "nothing was created: ";
/// The same words, if some rights are not known yet.
const NAMED_LATER: &str =
    "nothing was created; give the Instance, and the role if you want one, and the rights on both are named here too: ";

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

/// Succeeds if the user may do all that the command does. `wanted` is the new token. It has no role and no policies if
/// they are not known, because the user may not read the Instance.
///
/// # Errors
/// A right is missing. The text names all that are missing, with the commands that give them.
pub(super) async fn review(
    place: &Workplace,
    rights: &CreationRights<'_>,
    wanted: &ApiToken,
    intent: Intent,
) -> Result<(), Error> {
    let mut missing = lacked(place, &rights.needed(&place.namespace), intent).await?;
    if missing.is_empty() {
        return Ok(());
    }
    missing.extend(lacked(place, &asked(place, wanted).await?, intent).await?);
    Err(lacking::lacks(place, if rights.names_less { NAMED_LATER } else { NOTHING }, &missing).await)
}

/// The error of a refused creation. If an admission policy misses a right, the text names all rights that are missing.
pub(super) async fn refused(place: &Workplace, wanted: &ApiToken, refusal: Refusal) -> Error {
    let missing = match Denial::of(&refusal) {
        // The wait of the creation was in vain, so this review does not wait again.
        Some(Denial::Policy(text)) => {
            let missing = async { lacked(place, &asked(place, wanted).await?, Intent::Rehearse).await };
            needed::several(text, missing).await
        }
        Some(Denial::Right(..) | Denial::Other(_)) | None => None,
    };
    match missing {
        Some(missing) => lacking::lacks(place, NOTHING, &missing).await,
        None => Error::of_write(refusal, wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_of_a_creation_depend_on_what_it_prints() {
        let rights = |waits, reads, instance| CreationRights {
            name: "ci",
            instance,
            waits,
            reads,
            value: "--claim",
            names_less: false,
        };
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
