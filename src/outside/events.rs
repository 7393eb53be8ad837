//! Events (`events.k8s.io/v1`) about what happened to an object.

use std::sync::Arc;

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, Resource, api::PostParams};

use super::{Refusal, metrics::Metrics};
use crate::crd::{Reason, name};

/// The longest note that the API allows.
const MAX_NOTE: usize = 1024;
/// The longest start of an event's name: the rest of 253 is for what makes it unique.
const MAX_STEM: usize = 200;

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

/// Publishes events. An event is a courtesy: one that cannot be written is logged and forgotten.
///
/// kube's own recorder names an event after its object, and a name of 253 characters leaves no room for that.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: String,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Events reported by this process, which `instance` names (its Pod).
    pub fn new(client: Client, instance: Option<String>, metrics: Arc<Metrics>) -> Self {
        Self { client, reporter: instance.unwrap_or_else(|| name::MANAGER.into()), metrics }
    }

    /// Publishes `note` about the object that `regarding` names.
    pub async fn publish(&self, note: &Note, regarding: &ObjectReference) {
        let event = self.event(note, regarding);
        let namespace = regarding.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let answer = api.create(&PostParams::default(), &event).await.map(|_| ()).map_err(Refusal::from);
        self.metrics.write("Event", "create", &answer);
        if let Err(refusal) = answer {
            tracing::debug!(%refusal, reason = %note.reason, "could not write an event");
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

/// Names an object, for an event about it.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}
