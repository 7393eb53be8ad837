//! What is known: the index, and those who wait for it to change.

use std::{
    collections::BTreeSet,
    sync::{Arc, RwLock, RwLockReadGuard},
};

use tokio::sync::watch;

use super::{
    index::{Index, Indexed, Key, Pools, Reduced, TokenEntry},
    usage::Usage,
};

/// The index, and those who wait for it to change. The feed fills it; only the door judges by it.
pub struct Known {
    index: RwLock<Index>,
    /// How often it changed.
    changes: watch::Sender<u64>,
    /// The kinds of which no list was read yet.
    unread: watch::Sender<BTreeSet<String>>,
    usage: Usage,
}

impl Known {
    /// Nothing is known yet. Objects of all these `kinds` have to be read before anybody can be judged.
    pub fn new(kinds: BTreeSet<String>, usage: Usage) -> Self {
        Self { index: RwLock::default(), changes: watch::Sender::new(0), unread: watch::Sender::new(kinds), usage }
    }

    /// The index as it is now.
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().expect("no change panics")
    }

    /// What entries have in common: objects are reduced with it, while others read the index.
    pub fn pools(&self) -> Arc<Pools> {
        self.index().pools()
    }

    /// Changes of the index from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes the index; whoever waits looks again if `change` says that something changed.
    pub fn learn(&self, change: impl FnOnce(&mut Index) -> bool) {
        let changed = change(&mut self.index.write().expect("no change panics"));
        if changed {
            self.changes.send_modify(|version| *version += 1);
        }
    }

    /// Forgets an object, and what it remembers of its uses.
    pub fn forget<K: Indexed>(&self, key: Key) {
        if K::USED {
            self.usage.forget(&key);
        }
        self.learn(|index| index.forget::<K>(key));
    }

    /// Replaces all objects of a kind ([`Index::reset`]), and forgets the uses of those that there are no more.
    pub fn reset<K: Indexed>(&self, objects: Vec<Reduced<K>>, doubted: &BTreeSet<Key>) {
        self.learn(|index| index.reset(objects, doubted));
        if K::USED {
            let index = self.index();
            self.usage.retain(|key| index.token(key).is_some());
        }
    }

    /// A list of a kind was read.
    pub fn mark_read(&self, kind: &str) {
        self.unread.send_modify(|unread| _ = unread.remove(kind));
    }

    /// How many kinds have not been read yet.
    pub fn unread(&self) -> usize {
        self.unread.borrow().len()
    }

    /// Waits until everything was read once.
    pub async fn until_all_is_read(&self) {
        // The sender lives in `self`.
        let _ = self.unread.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    /// Some token.
    pub fn any_token(&self) -> Option<Key> {
        self.index().any_token().cloned()
    }

    /// What `look` makes of a token; nothing where there is no such token.
    pub fn look_at<T>(&self, token: &Key, look: impl FnOnce(&TokenEntry) -> Option<T>) -> Option<T> {
        look(self.index().token(token)?)
    }

    /// What was used.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }
}
