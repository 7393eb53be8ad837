//! Says what is to be done about the objects of an Instance's endpoint.

use std::sync::Arc;

use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;

use super::{
    observe::{Observed, World},
    validate::InstanceTerms,
};
use crate::{
    controller::kind::Checked,
    crd::{
        self, Instance, Reason,
        fault::first,
        instance::{EndpointType, Scheme},
        name,
    },
    exposure::{ingress, service},
    outside::{Standing, writer::holds},
    token::Digest,
};

/// What is to be done, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The word for it.
    pub reason: Reason,
    /// About the Service.
    pub service: Step<Service>,
    /// About the Ingress.
    pub ingress: Step<Ingress>,
}

/// What is to be done about one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<K> {
    /// Nothing.
    Keep,
    /// Bring it about, where what was seen still stands.
    Apply(Box<K>, Standing),
    /// Take it away.
    Delete(Arc<K>),
    /// Merge this into it.
    Amend(Arc<K>, Value),
    /// Nothing can be done: the name is taken.
    Blocked,
}

/// What is to be done. Taking away does not depend on what is missing for bringing about.
pub fn decide(world: &World, terms: &Checked<InstanceTerms>) -> Decision {
    let keep = |reason| Decision { reason, service: Step::Keep, ingress: Step::Keep };
    let instance = &world.instance;
    let terms = match terms {
        _ if instance.metadata.deletion_timestamp.is_some() => return keep(Reason::Deleting),
        _ if world.terminating => return keep(Reason::NamespaceTerminating),
        Err(faults) => return keep(first(faults)),
        Ok(terms) => terms,
    };
    let external = instance.endpoints().any(|endpoint| endpoint.reach() == EndpointType::External);
    let gone = || step(&world.ingress, None);
    match &terms.endpoint {
        Ok(Some(exposed)) => {
            let service = service_step(&world.service, owned(service::build(exposed, scheme(instance)), instance));
            // A way in must not lead to a Service of someone else.
            let led = ingress::build(exposed).filter(|_| service != Step::Blocked);
            let ingress = step(&world.ingress, led.map(|ingress| owned(ingress, instance)));
            let reason = if service == Step::Blocked || ingress == Step::Blocked {
                Reason::EndpointForeign
            } else {
                Reason::Accepted
            };
            Decision { reason, service, ingress }
        }
        Ok(None) => {
            let reason = if instance.is_disabled() { Reason::EndpointDisabled } else { Reason::NoEndpoints };
            Decision { reason, service: step(&world.service, None), ingress: gone() }
        }
        Err(missing) => Decision {
            reason: missing.reason,
            service: Step::Keep,
            ingress: if external { Step::Keep } else { gone() },
        },
    }
}

fn scheme(instance: &Instance) -> Scheme {
    instance.manager_service().map(|service| service.scheme).unwrap_or_default()
}

/// What is to be done so that `desired` stands where `observed` does.
fn step<K: Resource + Serialize>(observed: &Observed<K>, desired: Option<K>) -> Step<K> {
    match (observed, desired) {
        (Observed::Absent, None) | (Observed::Foreign, None) => Step::Keep,
        (Observed::Absent, Some(desired)) => Step::Apply(Box::new(desired), Standing::Absent),
        (Observed::Ours(object), None) => Step::Delete(object.clone()),
        (Observed::Ours(object), Some(desired)) if stands(&**object, &desired) => Step::Keep,
        (Observed::Ours(object), Some(desired)) => Step::Apply(Box::new(desired), Standing::seen(&**object)),
        (Observed::Foreign, Some(_)) => Step::Blocked,
    }
}

/// As [`step`], but a Service that stands is mended by a merge: an apply would merge the ports by number, and beside one
/// that someone put in the place of ours it would be refused for the name they share.
fn service_step(observed: &Observed<Service>, desired: Service) -> Step<Service> {
    let Observed::Ours(object) = observed else { return step(observed, Some(desired)) };
    let strange = strange_keys(object, &desired);
    if strange.is_empty() && stands(&**object, &desired) {
        return Step::Keep;
    }
    let mut changes = serde_json::to_value(&desired).unwrap_or_default();
    strange.into_iter().for_each(|key| changes["spec"]["selector"][key] = Value::Null);
    Step::Amend(object.clone(), changes)
}

/// Keys of a selector that nobody asked for: with one more it selects other Pods.
fn strange_keys(observed: &Service, desired: &Service) -> Vec<String> {
    let selector = |service: &Service| service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let wanted = selector(desired);
    selector(observed).into_keys().filter(|key| !wanted.contains_key(key)).collect()
}

fn stands<K: Serialize>(observed: &K, desired: &K) -> bool {
    let value = |object: &K| serde_json::to_value(object).unwrap_or_default();
    holds(&value(observed), &value(desired))
}

/// `object` as the Instance's own, in its namespace, with the digest of what is applied.
fn owned<K: Resource<DynamicType = ()> + Serialize>(mut object: K, instance: &Instance) -> K {
    let digest = Digest::of(serde_json::to_vec(&object).unwrap_or_default()).to_string();
    crd::give(&mut object, instance);
    object.meta_mut().annotations.get_or_insert_default().insert(name::APPLIED.into(), digest);
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{book::Ruled, instance::validate::validate, kind::Checked};
    use serde_json::{Value, json};

    fn world(endpoints: Value) -> World {
        let instance = serde_json::from_value(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "eem", "namespace": "a", "uid": "u"},
            "spec": {"manager": {"service": {"name": "m"}, "endpoints": endpoints}},
        }));
        let manager = serde_json::from_value(json!({"spec": {"selector": {"app": "m"}, "ports": [{"port": 443}]}}));
        World {
            now: jiff::Timestamp::UNIX_EPOCH,
            instance: Ruled::new(Arc::new(instance.unwrap())),
            manager: Some(Arc::new(manager.unwrap())),
            terminating: false,
            service: Observed::Absent,
            ingress: Observed::Absent,
            tokens: crate::controller::census::count([], jiff::Timestamp::UNIX_EPOCH),
            stamped: None,
        }
    }

    fn external() -> World {
        world(json!([{"name": "admin", "host": "a.example.com", "ingress": {}}]))
    }

    fn internal() -> World {
        world(json!([{"name": "admin", "type": "internal"}]))
    }

    fn decided(world: &World) -> Decision {
        let terms: Checked<InstanceTerms> = validate(world);
        decide(world, &terms)
    }

    /// A world in which everything that was decided stands.
    fn done(mut world: World) -> World {
        let decision = decided(&world);
        if let Step::Apply(service, _) = decision.service {
            world.service = Observed::Ours(Arc::new(*service));
        }
        if let Step::Apply(ingress, _) = decision.ingress {
            world.ingress = Observed::Ours(Arc::new(*ingress));
        }
        world
    }

    #[test]
    fn what_stands_as_wanted_is_kept() {
        let decision = decided(&done(external()));
        assert_eq!((decision.service, decision.ingress), (Step::Keep, Step::Keep));
    }

    #[test]
    fn narrowing_takes_the_ingress_away_even_when_the_managers_service_is_gone() {
        let World { service, ingress, .. } = done(external());
        for manager in [internal().manager, None] {
            let narrowed = World { service: service.clone(), ingress: ingress.clone(), manager, ..internal() };
            assert!(matches!(decided(&narrowed).ingress, Step::Delete(_)));
        }
        let none = World { service, ingress, ..world(json!([])) };
        assert!(matches!(decided(&none), Decision { service: Step::Delete(_), ingress: Step::Delete(_), .. }));
    }

    #[test]
    fn what_stands_is_kept_while_the_managers_service_is_gone() {
        let world = World { manager: None, ..done(external()) };
        let decision = decided(&world);
        assert_eq!(decision.reason, Reason::ServiceMissing);
        assert_eq!((decision.service, decision.ingress), (Step::Keep, Step::Keep));
    }

    #[test]
    fn what_belongs_to_someone_else_is_never_touched() {
        let taken = World { service: Observed::Foreign, ingress: Observed::Foreign, ..external() };
        let decision = decided(&taken);
        assert_eq!((decision.service, decision.ingress), (Step::Blocked, Step::Keep));
        let half = World { service: Observed::Absent, ..taken };
        assert!(matches!(decided(&half), Decision { service: Step::Apply(..), ingress: Step::Blocked, .. }));
        let led = World { service: Observed::Foreign, ..done(external()) };
        assert!(matches!(decided(&led).ingress, Step::Delete(_)), "no way in leads to someone else's Service");
        let unwanted = World { service: Observed::Foreign, ingress: Observed::Foreign, ..world(json!([])) };
        assert_eq!((decided(&unwanted).service, decided(&unwanted).ingress), (Step::Keep, Step::Keep));
    }

    #[test]
    fn a_service_that_someone_changed_is_mended() {
        let stands = done(internal());
        let Observed::Ours(good) = &stands.service else { panic!("it stands") };
        let step = |change: fn(&mut k8s_openapi::api::core::v1::ServiceSpec)| {
            let mut service = Service::clone(good);
            change(service.spec.as_mut().unwrap());
            decided(&World { service: Observed::Ours(Arc::new(service)), ..stands.clone() }).service
        };
        let changes: [fn(&mut k8s_openapi::api::core::v1::ServiceSpec); 6] = [
            |spec| spec.ports.as_mut().unwrap().push(Default::default()),
            |spec| spec.ports.as_mut().unwrap()[0].port = 444,
            |spec| spec.ports.as_mut().unwrap()[0].protocol = Some("UDP".into()),
            |spec| spec.ports = None,
            |spec| spec.type_ = Some("NodePort".into()),
            |spec| _ = spec.selector.as_mut().unwrap().insert("a".into(), "b".into()),
        ];
        assert_eq!(step(|_| ()), Step::Keep);
        for (index, change) in changes.into_iter().enumerate() {
            assert!(matches!(step(change), Step::Amend(..)), "{index}");
        }
        let Step::Amend(_, merged) = step(changes[5]) else { panic!("a key more selects other Pods") };
        assert_eq!(merged["spec"]["selector"], json!({"app": "m", "a": null}));
    }

    #[test]
    fn a_key_that_is_no_longer_wanted_is_a_change() {
        let with = |annotations: Value| {
            world(json!([{"name": "admin", "host": "a.example.com", "ingress": {"annotations": annotations}}]))
        };
        let World { service, ingress, .. } = done(with(json!({"a": "b"})));
        let changed = World { service, ingress, ..with(json!({})) };
        assert!(matches!(decided(&changed).ingress, Step::Apply(..)));
    }
}
