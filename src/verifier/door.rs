//! The one entry for every protocol. It judges a request, counts the answer, and writes it to the audit log.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::time::sleep;

use super::{
    Cause, Requested, StaleAnswers, audit,
    check::{Verdict, check},
    credential::{self, Places},
    guard::MISSING,
    index::Key,
    known::Known,
};
use crate::{
    access::Request,
    outside::{Clock, Hearing, crowd::Crowd, metrics::Metrics},
};

/// The longest time that a request waits for the index to change.
const PATIENCE: Duration = Duration::from_secs(1);
/// The number of requests for one Instance that may wait at the same time. Anybody can make up ids, so requests for one
/// Instance must not take the places of another. All requests for Instances that do not exist share one such limit.
const WAITING_EACH: usize = 64;
/// The number of requests that may wait at the same time, for all Instances together.
const WAITING: usize = 256;

/// A request to judge, independent of the protocol.
pub struct Asking<'a> {
    /// The Instance that receives the request.
    pub instance: Key,
    /// The presented credential, or the reason why there is none to check.
    pub credential: Result<&'a str, Cause>,
    /// The request to authorize. `None`: the door only checks the credential, and finds the token that it belongs to.
    pub request: Option<Requested<'a>>,
}

/// An answer, independent of the protocol. Only [`Door::ask`] creates answers.
#[derive(Debug)]
pub struct Answer(Verdict);

impl Answer {
    /// The verdict.
    pub fn verdict(&self) -> &Verdict {
        &self.0
    }
}

/// Answers requests of every protocol from the index.
pub struct Door {
    known: Arc<Known>,
    guarded: AtomicBool,
    waiting: Crowd<Option<Key>>,
    /// The places for credentials of an Instance that names none.
    usual: Places,
    hearing: Hearing,
    stale_answers: StaleAnswers,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Door {
    /// A door that answers from `known`. `hearing` says if `known` is up to date.
    pub fn new(
        known: Arc<Known>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        hearing: Hearing,
        stale_answers: StaleAnswers,
    ) -> Self {
        let (guarded, waiting) = (AtomicBool::new(true), Crowd::new(WAITING_EACH, WAITING));
        Self { known, guarded, waiting, usual: Places::default(), hearing, stale_answers, clock, metrics }
    }

    /// Answers a request. The answer is counted and written to the audit log. If the request is let in, the use of the
    /// token is noted.
    ///
    /// A credential with a right checksum and an unknown id may be newer than the index. Its request waits up to a
    /// second for the index to change. The same applies if the account or the Instance is missing. If the index may be
    /// out of date, the answer is a temporary error, so that the caller tries again.
    pub async fn ask(&self, asking: &Asking<'_>) -> Answer {
        let verdict = self.verdict(asking).await;
        let cause = verdict.cause;
        self.metrics.verdict(cause.category().code(), cause.as_str());
        if let (Cause::Allowed, Some(identity)) = (cause, &verdict.identity) {
            self.known.usage().note(identity, self.clock.now());
        }
        audit::write(asking, &verdict);
        Answer(verdict)
    }

    /// The credential in `headers`, at the places that the Instance names. An unknown Instance has the default places.
    ///
    /// # Errors
    /// The headers do not hold exactly one clear credential.
    pub fn credential<'a>(&self, instance: &Key, headers: &'a HeaderMap) -> Result<&'a str, Cause> {
        let index = self.known.index();
        let places = index.instance(instance).map_or(&self.usual, |entry| &entry.places);
        credential::find(headers, places)
    }

    /// Checks that every kind was read, that the watches work if the API server answers, and that this verifier cannot
    /// write records. With [`StaleAnswers::Refuse`], a stale index fails as well. The error names the failed check.
    pub fn ready(&self) -> Result<(), String> {
        let unread = self.known.unread();
        if unread > 0 {
            return Err(format!("waiting for the first list of {unread} kinds"));
        }
        if !self.guarded.load(Ordering::SeqCst) {
            return Err(MISSING.into());
        }
        if let Some(kind) = self.hearing.deaf() {
            return Err(format!(
                "the watch of {kind} has delivered nothing for too long, although the API server answers; see the log"
            ));
        }
        if self.refuses_all() {
            return Err("the watches have delivered nothing for too long, and --stale-answers=refuse is set".into());
        }
        Ok(())
    }

    /// True if the index is too old to judge any request by.
    fn refuses_all(&self) -> bool {
        self.stale_answers == StaleAnswers::Refuse && self.hearing.stale().is_some()
    }

    /// Sets the result of the last test of the admission policies. True: this verifier cannot write records.
    pub fn set_guarded(&self, guarded: bool) {
        self.guarded.store(guarded, Ordering::SeqCst);
    }

    async fn verdict(&self, asking: &Asking<'_>) -> Verdict {
        if self.known.unread() > 0 {
            return Cause::NotSynced.into();
        }
        if self.refuses_all() {
            return Cause::OutOfTouch.into();
        }
        let request = asking.request.as_ref().map(Requested::request);
        match asking.credential {
            Ok(credential) => self.patiently(&asking.instance, credential, request.as_ref()).await,
            Err(cause) => cause.into(),
        }
    }

    async fn patiently(&self, instance: &Key, credential: &str, request: Option<&Request<'_>>) -> Verdict {
        // Subscribes before the first look, so that no change in between is missed.
        let mut changes = self.known.changes();
        let look = || check(&self.known.index(), instance, credential, request, self.clock.now());
        let mut verdict = look();
        let (mut over, mut place) = (pin!(sleep(PATIENCE)), None);
        while verdict.cause.may_be_news() {
            if self.hearing.is_old() {
                return Cause::OutOfTouch.into();
            }
            place = place.or_else(|| self.waiting.take(self.standing(instance)));
            if place.is_none() {
                return Cause::Crowded.into();
            }
            tokio::select! {
                Ok(()) = changes.changed() => verdict = look(),
                () = &mut over => break,
                else => break,
            }
        }
        verdict
    }

    /// The key of the Instance. `None` if the Instance does not exist.
    fn standing(&self, instance: &Key) -> Option<Key> {
        self.known.index().instance(instance).map(|_| instance.clone())
    }
}

#[cfg(test)]
impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self(verdict)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test measures how long it waited")]

    use super::*;
    use crate::{
        crd::{Account, ApiToken, Instance},
        outside::SystemClock,
        token::{Digest, format},
        verifier::usage::Usage,
    };
    use serde_json::json;
    use std::collections::BTreeSet;
    use tokio::time::Instant;

    /// A door that waits for the first list of these kinds.
    fn waiting_for(kinds: &[&str], hearing: Hearing, stale_answers: StaleAnswers) -> Door {
        let kinds = kinds.iter().map(|&kind| kind.to_owned()).collect::<BTreeSet<_>>();
        let known = Arc::new(Known::new(kinds, Usage::new().0));
        Door::new(known, Arc::new(SystemClock), Arc::default(), hearing, stale_answers)
    }

    fn door() -> Arc<Door> {
        Arc::new(waiting_for(&[], Hearing::default(), StaleAnswers::default()))
    }

    fn eem() -> Key {
        Key { namespace: "a".into(), name: "eem".into() }
    }

    async fn cause(door: &Door, headers: &HeaderMap) -> Cause {
        let (method, target) = (Some("GET".into()), Some("/".into()));
        let request = Some(Requested { method, target, headers });
        let credential = door.credential(&eem(), headers);
        door.ask(&Asking { instance: eem(), credential, request }).await.verdict().cause
    }

    fn presenting(value: &str) -> HeaderMap {
        [("api-token".parse().unwrap(), value.parse().unwrap())].into_iter().collect()
    }

    fn teach(door: &Door, value: &str) {
        let of = |kind: &str, name: &str| {
            let metadata = json!({"namespace": "a", "name": name, "uid": name});
            json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata})
        };
        let with = |mut object: serde_json::Value, key: &str, value| {
            object[key] = value;
            object
        };
        let refers = json!({"instanceRef": {"name": "eem"}});
        let owned = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice"});
        let record = json!({
            "generation": 1, "id": format::id(value).unwrap(), "sha256": Digest::of(value), "state": "Recorded",
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2999-01-01T00:00:00Z",
        });
        let token = with(
            with(of("ApiToken", "x"), "spec", refers),
            "status",
            json!({"account": {"name": "x", "uid": "x"}, "records": [record]}),
        );
        door.known.learn(|index| {
            index.apply::<Instance>(serde_json::from_value(with(of("Instance", "eem"), "spec", json!({}))).unwrap())
                | index
                    .apply::<Account>(serde_json::from_value(with(of("ServiceAccount", "x"), "spec", owned)).unwrap())
                | index.apply::<ApiToken>(serde_json::from_value(token).unwrap())
        });
    }

    fn value() -> String {
        format::assemble("tkn", &"i".repeat(16), &"s".repeat(43)).expose().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_just_minted_is_waited_for() {
        let door = door();
        let asked = tokio::spawn({
            let door = door.clone();
            async move { cause(&door, &presenting(&value())).await }
        });
        tokio::time::sleep(Duration::from_millis(900)).await;
        teach(&door, &value());
        assert_eq!(asked.await.unwrap(), Cause::Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_ever_hears_of_is_refused_after_a_second() {
        let start = Instant::now();
        assert_eq!(cause(&door(), &presenting(&value())).await, Cause::Unknown);
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_known_while_nothing_is_heard_is_not_refused_for_good() {
        let door = door();
        teach(&door, &value());
        let other = format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(cause(&door, &presenting(other.expose())).await, Cause::Unknown);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(cause(&door, &presenting(other.expose())).await, Cause::OutOfTouch);
        assert_eq!(cause(&door, &presenting("made up")).await, Cause::Malformed);
        assert_eq!(cause(&door, &presenting(&value())).await, Cause::Allowed);
        assert!(door.ready().is_ok(), "the API server answers nobody, so no other verifier hears more");
        assert_eq!(Cause::OutOfTouch.category().code(), 503);
    }

    #[tokio::test(start_paused = true)]
    async fn stale_answers_are_refused_where_they_are_not_wanted() {
        let hearing = Hearing::default();
        let ear = hearing.ear::<ApiToken>();
        let door = waiting_for(&[], hearing, StaleAnswers::Refuse);
        teach(&door, &value());
        ear.heard("1");
        tokio::time::advance(Duration::from_mins(4)).await;
        assert_eq!(cause(&door, &presenting(&value())).await, Cause::Allowed);
        tokio::time::advance(Duration::from_mins(2)).await;
        assert_eq!(cause(&door, &presenting(&value())).await, Cause::OutOfTouch);
        assert!(door.ready().is_err());
        ear.heard("2");
        assert_eq!(cause(&door, &presenting(&value())).await, Cause::Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let door = door();
        let all: Vec<_> = (0..WAITING_EACH).map(|_| door.waiting.take(None).unwrap()).collect();
        let start = Instant::now();
        assert_eq!(cause(&door, &presenting(&value())).await, Cause::Crowded);
        assert_eq!((start.elapsed().as_secs(), Cause::Crowded.category().code()), (0, 503), "the refusal is temporary");
        drop(all);
    }

    #[tokio::test]
    async fn nothing_is_judged_before_everything_was_read() {
        let door = waiting_for(&["instances"], Hearing::default(), StaleAnswers::default());
        teach(&door, &value());
        assert_eq!(cause(&door, &presenting(&value())).await, Cause::NotSynced);
        assert!(door.ready().is_err());
    }

    /// Collects the lines of the audit log.
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_answer_is_counted_and_written_down_and_a_use_is_noted_whatever_is_asked() {
        let (usage, mut news) = Usage::new();
        let (metrics, lines) = (Arc::new(Metrics::default()), Lines::default());
        let known = Arc::new(Known::new(BTreeSet::new(), usage));
        let (clock, hearing) = (Arc::new(SystemClock), Hearing::default());
        let door = Door::new(known, clock, metrics.clone(), hearing, StaleAnswers::default());
        teach(&door, &value());
        let written = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
        let _log = tracing::subscriber::set_default(log);
        let value = value();
        let answer = door.ask(&Asking { instance: eem(), credential: Ok(&value), request: None }).await;
        let identity = answer.verdict().identity.as_ref().unwrap();
        assert_eq!((answer.verdict().cause, &*identity.subject), (Cause::Allowed, "account:a/x"));
        assert_eq!(identity.owner.as_deref(), Some("user:alice"), "the token names none, and its account does");
        door.ask(&Asking { instance: eem(), credential: Err(Cause::Missing), request: None }).await;
        let uses: Vec<_> =
            std::iter::from_fn(|| news.try_recv().ok()).map(|(key, generation, _)| (key, generation)).collect();
        assert_eq!(uses, [(Key::new("a", "x"), 1)]);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        for (status, reason) in [(200, "Allowed"), (401, "Missing")] {
            let counted = format!(r#"verdicts_total{{status="{status}",reason="{reason}"}} 1"#);
            assert!(metrics.text().contains(&counted), "{counted}");
            assert!(text.contains(&format!("status={status} reason=\"{reason}\"")), "{text}");
        }
        assert!(text.contains(r#"token="a/x" token_id="iiiiiiiiiiiiiiii" owner="user:alice" "#), "{text}");
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains(&value));
    }
}
