//! Reads the body of a request, within limits.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Request,
};
use futures::StreamExt;
use http::{Method, header::CONTENT_TYPE, request::Parts};
use tokio::time::timeout;

use super::super::{Cause, Flaw};
use super::places::BodyPlaces;

/// The longest body that is read, in bytes.
const MAX: usize = 64 * 1024;
/// The longest time that the caller may take to send it. A caller that takes longer would keep a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// The body of a POST with this media type.
///
/// # Errors
/// The request has another method or media type. Or its body is too long, too slow or broken off, or too many bodies
/// are being read.
pub(crate) async fn read(request: Request, media_type: &str) -> Result<Bytes, Cause> {
    let (parts, body) = request.into_parts();
    let mut types = parts.headers.get_all(CONTENT_TYPE).iter();
    let named = types.next().filter(|_| types.next().is_none()).and_then(|named| named.to_str().ok());
    let bare = named.and_then(|named| named.split(';').next()).unwrap_or_default();
    whole(&parts, body, bare.trim().eq_ignore_ascii_case(media_type), MAX).await
}

/// The body of a POST, with at most `most` bytes. `is_typed`: its media type is that of the protocol.
///
/// # Errors
/// As above.
pub(crate) async fn whole(parts: &Parts, body: Body, is_typed: bool, most: usize) -> Result<Bytes, Cause> {
    if parts.method != Method::POST {
        return Err(Flaw::MethodUnsupported.into());
    }
    if !is_typed {
        return Err(Flaw::TypeUnsupported.into());
    }
    let _seat = BodyPlaces::take(&parts.extensions)?;
    timeout(PATIENCE, gathered(body, most)).await.unwrap_or(Err(Flaw::TooSlow)).map_err(Cause::from)
}

/// All bytes of a body.
async fn gathered(body: Body, most: usize) -> Result<Bytes, Flaw> {
    let (mut chunks, mut all) = (body.into_data_stream(), Vec::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Flaw::Unreadable)?;
        if all.len() + chunk.len() > most {
            return Err(Flaw::TooLong);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.into())
}

#[cfg(test)]
mod tests {
    use super::super::places::{EACH, limit, reading};
    use super::*;
    use axum::{Router, routing::any};
    use futures::stream;
    use http::StatusCode;
    use tower::ServiceExt;

    fn router() -> Router {
        let read = async |request: Request| match read(request, "application/json").await {
            Ok(body) => (StatusCode::OK, body.len().to_string()),
            Err(cause) => (StatusCode::from_u16(cause.category().code()).unwrap(), cause.to_string()),
        };
        Router::new().route("/", any(read)).layer(limit())
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
            assert!(reading() >= EACH, "they are counted, perhaps with those of other tests");
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
        let other = Request::put("/").header(CONTENT_TYPE, JSON).body(body(1)).unwrap();
        assert_eq!(router().oneshot(other).await.unwrap().status(), 405);
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_whole_in_their_order() {
        for (pieces, whole) in [(&[][..], ""), (&["abc"], "abc"), (&["", "ab", "", "c", "de"], "abcde")] {
            let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(*piece))).collect();
            let body = Body::from_stream(stream::iter(pieces));
            assert_eq!(gathered(body, whole.len()).await.unwrap(), whole);
        }
    }
}
