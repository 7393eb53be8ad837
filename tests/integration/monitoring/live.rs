//! A real Prometheus scrapes a real operator and a real verifier.

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::{Value, json};
use tokenry::verifier::StaleAnswers;

use super::{alerts, prometheus::Prometheus, rules};
use crate::harness::{World, clock::Held, root, run::Running};

/// Durations of the alerts that a test can wait for. A watch is silent for up to a minute.
const VALUES: &str = "metrics.prometheusRule.for=1s,metrics.prometheusRule.notReadyFor=1s,\
    metrics.prometheusRule.outOfTouchSeconds=70";

/// Enough for a watch that has to be silent for longer than usual.
const PATIENCE: Duration = Duration::from_secs(240);

/// A release that a Prometheus watches.
struct Watched {
    world: World,
    operator: Running,
    verifier: Running,
    prometheus: Prometheus,
    value: String,
}

impl Watched {
    /// A release with a token, and a Prometheus that has seen both.
    async fn new() -> Self {
        let (world, clock) = (World::alone("monitoring").await, Held::default());
        world.plane.install_crds(root()).unwrap();
        let operator = world.operator(&clock).await;
        let client = world.plane.client_for(&world.identities.verifier);
        let verifier = world
            .verifier_by(client, &clock, |options| {
                options.stale_after = "65s".parse().unwrap();
                options.stale_answers = StaleAnswers::Refuse;
            })
            .await;
        world.ready(&verifier).await;
        world.smallest().await;
        let value = world.await_generation("ci", 1).await;
        let pods = [("operator", operator.probes), ("verifier", verifier.probes)];
        let prometheus = Prometheus::scraping(&world, &pods, &rules(VALUES)).await;
        Self { world, operator, verifier, prometheus, value }
    }

    /// Waits until these alerts fire, and no other. A request is made before each look.
    async fn await_firing(&self, wanted: &[&str]) {
        let wanted: BTreeSet<_> = wanted.iter().map(|alert| (*alert).to_owned()).collect();
        let last = std::sync::Mutex::new(None);
        let looked = async || {
            self.verifier.present(&self.world, &self.value).await;
            let firing = self.prometheus.firing().await?;
            let is_wanted = firing == wanted;
            *last.lock().unwrap() = Some(firing);
            is_wanted.then_some(())
        };
        let told = tokio::time::timeout(PATIENCE, async {
            while looked().await.is_none() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        told.await.unwrap_or_else(|_| panic!("{wanted:?} should fire: {last:?}\n{}", self.world.dump()));
    }

    /// Waits until Prometheus has evaluated each alert, and knows the token.
    async fn await_evaluation(&self, count: usize) {
        let query = format!(r#"tokenry_token_ready{{namespace="{}",name="ci"}} == 1"#, self.world.namespace);
        let evaluated = async || {
            self.prometheus.query(&query).await.filter(|series| !series.is_empty())?;
            let groups = self.prometheus.api("rules").await?;
            let rules = groups["groups"][0]["rules"].as_array()?.clone();
            assert_eq!(rules.len(), count);
            let is_sound = |rule: &Value| rule["health"] == "ok" && rule["lastError"].is_null();
            rules.iter().all(is_sound).then_some(())
        };
        self.world.eventually("Prometheus has evaluated each alert", evaluated).await;
    }
}

#[tokio::test]
async fn alerts_fire_when_they_are_provoked_and_the_dashboard_shows_each_part_of_the_run() {
    let watched = Watched::new().await;
    let Watched { world, .. } = &watched;
    watched.await_evaluation(alerts(&rules(VALUES)).len()).await;
    watched.await_firing(&[]).await;

    let instance = json!({"name": "eem"});
    let brief = json!({"instanceRef": instance, "expiry": {"after": "1h"}, "rotation": {"schedule": {"never": true}}});
    world.accepts("ApiToken", "brief", brief).await;
    watched.await_firing(&["TokenryValueExpires"]).await;
    world.accepts("ApiToken", "lost", json!({"instanceRef": {"name": "missing"}})).await;
    watched.await_firing(&["TokenryTokenNotReady", "TokenryValueExpires"]).await;
    world.accepts("ApiToken", "leaked", json!({"instanceRef": instance})).await;
    let leaked = world.await_generation("leaked", 1).await;
    world.change("ApiToken", "leaked", json!({"revoked": true})).await.unwrap();
    world.await_verdict(&watched.verifier, &leaked, 401).await;
    let three = ["TokenryRevokedValueUsed", "TokenryTokenNotReady", "TokenryValueExpires"];
    watched.await_firing(&three).await;
    shows_the_run(&watched).await;

    // Each trouble ends with its cause, but a revoked value is told of for ten minutes.
    world.delete("ApiToken", "brief").await;
    world.delete("ApiToken", "lost").await;
    watched.await_firing(&three[..1]).await;

    world.plane.stop_api_server();
    let four = ["TokenryOperatorFailing", "TokenryOutOfTouch", "TokenryRevokedValueUsed", "TokenryVerifierErrors"];
    watched.await_firing(&four).await;
    let Watched { world, operator, verifier, prometheus, .. } = watched;
    drop(operator);
    drop(verifier);
    let all = ["TokenryNoLeader", "TokenryVerifierAbsent"];
    let absent = async || {
        let firing = prometheus.firing().await?;
        all.iter().all(|alert| firing.contains(*alert)).then_some(())
    };
    world.eventually("the absence of both is told of", absent).await;
}

/// Queries that have no answer in a sound run.
const WITHOUT_DATA: [&str; 1] = ["Failures"];

/// Asks Prometheus each query of the dashboard. Each has an answer.
async fn shows_the_run(watched: &Watched) {
    let text = fs::read_to_string(root().join("charts/tokenry/files/dashboards/tokenry.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let mut queries = 0;
    for panel in panels.filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            let chosen = [("$namespace", "tokenry-system"), ("$release", "tokenry"), ("$tokens", ".*")];
            let chosen = chosen.into_iter().chain([("$__rate_interval", "1m")]);
            let query = target["expr"].as_str().unwrap();
            let query = chosen.fold(query.to_owned(), |query, (name, value)| query.replace(name, value));
            assert!(!query.contains('$'), "{query}");
            let title = panel["title"].as_str().unwrap();
            let answered = async || {
                let series = watched.prometheus.query(&query).await?;
                let number = |one: &Value| one["value"][1] != "NaN";
                (WITHOUT_DATA.contains(&title) || series.iter().any(number)).then_some(())
            };
            watched.world.eventually(&format!("the panel {title} has data: {query}"), answered).await;
            queries += 1;
        }
    }
    assert!(queries >= 20, "{queries}");
}
