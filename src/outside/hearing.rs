//! How well this process hears: when it has heard of each kind last, and whether the API server answers at all.
//!
//! A watch that is silent says nothing: there may be no news, or the connection may be dead. So every
//! [two seconds](Hearing::ask) a list of one item is asked for. Its answer shows that the server is there, and its
//! resourceVersion where the server is. A version that is lower than one heard before begins a *new history*: the
//! server's data was restored, what was heard is of a future that is lost, and every kind is read anew.

use std::{
    collections::BTreeMap,
    future::pending,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use kube::Resource;
use tokio::{sync::watch, time::Instant};

use super::trouble::name;
use crate::token::duration;

/// What was heard last is old after so long without an answer, or while a watch fails.
const OLD: Duration = Duration::from_secs(5);
/// A silence of this length begins a new history also where the server was only busy: one slow answer makes no silence
/// of this length.
const LOST: Duration = Duration::from_secs(15);
/// How long a watch lasts before it is begun anew, and how much later than that it may end. When it ends, everything
/// until then was heard. Proxies cut connections that are silent for longer, such as 35 s.
const LASTS: Duration = Duration::from_secs(30);
const LATE: Duration = Duration::from_secs(10);
/// The same where somebody waits for news.
const CLOSE: Duration = Duration::from_secs(5);
const CLOSE_LATE: Duration = Duration::from_secs(3);
/// The shortest that a watch lasts.
const SHORTEST: Duration = Duration::from_secs(3);
/// A server that answers again is given so long to be heard.
const GRACE: Duration = Duration::from_secs(30);

/// What is known of how well this process hears.
#[derive(Clone)]
pub struct Hearing(Arc<Shared>);

/// How old what was heard may be before it is stale, as a duration of at least ten seconds such as `30s` or `5m`, which
/// is the default.
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
    /// How long a watch lasts, in whole seconds, as the server is told.
    lasts: Duration,
    /// How long a watch may be silent: longer than it lasts, so that only a dead connection is given up.
    silent: Duration,
    state: Mutex<Ears>,
    /// What all watches have to do.
    calls: watch::Sender<Call>,
}

/// What all watches have to do, by how often each was called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Call {
    /// To read everything anew: a new history begins.
    anew: u64,
    /// To try again, without waiting any longer.
    again: u64,
}

struct Ears {
    kinds: BTreeMap<String, KindHeard>,
    /// When the server answered last.
    answered: Instant,
    /// Whether a connection to it failed since then, or this process did not run: it may have been restarted.
    failed: bool,
    /// Whether it was busy since then: it did not answer in time, or answered that it cannot.
    busy: bool,
    /// Since when it does, without a break.
    answers_since: Instant,
    /// Whether it was said that it does not.
    said: bool,
}

struct KindHeard {
    /// Whether all its objects were listed once.
    listed: bool,
    /// When something was heard of it last.
    heard: Instant,
    /// The highest version that the server has told of it in this history. Those of another kind may come from another
    /// etcd.
    version: u64,
    /// Since when its watch fails.
    failing: Option<Instant>,
}

impl Default for Hearing {
    /// For a process of which nobody waits to hear what is new: a dead watch is noticed within 40 seconds.
    fn default() -> Self {
        Self::new(StaleAfter::default(), LASTS, LATE)
    }
}

impl Hearing {
    /// For a process that is asked about what is new: a dead watch is noticed within eight seconds. What was heard is
    /// stale after `stale_after`: several watches fit into that.
    pub fn close(stale_after: StaleAfter) -> Self {
        let third = Duration::from_secs(stale_after.0.as_secs() / 3);
        Self::new(stale_after, third.clamp(SHORTEST, CLOSE), CLOSE_LATE)
    }

    /// Nothing was heard yet.
    fn new(StaleAfter(stale_after): StaleAfter, lasts: Duration, late: Duration) -> Self {
        let now = Instant::now();
        let state =
            Ears { kinds: BTreeMap::new(), answered: now, failed: false, busy: false, answers_since: now, said: false };
        let (silent, state) = (lasts + late, Mutex::new(state));
        Self(Arc::new(Shared { stale_after, lasts, silent, state, calls: watch::Sender::default() }))
    }

    /// What hears of the objects of one kind.
    pub fn ear<K: Resource<DynamicType = ()>>(&self) -> Ear {
        let kind = name::<K>();
        let known = KindHeard { listed: false, heard: Instant::now(), version: 0, failing: None };
        self.lock().kinds.insert(kind.clone(), known);
        Ear { hearing: self.clone(), kind }
    }

    /// Forgets a kind that is not watched any more.
    pub(super) fn forget<K: Resource<DynamicType = ()>>(&self) {
        self.lock().kinds.remove(&name::<K>());
    }

    /// The calls to a watch from now on.
    pub(super) fn calls(&self) -> Calls {
        let calls = self.0.calls.subscribe();
        let heard = *calls.borrow();
        Calls { calls, heard }
    }

    /// For each kind, how long ago something was heard of it; of one that was never heard of, how long ago this began.
    pub fn ages(&self) -> Vec<(String, Duration)> {
        self.lock().kinds.iter().map(|(kind, known)| (kind.clone(), known.heard.elapsed())).collect()
    }

    /// How long it is that the server has not answered, once that is longer than a few seconds.
    pub fn silence(&self) -> Option<Duration> {
        Some(self.lock().answered.elapsed()).filter(|silence| *silence > OLD)
    }

    /// Whether something may have happened seconds ago and not been heard of; also while not all was listed yet.
    pub fn is_old(&self) -> bool {
        let old = |kind: &KindHeard| {
            let fails = kind.failing.is_some_and(|since| since.elapsed() > OLD);
            !kind.listed || fails || kind.heard.elapsed() > self.0.silent
        };
        self.silence().is_some() || self.lock().kinds.values().any(old)
    }

    /// The kind of which what was heard is stale, where there is one.
    pub fn stale(&self) -> Option<String> {
        let (limit, state) = (self.0.stale_after, self.lock());
        let (kind, _) = state.kinds.iter().find(|(_, known)| known.heard.elapsed() > limit)?;
        Some(kind.clone())
    }

    /// The kind of which what was heard is stale although the server answers: it refuses to tell, or what it tells does
    /// not arrive. While the server does not answer there is none: nobody hears it then.
    pub fn deaf(&self) -> Option<String> {
        let answers = self.silence().is_none() && self.lock().answers_since.elapsed() > GRACE;
        answers.then(|| self.stale()).flatten()
    }

    /// The server answers. What was heard before a silence may be of another history: all is read anew, but where the
    /// server was busy for a short while.
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
            let then = if anew { "; reading everything anew" } else { "" };
            tracing::info!("the API server answers again after {} s{then}", silence.as_secs());
        }
        if anew {
            self.begin_history();
        } else {
            self.0.calls.send_modify(|call| call.again += 1);
        }
    }

    /// A request failed: as the server is busy, or for another reason, by which it may have been restarted.
    pub(super) fn fails(&self, busy: bool) {
        let mut state = self.lock();
        *(if busy { &mut state.busy } else { &mut state.failed }) = true;
        drop(state);
        self.say_silence();
    }

    /// The version of a kind that was heard last.
    pub(super) fn known(&self, kind: &str) -> u64 {
        self.lock().kinds.get(kind).map_or(0, |known| known.version)
    }

    /// The server stands at `version` of a kind, which was asked for when `known` had been heard.
    pub(super) fn stands(&self, kind: &str, version: Option<&str>, known: u64) {
        let Some(version) = version.and_then(number) else { return };
        if version < known {
            tracing::warn!(
                "the API server is at version {version} of {kind} and was at {known} before: its data was restored; reading everything anew"
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
                "the API server has not answered for {seconds} s; what was heard before stands; trying again"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ears> {
        self.0.state.lock().expect("nobody panics here")
    }
}

/// Hears of the objects of one kind.
pub struct Ear {
    hearing: Hearing,
    kind: String,
}

impl Ear {
    /// How long a watch lasts, in whole seconds, as the server is told.
    pub(super) fn lasts(&self) -> Duration {
        self.hearing.0.lasts
    }

    /// How long a watch may be silent: longer than it lasts, so that only a dead connection is given up.
    pub(super) fn silent(&self) -> Duration {
        self.hearing.0.silent
    }

    /// Something was heard: an object, a bookmark, a list.
    pub fn heard(&self, version: &str) {
        self.hearing.answered();
        self.change(|kind| {
            kind.heard = Instant::now();
            kind.listed = true;
            kind.version = kind.version.max(number(version).unwrap_or_default());
            kind.failing = None;
        });
    }

    /// The watch stands, though nothing is heard yet.
    pub fn opened(&self) {
        self.change(|kind| kind.failing = None);
    }

    /// The watch, or a list, failed.
    pub fn failed(&self, error: &kube::Error) {
        if is_answer(error) {
            self.hearing.answered();
        }
        self.change(|kind| kind.failing = kind.failing.or_else(|| Some(Instant::now())));
    }

    fn change(&self, change: impl FnOnce(&mut KindHeard)) {
        if let Some(kind) = self.hearing.lock().kinds.get_mut(&self.kind) {
            change(kind);
        }
    }
}

/// What a watch is called to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// To read everything anew.
    Anew,
    /// To try again, without waiting any longer.
    Again,
}

/// The calls to a watch.
pub(super) struct Calls {
    calls: watch::Receiver<Call>,
    heard: Call,
}

impl Calls {
    /// Returns once the watch was called since the last time; several calls count as one. Cancelled, none is lost.
    pub(crate) async fn next(&mut self) -> Called {
        if self.calls.changed().await.is_err() {
            // Nobody is left to call.
            pending::<()>().await;
        }
        let before = std::mem::replace(&mut self.heard, *self.calls.borrow());
        if before.anew == self.heard.anew { Called::Again } else { Called::Anew }
    }
}

/// Whether the API server has answered that it will not tell, or that there is no such thing. One that has lost its own
/// data, is starting, or is asked too much (429), has not.
pub(super) fn is_answer(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [401, 403, 404, 410].contains(&status.code))
}

/// The number of a resourceVersion, which are ordered within one resource type and, on one etcd, across all of them
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
fn number(version: &str) -> Option<u64> {
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

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, ..Status::failure("", "") }))
    }

    /// Whether a history has begun since this was asked last.
    fn begins(calls: &mut Calls) -> bool {
        calls.next().now_or_never() == Some(Called::Anew)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_is_deaf_and_who_is_cut_off_is_not() {
        let hearing = Hearing::default();
        let ear = hearing.ear::<ApiToken>();
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
        let (ear, mut histories) = (hearing.ear::<ApiToken>(), hearing.calls());
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
            hearing.ear::<ApiToken>().heard("7");
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
        let (ear, mut histories) = (hearing.ear::<ApiToken>(), hearing.calls());
        ear.heard("100");
        hearing.stands("apitokens.tokenry.dev", Some("100"), 100);
        hearing.stands("apitokens.tokenry.dev", Some("odd"), 100);
        assert!(!begins(&mut histories));
        // It was asked before the last event was heard, and answers after.
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
}
