//! What cannot be undone is done only while all is still as it was seen: asked past the caches.

use std::sync::Arc;

use kube::ResourceExt;

use crate::{
    controller::{Obstacle, Rooms, instance, kind::version, token::world::World},
    crd::{Account, ApiToken, Instance},
    outside::Refusal,
};

/// That the token is still as it was seen. What is taken away is as it was seen, too, by its own version; but a view of
/// the token that is older than that of the Secret would take away a value that was published since.
pub(crate) async fn as_seen(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    let seen = &*world.token;
    let live: Option<ApiToken> = rooms.reader.live(world.namespace(), &seen.name_any()).await?;
    so(live.is_some_and(|live| live.uid() == seen.uid() && version(&live) == version(seen)))
}

/// That the Instance, as it is now, wants the token deleted.
pub(crate) async fn forgets(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    let wait = |instance: &Instance| instance::forget_after(&instance.spec);
    so(instance_says(rooms, world, |live, seen| wait(live) == wait(seen)).await?)
}

/// That the Instance, as it is now, has the token end without its owner, and that the account, where the owner is its,
/// names nobody else now.
pub(crate) async fn is_removed(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    so(instance_says(rooms, world, |live, seen| live.spec == seen.spec).await? && owns(rooms, world).await?)
}

/// Whether the Instance, as it is now, says the `same` as when it was seen.
async fn instance_says(
    rooms: &Rooms,
    world: &World,
    same: impl Fn(&Instance, &Instance) -> bool,
) -> Result<bool, Obstacle> {
    let seen = world.instance.as_ref().ok_or(Obstacle::Changed)?;
    let live: Option<Instance> = rooms.reader.live(&seen.namespace().unwrap_or_default(), &seen.name_any()).await?;
    Ok(live.is_some_and(|live| live.uid() == seen.uid() && same(&live, seen)))
}

/// Whether the account names the same owner, where the token names none.
async fn owns(rooms: &Rooms, world: &World) -> Result<bool, Refusal> {
    if world.token.spec.owner.is_some() {
        return Ok(true);
    }
    let live = rooms.accounts.live(world.namespace(), world.token.account_name().0).await?;
    let owner = |account: &Arc<Account>| (account.uid(), account.spec.owner.clone());
    Ok(live.as_ref().map(owner) == world.account.as_ref().map(owner))
}

fn so(holds: bool) -> Result<(), Obstacle> {
    if holds { Ok(()) } else { Err(Obstacle::Changed) }
}
