//! Asks the index, and waits a moment where it may only not have heard yet.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::{sync::watch, time::Instant};

use super::{
    Asked, Cause, StaleAnswers,
    check::{Verdict, check},
    credential::{self, Places},
    guard::MISSING,
    index::{Index, Indexed, Key, TokenEntry},
    usage::Usage,
};
use crate::{
    access::Request,
    outside::{Clock, Hearing, crowd::Crowd, metrics::Metrics},
};

/// How long a verdict is held back for news.
const PATIENCE: Duration = Duration::from_secs(1);
/// Requests for one Instance that may wait at the same time: ids can be made up, and who makes them up for one Instance keeps nobody
/// from waiting at another. Those for Instances that there are not wait as if for one.
const WAITING_EACH: usize = 64;
/// And for all of them together.
const WAITING: usize = 256;
/// Kinds that have to be read before anything can be judged.
const KINDS: usize = 5;

/// The index, and those who wait for it to change.
pub struct Judge {
    index: RwLock<Index>,
    changes: watch::Sender<u64>,
    /// Kinds that were read.
    read: watch::Sender<usize>,
    guarded: AtomicBool,
    waiting: Crowd<Option<Key>>,
    /// Where an Instance that names none takes credentials.
    usual: Places,
    usage: Usage,
    hearing: Hearing,
    stale_answers: StaleAnswers,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Judge {
    /// A judge who knows of nothing yet.
    pub fn new(
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        usage: Usage,
        hearing: Hearing,
        stale_answers: StaleAnswers,
    ) -> Self {
        Self {
            index: RwLock::default(),
            changes: watch::Sender::new(0),
            read: watch::Sender::new(0),
            guarded: AtomicBool::new(true),
            waiting: Crowd::new(WAITING_EACH, WAITING),
            usual: Places::default(),
            usage,
            hearing,
            stale_answers,
            clock,
            metrics,
        }
    }

    /// Changes the index; whoever waits looks again if `change` says that something changed.
    pub fn learn(&self, change: impl FnOnce(&mut Index) -> bool) {
        let changed = change(&mut self.index.write().expect("no change panics"));
        if changed {
            self.changes.send_modify(|version| *version += 1);
        }
    }

    /// Forgets an object, and what it remembers of its uses.
    pub fn forget<K: Indexed>(&self, key: Key) {
        if K::USED {
            self.usage.forget(&key);
        }
        self.learn(|index| index.forget::<K>(key));
    }

    /// Replaces all objects of a kind ([`Index::reset`]), and forgets the uses of those that there are no more.
    pub fn reset<K: Indexed>(&self, objects: Vec<K>, doubted: &BTreeSet<Key>) {
        self.learn(|index| index.reset(objects, doubted));
        if K::USED {
            let index = self.index.read().expect("no change panics");
            self.usage.retain(|key| index.token(key).is_some());
        }
    }

    /// How well it hears.
    pub fn hearing(&self) -> &Hearing {
        &self.hearing
    }

    /// A kind was read for the first time.
    pub fn synced(&self) {
        self.read.send_modify(|kinds| *kinds += 1);
    }

    /// Waits until everything was read once.
    pub async fn has_read(&self) {
        // The sender lives in `self`.
        let _ = self.read.subscribe().wait_for(|kinds| *kinds >= KINDS).await;
    }

    /// Whether it has all to judge by, hears what is new, and could not write records; an error says what is missing.
    pub fn ready(&self) -> Result<(), String> {
        let unread = self.unread();
        if unread > 0 {
            return Err(format!("waiting for the first list of {unread} kinds"));
        }
        if !self.guarded.load(Ordering::SeqCst) {
            return Err(MISSING.into());
        }
        if let Some(kind) = self.hearing.deaf() {
            return Err(format!(
                "nothing was heard of {kind} for too long, though the API server answers; the log says why"
            ));
        }
        if self.refuses_all() {
            return Err("nothing was heard for too long, and stale answers are not to be given".into());
        }
        Ok(())
    }

    /// Whether what it knows is too old to judge anybody by.
    fn refuses_all(&self) -> bool {
        self.stale_answers == StaleAnswers::Refuse && self.hearing.stale().is_some()
    }

    /// How many kinds have not been read yet.
    fn unread(&self) -> usize {
        KINDS.saturating_sub(*self.read.borrow())
    }

    /// Whether something keeps this verifier from writing records.
    pub fn set_guarded(&self, guarded: bool) {
        self.guarded.store(guarded, Ordering::SeqCst);
    }

    /// Some token.
    pub fn any_token(&self) -> Option<Key> {
        self.index.read().expect("no change panics").any_token().cloned()
    }

    /// Judges a request for `asked` to the Instance that `instance` names, by the credential in its headers.
    ///
    /// An id that no record has, with a right checksum, may have been minted just now: it waits up to a second for the
    /// index to change. Where what was heard is old it is not refused for good: the caller is to try again.
    pub async fn judge(&self, instance: &Key, asked: &Asked, headers: &HeaderMap) -> Verdict {
        let verdict = match self.credential(instance, headers) {
            _ if self.unread() > 0 => Cause::NotSynced.into(),
            _ if self.refuses_all() => Cause::OutOfTouch.into(),
            Err(cause) => cause.into(),
            Ok(credential) => self.patiently(instance, credential, &asked.request(headers)).await,
        };
        self.metrics.verdict(verdict.cause.status().as_u16(), verdict.cause.as_str());
        if let (Cause::Allowed, Some(identity)) = (verdict.cause, &verdict.identity) {
            self.usage.note(identity, self.clock.now());
        }
        verdict
    }

    /// What was used.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// What `look` makes of a token; nothing where there is no such token.
    pub fn look_at<T>(&self, token: &Key, look: impl FnOnce(&TokenEntry) -> Option<T>) -> Option<T> {
        look(self.index.read().expect("no change panics").token(token)?)
    }

    /// The credential in `headers`, where the Instance takes it; one that is not known takes it where most do.
    fn credential<'a>(&self, instance: &Key, headers: &'a HeaderMap) -> Result<&'a str, Cause> {
        let index = self.index.read().expect("no change panics");
        let places = index.instance(instance).map_or(&self.usual, |entry| &entry.places);
        credential::find(headers, places)
    }

    async fn patiently(&self, instance: &Key, credential: &str, request: &Request<'_>) -> Verdict {
        // Subscribed before the first look, so that no change falls in between.
        let mut changes = self.changes.subscribe();
        let mut verdict = self.look(instance, credential, request);
        let end = Instant::now() + PATIENCE;
        let mut place = None;
        while verdict.cause.may_be_news() {
            if self.hearing.is_old() {
                return Cause::OutOfTouch.into();
            }
            place = place.or_else(|| self.waiting.take(self.known(instance).cloned()));
            if place.is_none() {
                return Cause::Crowded.into();
            }
            match tokio::time::timeout_at(end, changes.changed()).await {
                Ok(Ok(())) => verdict = self.look(instance, credential, request),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        verdict
    }

    /// The Instance, where there is one of that name.
    fn known<'a>(&self, instance: &'a Key) -> Option<&'a Key> {
        self.index.read().expect("no change panics").instance(instance).map(|_| instance)
    }

    fn look(&self, instance: &Key, credential: &str, request: &Request<'_>) -> Verdict {
        check(&self.index.read().expect("no change panics"), instance, credential, request, self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crd::{Account, ApiToken, Instance},
        outside::SystemClock,
        token::{Digest, format},
    };
    use serde_json::json;

    fn untaught() -> Judge {
        let hearing = Hearing::default();
        Judge::new(Arc::new(SystemClock), Arc::default(), Usage::new().0, hearing, StaleAnswers::default())
    }

    fn judge() -> Arc<Judge> {
        let judge = untaught();
        (0..KINDS).for_each(|_| judge.synced());
        Arc::new(judge)
    }

    fn eem() -> Key {
        Key { namespace: "a".into(), name: "eem".into() }
    }

    async fn cause(judge: &Judge, headers: &HeaderMap) -> Cause {
        let asked = Asked { method: Some("GET".into()), target: Some("/".into()) };
        judge.judge(&eem(), &asked, headers).await.cause
    }

    fn presenting(value: &str) -> HeaderMap {
        [("api-token".parse().unwrap(), value.parse().unwrap())].into_iter().collect()
    }

    fn teach(judge: &Judge, value: &str) {
        let of = |kind: &str, name: &str| json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": {"namespace": "a", "name": name, "uid": name}});
        let with = |mut object: serde_json::Value, key: &str, value| {
            object[key] = value;
            object
        };
        let refers = json!({"instanceRef": {"name": "eem"}});
        let record = json!({
            "generation": 1, "id": format::id(value).unwrap(), "sha256": Digest::of(value), "state": "Recorded",
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2999-01-01T00:00:00Z",
        });
        let token = with(
            with(of("ApiToken", "x"), "spec", refers.clone()),
            "status",
            json!({"account": {"name": "x", "uid": "x"}, "records": [record]}),
        );
        judge.learn(|index| {
            index.apply::<Instance>(serde_json::from_value(with(of("Instance", "eem"), "spec", json!({}))).unwrap())
                | index
                    .apply::<Account>(serde_json::from_value(with(of("ServiceAccount", "x"), "spec", refers)).unwrap())
                | index.apply::<ApiToken>(serde_json::from_value(token).unwrap())
        });
    }

    fn value() -> String {
        format::assemble("tkn", &"i".repeat(16), &"s".repeat(43)).expose().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_just_minted_is_waited_for() {
        let judge = judge();
        let asked = tokio::spawn({
            let judge = judge.clone();
            async move { cause(&judge, &presenting(&value())).await }
        });
        tokio::time::sleep(Duration::from_millis(900)).await;
        teach(&judge, &value());
        assert_eq!(asked.await.unwrap(), Cause::Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_ever_hears_of_is_refused_after_a_second() {
        let start = Instant::now();
        assert_eq!(cause(&judge(), &presenting(&value())).await, Cause::Unknown);
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_known_while_nothing_is_heard_is_not_refused_for_good() {
        let judge = judge();
        teach(&judge, &value());
        let other = format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(cause(&judge, &presenting(other.expose())).await, Cause::Unknown);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(cause(&judge, &presenting(other.expose())).await, Cause::OutOfTouch);
        assert_eq!(cause(&judge, &presenting("made up")).await, Cause::Malformed);
        assert_eq!(cause(&judge, &presenting(&value())).await, Cause::Allowed);
        assert!(judge.ready().is_ok(), "nothing answers, so nobody hears more");
        assert_eq!(Cause::OutOfTouch.status(), 503);
    }

    #[tokio::test(start_paused = true)]
    async fn stale_answers_are_refused_where_they_are_not_wanted() {
        let hearing = Hearing::default();
        let ear = hearing.ear::<ApiToken>();
        let usage = Usage::new().0;
        let judge = Judge::new(Arc::new(SystemClock), Arc::default(), usage, hearing, StaleAnswers::Refuse);
        (0..KINDS).for_each(|_| judge.synced());
        teach(&judge, &value());
        ear.heard("1");
        tokio::time::advance(Duration::from_mins(4)).await;
        assert_eq!(cause(&judge, &presenting(&value())).await, Cause::Allowed);
        tokio::time::advance(Duration::from_mins(2)).await;
        assert_eq!(cause(&judge, &presenting(&value())).await, Cause::OutOfTouch);
        assert!(judge.ready().is_err());
        ear.heard("2");
        assert_eq!(cause(&judge, &presenting(&value())).await, Cause::Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let judge = judge();
        let all: Vec<_> = (0..WAITING_EACH).map(|_| judge.waiting.take(None).unwrap()).collect();
        let start = Instant::now();
        assert_eq!(cause(&judge, &presenting(&value())).await, Cause::Crowded);
        assert_eq!(
            (start.elapsed().as_secs(), Cause::Crowded.status().as_u16()),
            (0, 503),
            "it is not refused for good"
        );
        drop(all);
    }

    #[tokio::test]
    async fn nothing_is_judged_before_everything_was_read() {
        let judge = untaught();
        teach(&judge, &value());
        assert_eq!(cause(&judge, &presenting(&value())).await, Cause::NotSynced);
        assert!(judge.ready().is_err());
    }
}
