//! A Secret, or a status, that is not as it should be. One whose value is shown once is not repaired.

use super::{act::Act, delivery, delivery::is_altered, secrets::Held, terms::TokenTerms, world::World};
use crate::token::Record;

/// The Secret is gone.
pub(crate) fn secret_missing(world: &World, _: &TokenTerms) -> Option<Act> {
    (!world.token.is_shown_once() && world.secrets.served.held == Held::Absent).then(|| mended(world))
}

/// The Secret does not hold what it should.
pub(crate) fn secret_altered(world: &World, terms: &TokenTerms) -> Option<Act> {
    (!world.token.is_shown_once() && is_altered(world, Some(terms))).then(|| mended(world))
}

/// What the Secret says besides the value is not as it should be. One that is immutable is either a fault, or about to
/// be replaced by one of another name.
pub(crate) fn secret_outdated(world: &World, terms: &TokenTerms) -> Option<Act> {
    let held = &world.secrets.served.held;
    let secret = held.ours().filter(|secret| secret.immutable != Some(true))?;
    let details = delivery::Details::of(world, terms, world.records.served()?, held);
    (!details.stand_in(secret)).then_some(Act::Amend(()))
}

/// The Secret of the old name is still there. It comes late, so that one that cannot be removed holds nothing up.
pub(crate) fn secret_left_over(world: &World, _: &TokenTerms) -> Option<Act> {
    world.secrets.leftover.as_ref().map(|_| Act::Discard)
}

/// Time alone has passed, or less is allowed than before: the status says so.
pub(crate) fn records_outdated(world: &World, _: &TokenTerms) -> Option<Act> {
    (world.before().records != world.records.as_slice()).then_some(Act::Rest)
}

/// Whether a repair is due, as far as can be told before the terms are checked: a key that is asked for by name may
/// come to be made of something else than the value.
pub(crate) fn is_damaged(world: &World, served: &Record) -> bool {
    let asked = |key: &str| world.token.spec.secret.as_ref().is_some_and(|asked| asked.data.contains_key(key));
    let stands = world.secrets.served.held.holds_keys(served, asked);
    !world.token.is_shown_once() && !stands && !is_recent(world)
}

fn mended(world: &World) -> Act {
    if is_recent(world) { Act::Rest } else { Act::Mint(()) }
}

/// Whether the served value was published only just now, and so is not replaced at once: someone may be writing against
/// us.
fn is_recent(world: &World) -> bool {
    world.records.may_repair_from(world.now).is_some_and(|from| world.now < from)
}
