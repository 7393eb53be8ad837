//! A question to a verifier, as a proxy asks it: by a value that its owner holds.

use std::{fmt::Display, time::Duration};

use axum::body::{Body, to_bytes};
use http::{
    HeaderName, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, HOST},
    uri::Authority,
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{
    greeting::{refused, trusting},
    prober::resolved,
    survey::HttpReply,
};

/// The longest wait for the verdict, unless the user gives another one.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 64 * 1024;

/// The reason why there is no verdict. The text never contains the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVerdict {
    /// The question cannot be asked in this way.
    #[error("{0}")]
    Odd(String),
    /// The verifier does not answer.
    #[error("{0}")]
    Away(String),
}

/// A request that is judged and not made.
#[derive(Clone, Debug)]
pub struct PresentedValue<'a> {
    /// The namespace and the name of the Instance.
    pub instance: (&'a str, &'a str),
    /// The method.
    pub method: &'a str,
    /// The path, with its query.
    pub path: &'a str,
}

/// A verifier, as a user reaches it.
#[derive(Clone, Debug)]
pub struct VerifierAddress<'a> {
    /// The address, such as `http://localhost:8080`.
    pub url: &'a str,
    /// The certificates that sign that of the verifier, as PEM text. HTTPS needs them.
    pub ca: Option<&'a str>,
    /// The name in the certificate of the verifier. Default: the host of the address.
    pub name: Option<&'a str>,
    /// The longest wait for the whole verdict. Default: 10 seconds.
    pub limit: Option<Duration>,
}

/// The verdict of a verifier on a request with `value`. The value is sent to this verifier alone: as a bearer token, or
/// else in the header `api-token`.
///
/// # Errors
/// The address cannot be used, or nobody answers there in time.
pub async fn present(
    verifier: &VerifierAddress<'_>,
    asked: &PresentedValue<'_>,
    value: &str,
) -> Result<HttpReply, NoVerdict> {
    let limit = verifier.limit.unwrap_or(LIMIT);
    let late = |_| NoVerdict::Away(format!("{} does not answer within {} s", verifier.url, limit.as_secs()));
    timeout(limit, presented(verifier, asked, value)).await.map_err(late)?
}

async fn presented(
    verifier: &VerifierAddress<'_>,
    asked: &PresentedValue<'_>,
    value: &str,
) -> Result<HttpReply, NoVerdict> {
    let bearer = ask(verifier, asked, (AUTHORIZATION, &format!("Bearer {value}"))).await?;
    let challenge = bearer.headers.get(http::header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    // Without an error, the Instance has found no credential in this header.
    let is_unseen = bearer.status == 401 && challenge.is_none_or(|challenge| !challenge.contains("error="));
    if is_unseen { ask(verifier, asked, (HeaderName::from_static("api-token"), value)).await } else { Ok(bearer) }
}

async fn ask(
    verifier: &VerifierAddress<'_>,
    asked: &PresentedValue<'_>,
    (header, value): (HeaderName, &str),
) -> Result<HttpReply, NoVerdict> {
    let wrong = || NoVerdict::Odd(format!("{}: give an address such as http://localhost:8080", verifier.url));
    let place: Uri = verifier.url.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let (Some(authority), Some("http" | "https")) = (place.authority(), place.scheme_str()) else {
        return Err(wrong());
    };
    let (namespace, name) = asked.instance;
    let path = format!("{}/v1/instances/{namespace}/{name}/authorize", place.path().trim_end_matches('/'));
    let odd = |_| NoVerdict::Odd("the method, the path or the value has a character that no header can have".into());
    let mut credential = HeaderValue::from_str(value).map_err(odd)?;
    credential.set_sensitive(true);
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.parse().map_err(|_| wrong())?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(odd)?);
    request.headers_mut().insert(header, credential);
    request.headers_mut().insert("x-forwarded-method", HeaderValue::from_str(asked.method).map_err(odd)?);
    request.headers_mut().insert("x-forwarded-uri", HeaderValue::from_str(asked.path).map_err(odd)?);
    sent(verifier, authority, request).await
}

/// Sends a request on a connection of its own.
async fn sent(
    verifier: &VerifierAddress<'_>,
    authority: &Authority,
    request: Request<Body>,
) -> Result<HttpReply, NoVerdict> {
    let away = |why: &dyn Display| NoVerdict::Away(format!("{} does not answer: {why}", verifier.url));
    let is_secure = verifier.url.starts_with("https:");
    let tls = is_secure.then(|| secured(verifier, authority.host())).transpose()?;
    let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let found = resolved(host, port, ()).await.unwrap_or_default();
    if tls.is_none() && !found.iter().all(|address| address.ip().to_canonical().is_loopback()) {
        let told =
            format!("{}: plain HTTP shows the value to the network: give https://, or forward a port", verifier.url);
        return Err(NoVerdict::Odd(told));
    }
    let stream = TcpStream::connect(&*found).await.map_err(|error| away(&error))?;
    let answered = match tls {
        Some((connector, name)) => {
            let stream = connector.connect(name, stream).await.map_err(|error| away(&refused(&error)))?;
            exchanged(stream, request).await
        }
        None => exchanged(stream, request).await,
    };
    answered.map_err(|why| away(&why))
}

/// The connector for HTTPS, and the name that the certificate has to have.
fn secured(verifier: &VerifierAddress<'_>, host: &str) -> Result<(TlsConnector, ServerName<'static>), NoVerdict> {
    let unknown =
        || NoVerdict::Odd(format!("{}: HTTPS needs the CA of the verifier; give --verifier-ca", verifier.url));
    let connector = trusting(verifier.ca.ok_or_else(unknown)?).map_err(NoVerdict::Odd)?;
    let name = verifier.name.unwrap_or(host).to_owned();
    let unnamed = |_| NoVerdict::Odd(format!("{name} is no name that a certificate can have"));
    Ok((connector, ServerName::try_from(name.clone()).map_err(unnamed)?))
}

/// The answer to a request. The connection ends with it.
async fn exchanged(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> Result<HttpReply, String> {
    let told = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    let answered = async move {
        let (parts, body) = sender.send_request(request).await.map_err(told)?.into_parts();
        let bytes = to_bytes(Body::new(body), LONGEST).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(HttpReply { status: parts.status.as_u16(), headers: parts.headers, text })
    };
    // The connection fails with its request, which then says why.
    futures::join!(answered, connection).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncWriteExt, net::TcpListener, time::sleep};

    #[tokio::test]
    async fn an_address_that_cannot_be_asked_is_told_and_no_value_is() {
        let asked = PresentedValue { instance: ("a", "b"), method: "GET", path: "/" };
        let at = |url| VerifierAddress { url, ca: None, name: None, limit: None };
        for odd in ["localhost:8080", "ftp://x", "http://a b", ""] {
            let told = present(&at(odd), &asked, "secret").await.unwrap_err().to_string();
            let advice = "give an address such as http://localhost:8080";
            assert!(told.contains(advice) && !told.contains("secret"), "{told}");
        }
        let told = present(&at("https://x"), &asked, "secret").await.unwrap_err().to_string();
        assert_eq!(told, "https://x: HTTPS needs the CA of the verifier; give --verifier-ca");
        // An address of the documentation, RFC 5737.
        let told = present(&at("http://192.0.2.1:8080"), &asked, "secret").await.unwrap_err().to_string();
        assert!(told.contains("plain HTTP shows the value to the network") && !told.contains("secret"), "{told}");
        let told = present(&at("http://127.0.0.1:1"), &asked, "secret").await.unwrap_err();
        assert!(matches!(told, NoVerdict::Away(_)) && !told.to_string().contains("secret"), "{told}");
    }

    #[tokio::test]
    async fn a_verifier_whose_answer_trickles_has_the_limit_for_the_whole_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut caller, _) = listener.accept().await.unwrap();
            caller.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n").await.unwrap();
            while caller.write_all(b" ").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        });
        let verifier = VerifierAddress { url: &url, ca: None, name: None, limit: Some(Duration::from_secs(1)) };
        let asked = PresentedValue { instance: ("a", "b"), method: "GET", path: "/" };
        let told = present(&verifier, &asked, "secret").await.unwrap_err();
        assert_eq!(told, NoVerdict::Away(format!("{url} does not answer within 1 s")));
    }
}
