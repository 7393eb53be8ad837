//! What all fuzz targets share: a verifier in this process, and the properties of its answers.
//!
//! The verifier listens on loopback. It has one Instance and one token, from a source in memory. So each target runs
//! the whole way of a request: the HTTP server, the adapter of a protocol, the door, and the answer.

#[path = "../../tests/shared/sent.rs"]
mod sent;

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, OnceLock},
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
    outside::{Address, SystemClock, hearing::StaleAfter},
    token::{Digest, format},
    verifier::{self, Options, StaleAnswers},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub use sent::Spoken;
use sent::{About, Sent};

/// The verifier, and its callers by HTTP/1 and by HTTP/2.
struct Verifier {
    runtime: Runtime,
    address: SocketAddr,
    callers: [Client<HttpConnector, Body>; 2],
    value: String,
}

/// Objects like those of an API server: an Instance, a token and its account.
fn items(kind: &str, value: &str) -> Vec<Value> {
    let metadata = |name: &str| json!({"namespace": "a", "name": name, "uid": name, "resourceVersion": "1"});
    let api = "tokenry.dev/v1alpha1";
    let record = json!({
        "generation": 1, "id": format::id(value).unwrap(), "sha256": Digest::of(value), "state": "Active",
        "createdAt": "2026-01-01T00:00:00Z", "publishedAt": "2026-01-01T00:00:00Z", "expiresAt": "2999-01-01T00:00:00Z",
    });
    let excluded = json!([{"methods": ["DELETE"], "paths": ["/orders"]}]);
    let object = match kind {
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
    let mut object = object;
    object["apiVersion"] = json!(api);
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
            if watches {
                tokio::time::sleep(Duration::from_secs(5)).await;
                return Ok::<_, Infallible>(Response::new(kube::client::Body::empty()));
            }
            let kind_of = kind.clone();
            let kind = if kind == "namespaces" { "PartialObjectMetadataList" } else { "List" };
            let list = json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
            let refusal =
                json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403});
            let review = |status: Value| json!({"kind": "Review", "spec": {}, "status": status});
            let (status, body) = match &*kind_of {
                "tokenreviews" => (201, review(json!({
                    "authenticated": true, "user": {"username": "u"}, "audiences": ["tokenry.dev/verifier"],
                }))),
                "subjectaccessreviews" => (201, review(json!({"allowed": true}))),
                _ if reads => (200, list),
                _ => (403, refusal),
            };
            let body = kube::client::Body::from(body.to_string().into_bytes());
            Ok(Response::builder().status(status).body(body).unwrap())
        }
    };
    kube::Client::new(tower::service_fn(answer), "a")
}

fn verifier() -> &'static Verifier {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    VERIFIER.get_or_init(|| {
        // A panic of the server's tasks would only close a connection.
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            std::process::abort();
        }));
        let value = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43)).expose().to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serving = runtime.block_on(async { "127.0.0.1:0".parse::<Address>().unwrap().take("--listen").unwrap() });
        let address = serving.address().unwrap();
        let options = Options {
            scope: tokenry::outside::Extent::default(),
            serving: Some(serving),
            secure: None,
            audit: None,
            introspection: true,
            probes: None,
            stale_after: StaleAfter::default(),
            stale_answers: StaleAnswers::default(),
            peers: Vec::new(),
            stop: CancellationToken::new(),
        };
        let client = {
            let _within = runtime.enter();
            source(value.clone())
        };
        runtime.spawn(async move { verifier::run(client, Arc::new(SystemClock), options).await });
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let caller = |http2| Client::builder(TokioExecutor::new()).http2_only(http2).build(HttpConnector::new());
        Verifier { runtime, address, callers: [false, true].map(caller), value }
    })
}

/// Sends the request that these bytes give, and checks the answer. After an odd first byte, the rest is the body.
pub fn judged(spoken: Spoken, bytes: &[u8]) {
    let verifier = verifier();
    // No value is unknown: its request would wait for news.
    let about = About { instance: "a/eem", value: &verifier.value, unknown: "unknown" };
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let sent = if first & 1 == 1 {
        Sent { body: rest.to_vec(), ..sent::of(spoken, &[], about) }
    } else {
        sent::of(spoken, rest, about)
    };
    let Some(request) = sent.request(&format!("http://{}", verifier.address)) else { return };
    // Only HTTP/2 carries gRPC.
    let caller = &verifier.callers[usize::from(spoken == Spoken::ExtAuthz || first & 2 == 2)];
    verifier.runtime.block_on(async {
        let answer =
            caller.request(request.map(Body::from)).await.unwrap_or_else(|error| panic!("{error:?}: {sent:?}"));
        let (head, body) = answer.into_parts();
        let body = to_bytes(Body::new(body), 1 << 20).await.unwrap();
        let status = head.status.as_u16();
        assert!(status < 500 || status == 503, "{status} to {sent:?}");
        if sent.lets_in(status, &body) {
            assert!(sent.holds_the_value, "let in: {sent:?}");
            let is_forwarded = matches!(spoken, Spoken::ForwardAuth | Spoken::IngressNginx);
            let counts = IDENTITY.map(|name| head.headers.get_all(name).iter().count());
            assert!(!is_forwarded || counts == [1; 5], "{counts:?} to {sent:?}");
        }
    });
}

/// Sends these bytes as a whole connection. The server answers or closes it, and lets nobody in.
pub fn connected(bytes: &[u8]) {
    let mut stream = TcpStream::connect(verifier().address).unwrap();
    // The server may close the connection before it has read everything.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.contains("x-tokenry-subject") && !answer.contains("HTTP/1.1 5"), "{answer}");
}
