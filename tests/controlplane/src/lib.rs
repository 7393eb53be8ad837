//! A real Kubernetes control plane for tests and the demo: etcd, kube-apiserver and
//! kube-controller-manager, without nodes. Everything listens on 127.0.0.1 only, and ends and is
//! removed with the process that started it, however that ends.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plane = controlplane::ControlPlane::start()?;
//! println!("{}", plane.kubectl(&["get", "namespaces"])?);
//! # Ok(())
//! # }
//! ```
//!
//! The functions block, and may be called inside and outside of a tokio runtime.

#![warn(missing_docs)]

mod audit;
mod certificates;
mod command;
mod directory;
mod error;
mod install;
mod process;
mod programs;

use std::{
    fs::File,
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use certificates::Certificates;
use directory::Directory;
use kube::{Client, Config};
use serde_json::json;

pub use audit::{AuditEvent, audit_from};
pub use command::{Cluster, helm};
pub use error::Error;
pub use install::{Identities, NAMESPACE};
pub use process::Process;
pub use programs::{kubernetes_version, program};

const ETCD: &str = "etcd";
const API_SERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// How long a server is waited for. Only a broken one is not there long before.
const DEADLINE: Duration = Duration::from_secs(120);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often a control plane is tried when another process takes its ports.
const ATTEMPTS: usize = 5;

const PORT_TAKEN: &str = "address already in use";

/// What needs no node, without what only costs time: nothing here schedules or scales.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,garbage-collector-controller,\
    namespace-controller,root-ca-certificate-publisher-controller,serviceaccount-controller,\
    serviceaccount-token-controller";

/// A running control plane. Dropping it ends the servers and removes their directory; so does the
/// end of this process.
#[derive(Debug)]
pub struct ControlPlane {
    etcd_port: u16,
    api_server_port: u16,
    server: String,
    ca_pem: String,
    ca_der: Vec<u8>,
    admin_token: String,
    odd_token: String,
    kubeconfig: PathBuf,
    servers: Mutex<Vec<Process>>,
    // Last, because it waits until the servers, which write to it, are gone.
    directory: Directory,
}

impl ControlPlane {
    /// Starts a control plane and waits until it works, which takes a few seconds. The programs
    /// are built first if this was never done: see [`program`].
    pub fn start() -> Result<Self, Error> {
        for _ in 1..ATTEMPTS {
            match Self::start_on_free_ports() {
                Err(Error::Ended { log, .. }) if log.contains(PORT_TAKEN) => {}
                result => return result,
            }
        }
        Self::start_on_free_ports()
    }

    /// The control plane that all tests of this process share, started by the first call.
    ///
    /// # Panics
    ///
    /// With the error's message, if it cannot be started.
    pub fn shared() -> &'static Self {
        // With the error, so that only the first of many tests waits for what cannot be.
        static SHARED: OnceLock<Result<ControlPlane, Error>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The address of the API server, with `https://`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The certificate of the authority that signed the API server's.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The bearer token of the user `admin`, who is in the group `system:masters`.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The bearer token of the user `odd`, who is in the groups `admins` with a carriage return behind it, and `x`.
    /// Impersonation cannot send such a name; what an identity provider says can be one.
    pub fn odd_token(&self) -> &str {
        &self.odd_token
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Writes the kubeconfig file `name` for the owner of `token`.
    pub fn kubeconfig_for(&self, name: &str, token: &str) -> io::Result<PathBuf> {
        let path = self.path(&format!("{name}.kubeconfig"));
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "contexts": [{"name": name, "context": {"cluster": "tests", "user": name}}],
            "clusters": [{"name": "tests", "cluster": {
                "server": self.server,
                "certificate-authority": self.path("ca.crt"),
            }}],
            "users": [{"name": name, "user": {"token": token}}],
        });
        write_private(&path, &kubeconfig.to_string())?;
        Ok(path)
    }

    /// The directory of the data and the logs. It is removed with the control plane.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration of a client that is the owner of `token`. Nothing is taken from the
    /// environment, and an error is an error: no request is repeated behind a test's back.
    pub fn config(&self, token: &str) -> Config {
        let mut config = Config::new(self.server.parse().expect("the address is well-formed"));
        config.root_cert = Some(vec![self.ca_der.clone()]);
        config.auth_info.token = Some(token.to_owned().into());
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(10));
        // Longer than a watch lasts at most, so that only what hangs is cut off.
        config.read_timeout = Some(Duration::from_secs(300));
        config.reset_reader_on_write = true;
        config
    }

    /// A new client of the administrator.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime: a client belongs to the runtime that it was made in, and works
    /// as long as that one.
    pub fn client(&self) -> Client {
        self.client_for(&self.admin_token)
    }

    /// A new client of the owner of `token`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime: see [`ControlPlane::client`].
    pub fn client_for(&self, token: &str) -> Client {
        Client::try_from(self.config(token)).expect("the configuration is complete")
    }

    /// Runs kubectl as the administrator and gives what it printed, or else its error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        self.kubectl_with_input(args, "")
    }

    /// Runs kubectl as the administrator with `input`, as for `apply -f -`.
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String, String> {
        self.cluster().kubectl_with_input(args, input)
    }

    /// Runs helm as the administrator and gives what it printed, or else its error.
    pub fn helm(&self, args: &[&str]) -> Result<String, String> {
        self.cluster().helm(args)
    }

    /// The process id of a server (`etcd`, `kube-apiserver`, `kube-controller-manager`), while it runs.
    pub fn server_pid(&self, name: &str) -> Option<u32> {
        let mut servers = self.servers();
        let server = servers.iter_mut().find(|server| server.name() == name)?;
        server.is_running().then(|| server.pid())
    }

    /// Kills the API server, as a crash would. Clients find their connections broken.
    pub fn stop_api_server(&self) {
        self.servers().retain(|server| server.name() != API_SERVER);
    }

    /// Starts the API server again after [`ControlPlane::stop_api_server`], with the same address
    /// and data, and waits until it is ready. Does nothing if it runs.
    pub fn start_api_server(&self) -> Result<(), Error> {
        let mut servers = self.servers();
        let started = Instant::now();
        loop {
            servers.retain_mut(|server| server.name() != API_SERVER || server.is_running());
            if servers.iter().any(|server| server.name() == API_SERVER) {
                return Ok(());
            }
            servers.push(self.spawn_api_server()?);
            match self.wait_for("/readyz", &mut servers) {
                // A connection from this machine may have been given the port as its own: it
                // is free again when that one ends.
                Err(Error::Ended { log, .. }) if log.contains(PORT_TAKEN) && started.elapsed() < DEADLINE => {
                    thread::sleep(POLL_INTERVAL);
                }
                result => return result,
            }
        }
    }

    /// Keeps a copy of all data. API server and etcd are away meanwhile, as after a crash.
    pub fn back_up(&self) -> Result<(), Error> {
        self.while_stopped(copy_all)
    }

    /// Goes back to the data of [`ControlPlane::back_up`], as after a disaster: versions that were given since are
    /// given again.
    pub fn restore(&self) -> Result<(), Error> {
        self.while_stopped(|data, backup| {
            std::fs::remove_dir_all(data)?;
            copy_all(backup, data)
        })
    }

    /// Does something to etcd's data and a copy of it while nobody uses them.
    fn while_stopped(&self, change: impl FnOnce(&Path, &Path) -> io::Result<()>) -> Result<(), Error> {
        self.stop_api_server();
        self.servers().retain(|server| server.name() != ETCD);
        let (data, backup) = (self.path("etcd"), self.path("etcd.backup"));
        change(&data, &backup).map_err(|source| Error::io("copy the data in", &data, source))?;
        let etcd = self.spawn_etcd()?;
        self.servers().push(etcd);
        self.start_api_server()
    }

    /// What the API server was asked since the control plane was started. An event may come some
    /// moments after its answer.
    pub fn audit(&self) -> Vec<AuditEvent> {
        self.audit_from(0).0
    }

    /// The events from `offset` on, and the offset at which the next ones will begin. The first
    /// offset is 0.
    pub fn audit_from(&self, offset: u64) -> (Vec<AuditEvent>, u64) {
        audit_from(&self.path("audit.jsonl"), offset)
    }

    /// An offset for [`ControlPlane::audit_from`] that passes over what has been asked so far, found without reading
    /// it.
    pub fn audit_end(&self) -> u64 {
        // Amid a line, if one is being written: its rest is then skipped like any half line.
        std::fs::metadata(self.path("audit.jsonl")).map_or(0, |file| file.len())
    }

    fn start_on_free_ports() -> Result<Self, Error> {
        // First, as it may take minutes and there is nothing to clean up yet.
        for name in [ETCD, API_SERVER, CONTROLLER_MANAGER, "kubectl"] {
            program(name)?;
        }
        let directory = Directory::create()?;
        let failed = |source| Error::io("prepare the directory", directory.path(), source);
        let certificates = Certificates::generate()?;
        let admin_token = random_token().map_err(failed)?;
        let odd_token = random_token().map_err(failed)?;
        let users = format!("{admin_token},admin,admin,\"system:masters\"\n{odd_token},odd,odd,\"admins\r,x\"\n");
        for (name, text) in [
            ("ca.crt", &*certificates.ca_pem),
            ("server.crt", &certificates.server_pem),
            ("server.key", &certificates.server_key),
            ("service-account.key", &certificates.service_account_key),
            ("service-account.pub", &certificates.service_account_public),
            ("users.csv", &users),
            ("audit-policy.yaml", audit::POLICY),
        ] {
            write_private(&directory.path().join(name), text).map_err(failed)?;
        }
        let [etcd_port, api_server_port] = free_ports().map_err(failed)?;
        let plane = Self {
            etcd_port,
            api_server_port,
            server: format!("https://127.0.0.1:{api_server_port}"),
            ca_pem: certificates.ca_pem,
            ca_der: certificates.ca_der,
            kubeconfig: directory.path().join("admin.kubeconfig"),
            admin_token,
            odd_token,
            servers: Mutex::default(),
            directory,
        };
        plane
            .kubeconfig_for("admin", &plane.admin_token)
            .map_err(|source| Error::io("write a kubeconfig in", plane.directory(), source))?;
        {
            let mut servers = plane.servers();
            servers.push(plane.spawn_etcd()?);
            servers.push(plane.spawn_api_server()?);
            plane.wait_for("/readyz", &mut servers)?;
            servers.push(plane.spawn_controller_manager()?);
            // Made by the controller manager, so it shows that this one works too.
            plane.wait_for("/api/v1/namespaces/default/serviceaccounts/default", &mut servers)?;
        }
        Ok(plane)
    }

    fn etcd_address(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    fn spawn_etcd(&self) -> Result<Process, Error> {
        let address = self.etcd_address();
        self.spawn(ETCD, |command| {
            command
                .arg("--data-dir")
                .arg(self.path("etcd"))
                // The data need not survive the machine.
                .arg("--unsafe-no-fsync")
                .args(["--log-level", "warn"])
                .args(["--listen-client-urls", &address])
                .args(["--advertise-client-urls", &address])
                // A member of no cluster has no peers: any port will do.
                .args(["--listen-peer-urls", "http://127.0.0.1:0"]);
        })
    }

    fn spawn_api_server(&self) -> Result<Process, Error> {
        self.spawn(API_SERVER, |command| {
            command
                .args(["--etcd-servers", &self.etcd_address()])
                .arg(format!("--secure-port={}", self.api_server_port))
                .arg("--bind-address=127.0.0.1")
                // No pod reaches the API server through its Service, whose endpoint could not be
                // a loopback address.
                .arg("--advertise-address=127.0.0.1")
                .arg("--endpoint-reconciler-type=none")
                .arg("--service-cluster-ip-range=10.0.0.0/24")
                .args(["--authorization-mode=RBAC", "--allow-privileged"])
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .args(["--audit-log-mode=blocking", "--profiling=false"])
                // In MB. A file that is never rotated has stable offsets.
                .arg("--audit-log-maxsize=1000000");
            for (option, name) in [
                ("--cert-dir", "certificates"),
                ("--tls-cert-file", "server.crt"),
                ("--tls-private-key-file", "server.key"),
                ("--token-auth-file", "users.csv"),
                ("--service-account-key-file", "service-account.pub"),
                ("--service-account-signing-key-file", "service-account.key"),
                ("--audit-policy-file", "audit-policy.yaml"),
                ("--audit-log-path", "audit.jsonl"),
            ] {
                command.arg(option).arg(self.path(name));
            }
        })
    }

    fn spawn_controller_manager(&self) -> Result<Process, Error> {
        self.spawn(CONTROLLER_MANAGER, |command| {
            command
                .arg("--kubeconfig")
                .arg(&self.kubeconfig)
                .arg("--service-account-private-key-file")
                .arg(self.path("service-account.key"))
                .arg("--root-ca-file")
                .arg(self.path("ca.crt"))
                .args(["--controllers", CONTROLLERS])
                // As in a real cluster: what collects garbage is not who publishes certificates.
                .arg("--use-service-account-credentials")
                .args(["--leader-elect=false", "--profiling=false"])
                // It serves metrics only, to nobody.
                .arg("--secure-port=0");
        })
    }

    fn spawn(&self, name: &str, configure: impl FnOnce(&mut Command)) -> Result<Process, Error> {
        let mut command = Command::new(program(name)?);
        // etcd and Go take options from the environment.
        command.env_clear();
        configure(&mut command);
        let log = self.path(&format!("{name}.log"));
        self.directory
            .hold()
            .and_then(|hold| Process::start_with_input(name, command, &log, hold))
            .map_err(|source| Error::io("start the server with its log", &log, source))
    }

    /// Waits until the API server answers `path` with success, or a server ends.
    fn wait_for(&self, path: &'static str, servers: &mut [Process]) -> Result<(), Error> {
        let wait = async {
            let client = self.client();
            let started = Instant::now();
            loop {
                for server in &mut *servers {
                    if let Some(status) = server.exit_status() {
                        let (name, log) = describe(server);
                        return Err(Error::Ended { name, status, log });
                    }
                }
                let request = http::Request::get(path).body(Vec::new()).expect("a path");
                let answer = client.request_text(request);
                let last = match tokio::time::timeout(DEADLINE / 10, answer).await {
                    Ok(Ok(_)) => return Ok(()),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer".to_owned(),
                };
                if started.elapsed() > DEADLINE {
                    let (name, log) = servers.last().map(describe).unwrap_or_default();
                    let deadline = DEADLINE;
                    return Err(Error::NotReady { path, deadline, last, name, log });
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        // A thread of its own, because the caller's may be one of a runtime, where another one
        // must not block.
        thread::scope(|scope| scope.spawn(|| runtime().block_on(wait)).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn cluster(&self) -> Cluster {
        Cluster::new(&self.kubeconfig, self.directory())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The servers stay as they are when a test panics with the lock in its hands.
    fn servers(&self) -> MutexGuard<'_, Vec<Process>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the machine has file descriptors to spare")
}

/// Two ports of 127.0.0.1 that were free a moment ago.
fn free_ports() -> io::Result<[u16; 2]> {
    // Both are held until both are known, so that they differ.
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [first, second] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([first?.port(), second?.port()])
}

fn random_token() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Copies a directory with all that is in it.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy_all(&from, &to)? } else { std::fs::copy(&from, &to).map(drop)? }
    }
    Ok(())
}

/// Writes a file that nobody else may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// A server's name and the last lines of its log, of which a message shows no more.
fn describe(server: &Process) -> (String, String) {
    const LINES: usize = 20;
    let log = server.log();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    (server.name().to_owned(), tail)
}
