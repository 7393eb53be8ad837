//! The gist of a token, and the number of tokens of an object. Each pass counts them, but the status changes seldom. So
//! many new tokens do not cost one write each.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::kind::Wake;
use crate::{
    crd::{
        ApiToken,
        account::TokenCount,
        api_token::ApiTokenStatus,
        condition::{READY, VALID},
    },
    outside::store::Gist,
    token::duration::after,
};

/// The shortest time between two changes of a count in status.
const SELDOM: SignedDuration = SignedDuration::from_mins(1);

/// The part of a token that counts and metrics need.
pub(crate) fn gist(token: &ApiToken) -> Gist {
    let used = token.status.iter().flat_map(|status| status.used());
    let time = |of: fn(&ApiTokenStatus) -> Option<&Time>| token.status.as_ref().and_then(of).map(|time| time.0);
    Gist {
        is_valid: is_true(token, VALID),
        is_ready: is_true(token, READY),
        expires_at: time(|status| status.expires_at.as_ref()),
        rotates_at: time(|status| status.rotates_at.as_ref()),
        used_at: used.map(|used| used.last_used_at.0).max(),
    }
}

/// Counts tokens at `now`. A token is active if its condition `Valid` is true, so counts and tokens agree.
pub(crate) fn count(tokens: impl IntoIterator<Item = Gist>, now: Timestamp) -> TokenCount {
    let none = TokenCount { active: 0, total: 0, at: Time(now) };
    tokens.into_iter().fold(none, |count, token| TokenCount {
        active: count.active + i64::from(token.is_valid),
        total: count.total + 1,
        ..count
    })
}

/// True if two counts have the same numbers. Their times do not matter.
pub(crate) fn agree(one: &TokenCount, other: &TokenCount) -> bool {
    (one.active, one.total) == (other.active, other.total)
}

/// True if a token has this condition, and it is true.
fn is_true(token: &ApiToken, condition: &str) -> bool {
    let mut said = token.status.iter().flat_map(|status| &status.conditions);
    said.any(|one| one.type_ == condition && one.status == "True")
}

/// The count for the status, and the wake-up for a fresher count. A count that was `said` is kept for a minute, even if
/// the `fresh` one differs. A count of zero is replaced at once, so the first token is counted at once.
pub(crate) fn seldom<T: AsRef<TokenCount>>(
    said: Option<T>,
    fresh: T,
    agree: impl Fn(&T, &T) -> bool,
    now: Timestamp,
) -> (T, Option<Wake>) {
    let Some(said) = said else { return (fresh, None) };
    let TokenCount { total, at, .. } = said.as_ref();
    let until = after(at.0, SELDOM);
    match agree(&said, &fresh) {
        true => (said, None),
        false if *total > 0 && until > now => (said, Some(Wake { at: until, why: "a fresh count of tokens" })),
        false => (fresh, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_token_counts_as_active_while_it_says_that_it_is_valid() {
        let token = |conditions: Value| -> ApiToken {
            let spec = json!({"instanceRef": {"name": "eem"}});
            let object =
                json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {}, "spec": spec});
            let mut token: ApiToken = serde_json::from_value(object).unwrap();
            token.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
            token
        };
        let says = |type_: &str, status: &str| {
            let at = "2026-01-01T00:00:00Z";
            token(json!([
                {"type": type_, "status": status, "reason": "Active", "message": "", "lastTransitionTime": at},
            ]))
        };
        let all = [says("Valid", "True"), says("Valid", "False"), says("Ready", "True"), token(json!([]))];
        let count = count(all.iter().map(gist), Timestamp::UNIX_EPOCH);
        assert_eq!((count.active, count.total), (1, 4));
    }

    #[test]
    fn the_last_use_of_all_generations_and_the_times_of_the_served_one_are_kept_for_counts_and_metrics() {
        let (june, july) = ("2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z");
        let used = |at: &str| json!({"generation": 1, "firstUsedAt": june, "lastUsedAt": at});
        let token: ApiToken = serde_json::from_value(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {},
            "spec": {"instanceRef": {"name": "eem"}}, "status": {"use": [used(july), used(june)], "expiresAt": july, "rotatesAt": june, "conditions": [
                {"type": "Ready", "status": "True", "reason": "Suspended", "message": "", "lastTransitionTime": june},
            ]},
        }))
        .unwrap();
        let time = |text: &str| Some(text.parse().unwrap());
        let wanted = Gist {
            is_valid: false,
            is_ready: true,
            expires_at: time(july),
            rotates_at: time(june),
            used_at: time(july),
        };
        assert_eq!(gist(&token), wanted);
    }

    #[test]
    fn a_count_is_said_with_the_first_token_and_then_seldom() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let of = |total, seconds| TokenCount { active: total, total, at: Time(at(seconds)) };
        let said = |before: Option<TokenCount>, fresh, seconds| {
            let (said, again) = seldom(before, of(fresh, seconds), agree, at(seconds));
            (said.total, again.map(|wake| wake.at))
        };
        assert_eq!(said(None, 0, 0), (0, None));
        assert_eq!(said(Some(of(0, 0)), 1, 5), (1, None), "at once for the first token");
        assert_eq!(said(Some(of(1, 5)), 2, 6), (1, Some(at(65))), "later");
        assert_eq!(said(Some(of(1, 5)), 2, 65), (2, None));
        assert_eq!(said(Some(of(1, 5)), 1, 6), (1, None), "nothing new");
    }
}
