//! The audit log of a real verifier: its lines, their place, and the ids that join them with those of others.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use controlplane::{Process, free_address};
use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::{KeyValue, any_value::Value as Any},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::transport::server::TcpIncoming;

use crate::harness::{World, process::with_token};

/// A verifier as a process. Its standard output goes to a file of its own.
struct Program {
    process: Process,
    address: SocketAddr,
    probes: SocketAddr,
    output: PathBuf,
}

impl Program {
    /// A verifier that is ready, with these arguments and variables, and without any log.
    async fn start(world: &World, args: &[&str], variables: &[(&str, String)]) -> Self {
        let (address, probes, name) = (free_address().unwrap(), free_address().unwrap(), &world.namespace);
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

    /// Sends a question to a path below the Instance. The answer is its status, its request id and its body.
    async fn question(&self, path: &str, headers: &[(&'static str, &str)], body: &str) -> (u16, String, String) {
        let mut asked = reqwest::Client::new().post(format!("http://{}{path}", self.address)).body(body.to_owned());
        for (name, value) in headers {
            asked = asked.header(*name, *value);
        }
        let answer = asked.send().await.unwrap();
        let (status, id) = (answer.status().as_u16(), answer.headers()["x-request-id"].to_str().unwrap().to_owned());
        (status, id, answer.text().await.unwrap())
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

#[tokio::test]
async fn a_caller_that_hangs_up_while_it_waits_has_a_line() {
    let (world, _) = with_token("hung-up").await;
    let verifier = Program::start(&world, &[], &[]).await;
    let unknown = tokenry::token::format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
    let question = format!(
        "GET /v1/instances/{}/eem/authorize HTTP/1.1\r\nHost: x\r\nX-Forwarded-Method: GET\r\n\
         X-Forwarded-Uri: /left\r\nApi-Token: {}\r\n\r\n",
        world.namespace,
        unknown.expose()
    );
    let last = Mutex::new(None);
    let left = async || {
        let mut caller = TcpStream::connect(verifier.address).await.ok()?;
        caller.write_all(question.as_bytes()).await.ok()?;
        // The caller of the last look hangs up. Its question waits for a second.
        drop(last.lock().unwrap().replace(caller));
        let (_, metrics) = verifier.get("/metrics").await?;
        metrics.contains(r#"protocol="forward-auth",status="499",reason="CallerLeft"} "#).then_some(())
    };
    world.eventually("a question that was left is counted", left).await;
    let lines = verifier.stop(&world).await;
    let line = lines.iter().find(|line| line["reason"] == "CallerLeft").unwrap();
    assert_eq!((&line["status"], &line["path"]), (&json!(499), &json!("/left")));
    assert_eq!(line["instance"], format!("{}/eem", world.namespace));
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
        r#"waiting{waits_for="news"} 0"#.into(),
        r#"waiting{waits_for="body"} 0"#.into(),
        r#"waiting{waits_for="review"} 0"#.into(),
        "audit_dropped_total 0".into(),
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

/// A path, headers and a body; and the status, protocol and reason of the answer.
type FlawedQuestion<'a> = (&'a str, &'a [(&'static str, &'a str)], &'a str, u16, &'a str, &'a str);

#[tokio::test]
async fn each_question_with_a_flaw_is_one_line_and_one_verdict_without_any_credential() {
    let (world, value) = with_token("flawed").await;
    let verifier = Program::start(&world, &["--introspection"], &[]).await;
    let below = |path: &str| format!("/v1/instances/{}/eem/{path}", world.namespace);
    let (review, introspect) = (below("tokenreviews"), below("introspect"));
    let check = "/envoy.service.auth.v3.Authorization/Check";
    let bearer = format!("Bearer {value}");
    let (json, form, grpc) = (
        ("content-type", "application/json"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "application/grpc"),
    );
    let (own, other) = (("authorization", &*bearer), ("authorization", "Basic dTpw"));
    // The verifier reads all of it, so no answer is lost as the connection is closed.
    let long = value.repeat(1000);
    let questions: [FlawedQuestion<'_>; 9] = [
        (&review, &[json], &value, 400, "token-review", "Unreadable"),
        (&review, &[json], &long[..64 * 1024 + 1], 413, "token-review", "TooLong"),
        (&review, &[form], &value, 415, "token-review", "TypeUnsupported"),
        (&introspect, &[form], &value, 401, "introspection", "CallerMissing"),
        (&introspect, &[form, other], &value, 401, "introspection", "CallerMissing"),
        (&introspect, &[form, own, other], &value, 400, "introspection", "CallerUnclear"),
        (&introspect, &[form, own], &value, 401, "introspection", "CallerUnproven"),
        (check, &[grpc], &value, 400, "ext-authz", "Unreadable"),
        (check, &[json], &value, 415, "ext-authz", "TypeUnsupported"),
    ];
    let mut ids = Vec::new();
    for (path, headers, body, wanted, protocol, _) in questions {
        let (status, id, told) = verifier.question(path, headers, body).await;
        let is_grpc = (protocol, wanted) == ("ext-authz", 400);
        assert_eq!(status, if is_grpc { 200 } else { wanted }, "{path} {told}");
        assert!(is_grpc || told.contains("error_description") && !told.contains(&value), "{path} {told}");
        ids.push(id);
    }
    let (status, _) = verifier.ask(&review, &[]).await;
    assert_eq!(status, 405, "a GET");
    let (_, metrics) = verifier.get("/metrics").await.unwrap();
    for (protocol, status, reason, count) in [
        ("token-review", 400, "Unreadable", 1),
        ("token-review", 405, "MethodUnsupported", 1),
        ("introspection", 401, "CallerMissing", 2),
        ("introspection", 401, "CallerUnproven", 1),
        ("introspection", 400, "CallerUnclear", 1),
    ] {
        let line = format!(r#"protocol="{protocol}",status="{status}",reason="{reason}"}} {count}"#);
        assert!(metrics.contains(&line), "{line} is missing from\n{metrics}");
    }
    let lines = verifier.stop(&world).await;
    assert_eq!(lines.len(), questions.len() + 1);
    for ((line, id), (_, _, _, status, protocol, reason)) in lines.iter().zip(&ids).zip(questions) {
        assert_eq!((&line["request_id"], &line["status"]), (&json!(id), &json!(status)), "{line}");
        assert_eq!((&line["protocol"], &line["reason"]), (&json!(protocol), &json!(reason)));
        assert_eq!(line["source"], "127.0.0.1");
    }
    assert!(lines.iter().all(|line| !line.to_string().contains(value.rsplit('_').next().unwrap())));
}

#[tokio::test]
async fn a_scrape_has_every_metric_of_the_verifier_and_none_of_an_instance_that_is_gone() {
    let (world, value) = with_token("scraped").await;
    let verifier = Program::start(&world, &[], &[]).await;
    world.accepts("Instance", "second", json!({})).await;
    let second = format!("/v1/instances/{}/second/authorize", world.namespace);
    let scrape = async || verifier.get("/metrics").await.unwrap().1;
    let series = format!(r#"tokenry_verifier_verdicts_total{{instance="{}/second","#, world.namespace);
    let counted = async || {
        assert_eq!(verifier.ask(&second, &[("api-token", &value)]).await.0, 401);
        scrape().await.contains(&series).then_some(())
    };
    world.eventually("the Instance is known and counted", counted).await;
    let metrics = scrape().await;
    let names: Vec<_> =
        metrics.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(['{', ' ']).next()).collect();
    for name in [
        "tokenry_heard_age_seconds",
        "tokenry_verifier_verdicts_total",
        "tokenry_verifier_duration_seconds_bucket",
        "tokenry_verifier_objects",
        "tokenry_verifier_waiting",
        "tokenry_verifier_audit_dropped_total",
        "tokenry_verifier_ambiguous_ids",
        "tokenry_verifier_unread_policies",
        "tokenry_connections",
        "tokenry_connections_refused_total",
    ] {
        assert!(names.contains(&Some(name)), "{name} is missing from\n{metrics}");
    }
    for kind in ["apitokens", "instances", "serviceaccounts", "accesspolicies"] {
        assert!(metrics.contains(&format!(r#"tokenry_heard_age_seconds{{kind="{kind}"#)), "{kind}\n{metrics}");
        assert!(metrics.contains(&format!(r#"tokenry_verifier_objects{{kind="{kind}"}}"#)), "{kind}\n{metrics}");
    }
    world.delete("Instance", "second").await;
    let gone = async || (!scrape().await.contains(&series)).then_some(());
    world.eventually("its series is gone", gone).await;
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
pub fn attributes(all: &[KeyValue]) -> Value {
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
    let at = free_address().unwrap();
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
    for endpoint in ["ftp://collector:4317", "http://a b"] {
        let (code, message) = told("--audit-to=otlp", endpoint);
        assert!(code == Some(2) && message.contains("--audit-to=otlp: "), "{endpoint}: {code:?} {message}");
        assert!(message.contains("name the collector by OTEL_EXPORTER_OTLP_ENDPOINT"), "{message}");
    }
    for sample in ["0", "1.5", "10%"] {
        let (code, message) = told(&format!("--audit-sample={sample}"), "");
        assert!(code == Some(2) && message.contains("every Nth"), "{sample}: {code:?} {message}");
    }
}
