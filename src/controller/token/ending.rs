//! How a token ends, and what is said of it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{act::Act, progress::Progress, terms::TokenTerms, world::World};
use crate::{
    controller::{instance, kind::Checked},
    crd::api_token::{Revocation, RevocationReason},
    token::{Record, Records, Schedule, duration::after},
};

/// Its end, where it was asked for or was said before.
pub fn revoked(world: &World) -> Option<Act> {
    let ended = world.token.status.as_ref().and_then(|status| status.revocation.as_ref());
    let stated = world.token.spec.revocation_reason.map_or(RevocationReason::Manual, RevocationReason::from);
    let asked = world.token.spec.revoked.then_some(stated);
    ended.map(|ended| ended.reason).or(asked).map(Act::End)
}

/// It ends as a whole once its time is over. One that nothing renews can still be asked for a new value.
pub fn expired(world: &World, terms: &Checked<TokenTerms>) -> Option<Act> {
    let records = world.records();
    if records.valid().next().is_some() || !records.ever_published() {
        return None;
    }
    if world.token.until().is_some_and(|until| until <= world.now) {
        return Some(Act::End(RevocationReason::Expired));
    }
    let terms = terms.as_ref().ok()?;
    (terms.life.schedule == Schedule::Never && terms.regenerate.is_none()).then_some(Act::Rest)
}

/// When the token, as it ended, is to be deleted.
pub fn forget_at(world: &World, terms: &Checked<TokenTerms>) -> Option<Timestamp> {
    let wait = instance::forget_after(&world.instance.as_ref()?.spec)?;
    let stated = world.token.status.as_ref()?.revocation.as_ref().map(|ended| ended.at.0);
    let expired = || expired(world, terms).filter(|act| *act == Act::Rest).and(world.records().last_end());
    Some(after(stated.or_else(expired)?, wait))
}

/// The end that is said after `progress`: the first one stands.
pub fn revocation(world: &World, progress: &Progress) -> Option<Revocation> {
    let stands = world.token.status.as_ref().and_then(|status| status.revocation.clone());
    stands.or(progress.ends().map(|reason| Revocation {
        reason,
        at: Time(world.now),
        generations: withdrawn(world, reason),
    }))
}

/// The generations that were valid until now; those that ended with the token, where it ran out of time.
fn withdrawn(world: &World, reason: RevocationReason) -> Vec<i64> {
    let until = world.token.until().filter(|_| reason == RevocationReason::Expired);
    let ended = |record: &&Record| record.is_valid(world.now) || (until.is_some() && record.end() == until);
    world.records().as_slice().iter().filter(ended).map(|record| record.generation).collect()
}

/// In words, that the token is out of time.
pub fn over(world: &World, progress: &Progress, records: &Records) -> String {
    let ended = progress.ends().is_some();
    match world.token.until().filter(|_| ended).or(records.last_end()) {
        Some(at) if ended => format!("its time was over at {at}: refused for ever; make another ApiToken"),
        Some(at) => {
            format!("it expired at {at} and nothing renews it; give regenerate.id a new text to ask for another")
        }
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
        assert_eq!(world.records().served().unwrap().end(), Some(at.0), "what exists ends then, too");
        assert_eq!(world.clone().later(80 * DAY - 1).decision().act, Act::Rest, "nothing would last longer");
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
        assert_eq!(world.records().as_slice(), served().records().as_slice());
    }

    #[test]
    fn what_nothing_renews_expires_and_can_be_asked_for_again() {
        let world = served().with_spec(&json!({"rotation": {"schedule": {"never": true}}}));
        assert_eq!(world.clone().later(90 * DAY - 1).decision().act, Act::Rest);
        let over = world.later(90 * DAY);
        assert_eq!(over.decision(), Decision { reason: Reason::Expired, act: Act::Rest });
        let asked = over.with_spec(&json!({"regenerate": {"id": "late"}}));
        assert_eq!(asked.decision(), Decision { reason: Reason::RegenerateAsked, act: Act::Mint });
        assert_eq!(asked.issued(2).decision().act, Act::Rest);
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
