//! `kubectl tokenry delete`: deletes tokens and accounts, after their description was typed.

use clap::Args;
use kube::ResourceExt;
use serde_json::json;

use super::pick;
use crate::{
    cli::{
        Error, client,
        connection::{Connection, Workplace},
        screen::{remark, typed},
    },
    crd::{Account, ApiToken, name::CONFIRM_DELETE},
    outside::desk::{Intent, UserWritten},
};

#[derive(Args)]
pub(crate) struct Delete {
    /// Name of an ApiToken; or the word account and the name of a ServiceAccount of tokenry.dev, whose tokens end with
    /// it
    #[arg(required = true, num_args = 1..=2, value_name = "[account] NAME")]
    names: Vec<String>,
    /// Description of the object, typed exactly; its name where it has none; default: ask for it
    #[arg(long, value_name = "DESCRIPTION")]
    confirm: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// The object to delete, by its name.
struct Deletion {
    connection: Connection,
    name: String,
    confirm: Option<String>,
}

impl Delete {
    pub(crate) fn main(self) -> Result<(), Error> {
        let Self { names, confirm, connection } = self;
        client::block_on(async {
            match &*names {
                [name] => Deletion { connection, name: name.clone(), confirm }.token().await,
                [kind, name] if kind == "account" => {
                    Deletion { connection, name: name.clone(), confirm }.account().await
                }
                _ => Err(Error::Usage("give the name of one ApiToken, or: account NAME".into())),
            }
        })
    }
}

impl Deletion {
    async fn token(self) -> Result<(), Error> {
        let place = self.connection.open().await?;
        let token: ApiToken = pick::one(&place, &self.name).await?;
        let description = token.spec.description.clone();
        let mirrored = token.status.as_ref().and_then(|status| status.policy.as_ref());
        let needs = mirrored.is_some_and(|policy| policy.confirm_delete);
        self.delete(&place, &token, description, needs).await
    }

    async fn account(self) -> Result<(), Error> {
        let place = self.connection.open().await?;
        let found: Option<Account> = place.desk.find(&place.namespace, &self.name).await?;
        let missing = || {
            Error::Missing(format!("ServiceAccount {}/{} of tokenry.dev does not exist", place.namespace, self.name))
        };
        let account = found.ok_or_else(missing)?;
        let tokens: Vec<ApiToken> = place.desk.list(Some(&place.namespace), None).await?;
        let acts = |token: &&ApiToken| {
            let bound = token.status.as_ref().and_then(|status| status.account.as_ref());
            bound.is_some_and(|bound| Some(&bound.uid) == account.metadata.uid.as_ref())
        };
        let names: Vec<_> = tokens.iter().filter(acts).map(ResourceExt::name_any).collect();
        remark(&match &names[..] {
            [] => "no token acts as this account".to_owned(),
            names => format!("these tokens act as it, and end with it: {}", names.join(", ")),
        });
        let description = account.spec.description.clone();
        let mirrored = account.status.as_ref().and_then(|status| status.policy.as_ref());
        let needs = mirrored.is_some_and(|policy| policy.confirm_delete);
        self.delete(&place, &account, description, needs).await
    }

    /// Deletes an object after its description, or else its name, was typed. `needs`: the Instance asks for the
    /// annotation that confirms the deletion.
    async fn delete<K: UserWritten>(
        &self,
        place: &Workplace,
        seen: &K,
        description: Option<String>,
        needs: bool,
    ) -> Result<(), Error> {
        let name = seen.name_any();
        let wanted = description.filter(|text| !text.is_empty()).unwrap_or_else(|| name.clone());
        match &self.confirm {
            Some(given) if *given == wanted => {}
            Some(_) => return Err(Error::Usage(format!("--confirm is not the description of {name}: {wanted:?}"))),
            None => typed(
                &format!("Deleting {name} is final. Type {wanted:?} without the quotes to delete it"),
                &wanted,
                "--confirm",
            )?,
        }
        let confirmed = match needs {
            true => {
                let changes = json!({"metadata": {"annotations": {CONFIRM_DELETE: wanted}}});
                Some(
                    place
                        .desk
                        .change(seen, changes, Intent::Do)
                        .await
                        .map_err(|refusal| Error::of_write(refusal, seen))?,
                )
            }
            false => None,
        };
        let deleted = place.desk.delete(confirmed.as_ref().unwrap_or(seen)).await;
        deleted.map_err(|refusal| Error::of_write(refusal, seen))?;
        remark(&format!("{name}: deleted"));
        Ok(())
    }
}
