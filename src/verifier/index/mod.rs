//! Everything that a verdict depends on, in memory. The module is synchronous and has no API client.
//!
//! ```text
//! object ─▶ Pools::reduce ─▶ Entries: entries by name ─▶ tokens by id, with their accounts
//!           repeated values  old news changes nothing   policies by Instance and member
//!           are shared
//! ```
//!
//! A clone of the index shares everything with it. A change copies the few parts that it touches, so readers of an
//! earlier clone see none of it.

mod entries;
mod ids;
mod policies;
mod pool;
mod table;
mod versions;

use std::{collections::BTreeMap, sync::Arc};

use foldhash::quality::RandomState;
use imbl::{GenericHashMap, shared_ptr::DefaultSharedPtr};
use kube::Resource;
use smol_str::SmolStr;

pub use entries::{AccountEntry, Acting, Generation, InstanceEntry, NamespaceEntry, Opened, Seconds, TokenEntry};
pub use ids::BoundToken;
pub use policies::PolicyEntry;
pub use versions::{Entries, EntryChange, Versioned};

use crate::{
    access::{Claims, Policies},
    crd::{AccessPolicy, Account, ApiToken, Instance},
    outside::watch::{Listed, NamespaceMeta, version},
    token::Id,
};
use ids::Ids;
use pool::Pool;

/// The name of an object. Short texts lie in it, so a look at one reads no further memory. Clones share longer ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace. Empty if the kind has no namespace.
    pub namespace: SmolStr,
    /// Its name.
    pub name: SmolStr,
}

impl Key {
    /// The key of the object with this namespace and name.
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
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
        let (meta, version) = (object.meta(), version(&object));
        // Most accounts have the name of their token.
        let key = self.key(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let entry = object.entry(&key, self);
        Reduced(Arc::new(Versioned { key, version, entry }))
    }

    fn key(&self, namespace: &str, name: &str) -> Key {
        Key { namespace: self.text(namespace), name: self.text(name) }
    }

    fn text(&self, text: &str) -> SmolStr {
        let text = SmolStr::new(text);
        if text.is_heap_allocated() { self.texts.share(Arc::from(text)).into() } else { text }
    }
}

/// Objects that exist and cannot be read, with their versions.
pub type Doubted = BTreeMap<Key, u64>;

/// An object, reduced to its entry.
pub struct Reduced<K: Indexed>(Arc<Versioned<K::Entry>>);

impl<K: Indexed> Reduced<K> {
    /// The name of the object.
    pub fn key(&self) -> &Key {
        &self.0.key
    }
}

/// The objects of a namespace that have ended with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndedObjects {
    /// All: the namespace is being deleted or is gone.
    All,
    /// Those that were made before the namespace, which is another one now.
    Before(Seconds),
}

impl EndedObjects {
    fn has(self, created_at: Seconds) -> bool {
        match self {
            Self::All => true,
            Self::Before(namespace) => created_at.is_before(namespace),
        }
    }
}

/// Everything a verdict depends on.
#[derive(Clone, Default)]
pub struct Index {
    pools: Arc<Pools>,
    tokens: Entries<TokenEntry>,
    ids: Ids,
    accounts: Entries<AccountEntry>,
    instances: Entries<InstanceEntry>,
    policies: Entries<PolicyEntry>,
    /// The policies of each Instance.
    policies_of: GenericHashMap<Key, Policies, RandomState, DefaultSharedPtr>,
    /// The policies of which nothing is known, because they were never readable.
    unread_policies: imbl::OrdSet<Key>,
    namespaces: Entries<NamespaceEntry>,
    /// The namespaces whose objects have ended, all or some. A name stays here while another namespace has it.
    ended: imbl::OrdMap<SmolStr, EndedObjects>,
}

impl Index {
    /// The values that entries share. With them, an object can be reduced without the index.
    pub fn pools(&self) -> Arc<Pools> {
        self.pools.clone()
    }

    /// The tokens that have a record of this id. Several tokens share an id only if somebody wrote a status by hand.
    pub fn by_id(&self, id: Id) -> impl Iterator<Item = &BoundToken> {
        self.ids.like(id)
    }

    /// The ids that records of several tokens have.
    pub(crate) fn ambiguous(&self) -> &imbl::OrdSet<Id> {
        self.ids.ambiguous()
    }

    /// An account.
    pub fn account(&self, namespace: &str, name: &str) -> Option<&AccountEntry> {
        self.accounts.get(namespace, name).map(|held| &held.entry)
    }

    /// The account whose name the token is bound to. It may have another uid.
    pub fn account_of(&self, token: &Versioned<TokenEntry>) -> Option<&AccountEntry> {
        ids::bound(token, &self.accounts).map(|held| &held.entry)
    }

    /// An Instance.
    pub fn instance(&self, key: &Key) -> Option<&InstanceEntry> {
        self.instances.get(&key.namespace, &key.name).map(|held| &held.entry)
    }

    /// The policies of an Instance. `None` if there is none.
    pub fn policies(&self, instance: &Key) -> Option<&Policies> {
        self.policies_of.get(instance)
    }

    /// The policies that exist, and that cannot be read and never could. Each of them may deny anything.
    pub(crate) fn unread_policies(&self) -> &imbl::OrdSet<Key> {
        &self.unread_policies
    }

    /// A policy in this namespace of which nothing is known.
    pub fn unread_policy(&self, namespace: &str) -> Option<&Key> {
        if self.unread_policies.is_empty() {
            return None;
        }
        let first = Key::new(namespace, "");
        self.unread_policies.range(first..).next().filter(|policy| *policy.namespace == *namespace)
    }

    /// An arbitrary token of a namespace, or of any. `None` if there is no token. The order of the entries differs
    /// between processes, so several verifiers name different tokens.
    pub fn any_token(&self, namespace: Option<&str>) -> Option<&Key> {
        let mut keys = self.tokens.iter().map(|held| &held.key);
        keys.find(|key| namespace.is_none_or(|namespace| key.namespace == namespace))
    }

    /// A token.
    pub fn token(&self, key: &Key) -> Option<&Versioned<TokenEntry>> {
        self.tokens.get(&key.namespace, &key.name)
    }

    /// The number of entries of each kind and their digest, with the plural name of the kind.
    pub fn sizes(&self) -> [(String, usize, u32); 5] {
        fn size<K: Indexed>(entries: &Entries<K::Entry>) -> (String, usize, u32) {
            (K::plural(&()).into_owned(), entries.len(), entries.digest())
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
    pub fn labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get("", namespace).map(|held| &held.entry.labels)
    }

    /// True if an object that was made then has ended with its namespace. A namespace of which nothing is known yet has
    /// not ended.
    pub fn has_ended_in(&self, namespace: &str, created_at: Seconds) -> bool {
        !self.ended.is_empty() && self.ended.get(namespace).is_some_and(|ended| ended.has(created_at))
    }

    /// True if a token or an Instance of this namespace is known.
    fn knows_any_in(&self, namespace: &str) -> bool {
        let has_instance = || self.instances.iter().any(|held| held.key.namespace == namespace);
        has_instance() || self.any_token(Some(namespace)).is_some()
    }
}

/// A kind that is indexed.
pub trait Indexed: Resource<DynamicType = ()> + Sized {
    /// The entry that the index keeps of an object.
    type Entry: PartialEq;

    /// True if the uses of objects of the kind are noted.
    const USED: bool = false;

    /// The entry of the object with this key. Values that many entries share come from `pools`.
    fn entry(self, key: &Key, pools: &Pools) -> Self::Entry;

    /// The entry of an object that exists and cannot be read. `last` is the entry before it, if there is one. `None`:
    /// such an object is forgotten. This is right for a kind that only permits, because then nothing permits more
    /// without it.
    fn unread(_last: Option<&Self::Entry>) -> Option<Self::Entry> {
        None
    }

    /// The entries of the kind.
    fn entries(index: &mut Index) -> &mut Entries<Self::Entry>;

    /// Updates the rest of the index after a change of an entry.
    fn changed(_: &mut Index, _: &EntryChange<Self::Entry>) {}

    /// Updates the rest of the index after the changes by a list.
    fn listed(index: &mut Index, changes: &[EntryChange<Self::Entry>]) {
        changes.iter().for_each(|change| Self::changed(index, change));
    }
}

impl Index {
    /// Adds or replaces an object, unless the index knows a newer version of it. Returns true if its entry changed.
    pub fn apply<K: Indexed>(&mut self, object: K) -> bool {
        let reduced = self.pools.reduce(object);
        self.take(reduced)
    }

    /// Like [`Index::apply`], for an object that was reduced before.
    pub fn take<K: Indexed>(&mut self, Reduced(held): Reduced<K>) -> bool {
        let change = K::entries(self).take(held);
        self.follow::<K>(change)
    }

    /// Forgets an object that was deleted at this version, unless the index knows a newer version of it. Later news of
    /// older versions does not bring it back. Returns true if the object was known.
    pub fn forget<K: Indexed>(&mut self, key: Key, version: u64) -> bool {
        let change = K::entries(self).end(key, version);
        self.follow::<K>(change)
    }

    /// Handles an object that cannot be read, from this version on. Its entry is then that of its kind for such an
    /// object ([`Indexed::unread`]). Returns true if anything changed.
    pub fn doubt<K: Indexed>(&mut self, key: Key, version: u64) -> bool {
        match self.unread::<K>(&key, version) {
            Some(unread) => self.take(unread),
            None => self.forget::<K>(key, version),
        }
    }

    /// Replaces all objects of a kind, of whatever versions. Objects that are not in `objects` were deleted without an
    /// event, and are forgotten. Objects in `doubted` exist at these versions, but cannot be read. Returns true if
    /// anything changed.
    pub fn reset<K: Indexed>(&mut self, objects: Vec<Reduced<K>>, doubted: &Doubted) -> bool {
        self.relist(objects, doubted, Listed { version: 0, anew: true })
    }

    /// Like [`Index::reset`], with the facts about the list. A list of the same history that is older than the newest
    /// event replaces only entries of older versions.
    pub fn relist<K: Indexed>(&mut self, objects: Vec<Reduced<K>>, doubted: &Doubted, list: Listed) -> bool {
        let unread: Vec<_> = doubted.iter().filter_map(|(key, version)| self.unread::<K>(key, *version)).collect();
        let objects: Vec<_> = objects.into_iter().chain(unread).map(|Reduced(held)| held).collect();
        let changes = K::entries(self).relist(objects, list);
        K::listed(self, &changes);
        changes.iter().any(EntryChange::is_news)
    }

    /// The entry of an object that exists at this version and cannot be read. `None`: it is to be forgotten.
    fn unread<K: Indexed>(&mut self, key: &Key, version: u64) -> Option<Reduced<K>> {
        let last = K::entries(self).get(&key.namespace, &key.name).map(|held| &held.entry);
        K::unread(last).map(|entry| Reduced(Arc::new(Versioned { key: key.clone(), version, entry })))
    }

    /// Updates the rest of the index after a change. Returns true if a verdict can depend on it.
    fn follow<K: Indexed>(&mut self, change: Option<EntryChange<K::Entry>>) -> bool {
        let Some(change) = change else { return false };
        K::changed(self, &change);
        change.is_news()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    /// An id that begins with this word.
    fn of(word: &str) -> String {
        format!("{word:0<16}")
    }

    fn token(name: &str, ids: &[&str]) -> ApiToken {
        let record = |id: &&str| {
            json!({
                "generation": 1, "id": of(id), "sha256": "0".repeat(64), "state": "Active",
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
        let mut names: Vec<_> = index.by_id(Id::of(&of(id)).unwrap()).map(|held| &*held.token.key.name).collect();
        names.sort_unstable();
        names
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
        assert!(index.forget::<ApiToken>(Key::of(&token("x", &[])), 0));
        assert!(names(&index, "two").is_empty() && index.ids.is_empty());
    }

    #[test]
    fn any_token_is_one_that_is_known() {
        let mut index = Index::default();
        assert_eq!(index.any_token(None), None);
        let keys = ["x", "y", "z"].map(|name| Key::of(&token(name, &[])));
        ["x", "y", "z"].into_iter().for_each(|name| _ = index.apply(token(name, &[])));
        assert_eq!(index.any_token(Some("b")), None);
        let mut named = Vec::new();
        while let Some(key) = index.any_token(Some("a")).or(index.any_token(None)).cloned() {
            assert!(index.forget::<ApiToken>(key.clone(), 0));
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
        assert!(!index.forget::<ApiToken>(Key::of(&token("y", &[])), 0));
    }

    #[test]
    fn a_reset_forgets_what_was_deleted_unheard() {
        let mut index = Index::default();
        index.apply(token("x", &["one"]));
        assert!(index.reset(listed(&index, vec![token("y", &["two"])]), &Doubted::new()));
        assert!(names(&index, "one").is_empty());
        assert_eq!(names(&index, "two"), ["y"]);
        assert!(!index.reset(listed(&index, vec![token("y", &["two"])]), &Doubted::new()));
    }

    #[test]
    fn a_token_that_cannot_be_read_any_more_is_forgotten() {
        let mut index = Index::default();
        index.apply(token("x", &["one"]));
        let key = Key::of(&token("x", &[]));
        assert!(index.doubt::<ApiToken>(key.clone(), 0));
        assert!(names(&index, "one").is_empty());
        index.apply(token("x", &["one"]));
        assert!(index.reset::<ApiToken>(Vec::new(), &Doubted::from([(key, 0)])));
        assert!(names(&index, "one").is_empty());
    }

    /// An object in the namespace `a`, with its name as its uid.
    fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: &serde_json::Value) -> K {
        let metadata = json!({"namespace": "a", "name": name, "uid": name});
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn an_account_that_cannot_be_read_any_more_acts_for_no_token_and_is_still_owned_by_its_owner() {
        let mut index = Index::default();
        let key = Key::new("a", "x");
        index.doubt::<Account>(key.clone(), 0);
        assert_eq!(index.account("a", "x"), None, "nothing is known of it");
        let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:carl"});
        index.apply::<Account>(object("ServiceAccount", "x", &spec));
        assert!(index.doubt::<Account>(key.clone(), 0));
        let unread = index.account("a", "x").unwrap().clone();
        assert_eq!((unread.claims.owner.as_deref(), unread.uid == "x".into()), (Some("user:carl"), false));
        assert!(!index.reset::<Account>(Vec::new(), &Doubted::from([(key, 0)])));
        assert_eq!(index.account("a", "x"), Some(&unread));
        index.reset::<Account>(Vec::new(), &Doubted::new());
        assert_eq!(index.account("a", "x"), None, "it was deleted");
    }

    #[test]
    fn an_instance_that_cannot_be_read_any_more_lets_nobody_in_and_still_limits_its_tokens() {
        let mut index = Index::default();
        let key = Key::new("a", "eem");
        index.apply::<Instance>(object("Instance", "eem", &json!({"tokens": {"lifetime": {"max": "30d"}}})));
        let known = index.instance(&key).unwrap().clone();
        assert!(index.doubt::<Instance>(key.clone(), 0));
        let unread = index.instance(&key).unwrap();
        assert!(unread.rules.is_err() && unread.limit == known.limit && unread.uid == known.uid);
        index.forget::<Instance>(key.clone(), 0);
        index.doubt::<Instance>(key.clone(), 0);
        assert_eq!(index.instance(&key), None, "nothing is known of it");
    }

    #[test]
    fn objects_end_with_their_namespace_and_belong_to_no_later_one_of_its_name() {
        let made = |second: u32| format!("2026-01-01T00:00:{second:02}Z");
        let namespace = |second: u32, rest: serde_json::Value| -> NamespaceMeta {
            let metadata = json!({"name": "a", "creationTimestamp": made(second)});
            let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
            object["metadata"].as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            serde_json::from_value(object).unwrap()
        };
        let [living, going] = [json!({}), json!({"deletionTimestamp": made(9)})];
        let mut index = Index::default();
        let gone = |index: &mut Index| assert!(index.forget::<NamespaceMeta>(Key::new("", "a"), 0));
        let at = |second| Seconds::of(Some(&Time(made(second).parse().unwrap())));
        let have_ended = |index: &Index| [10, 20, 30].map(|second| index.has_ended_in("a", at(second)));
        index.apply(token("x", &["one"]));
        assert_eq!(have_ended(&index), [false; 3], "nothing is known of it yet");
        for (rest, ended) in [(&living, false), (&going, true), (&living, false), (&going, true)] {
            assert!(index.apply(namespace(5, rest.clone())), "it is news");
            assert_eq!(have_ended(&index), [ended; 3]);
        }
        gone(&mut index);
        assert_eq!(have_ended(&index), [true; 3]);
        index.apply(namespace(27, living.clone()));
        assert_eq!(have_ended(&index), [true, true, false], "it is another one");
        index.apply(namespace(27, json!({"labels": {"a": "b"}})));
        assert_eq!(have_ended(&index), [true, true, false]);
        index.apply(namespace(50, living));
        assert_eq!(have_ended(&index), [true; 3], "its end was not heard");
        index.apply(namespace(50, going));
        index.forget::<ApiToken>(Key::of(&token("x", &[])), 0);
        gone(&mut index);
        assert!(index.ended.is_empty() && have_ended(&index) == [false; 3]);
    }

    #[test]
    fn two_tokens_of_one_id_are_both_found_and_their_id_is_ambiguous_as_long() {
        let mut index = Index::default();
        let ambiguous = |index: &Index| index.ambiguous().iter().map(|id| id.to_string()).collect::<Vec<_>>();
        index.apply(token("y", &["one", "one", "two"]));
        assert_eq!((names(&index, "one"), ambiguous(&index)), (vec!["y"], vec![]), "a token is not several");
        index.apply(token("x", &["one"]));
        assert_eq!((names(&index, "one"), ambiguous(&index)), (vec!["x", "y"], vec![of("one")]));
        index.forget::<ApiToken>(Key::of(&token("x", &[])), 0);
        assert_eq!((names(&index, "one"), ambiguous(&index)), (vec!["y"], vec![]));
        index.reset(listed(&index, vec![token("x", &["two"]), token("y", &["two"])]), &Doubted::new());
        assert_eq!((names(&index, "two"), ambiguous(&index)), (vec!["x", "y"], vec![of("two")]));
        index.apply(token("y", &[]));
        assert_eq!((names(&index, "two"), ambiguous(&index)), (vec!["x"], vec![]));
    }

    #[test]
    fn what_tokens_have_in_common_is_there_once() {
        let mut index = Index::default();
        let long = "a".repeat(63);
        for name in ["x", "y"] {
            let mut token = token(name, &[name]);
            token.metadata.namespace = Some(long.clone());
            index.apply(token);
        }
        let [x, y] = ["x", "y"].map(|name| index.token(&Key::new(&*long, name)).unwrap());
        assert!(x.key.namespace.is_heap_allocated() && std::ptr::eq(&*x.key.namespace, &*y.key.namespace));
        assert!(Arc::ptr_eq(&x.entry.claims, &y.entry.claims) && Arc::ptr_eq(&x.entry.instances, &y.entry.instances));
    }
}
