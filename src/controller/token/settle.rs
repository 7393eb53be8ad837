//! Computes the new status from the progress of a pass: once for the record, and once at the end.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    act::Act,
    audience,
    ending::revocation,
    once,
    outcome::{Outcome, published_in},
    owner,
    progress::Progress,
    restart, rules, shown,
    terms::{CheckedTerms, TokenTerms},
    wakes::{self, Dates},
    world::World,
};
use crate::{
    controller::kind::Settled,
    crd::{
        EventName, Reason,
        api_token::{ApiTokenStatus, Binding, BoundAccount, Regeneration},
        workload::Restart,
    },
    outside::events::Note,
    token::{
        Ending, Records,
        duration::after,
        schedule::{expires_soon_from, free_from, rotates_at},
    },
};

/// The complete status after `progress`, with the events and the next wake-up.
pub(crate) fn settle(world: &World, terms: &CheckedTerms, progress: &Progress) -> Settled<ApiTokenStatus> {
    if progress.decision.act == Act::Forget {
        let reason = progress.decision.reason;
        let text = match reason == Reason::AccountDeleted {
            true => "deleted together with its account, as its Instance asks for (tokens.onAccountDeleted: Delete)",
            false => "deleted, as its Instance wants no token listed that ended so long ago",
        };
        let notes = vec![Note::normal(EventName::Deleted, reason, text)];
        return Settled { status: world.before().clone(), notes, wake: None };
    }
    let records = records(world, terms, progress);
    let claim = once::settled(world, progress, &records);
    let restart = restart::noted(world, terms, progress);
    let outcome = Outcome { world, terms, progress, records: &records, claim: claim.as_ref() };
    let dates = dates(&outcome);
    let soon = outcome.served().filter(|_| dates.expires_soon.is_some_and(|soon| soon <= world.now));
    let mut conditions = outcome.conditions(soon);
    restart::conclude(&mut conditions, restart.as_ref(), progress);
    let notes = outcome.notes(&conditions);
    let wake = wakes::earliest(&outcome, &dates, restart.as_ref(), &conditions);
    let status = ApiTokenStatus {
        rotates_at: dates.rotates.map(Time),
        conditions: conditions.into_vec(),
        ..status(&outcome, restart)
    };
    Settled { status: ApiTokenStatus { records: records.into_vec(), ..status }, notes, wake }
}

/// The status without records, conditions and the next rotation.
fn status(outcome: &Outcome<'_>, restart: Option<Restart>) -> ApiTokenStatus {
    let Outcome { world, terms, progress, records, claim } = outcome;
    let (old, served) = (world.before(), outcome.served());
    let (secret_name, other_secret_name) = names(outcome);
    let organization = terms.as_ref().ok().map(|terms| terms.organization.clone());
    ApiTokenStatus {
        observed_generation: world.token.metadata.generation,
        last_generation: old.last_generation.max(Some(records.last_generation())).filter(|&number| number > 0),
        account: progress.bound.clone().or_else(|| old.account.clone()).or_else(|| named_account(world)),
        binding: secret_name.clone().filter(|_| served.is_some()).map(|name| Binding { name }),
        secret_name,
        other_secret_name,
        organization: organization.or_else(|| old.organization.clone()),
        endpoint: endpoint(outcome),
        expires_at: served.and_then(|record| record.expires_at.clone()),
        others: old.others.clone(),
        audiences: Some(audience::accepted(world, terms)),
        effective: world.owner.effective.clone(),
        rules: rules::accepted(world, terms),
        owner: world.owner.seen.clone(),
        policy: owner::mirrored(world).or_else(|| old.policy.clone()),
        regeneration: regeneration(progress, records).or_else(|| old.regeneration.clone()),
        restart,
        delivery: shown::settled(world, progress, records),
        claim: claim.cloned(),
        revocation: revocation(world, progress),
        unreadable: Vec::new(),
        records: Vec::new(),
        conditions: Vec::new(),
        rotates_at: None,
    }
}

/// The account that the token names in `serviceAccountRef`. A token that waits is bound to it too: a later account of
/// that name may belong to somebody else.
fn named_account(world: &World) -> Option<BoundAccount> {
    let (name, implied) = world.token.account_name();
    let account = world.account.as_ref().filter(|account| !implied && !world.is_namesake(account))?;
    let uid = account.metadata.uid.clone().filter(|_| account.metadata.deletion_timestamp.is_none())?;
    Some(BoundAccount { name: name.to_owned(), uid })
}

/// The URI that the token knows from now on. It is noted once a value was published. Faulty terms keep the old one.
fn endpoint(Outcome { world, terms, records, .. }: &Outcome<'_>) -> Option<String> {
    match terms.as_ref().ok().filter(|_| records.ever_published()) {
        Some(terms) => Some(terms.endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
        None => world.before().endpoint.clone(),
    }
}

/// The time at which the served generation is replaced. If nothing replaces it, the time from which its expiry is
/// announced.
fn dates(outcome: &Outcome<'_>) -> Dates {
    let Outcome { world, terms, progress, .. } = outcome;
    let lives = !progress.decision.reason.is_going() && progress.ends().is_none() && world.pause.is_none();
    let rotating = terms.as_ref().ok().filter(|_| lives);
    let rotates = rotating.and_then(|terms| next(outcome, terms));
    let kept = outcome.served().filter(|_| rotates.is_none());
    Dates { rotates, expires_soon: kept.and_then(expires_soon_from) }
}

/// The time at which the next generation is due: on schedule, or earlier if a template or the Secret's name has
/// changed. Such a change waits for the end of an overlap. Without an overlap it is due since the last publish.
fn next(outcome: &Outcome<'_>, terms: &TokenTerms) -> Option<Timestamp> {
    let Outcome { world, progress, records, .. } = outcome;
    let renamed = progress.published.is_none() && world.secrets.next().name != world.secrets.served.name;
    let scheduled = rotates_at(records, &terms.life, world.uid(), world.now);
    let changed = records.served().is_some_and(|served| terms.shape.has_changed_since(served));
    let published = || records.served()?.published_at.as_ref().map(|at| at.0);
    let free = free_from(records).or_else(published).filter(|_| (changed || renamed) && !world.shown_once.served);
    scheduled.into_iter().chain(free).min()
}

/// The two names in the status: `secretName` and `otherSecretName`.
///
/// `secretName` is the Secret that holds the value. `otherSecretName` is another Secret that may hold one. Before the
/// publish under a new name it is the new name, and after the publish it is the old name.
fn names(Outcome { world, progress, records, claim, .. }: &Outcome<'_>) -> (Option<String>, Option<String>) {
    let (stood, other) = (world.before().secret_name.clone(), world.before().other_secret_name.clone());
    let (served_in, next) = (world.secrets.served.name.clone(), world.secrets.next().name.clone());
    if progress.ends().is_some() {
        return if progress.failure.is_none() { (None, None) } else { (stood, other) };
    }
    let other = other.filter(|_| progress.decision.act != Act::Discard || progress.failure.is_some());
    if let Some(name) = published_in(world, progress) {
        let before = stood.map(|_| served_in).filter(|served_in| *served_in != name);
        let other = before.or(other).filter(|other| *other != name);
        return (Some(name.to_owned()), other);
    }
    let other = other.filter(|other| *other != served_in);
    let is_served = records.served().is_some();
    // An expired value is still in its Secret.
    let name = if is_served { Some(served_in.clone()) } else { stood.filter(|_| records.ever_published()) };
    let recorded = progress.recorded.as_ref().filter(|_| next != served_in);
    (name.filter(|_| claim.is_none()), other.or(recorded.map(|_| next)))
}

fn records(world: &World, terms: &CheckedTerms, progress: &Progress) -> Records {
    let mut records = world.records.clone();
    if let Some(record) = &progress.recorded {
        records.record(record.clone(), world.now);
    }
    if let (Some((generation, at)), Ok(terms)) = (progress.published, terms) {
        let asked = records.get(generation).and_then(|record| record.asked_by.clone());
        let overlap = terms.overlap(asked.as_deref(), at);
        records.publish(generation, at, overlap);
        if terms.previous(asked.as_deref()) != Ending::Overlap {
            records.end_before(generation, after(at, overlap), world.now);
        }
    }
    let refused = progress.failure.as_ref().is_some_and(|failure| failure.obstacle.is_definite());
    if let (true, Some(record)) = (refused, &progress.recorded) {
        records.refuse(record.generation, world.now);
    }
    if progress.ends().is_some() {
        records.revoke();
    }
    records.prune();
    if let Ok(terms) = terms {
        records.forget_made(|key| terms.shape.is_of_value(key));
    }
    records
}

/// The note that a published generation answers its `regenerate.id`.
fn regeneration(progress: &Progress, records: &Records) -> Option<Regeneration> {
    let (generation, _) = progress.published?;
    let id = records.get(generation)?.asked_by.clone()?;
    Some(Regeneration { id, generation })
}

#[cfg(test)]
mod tests {
    use super::super::{
        act::Decision,
        fixture::{
            self, ACCOUNT_UID, DAY, HOUR, UID, at, but, conditions, incomplete, judged, judged_all, new, own_account,
            rotated, said, served, time,
        },
        progress::Failure,
        secrets::Held,
    };
    use super::*;
    use crate::{
        crd::{
            api_token::{Claim, ClaimOutcome, OnRevoke, Revocation, RevocationReason},
            condition::{ACCEPTED, EXPIRING_SOON, PUBLISHED, READY, RECONCILING, VALID},
        },
        outside::{Refusal, Why},
        token::State,
    };
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn started() -> World {
        new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID))))
    }

    fn failed(progress: Progress, refusal: Refusal) -> Progress {
        Progress { failure: Some(Failure { reason: Reason::PublishFailed, obstacle: refusal.into() }), ..progress }
    }

    fn forbidden() -> Refusal {
        Refusal::because(Why::Forbidden("exceeded quota".into()))
    }

    fn states(status: &ApiTokenStatus) -> Vec<(i64, State)> {
        status.records.iter().map(|record| (record.generation, record.state)).collect()
    }

    fn notes(settled: &Settled<ApiTokenStatus>) -> Vec<(bool, Reason)> {
        settled.notes.iter().map(|note| (note.warning, note.reason)).collect()
    }

    fn bytes(status: &ApiTokenStatus) -> String {
        serde_json::to_string(status).unwrap()
    }

    /// Asserts that a pass finds nothing to do: the status stays the same, and no event is written.
    fn assert_rests(world: &World) {
        let settled = world.rested();
        assert!(matches!(world.decision().act, Act::Rest | Act::End(_)), "{:?}", world.decision());
        assert_eq!(bytes(&settled.status), bytes(&world.status()));
        assert_eq!(settled.notes, []);
    }

    #[test]
    fn a_first_generation_that_is_on_record_is_not_promised_yet() {
        let world = started();
        let progress = world.minted(1);
        let settled = world.settle(&progress);
        let status = &settled.status;
        assert_eq!(states(status), [(1, State::Recorded)]);
        assert_eq!(status.records[0].expires_at, Some(time(90 * DAY)));
        assert_eq!(
            conditions(status),
            [
                "Accepted=True/Accepted",
                "Published=False/FirstIssue",
                "Ready=False/FirstIssue",
                "Reconciling=True/FirstIssue",
                "Valid=False/FirstIssue"
            ]
        );
        assert_eq!((status.observed_generation, status.last_generation), (Some(1), Some(1)));
        assert_eq!(status.account, Some(BoundAccount { name: "ci".into(), uid: ACCOUNT_UID.into() }));
        assert_eq!((&status.secret_name, &status.binding, &status.expires_at), (&None, &None, &None));
        assert_eq!(notes(&settled), []);
    }

    #[test]
    fn an_event_is_named_for_what_the_publish_was_to_the_token() {
        let named = |world: World| {
            let progress = world.minted(3);
            let generation = progress.recorded.as_ref().unwrap().generation;
            let settled = world.settle(&Progress { published: Some((generation, world.now)), ..progress });
            let note = &settled.notes[0];
            (note.event, note.reason, note.warning)
        };
        assert_eq!(named(started()), (EventName::Issued, Reason::FirstIssue, false));
        assert_eq!(named(served().later(85 * DAY)), (EventName::Rotated, Reason::RotationDue, false));
        let asked = served().with_spec(&json!({"regenerate": {"id": "leak"}}));
        assert_eq!(named(asked), (EventName::Regenerated, Reason::RegenerateAsked, false));
        let missing = served().later(60).serving(Held::Absent);
        assert_eq!(named(missing), (EventName::SecretRestored, Reason::SecretMissing, true));
        let lost = served().with_status(|status| status.records.clear());
        assert_eq!(named(lost), (EventName::Reissued, Reason::RecordsLost, true));
        let revoked = served().with_spec(&json!({"revoked": true}));
        assert_eq!(revoked.rested().notes[0].event, EventName::Revoked);
        let wrong = served().with_spec(&json!({"expiry": {"after": "400d"}}));
        assert_eq!(wrong.rested().notes[0].event, EventName::Rejected);
        let alone = served().and(|world| world.instance = None);
        assert_eq!(alone.rested().notes[0].event, EventName::Waiting);
        let suspended = served().with_spec(&json!({"active": false}));
        assert_eq!(suspended.rested().notes[0].event, EventName::Suspended);
    }

    #[test]
    fn a_publish_that_a_later_pass_completes_is_named_for_the_record() {
        let named = |world: World, generation: i64| {
            assert_eq!(world.decision().reason, Reason::PublishIncomplete);
            let published = Some((generation, world.now));
            let settled = world.settle(&Progress { published, ..Progress::none(world.decision()) });
            settled.notes.iter().map(|note| note.event).collect::<Vec<_>>()
        };
        let recorded = |world: World| {
            let progress = world.minted(3);
            let record = progress.recorded.clone().unwrap();
            (world.settled(&progress).holding(&record, 3), record.generation)
        };
        let (first, generation) = recorded(started());
        assert_eq!(named(first, generation), [EventName::Issued]);
        let (due, generation) = recorded(served().later(60 * DAY));
        assert_eq!(named(due, generation), [EventName::Rotated]);
        let (asked, generation) = recorded(served().with_spec(&json!({"regenerate": {"id": "leak"}})));
        assert_eq!(named(asked, generation), [EventName::Regenerated]);
    }

    #[test]
    fn the_event_about_a_failure_is_named_for_the_action_that_failed() {
        let named = |world: World, reason: Reason| {
            let failure = Some(Failure { reason, obstacle: forbidden().into() });
            let notes = world.settle(&Progress { failure, ..Progress::none(world.decision()) }).notes;
            let failed = notes.into_iter().find(|note| note.reason == reason).unwrap();
            (failed.warning, failed.event)
        };
        assert_eq!(named(started(), Reason::PublishFailed), (true, EventName::PublishFailed));
        assert_eq!(named(started(), Reason::AccountFailed), (true, EventName::AccountFailed));
        let revoked = served().with_spec(&json!({"revoked": true}));
        assert_eq!(named(revoked, Reason::PublishFailed), (true, EventName::RemovalFailed));
    }

    #[test]
    fn a_disabled_endpoint_is_told_to_each_token_once_by_that_name() {
        let endpoints = json!([{"name": "admin", "type": "disabled"}]);
        let disabled = json!({"manager": {"service": {"name": "m"}, "endpoints": endpoints}});
        let world = served().with_instance(disabled);
        let told: Vec<_> =
            world.rested().notes.into_iter().map(|note| (note.warning, note.event, note.reason)).collect();
        assert_eq!(told, [(false, EventName::EndpointDisabled, Reason::EndpointDisabled)]);
        assert_rests(&world.clone().settled(&Progress::none(world.decision())));
        let suspended = world.with_spec(&json!({"active": false}));
        assert_eq!(suspended.rested().notes[0].event, EventName::Suspended, "it is refused for another reason");
    }

    /// The end of the predecessor, the event and the answer, for a requested generation that is published two seconds
    /// from now.
    fn regenerated(previous: Value) -> (i64, String, Option<Regeneration>) {
        let world = served().with_spec(&json!({"regenerate": {"id": "leak", "previous": previous}}));
        let progress = world.minted(2);
        let published = world.now + jiff::SignedDuration::from_secs(2);
        let settled = world.settle(&Progress { published: Some((2, published)), ..progress });
        let end = settled.status.records[0].end().unwrap().duration_since(published).as_secs();
        (end, settled.notes[0].text.clone(), settled.status.regeneration)
    }

    #[test]
    fn a_predecessor_ends_as_was_asked_for() {
        let told = "generation 2 is published in Secret ci";
        let answer = Some(Regeneration { id: "leak".into(), generation: 2 });
        assert_eq!(regenerated(Value::Null), (24 * HOUR, told.into(), answer.clone()), "after the overlap");
        assert_eq!(regenerated(json!({"after": "2h"})), (2 * HOUR, told.into(), answer.clone()));
        assert_eq!(regenerated(json!({"after": "0s"})), (0, told.into(), answer.clone()), "at once");
        let (later, earlier) = (served().now + jiff::SignedDuration::from_secs(62), time(-60));
        assert_eq!(regenerated(json!({ "at": later.to_string() })), (60, told.into(), answer.clone()));
        let over = format!("{told}; its predecessor is refused at once, as {} is over", earlier.0);
        assert_eq!(regenerated(json!({ "at": earlier })), (0, over, answer));
    }

    #[test]
    fn what_previous_gives_is_the_end_of_every_older_generation_and_only_shortens() {
        let ends = |world: &World| {
            let of = |record: &crate::token::Record| {
                (record.generation, record.end().unwrap().duration_since(at(60 * DAY)).as_secs())
            };
            world.records.as_slice().iter().map(of).collect::<Vec<_>>()
        };
        let asks = |previous: Value| json!({"regenerate": {"id": "leak", "previous": previous}});
        let standing = [(1, DAY), (2, 90 * DAY)];
        assert_eq!(ends(&rotated()), standing);
        let issued = |previous| rotated().later(HOUR).with_spec(&asks(previous)).issued(3);
        let third = (3, HOUR + 90 * DAY);
        assert_eq!(ends(&issued(Value::Null)), [(1, DAY), (2, HOUR + DAY), third], "left out, after the overlap");
        assert_eq!(ends(&issued(json!({"after": "2h"}))), [(1, 3 * HOUR), (2, 3 * HOUR), third]);
        assert_eq!(
            ends(&issued(json!({"after": "7d"}))),
            [(1, DAY), (2, HOUR + 7 * DAY), third],
            "nothing lasts longer"
        );
        let at_once = issued(json!({"after": "0s"}));
        assert_eq!(ends(&at_once), [(1, HOUR), (2, HOUR), third]);
        assert_eq!(states(&at_once.status()), [(1, State::Expired), (2, State::Expired), (3, State::Active)]);
        // A later change under the same id ends one leaked value alone.
        let world = issued(Value::Null).later(HOUR);
        let changed = world.clone().with_spec(&asks(json!({"after": "0s"})));
        assert_eq!(changed.decision().act, Act::Rest, "the change mints no generation");
        let settled = changed.rested();
        assert_eq!(states(&settled.status), [(1, State::Expired), (2, State::Expired), (3, State::Active)]);
        let told: Vec<_> = settled.notes.iter().map(|note| (note.warning, note.reason, note.text.as_str())).collect();
        let text = format!(
            "generation 1 ends at {end}, generation 2 ends at {end}, as regenerate.previous says",
            end = at(60 * DAY + HOUR)
        );
        assert_eq!(told, [(false, Reason::RegenerateAsked, &*text)]);
        assert_rests(&changed.clone().settled(&Progress::none(changed.decision())));
        let longer = world.with_spec(&asks(json!({"after": "7d"})));
        assert_eq!(ends(&longer), [(1, DAY), (2, HOUR + DAY), third], "it never extends");
    }

    #[test]
    fn a_smaller_maximum_shortens_an_overlap_that_runs() {
        let world = rotated().with_instance(json!({"tokens": {"overlap": {"max": "1h"}}}));
        assert_eq!(world.records.as_slice()[0].end(), Some(at(60 * DAY + HOUR)));
        assert_eq!(world.records.served(), rotated().records.served());
        assert_eq!(notes(&world.rested()), [(true, Reason::LifetimeShortened)]);
        let settled = world.clone().settled(&Progress::none(world.decision()));
        assert_rests(&settled);
        let longer = settled.with_instance(json!({}));
        assert_eq!(longer.records.as_slice()[0].end(), Some(at(60 * DAY + HOUR)), "it never extends");
    }

    #[test]
    fn older_generations_keep_their_own_end() {
        let world = rotated();
        let before = world.records.as_slice()[0].expires_at.clone();
        let world = world.with_spec(&json!({"regenerate": {"id": "leak", "previous": {"after": "7d"}}})).issued(3);
        assert_eq!(world.records.as_slice()[0].expires_at, before);
    }

    #[test]
    fn a_first_generation_that_is_published_is_what_the_status_says() {
        let world = started();
        let progress = world.minted(1);
        let settled = world.settle(&Progress { published: Some((1, at(2))), ..progress });
        let status = &settled.status;
        assert_eq!(states(status), [(1, State::Active)]);
        assert_eq!(status.records[0].published_at, Some(time(2)));
        assert_eq!(
            conditions(status),
            ["Accepted=True/Accepted", "Published=True/Active", "Ready=True/Active", "Valid=True/Active"]
        );
        assert_eq!(status.secret_name.as_deref(), Some("ci"));
        assert_eq!(status.binding, Some(Binding { name: "ci".into() }));
        assert_eq!(status.organization.as_deref(), Some("eem"));
        assert_eq!(status.expires_at, Some(time(90 * DAY)));
        assert_eq!(status.revocation, None);
        assert_eq!(notes(&settled), [(false, Reason::FirstIssue)]);
        let rotates = status.rotates_at.as_ref().unwrap().0;
        assert!((at(57 * DAY)..=at(60 * DAY)).contains(&rotates), "{rotates}");
        assert_eq!(settled.wakes_at(), Some(rotates));
        assert_rests(&served());
    }

    #[test]
    fn the_secret_is_named_as_asked_for() {
        let named = started().with_spec(&json!({"secret": {"name": "other"}})).issued(1).status();
        assert_eq!(named.secret_name.as_deref(), Some("other"));
        assert_eq!(named.binding, Some(Binding { name: "other".into() }));
    }

    #[test]
    fn a_record_of_a_rotation_changes_nothing_for_the_served_generation() {
        let world = served().later(60 * DAY);
        let settled = world.settle(&world.minted(2));
        assert_eq!(states(&settled.status), [(1, State::Active), (2, State::Recorded)]);
        assert_eq!(settled.status.records[0], world.status().records[0]);
        assert_eq!(settled.status.conditions, world.status().conditions);
        assert_eq!(settled.status.expires_at, Some(time(90 * DAY)));
    }

    #[test]
    fn an_overlap_begins_when_the_publish_was_answered() {
        let world = served().later(60 * DAY);
        let published = Some((2, at(60 * DAY + 5)));
        let settled = world.settle(&Progress { published, ..world.minted(2) });
        let status = &settled.status;
        assert_eq!(states(status), [(1, State::Superseded), (2, State::Active)]);
        assert_eq!(status.records[0].expires_at, Some(time(61 * DAY + 5)));
        assert_eq!(judged(status, READY), "Ready=True/Rotating");
        assert_eq!(settled.wakes_at(), Some(at(61 * DAY + 5)), "the end of the overlap comes first");
        assert_eq!(notes(&settled), [(false, Reason::RotationDue)]);
        assert_rests(&rotated());
        let over = rotated().later(DAY);
        let settled = over.rested();
        assert_eq!(states(&settled.status), [(1, State::Expired), (2, State::Active)]);
        assert_eq!(judged(&settled.status, READY), "Ready=True/Active");
        assert_eq!(notes(&settled), []);
    }

    #[test]
    fn a_publish_that_was_refused_ends_its_generation_and_keeps_its_number() {
        let world = started();
        let progress = failed(world.minted(1), forbidden());
        let settled = world.settle(&progress);
        let status = &settled.status;
        assert_eq!(states(status), [(1, State::Expired)]);
        assert_eq!((status.records[0].end(), &status.records[0].published_at), (Some(at(0)), &None));
        assert_eq!(status.last_generation, Some(1));
        assert_eq!(
            judged_all(status, [PUBLISHED, READY, RECONCILING]),
            ["Published=False/PublishFailed", "Ready=False/PublishFailed", "Reconciling=True/PublishFailed"]
        );
        assert_eq!(notes(&settled), [(true, Reason::PublishFailed)]);
        let world = world.settled(&progress);
        assert_rests(&world);
        let next = world.later(2);
        assert_eq!(next.decision(), Decision { reason: Reason::FirstIssue, act: Act::Mint(()) });
        assert_eq!(next.minted(2).recorded.unwrap().generation, 2);
    }

    #[test]
    fn refusals_are_followed_by_longer_and_longer_rests_and_told_once() {
        let mut world = served().later(60 * DAY);
        let mut waits = Vec::new();
        for draw in 2..14 {
            let progress = failed(world.minted(draw), forbidden());
            let settled = world.settle(&progress);
            assert_eq!(settled.notes.len(), usize::from(draw == 2));
            let wake = settled.wakes_at().unwrap();
            waits.push(wake.duration_since(world.now).as_secs());
            world = world.settled(&progress);
            assert_rests(&world);
            assert_eq!(world.rested().wakes_at(), Some(wake));
            assert_eq!(judged(&world.status(), PUBLISHED), "Published=False/PublishFailed");
            assert!(said(&world.status(), PUBLISHED).message.contains("exceeded quota"));
            assert_eq!(states(&world.status()), [(1, State::Active), (draw as i64, State::Expired)]);
            world = world.at(wake);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        let healed = world.issued(14).status();
        assert_eq!(healed.last_generation, Some(14));
        assert_eq!(judged(&healed, READY), "Ready=True/Rotating");
    }

    #[test]
    fn a_publish_of_which_nothing_was_heard_stays_on_record() {
        let world = served().later(60 * DAY);
        let progress = failed(world.minted(2), Refusal::because(Why::Unavailable("timeout".into())));
        let settled = world.settle(&progress);
        assert_eq!(states(&settled.status), [(1, State::Active), (2, State::Recorded)]);
        assert_eq!(judged(&settled.status, PUBLISHED), "Published=False/PublishFailed");
        assert_eq!(
            settled.wakes_at(),
            Some(world.now + jiff::SignedDuration::from_secs(5)),
            "after a pause, although it is due"
        );
        let landed = world.clone().settled(&progress).holding(progress.recorded.as_ref().unwrap(), 2);
        let adopted =
            landed.settle(&Progress { published: Some((2, landed.now)), ..Progress::none(landed.decision()) });
        assert_eq!(states(&adopted.status), [(1, State::Superseded), (2, State::Active)]);
        assert_eq!(notes(&adopted), [(false, Reason::PublishIncomplete)]);
        assert_eq!(judged(&adopted.status, READY), "Ready=True/Rotating");
    }

    #[test]
    fn while_two_may_land_it_sleeps_until_one_can_land_no_more() {
        let world = incomplete().later(30);
        let second = failed(world.minted(3), Refusal::because(Why::Unavailable("timeout".into())));
        let world = world.settled(&second).later(10);
        let waiting = world.rested();
        assert_eq!(waiting.wakes_at(), Some(at(60 * DAY + 120)), "no earlier, although it is due");
        assert_eq!(states(&waiting.status)[1..], [(2, State::Recorded), (3, State::Recorded)]);
    }

    #[test]
    fn an_account_that_cannot_be_made_is_told_and_nothing_is_on_record() {
        let world = new();
        let failure = Some(Failure { reason: Reason::AccountFailed, obstacle: forbidden().into() });
        let progress = Progress { failure, ..Progress::none(world.decision()) };
        let settled = world.settle(&progress);
        assert_eq!(settled.status.records, []);
        assert_eq!(settled.status.last_generation, None);
        assert_eq!(judged(&settled.status, PUBLISHED), "Published=False/AccountFailed");
        assert_eq!(said(&settled.status, PUBLISHED).message, "account ci: forbidden: exceeded quota; trying again");
        assert_eq!(settled.wakes_at(), Some(at(2)));
        assert_eq!(notes(&settled), [(true, Reason::AccountFailed)]);
        let again = world.settled(&progress);
        assert_eq!(again.settle(&progress).status, again.status());
        assert_eq!(notes(&again.settle(&progress)), []);
    }

    #[test]
    fn a_token_that_waits_is_bound_to_the_account_that_it_names() {
        let waiting = |account: Option<crate::crd::Account>| {
            let faulty = json!({"serviceAccountRef": {"name": "ci"}, "expiry": {"after": "400d"}});
            new().with_spec(&faulty).and(|world| world.account = account.map(Arc::new))
        };
        let bound = |world: &World| world.rested().status.account.map(|account| account.uid);
        assert_eq!(bound(&waiting(None)), None);
        let seen = waiting(Some(fixture::account()));
        assert_eq!(bound(&seen), Some(ACCOUNT_UID.into()));
        let resting = seen.clone().settled(&Progress::none(seen.decision()));
        assert_rests(&resting);
        let another = resting.with_account(|account| account.metadata.uid = Some("another".into()));
        assert_eq!(another.decision().reason, Reason::AccountDeleted, "an account of that name is another one");
        assert_eq!(bound(&another), Some(ACCOUNT_UID.into()));
        let going = waiting(Some(fixture::account())).with_account(|account| {
            account.metadata.deletion_timestamp = Some(time(0));
        });
        assert_eq!(bound(&going), None, "the token would end with it");
        assert_eq!(
            bound(&new().and(|world| world.account = Some(Arc::new(fixture::account())))),
            None,
            "a foreign one"
        );
    }

    #[test]
    fn an_end_withdraws_every_valid_generation_and_is_told_once() {
        for (world, reason, why, asked_for) in [
            (rotated().with_spec(&json!({"revoked": true})), Reason::Revoked, RevocationReason::Manual, true),
            (
                rotated().and(|world| world.account = None),
                Reason::AccountDeleted,
                RevocationReason::AccountDeleted,
                false,
            ),
        ] {
            let settled = world.rested();
            let status = &settled.status;
            assert_eq!(states(status), [(1, State::Revoked), (2, State::Revoked)]);
            assert_eq!(
                status.revocation,
                Some(Revocation { reason: why, at: time(60 * DAY), by: None, message: None, generations: vec![1, 2] })
            );
            assert_eq!((&status.secret_name, &status.binding), (&None, &None));
            assert_eq!((&status.expires_at, &status.rotates_at, settled.wakes_at()), (&None, &None, None));
            let ready = if asked_for { "Ready=True" } else { "Ready=False" };
            let said =
                [format!("Published=False/{reason}"), format!("{ready}/{reason}"), format!("Valid=False/{reason}")];
            let stalled = (!asked_for).then(|| format!("Stalled=True/{reason}"));
            let mut wanted: Vec<_> = said.into_iter().chain(stalled).collect();
            let mut told = conditions(status).split_off(1);
            wanted.sort();
            told.sort();
            assert_eq!(told, wanted);
            assert_eq!(notes(&settled), [(true, reason)]);
            let ended = world.clone().settled(&Progress::none(world.decision())).serving(Held::Absent);
            assert_rests(&ended);
            assert_rests(&ended.later(400 * DAY));
        }
    }

    #[test]
    fn an_end_whose_secret_cannot_be_removed_is_tried_again() {
        let world = served().with_spec(&json!({"revoked": true}));
        let progress = failed(Progress::none(world.decision()), forbidden());
        let settled = world.settle(&progress);
        assert_eq!(states(&settled.status), [(1, State::Revoked)]);
        assert_eq!(
            judged_all(&settled.status, [PUBLISHED, READY]),
            ["Published=False/PublishFailed", "Ready=False/Revoked"]
        );
        assert_eq!(settled.wakes_at(), Some(at(2)));
        assert_eq!(notes(&settled), [(true, Reason::PublishFailed), (true, Reason::Revoked)]);
    }

    #[test]
    fn who_revokes_may_say_that_it_was_compromised() {
        let world = served().with_spec(&json!({"revoked": true, "revocationReason": "Compromised"}));
        let settled = world.rested();
        assert_eq!(settled.status.revocation.unwrap().reason, RevocationReason::Compromised);
        assert_eq!(notes(&world.rested()), [(true, Reason::Revoked)]);
    }

    #[test]
    fn a_secret_that_is_kept_is_emptied_and_then_left_alone() {
        let world = served().with_spec(&json!({"revoked": true, "secret": {"onRevoke": "Keep"}}));
        assert!(!world.is_withdrawn());
        let settled = world.rested();
        assert_eq!(said(&settled.status, PUBLISHED).message, "Secret ci was emptied");
        let ended = world.clone().settled(&Progress::none(world.decision())).with_secret(|secret| {
            secret.data.insert("token".into(), crate::crd::secret::Sealed::of(""));
        });
        assert!(ended.is_withdrawn());
        assert_rests(&ended);
        assert!(!ended.with_spec(&json!({"secret": {"onRevoke": "Delete"}})).is_withdrawn());
    }

    /// The way to another value of the token `ci`.
    const RENEWAL: &str =
        "ask for another by `kubectl tokenry rotate ci -n events`, or by a new text in spec.regenerate.id";

    #[test]
    fn what_expires_soon_and_is_not_renewed_is_said_once() {
        let soon = |settled: &Settled<ApiTokenStatus>| {
            let found = settled.status.conditions.iter().find(|condition| condition.type_ == EXPIRING_SOON);
            found.map(|condition| condition.message.clone())
        };
        let world = served().with_spec(&json!({"rotation": {"schedule": {"never": true}}}));
        let early = world.clone().later(75 * DAY);
        assert_eq!((soon(&early.rested()), early.rested().wakes_at()), (None, Some(at(76 * DAY))));
        let late = world.clone().later(76 * DAY);
        let said = format!("generation 1 expires at {} and nothing will renew it: {RENEWAL}", at(90 * DAY));
        assert_eq!(soon(&late.rested()), Some(said));
        assert_eq!(notes(&late.rested()), [(true, Reason::ExpiringSoon)]);
        let told = late.clone().settled(&Progress::none(late.decision()));
        assert_rests(&told.clone().later(DAY));
        let renewed = told.with_spec(&json!({"rotation": null}));
        assert_eq!(soon(&renewed.issued(2).rested()), None);

        let why = |world: World| soon(&world.later(89 * DAY).rested()).unwrap().rsplit(": ").next().unwrap().to_owned();
        assert_eq!(why(served().with_spec(&json!({"active": false}))), "it is suspended");
        assert_eq!(why(served().with_spec(&json!({"rotation": {"overlap": "0d"}}))), "the spec has faults");
        assert_eq!(why(served().with_spec(&json!({"expiry": {"at": time(90 * DAY)}}))), "the token ends then");
        assert_eq!(soon(&served().later(59 * DAY).rested()), None);
    }

    #[test]
    fn that_nothing_renewed_it_is_told_once() {
        let world = served().with_spec(&json!({"rotation": {"schedule": {"never": true}}})).later(90 * DAY);
        let settled = world.rested();
        assert_eq!(but(&settled.status, [ACCEPTED, PUBLISHED]), ["Ready=True/Expired", "Valid=False/Expired"]);
        assert_eq!(notes(&settled), [(true, Reason::Expired)]);
        let told = format!("it expired at {} and nothing renews it; {RENEWAL}", at(90 * DAY));
        assert_eq!(settled.notes[0].text, told);
        assert_rests(&world.clone().settled(&Progress::none(world.decision())).later(DAY));
    }

    #[test]
    fn that_an_end_comes_sooner_is_told_once() {
        let world = served().with_instance(json!({"tokens": {"lifetime": {"max": "80d"}}}));
        let settled = world.rested();
        assert_eq!(notes(&settled), [(true, Reason::LifetimeShortened)]);
        assert!(settled.notes[0].text.starts_with(&format!("generation 1 ends at {}", at(80 * DAY))));
        assert_eq!(settled.status.expires_at, Some(time(80 * DAY)));
        assert_rests(&world.clone().settled(&Progress::none(world.decision())));
    }

    #[test]
    fn a_token_that_is_forgotten_is_deleted_and_nothing_more_is_said_of_it() {
        let world = served().with_spec(&json!({"revoked": true}));
        let ended = world.clone().settled(&Progress::none(world.decision()));
        let ended = ended.with_instance(json!({"tokens": {"forgetAfter": "1h"}}));
        assert_eq!(ended.rested().wakes_at(), Some(at(HOUR)));
        let gone = ended.later(HOUR).rested();
        assert_eq!((gone.status.revocation.is_some(), gone.wakes_at()), (true, None));
        assert_eq!(notes(&gone), [(false, Reason::Forgotten)]);
    }

    #[test]
    fn a_value_that_is_shown_once_says_until_when_and_what_became_of_it() {
        let once = json!({"secret": {"delivery": "Once"}});
        let world = started().with_spec(&once).issued(1);
        let waiting = world.rested();
        let until = format!("Secret ci holds generation 1 until it is claimed, at the latest until {}", at(HOUR));
        assert_eq!((&said(&waiting.status, PUBLISHED).message, waiting.wakes_at()), (&until, Some(at(HOUR))));
        assert_rests(&world);
        for (outcome, warning, how) in [
            (ClaimOutcome::Claimed, false, "was claimed at"),
            (ClaimOutcome::Unclaimed, true, "was not claimed in time, and removed at"),
            (ClaimOutcome::Removed, true, "was removed or changed by someone else at"),
        ] {
            let decision = Decision { reason: Reason::Claimed, act: Act::Conceal(outcome) };
            let claim = Some(Claim { generation: 1, outcome, at: time(0) });
            let progress = Progress { claim: claim.clone(), ..Progress::none(decision) };
            let settled = world.settle(&progress);
            let said = format!("generation 1 {how} {}; it cannot be shown again: {RENEWAL}", at(0));
            assert_eq!((&settled.status.claim, &fixture::said(&settled.status, PUBLISHED).message), (&claim, &said));
            assert_eq!(
                judged_all(&settled.status, [PUBLISHED, READY]),
                ["Published=True/Claimed", "Ready=True/Active"]
            );
            assert_eq!((&settled.status.secret_name, &settled.status.binding), (&None, &None));
            assert_eq!(notes(&settled), [(warning, Reason::Claimed)]);
            assert_rests(&world.clone().settled(&progress).serving(Held::Absent));
        }
        let decision = Decision { reason: Reason::Claimed, act: Act::Conceal(ClaimOutcome::Claimed) };
        let refused = world.settle(&failed(Progress::none(decision), forbidden()));
        assert_eq!((&refused.status.claim, refused.wakes_at()), (&None, Some(at(2))), "the Secret still exists");
    }

    #[test]
    fn an_old_secret_that_cannot_be_removed_leaves_the_token_ready_and_is_tried_again() {
        let renamed = served().with_spec(&json!({"secret": {"name": "new"}})).issued(2).later(DAY);
        assert_eq!(renamed.decision(), Decision { reason: Reason::SecretLeftOver, act: Act::Discard });
        let settled = renamed.settle(&failed(Progress::none(renamed.decision()), forbidden()));
        assert_eq!(judged_all(&settled.status, [PUBLISHED, READY]), ["Published=True/Active", "Ready=True/Active"]);
        let said = "Secret new holds generation 2; Secret ci is still there: forbidden; trying again";
        assert_eq!(fixture::said(&settled.status, PUBLISHED).message, said);
        assert_eq!(settled.status.other_secret_name.as_deref(), Some("ci"));
        assert!(settled.wakes_at().is_some_and(|wake| wake > renamed.now));
        assert_eq!(notes(&settled), [(true, Reason::PublishFailed)]);
    }

    #[test]
    fn a_secret_that_cannot_be_emptied_is_removed_and_that_is_said() {
        let spec = json!({"revoked": true, "secret": {"onRevoke": "Keep"}});
        let world = served().with_spec(&spec).with_secret(|secret| secret.immutable = Some(true));
        assert_eq!(world.withdrawable().map(|(_, how)| how).collect::<Vec<_>>(), [OnRevoke::Delete]);
        let settled = world.settle(&Progress::none(world.decision()));
        let told = "Secret ci was removed, as it was made immutable and could not be emptied";
        assert_eq!(said(&settled.status, PUBLISHED).message, told);
    }

    #[test]
    fn a_suspended_token_keeps_its_times_and_has_no_next_rotation() {
        let suspended = served().with_spec(&json!({"active": false}));
        let settled = suspended.rested();
        assert_eq!(settled.status.records, served().status().records);
        assert_eq!(
            conditions(&settled.status),
            ["Accepted=True/Accepted", "Published=True/Active", "Ready=True/Suspended", "Valid=False/Suspended"]
        );
        assert_eq!(
            (&settled.status.rotates_at, settled.wakes_at()),
            (&None, Some(at(76 * DAY))),
            "the time from which its expiry is announced"
        );
        assert_eq!(notes(&settled), [(false, Reason::Suspended)]);
        let stands = suspended.clone().settled(&Progress::none(suspended.decision()));
        assert_rests(&stands);
        assert_eq!(stands.with_spec(&json!({"active": true})).rested().status.records, served().status().records);
        let account = served().with_account(|account| account.spec.active = false).rested();
        assert_eq!(
            but(&account.status, [ACCEPTED, PUBLISHED]),
            ["Ready=True/AccountSuspended", "Valid=False/AccountSuspended"]
        );
    }

    #[test]
    fn an_invalid_spec_tells_every_fault_and_leaves_the_records_alone() {
        let spec = json!({"expiry": {"after": "400d"}, "rotation": {"overlap": "9d"}});
        let world = served().with_spec(&spec).with_token(|token| token.metadata.generation = Some(2)).later(HOUR);
        let settled = world.rested();
        let status = &settled.status;
        assert_eq!(status.records, served().status().records);
        assert_eq!(status.observed_generation, Some(2));
        assert_eq!(status.secret_name.as_deref(), Some("ci"));
        assert_eq!(status.organization.as_deref(), Some("eem"), "the known value is kept");
        assert_eq!(
            conditions(status),
            [
                "Accepted=False/LifetimeExceeded",
                "Published=True/Active",
                "Ready=False/LifetimeExceeded",
                "Valid=True/LifetimeExceeded",
                "Stalled=True/LifetimeExceeded"
            ]
        );
        let message = &said(status, ACCEPTED).message;
        assert!(message.contains("spec.expiry.after") && message.contains("spec.rotation.overlap"), "{message}");
        assert_eq!(notes(&settled), [(true, Reason::LifetimeExceeded)]);
        assert_eq!(settled.wakes_at(), Some(at(HOUR + 2)));
        let stands = world.clone().settled(&Progress::none(world.decision()));
        assert_rests(&stands.clone().later(10));
        assert_eq!(stands.later(100).rested().wakes_at(), Some(at(HOUR + 150)));
    }

    #[test]
    fn what_may_be_about_to_be_created_is_waited_for() {
        let world = new().and(|world| world.instance = None);
        assert_eq!(
            but(&world.rested().status, [ACCEPTED, PUBLISHED]),
            ["Ready=False/InstanceMissing", "Reconciling=True/InstanceMissing", "Valid=False/InstanceMissing"]
        );
    }

    #[test]
    fn damage_is_a_warning_and_a_repair_of_the_rest_is_not() {
        let missing = served().serving(Held::Absent);
        let repaired = missing.settle(&Progress { published: Some((2, missing.now)), ..missing.minted(2) });
        assert_eq!(notes(&repaired), [(true, Reason::SecretMissing)]);
        let outdated = served().with_secret(|secret| secret.metadata.labels = None);
        let amended = outdated.rested();
        assert_eq!(notes(&amended), [(false, Reason::SecretOutdated)]);
        assert_eq!(amended.status, served().status());
    }

    #[test]
    fn a_transition_time_is_that_of_the_transition() {
        let of = |status: &ApiTokenStatus, type_: &str| {
            status.conditions.iter().find(|condition| condition.type_ == type_).unwrap().last_transition_time.clone()
        };
        let suspend: Value = json!({"active": false});
        let world = served().later(HOUR).with_spec(&suspend);
        let world = world.clone().settled(&Progress::none(world.decision()));
        assert_eq!(of(&world.status(), VALID), time(HOUR));
        assert_eq!(of(&world.status(), PUBLISHED), time(0));
        let later = world.later(HOUR).rested().status;
        assert_eq!(of(&later, VALID), time(HOUR));
    }

    #[test]
    fn a_fourth_valid_generation_ends_the_oldest_and_two_ended_ones_stay_listed() {
        let mut world = served();
        for draw in 2..8 {
            world = world.serving(Held::Absent).later(1).issued(draw);
            let status = world.status();
            let valid = status.records.iter().filter(|record| record.is_valid(world.now)).count();
            assert!(valid <= crate::token::records::MAX_VALID && status.records.len() <= 5, "{:?}", states(&status));
        }
        assert_eq!(
            states(&world.status()),
            [
                (3, State::Expired),
                (4, State::Expired),
                (5, State::Superseded),
                (6, State::Superseded),
                (7, State::Active)
            ]
        );
    }

    #[test]
    fn a_wake_up_says_what_for() {
        let why = |world: &World| world.rested().why();
        assert_eq!(why(&served()), Some("the next generation"));
        assert_eq!(why(&rotated()), Some("the end of a generation"));
        assert_eq!(why(&served().with_spec(&json!({"active": false}))), Some("a generation that expires soon"));
        assert_eq!(why(&served().with_spec(&json!({"expiry": {"after": "400d"}}))), Some("another look at the faults"));
        let once = started().with_spec(&json!({"secret": {"delivery": "Once"}})).issued(1);
        assert_eq!(why(&once), Some("a value that nobody claimed"));
        let refused = started().settle(&failed(started().minted(1), forbidden()));
        assert_eq!(refused.why(), Some("another try to publish"));
        assert_eq!(why(&served().with_spec(&json!({"revoked": true}))), None);
    }

    #[test]
    fn a_token_that_goes_away_is_not_woken_for() {
        let going = served().with_token(|token| token.metadata.deletion_timestamp = Some(time(0)));
        let settled = going.rested();
        assert_eq!((&*judged(&settled.status, READY), settled.wakes_at()), ("Ready=False/Deleting", None));
        assert_eq!(settled.status.records, served().status().records);
        assert_eq!(going.uid(), UID);
    }
}
