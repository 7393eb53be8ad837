//! Wires caches, controllers and shutdown; joins every task.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the rooms outside")]

use std::{io, sync::Arc};

use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    controller::{Caches, Rooms, account, instance, run::run as control, token},
    crd::secret,
    outside::{Cache, Clock, Reader, Scope, Tasks, Writer, events::Events, metrics::Metrics, server},
};

/// How the operator runs.
#[derive(Debug, Default)]
pub struct Options {
    /// Which namespaces it works on.
    pub scope: Scope,
    /// Serves `/healthz`, `/readyz` and `/metrics`. Left out: they are not served.
    pub listener: Option<TcpListener>,
    /// Name of this process in events: its Pod.
    pub instance: Option<String>,
    /// Cancelled, the operator finishes the passes under way and returns.
    pub stop: CancellationToken,
}

/// Runs the operator until it is told to stop. This is what `tokenry operator` does.
///
/// Whatever it needs and is not there yet is waited for: the API server, the CRDs, the rights.
///
/// # Errors
/// A task ended that should not have. The process is to end then: an operator that
/// is half alive looks healthy and does nothing.
pub async fn run(client: Client, clock: Arc<dyn Clock>, options: Options) -> io::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let rooms = Arc::new(rooms(&client, clock, &options, metrics.clone()));
    let stop = options.stop;
    let mut tasks = Tasks::new(stop.clone());
    let triggers = (token::triggers(&rooms), instance::triggers(&rooms), account::triggers(&rooms));
    feed(&rooms, &mut tasks);
    let caches = &rooms.caches;
    tasks.finishing("the token controller", control(rooms.clone(), caches.tokens.store(), triggers.0, stop.clone()));
    tasks.finishing(
        "the instance controller",
        control(rooms.clone(), caches.instances.store(), triggers.1, stop.clone()),
    );
    tasks
        .finishing("the account controller", control(rooms.clone(), caches.accounts.store(), triggers.2, stop.clone()));
    if let Some(listener) = options.listener {
        let ready = rooms.clone();
        let probes = server::probes(metrics, move || ready.caches.missing());
        tasks.finishing("the server", server::serve(listener, probes, stop));
    }
    tasks.join().await
}

/// Everything that a pass may touch, over `client`.
pub fn rooms(client: &Client, clock: Arc<dyn Clock>, options: &Options, metrics: Arc<Metrics>) -> Rooms {
    let scope = &options.scope;
    let caches = Caches {
        instances: Cache::new(scope.watch(client)),
        accounts: Cache::new(scope.watch(client)),
        tokens: Cache::new(scope.watch(client)),
        secrets: Cache::new(scope.watch_type(client, secret::TYPE)),
        services: Cache::new(scope.watch(client)),
        ingresses: Cache::new(scope.watch(client)),
        namespaces: Cache::new(scope.watch_namespaces(client)),
    };
    Rooms {
        caches,
        reader: Reader::new(client.clone()),
        writer: Writer::new(client.clone(), clock.clone(), metrics.clone()),
        events: Events::new(client.clone(), options.instance.clone(), metrics.clone()),
        clock,
        metrics,
    }
}

/// Fills every cache, each in a task of its own: a slow one does not hold up the others.
fn feed(rooms: &Arc<Rooms>, tasks: &mut Tasks) {
    macro_rules! feed {
        ($($cache:ident),*) => {$({
            let rooms = rooms.clone();
            tasks.endless(concat!("the watch of ", stringify!($cache)), async move { rooms.caches.$cache.run().await });
        })*};
    }
    feed!(instances, accounts, tokens, secrets, services, ingresses, namespaces);
}
