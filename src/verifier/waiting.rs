//! Places for those who wait for news.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard},
};

use super::index::Key;

/// Requests that may wait at the same time for each Instance: ids can be made up, and who makes them up for one Instance keeps
/// nobody from waiting at another.
pub const EACH: usize = 64;

/// And for all of them: fewer than callers can be connected, so that those who wait leave connections to others.
const ALL: usize = 256;

/// Those who wait, by Instance.
#[derive(Default)]
pub struct Waiting(Mutex<HashMap<Key, usize>>);

impl Waiting {
    /// A place, where there is one. `instance` is one that is known; those that are not share theirs, as names can be made up too.
    pub fn take(&self, instance: Option<&Key>) -> Option<Place<'_>> {
        let key = instance.cloned().unwrap_or_else(|| Key { namespace: String::new(), name: String::new() });
        let mut all = self.lock();
        if all.values().sum::<usize>() >= ALL {
            return None;
        }
        let taken = all.entry(key.clone()).or_default();
        if *taken >= EACH {
            return None;
        }
        *taken += 1;
        Some(Place { waiting: self, key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.0.lock().expect("nobody panics here")
    }
}

/// A place that is taken; dropped, it is free again.
pub struct Place<'a> {
    waiting: &'a Waiting,
    key: Key,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.waiting.lock().entry(self.key.clone()) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_at_one_instance_takes_no_place_of_another() {
        let waiting = Waiting::default();
        let key = |name: &str| Key { namespace: "a".into(), name: name.into() };
        let places: Vec<_> = (0..EACH).map(|_| waiting.take(Some(&key("x"))).unwrap()).collect();
        assert!(waiting.take(Some(&key("x"))).is_none());
        assert!(waiting.take(Some(&key("y"))).is_some() && waiting.take(None).is_some());
        drop(places);
        assert!(waiting.lock().is_empty());
        let all: Vec<_> = (0..ALL).filter_map(|n| waiting.take(Some(&key(&(n / EACH).to_string())))).collect();
        assert_eq!(all.len(), ALL);
        assert!(waiting.take(Some(&key("z"))).is_none(), "those who wait leave connections to others");
    }
}
