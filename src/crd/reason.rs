//! The reasons that conditions, events, logs and metrics share, one word each.

use std::fmt;

/// What a reason is the word for. A reason is declared below its sense, and what follows from that holds for a new one
/// as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// The object, or all around it, is going away: nothing is to be done or told any more.
    Going,
    /// How an object is.
    State,
    /// A fault of an object.
    Fault(Mended),
    /// A value is lost or damaged: another takes its place, with a warning.
    Damage,
    /// Why something else is done, or could not be done.
    Deed,
}

/// Where a fault is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// In the spec of the object that has it.
    Here,
    /// By an object that does not exist, and may be about to be created: it is waited for.
    Awaited,
    /// In another object, by a user.
    Elsewhere,
}

macro_rules! reasons {
    ($($sense:expr => { $($(#[$doc:meta])* $reason:ident,)* })*) => {
        /// Why an object is as it is. Its name is what conditions, events, logs and metrics say.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {$($(
            $(#[$doc])*
            $reason,
        )*)*}

        impl Reason {
            /// What it is the word for.
            pub fn sense(self) -> Sense {
                match self {
                    $($(Self::$reason)|* => $sense,)*
                }
            }
        }
    };
}

reasons! {
    // What goes away.
    Sense::Going => {
        /// The object is being deleted.
        Deleting,
        /// The namespace is being deleted: nothing can be written there any more.
        NamespaceTerminating,
    }

    // How an object is.
    Sense::State => {
        /// The Secret holds a valid value and nothing is to be done.
        Active,
        /// As [`Reason::Active`], and a predecessor is in its overlap.
        Rotating,
        /// `active` is false: refused until it is true again.
        Suspended,
        /// The account's `active` is false: refused until it is true again.
        AccountSuspended,
        /// `revoked` is true: refused for ever.
        Revoked,
        /// The account that the token was bound to is gone: refused for ever.
        AccountDeleted,
        /// The groups of its owner were stamped too long ago to be relied on.
        OwnerStale,
        /// It is valid, and has neither a role nor a policy that permits anything.
        NoPermissions,
        /// Its owner is another now.
        OwnerChanged,
        /// Its effective role is another now.
        RoleChanged,
        /// Out of time, and nothing renews it.
        Expired,
        /// It ended so long ago that its Instance wants it deleted.
        Forgotten,
        /// The served generation is about to expire, and nothing will renew it.
        ExpiringSoon,
        /// Another field manager has set fields of the token's own account, which hold the token to less.
        LimitedByAccount,
        /// Something is permitted.
        Permitted,
        /// A member that matches nothing.
        DanglingMember,
        /// A listed name means this token or account from now on.
        MemberBound,
        /// All is as asked for.
        Accepted,
        /// No endpoint is asked for.
        NoEndpoints,
        /// An endpoint of the Instance is disabled: every token is refused.
        EndpointDisabled,
        /// Nothing stamps who makes a token.
        StampsMissing,
    }

    // What is wrong, and mended in the spec of the object that has the fault.
    Sense::Fault(Mended::Here) => {
        /// A field of the spec breaks a rule.
        Invalid,
        /// It is to be valid for longer than the Instance allows.
        LifetimeExceeded,
        /// Its predecessors are to stay valid for longer than the Instance allows.
        OverlapExceeded,
        /// Its values are to be renewed more often than the Instance allows.
        RotationTooFrequent,
        /// No rotation meets a maintenance window.
        WindowsUnmet,
        /// It does not say what it is for, and the Instance wants that.
        DescriptionMissing,
        /// It names no owner, and the Instance's ceiling is what its owner holds.
        OwnerMissing,
        /// The Instance has no such role.
        RoleMissing,
    }

    // What is wrong, and may be about to be mended: something is not there yet.
    Sense::Fault(Mended::Awaited) => {
        /// The Instance that is referred to does not exist.
        InstanceMissing,
        /// The `tokenry.dev` ServiceAccount that is referred to does not exist.
        AccountMissing,
        /// A key of the Secret is made of the endpoint, and the Instance has none that stands yet.
        EndpointAwaited,
        /// A workload that is to be restarted does not exist.
        WorkloadMissing,
        /// The Service that serves the Admin API does not exist.
        ServiceMissing,
    }

    // What is wrong, and mended in another object.
    Sense::Fault(Mended::Elsewhere) => {
        /// The status is there and cannot be read: nothing is done by it.
        StatusUnreadable,
        /// The operator lacks the permission to write the status.
        StatusForbidden,
        /// Its owner is gone or holds too little in the Instance, which wants the token revoked or suspended.
        OwnerRemoved,
        /// Its owner has more tokens than the Instance allows.
        TooManyTokens,
        /// The Instance that is referred to has a faulty token policy.
        InstanceInvalid,
        /// The Instance does not admit tokens of this namespace.
        NamespaceNotAdmitted,
        /// An account of the token's name exists and belongs to someone else.
        AccountForeign,
        /// The account belongs to another Instance than the token.
        AccountMismatch,
        /// A Secret of that name exists and belongs to someone else.
        SecretForeign,
        /// The Secret was made immutable: nothing can be delivered in it any more.
        SecretImmutable,
        /// The operator may not read a workload that is to be restarted.
        WorkloadForbidden,
        /// The Service that serves the Admin API cannot be fronted: no such port, or no selector.
        ServiceUnusable,
    }

    // Why a value is replaced that is lost or damaged.
    Sense::Damage => {
        /// The Secret holds a value of which there is no record: status was lost, as by a restore from a backup.
        RecordsLost,
        /// The Secret is gone.
        SecretMissing,
        /// The Secret holds something else than the generation on record.
        SecretAltered,
    }

    // Why something else is done, or could not be done.
    Sense::Deed => {
        /// No generation was ever published.
        FirstIssue,
        /// A generation is on record and it is not known whether the Secret holds it.
        PublishIncomplete,
        /// Another name is asked for than that of the Secret which holds the value.
        SecretRenamed,
        /// The Secret of the old name is still there.
        SecretLeftOver,
        /// What the keys that hold the value are made of has changed.
        TemplateChanged,
        /// The Secret's other keys, labels or annotations are not as they should be.
        SecretOutdated,
        /// `regenerate.id` asks for a new generation.
        RegenerateAsked,
        /// The value was to be shown once, and was.
        Claimed,
        /// The Instance allows a shorter lifetime than a generation was given, or the token ends earlier.
        LifetimeShortened,
        /// The served generation is due to be replaced, or has expired.
        RotationDue,
        /// The workloads wait to be restarted for the published generation.
        RestartDue,
        /// The workloads were restarted for the published generation.
        Restarted,
        /// A workload could not be restarted.
        RestartFailed,
        /// A generation ran out of time, or less is allowed than before: its records are to say so.
        RecordsOutdated,
        /// The Secret could not be written.
        PublishFailed,
        /// The account could not be made, or changed.
        AccountFailed,
        /// An object of the name that an endpoint needs exists and belongs to someone else.
        EndpointForeign,
        /// The cluster does not serve a kind of object that an endpoint needs.
        EndpointUnserved,
        /// An object of an endpoint could not be written.
        EndpointFailed,
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
                | Self::StatusForbidden
                | Self::StatusUnreadable
                | Self::RecordsLost
        )
    }

    /// Whether the object, or all around it, is going away, so that nothing is to be done or told any more.
    pub fn is_going(self) -> bool {
        self.sense() == Sense::Going
    }

    /// Whether a value is lost or damaged, so that another takes its place.
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
