//! Connections to both ports of a verifier.

use std::{net::SocketAddr, sync::Arc};

use jiff::Timestamp;
use tokenry::outside::{
    SystemEntropy,
    issuer::{KeyedCertificate, Period},
};
use tokio::{
    io::{self, AsyncRead, AsyncWrite},
    net::TcpSocket,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::{
    certificate::Folder,
    harness::{World, clock::hours},
};

/// The addresses from which a flood comes, and from which others come.
pub(super) const FLOOD: &str = "127.0.0.1:0";
pub(super) const OTHERS: &str = "127.0.0.2:0";

/// A way to the verifier.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Plain HTTP.
    Plain,
    /// HTTPS.
    Tls,
    /// The port of HTTPS, without a handshake.
    Unshaken,
}

/// A connection with or without TLS.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

pub(super) type Stream = Box<dyn Duplex>;

/// Both ports of the verifier.
pub(super) struct Ports {
    pub(super) plain: SocketAddr,
    pub(super) secure: SocketAddr,
    pub(super) tls: TlsConnector,
}

impl Ports {
    /// A connection from this address.
    pub(super) async fn connect(&self, way: Way, from: &str) -> io::Result<Stream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(from.parse().unwrap())?;
        Ok(match way {
            Way::Plain => Box::new(socket.connect(self.plain).await?),
            Way::Unshaken => Box::new(socket.connect(self.secure).await?),
            Way::Tls => Box::new(self.tls.connect(name(), socket.connect(self.secure).await?).await?),
        })
    }
}

/// The name of the verifier in its certificate.
pub(super) fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// The files of a certificate, and clients that trust it.
pub(super) fn certified(world: &World) -> (Folder, TlsConnector) {
    let now = Timestamp::now();
    let period = Period { from: now - hours(1), until: now + hours(24) };
    let authority = KeyedCertificate::authority(&SystemEntropy, period).unwrap();
    let folder = Folder::of(world);
    folder.write(&authority.sign(&SystemEntropy, &["localhost".to_owned()], period).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    (folder, TlsConnector::from(Arc::new(config.with_no_client_auth())))
}
