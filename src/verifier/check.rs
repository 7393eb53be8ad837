//! The one function that judges.

use std::fmt;

use http::StatusCode;
use jiff::Timestamp;

use super::index::{AccountEntry, Index, Key, TokenEntry};
use crate::{
    access::{self, Namespace},
    token::{Digest, Record, State, format},
};

/// Why a request is let in or not. Callers see the status only; metrics and the audit tell the causes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The token is valid and permitted.
    Allowed,
    /// No credential.
    Missing,
    /// A header that could hold one is longer than 8 KiB.
    Oversized,
    /// A header that could hold one is not ASCII.
    NotAscii,
    /// A header that can hold one is there twice.
    Repeated,
    /// There is one in more than one place.
    Several,
    /// Not of the form of a token.
    Malformed,
    /// No record has its id.
    Unknown,
    /// A record has its id and another digest.
    Mismatch,
    /// It opens another Instance.
    OtherInstance,
    /// It is being deleted.
    Deleted,
    /// It, or this generation of it, was withdrawn.
    Revoked,
    /// Its account is gone.
    AccountGone,
    /// Its account is not active.
    AccountSuspended,
    /// It is not active.
    Suspended,
    /// Out of time.
    Expired,
    /// There is no such Instance.
    InstanceMissing,
    /// The Instance does not admit tokens of its namespace.
    NamespaceNotAdmitted,
    /// The index has not been filled yet.
    NotSynced,
}

impl Cause {
    /// What the caller is told.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Allowed => StatusCode::OK,
            Self::NamespaceNotAdmitted => StatusCode::FORBIDDEN,
            Self::NotSynced => StatusCode::SERVICE_UNAVAILABLE,
            Self::Missing
            | Self::Oversized
            | Self::NotAscii
            | Self::Repeated
            | Self::Several
            | Self::Malformed
            | Self::Unknown
            | Self::Mismatch
            | Self::OtherInstance
            | Self::Deleted
            | Self::Revoked
            | Self::AccountGone
            | Self::AccountSuspended
            | Self::Suspended
            | Self::Expired
            | Self::InstanceMissing => StatusCode::UNAUTHORIZED,
        }
    }

    /// Whether the index may only not have heard yet of what would let the request in.
    pub fn may_be_news(self) -> bool {
        matches!(self, Self::Unknown | Self::AccountGone | Self::InstanceMissing)
    }

    /// Its name, for a label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::Missing => "Missing",
            Self::Oversized => "Oversized",
            Self::NotAscii => "NotAscii",
            Self::Repeated => "Repeated",
            Self::Several => "Several",
            Self::Malformed => "Malformed",
            Self::Unknown => "Unknown",
            Self::Mismatch => "Mismatch",
            Self::OtherInstance => "OtherInstance",
            Self::Deleted => "Deleted",
            Self::Revoked => "Revoked",
            Self::AccountGone => "AccountGone",
            Self::AccountSuspended => "AccountSuspended",
            Self::Suspended => "Suspended",
            Self::Expired => "Expired",
            Self::InstanceMissing => "InstanceMissing",
            Self::NamespaceNotAdmitted => "NamespaceNotAdmitted",
            Self::NotSynced => "NotSynced",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The token.
    pub token: Key,
    /// The public id of the generation presented.
    pub id: String,
    /// The account that it acts as, as a subject: `account:<namespace>/<name>`.
    pub subject: String,
    /// The organization of the Instance.
    pub organization: String,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why.
    pub cause: Cause,
    /// Whose token it is, once a record was found that has its digest.
    pub identity: Option<Identity>,
}

impl From<Cause> for Verdict {
    fn from(cause: Cause) -> Self {
        Self { cause, identity: None }
    }
}

/// Judges `credential`, presented at `now` to the Instance that `instance` names.
pub fn check(index: &Index, instance: &Key, credential: &str, now: Timestamp) -> Verdict {
    let Ok(id) = format::id(credential) else { return Cause::Malformed.into() };
    let mut candidates = index.by_id(id).peekable();
    if candidates.peek().is_none() {
        return Cause::Unknown.into();
    }
    let digest = Digest::of(credential);
    let held = candidates.find_map(|(key, token)| {
        let record = token.records.iter().find(|record| record.id == id && record.sha256 == digest);
        record.map(|record| Presented { index, instance, key, token, record })
    });
    held.map_or_else(
        || Cause::Mismatch.into(),
        |presented| Verdict { cause: presented.judge(now), identity: Some(presented.identity()) },
    )
}

/// A generation whose value was presented.
struct Presented<'a> {
    index: &'a Index,
    instance: &'a Key,
    key: &'a Key,
    token: &'a TokenEntry,
    record: &'a Record,
}

impl Presented<'_> {
    /// The first cause that holds.
    fn judge(&self, now: Timestamp) -> Cause {
        let Self { token, record, .. } = self;
        let account = self.account();
        let labels = self.index.labels(&self.key.namespace);
        let home = Namespace { name: &self.key.namespace, labels };
        match self.index.instance(self.instance) {
            _ if token.instance != *self.instance => Cause::OtherInstance,
            _ if token.deleting => Cause::Deleted,
            _ if token.revoked || record.state == State::Revoked => Cause::Revoked,
            _ if account.is_none() => Cause::AccountGone,
            _ if account.is_some_and(|account| !account.active) => Cause::AccountSuspended,
            _ if !token.active => Cause::Suspended,
            _ if !record.is_valid(now) => Cause::Expired,
            None => Cause::InstanceMissing,
            Some(instance) if !access::admits(instance, home) => Cause::NamespaceNotAdmitted,
            Some(_) => Cause::Allowed,
        }
    }

    /// The account that the token was bound to: by uid, so that a later one of the same name is another, and living.
    fn account(&self) -> Option<&AccountEntry> {
        let bound = self.token.account.as_ref()?;
        let key = Key { namespace: self.key.namespace.clone(), name: bound.name.clone() };
        self.index.account(&key).filter(|account| account.uid == bound.uid && !account.deleting)
    }

    fn identity(&self) -> Identity {
        let account = self.token.account.as_ref().map_or("", |account| &account.name);
        let organization = self.index.instance(self.instance).map_or("", |instance| instance.organization());
        Identity {
            token: self.key.clone(),
            id: self.record.id.clone(),
            subject: format!("account:{}/{account}", self.key.namespace),
            organization: organization.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{Account, ApiToken, Instance};
    use serde_json::{Value, json};

    const NOW: &str = "2026-06-01T00:00:00Z";

    fn value() -> String {
        format::assemble("tkn", &"i".repeat(16), &"s".repeat(43)).expose().to_owned()
    }

    fn eem() -> Key {
        Key { namespace: "a".into(), name: "eem".into() }
    }

    fn object(kind: &str, name: &str, rest: Value) -> Value {
        let mut object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": {"namespace": "a", "name": name, "uid": name}});
        merge(&mut object, rest);
        object
    }

    fn merge(base: &mut Value, over: Value) {
        match (base, over) {
            (Value::Object(base), Value::Object(over)) => {
                over.into_iter().for_each(|(key, value)| merge(base.entry(key).or_insert(Value::Null), value));
            }
            (base, over) => *base = over,
        }
    }

    fn token(change: Value) -> ApiToken {
        let mut token = object(
            "ApiToken",
            "x",
            json!({
                "spec": {"instanceRef": {"name": "eem"}},
                "status": {"account": {"name": "x", "uid": "x"}, "records": [{
                    "generation": 1, "id": "i".repeat(16), "sha256": Digest::of(value()), "state": "Active",
                    "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2027-01-01T00:00:00Z",
                }]},
            }),
        );
        merge(&mut token, change);
        serde_json::from_value(token).unwrap()
    }

    fn record(change: Value) -> Value {
        let mut record = serde_json::to_value(&token(json!({})).status.unwrap().records[0]).unwrap();
        merge(&mut record, change);
        json!({"status": {"records": [record]}})
    }

    fn world() -> Index {
        let mut index = Index::default();
        index.apply::<ApiToken>(token(json!({})));
        index.apply::<Account>(
            serde_json::from_value(object("ServiceAccount", "x", json!({"spec": {"instanceRef": {"name": "eem"}}})))
                .unwrap(),
        );
        index.apply::<Instance>(
            serde_json::from_value(object("Instance", "eem", json!({"spec": {"organization": "acme"}}))).unwrap(),
        );
        index
    }

    fn cause(index: &Index, credential: &str) -> Cause {
        check(index, &eem(), credential, NOW.parse().unwrap()).cause
    }

    fn with_token(change: Value) -> Cause {
        let mut index = world();
        index.apply(token(change));
        cause(&index, &value())
    }

    #[test]
    fn a_valid_token_is_let_in_under_its_account() {
        let verdict = check(&world(), &eem(), &value(), NOW.parse().unwrap());
        assert_eq!(verdict.cause, Cause::Allowed);
        let identity = verdict.identity.unwrap();
        assert_eq!((identity.subject.as_str(), identity.organization.as_str()), ("account:a/x", "acme"));
    }

    #[test]
    fn what_is_not_a_token_of_ours_is_told_apart() {
        let other = format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
        let forged = format::assemble("tkn", &"i".repeat(16), &"t".repeat(43));
        assert_eq!(cause(&world(), ""), Cause::Malformed);
        assert_eq!(cause(&world(), "tkn_x_y"), Cause::Malformed);
        assert_eq!(cause(&world(), other.expose()), Cause::Unknown);
        assert_eq!(cause(&world(), forged.expose()), Cause::Mismatch);
    }

    #[test]
    fn what_was_recorded_or_superseded_is_valid_until_it_expires() {
        for state in ["Recorded", "Active", "Superseded"] {
            assert_eq!(with_token(record(json!({"state": state}))), Cause::Allowed, "{state}");
            assert_eq!(with_token(record(json!({"state": state, "expiresAt": NOW}))), Cause::Expired, "{state}");
        }
        assert_eq!(with_token(record(json!({"state": "Expired"}))), Cause::Expired);
    }

    #[test]
    fn revoked_suspended_and_deleted_are_refused_whether_or_not_an_operator_lives() {
        assert_eq!(with_token(json!({"spec": {"revoked": true}})), Cause::Revoked);
        assert_eq!(with_token(record(json!({"state": "Revoked"}))), Cause::Revoked);
        let ended = json!({"status": {"revocation": {"reason": "AccountDeleted", "at": NOW}}});
        assert_eq!(with_token(ended), Cause::Revoked);
        assert_eq!(with_token(json!({"spec": {"active": false}})), Cause::Suspended);
        assert_eq!(with_token(json!({"metadata": {"deletionTimestamp": NOW}})), Cause::Deleted);
    }

    #[test]
    fn an_account_of_the_same_name_and_another_uid_is_another() {
        assert_eq!(with_token(json!({"status": {"account": {"uid": "earlier"}}})), Cause::AccountGone);
        assert_eq!(with_token(json!({"status": {"account": {"name": "other"}}})), Cause::AccountGone);
        assert_eq!(with_token(json!({"status": {"account": null}})), Cause::AccountGone);
    }

    #[test]
    fn an_account_that_is_suspended_or_deleted_refuses_its_tokens() {
        let with_account = |change: Value| {
            let mut account = object("ServiceAccount", "x", json!({"spec": {"instanceRef": {"name": "eem"}}}));
            merge(&mut account, change);
            let mut index = world();
            index.apply::<Account>(serde_json::from_value(account).unwrap());
            cause(&index, &value())
        };
        assert_eq!(with_account(json!({"spec": {"active": false}})), Cause::AccountSuspended);
        assert_eq!(with_account(json!({"metadata": {"deletionTimestamp": NOW}})), Cause::AccountGone);
    }

    #[test]
    fn a_token_opens_its_own_instance_only_and_only_while_it_admits_its_namespace() {
        let index = world();
        let other = Key { namespace: "a".into(), name: "other".into() };
        assert_eq!(check(&index, &other, &value(), NOW.parse().unwrap()).cause, Cause::OtherInstance);
        let mut gone = world();
        gone.reset::<Instance>(Vec::new());
        assert_eq!(cause(&gone, &value()), Cause::InstanceMissing);
        let mut narrowed = world();
        let policy =
            json!({"spec": {"tokens": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}}});
        narrowed.apply::<Instance>(serde_json::from_value(object("Instance", "eem", policy)).unwrap());
        assert_eq!(cause(&narrowed, &value()), Cause::NamespaceNotAdmitted);
    }

    #[test]
    fn callers_cannot_tell_the_causes_of_a_refusal_apart() {
        for cause in
            [Cause::Unknown, Cause::Malformed, Cause::Expired, Cause::Revoked, Cause::Suspended, Cause::Mismatch]
        {
            assert_eq!(cause.status(), StatusCode::UNAUTHORIZED);
        }
    }
}
