//! Waits until the operator has done the wish of a user.

use std::time::Duration;

use kube::ResourceExt;

use super::view;
use crate::{
    cli::{Error, screen::Progress},
    crd::{ApiToken, condition},
    outside::Desk,
};

/// The state of a token, with respect to a wish.
pub(crate) enum WishState {
    /// The wish is done.
    Done,
    /// The operator is working, as this text says.
    Working(String),
    /// The token cannot make progress until somebody acts, as this text says.
    Stalled(String),
}

/// The state of a token for the wish that `is_done` tests. Only a status of the current spec counts.
pub(crate) fn look(token: &ApiToken, is_done: impl Fn(&ApiToken) -> bool) -> WishState {
    let is_current = |observed: Option<i64>| observed >= token.metadata.generation;
    if !token.status.as_ref().is_some_and(|status| is_current(status.observed_generation)) {
        return WishState::Working("the operator has not seen it yet; is it running?".into());
    }
    if is_done(token) {
        return WishState::Done;
    }
    let told = || view::ready(token).map_or_else(String::new, |ready| format!("{}: {}", ready.reason, ready.message));
    let is_stalled = view::condition(token, condition::STALLED).is_some_and(|stalled| stalled.status == "True");
    if is_stalled { WishState::Stalled(told()) } else { WishState::Working(told()) }
}

/// Waits until `is_done` holds for the token, and returns it. The progress is shown on standard error.
///
/// # Errors
/// The token cannot make progress, it was deleted, or `limit` is over.
pub(crate) async fn until(
    desk: &Desk,
    token: &ApiToken,
    limit: Duration,
    is_done: impl Fn(&ApiToken) -> bool,
) -> Result<ApiToken, Error> {
    let (namespace, name) = (token.namespace().unwrap_or_default(), token.name_any());
    let progress = Progress::of(&format!("{name}: waiting for the operator"));
    let mut last = String::from("the operator has not seen it yet; is it running?");
    let found = desk.until::<ApiToken, _>((&namespace, &name), limit, |seen| {
        let Some(seen) = seen.filter(|seen| seen.uid() == token.uid()) else {
            return Some(Err(Error::Missing(format!("ApiToken {namespace}/{name} was deleted meanwhile"))));
        };
        match look(seen, &is_done) {
            WishState::Done => Some(Ok(seen.clone())),
            WishState::Stalled(text) => Some(Err(Error::Pending(format!("{name}: {text}")))),
            WishState::Working(text) => {
                progress.now(&format!("{name}: {text}"));
                last = text;
                None
            }
        }
    });
    let found = found.await?;
    found.unwrap_or_else(|| Err(Error::Pending(format!("{name}: not done in time: {last}"))))
}
