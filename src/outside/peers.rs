//! The other replicas of this process. A replica without an answer from the API server asks them if they have one.
//!
//! Such a replica cannot distinguish two cases by itself. If the API server is down, all replicas are alike, and this
//! one has to continue. If only this replica's connection is cut, the other replicas serve callers better.

use std::{
    net::SocketAddr,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::StatusCode,
    routing::get,
};
use futures::future::join_all;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    net::lookup_host,
    time::{Instant, sleep, timeout},
};

use super::Hearing;

/// The path at which a replica answers if it hears the API server.
const PATH: &str = "/hearing";
/// The body of a positive answer. Another body may come from another program that has the peer's former address.
const HEARS: &str = "hears the API server\n";
/// Maximum length of an answer, in bytes.
const LONGEST: usize = 1024;
/// Interval at which the peers are asked. They are asked only while the API server does not answer.
const EVERY: Duration = Duration::from_secs(1);
/// Minimum interval between two look-ups of the peers' addresses.
const LOOK_UP: Duration = Duration::from_secs(10);
/// Timeout of an answer from a peer or from the DNS.
const PATIENCE: Duration = Duration::from_secs(1);

/// `/hearing` answers 200 while this replica hears the API server, else 503. A replica that has not listed everything
/// yet answers 503. A namespace of several that it may not read does not matter: its peers do not hear of that either.
pub fn router(hearing: Hearing) -> Router {
    let answer = move || {
        let hears = !hearing.is_cut_off();
        std::future::ready(if hears { (StatusCode::OK, HEARS) } else { (StatusCode::SERVICE_UNAVAILABLE, "cut off\n") })
    };
    Router::new().route(PATH, get(answer))
}

/// The address of other replicas, as `HOST:PORT`. A host name may resolve to several replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(String);

impl FromStr for Peer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (host, port) = text.rsplit_once(':').ok_or("give HOST:PORT")?;
        let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
        if is_host && port.parse::<u16>().is_ok() { Ok(Self(text.to_owned())) } else { Err("give HOST:PORT") }
    }
}

/// The other replicas.
pub struct Peers {
    names: Vec<Peer>,
    client: Client<HttpConnector, Body>,
    /// The addresses of the last successful look-up. While the API server is down, the DNS may be down too.
    known: Mutex<Vec<SocketAddr>>,
    hear_more: AtomicBool,
}

impl Peers {
    /// The peers that are found under `names`.
    pub fn new(names: Vec<Peer>) -> Self {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Self { names, client, known: Mutex::default(), hear_more: AtomicBool::new(false) }
    }

    /// An error if another replica hears the API server while this one does not.
    pub fn none_hears_more(&self) -> Result<(), String> {
        if self.hear_more.load(Ordering::SeqCst) {
            return Err("cut off: the API server does not answer this replica, but it answers another replica".into());
        }
        Ok(())
    }

    /// Asks the peers while the API server does not answer. Never returns.
    pub async fn ask(self: Arc<Self>, hearing: Hearing) {
        let mut looked_up = None::<Instant>;
        loop {
            if looked_up.is_none_or(|at| at.elapsed() >= LOOK_UP) {
                self.look_up().await;
                looked_up = Some(Instant::now());
            }
            let hear_more = hearing.silence().is_some() && self.any_hears().await;
            let heard_more = self.hear_more.swap(hear_more, Ordering::SeqCst);
            if hear_more && !heard_more {
                tracing::warn!(
                    "cut off: the API server does not answer this replica, but it answers another replica; this replica is not ready"
                );
            }
            sleep(EVERY).await;
        }
    }

    async fn look_up(&self) {
        let found = join_all(self.names.iter().map(|name| timeout(PATIENCE, lookup_host(&name.0)))).await;
        let found: Vec<SocketAddr> = found.into_iter().flatten().flatten().flatten().collect();
        if !found.is_empty() {
            *self.known.lock().expect("nobody panics here") = found;
        }
    }

    async fn any_hears(&self) -> bool {
        let known = self.known.lock().expect("nobody panics here").clone();
        join_all(known.into_iter().map(|peer| self.hears(peer))).await.contains(&true)
    }

    /// True if a peer answers in time that it hears the API server. This replica may be among its own peers, and then
    /// answers that it does not.
    async fn hears(&self, peer: SocketAddr) -> bool {
        timeout(PATIENCE, self.answer(peer)).await.is_ok_and(|answer| answer.is_some_and(|said| said == HEARS))
    }

    /// The body of a peer's answer, if its status is 200.
    async fn answer(&self, peer: SocketAddr) -> Option<Bytes> {
        let answer = self.client.get(format!("http://{peer}{PATH}").parse().ok()?).await.ok()?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        to_bytes(Body::new(answer.into_body()), LONGEST).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_host_and_a_port() {
        for good in ["verifier.tokenry:9090", "10.0.0.1:9090", "[::1]:9090"] {
            assert!(good.parse::<Peer>().is_ok(), "{good}");
        }
        for odd in ["verifier", "", ":9090", "http://x:80", "nohost:99999", "x:"] {
            assert_eq!(odd.parse::<Peer>(), Err("give HOST:PORT"), "{odd}");
        }
    }
}
