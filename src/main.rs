//! The `tokenry` program.

use std::process::ExitCode;

/// The allocator of the C library is slow once lists of many objects have left its heap in pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Err(error) = tokenry::cli::main() else { return ExitCode::SUCCESS };
    error.told().iter().for_each(|told| tokenry::cli::complain(told));
    ExitCode::from(&error)
}
