//! A real edge: Traefik serves Ingresses and HTTPRoutes of the control plane, in front of a real API and a real
//! verifier. What a client sees.

use std::{collections::BTreeMap, fs, net::SocketAddr, sync::Arc};

use controlplane::NAMESPACE;
use http::Method;
use jiff::SignedDuration;
use k8s_openapi::api::{core::v1::Secret, networking::v1::Ingress};
use kube::api::ListParams;
use serde_json::{Value, json};
use tokenry::{
    crd::{
        Instance, condition,
        endpoint::{Guard, WayIn},
    },
    exposure::{
        ExposureConfig, HttpsPort, PieceKind,
        loose::{HttpRoute, Middleware, SecurityPolicy},
    },
    outside::{
        Address, Clock, SystemEntropy,
        issuer::{KeyedCertificate, Period},
    },
};

use crate::certificate::{Folder, SECRET, Stored, TRUSTED, order};
use crate::harness::{
    World,
    api::{self, IDENTITY, told},
    edge::{By, Edge, Poller, Site, TRAEFIK, by_gateway, by_ingress, managed},
    fault::{Death, dying_at_the_edge},
    grants::{of_kind, rendered},
    root,
    run::exposure,
};

/// Waits until a condition of an Instance has this status and reason for the current spec. Returns its message.
async fn says(world: &World, name: &str, type_: &str, (status, reason): (&str, &str)) -> String {
    world
        .eventually(&format!("{type_} of Instance {name} is {status} for {reason}"), async || {
            let instance = world.api::<Instance>().get(name).await.unwrap();
            let told = instance.status.filter(|told| told.observed_generation == instance.metadata.generation)?;
            let condition = told.conditions.into_iter().find(|condition| condition.type_ == type_)?;
            (condition.status == status && condition.reason == reason).then_some(condition.message)
        })
        .await
}

/// Ends a poller, and checks that the API never answered it.
async fn never_let_in(poller: Poller) {
    let seen = poller.stop().await;
    assert!(!seen.is_empty() && !seen.contains_key(&200), "without a token: {seen:?}");
}

fn ingress(host: &str) -> Value {
    by_ingress(host, json!(null))
}

fn gateway(host: &str) -> Value {
    by_gateway(host, "http")
}

fn of_type(type_: &str) -> Value {
    managed(json!({"name": "admin", "type": type_}))
}

/// Applies an object in the namespace of the test as an administrator.
fn apply(world: &World, object: &Value) {
    let args = ["apply", "--server-side", "--namespace", &world.namespace, "-f", "-"];
    world.plane.kubectl_with_input(&args, &object.to_string()).unwrap();
}

/// An Ingress of somebody else that leads to a Service.
fn foreign(host: &str, service: &str) -> Value {
    let backend = json!({"service": {"name": service, "port": {"number": 80}}});
    let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "theirs"},
        "spec": {"ingressClassName": TRAEFIK, "rules": [{"host": host, "http": {"paths": paths}}]},
    })
}

#[tokio::test]
async fn traefik_lets_in_a_token_alone_by_an_ingress() {
    let site = lets_in_a_token_alone("ingress", ingress).await;
    // The certificate of the Gateway does not cover this host.
    let (edge, host) = (Edge::shared(), format!("secure.{}", site.host));
    let spec = by_ingress(&host, json!({"secretName": "admin-tls"}));
    site.world.change("Instance", "eem", spec).await.unwrap();
    edge.await_status(&site.world, &site.host, &[], 404).await;
    let ask = async |headers: &[(&'static str, &str)]| {
        edge.ask(By::Https, Method::GET, (&host, "/orders"), headers).await.ok().map(|answer| answer.0)
    };
    assert_eq!(ask(&[]).await, None, "without its Secret");
    edge.certificate(&site.world, "admin-tls", &host).await;
    let secure = async || (ask(&[("authorization", &site.bearer)]).await == Some(200)).then_some(());
    site.world.eventually("it answers by HTTPS", secure).await;
    assert_eq!(ask(&[]).await, Some(401));
    closed_without_a_verifier(site, By::Https, &host).await;
}

#[tokio::test]
async fn traefik_lets_in_a_token_alone_by_an_httproute() {
    let site = lets_in_a_token_alone("route", gateway).await;
    let host = site.host.clone();
    closed_without_a_verifier(site, By::Http, &host).await;
}

/// Calls the API through the edge while its endpoint changes its host and its type.
async fn lets_in_a_token_alone(name: &str, external: fn(&str) -> Value) -> Site {
    let edge = Edge::shared();
    let site = edge.site(name, external).await;
    let identity = site.identity().await;
    let Site { world, verifier, api, host, bearer, .. } = &site;
    let (moved, token) = (&*format!("moved-{host}"), ("authorization", &**bearer));
    let pollers = [&**host, moved].map(|host| edge.poll(host));

    edge.await_status(world, host, &[token], 200).await;
    says(world, "eem", condition::EXPOSED, ("True", "Exposed")).await;
    says(world, "eem", condition::GUARDED, ("True", "Guarded")).await;
    for (path, headers) in [("/orders", &[][..]), ("/.tokenry/probe", &[]), ("/.tokenry/probe", &[token])] {
        let (status, headers, _) = edge.get(host, path, headers).await;
        let challenge = headers["www-authenticate"].to_str().unwrap();
        let realm = format!("realm=\"tokenry/{}/eem\"", world.namespace);
        assert!(status == 401 && challenge.contains(&realm), "{path}: {status} {headers:?}");
    }
    let (status, _, _) = edge.get(host, "/orders", &[("authorization", "Bearer other")]).await;
    assert_eq!(status, 401);

    let forged = IDENTITY.map(|name| (name, "forged"));
    let (status, _, seen) = edge.get(host, "/orders?page=2", &[&forged[..], &[token]].concat()).await;
    assert_eq!((status, &*seen[":path"][0], told(&seen)), (200, "/orders?page=2", identity.clone()));
    let lines = format!("Authorization: {bearer}\r\nConnection: close, X-Tokenry-Role, X-Tokenry-Subject\r\n");
    let (status, body) = api::raw(edge.http, &format!("GET /orders HTTP/1.1\r\nHost: {host}\r\n{lines}")).await;
    assert_eq!((status, told(&serde_json::from_str(&body).unwrap())), (200, identity));

    let first = middleware(world).await.unwrap();
    world.plane.kubectl(&["delete", "middleware", &first.0, "--namespace", &world.namespace]).unwrap();
    let again = async || middleware(world).await.filter(|(_, uid)| *uid != first.1);
    world.eventually("the Middleware is made again", again).await;
    edge.await_status(world, host, &[token], 200).await;

    world.change("Instance", "eem", external(moved)).await.unwrap();
    edge.await_status(world, moved, &[token], 200).await;
    edge.await_status(world, host, &[token], 404).await;
    let value = bearer.strip_prefix("Bearer ").unwrap();
    for (narrowed, verdict) in [("internal", 200), ("disabled", 403)] {
        world.change("Instance", "eem", of_type(narrowed)).await.unwrap();
        edge.await_status(world, moved, &[token], 404).await;
        world.await_verdict(verifier, value, verdict).await;
        let asked = api.asked();
        assert_eq!((edge.status(host, &[token]).await, edge.status(moved, &[token]).await), (404, 404));
        assert_eq!(api.asked(), asked, "{narrowed}");
        world.change("Instance", "eem", external(moved)).await.unwrap();
        edge.await_status(world, moved, &[token], 200).await;
    }
    world.change("Instance", "eem", external(host)).await.unwrap();
    edge.await_status(world, host, &[token], 200).await;
    for poller in pollers {
        never_let_in(poller).await;
    }
    site
}

/// The name and the uid of the only Middleware.
async fn middleware(world: &World) -> Option<(String, String)> {
    let mut all = world.api::<Middleware>().list(&ListParams::default()).await.unwrap().items;
    assert!(all.len() <= 1, "{all:?}");
    let metadata = all.pop()?.metadata;
    metadata.name.zip(metadata.uid)
}

/// Stops the verifier: nobody reaches the API then.
async fn closed_without_a_verifier(site: Site, by: By, host: &str) {
    let edge = Edge::shared();
    let Site { world: _world, operator: _operator, verifier, api, bearer, .. } = site;
    verifier.stop().await;
    let asked = api.asked();
    for headers in [&[][..], &[("authorization", &*bearer)]] {
        let (status, ..) = edge.ask(by, Method::GET, (host, "/orders"), headers).await.unwrap();
        assert_eq!(status, 500, "{headers:?}");
    }
    assert_eq!(api.asked(), asked);
}

/// True if the Instance `eem` has these ways in: an HTTPRoute, an Ingress.
async fn has(world: &World, route: bool, ingress: bool) -> Option<()> {
    let (routes, ingresses) = (world.api::<HttpRoute>(), world.api::<Ingress>());
    let has_route = routes.get_opt("eem-admin").await.unwrap().is_some();
    let has_ingress = ingresses.get_opt("eem-admin").await.unwrap().is_some();
    ((has_route, has_ingress) == (route, ingress)).then_some(())
}

#[tokio::test]
async fn a_change_of_the_way_in_never_leads_past_the_guard_wherever_the_operator_dies() {
    let edge = Edge::shared();
    let mut site = edge.site("ways", ingress).await;
    let (host, bearer) = (site.host.clone(), site.bearer.clone());
    let token = [("authorization", &*bearer)];
    edge.await_status(&site.world, &host, &token, 200).await;
    let poller = edge.poll(&host);
    let mut to_route = true;
    for death in [Death::Before, Death::After] {
        for nth in [1, 1, 2, 2, 3, 3, 4, 4] {
            // The new way in is created, then the old one is deleted. In between a route gets its backend. A further
            // write comes only after one that was refused, because the edge has written too.
            let writes = if to_route { 3 } else { 2 };
            let config = site.world.plane.config(&site.world.identities.operator);
            let (client, doom) = dying_at_the_edge(config, nth, death);
            site.operate(client, |_| ()).await;
            let spec = if to_route { gateway(&host) } else { ingress(&host) };
            site.world.change("Instance", "eem", spec).await.unwrap();
            let changed = async || has(&site.world, to_route, !to_route).await;
            let what = format!("the operator dies at write {nth}, or the change to a route ({to_route}) is done");
            let ended = async || if doom.has_come() { Some(()) } else { changed().await };
            site.world.eventually(&what, ended).await;
            assert!(doom.has_come() || nth > writes, "{death:?} at {nth}");
            assert_eq!(edge.status(&host, &[]).await, 401, "a way in with the same guard is always there");
            let client = site.client();
            site.operate(client, |_| ()).await;
            let changed = async || has(&site.world, to_route, !to_route).await;
            site.world.eventually("the other way in is gone", changed).await;
            edge.await_status(&site.world, &host, &token, 200).await;
            to_route = !to_route;
        }
    }
    assert!(middleware(&site.world).await.is_some());
    never_let_in(poller).await;
}

#[tokio::test]
async fn a_way_past_the_guard_is_told_by_its_name_until_it_is_gone() {
    let edge = Edge::shared();
    let site = edge.site("bypass", ingress).await;
    let (world, other) = (&site.world, &*format!("other-{}", site.host));
    says(world, "eem", condition::GUARDED, ("True", "Guarded")).await;
    let ports = json!([{"port": 80, "targetPort": "api"}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs"},
        "spec": {"type": "NodePort", "selector": {"app": "eem"}, "ports": ports},
    });
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "theirs"},
        "spec": {
            "parentRefs": [{"name": TRAEFIK, "namespace": TRAEFIK}], "hostnames": [other],
            "rules": [{"backendRefs": [{"name": "eem-manager", "port": 80}]}],
        },
    });
    let mirror = json!([{
        "type": "RequestMirror", "requestMirror": {"backendRef": {"name": "eem-manager", "port": 80}},
    }]);
    let mut mirroring = route.clone();
    mirroring["spec"]["rules"] = json!([{"backendRefs": [{"name": "elsewhere", "port": 80}], "filters": mirror}]);
    let [by_ingress, by_route] = ["Ingress", "HTTPRoute"].map(|kind| format!("{kind} {}/theirs", world.namespace));
    for (kind, object, named) in [
        ("ingress", foreign(other, "eem-admin"), &*by_ingress),
        ("ingress", foreign(other, "eem-manager"), &by_ingress),
        ("httproute", route, &by_route),
        ("httproute", mirroring.clone(), &by_route),
        ("service", service, "Service theirs of type NodePort"),
    ] {
        apply(world, &object);
        let message = says(world, "eem", condition::GUARDED, ("False", "Bypassed")).await;
        assert!(message.starts_with(named), "{message}");
        if kind != "service" && object != mirroring {
            edge.await_status(world, other, &[], 200).await;
        }
        world.plane.kubectl(&["delete", kind, "theirs", "--namespace", &world.namespace]).unwrap();
        says(world, "eem", condition::GUARDED, ("True", "Guarded")).await;
    }
    // Another Instance in front of the same Pods is such a way too.
    let template = json!({ "className": TRAEFIK });
    let open = json!({"name": "admin", "type": "external", "host": other, "ingress": template, "allowUnguarded": true});
    world.accepts("Instance", "rival", managed(open)).await;
    let message = says(world, "eem", condition::GUARDED, ("False", "Bypassed")).await;
    assert!(message.starts_with(&format!("Ingress {}/rival-admin", world.namespace)), "{message}");
}

#[tokio::test]
async fn a_host_has_one_instance_until_that_one_gives_it_up() {
    let edge = Edge::shared();
    let site = edge.site("rivals", ingress).await;
    let Site { world, host, bearer, .. } = &site;
    edge.await_status(world, host, &[("authorization", bearer)], 200).await;
    world.accepts("Instance", "rival", gateway(host)).await;
    let message = says(world, "rival", condition::ACCEPTED, ("False", "HostTaken")).await;
    let wanted = format!("spec.manager.endpoints[admin].host: is the host of Instance {}/eem", world.namespace);
    assert!(message.starts_with(&wanted), "{message}");
    assert_eq!(world.api::<HttpRoute>().list(&ListParams::default()).await.unwrap().items.len(), 0);
    says(world, "eem", condition::ACCEPTED, ("True", "Accepted")).await;
    world.change("Instance", "eem", ingress(&format!("moved-{host}"))).await.unwrap();
    says(world, "rival", condition::READY, ("True", "Accepted")).await;
}

#[tokio::test]
async fn without_a_kind_that_the_guard_needs_there_is_no_way_in() {
    let edge = Edge::shared();
    let mut site = edge.site("off", |_| of_type("internal")).await;
    let client = site.client();
    site.operate(client, |config| config.kinds.retain(|kind| *kind != PieceKind::Middleware)).await;
    let Site { world, host, bearer, .. } = &site;
    for spec in [ingress(host), gateway(host)] {
        world.change("Instance", "eem", spec).await.unwrap();
        let message = says(world, "eem", condition::ENDPOINTS_READY, ("False", "EndpointKindOff")).await;
        assert!(
            message.starts_with("endpoint admin needs Middleware, which this operator may not create"),
            "{message}"
        );
        says(world, "eem", condition::EXPOSED, ("False", "EndpointKindOff")).await;
        assert_eq!(has(world, false, false).await, Some(()));
        assert_eq!(edge.status(host, &[("authorization", bearer)]).await, 404);
    }
}

#[tokio::test]
async fn an_endpoint_without_a_way_in_has_the_one_of_the_cluster() {
    let edge = Edge::shared();
    let mut site = edge.site("default", |_| of_type("internal")).await;
    let (host, bearer) = (site.host.clone(), site.bearer.clone());
    let bare = json!({"name": "admin", "type": "external", "host": host, "guard": "Traefik"});
    site.world.change("Instance", "eem", managed(bare)).await.unwrap();
    let message = says(&site.world, "eem", condition::ACCEPTED, ("False", "Invalid")).await;
    let wanted = "spec.manager.endpoints[admin].gateway: is needed for an external endpoint: give gateway, ingress or \
        route; or set exposure.gateway or exposure.ingress in the chart";
    assert_eq!(message, wanted);
    assert_eq!(has(&site.world, false, false).await, Some(()));
    let poller = edge.poll(&host);
    let class = json!({ "className": TRAEFIK });
    let client = site.client();
    site.operate(client.clone(), |config| config.ingress = serde_json::from_value(class).unwrap()).await;
    edge.await_status(&site.world, &host, &[("authorization", &bearer)], 200).await;
    assert_eq!(has(&site.world, false, true).await, Some(()));
    let parents = json!([{"name": TRAEFIK, "namespace": TRAEFIK}]);
    site.operate(client, |config| config.gateway = serde_json::from_value(parents).unwrap()).await;
    site.world.eventually("the default of the cluster changes", async || has(&site.world, true, false).await).await;
    edge.await_status(&site.world, &host, &[("authorization", &bearer)], 200).await;
    never_let_in(poller).await;
}

#[tokio::test]
async fn a_route_that_its_gateway_refuses_publishes_nothing() {
    let edge = Edge::shared();
    let site = edge.site("refused", |_| of_type("internal")).await;
    let Site { world, host, .. } = &site;
    world.change("Instance", "eem", by_gateway(host, "nowhere")).await.unwrap();
    world.accepts("ApiToken", "new", json!({"instanceRef": {"name": "eem"}})).await;
    let message = says(world, "eem", condition::ENDPOINTS_READY, ("False", "WayInRefused")).await;
    assert!(message.starts_with("HTTPRoute eem-admin is refused: NoMatchingParent"), "{message}");
    says(world, "eem", condition::EXPOSED, ("False", "WayInRefused")).await;
    world.await_reason("new", "EndpointAwaited").await;
    let instance = world.api::<Instance>().get("eem").await.unwrap();
    assert!(instance.status.unwrap().endpoints.is_empty());
    assert_eq!(world.value("new").await, None);
    world.change("Instance", "eem", gateway(host)).await.unwrap();
    let value = world.await_generation("new", 1).await;
    edge.await_status(world, host, &[("authorization", &format!("Bearer {value}"))], 200).await;
    assert_eq!(world.key("new", "endpoint").await, Some(format!("http://{host}")));
}

/// The kinds of the objects in a snapshot of the builders.
fn snapshot(name: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("tests/exposure").join(format!("{name}.yaml"))).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("kind: ")).map(str::to_owned).collect()
}

/// What the edge of Traefik makes of an external endpoint: the reason of `Ready`, and the statuses without and with a
/// token. `None` if Traefik cannot tell: it serves no Route, and does not read the annotations of ingress-nginx.
fn expected(way: WayIn, guard: Guard) -> Option<(&'static str, u16, Option<u16>)> {
    match guard {
        _ if way == WayIn::Route => None,
        Guard::Nginx => None,
        Guard::Traefik => Some(("Accepted", 401, Some(200))),
        Guard::None => Some(("Accepted", 200, Some(200))),
        Guard::EnvoyGateway => Some(("GuardAwaited", 503, None)),
        Guard::ExternalAuth => Some(("GuardAwaited", 500, None)),
        Guard::Istio | Guard::Backend => Some(("GuardAwaited", 404, None)),
    }
}

#[tokio::test]
async fn the_matrix_of_types_ways_and_guards() {
    let edge = Edge::shared();
    let site = edge.site("matrix", |_| of_type("internal")).await;
    let Site { world, api, host, .. } = &site;
    let pairs = WayIn::ALL.into_iter().flat_map(|way| Guard::ALL.map(|guard| (way, guard)));
    let pairs = pairs.filter(|(way, guard)| guard.fits(*way));
    let cells: BTreeMap<_, _> = pairs
        .map(|(way, guard)| (format!("{}-{}", way.field(), guard.as_str().to_lowercase()), (way, guard)))
        .collect();
    for (name, (way, guard)) in cells.iter().filter(|(_, (way, guard))| expected(*way, *guard).is_some()) {
        edge.serve(world, name, name, api).await;
        let template = match way {
            WayIn::Gateway => json!({"parentRefs": [{"name": TRAEFIK, "namespace": TRAEFIK}], "scheme": "http"}),
            WayIn::Ingress | WayIn::Route => json!({ "className": TRAEFIK }),
        };
        let mut endpoint = json!({"name": "admin", "type": "external", "host": format!("{name}-{host}")});
        endpoint[way.field()] = template;
        endpoint["guard"] = guard.as_str().into();
        endpoint["allowUnguarded"] = (*guard == Guard::None).into();
        if *guard == Guard::Istio {
            endpoint["istio"] = json!({"provider": "tokenry"});
        }
        let service = json!({"name": name, "port": 80, "scheme": "http"});
        world.accepts("Instance", name, json!({"manager": {"service": service, "endpoints": [endpoint]}})).await;
        world.accepts("ApiToken", name, json!({"instanceRef": {"name": name}})).await;
    }
    for type_ in ["internal-cluster", "internal-none"] {
        println!("{:<9}{:<9}{:<13}objects: {}", "internal", "-", "-", snapshot(type_).join(", "));
    }
    assert_eq!(edge.status(host, &[]).await, 404, "an internal endpoint has no way in");
    println!("{:<9}{:<9}{:<13}objects: none; every token is refused", "disabled", "-", "-");
    for (name, (way, guard)) in &cells {
        let objects = snapshot(&format!("external-{name}")).join(", ");
        let seen = match expected(*way, *guard) {
            None => "not run: no edge here serves it".to_owned(),
            Some(expected) => seen(world, &format!("{name}-{host}"), name, expected).await,
        };
        println!("{:<9}{:<9}{:<13}objects: {objects}; {seen}", "external", way.field(), guard.as_str());
    }
}

/// Checks a cell of the matrix at the edge. Returns its conditions, and the answers to a client, in words.
async fn seen(world: &World, host: &str, name: &str, (ready, without, with): (&str, u16, Option<u16>)) -> String {
    let edge = Edge::shared();
    let status = if ready == "Accepted" { "True" } else { "False" };
    says(world, name, condition::READY, (status, ready)).await;
    edge.await_status(world, host, &[], without).await;
    let with = match with {
        None => "no token is published".to_owned(),
        Some(with) => {
            let bearer = format!("Bearer {}", world.await_generation(name, 1).await);
            edge.await_status(world, host, &[("authorization", &bearer)], with).await;
            format!("with a token {with}")
        }
    };
    let conditions = world.api::<Instance>().get(name).await.unwrap().status.unwrap().conditions;
    let shown = [condition::READY, condition::EXPOSED, condition::GUARDED].map(|type_| {
        let found = conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        format!("{type_}={}/{}", found.status, found.reason)
    });
    format!("{}; without a token {without}, {with}", shown.join(" "))
}

#[tokio::test]
async fn a_guard_is_collected_after_its_way_in() {
    let edge = Edge::shared();
    let Site { world, host, .. } = &edge.site("collected", |_| of_type("internal")).await;
    let mut spec = by_gateway(host, "http");
    spec["manager"]["endpoints"][0]["guard"] = json!("EnvoyGateway");
    world.change("Instance", "eem", spec).await.unwrap();
    let named = |kind: &str, output: &str| {
        let args = ["get", kind, "eem-admin", "--ignore-not-found", "-o", output, "--namespace", &world.namespace];
        world.plane.kubectl(&args).unwrap()
    };
    let kinds = "jsonpath={.metadata.ownerReferences[*].kind}";
    let owned = async || (named("securitypolicy", kinds) == "Instance HTTPRoute").then_some(());
    world.eventually("the route is an owner of the policy", owned).await;
    world.plane.kubectl(&["delete", "instance", "eem", "--namespace", &world.namespace]).unwrap();
    let gone = async || {
        // In this order: a policy that is gone now was gone when the route was looked for.
        let (policy, route) = (named("securitypolicy", "name"), named("httproute", "name"));
        assert!(!policy.is_empty() || route.is_empty(), "{route} without its guard");
        (policy.is_empty() && route.is_empty()).then_some(())
    };
    world.eventually("both are gone", gone).await;
}

#[tokio::test]
async fn a_guard_that_is_not_wanted_any_more_leaves_after_its_way_in() {
    let edge = Edge::shared();
    let Site { world, host, clock, .. } = &edge.site("leaving", |_| of_type("internal")).await;
    for (guard, kind) in [("EnvoyGateway", "securitypolicy"), ("Istio", "authorizationpolicy")] {
        let named = |kind: &str| {
            let args = ["get", kind, "eem-admin", "--ignore-not-found", "-o", "name", "--namespace", &world.namespace];
            world.plane.kubectl(&args).unwrap()
        };
        let mut spec = by_gateway(host, "http");
        spec["manager"]["endpoints"][0]["guard"] = json!(guard);
        if guard == "Istio" {
            spec["manager"]["endpoints"][0]["istio"] = json!({"provider": "tokenry"});
        }
        world.change("Instance", "eem", spec).await.unwrap();
        world.eventually("the guard is there", async || (!named(kind).is_empty()).then_some(())).await;
        world.change("Instance", "eem", of_type("internal")).await.unwrap();
        let gone = async || {
            let (guard, route) = (named(kind), named("httproute"));
            assert!(!guard.is_empty() || route.is_empty(), "{route} without its guard");
            clock.move_by(SignedDuration::from_secs(31));
            guard.is_empty().then_some(())
        };
        world.eventually("the guard is gone", gone).await;
    }
}

/// The settings of guards that ask the verifier of `site` by plain HTTP, and go over to HTTPS at this address.
fn by_https(site: &Site, address: SocketAddr) -> ExposureConfig {
    let mut config = exposure();
    let verifier = config.verifier.as_mut().unwrap();
    (verifier.namespace, verifier.address) = (NAMESPACE.to_owned(), Some(site.verifier.address.to_string()));
    let (ca, ca_secret) = (format!("{SECRET}-ca"), TRUSTED.to_owned());
    verifier.https = Some(HttpsPort { port: 443, address: Some(address.to_string()), ca, ca_secret });
    config
}

#[tokio::test]
async fn guards_go_over_to_https_once_all_is_there_and_trust_the_authority_of_the_operator_alone() {
    let edge = Edge::shared();
    let mut site = edge.site("https", ingress).await;
    let (host, bearer) = (site.host.clone(), site.bearer.clone());
    let token = [("authorization", &*bearer)];
    edge.await_status(&site.world, &host, &token, 200).await;
    let poller = edge.poll(&host);
    let folder = Folder::of(&site.world);
    let at = "127.0.0.1:0".parse::<Address>().unwrap().take("--tls-listen").unwrap();
    let address = at.address().unwrap();
    let client = site.world.plane.client_for(&site.world.identities.verifier);
    let secure = Some((at, folder.files()));
    let _verifier = site.world.verifier_by(client, &site.clock, |options| options.secure = secure).await;

    let config = by_https(&site, address);
    site.operator.take().unwrap().kill().await;
    let operator = site.world.operator_with(site.client(), &site.clock, |options| {
        (options.exposure, options.certificate) = (Arc::new(config), Some(order(SECRET)));
    });
    site.operator = Some(operator.await);
    // The verifier has no certificate yet, so the guard asks by plain HTTP, and says so.
    let stored = site.world.await_stored("there is a certificate", |_| true).await;
    let plain = async || {
        let told = says(&site.world, "eem", "Guarded", ("True", "Guarded")).await;
        told.contains("it asks by plain HTTP: the operator has not reached tokenry-verifier by HTTPS yet").then_some(())
    };
    site.world.eventually("the condition says so", plain).await;
    folder.write(&stored.pair);
    let goes_over = async || {
        assert_eq!(edge.status(&host, &token).await, 200, "no request is refused meanwhile");
        let all = site.world.api::<Middleware>().list(&ListParams::default()).await.unwrap().items;
        let auth = &all.first()?.spec["forwardAuth"];
        let asks = auth["address"].as_str().unwrap().starts_with(&format!("https://{address}/"));
        (asks && auth["tls"] == json!({"caSecret": TRUSTED})).then_some(())
    };
    site.world.eventually("the Middleware asks by HTTPS", goes_over).await;
    edge.await_status(&site.world, &host, &token, 200).await;
    edge.await_status(&site.world, &host, &[], 401).await;
    trusts_the_authority_alone(edge, &site, &stored).await;
    never_let_in(poller).await;
    follows_the_policy(&site).await;
}

/// Checks that Traefik trusts the authority of the operator alone, and its successor.
async fn trusts_the_authority_alone(edge: &Edge, site: &Site, stored: &Stored) {
    let (host, token) = (&site.host, [("authorization", &*site.bearer)]);
    let now = site.clock.now();
    let period = Period { from: now, until: now + SignedDuration::from_hours(24) };
    let other = KeyedCertificate::authority(&SystemEntropy, period).unwrap();
    site.world.patch_secret(TRUSTED, json!({"stringData": {"ca.crt": other.certificate}})).await;
    let refused = async || (![200, 401].contains(&edge.status(host, &token).await)).then_some(());
    site.world.eventually("nobody passes by a certificate of another authority", refused).await;

    // The operator reads the Secrets again after a jump of the clock, as it does each minute.
    site.clock.move_by(SignedDuration::from_hours(1));
    edge.await_status(&site.world, host, &token, 200).await;

    // After two thirds of the authority's time, its successor is trusted too.
    site.clock.move_by(SignedDuration::from_hours((3 * 365 + 200) * 24));
    let both = async || {
        let secret = site.world.api::<Secret>().get(TRUSTED).await.unwrap();
        let bundle = String::from_utf8(secret.data?.remove("ca.crt")?.0).unwrap();
        (bundle.starts_with(&stored.bundle) && bundle.matches("BEGIN").count() == 2).then_some(())
    };
    site.world.eventually("the Secret has both authorities", both).await;
    // The clock of the token has not moved with that of the verifier's certificate.
    site.clock.move_by(SignedDuration::from_hours(-(3 * 365 + 200) * 24));
    edge.await_status(&site.world, host, &[], 401).await;
}

/// Checks that a guard of a Gateway asks by HTTPS while the BackendTLSPolicy of the chart exists.
async fn follows_the_policy(site: &Site) {
    let world = &site.world;
    let mut spec = gateway(&site.host);
    spec["manager"]["endpoints"][0]["guard"] = json!("EnvoyGateway");
    world.change("Instance", "eem", spec).await.unwrap();
    let asks = async |port: i32| {
        let is_it = async || {
            // The operator looks again after a jump of the clock, as it does each minute.
            site.clock.move_by(SignedDuration::from_mins(2));
            let policy = world.api::<SecurityPolicy>().get_opt("eem-admin").await.unwrap()?;
            (policy.spec["extAuth"]["http"]["backendRefs"][0]["port"] == port).then_some(())
        };
        world.eventually(&format!("the SecurityPolicy asks at port {port}"), is_it).await;
    };
    asks(80).await;
    let policy = policy_of("v1").to_string();
    world.plane.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &policy).unwrap();
    asks(443).await;
    world.plane.kubectl_with_input(&["delete", "-f", "-"], &policy).unwrap();
    asks(80).await;
}

/// The BackendTLSPolicy of the chart in a cluster that serves this version of it.
fn policy_of(version: &str) -> Value {
    let served = format!("v1/Pod,gateway.networking.k8s.io/{version}/BackendTLSPolicy");
    let objects = rendered(&["--api-versions", &served]);
    of_kind(&objects, "BackendTLSPolicy")[0].clone()
}

#[tokio::test]
async fn gateway_api_accepts_each_version_of_the_policy_for_gateways() {
    let world = Edge::shared().world("policy").await;
    for version in ["v1", "v1alpha3"] {
        let policy = policy_of(version);
        assert_eq!(policy["apiVersion"], format!("gateway.networking.k8s.io/{version}"));
        let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        world.plane.kubectl_with_input(&apply, &policy.to_string()).unwrap();
    }
}
