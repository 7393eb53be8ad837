//! The next step of the authorities and of the certificate. Pure.
//!
//! ```text
//! years    0            3⅓          4½    5
//! first    ├─ signs ─────┼───────────┤─────┤
//! second                 ├─ trusted ─┼─ signs ──────
//! bundle   first         both        both  second
//! ```
//!
//! A successor is in the bundle for more than a year before it signs. So a client that reads the bundle once a year
//! trusts each certificate.

use jiff::{SignedDuration, Timestamp};

use crate::outside::issuer::Period;

/// How long an authority is valid: five years.
pub(super) const AUTHORITY: SignedDuration = SignedDuration::from_hours(5 * 365 * 24);
/// How long a certificate is valid: 90 days.
pub(super) const CERTIFICATE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The rest of an authority's time in which it signs no more. It is longer than a certificate is valid.
const SIGNS_NO_MORE: SignedDuration = SignedDuration::from_hours(180 * 24);
/// How far back a new certificate is valid, for clients whose clock is slow.
const BACK: SignedDuration = SignedDuration::from_hours(1);

/// The periods of the authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Periods {
    /// The authority that signs.
    pub(super) signer: Period,
    /// The authority that signs next.
    pub(super) next: Option<Period>,
    /// The authority that signed before.
    pub(super) previous: Option<Period>,
}

/// A change of the authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Succession {
    /// Make a first authority again, because none is valid any more.
    Begin,
    /// Make the authority that signs next.
    Prepare,
    /// Let the next authority sign.
    Promote,
    /// Forget the authority that signed before.
    Forget,
}

/// The period of a new certificate that is valid for this long.
pub(super) fn from_now(now: Timestamp, long: SignedDuration) -> Period {
    let at = |span| now.saturating_add(span).unwrap_or(now);
    Period { from: at(-BACK), until: at(long) }
}

/// The first change that is due, if any.
pub(super) fn succession(Periods { signer, next, previous }: Periods, now: Timestamp) -> Option<Succession> {
    match next {
        Some(next) if now >= next.until && now >= signer.until => Some(Succession::Begin),
        None if now >= signer.until => Some(Succession::Begin),
        Some(_) if now >= before(signer.until, SIGNS_NO_MORE) => Some(Succession::Promote),
        None if now >= at_two_thirds(signer) => Some(Succession::Prepare),
        Some(_) | None => previous.filter(|previous| now >= previous.until).map(|_| Succession::Forget),
    }
}

/// True if the certificate with this period has to be renewed: two thirds of its time have passed. A certificate that
/// is not valid yet is renewed too, because the clock went back.
pub(super) fn is_due(certificate: Period, now: Timestamp) -> bool {
    now >= at_two_thirds(certificate) || now < certificate.from
}

fn at_two_thirds(Period { from, until }: Period) -> Timestamp {
    from.saturating_add(until.duration_since(from) / 3 * 2).unwrap_or(until)
}

fn before(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.saturating_sub(span).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn days(count: i32) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + DAY * count
    }

    fn period(from: i32, until: i32) -> Period {
        Period { from: days(from), until: days(until) }
    }

    #[test]
    fn authorities_succeed_each_other_with_an_overlap() {
        use Succession::{Begin, Forget, Prepare, Promote};
        let (first, second) = (period(0, 1800), period(1200, 3000));
        let of = |signer, next, previous| Periods { signer, next, previous };
        for (periods, day, due) in [
            (of(first, None, None), 0, None),
            (of(first, None, None), 1199, None),
            (of(first, None, None), 1200, Some(Prepare)),
            (of(first, Some(second), None), 1201, None),
            (of(first, Some(second), None), 1619, None),
            (of(first, Some(second), None), 1620, Some(Promote)),
            (of(second, None, Some(first)), 1621, None),
            (of(second, None, Some(first)), 1799, None),
            (of(second, None, Some(first)), 1800, Some(Forget)),
            // Nobody was there for years.
            (of(first, None, None), 1800, Some(Begin)),
            (of(first, Some(second), None), 1900, Some(Promote)),
            (of(first, Some(second), None), 3000, Some(Begin)),
        ] {
            assert_eq!(succession(periods, days(day)), due, "{periods:?} on day {day}");
        }
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_time() {
        for (day, due) in [(-1, true), (0, false), (59, false), (60, true), (90, true)] {
            assert_eq!(is_due(period(0, 90), days(day)), due, "day {day}");
        }
    }

    #[test]
    fn an_authority_outlives_each_certificate_that_it_signs() {
        let signer = from_now(days(0), AUTHORITY);
        let last = before(signer.until, SIGNS_NO_MORE);
        assert!(from_now(last, CERTIFICATE).until < signer.until);
        assert!(at_two_thirds(signer) < before(last, DAY * 365), "a successor is trusted for a year before it signs");
    }
}
