//! When a token is looked at again, and what for.

use jiff::Timestamp;

use super::{act::Act, ending::forget_at, outcome::Outcome, restart};
use crate::{
    controller::kind::Wake,
    crd::{
        Conditions,
        condition::{ACCEPTED, PUBLISHED},
        workload::Restart,
    },
};

/// When the served generation is replaced, or is said to expire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dates {
    /// When it is replaced.
    pub rotates: Option<Timestamp>,
    /// Where nothing replaces it: from when on that is said.
    pub expires_soon: Option<Timestamp>,
}

/// The earliest instant at which something is to be done or said. Nothing: not until something changes.
pub(crate) fn earliest(
    outcome: &Outcome<'_>,
    dates: &Dates,
    restart: Option<&Restart>,
    conditions: &Conditions,
) -> Option<Wake> {
    if outcome.progress.decision.reason.is_going() {
        return None;
    }
    let waits = waits(outcome);
    let tries = [again(outcome, waits, conditions), due(outcome, dates, waits)];
    let ahead = ahead(outcome, dates).into_iter().filter(|wake| wake.at > outcome.world.now);
    let all = tries.into_iter().flatten().chain(restart::wake(outcome, restart, conditions));
    all.chain(end(outcome)).chain(ahead).min()
}

/// Until when the next generation has to wait, where that is ahead.
fn waits(Outcome { world, progress, records, .. }: &Outcome<'_>) -> Option<Wake> {
    if progress.ends().is_some() {
        return None;
    }
    let repairs = progress.decision.reason.is_damage() && progress.decision.act == Act::Rest;
    let repair = records.may_repair_from(world.now).filter(|_| repairs);
    let paused = world.may_mint_from.filter(|_| progress.decision.act == Act::Wait);
    let all = [
        (records.may_record_from(world.now), "another record"),
        (records.may_retry_from(world.now), "another try to publish"),
        (repair, "a repair"),
        (paused, "another mint"),
    ];
    let all = all.into_iter().filter_map(|(at, why)| Some(Wake { at: at?, why }));
    all.filter(|wake| wake.at > world.now).max()
}

/// When something that failed is tried again, or a fault is looked at again.
fn again(outcome: &Outcome<'_>, waits: Option<Wake>, conditions: &Conditions) -> Option<Wake> {
    let progress = outcome.progress;
    let invalid = conditions.get(ACCEPTED).is_some_and(|condition| condition.status == "False");
    if invalid && progress.ends().is_none() {
        return Some(Wake { at: conditions.retry(ACCEPTED), why: "another look at the faults" });
    }
    let failed = progress.failure.is_some() || progress.unfollowed.is_some();
    waits.or(failed.then(|| Wake { at: conditions.retry(PUBLISHED), why: "another try" }))
}

/// When the next generation is due. While it has to wait, that it is due wakes nobody; nor does it hasten a try that
/// failed.
fn due(outcome: &Outcome<'_>, dates: &Dates, waits: Option<Wake>) -> Option<Wake> {
    let progress = outcome.progress;
    let rolls = progress.rolled.as_ref().is_none_or(|rolled| rolled.failure.is_none());
    let is_free = waits.is_none() && progress.failure.is_none() && rolls;
    let due = dates.rotates.filter(|&due| due > outcome.world.now || is_free)?;
    Some(Wake { at: due, why: "the next generation" })
}

/// When the next of the generations runs out of time.
fn end(outcome: &Outcome<'_>) -> Option<Wake> {
    Some(Wake { at: outcome.records.next_end()?, why: "the end of a generation" })
}

/// What else only time brings. What is over by now was seen to by this pass.
fn ahead(outcome: &Outcome<'_>, dates: &Dates) -> Vec<Wake> {
    let Outcome { world, terms, claim, .. } = outcome;
    let unclaimed = outcome.served().filter(|_| claim.is_none());
    let all = [
        (dates.expires_soon, "a generation that expires soon"),
        (unclaimed.and_then(|served| world.claim_by(served)), "a value that nobody claimed"),
        (forget_at(world, terms), "a token to be forgotten"),
        (world.owner.stale_from, "groups that count no more"),
    ];
    all.into_iter().filter_map(|(at, why)| Some(Wake { at: at?, why })).collect()
}
