//! Forward authentication over HTTP: nginx `auth_request`, Traefik ForwardAuth, Caddy `forward_auth`, Envoy HTTP
//! ext_authz.

use std::sync::Arc;

use axum::{Router, extract::State, response::IntoResponse, response::Response, routing::any};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Answer, Asking, Category, Cause, Door, Verdict, proxied};

/// The route `ANY /v1/instances/{namespace}/{name}/authorize`, with any path behind it. Envoy appends the caller's
/// path.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let paths = ["", "/", "/{*rest}"].map(|rest| format!("/v1/instances/{{namespace}}/{{name}}/authorize{rest}"));
    paths.iter().fold(Router::new(), |router, path| router.route(path, any(authorize))).with_state(door)
}

async fn authorize(State(door): State<Arc<Door>>, uri: Uri, method: Method, headers: HeaderMap) -> Response {
    let (instance, appended) = proxied::target(&uri);
    let credential = door.credential(&instance, &headers);
    let request = Some(proxied::requested(&headers, &method, appended));
    told(&door.ask(&Asking { instance, credential, request }).await)
}

/// The answer as an HTTP response. A 401 or 403 has a challenge for each scheme of the Instance. That of `Bearer` has
/// the error code of RFC 6750, section 3, except if the credential is missing or the guard is tested.
pub(crate) fn told(answer: &Answer) -> Response {
    let Verdict { cause, identity, message } = answer.verdict();
    let error = |code: &str| json!({ "error": code });
    let challenge = |code| (WWW_AUTHENTICATE, proxied::challenge(answer, code));
    match cause.category() {
        Category::Allowed => (StatusCode::OK, UNCACHED, proxied::identity(identity.as_ref())).into_response(),
        Category::NotAuthenticated if matches!(cause, Cause::Missing | Cause::Probe) => {
            (StatusCode::UNAUTHORIZED, UNCACHED, [challenge(None)]).into_response()
        }
        Category::NotAuthenticated => {
            refused(StatusCode::UNAUTHORIZED, challenge(Some("invalid_token")), &error("invalid_token"))
        }
        Category::NotPermitted => {
            let mut body = error("insufficient_scope");
            body["error_description"] = json!(message.as_deref().or(cause.hint()));
            refused(StatusCode::FORBIDDEN, challenge(Some("insufficient_scope")), &body)
        }
        Category::Unavailable => {
            refused(StatusCode::SERVICE_UNAVAILABLE, (RETRY_AFTER, 1u16.into()), &error("temporarily_unavailable"))
        }
    }
}

/// Forbids caching: an answer holds for one request only.
const UNCACHED: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

fn refused(status: StatusCode, header: (HeaderName, HeaderValue), body: &Value) -> Response {
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, UNCACHED, [header, json], format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::header::{ORGANIZATION, ROLE, SUBJECT, TOKEN_ID, USER},
        verifier::{Identity, index::Key},
    };

    #[test]
    fn every_identity_header_is_there_also_without_a_value() {
        let identity = Identity {
            token: Key { namespace: "a".into(), name: "x".into() },
            generation: 1,
            id: "7Hq0x".into(),
            subject: "account:a/x".into(),
            owner: Some("user:alice".into()),
            role: Some("viewer".into()),
            organization: "acme".into(),
        };
        let answer = told(&Verdict { identity: Some(identity), ..Cause::Allowed.into() }.into());
        assert_eq!(answer.status(), StatusCode::OK);
        let said = [SUBJECT, TOKEN_ID, ROLE, ORGANIZATION, USER]
            .map(|name| answer.headers()[name].to_str().unwrap().to_owned());
        assert_eq!(said, ["account:a/x", "7Hq0x", "viewer", "acme", "account:a/x"]);
        let answer = told(&Verdict::from(Cause::Unguarded).into());
        assert_eq!(answer.status(), StatusCode::OK);
        for name in [SUBJECT, TOKEN_ID, ROLE, ORGANIZATION, USER] {
            let values: Vec<_> = answer.headers().get_all(&name).iter().collect();
            assert_eq!(values, [""], "{name}");
        }
    }

    #[test]
    fn refusals_are_told_as_rfc_6750_says() {
        let told = |cause: Cause| {
            let answer = told(&Verdict::from(cause).into());
            assert_eq!(
                answer.status().as_u16(),
                cause.category().code(),
                "the same code as in metrics and the audit log"
            );
            let challenge = answer.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
            (answer.status().as_u16(), challenge.unwrap_or_default())
        };
        assert_eq!(told(Cause::Missing), (401, r#"Bearer realm="tokenry/a/eem""#.into()));
        assert_eq!(told(Cause::Probe), told(Cause::Missing));
        assert_eq!(told(Cause::Expired), (401, r#"Bearer realm="tokenry/a/eem", error="invalid_token""#.into()));
        assert_eq!(
            told(Cause::NamespaceNotAdmitted),
            (403, r#"Bearer realm="tokenry/a/eem", error="insufficient_scope""#.into())
        );
        assert_eq!(told(Cause::NotSynced), (503, String::new()));
    }
}
