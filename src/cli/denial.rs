//! The requests that the API server forbids: their cause, and the way to a missing right. No other file of the command
//! line reads them.

use std::{fmt::Display, slice};

use super::{
    grant::AdvisedRight,
    lacking::{self, LackedRight},
    output::MAX_LINE,
};
use crate::{
    crd::subject::of_username,
    outside::{Forbidder, Refusal, Why, foreign::written},
};

/// The cause for which the API server forbids a request.
pub(crate) enum Denial<'a> {
    /// The authorizer: this subject lacks this right.
    Right(String, LackedRight),
    /// An admission policy, with this text.
    Policy(&'a str),
    /// Another part of the API server, with this text.
    Other(&'a str),
}

impl<'a> Denial<'a> {
    /// The denial in a refusal. `None`: the request failed for another cause.
    pub(crate) fn of(refusal: &'a Refusal) -> Option<Self> {
        Self::in_why(&refusal.why)
    }

    /// The denial in the reason for a failed request. `None`: the request failed for another cause.
    pub(crate) fn in_why(why: &'a Why) -> Option<Self> {
        let Why::Forbidden(text) = why else { return None };
        Some(match Forbidder::of(text) {
            Forbidder::Authorizer(denied) => Self::Right(of_username(&denied.username()), LackedRight::denied(&denied)),
            Forbidder::Policy(_) => Self::Policy(text.split_once(" denied request: ").map_or(text, |(_, told)| told)),
            Forbidder::Webhook(_) | Forbidder::Quota(_) | Forbidder::Plugin => Self::Other(text),
        })
    }

    /// The subject and the right that it lacks, if the authorizer denied the request.
    pub(crate) fn of_right(refusal: &'a Refusal) -> Option<(String, LackedRight)> {
        match Self::of(refusal)? {
            Self::Right(who, right) => Some((who, right)),
            Self::Policy(_) | Self::Other(_) => None,
        }
    }

    /// The denial in words, and the way to the missing right.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Right(who, right) => lacking::told(who, slice::from_ref(right)),
            Self::Policy(text) => AdvisedRight::of(text).map_or_else(|| in_a_line(text), |advised| advised.told()),
            Self::Other(text) => in_a_line(text),
        }
    }

    /// The denial in words, without the way to the missing right.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Right(_, right) => lacking::sentence(slice::from_ref(right)),
            Self::Policy(_) => self.told().split("; ").next().unwrap_or_default().to_owned(),
            Self::Other(text) => in_a_line(text),
        }
    }
}

/// The text of somebody else, so that no part of it begins a line. A line could pass for an advised command.
pub(crate) fn in_a_line(text: impl Display) -> String {
    written(&text.to_string(), MAX_LINE).into_owned()
}

/// The cause of a refusal in words. If a right is missing, it names the right without the way to it.
pub(crate) fn cause(refusal: &Refusal) -> String {
    Denial::of(refusal).map_or_else(|| refusal.to_string(), |denial| denial.cause())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Refusal {
        Refusal::because(Why::Forbidden(text.into()))
    }

    #[test]
    fn a_denial_says_the_missing_right_and_the_way_to_it() {
        let by_policy = |text: &str| {
            let refusal = refusal(&format!("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {text}"));
            (Denial::of(&refusal).unwrap().told(), cause(&refusal))
        };
        assert_eq!(by_policy("spec: the token is immutable").0, "spec: the token is immutable");
        let (told, cause_alone) = by_policy(
            "spec.role: user:José P may not assign roles.tokenry.dev/eem:admin in namespace n; if you were made a member just now, try again in some seconds; to allow it, apply this Role and bind it to them: {}",
        );
        assert_eq!(
            told,
            "spec.role: user:José P may not assign roles.tokenry.dev/eem:admin in namespace n; if you were made a member just now, \
             try again in some seconds; an administrator allows it by:\n  kubectl tokenry grant 'user:José P' --role eem:admin -n n --apply"
        );
        assert_eq!(cause_alone, "spec.role: user:José P may not assign roles.tokenry.dev/eem:admin in namespace n");
        let of_rbac =
            refusal(r#"x is forbidden: User "a" cannot get resource "secrets" in API group "" in the namespace "n""#);
        assert_eq!(cause(&of_rbac), "you may not get secrets in namespace n");
        assert_eq!(Denial::of_right(&of_rbac).unwrap().0, "user:a");
        let quota = refusal("exceeded quota: few, requested: a=1");
        assert_eq!((cause(&quota).as_str(), Denial::of_right(&quota)), ("exceeded quota: few, requested: a=1", None));
        assert!(Denial::of(&Refusal::because(Why::Gone)).is_none());
    }
}
