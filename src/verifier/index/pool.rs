//! Shared copies of values that many entries have in common.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::Hash,
    sync::{Arc, Mutex},
};

/// The lowest number of values at which unused values are removed.
const FEW: usize = 64;

/// A pool of shared values. Each value is in it once.
pub(crate) struct Pool<T: ?Sized>(Mutex<Copies<T>>);

struct Copies<T: ?Sized> {
    all: HashSet<Arc<T>>,
    /// The number of values at which unused values are removed. It is twice the number of values that were left after
    /// the last removal. So removals cost little for each added value.
    most: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::new(Copies { all: HashSet::new(), most: FEW }))
    }
}

impl<T: Eq + Hash + ?Sized> Pool<T> {
    /// The shared copy of a value.
    pub(crate) fn share<V: Borrow<T> + Into<Arc<T>>>(&self, value: V) -> Arc<T> {
        let mut values = self.0.lock().expect("nobody panics here");
        if let Some(known) = values.all.get(value.borrow()) {
            return known.clone();
        }
        if values.all.len() >= values.most {
            values.all.retain(|known| Arc::strong_count(known) > 1);
            values.most = FEW.max(2 * values.all.len());
        }
        let shared: Arc<T> = value.into();
        values.all.insert(shared.clone());
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one() {
        let pool = Pool::<str>::default();
        let (one, other) = (pool.share("a"), pool.share("a".to_owned()));
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!((&*one, &*pool.share("b")), ("a", "b"));
    }

    #[test]
    fn values_that_nobody_uses_any_more_go() {
        let pool = Pool::<str>::default();
        let used: Vec<_> = (0..FEW).map(|n| pool.share(format!("used {n}"))).collect();
        (0..10_000).for_each(|n| drop(pool.share(n.to_string())));
        let held = pool.0.lock().unwrap().all.len();
        assert!(held <= 2 * used.len() && used.iter().all(|value| Arc::strong_count(value) == 2), "{held}");
    }
}
