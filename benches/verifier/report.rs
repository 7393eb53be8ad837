//! The table of the answers over HTTP.

use std::{fmt, time::Duration};

/// Sum of the turns of one load.
#[derive(Default)]
pub struct Sum {
    times: Vec<Duration>,
    cpu: f64,
    took: Duration,
}

impl Sum {
    /// Adds a turn: the times of its answers, the server's CPU in seconds, and its duration.
    pub fn add(&mut self, times: Vec<Duration>, cpu: f64, took: Duration) {
        self.times.extend(times);
        self.cpu += cpu;
        self.took += took;
    }

    /// CPU of the server, in microseconds per answer.
    pub fn cpu(&self) -> f64 {
        self.cpu * 1e6 / self.times.len() as f64
    }

    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }

    /// Microseconds that this share of the answers did not exceed (nearest rank).
    fn quantile(&mut self, share: f64) -> f64 {
        let rank = (self.times.len() as f64 * share).ceil() as usize;
        let (_, time, _) = self.times.select_nth_unstable(rank.saturating_sub(1));
        time.as_secs_f64() * 1e6
    }
}

/// A line of the table.
pub struct Line {
    pub name: String,
    pub sum: Sum,
    /// The line of the server that judges nothing, by the same protocol: its position.
    pub no_op: usize,
    /// Maximum CPU, compared with another line: its position, and the ratio.
    pub target: Option<(usize, f64)>,
}

/// Maximum resident memory of a verifier per token, in KiB.
const MEMORY: f64 = 0.75;

/// The table.
pub struct Table {
    pub lines: Vec<Line>,
    /// Growth of a verifier's resident memory by one token with its account, in bytes. `None` if it was not measured.
    pub grown: Option<f64>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<52}{:>8}{:>7}{:>9}{:>8}{:>8}{:>8}", "", "CPU µs", "ratio", "per s", "p50 µs", "p99", "p99.9")?;
        let cpu: Vec<_> = self.lines.iter().map(|line| line.sum.cpu()).collect();
        for (line, own) in self.lines.iter().zip(&cpu) {
            let missed = line.target.is_some_and(|(of, most)| own / cpu[of] > most);
            let mut sum = Sum { times: line.sum.times.clone(), ..Sum::default() };
            write!(f, "{:<52}{own:>8.1}{:>6.2}{}", line.name, own / cpu[line.no_op], if missed { "!" } else { " " })?;
            write!(f, "{:>9.0}", line.sum.rate())?;
            writeln!(f, "{:>8.0}{:>8.0}{:>8.0}", sum.quantile(0.5), sum.quantile(0.99), sum.quantile(0.999))?;
        }
        if let Some(kib) = self.grown.map(|bytes| bytes / 1024.0) {
            let missed = if kib > MEMORY { "!" } else { "" };
            writeln!(f, "{:<52}{kib:>8.2} KiB{missed}", "memory of the process, for a token and its account")?;
        }
        Ok(())
    }
}
