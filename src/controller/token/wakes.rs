//! The time of the next pass over a token, and its purpose.

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

/// The dates of the served generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dates {
    /// The time of its replacement.
    pub rotates: Option<Timestamp>,
    /// If nothing replaces it, the time from which its expiry is announced.
    pub expires_soon: Option<Timestamp>,
}

/// The earliest instant at which an action or an announcement is due. None: no pass is due until an object changes.
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

/// The end of the pause before the next generation; none if it does not have to wait.
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

/// The time of the next try after a failure, or of the next look at faults.
fn again(outcome: &Outcome<'_>, waits: Option<Wake>, conditions: &Conditions) -> Option<Wake> {
    let progress = outcome.progress;
    let invalid = conditions.get(ACCEPTED).is_some_and(|condition| condition.status == "False");
    if invalid && progress.ends().is_none() {
        return Some(Wake { at: conditions.retry(ACCEPTED), why: "another look at the faults" });
    }
    let failed = progress.failure.is_some() || progress.unfollowed.is_some();
    waits.or(failed.then(|| Wake { at: conditions.retry(PUBLISHED), why: "another try" }))
}

/// The time at which the next generation is due. An overdue generation causes no wake-up while it has to wait, or while
/// a failed action waits for its next try.
fn due(outcome: &Outcome<'_>, dates: &Dates, waits: Option<Wake>) -> Option<Wake> {
    let progress = outcome.progress;
    let rolls = progress.rolled.as_ref().is_none_or(|rolled| rolled.failure.is_none());
    let is_free = waits.is_none() && progress.failure.is_none() && rolls;
    let due = dates.rotates.filter(|&due| due > outcome.world.now || is_free)?;
    Some(Wake { at: due, why: "the next generation" })
}

/// The next expiry among the generations.
fn end(outcome: &Outcome<'_>) -> Option<Wake> {
    Some(Wake { at: outcome.records.next_end()?, why: "the end of a generation" })
}

/// The other dates of the token. Dates in the past are excluded by the caller, because this pass has handled them.
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
