//! When nothing changes, nothing is written.

use std::time::Duration;

use controlplane::AuditEvent;
use jiff::SignedDuration;
use k8s_openapi::api::events::v1::Event;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokenry::crd::{Account, ApiToken, Instance};

use crate::harness::{OPERATOR, VERIFIER, World, clock::Held, run::Running};

/// Every request of the operator in a namespace since `offset`, but what it tries without any effect.
fn requests(world: &World, offset: u64) -> Vec<AuditEvent> {
    let (events, _) = world.plane.audit_from(offset);
    let ours = |event: &AuditEvent| event.user == OPERATOR && event.namespace == world.namespace && !event.dry_run;
    events.into_iter().filter(ours).collect()
}

/// Every write among them, as a line each.
fn writes(world: &World, offset: u64) -> Vec<String> {
    let requests = requests(world, offset).into_iter();
    let writes = requests.filter(|event| !matches!(event.verb.as_str(), "get" | "list" | "watch"));
    writes
        .map(|event| format!("{} {}/{} {} {}", event.verb, event.resource, event.subresource, event.name, event.code))
        .collect()
}

/// A count that the operator's metrics hold, over all its label values.
async fn counted(operator: &Running, metric: &str) -> u64 {
    let (_, text) = operator.get("/metrics").await;
    let lines = text.lines().filter(|line| line.starts_with(metric));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Waits until nothing of ours has changed for two seconds.
async fn stand_still(world: &World) {
    loop {
        let before = versions(world).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        if versions(world).await == before {
            return;
        }
    }
}

async fn versions(world: &World) -> Vec<Option<String>> {
    let all = ListParams::default();
    let mut versions = Vec::new();
    versions.extend(world.api::<ApiToken>().list(&all).await.unwrap().iter().map(ResourceExt::resource_version));
    versions.extend(world.api::<Account>().list(&all).await.unwrap().iter().map(ResourceExt::resource_version));
    versions.extend(world.api::<Instance>().list(&all).await.unwrap().iter().map(ResourceExt::resource_version));
    versions
}

/// A token in every state that lasts.
async fn one_of_each(world: &World) {
    let service =
        json!({"spec": {"selector": {"app": "manager"}, "ports": [{"port": 443}]}, "metadata": {"name": "manager"}});
    let services = world.api::<k8s_openapi::api::core::v1::Service>();
    services.create(&Default::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    let ingress = json!({"annotations": {"a": "b"}, "tls": {}});
    let endpoint = json!({"name": "admin", "host": "a.example.com", "ingress": ingress, "allowUnguarded": true});
    world
        .accepts("Instance", "eem", json!({"manager": {"service": {"name": "manager"}, "endpoints": [endpoint]}}))
        .await;
    world
        .accepts(
            "Instance",
            "faulty",
            json!({"manager": {"service": {"name": "none"}, "endpoints": [{"name": "admin", "type": "internal"}]}}),
        )
        .await;
    let refers = json!({"name": "eem"});
    for (name, spec) in [
        ("active", json!({"instanceRef": refers})),
        ("suspended", json!({"instanceRef": refers, "active": false})),
        ("revoked", json!({"instanceRef": refers})),
        ("faulty", json!({"instanceRef": {"name": "none"}})),
        ("over", json!({"instanceRef": refers, "expiry": {"after": "400d"}})),
    ] {
        world.accepts("ApiToken", name, spec).await;
    }
    world.await_reason("revoked", "Active").await;
    world.change("ApiToken", "revoked", json!({"revoked": true})).await.unwrap();
    for (name, reason) in [
        ("active", "Active"),
        ("suspended", "Suspended"),
        ("revoked", "Revoked"),
        ("faulty", "InstanceMissing"),
        ("over", "LifetimeExceeded"),
    ] {
        world.await_reason(name, reason).await;
    }
}

#[tokio::test]
async fn nothing_is_written_at_rest_however_often_it_is_looked_at() {
    let world = World::new("rest").await;
    let clock = Held::default();
    let operator = world.operator(&clock).await;
    one_of_each(&world).await;
    stand_still(&world).await;
    let offset = world.plane.audit_end();
    let before = versions(&world).await;

    let objects = before.len() as u64;
    for _ in 0..4 {
        let passes = counted(&operator, "controller_runtime_reconcile_total").await;
        clock.move_by(SignedDuration::from_secs(10));
        let looked =
            async || (counted(&operator, "controller_runtime_reconcile_total").await >= passes + objects).then_some(());
        world.eventually("every object is looked at", looked).await;
    }
    operator.stop().await;
    let restarted = world.operator(&clock).await;
    let looked = async || (counted(&restarted, "controller_runtime_reconcile_total").await >= objects).then_some(());
    world.eventually("every object is looked at by the next operator", looked).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    assert_eq!(writes(&world, offset), Vec::<String>::new());
    assert_eq!(versions(&world).await, before);
    assert_eq!(counted(&restarted, "tokenry_writes_total").await, 0);
}

#[tokio::test]
async fn annotations_and_labels_that_nobody_reads_cost_no_pass() {
    const CHANGES: u64 = 20;
    let world = World::new("free").await;
    let operator = world.operator(&Held::default()).await;
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    stand_still(&world).await;
    let passes = async || counted(&operator, "controller_runtime_reconcile_total").await;
    let before = passes().await;
    for nth in 0..CHANGES {
        let mark = json!({ "note": nth.to_string() });
        let patch = Patch::Merge(json!({"metadata": {"annotations": mark, "labels": mark}}));
        world.api::<ApiToken>().patch("ci", &PatchParams::default(), &patch).await.unwrap();
        world.api::<Account>().patch("ci", &PatchParams::default(), &patch).await.unwrap();
        world.api::<Instance>().patch("eem", &PatchParams::default(), &patch).await.unwrap();
    }
    // What is read comes last, and is heard of after all of it.
    world.change("Instance", "eem", json!({"tokens": {"maxPerOwner": 5}})).await.unwrap();
    world.change("ApiToken", "ci", json!({"displayName": "another"})).await.unwrap();
    world.await_reason("ci", "Active").await;
    stand_still(&world).await;
    let made = passes().await - before;
    assert!(
        (2..CHANGES).contains(&made),
        "{made} passes for {CHANGES} changes each of three objects, and two that are read"
    );
    assert_eq!(world.token("ci").await.metadata.annotations.unwrap()["note"], "19", "they are theirs");
}

#[tokio::test]
async fn a_new_token_costs_three_writes_its_account_and_one_event() {
    let world = World::new("cost").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("ServiceAccount", "deployer", json!({"instanceRef": {"name": "eem"}})).await;
    // The first of them is counted at once.
    let spec = json!({"instanceRef": {"name": "eem"}, "serviceAccountRef": {"name": "deployer"}});
    world.accepts("ApiToken", "first", spec).await;
    world.await_reason("first", "Active").await;
    stand_still(&world).await;
    let offset = world.plane.audit_end();
    world
        .accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "serviceAccountRef": {"name": "deployer"}}))
        .await;
    world.await_reason("ci", "Active").await;
    stand_still(&world).await;
    let event = world.api::<Event>().list(&ListParams::default()).await.unwrap();
    let event = event.iter().map(ResourceExt::name_any).find(|name| name.starts_with("ci.")).unwrap();
    let event = format!("create events/ {event} 201");
    assert_eq!(
        writes(&world, offset),
        ["update apitokens/status ci 200", "create secrets/ ci 201", "update apitokens/status ci 200", &event]
    );
}

#[tokio::test]
async fn a_generation_that_follows_another_costs_four_writes_an_event_and_what_is_said_of_its_use() {
    let world = World::new("next").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.smallest().await;
    let first = world.await_generation("ci", 1).await;
    let used = async |value: &str, generations: usize| {
        world.await_verdict(&verifier, value, 200).await;
        let noted = async || (world.token("ci").await.status?.used().len() == generations).then_some(());
        world.eventually("its first use is noted", noted).await;
    };
    used(&first, 1).await;
    stand_still(&world).await;
    let offset = world.plane.audit_end();
    world.change("ApiToken", "ci", json!({"regenerate": {"id": "again"}})).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    world.await_reason("ci", "Rotating").await;
    used(&second, 2).await;
    stand_still(&world).await;
    // The default overlap is a day.
    clock.move_by(SignedDuration::from_hours(25));
    world.await_reason("ci", "Active").await;
    stand_still(&world).await;

    let (events, _) = world.plane.audit_from(offset);
    let of = |user: &str, resource: &str| {
        let writes = events.iter().filter(|event| {
            let ours = event.user == user && event.namespace == world.namespace && !event.dry_run;
            ours && event.resource == resource && !matches!(event.verb.as_str(), "get" | "list" | "watch")
        });
        writes.count()
    };
    // Its record, what is settled, and the end of the overlap.
    assert_eq!((of(OPERATOR, "apitokens"), of(OPERATOR, "secrets"), of(OPERATOR, "events")), (3, 1, 1));
    assert_eq!(of(VERIFIER, "apitokens"), 1);
}

#[tokio::test]
async fn what_is_told_again_is_counted_in_the_event_that_stands() {
    let world = World::new("series").await;
    let operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_generation("ci", 1).await;
    let told = async |reason: &str| {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.into_iter().filter(|event| event.reason.as_deref() == Some(reason)).collect::<Vec<_>>()
    };
    let counted = async |wanted: &[i32]| {
        let count = |event: &Event| event.series.as_ref().map_or(1, |series| series.count);
        let counts = async || told("Suspended").await.iter().map(count).eq(wanted.iter().copied()).then_some(());
        world.eventually(&format!("the events count {wanted:?}"), counts).await;
    };
    let suspended = async || {
        for (active, reason) in [(false, "Suspended"), (true, "Active")] {
            world.change("ApiToken", "ci", json!({ "active": active })).await.unwrap();
            world.await_reason("ci", reason).await;
        }
    };
    for nth in 1..=3 {
        suspended().await;
        counted(&[nth]).await;
    }
    let described = world.plane.kubectl(&["describe", "apitokens", "ci", "--namespace", &world.namespace]).unwrap();
    assert!(described.lines().any(|line| line.contains("Suspended") && line.contains("(x3 over ")), "{described}");
    // One that somebody has deleted is written anew, and another operator begins another.
    let first = told("Suspended").await.remove(0).name_any();
    world.api::<Event>().delete(&first, &Default::default()).await.unwrap();
    suspended().await;
    counted(&[1]).await;
    operator.stop().await;
    let _operator = world.operator(&Held::default()).await;
    suspended().await;
    counted(&[1, 1]).await;
    // Another text is another event.
    for nth in [2, 3] {
        world.change("ApiToken", "ci", json!({"regenerate": {"id": format!("again-{nth}")}})).await.unwrap();
        world.await_generation("ci", nth).await;
        let text = format!("RegenerateAsked: generation {nth} is published in Secret ci");
        let is_told = async || told("Regenerated").await.iter().any(|event| event.note.as_ref() == Some(&text));
        world.eventually(&text, async || is_told().await.then_some(())).await;
    }
}

#[tokio::test]
async fn tokens_that_come_together_cost_no_more_and_share_the_reads_of_their_account() {
    const TOKENS: usize = 40;
    let world = World::new("together").await;
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("ServiceAccount", "deployer", json!({"instanceRef": {"name": "eem"}})).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "serviceAccountRef": {"name": "deployer"}});
    for nth in 0..TOKENS {
        world.accepts("ApiToken", &format!("ci-{nth}"), spec.clone()).await;
    }
    let offset = world.plane.audit_end();
    let _operator = world.operator(&Held::default()).await;
    for nth in 0..TOKENS {
        world.await_reason(&format!("ci-{nth}"), "Active").await;
    }
    stand_still(&world).await;
    let requests = requests(&world, offset);
    let count = |verb: &str, resource: &str| {
        let of =
            |event: &&AuditEvent| event.verb == verb && event.resource == resource && !event.name.starts_with("eem");
        requests.iter().filter(of).count()
    };
    let refused: Vec<_> = requests.iter().filter(|event| event.code >= 400 && event.code != 404).collect();
    assert!(refused.is_empty(), "nothing is tried on an old view: {refused:?}");
    assert_eq!((count("update", "apitokens"), count("create", "secrets")), (2 * TOKENS, TOKENS));
    assert_eq!(count("create", "events"), TOKENS);
    let reads = count("get", "serviceaccounts");
    assert!((1..TOKENS).contains(&reads), "{reads} reads of the account");
}
