//! Waits until the operator has done the wish of a user.

use std::time::Duration;

use kube::ResourceExt;

use super::view;
use crate::{
    cli::{Error, advice, screen::Progress},
    crd::{ApiToken, Reason, api_token::RevocationReason, condition},
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

/// The reason of `Ready` with which the operator makes no new value until somebody acts, and the next step.
const HALT: (Reason, &str) =
    (Reason::AccountSuspended, "set spec.active of that ServiceAccount of tokenry.dev to true");

/// The reason of a token that waits for its Instance. The operator may not have seen a new Instance yet.
const UNPLACED: (Reason, &str) = (Reason::InstanceMissing, "create that Instance again");

/// The cause for which the operator makes no new value of a token, and the next step. `None`: there is none.
pub(crate) fn halted(token: &ApiToken) -> Option<String> {
    if let Some(end) = ended(token) {
        return Some(end);
    }
    if !token.spec.active {
        let name = token.name_any();
        let resume = view::command("resume", token);
        return Some(format!("{name} is suspended, and gets a new value after `{resume}`"));
    }
    ready_for(token, &[HALT])
}

/// The cause for which a token is refused for ever, and the next step. `None`: it has not ended.
pub(crate) fn ended(token: &ApiToken) -> Option<String> {
    let another = advice::command("create NAME", &token.namespace().unwrap_or_default());
    end(token).map(|end| format!("{end}, and that is final; `{another}` makes a token of another name"))
}

/// The name of a token, and the cause for which it is refused for ever. `None`: it has not ended.
pub(crate) fn end(token: &ApiToken) -> Option<String> {
    let stated = token.status.as_ref().and_then(|status| status.revocation.as_ref()).map(|ended| ended.reason);
    let end = match stated {
        _ if token.metadata.deletion_timestamp.is_some() => "is being deleted",
        _ if token.spec.revoked => "is revoked",
        Some(RevocationReason::Manual | RevocationReason::Compromised) => "is revoked",
        Some(RevocationReason::AccountDeleted) => "ended with its account",
        Some(RevocationReason::OwnerRemoved) => "ended, as its owner was removed",
        Some(RevocationReason::Expired) => "ended, as its time is over (spec.expiry.at)",
        None => return None,
    };
    Some(format!("{} {end}", token.name_any()))
}

/// Like [`halted`], for a token that exists for a while: its Instance may be gone.
pub(crate) fn paused(token: &ApiToken) -> Option<String> {
    halted(token).or_else(|| ready_for(token, &[UNPLACED]))
}

/// The reason, message and next step of a token whose `Ready` has one of these reasons.
fn ready_for(token: &ApiToken, reasons: &[(Reason, &str)]) -> Option<String> {
    let ready = view::ready(token)?;
    let (_, next) = reasons.iter().find(|(reason, _)| reason.to_string() == ready.reason)?;
    Some(format!("{}: {}: {}; {next}", token.name_any(), ready.reason, ready.message))
}

/// The state of a token for the wish that `is_done` tests. Only a status of the current spec counts.
pub(crate) fn look(token: &ApiToken, is_done: impl Fn(&ApiToken) -> bool) -> WishState {
    if !view::is_current(token) {
        return WishState::Working("the operator has not seen it yet; is it running?".into());
    }
    if is_done(token) {
        return WishState::Done;
    }
    if let Some(why) = halted(token) {
        return WishState::Stalled(why);
    }
    let told = || view::ready(token).map_or_else(String::new, |ready| format!("{}: {}", ready.reason, ready.message));
    let is_stalled = view::condition(token, condition::STALLED).is_some_and(|stalled| stalled.status == "True");
    if is_stalled {
        WishState::Stalled(format!("{}: {}", token.name_any(), told()))
    } else {
        WishState::Working(told())
    }
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
            WishState::Stalled(text) => Some(Err(Error::Pending(text))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_token_that_can_get_a_new_value_is_not_halted() {
        let with = |reason: &str| -> ApiToken {
            let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken",
                "metadata": {"namespace": "n", "name": "ci"}, "spec": {"instanceRef": {"name": "eem"}},
                "status": {"conditions": [ready]}});
            serde_json::from_value(object).unwrap()
        };
        let told = |reason| (halted(&with(reason)).is_some(), paused(&with(reason)).is_some());
        assert_eq!(told("AccountSuspended"), (true, true));
        assert_eq!(told("InstanceMissing"), (false, true), "a new Instance may not be seen yet");
        assert_eq!(told("Expired"), (false, false), "a rotation makes a new value");
    }

    #[test]
    fn a_token_that_ended_says_why_and_that_nothing_brings_it_back() {
        let told = |metadata: Value, spec: Value, status: Value| {
            let mut object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken",
                "metadata": {"namespace": "n", "name": "ci"}, "spec": {"instanceRef": {"name": "eem"}}, "status": status});
            for (part, more) in [("metadata", metadata), ("spec", spec)] {
                object[part].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            }
            ended(&serde_json::from_value(object).unwrap())
        };
        let by = |reason: &str| {
            told(json!({}), json!({}), json!({"revocation": {"reason": reason, "at": "2027-01-01T00:00:00Z"}}))
        };
        assert_eq!(
            by("AccountDeleted").unwrap(),
            "ci ended with its account, and that is final; `kubectl tokenry create NAME -n n` makes a token of another name"
        );
        for (reason, said) in
            [("Manual", "is revoked"), ("OwnerRemoved", "its owner was removed"), ("Expired", "its time is over")]
        {
            assert!(by(reason).unwrap().contains(said), "{reason}");
        }
        let none = || json!({});
        assert!(told(none(), json!({"revoked": true}), none()).unwrap().contains("is revoked, and that is final"));
        assert!(
            told(json!({"deletionTimestamp": "2027-01-01T00:00:00Z"}), none(), none())
                .unwrap()
                .contains("is being deleted")
        );
        assert_eq!(told(none(), json!({"active": false}), none()), None);
    }
}
