//! The queue of objects that wait for a pass. Each object is in it once, and namespaces take turns.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use kube::{Resource, runtime::reflector::ObjectRef};
use tokio_util::time::{DelayQueue, delay_queue};

use crate::outside::{
    latency::Stopwatch,
    metrics::{Processing, QueueMeter},
};

/// The queue of the objects of one kind. A *place* is the right to run one pass.
///
/// # Guarantees
/// * Two passes over one object never overlap. An object that is added during its own pass is queued again after that
///   pass.
/// * The number of running passes never exceeds the number of places.
/// * The next place goes to the namespace with the fewest running passes. Among equal namespaces, the one that waits
///   longest is next. Within a namespace, the first object in the queue is next.
/// * A namespace gets another place only while it holds fewer places than three times the number of free ones. So one
///   namespace alone takes at most three quarters of the places. The first pass of another namespace then finds a free
///   place, however long the passes of the first take.
pub(crate) struct Queue<K: Resource<DynamicType = ()>> {
    free: usize,
    standing: HashMap<ObjectRef<K>, Turn>,
    lines: HashMap<String, Line<K>>,
    /// The namespaces in which an object waits, in order of their turns.
    turns: VecDeque<String>,
    /// Every object at rest waits here. Both fields share one copy of its name.
    later: DelayQueue<Arc<ObjectRef<K>>>,
    wakes: HashMap<Arc<ObjectRef<K>>, delay_queue::Key>,
    meter: QueueMeter,
    /// The running passes, for the metrics.
    processing: HashMap<ObjectRef<K>, Processing>,
}

/// The limit on the places of a namespace, as a multiple of the free places.
const SHARE: usize = 3;

/// The state of an object in the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Waiting,
    UnderWay,
    /// Its pass is running, and it was added again.
    Again,
}

/// A namespace with objects that wait or whose pass is running.
struct Line<K: Resource<DynamicType = ()>> {
    waiting: VecDeque<(ObjectRef<K>, Stopwatch)>,
    under_way: usize,
}

impl<K: Resource<DynamicType = ()>> Queue<K> {
    /// An empty queue with `places` places. `meter` measures it.
    pub(crate) fn new(places: usize, meter: QueueMeter) -> Self {
        Self {
            free: places,
            standing: HashMap::new(),
            lines: HashMap::new(),
            turns: VecDeque::new(),
            later: DelayQueue::new(),
            wakes: HashMap::new(),
            meter,
            processing: HashMap::new(),
        }
    }

    /// Adds an object. Its pass starts once a place is free.
    pub(crate) fn add(&mut self, name: ObjectRef<K>) {
        match self.standing.entry(name.clone()) {
            Entry::Occupied(mut known) => {
                if *known.get() == Turn::UnderWay {
                    known.insert(Turn::Again);
                    self.meter.add();
                }
            }
            Entry::Vacant(new) => {
                new.insert(Turn::Waiting);
                self.meter.add();
                self.line_up(name);
            }
        }
    }

    fn line_up(&mut self, name: ObjectRef<K>) {
        let namespace = name.namespace.clone().unwrap_or_default();
        let line = self.lines.entry(namespace.clone()).or_insert_with(Line::new);
        if line.waiting.is_empty() {
            self.turns.push_back(namespace);
        }
        line.waiting.push_back((name, self.meter.wait()));
    }

    /// Takes a place for the next object, whose pass counts as running from now on. Its pending wake-up is cancelled,
    /// because the pass sets the next one.
    pub(crate) fn next(&mut self) -> Option<ObjectRef<K>> {
        let turn = self.turn()?;
        let namespace = self.turns.remove(turn)?;
        let line = self.lines.get_mut(&namespace)?;
        let (name, waited) = line.waiting.pop_front()?;
        line.under_way += 1;
        if !line.waiting.is_empty() {
            self.turns.push_back(namespace);
        }
        self.free -= 1;
        self.processing.insert(name.clone(), self.meter.take(waited));
        self.standing.insert(name.clone(), Turn::UnderWay);
        self.forget_wake(&name);
        Some(name)
    }

    /// The index of the namespace that is next. At most as many namespaces as there are places have a running pass, and
    /// the search ends at the first namespace without one. So the search is short.
    fn turn(&self) -> Option<usize> {
        let mut best = None;
        for (turn, namespace) in self.turns.iter().enumerate() {
            let has = self.lines.get(namespace).map_or(0, |line| line.under_way);
            if has < SHARE * self.free && best.is_none_or(|(_, least)| has < least) {
                best = Some((turn, has));
            }
            if has == 0 || self.free == 0 {
                break;
            }
        }
        best.map(|(turn, _)| turn)
    }

    /// Gives back the place of an object whose pass has ended.
    pub(crate) fn done(&mut self, name: &ObjectRef<K>) {
        self.free += 1;
        self.processing.remove(name);
        let namespace = name.namespace.as_deref().unwrap_or_default();
        if let Some(line) = self.lines.get_mut(namespace) {
            line.under_way -= 1;
            if line.is_idle() {
                self.lines.remove(namespace);
            }
        }
        if self.standing.remove(name) == Some(Turn::Again) {
            // It was counted when it was added.
            self.standing.insert(name.clone(), Turn::Waiting);
            self.line_up(name.clone());
        }
    }

    /// Counts a pass that has to be repeated.
    pub(crate) fn retries(&self) {
        self.meter.retry();
    }

    /// Sets the wake-up of an object, and replaces the one set before.
    pub(crate) fn wake(&mut self, name: ObjectRef<K>, after: Duration) {
        self.forget_wake(&name);
        let name = Arc::new(name);
        self.wakes.insert(name.clone(), self.later.insert(name, after));
    }

    fn forget_wake(&mut self, name: &ObjectRef<K>) {
        if let Some(key) = self.wakes.remove(name) {
            self.later.remove(&key);
        }
    }

    /// True if an object waits for its pass, or if its pass is running.
    pub(crate) fn knows(&self, name: &ObjectRef<K>) -> bool {
        self.standing.contains_key(name)
    }

    /// Waits until a wake-up is due, and adds its object. If this future is dropped early, it has added no object.
    pub(crate) async fn due(&mut self) -> Option<()> {
        let name = self.later.next().await?.into_inner();
        self.wakes.remove(&name);
        self.add(Arc::unwrap_or_clone(name));
        Some(())
    }
}

impl<K: Resource<DynamicType = ()>> Line<K> {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), under_way: 0 }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::outside::metrics::Metrics;
    use futures::FutureExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::{collection::vec, prelude::*};

    const PLACES: usize = 16;

    fn meter() -> QueueMeter {
        Metrics::default().queue("ConfigMap", "")
    }

    fn name(namespace: &str, name: usize) -> ObjectRef<ConfigMap> {
        ObjectRef::new(&name.to_string()).within(namespace)
    }

    /// A queue with this number of waiting objects in each namespace.
    fn queue(waiting: &[(&str, usize)]) -> Queue<ConfigMap> {
        let mut queue = Queue::new(PLACES, meter());
        for (namespace, count) in waiting {
            (0..*count).for_each(|nth| queue.add(name(namespace, nth)));
        }
        queue
    }

    /// Takes all places that can be taken.
    fn start(queue: &mut Queue<ConfigMap>) -> Vec<ObjectRef<ConfigMap>> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    fn counts(names: &[ObjectRef<ConfigMap>]) -> Vec<usize> {
        let of = |namespace: &str| names.iter().filter(|name| name.namespace.as_deref() == Some(namespace)).count();
        ["a", "b", "c"].map(of).into_iter().filter(|count| *count > 0).collect()
    }

    #[test]
    fn a_namespace_alone_leaves_places_and_another_finds_one_at_once() {
        let mut queue = queue(&[("a", 1000)]);
        assert_eq!(counts(&start(&mut queue)), [12]);
        queue.add(name("b", 0));
        assert_eq!(queue.next(), Some(name("b", 0)), "ahead of 988");
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn namespaces_share_the_places_equally() {
        assert_eq!(counts(&start(&mut queue(&[("a", 1000), ("b", 100)]))), [7, 7]);
        assert_eq!(counts(&start(&mut queue(&[("a", 1000), ("b", 100), ("c", 2)]))), [6, 6, 2]);
        let many: Vec<_> = (0..100).map(|nth| nth.to_string()).collect();
        let one_each: Vec<_> = many.iter().map(|namespace| (namespace.as_str(), 3)).collect();
        let mut queue = queue(&one_each);
        let begun = start(&mut queue);
        assert_eq!(begun.len(), PLACES);
        assert!(begun.iter().all(|begun| begun.name == "0"), "one of each");
        queue.done(&begun[0]);
        assert_eq!(queue.next(), Some(name("16", 0)), "the one that waits longest");
    }

    #[test]
    fn who_comes_first_is_served_first_within_a_namespace_and_turns_go_round() {
        let mut queue = Queue::new(1, meter());
        for (namespace, nth) in [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", 0)] {
            queue.add(name(namespace, nth));
        }
        let mut order = Vec::new();
        while let Some(next) = queue.next() {
            queue.done(&next);
            order.push(format!("{}{}", next.namespace.unwrap(), next.name));
        }
        assert_eq!(order, ["a0", "b0", "c0", "a1", "b1", "a2"]);
        assert!(
            queue.standing.is_empty() && queue.lines.is_empty() && queue.turns.is_empty(),
            "nothing is left behind"
        );
    }

    #[test]
    fn one_that_is_named_often_has_one_pass_and_one_more_if_it_was_under_way() {
        let mut queue = queue(&[("a", 1), ("a", 1)]);
        assert_eq!(queue.next(), Some(name("a", 0)));
        assert_eq!(queue.next(), None);
        queue.add(name("a", 0));
        queue.add(name("a", 0));
        assert_eq!(queue.next(), None, "a pass is under way");
        queue.done(&name("a", 0));
        assert_eq!(queue.next(), Some(name("a", 0)));
        queue.done(&name("a", 0));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn an_object_is_counted_as_added_once_for_each_of_its_passes() {
        let metrics = Metrics::default();
        let mut queue = Queue::<ConfigMap>::new(1, metrics.queue("ConfigMap", ""));
        let of = |sample: &str| {
            let (text, start) =
                (metrics.text(), format!("workqueue_{sample}{{name=\"configmap\",controller=\"configmap\"}} "));
            text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
        };
        let counts =
            || [of("adds_total"), of("depth"), of("queue_duration_seconds_count"), of("work_duration_seconds_count")];
        [0, 0, 1].into_iter().for_each(|nth| queue.add(name("a", nth)));
        assert_eq!(counts(), ["2", "2", "0", "0"]);
        assert_eq!(queue.next(), Some(name("a", 0)));
        [0, 0].into_iter().for_each(|nth| queue.add(name("a", nth)));
        assert_eq!(counts(), ["3", "1", "1", "0"]);
        queue.done(&name("a", 0));
        assert_eq!(counts(), ["3", "2", "1", "1"]);
        queue.retries();
        assert_eq!(of("retries_total"), "1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_comes_once_and_a_pass_before_it_takes_its_place() {
        let second = Duration::from_secs(1);
        let mut queue = queue(&[]);
        assert_eq!(queue.due().await, None, "nothing to wait for");
        queue.wake(name("a", 0), second * 5);
        queue.wake(name("a", 0), second * 2);
        tokio::time::advance(second * 3).await;
        assert_eq!(queue.due().await, Some(()));
        assert_eq!((queue.next(), queue.next()), (Some(name("a", 0)), None));
        assert_eq!(queue.due().await, None);
        queue.done(&name("a", 0));
        queue.wake(name("a", 0), second * 5);
        queue.add(name("a", 0));
        assert_eq!(queue.next(), Some(name("a", 0)));
        tokio::time::advance(second * 9).await;
        assert_eq!(queue.due().now_or_never(), Some(None), "that pass says when it is next");
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        /// In any order of additions and ends of passes, each object has one pass at a time. No object is forgotten,
        /// and no place is lost.
        #[test]
        fn nothing_is_forgotten_and_nothing_overlaps(steps in vec((0..4usize, 0..6usize, any::<bool>()), 0..200)) {
            let mut queue = Queue::new(4, meter());
            let mut under_way: Vec<ObjectRef<ConfigMap>> = Vec::new();
            let mut asked = HashSet::new();
            let check = |queue: &mut Queue<ConfigMap>, under_way: &mut Vec<_>, asked: &mut HashSet<_>| {
                while let Some(next) = queue.next() {
                    prop_assert!(!under_way.contains(&next) && asked.remove(&next));
                    under_way.push(next);
                    prop_assert!(under_way.len() <= 4);
                }
                Ok(())
            };
            for (namespace, nth, ends) in steps {
                if ends && !under_way.is_empty() {
                    queue.done(&under_way.remove(nth % under_way.len()));
                } else {
                    let name = name(["a", "b", "c", "d"][namespace], nth);
                    asked.insert(name.clone());
                    queue.add(name);
                }
                check(&mut queue, &mut under_way, &mut asked)?;
            }
            while let Some(name) = under_way.pop() {
                queue.done(&name);
                check(&mut queue, &mut under_way, &mut asked)?;
            }
            prop_assert!(asked.is_empty() && queue.standing.is_empty() && queue.lines.is_empty());
            prop_assert_eq!(queue.free, 4);
        }
    }
}
