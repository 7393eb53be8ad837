//! An API that tells its callers what it was sent, and requests to it as no library sends them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State};
use http::{HeaderMap, Method, Uri};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// The headers in which a verifier tells the API who calls.
pub const IDENTITY: [&str; 5] =
    ["x-tokenry-subject", "x-tokenry-token-id", "x-tokenry-role", "x-tokenry-organization", "x-forwarded-user"];

/// What the API was sent: all values of each header, the method as `:method`, and the path with its query as `:path`.
pub type Seen = BTreeMap<String, Vec<String>>;

/// What the API was told, for each identity header.
pub fn told(seen: &Seen) -> [Vec<String>; 5] {
    IDENTITY.map(|name| seen.get(name).cloned().unwrap_or_default())
}

/// An API that answers each request with what it was sent, as JSON, and keeps it.
pub struct Api {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Api {
    /// An API at a free port of `address`.
    pub async fn start(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<_>>::default());
        let router = Router::new().fallback(echo).with_state(seen.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, seen }
    }

    /// The number of requests so far.
    pub fn asked(&self) -> usize {
        self.seen().len()
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn echo(State(seen): State<Arc<Mutex<Vec<Seen>>>>, method: Method, uri: Uri, headers: HeaderMap) -> String {
    let mut echoed = Seen::new();
    echoed.insert(":method".into(), vec![method.to_string()]);
    echoed.insert(":path".into(), vec![uri.to_string()]);
    for (name, value) in &headers {
        echoed.entry(name.to_string()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into());
    }
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(echoed.clone());
    serde_json::to_string(&echoed).unwrap()
}

/// Sends a request without a body, whose lines are exactly those of `head`. Returns the status and the body of the
/// answer.
pub async fn raw(address: SocketAddr, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    loop {
        if let Some((head, body)) = answer.split_once("\r\n\r\n").filter(|(head, body)| length(head) == body.len()) {
            return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
        }
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0, "{head:?} was answered by {answer:?}");
        answer += std::str::from_utf8(&piece[..read]).unwrap();
    }
}

/// Sends these bytes, and returns all that comes back until the server ends the connection. A server that keeps the
/// connection has answered long before the time is over.
pub async fn knock(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    // A server may end the connection before it has read everything.
    _ = stream.write_all(bytes).await;
    while let Ok(Ok(read @ 1..)) = timeout(Duration::from_secs(1), stream.read(&mut piece)).await {
        answer.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&answer).into()
}

/// The length of the body behind these headers.
fn length(head: &str) -> usize {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = { lines }.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, length)| length.parse().unwrap())
}
