//! Attempts to reach an API without a token, through a real edge: by requests as no library sends them, by changes of
//! the Instance, and by deaths of the operator's process.

use std::{collections::BTreeMap, process::Command};

use controlplane::Process;
use futures::future::join_all;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokenry::{
    crd::Instance,
    exposure::{
        PieceKind,
        loose::{HttpRoute, Middleware},
    },
};

use crate::harness::{
    World,
    api::{self, Seen, knock},
    edge::{Edge, Poller, Site, TRAEFIK, by_gateway, by_ingress, managed},
};

/// Targets of a request line. `HOST` stands for the host of the API.
const TARGETS: [&str; 44] = [
    "/",
    "/orders",
    "//orders",
    "///orders",
    "/./orders",
    "/.tokenry/probe",
    "/.tokenry/probe/",
    "/.tokenry/probe?a=b",
    "/.tokenry/../orders",
    "/.tokenry/probe/../../orders",
    "/.tokenry/probe/%2e%2e/%2e%2e/orders",
    "/%2etokenry/probe",
    "/login/../orders",
    "/login/./../orders",
    "/login/%2e%2e/orders",
    "/login/.%2E/orders",
    "/login/..%2forders",
    "/login%2f..%2forders",
    "/login/%2f..%2f..%2forders",
    "/login/..;/orders",
    "/login;/../orders",
    "/login/;/orders",
    "/login;a=b",
    "/LOGIN/x",
    "/%6cogin/x",
    "/login/%252e%252e/orders",
    "/login/..\\orders",
    "/login/%5c..%5corders",
    "/login/%00",
    "/login/%0d%0aX-Tokenry-Role:%20admin",
    "/login//x",
    "//login/x",
    "/login/x/..",
    "/login/x.",
    "/login/x%20",
    "/login?/../orders",
    "/login#/../orders",
    "/login/x?_method=DELETE",
    "/login/x?a;_method=DELETE",
    "http://HOST/orders",
    "http://other.example.com/login/x",
    "http://HOST//login/x",
    "HOST:80",
    "*",
];

/// Lines that callers add to a request, to be taken for another request or for another caller.
const LINES: [&str; 40] = [
    "X-Forwarded-Uri: /login/x",
    "X-Forwarded-Uri: /login/x\r\nX-Forwarded-Method: GET",
    "X-Forwarded-Uri: /login/x\r\nConnection: X-Forwarded-Uri",
    "X_Forwarded_Uri: /login/x",
    "X-Forwarded-Path: /login/x",
    "X-Forwarded-Prefix: /login",
    "X-Replaced-Path: /login/x",
    "X-Original-URL: /login/x",
    "X-Original-Uri: /login/x",
    "X-Original-Method: OPTIONS",
    "X-Rewrite-URL: /login/x",
    "X-HTTP-Method-Override: OPTIONS",
    "X-Method-Override: OPTIONS",
    "X-Forwarded-Method: OPTIONS",
    "X-Forwarded-Host: other.example.com",
    "X-Forwarded-For: 127.0.0.1",
    "Forwarded: for=127.0.0.1;host=localhost",
    "X-Real-Ip: 127.0.0.1",
    "X-Tokenry-Subject: account:a/admin",
    "X-Tokenry-Subject: a\r\nX-Tokenry-Role: admin\r\nX-Tokenry-Token-Id: a\r\nX-Forwarded-User: a",
    "X_Tokenry_Subject: a",
    "X-Forwarded-User: admin",
    "Remote-User: admin",
    "X-Auth-Request-User: admin",
    "Authorization: Basic YWRtaW46YWRtaW4=",
    "Authorization: Bearer",
    "Authorization: Bearer tkn_AAAAAAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000",
    "Authorization: Bearer a\r\nAuthorization: Bearer b",
    "Proxy-Authorization: Bearer a",
    "Cookie: token=a; Authorization=Bearer%20a",
    "Connection: Authorization, X-Forwarded-Uri, X-Forwarded-Method, Host",
    "Connection: close, X-Tokenry-Subject, X-Tokenry-Role",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Expect: 100-continue",
    "TE: trailers\r\nTrailer: Authorization",
    "Host: other.example.com",
    "X: a\r\n continued: b",
    "Content-Length : 0",
    "Max-Forwards: 0",
];

/// Bodies with a second request in them, each behind the lines that make it look like a body, or like none.
const SMUGGLED: [(&str, &str); 9] = [
    ("Content-Length: 0", "GET /orders HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("Content-Length: 5\r\nContent-Length: 0", "GET /orders HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\nGET /orders HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("Transfer-Encoding: chunked", "0\r\n\r\nGET /orders HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\nGET /orders HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("Transfer-Encoding:\tchunked\r\nContent-Length: 3", "0\r\n\r\nGET /orders HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("Transfer-Encoding: xchunked\r\nContent-Length: 0", "GET /orders HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("Transfer-Encoding: chunked", "0;\nGET /orders HTTP/1.1\r\nHost: HOST\r\n\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "0\r\nX-Tokenry-Role: admin\r\nAuthorization: Bearer a\r\n\r\n"),
];

/// Each request that a caller without a token tries, in its bytes.
fn attempts(host: &str) -> Vec<String> {
    let mut all = Vec::new();
    for method in ["GET", "OPTIONS", "POST", "CONNECT", "PRI", "get"] {
        let lines = format!("Host: {host}\r\nConnection: close\r\n\r\n");
        all.extend(TARGETS.map(|target| format!("{method} {target} HTTP/1.1\r\n{lines}")));
    }
    for target in ["/orders", "/.tokenry/probe", "/login/x"] {
        all.extend(
            LINES.map(|line| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{line}\r\nConnection: close\r\n\r\n")),
        );
        all.push(format!("GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n"));
        all.push(format!("GET {target} HTTP/1.1\nHost: {host}\nConnection: close\n\n"));
        all.push(format!("GET {target} HTTP/2.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        all.push(format!("GET {target}\r\nHost: {host}\r\n\r\n"));
        all.extend(
            SMUGGLED.map(|(lines, body)| format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n\r\n{body}")),
        );
    }
    for named in ["HOST.", "HOST:80", "HOST:443", "USER@HOST", "HOST, other", "other, HOST", "[::1]", ""] {
        let named = named.replace("HOST", host);
        all.push(format!("GET /orders HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n"));
    }
    all.into_iter().map(|attempt| attempt.replace("HOST", host)).collect()
}

/// True if every server reads this request as one that the Instance lets through, and it names no caller.
fn is_let_through(seen: &Seen) -> bool {
    let path = seen[":path"][0].split('?').next().unwrap_or_default();
    let rest = path.strip_prefix("/login").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_plain = |rest: &str| rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '/') && !rest.contains("//");
    let names_nobody = api::told(seen).iter().all(|values| values.iter().all(String::is_empty));
    rest.is_some_and(is_plain) && names_nobody && !seen.keys().any(|name| name.contains('_'))
}

#[tokio::test]
async fn no_shape_of_a_request_reaches_the_api_without_a_token() {
    let edge = Edge::shared();
    for (name, by) in [("knocks", by_ingress as fn(&str, Value) -> Value), ("raps", |host, _| by_gateway(host, "http"))]
    {
        let site = edge.site(name, |host| {
            let mut spec = by(host, json!(null));
            spec["api"] = json!({"unguarded": [{"paths": ["/login/**"]}]});
            spec
        });
        let Site { world, api, host, bearer, .. } = &site.await;
        edge.await_status(world, host, &[("authorization", bearer)], 200).await;
        assert_eq!(edge.get(host, "/login/x", &[]).await.0, 200);
        let used = api.seen().len();
        let attempts = attempts(host);
        let mut answers = BTreeMap::<String, usize>::new();
        for batch in attempts.chunks(32) {
            let knocks = batch.iter().map(|attempt| knock(edge.http, attempt.as_bytes()));
            for (answer, attempt) in join_all(knocks).await.into_iter().zip(batch) {
                if answer.starts_with("HTTP/1.1 500") {
                    println!("500: {attempt:?}");
                }
                *answers.entry(answer.chars().take(12).collect()).or_default() += 1;
            }
        }
        let seen = api.seen().split_off(used);
        let bad: Vec<_> = seen.iter().filter(|seen| !is_let_through(seen)).collect();
        assert!(bad.is_empty(), "{name}: {bad:#?}");
        println!("{name}: {} attempts, {} let through; {answers:?}", attempts.len(), seen.len());
    }
}

/// The endpoints that an author of the Instance can ask for. Each has a guard, or no way in.
fn endpoints(host: &str) -> Vec<(&'static str, Value)> {
    let gateway = |guard: &str| {
        let mut spec = by_gateway(host, "http");
        spec["manager"]["endpoints"][0]["guard"] = guard.into();
        if guard == "Istio" {
            spec["manager"]["endpoints"][0]["istio"] = json!({"provider": "tokenry"});
        }
        spec
    };
    let ingress = |guard: &str| {
        let mut spec = by_ingress(host, json!(null));
        spec["manager"]["endpoints"][0]["guard"] = guard.into();
        spec
    };
    let mut listener = gateway("Traefik");
    listener["manager"]["endpoints"][0]["gateway"]["parentRefs"] =
        json!([{"name": TRAEFIK, "namespace": TRAEFIK}, {"name": "nowhere", "namespace": TRAEFIK}]);
    let mut filtered = gateway("Traefik");
    let filter = json!({"type": "RequestHeaderModifier", "set": {"x-a": "b"}});
    filtered["manager"]["endpoints"][0]["gateway"]["filters"] = json!([filter]);
    vec![
        ("ingress Traefik", ingress("Traefik")),
        ("gateway Traefik", gateway("Traefik")),
        ("gateway ExternalAuth", gateway("ExternalAuth")),
        ("gateway Traefik, filtered", filtered),
        ("gateway EnvoyGateway", gateway("EnvoyGateway")),
        ("ingress Backend", ingress("Backend")),
        ("gateway Traefik, a Gateway that does not exist", listener),
        ("gateway Istio", gateway("Istio")),
        ("ingress Nginx", ingress("Nginx")),
        ("gateway Backend", gateway("Backend")),
        ("internal", managed(json!({"name": "admin", "type": "internal"}))),
        ("disabled", managed(json!({"name": "admin", "type": "disabled"}))),
    ]
}

/// Waits until the operator has judged the current spec of the Instance.
async fn judged(world: &World) {
    world
        .eventually("the spec is judged", async || {
            let instance = world.api::<Instance>().get("eem").await.unwrap();
            (instance.status?.observed_generation == instance.metadata.generation).then_some(())
        })
        .await;
}

async fn never_let_in(poller: Poller) {
    let seen = poller.stop().await;
    assert!(!seen.is_empty() && !seen.contains_key(&200), "without a token: {seen:?}");
}

#[tokio::test]
async fn no_change_of_an_instance_lets_a_caller_in_without_a_token() {
    let edge = Edge::shared();
    let site = edge.site("author", |host| by_ingress(host, json!(null))).await;
    let Site { world, host, api, bearer, .. } = &site;
    let token = [("authorization", &**bearer)];
    edge.await_status(world, host, &token, 200).await;
    let poller = edge.poll(host);
    let before = api.seen().len();
    let endpoints = endpoints(host);
    // Each follows each other one at some distance, so that pairs differ.
    for stride in [1, 5, 7] {
        for step in 0..endpoints.len() {
            let (name, spec) = &endpoints[step * stride % endpoints.len()];
            println!("{stride} {step}: {name}");
            world.change("Instance", "eem", spec.clone()).await.unwrap();
            judged(world).await;
        }
    }
    for (_, spec) in endpoints.iter().take(4) {
        world.delete("Instance", "eem").await;
        let made = async || world.create("Instance", "eem", spec.clone()).await.ok();
        world.eventually("the Instance is made again", made).await;
        judged(world).await;
    }
    never_let_in(poller).await;
    // Without a token nobody was answered by the API.
    let anonymous = api.seen().split_off(before).into_iter().filter(|seen| !seen.contains_key("authorization"));
    assert_eq!(anonymous.count(), 0);
}

#[tokio::test]
async fn what_another_user_adds_to_an_object_of_the_guard_is_taken_off_again() {
    let edge = Edge::shared();
    let site = edge.site("meddling", |host| by_gateway(host, "http")).await;
    let Site { world, host, bearer, .. } = &site;
    let token = [("authorization", &**bearer)];
    edge.await_status(world, host, &token, 200).await;
    let identity = site.identity().await;
    let forged = json!([{"name": "X-Tokenry-Role", "value": "admin"}, {"name": "X-Tokenry-Subject", "value": "admin"}]);
    let filters = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": forged}}]);
    for (path, value) in [
        ("/spec/rules/0/filters/1/requestHeaderModifier/set", &forged),
        ("/spec/rules/0/backendRefs/0/filters", &filters),
    ] {
        let patch = json!([{"op": "add", "path": path, "value": value}]).to_string();
        let args = ["patch", "httproute", "eem-admin", "--namespace", &world.namespace, "--type", "json", "-p", &patch];
        world.plane.kubectl(&args).unwrap();
        let mended = async || {
            let route = world.api::<HttpRoute>().get("eem-admin").await.unwrap();
            let rule = &route.spec["rules"][0];
            let is_mended = rule["filters"][1]["requestHeaderModifier"].get("set").is_none()
                && rule["backendRefs"][0].get("filters").is_none();
            is_mended.then_some(route.metadata.generation)
        };
        let generation = world.eventually("the route is mended", mended).await;
        let told = async || {
            let (status, _, seen) = edge.get(host, "/orders", &token).await;
            (status == 200 && api::told(&seen) == identity).then_some(())
        };
        world.eventually("the API is told of the token", told).await;
        judged(world).await;
        assert_eq!(mended().await, Some(generation), "a route at rest is not written");
    }
}

/// An operator of the site as a process of its own.
fn process(site: &Site, nth: u32) -> Process {
    let (world, address) = (&site.world, site.verifier.address.to_string());
    let verifier = json!({"name": "tokenry-verifier", "namespace": "tokenry", "port": 80, "address": address});
    let exposure = json!({"kinds": PieceKind::ALL.map(PieceKind::name), "verifier": verifier});
    let kubeconfig = world.plane.kubeconfig_for(&world.namespace, &world.identities.operator).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command.args(["operator", "--listen", "127.0.0.1:0", "--probes", "127.0.0.1:0", "--grants"]);
    command.args(["--namespace", &world.namespace]);
    command.arg("--exposure").arg(exposure.to_string());
    command.env("KUBECONFIG", kubeconfig);
    let log = world.plane.directory().join(format!("operator-{}-{nth}.log", world.namespace));
    Process::start("operator", command, &log).unwrap()
}

/// The state of a change, as a reader of the API server sees it.
async fn stage(world: &World) -> (bool, bool, bool, bool) {
    let middlewares = world.api::<Middleware>().list(&ListParams::default()).await.unwrap().items;
    let route = world.api::<HttpRoute>().get_opt("eem-admin").await.unwrap();
    let is_open = route.as_ref().is_some_and(|route| route.spec["rules"][0]["backendRefs"][0].is_object());
    let ingress = world.api::<Ingress>().get_opt("eem-admin").await.unwrap();
    (!middlewares.is_empty(), route.is_some(), is_open, ingress.is_some())
}

#[tokio::test]
async fn no_death_of_the_process_of_the_operator_lets_a_caller_in_without_a_token() {
    let edge = Edge::shared();
    let mut site = edge.site("killed", |host| by_ingress(host, json!(null))).await;
    let host = site.host.clone();
    edge.await_status(&site.world, &host, &[("authorization", &site.bearer)], 200).await;
    let poller = edge.poll(&host);
    site.operator.take().unwrap().kill().await;
    let world = &site.world;
    let endpoints = endpoints(&host);
    let ends = [1, 0, 10, 1, 2, 1, 4, 0, 11, 0];
    let mut nth = 0;
    for end in ends {
        world.change("Instance", "eem", endpoints[end].1.clone()).await.unwrap();
        loop {
            let before = stage(world).await;
            let operator = process(&site, nth);
            nth += 1;
            // The process is killed as soon as the first of its changes is seen.
            let moved = async || {
                let instance = world.api::<Instance>().get("eem").await.unwrap();
                let is_judged = instance.status.as_ref()?.observed_generation == instance.metadata.generation;
                let is_changed = stage(world).await != before;
                (is_judged || is_changed).then_some(is_changed)
            };
            let is_changed = world.eventually("the operator changes something", moved).await;
            drop(operator);
            if !is_changed {
                break;
            }
        }
    }
    println!("{nth} processes were killed");
    never_let_in(poller).await;
}
