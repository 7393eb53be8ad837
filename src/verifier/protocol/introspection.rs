//! Token introspection (RFC 7662), for callers that prove themselves by a Kubernetes token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::{Router, response::IntoResponse, response::Response, routing::post};
use http::{StatusCode, header::CONTENT_TYPE};

use super::super::{Asking, Category, Credential, Origin};
use super::introspected::{self, OFF, Problem, RIGHTLESS, UNCLEAR, UNDECIDED, UNPROVEN};
use super::{Door, Protocol, body, proxied, proxied::UNCACHED};
use crate::outside::{Permit, Reviewer};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: [(http::HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];

/// The verifier, and the reviewer of callers. Without a reviewer, introspection is off.
type ReviewDesk = (Arc<Door>, Option<Arc<Reviewer>>);

/// The route `POST /v1/instances/{namespace}/{name}/introspect`.
pub(crate) fn router(door: Arc<Door>, reviewer: Option<Arc<Reviewer>>) -> Router {
    let route = Router::new().route("/v1/instances/{namespace}/{name}/introspect", post(introspect));
    route.layer(body::limit()).with_state((door, reviewer))
}

async fn introspect(State((door, reviewer)): State<ReviewDesk>, request: Request) -> Response {
    let Some(reviewer) = reviewer else { return refused(StatusCode::NOT_IMPLEMENTED, &OFF) };
    let (parts, body) = request.into_parts();
    let (instance, _) = proxied::target(&parts.uri);
    let origin = Origin::of(Protocol::Introspection, &parts);
    let caller = introspected::caller(&parts.headers).unwrap_or_default();
    match reviewer.permit(origin.source, caller, (&instance.namespace, &instance.name)).await {
        Ok(Permit::Granted) => {}
        Ok(Permit::Lacking) => return refused(StatusCode::FORBIDDEN, &RIGHTLESS),
        Ok(Permit::Unproven) => return refused(StatusCode::UNAUTHORIZED, &UNPROVEN),
        Err(_) => return refused(StatusCode::SERVICE_UNAVAILABLE, &UNDECIDED),
    }
    let form = body::read(Request::from_parts(parts, body), FORM).await;
    let token = match form.map(|form| introspected::token(&form)) {
        Ok(Some(token)) => token,
        Ok(None) => return refused(StatusCode::BAD_REQUEST, &UNCLEAR),
        Err(status) => return status.into_response(),
    };
    let asking = Asking { origin, instance, credential: Ok(Credential::Decoded(token)), request: None };
    let answer = door.ask(&asking).await;
    let identity = match answer.verdict().cause.category() {
        Category::Allowed => answer.verdict().identity.as_ref(),
        Category::NotAuthenticated | Category::NotPermitted => None,
        Category::Unavailable => {
            return (proxied::head(&answer), refused(StatusCode::SERVICE_UNAVAILABLE, &UNDECIDED)).into_response();
        }
    };
    (proxied::head(&answer), JSON, introspected::told(&asking.instance, identity).to_string()).into_response()
}

fn refused(status: StatusCode, problem: &Problem) -> Response {
    (status, UNCACHED, JSON, problem.header.clone(), problem.told()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outside::{Hearing, reviewer::tests::Server},
        verifier::{
            StaleAnswers,
            fixture::{door, teach, teach_of, value, waiting_for},
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
        let routes = || router(door.clone(), Some(Arc::new(Server::reviewer(&server))));
        server.lock().unwrap().access = json!({"allowed": false});
        let (status, body, _) = sent(routes(), asking(), "").await;
        assert!(status == 403 && body["error_description"].as_str().unwrap().contains("introspect"), "{body}");
        server.lock().unwrap().token = json!({"authenticated": false});
        for request in [asking(), Request::post(PATH), asking().header("authorization", "Bearer other")] {
            let (status, body, headers) = sent(routes(), request, "").await;
            assert_eq!(
                (status, &headers["www-authenticate"]),
                (401, &UNPROVEN.header.unwrap()[0].1.parse().unwrap()),
                "{body}"
            );
        }
        let own = Request::post(PATH).header("authorization", format!("Bearer {}", value()));
        assert_eq!(sent(routes(), own, "").await.0, 401);
        server.lock().unwrap().code = 503;
        let (status, _, headers) = sent(routes(), asking(), "").await;
        assert_eq!((status, &headers["retry-after"]), (503, &"1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_question_that_is_not_clear_is_refused() {
        let status = async |request, body: &str| sent(granting(&door()), request, body).await.0;
        for form in ["", "token=", "token=a&token=b", "a=b"] {
            assert_eq!(status(asking(), form).await, 400, "{form}");
        }
        let untyped = || Request::post(PATH).header("authorization", "Bearer kubernetes");
        assert_eq!(status(untyped(), "token=a").await, 415);
        assert_eq!(status(untyped().header("content-type", "application/json"), "{}").await, 415);
        assert_eq!(status(asking(), &format!("token={}", "a".repeat(70_000))).await, 413);
        assert_eq!(status(asking().method("GET"), "").await, 405);
        assert_eq!(status(asking().uri("/v1/instances/a/eem/introspect/"), "token=a").await, 404);
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
