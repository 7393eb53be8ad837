//! Events (`events.k8s.io/v1`) about the actions of the operator on an object.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Verb, Why,
    crowd::{Crowd, Seat},
    metrics::Metrics,
};
use crate::crd::{EventName, Reason, name};

/// The longest note that the API allows.
const MAX_NOTE: usize = 1024;
/// Maximum length of the object's name within an event's name. The rest of the 253 characters holds a unique suffix.
const MAX_STEM: usize = 200;
/// The most events that wait to be written; client-go's recorder keeps as many.
const QUEUE: usize = 1000;
/// Maximum number of waiting events about objects of one namespace. A burst of one tenant loses only that tenant's
/// events.
const QUEUE_EACH: usize = 100;
/// For this long, an event with the same name and reason about the same object only raises the first event's count. The
/// first text stays, because the API server lets only the series be changed.
const TOGETHER: Duration = Duration::from_secs(10 * 60);
/// Maximum number of events that are remembered for counting; client-go's recorder remembers as many.
const REMEMBERED: usize = 4096;
/// Maximum number of notes that are kept about one object until they are published.
const MOST_KEPT: usize = 16;
/// How long one write may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long events are still written after the process was told to stop. A pass may take as long, and may publish
/// events.
const GRACE: Duration = Duration::from_secs(30);

/// The content of one event about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// True for an event of type Warning.
    pub warning: bool,
    /// The name of the event, which is that of the action.
    pub event: EventName,
    /// The reason. Conditions, logs and metrics use the same word.
    pub reason: Reason,
    /// The text of the event. It never contains a plaintext.
    pub text: String,
}

impl Note {
    /// A note of type Normal.
    pub fn normal(event: EventName, reason: Reason, text: impl Into<String>) -> Self {
        Self { warning: false, event, reason, text: text.into() }
    }

    /// A note of type Warning.
    pub fn warning(event: EventName, reason: Reason, text: impl Into<String>) -> Self {
        Self { warning: true, event, reason, text: text.into() }
    }

    /// The text of the event. It begins with the reason, unless the name of the event is the same word.
    fn told(&self) -> String {
        let (reason, text) = (self.reason.to_string(), &self.text);
        if self.event.to_string() == reason { text.clone() } else { format!("{reason}: {text}") }
    }
}

/// Notes about a status, kept from before the status is written until the notes are published. The answer to a write
/// can be lost although the write was done. The next pass then finds no change to report.
#[derive(Default)]
pub struct Untold(Mutex<HashMap<String, Kept>>);

struct Kept {
    since: Instant,
    notes: Vec<Note>,
}

impl Untold {
    /// Keeps those of `notes` that are not kept yet for the object with this uid. Returns the newly kept notes.
    pub fn keep(&self, uid: &str, notes: &[Note]) -> Vec<Note> {
        let now = Instant::now();
        let mut all = self.0.lock().expect("nobody panics here");
        // A deleted object gets no further pass, so its notes are dropped by age.
        all.retain(|_, kept| now.duration_since(kept.since) < TOGETHER);
        let before = all.get(uid).map(|kept| kept.notes.clone()).unwrap_or_default();
        let room = MOST_KEPT.saturating_sub(before.len());
        let new: Vec<_> = notes.iter().filter(|note| !says(&before, note)).take(room).cloned().collect();
        if !new.is_empty() {
            let notes = [before, new.clone()].concat();
            all.insert(uid.to_owned(), Kept { since: now, notes });
        }
        new
    }

    /// Drops kept notes after a write that certainly was not done.
    pub fn forget(&self, uid: &str, notes: &[Note]) {
        if let Some(kept) = self.0.lock().expect("nobody panics here").get_mut(uid) {
            kept.notes.retain(|note| !says(notes, note));
        }
    }

    /// All notes to publish now: the kept notes, then those of `notes` that were not kept. No note is kept afterwards.
    pub fn with(&self, uid: &str, notes: Vec<Note>) -> Vec<Note> {
        let mut all = self.0.lock().expect("nobody panics here").remove(uid).map(|kept| kept.notes).unwrap_or_default();
        let new: Vec<_> = notes.into_iter().filter(|note| !says(&all, note)).collect();
        all.extend(new);
        all
    }
}

/// True if one of `notes` has the same text. Reasons are not compared: a write whose answer was lost is found by the
/// next pass under another reason.
fn says(notes: &[Note], note: &Note) -> bool {
    notes.iter().any(|other| other.text == note.text)
}

/// A queue of events. Events are written one after another, and no pass waits for them. An event that cannot be
/// written, or finds the queue full, is logged and dropped.
///
/// kube's own recorder is not used. It adds a suffix to the object's name, which fails for a name of 253 characters. It
/// also ends a series after six minutes. Until then it keeps patching an event that was deleted.
#[derive(Clone)]
pub struct Events {
    reporter: String,
    metrics: Arc<Metrics>,
    waiting: Arc<Crowd<String>>,
    queue: mpsc::UnboundedSender<Waiting>,
}

/// An event, its reason, and the place that it takes until it is written.
type Waiting = (Event, Reason, Seat<String>);

impl Events {
    /// The queue of this process's events, and the scribe that writes them. `instance` is the name of this process's
    /// Pod.
    pub fn new(client: Client, instance: Option<String>, metrics: Arc<Metrics>) -> (Self, Scribe) {
        let (queue, events) = mpsc::unbounded_channel();
        let reporter = instance.unwrap_or_else(|| name::MANAGER.into());
        let waiting = Arc::new(Crowd::new(QUEUE_EACH, QUEUE));
        (
            Self { reporter, metrics: metrics.clone(), waiting, queue },
            Scribe { client, metrics, events, told: Told::default() },
        )
    }

    /// Queues `note` as an event about the object that `regarding` names.
    pub fn publish(&self, note: &Note, regarding: &ObjectReference) {
        let place = self.waiting.take(regarding.namespace.clone().unwrap_or_default());
        // The send fails only after the scribe has stopped.
        let sent =
            place.is_some_and(|place| self.queue.send((self.event(note, regarding), note.reason, place)).is_ok());
        if !sent {
            let left_out = Err(Why::Unavailable("left out: too many wait".into()));
            told(&self.metrics, Verb::CREATE, &left_out, &note.event.to_string());
        }
    }

    fn event(&self, note: &Note, regarding: &ObjectReference) -> Event {
        let now = Timestamp::now();
        let mut stem = regarding.name.clone().unwrap_or_default();
        stem.truncate(stem.floor_char_boundary(MAX_STEM));
        let mut text = note.told();
        text.truncate(text.floor_char_boundary(MAX_NOTE));
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", stem.trim_end_matches(['.', '-']), now.as_nanosecond())),
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".into()),
            event_time: Some(MicroTime(now)),
            note: Some(text),
            reason: Some(note.event.to_string()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some("tokenry.dev/operator".into()),
            reporting_instance: Some(self.reporter.clone()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
            ..Event::default()
        }
    }
}

/// Writes the events that [`Events`] takes.
pub struct Scribe {
    client: Client,
    metrics: Arc<Metrics>,
    events: mpsc::UnboundedReceiver<Waiting>,
    told: Told,
}

impl Scribe {
    /// Writes until every [`Events`] is dropped and the queue is empty, or until 30 s after `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let grace = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = self.write_all() => {}
            () = grace => {}
        }
    }

    async fn write_all(&mut self) {
        let mut lines = Lines::default();
        while let Some(first) = self.events.recv().await {
            lines.push(first);
            while let Some((event, reason, _place)) = lines.next() {
                self.write(event, reason).await;
                while let Ok(more) = self.events.try_recv() {
                    lines.push(more);
                }
            }
        }
    }

    /// Writes an event. A repetition only raises the count of the earlier event. An earlier event that was deleted
    /// meanwhile is written again.
    async fn write(&mut self, event: Event, reason: Reason) {
        let (now, matter) = (Instant::now(), Matter::of(&event, reason));
        if let Some(earlier) = self.told.again(&matter, now) {
            let answer = self.count(&event, &earlier).await;
            told(&self.metrics, Verb::PATCH, &answer, event.reason.as_deref().unwrap_or_default());
            if answer != Err(Why::Gone) {
                return;
            }
        }
        let api = self.api(&event);
        let answer = timely(api.create(&PostParams::default(), &event)).await;
        told(&self.metrics, Verb::CREATE, &answer, event.reason.as_deref().unwrap_or_default());
        if answer.is_ok() {
            self.told.first(matter, &event, now);
        }
    }

    async fn count(&self, event: &Event, earlier: &Series) -> Result<(), Why> {
        let series = EventSeries { count: earlier.count, last_observed_time: MicroTime(Timestamp::now()) };
        let patch = Patch::Merge(json!({ "series": series }));
        timely(self.api(event).patch(&earlier.name, &PatchParams::default(), &patch)).await
    }

    fn api(&self, event: &Event) -> Api<Event> {
        Api::namespaced(self.client.clone(), event.metadata.namespace.as_deref().unwrap_or("default"))
    }
}

/// The waiting events, by namespace. The namespaces take turns.
#[derive(Default)]
struct Lines(VecDeque<(String, VecDeque<Waiting>)>);

impl Lines {
    fn push(&mut self, waiting: Waiting) {
        let namespace = waiting.0.metadata.namespace.clone().unwrap_or_default();
        match self.0.iter_mut().find(|(home, _)| *home == namespace) {
            Some((_, line)) => line.push_back(waiting),
            None => self.0.push_back((namespace, [waiting].into())),
        }
    }

    fn next(&mut self) -> Option<Waiting> {
        let (namespace, mut line) = self.0.pop_front()?;
        let next = line.pop_front();
        if !line.is_empty() {
            self.0.push_back((namespace, line));
        }
        next
    }
}

/// The API server's answer, or an error after 5 s.
async fn timely(asked: impl Future<Output = Result<Event, kube::Error>>) -> Result<(), Why> {
    let late = |_| Err(Why::Unavailable("no answer in time".into()));
    let answer = tokio::time::timeout(LIMIT, asked).await;
    answer.map_or_else(late, |answer| answer.map(|_| ()).map_err(Why::from))
}

/// The key of a series. Events about the same object with the same reason and type are one series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Matter {
    uid: Option<String>,
    name: Option<String>,
    reason: Reason,
    type_: Option<String>,
}

impl Matter {
    fn of(event: &Event, reason: Reason) -> Self {
        let uid = event.regarding.as_ref().and_then(|regarding| regarding.uid.clone());
        Self { uid, name: event.reason.clone(), reason, type_: event.type_.clone() }
    }
}

/// A written event and its count.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    count: i32,
    last: Instant,
}

/// The events that were written a while ago.
#[derive(Default)]
struct Told(BTreeMap<Matter, Series>);

impl Told {
    /// Notes an event that was written.
    fn first(&mut self, matter: Matter, event: &Event, now: Instant) {
        self.0.retain(|_, series| now.duration_since(series.last) < TOGETHER);
        if self.0.len() >= REMEMBERED
            && let Some(oldest) = self.0.iter().min_by_key(|(_, series)| series.last).map(|(matter, _)| matter.clone())
        {
            self.0.remove(&oldest);
        }
        let name = event.metadata.name.clone().unwrap_or_default();
        self.0.insert(matter, Series { name, count: 1, last: now });
    }

    /// The event that this one repeats, if there is one, with the new count.
    fn again(&mut self, matter: &Matter, now: Instant) -> Option<Series> {
        let series = self.0.get_mut(matter)?;
        if now.duration_since(series.last) >= TOGETHER {
            return None;
        }
        *series = Series { name: series.name.clone(), count: series.count.saturating_add(1), last: now };
        Some(series.clone())
    }
}

/// Counts a write of an event, and logs a failed write.
fn told(metrics: &Metrics, verb: Verb, answer: &Result<(), Why>, event: &str) {
    metrics.write("Event", verb, answer.as_ref().copied());
    if let Err(why) = answer {
        tracing::debug!(verb = verb.name(), %why, event, "could not write an event");
    }
}

/// Names an object, for an event about it.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, uid: &str, reason: &str) -> Event {
        let regarding = ObjectReference { uid: Some(uid.into()), ..ObjectReference::default() };
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        Event { metadata, regarding: Some(regarding), reason: Some(reason.into()), ..Event::default() }
    }

    #[test]
    fn events_of_one_reason_and_object_within_ten_minutes_are_one() {
        let (mut told, start) = (Told::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = event("a.1", "a", "Rejected");
        told.first(Matter::of(&first, Reason::Invalid), &first, at(0));
        let mut again_for = |event: Event, reason, seconds| {
            let series = told.again(&Matter::of(&event, reason), at(seconds));
            series.map(|series| (series.name, series.count))
        };
        assert_eq!(again_for(event("a.2", "a", "Rejected"), Reason::RoleMissing, 1), None, "another reason");
        let mut again = |event, seconds| again_for(event, Reason::Invalid, seconds);
        assert_eq!(again(event("a.2", "a", "Issued"), 1), None, "another deed");
        assert_eq!(again(event("b.1", "b", "Rejected"), 1), None, "another object");
        assert_eq!(again(event("a.3", "a", "Rejected"), 599), Some(("a.1".into(), 2)));
        assert_eq!(again(event("a.4", "a", "Rejected"), 1198), Some(("a.1".into(), 3)));
        assert_eq!(again(event("a.5", "a", "Rejected"), 1798), None, "ten minutes after the last");
    }

    #[test]
    fn so_many_events_are_remembered_and_no_more() {
        let (mut told, start) = (Told::default(), Instant::now());
        let event = |uid: &str| event("e", uid, "Issued");
        let matter = |uid: &str| Matter::of(&event(uid), Reason::FirstIssue);
        for nth in 0..REMEMBERED as u64 + 1 {
            let uid = nth.to_string();
            told.first(matter(&uid), &event(&uid), start + Duration::from_millis(nth));
        }
        assert_eq!(told.0.len(), REMEMBERED);
        let soon = start + Duration::from_secs(9);
        assert!(told.again(&matter("0"), soon).is_none(), "the oldest is forgotten");
        assert!(told.again(&matter("1"), soon).is_some());
        told.first(matter("x"), &event("x"), start + Duration::from_secs(700));
        assert_eq!(told.0.len(), 1, "what is over is forgotten");
    }

    #[tokio::test]
    async fn a_burst_of_one_namespace_leaves_room_for_the_events_of_others() {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        let (events, scribe) = Events::new(Client::new(nobody, "a"), None, Arc::default());
        let about =
            |namespace: &str| ObjectReference { namespace: Some(namespace.into()), ..ObjectReference::default() };
        for _ in 0..QUEUE {
            events.publish(&Note::normal(EventName::Issued, Reason::FirstIssue, "of many"), &about("a"));
        }
        assert_eq!(scribe.events.len(), QUEUE_EACH);
        events.publish(&Note::normal(EventName::Issued, Reason::FirstIssue, "of few"), &about("b"));
        assert_eq!(scribe.events.len(), QUEUE_EACH + 1);
    }

    #[test]
    fn events_of_namespaces_are_written_by_turns() {
        let (crowd, mut lines) = (Crowd::new(9, 9), Lines::default());
        for (namespace, name) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("c", "5"), ("b", "6")] {
            let mut event = event(name, name, "Active");
            event.metadata.namespace = Some(namespace.into());
            lines.push((event, Reason::Active, crowd.take(namespace.to_owned()).unwrap()));
        }
        let order: Vec<_> = std::iter::from_fn(|| lines.next()).filter_map(|(event, ..)| event.metadata.name).collect();
        assert_eq!(order, ["1", "4", "5", "2", "6", "3"]);
    }

    #[tokio::test]
    async fn an_event_is_named_for_what_was_done_and_its_text_says_why() {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        let (events, _scribe) = Events::new(Client::new(nobody, "a"), None, Arc::default());
        let told = |note: Note| {
            let event = events.event(&note, &ObjectReference::default());
            (event.reason.unwrap(), event.note.unwrap(), event.type_.unwrap())
        };
        let restored = Note::warning(EventName::SecretRestored, Reason::SecretMissing, "generation 3 is published");
        let text = "SecretMissing: generation 3 is published";
        assert_eq!(told(restored), ("SecretRestored".into(), text.into(), "Warning".into()));
        let soon = Note::normal(EventName::ExpiringSoon, Reason::ExpiringSoon, "it ends");
        assert_eq!(told(soon), ("ExpiringSoon".into(), "it ends".into(), "Normal".into()), "nothing is said twice");
    }

    #[test]
    fn what_was_kept_is_told_once_by_whichever_pass_gets_so_far() {
        let untold = Untold::default();
        let note = |text: &str| Note::normal(EventName::Issued, Reason::FirstIssue, text);
        // The answer to the first write is lost. The second write is refused.
        assert_eq!(untold.keep("a", &[note("1"), note("2")]).len(), 2);
        let refused = untold.keep("a", &[note("2"), note("3")]);
        assert_eq!(refused, [note("3")], "2 is another's");
        untold.forget("a", &refused);
        let found = Note::normal(EventName::Issued, Reason::PublishIncomplete, "2");
        assert_eq!(untold.with("a", vec![found, note("4")]), [note("1"), note("2"), note("4")]);
        assert_eq!(untold.with("a", vec![note("5")]), [note("5")]);
        let many: Vec<_> = (0..20).map(|nth| note(&nth.to_string())).collect();
        assert_eq!(untold.keep("a", &many), many[..MOST_KEPT]);
    }
}
