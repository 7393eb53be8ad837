//! Changes the spec of tokens.

use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    cli::{Error, connection::Workplace, screen::remark},
    crd::ApiToken,
    outside::desk::Intent,
};

/// Changes the spec of tokens, and says `done` of each one. With `dry_run`, the API server checks each change only.
pub(crate) async fn change(
    place: &Workplace,
    tokens: &[ApiToken],
    spec: &Value,
    dry_run: bool,
    done: &str,
) -> Result<(), Error> {
    let (intent, said) = match dry_run {
        true => (Intent::Rehearse, "the API server accepts it; nothing was changed"),
        false => (Intent::Do, done),
    };
    for token in tokens {
        let changed = place.desk.change(token, json!({ "spec": spec }), intent).await;
        changed.map_err(|refusal| Error::of_write(refusal, token))?;
        remark(&format!("{}: {said}", token.name_any()));
    }
    Ok(())
}
