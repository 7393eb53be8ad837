//! A real Kubernetes control plane for tests and the demo: etcd, kube-apiserver and kube-controller-manager, without
//! nodes. The servers listen on 127.0.0.1 only. The servers and their files are removed when the process that started
//! them ends, even if it is killed.
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
mod definitions;
mod directory;
mod error;
mod install;
mod process;
mod programs;

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use certificates::{Authority, Certificates};
use directory::Directory;
use kube::{Client, Config};
use serde_json::json;

pub use audit::{AuditEvent, audit_from};
pub use command::{Cluster, helm};
pub use definitions::Definitions;
pub use error::Error;
pub use install::{EXPOSING, Identities, NAMESPACE, REVIEWING_CALLERS};
pub use process::Process;
pub use programs::{kubernetes_version, program, shell};

const ETCD: &str = "etcd";
const API_SERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// Time limit for the start of a server. A working server starts much faster.
const DEADLINE: Duration = Duration::from_secs(120);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum number of attempts to start a control plane, if another process takes its ports.
const ATTEMPTS: usize = 5;

const PORT_TAKEN: &str = "address already in use";

/// The controllers that tests need. Controllers for nodes, scheduling and scaling are left out.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,endpointslice-controller,garbage-collector-controller,\
    namespace-controller,root-ca-certificate-publisher-controller,serviceaccount-controller,\
    serviceaccount-token-controller";

/// The further controllers that make the Pods of Deployments.
const WORKLOADS: &str = "deployment-controller,replicaset-controller";

/// A running control plane. Dropping this value, or the end of this process, ends the servers and removes their
/// directory.
#[derive(Debug)]
pub struct ControlPlane {
    etcd_port: u16,
    api_server_port: u16,
    server: String,
    authority: Authority,
    ca_pem: String,
    ca_der: Vec<u8>,
    admin_token: String,
    odd_token: String,
    kubeconfig: PathBuf,
    /// Further flags of the API server.
    flags: Mutex<Vec<String>>,
    servers: Mutex<Vec<Process>>,
    // The last field, because its drop waits until the servers that write to it are gone.
    directory: Directory,
}

impl ControlPlane {
    /// Starts a control plane and waits until it works, which takes a few seconds. The first call on a machine builds
    /// the programs: see [`program`].
    pub fn start() -> Result<Self, Error> {
        Self::start_with(audit::POLICY)
    }

    /// Starts a control plane for a benchmark. Its audit log has no bodies, so [`AuditEvent::request`] is always null.
    pub fn start_for_benchmark() -> Result<Self, Error> {
        Self::start_with(audit::WITHOUT_BODIES)
    }

    fn start_with(audit_policy: &str) -> Result<Self, Error> {
        for _ in 1..ATTEMPTS {
            match Self::start_on_free_ports(audit_policy) {
                Err(Error::Ended { log, .. }) if log.contains(PORT_TAKEN) => {}
                result => return result,
            }
        }
        Self::start_on_free_ports(audit_policy)
    }

    /// The control plane that all tests of this process share, started by the first call.
    ///
    /// # Panics
    ///
    /// With the error's message, if it cannot be started.
    pub fn shared() -> &'static Arc<Self> {
        // The error is kept too, so that only the first of many tests waits for a control plane that cannot start.
        static SHARED: OnceLock<Result<Arc<ControlPlane>, Error>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().map(Arc::new)).as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The address of the API server, with `https://`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The certificate of the authority that signed the API server's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A certificate of a server with this host name, and its key, as PEM. [`ControlPlane::ca_pem`] signed it. The name
    /// may be a wildcard.
    ///
    /// # Errors
    /// If the name is no host name.
    pub fn certificate(&self, host: &str) -> Result<(String, String), Error> {
        certificates::certificate(&self.authority, host, &[host])
    }

    /// The bearer token of the user `admin`, who is in the group `system:masters`.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The bearer token of the user `odd`. Its groups are `admins` followed by a carriage return, and `x`.
    /// Impersonation cannot send such a name, but an identity provider can return one.
    pub fn odd_token(&self) -> &str {
        &self.odd_token
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Writes the kubeconfig file `name` for a user with the bearer token `token`.
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

    /// The configuration of a client with the bearer token `token`. It ignores the environment, and never retries a
    /// request.
    pub fn config(&self, token: &str) -> Config {
        let mut config = Config::new(self.server.parse().expect("the address is well-formed"));
        config.root_cert = Some(vec![self.ca_der.clone()]);
        config.auth_info.token = Some(token.to_owned().into());
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(10));
        // Longer than a watch lasts, so that only a dead connection is cut.
        config.read_timeout = Some(Duration::from_secs(300));
        config.reset_reader_on_write = true;
        config
    }

    /// A new client of the administrator.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime. A client belongs to the runtime that created it, and stops working with that
    /// runtime.
    pub fn client(&self) -> Client {
        self.client_for(&self.admin_token)
    }

    /// A new client with the bearer token `token`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime: see [`ControlPlane::client`].
    pub fn client_for(&self, token: &str) -> Client {
        Client::try_from(self.config(token)).expect("the configuration is complete")
    }

    /// Runs kubectl as the administrator. Returns its output, or else its error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        self.kubectl_with_input(args, "")
    }

    /// Runs kubectl as the administrator with `input` as standard input, as for `apply -f -`.
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String, String> {
        self.cluster().kubectl_with_input(args, input)
    }

    /// Runs helm as the administrator. Returns its output, or else its error.
    pub fn helm(&self, args: &[&str]) -> Result<String, String> {
        self.cluster().helm(args)
    }

    /// Runs Helm 3 as the administrator. Returns its output, or else its error.
    pub fn helm3(&self, args: &[&str]) -> Result<String, String> {
        self.cluster().helm3(args)
    }

    /// From now on, Deployments have Pods. No node runs them.
    pub fn make_pods(&self) -> Result<(), Error> {
        let mut servers = self.servers();
        servers.retain(|server| server.name() != CONTROLLER_MANAGER);
        servers.push(self.spawn_controller_manager(&format!("{CONTROLLERS},{WORKLOADS}"))?);
        Ok(())
    }

    /// The process id of a server (`etcd`, `kube-apiserver`, `kube-controller-manager`), while it runs.
    pub fn server_pid(&self, name: &str) -> Option<u32> {
        let mut servers = self.servers();
        let server = servers.iter_mut().find(|server| server.name() == name)?;
        server.is_running().then(|| server.pid())
    }

    /// Kills the API server, as a crash would. Connections of clients break.
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
                // An outgoing connection of this machine may use the port. The port is free again when that connection
                // ends.
                Err(Error::Ended { log, .. }) if log.contains(PORT_TAKEN) && started.elapsed() < DEADLINE => {
                    thread::sleep(POLL_INTERVAL);
                }
                result => return result,
            }
        }
    }

    /// Starts the API server again, with these flags in addition to its own. A flag that is given twice has the last
    /// value.
    pub fn restart_api_server_with(&self, flags: &[String]) -> Result<(), Error> {
        self.stop_api_server();
        *self.flags.lock().unwrap_or_else(PoisonError::into_inner) = flags.to_vec();
        self.start_api_server()
    }

    /// Copies all data. The API server and etcd are stopped meanwhile, as after a crash.
    pub fn back_up(&self) -> Result<(), Error> {
        self.while_stopped(copy_all)
    }

    /// Restores the data of [`ControlPlane::back_up`], as after a disaster. The API server then assigns the same
    /// resourceVersions again.
    pub fn restore(&self) -> Result<(), Error> {
        self.while_stopped(|data, backup| {
            std::fs::remove_dir_all(data)?;
            copy_all(backup, data)
        })
    }

    /// Changes etcd's data or its copy while etcd and the API server are stopped.
    fn while_stopped(&self, change: impl FnOnce(&Path, &Path) -> io::Result<()>) -> Result<(), Error> {
        self.stop_api_server();
        self.servers().retain(|server| server.name() != ETCD);
        let (data, backup) = (self.path("etcd"), self.path("etcd.backup"));
        change(&data, &backup).map_err(|source| Error::io("copy the data in", &data, source))?;
        let etcd = self.spawn_etcd()?;
        self.servers().push(etcd);
        self.start_api_server()
    }

    /// The requests to the API server since the control plane was started. An event may appear some moments after its
    /// answer.
    pub fn audit(&self) -> Vec<AuditEvent> {
        self.audit_from(0).0
    }

    /// The events from `offset` on, and the offset of the next events. The first offset is 0.
    pub fn audit_from(&self, offset: u64) -> (Vec<AuditEvent>, u64) {
        audit_from(&self.path("audit.jsonl"), offset)
    }

    /// An offset for [`ControlPlane::audit_from`] that skips all requests so far. The log is not read.
    pub fn audit_end(&self) -> u64 {
        // The offset can be in the middle of a line that is being written. The rest of the line is then skipped, like
        // any half line.
        std::fs::metadata(self.path("audit.jsonl")).map_or(0, |file| file.len())
    }

    fn start_on_free_ports(audit_policy: &str) -> Result<Self, Error> {
        // This comes first, because it may take minutes, and nothing has to be cleaned up yet.
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
            ("audit-policy.yaml", audit_policy),
        ] {
            write_private(&directory.path().join(name), text).map_err(failed)?;
        }
        let port = || free_address().map(|address| address.port()).map_err(failed);
        let (etcd_port, api_server_port) = (port()?, port()?);
        let plane = Self {
            etcd_port,
            api_server_port,
            server: format!("https://127.0.0.1:{api_server_port}"),
            authority: certificates.authority,
            ca_pem: certificates.ca_pem,
            ca_der: certificates.ca_der,
            kubeconfig: directory.path().join("admin.kubeconfig"),
            admin_token,
            odd_token,
            flags: Mutex::default(),
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
            servers.push(plane.spawn_controller_manager(CONTROLLERS)?);
            // The controller manager creates this ServiceAccount, so its existence shows that the controller manager
            // works.
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
                // The data need not survive a crash of the machine.
                .arg("--unsafe-no-fsync")
                .args(["--log-level", "warn"])
                .args(["--listen-client-urls", &address])
                .args(["--advertise-client-urls", &address])
                // A single member has no peers, so any port will do.
                .args(["--listen-peer-urls", "http://127.0.0.1:0"]);
        })
    }

    fn spawn_api_server(&self) -> Result<Process, Error> {
        self.spawn(API_SERVER, |command| {
            command
                .args(["--etcd-servers", &self.etcd_address()])
                .arg(format!("--secure-port={}", self.api_server_port))
                .arg("--bind-address=127.0.0.1")
                // The API server's Service has no endpoint, because an endpoint cannot be a loopback address. No Pod
                // needs it here.
                .arg("--advertise-address=127.0.0.1")
                .arg("--endpoint-reconciler-type=none")
                .arg("--service-cluster-ip-range=10.0.0.0/24")
                .args(["--authorization-mode=RBAC", "--allow-privileged"])
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .args(["--audit-log-mode=blocking", "--profiling=false"])
                // In MB. The file is never rotated, so offsets stay valid.
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
            command.args(&*self.flags.lock().unwrap_or_else(PoisonError::into_inner));
        })
    }

    fn spawn_controller_manager(&self, controllers: &str) -> Result<Process, Error> {
        self.spawn(CONTROLLER_MANAGER, |command| {
            command
                .arg("--kubeconfig")
                .arg(&self.kubeconfig)
                .arg("--service-account-private-key-file")
                .arg(self.path("service-account.key"))
                .arg("--root-ca-file")
                .arg(self.path("ca.crt"))
                .args(["--controllers", controllers])
                // As in a real cluster, each controller has its own ServiceAccount.
                .arg("--use-service-account-credentials")
                .args(["--leader-elect=false", "--profiling=false"])
                // The port would serve only metrics, which nothing reads.
                .arg("--secure-port=0");
        })
    }

    fn spawn(&self, name: &str, configure: impl FnOnce(&mut Command)) -> Result<Process, Error> {
        let mut command = Command::new(program(name)?);
        // etcd and Go read options from the environment.
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
        // A separate thread, because the caller's thread may belong to a runtime, and runtimes cannot be nested.
        thread::scope(|scope| scope.spawn(|| runtime().block_on(wait)).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn cluster(&self) -> Cluster {
        Cluster::new(&self.kubeconfig, self.directory())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// Locks the list of servers. A panic of a test does not make the list invalid, so a poisoned lock is accepted.
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

/// The first port that [`free_address`] tries, and the number of ports. They lie below those of outgoing connections,
/// which begin at 32768 on Linux. A test with ten thousand connections would take a port before its server listens
/// there.
const PORTS: (u32, u32) = (12_000, 20_000);

/// A port of 127.0.0.1 that was free a moment ago, for a server that has to be given its port. No other call in this
/// process returns it for a long time.
pub fn free_address() -> io::Result<SocketAddr> {
    // Processes that run at the same time begin at different ports.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(97)));
    let tried = (0..PORTS.1).map(|_| PORTS.0 + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.1);
    let addresses = tried.filter_map(|port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?))));
    let free = { addresses }.find(|address| TcpListener::bind(address).is_ok());
    free.ok_or(io::Error::from(io::ErrorKind::AddrInUse))
}

fn random_token() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Copies a directory with its content.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy_all(&from, &to)? } else { std::fs::copy(&from, &to).map(drop)? }
    }
    Ok(())
}

/// Writes a file that only this user may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// A server's name and the last 20 lines of its log, for an error message.
fn describe(server: &Process) -> (String, String) {
    const LINES: usize = 20;
    let log = server.log();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    (server.name().to_owned(), tail)
}
