//! What [`execute`](super::execute) did, as [`settle`](super::settle) is told it.

use jiff::Timestamp;

use super::act::{Act, Decision};
use crate::{
    controller::Obstacle,
    crd::{
        Reason, RestartTarget,
        api_token::{BoundAccount, Claim, RevocationReason},
    },
    outside::Refusal,
    token::Record,
};

/// How far a pass came.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What was to be done.
    pub decision: Decision,
    /// The account that the token was bound to.
    pub bound: Option<BoundAccount>,
    /// The generation that was put on record.
    pub recorded: Option<Record>,
    /// The generation that the Secret holds, and since when.
    pub published: Option<(i64, Timestamp)>,
    /// What became of a value that is shown once.
    pub claim: Option<Claim>,
    /// What became of a restart that was due.
    pub rolled: Option<Rolled>,
    /// Why the token's own account could not be brought up to date.
    pub unfollowed: Option<Refusal>,
    /// What could not be done.
    pub failure: Option<Failure>,
}

/// Something that could not be done, and will be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The word for it.
    pub reason: Reason,
    /// Why not.
    pub obstacle: Obstacle,
}

impl Progress {
    /// Nothing was done yet.
    pub fn none(decision: Decision) -> Self {
        Self {
            decision,
            bound: None,
            recorded: None,
            published: None,
            claim: None,
            rolled: None,
            unfollowed: None,
            failure: None,
        }
    }

    /// Why the token is ended, where it is.
    pub fn ends(&self) -> Option<RevocationReason> {
        if let Act::End(reason) = self.decision.act { Some(reason) } else { None }
    }

    /// Whether what was done is about neither the value nor its Secret.
    pub fn is_aside(&self) -> bool {
        matches!(self.decision.act, Act::Discard)
    }

    /// The same, with what could not be done.
    pub fn failed(mut self, reason: Reason, obstacle: impl Into<Obstacle>) -> Self {
        self.failure = Some(Failure { reason, obstacle: obstacle.into() });
        self
    }
}

/// What became of a restart that was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// The generation that it is for.
    pub generation: i64,
    /// Workloads that are not there any more: whatever comes in their place starts with the value.
    pub missing: Vec<RestartTarget>,
    /// The first that could not be restarted, and what the API server said.
    pub failure: Option<(RestartTarget, Refusal)>,
}
