//! Tries the certificate of a server: one TLS handshake, without a request.

use std::{fmt::Display, io, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, CertificateError, ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::prober::resolved;

/// Time limit for the look-up, the connection and the handshake.
const LIMIT: Duration = Duration::from_secs(3);

/// Succeeds if the server at `authority`, a host and a port, has a certificate for that host. One of the certificates
/// in the PEM text `ca` has to have signed it. No other root is trusted.
///
/// # Errors
/// The server was not reached, or its certificate is not trusted. The text has the reason.
pub async fn greets(authority: &str, ca: &str) -> Result<(), String> {
    let (host, port) = authority.rsplit_once(':').ok_or("the address has no port")?;
    let (port, end) = (port.parse().map_err(told)?, Instant::now() + LIMIT);
    let connector = trusting(ca)?;
    let name = ServerName::try_from(host.to_owned()).map_err(told)?;
    let found = timeout_at(end, resolved(host, port, ())).await.ok().flatten().unwrap_or_default();
    let address = *found.first().ok_or("its name has no address")?;
    let greeted = async {
        let stream = TcpStream::connect(address).await?;
        connector.connect(name, stream).await
    };
    let greeted = timeout_at(end, greeted).await.map_err(|_| "no answer within 3 s")?;
    greeted.map(drop).map_err(|error| refused(&error))
}

/// A connector that trusts the certificates in the PEM text `ca`, and no others.
pub(super) fn trusting(ca: &str) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca.as_bytes()).map_while(Result::ok));
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(told)?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

/// The reason for a failed handshake. It stays the same from one try to the next: the library's text for a certificate
/// out of its time counts the seconds.
pub(super) fn refused(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(rustls::Error::InvalidCertificate(fault)) = inner else { return told(error) };
    if matches!(fault, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
        return "its certificate has expired".to_owned();
    }
    if matches!(fault, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) {
        return "its certificate is not valid yet".to_owned();
    }
    told(error)
}

fn told(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::{
        SystemEntropy, TlsFiles,
        clock::{Clock, SystemClock},
        issuer::{KeyedCertificate, Period},
        server::{Port, Server},
        tls::Tls,
    };
    use jiff::SignedDuration;
    use std::{env, fs, net::SocketAddr, process};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    fn authority() -> KeyedCertificate {
        let (now, hour) = (SystemClock.now(), SignedDuration::from_hours(1));
        KeyedCertificate::authority(&SystemEntropy, Period { from: now - hour, until: now + hour }).unwrap()
    }

    /// A server with a certificate of `authority` for this name.
    async fn served(authority: &KeyedCertificate, name: &str) -> SocketAddr {
        let (now, hour) = (SystemClock.now(), SignedDuration::from_hours(1));
        served_in(authority, name, Period { from: now - hour, until: now + hour }).await
    }

    /// A server with a certificate of `authority` for this name, valid in this period.
    async fn served_in(authority: &KeyedCertificate, name: &str, period: Period) -> SocketAddr {
        let pair = authority.sign(&SystemEntropy, &[name.to_owned()], period).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let folder = env::temp_dir().join(format!("tokenry-greeting-{}-{}", process::id(), address.port()));
        fs::create_dir_all(&folder).unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|file| folder.join(file));
        fs::write(&certificate, &pair.certificate).unwrap();
        fs::write(&key, &*pair.key).unwrap();
        let tls = Tls::new(TlsFiles { certificate, key, client_ca: None }, "the HTTPS port", Arc::new(SystemClock));
        let watched = tls.clone();
        tokio::spawn(async move { watched.watch().await });
        tls.loaded().await;
        fs::remove_dir_all(&folder).unwrap();
        let server = Server::new(axum::Router::new(), Port::Callers, CancellationToken::new());
        tokio::spawn(server.serve(listener, Some(tls)));
        address
    }

    #[tokio::test]
    async fn a_certificate_has_to_be_for_the_host_and_by_the_ca() {
        let (trusted, other) = (authority(), authority());
        let at = served(&trusted, "127.0.0.1").await.to_string();
        assert_eq!(greets(&at, &trusted.certificate).await, Ok(()));
        assert_eq!(greets(&at, &format!("{}{}", other.certificate, trusted.certificate)).await, Ok(()));
        let unknown = greets(&at, &other.certificate).await.unwrap_err();
        assert!(unknown.contains("UnknownIssuer"), "{unknown}");
        let unnamed = served(&trusted, "verifier").await.to_string();
        let unnamed = greets(&unnamed, &trusted.certificate).await.unwrap_err();
        assert!(unnamed.contains("not valid for"), "{unnamed}");
    }

    #[tokio::test]
    async fn a_certificate_out_of_its_time_is_told_in_the_same_words_each_time() {
        let (trusted, now, hour) = (authority(), SystemClock.now(), SignedDuration::from_hours(1));
        for (from, until, told) in
            [(now - hour * 2, now - hour, "has expired"), (now + hour, now + hour * 2, "is not valid yet")]
        {
            let at = served_in(&trusted, "127.0.0.1", Period { from, until }).await.to_string();
            assert_eq!(greets(&at, &trusted.certificate).await, Err(format!("its certificate {told}")));
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told() {
        let trusted = authority().certificate;
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        assert!(greets(&free, &trusted).await.unwrap_err().contains("refused"));
        assert_eq!(greets("127.0.0.1", &trusted).await, Err("the address has no port".to_owned()));
    }
}
