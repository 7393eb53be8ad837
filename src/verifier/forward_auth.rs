//! Forward authentication over HTTP: nginx `auth_request`, Traefik ForwardAuth, Caddy `forward_auth`, Envoy HTTP ext_authz.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::any,
};

use super::{Asked, Cause, Judge, audit, check::Verdict, index::Key};
use crate::access::header::{ORGANIZATION, ROLE, SUBJECT, TOKEN_ID, USER};

/// `ANY /v1/instances/{namespace}/{name}/authorize`, with anything behind it: Envoy appends the caller's path.
pub fn router(judge: Arc<Judge>) -> Router {
    Router::new()
        .route("/v1/instances/{namespace}/{name}/authorize", any(authorize))
        .route("/v1/instances/{namespace}/{name}/authorize/", any(authorize))
        .route("/v1/instances/{namespace}/{name}/authorize/{*rest}", any(authorize))
        .with_state(judge)
}

async fn authorize(State(judge): State<Arc<Judge>>, uri: Uri, method: Method, headers: HeaderMap) -> Response {
    let (instance, appended) = target(&uri);
    let asked = Asked::of(&headers, &method, appended.as_deref());
    let verdict = judge.judge(&instance, &asked, &headers).await;
    audit::write(&instance, &asked, &verdict);
    answer(&verdict)
}

/// The Instance that a path names, and the path with its query that a proxy has appended, if it has. Taken as it is written:
/// no name has anything to decode, and what a caller wrote behind it may be no text at all. The query alone is nothing
/// appended: Caddy passes it on, and a caller can write any slash into it.
fn target(uri: &Uri) -> (Key, Option<String>) {
    let mut parts = uri.path().splitn(7, '/').skip(3);
    let mut next = || parts.next().unwrap_or_default();
    let instance = Key { namespace: next().to_owned(), name: next().to_owned() };
    let _authorize = next();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    (instance, parts.next().map(|rest| format!("/{rest}{query}")))
}

fn answer(verdict: &Verdict) -> Response {
    let uncached = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    let status = verdict.cause.status();
    match (verdict.cause, status) {
        (Cause::Allowed, _) => (status, uncached, identity(verdict)).into_response(),
        (Cause::Missing, _) => (status, uncached, challenge(r#"Bearer realm="tokenry""#)).into_response(),
        (_, StatusCode::UNAUTHORIZED) => {
            let told = r#"Bearer realm="tokenry", error="invalid_token""#;
            (status, uncached, challenge(told), error("invalid_token")).into_response()
        }
        (_, StatusCode::FORBIDDEN) => {
            let told = r#"Bearer realm="tokenry", error="insufficient_scope""#;
            (status, uncached, challenge(told), refusal(verdict)).into_response()
        }
        _ => (status, uncached, [(RETRY_AFTER, HeaderValue::from_static("1"))], error("temporarily_unavailable"))
            .into_response(),
    }
}

/// What the caller is asked for, and what was wrong with what it gave (RFC 6750, 3).
fn challenge(value: &'static str) -> [(HeaderName, HeaderValue); 1] {
    [(WWW_AUTHENTICATE, HeaderValue::from_static(value))]
}

fn error(code: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], format!("{{\"error\":\"{code}\"}}\n"))
}

/// What a caller is told who is known and may not do that.
fn refusal(verdict: &Verdict) -> impl IntoResponse {
    let message = verdict.message.as_deref().or(verdict.cause.hint());
    let told = serde_json::json!({"error": "insufficient_scope", "error_description": message});
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], format!("{told}\n"))
}

/// Every identity header. All of them are in every answer that lets a request in, empty where there is no value: through
/// some proxies a header that is left out lets the caller's own pass.
fn identity(verdict: &Verdict) -> HeaderMap {
    let identity = verdict.identity.as_ref();
    let value =
        |text: Option<&str>| HeaderValue::from_str(text.unwrap_or_default()).unwrap_or(HeaderValue::from_static(""));
    let subject = value(identity.map(|identity| identity.subject.as_str()));
    [
        (SUBJECT, subject.clone()),
        (TOKEN_ID, value(identity.map(|identity| identity.id.as_str()))),
        (ROLE, value(identity.and_then(|identity| identity.role.as_deref()))),
        (ORGANIZATION, value(identity.map(|identity| identity.organization.as_str()))),
        (USER, subject),
    ]
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::check::Identity;

    #[test]
    fn a_path_names_the_instance_and_what_is_behind() {
        let of = |path: &'static str| {
            let (instance, rest) = target(&Uri::from_static(path));
            (instance.namespace, instance.name, rest)
        };
        let eem = |rest: Option<&str>| ("a".into(), "eem".into(), rest.map(str::to_owned));
        assert_eq!(of("/v1/instances/a/eem/authorize"), eem(None));
        assert_eq!(of("/v1/instances/a/eem/authorize/"), eem(Some("/")));
        assert_eq!(of("/v1/instances/a/eem/authorize//x?a=/b"), eem(Some("//x?a=/b")));
        assert_eq!(of("/v1/instances/a/eem/authorize/x/%ff"), eem(Some("/x/%ff")));
        assert_eq!(of("/v1/instances/a/eem/authorize/x?a=/b&c=?"), eem(Some("/x?a=/b&c=?")));
        // A proxy passes on the caller's query, which appends nothing.
        for query in ["?", "?a=b", "?a=/b", "?/b", "?a=/b/c?d/e"] {
            let uri: Uri = format!("/v1/instances/a/eem/authorize{query}").parse().unwrap();
            assert_eq!(target(&uri).1, None, "{query}");
        }
    }

    #[test]
    fn every_identity_header_is_there_also_without_a_value() {
        let identity = Identity {
            token: Key { namespace: "a".into(), name: "x".into() },
            generation: 1,
            id: "7Hq0x".into(),
            subject: "account:a/x".into(),
            role: Some("viewer".into()),
            organization: "acme".into(),
        };
        let answer = answer(&Verdict { identity: Some(identity), ..Cause::Allowed.into() });
        assert_eq!(answer.status(), StatusCode::OK);
        let said = [SUBJECT, TOKEN_ID, ROLE, ORGANIZATION, USER]
            .map(|name| answer.headers()[name].to_str().unwrap().to_owned());
        assert_eq!(said, ["account:a/x", "7Hq0x", "viewer", "acme", "account:a/x"]);
    }

    #[test]
    fn refusals_are_told_as_rfc_6750_says() {
        let told = |cause: Cause| {
            let answer = answer(&cause.into());
            let challenge = answer.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
            (answer.status().as_u16(), challenge.unwrap_or_default())
        };
        assert_eq!(told(Cause::Missing), (401, r#"Bearer realm="tokenry""#.into()));
        assert_eq!(told(Cause::Expired), (401, r#"Bearer realm="tokenry", error="invalid_token""#.into()));
        assert_eq!(
            told(Cause::NamespaceNotAdmitted),
            (403, r#"Bearer realm="tokenry", error="insufficient_scope""#.into())
        );
        assert_eq!(told(Cause::NotSynced), (503, String::new()));
    }
}
