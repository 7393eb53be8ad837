//! Folds what was done into a status: once for the record, and once at the end.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{decide::Act, execute::Progress, observe::World, validate::TokenTerms};
use crate::{
    controller::kind::{Checked, Settled},
    crd::{
        Conditions, Fault, Reason,
        api_token::{ApiTokenStatus, Binding, Revocation},
        condition::{ACCEPTED, Conclusion, PUBLISHED, READY},
    },
    outside::events::Note,
    token::{Records, schedule::rotates_at},
};

/// The whole status after `progress`, what users are told, and when to look again.
pub fn settle(world: &World, terms: &Checked<TokenTerms>, progress: &Progress) -> Settled<ApiTokenStatus> {
    let old = world.status();
    let records = records(world, terms, progress);
    let revocation = revocation(world, progress);
    let rotates = terms
        .as_ref()
        .ok()
        .filter(|_| rotating(progress))
        .and_then(|terms| rotates_at(&records, &terms.life, world.uid()));
    let conditions = conditions(world, terms, progress, &records);
    let wake = wake(world, progress, &records, rotates, &conditions);
    let served = records.served().filter(|_| revocation.is_none());
    let secret_name = served.map(|_| world.token.secret_name().to_owned());
    let status = ApiTokenStatus {
        observed_generation: world.token.metadata.generation,
        last_generation: old.last_generation.max(Some(records.last_generation())).filter(|&number| number > 0),
        account: progress.bound.clone().or(old.account.clone()),
        binding: secret_name.clone().map(|name| Binding { name }),
        secret_name,
        organization: terms.as_ref().map_or(old.organization.clone(), |terms| Some(terms.organization.clone())),
        expires_at: served.map(|record| record.expires_at.clone()),
        rotates_at: rotates.map(Time),
        revocation,
        conditions: conditions.into_vec(),
        records: records.into_vec(),
    };
    let notes = notes(world, terms, progress, &status);
    Settled { status, notes, wake }
}

fn records(world: &World, terms: &Checked<TokenTerms>, progress: &Progress) -> Records {
    let mut records = world.records();
    if let Some(record) = &progress.recorded {
        records.record(record.clone(), world.now);
    }
    if let (Some((generation, at)), Ok(terms)) = (progress.published, terms) {
        records.publish(generation, at, terms.life.overlap);
    }
    let refused = progress.failure.as_ref().is_some_and(|failure| failure.refusal.is_definite());
    if let (true, Some(record)) = (refused, &progress.recorded) {
        records.drop_unpublished(record.generation);
    }
    if matches!(progress.decision.act, Act::End(_)) {
        records.revoke();
    }
    records.prune();
    records
}

fn revocation(world: &World, progress: &Progress) -> Option<Revocation> {
    let stands = world.token.status.as_ref().and_then(|status| status.revocation.clone());
    stands.or(match progress.decision.act {
        Act::End(reason) => Some(Revocation { reason, at: Time(world.now) }),
        Act::Rest | Act::Mint | Act::Adopt(_) | Act::Amend => None,
    })
}

/// Whether the next rotation will happen on its own.
fn rotating(progress: &Progress) -> bool {
    !matches!(
        progress.decision.reason,
        Reason::Deleting
            | Reason::NamespaceTerminating
            | Reason::Revoked
            | Reason::AccountDeleted
            | Reason::Suspended
            | Reason::AccountSuspended
    )
}

fn conditions(world: &World, terms: &Checked<TokenTerms>, progress: &Progress, records: &Records) -> Conditions {
    let old = world.token.status.as_ref().map(|status| status.conditions.as_slice());
    let mut conditions = Conditions::from(old, world.token.metadata.generation, world.now);
    match terms {
        Ok(_) => conditions.set(ACCEPTED, true, Reason::Accepted, "the spec is valid and what it refers to exists"),
        Err(faults) => conditions.set(ACCEPTED, false, first(faults), told(faults)),
    }
    let (published, reason, message) = published(world, progress, records);
    conditions.set(PUBLISHED, published, reason, &*message);
    let (conclusion, reason, message) = conclusion(world, terms, progress, records, (published, reason, message));
    conditions.conclude(conclusion, reason, message);
    conditions
}

/// Whether the Secret holds the value that the records name.
fn published(world: &World, progress: &Progress, records: &Records) -> (bool, Reason, String) {
    let name = world.token.secret_name();
    if let Some(failure) = &progress.failure {
        return (false, failure.reason, format!("Secret {name}: {}; trying again", failure.refusal));
    }
    if matches!(progress.decision.act, Act::End(_)) {
        return (false, progress.decision.reason, format!("Secret {name} was removed"));
    }
    let Some(served) = records.served() else {
        return (false, progress.decision.reason, format!("Secret {name} holds no valid generation yet"));
    };
    let holds = progress.published.is_some() || world.secret.digest() == Some(served.sha256);
    if holds {
        return (true, Reason::Active, format!("Secret {name} holds generation {}", served.generation));
    }
    (false, progress.decision.reason, format!("Secret {name} does not hold generation {}", served.generation))
}

/// What it all comes to: how `Ready` stands, and the word for it.
fn conclusion(
    world: &World,
    terms: &Checked<TokenTerms>,
    progress: &Progress,
    records: &Records,
    (published, why, message): (bool, Reason, String),
) -> (Conclusion, Reason, String) {
    let reason = progress.decision.reason;
    let name = world.token.account_name().0;
    match (reason, terms) {
        (Reason::Revoked, _) => {
            (Conclusion::Stalled, reason, "revoked: refused for ever; make another ApiToken".into())
        }
        (Reason::AccountDeleted, _) => {
            (Conclusion::Stalled, reason, format!("account {name} is gone: refused for ever; make another ApiToken"))
        }
        (Reason::Deleting, _) => (Conclusion::Working, reason, "being deleted".into()),
        (Reason::NamespaceTerminating, _) => (Conclusion::Working, reason, "its namespace is being deleted".into()),
        (_, Err(faults)) => (Conclusion::of(first(faults)), first(faults), told(faults)),
        (Reason::Suspended, _) => (Conclusion::Paused, reason, "refused until active is true again".into()),
        (Reason::AccountSuspended, _) => {
            (Conclusion::Paused, reason, format!("refused until account {name} is active again"))
        }
        _ if !published => (Conclusion::Working, why, message),
        _ => match records.overlap_ends() {
            Some(ends) => {
                (Conclusion::Ready, Reason::Rotating, format!("{message}; its predecessor is valid until {ends}"))
            }
            None => (Conclusion::Ready, Reason::Active, message),
        },
    }
}

fn first(faults: &[Fault]) -> Reason {
    faults.first().map_or(Reason::Invalid, |fault| fault.reason)
}

fn told(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

fn wake(
    world: &World,
    progress: &Progress,
    records: &Records,
    rotates: Option<jiff::Timestamp>,
    conditions: &Conditions,
) -> Option<jiff::Timestamp> {
    if matches!(progress.decision.reason, Reason::Deleting | Reason::NamespaceTerminating) {
        return None;
    }
    let failing = |type_| conditions.get(type_).is_some_and(|condition| condition.status == "False");
    let retry = if matches!(progress.decision.act, Act::End(_)) {
        progress.failure.as_ref().map(|_| conditions.retry(PUBLISHED))
    } else if failing(ACCEPTED) {
        Some(conditions.retry(ACCEPTED))
    } else if progress.failure.is_some() {
        Some(conditions.retry(PUBLISHED))
    } else {
        None
    };
    let waits = records.may_record_from().filter(|&from| from > world.now);
    [records.next_end(), rotates, retry, waits].into_iter().flatten().min()
}

/// What has happened, once: told when it is done, or when a condition comes to say something else.
fn notes(world: &World, terms: &Checked<TokenTerms>, progress: &Progress, status: &ApiTokenStatus) -> Vec<Note> {
    let old = world.status();
    let changed = |type_: &str| {
        let of = |conditions: &[_]| {
            let found = conditions
                .iter()
                .find(|c: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| c.type_ == type_);
            found.map(|condition| (condition.reason.clone(), condition.message.clone()))
        };
        of(&old.conditions) != of(&status.conditions)
    };
    let mut notes = Vec::new();
    if let (Err(faults), true) = (terms, changed(ACCEPTED)) {
        notes.push(Note::warning(first(faults), told(faults)));
    }
    if let (Some(failure), true) = (&progress.failure, changed(PUBLISHED)) {
        notes.push(Note::warning(failure.reason, failure.refusal.to_string()));
    }
    let name = world.token.secret_name();
    let reason = progress.decision.reason;
    if let Some((generation, _)) = progress.published {
        let text = format!("generation {generation} is published in Secret {name}");
        let damage = matches!(reason, Reason::SecretMissing | Reason::SecretAltered);
        notes.push(if damage { Note::warning(reason, text) } else { Note::normal(reason, text) });
    }
    match progress.decision.act {
        Act::End(_) if old.revocation.is_none() => {
            notes.push(Note::warning(
                reason,
                format!("all generations are refused from now on, and Secret {name} is removed"),
            ));
        }
        Act::Amend if progress.failure.is_none() => {
            notes.push(Note::normal(reason, format!("Secret {name} was brought up to date")))
        }
        Act::Rest if matches!(reason, Reason::Suspended | Reason::AccountSuspended) && changed(READY) => {
            notes.push(Note::normal(reason, "refused until it is active again"));
        }
        Act::End(_) | Act::Amend | Act::Rest | Act::Mint | Act::Adopt(_) => {}
    }
    notes
}
