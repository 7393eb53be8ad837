//! Durations as users write them: `90d`, or as GEP-2257 has them, `24h`, `1h30m`, `2160h0m0s`.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A duration as written: a whole number of days (24 hours) such as `90d`, or hours, minutes and seconds. The latter
/// are as in GEP-2257 without milliseconds, such as `24h`, `1h30m` or `2160h0m0s`. A duration is above zero.
///
/// A number has at most five digits. The duration is kept as text, so that an object that the schema did not check can
/// still be read, and its fault is reported. [`Duration::parse`] gives the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

/// The longest way to write one, in characters.
pub const LONGEST: usize = 32;
/// The most digits of a number.
const DIGITS: usize = 5;
/// The most numbers of a duration.
const NUMBERS: usize = 4;
/// The message for a text that is not a duration.
pub const RULE: &str = "must be whole days such as 90d, or hours, minutes and seconds such as 24h, 1h30m or 2160h0m0s; above zero, \
    with at most five digits a number";

impl Duration {
    /// The value, or [`RULE`].
    pub fn parse(&self) -> Result<SignedDuration, &'static str> {
        seconds(&self.0).filter(|seconds| *seconds > 0).map(SignedDuration::from_secs).ok_or(RULE)
    }
}

/// The seconds of a duration, which can be zero. `None` if the text is not a duration.
fn seconds(text: &str) -> Option<i64> {
    days(text).or_else(|| clock(text))
}

/// The seconds of a whole number of days.
fn days(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('d').filter(|digits| !digits.starts_with('0'))?;
    Some(number(digits)? * 24 * 60 * 60)
}

/// The seconds of numbers of hours, minutes and seconds, in any order.
fn clock(text: &str) -> Option<i64> {
    let (mut rest, mut total) = (text, 0);
    for _ in 0..NUMBERS {
        let (digits, units) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit = match units.as_bytes()[0] {
            b'h' => 60 * 60,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total += number(digits)? * unit;
        rest = &units[1..];
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

fn number(digits: &str) -> Option<i64> {
    let plain = (1..=DIGITS).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

impl<T: Into<String>> From<T> for Duration {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A duration as [`Duration`] writes it, or none at all, such as `0s`: at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Delay(String);

/// The message for a text that is not a delay.
pub const DELAY_RULE: &str = "must be whole days such as 7d, or hours, minutes and seconds such as 30m or 1h30m, or 0s for at once; \
    with at most five digits a number";

impl Delay {
    /// The value, or [`DELAY_RULE`].
    pub fn parse(&self) -> Result<SignedDuration, &'static str> {
        seconds(&self.0).map(SignedDuration::from_secs).ok_or(DELAY_RULE)
    }
}

impl<T: Into<String>> From<T> for Delay {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// `duration` in the largest unit that says it in whole numbers, as a user would have written it.
pub fn written(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let unit = [(86_400, 'd'), (3_600, 'h'), (60, 'm')].into_iter().find(|(unit, _)| seconds % unit == 0);
    let (unit, letter) = unit.filter(|_| seconds != 0).unwrap_or((1, 's'));
    format!("{}{letter}", seconds / unit)
}

/// `at` + `duration`, at most the last instant that can be written.
pub fn after(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::durations;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_days_or_a_time_of_the_clock() {
        for (text, seconds) in durations::GOOD {
            assert_eq!(Duration::from(text).parse(), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_told() {
        for text in durations::BAD.into_iter().chain(["1 d", "１d", "é", "1é", "1hé"]) {
            assert_eq!(Duration::from(text).parse(), Err(RULE), "{text}");
        }
    }

    #[test]
    fn a_delay_can_be_none_at_all() {
        for (text, parsed) in [
            ("0s", Ok(0)),
            ("0h0m0s", Ok(0)),
            ("30m", Ok(1_800)),
            ("7d", Ok(604_800)),
            ("0d", Err(())),
            ("", Err(())),
            ("x", Err(())),
        ] {
            let told = Delay::from(text).parse().map(|delay| delay.as_secs());
            assert_eq!(told, parsed.map_err(|()| DELAY_RULE), "{text:?}");
        }
    }

    #[test]
    fn is_written_in_the_largest_unit_that_fits() {
        for text in ["45s", "61s", "30m", "25h", "90d"] {
            assert_eq!(written(Duration::from(text).parse().unwrap()), text);
        }
        assert_eq!(written(SignedDuration::ZERO), "0s");
    }

    #[test]
    fn adding_never_overflows() {
        assert_eq!(after(Timestamp::MAX, SignedDuration::MAX), Timestamp::MAX);
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = Duration::from(text).parse();
        }
    }
}
