//! The names that a new token takes: those of its account and of its Secret.

use kube::ResourceExt;

use super::allowed::permitted;
use crate::{
    cli::{Error, connection::Workplace},
    crd::{Account, secret},
};

/// Succeeds if an account and a Secret of this name can be made for a new token, as far as the user may read them.
///
/// # Errors
/// One of them exists, and belongs to something else. The token could never have a value.
pub(super) async fn check(place: &Workplace, name: &str) -> Result<(), Error> {
    let home = &place.namespace;
    let refused = |taken: &str, way: &str| {
        let told =
            format!("nothing was created: {taken}, so create can make no token {name}; choose another name{way}");
        Err(Error::Refused(told))
    };
    let account: Option<Account> = permitted(place.desk.find(home, name).await)?;
    if account.is_some_and(|account| !is_made_for(&account, name)) {
        let taken = format!("ServiceAccount {home}/{name} of tokenry.dev exists and was not made for a token");
        return refused(&taken, "; a token acts as that account if its manifest names it in spec.serviceAccountRef");
    }
    match foreign_secret(place, name).await? {
        Some(kind) => refused(&format!("Secret {home}/{name} exists and is of type {kind:?}"), ""),
        None => Ok(()),
    }
}

/// True if the account was made for a token of this name. It goes with that token.
fn is_made_for(account: &Account, name: &str) -> bool {
    account.owner_references().iter().any(|owner| owner.kind == "ApiToken" && owner.name == name)
}

/// The type of the Secret of this name. `None`: it does not exist, or is that of a token, or the user may not read it.
///
/// # Errors
/// The API server does not answer.
pub(crate) async fn foreign_secret(place: &Workplace, name: &str) -> Result<Option<String>, Error> {
    let kind = permitted(place.desk.secret_type(&place.namespace, name).await)?;
    Ok(kind.filter(|kind| kind != secret::TYPE))
}
