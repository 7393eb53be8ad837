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

/// Writes the claim of a value into status and then removes its Secret. The order matters: without the Secret, no later
/// pass could tell how the value was claimed.
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
        // The notes become events once the status is written. If this pass is cut off, a later pass writes them.
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
