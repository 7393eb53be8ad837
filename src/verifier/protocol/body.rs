//! Reads the body of a request, within limits.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request},
};
use http::{StatusCode, header::CONTENT_TYPE};
use tokio::time::timeout;

/// The longest body that is read, in bytes.
const MAX: usize = 64 * 1024;
/// The longest time that the caller may take to send it. A caller that takes longer would keep a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The layer that limits the bodies of a router.
pub(crate) fn limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX)
}

/// The body of a request with this media type.
///
/// # Errors
/// The request has another media type, or its body is too long, too slow or broken off. The error says which.
pub(crate) async fn read(request: Request, media_type: &str) -> Result<Bytes, StatusCode> {
    let mut types = request.headers().get_all(CONTENT_TYPE).iter();
    let named = types.next().filter(|_| types.next().is_none()).and_then(|named| named.to_str().ok());
    let bare = named.and_then(|named| named.split(';').next()).unwrap_or_default();
    if !bare.trim().eq_ignore_ascii_case(media_type) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let body = timeout(PATIENCE, Bytes::from_request(request, &())).await.map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
    body.map_err(|rejected| rejected.status())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, routing::post};
    use futures::stream;
    use tower::ServiceExt;

    async fn status(types: &[&str], body: Body) -> u16 {
        let read = async |request: Request| match read(request, "application/json").await {
            Ok(body) => (StatusCode::OK, body.len().to_string()),
            Err(status) => (status, String::new()),
        };
        let mut request = Request::post("/");
        for named in types {
            request = request.header(CONTENT_TYPE, *named);
        }
        let router: Router = Router::new().route("/", post(read)).layer(limit());
        router.oneshot(request.body(body).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_another_type_or_that_is_too_long_or_too_slow_is_refused() {
        const JSON: &str = "application/json";
        let body = |length: usize| Body::from(vec![b' '; length]);
        for named in [JSON, "Application/JSON; charset=utf-8"] {
            assert_eq!(status(&[named], body(MAX)).await, 200, "{named}");
        }
        for types in [&[][..], &["text/plain"], &["application/jsonp"], &[JSON, JSON]] {
            assert_eq!(status(types, body(1)).await, 415, "{types:?}");
        }
        assert_eq!(status(&[JSON], body(MAX + 1)).await, 413);
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 1024])));
        assert_eq!(status(&[JSON], Body::from_stream(endless)).await, 413);
        assert_eq!(status(&[JSON], Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())).await, 408);
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("broken off"))]);
        assert_eq!(status(&[JSON], Body::from_stream(broken)).await, 400);
    }
}
