//! The function that judges a request. It first authenticates, then authorizes.

use jiff::Timestamp;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::{
    Cause,
    index::{AccountEntry, BoundToken, Generation, Index, InstanceEntry, Key, Opened, TokenEntry, Versioned},
    unguarded,
};
use crate::{
    access::{self, Bearer, Ground, Party, Policies, Request, Rules, Ruling, Step, Trail, Uid},
    crd::instance::OnOwnerRemoved,
    token::{Digest, Id, State, format},
};

/// The token and the account behind a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The token.
    pub token: Key,
    /// The number of the presented generation.
    pub generation: i64,
    /// The public id of the presented generation.
    pub id: Id,
    /// The uid of the token.
    pub uid: Uid,
    /// The time of the presented generation's mint.
    pub minted_at: Timestamp,
    /// The expiry of the presented generation, also by the limits of the token's Instances. `None`: it never expires.
    pub ends_at: Option<Timestamp>,
    /// The account that it acts as, as a subject: `account:<namespace>/<name>`.
    pub subject: String,
    /// The owner of the token, or else of its account, as a subject. `None` if there is none.
    pub owner: Option<SmolStr>,
    /// The effective role. `None` if there is none. Without a request also `None` if the role depends on the request.
    pub role: Option<SmolStr>,
    /// The organization of the Instance. Empty if the Instance is not known.
    pub organization: SmolStr,
    /// The last use of the presented generation that the status of the token lists. `None`: it lists none.
    pub last_used: Option<Timestamp>,
}

/// The verdict on a credential and a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The cause of the verdict.
    pub cause: Cause,
    /// The token and its account. `None` if no record has the digest of the credential.
    pub identity: Option<Identity>,
    /// The message of the exclusion that refused the request, for the caller.
    pub message: Option<String>,
}

impl From<Cause> for Verdict {
    fn from(cause: Cause) -> Self {
        Self { cause, identity: None, message: None }
    }
}

/// Judges a `request` to an Instance. The request carries `credential` and is made at the time `now`.
///
/// Without a request, the verdict says which token the credential belongs to, and if some request would be permitted.
pub fn check(
    index: &Index,
    instance: &Key,
    credential: &str,
    request: Option<&Request<'_>>,
    now: Timestamp,
) -> Verdict {
    check_by((index, index.instance(instance)), instance, credential, request, now)
}

/// An index, and its entry of an Instance. `None`: it has none.
pub(super) type Indexing<'a> = (&'a Index, Option<&'a InstanceEntry>);

/// Like [`check`], with the entry of the Instance in the index.
pub(super) fn check_by(
    indexing: Indexing<'_>,
    instance: &Key,
    credential: &str,
    request: Option<&Request<'_>>,
    now: Timestamp,
) -> Verdict {
    let Some(id) = format::id(credential).ok().and_then(Id::of) else { return Cause::Malformed.into() };
    let mut candidates = indexing.0.by_id(id);
    let BoundToken { token, account } = match (candidates.next(), candidates.next()) {
        (None, _) => return Cause::Unknown.into(),
        (Some(bound), None) => bound,
        // Each of them may be the copy, so none of them is let in, not even by the right digest.
        (Some(_), Some(_)) => return Cause::Ambiguous.into(),
    };
    let account = acting(&token.entry, account.as_ref().map(|held| &held.entry));
    let alike = token.entry.generations.iter().filter(|known| known.id == id);
    let presented = |generation| Presented::new(indexing, instance, (token, account), generation);
    // Before the digest: the memory of all that a verdict reads is then fetched at once.
    let presented: SmallVec<[_; 1]> = alike.map(presented).collect();
    let digest = Digest::of(credential);
    let own = presented.iter().find(|one| one.generation.sha256 == digest);
    own.map_or_else(|| Cause::Mismatch.into(), |own| own.judge(request, now, &mut ()))
}

/// Explains the verdict of [`check`] on `request`, for the generation of `token` with the public id `value`. Without
/// an id, for the one that the Secret holds. If none is `Active`, the newest one that is not `Recorded` is explained.
/// The steps are all checks on the way to the verdict.
///
/// `None` if the index does not have the token, or if it has no such generation.
pub fn explain(
    index: &Index,
    instance: &Key,
    (token, value): (&Key, Option<Id>),
    request: &Request<'_>,
    now: Timestamp,
) -> Option<(Verdict, Vec<Step>)> {
    let token = index.token(token)?;
    let generations = token.entry.generations.iter();
    let generation = match value {
        Some(id) => { generations }.find(|known| known.id == id)?,
        // A generation that was never published may be newer than the served one: it expires in its place.
        None => generations
            .filter(|known| known.state != State::Recorded)
            .max_by_key(|known| (known.state == State::Active, known.number))?,
    };
    let mut trail: Vec<_> = unguarded::step(index, instance, request).into_iter().collect();
    let indexing = (index, index.instance(instance));
    let account = acting(&token.entry, index.account_of(token));
    let presented = Presented::new(indexing, instance, (token, account), generation);
    let verdict = presented.judge(Some(request), now, &mut trail);
    Some((verdict, trail))
}

/// The account that the token is bound to by uid, unless it is being deleted. `named` is the one that has its name now.
/// A later account of the same name is a different account.
fn acting<'a>(token: &TokenEntry, named: Option<&'a AccountEntry>) -> Option<&'a AccountEntry> {
    let is_bound = |account: &&AccountEntry| token.account.as_ref().is_some_and(|bound| bound.uid == account.uid);
    named.filter(is_bound).filter(|account| !account.deleting)
}

/// A presented generation, and the Instance that it was presented to.
struct Presented<'a> {
    index: &'a Index,
    instance: &'a Key,
    /// `None` if the Instance does not exist.
    entry: Option<&'a InstanceEntry>,
    key: &'a Key,
    token: &'a TokenEntry,
    /// The account that it acts as. `None` if the account is gone or is being deleted.
    account: Option<&'a AccountEntry>,
    generation: &'a Generation,
    /// The expiry of the generation, also by the limits of the token's Instances. `None`: it never expires. So an
    /// operator that is away, or cannot write the record, extends nothing.
    end: Option<Timestamp>,
}

/// A presented generation that is valid for its Instance. Only the permission for the request is not judged yet.
struct Authentic<'a> {
    presented: &'a Presented<'a>,
    rules: &'a Rules,
    bearer: Bearer<'a>,
}

impl<'a> Presented<'a> {
    /// A generation of a token, and the account that the token acts as.
    fn new(
        (index, entry): Indexing<'a>,
        instance: &'a Key,
        (held, account): (&'a Versioned<TokenEntry>, Option<&'a AccountEntry>),
        generation: &'a Generation,
    ) -> Self {
        let Versioned { key, entry: token, .. } = held;
        let of = |key: &Key| if key == instance { entry } else { index.instance(key) };
        let known = token.instances.iter().filter_map(|opened| of(&opened.key));
        let limit = known.map(|entry| entry.limit).reduce(|one, other| one.and(other));
        let life = generation.life();
        let end = limit.map_or(life.end, |limit| life.end_within(&limit));
        Self { index, instance, entry, key, token, account, generation, end }
    }

    fn judge(&self, request: Option<&Request<'_>>, now: Timestamp, trail: &mut impl Trail) -> Verdict {
        let ruling = self.authenticate(now, trail).map(|authentic| authentic.authorize(request, trail));
        let (cause, role, message) = match ruling {
            Ok(ruling) if ruling.ground.allows() => (Cause::Allowed, ruling.role, None),
            Ok(ruling) => (Cause::Refused(ruling.ground), ruling.role, ruling.message),
            Err(cause) => (cause, None, None),
        };
        Verdict { cause, identity: Some(self.identity(role)), message }
    }

    /// Checks everything that does not depend on the request.
    fn authenticate(&'a self, now: Timestamp, trail: &mut impl Trail) -> Result<Authentic<'a>, Cause> {
        let valid = self.valid(now);
        trail.add(|| {
            let found = valid.as_ref().map_or_else(|cause| cause.as_str(), |_| "valid");
            self.step(valid.is_ok(), format!("generation {}: {found}", self.generation.number))
        });
        let (instance, account) = valid?;
        let rules = instance.rules.as_ref().map_err(|_| Cause::InstanceInvalid)?;
        if let Some(Key { name, .. }) = self.index.unread_policy(&self.instance.namespace) {
            trail.add(|| self.step(false, format!("AccessPolicy {name} cannot be read, and may deny anything")));
            return Err(Cause::PolicyUnread);
        }
        let bearer = self.bearer(rules, account, now);
        let keeps = rules.on_owner_removed == OnOwnerRemoved::Keep;
        let gone = self.token.owner_gone && !keeps;
        let gone = gone.then(|| "its owner is an account that does not exist".to_owned());
        // A former owner holds no role. Under `ceiling: Members` its token is refused, also with `Keep`.
        let holds = || rules.standing(&bearer).held().is_some();
        let left =
            || rules.former_owner(&bearer).map(|former| format!("its Instance lists {former} in spec.formerOwners"));
        if let Some(found) = gone.or_else(|| left().filter(|_| !keeps || holds())) {
            trail.add(|| self.step(false, found));
            return Err(Cause::Refused(Ground::OwnerRemoved));
        }
        Ok(Authentic { presented: self, rules, bearer })
    }

    /// Returns the Instance and the account of a valid generation. Otherwise returns the first cause that holds. This
    /// order is the specification.
    fn valid(&self, now: Timestamp) -> Result<(&'a InstanceEntry, &'a AccountEntry), Cause> {
        let Self { token, generation, .. } = self;
        if !self.opens() {
            return Err(Cause::OtherInstance);
        }
        if token.deleting || self.index.has_ended_in(&self.key.namespace, token.created_at) {
            return Err(Cause::Deleted);
        }
        if token.revoked || generation.state == State::Revoked {
            return Err(Cause::Revoked);
        }
        let account = self.account.ok_or(Cause::AccountGone)?;
        if !account.active {
            return Err(Cause::AccountSuspended);
        }
        if !token.active {
            return Err(Cause::Suspended);
        }
        if !generation.life().is_valid(now) || self.end.is_some_and(|end| end <= now) {
            return Err(Cause::Expired);
        }
        let instance = self.entry.ok_or(Cause::InstanceMissing)?;
        self.lets_in(instance)?;
        Ok((instance, account))
    }

    /// Checks that the Instance lets callers in, and that it admits tokens of this namespace.
    fn lets_in(&self, instance: &InstanceEntry) -> Result<(), Cause> {
        if instance.deleting || self.index.has_ended_in(&self.instance.namespace, instance.created_at) {
            return Err(Cause::InstanceDeleting);
        }
        let home = &*self.key.namespace;
        if !instance.homes.has(home, || self.index.labels(home)) {
            return Err(Cause::NamespaceNotAdmitted);
        }
        if instance.disabled { Err(Cause::EndpointDisabled) } else { Ok(()) }
    }

    /// True if the token opens the Instance. A further Instance must have the uid that the operator accepted.
    fn opens(&self) -> bool {
        let uid = self.entry.and_then(|entry| entry.uid.as_deref());
        let is_it =
            |opened: &Opened| opened.key == *self.instance && (opened.uid.is_none() || opened.uid.as_deref() == uid);
        self.token.instances.iter().any(is_it)
    }

    /// True if the Instance is the one that the token's `instanceRef` names.
    fn is_home(&self) -> bool {
        self.token.instances.first().is_some_and(|own| own.key == *self.instance)
    }

    fn identity(&self, role: Option<SmolStr>) -> Identity {
        let of_account = || self.account.and_then(|account| account.claims.owner.as_ref());
        Identity {
            owner: self.token.claims.owner.as_ref().or_else(of_account).map(SmolStr::new),
            token: self.key.clone(),
            generation: self.generation.number,
            id: self.generation.id,
            uid: self.token.uid.clone(),
            minted_at: self.generation.life().created_at,
            ends_at: self.end,
            subject: ["account:", &self.key.namespace, "/", self.account_name()].concat(),
            role,
            organization: self.entry.map(|entry| entry.organization.clone()).unwrap_or_default(),
            last_used: self.generation.last_used(),
        }
    }

    /// The token, joined with the account that it acts as.
    fn bearer(&self, rules: &Rules, account: &'a AccountEntry, now: Timestamp) -> Bearer<'a> {
        let Self { key, token, .. } = self;
        let (namespace, name) = (&*key.namespace, &*key.name);
        let said = Party { namespace, name, uid: &token.uid, claims: &token.claims };
        let (name, uid) = (self.account_name(), &account.uid);
        let bearer = Bearer::joined(said, Party { namespace, name, uid, claims: &account.claims });
        let index = self.index;
        let owner_of = |namespace: &str, name: &str| index.account(namespace, name)?.claims.owner.as_deref();
        let mut bearer = bearer.followed(|namespace, name| owner_of(namespace, name).map(Into::into));
        bearer.at_home = self.is_home();
        // A stamp is not trusted until an operator has recorded its time.
        let until = rules.groups_hold_until(token.stamped_at().unwrap_or(Timestamp::MIN));
        bearer.fresh = until.is_none_or(|until| now < until);
        bearer
    }

    fn account_name(&self) -> &'a str {
        self.token.account.as_ref().map_or("", |account| &account.name)
    }

    fn step(&self, passed: bool, text: String) -> Step {
        Step { passed, text, object: format!("ApiToken {}/{}", self.key.namespace, self.key.name) }
    }
}

impl Authentic<'_> {
    /// Returns the ruling of the `access` module on the request, or on the token alone.
    fn authorize(&self, request: Option<&Request<'_>>, trail: &mut impl Trail) -> Ruling {
        let Presented { index, instance, .. } = self.presented;
        let none = Policies::default();
        let policies = index.policies(instance).unwrap_or(&none);
        match request {
            Some(request) => access::judge(self.rules, policies, &self.bearer, request, trail),
            None => access::judge_unasked(self.rules, policies, &self.bearer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Path,
        crd::{AccessPolicy, Account, ApiToken, Instance},
        verifier::Category,
    };
    use serde_json::{Value, json};

    const NOW: &str = "2026-06-01T00:00:00Z";

    fn value() -> String {
        format::assemble("tkn", &"i".repeat(16), &"s".repeat(43)).expose().to_owned()
    }

    fn eem() -> Key {
        Key { namespace: "a".into(), name: "eem".into() }
    }

    fn object(kind: &str, name: &str, rest: Value) -> Value {
        let metadata = json!({"namespace": "a", "name": name, "uid": name});
        let mut object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata});
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

    fn verdict(index: &Index, instance: &Key, credential: &str) -> Verdict {
        let headers = http::HeaderMap::new();
        let request = Request { method: "GET", path: Path::parse("/topics").ok(), query: "", headers: &headers };
        check(index, instance, credential, Some(&request), NOW.parse().unwrap())
    }

    fn cause(index: &Index, credential: &str) -> Cause {
        verdict(index, &eem(), credential).cause
    }

    fn with_token(change: Value) -> Cause {
        let mut index = world();
        index.apply(token(change));
        cause(&index, &value())
    }

    #[test]
    fn a_valid_token_is_let_in_under_its_account() {
        let verdict = verdict(&world(), &eem(), &value());
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
        let mut index = world();
        let metadata = json!({"name": "a", "deletionTimestamp": NOW});
        let going = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        index.apply::<crate::outside::watch::NamespaceMeta>(serde_json::from_value(going).unwrap());
        assert_eq!(cause(&index, &value()), Cause::Deleted, "its namespace is being deleted");
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
        assert_eq!(verdict(&index, &other, &value()).cause, Cause::OtherInstance);
        let mut gone = world();
        gone.forget::<Instance>(eem(), 0);
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
            assert_eq!(cause.category(), Category::NotAuthenticated);
        }
    }

    fn with_instance(spec: Value) -> Index {
        let mut index = world();
        index.apply::<Instance>(serde_json::from_value(object("Instance", "eem", json!({"spec": spec}))).unwrap());
        index
    }

    #[test]
    fn what_a_valid_token_may_not_do_is_forbidden_and_named() {
        let roles = with_instance(json!({"api": {"authorization": "Roles"}}));
        let refused = Cause::Refused(Ground::NoPermissions);
        assert_eq!(cause(&roles, &value()), refused);
        assert_eq!((refused.category(), refused.as_str()), (Category::NotPermitted, "NoPermissions"));
        let excluded = with_instance(json!({"api": {"excluded": [{"paths": ["/topics"], "message": "sign in"}]}}));
        let verdict = verdict(&excluded, &eem(), &value());
        assert_eq!(verdict.cause, Cause::Refused(Ground::Excluded));
        assert_eq!(verdict.message.as_deref(), Some("sign in"));
    }

    #[test]
    fn a_policy_that_comes_and_goes_takes_effect_at_once() {
        let mut index = with_instance(json!({"api": {"authorization": "Roles"}}));
        let policy = json!({
            "spec": {"instanceRef": {"name": "eem"}, "members": ["account:a/x"], "statements": [
                {"effect": "Allow", "actions": ["api:read"]},
            ]},
            "status": {"members": [{"member": "account:a/x", "uid": "x"}]},
        });
        let policy: AccessPolicy = serde_json::from_value(object("AccessPolicy", "p", policy)).unwrap();
        let unsaid = AccessPolicy { status: None, ..policy.clone() };
        assert!(index.apply(unsaid));
        assert_eq!(cause(&index, &value()), Cause::Refused(Ground::NoPermissions), "no member is bound to a uid yet");
        assert!(index.apply(policy.clone()));
        assert_eq!(cause(&index, &value()), Cause::Allowed);
        assert!(!index.apply(policy.clone()));
        assert!(index.forget::<AccessPolicy>(Key::of(&policy), 0));
        assert_eq!(cause(&index, &value()), Cause::Refused(Ground::NoPermissions));
    }

    #[test]
    fn an_instance_with_faults_lets_nobody_in() {
        let index = with_instance(json!({"members": [{"subject": "alice", "role": "admin"}]}));
        assert_eq!(cause(&index, &value()), Cause::InstanceInvalid);
    }

    #[test]
    fn a_disabled_endpoint_lets_nobody_in() {
        let endpoint = |type_: &str| {
            let endpoints = json!([{"name": "admin", "type": type_}]);
            json!({"manager": {"service": {"name": "eem"}, "endpoints": endpoints}})
        };
        assert_eq!(cause(&with_instance(endpoint("disabled")), &value()), Cause::EndpointDisabled);
        assert_eq!(cause(&with_instance(endpoint("internal")), &value()), Cause::Allowed);
    }

    #[test]
    fn a_further_instance_judges_by_its_own_rules() {
        let mut index = world();
        let strict = json!({"spec": {"api": {"authorization": "Roles"}}});
        index.apply::<Instance>(serde_json::from_value(object("Instance", "strict", strict)).unwrap());
        let strict = Key { namespace: "a".into(), name: "strict".into() };
        assert_eq!(verdict(&index, &strict, &value()).cause, Cause::OtherInstance);
        index.apply(token(json!({"spec": {"audiences": [{"name": "strict"}]}})));
        assert_eq!(verdict(&index, &strict, &value()).cause, Cause::Refused(Ground::NoPermissions));
        assert_eq!(cause(&index, &value()), Cause::Allowed);
    }

    #[test]
    fn a_further_instance_is_opened_only_where_the_operator_has_accepted_it_and_it_is_the_same() {
        let strict = Key { namespace: "a".into(), name: "strict".into() };
        let named = |audiences: Value| {
            let mut index = world();
            index.apply::<Instance>(serde_json::from_value(object("Instance", "strict", json!({"spec": {}}))).unwrap());
            index
                .apply(token(json!({"spec": {"audiences": [{"name": "strict"}]}, "status": {"audiences": audiences}})));
            verdict(&index, &strict, &value()).cause
        };
        let accepted = |uid: &str| json!([{"name": "strict", "namespace": "a", "uid": uid}]);
        assert_eq!(named(accepted("strict")), Cause::Allowed);
        assert_eq!(named(accepted("earlier")), Cause::OtherInstance);
        assert_eq!(named(json!([])), Cause::OtherInstance, "none is accepted");
        assert_eq!(
            named(Value::Null),
            Cause::Allowed,
            "an operator of an earlier release does not write status.audiences"
        );
        let mut index = world();
        index.apply::<Instance>(serde_json::from_value(object("Instance", "strict", json!({"spec": {}}))).unwrap());
        index.apply(token(json!({"status": {"audiences": accepted("strict")}})));
        assert_eq!(
            verdict(&index, &strict, &value()).cause,
            Cause::OtherInstance,
            "the spec no longer names the Instance"
        );
    }

    #[test]
    fn no_record_outlives_what_any_instance_of_the_token_allows_whatever_stands_in_it() {
        let lifetime = |lifetime: Value| json!({"tokens": {"lifetime": lifetime}});
        let with = |own: Value, further: Value, record: Value| {
            let mut index = with_instance(own);
            let strict = object("Instance", "strict", json!({ "spec": further }));
            index.apply::<Instance>(serde_json::from_value(strict).unwrap());
            let mut change = record;
            merge(&mut change, json!({"spec": {"audiences": [{"name": "strict"}]}}));
            index.apply(token(change));
            cause(&index, &value())
        };
        let (none, expires) = (json!({}), record(json!({})));
        // The record is 151 days old.
        assert_eq!(with(none.clone(), none.clone(), expires.clone()), Cause::Allowed);
        assert_eq!(with(lifetime(json!({"max": "151d"})), none.clone(), expires.clone()), Cause::Expired);
        assert_eq!(with(lifetime(json!({"max": "152d"})), none.clone(), expires.clone()), Cause::Allowed);
        assert_eq!(
            with(none.clone(), lifetime(json!({"max": "30d"})), expires.clone()),
            Cause::Expired,
            "the limit of an audience holds too"
        );
        assert_eq!(
            with(lifetime(json!({"max": "soon"})), none.clone(), expires),
            Cause::Allowed,
            "a maximum that cannot be parsed sets no limit"
        );
        let endless = record(json!({"expiresAt": null}));
        let allows = lifetime(json!({"max": "30d", "never": "Allow"}));
        assert_eq!(with(allows.clone(), allows.clone(), endless.clone()), Cause::Allowed);
        assert_eq!(with(allows, lifetime(json!({"max": "30d"})), endless), Cause::Expired);
    }

    #[test]
    fn an_instance_that_is_being_deleted_lets_nobody_in() {
        let mut index = world();
        let going = object("Instance", "eem", json!({"metadata": {"deletionTimestamp": NOW}, "spec": {}}));
        assert!(index.apply::<Instance>(serde_json::from_value(going).unwrap()));
        let cause = cause(&index, &value());
        assert_eq!((cause, cause.category()), (Cause::InstanceDeleting, Category::NotPermitted));
    }

    #[test]
    fn a_token_of_an_account_that_does_not_exist_is_refused_unless_its_instance_keeps_it() {
        let gone = |then: &str| {
            let mut index = with_instance(json!({"tokens": {"onOwnerRemoved": then}}));
            index.apply(token(json!({"status": {"owner": {"subject": "serviceaccount:a/b", "gone": true}}})));
            cause(&index, &value())
        };
        let refused = Cause::Refused(Ground::OwnerRemoved);
        assert_eq!([gone("Suspend"), gone("Revoke"), gone("Keep")], [refused, refused, Cause::Allowed]);
    }

    fn account(name: &str, owner: &str) -> Account {
        let spec = json!({"spec": {"instanceRef": {"name": "eem"}, "owner": owner}});
        serde_json::from_value(object("ServiceAccount", name, spec)).unwrap()
    }

    #[test]
    fn a_former_owner_is_refused_at_once_also_behind_an_account() {
        let causes = |then: &str| {
            let former = json!({"formerOwners": ["user:carl"], "tokens": {"onOwnerRemoved": then}});
            let mut index = with_instance(former);
            index.apply(account("bot", "user:carl"));
            let mut of = |spec: Value, owner: &str| {
                index.apply(account("x", owner));
                index.apply(token(json!({ "spec": spec })));
                let asked = check(&index, &eem(), &value(), None, NOW.parse().unwrap());
                assert_eq!(asked.cause, cause(&index, &value()), "also without a request");
                asked.cause
            };
            [
                of(json!({"owner": "user:carl"}), "user:carl"),
                of(json!({"owner": "user:alice", "serviceAccountRef": {"name": "x"}}), "user:carl"),
                of(json!({"owner": "account:a/bot"}), "user:alice"),
                of(json!({"owner": "user:alice"}), "user:carl"),
                of(json!({"owner": "user:alice"}), "user:alice"),
            ]
        };
        let refused = Cause::Refused(Ground::OwnerRemoved);
        for then in ["Revoke", "Suspend"] {
            assert_eq!(causes(then), [refused, refused, refused, Cause::Allowed, Cause::Allowed], "{then}");
        }
        assert_eq!(causes("Keep"), [Cause::Allowed; 5]);
        let held = json!({"formerOwners": ["user:carl"], "tokens": {"onOwnerRemoved": "Keep"}, "ceiling": "Members"});
        let mut index = with_instance(held);
        index.apply(token(json!({"spec": {"owner": "user:carl"}})));
        let asked = check(&index, &eem(), &value(), None, NOW.parse().unwrap());
        assert_eq!(asked.cause, refused, "without a role, also where tokens are kept and no request is judged");
    }

    #[test]
    fn a_further_instance_gives_no_default_role() {
        let lends = json!({"api": {"authorization": "Roles"}, "tokens": {"defaultRole": "viewer"}});
        let mut index = with_instance(lends.clone());
        let strict = object("Instance", "strict", json!({ "spec": lends }));
        index.apply::<Instance>(serde_json::from_value(strict).unwrap());
        index.apply(token(json!({"spec": {"audiences": [{"name": "strict"}]}})));
        let strict = Key { namespace: "a".into(), name: "strict".into() };
        let own = verdict(&index, &eem(), &value());
        assert_eq!((own.cause, own.identity.unwrap().role.as_deref()), (Cause::Allowed, Some("viewer")));
        assert_eq!(verdict(&index, &strict, &value()).cause, Cause::Refused(Ground::NoPermissions));
    }

    #[test]
    fn groups_that_were_stamped_too_long_ago_do_not_count() {
        let mut index = with_instance(json!({
            "ceiling": "Members", "members": [{"subject": "group:ops", "role": "viewer"}],
            "tokens": {"groupsMaxAge": "30d"},
        }));
        let mut seen = |owner: Value| {
            index.apply(token(json!({
                "metadata": {"annotations": {"tokenry.dev/owner-groups": "7\nops"}},
                "spec": {"owner": "user:alice"},
                "status": {"owner": owner},
            })));
            cause(&index, &value())
        };
        let mut stamped = |at: &str| seen(json!({"subject": "user:alice", "stamp": "7", "stampedAt": at}));
        assert_eq!(stamped("2026-05-31T00:00:00Z"), Cause::Allowed);
        assert_eq!(stamped("2026-05-02T00:00:00Z"), Cause::Refused(Ground::OwnerStale));
        // A stamp that no operator has recorded counts as old as the recorded one. Without any recorded time, a stamp
        // counts as too old.
        let unseen = |at: &str| json!({"subject": "user:alice", "stamp": "6", "stampedAt": at});
        assert_eq!(seen(unseen("2026-05-31T00:00:00Z")), Cause::Allowed);
        assert_eq!(seen(unseen("2026-05-02T00:00:00Z")), Cause::Refused(Ground::OwnerStale));
        assert_eq!(seen(json!({"subject": "user:alice"})), Cause::Refused(Ground::OwnerStale));
    }

    #[test]
    fn whose_a_value_is_can_be_asked_without_a_request() {
        let mut index = with_instance(json!({"api": {"excluded": [{"paths": ["/**"]}]}}));
        let asked = |index: &Index| check(index, &eem(), &value(), None, NOW.parse().unwrap());
        let verdict = asked(&index);
        assert_eq!(verdict.cause, Cause::Allowed, "there is no request to authorize");
        let identity = verdict.identity.unwrap();
        assert_eq!((&*identity.subject, identity.generation, identity.role), ("account:a/x", 1, None));
        let times = [Some(identity.minted_at), identity.ends_at].map(|at| at.unwrap().to_string());
        assert_eq!(
            (&*identity.uid.to_string(), times),
            ("x", ["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"].map(str::to_owned))
        );
        index.apply(token(json!({"spec": {"revoked": true}})));
        assert_eq!(asked(&index).cause, Cause::Revoked);
        let faulty = with_instance(json!({"members": [{"subject": "alice", "role": "admin"}]}));
        assert_eq!(asked(&faulty).cause, Cause::InstanceInvalid, "an Instance with faults lets nobody in");
        let shorter = with_instance(json!({"tokens": {"lifetime": {"max": "200d"}}}));
        let end = asked(&shorter).identity.unwrap().ends_at.unwrap();
        assert_eq!(end.to_string(), "2026-07-20T00:00:00Z", "an Instance may end it earlier than its record");
        let by_roles = with_instance(json!({"api": {"authorization": "Roles"}}));
        assert_eq!(asked(&by_roles).cause, Cause::Refused(Ground::NoPermissions), "no request would be permitted");
        let by_default = with_instance(json!({"api": {"authorization": "Roles"}, "tokens": {"defaultRole": "viewer"}}));
        assert_eq!(asked(&by_default).identity.unwrap().role.as_deref(), Some("viewer"));
    }

    #[test]
    fn an_explanation_is_the_verdict_and_all_that_led_to_it() {
        let index = with_instance(json!({"api": {"authorization": "Roles"}}));
        let headers = http::HeaderMap::new();
        let request = Request { method: "GET", path: Path::parse("/topics").ok(), query: "", headers: &headers };
        let token = Key { namespace: "a".into(), name: "x".into() };
        let (verdict, trail) = explain(&index, &eem(), (&token, None), &request, NOW.parse().unwrap()).unwrap();
        assert_eq!(verdict.cause, cause(&index, &value()));
        assert_eq!(
            (trail[0].passed, &*trail[0].text, &*trail[0].object),
            (true, "generation 1: valid", "ApiToken a/x")
        );
        assert!(!trail.last().unwrap().passed);
        let nobody = Key { namespace: "a".into(), name: "y".into() };
        assert_eq!(explain(&index, &eem(), (&nobody, None), &request, NOW.parse().unwrap()), None);
    }

    #[test]
    fn an_explanation_is_of_the_served_generation_also_after_a_later_publish_was_refused() {
        let served = token(json!({})).status.unwrap().records.remove(0);
        let refused = crate::token::records::Record {
            generation: 2,
            id: "j".repeat(16),
            state: State::Expired,
            ..served.clone()
        };
        let mut index = with_instance(json!({}));
        index.apply(token(json!({"status": {"records": [served, refused]}})));
        let headers = http::HeaderMap::new();
        let request = Request { method: "GET", path: Path::parse("/topics").ok(), query: "", headers: &headers };
        let token = Key { namespace: "a".into(), name: "x".into() };
        let of = |value| explain(&index, &eem(), (&token, value), &request, NOW.parse().unwrap());
        assert_eq!(of(None).unwrap().0.cause, Cause::Allowed);
        let presented = |word: &str| of(Id::of(&word.repeat(16))).map(|(verdict, _)| verdict.cause);
        assert_eq!(["i", "j", "k"].map(presented), [Some(Cause::Allowed), Some(Cause::Expired), None]);
    }
}
