//! The certificate that the operator keeps for the verifier, and a verifier that serves it.

use std::{collections::BTreeMap, env, fs, io, path::PathBuf, process, sync::Arc, time::Duration};

use controlplane::NAMESPACE;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::AuthInfo,
};
use serde_json::json;
use tokenry::{
    crd::Instance,
    exposure::HttpsPort,
    operator::{CertificateOrder, SecretPlace},
    outside::{
        Address, Clock, SystemClock, SystemEntropy, Taken, TlsFiles,
        issuer::{KeyedCertificate, Period},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
        time_provider::TimeProvider,
    },
};

use crate::harness::{
    World,
    clock::{Held, hours},
    root,
    run::{Running, exposure},
};

pub(crate) const SECRET: &str = "tokenry-verifier-tls";
const AUTHORITIES: &str = "tokenry-verifier-tls-ca";

pub(crate) fn names() -> Vec<String> {
    ["tokenry-verifier.tokenry-system.svc", "localhost", "127.0.0.1"].map(str::to_owned).to_vec()
}

pub(crate) fn order(name: &str) -> CertificateOrder {
    let place = SecretPlace { namespace: NAMESPACE.to_owned(), name: name.to_owned() };
    CertificateOrder { place, names: names() }
}

/// An operator that keeps the certificate of this name.
async fn keeper(world: &World, clock: &Held, name: &str) -> Running {
    let client = world.plane.client_for(&world.identities.operator);
    world.operator_with(client, clock, |options| options.certificate = Some(order(name))).await
}

/// A namespace of a control plane of its own, because the operator may change only objects of the names in the chart.
async fn secluded(name: &str) -> World {
    let world = World::alone(name).await;
    world.plane.install_crds(root()).unwrap();
    world
}

/// The certificate as it is stored, and the certificates that clients trust.
#[derive(Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) pair: KeyedCertificate,
    pub(crate) bundle: String,
}

impl Stored {
    fn authorities(&self) -> usize {
        self.bundle.matches("BEGIN CERTIFICATE").count()
    }
}

impl World {
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn keys(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let data = self.secrets().get_opt(name).await.unwrap()?.data?;
        Some(data.into_iter().map(|(key, value)| (key, String::from_utf8(value.0).unwrap())).collect())
    }

    /// The certificate, once all of its objects agree.
    async fn kept_certificate(&self) -> Option<Stored> {
        let mut keys = self.keys(SECRET).await?;
        let map = Api::<ConfigMap>::namespaced(self.client.clone(), NAMESPACE).get_opt(AUTHORITIES).await.unwrap()?;
        let bundle = map.data?.remove("ca.crt")?;
        let pair = KeyedCertificate { certificate: keys.remove("tls.crt")?, key: keys.remove("tls.key")?.into() };
        (keys.remove("ca.crt")? == bundle).then_some(Stored { pair, bundle })
    }

    /// Waits for a certificate that fulfils `is_it`, at the time of `clock`.
    pub(crate) async fn await_stored(&self, what: &str, is_it: impl Fn(&Stored) -> bool) -> Stored {
        self.eventually(what, async || self.kept_certificate().await.filter(|stored| is_it(stored))).await
    }
}

#[tokio::test]
async fn the_operators_make_one_authority_and_renew_it_so_that_no_client_with_an_older_bundle_fails() {
    let (world, clock) = (World::new("certificate").await, Held::default());
    let serves = |stored: &Stored, bundle: &str| stored.pair.serves(bundle, &names(), clock.now());
    let operators = [keeper(&world, &clock, SECRET).await, keeper(&world, &clock, SECRET).await];
    let first = world.await_stored("there is a certificate", |_| true).await;
    assert!(serves(&first, &first.bundle) && first.authorities() == 1);
    let secret = world.secrets().get(SECRET).await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    let authority = world.keys(AUTHORITIES).await.unwrap();
    assert_eq!(authority.keys().collect::<Vec<_>>(), ["tls.crt", "tls.key"]);
    assert!(!first.bundle.contains("PRIVATE") && authority["tls.crt"] == first.bundle);

    clock.move_by(hours(61 * 24));
    let renewed = world.await_stored("the certificate is renewed", |stored| stored.pair != first.pair).await;
    assert!(serves(&renewed, &first.bundle));
    assert_eq!(world.keys(AUTHORITIES).await.unwrap(), authority, "the authority stays");

    world.secrets().delete(SECRET, &DeleteParams::default()).await.unwrap();
    clock.move_by(hours(1));
    let again = world.await_stored("it is made again", |_| true).await;
    assert!(serves(&again, &first.bundle));

    clock.move_by(hours(3 * 365 * 24 + 100 * 24));
    let both = |stored: &Stored| stored.authorities() == 2 && serves(stored, &stored.bundle);
    let overlap = world.await_stored("a second authority is trusted", both).await;
    assert!(serves(&overlap, &first.bundle), "the first still signs");

    clock.move_by(hours(400 * 24));
    let by_second = |stored: &Stored| both(stored) && !stored.pair.serves(&first.bundle, &names(), clock.now());
    let promoted = world.await_stored("the second signs", by_second).await;
    assert!(serves(&promoted, &overlap.bundle), "a bundle of a year ago is enough");

    clock.move_by(hours(200 * 24));
    let last = world.await_stored("the first is forgotten", |stored| stored.authorities() == 1).await;
    assert!(!last.bundle.contains(&first.bundle) && overlap.bundle.contains(&last.bundle));
    for operator in operators {
        operator.stop().await;
    }
}

#[tokio::test]
async fn an_authority_whose_keys_are_lost_is_trusted_on_and_its_certificate_stays_in_use() {
    let (world, clock) = (secluded("lost").await, Held::default());
    let operator = keeper(&world, &clock, SECRET).await;
    let first = world.await_stored("there is a certificate", |_| true).await;
    world.secrets().delete(AUTHORITIES, &DeleteParams::default()).await.unwrap();
    clock.move_by(hours(24));
    let both = world.await_stored("a new authority is trusted", |stored| stored.authorities() == 2).await;
    assert!(both.pair == first.pair && both.bundle.ends_with(&first.bundle));
    let metric = async || {
        let (_, metrics) = operator.get("/metrics").await;
        let name = "tokenry_certificate_authority_expiration_timestamp_seconds ";
        metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<i64>().ok())
    };
    let until = metric().await.unwrap();
    assert!((until - (clock.now() + hours(5 * 365 * 24)).as_second()).abs() < 300, "{until}");

    clock.move_by(hours(60 * 24));
    let by_second = |stored: &Stored| stored.pair != first.pair;
    let last = world.await_stored("the new authority signs", by_second).await;
    assert!(last.pair.serves(&both.bundle, &names(), clock.now()));
    assert!(!last.pair.serves(&first.bundle, &names(), clock.now()));
    operator.stop().await;
}

#[tokio::test]
async fn secrets_that_are_lost_together_are_made_again_beside_the_config_map() {
    let (world, clock) = (secluded("bereft").await, Held::default());
    let operator = keeper(&world, &clock, SECRET).await;
    let first = world.await_stored("there is a certificate", |_| true).await;
    for name in [AUTHORITIES, SECRET] {
        world.secrets().delete(name, &DeleteParams::default()).await.unwrap();
    }
    clock.move_by(hours(24));
    let second = world.await_stored("there is another certificate", |stored| stored.pair != first.pair).await;
    assert!(second.pair.serves(&second.bundle, &names(), clock.now()));
    operator.stop().await;
}

/// The name of the Secret with the certificates that Traefik trusts.
pub(crate) const TRUSTED: &str = "tokenry-verifier-ca";

/// A Secret that somebody made like one of the operator, with the label of the operator.
async fn copied(world: &World, namespace: &str, name: &str) -> Secret {
    let period = Period { from: SystemClock.now() - hours(1), until: SystemClock.now() + hours(24) };
    let other = KeyedCertificate::authority(&SystemEntropy, period).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "tokenry.dev/certificate-authorities",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "tokenry"}},
        "stringData": {"ca.crt": other.certificate},
    });
    let secrets = Api::<Secret>::namespaced(world.client.clone(), namespace);
    secrets.patch(name, &PatchParams::apply("somebody"), &Patch::Apply(secret)).await.unwrap()
}

#[tokio::test]
async fn a_secret_with_a_copied_label_is_left_alone_and_delays_the_instances_of_its_namespace_alone() {
    let (world, clock) = (secluded("foreign").await, Held::default());
    let other = world.beside("other", json!({})).await;
    for world in [&world, &other] {
        let host = format!("{}.example.com", world.namespace);
        let endpoint = json!({
            "name": "admin", "type": "external", "host": host, "ingress": {}, "guard": "Traefik",
        });
        let manager = json!({"service": {"name": "manager"}, "endpoints": [endpoint]});
        world.accepts("Instance", "eem", json!({ "manager": manager })).await;
    }
    let foreign = copied(&world, &world.namespace, TRUSTED).await;
    let mut config = exposure();
    let verifier = config.verifier.as_mut().unwrap();
    let (ca, ca_secret) = (format!("{SECRET}-ca"), TRUSTED.to_owned());
    verifier.https = Some(HttpsPort { port: 443, address: None, ca, ca_secret });
    let client = world.plane.client_for(&world.identities.operator);
    let operator = world.operator_with(client, &clock, |options| {
        (options.exposure, options.certificate) = (Arc::new(config), Some(order(SECRET)));
    });
    let operator = operator.await;
    let served = async |world: &World| {
        let instance = world.api::<Instance>().get("eem").await.unwrap();
        (instance.status?.observed_generation == instance.metadata.generation).then_some(())
    };
    world.eventually("the other namespace is served", async || served(&other).await).await;
    assert!(served(&world).await.is_none(), "Traefik has no certificates there");
    let stored = world.await_stored("there is a certificate", |_| true).await;
    assert_eq!(other.key(TRUSTED, "ca.crt").await, Some(stored.bundle.clone()));
    world.await_events("Instance", "eem", &["EndpointBlocked"]).await;
    assert_eq!(world.api::<Secret>().get(TRUSTED).await.unwrap(), foreign);

    world.api::<Secret>().delete(TRUSTED, &DeleteParams::default()).await.unwrap();
    world.eventually("it is served too", async || served(&world).await).await;
    assert_eq!(world.key(TRUSTED, "ca.crt").await, Some(stored.bundle));
    operator.stop().await;
}

#[tokio::test]
async fn authorities_with_a_copied_label_are_neither_trusted_nor_overwritten() {
    let (world, clock) = (secluded("copied").await, Held::default());
    let foreign = copied(&world, NAMESPACE, AUTHORITIES).await;
    let operator = keeper(&world, &clock, SECRET).await;
    world.ready(&operator).await;
    let reads = || {
        let events = world.audited();
        events.iter().filter(|event| (&*event.verb, &*event.name) == ("get", AUTHORITIES)).count()
    };
    // A pass reads a Secret and a ConfigMap of this name.
    world.eventually("the operator has read it, and reads it again", async || (reads() >= 4).then_some(())).await;
    assert_eq!(world.secrets().get(AUTHORITIES).await.unwrap(), foreign);
    let maps = Api::<ConfigMap>::namespaced(world.client.clone(), NAMESPACE);
    assert_eq!(maps.get_opt(AUTHORITIES).await.unwrap(), None);
    assert!(world.secrets().get_opt(SECRET).await.unwrap().is_none());

    world.secrets().delete(AUTHORITIES, &DeleteParams::default()).await.unwrap();
    world.await_stored("there is a certificate", |_| true).await;
    operator.stop().await;
}

/// The time at which a caller lives.
#[derive(Debug)]
struct At(UnixTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// An open connection by HTTPS.
struct Line(TlsStream<TcpStream>);

impl Line {
    /// A connection of a caller that trusts `bundle` and lives at the time of `clock`.
    async fn open(port: u16, bundle: &str, clock: &Held) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle.as_bytes()).map(Result::unwrap));
        let now = UnixTime::since_unix_epoch(Duration::from_secs(clock.now().as_second().try_into().unwrap()));
        let config = ClientConfig::builder_with_details(Arc::new(default_provider()), Arc::new(At(now)));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Self(TlsConnector::from(config).connect(name, stream).await?))
    }

    /// True if the server presented the certificate of this pair.
    fn presents(&self, pair: &KeyedCertificate) -> bool {
        let presented = self.0.get_ref().1.peer_certificates().unwrap();
        presented[0] == CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
    }

    /// The status of the answer to a request.
    async fn ask(&mut self, path: &str) -> u16 {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).await.expect("the connection stays open");
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).await.unwrap();
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

fn taken() -> (Taken, u16) {
    let at = "127.0.0.1:0".parse::<Address>().unwrap().take("--tls-listen").unwrap();
    let port = at.address().unwrap().port();
    (at, port)
}

#[tokio::test]
async fn a_running_verifier_serves_the_renewed_certificate_and_open_connections_go_on() {
    let (world, clock) = (secluded("renewed").await, Held::default());
    let operator = keeper(&world, &clock, SECRET).await;
    let first = world.await_stored("there is a certificate", |_| true).await;
    let (folder, (at, port)) = (Folder::of(&world), taken());
    folder.write(&first.pair);
    let client = world.plane.client_for(&world.identities.verifier);
    let secure = Some((at, folder.files()));
    let verifier = world.verifier_by(client, &clock, |options| options.secure = secure).await;
    world.ready(&verifier).await;
    let path = format!("/v1/instances/{}/eem/authorize", world.namespace);
    let line = async || Line::open(port, &first.bundle, &clock).await.ok();
    let mut open = world.eventually("it answers by HTTPS", line).await;
    assert!(open.presents(&first.pair));
    assert_eq!(open.ask(&path).await, 401);

    clock.move_by(hours(61 * 24));
    let renewed = world.await_stored("the certificate is renewed", |stored| stored.pair != first.pair).await;
    // The kubelet writes it into the volume.
    folder.write(&renewed.pair);
    let presented = async || line().await.filter(|line| line.presents(&renewed.pair));
    let mut next = world.eventually("new connections have the renewed certificate", presented).await;
    assert_eq!((open.ask(&path).await, next.ask(&path).await), (401, 401));
    assert!(open.presents(&first.pair));
    let until = renewed.pair.period().unwrap().until.as_second();
    let metric = format!("tokenry_verifier_certificate_expiration_timestamp_seconds {until}");
    assert!(verifier.get("/metrics").await.1.contains(&metric));

    // A key that does not fit is repaired by the operator.
    let patch = Patch::Merge(json!({"stringData": {"tls.key": &*first.pair.key}}));
    world.secrets().patch(SECRET, &PatchParams::default(), &patch).await.unwrap();
    clock.move_by(hours(1));
    let fits = |stored: &Stored| stored.pair.serves(&first.bundle, &names(), clock.now());
    world.await_stored("the certificate is repaired", fits).await;
    verifier.stop().await;
    operator.stop().await;
}

#[tokio::test]
async fn a_verifier_says_that_a_changed_pair_cannot_be_used_and_serves_the_one_before() {
    let (world, clock) = (World::new("corrupted").await, Held::default());
    let period = |days: i64| Period { from: clock.now() - hours(1), until: clock.now() + hours(days * 24) };
    let authority = KeyedCertificate::authority(&SystemEntropy, period(900)).unwrap();
    let sign = |period| authority.sign(&SystemEntropy, &names(), period).unwrap();
    let (pair, other) = (sign(period(90)), sign(period(90)));
    let past = sign(Period { from: clock.now() - hours(9), until: clock.now() - hours(8) });
    let data = json!({"tls.crt": pair.certificate, "tls.key": &*pair.key});
    let secret = json!({"metadata": {"name": "pair"}, "type": "kubernetes.io/tls", "stringData": data});
    world.api::<Secret>().create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let folder = Folder::of(&world);
    // The kubelet writes the Secret into the volume.
    let mounted = async || {
        let [certificate, key] = ["tls.crt", "tls.key"].map(|key| world.key("pair", key));
        let (certificate, key) = (certificate.await.unwrap(), key.await.unwrap().into());
        folder.write(&KeyedCertificate { certificate, key });
    };
    mounted().await;
    let files = folder.files();
    let args = ["--tls-listen", "127.0.0.1:0", "--tls-cert", files.certificate.to_str().unwrap(), "--tls-key"];
    let args = [&args[..], &[files.key.to_str().unwrap()]].concat();
    let process = world.verifier_process(&args);
    world.await_address(&process, "http").await;
    let listens = async || process.log().split_once("listening on https://127.0.0.1:").map(|(_, rest)| rest.to_owned());
    let rest = world.eventually("it listens", listens).await;
    let port: u16 = rest.split('"').next().unwrap().parse().unwrap();

    for (changed, why) in [
        (json!({"tls.key": &*other.key}), "does not fit"),
        (json!({"tls.crt": "a", "tls.key": "b"}), "there is no certificate in PEM form"),
        (json!({"tls.crt": past.certificate, "tls.key": &*past.key}), "it has expired at"),
    ] {
        world.patch_secret("pair", json!({ "stringData": changed })).await;
        mounted().await;
        let told = async || {
            let log = process.log();
            let line = log.lines().rfind(|line| line.contains("the one before stays in use"))?;
            line.contains(why).then_some(())
        };
        world.eventually(why, told).await;
        let line = Line::open(port, &authority.certificate, &clock).await.unwrap();
        assert!(line.presents(&pair));
    }
    let changed = json!({"tls.crt": other.certificate, "tls.key": &*other.key});
    world.patch_secret("pair", json!({ "stringData": changed })).await;
    mounted().await;
    let presented =
        async || Line::open(port, &authority.certificate, &clock).await.ok()?.presents(&other).then_some(());
    world.eventually("a pair that fits is served", presented).await;
    assert!(!process.log().contains("PRIVATE KEY"));
}

/// The status of the answer to a request by HTTPS. An error if the server's certificate is not one of `bundle`.
async fn asked(world: &World, port: u16, bundle: &str, path: &str) -> Result<u16, kube::Error> {
    let mut config = world.plane.config("");
    config.auth_info = AuthInfo::default();
    config.cluster_url = format!("https://127.0.0.1:{port}").parse().unwrap();
    config.tls_server_name = Some("localhost".to_owned());
    let roots = CertificateDer::pem_slice_iter(bundle.as_bytes()).map(|der| der.unwrap().to_vec());
    config.root_cert = Some(roots.collect());
    let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
    Ok(Client::try_from(config)?.send(request).await?.status().as_u16())
}

#[tokio::test]
async fn a_verifier_waits_for_its_certificate_and_answers_by_https_beside_plain_http() {
    let (world, clock) = (World::new("tls").await, Held::default());
    let period = |days: i64| Period { from: clock.now() - hours(1), until: clock.now() + hours(days * 24) };
    let authority = KeyedCertificate::authority(&SystemEntropy, period(9)).unwrap();
    let pair = authority.sign(&SystemEntropy, &names(), period(1)).unwrap();
    let folder = Folder::of(&world);
    let (at, port) = taken();
    let client = world.plane.client_for(&world.identities.verifier);
    let verifier = world.verifier_by(client, &clock, |options| options.secure = Some((at, folder.files()))).await;
    let waits = async || {
        let (status, told) = verifier.get("/readyz").await;
        (status == 503 && told.contains("tls.crt: No such file or directory")).then_some(())
    };
    world.eventually("it waits for its certificate, and says so", waits).await;
    let path = format!("/v1/instances/{}/eem/authorize", world.namespace);
    assert!(asked(&world, port, &authority.certificate, &path).await.is_err());
    folder.write(&pair);
    world.ready(&verifier).await;
    let answers = async || asked(&world, port, &authority.certificate, &path).await.ok();
    assert_eq!(world.eventually("it answers by HTTPS", answers).await, 401);
    assert_eq!(verifier.ask(&path, Default::default()).await.0, 401);
    let other = KeyedCertificate::authority(&SystemEntropy, period(9)).unwrap();
    assert!(asked(&world, port, &other.certificate, &path).await.is_err(), "another authority is not trusted");
    verifier.stop().await;
}

/// The folder of a certificate's files. A drop removes it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn of(world: &World) -> Self {
        let folder = env::temp_dir().join(format!("tokenry-{}-{}", world.namespace, process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn files(&self) -> TlsFiles {
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| self.0.join(name));
        TlsFiles { certificate, key, client_ca: None }
    }

    /// Writes the certificates that a client trusts. Returns their file.
    pub(crate) fn trust(&self, ca: &str) -> PathBuf {
        let file = self.0.join("ca.crt");
        fs::write(&file, ca).unwrap();
        file
    }

    pub(crate) fn write(&self, pair: &KeyedCertificate) {
        fs::write(self.0.join("tls.key"), &*pair.key).unwrap();
        fs::write(self.0.join("tls.crt"), &pair.certificate).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}
