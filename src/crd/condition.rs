//! Conditions as `kubectl wait`, Helm, Flux and Argo CD read them (API conventions, kstatus).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    Reason,
    reason::{Mended, Sense},
};

/// What the spec asks for is reached (kstatus): also that a token is suspended, revoked, or ended at its time.
pub const READY: &str = "Ready";
/// Some request with the served value would be answered 200 by a verifier of the token's own Instance. Its reason is
/// that of [`READY`].
pub const VALID: &str = "Valid";
/// The spec is valid and what it refers to exists.
pub const ACCEPTED: &str = "Accepted";
/// The Secret holds the value that the records name, or has shown it to whom it was for.
pub const PUBLISHED: &str = "Published";
/// The objects of the endpoints are there.
pub const ENDPOINTS_READY: &str = "EndpointsReady";
/// The served generation is about to expire, and nothing will renew it. It is there only while that is so.
pub const EXPIRING_SOON: &str = "ExpiringSoon";
/// The workloads were restarted for the published value; only where any is to be.
pub const RESTARTED: &str = "Restarted";
/// Something is permitted to the token; only where its Instance judges by roles or owners.
pub const PERMITTED: &str = "Permitted";
/// Another field manager has set fields of the token's own account to less than the token says: it is held to that. It
/// is there only while that is so. What was set to more is brought down.
pub const LIMITED_BY_ACCOUNT: &str = "LimitedByAccount";
/// The groups of the owner were stamped too long ago. It is there only while that is so.
pub const OWNER_STALE: &str = "OwnerStale";
/// A member of a policy matches nothing. It is there only while that is so.
pub const DANGLING_MEMBER: &str = "DanglingMember";
/// Nothing stamps who makes a token, and the Instance judges by owners. It is there only while that is so.
pub const STAMPS_MISSING: &str = "StampsMissing";
/// The operator is at work on it (kstatus). It is there only while that is so.
pub const RECONCILING: &str = "Reconciling";
/// Nothing more will happen until a user acts (kstatus). It is there only while that is so.
pub const STALLED: &str = "Stalled";

/// The longest message that the schema of a condition allows.
const MAX_MESSAGE: usize = 32_768;

/// The conditions of one object, written anew from those that stand.
///
/// A `lastTransitionTime` changes with the condition's status and at no other time. Conditions of other writers are
/// kept.
#[derive(Clone, Debug)]
pub struct Conditions {
    before: Vec<Condition>,
    standing: Vec<Condition>,
    now: Timestamp,
    generation: Option<i64>,
}

impl Conditions {
    /// Starts from what stands in status, for an object of `generation`.
    pub fn from(standing: Option<&[Condition]>, generation: Option<i64>, now: Timestamp) -> Self {
        let before = standing.unwrap_or_default().to_vec();
        Self { standing: before.clone(), before, now, generation }
    }

    /// Sets one condition.
    pub fn set(&mut self, type_: &str, status: bool, reason: Reason, message: impl Into<String>) {
        let mut message: String = message.into();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        let mut next = Condition {
            type_: type_.into(),
            status: if status { "True" } else { "False" }.into(),
            reason: reason.to_string(),
            message,
            observed_generation: self.generation,
            last_transition_time: Time(self.now),
        };
        match self.standing.iter_mut().find(|condition| condition.type_ == type_) {
            Some(old) => {
                if old.status == next.status {
                    next.last_transition_time = old.last_transition_time.clone();
                }
                *old = next;
            }
            None => self.standing.push(next),
        }
    }

    /// Removes one condition: what it says has no meaning now.
    pub fn remove(&mut self, type_: &str) {
        self.standing.retain(|condition| condition.type_ != type_);
    }

    /// Sets `Ready`, and with it what kstatus reads: an object that is not ready is either being worked on or, until a
    /// user acts, stalled. `Reconciling` and `Stalled` are abnormal where they are true, and are there at no other
    /// time.
    pub fn conclude(&mut self, conclusion: Conclusion, reason: Reason, message: impl Into<String>) {
        let message = message.into();
        self.set(READY, conclusion == Conclusion::Ready, reason, &*message);
        for (type_, holds) in [(RECONCILING, Conclusion::Working), (STALLED, Conclusion::Stalled)] {
            match conclusion == holds {
                true => self.set(type_, true, reason, &*message),
                false => self.remove(type_),
            }
        }
    }

    /// When to come back to an object that a condition calls failing: after half the time that it has failed for,
    /// within two seconds and five minutes. A function of status alone, so a restart does not reset it.
    pub fn retry(&self, failing: &str) -> Timestamp {
        let since = self.get(failing).map_or(self.now, |condition| condition.last_transition_time.0);
        let half = SignedDuration::from_secs(self.now.duration_since(since).as_secs() / 2);
        crate::token::duration::after(self.now, half.clamp(SignedDuration::from_secs(2), SignedDuration::from_mins(5)))
    }

    /// The text for a condition that fails. While it fails for the same reason and in the same `way`, what was said
    /// first stands: a text that differs at each try would be written each time, and each write brings on the next try.
    pub fn failing(&self, type_: &str, reason: Reason, way: &str, text: String) -> String {
        let stands = self.get(type_).filter(|condition| {
            let same = condition.reason == reason.to_string() && condition.message.contains(way);
            same && condition.status == "False" && condition.observed_generation == self.generation
        });
        stands.map_or(text, |condition| condition.message.clone())
    }

    /// Whether one of them says something else than before.
    pub fn changed(&self, type_: &str) -> bool {
        let said = |conditions: &[Condition]| {
            let condition = conditions.iter().find(|condition| condition.type_ == type_);
            condition.map(|condition| (condition.status.clone(), condition.reason.clone(), condition.message.clone()))
        };
        said(&self.before) != said(&self.standing)
    }

    /// One of them.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        self.standing.iter().find(|condition| condition.type_ == type_)
    }

    /// Hands them back, for status.
    pub fn into_vec(self) -> Vec<Condition> {
        self.standing
    }
}

/// What an object's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// What the spec asks for is reached.
    Ready,
    /// Not yet, and the operator is at it.
    Working,
    /// Not until a user acts.
    Stalled,
}

impl Conclusion {
    /// What a fault comes to. Something that does not exist may be about to be created, as when many objects are
    /// applied together: it is waited for. Anything else needs a user.
    pub fn of(fault: Reason) -> Self {
        match fault.sense() {
            Sense::Fault(Mended::Awaited) => Self::Working,
            Sense::Fault(Mended::Here | Mended::Elsewhere)
            | Sense::Going
            | Sense::State
            | Sense::Damage
            | Sense::Deed => Self::Stalled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn set(standing: Option<&[Condition]>, status: bool, now: i64) -> Conditions {
        let mut conditions = Conditions::from(standing, Some(1), at(now));
        conditions.set(READY, status, Reason::Active, "");
        conditions
    }

    #[test]
    fn a_transition_time_changes_with_the_status_only() {
        let first = set(None, true, 0).into_vec();
        let second = set(Some(&first), true, 5).into_vec();
        assert_eq!(first, second);
        let third = set(Some(&second), false, 9).into_vec();
        assert_eq!(third[0].last_transition_time.0, at(9));
    }

    #[test]
    fn a_failure_that_lasts_is_told_once_however_it_is_worded() {
        let mut conditions = Conditions::from(None, Some(1), at(0));
        conditions.set(READY, false, Reason::PublishFailed, "Secret a: not available: port 1");
        let again = Conditions::from(Some(&conditions.into_vec()), Some(1), at(9));
        let text = |reason, way| again.failing(READY, reason, way, "other".into());
        assert_eq!(text(Reason::PublishFailed, "not available"), "Secret a: not available: port 1");
        assert_eq!(text(Reason::PublishFailed, "forbidden"), "other");
        assert_eq!(text(Reason::AccountFailed, "not available"), "other");
    }

    #[test]
    fn what_is_abnormal_is_there_only_while_it_is_true() {
        let mut conditions = Conditions::from(None, Some(1), at(0));
        let mut said = |conclusion| {
            conditions.conclude(conclusion, Reason::Active, "");
            let all = conditions.clone().into_vec();
            all.into_iter().map(|said| format!("{}={}", said.type_, said.status)).collect::<Vec<_>>()
        };
        assert_eq!(said(Conclusion::Working), ["Ready=False", "Reconciling=True"]);
        assert_eq!(said(Conclusion::Stalled), ["Ready=False", "Stalled=True"]);
        assert_eq!(said(Conclusion::Ready), ["Ready=True"]);
    }

    #[test]
    fn conditions_of_others_are_kept() {
        let mut other = set(None, true, 0).into_vec();
        other[0].type_ = "example.com/Seen".into();
        assert_eq!(set(Some(&other), true, 5).into_vec().len(), 2);
    }

    #[test]
    fn retries_grow_with_the_time_of_failure_within_bounds() {
        let failing = set(None, false, 0).into_vec();
        for (now, wait) in [(0, 2), (3, 2), (10, 5), (100, 50), (10_000, 300)] {
            assert_eq!(set(Some(&failing), false, now).retry(READY), at(now + wait), "after {now} s");
        }
    }
}
