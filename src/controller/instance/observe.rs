//! Reads everything an Instance depends on, once. Caches will do: every write carries what was seen, so an old view ends in
//! a conflict.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{Resource, ResourceExt};

use crate::{
    controller::{Rooms, book::Ruled, census, depends},
    crd::{ApiToken, Instance, account::TokenCount, belongs},
    outside::{Cache, watch::Object},
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
    /// What holds the name of its endpoint's Service.
    pub service: Observed<Service>,
    /// What holds the name of its endpoint's Ingress.
    pub ingress: Observed<Ingress>,
    /// How many tokens are its own.
    pub tokens: TokenCount,
    /// Whether the API server stamps who makes them, where that was just seen.
    pub stamped: Option<bool>,
}

/// What holds a name that an Instance needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed<K> {
    /// Nothing.
    Absent,
    /// What this Instance made.
    Ours(Arc<K>),
    /// Something that is not ours by uid.
    Foreign,
}

/// Reads the caches.
pub fn observe(instance: Arc<Instance>, rooms: &Rooms, now: Timestamp) -> World {
    let namespace = instance.namespace().unwrap_or_default();
    let uid = instance.uid().unwrap_or_default();
    let name = instance.exposed_name();
    let wanted = instance.manager_service();
    let home = rooms.caches.namespaces.get("", &namespace);
    World {
        now,
        terminating: home.is_some_and(|home| home.metadata.deletion_timestamp.is_some()),
        manager: wanted.and_then(|wanted| rooms.caches.services.get(&namespace, wanted.name.as_str())),
        service: observed(&rooms.caches.services, &namespace, &name, &uid),
        ingress: observed(&rooms.caches.ingresses, &namespace, &name, &uid),
        tokens: count(&instance, rooms, now),
        stamped: rooms.stamping.seen(),
        instance: rooms.rules.ruled(instance),
    }
}

/// Counts its own tokens. One whose account is suspended is not accepted.
fn count(instance: &Instance, rooms: &Rooms, now: Timestamp) -> TokenCount {
    let home = |token: &ApiToken| token.namespace().unwrap_or_default();
    let own = |token: &&Arc<ApiToken>| token.spec.instance_ref.means(instance, &home(token));
    let tokens = rooms.caches.tokens.by(&depends::instance(instance));
    let suspended = |token: &ApiToken| {
        let bound = token.status.as_ref().and_then(|status| status.account.as_ref());
        let account = bound.and_then(|bound| rooms.caches.accounts.get(&home(token), &bound.name));
        account.is_some_and(|account| !account.spec.active)
    };
    let (idle, others): (Vec<_>, Vec<_>) =
        tokens.iter().filter(own).map(|token| &**token).partition(|token| suspended(token));
    let count = census::count(others, now);
    TokenCount { total: count.total + idle.len() as i64, ..count }
}

fn observed<K: Object + Resource>(cache: &Cache<K>, namespace: &str, name: &str, uid: &str) -> Observed<K> {
    match cache.get(namespace, name) {
        None => Observed::Absent,
        Some(object) if belongs(&*object, uid) => Observed::Ours(object),
        Some(_) => Observed::Foreign,
    }
}
