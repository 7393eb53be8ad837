//! Faults of a spec, each with the field that it is about.

use std::{borrow::Cow, fmt};

use jiff::SignedDuration;

use super::{Reason, reason::Sense};
use crate::token::{Calendar, calendar::CalendarError, duration::Duration};

/// A mistake that a user has to correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The reason, for conditions, logs and metrics.
    pub reason: Reason,
    /// The path of the field, such as `spec.rotation.overlap`.
    pub path: Cow<'static, str>,
    /// The message: the mistake, and how to correct it.
    pub message: String,
}

impl Fault {
    /// A fault at `path`. Its reason must be declared as the reason of a fault.
    pub fn new(reason: Reason, path: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        debug_assert!(matches!(reason.sense(), Sense::Fault(_)), "{reason} is not declared as the reason of a fault");
        Self { reason, path: path.into(), message: message.into() }
    }

    /// A fault for a field that breaks a rule.
    pub fn invalid(path: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Reason::Invalid, path, message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// All faults in one text.
pub fn told(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

/// The reason to report for all faults: the reason of the first one.
pub fn first(faults: &[Fault]) -> Reason {
    faults.first().map_or(Reason::Invalid, |fault| fault.reason)
}

/// The given duration, parsed. An invalid duration adds a fault at `path`.
pub fn parsed(
    given: Option<&Duration>,
    path: impl Into<Cow<'static, str>>,
    faults: &mut Vec<Fault>,
) -> Option<SignedDuration> {
    given?.parse().map_err(|rule| faults.push(Fault::invalid(path, rule))).ok()
}

/// The calendar of the fields `cron` and `timeZone` below `path`. An invalid field adds a fault.
pub fn calendar(cron: &str, zone: Option<&str>, path: &str, faults: &mut Vec<Fault>) -> Option<Calendar> {
    let told = |error| match error {
        CalendarError::Cron(message) => Fault::invalid(format!("{path}.cron"), message),
        CalendarError::Zone(message) => Fault::invalid(format!("{path}.timeZone"), message),
    };
    Calendar::parse(cron, zone).map_err(|error| faults.push(told(error))).ok()
}
