//! The checks that mint a value, and the pauses before a mint. Repairs are in [`repair`](super::repair).

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

/// The check `Invalid`: the spec has faults. Nothing is minted, and the records keep their times.
pub(crate) fn invalid(_: &World, terms: &CheckedTerms) -> Option<Act<Never>> {
    terms.is_err().then_some(Act::Rest)
}

/// The content of `Ready` for a faulty spec: all faults.
pub(crate) fn says_invalid(outcome: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    let faults = outcome.faults();
    (Conclusion::of(first(faults)), first(faults), owner::told(outcome.world, faults))
}

/// The check `PublishIncomplete`: a generation is on record, and its publish is unknown.
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

/// The check `PublishFailed`: the last publish was refused, and the next try waits. The message of the refusal is kept.
pub(crate) fn publish_failed(world: &World, _: &TokenTerms) -> Option<Act> {
    waits_to_retry(world).then_some(Act::Rest)
}

/// The check `RecordsLost`: our Secret holds a value, but the status has no record of one. Such a value is never
/// adopted.
pub(crate) fn records_lost(world: &World, _: &TokenTerms) -> Option<Act> {
    (!world.records.ever_published() && world.secrets.served.held.digest().is_some()).then_some(Act::Mint(()))
}

/// The check `FirstIssue`: no generation was ever published.
pub(crate) fn first_issue(world: &World, _: &TokenTerms) -> Option<Act> {
    (!world.records.ever_published()).then_some(Act::Mint(()))
}

/// The check `RegenerateAsked`: the spec asks for a new generation. It does not wait for the end of an overlap.
pub(crate) fn regenerate_asked(_: &World, terms: &TokenTerms) -> Option<Act> {
    terms.regenerate.as_ref().map(|_| Act::Mint(()))
}

/// The check `RotationDue`: the rotation of the served generation is due, or there is no served generation any more.
pub(crate) fn rotation_due(world: &World, terms: &TokenTerms) -> Option<Act> {
    let due = || rotates_at(&world.records, &terms.life, world.uid(), world.now);
    let is_due = world.records.served().is_none() || due().is_some_and(|due| due <= world.now);
    is_due.then_some(Act::Mint(()))
}

/// The check `SecretRenamed`: the spec gives another name for the Secret. The operator never reads a value back, so it
/// mints a new one. A value that is shown once stays in its Secret.
pub(crate) fn secret_renamed(world: &World, _: &TokenTerms) -> Option<Act> {
    (is_renamed(world) && !world.shown_once.served && is_free(world)).then_some(Act::Mint(()))
}

/// The check `TemplateChanged`: a key that contains the value has another template now. It can only be rendered with a
/// new value. A value that is shown once keeps its old keys.
pub(crate) fn template_changed(world: &World, terms: &TokenTerms) -> Option<Act> {
    let changed = terms.shape.has_changed_since(world.records.served()?);
    (changed && !world.shown_once.served && is_free(world)).then_some(Act::Mint(()))
}

/// True if the served value, which is in its Secret, is about to be replaced. This is the case if the first check that
/// holds with these terms mints. Repairs are left out.
pub(crate) fn is_about_to_replace(world: &World, terms: &TokenTerms) -> bool {
    let mut checks = CHAIN.iter().filter(|check| !check.reason.is_damage());
    checks.find_map(|check| check.act_by(world, terms)) == Some(Act::Mint(()))
}

/// True if this pass may mint a value, as far as it is known before the terms are checked. Some mints are due by the
/// terms alone, as after an Instance has shortened a lifetime. Then a first pass writes `status.rotatesAt`, and the
/// next pass answers true. So the answer is late by one pass at most.
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

/// True if this process minted a value only moments ago. So a status that was lost, or that cannot be trusted, does not
/// cause one mint after another. A mint by schedule or on request does not wait, if the status has a published record.
pub(crate) fn has_to_pause(world: &World, reason: Reason) -> bool {
    let asked = matches!(reason, Reason::RotationDue | Reason::RegenerateAsked) && world.records.ever_published();
    world.may_mint_from.is_some_and(|from| from > world.now) && !asked
}

/// True if the last publish was refused and the next try waits.
fn waits_to_retry(world: &World) -> bool {
    world.records.may_retry_from(world.now).is_some_and(|from| world.now < from)
}

/// True if the next value goes into a Secret of another name.
fn is_renamed(world: &World) -> bool {
    world.records.served().is_some() && world.secrets.next().name != world.secrets.served.name
}

/// True if no overlap is running for which a changed spec has to wait. Windows do not matter here.
fn is_free(world: &World) -> bool {
    free_from(&world.records).is_none_or(|free| free <= world.now)
}
