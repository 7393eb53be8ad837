//! Live checks before an action that cannot be undone. The action is taken only if the objects, read past the caches,
//! are unchanged.

use std::sync::Arc;

use kube::ResourceExt;

use crate::{
    controller::{Obstacle, Rooms, instance, kind::version, token::world::World},
    crd::{Account, ApiToken, Instance},
    outside::Refusal,
};

/// Checks that the token is unchanged. The delete of a Secret already requires the Secret's own resourceVersion. But if
/// the view of the token is older than that of the Secret, the delete would remove a newer value.
pub(crate) async fn as_seen(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    let seen = &*world.token;
    let live: Option<ApiToken> = rooms.reader.live(world.namespace(), &seen.name_any()).await?;
    so(live.is_some_and(|live| live.uid() == seen.uid() && version(&live) == version(seen)))
}

/// Checks that the spec of the live Instance is the one that was read. Its endpoint is written with the first value,
/// and nobody has to see an older one there.
pub(crate) async fn exposes(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    so(instance_says(rooms, world, |live, seen| live.metadata.generation == seen.metadata.generation).await?)
}

/// Checks that the live Instance still has the same `forgetAfter` and `onAccountDeleted`, so that it wants the token
/// deleted.
pub(crate) async fn forgets(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    let wants = |instance: &Instance| (instance::forget_after(&instance.spec), instance.spec.tokens.on_account_deleted);
    so(instance_says(rooms, world, |live, seen| wants(live) == wants(seen)).await?)
}

/// Checks that the spec of the live Instance is unchanged, so that it still ends the token without its owner. If the
/// account names the owner, the live account must still name the same one.
pub(crate) async fn is_removed(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    so(instance_says(rooms, world, |live, seen| live.spec == seen.spec).await? && owns(rooms, world).await?)
}

/// True if the live Instance has the same uid, and `same` holds between it and the one that was read.
async fn instance_says(
    rooms: &Rooms,
    world: &World,
    same: impl Fn(&Instance, &Instance) -> bool,
) -> Result<bool, Obstacle> {
    let seen = world.instance.as_ref().ok_or(Obstacle::Changed)?;
    let live = rooms.instances.live(&seen.namespace().unwrap_or_default(), &seen.name_any()).await?;
    Ok(live.is_some_and(|live| live.uid() == seen.uid() && same(&live, seen)))
}

/// True if the token names an owner itself, or if the live account still names the same owner.
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
