//! The metrics of the process itself, as the Prometheus clients of all languages name them
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

/// Reads the metrics of this process at each scrape. On systems other than Linux, there are none.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    #[cfg(target_os = "linux")]
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        linux::Sizes::read().map_or(Ok(()), |sizes| sizes.encode(encoder))
    }

    #[cfg(not(target_os = "linux"))]
    fn encode(&self, _: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt;

    use procfs::{
        ProcResult, boot_time_secs, page_size,
        process::{LimitValue, Process},
        ticks_per_second,
    };
    use prometheus_client::{
        encoding::{DescriptorEncoder, EncodeMetric},
        metrics::{counter::ConstCounter, gauge::ConstGauge},
    };

    /// Readings of `/proc/self`.
    pub(super) struct Sizes {
        cpu_seconds: f64,
        resident: u64,
        virtual_memory: u64,
        started: f64,
        descriptors: u64,
        most_descriptors: u64,
    }

    impl Sizes {
        /// The readings of now. `None` if `/proc` cannot be read.
        pub(super) fn read() -> Option<Self> {
            Self::of(&Process::myself().ok()?).ok()
        }

        fn of(process: &Process) -> ProcResult<Self> {
            let (stat, ticks) = (process.stat()?, ticks_per_second() as f64);
            let most = match process.limits()?.max_open_files.soft_limit {
                LimitValue::Value(most) => most,
                LimitValue::Unlimited => u64::MAX,
            };
            Ok(Self {
                cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
                resident: stat.rss * page_size(),
                virtual_memory: stat.vsize,
                started: boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
                descriptors: process.fd_count()? as u64,
                most_descriptors: most,
            })
        }

        pub(super) fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            let cpu = ConstCounter::new(self.cpu_seconds);
            let help = "CPU time of the process, of user and system, in seconds.";
            cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
            for (name, help, value) in [
                (
                    "process_resident_memory_bytes",
                    "Memory of the process that is in RAM, in bytes.",
                    self.resident as f64,
                ),
                ("process_virtual_memory_bytes", "Address space of the process, in bytes.", self.virtual_memory as f64),
                ("process_start_time_seconds", "Start of the process, in Unix time.", self.started),
                ("process_open_fds", "Open file descriptors of the process.", self.descriptors as f64),
                ("process_max_fds", "Maximum number of open file descriptors.", self.most_descriptors as f64),
            ] {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
            Ok(())
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_readings_are_those_of_this_process() {
            let before = Sizes::read().unwrap();
            let held = vec![1_u8; 64 << 20];
            let file = std::fs::File::open("/proc/self/stat").unwrap();
            let after = Sizes::read().unwrap();
            assert!(after.resident >= before.resident + (48 << 20), "{} {}", before.resident, after.resident);
            assert!(after.virtual_memory > after.resident && after.cpu_seconds >= before.cpu_seconds);
            assert!(after.descriptors > 3 && after.most_descriptors >= after.descriptors);
            let age = jiff::Timestamp::now().as_second() as f64 - after.started;
            assert!((-2.0..86_400.0).contains(&age), "{age} s");
            drop((held, file));
        }
    }
}
