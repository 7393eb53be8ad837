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
    patience::Patience,
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
/// For this long, an event with the same name, reason and text about the same object only raises the first event's
/// count. Another text is another event, because the API server lets only the series of an event be changed.
const TOGETHER: Duration = Duration::from_secs(10 * 60);
/// Maximum number of events of one name and reason about one object within that time. A further text raises the count
/// of the latest of them. client-go's recorder of core Events distinguishes as many texts.
const TEXTS: usize = 10;
/// Maximum number of events that are remembered for counting; client-go's recorder remembers as many.
const REMEMBERED: usize = 4096;
/// Maximum number of notes that are kept about one object until they are published.
const MOST_KEPT: usize = 16;
/// How often an event is tried, if the API server does not answer or is not able to write it. client-go's recorder
/// tries as often. With the delays of [`Patience`], the last try is about a minute after the first.
const TRIES: u32 = 12;
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

/// A queue of events. Events are written one after another, and no pass waits for them. A write that fails for a moment
/// is tried again. An event that cannot be written, or finds the queue full, is logged, counted and dropped.
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

/// An event that waits to be written.
struct Waiting {
    event: Event,
    reason: Reason,
    /// The number of tries that failed.
    failed: u32,
    patience: Patience,
    /// The place that the event takes until it is written.
    _place: Seat<String>,
}

impl Waiting {
    fn new(event: Event, reason: Reason, place: Seat<String>) -> Self {
        Self { event, reason, failed: 0, patience: Patience::default(), _place: place }
    }
}

impl Events {
    /// The queue of this process's events, and the scribe that writes them. `instance` is the name of this process's
    /// Pod.
    pub fn new(client: Client, instance: Option<String>, metrics: Arc<Metrics>) -> (Self, Scribe) {
        let (queue, events) = mpsc::unbounded_channel();
        let reporter = instance.unwrap_or_else(|| name::MANAGER.into());
        let waiting = Arc::new(Crowd::new(QUEUE_EACH, QUEUE));
        (
            Self { reporter, metrics: metrics.clone(), waiting, queue },
            Scribe { client, metrics, events, lines: Lines::default(), told: Told::default() },
        )
    }

    /// Queues `note` as an event about the object that `regarding` names.
    pub fn publish(&self, note: &Note, regarding: &ObjectReference) {
        let place = self.waiting.take(regarding.namespace.clone().unwrap_or_default());
        // The send fails only after the scribe has stopped.
        let sent = place.is_some_and(|place| {
            self.queue.send(Waiting::new(self.event(note, regarding), note.reason, place)).is_ok()
        });
        if !sent {
            tracing::debug!(event = %note.event, "left an event out: too many wait");
            self.metrics.events_dropped(1);
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
    lines: Lines,
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
            () = self.write_all() => return,
            () = grace => {}
        }
        // The event whose write was cut off may have been written. It is not counted.
        let left = self.lines.len() + self.events.len();
        tracing::warn!(events = left, "the time to stop is over, and these events were not written");
        self.metrics.events_dropped(left);
    }

    async fn write_all(&mut self) {
        let mut more_come = true;
        loop {
            while let Ok(more) = self.events.try_recv() {
                self.lines.push(more);
            }
            if let Some(next) = self.lines.next(Instant::now()) {
                if let Some(failed) = self.write(next).await {
                    self.lines.again(failed, Instant::now());
                }
                continue;
            }
            let due = self.lines.due();
            tokio::select! {
                more = self.events.recv(), if more_come => match more {
                    Some(more) => self.lines.push(more),
                    None => more_come = false,
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                else => return,
            }
        }
    }

    /// Tries to write an event. Returns the event if another try may help.
    async fn write(&mut self, mut waiting: Waiting) -> Option<Waiting> {
        let why = self.attempt(&waiting).await.err()?;
        waiting.failed += 1;
        if !why.is_definite() && waiting.failed < TRIES {
            return Some(waiting);
        }
        self.metrics.events_dropped(1);
        None
    }

    /// Writes an event. A repetition only raises the count of the earlier event. An earlier event that was deleted
    /// meanwhile is written again.
    async fn attempt(&mut self, Waiting { event, reason, failed, .. }: &Waiting) -> Result<(), Why> {
        let (now, matter) = (Instant::now(), Matter::of(event, *reason));
        if let Some((repeated, series)) = self.told.again(&matter, now) {
            let answer = self.count(event, &series).await;
            self.note(Verb::PATCH, &answer, event);
            if answer.is_ok() {
                self.told.put(repeated, series);
                return Ok(());
            }
            if answer != Err(Why::Gone) {
                return answer;
            }
        }
        let answer = timely(self.api(event).create(&PostParams::default(), event)).await;
        // No other event has this name. So an earlier try was done, and its answer was lost.
        let answer = if *failed > 0 && answer == Err(Why::Stale) { Ok(()) } else { answer };
        self.note(Verb::CREATE, &answer, event);
        if answer.is_ok() {
            self.told.first(matter, event, now);
        }
        answer
    }

    /// Counts a write of an event, and logs a failed write.
    fn note(&self, verb: Verb, answer: &Result<(), Why>, event: &Event) {
        self.metrics.write("Event", verb, answer.as_ref().copied());
        if let Err(why) = answer {
            let event = event.reason.as_deref().unwrap_or_default();
            tracing::debug!(verb = verb.name(), %why, event, "could not write an event");
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
struct Lines(VecDeque<NamespaceLine>);

/// The waiting events of one namespace.
struct NamespaceLine {
    namespace: String,
    /// The time of the next write. After a failed try the whole line waits, so its events keep their order.
    due: Instant,
    waiting: VecDeque<Waiting>,
}

impl Lines {
    fn push(&mut self, waiting: Waiting) {
        self.line(&waiting).waiting.push_back(waiting);
    }

    /// Takes the next event whose line is due.
    fn next(&mut self, now: Instant) -> Option<Waiting> {
        let mut line = self.0.iter().position(|line| line.due <= now).and_then(|nth| self.0.remove(nth))?;
        let next = line.waiting.pop_front();
        if !line.waiting.is_empty() {
            self.0.push_back(line);
        }
        next
    }

    /// Puts an event back that could not be written. It stays the first of its line.
    fn again(&mut self, mut failed: Waiting, now: Instant) {
        let due = now + failed.patience.next();
        let line = self.line(&failed);
        line.due = due;
        line.waiting.push_front(failed);
    }

    /// The time at which the first line is due. `None`: no event waits.
    fn due(&self) -> Option<Instant> {
        self.0.iter().map(|line| line.due).min()
    }

    fn len(&self) -> usize {
        self.0.iter().map(|line| line.waiting.len()).sum()
    }

    /// The line of an event. A new line is the last one.
    fn line(&mut self, waiting: &Waiting) -> &mut NamespaceLine {
        let namespace = waiting.event.metadata.namespace.clone().unwrap_or_default();
        let nth = self.0.iter().position(|line| line.namespace == namespace).unwrap_or_else(|| {
            self.0.push_back(NamespaceLine { namespace, due: Instant::now(), waiting: VecDeque::new() });
            self.0.len() - 1
        });
        &mut self.0[nth]
    }
}

/// The API server's answer, or an error after 5 s.
async fn timely(asked: impl Future<Output = Result<Event, kube::Error>>) -> Result<(), Why> {
    let late = |_| Err(Why::Unavailable("no answer in time".into()));
    let answer = tokio::time::timeout(LIMIT, asked).await;
    answer.map_or_else(late, |answer| answer.map(|_| ()).map_err(Why::from))
}

/// The key of a series. Events about the same object with the same reason, type and text are one series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Matter {
    uid: Option<String>,
    name: Option<String>,
    reason: Reason,
    type_: Option<String>,
    /// The text, as the last field: those that differ in the text alone lie side by side.
    note: Option<String>,
}

impl Matter {
    fn of(event: &Event, reason: Reason) -> Self {
        let uid = event.regarding.as_ref().and_then(|regarding| regarding.uid.clone());
        Self { uid, name: event.reason.clone(), reason, type_: event.type_.clone(), note: event.note.clone() }
    }

    /// The same without its text. It lies before all of its texts.
    fn textless(&self) -> Self {
        Self { note: None, ..self.clone() }
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

    /// The event that this one repeats, if there is one, with the new count. After too many texts, that is the latest
    /// event of another text.
    fn again(&self, matter: &Matter, now: Instant) -> Option<(Matter, Series)> {
        let is_near = |(_, series): &(&Matter, &Series)| now.duration_since(series.last) < TOGETHER;
        let latest = || {
            let kin = matter.textless();
            let alike = self.0.range(&kin..).take_while(|(other, _)| other.textless() == kin).filter(is_near);
            let alike: Vec<_> = alike.collect();
            let is_full = alike.len() >= TEXTS;
            alike.into_iter().max_by_key(|(_, series)| series.last).filter(|_| is_full)
        };
        let same = self.0.get_key_value(matter).filter(is_near);
        let (repeated, Series { name, count, .. }) = same.or_else(latest)?;
        Some((repeated.clone(), Series { name: name.clone(), count: count.saturating_add(1), last: now }))
    }

    /// Notes the count of an event after it was written.
    fn put(&mut self, matter: Matter, series: Series) {
        self.0.insert(matter, series);
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

    /// The requests of a scribe, each as its method, and the namespace and text of its event.
    type Written = Arc<Mutex<Vec<String>>>;

    /// A server that gives each namespace these answers in turn, and then always the last one. An answer is a status
    /// code; 0: it never answers.
    fn server(answers: &'static [(&str, &[u16])]) -> (Client, Written) {
        let (written, asked) = (Written::default(), Mutex::new(HashMap::<String, usize>::new()));
        let (noted, asked) = (written.clone(), Arc::new(asked));
        let serve = move |request: http::Request<kube::client::Body>| {
            let (noted, asked) = (noted.clone(), asked.clone());
            async move {
                let (head, body) = request.into_parts();
                let namespace = head.uri.path().split('/').nth(5).unwrap_or_default().to_owned();
                let nth =
                    asked.lock().unwrap().entry(namespace.clone()).and_modify(|nth| *nth += 1).or_insert(0).to_owned();
                let (_, answers) = answers.iter().find(|(of, _)| *of == namespace).expect("a namespace of the test");
                let status = answers[nth.min(answers.len() - 1)];
                let event: serde_json::Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
                let text = event["note"].as_str().unwrap_or("again");
                noted.lock().unwrap().push(format!("{} {namespace} {text} {status}", head.method));
                if status == 0 {
                    std::future::pending::<()>().await;
                }
                let failure = json!({"kind": "Status", "status": "Failure", "message": "m", "code": status});
                let body = if status < 400 { json!({ "metadata": {} }) } else { failure };
                let answer = http::Response::builder().status(status);
                Ok::<_, std::convert::Infallible>(
                    answer.body(kube::client::Body::from(body.to_string().into_bytes())).unwrap(),
                )
            }
        };
        (Client::new(tower::service_fn(serve), "a"), written)
    }

    /// Publishes events with these texts in their namespaces, and waits for the end of the scribe. Returns the
    /// requests, and the number of dropped events.
    async fn written(
        answers: &'static [(&str, &[u16])],
        notes: &[(&str, EventName, &str)],
        stop: bool,
    ) -> (Vec<String>, usize) {
        let (client, written) = server(answers);
        let metrics = Arc::new(Metrics::default());
        let (events, scribe) = Events::new(client, None, metrics.clone());
        for (namespace, event, text) in notes {
            let (namespace, uid) = (Some((*namespace).into()), Some((*namespace).into()));
            let about = ObjectReference { namespace, uid, ..ObjectReference::default() };
            events.publish(&Note::normal(*event, Reason::ExpiringSoon, *text), &about);
        }
        let told = CancellationToken::new();
        let _held = stop.then_some(events);
        if stop {
            told.cancel();
        }
        tokio::time::timeout(Duration::from_secs(600), scribe.run(told)).await.unwrap();
        let text = metrics.text();
        let dropped = text.lines().find_map(|line| line.strip_prefix("tokenry_events_dropped_total "));
        (written.lock().unwrap().clone(), dropped.map_or(0, |count| count.parse().unwrap()))
    }

    const SOON: EventName = EventName::ExpiringSoon;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_fails_for_a_moment_is_tried_again_and_other_namespaces_do_not_wait() {
        let notes = [("a", SOON, "1"), ("a", EventName::Issued, "2"), ("b", SOON, "3")];
        let (written, dropped) = written(&[("a", &[503, 0, 429, 201]), ("b", &[201])], &notes, false).await;
        let second = "POST a ExpiringSoon: 2 201";
        let expected = ["POST a 1 503", "POST b 3 201", "POST a 1 0", "POST a 1 429", "POST a 1 201", second];
        assert_eq!((written, dropped), (expected.map(str::to_owned).to_vec(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_whose_answer_was_lost_is_written_once_and_counted_on() {
        let notes = [("a", SOON, "1"); 3];
        let (written, dropped) = written(&[("a", &[500, 409, 504, 200])], &notes, false).await;
        let expected = ["POST a 1 500", "POST a 1 409", "PATCH a again 504", "PATCH a again 200", "PATCH a again 200"];
        assert_eq!((written, dropped), (expected.map(str::to_owned).to_vec(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_dropped_after_so_many_tries_or_at_a_definite_refusal_and_counted() {
        let notes = [("a", SOON, "1"), ("b", SOON, "2"), ("c", SOON, "3")];
        let (written, dropped) = written(&[("a", &[503]), ("b", &[403]), ("c", &[409])], &notes, false).await;
        assert_eq!(written.iter().filter(|request| request.starts_with("POST a")).count(), TRIES as usize);
        assert_eq!(written.len(), TRIES as usize + 2);
        assert_eq!(dropped, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scribe_ends_in_time_also_if_nothing_can_be_written() {
        let notes = [("a", SOON, "1"), ("a", SOON, "2"), ("b", SOON, "3")];
        let start = Instant::now();
        let (_, dropped) = written(&[("a", &[503]), ("b", &[503])], &notes, true).await;
        assert_eq!((start.elapsed(), dropped), (GRACE, 3));
    }

    #[test]
    fn events_of_one_reason_text_and_object_within_ten_minutes_are_one() {
        let (mut told, start) = (Told::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = event("a.1", "a", "Rejected");
        told.first(Matter::of(&first, Reason::Invalid), &first, at(0));
        let mut again_for = |event: Event, reason, seconds| {
            let matter = Matter::of(&event, reason);
            let (repeated, series) = told.again(&matter, at(seconds))?;
            told.put(repeated, series.clone());
            Some((series.name, series.count))
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
    fn events_of_ten_texts_are_ten_and_a_further_text_counts_to_the_latest() {
        let (mut told, start) = (Told::default(), Instant::now());
        let of =
            |nth: u64| Event { note: Some(format!("text {nth}")), ..event(&format!("a.{nth}"), "a", "Regenerated") };
        let matter = |nth| Matter::of(&of(nth), Reason::RegenerateAsked);
        let at = |seconds| start + Duration::from_secs(seconds);
        let again = |told: &Told, nth, seconds| {
            let (repeated, series) = told.again(&matter(nth), at(seconds))?;
            Some((repeated.note.unwrap(), series.name, series.count))
        };
        let counted = |text: u64, count| Some((format!("text {text}"), format!("a.{text}"), count));
        for nth in 0..TEXTS as u64 {
            assert_eq!(again(&told, nth, nth), None, "{nth}");
            told.first(matter(nth), &of(nth), at(nth));
        }
        assert_eq!(again(&told, 3, 20), counted(3, 2), "its own text");
        assert_eq!(again(&told, 99, 20), counted(9, 2), "one text too many");
        assert_eq!(again(&told, 99, 601), None, "two of the ten are over");
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
            lines.push(Waiting::new(event, Reason::Active, crowd.take(namespace.to_owned()).unwrap()));
        }
        let all = std::iter::from_fn(|| lines.next(Instant::now()));
        let order: Vec<_> = all.filter_map(|waiting| waiting.event.metadata.name).collect();
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
