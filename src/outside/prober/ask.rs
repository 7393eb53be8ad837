//! One probe: look up the name, connect to an address that was checked, and read the head of the answer.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::pin,
    sync::Arc,
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
    sync::OnceCell,
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
use crate::crd::instance::Scheme;

/// The path of a probe. The verifier always answers it with a challenge.
const PATH: &str = "/.tokenry/probe";
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
        let allowed = found.into_iter().filter(|address| !is_barred(address.ip(), self.lenient));
        let allowed: Vec<_> = allowed.take(ADDRESSES).collect();
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

/// The addresses of a name. This is the only look-up of a probe.
async fn resolved(host: &str, port: u16, place: Arc<HeldPlace>) -> Option<Vec<SocketAddr>> {
    let host = host.to_owned();
    let found = spawn_blocking(move || {
        let found = (host, port).to_socket_addrs().ok().map(Iterator::collect);
        drop(place);
        found
    });
    found.await.ok().flatten()
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
    let request = Request::get(PATH).header(HOST, authority(target)).header(USER_AGENT, AGENT);
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
mod tests;
