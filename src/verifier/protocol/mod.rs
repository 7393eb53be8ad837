//! The protocols by which callers ask: one adapter each. An adapter turns a message into an `Asking`, asks the
//! [`Door`], and puts the `Answer` into the words of its protocol.

mod body;
mod forward_auth;
mod ingress_nginx;
pub(crate) mod proxied;
mod review;
mod token_review;

use std::sync::Arc;

use axum::Router;

use super::Door;

/// A protocol that the verifier speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Forward authentication over HTTP: nginx `auth_request`, Traefik, Caddy, Envoy.
    ForwardAuth,
    /// The authentication of ingress-nginx.
    IngressNginx,
    /// The webhook for token authentication of the Kubernetes API.
    TokenReview,
}

impl Protocol {
    /// The name of the protocol, for metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForwardAuth => "forward-auth",
            Self::IngressNginx => "ingress-nginx",
            Self::TokenReview => "token-review",
        }
    }

    /// The header in which a proxy names the address of its caller, last in a list. `None`: there is no proxy.
    pub fn source_header(self) -> Option<&'static str> {
        match self {
            Self::ForwardAuth => Some("x-forwarded-for"),
            Self::IngressNginx => Some("x-real-ip"),
        }
    }
}

/// The routes of all protocols.
pub(crate) fn router(door: Arc<Door>) -> Router {
    forward_auth::router(door.clone())
        .merge(ingress_nginx::router(door.clone()))
        .merge(token_review::router(door))
}
