//! Durations as users write them: `45s`, `30m`, `24h`, `90d`.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A duration as written: a whole number above zero followed by its unit, `s`, `m`, `h` or `d` (24 hours).
///
/// At most five digits. It is kept as text, so that an object that slipped past the schema is read all the same and its
/// fault can be told; [`Duration::parse`] gives the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

/// The most digits of a duration.
pub const DIGITS: usize = 5;
/// What a user reads when a duration is not one.
pub const RULE: &str =
    "must be a whole number of at most five digits, above zero, followed by s, m, h or d, such as 45s, 30m, 24h or 90d";

impl Duration {
    /// The value, or [`RULE`].
    pub fn parse(&self) -> Result<SignedDuration, &'static str> {
        let (number, unit) = self.0.split_at_checked(self.0.len().saturating_sub(1)).ok_or(RULE)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return Err(RULE),
        };
        let plain = (1..=DIGITS).contains(&number.len())
            && number.bytes().all(|c| c.is_ascii_digit())
            && !number.starts_with('0');
        let number: i64 = number.parse().ok().filter(|_| plain).ok_or(RULE)?;
        Ok(SignedDuration::from_secs(number * seconds))
    }
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

/// A duration as [`Duration`] writes it, or `0s`: at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Delay(String);

/// The delay of nothing.
pub const AT_ONCE: &str = "0s";
/// What a user reads when a delay is none.
pub const DELAY_RULE: &str =
    "must be 0s, or a whole number of at most five digits followed by s, m, h or d, such as 30m or 24h";

impl Delay {
    /// The value, or [`DELAY_RULE`].
    pub fn parse(&self) -> Result<SignedDuration, &'static str> {
        if self.0 == AT_ONCE {
            return Ok(SignedDuration::ZERO);
        }
        Duration(self.0.clone()).parse().map_err(|_| DELAY_RULE)
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
    use proptest::prelude::*;

    #[test]
    fn seconds_to_days() {
        for (text, seconds) in
            [("45s", 45), ("30m", 1_800), ("24h", 86_400), ("365d", 31_536_000), ("2160h", 7_776_000)]
        {
            assert_eq!(Duration::from(text).parse(), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_told() {
        for text in ["", "0", "0s", "-1d", "+1d", "10x", "10", "d", "1.5h", "01d", "1d1h", "123456s", "1 d", "１d", "é"]
        {
            assert_eq!(Duration::from(text).parse(), Err(RULE), "{text}");
        }
    }

    #[test]
    fn a_delay_can_be_none_at_all() {
        for (text, parsed) in [("0s", Ok(0)), ("30m", Ok(1_800)), ("0m", Err(())), ("", Err(())), ("x", Err(()))] {
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
