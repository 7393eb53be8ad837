//! A real edge: Traefik serves Ingresses and HTTPRoutes of the control plane, in front of a real API. What a client sees.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};

use crate::harness::{
    World,
    api::{self, IDENTITY, told},
    edge::{By, Edge, Site, TRAEFIK, by_ingress, managed},
};

#[tokio::test]
async fn an_api_is_reachable_at_its_host_alone_and_only_while_its_endpoint_is_external() {
    let edge = Edge::shared();
    let site = edge.site("edge", |host| by_ingress(host, json!(null))).await;
    let Site { world, api, host, .. } = &site;
    edge.await_status(world, host, &[], 200).await;
    let (_, _, seen) = edge.get(host, "/orders?page=2", &[("x-asked", "1")]).await;
    assert_eq!((&*seen[":method"][0], &*seen[":path"][0], &*seen["x-asked"][0]), ("GET", "/orders?page=2", "1"));
    assert_eq!(seen["x-forwarded-host"], [&**host]);

    // The certificate of the Gateway does not cover this host.
    let moved = &*format!("moved.{host}");
    world.change("Instance", "eem", by_ingress(moved, json!({"secretName": "admin-tls"}))).await.unwrap();
    edge.await_status(world, host, &[], 404).await;
    let secure = async || edge.ask(By::Https, Method::POST, (moved, "/orders"), &[]).await.ok().map(|answer| answer.0);
    assert_eq!(secure().await, None, "without its Secret");
    edge.certificate(world, "admin-tls", moved).await;
    world.eventually("it answers by HTTPS", async || (secure().await == Some(200)).then_some(())).await;

    for narrowed in ["internal", "disabled"] {
        world.change("Instance", "eem", managed(json!({"name": "admin", "type": narrowed}))).await.unwrap();
        edge.await_status(world, moved, &[], 404).await;
        let asked = api.asked();
        assert_eq!((edge.status(host, &[]).await, edge.status(moved, &[]).await, api.asked()), (404, 404, asked));
        world.change("Instance", "eem", by_ingress(moved, json!(null))).await.unwrap();
        edge.await_status(world, moved, &[], 200).await;
    }
}

/// A Middleware that asks the verifier about requests to the Instance `eem`.
fn guard(world: &World, verifier: SocketAddr) -> Value {
    let address = format!("http://{verifier}/v1/instances/{}/eem/authorize", world.namespace);
    let asked = json!({"address": address, "trustForwardHeader": false, "authResponseHeaders": IDENTITY});
    json!({"apiVersion": "traefik.io/v1alpha1", "kind": "Middleware", "metadata": {"name": "guard"}, "spec": {"forwardAuth": asked}})
}

/// An Ingress that leads through the Middleware to the Service of the Instance's endpoint.
fn ingress(world: &World, host: &str) -> Value {
    let middleware = format!("{}-guard@kubernetescrd", world.namespace);
    let annotations = json!({"traefik.ingress.kubernetes.io/router.middlewares": middleware});
    let backend = json!({"service": {"name": "eem-admin", "port": {"number": 80}}});
    let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "way", "annotations": annotations},
        "spec": {"ingressClassName": TRAEFIK, "rules": [{"host": host, "http": {"paths": paths}}]},
    })
}

/// An HTTPRoute that does the same.
fn route(_: &World, host: &str) -> Value {
    let reference = json!({"group": "traefik.io", "kind": "Middleware", "name": "guard"});
    let filters = json!([{"type": "ExtensionRef", "extensionRef": reference}]);
    let rules = json!([{"filters": filters, "backendRefs": [{"name": "eem-admin", "port": 80}]}]);
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "way"},
        "spec": {"parentRefs": [{"name": TRAEFIK, "namespace": TRAEFIK}], "hostnames": [host], "rules": rules},
    })
}

/// Applies an object in the namespace of the test as an administrator.
fn apply(world: &World, object: &Value) {
    let args = ["apply", "--server-side", "--namespace", &world.namespace, "-f", "-"];
    world.plane.kubectl_with_input(&args, &object.to_string()).unwrap();
}

#[tokio::test]
async fn a_middleware_before_an_ingress_lets_in_a_token_alone() {
    a_middleware_guards("ingress", ingress).await;
}

#[tokio::test]
async fn a_middleware_before_an_httproute_lets_in_a_token_alone() {
    a_middleware_guards("route", route).await;
}

/// Sets up the way in by hand and calls the API through it.
async fn a_middleware_guards(name: &str, way: fn(&World, &str) -> Value) {
    let edge = Edge::shared();
    let site = edge.site(name, |_| managed(json!({"name": "admin", "type": "internal"}))).await;
    let identity = site.identity().await;
    let Site { world, operator: _operator, verifier, api, host, bearer } = site;
    let token = ("authorization", &*bearer);

    let poller = edge.poll(&host);
    apply(&world, &way(&world, &host));
    apply(&world, &guard(&world, verifier.address));
    edge.await_status(&world, &host, &[token], 200).await;
    let (status, headers, _) = edge.get(&host, "/orders", &[]).await;
    assert_eq!(status, 401);
    assert!(headers["www-authenticate"].to_str().unwrap().starts_with("Bearer realm="), "{headers:?}");

    let forged = IDENTITY.map(|name| (name, "forged"));
    let (status, _, seen) = edge.get(&host, "/orders", &[&forged[..], &[token]].concat()).await;
    assert_eq!((status, told(&seen)), (200, identity.clone()));
    let lines = format!("Authorization: {bearer}\r\nConnection: close, X-Tokenry-Role, X-Tokenry-Subject\r\n");
    let (status, body) = api::raw(edge.http, &format!("GET /orders HTTP/1.1\r\nHost: {host}\r\n{lines}")).await;
    assert_eq!((status, told(&serde_json::from_str(&body).unwrap())), (200, identity));

    world.plane.kubectl(&["delete", "middleware", "guard", "--namespace", &world.namespace]).unwrap();
    edge.await_status(&world, &host, &[token], 404).await;
    apply(&world, &guard(&world, verifier.address));
    edge.await_status(&world, &host, &[token], 200).await;
    verifier.stop().await;
    let asked = api.asked();
    assert_eq!((edge.status(&host, &[token]).await, api.asked()), (500, asked));
    let seen = poller.stop().await;
    assert!(!seen.is_empty() && !seen.contains_key(&200), "without a token: {seen:?}");
}
