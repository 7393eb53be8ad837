//! The entries of one kind, with the versions that protect them from old news.
//!
//! The API server numbers the changes of a kind. Within one history of its data, a higher number is newer (KEP-5504).
//! So news that comes late is recognised, and changes nothing:
//!
//! * An entry has the version of its object.
//! * A deletion is remembered with its version, up to a limit. Beyond it, all unknown objects count as deleted up to
//!   the version of the forgotten deletions. Events come in order, so a new object always has a higher version.
//! * A list has a version too. A list that is older than the newest news replaces only entries that are older still.
//!
//! The version 0 means that the version is not known. Such news is always believed.

use std::{collections::HashSet, sync::Arc};

use super::{Key, table::Table};
use crate::outside::watch::Listed;

/// The most deletions that are remembered for one kind.
const MOST_ENDED: usize = 1024;

/// An object of the index.
#[derive(Debug)]
pub struct Versioned<E> {
    /// Its name.
    pub key: Key,
    /// Its version, or 0.
    pub(super) version: u64,
    /// The parts of it that the verifier needs.
    pub entry: E,
}

/// The entries of one kind.
#[derive(Clone)]
pub struct Entries<E> {
    held: Table<Arc<Versioned<E>>>,
    /// The deleted objects, each with the version of its deletion.
    ended: imbl::HashMap<Key, u64>,
    /// An unknown object counts as deleted up to this version.
    floor: u64,
    /// The version of the newest news.
    newest: u64,
}

impl<E> Default for Entries<E> {
    fn default() -> Self {
        Self { held: Table::default(), ended: imbl::HashMap::new(), floor: 0, newest: 0 }
    }
}

/// A change of the entries: the entry before and after it, of the same name.
pub struct EntryChange<E> {
    pub(super) old: Option<Arc<Versioned<E>>>,
    pub(super) new: Option<Arc<Versioned<E>>>,
}

impl<E> EntryChange<E> {
    /// The name of the object. `None`: there is no change.
    pub(super) fn key(&self) -> Option<&Key> {
        self.new.as_ref().or(self.old.as_ref()).map(|held| &held.key)
    }
}

impl<E: PartialEq> EntryChange<E> {
    /// True if a verdict can depend on the change.
    pub(crate) fn is_news(&self) -> bool {
        self.old.as_ref().map(|held| &held.entry) != self.new.as_ref().map(|held| &held.entry)
    }
}

impl<E: PartialEq> Entries<E> {
    /// The entry of the object with this namespace and name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Versioned<E>> {
        self.shared(namespace, name).map(|held| &**held)
    }

    /// Like [`Entries::get`], for a caller that shares the entry.
    pub(super) fn shared(&self, namespace: &str, name: &str) -> Option<&Arc<Versioned<E>>> {
        // A key has the same hash as the pair of its parts.
        let mut like = self.held.like((namespace, name));
        like.find(|held| held.key.name == name && held.key.namespace == namespace)
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// All entries, in an order that differs between processes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Versioned<E>> {
        self.held.iter().map(|held| &**held)
    }

    /// A number that is the same wherever the same versions of the same objects are known. It takes a look at each
    /// entry.
    pub(crate) fn digest(&self) -> u32 {
        let of = |Versioned { key, version, .. }: &Versioned<E>| {
            let mut hash = crc32fast::Hasher::new();
            [&*key.namespace, "/", &*key.name].into_iter().for_each(|part| hash.update(part.as_bytes()));
            hash.update(&version.to_be_bytes());
            hash.finalize()
        };
        self.iter().map(of).fold(0, u32::wrapping_add)
    }

    /// Adds or replaces an entry, unless it is old news.
    pub(crate) fn take(&mut self, new: Arc<Versioned<E>>) -> Option<EntryChange<E>> {
        if self.is_old(&new.key, new.version) {
            return None;
        }
        self.newest = self.newest.max(new.version);
        self.put(new)
    }

    /// Removes an entry, by news of this version, unless that is old news.
    pub(crate) fn end(&mut self, key: Key, version: u64) -> Option<EntryChange<E>> {
        if self.is_old(&key, version) {
            return None;
        }
        self.newest = self.newest.max(version);
        if version > self.floor {
            self.ended.insert(key.clone(), version);
            self.forget_some();
        }
        self.remove(&key)
    }

    /// Replaces all entries by those of a list.
    pub(crate) fn relist(&mut self, listed: Vec<Arc<Versioned<E>>>, list: Listed) -> Vec<EntryChange<E>> {
        let Listed { version, anew } = list;
        let is_late = !anew && (1..self.newest).contains(&version);
        let keys: HashSet<&Key> = listed.iter().map(|held| &held.key).collect();
        let later = |held: &Versioned<E>| is_late && held.version > version;
        let gone = self.iter().filter(|held| !keys.contains(&held.key) && !later(held));
        let gone: Vec<Key> = gone.map(|held| held.key.clone()).collect();
        if is_late {
            let mut changes: Vec<_> = gone.into_iter().filter_map(|key| self.end(key, version)).collect();
            changes.extend(listed.into_iter().filter_map(|held| self.take(held)));
            return changes;
        }
        (self.ended, self.floor, self.newest) = (imbl::HashMap::new(), version, version);
        let mut changes: Vec<_> = gone.iter().filter_map(|key| self.remove(key)).collect();
        // An object may be in a list twice. Then the last one counts.
        let mut met = HashSet::new();
        let is_new = |held: &Arc<Versioned<E>>| self.find(&held.key).is_none() && met.insert(held.key.clone());
        let (new, known): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_new);
        self.held.extend(new.iter().map(|held| (&held.key, held.clone())));
        changes.extend(new.into_iter().map(|held| EntryChange { old: None, new: Some(held) }));
        changes.extend(known.into_iter().filter_map(|held| self.put(held)));
        changes
    }

    /// True if news of this version about an object is older than the known state of the object.
    fn is_old(&self, key: &Key, version: u64) -> bool {
        let is_ended = || version <= self.floor.max(self.ended.get(key).copied().unwrap_or_default());
        version != 0 && self.find(key).map_or_else(is_ended, |held| version < held.version)
    }

    fn put(&mut self, new: Arc<Versioned<E>>) -> Option<EntryChange<E>> {
        let old = self.find(&new.key);
        // An entry that stays the same is still shared with the index of the readers.
        if old.is_some_and(|old| old.version == new.version && old.entry == new.entry) {
            return None;
        }
        self.ended.remove(&new.key);
        let old = self.held.put(&new.key, |held| held.key == new.key, Some(new.clone()));
        Some(EntryChange { old, new: Some(new) })
    }

    fn remove(&mut self, key: &Key) -> Option<EntryChange<E>> {
        let old = self.held.put(key, |held| held.key == *key, None)?;
        Some(EntryChange { old: Some(old), new: None })
    }

    fn find(&self, key: &Key) -> Option<&Versioned<E>> {
        self.get(&key.namespace, &key.name)
    }

    /// Forgets the older half of the deletions if there are too many.
    fn forget_some(&mut self) {
        if self.ended.len() <= MOST_ENDED {
            return;
        }
        let mut versions: Vec<u64> = self.ended.values().copied().collect();
        let middle = versions.len() / 2;
        let floor = self.floor.max(*versions.select_nth_unstable(middle).1);
        self.ended = self.ended.iter().filter(|(_, version)| **version > floor).map(|(k, v)| (k.clone(), *v)).collect();
        self.floor = floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, option, prelude::*};
    use std::collections::{BTreeMap, BTreeSet};

    /// The names and contents of objects. The content changes with each version.
    type Objects = BTreeMap<u8, u64>;

    fn key(name: u8) -> Key {
        Key::new("a", name.to_string())
    }

    fn held(name: u8, version: u64) -> Arc<Versioned<u64>> {
        Arc::new(Versioned { key: key(name), version, entry: version })
    }

    fn objects(entries: &Entries<u64>) -> Objects {
        entries.iter().map(|held| (held.key.name.parse().unwrap(), held.entry)).collect()
    }

    fn relist(entries: &mut Entries<u64>, objects: &Objects, version: u64, anew: bool) -> usize {
        let listed = objects.iter().map(|(&name, &version)| held(name, version)).collect();
        entries.relist(listed, Listed { version, anew }).len()
    }

    #[test]
    fn an_object_that_a_list_has_twice_is_the_last_one() {
        let mut entries = Entries::default();
        let listed = [held(1, 2), held(2, 2), held(1, 3)];
        let changes = entries.relist(listed.to_vec(), Listed { version: 4, anew: false });
        assert_eq!((changes.len(), entries.len(), objects(&entries)), (3, 2, Objects::from([(1, 3), (2, 2)])));
    }

    /// News of a kind. The change with the number `n` has the version `n + 2`. The history begins at the version 1.
    #[derive(Clone, Debug)]
    enum News {
        /// The event of this change.
        Event(usize),
        /// A list of the state after this number of changes.
        List(usize),
    }

    /// The changes of a history: an object is written or deleted. And the news of it, in any order: lists of all ages,
    /// each event at least once, and some events again.
    fn history() -> impl Strategy<Value = (Vec<(u8, bool)>, Vec<News>)> {
        vec((0u8..6, prop::bool::weighted(0.7)), 1..24).prop_flat_map(|changes| {
            let all = 0..changes.len();
            let again = vec(prop_oneof![all.clone().prop_map(News::Event), all.clone().prop_map(News::List)], 0..24);
            let news = again.prop_map(move |again| all.clone().map(News::Event).chain(again).collect::<Vec<_>>());
            (Just(changes), news.prop_shuffle())
        })
    }

    fn after(changes: &[(u8, bool)]) -> Objects {
        let mut objects = Objects::new();
        for (&(name, written), version) in changes.iter().zip(2..) {
            match written {
                true => objects.insert(name, version),
                false => objects.remove(&name),
            };
        }
        objects
    }

    fn hear(entries: &mut Entries<u64>, changes: &[(u8, bool)], news: &News) {
        match *news {
            News::Event(n) => {
                let (name, version) = (changes[n].0, n as u64 + 2);
                let _ = if changes[n].1 { entries.take(held(name, version)) } else { entries.end(key(name), version) };
            }
            News::List(n) => _ = relist(entries, &after(&changes[..n]), n as u64 + 1, false),
        }
    }

    proptest! {
        #![proptest_config(crate::token::cases::so_many(2048))]

        #[test]
        fn whatever_comes_late_the_entries_are_those_of_the_newest_state((changes, news) in history()) {
            let mut entries = Entries::default();
            news.iter().for_each(|news| hear(&mut entries, &changes, news));
            prop_assert_eq!(objects(&entries), after(&changes));
        }

        #[test]
        fn nothing_brings_back_what_was_ended((changes, news) in history()) {
            let mut entries = Entries::default();
            let mut ended = BTreeMap::<u8, u64>::new();
            for news in &news {
                hear(&mut entries, &changes, news);
                if let News::Event(n) = news && !changes[*n].1 {
                    let newest = ended.entry(changes[*n].0).or_default();
                    *newest = (*newest).max(*n as u64 + 2);
                }
                let objects = objects(&entries);
                prop_assert!(ended.iter().all(|(name, ended)| objects.get(name).is_none_or(|version| version > ended)));
            }
        }

        #[test]
        fn a_new_history_is_all_that_counts(
            (changes, news) in history(), restored in history(), version in option::of(0u64..9),
        ) {
            let mut entries = Entries::default();
            news.iter().for_each(|news| hear(&mut entries, &changes, news));
            let (earlier, version) = (after(&restored.0), version.unwrap_or(restored.0.len() as u64));
            relist(&mut entries, &earlier, version, true);
            prop_assert_eq!(objects(&entries), earlier);
        }
    }

    #[test]
    fn a_digest_depends_on_the_versions_and_not_on_the_way_to_them() {
        let of = |objects: &[(u8, u64)]| {
            let mut entries = Entries::default();
            objects.iter().for_each(|&(name, version)| _ = entries.take(held(name, version)));
            entries.digest()
        };
        assert_eq!(of(&[(1, 3), (2, 4)]), of(&[(2, 2), (1, 3), (2, 4)]));
        assert_ne!(of(&[(1, 3), (2, 4)]), of(&[(1, 3), (2, 5)]), "a missed change");
        assert_ne!(of(&[(1, 3)]), of(&[(2, 3)]));
    }

    #[test]
    fn a_list_that_changes_nothing_is_no_change() {
        let mut entries = Entries::default();
        let both = Objects::from([(1, 3), (2, 4)]);
        assert_eq!(relist(&mut entries, &both, 5, true), 2);
        assert_eq!(relist(&mut entries, &both, 6, false), 0);
        assert_eq!(relist(&mut entries, &both, 2, true), 0);
    }

    #[test]
    fn an_object_without_a_version_is_always_believed() {
        let mut entries = Entries::default();
        assert!(entries.take(held(1, 5)).is_some() && entries.take(held(1, 4)).is_none());
        assert!(entries.take(held(1, 0)).is_some() && entries.end(key(1), 0).is_some());
        assert_eq!(objects(&entries), Objects::new());
        relist(&mut entries, &Objects::from([(2, 0)]), 0, false);
        assert_eq!(objects(&entries), Objects::from([(2, 0)]));
    }

    #[test]
    fn deletions_are_remembered_up_to_a_limit_and_old_news_is_refused_beyond_it() {
        let mut entries = Entries::<u64>::default();
        let names: Vec<_> = (0..3 * MOST_ENDED).map(|n| Key::new("a", n.to_string())).collect();
        let named = |n: usize, version| Arc::new(Versioned { key: names[n].clone(), version, entry: 1 });
        for (n, name) in names.iter().enumerate() {
            let version = 2 * n as u64 + 1;
            assert!(entries.take(named(n, version)).is_some(), "a new object is newer than all that ended");
            assert!(entries.end(name.clone(), version + 1).is_some() && entries.ended.len() <= MOST_ENDED);
        }
        let versions = |n: usize| (2 * n as u64 + 1)..=(2 * n as u64 + 2);
        let back = (0..names.len()).flat_map(|n| versions(n).map(move |version| (n, version)));
        let back: BTreeSet<_> = back.filter(|&(n, version)| entries.take(named(n, version)).is_some()).collect();
        assert_eq!(back, BTreeSet::new());
    }
}
