//! Tests over all ways in and guards, in clusters that serve their kinds or not.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::{Value, json};

use super::{
    decide::{Bar, Decision, Deed, Planned, decide},
    observe::{Observed, Place, World},
    validate::validate,
};
use crate::{
    controller::{book::Ruled, census},
    crd::{
        Reason,
        endpoint::{EndpointName, Guard, WayIn},
    },
    exposure::{Piece, PieceKind, class, gate, tests::config},
};

pub(super) fn world(endpoint: Value, network: Value) -> World {
    let manager = json!({
        "service": {"name": "m", "scheme": "http"}, "endpoints": [endpoint], "networkPolicy": network,
    });
    let instance = json!({
        "apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance",
        "metadata": {"name": "eem", "namespace": "a", "uid": "u"},
        "spec": {"manager": manager},
    });
    let service = json!({"spec": {"selector": {"app": "m"}, "ports": [{"port": 443}]}});
    let mut config = config();
    config.gateway = serde_json::from_value(json!([{"name": "g"}])).unwrap();
    let guard = instance["spec"]["manager"]["endpoints"][0]["guard"].clone();
    let guard = serde_json::from_value(guard).unwrap_or(Guard::None);
    World {
        classes: Some(Ok(vec![served_by(class::controller(guard).unwrap_or_default())])),
        carriers: BTreeMap::new(),
        certificates: BTreeMap::new(),
        now: Timestamp::UNIX_EPOCH,
        instance: Ruled::new(Arc::new(serde_json::from_value(instance.clone()).unwrap())),
        manager: Some(Arc::new(serde_json::from_value(service).unwrap())),
        terminating: false,
        pieces: BTreeMap::new(),
        network_policies: Vec::new(),
        config: Arc::new(config),
        serves_routes: false,
        authorities: BTreeMap::new(),
        answers: BTreeMap::new(),
        unsure: false,
        holder: None,
        bypasses: Vec::new(),
        tokens: census::count([], Timestamp::UNIX_EPOCH),
        stamped: None,
        unverifying: BTreeMap::new(),
        https: crate::exposure::https::tests::unmet(),
    }
}

/// The default class of the cluster.
pub(super) fn served_by(controller: &str) -> IngressClass {
    let marks = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
    let class = json!({"metadata": {"name": "c", "annotations": marks}, "spec": {"controller": controller}});
    serde_json::from_value(class).unwrap()
}

pub(super) fn external(way: WayIn, guard: Guard) -> Value {
    let mut endpoint = json!({"name": "admin", "host": "a.example.com", "guard": guard.as_str()});
    endpoint[way.field()] = json!({});
    match guard {
        Guard::Istio => endpoint["istio"] = json!({"provider": "p"}),
        Guard::None => endpoint["allowUnguarded"] = true.into(),
        Guard::Traefik | Guard::EnvoyGateway | Guard::ExternalAuth | Guard::Nginx | Guard::Backend => {}
    }
    endpoint
}

pub(super) fn pairs() -> impl Iterator<Item = (WayIn, Guard)> {
    WayIn::ALL.into_iter().flat_map(|way| Guard::ALL.map(|guard| (way, guard)))
}

/// The object as it is after other controllers have accepted it.
pub(super) fn accepted(piece: Piece) -> Piece {
    let conditions = json!([{"type": "Accepted", "status": "True"}]);
    let accepted = json!([{ "ancestorRef": {"name": "g"}, "conditions": conditions }]);
    match piece {
        Piece::HttpRoute(mut route) => {
            let parents = route.spec["parentRefs"].as_array().into_iter().flatten();
            let parents = parents.map(|parent| json!({ "parentRef": parent, "conditions": conditions }));
            let parents: Vec<_> = parents.collect();
            Arc::make_mut(&mut route).status = json!({ "parents": parents });
            Piece::HttpRoute(route)
        }
        Piece::SecurityPolicy(mut policy) => {
            Arc::make_mut(&mut policy).status = json!({ "ancestors": accepted });
            Piece::SecurityPolicy(policy)
        }
        Piece::Route(mut route) => {
            let admitted = json!({"host": "a.example.com", "conditions": [{"type": "Admitted", "status": "True"}]});
            Arc::make_mut(&mut route).status = json!({ "ingress": [admitted] });
            Piece::Route(route)
        }
        other @ (Piece::Service(_)
        | Piece::NetworkPolicy(_)
        | Piece::Middleware(_)
        | Piece::AuthorizationPolicy(_)
        | Piece::Ingress(_)) => other,
    }
}

/// Passes until nothing changes. Returns the last decision.
fn settled(mut world: World) -> (World, Decision) {
    for _ in 0..8 {
        let decision = decide(&world, &validate(&world));
        let applied = decision.plan.iter().filter_map(|Planned { place, deed }| match deed {
            Deed::Apply(piece, _) => Some((*place, Observed::Ours(accepted(piece.clone())))),
            Deed::Keep | Deed::Delete(_) | Deed::Amend(..) | Deed::Barred(_) => None,
        });
        let applied: Vec<_> = applied.collect();
        if applied.is_empty() {
            return (world, decision);
        }
        world.pieces.extend(applied);
    }
    panic!("it never rests")
}

#[test]
fn a_guard_that_does_not_fit_its_way_in_is_a_fault() {
    for (way, guard) in pairs() {
        let checked = validate(&world(external(way, guard), json!({})));
        let paths = checked.err().unwrap_or_default().into_iter().map(|fault| fault.path.into_owned());
        let wanted = (!guard.fits(way)).then(|| "spec.manager.endpoints[admin].guard".to_owned());
        assert!(paths.eq(wanted), "{way:?} {guard:?}");
    }
}

#[test]
fn each_way_in_and_guard_rests_with_all_its_objects_or_waits_for_the_probe() {
    for (way, guard) in pairs().filter(|(way, guard)| guard.fits(*way)) {
        let (world, decision) = settled(world(external(way, guard), json!({})));
        let is_probed = matches!(guard, Guard::Backend | Guard::Istio);
        let reason = if is_probed { Reason::GuardAwaited } else { Reason::Accepted };
        assert_eq!(decision.reason, reason, "{way:?} {guard:?}");
        let way = (!is_probed).then_some(PieceKind::from(way));
        let wanted = [PieceKind::Service].into_iter().chain(gate::kind(guard)).chain(way);
        assert!(world.pieces.keys().map(|place| place.kind).eq(wanted), "{way:?} {guard:?}");
    }
}

#[test]
fn a_kind_that_is_not_served_or_is_off_is_told_and_never_leads_past_the_guard() {
    let bars = [
        (Observed::Unserved, Bar::Unserved, Reason::EndpointUnserved),
        (Observed::Off, Bar::Off, Reason::EndpointKindOff),
    ];
    for (way, guard) in pairs().filter(|(way, guard)| guard.fits(*way)) {
        for lacking in gate::kind(guard).into_iter().chain([way.into()]) {
            for (observed, bar, reason) in bars.clone() {
                let place = Place { kind: lacking, endpoint: EndpointName::Admin };
                let mut world = world(external(way, guard), json!({}));
                world.pieces.insert(place, observed);
                let (world, decision) = settled(world);
                assert_eq!(decision.reason, reason, "{way:?} {guard:?} without {lacking:?}");
                let told = Planned { place, deed: Deed::Barred(bar) };
                assert!(decision.plan.contains(&told), "{way:?} {guard:?} without {lacking:?}");
                let way = Place { kind: way.into(), endpoint: EndpointName::Admin };
                assert!(!matches!(world.pieces.get(&way), Some(Observed::Ours(_))));
            }
        }
    }
}

/// The paths of all faults of an endpoint, also of those that other objects cause.
fn faults(world: &World) -> Vec<String> {
    match validate(world) {
        Ok(terms) => terms.missing().map(|fault| fault.path.to_string()).collect(),
        Err(faults) => faults.into_iter().map(|fault| fault.path.into_owned()).collect(),
    }
}

#[test]
fn a_guard_that_asks_the_verifier_needs_its_address() {
    for (way, guard) in pairs().filter(|(way, guard)| guard.fits(*way)) {
        let mut world = world(external(way, guard), json!({}));
        Arc::make_mut(&mut world.config).verifier = None;
        let asks = !matches!(guard, Guard::Istio | Guard::Backend | Guard::None);
        let wanted = if asks { vec!["spec.manager.endpoints[admin].guard"] } else { Vec::new() };
        assert_eq!(faults(&world), wanted, "{way:?} {guard:?}");
    }
}

#[test]
fn other_ports_have_to_be_named_where_there_may_be_some() {
    let internal = || json!({"name": "admin", "type": "internal"});
    let path = "spec.manager.networkPolicy.otherPorts";
    let with = |network: Value, ports: Value, policies: &[Value]| {
        let mut world = world(internal(), network);
        let service = json!({"spec": {"selector": {"app": "m"}, "ports": ports}});
        world.manager = Some(Arc::new(serde_json::from_value(service).unwrap()));
        let policies = policies.iter().map(|policy| Arc::new(serde_json::from_value(policy.clone()).unwrap()));
        world.network_policies = policies.collect();
        faults(&world)
    };
    let one = || json!([{"port": 443, "targetPort": 8443}]);
    let more = || json!([{"port": 443}, {"port": 9090}]);
    let named = || json!([{"port": 443, "targetPort": "api"}]);
    let of = |labels: Value| json!({"metadata": {"name": "other"}, "spec": {"podSelector": {"matchLabels": labels}}});
    assert!(with(json!({}), one(), &[of(json!({"app": "x"}))]).is_empty());
    assert_eq!(with(json!({}), one(), &[of(json!({}))]), [path]);
    assert_eq!(with(json!({}), more(), &[]), [path]);
    assert_eq!(with(json!({"otherPorts": "Open"}), named(), &[]), [path]);
    for said in [json!({"otherPorts": "Closed"}), json!({"from": "None"})] {
        assert!(with(said.clone(), more(), &[of(json!({}))]).is_empty(), "{said}");
    }
    assert!(with(json!({"otherPorts": "Open"}), more(), &[of(json!({}))]).is_empty());
    assert!(with(json!({}), named(), &[]).is_empty());
}

#[test]
fn proxies_have_to_be_known_and_keep_out_the_probe() {
    let internal = json!({"name": "admin", "type": "internal"});
    let network = json!({"from": "Proxies"});
    let reason = |world: &World| validate(world).err().map(|faults| faults[0].reason);
    let mut lacking = world(internal, network.clone());
    assert_eq!(reason(&lacking), Some(Reason::ProxiesUnknown));
    Arc::make_mut(&mut lacking.config).proxies = serde_json::from_value(json!([{}])).unwrap();
    assert_eq!(reason(&lacking), None);
    for guard in [Guard::Backend, Guard::Istio] {
        let world = world(external(WayIn::Gateway, guard), json!({"from": "Proxies", "proxies": [{}]}));
        assert_eq!(faults(&world), ["spec.manager.networkPolicy.from"]);
    }
}

#[test]
fn istio_needs_the_number_of_the_port() {
    let mut world = world(external(WayIn::Gateway, Guard::Istio), json!({}));
    let service = json!({"spec": {"selector": {"app": "m"}, "ports": [{"port": 443, "targetPort": "api"}]}});
    world.manager = Some(Arc::new(serde_json::from_value(service).unwrap()));
    assert_eq!(faults(&world), ["spec.manager.service"]);
}

#[test]
fn filters_and_annotations_must_leave_the_guard_in_place() {
    let of = |way: &str, template: Value| {
        let mut endpoint = json!({"name": "admin", "host": "a.example.com", "guard": "Traefik"});
        endpoint[way] = template;
        faults(&world(endpoint, json!({})))
    };
    let filter = |type_: &str, field: &str, name: &str| {
        let value = if field == "remove" { json!([name]) } else { json!({ name: "v" }) };
        of("gateway", json!({"filters": [{"type": type_, field: value}]}))
    };
    for (name, field) in [
        ("X-Tokenry-Role", "set"),
        ("x_tokenry_role", "add"),
        ("X_Forwarded-User", "remove"),
        ("Connection", "set"),
        ("authorization", "remove"),
        ("Api_Token", "add"),
        ("X-HTTP-Method-Override", "set"),
        ("X-Original-URL", "add"),
        ("not a name", "remove"),
    ] {
        let path = "spec.manager.endpoints[admin].gateway.filters[0]";
        assert_eq!(filter("RequestHeaderModifier", field, name), [path], "{field} {name}");
    }
    assert_eq!(filter("ResponseHeaderModifier", "remove", "WWW-Authenticate").len(), 1);
    assert_eq!(filter("RequestHeaderModifier", "remove", "X-Original-URL").len(), 0);
    assert_eq!(filter("RequestHeaderModifier", "set", "x-a").len(), 0);
    assert_eq!(filter("ResponseHeaderModifier", "set", "x-a").len(), 0);
    let twice = json!({"type": "RequestHeaderModifier"});
    assert_eq!(of("gateway", json!({"filters": [twice, twice]})).len(), 1);
    let annotated = |key: &str| of("ingress", json!({"annotations": { key: "v" }}));
    let path = "spec.manager.endpoints[admin].ingress.annotations";
    assert_eq!(annotated("traefik.ingress.kubernetes.io/router.middlewares"), [path]);
    assert!(annotated("traefik.ingress.kubernetes.io/router.entrypoints").is_empty());
}

#[test]
fn a_route_speaks_the_protocol_of_the_service() {
    let of = |termination: &str| {
        let route = json!({ "termination": termination });
        faults(&world(json!({"name": "admin", "route": route, "guard": "Backend"}), json!({})))
    };
    assert!(of("edge").is_empty());
    for other in ["reencrypt", "passthrough"] {
        assert_eq!(of(other), ["spec.manager.endpoints[admin].route.termination"]);
    }
}

#[test]
fn a_host_is_no_address() {
    let mut endpoint = external(WayIn::Gateway, Guard::Traefik);
    endpoint["host"] = "10.0.0.1".into();
    assert_eq!(faults(&world(endpoint, json!({}))), ["spec.manager.endpoints[admin].host"]);
}

#[test]
fn an_ingress_whose_class_belongs_to_another_controller_or_to_none_is_never_made_and_goes() {
    for guard in [Guard::Traefik, Guard::Nginx] {
        let endpoint = || external(WayIn::Ingress, guard);
        let place = Place { kind: PieceKind::Ingress, endpoint: EndpointName::Admin };
        let (open, _) = settled(world(endpoint(), json!({})));
        let Some(Observed::Ours(Piece::Ingress(ingress))) = open.pieces.get(&place) else { panic!("it exists") };
        assert_eq!(ingress.spec.as_ref().unwrap().ingress_class_name.as_deref(), Some("c"), "it names the class");
        for classes in [vec![], vec![served_by("haproxy.org/ingress-controller")]] {
            let mut closed = world(endpoint(), json!({}));
            closed.classes = Some(Ok(classes));
            let (none, decision) = settled(closed.clone());
            assert!(!none.pieces.contains_key(&place) && decision.reason == Reason::GuardAwaited, "{guard:?}");
            closed.pieces = open.pieces.clone();
            let decision = decide(&closed, &validate(&closed));
            let gone = decision.plan.iter().find(|planned| planned.place == place).unwrap();
            assert!(matches!(gone.deed, Deed::Delete(_)), "{guard:?}");
        }
        let mut unread = world(endpoint(), json!({}));
        unread.classes = Some(Err("no right".into()));
        assert!(!settled(unread.clone()).0.pieces.contains_key(&place), "none is made");
        let mut off = unread.clone();
        off.pieces.insert(place, Observed::Off);
        assert_eq!(settled(off).1.reason, Reason::EndpointKindOff, "the kind comes first");
        unread.pieces = open.pieces.clone();
        let decision = decide(&unread, &validate(&unread));
        assert!(decision.plan.iter().all(|planned| planned.deed == Deed::Keep), "one that exists stays");
    }
}
