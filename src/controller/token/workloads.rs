//! What a pass knows of the workloads that a token has restarted, and of the other tokens that share them.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::{
    crd::{ApiToken, RestartTarget, api_token::ApiTokenStatus, workload::Restart},
    outside::{Refusal, Workload},
    token::{Records, State, duration::after},
};

/// For so long nobody has to have published who shares a workload: tokens that rotate together restart it once.
const QUIET: SignedDuration = SignedDuration::from_secs(5);

/// And for so long a restart waits at the most.
const LATEST: SignedDuration = SignedDuration::from_secs(30);

/// The workloads of a token, as far as a pass needs them: in the order of `spec.restart`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Workloads {
    /// Nothing depends on them, and they were not read.
    #[default]
    Unread,
    /// Something may be minted: they have to be there.
    Checked(Vec<Seen>),
    /// They are due to be restarted.
    Due(Vec<Seen>),
}

/// What stands under a workload's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// The operator may not know.
    Forbidden(Refusal),
    /// This.
    There(Workload),
}

/// Another token that names one of the workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fellow {
    /// Its uid.
    pub uid: String,
    /// The workloads that it names.
    pub targets: Vec<RestartTarget>,
    /// Its own restart, where one is pending.
    pub pending: Option<Pending>,
}

/// A published generation for which the workloads were not restarted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its number.
    pub generation: i64,
    /// Its public id.
    pub id: String,
    /// When it was published.
    pub published_at: Timestamp,
}

impl Pending {
    /// What is noted as pending, while it is served.
    pub fn of(restart: Option<&Restart>, records: &Records) -> Option<Self> {
        let restart = restart.filter(|restart| restart.at.is_none())?;
        let record = records.get(restart.generation).filter(|record| record.state == State::Active)?;
        let published_at = record.published_at.as_ref()?.0;
        Some(Self { generation: restart.generation, id: record.id.clone(), published_at })
    }

    /// When the workloads are restarted for it: a function of durable facts, so that each of the tokens comes to the
    /// same. What was published in the future, before a clock was set back, holds nothing up.
    pub fn due_at(&self, fellows: &[Fellow], now: Timestamp) -> Timestamp {
        if self.published_at > now {
            return now;
        }
        let others = fellows.iter().filter_map(|fellow| fellow.pending.as_ref()).map(|pending| pending.published_at);
        let last = others.filter(|&at| at <= now).fold(self.published_at, Timestamp::max);
        after(last, QUIET).min(after(self.published_at, LATEST))
    }
}

impl Fellow {
    /// A token as the cache has it.
    pub fn of(token: &ApiToken, now: Timestamp) -> Self {
        let none = ApiTokenStatus::default();
        let status = token.status.as_ref().unwrap_or(&none);
        let pending = Pending::of(status.restart.as_ref(), &Records::at(&status.records, now));
        Self { uid: token.uid().unwrap_or_default(), targets: token.spec.restart.clone(), pending }
    }
}
