//! The progress of a pass: [`execute`](super::execute) returns it, and [`settle`](super::settle) reads it.

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

/// The progress of a pass.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The decision that the pass carries out.
    pub decision: Decision,
    /// The account that the token was bound to.
    pub bound: Option<BoundAccount>,
    /// The generation that was put on record.
    pub recorded: Option<Record>,
    /// The generation that was published, with the time of its publish.
    pub published: Option<(i64, Timestamp)>,
    /// The claim of a value that is shown once.
    pub claim: Option<Claim>,
    /// The result of a restart that was due.
    pub rolled: Option<Rolled>,
    /// The refusal of an update of the token's own account.
    pub unfollowed: Option<Refusal>,
    /// The action that failed.
    pub failure: Option<Failure>,
}

/// An action that failed and will be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason for conditions and events.
    pub reason: Reason,
    /// The error.
    pub obstacle: Obstacle,
}

impl Progress {
    /// A progress without any results yet.
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

    /// The reason of the revocation, if the decision ends the token.
    pub fn ends(&self) -> Option<RevocationReason> {
        if let Act::End(reason) = self.decision.act { Some(reason) } else { None }
    }

    /// The requests that the API server refused.
    pub fn refusals(&self) -> Vec<&Refusal> {
        let failure = self.failure.as_ref().and_then(|failure| match &failure.obstacle {
            Obstacle::Refused(refusal) => Some(refusal),
            Obstacle::Changed | Obstacle::NoRandomness(_) | Obstacle::TooLong(_) | Obstacle::TookTooLong(_) => None,
        });
        let rolled = self.rolled.as_ref().and_then(|rolled| rolled.failure.as_ref()).map(|(_, refusal)| refusal);
        failure.into_iter().chain(rolled).chain(&self.unfollowed).collect()
    }

    /// True if the action concerns neither the value nor its Secret.
    pub fn is_aside(&self) -> bool {
        matches!(self.decision.act, Act::Discard)
    }

    /// The same progress with a failure.
    pub fn failed(mut self, reason: Reason, obstacle: impl Into<Obstacle>) -> Self {
        self.failure = Some(Failure { reason, obstacle: obstacle.into() });
        self
    }
}

/// The result of a restart that was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// The generation of the restart.
    pub generation: i64,
    /// Workloads that no longer exist. They need no restart: a workload created in their place starts with the value.
    pub missing: Vec<RestartTarget>,
    /// The first workload that could not be restarted, with the answer of the API server.
    pub failure: Option<(RestartTarget, Refusal)>,
}
