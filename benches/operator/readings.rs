//! Measurements on the machine: time, CPU and memory of processes.
#[cfg(not(target_os = "linux"))]
compile_error!("the benchmark reads /proc: it runs on Linux only");

use std::{ops::Sub, time::Duration};

use controlplane::ControlPlane;
use procfs::process::Process;

use crate::Outcome;

/// CPU time of the measured processes since their start, in seconds.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// The writer: the operator or a bare client.
    pub writer: f64,
    pub api_server: f64,
    pub etcd: f64,
}

impl Cpu {
    /// CPU time of the process `writer` and of the servers of `plane`.
    pub fn read(plane: &ControlPlane, writer: u32) -> Outcome<Self> {
        let server = |name| plane.server_pid(name).ok_or("a server has ended");
        Ok(Self {
            writer: seconds(writer)?,
            api_server: seconds(server("kube-apiserver")?)?,
            etcd: seconds(server("etcd")?)?,
        })
    }

    pub fn all(&self) -> f64 {
        self.writer + self.servers()
    }

    pub fn servers(&self) -> f64 {
        self.api_server + self.etcd
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            writer: self.writer - earlier.writer,
            api_server: self.api_server - earlier.api_server,
            etcd: self.etcd - earlier.etcd,
        }
    }
}

/// CPU time of a process since its start, in seconds.
pub fn seconds(pid: u32) -> Outcome<f64> {
    let stat = process(pid)?.stat()?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// Resident memory of a process, in bytes.
pub fn memory(pid: u32) -> Outcome<f64> {
    let kib = process(pid)?.status()?.vmrss.ok_or("a process has no resident memory")?;
    Ok(kib as f64 * 1024.0)
}

fn process(pid: u32) -> Outcome<Process> {
    Ok(Process::new(pid.cast_signed())?)
}

/// The sum of several rounds.
pub struct Rounds {
    time: Duration,
    cpu: Cpu,
    tokens: usize,
}

impl Rounds {
    pub const ZERO: Self =
        Self { time: Duration::ZERO, cpu: Cpu { writer: 0.0, api_server: 0.0, etcd: 0.0 }, tokens: 0 };

    pub fn add(&mut self, time: Duration, cpu: Cpu, tokens: usize) {
        self.time += time;
        let Cpu { writer, api_server, etcd } = cpu;
        self.cpu.writer += writer;
        self.cpu.api_server += api_server;
        self.cpu.etcd += etcd;
        self.tokens += tokens;
    }

    /// Milliseconds from the first creation to the last Ready, per token.
    pub fn time(&self) -> f64 {
        self.time.as_secs_f64() * 1e3 / self.tokens as f64
    }

    /// Milliseconds of CPU per token. `part` selects the processes.
    pub fn cpu(&self, part: impl Fn(&Cpu) -> f64) -> f64 {
        part(&self.cpu) * 1e3 / self.tokens as f64
    }
}

/// Times of single tokens from creation to Ready.
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub const NONE: Self = Self(Vec::new());

    pub fn extend(&mut self, more: Vec<Duration>) {
        self.0.extend(more);
        self.0.sort_unstable();
    }

    /// Milliseconds that this share of the tokens did not exceed (nearest rank). 0 without measurements.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}
