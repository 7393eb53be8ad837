//! Why a value is minted, and when it has to wait. A repair is a reason of its own: see [`repair`](super::repair).

use super::{
    act::{Act, Never},
    decide::CHAIN,
    ending,
    life::is_never_replaced,
    outcome::{Outcome, Said},
    owner, repair,
    terms::{CheckedTerms, TokenTerms},
    world::World,
};
use crate::{
    crd::{Reason, condition::Conclusion, fault::first},
    token::schedule::{free_from, rotates_at},
};

/// A faulty spec mints nothing; the records keep their times.
pub(crate) fn invalid(_: &World, terms: &CheckedTerms) -> Option<Act<Never>> {
    terms.is_err().then_some(Act::Rest)
}

/// What `Ready` says then: every fault.
pub(crate) fn says_invalid(outcome: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    let faults = outcome.faults();
    (Conclusion::of(first(faults)), first(faults), owner::told(outcome.world, faults))
}

/// A generation is on record and may or may not have reached the Secret.
pub(crate) fn publish_incomplete(world: &World, _: &TokenTerms) -> Option<Act> {
    let records = &world.records;
    records.recorded().next()?;
    let landed = records.recorded().find(|record| world.secrets.holding(record).is_some());
    let waits = records.may_record_from(world.now).is_some_and(|from| world.now < from);
    Some(match landed {
        Some(record) => Act::Acknowledge(record.generation),
        None if waits => Act::Rest,
        None => Act::Mint(()),
    })
}

/// The last one was refused: the next waits, and what was said of the refusal stands.
pub(crate) fn publish_failed(world: &World, _: &TokenTerms) -> Option<Act> {
    waits_to_retry(world).then_some(Act::Rest)
}

/// Our own Secret holds a value and no record of any: what it holds is never adopted.
pub(crate) fn records_lost(world: &World, _: &TokenTerms) -> Option<Act> {
    (!world.records.ever_published() && world.secrets.served.held.digest().is_some()).then_some(Act::Mint(()))
}

/// No generation was ever published.
pub(crate) fn first_issue(world: &World, _: &TokenTerms) -> Option<Act> {
    (!world.records.ever_published()).then_some(Act::Mint(()))
}

/// Somebody asks for a new one. It waits for no overlap.
pub(crate) fn regenerate_asked(_: &World, terms: &TokenTerms) -> Option<Act> {
    terms.regenerate.as_ref().map(|_| Act::Mint(()))
}

/// The served generation is due, or there is none any more.
pub(crate) fn rotation_due(world: &World, terms: &TokenTerms) -> Option<Act> {
    let due = || rotates_at(&world.records, &terms.life, world.uid(), world.now);
    let is_due = world.records.served().is_none() || due().is_some_and(|due| due <= world.now);
    is_due.then_some(Act::Mint(()))
}

/// The value is to be in a Secret of another name. It is not read back, so a new one comes. One that is shown once
/// stays where it was shown.
pub(crate) fn secret_renamed(world: &World, _: &TokenTerms) -> Option<Act> {
    (is_renamed(world) && !world.token.is_shown_once() && is_free(world)).then_some(Act::Mint(()))
}

/// What holds the value besides its own key is made of something else now, which takes a new value. One that is shown
/// once was made as was asked for then.
pub(crate) fn template_changed(world: &World, terms: &TokenTerms) -> Option<Act> {
    let changed = terms.shape.has_changed_since(world.records.served()?);
    (changed && !world.token.is_shown_once() && is_free(world)).then_some(Act::Mint(()))
}

/// Whether the served value, which is where it should be, is to be replaced now: whether the first check that holds by
/// the terms, but for repairs, mints.
pub(crate) fn is_about_to_replace(world: &World, terms: &TokenTerms) -> bool {
    let mut checks = CHAIN.iter().filter(|check| !check.reason.is_damage());
    checks.find_map(|check| check.act_by(world, terms)) == Some(Act::Mint(()))
}

/// Whether a value may be minted in this pass, as far as can be told before the terms are checked. Where terms alone
/// tell, as where an Instance comes to allow less, `status.rotatesAt` tells of it first: so the answer is late by one
/// pass at the most.
pub(crate) fn may_mint(world: &World) -> bool {
    let records = &world.records;
    if ending::is_over(world) || world.pause.is_some() {
        return false;
    }
    if records.recorded().next().is_some() {
        return records.may_record_from(world.now).is_none_or(|from| from <= world.now);
    }
    if waits_to_retry(world) {
        return false;
    }
    let Some(served) = records.served() else {
        return world.asks_anew() || !(ending::has_run_out(world) && is_never_replaced(world));
    };
    let is_told = world.before().rotates_at.as_ref().is_some_and(|due| due.0 <= world.now);
    is_told || world.asks_anew() || repair::is_damaged(world, served)
}

/// Whether a value was minted only just now, as far as this process remembers: a status that says otherwise, as it was
/// lost or cannot be trusted, does not make for one value after another. What a schedule or a user asks for by records
/// that were read comes all the same.
pub(crate) fn has_to_pause(world: &World, reason: Reason) -> bool {
    let asked = matches!(reason, Reason::RotationDue | Reason::RegenerateAsked) && world.records.ever_published();
    world.may_mint_from.is_some_and(|from| from > world.now) && !asked
}

/// Whether the last publish was refused, and the next waits.
fn waits_to_retry(world: &World) -> bool {
    world.records.may_retry_from(world.now).is_some_and(|from| world.now < from)
}

/// Whether the next value would go into a Secret of another name than the served one.
fn is_renamed(world: &World) -> bool {
    world.records.served().is_some() && world.secrets.next().name != world.secrets.served.name
}

/// Whether no overlap runs that a change of what is asked for would wait for. It waits for no window.
fn is_free(world: &World) -> bool {
    free_from(&world.records).is_none_or(|free| free <= world.now)
}
