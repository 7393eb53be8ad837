//! The authentication of ingress-nginx, an Ingress controller. Its nginx asks by `auth_request`.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::any,
};

use super::{
    super::{Asking, Origin, PresentedCredential},
    Door, Protocol,
    forward_auth::{for_nginx, told},
    proxied,
};
use crate::outside::server::PeerAddress;

/// The route `ANY /v1/instances/{namespace}/{name}/ingress-nginx`. It is a path of its own, because a caller can write
/// anything into a query.
pub(crate) fn router(door: Arc<Door>) -> Router {
    Router::new().route("/v1/instances/{namespace}/{name}/ingress-nginx", any(authorize)).with_state(door)
}

async fn authorize(State(door): State<Arc<Door>>, asked: Request) -> Response {
    let (parts, _) = asked.into_parts();
    let (instance, _) = proxied::target(&parts.uri);
    let request = Some(proxied::original(&parts.headers));
    let origin = Origin::of(Protocol::IngressNginx, &parts.headers, PeerAddress::of(&parts.extensions));
    for_nginx(told(&door.ask(&Asking { origin, instance, credential: PresentedCredential::InHeaders, request }).await))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outside::Hearing,
        verifier::{
            StaleAnswers,
            fixture::{teach, value, waiting_for},
            protocol::forward_auth::tests::{Asked, names_the_request},
        },
    };
    use axum::body::Body;
    use http::{HeaderMap, header::WWW_AUTHENTICATE};
    use tower::ServiceExt;

    fn subrequest<'a>(method: &str, target: &str, mut headers: Vec<(&'a str, String)>) -> Asked<'a> {
        headers.extend([
            ("host", "tokenry-verifier.tokenry-system.svc.cluster.local".into()),
            ("x-request-id", "443df6f7d8e14bb981e29bb7946ffd85".into()),
            ("x-original-url", format!("https://shop.example.com:8443{target}")),
            ("x-original-method", method.into()),
            ("x-sent-from", "nginx-ingress-controller".into()),
            ("x-real-ip", "10.0.0.1".into()),
            ("x-forwarded-for", "10.0.0.1".into()),
            ("x-auth-request-redirect", target.into()),
        ]);
        ("GET", "/v1/instances/a/eem/ingress-nginx".into(), headers)
    }

    #[tokio::test]
    async fn ingress_nginx_names_the_request_as_a_url() {
        names_the_request(router, subrequest).await;
    }

    async fn status(path: &str, headers: &[(&str, &str)]) -> u16 {
        let door = crate::verifier::fixture::door();
        teach(&door, &value());
        let mut request = Request::builder().uri(path).header("api-token", value());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router(door).oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_request_that_ingress_nginx_does_not_name_is_not_known() {
        let asked = async |headers: &[(&str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
            }
            let wanted = proxied::original(&map);
            wanted.request().path.map(|path| path.to_string())
        };
        let (method, url) = (("x-original-method", "GET"), ("x-original-url", "http://a/orders?b=http://c/d"));
        assert_eq!(asked(&[method, url]).await.as_deref(), Some("/orders"));
        for headers in [
            &[][..],
            &[method],
            &[url],
            &[method, ("x-forwarded-uri", "/orders"), ("x-original-uri", "/orders")],
            &[method, ("x-original-url", "/orders")],
            &[method, ("x-original-url", "//a/orders")],
            &[method, ("x-original-url", "ftp://a/orders")],
            &[method, ("x-original-url", "http:///orders")],
            &[method, ("x-original-url", "http://a;b/orders")],
            &[method, ("x-original-url", "http://a%2f/orders")],
            &[method, ("x-original-url", "http://a?/orders")],
            &[method, url, url],
            &[method, method, url],
        ] {
            assert_eq!(asked(headers).await, None, "{headers:?}");
        }
        // Headers of other proxies do not count.
        let forged = [method, url, ("x-forwarded-uri", "/login"), ("x-forwarded-method", "POST")];
        assert_eq!(asked(&forged).await.as_deref(), Some("/orders"));
    }

    #[tokio::test]
    async fn nothing_is_behind_the_path_for_ingress_nginx_and_a_query_changes_nothing() {
        let named = [("x-original-url", "http://a/orders"), ("x-original-method", "GET")];
        let path = "/v1/instances/a/eem/ingress-nginx";
        assert_eq!(status(path, &named).await, 200);
        assert_eq!(status(&format!("{path}?mode=other&/login"), &named).await, 200);
        for behind in ["/", "/login", "/authorize"] {
            assert_eq!(status(&format!("{path}{behind}"), &named).await, 404, "{behind}");
        }
    }

    #[tokio::test]
    async fn nginx_passes_on_that_nothing_can_be_decided_now() {
        let unread = Arc::new(waiting_for(&["instances"], Hearing::default(), StaleAnswers::default()));
        let request = Request::builder().uri("/v1/instances/a/eem/ingress-nginx").body(Body::empty()).unwrap();
        let answer = router(unread).oneshot(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get(WWW_AUTHENTICATE)), (403, None));
    }
}
