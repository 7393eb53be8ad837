//! Upgrades and rollbacks by both helms, from the chart of an older release, with tokens that exist. Controllers of
//! Kubernetes make the Pods of the release, and the test is their node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use controlplane::{ControlPlane, NAMESPACE};
use serde_json::{Value, json};

use crate::harness::{Plane, World, clock::Held, release::identities, root};

/// An image that no node can pull.
const BROKEN: &str = "image.tag=broken";

/// A node that runs every Pod but those of the broken image: it reports them as ready.
struct Node {
    ends: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl Node {
    fn of(plane: &Arc<ControlPlane>) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (told, plane) = (ends.clone(), plane.clone());
        let task = thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                run_pods(&plane);
                thread::sleep(Duration::from_millis(500));
            }
        });
        Self { ends, task: Some(task) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = self.task.take().unwrap().join();
    }
}

/// Reports each Pod as ready, and removes those that are being deleted, as a kubelet does.
fn run_pods(plane: &ControlPlane) {
    let in_system = |args: &[&str]| plane.kubectl(&[args, &["--namespace", NAMESPACE]].concat());
    let Ok(list) = in_system(&["get", "pods", "--output", "json"]) else { return };
    let list: Value = serde_json::from_str(&list).unwrap();
    for pod in list["items"].as_array().unwrap() {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            let _ = in_system(&["delete", "pod", name, "--force", "--grace-period=0", "--ignore-not-found"]);
        } else if pod["status"]["phase"] == "Pending" && !image.ends_with(":broken") {
            let ready = json!({"status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"},
            ]}});
            // The Pod may be gone meanwhile.
            let _ = in_system(&["patch", "pod", name, "--subresource", "status", "--patch", &ready.to_string()]);
        }
    }
}

/// Everything that users and the operator made in the namespace, as it is stored.
fn stored(world: &World) -> Value {
    let kinds = "instances,serviceaccounts.tokenry.dev,apitokens,secrets";
    let text = world.plane.kubectl(&["get", kinds, "--namespace", &world.namespace, "-o", "json"]).unwrap();
    let mut list: Value = serde_json::from_str(&text).unwrap();
    list["items"].take()
}

/// The state of the release: its revision, and the chart and the image of its operator.
fn installed(plane: &ControlPlane) -> (String, String) {
    let args = ["get", "deployment", "tokenry-operator", "--namespace", NAMESPACE, "--output", "json"];
    let found: Value = serde_json::from_str(&plane.kubectl(&args).unwrap()).unwrap();
    let template = &found["spec"]["template"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let is_new = template["spec"]["affinity"].is_object();
    let chart = if is_new { "new" } else { "old" };
    (chart.to_owned(), text(&template["spec"]["containers"][0]["image"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_3_and_helm_4_upgrade_and_roll_back_an_older_release_and_no_token_changes() {
    let plane = Arc::new(ControlPlane::start().unwrap());
    plane.make_pods().unwrap();
    let _node = Node::of(&plane);
    let (old, new) = (root().join("tests/charts/tokenry-0.1.0.tgz"), root().join("charts/tokenry"));
    let (old, new) = (old.display().to_string(), new.display().to_string());
    let run = |version: u8, args: &[&str]| {
        let args = [args, &["--namespace", NAMESPACE, "--wait", "--timeout", "60s"]].concat();
        if version == 3 { plane.helm3(&args) } else { plane.helm(&args) }
    };
    run(3, &["install", "tokenry", &old, "--create-namespace"]).unwrap();
    assert_eq!(installed(&plane), ("old".into(), "tokenry:0.1.0".into()));

    let world =
        World::within(&Plane { plane: plane.clone(), identities: identities(&plane) }, "upgraded", json!({})).await;
    let clock = Held::default();
    let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    let value = world.value("ci").await.unwrap();
    world.await_verdict(&verifier, &value, 200).await;
    let used = async || world.token("ci").await.status?.used().first().map(|_| ());
    world.eventually("its first use is written", used).await;
    let counted = async || {
        let account = world.api::<tokenry::crd::Account>().get("ci").await.unwrap().status?;
        let instance = world.api::<tokenry::crd::Instance>().get("eem").await.unwrap().status?;
        (account.last_used_at.is_some() && instance.tokens?.active == 1).then_some(())
    };
    world.eventually("the token is counted", counted).await;
    let before = stored(&world);

    let upgrade = ["upgrade", "tokenry", &*new, "--reset-then-reuse-values"];
    let broken = [&upgrade[..], &["--set", BROKEN, "--timeout", "15s"]].concat();
    for (version, undo) in [(3, "--atomic"), (4, "--rollback-on-failure")] {
        run(version, &[&upgrade[..], &[undo]].concat()).unwrap_or_else(|error| panic!("helm {version}: {error}"));
        assert_eq!(installed(&plane), ("new".into(), "tokenry:0.1.0".into()), "helm {version}");
        // An operator that starts anew reads what the older one left, and does nothing.
        let another = world.operator(&clock).await;
        world.ready(&another).await;
        another.stop().await;
        assert_eq!(stored(&world), before, "helm {version} upgraded");

        let mut args = ["--namespace", NAMESPACE].to_vec();
        args.splice(0..0, [&broken[..], &[undo, "--wait"]].concat());
        let told = (if version == 3 { plane.helm3(&args) } else { plane.helm(&args) }).unwrap_err();
        assert!(told.contains("roll"), "helm {version}: {told}");
        assert_eq!(installed(&plane), ("new".into(), "tokenry:0.1.0".into()), "helm {version}: {told}");
        assert_eq!(stored(&world), before, "helm {version} rolled a broken upgrade back");

        run(version, &["rollback", "tokenry", "1"]).unwrap_or_else(|error| panic!("helm {version}: {error}"));
        assert_eq!(installed(&plane), ("old".into(), "tokenry:0.1.0".into()), "helm {version}");
        assert_eq!(stored(&world), before, "helm {version} rolled back");
        assert_eq!(verifier.present(&world, &value).await, 200);
    }
    // The rights of the older release are those that its programs need.
    world.accepts("ApiToken", "later", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_reason("later", "Active").await;
    operator.stop().await;
    verifier.stop().await;
}
