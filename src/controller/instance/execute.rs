//! Does it: narrows first, then widens.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use super::decide::{Decision, Step};
use crate::{
    controller::{Obstacle, Rooms},
    crd::Reason,
    outside::{Refusal, Why, writer::Written},
};

/// How far a pass came.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The word for what was decided.
    pub reason: Reason,
    /// What could not be done.
    pub failure: Option<Refusal>,
}

/// Does it. What is refused goes into status, unless a new look will do.
pub async fn execute(rooms: &Rooms, decision: Decision) -> Result<Progress, Obstacle> {
    let Decision { reason, service, ingress } = decision;
    let done = async {
        take_away(rooms, &ingress).await?;
        take_away(rooms, &service).await?;
        bring_about(rooms, &service).await?;
        bring_about(rooms, &ingress).await
    };
    match done.await {
        Ok(()) => Ok(Progress { reason, failure: None }),
        Err(refusal) if refusal.why == Why::Stale => Err(refusal.into()),
        Err(refusal) => Ok(Progress { reason, failure: Some(refusal) }),
    }
}

async fn take_away<K: Written + Clone + DeserializeOwned + Debug>(
    rooms: &Rooms,
    step: &Step<K>,
) -> Result<(), Refusal> {
    match step {
        Step::Delete(object) => rooms.writer.delete(&**object).await,
        Step::Keep | Step::Apply(..) | Step::Amend(..) | Step::Blocked => Ok(()),
    }
}

async fn bring_about<K: Written + Serialize>(rooms: &Rooms, step: &Step<K>) -> Result<(), Refusal> {
    match step {
        Step::Apply(object, standing) => rooms.writer.apply(&**object, standing).await.map(|_| ()),
        Step::Amend(object, changes) => rooms.writer.amend(&**object, changes.clone()).await.map(|_| ()),
        Step::Keep | Step::Delete(_) | Step::Blocked => Ok(()),
    }
}
