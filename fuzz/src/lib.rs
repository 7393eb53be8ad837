//! What all fuzz targets share: a verifier in this process, and the properties of its answers.
//!
//! The verifier listens on loopback. It has one Instance and one token, from a source in memory. So each target runs
//! the whole way of a request: the HTTP server, the adapter of a protocol, the door, and the answer.

#[path = "../../tests/shared/sent.rs"]
mod sent;

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::body::{Body, to_bytes};
use http::{Method, Request, Response};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokenry::{
    access::header::IDENTITY,
    outside::{Address, Extent, SystemClock, hearing::StaleAfter, lines::Sink},
    token::{Digest, format},
    verifier::{self, AuditOptions, Clients, Options, Sample, StaleAnswers, WhenFull},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use sent::About;
pub use sent::Spoken;

/// The verifier, and its callers by HTTP/1 and by HTTP/2. All of them run in one thread, so that nothing waits for
/// another one to be woken.
struct Verifier {
    runtime: Runtime,
    address: SocketAddr,
    callers: [Client<HttpConnector, Body>; 2],
    value: String,
    unknown: String,
}

/// True once the source answers no read any more.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Objects like those of an API server: an Instance, a token and its account.
fn items(kind: &str, value: &str) -> Vec<Value> {
    let metadata = |name: &str| json!({"namespace": "a", "name": name, "uid": name, "resourceVersion": "1"});
    let record = json!({
        "generation": 1, "id": format::id(value).unwrap(), "sha256": Digest::of(value), "state": "Active",
        "createdAt": "2026-01-01T00:00:00Z", "publishedAt": "2026-01-01T00:00:00Z", "expiresAt": "2999-01-01T00:00:00Z",
    });
    let excluded = json!([{"methods": ["DELETE"], "paths": ["/orders"]}]);
    let mut object = match kind {
        "instances" => {
            json!({"kind": "Instance", "metadata": metadata("eem"), "spec": {"api": {"excluded": excluded}}})
        }
        "serviceaccounts" => json!({
            "kind": "ServiceAccount", "metadata": metadata("x"),
            "spec": {"instanceRef": {"name": "eem"}, "owner": "user:alice"},
        }),
        "apitokens" => json!({
            "kind": "ApiToken", "metadata": metadata("x"), "spec": {"instanceRef": {"name": "eem"}},
            "status": {"account": {"name": "x", "uid": "x"}, "records": [record]},
        }),
        _ => return Vec::new(),
    };
    object["apiVersion"] = json!("tokenry.dev/v1alpha1");
    vec![object]
}

/// A client of the source in memory. Watches stay open, each caller may introspect, and other writes are refused.
fn source(value: String) -> kube::Client {
    let answer = move |request: Request<kube::client::Body>| {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch="));
        let kind = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let reads = request.method() == Method::GET;
        let items = items(&kind, &value);
        async move {
            if reads && (watches || SILENT.load(Ordering::SeqCst)) {
                std::future::pending::<()>().await;
            }
            let list_kind = if kind == "namespaces" { "PartialObjectMetadataList" } else { "List" };
            let list =
                json!({"kind": list_kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
            let refusal =
                json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403});
            let caller =
                json!({"authenticated": true, "user": {"username": "u"}, "audiences": ["tokenry.dev/verifier"]});
            let review = |status: Value| json!({"spec": {}, "status": status});
            let (status, body) = match &*kind {
                "tokenreviews" => (201, review(caller)),
                "subjectaccessreviews" => (201, review(json!({"allowed": true}))),
                _ if reads => (200, list),
                _ => (403, refusal),
            };
            let body = kube::client::Body::from(body.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    };
    kube::Client::new(tower::service_fn(answer), "a")
}

/// The end of the audit log. No line holds the value of the token.
struct Watched(String);

impl Write for Watched {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let lines_text = String::from_utf8_lossy(lines);
        assert!(!lines_text.contains(&self.0), "the audit log holds the value: {lines_text}");
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn audit(value: &str) -> AuditOptions {
    let sink = Sink::text(Box::new(Watched(value.to_owned()))).unwrap();
    AuditOptions { when_full: WhenFull::Block, sample: Sample::default(), sink }
}

impl Verifier {
    /// Starts the verifier. It does not wait for news of a token, because its source falls silent.
    fn start() -> Self {
        let [value, unknown] =
            ["i", "j"].map(|letter| format::assemble("tkn", &letter.repeat(16), &"s".repeat(43)).expose().to_owned());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let serving = runtime.block_on(async { "127.0.0.1:0".parse::<Address>().unwrap().take("--listen").unwrap() });
        let address = serving.address().unwrap();
        let options = Options {
            scope: Extent::default(),
            serving: Some(serving),
            secure: None,
            audit: Some(audit(&value)),
            introspection: true,
            probes: None,
            stale_after: StaleAfter::default(),
            stale_answers: StaleAnswers::default(),
            secure_metrics: None,
            traces: None,
            peers: Vec::new(),
            stop: CancellationToken::new(),
        };
        let client = {
            let _within = runtime.enter();
            source(value.clone())
        };
        let clients = Clients { watching: client.clone(), asking: client };
        runtime.spawn(async move { verifier::run(clients, Arc::new(SystemClock), options).await });
        runtime.block_on(async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        let mut connector = HttpConnector::new();
        // Otherwise the kernel may hold a body back until the head is acknowledged, up to 40 ms.
        connector.set_nodelay(true);
        let caller = |http2| Client::builder(TokioExecutor::new()).http2_only(http2).build(connector.clone());
        let verifier = Self { runtime, address, callers: [false, true].map(caller), value, unknown };
        SILENT.store(true, Ordering::SeqCst);
        while !verifier.is_unsure() {}
        verifier
    }

    /// True if the verifier answers an unknown token that it cannot decide.
    fn is_unsure(&self) -> bool {
        let url = format!("http://{}/v1/instances/a/eem/authorize", self.address);
        let request = Request::get(url).header("api-token", &self.unknown).body(Body::empty()).unwrap();
        self.runtime.block_on(self.callers[0].request(request)).unwrap().status() == 503
    }
}

fn verifier() -> &'static Verifier {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    VERIFIER.get_or_init(Verifier::start)
}

/// Starts the verifier. A panic in it ends the process, because the server would only close a connection.
pub fn begin() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::abort();
    }));
    verifier();
}

/// Sends the request that these bytes give, and checks the answer. True if the request is let in. An odd first byte
/// sends it by HTTP/2.
pub fn judged(spoken: Spoken, bytes: &[u8]) -> bool {
    let verifier = verifier();
    let about = About { instance: "a/eem", value: &verifier.value, unknown: &verifier.unknown, caller: "kubernetes" };
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let sent = sent::of(spoken, rest, about);
    let Some(request) = sent.request(&format!("http://{}", verifier.address)) else { return false };
    // Only HTTP/2 carries gRPC.
    let caller = &verifier.callers[usize::from(spoken == Spoken::ExtAuthz || first & 1 == 1)];
    let (status, headers, body) = verifier.runtime.block_on(async {
        let answer =
            caller.request(request.map(Body::from)).await.unwrap_or_else(|error| panic!("{error:?}: {sent:?}"));
        let (head, body) = answer.into_parts();
        (head.status.as_u16(), head.headers, to_bytes(Body::new(body), 1 << 20).await.unwrap())
    });
    assert!(status < 500 || status == 503, "{status} to {sent:?}");
    let is_let_in = sent.lets_in(status, &body);
    if is_let_in {
        assert!(sent.holds_the_value, "let in: {sent:?}");
        let counts = IDENTITY.map(|name| headers.get_all(name).iter().count());
        assert!(!is_forwarded(spoken) || counts == [1; 5], "{counts:?} to {sent:?}");
    }
    is_let_in
}

fn is_forwarded(spoken: Spoken) -> bool {
    matches!(spoken, Spoken::ForwardAuth | Spoken::IngressNginx)
}

/// Sends these bytes as a whole connection. The server answers or closes it, and lets nobody in without the value.
pub fn connected(bytes: &[u8]) {
    let verifier = verifier();
    let answer = verifier.runtime.block_on(async {
        let mut stream = TcpStream::connect(verifier.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        // The server may close the connection before it has read everything.
        let sent = async {
            write.write_all(bytes).await?;
            write.shutdown().await
        };
        let _ = tokio::join!(sent, read.read_to_end(&mut answer));
        answer
    });
    let answer = String::from_utf8_lossy(&answer);
    let holds_the_value = String::from_utf8_lossy(bytes).contains(&verifier.value);
    assert!(holds_the_value || !answer.contains("x-tokenry-subject"), "{answer}");
    assert!(!answer.contains("HTTP/1.1 5"), "{answer}");
}
