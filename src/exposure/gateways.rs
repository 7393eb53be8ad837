//! The Gateways of an HTTPRoute: if they exist, and if their class knows the filter ExternalAuth.

use super::{
    ExposureConfig,
    loose::{Gateway, GatewayClass},
};
use crate::crd::endpoint::{Endpoint, Guard, ParentRef, WayIn};

/// The name of the filter ExternalAuth among the features of a GatewayClass.
const FEATURE: &str = "HTTPRouteExternalAuth";

/// The first Gateway that keeps an HTTPRoute from its callers, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carriers {
    /// Nothing is known against them.
    Fitting,
    /// One does not exist.
    Missing(String),
    /// The class of one names its features, and the filter ExternalAuth is not among them.
    Lacking(String),
}

/// The namespaces and the names of the Gateways of an endpoint, without duplicates. `home` is the namespace of the
/// Instance. None for an endpoint with another way in.
pub fn of(endpoint: &Endpoint, way: Option<WayIn>, config: &ExposureConfig, home: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if way != Some(WayIn::Gateway) {
        return all;
    }
    for parent in parents(endpoint, config) {
        let namespace = parent.namespace.as_ref().map_or(home, |it| it.as_str());
        let gateway = (namespace.to_owned(), parent.name.to_string());
        if !all.contains(&gateway) {
            all.push(gateway);
        }
    }
    all
}

/// The Gateways of an HTTPRoute: those of the spec, or else those of the cluster.
pub(super) fn parents<'a>(endpoint: &'a Endpoint, config: &'a ExposureConfig) -> &'a [ParentRef] {
    let given = endpoint.gateway.as_ref().map(|gateway| &*gateway.parent_refs);
    given.filter(|given| !given.is_empty()).unwrap_or(&config.gateway)
}

/// True if the guard of an endpoint needs the filter ExternalAuth.
pub fn needs_filter(endpoint: &Endpoint) -> bool {
    endpoint.guarding() == Some(Guard::ExternalAuth)
}

/// The text for a Gateway that does not exist.
pub fn missing((namespace, name): &(String, String)) -> String {
    format!("there is no Gateway {namespace}/{name}; create it, or name another one in gateway.parentRefs")
}

/// The class of a Gateway.
pub fn class_of(gateway: &Gateway) -> Option<&str> {
    gateway.spec["gatewayClassName"].as_str()
}

/// The text for a Gateway whose class does not know the filter ExternalAuth. `None` if the class names it, or names no
/// features at all.
pub fn lacks_filter((namespace, name): &(String, String), class: &GatewayClass) -> Option<String> {
    let features = class.status["supportedFeatures"].as_array().filter(|features| !features.is_empty())?;
    // Older versions of Gateway API list the bare names.
    let is_it = |feature: &serde_json::Value| feature == FEATURE || feature["name"] == FEATURE;
    let class = class.metadata.name.as_deref().unwrap_or_default();
    (!features.iter().any(is_it)).then(|| {
        format!(
            "GatewayClass {class} of Gateway {namespace}/{name} does not list the feature {FEATURE}; use a Gateway \
             that supports it, or another guard"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn endpoint(gateway: Value) -> Endpoint {
        serde_json::from_value(json!({"name": "admin", "gateway": gateway, "guard": "ExternalAuth"})).unwrap()
    }

    #[test]
    fn the_gateways_of_the_spec_come_first_and_each_counts_once() {
        let config: ExposureConfig = serde_json::from_value(json!({"gateway": [{"name": "usual"}]})).unwrap();
        let of = |gateway, way| of(&endpoint(gateway), way, &config, "a");
        let named = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        let listeners = json!({"parentRefs": [
            {"name": "g", "sectionName": "s"}, {"name": "g", "namespace": "a", "sectionName": "t"},
            {"name": "g", "namespace": "b"},
        ]});
        assert_eq!(of(listeners, Some(WayIn::Gateway)), [named("a", "g"), named("b", "g")]);
        assert_eq!(of(json!({}), Some(WayIn::Gateway)), [named("a", "usual")]);
        assert_eq!(of(json!({}), Some(WayIn::Ingress)), []);
    }

    #[test]
    fn a_class_that_names_its_features_has_to_name_the_filter() {
        let of = |features: Value| {
            let mut class = GatewayClass::new(Default::default(), json!({}));
            class.metadata.name = Some("c".into());
            class.status = json!({ "supportedFeatures": features });
            lacks_filter(&("a".into(), "g".into()), &class)
        };
        assert_eq!(of(json!(null)), None);
        assert_eq!(of(json!([])), None);
        assert_eq!(of(json!([{"name": "HTTPRoute"}, {"name": "HTTPRouteExternalAuth"}])), None);
        assert_eq!(of(json!(["HTTPRoute", "HTTPRouteExternalAuth"])), None);
        let lacking = of(json!([{"name": "HTTPRoute"}])).unwrap();
        assert!(lacking.starts_with("GatewayClass c of Gateway a/g does not list"), "{lacking}");
    }
}
