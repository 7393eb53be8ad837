//! How many tokens an object has: counted at every pass, said seldom. Many tokens may come together, and that costs no
//! write for each.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::kind::Wake;
use crate::{
    crd::{ApiToken, account::TokenCount},
    token::{Records, duration::after},
};

/// A count is said at most so often.
const SELDOM: SignedDuration = SignedDuration::from_mins(1);

/// Counts tokens at `now`; a suspended account is not asked about.
pub(crate) fn count<'a>(tokens: impl IntoIterator<Item = &'a ApiToken>, now: Timestamp) -> TokenCount {
    let none = TokenCount { active: 0, total: 0, at: Time(now) };
    tokens.into_iter().fold(none, |count, token| TokenCount {
        active: count.active + i64::from(is_accepted(token, now)),
        total: count.total + 1,
        ..count
    })
}

/// Whether two counts say the same, whenever they were made.
pub(crate) fn agree(one: &TokenCount, other: &TokenCount) -> bool {
    (one.active, one.total) == (other.active, other.total)
}

fn is_accepted(token: &ApiToken, now: Timestamp) -> bool {
    let status = token.status.as_ref();
    let ended = token.spec.revoked || status.is_some_and(|status| status.revocation.is_some());
    let records = Records::at(status.map_or(&[], |status| &status.records), now);
    token.spec.active && !ended && token.metadata.deletion_timestamp.is_none() && records.valid().next().is_some()
}

/// What to say, and when to say what is fresher, if it differs: what was `said`, at its time, stands for a while. That
/// there are none stands only until there is one: the count is there with the first token.
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

    #[test]
    fn a_count_is_said_with_the_first_token_and_then_seldom() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let of = |total, seconds| TokenCount { active: total, total, at: Time(at(seconds)) };
        let said = |before: Option<TokenCount>, fresh, seconds| {
            let (said, again) = seldom(before, of(fresh, seconds), agree, at(seconds));
            (said.total, again.map(|wake| wake.at))
        };
        assert_eq!(said(None, 0, 0), (0, None));
        assert_eq!(said(Some(of(0, 0)), 1, 5), (1, None), "with the first");
        assert_eq!(said(Some(of(1, 5)), 2, 6), (1, Some(at(65))), "later");
        assert_eq!(said(Some(of(1, 5)), 2, 65), (2, None));
        assert_eq!(said(Some(of(1, 5)), 1, 6), (1, None), "nothing new");
    }
}
