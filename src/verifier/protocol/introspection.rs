//! Token introspection (RFC 7662), for callers that prove themselves by a Kubernetes token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::{Router, response::IntoResponse, response::Response, routing::any};
use http::{Method, header::CONTENT_TYPE};

use super::super::{Asking, Category, Cause, Credential, Flaw, Origin, PresentedCredential, index::Key};
use super::{Door, Protocol, body, forward_auth::told, introspected, places, proxied};
use crate::outside::{Reviewer, server::PeerAddress};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: [(http::HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];

/// The verifier, and the reviewer of callers. Without a reviewer, introspection is off.
type ReviewDesk = (Arc<Door>, Option<Arc<Reviewer>>);

/// The route `POST /v1/instances/{namespace}/{name}/introspect`.
pub(crate) fn router(door: Arc<Door>, reviewer: Option<Arc<Reviewer>>) -> Router {
    let route = Router::new().route("/v1/instances/{namespace}/{name}/introspect", any(introspect));
    route.layer(places::limit()).with_state((door, reviewer))
}

async fn introspect(State((door, reviewer)): State<ReviewDesk>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (instance, _) = proxied::target(&parts.uri);
    let mut origin = Origin::of(Protocol::Introspection, &parts.headers, PeerAddress::of(&parts.extensions));
    let request = Request::from_parts(parts, body);
    let credential = presented(reviewer.as_deref(), &mut origin, &instance, request).await;
    let asking = Asking { origin, instance, credential: PresentedCredential::Given(credential), request: None };
    let answer = door.ask(&asking).await;
    let identity = match answer.verdict().cause.category() {
        Category::Allowed => answer.verdict().identity.as_ref(),
        Category::NotAuthenticated | Category::NotPermitted => None,
        Category::Unavailable | Category::Flawed(_) => return told(&answer),
    };
    (proxied::head(&answer), JSON, introspected::told(&asking.instance, identity).to_string()).into_response()
}

/// The token that a caller with the right asks about. The origin then names that caller, and one without the right.
async fn presented(
    reviewer: Option<&Reviewer>,
    origin: &mut Origin,
    instance: &Key,
    request: Request,
) -> Result<Credential<'static>, Cause> {
    if request.method() != Method::POST {
        return Err(Flaw::MethodUnsupported.into());
    }
    let reviewer = reviewer.ok_or(Flaw::IntrospectionOff)?;
    let caller = introspected::caller(request.headers())?;
    let review = reviewer.permit(origin.source, caller, (&instance.namespace, &instance.name)).await;
    introspected::permitted(review, &mut origin.caller)?;
    let form = body::read(request, FORM).await?;
    Ok(Credential::Decoded(introspected::token(&form).ok_or(Flaw::Unreadable)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outside::{Hearing, reviewer::tests::Server},
        verifier::{
            StaleAnswers,
            fixture::{audited, door, teach, teach_of, value, verdicts, waiting_for},
        },
    };
    use axum::body::{Body, to_bytes};
    use http::{HeaderMap, request::Builder};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    const PATH: &str = "/v1/instances/a/eem/introspect";

    fn asking() -> Builder {
        Request::post(PATH).header("authorization", "Bearer kubernetes").header("content-type", FORM)
    }

    async fn sent(routes: Router, request: Builder, body: &str) -> (u16, Value, HeaderMap) {
        let answer = routes.oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains(&value()), "the answer does not repeat the token");
        (status, serde_json::from_slice(&body).unwrap_or_default(), headers)
    }

    /// The routes for callers that have the right.
    fn granting(door: &Arc<Door>) -> Router {
        router(door.clone(), Some(Arc::new(Server::reviewer(&Server::granting()))))
    }

    async fn about(door: &Arc<Door>, token: &str) -> Value {
        let form = format!("token={token}&token_type_hint=access_token");
        let (status, body, headers) = sent(granting(door), asking(), &form).await;
        assert_eq!(
            (status, &headers["cache-control"], &headers["content-type"]),
            (200, &"no-store".parse().unwrap(), &"application/json".parse().unwrap())
        );
        body
    }

    #[tokio::test]
    async fn an_active_token_is_described() {
        let door = door();
        teach_of(&door, &value(), &json!({"tokens": {"defaultRole": "viewer", "lifetime": {"max": "3650d"}}}));
        let minted = "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        let described = json!({
            "active": true, "iss": "tokenry.dev", "sub": "account:a/x", "aud": "tokenry.dev/a/eem",
            "username": "token:a/x", "token_type": "Bearer", "jti": "i".repeat(16), "scope": "viewer",
            "iat": minted, "exp": minted + 3650 * 24 * 3600,
        });
        assert_eq!(about(&door, &value()).await, described);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_not_let_in_is_not_active_and_nothing_more_is_told() {
        let (door, inactive) = (door(), json!({"active": false}));
        teach(&door, &value());
        assert_eq!(about(&door, "made-up").await, inactive);
        let other = crate::token::format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
        assert_eq!(about(&door, other.expose()).await, inactive);
        assert_eq!(about(&door, &value()).await["active"], true);
        teach_of(&door, &value(), &json!({"api": {"authorization": "Roles"}}));
        assert_eq!(about(&door, &value()).await, inactive, "no permission");
    }

    #[tokio::test]
    async fn a_caller_is_refused_by_its_own_credential_before_its_question_is_read() {
        let (door, server) = (door(), Server::granting());
        teach(&door, &value());
        let ask = async |request: Builder| {
            let routes = router(door.clone(), Some(Arc::new(Server::reviewer(&server))));
            let (status, body, headers) = sent(routes, request, "").await;
            let challenge = headers.get("www-authenticate").map(|told| told.to_str().unwrap().to_owned());
            assert!(body["error_description"].is_string() && headers.contains_key("x-request-id"), "{body}");
            (status, body["error"].as_str().map(str::to_owned), challenge.unwrap_or_default())
        };
        let refused = |status: u16, error: &str| {
            (status, Some(error.to_owned()), format!(r#"Bearer realm="kubernetes", error="{error}""#))
        };
        server.lock().unwrap().access = json!({"allowed": false});
        assert_eq!(ask(asking()).await, refused(403, "insufficient_scope"));
        server.lock().unwrap().token = json!({"authenticated": false});
        assert_eq!(ask(asking()).await, refused(401, "invalid_token"));
        let own = format!("Bearer {}", value());
        assert_eq!(ask(Request::post(PATH).header("authorization", own)).await, refused(401, "invalid_token"));
        // RFC 6750, section 3.1: no error code without a bearer token, and invalid_request for a malformed one.
        let plain = (401, None, r#"Bearer realm="kubernetes""#.to_owned());
        for request in [Request::post(PATH), Request::post(PATH).header("authorization", "Basic dTpw")] {
            assert_eq!(ask(request).await, plain);
        }
        for unclear in
            [asking().header("authorization", "Bearer other"), Request::post(PATH).header("authorization", "Bearer")]
        {
            assert_eq!(ask(unclear).await, refused(400, "invalid_request"));
        }
        server.lock().unwrap().code = 503;
        assert_eq!(ask(asking()).await, (503, Some("temporarily_unavailable".into()), String::new()));
        let counted = [
            ("403", "CallerForbidden", 1),
            ("401", "CallerUnproven", 2),
            ("401", "CallerMissing", 2),
            ("400", "CallerUnclear", 2),
            ("503", "ReviewFailed", 1),
        ];
        verdicts(&door, "introspection", &counted);
    }

    #[tokio::test]
    async fn the_audit_log_names_the_caller_that_was_reviewed_whatever_it_was_told() {
        let ((door, lines), server) = (audited(), Server::granting());
        teach(&door, &value());
        let form = format!("token={}", value());
        let ask = async |body: &str| {
            // Each reviewer forgets the reviews of the one before.
            sent(router(door.clone(), Some(Arc::new(Server::reviewer(&server)))), asking(), body).await.0
        };
        let told = || serde_json::from_str::<Value>(lines.text().lines().last().unwrap()).unwrap();
        assert_eq!((ask(&form).await, &told()["caller"]), (200, &json!("ci")));
        assert_eq!(told()["token"], "a/x");
        assert_eq!((ask("").await, &told()["caller"], &told()["reason"]), (400, &json!("ci"), &json!("Unreadable")));
        server.lock().unwrap().access = json!({"allowed": false});
        let forbidden = json!("CallerForbidden");
        assert_eq!((ask(&form).await, &told()["caller"], &told()["reason"]), (403, &json!("ci"), &forbidden));
        server.lock().unwrap().token = json!({"authenticated": false});
        assert_eq!((ask(&form).await, told().get("caller")), (401, None));
        assert!(!lines.text().contains("kubernetes"), "the token of a caller is in no line");
    }

    #[tokio::test]
    async fn a_question_that_is_not_clear_is_refused_and_counted() {
        let door = door();
        let ask = async |request, body: &str| {
            let (status, body, _) = sent(granting(&door), request, body).await;
            assert!(status == 404 || body["error_description"].is_string(), "{status} {body}");
            status
        };
        for form in ["", "token=", "token=a&token=b", "a=b"] {
            assert_eq!(ask(asking(), form).await, 400, "{form}");
        }
        let untyped = || Request::post(PATH).header("authorization", "Bearer kubernetes");
        assert_eq!(ask(untyped(), "token=a").await, 415);
        assert_eq!(ask(untyped().header("content-type", "application/json"), "{}").await, 415);
        assert_eq!(ask(asking(), &format!("token={}", "a".repeat(70_000))).await, 413);
        assert_eq!(ask(asking().method("GET"), "").await, 405);
        assert_eq!(ask(asking().uri("/v1/instances/a/eem/introspect/"), "token=a").await, 404);
        let counted = [
            ("400", "Unreadable", 4),
            ("415", "TypeUnsupported", 2),
            ("413", "TooLong", 1),
            ("405", "MethodUnsupported", 1),
        ];
        verdicts(&door, "introspection", &counted);
    }

    #[tokio::test]
    async fn what_cannot_be_decided_is_not_inactive_and_introspection_is_off_without_a_reviewer() {
        let unread = Arc::new(waiting_for(&["instances"], Hearing::default(), StaleAnswers::default()));
        let (status, _, headers) = sent(granting(&unread), asking(), &format!("token={}", value())).await;
        assert_eq!((status, &headers["retry-after"]), (503, &"1".parse().unwrap()));
        let (status, body, _) = sent(router(door(), None), asking(), "token=a").await;
        assert!(status == 501 && body["error_description"].as_str().unwrap().contains("--introspection"), "{body}");
    }
}
