//! An HTTP server with limits. Callers cannot exhaust the memory or the file descriptors of the process. Callers cannot
//! keep the process from ending.

use std::{
    cmp::Reverse,
    collections::HashMap,
    convert::Infallible,
    error::Error,
    future::{pending, poll_fn},
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, response::Response};
use futures::FutureExt;
use http::Extensions;
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{
    Taken, Tls, apart,
    paced::{Paced, ReadTurns},
};

/// Time limit for the head of a connection's first request, with the TLS handshake before it.
const FIRST: Duration = Duration::from_secs(10);
/// Time limit for the head of each later request. It is longer than proxies keep idle connections.
const NEXT: Duration = Duration::from_secs(150);
/// Maximum size of a request's head in bytes, and maximum number of its headers.
const HEAD: usize = 96 * 1024;
const HEADERS: usize = 256;
/// Maximum number of requests in progress on one HTTP/2 connection. RFC 9113, section 6.5.2, recommends at least 100. A
/// proxy may send more before it has read this limit, and the server then refuses some.
const STREAMS: u32 = 100;
/// Maximum number of requests that the other end cancels before the server has looked at them. More would break the
/// connection, and the connection of a proxy serves many callers. [`Paced`] reads fewer requests before the server
/// looks at them, so this limit of the library (CVE-2023-44487, 20) is never reached.
const CANCELLED: usize = 1024;
/// Number of streams that the server may reset over the whole life of an HTTP/2 connection, before it breaks the
/// connection. The library's own limit is 1024 (RUSTSEC-2024-0003), so that resets that nobody reads fill no memory.
/// [`Paced`] bounds that memory. A body that comes after its answer is reset, too. With 1024, the connection of a busy
/// proxy broke after some hundred thousand requests.
const RESETS: usize = 1 << 20;
/// Maximum sizes of the bodies that one HTTP/2 connection may send unread, for a stream and for all of its streams.
const STREAM_WINDOW: u32 = 64 * 1024;
const WINDOW: u32 = 4 * STREAM_WINDOW;
/// Interval of keep-alive pings on an HTTP/2 connection.
const PING: Duration = Duration::from_secs(30);
/// Maximum numbers of connections, for callers and for probes. A further connection replaces an idle one of the address
/// that has the most.
const CALLERS: u64 = 1024;
const PROBES: u64 = 64;
/// How long requests in progress may still take after the process was told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Delay after the operating system failed to accept a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The purpose of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Callers.
    Callers,
    /// Probes and metrics.
    Probes,
}

impl Port {
    /// The protocols that connections to the port speak, as TLS names them. The first one is preferred. Probes and
    /// scrapers need no HTTP/2, with which a connection has many answers at a time.
    fn protocols(self) -> Vec<Vec<u8>> {
        let all: &[&[u8]] = match self {
            Self::Callers => &[b"h2", b"http/1.1"],
            Self::Probes => &[b"http/1.1"],
        };
        all.iter().map(|name| name.to_vec()).collect()
    }

    /// Maximum number of connections. It is at most a share of the process's file descriptors, so that the process
    /// keeps some for itself.
    fn most(self) -> usize {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = match self {
            Self::Callers => CALLERS.min(descriptors / 2),
            Self::Probes => PROBES.min(descriptors / 8),
        };
        usize::try_from(most).unwrap_or(usize::MAX)
    }
}

/// Serves `router` by plain HTTP until `stop`. Requests in progress then have ten more seconds.
///
/// # Errors
/// None: a failed accept is retried.
pub async fn serve(listener: TcpListener, router: Router, port: Port, stop: CancellationToken) -> io::Result<()> {
    Server::new(router, port, stop).serve(listener, None).await
}

/// Answers requests. A router does so. The verifier answers its most frequent requests without one.
pub trait Responding: Clone + Send + Sync + 'static {
    /// The answer to a request of the caller at `peer`.
    fn answer(&self, request: Request<Incoming>, peer: PeerAddress) -> impl Future<Output = Response> + Send;
}

impl Responding for Router {
    async fn answer(&self, mut request: Request<Incoming>, peer: PeerAddress) -> Response {
        request.extensions_mut().insert(peer);
        self.clone().call(request).await.unwrap_or_else(|never: Infallible| match never {})
    }
}

/// A router with limits, for one or several addresses. Clones share the limit of connections.
#[derive(Clone)]
pub struct Server<A = Router> {
    port: Port,
    guests: Arc<Mutex<Guests>>,
    builder: Arc<Builder<TokioExecutor>>,
    router: A,
    stop: CancellationToken,
}

impl<A: Responding> Server<A> {
    /// A server of `router` that ends once `stop` is cancelled.
    pub fn new(router: A, port: Port, stop: CancellationToken) -> Self {
        let guests = Arc::new(Mutex::new(Guests::new(port.most())));
        Self { port, guests, builder: Arc::new(builder(port)), router, stop }
    }

    /// Serves the connections of `listener` until the end. Requests in progress then have ten more seconds. With `tls`,
    /// each connection begins with a handshake.
    ///
    /// # Errors
    /// None: a failed accept is retried.
    pub async fn serve(self, listener: TcpListener, tls: Option<Tls>) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let peer = PeerAddress(peer.ip());
                    let open = Open::new();
                    let guest = self.guests.lock().expect("nobody panics here").enter(peer);
                    let Some(guest) = guest else {
                        refuse(Refused::Crowded);
                        continue;
                    };
                    connections.spawn(self.clone().connection(stream, tls.clone(), guest).map(|()| drop(open)));
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections, trying again");
                    sleep(PAUSE).await;
                }
            }
        }
        drop(listener);
        let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
        Ok(())
    }

    /// Serves one connection, after its handshake if there is one. A connection without a certificate of this server is
    /// closed.
    async fn connection(self, stream: TcpStream, tls: Option<Tls>, guest: Arc<Guest>) {
        let _ = stream.set_nodelay(true);
        let first = sleep(FIRST);
        let Some(tls) = tls else { return self.requests(stream, guest, (first, pending())).await };
        let distrusted = tls.other_clients();
        let Some(acceptor) = tls.acceptor(self.port.protocols()) else { return refuse(Refused::Handshake) };
        let mut first = Box::pin(first);
        // On a busy machine, both may be there at once. Then the caller was not too slow.
        let shaken = tokio::select! {
            biased;
            shaken = acceptor.accept(stream) => shaken,
            () = guest.leave.cancelled() => return,
            () = first.as_mut() => Err(io::ErrorKind::TimedOut.into()),
        };
        match shaken {
            Ok(stream) => self.requests(stream, guest, (first, distrusted)).await,
            Err(error) => {
                refuse(Refused::Handshake);
                tracing::debug!(%error, "a TLS handshake failed");
            }
        }
    }

    /// Serves one connection until it ends, makes room for another connection, or sends no request before the end of
    /// `first`. After `distrusted`, it ends with the requests in progress.
    async fn requests(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        guest: Arc<Guest>,
        (first, distrusted): (impl Future<Output = ()>, impl Future<Output = ()>),
    ) {
        let counted = Counted { router: Arc::new(self.router), guest: guest.clone() };
        let turns = ReadTurns::default();
        let stream = TokioIo::new(Paced::new(stream, turns.clone()));
        let mut served = pin!(self.builder.serve_connection(stream, counted));
        let (mut told, mut begun) = (false, false);
        let (mut first, mut distrusted) = (pin!(first), pin!(distrusted));
        loop {
            // The first branch receives requests, and the others judge the caller by them.
            tokio::select! {
                biased;
                ended = poll_fn(|cx| {
                    turns.begin();
                    served.as_mut().poll(cx)
                }) => {
                    let is_unread = |error: Box<dyn Error + Send + Sync>| {
                        error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
                    };
                    if ended.is_err_and(is_unread) {
                        refuse(Refused::Unreadable);
                    }
                    return;
                }
                () = guest.leave.cancelled() => return,
                () = first.as_mut(), if !begun => {
                    begun = true;
                    if !guest.has_asked() {
                        return;
                    }
                }
                () = stopped(&self.stop, distrusted.as_mut()), if !told => {
                    told = true;
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Waits until the server is to stop, or a connection is not trusted any more.
async fn stopped(stop: &CancellationToken, distrusted: Pin<&mut impl Future<Output = ()>>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = distrusted => {}
    }
}

/// Serves the probes at `at` in a thread of its own until `stop`. So probes are answered while all other threads are
/// busy. Dropping the future stops the server.
///
/// # Errors
/// Another process listens at the address, or the thread cannot be started.
pub async fn serve_probes(at: Taken, router: Router, stop: &CancellationToken) -> io::Result<()> {
    let stop = stop.clone();
    apart("probes", async move { serve(at.listen("probes")?, router, Port::Probes, stop).await }).await?
}

fn builder(port: Port) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder = match port {
        Port::Callers => builder,
        Port::Probes => builder.http1_only(),
    };
    let mut http1 = builder.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(NEXT).max_headers(HEADERS).max_buf_size(HEAD);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(HEAD as u32);
    http2.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(WINDOW);
    http2.keep_alive_interval(PING).keep_alive_timeout(FIRST);
    http2.max_local_error_reset_streams(RESETS).max_pending_accept_reset_streams(CANCELLED);
    builder
}

/// True if the caller closed the connection before it was accepted. This is no failure of the server.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The open connections.
struct Guests {
    most: usize,
    present: Vec<Arc<Guest>>,
}

impl Guests {
    const fn new(most: usize) -> Self {
        Self { most, present: Vec::new() }
    }

    /// Admits one more connection of `peer`. At the limit, an idle connection of the peer with the most connections is
    /// closed. That is first one without any request so far, then the one that is idle longest. So a peer that opens
    /// many connections closes its own ones. `None` if no such connection is idle.
    fn enter(&mut self, peer: PeerAddress) -> Option<Arc<Guest>> {
        if self.present.len() >= self.most {
            self.present.retain(|guest| Arc::strong_count(guest) > 1);
        }
        if self.present.len() >= self.most {
            let at = self.dispensable(peer)?;
            self.present.swap_remove(at).leave.cancel();
        }
        let guest = Arc::new(Guest::new(peer));
        self.present.push(guest.clone());
        Some(guest)
    }

    /// The position of the connection that makes room for one of `peer`. It is of a peer with at least as many
    /// connections.
    fn dispensable(&self, peer: PeerAddress) -> Option<usize> {
        let mut held = HashMap::<PeerAddress, usize>::new();
        self.present.iter().for_each(|guest| *held.entry(guest.peer).or_default() += 1);
        let own = held.get(&peer).copied().unwrap_or_default();
        let idle = self.present.iter().enumerate().filter_map(|(at, guest)| {
            let count = held.get(&guest.peer).copied().filter(|&count| count >= own)?;
            let (asked, since) = guest.idle()?;
            // The only connection of a peer may be new, so it does not count as one that asks nothing.
            Some((asked || count == 1, Reverse(count), asked, since, at))
        });
        idle.min().map(|(.., at)| at)
    }
}

/// An open connection.
struct Guest {
    peer: PeerAddress,
    visit: Mutex<Visit>,
    /// Cancelling this token closes the connection.
    leave: CancellationToken,
}

/// The activity of a connection.
struct Visit {
    /// True once a request was received.
    asked: bool,
    /// Number of requests in progress.
    busy: usize,
    /// Time at which the last request ended, or else at which the connection was opened.
    since: Instant,
}

impl Guest {
    fn new(peer: PeerAddress) -> Self {
        let visit = Visit { asked: false, busy: 0, since: Instant::now() };
        Self { peer, visit: Mutex::new(visit), leave: CancellationToken::new() }
    }

    fn has_asked(&self) -> bool {
        self.visit().asked
    }

    /// For an idle connection: true if it has sent any request, and the time since which it is idle. `None` while a
    /// request is in progress.
    fn idle(&self) -> Option<(bool, Instant)> {
        let visit = self.visit();
        (visit.busy == 0).then_some((visit.asked, visit.since))
    }

    fn visit(&self) -> MutexGuard<'_, Visit> {
        self.visit.lock().expect("nobody panics here")
    }
}

/// A request in progress.
struct Busy(Arc<Guest>);

impl Busy {
    fn new(guest: &Arc<Guest>) -> Self {
        let mut visit = guest.visit();
        visit.asked = true;
        visit.busy += 1;
        Self(guest.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut visit = self.0.visit();
        visit.busy -= 1;
        visit.since = Instant::now();
    }
}

/// The address at the other end of the connection. Each request that a router gets has it among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress(pub IpAddr);

impl PeerAddress {
    /// The address among the extensions of a request. `None`: the request did not come over a connection.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied()
    }
}

/// Answers the requests of a connection, and counts those in progress.
struct Counted<A> {
    /// A copy for this connection. So its requests change no counter of references that other threads change too.
    router: Arc<A>,
    guest: Arc<Guest>,
}

/// The number of open connections of this process.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// The number of open connections of this process, at all of its ports.
pub fn open() -> usize {
    OPEN.load(Ordering::Relaxed)
}

/// The reason why the server itself closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// All connections have a request in progress.
    Crowded,
    /// The TLS handshake failed, or took too long.
    Handshake,
    /// The head of a request by HTTP/1.1 was none, or was too long. The library has answered it by itself, with 400,
    /// 414 or 431. The begin of HTTP/2 at a port without it gets no answer.
    Unreadable,
}

impl Refused {
    /// All reasons, in their order.
    pub const ALL: [Self; 3] = [Self::Crowded, Self::Handshake, Self::Unreadable];

    /// The name of the reason, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crowded => "Crowded",
            Self::Handshake => "Handshake",
            Self::Unreadable => "Unreadable",
        }
    }

    /// The number of connections that this process has refused for this reason, at all of its ports.
    pub fn count(self) -> u64 {
        REFUSED[self as usize].load(Ordering::Relaxed)
    }
}

/// The number of connections that were refused for each reason.
static REFUSED: [AtomicU64; 3] = [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];

/// Counts a refused connection.
fn refuse(reason: Refused) {
    REFUSED[reason as usize].fetch_add(1, Ordering::Relaxed);
}

/// An open connection, as long as this value exists. A connection counts from its beginning, also during its handshake.
struct Open;

impl Open {
    fn new() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<A: Responding> Service<Request<Incoming>> for Counted<A> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (busy, router) = (Busy::new(&self.guest), self.router.clone());
        Box::pin(async move {
            let answer = router.answer(request, busy.0.peer).await;
            drop(busy);
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::advance,
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn probes_are_answered_while_all_threads_are_busy() {
        use std::{
            io::{Read, Write},
            sync::atomic::{AtomicBool, Ordering},
            thread,
        };
        let taken = "127.0.0.1:0".parse::<crate::outside::Address>().unwrap().take("--probes").unwrap();
        let (address, stop) = (taken.address().unwrap(), CancellationToken::new());
        let serving = tokio::spawn({
            let (router, stop) = (Router::new().route("/healthz", get(async || "ok")), stop.clone());
            async move { serve_probes(taken, router, &stop).await }
        });
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
        let answered = Arc::new(AtomicBool::new(false));
        let busy = |answered: Arc<AtomicBool>| {
            let is_over = (0..10_000).any(|_| {
                thread::sleep(Duration::from_millis(1));
                answered.load(Ordering::SeqCst)
            });
            assert!(is_over, "nothing was answered for ten seconds");
        };
        let all: Vec<_> = (0..2).map(|_| tokio::spawn(std::future::ready(answered.clone()).map(busy))).collect();
        let told = answered.clone();
        let asking = thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            told.store(true, Ordering::SeqCst);
            answer
        });
        busy(answered);
        assert!(asking.join().unwrap().starts_with("HTTP/1.1 200"));
        for task in all {
            task.await.unwrap();
        }
        stop.cancel();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_makes_room_and_first_who_never_has() {
        let mut guests = Guests::new(3);
        let [first, second, third] = [0; 3].map(|_| guests.enter(peer(1)).unwrap());
        drop(Busy::new(&first));
        let busy = Busy::new(&second);
        advance(Duration::from_secs(1)).await;
        let fourth = guests.enter(peer(1)).unwrap();
        assert!(third.leave.is_cancelled(), "it has never asked anything");
        let _busy_too = Busy::new(&fourth);
        let fifth = guests.enter(peer(1)).unwrap();
        assert!(first.leave.is_cancelled() && !second.leave.is_cancelled());
        let _busy_as_well = Busy::new(&fifth);
        assert!(guests.enter(peer(1)).is_none(), "all are being answered");
        drop(busy);
        assert!(guests.enter(peer(1)).is_some());
        assert!(second.leave.is_cancelled());
    }

    fn peer(last: u8) -> PeerAddress {
        PeerAddress([192, 0, 2, last].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_many_connections_closes_its_own_and_those_of_no_other() {
        let mut guests = Guests::new(8);
        let proxy = guests.enter(peer(1)).unwrap();
        drop(Busy::new(&proxy));
        advance(Duration::from_secs(1)).await;
        let mut storm = (0..7).map(|_| guests.enter(peer(2)).unwrap()).collect::<Vec<_>>();
        storm.iter().for_each(|guest| drop(Busy::new(guest)));
        // It is new and has not asked yet: during a handshake, for example.
        let fresh = guests.enter(peer(3)).unwrap();
        for _ in 0..100 {
            storm.push(guests.enter(peer(2)).unwrap());
            advance(Duration::from_secs(1)).await;
        }
        assert!(!proxy.leave.is_cancelled() && !fresh.leave.is_cancelled());
        let open = || storm.iter().filter(|guest| !guest.leave.is_cancelled());
        assert_eq!(open().count(), 6);
        let _busy: Vec<_> = open().map(Busy::new).collect();
        assert!(guests.enter(peer(2)).is_none(), "it has more than any other");
        assert!(guests.enter(peer(4)).is_some());
        assert!(proxy.leave.is_cancelled() || fresh.leave.is_cancelled(), "the others have one each");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_left_needs_no_room() {
        let mut guests = Guests::new(2);
        let first = guests.enter(peer(1)).unwrap();
        drop(guests.enter(peer(1)));
        assert!(guests.enter(peer(1)).is_some() && !first.leave.is_cancelled());
    }

    /// A server that answers at `/`, and never answers at `/never`.
    async fn served() -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let never = get(std::future::pending::<()>);
        let peer = get(async |request: Request| request.extensions().get::<PeerAddress>().unwrap().0.to_string());
        let router = Router::new().route("/", get(async || "ok")).route("/never", never).route("/peer", peer);
        let stop = CancellationToken::new();
        (address, stop.clone(), tokio::spawn(serve(listener, router, Port::Callers, stop)))
    }

    async fn send(address: std::net::SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_request_has_the_address_of_its_peer() {
        let (address, _stop, _) = served().await;
        let answer = answer(send(address, "GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await).await;
        assert!(answer.ends_with("\r\n\r\n127.0.0.1"), "{answer}");
    }

    #[tokio::test]
    async fn open_connections_are_counted_until_they_end() {
        let (address, _stop, _) = served().await;
        let mut all = Vec::new();
        // Other tests of this process have connections too, but not so many.
        for _ in 0..100 {
            all.push(send(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await);
        }
        while open() < 100 {
            tokio::task::yield_now().await;
        }
        drop(all);
        while open() >= 100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_place_is_counted_as_refused() {
        let (listener, stop) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), CancellationToken::new());
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/never", get(std::future::pending::<()>));
        let server = Server::new(router, Port::Callers, stop);
        *server.guests.lock().unwrap() = Guests::new(1);
        tokio::spawn(server.clone().serve(listener, None));
        let _busy = send(address, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let is_busy = || server.guests.lock().unwrap().present.iter().any(|guest| guest.idle().is_none());
        while !is_busy() {
            tokio::task::yield_now().await;
        }
        let before = Refused::Crowded.count();
        assert_eq!(TcpStream::connect(address).await.unwrap().read(&mut [0]).await.unwrap_or_default(), 0);
        while Refused::Crowded.count() == before {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn heads_of_64_kib_and_200_headers_are_read_and_larger_ones_refused() {
        let (address, _stop, _) = served().await;
        let ask = async |headers: String| {
            answer(send(address, &format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")).await)
                .await
        };
        let many = |count: usize| (0..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
        let large = |bytes: usize| format!("X: {}\r\n", "y".repeat(bytes));
        assert!(ask(many(200)).await.starts_with("HTTP/1.1 200"));
        assert!(ask(large(64 * 1024)).await.starts_with("HTTP/1.1 200"));
        let before = Refused::Unreadable.count();
        assert!(ask(many(300)).await.starts_with("HTTP/1.1 431"));
        assert!(ask(large(80 * 1024) + &large(80 * 1024)).await.starts_with("HTTP/1.1 431"));
        assert!(answer(send(address, "no request\r\n\r\n").await).await.starts_with("HTTP/1.1 400"));
        let all_are_counted = async {
            while Refused::Unreadable.count() < before + 3 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), all_are_counted).await.expect("each is counted");
    }

    #[tokio::test]
    async fn the_port_of_probes_speaks_no_http_2() {
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
        for (port, is_http2) in [(Port::Callers, true), (Port::Probes, false)] {
            let (listener, stop) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), CancellationToken::new());
            let address = listener.local_addr().unwrap();
            tokio::spawn(serve(listener, Router::new().route("/", get(async || "ok")), port, stop));
            let plain = answer(send(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await).await;
            assert!(plain.starts_with("HTTP/1.1 200"), "{port:?}: {plain}");
            // A server of HTTP/2 answers with its settings, a frame of the type 4.
            let mut begun = [0; 9];
            let read = send(address, preface).await.read_exact(&mut begun).await;
            assert_eq!(read.is_ok() && begun[3] == 4, is_http2, "{port:?}");
        }
    }

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;

    /// A connection of HTTP/2, frame by frame.
    struct Framed(TcpStream);

    impl Framed {
        async fn new(address: std::net::SocketAddr) -> Self {
            Self(send(address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0").await)
        }

        async fn write(&mut self, frames: impl Iterator<Item = Vec<u8>>) {
            self.0.write_all(&frames.flatten().collect::<Vec<_>>()).await.unwrap();
        }

        /// The kind of the next frame, its stream and its payload. The connection must go on.
        async fn next(&mut self) -> (u8, u32, Vec<u8>) {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            self.0.read_exact(&mut payload).await.unwrap();
            assert_ne!(head[3], GOAWAY, "{}", String::from_utf8_lossy(&payload[8..]));
            (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
        }
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// The head of a POST to a path that answers without a look at the body.
    fn asked(stream: u32, flags: u8) -> Vec<u8> {
        frame(HEADERS, flags | END_HEADERS, stream, b"\x83\x86\x84\x41\x01x")
    }

    #[tokio::test]
    async fn bodies_that_come_after_their_answers_break_no_http_2_connection() {
        let (address, _stop, _) = served().await;
        let mut caller = Framed::new(address).await;
        for round in 0..100 {
            let streams = || (16 * round..16 * (round + 1)).map(|n: u32| 2 * n + 1);
            caller.write(streams().map(|stream| asked(stream, 0))).await;
            let mut answered = 0;
            while answered < 16 {
                // The body is not needed any more. Other resets are those of the bodies.
                let (kind, _, payload) = caller.next().await;
                answered += u32::from(kind == RST_STREAM && payload == [0; 4]);
            }
            caller.write(streams().map(|stream| frame(DATA, END_STREAM, stream, b"x"))).await;
        }
    }

    #[tokio::test]
    async fn requests_that_are_cancelled_at_once_break_no_http_2_connection() {
        let (address, _stop, _) = served().await;
        let mut caller = Framed::new(address).await;
        for round in 0..10 {
            let first = 10_000 * round + 1;
            let cancelled = (0..4000).map(|n| first + 2 * n);
            let cancel = |stream| [asked(stream, END_STREAM), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())];
            let last = first + 9000;
            caller.write(cancelled.flat_map(cancel).chain([asked(last, END_STREAM)])).await;
            while !matches!(caller.next().await, (HEADERS, stream, _) if stream == last) {}
        }
    }

    #[tokio::test]
    async fn many_requests_are_in_progress_on_one_http_2_connection() {
        let (address, _stop, _) = served().await;
        let mut caller = Framed::new(address).await;
        let streams = (0..STREAMS).map(|n| 2 * n + 1);
        // A path that never answers.
        let never = b"\x82\x86\x04\x06/never\x41\x01x";
        caller.write(streams.map(|stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, never))).await;
        let last = 2 * STREAMS + 1;
        caller.write([frame(HEADERS, END_STREAM | END_HEADERS, last, never)].into_iter()).await;
        // REFUSED_STREAM.
        let refused = (RST_STREAM, last, 7u32.to_be_bytes().to_vec());
        loop {
            let next = caller.next().await;
            if next == refused {
                break;
            }
            assert_ne!(next.0, RST_STREAM, "{next:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_is_not_waited_for() {
        let (address, _stop, _) = served().await;
        for half in ["", "GET / HTTP/1.1\r\nHost: x\r\nX-A: ", "PRI * HTTP/2.0\r\n\r\nSM"] {
            let silent = send(address, half).await;
            let began = Instant::now();
            let _ = answer(silent).await;
            assert_eq!(began.elapsed().as_secs(), FIRST.as_secs(), "{half}");
        }
    }

    #[tokio::test]
    async fn who_has_asked_is_not_cut_off_while_it_asks_again() {
        let (address, _stop, _) = served().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 256];
            let read = stream.read(&mut answer).await.unwrap();
            assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
            // Time is paused only while no data is in transit, because paused time runs ahead of the network.
            tokio::time::pause();
            advance(FIRST * 2).await;
            tokio::time::resume();
        }
    }

    #[test]
    fn both_ports_leave_descriptors_to_the_process() {
        let all = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let taken = [Port::Callers, Port::Probes].map(Port::most);
        assert!(taken.iter().sum::<usize>() as u64 <= all / 4 * 3, "{taken:?} of {all}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_under_way_outlasts_the_grace_once_it_is_to_stop() {
        let (address, stop, task) = served().await;
        let _half = send(address, "GET / HTTP/1.1\r\nHost: x\r\nX-A: ").await;
        let _never = send(address, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await;
        sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        stop.cancel();
        task.await.unwrap().unwrap();
        assert_eq!(began.elapsed().as_secs(), GRACE.as_secs());
        assert!(TcpStream::connect(address).await.is_err());
    }
}
