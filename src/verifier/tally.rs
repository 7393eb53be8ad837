//! Counts decisions by Instance, protocol and cause. A decision finds its counters without a lock, and formats nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use super::{Cause, Protocol, index::Key};
use crate::outside::metrics::{Metrics, VerdictCounters};

/// Maximum number of Instances that metrics name. All further ones share a name, so that the number of time series
/// stays bounded.
const MOST: usize = 200;
/// The shared name of all further Instances.
const OTHER: &str = "other";
/// The counters of all decisions.
pub(super) struct Tallies {
    metrics: Arc<Metrics>,
    /// The counters of existing Instances, at most [`MOST`].
    named: ArcSwap<HashMap<Key, Arc<Tally>, RandomState>>,
    /// Held while an Instance gets or loses a name.
    naming: Mutex<()>,
    other: Tally,
    /// Decisions for Instances that do not exist. Anybody can make up their names.
    unknown: Tally,
}

impl Tallies {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let [unknown, other] = ["", OTHER].map(|name| Tally::named(name.to_owned()));
        let (named, naming) = (ArcSwap::default(), Mutex::default());
        Self { metrics, named, naming, other, unknown }
    }

    /// Counts a decision that took `took`. `instance`: `None` if the Instance does not exist.
    pub(super) fn count(&self, instance: Option<&Key>, (protocol, cause): (Protocol, Cause), took: Duration) {
        let count = |tally: &Tally| tally.count(&self.metrics, (protocol, cause), took);
        let is_counted = instance.is_some_and(|instance| match self.named.load().get(instance) {
            Some(tally) => count(tally),
            None => count(self.name(instance).as_deref().unwrap_or(&self.other)),
        });
        if !is_counted {
            count(&self.unknown);
        }
    }

    /// Gives an Instance a name. `None` if there are too many already.
    fn name(&self, instance: &Key) -> Option<Arc<Tally>> {
        if self.named.load().len() >= MOST {
            return None;
        }
        let _naming = self.naming.lock().expect("nobody panics here");
        let mut named = HashMap::clone(&self.named.load());
        let has_room = named.len() < MOST || named.contains_key(instance);
        let tally =
            has_room.then(|| named.entry(instance.clone()).or_insert_with(|| Arc::new(Tally::of(instance))).clone());
        self.named.store(Arc::new(named));
        tally
    }

    /// Forgets the counters of Instances that do not exist any more, with their time series. So their places are free.
    pub(super) fn retain(&self, exists: impl Fn(&Key) -> bool) {
        if self.named.load().keys().all(&exists) {
            return;
        }
        let _naming = self.naming.lock().expect("nobody panics here");
        let mut named = HashMap::clone(&self.named.load());
        for (_, gone) in named.extract_if(|key, _| !exists(key)) {
            gone.forget(&self.metrics);
        }
        self.named.store(Arc::new(named));
    }
}

/// The counters of an Instance.
struct Tally {
    /// The Instance, as `namespace/name`.
    name: String,
    /// The counters so far. An Instance uses a few, so a search from the start is quick.
    counted: ArcSwap<Vec<(Protocol, Cause, VerdictCounters)>>,
    /// True once the Instance does not exist any more. Held while it gets or loses time series, so that none comes
    /// back.
    gone: Mutex<bool>,
}

impl Tally {
    fn of(instance: &Key) -> Self {
        Self::named(format!("{}/{}", instance.namespace, instance.name))
    }

    fn named(name: String) -> Self {
        Self { name, counted: ArcSwap::default(), gone: Mutex::default() }
    }

    /// Counts a decision. False: there is no counter for it, and there must be none any more.
    fn count(&self, metrics: &Metrics, (protocol, cause): (Protocol, Cause), took: Duration) -> bool {
        let counts = |known: &Vec<(Protocol, Cause, VerdictCounters)>| {
            let counters = known.iter().find(|(of, why, _)| (*of, *why) == (protocol, cause));
            counters.map(|(.., counters)| counters.count(took)).is_some()
        };
        if counts(&self.counted.load()) {
            return true;
        }
        let gone = self.gone.lock().expect("nobody panics here");
        if *gone {
            return false;
        }
        let mut known = Vec::clone(&self.counted.load());
        if !counts(&known) {
            let counters = metrics.verdicts(&self.name, protocol.as_str(), cause.category().code(), cause.as_str());
            counters.count(took);
            known.push((protocol, cause, counters));
            self.counted.store(Arc::new(known));
        }
        true
    }

    /// Removes the time series of an Instance that does not exist any more.
    fn forget(&self, metrics: &Metrics) {
        let mut gone = self.gone.lock().expect("nobody panics here");
        *gone = true;
        for (protocol, cause, _) in self.counted.swap(Arc::default()).iter() {
            metrics.forget_verdicts(&self.name, protocol.as_str(), cause.category().code(), cause.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECISION: (Protocol, Cause) = (Protocol::ForwardAuth, Cause::Allowed);

    fn tallies() -> (Tallies, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        (Tallies::new(metrics.clone()), metrics)
    }

    /// The values of the label `instance`, and how often each was counted.
    fn counted(metrics: &Metrics) -> HashMap<String, u64> {
        let text = metrics.text();
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("tokenry_verifier_verdicts_total{instance=\"")?.split_once('"'));
        lines.map(|(name, rest)| (name.to_owned(), rest.rsplit_once(' ').unwrap().1.parse().unwrap())).collect()
    }

    fn key(nth: usize) -> Key {
        Key::new("a", nth.to_string())
    }

    #[test]
    fn a_decision_is_counted_by_instance_protocol_and_cause_with_its_duration() {
        let (tallies, metrics) = tallies();
        for cause in [Cause::Allowed, Cause::Expired, Cause::Allowed] {
            tallies.count(Some(&key(1)), (Protocol::ForwardAuth, cause), Duration::from_millis(1));
        }
        tallies.count(Some(&key(1)), (Protocol::IngressNginx, Cause::Allowed), Duration::ZERO);
        let text = metrics.text();
        for line in [
            r#"verdicts_total{instance="a/1",protocol="forward-auth",status="200",reason="Allowed"} 2"#,
            r#"verdicts_total{instance="a/1",protocol="forward-auth",status="401",reason="Expired"} 1"#,
            r#"verdicts_total{instance="a/1",protocol="ingress-nginx",status="200",reason="Allowed"} 1"#,
            r#"duration_seconds_count{protocol="forward-auth"} 3"#,
            r#"duration_seconds_sum{protocol="forward-auth"} 0.003"#,
            r#"duration_seconds_count{protocol="ingress-nginx"} 1"#,
        ] {
            assert!(text.contains(&format!("tokenry_verifier_{line}\n")), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn a_made_up_instance_makes_no_series_of_its_own() {
        let (tallies, metrics) = tallies();
        (0..10).for_each(|_| tallies.count(None, DECISION, Duration::ZERO));
        assert_eq!(counted(&metrics), HashMap::from([(String::new(), 10)]));
    }

    #[test]
    fn instances_beyond_the_limit_share_a_name_until_others_are_deleted() {
        let (tallies, metrics) = tallies();
        let count = |nth: usize| tallies.count(Some(&key(nth)), DECISION, Duration::ZERO);
        (0..MOST + 3).for_each(count);
        let told = counted(&metrics);
        assert_eq!((told.len(), told[OTHER], told.get("a/0")), (MOST + 1, 3, Some(&1)));
        tallies.retain(|gone| ![key(0), key(1)].contains(gone));
        count(MOST);
        let told = counted(&metrics);
        assert_eq!((told.len(), told[OTHER], told[&format!("a/{MOST}")]), (MOST, 3, 1));
    }

    #[test]
    fn a_decision_that_is_under_way_brings_no_series_of_a_deleted_instance_back() {
        let (tallies, metrics) = tallies();
        tallies.count(Some(&key(1)), DECISION, Duration::ZERO);
        // The decision has found the counters of the Instance.
        let found = tallies.name(&key(1)).unwrap();
        tallies.retain(|_| false);
        for decision in [DECISION, (Protocol::ForwardAuth, Cause::Expired)] {
            assert!(!found.count(&metrics, decision, Duration::ZERO), "{decision:?}");
        }
        assert_eq!(counted(&metrics), HashMap::new());
        let before = tallies.named.load_full();
        tallies.named.store(Arc::new([(key(1), found)].into_iter().collect()));
        tallies.count(Some(&key(1)), (Protocol::ForwardAuth, Cause::Expired), Duration::ZERO);
        tallies.named.store(before);
        assert_eq!(counted(&metrics), HashMap::from([(String::new(), 1)]), "it is counted all the same");
    }

    #[test]
    fn the_series_of_a_deleted_instance_goes_and_a_later_one_of_its_name_begins_anew() {
        let (tallies, metrics) = tallies();
        let count = |nth: usize| tallies.count(Some(&key(nth)), DECISION, Duration::ZERO);
        [0, 1, 1].into_iter().for_each(count);
        tallies.retain(|_| true);
        assert_eq!(counted(&metrics), HashMap::from([("a/0".into(), 1), ("a/1".into(), 2)]));
        tallies.retain(|standing| *standing == key(0));
        assert_eq!(counted(&metrics), HashMap::from([("a/0".into(), 1)]));
        count(1);
        assert_eq!(counted(&metrics)["a/1"], 1);
    }
}
