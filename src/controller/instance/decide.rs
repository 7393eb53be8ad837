//! Decides on the actions for the objects of an Instance's endpoints.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    observe::{Place, World},
    steps::Steps,
    validate::InstanceTerms,
};
use crate::{
    controller::kind::Checked,
    crd::{Instance, Reason, fault::first, instance::EndpointName, name},
    exposure::{self, Piece, PieceKind},
    outside::{Expected, writer::holds},
    token::Digest,
};

/// The planned actions and their reason.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The reason.
    pub reason: Reason,
    /// The action for each object, in the order of stages.
    pub plan: Vec<Planned>,
    /// The obstacles that keep a way in shut, in words.
    pub waits: Vec<String>,
    /// The time of the next step of a removal.
    pub next: Option<Timestamp>,
}

/// The planned action for one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The place of the object.
    pub place: Place,
    /// The action at this place.
    pub deed: Deed,
}

/// The action for an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// No action.
    Keep,
    /// Creates the object or applies it, if the existing one is still as it was read.
    Apply(Piece, Expected),
    /// Deletes the object.
    Delete(Piece),
    /// Merges this patch into the object.
    Amend(Piece, Value),
    /// No action is possible.
    Barred(Bar),
}

/// The obstacle of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// The name is taken.
    Taken,
    /// The cluster does not serve the kind.
    Unserved,
    /// The chart has not switched the kind on.
    Off,
}

impl Bar {
    fn reason(self) -> Reason {
        match self {
            Self::Taken => Reason::EndpointForeign,
            Self::Unserved => Reason::EndpointUnserved,
            Self::Off => Reason::EndpointKindOff,
        }
    }
}

impl Deed {
    /// True if the action is a request to the API server.
    pub fn is_write(&self) -> bool {
        match self {
            Self::Apply(..) | Self::Delete(_) | Self::Amend(..) => true,
            Self::Keep | Self::Barred(_) => false,
        }
    }

    /// The obstacle; none if an action is possible or none is needed.
    fn bar(&self) -> Option<Bar> {
        match self {
            Self::Barred(bar) => Some(*bar),
            Self::Keep | Self::Apply(..) | Self::Delete(_) | Self::Amend(..) => None,
        }
    }
}

impl Decision {
    /// The places where no action is possible, for the reason of this decision.
    pub fn barred(&self) -> impl Iterator<Item = Place> {
        let is_reason = |bar: Bar| bar.reason() == self.reason;
        self.plan.iter().filter(move |planned| planned.deed.bar().is_some_and(is_reason)).map(|planned| planned.place)
    }

    fn keep(reason: Reason) -> Self {
        Self { reason, plan: Vec::new(), waits: Vec::new(), next: None }
    }
}

/// Decides on all actions. Deletions do not depend on anything that is only needed to create objects.
pub(crate) fn decide(world: &World, terms: &Checked<InstanceTerms>) -> Decision {
    let terms = match terms {
        _ if world.instance.metadata.deletion_timestamp.is_some() => return Decision::keep(Reason::Deleting),
        _ if world.terminating => return Decision::keep(Reason::NamespaceTerminating),
        Err(faults) => return Decision::keep(first(faults)),
        Ok(terms) => terms,
    };
    let mut decision = Decision::keep(Reason::Accepted);
    for endpoint in EndpointName::ALL {
        let steps = Steps::of(world, terms.endpoints.get(&endpoint), endpoint);
        steps.plan(&mut decision);
    }
    decision.plan.sort_by_key(|planned| planned.place);
    decision.reason = reason(world, terms, &decision);
    decision
}

/// The reason of a decision. A missing object comes first, then an impossible action, then a way in that waits. The
/// kind of endpoint in the spec comes last.
fn reason(world: &World, terms: &InstanceTerms, decision: &Decision) -> Reason {
    let missing = terms.missing().map(|missing| missing.reason);
    let barred = decision.plan.iter().filter_map(|planned| planned.deed.bar()).map(Bar::reason);
    let waiting = decision.waits.first().map(|_| Reason::GuardAwaited);
    let asked = match terms.endpoints.is_empty() {
        false => Reason::Accepted,
        true if world.instance.is_disabled() => Reason::EndpointDisabled,
        true => Reason::NoEndpoints,
    };
    missing.chain(barred).chain(waiting).next().unwrap_or(asked)
}

/// The action that brings the existing `piece` to the state `wanted`.
pub(super) fn mended(piece: &Piece, wanted: Piece) -> Deed {
    let (standing, mut changes) = (piece.value(), wanted.value());
    let is_held = holds(&standing, &changes);
    let is_strange = clear_strange(piece.kind(), &standing, &mut changes);
    match piece.kind() {
        _ if is_held && !is_strange => Deed::Keep,
        // An apply leaves the fields of others as they are. This patch removes them.
        _ if is_held => Deed::Amend(piece.clone(), changes),
        // An apply would merge the ports by number. If someone has changed the number of our port, the Service would
        // get two ports of the same name, and the apply would be refused.
        PieceKind::Service => Deed::Amend(piece.clone(), changes),
        PieceKind::NetworkPolicy
        | PieceKind::Middleware
        | PieceKind::SecurityPolicy
        | PieceKind::AuthorizationPolicy
        | PieceKind::HttpRoute
        | PieceKind::Ingress
        | PieceKind::Route => Deed::Apply(wanted, Expected::of_meta(piece.meta())),
    }
}

/// Marks the fields of others that change the meaning of an object, so that `wanted` removes them. True if there is
/// one. An additional key of a selector selects other Pods. An additional field of a guard limits it, or turns it off.
fn clear_strange(kind: PieceKind, standing: &Value, wanted: &mut Value) -> bool {
    let all: fn(&str) -> bool = |_| true;
    let (whole, counts) = match kind {
        PieceKind::Service => ("/spec/selector", all),
        PieceKind::Middleware | PieceKind::AuthorizationPolicy | PieceKind::NetworkPolicy => ("/spec", all),
        PieceKind::Ingress => ("/metadata/annotations", exposure::is_setting_of_guard as fn(&str) -> bool),
        PieceKind::HttpRoute => ("/spec", changes_headers as fn(&str) -> bool),
        PieceKind::SecurityPolicy => ("/spec", names_callers as fn(&str) -> bool),
        PieceKind::Route => return false,
    };
    let outward = match kind {
        PieceKind::Service => Some("externalIPs"),
        PieceKind::Ingress => Some("defaultBackend"),
        PieceKind::NetworkPolicy
        | PieceKind::Middleware
        | PieceKind::SecurityPolicy
        | PieceKind::AuthorizationPolicy
        | PieceKind::HttpRoute
        | PieceKind::Route => None,
    };
    let outward = outward.filter(|field| standing["spec"].get(field).is_some());
    if let Some(field) = outward {
        wanted["spec"][field] = Value::Null;
    }
    let both = standing.pointer(whole).zip(wanted.pointer_mut(whole));
    both.is_some_and(|(standing, wanted)| clear(standing, wanted, counts)) || outward.is_some()
}

/// True for the fields of an HTTPRoute that change the headers of requests, and for those around them. The API server
/// adds its defaults to the other fields.
fn changes_headers(field: &str) -> bool {
    ["rules", "backendRefs", "filters", "requestHeaderModifier", "responseHeaderModifier", "set", "add", "remove"]
        .contains(&field)
}

/// True for the fields of a SecurityPolicy that write a caller's name into a header of the request, behind the guard.
fn names_callers(field: &str) -> bool {
    ["apiKeyAuth", "basicAuth", "jwt", "oidc"].contains(&field)
}

/// Sets the keys of `standing` that `wanted` lacks to `null`. True if there is one. Lists are replaced as a whole.
fn clear(standing: &Value, wanted: &mut Value, counts: fn(&str) -> bool) -> bool {
    match (standing, wanted) {
        (Value::Object(standing), Value::Object(wanted)) => {
            let mut is_strange = false;
            for (key, value) in standing.iter().filter(|(key, _)| counts(key)) {
                let known = wanted.get_mut(key).map(|wanted| clear(value, wanted, counts));
                is_strange |= known.unwrap_or_else(|| wanted.insert(key.clone(), Value::Null).is_none());
            }
            is_strange
        }
        (Value::Array(standing), Value::Array(wanted)) => {
            standing.iter().zip(wanted).any(|(standing, wanted)| clear(standing, &mut wanted.clone(), counts))
        }
        (_, _) => false,
    }
}

/// `piece` with an owner reference to the Instance, in its namespace, and with the digest of the applied object.
pub(super) fn owned(mut piece: Piece, instance: &Instance) -> Piece {
    let digest = Digest::of(piece.bytes()).to_string();
    piece.give(instance);
    piece.meta_mut().annotations.get_or_insert_default().insert(name::APPLIED.into(), digest);
    piece
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        controller::{
            book::Ruled,
            instance::{
                matrix::{accepted, served_by},
                observe::Observed,
                validate::validate,
            },
            kind::Checked,
        },
        exposure::class,
    };
    use serde_json::{Value, json};
    use std::{collections::BTreeMap, sync::Arc};

    const SERVICE: Place = Place { kind: PieceKind::Service, endpoint: EndpointName::Admin };
    const INGRESS: Place = Place { kind: PieceKind::Ingress, endpoint: EndpointName::Admin };

    pub(crate) fn world(endpoints: Value) -> World {
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
            network_policies: Vec::new(),
            config: Arc::new(crate::exposure::tests::config()),
            serves_routes: false,
            answers: BTreeMap::new(),
            unsure: false,
            holder: None,
            bypasses: Vec::new(),
            tokens: crate::controller::census::count([], jiff::Timestamp::UNIX_EPOCH),
            authorities: BTreeMap::new(),
            classes: None,
            carriers: BTreeMap::new(),
            certificates: BTreeMap::new(),
            stamped: None,
            unverifying: BTreeMap::new(),
            https: crate::exposure::https::tests::unmet(),
        }
    }

    fn external() -> World {
        world(json!([{"name": "admin", "host": "a.example.com", "ingress": {}, "allowUnguarded": true}]))
    }

    fn internal() -> World {
        world(json!([{"name": "admin", "type": "internal"}]))
    }

    pub(crate) fn decided(world: &World) -> Decision {
        let terms: Checked<InstanceTerms> = validate(world);
        decide(world, &terms)
    }

    /// The actions for the Service and the Ingress.
    fn deeds(world: &World) -> [Deed; 2] {
        let plan = decided(world).plan;
        let of = |place| plan.iter().find(|planned| planned.place == place).map_or(Deed::Keep, |it| it.deed.clone());
        [of(SERVICE), of(INGRESS)]
    }

    fn with(world: World, service: Observed, ingress: Observed) -> World {
        World { pieces: [(SERVICE, service), (INGRESS, ingress)].into(), ..world }
    }

    /// A world in which all decided objects exist.
    pub(crate) fn done(mut world: World) -> World {
        for Planned { place, deed } in decided(&world).plan {
            if let Deed::Apply(piece, _) = deed {
                world.pieces.insert(place, Observed::Ours(accepted(piece)));
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
        assert_eq!(deeds(&taken(external())), [Deed::Barred(Bar::Taken), Deed::Keep]);
        assert!(decided(&taken(external())).barred().eq([SERVICE]));
        let half = with(external(), Observed::Absent, Observed::Foreign);
        assert!(matches!(deeds(&half), [Deed::Apply(..), Deed::Barred(Bar::Taken)]));
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
        assert!(
            matches!(deeds(&unserved(external())), [Deed::Apply(..), Deed::Barred(Bar::Unserved)]),
            "a Service is created"
        );
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
        let changes: [fn(&mut k8s_openapi::api::core::v1::ServiceSpec); 7] = [
            |spec| spec.ports.as_mut().unwrap().push(Default::default()),
            |spec| spec.ports.as_mut().unwrap()[0].port = 444,
            |spec| spec.ports.as_mut().unwrap()[0].protocol = Some("UDP".into()),
            |spec| spec.ports = None,
            |spec| spec.type_ = Some("NodePort".into()),
            |spec| _ = spec.selector.as_mut().unwrap().insert("a".into(), "b".into()),
            |spec| spec.external_ips = Some(vec!["192.0.2.1".into()]),
        ];
        assert_eq!(step(|_| ()), Deed::Keep);
        for (index, change) in changes.into_iter().enumerate() {
            assert!(matches!(step(change), Deed::Amend(..)), "{index}");
        }
        let Deed::Amend(_, merged) = step(changes[5]) else { panic!("an additional key selects other Pods") };
        assert_eq!(merged["spec"]["selector"], json!({"app": "m", "a": null}));
    }

    /// The changes that mend the guard or the way in after someone has set `value` at the path.
    fn after_setting(guard: &str, kind: PieceKind, path: &[&str], value: Value) -> Option<Value> {
        let mut endpoint = json!({"name": "admin", "host": "a.example.com", "guard": guard});
        let (way, template) = match matches!(kind, PieceKind::HttpRoute | PieceKind::SecurityPolicy) {
            true => ("gateway", json!({"parentRefs": [{"name": "g"}]})),
            false => ("ingress", json!({})),
        };
        endpoint[way] = template;
        if guard == "Istio" {
            endpoint["istio"] = json!({"provider": "p"});
        }
        let mut world = world(json!([endpoint]));
        let manager = json!({"spec": {"selector": {"app": "m"}, "ports": [{"port": 443, "targetPort": 8443}]}});
        world.manager = Some(Arc::new(serde_json::from_value(manager).unwrap()));
        let guard = serde_json::from_value(json!(guard)).unwrap();
        world.classes = Some(Ok(vec![served_by(class::controller(guard).unwrap_or_default())]));
        world.instance.change(|instance| {
            let network = json!({"from": "Proxies", "proxies": [{"podSelector": {"matchLabels": {"app": "edge"}}}]});
            let network = (kind == PieceKind::NetworkPolicy).then(|| serde_json::from_value(network).unwrap());
            instance.spec.manager.as_mut().unwrap().network_policy = network;
        });
        let mut world = done(done(done(world)));
        let place = Place { kind, endpoint: EndpointName::Admin };
        let Observed::Ours(piece) = world.pieces[&place].clone() else { panic!("it stands") };
        let mut changed = piece.value();
        let (last, start) = path.split_last().unwrap();
        start.iter().fold(&mut changed, |at, key| match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[*key],
        })[*last] = value;
        let changed = match piece {
            Piece::Middleware(_) => Piece::Middleware(Arc::new(serde_json::from_value(changed).unwrap())),
            Piece::AuthorizationPolicy(_) => {
                Piece::AuthorizationPolicy(Arc::new(serde_json::from_value(changed).unwrap()))
            }
            Piece::Ingress(_) => Piece::Ingress(Arc::new(serde_json::from_value(changed).unwrap())),
            Piece::HttpRoute(_) => Piece::HttpRoute(Arc::new(serde_json::from_value(changed).unwrap())),
            Piece::NetworkPolicy(_) => Piece::NetworkPolicy(Arc::new(serde_json::from_value(changed).unwrap())),
            Piece::SecurityPolicy(_) => Piece::SecurityPolicy(Arc::new(serde_json::from_value(changed).unwrap())),
            Piece::Service(_) | Piece::Route(_) => panic!("{changed} is not tested"),
        };
        world.pieces.insert(place, Observed::Ours(changed));
        let plan = decided(&world).plan;
        plan.into_iter().find(|planned| planned.place == place).and_then(|planned| match planned.deed {
            Deed::Amend(_, changes) => Some(changes),
            Deed::Keep | Deed::Apply(..) | Deed::Delete(_) | Deed::Barred(_) => None,
        })
    }

    #[test]
    fn a_guard_goes_over_to_https_when_all_is_there_and_stays_there() {
        let endpoint = json!({"name": "admin", "host": "a.example.com", "ingress": {}, "guard": "Traefik"});
        let place = Place { kind: PieceKind::Middleware, endpoint: EndpointName::Admin };
        let mut world = world(json!([endpoint]));
        world.classes = Some(Ok(vec![served_by("traefik.io/ingress-controller")]));
        let scheme = |world: &World| {
            let Some(Observed::Ours(piece)) = world.pieces.get(&place) else { panic!("it stands") };
            piece.value()["spec"]["forwardAuth"]["address"].as_str().unwrap().split(':').next().unwrap().to_owned()
        };
        let mut world = done(done(world));
        assert_eq!(scheme(&world), "http");
        let first = world.https.clone();
        world.https = crate::exposure::https::tests::met();
        let mut world = done(world);
        assert_eq!(scheme(&world), "https");
        world.https = first;
        let deeds = decided(&world).plan.into_iter().filter(|planned| planned.place == place);
        assert_eq!(deeds.map(|planned| planned.deed).collect::<Vec<_>>(), [Deed::Keep], "a new operator knows nothing");
    }

    #[test]
    fn a_field_that_someone_added_to_a_guard_is_removed() {
        let other = after_setting("Traefik", PieceKind::Middleware, &["spec", "headers"], json!({"sslRedirect": true}));
        assert_eq!(other.unwrap()["spec"]["headers"], Value::Null, "a second type turns a Middleware off");
        let asked = ["spec", "forwardAuth", "authRequestHeaders"];
        let less = after_setting("Traefik", PieceKind::Middleware, &asked, json!(["A"])).unwrap();
        assert!(less["spec"]["forwardAuth"].as_object().unwrap()["authRequestHeaders"].is_null());
        assert!(less["spec"]["forwardAuth"]["address"].is_string());
        let path = ["spec", "selector", "matchLabels", "strange"];
        let fewer = after_setting("Istio", PieceKind::AuthorizationPolicy, &path, json!("a")).unwrap();
        assert_eq!(fewer["spec"]["selector"]["matchLabels"], json!({"app": "m", "strange": null}));
        let path = ["spec", "rules", "0", "when"];
        let seldom = after_setting("Istio", PieceKind::AuthorizationPolicy, &path, json!([{"key": "a"}])).unwrap();
        assert_eq!(seldom["spec"]["rules"][0].get("when"), None);
    }

    #[test]
    fn a_change_of_headers_that_someone_added_to_a_route_is_removed() {
        let forged = json!([{"name": "X-Tokenry-Role", "value": "admin"}]);
        let filter = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": forged}}]);
        let changed = |path: &[&str], value: Value| after_setting("Traefik", PieceKind::HttpRoute, path, value);
        for (path, value) in [
            (&["spec", "rules", "0", "filters", "1", "requestHeaderModifier", "set"][..], forged),
            (&["spec", "rules", "0", "backendRefs", "0", "filters"], filter),
        ] {
            let rule = changed(path, value).unwrap()["spec"]["rules"][0].clone();
            assert_eq!(rule["filters"][1]["requestHeaderModifier"].get("set"), None, "{rule}");
            assert_eq!(rule["backendRefs"][0].get("filters"), None, "{rule}");
        }
        for (path, default) in [
            (&["spec", "parentRefs", "0", "group"][..], json!("gateway.networking.k8s.io")),
            (&["spec", "rules", "0", "backendRefs", "0", "weight"], json!(1)),
        ] {
            assert_eq!(changed(path, default), None, "a default of the API server stays");
        }
    }

    #[test]
    fn another_authentication_that_someone_added_to_a_security_policy_is_removed() {
        let set =
            |field: &str| after_setting("EnvoyGateway", PieceKind::SecurityPolicy, &["spec", field], json!({"a": "b"}));
        for field in ["apiKeyAuth", "basicAuth", "jwt", "oidc"] {
            assert_eq!(set(field).unwrap()["spec"][field], Value::Null, "{field}");
        }
        assert_eq!(set("authorization"), None, "it only refuses more");
    }

    #[test]
    fn what_someone_added_to_a_network_policy_is_removed() {
        let set = |path: &[&str], value: Value| after_setting("Traefik", PieceKind::NetworkPolicy, path, value);
        let fewer = set(&["spec", "podSelector", "matchLabels", "strange"], json!("a")).unwrap();
        assert_eq!(fewer["spec"]["podSelector"]["matchLabels"], json!({"app": "m", "strange": null}));
        let wider = set(&["spec", "ingress", "0", "ports", "0", "endPort"], json!(65_535)).unwrap();
        assert_eq!(wider["spec"]["ingress"][0]["ports"][0].get("endPort"), None);
    }

    #[test]
    fn a_default_backend_that_someone_added_to_an_ingress_is_removed() {
        let to = json!({"service": {"name": "eem-admin", "port": {"number": 443}}});
        let bare = after_setting("Nginx", PieceKind::Ingress, &["spec", "defaultBackend"], to).unwrap();
        assert_eq!(bare["spec"]["defaultBackend"], Value::Null);
    }

    #[test]
    fn a_setting_that_someone_added_to_an_ingress_is_removed_if_users_may_not_give_it() {
        let set = |key: &str| {
            let path = ["metadata", "annotations", key];
            after_setting("Nginx", PieceKind::Ingress, &path, json!("any"))
        };
        let satisfy = "nginx.ingress.kubernetes.io/satisfy";
        assert_eq!(set(satisfy).unwrap()["metadata"]["annotations"].get(satisfy), Some(&Value::Null));
        for key in ["nginx.ingress.kubernetes.io/limit-rps", "ingress.kubernetes.io/backends", "a.example.com/b"] {
            assert_eq!(set(key), None, "{key}");
        }
    }

    #[test]
    fn a_key_that_is_no_longer_wanted_is_a_change() {
        let with = |annotations: Value| {
            world(
                json!([{"name": "admin", "host": "a.example.com", "ingress": {"annotations": annotations}, "allowUnguarded": true}]),
            )
        };
        let World { pieces, .. } = done(with(json!({"a": "b"})));
        let changed = World { pieces, ..with(json!({})) };
        assert!(matches!(deeds(&changed), [_, Deed::Apply(..)]));
    }
}
