//! The first look at a request. Forward authentication is answered at once, and the router answers all other requests.
//! Nearly every request is for forward authentication, and the router would make its answer dearer.

use std::sync::Arc;

use axum::{Router, response::Response};
use http::Request;
use hyper::body::Incoming;

use super::{Door, forward_auth};
use crate::outside::server::{PeerAddress, Responding};

/// Answers all requests of callers.
#[derive(Clone)]
pub(crate) struct Front {
    door: Arc<Door>,
    router: Router,
}

impl Front {
    /// Answers forward authentication by `door`. `router` answers all other requests, and can answer these too.
    pub(crate) fn new(door: Arc<Door>, router: Router) -> Self {
        Self { door, router }
    }
}

impl Responding for Front {
    async fn answer(&self, request: Request<Incoming>, peer: PeerAddress) -> Response {
        if forward_auth::is_quick(request.method(), request.uri().path()) {
            let (parts, _) = request.into_parts();
            return forward_auth::answer(&self.door, &parts, Some(peer)).await;
        }
        self.router.answer(request, peer).await
    }
}
