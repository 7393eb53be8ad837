//! Removes the Secret of a value that was shown once.

use super::{Done, concluded, still};
use crate::{
    controller::{
        Obstacle, Rooms,
        kind::{Settled, version},
        token::{once, progress::Progress, settle::settle, terms::CheckedTerms, world::World},
    },
    crd::api_token::ClaimOutcome,
};

/// Says what became of a value that is shown once, and then removes its Secret: in this order, as nobody could tell any
/// more once it is gone.
pub(crate) async fn conceal(
    rooms: &Rooms,
    world: &World,
    terms: &CheckedTerms,
    outcome: ClaimOutcome,
    done: Progress,
) -> Result<Done, Obstacle> {
    let done = Progress { claim: once::claim(world, outcome), ..done };
    let mut seen = version(&*world.token);
    if world.claim.is_some() {
        still::as_seen(rooms, world).await?;
    } else {
        // What is told of it once it stands, by a later pass where this one comes to no end.
        let Settled { status, notes, .. } = settle(world, terms, &done);
        let written = rooms.write_status(&*world.token, &seen, &status, &notes);
        seen = written.await?.version;
    }
    let done = match world.secrets.served.held.ours() {
        Some(secret) => concluded(rooms.writer.delete(secret).await, done)?,
        None => done,
    };
    Ok((seen, done))
}
