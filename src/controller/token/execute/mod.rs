//! Does what was decided, a file for each deed: record before publish, by type.

mod conceal;
mod follow;
mod mint;
mod roll;
mod secret;
mod still;

use std::sync::Arc;

use super::{
    act::{Act, Decision},
    own_account::follows,
    progress::Progress,
    terms::{CheckedTerms, TokenTerms},
    world::World,
};
use crate::{
    controller::{
        Obstacle, Rooms,
        kind::{Version, version},
    },
    crd::Reason,
    outside::{Refusal, Why},
};

/// Where the token stands after that, and how far it came.
type Done = (Version, Progress);

/// Does it. A stale view ends the pass at the record: a value is only published once its digest stands. (An account may
/// have been made by then; it is found by the next pass.) Nothing is taken away by a stale view either.
pub(crate) async fn execute(
    rooms: &Rooms,
    world: &World,
    terms: &CheckedTerms,
    decision: Decision<Arc<TokenTerms>>,
) -> Result<Done, Obstacle> {
    let told = decision.clone().told();
    let unfollowed = if follows(world, told) { follow::follow(rooms, world).await.err() } else { None };
    let done = Progress { unfollowed, ..Progress::none(told) };
    let progress = match decision.act {
        Act::Mint(terms) => return mint::mint(rooms, world, &terms, done).await,
        Act::Conceal(outcome) => return conceal::conceal(rooms, world, terms, outcome, done).await,
        Act::Acknowledge(generation) => Progress { published: Some((generation, world.now)), ..done },
        Act::Amend(terms) => secret::amend(rooms, world, &terms, done).await?,
        Act::End(reason) => secret::end(rooms, world, reason, done).await?,
        Act::Discard => secret::discard(rooms, world, done).await?,
        Act::Restart => roll::roll(rooms, world, done).await?,
        Act::Forget => forget(rooms, world, done).await?,
        Act::Rest | Act::Wait => done,
    };
    Ok((version(&*world.token), progress))
}

/// Deletes the token. One that is gone already was told of.
async fn forget(rooms: &Rooms, world: &World, done: Progress) -> Result<Progress, Obstacle> {
    tokio::try_join!(still::forgets(rooms, world), still::as_seen(rooms, world))?;
    rooms.writer.delete(&*world.token).await?;
    Ok(done)
}

/// A refusal goes into status, unless a new look will do.
fn concluded(answer: Result<(), Refusal>, done: Progress) -> Result<Progress, Obstacle> {
    match answer {
        Ok(()) => Ok(done),
        Err(refusal) if refusal.why == Why::Stale => Err(refusal.into()),
        Err(refusal) => Ok(done.failed(Reason::PublishFailed, refusal)),
    }
}
