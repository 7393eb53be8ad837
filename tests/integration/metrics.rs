//! The metrics of real programs: their names, the series of tokens, and callers that have to prove themselves.

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use controlplane::Process;
use serde_json::json;
use tokenry::outside::{
    Clock, SystemClock, SystemEntropy,
    issuer::{KeyedCertificate, Period},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    },
};

use crate::{
    harness::{World, clock::Held},
    introspection::{AUDIENCE, caller},
};

/// An operator or a verifier as a process of its own, with a port for probes.
pub(crate) struct Program {
    pub(crate) process: Process,
    pub(crate) probes: SocketAddr,
}

impl Program {
    /// The program of this name in the namespace of `world`, with these further arguments and variables.
    pub(crate) async fn start(world: &World, name: &str, args: &[&str], variables: &[(&str, String)]) -> Self {
        let token = if name == "operator" { &world.identities.operator } else { &world.identities.verifier };
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args([name, "--listen", "127.0.0.1:0", "--probes", "0.0.0.0:0", "--namespace", &world.namespace]);
        command.args(args).envs(variables.iter().map(|(name, value)| (name, value)));
        command.env("KUBECONFIG", world.plane.kubeconfig_for(&world.namespace, token).unwrap());
        // Each process has a log of its own, because its addresses are read from there.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = world.plane.directory().join(format!("{name}-{}-{nth}.log", world.namespace));
        let process = Process::start(name, command, &log).unwrap();
        let port = address(world, &process, "probes on http://").await.port();
        let program = Self { process, probes: SocketAddr::from(([127, 0, 0, 1], port)) };
        let ready = async || (program.get("/readyz").await.0 == 200).then_some(());
        world.eventually("the program is ready", ready).await;
        program
    }

    /// The status and the text of the answer to a GET request at the port for probes.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.probes)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The number of a sample. `None`: there is no such sample.
    pub(crate) async fn number(&self, sample: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }
}

/// The address that a log tells after this text.
pub(crate) async fn address(world: &World, process: &Process, after: &str) -> SocketAddr {
    let said = async || {
        let log = process.log();
        log.split_once(after)?.1.split('"').next()?.parse().ok()
    };
    world.eventually("it says its address", said).await
}

/// The names of the metrics in a scrape, each once, without the endings of their samples.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[tokio::test]
async fn a_scrape_of_the_operator_has_what_dashboards_of_the_field_look_at() {
    let world = World::new("scrape").await;
    let operator = Program::start(&world, "operator", &[], &[]).await;
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    let regenerate = json!({"regenerate": {"id": "now"}});
    world.change("ApiToken", "ci", regenerate).await.unwrap();
    world.await_generation("ci", 2).await;
    let counted = async |sample: &str, least: f64| {
        let enough = async || operator.number(sample).await.filter(|number| *number >= least);
        world.eventually(sample, enough).await
    };
    for (sample, least) in [
        (r#"tokenry_rotations_total{event="Issued"}"#, 1.0),
        (r#"tokenry_rotations_total{event="Regenerated"}"#, 1.0),
        (r#"controller_runtime_reconcile_total{controller="apitoken",result="success"}"#, 2.0),
        (r#"controller_runtime_reconcile_time_seconds_count{controller="apitoken"}"#, 2.0),
        (r#"controller_runtime_max_concurrent_reconciles{controller="instance"}"#, 17.0),
        (r#"workqueue_adds_total{name="apitoken",controller="apitoken"}"#, 2.0),
        (r#"workqueue_queue_duration_seconds_count{name="apitoken",controller="apitoken"}"#, 2.0),
        (r#"workqueue_work_duration_seconds_count{name="apitoken",controller="apitoken"}"#, 2.0),
        (r#"rest_client_requests_total{code="200",method="PUT"}"#, 2.0),
        (r#"rest_client_requests_total{code="201",method="POST"}"#, 1.0),
        ("process_cpu_seconds_total", 0.01),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 5.0),
    ] {
        counted(sample, least).await;
    }
    let idle = async || {
        let labels = r#"{name="apitoken",controller="apitoken"}"#;
        let of = async |name: &str| operator.number(&format!("workqueue_{name}{labels}")).await;
        let all =
            [of("depth").await, of("unfinished_work_seconds").await, of("longest_running_processor_seconds").await];
        (all == [Some(0.0); 3]).then_some(())
    };
    world.eventually("nothing waits and nothing runs", idle).await;
    let (_, text) = operator.get("/metrics").await;
    let names = names(&text);
    for name in [
        "tokenry_build_info",
        "tokenry_token_valid",
        "controller_runtime_reconcile_errors",
        "controller_runtime_active_workers",
        "workqueue_retries",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "process_max_fds",
    ] {
        assert_eq!(names.iter().filter(|one| **one == name).count(), 1, "{name} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn each_token_has_series_that_follow_its_status_until_it_is_deleted() {
    let world = World::new("series").await;
    let operator = Program::start(&world, "operator", &[], &[]).await;
    world.accepts("Instance", "eem", json!({})).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "30d"}, "rotation": {"schedule": {"beforeExpiry": "10d"}}});
    world.accepts("ApiToken", "ci", spec).await;
    world.accepts("ApiToken", "wrong", json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "9999d"}})).await;
    world.await_reason("ci", "Active").await;
    world.await_reason("wrong", "LifetimeExceeded").await;
    let series = |metric: &str, name: &str| {
        format!(r#"tokenry_token_{metric}{{namespace="{}",name="{name}"}}"#, world.namespace)
    };
    let is = async |metric: &str, name: &str, wanted: Option<f64>| {
        let series = series(metric, name);
        let agrees = async || (operator.number(&series).await == wanted).then_some(());
        world.eventually(&format!("{series} {wanted:?}"), agrees).await;
    };
    let status = world.token("ci").await.status.unwrap();
    let [expires, rotates] = [status.expires_at, status.rotates_at].map(|at| at.unwrap().0.as_second() as f64);
    is("expiration_timestamp_seconds", "ci", Some(expires)).await;
    is("renewal_timestamp_seconds", "ci", Some(rotates)).await;
    is("valid", "ci", Some(1.0)).await;
    is("ready", "ci", Some(1.0)).await;
    is("expiration_timestamp_seconds", "wrong", None).await;
    is("valid", "wrong", Some(0.0)).await;
    is("ready", "wrong", Some(0.0)).await;
    world.change("ApiToken", "ci", json!({"active": false})).await.unwrap();
    is("valid", "ci", Some(0.0)).await;
    is("ready", "ci", Some(1.0)).await;
    world.delete("ApiToken", "ci").await;
    for metric in ["expiration_timestamp_seconds", "renewal_timestamp_seconds", "valid", "ready"] {
        is(metric, "ci", None).await;
    }
}

#[tokio::test]
async fn without_series_per_token_a_scrape_names_none() {
    let world = World::new("no-series").await;
    let operator = world.operator(&Held::default()).await;
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    assert!(operator.get("/metrics").await.1.contains("tokenry_token_valid{"));
    operator.stop().await;
    let switched = Program::start(&world, "operator", &["--metrics-per-token=false"], &[]).await;
    let seen = async || {
        switched.number(r#"workqueue_work_duration_seconds_count{name="apitoken",controller="apitoken"}"#).await
    };
    world.eventually("the token was looked at", async || seen().await.filter(|count| *count > 0.0)).await;
    let (_, text) = switched.get("/metrics").await;
    assert!(!text.contains("tokenry_token_") && text.contains("tokenry_build_info"), "{text}");
}

/// A scraper that verifies no certificate, as with `insecure_skip_verify` of Prometheus.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The answer to a scrape by HTTPS: its status, and its text. With `ca`, the scraper verifies the certificate.
async fn scraped(at: SocketAddr, token: Option<&str>, ca: Option<&str>) -> std::io::Result<(u16, String)> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let config = match ca {
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Trusting)).with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap));
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let proof = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{proof}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The server may end the connection without a farewell of TLS.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    Ok((answer.split(' ').nth(1).unwrap().parse().unwrap(), answer))
}

#[tokio::test]
async fn scrapers_prove_themselves_to_both_programs_and_nobody_else_reads_metrics() {
    let world = World::new("proved").await;
    let args = ["--metrics-secure", "--metrics-listen=127.0.0.1:0"];
    let (scraper, other) = (caller(&world, "scraper", None), caller(&world, "other", None));
    let elsewhere = caller(&world, "scraper", Some(AUDIENCE));
    let bound = caller(&world, "scraper", Some("tokenry.dev/metrics"));
    let account = format!("--serviceaccount={}:scraper", world.namespace);
    let binding = format!("{}-scraper", world.namespace);
    let role = "--clusterrole=tokenry-metrics-reader";
    world.plane.kubectl(&["create", "clusterrolebinding", &binding, role, &account]).unwrap();
    for name in ["operator", "verifier"] {
        let program = Program::start(&world, name, &args, &[]).await;
        let at = address(&world, &program.process, "metrics on https://").await;
        let read = async || {
            let (status, text) = scraped(at, Some(&scraper), None).await.unwrap();
            (status == 200 && text.contains("tokenry_build_info{")).then_some(())
        };
        world.eventually("the right is seen", read).await;
        for (token, status) in
            [(Some(&*bound), 200), (Some(&*other), 403), (Some(&*elsewhere), 401), (Some("made-up"), 401), (None, 401)]
        {
            let (answered, text) = scraped(at, token, None).await.unwrap();
            let is_told = text.contains("tokenry_build_info");
            assert!(answered == status && is_told == (status == 200), "{name}: {status} {text}");
        }
        assert_eq!(program.get("/metrics").await.0, 404, "{name}: the port of the probes has none");
        assert!(!program.process.log().contains(&scraper), "{name}");
    }
    world.plane.kubectl(&["delete", "clusterrolebinding", &binding]).unwrap();
}

#[tokio::test]
async fn metrics_present_the_certificate_in_the_named_files_also_after_a_change() {
    let world = World::new("metrics-tls").await;
    let file = |name: &str| world.plane.directory().join(format!("{}-{name}", world.namespace));
    let now = SystemClock.now();
    let until = now.checked_add(jiff::SignedDuration::from_hours(24)).unwrap();
    let pair = || {
        let (period, names) = (Period { from: now, until }, ["localhost".to_owned()]);
        let authority = KeyedCertificate::authority(&SystemEntropy, period).unwrap();
        let pair = authority.sign(&SystemEntropy, &names, period).unwrap();
        fs::write(file("key"), &*pair.key).unwrap();
        fs::write(file("crt"), &pair.certificate).unwrap();
        authority.certificate
    };
    let first = pair();
    let [certificate, key] = ["crt", "key"].map(|name| file(name).display().to_string());
    let files = [format!("--metrics-tls-cert={certificate}"), format!("--metrics-tls-key={key}")];
    let args = ["--metrics-secure", "--metrics-listen=127.0.0.1:0", &files[0], &files[1]];
    let program = Program::start(&world, "verifier", &args, &[]).await;
    let at = address(&world, &program.process, "metrics on https://").await;
    let verified = async |ca: &str| scraped(at, None, Some(ca)).await.ok().filter(|(status, _)| *status == 401);
    world.eventually("the first certificate", async || verified(&first).await).await;
    let second = pair();
    world.eventually("the second certificate", async || verified(&second).await).await;
    assert!(verified(&first).await.is_none());
}
