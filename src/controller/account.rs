//! The controller of `ServiceAccount` of tokenry.dev: says whether tokens can act as it.

use std::sync::Arc;

use futures::stream::{BoxStream, SelectAll};
use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Rooms,
    kind::{Checked, Kind, Settled, Version, version},
    run::{each, every, mapped},
};
use crate::{
    crd::{
        Account, Conditions, Fault, Instance, Reason,
        account::AccountStatus,
        condition::{ACCEPTED, Conclusion},
    },
    outside::{Refusal, clock::jumps},
};

/// Everything a pass over an account knows.
pub struct World {
    now: Timestamp,
    account: Arc<Account>,
    instance: Option<Arc<Instance>>,
}

impl Kind for Account {
    type World = World;
    type Terms = ();
    type Decision = Reason;
    type Progress = Reason;
    type Status = AccountStatus;

    const STATUS_FIELDS: &'static [&'static str] = &["observedGeneration", "conditions"];

    async fn observe(self: Arc<Self>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
        let namespace = self.namespace().unwrap_or_default();
        let wanted = &self.spec.instance_ref;
        let instance = rooms.caches.instances.get(wanted.namespace_or(&namespace), wanted.name.as_str());
        Ok(World { now, account: self, instance })
    }

    fn validate(world: &World) -> Checked<()> {
        if world.instance.is_some() {
            return Ok(());
        }
        let wanted = &world.account.spec.instance_ref;
        let namespace = world.account.namespace().unwrap_or_default();
        let message =
            format!("there is no Instance {} in namespace {}; create it", wanted.name, wanted.namespace_or(&namespace));
        Err(vec![Fault::new(Reason::InstanceMissing, "spec.instanceRef", message)])
    }

    fn decide(world: &World, terms: &Checked<()>) -> Reason {
        match terms {
            _ if world.account.metadata.deletion_timestamp.is_some() => Reason::Deleting,
            Err(faults) => faults.first().map_or(Reason::Invalid, |fault| fault.reason),
            Ok(()) if !world.account.spec.active => Reason::Suspended,
            Ok(()) => Reason::Active,
        }
    }

    fn reason(decision: &Reason) -> Reason {
        *decision
    }

    async fn execute(
        _: &Rooms,
        world: &World,
        _: &Checked<()>,
        decision: Reason,
    ) -> Result<(Version, Reason), Refusal> {
        Ok((version(&*world.account), decision))
    }

    fn settle(world: &World, terms: &Checked<()>, reason: &Reason) -> Settled<AccountStatus> {
        let account = &world.account;
        let old = account.status.as_ref().map(|status| status.conditions.as_slice());
        let mut conditions = Conditions::from(old, account.metadata.generation, world.now);
        match terms {
            Ok(()) => conditions.set(ACCEPTED, true, Reason::Accepted, "what it refers to exists"),
            Err(faults) => conditions.set(
                ACCEPTED,
                false,
                *reason,
                faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "),
            ),
        }
        let (conclusion, message) = match reason {
            Reason::Active => (Conclusion::Ready, "its tokens are accepted".into()),
            Reason::Suspended => (Conclusion::Paused, "its tokens are refused until active is true again".into()),
            Reason::Deleting => (Conclusion::Working, "being deleted".into()),
            other => (
                Conclusion::of(*other),
                conditions.get(ACCEPTED).map_or_else(String::new, |accepted| accepted.message.clone()),
            ),
        };
        conditions.conclude(conclusion, *reason, message);
        let status =
            AccountStatus { observed_generation: account.metadata.generation, conditions: conditions.into_vec() };
        Settled { status, notes: Vec::new(), wake: None }
    }

    fn status(&self) -> Option<&AccountStatus> {
        self.status.as_ref()
    }
}

/// Names the accounts that something has happened to: to themselves, or to their Instance.
pub fn triggers(rooms: &Arc<Rooms>) -> SelectAll<BoxStream<'static, ObjectRef<Account>>> {
    let caches = &rooms.caches;
    let instances = rooms.clone();
    futures::stream::select_all([
        each(caches.accounts.touched()),
        mapped(caches.instances.touched(), move |instance: &Instance| {
            let namespace = instance.namespace().unwrap_or_default();
            let of = |account: &Account| {
                let wanted = &account.spec.instance_ref;
                wanted.name.as_str() == instance.name_any()
                    && wanted.namespace_or(&account.namespace().unwrap_or_default()) == namespace
            };
            instances.caches.accounts.filter(of).iter().map(|account| ObjectRef::from_obj(&**account)).collect()
        }),
        every(jumps(rooms.clock.clone()), caches.accounts.store()),
    ])
}
