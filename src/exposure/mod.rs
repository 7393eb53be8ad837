//! The objects that an endpoint of an Instance needs, with one builder per kind. Pure functions.

mod acceptance;
mod annotations;
mod authority;
mod authorization_policy;
pub mod backends;
pub mod checks;
pub mod class;
pub mod config;
pub mod gate;
pub mod gateways;
mod http_route;
pub mod https;
mod ingress;
pub mod loose;
#[cfg(test)]
mod matrix;
mod middleware;
mod network_policy;
mod piece;
mod route;
mod security_policy;
mod service;

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderName;
use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use crate::{
    access::header::{self, IDENTITY, REQUEST_ID},
    crd::{
        Fault, Instance, Reason,
        instance::{
            Endpoint, EndpointStatus, EndpointType, Guard, ManagerService, NetworkPolicyTemplate, Scheme, WayIn,
        },
        name,
    },
};

pub use acceptance::{Acceptance, acceptance, silent, unreported};
pub use annotations::is_setting_of_guard;
pub use authority::{trust, unreadable};
pub use config::{AskedPort, ExposureConfig, HttpsPort, VerifierService};
pub(crate) use http_route::is_carried;
pub use ingress::certificate;
pub(crate) use piece::with_object;
pub use piece::{Piece, PieceKind, Stage};
pub use route::published_host;

/// One endpoint with everything that its objects need.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposed {
    /// The endpoint in the spec.
    pub endpoint: Endpoint,
    /// The namespace and the name of the Instance.
    pub instance: (String, String),
    /// Name of all objects of the endpoint.
    pub name: String,
    /// Name of the endpoint's Middleware.
    pub middleware: String,
    /// Port of the endpoint's Service.
    pub port: i32,
    /// Name of this port.
    pub port_name: String,
    /// Port of the Pods behind the Service.
    pub target_port: IntOrString,
    /// Selector of the Pods behind the Service.
    pub selector: BTreeMap<String, String>,
    /// Protocol of the Pods' port.
    pub scheme: Scheme,
    /// The way in from outside. `None` for an endpoint that is not external.
    pub way: Option<WayIn>,
    /// The headers of a request that the verifier needs for its verdict. In lower case.
    pub asked_headers: Vec<String>,
    /// The NetworkPolicy in the spec.
    pub network: NetworkPolicyTemplate,
    /// The protocol by which the guard asks the verifier.
    pub asks_by: Scheme,
    /// The settings of the cluster.
    pub config: Arc<ExposureConfig>,
}

impl Exposed {
    /// The guard. `None` in the spec, and an endpoint that is not external, have no guard.
    pub fn guard(&self) -> Guard {
        self.endpoint.guarding().unwrap_or(Guard::None)
    }

    /// True if `way` is the way in, and its guard can be built for it.
    fn is_led_by(&self, way: WayIn) -> bool {
        self.way == Some(way) && self.guard().fits(way) && (!asks(self.guard()) || self.asked().is_some())
    }

    /// The port of the verifier that a guard asks.
    fn asked(&self) -> Option<AskedPort<'_>> {
        self.config.verifier.as_ref()?.at(self.asks_by)
    }

    /// The port of the verifier, if this guard is the one of the endpoint, and can be built for its way in.
    fn verifier_of(&self, guard: Guard) -> Option<AskedPort<'_>> {
        let is_it = self.guard() == guard && self.way.is_some_and(|way| self.is_led_by(way));
        self.asked().filter(|_| is_it)
    }

    /// The path of the verifier for this Instance, in the protocol of an adapter. It has no slash at its end.
    fn asked_at(&self, adapter: &str) -> String {
        let (namespace, name) = &self.instance;
        format!("/v1/instances/{namespace}/{name}/{adapter}")
    }
}

/// True if the object of this guard names the verifier.
pub(crate) fn asks(guard: Guard) -> bool {
    match guard {
        Guard::Traefik | Guard::EnvoyGateway | Guard::ExternalAuth | Guard::Nginx => true,
        Guard::Istio | Guard::Backend | Guard::None => false,
    }
}

/// The form of a way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It leads to the Service.
    Open,
    /// It exists without a backend, so that its guard can be accepted for it.
    Shut,
}

/// The object of this kind that `exposed` needs. A way in has this `form`. `None` if it needs none, or if the way in
/// cannot have the form.
pub fn build(exposed: &Exposed, kind: PieceKind, form: Form) -> Option<Piece> {
    match kind {
        PieceKind::Service => Some(service::build(exposed).into()),
        PieceKind::NetworkPolicy => network_policy::build(exposed).map(Piece::from),
        PieceKind::Middleware => middleware::build(exposed).map(Piece::from),
        PieceKind::SecurityPolicy => security_policy::build(exposed).map(Piece::from),
        PieceKind::AuthorizationPolicy => authorization_policy::build(exposed).map(Piece::from),
        PieceKind::HttpRoute => http_route::build(exposed, form).map(Piece::from),
        PieceKind::Ingress => ingress::build(exposed).filter(|_| form == Form::Open).map(Piece::from),
        PieceKind::Route => route::build(exposed).filter(|_| form == Form::Open).map(Piece::from),
    }
}

/// The way in of `endpoint`. The one that the spec gives comes first, then a Route if the cluster serves that kind,
/// then the default of the cluster. `None` for an endpoint that is not external, and for one without any of these.
pub fn way(endpoint: &Endpoint, serves_routes: bool, config: &ExposureConfig) -> Option<WayIn> {
    if endpoint.reach() != EndpointType::External {
        return None;
    }
    let default = || match (serves_routes, config.gateway.is_empty(), &config.ingress) {
        (true, _, _) => Some(WayIn::Route),
        (false, false, _) => Some(WayIn::Gateway),
        (false, true, Some(_)) => Some(WayIn::Ingress),
        (false, true, None) => None,
    };
    endpoint.way_in().or_else(default)
}

/// The Service in front of the Pods: its port, the Pods' port and their selector. An error names the missing or
/// unusable field.
pub fn fronted(wanted: &ManagerService, manager: Option<&Service>) -> Result<Fronted, Fault> {
    let fault = |reason, message| Err(Fault::new(reason, "spec.manager.service", message));
    let Some(manager) = manager else {
        return fault(
            Reason::ServiceMissing,
            format!("there is no Service {} in this namespace; create it or name another", wanted.name),
        );
    };
    let spec = manager.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        let message = format!(
            "Service {} is of type ExternalName: it leads to another name and selects no Pods; name a Service with a \
             selector",
            wanted.name
        );
        return fault(Reason::ServiceUnusable, message);
    }
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
    Ok(Fronted { port: port.port, target_port: target(port), selector })
}

/// The port and the Pods of the Service that serves the Admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Fronted {
    /// Port of the Service.
    pub port: i32,
    /// Port of the Pods.
    pub target_port: IntOrString,
    /// Selector of the Pods.
    pub selector: BTreeMap<String, String>,
}

/// Collects everything that `endpoint` of `instance` needs, from the existing Service `manager`. An error names the
/// missing or unusable field.
pub fn exposed(
    instance: &Instance,
    endpoint: &Endpoint,
    wanted: &ManagerService,
    manager: Option<&Service>,
    (way, config): (Option<WayIn>, &Arc<ExposureConfig>),
) -> Result<Exposed, Fault> {
    let Fronted { port, target_port, selector } = fronted(wanted, manager)?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(Exposed {
        endpoint: endpoint.clone(),
        instance: (text(&instance.metadata.namespace), text(&instance.metadata.name)),
        name: instance.exposed_name(endpoint.name),
        middleware: PieceKind::Middleware.object_name(instance, endpoint.name),
        port,
        port_name: port_name(instance, endpoint, wanted.scheme),
        target_port,
        selector,
        scheme: wanted.scheme,
        way,
        asked_headers: asked_headers(instance),
        asks_by: config.verifier.as_ref().and_then(VerifierService::first).unwrap_or(Scheme::Http),
        network: instance.spec.manager.as_ref().and_then(|it| it.network_policy.clone()).unwrap_or_default(),
        config: config.clone(),
    })
}

/// The name of the Service's port.
///
/// Some edges join namespace, Service and port of an Ingress by `-`. A Service of another namespace can get the same
/// joined name, and an Ingress there then leads to ours, past the guard. So such a port has a name that cannot be
/// guessed.
fn port_name(instance: &Instance, endpoint: &Endpoint, scheme: Scheme) -> String {
    let uid = instance.metadata.uid.as_deref().unwrap_or_default();
    match joins(endpoint.guarding().unwrap_or(Guard::None)) {
        true => name::unguessable_port(scheme.as_str(), uid),
        false => scheme.as_str().to_owned(),
    }
}

/// True if the edge of this guard refers to a Service by a joined name.
pub(crate) fn joins(guard: Guard) -> bool {
    match guard {
        Guard::Traefik | Guard::Nginx => true,
        Guard::EnvoyGateway | Guard::ExternalAuth | Guard::Istio | Guard::Backend | Guard::None => false,
    }
}

/// The headers that the verifier needs for its verdict, in lower case, each once. They carry a token, name the
/// organization or the project, or replace the method, the target or the path for some servers. After them come the
/// headers that some servers confuse with one of these, or with an identity header.
pub fn asked_headers(instance: &Instance) -> Vec<String> {
    let api = instance.spec.api.clone().unwrap_or_default();
    let default = ["authorization", "api-token"].into_iter().filter(|_| api.credentials.is_empty());
    let given = api.credentials.iter().map(|place| place.header.as_str());
    let by = [&api.organization_from, &api.project_from].into_iter().flatten();
    let by = by.filter_map(|by| by.header.as_ref()).map(|header| header.as_str());
    let obeyed = header::OVERRIDES.into_iter().chain(header::REWRITES).chain(header::METHODS).chain(header::MOUNTS);
    let read: Vec<_> = default.chain(given).chain(by).chain(obeyed).map(str::to_ascii_lowercase).collect();
    let confused = read.iter().cloned().chain(identity()).filter(|name| name.contains('-'));
    let confused: Vec<_> = confused.map(|name| name.replace('-', "_")).collect();
    let mut all = Vec::new();
    for name in read.into_iter().chain(confused) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// The names of the identity headers.
fn identity() -> Vec<String> {
    IDENTITY.iter().map(HeaderName::to_string).collect()
}

/// The headers of an answer that a guard sets for the API: the identity headers, and the id of the request.
fn passed_on() -> Vec<String> {
    IDENTITY.iter().chain([&REQUEST_ID]).map(HeaderName::to_string).collect()
}

/// Metadata with the object's name alone. The controller adds the namespace and the owner when it writes the object.
fn named(exposed: &Exposed) -> ObjectMeta {
    ObjectMeta { name: Some(exposed.name.clone()), ..ObjectMeta::default() }
}

fn target(port: &ServicePort) -> IntOrString {
    port.target_port.clone().unwrap_or(IntOrString::Int(port.port))
}

/// The endpoints of an Instance, each with the URI for clients. `published` gives the scheme and the host of an
/// external endpoint. The URI of a disabled endpoint is empty, and so is that of a Route whose host is not known.
pub fn endpoints(
    instance: &Instance,
    published: impl Fn(&Endpoint) -> Option<(Scheme, String)>,
) -> Vec<EndpointStatus> {
    let Some(service) = instance.manager_service() else {
        return Vec::new();
    };
    instance
        .all_endpoints()
        .map(|endpoint| EndpointStatus {
            name: endpoint.name,
            type_: endpoint.reach(),
            uri: uri(instance, endpoint, service, published(endpoint)),
        })
        .collect()
}

fn uri(
    instance: &Instance,
    endpoint: &Endpoint,
    service: &ManagerService,
    published: Option<(Scheme, String)>,
) -> String {
    match (endpoint.reach(), published) {
        (EndpointType::Disabled, _) | (EndpointType::External, None) => String::new(),
        (EndpointType::External, Some((scheme, host))) => format!("{}://{host}", scheme.as_str()),
        (EndpointType::Internal, _) => {
            let host = instance.exposed_host(endpoint.name);
            let port = if service.port == service.scheme.default_port() {
                String::new()
            } else {
                format!(":{}", service.port)
            };
            format!("{}://{host}{port}", service.scheme.as_str())
        }
    }
}

/// The scheme that callers outside the cluster use.
pub fn outside_scheme(endpoint: &Endpoint, way: Option<WayIn>, config: &ExposureConfig) -> Scheme {
    let https = |is_tls: bool| if is_tls { Scheme::Https } else { Scheme::Http };
    match way {
        Some(WayIn::Ingress) => {
            let ingress = endpoint.ingress.as_ref().or(config.ingress.as_ref());
            https(ingress.is_some_and(|ingress| ingress.tls.is_some()))
        }
        Some(WayIn::Gateway) => endpoint.gateway.as_ref().and_then(|it| it.scheme).unwrap_or(Scheme::Https),
        Some(WayIn::Route) | None => Scheme::Https,
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

    /// The settings of a cluster in which each kind is switched on, and that has no default way in.
    pub(crate) fn config() -> ExposureConfig {
        let https = json!({"port": 443, "ca": "tokenry-verifier-tls-ca", "caSecret": "tokenry-verifier-ca"});
        let verifier = json!({"name": "tokenry-verifier", "namespace": "tokenry", "port": 80, "https": https});
        let kinds: Vec<_> = PieceKind::ALL.map(PieceKind::name).to_vec();
        serde_json::from_value(json!({ "kinds": kinds, "verifier": verifier })).unwrap()
    }

    pub(crate) fn manager_service() -> Service {
        serde_json::from_value(
            json!({"spec": {"selector": {"app": "eem"}, "ports": [{"port": 443, "targetPort": "api"}]}}),
        )
        .unwrap()
    }

    pub(crate) fn exposed_of(instance: &Instance) -> Exposed {
        let wanted = instance.manager_service().unwrap();
        let (endpoint, config) = (instance.endpoints().next().unwrap(), Arc::new(config()));
        let way = way(endpoint, false, &config);
        exposed(instance, endpoint, wanted, Some(&manager_service()), (way, &config)).unwrap()
    }

    fn published(endpoint: &Endpoint) -> Option<(Scheme, String)> {
        let host = endpoint.host.as_ref()?.to_string();
        Some((outside_scheme(endpoint, endpoint.way_in(), &config()), host))
    }

    fn uris(manager: Value) -> Vec<String> {
        endpoints(&instance(manager), published).into_iter().map(|endpoint| endpoint.uri).collect()
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
    fn an_endpoint_without_a_way_in_has_the_default_of_the_cluster() {
        let endpoint = |value: Value| serde_json::from_value::<Endpoint>(value).unwrap();
        let (bare, given) = (endpoint(json!({"name": "admin"})), endpoint(json!({"name": "admin", "ingress": {}})));
        let mut config = config();
        assert_eq!(way(&bare, false, &config), None);
        config.ingress = Some(Default::default());
        assert_eq!(way(&bare, false, &config), Some(WayIn::Ingress));
        config.gateway = serde_json::from_value(json!([{"name": "g"}])).unwrap();
        assert_eq!(way(&bare, false, &config), Some(WayIn::Gateway));
        assert_eq!(way(&bare, true, &config), Some(WayIn::Route));
        assert_eq!(way(&given, true, &config), Some(WayIn::Ingress));
        assert_eq!(way(&endpoint(json!({"name": "admin", "type": "internal"})), true, &config), None);
    }

    #[test]
    fn the_verifier_asks_for_all_headers_that_count_and_for_those_that_look_like_them() {
        let mut instance = instance(json!({}));
        let asked = asked_headers(&instance);
        assert_eq!(asked[..3], ["authorization", "api-token", "x-http-method-override"]);
        for name in ["x-original-url", "x-forwarded-method", "api_token", "x_original_url", "x_tokenry_role"] {
            assert!(asked.iter().any(|one| one == name), "{name}");
        }
        assert!(!asked.iter().any(|one| one == "x-tokenry-role"), "only the verifier gives it");
        let credentials: Vec<_> = (0..8).map(|number| json!({"header": format!("X-Token-{number}")})).collect();
        let by = |header: &str| json!({ "header": header });
        let api = json!({"credentials": credentials, "organizationFrom": by("X-Org"), "projectFrom": by("x-org")});
        instance.spec.api = Some(serde_json::from_value(api).unwrap());
        let asked = asked_headers(&instance);
        assert_eq!((&*asked[0], &*asked[8], &*asked[9]), ("x-token-0", "x-org", "x-http-method-override"));
        let distinct: std::collections::BTreeSet<_> = asked.iter().collect();
        assert!(distinct.len() == asked.len() && asked.len() <= 64, "Gateway API admits 64, each once");
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
        let wanted = instance.manager_service().unwrap();
        let reason = |service: Option<Value>| {
            let service = service.map(|spec| serde_json::from_value(json!({"spec": spec})).unwrap());
            fronted(wanted, service.as_ref()).unwrap_err().reason
        };
        assert_eq!(reason(None), Reason::ServiceMissing);
        assert_eq!(reason(Some(json!({"selector": {"a": "b"}, "ports": [{"port": 80}]}))), Reason::ServiceUnusable);
        assert_eq!(reason(Some(json!({"ports": [{"port": 443}]}))), Reason::ServiceUnusable);
        let elsewhere = json!({"type": "ExternalName", "selector": {"a": "b"}, "ports": [{"port": 443}]});
        let elsewhere = serde_json::from_value(json!({ "spec": elsewhere })).unwrap();
        let fault = fronted(wanted, Some(&elsewhere)).unwrap_err().to_string();
        assert!(fault.starts_with("spec.manager.service: Service m is of type ExternalName"), "{fault}");
    }
}
