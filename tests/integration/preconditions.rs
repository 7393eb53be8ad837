//! What a write may find: nothing, or the very object that was seen. The API server holds it.

use std::sync::Arc;

use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{Api, Resource, ResourceExt, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokenry::{
    crd::Account,
    outside::{Refusal, Standing, SystemClock, Writer},
};

use crate::harness::{OPERATOR, World};

/// A create that finds an object changes nothing; one that finds none creates; a change to an object that is no longer as it
/// was seen, or is another by now, is refused.
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
    let refused = writer.apply(&object("theirs", &changed), &Standing::Absent).await;
    assert_eq!(refused.unwrap_err(), Refusal::Stale, "{} exists", K::kind(&()));
    assert_eq!(api.get("theirs").await.unwrap().resource_version(), theirs.resource_version());

    let made = writer.apply(&object("ours", &spec), &Standing::Absent).await.unwrap();
    let ours = api.get("ours").await.unwrap();
    assert_eq!((Some(made.uid), Some(made.version)), (ours.uid(), ours.resource_version()));
    let seen = Standing::seen(&ours);
    writer.apply(&object("ours", &changed), &seen).await.unwrap();
    assert_eq!(writer.apply(&object("ours", &spec), &seen).await.unwrap_err(), Refusal::Stale, "it changed since");
    let other = Standing::Seen {
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
