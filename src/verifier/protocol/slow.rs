//! The places for bodies that are being read. The oldest body of the greediest caller gives up its place to a new one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
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

/// The places for bodies that are being read.
#[derive(Clone, Default)]
pub(crate) struct BodyPlaces(Arc<Mutex<TakenPlaces>>);

impl BodyPlaces {
    /// Takes a place for the body of a request. If all are taken, another body gives up its place. It is the oldest one
    /// of the caller with the most bodies. Most bodies are read at once, so that one is slow. So slow callers take no
    /// place from others, even if a proxy sends the bodies of all.
    pub(super) fn take(&self, caller: Option<PeerAddress>) -> BodySeat {
        let (places, leave) = (self.clone(), CancellationToken::new());
        let number = places.taken().add(caller, leave.clone());
        READING.fetch_add(1, Ordering::Relaxed);
        BodySeat { places, caller, number, leave }
    }

    fn taken(&self) -> MutexGuard<'_, TakenPlaces> {
        self.0.lock().expect("nobody panics here")
    }
}

/// The places that are taken.
#[derive(Default)]
struct TakenPlaces {
    /// The number of the next body.
    next: u64,
    /// The number of bodies.
    count: usize,
    /// The bodies of each caller that has any, by their numbers. The token is cancelled when a body gives its place to
    /// another one.
    bodies: HashMap<Caller, BTreeMap<u64, CancellationToken>>,
}

impl TakenPlaces {
    /// Adds a body. Returns its number.
    fn add(&mut self, caller: Caller, leave: CancellationToken) -> u64 {
        if self.count >= MOST {
            self.make_room(caller);
        }
        let number = self.next;
        (self.next, self.count) = (self.next + 1, self.count + 1);
        self.bodies.entry(caller).or_default().insert(number, leave);
        number
    }

    /// Takes its place from the oldest body of the caller with the most bodies, one more of `newcomer` included.
    fn make_room(&mut self, newcomer: Caller) {
        let greed = |(&caller, bodies): (&Caller, &BTreeMap<u64, CancellationToken>)| {
            let (&oldest, _) = bodies.first_key_value()?;
            Some((bodies.len() + usize::from(caller == newcomer), Reverse(oldest), caller))
        };
        let most = self.bodies.iter().filter_map(greed).max_by_key(|&(count, oldest, _)| (count, oldest));
        let Some((_, Reverse(oldest), caller)) = most else { return };
        if let Some(leave) = self.remove(caller, oldest) {
            leave.cancel();
        }
    }

    /// Frees the place of a body, if it has one.
    fn remove(&mut self, caller: Caller, number: u64) -> Option<CancellationToken> {
        let bodies = self.bodies.get_mut(&caller)?;
        let leave = bodies.remove(&number)?;
        if bodies.is_empty() {
            self.bodies.remove(&caller);
        }
        self.count -= 1;
        Some(leave)
    }
}

/// A taken place, for as long as a body is being read.
pub(super) struct BodySeat {
    places: BodyPlaces,
    caller: Caller,
    number: u64,
    leave: CancellationToken,
}

impl BodySeat {
    /// Waits until the body has to give its place to another one.
    pub(super) async fn lost(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for BodySeat {
    fn drop(&mut self) {
        READING.fetch_sub(1, Ordering::Relaxed);
        let _ = self.places.taken().remove(self.caller, self.number);
    }
}
