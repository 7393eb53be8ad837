//! The state of this process's watches: when each kind was last reported, and when the API server last answered.
//!
//! A silent watch has two possible causes: no object changed, or the connection is dead. So every [two
//! seconds](Hearing::ask) a list of one item is requested. Its answer shows that the server is available, and gives the
//! server's current resourceVersion. A resourceVersion lower than an earlier one begins a *new history*: the server's
//! data was restored from a backup. Cached objects may then be newer than the server's objects, so every kind is listed
//! again.

use std::{
    collections::BTreeMap,
    future::pending,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use kube::Resource;
use tokio::{sync::watch, time::Instant};

use super::trouble::{name, name_in};
use crate::token::duration;

/// Cached objects count as old after the server has not answered, or a watch has failed, for this long.
const OLD: Duration = Duration::from_secs(5);
/// A longer silence begins a new history even if the server was only busy. One slow answer never causes a silence this
/// long.
const LOST: Duration = Duration::from_secs(15);
/// How long a watch lasts before it is started again, and how late it may end. A watch that ends in time has reported
/// all changes until then. The duration is short because proxies cut connections that are silent for longer, such as 35
/// seconds.
const LASTS: Duration = Duration::from_secs(30);
const LATE: Duration = Duration::from_secs(10);
/// The same two durations for [`Hearing::close`].
const CLOSE: Duration = Duration::from_secs(5);
const CLOSE_LATE: Duration = Duration::from_secs(3);
/// Minimum duration of a watch.
const SHORTEST: Duration = Duration::from_secs(3);
/// After the server answers again, its watches have this long to report. Until then no kind counts as deaf.
const GRACE: Duration = Duration::from_secs(30);

/// The shared state of all watches of this process.
#[derive(Clone)]
pub struct Hearing(Arc<Shared>);

/// The age at which cached objects become stale. It is a duration such as `30s`, at least ten seconds. The default is
/// `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleAfter(Duration);

impl StaleAfter {
    const LEAST: Duration = Duration::from_secs(10);
}

impl Default for StaleAfter {
    fn default() -> Self {
        Self(Duration::from_mins(5))
    }
}

impl FromStr for StaleAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let given = duration::Duration::from(text).parse()?;
        let given = Duration::try_from(given).unwrap_or_default();
        if given < Self::LEAST { Err("has to be 10s at least".into()) } else { Ok(Self(given)) }
    }
}

struct Shared {
    stale_after: Duration,
    /// Duration of a watch, in whole seconds, as it is sent to the server.
    lasts: Duration,
    /// Maximum silence of a watch. It is longer than a watch lasts, so that only a dead connection is given up.
    silent: Duration,
    state: Mutex<Ears>,
    /// Calls to all watches.
    calls: watch::Sender<Call>,
}

/// Calls to all watches. Each field counts one kind of call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Call {
    /// List everything again, because a new history begins.
    anew: u64,
    /// Try again without further delay.
    again: u64,
}

struct Ears {
    kinds: BTreeMap<String, KindHeard>,
    /// Time of the server's last answer.
    answered: Instant,
    /// True if a request has failed since then though the server was not busy, or if this process did not run. The
    /// server may have been restarted.
    failed: bool,
    /// True if the server was busy since then: it did not answer in time, or answered 429.
    busy: bool,
    /// Start of the current period without a silence of the server.
    answers_since: Instant,
    /// True if the current silence is logged.
    said: bool,
}

struct KindHeard {
    /// The kind's highest resourceVersion in this history. Other kinds may be stored in another etcd, so their versions
    /// are not compared.
    version: u64,
    /// The watches of the kind: one for all namespaces, or one for each namespace of this process. The kind is as old
    /// as the oldest of them.
    places: Vec<PlaceHeard>,
}

struct PlaceHeard {
    /// The kind, with the namespace of the watch.
    name: String,
    /// True once all objects were listed.
    listed: bool,
    /// Time of the last event, bookmark or list, or of the last regular end of the watch.
    heard: Instant,
    /// Start of the current failure of the watch.
    failing: Option<Instant>,
}

impl Default for Hearing {
    /// The state for a process whose callers do not wait for changes (the operator). A dead watch is noticed within 40
    /// seconds.
    fn default() -> Self {
        Self::new(StaleAfter::default(), LASTS, LATE)
    }
}

impl Hearing {
    /// The state for a process whose callers ask about changes (the verifier). A dead watch is noticed within eight
    /// seconds. Cached objects become stale after `stale_after`. A watch lasts a third of that, within three and five
    /// seconds.
    pub fn close(stale_after: StaleAfter) -> Self {
        let third = Duration::from_secs(stale_after.0.as_secs() / 3);
        Self::new(stale_after, third.clamp(SHORTEST, CLOSE), CLOSE_LATE)
    }

    /// The state before any report.
    fn new(StaleAfter(stale_after): StaleAfter, lasts: Duration, late: Duration) -> Self {
        let now = Instant::now();
        let state =
            Ears { kinds: BTreeMap::new(), answered: now, failed: false, busy: false, answers_since: now, said: false };
        let (silent, state) = (lasts + late, Mutex::new(state));
        Self(Arc::new(Shared { stale_after, lasts, silent, state, calls: watch::Sender::default() }))
    }

    /// Registers a kind with watches of these namespaces, and returns the handle with which each reports. `None`: all
    /// namespaces. The kind counts as not listed yet.
    pub fn ears<K: Resource<DynamicType = ()>>(
        &self,
        namespaces: impl IntoIterator<Item = Option<String>>,
    ) -> Vec<Ear> {
        let (kind, heard) = (name::<K>(), Instant::now());
        let place = |namespace: Option<String>| {
            let name = name_in(&kind, namespace.as_deref());
            PlaceHeard { name, listed: false, heard, failing: None }
        };
        let places: Vec<_> = namespaces.into_iter().map(place).collect();
        let ear = |place| Ear { hearing: self.clone(), kind: kind.clone(), place };
        let ears = (0..places.len()).map(ear).collect();
        self.lock().kinds.insert(kind.clone(), KindHeard { version: 0, places });
        ears
    }

    /// Forgets a kind that is not watched any more.
    pub(super) fn forget<K: Resource<DynamicType = ()>>(&self) {
        self.lock().kinds.remove(&name::<K>());
    }

    /// A receiver of the calls from now on, for one watch.
    pub(super) fn calls(&self) -> Calls {
        let calls = self.0.calls.subscribe();
        let heard = *calls.borrow();
        Calls { calls, heard }
    }

    /// The time since the last report of each kind. For a kind without a report, the time since its watch was
    /// registered. For a kind with several watches, the longest of their times.
    pub fn ages(&self) -> Vec<(String, Duration)> {
        let oldest =
            |known: &KindHeard| known.places.iter().map(|place| place.heard.elapsed()).max().unwrap_or_default();
        self.lock().kinds.iter().map(|(kind, known)| (kind.clone(), oldest(known))).collect()
    }

    /// The time since the server's last answer. `None` while this time is at most five seconds.
    pub fn silence(&self) -> Option<Duration> {
        Some(self.lock().answered.elapsed()).filter(|silence| *silence > OLD)
    }

    /// True if changes of the last seconds may be missing from the caches. Also true until every kind was listed.
    pub fn is_old(&self) -> bool {
        self.silence().is_some() || self.lock().kinds.values().flat_map(|kind| &kind.places).any(|it| self.lags(it))
    }

    /// True if no change of a kind arrives, of whatever namespace. A process that serves several namespaces may still
    /// hear of others while one of them is [old](Self::is_old).
    pub fn is_cut_off(&self) -> bool {
        self.silence().is_some() || self.lock().kinds.values().any(|kind| kind.places.iter().all(|it| self.lags(it)))
    }

    /// True if changes of the last seconds may be missing.
    fn lags(&self, place: &PlaceHeard) -> bool {
        let fails = place.failing.is_some_and(|since| since.elapsed() > OLD);
        !place.listed || fails || place.heard.elapsed() > self.0.silent
    }

    /// A kind whose cached objects are stale, if there is one, with its namespace. A watch that fails explains others
    /// that are silent, because the first list is one of everything.
    pub fn stale(&self) -> Option<String> {
        let (limit, state) = (self.0.stale_after, self.lock());
        let places = state.kinds.values().flat_map(|kind| &kind.places);
        let stale = places.filter(|place| place.heard.elapsed() > limit);
        Some(stale.min_by_key(|place| place.failing.is_none())?.name.clone())
    }

    /// A kind whose cached objects are stale although the server answers. The server refuses the watch, or the events
    /// do not arrive. `None` while the server does not answer, because the whole server may then be down.
    pub fn deaf(&self) -> Option<String> {
        let answers = self.silence().is_none() && self.lock().answers_since.elapsed() > GRACE;
        answers.then(|| self.stale()).flatten()
    }

    /// Records an answer of the server. After a silence the server may have another history, so everything is listed
    /// again. The exception is a short silence of a busy server.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        let silence = state.answered.elapsed();
        state.answered = Instant::now();
        let (failed, busy) = (std::mem::take(&mut state.failed), std::mem::take(&mut state.busy));
        if silence <= OLD {
            return;
        }
        state.answers_since = Instant::now();
        let said = std::mem::take(&mut state.said);
        drop(state);
        let anew = failed || !busy || silence > LOST;
        if said || anew {
            let then = if anew { "; listing all objects again" } else { "" };
            tracing::info!("the API server answers again after {} s{then}", silence.as_secs());
        }
        if anew {
            self.begin_history();
        } else {
            self.0.calls.send_modify(|call| call.again += 1);
        }
    }

    /// Records a failed request. `busy` says that the server was busy. After any other failure, the server may have
    /// been restarted.
    pub(super) fn fails(&self, busy: bool) {
        let mut state = self.lock();
        *(if busy { &mut state.busy } else { &mut state.failed }) = true;
        drop(state);
        self.say_silence();
    }

    /// The highest known resourceVersion of a kind, or 0.
    pub(super) fn known(&self, kind: &str) -> u64 {
        self.lock().kinds.get(kind).map_or(0, |known| known.version)
    }

    /// Records that the server is at `version` of a kind. `known` is the highest known version at the time of the
    /// request.
    pub(super) fn stands(&self, kind: &str, version: Option<&str>, known: u64) {
        let Some(version) = version.and_then(number) else { return };
        if version < known {
            tracing::warn!(
                "the resourceVersion of {kind} went back from {known} to {version}: the API server's data was restored; listing all objects again"
            );
            self.begin_history();
        } else if let Some(kind) = self.lock().kinds.get_mut(kind) {
            kind.version = kind.version.max(version);
        }
    }

    pub(super) fn begin_history(&self) {
        self.lock().kinds.values_mut().for_each(|kind| kind.version = 0);
        self.0.calls.send_modify(|call| call.anew += 1);
    }

    fn say_silence(&self) {
        let Some(silence) = self.silence() else { return };
        if !std::mem::replace(&mut self.lock().said, true) {
            let seconds = silence.as_secs();
            tracing::warn!(
                "the API server has not answered for {seconds} s; using the last known objects; trying again"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ears> {
        self.0.state.lock().expect("nobody panics here")
    }
}

/// The handle with which one watch of a kind reports its state.
pub struct Ear {
    hearing: Hearing,
    kind: String,
    /// The place of the watch among those of the kind.
    place: usize,
}

impl Ear {
    /// Duration of a watch, in whole seconds, as it is sent to the server.
    pub(super) fn lasts(&self) -> Duration {
        self.hearing.0.lasts
    }

    /// Maximum silence of a watch. It is longer than a watch lasts, so that only a dead connection is given up.
    pub(super) fn silent(&self) -> Duration {
        self.hearing.0.silent
    }

    /// Records an object, a bookmark or a complete list, with its resourceVersion.
    pub fn heard(&self, version: &str) {
        self.hearing.answered();
        self.change(|place| (place.heard, place.listed, place.failing) = (Instant::now(), true, None));
        if let Some(kind) = self.hearing.lock().kinds.get_mut(&self.kind) {
            kind.version = kind.version.max(number(version).unwrap_or_default());
        }
    }

    /// Records that the server answered a request of the watch.
    pub fn answered(&self) {
        self.hearing.answered();
    }

    /// Records that the watch is open, though it has reported nothing yet.
    pub fn opened(&self) {
        self.change(|place| place.failing = None);
    }

    /// Records that the watch or a list failed.
    pub fn failed(&self, error: &kube::Error) {
        if is_answer(error) {
            self.hearing.answered();
        }
        self.change(|place| place.failing = place.failing.or_else(|| Some(Instant::now())));
    }

    fn change(&self, change: impl FnOnce(&mut PlaceHeard)) {
        let mut state = self.hearing.lock();
        let places = state.kinds.get_mut(&self.kind).map(|kind| &mut kind.places);
        if let Some(place) = places.and_then(|places| places.get_mut(self.place)) {
            change(place);
        }
    }
}

/// A call to a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// List everything again.
    Anew,
    /// Try again without further delay.
    Again,
}

/// The receiver of the calls to one watch.
pub(super) struct Calls {
    calls: watch::Receiver<Call>,
    heard: Call,
}

impl Calls {
    /// Waits for a call since the last return. Several calls count as one. Cancelling the wait loses no call.
    pub(crate) async fn next(&mut self) -> Called {
        if self.calls.changed().await.is_err() {
            // The sender is gone, so no further call can come.
            pending::<()>().await;
        }
        let before = std::mem::replace(&mut self.heard, *self.calls.borrow());
        if before.anew == self.heard.anew { Called::Again } else { Called::Anew }
    }
}

/// True if the API server itself refused the request (401, 403) or found nothing (404, 410). Other errors can come from
/// a server that lost its data, is starting or is overloaded (429).
pub(super) fn is_answer(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [401, 403, 404, 410].contains(&status.code))
}

/// The number of a resourceVersion. Versions are ordered within one resource type and, on one etcd, across all types
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
pub(super) fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::ApiToken;
    use futures::FutureExt;
    use kube::core::Status;
    use tokio::time::advance;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The handle of the only watch of tokens.
    fn ear(hearing: &Hearing) -> Ear {
        hearing.ears::<ApiToken>([None]).remove(0)
    }

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, ..Status::failure("", "") }))
    }

    /// True if a history has begun since the last call.
    fn begins(calls: &mut Calls) -> bool {
        calls.next().now_or_never() == Some(Called::Anew)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_is_deaf_and_who_is_cut_off_is_not() {
        let hearing = Hearing::default();
        let ear = ear(&hearing);
        assert!(hearing.is_old(), "nothing is heard yet");
        ear.heard("7");
        for code in [401, 403] {
            advance(seconds(4)).await;
            ear.failed(&refused(code));
        }
        assert!(hearing.deaf().is_none() && hearing.silence().is_none());
        assert!(!hearing.is_old());
        advance(seconds(4)).await;
        assert!(hearing.is_old(), "its watch fails for longer than some seconds");
        for _ in 0..100 {
            advance(seconds(3)).await;
            ear.failed(&refused(403));
        }
        assert_eq!(hearing.deaf().as_deref(), Some("apitokens.tokenry.dev"));
        for code in [429, 503] {
            advance(seconds(300)).await;
            ear.failed(&refused(code));
            assert!(hearing.deaf().is_none(), "{code}: nothing answers any more");
        }
        assert!(hearing.stale().is_some() && hearing.silence().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_back_is_given_time_to_be_heard_and_all_is_read_anew() {
        let hearing = Hearing::default();
        let (ear, mut histories) = (ear(&hearing), hearing.calls());
        ear.heard("7");
        advance(seconds(600)).await;
        hearing.answered();
        assert!(hearing.deaf().is_none() && hearing.stale().is_some());
        assert!(begins(&mut histories) && !begins(&mut histories));
        advance(seconds(4)).await;
        hearing.answered();
        assert!(!begins(&mut histories), "a short silence begins nothing");
        advance(seconds(9)).await;
        hearing.fails(true);
        hearing.answered();
        let called = histories.next().now_or_never();
        assert_eq!(called, Some(Called::Again), "nor does a slow answer; but whoever waits tries again");
        advance(seconds(9)).await;
        hearing.fails(true);
        hearing.fails(false);
        hearing.answered();
        assert!(begins(&mut histories), "it may have been restarted");
        advance(seconds(9)).await;
        hearing.answered();
        assert!(begins(&mut histories), "and so it may while this process did not run");
        for _ in 0..8 {
            advance(seconds(4)).await;
            hearing.answered();
        }
        assert!(hearing.deaf().is_some());
        ear.heard("8");
        assert!(hearing.deaf().is_none() && !hearing.is_old());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_watch_is_noticed_soon_where_somebody_waits_for_its_news() {
        for (hearing, noticed) in [(Hearing::close(StaleAfter::default()), 8), (Hearing::default(), 40)] {
            ear(&hearing).heard("7");
            for _ in 0..noticed {
                assert!(!hearing.is_old());
                advance(seconds(1)).await;
                hearing.answered();
            }
            advance(seconds(1)).await;
            assert!(hearing.is_old() && hearing.deaf().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_went_back_begins_a_new_history_once() {
        let hearing = Hearing::default();
        let (ear, mut histories) = (ear(&hearing), hearing.calls());
        ear.heard("100");
        hearing.stands("apitokens.tokenry.dev", Some("100"), 100);
        hearing.stands("apitokens.tokenry.dev", Some("odd"), 100);
        assert!(!begins(&mut histories));
        // The server was asked before the last event arrived, and answers after it.
        ear.heard("105");
        hearing.stands("apitokens.tokenry.dev", Some("104"), 100);
        assert!(!begins(&mut histories));
        hearing.stands("apitokens.tokenry.dev", Some("150"), 105);
        assert_eq!(hearing.known("apitokens.tokenry.dev"), 150, "also of what no watch has told yet");
        hearing.stands("apitokens.tokenry.dev", Some("120"), 150);
        assert!(begins(&mut histories));
        ear.heard("41");
        let known = hearing.known("apitokens.tokenry.dev");
        hearing.stands("apitokens.tokenry.dev", Some("41"), known);
        assert!(!begins(&mut histories));
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_is_as_old_as_its_oldest_watch_and_the_namespace_is_named() {
        let hearing = Hearing::close(StaleAfter::default());
        let ears = hearing.ears::<ApiToken>(["a", "b"].map(|name| Some(name.to_owned())));
        ears[0].heard("7");
        assert!(hearing.is_old(), "the other one was not listed");
        assert!(!hearing.is_cut_off());
        ears[1].heard("9");
        assert!(!hearing.is_old());
        assert_eq!(hearing.known("apitokens.tokenry.dev"), 9);
        for _ in 0..100 {
            advance(seconds(4)).await;
            ears[0].heard("8");
        }
        assert!(hearing.is_old());
        assert!(!hearing.is_cut_off(), "it hears of the other one");
        assert_eq!(hearing.deaf().as_deref(), Some("apitokens.tokenry.dev in namespace b"));
        assert_eq!(hearing.ages(), [("apitokens.tokenry.dev".to_owned(), seconds(400))]);
        ears[1].heard("9");
        assert!(!hearing.is_old() && hearing.deaf().is_none());
        for code in [403, 403, 403] {
            advance(seconds(2)).await;
            ears[0].heard("9");
            ears[1].failed(&refused(code));
        }
        assert!(!hearing.is_old(), "for a moment");
        advance(seconds(2)).await;
        ears[0].heard("9");
        assert!(hearing.is_old(), "its watch fails for longer than some seconds");
        // A list of all waits for the one that fails.
        for _ in 0..100 {
            advance(seconds(4)).await;
            ears[1].failed(&refused(403));
        }
        assert_eq!(hearing.deaf().as_deref(), Some("apitokens.tokenry.dev in namespace b"));
    }
}
