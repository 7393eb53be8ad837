//! The endpoints of an Instance: how callers reach its Admin API, and the guard that asks the verifier.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ObjectName, keys};
use crate::token::duration::Duration;

/// An endpoint of the Admin API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(one_way())
        .message("give one of gateway, ingress and route"),
    validation = Rule::new(not_led_to_if_internal())
        .message("an internal endpoint has neither host, gateway, ingress nor route: remove them, or make it external"),
    validation = Rule::new(format!("{NOT_EXTERNAL} || has(self.guard) || (has(self.allowUnguarded) && self.allowUnguarded)"))
        .message("an external endpoint needs a guard, which asks the verifier about each request: set guard, or \
                  allowUnguarded: true to let every request reach the API unjudged"),
    validation = Rule::new("!has(self.guard) || self.guard != 'None' || (has(self.allowUnguarded) && self.allowUnguarded)")
        .message("guard: None lets every request reach the API unjudged: set allowUnguarded: true, or name a guard"),
    validation = Rule::new("!has(self.route) || !has(self.guard) || self.guard in ['Backend', 'Istio', 'None']")
        .message("a Route has no guard of its own: set guard to Backend or Istio, or use gateway or ingress"),
    validation = Rule::new("has(self.istio) == (has(self.guard) && self.guard == 'Istio')")
        .message("guard: Istio and istio.provider belong together: set both, or neither"),
)]
pub struct Endpoint {
    /// Name of the endpoint.
    pub name: EndpointName,
    /// The reach of the endpoint. external: from outside and inside the cluster, by a Service and one way in: an
    /// HTTPRoute, an Ingress or a Route. internal: by Service, from inside only. disabled: no objects, and every token
    /// is refused. If omitted, external.
    // The schema gives no default within a list. Otherwise each server-side apply of the list would be a change.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<EndpointType>,
    /// The DNS name of an external endpoint. It is required, except for an OpenShift Route, whose host the cluster can
    /// assign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<ObjectName>,
    /// The HTTPRoute (Gateway API) of an external endpoint. `{}` uses the Gateway that the chart names in
    /// `exposure.gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayTemplate>,
    /// The Ingress of an external endpoint. `{}` uses the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressTemplate>,
    /// The OpenShift Route of an external endpoint. An external endpoint without `gateway`, `ingress` and `route` has a
    /// Route, if the cluster serves that kind. Otherwise it has the way in that the chart names in `exposure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteTemplate>,
    /// The part of the edge that asks the verifier about each request. Traefik: a Middleware. EnvoyGateway: a
    /// SecurityPolicy. ExternalAuth: the filter of that name in the HTTPRoute. Istio: an AuthorizationPolicy in front
    /// of the Pods. Nginx: annotations for ingress-nginx. Backend: the API, or a proxy in its Pods, asks the verifier
    /// itself. None: nothing asks; it needs `allowUnguarded: true`. It is required for an external endpoint without
    /// `allowUnguarded: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Settings of the guard Istio. Required for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub istio: Option<IstioGuard>,
    /// True: the endpoint may be external without a guard. Every request then reaches the API unjudged. Default: false.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub allow_unguarded: bool,
    /// The certificates by which clients verify the endpoint. Secrets of tokens get them as the key `ca.crt`, unless
    /// `secret.data` of the token has that key. If omitted, Tokenry adds no such key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// The probe of the published URI and of the Service. If omitted, as the defaults of its fields say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeSettings>,
}

/// The source of the certificates by which clients verify an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSource {
    /// A Secret of type kubernetes.io/tls in the Instance's namespace. Tokenry keeps only its key `ca.crt`: at most 64
    /// KiB of certificates in PEM form. To name the Secret, you need the permission to get it. A change of the Secret
    /// arrives within six minutes.
    pub secret_name: ObjectName,
}

/// The longest value of a header that Gateway API admits.
pub const HEADER_VALUE: usize = 4096;

/// The schema of a text with at most this many characters.
fn bounded(longest: usize) -> Value {
    json!({ "type": "string", "maxLength": longest })
}

/// A CEL expression that is true if the endpoint is not external.
const NOT_EXTERNAL: &str = "(has(self.type) && self.type != 'external')";

/// A rule: an endpoint has at most one way in.
fn one_way() -> String {
    let given = WayIn::ALL.map(|way| format!("(has(self.{}) ? 1 : 0)", way.field()));
    format!("{} <= 1", given.join(" + "))
}

/// A rule: an internal endpoint has neither a host nor a way in.
fn not_led_to_if_internal() -> String {
    let lacks = ["host"].into_iter().chain(WayIn::ALL.map(WayIn::field)).map(|field| format!("!has(self.{field})"));
    format!("!has(self.type) || self.type != 'internal' || ({})", lacks.collect::<Vec<_>>().join(" && "))
}

impl Endpoint {
    /// The reach of the endpoint.
    pub fn reach(&self) -> EndpointType {
        self.type_.unwrap_or_default()
    }

    /// The way in from outside the cluster that the spec gives. `None` if the endpoint is not external, or gives none.
    pub fn way_in(&self) -> Option<WayIn> {
        let is_external = self.reach() == EndpointType::External;
        WayIn::ALL.into_iter().find(|way| is_external && self.asks_for(*way))
    }

    /// True if the endpoint has the field for this way in.
    pub fn asks_for(&self, way: WayIn) -> bool {
        match way {
            WayIn::Gateway => self.gateway.is_some(),
            WayIn::Ingress => self.ingress.is_some(),
            WayIn::Route => self.route.is_some(),
        }
    }

    /// The guard of an external endpoint. `None` for an endpoint that is not external.
    pub fn guarding(&self) -> Option<Guard> {
        (self.reach() == EndpointType::External).then(|| self.guard.unwrap_or(Guard::None))
    }
}

listed! {
    /// A way in to an endpoint from outside the cluster. Each one is a field of [`Endpoint`], and an object that
    /// Tokenry creates.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum WayIn {
        /// An HTTPRoute of the Gateway API.
        Gateway,
        /// An Ingress.
        Ingress,
        /// A Route of OpenShift.
        Route,
    }
}

impl WayIn {
    /// The field of an endpoint for this way in.
    pub fn field(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Ingress => "ingress",
            Self::Route => "route",
        }
    }
}

listed! {
    /// The part of the edge that asks the verifier about each request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
    pub enum Guard {
        /// A Middleware of Traefik, for an Ingress or an HTTPRoute.
        Traefik,
        /// A SecurityPolicy of Envoy Gateway, for an HTTPRoute.
        EnvoyGateway,
        /// The filter ExternalAuth of an HTTPRoute.
        ExternalAuth,
        /// An AuthorizationPolicy of Istio in front of the Pods.
        Istio,
        /// Annotations of the Ingress, for ingress-nginx.
        Nginx,
        /// The API, or a proxy in its Pods, asks the verifier itself.
        Backend,
        /// Nothing asks the verifier.
        None,
    }
}

impl Guard {
    /// The guard as in the spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traefik => "Traefik",
            Self::EnvoyGateway => "EnvoyGateway",
            Self::ExternalAuth => "ExternalAuth",
            Self::Istio => "Istio",
            Self::Nginx => "Nginx",
            Self::Backend => "Backend",
            Self::None => "None",
        }
    }

    /// True if this guard judges requests at the Pods, on each way to them. The answer of the Service proves it.
    pub fn is_at_pods(self) -> bool {
        match self {
            Self::Istio | Self::Backend => true,
            Self::Traefik | Self::EnvoyGateway | Self::ExternalAuth | Self::Nginx | Self::None => false,
        }
    }

    /// True if this guard can judge requests on this way in.
    pub fn fits(self, way: WayIn) -> bool {
        match self {
            Self::Traefik => way != WayIn::Route,
            Self::EnvoyGateway | Self::ExternalAuth => way == WayIn::Gateway,
            Self::Nginx => way == WayIn::Ingress,
            Self::Istio | Self::Backend | Self::None => true,
        }
    }
}

/// Settings of the guard Istio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IstioGuard {
    /// The name of the extension provider in the MeshConfig that asks the verifier (`extensionProviders`, a provider
    /// `envoyExtAuthzHttp` or `envoyExtAuthzGrpc`).
    pub provider: ObjectName,
}

/// The HTTPRoute of an external endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayTemplate {
    /// The Gateways or listeners that carry the route. If omitted, the Gateway that the chart names in
    /// `exposure.gateway`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub parent_refs: Vec<ParentRef>,
    /// Further DNS names of the route, beside `host`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub hostnames: Vec<ObjectName>,
    /// Changes to the headers of requests and responses, in one filter for each side. They cannot change the identity
    /// headers, `Connection`, or a header that counts in the verdict, such as one that carries a token. Behind a guard,
    /// `X-Original-URL` and `X-Rewrite-URL` of callers are always removed. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub filters: Vec<HeaderFilter>,
    /// The scheme of the published URI: http or https, as the listener of the Gateway serves it. Default: https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<super::instance::Scheme>,
}

/// A Gateway, or one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Name of the Gateway.
    pub name: ObjectName,
    /// Namespace of the Gateway. If omitted, the Instance's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ObjectName>,
    /// Name of the listener. If omitted, all listeners that admit the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<ObjectName>,
    /// Port of the listener. If omitted, all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// A change to the headers of requests or responses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderFilter {
    /// RequestHeaderModifier: the headers of requests to the API. ResponseHeaderModifier: the headers of its responses.
    #[serde(rename = "type")]
    pub type_: HeaderFilterType,
    /// Headers that are replaced, by name. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = bounded(HEADER_VALUE)))]
    pub set: BTreeMap<String, String>,
    /// Headers that are added, by name. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = bounded(HEADER_VALUE)))]
    pub add: BTreeMap<String, String>,
    /// Names of headers that are removed. Default: none.
    // Gateway API admits 16, and two are ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 14), inner(length(max = 256)))]
    pub remove: Vec<String>,
}

/// The side of a header filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HeaderFilterType {
    /// Headers of requests.
    RequestHeaderModifier,
    /// Headers of responses.
    ResponseHeaderModifier,
}

/// The Ingress of an external endpoint. `{}` uses the cluster's default class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressTemplate {
    /// The class of the Ingress. If omitted, the class that the chart names in `exposure.ingress`, or else the
    /// cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<ObjectName>,
    /// Annotations of the Ingress, such as settings of its controller. Under the prefixes of Traefik, ingress-nginx and
    /// other controllers, only settings that leave the guard in place are allowed. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = bounded(keys::ANNOTATION)))]
    pub annotations: BTreeMap<String, String>,
    /// TLS between callers and the Ingress. If omitted, the endpoint uses plain HTTP, and its URI begins with http.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<IngressTls>,
    /// The type of the path `/` in the Ingress: Prefix, or ImplementationSpecific for controllers that need it.
    /// Default: Prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_type: Option<PathType>,
}

/// The type of a path in an Ingress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathType {
    /// By elements of the path.
    #[default]
    Prefix,
    /// As the Ingress controller says.
    ImplementationSpecific,
}

impl PathType {
    /// The type as in the Ingress.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "Prefix",
            Self::ImplementationSpecific => "ImplementationSpecific",
        }
    }
}

/// TLS between callers and the Ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// The Secret with the certificate, of type kubernetes.io/tls. If omitted, the Ingress controller's default
    /// certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<ObjectName>,
}

/// The OpenShift Route of an external endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteTemplate {
    /// The end of the callers' TLS. edge: at the router, plain HTTP behind it. reencrypt: at the router, TLS behind it.
    /// passthrough: at the Pods. If omitted, reencrypt for a Service with the scheme https, else edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination: Option<Termination>,
}

/// The end of the callers' TLS on a Route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Termination {
    /// At the router, with plain HTTP behind it.
    Edge,
    /// At the router, with TLS behind it.
    Reencrypt,
    /// At the Pods.
    Passthrough,
}

impl Termination {
    /// The termination as in the Route.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Reencrypt => "reencrypt",
            Self::Passthrough => "passthrough",
        }
    }
}

/// The probe of an endpoint: a request without a token, which must be answered by the verifier's challenge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSettings {
    /// False: nothing is probed. The guards Backend and Istio need the probe. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Interval between two probes, at least 10s. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Timeout of a probe, at most 30s. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// The NetworkPolicy in front of the Pods of the Admin API. It concerns the port of the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyTemplate {
    /// The callers that reach the port of the API. Cluster: Pods of the cluster, and the operator. Proxies: the
    /// proxies in `proxies`, or else those that the chart names in `exposure.proxies`. None: there is no NetworkPolicy.
    /// If omitted, Cluster for an internal endpoint if the operator may create NetworkPolicies, else None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<AdmittedFrom>,
    /// The namespaces whose Pods count for Cluster. If omitted, all namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub namespaces: Vec<ObjectName>,
    /// The Pods of the proxies. If omitted, those that the chart names in `exposure.proxies`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub proxies: Vec<PodPeer>,
    /// The other ports of the Pods. Open: as before; this needs a `targetPort` of the Service that is a number. Closed:
    /// nothing reaches them. It is required if the Service has more ports, or another NetworkPolicy selects the Pods.
    /// If omitted otherwise, Closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_ports: Option<OtherPorts>,
}

/// The callers that a NetworkPolicy admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdmittedFrom {
    /// Pods of the cluster.
    Cluster,
    /// The proxies.
    Proxies,
    /// There is no NetworkPolicy.
    None,
}

/// The other ports of the Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtherPorts {
    /// As before.
    Open,
    /// Nothing reaches them.
    Closed,
}

/// Pods, by the labels of their namespaces and their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodPeer {
    /// The namespaces. If omitted, the Instance's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// The Pods. If omitted, all Pods of these namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

listed! {
    /// The names of endpoints.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum EndpointName {
        /// The Admin API.
        Admin,
    }
}

impl EndpointName {
    /// The name as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
        }
    }
}

/// The reach of an endpoint. external: from outside and inside the cluster, by a Service and one way in. internal: by
/// Service, from inside only. disabled: no objects, and every token is refused. If omitted, external.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointType {
    /// Reached from outside and inside the cluster, by a Service and one way in.
    #[default]
    External,
    /// Reached from inside the cluster only, by a Service.
    Internal,
    /// Not reached at all. There are no objects, and every token is refused.
    Disabled,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::schema::tests::fields;
    use std::collections::BTreeSet;

    #[test]
    fn texts_of_filters_and_annotations_are_bounded() {
        let filter = schemars::schema_for!(HeaderFilter).to_value();
        for field in ["set", "add"] {
            assert_eq!(filter["properties"][field]["additionalProperties"], bounded(HEADER_VALUE), "{field}");
        }
        assert_eq!(filter["properties"]["remove"]["items"]["maxLength"], 256);
        let ingress = schemars::schema_for!(IngressTemplate).to_value();
        assert_eq!(ingress["properties"]["annotations"]["additionalProperties"], bounded(keys::ANNOTATION));
    }

    #[test]
    fn every_field_of_an_endpoint_is_a_way_in_or_leads_nowhere() {
        let others = ["name", "type", "host", "guard", "istio", "allowUnguarded", "probe", "ca"];
        let known = WayIn::ALL.map(WayIn::field).into_iter().chain(others).map(str::to_owned);
        assert_eq!(known.collect::<BTreeSet<_>>(), fields::<Endpoint>());
    }
}
