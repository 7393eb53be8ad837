//! The paths that no protocol has. A guard with a mistyped path refuses everybody, so the audit log shows the path.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;

use super::super::{Asking, Flaw, Origin, PresentedCredential, Requested, index::Key};
use super::{Door, Protocol, forward_auth::told};
use crate::outside::server::PeerAddress;

/// The answer at each path that no other route has. It is one of HTTP, also to gRPC. Each answer of gRPC has the status
/// 200, and a proxy at a wrong path takes that for permission.
pub(crate) fn router(door: Arc<Door>) -> Router {
    Router::new().fallback(refuse).with_state(door)
}

async fn refuse(State(door): State<Arc<Door>>, question: Request) -> Response {
    let (parts, _) = question.into_parts();
    let origin = Origin::of(Protocol::Unknown, &parts.headers, PeerAddress::of(&parts.extensions));
    let (method, target) = (Some(parts.method.as_str()), Some(parts.uri.path()));
    let request = Some(Requested { method, target, headers: &parts.headers });
    // The question is about no Instance. So no rule of an Instance applies to the path.
    let (instance, credential) = (Key::new("", ""), PresentedCredential::Given(Err(Flaw::PathUnknown.into())));
    told(&door.ask(&Asking { origin, instance, credential, request }).await)
}

#[cfg(test)]
mod tests {
    use super::super::router;
    use super::*;
    use crate::verifier::fixture::{audited, teach_of, value, verdicts};
    use axum::body::{Body, to_bytes};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_path_of_no_protocol_is_refused_with_an_audit_line_that_shows_it_whatever_the_instance_lets_through() {
        let (door, lines) = audited();
        teach_of(&door, &value(), &json!({"api": {"unguarded": [{"methods": ["GET", "POST"], "paths": ["/**"]}]}}));
        let paths = [
            "/v1/instance/a/eem/authorize",
            "/v1/instances/a/eem/authorise",
            "/v1/instances/a/eem/introspect/",
            "/v2/instances/a/eem/authorize",
            "/envoy.service.auth.v2.Authorization/Check",
            "/.tokenry/probe",
            "//v1/instances/a/eem/authorize",
            "/",
        ];
        for path in paths {
            let asked = Request::post(path).header("api-token", value()).header("content-type", "application/grpc");
            let answer = router(door.clone(), None).oneshot(asked.body(Body::empty()).unwrap()).await.unwrap();
            let (status, id) = (answer.status().as_u16(), answer.headers()["x-request-id"].clone());
            let body: Value = serde_json::from_slice(&to_bytes(answer.into_body(), 1 << 20).await.unwrap()).unwrap();
            assert!(status == 404 && body["error_description"].as_str().unwrap().contains("/authorize"), "{path}");
            let line: Value = serde_json::from_str(lines.text().lines().last().unwrap()).unwrap();
            assert_eq!((&line["reason"], &line["path"]), (&json!("PathUnknown"), &json!(path)));
            assert_eq!(line["request_id"], id.to_str().unwrap());
        }
        assert_eq!(lines.text().lines().count(), paths.len());
        verdicts(&door, "unknown", &[("404", "PathUnknown", paths.len() as u64)]);
    }
}
