//! The servers under load: each is a process, so that its CPU is counted without that of the client.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use axum::{Router, routing::any};
use http::{HeaderMap, HeaderValue, StatusCode, header::CACHE_CONTROL};
use procfs::process::Process;
use tokenry::{
    access::header::{IDENTITY, REQUEST_ID},
    outside::{
        Address,
        server::{self, Port},
    },
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{Outcome, grpc};

/// The longest start of a server with many tokens.
const PATIENCE: Duration = Duration::from_secs(120);
/// Minimum number of threads of a no-op server, as of a verifier.
const THREADS: usize = 2;

/// A server process. It is killed when this is dropped.
pub struct Served {
    process: Child,
    pub address: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Served {
    /// A server of the same stack that answers each request with as many headers, and judges nothing.
    pub async fn no_op() -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--no-op");
        Self::start(command, &["--address"]).await
    }

    /// A verifier of the cluster of this kubeconfig, with its audit log. The objects are read when this returns.
    pub async fn verifier(kubeconfig: &Path) -> Outcome<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(["verifier", "--probes", "off"]).env("KUBECONFIG", kubeconfig);
        // As in the image.
        command.env("MIMALLOC_PURGE_DELAY", "1");
        Self::start(command, &["--listen"]).await
    }

    async fn start(mut command: Command, listen: &[&str]) -> Outcome<Self> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let process =
            command.args(listen).arg(address.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let (mut served, began) = (Self { process, address }, Instant::now());
        while TcpStream::connect(address).await.is_err() {
            if began.elapsed() > PATIENCE || served.process.try_wait()?.is_some() {
                return Err("a server did not start".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(served)
    }

    /// CPU time of the process since its start, in seconds, to the nanosecond.
    pub fn cpu(&self) -> Outcome<f64> {
        let mut nanoseconds = 0;
        for task in self.proc()?.tasks()? {
            // A thread may end meanwhile.
            nanoseconds += task?.schedstat().map_or(0, |stat| stat.sum_exec_runtime);
        }
        Ok(nanoseconds as f64 / 1e9)
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> Outcome<f64> {
        let kib = self.proc()?.status()?.vmrss.ok_or("a process has no resident memory")?;
        Ok(kib as f64 * 1024.0)
    }

    fn proc(&self) -> Outcome<Process> {
        Ok(Process::new(self.process.id().cast_signed())?)
    }
}

/// Runs as the no-op server, until it is killed.
pub fn no_op(address: Address) -> Outcome {
    let threads = available_parallelism()?.get().max(THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let router = Router::new().route("/v1/instances/{namespace}/{name}/authorize", any(headers)).merge(grpc::no_op());
    runtime.block_on(async {
        let listener = address.take("--address")?.listen("no-op")?;
        Ok(server::serve(listener, router, Port::Callers, CancellationToken::new()).await?)
    })
}

/// As many headers as the answer of a verifier has.
async fn headers() -> (StatusCode, [(http::HeaderName, &'static str); 2], HeaderMap) {
    let identity = IDENTITY.map(|name| (name, HeaderValue::from_static("account:events/topic-exporter-00001")));
    let each = [(CACHE_CONTROL, "no-store"), (REQUEST_ID, "443df6f7-d8e1-4bb9-81e2-9bb7946ffd85")];
    (StatusCode::OK, each, identity.into_iter().collect())
}
