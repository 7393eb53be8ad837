//! The settings of the cluster for exposing endpoints, which the chart gives the operator.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::PieceKind;
use crate::crd::{
    endpoint::{IngressTemplate, ParentRef, PodPeer},
    instance::Scheme,
};

/// The settings of the cluster for exposing endpoints. They are read from JSON.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExposureConfig {
    /// The kinds of object that the operator may create, by name. Services are always among them.
    pub kinds: BTreeSet<PieceKind>,
    /// The address of the verifier for guards. Without it, no guard can be built.
    pub verifier: Option<VerifierService>,
    /// The Gateways of an HTTPRoute that names none.
    pub gateway: Vec<ParentRef>,
    /// The Ingress of an endpoint that names no way in, and the class of an Ingress that names none.
    pub ingress: Option<IngressTemplate>,
    /// True if Traefik's provider of Middlewares runs with `safeNaming`. It changes the name by which an Ingress refers
    /// to a Middleware.
    pub traefik_safe_naming: bool,
    /// The Pods of the proxies, for a NetworkPolicy that names none.
    pub proxies: Vec<PodPeer>,
    /// The Pods of the operator, which a NetworkPolicy for the cluster admits.
    pub operator: Option<PodPeer>,
}

/// The Service of the verifier.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifierService {
    /// Name of the Service.
    pub name: String,
    /// Namespace of the Service.
    pub namespace: String,
    /// Port of plain HTTP. If omitted, guards ask by HTTPS alone.
    #[serde(default)]
    pub port: Option<i32>,
    /// The host and port of plain HTTP for guards with a URL. If omitted, the name of the Service in the cluster's DNS.
    #[serde(default)]
    pub address: Option<String>,
    /// The port of HTTPS. If omitted, guards ask by plain HTTP.
    #[serde(default)]
    pub https: Option<HttpsPort>,
}

/// The port at which guards ask by HTTPS, and the certificates by which they verify the verifier.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpsPort {
    /// Port of the Service.
    pub port: i32,
    /// The host and port for guards with a URL. If omitted, the name of the Service in the cluster's DNS.
    #[serde(default)]
    pub address: Option<String>,
    /// The ConfigMap in the namespace of the Service with the certificates that guards trust, in its key `ca.crt`.
    pub ca: String,
    /// The Secret with these certificates in each namespace whose guard reads them there. The operator keeps it.
    pub ca_secret: String,
}

/// One port of the verifier, as a guard names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedPort<'a> {
    service: &'a VerifierService,
    /// The protocol.
    pub scheme: Scheme,
    port: i32,
    address: Option<&'a str>,
}

impl VerifierService {
    /// The port of this protocol. `None` if guards do not ask by it.
    pub fn at(&self, scheme: Scheme) -> Option<AskedPort<'_>> {
        let (port, address) = match scheme {
            Scheme::Http => (self.port?, &self.address),
            Scheme::Https => self.https.as_ref().map(|https| (https.port, &https.address))?,
        };
        Some(AskedPort { service: self, scheme, port, address: address.as_deref() })
    }

    /// The protocol that a guard begins with: plain HTTP if there is a port for it. `None` if there is no port.
    pub fn first(&self) -> Option<Scheme> {
        [Scheme::Http, Scheme::Https].into_iter().find(|scheme| self.at(*scheme).is_some())
    }
}

impl AskedPort<'_> {
    /// The settings of HTTPS, if this is its port.
    pub fn https(&self) -> Option<&HttpsPort> {
        self.service.https.as_ref().filter(|_| self.scheme == Scheme::Https)
    }

    /// The reference to the Service, as in objects of the Gateway API.
    pub fn backend_ref(&self) -> Value {
        let VerifierService { name, namespace, .. } = self.service;
        json!({"group": "", "kind": "Service", "namespace": namespace, "name": name, "port": self.port})
    }

    /// The host and port for a URL.
    pub fn authority(&self) -> String {
        self.authority_in("svc")
    }

    /// The host and port for a URL of a proxy that completes no names, such as nginx.
    pub fn whole_authority(&self) -> String {
        self.authority_in("svc.cluster.local")
    }

    fn authority_in(&self, domain: &str) -> String {
        let VerifierService { name, namespace, .. } = self.service;
        self.address.map_or_else(|| format!("{name}.{namespace}.{domain}:{}", self.port), str::to_owned)
    }
}

impl TryFrom<String> for PieceKind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let all = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("{name} is not a kind that exposes an endpoint; give one of {}", all()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_by_name() {
        let config = |kinds| serde_json::from_value::<ExposureConfig>(json!({ "kinds": kinds }));
        let read = config(json!(["HTTPRoute", "Ingress"])).unwrap().kinds;
        assert!(read.into_iter().eq([PieceKind::HttpRoute, PieceKind::Ingress]));
        let error = config(json!(["Pod"])).unwrap_err().to_string();
        assert!(error.contains("Pod is not a kind") && error.contains("HTTPRoute"), "{error}");
    }

    #[test]
    fn the_address_of_the_verifier_follows_from_its_service() {
        let mut verifier: VerifierService =
            serde_json::from_value(json!({"name": "v", "namespace": "t", "port": 80})).unwrap();
        assert_eq!((verifier.first(), verifier.at(Scheme::Https)), (Some(Scheme::Http), None));
        let both = |verifier: &VerifierService, scheme| {
            let port = verifier.at(scheme).unwrap();
            [port.authority(), port.whole_authority()]
        };
        assert_eq!(both(&verifier, Scheme::Http), ["v.t.svc:80", "v.t.svc.cluster.local:80"]);
        verifier.address = Some("10.0.0.1:8080".into());
        assert_eq!(both(&verifier, Scheme::Http), ["10.0.0.1:8080"; 2]);
        let https = json!({"port": 443, "ca": "a", "caSecret": "b"});
        verifier.https = serde_json::from_value(https).unwrap();
        assert_eq!(verifier.first(), Some(Scheme::Http));
        assert_eq!(both(&verifier, Scheme::Https), ["v.t.svc:443", "v.t.svc.cluster.local:443"]);
        let to = json!({"group": "", "kind": "Service", "namespace": "t", "name": "v", "port": 443});
        assert_eq!(verifier.at(Scheme::Https).unwrap().backend_ref(), to);
        verifier.port = None;
        assert_eq!((verifier.first(), verifier.at(Scheme::Http)), (Some(Scheme::Https), None));
        verifier.https = None;
        assert_eq!(verifier.first(), None);
    }
}
