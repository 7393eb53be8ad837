//! A proxy in front of the API server. It refuses some requests about Secrets, and garbles some answers.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{StreamExt, stream};
use http::{Method, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The values that the proxy has seen, and its counters.
#[derive(Default)]
pub struct Seen {
    values: Mutex<BTreeSet<String>>,
    reads: AtomicUsize,
    writes: AtomicUsize,
    watches: AtomicUsize,
    garbled: AtomicUsize,
}

impl Seen {
    /// All token values that the operator has sent, even in refused requests.
    pub fn values(&self) -> BTreeSet<String> {
        self.values.lock().unwrap().clone()
    }

    /// The number of refused requests and garbled answers.
    pub fn garbled(&self) -> usize {
        self.garbled.load(Ordering::SeqCst)
    }

    fn learn(&self, body: &[u8]) {
        let token = serde_json::from_slice::<Value>(body)
            .ok()
            .and_then(|body| body["data"]["token"].as_str().map(str::to_owned));
        let value = token.and_then(|token| STANDARD.decode(token).ok()).and_then(|value| String::from_utf8(value).ok());
        self.values.lock().unwrap().extend(value);
    }
}

#[derive(Clone)]
struct Proxy {
    client: Client,
    seen: Arc<Seen>,
}

/// Starts a proxy that uses `client` for the API server. Returns its URL and its counters.
pub async fn start(client: Client) -> (String, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let proxy = Proxy { client, seen: seen.clone() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(forward).with_state(proxy);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

async fn forward(State(proxy): State<Proxy>, request: Request) -> Response {
    let about_secrets = request.uri().path().contains("/secrets");
    let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let writes = request.method() != Method::GET;
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, 16 << 20).await.unwrap();
    // The client adds its own authorization, and cannot decompress answers.
    parts.headers.remove(http::header::AUTHORIZATION);
    parts.headers.remove(http::header::HOST);
    parts.headers.remove(http::header::ACCEPT_ENCODING);
    let inner = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    if !about_secrets {
        return proxy.client.send(inner).await.unwrap().map(Body::new);
    }
    if writes {
        proxy.seen.learn(&body);
    }
    let turn = |count: &AtomicUsize, of| count.fetch_add(1, Ordering::SeqCst) % of;
    // Only some requests are disturbed, so that the operator makes progress.
    match (watches, writes) {
        (true, _) if turn(&proxy.seen.watches, 2) == 1 => return watched(&proxy, inner).await,
        (false, false) if turn(&proxy.seen.reads, 4) == 3 => return truncated(&proxy, inner).await,
        (false, true) => match turn(&proxy.seen.writes, 8) {
            1 => return proxy.refused(422, &body),
            3 => return proxy.refused(500, &body),
            5 => {
                // The write is done. The answer is not valid JSON, and contains everything that was sent.
                drop(proxy.client.send(inner).await.unwrap());
                return proxy.answer(200, [b"{\"kind\":".as_slice(), &body].concat());
            }
            7 => {
                let everything = proxy.everything(&body);
                let odd = json!({"kind": "Secret", "metadata": everything, "data": everything});
                return proxy.answer(200, odd.to_string());
            }
            _ => {}
        },
        _ => {}
    }
    proxy.client.send(inner).await.unwrap().map(Body::new)
}

/// Half of the API server's answer, and then all values that the proxy has seen.
async fn truncated(proxy: &Proxy, request: http::Request<kube::client::Body>) -> Response {
    let (parts, body) = proxy.client.send(request).await.unwrap().into_parts();
    let whole = to_bytes(Body::new(body), 16 << 20).await.unwrap();
    let half = [&whole[..whole.len() / 2], proxy.everything(&[]).as_bytes()].concat();
    proxy.answer(parts.status.as_u16(), half)
}

/// A watch that begins with an event that cannot be parsed. It ends after two seconds.
async fn watched(proxy: &Proxy, request: http::Request<kube::client::Body>) -> Response {
    let answer = proxy.client.send(request).await.unwrap();
    proxy.seen.garbled.fetch_add(1, Ordering::SeqCst);
    let everything = proxy.everything(&[]);
    let event = json!({"type": "MODIFIED", "object": {"kind": "Secret", "metadata": everything, "data": everything}});
    let start = stream::iter([Ok::<_, axum::Error>(Bytes::from(format!("{event}\n")))]);
    let rest = Body::new(answer.into_body()).into_data_stream();
    let end = Box::pin(tokio::time::sleep(Duration::from_secs(2)));
    Response::new(Body::from_stream(start.chain(rest.take_until(end))))
}

impl Proxy {
    /// All values that the proxy has seen, plain and in base64, and the body of the request.
    fn everything(&self, body: &[u8]) -> String {
        let values: Vec<_> =
            self.seen.values().into_iter().flat_map(|value| [STANDARD.encode(&value), value]).collect();
        format!("{} {}", values.join(" "), String::from_utf8_lossy(body))
    }

    fn refused(&self, code: u16, body: &[u8]) -> Response {
        let message = format!("cannot take {}", self.everything(body));
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Invalid", "message": message});
        self.answer(code, status.to_string())
    }

    fn answer(&self, code: u16, body: impl Into<Body>) -> Response {
        self.seen.garbled.fetch_add(1, Ordering::SeqCst);
        let mut answer = Response::new(body.into());
        *answer.status_mut() = StatusCode::from_u16(code).unwrap();
        answer
    }
}
