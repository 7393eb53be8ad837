//! Feeds objects from the watches into the index.
#![allow(clippy::disallowed_types, reason = "hands the client to the watches")]

use std::{collections::BTreeSet, sync::Arc};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, pin_mut};
use kube::{Client, Resource, runtime::watcher::Event};

use super::{
    index::{Doubted, Indexed, Key},
    known::Known,
};
use crate::{
    crd::{AccessPolicy, Account, ApiToken, Instance},
    outside::{
        Extent, Hearing, Tasks, apart,
        watch::{Heard, Listed, Unread, version},
    },
};

/// The watches of all kinds that a verdict depends on. This is the only list of them. The verifier judges no request
/// until every kind in this list was read.
#[derive(Default)]
pub(crate) struct Feeds(Vec<Feed>);

struct Feed {
    task: &'static str,
    kind: String,
    begin: Box<dyn FnOnce(Arc<Known>) -> BoxFuture<'static, ()> + Send>,
}

impl Feeds {
    /// One watch for each kind. No watch has started yet.
    pub(crate) fn new(client: &Client, scope: &Extent, hearing: &Hearing) -> Self {
        let mut feeds = Self::default();
        feeds.add("the watch of instances", scope.watch::<Instance>(client, hearing));
        feeds.add("the watch of accounts", scope.watch::<Account>(client, hearing));
        feeds.add("the watch of tokens", scope.watch::<ApiToken>(client, hearing));
        feeds.add("the watch of policies", scope.watch::<AccessPolicy>(client, hearing));
        feeds.add("the watch of namespaces", scope.watch_namespaces(client, hearing));
        feeds
    }

    fn add<K>(&mut self, task: &'static str, events: impl Stream<Item = Heard<K>> + Send + 'static)
    where
        K: Indexed<Entry: Send + Sync> + Send + 'static,
    {
        let kind = kind::<K>();
        self.0.push(Feed { task, kind, begin: Box::new(|known| feed(events, known).boxed()) });
    }

    /// The kinds that must be read before the verifier judges a request.
    pub(crate) fn kinds(&self) -> BTreeSet<String> {
        self.0.iter().map(|feed| feed.kind.clone()).collect()
    }

    /// Starts a task for each watch. Each watch has a thread of its own, so no answer waits until a large list is read.
    /// The entries of the index stay in the memory of these threads. Other threads would find their free memory between
    /// the entries, which is slow.
    pub(crate) fn begin(self, known: &Arc<Known>, tasks: &mut Tasks) {
        for Feed { task, kind, begin } in self.0 {
            let fed = begin(known.clone());
            tasks.endless(task, async move {
                if let Err(error) = apart(&kind, fed).await {
                    tracing::error!(%error, "cannot watch {kind}");
                }
            });
        }
    }
}

/// The plural name of a kind.
fn kind<K: Resource<DynamicType = ()>>() -> String {
    K::plural(&()).into_owned()
}

async fn feed<K: Indexed<Entry: Send + Sync> + Send>(events: impl Stream<Item = Heard<K>> + Send, known: Arc<Known>) {
    pin_mut!(events);
    let pools = known.pools();
    // Each object is reduced when it arrives, so that the full objects of a list are never in memory together.
    let (mut listed, mut doubted, mut list) = (Vec::new(), Doubted::new(), Listed::default());
    while let Some(heard) = events.next().await {
        match heard {
            Heard::Unreadable(Unread { namespace, name, version }) => {
                let key = Key::new(namespace, name);
                known.learn(|index| index.doubt::<K>(key.clone(), version));
                doubted.insert(key, version);
            }
            Heard::Gone(Unread { namespace, name, version }) => known.forget::<K>(Key::new(namespace, name), version),
            Heard::Event(Event::Apply(object)) => known.take(pools.reduce(object)),
            Heard::Event(Event::Delete(object)) => known.forget::<K>(Key::of(&object), version(&object)),
            Heard::Event(Event::Init) => {
                listed.clear();
                doubted.clear();
            }
            Heard::Event(Event::InitApply(object)) => listed.push(pools.reduce(object)),
            Heard::Listed(complete) => list = complete,
            Heard::Event(Event::InitDone) => {
                known.relist(std::mem::take(&mut listed), &doubted, list);
                known.mark_read(&kind::<K>());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::usage::Usage;
    use http::{Request, Response};
    use kube::client::Body;
    use std::{convert::Infallible, future, time::Duration};
    use tokio_util::sync::CancellationToken;

    /// A server that has no objects, and never answers requests for the kind `silent`.
    fn server(silent: String) -> Client {
        let serve = move |request: Request<Body>| {
            let hangs = request.uri().path().ends_with(&format!("/{silent}"));
            async move {
                if hangs {
                    future::pending::<()>().await;
                }
                let list = r#"{"metadata": {"resourceVersion": "7"}, "items": []}"#;
                Ok::<_, Infallible>(Response::new(Body::from(list.as_bytes().to_vec())))
            }
        };
        Client::new(tower::service_fn(serve), "a")
    }

    /// The number of kinds that are still unread if the server never answers requests for the kind `silent`. Empty: it
    /// answers all.
    async fn unread_without(silent: &str) -> usize {
        let (hearing, mut tasks) = (Hearing::default(), Tasks::new(CancellationToken::new()));
        let feeds = Feeds::new(&server(silent.into()), &Extent::default(), &hearing);
        let known = Arc::new(Known::new(feeds.kinds(), Usage::new().0, Arc::default()));
        feeds.begin(&known, &mut tasks);
        let read_all = async {
            while known.unread() > usize::from(!silent.is_empty()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), read_all).await.expect("not all other kinds were read");
        if !silent.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        known.unread()
    }

    #[tokio::test]
    async fn a_policy_in_a_list_that_cannot_be_read_is_known_as_such_until_it_is_gone() {
        let known = Arc::new(Known::new(BTreeSet::new(), Usage::new().0, Arc::default()));
        let unread = || Unread { namespace: "a".into(), name: "p".into(), version: 7 };
        let hear = async |events: Vec<Heard<AccessPolicy>>| {
            feed(futures::stream::iter(events), known.clone()).await;
            known.index().unread_policy("a").is_some()
        };
        let list = |odd: Option<Unread>, version: u64| {
            let listed = Heard::Listed(Listed { version, anew: version == 9 });
            let (begin, end) = (Heard::Event(Event::Init), Heard::Event(Event::InitDone));
            [begin].into_iter().chain(odd.map(Heard::Unreadable)).chain([listed, end]).collect::<Vec<_>>()
        };
        assert!(hear(list(Some(unread()), 9)).await);
        assert!(hear(list(Some(unread()), 10)).await);
        assert!(!hear(list(None, 11)).await);
        assert!(hear(vec![Heard::Unreadable(Unread { version: 12, ..unread() })]).await);
        assert!(!hear(vec![Heard::Gone(Unread { version: 13, ..unread() })]).await);
    }

    #[tokio::test]
    async fn every_kind_that_is_watched_has_to_be_read() {
        let hearing = Hearing::default();
        let kinds = Feeds::new(&server(String::new()), &Extent::default(), &hearing).kinds();
        let heard: BTreeSet<_> =
            hearing.ages().into_iter().map(|(kind, _)| kind.split('.').next().unwrap().to_owned()).collect();
        assert_eq!(kinds, heard, "exactly the kinds that are watched must be read");
        assert_eq!(unread_without("").await, 0);
        for kind in kinds {
            assert_eq!(unread_without(&kind).await, 1, "{kind}");
        }
    }
}
