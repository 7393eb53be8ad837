//! Reads past the cache that are asked for together, done together.

use std::{
    array,
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use super::{Reader, Refusal, reader::Read};

/// Reads under way at once, at most. Each object has its place among them by hash.
const PLACES: usize = 16;

/// Namespace and name.
type Key = (String, String);
type Answer<K> = Result<Option<Arc<K>>, Refusal>;
type Next<K> = Shared<BoxFuture<'static, Answer<K>>>;

/// Reads objects that many want at the same time, such as the account of tokens that are made together.
///
/// While a read is under way, all who ask for the object wait for the next, which is one for all of them. So each answer is
/// of a read that began after it was asked for.
pub struct Joint<K> {
    reader: Reader,
    /// Reads that have not begun.
    waiting: Mutex<HashMap<Key, Next<K>>>,
    places: [tokio::sync::Mutex<()>; PLACES],
    hasher: RandomState,
}

impl<K: Read + Send + Sync + 'static> Joint<K> {
    /// Reads by `reader`.
    pub fn new(reader: Reader) -> Self {
        let places = array::from_fn(|_| tokio::sync::Mutex::default());
        Self { reader, waiting: Mutex::default(), places, hasher: RandomState::new() }
    }

    /// The object of that name as it is now, or nothing where there is none.
    ///
    /// # Errors
    /// There was no answer that says which.
    pub async fn live(self: &Arc<Self>, namespace: &str, name: &str) -> Answer<K> {
        let key = (namespace.to_owned(), name.to_owned());
        let next = self.waiting().entry(key.clone()).or_insert_with(|| self.clone().read(key).boxed().shared()).clone();
        next.await
    }

    async fn read(self: Arc<Self>, key: Key) -> Answer<K> {
        let place = self.hasher.hash_one(&key) as usize % PLACES;
        let _under_way = self.places[place].lock().await;
        // Who asks from here on waits for another read.
        self.waiting().remove(&key);
        Ok(self.reader.live(&key.0, &key.1).await?.map(Arc::new))
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Key, Next<K>>> {
        self.waiting.lock().expect("nobody panics here")
    }
}
