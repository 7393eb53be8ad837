//! One endless stream of events per kind. The stream continues through every failure of the API server.
//!
//! ```text
//! ┌▶ away ─▶ listing ─▶ listening ─┐
//! └──────── ends, fails ◀──────────┘     a lost version or a new history starts a new list
//! ```
//!
//! kube's own watcher is not used, because it hides the resourceVersions that it has seen and the state of its
//! connection.

use std::{collections::VecDeque, fmt::Debug, mem, time::Duration};

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
    core::PartialObjectMeta,
    runtime::watcher::Event,
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::{
    hearing::{Called, Calls, Ear, Hearing, number},
    patience::Patience,
    readable::Readable,
    trouble::Trouble,
};

/// The metadata of a namespace. It holds the labels, and a deletion timestamp while the namespace is being deleted.
pub type NamespaceMeta = PartialObjectMeta<Namespace>;

/// The metadata of a core ServiceAccount.
pub type CoreAccount = PartialObjectMeta<ServiceAccount>;

/// A kind that can be watched.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Object for K {}

/// Number of objects per page of a list.
const PAGE: u32 = 500;
/// Timeout of a page of a list. It is longer than the maximum silence of a watch, because a busy server is slow with
/// many objects.
const LIST: Duration = Duration::from_secs(60);
/// A refusal of a watch arrives within this time.
const REFUSAL: Duration = Duration::from_secs(1);

/// A watch that lasted longer than this was not refused.
const STOOD: Duration = Duration::from_secs(2);

/// A report about the objects of a kind.
#[derive(Debug)]
pub enum Heard<K> {
    /// An event about objects that can be parsed. Lists leave out objects that cannot be parsed.
    Event(Event<K>),
    /// An object was created, changed or listed, and cannot be parsed.
    Unreadable(Unread),
    /// An object that cannot be parsed was deleted.
    Gone(Unread),
    /// The last page of a list was read. Its objects follow, and then [`Event::InitDone`].
    Listed(Listed),
}

/// An object that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Its namespace. Empty if the kind has no namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The number of its resourceVersion, or 0.
    pub version: u64,
}

/// A complete list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The number of its resourceVersion, or 0. The list has every change up to that version.
    pub version: u64,
    /// True if the list begins a history: it is the first one, or the server's data may have been restored since the
    /// last one. Its versions may be lower than earlier ones.
    pub anew: bool,
}

/// The number of an object's resourceVersion, or 0. Newer versions of a kind have higher numbers (KEP-5504).
pub fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(number).unwrap_or_default()
}

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

/// The version from which a watch first reports the state of all its objects.
const ANY: &str = "0";

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

/// A page of a list.
struct WatchPage<K> {
    items: Vec<Readable<K>>,
    /// The token of the next page.
    next: Option<String>,
    version: String,
}

/// Watches the objects of a selection. Failures are logged and retried with a growing delay. The stream never ends.
pub(super) fn watch<K: Object>(
    api: Api<Readable<K>>,
    selection: Selection,
    hearing: &Hearing,
) -> impl Stream<Item = Heard<K>> + Send + use<K> {
    let watch = Watch {
        api,
        selection,
        ear: hearing.ear::<K>(),
        patience: Patience::default(),
        trouble: Trouble::default(),
        version: None,
        anew: true,
        state: Phase::Away,
    };
    stream::unfold((watch, hearing.calls()), async |(mut watch, mut calls)| {
        Some((watch.next(&mut calls).await, (watch, calls)))
    })
}

/// A watch and its state.
struct Watch<K: Object> {
    api: Api<Readable<K>>,
    selection: Selection,
    ear: Ear,
    patience: Patience,
    trouble: Trouble<K>,
    /// The resourceVersion up to which all changes were received. `None` if everything has to be listed.
    version: Option<String>,
    /// True if the next complete list begins a history.
    anew: bool,
    state: Phase<K>,
}

enum Phase<K> {
    /// No request is in progress.
    Away,
    /// A list is being read.
    Listing(Listing<K>),
    /// Events are being received.
    Listening(Incoming<K>),
}

struct Listing<K> {
    /// The next page, if there is one.
    page: Option<ListParams>,
    /// Objects that were read and are not reported yet.
    read: VecDeque<Readable<K>>,
    /// The resourceVersion of the list.
    version: String,
}

struct Incoming<K> {
    stream: BoxStream<'static, Item<K>>,
    /// Start of the watch.
    since: Instant,
}

type Item<K> = kube::Result<WatchEvent<Readable<K>>>;

impl<K: Object> Watch<K> {
    /// The next report. A call aborts the request in progress, because the request may hang or return outdated objects.
    async fn next(&mut self, calls: &mut Calls) -> Heard<K> {
        loop {
            tokio::select! {
                biased;
                called = calls.next() => self.heed(called),
                heard = self.step() => if let Some(heard) = heard { return heard },
            }
        }
    }

    async fn step(&mut self) -> Option<Heard<K>> {
        match mem::replace(&mut self.state, Phase::Away) {
            Phase::Away => self.begin().await,
            Phase::Listing(listing) => self.list(listing).await,
            Phase::Listening(events) => self.listen(events).await,
        }
    }

    /// Starts a watch from the last version. Without a version, starts a list.
    async fn begin(&mut self) -> Option<Heard<K>> {
        let Some(version) = self.version.clone() else {
            let page = self.selection.list().limit(PAGE);
            self.state = Phase::Listing(Listing { page: Some(page), read: VecDeque::new(), version: String::new() });
            return Some(Heard::Event(Event::Init));
        };
        let params = self.selection.watch().timeout(self.ear.lasts().as_secs().try_into().unwrap_or(u32::MAX));
        let since = Instant::now();
        match in_time(self.ear.silent(), events(&self.api, &self.selection, &params, &version)).await {
            Ok(stream) => self.open(Incoming { stream, since }).await,
            Err(error) => self.fail(&error).await,
        }
    }

    /// Reports one more object of a list, reads the next page, or reports the end of the list.
    async fn list(&mut self, mut listing: Listing<K>) -> Option<Heard<K>> {
        if let Some(read) = listing.read.pop_front() {
            self.state = Phase::Listing(listing);
            return Some(heard(read, Event::InitApply, Heard::Unreadable));
        }
        let Some(page) = listing.page.take() else {
            self.has_heard(listing.version);
            self.anew = false;
            return Some(Heard::Event(Event::InitDone));
        };
        match in_time(LIST, read(&self.api, &self.selection, &page)).await {
            Ok(read) => {
                listing.page = read.next.map(|token| page.continue_token(&token));
                listing.version = read.version;
                listing.read = read.items.into();
                let listed = Listed { version: number(&listing.version).unwrap_or_default(), anew: self.anew };
                let is_last = listing.page.is_none();
                self.state = Phase::Listing(listing);
                is_last.then_some(Heard::Listed(listed))
            }
            Err(error) => self.fail(&error).await,
        }
    }

    /// Waits for the first event of a watch, or for its refusal. If neither comes in time, the watch counts as open.
    async fn open(&mut self, mut events: Incoming<K>) -> Option<Heard<K>> {
        if let Ok(first) = timeout(REFUSAL, events.stream.next()).await {
            return self.hear(first, events).await;
        }
        self.ear.opened();
        self.state = Phase::Listening(events);
        None
    }

    async fn listen(&mut self, mut events: Incoming<K>) -> Option<Heard<K>> {
        match timeout(self.ear.silent(), events.stream.next()).await {
            Ok(item) => self.hear(item, events).await,
            Err(_) => self.fail(&silence()).await,
        }
    }

    /// Handles one item of a watch.
    async fn hear(&mut self, item: Option<Item<K>>, events: Incoming<K>) -> Option<Heard<K>> {
        let (version, told) = match item {
            Some(Ok(WatchEvent::Added(read) | WatchEvent::Modified(read))) => {
                (read.resource_version(), Some(heard(read, Event::Apply, Heard::Unreadable)))
            }
            Some(Ok(WatchEvent::Deleted(read))) => {
                (read.resource_version(), Some(heard(read, Event::Delete, Heard::Gone)))
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => (Some(bookmark.metadata.resource_version), None),
            Some(Ok(WatchEvent::Error(status))) => return self.fail(&kube::Error::Api(status)).await,
            Some(Err(error)) => {
                self.stood(events.since.elapsed());
                return self.fail(&error).await;
            }
            None => return self.ended(events.since.elapsed()).await,
        };
        self.state = Phase::Listening(events);
        version.into_iter().for_each(|version| self.has_heard(version));
        told
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
    async fn ended(&mut self, after: Duration) -> Option<Heard<K>> {
        self.stood(after);
        match self.version.clone() {
            Some(version) if after >= self.ear.lasts() => self.has_heard(version),
            _ => sleep(self.patience.next()).await,
        }
        None
    }

    /// Records that all changes up to `version` were received.
    fn has_heard(&mut self, version: String) {
        self.ear.heard(&version);
        self.patience = Patience::default();
        self.trouble.is_over();
        self.version = Some(version);
    }

    /// Logs a failure and waits. If the version is lost, or an event cannot be parsed, everything is listed again.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the client library, which grows")]
    async fn fail(&mut self, error: &kube::Error) -> Option<Heard<K>> {
        self.ear.failed(error);
        self.trouble.say(error);
        match error {
            // The next list shows all changes that were missed during the refusal.
            kube::Error::Api(status) if [401, 403, 410].contains(&status.code) => self.version = None,
            kube::Error::SerdeError(_) => self.version = None,
            _ => {}
        }
        sleep(self.patience.next()).await;
        None
    }

    /// Starts again from the last version, or with a new list. The retry delay is reset, because a server that has come
    /// back may refuse at first.
    fn heed(&mut self, called: Called) {
        self.state = Phase::Away;
        self.patience = Patience::default();
        if called == Called::Anew {
            (self.version, self.anew) = (None, true);
        }
    }
}

/// The events of a selection from a version on.
async fn events<K: Object>(
    api: &Api<Readable<K>>,
    selection: &Selection,
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

/// A page of the list of a selection. The version of a namespace can be too old for a watch, so its watch begins
/// anywhere.
async fn read<K: Object>(
    api: &Api<Readable<K>>,
    selection: &Selection,
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
    let (meta, version) = (read.meta(), version(&read));
    let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    read.object.map(|object| Heard::Event(event(object))).unwrap_or_else(|| {
        tracing::warn!(kind = %K::kind(&()), %namespace, %name, "cannot read this object");
        unreadable(Unread { namespace, name, version })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::ApiToken;
    use futures::{future, pin_mut};
    use http::Response;
    use kube::{Client, client::Body};
    use std::{
        convert::Infallible,
        io,
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
    };

    /// A server without objects, which never answers its first request.
    fn hanging() -> Client {
        let hangs = AtomicBool::new(true);
        Client::new(
            tower::service_fn(move |_: http::Request<Body>| {
                let hangs = hangs.swap(false, Ordering::SeqCst);
                let list = r#"{"metadata": {"resourceVersion": "7"}, "items": []}"#;
                async move {
                    if hangs {
                        future::pending::<()>().await;
                    }
                    Ok::<_, Infallible>(Response::new(Body::from(list.as_bytes().to_vec())))
                }
            }),
            "a",
        )
    }

    /// A server without objects, which cuts each watch after 20 seconds of silence. The counter counts its watch
    /// requests.
    fn cutting() -> (Client, Arc<AtomicUsize>) {
        let watches = Arc::new(AtomicUsize::new(0));
        let counted = watches.clone();
        let serve = move |request: http::Request<Body>| {
            let list = stream::iter([Ok::<_, io::Error>(r#"{"metadata": {"resourceVersion": "7"}, "items": []}"#)]);
            let body = if request.uri().query().unwrap_or_default().contains("watch=true") {
                counted.fetch_add(1, Ordering::SeqCst);
                let cut = stream::once(async {
                    sleep(Duration::from_secs(20)).await;
                    Err::<&str, _>(io::Error::from(io::ErrorKind::ConnectionReset))
                });
                axum::body::Body::from_stream(cut)
            } else {
                axum::body::Body::from_stream(list)
            };
            future::ready(Ok::<_, Infallible>(Response::new(body)))
        };
        (Client::new(tower::service_fn(serve), "a"), watches)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_watch_that_is_cut_again_and_again_is_begun_again_soon() {
        let (client, watches) = cutting();
        let hearing = Hearing::default();
        let events = watch::<ApiToken>(Api::all(client), Selection::All, &hearing);
        assert!(timeout(Duration::from_secs(600), events.for_each(|_| future::ready(()))).await.is_err());
        let watches = watches.load(Ordering::SeqCst);
        assert!((28..=30).contains(&watches), "{watches} in ten minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_hangs_is_given_up_when_a_new_history_begins() {
        let hearing = Hearing::default();
        let events = watch::<ApiToken>(Api::all(hanging()), Selection::All, &hearing);
        pin_mut!(events);
        let begun = Instant::now();
        let (heard, ()) = future::join(events.take(4).collect::<Vec<_>>(), async {
            sleep(Duration::from_secs(5)).await;
            hearing.begin_history();
        })
        .await;
        let all = heard.iter().map(|heard| matches!(heard, Heard::Event(Event::Init)));
        assert_eq!(all.collect::<Vec<_>>(), [true, true, false, false], "{heard:?}");
        assert!(matches!(heard[2], Heard::Listed(Listed { version: 7, anew: true })), "{heard:?}");
        assert!(matches!(heard[3], Heard::Event(Event::InitDone)), "{heard:?}");
        assert_eq!(begun.elapsed().as_secs(), 5, "long before the list would have been late");
    }
}
