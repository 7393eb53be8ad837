//! The heartbeats of the loops of this process, for `/healthz`.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, interval};

/// A loop runs at least this often, even if it has nothing to do.
const EVERY: Duration = Duration::from_secs(5);
/// A loop that has not run for this long counts as hanging.
const LIMIT: Duration = Duration::from_secs(60);

/// The heartbeats of the loops of this process.
///
/// A loop that waits for the network still runs every five seconds. A loop in an endless computation or a deadlock does
/// not. Then `/healthz` fails, and the kubelet restarts the process.
#[derive(Clone)]
pub struct Pulse(Arc<PulseState>);

struct PulseState {
    begun: Instant,
    beats: Mutex<Beats>,
}

/// The loops by number.
#[derive(Default)]
struct Beats {
    next: u64,
    all: BTreeMap<u64, Arc<Beat>>,
}

struct Beat {
    /// The name for `/healthz`.
    name: String,
    /// The name for the log, with the object.
    object: String,
    /// The time of the last run, in milliseconds since the start of the process.
    at: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(PulseState { begun: Instant::now(), beats: Mutex::default() }))
    }
}

impl Pulse {
    /// Runs a loop until it ends, with a heartbeat at each run.
    pub async fn of<T>(self, name: &str, run: impl Future<Output = T>) -> T {
        let (beating, mut run, mut ticks) = (self.begin(name, name), pin!(run), interval(EVERY));
        let ended = poll_fn(|context| {
            beating.beat();
            if let Poll::Ready(ended) = run.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            while ticks.poll_tick(context).is_ready() {}
            Poll::Pending
        });
        ended.await
    }

    /// Registers work that takes less than a minute. The work ends when the returned value is dropped. `/healthz` shows
    /// `name`, and the log shows `object`. Everybody can read `/healthz`, so `name` never contains an object's name.
    pub fn begin(&self, name: impl Into<String>, object: impl Into<String>) -> Beating {
        let at = AtomicU64::new(self.now());
        let beat = Arc::new(Beat { name: name.into(), object: object.into(), at });
        let mut beats = self.lock();
        let number = beats.next;
        beats.next += 1;
        beats.all.insert(number, beat.clone());
        drop(beats);
        Beating { pulse: self.clone(), number, beat }
    }

    /// Succeeds if every loop has run within the last minute.
    ///
    /// # Errors
    /// A loop has not; the text names it and says for how long.
    pub fn check(&self) -> Result<(), String> {
        self.check_within(LIMIT)
    }

    fn check_within(&self, limit: Duration) -> Result<(), String> {
        let now = self.now();
        let silence = |beat: &Beat| Duration::from_millis(now.saturating_sub(beat.at.load(Ordering::Relaxed)));
        let beats = self.lock();
        let hangs = beats.all.values().find(|beat| silence(beat) > limit);
        let Some(beat) = hangs else { return Ok(()) };
        let seconds = silence(beat).as_secs();
        tracing::error!("{} has not run for {seconds} s", beat.object);
        Err(format!("{} has not run for {seconds} s", beat.name))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Beats> {
        self.0.beats.lock().expect("nobody panics here")
    }
}

/// Registered work.
pub struct Beating {
    pulse: Pulse,
    number: u64,
    beat: Arc<Beat>,
}

impl Beating {
    fn beat(&self) {
        self.beat.at.store(self.pulse.now(), Ordering::Relaxed);
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.pulse.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::pending, thread};
    use tokio::time::{sleep, timeout};

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_only_waits_is_alive_and_one_that_ended_is_forgotten() {
        let pulse = Pulse::default();
        let waits = pulse.clone().of("waits", pending::<()>());
        assert!(timeout(Duration::from_secs(600), waits).await.is_err());
        pulse.clone().of("ends", async {}).await;
        sleep(Duration::from_secs(600)).await;
        assert_eq!(pulse.check(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_within_a_minute_is_named() {
        let pulse = Pulse::default();
        let (_short, _long) = (pulse.begin("ends soon", "a"), pulse.begin("hangs", "b"));
        drop(_short);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(pulse.check(), Ok(()));
        sleep(Duration::from_secs(15)).await;
        assert_eq!(pulse.check(), Err("hangs has not run for 75 s".into()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_loop_that_never_comes_back_from_its_work_is_not_alive() {
        let pulse = Pulse::default();
        let hangs = pulse.clone().of("hangs", async { thread::sleep(Duration::from_secs(2)) });
        let hangs = tokio::spawn(hangs);
        let mut told = Ok(());
        while told.is_ok() && !hangs.is_finished() {
            sleep(Duration::from_millis(50)).await;
            told = pulse.check_within(Duration::from_millis(500));
        }
        assert_eq!(told, Err("hangs has not run for 0 s".into()));
        hangs.await.unwrap();
        assert_eq!(pulse.check_within(Duration::ZERO), Ok(()));
    }
}
