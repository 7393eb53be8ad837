//! Reads all objects that an Instance depends on, from the caches. Secrets with certificates are read live. Each write
//! requires the resourceVersion that was read, so an outdated view ends in a conflict.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use crate::{
    controller::{Rooms, book::Ruled, census, depends::Depends},
    crd::{
        Fault, Instance,
        account::TokenCount,
        belongs,
        instance::{EndpointName, Trust},
    },
    exposure::{self, Piece, PieceKind},
    outside::{Refusal, Why, watch::Object},
};

/// Everything a pass over an Instance knows.
#[derive(Clone, Debug)]
pub struct World {
    /// The time of reading.
    pub now: Timestamp,
    /// The Instance, with its rules.
    pub instance: Ruled,
    /// True if the Instance's namespace is being deleted.
    pub terminating: bool,
    /// The Service that serves the Admin API.
    pub manager: Option<Arc<Service>>,
    /// The object under each name that an endpoint's object can have.
    pub pieces: BTreeMap<Place, Observed>,
    /// The number of the Instance's own tokens. Tokens that name it as an audience do not count.
    pub tokens: TokenCount,
    /// The certificates in `ca` of each endpoint, or the fault that keeps them from being used.
    pub authorities: BTreeMap<EndpointName, Result<Trust, Fault>>,
    /// True if the API server stamps the requester on tokens; none without a fresh result.
    pub stamped: Option<bool>,
}

/// The place of an endpoint's object. The object's name follows from the endpoint. Places are ordered by stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The kind of the object.
    pub kind: PieceKind,
    /// The endpoint.
    pub endpoint: EndpointName,
}

impl Place {
    /// All places.
    pub fn all() -> impl Iterator<Item = Self> {
        PieceKind::ALL.into_iter().flat_map(|kind| EndpointName::ALL.map(|endpoint| Self { kind, endpoint }))
    }
}

/// The object under a name that an Instance needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// No object has this name.
    Absent,
    /// The object belongs to this Instance.
    Ours(Piece),
    /// The object does not belong to this Instance, by its owner references.
    Foreign,
    /// The cluster does not serve the kind.
    Unserved,
}

/// Reads the caches. If a needed kind is optional in a cluster, this waits until its cache is synced. Otherwise
/// existing objects would seem absent.
pub(crate) async fn observe(instance: Arc<Instance>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
    let namespace = instance.namespace().unwrap_or_default();
    let mut pieces = BTreeMap::new();
    for place in Place::all() {
        pieces.insert(place, observed(&instance, place, rooms).await);
    }
    let wanted = instance.manager_service();
    let home = rooms.caches.namespaces.get("", &namespace);
    Ok(World {
        now,
        terminating: home.is_some_and(|home| home.metadata.deletion_timestamp.is_some()),
        manager: wanted.and_then(|wanted| rooms.caches.services.get(&namespace, wanted.name.as_str())),
        pieces,
        tokens: count(&instance, rooms, now),
        authorities: authorities(&instance, rooms).await?,
        stamped: rooms.stamping.seen(),
        instance: rooms.rules.ruled(instance),
    })
}

/// Reads the certificates of the endpoints live. The operator watches only Secrets of its own type.
async fn authorities(
    instance: &Instance,
    rooms: &Rooms,
) -> Result<BTreeMap<EndpointName, Result<Trust, Fault>>, Refusal> {
    let mut read = BTreeMap::new();
    if instance.metadata.deletion_timestamp.is_some() {
        return Ok(read);
    }
    for endpoint in instance.endpoints() {
        let Some(source) = &endpoint.ca else { continue };
        let found =
            rooms.reader.authority(&instance.namespace().unwrap_or_default(), source.secret_name.as_str()).await;
        let trust = match found {
            Ok(found) => exposure::trust(endpoint.name, source, found.as_ref()),
            Err(Refusal { why: Why::Forbidden(_), .. }) => Err(exposure::unreadable(endpoint.name, source)),
            Err(refusal) => return Err(refusal),
        };
        read.insert(endpoint.name, trust);
    }
    Ok(read)
}

/// Counts the Instance's own tokens. Tokens that name it as an audience do not count.
fn count(instance: &Instance, rooms: &Rooms, now: Timestamp) -> TokenCount {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    census::count(rooms.caches.tokens.gists(&Depends::Own(&namespace, &name)), now)
}

async fn observed(instance: &Instance, place: Place, rooms: &Rooms) -> Observed {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.exposed_name(place.endpoint));
    match place.kind {
        PieceKind::Service => held(instance, rooms.caches.services.get(&namespace, &name), Piece::Service),
        // An Ingress that the spec does not need is not waited for. If one of ours exists, a later pass removes it.
        PieceKind::Ingress if !is_needed(instance, place) && !rooms.caches.ingresses.is_known() => Observed::Absent,
        PieceKind::Ingress => match rooms.caches.ingresses.read().await {
            Some(ingresses) => held(instance, ingresses.get(&namespace, &name), Piece::Ingress),
            None => Observed::Unserved,
        },
    }
}

/// True if the spec needs an object at `place`.
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
