//! Other replicas of this process: whether one of them hears the API server while this one does not.
//!
//! A replica that no API server answers cannot tell whether the server is away or only the way to it is cut. In the one
//! case it has to go on, as all of them are alike; in the other one callers are better served by those who hear.

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

/// Where a replica tells another whether it hears.
const PATH: &str = "/hearing";
/// What one says that does. Anything else may be said by whoever has its address by now.
const HEARS: &str = "hears the API server\n";
/// The longest answer that is read.
const LONGEST: usize = 1024;
/// How often peers are asked while the API server does not answer, and whether it does.
const EVERY: Duration = Duration::from_secs(1);
/// How often their addresses are looked up while it does.
const LOOK_UP: Duration = Duration::from_secs(10);
/// How long an answer may take, of a peer or of the DNS.
const PATIENCE: Duration = Duration::from_secs(1);

/// `/hearing`: 200 while this replica hears the API server, else 503. One that has not listed everything yet does not
/// hear.
pub fn router(hearing: Hearing) -> Router {
    let answer = move || {
        let hears = !hearing.is_old();
        std::future::ready(if hears { (StatusCode::OK, HEARS) } else { (StatusCode::SERVICE_UNAVAILABLE, "cut off\n") })
    };
    Router::new().route(PATH, get(answer))
}

/// Where other replicas are found: `HOST:PORT`, where the host may stand for several.
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
    /// The addresses that were known last: where the API server is away, so may be the DNS.
    known: Mutex<Vec<SocketAddr>>,
    hear_more: AtomicBool,
}

impl Peers {
    /// The peers that are found under `names`.
    pub fn new(names: Vec<Peer>) -> Self {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Self { names, client, known: Mutex::default(), hear_more: AtomicBool::new(false) }
    }

    /// Whether none of them hears what this one does not; an error says that one does.
    pub fn none_hears_more(&self) -> Result<(), String> {
        if self.hear_more.load(Ordering::SeqCst) {
            return Err("cut off: no API server answers this replica, and another replica hears it".into());
        }
        Ok(())
    }

    /// Asks them while the API server does not answer. It never ends.
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
                tracing::warn!("cut off: another replica hears the API server; not ready until this one does");
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

    /// Whether a peer says in time that it hears. This replica, which may be among them, says that it does not.
    async fn hears(&self, peer: SocketAddr) -> bool {
        timeout(PATIENCE, self.answer(peer)).await.is_ok_and(|answer| answer.is_some_and(|said| said == HEARS))
    }

    /// What a peer answers, where that is 200.
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
