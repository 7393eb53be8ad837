//! Callers that use up what a server has: while they do, other callers on fresh connections are served.
//!
//! A flood comes by plain HTTP or by HTTPS. The others come by both in turn, from another address.

mod http2;
mod ports;

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokenry::outside::TlsFiles;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    sync::RwLock,
    time::{sleep, timeout},
};
use tokio_rustls::rustls::ClientConnection;

use crate::{
    certificate::Folder,
    harness::process::{Served, with_token},
};
use ports::{FLOOD, OTHERS, Ports, Stream, Way};

/// Connections of a flood that wants all places of the verifier: more than there are.
const ALL: usize = 1500;
/// Connections that do work for the verifier whenever they come. They take all places, and a few come again.
const SLIGHTLY_MORE: usize = 1040;
/// Connections of a flood that takes time and memory rather than places.
const FEW: usize = 16;
/// Number of requests of the other callers, and how many of them have to be let in.
const REQUESTS: usize = 100;
const SERVED: usize = 98;
/// A request that takes longer is not served.
const PATIENCE: Duration = Duration::from_secs(60);
/// The growth of the verifier's memory that a flood may cause, in bytes.
const GROWTH: f64 = 128.0 * 1024.0 * 1024.0;
/// The ways of a flood that sends requests.
const BOTH: [Way; 2] = [Way::Plain, Way::Tls];

/// The machine, which several floods share. One of 50,000 requests has it to itself: beside others, a build without
/// optimization takes minutes for them.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// The verifier under a flood.
struct Besieged {
    served: Served,
    ports: Ports,
    _files: Folder,
}

impl Besieged {
    async fn new(name: &str) -> Self {
        let (world, value) = with_token(name).await;
        let (files, tls) = ports::certified(&world);
        let TlsFiles { certificate, key, .. } = files.files();
        let [certificate, key] = [&certificate, &key].map(|file| file.to_str().unwrap());
        let arguments = ["--tls-listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key];
        let served = Served::of(world, value, &arguments).await;
        let secure = served.world.await_address(&served.process, "https").await;
        let ports = Ports { plain: served.address, secure, tls };
        Self { served, ports, _files: files }
    }

    /// Others are served while `count` connections at a time do `misuse`, in each of these ways in turn.
    async fn endures(&mut self, ways: &[Way], count: usize, misuse: impl AsyncFn(&mut Stream) -> io::Result<()>) {
        let _beside = MACHINE.read().await;
        self.withstands(GROWTH, ways, count, misuse).await;
    }

    /// The same without other floods, and memory grows by less than `growth` bytes.
    async fn endures_alone(
        &mut self,
        growth: f64,
        ways: &[Way],
        count: usize,
        misuse: impl AsyncFn(&mut Stream) -> io::Result<()>,
    ) {
        let _alone = MACHINE.write().await;
        self.withstands(growth, ways, count, misuse).await;
    }

    async fn withstands(
        &mut self,
        growth: f64,
        ways: &[Way],
        count: usize,
        misuse: impl AsyncFn(&mut Stream) -> io::Result<()>,
    ) {
        for way in ways {
            let (before, begun) = (self.served.memory(), AtomicUsize::new(0));
            let served = tokio::select! {
                served = self.others(&begun, count) => served,
                never = hold(&self.ports, (*way, count), &begun, &misuse) => match never {},
            };
            let grown = self.served.memory() - before;
            println!("{way:?}: {served} of {REQUESTS} were served; memory grew by {} KiB", grown / 1024.0);
            assert!(served >= SERVED, "{way:?}: {served} of {REQUESTS} were served");
            assert!(grown < growth, "{way:?}: {grown} bytes");
            let log = self.served.process.log();
            assert!(self.served.process.is_running() && !log.contains("panicked"), "{log}");
        }
    }

    /// The number of other callers that are let in. They come after `begun` has reached `number`.
    async fn others(&self, begun: &AtomicUsize, number: usize) -> usize {
        while begun.load(Ordering::SeqCst) < number {
            sleep(Duration::from_millis(10)).await;
        }
        let (forward, review) = (self.forward_auth(), self.token_review());
        let mut served = 0;
        for n in 0..REQUESTS {
            let (text, mark) =
                if n % 4 < 2 { (&forward, "HTTP/1.1 200") } else { (&review, r#""authenticated":true"#) };
            let answer = timeout(PATIENCE, self.answer(BOTH[n % 2], text)).await;
            match answer {
                Ok(Ok(answer)) if answer.contains(mark) => served += 1,
                unserved => println!("request {n} was not served: {unserved:?}"),
            }
        }
        served
    }

    fn forward_auth(&self) -> String {
        let Served { path, value, .. } = &self.served;
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {value}\r\n\r\n")
    }

    fn token_review(&self) -> String {
        let Served { path, value, .. } = &self.served;
        let path = path.replace("/authorize", "/tokenreviews");
        let head = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": value}});
        let (body, media) = (head.to_string(), "application/json");
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {media}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    }

    /// The answer to a request on a fresh connection.
    async fn answer(&self, way: Way, request: &str) -> io::Result<String> {
        let mut stream = self.ports.connect(way, OTHERS).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
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
    ports: &Ports,
    (way, count): (Way, usize),
    begun: &AtomicUsize,
    misuse: impl AsyncFn(&mut Stream) -> io::Result<()>,
) -> Infallible {
    let each = async || loop {
        if let Ok(mut stream) = ports.connect(way, FLOOD).await {
            begun.fetch_add(1, Ordering::SeqCst);
            let _ = misuse(&mut stream).await;
        }
        // The server closed the connection. A flood comes again, but leaves the machine to others.
        sleep(Duration::from_millis(200)).await;
    };
    join_all((0..count).map(|_| each())).await.pop().unwrap()
}

/// Waits until the server closes the connection.
async fn read_on(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<()> {
    let mut waste = vec![0; 16 * 1024];
    while stream.read(&mut waste).await? > 0 {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_leave_room() {
    with_descriptors(12_000);
    let mut besieged = Besieged::new("idle").await;
    besieged.endures(&[Way::Plain, Way::Unshaken], 10_000, read_on).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_trickle_leave_room() {
    let trickle = async |stream: &mut Stream| -> io::Result<()> {
        stream.write_all(b"GET /v1/instances/a/b/authorize HTTP/1.1\r\nHost: x\r\n").await?;
        loop {
            stream.write_all(b"X-A: b\r\n").await?;
            sleep(Duration::from_millis(300)).await;
        }
    };
    Besieged::new("trickle").await.endures(&BOTH, ALL, trickle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_requests_leave_room() {
    let mut besieged = Besieged::new("half").await;
    for half in [
        "GET /v1/instances/a/b/auth",
        "POST /v1/instances/a/b/authorize HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        "POST /v1/instances/a/b/tokenreviews HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n{",
        "POST /v1/instances/a/b/introspect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nto",
        "POST /envoy.service.auth.v3.Authorization/Check HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\n\
         Content-Length: 1000\r\n\r\n{",
    ] {
        let send = async |stream: &mut Stream| -> io::Result<()> {
            stream.write_all(half.as_bytes()).await?;
            read_on(stream).await
        };
        besieged.endures(&BOTH, ALL, send).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_trickle_leave_room() {
    let trickle = async |stream: &mut Stream| -> io::Result<()> {
        let head = "POST /v1/instances/a/b/tokenreviews HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                    Content-Length: 60000\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        loop {
            stream.write_all(b"{").await?;
            sleep(Duration::from_millis(300)).await;
        }
    };
    Besieged::new("slow-body").await.endures(&BOTH, ALL, trickle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_heads_leave_room() {
    let line = format!("X-{}: {}\r\n", "a".repeat(60), "b".repeat(4000)).repeat(1000);
    let send = async |stream: &mut Stream| -> io::Result<()> {
        stream.write_all(b"GET /v1/instances/a/b/authorize HTTP/1.1\r\nHost: x\r\n").await?;
        stream.write_all(line.as_bytes()).await?;
        read_on(stream).await
    };
    Besieged::new("huge").await.endures(&BOTH, 50, send).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_leave_room() {
    let requests = "GET /v1/instances/a/b/authorize HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let send = async |stream: &mut Stream| -> io::Result<()> {
        loop {
            stream.write_all(requests.as_bytes()).await?;
        }
    };
    Besieged::new("unread").await.endures(&BOTH, ALL, send).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_ask_once_and_stay_leave_room() {
    let ask = async |stream: &mut Stream| -> io::Result<()> {
        stream.write_all(b"GET /v1/instances/a/b/authorize HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        read_on(stream).await
    };
    Besieged::new("stay").await.endures(&BOTH, SLIGHTLY_MORE, ask).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_handshakes_leave_room() {
    let mut besieged = Besieged::new("handshakes").await;
    let mut hello = Vec::new();
    ClientConnection::new(besieged.ports.tls.config().clone(), ports::name()).unwrap().write_tls(&mut hello).unwrap();
    // Half of the first message; all of it, so that the server signs in vain; and no TLS at all.
    for part in [&hello[..hello.len() / 2], &hello, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let send = async |stream: &mut Stream| -> io::Result<()> {
            stream.write_all(part).await?;
            read_on(stream).await
        };
        besieged.endures(&[Way::Unshaken], ALL, send).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_without_requests_leave_room() {
    Besieged::new("shaken").await.endures(&[Way::Tls], ALL, read_on).await;
}
