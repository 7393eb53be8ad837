//! The cause of a decision: why a request is let in or refused.

use std::fmt;

use super::{Flaw, Protocol};
use crate::access;

/// The cause of a decision: why a request is let in or refused.
///
/// Callers see the [`Category`] of a cause. If a valid token lacks a permission, callers see the [`hint`](Cause::hint)
/// too. Metrics and the audit log name the cause itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The token is valid, and the request is permitted.
    Allowed,
    /// The Instance lets the request through unjudged, without any identity.
    Unguarded,
    /// The request tests the guard of the Instance, at `/.tokenry/probe`. Nobody is let in there.
    Probe,
    /// No place of the Instance holds a credential.
    Missing,
    /// A header that can hold a credential is longer than 8 KiB.
    Oversized,
    /// A header that can hold a credential is not ASCII.
    NotAscii,
    /// A header that can hold a credential occurs twice.
    Repeated,
    /// More than one place holds a credential.
    Several,
    /// Some servers treat another header as one that can hold a credential, such as `api_token` as `api-token`.
    LookAlike,
    /// The credential does not have the form of a token.
    Malformed,
    /// No record has the id of the credential.
    Unknown,
    /// A record has the id of the credential, but another digest.
    Mismatch,
    /// Records of several tokens have the id of the credential. Somebody wrote a status by hand.
    Ambiguous,
    /// The token opens other Instances, but not this one.
    OtherInstance,
    /// The question names audiences, but not that of the Instance, `tokenry.dev/<namespace>/<instance>`.
    OtherAudience,
    /// The token is being deleted, or its namespace is.
    Deleted,
    /// The token, or the presented generation, is revoked.
    Revoked,
    /// The account of the token does not exist, or is being deleted.
    AccountGone,
    /// The account of the token is suspended.
    AccountSuspended,
    /// The token is suspended.
    Suspended,
    /// The generation has expired, or is older than an Instance of the token allows.
    Expired,
    /// The proxy does not name the Instance.
    InstanceUnnamed,
    /// The Instance does not exist.
    InstanceMissing,
    /// The proxy does not name the method or the path of the request, and the Instance judges by them.
    RequestUnnamed,
    /// The Instance is being deleted.
    InstanceDeleting,
    /// The Instance does not admit tokens of the namespace in which the token lives.
    NamespaceNotAdmitted,
    /// The Instance has faults. It lets nobody in until they are corrected.
    InstanceInvalid,
    /// The endpoint of the Instance is disabled.
    EndpointDisabled,
    /// An AccessPolicy in the namespace of the Instance cannot be read, and it may deny anything. All tokens are
    /// refused until it is corrected or deleted.
    PolicyUnread,
    /// The token is valid, but the request is not permitted.
    Refused(access::Ground),
    /// The index has not read the first list of every kind yet.
    NotSynced,
    /// The index may be out of date, so the verifier cannot decide.
    OutOfTouch,
    /// The request has to wait, but too many others wait too. They wait for news of their token, for the rest of their
    /// message, or for the review of their caller. A message that waits for long loses its place to a newer one.
    Crowded,
    /// The question itself has a flaw, whatever its token is.
    Flawed(Flaw),
}

/// The outcome that a caller sees. Each protocol puts it into its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// The request is let in.
    Allowed,
    /// The request has no valid credential.
    NotAuthenticated,
    /// The credential is valid, but the request is not permitted.
    NotPermitted,
    /// The verifier cannot decide now. The caller should try again.
    Unavailable,
    /// The question is not answered.
    Flawed(Flaw),
}

impl Category {
    /// The HTTP status code of the category. Metrics and the audit log use it for every protocol.
    pub fn code(self) -> u16 {
        match self {
            Self::Allowed => 200,
            Self::NotAuthenticated => 401,
            Self::NotPermitted => 403,
            Self::Unavailable => 503,
            Self::Flawed(flaw) => flaw.code(),
        }
    }
}

impl Cause {
    /// The outcome that the caller sees.
    pub fn category(self) -> Category {
        match self {
            Self::Allowed | Self::Unguarded => Category::Allowed,
            Self::InstanceDeleting
            | Self::NamespaceNotAdmitted
            | Self::InstanceInvalid
            | Self::EndpointDisabled
            | Self::PolicyUnread
            | Self::RequestUnnamed
            | Self::Refused(_) => Category::NotPermitted,
            Self::NotSynced | Self::OutOfTouch | Self::Crowded => Category::Unavailable,
            Self::Flawed(flaw) => Category::Flawed(flaw),
            Self::Probe
            | Self::Missing
            | Self::Oversized
            | Self::NotAscii
            | Self::Repeated
            | Self::Several
            | Self::LookAlike
            | Self::Malformed
            | Self::Unknown
            | Self::Mismatch
            | Self::Ambiguous
            | Self::OtherInstance
            | Self::OtherAudience
            | Self::Deleted
            | Self::Revoked
            | Self::AccountGone
            | Self::AccountSuspended
            | Self::Suspended
            | Self::Expired
            | Self::InstanceUnnamed
            | Self::InstanceMissing => Category::NotAuthenticated,
        }
    }

    /// True if a change that the index has not received yet could let the request in.
    pub fn may_be_news(self) -> bool {
        matches!(self, Self::Unknown | Self::AccountGone | Self::InstanceMissing)
    }

    /// The name of the cause, for metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::Unguarded => "Unguarded",
            Self::Probe => "Probe",
            Self::Missing => "Missing",
            Self::Oversized => "Oversized",
            Self::NotAscii => "NotAscii",
            Self::Repeated => "Repeated",
            Self::Several => "Several",
            Self::LookAlike => "LookAlike",
            Self::Malformed => "Malformed",
            Self::Unknown => "Unknown",
            Self::Mismatch => "Mismatch",
            Self::Ambiguous => "Ambiguous",
            Self::OtherInstance => "OtherInstance",
            Self::OtherAudience => "OtherAudience",
            Self::Deleted => "Deleted",
            Self::Revoked => "Revoked",
            Self::AccountGone => "AccountGone",
            Self::AccountSuspended => "AccountSuspended",
            Self::Suspended => "Suspended",
            Self::Expired => "Expired",
            Self::InstanceUnnamed => "InstanceUnnamed",
            Self::InstanceMissing => "InstanceMissing",
            Self::RequestUnnamed => "RequestUnnamed",
            Self::InstanceDeleting => "InstanceDeleting",
            Self::NamespaceNotAdmitted => "NamespaceNotAdmitted",
            Self::InstanceInvalid => "InstanceInvalid",
            Self::EndpointDisabled => "EndpointDisabled",
            Self::PolicyUnread => "PolicyUnread",
            Self::Refused(ground) => ground.as_str(),
            Self::NotSynced => "NotSynced",
            Self::OutOfTouch => "OutOfTouch",
            Self::Crowded => "Crowded",
            Self::Flawed(flaw) => flaw.as_str(),
        }
    }

    /// An explanation for the bearer of a valid token that is not permitted, by the protocol of the question. `None`
    /// for every other cause.
    pub fn hint(self, protocol: Protocol) -> Option<&'static str> {
        match self {
            Self::Refused(ground) => Some(ground.hint()),
            Self::RequestUnnamed => Some(naming(protocol)),
            Self::InstanceDeleting => Some("the Instance is being deleted"),
            Self::NamespaceNotAdmitted => {
                Some("the Instance does not admit tokens of the namespace in which this token lives")
            }
            Self::EndpointDisabled => Some("the endpoint of the Instance is disabled"),
            Self::PolicyUnread => Some(
                "an AccessPolicy in the namespace of the Instance cannot be read, so nothing is permitted; the log of the \
                 verifier names it",
            ),
            Self::InstanceInvalid => {
                Some("the Instance has faults, and lets nobody in until they are corrected; its status lists them")
            }
            Self::Allowed
            | Self::Unguarded
            | Self::Probe
            | Self::Missing
            | Self::Oversized
            | Self::NotAscii
            | Self::Repeated
            | Self::Several
            | Self::LookAlike
            | Self::Malformed
            | Self::Unknown
            | Self::Mismatch
            | Self::Ambiguous
            | Self::OtherInstance
            | Self::OtherAudience
            | Self::Deleted
            | Self::Revoked
            | Self::AccountGone
            | Self::AccountSuspended
            | Self::Suspended
            | Self::Expired
            | Self::InstanceUnnamed
            | Self::InstanceMissing
            | Self::NotSynced
            | Self::OutOfTouch
            | Self::Crowded
            | Self::Flawed(_) => None,
        }
    }
}

/// The way in which a proxy has to name the request.
fn naming(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::ForwardAuth => {
            "the request is not named: X-Forwarded-Method or X-Forwarded-Uri is missing, there twice, or not ASCII; let \
             the proxy send each of them once"
        }
        Protocol::IngressNginx => {
            "the request is not named: X-Original-Method or X-Original-URL is missing, there twice, not ASCII, or no \
             whole URL; ask from ingress-nginx"
        }
        Protocol::ExtAuthz | Protocol::TokenReview | Protocol::Introspection | Protocol::Unknown => {
            "the question names no request"
        }
    }
}

impl From<Flaw> for Cause {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(flaw)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
