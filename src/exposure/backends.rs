//! The Services that an object leads to.

use k8s_openapi::api::{
    core::v1::Service,
    networking::v1::{Ingress, IngressBackend, NetworkPolicy},
};
use kube::Resource;
use serde_json::Value;

use super::loose::{AuthorizationPolicy, HttpRoute, Middleware, Route, SecurityPolicy};

/// An object that may lead requests to Services.
pub trait Backends: Resource {
    /// The namespaces and names of the Services.
    fn backends(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

impl Backends for NetworkPolicy {}
impl Backends for Middleware {}
impl Backends for SecurityPolicy {}
impl Backends for AuthorizationPolicy {}

impl Backends for Ingress {
    fn backends(&self) -> Vec<(String, String)> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let rules = spec.rules.iter().flatten().filter_map(|rule| rule.http.as_ref());
        let paths = rules.flat_map(|http| &http.paths).map(|path| &path.backend);
        let service = |backend: &IngressBackend| Some((home(self), backend.service.as_ref()?.name.clone()));
        paths.chain(&spec.default_backend).filter_map(service).collect()
    }
}

impl Backends for HttpRoute {
    fn backends(&self) -> Vec<(String, String)> {
        let services = refs(&self.spec["rules"]).into_iter();
        let services = services.filter(|to| to["kind"].as_str().is_none_or(|kind| kind == "Service"));
        services
            .filter_map(|to| Some((text(&to["namespace"]).unwrap_or_else(|| home(self)), text(&to["name"])?)))
            .collect()
    }
}

impl Backends for Route {
    fn backends(&self) -> Vec<(String, String)> {
        let alternate = self.spec["alternateBackends"].as_array().into_iter().flatten();
        let all = [&self.spec["to"]].into_iter().chain(alternate);
        all.filter_map(|to| Some((home(self), text(&to["name"])?))).collect()
    }
}

/// All references to backends. A filter has some too: it can mirror requests to a Service, or ask it.
fn refs(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match key.as_str() {
                "backendRef" => vec![value],
                "backendRefs" => {
                    value.as_array().into_iter().flatten().flat_map(|to| [vec![to], refs(to)].concat()).collect()
                }
                _ => refs(value),
            })
            .collect(),
        Value::Array(all) => all.iter().flat_map(refs).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// The property by which a Service leads to Pods from outside the cluster by itself, in words. `None` if it does not.
pub fn outward(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let by_type = spec.type_.as_deref().filter(|type_| ["LoadBalancer", "NodePort"].contains(type_));
    let by_address = || spec.external_ips.as_ref().filter(|ips| !ips.is_empty()).map(|_| "with externalIPs".to_owned());
    by_type.map(|type_| format!("of type {type_}")).or_else(by_address)
}

fn home(object: &impl Resource) -> String {
    object.meta().namespace.clone().unwrap_or_default()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(name: &str) -> (String, String) {
        ("a".into(), name.into())
    }

    #[test]
    fn every_backend_of_a_way_in_is_found() {
        let to =
            |name: &str| json!({"backend": {"service": {"name": name, "port": {"number": 80}}}, "pathType": "Prefix"});
        let ingress: Ingress = serde_json::from_value(json!({
            "metadata": {"namespace": "a"},
            "spec": {"rules": [{"http": {"paths": [to("x"), to("y")]}}], "defaultBackend": to("z")["backend"]},
        }))
        .unwrap();
        assert_eq!(ingress.backends(), [named("x"), named("y"), named("z")]);
        let route: HttpRoute = serde_json::from_value(json!({
            "metadata": {"namespace": "b"},
            "spec": {"rules": [{"backendRefs": [{"name": "x", "namespace": "a"}, {"name": "o", "kind": "Other"}]}]},
        }))
        .unwrap();
        assert_eq!(route.backends(), [named("x")]);
        let mirror = |name: &str| json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name}}}]);
        let to = json!([{"name": "x", "filters": mirror("y")}]);
        let route: HttpRoute = serde_json::from_value(json!({
            "metadata": {"namespace": "a"}, "spec": {"rules": [{"backendRefs": to, "filters": mirror("z")}]},
        }))
        .unwrap();
        assert_eq!(route.backends(), [named("x"), named("y"), named("z")]);
        let route: Route = serde_json::from_value(json!({
            "metadata": {"namespace": "a"}, "spec": {"to": {"name": "x"}, "alternateBackends": [{"name": "y"}]},
        }))
        .unwrap();
        assert_eq!(route.backends(), [named("x"), named("y")]);
    }

    #[test]
    fn a_service_leads_inward_unless_it_says_otherwise() {
        let service = |spec| serde_json::from_value::<Service>(json!({ "spec": spec })).unwrap();
        let told = |spec| outward(&service(spec));
        assert_eq!(told(json!({"type": "ClusterIP", "externalIPs": []})), None);
        assert_eq!(told(json!({"type": "NodePort"})).as_deref(), Some("of type NodePort"));
        assert_eq!(told(json!({"type": "LoadBalancer"})).as_deref(), Some("of type LoadBalancer"));
        let addressed = json!({"type": "ClusterIP", "externalIPs": ["192.0.2.1"]});
        assert_eq!(told(addressed).as_deref(), Some("with externalIPs"));
    }
}
