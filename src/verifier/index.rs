//! Everything a verdict depends on, in memory. Synchronous; knows no API server.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::credential::Places;
use crate::{
    access::{self, Policy, Rules},
    crd::{
        AccessPolicy, Account, ApiToken, Fault, Instance, InstanceRef,
        api_token::{AcceptedAudience, ApiTokenSpec, BoundAccount, Use},
        name,
    },
    outside::watch::NamespaceMeta,
    token::{Limit, Record},
};

/// Names an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace; empty where the kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of `object`.
    pub fn of(object: &impl Resource) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

/// A token, reduced to the parts that a verdict depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEntry {
    /// The Instances that it opens: its own, and further ones.
    pub instances: Vec<Opened>,
    /// What it says of whose it is and what it may do. Nothing of its life is in it.
    pub token: ApiToken,
    /// The account that it is bound to.
    pub account: Option<BoundAccount>,
    /// Whether it is to be accepted.
    pub active: bool,
    /// Whether it was ended for ever.
    pub revoked: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// When the groups of its owner were stamped, as far as an operator has recorded it. A later stamp is as old as the one on record,
    /// until it is recorded itself: else one that cannot be would never grow old.
    pub stamped_at: Option<Timestamp>,
    /// Whether an operator has seen that its owner is an account that does not exist.
    pub owner_gone: bool,
    /// When they were used, as far as status says.
    pub used: Vec<Use>,
    /// Its generations.
    pub records: Vec<Record>,
}

/// An Instance that a token opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its name.
    pub key: Key,
    /// The uid of the one that is meant; nothing: whichever bears the name.
    pub uid: Option<String>,
}

/// An account, reduced to the parts that a verdict depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountEntry {
    /// What it says of what it may do.
    pub account: Account,
    /// Its uid.
    pub uid: String,
    /// Whether its tokens are to be accepted.
    pub active: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// An Instance, and its rules ready to be asked; faults where it cannot be gone by.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceEntry {
    /// The Instance.
    pub instance: Instance,
    /// What it says of requests, and of who may make them.
    pub rules: Result<Rules, Vec<Fault>>,
    /// Where it takes credentials.
    pub places: Places,
    /// What no generation of its tokens exceeds.
    pub limit: Limit,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A policy, and the Instance that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEntry {
    /// The Instance.
    pub instance: Key,
    /// The policy, ready to be asked.
    pub policy: Arc<Policy>,
}

/// Everything a verdict depends on.
#[derive(Debug, Default)]
pub struct Index {
    tokens: HashMap<Key, TokenEntry>,
    /// Ids are looked up here. Two tokens with one id are possible only where someone wrote a status by hand.
    ids: HashMap<String, BTreeSet<Key>>,
    accounts: HashMap<Key, AccountEntry>,
    instances: HashMap<Key, InstanceEntry>,
    policies: HashMap<Key, PolicyEntry>,
    /// The policies of each Instance. All of them are asked at each request.
    policies_of: HashMap<Key, BTreeMap<Key, Arc<Policy>>>,
    namespaces: HashMap<Key, BTreeMap<String, String>>,
}

impl Index {
    /// The tokens that have a record of this id.
    pub fn by_id<'a>(&'a self, id: &str) -> impl Iterator<Item = (&'a Key, &'a TokenEntry)> + use<'a> {
        let keys = self.ids.get(id).into_iter().flatten();
        keys.filter_map(|key| self.tokens.get(key).map(|token| (key, token)))
    }

    /// An account.
    pub fn account(&self, key: &Key) -> Option<&AccountEntry> {
        self.accounts.get(key)
    }

    /// An Instance.
    pub fn instance(&self, key: &Key) -> Option<&InstanceEntry> {
        self.instances.get(key)
    }

    /// The policies of an Instance.
    pub fn policies<'a>(&'a self, instance: &Key) -> impl Iterator<Item = &'a Policy> + use<'a> {
        self.policies_of.get(instance).into_iter().flatten().map(|(_, policy)| &**policy)
    }

    /// Some token.
    pub fn any_token(&self) -> Option<&Key> {
        self.tokens.keys().next()
    }

    /// A token.
    pub fn token(&self, key: &Key) -> Option<&TokenEntry> {
        self.tokens.get(key)
    }

    /// The labels of a namespace.
    pub fn labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(&Key { namespace: String::new(), name: namespace.to_owned() })
    }
}

/// A kind that is indexed.
pub trait Indexed: Resource<DynamicType = ()> + Sized {
    /// What is kept of it.
    type Kept: PartialEq;

    /// Whether it does nothing but to permit, so that less is permitted without it.
    const GRANTS: bool = true;

    /// Whether it is remembered when its objects were used.
    const USED: bool = false;

    /// Reduces an object to what is kept.
    fn reduce(self) -> Self::Kept;

    /// Where this kind is kept.
    fn shelf(index: &mut Index) -> &mut HashMap<Key, Self::Kept>;

    /// Brings the rest of the index up to date after an entry changed from `old` to `new`.
    fn changed(_: &mut Index, _key: &Key, _old: Option<&Self::Kept>, _new: Option<&Self::Kept>) {}
}

impl Index {
    /// Takes in an object as it is now. Says whether anything changed that a verdict could depend on.
    pub fn apply<K: Indexed>(&mut self, object: K) -> bool {
        let key = Key::of(&object);
        self.put(key, Some(object.reduce()), K::shelf, K::changed)
    }

    /// Forgets the object of this key. Says whether it was known.
    pub fn forget<K: Indexed>(&mut self, key: Key) -> bool {
        self.put(key, None, K::shelf, K::changed)
    }

    /// An object cannot be read any more: what it permitted is permitted no more.
    pub fn doubt<K: Indexed>(&mut self, key: Key) -> bool {
        match K::GRANTS {
            true => self.forget::<K>(key),
            false => false,
        }
    }

    /// Replaces all objects of a kind: what is not among them was deleted unheard. Of those `doubted`, which are there and cannot
    /// be read, what does more than to permit stands as it was known.
    pub fn reset<K: Indexed>(&mut self, objects: Vec<K>, doubted: &BTreeSet<Key>) -> bool {
        let mut standing: BTreeSet<Key> = objects.iter().map(Key::of).collect();
        if !K::GRANTS {
            standing.extend(doubted.iter().cloned());
        }
        let gone: Vec<Key> = K::shelf(self).keys().filter(|key| !standing.contains(key)).cloned().collect();
        let forgot = gone.into_iter().fold(false, |changed, key| self.put(key, None, K::shelf, K::changed) | changed);
        objects.into_iter().fold(forgot, |changed, object| self.apply(object) | changed)
    }

    fn put<V: PartialEq>(
        &mut self,
        key: Key,
        new: Option<V>,
        shelf: fn(&mut Self) -> &mut HashMap<Key, V>,
        then: fn(&mut Self, &Key, Option<&V>, Option<&V>),
    ) -> bool {
        let old = shelf(self).remove(&key);
        let changed = old != new;
        if changed {
            then(self, &key, old.as_ref(), new.as_ref());
        }
        if let Some(new) = new {
            shelf(self).insert(key, new);
        }
        changed
    }
}

impl Indexed for ApiToken {
    type Kept = TokenEntry;

    const USED: bool = true;

    fn reduce(self) -> TokenEntry {
        let status = self.status.clone().unwrap_or_default();
        let instances = opened(&self);
        let used = status.used();
        let owner_gone = status.owner.as_ref().is_some_and(|seen| seen.gone);
        TokenEntry {
            instances,
            account: status.account,
            active: self.spec.active,
            revoked: self.spec.revoked || status.revocation.is_some(),
            deleting: self.metadata.deletion_timestamp.is_some(),
            stamped_at: status.owner.and_then(|seen| seen.stamped_at).map(|at| at.0),
            owner_gone,
            used,
            records: status.records,
            token: claims(self),
        }
    }

    fn shelf(index: &mut Index) -> &mut HashMap<Key, TokenEntry> {
        &mut index.tokens
    }

    fn changed(index: &mut Index, key: &Key, old: Option<&TokenEntry>, new: Option<&TokenEntry>) {
        for record in old.iter().flat_map(|token| &token.records) {
            unlist(&mut index.ids, &record.id, key);
        }
        for record in new.iter().flat_map(|token| &token.records) {
            index.ids.entry(record.id.clone()).or_default().insert(key.clone());
        }
    }
}

/// The Instances that a token opens: its own, and of the further ones that it names those which the operator has accepted. A
/// status that does not say which is an older operator's, and means all of them.
fn opened(token: &ApiToken) -> Vec<Opened> {
    let namespace = token.namespace().unwrap_or_default();
    let key = |wanted: &InstanceRef| Key {
        namespace: wanted.namespace_or(&namespace).to_owned(),
        name: wanted.name.to_string(),
    };
    let accepted = token.status.as_ref().and_then(|status| status.audiences.as_ref());
    let further = token.spec.audiences.iter().filter_map(|wanted| {
        let key = key(wanted);
        let Some(accepted) = accepted else { return Some(Opened { key, uid: None }) };
        let is_it = |audience: &&AcceptedAudience| audience.name == key.name && audience.namespace == key.namespace;
        let uid = accepted.iter().find(is_it)?.uid.clone();
        Some(Opened { key, uid: Some(uid) })
    });
    [Opened { key: key(&token.spec.instance_ref), uid: None }].into_iter().chain(further).collect()
}

/// Takes a key off the list of `under`, and the list away with its last.
fn unlist<L: Clone + Eq + std::hash::Hash>(lists: &mut HashMap<L, BTreeSet<Key>>, under: &L, key: &Key) {
    if let Entry::Occupied(mut keys) = lists.entry(under.clone()) {
        keys.get_mut().remove(key);
        if keys.get().is_empty() {
            keys.remove();
        }
    }
}

/// A token with nothing but what access asks of it: so that it is seen whether anything of that has changed.
fn claims(token: ApiToken) -> ApiToken {
    let ApiToken { metadata, spec, .. } = token;
    let mut claims = ApiToken::new(
        metadata.name.as_deref().unwrap_or_default(),
        ApiTokenSpec {
            audiences: Vec::new(),
            display_name: None,
            description: None,
            expiry: None,
            rotation: None,
            regenerate: None,
            secret: None,
            restart: Vec::new(),
            ..spec
        },
    );
    claims.metadata.namespace = metadata.namespace;
    claims.metadata.uid = metadata.uid;
    let stamp = metadata.annotations.into_iter().flatten().filter(|(key, _)| key == name::OWNER_GROUPS);
    claims.metadata.annotations = Some(stamp.collect());
    claims
}

impl Indexed for AccessPolicy {
    type Kept = PolicyEntry;

    // It may deny.
    const GRANTS: bool = false;

    fn reduce(self) -> PolicyEntry {
        let namespace = self.namespace().unwrap_or_default();
        let instance = Key { namespace, name: self.spec.instance_ref.name.to_string() };
        PolicyEntry { instance, policy: Arc::new(Policy::of(&self)) }
    }

    fn shelf(index: &mut Index) -> &mut HashMap<Key, PolicyEntry> {
        &mut index.policies
    }

    fn changed(index: &mut Index, key: &Key, old: Option<&PolicyEntry>, new: Option<&PolicyEntry>) {
        if let Some(old) = old {
            let policies = index.policies_of.entry(old.instance.clone()).or_default();
            policies.remove(key);
            if policies.is_empty() {
                index.policies_of.remove(&old.instance);
            }
        }
        if let Some(new) = new {
            index.policies_of.entry(new.instance.clone()).or_default().insert(key.clone(), new.policy.clone());
        }
    }
}

impl Indexed for Account {
    type Kept = AccountEntry;

    fn reduce(self) -> AccountEntry {
        let Self { metadata, spec, .. } = self;
        let mut account = Self::new(metadata.name.as_deref().unwrap_or_default(), spec);
        account.metadata.namespace = metadata.namespace;
        account.metadata.uid = metadata.uid.clone();
        AccountEntry {
            deleting: metadata.deletion_timestamp.is_some(),
            uid: metadata.uid.unwrap_or_default(),
            active: account.spec.active,
            account,
        }
    }

    fn shelf(index: &mut Index) -> &mut HashMap<Key, AccountEntry> {
        &mut index.accounts
    }
}

impl Indexed for Instance {
    type Kept = InstanceEntry;

    fn reduce(mut self) -> InstanceEntry {
        let deleting = self.metadata.deletion_timestamp.is_some();
        // A verdict depends on the spec, the name, the uid, and whether it is going.
        self.status = None;
        self.metadata = kube::core::ObjectMeta {
            name: self.metadata.name,
            namespace: self.metadata.namespace,
            uid: self.metadata.uid,
            ..Default::default()
        };
        let places = Places::of(self.spec.api.as_ref().map_or(&[], |api| &api.credentials));
        InstanceEntry { rules: Rules::of(&self), places, limit: access::limit(&self.spec), deleting, instance: self }
    }

    fn shelf(index: &mut Index) -> &mut HashMap<Key, InstanceEntry> {
        &mut index.instances
    }
}

impl Indexed for NamespaceMeta {
    type Kept = BTreeMap<String, String>;

    fn reduce(self) -> BTreeMap<String, String> {
        self.metadata.labels.unwrap_or_default()
    }

    fn shelf(index: &mut Index) -> &mut HashMap<Key, BTreeMap<String, String>> {
        &mut index.namespaces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(name: &str, ids: &[&str]) -> ApiToken {
        let record = |id: &&str| {
            json!({
                "generation": 1, "id": id, "sha256": "0".repeat(64), "state": "Active",
                "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2027-01-01T00:00:00Z",
            })
        };
        serde_json::from_value(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"namespace": "a", "name": name},
            "spec": {"instanceRef": {"name": "eem"}}, "status": {"records": ids.iter().map(record).collect::<Vec<_>>()},
        }))
        .unwrap()
    }

    fn names(index: &Index, id: &str) -> Vec<String> {
        index.by_id(id).map(|(key, _)| key.name.clone()).collect()
    }

    #[test]
    fn an_id_is_found_until_its_record_goes() {
        let mut index = Index::default();
        assert!(index.apply(token("x", &["one", "two"])));
        assert_eq!(names(&index, "one"), ["x"]);
        assert!(index.apply(token("x", &["two"])));
        assert!(names(&index, "one").is_empty());
        assert!(index.forget::<ApiToken>(Key::of(&token("x", &[]))));
        assert!(names(&index, "two").is_empty() && index.ids.is_empty());
    }

    #[test]
    fn nothing_changed_is_told() {
        let mut index = Index::default();
        index.apply(token("x", &["one"]));
        assert!(!index.apply(token("x", &["one"])));
        assert!(!index.forget::<ApiToken>(Key::of(&token("y", &[]))));
    }

    #[test]
    fn a_reset_forgets_what_was_deleted_unheard() {
        let mut index = Index::default();
        index.apply(token("x", &["one"]));
        assert!(index.reset(vec![token("y", &["two"])], &BTreeSet::new()));
        assert!(names(&index, "one").is_empty());
        assert_eq!(names(&index, "two"), ["y"]);
        assert!(!index.reset(vec![token("y", &["two"])], &BTreeSet::new()));
    }

    #[test]
    fn a_token_that_cannot_be_read_any_more_is_refused_and_a_policy_stands() {
        let mut index = Index::default();
        index.apply(token("x", &["one"]));
        assert!(index.doubt::<ApiToken>(Key::of(&token("x", &[]))));
        assert!(names(&index, "one").is_empty());
        let policy = json!({"instanceRef": {"name": "eem"}, "statements": [{"effect": "Deny", "actions": ["*"]}]});
        let mut policy = AccessPolicy::new("p", serde_json::from_value(policy).unwrap());
        policy.metadata.namespace = Some("a".into());
        let (key, instance) = (Key::of(&policy), Key { namespace: "a".into(), name: "eem".into() });
        index.apply(policy);
        assert!(!index.doubt::<AccessPolicy>(key.clone()) && index.policies(&instance).count() == 1);
        let doubted = BTreeSet::from([key.clone(), Key::of(&token("x", &[]))]);
        index.apply(token("x", &["one"]));
        assert!(!index.reset::<AccessPolicy>(Vec::new(), &doubted) && index.policies(&instance).count() == 1);
        assert!(index.reset::<ApiToken>(Vec::new(), &doubted), "what permits does not stand");
        assert!(index.forget::<AccessPolicy>(key) && index.policies(&instance).count() == 0);
    }

    #[test]
    fn two_tokens_of_one_id_are_both_found() {
        let mut index = Index::default();
        index.apply(token("y", &["one"]));
        index.apply(token("x", &["one"]));
        assert_eq!(names(&index, "one"), ["x", "y"]);
        index.forget::<ApiToken>(Key::of(&token("x", &[])));
        assert_eq!(names(&index, "one"), ["y"]);
    }
}
