//! An API that tells its callers what it was sent, and requests to it as no library sends them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State};
use http::{HeaderMap, Method, Uri};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
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

/// An API that answers each request with what it was sent, as JSON, and counts the requests.
pub struct Api {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Api {
    /// An API at a free port of `address`.
    pub async fn start(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let router = Router::new().fallback(echo).with_state(asked.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, asked }
    }

    /// The number of requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn echo(State(asked): State<Arc<AtomicUsize>>, method: Method, uri: Uri, headers: HeaderMap) -> String {
    asked.fetch_add(1, Ordering::SeqCst);
    let mut echoed = Seen::new();
    echoed.insert(":method".into(), vec![method.to_string()]);
    echoed.insert(":path".into(), vec![uri.to_string()]);
    for (name, value) in &headers {
        echoed.entry(name.to_string()).or_default().push(value.to_str().unwrap().to_owned());
    }
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

/// The length of the body behind these headers.
fn length(head: &str) -> usize {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = { lines }.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, length)| length.parse().unwrap())
}
