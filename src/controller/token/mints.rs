//! The times of the last mints, in memory. They limit how often values are minted, whatever a status says.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use jiff::{SignedDuration, Timestamp};

use crate::token::duration::after;

/// The pause between two mints for the same uid. A mint by schedule or on request does not wait for this pause, if the
/// records could be read.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// The last mint of each uid, kept for as long as it can delay the next one.
#[derive(Default)]
pub struct Mints(Mutex<HashMap<String, Timestamp>>);

impl Mints {
    /// Notes that a value is about to be recorded for this uid.
    pub fn note(&self, uid: &str, now: Timestamp) {
        let mut all = self.lock();
        all.retain(|_, at| after(*at, PAUSE) > now && *at <= now);
        all.insert(uid.to_owned(), now);
    }

    /// Removes the note, because the value was not recorded.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The earliest time for the next mint for this uid; none: now. A mint in the future, as after a clock was set
    /// back, delays nothing.
    pub fn may_mint_from(&self, uid: &str, now: Timestamp) -> Option<Timestamp> {
        let at = self.lock().get(uid).copied().filter(|at| *at <= now)?;
        Some(after(at, PAUSE)).filter(|from| *from > now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.0.lock().expect("nobody panics here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_mint_of_a_uid_waits_five_seconds() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let mints = Mints::default();
        assert_eq!(mints.may_mint_from("a", at(0)), None);
        mints.note("a", at(0));
        assert_eq!(mints.may_mint_from("a", at(4)), Some(at(5)));
        assert_eq!(mints.may_mint_from("b", at(4)), None, "another uid");
        assert_eq!(mints.may_mint_from("a", at(5)), None);
        assert_eq!(mints.may_mint_from("a", at(-60)), None, "a clock that was set back");
        mints.note("b", at(5));
        assert_eq!(mints.lock().len(), 1, "old mints are forgotten");
    }
}
