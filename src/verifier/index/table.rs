//! A hash table whose clones share everything. A change copies a few short lists and nothing else, so readers keep an
//! old table while a writer makes the next one.
//!
//! ```text
//! chunks ─▶ shards ─▶ slots: a hash and a value, in the order of the hashes
//! 64 shards  up to about 32 slots, without spare room
//! ```
//!
//! Hashes are spread evenly, so a hash says where in its shard it is, but for a few slots. So a search reads one or two
//! lines of the slots. The chunks and their lists of shards are small, and stay in the caches of a processor.
//!
//! It holds many small values in less memory than the trees of `imbl`, whose nodes have room for 16 or 32 values each.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use foldhash::quality::RandomState;

/// The mean number of slots in a shard at which the number of shards doubles. A change copies that many slots.
const FULL: usize = 32;
/// The mean number of slots in a shard at which the number of shards halves. It is half of the mean after the number
/// has doubled, so that no table grows and shrinks again and again.
const SPARSE: usize = 8;
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

/// Values in the order of their hashes.
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
        let (shard, first) = self.search(hash);
        shard[first..].iter().take_while(move |slot| slot.hash == hash).map(|slot| &slot.value)
    }

    /// The shard of a hash, and the place of its first slot with this hash or a higher one.
    fn search(&self, hash: u32) -> (&Shard<T>, usize) {
        let place = self.place(hash);
        let shard = &self.chunks[place / CHUNK][place % CHUNK];
        // The rest of the hash says how far it is from the lowest to the highest hash of its shard.
        let rest = (u64::from(hash) << self.bits) as u32;
        let mut at = ((u64::from(rest) * shard.len() as u64) >> 32) as usize;
        while at > 0 && shard[at - 1].hash >= hash {
            at -= 1;
        }
        while at < shard.len() && shard[at].hash < hash {
            at += 1;
        }
        (shard, at)
    }

    fn slots(&self) -> impl Iterator<Item = &Hashed<T>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).flat_map(|shard| shard.iter())
    }

    /// The hash of a key. It differs between processes.
    pub(super) fn hash(&self, key: impl Hash) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    /// The number of the shard of a hash.
    fn place(&self, hash: u32) -> usize {
        place(hash, self.bits)
    }
}

/// The number of the shard of a hash, among two to the power of `bits` shards.
fn place(hash: u32, bits: u32) -> usize {
    (u64::from(hash) << bits >> 32) as usize
}

impl<T: Clone> Table<T> {
    /// Replaces the value with this key for which `is_it` is true, and returns it. `None` as `new` removes it.
    pub(crate) fn put(&mut self, key: impl Hash, is_it: impl Fn(&T) -> bool, new: Option<T>) -> Option<T> {
        let (hash, removes) = (self.hash(key), new.is_none());
        let (shard, first) = self.search(hash);
        let (lower, rest) = shard.split_at(first);
        let (same, higher) = rest.split_at(rest.iter().take_while(|slot| slot.hash == hash).count());
        let at = same.iter().position(|slot| is_it(&slot.value));
        let old = at.map(|at| same[at].value.clone());
        if old.is_none() && new.is_none() {
            return None;
        }
        let others = same.iter().enumerate().filter(|(n, _)| Some(*n) != at).map(|(_, slot)| slot);
        let new = new.map(|value| Hashed { hash, value });
        let len = self.len + usize::from(new.is_some()) - usize::from(old.is_some());
        let changed: Vec<_> =
            { lower.iter().chain(others).cloned() }.chain(new).chain(higher.iter().cloned()).collect();
        self.set(self.place(hash), changed.into());
        self.len = len;
        let shards = 1 << self.bits;
        if self.len > FULL * shards {
            self.resize(self.bits + 1);
        } else if removes && self.bits > 0 && self.len < SPARSE * shards {
            self.resize(self.bits - 1);
        }
        old
    }

    /// True if so few values of `len` change that it is better to copy their shards than all.
    pub(super) fn are_few(changed: usize, len: usize) -> bool {
        changed < len / FULL
    }

    /// Adds many values at once, and none of them replaces another. Each shard is made once. A shard that grows step by
    /// step leaves gaps of all sizes in the memory.
    pub(crate) fn extend<K: Hash>(&mut self, added: impl IntoIterator<Item = (K, T)>) {
        let mut added: Vec<_> = added.into_iter().map(|(key, value)| Hashed { hash: self.hash(key), value }).collect();
        let is_few = Self::are_few(added.len(), self.len);
        self.len += added.len();
        let bits = self.bits.max(self.len.div_ceil(FULL).next_power_of_two().ilog2());
        if !is_few || bits > self.bits {
            return self.fill(bits, added);
        }
        added.sort_unstable_by_key(|slot| slot.hash);
        for slots in added.chunk_by(|one, next| place(one.hash, bits) == place(next.hash, bits)) {
            let place = place(slots[0].hash, bits);
            let mut changed = [&*self.chunks[place / CHUNK][place % CHUNK], slots].concat();
            changed.sort_unstable_by_key(|slot| slot.hash);
            self.set(place, changed.into());
        }
    }

    /// Replaces each value by another one with the same key.
    pub(crate) fn renew(&mut self, new: impl Fn(&T) -> T) {
        let renewed = |slot: &Hashed<T>| Hashed { hash: slot.hash, value: new(&slot.value) };
        let shard = |shard: &Shard<T>| shard.iter().map(renewed).collect();
        self.chunks = self.chunks.iter().map(|chunk| chunk.iter().map(shard).collect()).collect();
    }

    fn set(&mut self, place: usize, shard: Shard<T>) {
        let chunk = &mut Arc::make_mut(&mut self.chunks)[place / CHUNK];
        Arc::make_mut(chunk)[place % CHUNK] = shard;
    }

    fn resize(&mut self, bits: u32) {
        self.fill(bits, Vec::new());
    }

    /// Makes all shards anew, two to the power of `bits`, from the present values and these.
    fn fill(&mut self, bits: u32, added: Vec<Hashed<T>>) {
        self.bits = bits;
        let mut all = added;
        all.extend(self.slots().cloned());
        // The shards are in the order of the hashes.
        all.sort_unstable_by_key(|slot| slot.hash);
        let mut shards: Vec<Shard<T>> = vec![Shard::default(); 1 << bits];
        for slots in all.chunk_by(|one, next| self.place(one.hash) == self.place(next.hash)) {
            shards[self.place(slots[0].hash)] = slots.into();
        }
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
        assert_eq!((table.len(), shards(&table), table.chunks.len()), (10_000, 512, 8));
        let longest = table.chunks.iter().flat_map(|chunk| chunk.iter()).map(|shard| shard.len()).max();
        assert!(longest < Some(3 * FULL), "{longest:?}");
        (0..9_990).for_each(|key| assert_eq!(put(&mut table, key, None), Some(1)));
        assert!(table.len() == 10 && shards(&table) <= 2 && get(&table, 9_999) == Some(1));
    }

    #[test]
    fn values_that_are_added_at_once_are_those_that_are_added_one_by_one() {
        let mut table = Table::default();
        table.extend((0..10_000).map(|key| (key, (key, 1))));
        let mut grown = Table::default();
        (0..10_000).for_each(|key| _ = put(&mut grown, key, Some(1)));
        assert_eq!((table.bits, table.len()), (grown.bits, grown.len()));
        assert!((0..10_000).all(|key| get(&table, key) == Some(1)));
        let before = table.clone();
        table.extend((10_000..10_003).map(|key| (key, (key, 2))));
        assert_eq!((get(&table, 10_002), get(&table, 9_999), table.len()), (Some(2), Some(1), 10_003));
        let kept = before.chunks.iter().zip(&*table.chunks).filter(|(old, new)| Arc::ptr_eq(old, new)).count();
        assert!(kept >= before.chunks.len() - 3, "the rest is shared");
        table.renew(|pair| (pair.0, pair.1 + 1));
        assert_eq!((get(&table, 10_002), get(&table, 9_999), get(&before, 9_999)), (Some(3), Some(2), Some(1)));
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
                for hash in [0, 1, u32::MAX].into_iter().chain((0..600).map(|key: u16| table.hash(key))) {
                    let (shard, first) = table.search(hash);
                    prop_assert_eq!(first, shard.partition_point(|slot| slot.hash < hash));
                }
            }
        }
    }
}
