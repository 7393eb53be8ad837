//! Workloads that are restarted after a publish.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::{Value, json};

use crate::harness::{
    World,
    clock::{Held, hours},
    run::Running,
};

impl World {
    fn workloads(&self, kind: &str) -> Api<DynamicObject> {
        let resource = match kind {
            "Deployment" => ApiResource::erase::<Deployment>(&()),
            "StatefulSet" => ApiResource::erase::<StatefulSet>(&()),
            "DaemonSet" => ApiResource::erase::<DaemonSet>(&()),
            _ => panic!("{kind} is no workload"),
        };
        Api::namespaced_with(self.plane.client(), &self.namespace, &resource)
    }

    async fn workload(&self, kind: &str, name: &str) {
        let labels = json!({"app": name});
        let template = json!({
            "metadata": {"labels": labels, "annotations": {"note": "mine"}},
            "spec": {"containers": [{"name": "a", "image": "example.com/a:1"}]},
        });
        let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
        if kind == "StatefulSet" {
            spec["serviceName"] = name.into();
        }
        let object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        self.workloads(kind).create(&Default::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    /// The annotations of a workload's Pods.
    async fn noted(&self, kind: &str, name: &str) -> BTreeMap<String, String> {
        let found = self.workloads(kind).get(name).await.unwrap();
        serde_json::from_value(found.data["spec"]["template"]["metadata"]["annotations"].clone()).unwrap()
    }

    /// The annotation that a token's generation leaves.
    async fn note(&self, token: &str, generation: i64) -> (String, String) {
        let token = self.token(token).await;
        let records = token.status.unwrap().records;
        let record = records.iter().find(|record| record.generation == generation).unwrap();
        (format!("restart.tokenry.dev/{}", token.metadata.uid.unwrap()), record.id.clone())
    }

    async fn await_restart(&self, token: &str, generation: i64) {
        let said = async || {
            let restart = self.token(token).await.status.unwrap().restart;
            restart.is_some_and(|restart| restart.generation == generation).then_some(())
        };
        self.eventually(&format!("{token} is said to have restarted for generation {generation}"), said).await;
    }

    /// How often workloads of that name were written by the operator.
    fn rolled(&self, offset: u64, name: &str) -> usize {
        let (events, _) = self.plane.audit_from(offset);
        let of = |event: &&controlplane::AuditEvent| {
            let here = event.namespace == self.namespace && event.group == "apps" && event.name == name;
            here && event.verb == "patch" && event.user.contains("operator")
        };
        events.iter().filter(of).count()
    }
}

/// Nothing happens for a while.
async fn a_moment() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

fn token(targets: &[(&str, &str)]) -> Value {
    let targets: Vec<_> = targets.iter().map(|(kind, name)| json!({"kind": kind, "name": name})).collect();
    json!({"instanceRef": {"name": "eem"}, "restart": targets})
}

async fn begun(name: &str) -> (World, Held, Running) {
    let world = World::new(name).await;
    let clock = Held::default();
    let operator = world.operator(&clock).await;
    world.accepts("Instance", "eem", json!({})).await;
    (world, clock, operator)
}

const LATER: SignedDuration = SignedDuration::from_secs(10);

#[tokio::test]
async fn each_kind_is_rolled_once_a_generation_after_its_publish() {
    let (world, clock, operator) = begun("restart").await;
    let all = [("Deployment", "web"), ("StatefulSet", "store"), ("DaemonSet", "agent")];
    for (kind, name) in all {
        world.workload(kind, name).await;
    }
    let offset = world.plane.audit_end();
    world.accepts("ApiToken", "ci", token(&all)).await;
    world.await_generation("ci", 1).await;
    clock.move_by(LATER);
    world.await_restart("ci", 1).await;
    let (key, id) = world.note("ci", 1).await;
    for (kind, name) in all {
        let wanted = BTreeMap::from([("note".to_owned(), "mine".to_owned()), (key.clone(), id.clone())]);
        assert_eq!(world.noted(kind, name).await, wanted);
        assert_eq!(world.rolled(offset, name), 1);
    }
    world.await_events("ApiToken", "ci", &["FirstIssue", "RestartDue"]).await;

    // Neither another operator, nor time, nor who takes the annotation back brings on another.
    operator.stop().await;
    let undo = json!({"spec": {"template": {"metadata": {"annotations": {&key: null}}}}});
    world.workloads("Deployment").patch("web", &PatchParams::default(), &Patch::Merge(undo)).await.unwrap();
    let _operator = world.operator(&clock).await;
    clock.move_by(hours(1));
    a_moment().await;
    assert_eq!((world.rolled(offset, "web"), world.noted("Deployment", "web").await.len()), (1, 1));

    world.change("ApiToken", "ci", json!({"regenerate": {"id": "next"}})).await.unwrap();
    world.await_generation("ci", 2).await;
    a_moment().await;
    assert_eq!(world.rolled(offset, "store"), 1, "it is waited for others a little");
    clock.move_by(LATER);
    world.await_restart("ci", 2).await;
    assert_eq!(world.noted("StatefulSet", "store").await[&key], world.note("ci", 2).await.1);
    assert_eq!(world.rolled(offset, "store"), 2);
}

#[tokio::test]
async fn tokens_that_are_published_together_roll_a_workload_once() {
    let (world, clock, _operator) = begun("restart-batch").await;
    world.workload("Deployment", "web").await;
    let offset = world.plane.audit_end();
    let tokens = ["one", "two", "three"];
    for name in tokens {
        world.accepts("ApiToken", name, token(&[("Deployment", "web")])).await;
    }
    for name in tokens {
        world.await_generation(name, 1).await;
        world.await_reason(name, "Active").await;
    }
    clock.move_by(LATER);
    for name in tokens {
        world.await_restart(name, 1).await;
    }
    let noted = world.noted("Deployment", "web").await;
    for name in tokens {
        let (key, id) = world.note(name, 1).await;
        assert_eq!(noted.get(&key), Some(&id), "{name}");
    }
    // Passes that come at the same moment may each write all of it; that is one rollout.
    assert_eq!(world.workloads("Deployment").get("web").await.unwrap().metadata.generation, Some(2));
    assert!((1..=tokens.len()).contains(&world.rolled(offset, "web")));
}

#[tokio::test]
async fn nothing_is_minted_for_a_workload_that_does_not_exist() {
    let (world, clock, _operator) = begun("restart-missing").await;
    world.accepts("ApiToken", "ci", token(&[("Deployment", "web")])).await;
    let waiting = world.await_reason("ci", "WorkloadMissing").await;
    assert_eq!(waiting.status.unwrap().records, []);
    let told = world.condition("ci", "Accepted").await.unwrap().message;
    let sentence = "spec.restart[0]: there is no Deployment web in this namespace; create it, or remove the entry";
    assert_eq!(told, sentence);
    assert_eq!(world.condition("ci", "Reconciling").await.unwrap().status, "True", "it may be about to be created");

    world.workload("Deployment", "web").await;
    clock.move_by(SignedDuration::from_mins(1));
    world.await_generation("ci", 1).await;
    clock.move_by(LATER);
    world.await_restart("ci", 1).await;

    world.workloads("Deployment").delete("web", &Default::default()).await.unwrap();
    clock.move_by(hours(61 * 24));
    world.await_reason("ci", "WorkloadMissing").await;
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(1), "not minted either when it is due");
}
