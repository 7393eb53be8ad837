//! Creates the token's own account, and keeps it in step with the token.

use std::collections::BTreeSet;

use kube::ResourceExt;

use crate::{
    controller::{
        Rooms,
        token::{own_account::applied, world::World},
    },
    crd::{Account, api_token::BoundAccount},
    outside::{Expected, Location, Refusal},
};

/// Returns the account that the token acts as. If there is no account yet, it is created as the token's own.
pub(crate) async fn bind(rooms: &Rooms, world: &World) -> Result<BoundAccount, Refusal> {
    let name = world.token.account_name().0.to_owned();
    if let Some(account) = &world.account {
        return Ok(BoundAccount { name, uid: account.uid().unwrap_or_default() });
    }
    let address = Location { namespace: world.namespace(), name: &name };
    let body = applied(&world.token, &BTreeSet::new());
    let receipt = rooms.writer.apply_ours::<Account>(&address, &Expected::Absent, body, false).await?;
    Ok(BoundAccount { name, uid: receipt.uid })
}

/// Copies the token's fields into its own account, except for fields that another field manager has narrowed there. A
/// failure here delays no other action.
pub(crate) async fn follow(rooms: &Rooms, world: &World) -> Result<(), Refusal> {
    let Some(account) = &world.account else { return Ok(()) };
    let address = Location { namespace: world.namespace(), name: world.token.account_name().0 };
    let yielded = &world.own_account.yielded;
    let body = applied(&world.token, yielded);
    let takes_back = world.taken.iter().any(|field| !yielded.contains(field));
    rooms.writer.apply_ours::<Account>(&address, &Expected::seen(&**account), body, takes_back).await.map(|_| ())
}
