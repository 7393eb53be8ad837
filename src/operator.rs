//! Wires caches, controllers and shutdown; joins every task.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the rooms outside")]

use std::{io, sync::Arc};

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    controller::{
        Caches, Rooms, account, instance,
        kind::{is_news, is_news_of_meta},
        policy,
        ruled::RuleBook,
        run::run as control,
        token,
    },
    crd::{ApiToken, secret},
    outside::{
        Cache, Clock, Hearing, Joint, Reader, Scope, Taken, Tasks, Writer,
        events::{Events, Scribe, Untold},
        metrics::Metrics,
        probes,
        server::{self, Port},
    },
};

/// How the operator runs.
#[derive(Debug, Default)]
pub struct Options {
    /// Which namespaces it works on.
    pub scope: Scope,
    /// Serves `/healthz` and `/readyz`. Left out: they are not served here.
    pub serving: Option<Taken>,
    /// Serves `/healthz`, `/readyz` and `/metrics`. Left out: they are not served.
    pub probes: Option<Taken>,
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
    let hearing = Hearing::default();
    let (rooms, scribe) = rooms(&client, clock, &options, metrics.clone(), &hearing);
    let (caches, stamping) = (rooms.caches.clone(), rooms.stamping.clone());
    let (rooms, stop) = (Arc::new(rooms), options.stop);
    let mut tasks = Tasks::new(stop.clone());
    tasks.endless(
        "the question where the server is",
        hearing.clone().ask::<ApiToken>(client.clone(), options.scope.clone()),
    );
    let triggers =
        (token::triggers(&rooms), instance::triggers(&rooms), account::triggers(&rooms), policy::triggers(&rooms));
    feed(&caches, &mut tasks);
    ask_for_stamps(&rooms, options.scope.home(&client), &mut tasks);
    tasks.finishing("the token controller", control(rooms.clone(), caches.tokens.store(), triggers.0, stop.clone()));
    tasks.finishing(
        "the instance controller",
        control(rooms.clone(), caches.instances.store(), triggers.1, stop.clone()),
    );
    tasks
        .finishing("the account controller", control(rooms.clone(), caches.accounts.store(), triggers.2, stop.clone()));
    tasks.finishing("the policy controller", control(rooms.clone(), caches.policies.store(), triggers.3, stop.clone()));
    let told = stop.clone();
    tasks.finishing("the scribe of events", async move {
        scribe.run(told).await;
        Ok(())
    });
    let ready = move || caches.missing().and_then(|()| stamping.missing());
    if let Some(serving) = options.serving {
        let router = probes::health(ready.clone());
        tasks.finishing("the server", server::serve(serving.listen("listening")?, router, Port::Probes, stop.clone()));
    }
    if let Some(at) = options.probes {
        let router = probes::probes(ready, metrics, hearing);
        tasks.finishing("the probes", server::serve(at.listen("probes")?, router, Port::Probes, stop));
    }
    // From here on only the controllers can publish events: when they have finished, the scribe does.
    drop(rooms);
    tasks.join().await
}

/// Asks whether tokens can be made yet, in `namespace`, and whether they are stamped. It holds nothing that publishes events.
fn ask_for_stamps(rooms: &Rooms, namespace: String, tasks: &mut Tasks) {
    let (stamping, caches) = (rooms.stamping.clone(), rooms.caches.clone());
    let (writer, metrics) = (rooms.writer.clone(), rooms.metrics.clone());
    tasks.endless("the look for stamps", async move {
        stamping.watched(&caches, &writer, &metrics, &namespace).await;
    });
}

/// Everything that a pass may touch, over `client`, and what writes the events.
fn rooms(
    client: &Client,
    clock: Arc<dyn Clock>,
    options: &Options,
    metrics: Arc<Metrics>,
    hearing: &Hearing,
) -> (Rooms, Scribe) {
    let scope = &options.scope;
    let caches = Caches {
        instances: Cache::new(scope.watch(client, hearing)).telling(is_news),
        accounts: Cache::new(scope.watch(client, hearing)).telling(is_news),
        policies: Cache::new(scope.watch(client, hearing)).telling(is_news),
        users: Cache::new(scope.watch(client, hearing)).telling(is_news_of_meta),
        tokens: Cache::new(scope.watch(client, hearing)).telling(is_news),
        secrets: Cache::new(scope.watch_type(client, secret::TYPE, hearing)),
        services: Cache::new(scope.watch(client, hearing)),
        ingresses: Cache::new(scope.watch(client, hearing)),
        namespaces: Cache::new(scope.watch_namespaces(client, hearing)).telling(is_news_of_meta),
    };
    let (events, scribe) = Events::new(client.clone(), options.instance.clone(), metrics.clone());
    let reader = Reader::new(client.clone());
    let rooms = Rooms {
        caches: Arc::new(caches),
        accounts: Arc::new(Joint::new(reader.clone())),
        reader,
        writer: Writer::new(client.clone(), clock.clone(), metrics.clone()),
        mints: token::Mints::default(),
        stamping: Arc::default(),
        untold: Untold::default(),
        rules: RuleBook::default(),
        events,
        clock,
        metrics,
    };
    (rooms, scribe)
}

/// Fills every cache, each in a task of its own: a slow one does not hold up the others.
fn feed(caches: &Arc<Caches>, tasks: &mut Tasks) {
    macro_rules! feed {
        ($($cache:ident),*) => {$({
            let caches = caches.clone();
            tasks.endless(concat!("the watch of ", stringify!($cache)), async move { caches.$cache.run().await });
        })*};
    }
    feed!(instances, accounts, policies, users, tokens, secrets, services, ingresses, namespaces);
}
