//! The command line. As `tokenry` it starts the programs and prints the objects of an installation. As
//! `kubectl tokenry` users keep their tokens with it.

mod admission;
mod advice;
mod check;
mod client;
mod completion;
mod connection;
mod crds;
mod denial;
mod docs;
mod error;
mod explain;
mod grant;
mod lacking;
mod lint;
mod monitoring;
mod names;
mod operator;
mod output;
mod reach;
mod sarif;
mod scan;
mod screen;
mod token;
mod unread;
mod verifier;
mod verify;
mod version;

use std::str::FromStr;

use crate::outside::{
    Address, Extent, Taken,
    lead::LeaseOrder,
    rights::Right,
    telemetry::{self, Format},
};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use error::Error;
pub use output::complain;

/// Issues, delivers, rotates and revokes API access tokens, the Kubernetes way.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true, after_help = error::EXIT_CODES, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create an ApiToken, wait for its value, and print the value alone on standard output
    #[command(after_help = "Example:\n  kubectl tokenry create ci --expires 30d")]
    Create(Box<token::create::Create>),
    /// List ApiTokens: valid or not, why, owner, role, end, rotation and last use
    #[command(after_help = "Example:\n  kubectl tokenry list --mine")]
    List(token::list::List),
    /// Show one page about an ApiToken: conditions, values, Secret, and the next events
    #[command(after_help = "Example:\n  kubectl tokenry status ci")]
    Status(token::status::Status),
    /// Print the value of an ApiToken
    #[command(after_help = "Example:\n  kubectl tokenry show ci")]
    Show(token::show::Show),
    /// Ask for a new value of ApiTokens, now or with a date for the end of the previous one
    #[command(after_help = "Example:\n  kubectl tokenry rotate ci --previous 2h --wait")]
    Rotate(token::rotate::Rotate),
    /// Explain why a request with a token is allowed or refused, and which objects decide it
    #[command(after_help = "Example:\n  kubectl tokenry explain ci --method POST --path /orders")]
    Explain(explain::Explain),
    /// Suspend ApiTokens: their requests are refused until they are resumed
    #[command(after_help = "Example:\n  kubectl tokenry suspend ci")]
    Suspend(token::end::Suspend),
    /// Resume suspended ApiTokens
    #[command(after_help = "Example:\n  kubectl tokenry resume ci")]
    Resume(token::end::Resume),
    /// Revoke ApiTokens, for good
    #[command(after_help = "Example:\n  kubectl tokenry revoke ci --reason Compromised")]
    Revoke(token::end::Revoke),
    /// Delete an ApiToken or an account, for good
    #[command(after_help = "Example:\n  kubectl tokenry delete ci")]
    Delete(token::delete::Delete),
    /// Show the effects of a rotation, a suspension, a revocation or a deletion, before it is done
    #[command(after_help = "Example:\n  kubectl tokenry plan rotate ci")]
    Plan(token::plan::Planning),
    /// Change the role, description, projects, policies or display name of an ApiToken
    #[command(after_help = "Example:\n  kubectl tokenry set role ci viewer")]
    Set(token::set::SetField),
    /// Give an ApiToken to another owner
    #[command(after_help = "Example:\n  kubectl tokenry transfer ci --to user:bob@example.com")]
    Transfer(token::set::Transfer),
    /// Print the Role and RoleBinding by which a user may create or read tokens, give a role, name an owner, or revoke
    #[command(after_help = "Example:\n  kubectl tokenry grant user:bob@example.com --create --apply")]
    Grant(grant::GrantRole),
    /// Judge a value from standard input, as the verifier would
    #[command(after_help = "Example:\n  kubectl tokenry verify < token.txt")]
    Verify(verify::Verify),
    /// Find the faults of manifests, without a cluster: for CI and Git hooks
    #[command(after_help = "Example:\n  kubectl tokenry lint deploy")]
    Lint(lint::Lint),
    /// Find tokens in files, without a cluster: by their form and their checksum
    #[command(after_help = "Example:\n  kubectl tokenry scan .")]
    Scan(scan::Scan),
    /// Check the installation, or a cluster before it: versions, definitions, policies, rights, operator and verifiers
    #[command(after_help = "Example:\n  kubectl tokenry check --wait 5m")]
    Check(check::Checkup),
    /// Print the versions of this program, of operator and verifier, and of the kinds
    #[command(after_help = "Example:\n  kubectl tokenry version")]
    Version(version::VersionArgs),
    /// Print a page of the documentation, or the list of pages
    #[command(after_help = "Example:\n  kubectl tokenry docs rotate")]
    Docs(docs::Docs),
    /// Print a script that completes commands and flags in a shell
    Completion(completion::Completion),
    /// Run the operator, which issues, delivers, rotates and revokes tokens
    #[command(after_help = "Example:\n  tokenry operator --log-format text")]
    Operator(operator::Operator),
    /// Run the verifier, which judges the tokens that callers present
    #[command(after_help = "Example:\n  tokenry verifier --log-format text")]
    Verifier(verifier::Verifier),
    /// Print the CustomResourceDefinitions, or write one file per kind into a directory
    #[command(after_help = "Example:\n  tokenry crds --dir crds")]
    Crds(crds::Crds),
    /// Print the admission policies, which decide which user may write which field
    #[command(after_help = "Example:\n  tokenry admission --namespaces team=shop")]
    Admission(admission::Admission),
    /// Ask for a URL until it answers with a status, for tests of an installation
    #[command(after_help = "Example:\n  tokenry reach http://localhost:8081/readyz")]
    Reach(reach::ReachUrl),
}

/// Options that the operator and the verifier share.
#[derive(Args)]
struct Common {
    /// Address to listen at, IP:PORT or :PORT; [::] means all IPv6 and IPv4 addresses; port 0 takes a free port, which
    /// is logged
    #[arg(long, env = "TOKENRY_LISTEN", default_value = "[::]:8080")]
    listen: Address,
    /// Address of /healthz, /readyz and /metrics, in the same form; off: do not serve them
    #[arg(long, env = "TOKENRY_PROBES", default_value = "[::]:8081", value_name = "ADDRESS|off")]
    probes: Probes,
    /// Namespaces to watch, and no others: separated by commas, or the flag several times; default: all namespaces
    #[arg(long, env = "TOKENRY_NAMESPACE")]
    namespace: Vec<NamespaceList>,
    /// Log level: off, error, warn, info, debug or trace; or a list with levels of modules, such as info,tokenry=debug
    #[arg(long, env = "TOKENRY_LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// Format of log lines: json or text
    #[arg(long, env = "TOKENRY_LOG_FORMAT", default_value = "json")]
    log_format: Format,
    #[command(flatten)]
    monitoring: monitoring::Monitoring,
}

/// The names in one value of `--namespace`. None: all namespaces.
#[derive(Clone, Debug)]
struct NamespaceList(Vec<String>);

impl FromStr for NamespaceList {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
        // Commas alone are a list that somebody left empty by mistake. They must not mean all namespaces.
        match names.iter().filter(|name| name.is_empty()).count() {
            0 => Ok(Self(names)),
            _ if text.is_empty() => Ok(Self(Vec::new())),
            _ => Err("name a namespace before and after each comma"),
        }
    }
}

impl Common {
    fn scope(&self) -> Extent {
        Extent::of(self.namespace.iter().flat_map(|list| &list.0))
    }

    /// Binds the main address.
    fn serving(&self) -> Result<Taken, Error> {
        take(self.listen, "--listen")
    }

    /// Binds the address of the probes, if there are any.
    fn probes(&self) -> Result<Option<Taken>, Error> {
        self.probes.0.map(|address| take(address, "--probes")).transpose()
    }

    fn log(&self) -> Result<(), Error> {
        telemetry::log(&self.log_level, self.log_format).map_err(Error::Usage)
    }
}

/// Binds an address. `flag` is its flag, for the error.
fn take(address: Address, flag: &'static str) -> Result<Taken, Error> {
    address.take(flag).map_err(|error| Error::Local(error.to_string()))
}

/// The probe address. `None` if probes are off.
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

/// The work of a program of Tokenry, as far as its permissions depend on it.
#[derive(Clone, Debug)]
struct Duties {
    scope: Extent,
    /// The Lease by which it leads. `None`: it takes part in no election.
    lease: Option<LeaseOrder>,
    /// Permissions without which the program is not ready.
    needed: Vec<Right>,
    /// Permissions without which the program does less.
    useful: Vec<Right>,
}

/// The duties that a command line of operator or verifier gives it. `None`: this release does not know the line.
fn duties(arguments: &[&str]) -> Option<Duties> {
    let line = Cli::try_parse_from(["tokenry"].iter().chain(arguments)).ok()?.command;
    if let Command::Operator(operator) = &line {
        Some(operator.duties())
    } else if let Command::Verifier(verifier) = &line {
        Some(verifier.duties())
    } else {
        None
    }
}

/// The command line: its commands, flags, environment variables and defaults.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The command line, under the name by which it was called. kubectl calls its plugin `kubectl-tokenry`.
fn called() -> clap::Command {
    let name = std::env::args_os().next().unwrap_or_default();
    if completion::is_called(&name, "kubectl-tokenry") { command().bin_name("kubectl tokenry") } else { command() }
}

/// Parses the command line and runs its command.
///
/// # Errors
/// The command failed.
pub fn main() -> Result<(), Error> {
    completion::answer();
    let parsed = called().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed.unwrap_or_else(|error| output::refuse(&error)).command {
        Command::Create(create) => create.main(),
        Command::List(list) => list.main(),
        Command::Status(status) => status.main(),
        Command::Show(show) => show.main(),
        Command::Rotate(rotate) => rotate.main(),
        Command::Explain(explain) => explain.main(),
        Command::Suspend(suspend) => suspend.main(),
        Command::Resume(resume) => resume.main(),
        Command::Revoke(revoke) => revoke.main(),
        Command::Delete(delete) => delete.main(),
        Command::Plan(plan) => plan.main(),
        Command::Set(set) => set.main(),
        Command::Transfer(transfer) => transfer.main(),
        Command::Grant(grant) => grant.main(),
        Command::Verify(verify) => verify.main(),
        Command::Lint(lint) => lint.main(),
        Command::Scan(scan) => scan.main(),
        Command::Check(check) => check.main(),
        Command::Version(version) => version.main(),
        Command::Docs(docs) => docs.main(),
        Command::Completion(completion) => completion.main(),
        Command::Operator(operator) => operator.main(),
        Command::Verifier(verifier) => verifier.main(),
        Command::Crds(crds) => crds.main(),
        Command::Admission(admission) => admission.main(),
        Command::Reach(reach) => reach.main(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_flags_of_different_names() {
        command().debug_assert();
    }

    #[test]
    fn the_help_of_each_command_has_an_example_that_it_takes_and_fits_80_columns() {
        for mut command in command().get_subcommands().map(|command| command.clone().term_width(80)) {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
            let example = help.split_once("\nExample:\n  ").and_then(|(_, rest)| rest.lines().next());
            let Some(example) = example else {
                assert!(["completion"].contains(&&*name), "{help}");
                continue;
            };
            let words = example.trim_start_matches("kubectl ").split_whitespace();
            let words: Vec<_> = words.take_while(|word| *word != "<").collect();
            assert_eq!(words[1], name);
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }

    #[test]
    fn an_error_of_the_command_line_names_the_options_that_would_help() {
        for (line, options) in [
            ("rotate", "<NAMES|--selector <LABELS>|--all>"),
            ("suspend", "<NAMES|--selector <LABELS>|--all>"),
            ("explain", "<TOKEN|--instance <INSTANCE>>"),
            ("lint", "<PATH|--filename <PATH>>"),
        ] {
            let told = Cli::try_parse_from(["tokenry", line]).err().unwrap().to_string();
            assert!(told.contains(options), "{told}");
        }
        assert!(Cli::try_parse_from(["tokenry", "rotate", "a", "b"]).is_ok());
        assert!(Cli::try_parse_from(["tokenry", "rotate", "a", "--all"]).is_err());
        assert!(Cli::try_parse_from(["tokenry", "explain", "a", "--instance", "b"]).is_ok());
        assert!(Cli::try_parse_from(["tokenry", "lint", "a", "-f", "b", "-f", "c"]).is_ok());
    }

    #[test]
    fn the_duties_of_a_program_follow_from_its_command_line() {
        let operator = duties(&["operator", "--grants", "--namespace=a"]).unwrap();
        assert_eq!(operator.scope, Extent::of(["a"]));
        for several in [&["--namespace=b,a"][..], &["--namespace=b", "--namespace", "a"]] {
            let line = [&["verifier"], several].concat();
            assert_eq!(duties(&line).unwrap().scope, Extent::of(["b", "a"]));
        }
        assert_eq!(duties(&["operator", "--namespace="]).unwrap().scope, Extent::Cluster);
        for odd in [",", "a,", " ", "a,,b"] {
            assert!(duties(&["operator", &format!("--namespace={odd}")]).is_none(), "{odd:?}");
        }
        let plain = duties(&["operator"]).unwrap();
        assert_eq!(operator.needed.len(), plain.needed.len() + crate::operator::GRANTING.len());
        let led = duties(&["operator", "--leader-elect", "--leader-election-name=x"]).unwrap().lease.unwrap();
        assert_eq!((led.name.as_str(), plain.lease.is_none()), ("x", true));
        for reviewing in ["--introspection", "--metrics-secure"] {
            let asks = duties(&["verifier", reviewing]).unwrap();
            assert_eq!(asks.useful.len(), duties(&["verifier"]).unwrap().useful.len() + 2);
        }
        assert_eq!(duties(&["operator", "--metrics-secure"]).unwrap().useful.len(), plain.useful.len() + 2);
        assert!(duties(&["operator", "--of-another-release"]).is_none() && duties(&["crds"]).is_none());
    }
}
