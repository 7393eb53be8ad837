//! A regular choice of a share.

use std::{
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

/// A share of decisions or spans: all, every Nth, or a rate. The choice is regular: of any N decisions in a row, the
/// same number is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The share, in units of 2⁻⁶⁴. 0: all.
    step: u64,
}

/// The error for a text that is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "give a whole number N of at least 1 for every Nth, or a share above 0 and up to 1.0 with a point, such as 0.1"
)]
pub struct NoSample;

impl FromStr for Sample {
    type Err = NoSample;

    fn from_str(text: &str) -> Result<Self, NoSample> {
        let share = if text.contains('.') {
            text.parse().map_err(|_| NoSample)?
        } else {
            1.0 / f64::from(text.parse::<u32>().map_err(|_| NoSample)?)
        };
        if !(share > 0.0 && share <= 1.0) {
            return Err(NoSample);
        }
        // A share of 1 is 2⁶⁴ units, which wrap to 0.
        Ok(Self { step: if share < 1.0 { (share * 2f64.powi(64)) as u64 } else { 0 } })
    }
}

impl Sample {
    /// The state before the first decision, which is chosen. Half a step of distance makes up for rounding.
    pub(crate) fn start(self) -> AtomicU64 {
        AtomicU64::new(u64::MAX - self.step / 2)
    }

    /// True if the next decision is chosen: the state wraps.
    pub(crate) fn picks(self, state: &AtomicU64) -> bool {
        self.step == 0 || state.fetch_add(self.step, Ordering::Relaxed).checked_add(self.step).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_every_nth_or_a_share() {
        let of = |text: &str| {
            let sample = text.parse::<Sample>().unwrap();
            let state = sample.start();
            (0..1000).map(|_| sample.picks(&state)).collect::<Vec<_>>()
        };
        let count = |text| of(text).into_iter().filter(|picked| *picked).count();
        for (text, picked) in
            [("1", 1000), ("1.0", 1000), ("2", 500), ("10", 100), ("0.1", 100), ("0.25", 250), ("1000", 1)]
        {
            assert_eq!(count(text), picked, "{text}");
            assert!(of(text)[0], "{text}: the first one is");
        }
        assert_eq!(count("3"), 334);
        assert_eq!(of("3")[..7], [true, false, false, true, false, false, true]);
        for bad in ["0", "-1", "0.0", "1.1", "-0.5", "x", "", "10%", "NaN.", "1e3", ".", "inf.0"] {
            assert_eq!(bad.parse::<Sample>(), Err(NoSample), "{bad}");
        }
    }
}
