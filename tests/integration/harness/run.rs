//! Operators and verifiers in the test's own process, with the permissions that the chart grants.

use std::{io, net::SocketAddr, process::Command, sync::Arc};

use controlplane::Process;
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokenry::{
    exposure::{ExposureConfig, PieceKind},
    operator,
    outside::{Address, SystemEntropy, Taken, hearing::StaleAfter, lines::Sink},
    verifier::{self, AuditOptions, Clients, Sample, StaleAnswers, WhenFull},
};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{DEADLINE, World, clock::Held, polled};

/// A running operator or verifier. A drop requests its stop, and does not wait for its end.
pub struct Running {
    pub address: SocketAddr,
    pub probes: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Waits until the port for probes accepts connections.
    async fn begun(self) -> Self {
        while TcpStream::connect(self.probes).await.is_err() {
            tokio::task::yield_now().await;
        }
        self
    }

    /// Stops the operator or verifier, and waits for its end.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap().unwrap();
    }

    /// Waits for the end of the operator or verifier, which nobody stops.
    pub async fn ended(mut self) -> io::Result<()> {
        self.task.take().unwrap().await.unwrap()
    }

    /// Aborts the operator or verifier, like a killed process. It reads no further answer. The API server may still do
    /// a request that was sent.
    pub async fn kill(mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// Sends a GET request for `path` to the port for probes. A program that has just started may not listen there yet.
    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let url = format!("http://{}{path}", self.probes);
        let answered = polled(DEADLINE, || async {
            match reqwest::get(&url).await {
                Err(error) if error.is_connect() => None,
                answer => Some(answer.unwrap()),
            }
        });
        let answer = answered.await.unwrap_or_else(|| panic!("nobody listens at {url}"));
        (answer.status(), answer.text().await.unwrap())
    }

    /// True if the serving port accepts connections.
    pub async fn listens(&self) -> bool {
        TcpStream::connect(self.address).await.is_ok()
    }

    /// Sends a GET request for `path` with these headers to the serving port.
    pub async fn ask(&self, path: &str, headers: HeaderMap) -> (StatusCode, HeaderMap, String) {
        let url = format!("http://{}{path}", self.address);
        let answer = reqwest::Client::new().get(url).headers(headers).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        (status, headers, answer.text().await.unwrap())
    }

    /// The status of the verifier's answer to a value. The value is the bearer token of a request to the Instance
    /// `eem`.
    pub async fn present(&self, world: &World, value: &str) -> u16 {
        let path = format!("/v1/instances/{}/eem/authorize", world.namespace);
        let headers = [(http::header::AUTHORIZATION, format!("Bearer {value}").parse().unwrap())].into_iter().collect();
        self.ask(&path, headers).await.0.as_u16()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A namespace with a running operator and verifier, and the value of the smallest token, `ci`.
pub async fn served(name: &str) -> (World, Held, Running, Running, String) {
    let world = World::new(name).await;
    let clock = Held::default();
    let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.smallest().await;
    let value = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    (world, clock, operator, verifier, value)
}

impl World {
    /// An operator of this namespace.
    pub async fn operator(&self, clock: &Held) -> Running {
        self.operator_by(self.plane.client_for(&self.identities.operator), clock).await
    }

    /// Starts the operator as a separate process, with the real clock. `nth` is its number in the test, for the name of
    /// its log.
    pub fn operator_process(&self, nth: u32) -> Process {
        let kubeconfig = self.plane.kubeconfig_for(&self.namespace, &self.identities.operator).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(["operator", "--listen", "127.0.0.1:0", "--probes", "127.0.0.1:0"]);
        command.args(["--grants", "--namespace", &self.namespace]);
        command.env("KUBECONFIG", kubeconfig);
        let log = self.plane.directory().join(format!("operator-{}-{nth}.log", self.namespace));
        Process::start("operator", command, &log).unwrap()
    }

    /// Starts the verifier as a separate process, with the real clock and these further arguments.
    pub fn verifier_process(&self, arguments: &[&str]) -> Process {
        let kubeconfig = self.plane.kubeconfig_for(&self.namespace, &self.identities.verifier).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(["verifier", "--listen", "127.0.0.1:0", "--probes", "off", "--namespace", &self.namespace]);
        command.args(arguments).env("KUBECONFIG", kubeconfig);
        let log = self.plane.directory().join(format!("verifier-{}.log", self.namespace));
        Process::start("verifier", command, &log).unwrap()
    }

    /// Waits until a verifier listens for URLs of this scheme, so it has listed everything. Returns its address.
    pub async fn await_address(&self, verifier: &Process, scheme: &str) -> SocketAddr {
        let listens = async || {
            let log = verifier.log();
            let (_, rest) = log.split_once(&format!("listening on {scheme}://"))?;
            rest.split('"').next()?.parse().ok()
        };
        self.eventually("the verifier listens", listens).await
    }

    /// An operator of this namespace that uses `client`.
    pub async fn operator_by(&self, client: Client, clock: &Held) -> Running {
        self.operator_with(client, clock, |_| ()).await
    }

    /// An operator of this namespace that uses `client`, with default options that `choose` may change.
    pub async fn operator_with(
        &self,
        client: Client,
        clock: &Held,
        choose: impl FnOnce(&mut operator::Options),
    ) -> Running {
        let (serving, probes, stop) = (taken(), taken(), CancellationToken::new());
        let (address, probed) = (serving.address().unwrap(), probes.address().unwrap());
        let mut options = operator::Options {
            scope: self.scope.clone(),
            serving: Some(serving),
            probes: Some(probes),
            grants: true,
            exposure: Arc::new(exposure()),
            certificate: None,
            election: None,
            secure_metrics: None,
            traces: None,
            per_token: true,
            probe_local: false,
            instance: Some("test".into()),
            stop: stop.clone(),
        };
        choose(&mut options);
        let task = tokio::spawn(operator::run(client, Arc::new(clock.clone()), Arc::new(SystemEntropy), options));
        Running { address, probes: probed, stop, task: Some(task) }.begun().await
    }

    /// A verifier of this namespace that is ready: it has listed everything.
    pub async fn verifier(&self, clock: &Held) -> Running {
        let running = self.unready_verifier(clock).await;
        self.ready(&running).await;
        running
    }

    /// Waits until an operator or a verifier is ready and listens.
    pub async fn ready(&self, running: &Running) {
        let ready = async || (running.get("/readyz").await.0.is_success() && running.listens().await).then_some(());
        self.eventually("it is ready", ready).await;
    }

    /// A verifier of this namespace that may not be ready yet.
    pub async fn unready_verifier(&self, clock: &Held) -> Running {
        let client = self.plane.client_for(&self.identities.verifier);
        self.verifier_by(client, clock, |_| ()).await
    }

    /// A verifier of this namespace that uses `client`, with default options that `choose` may change.
    pub async fn verifier_by(
        &self,
        client: Client,
        clock: &Held,
        choose: impl FnOnce(&mut verifier::Options),
    ) -> Running {
        let (serving, probes, stop) = (taken(), taken(), CancellationToken::new());
        let (address, probed) = (serving.address().unwrap(), probes.address().unwrap());
        let mut options = verifier::Options {
            scope: self.scope.clone(),
            serving: Some(serving),
            secure: None,
            probes: Some(probes),
            stale_after: StaleAfter::default(),
            stale_answers: StaleAnswers::default(),
            audit: Some(AuditOptions {
                when_full: WhenFull::default(),
                sample: Sample::default(),
                sink: Sink::text(Box::new(io::sink())).unwrap(),
            }),
            secure_metrics: None,
            traces: None,
            peers: Vec::new(),
            introspection: false,
            stop: stop.clone(),
        };
        choose(&mut options);
        let clients = Clients { watching: client.clone(), asking: client };
        let task = tokio::spawn(verifier::run(clients, Arc::new(clock.clone()), options));
        Running { address, probes: probed, stop, task: Some(task) }.begun().await
    }

    /// Waits until the verifier answers a value with the status `verdict`.
    pub async fn await_verdict(&self, verifier: &Running, value: &str, verdict: u16) {
        let what = format!("the verifier says {verdict}");
        self.eventually(&what, async || (verifier.present(self, value).await == verdict).then_some(())).await;
    }

    /// Changes a Secret by a merge patch.
    pub async fn patch_secret(&self, name: &str, patch: Value) {
        self.api::<Secret>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

/// A free local port, which is bound already.
fn taken() -> Taken {
    "127.0.0.1:0".parse::<Address>().unwrap().take("--listen").unwrap()
}

/// The settings for exposing endpoints: every kind may be created.
pub fn exposure() -> ExposureConfig {
    let verifier = json!({"name": "tokenry-verifier", "namespace": "tokenry", "port": 80});
    let kinds: Vec<_> = PieceKind::ALL.map(PieceKind::name).to_vec();
    serde_json::from_value(json!({ "kinds": kinds, "verifier": verifier })).unwrap()
}
