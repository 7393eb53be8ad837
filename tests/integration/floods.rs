//! Callers that use up what a server has: while they do, another caller on a fresh connection is served.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::harness::process::Served;

/// Connections of a flood that wants all places of the verifier: more than there are.
const ALL: usize = 1500;
/// Number of requests of the other caller, and how many of them have to be let in.
const REQUESTS: usize = 100;
const SERVED: usize = 98;
/// A request that takes longer is not served.
const PATIENCE: Duration = Duration::from_secs(5);
/// The growth of the verifier's memory that a flood may cause, in bytes.
const GROWTH: f64 = 128.0 * 1024.0 * 1024.0;

/// The verifier under a flood.
struct Besieged(Served);

impl Besieged {
    async fn new(name: &str) -> Self {
        Self(Served::new(name).await)
    }

    /// Another caller is served while `flood` lasts. The flood has begun once `begun` counts this number.
    async fn serves_through(mut self, flood: impl Future<Output = Infallible>, begun: &AtomicUsize, number: usize) {
        let before = self.0.memory();
        let others = async {
            while begun.load(Ordering::SeqCst) < number {
                sleep(Duration::from_millis(10)).await;
            }
            let mut served = 0;
            for _ in 0..REQUESTS {
                served += usize::from(timeout(PATIENCE, self.is_let_in()).await.unwrap_or_default());
            }
            served
        };
        let served = tokio::select! {
            served = others => served,
            never = flood => match never {},
        };
        assert!(served >= SERVED, "{served} of {REQUESTS} were served");
        let grown = self.0.memory() - before;
        assert!(grown < GROWTH, "{grown} bytes");
        assert!(self.0.process.is_running() && !self.0.process.log().contains("panicked"), "{}", self.0.process.log());
    }

    /// True if a request with the token, on a fresh connection, is let in.
    async fn is_let_in(&self) -> bool {
        let Served { path, value, address, .. } = &self.0;
        let asked = async {
            let mut stream = TcpStream::connect(address).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {value}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200"))
        };
        asked.await.unwrap_or_default()
    }
}

/// Lets this process have enough connections.
fn with_descriptors(count: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    assert!(maximum.is_none_or(|most| most >= count), "this test needs {count} file descriptors; raise ulimit -Hn");
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// Holds `count` connections at a time, each of which does `misuse` until it ends, and then again.
async fn hold(
    (address, count, begun): (SocketAddr, usize, &AtomicUsize),
    misuse: impl AsyncFn(&mut TcpStream) -> std::io::Result<()>,
) -> Infallible {
    let each = async || loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            begun.fetch_add(1, Ordering::SeqCst);
            let _ = misuse(&mut stream).await;
        }
        // The server closed the connection. A flood comes again, but leaves the machine to others.
        sleep(Duration::from_millis(200)).await;
    };
    join_all((0..count).map(|_| each())).await.pop().unwrap()
}

/// Waits until the server closes the connection.
async fn read_on(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<()> {
    let mut waste = vec![0; 16 * 1024];
    while stream.read(&mut waste).await? > 0 {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_leave_room() {
    with_descriptors(12_000);
    let (besieged, begun) = (Besieged::new("idle").await, AtomicUsize::new(0));
    let flood = hold((besieged.0.address, 10_000, &begun), read_on);
    besieged.serves_through(flood, &begun, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_trickle_leave_room() {
    let (besieged, begun) = (Besieged::new("trickle").await, AtomicUsize::new(0));
    let flood = hold((besieged.0.address, ALL, &begun), async |stream| {
        stream.write_all(b"GET /v1/instances/a/b/authorize HTTP/1.1\r\nHost: x\r\n").await?;
        loop {
            stream.write_all(b"X-A: b\r\n").await?;
            sleep(Duration::from_millis(300)).await;
        }
    });
    besieged.serves_through(flood, &begun, ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_requests_leave_room() {
    for half in [
        "GET /v1/instances/a/b/auth",
        "POST /v1/instances/a/b/authorize HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        "POST /v1/instances/a/b/tokenreviews HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        "POST /v1/instances/a/b/introspect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nto",
        "POST /envoy.service.auth.v3.Authorization/Check HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\n\
         Content-Length: 1000\r\n\r\n{",
    ] {
        let (besieged, begun) = (Besieged::new("half").await, AtomicUsize::new(0));
        let flood = hold((besieged.0.address, ALL, &begun), async |stream| {
            stream.write_all(half.as_bytes()).await?;
            read_on(stream).await
        });
        besieged.serves_through(flood, &begun, ALL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_heads_leave_room() {
    let (besieged, begun) = (Besieged::new("huge").await, AtomicUsize::new(0));
    let line = format!("X-{}: {}\r\n", "a".repeat(60), "b".repeat(4000)).repeat(1000);
    let flood = hold((besieged.0.address, 50, &begun), async |stream| {
        stream.write_all(b"GET /v1/instances/a/b/authorize HTTP/1.1\r\nHost: x\r\n").await?;
        stream.write_all(line.as_bytes()).await?;
        read_on(stream).await
    });
    besieged.serves_through(flood, &begun, 50).await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A text of HPACK, shorter than 127 bytes.
fn text(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// The header block of a request: GET, http, the path, and the authority.
fn block() -> Vec<u8> {
    [&[0x82, 0x86, 0x04][..], &text("/v1/instances/a/b/authorize"), &[0x01], &text("x")].concat()
}

/// A request on each odd stream of a range, with the frames that `more` adds.
fn requests(streams: std::ops::Range<u32>, flags: u8, more: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let odd = streams.map(|n| 2 * n + 1);
    odd.flat_map(|stream| [frame(HEADERS, flags, stream, &block()), more(stream)].concat()).collect()
}

/// Floods the verifier by HTTP/2, with the nth frames after one another on a few connections. The answers are read.
async fn flooded(name: &str, frames: impl Fn(u32) -> Vec<u8>) {
    let (besieged, begun) = (Besieged::new(name).await, AtomicUsize::new(0));
    let flood = hold((besieged.0.address, 16, &begun), async |stream| {
        let (mut read, mut write) = stream.split();
        let writes = async {
            write.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
            write.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
            for n in 0.. {
                write.write_all(&frames(n)).await?;
            }
            Ok(())
        };
        tokio::select! {
            ended = writes => ended,
            ended = read_on(&mut read) => ended,
        }
    });
    besieged.serves_through(flood, &begun, 16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_leave_room() {
    let cancel = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    flooded("resets", |n| requests(50 * n..50 * (n + 1), END_STREAM | END_HEADERS, cancel)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_than_allowed_leave_room() {
    flooded("streams", |n| requests(50 * n..50 * (n + 1), END_HEADERS, |_| Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_continuations_leave_room() {
    let more = [&[0x00][..], &text("x-a"), &text("b")].concat().repeat(1000);
    flooded("continued", |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, &block()),
        _ => frame(CONTINUATION, 0, 1, &more),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_settings_leave_room() {
    flooded("pings", |_| [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])].concat().repeat(100)).await;
}
