//! Carries out a decision: deletions first, then all other writes.

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

/// The progress of a pass.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The reason of the decision.
    pub reason: Reason,
    /// The places where no action is possible, because of `reason`.
    pub barred: Vec<Place>,
    /// The first write that failed.
    pub failure: Option<Refusal>,
}

/// Carries out `decision`. A refused write goes into status. A stale view is an error, because the next pass reads
/// again.
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
