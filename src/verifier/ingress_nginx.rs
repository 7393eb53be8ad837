//! The authentication of ingress-nginx, an Ingress controller. Its nginx asks by `auth_request`.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::any};
use http::{HeaderMap, StatusCode, Uri};

use super::{Asking, Door, forward_auth::told, proxied};

/// The route `ANY /v1/instances/{namespace}/{name}/ingress-nginx`. It is a path of its own, because any caller can write
/// into a query.
pub(crate) fn router(door: Arc<Door>) -> Router {
    Router::new().route("/v1/instances/{namespace}/{name}/ingress-nginx", any(authorize)).with_state(door)
}

async fn authorize(State(door): State<Arc<Door>>, uri: Uri, headers: HeaderMap) -> Response {
    let (instance, _) = proxied::target(&uri);
    let credential = door.credential(&instance, &headers);
    let request = Some(proxied::original(&headers));
    passed_on(told(&door.ask(&Asking { instance, credential, request }).await))
}

/// The answer with a status that nginx passes on. It turns any other than 200, 401 and 403 into 500, which looks like a
/// fault of the API. The caller of a verifier that cannot decide gets 403: its token is not bad.
fn passed_on(mut answer: Response) -> Response {
    if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
        *answer.status_mut() = StatusCode::FORBIDDEN;
    }
    answer
}
