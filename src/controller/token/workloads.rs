//! The workloads that a token restarts, and the other tokens that share them.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::{
    crd::{ApiToken, RestartTarget, api_token::ApiTokenStatus, workload::Restart},
    outside::{Refusal, Workload},
    token::{Records, State, duration::after},
};

/// A restart waits until no token that shares the workload has published for this long. So tokens that rotate together
/// restart it once.
const QUIET: SignedDuration = SignedDuration::from_secs(5);

/// The longest time that a restart waits after the publish.
const LATEST: SignedDuration = SignedDuration::from_secs(30);

/// The workloads of a token, in the order of `spec.restart`. They are read only if the pass needs them.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Workloads {
    /// The pass does not need them and has not read them.
    #[default]
    Unread,
    /// The pass may mint or report faults, so it has read the workloads.
    Checked(Vec<Seen>),
    /// Their restart is due.
    Due(Vec<Seen>),
}

/// The result of reading one workload.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The workload does not exist.
    Absent,
    /// The operator has no permission to read the workload.
    Forbidden(Refusal),
    /// The workload exists.
    There(Workload),
}

/// Another token that restarts one of the workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fellow {
    /// The uid of the other token.
    pub uid: String,
    /// The workloads that the other token restarts.
    pub targets: Vec<RestartTarget>,
    /// The pending restart of the other token; none if there is no such restart.
    pub pending: Option<Pending>,
}

/// A restart of the workloads that is still pending, for a published generation or for a later change of its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The generation's number.
    pub generation: i64,
    /// The text of the annotation: the generation's public id, with the digest of a later change.
    pub id: String,
    /// The time of its publish, or of the change.
    pub since: Timestamp,
}

impl Pending {
    /// The restart that the status notes as pending. None once its generation is no longer served.
    pub fn of(restart: Option<&Restart>, records: &Records) -> Option<Self> {
        let restart = restart.filter(|restart| restart.at.is_none())?;
        let record = records.get(restart.generation).filter(|record| record.state == State::Active)?;
        let published_at = record.published_at.as_ref()?.0;
        let (id, since) = match (&restart.changed_at, &restart.endpoint_digest) {
            (Some(changed), Some(digest)) => (format!("{}.{digest}", record.id), changed.0),
            (None, _) | (_, None) => (record.id.clone(), published_at),
        };
        Some(Self { generation: restart.generation, id, since })
    }

    /// The time at which the restart is due. It depends on persistent facts only, so all tokens that share a workload
    /// compute the same time. A time in the future, as after a clock was set back, delays no restart.
    pub fn due_at(&self, fellows: &[Fellow], now: Timestamp) -> Timestamp {
        if self.since > now {
            return now;
        }
        let others = fellows.iter().filter_map(|fellow| fellow.pending.as_ref()).map(|pending| pending.since);
        let last = others.filter(|&at| at <= now).fold(self.since, Timestamp::max);
        after(last, QUIET).min(after(self.since, LATEST))
    }
}

impl Fellow {
    /// The fellow for a token in the cache.
    pub fn of(token: &ApiToken, now: Timestamp) -> Self {
        let none = ApiTokenStatus::default();
        let status = token.status.as_ref().unwrap_or(&none);
        let pending = Pending::of(status.restart.as_ref(), &Records::at(&status.records, now));
        Self { uid: token.uid().unwrap_or_default(), targets: token.spec.restart.clone(), pending }
    }
}
