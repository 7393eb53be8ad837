//! The errors of commands, and their exit codes.

use std::{fmt::Display, io, path::Path, process::ExitCode};

use kube::{Resource, ResourceExt};

use super::{
    advice::quoted,
    denial::{Denial, in_a_line},
    lacking::{self, LackedRight},
};
use crate::{
    outside::{Refusal, Verb, Why, connect::Unreachable},
    verifier::explain::Unexplained,
};

/// An error of a command. Each variant has its own exit code, which `tokenry --help` lists.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `explain` or `verify` found that the request is refused, `lint` found a fault, `scan` found a token, or a check
    /// of `check` failed. This is the answer of the command, which is already printed.
    #[error("the answer is no")]
    No,
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// No cluster is configured, or the cluster does not answer, or it fails to serve a request.
    #[error("{0}")]
    Unreachable(String),
    /// The API server refuses a request of the command.
    #[error("{0}")]
    Refused(String),
    /// An object that the command needs does not exist, or the token has ended, or it has no value yet.
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
    /// A command for several tokens failed for some of them, or for all. The text names those that are done.
    #[error("{0}")]
    Partly(String),
    /// Ctrl-C ended the command. The text says the writes until then. It is empty if there is nothing to say.
    #[error("{0}")]
    Interrupted(String),
    /// The reader of standard output has gone, such as `head`.
    #[error("nobody reads standard output")]
    Unread,
    /// The operator or the verifier ended unexpectedly.
    #[error("{0}")]
    Ended(io::Error),
}

/// The exit codes, as `tokenry --help` lists them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success; explain, verify: the request is allowed; lint: no fault; scan: no token; check: no check failed
  1  explain, verify: the request is refused, or the value unknown; lint: a fault; scan: a token; check: a check failed
  2  the command line is invalid
  3  no cluster is configured, or the cluster does not answer, or it answers with an error of its own (5xx)
  4  the API server refuses a request of this command
  5  an object that this command needs does not exist, or the token has ended, or it has no value yet
  6  this machine refuses an operation: on a file, an address or a signal
  7  the operator or the verifier ended unexpectedly
  8  the user did not confirm; nothing was changed
  9  the operator has not done the wish in time, or cannot do it
  10  a command for several tokens failed for some or all of them; it names those that are done
  130  Ctrl-C ended the command
  141  the reader of standard output has gone";

/// The advice about an API server that does not serve a request.
pub(crate) fn unserved(why: &Why) -> &'static str {
    if why.is_failure_of_server() {
        "this machine reaches the API server, so try again; if it fails again, ask an administrator to look at its logs"
    } else {
        "look at the kubeconfig, and at the network between this machine and the API server"
    }
}

impl Error {
    /// An operation that this machine refuses. `what` names the operation.
    pub fn local(what: impl Display, error: impl Display) -> Self {
        Self::Local(format!("{what}: {error}"))
    }

    /// A file or a folder that cannot be read. One that does not exist is an error of the command line.
    pub fn unreadable(path: &Path, error: io::Error) -> Self {
        let path = in_a_line(path.display());
        if error.kind() == io::ErrorKind::NotFound {
            return Self::Usage(format!("there is no file or folder {path}; give the path of one that exists"));
        }
        Self::local(format_args!("cannot read {path}"), error)
    }

    /// A file that cannot be written.
    pub fn unwritten(file: &Path, error: impl Display) -> Self {
        Self::local(format_args!("cannot write {}", in_a_line(file.display())), error)
    }

    /// A namespace that does not exist.
    pub(crate) fn no_namespace(name: &str) -> Self {
        Self::Missing(format!(
            "namespace {name} does not exist; give another one by --namespace, or let an administrator create it:\n  \
             kubectl create namespace {}",
            quoted(name)
        ))
    }

    /// Text that standard output does not take.
    pub(crate) fn unprinted(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Unread } else { Self::local("cannot print", error) }
    }

    /// A refused write of `object`. The text says the missing right and the way to get it.
    pub fn of_write(refusal: Refusal, object: &impl Resource) -> Self {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        match refusal.why {
            Why::Stale if refusal.verb == Verb::CREATE => Self::Refused(format!(
                "{} {namespace}/{name} exists already; choose another name, or rotate it for a new value; delete it first if it is revoked",
                refusal.kind
            )),
            Why::Stale => Self::Refused(format!("{refusal}; try again")),
            // Only the namespace of a new object can be missing.
            Why::Gone if refusal.verb == Verb::CREATE => Self::no_namespace(&namespace),
            Why::Forbidden(_) | Why::Invalid(_) | Why::Unauthenticated(_) | Why::Gone | Why::Unavailable(_) => {
                refusal.into()
            }
        }
    }

    /// A refused read of the value of `token`. `flag` of `grant` gives the missing right.
    pub(crate) fn of_value(refusal: Refusal, token: &impl Resource, flag: &str) -> Self {
        let told =
            |name: &str, secret: &str| format!("the value of {name} is in Secret {secret}, which you may not read");
        Self::of_secret(refusal, token, flag, told)
    }

    /// A refused claim of the value of `token`, which is already printed.
    pub(crate) fn of_claim(refusal: Refusal, token: &impl Resource) -> Self {
        let told = |name: &str, secret: &str| {
            format!("the value of {name} is not claimed: you may not patch Secret {secret}, which holds it")
        };
        Self::of_secret(refusal, token, "--claim", told)
    }

    /// A refused request about the Secret of `token`. `flag` of `grant` gives the missing right.
    fn of_secret(refusal: Refusal, token: &impl Resource, flag: &str, told: impl Fn(&str, &str) -> String) -> Self {
        let (namespace, name) = (token.namespace().unwrap_or_default(), token.name_any());
        let Some((who, _)) = Denial::of_right(&refusal) else { return refusal.into() };
        let right = LackedRight::granted(refusal.verb.name(), "secrets".into(), &namespace, &[flag, &name]);
        Self::Refused(format!("{}{}", told(&name, &refusal.name), lacking::advice(&who, &[right])))
    }

    /// The message to print. `None` if the answer is already printed.
    pub fn told(&self) -> Option<String> {
        match self {
            Self::No | Self::Unread => None,
            Self::Interrupted(text) if text.is_empty() => None,
            Self::Usage(_)
            | Self::Unreachable(_)
            | Self::Refused(_)
            | Self::Missing(_)
            | Self::Local(_)
            | Self::Declined
            | Self::Pending(_)
            | Self::Partly(_)
            | Self::Interrupted(_)
            | Self::Ended(_) => Some(self.to_string()),
        }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
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
            Self::Partly(_) => 10,
            Self::Interrupted(_) => 130,
            Self::Unread => 141,
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

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let told = Denial::of(&refusal).map_or_else(|| in_a_line(&refusal), |denial| denial.told());
        match refusal.why {
            Why::Gone => Self::Missing(told),
            Why::Unavailable(_) => Self::Unreachable(format!("{told}; {}", unserved(&refusal.why))),
            Why::Forbidden(_) | Why::Stale | Why::Invalid(_) | Why::Unauthenticated(_) => Self::Refused(told),
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
            Error::Partly(text()),
            Error::Interrupted(text()),
            Error::Unread,
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
    fn what_explain_answered_is_not_said_again_and_neither_is_what_nobody_reads() {
        let told: Vec<_> = all().iter().map(Error::told).collect();
        let declined = Error::Declined.to_string();
        assert!(told.iter().flatten().all(|told| *told == "m" || *told == declined));
        let silent = all().into_iter().filter(|error| error.told().is_none());
        assert!(silent.map(|error| error.code()).eq([1, 141]));
        assert_eq!(Error::Interrupted(String::new()).told(), None);
    }

    #[test]
    fn a_reader_that_has_gone_is_told_from_a_full_disk() {
        assert_eq!(Error::unprinted(io::ErrorKind::BrokenPipe.into()).code(), 141);
        assert_eq!(Error::unprinted(io::ErrorKind::StorageFull.into()).code(), 6);
    }

    #[test]
    fn a_refusal_of_the_api_server_is_told_from_its_absence() {
        let code = |why| Error::from(Unexplained::from(Refusal::because(why))).code();
        assert_eq!(code(Why::Unavailable("m".into())), 3);
        let told = |why| Error::from(Refusal::because(why)).to_string();
        assert!(
            told(Why::Unavailable("it answered 503: etcd is away".into()))
                .contains("503: etcd is away; this machine reaches the API server, so try again")
        );
        assert!(told(Why::Unavailable("no answer in time".into())).contains("in time; look at the kubeconfig"));
        assert_eq!(code(Why::Forbidden("m".into())), 4);
        assert_eq!(code(Why::Unauthenticated("m".into())), 4);
        assert_eq!(code(Why::Gone), 5);
    }
}
