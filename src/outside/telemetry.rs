//! Logs, to standard error.

use std::{io::IsTerminal, str::FromStr};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, Layer, filter, layer::SubscriberExt, util::SubscriberInitExt};

/// Modules of the client library that are silenced at every level. They log whole replies that cannot be parsed,
/// Secrets included. This program logs their failures itself, once and without quoting replies.
const SILENT: [&str; 2] = ["kube_client::client", "kube_runtime::watcher"];

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// Plain text.
    Text,
}

/// Starts logging. `level` is a level such as `info`, or filter directives of tracing's `EnvFilter`.
///
/// # Errors
/// `level` is not a valid filter.
pub fn log(level: &str, format: Format) -> Result<(), String> {
    let filter = EnvFilter::from_str(level).map_err(|error| format!("--log-level {level}: {error}"))?;
    let silent = filter::filter_fn(|metadata| !SILENT.iter().any(|module| metadata.target().starts_with(module)));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => lines.boxed(),
    };
    // A second call, as in tests within one process, has no effect.
    let _ = tracing_subscriber::registry().with(lines.with_filter(silent)).with(filter).try_init();
    Ok(())
}
