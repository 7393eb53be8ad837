//! The table.

use std::{collections::BTreeMap, fmt};

use controlplane::AuditEvent;

use crate::readings::{Cpu, Latencies, Rounds};

/// What was measured: of the operator first, of the bare client second.
pub struct Report {
    /// Tokens of a side that were created at once.
    pub tokens: usize,
    /// Tokens of a side that `audit` is about.
    pub counted: usize,
    pub rounds: [Rounds; 2],
    pub paced: [Latencies; 2],
    /// Bytes of memory that came with the tokens created at once.
    pub grown: [f64; 2],
    /// What was asked of the API server in the side's namespace.
    pub audit: [Vec<AuditEvent>; 2],
}

/// The most that a ratio may be.
const TIME: f64 = 1.2;
const CPU: f64 = 1.3;
const P99: f64 = 1.5;
/// Object writes and Events for a token.
const WRITES: f64 = 3.0;
const EVENTS: f64 = 1.0;

impl Report {
    /// Whether each token took as many writes and Events as it may, and no request was refused. This
    /// does not depend on the machine.
    pub fn writes_hold(&self) -> bool {
        let [operator, _] = self.writes();
        operator == WRITES && self.events()[0] <= EVENTS && self.refused() == [0, 0]
    }

    fn writes(&self) -> [f64; 2] {
        self.per_token(|event| is_write(event) && event.resource != "events")
    }

    fn events(&self) -> [f64; 2] {
        self.per_token(|event| is_write(event) && event.resource == "events")
    }

    fn per_token(&self, of: impl Fn(&AuditEvent) -> bool) -> [f64; 2] {
        self.audit.each_ref().map(|audit| audit.iter().filter(|event| of(event)).count() as f64 / self.counted as f64)
    }

    fn refused(&self) -> [usize; 2] {
        self.audit.each_ref().map(|audit| audit.iter().filter(|event| event.code >= 400 && event.code != 404).count())
    }

    /// What was asked for, by verb and kind.
    fn requests(&self) -> BTreeMap<String, [f64; 2]> {
        let mut requests: BTreeMap<String, [f64; 2]> = BTreeMap::new();
        for (side, audit) in self.audit.iter().enumerate() {
            for event in audit.iter().filter(|event| event.verb != "watch" && event.verb != "list") {
                let slash = if event.subresource.is_empty() { "" } else { "/" };
                let what = format!("{} {}{slash}{}", event.verb, event.resource, event.subresource);
                requests.entry(what).or_default()[side] += 1.0 / self.counted as f64;
            }
        }
        requests
    }
}

fn is_write(event: &AuditEvent) -> bool {
    ["create", "update", "patch", "delete"].contains(&event.verb.as_str())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.tokens;
        writeln!(
            f,
            "\n| {:<38} | operator |     bare | ratio | target |",
            format!("{tokens} tokens at once, for each token")
        )?;
        writeln!(f, "|{:-<40}|---------:|---------:|------:|-------:|", "")?;
        let times = self.rounds.each_ref().map(Rounds::time);
        line(f, "time until Ready, ms", times, Some(TIME))?;
        let cpu = |part: fn(&Cpu) -> f64| self.rounds.each_ref().map(|rounds| rounds.cpu(part));
        line(f, "CPU, ms", cpu(Cpu::all), Some(CPU))?;
        line(f, "- of operator, or bare client", cpu(|cpu| cpu.writer), None)?;
        line(f, "- of kube-apiserver", cpu(|cpu| cpu.api_server), None)?;
        line(f, "- of etcd", cpu(|cpu| cpu.etcd), None)?;
        line(f, "memory, KiB", self.grown.map(|bytes| bytes / 1024.0 / tokens as f64), None)?;
        section(f, "at ten tokens a second")?;
        line(f, "p50 until Ready, ms", self.paced.each_ref().map(|paced| paced.quantile(0.5)), None)?;
        line(f, "p99 until Ready, ms", self.paced.each_ref().map(|paced| paced.quantile(0.99)), Some(P99))?;
        section(f, "requests for each token (audit log)")?;
        count(f, "writes of objects", self.writes(), Some(WRITES))?;
        count(f, "Events", self.events(), Some(EVENTS))?;
        for (what, counts) in self.requests() {
            count(f, &format!("- {what}"), counts, None)?;
        }
        count(f, "refused, of all", self.refused().map(|refused| refused as f64), Some(0.0))
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    writeln!(f, "| {title:<38} |          |          |       |        |")
}

/// A measured value of each side, with the ratio, which should be at most `target`.
fn line(f: &mut fmt::Formatter<'_>, what: &str, [operator, bare]: [f64; 2], target: Option<f64>) -> fmt::Result {
    let ratio = operator / bare;
    let target = target.map(|most| format!("≤ {most}{}", if ratio <= most { "" } else { " !" })).unwrap_or_default();
    writeln!(f, "| {what:<38} | {operator:>8.2} | {bare:>8.2} | {ratio:>5.2} | {target:>6} |")
}

/// A counted value of each side, of which the operator's should be at most `target`.
fn count(f: &mut fmt::Formatter<'_>, what: &str, [operator, bare]: [f64; 2], target: Option<f64>) -> fmt::Result {
    let target = target.map(|most| format!("≤ {most}{}", if operator <= most { "" } else { " !" })).unwrap_or_default();
    writeln!(f, "| {what:<38} | {operator:>8.2} | {bare:>8.2} |       | {target:>6} |")
}
