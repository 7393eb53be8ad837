//! One endless stream of events per kind. The stream continues through every failure of the API server.
//!
//! ```text
//! ┌▶ list of all places ─▶ changes of each place ─┐
//! └───── the only place lost its version ◀────────┘     a new history starts a new list at any time
//! ```
//!
//! A place is the whole cluster, or one of the namespaces of the process. A list is always a list of all places, so
//! that consumers can replace everything by it.
//!
//! One of several places that lost its version is listed alone, and the difference counts as changes. It cannot always
//! be listed, for example after its Role was deleted. The others are followed meanwhile.

use std::fmt::Debug;

use futures::{Stream, StreamExt, channel::mpsc, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Resource, core::PartialObjectMeta, runtime::watcher::Event};
use serde::de::DeserializeOwned;

use super::{
    follower::{Follower, WatchPlace, say},
    hearing::{Called, Calls, Hearing, number},
};

/// The metadata of a namespace. It holds the labels, and a deletion timestamp while the namespace is being deleted.
pub type NamespaceMeta = PartialObjectMeta<Namespace>;

/// The metadata of a core ServiceAccount.
pub type CoreAccount = PartialObjectMeta<ServiceAccount>;

/// A kind that can be watched.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Object for K {}

/// A report about the objects of a kind.
#[derive(Debug)]
pub enum Heard<K> {
    /// An event about objects that can be parsed. Lists leave out objects that cannot be parsed.
    Event(Event<K>),
    /// An object was created, changed or listed, and cannot be parsed.
    Unreadable(Unread),
    /// An object that cannot be parsed was deleted.
    Gone(Unread),
    /// All objects of a list were told. [`Event::InitDone`] follows.
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
    /// The number of its resourceVersion, or 0. The list has every change up to that version. A list of several places
    /// has the lowest of their versions.
    pub version: u64,
    /// True if the list begins a history: it is the first one, or the server's data may have been restored since the
    /// last one. Its versions may be lower than earlier ones.
    pub anew: bool,
}

/// The number of an object's resourceVersion, or 0. Newer versions of a kind have higher numbers (KEP-5504).
pub fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(number).unwrap_or_default()
}

/// Watches the objects of these places. Failures are logged and retried with a growing delay. The stream never ends.
pub(super) fn watch<K: Object>(
    places: Vec<WatchPlace<K>>,
    hearing: &Hearing,
) -> impl Stream<Item = Heard<K>> + Send + use<K> {
    let ears = hearing.ears::<K>(places.iter().map(|place| place.namespace.clone()));
    let is_alone = places.len() == 1;
    let followers = places.into_iter().zip(ears).map(|(place, ear)| Follower::new(place, ear, is_alone)).collect();
    // Each report waits in this channel until the consumer takes it. The end of the stream ends the watch.
    let (tell, told) = mpsc::channel(0);
    told.take_until(Watch { followers, anew: true, tell }.run(hearing.calls()))
}

/// A watch and its state.
struct Watch<K: Object> {
    followers: Vec<Follower<K>>,
    /// True if the next complete list begins a history.
    anew: bool,
    tell: mpsc::Sender<Heard<K>>,
}

impl<K: Object> Watch<K> {
    /// Tells all reports, for ever. A call aborts the requests in progress, because a request may hang or return
    /// outdated objects.
    async fn run(mut self, mut calls: Calls) {
        let mut listed = false;
        loop {
            tokio::select! {
                biased;
                called = calls.next() => {
                    self.followers.iter_mut().for_each(Follower::take_heart);
                    if called == Called::Anew {
                        (listed, self.anew) = (false, true);
                    }
                }
                is_listed = self.step(listed) => listed = is_listed,
            }
        }
    }

    /// Lists everything, or tells the changes since then. False: everything has to be listed.
    async fn step(&mut self, listed: bool) -> bool {
        if listed {
            self.follow().await;
            return false;
        }
        self.list().await.is_some()
    }

    /// Tells the objects of all places as one list. `None` after a failure.
    async fn list(&mut self) -> Option<()> {
        say(&mut self.tell, Heard::Event(Event::Init)).await;
        let mut versions = Vec::new();
        for follower in &mut self.followers {
            versions.push(follower.list(&mut self.tell).await?);
        }
        say(&mut self.tell, Heard::Listed(Listed { version: lowest(&versions), anew: self.anew })).await;
        say(&mut self.tell, Heard::Event(Event::InitDone)).await;
        self.anew = false;
        self.followers.iter_mut().zip(versions).for_each(|(follower, version)| follower.has_listed(version));
        Some(())
    }

    /// Tells the changes of all places. Ends if the only place lost its version.
    async fn follow(&mut self) {
        let changes = self.followers.iter_mut().map(|follower| follower.follow(self.tell.clone()));
        changes.collect::<FuturesUnordered<_>>().next().await;
    }
}

/// The lowest number of these resourceVersions. A version without a number counts as 0.
fn lowest(versions: &[String]) -> u64 {
    versions.iter().map(|version| number(version).unwrap_or_default()).min().unwrap_or_default()
}

#[cfg(test)]
mod tests;
