//! The watch of one place: of the whole cluster, or of one namespace. It continues through every failure of the API
//! server, until its version is lost.
//!
//! kube's own watcher is not used, because it hides the resourceVersions that it has seen and the state of its
//! connection.

use std::{collections::BTreeSet, time::Duration};

use futures::{SinkExt, StreamExt, channel::mpsc::Sender, stream::BoxStream};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
    runtime::watcher::Event,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    hearing::{Ear, number},
    patience::Patience,
    readable::Readable,
    trouble::Trouble,
    watch::{Heard, Object, Unread, version},
};

/// Number of objects per page of a list.
const PAGE: u32 = 500;
/// Timeout of a page of a list. It is longer than the maximum silence of a watch, because a busy server is slow with
/// many objects.
const LIST: Duration = Duration::from_secs(60);
/// A refusal of a watch arrives within this time.
const REFUSAL: Duration = Duration::from_secs(1);

/// A watch that lasted longer than this was not refused.
const STOOD: Duration = Duration::from_secs(2);

/// The version from which a watch first reports the state of all its objects.
const ANY: &str = "0";

/// A selection of the objects of a kind.
#[derive(Clone, Debug)]
pub(super) enum Selection {
    /// All objects.
    All,
    /// The objects that a field selector selects.
    Fields(String),
    /// The objects that a label selector selects.
    Labels(String),
    /// The namespace with this name. A Role in that namespace permits to read and to watch it by its name. Only a
    /// ClusterRole permits to list it.
    Namespace(String),
}

impl Selection {
    fn list(&self) -> ListParams {
        match self {
            Self::All | Self::Namespace(_) => ListParams::default(),
            Self::Fields(fields) => ListParams::default().fields(fields),
            Self::Labels(labels) => ListParams::default().labels(labels),
        }
    }

    fn watch(&self) -> WatchParams {
        match self {
            Self::All | Self::Namespace(_) => WatchParams::default(),
            Self::Fields(fields) => WatchParams::default().fields(fields),
            Self::Labels(labels) => WatchParams::default().labels(labels),
        }
    }
}

/// The objects of a kind that one request can list and watch.
pub(super) struct WatchPlace<K> {
    pub api: Api<Readable<K>>,
    pub selection: Selection,
    /// The namespace of the objects, for messages. `None`: all namespaces.
    pub namespace: Option<String>,
}

/// The watch of one place and its state.
pub(super) struct Follower<K: Object> {
    place: WatchPlace<K>,
    ear: Ear,
    patience: Patience,
    trouble: Trouble<K>,
    /// The resourceVersion up to which all changes were told. `None` if everything has to be listed.
    version: Option<String>,
    /// The namespaces and names of the objects that were told. `None`: the next list of all places replaces them.
    told: Option<BTreeSet<(String, String)>>,
}

/// A page of a list.
struct WatchPage<K> {
    items: Vec<Readable<K>>,
    /// The token of the next page.
    next: Option<String>,
    version: String,
}

type Item<K> = kube::Result<WatchEvent<Readable<K>>>;

impl<K: Object> Follower<K> {
    /// A watch that has listed nothing yet, and reports its state to `ear`. If it is not `alone`, it can be listed
    /// again without the other places.
    pub(super) fn new(place: WatchPlace<K>, ear: Ear, alone: bool) -> Self {
        let (trouble, told) = (Trouble::new(place.namespace.as_deref()), (!alone).then(BTreeSet::new));
        Self { place, ear, patience: Patience::default(), trouble, version: None, told }
    }

    /// Resets the retry delay, because a server that has come back may refuse at first.
    pub(super) fn take_heart(&mut self) {
        self.patience = Patience::default();
    }

    /// Tells all objects as a part of the list of all places. Returns the resourceVersion of the list, or `None` after
    /// a failure.
    pub(super) async fn list(&mut self, tell: &mut Sender<Heard<K>>) -> Option<String> {
        self.told.iter_mut().for_each(BTreeSet::clear);
        self.read_all(Event::InitApply, tell).await.map(|(version, _)| version)
    }

    /// Tells all changes from the last version on, until that version is lost. If this place is not alone, it is then
    /// listed again, and this never returns.
    pub(super) async fn follow(&mut self, mut tell: Sender<Heard<K>>) {
        loop {
            while let Some(version) = self.version.clone() {
                self.listen(&version, &mut tell).await;
            }
            if self.told.is_none() {
                return;
            }
            self.catch_up(&mut tell).await;
        }
    }

    /// Tells the difference to the objects that were told: all present ones as changed, and the others as deleted.
    async fn catch_up(&mut self, tell: &mut Sender<Heard<K>>) {
        let Some((version, present)) = self.read_all(Event::Apply, tell).await else { return };
        let told = self.told.iter().flatten();
        let gone: Vec<_> = told.filter(|name| !present.contains(name)).cloned().collect();
        for name in gone {
            let (namespace, object) = name.clone();
            let version = number(&version).unwrap_or_default();
            say(tell, Heard::Gone(Unread { namespace, name: object, version })).await;
            self.told.iter_mut().for_each(|told| _ = told.remove(&name));
        }
        self.has_listed(version);
    }

    /// Tells all objects by `event`. Returns the resourceVersion of the list and the names of the objects, or `None`
    /// after a failure.
    async fn read_all(
        &mut self,
        event: fn(K) -> Event<K>,
        tell: &mut Sender<Heard<K>>,
    ) -> Option<(String, BTreeSet<(String, String)>)> {
        let (mut page, mut present) = (self.place.selection.list().limit(PAGE), BTreeSet::new());
        loop {
            let WatchPage { items, next, version } = self.read(&page).await?;
            self.ear.answered();
            for item in items {
                if let Some(told) = &mut self.told {
                    told.insert(named(&item));
                    present.insert(named(&item));
                }
                say(tell, heard(item, event, Heard::Unreadable)).await;
            }
            let Some(token) = next else { return Some((version, present)) };
            page = page.continue_token(&token);
        }
    }

    /// Records that all objects of a list of this version were told. Only a watch shows that it is permitted, too.
    pub(super) fn has_listed(&mut self, version: String) {
        self.ear.heard(&version);
        self.version = Some(version);
    }

    /// Records that the place can be watched.
    fn is_well(&mut self) {
        self.patience = Patience::default();
        self.trouble.is_over();
    }

    /// Records that all changes up to `version` were told.
    fn has_heard(&mut self, version: String) {
        self.is_well();
        self.has_listed(version);
    }

    /// Tells the events of one watch from `version` on, until it ends or fails.
    async fn listen(&mut self, version: &str, tell: &mut Sender<Heard<K>>) {
        let params = self.place.selection.watch().timeout(self.ear.lasts().as_secs().try_into().unwrap_or(u32::MAX));
        let since = Instant::now();
        let mut events = match in_time(self.ear.silent(), events(&self.place, &params, version)).await {
            Ok(events) => events,
            Err(error) => return self.fail(&error).await,
        };
        // If neither an event nor a refusal comes in time, the watch counts as open.
        let mut first = timeout(REFUSAL, events.next()).await.ok();
        if first.is_none() {
            self.ear.opened();
            self.is_well();
        }
        loop {
            let item = match first.take() {
                Some(item) => Ok(item),
                None => timeout(self.ear.silent(), events.next()).await,
            };
            let goes_on = match item {
                Ok(item) => self.hear(item, since, tell).await,
                Err(_) => return self.fail(&silence()).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Handles one item of a watch that began at `since`. False: the watch is over.
    async fn hear(&mut self, item: Option<Item<K>>, since: Instant, tell: &mut Sender<Heard<K>>) -> bool {
        let (version, told) = match item {
            Some(Ok(WatchEvent::Added(read) | WatchEvent::Modified(read))) => {
                self.told.iter_mut().for_each(|told| _ = told.insert(named(&read)));
                (read.resource_version(), Some(heard(read, Event::Apply, Heard::Unreadable)))
            }
            Some(Ok(WatchEvent::Deleted(read))) => {
                (read.resource_version(), Some(heard(read, Event::Delete, Heard::Gone)))
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => (Some(bookmark.metadata.resource_version), None),
            Some(Ok(WatchEvent::Error(status))) => {
                self.fail(&kube::Error::Api(status)).await;
                return false;
            }
            Some(Err(error)) => {
                self.stood(since.elapsed());
                self.fail(&error).await;
                return false;
            }
            None => {
                self.ended(since.elapsed()).await;
                return false;
            }
        };
        // The version follows the event. A call in between starts the watch again, and then the event comes again.
        if let Some(told) = told {
            say(tell, told).await;
        }
        version.into_iter().for_each(|version| self.has_heard(version));
        true
    }

    /// Resets the retry delay after a watch that lasted a while. Proxies cut silent watches, and such a watch is
    /// started again soon.
    fn stood(&mut self, lasted: Duration) {
        if lasted > STOOD {
            self.patience = Patience::default();
        }
    }

    /// Handles the end of a watch. A watch that ended in time has reported all changes until then. A watch that was cut
    /// off is started again after a delay.
    async fn ended(&mut self, after: Duration) {
        self.stood(after);
        match self.version.clone() {
            Some(version) if after >= self.ear.lasts() => self.has_heard(version),
            _ => sleep(self.patience.next()).await,
        }
    }

    /// Reads a page of the list. `None` after a failure.
    async fn read(&mut self, page: &ListParams) -> Option<WatchPage<K>> {
        match in_time(LIST, read(&self.place, page)).await {
            Ok(read) => Some(read),
            Err(error) => {
                self.fail(&error).await;
                None
            }
        }
    }

    /// Logs a failure and waits. If the version is lost, or an event cannot be parsed, everything is listed again.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the client library, which grows")]
    async fn fail(&mut self, error: &kube::Error) {
        self.ear.failed(error);
        self.trouble.say(error);
        match error {
            // The next list shows all changes that were missed during the refusal.
            kube::Error::Api(status) if [401, 403, 410].contains(&status.code) => self.version = None,
            kube::Error::SerdeError(_) => self.version = None,
            _ => {}
        }
        sleep(self.patience.next()).await;
    }
}

/// The namespace and the name of an object.
fn named(object: &impl Resource) -> (String, String) {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Tells a report. Nobody listens after the end of the stream, which also ends this watch.
pub(super) async fn say<K>(tell: &mut Sender<Heard<K>>, heard: Heard<K>) {
    let _ = tell.feed(heard).await;
}

/// The events of a place from a version on.
async fn events<K: Object>(
    WatchPlace { api, selection, .. }: &WatchPlace<K>,
    params: &WatchParams,
    version: &str,
) -> kube::Result<BoxStream<'static, Item<K>>> {
    let Selection::Namespace(name) = selection else {
        return Ok(api.watch(params, version).await?.boxed());
    };
    let request = kube::core::Request::new(format!("/api/v1/watch/namespaces/{name}"));
    let request = request.watch(params, version).map_err(kube::Error::BuildRequest)?;
    Ok(api.clone().into_client().request_events(request).await?.boxed())
}

/// A page of the list of a place. The version of a namespace can be too old for a watch, so its watch begins anywhere.
async fn read<K: Object>(
    WatchPlace { api, selection, .. }: &WatchPlace<K>,
    page: &ListParams,
) -> kube::Result<WatchPage<K>> {
    if let Selection::Namespace(name) = selection {
        let items = api.get_opt(name).await?.into_iter().collect();
        return Ok(WatchPage { items, next: None, version: ANY.to_owned() });
    }
    let list = api.list(page).await?;
    let next = list.metadata.continue_.filter(|token| !token.is_empty());
    Ok(WatchPage { items: list.items, next, version: list.metadata.resource_version.unwrap_or_default() })
}

/// The answer to a request, or an error after `limit`.
async fn in_time<T>(limit: Duration, asked: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    timeout(limit, asked).await.unwrap_or_else(|_| Err(silence()))
}

fn silence() -> kube::Error {
    kube::Error::Service("nothing was received within the time limit".into())
}

/// The event, or a report that its object cannot be parsed.
fn heard<K: Object>(read: Readable<K>, event: fn(K) -> Event<K>, unreadable: fn(Unread) -> Heard<K>) -> Heard<K> {
    let ((namespace, name), version) = (named(&read), version(&read));
    read.object.map(|object| Heard::Event(event(object))).unwrap_or_else(|| {
        tracing::warn!(kind = %K::kind(&()), %namespace, %name, "cannot read this object");
        unreadable(Unread { namespace, name, version })
    })
}
