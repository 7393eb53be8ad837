//! One endless stream of events a kind, through every failure of the API server.

use std::{
    fmt::Debug,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{Stream, StreamExt, TryStreamExt, future};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;

use super::readable::Readable;
use crate::token::format;

/// What a namespace is known by: its metadata, which has its labels and says whether it is being deleted.
pub type NamespaceMeta = PartialObjectMeta<Namespace>;

/// What a core ServiceAccount is known by: its metadata.
pub type CoreAccount = PartialObjectMeta<ServiceAccount>;

/// Which namespaces a process looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    #[default]
    Cluster,
    /// One. What lies elsewhere does not exist for it.
    Namespace(String),
}

impl Scope {
    /// The objects of a kind in this scope.
    pub(super) fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, client: &Client) -> Api<K> {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(name) => Api::namespaced(client.clone(), name),
        }
    }

    /// A namespace in which `client` may do what it may do at all: that of the scope, or else its own.
    pub fn home(&self, client: &Client) -> String {
        match self {
            Self::Cluster => client.default_namespace().to_owned(),
            Self::Namespace(name) => name.clone(),
        }
    }

    /// Watches the objects of a kind in this scope.
    pub fn watch<K>(&self, client: &Client) -> impl Stream<Item = Heard<K>> + Send + use<K>
    where
        K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        watch(self.api(client), watcher::Config::default())
    }

    /// Watches the Secrets of one type in this scope.
    pub fn watch_type<K>(&self, client: &Client, type_: &str) -> impl Stream<Item = Heard<K>> + Send + use<K>
    where
        K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        watch(self.api(client), watcher::Config::default().fields(&format!("type={type_}")))
    }

    /// Watches the namespaces of this scope.
    pub fn watch_namespaces(&self, client: &Client) -> impl Stream<Item = Heard<NamespaceMeta>> + Send + use<> {
        let config = match self {
            Self::Cluster => watcher::Config::default(),
            Self::Namespace(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
        };
        watch(Api::all(client.clone()), config)
    }
}

/// What can be watched.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Object for K {}

/// Seconds after which a watch is begun anew. A connection that died in silence is noticed soon after, by the read timeout
/// of [`connect`](super::connect).
const WATCH: u32 = 60;

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

/// Failures are said and tried again, soon at first and less often later; the stream never ends.
fn watch<K: Object>(api: Api<Readable<K>>, config: watcher::Config) -> impl Stream<Item = Heard<K>> + Send {
    let (patience, well) = Patience::new();
    let mut trouble = Trouble::<K>::default();
    let events = kube::runtime::watcher(api, config.timeout(WATCH)).inspect_ok(move |event| {
        if is_read(event) {
            well.store(true, Ordering::Relaxed);
        }
    });
    events.backoff(patience).filter_map(move |event| {
        future::ready(match event {
            Ok(event) => {
                if is_read(&event) {
                    trouble.is_over();
                }
                Some(read(event))
            }
            Err(error) => {
                trouble.say(&error);
                None
            }
        })
    })
}

/// Whether a list was read by this event, or a watch heard of something. That a list begins says nothing yet: it may be refused.
const fn is_read<K>(event: &Event<K>) -> bool {
    !matches!(event, Event::Init | Event::InitApply(_))
}

/// The event, as far as its object can be read.
fn read<K: Object>(event: Event<Readable<K>>) -> Heard<K> {
    let heard = |read: Readable<K>, event: fn(K) -> Event<K>, unreadable: fn(String, String) -> Heard<K>| {
        let meta = read.meta();
        let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        read.object.map(|object| Heard::Event(event(object))).unwrap_or_else(|| {
            tracing::warn!(kind = %K::kind(&()), %namespace, %name, "cannot be read");
            unreadable(namespace, name)
        })
    };
    match event {
        Event::Apply(read) => heard(read, Event::Apply, Heard::Unreadable),
        Event::Delete(read) => heard(read, Event::Delete, Heard::Gone),
        Event::InitApply(read) => heard(read, Event::InitApply, Heard::Unreadable),
        Event::Init => Heard::Event(Event::Init),
        Event::InitDone => Heard::Event(Event::InitDone),
    }
}

/// Waits between tries, doubling from [`Patience::FIRST`] to [`Patience::LAST`] with jitter: an API server that comes back is noticed
/// soon, and one that is gone, or refuses, is not flooded. It begins anew once a list was read, and not before.
struct Patience {
    waits: ExponentialBackoff,
    well: Arc<AtomicBool>,
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(250);
    const LAST: Duration = Duration::from_secs(8);

    /// And what is set when a list was read.
    fn new() -> (Self, Arc<AtomicBool>) {
        let well = Arc::new(AtomicBool::new(false));
        (Self { waits: Self::waits(), well: well.clone() }, well)
    }

    fn waits() -> ExponentialBackoff {
        let waits = ExponentialBuilder::default().with_min_delay(Self::FIRST).with_max_delay(Self::LAST);
        waits.with_factor(2.0).without_max_times().with_jitter().build()
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.waits.next()
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        if self.well.swap(false, Ordering::Relaxed) {
            self.waits = Self::waits();
        }
    }
}

/// What is wrong with the watch of a kind, said when it changes.
struct Trouble<K> {
    said: Option<String>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Default for Trouble<K> {
    fn default() -> Self {
        Self { said: None, kind: PhantomData }
    }
}

impl<K: Object> Trouble<K> {
    fn say(&mut self, error: &watcher::Error) {
        if let Some(news) = self.news(error) {
            tracing::warn!(kind = %K::kind(&()), "{news}");
        }
    }

    fn is_over(&mut self) {
        if self.said.take().is_some() {
            tracing::info!(kind = %K::kind(&()), "heard again");
        }
    }

    /// What is to be said of a failure; nothing where that was said already.
    fn news(&mut self, error: &watcher::Error) -> Option<String> {
        let kind = K::kind(&());
        let told = match api_code(error) {
            Some(404) => {
                let version = K::api_version(&());
                format!("the cluster does not serve {kind} of {version}; apply crds/ or install the chart; waiting")
            }
            Some(403) => format!("not allowed to watch {kind}; grant the roles of the chart; waiting"),
            // An expired resource version is the normal end of a watch.
            Some(410) => return None,
            _ => format!("watch failed, trying again: {}", reason(error)),
        };
        let news = self.said.as_ref() != Some(&told);
        self.said = Some(told.clone());
        news.then_some(told)
    }
}

fn source(error: &watcher::Error) -> Option<&kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Some(error),
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
    }
}

fn api_code(error: &watcher::Error) -> Option<u16> {
    match (error, source(error)) {
        (watcher::Error::WatchError(status), _) | (_, Some(kube::Error::Api(status))) => Some(status.code),
        _ => None,
    }
}

/// In words, without quoting what was read: it could be a Secret.
fn reason(error: &watcher::Error) -> String {
    match source(error) {
        Some(kube::Error::SerdeError(_) | kube::Error::FromUtf8(_)) => "a reply could not be read".into(),
        Some(other) => format::redact(&other.to_string()).into_owned(),
        None => format::redact(&error.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::ApiToken;
    use kube::core::Status;

    fn refused(code: u16, message: &str) -> watcher::Error {
        let status = Status { code, ..Status::failure(message, "") };
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn it_is_tried_less_and_less_often_until_a_list_was_read() {
        let (mut patience, well) = Patience::new();
        let mut waits = |count: usize| {
            let waits: Vec<_> = (0..count).map(|_| patience.next().unwrap()).collect();
            // As the library does at the beginning of a list.
            patience.reset();
            waits
        };
        let all: Vec<_> = (0..8).flat_map(|_| waits(1)).collect();
        assert!(all[0] >= Patience::FIRST && all[0] < Patience::FIRST * 2, "{all:?}");
        assert!(all[7] >= Patience::LAST && all[7] <= Patience::LAST * 2, "{all:?}");
        well.store(true, Ordering::Relaxed);
        waits(0);
        assert!(waits(1)[0] < Patience::FIRST * 2);
    }

    #[test]
    fn what_is_wrong_is_said_once_and_again_when_it_is_something_else() {
        let mut trouble = Trouble::<ApiToken>::default();
        let forbidden = "not allowed to watch ApiToken; grant the roles of the chart; waiting";
        assert_eq!(trouble.news(&refused(403, "no")).as_deref(), Some(forbidden));
        assert_eq!(trouble.news(&refused(403, "no")), None);
        assert!(trouble.news(&refused(404, "")).unwrap().starts_with("the cluster does not serve ApiToken"));
        assert_eq!(trouble.news(&refused(410, "")), None);
        assert_eq!(trouble.news(&refused(403, "no")).as_deref(), Some(forbidden));
        trouble.is_over();
        assert_eq!(trouble.news(&refused(403, "no")).as_deref(), Some(forbidden));
    }
}
