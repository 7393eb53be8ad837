//! `/log-level`: the level of the log, read and changed while the process runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::{
    Router,
    body::to_bytes,
    extract::Request,
    http::{
        StatusCode,
        header::{HOST, ORIGIN},
        uri::Authority,
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{server::PeerAddress, telemetry};

/// The longest level, in bytes.
const LONGEST: usize = 1024;
/// The addresses of callers within the Pod. `kubectl port-forward` calls from them, and RBAC says which user may do so.
/// Other loopback addresses do not count, because sidecars of service meshes pass on requests of others from there.
const WITHIN: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The route `/log-level`, for callers within the Pod. GET reads the level, and PUT changes it.
pub(super) fn router() -> Router {
    Router::new().route("/log-level", get(read).put(change)).layer(middleware::from_fn(within))
}

/// Refuses callers from outside the Pod, and pages in a browser beside a forwarded port.
async fn within(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0.to_canonical());
    if peer.is_some_and(|peer| WITHIN.contains(&peer)) && names_itself(&request) {
        return next.run(request).await;
    }
    let told = "the log level can be read and changed from within the Pod alone: use `kubectl port-forward`\n";
    (StatusCode::FORBIDDEN, told).into_response()
}

/// True if the request names this server by an address or by `localhost`. A page can let a name of its own resolve to
/// 127.0.0.1, and is then of the same origin.
fn names_itself(request: &Request) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host.or_else(|| request.uri().host()) else { return true };
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    !request.headers().contains_key(ORIGIN) && (name == "localhost" || name.parse::<IpAddr>().is_ok())
}

async fn read() -> (StatusCode, String) {
    let none = (StatusCode::NOT_FOUND, "logging has not started\n".to_owned());
    telemetry::level().map_or(none, |level| (StatusCode::OK, format!("{level}\n")))
}

async fn change(request: Request) -> (StatusCode, String) {
    let Ok(body) = to_bytes(request.into_body(), LONGEST).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, format!("the level is longer than {LONGEST} bytes\n"));
    };
    match telemetry::set_level(String::from_utf8_lossy(&body).trim()) {
        Ok(()) => read().await,
        Err(wrong) => (StatusCode::BAD_REQUEST, format!("{wrong}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use tower::ServiceExt;

    async fn put(peer: Option<&str>, body: &str) -> u16 {
        let mut request = Request::put("/log-level");
        if let Some(peer) = peer {
            request = request.extension(PeerAddress(peer.parse().unwrap()));
        }
        router().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn only_callers_within_the_pod_change_the_level_and_only_to_one_that_exists() {
        for within in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(put(Some(within), "loud").await, 400, "{within}");
            assert_eq!(put(Some(within), &"x".repeat(LONGEST + 1)).await, 413, "{within}");
        }
        for without in [Some("127.0.0.6"), Some("10.0.0.7"), Some("fd00::1"), Some("::ffff:10.0.0.7"), None] {
            assert_eq!(put(without, "debug").await, 403, "{without:?}");
        }
    }

    #[tokio::test]
    async fn a_page_whose_name_leads_to_the_forwarded_port_changes_nothing() {
        let asked = async |headers: &[(&str, &str)]| {
            let mut request = Request::get("/log-level").extension(PeerAddress("127.0.0.1".parse().unwrap()));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
        };
        for own in ["localhost:8081", "127.0.0.1:8081", "[::1]:8081"] {
            assert_ne!(asked(&[("host", own)]).await, 403, "{own}");
        }
        for rebound in ["evil.example.com:8081", "localhost.evil.example.com", ""] {
            assert_eq!(asked(&[("host", rebound)]).await, 403, "{rebound}");
        }
        assert_eq!(asked(&[("host", "localhost:8081"), ("origin", "http://localhost:8081")]).await, 403);
    }
}
