//! Everything a verdict depends on, in memory. Synchronous; knows no API server.
//!
//! ```text
//! object ─▶ Pools::reduce ─▶ entry ─▶ Index: entries by name, tokens by id, policies by Instance
//!           what is repeated is shared
//! ```

mod entries;
mod pool;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::Resource;

pub use entries::{AccountEntry, Acting, Generation, InstanceEntry, Opened, PolicyEntry, TokenEntry};

use crate::{
    access::{Claims, Policy},
    crd::{AccessPolicy, Account, ApiToken, Instance},
    outside::watch::NamespaceMeta,
};
use pool::Pool;

/// Names an object. Clones share the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace; empty where the kind has none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of an object of that name.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of `object`.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

/// What many entries have in common, each there once.
#[derive(Default)]
pub struct Pools {
    texts: Pool<str>,
    claims: Pool<Claims>,
    opened: Pool<[Opened]>,
}

impl Pools {
    /// Reduces an object to what is kept of it.
    pub fn reduce<K: Indexed>(&self, object: K) -> Reduced<K> {
        let meta = object.meta();
        let key = self.key(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        Reduced { key, entry: Box::new(object.entry(self)) }
    }

    fn key(&self, namespace: &str, name: &str) -> Key {
        Key { namespace: self.text(namespace), name: self.text(name) }
    }

    fn text<'a>(&self, text: impl Into<Cow<'a, str>>) -> Arc<str> {
        self.texts.share(&*text.into())
    }
}

/// An object, reduced to what is kept of it.
pub struct Reduced<K: Indexed> {
    key: Key,
    entry: Box<K::Entry>,
}

/// The entries of one kind.
type Entries<K> = HashMap<Key, Box<<K as Indexed>::Entry>>;

/// Everything a verdict depends on.
#[derive(Default)]
pub struct Index {
    pools: Arc<Pools>,
    tokens: Entries<ApiToken>,
    /// The tokens that have a record of an id. Two of one id are possible only where someone wrote a status by hand.
    ids: HashMap<Arc<str>, Vec<Key>>,
    accounts: Entries<Account>,
    instances: Entries<Instance>,
    policies: Entries<AccessPolicy>,
    /// The policies of each Instance. All of them are asked at each request.
    policies_of: HashMap<Key, BTreeMap<Key, Arc<Policy>>>,
    namespaces: Entries<NamespaceMeta>,
}

impl Index {
    /// What its entries have in common: who has it can reduce objects without holding the index.
    pub fn pools(&self) -> Arc<Pools> {
        self.pools.clone()
    }

    /// The tokens that have a record of this id.
    pub fn by_id<'a>(&'a self, id: &str) -> impl Iterator<Item = (&'a Key, &'a TokenEntry)> + use<'a> {
        let keys = self.ids.get(id).into_iter().flatten();
        keys.filter_map(|key| self.token(key).map(|token| (key, token)))
    }

    /// An account.
    pub fn account(&self, key: &Key) -> Option<&AccountEntry> {
        self.accounts.get(key).map(|entry| &**entry)
    }

    /// An Instance.
    pub fn instance(&self, key: &Key) -> Option<&InstanceEntry> {
        self.instances.get(key).map(|entry| &**entry)
    }

    /// The policies of an Instance.
    pub fn policies<'a>(&'a self, instance: &Key) -> impl Iterator<Item = &'a Policy> + use<'a> {
        self.policies_of.get(instance).into_iter().flatten().map(|(_, policy)| &**policy)
    }

    /// Some token.
    pub fn any_token(&self) -> Option<&Key> {
        self.tokens.keys().min()
    }

    /// A token.
    pub fn token(&self, key: &Key) -> Option<&TokenEntry> {
        self.tokens.get(key).map(|entry| &**entry)
    }

    /// The labels of a namespace.
    pub fn labels(&self, namespace: &Arc<str>) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(&Key { namespace: Arc::default(), name: namespace.clone() }).map(|entry| &**entry)
    }
}

/// A kind that is indexed.
pub trait Indexed: Resource<DynamicType = ()> + Sized {
    /// What is kept of an object.
    type Entry: PartialEq;

    /// Whether it does nothing but to permit, so that less is permitted without it.
    const GRANTS: bool = true;

    /// Whether it is remembered when its objects were used.
    const USED: bool = false;

    /// What is kept of an object. What many have is taken from `pools`.
    fn entry(self, pools: &Pools) -> Self::Entry;

    /// Where this kind is kept.
    fn shelf(index: &mut Index) -> &mut Entries<Self>;

    /// Brings the rest of the index up to date after an entry changed from `old` to `new`.
    fn changed(_: &mut Index, _key: &Key, _old: Option<&Self::Entry>, _new: Option<&Self::Entry>) {}
}

impl Index {
    /// Takes in an object as it is now. Says whether anything changed that a verdict could depend on.
    pub fn apply<K: Indexed>(&mut self, object: K) -> bool {
        let reduced = self.pools.reduce(object);
        self.take(reduced)
    }

    /// The same, of an object that was reduced.
    pub fn take<K: Indexed>(&mut self, Reduced { key, entry }: Reduced<K>) -> bool {
        self.put::<K>(key, Some(entry))
    }

    /// Forgets the object of this key. Says whether it was known.
    pub fn forget<K: Indexed>(&mut self, key: Key) -> bool {
        self.put::<K>(key, None)
    }

    /// An object cannot be read any more: what it permitted is permitted no more.
    pub fn doubt<K: Indexed>(&mut self, key: Key) -> bool {
        match K::GRANTS {
            true => self.forget::<K>(key),
            false => false,
        }
    }

    /// Replaces all objects of a kind: what is not among them was deleted unheard. Of those `doubted`, which are there
    /// and cannot be read, what does more than to permit stands as it was known.
    pub fn reset<K: Indexed>(&mut self, objects: Vec<Reduced<K>>, doubted: &BTreeSet<Key>) -> bool {
        let mut standing: BTreeSet<Key> = objects.iter().map(|object| object.key.clone()).collect();
        if !K::GRANTS {
            standing.extend(doubted.iter().cloned());
        }
        let gone: Vec<Key> = K::shelf(self).keys().filter(|key| !standing.contains(key)).cloned().collect();
        let forgot = gone.into_iter().fold(false, |changed, key| self.forget::<K>(key) | changed);
        objects.into_iter().fold(forgot, |changed, object| self.take(object) | changed)
    }

    fn put<K: Indexed>(&mut self, key: Key, new: Option<Box<K::Entry>>) -> bool {
        let old = K::shelf(self).remove(&key);
        let changed = old != new;
        if changed {
            K::changed(self, &key, old.as_deref(), new.as_deref());
        }
        if let Some(new) = new {
            K::shelf(self).insert(key, new);
        }
        changed
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

    fn names<'a>(index: &'a Index, id: &str) -> Vec<&'a str> {
        index.by_id(id).map(|(key, _)| &*key.name).collect()
    }

    fn listed<K: Indexed>(index: &Index, objects: Vec<K>) -> Vec<Reduced<K>> {
        objects.into_iter().map(|object| index.pools.reduce(object)).collect()
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
        assert!(index.reset(listed(&index, vec![token("y", &["two"])]), &BTreeSet::new()));
        assert!(names(&index, "one").is_empty());
        assert_eq!(names(&index, "two"), ["y"]);
        assert!(!index.reset(listed(&index, vec![token("y", &["two"])]), &BTreeSet::new()));
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

    #[test]
    fn what_tokens_have_in_common_is_there_once() {
        let mut index = Index::default();
        ["x", "y"].into_iter().for_each(|name| _ = index.apply(token(name, &[name])));
        let [x, y] = ["x", "y"].map(|name| index.tokens.get_key_value(&Key::new("a", name)).unwrap());
        assert!(Arc::ptr_eq(&x.0.namespace, &y.0.namespace));
        assert!(Arc::ptr_eq(&x.1.claims, &y.1.claims) && Arc::ptr_eq(&x.1.instances, &y.1.instances));
    }
}
