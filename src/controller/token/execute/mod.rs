//! Carries out a decision. Each action has a file. The types make sure that a value is recorded before it is published.

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

/// The token's resourceVersion after the writes, and the progress.
type Done = (Version, Progress);

/// Carries out `decision`. A stale view ends the pass at the record, because a value is published only after its digest
/// is on record. An account may have been created by then; the next pass finds it. A stale view removes nothing.
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

/// Deletes the token, which has ended, if it is unchanged. If it is gone already, the pass ends without another event.
async fn forget(rooms: &Rooms, world: &World, done: Progress) -> Result<Progress, Obstacle> {
    tokio::try_join!(still::forgets(rooms, world), still::as_seen(rooms, world))?;
    rooms.writer.delete(&*world.token).await?;
    Ok(done)
}

/// Turns a refusal into a failure for the status. A stale view is an error instead, because the next pass reads again.
fn concluded(answer: Result<(), Refusal>, done: Progress) -> Result<Progress, Obstacle> {
    match answer {
        Ok(()) => Ok(done),
        Err(refusal) if refusal.why == Why::Stale => Err(refusal.into()),
        Err(refusal) => Ok(done.failed(Reason::PublishFailed, refusal)),
    }
}
