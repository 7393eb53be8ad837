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
//! trusts each certificate. Years can be missing, because the operator did not run, or because the clock was set. Then
//! a successor is in the bundle for an hour before it signs.
//!
//! If the keys of an authority are lost, a new authority begins. Its predecessor stays in the bundle. The certificate
//! of the predecessor stays in use until its last week. Until then, clients have time to read the bundle.

use jiff::{SignedDuration, Timestamp};

use crate::outside::issuer::Period;

/// How long an authority is valid: five years.
pub(super) const AUTHORITY: SignedDuration = SignedDuration::from_hours(5 * 365 * 24);
/// How long a certificate is valid: 90 days.
const CERTIFICATE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The rest of an authority's time in which it signs no more. It is longer than a certificate is valid.
const SIGNS_NO_MORE: SignedDuration = SignedDuration::from_hours(180 * 24);
/// How far back a new certificate is valid, for clients whose clock is slow.
const BACK: SignedDuration = SignedDuration::from_hours(1);
/// How long a successor is in the bundle before it signs, at least. In this time the kubelets mount the bundle, and
/// Traefik gets it in each namespace.
const TRUSTED_FIRST: SignedDuration = SignedDuration::from_hours(1);
/// An authority of this age or younger lets the certificate of another authority run out.
const YOUNG: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The rest of a certificate's time in which a young authority renews it.
const LAST_WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The periods of the authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Periods {
    /// The authority that signs.
    pub(super) signer: Period,
    /// The authority that signs next.
    pub(super) next: Option<Successor>,
    /// The authority that signed before.
    pub(super) previous: Option<Period>,
}

/// An authority that signs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Successor {
    /// Its period.
    pub(super) period: Period,
    /// True if the ConfigMap has its certificate.
    pub(super) is_published: bool,
}

/// A change of the authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Succession {
    /// Make the authority that signs next.
    Prepare,
    /// Let the next authority sign.
    Promote,
    /// Forget the authority that signed before.
    Forget,
}

/// The fate of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The certificate stays.
    Keep,
    /// The authority signs a new one.
    Sign {
        /// True if there is none that clients accept.
        is_unfit: bool,
    },
    /// There is none that clients accept, and the authority is not valid now, so clients would not accept a new one.
    Wait,
}

/// The period of a new authority.
pub(super) fn of_authority(now: Timestamp) -> Period {
    Period { from: before(now, BACK), until: after(now, AUTHORITY) }
}

/// The period of a new certificate. It does not outlive its authority.
pub(super) fn of_certificate(signer: Period, now: Timestamp) -> Period {
    Period { from: before(now, BACK), until: after(now, CERTIFICATE).min(signer.until) }
}

/// The first change that is due, if any. An authority that is not valid yet, because the clock went back, is replaced
/// like one that ended.
pub(super) fn succession(Periods { signer, next, previous }: Periods, now: Timestamp) -> Option<Succession> {
    let is_leaving = !signer.contains(now) || now >= before(signer.until, SIGNS_NO_MORE);
    let is_aging = is_leaving || now >= at_two_thirds(signer);
    // A successor of nearly the same age is of no use, unless clients know it and need it now.
    let is_fit = |next: Period| next.contains(now) && (is_leaving || now < at_two_thirds(next));
    match next.filter(|next| is_fit(next.period)) {
        None if is_aging => Some(Succession::Prepare),
        Some(next) if is_leaving && next.is_published && now >= signs_from(next.period) => Some(Succession::Promote),
        Some(_) | None => previous.filter(|previous| now >= previous.until).map(|_| Succession::Forget),
    }
}

/// The first instant at which a successor with this period may sign.
fn signs_from(next: Period) -> Timestamp {
    after(made(next), TRUSTED_FIRST)
}

/// The fate of the certificate with the period `accepted`. `None`: clients that trust the bundle accept no certificate.
pub(super) fn renewal(accepted: Option<Period>, signer: Period, now: Timestamp) -> Renewal {
    let Some(leaf) = accepted else {
        return if signer.contains(now) { Renewal::Sign { is_unfit: true } } else { Renewal::Wait };
    };
    let is_young = now < after(made(signer), YOUNG);
    // The last week, or the last third of a certificate that is valid for a short time.
    let last = before(leaf.until, LAST_WEEK).max(at_two_thirds(leaf));
    let from = if is_young { last } else { at_two_thirds(leaf) };
    // A successor that ends at the same instant is not worth signing.
    let is_longer = of_certificate(signer, now).until > leaf.until;
    if now >= from && signer.contains(now) && is_longer { Renewal::Sign { is_unfit: false } } else { Renewal::Keep }
}

/// The instant at which a certificate with this period was made.
fn made(period: Period) -> Timestamp {
    after(period.from, BACK)
}

fn at_two_thirds(Period { from, until }: Period) -> Timestamp {
    after(from, until.duration_since(from) / 3 * 2)
}

fn after(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.saturating_add(span).unwrap_or(at)
}

fn before(at: Timestamp, span: SignedDuration) -> Timestamp {
    after(at, -span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);
    const DUE: Renewal = Renewal::Sign { is_unfit: false };
    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn days(count: i32) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + DAY * count
    }

    fn period(from: i32, until: i32) -> Period {
        Period { from: days(from), until: days(until) }
    }

    /// A successor that the ConfigMap has.
    fn published(from: i32, until: i32) -> Option<Successor> {
        Some(Successor { period: period(from, until), is_published: true })
    }

    #[test]
    fn authorities_succeed_each_other_with_an_overlap() {
        use Succession::{Forget, Prepare, Promote};
        let (first, second) = (period(0, 1800), period(1200, 3000));
        let known = published(1200, 3000);
        let of = |signer, next, previous| Periods { signer, next, previous };
        for (periods, day, due) in [
            (of(first, None, None), 0, None),
            (of(first, None, None), 1199, None),
            (of(first, None, None), 1200, Some(Prepare)),
            (of(first, known, None), 1201, None),
            (of(first, known, None), 1619, None),
            (of(first, known, None), 1620, Some(Promote)),
            (of(second, None, Some(first)), 1621, None),
            (of(second, None, Some(first)), 1799, None),
            (of(second, None, Some(first)), 1800, Some(Forget)),
            // Nobody was there for years.
            (of(first, None, None), 1800, Some(Prepare)),
            (of(first, known, None), 1900, Some(Promote)),
            (of(first, known, None), 2990, Some(Promote)),
            (of(first, known, None), 3000, Some(Prepare)),
        ] {
            assert_eq!(succession(periods, days(day)), due, "{periods:?} on day {day}");
        }
    }

    #[test]
    fn a_successor_signs_only_after_clients_could_read_it_even_if_years_were_missed() {
        let signer = of_authority(days(0));
        for day in [1650, 1825, 4000] {
            let now = days(day);
            assert_eq!(succession(Periods { signer, next: None, previous: None }, now), Some(Succession::Prepare));
            let of = |is_published| {
                let next = Some(Successor { period: of_authority(now), is_published });
                Periods { signer, next, previous: None }
            };
            assert_eq!(succession(of(true), now), None, "not in the same pass");
            assert_eq!(succession(of(true), now + HOUR - SignedDuration::from_secs(1)), None);
            assert_eq!(succession(of(true), now + HOUR), Some(Succession::Promote));
            assert_eq!(succession(of(false), now + HOUR), None, "nobody could read it");
        }
    }

    #[test]
    fn an_authority_that_is_not_valid_yet_gets_a_successor_and_is_spared_if_the_clock_was_wrong_for_a_moment() {
        // The clock went back by ten days.
        let (signer, now) = (of_authority(days(10)), days(0));
        let none = Periods { signer, next: None, previous: None };
        assert_eq!(succession(none, now), Some(Succession::Prepare));
        let next = Some(Successor { period: of_authority(now), is_published: true });
        let prepared = Periods { signer, next, previous: None };
        assert_eq!(succession(prepared, now), None);
        assert_eq!(succession(prepared, days(10)), None, "the clock is right again");
        assert_eq!(succession(prepared, now + HOUR), Some(Succession::Promote));
        // The successor is as old as the signer, so it is replaced before it is needed.
        assert_eq!(succession(prepared, days(1230)), Some(Succession::Prepare));
        // A successor that is not valid yet does not sign.
        let next = Some(Successor { period: of_authority(days(5000)), is_published: true });
        let of_future = Periods { signer: period(0, 1800), next, previous: None };
        assert_eq!(succession(of_future, days(1700)), Some(Succession::Prepare));
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_time() {
        let signer = period(-400, 1400);
        for (day, due) in [(0, Renewal::Keep), (59, Renewal::Keep), (60, DUE), (89, DUE)] {
            assert_eq!(renewal(Some(period(0, 90)), signer, days(day)), due, "day {day}");
        }
        assert_eq!(renewal(None, signer, days(0)), Renewal::Sign { is_unfit: true });
    }

    #[test]
    fn a_young_authority_lets_the_certificate_of_another_run_into_its_last_week() {
        let leaf = Some(period(0, 90));
        for (made, day, due) in [
            (20, 70, DUE),
            (50, 60, Renewal::Keep),
            (50, 79, Renewal::Keep),
            (50, 80, DUE),
            (75, 82, Renewal::Keep),
            (75, 83, DUE),
            (89, 89, DUE),
        ] {
            assert_eq!(renewal(leaf, of_authority(days(made)), days(day)), due, "made on day {made}, on day {day}");
        }
        // Clients do not accept the certificate, so there is nothing to wait for.
        assert_eq!(renewal(None, of_authority(days(50)), days(50)), Renewal::Sign { is_unfit: true });
        let short = Period { from: days(0), until: days(0) + HOUR * 3 };
        assert_eq!(renewal(Some(short), of_authority(days(0)), days(0) + HOUR), Renewal::Keep);
        assert_eq!(renewal(Some(short), of_authority(days(0)), days(0) + HOUR * 2), DUE);
    }

    #[test]
    fn an_authority_that_is_not_valid_now_signs_nothing() {
        for signer in [period(10, 1800), period(-1800, 0)] {
            assert_eq!(renewal(None, signer, days(0)), Renewal::Wait, "{signer:?}");
            assert_eq!(renewal(Some(period(-60, 30)), signer, days(0)), Renewal::Keep, "{signer:?}");
        }
    }

    #[test]
    fn a_certificate_does_not_outlive_its_authority_and_is_not_signed_again_for_nothing() {
        let signer = period(0, 1800);
        let short = of_certificate(signer, days(1770));
        assert_eq!(short, Period { from: days(1770) - HOUR, until: days(1800) });
        assert_eq!(renewal(Some(short), signer, days(1799)), Renewal::Keep);
    }

    #[test]
    fn an_authority_outlives_each_certificate_that_it_signs() {
        let signer = of_authority(days(0));
        let last = before(signer.until, SIGNS_NO_MORE);
        assert_eq!(of_certificate(signer, last).until, last + CERTIFICATE);
        assert!(at_two_thirds(signer) < before(last, DAY * 365), "a successor is trusted for a year before it signs");
    }
}
