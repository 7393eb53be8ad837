//! The protocols by which callers ask: one adapter each. An adapter turns a message into an `Asking`, asks the
//! [`Door`], and puts the `Answer` into the words of its protocol.

mod body;
mod ext_authz;
pub(super) mod forward_auth;
mod front;
mod ingress_nginx;
mod introspected;
mod introspection;
mod places;
pub(crate) mod proxied;
mod review;
mod slow;
mod spoken;
mod token_review;
mod unknown;

use std::sync::Arc;

use axum::Router;

use super::Door;
use crate::outside::Reviewer;

pub(crate) use front::Front;
pub(super) use slow::reading as bodies;
pub use spoken::Protocol;

/// The routes of all protocols, and the refusal at each other path. `reviewer` reviews the callers of introspection.
/// `None`: introspection is off.
pub(crate) fn router(door: Arc<Door>, reviewer: Option<Arc<Reviewer>>) -> Router {
    forward_auth::router(door.clone())
        .merge(ingress_nginx::router(door.clone()))
        .merge(token_review::router(door.clone()))
        .merge(ext_authz::router(door.clone()))
        .merge(introspection::router(door.clone(), reviewer))
        .merge(unknown::router(door))
}
