//! The pass and the time of the next one. No other module requeues an object.

use std::{
    collections::{HashMap, HashSet},
    io,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt, Stream, StreamExt,
    stream::{self, FuturesUnordered},
};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::task::{JoinError, unconstrained};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{
    Instrument,
    field::{Empty, display},
};

use super::{
    Obstacle, Rooms, depends, grants,
    kind::{Kind, Unreadable, Wake, is_news_of_instance, version},
    queue::Queue,
};
use crate::{
    crd::{
        Conditions, EventName, Instance, Reason,
        condition::{Conclusion, READY, VALID},
    },
    outside::{
        Cache, Clock, Forbidder, Lead, Pulse, Refusal, Store, Why, events,
        metrics::{ControllerMeter, Metrics, PassEnd},
        pulse::Beating,
        reference,
        traces::{SpanAttribute, SpanKind},
    },
};

/// The maximum number of running passes of each kind. Kinds never wait for each other, because a pass of one kind may
/// need the result of another.
const PLACES: usize = 16;
/// The maximum number of further passes over objects that take long to check.
const COSTLY: usize = 1;
/// Triggers of slow kinds are batched for this long.
const TOGETHER: Duration = Duration::from_secs(1);
/// The time limit of a pass. A request that hangs is given up, and the next pass finds its result.
const LIMIT: Duration = Duration::from_secs(30);
/// The shortest and the longest time until a wake-up.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60 * 60);
/// The wait after the first failed pass over an object, and the longest wait. Each wait is twice the one before.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(5 * 60);
/// The longest wait while the API server is away. Work that is due must not wait long after its return.
const OUTAGE_RETRY: Duration = Duration::from_secs(15);
/// The pause after a pass that acted on an outdated view.
const STALE: Duration = Duration::from_secs(1);

/// Runs one pass over one object: it reads, decides, acts and writes the status. Returns the latest time of the next
/// pass, with its purpose.
///
/// # Errors
/// The world could not be read, or a write failed. The next pass finds all writes that were done.
pub async fn pass<K: Kind>(object: Arc<K>, rooms: &Rooms) -> Result<Option<Wake>, Obstacle> {
    if rooms.writer.has_replaced(&*object) {
        // The watch is about to bring the object that this process wrote, and then triggers a pass.
        return Ok(Some(Wake { at: rooms.clock.now(), why: "what was written" }));
    }
    if let Some(odd) = object.status().map(K::unreadable).filter(|status| !status.fields.is_empty()) {
        return Ok(say_unreadable(&*object, odd, rooms).await?);
    }
    let now = rooms.clock.now();
    let world = object.clone().observe(rooms, now).await?; // reads
    let terms = K::validate(&world); // pure
    let decision = K::decide(&world, &terms); // pure
    rooms.metrics.decision(&K::kind(&()), K::reason(&decision));
    let (version, progress) = K::execute(rooms, &world, &terms, decision).await?; // writes
    let upkeep = grants::keep(rooms, &*object, K::grants(&world)).await; // reads and writes, if a grant differs
    let settled = grants::told(&*object, &upkeep, now, K::settle(&world, &terms, &progress)); // pure
    let mut refusals = K::refusals(&progress).into_iter().chain(upkeep.refusal());
    let forbidden = refusals.find_map(|refusal| forbidden(refusal, || rooms.rights.doubt(&refusal.namespace)));
    if version != self::version(&*object) || object.status() != Some(&settled.status) {
        rooms.write_status(&*object, &version, &settled.status, &settled.notes).await?; // writes
        // Only with a new status: another try that fails in the same way is no news.
        publish(&*object, forbidden, rooms);
    }
    tell(&*object, settled.notes, rooms);
    Ok(settled.wake)
}

/// Writes the new events, and the events of earlier passes that were cut off.
fn tell<K: Kind>(object: &K, notes: Vec<events::Note>, rooms: &Rooms) {
    publish(object, rooms.untold.with(object.meta().uid.as_deref().unwrap_or_default(), notes), rooms);
}

/// Logs notes and writes them as events. A namespace that is being deleted gets none, because no Event can be created
/// there.
fn publish<K: Kind>(object: &K, notes: impl IntoIterator<Item = events::Note>, rooms: &Rooms) {
    let home = rooms.caches.namespaces.get("", &object.namespace().unwrap_or_default());
    if home.is_some_and(|home| home.metadata.deletion_timestamp.is_some()) {
        return;
    }
    for note in notes {
        log(&note);
        rooms.metrics.noted(&K::kind(&()), &note);
        rooms.events.publish(&note, &events::reference(object));
    }
}

/// Reports that the status cannot be read, and does nothing else. The status may hold records and a revocation. So it
/// is neither used nor changed, apart from its conditions, until a user has repaired it.
async fn say_unreadable<K: Kind>(object: &K, odd: Unreadable<'_>, rooms: &Rooms) -> Result<Option<Wake>, Refusal> {
    let message = format!(
        "status.{} cannot be read: {} until the status is repaired; an administrator with the operator's rights can \
         repair it, or delete the object and create it again",
        odd.fields.join(", status."),
        K::WHEN_UNREADABLE
    );
    rooms.metrics.decision(&K::kind(&()), Reason::StatusUnreadable);
    let mut conditions = Conditions::from(Some(odd.conditions), object.meta().generation, rooms.clock.now());
    conditions.conclude(Conclusion::Stalled, Reason::StatusUnreadable, &*message);
    if K::HAS_VALID {
        conditions.set(VALID, false, Reason::StatusUnreadable, &*message);
    }
    let news = conditions
        .changed(READY)
        .then(|| events::Note::warning(EventName::of(Reason::StatusUnreadable), Reason::StatusUnreadable, message));
    let (notes, conditions) = (Vec::from_iter(news), conditions.into_vec());
    if conditions != odd.conditions {
        let version = version(object);
        rooms.telling(object, &notes, rooms.writer.conditions(object, &version, &conditions)).await?;
    }
    tell(object, notes, rooms);
    Ok(None)
}

/// Logs a note. A user's mistake is INFO: the user sees it in the object's status and in an event.
fn log(note: &events::Note) {
    if note.reason.is_trouble() {
        tracing::warn!(event = %note.event, reason = %note.reason, "{}", note.text);
    } else {
        tracing::info!(event = %note.event, reason = %note.reason, "{}", note.text);
    }
}

/// Runs passes over the objects that `triggers` names, until `stop`. Then it waits for the running passes. Each pass is
/// a task, so all threads of the runtime share the work. The `Queue` decides on the order.
///
/// # Errors
/// A pass panicked.
pub async fn run<K: Kind>(
    rooms: Arc<Rooms>,
    store: Store<K>,
    triggers: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    stop: CancellationToken,
) -> io::Result<()> {
    if stop.run_until_cancelled(rooms.caches.synced()).await.is_none() {
        return Ok(());
    }
    let mut triggers = pin!(triggers.take_until(stop.cancelled_owned()));
    let (mut queues, mut passes) = (Queues::new(&rooms.metrics), FuturesUnordered::new());
    let meter = rooms.metrics.controller(&K::kind(&()), PLACES + COSTLY);
    loop {
        tokio::select! {
            name = triggers.next() => match name {
                Some(name) => queues.usual.add(name),
                None => break,
            },
            Some(()) = queues.usual.due() => {}
            Some(ended) = passes.next() => queues.conclude(ended)?,
        }
        while let Some((name, object)) = queues.next(&store, |object| object.is_costly(&rooms)) {
            passes.push(begin(name, object, rooms.clone(), queues.number(), &meter));
        }
    }
    while let Some(ended) = passes.next().await {
        queues.conclude(ended)?;
    }
    Ok(())
}

/// The queues of one kind. Objects that take long to check have a separate queue with one place. Otherwise they could
/// occupy all threads and delay all other passes.
struct Queues<K: Kind> {
    usual: Queue<K>,
    costly: Queue<K>,
    /// The number of failed passes in a row, for each object.
    failures: HashMap<ObjectRef<K>, u32>,
    begun: u64,
}

impl<K: Kind> Queues<K> {
    fn new(metrics: &Metrics) -> Self {
        let meter = |suffix| metrics.queue(&K::kind(&()), suffix);
        let (usual, costly) = (Queue::new(PLACES, meter("")), Queue::new(COSTLY, meter("-costly")));
        Self { usual, costly, failures: HashMap::new(), begun: 0 }
    }

    /// The number of the next pass.
    fn number(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Takes a place for the next object and returns it.
    fn next(&mut self, store: &Store<K>, is_costly: impl Fn(&K) -> bool) -> Option<(ObjectRef<K>, Arc<K>)> {
        while let Some(name) = self.usual.next() {
            match object(store, &name) {
                Some(object) if self.costly.knows(&name) || is_costly(&object) => {
                    self.usual.done(&name);
                    self.costly.add(name);
                }
                Some(object) => return Some((name, object)),
                None => {
                    self.failures.remove(&name);
                    self.usual.done(&name);
                }
            }
        }
        while let Some(name) = self.costly.next() {
            match object(store, &name) {
                Some(object) => return Some((name, object)),
                None => {
                    self.failures.remove(&name);
                    self.costly.done(&name);
                }
            }
        }
        None
    }

    /// Gives back the place of a pass that has ended, and sets the next wake-up.
    fn conclude(&mut self, (name, ended): Ended<K>) -> io::Result<()> {
        let early = |error| io::Error::other(format!("{} ended early: {error}", told(&name)));
        let next = ended.map_err(early)?;
        let queue = if self.costly.knows(&name) { &mut self.costly } else { &mut self.usual };
        queue.done(&name);
        match next {
            Next::In(_) => {}
            Next::Again | Next::Retry(_) => queue.retries(),
        }
        let wait = self.wait(&name, next);
        self.usual.wake(name, wait);
        Ok(())
    }

    /// The wait until the next pass over this object.
    fn wait(&mut self, name: &ObjectRef<K>, next: Next) -> Duration {
        match next {
            Next::In(wait) => {
                self.failures.remove(name);
                wait
            }
            Next::Again => STALE,
            Next::Retry(longest) => {
                let failures = self.failures.entry(name.clone()).or_default();
                let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(*failures));
                *failures = failures.saturating_add(1);
                wait.min(longest)
            }
        }
    }
}

fn object<K: Kind>(store: &Store<K>, name: &ObjectRef<K>) -> Option<Arc<K>> {
    store.get(name.namespace.as_deref().unwrap_or_default(), &name.name)
}

/// Registers a pass as a heartbeat. Everybody can read `/healthz`, so its text has the kind alone.
fn beating<K: Kind>(pulse: &Pulse, name: &ObjectRef<K>) -> Beating {
    pulse.begin(format!("a pass over {}", K::kind(&())), told(name))
}

/// The name of a pass, for logs and errors.
fn told<K: Kind>(name: &ObjectRef<K>) -> String {
    format!("the pass over {} {}/{}", K::kind(&()), name.namespace.as_deref().unwrap_or_default(), name.name)
}

/// The time of the next pass over an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// After this wait.
    In(Duration),
    /// As soon as the watch reports the newer version.
    Again,
    /// After a wait that doubles with each failure, up to this longest wait.
    Retry(Duration),
}

/// The end of a pass: the object's name and the time of its next pass.
type Ended<K> = (ObjectRef<K>, Result<Next, JoinError>);

/// Starts a pass as a task. The task is aborted if the returned future is dropped.
fn begin<K: Kind>(
    name: ObjectRef<K>,
    object: Arc<K>,
    rooms: Arc<Rooms>,
    id: u64,
    meter: &ControllerMeter,
) -> impl Future<Output = Ended<K>> + use<K> {
    let (kind, namespace) = (K::kind(&()), name.namespace.as_deref().unwrap_or_default());
    // A span of the level ERROR is on at every log level, so each line has its fields.
    let span = tracing::error_span!("pass", %kind, namespace, name = name.name, reconcileID = id, trace_id = Empty);
    let traced = rooms.tracer.begin(SpanKind::Internal, None);
    if let Some(traced) = &traced {
        span.record("trace_id", display(traced.trace()));
    }
    let traced = traced.map(|traced| {
        let traced = traced.text(SpanAttribute::Kind, &kind).text(SpanAttribute::Namespace, namespace);
        traced.text(SpanAttribute::Name, &name.name).number(SpanAttribute::Pass, id.cast_signed())
    });
    let (beating, running) = (beating(&rooms.pulse, &name), meter.begin());
    let work = async move {
        let _beating = beating;
        let (next, end) = work(object, rooms).await;
        running.end(end);
        if let Some(traced) = traced {
            traced.text(SpanAttribute::Result, end.as_str()).end(format!("pass {kind}"), end == PassEnd::Error);
        }
        next
    };
    let task = AbortOnDropHandle::new(tokio::spawn(work.instrument(span)));
    async move { (name, task.await) }
}

/// Runs one pass. Returns the time of the next one, and how this one ended.
async fn work<K: Kind>(object: Arc<K>, rooms: Arc<Rooms>) -> (Next, PassEnd) {
    let outcome = tokio::time::timeout(LIMIT, pass(object.clone(), &rooms)).await;
    let outcome = outcome.unwrap_or(Err(Obstacle::TookTooLong(LIMIT)));
    match outcome {
        Ok(wake) => (Next::In(wait(wake, &*rooms.clock)), PassEnd::Success),
        Err(obstacle) if obstacle.is_old_view() => {
            tracing::debug!(%obstacle, "looking again");
            (Next::Again, PassEnd::Requeue)
        }
        Err(obstacle) => {
            tracing::warn!(%obstacle, "the pass failed and will be retried");
            match obstacle.refusal().and_then(|refusal| forbidden(refusal, || rooms.rights.doubt(&refusal.namespace))) {
                Some(note) => publish(&*object, [note], &rooms),
                None => rooms.metrics.failure(&K::kind(&()), obstacle.cause()),
            }
            let longest = if obstacle.is_outage() { OUTAGE_RETRY } else { LAST_RETRY };
            (Next::Retry(longest), PassEnd::Error)
        }
    }
}

/// The note about a forbidden request: the forbidder, the next step and the request. None for any other refusal. Calls
/// `doubt` if the operator lacks a permission, so that its permissions are checked again.
fn forbidden(refusal: &Refusal, doubt: impl FnOnce()) -> Option<events::Note> {
    let Why::Forbidden(message) = &refusal.why else { return None };
    let forbidder = Forbidder::of(message);
    if matches!(forbidder, Forbidder::Authorizer(_)) {
        doubt();
    }
    let text = format!("{}; {refusal}", forbidder.advice(&refusal.namespace));
    Some(events::Note::warning(EventName::of(Reason::RequestForbidden), Reason::RequestForbidden, text))
}

/// The time until `wake`, within the limits.
fn wait(wake: Option<Wake>, clock: &dyn Clock) -> Duration {
    if let Some(Wake { at, why }) = wake {
        tracing::debug!(%at, %why, "the next pass");
    }
    let until = wake.map(|wake| wake.at.duration_since(clock.now()));
    let wait = until.map_or(LATEST, |until| Duration::try_from(until).unwrap_or_default());
    wait.clamp(SOONEST, LATEST)
}

/// The name of each object that `touched` brings.
pub fn each<K: Kind>(touched: impl Stream<Item = Arc<K>> + Send + 'static) -> stream::BoxStream<'static, ObjectRef<K>> {
    touched.map(|object| reference(&*object)).boxed()
}

/// The names that `about` finds for each object that `touched` brings.
pub fn mapped<T: Send + Sync + 'static, K: Kind>(
    touched: impl Stream<Item = Arc<T>> + Send + 'static,
    about: impl Fn(&T) -> Vec<ObjectRef<K>> + Send + Sync + 'static,
) -> stream::BoxStream<'static, ObjectRef<K>> {
    touched.flat_map(move |object| stream::iter(about(&object))).boxed()
}

/// The names in batches of one second, each name once in a batch. It is for triggers that can wait and cause expensive
/// passes.
pub fn together<K: Kind>(names: stream::BoxStream<'static, ObjectRef<K>>) -> stream::BoxStream<'static, ObjectRef<K>> {
    let batches = stream::unfold(names, async |mut names| {
        let first = names.next().await?;
        // The names keep the order of their arrival. The order of a hash table would differ in each run.
        let (mut met, mut order) = (HashSet::from([first.clone()]), vec![first]);
        tokio::time::sleep(TOGETHER).await;
        // Without `unconstrained`, many names would use up the task's budget, and the rest would wait for the next
        // batch.
        while let Some(Some(name)) = unconstrained(names.next()).now_or_never() {
            if met.insert(name.clone()) {
                order.push(name);
            }
        }
        Some((stream::iter(order), names))
    });
    batches.flatten().boxed()
}

/// The `names` from the moment this process leads, after the names of all objects in `store`. A standby drops names, so
/// that they do not pile up.
pub fn once_leading<K: Kind>(
    lead: Lead,
    names: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    store: Store<K>,
) -> stream::BoxStream<'static, ObjectRef<K>> {
    let mut names = names.boxed();
    if !lead.is_elected() {
        return names;
    }
    let begun = async move {
        loop {
            tokio::select! {
                biased;
                () = lead.begun() => break,
                name = names.next() => if name.is_none() {
                    break;
                },
            }
        }
        stream::iter(store.all_names()).chain(names)
    };
    begun.into_stream().flatten().boxed()
}

/// The names of the objects in `store` that refer to an Instance whose change concerns them.
pub fn referring<K: Kind>(instances: &Cache<Instance>, store: Store<K>) -> stream::BoxStream<'static, ObjectRef<K>> {
    mapped(instances.touched_in(is_news_of_instance), move |instance| store.names(&depends::instance(instance)))
}

/// The names of objects.
pub fn names<K: Kind>(objects: impl IntoIterator<Item = Arc<K>>) -> Vec<ObjectRef<K>> {
    objects.into_iter().map(|object| reference(&*object)).collect()
}

/// The names of all objects in `store`, for each item of `all`.
pub fn every<K: Kind>(
    all: impl Stream<Item = ()> + Send + 'static,
    store: Store<K>,
) -> stream::BoxStream<'static, ObjectRef<K>> {
    all.flat_map(move |()| stream::iter(store.all_names())).boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test measures how long it waited")]

    use serde_json::json;

    use super::*;
    use crate::crd::ApiToken;
    use jiff::{SignedDuration, Timestamp};
    use std::cell::Cell;

    struct FixedClock(Timestamp);

    impl Clock for FixedClock {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    #[tokio::test]
    async fn a_pass_that_panics_is_told_with_its_object_and_ends_the_controller() {
        let mut queues = Queues::<ApiToken>::new(&Metrics::default());
        queues.usual.add(ObjectRef::new("ci").within("events"));
        let name = queues.usual.next().unwrap();
        let panicked = tokio::spawn(async { panic!("of a test") }).await;
        let told = queues.conclude((name, panicked)).unwrap_err().to_string();
        assert!(told.starts_with("the pass over ApiToken events/ci ended early: "), "{told}");
        assert!(told.contains("panicked"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_hangs_is_told_at_healthz_by_its_kind_alone() {
        let pulse = Pulse::default();
        let _beating = beating(&pulse, &ObjectRef::<ApiToken>::new("ci").within("events"));
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(pulse.check(), Err("a pass over ApiToken has not run for 61 s".into()));
    }

    #[test]
    fn a_forbidden_request_is_told_with_the_forbidder_and_a_lacking_permission_is_looked_for() {
        let doubted = Cell::new(false);
        let told = |message: &str| {
            let refusal = Refusal::because(Why::Forbidden(message.into()));
            forbidden(&refusal, || doubted.set(true)).map(|note| (note.event, note.reason, note.text))
        };
        let (event, reason, text) = told(r#"secrets "ci" is forbidden: exceeded quota: few, requested: a=1"#).unwrap();
        assert_eq!((event, reason), (EventName::RequestForbidden, Reason::RequestForbidden));
        assert!(text.starts_with("ResourceQuota few forbids it: "), "{text}");
        assert!(!doubted.get(), "a tenant can exceed a quota as often as it likes");
        let message =
            r#"secrets is forbidden: User "o" cannot create resource "secrets" in API group "" in the namespace "a""#;
        let (_, _, text) = told(message).unwrap();
        assert!(
            text.contains("grant it the verb create on secrets in namespace a; ") && text.ends_with(message),
            "{text}"
        );
        assert!(doubted.get());
        assert_eq!(
            forbidden(&Refusal::because(Why::Unauthenticated("m".into())), || panic!("no permission helps")),
            None
        );
    }

    #[tokio::test]
    async fn what_fails_is_tried_less_and_less_often_until_a_pass_ends_well() {
        let mut queues = Queues::<ApiToken>::new(&Metrics::default());
        let (one, other) = (ObjectRef::new("ci").within("events"), ObjectRef::new("cd").within("events"));
        let mut waits = |name, next| queues.wait(name, next).as_secs();
        let first: Vec<_> = (0..10).map(|_| waits(&one, Next::Retry(LAST_RETRY))).collect();
        assert_eq!(first, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(waits(&other, Next::Retry(LAST_RETRY)), 2, "each object by itself");
        assert_eq!(waits(&one, Next::Again), 1, "an old view is no failure, and no success");
        assert_eq!(waits(&one, Next::Retry(LAST_RETRY)), 300);
        assert_eq!(waits(&one, Next::Retry(OUTAGE_RETRY)), 15, "an outage ends for all objects at once");
        assert_eq!(waits(&one, Next::In(LATEST)), 3_600);
        assert_eq!(waits(&one, Next::Retry(LAST_RETRY)), 2);
        assert_eq!(queues.failures.len(), 2);
        for name in [one, other] {
            queues.usual.add(name);
        }
        assert!(queues.next(&Store::new(|_, _| {}), |_| false).is_none());
        assert!(queues.failures.is_empty(), "what is gone is forgotten");
    }

    #[tokio::test]
    async fn costly_passes_come_one_at_a_time_by_turns_of_namespaces_and_hold_up_no_other() {
        let (store, mut queues) = (Store::<ApiToken>::new(|_, _| {}), Queues::new(&Metrics::default()));
        let add = |queues: &mut Queues<ApiToken>, namespace: &str, name: &str, text: &str| {
            let spec = json!({"instanceRef": {"name": "eem"}, "secret": {"data": {"key": text}}});
            let token = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "spec": spec,
                "metadata": {"namespace": namespace, "name": name}});
            store.put(Arc::new(serde_json::from_value(token).unwrap()));
            queues.usual.add(ObjectRef::new(name).within(namespace));
        };
        let long = "x".repeat(20_000);
        (0..20).for_each(|nth| add(&mut queues, "a", &nth.to_string(), &long));
        add(&mut queues, "b", "0", &long);
        add(&mut queues, "b", "1", "short");
        add(&mut queues, "c", "0", "short");
        let is_costly = |token: &ApiToken| token.spec.secret.iter().any(|secret| secret.data["key"].len() > 9_000);
        let begun = |queues: &mut Queues<ApiToken>| -> Vec<String> {
            let all = std::iter::from_fn(|| queues.next(&store, is_costly)).map(|(name, _)| name);
            all.map(|name| format!("{}{}", name.namespace.unwrap_or_default(), name.name)).collect()
        };
        let ends = |queues: &mut Queues<ApiToken>, namespace: &str, name: &str| {
            queues.conclude((ObjectRef::new(name).within(namespace), Ok(Next::In(LATEST)))).unwrap();
        };
        let mut first = begun(&mut queues);
        first.sort();
        assert_eq!(first, ["a0", "b1", "c0"]);
        // The object became short during its pass and is added again. Two passes over it still must not overlap.
        add(&mut queues, "a", "0", "short");
        assert!(begun(&mut queues).is_empty());
        ends(&mut queues, "a", "0");
        assert_eq!(begun(&mut queues), ["b0"], "namespaces by turns");
        ends(&mut queues, "b", "0");
        assert_eq!(begun(&mut queues), ["a1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_come_together_are_told_together_however_many_they_are() {
        let (tell, mut hear) = tokio::sync::mpsc::unbounded_channel();
        (0..1_000).for_each(|nth| tell.send(ObjectRef::<ApiToken>::new(&nth.to_string())).unwrap());
        let start = tokio::time::Instant::now();
        let names = together(stream::poll_fn(move |context| hear.poll_recv(context)).boxed());
        let told: Vec<_> = names.take(1_000).map(|name| name.name.parse::<usize>().unwrap()).collect().await;
        assert!(told.into_iter().eq(0..1_000), "in the order in which they came");
        assert_eq!(start.elapsed(), TOGETHER);
    }

    #[test]
    fn every_wake_up_is_within_a_second_and_an_hour() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let wake = |seconds| Wake { at: now + SignedDuration::from_secs(seconds), why: "a test" };
        let after = |seconds| wait(Some(wake(seconds)), &FixedClock(now)).as_secs();
        assert_eq!([after(-5), after(0), after(7), after(100_000)], [1, 1, 7, 3600]);
        assert_eq!(wait(None, &FixedClock(now)), LATEST);
    }
}
