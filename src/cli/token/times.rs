//! Times as people read and write them.

use jiff::{SignedDuration, Timestamp};

use crate::{
    cli::Error,
    token::{
        Moment,
        duration::{self, Delay, Duration},
    },
};

/// A length of time in its largest unit, such as `29d` or `3h`. It is rounded, so that a token of 30 days that was just
/// made ends in `30d`.
fn length(duration: SignedDuration) -> String {
    let seconds = duration.abs().as_secs();
    let (unit, name) = match seconds {
        0..120 => (1, 's'),
        120..7200 => (60, 'm'),
        7200..172_800 => (3600, 'h'),
        _ => (86_400, 'd'),
    };
    format!("{}{name}", (seconds + unit / 2) / unit)
}

/// A time before or after `now`, such as `3h ago`, `in 29d` or `now`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let distance = at.duration_since(now);
    if distance.as_secs() == 0 {
        return "now".to_owned();
    }
    let length = length(distance);
    if at <= now { format!("{length} ago") } else { format!("in {length}") }
}

/// A time, and its distance from `now`, such as `2027-02-27T10:00:00Z (in 90d)`.
pub(crate) fn both(at: Timestamp, now: Timestamp) -> String {
    format!("{:.0} ({})", at, relative(at, now))
}

/// The forms of a moment, for messages.
const MOMENTS: &str = "a date such as 2027-06-30, or a time such as 2027-06-30T12:00:00Z";

/// The end of something, as a user writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndTime {
    /// A time after something.
    After(String),
    /// A moment. A date alone means its first second in UTC.
    At(Timestamp),
    /// Never.
    Never,
}

impl EndTime {
    /// Parses a duration such as `30d`, a date, a time (RFC 3339), or `never`.
    pub(crate) fn expiry(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let after = || Duration::from(text).parse().is_ok().then(|| Self::After(text.into()));
        Self::moment(text).or_else(after).ok_or_else(|| format!("give never, a duration such as 30d or 12h, {MOMENTS}"))
    }

    /// Parses a duration such as `2h`, or `0s`, a date, or a time (RFC 3339).
    pub(crate) fn previous(text: &str) -> Result<Self, String> {
        let after = || Delay::from(text).parse().is_ok().then(|| Self::After(text.into()));
        Self::moment(text).or_else(after).ok_or_else(|| format!("give a duration such as 0s, 2h or 1d, {MOMENTS}"))
    }

    /// The moment of the end, if a time after something begins `now`. `None`: never.
    pub(crate) fn from(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::After(text) => Some(duration::after(now, Delay::from(text.as_str()).parse().ok()?)),
            Self::At(at) => Some(*at),
            Self::Never => None,
        }
    }

    /// True for `0s`.
    pub(crate) fn is_at_once(&self) -> bool {
        matches!(self, Self::After(text) if Delay::from(text.as_str()).parse().is_ok_and(|delay| delay.is_zero()))
    }

    fn moment(text: &str) -> Option<Self> {
        let day = || {
            text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10)?.to_zoned(jiff::tz::TimeZone::UTC).ok()
        };
        Moment::from(text).parse().ok().or_else(|| Some(day()?.timestamp())).map(Self::At)
    }
}

/// Parses a length of time such as `14d`.
pub(crate) fn span(text: &str) -> Result<SignedDuration, String> {
    Duration::from(text).parse().map_err(str::to_owned)
}

/// Parses the longest wait for something, such as `60s`.
pub(crate) fn limit(text: &str) -> Result<std::time::Duration, String> {
    std::time::Duration::try_from(span(text)?).map_err(|error| error.to_string())
}

/// The error about an `EndTime` that is already over.
pub(crate) fn ahead(end: &EndTime, now: Timestamp, flag: &str) -> Result<(), Error> {
    match end {
        EndTime::At(at) if *at <= now => Err(Error::Usage(format!("{flag} {at}: the time is over; give a later one"))),
        EndTime::At(_) | EndTime::After(_) | EndTime::Never => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_is_told_as_its_distance() {
        let now = at("2027-01-01T00:00:00Z");
        let told = |text: &str| relative(at(text), now);
        assert_eq!(told("2027-01-31T00:00:00Z"), "in 30d");
        assert_eq!(told("2027-01-01T03:20:00Z"), "in 3h");
        assert_eq!(told("2027-01-30T23:59:58Z"), "in 30d");
        assert_eq!(told("2026-12-31T23:59:01Z"), "59s ago");
        assert_eq!((told("2027-01-01T00:00:00.9Z"), told("2027-01-01T00:00:01Z")), ("now".into(), "in 1s".into()));
        assert_eq!(both(at("2026-12-31T00:00:00Z"), now), "2026-12-31T00:00:00Z (24h ago)");
    }

    #[test]
    fn an_end_is_a_duration_a_date_a_time_or_never() {
        assert_eq!(EndTime::expiry("30d"), Ok(EndTime::After("30d".into())));
        assert_eq!(EndTime::expiry("2027-06-30"), Ok(EndTime::At(at("2027-06-30T00:00:00Z"))));
        assert_eq!(EndTime::expiry("2027-06-30T12:00:00+02:00"), Ok(EndTime::At(at("2027-06-30T10:00:00Z"))));
        assert_eq!(EndTime::expiry("never"), Ok(EndTime::Never));
        assert_eq!(EndTime::previous("0s"), Ok(EndTime::After("0s".into())));
        for odd in ["soon", "", "0s", "30", "-1d", "2027-13-01"] {
            assert!(EndTime::expiry(odd).is_err(), "{odd}");
        }
        assert!(EndTime::previous("never").is_err());
    }
}
