//! What a kind has to say so that [`run::pass`](super::run::pass) can serve it.

use std::{fmt::Debug, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{Resource, core::PartialObjectMeta};
use serde::{Serialize, de::DeserializeOwned};

use super::{Obstacle, Rooms};
use crate::{
    crd::{Fault, Instance, Reason, name},
    outside::{Refusal, events::Note},
};

/// The terms that an object asks for, or everything that is wrong with them.
pub type Checked<T> = Result<T, Vec<Fault>>;

/// The resourceVersion at which an object stands.
pub type Version = String;

/// A kind that the operator works on. The five steps are in the order that a pass takes them.
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
    /// Everything that was read, once, with the time of reading.
    type World: Send + Sync;
    /// What the object asks for, checked.
    type Terms: Send + Sync;
    /// What is to be done, and why.
    type Decision: Send;
    /// What was done.
    type Progress: Send;
    /// What the operator says of the object.
    type Status: Serialize + PartialEq + Send + Sync;

    /// What follows from a status that cannot be read: the end of a sentence.
    const WHEN_UNREADABLE: &'static str;

    /// Whether its objects have the condition `Valid`.
    const HAS_VALID: bool = false;

    /// Reads the world. Not found is data, not an error.
    fn observe(
        self: Arc<Self>,
        rooms: &Rooms,
        now: Timestamp,
    ) -> impl Future<Output = Result<Self::World, Refusal>> + Send;

    /// Whether it takes long to check what the object asks for: there is one such pass at a time.
    fn is_costly(&self, _: &Rooms) -> bool {
        false
    }

    /// Checks what the object asks for, and finds every fault, not only the first. Pure.
    fn validate(world: &Self::World) -> Checked<Self::Terms>;

    /// Says what is to be done. Pure; cannot fail.
    fn decide(world: &Self::World, terms: &Checked<Self::Terms>) -> Self::Decision;

    /// The word for a decision, which conditions, events, logs and metrics share.
    fn reason(decision: &Self::Decision) -> Reason;

    /// Does it: writes, in order. Says where the object stands after that, and how far it came.
    fn execute(
        rooms: &Rooms,
        world: &Self::World,
        terms: &Checked<Self::Terms>,
        decision: Self::Decision,
    ) -> impl Future<Output = Result<(Version, Self::Progress), Obstacle>> + Send;

    /// Folds what was done into a status. Pure.
    fn settle(world: &Self::World, terms: &Checked<Self::Terms>, progress: &Self::Progress) -> Settled<Self::Status>;

    /// The status that stands.
    fn status(&self) -> Option<&Self::Status>;

    /// What of a status cannot be read, and what stands in it that can.
    fn unreadable(status: &Self::Status) -> Unreadable<'_>;
}

/// A status as far as it can be read.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable<'a> {
    /// The fields that are there and cannot be read; none: it can be gone by.
    pub fields: &'a [String],
    /// Its conditions.
    pub conditions: &'a [Condition],
}

/// An instant at which something will be due, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wake {
    /// When.
    pub at: Timestamp,
    /// What the next pass will be for.
    pub why: &'static str,
}

/// What a pass comes to.
#[derive(Clone, Debug)]
pub struct Settled<S> {
    /// The complete new status.
    pub status: S,
    /// What users are told.
    pub notes: Vec<Note>,
    /// The earliest instant at which something will be due. Nothing: not until something changes.
    pub wake: Option<Wake>,
}

/// The resourceVersion at which an object was read.
pub fn version(object: &impl Resource) -> Version {
    object.meta().resource_version.clone().unwrap_or_default()
}

/// Whether a change of an object is one that any pass looks at: of its spec, which the generation counts, of its
/// status, or of the little that is read of its metadata. Its other annotations and its labels are its users' own, and
/// cost no pass.
pub fn is_news<K: Kind>(before: &K, after: &K) -> bool {
    read(before.meta()) != read(after.meta()) || before.status() != after.status()
}

/// Whether a change of an Instance is one that other objects go by: not how many tokens it has, which changes with each
/// of them.
pub fn is_news_of_instance(before: &Instance, after: &Instance) -> bool {
    let said =
        |instance: &Instance| instance.status.as_ref().map(|said| (said.endpoints.clone(), said.unreadable.clone()));
    read(before.meta()) != read(after.meta()) || said(before) != said(after)
}

/// What is read of the metadata of an object.
fn read(meta: &ObjectMeta) -> impl PartialEq {
    let stamps = name::JUDGED.map(|key| meta.annotations.as_ref().and_then(|all| all.get(key)));
    (&meta.uid, meta.generation, &meta.deletion_timestamp, &meta.owner_references, stamps)
}

/// The same of an object of which only metadata is known: a namespace or a core account.
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
