//! The places for bodies that are being read. The oldest body of the greediest caller gives up its place to a new one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use crate::outside::server::PeerAddress;

/// The number of bodies that are read at a time.
pub(super) const MOST: usize = 256;

/// The number of bodies that are being read.
static READING: AtomicUsize = AtomicUsize::new(0);

/// The number of bodies that this process is reading, in all protocols.
pub(crate) fn reading() -> usize {
    READING.load(Ordering::Relaxed)
}

/// The address of a caller. `None`: it is not known.
type Caller = Option<PeerAddress>;

/// A body that is being read.
struct SlowBody {
    of: Caller,
    /// Cancelled when the body gives its place to another one.
    leave: CancellationToken,
}

/// The places for bodies that are being read, in the order in which they were taken.
#[derive(Clone, Default)]
pub(crate) struct BodyPlaces(Arc<Mutex<Vec<Arc<SlowBody>>>>);

impl BodyPlaces {
    /// Takes a place for the body of a request. If all are taken, another body gives up its place. It is the oldest one
    /// of the caller with the most bodies. Most bodies are read at once, so that one is slow. So slow callers take no
    /// place from others, even if a proxy sends the bodies of all.
    pub(super) fn take(&self, caller: Option<PeerAddress>) -> BodySeat {
        let (places, body) = (self.clone(), Arc::new(SlowBody { of: caller, leave: CancellationToken::new() }));
        {
            let mut taken = places.taken();
            if taken.len() >= MOST {
                let at = dispensable(&taken, body.of);
                taken.remove(at).leave.cancel();
            }
            taken.push(body.clone());
        }
        READING.fetch_add(1, Ordering::Relaxed);
        BodySeat { places, body }
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Arc<SlowBody>>> {
        self.0.lock().expect("nobody panics here")
    }
}

/// The position of the oldest body of the caller with the most bodies, one more of `newcomer` included.
fn dispensable(taken: &[Arc<SlowBody>], newcomer: Caller) -> usize {
    let mut held = HashMap::<Caller, usize>::from([(newcomer, 1)]);
    taken.iter().for_each(|body| *held.entry(body.of).or_default() += 1);
    let most = held.values().max().copied();
    taken.iter().position(|body| held.get(&body.of).copied() == most).unwrap_or_default()
}

/// A taken place, for as long as a body is being read.
pub(super) struct BodySeat {
    places: BodyPlaces,
    body: Arc<SlowBody>,
}

impl BodySeat {
    /// Waits until the body has to give its place to another one.
    pub(super) async fn lost(&self) {
        self.body.leave.cancelled().await;
    }
}

impl Drop for BodySeat {
    fn drop(&mut self) {
        READING.fetch_sub(1, Ordering::Relaxed);
        self.places.taken().retain(|body| !Arc::ptr_eq(body, &self.body));
    }
}
