//! Conditions as `kubectl wait`, Helm, Flux and Argo CD read them (API conventions, kstatus).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    Reason,
    reason::{Mended, Sense},
};

/// The state that the spec asks for is reached (kstatus). A token that was suspended, revoked or ended as asked for is
/// ready too.
pub const READY: &str = "Ready";
/// A verifier of the token's own Instance would answer some request with the served value with 200. It has the reason
/// of `Ready`.
pub const VALID: &str = "Valid";
/// The spec is valid, and all objects that it refers to exist.
pub const ACCEPTED: &str = "Accepted";
/// The Secret holds the value that the records name, or has shown it to a user with `delivery: Once`.
pub const PUBLISHED: &str = "Published";
/// The objects of the endpoints exist.
pub const ENDPOINTS_READY: &str = "EndpointsReady";
/// The way in of an external endpoint leads to its Service. It is present only for an external endpoint.
pub const EXPOSED: &str = "Exposed";
/// The edge of an external endpoint asks the verifier about each request. The message says if a probe has proved it. It
/// is present only for an external endpoint.
pub const GUARDED: &str = "Guarded";
/// The published URI, or the Service of an internal endpoint, answers a request without a token with the challenge of
/// the verifier. It is present only if the endpoint is probed.
pub const REACHABLE: &str = "Reachable";
/// The network does not enforce the NetworkPolicy of the Instance. It is present only while it is true.
pub const POLICY_NOT_ENFORCED: &str = "PolicyNotEnforced";
/// The endpoint is external because its type is left out. It is present only while it is true.
pub const EXTERNALLY_EXPOSED: &str = "ExternallyExposed";
/// The served generation is about to expire, and nothing will renew it. It is present only while it is true.
pub const EXPIRING_SOON: &str = "ExpiringSoon";
/// The workloads were restarted for the published value. It is present only if the spec names workloads.
pub const RESTARTED: &str = "Restarted";
/// The token has some permission. It is present only if the Instance checks roles or owners.
pub const PERMITTED: &str = "Permitted";
/// Another field manager has set fields of the token's own account to fewer rights than the token asks for. These
/// fields limit the token. Fields that were set to more rights are reset. It is present only while it is true.
pub const LIMITED_BY_ACCOUNT: &str = "LimitedByAccount";
/// The groups of the owner were stamped too long ago. It is present only while it is true.
pub const OWNER_STALE: &str = "OwnerStale";
/// A member of a policy matches nothing. It is present only while it is true.
pub const DANGLING_MEMBER: &str = "DanglingMember";
/// The API server does not stamp the creators of tokens, but the Instance checks owners. It is present only while it is
/// true.
pub const STAMPS_MISSING: &str = "StampsMissing";
/// A right that follows from the object is not granted. It is present only while it is true.
pub const GRANTS_MISSING: &str = "GrantsMissing";
/// The operator is working on the object (kstatus). It is present only while it is true.
pub const RECONCILING: &str = "Reconciling";
/// The object cannot make progress until a user acts (kstatus). It is present only while it is true.
pub const STALLED: &str = "Stalled";

/// The longest message that the schema of a condition allows.
const MAX_MESSAGE: usize = 32_768;

/// The conditions of one object, updated from the existing ones.
///
/// A `lastTransitionTime` changes only if the condition's status changes. Conditions of other writers are kept.
#[derive(Clone, Debug)]
pub struct Conditions {
    before: Vec<Condition>,
    standing: Vec<Condition>,
    now: Timestamp,
    generation: Option<i64>,
}

impl Conditions {
    /// Starts from the existing conditions in the status, for an object of `generation`.
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

    /// Keeps one condition as it is, and puts `note` before its message: nothing judges it now.
    pub fn keep(&mut self, type_: &str, note: &str) {
        let Some(condition) = self.standing.iter_mut().find(|condition| condition.type_ == type_) else { return };
        condition.observed_generation = self.generation;
        if !condition.message.starts_with(note) {
            condition.message.insert_str(0, note);
            condition.message.truncate(condition.message.floor_char_boundary(MAX_MESSAGE));
        }
    }

    /// Takes the `note` of [`Conditions::keep`] off one condition.
    pub fn release(&mut self, type_: &str, note: &str) {
        let condition = self.standing.iter_mut().find(|condition| condition.type_ == type_);
        if let Some((condition, bare)) =
            condition.and_then(|it| Some(it.message.strip_prefix(note)?.to_owned()).map(|bare| (it, bare)))
        {
            condition.message = bare;
        }
    }

    /// Removes one condition, because it has no meaning now.
    pub fn remove(&mut self, type_: &str) {
        self.standing.retain(|condition| condition.type_ != type_);
    }

    /// Sets `Ready` and the conditions that kstatus reads. An object that is not ready is either in progress, or
    /// stalled until a user acts. `Reconciling` and `Stalled` report an abnormal state, so they are present only while
    /// they are true.
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

    /// The time of the next try for an object with a failing condition. The wait is half the time since the condition
    /// began to fail, but at least two seconds and at most five minutes. It depends only on the status, so a restart
    /// does not reset it.
    pub fn retry(&self, failing: &str) -> Timestamp {
        let since = self.get(failing).map_or(self.now, |condition| condition.last_transition_time.0);
        let half = SignedDuration::from_secs(self.now.duration_since(since).as_secs() / 2);
        crate::token::duration::after(self.now, half.clamp(SignedDuration::from_secs(2), SignedDuration::from_mins(5)))
    }

    /// The text for a failing condition. While it fails for the same reason and in the same `way`, the first text is
    /// kept. Otherwise each try could write another text, and each write would trigger the next try.
    pub fn failing(&self, type_: &str, reason: Reason, way: &str, text: String) -> String {
        let stands = self.get(type_).filter(|condition| {
            let same = condition.reason == reason.to_string() && condition.message.contains(way);
            same && condition.observed_generation == self.generation
        });
        stands.map_or(text, |condition| condition.message.clone())
    }

    /// True if one condition has another status, reason or message than before.
    pub fn changed(&self, type_: &str) -> bool {
        let said = |conditions: &[Condition]| {
            let condition = conditions.iter().find(|condition| condition.type_ == type_);
            condition.map(|condition| (condition.status.clone(), condition.reason.clone(), condition.message.clone()))
        };
        said(&self.before) != said(&self.standing)
    }

    /// The condition of one type.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        self.standing.iter().find(|condition| condition.type_ == type_)
    }

    /// The conditions, for the status.
    pub fn into_vec(self) -> Vec<Condition> {
        self.standing
    }
}

/// The summary of an object's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// The state that the spec asks for is reached.
    Ready,
    /// It is not reached yet, and the operator is working on it.
    Working,
    /// It is not reached until a user acts.
    Stalled,
}

impl Conclusion {
    /// The summary for an object with a fault. A missing object may be created soon, for example if many objects are
    /// applied together, so the operator waits for it. Any other fault needs a user.
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
    fn a_condition_is_kept_with_one_note_and_released_without() {
        let mut conditions = set(None, true, 0);
        conditions.set(READY, true, Reason::Active, "a");
        let mut kept = Conditions::from(Some(&conditions.clone().into_vec()), Some(2), at(9));
        for _ in 0..2 {
            kept.keep(READY, "note: ");
            kept.keep(PUBLISHED, "note: ");
        }
        let condition = kept.get(READY).unwrap();
        assert_eq!((&*condition.message, condition.observed_generation), ("note: a", Some(2)));
        assert_eq!(kept.get(PUBLISHED), None);
        kept.release(READY, "note: ");
        assert_eq!(kept.get(READY).unwrap().message, "a");
        kept.release(READY, "note: ");
        assert_eq!(kept.get(READY).unwrap().message, "a");
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
