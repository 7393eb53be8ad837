//! The Ingress of an external endpoint.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, ServiceBackendPort,
};

use super::{Exposed, ExposureConfig, annotations};
use crate::crd::{
    ObjectName,
    endpoint::{Endpoint, IngressTemplate, WayIn},
};

/// The Ingress of an endpoint: the one in its spec, or else that of the cluster. The class of the cluster replaces a
/// missing one.
pub(crate) fn template(endpoint: &Endpoint, config: &ExposureConfig) -> IngressTemplate {
    let usual = config.ingress.clone().unwrap_or_default();
    let Some(given) = endpoint.ingress.clone() else { return usual };
    IngressTemplate { class_name: given.class_name.or(usual.class_name), ..given }
}

/// The Secret with the certificate of an endpoint's Ingress. `None` if nothing names one.
pub fn certificate(endpoint: &Endpoint, way: Option<WayIn>, config: &ExposureConfig) -> Option<ObjectName> {
    template(endpoint, config).tls?.secret_name.filter(|_| way == Some(WayIn::Ingress))
}

/// The Ingress of `exposed`. `None` unless the endpoint is external, has a host, and an Ingress is its way in.
pub(crate) fn build(exposed: &Exposed) -> Option<Ingress> {
    let host = exposed.endpoint.host.as_ref().filter(|_| exposed.is_led_by(WayIn::Ingress))?;
    let wanted = template(&exposed.endpoint, &exposed.config);
    let backend = IngressBackend {
        service: Some(IngressServiceBackend { name: exposed.name.clone(), port: Some(port(exposed)) }),
        resource: None,
    };
    let path = HTTPIngressPath {
        path: Some("/".into()),
        path_type: wanted.path_type.unwrap_or_default().as_str().into(),
        backend,
    };
    let tls = wanted.tls.as_ref().map(|tls| {
        let secret_name = tls.secret_name.as_ref().map(ObjectName::to_string);
        vec![IngressTLS { hosts: Some(vec![host.to_string()]), secret_name }]
    });
    let mut metadata = super::named(exposed);
    metadata.annotations = Some(annotations::all(exposed, &wanted));
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.as_ref().map(ObjectName::to_string),
            rules: Some(vec![IngressRule {
                host: Some(host.to_string()),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls,
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    })
}

/// The port of the Service. An edge that joins names gets the port by the name that cannot be guessed.
fn port(exposed: &Exposed) -> ServiceBackendPort {
    match super::joins(exposed.guard()) {
        true => ServiceBackendPort { name: Some(exposed.port_name.clone()), number: None },
        false => ServiceBackendPort { number: Some(exposed.port), name: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::tests::{exposed_of, instance};
    use serde_json::json;

    #[test]
    fn an_external_endpoint_routes_its_host_to_its_own_service() {
        let instance = instance(json!({"service": {"name": "m"}, "endpoints": [
            {"name": "admin", "host": "a.example.com", "ingress": {"className": "traefik", "annotations": {"a": "b"}, "tls": {"secretName": "t"}}},
        ]}));
        let ingress = build(&exposed_of(&instance)).unwrap();
        let spec = serde_json::to_value(ingress.spec).unwrap();
        assert_eq!(spec["ingressClassName"], "traefik");
        assert_eq!(spec["rules"][0]["host"], "a.example.com");
        assert_eq!(
            spec["rules"][0]["http"]["paths"][0]["backend"]["service"],
            json!({"name": "eem-admin", "port": {"number": 443}})
        );
        assert_eq!(spec["tls"], json!([{"hosts": ["a.example.com"], "secretName": "t"}]));
        assert_eq!(ingress.metadata.annotations.unwrap()["a"], "b");
    }

    #[test]
    fn an_edge_that_joins_names_gets_the_port_by_a_name_that_differs_for_each_instance() {
        let named = |guard: &str, uid: &str| {
            let endpoint = json!({"name": "admin", "host": "a.example.com", "ingress": {}, "guard": guard});
            let mut instance = instance(json!({"service": {"name": "m"}, "endpoints": [endpoint]}));
            instance.metadata.uid = Some(uid.into());
            let exposed = exposed_of(&instance);
            let port = serde_json::to_value(build(&exposed)).unwrap()["spec"]["rules"][0]["http"]["paths"][0]["backend"]
                ["service"]["port"]
                .clone();
            let of_service = serde_json::to_value(crate::exposure::service::build(&exposed)).unwrap();
            assert_eq!(port, json!({"name": of_service["spec"]["ports"][0]["name"]}));
            port["name"].as_str().unwrap().to_owned()
        };
        for guard in ["Traefik", "Nginx"] {
            let [one, other] = ["u", "v"].map(|uid| named(guard, uid));
            assert!(one.starts_with("https-") && one.len() == 15 && one != other, "{one} {other}");
        }
    }

    #[test]
    fn an_internal_endpoint_has_none() {
        let instance =
            instance(json!({"service": {"name": "m"}, "endpoints": [{"name": "admin", "type": "internal"}]}));
        assert_eq!(build(&exposed_of(&instance)), None);
    }
}
