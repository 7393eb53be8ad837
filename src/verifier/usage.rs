//! Writes into `status.use` when tokens were last used.
//!
//! The first use of a generation is written at once. Later uses of it are written at most once an hour, so a busy token
//! costs few writes. Several verifiers may see uses of one token. A verifier writes nothing if the status already has a
//! use from the last hour. Such a use costs no lock. A use is in memory only until the index lists it, or until its
//! token is gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::mpsc;

use super::{Identity, index::Key, known::Known};
use crate::{
    crd::api_token::Use,
    outside::Writer,
    token::{Id, duration::after},
};

/// The shortest time between two written uses of one generation.
const SELDOM: SignedDuration = SignedDuration::from_hours(1);
/// The time after which a use is reported again if it could not be written.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// The number of uses that may wait to be written. If the queue is full, the next use of the same token is reported
/// instead.
const WAITING: usize = 1024;

/// The number of values of one token whose uses are noted. During an overlap callers use two of them in turn.
const VALUES: usize = 4;

/// The uses that the index does not list yet, and the queue of uses to write.
pub struct Usage {
    /// For each token: the ids of its last used values, and the times when these uses were queued. A later token of the
    /// same name has other ids.
    told: Mutex<HashMap<Key, Vec<(Id, Timestamp)>>>,
    news: mpsc::Sender<News>,
}

/// A use to write: the token, the generation and the time.
pub(crate) type News = (Key, i64, Timestamp);

impl Usage {
    /// An empty `Usage`, and the receiving end of its queue.
    pub fn new() -> (Self, mpsc::Receiver<News>) {
        let (news, out) = mpsc::channel(WAITING);
        (Self { told: Mutex::default(), news }, out)
    }

    /// Notes the use of a value. This method never waits.
    pub fn note(&self, used: &Identity, now: Timestamp) {
        if used.last_used.is_some_and(|last| is_recent(last, now)) {
            return;
        }
        let mut told = self.told.lock().expect("nobody panics here");
        let is_told = |(id, at): &(Id, Timestamp)| *id == used.id && is_recent(*at, now);
        if told.get(&used.token).is_some_and(|values| values.iter().any(is_told)) {
            return;
        }
        // If the queue is full, the next use is queued instead.
        if self.news.try_send((used.token.clone(), used.generation, now)).is_ok() {
            let values = told.entry(used.token.clone()).or_default();
            values.retain(|(id, _)| *id != used.id);
            values.insert(0, (used.id, now));
            values.truncate(VALUES);
        }
    }

    /// Forgets the noted uses of a token that the index lists now. `listed` is the last use that the index lists of a
    /// value. `None`: the token is gone.
    pub fn settle(&self, token: &Key, listed: Option<impl Fn(Id) -> Option<Timestamp>>) {
        let mut told = self.told.lock().expect("nobody panics here");
        let Some(values) = told.get_mut(token) else { return };
        match listed {
            Some(listed) => values.retain(|(id, at)| !listed(*id).is_some_and(|last| is_recent(last, *at))),
            None => values.clear(),
        }
        if values.is_empty() {
            told.remove(token);
        }
    }

    /// The tokens with noted uses.
    pub fn tokens(&self) -> Vec<Key> {
        self.told.lock().expect("nobody panics here").keys().cloned().collect()
    }

    /// Handles a failed write of the use at this time. A use of the same value that is at least a minute later is news
    /// again.
    fn again(&self, token: &Key, queued: Timestamp) {
        let mut told = self.told.lock().expect("nobody panics here");
        let values = told.get_mut(token).into_iter().flatten();
        { values }.filter(|(_, at)| *at == queued).for_each(|(_, at)| *at = after(queued, AGAIN - SELDOM));
    }
}

/// True if a use at `last` makes one at `now` no news.
fn is_recent(last: Timestamp, now: Timestamp) -> bool {
    now.duration_since(last) < SELDOM
}

/// The uses in `all` plus one more use. `None` if `all` already has a use of the generation from the last hour.
fn with(mut all: Vec<Use>, generation: i64, at: Timestamp) -> Option<Vec<Use>> {
    match all.iter_mut().find(|used| used.generation == generation) {
        Some(used) if is_recent(used.last_used_at.0, at) => return None,
        Some(used) => used.last_used_at = Time(at),
        None => all.push(Use { generation, first_used_at: Time(at), last_used_at: Time(at) }),
    }
    all.sort_by_key(|used| used.generation);
    Some(all)
}

/// Writes the queued uses one after the other, forever.
pub(crate) async fn write(known: Arc<Known>, writer: Writer, mut news: mpsc::Receiver<News>) {
    while let Some((token, generation, at)) = news.recv().await {
        let Some(used) = known.look_at(&token, |entry| with(entry.used(), generation, at)) else {
            // The token was used while it was being deleted. No later event would forget it.
            known.settle(&token);
            continue;
        };
        let Key { namespace, name } = &token;
        if let Err(refusal) = writer.used(namespace, name, &used).await {
            known.usage().again(&token, at);
            tracing::debug!(%namespace, %name, %refusal, "the last use was not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn key(name: &str) -> Key {
        Key { namespace: "a".into(), name: name.into() }
    }

    /// An id that begins with this word.
    fn id(word: &str) -> Id {
        Id::of(&format!("{word:0<16}")).unwrap()
    }

    /// A use of a generation of the token with this name.
    fn identity(name: &str, generation: i64) -> Identity {
        Identity {
            token: key(name),
            generation,
            id: id(&format!("{name}{generation}")),
            uid: name.into(),
            minted_at: at(0),
            ends_at: None,
            subject: String::new(),
            owner: None,
            role: None,
            organization: Default::default(),
            last_used: None,
        }
    }

    /// Tells that a token is gone.
    fn gone(usage: &Usage, token: &Key) {
        usage.settle(token, None::<fn(Id) -> Option<Timestamp>>);
    }

    fn used(generation: i64, first: i64, last: i64) -> Use {
        Use { generation, first_used_at: Time(at(first)), last_used_at: Time(at(last)) }
    }

    #[test]
    fn the_first_use_of_a_generation_is_news_and_later_ones_once_an_hour() {
        let (usage, mut news) = Usage::new();
        let uses = [(1, 0), (1, 1), (1, HOUR - 1), (1, HOUR), (1, HOUR + 1), (2, HOUR + 2), (2, HOUR + 3)];
        uses.iter().for_each(|&(generation, seconds)| usage.note(&identity("x", generation), at(seconds)));
        usage.note(&identity("y", 1), at(5));
        let mut told = Vec::new();
        while let Ok((key, generation, when)) = news.try_recv() {
            told.push((key.name.to_string(), generation, when));
        }
        let x = |generation, seconds| ("x".to_owned(), generation, at(seconds));
        assert_eq!(told, [x(1, 0), x(1, HOUR), x(2, HOUR + 2), ("y".into(), 1, at(5))]);
    }

    #[test]
    fn two_values_that_are_used_in_turn_are_news_once_an_hour() {
        let (usage, mut news) = Usage::new();
        (0..100).for_each(|seconds| usage.note(&identity("x", 1 + seconds % 2), at(seconds)));
        let told: Vec<_> = std::iter::from_fn(|| news.try_recv().ok()).map(|(_, generation, _)| generation).collect();
        assert_eq!(told, [1, 2]);
    }

    #[test]
    fn what_waits_is_bounded_and_the_next_use_is_news_again() {
        let (usage, mut news) = Usage::new();
        (0..WAITING).for_each(|n| usage.note(&identity(&n.to_string(), 1), at(0)));
        usage.note(&identity("late", 1), at(0));
        assert!(news.try_recv().is_ok());
        usage.note(&identity("late", 1), at(1));
        let mut last = None;
        while let Ok((key, _, when)) = news.try_recv() {
            last = Some((key.name.to_string(), when));
        }
        assert_eq!(last, Some(("late".into(), at(1))));
        usage.tokens().iter().for_each(|token| gone(&usage, token));
        assert_eq!(usage.tokens(), []);
    }

    #[test]
    fn a_token_that_is_made_anew_is_another() {
        let (usage, mut news) = Usage::new();
        usage.note(&identity("x", 1), at(0));
        let anew = Identity { id: id("other"), ..identity("x", 1) };
        usage.note(&anew, at(1));
        gone(&usage, &key("x"));
        assert_eq!(usage.tokens(), []);
        usage.note(&anew, at(2));
        let told: Vec<_> = std::iter::from_fn(|| news.try_recv().ok()).map(|(_, _, when)| when).collect();
        assert_eq!(told, [at(0), at(1), at(2)]);
    }

    #[test]
    fn what_could_not_be_written_is_news_again_after_a_minute() {
        let (usage, mut news) = Usage::new();
        usage.note(&identity("x", 1), at(0));
        usage.note(&identity("x", 2), at(1));
        usage.again(&key("x"), at(0));
        [59, 60, 61].iter().for_each(|&seconds| usage.note(&identity("x", 1), at(seconds)));
        usage.again(&key("y"), at(0));
        usage.note(&identity("x", 2), at(62));
        let told: Vec<_> = std::iter::from_fn(|| news.try_recv().ok()).map(|(_, _, when)| when).collect();
        assert_eq!(told, [at(0), at(1), at(60)]);
    }

    #[test]
    fn a_use_that_the_index_lists_is_not_in_memory_and_no_news_for_an_hour() {
        let (usage, mut news) = Usage::new();
        usage.note(&identity("x", 1), at(0));
        usage.note(&identity("x", 2), at(0));
        usage.settle(&key("x"), Some(|_| Some(at(-HOUR))));
        usage.settle(&key("x"), Some(|of| (of == id("x1")).then_some(at(-1))));
        assert_eq!(usage.told.lock().unwrap()[&key("x")], [(id("x2"), at(0))], "the times of a status are cut");
        usage.settle(&key("x"), Some(|_| Some(at(0))));
        assert_eq!(usage.tokens(), []);
        let listed = Identity { last_used: Some(at(0)), ..identity("x", 1) };
        [1, HOUR - 1, HOUR].iter().for_each(|&seconds| usage.note(&listed, at(seconds)));
        let told: Vec<_> = std::iter::from_fn(|| news.try_recv().ok()).map(|(_, _, when)| when).collect();
        assert_eq!(told, [at(0), at(0), at(HOUR)]);
    }

    #[test]
    fn a_use_is_added_to_the_others_or_prolongs_that_of_its_generation() {
        let standing = || vec![used(1, 0, 0), used(2, 10, 10)];
        let with_third = vec![used(1, 0, 0), used(2, 10, 10), used(3, 20, 20)];
        assert_eq!(with(standing(), 3, at(20)), Some(with_third));
        assert_eq!(with(standing(), 2, at(10 + HOUR)), Some(vec![used(1, 0, 0), used(2, 10, 10 + HOUR)]));
    }

    #[test]
    fn what_another_verifier_has_told_is_not_told_again() {
        assert_eq!(with(vec![used(1, 0, 100)], 1, at(101)), None);
        assert_eq!(with(vec![used(1, 0, 100)], 1, at(0)), None, "a clock that is behind");
    }
}
