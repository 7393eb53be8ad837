//! One watcher and one store per kind, shared by all readers.

use std::{
    collections::HashSet,
    ops::Deref,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt, pin_mut, stream::BoxStream};
use kube::runtime::watcher::Event;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::{
    store::{KeysOf, Store},
    stored::Stored,
    watch::{Heard, Object, Unread},
};

/// The objects of one kind, as the watch last reported them.
///
/// The cache may be stale. A stale cache is good enough for the decision to do nothing. A repair is decided from a live
/// read.
pub struct Cache<K: Object> {
    store: Store<K>,
    feed: Mutex<Option<BoxStream<'static, Heard<K>>>>,
    listeners: Mutex<Vec<Listener<K>>>,
    synced: watch::Sender<bool>,
    is_news: IsNews<K>,
}

/// True if listeners are notified of a change from the first object to the second.
type IsNews<K> = fn(&K, &K) -> bool;

/// A listener, and the changes that it is notified of.
struct Listener<K> {
    tell: mpsc::UnboundedSender<Stored<K>>,
    is_news: IsNews<K>,
}

impl<K: Object> Deref for Cache<K> {
    type Target = Store<K>;

    fn deref(&self) -> &Store<K> {
        &self.store
    }
}

impl<K: Object> Cache<K> {
    /// A cache that [`Cache::run`] fills from `events`. Its objects are looked up by name.
    pub fn by_name(events: impl Stream<Item = Heard<K>> + Send + 'static) -> Self {
        Self::new(events, |_, _| {})
    }

    /// A cache that [`Cache::run`] fills from `events`. Its objects are looked up by name, and by the keys that
    /// `keys_of` adds.
    pub fn new(events: impl Stream<Item = Heard<K>> + Send + 'static, keys_of: KeysOf<K>) -> Self {
        Self {
            store: Store::new(keys_of),
            feed: Mutex::new(Some(events.boxed())),
            listeners: Mutex::default(),
            synced: watch::Sender::new(false),
            is_news: |_, _| true,
        }
    }

    /// A cache of a kind that this process does not watch. It is synced and stays empty.
    pub fn unwatched() -> Self {
        let nothing = [Event::Init, Event::InitDone].map(Heard::Event);
        Self::by_name(futures::stream::iter(nothing).chain(futures::stream::pending()))
    }

    /// The same cache, but it packs its objects. Use it for a kind with many objects.
    pub fn packing(self) -> Self
    where
        K: Serialize + PartialEq,
    {
        Self { store: self.store.packing(), ..self }
    }

    /// Notifies listeners only of changes for which `is_news` returns true. The cache always holds the newest object.
    pub fn telling(self, is_news: IsNews<K>) -> Self {
        Self { is_news, ..self }
    }

    /// Yields every object that is created, changed or deleted from now on, in its newest form. Deletions that were
    /// missed while a watch was broken are included.
    ///
    /// Call this before [`Cache::run`], or the first objects are missed.
    pub fn touched(&self) -> impl Stream<Item = Arc<K>> + Send + use<K> {
        self.touched_in(|_, _| true)
    }

    /// Like [`Cache::touched`], without the changes for which `is_news` returns false.
    pub fn touched_in(&self, is_news: IsNews<K>) -> impl Stream<Item = Arc<K>> + Send + use<K> {
        let (tell, mut hear) = mpsc::unbounded_channel();
        self.listeners.lock().expect("no listener panics").push(Listener { tell, is_news });
        futures::stream::poll_fn(move |context| hear.poll_recv(context)).map(|stored| stored.open())
    }

    /// Fills the cache until the stream of events ends. A list replaces the objects once the list is complete.
    pub async fn run(&self) {
        let feed = self.feed.lock().expect("no feed panics").take();
        if let Some(events) = feed {
            self.fill(events).await;
        }
    }

    /// Fills the cache from `events`, like [`Cache::run`].
    pub(super) async fn fill(&self, events: impl Stream<Item = Heard<K>>) {
        pin_mut!(events);
        let mut listed = self.store.another();
        while let Some(heard) = events.next().await {
            match heard {
                Heard::Event(Event::Apply(object)) => self.apply(Arc::new(object)),
                Heard::Event(Event::Delete(object)) => self.delete(object),
                Heard::Event(Event::Init) => listed = self.store.another(),
                Heard::Event(Event::InitApply(object)) => drop(listed.put(Arc::new(object))),
                Heard::Event(Event::InitDone) => self.list(std::mem::replace(&mut listed, self.store.another())),
                // The last readable version stays in the cache. This is safe, because a repair is decided from a live
                // read.
                Heard::Unreadable(_) => {}
                // A list replaces everything, at its end.
                Heard::Listed(_) => {}
                Heard::Gone(Unread { namespace, name, .. }) => {
                    self.get(&namespace, &name).into_iter().for_each(|known| self.delete((*known).clone()));
                }
            }
        }
    }

    /// Removes all objects and notifies listeners of each removal. The cache counts as not synced afterwards.
    pub(super) fn empty(&self) {
        self.list(self.store.another());
        self.synced.send_replace(false);
    }

    fn apply(&self, object: Arc<K>) {
        let before = self.store.put(object.clone());
        let before = before.as_deref();
        if before.is_none_or(|before| (self.is_news)(before, &object)) {
            let wanted = |is_news: IsNews<K>| before.is_none_or(|before| is_news(before, &object));
            self.tell(wanted, &[Stored::Whole(object.clone())]);
        }
    }

    fn delete(&self, object: K) {
        self.store.take(&object);
        self.tell(|_| true, &[Stored::Whole(Arc::new(object))]);
    }

    /// Replaces all objects by those of a list. An object that is not on the list was deleted while the watch was
    /// broken.
    fn list(&self, listed: Store<K>) {
        let objects = listed.stored();
        let before = self.store.replace(listed);
        let uids: HashSet<_> = objects.iter().map(Stored::uid).collect();
        let unheard = before.into_iter().filter(|stored| !uids.contains(stored.uid()));
        // The objects come in the order of the list. The order of a hash table would differ in each run.
        let touched: Vec<_> = unheard.chain(objects.iter().cloned()).collect();
        self.synced.send_replace(true);
        self.tell(|_| true, &touched);
    }

    fn tell(&self, wanted: impl Fn(IsNews<K>) -> bool, touched: &[Stored<K>]) {
        let mut listeners = self.listeners.lock().expect("no listener panics");
        let send = |listener: &Listener<K>| touched.iter().all(|stored| listener.tell.send(stored.clone()).is_ok());
        listeners.retain(|listener| !wanted(listener.is_news) || send(listener));
    }

    /// A handle for the controller that works on this kind.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        // No error is possible: `self` owns the sender.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// True once a list is complete, and false again after the cache was emptied.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;

    fn object(name: &str) -> ConfigMap {
        serde_json::from_value(serde_json::json!({"metadata": {"namespace": "a", "name": name, "uid": name}})).unwrap()
    }

    async fn names(events: Vec<Event<ConfigMap>>) -> (Cache<ConfigMap>, Vec<String>) {
        let cache = Cache::by_name(futures::stream::iter(events).map(Heard::Event)).packing();
        let touched = cache.touched();
        cache.run().await;
        cache.listeners.lock().unwrap().clear();
        let mut names: Vec<_> = touched.map(|object| object.name_any()).collect().await;
        names.sort();
        (cache, names)
    }

    #[tokio::test(start_paused = true)]
    async fn a_cache_of_a_kind_that_is_not_watched_is_synced_and_empty() {
        let cache = Cache::<ConfigMap>::unwatched();
        let filled = tokio::time::timeout(std::time::Duration::from_secs(60), cache.run()).await;
        assert!(filled.is_err(), "its task does not end");
        assert_eq!((cache.is_synced(), cache.count()), (true, 0));
    }

    #[tokio::test]
    async fn deletions_are_told() {
        let (cache, touched) = names(vec![Event::Apply(object("x")), Event::Delete(object("x"))]).await;
        assert_eq!(touched, ["x", "x"]);
        assert_eq!(cache.get("a", "x"), None);
    }

    #[tokio::test]
    async fn a_change_that_is_no_news_is_held_and_not_told() {
        let noted = |note: &str, data: &str| {
            let mut object = object("x");
            object.metadata.annotations = Some([("note".to_owned(), note.to_owned())].into());
            object.data = Some([("key".to_owned(), data.to_owned())].into());
            object
        };
        let applied = [noted("a", "1"), noted("b", "1"), noted("b", "2"), noted("c", "2")].map(Event::Apply);
        let all = applied.into_iter().chain([Event::Delete(object("x")), Event::Apply(noted("d", "2"))]);
        let cache =
            Cache::by_name(futures::stream::iter(all).map(Heard::Event)).telling(|old, new| old.data != new.data);
        let touched = cache.touched();
        cache.run().await;
        cache.listeners.lock().unwrap().clear();
        let note = |object: Arc<ConfigMap>| object.annotations().get("note").cloned().unwrap_or_default();
        assert_eq!(touched.map(note).collect::<Vec<_>>().await, ["a", "b", "", "d"]);
        assert_eq!(note(cache.get("a", "x").unwrap()), "d");
    }

    #[tokio::test]
    async fn each_listener_says_what_is_news_to_it() {
        let with = |data: &str| {
            let mut object = object("x");
            object.data = Some([("key".to_owned(), data.to_owned())].into());
            object
        };
        let all = [with("1"), with("1"), with("2")].map(Event::Apply);
        let cache = Cache::by_name(futures::stream::iter(all).map(Heard::Event));
        let (every, other) = (cache.touched(), cache.touched_in(|old, new| old.data != new.data));
        cache.run().await;
        cache.listeners.lock().unwrap().clear();
        assert_eq!((every.count().await, other.count().await), (3, 2));
    }

    #[tokio::test]
    async fn what_can_be_read_no_more_stands_until_it_is_deleted() {
        let unread = || Unread { namespace: "a".into(), name: "x".into(), version: 0 };
        let unreadable = || Heard::Unreadable(unread());
        let cache = Cache::by_name(futures::stream::iter([Heard::Event(Event::Apply(object("x"))), unreadable()]));
        cache.run().await;
        assert!(cache.get("a", "x").is_some());
        let gone = Heard::Gone(unread());
        let cache =
            Cache::by_name(futures::stream::iter([Heard::Event(Event::Apply(object("x"))), unreadable(), gone]));
        cache.run().await;
        assert!(cache.get("a", "x").is_none());
    }

    #[tokio::test]
    async fn what_vanished_while_the_watch_was_broken_is_told() {
        let relist = vec![Event::Apply(object("x")), Event::Init, Event::InitApply(object("y")), Event::InitDone];
        let (cache, touched) = names(relist).await;
        assert_eq!(touched, ["x", "x", "y"]);
        assert!(cache.get("a", "x").is_none() && cache.get("a", "y").is_some());
        assert!(cache.is_synced());
    }

    #[tokio::test]
    async fn what_is_packed_is_told_as_it_is() {
        let listed = || (0..100).map(|nth| Event::InitApply(object(&nth.to_string())));
        let all = || [Event::Init].into_iter().chain(listed()).chain([Event::InitDone]);
        let gone = [Event::Init, Event::InitApply(object("0")), Event::InitDone];
        let (cache, touched) = names(all().chain(gone).collect()).await;
        let mut wanted: Vec<_> = (0..100).chain(0..100).map(|nth| nth.to_string()).collect();
        wanted.sort();
        assert_eq!(touched, wanted, "on the first list, and then gone or on the second");
        assert_eq!(cache.all_names().len(), 1);
    }
}
