//! Everything that a verdict depends on, in memory. The module is synchronous and has no API client.
//!
//! ```text
//! object ─▶ Pools::reduce ─▶ entry ─▶ Index: entries by name, tokens by id, policies by Instance
//!           repeated values
//!           are shared
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

/// The name of an object. Clones share the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace. Empty if the kind has no namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of the object with this namespace and name.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of `object`.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

/// The values that many entries share. Each value is in memory once.
#[derive(Default)]
pub struct Pools {
    texts: Pool<str>,
    claims: Pool<Claims>,
    opened: Pool<[Opened]>,
}

impl Pools {
    /// Reduces an object to its entry.
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

/// An object, reduced to its entry.
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
    /// The tokens that have a record of an id. Two tokens share an id only if somebody wrote a status by hand.
    ids: HashMap<Arc<str>, Vec<Key>>,
    accounts: Entries<Account>,
    instances: Entries<Instance>,
    policies: Entries<AccessPolicy>,
    /// The policies of each Instance. Every request is judged by all of them.
    policies_of: HashMap<Key, BTreeMap<Key, Arc<Policy>>>,
    namespaces: Entries<NamespaceMeta>,
}

impl Index {
    /// The values that entries share. With them, an object can be reduced without locking the index.
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

    /// An arbitrary token. `None` if there is no token. The order of the entries differs between processes, so several
    /// verifiers name different tokens.
    pub fn any_token(&self) -> Option<&Key> {
        self.tokens.keys().next()
    }

    /// A token.
    pub fn token(&self, key: &Key) -> Option<&TokenEntry> {
        self.tokens.get(key).map(|entry| &**entry)
    }

    /// The number of entries of each kind, with the plural name of the kind.
    pub fn sizes(&self) -> [(String, usize); 5] {
        fn size<K: Indexed>(entries: &Entries<K>) -> (String, usize)
        where
            K: Resource<DynamicType = ()>,
        {
            (K::plural(&()).into_owned(), entries.len())
        }
        let Self { tokens, accounts, instances, policies, namespaces, .. } = self;
        [
            size::<ApiToken>(tokens),
            size::<Account>(accounts),
            size::<Instance>(instances),
            size::<AccessPolicy>(policies),
            size::<NamespaceMeta>(namespaces),
        ]
    }

    /// The labels of a namespace.
    pub fn labels(&self, namespace: &Arc<str>) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(&Key { namespace: Arc::default(), name: namespace.clone() }).map(|entry| &**entry)
    }
}

/// A kind that is indexed.
pub trait Indexed: Resource<DynamicType = ()> + Sized {
    /// The entry that the index keeps of an object.
    type Entry: PartialEq;

    /// True if objects of the kind can only permit. Forgetting such an object never permits more.
    const GRANTS: bool = true;

    /// True if the uses of objects of the kind are noted.
    const USED: bool = false;

    /// The entry of the object. Values that many entries share come from `pools`.
    fn entry(self, pools: &Pools) -> Self::Entry;

    /// The entries of the kind.
    fn shelf(index: &mut Index) -> &mut Entries<Self>;

    /// Updates the rest of the index after an entry has changed from `old` to `new`.
    fn changed(_: &mut Index, _key: &Key, _old: Option<&Self::Entry>, _new: Option<&Self::Entry>) {}
}

impl Index {
    /// Adds or replaces an object. Returns true if its entry changed.
    pub fn apply<K: Indexed>(&mut self, object: K) -> bool {
        let reduced = self.pools.reduce(object);
        self.take(reduced)
    }

    /// Adds or replaces an object that was reduced before. Returns true if its entry changed.
    pub fn take<K: Indexed>(&mut self, Reduced { key, entry }: Reduced<K>) -> bool {
        self.put::<K>(key, Some(entry))
    }

    /// Forgets the object with this key. Returns true if the object was known.
    pub fn forget<K: Indexed>(&mut self, key: Key) -> bool {
        self.put::<K>(key, None)
    }

    /// Handles an object that cannot be read any more. An object that can only permit is forgotten. A policy keeps its
    /// last known entry, because it may deny. Returns true if anything changed.
    pub fn doubt<K: Indexed>(&mut self, key: Key) -> bool {
        match K::GRANTS {
            true => self.forget::<K>(key),
            false => false,
        }
    }

    /// Replaces all objects of a kind. Objects that are not in `objects` were deleted without an event, and are
    /// forgotten. Objects in `doubted` exist but cannot be read. If their kind can deny, they keep their last known
    /// entry. Returns true if anything changed.
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
    fn any_token_is_one_that_is_known() {
        let mut index = Index::default();
        assert_eq!(index.any_token(), None);
        let keys = ["x", "y", "z"].map(|name| Key::of(&token(name, &[])));
        ["x", "y", "z"].into_iter().for_each(|name| _ = index.apply(token(name, &[])));
        let mut named = Vec::new();
        while let Some(key) = index.any_token().cloned() {
            assert!(index.forget::<ApiToken>(key.clone()));
            named.push(key);
        }
        named.sort();
        assert_eq!(named, keys);
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
        assert!(index.reset::<ApiToken>(Vec::new(), &doubted), "an object that can only permit is forgotten");
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
