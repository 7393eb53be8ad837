//! The index, and the notification of its changes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::{
    index::{Index, Indexed, Key, Pools, Reduced, TokenEntry},
    usage::Usage,
};
use crate::{
    outside::{metrics::Metrics, watch::Listed},
    token::Id,
};

/// The index, and the notification of its changes. The feed fills the index. Only the door judges requests by it.
///
/// Readers take no lock. Each change makes a new index, which shares all but a few parts with the one before, and swaps
/// it in at once. So a reader never sees half of a change.
pub struct Known {
    index: ArcSwap<Index>,
    /// Held while a new index is made.
    writing: Mutex<()>,
    /// The number of changes so far.
    changes: watch::Sender<u64>,
    /// The kinds whose first list was not read yet.
    unread: watch::Sender<BTreeSet<String>>,
    /// Their number, which every request reads.
    unread_kinds: AtomicUsize,
    usage: Usage,
    metrics: Arc<Metrics>,
}

impl Known {
    /// An empty index. All these `kinds` must be read before the verifier judges a request.
    pub fn new(kinds: BTreeSet<String>, usage: Usage, metrics: Arc<Metrics>) -> Self {
        metrics.ambiguous(0);
        Self {
            index: ArcSwap::default(),
            writing: Mutex::new(()),
            changes: watch::Sender::new(0),
            unread_kinds: AtomicUsize::new(kinds.len()),
            unread: watch::Sender::new(kinds),
            usage,
            metrics,
        }
    }

    /// The index as it is now. It stays as it is while the caller holds it.
    pub fn index(&self) -> Guard<Arc<Index>> {
        self.index.load()
    }

    /// The values that entries share. With them, an object can be reduced without the index.
    pub fn pools(&self) -> Arc<Pools> {
        self.index().pools()
    }

    /// Notifies the receiver of every change of the index from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes the index. If `change` returns true, waiting requests look at the index again.
    pub fn learn(&self, change: impl FnOnce(&mut Index) -> bool) {
        let writing = self.writing.lock().expect("no change panics");
        let before = self.index.load_full();
        let mut after = Index::clone(&before);
        let changed = change(&mut after);
        self.tell_ambiguous(&before, &after);
        self.index.store(Arc::new(after));
        drop(writing);
        if changed {
            self.changes.send_modify(|version| *version += 1);
        }
    }

    /// Logs each id that several tokens have since this change, and sets the metric.
    fn tell_ambiguous(&self, before: &Index, after: &Index) {
        if before.ambiguous() == after.ambiguous() {
            return;
        }
        self.metrics.ambiguous(after.ambiguous().len());
        let new = |id: &&Id| !before.ambiguous().contains(*id);
        for &id in after.ambiguous().iter().filter(new) {
            let tokens = after.by_id(id).map(|held| format!("{}/{}", held.key.namespace, held.key.name));
            let mut tokens: Vec<_> = tokens.collect();
            tokens.sort_unstable();
            tracing::warn!(
                %id,
                tokens = tokens.join(", "),
                "several ApiTokens have a record of the same id, so its value is refused; delete the one that is a copy"
            );
        }
    }

    /// Forgets an object that was deleted at this version, and the noted uses of it.
    pub fn forget<K: Indexed>(&self, key: Key, version: u64) {
        self.learn(|index| index.forget::<K>(key.clone(), version));
        if K::USED && self.index().token(&key).is_none() {
            self.usage.forget(&key);
        }
    }

    /// Replaces all objects of a kind ([`Index::relist`]), and forgets the uses of tokens that no longer exist.
    pub fn relist<K: Indexed>(&self, objects: Vec<Reduced<K>>, doubted: &BTreeSet<Key>, list: Listed) {
        self.learn(|index| index.relist(objects, doubted, list));
        if K::USED {
            let index = self.index();
            self.usage.retain(|key| index.token(key).is_some());
        }
    }

    /// Marks a kind as read, after its first list.
    pub fn mark_read(&self, kind: &str) {
        self.unread.send_modify(|unread| {
            unread.remove(kind);
            self.unread_kinds.store(unread.len(), Ordering::Release);
        });
    }

    /// The number of kinds that were not read yet.
    pub fn unread(&self) -> usize {
        self.unread_kinds.load(Ordering::Acquire)
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
        look(&self.index().token(token)?.entry)
    }

    /// The uses of tokens.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }
}
