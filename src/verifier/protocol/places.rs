//! The places for bodies that are being read.

use std::sync::Arc;

use axum::Extension;
use http::Extensions;

use super::super::Cause;
use crate::outside::{
    crowd::{Crowd, Seat},
    server::PeerAddress,
};

/// The numbers of bodies that are read at a time: of one caller, and of all. A slow caller takes no place from others,
/// and slow callers keep no more connections than that from others.
pub(super) const EACH: usize = 64;
const ALL: usize = 256;

/// The places for bodies that are being read, counted by the address of the caller.
#[derive(Clone)]
pub(crate) struct BodyPlaces(Arc<Crowd<Option<PeerAddress>>>);

impl BodyPlaces {
    /// Takes a place for the body of a request.
    ///
    /// # Errors
    /// Too many bodies are being read.
    pub(super) fn take(of: &Extensions) -> Result<Seat<Option<PeerAddress>>, Cause> {
        let seat = of.get::<Self>().and_then(|places| places.0.take(of.get::<PeerAddress>().copied()));
        seat.ok_or(Cause::Crowded)
    }
}

/// The layer that limits the bodies of a router.
pub(crate) fn limit() -> Extension<BodyPlaces> {
    Extension(BodyPlaces(Arc::new(Crowd::new(EACH, ALL))))
}
