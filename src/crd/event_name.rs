//! The names of events. The name is that of the action, and the text has the reason.

use std::fmt;

use super::{Reason, condition::Conclusion};

/// The name of an event. `kubectl get events` shows it as REASON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventName {
    // About a token.
    /// The first value was published.
    Issued,
    /// The next value was published.
    Rotated,
    /// The value that `regenerate.id` asked for was published.
    Regenerated,
    /// The Secret was missing or altered, and a new value was published.
    SecretRestored,
    /// Other keys, labels or annotations of the Secret were updated.
    SecretUpdated,
    /// The Secret with the old name was deleted.
    SecretRemoved,
    /// A write of the Secret or of the account failed.
    PublishFailed,
    /// The restart of the workloads was triggered.
    Restarted,
    /// The restart of a workload failed.
    RestartFailed,
    /// A value with `delivery: Once` was claimed.
    Claimed,
    /// A value with `delivery: Once` was deleted before anybody claimed it.
    ClaimLost,
    /// The token was revoked.
    Revoked,
    /// The token expired.
    Expired,
    /// The served value expires soon, and nothing renews it.
    ExpiringSoon,
    /// Values expire earlier than before.
    Shortened,
    /// The token was suspended.
    Suspended,
    /// The owner was removed, and the token stays.
    OwnerRemoved,
    /// The owner changed.
    OwnerChanged,
    /// The role changed.
    RoleChanged,
    /// The token was deleted, because it ended long ago.
    Deleted,

    // About a policy.
    /// A listed name was bound to a token or an account.
    MemberBound,
    /// A listed name matches nothing.
    DanglingMember,

    // About any object.
    /// The spec was accepted.
    Accepted,
    /// The spec breaks a rule. A user has to change something.
    Rejected,
    /// An object that the spec names does not exist yet.
    Waiting,
    /// A write of an object of an endpoint failed.
    EndpointFailed,
    /// The status cannot be read.
    StatusUnreadable,
    /// The API server forbids a request of the operator.
    RequestForbidden,
}

impl EventName {
    /// The name of the event about a fault with this reason.
    pub fn of_fault(reason: Reason) -> Self {
        match Conclusion::of(reason) {
            Conclusion::Working => Self::Waiting,
            Conclusion::Ready | Conclusion::Stalled => Self::Rejected,
        }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A variant's name is its public name.
        fmt::Debug::fmt(self, f)
    }
}
