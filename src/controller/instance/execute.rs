//! Carries out a decision: deletions first, then all other writes.

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    decide::{Decision, Deed},
    observe::{Place, World},
};
use crate::{
    controller::{Obstacle, Rooms},
    crd::{Instance, Reason},
    exposure::with_object,
    outside::{Refusal, Why},
};

/// The progress of a pass.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The reason of the decision.
    pub reason: Reason,
    /// The places where no action is possible, because of `reason`.
    pub barred: Vec<Place>,
    /// The obstacles that keep a way in shut, in words.
    pub waits: Vec<String>,
    /// The time of the next step of a removal.
    pub next: Option<Timestamp>,
    /// The first write that failed.
    pub failure: Option<Refusal>,
}

/// Carries out `decision`. A refused write goes into status. A stale view is an error, because the next pass reads
/// again.
pub(crate) async fn execute(rooms: &Rooms, decision: Decision) -> Result<Progress, Obstacle> {
    let barred = decision.barred().collect();
    let Decision { reason, plan, waits, next } = decision;
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
        Ok(()) => Ok(Progress { reason, barred, waits, next, failure: None }),
        Err(Refusal { why: Why::Stale, .. }) => Err(Obstacle::Changed),
        Err(refusal) => Ok(Progress { reason, barred, waits, next, failure: Some(refusal) }),
    }
}

/// Keeps the probes of the Instance as the spec wants them.
pub(crate) fn probe(rooms: &Rooms, world: &World) {
    let is_going = world.instance.metadata.deletion_timestamp.is_some();
    let all = world.answers.values().filter(|_| !is_going).flat_map(|answers| answers.probes.all());
    rooms.prober.keep(&ObjectRef::from_obj(&*world.instance), all.collect());
}

/// Probes the Instance soon, as its objects have changed.
pub(crate) fn probe_soon(rooms: &Rooms, world: &World) {
    world.answers.values().flat_map(|answers| answers.probes.all()).for_each(|target| rooms.prober.hurry(&target));
}

/// Ends the probes of an Instance that does not exist any more.
pub(crate) fn forget_probes(rooms: &Rooms, instance: &Instance) {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    if rooms.caches.instances.get(&namespace, &name).is_none() {
        rooms.prober.keep(&ObjectRef::from_obj(instance), Vec::new());
    }
}

async fn take_away(rooms: &Rooms, deed: &Deed) -> Result<(), Refusal> {
    match deed {
        Deed::Delete(piece) => with_object!(piece, object => rooms.writer.delete(&**object).await),
        Deed::Keep | Deed::Apply(..) | Deed::Amend(..) | Deed::Barred(_) => Ok(()),
    }
}

async fn bring_about(rooms: &Rooms, deed: &Deed) -> Result<(), Refusal> {
    let writer = &rooms.writer;
    let receipt = match deed {
        Deed::Apply(piece, standing) => with_object!(piece, object => writer.apply(&**object, standing).await),
        Deed::Amend(piece, changes) => with_object!(piece, object => writer.amend(&**object, changes.clone()).await),
        Deed::Keep | Deed::Delete(_) | Deed::Barred(_) => return Ok(()),
    };
    receipt.map(|_| ())
}
