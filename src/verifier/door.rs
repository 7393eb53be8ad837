//! The one entry for every protocol. It judges a request, counts the answer, and writes it to the audit log.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::Guard;
use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    Category, Cause, Flaw, Journal, Origin, Protocol, Requested, StaleAnswers,
    check::{Indexing, Verdict, check_by},
    credential::{self, Credential, Places},
    guard::MISSING,
    index::{Index, InstanceEntry, Key},
    known::Known,
    origin::RequestId,
    protocol,
    unguarded::unguarded,
};
use crate::{
    access::Rules,
    crd::guarding::realm,
    outside::{
        Clock, Hearing, Reviewer,
        clock::whole,
        crowd::Crowd,
        latency::Stopwatch,
        metrics::{Metrics, WaitsFor},
    },
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
    /// The origin of the question.
    pub origin: Origin,
    /// The Instance that receives the request.
    pub instance: Key,
    /// The credential.
    pub credential: PresentedCredential<'a>,
    /// The request to authorize. `None`: the door only checks the credential, and finds the token that it belongs to.
    pub request: Option<Requested<'a>>,
}

/// The credential of a question.
pub enum PresentedCredential<'a> {
    /// The one in the headers of the request, at the places that the Instance names. An unknown Instance has the
    /// default places. The door looks for it by the index by which it judges.
    InHeaders,
    /// This one, or the reason why there is none to check. That is also the flaw of a question that nobody can answer.
    Given(Result<Credential<'a>, Cause>),
}

/// An answer, independent of the protocol. Only [`Door::ask`] creates answers.
#[derive(Debug)]
pub struct Answer {
    verdict: Verdict,
    /// `None` if the request is let in.
    challenge: Option<Challenge>,
    protocol: Protocol,
    request_id: RequestId,
}

/// The parts of a challenge that depend on the Instance.
#[derive(Debug)]
struct Challenge {
    schemes: Arc<[String]>,
    /// The Instance, if it exists.
    instance: Option<Key>,
}

impl Answer {
    /// The verdict.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The authentication schemes that a challenge names, at least one. Empty if the request is let in.
    pub fn schemes(&self) -> &[String] {
        self.challenge.as_ref().map_or(&[], |challenge| &challenge.schemes)
    }

    /// The protocol of the question.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The Instance of the question `asking`, if it exists. Only an Instance that exists lets a request in.
    pub(super) fn known_instance<'a>(&'a self, asking: &'a Asking<'_>) -> Option<&'a Key> {
        self.challenge.as_ref().map_or(Some(&asking.instance), |challenge| challenge.instance.as_ref())
    }

    /// The id of the request: the one in the question, or else one that the door has made. Each adapter answers it.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The realm of a challenge. It names the Instance only if that exists. So a test of a guard fails if the guard
    /// names a wrong Instance, or asks a verifier that does not watch the Instance.
    pub fn realm(&self) -> String {
        let instance = self.challenge.as_ref().and_then(|challenge| challenge.instance.as_ref());
        instance.map_or_else(|| "tokenry".to_owned(), |key| realm(&key.namespace, &key.name))
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
    journal: Journal,
}

impl Door {
    /// A door that answers from `known`. `hearing` says if `known` is up to date. `journal` gets each decision.
    pub fn new(
        known: Arc<Known>,
        clock: Arc<dyn Clock>,
        journal: Journal,
        hearing: Hearing,
        stale_answers: StaleAnswers,
    ) -> Self {
        let (guarded, waiting) = (AtomicBool::new(true), Crowd::new(WAITING_EACH, WAITING));
        Self { known, guarded, waiting, usual: Places::default(), hearing, stale_answers, clock, journal }
    }

    /// Answers a request. The answer is counted and written to the audit log. If the request is let in, the use of the
    /// token is noted.
    ///
    /// A credential with a right checksum and an unknown id may be newer than the index. Its request waits up to a
    /// second for the index to change. The same applies if the account or the Instance is missing. If the index may be
    /// out of date, the answer is a temporary error, so that the caller tries again.
    ///
    /// A request that the Instance does not guard is let through without a look at its credential, unless that may be a
    /// token.
    ///
    /// A request for the path that tests a guard is refused with a plain challenge, if the Instance exists. Nothing
    /// else matters: neither the credential, nor the rules, faults or endpoint of the Instance.
    pub async fn ask(&self, asking: &Asking<'_>) -> Answer {
        let (watch, span) = (Stopwatch::start(), self.journal.begin(asking));
        let mut at = self.clock.precise();
        let (verdict, challenge) = match self.at_once(asking, (watch, at)) {
            Some(decided) => decided,
            // Such requests are rare. In a box of its own, their wait does not enlarge the future of all others.
            None => {
                let decided = Box::pin(self.later(asking, watch)).await;
                at = self.clock.precise();
                decided
            }
        };
        let request_id = self.journal.request_id(asking);
        let line = self.journal.write(asking, &verdict, &request_id, at);
        let answer = Answer { verdict, challenge, protocol: asking.origin.protocol, request_id };
        // Before the wait for the line: the caller can leave during it.
        if let Some(span) = span {
            self.journal.end(span, asking, &answer);
        }
        if let Some(line) = line {
            line.wait().await;
        }
        answer
    }

    /// The decision by the index as it is now. `None`: the credential may be newer than the index.
    fn at_once(&self, asking: &Asking<'_>, began: (Stopwatch, Timestamp)) -> Option<(Verdict, Option<Challenge>)> {
        let index = self.known.index();
        let entry = index.instance(&asking.instance);
        let (verdict, waits) = self.verdict((&index, entry), asking, began.1);
        (!waits).then(|| {
            let challenge = self.conclude(entry, asking, &verdict, began);
            (verdict, challenge)
        })
    }

    /// The decision on a credential that may be newer than the index.
    async fn later(&self, asking: &Asking<'_>, watch: Stopwatch) -> (Verdict, Option<Challenge>) {
        let mut waiting = WaitingQuestion { door: self, asking, watch, is_over: false };
        let (verdict, index) = self.patiently(asking).await;
        waiting.is_over = true;
        let entry = index.instance(&asking.instance);
        let challenge = self.conclude(entry, asking, &verdict, (watch, self.clock.precise()));
        (verdict, challenge)
    }

    /// Counts a question whose caller left while it waited, and writes it to the audit log.
    fn abandon(&self, asking: &Asking<'_>, watch: Stopwatch) {
        let verdict = Verdict::from(Cause::from(Flaw::CallerLeft));
        let request_id = self.journal.request_id(asking);
        let (index, at) = (self.known.index(), self.clock.precise());
        self.conclude(index.instance(&asking.instance), asking, &verdict, (watch, at));
        drop(self.journal.write(asking, &verdict, &request_id, at));
    }

    /// Notes the use of a token at the time `at`, and counts the decision. Returns the challenge of a refusal.
    fn conclude(
        &self,
        entry: Option<&InstanceEntry>,
        asking: &Asking<'_>,
        verdict: &Verdict,
        (watch, at): (Stopwatch, Timestamp),
    ) -> Option<Challenge> {
        if let (Cause::Allowed, Some(identity)) = (verdict.cause, &verdict.identity) {
            self.known.usage().note(identity, whole(at));
        }
        self.journal.count(entry.is_some(), asking, verdict.cause, watch.elapsed());
        let is_refused = verdict.cause.category() != Category::Allowed;
        is_refused.then(|| Challenge {
            schemes: self.places(entry).schemes(),
            instance: entry.map(|_| asking.instance.clone()),
        })
    }

    /// The places for credentials that an Instance names. An unknown Instance has the default places.
    fn places<'a>(&'a self, instance: Option<&'a InstanceEntry>) -> &'a Places {
        instance.map_or(&self.usual, |entry| &entry.places)
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

    /// Sets the metrics of the index, and of the requests that wait. `reviewer` reviews callers, if any are reviewed.
    /// Verdicts for Instances that do not exist any more are forgotten.
    pub fn measure(&self, metrics: &Metrics, reviewer: Option<&Reviewer>) {
        let index = self.known.index();
        index.sizes().into_iter().for_each(|(kind, count, digest)| metrics.objects(kind, count, digest));
        self.journal.tidy(&index);
        metrics.waiting(WaitsFor::News, self.waiting.taken());
        metrics.waiting(WaitsFor::Body, protocol::bodies());
        metrics.waiting(WaitsFor::Review, reviewer.map_or(0, Reviewer::waiting));
    }

    /// Sets the result of the last test of the admission policies. True: this verifier cannot write records.
    pub fn set_guarded(&self, guarded: bool) {
        self.guarded.store(guarded, Ordering::SeqCst);
    }

    /// The verdict at the time `at`, by this index and its entry of the Instance. True if news may let the request in:
    /// there is a credential, which may be newer than the index.
    fn verdict(&self, (index, entry): Indexing<'_>, asking: &Asking<'_>, at: Timestamp) -> (Verdict, bool) {
        if self.known.unread() > 0 {
            return (Cause::NotSynced.into(), false);
        }
        if self.refuses_all() {
            return (Cause::OutOfTouch.into(), false);
        }
        let (instance, wanted) = (&asking.instance, asking.request.as_ref());
        if entry.is_some() && wanted.is_some_and(Requested::is_probe) {
            return (Cause::Probe.into(), false);
        }
        let found;
        let credential = match &asking.credential {
            PresentedCredential::InHeaders => {
                let headers = wanted.map(|wanted| wanted.headers).ok_or(Cause::Missing);
                found = headers.and_then(|headers| credential::find(headers, self.places(entry)));
                &found
            }
            PresentedCredential::Given(given) => given,
        };
        let reads_path = entry.is_some_and(|entry| entry.rules.as_ref().is_ok_and(Rules::reads_path));
        let request = wanted.map(if reads_path { Requested::request } else { Requested::pathless });
        let is_unguarded = |request| unguarded(entry, request, credential).is_ok();
        if request.as_ref().is_some_and(is_unguarded) {
            return (Cause::Unguarded.into(), false);
        }
        match credential {
            Ok(credential) => {
                let mut verdict = check_by((index, entry), instance, credential.text(), request.as_ref(), whole(at));
                verdict.cause = wanted.map_or(verdict.cause, |wanted| wanted.cause(verdict.cause));
                let may_be_news = verdict.cause.may_be_news();
                (verdict, may_be_news)
            }
            Err(cause) => ((*cause).into(), false),
        }
    }

    /// The verdict on a credential that may be newer than the index, and the index by which it was judged. No index is
    /// held during the wait, as it would keep the memory of all that changes.
    async fn patiently(&self, asking: &Asking<'_>) -> (Verdict, Guard<Arc<Index>>) {
        // Subscribes before the first look, so that no change in between is missed.
        let mut changes = self.known.changes();
        let (mut over, mut is_over, mut place) = (pin!(sleep(PATIENCE)), false, None);
        loop {
            let index = self.known.index();
            let entry = index.instance(&asking.instance);
            let (verdict, waits) = self.verdict((&index, entry), asking, self.clock.now());
            if !waits {
                return (verdict, index);
            }
            if self.hearing.is_cut_off() || is_over && self.hearing.is_old() {
                return (Cause::OutOfTouch.into(), index);
            }
            if is_over {
                return (verdict, index);
            }
            place = place.or_else(|| self.waiting.take(entry.map(|_| asking.instance.clone())));
            if place.is_none() {
                return (Cause::Crowded.into(), index);
            }
            drop((verdict, index));
            tokio::select! {
                Ok(()) = changes.changed() => {}
                () = &mut over => is_over = true,
            }
        }
    }
}

/// A question that waits. Its future is dropped if its caller leaves meanwhile.
struct WaitingQuestion<'a> {
    door: &'a Door,
    asking: &'a Asking<'a>,
    watch: Stopwatch,
    /// True once the wait is over.
    is_over: bool,
}

impl Drop for WaitingQuestion<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.door.abandon(self.asking, self.watch);
        }
    }
}

#[cfg(test)]
impl Door {
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.journal.metrics()
    }
}

#[cfg(test)]
impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            challenge: Some(Challenge { schemes: Places::default().schemes(), instance: Some(Key::new("a", "eem")) }),
            protocol: Protocol::ForwardAuth,
            request_id: super::origin::RequestIds::new("p".into()).make(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test measures how long it waited")]

    use super::*;
    use crate::{
        crd::{ApiToken, Instance, guarding::PROBE},
        outside::{SystemClock, lines::LineQueue},
        token::format,
        verifier::{
            Audit, Sample, WhenFull,
            fixture::{audited, door, eem, origin, teach, teach_of, value, verdicts, waiting_for},
            usage::Usage,
        },
    };
    use http::HeaderMap;
    use serde_json::json;
    use std::collections::BTreeSet;
    use tokio::time::Instant;

    async fn cause(door: &Door, headers: &HeaderMap) -> Cause {
        let (method, target) = (Some("GET"), Some("/"));
        let request = Some(Requested { method, target, headers });
        let credential = PresentedCredential::InHeaders;
        door.ask(&Asking { origin: origin(), instance: eem(), credential, request }).await.verdict().cause
    }

    fn presenting(value: &str) -> HeaderMap {
        [("api-token".parse().unwrap(), value.parse().unwrap())].into_iter().collect()
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
    async fn a_verdict_after_a_wait_is_counted_and_challenged_by_the_index_that_gave_it() {
        let (door, headers) = (door(), presenting(&value()));
        let request = Some(Requested { method: Some("GET"), target: Some("/"), headers: &headers });
        let credential = PresentedCredential::InHeaders;
        let asking = Asking { origin: origin(), instance: eem(), credential, request };
        let (verdict, index) = door.patiently(&asking).await;
        teach(&door, &value());
        let (entry, began) = (index.instance(&asking.instance), (Stopwatch::start(), door.clock.now()));
        let challenge = door.conclude(entry, &asking, &verdict, began).unwrap();
        assert_eq!((verdict.cause, challenge.instance), (Cause::Unknown, None));
        assert!(door.metrics().text().contains(r#"verdicts_total{instance="",protocol="forward-auth","#));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_whose_caller_leaves_while_it_waits_is_counted_and_has_its_audit_line() {
        let (door, lines) = audited();
        teach(&door, &value());
        let other = format::assemble("tkn", &"j".repeat(16), &"s".repeat(43));
        let headers = presenting(other.expose());
        let mut asked = Box::pin(cause(&door, &headers));
        assert!(futures::poll!(&mut asked).is_pending());
        assert_eq!((door.waiting.taken(), lines.text().lines().count()), (1, 0));
        drop(asked);
        assert_eq!(door.waiting.taken(), 0);
        verdicts(&door, "forward-auth", &[("499", "CallerLeft", 1)]);
        let text = lines.text();
        assert!(text.lines().count() == 1 && text.contains(r#""reason":"CallerLeft","instance":"a/eem""#), "{text}");
        // A wait that ends is counted once, by its verdict.
        assert_eq!(cause(&door, &headers).await, Cause::Unknown);
        verdicts(&door, "forward-auth", &[("401", "Unknown", 1), ("499", "CallerLeft", 1)]);
        assert_eq!(lines.text().lines().count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_at_a_place_that_the_instance_turns_out_not_to_name_is_not_let_in() {
        let door = door();
        let asked = tokio::spawn({
            let door = door.clone();
            async move { cause(&door, &presenting(&value())).await }
        });
        tokio::time::sleep(Duration::from_millis(900)).await;
        teach_of(&door, &value(), &json!({"api": {"credentials": [{"header": "X-Key"}]}}));
        assert_eq!(asked.await.unwrap(), Cause::Missing);
    }

    #[tokio::test]
    async fn a_credential_is_found_and_judged_by_one_index() {
        let (door, headers) = (door(), presenting(&value()));
        teach(&door, &value());
        let request = Some(Requested { method: Some("GET"), target: Some("/"), headers: &headers });
        let asking = Asking { origin: origin(), instance: eem(), credential: PresentedCredential::InHeaders, request };
        assert_eq!(door.ask(&asking).await.verdict().cause, Cause::Allowed);
        teach_of(&door, &value(), &json!({"api": {"credentials": [{"header": "X-Key"}]}}));
        assert_eq!(door.ask(&asking).await.verdict().cause, Cause::Missing, "it was found by the places of before");
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
        let ear = hearing.ears::<ApiToken>([None]).remove(0);
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

    async fn asked(door: &Door, (method, target): (&str, &str), headers: &HeaderMap) -> Cause {
        let request = Some(Requested { method: Some(method), target: Some(target), headers });
        let credential = PresentedCredential::InHeaders;
        door.ask(&Asking { origin: origin(), instance: eem(), credential, request }).await.verdict().cause
    }

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let headers =
            headers.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()));
        headers.collect()
    }

    #[tokio::test]
    async fn a_login_is_let_through_without_a_token_and_judged_with_one() {
        let door = door();
        let api = json!({"unguarded": [{"paths": ["/login"]}], "excluded": [{"paths": ["/login"]}]});
        teach_of(&door, &value(), &json!({ "api": api }));
        let login = async |headers: &[(&str, &str)]| asked(&door, ("POST", "/login"), &map(headers)).await;
        for (name, text) in
            [("accept", "a"), ("authorization", "Basic dTpw"), ("authorization", "Bearer a.b.c"), ("api-token", "x")]
        {
            assert_eq!(login(&[(name, text)]).await, Cause::Unguarded, "{text}");
        }
        let excluded = Cause::Refused(crate::access::Ground::Excluded);
        assert_eq!(login(&[("api-token", &value())]).await, excluded);
        assert_eq!(login(&[("api-token", &value()), ("authorization", "Basic dTpw")]).await, excluded);
        assert_eq!(login(&[("authorization", &format!("Basic {}", value()))]).await, Cause::Missing);
        assert_eq!(asked(&door, ("POST", "/orders"), &map(&[])).await, Cause::Missing);
        assert_eq!(Cause::Unguarded.category().code(), 200);
        // Without a request, the question is about the credential alone.
        let nothing = Asking {
            origin: origin(),
            instance: eem(),
            credential: PresentedCredential::Given(Err(Cause::Missing)),
            request: None,
        };
        assert_eq!(door.ask(&nothing).await.verdict().cause, Cause::Missing);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unguarded_request_is_no_exception_where_nothing_can_be_decided() {
        let spec = json!({"api": {"unguarded": [{"paths": ["/login"]}]}});
        let login = async |door: &Door| {
            teach_of(door, &value(), &spec);
            asked(door, ("POST", "/login"), &HeaderMap::new()).await
        };
        let unread = waiting_for(&["instances"], Hearing::default(), StaleAnswers::default());
        assert_eq!(login(&unread).await, Cause::NotSynced);
        let hearing = Hearing::default();
        let _ears = hearing.ears::<ApiToken>([None]);
        let strict = waiting_for(&[], hearing, StaleAnswers::Refuse);
        tokio::time::advance(Duration::from_mins(6)).await;
        assert_eq!(login(&strict).await, Cause::OutOfTouch);
    }

    #[tokio::test]
    async fn the_password_of_a_basic_credential_is_judged_and_the_answer_names_the_schemes() {
        let door = door();
        let places =
            json!([{"header": "Authorization", "scheme": "Bearer"}, {"header": "Authorization", "scheme": "Basic"}]);
        let api = json!({"credentials": places, "unguarded": [{"paths": ["/login"]}]});
        teach_of(&door, &value(), &json!({ "api": api }));
        let basic = |credentials: &str| {
            use base64::{Engine, engine::general_purpose::STANDARD};
            map(&[("authorization", &format!("Basic {}", STANDARD.encode(credentials)))])
        };
        let ci = basic(&format!("ci:{}", value()));
        assert_eq!(asked(&door, ("GET", "/orders"), &ci).await, Cause::Allowed);
        assert_eq!(asked(&door, ("GET", "/login"), &ci).await, Cause::Allowed);
        assert_eq!(asked(&door, ("GET", "/orders"), &basic("alice:secret")).await, Cause::Malformed);
        assert_eq!(asked(&door, ("GET", "/login"), &basic("alice:secret")).await, Cause::Unguarded);
        let nothing = Asking {
            origin: origin(),
            instance: eem(),
            credential: PresentedCredential::Given(Err(Cause::Missing)),
            request: None,
        };
        assert_eq!(door.ask(&nothing).await.schemes(), ["Bearer", "Basic"]);
        let other = Asking {
            origin: origin(),
            instance: Key::new("a", "none"),
            credential: PresentedCredential::Given(Err(Cause::Missing)),
            request: None,
        };
        assert_eq!(door.ask(&other).await.schemes(), ["Bearer"]);
    }

    #[tokio::test]
    async fn a_test_of_the_guard_gets_a_plain_challenge_whatever_holds_for_the_instance_and_whoever_asks() {
        let (token, own) = (map(&[("api-token", &value())]), format!("Bearer {}", value()));
        let several = map(&[("api-token", &value()), ("authorization", &own)]);
        let callers = [&map(&[]), &token, &several, &map(&[("authorization", "Bearer made-up"), ("api_token", "x")])];
        let disabled = json!({"service": {"name": "x"}, "endpoints": [{"name": "admin", "type": "disabled"}]});
        for spec in [
            json!({}),
            json!({"api": {"unguarded": [{"paths": ["/.tokenry/**"]}, {"methods": ["GET"], "paths": ["/**"]}]}}),
            json!({"api": {"excluded": [{"paths": ["/**"], "message": "no"}]}}),
            json!({"api": {"authorization": "Roles"}}),
            json!({"manager": disabled}),
            json!({"members": [{"subject": "alice", "role": "admin"}]}),
        ] {
            let door = door();
            teach_of(&door, &value(), &spec);
            for (method, query) in [("GET", ""), ("POST", "?"), ("ODD", "?_method=GET&/login"), ("OPTIONS", "?a=?")] {
                for headers in callers {
                    let target = format!("{PROBE}{query}");
                    assert_eq!(
                        asked(&door, (method, &target), headers).await,
                        Cause::Probe,
                        "{spec} {method} {headers:?}"
                    );
                }
            }
            let whole = format!("https://shop.example.com{PROBE}?a");
            assert_eq!(asked(&door, ("GET", &whole), &token).await, Cause::Probe, "{spec}");
            let text = door.journal.metrics().text();
            assert!(text.contains("tokenry_verifier_probes_total 17") && !text.contains("verdicts_total{"), "{text}");
        }
        assert_eq!((Cause::Probe.category().code(), Cause::Probe.hint(Protocol::ForwardAuth)), (401, None));
    }

    #[tokio::test]
    async fn an_instance_that_is_being_deleted_answers_a_test_of_the_guard_and_one_that_does_not_exist_has_no_realm() {
        let (door, nothing) = (door(), HeaderMap::new());
        let ask = async || {
            let (method, target) = (Some("GET"), Some(PROBE));
            let request = Some(Requested { method, target, headers: &nothing });
            let answer = door
                .ask(&Asking {
                    origin: origin(),
                    instance: eem(),
                    credential: PresentedCredential::Given(Err(Cause::Missing)),
                    request,
                })
                .await;
            (answer.verdict().cause, answer.realm())
        };
        assert_eq!(ask().await, (Cause::Missing, "tokenry".to_owned()));
        let metadata = json!({"namespace": "a", "name": "eem", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        let going = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": metadata, "spec": {}});
        door.known.learn(|index| index.apply::<Instance>(serde_json::from_value(going).unwrap()));
        assert_eq!(ask().await, (Cause::Probe, "tokenry/a/eem".to_owned()));
        let unread = waiting_for(&["instances"], Hearing::default(), StaleAnswers::default());
        teach(&unread, &value());
        assert_eq!(asked(&unread, ("GET", PROBE), &nothing).await, Cause::NotSynced);
    }

    #[tokio::test]
    async fn only_these_letters_are_the_path_that_tests_the_guard_and_any_other_is_judged() {
        let (door, token) = (door(), map(&[("api-token", &value())]));
        teach_of(&door, &value(), &json!({"api": {"unguarded": [{"paths": ["/.tokenry/**"]}]}}));
        for target in [
            "/.tokenry/probe/",
            "//.tokenry/probe",
            "/.tokenry//probe",
            "/.tokenry/./probe",
            "/a/../.tokenry/probe",
            "/.tokenry/prob%65",
            "/%2etokenry/probe",
            "/.tokenry%2Fprobe",
            "/.TOKENRY/probe",
            "/.tokenry/probe;a",
            "/.tokenry/probe#a",
            "/.tokenry/probe.",
            "/.tokenry/probes",
            "/.tokenry",
            ".tokenry/probe",
            "https:///.tokenry/probe",
            "https://a@b/.tokenry/probe",
            "https://a?/.tokenry/probe",
            "/a?/.tokenry/probe",
        ] {
            for headers in [&HeaderMap::new(), &token] {
                let cause = asked(&door, ("GET", target), headers).await;
                assert!(![Cause::Probe, Cause::NotSynced].contains(&cause), "{target}");
                let is_token = headers == &token;
                assert!(is_token || [Cause::Missing, Cause::Unguarded].contains(&cause), "{target}: {cause}");
            }
        }
        let unnamed = Requested { method: None, target: Some(PROBE), headers: &token };
        assert!(!unnamed.is_probe(), "the guard does not name the method");
    }

    proptest::proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn no_request_for_the_path_that_tests_the_guard_is_let_in_and_no_other_path_is_it(
            target in "(https?://[a?@/]{0,2})?(/|%2[fe]|[.]|[.]tokenry|/probe|/[.]tokenry/probe|;|#){1,4}([?].{0,5})?",
            open in proptest::bool::ANY,
        ) {
            let door = door();
            let unguarded = if open { json!([{"methods": ["GET"], "paths": ["/**"]}]) } else { json!([]) };
            teach_of(&door, &value(), &json!({"api": {"unguarded": unguarded, "encodedSlash": "Keep"}}));
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            let cause = runtime.block_on(asked(&door, ("GET", &*target), &presenting(&value())));
            let behind = target.split_once("://").map_or(Some(&*target), |(_, rest)| rest.find('/').map(|at| &rest[at..]));
            let is_it = behind.and_then(|path| path.split('?').next()) == Some(PROBE);
            proptest::prop_assert!(cause != Cause::Probe || is_it, "{}", target);
            proptest::prop_assert!(target.contains("://") || (cause == Cause::Probe) == is_it, "{}", target);
        }

        #[test]
        fn only_a_plain_request_without_a_token_is_let_through_and_any_other_is_judged_as_ever(
            method in "GET|HEAD|POST", target in "(/login|/LOGIN|//|/a|%2[fe]|[.]{1,2}|/b|[?]_method=GET){1,4}",
            places in proptest::collection::vec(
                ("authorization|api-token|api_token|x-http-method|x_tokenry_role|accept", "(Bearer |Basic |Token |x)?", 0usize..4), 0..3,
            ),
        ) {
            use base64::{Engine, engine::general_purpose::STANDARD};
            let secret = value();
            let mut headers = HeaderMap::new();
            for (name, scheme, at) in &places {
                let text = match at {
                    0 => secret.clone(),
                    1 => STANDARD.encode(format!("ci:{secret}")),
                    2 => STANDARD.encode("alice:secret"),
                    _ => "a.b.c".to_owned(),
                };
                headers.append(name.parse::<http::HeaderName>().unwrap(), format!("{scheme}{text}").parse().unwrap());
            }
            let of = |spec: &serde_json::Value| {
                let door = door();
                teach_of(&door, &secret, spec);
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_time().start_paused(true).build().unwrap();
                runtime.block_on(asked(&door, (&*method, &*target), &headers))
            };
            let excluded = json!([{"paths": ["/login/b"]}]);
            let open = json!([{"paths": ["/login/**"]}, {"methods": ["GET"], "paths": ["/a/*"]}]);
            let cause = of(&json!({"api": {"excluded": excluded, "unguarded": open}}));
            if cause != Cause::Unguarded {
                proptest::prop_assert_eq!(cause, of(&json!({"api": {"excluded": excluded}})));
                return Ok(());
            }
            let path = crate::access::Path::parse(&target).unwrap();
            proptest::prop_assert!(path.others().next().is_none() && !target.contains("_method"), "{}", target);
            let shown = path.to_string();
            let is_open = shown == "/login" || shown.starts_with("/login/") || shown.starts_with("/a/") && method != "POST";
            proptest::prop_assert!(is_open, "{} {}", method, target);
            for (name, _, at) in &places {
                let place = ["authorization", "api-token"].contains(&&**name);
                proptest::prop_assert!(name == "accept" || place && *at > 1, "{} {}", name, at);
            }
        }
    }

    #[tokio::test]
    async fn every_answer_is_counted_and_written_down_and_a_use_is_noted_whatever_is_asked() {
        let (usage, mut news) = Usage::new();
        let (metrics, lines) = (Arc::new(Metrics::default()), Arc::new(LineQueue::default()));
        let known = Arc::new(Known::new(BTreeSet::new(), usage, metrics.clone()));
        let (clock, hearing) = (Arc::new(SystemClock), Hearing::default());
        let journal = Journal::new(
            metrics.clone(),
            Some(Audit::new(lines.clone(), WhenFull::Drop, Sample::default(), metrics.clone())),
            "p".into(),
        );
        let door = Door::new(known, clock, journal, hearing, StaleAnswers::default());
        teach(&door, &value());
        let value = value();
        let answer = door
            .ask(&Asking {
                origin: origin(),
                instance: eem(),
                credential: PresentedCredential::Given(Ok(Credential::Written(&value))),
                request: None,
            })
            .await;
        let identity = answer.verdict().identity.as_ref().unwrap();
        assert_eq!((answer.verdict().cause, &*identity.subject), (Cause::Allowed, "account:a/x"));
        assert_eq!(identity.owner.as_deref(), Some("user:alice"), "the token names none, and its account does");
        door.ask(&Asking {
            origin: origin(),
            instance: eem(),
            credential: PresentedCredential::Given(Err(Cause::Missing)),
            request: None,
        })
        .await;
        let uses: Vec<_> =
            std::iter::from_fn(|| news.try_recv().ok()).map(|(key, generation, _)| (key, generation)).collect();
        assert_eq!(uses, [(Key::new("a", "x"), 1)]);
        let text = lines.text();
        for (status, reason) in [(200, "Allowed"), (401, "Missing")] {
            let of = format!(r#"{{instance="a/eem",protocol="forward-auth",status="{status}",reason="{reason}"}} 1"#);
            assert!(metrics.text().contains(&format!("tokenry_verifier_verdicts_total{of}\n")), "{}", metrics.text());
            assert!(text.contains(&format!(r#""status":{status},"reason":"{reason}","instance":"a/eem""#)), "{text}");
        }
        let token = r#""account":"a/x","owner":"user:alice","token":"a/x","token_id":"iiiiiiiiiiiiiiii""#;
        assert!(text.contains(token), "{text}");
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains(answer.request_id().as_str()) && !text.contains(&value), "{text}");
    }
}
