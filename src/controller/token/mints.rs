//! When values were minted last, in memory: a floor that holds whatever a status says.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use jiff::{SignedDuration, Timestamp};

use crate::token::duration::after;

/// How long after a mint nothing is minted for the same uid, but what a schedule or a user asks for by records that
/// were read.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// The last mint of each uid, as far as it may hold up another.
#[derive(Default)]
pub struct Mints(Mutex<HashMap<String, Timestamp>>);

impl Mints {
    /// A value is about to be put on record for this uid.
    pub fn note(&self, uid: &str, now: Timestamp) {
        let mut all = self.lock();
        all.retain(|_, at| after(*at, PAUSE) > now && *at <= now);
        all.insert(uid.to_owned(), now);
    }

    /// The value was not put on record after all.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// From when on another may be minted for this uid; nothing: now. A mint of the future, after a clock was set back,
    /// holds nothing up.
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
        assert_eq!(mints.lock().len(), 1, "what holds nothing up is forgotten");
    }
}
