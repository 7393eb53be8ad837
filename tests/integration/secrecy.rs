//! No plaintext anywhere but in the Secret.

use std::{fs, process::Command, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use controlplane::Process;
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokenry::{
    crd::{Account, ApiToken, Instance},
    token::format,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{World, proxy};

/// A process of ours, connected to `server`.
fn start(world: &World, command: &str, server: &str, token: &str) -> Process {
    let file = |suffix: &str| world.plane.directory().join(format!("{}-{command}.{suffix}", world.namespace));
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(world.plane.ca_pem())}}],
        "users": [{"name": "it", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    fs::write(file("kubeconfig"), kubeconfig.to_string()).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    program.args([command, "--listen", "127.0.0.1:0", "--probes", "127.0.0.1:0"]);
    program.args(["--namespace", &world.namespace, "--log-level", "info"]);
    program.env("KUBECONFIG", file("kubeconfig"));
    Process::start(command, program, &file("log")).unwrap()
}

/// Where a process says that it is `listening`, or has its `probes`.
async fn address(world: &World, process: &Process, what: &str) -> String {
    let said = async || {
        let log = process.log();
        let line = log.lines().find_map(|line| line.split_once(&format!("\"message\":\"{what} on ")))?.1;
        Some(line.split('"').next()?.to_owned())
    };
    world.eventually("it listens", said).await
}

async fn get(url: &str, value: Option<&str>) -> (u16, String) {
    let mut request = reqwest::Client::new().get(url);
    if let Some(value) = value {
        request = request.header("api-token", value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Sends a request by HTTP/2 whose scheme is `value`. Waits until the server resets the request.
async fn send_as_scheme(url: &str, value: &str) {
    let fields = [(":method", "GET"), (":scheme", value), (":path", "/"), (":authority", "x")];
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    // Literal fields that are not indexed (RFC 7541, section 6.2.2).
    let head = fields
        .map(|(name, value)| [&[0, length(name)][..], name.as_bytes(), &[length(value)], value.as_bytes()].concat());
    let head = head.concat();
    // Empty settings, then the head of the only request.
    let begin = [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0, 0, u8::try_from(head.len()).unwrap(), 1, 5, 0, 0, 0, 1]];
    let all = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &*begin.concat(), &*head].concat();
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap_or(url)).await.unwrap();
    stream.write_all(&all).await.unwrap();
    let mut frame = [0; 9];
    while frame[3] != 3 {
        stream.read_exact(&mut frame).await.unwrap();
        let mut rest = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
        stream.read_exact(&mut rest).await.unwrap();
    }
}

impl World {
    async fn patch_value(&self, value: &str) {
        let patch = Patch::Merge(json!({ "stringData": { "token": value } }));
        self.api::<Secret>().patch("ci", &PatchParams::default(), &patch).await.unwrap();
    }

    /// Every object of ours and every event, with managed fields.
    async fn everything_written(&self) -> String {
        let all = ListParams::default();
        let mut texts = vec![serde_json::to_string(&self.api::<ApiToken>().list(&all).await.unwrap()).unwrap()];
        texts.push(serde_json::to_string(&self.api::<Account>().list(&all).await.unwrap()).unwrap());
        texts.push(serde_json::to_string(&self.api::<Instance>().list(&all).await.unwrap()).unwrap());
        texts.push(serde_json::to_string(&self.api::<Event>().list(&all).await.unwrap()).unwrap());
        for secret in self.api::<Secret>().list(&all).await.unwrap() {
            texts.push(serde_json::to_string(&secret.metadata).unwrap());
        }
        texts.join("\n")
    }
}

#[tokio::test]
async fn no_value_is_in_any_log_event_status_metric_or_managed_field_whatever_the_api_server_answers() {
    let world = World::new("secrecy").await;
    let (url, seen) = proxy::start(world.plane.client_for(&world.identities.operator)).await;
    let operator = start(&world, "operator", &url, "of the proxy");
    let verifier = start(&world, "verifier", world.plane.server(), &world.identities.verifier);
    let asked = address(&world, &verifier, "listening").await;
    let [of_operator, of_verifier] =
        [address(&world, &operator, "probes").await, address(&world, &verifier, "probes").await];
    for probes in [&of_operator, &of_verifier] {
        let louder = reqwest::Client::new().put(format!("{probes}/log-level")).body("trace").send().await.unwrap();
        assert_eq!(louder.status().as_u16(), 200, "from now on the processes log all they can");
    }
    world.accepts("Instance", "eem", json!({"tokens": {"rotation": {"min": "1s"}}})).await;
    let rotation = json!({"schedule": {"every": "3s"}, "overlap": "2s"});
    let keys = json!({
        "client.env": "TOKEN={{ token }}\n", "basic": "{{ ('user:' ~ token) | b64encode }}",
        "client.json": "{\"auth\": {{ token | b64encode | tojson }}, \"url\": {{ (endpoint ~ '?t=' ~ token) | urlencode | tojson }}}",
    });
    world
        .accepts(
            "ApiToken",
            "ci",
            json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "1h"}, "rotation": rotation, "secret": {"data": keys}}),
        )
        .await;

    let enough = async || (seen.values().len() >= 6 && seen.garbled() >= 10).then_some(());
    world.eventually("enough values were minted, refused and garbled", enough).await;
    let value = world.value("ci").await.unwrap();
    let authorize = format!("{asked}/v1/instances/{}/eem/authorize", world.namespace);
    for presented in [&*value, &value[1..], &format!("{value} {value}")] {
        get(&authorize, Some(presented)).await;
    }
    get(&format!("{authorize}/a/{value}/b?c={value}"), Some(&value)).await;
    get(&format!("{authorize}/{}", value.replace('_', "%5F")), Some(&value)).await;
    get(&format!("{asked}/v1/instances/{value}/{value}/authorize"), Some(&value)).await;
    get(&format!("{authorize}/{}", &value[..value.len() - 1]), None).await;
    send_as_scheme(&asked, &value).await;
    world.patch_value("a value of a user's own").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.change("ApiToken", "ci", json!({"active": false})).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.change("ApiToken", "ci", json!({"active": true, "revoked": true})).await.unwrap();
    world.await_reason("ci", "Revoked").await;

    let (_, operators) = get(&format!("{of_operator}/metrics"), None).await;
    let (_, verifiers) = get(&format!("{of_verifier}/metrics"), None).await;
    let places = [
        ("the operator's log", operator.log()),
        ("the verifier's log", verifier.log()),
        ("the operator's metrics", operators),
        ("the verifier's metrics", verifiers),
        ("what was written", world.everything_written().await),
    ];
    assert!(places[0].1.contains("TRACE") && places[1].1.contains("TRACE"), "the logs hold all there is");
    assert!(places[0].1.contains("cannot take [token]"), "a refusal was told without the value that it quoted");
    assert!(places[1].1.contains("[token]"), "a path was told without the value in it");
    let values = seen.values();
    assert!(values.contains(&value));
    for (place, text) in &places {
        for value in &values {
            let secret = &value.rsplit('_').next().unwrap()[..format::SECRET];
            let basic = STANDARD.encode(format!("user:{value}"));
            let twice = [STANDARD.encode(&basic), STANDARD.encode(format!("TOKEN={value}\n")), basic];
            let once = [value.clone(), STANDARD.encode(value), secret.to_owned(), STANDARD.encode(secret)];
            for form in once.into_iter().chain(twice) {
                let found = text.lines().find(|line| line.contains(&form));
                assert_eq!(found, None, "a value is in {place}");
            }
        }
        assert!(!text.contains("a value of a user's own"), "a user's value is in {place}");
    }
}
