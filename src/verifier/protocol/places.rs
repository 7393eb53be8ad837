//! The places for bodies that are being read.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

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

/// The number of bodies that are being read.
static READING: AtomicUsize = AtomicUsize::new(0);

/// The number of bodies that this process is reading, in all protocols.
pub(crate) fn reading() -> usize {
    READING.load(Ordering::Relaxed)
}

/// A taken place, for as long as a body is being read.
pub(super) struct BodySeat {
    _seat: Seat<Option<PeerAddress>>,
}

impl BodySeat {
    fn new(seat: Seat<Option<PeerAddress>>) -> Self {
        READING.fetch_add(1, Ordering::Relaxed);
        Self { _seat: seat }
    }
}

impl Drop for BodySeat {
    fn drop(&mut self) {
        READING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The places for bodies that are being read, counted by the address of the caller.
#[derive(Clone)]
pub(crate) struct BodyPlaces(Arc<Crowd<Option<PeerAddress>>>);

impl BodyPlaces {
    /// Takes a place for the body of a request.
    ///
    /// # Errors
    /// Too many bodies are being read.
    pub(super) fn take(of: &Extensions) -> Result<BodySeat, Cause> {
        let seat = of.get::<Self>().and_then(|places| places.0.take(of.get::<PeerAddress>().copied()));
        seat.map(BodySeat::new).ok_or(Cause::Crowded)
    }
}

/// The layer that limits the bodies of a router.
pub(crate) fn limit() -> Extension<BodyPlaces> {
    Extension(BodyPlaces(Arc::new(Crowd::new(EACH, ALL))))
}
