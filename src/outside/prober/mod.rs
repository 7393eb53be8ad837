//! The probes of endpoints. Each asks for `/.tokenry/probe` without a credential, and wants the verifier's own challenge.
//!
//! A user gives the host, so a probe must not become a way into the network. It asks no loopback, link-local or
//! metadata address, and follows no redirect. A status reports only the class of the answer.

mod agenda;
mod ask;
mod barred;
mod challenge;
mod target;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, future::BoxFuture};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use tokio::{
    sync::{Notify, mpsc},
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use super::Clock;
use crate::crd::Instance;
use agenda::{Agenda, Due};
use ask::Asker;

pub use target::{ProbeAnswer, ProbeReach, ProbeTarget, Probed};
pub use target::{ProbeAnswer as Answer, ProbeReach as Reach, ProbeTarget as Target, Probed as Seen};

/// Asks a target. The place is held until the last part of the probe is dropped.
type Ask = Box<dyn Fn(Arc<ProbeTarget>, Arc<HeldPlace>) -> BoxFuture<'static, ProbeAnswer> + Send + Sync>;

/// The probes of all Instances.
pub struct Prober {
    clock: Arc<dyn Clock>,
    ask: Ask,
    plan: Arc<Plan>,
    listeners: Mutex<Vec<mpsc::UnboundedSender<ObjectRef<Instance>>>>,
}

/// The agenda, and the bell that reports a change of it to [`Prober::run`].
#[derive(Default)]
struct Plan {
    agenda: Mutex<Agenda>,
    bell: Notify,
}

/// A place among the probes that run. Dropping it gives the place back.
struct HeldPlace {
    plan: Arc<Plan>,
    namespace: Arc<str>,
}

/// A probe that runs.
struct Running {
    target: Arc<ProbeTarget>,
    at: Timestamp,
}

impl Prober {
    /// A prober without targets. If `lenient`, it asks loopback and link-local addresses too.
    pub fn new(clock: Arc<dyn Clock>, lenient: bool) -> Self {
        let asker = Arc::new(Asker::new(lenient));
        let ask = move |target: Arc<ProbeTarget>, place: Arc<HeldPlace>| -> BoxFuture<'static, ProbeAnswer> {
            let asker = asker.clone();
            Box::pin(async move { asker.ask(&target, place).await })
        };
        Self::asking(clock, Box::new(ask))
    }

    fn asking(clock: Arc<dyn Clock>, ask: Ask) -> Self {
        Self { clock, ask, plan: Arc::default(), listeners: Mutex::default() }
    }

    /// Replaces the targets of `owner`, at most four. New ones are asked at once. An empty list removes the owner.
    pub fn keep(&self, owner: &ObjectRef<Instance>, targets: Vec<ProbeTarget>) {
        self.plan.agenda().keep(owner, targets, Instant::now());
        self.plan.bell.notify_one();
    }

    /// The last answer of `target`. `None` before the first one.
    ///
    /// A target with another interval, timeout or `ca` keeps the answer of the former one until its own first probe.
    pub fn seen(&self, target: &ProbeTarget) -> Option<Probed> {
        self.plan.agenda().seen(target)
    }

    /// Asks `target` soon, because something has changed. Two probes of a target start at least two seconds apart.
    pub fn hurry(&self, target: &ProbeTarget) {
        self.plan.agenda().hurry(target, Instant::now());
        self.plan.bell.notify_one();
    }

    /// Yields the owner of a target at its first answer, and when an answer differs from the one before.
    pub fn changes(&self) -> impl Stream<Item = ObjectRef<Instance>> + Send + use<> {
        let (tell, mut hear) = mpsc::unbounded_channel();
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(tell);
        futures::stream::poll_fn(move |context| hear.poll_recv(context))
    }

    /// Asks the targets when they are due. Never returns.
    pub async fn run(&self) {
        let (mut probes, mut running) = (JoinSet::new(), HashMap::new());
        loop {
            while let Some(due) = self.plan.start() {
                let (id, started) = self.start(due, &mut probes);
                running.insert(id, started);
            }
            let wakes = self.plan.agenda().wakes();
            tokio::select! {
                () = self.plan.bell.notified() => {}
                Some(ended) = probes.join_next_with_id() => self.end(ended, &mut running),
                () = sleep_until(wakes.unwrap_or_else(Instant::now)), if wakes.is_some() => {}
            }
        }
    }

    fn start(&self, due: Due, probes: &mut JoinSet<ProbeAnswer>) -> (Id, Running) {
        let Due { target, namespace } = due;
        let (place, at) = (Arc::new(HeldPlace { plan: self.plan.clone(), namespace }), self.clock.now());
        let id = probes.spawn((self.ask)(target.clone(), place)).id();
        (id, Running { target, at })
    }

    fn end(&self, ended: Result<(Id, ProbeAnswer), JoinError>, running: &mut HashMap<Id, Running>) {
        let (id, answer) = ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a probe ended unexpectedly");
            (error.id(), ProbeAnswer::Silent)
        });
        let Some(Running { target, at }) = running.remove(&id) else { return };
        let owners = self.plan.agenda().end(&target, answer, at, Instant::now());
        if !owners.is_empty() {
            tracing::debug!(host = target.host, port = target.port, ?answer, "the answer to a probe has changed");
        }
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| owners.iter().all(|owner| listener.send(owner.clone()).is_ok()));
    }
}

impl Plan {
    /// The agenda. A task that panics while it holds the agenda leaves it in order.
    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Option<Due> {
        self.agenda().start(Instant::now())
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.plan.agenda().leave(&self.namespace);
        self.plan.bell.notify_one();
    }
}
