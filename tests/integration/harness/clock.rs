//! A clock that the test holds.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use tokenry::outside::{Clock, SystemClock};

/// Runs as the machine's clock does, from where the test set it.
#[derive(Clone, Default)]
pub struct Held(Arc<AtomicI64>);

impl Held {
    /// Sets the clock forward, or back.
    pub fn move_by(&self, duration: SignedDuration) {
        self.0.fetch_add(duration.as_secs(), Ordering::SeqCst);
    }

    /// Sets the clock to `at`, from where it runs on.
    pub fn move_to(&self, at: Timestamp) {
        self.move_by(at.duration_since(self.now()));
    }
}

impl Clock for Held {
    fn now(&self) -> Timestamp {
        SystemClock.now() + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// Hours, for tests that move time.
pub const fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}
