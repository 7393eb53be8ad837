//! Reads the body of a request, within limits.

use std::{pin::pin, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
};
use futures::{FutureExt, StreamExt};
use http::{Method, header::CONTENT_TYPE, request::Parts};
use tokio::time::timeout;

use super::super::{Cause, Flaw};
use super::places;

/// The longest body that is read, in bytes.
const MAX: usize = 64 * 1024;
/// The longest time that the caller may take to send it. A caller that takes longer would keep a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The body of a POST with this media type.
///
/// # Errors
/// The request has another method or media type. Or its body is too long, too slow or broken off, or it has lost its
/// place to another body.
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
    let mut gathered = pin!(gathered(body, most));
    // A body that is there already waits for nothing, so it needs no place.
    if let Some(all) = gathered.as_mut().now_or_never() {
        return Ok(all?);
    }
    let seat = places::take(&parts.extensions)?;
    tokio::select! {
        all = timeout(PATIENCE, gathered) => Ok(all.unwrap_or(Err(Flaw::TooSlow))?),
        () = seat.lost() => Err(Cause::Crowded),
    }
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
    use super::super::{
        places::limit,
        slow::{MOST, reading},
    };
    use super::*;
    use crate::outside::server::PeerAddress;
    use axum::{Router, routing::any};
    use futures::{future::join_all, stream};
    use http::StatusCode;
    use tower::ServiceExt;

    fn router() -> Router {
        let read = async |request: Request| match read(request, "application/json").await {
            Ok(body) => (StatusCode::OK, body.len().to_string()),
            Err(cause) => (StatusCode::from_u16(cause.category().code()).unwrap(), cause.to_string()),
        };
        Router::new().route("/", any(read)).layer(limit())
    }

    async fn status(types: &[&str], body: Body) -> u16 {
        let mut request = Request::post("/");
        for named in types {
            request = request.header(CONTENT_TYPE, *named);
        }
        router().oneshot(request.body(body).unwrap()).await.unwrap().status().as_u16()
    }

    /// A body that never ends.
    fn endless() -> Body {
        Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())
    }

    /// Sends these many bodies that never end, from one address each. Returns how many lost their places, and how many
    /// were too slow.
    async fn slow(router: &Router, counts: &[(u8, usize)]) -> Vec<(usize, usize)> {
        let of = async |&(last, count): &(u8, usize)| {
            let all = (0..count).map(|_| sent_by(router, last, endless()));
            let statuses = join_all(all).await;
            let are = |wanted| statuses.iter().filter(|&&status| status == wanted).count();
            (are(503), are(408))
        };
        join_all(counts.iter().map(of)).await
    }

    async fn sent_by(router: &Router, last: u8, body: Body) -> u16 {
        let request = Request::post("/").header(CONTENT_TYPE, "application/json");
        let request = request.extension(PeerAddress([192, 0, 2, last].into())).body(body).unwrap();
        router.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn only_some_bodies_are_read_at_a_time_and_the_oldest_of_the_greediest_caller_loses_its_place() {
        let router = router();
        assert_eq!(slow(&router, &[(1, MOST + 3)]).await, [(3, MOST)]);
        let told = slow(&router, &[(1, 1), (2, MOST - 1), (3, 2), (4, 1)]).await;
        assert_eq!(told, [(0, 1), (3, MOST - 4), (0, 2), (0, 1)], "a caller takes no place from others");
        let told = slow(&router, &[(1, MOST / 2), (2, MOST / 2 + 1)]).await;
        assert_eq!(told, [(0, MOST / 2), (1, MOST / 2)], "nor if it has as many as they");
        assert_eq!(slow(&router, &[(1, MOST)]).await, [(0, MOST)], "the places are free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_there_already_needs_no_place_and_a_quick_one_gets_one() {
        let router = router();
        let next = async {
            tokio::task::yield_now().await;
            assert!(reading() >= MOST, "they are counted, perhaps with those of other tests");
            let late = stream::once(async {
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(Bytes::from("x"))
            });
            [sent_by(&router, 2, Body::from("x")).await, sent_by(&router, 2, Body::from_stream(late)).await]
        };
        let (slow, next) = tokio::join!(slow(&router, &[(1, MOST)]), next);
        assert_eq!((next, &slow[..]), ([200; 2], &[(1, MOST - 1)][..]));
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
        let long = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 1024])));
        assert_eq!(status(&[JSON], Body::from_stream(long)).await, 413);
        assert_eq!(status(&[JSON], endless()).await, 408);
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
