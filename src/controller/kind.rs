//! The trait that a kind implements so that [`run::pass`](super::run::pass) can reconcile it.

use std::{fmt::Debug, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{Resource, core::PartialObjectMeta};
use serde::{Serialize, de::DeserializeOwned};

use super::{Obstacle, Rooms, grants::Granted};
use crate::{
    crd::{Fault, Instance, Reason, name},
    outside::{Refusal, events::Note},
};

/// The valid terms of an object, or all faults of its spec.
pub type Checked<T> = Result<T, Vec<Fault>>;

/// The resourceVersion of an object.
pub type Version = String;

/// A kind that the operator reconciles. The five steps appear in the order in which a pass takes them.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// Everything that the pass read, with the time of reading.
    type World: Send + Sync;
    /// The checked spec of the object.
    type Terms: Send + Sync;
    /// The next action and its reason.
    type Decision: Send;
    /// The results of the writes.
    type Progress: Send;
    /// The status of the object.
    type Status: Serialize + PartialEq + Send + Sync;

    /// The consequence of an unreadable status, as the end of a sentence.
    const WHEN_UNREADABLE: &'static str;

    /// True if objects of this kind have the condition `Valid`. Default: false.
    const HAS_VALID: bool = false;

    /// True if the status says that the operator runs without grants. Default: false.
    const SAYS_GRANTS_OFF: bool = false;

    /// Reads the world. A missing object is data and no error.
    fn observe(
        self: Arc<Self>,
        rooms: &Rooms,
        now: Timestamp,
    ) -> impl Future<Output = Result<Self::World, Refusal>> + Send;

    /// True if the checks of this object take long. Only one such pass runs at a time. Default: false.
    fn is_costly(&self, _: &Rooms) -> bool {
        false
    }

    /// Checks the spec and finds all faults, not only the first. Pure.
    fn validate(world: &Self::World) -> Checked<Self::Terms>;

    /// Decides on the next action. Pure; cannot fail.
    fn decide(world: &Self::World, terms: &Checked<Self::Terms>) -> Self::Decision;

    /// The reason of a decision, shared by conditions, events, logs and metrics.
    fn reason(decision: &Self::Decision) -> Reason;

    /// Carries out the decision: its writes, in order. Returns the object's new resourceVersion and the progress.
    fn execute(
        rooms: &Rooms,
        world: &Self::World,
        terms: &Checked<Self::Terms>,
        decision: Self::Decision,
    ) -> impl Future<Output = Result<(Version, Self::Progress), Obstacle>> + Send;

    /// The requests of `execute` that the API server refused, if the pass goes on without them. Default: none.
    fn refusals(_: &Self::Progress) -> Vec<&Refusal> {
        Vec::new()
    }

    /// Computes the new status from the progress. Pure.
    fn settle(world: &Self::World, terms: &Checked<Self::Terms>, progress: &Self::Progress) -> Settled<Self::Status>;

    /// The rights of RBAC that follow from the object. Default: `None`, so nothing is granted or removed. Pure.
    fn grants(_: &Self::World) -> Option<Vec<Granted>> {
        None
    }

    /// The conditions of a status, so that each kind reports missing grants alike.
    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition>;

    /// The current status.
    fn status(&self) -> Option<&Self::Status>;

    /// The unreadable fields of a status, with its conditions.
    fn unreadable(status: &Self::Status) -> Unreadable<'_>;
}

/// The unreadable fields of a status, with its conditions.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable<'a> {
    /// The fields that exist and cannot be parsed. If the list is empty, the status can be trusted.
    pub fields: &'a [String],
    /// The conditions of the status.
    pub conditions: &'a [Condition],
}

/// The time of the next pass, and its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wake {
    /// The instant of the next pass.
    pub at: Timestamp,
    /// The purpose of the next pass.
    pub why: &'static str,
}

/// The result of a pass.
#[derive(Clone, Debug)]
pub struct Settled<S> {
    /// The complete new status.
    pub status: S,
    /// The events to write.
    pub notes: Vec<Note>,
    /// The earliest instant at which an action will be due. None: no action is due until an object changes.
    pub wake: Option<Wake>,
}

/// The resourceVersion of an object as it was read.
pub fn version(object: &impl Resource) -> Version {
    object.meta().resource_version.clone().unwrap_or_default()
}

/// True if a change of an object needs a pass. A pass reads the spec (which the generation counts), the status and a
/// few fields of the metadata. Labels and all other annotations belong to users, and their changes cost no pass.
pub fn is_news<K: Kind>(before: &K, after: &K) -> bool {
    read(before.meta()) != read(after.meta()) || before.status() != after.status()
}

/// True if a change of an Instance matters to other objects. Its token counts do not matter: they change with each
/// token. The generation that its status describes does: a first value waits for that status.
pub fn is_news_of_instance(before: &Instance, after: &Instance) -> bool {
    fn said(instance: &Instance) -> impl PartialEq {
        let status = instance.status.as_ref();
        status.map(|said| (&said.observed_generation, &said.endpoints, &said.trust, &said.unreadable))
    }
    read(before.meta()) != read(after.meta()) || said(before) != said(after)
}

/// The fields of an object's metadata that passes read.
fn read(meta: &ObjectMeta) -> impl PartialEq {
    let stamps = name::JUDGED.map(|key| meta.annotations.as_ref().and_then(|all| all.get(key)));
    (&meta.uid, meta.generation, &meta.deletion_timestamp, &meta.owner_references, stamps)
}

/// True if a change matters, for an object of which only metadata is cached: a namespace or a core account.
pub fn is_news_of_meta<K>(before: &PartialObjectMeta<K>, after: &PartialObjectMeta<K>) -> bool {
    fn read(ObjectMeta { uid, deletion_timestamp, labels, .. }: &ObjectMeta) -> impl PartialEq {
        (uid, deletion_timestamp, labels)
    }
    read(&before.metadata) != read(&after.metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crd::ApiToken, outside::watch::NamespaceMeta};
    use serde_json::{Value, json};

    fn token(change: Value) -> ApiToken {
        let mut token = json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "spec": {"instanceRef": {"name": "eem"}},
            "metadata": {"name": "ci", "namespace": "events", "uid": "u", "generation": 3, "resourceVersion": "7"},
            "status": {"lastGeneration": 1},
        });
        for (field, value) in change.as_object().unwrap() {
            token[field].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        }
        serde_json::from_value(token).unwrap()
    }

    #[test]
    fn what_nobody_reads_is_no_news_and_all_else_is() {
        let is_news = |change: Value| is_news(&token(json!({})), &token(change));
        let time = "2026-01-01T00:00:00Z";
        for free in [
            json!({"resourceVersion": "8"}),
            json!({"annotations": {"note": "a"}}),
            json!({"labels": {"team": "a"}}),
            json!({"managedFields": [{"manager": "kubectl"}]}),
        ] {
            assert!(!is_news(json!({ "metadata": free })), "{free}");
        }
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "o"});
        for read in [
            json!({"uid": "another"}),
            json!({"generation": 4}),
            json!({"deletionTimestamp": time}),
            json!({"ownerReferences": [owner]}),
            json!({"annotations": {name::OWNER_GROUPS: "7\nops"}}),
            json!({"annotations": {name::CREATED_BY: "user:a"}}),
        ] {
            assert!(is_news(json!({ "metadata": read })), "{read}");
        }
        let seen = json!({"generation": 1, "firstUsedAt": time, "lastUsedAt": time});
        assert!(is_news(json!({"status": {"lastGeneration": 2}})), "a status that someone else changed must heal");
        assert!(is_news(json!({"status": {"use": [seen]}})), "also what the verifier writes");
    }

    #[test]
    fn labels_of_a_namespace_are_read() {
        let namespace = |metadata: Value| -> NamespaceMeta {
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).unwrap()
        };
        let is_news = |metadata: Value| is_news_of_meta(&namespace(json!({"uid": "u"})), &namespace(metadata));
        assert!(!is_news(json!({"uid": "u", "annotations": {"note": "a"}, "resourceVersion": "2"})));
        assert!(is_news(json!({"uid": "u", "labels": {"team": "a"}})));
        assert!(is_news(json!({"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"})));
        assert!(is_news(json!({"uid": "v"})));
    }
}
