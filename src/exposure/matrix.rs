//! Tests over all types of endpoint, ways in and guards. `tests/exposure` has the objects of each as YAML. After an
//! intended change, the ignored test `snapshots_are_written` writes these files again.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use serde_json::{Value, json};

use super::{
    Exposed, Form, Piece, PieceKind, Stage, asks,
    gate::kind,
    https::{self, tests::met},
    tests::{config, instance},
};
use crate::crd::{
    Instance,
    endpoint::{Guard, WayIn},
    instance::Scheme,
};

/// All objects that `exposed` needs, in the order of their stages.
fn built(exposed: &Exposed, form: Form) -> Vec<Piece> {
    PieceKind::ALL.into_iter().filter_map(|kind| super::build(exposed, kind, form)).collect()
}

/// An endpoint of an Instance with this manager, as a cluster with defaults for everything exposes it.
fn exposed(endpoint: Value, network: Value, scheme: &str) -> Exposed {
    let service = json!({"name": "m", "scheme": scheme});
    let manager = json!({"service": service, "endpoints": [endpoint], "networkPolicy": network});
    let mut instance: Instance = instance(manager);
    instance.metadata.uid = Some("6f1ed002-ab5d-4f5b-9c9b-000000000001".into());
    let mut config = config();
    let labels = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let mut set = |key: &str, value: Value| match key {
        "gateway" => config.gateway = serde_json::from_value(value).unwrap(),
        "ingress" => config.ingress = serde_json::from_value(value).unwrap(),
        "proxies" => config.proxies = serde_json::from_value(value).unwrap(),
        _ => config.operator = serde_json::from_value(value).unwrap(),
    };
    set("gateway", json!([{"name": "edge", "namespace": "gateways"}]));
    set("ingress", json!({"className": "edge"}));
    let name = "kubernetes.io/metadata.name";
    set("proxies", json!([{"namespaceSelector": labels(name, "traefik"), "podSelector": labels("app", "traefik")}]));
    set("operator", json!({"namespaceSelector": labels(name, "tokenry"), "podSelector": labels("app", "tokenry")}));
    let fronted = json!({"spec": {"selector": {"app": "eem"}, "ports": [{"port": 443, "targetPort": 8443}]}});
    let (config, service) = (Arc::new(config), serde_json::from_value(fronted).unwrap());
    let endpoint = instance.endpoints().next().unwrap();
    let way = super::way(endpoint, true, &config);
    let wanted = instance.manager_service().unwrap();
    let mut exposed = super::exposed(&instance, endpoint, wanted, Some(&service), (way, &config)).unwrap();
    exposed.asks_by = https::choose(exposed.guard(), &config, &met(), None, None).0;
    exposed
}

/// An external endpoint with this way in and this guard.
fn external(way: WayIn, guard: Guard) -> Value {
    let mut endpoint = json!({"name": "admin", "host": "admin.example.com", "guard": guard.as_str()});
    endpoint[way.field()] = json!({});
    match guard {
        Guard::Istio => endpoint["istio"] = json!({"provider": "tokenry-events-eem"}),
        Guard::None => endpoint["allowUnguarded"] = true.into(),
        Guard::Traefik | Guard::EnvoyGateway | Guard::ExternalAuth | Guard::Nginx | Guard::Backend => {}
    }
    endpoint
}

/// Each way in with each guard.
fn pairs() -> impl Iterator<Item = (WayIn, Guard)> {
    WayIn::ALL.into_iter().flat_map(|way| Guard::ALL.map(|guard| (way, guard)))
}

fn kinds(exposed: &Exposed, form: Form) -> Vec<PieceKind> {
    built(exposed, form).iter().map(Piece::kind).collect()
}

/// The objects of each cell by the name of its file.
fn cells() -> BTreeMap<String, Vec<Piece>> {
    let mut all = BTreeMap::new();
    let mut add = |name: String, exposed: &Exposed, form| drop(all.insert(name, built(exposed, form)));
    for (way, guard) in pairs().filter(|(way, guard)| guard.fits(*way)) {
        let exposed = exposed(external(way, guard), json!({}), if way == WayIn::Route { "https" } else { "http" });
        let name = format!("external-{}-{}", way.field(), guard.as_str().to_lowercase());
        add(name.clone(), &exposed, Form::Open);
        if way == WayIn::Gateway {
            add(format!("{name}-shut"), &exposed, Form::Shut);
        }
        if exposed.asks_by == Scheme::Https {
            add(format!("{name}-plain"), &Exposed { asks_by: Scheme::Http, ..exposed }, Form::Open);
        }
    }
    let internal = || json!({"name": "admin", "type": "internal"});
    let labels = json!({"matchLabels": {"app": "edge"}});
    for (name, network) in [
        ("cluster", json!({})),
        ("namespaces", json!({"namespaces": ["a", "b"], "otherPorts": "Open"})),
        ("proxies", json!({"from": "Proxies", "otherPorts": "Closed"})),
        (
            "own-proxies",
            json!({"from": "Proxies", "proxies": [{"podSelector": labels}, {}, {"namespaceSelector": {}}]}),
        ),
        ("none", json!({"from": "None"})),
    ] {
        add(format!("internal-{name}"), &exposed(internal(), network, "https"), Form::Open);
    }
    let mut full = external(WayIn::Gateway, Guard::Traefik);
    let removed = ["X-Rewrite-URL", "x-c"];
    full["gateway"] = json!({
        "parentRefs": [{"name": "g", "namespace": "n", "sectionName": "https", "port": 443}, {"name": "h"}],
        "hostnames": ["admin.example.org", "admin.example.com"],
        "filters": [
            {"type": "ResponseHeaderModifier", "add": {"x-frame-options": "DENY"}},
            {"type": "RequestHeaderModifier", "set": {"x-a": "1"}, "add": {"x-b": "2"}, "remove": removed},
        ],
    });
    add("external-gateway-traefik-full".into(), &exposed(full, json!({"from": "Proxies"}), "http"), Form::Open);
    let mut full = external(WayIn::Ingress, Guard::Nginx);
    let annotations =
        json!({"cert-manager.io/issuer": "ca", "nginx.ingress.kubernetes.io/auth-url": "http://elsewhere"});
    full["ingress"] = json!({
        "className": "nginx", "annotations": annotations, "tls": {"secretName": "admin-tls"},
        "pathType": "ImplementationSpecific",
    });
    add("external-ingress-nginx-full".into(), &exposed(full, json!({}), "https"), Form::Open);
    let mut full = external(WayIn::Route, Guard::Backend);
    full.as_object_mut().unwrap().remove("host");
    full["route"] = json!({"termination": "passthrough"});
    add("external-route-backend-full".into(), &exposed(full, json!({"from": "Cluster"}), "https"), Form::Open);
    all
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/exposure")
}

/// The file of each cell with its text.
fn files() -> BTreeMap<String, String> {
    let text = |pieces: &Vec<Piece>| {
        let documents = pieces.iter().map(|piece| serde_saphyr::to_string(&piece.value()).unwrap());
        documents.map(|document| format!("---\n{}\n", document.trim_end())).collect()
    };
    cells().iter().map(|(name, pieces)| (format!("{name}.yaml"), text(pieces))).collect()
}

#[test]
fn each_cell_is_built_as_its_file_shows() {
    let read = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    let found: BTreeMap<_, _> = read
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    let built = files();
    assert!(built.keys().eq(found.keys()), "{:?}", found.keys());
    for (name, text) in built {
        assert_eq!(text, found[&name], "{name}");
    }
}

#[test]
#[ignore = "it writes files"]
fn snapshots_are_written() {
    fs::create_dir_all(folder()).unwrap();
    for (name, text) in files() {
        fs::write(folder().join(name), text).unwrap();
    }
}

#[test]
fn an_endpoint_has_its_service_its_guard_and_its_way_in() {
    for (way, guard) in pairs() {
        let exposed = exposed(external(way, guard), json!({}), "http");
        let fitting = guard.fits(way).then(|| kind(guard).into_iter().chain([way.into()]));
        let wanted: Vec<_> = [PieceKind::Service].into_iter().chain(fitting.into_iter().flatten()).collect();
        let open = kinds(&exposed, Form::Open);
        assert_eq!(open, wanted, "{way:?} {guard:?}");
        let mut shut = wanted;
        shut.retain(|kind| kind.stage() != Stage::WayIn || *kind == PieceKind::HttpRoute);
        assert_eq!(kinds(&exposed, Form::Shut), shut, "{way:?} {guard:?}");
    }
}

#[test]
fn without_the_address_of_the_verifier_no_way_in_whose_guard_needs_it_is_built() {
    for (way, guard) in pairs().filter(|(way, guard)| guard.fits(*way)) {
        let mut exposed = exposed(external(way, guard), json!({}), "http");
        Arc::make_mut(&mut exposed.config).verifier = None;
        let is_led = kinds(&exposed, Form::Open).contains(&way.into());
        assert_eq!(is_led, !asks(guard), "{way:?} {guard:?}");
    }
}

#[test]
fn a_shut_route_differs_from_an_open_one_in_its_backends_alone() {
    for (way, guard) in pairs().filter(|(way, guard)| guard.fits(*way) && *way == WayIn::Gateway) {
        let exposed = exposed(external(way, guard), json!({}), "http");
        let spec = |form| built(&exposed, form).pop().unwrap().value()["spec"].clone();
        let (mut open, shut) = (spec(Form::Open), spec(Form::Shut));
        assert_eq!(open["rules"][0]["backendRefs"], json!([{"name": "eem-admin", "port": 443}]));
        open["rules"][0]["backendRefs"] = json!([]);
        assert_eq!(open, shut, "{guard:?}");
    }
}

#[test]
fn a_guard_in_the_route_is_its_first_filter() {
    for guard in [Guard::Traefik, Guard::ExternalAuth] {
        let mut endpoint = external(WayIn::Gateway, guard);
        endpoint["gateway"]["filters"] = json!([{"type": "RequestHeaderModifier", "set": {"x-a": "1"}}]);
        let route = built(&exposed(endpoint, json!({}), "http"), Form::Open).pop().unwrap().value();
        let filters = route["spec"]["rules"][0]["filters"].as_array().unwrap();
        let types: Vec<_> = filters.iter().map(|filter| filter["type"].as_str().unwrap()).collect();
        let first = if guard == Guard::Traefik { "ExtensionRef" } else { "ExternalAuth" };
        assert_eq!(types, [first, "RequestHeaderModifier"]);
        let changes = &filters[1]["requestHeaderModifier"];
        assert_eq!(changes["remove"], json!(["x-original-url", "x-rewrite-url"]));
    }
}

#[test]
fn the_guard_of_an_ingress_replaces_what_users_say_about_it() {
    let mut endpoint = external(WayIn::Ingress, Guard::Traefik);
    let key = "traefik.ingress.kubernetes.io/router.middlewares";
    endpoint["ingress"]["annotations"] = json!({ key: "a-b@kubernetescrd" });
    let exposed = exposed(endpoint, json!({}), "http");
    let ingress = built(&exposed, Form::Open).pop().unwrap();
    assert_eq!(
        ingress.meta().annotations.as_ref().unwrap()[key],
        format!("events-{}@kubernetescrd", exposed.middleware)
    );
}

#[test]
fn only_an_endpoint_that_is_not_external_is_limited_to_the_cluster_by_default() {
    let has_policy = |exposed: &Exposed| kinds(exposed, Form::Open).contains(&PieceKind::NetworkPolicy);
    let internal = json!({"name": "admin", "type": "internal"});
    let mut limited = exposed(internal.clone(), json!({}), "http");
    assert!(has_policy(&limited));
    Arc::make_mut(&mut limited.config).kinds.remove(&PieceKind::NetworkPolicy);
    assert!(!has_policy(&limited), "a default is no reason for an obstacle");
    limited.network.from = Some(crate::crd::endpoint::AdmittedFrom::Cluster);
    assert!(has_policy(&limited), "the spec asks for it");
    assert!(!has_policy(&exposed(external(WayIn::Ingress, Guard::Nginx), json!({}), "http")));
}
