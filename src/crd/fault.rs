//! What is wrong with what was asked for, and where.

use std::{borrow::Cow, fmt};

use jiff::SignedDuration;

use super::{Reason, reason::Sense};
use crate::token::{Calendar, calendar::CalendarError, duration::Duration};

/// Something that a user has to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The word for it.
    pub reason: Reason,
    /// Where it is: a field path, such as `spec.rotation.overlap`.
    pub path: Cow<'static, str>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Fault {
    /// A fault at `path`. Its reason is one of those that are declared as faults.
    pub fn new(reason: Reason, path: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        debug_assert!(matches!(reason.sense(), Sense::Fault(_)), "{reason} is not declared as the reason of a fault");
        Self { reason, path: path.into(), message: message.into() }
    }

    /// A field that breaks a rule.
    pub fn invalid(path: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Reason::Invalid, path, message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// All of them in words.
pub fn told(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

/// The word for all of them: that of the first.
pub fn first(faults: &[Fault]) -> Reason {
    faults.first().map_or(Reason::Invalid, |fault| fault.reason)
}

/// A duration that was given and is one; a fault where it is none.
pub fn parsed(
    given: Option<&Duration>,
    path: impl Into<Cow<'static, str>>,
    faults: &mut Vec<Fault>,
) -> Option<SignedDuration> {
    given?.parse().map_err(|rule| faults.push(Fault::invalid(path, rule))).ok()
}

/// The calendar of the fields `cron` and `timeZone` below `path`; a fault where one of them is none.
pub fn calendar(cron: &str, zone: Option<&str>, path: &str, faults: &mut Vec<Fault>) -> Option<Calendar> {
    let told = |error| match error {
        CalendarError::Cron(message) => Fault::invalid(format!("{path}.cron"), message),
        CalendarError::Zone(message) => Fault::invalid(format!("{path}.timeZone"), message),
    };
    Calendar::parse(cron, zone).map_err(|error| faults.push(told(error))).ok()
}
