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
    /// The status was lost, and a new value was published.
    Reissued,
    /// The Secret was missing or altered, and a new value was published.
    SecretRestored,
    /// Other keys, labels or annotations of the Secret were updated.
    SecretUpdated,
    /// The Secret with the old name was deleted.
    SecretRemoved,
    /// A write of the Secret failed.
    PublishFailed,
    /// A Secret that has to go could not be removed or emptied.
    RemovalFailed,
    /// A write of the account failed.
    AccountFailed,
    /// The restart of the workloads was triggered.
    Restarted,
    /// Nothing was restarted, because no workload exists.
    RestartSkipped,
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
    /// The permissions changed, and the role did not. That includes the rules of an audience.
    PermissionsChanged,
    /// The token was deleted, because it ended long ago, or together with its account.
    Deleted,

    // About a policy.
    /// A listed name was bound to a token or an account.
    MemberBound,
    /// A listed name matches nothing.
    DanglingMember,

    // About the Lease of the operators.
    /// An operator begins to lead, or stops.
    LeaderElection,

    // About any object.
    /// The spec was accepted.
    Accepted,
    /// The spec breaks a rule. A user has to change something.
    Rejected,
    /// An object that the spec names does not exist yet.
    Waiting,
    /// The endpoint of the Instance was disabled, and every token is refused.
    EndpointDisabled,
    /// An object of an endpoint cannot be written. Its name is taken, or the cluster does not serve its kind.
    EndpointBlocked,
    /// A write of an object of an endpoint failed.
    EndpointFailed,
    /// A request can pass the guard of an endpoint, or the guard does not ask the verifier.
    GuardFailed,
    /// A right that follows from the object cannot be granted. The name of the Role or RoleBinding is taken.
    GrantBlocked,
    /// A read or write of the Role or RoleBinding of a grant failed.
    GrantFailed,
    /// The status cannot be read.
    StatusUnreadable,
    /// The API server forbids a request of the operator.
    RequestForbidden,
}

/// The reasons of states and failures whose events have names of their own. Every other reason that an object is not
/// ready is a fault of its spec.
const NAMED: [(Reason, EventName); 13] = [
    (Reason::Accepted, EventName::Accepted),
    (Reason::PublishFailed, EventName::PublishFailed),
    (Reason::AccountFailed, EventName::AccountFailed),
    (Reason::EndpointDisabled, EventName::EndpointDisabled),
    (Reason::EndpointForeign, EventName::EndpointBlocked),
    (Reason::EndpointUnserved, EventName::EndpointBlocked),
    (Reason::EndpointKindOff, EventName::EndpointBlocked),
    (Reason::WayInRefused, EventName::EndpointBlocked),
    (Reason::EndpointFailed, EventName::EndpointFailed),
    (Reason::GrantForeign, EventName::GrantBlocked),
    (Reason::GrantFailed, EventName::GrantFailed),
    (Reason::StatusUnreadable, EventName::StatusUnreadable),
    (Reason::RequestForbidden, EventName::RequestForbidden),
];

impl EventName {
    /// The name of the event about a state, a failure or a fault with this reason. An event about another action of the
    /// operator is named for that action.
    pub fn of(reason: Reason) -> Self {
        let named = NAMED.iter().find(|(named, _)| *named == reason).map(|(_, event)| *event);
        named.unwrap_or(match Conclusion::of(reason) {
            Conclusion::Working => Self::Waiting,
            Conclusion::Ready | Conclusion::Stalled => Self::Rejected,
        })
    }
}

impl EventName {
    /// True if the operator has published a value.
    pub fn is_publication(self) -> bool {
        matches!(self, Self::Issued | Self::Rotated | Self::Regenerated | Self::Reissued | Self::SecretRestored)
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A variant's name is its public name.
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_about_a_state_or_a_failure_says_which_and_about_a_fault_who_mends_it() {
        for (reason, event) in [
            (Reason::EndpointDisabled, EventName::EndpointDisabled),
            (Reason::EndpointForeign, EventName::EndpointBlocked),
            (Reason::EndpointUnserved, EventName::EndpointBlocked),
            (Reason::EndpointFailed, EventName::EndpointFailed),
            (Reason::AccountFailed, EventName::AccountFailed),
            (Reason::PublishFailed, EventName::PublishFailed),
            (Reason::Accepted, EventName::Accepted),
            (Reason::InstanceMissing, EventName::Waiting),
            (Reason::Invalid, EventName::Rejected),
            (Reason::SecretForeign, EventName::Rejected),
        ] {
            assert_eq!(EventName::of(reason), event, "{reason}");
        }
    }
}
