//! The reasons of conditions, events, logs and metrics, one word each.

use std::fmt;

/// The kind of a reason. Each reason is declared below its sense, so code that depends on the sense covers new reasons
/// too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// The object, or its namespace, is being deleted. Nothing is done or reported any more.
    Going,
    /// The state of an object.
    State,
    /// A fault of an object.
    Fault(Mended),
    /// A value is lost or damaged. It is replaced, with a warning.
    Damage,
    /// The cause of an action, or of a failure.
    Deed,
}

/// The place where a fault is corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// In the spec of the object with the fault.
    Here,
    /// By creating a missing object. The operator waits for it, because it may be created soon.
    Awaited,
    /// In another object, by a user.
    Elsewhere,
}

macro_rules! reasons {
    ($($sense:expr => { $($(#[$doc:meta])* $reason:ident,)* })*) => {
        /// The reason for the state of an object. Conditions, events, logs and metrics show its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {$($(
            $(#[$doc])*
            $reason,
        )*)*}

        impl Reason {
            /// The sense of the reason.
            pub fn sense(self) -> Sense {
                match self {
                    $($(Self::$reason)|* => $sense,)*
                }
            }
        }
    };
}

reasons! {
    // Objects that are being deleted.
    Sense::Going => {
        /// The object is being deleted.
        Deleting,
        /// The namespace is being deleted, so nothing can be written there.
        NamespaceTerminating,
    }

    // The state of an object.
    Sense::State => {
        /// The Secret holds a valid value, and there is nothing to do.
        Active,
        /// As [`Reason::Active`], and a predecessor is in its overlap.
        Rotating,
        /// `active` is false. The token is refused until it is true again.
        Suspended,
        /// The account's `active` is false. The token is refused until it is true again.
        AccountSuspended,
        /// `revoked` is true. The token is refused forever.
        Revoked,
        /// The account that the token was bound to was deleted. The token is refused forever.
        AccountDeleted,
        /// The owner's groups were stamped too long ago to count.
        OwnerStale,
        /// The token has no value yet, because its Instance has not published its endpoint yet.
        EndpointAwaited,
        /// The token is valid, but neither a role nor a policy permits anything. Or no request can name one of its
        /// organizations or projects.
        NoPermissions,
        /// The way in leads to the Service.
        Exposed,
        /// The edge asks the verifier about each request.
        Guarded,
        /// Nothing asks the verifier, as the spec allows.
        Unguarded,
        /// A probe without a token got the challenge of the verifier.
        Reached,
        /// The endpoint is external because its type is left out.
        ExternallyExposed,
        /// The owner of the token has changed.
        OwnerChanged,
        /// The effective role of the token has changed.
        RoleChanged,
        /// The token may do something else than before, with the same role.
        PermissionsChanged,
        /// The token has expired, and nothing renews it.
        Expired,
        /// The token ended, and the time after which its Instance requires the deletion is over.
        Forgotten,
        /// The served generation is about to expire, and nothing will renew it.
        ExpiringSoon,
        /// Another field manager has set fields of the token's own account, and these fields limit the token.
        LimitedByAccount,
        /// The token has some permission.
        Permitted,
        /// A member of a policy matches nothing.
        DanglingMember,
        /// A listed name of a policy means this token or account from now on.
        MemberBound,
        /// The spec is accepted.
        Accepted,
        /// The spec asks for no endpoint.
        NoEndpoints,
        /// An endpoint of the Instance is disabled, so every token is refused.
        EndpointDisabled,
        /// The API server does not stamp the creators of tokens.
        StampsMissing,
        /// The Instance asks for grants, and this operator runs without them.
        GrantsOff,
    }

    // Faults that are corrected in the spec of the object with the fault.
    Sense::Fault(Mended::Here) => {
        /// A field of the spec breaks a rule.
        Invalid,
        /// The requested lifetime is longer than the Instance allows.
        LifetimeExceeded,
        /// The requested overlap is longer than the Instance allows.
        OverlapExceeded,
        /// The values would rotate more often than the Instance allows.
        RotationTooFrequent,
        /// No rotation falls into a maintenance window.
        WindowsUnmet,
        /// The token has no description, and the Instance requires one.
        DescriptionMissing,
        /// The Secret of the token is to stay, and the Instance demands that every value is shown once.
        DeliveryNotAllowed,
        /// The token has no owner, and the Instance has `ceiling: Members`.
        OwnerMissing,
        /// The Instance has no such role.
        RoleMissing,
        /// The token, account or member lists an organization that the Instance does not list.
        OrganizationUnknown,
        /// A NetworkPolicy for proxies alone is wanted, and neither the Instance nor the chart names the proxies.
        ProxiesUnknown,
    }

    // Faults that may be corrected soon: an object does not exist yet.
    Sense::Fault(Mended::Awaited) => {
        /// A way in waits for its guard.
        GuardAwaited,
        /// The edge has not accepted a way in yet.
        WayInAwaited,
        /// The Instance in `spec.instanceRef` or `spec.audiences` does not exist, or is being deleted.
        InstanceMissing,
        /// The `tokenry.dev` ServiceAccount in `spec.serviceAccountRef` does not exist, or is being deleted.
        AccountMissing,
        /// An AccessPolicy in `spec.policies` does not exist, or belongs to another Instance.
        PolicyMissing,
        /// A workload in `spec.restart` does not exist.
        WorkloadMissing,
        /// The Service that serves the Admin API does not exist.
        ServiceMissing,
        /// The Secret in `ca` of an endpoint does not exist.
        CaMissing,
        /// The Secret in `ingress.tls` of an endpoint does not exist, or has another type.
        CertificateMissing,
    }

    // Faults that are corrected in another object.
    Sense::Fault(Mended::Elsewhere) => {
        /// The status exists and cannot be read. The operator does nothing that depends on it.
        StatusUnreadable,
        /// The owner was removed, or holds too weak a role in the Instance. The Instance requires that the token is
        /// revoked or suspended.
        OwnerRemoved,
        /// The owner has more tokens than the Instance allows.
        TooManyTokens,
        /// An Instance that should accept the token has faults.
        InstanceInvalid,
        /// The Instance does not allow tokens of this namespace.
        NamespaceNotAdmitted,
        /// An account with the token's name exists and does not belong to the token. Or the account that it names is
        /// younger than the token, and has another owner.
        AccountForeign,
        /// The account belongs to another Instance than the token.
        AccountMismatch,
        /// A Secret with the requested name exists and does not belong to the token.
        SecretForeign,
        /// The Secret is immutable, so no further value can be written to it.
        SecretImmutable,
        /// The operator lacks the permission to read a workload in `spec.restart`.
        WorkloadForbidden,
        /// The Service that serves the Admin API has no such port, or no selector, so Tokenry cannot expose it.
        ServiceUnusable,
        /// Another Instance holds the host of an endpoint.
        HostTaken,
        /// The edge refuses a way in. The message has its reason.
        WayInRefused,
        /// Another object leads to the API past the guard.
        Bypassed,
        /// A probe got another answer than the challenge of the verifier.
        NoChallenge,
        /// A probe got no answer.
        Unreachable,
        /// The network does not enforce the NetworkPolicy of an endpoint.
        PolicyNotEnforced,
        /// The Secret in `ca` of an endpoint has another type, or no usable `ca.crt`. Or the operator may not read it.
        CaUnusable,
    }

    // Causes for replacing a value that is lost or damaged.
    Sense::Damage => {
        /// The Secret holds a value without a record, because the status was lost, for example in a restore from a
        /// backup.
        RecordsLost,
        /// The Secret does not exist any more.
        SecretMissing,
        /// The Secret does not hold the value on record.
        SecretAltered,
    }

    // The cause of an action, or of a failure.
    Sense::Deed => {
        /// No generation was ever published.
        FirstIssue,
        /// A generation is on record, but the Secret may or may not hold it.
        PublishIncomplete,
        /// The spec asks for another name than that of the Secret with the value.
        SecretRenamed,
        /// The Secret with the old name still exists.
        SecretLeftOver,
        /// A template of a key that contains the value has changed, or another value in it.
        TemplateChanged,
        /// The Secret's other keys, labels or annotations differ from the spec.
        SecretOutdated,
        /// `regenerate.id` asks for a new generation.
        RegenerateAsked,
        /// The value was shown once, or the time for claiming it is over.
        Claimed,
        /// The Instance allows a shorter lifetime than a generation has, or the token ends earlier.
        LifetimeShortened,
        /// The served generation is due to be replaced, or has expired.
        RotationDue,
        /// The workloads are not yet restarted for the published generation.
        RestartDue,
        /// The workloads were restarted for the published generation.
        Restarted,
        /// The restart of a workload failed.
        RestartFailed,
        /// A generation has expired, or less is allowed than before. The records do not say so yet.
        RecordsOutdated,
        /// The API server forbids a request of the operator. The operator lacks a permission, or an admission policy
        /// or another admission plugin denies the request.
        RequestForbidden,
        /// A write of the Secret failed.
        PublishFailed,
        /// A write of the account failed.
        AccountFailed,
        /// An object with the name that an endpoint needs exists and does not belong to the Instance.
        EndpointForeign,
        /// The cluster does not serve a kind of object that an endpoint needs.
        EndpointUnserved,
        /// The chart has not switched on a kind that an endpoint needs.
        EndpointKindOff,
        /// A write of an object of an endpoint failed.
        EndpointFailed,
        /// A Role or RoleBinding with the name that a grant needs exists and does not belong to the object.
        GrantForeign,
        /// A read or write of the Role or RoleBinding of a grant failed.
        GrantFailed,
        /// An operator took the Lease, so it leads.
        LeaseTaken,
        /// The leading operator ends. It releases the Lease after its last write, so another one leads at once.
        LeaseReleased,
    }
}

impl Reason {
    /// True if the operator's administrators should look at it: a write failed, or data was lost. All other reasons
    /// concern the object's user.
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::PublishFailed
                | Self::AccountFailed
                | Self::RestartFailed
                | Self::EndpointFailed
                | Self::RequestForbidden
                | Self::GrantFailed
                | Self::StatusUnreadable
                | Self::RecordsLost
        )
    }

    /// True if the object, or its namespace, is being deleted. Nothing is then done or reported any more.
    pub fn is_going(self) -> bool {
        self.sense() == Sense::Going
    }

    /// True if a value is lost or damaged, so that it is replaced.
    pub fn is_damage(self) -> bool {
        self.sense() == Sense::Damage
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A variant's name is its public name.
        fmt::Debug::fmt(self, f)
    }
}
