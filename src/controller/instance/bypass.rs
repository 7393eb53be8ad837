//! Objects of others that lead to the same Pods as an endpoint. A request on such a way meets no guard of the Instance.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt};

use crate::{
    controller::{Rooms, depends::Depends},
    crd::{Instance, belongs},
    exposure::{
        backends::{Backends, is_outward},
        loose::HttpRoute,
    },
    outside::{Optional, watch::Object},
};

/// The most objects that are named.
const MOST: usize = 4;

/// The objects of others that lead to the Pods of `manager`, in words. The Instance's own objects do not count.
pub(super) fn bypasses(instance: &Instance, manager: &Service, rooms: &Rooms) -> Vec<String> {
    let home = instance.namespace().unwrap_or_default();
    let uid = instance.uid().unwrap_or_default();
    let services = same_pods(&home, manager, rooms);
    let mut found = BTreeSet::new();
    for service in &services {
        if is_outward(service) && !belongs(&**service, &uid) {
            let type_ = service.spec.as_ref().and_then(|spec| spec.type_.clone()).unwrap_or_default();
            found.insert(format!("Service {} of type {type_}", service.name_any()));
        }
        let name = service.name_any();
        let exposing = &rooms.caches.exposing;
        found.extend(leading(&exposing.ingresses, (&home, &name), &uid));
        found.extend(leading::<HttpRoute>(&exposing.http_routes, (&home, &name), &uid));
        found.extend(leading(&exposing.routes, (&home, &name), &uid));
    }
    found.into_iter().take(MOST).collect()
}

/// The Services that select some of the Pods that `manager` selects, `manager` among them.
fn same_pods(home: &str, manager: &Service, rooms: &Rooms) -> Vec<Arc<Service>> {
    let wanted = manager.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let by_label =
        wanted.iter().flat_map(|(key, value)| rooms.caches.services.by(&Depends::Selecting(home, key, value)));
    let selects = |service: &Arc<Service>| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        shares(&selector, &wanted)
    };
    by_label.filter(|service| service.namespace().as_deref() == Some(home)).filter(selects).collect()
}

/// True if one selector selects only Pods that the other one selects too.
fn shares(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> bool {
    let includes = |wide: &BTreeMap<String, String>, narrow: &BTreeMap<String, String>| {
        !wide.is_empty() && wide.iter().all(|(key, value)| narrow.get(key) == Some(value))
    };
    includes(one, other) || includes(other, one)
}

/// The objects of others of one kind that lead to a Service, in words.
fn leading<K>(cache: &Optional<K>, service: (&str, &str), uid: &str) -> Vec<String>
where
    K: Object + Backends + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let Some(cache) = cache.synced() else { return Vec::new() };
    let leads = |object: &Arc<K>| {
        object.backends().iter().any(|(namespace, name)| (&**namespace, &**name) == service) && !belongs(&**object, uid)
    };
    let found = cache.by(&Depends::Backend(service.0, service.1)).filter(leads);
    found
        .map(|object| format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_share_pods_if_one_selector_includes_the_other() {
        let selector = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let of_api = selector(&[("app", "m"), ("part", "api")]);
        for sharing in
            [&[("app", "m")][..], &[("app", "m"), ("part", "api")], &[("app", "m"), ("part", "api"), ("v", "1")]]
        {
            assert!(shares(&selector(sharing), &of_api), "{sharing:?}");
        }
        for other in [&[][..], &[("app", "n")], &[("app", "m"), ("part", "web")]] {
            assert!(!shares(&selector(other), &of_api), "{other:?}");
        }
    }
}
