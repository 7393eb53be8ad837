//! The audit log of a real verifier: its lines, their place, and the ids that join them with those of others.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use controlplane::Process;
use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::{KeyValue, any_value::Value as Any},
};
use serde_json::{Value, json};
use tonic::transport::server::TcpIncoming;

use crate::harness::{World, process::with_token};

/// A verifier as a process. Its standard output goes to a file of its own.
struct Program {
    process: Process,
    address: SocketAddr,
    probes: SocketAddr,
    output: PathBuf,
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Program {
    /// A verifier that is ready, with these arguments and variables, and without any log.
    async fn start(world: &World, args: &[&str], variables: &[(&str, String)]) -> Self {
        let (address, probes, name) = (free(), free(), &world.namespace);
        let output = world.plane.directory().join(format!("{name}.audit"));
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" >\"$OUTPUT\"", env!("CARGO_BIN_EXE_tokenry"), "verifier"]);
        command.args(["--listen", &address.to_string(), "--probes", &probes.to_string()]);
        command.args(["--namespace", name, "--log-level", "off"]).args(args);
        command.env("OUTPUT", &output).envs(variables.iter().map(|(name, value)| (name, value)));
        command.env("KUBECONFIG", world.plane.kubeconfig_for(name, &world.identities.verifier).unwrap());
        let log = world.plane.directory().join(format!("{name}.verifier.log"));
        let process = Process::start("verifier", command, &log).unwrap();
        let program = Self { process, address, probes, output };
        let ready = async || program.get("/readyz").await.filter(|(status, _)| *status == 200).map(|_| ());
        world.eventually("the verifier is ready", ready).await;
        program
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://{}{path}", self.probes)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Asks about a request of a caller. The answer is its status and its request id.
    async fn ask(&self, path: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let asked = reqwest::Client::new().get(format!("http://{}{path}", self.address)).headers(headers);
        let answer = asked.send().await.unwrap();
        (answer.status().as_u16(), answer.headers()["x-request-id"].to_str().unwrap().to_owned())
    }

    /// Stops the verifier by SIGTERM. Returns the lines of its standard output.
    async fn stop(mut self, world: &World) -> Vec<Value> {
        let pid = self.process.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        while self.process.is_running() {
            tokio::task::yield_now().await;
        }
        let text = fs::read_to_string(&self.output).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{}: {text}", world.namespace);
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn each_decision_is_one_line_on_standard_output_whatever_the_log_level() {
    let (world, value) = with_token("audited").await;
    let verifier = Program::start(&world, &[], &[]).await;
    let (namespace, token) = (&world.namespace, ("api-token", &*value));
    let path = format!("/v1/instances/{namespace}/eem/authorize");
    let (uri, method) = (("x-forwarded-uri", "/orders/7?secret=1"), ("x-forwarded-method", "GET"));
    let (id, trace) = (("x-request-id", "a.B-7_"), ("traceparent", TRACE));
    let source = ("x-forwarded-for", "192.0.2.66, 2001:db8::1");
    assert_eq!(verifier.ask(&path, &[token, uri, method, id, trace, source]).await, (200, "a.B-7_".into()));
    let odd = ("x-forwarded-uri", "/a\"},{\"status\":200,\tb\\");
    let (status, made) = verifier.ask(&path, &[odd, method, ("x-request-id", "a b"), ("traceparent", "x")]).await;
    assert_eq!(status, 401);
    let hidden = format!("/x/{value}/y?z={value}");
    assert_eq!(verifier.ask(&path, &[token, ("x-forwarded-uri", &hidden), method]).await.0, 200);
    let nowhere = format!("/v1/instances/{namespace}/%0A%22nosuch/authorize");
    assert_eq!(verifier.ask(&nowhere, &[("api-token", "made up")]).await.0, 401);
    assert_eq!(verifier.ask(&path, &[("x-forwarded-uri", "/.tokenry/probe"), method]).await.0, 401);

    let (_, metrics) = verifier.get("/metrics").await.unwrap();
    for line in [
        format!(
            r#"verdicts_total{{instance="{namespace}/eem",protocol="forward-auth",status="200",reason="Allowed"}} 2"#
        ),
        format!(
            r#"verdicts_total{{instance="{namespace}/eem",protocol="forward-auth",status="401",reason="Missing"}} 1"#
        ),
        r#"verdicts_total{instance="",protocol="forward-auth",status="401",reason="Malformed"} 1"#.into(),
        r#"duration_seconds_count{protocol="forward-auth"} 4"#.into(),
        r#"objects{kind="instances"} 1"#.into(),
        "waiting{} 0".into(),
        "audit_dropped_total{} 0".into(),
    ] {
        assert!(metrics.contains(&format!("tokenry_verifier_{line}\n")), "{line} is missing from\n{metrics}");
    }

    let lines = verifier.stop(&world).await;
    let [allowed, missing, quiet, nosuch] = &lines[..] else { panic!("{lines:?}") };
    let account = format!("{namespace}/ci");
    let expected = json!({
        "log": "audit", "time": allowed["time"], "status": 200, "reason": "Allowed",
        "instance": format!("{namespace}/eem"), "protocol": "forward-auth", "method": "GET", "path": "/orders/7",
        "source": "2001:db8::1", "request_id": "a.B-7_", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "subject": format!("account:{account}"), "account": account, "token": format!("{namespace}/ci"),
        "token_id": tokenry::token::format::id(&value).unwrap(), "organization": allowed["organization"],
    });
    assert_eq!(allowed, &expected);
    assert!(allowed["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!((&missing["status"], &missing["reason"]), (&json!(401), &json!("Missing")));
    assert_eq!((&missing["source"], &missing["request_id"]), (&json!("127.0.0.1"), &json!(made)));
    assert_eq!((missing["path"].as_str().unwrap(), missing.get("trace_id")), ("/a\"},{\"status\":200,\\tb\\", None));
    assert_eq!(quiet["path"], "/x/[token]/y");
    assert_eq!(nosuch["instance"], format!("{namespace}/%0A%22nosuch"));
    assert!(lines.iter().all(|line| !line.to_string().contains(value.rsplit('_').next().unwrap())));
}

#[tokio::test]
async fn a_sample_leaves_out_permitted_requests_alone_and_off_means_no_line() {
    let (world, value) = with_token("sampled").await;
    let path = format!("/v1/instances/{}/eem/authorize", world.namespace);
    let ask = async |verifier: &Program| {
        for _ in 0..10 {
            assert_eq!(verifier.ask(&path, &[("api-token", &value)]).await.0, 200);
            assert_eq!(verifier.ask(&path, &[]).await.0, 401);
        }
    };
    let sampled = Program::start(&world, &["--audit-sample=5", "--audit=block"], &[]).await;
    ask(&sampled).await;
    let lines = sampled.stop(&world).await;
    let count = |status: u16| lines.iter().filter(|line| line["status"] == status).count();
    assert_eq!((count(200), count(401), lines.len()), (2, 10, 12));
    let off = Program::start(&world, &["--audit=off"], &[]).await;
    ask(&off).await;
    let (_, metrics) = off.get("/metrics").await.unwrap();
    assert!(metrics.contains(r#"status="200",reason="Allowed"} 10"#), "{metrics}");
    assert_eq!(off.stop(&world).await, Vec::<Value>::new());
}

/// A collector that keeps all requests.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportLogsServiceRequest>>>);

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        asked: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        self.0.lock().unwrap().push(asked.into_inner());
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}

/// Attributes with a text or a number, as an object.
fn attributes(all: &[KeyValue]) -> Value {
    let of = |one: &KeyValue| match one.value.clone().and_then(|value| value.value) {
        Some(Any::StringValue(text)) => (one.key.clone(), json!(text)),
        Some(Any::IntValue(number)) => (one.key.clone(), json!(number)),
        other => panic!("{}: {other:?}", one.key),
    };
    Value::Object(all.iter().map(of).collect())
}

#[tokio::test]
async fn a_collector_gets_a_record_for_each_decision_also_if_it_starts_later_than_the_verifier() {
    let (world, value) = with_token("collected").await;
    let at = free();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{at}"));
    let verifier = Program::start(&world, &["--audit-to=otlp"], &[endpoint]).await;
    let path = format!("/v1/instances/{}/eem/authorize", world.namespace);
    assert_eq!(verifier.ask(&path, &[("api-token", &value), ("traceparent", TRACE)]).await.0, 200);
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let collector = Collector::default();
    let service = tonic::transport::Server::builder().add_service(LogsServiceServer::new(collector.clone()));
    let serving = tokio::spawn(service.serve_with_incoming(TcpIncoming::from(listener)));
    assert_eq!(verifier.ask(&path, &[]).await.0, 401);
    assert_eq!(verifier.stop(&world).await, Vec::<Value>::new(), "standard output has none of them");
    serving.abort();
    let sent = collector.0.lock().unwrap();
    let all: Vec<_> = sent.iter().flat_map(|request| &request.resource_logs).collect();
    let named = attributes(&all[0].resource.as_ref().unwrap().attributes);
    assert_eq!(named["service.name"], "tokenry-verifier");
    let records: Vec<_> = all.iter().flat_map(|of| &of.scope_logs).flat_map(|of| &of.log_records).collect();
    let [allowed, missing] = &records[..] else { panic!("{records:?}") };
    assert_eq!(allowed.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert!(allowed.time_unix_nano > 0 && allowed.event_name == "tokenry.verifier.decision");
    let told = attributes(&allowed.attributes);
    assert_eq!((&told["status"], &told["reason"]), (&json!(200), &json!("Allowed")));
    assert_eq!(told["account"], format!("{}/ci", world.namespace));
    assert_eq!(attributes(&missing.attributes)["reason"], "Missing");
    assert!(!format!("{records:?}").contains(value.rsplit('_').next().unwrap()));
}

#[test]
fn what_cannot_be_an_audit_log_is_told_at_the_start() {
    let told = |arg: &str, endpoint: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(["verifier", "--listen", "127.0.0.1:0", "--probes", "127.0.0.1:0", arg]);
        let done = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    for endpoint in ["https://collector:4317", "http://a b", "collector:4317"] {
        let (code, message) = told("--audit-to=otlp", endpoint);
        assert!(code == Some(2) && message.contains("--audit-to=otlp: "), "{endpoint}: {code:?} {message}");
        assert!(message.contains("name the collector by OTEL_EXPORTER_OTLP_ENDPOINT"), "{message}");
    }
    for sample in ["0", "1.5", "10%"] {
        let (code, message) = told(&format!("--audit-sample={sample}"), "");
        assert!(code == Some(2) && message.contains("every Nth"), "{sample}: {code:?} {message}");
    }
}
