//! Delays between retries.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Delays between retries. They double from [`Patience::FIRST`] to [`Patience::LAST`], with jitter, so that an API
/// server in trouble is not flooded with requests.
pub(crate) struct Patience(ExponentialBackoff);

impl Patience {
    const FIRST: Duration = Duration::from_millis(250);
    const LAST: Duration = Duration::from_secs(8);

    /// The next delay.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next().unwrap_or(Self::LAST)
    }
}

impl Default for Patience {
    fn default() -> Self {
        let waits = ExponentialBuilder::default().with_min_delay(Self::FIRST).with_max_delay(Self::LAST);
        Self(waits.with_factor(2.0).without_max_times().with_jitter().build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_less_and_less_often() {
        let mut patience = Patience::default();
        let all: Vec<_> = (0..8).map(|_| patience.next()).collect();
        assert!(all[0] >= Patience::FIRST && all[0] < Patience::FIRST * 2, "{all:?}");
        assert!(all[7] >= Patience::LAST && all[7] <= Patience::LAST * 2, "{all:?}");
    }
}
