//! The Service of an endpoint: a stable name and port in front of the Pods that serve the Admin API.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::Exposed;

/// The Service of `exposed`. Its metadata has the name alone. External and internal endpoints both have a Service:
/// callers inside the cluster use it, and so does the Ingress of an external endpoint.
pub(crate) fn build(exposed: &Exposed) -> Service {
    let port = ServicePort {
        name: Some(exposed.port_name.clone()),
        port: exposed.port,
        protocol: Some("TCP".into()),
        target_port: Some(exposed.target_port.clone()),
        ..ServicePort::default()
    };
    Service {
        metadata: super::named(exposed),
        spec: Some(ServiceSpec {
            selector: Some(exposed.selector.clone()),
            ports: Some(vec![port]),
            type_: Some("ClusterIP".into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::tests::{exposed_of, instance};
    use serde_json::json;

    #[test]
    fn fronts_the_pods_of_the_managers_service() {
        let instance =
            instance(json!({"service": {"name": "m"}, "endpoints": [{"name": "admin", "type": "internal"}]}));
        let service = build(&exposed_of(&instance));
        assert_eq!(service.metadata.name.as_deref(), Some("eem-admin"));
        assert_eq!(
            serde_json::to_value(service.spec).unwrap(),
            json!({
                "type": "ClusterIP", "selector": {"app": "eem"},
                "ports": [{"name": "https", "port": 443, "targetPort": "api", "protocol": "TCP"}],
            })
        );
    }
}
