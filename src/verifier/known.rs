//! The index, and the notification of its changes.

use std::{
    collections::BTreeSet,
    sync::{Arc, RwLock, RwLockReadGuard},
};

use tokio::sync::watch;

use super::{
    index::{Index, Indexed, Key, Pools, Reduced, TokenEntry},
    usage::Usage,
};

/// The index, and the notification of its changes. The feed fills the index. Only the door judges requests by it.
pub struct Known {
    index: RwLock<Index>,
    /// The number of changes so far.
    changes: watch::Sender<u64>,
    /// The kinds whose first list was not read yet.
    unread: watch::Sender<BTreeSet<String>>,
    usage: Usage,
}

impl Known {
    /// An empty index. All these `kinds` must be read before the verifier judges a request.
    pub fn new(kinds: BTreeSet<String>, usage: Usage) -> Self {
        Self { index: RwLock::default(), changes: watch::Sender::new(0), unread: watch::Sender::new(kinds), usage }
    }

    /// The index as it is now.
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().expect("no change panics")
    }

    /// The values that entries share. With them, an object can be reduced while others read the index.
    pub fn pools(&self) -> Arc<Pools> {
        self.index().pools()
    }

    /// Notifies the receiver of every change of the index from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes the index. If `change` returns true, waiting requests look at the index again.
    pub fn learn(&self, change: impl FnOnce(&mut Index) -> bool) {
        let changed = change(&mut self.index.write().expect("no change panics"));
        if changed {
            self.changes.send_modify(|version| *version += 1);
        }
    }

    /// Forgets an object, and the noted uses of it.
    pub fn forget<K: Indexed>(&self, key: Key) {
        if K::USED {
            self.usage.forget(&key);
        }
        self.learn(|index| index.forget::<K>(key));
    }

    /// Replaces all objects of a kind ([`Index::reset`]), and forgets the uses of tokens that no longer exist.
    pub fn reset<K: Indexed>(&self, objects: Vec<Reduced<K>>, doubted: &BTreeSet<Key>) {
        self.learn(|index| index.reset(objects, doubted));
        if K::USED {
            let index = self.index();
            self.usage.retain(|key| index.token(key).is_some());
        }
    }

    /// Marks a kind as read, after its first list.
    pub fn mark_read(&self, kind: &str) {
        self.unread.send_modify(|unread| _ = unread.remove(kind));
    }

    /// The number of kinds that were not read yet.
    pub fn unread(&self) -> usize {
        self.unread.borrow().len()
    }

    /// Waits until every kind was read once.
    pub async fn until_all_is_read(&self) {
        // This cannot fail, because the sender lives in `self`.
        let _ = self.unread.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    /// An arbitrary token. `None` if there is no token.
    pub fn any_token(&self) -> Option<Key> {
        self.index().any_token().cloned()
    }

    /// The result of `look` on a token. `None` if the token does not exist.
    pub fn look_at<T>(&self, token: &Key, look: impl FnOnce(&TokenEntry) -> Option<T>) -> Option<T> {
        look(self.index().token(token)?)
    }

    /// The uses of tokens.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }
}
