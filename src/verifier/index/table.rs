//! A hash table whose clones share everything. A change copies a few short lists and nothing else, so readers keep an
//! old table while a writer makes the next one.
//!
//! ```text
//! chunks ─▶ shards ─▶ slots: a hash and a value
//! 64 shards  up to about 8 slots, without spare room
//! ```
//!
//! It holds many small values in less memory than the trees of `imbl`, whose nodes have room for 16 or 32 values each.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use foldhash::quality::RandomState;

/// The mean number of slots in a shard at which the number of shards doubles. The slots are then in two lines of the
/// caches of a processor.
const FULL: usize = 8;
/// The mean number of slots in a shard at which the number of shards halves. It is half of the mean after the number
/// has doubled, so that no table grows and shrinks again and again.
const SPARSE: usize = 2;
/// The number of shards in a chunk.
const CHUNK: usize = 64;

/// A hash table whose clones share everything. Several values can have the same key.
#[derive(Clone)]
pub(crate) struct Table<T> {
    hasher: RandomState,
    /// The number of shards is this power of two. The first bits of a hash are the number of its shard.
    bits: u32,
    len: usize,
    chunks: Arc<[Arc<[Shard<T>]>]>,
}

type Shard<T> = Arc<[Hashed<T>]>;

/// A value, with the hash of its key. Hashes are compared first, so hardly any other value of a shard is looked at.
#[derive(Clone)]
struct Hashed<T> {
    hash: u32,
    value: T,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let one: Arc<[Shard<T>]> = [Shard::default()].into();
        Self { hasher: RandomState::default(), bits: 0, len: 0, chunks: [one].into() }
    }
}

impl<T> Table<T> {
    /// The number of values.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All values, in an order that differs between processes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots().map(|slot| &slot.value)
    }

    /// The values whose key may be `key`. The caller compares the keys.
    pub(crate) fn like<Q: Hash>(&self, key: Q) -> impl Iterator<Item = &T> + use<'_, T, Q> {
        let hash = self.hash(key);
        let at = self.place(hash);
        self.chunks[at / CHUNK][at % CHUNK].iter().filter(move |slot| slot.hash == hash).map(|slot| &slot.value)
    }

    fn slots(&self) -> impl Iterator<Item = &Hashed<T>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).flat_map(|shard| shard.iter())
    }

    fn hash(&self, key: impl Hash) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    /// The number of the shard of a hash.
    fn place(&self, hash: u32) -> usize {
        (u64::from(hash) << self.bits >> 32) as usize
    }
}

impl<T: Clone> Table<T> {
    /// Replaces the value with this key for which `is_it` is true, and returns it. `None` as `new` removes it.
    pub(crate) fn put(&mut self, key: impl Hash, is_it: impl Fn(&T) -> bool, new: Option<T>) -> Option<T> {
        let (hash, removes) = (self.hash(key), new.is_none());
        let place = self.place(hash);
        let shard = &self.chunks[place / CHUNK][place % CHUNK];
        let at = shard.iter().position(|slot| slot.hash == hash && is_it(&slot.value));
        let old = at.map(|at| shard[at].value.clone());
        if old.is_none() && new.is_none() {
            return None;
        }
        self.len = self.len + usize::from(new.is_some()) - usize::from(old.is_some());
        let others = shard.iter().enumerate().filter(|(n, _)| Some(*n) != at).map(|(_, slot)| slot.clone());
        let changed: Vec<_> = others.chain(new.map(|value| Hashed { hash, value })).collect();
        let chunk = &mut Arc::make_mut(&mut self.chunks)[place / CHUNK];
        Arc::make_mut(chunk)[place % CHUNK] = changed.into();
        let shards = 1 << self.bits;
        if self.len > FULL * shards {
            self.resize(self.bits + 1);
        } else if removes && self.bits > 0 && self.len < SPARSE * shards {
            self.resize(self.bits - 1);
        }
        old
    }

    /// Makes room for this many values at once. So the table does not grow step by step.
    pub(crate) fn reserve(&mut self, len: usize) {
        let bits = len.div_ceil(FULL).next_power_of_two().ilog2();
        if bits > self.bits {
            self.resize(bits);
        }
    }

    fn resize(&mut self, bits: u32) {
        self.bits = bits;
        let mut shards: Vec<Vec<Hashed<T>>> = Vec::new();
        shards.resize_with(1 << bits, Vec::new);
        for slot in self.slots() {
            shards[self.place(slot.hash)].push(slot.clone());
        }
        let shards: Vec<Shard<T>> = shards.into_iter().map(Arc::from).collect();
        self.chunks = shards.chunks(CHUNK).map(Arc::from).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    type Pair = (u16, u8);

    fn get(table: &Table<Pair>, key: u16) -> Option<u8> {
        table.like(key).find(|pair| pair.0 == key).map(|pair| pair.1)
    }

    fn put(table: &mut Table<Pair>, key: u16, value: Option<u8>) -> Option<u8> {
        table.put(key, |pair| pair.0 == key, value.map(|value| (key, value))).map(|pair| pair.1)
    }

    #[test]
    fn a_table_grows_and_shrinks_with_its_values() {
        let mut table = Table::default();
        (0..10_000).for_each(|key| _ = put(&mut table, key, Some(1)));
        let shards = |table: &Table<Pair>| table.chunks.iter().map(|chunk| chunk.len()).sum::<usize>();
        assert_eq!((table.len(), shards(&table), table.chunks.len()), (10_000, 2048, 32));
        let longest = table.chunks.iter().flat_map(|chunk| chunk.iter()).map(|shard| shard.len()).max();
        assert!(longest < Some(3 * FULL), "{longest:?}");
        (0..9_990).for_each(|key| assert_eq!(put(&mut table, key, None), Some(1)));
        assert!(table.len() == 10 && shards(&table) <= 8 && get(&table, 9_999) == Some(1));
    }

    #[test]
    fn room_that_was_made_at_once_is_that_which_would_have_grown() {
        let mut table = Table::default();
        table.reserve(10_000);
        put(&mut table, 0, Some(1));
        let bits = table.bits;
        (1..10_000).for_each(|key| _ = put(&mut table, key, Some(1)));
        assert_eq!((bits, table.bits), (11, 11));
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn it_holds_what_a_hash_map_holds_and_a_clone_stays_as_it_was(
            changes in prop::collection::vec((0u16..600, prop::option::of(any::<u8>())), 0..900), kept in 0usize..900,
        ) {
            let (mut table, mut model) = (Table::default(), HashMap::new());
            let mut before = (table.clone(), model.clone());
            for (n, (key, value)) in changes.into_iter().enumerate() {
                if n == kept {
                    before = (table.clone(), model.clone());
                }
                let old = match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
                prop_assert_eq!(put(&mut table, key, value), old);
            }
            for (table, model) in [(table, model), before] {
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.iter().copied().collect::<HashMap<_, _>>(), model);
                let walked = |key| table.iter().find(|one| one.0 == key).map(|one| one.1);
                prop_assert!((0..600).all(|key| get(&table, key) == walked(key)));
            }
        }
    }
}
