//! Logs, to standard error.

use std::{io::IsTerminal, str::FromStr};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, Layer, filter, layer::SubscriberExt, util::SubscriberInitExt};

/// The modules of the client library that log whole replies of the API server, Secrets among them, when they cannot be
/// read, and each of its failures. They are silent at every level; what they would say of failures, we say ourselves
/// without quoting, once.
const SILENT: [&str; 2] = ["kube_client::client", "kube_runtime::watcher"];

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Starts to log. `level` is a level such as `info`, or filter directives as of tracing's `EnvFilter`.
///
/// # Errors
/// `level` is no filter.
pub fn log(level: &str, format: Format) -> Result<(), String> {
    let filter = EnvFilter::from_str(level).map_err(|error| format!("--log-level {level}: {error}"))?;
    let silent = filter::filter_fn(|metadata| !SILENT.iter().any(|module| metadata.target().starts_with(module)));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => lines.boxed(),
    };
    // A second start, as tests do in one process, keeps the first.
    let _ = tracing_subscriber::registry().with(lines.with_filter(silent)).with(filter).try_init();
    Ok(())
}
