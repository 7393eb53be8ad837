//! Versions of objects that our own writes have replaced.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

/// How long a version counts as replaced. A watch tells of a write much sooner; and in an API server whose data was
/// restored from a backup, what was replaced can stand again.
const KEPT: Duration = Duration::from_secs(5);
/// The most objects that are remembered. Forgetting costs no more than a write that is refused.
const MOST: usize = 10_000;

/// The versions that were replaced lately, by the object's uid.
#[derive(Default)]
pub(crate) struct Replaced(Mutex<HashMap<String, Versions>>);

struct Versions {
    versions: Vec<String>,
    since: Instant,
}

impl Replaced {
    /// From now on, `version` of the object is of the past.
    pub(crate) fn add(&self, uid: &str, version: &str) {
        let mut all = self.lock();
        if all.len() >= MOST {
            all.clear();
        }
        let fresh = || Versions { versions: Vec::new(), since: Instant::now() };
        let of = all.entry(uid.to_owned()).or_insert_with(fresh);
        if of.since.elapsed() > KEPT {
            *of = fresh();
        }
        of.since = Instant::now();
        of.versions.push(version.to_owned());
    }

    /// Whether `version` of the object is of the past. If it is not, the past of that object is forgotten: it has been
    /// heard of.
    pub(crate) fn holds(&self, uid: &str, version: &str) -> bool {
        let mut all = self.lock();
        let Some(of) = all.get(uid) else { return false };
        let past = of.since.elapsed() <= KEPT && of.versions.iter().any(|replaced| replaced == version);
        if !past {
            all.remove(uid);
        }
        past
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Versions>> {
        self.0.lock().expect("nobody panics here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_replaced_is_of_the_past_until_the_write_is_heard_of() {
        let replaced = Replaced::default();
        replaced.add("a", "1");
        replaced.add("a", "2");
        assert!(replaced.holds("a", "1") && replaced.holds("a", "2"));
        assert!(!replaced.holds("b", "1"), "another object");
        assert!(!replaced.holds("a", "3"), "heard of");
        assert!(replaced.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_count_for_long() {
        let replaced = Replaced::default();
        replaced.add("a", "1");
        tokio::time::advance(KEPT * 2).await;
        replaced.add("a", "2");
        assert!(!replaced.holds("a", "1"), "replaced long ago");
        replaced.add("a", "2");
        tokio::time::advance(KEPT * 2).await;
        assert!(!replaced.holds("a", "2"), "not heard of in time: it may stand again");
    }

    #[test]
    fn it_is_bounded() {
        let replaced = Replaced::default();
        for uid in 0..=MOST {
            replaced.add(&uid.to_string(), "1");
        }
        assert_eq!(replaced.lock().len(), 1);
    }
}
