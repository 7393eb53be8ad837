//! Delivery `Once`: a value that is shown once.
//!
//! ```text
//!  published ──▶ waits for the claim ──▶ status.claim is written ──▶ the Secret is removed
//!               (annotation, use, time) (reason Claimed)            (no new mint; a restored Secret is removed again)
//! ```

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    act::{Act, Never},
    delivery::is_altered,
    outcome::Outcome,
    progress::Progress,
    secrets::Held,
    terms::CheckedTerms,
    world::World,
};
use crate::{
    crd::{
        Fault,
        api_token::{Claim, ClaimOutcome, ClaimedBy},
        fault::parsed,
        name::CLAIMED,
    },
    token::{Record, Records, duration::after},
};

/// The default of `secret.claimWithin`.
const WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// Adds the faults of `secret.claimWithin` and `secret.claimedBy`.
pub(crate) fn faults(world: &World, faults: &mut Vec<Fault>) {
    const WITHIN_PATH: &str = "spec.secret.claimWithin";
    let Some(asked) = &world.token.spec.secret else { return };
    parsed(asked.claim_within.as_ref(), WITHIN_PATH, faults);
    let within = asked.claim_within.as_ref().map(|_| WITHIN_PATH);
    let by = asked.claimed_by.map(|_| "spec.secret.claimedBy");
    let given = within.into_iter().chain(by).filter(|_| !world.shown_once.next);
    let rule = "is allowed with delivery: Once only; remove it, or set delivery: Once";
    faults.extend(given.map(|path| Fault::invalid(path, rule)));
}

impl World {
    /// The time until which `served` can be claimed; none unless it is shown once. An invalid `claimWithin` counts as
    /// the default, so no fault keeps a value beyond its time.
    pub fn claim_by(&self, served: &Record) -> Option<Timestamp> {
        let given = self.token.spec.secret.as_ref().and_then(|secret| secret.claim_within.as_ref());
        let within = given.and_then(|given| given.parse().ok()).unwrap_or(WITHIN);
        let published = served.published_at.as_ref().unwrap_or(&served.created_at).0;
        self.shown_once.served.then(|| after(published, within))
    }

    /// True if the first use of `served` claims it, and the verifier has noted one.
    fn is_claimed_by_use(&self, served: &Record) -> bool {
        let claimed_by = self.token.spec.secret.as_ref().and_then(|secret| secret.claimed_by);
        let is_used = || self.before().used().iter().any(|used| used.generation == served.generation);
        claimed_by == Some(ClaimedBy::FirstUse) && is_used()
    }
}

/// The check `Claimed` for values that are shown once. It holds if the value was claimed, used, removed or altered, or
/// if its time is over. It also holds if the Secret came back after a claim. Faults of the spec do not keep the Secret.
pub(crate) fn claimed(world: &World, terms: &CheckedTerms) -> Option<Act<Never>> {
    let (served, held) = (world.records.served()?, &world.secrets.served.held);
    let until = world.claim_by(served)?;
    if world.records.recorded().next().is_some() {
        // The publish of that generation may still arrive in the Secret.
        return None;
    }
    if let Some(claim) = &world.claim {
        return held.ours().map(|_| Act::Conceal(claim.outcome));
    }
    let note = match held {
        Held::Ours(secret) if !is_altered(world, terms.as_deref().ok()) => {
            secret.metadata.annotations.as_ref().and_then(|all| all.get(CLAIMED))
        }
        Held::Ours(_) | Held::Absent | Held::Retyped(_) | Held::Foreign => {
            return Some(Act::Conceal(ClaimOutcome::Removed));
        }
    };
    let is_claimed = note == Some(&served.id) || world.is_claimed_by_use(served);
    let outcome = match (is_claimed, until <= world.now) {
        (true, _) => ClaimOutcome::Claimed,
        (false, true) => ClaimOutcome::Unclaimed,
        (false, false) => return None,
    };
    Some(Act::Conceal(outcome))
}

/// The claim to note for the served value. An earlier claim is kept, because the Secret may have come back from a
/// backup.
pub(crate) fn claim(world: &World, outcome: ClaimOutcome) -> Option<Claim> {
    let served = world.records.served().map(|served| served.generation);
    let now = |generation| Claim { generation, outcome, at: Time(world.now) };
    world.claim.clone().or_else(|| served.map(now))
}

/// The claim of the served value after `progress`.
pub(crate) fn settled(world: &World, progress: &Progress, records: &Records) -> Option<Claim> {
    let served = records.served()?.generation;
    progress.claim.as_ref().or(world.claim.as_ref()).filter(|claim| claim.generation == served).cloned()
}

/// The claim in words, for a condition and an event.
pub(crate) fn shown(outcome: &Outcome<'_>, claim: &Claim) -> String {
    let Claim { generation, outcome: how, at } = claim;
    let how = match how {
        ClaimOutcome::Claimed => "was claimed",
        ClaimOutcome::Unclaimed => "was not claimed in time, and removed",
        ClaimOutcome::Removed => "was removed or changed by someone else",
    };
    format!("generation {generation} {how} at {}; it cannot be shown again: {}", at.0, outcome.renewal())
}

#[cfg(test)]
mod tests {
    use super::super::{
        act::Decision,
        fixture::{DAY, at, new, served},
    };
    use super::*;
    use crate::crd::Reason;
    use serde_json::json;

    /// The world, with the Secret annotated as claimed.
    fn with_claim(world: World) -> World {
        let id = world.records.served().unwrap().id.clone();
        world.with_secret(|secret| {
            secret.metadata.annotations.get_or_insert_default().insert(CLAIMED.into(), id);
        })
    }

    /// A token whose value is shown once and was just published.
    fn once() -> World {
        let world = new().with_spec(&json!({"secret": {"delivery": "Once", "claimWithin": "15m"}}));
        world.and(|world| world.account = served().account.clone()).issued(1)
    }

    #[test]
    fn a_value_that_is_shown_once_goes_when_it_was_claimed_or_its_time_is_over() {
        let conceal = |outcome| Decision { reason: Reason::Claimed, act: Act::Conceal(outcome) };
        assert_eq!(once().later(899).decision().act, Act::Rest);
        assert_eq!(once().later(900).decision(), conceal(ClaimOutcome::Unclaimed));
        assert_eq!(with_claim(once()).decision(), conceal(ClaimOutcome::Claimed));
        let other = once().with_secret(|secret| {
            secret.metadata.annotations.get_or_insert_default().insert(CLAIMED.into(), "another".into());
        });
        assert_eq!(other.decision().act, Act::Rest);
        let gone = once().serving(Held::Absent);
        assert_eq!(gone.decision(), conceal(ClaimOutcome::Removed));
        assert_eq!(once().with_secret(|secret| secret.data.clear()).decision(), conceal(ClaimOutcome::Removed));
        let paused = with_claim(once()).with_spec(&json!({"active": false}));
        assert_eq!(paused.decision(), conceal(ClaimOutcome::Claimed), "a suspension does not keep the Secret");
    }

    #[test]
    fn the_first_use_claims_a_value_where_that_is_asked_for() {
        let used = |world: World, generation: i64| {
            world.with_status(|status| {
                let uses = json!([{"generation": generation, "firstUsedAt": at(60), "lastUsedAt": at(60)}]);
                status.others = serde_json::from_value(json!({ "use": uses })).unwrap();
            })
        };
        let by_use = once().with_spec(&json!({"secret": {"claimedBy": "FirstUse"}}));
        assert_eq!(by_use.decision().act, Act::Rest);
        assert_eq!(used(by_use.clone(), 1).decision().act, Act::Conceal(ClaimOutcome::Claimed));
        assert_eq!(used(by_use.clone(), 2).decision().act, Act::Rest, "another generation");
        assert_eq!(used(once(), 1).decision().act, Act::Rest, "the default is the annotation");
        assert_eq!(with_claim(by_use.clone()).decision().act, Act::Conceal(ClaimOutcome::Claimed));
        assert_eq!(by_use.clone().later(900).decision().act, Act::Conceal(ClaimOutcome::Unclaimed));
        let faulty = used(by_use, 1).with_spec(&json!({"rotation": {"overlap": "0d"}}));
        assert_eq!(faulty.decision().act, Act::Conceal(ClaimOutcome::Claimed), "a fault keeps nothing");
    }

    /// The world after its Secret was removed.
    fn concealed(world: World) -> World {
        let Act::Conceal(outcome) = world.decision().act else { panic!("{:?}", world.decision()) };
        let claim = claim(&world, outcome);
        let progress = Progress { claim, ..Progress::none(world.decision()) };
        world.settled(&progress).serving(Held::Absent)
    }

    #[test]
    fn what_was_shown_once_is_neither_minted_again_nor_let_back() {
        let shown = concealed(with_claim(once()));
        assert_eq!(shown.decision(), Decision { reason: Reason::Active, act: Act::Rest });
        assert_eq!(shown.clone().later(80 * DAY).decision().act, Act::Rest, "the default schedule is never");
        let restored = shown.clone().serving(once().secrets.served.held);
        assert_eq!(restored.decision().act, Act::Conceal(ClaimOutcome::Claimed));
        assert_eq!(concealed(restored.later(60)).status().claim, shown.status().claim, "the first claim is kept");
        let asked = shown.with_spec(&json!({"regenerate": {"id": "again"}}));
        assert_eq!(asked.decision(), Decision { reason: Reason::RegenerateAsked, act: Act::Mint(()) });
        let again = asked.issued(2);
        assert_eq!((again.status().claim, again.decision().act), (None, Act::Rest));
        let retains = json!({"secret": {"delivery": "Retain", "claimWithin": null}});
        let retained = concealed(with_claim(once())).with_spec(&retains).later(5);
        assert_eq!(retained.decision(), Decision { reason: Reason::SecretMissing, act: Act::Mint(()) });
        let removed = concealed(with_claim(once())).with_spec(&json!({"secret": null})).later(5);
        assert_eq!(removed.decision().act, Act::Rest, "the value in use keeps its delivery");
    }

    #[test]
    fn no_fault_keeps_a_value_that_was_to_go() {
        let faulty = once().with_spec(&json!({"rotation": {"overlap": "0d"}}));
        assert_eq!(faulty.clone().later(899).decision().reason, Reason::Invalid);
        assert_eq!(faulty.later(900).decision().act, Act::Conceal(ClaimOutcome::Unclaimed));
        let alone = once().and(|world| world.instance = None);
        assert_eq!(with_claim(alone).decision().act, Act::Conceal(ClaimOutcome::Claimed));
    }

    #[test]
    fn left_out_a_value_waits_an_hour() {
        let until = |spec: serde_json::Value| {
            let world = served().with_spec(&json!({ "secret": spec }));
            world.claim_by(world.records.served().unwrap())
        };
        assert_eq!(until(json!({"delivery": "Once"})), Some(at(3600)));
        assert_eq!(until(json!({"delivery": "Once", "claimWithin": "15m"})), Some(at(900)));
        assert_eq!(until(json!({"delivery": "Once", "claimWithin": "soon"})), Some(at(3600)));
        assert_eq!(until(json!({})), None);
    }
}
