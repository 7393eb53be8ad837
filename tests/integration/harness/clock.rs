//! A clock that the test controls.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use tokenry::outside::{Clock, SystemClock};

/// A clock that runs at the speed of the machine's clock, with an offset that the test sets.
#[derive(Clone, Default)]
pub struct Held(Arc<AtomicI64>);

impl Held {
    /// Sets the clock forward by `duration`, or back if it is negative. Fractions of a second are ignored.
    pub fn move_by(&self, duration: SignedDuration) {
        self.0.fetch_add(duration.as_secs(), Ordering::SeqCst);
    }

    /// Sets the clock to `at`, to the second. The clock then continues to run.
    pub fn move_to(&self, at: Timestamp) {
        self.move_by(at.duration_since(self.now()));
    }
}

impl Clock for Held {
    fn now(&self) -> Timestamp {
        SystemClock.now() + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// A duration in hours.
pub const fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}
