//! The certificate of a server, from files that change while the process runs.
//!
//! The files are polled. A mounted Secret changes by the swap of a symbolic link, which an inotify watch of a file does
//! not report.

use std::{
    fs,
    future::pending,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};
use zeroize::Zeroizing;

use super::{
    Clock, Daily,
    issuer::{KeyedCertificate, Period, period_of_der},
    metrics::Metrics,
};
use crate::token::Digest;

/// Interval at which the files are read.
const LOOK: Duration = Duration::from_secs(5);
/// Maximum number of reads until two of them agree. They differ if the files change in between.
const READS: usize = 5;

/// The files of a certificate, in PEM form (RFC 7468).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain of the server's certificate, its own certificate first.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The certificates of the authorities that sign clients. `None`: clients need no certificate. Otherwise a client
    /// without a certificate of one of these authorities is refused.
    pub client_ca: Option<PathBuf>,
}

/// The contents of the files. `None`: no clients' authorities.
type Contents = (Vec<u8>, Zeroizing<Vec<u8>>, Option<Vec<u8>>);

/// The digests of the contents, or the reason why they cannot be read.
type Look = Result<(Digest, Digest, Option<Digest>), String>;

/// The last look at the files.
#[derive(Default)]
struct LastLook {
    look: Option<Look>,
    /// True if the files have a pair that is not valid, and a valid one stays in use.
    is_put_off: bool,
}

/// A pair that can be used.
struct Loaded {
    config: Arc<ServerConfig>,
    /// The period of the certificate. `None` if it cannot be read.
    period: Option<Period>,
    /// The digest of the CA of clients.
    client_ca: Option<Digest>,
}

impl TlsFiles {
    fn read_once(&self) -> Result<Contents, String> {
        let read = |file: &Path| fs::read(file).map_err(|error: io::Error| format!("{}: {error}", file.display()));
        let client_ca = self.client_ca.as_deref().map(read).transpose()?;
        Ok((read(&self.certificate)?, Zeroizing::new(read(&self.key)?), client_ca))
    }

    /// Reads all files. Their contents belong together: the files did not change in between.
    fn read(&self) -> Result<Contents, String> {
        let mut last = self.read_once();
        for _ in 1..READS {
            let next = self.read_once();
            if next == last {
                return next;
            }
            last = next;
        }
        Err("the files change all the time".to_owned())
    }

    /// The pair with these contents. An error names the file, and repeats nothing of a key.
    fn load(&self, (certificate, key, client_ca): &Contents) -> Result<Loaded, String> {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = match self.client_ca.as_deref().zip(client_ca.as_deref()) {
            None => builder.with_no_client_auth(),
            Some((file, pem)) => {
                let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
                let mut roots = RootCertStore::empty();
                for authority in certificates(file, pem)? {
                    roots.add(authority).map_err(|error| told(&error))?;
                }
                let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(clients.build().map_err(|error| told(&error))?)
            }
        };
        let chain = certificates(&self.certificate, certificate)?;
        let period = chain.first().and_then(period_of_der);
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| format!("{}: there is no private key in PEM form", self.key.display()))?;
        let unfit = |error| format!("{} does not fit {}: {error}", self.key.display(), self.certificate.display());
        let config = builder.with_single_cert(chain, key).map_err(unfit)?;
        Ok(Loaded { config: Arc::new(config), period, client_ca: client_ca.as_ref().map(Digest::of) })
    }
}

/// True if a certificate takes the place of the one before. A certificate that is not valid at `now` does not take the
/// place of one that is.
fn replaces(new: Option<Period>, before: Option<Period>, now: Timestamp) -> bool {
    let is_valid = |period: Period| period.contains(now);
    new.is_none_or(is_valid) || !before.is_some_and(is_valid)
}

/// The warning about a certificate that is not valid at `now`, or that ends soon.
fn warning(period: Period, now: Timestamp) -> Option<String> {
    let Period { from, until } = period;
    let renew = "look at the object or program that renews it";
    if now < from {
        return Some(format!("it is valid only from {from}, so callers refuse it; check the clock, or replace it"));
    }
    if now >= until {
        return Some(format!("it has expired at {until}, so callers refuse it; {renew}"));
    }
    period.ends_soon(now).then(|| format!("it expires at {until}, and its renewal is late; {renew}"))
}

/// The certificates in a PEM text.
fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.ok().filter(|read| !read.is_empty());
    read.ok_or_else(|| format!("{}: there is no certificate in PEM form, or one cannot be read", file.display()))
}

/// The certificate that a server presents now. Clones share it.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    /// The name of the port, for messages.
    port: &'static str,
    clock: Arc<dyn Clock>,
    /// The last pair that could be used, or the reason why there was none so far.
    current: watch::Sender<Result<Loaded, String>>,
}

impl Tls {
    /// The certificate of `port` from these files, which [`watch`](Self::watch) reads. `clock` tells if it is valid.
    pub fn new(files: TlsFiles, port: &'static str, clock: Arc<dyn Clock>) -> Self {
        let current = watch::Sender::new(Err(format!("waiting for the certificate of {port}")));
        Self { files: Arc::new(files), port, clock, current }
    }

    /// This certificate, for ever.
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub fn fixed(pair: &KeyedCertificate, port: &'static str, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let files = TlsFiles { certificate: "the certificate".into(), key: "the key".into(), client_ca: None };
        let contents = (pair.certificate.clone().into_bytes(), Zeroizing::new(pair.key.as_bytes().to_vec()), None);
        let current = watch::Sender::new(Ok(files.load(&contents)?));
        Ok(Self { files: Arc::new(files), port, clock, current })
    }

    /// Succeeds once a certificate was loaded, from then on for ever.
    ///
    /// # Errors
    /// No certificate was loaded so far. The text names the file and the reason.
    pub fn missing(&self) -> Result<(), String> {
        self.current.borrow().as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Waits until a certificate was loaded.
    pub async fn loaded(&self) {
        // The sender lives, because this value holds it.
        let _ = self.current.subscribe().wait_for(Result::is_ok).await;
    }

    /// Sets the metric of the end of the certificate in use, if there is one.
    pub fn measure(&self, metrics: &Metrics) {
        if let Some(period) = self.period() {
            metrics.certificate(period.until);
        }
    }

    fn period(&self) -> Option<Period> {
        self.current.borrow().as_ref().ok()?.period
    }

    /// Reads the files every five seconds, for ever. A pair that cannot be used leaves the one before in use. A
    /// certificate that ends soon is logged once a day.
    pub async fn watch(self) {
        let (mut seen, mut daily) = (LastLook::default(), Daily::default());
        loop {
            self.look(&mut seen).await;
            let now = self.clock.now();
            if let Some(why) = self.period().and_then(|period| warning(period, now)).filter(|_| daily.is_due(now)) {
                tracing::warn!(why, "the certificate of {} needs a renewal", self.port);
            }
            sleep(LOOK).await;
        }
    }

    /// Reads the files, and loads them if they differ from those `seen` before, or were put off.
    async fn look(&self, seen: &mut LastLook) {
        let files = self.files.clone();
        let read = spawn_blocking(move || files.read()).await.unwrap_or_else(|error| Err(error.to_string()));
        let digests = |(certificate, key, client_ca): &Contents| {
            (Digest::of(certificate), Digest::of(&**key), client_ca.as_ref().map(Digest::of))
        };
        let look = read.as_ref().map(digests).map_err(Clone::clone);
        let is_known = seen.look.as_ref() == Some(&look);
        if is_known && !seen.is_put_off {
            return;
        }
        seen.look = Some(look);
        let loaded = read.and_then(|contents| self.files.load(&contents));
        let now = self.clock.now();
        seen.is_put_off = loaded.as_ref().is_ok_and(|new| self.puts_off(new, now));
        match loaded {
            Ok(_) if is_known && seen.is_put_off => {}
            Ok(new) if seen.is_put_off => {
                self.refused(&new.period.and_then(|period| warning(period, now)).unwrap_or_default());
                self.admit_by(&new);
            }
            Ok(new) => {
                tracing::info!(certificate = %self.files.certificate.display(), "{} has a new certificate", self.port);
                let _before = self.current.send_replace(Ok(new));
            }
            Err(why) => self.refused(&why),
        }
    }

    /// True if a pair waits, because it is not valid now and the one in use is.
    fn puts_off(&self, new: &Loaded, now: Timestamp) -> bool {
        self.current.borrow().as_ref().is_ok_and(|before| !replaces(new.period, before.period, now))
    }

    /// Admits clients by the CA beside a pair that waits. A CA that was taken out is trusted no more. The pair in use
    /// stays.
    fn admit_by(&self, new: &Loaded) {
        self.current.send_if_modified(|current| {
            let Ok(before) = current else { return false };
            let is_changed = before.client_ca != new.client_ca;
            if is_changed {
                let mut config = ServerConfig::clone(&new.config);
                config.cert_resolver = before.config.cert_resolver.clone();
                *before = Loaded { config: Arc::new(config), period: before.period, client_ca: new.client_ca };
            }
            is_changed
        });
    }

    /// Handles files that cannot be used.
    fn refused(&self, why: &str) {
        if self.current.borrow().is_ok() {
            tracing::warn!(why, "cannot load the changed certificate of {}; the one before stays in use", self.port);
            return;
        }
        tracing::warn!(why, "cannot load the certificate of {}; waiting until its files are complete", self.port);
        let _before = self.current.send_replace(Err(format!("waiting for the certificate of {}: {why}", self.port)));
    }

    /// Waits until other authorities sign clients than at the time of the call. A connection that began before trusts
    /// the former ones.
    pub(super) fn other_clients(&self) -> impl Future<Output = ()> + Send + use<> {
        let of = |current: &Result<Loaded, String>| current.as_ref().ok().and_then(|loaded| loaded.client_ca);
        let mut current = self.current.subscribe();
        let before = of(&current.borrow());
        async move {
            if current.wait_for(|now| of(now) != before).await.is_err() {
                pending().await
            }
        }
    }

    /// The acceptor for the next connection, which may speak one of these protocols. `None` before a certificate was
    /// loaded.
    pub(super) fn acceptor(&self, protocols: Vec<Vec<u8>>) -> Option<TlsAcceptor> {
        let current = self.current.borrow();
        let mut config = ServerConfig::clone(&current.as_ref().ok()?.config);
        config.alpn_protocols = protocols;
        Some(TlsAcceptor::from(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::{
        SystemClock, SystemEntropy,
        server::{self, Port, Refused, Server},
    };
    use axum::{Router, routing::get};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
    use std::{
        env,
        net::SocketAddr,
        os::unix::fs::symlink,
        process,
        sync::{
            Mutex,
            atomic::{AtomicU32, Ordering},
        },
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::{Instant, timeout},
    };
    use tokio_rustls::{
        TlsConnector,
        client::TlsStream,
        rustls::{
            ALL_VERSIONS, ClientConfig, SupportedProtocolVersion,
            pki_types::ServerName,
            version::{TLS12, TLS13},
        },
    };
    use tokio_util::sync::CancellationToken;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A certificate of this authority for `verifier`, and its key.
    fn pair(authority: &Authority) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["verifier".to_owned()]).unwrap();
        (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
    }

    /// A volume that changes as the kubelet changes it: by the swap of a symbolic link to a folder.
    struct Volume(PathBuf);

    impl Volume {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let nth = COUNT.fetch_add(1, Ordering::SeqCst);
            let folder = env::temp_dir().join(format!("tokenry-tls-{}-{nth}", process::id()));
            fs::create_dir_all(&folder).unwrap();
            for name in ["tls.crt", "tls.key", "ca.crt"] {
                symlink(format!("..data/{name}"), folder.join(name)).unwrap();
            }
            Self(folder)
        }

        fn swap(&self, files: &[(&str, &str)]) {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let version = format!("..{}", COUNT.fetch_add(1, Ordering::SeqCst));
            fs::create_dir(self.0.join(&version)).unwrap();
            for (name, text) in files {
                fs::write(self.0.join(&version).join(name), text).unwrap();
            }
            symlink(&version, self.0.join("..data_tmp")).unwrap();
            fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
        }

        fn serves(&self, (certificate, key): &(String, String)) {
            self.swap(&[("tls.crt", certificate), ("tls.key", key)]);
        }

        fn files(&self, client_ca: bool) -> TlsFiles {
            let at = |name| self.0.join(name);
            TlsFiles { certificate: at("tls.crt"), key: at("tls.key"), client_ca: client_ca.then(|| at("ca.crt")) }
        }
    }

    impl Drop for Volume {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// A certificate from these files, and its first look at them.
    async fn looked(files: TlsFiles) -> (Tls, LastLook) {
        looked_by(files, Arc::new(SystemClock)).await
    }

    async fn looked_by(files: TlsFiles, clock: Arc<dyn Clock>) -> (Tls, LastLook) {
        let (tls, mut seen) = (Tls::new(files, "the HTTPS port", clock), LastLook::default());
        tls.look(&mut seen).await;
        (tls, seen)
    }

    async fn served(tls: &Tls) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(Router::new().route("/", get(async || "ok")), Port::Callers, CancellationToken::new());
        tokio::spawn(server.serve(listener, Some(tls.clone())));
        address
    }

    /// A caller that trusts this authority, perhaps with a certificate of its own.
    struct Caller<'a> {
        trusts: &'a Authority,
        versions: &'a [&'static SupportedProtocolVersion],
        alpn: &'a [&'static str],
        pair: Option<(String, String)>,
    }

    impl<'a> Caller<'a> {
        fn of(trusts: &'a Authority) -> Self {
            Self { trusts, versions: ALL_VERSIONS, alpn: &["http/1.1"], pair: None }
        }

        async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
            let mut roots = RootCertStore::empty();
            roots.add(self.trusts.der().clone()).unwrap();
            let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
            let config = config.with_protocol_versions(self.versions).unwrap().with_root_certificates(roots);
            let mut config = match &self.pair {
                None => config.with_no_client_auth(),
                Some((certificate, key)) => {
                    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
                    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                    config.with_client_auth_cert(chain, key).unwrap()
                }
            };
            config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
            let stream = TcpStream::connect(address).await.unwrap();
            TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("verifier").unwrap(), stream).await
        }

        /// The first line of the answer to a request on a connection of its own.
        async fn ask(&self, address: SocketAddr) -> io::Result<String> {
            ask(&mut self.connect(address).await?).await
        }
    }

    async fn ask(stream: &mut TlsStream<TcpStream>) -> io::Result<String> {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: verifier\r\n\r\n").await?;
        let mut answer = vec![0; 1024];
        let read = stream.read(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned())
    }

    const OK: &str = "HTTP/1.1 200 OK";

    /// A clock that a test sets.
    struct Set(Arc<Mutex<Timestamp>>);

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    fn days(count: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + count * 86_400).unwrap()
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_valid_waits_until_it_is_and_the_valid_one_stays_in_use() {
        let (volume, now) = (Volume::new(), Arc::new(Mutex::new(days(1))));
        let signer = KeyedCertificate::authority(&SystemEntropy, period(0, 900)).unwrap();
        let serve = |from, until| {
            let made = signer.sign(&SystemEntropy, &["verifier".to_owned()], period(from, until)).unwrap();
            volume.serves(&(made.certificate, made.key.to_string()));
        };
        serve(0, 90);
        let (tls, mut seen) = looked_by(volume.files(false), Arc::new(Set(now.clone()))).await;
        for (from, until) in [(5, 95), (-9, 0)] {
            serve(from, until);
            tls.look(&mut seen).await;
            assert_eq!(tls.period(), Some(period(0, 90)), "{from} to {until}");
        }
        serve(5, 95);
        tls.look(&mut seen).await;
        assert!(seen.is_put_off);
        *now.lock().unwrap() = days(5);
        tls.look(&mut seen).await;
        assert_eq!((tls.period(), seen.is_put_off), (Some(period(5, 95)), false), "the files are the same");
        // Nothing is better than a certificate that has expired, too.
        *now.lock().unwrap() = days(100);
        serve(5, 96);
        tls.look(&mut seen).await;
        assert_eq!(tls.period(), Some(period(5, 96)));
    }

    #[tokio::test]
    async fn a_ca_of_clients_that_is_replaced_does_not_wait_for_a_valid_certificate_and_lets_none_in_early() {
        let of = |year: i32| format!("{year}-01-01T00:00:00Z").parse::<Timestamp>().unwrap();
        let (volume, now) = (Volume::new(), Arc::new(Mutex::new(of(2022))));
        let [signer, first, second] = [0; 3].map(|_| authority());
        let made = |year| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(["verifier".to_owned()]).unwrap();
            params.not_before = date_time_ymd(year, 1, 1);
            (params.signed_by(&key, &signer).unwrap().pem(), key.serialize_pem())
        };
        // The clock of the test is that of the verifier alone. Callers take both certificates for valid.
        let (early, late) = (made(2020), made(2024));
        let serve = |(certificate, key): &(String, String), ca: &Authority| {
            volume.swap(&[("tls.crt", certificate), ("tls.key", key), ("ca.crt", &ca.pem())]);
        };
        serve(&early, &first);
        let (tls, mut seen) = looked_by(volume.files(true), Arc::new(Set(now.clone()))).await;
        let (address, period) = (served(&tls).await, tls.period());
        let is_let_in = async |ca: &Authority| {
            let caller = Caller { pair: Some(pair(ca)), ..Caller::of(&signer) };
            caller.ask(address).await.is_ok()
        };
        assert!(is_let_in(&first).await && !is_let_in(&second).await);
        serve(&late, &second);
        for _ in 0..2 {
            tls.look(&mut seen).await;
            assert!(seen.is_put_off && tls.period() == period, "the pair waits");
            assert!(!is_let_in(&first).await && is_let_in(&second).await, "the CA does not");
        }
        *now.lock().unwrap() = of(2025);
        tls.look(&mut seen).await;
        assert!(!seen.is_put_off && tls.period() != period);
        assert!(is_let_in(&second).await);
    }

    fn period(from: i64, until: i64) -> Period {
        Period { from: days(from), until: days(until) }
    }

    #[test]
    fn a_certificate_that_ends_soon_has_ended_or_is_not_valid_yet_is_warned_of() {
        let told = |day| warning(period(0, 90), days(day)).map(|why| why.split(" 20").next().unwrap().to_owned());
        for (day, why) in [
            (-1, Some("it is valid only from")),
            (0, None),
            (60, None),
            (61, Some("it expires at")),
            (89, Some("it expires at")),
            (90, Some("it has expired at")),
        ] {
            assert_eq!(told(day).as_deref(), why, "day {day}");
        }
    }

    #[tokio::test]
    async fn both_versions_of_tls_and_both_of_http_are_spoken() {
        let (volume, authority) = (Volume::new(), authority());
        volume.serves(&pair(&authority));
        let address = served(&looked(volume.files(false)).await.0).await;
        for version in [&TLS12, &TLS13] {
            for (alpn, chosen) in
                [(&["h2", "http/1.1"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
            {
                let caller = Caller { versions: &[version], alpn, ..Caller::of(&authority) };
                let mut stream = caller.connect(address).await.unwrap();
                let (_, session) = stream.get_ref();
                assert_eq!((session.alpn_protocol(), session.protocol_version()), (chosen, Some(version.version)));
                if chosen == Some(b"h2") {
                    let (mut sender, connection) =
                        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                            .await
                            .unwrap();
                    tokio::spawn(connection);
                    let request = http::Request::get("https://verifier/").body(String::new()).unwrap();
                    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
                } else {
                    assert_eq!(ask(&mut stream).await.unwrap(), OK);
                }
            }
        }
        assert!(Caller::of(&self::authority()).ask(address).await.is_err(), "another authority is not trusted");
    }

    #[tokio::test]
    async fn a_swapped_pair_serves_new_connections_and_open_ones_go_on() {
        let (volume, [old, new]) = (Volume::new(), [(); 2].map(|()| authority()));
        volume.serves(&pair(&old));
        let (tls, mut seen) = looked(volume.files(false)).await;
        let address = served(&tls).await;
        let mut open = Caller::of(&old).connect(address).await.unwrap();
        assert_eq!(ask(&mut open).await.unwrap(), OK);
        volume.serves(&pair(&new));
        tls.look(&mut seen).await;
        assert_eq!(Caller::of(&new).ask(address).await.unwrap(), OK);
        assert!(Caller::of(&old).ask(address).await.is_err());
        assert_eq!(ask(&mut open).await.unwrap(), OK, "it was open before");
    }

    #[tokio::test]
    async fn a_broken_pair_leaves_the_one_before_in_use_and_names_the_file() {
        let (volume, authority) = (Volume::new(), authority());
        let (good, other) = (pair(&authority), pair(&authority));
        volume.serves(&good);
        let (tls, mut seen) = looked(volume.files(true)).await;
        assert!(tls.missing().unwrap_err().contains("ca.crt: No such file"), "{:?}", tls.missing());
        let (certificate, key, ca) = (&*good.0, &*good.1, &*authority.pem());
        for (files, why) in [
            ([("tls.crt", certificate), ("tls.key", &*other.1), ("ca.crt", ca)], "tls.key does not fit "),
            (
                [("tls.crt", certificate), ("tls.key", "-----BEGIN x"), ("ca.crt", ca)],
                "tls.key: there is no private key",
            ),
            ([("tls.crt", key), ("tls.key", key), ("ca.crt", ca)], "tls.crt: there is no certificate in PEM form"),
            (
                [("tls.crt", certificate), ("tls.key", key), ("ca.crt", "")],
                "ca.crt: there is no certificate in PEM form",
            ),
        ] {
            volume.swap(&files);
            tls.look(&mut seen).await;
            let told = tls.missing().unwrap_err();
            assert!(
                told.starts_with("waiting for the certificate of the HTTPS port: /") && told.contains(why),
                "{told}"
            );
        }
        volume.swap(&[("tls.crt", certificate), ("tls.key", key), ("ca.crt", ca)]);
        tls.look(&mut seen).await;
        assert_eq!(tls.missing(), Ok(()));
        let address = served(&tls).await;
        let caller = Caller { pair: Some(pair(&authority)), ..Caller::of(&authority) };
        for broken in [&[][..], &[("tls.crt", certificate)], &[("tls.crt", certificate), ("tls.key", &*other.1)]] {
            volume.swap(broken);
            tls.look(&mut seen).await;
            assert_eq!((tls.missing(), &*caller.ask(address).await.unwrap()), (Ok(()), OK));
        }
    }

    #[tokio::test]
    async fn with_an_authority_for_clients_a_caller_needs_a_certificate_of_the_one_that_is_there_now() {
        let (volume, server, [first, second]) = (Volume::new(), authority(), [(); 2].map(|()| authority()));
        let (certificate, key) = pair(&server);
        let trusting = |ca: &str| volume.swap(&[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", ca)]);
        trusting(&first.pem());
        let (tls, mut seen) = looked(volume.files(true)).await;
        let address = served(&tls).await;
        let as_client = async |pair| Caller { pair, ..Caller::of(&server) }.ask(address).await.ok();
        let [of_first, of_second] = [&first, &second].map(pair).map(Some);
        assert_eq!(as_client(None).await, None);
        assert_eq!(as_client(of_second.clone()).await, None);
        assert_eq!(as_client(of_first.clone()).await.as_deref(), Some(OK));
        trusting(&(first.pem() + &second.pem()));
        tls.look(&mut seen).await;
        for pair in [&of_first, &of_second] {
            assert_eq!(as_client(pair.clone()).await.as_deref(), Some(OK), "both, for a change of authority");
        }
        trusting(&second.pem());
        tls.look(&mut seen).await;
        assert_eq!(as_client(of_first).await, None);
        assert_eq!(as_client(of_second).await.as_deref(), Some(OK));
    }

    #[tokio::test]
    async fn a_connection_of_a_client_ends_when_other_authorities_sign_clients() {
        let (volume, own, clients) = (Volume::new(), authority(), authority());
        let (certificate, key) = pair(&own);
        let serves = |ca: &str| volume.swap(&[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", ca)]);
        serves(&clients.pem());
        let (tls, mut seen) = looked(volume.files(true)).await;
        let address = served(&tls).await;
        let caller = Caller { pair: Some(pair(&clients)), ..Caller::of(&own) };
        let mut open = caller.connect(address).await.unwrap();
        assert_eq!(ask(&mut open).await.unwrap(), OK);
        volume.swap(&[("tls.crt", &pair(&own).0), ("tls.key", "none"), ("ca.crt", &clients.pem())]);
        tls.look(&mut seen).await;
        assert_eq!(ask(&mut open).await.unwrap(), OK, "the clients' authority is the same");
        serves(&authority().pem());
        tls.look(&mut seen).await;
        let read = timeout(Duration::from_secs(60), open.read(&mut [0; 64])).await.expect("it is closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    #[tokio::test]
    async fn files_that_come_later_are_waited_for_and_a_watch_sees_each_change() {
        let (volume, [old, new]) = (Volume::new(), [(); 2].map(|()| authority()));
        let (tls, _) = looked(volume.files(false)).await;
        let told = tls.missing().unwrap_err();
        assert!(told.contains("tls.crt: No such file or directory"), "{told}");
        let address = served(&tls).await;
        assert!(Caller::of(&old).ask(address).await.is_err(), "a connection without a certificate is closed");
        // Time is paused only now, because paused time runs ahead of the network.
        tokio::time::pause();
        tokio::spawn(tls.clone().watch());
        volume.serves(&pair(&old));
        tls.loaded().await;
        let mut news = tls.current.subscribe();
        volume.serves(&pair(&new));
        news.changed().await.unwrap();
        tokio::time::resume();
        assert_eq!(Caller::of(&new).ask(address).await.unwrap(), OK);
    }

    #[tokio::test]
    async fn a_connection_counts_from_its_beginning_and_one_without_a_handshake_as_refused() {
        let (volume, authority) = (Volume::new(), authority());
        volume.serves(&pair(&authority));
        let address = served(&looked(volume.files(false)).await.0).await;
        let mut all = Vec::new();
        // Other tests of this process have connections too, but not so many.
        for _ in 0..100 {
            all.push(TcpStream::connect(address).await.unwrap());
        }
        while server::open() < 100 {
            tokio::task::yield_now().await;
        }
        let before = Refused::Handshake.count();
        for stream in &mut all {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        }
        while Refused::Handshake.count() < before + 100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_handshake_and_the_first_request_have_ten_seconds_together() {
        let (volume, authority) = (Volume::new(), authority());
        volume.serves(&pair(&authority));
        let address = served(&looked(volume.files(false)).await.0).await;
        // A record of a handshake that is never complete (RFC 8446, section 5.1).
        let half = [22, 3, 1, 2, 0, 1, 0, 1, 252];
        tokio::time::pause();
        for sent in [&[][..], &half] {
            let mut silent = TcpStream::connect(address).await.unwrap();
            silent.write_all(sent).await.unwrap();
            let began = Instant::now();
            let _ = silent.read_to_end(&mut Vec::new()).await;
            assert_eq!(began.elapsed().as_secs(), 10, "{sent:?}");
        }
        tokio::time::resume();
        let mut silent = Caller::of(&authority).connect(address).await.unwrap();
        tokio::time::pause();
        let began = Instant::now();
        let _ = silent.read_to_end(&mut Vec::new()).await;
        assert!((9..=10).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
}
