//! Reads the body of a request, within limits.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Body, Bytes, to_bytes},
    extract::{DefaultBodyLimit, FromRequest, Request},
};
use http::{Extensions, StatusCode, header::CONTENT_TYPE, request::Parts};
use tokio::time::timeout;

use crate::outside::{
    crowd::{Crowd, Seat},
    server::PeerAddress,
};

/// The longest body that is read, in bytes.
const MAX: usize = 64 * 1024;
/// The longest time that the caller may take to send it. A caller that takes longer would keep a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// The numbers of bodies that are read at a time: of one caller, and of all. A slow caller takes no place from others,
/// and slow callers keep no more connections than that from others.
const EACH: usize = 64;
const ALL: usize = 256;

/// The places for bodies that are being read, counted by the address of the caller.
#[derive(Clone)]
pub(crate) struct BodyPlaces(Arc<Crowd<Option<PeerAddress>>>);

impl BodyPlaces {
    /// Takes a place for the body of a request.
    fn take(of: &Extensions) -> Result<Seat<Option<PeerAddress>>, StatusCode> {
        let seat = of.get::<Self>().and_then(|places| places.0.take(of.get::<PeerAddress>().copied()));
        seat.ok_or(StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// The layer that limits the bodies of a router.
pub(crate) fn limit() -> (DefaultBodyLimit, Extension<BodyPlaces>) {
    (DefaultBodyLimit::max(MAX), Extension(BodyPlaces(Arc::new(Crowd::new(EACH, ALL)))))
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
    let _seat = BodyPlaces::take(request.extensions())?;
    let body = timeout(PATIENCE, Bytes::from_request(request, &())).await.map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
    body.map_err(|rejected| rejected.status())
}

/// The whole body of a request of another form, with at most `most` bytes. `parts` are the rest of the request.
///
/// # Errors
/// The body is too long, too slow or broken off, or too many bodies are being read. The error says which.
pub(crate) async fn whole(parts: &Parts, body: Body, most: usize) -> Result<Bytes, StatusCode> {
    let _seat = BodyPlaces::take(&parts.extensions)?;
    let read = timeout(PATIENCE, to_bytes(body, most)).await.map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
    read.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::post};
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
        let slow = futures::future::join_all((0..EACH).map(|_| sent(&router, &json, slow())));
        let next = async {
            tokio::task::yield_now().await;
            sent(&router, &json, Body::from("x")).await
        };
        let (slow, next) = tokio::join!(slow, next);
        assert_eq!((slow, next), (vec![408; EACH], 503));
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
