//! What a kind has to say so that [`run::pass`](super::run::pass) can serve it.

use std::{fmt::Debug, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Condition};
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};

use super::Rooms;
use crate::{
    crd::{Fault, Reason},
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

    /// Every field that a status can have and that is ours: what a new status leaves out is removed.
    const STATUS_FIELDS: &'static [&'static str];

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
    ) -> impl Future<Output = Result<(Version, Self::Progress), Refusal>> + Send;

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

/// What a pass comes to.
#[derive(Clone, Debug)]
pub struct Settled<S> {
    /// The complete new status.
    pub status: S,
    /// What users are told.
    pub notes: Vec<Note>,
    /// The earliest instant at which something will be due. Nothing: not until something changes.
    pub wake: Option<Timestamp>,
}

/// The resourceVersion at which an object was read.
pub fn version(object: &impl Resource) -> Version {
    object.meta().resource_version.clone().unwrap_or_default()
}
