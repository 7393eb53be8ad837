//! The objects of one kind, looked up by name and by keys.

use std::{
    collections::{BTreeSet, VecDeque},
    hash::{BuildHasher, Hash, RandomState},
    mem,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    vec,
};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use serde::Serialize;
use slab::Slab;

use super::{
    location::Location,
    stored::{Pack, Packed, Stored},
    watch::Object,
};

/// Number of objects that stay whole in a store that packs: the ones put last. They are likely to be read or changed
/// again soon.
const FRESH: usize = 32;

/// Adds the keys by which an object is looked up, besides its name, and its gist.
pub type KeysOf<K> = fn(&K, &mut Keys<'_>);

/// Collects the keys of an object.
pub struct Keys<'a> {
    hasher: &'a RandomState,
    hashes: Vec<u64>,
    gist: Gist,
}

impl Keys<'_> {
    /// Adds a key by which the object is looked up.
    pub fn add(&mut self, key: &impl Hash) {
        self.hashes.push(self.hasher.hash_one(key));
    }

    /// Sets the gist of the object. The default is an empty gist.
    pub fn gist(&mut self, gist: Gist) {
        self.gist = gist;
    }
}

/// The little of an object that counts and metrics need. It is kept beside the object, so a count parses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gist {
    /// True if its status says that it is valid.
    pub is_valid: bool,
    /// True if its status says that it is ready.
    pub is_ready: bool,
    /// The end of its value. `None`: it has none, or it never ends.
    pub expires_at: Option<Timestamp>,
    /// The time at which its value is replaced. `None`: no replacement is scheduled.
    pub rotates_at: Option<Timestamp>,
    /// The time of its last use. `None` if it was never used.
    pub used_at: Option<Timestamp>,
}

/// The gist of an object, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedGist {
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// Its gist.
    pub gist: Gist,
}

/// The objects of one kind. Clones share the same objects.
///
/// The cost of a look-up depends on the number of objects found, not on the number of objects stored. Keys are compared
/// by 64-bit hashes with a random seed. So a look-up can return a wrong object, and callers have to check each object.
///
/// A store that packs keeps all objects but the last ones as text, and parses an object at each look-up, which takes
/// some microseconds. Names and gists need no parsing.
pub struct Store<K> {
    shelf: Arc<RwLock<Shelf<K>>>,
    keys_of: KeysOf<K>,
    /// The function that packs an object. `None` if all objects stay whole.
    pack: Option<Pack<K>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { shelf: self.shelf.clone(), keys_of: self.keys_of, pack: self.pack }
    }
}

struct Shelf<K> {
    objects: Slab<Item<K>>,
    /// The index: pairs of a key's hash and a place in `objects`.
    places: BTreeSet<(u64, u32)>,
    /// The places of the objects that were put last, the newest at the end.
    fresh: VecDeque<u32>,
    hasher: RandomState,
    #[cfg(test)]
    looked_at: std::sync::atomic::AtomicUsize,
}

struct Item<K> {
    stored: Stored<K>,
    gist: Gist,
}

impl<K: Object> Store<K> {
    /// An empty store, whose objects get the keys that `keys_of` adds.
    pub fn new(keys_of: KeysOf<K>) -> Self {
        Self { shelf: Arc::default(), keys_of, pack: None }
    }

    /// The same store, but it packs its objects. Use it for a kind with many objects.
    pub fn packing(self) -> Self
    where
        K: Serialize + PartialEq,
    {
        Self { pack: Some(Packed::of), ..self }
    }

    /// An empty store with the same keys and the same packing.
    pub(super) fn another(&self) -> Self {
        Self { shelf: Arc::default(), ..self.clone() }
    }

    /// The object of a name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let stored = {
            let shelf = self.read();
            let place = shelf.place(&Location { namespace, name })?;
            shelf.objects.get(place)?.stored.clone()
        };
        Some(stored.open())
    }

    /// The objects that have a key. Each is parsed when the iterator reaches it.
    pub fn by(&self, key: &impl Hash) -> Found<K> {
        let found: Vec<_> = self.read().under(key).map(|item| item.stored.clone()).collect();
        Found(found.into_iter())
    }

    /// The names of the objects that have a key.
    pub fn names(&self, key: &impl Hash) -> Vec<ObjectRef<K>> {
        self.read().under(key).map(|item| item.stored.reference()).collect()
    }

    /// The gists of the objects that have a key.
    pub fn gists(&self, key: &impl Hash) -> Vec<Gist> {
        self.read().under(key).map(|item| item.gist).collect()
    }

    /// True if `is` returns true for an object that has the key.
    pub fn any(&self, key: &impl Hash, is: impl Fn(&K) -> bool) -> bool {
        self.by(key).any(|object| is(&object))
    }

    /// The number of objects.
    pub fn count(&self) -> usize {
        self.read().objects.len()
    }

    /// The names of all objects.
    pub fn all_names(&self) -> Vec<ObjectRef<K>> {
        let shelf = self.read();
        shelf.objects.iter().map(|(_, item)| shelf.seen(item).stored.reference()).collect()
    }

    /// The gists of all objects, in no certain order. No object is parsed.
    pub fn all_gists(&self) -> Vec<NamedGist> {
        let shelf = self.read();
        let named = |item: &Item<K>| {
            let Location { namespace, name } = item.stored.location();
            NamedGist { namespace: namespace.to_owned(), name: name.to_owned(), gist: item.gist }
        };
        shelf.objects.iter().map(|(_, item)| named(shelf.seen(item))).collect()
    }

    /// Stores an object. Returns the earlier object of the same name.
    pub fn put(&self, object: Arc<K>) -> Option<Arc<K>> {
        let mut shelf = self.write();
        let before = shelf.take(&object, self.keys_of);
        let place = shelf.add(object, self.keys_of);
        if let Some(pack) = self.pack {
            shelf.age(place, pack);
        }
        before
    }

    /// Removes and returns the object that has the name of `object`.
    pub(super) fn take(&self, object: &K) -> Option<Arc<K>> {
        self.write().take(object, self.keys_of)
    }

    /// Takes over the objects of `other`. Returns the objects that it had before.
    pub(super) fn replace(&self, other: Self) -> Vec<Stored<K>> {
        let shelf = mem::take(&mut *other.write());
        mem::replace(&mut *self.write(), shelf).into_stored().collect()
    }

    /// All objects, as the store keeps them.
    pub(super) fn stored(&self) -> Vec<Stored<K>> {
        self.read().objects.iter().map(|(_, item)| item.stored.clone()).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Shelf<K>> {
        self.shelf.read().expect("nobody panics here")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shelf<K>> {
        self.shelf.write().expect("nobody panics here")
    }
}

/// The objects that a look-up found. Each is parsed when the iterator reaches it.
pub struct Found<K>(vec::IntoIter<Stored<K>>);

impl<K: Object> Iterator for Found<K> {
    type Item = Arc<K>;

    fn next(&mut self) -> Option<Arc<K>> {
        self.0.next().map(|stored| stored.open())
    }
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self {
            objects: Slab::new(),
            places: BTreeSet::new(),
            fresh: VecDeque::new(),
            hasher: RandomState::new(),
            #[cfg(test)]
            looked_at: Default::default(),
        }
    }
}

impl<K: Object> Shelf<K> {
    fn under(&self, key: &impl Hash) -> impl Iterator<Item = &Item<K>> {
        let hash = self.hasher.hash_one(key);
        let places = self.places.range((hash, 0)..=(hash, u32::MAX));
        places.filter_map(|&(_, place)| self.objects.get(place as usize)).map(|item| self.seen(item))
    }

    /// The place of a name.
    fn place(&self, location: &Location<'_>) -> Option<usize> {
        let hash = self.hasher.hash_one(location);
        let mut places = self.places.range((hash, 0)..=(hash, u32::MAX)).map(|&(_, place)| place as usize);
        places.find(|&place| self.seen(&self.objects[place]).stored.location() == *location)
    }

    fn add(&mut self, object: Arc<K>, keys_of: KeysOf<K>) -> u32 {
        let (hashes, gist) = self.keys(&object, keys_of);
        let item = Item { stored: Stored::Whole(object), gist };
        let place = u32::try_from(self.objects.insert(item)).expect("there are fewer objects than that");
        self.places.extend(hashes.into_iter().map(|hash| (hash, place)));
        place
    }

    /// Notes that the object at `place` was put last, and packs the object that is fresh no more. If that one was
    /// removed, its place can have a newer object, which is then packed too early.
    fn age(&mut self, place: u32, pack: Pack<K>) {
        self.fresh.push_back(place);
        let old = (self.fresh.len() > FRESH).then(|| self.fresh.pop_front()).flatten();
        let Some(item) = old.and_then(|place| self.objects.get_mut(place as usize)) else { return };
        if let Stored::Whole(object) = &item.stored
            && let Some(packed) = pack(object)
        {
            item.stored = Stored::Packed(packed);
        }
    }

    fn take(&mut self, object: &K, keys_of: KeysOf<K>) -> Option<Arc<K>> {
        let place = self.place(&Location::of(object))?;
        let object = self.objects.remove(place).stored.open();
        for hash in self.keys(&object, keys_of).0 {
            self.places.remove(&(hash, place as u32));
        }
        Some(object)
    }

    fn keys(&self, object: &K, keys_of: KeysOf<K>) -> (Vec<u64>, Gist) {
        let mut keys = Keys { hasher: &self.hasher, hashes: Vec::new(), gist: Gist::default() };
        keys.add(&Location::of(object));
        keys_of(object, &mut keys);
        (keys.hashes, keys.gist)
    }

    fn into_stored(self) -> impl Iterator<Item = Stored<K>> {
        self.objects.into_iter().map(|(_, item)| item.stored)
    }

    #[cfg(not(test))]
    fn seen<'a>(&self, item: &'a Item<K>) -> &'a Item<K> {
        item
    }

    /// Counts the objects that look-ups compare.
    #[cfg(test)]
    fn seen<'a>(&self, item: &'a Item<K>) -> &'a Item<K> {
        self.looked_at.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use proptest::{collection::vec, prelude::*};

    impl<K: Object> Store<K> {
        /// How many objects were looked at so far.
        pub fn looked_at(&self) -> usize {
            self.read().looked_at.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    fn object(name: &str, keys: &[&str]) -> Arc<ConfigMap> {
        let data: Vec<_> = keys.iter().map(|key| ((*key).to_owned(), String::new())).collect();
        Arc::new(ConfigMap {
            metadata: kube::core::ObjectMeta {
                name: Some(name.into()),
                namespace: Some("a".into()),
                ..Default::default()
            },
            data: Some(data.into_iter().collect()),
            ..ConfigMap::default()
        })
    }

    fn store() -> Store<ConfigMap> {
        Store::new(|object, keys| object.data.iter().flatten().for_each(|(key, _)| keys.add(&key.as_str())))
    }

    fn only(store: &Store<ConfigMap>, object: Arc<ConfigMap>) -> Store<ConfigMap> {
        let only = store.another();
        only.put(object);
        only
    }

    fn names(store: &Store<ConfigMap>, key: &str) -> Vec<String> {
        let mut names: Vec<_> = store.by(&key).map(|object| object.name_any()).collect();
        let mut known: Vec<_> = store.names(&key).into_iter().map(|name| name.name).collect();
        names.sort();
        known.sort();
        assert_eq!(names, known);
        names
    }

    #[test]
    fn an_object_is_found_by_its_name_and_by_the_keys_that_it_has_now() {
        let store = store();
        assert!(store.put(object("x", &["red", "big"])).is_none());
        store.put(object("y", &["red"]));
        assert_eq!(names(&store, "red"), ["x", "y"]);
        assert_eq!(store.put(object("x", &["blue"])), Some(object("x", &["red", "big"])));
        assert_eq!((names(&store, "red"), names(&store, "blue")), (vec!["y".into()], vec!["x".into()]));
        assert!(names(&store, "big").is_empty());
        assert!(store.any(&"red", |object| object.name_any() == "y") && !store.any(&"red", |_| false));
        assert_eq!(store.get("a", "x"), Some(object("x", &["blue"])));
        assert!(store.get("b", "x").is_none());
        store.take(&object("x", &[]));
        assert!(store.get("a", "x").is_none() && names(&store, "blue").is_empty());
        let before = store.replace(only(&store, object("z", &["red"])));
        assert_eq!(before.iter().map(Stored::open).collect::<Vec<_>>(), [object("y", &["red"])]);
        assert_eq!(names(&store, "red"), ["z"]);
    }

    #[test]
    fn a_look_up_among_many_looks_at_no_more_than_among_few() {
        let looked_at = |count: usize| {
            let store = store();
            (0..count).for_each(|nth| drop(store.put(object(&nth.to_string(), &[&format!("k{}", nth / 2)]))));
            let before = store.looked_at();
            assert!(store.get("a", "7").is_some() && store.by(&"k3").count() == 2 && !store.any(&"none", |_| true));
            store.looked_at() - before
        };
        assert_eq!((looked_at(100), looked_at(10_000)), (3, 3));
    }

    #[test]
    fn all_but_the_last_are_packed_and_found_as_they_were() {
        let store = Store::new(|object: &ConfigMap, keys| {
            object.data.iter().flatten().for_each(|(key, _)| keys.add(&key.as_str()));
            let used_at = object.metadata.name.as_deref().and_then(|name| name.parse().ok());
            keys.gist(Gist { used_at: used_at.map(|at| Timestamp::from_second(at).unwrap()), ..Gist::default() });
        });
        let store = store.packing();
        let packed = |store: &Store<ConfigMap>| {
            store.stored().iter().filter(|stored| matches!(stored, Stored::Packed(_))).count()
        };
        (0..100).for_each(|nth| drop(store.put(object(&nth.to_string(), &["red"]))));
        assert_eq!(packed(&store), 100 - FRESH);
        for nth in [0, 99] {
            assert_eq!(store.get("a", &nth.to_string()), Some(object(&nth.to_string(), &["red"])));
        }
        let used: i64 = store.gists(&"red").iter().filter_map(|gist| gist.used_at).map(|at| at.as_second()).sum();
        assert_eq!((store.by(&"red").count(), used, store.all_names().len()), (100, 99 * 50, 100));
        let all: Vec<_> = store.all_gists();
        let agrees = |one: &NamedGist| one.gist.used_at.map(|at| at.as_second().to_string()) == Some(one.name.clone());
        assert!(all.len() == 100 && all.iter().all(|one| one.namespace == "a" && agrees(one)), "{all:?}");
        // A packed object is taken out of the keys that it had.
        assert_eq!(store.put(object("0", &["blue"])), Some(object("0", &["red"])));
        assert_eq!((store.names(&"red").len(), store.names(&"blue").len()), (99, 1));
        assert_eq!(packed(&store.another()), 0);
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        /// After any sequence of changes, a look-up finds the same objects as a scan of all objects.
        #[test]
        fn it_finds_what_a_walk_finds(
            steps in vec((0..6usize, vec(0..4usize, 0..3), 0..10usize), 0..200),
            packs: bool,
        ) {
            const KEYS: [&str; 4] = ["a", "b", "c", "d"];
            let store = if packs { store().packing() } else { store() };
            let mut model = std::collections::BTreeMap::new();
            for (nth, keys, what) in steps {
                let keys: Vec<_> = keys.into_iter().map(|key| KEYS[key]).collect();
                let object = object(&nth.to_string(), &keys);
                match what {
                    0 => {
                        store.replace(only(&store, object.clone()));
                        model = [(nth, object)].into();
                    }
                    1..=3 => prop_assert_eq!(store.take(&object), model.remove(&nth)),
                    _ => prop_assert_eq!(store.put(object.clone()), model.insert(nth, object)),
                }
                for key in KEYS {
                    let has = |object: &&Arc<ConfigMap>| object.data.as_ref().unwrap().contains_key(key);
                    let wanted: Vec<_> = model.values().filter(has).map(|object| object.name_any()).collect();
                    prop_assert_eq!(names(&store, key), wanted);
                }
                prop_assert_eq!(store.all_names().len(), model.len());
            }
        }
    }
}
