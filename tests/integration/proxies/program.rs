//! A proxy under test: the real program, with exactly the text of its example. Only addresses are replaced.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use controlplane::{Process, free_address};

use super::{caller::request, setting::Setting};
use crate::harness::root;

/// The names in the examples that a test replaces.
pub const SITE: &str = "admin.shop.example.com";
pub const VERIFIER: &str = "tokenry-verifier.tokenry-system.svc:443";
pub const CA: &str = "/etc/tokenry/ca.crt";
pub const INSTANCE: &str = "/events/shop/";
pub const API: &str = "shop-manager.events.svc:8080";

/// A kind of proxy.
pub struct Program {
    pub name: &'static str,
    /// Writes the configuration into a folder, and makes the command that runs it.
    pub command: fn(&Places, &Path) -> Command,
    /// The cases in which callers of this proxy see something else, with the reason in a comment beside each.
    pub differs: &'static [(&'static str, Sees)],
    /// The status that a caller gets while no verifier decides.
    pub without: fn(Outage) -> u16,
    /// True if the proxy has no time limit for the verifier that it could be given.
    pub waits: bool,
    /// True if the proxy passes the query of its caller on to the verifier. The caller then chooses the mode.
    pub passes_query: bool,
    /// True if the proxy gives each request an id of its own, whatever its caller sends.
    pub renames: bool,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// The API answers, and sees exactly the identity of this value.
    Served(Who),
    /// The API answers, and sees five empty identity headers.
    Nobody,
    /// 401 and the challenge of the Instance: the request has no credential. The API sees nothing.
    Missing,
    /// 401 and the challenge with the error `invalid_token`: the credential is not accepted. The API sees nothing.
    Invalid,
    /// The caller gets this status, and the API sees nothing.
    Refused(u16),
    /// The request reaches the API without all five identity headers, and the API refuses it.
    Unproved,
}

/// A value that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Admin,
    Viewer,
    Old,
    New,
}

/// A cause for which no verifier decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Nothing listens at the address.
    Down,
    /// The verifier takes connections, and answers none.
    Slow,
    /// The verifier has a certificate of another authority.
    Untrusted,
    /// The verifier has a certificate of the right authority, for another name.
    Misnamed,
    /// The verifier has read nothing so far, and does not listen.
    NotSynced,
    /// The verifier cannot reach the API server any more, and answers 503.
    CutOff,
}

/// The addresses of one run.
pub struct Places {
    pub site: SocketAddr,
    /// One or two, for the proxies that can ask another.
    pub verifiers: Vec<SocketAddr>,
    /// The file with the certificates by which a proxy knows the verifier.
    pub ca: String,
    pub api: SocketAddr,
    /// The path of the Instance, with a slash at both ends.
    pub instance: String,
}

/// A running proxy.
pub struct Proxy {
    pub address: SocketAddr,
    process: Process,
}

impl Proxy {
    /// Starts the proxy, and waits until it asks the verifier.
    pub async fn start(program: &Program, setting: &Setting) -> Self {
        Self::start_with(program, setting, &[setting.verifier.address]).await
    }

    /// The same, with several addresses of verifiers.
    pub async fn start_with(program: &Program, setting: &Setting, verifiers: &[SocketAddr]) -> Self {
        // Another process may take the port before the proxy does.
        for _ in 0..5 {
            let site = free_address().unwrap();
            let (verifiers, api) = (verifiers.to_vec(), setting.backend.address);
            let ca = setting.verifier.ca.display().to_string();
            let places = Places { site, verifiers, ca, api, instance: setting.instance() };
            let folder = format!("{}-{}-{}", program.name, setting.world.namespace, site.port());
            let folder = setting.world.plane.directory().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let mut command = (program.command)(&places, &folder);
            command.env_clear().env("HOME", &folder).current_dir(&folder);
            let process = Process::start(program.name, command, &folder.join("log")).unwrap();
            let mut proxy = Self { address: site, process };
            if proxy.serves().await {
                return proxy;
            }
            assert!(proxy.log().to_lowercase().contains("address already in use"), "{}", proxy.log());
        }
        panic!("{} found no free port", program.name);
    }

    /// The output of the proxy so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the proxy refuses a request without a token, or has ended.
    async fn serves(&mut self) -> bool {
        let asks = async {
            loop {
                let answer = request("GET", "/orders").send(self.address).await;
                if answer.is_some_and(|answer| answer.status == 401) {
                    return true;
                }
                if !self.process.is_running() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let asked = tokio::time::timeout(Duration::from_secs(60), asks).await;
        asked.unwrap_or_else(|_| panic!("{} does not serve\n{}", self.process.name(), self.log()))
    }
}

/// The text of a file of `examples/proxies`, with other names in it. Each replaced name is there at least once.
pub fn example(file: &str, replaced: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(root().join("examples/proxies").join(file)).unwrap();
    replaced.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in {file}");
        text.replace(from, to)
    })
}

/// A program that tests run.
pub fn program(name: &str) -> Command {
    Command::new(controlplane::program(name).unwrap())
}
