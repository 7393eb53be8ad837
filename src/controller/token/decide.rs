//! Says what is to be done about a token: the first check of the chain that holds.

use super::{
    delivery,
    observe::{Bound, Held, World, held_record},
    validate::TokenTerms,
};
use crate::{
    controller::kind::Checked,
    crd::{Reason, api_token::RevocationReason},
    token::schedule::rotates_at,
};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing but to say how it is.
    Rest,
    /// Withdraw every generation and the Secret, for ever.
    End(RevocationReason),
    /// Mint the next generation, record it and publish it.
    Mint,
    /// The Secret holds this recorded generation: a publish that was not heard of again.
    Adopt(i64),
    /// Bring everything of the Secret but its value up to date.
    Amend,
}

/// What is to be done, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The word for it.
    pub reason: Reason,
    /// What is to be done.
    pub act: Act,
}

/// One check: the reason it gives, and what is to be done where it holds.
pub struct Check {
    /// The word for it.
    pub reason: Reason,
    holds: fn(&World, &Checked<TokenTerms>) -> Option<Act>,
}

/// The checks in their order: the first that holds decides. This list is the specification.
pub const CHAIN: [Check; 14] = [
    // It is going away: whatever is left to do, the verifier and the garbage collector do it.
    check(Reason::Deleting, |world, _| world.token.metadata.deletion_timestamp.is_some().then_some(Act::Rest)),
    // Nothing can be written there any more.
    check(Reason::NamespaceTerminating, |world, _| world.terminating.then_some(Act::Rest)),
    // Final, whatever else is asked for, valid or not.
    check(Reason::Revoked, |world, _| revoked(world)),
    check(Reason::AccountDeleted, |world, _| {
        (world.bound() == Bound::Lost).then_some(Act::End(RevocationReason::AccountDeleted))
    }),
    // A faulty spec mints nothing; the records keep their times.
    check(Reason::Invalid, |_, terms| terms.is_err().then_some(Act::Rest)),
    // Asked to pause.
    check(Reason::Suspended, |world, _| (!world.token.spec.active).then_some(Act::Rest)),
    check(Reason::AccountSuspended, |world, _| {
        world.account.as_ref().is_some_and(|account| !account.spec.active).then_some(Act::Rest)
    }),
    // A generation is on record and may or may not have reached the Secret.
    check(Reason::PublishIncomplete, |world, _| incomplete(world)),
    // No generation was ever given.
    check(Reason::FirstIssue, |world, _| (last_generation(world) == 0).then_some(Act::Mint)),
    // The served generation is due, or there is none any more.
    check(Reason::RotationDue, rotation),
    // The Secret does not hold what it should.
    check(Reason::SecretMissing, |world, _| (world.secret == Held::Absent).then_some(Act::Mint)),
    check(Reason::SecretAltered, |world, _| altered(world).then_some(Act::Mint)),
    check(Reason::SecretOutdated, outdated),
    // Time alone has passed: status says so.
    check(Reason::OverlapEnded, |world, _| (world.status().records != world.records().as_slice()).then_some(Act::Rest)),
];

const fn check(reason: Reason, holds: fn(&World, &Checked<TokenTerms>) -> Option<Act>) -> Check {
    Check { reason, holds }
}

/// The first check that holds; else nothing is to be done.
pub fn decide(world: &World, terms: &Checked<TokenTerms>) -> Decision {
    let held = CHAIN.iter().find_map(|check| (check.holds)(world, terms).map(|act| (check.reason, act)));
    let (reason, act) = held.unwrap_or((Reason::Active, Act::Rest));
    let fault = terms.as_ref().err().and_then(|faults| faults.first()).filter(|_| reason == Reason::Invalid);
    let ended = if let Act::End(why) = act { Some(why.into()) } else { None };
    Decision { reason: ended.or(fault.map(|fault| fault.reason)).unwrap_or(reason), act }
}

fn revoked(world: &World) -> Option<Act> {
    let ended = world.token.status.as_ref().and_then(|status| status.revocation.as_ref());
    let asked = world.token.spec.revoked.then_some(RevocationReason::Manual);
    ended.map(|ended| ended.reason).or(asked).map(Act::End)
}

fn last_generation(world: &World) -> i64 {
    world.status().last_generation.unwrap_or(0).max(world.records().last_generation())
}

fn incomplete(world: &World) -> Option<Act> {
    let records = world.records();
    records.recorded().next()?;
    let held = held_record(&records, &world.secret).map(|record| record.generation);
    let adopted = records.recorded().find(|record| Some(record.generation) == held);
    let waits = records.may_record_from().is_some_and(|from| world.now < from);
    Some(match adopted {
        Some(record) => Act::Adopt(record.generation),
        None if waits => Act::Rest,
        None => Act::Mint,
    })
}

fn rotation(world: &World, terms: &Checked<TokenTerms>) -> Option<Act> {
    let due = rotates_at(&world.records(), &terms.as_ref().ok()?.life, world.uid());
    due.is_none_or(|due| due <= world.now).then_some(Act::Mint)
}

fn altered(world: &World) -> bool {
    world.records().served().map(|record| record.sha256) != world.secret.digest()
}

fn outdated(world: &World, terms: &Checked<TokenTerms>) -> Option<Act> {
    let (records, Held::Ours(secret)) = (world.records(), &world.secret) else { return None };
    let details = delivery::Details::of(world, terms.as_ref().ok()?, records.served()?);
    (!details.stand_in(secret)).then_some(Act::Amend)
}
