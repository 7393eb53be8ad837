//! The probes of endpoints. Each asks for `/.tokenry/probe` without a credential, and wants the verifier's challenge.
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

pub(super) use ask::resolved;

pub use target::{ProbeAnswer, ProbeReach, ProbeTarget, Probed};

/// Asks a target. The place is held until the last part of the probe is dropped.
type Ask = Box<dyn Fn(Arc<ProbeTarget>, Arc<HeldPlace>) -> BoxFuture<'static, ProbeAnswer> + Send + Sync>;

/// The probes of all Instances.
pub struct Prober {
    clock: Arc<dyn Clock>,
    ask: Ask,
    board: Arc<Board>,
    listeners: Mutex<Vec<mpsc::UnboundedSender<ObjectRef<Instance>>>>,
}

/// The agenda, and the bell that reports a change of it to [`Prober::run`].
#[derive(Default)]
struct Board {
    agenda: Mutex<Agenda>,
    bell: Notify,
}

/// A place among the probes that run. Dropping it gives the place back.
struct HeldPlace {
    board: Arc<Board>,
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
        Self { clock, ask, board: Arc::default(), listeners: Mutex::default() }
    }

    /// Replaces the targets of `owner`, at most four. New ones are asked at once. An empty list removes the owner.
    pub fn keep(&self, owner: &ObjectRef<Instance>, targets: Vec<ProbeTarget>) {
        self.board.agenda().keep(owner, targets, Instant::now());
        self.board.bell.notify_one();
    }

    /// The last answer of `target`. `None` before the first one.
    ///
    /// A target with another interval, timeout or `ca` keeps the answer of the former one until its own first probe.
    pub fn seen(&self, target: &ProbeTarget) -> Option<Probed> {
        self.board.agenda().seen(target)
    }

    /// Asks `target` soon, because something has changed. Two probes of a target start at least two seconds apart.
    pub fn hurry(&self, target: &ProbeTarget) {
        self.board.agenda().hurry(target, Instant::now());
        self.board.bell.notify_one();
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
            while let Some(due) = self.board.start() {
                let (id, started) = self.start(due, &mut probes);
                running.insert(id, started);
            }
            let wakes = self.board.agenda().wakes();
            tokio::select! {
                () = self.board.bell.notified() => {}
                Some(ended) = probes.join_next_with_id() => self.end(ended, &mut running),
                () = sleep_until(wakes.unwrap_or_else(Instant::now)), if wakes.is_some() => {}
            }
        }
    }

    fn start(&self, due: Due, probes: &mut JoinSet<ProbeAnswer>) -> (Id, Running) {
        let Due { target, namespace } = due;
        let (place, at) = (Arc::new(HeldPlace { board: self.board.clone(), namespace }), self.clock.now());
        let id = probes.spawn((self.ask)(target.clone(), place)).id();
        (id, Running { target, at })
    }

    fn end(&self, ended: Result<(Id, ProbeAnswer), JoinError>, running: &mut HashMap<Id, Running>) {
        let (id, answer) = ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a probe ended unexpectedly");
            (error.id(), ProbeAnswer::Silent)
        });
        let Some(Running { target, at }) = running.remove(&id) else { return };
        let owners = self.board.agenda().end(&target, answer, at, Instant::now());
        if !owners.is_empty() {
            tracing::debug!(host = target.host, port = target.port, ?answer, "the answer to a probe has changed");
        }
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| owners.iter().all(|owner| listener.send(owner.clone()).is_ok()));
    }
}

impl Board {
    /// The agenda. No method of it panics, so a lock is never poisoned.
    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Option<Due> {
        self.agenda().start(Instant::now())
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.board.agenda().leave(&self.namespace);
        self.board.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crd::instance::Scheme, outside::SystemClock};
    use futures::{FutureExt, StreamExt};
    use jiff::SignedDuration;
    use std::{collections::VecDeque, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::sleep,
    };

    pub(super) const REALM: &str = "tokenry/shop/eem";

    pub(super) fn owner(namespace: &str, name: &str) -> ObjectRef<Instance> {
        ObjectRef::new(name).within(namespace)
    }

    pub(super) fn target(host: &str) -> ProbeTarget {
        ProbeTarget {
            reach: ProbeReach::Published,
            scheme: Scheme::Https,
            host: host.into(),
            port: 443,
            about: String::new(),
            realm: REALM.into(),
            interval: SignedDuration::from_secs(60),
            timeout: SignedDuration::from_secs(30),
            ca: None,
        }
    }

    /// A clock that runs with tokio's.
    struct Along(Instant);

    impl Clock for Along {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(self.0.elapsed().as_secs() as i64).unwrap()
        }
    }

    /// A prober whose probes take a second each. The first answers are given, and all others are our challenge. Without
    /// an answer the probe panics.
    fn scripted(answers: Vec<Option<ProbeAnswer>>) -> Arc<Prober> {
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let ask = move |_: Arc<ProbeTarget>, place: Arc<HeldPlace>| -> BoxFuture<'static, ProbeAnswer> {
            let answer = answers.lock().unwrap().pop_front().unwrap_or(Some(ProbeAnswer::Challenge));
            Box::pin(async move {
                let _place = place;
                sleep(Duration::from_secs(1)).await;
                answer.unwrap()
            })
        };
        let prober = Arc::new(Prober::asking(Arc::new(Along(Instant::now())), Box::new(ask)));
        let runs = prober.clone();
        tokio::spawn(async move { runs.run().await });
        prober
    }

    async fn seconds(count: u64) {
        sleep(Duration::from_secs(count)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn owners_hear_of_each_change_and_of_nothing_else() {
        use ProbeAnswer::{Challenge, Connect};
        let prober = scripted([Connect, Connect, Challenge].map(Some).to_vec());
        let (mut changes, mut also) = (prober.changes(), prober.changes());
        let (eem, target) = (owner("shop", "eem"), target("a.example.com"));
        prober.keep(&eem, vec![target.clone()]);
        assert_eq!(prober.seen(&target), None);
        for (answer, since, begin) in [(Connect, 0, 0), (Challenge, 6, 6)] {
            assert_eq!((changes.next().await, also.next().await), (Some(eem.clone()), Some(eem.clone())));
            let seen = prober.seen(&target).unwrap();
            let times = (seen.at.as_second(), seen.since.as_second());
            assert_eq!((seen.answer, times), (answer, (begin, since)));
        }
        drop(also);
        seconds(600).await;
        assert!(changes.next().now_or_never().is_none());
        let seen = prober.seen(&target).unwrap();
        assert!(seen.at.as_second() > 540 && seen.since.as_second() == 6, "{seen:?}");
        prober.keep(&eem, vec![]);
        assert_eq!(prober.seen(&target), None);
        seconds(600).await;
        assert!(changes.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hurried_probe_does_not_wait_for_its_interval() {
        let prober = scripted(vec![Some(ProbeAnswer::Challenge), Some(ProbeAnswer::Status(200))]);
        let mut changes = prober.changes();
        let target = target("a.example.com");
        prober.keep(&owner("shop", "eem"), vec![target.clone()]);
        changes.next().await;
        prober.hurry(&target);
        changes.next().await;
        let seen = prober.seen(&target).unwrap();
        assert_eq!((seen.answer, seen.at.as_second()), (ProbeAnswer::Status(200), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_panics_is_silent_and_the_others_continue() {
        let prober = scripted(vec![None]);
        let mut changes = prober.changes();
        let (eem, two) = (owner("shop", "eem"), owner("shop", "two"));
        prober.keep(&eem, vec![target("a.example.com")]);
        assert_eq!(changes.next().await, Some(eem.clone()));
        assert_eq!(prober.seen(&target("a.example.com")).unwrap().answer, ProbeAnswer::Silent);
        prober.keep(&two, vec![target("b.example.com")]);
        // The new target is asked at once, and the other one two seconds after its first probe.
        assert_eq!([changes.next().await, changes.next().await].map(Option::unwrap), [two, eem]);
        assert_eq!(prober.seen(&target("a.example.com")).unwrap().answer, ProbeAnswer::Challenge);
        assert!(prober.board.agenda().wakes().is_some(), "its place is free");
    }

    #[tokio::test(start_paused = true)]
    async fn every_target_is_asked_in_turn_however_many_there_are() {
        let prober = scripted(vec![]);
        let changes = prober.changes();
        for nth in 0..200 {
            let namespace = if nth < 150 { "many".to_owned() } else { format!("n{nth}") };
            prober.keep(&owner(&namespace, &nth.to_string()), vec![target(&format!("{nth}.example.com"))]);
        }
        let begin = Instant::now();
        let told: Vec<_> = changes.take(200).map(|owner| (owner.namespace, begin.elapsed().as_secs())).collect().await;
        let last =
            |many: bool| told.iter().filter(|(at, _)| (at.as_deref() == Some("many")) == many).map(|(_, at)| *at).max();
        // Probes take a second. Four places are for the 150 of one namespace, and twelve for the 50 of others.
        assert_eq!((last(true), last(false)), (Some(38), Some(5)));
    }

    #[tokio::test]
    async fn a_server_is_asked_and_its_change_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let challenge = format!("HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"{REALM}\"\r\n\r\n");
        tokio::spawn(async move {
            for answer in [challenge.as_str(), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_u8().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                while stream.read_u8().await.is_ok() {}
            }
        });
        let target = ProbeTarget { scheme: Scheme::Http, port, ..target("127.0.0.1") };
        let prober = Arc::new(Prober::new(Arc::new(SystemClock), true));
        let (mut changes, runs) = (prober.changes(), prober.clone());
        tokio::spawn(async move { runs.run().await });
        prober.keep(&owner("shop", "eem"), vec![target.clone()]);
        for answer in [ProbeAnswer::Challenge, ProbeAnswer::Status(200)] {
            assert_eq!(changes.next().await, Some(owner("shop", "eem")));
            assert_eq!(prober.seen(&target).unwrap().answer, answer);
            prober.hurry(&target);
        }
    }
}
