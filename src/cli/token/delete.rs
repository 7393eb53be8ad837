//! `kubectl tokenry delete`: deletes tokens and accounts, after their description was typed.

use std::{slice, time::Duration};

use clap::Args;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::{allowed, asking::consequences, needed, pick, plan::PlannedChange, wait};
use crate::{
    cli::{
        Error,
        connection::{Connection, Workplace},
        lacking,
        names::{self, ACCOUNT, Nameable},
        screen::{Progress, remark, typed},
    },
    crd::{Account, ApiToken, api_token::BoundAccount, instance::OnAccountDeleted, name::CONFIRM_DELETE},
    outside::desk::{Intent, UserWritten},
};

/// The longest wait for the end of an account that was made for a token.
const FREE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Delete {
    /// Name of an ApiToken; or the word account and the name of a ServiceAccount of tokenry.dev, whose tokens end with
    /// it
    #[arg(required = true, num_args = 1..=2, value_name = "[account] NAME")]
    #[arg(add = names::of(Nameable::TokenOrAccount), value_parser = names::deletable)]
    names: Vec<String>,
    /// Description of the object, typed exactly; its name where it has none; default: ask for it
    #[arg(long, value_name = "DESCRIPTION")]
    confirm: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Delete {
    pub(crate) fn main(self) -> Result<(), Error> {
        self.connection.work(async |place| match &*self.names {
            [name] => self.token(place, &names::token(name).map_err(Error::Usage)?).await,
            [kind, name] if kind == ACCOUNT => self.account(place, &names::object(name).map_err(Error::Usage)?).await,
            _ => Err(Error::Usage("give the name of one ApiToken, or: account NAME".into())),
        })
    }

    async fn token(&self, place: &Workplace, name: &str) -> Result<(), Error> {
        let token: ApiToken = pick::one(place, name, pick::CHANGES).await?;
        let mirrored = token.status.as_ref().and_then(|status| status.policy.as_ref());
        let needs = mirrored.is_some_and(|policy| policy.confirm_delete);
        let word = word(&token, token.spec.description.as_ref());
        needed::review_deletion(place, &token, "apitokens", Some(needed::owner(&token)), needs).await?;
        rehearse(place, &token, (&word, needs)).await?;
        self.warn(place, slice::from_ref(&token), PlannedChange::Delete).await?;
        self.delete(place, &token, name, (&word, needs)).await?;
        until_free(place, &token).await;
        remark(&format!("{name}: deleted"));
        Ok(())
    }

    async fn account(&self, place: &Workplace, name: &str) -> Result<(), Error> {
        let Workplace { desk, namespace } = place;
        let refused = |refusal| lacking::refused(refusal, pick::CHANGES);
        let found: Option<Account> = desk.find_needed(namespace, name).await.map_err(refused)?;
        let missing = || Error::Missing(format!("ServiceAccount {namespace}/{name} of tokenry.dev does not exist"));
        let account = found.ok_or_else(missing)?;
        let mut tokens: Vec<ApiToken> = desk.list_needed(Some(namespace), None).await.map_err(refused)?;
        tokens.retain(|token| {
            let bound = token.status.as_ref().and_then(|status| status.account.as_ref());
            bound.is_some_and(|bound| Some(&bound.uid) == account.metadata.uid.as_ref()) && wait::ended(token).is_none()
        });
        let instance = allowed::instance_of(place, &account.spec.instance_ref).await?;
        let mirrored = account.status.as_ref().and_then(|status| status.policy.as_ref());
        let needs = mirrored.is_some_and(|policy| policy.confirm_delete);
        let owner = account.spec.owner.as_ref().map(|owner| owner.as_str());
        needed::review_deletion(place, &account, "serviceaccounts", owner, needs).await?;
        let word = word(&account, account.spec.description.as_ref());
        rehearse(place, &account, (&word, needs)).await?;
        remark(&end_of(&tokens, instance.map(|instance| instance.spec.tokens.on_account_deleted)));
        // Each token ends. The Instance decides if its object stays.
        self.warn(place, &tokens, PlannedChange::Revoke).await?;
        let title = format!("account {name}");
        self.delete(place, &account, &title, (&word, needs)).await?;
        remark(&format!("{title}: deleted"));
        Ok(())
    }

    /// Shows the effects on these tokens, before a question.
    async fn warn(&self, place: &Workplace, tokens: &[ApiToken], change: PlannedChange) -> Result<(), Error> {
        if self.confirm.is_some() || tokens.is_empty() {
            return Ok(());
        }
        consequences(place, tokens, change, None).await
    }

    /// Deletes an object after this word was typed. `title` names it. `needs`: the Instance asks for the annotation
    /// that confirms the deletion.
    async fn delete<K: UserWritten>(
        &self,
        place: &Workplace,
        seen: &K,
        title: &str,
        (word, needs): (&str, bool),
    ) -> Result<(), Error> {
        match &self.confirm {
            Some(given) if given == word => {}
            Some(_) => return Err(Error::Usage(format!("--confirm is not the description of {title}: \"{word}\""))),
            None => typed(&format!("Deleting {title} is final."), "to delete it", word, "--confirm")?,
        }
        let mut current = seen.clone();
        if needs {
            let changed = place.desk.change(seen, confirmation(word), Intent::Do).await;
            current = changed.map_err(|refusal| Error::of_write(refusal, seen))?;
        }
        place.desk.delete(&current, Intent::Do).await.map_err(|refusal| Error::of_write(refusal, seen))
    }
}

/// The change that confirms a deletion.
fn confirmation(word: &str) -> Value {
    json!({"metadata": {"annotations": {CONFIRM_DELETE: word}}})
}

/// Lets the API server check the first write of a deletion, and writes nothing. So a user that may not delete the
/// object is asked nothing. The rights are those of [`Delete::delete`].
async fn rehearse<K: UserWritten>(place: &Workplace, seen: &K, (word, needs): (&str, bool)) -> Result<(), Error> {
    let rehearsal = match needs {
        true => place.desk.change(seen, confirmation(word), Intent::Rehearse).await.map(drop),
        false => place.desk.delete(seen, Intent::Rehearse).await,
    };
    rehearsal.map_err(|refusal| Error::of_write(refusal, seen))
}

/// The end of the tokens of a deleted account, in words. `then` is the rule of its Instance. `None`: the user may not
/// read it.
fn end_of(tokens: &[ApiToken], then: Option<OnAccountDeleted>) -> String {
    let names = tokens.iter().map(ResourceExt::name_any).collect::<Vec<_>>().join(", ");
    let stay = "stay in the list as AccountDeleted";
    let end = match then {
        _ if tokens.is_empty() => return "no living token acts as this account".to_owned(),
        Some(OnAccountDeleted::Keep) => format!("end with it, for good, and {stay}"),
        Some(OnAccountDeleted::Delete) => "are deleted with it, and their Secrets too".to_owned(),
        None => {
            format!(
                "end with it, for good, and {stay}, or are deleted too: tokens.onAccountDeleted of the Instance says it"
            )
        }
    };
    format!("these tokens act as this account, and {end}: {names}")
}

/// Waits until the account that was made for a deleted token is gone too. Then another token can have its name. Without
/// the right to read the account, nothing is waited for.
async fn until_free(place: &Workplace, token: &ApiToken) {
    let bound = token.status.as_ref().and_then(|status| status.account.as_ref());
    let Some(BoundAccount { name, uid }) = bound else { return };
    let _shown = Progress::of(&format!("{}: waiting until its account is gone", token.name_any()));
    let was_made_for = |account: &Account| {
        let mut owners = account.owner_references().iter();
        account.metadata.uid.as_ref() == Some(uid)
            && owners.any(|owner| Some(&owner.uid) == token.metadata.uid.as_ref())
    };
    let is_free = |account: Option<&Account>| (!account.is_some_and(was_made_for)).then_some(());
    // The token is deleted in any case.
    let _ = place.desk.until((&place.namespace, name), FREE_WITHIN, is_free).await;
}

/// The word that confirms a deletion: the description of the object, or else its name.
fn word(object: &impl Resource, description: Option<&String>) -> String {
    description.filter(|text| !text.is_empty()).cloned().unwrap_or_else(|| object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{InstanceRef, api_token::ApiTokenSpec};

    #[test]
    fn the_tokens_of_a_deleted_account_stay_or_go_as_their_instance_says() {
        let spec = || ApiTokenSpec::of(InstanceRef { name: "eem".into(), namespace: None });
        let tokens = ["a", "b"].map(|name| ApiToken::new(name, spec()));
        let kept = end_of(&tokens, Some(OnAccountDeleted::Keep));
        assert!(kept.contains("stay in the list as AccountDeleted: a, b") && !kept.contains("deleted with"), "{kept}");
        assert!(end_of(&tokens, Some(OnAccountDeleted::Delete)).contains("are deleted with it"));
        assert!(end_of(&tokens, None).contains("tokens.onAccountDeleted of the Instance says it"));
        assert!(end_of(&[], None).starts_with("no living token"));
    }
}
