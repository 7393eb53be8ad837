//! The places for bodies that are being read, for the routes of a protocol.

use axum::Extension;
use http::Extensions;

use super::super::Cause;
use super::slow::BodyPlaces;
pub(super) use super::slow::BodySeat;

/// Takes a place for the body of a request.
///
/// # Errors
/// The route has no places.
pub(super) fn take(of: &Extensions) -> Result<BodySeat, Cause> {
    let places = of.get::<BodyPlaces>().ok_or(Cause::Crowded)?;
    Ok(places.take(of.get().copied()))
}

/// The layer that limits the bodies of a router.
pub(crate) fn limit() -> Extension<BodyPlaces> {
    Extension(BodyPlaces::default())
}
