//! The checks for the deletion and the end of a token, with the text for users.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    act::{Act, Never},
    decide::CHAIN,
    outcome::{Outcome, Said},
    owner,
    progress::Progress,
    terms::CheckedTerms,
    world::{Bond, World},
};
use crate::{
    controller::instance,
    crd::{
        Reason,
        api_token::{Revocation, RevocationReason},
        condition::Conclusion,
        instance::{OnAccountDeleted, OnOwnerRemoved},
        name,
        subject::SubjectForm,
        text::is,
    },
    token::{Record, Schedule, duration::after},
};

/// The check `Deleting`: the token is being deleted. The verifier and the garbage collector do the rest.
pub(crate) fn deleting(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    world.token.metadata.deletion_timestamp.is_some().then_some(Act::Rest)
}

/// The content of `Ready` during the deletion.
pub(crate) fn says_deleting(_: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    (Conclusion::Working, Reason::Deleting, "being deleted".into())
}

/// The check `NamespaceTerminating`: the namespace is being deleted, and no new object can be created in it.
pub(crate) fn namespace_terminating(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    world.terminating.then_some(Act::Rest)
}

/// The content of `Ready` during the deletion of the namespace.
pub(crate) fn says_namespace_terminating(_: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    (Conclusion::Working, Reason::NamespaceTerminating, "its namespace is being deleted".into())
}

/// The check `Forgotten`: the token ended longer ago than the Instance's `tokens.forgetAfter`.
pub(crate) fn forgotten(world: &World, terms: &CheckedTerms) -> Option<Act<Never>> {
    forget_at(world, terms).is_some_and(|at| at <= world.now).then_some(Act::Forget)
}

/// The check `AccountDeleted` for a deletion: the token ended with its account, and the Instance has
/// `onAccountDeleted: Delete`.
pub(crate) fn gone_with_account(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    let ended = world.before().revocation.as_ref()?;
    let then = world.instance.as_ref()?.spec.tokens.on_account_deleted;
    (ended.reason == RevocationReason::AccountDeleted && then == OnAccountDeleted::Delete).then_some(Act::Forget)
}

/// The check `Revoked`: the spec has `revoked: true`, or the status has a revocation. Either is final, also with a
/// faulty spec.
pub(crate) fn revoked(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    let stated = world.token.spec.revocation_reason.map_or(RevocationReason::Manual, RevocationReason::from);
    let asked = world.token.spec.revoked.then_some(stated);
    world.before().revocation.as_ref().map(|ended| ended.reason).or(asked).map(Act::End)
}

/// The check `AccountDeleted`: the account that the token was bound to is gone.
pub(crate) fn account_deleted(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    (world.bond == Bond::Lost).then_some(Act::End(RevocationReason::AccountDeleted))
}

/// The check `OwnerRemoved` for an end: the owner is removed, and the Instance has `onOwnerRemoved: Revoke`.
pub(crate) fn owner_removed(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    let ends = world.records.ever_published() && world.owner.removed == Some(OnOwnerRemoved::Revoke);
    ends.then_some(Act::End(RevocationReason::OwnerRemoved))
}

/// The check `Expired`: all values have expired, and nothing renews them. The token ends if `expiry.at` is over.
/// Otherwise `regenerate` can still ask for a new value.
pub(crate) fn expired(world: &World, terms: &CheckedTerms) -> Option<Act<Never>> {
    if !has_run_out(world) {
        return None;
    }
    if is_past_its_end(world) {
        return Some(Act::End(RevocationReason::Expired));
    }
    let terms = terms.as_ref().ok()?;
    (terms.life.schedule == Schedule::Never && terms.regenerate.is_none()).then_some(Act::Rest)
}

/// The content of `Ready` for an ended token. An end that the spec asks for is ready once the Secret is removed or
/// emptied.
pub(crate) fn says_ended(outcome: &Outcome<'_>, act: Act) -> Said<Conclusion> {
    let done = if outcome.progress.failure.is_none() { Conclusion::Ready } else { Conclusion::Working };
    let Act::End(why) = act else { return (done, Reason::Expired, over(outcome)) };
    let (conclusion, message) = match why {
        RevocationReason::Manual | RevocationReason::Compromised => {
            (done, "revoked: refused for ever; make another ApiToken".into())
        }
        RevocationReason::AccountDeleted => {
            let name = outcome.world.token.account_name().0;
            (Conclusion::Stalled, format!("account {name} is gone: refused for ever; make another ApiToken"))
        }
        RevocationReason::OwnerRemoved => {
            // The owner may have another state by now, and the list of former owners may be tidied.
            let noted = revocation(outcome.world, outcome.progress).and_then(|ended| ended.message);
            let why = noted.unwrap_or_else(|| "its owner was gone or held too little".into());
            (Conclusion::Stalled, format!("{why}: refused for ever; make another ApiToken"))
        }
        RevocationReason::Expired => (done, over(outcome)),
    };
    (conclusion, why.into(), message)
}

/// True if the token is being deleted or ends, as far as it is known before the terms are checked.
pub(crate) fn is_over(world: &World) -> bool {
    let unknown = Err(Vec::new());
    CHAIN.iter().any(|check| check.fate.is_over() && check.act(world, &unknown).is_some())
}

/// True if the token was published and has no valid generation any more.
pub(crate) fn has_run_out(world: &World) -> bool {
    world.records.ever_published() && world.records.valid().next().is_none()
}

/// True if `expiry.at` is over.
fn is_past_its_end(world: &World) -> bool {
    world.token.until().is_some_and(|until| until <= world.now)
}

/// The time at which an ended token is to be deleted; none if it has not ended, or if the Instance keeps such tokens.
pub(crate) fn forget_at(world: &World, terms: &CheckedTerms) -> Option<Timestamp> {
    let wait = instance::forget_after(&world.instance.as_ref()?.spec)?;
    let stated = world.token.status.as_ref()?.revocation.as_ref().map(|ended| ended.at.0);
    let expired = || expired(world, terms).filter(|act| *act == Act::Rest).and(world.records.last_end());
    Some(after(stated.or_else(expired)?, wait))
}

/// The revocation after `progress`. An earlier one is kept.
pub(crate) fn revocation(world: &World, progress: &Progress) -> Option<Revocation> {
    let now = |reason| {
        let by = revoker(world, reason).map(str::to_owned);
        let message = (reason == RevocationReason::OwnerRemoved).then(|| owner::why_ended(world));
        Revocation { reason, at: Time(world.now), by, message, generations: withdrawn(world, reason) }
    };
    world.before().revocation.clone().or_else(|| progress.ends().map(now))
}

/// The requester that revoked the token, by the stamp. None for an end that nobody asked for. None also for a text that
/// is no subject, because a token of an older release may have any text there.
pub(crate) fn revoker(world: &World, reason: RevocationReason) -> Option<&str> {
    match reason {
        RevocationReason::Manual | RevocationReason::Compromised => {
            let by = world.token.metadata.annotations.as_ref()?.get(name::REVOKED_BY)?;
            Some(&**by).filter(|by| is::<SubjectForm>(by))
        }
        RevocationReason::Expired | RevocationReason::AccountDeleted | RevocationReason::OwnerRemoved => None,
    }
}

/// The generations that were valid until now. For a token that expired, also those that ended at `expiry.at`.
fn withdrawn(world: &World, reason: RevocationReason) -> Vec<i64> {
    let until = world.token.until().filter(|_| reason == RevocationReason::Expired);
    let ended = |record: &&Record| record.is_valid(world.now) || (until.is_some() && record.end() == until);
    world.records.as_slice().iter().filter(ended).map(|record| record.generation).collect()
}

/// The message that the token or its value has expired.
pub(crate) fn over(outcome: &Outcome<'_>) -> String {
    let ended = outcome.progress.ends().is_some();
    match outcome.world.token.until().filter(|_| ended).or(outcome.records.last_end()) {
        Some(at) if ended => format!("its time was over at {at}: refused for ever; make another ApiToken"),
        Some(at) => format!("it expired at {at} and nothing renews it; {}", outcome.renewal()),
        None => "its time is over".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        act::Decision,
        fixture::{self, DAY, HOUR, served},
    };
    use super::*;
    use crate::crd::Reason;
    use serde_json::json;

    #[test]
    fn a_token_ends_when_its_time_is_over_and_for_ever() {
        let at = fixture::time(80 * DAY);
        let world = served().with_spec(&json!({"expiry": {"at": at}}));
        assert_eq!(world.records.served().unwrap().end(), Some(at.0), "an existing generation ends then, too");
        assert_eq!(world.clone().later(80 * DAY - 1).decision().act, Act::Rest, "a successor would not last longer");
        let end = Decision { reason: Reason::Expired, act: Act::End(RevocationReason::Expired) };
        let over = world.settled(&Progress::none(Decision { reason: Reason::Active, act: Act::Rest })).later(80 * DAY);
        assert_eq!(over.decision(), end);
        let ended = over.clone().settled(&Progress::none(end));
        assert_eq!(ended.status().revocation.unwrap().generations, [1]);
        let later = ended.settled(&Progress::none(end)).with_spec(&json!({"expiry": {"at": fixture::time(900 * DAY)}}));
        assert_eq!(later.decision(), end);
    }

    #[test]
    fn a_time_that_is_moved_into_the_past_ends_nothing() {
        let world = served().later(DAY).with_spec(&json!({"expiry": {"at": fixture::time(HOUR)}}));
        assert_eq!(world.decision(), Decision { reason: Reason::Invalid, act: Act::Rest });
        assert_eq!(world.records.as_slice(), served().records.as_slice());
    }

    #[test]
    fn what_nothing_renews_expires_and_can_be_asked_for_again() {
        let world = served().with_spec(&json!({"rotation": {"schedule": {"never": true}}}));
        assert_eq!(world.clone().later(90 * DAY - 1).decision().act, Act::Rest);
        let over = world.later(90 * DAY);
        assert_eq!(over.decision(), Decision { reason: Reason::Expired, act: Act::Rest });
        let asked = over.with_spec(&json!({"regenerate": {"id": "late"}}));
        assert_eq!(asked.decision(), Decision { reason: Reason::RegenerateAsked, act: Act::Mint(()) });
        assert_eq!(asked.issued(2).decision().act, Act::Rest);
    }

    #[test]
    fn a_revocation_names_its_requester_and_another_end_names_nobody() {
        let stamped = |by: &str| {
            let marks = [(name::REVOKED_BY.into(), by.into())].into();
            served().with_token(|token| token.metadata.annotations = Some(marks))
        };
        let by = |world: World| world.rested().status.revocation.unwrap().by;
        let revoked = json!({"revoked": true});
        assert_eq!(by(stamped("user:alice").with_spec(&revoked)).as_deref(), Some("user:alice"));
        let leaked = json!({"revoked": true, "revocationReason": "Compromised"});
        let ended = stamped("serviceaccount:ci/bot").with_spec(&leaked);
        let note = &ended.rested().notes[0].text;
        assert!(note.starts_with("revoked by serviceaccount:ci/bot: all generations are refused"), "{note}");
        let later = ended.clone().settled(&Progress::none(ended.decision()));
        let later = later.with_token(|token| token.metadata.annotations = None);
        assert_eq!(by(later).as_deref(), Some("serviceaccount:ci/bot"), "it is kept");
        assert_eq!(by(stamped("alice").with_spec(&revoked)), None, "this is no subject");
        assert_eq!(by(served().with_spec(&revoked)), None, "nothing stamps");
        assert_eq!(by(stamped("user:alice").and(|world| world.account = None)), None);
    }

    #[test]
    fn an_ended_token_is_forgotten_only_where_the_instance_says_when() {
        let gone = |world: World| {
            let ended = world.clone().settled(&Progress::none(world.decision()));
            let forgets = ended.clone().with_instance(json!({"tokens": {"forgetAfter": "30d"}}));
            assert_ne!(ended.later(9_000 * DAY).decision().act, Act::Forget);
            let early = forgets.clone().later(30 * DAY - 1).decision().act;
            (early == Act::Forget, forgets.later(30 * DAY).decision().act == Act::Forget)
        };
        assert_eq!(gone(served().with_spec(&json!({"revoked": true}))), (false, true));
        assert_eq!(gone(served().and(|world| world.account = None)), (false, true));
        let never = served().with_spec(&json!({"rotation": {"schedule": {"never": true}}}));
        assert_eq!(gone(never.later(90 * DAY)), (false, true));
        assert_eq!(gone(served().with_spec(&json!({"active": false}))), (false, false));
        assert_eq!(gone(served()), (false, false));
    }
}
