//! Judges the tokens that callers present. Adapters translate protocols, the [`Door`] answers, and
//! [`check`](check::check) judges.
//!
//! ```text
//! watches ─▶ feed ─▶ known ◀── check ◀── door ◀─ Asking ── protocol ◀── proxy
//!                    index     authen-   waits, ─ Answer ▶ one adapter
//!                    in        ticate,   counts,
//!                    memory    authorize writes audit lines
//! ```
//!
//! Each protocol has one file in `protocol`. The file turns a request of its protocol into an [`Asking`], and an
//! [`Answer`] into a response. It cannot leave out the metric, the audit line or the noted use, because only the door
//! creates answers.
//!
//! The verifier holds digests, times and names, but no plaintext. It has no permission to read any Secret. It writes
//! nothing but the times at which tokens were used.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the feed")]

mod audit;
mod cause;
pub mod check;
mod credential;
mod door;
pub mod explain;
mod feed;
#[cfg(test)]
mod fixture;
mod flaw;
mod guard;
pub mod index;
mod journal;
mod known;
mod origin;
#[cfg(test)]
mod properties;
mod protocol;
mod requested;
mod tally;
mod unguarded;
mod usage;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    crd::{ApiToken, GROUP},
    outside::{
        Clock, Entropy, Extent, Hearing, Reviewer, Rights, SystemEntropy, Taken, Tasks, Tls, TlsFiles, Verb, Writer,
        counted,
        hearing::StaleAfter,
        metrics::Metrics,
        peers::{self, Peer, Peers},
        probes,
        reviewer::REVIEWING,
        rights::{Right, Wanted},
        scrapes::{self, SecureMetrics},
        server::{self, Port, Server},
        traces::TraceOptions,
    },
};
use feed::Feeds;
use known::Known;
use protocol::Front;
use usage::Usage;

pub use crate::outside::sample::{NoSample, Sample};
pub use audit::{Audit, AuditOptions, WhenFull};
pub use cause::{Category, Cause};
pub use check::{Identity, Verdict};
pub use credential::Credential;
pub use door::{Answer, Asking, Door, PresentedCredential};
pub use flaw::Flaw;
pub use journal::Journal;
pub use origin::{Origin, RequestId};
pub use protocol::Protocol;
pub use requested::Requested;

/// The permissions that the verifier uses: the rules of its roles in the chart. Without the useful one it records no
/// uses.
pub const RIGHTS: Wanted = Wanted {
    program: "verifier",
    needed: &[
        Right::new(Verb::LIST, GROUP, "apitokens"),
        Right::new(Verb::WATCH, GROUP, "apitokens"),
        Right::new(Verb::LIST, GROUP, "instances"),
        Right::new(Verb::WATCH, GROUP, "instances"),
        Right::new(Verb::LIST, GROUP, "serviceaccounts"),
        Right::new(Verb::WATCH, GROUP, "serviceaccounts"),
        Right::new(Verb::LIST, GROUP, "accesspolicies"),
        Right::new(Verb::WATCH, GROUP, "accesspolicies"),
        Right::new(Verb::LIST, "", "namespaces"),
        Right::new(Verb::WATCH, "", "namespaces"),
    ],
    useful: &[Right::new(Verb::PATCH.status(), GROUP, "apitokens")],
};

/// The options of the verifier.
#[derive(Debug)]
pub struct Options {
    /// The namespaces that the verifier watches. A token or Instance in another namespace does not exist for it.
    pub scope: Extent,
    /// The port for proxies by plain HTTP, with `/healthz` and `/readyz`. Nobody can connect before every kind was read
    /// once. `None`: there is no such port.
    pub serving: Option<Taken>,
    /// The same port by HTTPS. Nobody can connect before its certificate was loaded, either. Until then the verifier is
    /// not ready. `None`: there is no such port.
    pub secure: Option<(Taken, TlsFiles)>,
    /// The port of `/healthz`, `/readyz` and `/metrics`, and of `/hearing` for other verifiers. `None`: there is no
    /// such port.
    pub probes: Option<Taken>,
    /// The age from which the index is stale, if the watches deliver nothing. Default: 5 minutes.
    pub stale_after: StaleAfter,
    /// The reaction to a stale index.
    pub stale_answers: StaleAnswers,
    /// The audit log. `None`: there is none.
    pub audit: Option<AuditOptions>,
    /// The port of `/metrics` for callers that prove themselves. `None`: the port of the probes serves `/metrics`.
    pub secure_metrics: Option<SecureMetrics>,
    /// The traces of decisions. `None`: there are none.
    pub traces: Option<TraceOptions>,
    /// The probe addresses of other verifiers that watch the same objects.
    pub peers: Vec<Peer>,
    /// Answers introspection (RFC 7662). Each caller is reviewed by the API server.
    pub introspection: bool,
    /// Stops the verifier when cancelled: the verifier answers open requests and returns.
    pub stop: CancellationToken,
}

/// The reaction of a verifier whose index is stale because no API server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StaleAnswers {
    /// Judge by the last known objects, and still refuse expired tokens. An outage of the API server then does not stop
    /// the API.
    #[default]
    Serve,
    /// Refuse every request with 503, and report not ready.
    Refuse,
}

/// The clients of the API server. Each has connections of its own. A connection of a watch is driven by the thread that
/// reads the objects, and waits while a large list is decoded. No other request may come to wait for that.
pub struct Clients {
    /// Lists and watches objects.
    pub watching: Client,
    /// Makes all other requests.
    pub asking: Client,
}

/// The number of random characters in the request ids that this process makes.
const PROCESS: usize = 10;

/// The reason why the verifier is not ready. A missing permission explains that nothing is heard. It does not explain
/// that records could be written.
fn explained(why: String, rights: &Rights) -> String {
    if why == guard::MISSING { why } else { rights.lacking().unwrap_or(why) }
}

/// Runs the verifier until `options.stop` is cancelled. The command `tokenry verifier` calls this function.
///
/// While the API server is away, the verifier judges by the objects that it read before, unless `options.stale_answers`
/// says otherwise.
///
/// # Errors
/// A task ended that should have kept running.
pub async fn run(clients: Clients, clock: Arc<dyn Clock>, options: Options) -> io::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let [watching, client] = [&clients.watching, &clients.asking].map(|client| counted(client, &metrics));
    let writer = Writer::new(client.clone(), clock.clone(), metrics.clone());
    let (hearing, stop) = (Hearing::close(options.stale_after), options.stop);
    let feeds = Feeds::new(&watching, &options.scope, &hearing);
    let (usage, news) = Usage::new();
    let known = Arc::new(Known::new(feeds.kinds(), usage, metrics.clone()));
    let process = <dyn Entropy>::base62(&SystemEntropy, PROCESS).map_err(io::Error::other)?;
    let mut tasks = Tasks::new(stop.clone());
    let (audit, closing) = options.audit.map(|audit| audit.open(&mut tasks, metrics.clone())).unzip();
    let (tracer, traced) = options.traces.map(|traces| traces.open(&mut tasks, metrics.clone())).unzip();
    let journal = Journal::new(metrics.clone(), audit, process.to_string()).tracing(tracer.unwrap_or_default());
    let door = Door::new(known.clone(), clock.clone(), journal, hearing.clone(), options.stale_answers);
    let (door, peers) = (Arc::new(door), Arc::new(Peers::new(options.peers)));
    tasks.endless("the writer of status.use", usage::write(known.clone(), writer.clone(), news));
    let guard = guard::watch(known.clone(), door.clone(), writer, options.scope.clone());
    tasks.endless("the test of the admission policies", guard);
    let waits_for = format!("the first list of: {}", Vec::from_iter(feeds.kinds()).join(", "));
    feeds.begin(&known, &mut tasks);
    let reviewing = REVIEWING.into_iter().filter(|_| options.introspection || options.secure_metrics.is_some());
    let rights = Rights::new(RIGHTS, &options.scope).using(reviewing);
    tasks.endless("the check of permissions", rights.clone().ask(client.clone(), waits_for));
    let reviewer = options.introspection.then(|| Arc::new(Reviewer::new(client.clone())));
    tasks.endless("the poll of the API server", hearing.clone().ask::<ApiToken>(client.clone(), options.scope));
    tasks.endless("the requests to other verifiers", peers.clone().ask(hearing.clone()));
    let pulse = tasks.pulse();
    let secure = options.secure.map(|(at, files)| (at, Tls::new(files, "the HTTPS port", clock)));
    let tls = secure.as_ref().map(|(_, tls)| tls.clone());
    tls.iter().for_each(|tls| keep(tls, &metrics, &mut tasks));
    let shut = ShutPorts::new([options.serving.is_some(), secure.is_some()]);
    let ready = {
        let (door, shut) = (door.clone(), shut.clone());
        let opened = move || tls.as_ref().map_or(Ok(()), Tls::missing).and_then(|()| shut.none());
        let heard = move || door.ready().map_err(|why| explained(why, &rights));
        move || heard().and_then(|()| opened()).and_then(|()| peers.none_hears_more())
    };
    let (measured, reviewed) = (door.clone(), reviewer.clone());
    metrics.reads(move |metrics| measured.measure(metrics, reviewed.as_deref()));
    let scrapes = scrapes::open(options.secure_metrics, (metrics, hearing.clone()), &client, &mut tasks, &stop)?;
    if let Some(at) = options.probes {
        let router = probes::probes(ready.clone(), pulse.clone()).merge(scrapes).merge(peers::router(hearing));
        let stop = stop.clone();
        tasks.finishing("the probes", async move { server::serve_probes(at, router, &stop).await });
    }
    tasks.finishing("the server", async move {
        // The last line and the last span are written after the last answer.
        let _closing = (closing, traced);
        if stop.run_until_cancelled(known.until_all_is_read()).await.is_none() {
            return Ok(());
        }
        tracing::info!("synced: every object was read once, and callers are answered");
        let router = probes::health(ready, pulse).merge(protocol::router(door.clone(), reviewer));
        let server = Server::new(Front::new(door, router), Port::Callers, stop.clone());
        let plainly = plainly(server.clone(), options.serving, &shut);
        tokio::try_join!(plainly, securely(server, secure, &stop, &shut)).map(|_| ())
    });
    tasks.join().await
}

/// Keeps the certificate of the HTTPS port as its files are, and measures it.
fn keep(tls: &Tls, metrics: &Metrics, tasks: &mut Tasks) {
    let measured = tls.clone();
    metrics.reads(move |metrics| measured.measure(metrics));
    tasks.endless("the watch of the certificate", tls.clone().watch());
}

/// The number of ports for callers at which nobody can connect yet.
#[derive(Clone)]
struct ShutPorts(Arc<AtomicUsize>);

impl ShutPorts {
    /// The ports that are wanted.
    fn new(wanted: [bool; 2]) -> Self {
        Self(Arc::new(AtomicUsize::new(wanted.into_iter().filter(|is_wanted| *is_wanted).count())))
    }

    /// Notes that callers can connect at one more port.
    fn open_one(&self) {
        self.0.fetch_sub(1, SeqCst);
    }

    /// Succeeds if callers can connect at all wanted ports.
    fn none(&self) -> Result<(), String> {
        if self.0.load(SeqCst) == 0 { Ok(()) } else { Err("the ports for callers are about to open".to_owned()) }
    }
}

/// Answers by plain HTTP at this address.
async fn plainly(server: Server<Front>, at: Option<Taken>, shut: &ShutPorts) -> io::Result<()> {
    let Some(at) = at else { return Ok(()) };
    let listener = at.listen("listening")?;
    shut.open_one();
    server.serve(listener, None).await
}

/// Answers by HTTPS at this address, from the moment the certificate was loaded.
async fn securely(
    server: Server<Front>,
    at: Option<(Taken, Tls)>,
    stop: &CancellationToken,
    shut: &ShutPorts,
) -> io::Result<()> {
    let Some((at, tls)) = at else { return Ok(()) };
    if stop.run_until_cancelled(tls.loaded()).await.is_none() {
        return Ok(());
    }
    let listener = at.listen_by("https", "listening")?;
    shut.open_one();
    server.serve(listener, Some(tls)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::{Address, SystemClock};
    use http::{Method, Request, Response};
    use kube::client::Body;
    use std::{collections::BTreeSet, convert::Infallible, sync::Mutex, time::Duration};
    use tokio::time::timeout;

    /// Requests, by method and kind.
    type SeenRequests = BTreeSet<(Method, String)>;

    /// A client of a server without objects, and the requests that it gets: their methods and the ends of their paths.
    fn client() -> (Client, Arc<Mutex<SeenRequests>>) {
        let seen = Arc::<Mutex<SeenRequests>>::default();
        let told = seen.clone();
        let serve = move |request: Request<Body>| {
            let kind = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            told.lock().unwrap().insert((request.method().clone(), kind));
            let list = r#"{"metadata": {"resourceVersion": "7"}, "items": []}"#;
            async { Ok::<_, Infallible>(Response::new(Body::from(list.as_bytes().to_vec()))) }
        };
        (Client::new(tower::service_fn(serve), "a"), seen)
    }

    #[tokio::test]
    async fn watches_share_no_connection_with_other_requests() {
        let ((watching, watched), (asking, asked)) = (client(), client());
        let options = Options {
            scope: Extent::default(),
            // A verifier without a port ends once it has read everything.
            serving: Some("127.0.0.1:0".parse::<Address>().unwrap().take("--listen").unwrap()),
            secure: None,
            probes: None,
            stale_after: StaleAfter::default(),
            stale_answers: StaleAnswers::default(),
            audit: None,
            peers: Vec::new(),
            introspection: true,
            secure_metrics: None,
            traces: None,
            stop: CancellationToken::new(),
        };
        let running = run(Clients { watching, asking }, Arc::new(SystemClock), options);
        let kinds = ["accesspolicies", "apitokens", "instances", "namespaces", "serviceaccounts"];
        let kinds = BTreeSet::from(kinds.map(|kind| (Method::GET, kind.to_owned())));
        let done = async {
            let others = || asked.lock().unwrap().iter().any(|(method, _)| method == Method::POST);
            while *watched.lock().unwrap() != kinds || !others() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = running => panic!("{ended:?}"),
            done = timeout(Duration::from_secs(60), done) => done.unwrap(),
        }
        assert_eq!(*watched.lock().unwrap(), kinds);
    }
}
