//! The tables of results.

use std::{collections::BTreeMap, fmt, time::Duration};

use controlplane::AuditEvent;

use crate::{
    SIDES,
    readings::{Cpu, Latencies, Rounds},
    scale::{Scale, exponent},
};

/// The measurements of each side: first the operator, then the bare client, last the bare client of the small kind.
pub struct Report {
    /// Tokens per side that were created at once.
    pub tokens: usize,
    /// Number of these tokens per round.
    pub at_a_time: usize,
    /// Tokens per side that `audit` covers.
    pub counted: usize,
    pub rounds: [Rounds; SIDES],
    pub paced: [Latencies; SIDES],
    /// Growth of memory during the creation at once, in bytes.
    pub grown: [f64; SIDES],
    /// The time that `audit` covers.
    pub took: Duration,
    /// Requests to the API server in the side's namespace.
    pub audit: [Vec<AuditEvent>; SIDES],
}

/// Time until Ready of other tenants' tokens: first beside a noisy neighbour, then without it.
pub struct Neighbour(pub [Latencies; 2]);

/// CPU of the operator for few tokens and for many.
pub struct Growth(pub [Scale; 2]);

/// Maximum ratios.
const TIME: f64 = 1.2;
const CPU: f64 = 1.3;
/// CPU of API server and etcd, compared with the small kind.
const SERVERS: f64 = 1.6;
const P99: f64 = 1.5;
const NEIGHBOUR: f64 = 3.0;
/// Maximum KiB of memory of the operator per token, with many tokens.
const MEMORY: f64 = 5.0;
/// Maximum exponent of the growth: the total cost may grow by this power of the number of tokens.
const EXPONENT: f64 = 1.05;
/// Maximum object writes and Events per token.
const WRITES: f64 = 3.0;
const EVENTS: f64 = 1.0;
/// Maximum writes per minute that update counts of tokens: one on the Instance, and one on the account.
const COUNTS: f64 = 2.0;

impl Report {
    /// True if the writes and Events per token are within their targets, and no request was refused. This does not
    /// depend on the machine.
    pub fn writes_hold(&self) -> bool {
        self.writes()[0] <= WRITES
            && self.counts()[0] <= COUNTS
            && self.events()[0] <= EVENTS
            && self.refused() == [0; SIDES]
    }

    fn writes(&self) -> [f64; SIDES] {
        self.per_token(|event| is_write(event) && event.resource != "events" && !is_count(event))
    }

    /// Writes per minute that update counts of tokens. A minute that has begun counts as a whole minute.
    fn counts(&self) -> [f64; SIDES] {
        let minutes = (self.took.as_secs_f64() / 60.0).ceil();
        self.audit.each_ref().map(|audit| audit.iter().filter(|event| is_count(event)).count() as f64 / minutes)
    }

    fn events(&self) -> [f64; SIDES] {
        self.per_token(|event| is_write(event) && event.resource == "events")
    }

    fn per_token(&self, of: impl Fn(&AuditEvent) -> bool) -> [f64; SIDES] {
        self.audit.each_ref().map(|audit| audit.iter().filter(|event| of(event)).count() as f64 / self.counted as f64)
    }

    fn refused(&self) -> [usize; SIDES] {
        self.audit.each_ref().map(|audit| audit.iter().filter(|event| event.code >= 400 && event.code != 404).count())
    }

    /// Requests per token, by verb and resource.
    fn requests(&self) -> BTreeMap<String, [f64; SIDES]> {
        let mut requests: BTreeMap<String, [f64; SIDES]> = BTreeMap::new();
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

fn is_count(event: &AuditEvent) -> bool {
    event.subresource == "status" && ["instances", "serviceaccounts"].contains(&&*event.resource)
}

fn is_write(event: &AuditEvent) -> bool {
    ["create", "update", "patch", "delete"].contains(&event.verb.as_str())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tokens, at_a_time) = (self.tokens, self.at_a_time);
        let title = format!("{tokens} tokens, {at_a_time} at once; for each");
        head(f, &title, ["operator", "bare", "small"])?;
        let of_rounds = |value: fn(&Rounds) -> f64| self.rounds.each_ref().map(value);
        line(f, "time until Ready, ms", of_rounds(Rounds::time), Target::Ratio(TIME))?;
        let cpu = |part: fn(&Cpu) -> f64| self.rounds.each_ref().map(|rounds| rounds.cpu(part));
        line(f, "CPU, ms", cpu(Cpu::all), Target::Ratio(CPU))?;
        line(f, "- of operator, or bare client", cpu(|cpu| cpu.writer), Target::None)?;
        line(f, "- of the servers", cpu(Cpu::servers), Target::ToLast(SERVERS))?;
        line(f, "  - of kube-apiserver", cpu(|cpu| cpu.api_server), Target::None)?;
        line(f, "  - of etcd", cpu(|cpu| cpu.etcd), Target::None)?;
        line(f, "memory, KiB", self.grown.map(|bytes| bytes / 1024.0 / tokens as f64), Target::None)?;
        section::<SIDES>(f, "at ten tokens a second")?;
        let quantile = |share| self.paced.each_ref().map(|paced| paced.quantile(share));
        line(f, "p50 until Ready, ms", quantile(0.5), Target::None)?;
        line(f, "p99 until Ready, ms", quantile(0.99), Target::Ratio(P99))?;
        section::<SIDES>(f, "requests for each token (audit log)")?;
        line(f, "writes of objects", self.writes(), Target::Value(WRITES))?;
        line(f, "Events", self.events(), Target::Value(EVENTS))?;
        line(f, "counts of tokens, a minute", self.counts(), Target::Value(COUNTS))?;
        for (what, counts) in self.requests() {
            line(f, &format!("- {what}"), counts, Target::None)?;
        }
        line(f, "refused, of all", self.refused().map(|refused| refused as f64), Target::Value(0.0))
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        head(f, "others' tokens, at ten a second", ["noisy", "quiet"])?;
        let quantile = |share| self.0.each_ref().map(|latencies| latencies.quantile(share));
        line(f, "p50 until Ready, ms", quantile(0.5), Target::Ratio(NEIGHBOUR))?;
        line(f, "p90 until Ready, ms", quantile(0.9), Target::Ratio(NEIGHBOUR))?;
        line(f, "p99 until Ready, ms", quantile(0.99), Target::None)
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.map(|scale| scale.tokens.to_string());
        head(f, "CPU of the operator for each token, ms", names.each_ref().map(String::as_str))?;
        let [made, started] = [self.0.map(|scale| scale.made), self.0.map(|scale| scale.started)];
        for (what, costs) in [("made", made), ("found at a start", started)] {
            line(f, what, costs, Target::None)?;
            let exponent = exponent(self.0.map(|scale| scale.tokens), costs);
            line(f, "- exponent of the growth", [exponent, 1.0], Target::Value(EXPONENT))?;
        }
        section::<2>(f, "memory of the operator, KiB")?;
        for (nth, what) in ["once all are made", "after a start"].into_iter().enumerate() {
            line(f, what, self.0.map(|scale| scale.held[nth]), Target::Last(MEMORY))?;
        }
        Ok(())
    }
}

/// The head of a table that compares the first name with each of the others.
fn head<const N: usize>(f: &mut fmt::Formatter<'_>, title: &str, names: [&str; N]) -> fmt::Result {
    let ratios = names[1..].iter().map(|name| format!("to {name}"));
    let cells: String =
        names.iter().map(ToString::to_string).chain(ratios).map(|cell| format!(" {cell:>8} |")).collect();
    writeln!(f, "\n| {title:<38} |{cells} target |")?;
    writeln!(f, "|{:-<40}|{}-------:|", "", "---------:|".repeat(2 * N - 1))
}

fn section<const N: usize>(f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    writeln!(f, "| {title:<38} |{}        |", "          |".repeat(2 * N - 1))
}

/// A maximum value.
enum Target {
    /// Maximum ratio of the first value to the second.
    Ratio(f64),
    /// Maximum ratio of the first value to the last.
    ToLast(f64),
    /// Maximum of the first value.
    Value(f64),
    /// Maximum of the last value.
    Last(f64),
    None,
}

/// A row of a table: one value per column, and the ratios of the first value to the others. A missed target is marked
/// with `!`.
fn line<const N: usize>(f: &mut fmt::Formatter<'_>, what: &str, values: [f64; N], target: Target) -> fmt::Result {
    let told = |value: f64, most: f64| format!("≤ {most}{}", if value <= most { "" } else { " !" });
    let target = match target {
        Target::Ratio(most) => told(values[0] / values[1], most),
        Target::ToLast(most) => told(values[0] / values[N - 1], most),
        Target::Value(most) => told(values[0], most),
        Target::Last(most) => told(values[N - 1], most),
        Target::None => String::new(),
    };
    let ratio = |other: &f64| if *other == 0.0 { "-".into() } else { format!("{:.2}", values[0] / other) };
    let cells = values.iter().map(|value| format!("{value:.2}")).chain(values[1..].iter().map(ratio));
    let cells: String = cells.map(|cell| format!(" {cell:>8} |")).collect();
    writeln!(f, "| {what:<38} |{cells} {target:>6} |")
}
