//! Moments as users write them: RFC 3339, such as `2027-06-30T00:00:00Z`.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A time as written (RFC 3339), before the year 9999.
///
/// It is kept as text. The API server accepts times that Tokenry cannot represent, such as the last second of the year
/// 9999. An object with such a time must still be readable, or all of its fields would be ignored. [`Moment::parse`]
/// gives the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(String);

/// The message for a text that is not a time.
pub const RULE: &str = "must be a time as in RFC 3339, before the year 9999, such as 2027-06-30T00:00:00Z";
/// The first moment that is none.
pub const END: &str = "9999-01-01T00:00:00Z";
/// The longest way to write one, in characters.
pub const LONGEST: usize = 64;

impl Moment {
    /// The value, or [`RULE`].
    pub fn parse(&self) -> Result<Timestamp, &'static str> {
        let end: Timestamp = END.parse().expect("it is a time");
        self.0.parse().ok().filter(|moment| *moment < end).ok_or(RULE)
    }
}

impl From<Timestamp> for Moment {
    fn from(moment: Timestamp) -> Self {
        Self(moment.to_string())
    }
}

impl From<&str> for Moment {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_that_can_be_reckoned_with() {
        assert_eq!(Moment::from("2027-01-31T13:00:00+01:00").parse(), Ok("2027-01-31T12:00:00Z".parse().unwrap()));
        for none in
            ["9999-12-31T23:59:59Z", "9999-01-01T00:00:00Z", "2027-01-31T12:00:00+99:99", "00:00:00x5Z", "never", ""]
        {
            assert_eq!(Moment::from(none).parse(), Err(RULE), "{none}");
        }
    }
}
