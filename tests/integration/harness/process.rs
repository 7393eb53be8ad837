//! A verifier in a process of its own.

use std::{fs, net::SocketAddr};

use controlplane::Process;

use super::{World, clock::Held};

/// A verifier in a process of its own, and a token of the Instance `eem` that it knows.
pub struct Served {
    pub world: World,
    pub process: Process,
    pub address: SocketAddr,
    /// The path at which proxies ask about the Instance.
    pub path: String,
    pub value: String,
}

/// A namespace with a token, and its value. No operator is left.
pub async fn with_token(name: &str) -> (World, String) {
    let world = World::new(name).await;
    let operator = world.operator(&Held::default()).await;
    world.smallest().await;
    let value = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    operator.stop().await;
    (world, value)
}

impl Served {
    /// A verifier in a new namespace, with these further arguments.
    pub async fn new(name: &str, arguments: &[&str]) -> Self {
        let (world, value) = with_token(name).await;
        Self::of(world, value, arguments).await
    }

    /// A verifier of this namespace, with these further arguments. Its token has this value.
    pub async fn of(world: World, value: String, arguments: &[&str]) -> Self {
        let process = world.verifier_process(arguments);
        let address = world.await_address(&process, "http").await;
        let path = format!("/v1/instances/{}/eem/authorize", world.namespace);
        Self { world, process, address, path, value }
    }

    /// Resident memory of the verifier, in bytes.
    pub fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    }
}
