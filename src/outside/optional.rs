//! A cache of a kind that a cluster may not serve. The cache runs while discovery lists the kind.

use std::time::Duration;

use futures::{Stream, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::{Client, Resource};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Cache, Extent, Hearing, patience::Patience, store::KeysOf, watch::Object};

/// Interval between two discovery requests.
const EVERY: Duration = Duration::from_secs(30);
/// Delay before a second discovery request after the kind has disappeared. A single answer can come from a server that
/// is starting.
const AGAIN: Duration = Duration::from_secs(1);
/// Timeout of a discovery request.
const LIMIT: Duration = Duration::from_secs(10);

/// The objects of a kind that the cluster may not serve. Readiness does not wait for this cache.
pub struct Optional<K: Object> {
    cache: Cache<K>,
    /// True if the cluster serves the kind. `None` until discovery has answered.
    served: watch::Sender<Option<bool>>,
    /// False if the operator may not use the kind.
    is_on: bool,
    client: Client,
    scope: Extent,
    hearing: Hearing,
}

impl<K: Object + Resource<Scope = NamespaceResourceScope>> Optional<K> {
    /// An empty cache of the objects in `scope`. [`Optional::run`] fills it through `client`.
    pub fn new(scope: &Extent, client: &Client, hearing: &Hearing) -> Self {
        Self {
            cache: Cache::by_name(stream::empty()),
            served: watch::Sender::default(),
            is_on: true,
            client: client.clone(),
            scope: scope.clone(),
            hearing: hearing.clone(),
        }
    }

    /// The same cache, whose objects are also looked up by the keys that `keys_of` adds.
    pub fn keyed(self, keys_of: KeysOf<K>) -> Self {
        Self { cache: Cache::new(stream::empty(), keys_of), ..self }
    }

    /// The same cache. If `is_on` is false, the kind counts as one that the cluster does not serve, and nothing is
    /// requested.
    pub fn switched(self, is_on: bool) -> Self {
        Self { is_on, ..self }
    }

    /// False if the operator may not use the kind.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Fills the cache while the cluster serves the kind, and empties it when the kind disappears. Never returns.
    pub async fn run(&self) {
        if !self.is_on {
            self.served.send_replace(Some(false));
            std::future::pending::<()>().await;
        }
        loop {
            self.becomes(true).await;
            tokio::select! {
                () = self.cache.fill(self.scope.watch(&self.client, &self.hearing)) => {}
                () = self.becomes(false) => {}
            }
            self.hearing.forget::<K>();
            self.cache.empty();
        }
    }

    /// Waits until the cache is synced, and returns it. Returns `None` once discovery says that the cluster does not
    /// serve the kind.
    pub async fn read(&self) -> Option<&Cache<K>> {
        let mut served = self.served.subscribe();
        loop {
            let seen = *served.borrow_and_update();
            if let Some(known) = self.known() {
                return known;
            }
            tokio::select! {
                _ = served.changed() => {}
                () = self.cache.synced(), if seen == Some(true) => {}
            }
        }
    }

    /// True once the cache is synced, or the cluster does not serve the kind.
    pub fn is_known(&self) -> bool {
        self.known().is_some()
    }

    /// The state of the kind: `None` until discovery has answered and the cache is synced, `Some(None)` for a kind that
    /// is not served. Otherwise the cache.
    fn known(&self) -> Option<Option<&Cache<K>>> {
        let served = (*self.served.borrow())?;
        (!served || self.cache.is_synced()).then(|| served.then_some(&self.cache))
    }

    /// Yields every object that changes from now on, like [`Cache::touched`].
    pub fn touched(&self) -> impl Stream<Item = std::sync::Arc<K>> + Send + use<K> {
        self.cache.touched()
    }

    /// Yields an item at the first answer of discovery, and whenever the answer changes.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<K> {
        stream::unfold(self.served.subscribe(), async |mut served| served.changed().await.ok().map(|()| ((), served)))
    }

    /// Asks discovery until its answer is `wanted`.
    async fn becomes(&self, wanted: bool) {
        let mut patience = Patience::default();
        loop {
            let Some(served) = self.ask().await else {
                sleep(patience.next()).await;
                continue;
            };
            let ends = !served && *self.served.borrow() == Some(true);
            if ends && !self.ends_again().await {
                continue;
            }
            self.say(served);
            if served == wanted {
                return;
            }
            sleep(EVERY).await;
        }
    }

    /// Asks discovery a second time. True if the kind is still missing.
    async fn ends_again(&self) -> bool {
        sleep(AGAIN).await;
        self.ask().await == Some(false)
    }

    fn say(&self, served: bool) {
        let news = self.served.send_if_modified(|said| said.replace(served) != Some(served));
        if news && served {
            tracing::debug!(kind = %K::kind(&()), "the cluster serves this kind");
        } else if news {
            tracing::info!(
                kind = %K::kind(&()),
                "the cluster does not serve this kind; an object that needs it reports this in its status"
            );
        }
    }

    /// Asks discovery for the kind. `None` if discovery gives no usable answer. A 403 counts as served: the watch then
    /// reports the missing permission.
    async fn ask(&self) -> Option<bool> {
        let (version, plural) = (K::api_version(&()), K::plural(&()));
        match timeout(LIMIT, self.client.list_api_group_resources(&version)).await.ok()? {
            Ok(list) => Some(list.resources.iter().any(|resource| resource.name == plural)),
            Err(kube::Error::Api(status)) if status.code == 404 => Some(false),
            Err(kube::Error::Api(status)) if status.code == 403 => Some(true),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, StreamExt};
    use http::{Request, Response};
    use k8s_openapi::api::networking::v1::Ingress;
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    /// A server with one Ingress. The server serves the kind while `serves` is true.
    fn server(serves: &Arc<AtomicBool>) -> Client {
        let serves = serves.clone();
        let answer = move |request: Request<Body>| {
            let serves = serves.load(Ordering::SeqCst);
            let (is_watch, path) =
                (request.uri().query().unwrap_or_default().contains("watch=true"), request.uri().path().to_owned());
            async move {
                if is_watch {
                    std::future::pending::<()>().await;
                }
                let status = if serves { 200 } else { 404 };
                let body = Body::from(said(serves, &path).to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
            }
        };
        Client::new(tower::service_fn(answer), "a")
    }

    fn said(serves: bool, path: &str) -> Value {
        let ingress = json!({"metadata": {"namespace": "a", "name": "x", "uid": "u", "resourceVersion": "6"}});
        let resource =
            json!({"name": "ingresses", "singularName": "", "namespaced": true, "kind": "Ingress", "verbs": []});
        match path.ends_with("/v1") {
            _ if !serves => json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}),
            true => json!({"kind": "APIResourceList", "groupVersion": "networking.k8s.io/v1", "resources": [resource]}),
            false => json!({"metadata": {"resourceVersion": "7"}, "items": [ingress]}),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cache_begins_and_ends_as_the_cluster_serves_its_kind() {
        let serves = Arc::new(AtomicBool::new(false));
        let optional = Arc::new(Optional::<Ingress>::new(&Extent::Cluster, &server(&serves), &Hearing::default()));
        let (mut changes, mut touched) = (Box::pin(optional.changes()), Box::pin(optional.touched()));
        assert!(optional.read().now_or_never().is_none(), "it is not known yet");
        let ours = optional.clone();
        tokio::spawn(async move { ours.run().await });
        assert!(optional.read().await.is_none());
        changes.next().await;
        assert!(optional.hearing.ages().is_empty(), "nothing is heard of, and nothing gets old");
        serves.store(true, Ordering::SeqCst);
        changes.next().await;
        assert!(optional.read().await.unwrap().get("a", "x").is_some());
        touched.next().await.unwrap();
        serves.store(false, Ordering::SeqCst);
        changes.next().await;
        assert!(optional.read().await.is_none());
        assert_eq!(touched.next().await.unwrap().metadata.name.as_deref(), Some("x"), "what is gone is told");
        assert!(optional.cache.get("a", "x").is_none() && optional.hearing.ages().is_empty());
    }
}
