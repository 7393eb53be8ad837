//! The `Instance` controller: what its tokens obey, and the objects that its endpoints need.

mod decide;
mod execute;
mod observe;
mod settle;
mod validate;

use std::sync::Arc;

use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll},
};
use jiff::Timestamp;
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Obstacle, Rooms,
    depends::Depends,
    kind::{Checked, Kind, Settled, Unreadable, Version, version},
    run::{each, every, mapped, names, together},
};
use crate::{
    crd::{ApiToken, Instance, Reason, instance::InstanceStatus},
    outside::{Refusal, clock::jumps},
};

pub use decide::{Decision, Deed, Planned};
pub use observe::{Observed, Place, World};
pub use validate::{InstanceTerms, forget_after, policy};

impl Kind for Instance {
    type World = World;
    type Terms = InstanceTerms;
    type Decision = Decision;
    type Progress = execute::Progress;
    type Status = InstanceStatus;

    const WHEN_UNREADABLE: &'static str =
        "nothing is exposed, changed or withdrawn for it, and its tokens are judged as before";
    async fn observe(self: Arc<Self>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
        Ok(observe::observe(self, rooms, now).await)
    }

    fn validate(world: &World) -> Checked<InstanceTerms> {
        validate::validate(world)
    }

    fn decide(world: &World, terms: &Checked<InstanceTerms>) -> Decision {
        decide::decide(world, terms)
    }

    fn reason(decision: &Decision) -> Reason {
        decision.reason
    }

    async fn execute(
        rooms: &Rooms,
        world: &World,
        _: &Checked<InstanceTerms>,
        decision: Decision,
    ) -> Result<(Version, execute::Progress), Obstacle> {
        Ok((version(&*world.instance), execute::execute(rooms, decision).await?))
    }

    fn settle(world: &World, terms: &Checked<InstanceTerms>, progress: &execute::Progress) -> Settled<InstanceStatus> {
        settle::settle(world, terms, progress)
    }

    fn status(&self) -> Option<&InstanceStatus> {
        self.status.as_ref()
    }

    fn unreadable(status: &InstanceStatus) -> Unreadable<'_> {
        Unreadable { fields: &status.unreadable, conditions: &status.conditions }
    }
}

/// Names the Instances that something has happened to: to themselves, to their tokens, or to a Service or Ingress in
/// their namespace that they made or refer to.
pub fn triggers(rooms: &Arc<Rooms>) -> SelectAll<BoxStream<'static, ObjectRef<Instance>>> {
    let caches = &rooms.caches;
    let (instances, services, ingresses, tokens) = (rooms.clone(), rooms.clone(), rooms.clone(), rooms.clone());
    futures::stream::select_all([
        each(
            caches
                .instances
                .touched()
                .inspect(move |instance| instances.rules.tidy(&instances.caches.instances, instance)),
        ),
        mapped(caches.services.touched(), move |service| using(&services, service)),
        mapped(caches.ingresses.touched(), move |ingress| using(&ingresses, ingress)),
        together(mapped(caches.tokens.touched(), move |token: &ApiToken| {
            let (wanted, home) = (&token.spec.instance_ref, token.namespace().unwrap_or_default());
            names(tokens.caches.instances.get(wanted.namespace_or(&home), wanted.name.as_str()))
        })),
        every(jumps(rooms.clock.clone()), caches.instances.store()),
        every(rooms.stamping.changes(), caches.instances.store()),
        every(caches.ingresses.changes(), caches.instances.store()),
    ])
}

fn using(rooms: &Rooms, object: &impl Resource) -> Vec<ObjectRef<Instance>> {
    let (home, name) = (object.namespace().unwrap_or_default(), object.name_any());
    names(rooms.caches.instances.by(&Depends::Exposed(&home, &name)))
}
