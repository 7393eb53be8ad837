//! Updates a Secret without its value, and removes or empties Secrets.

use super::{concluded, still};
use crate::{
    controller::{
        Obstacle, Rooms,
        token::{
            delivery::{self, Details},
            progress::Progress,
            secrets::Held,
            terms::TokenTerms,
            world::World,
        },
    },
    crd::api_token::{OnRevoke, RevocationReason},
};

/// Updates the served Secret, except for its value.
pub(crate) async fn amend(
    rooms: &Rooms,
    world: &World,
    terms: &TokenTerms,
    done: Progress,
) -> Result<Progress, Obstacle> {
    let held = &world.secrets.served.held;
    let (Some(secret), Some(served)) = (held.ours(), world.records.served()) else { return Ok(done) };
    let changes = Details::of(world, terms, served, held).changes();
    concluded(rooms.writer.amend(secret, changes).await.map(|_| ()), done)
}

/// Empties or removes every Secret of a token that ends.
pub(crate) async fn end(
    rooms: &Rooms,
    world: &World,
    reason: RevocationReason,
    mut done: Progress,
) -> Result<Progress, Obstacle> {
    if reason == RevocationReason::OwnerRemoved && world.before().revocation.is_none() {
        still::is_removed(rooms, world).await?;
    }
    if world.withdrawable().next().is_some() {
        still::as_seen(rooms, world).await?;
    }
    for (secret, how) in world.withdrawable() {
        let answer = match how {
            OnRevoke::Keep => rooms.writer.amend(secret, delivery::emptied(secret)).await.map(|_| ()),
            OnRevoke::Delete => rooms.writer.delete(secret).await,
        };
        done = concluded(answer, done)?;
    }
    Ok(done)
}

/// Removes the Secret under the old name, if it is ours.
pub(crate) async fn discard(rooms: &Rooms, world: &World, done: Progress) -> Result<Progress, Obstacle> {
    let held = world.secrets.leftover.as_ref().map(|slot| &slot.held);
    let Some(secret) = held.and_then(Held::ours) else { return Ok(done) };
    still::as_seen(rooms, world).await?;
    concluded(rooms.writer.delete(secret).await, done)
}
