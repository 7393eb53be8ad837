//! What users are told, once: when it is done, or when a condition comes to say something else.

use super::{
    act::Act,
    ending::over,
    once::shown,
    owner, restart,
    settle::{Outcome, published_in},
};
use crate::{
    crd::{
        Conditions, Reason,
        api_token::ClaimOutcome,
        condition::{ACCEPTED, EXPIRING_SOON, PUBLISHED, READY},
        fault::{first, told},
    },
    outside::events::Note,
    token::{Ending, Record},
};

impl Outcome<'_> {
    /// All of it.
    pub fn notes(&self, conditions: &Conditions) -> Vec<Note> {
        let mut notes = Vec::new();
        if let (Err(faults), true) = (self.terms, conditions.changed(ACCEPTED)) {
            notes.push(Note::warning(first(faults), told(faults)));
        }
        if let Some(failure) = self.progress.failure.as_ref().filter(|_| conditions.changed(PUBLISHED)) {
            notes.push(Note::warning(failure.reason, failure.refusal.to_string()));
        }
        notes.extend(self.done(conditions.changed(READY)));
        notes.extend(restart::note(self.world, self.progress, conditions));
        notes.extend(owner::changed(self.world));
        notes.extend(self.shortened());
        let soon = conditions.get(EXPIRING_SOON).filter(|_| conditions.changed(EXPIRING_SOON));
        notes.extend(soon.map(|soon| Note::warning(Reason::ExpiringSoon, &*soon.message)));
        notes
    }

    /// What this pass did, if it did anything worth telling.
    fn done(&self, changed: bool) -> Option<Note> {
        let Self { world, progress, records, .. } = self;
        let name = published_in(world, progress).unwrap_or(world.place());
        let reason = progress.decision.reason;
        if let Some(text) = self.issued(name) {
            let damage = matches!(reason, Reason::SecretMissing | Reason::SecretAltered | Reason::RecordsLost);
            return Some(if damage { Note::warning(reason, text) } else { Note::normal(reason, text) });
        }
        match progress.decision.act {
            Act::End(_) if world.status().revocation.is_none() => {
                let how = self.withdrawn();
                let so =
                    if progress.failure.is_none() { format!(", and Secret {name} is {how}") } else { String::new() };
                Some(Note::warning(reason, format!("all generations are refused from now on{so}")))
            }
            Act::Amend if progress.failure.is_none() => {
                Some(Note::normal(reason, format!("Secret {name} was brought up to date")))
            }
            Act::Discard if progress.failure.is_none() => {
                let gone = self.leftover();
                Some(Note::normal(reason, format!("Secret {gone} was removed; Secret {name} is in its place")))
            }
            Act::Rest if reason == Reason::Expired && changed => {
                Some(Note::warning(reason, over(world, progress, records)))
            }
            Act::Rest if matches!(reason, Reason::Suspended | Reason::AccountSuspended) && changed => {
                Some(Note::normal(reason, "refused until it is active again"))
            }
            Act::Rest if reason == Reason::OwnerRemoved && changed => {
                Some(Note::warning(reason, "refused until its owner is back"))
            }
            Act::Conceal(outcome) => {
                let claim = progress.claim.as_ref().filter(|claim| world.claim().as_ref() != Some(claim))?;
                let text = shown(claim);
                let claimed = outcome == ClaimOutcome::Claimed;
                Some(if claimed { Note::normal(reason, text) } else { Note::warning(reason, text) })
            }
            Act::End(_)
            | Act::Amend
            | Act::Discard
            | Act::Rest
            | Act::Mint
            | Act::Adopt(_)
            | Act::Restart
            | Act::Follow
            | Act::Forget => None,
        }
    }

    /// What was published by this pass, if anything was.
    fn issued(&self, name: &str) -> Option<String> {
        let (generation, at) = self.progress.published?;
        let asked = self.records.get(generation).and_then(|record| record.asked_by.as_deref());
        let over = match self.terms.as_ref().map(|terms| terms.previous(asked)) {
            Ok(Ending::At(end)) if end <= at => format!("; its predecessor is refused at once, as {end} is over"),
            Ok(Ending::At(_) | Ending::After(_) | Ending::Overlap) | Err(_) => String::new(),
        };
        Some(format!("generation {generation} is published in Secret {name}{over}"))
    }

    /// That generations end sooner than they were given to live.
    fn shortened(&self) -> Option<Note> {
        let stands = self.world.status().records;
        let earlier = |record: &&Record| {
            let before = stands.iter().find(|before| before.generation == record.generation);
            before.is_some_and(|before| before.expires_at != record.expires_at)
        };
        let records = self.world.records();
        let all =
            records.as_slice().iter().filter(earlier).filter_map(|record| Some((record.generation, record.end()?)));
        let all: Vec<_> = all.map(|(generation, end)| format!("generation {generation} ends at {end}")).collect();
        let text = format!("{}: neither the Instance nor expiry.at allows more any longer", all.join(", "));
        (!all.is_empty()).then(|| Note::warning(Reason::LifetimeShortened, text))
    }
}
