//! Reads all objects that an Instance depends on, from the caches. Secrets with certificates are read live. Each write
//! requires the resourceVersion that was read, so an outdated view ends in a conflict.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{core::v1::Service, networking::v1::NetworkPolicy},
};
use kube::{Resource, ResourceExt};

use super::{
    bypass::bypasses,
    hosts,
    probes::{self, Targets, heard},
    surroundings,
};
use crate::{
    controller::{Rooms, book::Ruled, census, depends::Depends},
    crd::{
        Fault, Instance,
        account::TokenCount,
        belongs,
        endpoint::{Endpoint, EndpointName, WayIn},
        instance::{Scheme, Trust},
    },
    exposure::{
        self, ExposureConfig, Piece, PieceKind, Stage,
        class::Classes,
        gate::{self, Reply},
        gateways::Carriers,
        https::HttpsNeeds,
    },
    outside::{
        Optional, Refusal, Why,
        prober::{ProbeTarget, Probed},
        watch::Object,
    },
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
    /// The NetworkPolicies of others in the namespace. None if the operator may not use the kind.
    pub network_policies: Vec<Arc<NetworkPolicy>>,
    /// The settings of the cluster for exposing endpoints.
    pub config: Arc<ExposureConfig>,
    /// True if the cluster serves OpenShift Routes.
    pub serves_routes: bool,
    /// The probes of each endpoint, and their last answers.
    pub answers: BTreeMap<EndpointName, Answers>,
    /// True if a way in may exist that no cache knows yet.
    pub unsure: bool,
    /// The other Instance that holds the DNS name of the endpoint.
    pub holder: Option<String>,
    /// Objects of others that lead to the API past the guard, in words.
    pub bypasses: Vec<String>,
    /// The number of the Instance's own tokens. Tokens that name it as an audience do not count.
    pub tokens: TokenCount,
    /// The certificates in `ca` of each endpoint, or the fault that keeps them from being used.
    pub authorities: BTreeMap<EndpointName, Result<Trust, Fault>>,
    /// The IngressClasses, if an endpoint depends on one.
    pub classes: Option<Classes>,
    /// The state of the Gateways of each endpoint with an HTTPRoute, as far as the operator may read them.
    pub carriers: BTreeMap<EndpointName, Carriers>,
    /// The first Gateway of an endpoint that is not known to verify the verifier, in words. There are entries for the
    /// guard ExternalAuth alone.
    pub unverifying: BTreeMap<EndpointName, String>,
    /// The state of everything that guards by HTTPS need.
    pub https: HttpsNeeds,
    /// The certificate of each Ingress that names a Secret, or the fault that keeps it from being used.
    pub certificates: BTreeMap<EndpointName, Result<(), Fault>>,
    /// True if the API server stamps the requester on tokens; none without a fresh result.
    pub stamped: Option<bool>,
}

/// The probes of an endpoint, and their last answers.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The targets.
    pub probes: Targets,
    /// The last answer of the Service.
    pub inside: Option<Probed>,
    /// The last answer of the published URI.
    pub outside: Option<Probed>,
}

impl World {
    /// The answer of the endpoint's Service to a request without a token.
    pub fn heard_inside(&self, endpoint: EndpointName) -> Reply {
        heard(self.answers.get(&endpoint).and_then(|answers| answers.inside.as_ref()))
    }

    /// The answer of the published URI to a request without a token. `None` if nothing is probed.
    pub fn heard_outside(&self, endpoint: EndpointName) -> Option<Reply> {
        let answers = self.answers.get(&endpoint)?;
        answers.probes.outside.as_ref().map(|_| heard(answers.outside.as_ref()))
    }

    /// True if the published URI has answered with our challenge. The edge then serves the way in and asks the
    /// verifier.
    pub fn is_proved(&self, endpoint: EndpointName) -> bool {
        self.heard_outside(endpoint) == Some(Reply::Challenge)
    }

    /// The scheme and the DNS name of an external endpoint. The name is that of the spec, or else the one that the
    /// cluster has assigned to its Route.
    pub fn published(&self, endpoint: &Endpoint) -> Option<(Scheme, String)> {
        published(endpoint, &self.pieces, self.serves_routes, &self.config)
    }

    /// The state of the Gateways of an endpoint. Nothing is known against those that were not read.
    pub fn carriers(&self, endpoint: EndpointName) -> &Carriers {
        self.carriers.get(&endpoint).unwrap_or(&Carriers::Fitting)
    }

    /// The way in of an endpoint.
    pub fn way(&self, endpoint: &Endpoint) -> Option<WayIn> {
        exposure::way(endpoint, self.serves_routes, &self.config)
    }
}

/// The scheme and the DNS name of an external endpoint, as in [`World::published`].
fn published(
    endpoint: &Endpoint,
    pieces: &BTreeMap<Place, Observed>,
    serves_routes: bool,
    config: &ExposureConfig,
) -> Option<(Scheme, String)> {
    let way = exposure::way(endpoint, serves_routes, config);
    Some((exposure::outside_scheme(endpoint, way, config), host(endpoint, pieces)?))
}

/// The DNS name of an endpoint: that of the spec, or else the one that the cluster has assigned to its Route.
fn host(endpoint: &Endpoint, pieces: &BTreeMap<Place, Observed>) -> Option<String> {
    let given = endpoint.host.as_ref().map(|host| host.to_string());
    let place = Place { kind: PieceKind::Route, endpoint: endpoint.name };
    given.or_else(|| {
        let Piece::Route(route) = pieces.get(&place)?.ours()? else { return None };
        exposure::published_host(route)
    })
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
    /// The operator may not use the kind: the chart has not switched it on.
    Off,
}

impl Observed {
    /// The object, if it belongs to this Instance.
    pub fn ours(&self) -> Option<&Piece> {
        match self {
            Self::Ours(piece) => Some(piece),
            Self::Absent | Self::Foreign | Self::Unserved | Self::Off => None,
        }
    }

    /// True if the cluster serves the kind and the operator may use it.
    pub fn is_served(&self) -> bool {
        match self {
            Self::Absent | Self::Ours(_) | Self::Foreign => true,
            Self::Unserved | Self::Off => false,
        }
    }
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
    let manager = wanted.and_then(|wanted| rooms.caches.services.get(&namespace, wanted.name.as_str()));
    let serves_routes = pieces.iter().any(|(place, it)| place.kind == PieceKind::Route && it.is_served());
    let answers = instance.endpoints().map(|endpoint| {
        let published = published(endpoint, &pieces, serves_routes, &rooms.exposure);
        let service = Place { kind: PieceKind::Service, endpoint: endpoint.name };
        let Some(Observed::Ours(Piece::Service(service))) = pieces.get(&service) else {
            return (endpoint.name, Answers::default());
        };
        let probes = probes::targets(&instance, endpoint, service, published);
        let seen = |target: &Option<ProbeTarget>| target.as_ref().and_then(|target| rooms.prober.seen(target));
        (endpoint.name, Answers { inside: seen(&probes.inside), outside: seen(&probes.outside), probes })
    });
    let (carriers, unverifying) = surroundings::carriers(&instance, serves_routes, rooms).await?;
    Ok(World {
        https: rooms.by_https.needs(&namespace),
        unverifying,
        answers: answers.collect(),
        unsure: rooms.caches.exposing.is_unsure(),
        holder: hosts::holder(&instance, rooms),
        bypasses: manager.as_deref().map(|manager| bypasses(&instance, manager, rooms)).unwrap_or_default(),
        serves_routes,
        now,
        terminating: home.is_some_and(|home| home.metadata.deletion_timestamp.is_some()),
        manager,
        network_policies: network_policies(&instance, rooms).await,
        config: rooms.exposure.clone(),
        pieces,
        tokens: count(&instance, rooms, now),
        authorities: authorities(&instance, rooms).await?,
        classes: surroundings::classes(&instance, serves_routes, rooms).await?,
        carriers,
        certificates: surroundings::certificates(&instance, serves_routes, rooms).await?,
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

/// The NetworkPolicies of others in the namespace of an Instance that has an endpoint.
async fn network_policies(instance: &Instance, rooms: &Rooms) -> Vec<Arc<NetworkPolicy>> {
    let cache = &rooms.caches.exposing.network_policies;
    let has_endpoint = instance.endpoints().next().is_some();
    let Some(cache) = (if cache.is_on() && has_endpoint { cache.read().await } else { None }) else {
        return Vec::new();
    };
    let (namespace, uid) = (instance.namespace().unwrap_or_default(), instance.uid().unwrap_or_default());
    cache.by(&Depends::Home(&namespace)).filter(|policy| !belongs(&**policy, &uid)).collect()
}

/// Counts the Instance's own tokens. Tokens that name it as an audience do not count.
fn count(instance: &Instance, rooms: &Rooms, now: Timestamp) -> TokenCount {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    census::count(rooms.caches.tokens.gists(&Depends::Own(&namespace, &name)), now)
}

async fn observed(instance: &Instance, place: Place, rooms: &Rooms) -> Observed {
    let at = At { instance, place };
    let exposing = &rooms.caches.exposing;
    match place.kind {
        PieceKind::Service => {
            let (namespace, name) = at.name();
            at.held(rooms.caches.services.get(&namespace, &name), Piece::Service)
        }
        PieceKind::NetworkPolicy => at.optional(&exposing.network_policies, Piece::NetworkPolicy).await,
        PieceKind::Middleware => at.optional(&exposing.middlewares, Piece::Middleware).await,
        PieceKind::SecurityPolicy => at.optional(&exposing.security_policies, Piece::SecurityPolicy).await,
        PieceKind::AuthorizationPolicy => {
            at.optional(&exposing.authorization_policies, Piece::AuthorizationPolicy).await
        }
        PieceKind::HttpRoute => at.optional(&exposing.http_routes, Piece::HttpRoute).await,
        PieceKind::Ingress => at.optional(&exposing.ingresses, Piece::Ingress).await,
        PieceKind::Route => at.optional(&exposing.routes, Piece::Route).await,
    }
}

/// A place of an Instance.
#[derive(Clone, Copy)]
struct At<'a> {
    instance: &'a Instance,
    place: Place,
}

impl At<'_> {
    /// The namespace and the name of the object.
    fn name(self) -> (String, String) {
        let Place { kind, endpoint } = self.place;
        (self.instance.namespace().unwrap_or_default(), kind.object_name(self.instance, endpoint))
    }

    /// The object in a cache of a kind that the cluster may not serve. An object that the spec does not need is not
    /// waited for. If one of ours exists, a later pass removes it.
    async fn optional<K>(self, cache: &Optional<K>, piece: fn(Arc<K>) -> Piece) -> Observed
    where
        K: Object + Resource<Scope = NamespaceResourceScope>,
    {
        let (namespace, name) = self.name();
        if !cache.is_on() {
            return Observed::Off;
        }
        if !is_needed(self.instance, self.place) && !cache.is_known() {
            return Observed::Absent;
        }
        match cache.read().await {
            Some(cache) => self.held(cache.get(&namespace, &name), piece),
            None => Observed::Unserved,
        }
    }

    fn held<K: Object>(self, object: Option<Arc<K>>, piece: fn(Arc<K>) -> Piece) -> Observed {
        match object {
            None => Observed::Absent,
            Some(object) if belongs(&*object, &self.instance.uid().unwrap_or_default()) => {
                Observed::Ours(piece(object))
            }
            Some(_) => Observed::Foreign,
        }
    }
}

/// True if the spec needs an object at `place`, as far as the spec alone says. For an endpoint that names no way in,
/// each way in may be needed.
pub(crate) fn is_needed(instance: &Instance, place: Place) -> bool {
    let mut endpoints = instance.endpoints().filter(|endpoint| endpoint.name == place.endpoint);
    endpoints.any(|endpoint| match place.kind.stage() {
        Stage::Inside => true,
        Stage::Guard => endpoint.guarding().and_then(gate::kind) == Some(place.kind),
        Stage::WayIn => match endpoint.way_in() {
            Some(way) => PieceKind::from(way) == place.kind,
            None => endpoint.guarding().is_some(),
        },
    })
}
