//! The objects that an endpoint of an Instance needs, with one builder per kind. Pure functions.

mod authority;
mod ingress;
mod piece;
mod service;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use crate::crd::{
    Fault, Instance, Reason,
    instance::{Endpoint, EndpointStatus, EndpointType, ManagerService, Scheme},
    name,
};

pub use authority::{trust, unreadable};
pub use piece::{Piece, PieceKind, Stage};

/// One endpoint with everything that its objects need.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposed {
    /// The endpoint in the spec.
    pub endpoint: Endpoint,
    /// Name of the endpoint's Service, and of its Ingress.
    pub name: String,
    /// Port of the endpoint's Service.
    pub port: i32,
    /// Port of the Pods behind the Service.
    pub target_port: IntOrString,
    /// Selector of the Pods behind the Service.
    pub selector: BTreeMap<String, String>,
    /// Protocol of the Pods' port.
    pub scheme: Scheme,
}

/// All objects that `exposed` needs, in the order of their stages.
pub fn build(exposed: &Exposed) -> Vec<Piece> {
    let build = |kind| match kind {
        PieceKind::Service => Some(Piece::Service(Arc::new(service::build(exposed)))),
        PieceKind::Ingress => ingress::build(exposed).map(|ingress| Piece::Ingress(Arc::new(ingress))),
    };
    PieceKind::ALL.into_iter().filter_map(build).collect()
}

/// Collects everything that `endpoint` of an Instance needs, from the existing Service `manager`. An error names the
/// missing or unusable field.
pub fn exposed(
    instance: &str,
    endpoint: &Endpoint,
    wanted: &ManagerService,
    manager: Option<&Service>,
) -> Result<Exposed, Fault> {
    let fault = |reason, message| Err(Fault::new(reason, "spec.manager.service", message));
    let Some(manager) = manager else {
        return fault(
            Reason::ServiceMissing,
            format!("there is no Service {} in this namespace; create it or name another", wanted.name),
        );
    };
    let spec = manager.spec.clone().unwrap_or_default();
    let Some(port) = spec.ports.iter().flatten().find(|port| port.port == wanted.port) else {
        return fault(
            Reason::ServiceUnusable,
            format!("Service {} has no port {}; name one that it has", wanted.name, wanted.port),
        );
    };
    let Some(selector) = spec.selector.clone().filter(|selector| !selector.is_empty()) else {
        return fault(
            Reason::ServiceUnusable,
            format!("Service {} selects no Pods; name one that has a selector", wanted.name),
        );
    };
    Ok(Exposed {
        endpoint: endpoint.clone(),
        name: name::exposed(instance, endpoint.name.as_str()),
        port: port.port,
        target_port: target(port),
        selector,
        scheme: wanted.scheme,
    })
}

/// Metadata with the object's name alone. The controller adds the namespace and the owner when it writes the object.
fn named(exposed: &Exposed) -> ObjectMeta {
    ObjectMeta { name: Some(exposed.name.clone()), ..ObjectMeta::default() }
}

fn target(port: &ServicePort) -> IntOrString {
    port.target_port.clone().unwrap_or(IntOrString::Int(port.port))
}

/// The endpoints of an Instance, each with the URI for clients. The URI of a disabled endpoint is empty. URIs depend on
/// the spec alone, so they are the same before the objects exist.
pub fn endpoints(instance: &Instance) -> Vec<EndpointStatus> {
    let Some(service) = instance.manager_service() else {
        return Vec::new();
    };
    instance
        .all_endpoints()
        .map(|endpoint| EndpointStatus {
            name: endpoint.name,
            type_: endpoint.reach(),
            uri: uri(instance, endpoint, service),
        })
        .collect()
}

fn uri(instance: &Instance, endpoint: &Endpoint, service: &ManagerService) -> String {
    match (endpoint.reach(), &endpoint.host) {
        (EndpointType::Disabled, _) => String::new(),
        (EndpointType::External, Some(host)) => {
            let scheme = if endpoint.is_tls() { Scheme::Https } else { Scheme::Http };
            format!("{}://{host}", scheme.as_str())
        }
        (EndpointType::External, None) | (EndpointType::Internal, _) => {
            let own = instance.metadata.name.as_deref().unwrap_or_default();
            let namespace = instance.metadata.namespace.as_deref().unwrap_or_default();
            let host = format!("{}.{namespace}.svc", name::exposed(own, endpoint.name.as_str()));
            let port = if service.port == service.scheme.default_port() {
                String::new()
            } else {
                format!(":{}", service.port)
            };
            format!("{}://{host}{port}", service.scheme.as_str())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(crate) fn instance(manager: Value) -> Instance {
        serde_json::from_value(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "eem", "namespace": "events"},
            "spec": {"manager": manager},
        }))
        .unwrap()
    }

    pub(crate) fn manager_service() -> Service {
        serde_json::from_value(
            json!({"spec": {"selector": {"app": "eem"}, "ports": [{"port": 443, "targetPort": "api"}]}}),
        )
        .unwrap()
    }

    pub(crate) fn exposed_of(instance: &Instance) -> Exposed {
        let wanted = instance.spec.manager.as_ref().unwrap().service.as_ref().unwrap();
        exposed("eem", instance.endpoints().next().unwrap(), wanted, Some(&manager_service())).unwrap()
    }

    fn uris(manager: Value) -> Vec<String> {
        endpoints(&instance(manager)).into_iter().map(|endpoint| endpoint.uri).collect()
    }

    #[test]
    fn an_internal_uri_names_the_service_and_a_port_that_its_scheme_does_not_imply() {
        let endpoints = json!([{"name": "admin", "type": "internal"}]);
        let uri = |service: Value| uris(json!({"service": service, "endpoints": endpoints}));
        assert_eq!(uri(json!({"name": "m"})), ["https://eem-admin.events.svc"]);
        assert_eq!(uri(json!({"name": "m", "port": 8443})), ["https://eem-admin.events.svc:8443"]);
        assert_eq!(uri(json!({"name": "m", "port": 80, "scheme": "http"})), ["http://eem-admin.events.svc"]);
    }

    #[test]
    fn an_external_uri_names_the_host_and_says_https_where_the_ingress_has_tls() {
        let uri = |ingress: Value| {
            let endpoint = json!({"name": "admin", "type": "external", "host": "a.example.com", "ingress": ingress});
            uris(json!({"service": {"name": "m"}, "endpoints": [endpoint]}))
        };
        assert_eq!(uri(json!({})), ["http://a.example.com"]);
        assert_eq!(uri(json!({"tls": {}})), ["https://a.example.com"]);
    }

    #[test]
    fn what_is_built_is_what_an_endpoint_of_its_type_needs_in_the_order_of_stages() {
        for endpoint in [
            json!({"name": "admin", "type": "internal"}),
            json!({"name": "admin", "host": "a.example.com", "ingress": {}}),
        ] {
            let instance = instance(json!({"service": {"name": "m"}, "endpoints": [endpoint]}));
            let exposed = exposed_of(&instance);
            let built: Vec<_> = build(&exposed).iter().map(Piece::kind).collect();
            let needed = PieceKind::ALL.into_iter().filter(|kind| kind.is_needed_by(&exposed.endpoint));
            assert!(needed.eq(built.iter().copied()), "{built:?}");
            assert!(built.is_sorted_by_key(|kind| kind.stage()));
        }
    }

    #[test]
    fn no_endpoint_no_uri() {
        assert!(uris(json!({})).is_empty());
        assert!(uris(json!({"service": {"name": "m"}})).is_empty());
    }

    #[test]
    fn a_manager_service_that_cannot_be_fronted_is_told() {
        let instance =
            instance(json!({"service": {"name": "m"}, "endpoints": [{"name": "admin", "type": "internal"}]}));
        let wanted = instance.spec.manager.as_ref().unwrap().service.as_ref().unwrap();
        let reason = |service: Option<Value>| {
            let service = service.map(|spec| serde_json::from_value(json!({"spec": spec})).unwrap());
            exposed("eem", instance.endpoints().next().unwrap(), wanted, service.as_ref()).unwrap_err().reason
        };
        assert_eq!(reason(None), Reason::ServiceMissing);
        assert_eq!(reason(Some(json!({"selector": {"a": "b"}, "ports": [{"port": 80}]}))), Reason::ServiceUnusable);
        assert_eq!(reason(Some(json!({"ports": [{"port": 443}]}))), Reason::ServiceUnusable);
    }
}
