//! Reads the body of a request, within limits.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request},
};
use http::{StatusCode, header::CONTENT_TYPE};
use tokio::{sync::Semaphore, time::timeout};

/// The longest body that is read, in bytes.
const MAX: usize = 64 * 1024;
/// The longest time that the caller may take to send it. A caller that takes longer would keep a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of bodies that are read at a time. Slow callers keep no more connections than that from others.
const TOGETHER: usize = 64;

/// The places for bodies that are being read.
#[derive(Clone)]
pub(crate) struct BodyPlaces(Arc<Semaphore>);

/// The layer that limits the bodies of a router.
pub(crate) fn limit() -> (DefaultBodyLimit, Extension<BodyPlaces>) {
    (DefaultBodyLimit::max(MAX), Extension(BodyPlaces(Arc::new(Semaphore::new(TOGETHER)))))
}

/// The body of a request with this media type.
///
/// # Errors
/// The request has another media type, or its body is too long, too slow or broken off, or too many bodies are being
/// read. The error says which.
pub(crate) async fn read(request: Request, media_type: &str) -> Result<Bytes, StatusCode> {
    let mut types = request.headers().get_all(CONTENT_TYPE).iter();
    let named = types.next().filter(|_| types.next().is_none()).and_then(|named| named.to_str().ok());
    let bare = named.and_then(|named| named.split(';').next()).unwrap_or_default();
    if !bare.trim().eq_ignore_ascii_case(media_type) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let reading = request.extensions().get::<BodyPlaces>().cloned().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let _place = reading.0.try_acquire().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let body = timeout(PATIENCE, Bytes::from_request(request, &())).await.map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
    body.map_err(|rejected| rejected.status())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, routing::post};
    use futures::stream;
    use tower::ServiceExt;

    fn router() -> Router {
        let read = async |request: Request| match read(request, "application/json").await {
            Ok(body) => (StatusCode::OK, body.len().to_string()),
            Err(status) => (status, String::new()),
        };
        Router::new().route("/", post(read)).layer(limit())
    }

    async fn sent(router: &Router, types: &[&str], body: Body) -> u16 {
        let mut request = Request::post("/");
        for named in types {
            request = request.header(CONTENT_TYPE, *named);
        }
        router.clone().oneshot(request.body(body).unwrap()).await.unwrap().status().as_u16()
    }

    async fn status(types: &[&str], body: Body) -> u16 {
        sent(&router(), types, body).await
    }

    #[tokio::test(start_paused = true)]
    async fn only_some_bodies_are_read_at_a_time() {
        let (router, json) = (router(), ["application/json"]);
        let slow = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let slow = futures::future::join_all((0..TOGETHER).map(|_| sent(&router, &json, slow())));
        let next = async {
            tokio::task::yield_now().await;
            sent(&router, &json, Body::from("x")).await
        };
        let (slow, next) = tokio::join!(slow, next);
        assert_eq!((slow, next), (vec![408; TOGETHER], 503));
        assert_eq!(sent(&router, &json, Body::from("x")).await, 200, "their places are free again");
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
