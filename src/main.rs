//! The `tokenry` program.

fn main() -> std::process::ExitCode {
    tokenry::cli::main()
}
