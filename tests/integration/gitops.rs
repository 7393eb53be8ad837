//! Tokens of a release of somebody's own chart: what the real helm waits for, and what it takes for a failure.

use std::fs;

use serde_json::Value;

use crate::harness::{World, clock::Held, run::Running};

/// A chart with an Instance and a token, which can be suspended and revoked.
const TOKEN: &str = "\
apiVersion: tokenry.dev/v1alpha1
kind: Instance
metadata:
  name: eem
spec: {}
---
apiVersion: tokenry.dev/v1alpha1
kind: ApiToken
metadata:
  name: ci
spec:
  instanceRef:
    name: eem
  active: {{ .Values.active }}
  revoked: {{ .Values.revoked }}
";

/// A release `app` of that chart, whose token is served.
struct App {
    world: World,
    chart: String,
    verifier: Running,
    value: String,
    _operator: Running,
}

impl App {
    async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        let clock = Held::default();
        let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
        let chart = chart(&world);
        let app = Self { world, chart, verifier, value: String::new(), _operator: operator };
        app.helm(&["install"], &[]).unwrap();
        let value = app.world.value("ci").await.expect("a release whose token has no value yet is not ready");
        app.world.await_verdict(&app.verifier, &value, 200).await;
        Self { value, ..app }
    }

    fn helm(&self, verb: &[&str], more: &[&str]) -> Result<String, String> {
        release(&self.world, &self.chart, verb, &[&["--timeout", "60s"], more].concat())
    }

    /// How the release ended: `deployed`, or `failed` and the like.
    fn status(&self) -> String {
        let args = ["status", "app", "--namespace", &self.world.namespace, "-o", "json"];
        let told = tokio::task::block_in_place(|| self.world.plane.helm(&args)).unwrap();
        serde_json::from_str::<Value>(&told).unwrap()["info"]["status"].as_str().unwrap().to_owned()
    }
}

/// Writes the chart to a folder of its own.
fn chart(world: &World) -> String {
    let chart = world.plane.directory().join(format!("chart-{}", world.namespace));
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: app\nversion: 0.1.0\n").unwrap();
    fs::write(chart.join("values.yaml"), "active: true\nrevoked: false\n").unwrap();
    fs::write(chart.join("templates/token.yaml"), TOKEN).unwrap();
    chart.display().to_string()
}

/// Runs helm for the release `app` of a chart, and waits until its objects are as they should be.
fn release(world: &World, chart: &str, verb: &[&str], more: &[&str]) -> Result<String, String> {
    let args = [verb, &["app", chart, "--namespace", &world.namespace, "--wait"], more].concat();
    tokio::task::block_in_place(|| world.plane.helm(&args))
}

/// For kstatus, an object without a status is as it should be. So the definitions give each object one.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_for_objects_that_no_operator_has_seen_yet() {
    let world = World::new("helm-waits").await;
    let told = release(&world, &chart(&world), &["install"], &["--timeout", "2s"]).unwrap_err();
    for kind in ["Instance", "ApiToken"] {
        assert!(told.contains(&format!("resource {kind}/")), "{told}");
    }
    assert!(told.contains("not ready. status: InProgress"), "{told}");
}

/// What was asked for is a success, is not rolled back, and stays: each value is refused afterwards.
async fn asked_for(name: &str, value: &str, reason: &str, more: &[&str]) {
    let app = App::new(name).await;
    app.helm(&["upgrade"], &[&["--set", value], more].concat()).unwrap_or_else(|error| panic!("{value}: {error}"));
    assert_eq!(app.status(), "deployed", "{value}");
    app.world.await_reason("ci", reason).await;
    app.world.await_verdict(&app.verifier, &app.value, 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_suspends_its_token_succeeds_and_is_not_rolled_back() {
    asked_for("helm-suspends", "active=false", "Suspended", &[]).await;
    asked_for("helm-suspends", "active=false", "Suspended", &["--rollback-on-failure"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_revokes_its_token_succeeds_and_is_not_rolled_back() {
    asked_for("helm-revokes", "revoked=true", "Revoked", &[]).await;
    asked_for("helm-revokes", "revoked=true", "Revoked", &["--rollback-on-failure"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_whose_token_has_a_fault_fails_at_once() {
    let app = App::new("helm-faults").await;
    let template = TOKEN.replace("  active:", "  expiry:\n    after: 99999d\n  active:");
    fs::write(format!("{}/templates/token.yaml", app.chart), template).unwrap();
    let told = app.helm(&["upgrade"], &[]).unwrap_err();
    assert!(told.contains("Failed") || told.contains("failed"), "{told}");
    app.world.await_reason("ci", "LifetimeExceeded").await;
}
