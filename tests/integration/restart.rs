//! Workloads that are restarted with each new value: after it is published, and once.

use std::{fmt::Debug, sync::Arc};

use controlplane::AuditEvent;
use jiff::SignedDuration;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        events::v1::Event,
    },
};
use kube::{
    Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokenry::{
    crd::{ApiToken, RestartTarget},
    outside::{Reader, SystemClock, Why, Writer},
};

use crate::harness::{
    OPERATOR, World,
    clock::{Held, hours},
    fault::{Death, dying},
    grants::{name, of_kind, rendered},
};

trait Workload:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug
{
}
impl<K> Workload for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug
{
}

/// Longer than it has to be quiet before a restart, and shorter than one waits at the most.
const QUIET: SignedDuration = SignedDuration::from_secs(6);

impl World {
    /// Makes a workload; there is no node, so none of its Pods runs.
    async fn workload<K: Workload>(&self, name: &str) {
        let labels = json!({"app": name});
        let containers = json!([{"name": "main", "image": "example.com/main:1"}]);
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
        let spec = json!({"selector": {"matchLabels": labels}, "template": template, "serviceName": name});
        let workload = json!({"metadata": {"name": name}, "spec": spec});
        self.api::<K>().create(&PostParams::default(), &serde_json::from_value(workload).unwrap()).await.unwrap();
    }

    /// How often a workload's spec was changed, its creation included.
    async fn changes<K: Workload>(&self, name: &str) -> i64 {
        self.api::<K>().get(name).await.unwrap().meta().generation.unwrap()
    }

    /// What tells the Pods of a workload that `token` has it restarted.
    async fn annotation<K: Workload>(&self, name: &str, token: &ApiToken) -> Option<String> {
        let workload = serde_json::to_value(self.api::<K>().get(name).await.unwrap()).unwrap();
        let key = format!("restart.tokenry.dev/{}", token.metadata.uid.as_ref().unwrap());
        Some(workload["spec"]["template"]["metadata"]["annotations"][&key].as_str()?.to_owned())
    }

    async fn annotate(&self, name: &str, annotations: Value) {
        let template = json!({"metadata": {"annotations": annotations}});
        let patch = Patch::Merge(json!({"spec": {"template": template}}));
        self.api::<Deployment>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn restarting(&self, token: &str, targets: &[(&str, &str)]) {
        let restart: Vec<_> = targets.iter().map(|(kind, name)| json!({"kind": kind, "name": name})).collect();
        self.accepts("ApiToken", token, json!({"instanceRef": {"name": "eem"}, "restart": restart})).await;
    }

    /// Waits until the restart for a generation is noted, and hands back the token.
    async fn await_restart(&self, token: &str, generation: i64) -> ApiToken {
        self.eventually(&format!("the restart for generation {generation} of {token} is noted"), async || {
            let found = self.token(token).await;
            let restart = found.status.as_ref()?.restart.as_ref()?;
            (restart.generation == generation && restart.at.is_some()).then_some(found)
        })
        .await
    }

    /// What was asked of workloads by the operator since `offset`, one line each, with what was written of Secrets.
    fn asked(&self, offset: u64) -> Vec<String> {
        let (mut events, _) = self.plane.audit_from(offset);
        events.sort_by(|a, b| a.time.cmp(&b.time));
        let ours = |event: &AuditEvent| {
            let matters =
                event.group == "apps" || (event.resource == "secrets" && ["create", "patch"].contains(&&*event.verb));
            event.user == OPERATOR && event.namespace == self.namespace && matters
        };
        let line = |event: AuditEvent| format!("{} {} {} {}", event.verb, event.resource, event.name, event.code);
        events.into_iter().filter(ours).map(line).collect()
    }

    /// The texts of the Events with this reason, in their order as texts.
    async fn notes(&self, reason: &str) -> Vec<String> {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let said = events.into_iter().filter(|event| event.reason.as_deref() == Some(reason));
        let mut notes: Vec<_> = said.filter_map(|event| event.note).collect();
        notes.sort();
        notes
    }
}

fn served_id(token: &ApiToken) -> Option<String> {
    let records = &token.status.as_ref().unwrap().records;
    records.last().map(|record| record.id.clone())
}

#[tokio::test]
async fn a_workload_of_each_kind_is_restarted_after_the_publish_and_once_for_each_generation() {
    let world = World::new("restart").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    world.workload::<Deployment>("a").await;
    world.workload::<StatefulSet>("b").await;
    world.workload::<DaemonSet>("c").await;
    let offset = world.plane.audit_end();
    world.accepts("Instance", "eem", json!({})).await;
    world.restarting("ci", &[("Deployment", "a"), ("StatefulSet", "b"), ("DaemonSet", "c")]).await;
    for generation in 1..=2 {
        world.await_generation("ci", generation).await;
        clock.move_by(QUIET);
        let token = world.await_restart("ci", generation).await;
        let id = served_id(&token);
        assert_eq!(world.annotation::<Deployment>("a", &token).await, id);
        assert_eq!(world.annotation::<StatefulSet>("b", &token).await, id);
        assert_eq!(world.annotation::<DaemonSet>("c", &token).await, id);
        let changes = [
            world.changes::<Deployment>("a").await,
            world.changes::<StatefulSet>("b").await,
            world.changes::<DaemonSet>("c").await,
        ];
        assert_eq!(changes, [generation + 1; 3]);
        let condition = world.condition("ci", "Restarted").await.unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "Restarted"));
        clock.move_by(hours(60 * 24));
    }
    let told = [1, 2].map(|generation| {
        format!("told to restart for generation {generation}: Deployment a, StatefulSet b, DaemonSet c")
    });
    let twice = async || {
        let times = world.events("ApiToken", "ci").await.iter().filter(|reason| *reason == "Restarted").count();
        (times == 2 && world.notes("Restarted").await == told).then_some(())
    };
    world.eventually("it is told twice", twice).await;
    let wanted = |line: &String| line.starts_with("patch") || line.starts_with("create secrets");
    let writes: Vec<_> = world.asked(offset).into_iter().filter(wanted).collect();
    let kind = |line: &String| line.split(' ').nth(1).unwrap().to_owned();
    let order: Vec<_> = writes.iter().map(kind).collect();
    for one in [&order[..4], &order[4..8]] {
        assert_eq!(one[0], "secrets", "{writes:?}");
        assert!(["deployments", "statefulsets", "daemonsets"].iter().all(|kind| one.contains(&(*kind).into())));
    }
}

#[tokio::test]
async fn what_was_restarted_is_not_again_whoever_restarts_and_takes_the_annotation_away() {
    let world = World::new("restart-once").await;
    let clock = Held::default();
    let operator = world.operator(&clock).await;
    world.workload::<Deployment>("a").await;
    world.accepts("Instance", "eem", json!({})).await;
    world.restarting("ci", &[("Deployment", "a")]).await;
    world.await_generation("ci", 1).await;
    clock.move_by(QUIET);
    let token = world.await_restart("ci", 1).await;
    operator.stop().await;

    let offset = world.plane.audit_end();
    let key = format!("restart.tokenry.dev/{}", token.metadata.uid.as_ref().unwrap());
    world.annotate("a", json!({ key: null })).await;
    let _operator = world.operator(&clock).await;
    clock.move_by(hours(24));
    let seen = world.change("ApiToken", "ci", json!({"description": "looked at"})).await.unwrap();
    let looked = async || {
        let status = world.token("ci").await.status.unwrap();
        (status.observed_generation == seen.metadata.generation).then_some(())
    };
    world.eventually("the next operator has looked", looked).await;
    assert_eq!(world.annotation::<Deployment>("a", &token).await, None);
    let asked = world.asked(offset);
    assert!(asked.iter().all(|line| line == "get deployments a 200"), "{asked:?}");
    assert!(asked.len() <= 2, "a new spec is checked, and nothing is read for a pass that rests: {asked:?}");
}

#[tokio::test]
async fn tokens_that_rotate_together_restart_a_workload_once() {
    let world = World::new("restart-both").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    world.workload::<Deployment>("a").await;
    world.annotate("a", json!({"restart.tokenry.dev/gone": "id", "note": "a user's"})).await;
    world.accepts("Instance", "eem", json!({})).await;
    let tokens = ["one", "two", "three"];
    for name in tokens {
        world.restarting(name, &[("Deployment", "a")]).await;
    }
    for generation in 1..=2 {
        for name in tokens {
            world.await_generation(name, generation).await;
        }
        clock.move_by(QUIET);
        for name in tokens {
            let token = world.await_restart(name, generation).await;
            assert_eq!(world.annotation::<Deployment>("a", &token).await, served_id(&token));
        }
        assert_eq!(world.changes::<Deployment>("a").await, 2 + generation, "one restart for all");
        clock.move_by(hours(60 * 24));
    }
    let workload = serde_json::to_value(world.api::<Deployment>().get("a").await.unwrap()).unwrap();
    let annotations = workload["spec"]["template"]["metadata"]["annotations"].as_object().unwrap();
    assert_eq!((annotations.len(), &annotations["note"]), (4, &json!("a user's")), "what was of nobody is gone");
}

#[tokio::test]
async fn a_workload_that_is_missing_is_waited_for_before_anything_is_minted_and_not_after() {
    let world = World::new("restart-missing").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    world.workload::<Deployment>("a").await;
    world.accepts("Instance", "eem", json!({})).await;
    world.restarting("ci", &[("Deployment", "a"), ("StatefulSet", "b")]).await;
    let token = world.await_reason("ci", "WorkloadMissing").await;
    let message = world.condition("ci", "Accepted").await.unwrap().message;
    let told = "spec.restart[1]: there is no StatefulSet b in this namespace; create it, or remove the entry";
    assert_eq!(message, told);
    assert_eq!((token.status.unwrap().last_generation, world.value("ci").await), (None, None));
    assert_eq!(world.condition("ci", "Reconciling").await.unwrap().status, "True");
    world.workload::<StatefulSet>("b").await;
    world.await_generation("ci", 1).await;

    world.api::<StatefulSet>().delete("b", &DeleteParams::default()).await.unwrap();
    clock.move_by(QUIET);
    world.await_restart("ci", 1).await;
    assert_eq!(world.changes::<Deployment>("a").await, 2);
    let told = "told to restart for generation 1: Deployment a; there is no StatefulSet b".to_owned();
    world.eventually("it is told", async || world.notes("Restarted").await.contains(&told).then_some(())).await;
    world.await_reason("ci", "Active").await;

    clock.move_by(hours(60 * 24));
    let token = world.await_reason("ci", "WorkloadMissing").await;
    assert_eq!(token.status.unwrap().last_generation, Some(1));
    assert!(world.value("ci").await.is_some());
    world.change("ApiToken", "ci", json!({"restart": [{"kind": "Deployment", "name": "a"}]})).await.unwrap();
    world.await_generation("ci", 2).await;
}

#[tokio::test]
async fn a_changed_endpoint_restarts_the_workload_once_and_mints_nothing() {
    let world = World::new("restart-endpoint").await;
    let clock = Held::default();
    let operator = world.operator(&clock).await;
    let service = json!({"metadata": {"name": "m"}, "spec": {"selector": {"app": "m"}, "ports": [{"port": 443}]}});
    let services = world.api::<k8s_openapi::api::core::v1::Service>();
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    world.workload::<Deployment>("a").await;
    let at = |host: &str| {
        let endpoint = json!({"name": "admin", "host": host, "ingress": {"tls": {}}, "allowUnguarded": true});
        json!({"manager": {"service": {"name": "m"}, "endpoints": [endpoint]}})
    };
    world.accepts("Instance", "eem", at("a.example.com")).await;
    world.restarting("ci", &[("Deployment", "a")]).await;
    let value = world.await_generation("ci", 1).await;
    clock.move_by(QUIET);
    world.await_restart("ci", 1).await;
    assert_eq!(world.changes::<Deployment>("a").await, 2);

    world.change("Instance", "eem", at("b.example.com")).await.unwrap();
    let noticed = async || world.token("ci").await.status?.restart.filter(|restart| restart.at.is_none());
    let restart = world.eventually("the change is noticed", noticed).await;
    assert_eq!(world.key("ci", "endpoint").await.as_deref(), Some("https://b.example.com"));
    assert_eq!(world.condition("ci", "Restarted").await.unwrap().reason, "RestartDue");
    assert_eq!(world.changes::<Deployment>("a").await, 2);
    operator.stop().await;
    clock.move_by(QUIET);
    let _operator = world.operator(&clock).await;
    let token = world.await_restart("ci", 1).await;
    let text = format!("{}.{}", served_id(&token).unwrap(), restart.endpoint_digest.unwrap());
    assert_eq!(world.annotation::<Deployment>("a", &token).await, Some(text));
    assert_eq!((world.changes::<Deployment>("a").await, world.value("ci").await), (3, Some(value)));
    clock.move_by(hours(1));
    world.change("ApiToken", "ci", json!({"description": "looked at"})).await.unwrap();
    world.await_reason("ci", "Active").await;
    assert_eq!(world.changes::<Deployment>("a").await, 3, "and not again");
}

#[tokio::test]
async fn whoever_dies_after_the_restart_leaves_it_to_be_noted_and_not_to_be_done_again() {
    let world = World::new("restart-dies").await;
    let clock = Held::default();
    world.workload::<Deployment>("a").await;
    world.accepts("Instance", "eem", json!({})).await;
    world.restarting("ci", &[("Deployment", "a")]).await;
    for (generation, death) in [(1, Death::Before), (2, Death::After)] {
        let operator = world.operator(&clock).await;
        world.await_generation("ci", generation).await;
        operator.stop().await;
        clock.move_by(QUIET);
        // The first that it writes of a token is that the restart is done.
        let (client, doom) = dying(world.plane.config(&world.identities.operator), 1, death);
        let dead = world.operator_by(client, &clock).await;
        world.eventually("the operator dies", async || doom.has_come().then_some(())).await;
        dead.stop().await;
        assert_eq!(world.changes::<Deployment>("a").await, generation + 1, "it was restarted");

        let operator = world.operator(&clock).await;
        world.await_restart("ci", generation).await;
        assert_eq!(world.changes::<Deployment>("a").await, generation + 1, "and not again");
        operator.stop().await;
        clock.move_by(hours(60 * 24));
    }
}

/// Grants `user` what the chart grants the operator, in the world's namespace, and with these rights to workloads.
fn grant(world: &World, user: &str, verbs: &[&str]) {
    let chart = rendered(&["--set", "restart.enabled=false"]);
    let role = of_kind(&chart, "ClusterRole").into_iter().find(|role| name(role) == "tokenry-operator").unwrap();
    let mut rules = role["rules"].as_array().unwrap().clone();
    assert!(rules.iter().all(|rule| rule["apiGroups"] != json!(["apps"])), "the value takes the right away");
    if !verbs.is_empty() {
        rules.push(json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs}));
    }
    let rbac = "rbac.authorization.k8s.io";
    let version = format!("{rbac}/v1");
    let subjects = json!([{"kind": "User", "name": user, "apiGroup": rbac}]);
    let refers = |kind: &str, name: &str| json!({"apiGroup": rbac, "kind": kind, "name": name});
    let place = json!({"name": user, "namespace": world.namespace});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": version, "kind": "Role", "metadata": place, "rules": rules},
        {"apiVersion": version, "kind": "RoleBinding", "metadata": place, "subjects": subjects,
            "roleRef": refers("Role", user)},
        {"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": user}, "subjects": subjects,
            "roleRef": refers("ClusterRole", "tokenry-operator-cluster")},
        {"apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "scoped", "namespace": world.namespace},
            "subjects": subjects, "roleRef": refers("ClusterRole", "scoped")},
    ]});
    world.plane.kubectl_with_input(&["apply", "-f", "-"], &objects.to_string()).unwrap();
}

#[tokio::test]
async fn without_the_right_nothing_is_minted_and_a_restart_that_is_refused_is_tried_again() {
    let world = World::new("restart-rights").await;
    let (clock, user) = (Held::default(), world.namespace.clone());
    grant(&world, &user, &[]);
    world.workload::<Deployment>("a").await;
    world.accepts("Instance", "eem", json!({})).await;
    world.restarting("ci", &[("Deployment", "a")]).await;
    let _operator = world.operator_by(world.acting_as(&user), &clock).await;
    world.await_reason("ci", "WorkloadForbidden").await;
    let message = world.condition("ci", "Accepted").await.unwrap().message;
    assert!(message.contains("install the chart with restart.enabled=true"), "{message}");
    assert_eq!(world.value("ci").await, None);

    grant(&world, &user, &["get"]);
    world.await_generation("ci", 1).await;
    clock.move_by(QUIET);
    let refused = async || {
        let condition = world.condition("ci", "Restarted").await?;
        (condition.reason == "RestartFailed").then_some(condition)
    };
    let condition = world.eventually("the restart is refused", refused).await;
    assert!(condition.message.starts_with("generation 1: Deployment a: forbidden: "), "{}", condition.message);
    assert_eq!(world.condition("ci", "Ready").await.unwrap().status, "True", "the value is there, and valid");
    assert_eq!(world.changes::<Deployment>("a").await, 1);

    grant(&world, &user, &["get", "patch"]);
    world.await_restart("ci", 1).await;
    assert_eq!(world.changes::<Deployment>("a").await, 2);
}

#[tokio::test]
async fn a_workload_that_is_no_longer_as_it_was_read_is_left_alone() {
    let world = World::new("restart-uid").await;
    // Not as the operator itself: what is tried here says nothing of the rights that it needs.
    let reader = Reader::new(world.acting_as(OPERATOR));
    let writer = Writer::new(world.acting_as(OPERATOR), Arc::new(SystemClock), Arc::default());
    let target: RestartTarget = serde_json::from_value(json!({"kind": "Deployment", "name": "a"})).unwrap();
    assert_eq!(reader.workload(&world.namespace, &target).await.unwrap(), None);
    world.workload::<Deployment>("a").await;
    let seen = reader.workload(&world.namespace, &target).await.unwrap().unwrap();
    let annotations = [("restart.tokenry.dev/x".to_owned(), Some("id".to_owned()))].into();
    writer.roll(&seen, &annotations).await.unwrap();
    assert_eq!(writer.roll(&seen, &annotations).await.unwrap_err().why, Why::Stale);
    assert_eq!(world.changes::<Deployment>("a").await, 2);

    world.api::<Deployment>().delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(writer.roll(&seen, &annotations).await.unwrap_err().why, Why::Gone);
    world.workload::<Deployment>("a").await;
    assert_eq!(writer.roll(&seen, &annotations).await.unwrap_err().why, Why::Stale);
    assert_eq!(world.changes::<Deployment>("a").await, 1);
}
