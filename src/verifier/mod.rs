//! Judges the tokens that callers present. Adapters translate; the [`Door`] answers, and [`check`](check::check)
//! judges.
//!
//! ```text
//! watches ─▶ feed ─▶ known ◀── check ◀── door ◀─ Asking ── forward_auth ◀── proxy
//!                    index     authen-   waits, ─ Answer ▶ HTTP
//!                    in        ticate,   counts,
//!                    memory    authorize writes down
//! ```
//!
//! A protocol is a file that makes an [`Asking`] of what it hears and words of an [`Answer`]. It can forget neither
//! metric, audit nor use: the door alone makes answers.
//!
//! It holds digests, times and names, never a plaintext, and has no right to read any Secret. All that it writes is
//! when tokens were used.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the feed")]

mod audit;
mod cause;
pub mod check;
mod credential;
mod door;
pub mod explain;
mod feed;
mod forward_auth;
mod guard;
pub mod index;
mod known;
mod proxied;
mod requested;
mod usage;

use std::{io, sync::Arc};

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    crd::ApiToken,
    outside::{
        Clock, Extent, Hearing, Taken, Tasks, Writer,
        hearing::StaleAfter,
        metrics::Metrics,
        peers::{self, Peer, Peers},
        probes,
        server::{self, Port},
    },
};
use feed::Feeds;
use known::Known;
use usage::Usage;

pub use cause::{Category, Cause};
pub use check::{Identity, Verdict};
pub use door::{Answer, Asking, Door};
pub use requested::Requested;

/// How the verifier runs.
#[derive(Debug)]
pub struct Options {
    /// Which namespaces it looks at: a token or Instance elsewhere does not exist for it.
    pub scope: Extent,
    /// Serves what is asked of it, and `/healthz` and `/readyz`. Nobody can connect before everything was read once.
    pub serving: Taken,
    /// Serves `/healthz`, `/readyz` and `/metrics`, and `/hearing` for other verifiers. Left out: they are not served.
    pub probes: Option<Taken>,
    /// How old what was heard may be before it is stale.
    pub stale_after: StaleAfter,
    /// What is done once it is.
    pub stale_answers: StaleAnswers,
    /// Where the probes of other verifiers of these objects are.
    pub peers: Vec<Peer>,
    /// Cancelled, the verifier answers what was asked and returns.
    pub stop: CancellationToken,
}

/// What a verifier does that has heard nothing for too long because no API server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StaleAnswers {
    /// It judges by what it knows, expiry included: an API server that is away takes no API down.
    #[default]
    Serve,
    /// It refuses everybody with 503, and is not ready.
    Refuse,
}

/// Runs the verifier until it is told to stop. This is what `tokenry verifier` does.
///
/// What was read once is judged by for as long as the API server is away, unless `options` say otherwise.
///
/// # Errors
/// A task ended that should not have.
pub async fn run(client: Client, clock: Arc<dyn Clock>, options: Options) -> io::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let writer = Writer::new(client.clone(), clock.clone(), metrics.clone());
    let (hearing, stop) = (Hearing::close(options.stale_after), options.stop);
    let feeds = Feeds::new(&client, &options.scope, &hearing);
    let (usage, news) = Usage::new();
    let known = Arc::new(Known::new(feeds.kinds(), usage));
    let door = Door::new(known.clone(), clock, metrics.clone(), hearing.clone(), options.stale_answers);
    let (door, peers) = (Arc::new(door), Arc::new(Peers::new(options.peers)));
    let mut tasks = Tasks::new(stop.clone());
    tasks.endless("the writer of uses", usage::write(known.clone(), writer.clone(), news));
    tasks.endless("the guard", guard::watch(known.clone(), door.clone(), writer));
    feeds.begin(&known, &mut tasks);
    tasks.endless("the question where the server is", hearing.clone().ask::<ApiToken>(client, options.scope));
    tasks.endless("the questions to peers", peers.clone().ask(hearing.clone()));
    let ready = {
        let door = door.clone();
        move || door.ready().and_then(|()| peers.none_hears_more())
    };
    if let Some(at) = options.probes {
        let router = probes::probes(ready.clone(), metrics, hearing.clone()).merge(peers::router(hearing));
        let stop = stop.clone();
        tasks.finishing("the probes", async move { server::serve_probes(at, router, &stop).await });
    }
    tasks.finishing("the server", async move {
        if stop.run_until_cancelled(known.until_all_is_read()).await.is_none() {
            return Ok(());
        }
        let router = probes::health(ready).merge(forward_auth::router(door));
        server::serve(options.serving.listen("listening")?, router, Port::Callers, stop).await
    });
    tasks.join().await
}
