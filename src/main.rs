//! The `tokenry` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Err(error) = tokenry::cli::main() else { return ExitCode::SUCCESS };
    error.told().iter().for_each(|told| tokenry::cli::complain(told));
    ExitCode::from(&error)
}
