//! Warnings that are repeated once a day.

use jiff::{SignedDuration, Timestamp};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The time of the last warning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Daily(Option<Timestamp>);

impl Daily {
    /// True at the first call, and then once a day. `now` counts as the time of that warning. After a clock was set
    /// back, the next call is the first again.
    pub fn is_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.0.is_none_or(|last| now < last || now.duration_since(last) >= DAY);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_due_once_a_day_and_after_the_clock_went_back() {
        let (mut daily, start) = (Daily::default(), Timestamp::from_second(1_800_000_000).unwrap());
        for (hours, due) in [(0, true), (1, false), (23, false), (24, true), (47, false), (46, false), (23, true)] {
            assert_eq!(daily.is_due(start + SignedDuration::from_hours(hours)), due, "hour {hours}");
        }
    }
}
