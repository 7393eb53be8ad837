//! The HTTPRoute of an external endpoint.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Exposed, Form, gateways, loose::HttpRoute};
use crate::crd::endpoint::{Guard, HeaderFilter, HeaderFilterType, ParentRef, WayIn};

/// Headers that some APIs obey instead of the path. Callers must not send them to an API behind a guard.
const OBEYED: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// The HTTPRoute of `exposed`. `None` unless the way in is a Gateway.
pub(crate) fn build(exposed: &Exposed, form: Form) -> Option<HttpRoute> {
    let host = exposed.endpoint.host.as_ref().filter(|_| exposed.is_led_by(WayIn::Gateway))?;
    let (wanted, parents) = (exposed.endpoint.gateway.clone().unwrap_or_default(), parents(exposed));
    if parents.is_empty() {
        return None;
    }
    let mut hostnames = vec![host.as_str()];
    for hostname in &wanted.hostnames {
        if !hostnames.contains(&hostname.as_str()) {
            hostnames.push(hostname.as_str());
        }
    }
    let backends = match form {
        Form::Open => json!([{"name": exposed.name, "port": exposed.port}]),
        Form::Shut => json!([]),
    };
    // An edge that takes filters in their order asks the verifier before it changes the request.
    let changes = wanted.filters.iter().filter(|filter| filter.type_ == HeaderFilterType::ResponseHeaderModifier);
    let filters = guarding(exposed).into_iter().chain(request(exposed, &wanted.filters)).chain(changes.map(changing));
    let filters: Vec<_> = filters.collect();
    let mut rule = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends,
    });
    if !filters.is_empty() {
        rule["filters"] = filters.into();
    }
    let spec = json!({"parentRefs": parents, "hostnames": hostnames, "rules": [rule]});
    Some(HttpRoute::new(super::named(exposed), spec))
}

/// The Gateways of the HTTPRoute: those of the spec, or else those of the cluster.
pub(super) fn parents(exposed: &Exposed) -> &[ParentRef] {
    gateways::parents(&exposed.endpoint, &exposed.config)
}

/// The number of the Gateways of `exposed`. Listeners of one Gateway count once.
pub(super) fn gateways(exposed: &Exposed) -> usize {
    gateways::of(&exposed.endpoint, exposed.way, &exposed.config, &exposed.instance.0).len()
}

/// True if each Gateway of `exposed` is one of `route` already. The Gateway of a new parent may not know the guard.
pub(crate) fn is_carried(route: &HttpRoute, exposed: &Exposed) -> bool {
    let home = exposed.instance.0.as_str();
    let carries = |wanted: &ParentRef| {
        let namespace = wanted.namespace.as_ref().map_or(home, |it| it.as_str());
        let mut parents = route.spec["parentRefs"].as_array().into_iter().flatten();
        parents.any(|parent| {
            parent["name"] == wanted.name.as_str() && parent["namespace"].as_str().unwrap_or(home) == namespace
        })
    };
    parents(exposed).iter().all(carries)
}

/// The filter that asks the verifier, if the guard is one.
fn guarding(exposed: &Exposed) -> Option<Value> {
    if exposed.verifier_of(Guard::Traefik).is_some() {
        let middleware = json!({"group": "traefik.io", "kind": "Middleware", "name": exposed.middleware});
        return Some(json!({"type": "ExtensionRef", "extensionRef": middleware}));
    }
    let verifier = exposed.verifier_of(Guard::ExternalAuth)?;
    // Without a list of response headers, all headers of the answer would reach the API.
    let http = json!({
        "path": exposed.asked_at("authorize"), "allowedHeaders": exposed.asked_headers,
        "allowedResponseHeaders": super::passed_on(),
    });
    let backend = verifier.backend_ref();
    Some(json!({"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "backendRef": backend, "http": http}}))
}

/// The changes to requests: those of the spec. Behind a guard, headers that some APIs obey instead of the path are
/// removed too. Gateway API admits one filter of this type.
fn request(exposed: &Exposed, filters: &[HeaderFilter]) -> Option<Value> {
    let given = filters.iter().find(|filter| filter.type_ == HeaderFilterType::RequestHeaderModifier);
    let (is_given, is_guarded) = (given.is_some(), exposed.guard() != Guard::None);
    let mut filter = given.cloned().unwrap_or_else(|| HeaderFilter {
        type_: HeaderFilterType::RequestHeaderModifier,
        set: BTreeMap::new(),
        add: BTreeMap::new(),
        remove: Vec::new(),
    });
    for name in OBEYED.into_iter().filter(|_| is_guarded) {
        if !filter.remove.iter().any(|removed| removed.eq_ignore_ascii_case(name)) {
            filter.remove.push(name.into());
        }
    }
    (is_given || is_guarded).then(|| changing(&filter))
}

/// A filter as in the HTTPRoute.
fn changing(filter: &HeaderFilter) -> Value {
    let pairs = |headers: &BTreeMap<String, String>| {
        headers.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>()
    };
    let mut changes = serde_json::Map::new();
    let lists =
        [("set", pairs(&filter.set).into()), ("add", pairs(&filter.add).into()), ("remove", json!(filter.remove))];
    changes.extend(lists.into_iter().filter(|(_, list)| *list != json!([])).map(|(key, list)| (key.to_owned(), list)));
    match filter.type_ {
        HeaderFilterType::RequestHeaderModifier => {
            json!({"type": "RequestHeaderModifier", "requestHeaderModifier": changes})
        }
        HeaderFilterType::ResponseHeaderModifier => {
            json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": changes})
        }
    }
}
