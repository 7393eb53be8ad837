//! The errors of commands, and their exit codes.

use std::{fmt::Display, io, path::Path, process::ExitCode};

use kube::{Resource, ResourceExt};

use crate::{
    outside::{Forbidder, Refusal, Verb, Why, connect::Unreachable, forbidder::Denied},
    verifier::explain::Unexplained,
};

/// An error of a command. Each variant has its own exit code, which `tokenry --help` lists.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `explain` or `verify` found that the request is refused, `lint` found a fault, `scan` found a token, or a check of
    /// `check` failed. This is the answer of the command, which is already printed.
    #[error("the answer is no")]
    No,
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
    /// The user did not confirm. Nothing was changed.
    #[error("not confirmed; nothing was changed")]
    Declined,
    /// The operator has not done the wish in time, or cannot do it.
    #[error("{0}")]
    Pending(String),
    /// The operator or the verifier ended unexpectedly.
    #[error("{0}")]
    Ended(io::Error),
}

/// The exit codes, as `tokenry --help` lists them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success; explain, verify: the request is allowed; lint: no fault; scan: no token; check: no check failed
  1  explain, verify: the request is refused; lint: a fault; scan: a token; check: a check failed
  2  the command line is invalid
  3  no cluster is configured, or the cluster does not answer
  4  the API server refuses a request of this command
  5  an object that this command needs does not exist, or the token has no value yet
  6  this machine refuses an operation: on a file, an address or a signal
  7  the operator or the verifier ended unexpectedly
  8  the user did not confirm; nothing was changed
  9  the operator has not done the wish in time, or cannot do it";

impl Error {
    /// An operation that this machine refuses. `what` names the operation.
    pub fn local(what: impl Display, error: impl Display) -> Self {
        Self::Local(format!("{what}: {error}"))
    }

    /// A file that cannot be written.
    pub fn unwritten(file: &Path, error: impl Display) -> Self {
        Self::local(format_args!("cannot write {}", file.display()), error)
    }

    /// A refused write of `object`. The text says the missing right and the way to get it.
    pub fn of_write(refusal: Refusal, object: &impl Resource) -> Self {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        match refusal.why {
            Why::Stale if refusal.verb == Verb::CREATE => Self::Refused(format!(
                "{} {namespace}/{name} exists already; choose another name, or rotate it for a new value",
                refusal.kind
            )),
            Why::Stale => Self::Refused(format!("{refusal}; try again")),
            Why::Forbidden(ref text) => Self::Refused(forbidden(text)),
            Why::Invalid(_) | Why::Unauthenticated(_) | Why::Gone | Why::Unavailable(_) => refusal.into(),
        }
    }

    /// A refused read of the value of `token`.
    pub fn of_value(refusal: Refusal, token: &impl Resource) -> Self {
        let (namespace, name) = (token.namespace().unwrap_or_default(), token.name_any());
        match refusal.why {
            Why::Forbidden(_) => Self::Refused(format!(
                "the value of {name} is in Secret {}, which you may not read: ask for get on secrets in namespace \
                 {namespace}, or let its owner show it",
                refusal.name
            )),
            Why::Stale | Why::Invalid(_) | Why::Unauthenticated(_) | Why::Gone | Why::Unavailable(_) => refusal.into(),
        }
    }

    /// The message to print. `None` if the answer is already printed.
    pub fn told(&self) -> Option<String> {
        match self {
            Self::No => None,
            Self::Usage(_)
            | Self::Unreachable(_)
            | Self::Refused(_)
            | Self::Missing(_)
            | Self::Local(_)
            | Self::Declined
            | Self::Pending(_)
            | Self::Ended(_) => Some(self.to_string()),
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::No => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
            Self::Missing(_) => 5,
            Self::Local(_) => 6,
            Self::Ended(_) => 7,
            Self::Declined => 8,
            Self::Pending(_) => 9,
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

/// A refusal in the words of the API server or of an admission policy, and the way to the missing right.
fn forbidden(text: &str) -> String {
    match Forbidder::of(text) {
        Forbidder::Authorizer(Denied { verb, resource, group, namespace }) => format!(
            "you may not {verb} {resource}.{group} in namespace {namespace}: ask an administrator for a role with that \
             right, such as the ClusterRole tokenry-edit"
        ),
        Forbidder::Policy(_) | Forbidder::Webhook(_) | Forbidder::Quota(_) | Forbidder::Plugin => {
            text.split_once(" denied request: ").map_or(text, |(_, told)| told).to_owned()
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let told = refusal.to_string();
        match refusal.why {
            Why::Gone => Self::Missing(told),
            Why::Unavailable(_) => Self::Unreachable(told),
            Why::Stale | Why::Invalid(_) | Why::Forbidden(_) | Why::Unauthenticated(_) => Self::Refused(told),
        }
    }
}

impl From<Unexplained> for Error {
    fn from(unexplained: Unexplained) -> Self {
        let told = unexplained.to_string();
        match unexplained {
            Unexplained::Missing(_) => Self::Missing(told),
            Unexplained::Unasked(_) => Self::Usage(told),
            Unexplained::Refused(refusal) => refusal.into(),
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
            Error::No,
            Error::Usage(text()),
            Error::Unreachable(text()),
            Error::Refused(text()),
            Error::Missing(text()),
            Error::Local(text()),
            Error::Ended(io::Error::other("m")),
            Error::Declined,
            Error::Pending(text()),
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
        let declined = Error::Declined.to_string();
        assert!(told[1..].iter().flatten().all(|told| *told == "m" || *told == declined));
        assert_eq!(told.iter().flatten().count(), told.len() - 1);
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
