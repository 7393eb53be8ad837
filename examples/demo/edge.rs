//! The edge of the demo: Traefik as a process of this machine, and the API behind it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
};

use axum::{Router, http::HeaderMap};
use controlplane::{Definitions, Process};
use serde_json::json;

use super::{
    NAMESPACE, Told,
    actor::{end_of_log, eventually},
    cluster::Cluster,
};

/// The host of the API, as in `shop.yaml`.
pub const HOST: &str = "shop.example.com";
/// The Service, the Ingress, and the start of the name of the Middleware that the operator makes for `shop.yaml`.
pub const ENDPOINT: &str = "shop-admin";
/// The kinds that the operator may create, beside Services.
pub const KINDS: [&str; 2] = ["Ingress", "Middleware"];
/// The class of the Ingress, as in `shop.yaml`.
const CLASS: &str = "traefik";

/// A running Traefik.
pub struct Edge {
    pub process: Process,
    /// Where Traefik takes HTTP.
    pub address: SocketAddr,
    /// Where the API takes HTTP.
    pub api: SocketAddr,
}

impl Edge {
    /// Starts the API and Traefik, and waits until Traefik serves.
    pub async fn start(cluster: &Cluster) -> Told<Self> {
        let api = serve_api().await.map_err(|error| format!("cannot start the API of the demo: {error}"))?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| format!("cannot find a free port: {error}"))?;
        let mut traefik = Command::new(controlplane::program("traefik").map_err(|error| error.to_string())?);
        traefik.env_clear().env("KUBECONFIG", cluster.administrator()?).current_dir(cluster.directory());
        traefik.arg(format!("--entrypoints.web.address={address}")).args([
            "--providers.kubernetesingress",
            "--providers.kubernetescrd",
            // The default takes over one change every two seconds.
            "--providers.providersthrottleduration=100ms",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.nocolor",
        ]);
        traefik.arg(format!("--providers.kubernetesingress.ingressclass={CLASS}"));
        if !cluster.is_own() {
            let only = |provider: &str| format!("--providers.{provider}.namespaces={NAMESPACE}");
            traefik.args(["kubernetesingress", "kubernetescrd"].map(only));
        }
        let log = cluster.directory().join("traefik.log");
        let started = Process::start("traefik", traefik, &log);
        let process = started.map_err(|error| format!("cannot start Traefik: {error}"))?;
        let serves = async || Ok(TcpStream::connect(address).ok());
        let waited = eventually("Traefik serves", serves).await;
        waited.map_err(|wrong| format!("{wrong}\n{}", end_of_log(&process)))?;
        Ok(Self { process, address, api })
    }
}

/// The settings for exposing endpoints, for an operator whose proxies reach the verifier at this URL.
pub fn exposure(verifier: &str) -> String {
    let address = verifier.trim_start_matches("http://");
    let service = json!({"name": "verifier", "namespace": NAMESPACE, "port": 80, "address": address});
    json!({"kinds": KINDS, "verifier": service}).to_string()
}

/// Installs the definitions and the IngressClass of Traefik, unless the cluster has them.
pub fn install(cluster: &Cluster) -> Told {
    if cluster.lacks("customresourcedefinition", "middlewares.traefik.io")? {
        let definitions = Definitions::Traefik.manifests().map_err(|error| error.to_string())?;
        cluster.kubectl(&["create", "-f", "-"], &definitions)?;
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", "-"], &definitions)?;
    }
    if cluster.lacks("ingressclass", CLASS)? {
        let class = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": CLASS, "labels": {MADE_BY[0]: MADE_BY[1]}},
            "spec": {"controller": "traefik.io/ingress-controller"},
        });
        cluster.apply(&class)?;
    }
    Ok(())
}

/// The label, with its value, of an IngressClass that this demo has made.
pub const MADE_BY: [&str; 2] = ["tokenry.dev/made-by", NAMESPACE];

/// The address of the API, for the port with this name of the Service of the endpoint. In a cluster with nodes, the API
/// runs in Pods, and Kubernetes writes this object.
pub fn slice(api: SocketAddr, port: &str) -> serde_json::Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": ENDPOINT, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": ENDPOINT},
        },
        "endpoints": [{"addresses": [api.ip()], "conditions": {"ready": true}}],
        "ports": [{"name": port, "port": api.port(), "protocol": "TCP"}],
    })
}

/// Starts the API. Its address is no loopback address, because Kubernetes refuses these in an EndpointSlice.
async fn serve_api() -> std::io::Result<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // This sends nothing. It selects the address of this machine that packets to other networks come from.
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9))?;
    let listener = tokio::net::TcpListener::bind((socket.local_addr()?.ip(), 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Ok(address)
}

/// The answer of the API: the caller, as the guard names it.
async fn answer(headers: HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("unknown").to_owned();
    format!("{} of organization {}", text("x-tokenry-subject"), text("x-tokenry-organization"))
}
