//! The clock, and a watch for jumps of the clock.

use std::time::Duration;

use futures::Stream;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use std::sync::Arc;

/// A clock in whole seconds, because times in a status are whole seconds. A finer time would be truncated when it is
/// written, and its object would wake up a moment too early.
pub trait Clock: Send + Sync + 'static {
    /// The current time, rounded down to the second.
    fn now(&self) -> Timestamp;

    /// The current time, as fine as the clock is. Default: that of [`now`](Self::now). For logs, and for
    /// ids: a time in a status may come from it only through [`whole`].
    fn precise(&self) -> Timestamp {
        self.now()
    }
}

/// A time, rounded down to the second.
pub fn whole(at: Timestamp) -> Timestamp {
    // Before 1970, a whole second is rounded up.
    let before = i64::from(at.subsec_nanosecond() < 0);
    Timestamp::from_second(at.as_second() - before).unwrap_or(at)
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        whole(Timestamp::now())
    }

    fn precise(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Interval at which [`jumps`] compares the clocks.
const LOOK: Duration = Duration::from_secs(1);
/// Maximum drift from the monotonic clock between two comparisons. A larger drift counts as a jump.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(3);

/// Yields an item each time `clock` was set, forward or back. Every second `clock` is compared with the monotonic
/// clock.
///
/// Timers run on monotonic time. After a jump every wake-up is set for the wrong moment, so every object has to be
/// reconciled again.
pub fn jumps(clock: Arc<dyn Clock>) -> impl Stream<Item = ()> + Send {
    let start = (clock, None::<(Timestamp, Instant)>);
    futures::stream::unfold(start, |(clock, mut last)| async move {
        loop {
            let (wall, monotonic) = (clock.now(), Instant::now());
            if let Some((wall_before, monotonic_before)) = last.replace((wall, monotonic)) {
                let passed = SignedDuration::try_from(monotonic - monotonic_before).unwrap_or(SignedDuration::MAX);
                let off = wall.duration_since(wall_before).saturating_sub(passed);
                if off.abs() > TOLERANCE {
                    return Some(((), (clock, last)));
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use std::sync::atomic::{AtomicI64, Ordering};

    struct Held(AtomicI64, Instant);

    impl Clock for Held {
        fn now(&self) -> Timestamp {
            let passed = self.1.elapsed().as_secs() as i64;
            Timestamp::from_second(self.0.load(Ordering::SeqCst) + passed).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_noticed_and_one_that_runs_is_not() {
        let held = Arc::new(Held(AtomicI64::new(1_800_000_000), Instant::now()));
        let mut jumps = Box::pin(jumps(held.clone()));
        assert!(!within_a_minute(&mut jumps).await, "running");
        for step in [3600, -3600] {
            held.0.fetch_add(step, Ordering::SeqCst);
            assert!(within_a_minute(&mut jumps).await, "set by {step} s");
            assert!(!within_a_minute(&mut jumps).await, "running again");
        }
    }

    async fn within_a_minute(jumps: &mut (impl Stream<Item = ()> + Unpin)) -> bool {
        tokio::time::timeout(Duration::from_secs(60), jumps.next()).await.is_ok()
    }

    #[test]
    fn the_machines_clock_is_cut_to_the_second() {
        assert_eq!(SystemClock.now().subsec_nanosecond(), 0);
        for (at, cut) in [
            ("2026-11-29T14:45:37.999Z", "2026-11-29T14:45:37Z"),
            ("2026-11-29T14:45:37Z", "2026-11-29T14:45:37Z"),
            ("1960-01-01T00:00:00.5Z", "1960-01-01T00:00:00Z"),
        ] {
            assert_eq!(whole(at.parse().unwrap()).to_string(), cut);
        }
    }
}
