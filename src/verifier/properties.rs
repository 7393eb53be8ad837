//! Properties of every answer, in every protocol, to requests that nobody would send in earnest.
#![allow(clippy::unwrap_used, reason = "this is for tests only")]

#[path = "../../tests/shared/sent.rs"]
mod sent;

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_LENGTH};
use proptest::{prelude::any, prop_assert, prop_assert_eq, proptest, test_runner::TestCaseError};
use serde_json::json;
use tower::ServiceExt;

use super::{
    Door,
    fixture::{door, teach_of, value},
    protocol::{forward_auth, router},
};
use crate::{access::header::IDENTITY, outside::reviewer::tests::Server, token::format};
use sent::{About, SPOKEN, Sent, Spoken};

/// The parts of an answer.
type AnswerParts = (StatusCode, HeaderMap, Vec<u8>);

/// A door that knows the Instance and the token, and has answered nothing yet.
fn taught() -> Arc<Door> {
    let door = door();
    teach_of(&door, &value(), &json!({"api": {"excluded": [{"methods": ["DELETE"], "paths": ["/orders"]}]}}));
    door
}

async fn parts(mut answer: Response) -> AnswerParts {
    // The server adds it where it is missing.
    answer.headers_mut().remove(CONTENT_LENGTH);
    let (status, headers) = (answer.status(), answer.headers().clone());
    (status, headers, to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec())
}

/// The answer to a request. `None` for a request that no client can send.
async fn answer(sent: &Sent) -> Option<AnswerParts> {
    let request = sent.request("")?.map(Body::from);
    let reviewer = Server::reviewer(&Server::granting());
    Some(parts(router(taught(), Some(Arc::new(reviewer))).oneshot(request).await.unwrap()).await)
}

/// The answer without the router. `None` for a request that the verifier passes to the router.
async fn quick_answer(sent: &Sent) -> Option<AnswerParts> {
    let (head, _) = sent.request("")?.into_parts();
    let is_quick = forward_auth::is_quick(&head.method, head.uri.path());
    if is_quick { Some(parts(forward_auth::answer(&taught(), &head, None).await).await) } else { None }
}

/// Waits in a time that runs ahead.
fn at_once<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(task)
}

/// Checks the answer to a request.
fn judged_well(sent: &Sent) -> Result<(), TestCaseError> {
    let Some((status, headers, body)) = at_once(answer(sent)) else { return Ok(()) };
    // Nobody else asks, and the verifier has read everything. So it is never too busy to decide.
    prop_assert!(status.as_u16() < 500, "{} to {:?}", status, sent);
    // Not 2 and not 13, which are faults of the server.
    let is_usual = |code: &HeaderValue| ["0", "3", "4", "11", "14"].iter().any(|usual| code == usual);
    prop_assert!(headers.get("grpc-status").is_none_or(is_usual), "{:?} to {:?}", headers, sent);
    if sent.lets_in(status.as_u16(), &body) {
        prop_assert!(sent.holds_the_value, "{:?} was let in", sent);
        if sent.target.contains("/authorize") || sent.target.contains("/ingress-nginx") {
            prop_assert_eq!(status, StatusCode::OK);
            prop_assert_eq!(IDENTITY.map(|name| headers.get_all(name).iter().count()), [1; 5]);
        }
    }
    Ok(())
}

/// The request of a protocol that these bytes give.
fn sent(spoken: Spoken, bytes: &[u8]) -> Sent {
    let unknown = format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
    let about = About { instance: "a/eem", value: &value(), unknown: unknown.expose(), caller: "kubernetes" };
    sent::of(spoken, bytes, about)
}

proptest! {
    #![proptest_config(crate::token::cases::so_many(2000))]

    #[test]
    fn no_request_panics_or_is_let_in_without_the_value(
        spoken in 0..SPOKEN.len(), bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        judged_well(&sent(SPOKEN[spoken], &bytes))?;
    }

    #[test]
    fn no_request_with_one_fault_panics_or_is_let_in_without_the_value(
        spoken in 0..SPOKEN.len(), at in 0..20usize, fault: u8, more in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let bytes = [&vec![0; at][..], &[fault], &more].concat();
        judged_well(&sent(SPOKEN[spoken], &bytes))?;
    }

    #[test]
    fn the_answer_without_the_router_is_that_of_the_router(
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let sent = sent(Spoken::ForwardAuth, &bytes);
        if let Some(quick) = at_once(quick_answer(&sent)) {
            prop_assert_eq!(Some(quick), at_once(answer(&sent)), "{:?}", sent);
        }
    }
}

#[test]
fn a_right_request_of_each_protocol_is_let_in() {
    for spoken in SPOKEN {
        let sent = sent(spoken, &[]);
        let (status, _, body) = at_once(answer(&sent)).unwrap();
        assert!(sent.holds_the_value && sent.lets_in(status.as_u16(), &body), "{status} {sent:?}");
    }
}

#[test]
fn bytes_in_a_body_change_no_other_part_and_a_hidden_value_is_seen() {
    let right = sent(Spoken::TokenReview, &[]);
    let escaped: String = value().chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let at = right.body.windows(4).position(|window| window == b"tkn_").unwrap();
    let splice = [&[3, u8::try_from(at).unwrap(), u8::try_from(value().len()).unwrap()], escaped.as_bytes()].concat();
    let sent = sent(Spoken::TokenReview, &splice);
    assert_eq!((&sent.target, &sent.headers), (&right.target, &right.headers));
    let (status, _, body) = at_once(answer(&sent)).unwrap();
    assert!(sent.holds_the_value && sent.lets_in(status.as_u16(), &body), "{status} {sent:?}");
}
