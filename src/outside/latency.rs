//! A histogram of durations that takes no lock.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// The upper bounds of the buckets, in microseconds. A verdict takes some 10 µs, and waits for news up to a second.
const BOUNDS: [u64; 14] =
    [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 25_000, 100_000, 500_000, 1_000_000, 2_500_000];

/// A histogram of durations. Clones share its counts.
#[derive(Clone, Debug, Default)]
pub struct Latency(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The number of durations up to each bound and above the bound before it. The last one is of those above all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Latency {
    /// Counts a duration.
    pub fn count(&self, duration: Duration) {
        let at = BOUNDS.partition_point(|&bound| Duration::from_micros(bound) < duration);
        self.0.buckets[at].fetch_add(1, Relaxed);
        self.0.nanoseconds.fetch_add(duration.as_nanos() as u64, Relaxed);
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = BOUNDS.iter().map(|&bound| Duration::from_micros(bound).as_secs_f64()).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.0.buckets.iter().map(|count| count.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.0.nanoseconds.load(Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Measures a duration by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// A stopwatch that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since its beginning.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    #[test]
    fn a_duration_is_in_the_buckets_of_all_bounds_that_it_does_not_exceed() {
        let (mut registry, latency) = (Registry::default(), Latency::default());
        registry.register("wait", "Waits", latency.clone());
        for microseconds in [0, 10, 11, 1_000_000, 3_000_000] {
            latency.count(Duration::from_micros(microseconds));
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE wait histogram",
            "wait_sum 4.000021",
            "wait_count 5",
            r#"wait_bucket{le="0.00001"} 2"#,
            r#"wait_bucket{le="0.000025"} 3"#,
            r#"wait_bucket{le="0.5"} 3"#,
            r#"wait_bucket{le="1.0"} 4"#,
            r#"wait_bucket{le="2.5"} 4"#,
            r#"wait_bucket{le="+Inf"} 5"#,
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing from\n{text}");
        }
    }
}
