//! Why a request is let in or not.

use std::fmt;

use crate::access;

/// Why a request is let in or not. Callers see no more of it than [`Category`]; metrics and the audit tell the causes
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The token is valid and permitted.
    Allowed,
    /// No credential.
    Missing,
    /// A header that could hold one is longer than 8 KiB.
    Oversized,
    /// A header that could hold one is not ASCII.
    NotAscii,
    /// A header that can hold one is there twice.
    Repeated,
    /// There is one in more than one place.
    Several,
    /// Some server takes another header for one that can hold one.
    LookAlike,
    /// Not of the form of a token.
    Malformed,
    /// No record has its id.
    Unknown,
    /// A record has its id and another digest.
    Mismatch,
    /// It opens another Instance.
    OtherInstance,
    /// It is being deleted.
    Deleted,
    /// It, or this generation of it, was withdrawn.
    Revoked,
    /// Its account is gone.
    AccountGone,
    /// Its account is not active.
    AccountSuspended,
    /// It is not active.
    Suspended,
    /// Out of time.
    Expired,
    /// There is no such Instance.
    InstanceMissing,
    /// The Instance is being deleted.
    InstanceDeleting,
    /// The Instance does not admit tokens of its namespace.
    NamespaceNotAdmitted,
    /// The Instance has faults, and nobody is let in by it.
    InstanceInvalid,
    /// The endpoint of the Instance is disabled.
    EndpointDisabled,
    /// The token is valid and may not do that.
    Refused(access::Ground),
    /// The index has not been filled yet.
    NotSynced,
    /// What was heard is too old to say.
    OutOfTouch,
    /// It may be news, and too many wait for news already.
    Crowded,
}

/// What a caller is told, in the words of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// It may do that.
    Allowed,
    /// Nothing that it gave says who it is.
    NotAuthenticated,
    /// It is known, and may not do that.
    NotPermitted,
    /// It cannot be said now; it is to try again.
    Unavailable,
}

impl Category {
    /// The number that metrics and audit have for it. It is that of HTTP, whatever the protocol.
    pub fn code(self) -> u16 {
        match self {
            Self::Allowed => 200,
            Self::NotAuthenticated => 401,
            Self::NotPermitted => 403,
            Self::Unavailable => 503,
        }
    }
}

impl Cause {
    /// What the caller is told.
    pub fn category(self) -> Category {
        match self {
            Self::Allowed => Category::Allowed,
            Self::InstanceDeleting
            | Self::NamespaceNotAdmitted
            | Self::InstanceInvalid
            | Self::EndpointDisabled
            | Self::Refused(_) => Category::NotPermitted,
            Self::NotSynced | Self::OutOfTouch | Self::Crowded => Category::Unavailable,
            Self::Missing
            | Self::Oversized
            | Self::NotAscii
            | Self::Repeated
            | Self::Several
            | Self::LookAlike
            | Self::Malformed
            | Self::Unknown
            | Self::Mismatch
            | Self::OtherInstance
            | Self::Deleted
            | Self::Revoked
            | Self::AccountGone
            | Self::AccountSuspended
            | Self::Suspended
            | Self::Expired
            | Self::InstanceMissing => Category::NotAuthenticated,
        }
    }

    /// Whether the index may only not have heard yet of what would let the request in.
    pub fn may_be_news(self) -> bool {
        matches!(self, Self::Unknown | Self::AccountGone | Self::InstanceMissing)
    }

    /// Its name, for a label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::Missing => "Missing",
            Self::Oversized => "Oversized",
            Self::NotAscii => "NotAscii",
            Self::Repeated => "Repeated",
            Self::Several => "Several",
            Self::LookAlike => "LookAlike",
            Self::Malformed => "Malformed",
            Self::Unknown => "Unknown",
            Self::Mismatch => "Mismatch",
            Self::OtherInstance => "OtherInstance",
            Self::Deleted => "Deleted",
            Self::Revoked => "Revoked",
            Self::AccountGone => "AccountGone",
            Self::AccountSuspended => "AccountSuspended",
            Self::Suspended => "Suspended",
            Self::Expired => "Expired",
            Self::InstanceMissing => "InstanceMissing",
            Self::InstanceDeleting => "InstanceDeleting",
            Self::NamespaceNotAdmitted => "NamespaceNotAdmitted",
            Self::InstanceInvalid => "InstanceInvalid",
            Self::EndpointDisabled => "EndpointDisabled",
            Self::Refused(ground) => ground.as_str(),
            Self::NotSynced => "NotSynced",
            Self::OutOfTouch => "OutOfTouch",
            Self::Crowded => "Crowded",
        }
    }

    /// What the bearer of a valid token is told of what it may not do.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::Refused(ground) => Some(ground.hint()),
            Self::InstanceDeleting => Some("the Instance is being deleted"),
            Self::NamespaceNotAdmitted => Some("tokens of this namespace are not admitted"),
            Self::EndpointDisabled => Some("the endpoint is disabled"),
            Self::InstanceInvalid => Some("the Instance has faults; its keepers see them in its status"),
            Self::Allowed
            | Self::Missing
            | Self::Oversized
            | Self::NotAscii
            | Self::Repeated
            | Self::Several
            | Self::LookAlike
            | Self::Malformed
            | Self::Unknown
            | Self::Mismatch
            | Self::OtherInstance
            | Self::Deleted
            | Self::Revoked
            | Self::AccountGone
            | Self::AccountSuspended
            | Self::Suspended
            | Self::Expired
            | Self::InstanceMissing
            | Self::NotSynced
            | Self::OutOfTouch
            | Self::Crowded => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
