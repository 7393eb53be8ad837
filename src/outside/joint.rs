//! Live reads of the same object, shared by concurrent callers.

use std::{
    array,
    collections::HashMap,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard},
};

use foldhash::fast::FixedState;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

use super::{Reader, Refusal, reader::Read};

/// Maximum number of concurrent reads. A hash assigns each object to one of these places.
const PLACES: usize = 16;

/// Namespace and name.
type NamespacedName = (String, String);
type Found<K> = Result<Option<Arc<K>>, Refusal>;
type Underway<K> = BoxFuture<'static, Found<K>>;

/// Reads objects that many callers want at the same time, such as the shared account of many new tokens.
///
/// While a read of an object is in progress, all new callers share the next read. So each caller's answer comes from a
/// read that began after the call.
pub struct Joint<K> {
    reader: Reader,
    /// Reads that have not begun. The callers own them: a read is dropped with its last caller.
    waiting: Mutex<HashMap<NamespacedName, WeakShared<Underway<K>>>>,
    places: [tokio::sync::Mutex<()>; PLACES],
    /// Assigns objects to places. The seed is fixed, so that a test run can be repeated.
    hasher: FixedState,
}

impl<K: Read + Send + Sync + 'static> Joint<K> {
    /// Shares the reads of `reader`.
    pub fn new(reader: Reader) -> Self {
        let places = array::from_fn(|_| tokio::sync::Mutex::default());
        Self { reader, waiting: Mutex::default(), places, hasher: FixedState::default() }
    }

    /// The current object of that name. `None` if the object does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn live(self: &Arc<Self>, namespace: &str, name: &str) -> Found<K> {
        self.next((namespace.to_owned(), name.to_owned())).await
    }

    /// The next read of this object. It has not begun, and is made if necessary.
    fn next(self: &Arc<Self>, key: NamespacedName) -> Shared<Underway<K>> {
        let mut waiting = self.waiting();
        if let Some(next) = waiting.get(&key).and_then(WeakShared::upgrade) {
            return next;
        }
        let next = self.clone().read(key.clone()).boxed().shared();
        waiting.retain(|_, next| next.upgrade().is_some());
        waiting.extend(next.downgrade().map(|next| (key, next)));
        next
    }

    async fn read(self: Arc<Self>, key: NamespacedName) -> Found<K> {
        let place = self.hasher.hash_one(&key) as usize % PLACES;
        let _under_way = self.places[place].lock().await;
        // From here on, new callers wait for another read.
        self.waiting().remove(&key);
        Ok(self.reader.live(&key.0, &key.1).await?.map(Arc::new))
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<NamespacedName, WeakShared<Underway<K>>>> {
        self.waiting.lock().expect("nobody panics here")
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types, reason = "a client of a server that is held up")]
mod tests {
    use super::*;
    use crate::crd::Account;
    use http::{Request, Response};
    use kube::{Client, client::Body};
    use std::{convert::Infallible, time::Duration};
    use tokio::sync::Semaphore;

    /// A reader of accounts whose answers wait for `permits`, and the number of reads that began.
    fn held(permits: &Arc<Semaphore>) -> (Arc<Joint<Account>>, Arc<Mutex<usize>>) {
        let (permits, begun) = (permits.clone(), Arc::new(Mutex::new(0)));
        let count = begun.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            *count.lock().unwrap() += 1;
            let permits = permits.clone();
            async move {
                permits.acquire().await.unwrap().forget();
                let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
                let account = serde_json::json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ServiceAccount",
                    "metadata": {"name": name}, "spec": {"instanceRef": {"name": "eem"}}});
                Ok::<_, Infallible>(Response::new(Body::from(account.to_string().into_bytes())))
            }
        });
        (Arc::new(Joint::new(Reader::new(Client::new(service, "a")))), begun)
    }

    async fn asks(joint: &Arc<Joint<Account>>, name: &str) -> Option<String> {
        joint.live("a", name).await.unwrap().and_then(|account| account.metadata.name.clone())
    }

    async fn pass_by() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_during_a_read_shares_the_next() {
        let permits = Arc::new(Semaphore::new(0));
        let (joint, begun) = held(&permits);
        let ask = || {
            let joint = joint.clone();
            tokio::spawn(async move { asks(&joint, "x").await })
        };
        let mut all = vec![ask()];
        pass_by().await;
        all.extend((0..20).map(|_| ask()));
        pass_by().await;
        assert_eq!(*begun.lock().unwrap(), 1);
        permits.add_permits(2);
        for asked in all {
            assert_eq!(asked.await.unwrap().as_deref(), Some("x"));
        }
        assert_eq!(*begun.lock().unwrap(), 2);
        assert!(joint.waiting().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_no_longer_asks_holds_up_nobody() {
        let permits = Arc::new(Semaphore::new(0));
        let (joint, _) = held(&permits);
        let place = |name: &str| joint.hasher.hash_one((String::from("a"), name.to_owned())) as usize % PLACES;
        let names: Vec<_> = (0..).map(|n| n.to_string()).filter(|name| place(name) == 0).take(3).collect();
        let ask = |name: &String| {
            let (joint, name) = (joint.clone(), name.clone());
            tokio::spawn(async move { asks(&joint, &name).await })
        };
        let first = ask(&names[0]);
        pass_by().await;
        let gone = ask(&names[1]);
        pass_by().await;
        let last = ask(&names[2]);
        pass_by().await;
        gone.abort();
        pass_by().await;
        permits.add_permits(2);
        let (first, last) =
            tokio::time::timeout(Duration::from_secs(5), async { (first.await, last.await) }).await.unwrap();
        assert_eq!((first.unwrap(), last.unwrap()), (Some(names[0].clone()), Some(names[2].clone())));
        assert_eq!(asks_nothing(&joint), 1, "the dead entry goes with the next that is made");
    }

    fn asks_nothing(joint: &Joint<Account>) -> usize {
        joint.waiting().values().filter(|next| next.upgrade().is_none()).count()
    }
}
