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
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::outside::{Clock, Scope, Tasks, Writer, metrics::Metrics, server};
use usage::Usage;

pub use judge::Judge;

/// How the verifier runs.
#[derive(Debug)]
pub struct Options {
    /// Which namespaces it looks at: a token or Instance elsewhere does not exist for it.
    pub scope: Scope,
    /// Serves what is asked of it, and `/healthz`, `/readyz` and `/metrics`.
    pub listener: TcpListener,
    /// Cancelled, the verifier answers what was asked and returns.
    pub stop: CancellationToken,
}

/// Runs the verifier until it is told to stop. This is what `tokenry verifier` does.
///
/// What was read once is judged by for as long as the API server is away.
///
/// # Errors
/// A task ended that should not have.
pub async fn run(client: Client, clock: Arc<dyn Clock>, options: Options) -> io::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let writer = Writer::new(client.clone(), clock.clone(), metrics.clone());
    let (usage, news) = Usage::new();
    let judge = Arc::new(Judge::new(clock, metrics.clone(), usage));
    let mut tasks = Tasks::new(options.stop.clone());
    tasks.endless("the writer of uses", usage::write(judge.clone(), writer.clone(), news));
    tasks.endless("the guard", guard::watch(judge.clone(), writer));
    feed::start(&client, &options.scope, &judge, &mut tasks);
    let ready = judge.clone();
    let router = server::probes(metrics, move || ready.ready()).merge(forward_auth::router(judge));
    tasks.finishing("the server", server::serve(options.listener, router, options.stop));
    tasks.join().await
}
