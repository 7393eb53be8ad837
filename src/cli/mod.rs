//! The command line: `tokenry operator`, `tokenry verifier`, `tokenry crds`,
//! `tokenry admission`, `tokenry explain`.

mod admission;
mod client;
mod crds;
mod error;
mod explain;
mod operator;
mod output;
mod verifier;

use std::str::FromStr;

use crate::outside::{
    Address, Extent, Taken,
    telemetry::{self, Format},
};
use clap::{Args, Parser, Subcommand};

pub use error::Error;
pub use output::complain;

/// Issues, delivers, rotates and revokes API access tokens, the Kubernetes way.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true, after_help = error::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator: mints, delivers, rotates and takes away tokens
    Operator(Common),
    /// Run the verifier: judges the tokens that callers present
    Verifier(verifier::Verifier),
    /// Print the CustomResourceDefinitions, or write one file for each into a directory
    Crds(crds::Crds),
    /// Print the admission policies, which say who may write what
    Admission(admission::Admission),
    /// Say why a token may or may not make a request, and which object says so
    Explain(explain::Explain),
}

/// What the processes that run in a cluster share.
#[derive(Args)]
struct Common {
    /// Address to serve at, IP:PORT or :PORT; [::] is every address of IPv6 and IPv4; port 0 takes a free one, which is
    /// printed
    #[arg(long, env = "TOKENRY_LISTEN", default_value = "[::]:8080")]
    listen: Address,
    /// Address to serve /healthz, /readyz and /metrics at, likewise; off: nowhere
    #[arg(long, env = "TOKENRY_PROBES", default_value = "[::]:8081", value_name = "ADDRESS|off")]
    probes: Probes,
    /// The one namespace to look at; left out: all of them
    #[arg(long, env = "TOKENRY_NAMESPACE")]
    namespace: Option<String>,
    /// What to log: off, error, warn, info, debug or trace, or filter directives such as tokenry=debug,info
    #[arg(long, env = "TOKENRY_LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// How to log
    #[arg(long, env = "TOKENRY_LOG_FORMAT", default_value = "json")]
    log_format: Format,
}

impl Common {
    fn scope(&self) -> Extent {
        let named = self.namespace.clone().filter(|name| !name.is_empty());
        named.map_or(Extent::Cluster, Extent::Namespace)
    }

    /// Takes the addresses to serve and to be probed at.
    fn take(&self) -> Result<(Taken, Option<Taken>), Error> {
        let take = |address: Address, flag| address.take(flag).map_err(|error| Error::Local(error.to_string()));
        let Probes(probes) = self.probes;
        Ok((take(self.listen, "--listen")?, probes.map(|address| take(address, "--probes")).transpose()?))
    }

    fn log(&self) -> Result<(), Error> {
        telemetry::log(&self.log_level, self.log_format).map_err(Error::Usage)
    }
}

/// Where a process is probed, if anywhere.
#[derive(Clone, Copy)]
struct Probes(Option<Address>);

impl FromStr for Probes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|error: String| format!("{error}, or off"))
    }
}

/// Reads the command line and does what it says.
///
/// # Errors
/// It was not done.
pub fn main() -> Result<(), Error> {
    match Cli::parse().command {
        Command::Operator(common) => operator::main(&common),
        Command::Verifier(verifier) => verifier.main(),
        Command::Crds(crds) => crds.main(),
        Command::Admission(admission) => admission.main(),
        Command::Explain(explain) => explain.main(),
    }
}
