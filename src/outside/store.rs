//! The objects of one kind, looked up by name and by keys.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::Resource;
use slab::Slab;

use super::location::Location;

/// Adds the keys by which an object is looked up, besides its name.
pub type KeysOf<K> = fn(&K, &mut Keys<'_>);

/// Collects the keys of an object.
pub struct Keys<'a> {
    hasher: &'a RandomState,
    hashes: Vec<u64>,
}

impl Keys<'_> {
    /// Adds a key by which the object is looked up.
    pub fn add(&mut self, key: &impl Hash) {
        self.hashes.push(self.hasher.hash_one(key));
    }
}

/// The objects of one kind. Clones share the same objects.
///
/// The cost of a look-up depends on the number of objects found, not on the number of objects stored. Keys are compared
/// by 64-bit hashes with a random seed. So a look-up can return a wrong object, and callers have to check each object.
pub struct Store<K> {
    shelf: Arc<RwLock<Shelf<K>>>,
    keys_of: KeysOf<K>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { shelf: self.shelf.clone(), keys_of: self.keys_of }
    }
}

struct Shelf<K> {
    objects: Slab<Arc<K>>,
    /// The index: pairs of a key's hash and a place in `objects`.
    places: BTreeSet<(u64, u32)>,
    hasher: RandomState,
    #[cfg(test)]
    looked_at: std::sync::atomic::AtomicUsize,
}

impl<K: Resource> Store<K> {
    /// An empty store, whose objects get the keys that `keys_of` adds.
    pub fn new(keys_of: KeysOf<K>) -> Self {
        Self { shelf: Arc::new(RwLock::new(Shelf::default())), keys_of }
    }

    /// The object of a name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let shelf = self.read();
        let place = shelf.place(&Location { namespace, name })?;
        shelf.objects.get(place).cloned()
    }

    /// The objects that have a key.
    pub fn by(&self, key: &impl Hash) -> Vec<Arc<K>> {
        self.read().under(key).cloned().collect()
    }

    /// True if `is` returns true for an object that has the key.
    pub fn any(&self, key: &impl Hash, is: impl Fn(&K) -> bool) -> bool {
        self.read().under(key).any(|object| is(object))
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        let shelf = self.read();
        shelf.objects.iter().map(|(_, object)| shelf.seen(object).clone()).collect()
    }

    /// Stores an object. Returns the earlier object of the same name.
    pub fn put(&self, object: Arc<K>) -> Option<Arc<K>> {
        let mut shelf = self.write();
        let before = shelf.take(&object, self.keys_of);
        shelf.add(object, self.keys_of);
        before
    }

    /// Removes and returns the object that has the name of `object`.
    pub(super) fn take(&self, object: &K) -> Option<Arc<K>> {
        self.write().take(object, self.keys_of)
    }

    /// Replaces all objects by `objects`. Returns the earlier objects.
    pub(super) fn replace(&self, objects: &[Arc<K>]) -> Vec<Arc<K>> {
        let mut shelf = Shelf::default();
        objects.iter().for_each(|object| shelf.add(object.clone(), self.keys_of));
        let before = std::mem::replace(&mut *self.write(), shelf);
        before.objects.into_iter().map(|(_, object)| object).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Shelf<K>> {
        self.shelf.read().expect("nobody panics here")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shelf<K>> {
        self.shelf.write().expect("nobody panics here")
    }
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self {
            objects: Slab::new(),
            places: BTreeSet::new(),
            hasher: RandomState::new(),
            #[cfg(test)]
            looked_at: Default::default(),
        }
    }
}

impl<K: Resource> Shelf<K> {
    fn under(&self, key: &impl Hash) -> impl Iterator<Item = &Arc<K>> {
        let hash = self.hasher.hash_one(key);
        let places = self.places.range((hash, 0)..=(hash, u32::MAX));
        places.filter_map(|&(_, place)| self.objects.get(place as usize)).map(|object| self.seen(object))
    }

    /// The place of a name.
    fn place(&self, location: &Location<'_>) -> Option<usize> {
        let hash = self.hasher.hash_one(location);
        let mut places = self.places.range((hash, 0)..=(hash, u32::MAX)).map(|&(_, place)| place as usize);
        let is = |place: &usize| {
            let Location { namespace, name } = Location::of(&**self.seen(&self.objects[*place]));
            (namespace, name) == (location.namespace, location.name)
        };
        places.find(is)
    }

    fn add(&mut self, object: Arc<K>, keys_of: KeysOf<K>) {
        let hashes = self.hashes(&object, keys_of);
        let place = u32::try_from(self.objects.insert(object)).expect("there are fewer objects than that");
        self.places.extend(hashes.into_iter().map(|hash| (hash, place)));
    }

    fn take(&mut self, object: &K, keys_of: KeysOf<K>) -> Option<Arc<K>> {
        let place = self.place(&Location::of(object))?;
        let object = self.objects.remove(place);
        for hash in self.hashes(&object, keys_of) {
            self.places.remove(&(hash, place as u32));
        }
        Some(object)
    }

    fn hashes(&self, object: &K, keys_of: KeysOf<K>) -> Vec<u64> {
        let mut keys = Keys { hasher: &self.hasher, hashes: Vec::new() };
        keys.add(&Location::of(object));
        keys_of(object, &mut keys);
        keys.hashes
    }

    #[cfg(not(test))]
    fn seen<'a>(&self, object: &'a Arc<K>) -> &'a Arc<K> {
        object
    }

    /// Counts the objects that look-ups compare.
    #[cfg(test)]
    fn seen<'a>(&self, object: &'a Arc<K>) -> &'a Arc<K> {
        self.looked_at.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use proptest::{collection::vec, prelude::*};

    impl<K: Resource> Store<K> {
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

    fn names(store: &Store<ConfigMap>, key: &str) -> Vec<String> {
        let mut names: Vec<_> = store.by(&key).iter().map(|object| object.name_any()).collect();
        names.sort();
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
        assert_eq!(store.replace(&[object("z", &["red"])]), [object("y", &["red"])]);
        assert_eq!(names(&store, "red"), ["z"]);
    }

    #[test]
    fn a_look_up_among_many_looks_at_no_more_than_among_few() {
        let looked_at = |count: usize| {
            let store = store();
            (0..count).for_each(|nth| drop(store.put(object(&nth.to_string(), &[&format!("k{}", nth / 2)]))));
            let before = store.looked_at();
            assert!(store.get("a", "7").is_some() && store.by(&"k3").len() == 2 && !store.any(&"none", |_| true));
            store.looked_at() - before
        };
        assert_eq!((looked_at(100), looked_at(10_000)), (3, 3));
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        /// After any sequence of changes, a look-up finds the same objects as a scan of all objects.
        #[test]
        fn it_finds_what_a_walk_finds(steps in vec((0..6usize, vec(0..4usize, 0..3), 0..10usize), 0..60)) {
            const KEYS: [&str; 4] = ["a", "b", "c", "d"];
            let (store, mut model) = (store(), std::collections::BTreeMap::new());
            for (nth, keys, what) in steps {
                let keys: Vec<_> = keys.into_iter().map(|key| KEYS[key]).collect();
                let object = object(&nth.to_string(), &keys);
                match what {
                    0 => {
                        store.replace(std::slice::from_ref(&object));
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
                prop_assert_eq!(store.all().len(), model.len());
            }
        }
    }
}
