//! Traces of real programs, as a collector gets them.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use jiff::SignedDuration;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::{Span, span::SpanKind},
};
use serde_json::{Value, json};
use tokenry::outside::{
    Clock, SystemClock, SystemEntropy,
    issuer::{KeyedCertificate, Period},
    traces::SpanAttribute,
};
use tonic::transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming};

use crate::{
    audit::attributes,
    harness::{World, process::with_token},
    metrics::{Program, address},
};

/// A collector that keeps all requests.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        asked: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.lock().unwrap().push(asked.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// A collector, and its address.
    async fn start() -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        (Self::serving(listener, Server::builder()), at)
    }

    /// The same by HTTPS, with the certificate in PEM form of an authority of its own.
    async fn secure() -> (Self, String, String) {
        let now = SystemClock.now();
        let period = Period { from: now, until: now.checked_add(SignedDuration::from_hours(24)).unwrap() };
        let authority = KeyedCertificate::authority(&SystemEntropy, period).unwrap();
        let pair = authority.sign(&SystemEntropy, &["localhost".to_owned()], period).unwrap();
        let identity = Identity::from_pem(&pair.certificate, &*pair.key);
        let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        (Self::serving(listener, server), at, authority.certificate)
    }

    fn serving(listener: tokio::net::TcpListener, mut server: Server) -> Self {
        let collector = Self::default();
        let service = server.add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(service.serve_with_incoming(TcpIncoming::from(listener)));
        collector
    }

    /// The spans so far, each with the name of its program and its attributes.
    fn spans(&self) -> Vec<(String, Span, Value)> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let spans = resources.flat_map(|of| {
            let service = attributes(&of.resource.as_ref().unwrap().attributes)["service.name"].clone();
            let service = service.as_str().unwrap().to_owned();
            of.scope_spans.iter().flat_map(|of| &of.spans).map(move |span| (service.clone(), span.clone()))
        });
        spans.map(|(service, span)| (service, span.clone(), attributes(&span.attributes))).collect()
    }
}

/// An id of a span or of a trace, as log lines have it.
fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn each_pass_is_a_span_whose_trace_is_in_its_log_lines() {
    let world = World::new("traced-passes").await;
    let (collector, endpoint) = Collector::start().await;
    let operator = Program::start(&world, "operator", &[&format!("--otlp-endpoint={endpoint}")], &[]).await;
    world.smallest().await;
    let value = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    let log = operator.process.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let issued = { lines }.find(|line| line["event"] == "Issued").unwrap();
    let of_pass = async || collector.spans().into_iter().find(|(_, span, _)| hex(&span.trace_id) == issued["trace_id"]);
    let (service, span, told) = world.eventually("the collector has the span of that pass", of_pass).await;
    assert_eq!((&*service, &*span.name, span.kind), ("tokenry-operator", "pass ApiToken", SpanKind::Internal as i32));
    assert!(span.parent_span_id.is_empty() && span.end_time_unix_nano > span.start_time_unix_nano);
    let wanted = json!({
        "tokenry.kind": "ApiToken", "tokenry.namespace": world.namespace, "tokenry.name": "ci",
        "tokenry.reconcile_id": issued["reconcileID"], "tokenry.result": "success",
    });
    assert_eq!(told, wanted);
    assert!(!format!("{:?}", collector.spans()).contains(value.rsplit('_').next().unwrap()));
    assert_eq!(operator.number("tokenry_spans_dropped_total").await, Some(0.0));
}

#[tokio::test]
async fn each_decision_is_a_span_below_that_of_its_caller_and_none_has_a_credential() {
    let (world, value) = with_token("traced").await;
    let (collector, endpoint) = Collector::start().await;
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
    let args = ["--trace-sample=2", "--trace-follow-proxy"];
    let verifier = Program::start(&world, "verifier", &args, &variables).await;
    let at = address(&world, &verifier.process, "listening on http://").await;
    let ask = async |instance: &str, headers: &[(&str, String)]| {
        let url = format!("http://{at}/v1/instances/{}/{instance}/authorize?a={value}", world.namespace);
        let asked =
            headers.iter().fold(reqwest::Client::new().get(url), |asked, (name, value)| asked.header(*name, value));
        asked.send().await.unwrap().status().as_u16()
    };
    let (token, path) = (("api-token", value.clone()), ("x-forwarded-uri", format!("/x/{value}")));
    let trace = |flags: &str| ("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"));
    assert_eq!(ask("eem", &[token.clone(), path.clone(), trace("01"), ("x-request-id", "7".into())]).await, 200);
    assert_eq!(ask("eem", &[token.clone(), trace("00"), ("x-request-id", "left-out".into())]).await, 200);
    for id in ["first", "second"] {
        assert_eq!(ask(&value, &[token.clone(), path.clone(), ("x-request-id", id.into())]).await, 401);
    }
    let both = async || Some(collector.spans()).filter(|spans| spans.len() >= 2);
    let spans = world.eventually("the collector has both", both).await;
    let [(service, allowed, told), (_, alone, refused)] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((&**service, &*allowed.name), ("tokenry-verifier", "decision forward-auth"));
    assert_eq!((hex(&allowed.trace_id), hex(&allowed.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    let wanted = json!({
        "tokenry.protocol": "forward-auth", "tokenry.instance": format!("{}/eem", world.namespace),
        "http.response.status_code": 200, "tokenry.reason": "Allowed", "tokenry.request_id": "7",
        "tokenry.token": format!("{}/ci", world.namespace),
    });
    assert_eq!((told, allowed.kind), (&wanted, SpanKind::Server as i32));
    assert!(alone.parent_span_id.is_empty() && hex(&alone.trace_id) != TRACE);
    assert_eq!((&refused["tokenry.request_id"], &refused["tokenry.instance"]), (&json!("first"), &json!("")));
    for (_, span, told) in &spans {
        let known = SpanAttribute::ALL.map(SpanAttribute::as_str);
        assert!(told.as_object().unwrap().keys().all(|key| known.contains(&&**key)), "{told}");
        assert!(!format!("{span:?}").contains(value.rsplit('_').next().unwrap()), "{span:?}");
    }
}

#[tokio::test]
async fn a_collector_by_https_is_verified_by_a_given_authority_or_the_roots_of_the_system() {
    let (world, value) = with_token("traced-tls").await;
    let (collector, endpoint, authority) = Collector::secure().await;
    let (_, _, other) = Collector::secure().await;
    let [authority, other] = [("ca", authority), ("other", other)].map(|(name, pem)| {
        let file = world.plane.directory().join(format!("{}-{name}", world.namespace));
        fs::write(&file, pem).unwrap();
        file.display().to_string()
    });
    for (variable, file, is_trusted) in [
        ("SSL_CERT_FILE", &other, false),
        ("SSL_CERT_FILE", &authority, true),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &other, false),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority, true),
    ] {
        collector.0.lock().unwrap().clear();
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.clone()), (variable, file.clone())];
        let verifier = Program::start(&world, "verifier", &[], &variables).await;
        let at = address(&world, &verifier.process, "listening on http://").await;
        let url = format!("http://{at}/v1/instances/{}/eem/authorize", world.namespace);
        assert_eq!(reqwest::Client::new().get(url).header("api-token", &value).send().await.unwrap().status(), 200);
        let ended = async || {
            let refused = verifier.process.log().contains("cannot send traces to the collector");
            (refused || !collector.spans().is_empty()).then_some(refused)
        };
        let refused = world.eventually("the span is sent or refused", ended).await;
        assert_eq!(refused, !is_trusted, "{variable}: {}", verifier.process.log());
        assert_eq!(collector.spans().is_empty(), !is_trusted, "{variable}");
    }
}

#[tokio::test]
async fn no_variable_and_no_flag_means_no_trace_and_an_exporter_that_is_none_too() {
    let (world, value) = with_token("untraced").await;
    let (collector, endpoint) = Collector::start().await;
    let none = ("OTEL_TRACES_EXPORTER", "none".to_owned());
    for variables in [&[][..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), none]] {
        let verifier = Program::start(&world, "verifier", &[], variables).await;
        let at = address(&world, &verifier.process, "listening on http://").await;
        let url = format!("http://{at}/v1/instances/{}/eem/authorize", world.namespace);
        assert_eq!(reqwest::Client::new().get(url).header("api-token", &value).send().await.unwrap().status(), 200);
        assert_eq!(verifier.number("tokenry_spans_dropped_total").await, None, "there is no exporter");
    }
    assert!(collector.spans().is_empty());
}
