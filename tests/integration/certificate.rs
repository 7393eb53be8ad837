//! The certificate that the operator keeps for the verifier, and a verifier that serves it.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process};

use controlplane::NAMESPACE;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
    config::AuthInfo,
};
use serde_json::json;
use tokenry::{
    operator::{CertificateOrder, SecretPlace},
    outside::{
        Address, Clock, SystemEntropy, TlsFiles,
        issuer::{KeyedCertificate, Period},
    },
};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::harness::{
    World,
    clock::{Held, hours},
    run::Running,
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
async fn a_secret_of_somebody_else_is_left_alone() {
    let (world, clock) = (World::new("certificate-foreign").await, Held::default());
    for name in ["foreign-tls-ca", "foreign-tls"] {
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "b"}});
        let params = PatchParams::apply("somebody");
        world.secrets().patch(name, &params, &Patch::Apply(secret)).await.unwrap();
    }
    let before = world.secrets().get("foreign-tls-ca").await.unwrap();
    let operator = keeper(&world, &clock, "foreign-tls").await;
    world.ready(&operator).await;
    let reads = || {
        let (events, _) = world.plane.audit_from(0);
        events.iter().filter(|event| (&*event.verb, &*event.name) == ("get", "foreign-tls-ca")).count()
    };
    let before_it = reads();
    let again = async || (reads() > before_it + 1).then_some(());
    world.eventually("the operator has read it, and reads it again", again).await;
    operator.stop().await;
    assert_eq!(world.secrets().get("foreign-tls-ca").await.unwrap(), before);
    let maps = Api::<ConfigMap>::namespaced(world.client.clone(), NAMESPACE);
    assert_eq!(maps.get_opt("foreign-tls-ca").await.unwrap(), None);
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
    let at = "127.0.0.1:0".parse::<Address>().unwrap().take("--tls-listen").unwrap();
    let port = at.address().unwrap().port();
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
