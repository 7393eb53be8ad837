//! Events (`events.k8s.io/v1`) about what happened to an object.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, Resource, api::PostParams};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Refusal, metrics::Metrics};
use crate::crd::{Reason, name};

/// The longest note that the API allows.
const MAX_NOTE: usize = 1024;
/// The longest start of an event's name: the rest of 253 is for what makes it unique.
const MAX_STEM: usize = 200;
/// The most events that wait to be written; client-go's recorder keeps as many.
const QUEUE: usize = 1000;
/// How long one write may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long events are still written after the process was told to stop: as long as a pass may take, which may have some.
const GRACE: Duration = Duration::from_secs(30);

/// Something worth telling about an object, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should look at it.
    pub warning: bool,
    /// The word for it.
    pub reason: Reason,
    /// What happened, in words. Never a plaintext.
    pub text: String,
}

impl Note {
    /// All is well.
    pub fn normal(reason: Reason, text: impl Into<String>) -> Self {
        Self { warning: false, reason, text: text.into() }
    }

    /// Somebody should look at it.
    pub fn warning(reason: Reason, text: impl Into<String>) -> Self {
        Self { warning: true, reason, text: text.into() }
    }
}

/// Takes events, which are written one after another beside the passes: nothing waits for one. An event is a courtesy: one
/// that cannot be written, or for which the queue has no room, is logged and forgotten.
///
/// kube's own recorder names an event after its object, and a name of 253 characters leaves no room for that.
#[derive(Clone)]
pub struct Events {
    reporter: String,
    metrics: Arc<Metrics>,
    queue: mpsc::Sender<Event>,
}

impl Events {
    /// Events reported by this process, which `instance` names (its Pod), and what writes them.
    pub fn new(client: Client, instance: Option<String>, metrics: Arc<Metrics>) -> (Self, Scribe) {
        let (queue, events) = mpsc::channel(QUEUE);
        let reporter = instance.unwrap_or_else(|| name::MANAGER.into());
        (Self { reporter, metrics: metrics.clone(), queue }, Scribe { client, metrics, events })
    }

    /// Has `note` written about the object that `regarding` names.
    pub fn publish(&self, note: &Note, regarding: &ObjectReference) {
        if let Err(full) = self.queue.try_send(self.event(note, regarding)) {
            told(&self.metrics, &Err(Refusal::Unavailable(format!("left out: {full}"))), &note.reason.to_string());
        }
    }

    fn event(&self, note: &Note, regarding: &ObjectReference) -> Event {
        let now = Timestamp::now();
        let mut stem = regarding.name.clone().unwrap_or_default();
        stem.truncate(stem.floor_char_boundary(MAX_STEM));
        let mut text = note.text.clone();
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
            reason: Some(note.reason.to_string()),
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
    events: mpsc::Receiver<Event>,
}

impl Scribe {
    /// Writes until nobody can publish any more and all is written, or for 30 s after `stop`.
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
        while let Some(event) = self.events.recv().await {
            let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
            let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
            let written = tokio::time::timeout(LIMIT, api.create(&PostParams::default(), &event)).await;
            let late = |_| Err(Refusal::Unavailable("no answer in time".into()));
            let answer = written.map_or_else(late, |answer| answer.map(|_| ()).map_err(Refusal::from));
            told(&self.metrics, &answer, event.reason.as_deref().unwrap_or_default());
        }
    }
}

/// Counts an event; one that was not written is logged.
fn told(metrics: &Metrics, answer: &Result<(), Refusal>, reason: &str) {
    metrics.write("Event", "create", answer);
    if let Err(refusal) = answer {
        tracing::debug!(%refusal, reason, "could not write an event");
    }
}

/// Names an object, for an event about it.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}
