//! Traefik as the real controller of a control plane, in front of real APIs. It runs outside of the cluster, so callers
//! reach it at an address of this machine.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    process::Command,
    sync::{Arc, OnceLock},
    thread,
};

use axum::body::{Body, to_bytes};
use controlplane::{ControlPlane, Definitions, Process, free_address};
use http::{HeaderMap, Method};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::{
    Client,
    api::{Patch, PatchParams, PostParams},
    config::AuthInfo,
};
use serde_json::{Value, json};
use tokenry::exposure::ExposureConfig;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    POLL, Plane, World,
    api::{Api, Seen},
    clock::Held,
    installed,
    run::{Running, exposure},
};

/// The name of the IngressClass, of the GatewayClass, and of the Gateway and its namespace.
pub const TRAEFIK: &str = "traefik";
/// The Service that an Instance names. It selects the Pod of the API.
const MANAGER: &str = "eem-manager";
/// The node of all Pods. Without one, the controller of EndpointSlices ignores a Pod.
const NODE: &str = "edge";

/// What the control plane of the edge serves.
const DEFINITIONS: [Definitions; 4] =
    [Definitions::GatewayApiExperimental, Definitions::Traefik, Definitions::EnvoyGateway, Definitions::Istio];

/// A control plane of its own with Traefik. It serves the kinds of Gateway API, Traefik, Envoy Gateway and Istio.
/// It does not serve Route, which would be the default way in of each endpoint.
pub struct Edge {
    plane: Plane,
    /// Where Traefik takes HTTP.
    pub http: SocketAddr,
    /// Where Traefik takes HTTPS.
    pub https: SocketAddr,
    /// An address of this machine for Pods. An EndpointSlice refuses a loopback address.
    address: Ipv4Addr,
    _traefik: Process,
}

/// The status, the headers, and what the API saw if it gave the answer.
pub type Answer = (u16, HeaderMap, Seen);

/// An API with an Instance and a token.
pub struct Site {
    pub world: World,
    pub clock: Held,
    /// `None` after a test has ended it.
    pub operator: Option<Running>,
    pub verifier: Running,
    pub api: Api,
    /// A host of its own, directly below `example.com`.
    pub host: String,
    /// The header `Authorization` with the token.
    pub bearer: String,
}

impl Site {
    /// What the API has to be told of the token, whatever a caller says: for each identity header all of its values.
    pub async fn identity(&self) -> [Vec<String>; 5] {
        let id = self.world.key("ci", "token-id").await.unwrap();
        let subject = format!("account:{}/ci", self.world.namespace);
        [subject.clone(), id, String::new(), "eem".to_owned(), subject].map(|value| vec![value])
    }

    /// Ends the operator like a killed process. Starts another one that uses `client`, with settings that `choose` may
    /// change.
    pub async fn operate(&mut self, client: Client, choose: impl FnOnce(&mut ExposureConfig)) {
        if let Some(operator) = self.operator.take() {
            operator.kill().await;
        }
        self.operator = Some(operator(&self.world, &self.clock, &self.verifier, client, choose).await);
    }

    /// The client of an operator without faults.
    pub fn client(&self) -> Client {
        self.world.plane.client_for(&self.world.identities.operator)
    }
}

/// An operator whose guards make Traefik ask `verifier`.
async fn operator(
    world: &World,
    clock: &Held,
    verifier: &Running,
    client: Client,
    choose: impl FnOnce(&mut ExposureConfig),
) -> Running {
    let mut config = exposure();
    config.verifier.as_mut().unwrap().address = Some(verifier.address.to_string());
    choose(&mut config);
    world.operator_with(client, clock, |options| options.exposure = Arc::new(config)).await
}

/// How a caller speaks to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Http,
    Https,
}

impl Edge {
    /// The edge that all tests of this process share, started by the first call.
    pub fn shared() -> &'static Self {
        static EDGE: OnceLock<Edge> = OnceLock::new();
        EDGE.get_or_init(|| {
            let plane = Arc::new(ControlPlane::start().unwrap());
            let installed = thread::scope(|scope| {
                scope.spawn(|| plane.install_definitions(&DEFINITIONS).unwrap());
                installed(plane.clone())
            });
            Self::start(installed)
        })
    }

    /// Starts Traefik for a control plane with the definitions of Gateway API and Traefik.
    pub fn start(plane: Plane) -> Self {
        // Another process may take a port before Traefik does.
        for _ in 0..5 {
            let (http, https) = (free_address().unwrap(), free_address().unwrap());
            let mut traefik = traefik(&plane.plane, http, https);
            if serves(&mut traefik, [http, https]) {
                let objects = classes(&plane.plane, http, https);
                plane.plane.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &objects).unwrap();
                let programmed = ["wait", "--for=condition=Programmed", "--timeout=60s", "gateway", TRAEFIK];
                let waited = plane.plane.kubectl(&[&programmed[..], &["--namespace", TRAEFIK]].concat());
                waited.unwrap_or_else(|error| panic!("{error}\n{}", traefik.log()));
                return Self { plane, http, https, address: own_address(), _traefik: traefik };
            }
            assert!(traefik.log().contains("address already in use"), "{}", traefik.log());
        }
        panic!("Traefik found no free ports");
    }

    /// A namespace of the edge's control plane.
    pub async fn world(&self, name: &str) -> World {
        World::within(&self.plane, name, json!({})).await.scoped()
    }

    /// A namespace of the edge's control plane with a verifier, an operator and an API. It has the Instance `eem` with
    /// the spec that `spec` makes of the host, and its token `ci`.
    pub async fn site(&self, name: &str, spec: impl FnOnce(&str) -> Value) -> Site {
        let world = self.world(name).await;
        let clock = Held::default();
        let verifier = world.verifier(&clock).await;
        let client = world.plane.client_for(&world.identities.operator);
        let operator = Some(operator(&world, &clock, &verifier, client, |_| ()).await);
        let api = Api::start(self.address).await;
        self.serve(&world, MANAGER, "eem", &api).await;
        let host = format!("{}.example.com", world.namespace);
        world.accepts("Instance", "eem", spec(&host)).await;
        world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
        let bearer = format!("Bearer {}", world.await_generation("ci", 1).await);
        Site { world, clock, operator, verifier, api, host, bearer }
    }

    /// A Pod of `api`, behind the Service `service` with the port 80. The Service selects `app` alone.
    pub async fn serve(&self, world: &World, service: &str, app: &str, api: &Api) {
        let labels = json!({ "app": app });
        let spec = json!({"selector": labels, "ports": [{"port": 80, "targetPort": api.address.port()}]});
        let object = serde_json::from_value(json!({"metadata": {"name": service}, "spec": spec})).unwrap();
        world.api::<Service>().create(&PostParams::default(), &object).await.unwrap();
        self.pod(world, &format!("{app}-0"), labels, api.address.port()).await;
    }

    /// A Pod as the kubelet reports it when it is ready. Its port `api` is a port of this machine.
    async fn pod(&self, world: &World, name: &str, labels: Value, port: u16) {
        let container = json!({"name": "api", "image": "api", "ports": [{"name": "api", "containerPort": port}]});
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": NODE, "automountServiceAccountToken": false, "containers": [container]},
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        // The API server refuses Pods until a controller has made the namespace's ServiceAccount.
        let created = async || world.api::<Pod>().create(&PostParams::default(), &pod).await.ok();
        world.eventually(&format!("Pod {name} is created"), created).await;
        let ready = json!({"status": {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        let patch = Patch::Merge(ready);
        world.api::<Pod>().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// A Secret of the site with a certificate for its host.
    pub async fn certificate(&self, world: &World, name: &str, host: &str) {
        let secret: Secret = serde_json::from_value(certificate(&self.plane.plane, name, host)).unwrap();
        world.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }

    /// The answer to a GET request by HTTP.
    pub async fn get(&self, host: &str, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        self.ask(By::Http, Method::GET, (host, path), headers).await.unwrap()
    }

    /// The status of the answer to a request for `/orders`.
    pub async fn status(&self, host: &str, headers: &[(&'static str, &str)]) -> u16 {
        self.get(host, "/orders", headers).await.0
    }

    /// The answer to a request. By HTTPS, it is an error if the certificate is not valid for the host.
    pub async fn ask(
        &self,
        by: By,
        method: Method,
        (host, path): (&str, &str),
        headers: &[(&'static str, &str)],
    ) -> Result<Answer, kube::Error> {
        let address = match by {
            By::Http => format!("http://{}", self.http),
            By::Https => format!("https://{}", self.https),
        };
        let mut config = self.plane.plane.config("");
        config.auth_info = AuthInfo::default();
        config.cluster_url = address.parse().unwrap();
        config.tls_server_name = Some(host.to_owned());
        let mut request = http::Request::builder().method(method).uri(path).header(http::header::HOST, host);
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(kube::client::Body::empty()).unwrap();
        let (parts, body) = Client::try_from(config)?.send(request).await?.into_parts();
        let body = to_bytes(Body::new(body), 1 << 20).await.unwrap();
        Ok((parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// Calls `host` without a token again and again, from now on.
    pub fn poll(&'static self, host: &str) -> Poller {
        let (host, stop) = (host.to_owned(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut told = BTreeMap::new();
            while !stopped.is_cancelled() {
                *told.entry(self.status(&host, &[]).await).or_default() += 1;
            }
            told
        });
        Poller { stop, task }
    }

    /// Waits until a request for `host` is answered with this status. Traefik follows a change within moments.
    pub async fn await_status(&self, world: &World, host: &str, headers: &[(&'static str, &str)], status: u16) {
        let what = format!("{host} answers {status}");
        world.eventually(&what, async || (self.status(host, headers).await == status).then_some(())).await;
    }
}

/// A caller without a token that calls again and again.
pub struct Poller {
    stop: CancellationToken,
    task: JoinHandle<BTreeMap<u16, usize>>,
}

impl Poller {
    /// Ends the calls. Returns how often each status was the answer.
    pub async fn stop(self) -> BTreeMap<u16, usize> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// The spec of an Instance in front of the API, with one external endpoint that Traefik guards, by an Ingress.
pub fn by_ingress(host: &str, tls: Value) -> Value {
    let ingress = json!({"className": TRAEFIK, "tls": tls});
    managed(json!({"name": "admin", "type": "external", "host": host, "ingress": ingress, "guard": "Traefik"}))
}

/// The same by an HTTPRoute, at the listener of this name.
pub fn by_gateway(host: &str, listener: &str) -> Value {
    let parents = json!([{"name": TRAEFIK, "namespace": TRAEFIK, "sectionName": listener}]);
    let gateway = json!({"parentRefs": parents, "scheme": "http"});
    managed(json!({"name": "admin", "type": "external", "host": host, "gateway": gateway, "guard": "Traefik"}))
}

/// The spec of an Instance in front of the API with this endpoint.
pub fn managed(endpoint: Value) -> Value {
    let service = json!({"name": MANAGER, "port": 80, "scheme": "http"});
    json!({"manager": {"service": service, "endpoints": [endpoint]}})
}

/// Starts Traefik as the administrator of the control plane.
fn traefik(plane: &ControlPlane, http: SocketAddr, https: SocketAddr) -> Process {
    let mut command = Command::new(controlplane::program("traefik").unwrap());
    command.env_clear().env("KUBECONFIG", plane.kubeconfig()).current_dir(plane.directory());
    command.arg(format!("--entrypoints.web.address={http}")).arg(format!("--entrypoints.websecure.address={https}"));
    command.args([
        // As in the chart of Traefik. Else no router of an Ingress serves HTTPS without an annotation.
        "--entrypoints.websecure.http.tls",
        "--providers.kubernetesingress.ingressclass=traefik",
        "--providers.kubernetesingress.ingressendpoint.ip=127.0.0.1",
        "--providers.kubernetescrd",
        "--providers.kubernetesgateway",
        "--providers.kubernetesgateway.statusaddress.ip=127.0.0.1",
        // Tests make many changes. The default takes over one every two seconds.
        "--providers.providersthrottleduration=100ms",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.nocolor",
    ]);
    Process::start("traefik", command, &plane.directory().join(format!("traefik-{}.log", http.port()))).unwrap()
}

/// Waits until all ports accept connections, or Traefik has ended.
fn serves(traefik: &mut Process, ports: [SocketAddr; 2]) -> bool {
    while !ports.iter().all(|port| TcpStream::connect(port).is_ok()) {
        if !traefik.is_running() {
            return false;
        }
        thread::sleep(POLL);
    }
    traefik.is_running()
}

/// The objects that an administrator of a cluster makes for Traefik, and the node of all Pods.
fn classes(plane: &ControlPlane, http: SocketAddr, https: SocketAddr) -> String {
    let mut secret = certificate(plane, "edge-tls", "*.example.com");
    secret["metadata"]["namespace"] = TRAEFIK.into();
    let routes = json!({"namespaces": {"from": "All"}});
    let tls = json!({"certificateRefs": [{"name": "edge-tls"}]});
    let listeners = [
        json!({"name": "http", "port": http.port(), "protocol": "HTTP", "allowedRoutes": routes}),
        json!({"name": "https", "port": https.port(), "protocol": "HTTPS", "allowedRoutes": routes, "tls": tls}),
    ];
    let objects = [
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TRAEFIK}}),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": TRAEFIK},
            "spec": {"controller": "traefik.io/ingress-controller"},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": TRAEFIK},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        }),
        secret,
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": TRAEFIK, "namespace": TRAEFIK},
            "spec": {"gatewayClassName": TRAEFIK, "listeners": listeners},
        }),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// A Secret with a certificate for `host`.
fn certificate(plane: &ControlPlane, name: &str, host: &str) -> Value {
    let (certificate, key) = plane.certificate(host).unwrap();
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate, "tls.key": key},
    })
}

/// An address of this machine that is no loopback address: the source of packets to other networks. None is sent.
pub fn own_address() -> Ipv4Addr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let elsewhere = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 9);
    socket.connect(elsewhere).expect("this machine has a network beside the loopback one, where Pods can be");
    let SocketAddr::V4(own) = socket.local_addr().unwrap() else { panic!("the socket is of IPv4") };
    *own.ip()
}
