//! The operator and the verifier, as processes.

use std::{
    fmt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use controlplane::Process;

use super::{NAMESPACE, Told, cluster::Cluster};

/// Timeout of each wait. The slowest step takes ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(100);

/// A running operator or verifier.
pub struct Actor {
    process: Process,
    /// The URL at which the process serves.
    pub address: String,
    /// The URL of the probes and metrics.
    pub probes: String,
}

impl Actor {
    /// Starts the process with the permissions that the chart grants, and waits until the process is ready.
    pub async fn start(name: &str, cluster: &Cluster, program: &Path, args: &[&str]) -> Told<Self> {
        let mut command = Command::new(program);
        command.args([name, "--listen", "127.0.0.1:0", "--probes", "127.0.0.1:0", "--log-format", "text"]).args(args);
        command.env("KUBECONFIG", cluster.kubeconfig(name)?).env("NO_COLOR", "1");
        if !cluster.is_own() {
            command.args(["--namespace", NAMESPACE]);
        }
        let log = cluster.directory().join(format!("{name}.log"));
        let process =
            Process::start(name, command, &log).map_err(|error| format!("cannot start the {name}: {error}"))?;
        let mut actor = Self { process, address: String::new(), probes: String::new() };
        let waited = eventually(&format!("the {name} is ready"), async || actor.is_ready().await).await;
        (actor.address, actor.probes) = waited.map_err(|wrong| format!("{wrong}\n{actor}"))?;
        Ok(actor)
    }

    /// The two URLs from the log, if the process is ready. The result is `None` while it is not ready.
    pub async fn is_ready(&self) -> Told<Option<(String, String)>> {
        let log = self.process.log();
        let said = |what: &str| log.lines().find_map(|line| line.split_once(what)).map(|(_, url)| url.to_owned());
        let Some((address, probes)) = said(" listening on ").zip(said(" probes on ")) else { return Ok(None) };
        let answer = http()?.get(format!("{address}/readyz")).send().await;
        Ok(answer.is_ok_and(|answer| answer.status().is_success()).then_some((address, probes)))
    }
}

/// Formats the last lines of the log, for error messages.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&end_of_log(&self.process))
    }
}

/// The last lines of the log of a process, for error messages.
pub fn end_of_log(process: &Process) -> String {
    const LINES: usize = 15;
    let log = process.log();
    let lines: Vec<_> = log.lines().collect();
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
    format!("\nThe end of the {}'s log:\n  {end}", process.name())
}

/// A client for Traefik and for the probes.
pub fn http() -> Told<reqwest::Client> {
    // All of them are on this machine, so a configured proxy must not be used.
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().map_err(|error| error.to_string())
}

/// Polls until `look` returns a value. `what` names the awaited state, for the error message.
pub async fn eventually<T>(what: &str, look: impl AsyncFn() -> Told<Option<T>>) -> Told<T> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("timed out after {} s while waiting until {what}", PATIENCE.as_secs()));
        }
        tokio::time::sleep(POLL).await;
    }
}
