//! One endless stream of events a kind, through every failure of the API server.
//!
//! ```text
//! ┌▶ away ─▶ listing ─▶ listening ─┐
//! └──────── ends, fails ◀──────────┘     all is listed anew where the version is lost, or a new history begins
//! ```
//!
//! It is our own, and not the library's: that one keeps to itself what versions it has heard of, and whether it hears
//! at all.

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
    hearing::{Called, Calls, Ear, Hearing},
    patience::Patience,
    readable::Readable,
    trouble::Trouble,
};

/// What a namespace is known by: its metadata, which has its labels and says whether it is being deleted.
pub type NamespaceMeta = PartialObjectMeta<Namespace>;

/// What a core ServiceAccount is known by: its metadata.
pub type CoreAccount = PartialObjectMeta<ServiceAccount>;

/// What can be watched.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Object for K {}

/// Objects that are read at a time.
const PAGE: u32 = 500;
/// How long a page of a list may take: longer than a watch may be silent, as a busy server takes long for many objects.
const LIST: Duration = Duration::from_secs(60);
/// A watch that is refused is refused within this time.
const REFUSAL: Duration = Duration::from_secs(1);

/// A watch that lasted longer was not refused.
const STOOD: Duration = Duration::from_secs(2);

/// What is heard of the objects of a kind.
#[derive(Debug)]
pub enum Heard<K> {
    /// An event about objects that can be read. What cannot be read is on no list.
    Event(Event<K>),
    /// An object is there, made or changed or on a list, and cannot be read: by namespace and name.
    Unreadable(String, String),
    /// An object that cannot be read was deleted.
    Gone(String, String),
}

/// Hears of the objects that `fields` selects, or of all. Failures are said and tried again, soon at first and less
/// often later; the stream never ends.
pub(super) fn watch<K: Object>(
    api: Api<Readable<K>>,
    fields: Option<String>,
    hearing: &Hearing,
) -> impl Stream<Item = Heard<K>> + Send + use<K> {
    let watch = Watch {
        api,
        fields,
        ear: hearing.ear::<K>(),
        patience: Patience::default(),
        trouble: Trouble::default(),
        version: None,
        state: Phase::Away,
    };
    stream::unfold((watch, hearing.calls()), async |(mut watch, mut calls)| {
        Some((watch.next(&mut calls).await, (watch, calls)))
    })
}

/// A watch, and where it is.
struct Watch<K: Object> {
    api: Api<Readable<K>>,
    /// A selector of fields; nothing: all objects.
    fields: Option<String>,
    ear: Ear,
    patience: Patience,
    trouble: Trouble<K>,
    /// The version up to which all was heard; nothing: all has to be listed.
    version: Option<String>,
    state: Phase<K>,
}

enum Phase<K> {
    /// Nothing is asked for.
    Away,
    /// A list is read.
    Listing(Listing<K>),
    /// Events come in.
    Listening(Incoming<K>),
}

struct Listing<K> {
    /// The next page, if there is one.
    page: Option<ListParams>,
    /// What was read and has not been told.
    read: VecDeque<Readable<K>>,
    /// The version of the list.
    version: String,
}

struct Incoming<K> {
    stream: BoxStream<'static, Item<K>>,
    /// When they were asked for.
    since: Instant,
}

type Item<K> = kube::Result<WatchEvent<Readable<K>>>;

impl<K: Object> Watch<K> {
    /// What is heard next. Whatever is under way when the watch is called is given up: it may hang, and what it brings
    /// may be of the past.
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

    /// Goes on from the version that was heard last; where there is none, all is listed.
    async fn begin(&mut self) -> Option<Heard<K>> {
        let Some(version) = self.version.clone() else {
            let page = ListParams { field_selector: self.fields.clone(), ..ListParams::default() }.limit(PAGE);
            self.state = Phase::Listing(Listing { page: Some(page), read: VecDeque::new(), version: String::new() });
            return Some(Heard::Event(Event::Init));
        };
        let params = WatchParams { field_selector: self.fields.clone(), ..WatchParams::default() };
        let params = params.timeout(self.ear.lasts().as_secs().try_into().unwrap_or(u32::MAX));
        let since = Instant::now();
        match in_time(self.ear.silent(), self.api.watch(&params, &version)).await {
            Ok(stream) => self.open(Incoming { stream: stream.boxed(), since }).await,
            Err(error) => self.fail(&error).await,
        }
    }

    /// One more object of a list, or its next page, or its end.
    async fn list(&mut self, mut listing: Listing<K>) -> Option<Heard<K>> {
        if let Some(read) = listing.read.pop_front() {
            self.state = Phase::Listing(listing);
            return Some(heard(read, Event::InitApply, Heard::Unreadable));
        }
        let Some(page) = listing.page.take() else {
            self.has_heard(listing.version);
            return Some(Heard::Event(Event::InitDone));
        };
        match in_time(LIST, self.api.list(&page)).await {
            Ok(list) => {
                let more = list.metadata.continue_.filter(|token| !token.is_empty());
                listing.page = more.map(|token| page.continue_token(&token));
                listing.version = list.metadata.resource_version.unwrap_or_default();
                listing.read = list.items.into();
                self.state = Phase::Listing(listing);
                None
            }
            Err(error) => self.fail(&error).await,
        }
    }

    /// Hears the first event of a watch, or that it is refused; where neither comes, it stands.
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

    /// What an item of a watch says.
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

    /// A watch that stood for a while and was cut, as proxies cut silent ones, is begun again soon.
    fn stood(&mut self, lasted: Duration) {
        if lasted > STOOD {
            self.patience = Patience::default();
        }
    }

    /// A watch that ended in its time has heard of everything until then; one that was cut off is begun again after a
    /// while.
    async fn ended(&mut self, after: Duration) -> Option<Heard<K>> {
        self.stood(after);
        match self.version.clone() {
            Some(version) if after >= self.ear.lasts() => self.has_heard(version),
            _ => sleep(self.patience.next()).await,
        }
        None
    }

    /// All was heard up to `version`.
    fn has_heard(&mut self, version: String) {
        self.ear.heard(&version);
        self.patience = Patience::default();
        self.trouble.is_over();
        self.version = Some(version);
    }

    /// Says what failed, and waits. Where the version is lost, or an event cannot be read, all is listed anew.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the client library, which grows")]
    async fn fail(&mut self, error: &kube::Error) -> Option<Heard<K>> {
        self.ear.failed(error);
        self.trouble.say(error);
        match error {
            // What happened while it was refused is on the next list, at once.
            kube::Error::Api(status) if [401, 403, 410].contains(&status.code) => self.version = None,
            kube::Error::SerdeError(_) => self.version = None,
            _ => {}
        }
        sleep(self.patience.next()).await;
        None
    }

    /// Goes on from the version that was heard last, or lists all anew. A server that is back is asked soon again, as
    /// it may refuse at first.
    fn heed(&mut self, called: Called) {
        self.state = Phase::Away;
        self.patience = Patience::default();
        if called == Called::Anew {
            self.version = None;
        }
    }
}

/// What was asked, if it is answered in time.
async fn in_time<T>(limit: Duration, asked: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    timeout(limit, asked).await.unwrap_or_else(|_| Err(silence()))
}

fn silence() -> kube::Error {
    kube::Error::Service("nothing was heard for too long".into())
}

/// The event, as far as its object can be read.
fn heard<K: Object>(
    read: Readable<K>,
    event: fn(K) -> Event<K>,
    unreadable: fn(String, String) -> Heard<K>,
) -> Heard<K> {
    let meta = read.meta();
    let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    read.object.map(|object| Heard::Event(event(object))).unwrap_or_else(|| {
        tracing::warn!(kind = %K::kind(&()), %namespace, %name, "cannot be read");
        unreadable(namespace, name)
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

    /// A server that never answers what it is asked first, and has no objects.
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

    /// A server that has no objects and cuts each watch once it was silent for 20 seconds; and how often it was asked
    /// for one.
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
        let events = watch::<ApiToken>(Api::all(client), None, &hearing);
        assert!(timeout(Duration::from_secs(600), events.for_each(|_| future::ready(()))).await.is_err());
        let watches = watches.load(Ordering::SeqCst);
        assert!((28..=30).contains(&watches), "{watches} in ten minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_hangs_is_given_up_when_a_new_history_begins() {
        let hearing = Hearing::default();
        let events = watch::<ApiToken>(Api::all(hanging()), None, &hearing);
        pin_mut!(events);
        let begun = Instant::now();
        let (heard, ()) = future::join(events.take(3).collect::<Vec<_>>(), async {
            sleep(Duration::from_secs(5)).await;
            hearing.begin_history();
        })
        .await;
        let all = heard.iter().map(|heard| matches!(heard, Heard::Event(Event::Init)));
        assert_eq!(all.collect::<Vec<_>>(), [true, true, false], "{heard:?}");
        assert!(matches!(heard[2], Heard::Event(Event::InitDone)), "{heard:?}");
        assert_eq!(begun.elapsed().as_secs(), 5, "long before the list would have been late");
    }
}
