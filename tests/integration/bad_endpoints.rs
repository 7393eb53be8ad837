//! Bad input for an endpoint, beside a real edge. Each fault is told in the conditions of the Instance: its reason, the
//! object at fault, and the remedy.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokenry::{
    crd::{Instance, condition},
    exposure::loose::HttpRoute,
};

use crate::harness::{
    World,
    edge::{Edge, Site, TRAEFIK, by_gateway, by_ingress, managed},
};

const ENDPOINTS: &str = condition::ENDPOINTS_READY;

/// Waits until a condition of the Instance `eem` has this status and reason for the current spec, and its message
/// begins like this. Time passes meanwhile.
async fn says(site: &Site, type_: &str, (status, reason): (&str, &str), begins: &str) -> String {
    let what = format!("{type_} is {status} for {reason}: {begins}");
    site.world
        .eventually(&what, async || {
            site.clock.move_by(SignedDuration::from_secs(1));
            let instance = site.world.api::<Instance>().get("eem").await.unwrap();
            let told = instance.status.filter(|told| told.observed_generation == instance.metadata.generation)?;
            let condition = told.conditions.into_iter().find(|condition| condition.type_ == type_)?;
            let is_it = condition.status == status && condition.reason == reason;
            (is_it && condition.message.starts_with(begins)).then_some(condition.message)
        })
        .await
}

async fn change(site: &Site, spec: Value) {
    site.world.change("Instance", "eem", spec).await.unwrap();
}

fn apply(world: &World, object: &Value) {
    let args = ["apply", "--server-side", "--namespace", &world.namespace, "-f", "-"];
    world.plane.kubectl_with_input(&args, &object.to_string()).unwrap();
}

/// `spec` with other fields of its endpoint.
fn with(mut spec: Value, fields: &[(&str, Value)]) -> Value {
    for (field, value) in fields {
        spec["manager"]["endpoints"][0][field] = value.clone();
    }
    spec
}

#[tokio::test]
async fn a_host_that_is_missing_or_no_dns_name_is_told() {
    let site = Edge::shared().site("hosts", |host| by_ingress(host, json!(null))).await;
    let host = |host: Value| with(by_ingress("a.example.com", json!(null)), &[("host", host)]);
    for (bad, message) in [
        ("*.example.com", "must be a name of lower-case letters"),
        ("Admin.example.com", "must be a name of lower-case letters"),
        ("admin.example.com:8443", "must be a name of lower-case letters"),
        ("https://admin.example.com", "must be a name of lower-case letters"),
        ("", "should be at least 1 chars long"),
    ] {
        let refused = site.world.change("Instance", "eem", host(json!(bad))).await.unwrap_err();
        assert!(refused.contains("host") && refused.contains(message), "{bad:?}: {refused}");
    }
    let path = "spec.manager.endpoints[admin].host";
    for (bad, message) in [
        (Value::Null, "is needed: the DNS name that an external endpoint is reached by"),
        (json!("192.0.2.1"), "is an IP address; give a DNS name"),
    ] {
        change(&site, host(bad)).await;
        says(&site, condition::ACCEPTED, ("False", "Invalid"), &format!("{path}: {message}")).await;
    }
}

#[tokio::test]
async fn what_a_spec_without_faults_had_proved_is_kept_and_marked_while_the_spec_has_faults() {
    let site = Edge::shared().site("kept", |host| by_ingress(host, json!(null))).await;
    says(&site, condition::GUARDED, ("True", "Guarded"), "the objects of the guard Traefik").await;
    let good = by_ingress(&site.host, json!(null));
    change(&site, with(good.clone(), &[("host", json!("192.0.2.1"))])).await;
    let note = "the spec has faults, and the objects are still those of the last spec without one; before that: ";
    says(&site, condition::EXPOSED, ("True", "Exposed"), &format!("{note}the way in leads")).await;
    says(&site, condition::GUARDED, ("True", "Guarded"), &format!("{note}the objects of the guard")).await;
    Edge::shared().await_status(&site.world, &site.host, &[], 401).await;
    change(&site, good).await;
    says(&site, condition::EXPOSED, ("True", "Exposed"), "the way in leads").await;
    says(&site, condition::GUARDED, ("True", "Guarded"), "the objects of the guard").await;
}

#[tokio::test]
async fn a_class_that_does_not_exist_is_told_whatever_the_guard() {
    let site = Edge::shared().site("classless", |host| by_ingress(host, json!(null))).await;
    let class = site.world.namespace.clone();
    let named = with(by_ingress(&site.host, json!(null)), &[("ingress", json!({ "className": class }))]);
    let text = format!("there is no IngressClass {class}");
    change(&site, named.clone()).await;
    says(&site, ENDPOINTS, ("False", "GuardAwaited"), &text).await;
    change(&site, with(named, &[("guard", json!("None")), ("allowUnguarded", json!(true))])).await;
    says(&site, ENDPOINTS, ("False", "WayInAwaited"), &text).await;
    says(&site, condition::EXPOSED, ("False", "WayInAwaited"), &text).await;
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": class},
        "spec": {"controller": "example.com/none"},
    });
    apply(&site.world, &object);
    says(&site, ENDPOINTS, ("True", "Accepted"), "").await;
    site.world.plane.kubectl(&["delete", "ingressclass", &class]).unwrap();
}

#[tokio::test]
async fn a_gateway_that_does_not_exist_or_does_not_answer_is_told_by_its_name() {
    let site = Edge::shared().site("gateless", |host| by_gateway(host, "http")).await;
    let world = &site.world;
    let gateway = |name: &str| json!({"parentRefs": [{"name": name}], "scheme": "http"});
    let spec = by_gateway(&site.host, "http");
    for (guard, reason) in
        [("Traefik", "WayInAwaited"), ("EnvoyGateway", "GuardAwaited"), ("ExternalAuth", "GuardAwaited")]
    {
        change(&site, with(spec.clone(), &[("gateway", gateway("nowhere")), ("guard", json!(guard))])).await;
        let text = format!("there is no Gateway {}/nowhere; create it", world.namespace);
        says(&site, ENDPOINTS, ("False", reason), &text).await;
    }
    let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    let silent = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "silent"},
        "spec": {"gatewayClassName": "nobody", "listeners": listeners},
    });
    apply(world, &silent);
    change(&site, with(spec.clone(), &[("gateway", gateway("silent"))])).await;
    let text = format!("waiting until Gateway {}/silent accepts HTTPRoute eem-admin", world.namespace);
    says(&site, ENDPOINTS, ("False", "WayInAwaited"), &text).await;
    // A Gateway that is added does not get the backend before it has answered.
    let both = json!({
        "parentRefs": [{"name": TRAEFIK, "namespace": TRAEFIK, "sectionName": "http"}, {"name": "silent"}],
        "scheme": "http",
    });
    change(&site, spec.clone()).await;
    says(&site, ENDPOINTS, ("True", "Accepted"), "").await;
    change(&site, with(spec, &[("gateway", both)])).await;
    says(&site, ENDPOINTS, ("False", "WayInAwaited"), &text).await;
    let route = world.api::<HttpRoute>().get("eem-admin").await.unwrap();
    assert_eq!(route.spec["rules"][0]["backendRefs"], json!([]));
}

#[tokio::test]
async fn a_gateway_whose_class_does_not_list_the_filter_gets_no_backend_without_a_proof() {
    let site = Edge::shared().site("featureless", |host| by_gateway(host, "http")).await;
    let world = &site.world;
    let class = world.namespace.clone();
    let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    for object in [
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": class},
            "spec": {"controllerName": "example.com/none"},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "limited"},
            "spec": {"gatewayClassName": class, "listeners": listeners},
        }),
    ] {
        apply(world, &object);
    }
    let features = |features: Value| {
        let status = json!({ "status": { "supportedFeatures": features } }).to_string();
        let args = ["patch", "gatewayclass", &class, "--subresource", "status", "--type", "merge", "-p", &status];
        world.plane.kubectl(&args).unwrap();
    };
    features(json!([{"name": "HTTPRoute"}]));
    let gateway = json!({"parentRefs": [{"name": "limited"}], "scheme": "http"});
    let fields = [("gateway", gateway), ("guard", json!("ExternalAuth")), ("probe", json!({"enabled": false}))];
    change(&site, with(by_gateway(&site.host, "http"), &fields)).await;
    let text = format!("GatewayClass {class} of Gateway {}/limited does not list the feature", world.namespace);
    says(&site, condition::GUARDED, ("False", "GuardAwaited"), &text).await;
    features(json!([{"name": "HTTPRoute"}, {"name": "HTTPRouteExternalAuth"}]));
    says(&site, condition::GUARDED, ("False", "GuardAwaited"), "waiting until the edge accepts HTTPRoute").await;
    world.plane.kubectl(&["delete", "gatewayclass", &class]).unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_missing_is_told_and_holds_up_no_object() {
    let site = Edge::shared().site("uncertified", |host| by_ingress(host, json!({"secretName": "edge-tls"}))).await;
    let Site { world, host, bearer, .. } = &site;
    let path = "spec.manager.endpoints[admin].ingress.tls.secretName";
    says(&site, ENDPOINTS, ("False", "CertificateMissing"), &format!("{path}: there is no Secret edge-tls")).await;
    Edge::shared().await_status(world, host, &[("authorization", bearer)], 200).await;
    let opaque: Secret = serde_json::from_value(json!({"metadata": {"name": "edge-tls"}, "type": "Opaque"})).unwrap();
    world.api::<Secret>().create(&PostParams::default(), &opaque).await.unwrap();
    let text = format!("{path}: Secret edge-tls is of type \"Opaque\", not \"kubernetes.io/tls\"");
    says(&site, ENDPOINTS, ("False", "CertificateMissing"), &text).await;
    world.plane.kubectl(&["delete", "secret", "edge-tls", "--namespace", &world.namespace]).unwrap();
    Edge::shared().certificate(world, "edge-tls", host).await;
    says(&site, ENDPOINTS, ("True", "Accepted"), "").await;
}

#[tokio::test]
async fn a_service_that_selects_no_pods_is_told() {
    let site = Edge::shared().site("podless", |_| managed(json!({"name": "admin", "type": "internal"}))).await;
    says(&site, ENDPOINTS, ("True", "Accepted"), "").await;
    let services = site.world.api::<Service>();
    for (spec, begins) in [
        (json!({"selector": null}), "spec.manager.service: Service eem-manager selects no Pods"),
        (
            json!({"type": "ExternalName", "externalName": "api.example.com", "clusterIP": null, "clusterIPs": null}),
            "spec.manager.service: Service eem-manager is of type ExternalName",
        ),
    ] {
        let patch = Patch::Merge(json!({ "spec": spec }));
        services.patch("eem-manager", &PatchParams::default(), &patch).await.unwrap();
        says(&site, ENDPOINTS, ("False", "ServiceUnusable"), begins).await;
    }
}
