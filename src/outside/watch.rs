//! One endless stream of events a kind, through every failure of the API server.

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt, future};
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
    kube::runtime::watcher(api, config.timeout(WATCH)).backoff(Patience::default()).filter_map(|event| {
        future::ready(match event {
            Ok(event) => Some(read(event)),
            Err(error) => {
                say::<K>(&error);
                None
            }
        })
    })
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

/// Waits between tries, doubling from [`Patience::FIRST`] to [`Patience::LAST`]: an API server that comes back is noticed
/// soon, and one that is gone is not flooded.
#[derive(Default)]
struct Patience {
    tries: u32,
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(250);
    const LAST: Duration = Duration::from_secs(8);
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = Self::FIRST.saturating_mul(1 << self.tries.min(16));
        self.tries += 1;
        Some(wait.min(Self::LAST))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.tries = 0;
    }
}

fn say<K: Object>(error: &watcher::Error) {
    let kind = K::kind(&());
    match api_code(error) {
        Some(404) => {
            tracing::warn!(%kind, "the cluster does not serve {kind} of {}; apply crds/ or install the chart; waiting", K::api_version(&()))
        }
        Some(403) => tracing::warn!(%kind, "not allowed to watch {kind}; grant the roles of the chart; waiting"),
        // An expired resource version is the normal end of a watch.
        Some(410) => tracing::debug!(%kind, "watch expired, listing again"),
        _ => tracing::warn!(%kind, refusal = %reason(error), "watch failed, trying again"),
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
