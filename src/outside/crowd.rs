//! Bounded numbers of waiting items. One tenant with many items takes no place from other tenants.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard},
};

/// Waiting items, counted per key. The key names the tenant that an item belongs to.
pub struct Crowd<K> {
    each: usize,
    all: usize,
    waiting: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Clone + Eq + Hash> Crowd<K> {
    /// An empty crowd. At most `each` items of one key, and at most `all` items in total, may wait.
    pub fn new(each: usize, all: usize) -> Self {
        Self { each, all, waiting: Arc::default() }
    }

    /// The number of taken places.
    pub fn taken(&self) -> usize {
        lock(&self.waiting).values().sum()
    }

    /// Takes a place for an item of `key`. `None` if a limit is reached.
    pub fn take(&self, key: K) -> Option<Seat<K>> {
        let mut waiting = lock(&self.waiting);
        if waiting.values().sum::<usize>() >= self.all {
            return None;
        }
        let taken = waiting.entry(key.clone()).or_default();
        if *taken >= self.each {
            return None;
        }
        *taken += 1;
        Some(Seat { waiting: self.waiting.clone(), key })
    }
}

/// A taken place. Dropping the seat frees the place.
pub struct Seat<K: Eq + Hash> {
    waiting: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.waiting);
        let Some(taken) = waiting.get_mut(&self.key) else { return };
        *taken -= 1;
        if *taken == 0 {
            waiting.remove(&self.key);
        }
    }
}

fn lock<K>(waiting: &Mutex<HashMap<K, usize>>) -> MutexGuard<'_, HashMap<K, usize>> {
    waiting.lock().expect("nobody panics here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_takes_no_place_of_another() {
        let crowd = Crowd::new(4, 10);
        let places: Vec<_> = (0..4).map(|_| crowd.take("x").unwrap()).collect();
        assert!(crowd.take("x").is_none());
        assert!(crowd.take("y").is_some());
        drop(places);
        assert!(lock(&crowd.waiting).is_empty());
        let all: Vec<_> = (0..20).filter_map(|nth| crowd.take(["a", "b", "c", "d", "e"][nth / 4])).collect();
        assert_eq!((all.len(), crowd.taken()), (10, 10));
        assert!(crowd.take("z").is_none(), "there is an end to all of them together");
    }
}
