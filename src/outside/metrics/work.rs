//! The metrics of controllers and of their queues. They have the names and meanings of controller-runtime and client-go
//! (`pkg/internal/controller/metrics` and `pkg/metrics/workqueue.go` of controller-runtime).

use std::sync::{Arc, Mutex};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use slab::Slab;
use std::sync::atomic::AtomicU64;

use super::{Metrics, told};
use crate::outside::latency::Stopwatch;

/// The helps of metrics that take several lines.
const REQUEUED: &str = "Passes over objects, by how they ended: success, requeue after an outdated view, or error";
const TIMES: &str = "Duration of passes";
const WAITS: &str = "Time of objects in the queue until their pass began";
const WORKS: &str = "Time from the begin of a pass until its place was free again";
const UNFINISHED: &str = "Age of all running passes together; it grows without end when a pass hangs";
const LONGEST: &str = "Age of the oldest running pass";
const RETRIES: &str = "Passes that follow a failed one, or one with an outdated view";

/// The bounds of durations of passes, in seconds. A pass ends after 30 s at the latest.
const PASS_BOUNDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// The bounds of times in a queue, in seconds.
const QUEUE_BOUNDS: [f64; 9] = [0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabels {
    controller: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    controller: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    name: String,
    controller: String,
}

/// A family of histograms.
type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassEnd {
    /// The pass is complete.
    Success,
    /// The pass read an old version of an object. Another pass follows at once. Nothing is wrong.
    Requeue,
    /// The pass failed, and is retried later.
    Error,
}

impl PassEnd {
    /// All ends, in their order.
    const ALL: [Self; 3] = [Self::Success, Self::Requeue, Self::Error];

    /// The value of the label `result`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Requeue => "requeue",
            Self::Error => "error",
        }
    }
}

/// The metrics of all controllers and queues.
pub(super) struct Work {
    ends: Family<EndLabels, Counter>,
    errors: Family<ControllerLabels, Counter>,
    times: Durations<ControllerLabels>,
    active: Family<ControllerLabels, Gauge>,
    places: Family<ControllerLabels, Gauge>,
    depth: Family<QueueLabels, Gauge>,
    adds: Family<QueueLabels, Counter>,
    waits: Durations<QueueLabels>,
    works: Durations<QueueLabels>,
    unfinished: Family<QueueLabels, Gauge<f64, AtomicU64>>,
    longest: Family<QueueLabels, Gauge<f64, AtomicU64>>,
    retries: Family<QueueLabels, Counter>,
}

impl Work {
    pub(super) fn new(all: &mut Registry) -> Self {
        let passes: fn() -> Histogram = || Histogram::new(PASS_BOUNDS);
        let queued: fn() -> Histogram = || Histogram::new(QUEUE_BOUNDS);
        Self {
            ends: told(all, "controller_runtime_reconcile", REQUEUED),
            errors: told(all, "controller_runtime_reconcile_errors", "Passes that failed"),
            times: timed(all, "controller_runtime_reconcile_time_seconds", TIMES, passes),
            active: told(all, "controller_runtime_active_workers", "Running passes"),
            places: told(all, "controller_runtime_max_concurrent_reconciles", "Passes that can run at the same time"),
            depth: told(all, "workqueue_depth", "Objects that wait for a pass"),
            adds: told(all, "workqueue_adds", "Objects that were added to the queue"),
            waits: timed(all, "workqueue_queue_duration_seconds", WAITS, queued),
            works: timed(all, "workqueue_work_duration_seconds", WORKS, queued),
            unfinished: told(all, "workqueue_unfinished_work_seconds", UNFINISHED),
            longest: told(all, "workqueue_longest_running_processor_seconds", LONGEST),
            retries: told(all, "workqueue_retries", RETRIES),
        }
    }
}

/// A family of histograms that `registry` tells of.
fn timed<L>(registry: &mut Registry, name: &str, help: &str, new: fn() -> Histogram) -> Durations<L>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
{
    let family = Family::new_with_constructor(new);
    registry.register(name, help, family.clone());
    family
}

impl Metrics {
    /// The metrics of the controller of a kind, which runs at most `places` passes at a time.
    pub fn controller(&self, kind: &str, places: usize) -> ControllerMeter {
        let (work, controller) = (&self.work, kind.to_lowercase());
        let labels = ControllerLabels { controller: controller.clone() };
        work.places.get_or_create(&labels).set(i64::try_from(places).unwrap_or(i64::MAX));
        let end = |end: PassEnd| EndLabels { controller: controller.clone(), result: end.as_str() };
        ControllerMeter {
            ends: PassEnd::ALL.map(|each| work.ends.get_or_create_owned(&end(each))),
            errors: work.errors.get_or_create_owned(&labels),
            times: work.times.get_or_create_owned(&labels),
            active: work.active.get_or_create_owned(&labels),
        }
    }

    /// The metrics of a queue of the controller of a kind. `suffix` tells the queues of one controller apart.
    pub fn queue(&self, kind: &str, suffix: &str) -> QueueMeter {
        let (work, controller) = (&self.work, kind.to_lowercase());
        let labels = QueueLabels { name: format!("{controller}{suffix}"), controller };
        let meter = QueueMeter {
            depth: work.depth.get_or_create_owned(&labels),
            adds: work.adds.get_or_create_owned(&labels),
            waits: work.waits.get_or_create_owned(&labels),
            works: work.works.get_or_create_owned(&labels),
            retries: work.retries.get_or_create_owned(&labels),
            running: Arc::default(),
        };
        let (unfinished, longest) =
            (work.unfinished.get_or_create_owned(&labels), work.longest.get_or_create_owned(&labels));
        let running = meter.running.clone();
        self.reads(move |_| {
            let running = running.lock().expect("nobody panics here");
            let ages = || running.iter().map(|(_, since)| since.elapsed().as_secs_f64());
            unfinished.set(ages().sum());
            longest.set(ages().fold(0.0, f64::max));
        });
        meter
    }
}

/// The metrics of one controller. Clones share their counts.
#[derive(Clone)]
pub struct ControllerMeter {
    ends: [Counter; 3],
    errors: Counter,
    times: Histogram,
    active: Gauge,
}

impl ControllerMeter {
    /// Counts a pass as running until the returned value is dropped.
    pub fn begin(&self) -> RunningPass {
        self.active.inc();
        RunningPass { meter: self.clone(), since: Stopwatch::start() }
    }
}

/// A running pass, for the metrics of its controller.
pub struct RunningPass {
    meter: ControllerMeter,
    since: Stopwatch,
}

impl RunningPass {
    /// Counts the end of the pass, with its duration.
    pub fn end(self, end: PassEnd) {
        self.meter.ends[end as usize].inc();
        if end == PassEnd::Error {
            self.meter.errors.inc();
        }
        self.meter.times.observe(self.since.elapsed().as_secs_f64());
    }
}

impl Drop for RunningPass {
    fn drop(&mut self) {
        self.meter.active.dec();
    }
}

/// The metrics of one queue. Clones share their counts.
#[derive(Clone)]
pub struct QueueMeter {
    depth: Gauge,
    adds: Counter,
    waits: Histogram,
    works: Histogram,
    retries: Counter,
    running: Arc<Mutex<Slab<Stopwatch>>>,
}

impl QueueMeter {
    /// Counts an object that was added. An object that waits already is not added again.
    pub fn add(&self) {
        self.adds.inc();
    }

    /// Counts an object that waits from now on. The returned value measures its wait.
    pub fn wait(&self) -> Stopwatch {
        self.depth.inc();
        Stopwatch::start()
    }

    /// Counts an object that waits no more, and whose pass is running until the returned value is dropped.
    pub fn take(&self, waited: Stopwatch) -> Processing {
        self.depth.dec();
        self.waits.observe(waited.elapsed().as_secs_f64());
        let key = self.running.lock().expect("nobody panics here").insert(Stopwatch::start());
        Processing { meter: self.clone(), key }
    }

    /// Counts a pass that has to be repeated.
    pub fn retry(&self) {
        self.retries.inc();
    }
}

/// An object whose pass is running, for the metrics of its queue.
pub struct Processing {
    meter: QueueMeter,
    key: usize,
}

impl Drop for Processing {
    fn drop(&mut self) {
        let since = self.meter.running.lock().expect("nobody panics here").remove(self.key);
        self.meter.works.observe(since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of a sample.
    fn number(text: &str, sample: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{sample} is missing from\n{text}")).parse().unwrap()
    }

    #[test]
    fn passes_are_counted_by_their_end_and_while_they_run() {
        let metrics = Metrics::default();
        let meter = metrics.controller("ApiToken", 17);
        let of = |name: &str| number(&metrics.text(), &format!("controller_runtime_{name}"));
        let running = [meter.begin(), meter.begin(), meter.begin()];
        assert_eq!(of(r#"active_workers{controller="apitoken"}"#), 3.0);
        running.into_iter().zip(PassEnd::ALL).for_each(|(pass, end)| pass.end(end));
        drop(meter.begin());
        assert_eq!(of(r#"active_workers{controller="apitoken"}"#), 0.0);
        for result in ["success", "requeue", "error"] {
            let sample = format!(r#"reconcile_total{{controller="apitoken",result="{result}"}}"#);
            assert_eq!(of(&sample), 1.0, "{result}; one that was aborted has no result");
        }
        assert_eq!(of(r#"reconcile_errors_total{controller="apitoken"}"#), 1.0);
        assert_eq!(of(r#"reconcile_time_seconds_count{controller="apitoken"}"#), 3.0);
        assert_eq!(of(r#"max_concurrent_reconciles{controller="apitoken"}"#), 17.0);
    }

    #[test]
    fn a_queue_is_measured_from_the_addition_to_the_end_of_the_pass() {
        let metrics = Metrics::default();
        let (usual, costly) = (metrics.queue("ApiToken", ""), metrics.queue("ApiToken", "-costly"));
        let of = |name: &str| number(&metrics.text(), &format!("workqueue_{name}"));
        let labels = r#"{name="apitoken",controller="apitoken"}"#;
        usual.add();
        usual.retry();
        let waits = [usual.wait(), usual.wait()];
        costly.add();
        assert_eq!((of(&format!("depth{labels}")), of(&format!("adds_total{labels}"))), (2.0, 1.0));
        assert_eq!(of(r#"adds_total{name="apitoken-costly",controller="apitoken"}"#), 1.0);
        let running = waits.map(|waited| usual.take(waited));
        assert_eq!(of(&format!("depth{labels}")), 0.0);
        assert_eq!(of(&format!("queue_duration_seconds_count{labels}")), 2.0);
        let text = metrics.text();
        let [all, oldest] = ["unfinished_work_seconds", "longest_running_processor_seconds"]
            .map(|name| number(&text, &format!("workqueue_{name}{labels}")));
        assert!(all > oldest && oldest > 0.0, "{all} {oldest}");
        drop(running);
        assert_eq!(of(&format!("unfinished_work_seconds{labels}")), 0.0);
        assert_eq!(of(&format!("longest_running_processor_seconds{labels}")), 0.0);
        assert_eq!(of(&format!("work_duration_seconds_count{labels}")), 2.0);
        assert_eq!(of(&format!("retries_total{labels}")), 1.0);
    }
}
