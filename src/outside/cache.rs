//! One watcher and one store a kind, shared by all who read it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt, pin_mut, stream::BoxStream};
use kube::{
    ResourceExt,
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher::Event,
    },
};
use tokio::sync::{mpsc, watch};

use super::watch::{Heard, Object};

/// The objects of one kind, as far as this process has heard.
///
/// What it says may be old. It is good enough to rest on; a repair is decided from a live read.
pub struct Cache<K: Object> {
    store: Store<K>,
    feed: Mutex<Option<Feed<K>>>,
    listeners: Mutex<Vec<mpsc::UnboundedSender<Arc<K>>>>,
    synced: watch::Sender<bool>,
    is_news: fn(&K, &K) -> bool,
}

/// Where the objects of a cache come from, until it runs.
type Feed<K> = (Writer<K>, BoxStream<'static, Heard<K>>);

impl<K: Object> Cache<K> {
    /// A cache that [`Cache::run`] fills from `events`.
    pub fn new(events: impl Stream<Item = Heard<K>> + Send + 'static) -> Self {
        let writer = Writer::new(());
        Self {
            store: writer.as_reader(),
            feed: Mutex::new(Some((writer, events.boxed()))),
            listeners: Mutex::default(),
            synced: watch::Sender::new(false),
            is_news: |_, _| true,
        }
    }

    /// Tells of a change only what `is_news` says yes to, of the object before and after. What it holds is the newest all the same.
    pub fn telling(self, is_news: fn(&K, &K) -> bool) -> Self {
        Self { is_news, ..self }
    }

    /// Every object that is touched from now on, in its newest form: made, changed or deleted. A deletion that was missed
    /// while a watch was broken is told as well.
    ///
    /// Call it before [`Cache::run`], or the first ones are missed.
    pub fn touched(&self) -> impl Stream<Item = Arc<K>> + Send + use<K> {
        let (tell, mut hear) = mpsc::unbounded_channel();
        self.listeners.lock().expect("no listener panics").push(tell);
        futures::stream::poll_fn(move |context| hear.poll_recv(context))
    }

    /// Fills the cache for as long as events come.
    pub async fn run(&self) {
        let Some((mut writer, events)) = self.feed.lock().expect("no feed panics").take() else { return };
        pin_mut!(events);
        while let Some(heard) = events.next().await {
            let Some(event) = self.event(heard) else { continue };
            let before = self.known_before(&event);
            writer.apply_watcher_event(&event);
            self.tell(event, before);
        }
    }

    /// What it means for the cache. Of an object that cannot be read what was known before stands: nothing is done by it that
    /// a live read would not do.
    fn event(&self, heard: Heard<K>) -> Option<Event<K>> {
        match heard {
            Heard::Event(event) => Some(event),
            Heard::Unreadable(..) => None,
            Heard::Gone(namespace, name) => self.get(&namespace, &name).map(|known| Event::Delete((*known).clone())),
        }
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// All objects that `keep` says yes to.
    pub fn filter(&self, keep: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.store.state_filter(keep)
    }

    /// A handle for the controller that works on this kind.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Waits until everything there was at the start has been read.
    pub async fn synced(&self) {
        // The sender lives in `self`. (A store's own `wait_until_ready` wakes one waiter only.)
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Whether everything there was at the start has been read.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// What the event replaces. Of a fresh list that is everything: whatever is not on it was deleted unheard.
    fn known_before(&self, event: &Event<K>) -> Vec<Arc<K>> {
        match event {
            Event::InitDone => self.store.state(),
            Event::Apply(object) => self.store.get(&ObjectRef::from_obj(object)).into_iter().collect(),
            Event::Delete(_) | Event::Init | Event::InitApply(_) => Vec::new(),
        }
    }

    fn tell(&self, event: Event<K>, before: Vec<Arc<K>>) {
        let touched: Vec<Arc<K>> = match event {
            Event::Apply(object) if before.first().is_some_and(|before| !(self.is_news)(before, &object)) => Vec::new(),
            Event::Apply(object) | Event::Delete(object) => vec![Arc::new(object)],
            Event::InitDone => {
                self.synced.send_replace(true);
                let uids = |objects: Vec<Arc<K>>| objects.into_iter().map(|object| (object.uid(), object));
                let mut touched: HashMap<_, _> = uids(before).collect();
                touched.extend(uids(self.store.state()));
                touched.into_values().collect()
            }
            Event::Init | Event::InitApply(_) => Vec::new(),
        };
        let mut listeners = self.listeners.lock().expect("no listener panics");
        listeners.retain(|listener| touched.iter().all(|object| listener.send(object.clone()).is_ok()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str) -> ConfigMap {
        serde_json::from_value(serde_json::json!({"metadata": {"namespace": "a", "name": name, "uid": name}})).unwrap()
    }

    async fn names(events: Vec<Event<ConfigMap>>) -> (Cache<ConfigMap>, Vec<String>) {
        let cache = Cache::new(futures::stream::iter(events).map(Heard::Event));
        let touched = cache.touched();
        cache.run().await;
        cache.listeners.lock().unwrap().clear();
        let mut names: Vec<_> = touched.map(|object| object.name_any()).collect().await;
        names.sort();
        (cache, names)
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
        let cache = Cache::new(futures::stream::iter(all).map(Heard::Event)).telling(|old, new| old.data != new.data);
        let touched = cache.touched();
        cache.run().await;
        cache.listeners.lock().unwrap().clear();
        let note = |object: Arc<ConfigMap>| object.annotations().get("note").cloned().unwrap_or_default();
        assert_eq!(touched.map(note).collect::<Vec<_>>().await, ["a", "b", "", "d"]);
        assert_eq!(note(cache.get("a", "x").unwrap()), "d");
    }

    #[tokio::test]
    async fn what_can_be_read_no_more_stands_until_it_is_deleted() {
        let unreadable = || Heard::Unreadable("a".into(), "x".into());
        let cache = Cache::new(futures::stream::iter([Heard::Event(Event::Apply(object("x"))), unreadable()]));
        cache.run().await;
        assert!(cache.get("a", "x").is_some());
        let gone = Heard::Gone("a".into(), "x".into());
        let cache = Cache::new(futures::stream::iter([Heard::Event(Event::Apply(object("x"))), unreadable(), gone]));
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
}
