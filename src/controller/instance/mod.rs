//! The `Instance` controller: the policy for its tokens, and the objects for its endpoints.

mod bypass;
#[cfg(test)]
mod continuity;
mod decide;
mod execute;
mod hosts;
mod manifest;
#[cfg(test)]
mod matrix;
mod observe;
mod probes;
mod proofs;
mod settle;
mod steps;
mod surroundings;
mod validate;

use std::sync::Arc;

use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Caches, Obstacle, Rooms,
    depends::Depends,
    grants::{self, Granted, granting},
    kind::{Checked, Kind, Settled, Unreadable, Version, version},
    run::{each, every, mapped, names, together},
};
use crate::{
    crd::{ApiToken, Instance, Reason, instance::InstanceStatus},
    outside::{Refusal, clock::jumps},
};

pub use decide::{Bar, Decision, Deed, Planned};
pub use observe::{Observed, Place, World};
pub use validate::{InstanceTerms, forget_after, policy};

pub(super) use manifest::faults_of_manifest;

impl Kind for Instance {
    type World = World;
    type Terms = InstanceTerms;
    type Decision = Decision;
    type Progress = execute::Progress;
    type Status = InstanceStatus;

    const WHEN_UNREADABLE: &'static str =
        "the objects of its endpoints are not changed, and its tokens are judged as before";
    const SAYS_GRANTS_OFF: bool = true;

    async fn observe(self: Arc<Self>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
        observe::observe(self, rooms, now).await
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
        execute::probe(rooms, world);
        let writes = decision.plan.iter().any(|planned| planned.deed.is_write());
        let progress = execute::execute(rooms, decision).await?;
        if writes {
            execute::probe_soon(rooms, world);
        }
        Ok((version(&*world.instance), progress))
    }

    fn refusals(progress: &execute::Progress) -> Vec<&Refusal> {
        progress.failure.iter().collect()
    }

    fn settle(world: &World, terms: &Checked<InstanceTerms>, progress: &execute::Progress) -> Settled<InstanceStatus> {
        settle::settle(world, terms, progress)
    }

    /// Faulty rules let nobody in, so no right follows from them.
    fn grants(world: &World) -> Option<Vec<Granted>> {
        let rules = world.instance.rules().filter(|_| world.instance.grants_rights());
        Some(rules.map(|rules| grants::of_instance(&world.instance, rules)).unwrap_or_default())
    }

    fn conditions(status: &mut InstanceStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn status(&self) -> Option<&InstanceStatus> {
        self.status.as_ref()
    }

    fn unreadable(status: &InstanceStatus) -> Unreadable<'_> {
        Unreadable { fields: &status.unreadable, conditions: &status.conditions }
    }
}

/// The names of Instances that need a pass. The Instance has changed, or one of its tokens, or an object that it made
/// or refers to.
pub fn triggers(rooms: &Arc<Rooms>) -> SelectAll<BoxStream<'static, ObjectRef<Instance>>> {
    // Each cache is named here, so that a new cache does not compile before it is considered here.
    let Caches {
        instances,
        tokens,
        services,
        exposing,
        accounts: _,
        policies: _,
        users: _,
        secrets: _,
        namespaces: _,
        roles,
        bindings,
    } = &*rooms.caches;
    let (tidied, counted) = (rooms.clone(), rooms.clone());
    let own = [
        each(instances.touched().inspect(move |instance| {
            tidied.rules.tidy(&tidied.caches.instances, instance);
            execute::forget_probes(&tidied, instance);
        })),
        together(mapped(tokens.touched(), move |token: &ApiToken| {
            let (wanted, home) = (&token.spec.instance_ref, token.namespace().unwrap_or_default());
            names(counted.caches.instances.get(wanted.namespace_or(&home), wanted.name.as_str()))
        })),
        every(jumps(rooms.clock.clone()), instances.store()),
        every(rooms.stamping.changes(), instances.store()),
        every(rooms.by_https.changes(), instances.store()),
        rooms.prober.changes().boxed(),
        granting(roles, instances.store()),
        granting(bindings, instances.store()),
    ];
    let (served, led) = (rooms.clone(), rooms.clone());
    let services =
        mapped(services.touched(), move |service| exposed_in(&served, &service.namespace().unwrap_or_default()));
    let exposing = exposing.triggers(&instances.store(), move |home| exposed_in(&led, home));
    futures::stream::select_all(own.into_iter().chain([services]).chain(exposing))
}

/// The names of Instances with an endpoint in a namespace.
fn exposed_in(rooms: &Rooms, home: &str) -> Vec<ObjectRef<Instance>> {
    rooms.caches.instances.names(&Depends::Home(home))
}
