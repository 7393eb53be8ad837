//! Properties of every answer, in every protocol, to requests that nobody would send in earnest.
#![allow(clippy::unwrap_used, reason = "this is for tests only")]

#[path = "../../tests/shared/sent.rs"]
mod sent;

use axum::body::{Body, to_bytes};
use http::{HeaderMap, StatusCode};
use proptest::{prelude::any, prop_assert, prop_assert_eq, proptest, test_runner::TestCaseError};
use serde_json::json;
use tower::ServiceExt;

use super::{
    fixture::{door, teach_of, value},
    protocol::router,
};
use crate::{access::header::IDENTITY, token::format};
use sent::{About, SPOKEN, Sent, Spoken};

/// The answer to a request. `None` for a request that no client can send.
async fn answer(sent: &Sent) -> Option<(StatusCode, HeaderMap, Vec<u8>)> {
    let door = door();
    teach_of(&door, &value(), &json!({"api": {"excluded": [{"methods": ["DELETE"], "paths": ["/orders"]}]}}));
    let answer = router(door, None).oneshot(sent.request("")?.map(Body::from)).await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    Some((status, headers, to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec()))
}

/// Checks the answer to a request.
fn judged_well(sent: &Sent) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let Some((status, headers, body)) = runtime.block_on(answer(sent)) else { return Ok(()) };
    // Introspection is off here, and says so.
    let is_off = status == StatusCode::NOT_IMPLEMENTED && sent.target.contains("/introspect");
    let is_documented = status.as_u16() < 500 || status == StatusCode::SERVICE_UNAVAILABLE || is_off;
    prop_assert!(is_documented, "{} to {:?}", status, sent);
    if sent.lets_in(status.as_u16(), &body) {
        prop_assert!(sent.holds_the_value, "{:?} was let in", sent);
        if sent.target.contains("/authorize") || sent.target.contains("/ingress-nginx") {
            prop_assert_eq!(status, StatusCode::OK);
            prop_assert_eq!(IDENTITY.map(|name| headers.get_all(name).iter().count()), [1; 5]);
        }
    }
    Ok(())
}

fn about() -> (String, String) {
    (value(), format::assemble("tkn", &"j".repeat(16), &"s".repeat(43)).expose().to_owned())
}

proptest! {
    #![proptest_config(crate::token::cases::so_many(1000))]

    #[test]
    fn no_request_panics_or_is_let_in_without_the_value(
        spoken in 0..SPOKEN.len(), bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let (value, unknown) = about();
        let sent = sent::of(SPOKEN[spoken], &bytes, About { instance: "a/eem", value: &value, unknown: &unknown });
        judged_well(&sent)?;
    }

    #[test]
    fn no_body_panics_or_is_let_in(
        spoken in 0..SPOKEN.len(), body in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let (value, unknown) = about();
        let plain = sent::of(SPOKEN[spoken], &[], About { instance: "a/eem", value: &value, unknown: &unknown });
        judged_well(&Sent { body, holds_the_value: false, ..plain })?;
    }
}

#[test]
fn a_request_with_the_value_is_let_in_so_that_the_properties_are_not_empty() {
    let (value, unknown) = about();
    let about = About { instance: "a/eem", value: &value, unknown: &unknown };
    // Six choices for path, method and proxy, one for the body, one header, and its credential with the value.
    let right = [0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 9];
    let sent = sent::of(Spoken::ForwardAuth, &right, about);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (status, ..) = runtime.block_on(answer(&sent)).unwrap();
    assert!(sent.holds_the_value && status == StatusCode::OK, "{status} {sent:?}");
}
