//! A question to a verifier, as a proxy asks it: by a value that its owner holds.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{HeaderName, HeaderValue, Request, Uri, header::AUTHORIZATION};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;

use super::survey::HttpReply;

/// The longest wait for the verdict.
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

/// The verdict of the verifier at the address `verifier`, such as `http://localhost:8080`, on a request with `value`.
/// The value is sent to this address alone: as a bearer token, or else in the header `api-token`.
///
/// # Errors
/// The address cannot be used, or nobody answers there.
pub async fn present(verifier: &str, asked: &PresentedValue<'_>, value: &str) -> Result<HttpReply, NoVerdict> {
    let bearer = ask(verifier, asked, (AUTHORIZATION, &format!("Bearer {value}"))).await?;
    let challenge = bearer.headers.get(http::header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    // Without an error, the Instance has found no credential in this header.
    let is_unseen = bearer.status == 401 && challenge.is_none_or(|challenge| !challenge.contains("error="));
    if is_unseen { ask(verifier, asked, (HeaderName::from_static("api-token"), value)).await } else { Ok(bearer) }
}

async fn ask(
    verifier: &str,
    asked: &PresentedValue<'_>,
    (header, value): (HeaderName, &str),
) -> Result<HttpReply, NoVerdict> {
    let wrong = || NoVerdict::Odd(format!("{verifier}: give an address such as http://localhost:8080"));
    let (namespace, name) = asked.instance;
    let address = format!("{}/v1/instances/{namespace}/{name}/authorize", verifier.trim_end_matches('/'));
    let address: Uri = address.parse().map_err(|_| wrong())?;
    if address.scheme_str() != Some("http") {
        return Err(wrong());
    }
    let odd = |_| NoVerdict::Odd("the method, the path or the value has a character that no header can have".into());
    let mut credential = HeaderValue::from_str(value).map_err(odd)?;
    credential.set_sensitive(true);
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = address;
    request.headers_mut().insert(header, credential);
    request.headers_mut().insert("x-forwarded-method", HeaderValue::from_str(asked.method).map_err(odd)?);
    request.headers_mut().insert("x-forwarded-uri", HeaderValue::from_str(asked.path).map_err(odd)?);
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let away = |why: &dyn std::error::Error| NoVerdict::Away(format!("{verifier} does not answer: {why}"));
    let answered = async {
        let (parts, body) = client.request(request).await.map_err(|error| away(&error))?.into_parts();
        let bytes = to_bytes(Body::new(body), LONGEST).await.map_err(|error| away(&error))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(HttpReply { status: parts.status.as_u16(), headers: parts.headers, text })
    };
    let late = |_| NoVerdict::Away(format!("{verifier} does not answer within {} s", LIMIT.as_secs()));
    timeout(LIMIT, answered).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_be_asked_is_told_and_no_value_is() {
        let asked = PresentedValue { instance: ("a", "b"), method: "GET", path: "/" };
        for odd in ["localhost:8080", "https://x", "http://a b"] {
            let told = present(odd, &asked, "secret").await.unwrap_err().to_string();
            assert!(
                told.contains("give an address such as http://localhost:8080") && !told.contains("secret"),
                "{told}"
            );
        }
        let told = present("http://127.0.0.1:1", &asked, "secret").await.unwrap_err();
        assert!(matches!(told, NoVerdict::Away(_)) && !told.to_string().contains("secret"), "{told}");
    }
}
