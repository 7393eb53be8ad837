//! `cargo bench --bench verifier`: the cost of an answer.
//!
//! Over HTTP, verifiers are compared with a server of the same stack that judges nothing. Each server is a process of
//! its own, and all take turns in one run. Their objects come from a source on this machine. In memory, a judgement is
//! compared with hashing a value.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "nobody builds on a benchmark"
)]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#[cfg(not(target_os = "linux"))]
compile_error!("the benchmark reads /proc: it runs on Linux only");

mod answering;
mod grpc;
mod hearing;
mod judging;
mod load;
mod memory;
mod objects;
mod report;
mod served;
mod source;

use std::{error::Error, process::ExitCode};

use clap::Parser;
use tokenry::outside::Address;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The result of a step of the benchmark.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Measures verifiers beside a server that judges nothing.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench verifier --")]
struct Options {
    /// Number of turns of each load
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Measure only loads whose name contains this text, beside the no-op server
    #[arg(long, default_value = "")]
    only: String,
    /// Measure instead, against a real API server, the start and the revocations among this number of tokens; 0: off
    #[arg(long, default_value_t = 0, value_name = "TOKENS")]
    api_server: usize,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as the server that judges nothing
    #[arg(long, hide = true, requires = "address")]
    no_op: bool,
    /// Run as the bare client that lists all objects
    #[arg(long, hide = true)]
    bare_list: bool,
    /// Address of the server that judges nothing
    #[arg(long, hide = true)]
    address: Option<Address>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome {
    if let Some(address) = options.address {
        return served::no_op(address);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if options.bare_list {
        return runtime.block_on(hearing::list());
    }
    if options.api_server > 0 {
        print!("{}", runtime.block_on(hearing::measure(options.api_server))?);
        return Ok(());
    }
    if options.only.is_empty() {
        // The memory is measured first, because the allocator could reuse freed memory later.
        memory::report();
        judging::report();
    }
    print!("{}", runtime.block_on(answering::measure(options.rounds, &options.only))?);
    Ok(())
}
