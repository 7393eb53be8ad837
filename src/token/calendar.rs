//! Moments by cron in a time zone, and rotation windows that open at such moments.

use std::sync::{Arc, OnceLock};

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

/// The time zone of a calendar that names none.
const DEFAULT_ZONE: &str = "UTC";
/// The sample for the shortest interval of a calendar: at most this many moments, within this time.
const SAMPLE: (usize, SignedDuration) = (32, SignedDuration::from_hours(400 * 24));
/// The number of times that windows of several groups may miss each other before the search ends. Daily windows in two
/// time zones may meet only in summer or only in winter. The number covers every day of such a season.
pub const MISSES: usize = 256;

/// Moments by cron (five fields, as in crontab(5)) in a time zone.
///
/// A calendar follows local time. If clocks go forward and skip a time of day, the moment comes later by the same
/// amount. If clocks go back and repeat a time of day, only the first one counts. So a daily moment occurs once on
/// every day of the year.
#[derive(Clone, Debug)]
pub struct Calendar {
    cron: String,
    zone: String,
    // The cron expression without a time zone. It finds times of day.
    times: Arc<Crontab>,
    place: TimeZone,
    shortest: Arc<OnceLock<SignedDuration>>,
}

/// The fixed instant from which the properties of a calendar are computed. The four years after it have a leap day.
pub fn reference() -> Timestamp {
    const START_OF_2024: i64 = 1_704_067_200;
    Timestamp::from_second(START_OF_2024).expect("it is an instant")
}

/// A fault of a calendar. The text says how to correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalendarError {
    /// The cron expression.
    Cron(String),
    /// The time zone.
    Zone(String),
}

impl Calendar {
    /// The calendar of a cron expression and a time zone (IANA name). Default time zone: UTC.
    ///
    /// # Errors
    /// The expression or the time zone is not valid, or the expression matches no moment within four years.
    pub fn parse(cron: &str, zone: Option<&str>) -> Result<Self, CalendarError> {
        let zone = zone.unwrap_or(DEFAULT_ZONE);
        let place = TimeZone::get(zone).map_err(|_| {
            CalendarError::Zone(format!(
                "{zone:?} is not a time zone of the IANA database; name one, such as Europe/Berlin"
            ))
        })?;
        let times = times(cron).map_err(CalendarError::Cron)?;
        let (times, shortest) = (Arc::new(times), Arc::default());
        let calendar = Self { cron: cron.to_owned(), zone: zone.to_owned(), times, place, shortest };
        let never = || CalendarError::Cron("never comes due: there is no such day in four years".into());
        calendar.next(reference()).ok_or_else(never)?;
        Ok(calendar)
    }

    /// The shortest time from one moment to the next. It does not depend on the current time, because it decides if a
    /// spec is valid.
    pub fn interval(&self) -> SignedDuration {
        *self.shortest.get_or_init(|| {
            let (count, time) = SAMPLE;
            let (mut moment, mut shortest) = (self.next(reference()), SignedDuration::MAX);
            for _ in 0..count {
                let Some(before) = moment.filter(|&moment| moment < reference() + time) else { break };
                moment = self.next(before);
                shortest = moment.map_or(shortest, |next| shortest.min(next.duration_since(before)));
            }
            shortest
        })
    }

    /// The first moment after `after`. `None` if there is no moment within four years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut time = self.place.to_datetime(after);
        loop {
            time = self.next_time(time)?;
            let at = self.place.to_ambiguous_timestamp(time).compatible().ok()?;
            // After clocks have gone back, a later time of day may be an instant that is already over.
            if at > after {
                return Some(at);
            }
        }
    }

    /// The next time of day, without regard to the time zone.
    fn next_time(&self, after: DateTime) -> Option<DateTime> {
        let after = TimeZone::UTC.to_timestamp(after).ok()?;
        let next = self.times.find_next(after).ok()?;
        Some(next.datetime())
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        (&self.cron, &self.zone) == (&other.cron, &other.zone)
    }
}

impl Eq for Calendar {}

/// The times of day of a cron expression, without a time zone.
fn times(cron: &str) -> Result<Crontab, String> {
    const RULE: &str = "must be five fields: minute, hour, day of month, month and day of week, such as 0 3 * * SUN";
    if cron.split_whitespace().count() != 5 {
        return Err(RULE.into());
    }
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    // The last line of the error marks the position and gives the reason. Only the reason fits into a message.
    let reason = |error: cronexpr::Error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches([' ', '^']);
        format!("{RULE}; {reason}")
    };
    cronexpr::parse_crontab_with(cron, options).map_err(reason)
}

/// A recurring period in which rotations should take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The moments at which the window opens.
    pub opens: Calendar,
    /// The time for which the window stays open.
    pub duration: SignedDuration,
}

/// A period in which windows are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its first instant. If the windows were open already, the instant at which the search began.
    pub from: Timestamp,
    /// Its end. The end is not part of the period.
    pub until: Timestamp,
}

impl Window {
    /// The first period from `at` on in which the window is open. `None` if there is no period within four years.
    fn opening(&self, at: Timestamp) -> Option<Opening> {
        let began = self.opens.next(at.checked_sub(self.duration).ok()?)?;
        Some(Opening { from: began.max(at), until: began.checked_add(self.duration).ok()? })
    }
}

/// The first period from `at` on in which one window of each group is open.
///
/// `None` if there is no such period, if there is no group, or if all `misses` are used up.
pub fn opening(groups: &[Vec<Window>], at: Timestamp, misses: &mut usize) -> Option<Opening> {
    let mut at = at;
    while *misses > 0 {
        let first = |group: &Vec<Window>| {
            let openings = group.iter().filter_map(|window| window.opening(at));
            openings.min_by_key(|opening| (opening.from, std::cmp::Reverse(opening.until)))
        };
        let openings: Vec<Opening> = groups.iter().map(first).collect::<Option<_>>()?;
        let from = openings.iter().map(|opening| opening.from).max()?;
        let until = openings.iter().map(|opening| opening.until).min()?;
        if from < until {
            return Some(Opening { from, until });
        }
        at = from;
        *misses -= 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: Option<&str> = Some("Europe/Berlin");

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The next `count` moments after `after`.
    fn moments(cron: &str, zone: Option<&str>, after: &str, count: usize) -> Vec<String> {
        let calendar = Calendar::parse(cron, zone).unwrap();
        let mut after = at(after);
        let mut next = || {
            after = calendar.next(after).unwrap();
            after.to_string()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn it_goes_by_the_clock_on_the_wall() {
        let sundays = moments("0 3 * * SUN", BERLIN, "2026-10-20T00:00:00Z", 2);
        assert_eq!(sundays, ["2026-10-25T02:00:00Z", "2026-11-01T02:00:00Z"], "the day on which clocks go back");
        assert_eq!(moments("0 3 * * SUN", None, "2026-10-20T00:00:00Z", 1), ["2026-10-25T03:00:00Z"]);
    }

    #[test]
    fn a_time_of_day_that_is_left_out_comes_later_and_none_is_missed() {
        // In Berlin there is no 02:30 on 2026-03-29.
        let days = moments("30 2 * * *", BERLIN, "2026-03-27T12:00:00Z", 3);
        assert_eq!(days, ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn a_time_of_day_that_there_is_twice_comes_once() {
        // In Berlin there are two 02:30 on 2026-10-25.
        let days = moments("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", 2);
        assert_eq!(days, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let after_the_second = moments("*/10 * * * *", BERLIN, "2026-10-25T01:25:00Z", 1);
        assert_eq!(after_the_second, ["2026-10-25T02:00:00Z"]);
    }

    #[test]
    fn leap_days_come_in_leap_years() {
        let days = moments("0 0 29 2 *", None, "2026-01-01T00:00:00Z", 2);
        assert_eq!(days, ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
        assert_eq!(moments("0 0 L * *", None, "2027-02-01T00:00:00Z", 1), ["2027-02-28T00:00:00Z"]);
    }

    #[test]
    fn a_moment_is_after_what_was_asked_for_and_never_twice() {
        for zone in ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu"] {
            let calendar = Calendar::parse("*/15 * * * *", Some(zone)).unwrap();
            let (mut now, end) = (at("2026-01-01T00:07:00Z"), at("2027-01-01T00:00:00Z"));
            while now < end {
                let next = calendar.next(now).unwrap();
                let gap = next.duration_since(now);
                assert!(gap > SignedDuration::ZERO && gap <= SignedDuration::from_mins(75), "{zone} {now} {gap}");
                now = next;
            }
        }
    }

    #[test]
    fn its_interval_is_the_shortest() {
        let hours = |cron: &str| Calendar::parse(cron, BERLIN).unwrap().interval().as_hours();
        assert_eq!([hours("0 3 * * SUN"), hours("0 3 * * *"), hours("0 3 * * MON,TUE")], [167, 24, 24]);
        assert_eq!([hours("0 1,4 1 * *"), hours("0 3 1 * *"), hours("0 0 1 1 *")], [3, 28 * 24, 365 * 24]);
    }

    #[test]
    fn what_is_none_is_told_with_what_to_write() {
        let cron = |text: &str| match Calendar::parse(text, None) {
            Err(CalendarError::Cron(told)) => told,
            other => panic!("{text}: {other:?}"),
        };
        for text in ["", "x", "0 3 * *", "0 3 * * SUN UTC", "@daily", "61 * * * *", "H 3 * * *", "0 3 * * MOON"] {
            assert!(cron(text).starts_with("must be five fields: minute, hour"), "{text}: {}", cron(text));
            assert!(!cron(text).contains('\n'), "{text}");
        }
        assert!(cron("61 * * * *").ends_with("; value must be in range 0..=59; found 61"), "{}", cron("61 * * * *"));
        for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            assert_eq!(cron(text), "never comes due: there is no such day in four years");
        }
        let zone = Calendar::parse("0 3 * * *", Some("Europe/Nowhere")).unwrap_err();
        let told = "\"Europe/Nowhere\" is not a time zone of the IANA database; name one, such as Europe/Berlin";
        assert_eq!(zone, CalendarError::Zone(told.into()));
    }

    fn window(cron: &str, minutes: i64) -> Window {
        Window { opens: Calendar::parse(cron, None).unwrap(), duration: SignedDuration::from_mins(minutes) }
    }

    #[test]
    fn a_window_is_open_from_its_first_instant_until_its_end() {
        let windows = [vec![window("0 3 * * *", 60)]];
        let opens = |asked: &str| opening(&windows, at(asked), &mut 10).unwrap().from;
        assert_eq!(opens("2026-01-01T02:59:59Z"), at("2026-01-01T03:00:00Z"));
        assert_eq!(opens("2026-01-01T03:00:00Z"), at("2026-01-01T03:00:00Z"));
        assert_eq!(opens("2026-01-01T03:59:59Z"), at("2026-01-01T03:59:59Z"));
        assert_eq!(opens("2026-01-01T04:00:00Z"), at("2026-01-02T03:00:00Z"));
    }

    #[test]
    fn any_window_of_a_group_will_do_and_every_group_has_to_be_open() {
        let weekend = vec![window("0 0 * * SAT", 2 * 24 * 60)];
        let nights = vec![window("0 22 * * *", 60), window("0 3 * * *", 60)];
        let found = opening(&[weekend.clone(), nights.clone()], at("2026-01-01T00:00:00Z"), &mut 10).unwrap();
        let both = Opening { from: at("2026-01-03T03:00:00Z"), until: at("2026-01-03T04:00:00Z") };
        assert_eq!(found, both, "the night of the first Saturday");
        assert_eq!(opening(&[nights], at("2026-01-01T12:00:00Z"), &mut 10).unwrap().from, at("2026-01-01T22:00:00Z"));
        let working_days = vec![window("0 9 * * MON-FRI", 60)];
        let mut misses = MISSES;
        assert_eq!(opening(&[weekend, working_days], at("2026-01-01T00:00:00Z"), &mut misses), None);
        assert_eq!(misses, 0, "the search ends when all misses are used up");
        assert_eq!(opening(&[], at("2026-01-01T00:00:00Z"), &mut 10), None);
    }
}
