//! Changes the spec of tokens.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::{each::each, needed, pick::Picked};
use crate::{
    cli::{Error, connection::Workplace, denial::Denial, lacking, screen::remark},
    crd::ApiToken,
    outside::{Refusal, desk::Intent},
};

/// Changes the spec of tokens, and says `done` of each one. With `dry_run`, the API server checks each change only.
pub(crate) async fn change(
    place: &Workplace,
    picked: Picked,
    spec: &Value,
    dry_run: bool,
    done: &str,
) -> Result<(), Error> {
    let (intent, said) = match dry_run {
        true => (Intent::Rehearse, "the API server accepts it; nothing was changed"),
        false => (Intent::Do, done),
    };
    let change = async |token: &ApiToken| {
        one(place, token, spec, intent).await?;
        remark(&format!("{}: {said}", token.name_any()));
        Ok(())
    };
    each(picked, change).await
}

/// Changes the spec of one token. A rehearsal lets the API server check the change, and changes nothing.
///
/// # Errors
/// The API server refused the change or did not answer. The text names all rights that are missing.
pub(super) async fn one(place: &Workplace, token: &ApiToken, spec: &Value, intent: Intent) -> Result<ApiToken, Error> {
    match place.desk.change(token, json!({ "spec": spec }), intent).await {
        Ok(changed) => Ok(changed),
        Err(refusal) => Err(refused(place, refusal, token, spec).await),
    }
}

/// A refused change of a token. The authorizer and admission policies may each ask for another right. The text then
/// names all of them.
async fn refused(place: &Workplace, refusal: Refusal, token: &ApiToken, spec: &Value) -> Error {
    let missing = needed::missing(place, token, spec, None);
    let missing = match Denial::of(&refusal) {
        Some(Denial::Right(..)) => missing.await.ok().filter(|missing| !missing.is_empty()),
        // The right on any organization of the token permits a revocation, so there is no other one.
        Some(Denial::Policy(_)) if spec["revoked"] == true => None,
        Some(Denial::Policy(text)) => needed::several(text, missing).await,
        Some(Denial::Other(_)) | None => None,
    };
    match missing {
        Some(missing) => lacking::lacks(place, "", &missing).await,
        None => Error::of_write(refusal, token),
    }
}
