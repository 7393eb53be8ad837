//! The time at which the served generation is replaced.

use jiff::{SignedDuration, Timestamp};

use super::{
    Digest, Record, Records, Schedule, Terms,
    calendar::{MISSES, opening, reference},
    duration,
    jitter::{jitter, most},
    terms::third,
};

/// The longest jitter after a moment of a calendar. A time of day in a schedule means that the user expects a rotation
/// soon after it.
const LATE: SignedDuration = SignedDuration::from_mins(5);
/// The number of rotations in a row that may miss every window before the windows count as a mistake.
const ROTATIONS: usize = 50;

/// The time at which the next generation is due.
///
/// `None` if no generation is served, or if the schedule is `Never`. Also `None` if the whole token ends before the
/// next generation. If the served generation lasts until the whole token ends, only a schedule by `Every` or `Cron`
/// replaces it.
///
/// The schedule may come too late, because the served generation was minted under other terms or published late. The
/// next generation is then due when a third of the lifetime is left. So no generation expires before its replacement is
/// due.
///
/// If the token asks for an overlap, the next generation is due early enough for the full overlap. A default overlap
/// never moves a schedule.
///
/// A rotation waits until no superseded generation is in its overlap. It does not wait if the served generation would
/// expire first, because the token must never be without a valid value.
///
/// A rotation also waits for a window, until only an overlap is left before the expiry. If a window has passed before
/// `now` without a rotation, the rotation waits for the next window.
pub fn rotates_at(records: &Records, terms: &Terms, uid: &str, now: Timestamp) -> Option<Timestamp> {
    let served = records.served()?;
    let due = wanted(served, terms, uid)?;
    let due = free_from(records).map_or(due, |free| due.max(free));
    let at = welcome(due, terms, served, uid, now);
    terms.until.is_none_or(|until| at < until).then_some(at)
}

/// The time from which a token expires soon, if nothing renews the served generation. It is the start of the last third
/// of the lifetime, but at most two weeks before the expiry. `None`: the generation never expires.
pub fn expires_soon_from(served: &Record) -> Option<Timestamp> {
    const NOTICE: SignedDuration = SignedDuration::from_hours(14 * 24);
    Some(served.end()? - third(served.lifetime()?).min(NOTICE))
}

fn wanted(served: &Record, terms: &Terms, uid: &str) -> Option<Timestamp> {
    let in_time = |due: &Timestamp| served.is_valid(*due);
    let by_expiry = matches!(terms.schedule, Schedule::BeforeExpiry(_) | Schedule::LastThird);
    // A successor would end at the same instant, so it is not worth minting.
    let last = terms.until.is_some_and(|until| served.end().is_some_and(|end| until <= end));
    match (&terms.schedule, last) {
        (Schedule::Never, _) => None,
        (_, true) => due(served, &terms.schedule, uid).filter(in_time).filter(|_| !by_expiry),
        (schedule, false) => {
            let due = due(served, schedule, uid).filter(in_time).or_else(|| due(served, &Schedule::LastThird, uid))?;
            Some(latest(served, terms, uid).map_or(due, |latest| latest.min(due)))
        }
    }
}

/// The latest time for the next generation that leaves a full overlap before the served one expires. `None` if the
/// token asks for no overlap, or if the served generation never expires.
fn latest(served: &Record, terms: &Terms, uid: &str) -> Option<Timestamp> {
    let interval = served.lifetime().filter(|_| terms.asks_overlap)? - terms.overlap;
    let spread = match terms.schedule {
        // A time of day in a schedule means that the user does not want a rotation before it.
        Schedule::Cron(_) => SignedDuration::ZERO,
        Schedule::Every(_) | Schedule::BeforeExpiry(_) | Schedule::LastThird | Schedule::Never => {
            most(interval.max(SignedDuration::ZERO))
        }
    };
    Some(duration::after(served.created_at.0, interval - jitter(uid, served.generation, spread)))
}

/// The end of the overlap that the next generation waits for. `None` if it waits for no overlap.
pub fn free_from(records: &Records) -> Option<Timestamp> {
    let served = records.served()?;
    records.overlap_ends().filter(|&ends| served.is_valid(ends))
}

fn due(served: &Record, schedule: &Schedule, uid: &str) -> Option<Timestamp> {
    let published = served.published_at.as_ref().unwrap_or(&served.created_at).0;
    let start = match schedule {
        Schedule::Every(_) => published,
        Schedule::Cron(calendar) => {
            let late = jitter(uid, served.generation, most(calendar.interval()).min(LATE));
            return Some(duration::after(calendar.next(published)?, late));
        }
        Schedule::BeforeExpiry(_) | Schedule::LastThird | Schedule::Never => served.created_at.0,
    };
    let interval = schedule.interval(served.lifetime())?;
    Some(duration::after(start, interval - jitter(uid, served.generation, most(interval))))
}

/// The time at which a due rotation takes place: in the first window that is not over. The rotation waits no longer
/// than until only an overlap is left before the expiry. Tokens that wait for the same window spread over its first
/// half.
fn welcome(due: Timestamp, terms: &Terms, served: &Record, uid: &str, now: Timestamp) -> Timestamp {
    let latest = served.end().map(|end| due.max(end - terms.overlap));
    let (mut at, mut misses) = (due, MISSES);
    loop {
        let Some(opening) = opening(&terms.windows, at, &mut misses) else { return due };
        if let Some(latest) = latest.filter(|&latest| opening.from > latest) {
            return latest;
        }
        if now < opening.until {
            let half = opening.until.duration_since(opening.from) / 2;
            let late = if opening.from > due { jitter(uid, served.generation, half) } else { SignedDuration::ZERO };
            return latest.map_or(opening.from + late, |latest| latest.min(opening.from + late));
        }
        at = opening.until;
    }
}

/// True if some rotation of the token meets a window. The answer does not depend on the current time.
///
/// If windows of several groups meet so rarely that the search takes too long, the answer is true. This is safe,
/// because no rotation waits for a window beyond the expiry.
pub fn meets_windows(terms: &Terms) -> bool {
    if terms.windows.is_empty() || terms.schedule.interval(terms.lifetime).is_none() {
        return true;
    }
    let mut at = reference();
    if opening(&terms.windows, at, &mut { MISSES }).is_none() {
        return false;
    }
    let mut misses = MISSES;
    // The end of the whole token is ignored, so that the answer does not depend on the current time.
    let terms = &Terms { until: None, ..terms.clone() };
    let meets = (0..ROTATIONS).any(|_| {
        let issued = Record::new(0, String::new(), Digest::of(""), at, terms.lifetime);
        let Some(due) = wanted(&issued, terms, "") else { return false };
        // The same window as in `welcome`, asked at the instant of the rotation.
        let Some(opening) = opening(&terms.windows, due, &mut misses) else { return misses == 0 };
        let latest = issued.end().map(|end| due.max(end - terms.overlap));
        at = latest.map_or(opening.from, |latest| latest.min(opening.from));
        at == opening.from
    });
    meets || misses == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Calendar, Window};

    const UID: &str = "0e4f";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn secs(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    fn terms(schedule: Schedule) -> Terms {
        Terms {
            prefix: "t".into(),
            lifetime: Some(secs(15)),
            until: None,
            schedule,
            overlap: secs(3),
            asks_overlap: true,
            windows: vec![],
        }
    }

    /// Generations of 15 seconds. Intervals below 20 seconds have no jitter, so these tests can name instants.
    fn served(generations: i64, overlap: i64) -> Records {
        let mut records = Records::default();
        for generation in 1..=generations {
            let record = Record::new(generation, String::new(), Digest::of(""), at(generation), secs(15));
            records.record(record, at(generation));
            records.publish(generation, at(generation), secs(overlap));
        }
        records
    }

    #[test]
    fn every_counts_from_the_publish() {
        assert_eq!(rotates_at(&served(1, 3), &terms(Schedule::Every(secs(10))), UID, at(0)), Some(at(11)));
    }

    #[test]
    fn before_expiry_counts_back_from_the_end() {
        assert_eq!(rotates_at(&served(1, 3), &terms(Schedule::BeforeExpiry(secs(5))), UID, at(0)), Some(at(11)));
    }

    #[test]
    fn left_out_it_is_due_when_a_third_of_the_lifetime_is_left() {
        assert_eq!(rotates_at(&served(1, 3), &terms(Schedule::LastThird), UID, at(0)), Some(at(11)));
    }

    #[test]
    fn nothing_is_due_while_nothing_is_served() {
        assert_eq!(rotates_at(&Records::default(), &terms(Schedule::LastThird), UID, at(0)), None);
    }

    #[test]
    fn a_running_overlap_is_waited_for() {
        let records = served(2, 12);
        assert_eq!(records.overlap_ends(), Some(at(14)));
        assert_eq!(rotates_at(&records, &terms(Schedule::Every(secs(5))), UID, at(0)), Some(at(14)));
    }

    #[test]
    fn an_overlap_that_outlives_the_served_generation_is_not_waited_for() {
        let mut records = Records::default();
        records.record(Record::new(1, String::new(), Digest::of(""), at(0), secs(1000)), at(0));
        records.publish(1, at(0), secs(0));
        records.record(Record::new(2, String::new(), Digest::of(""), at(1), secs(15)), at(1));
        records.publish(2, at(1), secs(500));
        assert_eq!(rotates_at(&records, &terms(Schedule::Every(secs(5))), UID, at(0)), Some(at(6)));
    }

    #[test]
    fn a_schedule_that_would_come_too_late_gives_way_to_the_last_third() {
        let every = |late| rotates_at(&served(1, 3), &terms(Schedule::Every(secs(late))), UID, at(0));
        assert_eq!(every(11), Some(at(12)));
        assert_eq!(every(14), Some(at(13)), "the overlap of 3 s has to be given");
        for late in [15, 19, 1_000] {
            assert_eq!(
                rotates_at(&served(1, 3), &terms(Schedule::Every(secs(late))), UID, at(0)),
                Some(at(11)),
                "{late}"
            );
        }
    }

    #[test]
    fn a_rotation_is_due_at_the_latest_an_overlap_before_the_expiry() {
        let before = |rest, overlap| {
            let terms = Terms { overlap: secs(overlap), ..terms(Schedule::BeforeExpiry(secs(rest))) };
            rotates_at(&served(1, 3), &terms, UID, at(0))
        };
        assert_eq!(before(5, 3), Some(at(11)));
        assert_eq!(before(1, 7), Some(at(9)));
        assert_eq!(before(1, 1), Some(at(15)));
    }

    #[test]
    fn nothing_renews_what_never_ends_but_a_schedule_of_its_own() {
        let mut records = Records::default();
        records.record(Record::new(1, String::new(), Digest::of(""), at(0), None), at(0));
        records.publish(1, at(0), secs(0));
        let rotates = |schedule| rotates_at(&records, &Terms { lifetime: None, ..terms(schedule) }, UID, at(0));
        assert_eq!(rotates(Schedule::LastThird), None);
        assert_eq!(rotates(Schedule::BeforeExpiry(secs(5))), None);
        assert_eq!(rotates(Schedule::Never), None);
        assert_eq!(rotates(Schedule::Every(secs(10))), Some(at(10)));
        assert_eq!(rotates_at(&served(1, 3), &terms(Schedule::Never), UID, at(0)), None);
    }

    #[test]
    fn what_lasts_until_the_token_ends_is_renewed_only_by_a_schedule_of_its_own() {
        let rotates = |schedule, until| {
            rotates_at(&served(1, 3), &Terms { until: Some(at(until)), ..terms(schedule) }, UID, at(0))
        };
        assert_eq!(rotates(Schedule::LastThird, 16), None);
        assert_eq!(rotates(Schedule::BeforeExpiry(secs(5)), 16), None);
        assert_eq!(rotates(Schedule::LastThird, 17), Some(at(11)));
        assert_eq!(rotates(Schedule::Every(secs(10)), 16), Some(at(11)));
        assert_eq!(rotates(Schedule::Every(secs(15)), 16), None, "the rotation would only be due at the expiry");
        assert_eq!(rotates(Schedule::Every(secs(10)), 11), None, "the token ends first");
    }

    #[test]
    fn it_expires_soon_in_its_last_third_and_at_most_two_weeks_before() {
        let of = |lifetime: i64| {
            let record = Record::new(1, String::new(), Digest::of(""), at(0), secs(lifetime));
            expires_soon_from(&record).unwrap().duration_since(at(0)).as_secs()
        };
        assert_eq!((of(15), of(30 * 86_400), of(365 * 86_400)), (10, 20 * 86_400, 351 * 86_400));
    }

    #[test]
    fn a_generation_that_was_published_late_is_replaced_before_it_runs_out() {
        let mut records = Records::default();
        records.record(Record::new(1, String::new(), Digest::of(""), at(0), secs(15)), at(0));
        records.publish(1, at(6), secs(0));
        assert_eq!(rotates_at(&records, &terms(Schedule::Every(secs(10))), UID, at(0)), Some(at(10)));
    }

    #[test]
    fn jitter_only_ever_brings_a_rotation_forward() {
        let mut records = Records::default();
        records.record(Record::new(1, String::new(), Digest::of(""), at(0), secs(90_000)), at(0));
        records.publish(1, at(0), secs(0));
        let due = rotates_at(&records, &terms(Schedule::Every(secs(80_000))), UID, at(0)).unwrap();
        assert!(due <= at(80_000) && due > at(76_000), "{due}");
    }

    fn utc(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn calendar(cron: &str) -> Calendar {
        Calendar::parse(cron, Some("Europe/Berlin")).unwrap()
    }

    /// A generation of 90 days that was published at `published`.
    fn long(published: &str) -> Records {
        let mut records = Records::default();
        let (at, lifetime) = (utc(published), SignedDuration::from_hours(90 * 24));
        records.record(Record::new(1, String::new(), Digest::of(""), at, lifetime), at);
        records.publish(1, at, secs(0));
        records
    }

    fn long_terms(schedule: Schedule, windows: &[(&str, i64)]) -> Terms {
        let hours = SignedDuration::from_hours;
        let window = |&(cron, duration): &(&str, i64)| Window { opens: calendar(cron), duration: hours(duration) };
        let windows = Vec::from_iter((!windows.is_empty()).then(|| windows.iter().map(window).collect()));
        Terms {
            prefix: "t".into(),
            lifetime: Some(hours(90 * 24)),
            until: None,
            schedule,
            overlap: hours(24),
            asks_overlap: true,
            windows,
        }
    }

    fn rotates(records: &Records, terms: &Terms, now: &str) -> Timestamp {
        rotates_at(records, terms, UID, utc(now)).unwrap()
    }

    #[test]
    fn a_calendar_counts_from_the_publish_and_comes_up_to_five_minutes_late() {
        let terms = long_terms(Schedule::Cron(calendar("0 3 * * SUN")), &[]);
        let published = "2026-10-22T12:00:00Z";
        let due = rotates(&long(published), &terms, published);
        assert!(due >= utc("2026-10-25T02:00:00Z") && due < utc("2026-10-25T02:05:00Z"), "{due}");
        // A generation that was published late is also due one week after the moment.
        let next = rotates(&long("2026-10-25T02:04:00Z"), &terms, published);
        assert!(next >= utc("2026-11-01T02:00:00Z") && next < utc("2026-11-01T02:05:00Z"), "{next}");
    }

    #[test]
    fn a_calendar_comes_at_its_moment_whatever_the_overlap_and_never_before() {
        let days = |days: i64| SignedDuration::from_hours(days * 24);
        for (cron, lifetime, week) in [("0 3 * * SUN", days(8), 7), ("0 3 * * *", SignedDuration::from_hours(36), 1)] {
            for asks_overlap in [false, true] {
                for generation in 1..40 {
                    let terms = Terms {
                        lifetime: Some(lifetime),
                        overlap: lifetime - days(week),
                        asks_overlap,
                        ..long_terms(Schedule::Cron(calendar(cron)), &[])
                    };
                    let (mut records, moment) = (Records::default(), utc("2026-10-04T01:00:00Z"));
                    let published = duration::after(moment, secs(90));
                    records
                        .record(Record::new(generation, String::new(), Digest::of(""), published, lifetime), published);
                    records.publish(generation, published, secs(0));
                    let next = duration::after(moment, days(week));
                    let due = rotates_at(&records, &terms, UID, published).unwrap();
                    assert!(
                        due >= next && due < duration::after(next, LATE),
                        "{cron} {asks_overlap} {generation}: {due}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_moment_that_nobody_rotated_at_is_made_up_for_once() {
        let terms = long_terms(Schedule::Cron(calendar("0 3 * * *")), &[]);
        let records = long("2026-10-22T12:00:00Z");
        assert!(rotates(&records, &terms, "2026-10-30T12:00:00Z") < utc("2026-10-24T00:00:00Z"), "it is overdue");
        let made_up = long("2026-10-30T12:00:00Z");
        assert!(rotates(&made_up, &terms, "2026-10-30T12:00:00Z") > utc("2026-10-31T01:59:00Z"));
    }

    #[test]
    fn a_clock_that_jumps_back_rotates_nothing_twice() {
        let terms = long_terms(Schedule::Cron(calendar("0 3 * * *")), &[]);
        let records = long("2026-10-24T01:04:00Z");
        let due = rotates(&records, &terms, "2026-10-24T00:30:00Z");
        assert!(due >= utc("2026-10-25T02:00:00Z"), "{due}");
    }

    #[test]
    fn a_rotation_that_is_due_waits_for_a_window_and_comes_in_its_first_half() {
        let terms = long_terms(Schedule::LastThird, &[("0 3 * * SUN", 4)]);
        let records = long("2026-01-01T00:00:00Z");
        let windowless = rotates(&records, &long_terms(Schedule::LastThird, &[]), "2026-01-01T00:00:00Z");
        let due = rotates(&records, &terms, "2026-01-01T00:00:00Z");
        let opens = calendar("0 3 * * SUN").next(windowless).unwrap();
        assert!(due >= opens && due < opens + SignedDuration::from_hours(2), "{windowless} {due}");
    }

    #[test]
    fn in_an_open_window_it_waits_no_longer() {
        let terms = long_terms(Schedule::LastThird, &[("0 0 * * *", 24)]);
        let records = long("2026-01-01T00:00:00Z");
        let windowless = long_terms(Schedule::LastThird, &[]);
        let now = "2026-01-01T00:00:00Z";
        assert_eq!(rotates(&records, &terms, now), rotates(&records, &windowless, now));
    }

    #[test]
    fn a_window_that_was_missed_is_followed_by_the_next() {
        let terms = long_terms(Schedule::LastThird, &[("0 3 * * SUN", 4)]);
        let records = long("2026-01-01T00:00:00Z");
        let first = rotates(&records, &terms, "2026-01-01T00:00:00Z");
        let within = first + SignedDuration::from_hours(1);
        assert_eq!(rotates_at(&records, &terms, UID, within), Some(first), "the window is open still");
        let over = first + SignedDuration::from_hours(24);
        let next = rotates_at(&records, &terms, UID, over).unwrap();
        assert_eq!(next.duration_since(first), SignedDuration::from_hours(7 * 24));
    }

    #[test]
    fn no_window_is_waited_for_beyond_the_last_overlap() {
        // The window opens once a year, and not before the expiry.
        let terms = long_terms(Schedule::LastThird, &[("0 3 31 12 *", 4)]);
        let records = long("2026-01-01T00:00:00Z");
        let latest = records.served().unwrap().end().unwrap() - terms.overlap;
        assert_eq!(rotates(&records, &terms, "2026-01-01T00:00:00Z"), latest);
        assert_eq!(rotates(&records, &terms, "2026-03-31T12:00:00Z"), latest);
    }

    #[test]
    fn tokens_that_wait_for_one_window_spread_over_its_first_half() {
        let terms = long_terms(Schedule::LastThird, &[("0 3 * * SUN", 4)]);
        // The tokens are due from Tuesday to Friday.
        let (records, now) = (long("2026-01-05T00:00:00Z"), utc("2026-01-05T00:00:00Z"));
        let mut minutes = [0u32; 8];
        for token in 0..2_000 {
            let at = rotates_at(&records, &terms, &format!("uid-{token}"), now).unwrap();
            let opened = calendar("0 3 * * SUN").next(at - SignedDuration::from_hours(4)).unwrap();
            minutes[(at.duration_since(opened).as_mins() / 15) as usize] += 1;
        }
        assert!(minutes.iter().all(|&count| (150..350).contains(&count)), "{minutes:?}");
    }
}
