//! Says what is to be done about the objects of an Instance's endpoints.

use serde_json::Value;

use super::{
    observe::{Observed, Place, World, is_needed},
    validate::InstanceTerms,
};
use crate::{
    controller::kind::Checked,
    crd::{Fault, Instance, Reason, fault::first, instance::EndpointName, name},
    exposure::{self, Exposed, Piece},
    outside::{Expected, writer::holds},
    token::Digest,
};

/// What is to be done, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The word for it.
    pub reason: Reason,
    /// What is to be done about each object, in the order of stages.
    pub plan: Vec<Planned>,
}

/// What is to be done about one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Where it is.
    pub place: Place,
    /// What is to be done there.
    pub deed: Deed,
}

/// What is to be done about an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Nothing.
    Keep,
    /// Bring it about, where what was seen still stands.
    Apply(Piece, Expected),
    /// Take it away.
    Delete(Piece),
    /// Merge this into it.
    Amend(Piece, Value),
    /// Nothing can be done: the name is taken.
    Blocked,
    /// Nothing can be done: the cluster does not serve the kind.
    Unserved,
}

impl Deed {
    /// Why nothing can be done, where that is so.
    fn barred(&self) -> Option<Reason> {
        match self {
            Self::Blocked => Some(Reason::EndpointForeign),
            Self::Unserved => Some(Reason::EndpointUnserved),
            Self::Keep | Self::Apply(..) | Self::Delete(_) | Self::Amend(..) => None,
        }
    }
}

impl Decision {
    /// Where nothing can be done for the reason that the decision has.
    pub fn barred(&self) -> impl Iterator<Item = Place> {
        self.plan.iter().filter(|planned| planned.deed.barred() == Some(self.reason)).map(|planned| planned.place)
    }
}

/// What is to be done. Taking away does not depend on what is missing for bringing about.
pub(crate) fn decide(world: &World, terms: &Checked<InstanceTerms>) -> Decision {
    let keep = |reason| Decision { reason, plan: Vec::new() };
    let terms = match terms {
        _ if world.instance.metadata.deletion_timestamp.is_some() => return keep(Reason::Deleting),
        _ if world.terminating => return keep(Reason::NamespaceTerminating),
        Err(faults) => return keep(first(faults)),
        Ok(terms) => terms,
    };
    let mut plan: Vec<_> = EndpointName::ALL.into_iter().flat_map(|endpoint| planned(world, terms, endpoint)).collect();
    plan.sort_by_key(|planned| planned.place);
    Decision { reason: reason(world, terms, &plan), plan }
}

/// The word for a plan: what is missing, what bars it, or what is asked for.
fn reason(world: &World, terms: &InstanceTerms, plan: &[Planned]) -> Reason {
    let missing = terms.missing().map(|missing| missing.reason);
    let barred = plan.iter().filter_map(|planned| planned.deed.barred());
    let asked = match terms.endpoints.is_empty() {
        false => Reason::Accepted,
        true if world.instance.is_disabled() => Reason::EndpointDisabled,
        true => Reason::NoEndpoints,
    };
    missing.chain(barred).next().unwrap_or(asked)
}

/// What is to be done about the objects of one endpoint. Nothing leads to what cannot be brought about: a way in must
/// not lead to a Service of someone else.
fn planned(world: &World, terms: &InstanceTerms, endpoint: EndpointName) -> Vec<Planned> {
    let (asked, mut barred) = (terms.endpoints.get(&endpoint), false);
    let places = Place::all().filter(|place| place.endpoint == endpoint);
    let plan = places.map(|place| {
        let deed = deed(world, place, asked.filter(|_| !barred));
        barred |= deed.barred().is_some();
        Planned { place, deed }
    });
    plan.collect()
}

/// What is to be done so that at `place` there stands what is `asked` for.
fn deed(world: &World, place: Place, asked: Option<&Result<Exposed, Fault>>) -> Deed {
    let wanted = match asked {
        Some(Ok(exposed)) => exposure::build(exposed).into_iter().find(|piece| piece.kind() == place.kind),
        Some(Err(_)) if is_needed(&world.instance, place) => return Deed::Keep,
        Some(Err(_)) | None => None,
    };
    let wanted = wanted.map(|piece| owned(piece, &world.instance));
    match (world.pieces.get(&place).unwrap_or(&Observed::Absent), wanted) {
        (Observed::Absent | Observed::Foreign | Observed::Unserved, None) => Deed::Keep,
        (Observed::Absent, Some(wanted)) => Deed::Apply(wanted, Expected::Absent),
        (Observed::Ours(piece), None) => Deed::Delete(piece.clone()),
        (Observed::Ours(piece), Some(wanted)) => mended(piece, wanted),
        (Observed::Foreign, Some(_)) => Deed::Blocked,
        (Observed::Unserved, Some(_)) => Deed::Unserved,
    }
}

/// What is to be done about `piece`, which stands, so that it is as `wanted`.
fn mended(piece: &Piece, wanted: Piece) -> Deed {
    let (standing, mut changes) = (piece.value(), wanted.value());
    let strange = strange_keys(&standing, &changes);
    if strange.is_empty() && holds(&standing, &changes) {
        return Deed::Keep;
    }
    match piece {
        // An apply would merge the ports by number. Beside one that someone put in the place of ours it would be
        // refused for the name they share.
        Piece::Service(_) => {
            strange.into_iter().for_each(|key| changes["spec"]["selector"][key] = Value::Null);
            Deed::Amend(piece.clone(), changes)
        }
        Piece::Ingress(ingress) => Deed::Apply(wanted, Expected::seen(&**ingress)),
    }
}

/// Keys of a selector that nobody asked for: with one more it selects other Pods.
fn strange_keys(standing: &Value, wanted: &Value) -> Vec<String> {
    let selector = |object: &Value| object["spec"]["selector"].as_object().cloned().unwrap_or_default();
    let wanted = selector(wanted);
    selector(standing).into_iter().map(|(key, _)| key).filter(|key| !wanted.contains_key(key)).collect()
}

/// `piece` as the Instance's own, in its namespace, with the digest of what is applied.
fn owned(mut piece: Piece, instance: &Instance) -> Piece {
    let digest = Digest::of(piece.bytes()).to_string();
    piece.give(instance);
    piece.meta_mut().annotations.get_or_insert_default().insert(name::APPLIED.into(), digest);
    piece
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controller::{book::Ruled, instance::validate::validate, kind::Checked},
        exposure::PieceKind,
    };
    use serde_json::{Value, json};
    use std::{collections::BTreeMap, sync::Arc};

    const SERVICE: Place = Place { kind: PieceKind::Service, endpoint: EndpointName::Admin };
    const INGRESS: Place = Place { kind: PieceKind::Ingress, endpoint: EndpointName::Admin };

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
            pieces: BTreeMap::new(),
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

    /// What is decided about the Service and the Ingress.
    fn deeds(world: &World) -> [Deed; 2] {
        let plan = decided(world).plan;
        let of = |place| plan.iter().find(|planned| planned.place == place).map_or(Deed::Keep, |it| it.deed.clone());
        [of(SERVICE), of(INGRESS)]
    }

    fn with(world: World, service: Observed, ingress: Observed) -> World {
        World { pieces: [(SERVICE, service), (INGRESS, ingress)].into(), ..world }
    }

    /// A world in which everything that was decided stands.
    fn done(mut world: World) -> World {
        for Planned { place, deed } in decided(&world).plan {
            if let Deed::Apply(piece, _) = deed {
                world.pieces.insert(place, Observed::Ours(piece));
            }
        }
        world
    }

    #[test]
    fn what_stands_as_wanted_is_kept() {
        assert_eq!(deeds(&done(external())), [Deed::Keep, Deed::Keep]);
    }

    #[test]
    fn narrowing_takes_the_ingress_away_even_when_the_managers_service_is_gone() {
        let World { pieces, .. } = done(external());
        for manager in [internal().manager, None] {
            let narrowed = World { pieces: pieces.clone(), manager, ..internal() };
            assert!(matches!(deeds(&narrowed), [_, Deed::Delete(_)]));
        }
        let none = World { pieces, ..world(json!([])) };
        assert!(matches!(deeds(&none), [Deed::Delete(_), Deed::Delete(_)]));
    }

    #[test]
    fn what_stands_is_kept_while_the_managers_service_is_gone() {
        let world = World { manager: None, ..done(external()) };
        assert_eq!(decided(&world).reason, Reason::ServiceMissing);
        assert_eq!(deeds(&world), [Deed::Keep, Deed::Keep]);
    }

    #[test]
    fn what_belongs_to_someone_else_is_never_touched() {
        let taken = |world| with(world, Observed::Foreign, Observed::Foreign);
        assert_eq!(deeds(&taken(external())), [Deed::Blocked, Deed::Keep]);
        assert!(decided(&taken(external())).barred().eq([SERVICE]));
        let half = with(external(), Observed::Absent, Observed::Foreign);
        assert!(matches!(deeds(&half), [Deed::Apply(..), Deed::Blocked]));
        let mut led = done(external());
        led.pieces.insert(SERVICE, Observed::Foreign);
        assert!(matches!(deeds(&led), [_, Deed::Delete(_)]), "no way in leads to someone else's Service");
        assert_eq!(deeds(&taken(world(json!([])))), [Deed::Keep, Deed::Keep]);
    }

    #[test]
    fn a_kind_that_the_cluster_does_not_serve_is_a_fault_only_where_it_is_needed() {
        let unserved = |world| with(world, Observed::Absent, Observed::Unserved);
        assert_eq!(decided(&unserved(internal())).reason, Reason::Accepted);
        let decision = decided(&unserved(external()));
        assert_eq!(decision.reason, Reason::EndpointUnserved);
        assert!(decision.barred().eq([INGRESS]));
        assert!(matches!(deeds(&unserved(external())), [Deed::Apply(..), Deed::Unserved]), "inside it is reached");
    }

    #[test]
    fn a_plan_is_in_the_order_of_stages() {
        let stages: Vec<_> = decided(&external()).plan.iter().map(|planned| planned.place.kind.stage()).collect();
        assert!(stages.is_sorted() && stages.len() == Place::all().count());
    }

    #[test]
    fn a_service_that_someone_changed_is_mended() {
        let stands = done(internal());
        let Observed::Ours(Piece::Service(good)) = &stands.pieces[&SERVICE] else { panic!("it stands") };
        let step = |change: fn(&mut k8s_openapi::api::core::v1::ServiceSpec)| {
            let mut service = good.clone();
            change(Arc::make_mut(&mut service).spec.as_mut().unwrap());
            let [service, _] = deeds(&with(stands.clone(), Observed::Ours(Piece::Service(service)), Observed::Absent));
            service
        };
        let changes: [fn(&mut k8s_openapi::api::core::v1::ServiceSpec); 6] = [
            |spec| spec.ports.as_mut().unwrap().push(Default::default()),
            |spec| spec.ports.as_mut().unwrap()[0].port = 444,
            |spec| spec.ports.as_mut().unwrap()[0].protocol = Some("UDP".into()),
            |spec| spec.ports = None,
            |spec| spec.type_ = Some("NodePort".into()),
            |spec| _ = spec.selector.as_mut().unwrap().insert("a".into(), "b".into()),
        ];
        assert_eq!(step(|_| ()), Deed::Keep);
        for (index, change) in changes.into_iter().enumerate() {
            assert!(matches!(step(change), Deed::Amend(..)), "{index}");
        }
        let Deed::Amend(_, merged) = step(changes[5]) else { panic!("a key more selects other Pods") };
        assert_eq!(merged["spec"]["selector"], json!({"app": "m", "a": null}));
    }

    #[test]
    fn a_key_that_is_no_longer_wanted_is_a_change() {
        let with = |annotations: Value| {
            world(json!([{"name": "admin", "host": "a.example.com", "ingress": {"annotations": annotations}}]))
        };
        let World { pieces, .. } = done(with(json!({"a": "b"})));
        let changed = World { pieces, ..with(json!({})) };
        assert!(matches!(deeds(&changed), [_, Deed::Apply(..)]));
    }
}
