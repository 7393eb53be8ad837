//! Versions of objects that this process's own writes have replaced.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

/// How long a version counts as replaced. The watch reports a write much sooner. The time is bounded because a restored
/// backup can bring a replaced version back.
const KEPT: Duration = Duration::from_secs(5);
/// Maximum number of remembered objects. At this number all are forgotten, which costs at most one refused write per
/// object.
const MOST: usize = 10_000;

/// Recently replaced versions, by the object's uid.
#[derive(Default)]
pub(crate) struct Replaced(Mutex<HashMap<String, Versions>>);

struct Versions {
    versions: Vec<String>,
    since: Instant,
}

impl Replaced {
    /// Marks `version` of the object as replaced.
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

    /// True if `version` of the object was replaced recently. Any other version shows that the watch has reported the
    /// write. Then all replaced versions of the object are forgotten.
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
