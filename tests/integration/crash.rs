//! Whatever dies, and whenever: no consumer is ever left without a valid value, and the next passes reach rest.

use std::{
    hash::{BuildHasher, RandomState},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use controlplane::Process;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use tokenry::{
    crd::ApiToken,
    outside::{Extent, Hearing},
};

use crate::harness::{
    World,
    clock::{Held, hours},
    fault::{Death, dying, dying_at_events},
    root,
    run::Running,
};

/// Values read from Secrets and accepted, and the first that was not.
#[derive(Default)]
struct Watched {
    accepted: AtomicU64,
    refused: std::sync::Mutex<Option<String>>,
    done: AtomicBool,
}

/// Reads every Secret of ours in the namespace again and again, and presents what it reads.
async fn watch(world: &World, verifier: &Running, watched: &Watched) {
    while !watched.done.load(Ordering::SeqCst) {
        for secret in world.api::<Secret>().list(&ListParams::default()).await.unwrap() {
            let Some(value) = secret.data.as_ref().and_then(|data| data.get("token")) else { continue };
            let value = String::from_utf8(value.0.clone()).unwrap();
            match verifier.present(world, &value).await {
                200 => drop(watched.accepted.fetch_add(1, Ordering::SeqCst)),
                // A sweep may take longer than an overlap: refused counts what the Secret still holds.
                _ if world.value(&secret.name_any()).await.as_deref() != Some(&*value) => {}
                verdict => {
                    let generation = secret.annotations().get("tokenry.dev/generation").cloned().unwrap_or_default();
                    let what = format!("{} generation {generation}: {verdict}", secret.name_any());
                    watched.refused.lock().unwrap().get_or_insert(what);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_event_whose_first_write_or_its_answer_is_lost_is_written_once() {
    for death in [Death::Unsent, Death::Unheard, Death::Silent] {
        let world = World::new("unwritten").await;
        let (client, _doom) = dying_at_events(world.plane.config(&world.identities.operator), 1, death);
        let operator = world.operator_by(client, &Held::default()).await;
        world.smallest().await;
        world.await_events("ApiToken", "ci", &["Issued"]).await;
        // The scribe ends after it has written all events.
        operator.stop().await;
        assert_eq!(world.events("ApiToken", "ci").await, ["Issued"], "{death:?}");
    }
}

#[tokio::test]
async fn what_was_done_is_told_though_the_answer_was_not_heard() {
    // What an operator writes of a token and its account: the account, the record, the Secret, the settled status; then
    // the claim.
    for (nth, death) in [(4, Death::Silent), (4, Death::Unheard), (5, Death::Silent), (5, Death::Unheard)] {
        let world = World::new("unheard").await;
        let (client, _) = dying(world.plane.config(&world.identities.operator), nth, death);
        let _operator = world.operator_by(client, &Held::default()).await;
        world.accepts("Instance", "eem", json!({})).await;
        let spec = json!({"instanceRef": {"name": "eem"}, "secret": {"delivery": "Once"}});
        world.accepts("ApiToken", "ci", spec).await;
        world.await_generation("ci", 1).await;
        world.await_events("ApiToken", "ci", &["Issued"]).await;
        let id = world.key("ci", "token-id").await.unwrap();
        world.patch_secret("ci", json!({"metadata": {"annotations": {"tokenry.dev/claimed": id}}})).await;
        world.await_events("ApiToken", "ci", &["Claimed", "Issued"]).await;
        // Told once, and not again when it is looked at again.
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.await_events("ApiToken", "ci", &["Claimed", "Issued"]).await;
    }
}

impl Watched {
    fn assert_never_refused(&self) {
        assert_eq!(*self.refused.lock().unwrap(), None, "a value that a workload read was refused");
        assert!(self.accepted.load(Ordering::SeqCst) > 0, "nothing was watched");
    }
}

/// Every write of a first issue and of a rotation: the account, the record, the Secret, the settled status.
const WRITES: usize = 4;

#[tokio::test]
async fn a_first_issue_that_dies_at_any_write_is_finished_by_the_next_operator() {
    let world = World::new("die-first").await;
    let clock = Held::default();
    world.accepts("Instance", "eem", json!({})).await;
    let verifier = world.verifier(&clock).await;
    for nth in 1..=WRITES {
        for death in [Death::Before, Death::After] {
            let name = format!("t{nth}-{death:?}").to_lowercase();
            world.accepts("ApiToken", &name, json!({"instanceRef": {"name": "eem"}})).await;
            die(&world, &clock, nth, death).await;
            let operator = world.operator(&clock).await;
            let token = world.await_reason(&name, "Active").await;
            let value = world.value(&name).await.unwrap();
            assert_eq!(verifier.present(&world, &value).await, 200, "{name}");
            let records = token.status.unwrap().records;
            assert_eq!(records.len(), 1, "{name}: what was lost is off the record");
            operator.stop().await;
        }
    }
}

#[tokio::test]
async fn an_operator_that_is_told_to_stop_finishes_the_passes_under_way() {
    let world = World::new("stop").await;
    world.accepts("Instance", "eem", json!({})).await;
    for nth in 0..30 {
        world.accepts("ApiToken", &format!("ci-{nth}"), json!({"instanceRef": {"name": "eem"}})).await;
    }
    let records = async || {
        let tokens = world.api::<ApiToken>().list(&ListParams::default()).await.unwrap();
        tokens.into_iter().filter_map(|token| token.status?.records.pop()).collect::<Vec<_>>()
    };
    let operator = world.operator(&Held::default()).await;
    world.eventually("a value is on record", async || (!records().await.is_empty()).then_some(())).await;
    operator.stop().await;
    let begun = records().await;
    let left: Vec<_> = begun.iter().filter(|record| record.published_at.is_none()).collect();
    assert!(left.is_empty(), "{} of {} were begun and not finished", left.len(), begun.len());
}

#[tokio::test]
async fn a_rotation_that_dies_at_any_write_leaves_the_consumer_a_valid_value_throughout() {
    let world = Arc::new(World::new("die-rotating").await);
    let clock = Held::default();
    let verifier = Arc::new(world.verifier(&clock).await);
    let operator = world.operator(&clock).await;
    world.smallest().await;
    world.await_generation("ci", 1).await;
    operator.stop().await;
    let watched = Arc::new(Watched::default());
    let watching = tokio::spawn({
        let (world, verifier, watched) = (world.clone(), verifier.clone(), watched.clone());
        async move { watch(&world, &verifier, &watched).await }
    });
    let mut served = 1;
    for nth in 1..WRITES {
        for death in [Death::Before, Death::After] {
            clock.move_by(hours(62 * 24));
            die(&world, &clock, nth, death).await;
            let operator = world.operator(&clock).await;
            let rotated = async || {
                let status = world.token("ci").await.status?;
                let next = status.records.iter().rev().find(|record| record.published_at.is_some())?.generation;
                let settled = status.conditions.iter().any(|c| c.type_ == "Ready" && c.reason == "Rotating");
                (next > served && settled).then_some(next)
            };
            served = world.eventually(&format!("it rotates after {nth} {death:?}"), rotated).await;
            operator.stop().await;
        }
    }
    watched.done.store(true, Ordering::SeqCst);
    watching.await.unwrap();
    watched.assert_never_refused();
}

/// An operator that dies at its `nth` write.
async fn die(world: &World, clock: &Held, nth: usize, death: Death) {
    let (client, doom) = dying(world.plane.config(&world.identities.operator), nth, death);
    let operator = world.operator_by(client, clock).await;
    world.eventually(&format!("the operator dies at write {nth}"), async || doom.has_come().then_some(())).await;
    operator.stop().await;
}

const TOKENS: usize = 100;
const KILLS: u32 = 50;

/// Times between kills, drawn anew in each run.
fn lives() -> impl Iterator<Item = Duration> {
    std::iter::repeat_with(|| Duration::from_millis(250 + RandomState::new().hash_one(()) % 900))
}

/// Operators of which some are at work, of each only as long as the test lets it.
struct Operators {
    alive: Vec<Process>,
    begun: u32,
}

impl Operators {
    fn begin(&mut self, world: &World) {
        self.alive.push(world.operator_process(self.begun));
        self.begun += 1;
    }

    /// Ends the oldest without a warning.
    fn kill(&mut self) {
        let mut oldest = self.alive.remove(0);
        let killed = Command::new("kill").args(["-KILL", &oldest.pid().to_string()]).status().unwrap();
        assert!(killed.success());
        oldest.stop();
    }
}

/// Operators are killed, begun again and doubled, new values are asked for, and all the while somebody reads each
/// Secret and presents what it holds. (Tried with the Secret written before the record: a kill in between leaves a
/// value that is refused.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_during_rotations_of_a_hundred_tokens_leave_every_consumer_an_accepted_value() {
    let world = Arc::new(World::new("kills").await);
    let clock = Held::default();
    let verifier = Arc::new(world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({"tokens": {"rotation": {"min": "1s"}}})).await;
    let spec = json!({
        "instanceRef": {"name": "eem"}, "expiry": {"after": "1h"},
        "rotation": {"schedule": {"every": "10s"}, "overlap": "8s"},
    });
    for index in 0..TOKENS {
        world.accepts("ApiToken", &format!("t{index}"), spec.clone()).await;
    }
    let mut operators = Operators { alive: Vec::new(), begun: 0 };
    operators.begin(&world);
    let ready = async || {
        (generations(&world).await.iter().filter(|&&generation| generation > 0).count() == TOKENS).then_some(())
    };
    world.eventually("every token is served", ready).await;

    let watched = Arc::new(Watched::default());
    let watching = tokio::spawn({
        let (world, verifier, watched) = (world.clone(), verifier.clone(), watched.clone());
        async move { watch(&world, &verifier, &watched).await }
    });
    let before = generations(&world).await;
    for (count, life) in (1..=KILLS).zip(lives()) {
        tokio::time::sleep(life).await;
        if count % 2 == 0 {
            // Two at once, until one of them dies.
            operators.begin(&world);
            let asked = json!({"regenerate": {"id": format!("ask-{count}"), "previous": {"after": "2s"}}});
            world.change("ApiToken", &format!("t{count}"), asked).await.unwrap();
            tokio::time::sleep(life / 2).await;
            operators.kill();
        } else {
            operators.kill();
            operators.begin(&world);
        }
    }
    let during: i64 = generations(&world).await.iter().zip(&before).map(|(now, before)| now - before).sum();
    assert!(during > 0, "nothing was rotated while the operator was killed again and again");
    // A generation that was lost twice may wait until neither can land any more.
    let start = Instant::now();
    let all = async || {
        let now = generations(&world).await;
        now.iter().zip(&before).all(|(now, before)| now > before).then_some(now)
    };
    let after = loop {
        if let Some(after) = all().await {
            break after;
        }
        assert!(start.elapsed() < Duration::from_secs(240), "not every token was rotated:\n{}", world.dump());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    watched.done.store(true, Ordering::SeqCst);
    watching.await.unwrap();
    watched.assert_never_refused();
    let rotations: i64 = after.iter().zip(&before).map(|(after, before)| after - before).sum();
    println!(
        "{rotations} rotations, {during} of them under {KILLS} kills; {} reads accepted",
        watched.accepted.load(Ordering::SeqCst)
    );
    operators.alive.iter_mut().for_each(Process::stop);
}

/// The newest published generation of each token, by name; 0 where there is none.
async fn generations(world: &World) -> Vec<i64> {
    let mut tokens = world.api::<ApiToken>().list(&ListParams::default()).await.unwrap().items;
    tokens.sort_by_key(ResourceExt::name_any);
    let published = |token: &ApiToken| {
        let records = token.status.iter().flat_map(|status| &status.records);
        records.filter(|record| record.published_at.is_some()).map(|record| record.generation).max()
    };
    tokens.iter().map(|token| published(token).unwrap_or(0)).collect()
}

#[tokio::test]
async fn definitions_that_are_missing_at_the_start_are_waited_for() {
    let world = World::alone("no-crds").await;
    let clock = Held::default();
    let operator = world.operator(&clock).await;
    let verifier = world.unready_verifier(&clock).await;
    let kinds = "waiting for the first list of: Instance, ServiceAccount of tokenry.dev, AccessPolicy, ApiToken\n";
    let waits = async || {
        let (status, told) = operator.get("/readyz").await;
        (status == 503 && told == kinds).then_some(())
    };
    world.eventually("the operator waits for the kinds", waits).await;
    assert_eq!(verifier.get("/readyz").await.0, 503);
    assert!(!verifier.listens().await, "callers find nobody before it knows anything");
    assert_eq!(operator.get("/healthz").await.0, 200);
    world.plane.install_crds(root()).unwrap();
    world.smallest().await;
    let value = world.await_generation("ci", 1).await;
    let accepted = async || (verifier.present(&world, &value).await == 200).then_some(());
    world.eventually("the verifier accepts it", accepted).await;
    world.ready(&operator).await;
}

#[tokio::test]
async fn a_list_that_is_refused_is_asked_for_less_and_less_often() {
    let world = World::new("without-rights").await;
    let namespace = world.namespace.clone();
    world.plane.kubectl(&["create", "serviceaccount", "none", "-n", &namespace]).unwrap();
    let token = world.plane.kubectl(&["create", "token", "none", "-n", &namespace]).unwrap();
    let client = world.plane.client_for(token.trim());
    let heard = Extent::Cluster.watch::<ApiToken>(&client, &Hearing::default()).for_each(async |_| ());
    tokio::time::timeout(Duration::from_secs(8), heard).await.unwrap_err();
    let user = format!("system:serviceaccount:{namespace}:none");
    let tries = world.audited().into_iter().filter(|asked| asked.user == user && asked.resource == "apitokens").count();
    // After 0, 0.25, 0.75, 1.75, 3.75 and 7.75 s, or later.
    assert!((2..=6).contains(&tries), "{tries}");
}

#[tokio::test]
async fn an_api_server_that_goes_and_comes_back_is_noticed_and_the_verifier_judges_on() {
    let world = World::alone("outage").await;
    world.plane.install_crds(root()).unwrap();
    let clock = Held::default();
    let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.smallest().await;
    let first = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    world.plane.stop_api_server();
    clock.move_by(hours(61 * 24));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(verifier.present(&world, &first).await, 200);
    assert_eq!(operator.get("/healthz").await.0, 200);
    world.plane.start_api_server().unwrap();
    let second = world.await_generation("ci", 2).await;
    let accepted = async || (verifier.present(&world, &second).await == 200).then_some(());
    world.eventually("the verifier hears of the next generation", accepted).await;
    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    let refused = async || (verifier.present(&world, &second).await == 401).then_some(());
    world.eventually("the verifier hears of the revocation", refused).await;
}
