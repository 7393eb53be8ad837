//! The webhook for token authentication of the Kubernetes API: kube-apiserver, and servers that delegate their
//! authentication.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::{Router, response::IntoResponse, response::Response, routing::any};
use http::header::CONTENT_TYPE;

use super::{
    super::{Asking, Origin, PresentedCredential},
    Door, Protocol, body,
    forward_auth::told,
    places, proxied,
    review::TokenQuestion,
};
use crate::outside::server::PeerAddress;

/// The paths below an Instance: that of a webhook, and those that a server appends to the address of an API server.
/// That address can be the Instance, or the path of the webhook.
const BELOW: [&str; 5] = [
    "",
    "/apis/authentication.k8s.io/v1",
    "/apis/authentication.k8s.io/v1beta1",
    "/tokenreviews/apis/authentication.k8s.io/v1",
    "/tokenreviews/apis/authentication.k8s.io/v1beta1",
];
const JSON: &str = "application/json";

/// The routes `POST /v1/instances/{namespace}/{name}/tokenreviews`, and the same below
/// `apis/authentication.k8s.io/v1` and `apis/authentication.k8s.io/v1beta1`, at the Instance and at that path.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let paths = BELOW.map(|below| format!("/v1/instances/{{namespace}}/{{name}}{below}/tokenreviews"));
    let routes = paths.iter().fold(Router::new(), |router, path| router.route(path, any(review)));
    routes.layer(places::limit()).with_state(door)
}

async fn review(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (instance, _) = proxied::target(&parts.uri);
    let origin = Origin::of(Protocol::TokenReview, &parts.headers, PeerAddress::of(&parts.extensions));
    let read = body::read(Request::from_parts(parts, body), JSON).await;
    let question = read.and_then(|body| Ok(TokenQuestion::read(&body)?));
    let credential = question.as_ref().map_err(|cause| *cause).and_then(|question| question.credential(&instance));
    let asking = Asking { origin, instance, credential: PresentedCredential::Given(credential), request: None };
    let answer = door.ask(&asking).await;
    let Ok(question) = &question else { return told(&answer) };
    let review = question.answer(&asking.instance, answer.verdict());
    (proxied::head(&answer), [(CONTENT_TYPE, JSON)], review.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outside::Hearing,
        verifier::{
            StaleAnswers,
            fixture::{door, teach, teach_of, value, verdicts, waiting_for},
        },
    };
    use axum::body::{Body, to_bytes};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    const PATH: &str = "/v1/instances/a/eem/tokenreviews";

    async fn post(door: Arc<Door>, path: &str, body: String) -> (u16, String) {
        let request = Request::post(path).header(CONTENT_TYPE, JSON).body(Body::from(body)).unwrap();
        let answer = router(door).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The answer to a question in this version about a token.
    async fn asked(door: &Arc<Door>, path: &str, version: &str, spec: Value) -> Value {
        let version = format!("authentication.k8s.io/{version}");
        let metadata = json!({"creationTimestamp": null});
        let status = json!({"authenticated": true, "user": {"username": "admin", "groups": ["system:masters"]}});
        let review = json!({
            "apiVersion": version, "kind": "TokenReview", "metadata": metadata, "spec": spec, "status": status,
        });
        let (status, body) = post(door.clone(), path, review.to_string()).await;
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &answer["apiVersion"], &answer["kind"]), (200, &json!(version), &json!("TokenReview")));
        assert!(!body.contains(&value()), "the answer does not repeat the token");
        answer["status"].take()
    }

    #[tokio::test]
    async fn a_valid_token_is_a_user_with_groups_of_tokenry_alone_at_each_path_and_in_each_version() {
        let door = door();
        teach(&door, &value());
        let [webhook, one, beta, one_below, beta_below] = BELOW;
        for (below, version) in [
            (webhook, "v1"),
            (webhook, "v1beta1"),
            (one, "v1"),
            (beta, "v1beta1"),
            (one_below, "v1"),
            (beta_below, "v1beta1"),
        ] {
            let path = format!("/v1/instances/a/eem{below}/tokenreviews?timeout=30s");
            let audiences = json!(["https://kubernetes", "tokenry.dev/a/eem", "tokenry.dev/a/other"]);
            let spec = json!({"token": value(), "audiences": audiences});
            let groups = ["tokenry.dev:account:a/x", "tokenry.dev:instance:a/eem"];
            let extra = json!({"tokenry.dev/token-id": ["i".repeat(16)]});
            let user = json!({"username": "token:a/x", "uid": "x", "groups": groups, "extra": extra});
            let wanted = json!({"authenticated": true, "user": user, "audiences": ["tokenry.dev/a/eem"]});
            assert_eq!(asked(&door, &path, version, spec).await, wanted, "{path}");
            let spec = json!({"token": value()});
            assert_eq!(asked(&door, &path, version, spec).await, wanted, "{path} without an audience");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_is_not_let_in_looks_the_same() {
        let door = door();
        teach(&door, &value());
        let other = crate::token::format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
        for spec in [
            json!({"token": value(), "audiences": ["https://kubernetes"]}),
            json!({"token": value(), "audiences": ["tokenry.dev/a/other"]}),
            json!({"token": other.expose()}),
            json!({"token": "made up"}),
            json!({"token": format!("{} ", value())}),
            json!({"token": ""}),
            json!({}),
        ] {
            assert_eq!(asked(&door, PATH, "v1", spec.clone()).await, json!({"authenticated": false}), "{spec}");
        }
        let elsewhere = asked(&door, "/v1/instances/a/other/tokenreviews", "v1", json!({"token": value()})).await;
        assert_eq!(elsewhere, json!({"authenticated": false}));
        teach_of(&door, &value(), &json!({"api": {"authorization": "Roles"}}));
        let spec = json!({"token": value()});
        assert_eq!(asked(&door, PATH, "v1", spec.clone()).await, json!({"authenticated": false}), "no permission");
        teach_of(&door, &value(), &json!({"api": {"authorization": "Roles"}, "tokens": {"defaultRole": "viewer"}}));
        let user = &asked(&door, PATH, "v1", spec.clone()).await["user"];
        assert_eq!(user["groups"][2], "tokenry.dev:role:viewer", "{user}");
        let unguarded = json!({"api": {"unguarded": [{"paths": ["/**"]}]}, "manager": {"endpoints": [
            {"name": "admin", "type": "disabled"},
        ]}});
        teach_of(&door, &value(), &unguarded);
        assert_eq!(asked(&door, PATH, "v1", spec).await, json!({"authenticated": false}), "disabled");
    }

    #[tokio::test]
    async fn an_error_is_told_only_if_nothing_can_be_decided() {
        let unread = Arc::new(waiting_for(&["instances"], Hearing::default(), StaleAnswers::default()));
        for audience in ["tokenry.dev/a/eem", "https://kubernetes"] {
            let spec = json!({"token": value(), "audiences": [audience]});
            let told = asked(&unread, PATH, "v1", spec).await;
            let error = "the verifier cannot decide now: NotSynced";
            assert_eq!(told, json!({"authenticated": false, "error": error}));
        }
    }

    #[tokio::test]
    async fn what_is_no_review_is_refused_and_the_answer_says_why() {
        let door = door();
        let (status, told) =
            post(door.clone(), PATH, r#"{"apiVersion": "v1", "kind": "Pod", "spec": {}}"#.into()).await;
        assert!(status == 400 && told.contains("authentication.k8s.io/v1beta1"), "{status} {told}");
        let listed = json!(["authentication.k8s.io/v1", "TokenReview", [value()]]).to_string();
        let (status, told) = post(door.clone(), PATH, listed).await;
        assert!(status == 400 && !told.contains(&value()), "{status} {told}");
        let (status, told) = post(door.clone(), PATH, value()).await;
        assert!(status == 400 && told.contains("no TokenReview") && !told.contains(&value()), "{status} {told}");
        let (status, told) = post(door.clone(), PATH, " ".repeat(70_000)).await;
        assert!(status == 413 && told.contains("64 KiB"), "{status} {told}");
        for path in ["/v1/tokenreviews", "/v1/instances/a/eem/apis/authentication.k8s.io/v2/tokenreviews"] {
            assert_eq!(post(door.clone(), path, String::new()).await.0, 404, "{path}");
        }
        let refused = async |request: axum::http::request::Builder| {
            let answer = router(door.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let (head, body) = answer.into_parts();
            assert_eq!(head.headers["cache-control"], "no-store");
            assert_eq!(head.headers["content-type"], JSON);
            let allowed = head.headers.get("allow").map(|methods| methods.to_str().unwrap().to_owned());
            let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
            (head.status.as_u16(), allowed, body)
        };
        let (status, allowed, told) = refused(Request::get(PATH)).await;
        assert!((status, allowed.as_deref()) == (405, Some("POST")) && told.contains("POST"), "{told}");
        let (status, _, told) = refused(Request::post(PATH)).await;
        assert!(status == 415 && told.contains(JSON), "{told}");
        let counted = [
            ("400", "Unreadable", 3),
            ("413", "TooLong", 1),
            ("405", "MethodUnsupported", 1),
            ("415", "TypeUnsupported", 1),
        ];
        verdicts(&door, "token-review", &counted);
    }
}
