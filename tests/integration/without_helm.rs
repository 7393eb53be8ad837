//! The manifests for users without helm: current, applied by kubectl alone, and in force.

use std::{collections::BTreeSet, fs, sync::Arc};

use controlplane::{ControlPlane, Identities, NAMESPACE};
use serde_json::{Value, json};

use crate::{
    harness::{Plane, World, clock::Held, root},
    manifests,
};

#[test]
fn the_committed_manifests_are_those_that_the_chart_renders() {
    for (path, text) in manifests::all(root()).unwrap() {
        let committed = fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(committed == text, "{path} is out of date: run `cargo manifests`");
        assert!(!text.contains("helm.sh") && !text.contains("Helm"), "{path}");
    }
}

#[tokio::test]
async fn without_stamps_the_rest_is_all_there_and_is_of_kinds_that_kubernetes_1_33_serves() {
    let world = World::new("kustomize").await;
    let objects = |part: &str| -> Vec<Value> {
        let folder = root().join("deploy").join(part).display().to_string();
        serde_saphyr::from_multiple(&world.plane.kubectl(&["kustomize", &folder]).unwrap()).unwrap()
    };
    let (mut all, rest) = (objects("default"), objects("without-stamps"));
    let count = all.len();
    all.retain(|object| !object["kind"].as_str().unwrap().starts_with("MutatingAdmissionPolicy"));
    assert!(all.len() < count && all == rest, "{} of {count} objects, and {}", all.len(), rest.len());
    let versions: BTreeSet<_> = rest.iter().map(|object| object["apiVersion"].as_str().unwrap()).collect();
    // Each of them is in Kubernetes 1.33.
    let known = ["admissionregistration.k8s.io/v1", "apiextensions.k8s.io/v1", "apps/v1", "policy/v1"];
    let known = BTreeSet::from_iter(known.into_iter().chain(["rbac.authorization.k8s.io/v1", "v1"]));
    assert_eq!(versions, known);
}

#[tokio::test]
async fn kubectl_installs_them_and_the_programs_work_with_their_rights() {
    let plane = Arc::new(ControlPlane::start().unwrap());
    let folder = |part: &str| root().join("deploy").join(part).display().to_string();
    // As a release has them: one file, and the definitions alone.
    let install = plane.kubectl(&["kustomize", &folder("default")]).unwrap();
    let crds = plane.kubectl(&["kustomize", &folder("crds")]).unwrap();
    assert_eq!(crds.matches("\nkind: CustomResourceDefinition").count(), 4);
    plane.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &crds).unwrap();
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crds", "--all"]).unwrap();
    plane.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &install).unwrap();
    let token = |account: &str| {
        let args = ["create", "token", account, "--namespace", NAMESPACE];
        plane.kubectl(&args).unwrap().trim().to_owned()
    };
    let identities = Identities { operator: token("tokenry-operator"), verifier: token("tokenry-verifier") };
    let world = World::within(&Plane { plane, identities }, "without-helm", json!({})).await;
    let clock = Held::default();
    let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({})).await;
    // Each policy comes to hold by itself, some seconds after the definitions and it are established.
    let stamped = async || {
        let spec = json!({"instanceRef": {"name": "eem"}});
        let made = world.create("ApiToken", "ci", spec).await.ok()?;
        if made.data["spec"].get("owner").is_none() {
            world.delete("ApiToken", "ci").await;
            return None;
        }
        Some(())
    };
    world.eventually("a token is taken and its owner is stamped", stamped).await;
    world.await_reason("ci", "Active").await;
    let value = world.value("ci").await.unwrap();
    world.await_verdict(&verifier, &value, 200).await;
    let owner = json!(world.token("ci").await.spec.owner);
    assert_eq!(owner, "user:admin", "the API server stamps owners");
    operator.stop().await;
    verifier.stop().await;
}
