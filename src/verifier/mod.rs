//! Judges the tokens that callers present. Adapters translate; [`check`](check::check) judges.
//!
//! ```text
//! watches ─▶ feed ─▶ index ◀─ check ◀─ judge ◀─ forward_auth ◀─ proxy
//!                   in memory  pure    waits    HTTP
//! ```
//!
//! It holds digests, times and names, never a plaintext, and has no right to read any Secret. All that it writes is when
//! tokens were used.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the feed")]

mod asked;
pub mod audit;
mod cause;
pub mod check;
pub mod credential;
pub mod explain;
mod feed;
mod forward_auth;
mod guard;
pub mod index;
mod judge;
mod usage;

pub use asked::Asked;
pub use cause::Cause;
use std::{io, sync::Arc};

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    crd::ApiToken,
    outside::{
        Clock, Hearing, Scope, Taken, Tasks, Writer,
        hearing::StaleAfter,
        metrics::Metrics,
        peers::{self, Peer, Peers},
        probes,
        server::{self, Port},
    },
};
use usage::Usage;

pub use judge::Judge;

/// How the verifier runs.
#[derive(Debug)]
pub struct Options {
    /// Which namespaces it looks at: a token or Instance elsewhere does not exist for it.
    pub scope: Scope,
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
    let (usage, news) = Usage::new();
    let (hearing, stop) = (Hearing::close(options.stale_after), options.stop);
    let judge = Judge::new(clock, metrics.clone(), usage, hearing.clone(), options.stale_answers);
    let (judge, peers) = (Arc::new(judge), Arc::new(Peers::new(options.peers)));
    let mut tasks = Tasks::new(stop.clone());
    tasks.endless("the writer of uses", usage::write(judge.clone(), writer.clone(), news));
    tasks.endless("the guard", guard::watch(judge.clone(), writer));
    feed::start(&client, &options.scope, &judge, &mut tasks);
    tasks.endless("the question where the server is", hearing.clone().ask::<ApiToken>(client, options.scope));
    tasks.endless("the questions to peers", peers.clone().ask(hearing.clone()));
    let ready = {
        let judge = judge.clone();
        move || judge.ready().and_then(|()| peers.none_hears_more())
    };
    if let Some(at) = options.probes {
        let router = probes::probes(ready.clone(), metrics, hearing.clone()).merge(peers::router(hearing));
        let stop = stop.clone();
        tasks.finishing("the probes", async move { server::serve_probes(at, router, &stop).await });
    }
    tasks.finishing("the server", async move {
        if stop.run_until_cancelled(judge.has_read()).await.is_none() {
            return Ok(());
        }
        let router = probes::health(ready).merge(forward_auth::router(judge));
        server::serve(options.serving.listen("listening")?, router, Port::Callers, stop).await
    });
    tasks.join().await
}
