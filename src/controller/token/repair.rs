//! Checks for a Secret or a status that differs from its wanted state. A Secret with a value that is shown once is
//! never repaired.

use super::{act::Act, delivery, delivery::is_altered, secrets::Held, terms::TokenTerms, world::World};
use crate::token::Record;

/// The check `SecretMissing`: the Secret does not exist.
pub(crate) fn secret_missing(world: &World, _: &TokenTerms) -> Option<Act> {
    (!world.shown_once.served && world.secrets.served.held == Held::Absent).then(|| mended(world))
}

/// The check `SecretAltered`: the Secret holds another value, or another text in a key made from the value.
pub(crate) fn secret_altered(world: &World, terms: &TokenTerms) -> Option<Act> {
    (!world.shown_once.served && is_altered(world, Some(terms))).then(|| mended(world))
}

/// The check `SecretOutdated`: the Secret differs in something other than the value. An immutable Secret is skipped
/// here. It is either a fault, or about to be replaced by a Secret of another name.
pub(crate) fn secret_outdated(world: &World, terms: &TokenTerms) -> Option<Act> {
    let held = &world.secrets.served.held;
    let secret = held.ours().filter(|secret| secret.immutable != Some(true))?;
    let details = delivery::Details::of(world, terms, world.records.served()?, held);
    (!details.stand_in(secret)).then_some(Act::Amend(()))
}

/// The check `SecretLeftOver`: the Secret under the old name still exists. This check runs late, so a Secret that
/// cannot be removed delays no other action.
pub(crate) fn secret_left_over(world: &World, _: &TokenTerms) -> Option<Act> {
    world.secrets.leftover.as_ref().map(|_| Act::Discard)
}

/// The check `RecordsOutdated`: the records in the status are out of date. Time has passed, or the Instance allows less
/// than before.
pub(crate) fn records_outdated(world: &World, _: &TokenTerms) -> Option<Act> {
    (world.before().records != world.records.as_slice()).then_some(Act::Rest)
}

/// True if a repair seems due before the terms are checked. The answer can be wrong for one case: a key that the spec
/// still lists may no longer be made from the value. Only the terms show this.
pub(crate) fn is_damaged(world: &World, served: &Record) -> bool {
    let asked = |key: &str| world.token.spec.secret.as_ref().is_some_and(|asked| asked.data.contains_key(key));
    let stands = world.secrets.served.held.holds_keys(served, asked);
    !world.shown_once.served && !stands && !is_recent(world)
}

fn mended(world: &World) -> Act {
    if is_recent(world) { Act::Rest } else { Act::Mint(()) }
}

/// True if the served value was published only moments ago. Then it is not replaced yet, because another writer may be
/// changing the Secret again and again.
fn is_recent(world: &World) -> bool {
    world.records.may_repair_from(world.now).is_some_and(|from| world.now < from)
}
