//! `cargo bench --bench operator`: the cost of a token. The operator is compared with two bare clients. One does the
//! same three writes. The other does three writes to a small kind.
//!
//! All sides run against one real control plane, and take turns with equal numbers of tokens. All sides write with the
//! same permissions and the same concurrency, and are watched in the same way. All tokens act as one named account, so
//! that no account is created for them. A second part runs on another control plane: it measures the tokens of other
//! tenants beside a noisy neighbour.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "nobody builds on a benchmark"
)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark stands outside and measures real time"
)]

mod bare;
mod neighbour;
mod readings;
mod report;
mod scale;
mod side;
mod small;

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use controlplane::{AuditEvent, ControlPlane};

use readings::{Cpu, Latencies, Rounds};
use side::Side;

/// The result of a step of the benchmark.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Name of the Instance, and of the account of all tokens.
const NAME: &str = "bench";
/// The operator, the bare client, and the bare client of a small kind.
const SIDES: usize = 3;
/// Interval between paced tokens: ten tokens a second.
const PACE: Duration = Duration::from_millis(100);

/// Measures the operator beside a bare client that does the same three writes with no controller.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench operator --")]
struct Options {
    /// Tokens per side that are created at once, in rounds
    #[arg(long, default_value_t = 1000)]
    tokens: usize,
    /// Number of these rounds; the sides take turns
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Tokens per side that are created at ten a second
    #[arg(long, default_value_t = 400)]
    paced: usize,
    /// Tokens that are created at ten a second beside a noisy neighbour, and again without it; 0: skip this part
    #[arg(long, default_value_t = 200)]
    neighbour: usize,
    /// Measure only the operator's CPU and memory, for a tenth of this number of tokens and for all of them; 0: off
    #[arg(long, default_value_t = 0)]
    scale: usize,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as the bare client
    #[arg(long, hide = true)]
    bare: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.bare { bare::main().await.map(|()| true) } else { all(&options).await };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("benchmark: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All parts, one after the other.
async fn all(options: &Options) -> Outcome<bool> {
    if options.scale > 0 {
        let scales = [scale::measure(options.scale / 10).await?, scale::measure(options.scale).await?];
        print!("{}", report::Growth(scales));
        return Ok(true);
    }
    let holds = run(options).await?;
    if options.neighbour > 0 {
        print!("{}", report::Neighbour(neighbour::measure(options.neighbour).await?));
    }
    Ok(holds)
}

/// Measures and prints. Returns true if the values that do not depend on the machine meet their targets.
async fn run(options: &Options) -> Outcome<bool> {
    let (plane, operators) = side::stage()?;
    let operator = Side::operator(&plane, &operators, &["--namespace", side::OPERATOR]).await?;
    let bare = Side::bare(&plane, &operators, &operator).await?;
    let small = Side::small(&plane, &operators).await?;
    let mut sides = [operator, bare, small];
    let (since, start) = (plane.audit_from(0).1, Instant::now());

    let before = memory(&sides)?;
    let rounds = at_once(&plane, &mut sides, options).await?;
    let after = memory(&sides)?;
    let paced = paced(&mut sides, options.paced).await?;

    let (audit, _) = plane.audit_from(since);
    let of = |side: &Side| -> Vec<AuditEvent> {
        audit
            .iter()
            .filter(|event| event.user.ends_with(":tokenry-operator") && event.namespace == side.namespace)
            .filter(|event| !event.dry_run) // The operator's check for stamps.
            .cloned()
            .collect()
    };
    let report = report::Report {
        tokens: options.tokens,
        at_a_time: options.tokens.div_ceil(usize::from(options.rounds)),
        counted: options.tokens + options.paced,
        rounds,
        paced,
        grown: std::array::from_fn(|side| after[side] - before[side]),
        took: start.elapsed(),
        audit: sides.each_ref().map(of),
    };
    print!("{report}");
    Ok(report.writes_hold())
}

fn memory(sides: &[Side; SIDES]) -> Outcome<[f64; SIDES]> {
    let mut bytes = [0.0; SIDES];
    for (side, bytes) in sides.iter().zip(&mut bytes) {
        *bytes = side.memory()?;
    }
    Ok(bytes)
}

/// Time and CPU of tokens that are created all at once, in rounds. Each round begins with another side.
async fn at_once(plane: &ControlPlane, sides: &mut [Side; SIDES], options: &Options) -> Outcome<[Rounds; SIDES]> {
    let mut rounds = [const { Rounds::ZERO }; SIDES];
    let count = usize::from(options.rounds);
    for round in 0..count {
        eprintln!("round {} of {count} …", round + 1);
        let size = options.tokens * (round + 1) / count - options.tokens * round / count;
        for turn in (0..SIDES).map(|turn| (round + turn) % SIDES) {
            let side = &mut sides[turn];
            let first = side.rest().await.and_then(|()| Cpu::read(plane, side.pid))?;
            let took = side.issue_at_once(size).await?;
            side.rest().await?;
            rounds[turn].add(took, Cpu::read(plane, side.pid)? - first, size);
        }
    }
    Ok(rounds)
}

/// Time until Ready of tokens that are created at ten a second. The sides take turns of five seconds.
async fn paced(sides: &mut [Side; SIDES], tokens: usize) -> Outcome<[Latencies; SIDES]> {
    const SLICE: usize = 50;
    eprintln!("{tokens} tokens of each side at ten a second …");
    let mut latencies = [const { Latencies::NONE }; SIDES];
    let mut left = tokens;
    while left > 0 {
        let slice = left.min(SLICE);
        for (side, latencies) in sides.iter_mut().zip(&mut latencies) {
            latencies.extend(side.issue_paced(slice, PACE).await?);
        }
        left -= slice;
    }
    Ok(latencies)
}
