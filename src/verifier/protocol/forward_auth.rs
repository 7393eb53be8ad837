//! Forward authentication over HTTP: nginx `auth_request`, Traefik ForwardAuth, Caddy `forward_auth`, Envoy HTTP
//! ext_authz.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use http::{Method, StatusCode, request::Parts};

use super::{
    super::{Answer, Asking, Origin, PresentedCredential},
    Door, Protocol, proxied,
};
use crate::outside::server::PeerAddress;

/// The route `ANY /v1/instances/{namespace}/{name}/authorize`, with any path behind it. Envoy appends the caller's
/// path. With the query `mode=nginx` the status is 200, 401 or 403.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let paths = ["", "/", "/{*rest}"].map(|rest| format!("/v1/instances/{{namespace}}/{{name}}/authorize{rest}"));
    paths.iter().fold(Router::new(), |router, path| router.route(path, any(authorize))).with_state(door)
}

async fn authorize(State(door): State<Arc<Door>>, asked: Request) -> Response {
    let (parts, _) = asked.into_parts();
    answer(&door, &parts, PeerAddress::of(&parts.extensions)).await
}

/// True if [`answer`] answers a request as the router does. The router knows more about `HEAD` and `CONNECT`, whose
/// answers have no body.
pub(crate) fn is_quick(method: &Method, path: &str) -> bool {
    let below = proxied::Below::of(path);
    let is_it = below.question == "authorize" && !below.namespace.is_empty() && !below.name.is_empty();
    is_it && ![Method::HEAD, Method::CONNECT].contains(method)
}

/// The answer to the head of a question from `peer`.
pub(crate) async fn answer(door: &Door, parts: &Parts, peer: Option<PeerAddress>) -> Response {
    let (instance, appended) = proxied::target(&parts.uri);
    let request = Some(proxied::requested(&parts.headers, &parts.method, appended));
    let origin = Origin::of(Protocol::ForwardAuth, &parts.headers, peer);
    let answer =
        told(&door.ask(&Asking { origin, instance, credential: PresentedCredential::InHeaders, request }).await);
    if proxied::is_nginx(&parts.uri, appended) { for_nginx(answer) } else { answer }
}

/// The answer with a status that nginx passes on. It turns any other than 200, 401 and 403 into 500, which looks like a
/// fault of the API. The caller of a verifier that cannot decide gets 403: its token is not bad.
pub(crate) fn for_nginx(mut answer: Response) -> Response {
    if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
        *answer.status_mut() = StatusCode::FORBIDDEN;
    }
    answer
}

/// The answer as an HTTP response.
pub(crate) fn told(answer: &Answer) -> Response {
    let proxied::Wording { status, headers, body } = proxied::told(answer);
    let mut response = Response::new(if body.is_empty() { Body::empty() } else { Body::from(body) });
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        access::header::{IDENTITY, ORGANIZATION, ROLE, SUBJECT, TOKEN_ID, USER},
        crd::guarding::PROBE,
        outside::Hearing,
        verifier::{
            Cause, Identity, StaleAnswers, Verdict,
            fixture::{door, teach_of, value, waiting_for},
            index::Key,
            origin::REQUEST_ID,
        },
    };
    use axum::body::to_bytes;
    use http::{HeaderValue, Request, header::WWW_AUTHENTICATE};
    use serde_json::json;
    use tower::ServiceExt;

    /// The request of a proxy: its method and path, and its headers.
    pub(crate) type Asked<'a> = (&'a str, String, Vec<(&'a str, String)>);

    async fn answer(routes: fn(Arc<Door>) -> Router, (method, path, headers): Asked<'_>) -> (Response<()>, String) {
        let door = door();
        let excluded = json!([{"methods": ["DELETE"], "paths": ["/orders"], "message": "judged"}]);
        let unguarded = json!([{"paths": ["/login"]}, {"paths": ["/.tokenry/**"]}]);
        let from = json!({"header": "X-Organization"});
        let api = json!({"excluded": excluded, "unguarded": unguarded, "organizationFrom": from});
        teach_of(&door, &value(), &json!({"api": api, "organizations": ["acme"]}));
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = routes(door).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, 4096).await.unwrap();
        (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
    }

    /// Checks that a proxy names the request of its caller, and passes on the credential and the organization. `ask`
    /// makes the request of the proxy from the caller's method, target and headers.
    pub(crate) async fn names_the_request<'a>(
        routes: fn(Arc<Door>) -> Router,
        ask: impl Fn(&'a str, &'a str, Vec<(&'a str, String)>) -> Asked<'a>,
    ) {
        let bearer = ("authorization", format!("Bearer {}", value()));
        let of = |name: &str| ("x-organization", name.to_owned());
        let asked = async |method, target, headers: &[(&'a str, String)]| {
            let (answer, body) = answer(routes, ask(method, target, headers.to_vec())).await;
            let challenge =
                answer.headers().get(WWW_AUTHENTICATE).map_or("", |value| value.to_str().unwrap()).to_owned();
            (answer.status().as_u16(), challenge, body, answer.headers().clone())
        };
        let (status, _, _, headers) = asked("GET", "/orders?a=b", &[bearer.clone(), of("acme")]).await;
        assert_eq!((status, &headers[SUBJECT], &headers[USER]), (200, &headers[USER], &headers[SUBJECT]));
        assert_eq!(IDENTITY.map(|name| headers.get_all(name).iter().count()), [1; 5]);
        let (status, _, body, _) = asked("DELETE", "/orders?a=b", &[bearer.clone(), of("acme")]).await;
        assert!(status == 403 && body.contains("judged"), "{status} {body}");
        let (status, _, body, _) = asked("GET", "/orders", &[bearer.clone(), of("other")]).await;
        assert!(status == 403 && body.contains("organization"), "{status} {body}");
        let (status, _, body, _) = asked("GET", "/orders/../login", &[bearer.clone(), of("acme")]).await;
        assert!(status == 403 && body.contains("path"), "{status} {body}");
        let (status, _, _, headers) = asked("POST", "/login", &[]).await;
        assert_eq!((status, IDENTITY.map(|name| headers[name].clone())), (200, [""; 5].map(HeaderValue::from_static)));
        let plain = r#"Bearer realm="tokenry/a/eem""#;
        let refused = async |method, target, headers: &[(&'a str, String)]| {
            let (status, challenge, ..) = asked(method, target, headers).await;
            (status, challenge)
        };
        assert_eq!(refused("GET", "/orders", &[]).await, (401, plain.to_owned()));
        let odd = ("authorization", "Bearer good,Bearer bad".to_owned());
        assert_eq!(refused("GET", "/orders", &[odd]).await, (401, format!(r#"{plain}, error="invalid_token""#)));
        for method in ["GET", "DELETE"] {
            assert_eq!(refused(method, PROBE, &[]).await, (401, plain.to_owned()));
            assert_eq!(refused(method, PROBE, &[bearer.clone(), of("acme")]).await, (401, plain.to_owned()));
        }
    }

    #[tokio::test]
    async fn traefik_names_the_request_in_headers_of_its_own_and_passes_all_others_on() {
        names_the_request(router, |method, target, mut headers| {
            headers.extend([
                ("host", "tokenry-verifier.tokenry-system.svc".into()),
                ("user-agent", "curl/7.88.1".into()),
                ("x-forwarded-for", "10.0.0.1".into()),
                ("x-forwarded-host", "shop.example.com".into()),
                ("x-forwarded-method", method.into()),
                ("x-forwarded-port", "443".into()),
                ("x-forwarded-proto", "https".into()),
                ("x-forwarded-uri", target.into()),
                ("accept-encoding", "gzip".into()),
            ]);
            ("GET", "/v1/instances/a/eem/authorize".into(), headers)
        })
        .await;
    }

    /// The request of an Envoy, which appends the target to its path.
    fn appended<'a>(method: &'a str, target: &str, mut headers: Vec<(&'a str, String)>) -> Asked<'a> {
        headers.extend([("host", "shop.example.com".into()), ("content-length", "0".into())]);
        (method, format!("/v1/instances/a/eem/authorize{target}"), headers)
    }

    #[tokio::test]
    async fn envoy_gateway_appends_the_request_to_the_path_of_its_policy() {
        names_the_request(router, |method, target, headers| {
            let (method, path, mut headers) = appended(method, target, headers);
            headers.extend([("x-envoy-internal", "true".into()), ("x-envoy-expected-rq-timeout-ms", "2000".into())]);
            (method, path, headers)
        })
        .await;
    }

    #[tokio::test]
    async fn a_gateway_with_external_auth_appends_the_request_to_the_path_of_its_filter() {
        names_the_request(router, appended).await;
        // The caller can send any header that the filter allows.
        names_the_request(router, |method, target, headers| {
            let (method, path, mut headers) = appended(method, target, headers);
            headers.extend([("x-forwarded-method", method.into()), ("x-forwarded-uri", target.into())]);
            (method, path, headers)
        })
        .await;
    }

    #[tokio::test]
    async fn istio_appends_the_request_to_the_prefix_of_its_provider_and_passes_headers_on_by_their_beginning() {
        names_the_request(router, |method, target, headers| {
            let (method, path, mut headers) = appended(method, target, headers);
            headers.extend([
                ("x-forwarded-proto", "https".into()),
                ("x-forwarded-for", "10.0.0.1".into()),
                ("x-request-id", "443df6f7-d8e1-4bb9-81e2-9bb7946ffd85".into()),
                ("x-envoy-attempt-count", "1".into()),
                ("x-envoy-internal", "true".into()),
                ("x-b3-sampled", "0".into()),
            ]);
            (method, path, headers)
        })
        .await;
    }

    #[tokio::test]
    async fn where_a_proxy_appends_the_request_a_caller_cannot_name_another_in_headers() {
        let forged = [("x-forwarded-method", "POST".to_owned()), ("x-forwarded-uri", "/login".to_owned())];
        let (first, _) = answer(router, appended("GET", "/orders", forged.to_vec())).await;
        assert_eq!(first.status(), 401);
        let token = [("authorization", format!("Bearer {}", value())), ("x-organization", "acme".into())];
        let both = [&forged[..], &token].concat();
        let (answer, body) = self::answer(router, appended("DELETE", "/orders", both)).await;
        assert!(answer.status() == 403 && body.contains("judged"), "{body}");
    }

    #[tokio::test]
    async fn every_answer_has_the_request_id_of_the_question_or_one_that_was_made() {
        let asked = async |headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|&(name, value)| (name, value.to_owned())).collect();
            let (answer, _) = answer(router, ("GET", "/v1/instances/a/eem/authorize".into(), headers)).await;
            (answer.status().as_u16(), answer.headers()[REQUEST_ID].to_str().unwrap().to_owned())
        };
        let (uri, method) = (("x-forwarded-uri", "/login"), ("x-forwarded-method", "GET"));
        assert_eq!(asked(&[("x-request-id", "a.B-7_")]).await, (401, "a.B-7_".into()));
        assert_eq!(asked(&[uri, method, ("x-request-id", "a")]).await, (200, "a".into()));
        assert_eq!(asked(&[("x-request-id", "a/b")]).await, (401, "p-1".into()));
        assert_eq!(asked(&[uri, method]).await, (200, "p-1".into()));
    }

    #[tokio::test]
    async fn a_request_is_quick_only_if_the_router_answers_it_too() {
        for (path, is_quick) in [
            ("/v1/instances/a/eem/authorize", true),
            ("/v1/instances/a/eem/authorize/", true),
            ("/v1/instances/a/eem/authorize//orders/%2F/../x", true),
            ("/v1/instances/a%2Fb/eem/authorize", true),
            ("/v1/instances/a/eem/authorized", false),
            ("/v1/instances/a/eem/Authorize", false),
            ("/v1/instances/a/eem/ingress-nginx", false),
            ("/v1/instances/a/eem", false),
            ("/v1/instances//eem/authorize", false),
            ("/v1/instances/a//authorize", false),
            ("//v1/instances/a/eem/authorize", false),
            ("/v2/instances/a/eem/authorize", false),
            ("/healthz", false),
            ("/", false),
        ] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let status = router(door()).oneshot(request).await.unwrap().status();
            assert_eq!(super::is_quick(&Method::GET, path), is_quick, "{path}");
            assert!(status != StatusCode::NOT_FOUND || !is_quick, "{path}: {status}");
            assert!(!super::is_quick(&Method::HEAD, path) && !super::is_quick(&Method::CONNECT, path));
        }
    }

    #[tokio::test]
    async fn nginx_is_answered_as_it_understands_and_a_caller_behind_an_appended_path_cannot_ask_for_that() {
        let unread = Arc::new(waiting_for(&["instances"], Hearing::default(), StaleAnswers::default()));
        for (query, status) in [("", 503), ("?mode=nginx", 403), ("/orders?mode=nginx", 503), ("?mode=other", 503)] {
            let path = format!("/v1/instances/a/eem/authorize{query}");
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let answer = router(unread.clone()).oneshot(request).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.headers().get(WWW_AUTHENTICATE)), (status, None), "{query}");
        }
    }

    #[tokio::test]
    async fn nginx_names_the_request_in_the_headers_of_the_documentation() {
        names_the_request(router, |method, target, mut headers| {
            headers.extend([
                ("host", "tokenry".into()),
                ("x-forwarded-method", method.into()),
                ("x-forwarded-uri", target.into()),
                ("x-forwarded-for", "10.0.0.1".into()),
            ]);
            ("GET", "/v1/instances/a/eem/authorize?mode=nginx".into(), headers)
        })
        .await;
    }

    #[test]
    fn every_identity_header_is_there_also_without_a_value() {
        let identity = Identity {
            token: Key { namespace: "a".into(), name: "x".into() },
            generation: 1,
            id: crate::token::Id::of("7Hq0x00000000000").unwrap(),
            uid: "u".into(),
            minted_at: jiff::Timestamp::UNIX_EPOCH,
            ends_at: None,
            subject: "account:a/x".into(),
            owner: Some("user:alice".into()),
            role: Some("viewer".into()),
            organization: "acme".into(),
            last_used: None,
        };
        let answer = told(&Verdict { identity: Some(identity), ..Cause::Allowed.into() }.into());
        assert_eq!(answer.status(), StatusCode::OK);
        let said = [SUBJECT, TOKEN_ID, ROLE, ORGANIZATION, USER]
            .map(|name| answer.headers()[name].to_str().unwrap().to_owned());
        assert_eq!(said, ["account:a/x", "7Hq0x00000000000", "viewer", "acme", "account:a/x"]);
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
