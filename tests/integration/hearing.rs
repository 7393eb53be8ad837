//! An API server that refuses, is cut off, goes away, or goes back in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use serde_json::json;
use tokenry::outside::Extent;

use crate::harness::{
    World,
    clock::Held,
    root,
    run::{Running, served},
    wire::{Through, Wire},
};

/// The shortest time after which what was heard can be stale.
const SHORT: &str = "10s";
/// The kinds of Tokenry that a verifier watches, as kubectl takes them.
const OURS: &str = "instances.tokenry.dev,serviceaccounts.tokenry.dev,apitokens.tokenry.dev,accesspolicies.tokenry.dev";

impl World {
    /// A verifier that hears over `wire`, and has `peers`.
    async fn verifier_over(&self, wire: &Wire, clock: &Held, peers: &[&Running]) -> Running {
        let verifier = self.verifier_by(wire.client(), clock, |options| {
            options.stale_after = SHORT.parse().unwrap();
            options.peers = peers.iter().map(|peer| peer.probes.to_string().parse().unwrap()).collect();
        });
        let verifier = verifier.await;
        self.ready(&verifier).await;
        verifier
    }

    async fn wire(&self) -> Wire {
        Wire::new(self.plane.client_for(&self.identities.verifier)).await
    }

    /// Waits until a verifier is not ready, and hands back why.
    async fn not_ready(&self, verifier: &Running) -> String {
        let unready = async || {
            let (status, said) = verifier.get("/readyz").await;
            (status == 503).then_some(said)
        };
        self.eventually("it is not ready", unready).await
    }
}

/// How long ago something was heard of the kind of which nothing was heard for longest, by the metric.
async fn age(verifier: &Running) -> f64 {
    let (_, metrics) = verifier.get("/metrics").await;
    let ages = metrics.lines().filter(|line| line.starts_with("tokenry_heard_age_seconds{kind="));
    let ages: Vec<f64> = ages.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(ages.len(), 5, "one for each kind in\n{metrics}");
    ages.into_iter().fold(0.0, f64::max)
}

#[tokio::test]
async fn a_verifier_that_hears_nothing_though_the_api_server_answers_is_not_ready() {
    let (world, clock, _operator, _verifier, _) = served("held").await;
    let wire = world.wire().await;
    let verifier = world.verifier_over(&wire, &clock, &[]).await;
    assert!(age(&verifier).await < 10.0);
    wire.let_through(Through::Lists);
    let said = world.not_ready(&verifier).await;
    assert!(said.starts_with("the watch of ") && said.contains("although the API server answers"), "{said}");
    let is_old = async || (age(&verifier).await > 10.0).then_some(());
    world.eventually("the metric says how old the news are", is_old).await;
    wire.let_through(Through::All);
    world.ready(&verifier).await;
}

#[tokio::test]
async fn a_new_value_is_refused_for_good_by_nobody_whose_watch_is_held_alone() {
    let (world, clock, _operator, _verifier, first) = served("held-alone").await;
    let wire = world.wire().await;
    let verifier = world.verifier_by(wire.client(), &clock, |_| {}).await;
    world.ready(&verifier).await;
    wire.let_through(Through::Lists);
    world.change("ApiToken", "ci", json!({"regenerate": {"id": "now"}})).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    world.await_verdict(&verifier, &second, 503).await;
    assert_eq!(verifier.present(&world, &first).await, 200);
    wire.let_through(Through::All);
    world.await_verdict(&verifier, &second, 200).await;
}

#[tokio::test]
async fn a_replica_that_has_heard_nothing_yet_says_so_to_others() {
    let (world, clock, _operator, verifier, _) = served("starting").await;
    let dead = world.wire().await;
    dead.let_through(Through::Nothing);
    let starting = world.verifier_by(dead.client(), &clock, |_| {}).await;
    assert_eq!(starting.get("/hearing").await, (StatusCode::SERVICE_UNAVAILABLE, "cut off\n".to_owned()));
    assert_eq!(verifier.get("/hearing").await, (StatusCode::OK, "hears the API server\n".to_owned()));
}

#[tokio::test]
async fn a_verifier_whose_rights_are_withdrawn_is_not_ready() {
    let (world, clock, _operator, _verifier, value) = served("withdrawn").await;
    let namespace = world.namespace.clone();
    let kubectl = |args: &[&str]| world.plane.kubectl(args).unwrap();
    kubectl(&["create", "serviceaccount", "deaf", "-n", &namespace]);
    let (name, account) = (format!("{namespace}-deaf"), format!("{namespace}:deaf"));
    kubectl(&["create", "clusterrole", &name, "--verb=get,list,watch", "--resource", &format!("{OURS},namespaces")]);
    kubectl(&["create", "clusterrolebinding", &name, "--clusterrole", &name, "--serviceaccount", &account]);
    let client = world.plane.client_for(kubectl(&["create", "token", "deaf", "-n", &namespace]).trim());
    let verifier = world.verifier_by(client, &clock, |options| options.stale_after = SHORT.parse().unwrap()).await;
    world.ready(&verifier).await;
    world.await_verdict(&verifier, &value, 200).await;
    kubectl(&["delete", "clusterrolebinding", &name]);
    let said = world.not_ready(&verifier).await;
    assert!(said.contains("though the API server answers"), "{said}");
    kubectl(&["delete", "clusterrole", &name]);
}

#[tokio::test]
async fn a_namespace_that_is_being_deleted_ends_its_tokens_though_their_deletion_is_not_heard() {
    let mut world = World::new("ending").await;
    let other = world.beside("ending-other", json!({})).await;
    world.scope = Extent::of([&world.namespace, &other.namespace]);
    let (clock, namespace) = (Held::default(), world.namespace.clone());
    let operator = world.operator(&clock).await;
    world.accepts("Instance", "eem", json!({"tokens": {"namespaces": {"from": "All"}}})).await;
    for home in [&world, &other] {
        let spec = json!({"instanceRef": {"name": "eem", "namespace": namespace}});
        home.accepts("ApiToken", "ci", spec).await;
        home.await_reason("ci", "Active").await;
    }
    let (here, there) = (world.value("ci").await.unwrap(), other.value("ci").await.unwrap());
    operator.stop().await;
    // As in a release with Roles, whose Role for tokens goes before the tokens do.
    let kubectl = |args: &[&str]| world.plane.kubectl(args).unwrap();
    kubectl(&["create", "serviceaccount", "half", "-n", &namespace]);
    let (ours, account) = (format!("{namespace}-ours"), format!("{namespace}:half"));
    let of_namespaces = format!("{namespace}-namespaces");
    for (name, resources) in [(&ours, OURS), (&of_namespaces, "namespaces")] {
        kubectl(&["create", "clusterrole", name, "--verb=get,list,watch", "--resource", resources]);
        kubectl(&["create", "clusterrolebinding", name, "--clusterrole", name, "--serviceaccount", &account]);
    }
    let client = world.plane.client_for(kubectl(&["create", "token", "half", "-n", &namespace]).trim());
    let verifier = world.verifier_by(client, &clock, |options| options.stale_after = SHORT.parse().unwrap()).await;
    world.ready(&verifier).await;
    for value in [&here, &there] {
        world.await_verdict(&verifier, value, 200).await;
    }
    kubectl(&["delete", "clusterrolebinding", &ours]);
    world.not_ready(&verifier).await;
    assert_eq!(verifier.present(&world, &there).await, 200, "it judges by the objects that it heard of last");
    kubectl(&["delete", "namespace", &other.namespace, "--wait=false"]);
    world.await_verdict(&verifier, &there, 401).await;
    assert_eq!(verifier.present(&world, &here).await, 200);
    kubectl(&["delete", "clusterrolebinding,clusterrole", &of_namespaces]);
    kubectl(&["delete", "clusterrole", &ours]);
}

#[tokio::test]
async fn who_is_cut_off_refuses_no_new_value_for_good_and_leaves_callers_to_those_who_hear() {
    let (world, clock, _operator, hears, first) = served("cut-off").await;
    let wire = world.wire().await;
    let verifier = world.verifier_over(&wire, &clock, &[&hears]).await;
    world.await_verdict(&verifier, &first, 200).await;
    wire.let_through(Through::Nothing);
    world.change("ApiToken", "ci", json!({"regenerate": {"id": "now"}})).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    world.await_verdict(&verifier, &second, 503).await;
    assert_eq!(verifier.present(&world, &first).await, 200, "what it knows is judged");
    assert_eq!(verifier.present(&world, "tkn_x_y").await, 401, "what is no token of ours is refused for good");
    let said = world.not_ready(&verifier).await;
    assert!(said.starts_with("cut off: "), "{said}");
    hears.stop().await;
    world.ready(&verifier).await;
    assert_eq!(verifier.present(&world, &first).await, 200, "nobody hears more than it does");
    wire.let_through(Through::All);
    world.await_verdict(&verifier, &second, 200).await;
}

#[tokio::test]
async fn an_api_server_that_is_away_for_long_and_comes_back_takes_no_caller_away() {
    let world = World::alone("away").await;
    world.plane.install_crds(root()).unwrap();
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    let client = world.plane.client_for(&world.identities.verifier);
    let verifier =
        Arc::new(world.verifier_by(client, &clock, |options| options.stale_after = SHORT.parse().unwrap()).await);
    world.ready(&verifier).await;
    world.smallest().await;
    let first = world.await_generation("ci", 1).await;
    world.await_verdict(&verifier, &first, 200).await;
    let over = Arc::new(AtomicBool::new(false));
    let caller = tokio::spawn({
        let (verifier, over, value) = (verifier.clone(), over.clone(), first.clone());
        let path = format!("/v1/instances/{}/eem/authorize", world.namespace);
        async move {
            while !over.load(Ordering::SeqCst) {
                let headers = [(http::header::AUTHORIZATION, format!("Bearer {value}").parse().unwrap())];
                let (status, _, body) = verifier.ask(&path, headers.into_iter().collect()).await;
                assert_eq!(status, 200, "{body}");
                let (status, body) = verifier.get("/readyz").await;
                assert_eq!(status, 200, "{body}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    world.plane.stop_api_server();
    tokio::time::sleep(Duration::from_secs(25)).await;
    world.plane.start_api_server().unwrap();
    world.change("ApiToken", "ci", json!({"regenerate": {"id": "now"}})).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    world.await_verdict(&verifier, &second, 200).await;
    // Longer than a server that is back is given to be heard.
    tokio::time::sleep(Duration::from_secs(35)).await;
    over.store(true, Ordering::SeqCst);
    caller.await.unwrap();
}

#[tokio::test]
async fn stale_answers_are_refused_where_that_is_asked_for() {
    let (world, clock, _operator, _verifier, value) = served("refuse").await;
    let wire = world.wire().await;
    let verifier = world.verifier_by(wire.client(), &clock, |options| {
        options.stale_after = SHORT.parse().unwrap();
        options.stale_answers = tokenry::verifier::StaleAnswers::Refuse;
    });
    let verifier = verifier.await;
    world.ready(&verifier).await;
    world.await_verdict(&verifier, &value, 200).await;
    wire.let_through(Through::Nothing);
    world.await_verdict(&verifier, &value, 503).await;
    world.not_ready(&verifier).await;
    wire.let_through(Through::All);
    world.await_verdict(&verifier, &value, 200).await;
    world.ready(&verifier).await;
}

#[tokio::test]
async fn data_that_was_restored_from_a_backup_is_all_that_counts() {
    let world = World::alone("restored").await;
    world.plane.install_crds(root()).unwrap();
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.smallest().await;
    let first = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    world.plane.back_up().unwrap();
    world.accepts("ApiToken", "lost", json!({"instanceRef": {"name": "eem"}})).await;
    let lost = world.await_generation("lost", 1).await;
    world.change("ApiToken", "ci", json!({"regenerate": {"id": "now", "previous": {"after": "0s"}}})).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    world.await_verdict(&verifier, &second, 200).await;
    world.await_verdict(&verifier, &lost, 200).await;
    world.await_verdict(&verifier, &first, 401).await;
    world.plane.restore().unwrap();
    // The value that the Secret holds again is good again, and what is on record nowhere is not.
    assert_eq!(world.value("ci").await.as_deref(), Some(&*first));
    world.await_verdict(&verifier, &first, 200).await;
    world.await_verdict(&verifier, &second, 401).await;
    world.await_verdict(&verifier, &lost, 401).await;
    // And the operator works on what stands.
    world.change("ApiToken", "ci", json!({"description": "again"})).await.unwrap();
    world.change("ApiToken", "ci", json!({"regenerate": {"id": "again"}})).await.unwrap();
    let again = world.await_generation("ci", 2).await;
    assert_ne!(again, second);
    world.await_reason("ci", "Rotating").await;
    world.await_verdict(&verifier, &again, 200).await;
}
