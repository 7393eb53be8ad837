//! Makes the account that a token acts as, and has it follow the token.

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

/// The account that the token acts as; made where the token names none and none of its own stands yet.
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

/// Has the account that the token made for itself say what the token says, but for what somebody else holds to less
/// there. Whatever comes of it holds up nothing else.
pub(crate) async fn follow(rooms: &Rooms, world: &World) -> Result<(), Refusal> {
    let Some(account) = &world.account else { return Ok(()) };
    let address = Location { namespace: world.namespace(), name: world.token.account_name().0 };
    let yielded = &world.own_account.yielded;
    let body = applied(&world.token, yielded);
    let takes_back = world.taken.iter().any(|field| !yielded.contains(field));
    rooms.writer.apply_ours::<Account>(&address, &Expected::seen(&**account), body, takes_back).await.map(|_| ())
}
