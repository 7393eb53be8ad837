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
    index::{Doubted, Index, Indexed, Key, Pools, Reduced, TokenEntry},
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
        metrics.unread_policies(0);
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
        self.tell_unread(&before, &after);
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
            let tokens = after.by_id(id).map(|held| &held.token.key);
            let tokens = tokens.map(|Key { namespace, name }| format!("{namespace}/{name}"));
            let mut tokens: Vec<_> = tokens.collect();
            tokens.sort_unstable();
            tracing::warn!(
                %id,
                tokens = tokens.join(", "),
                "several ApiTokens have a record of the same id, so its value is refused; delete the one that is a copy"
            );
        }
    }

    /// Logs each policy that cannot be read since this change, and sets the metric.
    fn tell_unread(&self, before: &Index, after: &Index) {
        let (before, after) = (before.unread_policies(), after.unread_policies());
        if before == after {
            return;
        }
        self.metrics.unread_policies(after.len());
        for Key { namespace, name } in after.iter().filter(|policy| !before.contains(*policy)) {
            tracing::warn!(
                namespace = &**namespace,
                name = &**name,
                "an AccessPolicy cannot be read and may deny anything, so the Instances of its namespace permit nothing; \
                 correct or delete it, or upgrade the verifier"
            );
        }
    }

    /// Forgets an object that was deleted at this version, and the noted uses of it.
    pub fn forget<K: Indexed>(&self, key: Key, version: u64) {
        self.learn(|index| index.forget::<K>(key.clone(), version));
        if K::USED {
            self.settle(&key);
        }
    }

    /// Adds or replaces an object ([`Index::take`]), and forgets the noted uses that it lists.
    pub fn take<K: Indexed>(&self, object: Reduced<K>) {
        let key = K::USED.then(|| object.key().clone());
        self.learn(|index| index.take(object));
        key.iter().for_each(|key| self.settle(key));
    }

    /// Replaces all objects of a kind ([`Index::relist`]), and forgets the uses of tokens that no longer exist.
    pub fn relist<K: Indexed>(&self, objects: Vec<Reduced<K>>, doubted: &Doubted, list: Listed) {
        self.learn(|index| index.relist(objects, doubted, list));
        if K::USED {
            self.usage.tokens().iter().for_each(|key| self.settle(key));
        }
    }

    /// Forgets the noted uses of a token that the index lists, or all of them if the token is gone.
    pub(super) fn settle(&self, token: &Key) {
        let index = self.index();
        self.usage.settle(token, index.token(token).map(|held| |id| held.entry.last_used(id)));
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

    /// An arbitrary token of a namespace, or of any. `None` if there is no token.
    pub fn any_token(&self, namespace: Option<&str>) -> Option<Key> {
        self.index().any_token(namespace).cloned()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crd::{AccessPolicy, ApiToken},
        token::{Digest, format},
        verifier::{
            Category, Cause, Protocol,
            check::check,
            fixture::{LogLines, door, eem, teach, value},
        },
    };
    use serde_json::json;
    use std::{sync::atomic::AtomicBool, thread};

    fn token(name: &str, version: u64, id: &str) -> ApiToken {
        let record = json!({
            "generation": 1, "id": id, "sha256": Digest::of(value()), "state": "Active",
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2999-01-01T00:00:00Z",
        });
        serde_json::from_value(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken",
            "metadata": {"namespace": "a", "name": name, "uid": name, "resourceVersion": version.to_string()},
            "spec": {"instanceRef": {"name": "eem"}},
            "status": {"account": {"name": "x", "uid": "x"}, "records": [record]},
        }))
        .unwrap()
    }

    fn list(known: &Known, tokens: Vec<ApiToken>, version: u64) {
        let pools = known.pools();
        let listed = tokens.into_iter().map(|token| pools.reduce(token)).collect();
        known.relist::<ApiToken>(listed, &Doubted::new(), Listed { version, anew: false });
    }

    #[test]
    fn no_reader_sees_half_of_a_list() {
        let known = Known::new(BTreeSet::new(), Usage::new().0, Arc::default());
        let names: Vec<_> = (0..64).map(|n| n.to_string()).collect();
        let all = |version: u64| names.iter().map(|name| token(name, version, &format!("{name:0<16}"))).collect();
        let versions = |index: &Index| -> BTreeSet<bool> {
            names.iter().map(|name| index.token(&Key::new("a", &**name)).is_some()).collect()
        };
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut looks = 0;
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(versions(&known.index()).len(), 1, "all tokens of a list, or none");
                    looks += 1;
                }
                looks
            });
            for version in 1..60 {
                list(&known, if version % 2 == 0 { Vec::new() } else { all(version) }, version);
            }
            done.store(true, Ordering::SeqCst);
            assert!(reader.join().unwrap() > 0);
        });
        assert_eq!(versions(&known.index()), BTreeSet::from([true]));
    }

    #[test]
    fn an_index_that_a_reader_holds_stays_as_it_was() {
        let known = Known::new(BTreeSet::new(), Usage::new().0, Arc::default());
        let held = known.index();
        list(&known, vec![token("y", 3, &"i".repeat(16))], 4);
        assert!(held.any_token(None).is_none() && known.any_token(None).is_some());
        known.forget::<ApiToken>(Key::new("a", "y"), 2);
        assert!(known.any_token(None).is_some(), "old news");
        known.forget::<ApiToken>(Key::new("a", "y"), 5);
        known.learn(|index| index.apply(token("y", 3, &"i".repeat(16))));
        assert!(known.any_token(None).is_none(), "old news");
    }

    #[test]
    fn an_id_of_two_tokens_lets_neither_in_and_is_told_once() {
        let (door, lines) = (door(), LogLines::default());
        let known = door.known();
        let _log = lines.collect();
        teach(&door, &value());
        let cause = || check(&known.index(), &eem(), &value(), None, "2026-06-01T00:00:00Z".parse().unwrap()).cause;
        assert_eq!(cause(), Cause::Allowed);
        let id = format::id(&value()).unwrap().to_owned();
        (1..4).for_each(|version| known.learn(|index| index.apply(token("copy", version, &id))));
        assert_eq!((cause(), Cause::Ambiguous.category()), (Cause::Ambiguous, Category::NotAuthenticated));
        assert!(known.metrics.text().contains("tokenry_verifier_ambiguous_ids 1"));
        known.forget::<ApiToken>(Key::new("a", "copy"), 9);
        assert_eq!(cause(), Cause::Allowed);
        assert!(known.metrics.text().contains("tokenry_verifier_ambiguous_ids 0"));
        let told = lines.text();
        assert_eq!(told.matches("a/copy, a/x").count(), 1, "{told}");
        assert!(!told.contains(&value()) && !told.contains(&Digest::of(value()).to_string()), "{told}");
    }

    #[test]
    fn a_policy_of_which_nothing_is_known_refuses_all_tokens_of_its_namespace_and_is_told_once() {
        let (door, lines) = (door(), LogLines::default());
        let known = door.known();
        let _log = lines.collect();
        teach(&door, &value());
        let cause = || check(&known.index(), &eem(), &value(), None, "2026-06-01T00:00:00Z".parse().unwrap()).cause;
        let doubt = |namespace: &str| {
            let key = Key::new(namespace, "odd");
            (1..3).for_each(|version| known.learn(|index| index.doubt::<AccessPolicy>(key.clone(), version)));
        };
        doubt("b");
        assert_eq!(cause(), Cause::Allowed, "a policy of another namespace is for other Instances");
        doubt("a");
        assert_eq!((cause(), cause().category()), (Cause::PolicyUnread, Category::NotPermitted));
        assert!(cause().hint(Protocol::ForwardAuth).unwrap().contains("AccessPolicy"));
        assert!(known.metrics.text().contains("tokenry_verifier_unread_policies 2"));
        known.forget::<AccessPolicy>(Key::new("a", "odd"), 9);
        assert_eq!(cause(), Cause::Allowed);
        assert!(known.metrics.text().contains("tokenry_verifier_unread_policies 1"));
        let told = lines.text();
        assert_eq!(told.matches("cannot be read").count(), 2, "{told}");
    }
}
