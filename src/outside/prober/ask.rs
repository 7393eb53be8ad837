//! One probe: look up the name, connect to an address that was checked, and read the head of the answer.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::pin,
    sync::Arc,
    thread,
    time::Duration,
};

use futures::future::{Either, select};
use http::{
    Request, StatusCode,
    header::{HOST, USER_AGENT, WWW_AUTHENTICATE},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    sync::{OnceCell, oneshot},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    },
};

use super::{HeldPlace, ProbeAnswer, ProbeReach, ProbeTarget, barred::is_barred, challenge::has_realm};
use crate::crd::{guarding::PROBE, instance::Scheme};

const AGENT: &str = "tokenry-probe";
/// Maximum number of bytes that are read of an answer.
const HEAD: usize = 16 * 1024;
/// Maximum number of addresses of a name that are tried.
const ADDRESSES: usize = 4;
/// The shortest and the longest time for a probe.
const LIMITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));

/// Asks targets.
pub(super) struct Asker {
    /// True if loopback and link-local addresses may be asked.
    lenient: bool,
    /// The roots of the system. They are read once, by the first probe that needs them.
    roots: OnceCell<Arc<RootCertStore>>,
}

impl Asker {
    pub(super) fn new(lenient: bool) -> Self {
        Self { lenient, roots: OnceCell::new() }
    }

    /// Asks `target` once, within its timeout. A look-up that takes longer holds `place` until it ends.
    pub(super) async fn ask(&self, target: &ProbeTarget, place: Arc<HeldPlace>) -> ProbeAnswer {
        let end = Instant::now() + target.timeout.unsigned_abs().clamp(LIMITS.0, LIMITS.1);
        self.probe(target, place, end).await.unwrap_or_else(|failure| failure)
    }

    async fn probe(
        &self,
        target: &ProbeTarget,
        place: Arc<HeldPlace>,
        end: Instant,
    ) -> Result<ProbeAnswer, ProbeAnswer> {
        let host = bare(&target.host);
        let found = timeout_at(end, resolved(host, target.port, place)).await.ok().flatten();
        let found = found.filter(|found| !found.is_empty()).ok_or(ProbeAnswer::Dns)?;
        let allowed = allowed(found, self.lenient);
        if allowed.is_empty() {
            return Err(ProbeAnswer::Barred);
        }
        let stream = connected(&allowed, end).await.ok_or(ProbeAnswer::Connect)?;
        let head = match target.scheme {
            Scheme::Http => timeout_at(end, head(stream, target)).await,
            Scheme::Https => {
                let name = ServerName::try_from(host.to_owned()).map_err(|_| ProbeAnswer::Tls)?;
                let config = self.config(target).await.map_err(|_| ProbeAnswer::Tls)?;
                let shaken = timeout_at(end, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
                let stream = shaken.map_err(io::Error::other).flatten().map_err(|_| ProbeAnswer::Tls)?;
                timeout_at(end, head(stream, target)).await
            }
        };
        head.ok().flatten().ok_or(ProbeAnswer::Silent)
    }

    /// The rules for the handshake. No session is kept for a later one.
    async fn config(&self, target: &ProbeTarget) -> Result<ClientConfig, Error> {
        let provider = Arc::new(default_provider());
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match target.reach {
            ProbeReach::Published => builder.with_root_certificates(self.roots(target.ca.as_deref()).await),
            ProbeReach::Inside => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(schemes)))
            }
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// The roots of the system, and those of `ca`. Certificates that cannot be read are left out.
    async fn roots(&self, ca: Option<&str>) -> Arc<RootCertStore> {
        let system = self.roots.get_or_init(system_roots).await;
        let Some(ca) = ca else { return system.clone() };
        let mut roots = RootCertStore::clone(system);
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca.as_bytes()).map_while(Result::ok));
        Arc::new(roots)
    }
}

async fn system_roots() -> Arc<RootCertStore> {
    let read = spawn_blocking(|| rustls_native_certs::load_native_certs().certs).await;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read.unwrap_or_default());
    if roots.is_empty() {
        tracing::warn!("the system has no root certificates: probes of published endpoints trust no certificate");
    }
    Arc::new(roots)
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The value of the header `Host`, as a URI would give it.
fn authority(target: &ProbeTarget) -> String {
    let host = bare(&target.host);
    let host = if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) { format!("[{host}]") } else { host.to_owned() };
    let is_default = i32::from(target.port) == target.scheme.default_port();
    if is_default { host } else { format!("{host}:{}", target.port) }
}

/// The addresses of a name. This is the only look-up of a probe. `held` is dropped at its end.
///
/// The look-up has a thread of its own, which nothing joins. At its shutdown, a runtime waits for its own threads, and
/// a look-up can hang for a minute.
pub(in crate::outside) async fn resolved(host: &str, port: u16, held: impl Send + 'static) -> Option<Vec<SocketAddr>> {
    let (host, (tell, hear)) = (host.to_owned(), oneshot::channel());
    let look_up = move || {
        let found = (host, port).to_socket_addrs().ok().map(Iterator::collect);
        drop(held);
        // The probe may have ended.
        let _ = tell.send(found);
    };
    thread::Builder::new().name("look-up".into()).spawn(look_up).ok()?;
    hear.await.ok().flatten()
}

/// The addresses that may be asked, at most [`ADDRESSES`].
fn allowed(found: Vec<SocketAddr>, lenient: bool) -> Vec<SocketAddr> {
    found.into_iter().filter(|address| !is_barred(address.ip(), lenient)).take(ADDRESSES).collect()
}

/// A connection to the first address that takes one. Each has its share of the time that is left.
async fn connected(addresses: &[SocketAddr], end: Instant) -> Option<TcpStream> {
    for (nth, address) in addresses.iter().enumerate() {
        let (now, left) = (Instant::now(), (addresses.len() - nth).try_into().unwrap_or(1));
        let share = end.saturating_duration_since(now) / left;
        if let Ok(Ok(stream)) = timeout_at(now + share, TcpStream::connect(address)).await {
            return Some(stream);
        }
    }
    None
}

/// Sends the request and reads the head of the answer. `None` if it is no HTTP, or too long.
async fn head(stream: impl AsyncRead + AsyncWrite + Send, target: &ProbeTarget) -> Option<ProbeAnswer> {
    let request = Request::get(PROBE).header(HOST, authority(target)).header(USER_AGENT, AGENT);
    let request = request.body(String::new()).ok()?;
    let (read, write) = tokio::io::split(stream);
    let bounded = pin!(tokio::io::join(read.take(HEAD as u64), write));
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(bounded)).await.ok()?;
    let answer = match select(pin!(sender.send_request(request)), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    };
    let answer = answer.ok()?;
    let mut challenges = answer.headers().get_all(WWW_AUTHENTICATE).iter();
    let status = answer.status();
    let is_ours = status == StatusCode::UNAUTHORIZED
        && challenges.any(|challenge| has_realm(challenge.as_bytes(), &target.realm));
    Some(if is_ours { ProbeAnswer::Challenge } else { ProbeAnswer::Status(status.as_u16()) })
}

/// Accepts every certificate. A probe carries no secret, and the certificate of a Service is rarely one that others
/// trust.
#[derive(Debug)]
struct AnyCertificate(Vec<SignatureScheme>);

impl ServerCertVerifier for AnyCertificate {
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
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::prober::tests::target;
    use futures::future::pending;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };
    use tokio::{io::AsyncWriteExt, net::TcpListener, time::sleep};
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, pki_types::PrivateKeyDer},
    };

    const OURS: &str = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"tokenry/shop/eem\"\r\n\
        content-length: 0\r\n\r\n";

    async fn asked(lenient: bool, target: &ProbeTarget) -> ProbeAnswer {
        let place = HeldPlace { board: Arc::default(), namespace: "shop".into() };
        Asker::new(lenient).ask(target, Arc::new(place)).await
    }

    /// Reads the head of a request, and sends `answer`. The connection stays open.
    async fn reply(mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, answer: &[u8]) -> Vec<u8> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return request,
            }
        }
        // The prober may have gone.
        let _ = stream.write_all(answer).await;
        let _ = stream.flush().await;
        tokio::spawn(async move {
            let _stream = stream;
            pending::<()>().await;
        });
        request
    }

    /// A server that gives each request the same answer. It keeps the requests.
    async fn server(answer: impl Into<Vec<u8>>) -> (u16, Arc<Mutex<Vec<String>>>) {
        let (listener, answer) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), answer.into());
        let (port, requests) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let kept = requests.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let request = reply(stream, &answer).await;
                kept.lock().unwrap().push(String::from_utf8(request).unwrap());
            }
        });
        (port, requests)
    }

    /// A server that does `act` with each connection. It counts them.
    async fn acting<F>(act: impl Fn(TcpStream) -> F + Send + 'static) -> (u16, Arc<AtomicUsize>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counted = count.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(act(stream));
            }
        });
        (port, count)
    }

    fn http(port: u16) -> ProbeTarget {
        ProbeTarget { scheme: Scheme::Http, port, ..target("127.0.0.1") }
    }

    /// A target that does not answer in time. The time is short, as it passes.
    fn slow(port: u16) -> ProbeTarget {
        ProbeTarget { timeout: jiff::SignedDuration::from_millis(300), ..http(port) }
    }

    #[tokio::test]
    async fn a_probe_carries_no_credential_and_names_the_host_as_its_uri_does() {
        let (port, requests) = server(OURS).await;
        for host in ["127.0.0.1", "localhost"] {
            let target = ProbeTarget { host: host.into(), ..http(port) };
            assert_eq!(asked(true, &target).await, ProbeAnswer::Challenge);
            let request = requests.lock().unwrap().pop().unwrap();
            let told =
                format!("GET /.tokenry/probe HTTP/1.1\r\nhost: {host}:{port}\r\nuser-agent: tokenry-probe\r\n\r\n");
            assert_eq!(request, told);
        }
    }

    #[test]
    fn a_default_port_is_left_out_and_an_ipv6_address_has_brackets() {
        for (scheme, host, port, told) in [
            (Scheme::Https, "a.example.com", 443, "a.example.com"),
            (Scheme::Https, "a.example.com", 80, "a.example.com:80"),
            (Scheme::Http, "a.example.com", 80, "a.example.com"),
            (Scheme::Http, "2001:db8::1", 80, "[2001:db8::1]"),
            (Scheme::Https, "[2001:db8::1]", 8443, "[2001:db8::1]:8443"),
        ] {
            assert_eq!(authority(&ProbeTarget { scheme, port, ..target(host) }), told);
        }
    }

    #[tokio::test]
    async fn only_a_401_with_our_realm_is_our_challenge() {
        let of = |status: &str, headers: &str| format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\n\r\n");
        let ours = "WWW-Authenticate: Bearer realm=\"tokenry/shop/eem\"\r\n";
        let basic = "www-authenticate: Basic realm=\"x\", Digest realm=\"y\"\r\n";
        let split = "www-authenticate: Bearer\r\nwww-authenticate: realm=\"tokenry/shop/eem\"\r\n";
        let spoofed = "www-authenticate: Bearer error=\"realm=\\\"tokenry/shop/eem\\\"\"\r\n";
        for (answer, wanted) in [
            (of("401 Unauthorized", ours), ProbeAnswer::Challenge),
            (of("401 Unauthorized", &format!("{basic}{ours}")), ProbeAnswer::Challenge),
            (of("401 Unauthorized", &format!("{ours}{basic}")), ProbeAnswer::Challenge),
            (format!("HTTP/1.1 103 Early Hints\r\n\r\n{OURS}"), ProbeAnswer::Challenge),
            (of("401 Unauthorized", basic), ProbeAnswer::Status(401)),
            (of("401 Unauthorized", ""), ProbeAnswer::Status(401)),
            // A challenge is within one header.
            (of("401 Unauthorized", split), ProbeAnswer::Status(401)),
            (of("401 Unauthorized", spoofed), ProbeAnswer::Status(401)),
            (
                of("401 Unauthorized", "www-authenticate: Bearer realm=\"tokenry/shop/other\"\r\n"),
                ProbeAnswer::Status(401),
            ),
            (of("407 Proxy Authentication Required", ours), ProbeAnswer::Status(407)),
            (of("403 Forbidden", ours), ProbeAnswer::Status(403)),
            (of("200 OK", ours), ProbeAnswer::Status(200)),
            (of("503 Service Unavailable", ""), ProbeAnswer::Status(503)),
        ] {
            let (port, _) = server(answer.clone()).await;
            assert_eq!(asked(true, &http(port)).await, wanted, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (elsewhere, requests) = server(OURS).await;
        for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
            let location = format!("location: http://127.0.0.1:{elsewhere}/.tokenry/probe");
            let (port, _) = server(format!("HTTP/1.1 {status}\r\n{location}\r\ncontent-length: 0\r\n\r\n")).await;
            let code = status[..3].parse().unwrap();
            assert_eq!(asked(true, &http(port)).await, ProbeAnswer::Status(code));
        }
        assert!(requests.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_near_address_is_not_connected_to_without_the_flag() {
        let (port, count) = acting(async |stream| drop(reply(stream, OURS.as_bytes()).await)).await;
        for host in
            ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "::1", "[::ffff:127.0.0.1]"]
        {
            let target = ProbeTarget { host: host.into(), ..http(port) };
            assert_eq!(asked(false, &target).await, ProbeAnswer::Barred, "{host}");
        }
        for host in ["169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "0.0.0.0", "[::]", "0"] {
            let target = ProbeTarget { host: host.into(), ..http(port) };
            assert_eq!(asked(true, &target).await, ProbeAnswer::Barred, "{host}");
        }
        assert_eq!(count.load(Ordering::SeqCst), 0);
        assert_eq!(asked(true, &http(port)).await, ProbeAnswer::Challenge);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_barred_address_is_left_out_among_others() {
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 443);
        let found = ["169.254.169.254", "192.0.2.1", "::1", "127.0.0.1", "2001:db8::1"].map(at).to_vec();
        assert_eq!(allowed(found.clone(), false), ["192.0.2.1", "2001:db8::1"].map(at));
        assert_eq!(allowed(found, true), ["192.0.2.1", "::1", "127.0.0.1", "2001:db8::1"].map(at));
        let many = (1..=9).map(|nth| at(&format!("192.0.2.{nth}"))).collect();
        assert_eq!(allowed(many, false).len(), ADDRESSES);
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_a_fault_of_the_dns() {
        for host in
            ["a..b", "nobody.invalid", "", "a b", "a\r\nx: y", "user@localhost", "localhost/x", "*.localhost:80"]
        {
            assert_eq!(asked(true, &ProbeTarget { host: host.into(), ..http(80) }).await, ProbeAnswer::Dns, "{host:?}");
        }
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_takes_no_connection() {
        let (port, _) = server(OURS).await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(asked(true, &http(closed.port())).await, ProbeAnswer::Connect);
        let end = Instant::now() + Duration::from_secs(60);
        let stream = connected(&[closed, SocketAddr::from(([127, 0, 0, 1], port))], end).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
        assert!(connected(&[closed], end).await.is_none());
    }

    #[tokio::test]
    async fn an_answer_that_is_no_http_or_too_long_or_late_is_silence() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(2 * HEAD));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(HEAD / 6 + 100));
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(HEAD);
        for answer in ["SSH-2.0-OpenSSH_9.2\r\n", "hello\r\n\r\n", &long, &many, &hints] {
            let (port, _) = server(answer).await;
            assert_eq!(asked(true, &http(port)).await, ProbeAnswer::Silent, "{}", &answer[..20.min(answer.len())]);
        }
        let (port, _) = acting(async |stream| drop(stream)).await;
        assert_eq!(asked(true, &http(port)).await, ProbeAnswer::Silent, "closes");
        let (port, _) = server("HTTP/1.1 401 Unauth").await;
        assert_eq!(asked(true, &slow(port)).await, ProbeAnswer::Silent, "stops within the head");
        let (port, _) = acting(async |stream| {
            let _stream = stream;
            pending().await
        })
        .await;
        assert_eq!(asked(true, &slow(port)).await, ProbeAnswer::Silent, "never answers");
        let (port, _) = acting(async |mut stream| {
            while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_eq!(asked(true, &slow(port)).await, ProbeAnswer::Silent, "goes on without an end");
    }

    #[tokio::test]
    async fn a_body_is_not_read() {
        let (written, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
        let (counted, ended) = (written.clone(), seen.clone());
        let (port, _) = acting(move |mut stream| {
            let (counted, ended) = (counted.clone(), ended.clone());
            async move {
                let head = OURS.replace("content-length: 0", "content-length: 1000000000");
                stream.write_all(head.as_bytes()).await.unwrap();
                while let Ok(count) = stream.write(&[b'x'; 4096]).await {
                    counted.fetch_add(count, Ordering::SeqCst);
                }
                ended.notify_one();
            }
        })
        .await;
        assert_eq!(asked(true, &http(port)).await, ProbeAnswer::Challenge);
        // The connection is closed, although the body has not ended.
        seen.notified().await;
        assert!(written.load(Ordering::SeqCst) < 1_000_000_000);
    }

    /// A certificate authority, and a server whose certificate is for `name` and ends in `year`.
    async fn secure(name: &str, year: i32) -> (u16, Arc<str>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let acceptor =
            TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()));
        let (port, _) = acting(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    reply(stream, OURS.as_bytes()).await;
                }
            }
        })
        .await;
        (port, ca.pem().into())
    }

    fn https(host: &str, port: u16, ca: Option<&Arc<str>>) -> ProbeTarget {
        ProbeTarget { port, ca: ca.cloned(), ..target(host) }
    }

    #[tokio::test]
    async fn the_certificate_of_a_published_endpoint_is_verified() {
        let (port, ca) = secure("localhost", 4000).await;
        let (expired, ca_of_expired) = secure("localhost", 2020).await;
        assert_eq!(asked(true, &https("localhost", port, Some(&ca))).await, ProbeAnswer::Challenge);
        let bundle: Arc<str> = format!("# two roots\n{ca_of_expired}\n{ca}").into();
        assert_eq!(asked(true, &https("localhost", port, Some(&bundle))).await, ProbeAnswer::Challenge);
        for (target, why) in [
            (https("localhost", port, None), "the system does not trust it"),
            (https("localhost", port, Some(&ca_of_expired)), "another authority signed it"),
            (https("localhost", port, Some(&"no certificate".into())), "no root is given"),
            (https("127.0.0.1", port, Some(&ca)), "it is for another name"),
            (https("localhost", expired, Some(&ca_of_expired)), "it has expired"),
        ] {
            assert_eq!(asked(true, &target).await, ProbeAnswer::Tls, "{why}");
        }
    }

    #[tokio::test]
    async fn the_certificate_of_a_service_is_not_verified() {
        let (port, _) = secure("elsewhere.example.com", 2020).await;
        let inside = ProbeTarget { reach: ProbeReach::Inside, ..https("127.0.0.1", port, None) };
        assert_eq!(asked(true, &inside).await, ProbeAnswer::Challenge);
        let published = ProbeTarget { reach: ProbeReach::Published, ..inside };
        assert_eq!(asked(true, &published).await, ProbeAnswer::Tls);
    }

    #[tokio::test]
    async fn a_server_without_tls_is_a_fault_of_tls() {
        let (port, _) = acting(async |mut stream| drop(stream.write_all(OURS.as_bytes()).await)).await;
        assert_eq!(asked(true, &https("localhost", port, None)).await, ProbeAnswer::Tls);
        let (port, _) = acting(async |stream| {
            let _stream = stream;
            pending().await
        })
        .await;
        let never = ProbeTarget { scheme: Scheme::Https, ..slow(port) };
        assert_eq!(asked(true, &never).await, ProbeAnswer::Tls, "no handshake in time");
        let (port, _) = secure("localhost", 4000).await;
        assert_eq!(asked(true, &http(port)).await, ProbeAnswer::Silent, "TLS where HTTP is asked");
    }
}
