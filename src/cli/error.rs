//! The errors of commands, and their exit codes.

use std::{fmt::Display, io, path::Path, process::ExitCode};

use crate::{
    outside::{Why, connect::Unreachable},
    verifier::explain::Unexplained,
};

/// An error of a command. Each variant has its own exit code, which `tokenry --help` lists.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `explain` found that the request is refused. This is the answer of the command, which is already printed.
    #[error("the request is refused")]
    NotAllowed,
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// No cluster is configured, or the cluster does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The API server refuses a request of the command.
    #[error("{0}")]
    Refused(String),
    /// An object that the command needs does not exist, or the token has no value yet.
    #[error("{0}")]
    Missing(String),
    /// This machine refuses an operation: on a file, an address or a signal.
    #[error("{0}")]
    Local(String),
    /// The operator or the verifier ended unexpectedly.
    #[error("{0}")]
    Ended(io::Error),
}

/// The exit codes, as `tokenry --help` lists them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success; explain: the request is allowed
  1  explain: the request is refused
  2  the command line is invalid
  3  no cluster is configured, or the cluster does not answer
  4  the API server refuses a request of this command
  5  an object that this command needs does not exist, or the token has no value yet
  6  this machine refuses an operation: on a file, an address or a signal
  7  the operator or the verifier ended unexpectedly";

impl Error {
    /// An operation that this machine refuses. `what` names the operation.
    pub fn local(what: impl Display, error: impl Display) -> Self {
        Self::Local(format!("{what}: {error}"))
    }

    /// A file that cannot be written.
    pub fn unwritten(file: &Path, error: impl Display) -> Self {
        Self::local(format_args!("cannot write {}", file.display()), error)
    }

    /// The message to print. `None` if the answer is already printed.
    pub fn told(&self) -> Option<String> {
        match self {
            Self::NotAllowed => None,
            Self::Usage(_)
            | Self::Unreachable(_)
            | Self::Refused(_)
            | Self::Missing(_)
            | Self::Local(_)
            | Self::Ended(_) => Some(self.to_string()),
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::NotAllowed => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
            Self::Missing(_) => 5,
            Self::Local(_) => 6,
            Self::Ended(_) => 7,
        }
    }
}

impl From<&Error> for ExitCode {
    fn from(error: &Error) -> Self {
        error.code().into()
    }
}

impl From<Unreachable> for Error {
    fn from(unreachable: Unreachable) -> Self {
        Self::Unreachable(unreachable.to_string())
    }
}

impl From<Unexplained> for Error {
    fn from(unexplained: Unexplained) -> Self {
        let told = unexplained.to_string();
        match unexplained {
            Unexplained::Missing(_) => Self::Missing(told),
            Unexplained::Unasked(_) => Self::Usage(told),
            Unexplained::Refused(refusal) => match refusal.why {
                Why::Gone => Self::Missing(told),
                Why::Unavailable(_) => Self::Unreachable(told),
                Why::Stale | Why::Invalid(_) | Why::Forbidden(_) | Why::Unauthenticated(_) => Self::Refused(told),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::Refusal;

    fn all() -> Vec<Error> {
        let text = || String::from("m");
        vec![
            Error::NotAllowed,
            Error::Usage(text()),
            Error::Unreachable(text()),
            Error::Refused(text()),
            Error::Missing(text()),
            Error::Local(text()),
            Error::Ended(io::Error::other("m")),
        ]
    }

    #[test]
    fn every_error_has_an_exit_code_of_its_own_that_the_help_lists() {
        let codes: Vec<_> = all().iter().map(Error::code).collect();
        let listed = EXIT_CODES.lines().skip(1).map(|line| line.trim_start().split_once("  ").unwrap().0);
        let listed: Vec<u8> = listed.map(|code| code.parse().unwrap()).collect();
        assert_eq!(listed, [&[0], &codes[..]].concat());
    }

    #[test]
    fn what_explain_answered_is_not_said_again() {
        let told: Vec<_> = all().iter().map(Error::told).collect();
        assert_eq!(told[0], None);
        assert!(told[1..].iter().all(|told| told.as_deref() == Some("m")));
    }

    #[test]
    fn a_refusal_of_the_api_server_is_told_from_its_absence() {
        let code = |why| Error::from(Unexplained::from(Refusal::because(why))).code();
        assert_eq!(code(Why::Unavailable("m".into())), 3);
        assert_eq!(code(Why::Forbidden("m".into())), 4);
        assert_eq!(code(Why::Unauthenticated("m".into())), 4);
        assert_eq!(code(Why::Gone), 5);
    }
}
