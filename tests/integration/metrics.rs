//! The metrics of real programs: their names, the series of tokens, and callers that have to prove themselves.

use std::{net::SocketAddr, process::Command};

use controlplane::Process;
use serde_json::json;

use crate::harness::{World, clock::Held};

/// An operator or a verifier as a process of its own, with a port for probes.
pub(crate) struct Program {
    pub(crate) process: Process,
    pub(crate) probes: SocketAddr,
}

impl Program {
    /// The program of this name in the namespace of `world`, with these further arguments and variables.
    pub(crate) async fn start(world: &World, name: &str, args: &[&str], variables: &[(&str, String)]) -> Self {
        let token = if name == "operator" { &world.identities.operator } else { &world.identities.verifier };
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args([name, "--listen", "127.0.0.1:0", "--probes", "0.0.0.0:0", "--namespace", &world.namespace]);
        command.args(args).envs(variables.iter().map(|(name, value)| (name, value)));
        command.env("KUBECONFIG", world.plane.kubeconfig_for(&world.namespace, token).unwrap());
        let log = world.plane.directory().join(format!("{name}-{}.metrics.log", world.namespace));
        let process = Process::start(name, command, &log).unwrap();
        let port = address(world, &process, "probes on http://").await.port();
        let program = Self { process, probes: SocketAddr::from(([127, 0, 0, 1], port)) };
        let ready = async || (program.get("/readyz").await.0 == 200).then_some(());
        world.eventually("the program is ready", ready).await;
        program
    }

    /// The status and the text of the answer to a GET request at the port for probes.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.probes)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The number of a sample. `None`: there is no such sample.
    pub(crate) async fn number(&self, sample: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }
}

/// The address that a log tells after this text.
pub(crate) async fn address(world: &World, process: &Process, after: &str) -> SocketAddr {
    let said = async || {
        let log = process.log();
        log.split_once(after)?.1.split('"').next()?.parse().ok()
    };
    world.eventually("it says its address", said).await
}

/// The names of the metrics in a scrape, each once, without the endings of their samples.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[tokio::test]
async fn a_scrape_of_the_operator_has_what_dashboards_of_the_field_look_at() {
    let world = World::new("scrape").await;
    let operator = Program::start(&world, "operator", &[], &[]).await;
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    let regenerate = json!({"regenerate": {"id": "now"}});
    world.change("ApiToken", "ci", regenerate).await.unwrap();
    world.await_generation("ci", 2).await;
    let counted = async |sample: &str, least: f64| {
        let enough = async || operator.number(sample).await.filter(|number| *number >= least);
        world.eventually(sample, enough).await
    };
    for (sample, least) in [
        (r#"tokenry_rotations_total{event="Issued"}"#, 1.0),
        (r#"tokenry_rotations_total{event="Regenerated"}"#, 1.0),
        (r#"controller_runtime_reconcile_total{controller="apitoken",result="success"}"#, 2.0),
        (r#"controller_runtime_reconcile_time_seconds_count{controller="apitoken"}"#, 2.0),
        (r#"controller_runtime_max_concurrent_reconciles{controller="instance"}"#, 17.0),
        (r#"workqueue_adds_total{name="apitoken",controller="apitoken"}"#, 2.0),
        (r#"workqueue_queue_duration_seconds_count{name="apitoken",controller="apitoken"}"#, 2.0),
        (r#"workqueue_work_duration_seconds_count{name="apitoken",controller="apitoken"}"#, 2.0),
        (r#"rest_client_requests_total{code="200",method="PUT"}"#, 2.0),
        (r#"rest_client_requests_total{code="201",method="POST"}"#, 1.0),
        ("process_cpu_seconds_total", 0.01),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 5.0),
    ] {
        counted(sample, least).await;
    }
    let idle = async || {
        let labels = r#"{name="apitoken",controller="apitoken"}"#;
        let of = async |name: &str| operator.number(&format!("workqueue_{name}{labels}")).await;
        let all =
            [of("depth").await, of("unfinished_work_seconds").await, of("longest_running_processor_seconds").await];
        (all == [Some(0.0); 3]).then_some(())
    };
    world.eventually("nothing waits and nothing runs", idle).await;
    let (_, text) = operator.get("/metrics").await;
    let names = names(&text);
    for name in [
        "tokenry_build_info",
        "tokenry_token_valid",
        "controller_runtime_reconcile_errors",
        "controller_runtime_active_workers",
        "workqueue_retries",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "process_max_fds",
    ] {
        assert_eq!(names.iter().filter(|one| **one == name).count(), 1, "{name} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn each_token_has_series_that_follow_its_status_until_it_is_deleted() {
    let world = World::new("series").await;
    let operator = Program::start(&world, "operator", &[], &[]).await;
    world.accepts("Instance", "eem", json!({})).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "30d"}, "rotation": {"schedule": {"beforeExpiry": "10d"}}});
    world.accepts("ApiToken", "ci", spec).await;
    world.accepts("ApiToken", "wrong", json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "9999d"}})).await;
    world.await_reason("ci", "Active").await;
    world.await_reason("wrong", "LifetimeExceeded").await;
    let series = |metric: &str, name: &str| {
        format!(r#"tokenry_token_{metric}{{namespace="{}",name="{name}"}}"#, world.namespace)
    };
    let is = async |metric: &str, name: &str, wanted: Option<f64>| {
        let series = series(metric, name);
        let agrees = async || (operator.number(&series).await == wanted).then_some(());
        world.eventually(&format!("{series} {wanted:?}"), agrees).await;
    };
    let status = world.token("ci").await.status.unwrap();
    let [expires, rotates] = [status.expires_at, status.rotates_at].map(|at| at.unwrap().0.as_second() as f64);
    is("expiration_timestamp_seconds", "ci", Some(expires)).await;
    is("renewal_timestamp_seconds", "ci", Some(rotates)).await;
    is("valid", "ci", Some(1.0)).await;
    is("ready", "ci", Some(1.0)).await;
    is("expiration_timestamp_seconds", "wrong", None).await;
    is("valid", "wrong", Some(0.0)).await;
    is("ready", "wrong", Some(0.0)).await;
    world.change("ApiToken", "ci", json!({"active": false})).await.unwrap();
    is("valid", "ci", Some(0.0)).await;
    is("ready", "ci", Some(1.0)).await;
    world.delete("ApiToken", "ci").await;
    for metric in ["expiration_timestamp_seconds", "renewal_timestamp_seconds", "valid", "ready"] {
        is(metric, "ci", None).await;
    }
}

#[tokio::test]
async fn without_series_per_token_a_scrape_names_none() {
    let world = World::new("no-series").await;
    let operator = world.operator(&Held::default()).await;
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    assert!(operator.get("/metrics").await.1.contains("tokenry_token_valid{"));
    operator.stop().await;
    let switched = Program::start(&world, "operator", &["--metrics-per-token=false"], &[]).await;
    let seen = async || {
        switched.number(r#"workqueue_work_duration_seconds_count{name="apitoken",controller="apitoken"}"#).await
    };
    world.eventually("the token was looked at", async || seen().await.filter(|count| *count > 0.0)).await;
    let (_, text) = switched.get("/metrics").await;
    assert!(!text.contains("tokenry_token_") && text.contains("tokenry_build_info"), "{text}");
}
