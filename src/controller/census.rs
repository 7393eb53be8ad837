//! How many tokens an object has: counted at every pass, said seldom. Many tokens may come together, and that costs no write
//! for each.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    crd::{ApiToken, account::TokenCount},
    token::{Records, duration::after},
};

/// A count is said at most so often.
const SELDOM: SignedDuration = SignedDuration::from_mins(1);

/// Counts tokens at `now`; a suspended account is not asked about.
pub fn count<'a>(tokens: impl IntoIterator<Item = &'a ApiToken>, now: Timestamp) -> TokenCount {
    let none = TokenCount { active: 0, total: 0, at: Time(now) };
    tokens.into_iter().fold(none, |count, token| TokenCount {
        active: count.active + i64::from(is_accepted(token, now)),
        total: count.total + 1,
        ..count
    })
}

/// Whether two counts say the same, whenever they were made.
pub fn agree(one: &TokenCount, other: &TokenCount) -> bool {
    (one.active, one.total) == (other.active, other.total)
}

fn is_accepted(token: &ApiToken, now: Timestamp) -> bool {
    let status = token.status.as_ref();
    let ended = token.spec.revoked || status.is_some_and(|status| status.revocation.is_some());
    let records = Records::at(status.map_or(&[], |status| &status.records), now);
    token.spec.active && !ended && token.metadata.deletion_timestamp.is_none() && records.valid().next().is_some()
}

/// What to say, and when to say what is fresher, if it differs: what was `said`, at its time, stands for a while.
pub fn seldom<T>(
    said: Option<(T, Timestamp)>,
    fresh: T,
    agree: impl Fn(&T, &T) -> bool,
    now: Timestamp,
) -> (T, Option<Timestamp>) {
    match said {
        Some((said, _)) if agree(&said, &fresh) => (said, None),
        Some((said, at)) if after(at, SELDOM) > now => (said, Some(after(at, SELDOM))),
        Some(_) | None => (fresh, None),
    }
}
