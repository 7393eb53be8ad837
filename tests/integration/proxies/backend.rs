//! The API behind a proxy under test. It refuses a request that lacks an identity header, as the documentation asks of
//! an API, and remembers each request.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::harness::api::{IDENTITY, Seen, told};

/// The header by which a case marks its requests.
pub const CASE: &str = "x-case";
/// The status of the API's refusal. No proxy and no verifier answers with it.
pub const UNPROVED: StatusCode = StatusCode::MISDIRECTED_REQUEST;

/// The API, and all requests that reached it.
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Backend {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Seen>>>::default());
        let router = Router::new().fallback(answer).with_state(seen.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, seen }
    }

    /// All requests of a case so far.
    pub fn seen(&self, case: &str) -> Vec<Seen> {
        let all = self.seen.lock().unwrap();
        all.iter().filter(|seen| seen.get(CASE).is_some_and(|cases| cases == &[case])).cloned().collect()
    }

    /// All requests so far.
    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// True if each identity header is there once. Only then the API may believe them.
pub fn is_proved(seen: &Seen) -> bool {
    told(seen).iter().all(|values| values.len() == 1)
}

/// True if all identity headers are there and empty: `api.unguarded` let the request through.
pub fn is_nobody(seen: &Seen) -> bool {
    told(seen) == IDENTITY.map(|_| vec![String::new()])
}

async fn answer(State(all): State<Arc<Mutex<Vec<Seen>>>>, mut request: Request) -> Response {
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let upgraded = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let mut seen = all_of(&parts.headers);
    let body = to_bytes(body, 1 << 20).await.unwrap();
    for (name, value) in [
        (":method", parts.method.to_string()),
        (":path", parts.uri.to_string()),
        (":body", String::from_utf8(body.to_vec()).unwrap()),
    ] {
        seen.insert(name.into(), vec![value]);
    }
    all.lock().unwrap().push(seen.clone());
    let answer = Response::builder();
    if !is_proved(&seen) {
        return answer.status(UNPROVED).body(Body::from("an identity header is missing\n")).unwrap();
    }
    let (Some(upgrade), Some(upgraded)) = (upgrade, upgraded) else {
        return answer.body(Body::from(serde_json::to_string(&seen).unwrap())).unwrap();
    };
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            stream.write_all(&piece[..read]).await.unwrap();
        }
    });
    let answer = answer.status(StatusCode::SWITCHING_PROTOCOLS).header(header::UPGRADE, upgrade);
    answer.header(header::CONNECTION, "Upgrade").body(Body::empty()).unwrap()
}

/// All values of each header.
fn all_of(headers: &HeaderMap) -> Seen {
    let mut seen = Seen::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        seen.entry(name.to_string()).or_default().push(value);
    }
    seen
}
