//! Objects of kinds that other projects define. Their spec and status are kept as JSON, because Tokenry writes only a
//! few of their fields.

use std::{borrow::Cow, fmt::Debug, marker::PhantomData};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The names of a kind.
pub trait Definition: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// The API group.
    const GROUP: &'static str;
    /// The version of the group.
    const VERSION: &'static str;
    /// The kind.
    const KIND: &'static str;
    /// The resource: the plural in paths.
    const PLURAL: &'static str;
}

/// An object of the kind `D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound = "")]
pub struct Loose<D> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    /// The metadata.
    pub metadata: ObjectMeta,
    /// The spec. `null` if there is none.
    #[serde(default)]
    pub spec: Value,
    /// The status. `null` if there is none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub status: Value,
    #[serde(skip)]
    definition: PhantomData<D>,
}

impl<D: Definition> Loose<D> {
    /// An object without a status.
    pub fn new(metadata: ObjectMeta, spec: Value) -> Self {
        Self {
            api_version: Self::api_version(&()).into_owned(),
            kind: D::KIND.into(),
            metadata,
            spec,
            status: Value::Null,
            definition: PhantomData,
        }
    }
}

impl<D: Definition> Resource for Loose<D> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        D::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        D::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        D::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        D::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Defines a type alias for the objects of a kind.
macro_rules! definition {
    ($(#[$doc:meta])* $kind:ident, $marker:ident, $group:literal, $version:literal, $name:literal, $plural:literal) => {
        #[doc = concat!("The names of the kind ", $name, ".")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum $marker {}

        impl Definition for $marker {
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $version;
            const KIND: &'static str = $name;
            const PLURAL: &'static str = $plural;
        }

        $(#[$doc])*
        pub type $kind = Loose<$marker>;
    };
}

definition! {
    /// An HTTPRoute of the Gateway API.
    HttpRoute, HttpRouteNames, "gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"
}
definition! {
    /// A Gateway of the Gateway API.
    Gateway, GatewayNames, "gateway.networking.k8s.io", "v1", "Gateway", "gateways"
}
definition! {
    /// A GatewayClass of the Gateway API. It lies in no namespace.
    GatewayClass, GatewayClassNames, "gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses"
}
definition! {
    /// A Route of OpenShift.
    Route, RouteNames, "route.openshift.io", "v1", "Route", "routes"
}
definition! {
    /// A Middleware of Traefik.
    Middleware, MiddlewareNames, "traefik.io", "v1alpha1", "Middleware", "middlewares"
}
definition! {
    /// A SecurityPolicy of Envoy Gateway.
    SecurityPolicy, SecurityPolicyNames, "gateway.envoyproxy.io", "v1alpha1", "SecurityPolicy", "securitypolicies"
}
definition! {
    /// A BackendTLSPolicy of the Gateway API, as of version 1.4.
    BackendTlsPolicy, BackendTlsPolicyNames, "gateway.networking.k8s.io", "v1", "BackendTLSPolicy",
    "backendtlspolicies"
}
definition! {
    /// A BackendTLSPolicy of the Gateway API before version 1.4.
    AlphaBackendTlsPolicy, AlphaBackendTlsPolicyNames, "gateway.networking.k8s.io", "v1alpha3", "BackendTLSPolicy",
    "backendtlspolicies"
}
definition! {
    /// An AuthorizationPolicy of Istio.
    AuthorizationPolicy, AuthorizationPolicyNames, "security.istio.io", "v1", "AuthorizationPolicy",
    "authorizationpolicies"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_written_with_its_kind_and_read_without() {
        let route = HttpRoute::new(ObjectMeta::default(), json!({"rules": []}));
        let written = serde_json::to_value(&route).unwrap();
        let head = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"});
        assert_eq!((&written["apiVersion"], &written["kind"]), (&head["apiVersion"], &head["kind"]));
        assert_eq!(written.get("status"), None);
        let listed: HttpRoute = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"x": 1}})).unwrap();
        assert_eq!((listed.metadata.name.as_deref(), &listed.status["x"]), (Some("a"), &json!(1)));
    }
}
