//! What a write may find: nothing, or the very object that was seen. The API server holds it.

use std::sync::Arc;

use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokenry::{
    crd::{AccessPolicy, Account, ApiToken, Instance, api_token::Use},
    outside::{Expected, SystemClock, Why, Writer},
};

use crate::harness::{OPERATOR, World, clock::Held, root};

/// A create that finds an object changes nothing; one that finds none creates; a change to an object that is no longer
/// as it was seen, or is another by now, is refused.
async fn held<K>(world: &World, spec: Value, changed: Value)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    // Not as the operator itself: what is tried here says nothing of the rights that it needs.
    let writer = Writer::new(world.acting_as(OPERATOR), Arc::new(SystemClock), Arc::default());
    let object = |name: &str, spec: &Value| -> K {
        let metadata = json!({"name": name, "namespace": world.namespace});
        let (kind, version) = (K::kind(&()), K::api_version(&()));
        serde_json::from_value(json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}))
            .unwrap()
    };
    let api: Api<K> = world.api();
    let theirs = api.create(&PostParams::default(), &object("theirs", &spec)).await.unwrap();
    let refused = writer.apply(&object("theirs", &changed), &Expected::Absent).await;
    assert_eq!(refused.unwrap_err().why, Why::Stale, "{} exists", K::kind(&()));
    assert_eq!(api.get("theirs").await.unwrap().resource_version(), theirs.resource_version());

    let made = writer.apply(&object("ours", &spec), &Expected::Absent).await.unwrap();
    let ours = api.get("ours").await.unwrap();
    assert_eq!((Some(made.uid), Some(made.version)), (ours.uid(), ours.resource_version()));
    let seen = Expected::seen(&ours);
    writer.apply(&object("ours", &changed), &seen).await.unwrap();
    assert_eq!(writer.apply(&object("ours", &spec), &seen).await.unwrap_err().why, Why::Stale, "it changed since");
    let other = Expected::Seen {
        uid: theirs.uid().unwrap(),
        version: api.get("ours").await.unwrap().resource_version().unwrap(),
    };
    assert!(writer.apply(&object("ours", &spec), &other).await.is_err(), "it is another by uid");
}

#[tokio::test]
async fn a_write_finds_what_it_expects_or_changes_nothing() {
    let world = World::new("preconditions").await;
    let refers = json!({"instanceRef": {"name": "eem"}});
    held::<Account>(&world, refers.clone(), json!({"instanceRef": {"name": "eem"}, "active": false})).await;
    let ports = |port: u16| json!({"ports": [{"port": port}]});
    held::<Service>(&world, ports(80), ports(81)).await;
    let backend = |name: &str| json!({"defaultBackend": {"service": {"name": name, "port": {"number": 80}}}});
    held::<Ingress>(&world, backend("a"), backend("b")).await;
}

/// When generation 1 was used, as a verifier writes it.
fn used(at: &str) -> Use {
    serde_json::from_value(json!({"generation": 1, "firstUsedAt": at, "lastUsedAt": at})).unwrap()
}

/// What stands under `pointer` in an object as it is stored.
async fn stored(world: &World, name: &str, pointer: &str) -> Value {
    let args = ["get", "apitoken", name, "--namespace", &world.namespace, "-o", "json", "--show-managed-fields"];
    let object: Value = serde_json::from_str(&world.plane.kubectl(&args).unwrap()).unwrap();
    object.pointer(pointer).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_write_of_a_status_takes_nothing_from_others() {
    let world = World::new("status-writes").await;
    let writer = Writer::new(world.acting_as(OPERATOR), Arc::new(SystemClock), Arc::default());
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "description": "nightly"})).await;
    let marks = json!({"metadata": {"labels": {"team": "shop"}, "annotations": {"note": "a"}, "finalizers": ["example.com/keep"]}});
    world.api::<ApiToken>().patch("ci", &PatchParams::default(), &Patch::Merge(marks)).await.unwrap();
    writer.used(&world.namespace, "ci", &[used("2026-01-01T00:00:00Z")]).await.unwrap();
    let fields = ["/spec", "/metadata/labels", "/metadata/annotations", "/metadata/finalizers", "/status/use"];
    let seen = world.token("ci").await;
    let mut before = Vec::new();
    for field in fields {
        before.push(stored(&world, "ci", field).await);
    }

    let status = |last: i64| {
        let mut status = seen.status.clone().unwrap();
        status.last_generation = Some(last);
        status
    };
    let receipt = writer.status(&seen, &seen.resource_version().unwrap(), &status(1)).await.unwrap();
    for (field, before) in fields.iter().zip(before) {
        assert_eq!(stored(&world, "ci", field).await, before, "{field}");
    }
    let managers = stored(&world, "ci", "/metadata/managedFields").await;
    let owns = |entry: &&Value| entry.to_string().contains("f:use");
    let owners: Vec<_> = managers.as_array().unwrap().iter().filter(owns).map(|entry| &entry["manager"]).collect();
    assert_eq!(owners, ["tokenry-verifier"], "what is sent back as it was read changes no owner");

    // The verifier writes between the read and the write: that is refused, and nothing is lost.
    writer.used(&world.namespace, "ci", &[used("2026-01-02T00:00:00Z")]).await.unwrap();
    assert_eq!(writer.status(&seen, &receipt.version, &status(2)).await.unwrap_err().why, Why::Stale);
    let after = world.token("ci").await.status.unwrap();
    assert_eq!((after.used(), after.last_generation), (vec![used("2026-01-02T00:00:00Z")], Some(1)));
    let none = json!({"metadata": {"finalizers": null}});
    world.api::<ApiToken>().patch("ci", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
}

#[tokio::test]
async fn what_a_later_release_wrote_into_a_status_outlives_a_rollback() {
    let world = World::alone("rollback").await;
    world.plane.install_crds(root()).unwrap();
    let later = json!([{
        "op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/ofALaterRelease",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }]);
    let patch = ["patch", "crd", "apitokens.tokenry.dev", "--type", "json", "--patch", &later.to_string()];
    world.plane.kubectl(&patch).unwrap();
    world.smallest().await;
    let unknown = json!({"deep": [1.5, {"a": "b"}], "since": "2026-01-01T00:00:00.123456Z"});
    let noted = async || {
        let args =
            ["patch", "apitoken", "ci", "--namespace", &world.namespace, "--subresource", "status", "--type", "merge"];
        let status = json!({"status": {"ofALaterRelease": unknown}}).to_string();
        world.plane.kubectl(&[&args[..], &["--patch", &status]].concat()).unwrap();
        (stored(&world, "ci", "/status/ofALaterRelease").await == unknown).then_some(())
    };
    world.eventually("the new definition is in force", noted).await;
    let _operator = world.operator(&Held::default()).await;
    world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    assert_eq!(stored(&world, "ci", "/status/ofALaterRelease").await, unknown);
}

/// Tells a condition of an object as the operator does where its status cannot be read.
async fn told<K>(world: &World, writer: &Writer, name: &str)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "StatusUnreadable", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let object = world.api::<K>().get(name).await.unwrap();
    let conditions = [serde_json::from_value(condition).unwrap()];
    let seen = object.resource_version().unwrap();
    let receipt = writer.conditions(&object, &seen, &conditions).await.unwrap();
    assert_ne!(receipt.version, seen);
    assert_eq!(writer.conditions(&object, &seen, &conditions).await.unwrap_err().why, Why::Stale);
}

#[tokio::test]
async fn conditions_alone_are_told_of_each_kind_with_the_rights_of_the_operator() {
    let world = World::new("conditions").await;
    let client = world.plane.client_for(&world.identities.operator);
    let writer = Writer::new(client, Arc::new(SystemClock), Arc::default());
    let allow = json!([{"effect": "Allow", "actions": ["a:b"]}]);
    let policy = json!({"instanceRef": {"name": "eem"}, "members": ["user:a"], "statements": allow});
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("ServiceAccount", "a", json!({"instanceRef": {"name": "eem"}})).await;
    world.accepts("AccessPolicy", "p", policy).await;
    told::<Instance>(&world, &writer, "eem").await;
    told::<Account>(&world, &writer, "a").await;
    told::<AccessPolicy>(&world, &writer, "p").await;
}
