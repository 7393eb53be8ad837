//! The events about a token. Each is written once: after an action, or when a condition changes.

use super::{
    act::{Act, Decision},
    ending::{over, revoker},
    once::shown,
    outcome::Outcome,
    owner,
    pause::Pause,
    permissions, restart, rules,
    world::ends_before,
};
use crate::{
    crd::{
        Conditions, EventName, Reason,
        api_token::ClaimOutcome,
        condition::{ACCEPTED, EXPIRING_SOON, PUBLISHED, READY},
        fault::first,
        instance::OnOwnerRemoved,
    },
    outside::events::Note,
    token::{Ending, Record},
};

impl Outcome<'_> {
    /// All events of this pass.
    pub fn notes(&self, conditions: &Conditions) -> Vec<Note> {
        let mut notes = Vec::new();
        if let (Err(faults), true) = (self.terms, conditions.changed(ACCEPTED)) {
            let reason = first(faults);
            notes.push(Note::warning(EventName::of(reason), reason, owner::told(self.world, faults)));
        }
        if let Some(failure) = self.progress.failure.as_ref().filter(|_| conditions.changed(PUBLISHED)) {
            notes.push(Note::warning(self.failed(failure.reason), failure.reason, failure.obstacle.to_string()));
        }
        notes.extend(self.done(conditions.changed(READY)));
        notes.extend(restart::note(self.world, self.progress, conditions));
        notes.extend(owner::changed(self.world));
        notes.extend(self.kept(conditions));
        notes.extend(disabled(conditions));
        notes.extend(self.ended_early());
        let soon = conditions.get(EXPIRING_SOON).filter(|_| conditions.changed(EXPIRING_SOON));
        notes.extend(soon.map(|soon| Note::warning(EventName::ExpiringSoon, Reason::ExpiringSoon, &*soon.message)));
        notes.extend(permissions::changed(self.world, &rules::accepted(self.world, self.terms)));
        notes
    }

    /// The event about the action of this pass; none if the action needs no event.
    fn done(&self, changed: bool) -> Option<Note> {
        let Decision { reason, act } = self.progress.decision;
        let (name, failed) = (self.served_in(), self.progress.failure.is_some());
        if let Some(text) = self.issued(name) {
            return Some(Note { warning: reason.is_damage(), event: self.publication()?, reason, text });
        }
        match act {
            Act::End(_) => self.ended(name),
            Act::Amend(()) if !failed => {
                let text = format!("Secret {name} was brought up to date");
                Some(Note::normal(EventName::SecretUpdated, reason, text))
            }
            Act::Discard if !failed => {
                let text = format!("Secret {} was removed; Secret {name} is in its place", self.leftover());
                Some(Note::normal(EventName::SecretRemoved, reason, text))
            }
            Act::Rest if changed => self.rests(reason),
            Act::Conceal(outcome) => self.concealed(outcome),
            Act::Rest
            | Act::Wait
            | Act::Amend(())
            | Act::Discard
            | Act::Mint(())
            | Act::Acknowledge(_)
            | Act::Restart
            | Act::Forget => None,
        }
    }

    /// The name of the event about the publish of this pass. The record says if it was asked for, because a pass that
    /// completes an earlier publish has another reason.
    fn publication(&self) -> Option<EventName> {
        let (generation, _) = self.progress.published?;
        let reason = self.progress.decision.reason;
        let is_asked = || self.records.get(generation).is_some_and(|record| record.asked_by.is_some());
        Some(if reason == Reason::RecordsLost {
            EventName::Reissued
        } else if reason.is_damage() {
            EventName::SecretRestored
        } else if !self.world.records.ever_published() {
            EventName::Issued
        } else if is_asked() {
            EventName::Regenerated
        } else {
            EventName::Rotated
        })
    }

    /// The name of the event about a failure with this reason.
    fn failed(&self, reason: Reason) -> EventName {
        let removes = matches!(self.progress.decision.act, Act::End(_) | Act::Conceal(_) | Act::Discard);
        if removes && reason == Reason::PublishFailed { EventName::RemovalFailed } else { EventName::of(reason) }
    }

    /// The event about the end of the token, once.
    fn ended(&self, name: &str) -> Option<Note> {
        let (world, reason) = (self.world, self.progress.decision.reason);
        if world.before().revocation.is_some() {
            return None;
        }
        let so = match self.progress.failure {
            None => format!(", and Secret {name} is {}", self.withdrawn()),
            Some(_) => String::new(),
        };
        let removed = owner::acted_on(world).filter(|_| reason == Reason::OwnerRemoved);
        let by = self.progress.ends().and_then(|end| revoker(world, end)).map(|by| format!("revoked by {by}: "));
        let why = removed.or(by).unwrap_or_default();
        let event = if reason == Reason::Expired { EventName::Expired } else { EventName::Revoked };
        Some(Note::warning(event, reason, format!("{why}all generations are refused from now on{so}")))
    }

    /// The event that the token is refused from now on, with the reason.
    fn rests(&self, reason: Reason) -> Option<Note> {
        if reason == Reason::Expired {
            return Some(Note::warning(EventName::Expired, reason, over(self)));
        }
        Some(match self.world.pause.filter(|pause| pause.reason() == reason)? {
            Pause::Suspended | Pause::AccountSuspended => {
                Note::normal(EventName::Suspended, reason, "refused until it is active again")
            }
            Pause::OwnerRemoved => {
                let why = owner::acted_on(self.world).unwrap_or_default();
                Note::warning(EventName::Suspended, reason, format!("{why}refused until the owner is back"))
            }
        })
    }

    /// The event about the claim of a value that is shown once, unless it was written before.
    fn concealed(&self, outcome: ClaimOutcome) -> Option<Note> {
        let claim = self.progress.claim.as_ref().filter(|&claim| self.world.claim.as_ref() != Some(claim))?;
        let (reason, text) = (self.progress.decision.reason, shown(self, claim));
        let claimed = outcome == ClaimOutcome::Claimed;
        let event = if claimed { EventName::Claimed } else { EventName::ClaimLost };
        Some(Note { warning: !claimed, event, reason, text })
    }

    /// The event that the owner is removed and the Instance keeps the token.
    fn kept(&self, conditions: &Conditions) -> Option<Note> {
        let ready = conditions.get(READY).filter(|ready| ready.reason == Reason::OwnerRemoved.to_string())?;
        let kept = self.world.owner.removed == Some(OnOwnerRemoved::Keep) && conditions.changed(READY);
        let why = owner::acted_on(self.world).filter(|_| kept)?;
        Some(Note::warning(EventName::OwnerRemoved, Reason::OwnerRemoved, format!("{why}{}", ready.message)))
    }

    /// The text about the generation that this pass published; none if it published none.
    fn issued(&self, name: &str) -> Option<String> {
        let (generation, at) = self.progress.published?;
        let asked = self.records.get(generation).and_then(|record| record.asked_by.as_deref());
        let over = match self.terms.as_ref().map(|terms| terms.previous(asked)) {
            Ok(Ending::At(end)) if end <= at => format!("; its predecessor is refused at once, as {end} is over"),
            Ok(Ending::At(_) | Ending::After(_) | Ending::Overlap) | Err(_) => String::new(),
        };
        Some(format!("generation {generation} is published in Secret {name}{over}"))
    }

    /// The events about generations that now end earlier, on request or because less is allowed.
    fn ended_early(&self) -> Vec<Note> {
        let stands = &self.world.before().records;
        let earlier = |record: &&Record| {
            let before = stands.iter().find(|before| before.generation == record.generation);
            before.is_some_and(|before| before.expires_at != record.expires_at)
        };
        let asked = ends_before(&self.world.token);
        let is_asked = |record: &&Record| {
            asked.is_some_and(|(generation, end)| record.generation < generation && record.end() == Some(end))
        };
        let records = &self.world.records;
        let (asked, limited): (Vec<_>, Vec<_>) = records.as_slice().iter().filter(earlier).partition(is_asked);
        let told = |records: Vec<&Record>| {
            let all = records.into_iter().filter_map(|record| Some((record.generation, record.end()?)));
            let all: Vec<_> = all.map(|(generation, end)| format!("generation {generation} ends at {end}")).collect();
            (!all.is_empty()).then(|| all.join(", "))
        };
        let asked = told(asked).map(|all| {
            let text = format!("{all}, as regenerate.previous says");
            Note::normal(EventName::Shortened, Reason::RegenerateAsked, text)
        });
        let limited = told(limited).map(|all| {
            let text = format!("{all}: neither the Instance nor expiry.at allows more any longer");
            Note::warning(EventName::Shortened, Reason::LifetimeShortened, text)
        });
        asked.into_iter().chain(limited).collect()
    }
}

/// The event that the Instance refuses every token, because its endpoint is disabled.
fn disabled(conditions: &Conditions) -> Option<Note> {
    let reason = Reason::EndpointDisabled;
    let ready = conditions.get(READY).filter(|_| conditions.changed(READY))?;
    (ready.reason == reason.to_string()).then(|| Note::normal(EventName::of(reason), reason, &*ready.message))
}
