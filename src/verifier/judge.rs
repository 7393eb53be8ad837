//! Asks the index, and waits a moment where it may only not have heard yet.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{
    Asked, Cause,
    check::{Verdict, check},
    credential::{self, Places},
    guard::MISSING,
    index::{Index, Key, TokenEntry},
    usage::Usage,
};
use crate::{
    access::Request,
    outside::{Clock, metrics::Metrics},
};

/// How long a verdict is held back for news.
const PATIENCE: Duration = Duration::from_secs(1);
/// Requests that may wait at the same time. One more is refused at once: ids can be made up.
const WAITING: usize = 256;
/// Kinds that have to be read before anything can be judged.
const KINDS: usize = 5;

/// The index, and those who wait for it to change.
pub struct Judge {
    index: RwLock<Index>,
    changes: watch::Sender<u64>,
    synced: AtomicUsize,
    guarded: AtomicBool,
    waiting: Semaphore,
    /// Where an Instance that names none takes credentials.
    usual: Places,
    usage: Usage,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Judge {
    /// A judge who knows of nothing yet.
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, usage: Usage) -> Self {
        Self {
            index: RwLock::default(),
            changes: watch::Sender::new(0),
            synced: AtomicUsize::new(0),
            guarded: AtomicBool::new(true),
            waiting: Semaphore::new(WAITING),
            usual: Places::default(),
            usage,
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

    /// A kind was read for the first time.
    pub fn synced(&self) {
        self.synced.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it has all to judge by, and could not write records; an error says what is missing.
    pub fn ready(&self) -> Result<(), String> {
        match self.unread() {
            0 if self.guarded.load(Ordering::SeqCst) => Ok(()),
            0 => Err(MISSING.into()),
            kinds => Err(format!("waiting for the first list of {kinds} kinds")),
        }
    }

    /// How many kinds have not been read yet.
    fn unread(&self) -> usize {
        KINDS.saturating_sub(self.synced.load(Ordering::SeqCst))
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
    /// index to change.
    pub async fn judge(&self, instance: &Key, asked: &Asked, headers: &HeaderMap) -> Verdict {
        let verdict = match self.credential(instance, headers) {
            _ if self.unread() > 0 => Cause::NotSynced.into(),
            Err(cause) => cause.into(),
            Ok(credential) => self.patiently(instance, credential, &asked.request(headers)).await,
        };
        self.metrics.verdict(verdict.cause.status().as_u16(), verdict.cause.as_str());
        if let (Cause::Allowed, Some(identity)) = (verdict.cause, &verdict.identity) {
            self.usage.note(&identity.token, identity.generation, self.clock.now());
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
        let verdict = self.look(instance, credential, request);
        let place = if verdict.cause.may_be_news() { self.waiting.try_acquire().ok() } else { None };
        if place.is_none() {
            return verdict;
        }
        let end = Instant::now() + PATIENCE;
        let mut verdict = verdict;
        while verdict.cause.may_be_news() {
            match tokio::time::timeout_at(end, changes.changed()).await {
                Ok(Ok(())) => verdict = self.look(instance, credential, request),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        verdict
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

    fn judge() -> Arc<Judge> {
        let judge = Judge::new(Arc::new(SystemClock), Arc::default(), Usage::new().0);
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
    async fn only_so_many_wait() {
        let judge = judge();
        let all = judge.waiting.try_acquire_many(WAITING as u32).unwrap();
        let start = Instant::now();
        assert_eq!(cause(&judge, &presenting(&value())).await, Cause::Unknown);
        assert_eq!(start.elapsed().as_secs(), 0);
        drop(all);
    }

    #[tokio::test]
    async fn nothing_is_judged_before_everything_was_read() {
        let judge = Judge::new(Arc::new(SystemClock), Arc::default(), Usage::new().0);
        teach(&judge, &value());
        assert_eq!(cause(&judge, &presenting(&value())).await, Cause::NotSynced);
        assert!(judge.ready().is_err());
    }
}
