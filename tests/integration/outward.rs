//! The way to the API server through a proxy, as kubectl would take it.

use std::{fs, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use controlplane::Process;
use serde_json::Value;

use crate::harness::{
    World,
    clock::Held,
    tunnel::{self, Asked, Protocol},
};

/// A port of this machine at which nobody listens.
const NOBODY: &str = "http://alice:hidden@127.0.0.1:1";

/// What is set for a program: no other proxy than what is said.
const UNSET: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];

impl World {
    /// A kubeconfig by which the API server is not on this machine, as far as its address tells, with a `proxy-url` if
    /// one is given.
    pub(super) fn afar(&self, name: &str, token: &str, proxy: Option<&str>) -> String {
        let path = self.plane.kubeconfig_for(&format!("{name}-{}", self.namespace), token).unwrap();
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let cluster = &mut config["clusters"][0]["cluster"];
        // 0.0.0.0 leads to this machine, and is none of its loopback addresses.
        cluster["server"] = self.plane.server().replace("127.0.0.1", "0.0.0.0").into();
        cluster["tls-server-name"] = "localhost".into();
        cluster["proxy-url"] = proxy.into();
        fs::write(&path, config.to_string()).unwrap();
        path.display().to_string()
    }

    fn program(&self, kubeconfig: &str, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        for name in UNSET {
            command.env_remove(name);
        }
        command.env("KUBECONFIG", kubeconfig).envs(environment.iter().copied());
        command
    }

    /// What `tokenry explain` says of the token `ci`.
    async fn explained(&self, proxy: Option<&str>, environment: &[(&str, &str)]) -> Result<String, String> {
        let kubeconfig = self.afar("explain", self.plane.admin_token(), proxy);
        let mut command = self.program(&kubeconfig, environment);
        command.args(["explain", "ci", "--path", "/", "--namespace", &self.namespace]);
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
    }
}

fn taken(asked: &Asked) -> Vec<(String, Option<String>)> {
    std::mem::take(&mut asked.lock().unwrap())
}

#[tokio::test]
async fn the_api_server_is_reached_by_the_way_that_kubectl_would_take() {
    let world = World::new("outward").await;
    let _operator = world.operator(&Held::default()).await;
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    let (connect, asked) = tunnel::start(Protocol::Connect).await;
    let (socks, asked_socks) = tunnel::start(Protocol::Socks).await;
    let place = world.plane.server().replace("https://127.0.0.1", "0.0.0.0");
    let [open, named, socks] =
        [format!("http://{connect}"), format!("http://al%40ice:hidden@{connect}"), format!("socks5://{socks}")];
    let proof = Some(format!("Basic {}", STANDARD.encode("al@ice:hidden")));

    for (proxy, environment, wanted) in [
        (None, vec![("HTTPS_PROXY", &*open)], vec![(place.clone(), None)]),
        (None, vec![("https_proxy", &*connect)], vec![(place.clone(), None)]),
        (None, vec![("HTTPS_PROXY", &*named)], vec![(place.clone(), proof.clone())]),
        // What is gone round is about the server, and not about the proxy.
        (None, vec![("HTTPS_PROXY", &*open), ("NO_PROXY", "127.0.0.1,example.com,")], vec![(place.clone(), None)]),
        (None, vec![("HTTPS_PROXY", NOBODY), ("NO_PROXY", "example.com,,0.0.0.0")], vec![]),
        (None, vec![("HTTPS_PROXY", NOBODY), ("no_proxy", "*")], vec![]),
        // The kubeconfig's own is neither replaced nor gone round.
        (Some(&*named), vec![("HTTPS_PROXY", NOBODY), ("NO_PROXY", "*")], vec![(place.clone(), proof)]),
        (None, vec![], vec![]),
    ] {
        let told = world.explained(proxy, &environment).await.unwrap_or_else(|told| panic!("{environment:?}: {told}"));
        assert!(told.contains("\nallowed: 200"), "{told}");
        let mut asked = taken(&asked);
        asked.dedup();
        assert_eq!(asked, wanted, "{proxy:?} {environment:?}");
    }
    world.explained(Some(&socks), &[]).await.unwrap();
    assert_eq!(taken(&asked_socks)[0].0, place);
}

#[tokio::test]
async fn a_proxy_behind_tls_needs_a_certificate_by_a_root_of_the_system() {
    let world = World::new("outward").await;
    let _operator = world.operator(&Held::default()).await;
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    let (port, asked) = tunnel::secured(world.plane.certificate("localhost").unwrap()).await;
    let roots = world.plane.directory().join(format!("roots-{}.pem", world.namespace));
    fs::write(&roots, world.plane.ca_pem()).unwrap();
    let trusting = [("SSL_CERT_FILE", roots.to_str().unwrap())];
    let [proxy, misnamed] = ["localhost", "127.0.0.1"].map(|host| format!("https://alice:hidden@{host}:{port}"));
    let proof = Some(format!("Basic {}", STANDARD.encode("alice:hidden")));
    let place = world.plane.server().replace("https://127.0.0.1", "0.0.0.0");
    for (configured, environment) in
        [(None, [trusting[0], ("HTTPS_PROXY", &*proxy)]), (Some(&*proxy), [trusting[0], ("HTTPS_PROXY", NOBODY)])]
    {
        let told = world.explained(configured, &environment).await.unwrap();
        assert!(told.contains("\nallowed: 200"), "{told}");
        let mut asked = taken(&asked);
        asked.dedup();
        assert_eq!(asked, [(place.clone(), proof.clone())]);
    }
    let untrusting = world.explained(Some(&proxy), &[]).await.unwrap_err();
    let misnaming = world.explained(Some(&misnamed), &trusting).await.unwrap_err();
    for (told, host, why) in [(untrusting, "localhost", "UnknownIssuer"), (misnaming, "127.0.0.1", "not valid for")] {
        let failed = format!("through the proxy https://{host}:{port}: TLS with it failed: invalid peer certificate: ");
        assert!(told.contains(&failed) && told.contains(why), "{told}");
        assert!(told.contains("; a root of the system, or of SSL_CERT_FILE, has to sign its certificate"), "{told}");
        assert!(!told.contains("hidden") && !told.contains("alice"), "{told}");
    }
    assert_eq!(taken(&asked), []);
    let plain = tunnel::speechless().await;
    let told = world.explained(Some(&format!("https://{plain}")), &[]).await.unwrap_err();
    assert!(told.contains("; if it speaks no TLS, give a URL that begins with http://"), "{told}");
    assert!(!told.contains("has to sign"), "{told}");
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
    let world = World::new("outward").await;
    for (proxy, environment, wanted) in [
        (None, vec![("HTTPS_PROXY", NOBODY)], "through the proxy http://127.0.0.1:1: tcp connect error: "),
        (Some(NOBODY), vec![], "through the proxy http://127.0.0.1:1: tcp connect error: "),
        (
            None,
            vec![("HTTPS_PROXY", "ftp://alice:hidden@proxy")],
            "tokenry: HTTPS_PROXY is of a kind that is not supported",
        ),
        (Some("http://alice:hid den@proxy"), vec![], "proxy"),
    ] {
        let told = world.explained(proxy, &environment).await.unwrap_err();
        assert!(told.contains(wanted) && !told.contains("hid") && !told.contains("alice"), "{environment:?}: {told}");
    }
}

#[tokio::test]
async fn operator_and_verifier_go_through_a_proxy_too() {
    let world = World::new("outward").await;
    let (address, asked) = tunnel::start(Protocol::Connect).await;
    let start = |role: &str, token: &str| {
        let mut command = world.program(&world.afar(role, token, None), &[("HTTPS_PROXY", &address)]);
        command.args([role, "--listen", "127.0.0.1:0", "--probes", "off", "--namespace", &world.namespace]);
        Process::start(role, command, &world.plane.directory().join(format!("{role}-{}.log", world.namespace))).unwrap()
    };
    let _operator = start("operator", &world.identities.operator);
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    assert!(!taken(&asked).is_empty());
    let verifier = start("verifier", &world.identities.verifier);
    let told = async || verifier.log().contains(&format!("\"proxy\":\"http://{address}\"")).then_some(());
    world.eventually("the log names the proxy", told).await;
    world.eventually("it asks", async || (!taken(&asked).is_empty()).then_some(())).await;
}
