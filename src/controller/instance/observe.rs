//! Reads everything an Instance depends on, once. Caches will do: every write carries what was seen, so an old view
//! ends in a conflict.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use crate::{
    controller::{Rooms, book::Ruled, census, depends},
    crd::{ApiToken, Instance, account::TokenCount, belongs, instance::EndpointName},
    exposure::{Piece, PieceKind},
    outside::watch::Object,
};

/// Everything a pass over an Instance knows.
#[derive(Clone, Debug)]
pub struct World {
    /// When it was read.
    pub now: Timestamp,
    /// The Instance itself.
    pub instance: Ruled,
    /// Whether its namespace is being deleted.
    pub terminating: bool,
    /// The Service that serves the Admin API.
    pub manager: Option<Arc<Service>>,
    /// What holds each name that an endpoint's object can have.
    pub pieces: BTreeMap<Place, Observed>,
    /// How many tokens are its own.
    pub tokens: TokenCount,
    /// Whether the API server stamps who makes them, where that was just seen.
    pub stamped: Option<bool>,
}

/// Where an object of an endpoint is: its name follows from the endpoint. Places are in the order of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The kind of the object.
    pub kind: PieceKind,
    /// The endpoint.
    pub endpoint: EndpointName,
}

impl Place {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        PieceKind::ALL.into_iter().flat_map(|kind| EndpointName::ALL.map(|endpoint| Self { kind, endpoint }))
    }
}

/// What holds a name that an Instance needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// Nothing.
    Absent,
    /// What this Instance made.
    Ours(Piece),
    /// Something that is not ours by uid.
    Foreign,
    /// Nothing can: the cluster does not serve the kind.
    Unserved,
}

/// Reads the caches. Waits for those of kinds that a cluster may not serve: else what stands would be taken for absent.
pub(crate) async fn observe(instance: Arc<Instance>, rooms: &Rooms, now: Timestamp) -> World {
    let namespace = instance.namespace().unwrap_or_default();
    let mut pieces = BTreeMap::new();
    for place in Place::all() {
        pieces.insert(place, observed(&instance, place, rooms).await);
    }
    let wanted = instance.manager_service();
    let home = rooms.caches.namespaces.get("", &namespace);
    World {
        now,
        terminating: home.is_some_and(|home| home.metadata.deletion_timestamp.is_some()),
        manager: wanted.and_then(|wanted| rooms.caches.services.get(&namespace, wanted.name.as_str())),
        pieces,
        tokens: count(&instance, rooms, now),
        stamped: rooms.stamping.seen(),
        instance: rooms.rules.ruled(instance),
    }
}

/// Counts its own tokens.
fn count(instance: &Instance, rooms: &Rooms, now: Timestamp) -> TokenCount {
    let home = |token: &ApiToken| token.namespace().unwrap_or_default();
    let own = |token: &&Arc<ApiToken>| token.spec.instance_ref.means(instance, &home(token));
    let tokens = rooms.caches.tokens.by(&depends::instance(instance));
    census::count(tokens.iter().filter(own).map(|token| &**token), now)
}

async fn observed(instance: &Instance, place: Place, rooms: &Rooms) -> Observed {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.exposed_name(place.endpoint));
    match place.kind {
        PieceKind::Service => held(instance, rooms.caches.services.get(&namespace, &name), Piece::Service),
        // What is not asked for is not waited for: one of ours that stands is heard of later, and taken away then.
        PieceKind::Ingress if !is_needed(instance, place) && !rooms.caches.ingresses.is_known() => Observed::Absent,
        PieceKind::Ingress => match rooms.caches.ingresses.read().await {
            Some(ingresses) => held(instance, ingresses.get(&namespace, &name), Piece::Ingress),
            None => Observed::Unserved,
        },
    }
}

/// Whether what is asked for needs an object at `place`.
pub(crate) fn is_needed(instance: &Instance, place: Place) -> bool {
    let mut endpoints = instance.endpoints().filter(|endpoint| endpoint.name == place.endpoint);
    endpoints.any(|endpoint| place.kind.is_needed_by(endpoint))
}

fn held<K: Object>(instance: &Instance, object: Option<Arc<K>>, piece: fn(Arc<K>) -> Piece) -> Observed {
    match object {
        None => Observed::Absent,
        Some(object) if belongs(&*object, &instance.uid().unwrap_or_default()) => Observed::Ours(piece(object)),
        Some(_) => Observed::Foreign,
    }
}
