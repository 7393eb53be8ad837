//! Objects of others that lead to the same Pods as an endpoint. A request on such a way meets no guard of the Instance.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt};

use crate::{
    controller::{Rooms, depends::Depends},
    crd::{Instance, belongs, endpoint::EndpointName},
    exposure::{
        PieceKind,
        backends::{Backends, outward},
    },
    outside::{Optional, watch::Object},
};

/// The most objects that are named.
const MOST: usize = 4;

/// The objects of others that lead to the Pods of `manager`, in words. The Instance's own objects do not count.
pub(super) fn bypasses(instance: &Instance, manager: &Service, rooms: &Rooms) -> Vec<String> {
    let home = instance.namespace().unwrap_or_default();
    let services = same_pods(&home, manager, rooms);
    let mut found = BTreeSet::new();
    for service in &services {
        if let Some(how) = outward(service).filter(|_| !is_own(&**service, PieceKind::Service, instance)) {
            found.insert(format!("Service {} {how}", service.name_any()));
        }
        let name = service.name_any();
        let exposing = &rooms.caches.exposing;
        found.extend(leading(&exposing.ingresses, (&home, &name), (instance, PieceKind::Ingress)));
        found.extend(leading(&exposing.http_routes, (&home, &name), (instance, PieceKind::HttpRoute)));
        found.extend(leading(&exposing.routes, (&home, &name), (instance, PieceKind::Route)));
    }
    found.into_iter().take(MOST).collect()
}

/// The Services that may select some of the Pods that `manager` selects, `manager` among them. They share a label with
/// it, and contradict none.
fn same_pods(home: &str, manager: &Service, rooms: &Rooms) -> Vec<Arc<Service>> {
    let wanted = manager.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let by_label =
        wanted.iter().flat_map(|(key, value)| rooms.caches.services.by(&Depends::Selecting(home, key, value)));
    let selects = |service: &Arc<Service>| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        selector.iter().all(|(key, value)| wanted.get(key).is_none_or(|wanted| wanted == value))
    };
    by_label.filter(|service| service.namespace().as_deref() == Some(home)).filter(selects).collect()
}

/// True if the Instance made this object. Users can write its owner reference into any object, but not take its name.
fn is_own(object: &impl Resource<DynamicType = ()>, kind: PieceKind, instance: &Instance) -> bool {
    let name = object.meta().name.as_deref();
    let has_name = EndpointName::ALL.iter().any(|it| name == Some(&*kind.object_name(instance, *it)));
    has_name && object.meta().namespace == instance.namespace() && belongs(object, &instance.uid().unwrap_or_default())
}

/// The objects of others of one kind that lead to a Service, in words.
fn leading<K>(cache: &Optional<K>, service: (&str, &str), (instance, kind): (&Instance, PieceKind)) -> Vec<String>
where
    K: Object + Backends + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let Some(cache) = cache.synced() else { return Vec::new() };
    let leads = |object: &Arc<K>| {
        object.backends().iter().any(|(namespace, name)| (&**namespace, &**name) == service)
            && !is_own(&**object, kind, instance)
    };
    let found = cache.by(&Depends::Backend(service.0, service.1)).filter(leads);
    found
        .map(|object| format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::networking::v1::Ingress;
    use serde_json::json;

    #[test]
    fn an_owner_reference_alone_makes_no_object_ours() {
        let mut instance = crate::exposure::tests::instance(json!({"service": {"name": "m"}}));
        instance.metadata.uid = Some("u".into());
        let is_own = |namespace: &str, name: &str| {
            let mut ingress = Ingress::default();
            crate::crd::give(&mut ingress, &instance);
            ingress.metadata.namespace = Some(namespace.into());
            ingress.metadata.name = Some(name.into());
            super::is_own(&ingress, PieceKind::Ingress, &instance)
        };
        assert!(is_own("events", "eem-admin"));
        assert!(!is_own("events", "eem-past-the-guard") && !is_own("other", "eem-admin"));
    }
}
