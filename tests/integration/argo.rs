//! Health of objects for Argo CD, by its Lua, of statuses that the operator wrote. And the objects of the example for
//! Flux, by the definitions of Flux.

use std::{fs, process::Command};

use controlplane::{Definitions, program};
use serde_json::{Value, json};

use crate::harness::{World, clock::Held, root};

/// The health check in the example.
fn check() -> String {
    let text = fs::read_to_string(root().join("examples/gitops/argocd-cm.yaml")).unwrap();
    let map: Value = serde_saphyr::from_str(&text).unwrap();
    let all: Value = serde_saphyr::from_str(map["data"]["resource.customizations"].as_str().unwrap()).unwrap();
    all["tokenry.dev/*"]["health.lua"].as_str().unwrap().to_owned()
}

/// A value in the syntax of Lua. Each byte of a text is written as its number.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("\"{}\"", text.bytes().map(|byte| format!("\\{byte:03}")).collect::<String>()),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("[{}]={}", lua(&json!(key)), lua(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
    }
}

/// The health of an object and its message. Argo CD gives no library but the base and tables to a check.
fn health(object: &Value) -> (String, String) {
    let withheld = "io, os, string, math, debug, require, dofile, loadfile = nil";
    let script = format!(
        "local print = print\n{withheld}\nobj = {}\nlocal health = (function()\n{}\nend)()\n\
         print(health.status)\nprint(health.message)",
        lua(object),
        check()
    );
    let output = Command::new(program("glua").unwrap()).args(["-e", &script]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (told, error) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success() && error.is_empty(), "{error}");
    let (status, message) = told.trim_end().split_once('\n').unwrap();
    (status.to_owned(), message.to_owned())
}

impl World {
    /// An object of tokenry.dev as the API server has it.
    fn object_of(&self, resource: &str, name: &str) -> Value {
        let args = ["get", &format!("{resource}.tokenry.dev"), name, "--namespace", &self.namespace, "-o", "json"];
        serde_json::from_str(&self.plane.kubectl(&args).unwrap()).unwrap()
    }

    /// Waits until Argo CD sees this health, and returns its message and the object.
    async fn await_health(&self, resource: &str, name: &str, wanted: &str) -> (String, Value) {
        let looked = async || {
            let object = self.object_of(resource, name);
            let (status, message) = health(&object);
            (status == wanted).then_some((message, object))
        };
        self.eventually(&format!("{resource} {name} is {wanted}"), looked).await
    }
}

#[tokio::test]
async fn argo_sees_the_health_of_each_kind() {
    let world = World::new("argo").await;
    world.accepts("Instance", "eem", json!({})).await;
    assert_eq!(health(&world.object_of("instances", "eem")), ("Progressing".into(), "Waiting for the operator".into()));
    let _operator = world.operator(&Held::default()).await;
    let instance = json!({"name": "eem"});
    world.accepts("ServiceAccount", "deploy", json!({"instanceRef": instance})).await;
    let statements = json!([{"effect": "Allow", "actions": ["*"]}]);
    let policy = json!({"instanceRef": instance, "statements": statements});
    world.accepts("AccessPolicy", "orders", policy).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": instance})).await;
    for (resource, name) in
        [("instances", "eem"), ("serviceaccounts", "deploy"), ("accesspolicies", "orders"), ("apitokens", "ci")]
    {
        world.await_health(resource, name, "Healthy").await;
    }
}

#[tokio::test]
async fn argo_sees_a_fault_of_each_kind_and_the_suspension_of_an_account() {
    let world = World::new("argo").await;
    let _operator = world.operator(&Held::default()).await;
    let instance = json!({"name": "eem"});
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("ServiceAccount", "deploy", json!({"instanceRef": instance})).await;
    let token = json!({"instanceRef": instance, "serviceAccountRef": {"name": "deploy"}});
    world.accepts("ApiToken", "ci", token).await;
    world.await_health("apitokens", "ci", "Healthy").await;
    world.change("ServiceAccount", "deploy", json!({"active": false})).await.unwrap();
    for (resource, name, reason) in
        [("serviceaccounts", "deploy", "Suspended"), ("apitokens", "ci", "AccountSuspended")]
    {
        let (message, _) = world.await_health(resource, name, "Suspended").await;
        assert!(message.starts_with(reason), "{message}");
    }

    world.change("ServiceAccount", "deploy", json!({"active": true, "role": "nobody"})).await.unwrap();
    let statements = json!([{"effect": "Allow", "role": "nobody"}]);
    world.accepts("AccessPolicy", "orders", json!({"instanceRef": instance, "statements": statements})).await;
    let degraded = async |resource: &str, name: &str, told: &str| {
        let (message, _) = world.await_health(resource, name, "Degraded").await;
        assert!(message.starts_with(told), "{message}");
    };
    degraded("serviceaccounts", "deploy", "RoleMissing: spec.role").await;
    degraded("accesspolicies", "orders", "RoleMissing: spec.statements[0].role").await;
    // The last one: nothing is known of the roles of such an Instance.
    let elsewhere = json!({"subject": "user:alice", "role": "viewer", "organizations": {"listed": ["elsewhere"]}});
    world.change("Instance", "eem", json!({"members": [elsewhere]})).await.unwrap();
    degraded("instances", "eem", "OrganizationUnknown: spec.members[0]").await;
}

#[tokio::test]
async fn argo_sees_each_state_of_a_token() {
    let world = World::new("argo").await;
    let _operator = world.operator(&Held::default()).await;
    world.smallest().await;
    let (message, active) = world.await_health("apitokens", "ci", "Healthy").await;
    assert!(message.starts_with("Active"), "{message}");

    // The next spec, before the operator has read it.
    let mut newer = active.clone();
    newer["metadata"]["generation"] = json!(active["metadata"]["generation"].as_i64().unwrap() + 1);
    assert_eq!(health(&newer).0, "Progressing");
    newer["status"]["observedGeneration"] = newer["metadata"]["generation"].clone();
    assert_eq!(health(&newer).0, "Progressing", "the conditions are those of the older spec");

    world.change("ApiToken", "ci", json!({"active": false})).await.unwrap();
    assert!(world.await_health("apitokens", "ci", "Suspended").await.0.starts_with("Suspended"));
    world.change("ApiToken", "ci", json!({"active": true, "expiry": {"after": "99999d"}})).await.unwrap();
    let (message, faulty) = world.await_health("apitokens", "ci", "Degraded").await;
    assert!(message.starts_with("LifetimeExceeded: spec.expiry"), "{message}");
    world.change("ApiToken", "ci", json!({"expiry": null, "revoked": true})).await.unwrap();
    let (message, _) = world.await_health("apitokens", "ci", "Healthy").await;
    assert!(message.starts_with("Revoked"), "a revoked token is as it was asked for: {message}");

    let mut deleted = faulty;
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(health(&deleted), ("Progressing".into(), "Being deleted".into()));

    world.accepts("ApiToken", "lost", json!({"instanceRef": {"name": "missing"}})).await;
    world.await_reason("lost", "InstanceMissing").await;
    let (status, message) = health(&world.object_of("apitokens", "lost"));
    assert!(status != "Healthy" && message.starts_with("InstanceMissing: spec.instanceRef"), "{status} {message}");
}

#[tokio::test]
async fn the_example_for_flux_is_what_flux_defines() {
    let world = World::alone("flux").await;
    world.plane.install_definitions(&[Definitions::Flux, Definitions::FluxHelm, Definitions::FluxSource]).unwrap();
    world.plane.kubectl(&["create", "namespace", "flux-system"]).unwrap();
    let file = root().join("examples/gitops/flux.yaml").display().to_string();
    let told = world.plane.kubectl(&["apply", "--server-side", "--validate=strict", "-f", &file]).unwrap();
    assert_eq!(told.matches(" serverside-applied").count(), 4, "{told}");
    let text = fs::read_to_string(&file).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let release = objects.iter().find(|object| object["kind"] == "HelmRelease").unwrap();
    let values = world.plane.directory().join("flux-values.json");
    fs::write(&values, release["spec"]["values"].to_string()).unwrap();
    assert!(root().join(release["spec"]["chart"]["spec"]["chart"].as_str().unwrap()).join("Chart.yaml").exists());
    crate::harness::grants::rendered(&["--values", values.to_str().unwrap()]);
}
