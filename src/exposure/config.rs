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
    /// Port of the Service.
    pub port: i32,
    /// The host and port that proxies connect to by URL. If omitted, the name of the Service in the cluster's DNS.
    #[serde(default)]
    pub address: Option<String>,
    /// The protocol of the port. Default: http.
    #[serde(default = "plain")]
    pub scheme: Scheme,
    /// The Secret in the namespace of a Middleware by which Traefik verifies the Service: its key `ca.crt`. The
    /// operator keeps it if it keeps the certificate. If omitted, Traefik trusts the roots of its system.
    #[serde(default)]
    pub ca_secret: Option<String>,
}

fn plain() -> Scheme {
    Scheme::Http
}

impl VerifierService {
    /// The reference to the Service, as in objects of the Gateway API.
    pub fn backend_ref(&self) -> Value {
        let Self { name, namespace, port, .. } = self;
        json!({"group": "", "kind": "Service", "namespace": namespace, "name": name, "port": port})
    }

    /// The host and port for a URL.
    pub fn authority(&self) -> String {
        let Self { name, namespace, port, address, .. } = self;
        address.clone().unwrap_or_else(|| format!("{name}.{namespace}.svc:{port}"))
    }

    /// The host and port for a URL of a proxy that completes no names, such as nginx.
    pub fn whole_authority(&self) -> String {
        let Self { name, namespace, port, address, .. } = self;
        address.clone().unwrap_or_else(|| format!("{name}.{namespace}.svc.cluster.local:{port}"))
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
        assert_eq!((verifier.scheme, &verifier.ca_secret), (Scheme::Http, &None));
        assert_eq!(verifier.authority(), "v.t.svc:80");
        assert_eq!(verifier.whole_authority(), "v.t.svc.cluster.local:80");
        verifier.address = Some("10.0.0.1:8080".into());
        assert_eq!([verifier.authority(), verifier.whole_authority()], ["10.0.0.1:8080", "10.0.0.1:8080"]);
    }
}
