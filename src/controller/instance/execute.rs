//! Does it: narrows first, then widens.

use super::{
    decide::{Decision, Deed},
    observe::Place,
};
use crate::{
    controller::{Obstacle, Rooms},
    crd::Reason,
    exposure::Piece,
    outside::{Refusal, Why},
};

/// How far a pass came.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The word for what was decided.
    pub reason: Reason,
    /// Where nothing can be done, and `reason` says why.
    pub barred: Vec<Place>,
    /// What could not be done.
    pub failure: Option<Refusal>,
}

/// Does it. What is refused goes into status, unless a new look will do.
pub(crate) async fn execute(rooms: &Rooms, decision: Decision) -> Result<Progress, Obstacle> {
    let barred = decision.barred().collect();
    let Decision { reason, plan } = decision;
    let done = async {
        for planned in plan.iter().rev() {
            take_away(rooms, &planned.deed).await?;
        }
        for planned in &plan {
            bring_about(rooms, &planned.deed).await?;
        }
        Ok(())
    };
    match done.await {
        Ok(()) => Ok(Progress { reason, barred, failure: None }),
        Err(Refusal { why: Why::Stale, .. }) => Err(Obstacle::Changed),
        Err(refusal) => Ok(Progress { reason, barred, failure: Some(refusal) }),
    }
}

async fn take_away(rooms: &Rooms, deed: &Deed) -> Result<(), Refusal> {
    match deed {
        Deed::Delete(Piece::Service(service)) => rooms.writer.delete(&**service).await,
        Deed::Delete(Piece::Ingress(ingress)) => rooms.writer.delete(&**ingress).await,
        Deed::Keep | Deed::Apply(..) | Deed::Amend(..) | Deed::Blocked | Deed::Unserved => Ok(()),
    }
}

async fn bring_about(rooms: &Rooms, deed: &Deed) -> Result<(), Refusal> {
    let writer = &rooms.writer;
    let receipt = match deed {
        Deed::Apply(Piece::Service(service), standing) => writer.apply(&**service, standing).await,
        Deed::Apply(Piece::Ingress(ingress), standing) => writer.apply(&**ingress, standing).await,
        Deed::Amend(Piece::Service(service), changes) => writer.amend(&**service, changes.clone()).await,
        Deed::Amend(Piece::Ingress(ingress), changes) => writer.amend(&**ingress, changes.clone()).await,
        Deed::Keep | Deed::Delete(_) | Deed::Blocked | Deed::Unserved => return Ok(()),
    };
    receipt.map(|_| ())
}
