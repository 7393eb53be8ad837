//! Metrics in the OpenMetrics text format. Every label has a bounded number of values, apart from the names of tokens.

mod process;
mod tokens;
mod work;

use std::{
    fmt::Debug,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

use super::{Verb, Why, events::Note, latency::Latency};
use process::ProcessCollector;
use tokens::TokenCollector;
use work::Work;

pub use work::{ControllerMeter, PassEnd, Processing, QueueMeter, RunningPass};

/// The helps of metrics that are longer than a line.
const HEARD: &str = "Seconds since the API server last reported on a kind, even if nothing changed; usual: under 60";
const DECISIONS: &str = "Decisions of passes, by the reason in the conditions of the object";
const WRITES: &str = "Writes to the API server, by their verb and by how they were answered";
const LEADS: &str = "1 if this operator leads, 0 if another one may lead, by the name of the Lease";
const DURATIONS: &str = "Time from the whole question to the verdict, with the wait for news of a token that may be too new. \
     The time to read a body or to review a caller is not in it";
const CERTIFICATE: &str = "End of the certificate that the HTTPS port of the verifier presents, in Unix time";
const AUTHORITY: &str =
    "End of the authority by which the operator signs the certificate of the verifier, in Unix time";
const REQUESTS: &str =
    "Requests to the API server, by method and by the status code of the answer, or `<error>` without an answer";
const FAILURES: &str =
    "Failures of the operator, by the reason in the Event, or by the cause for which a pass ended early";
const VERDICTS: &str = "Answers of the verifier, by Instance, protocol, status code and cause. An Instance that does not exist is \
     empty, and each one after the first 200 is `other`";
const AUDIT_DROPPED: &str = "Lines of the audit log that were lost, because they came faster than they could be written, or because \
     the collector refused them for good";
const SPANS_DROPPED: &str =
    "Spans of traces that were lost, because too many waited, or because the collector refused them";
const UNREAD_POLICIES: &str = "AccessPolicies that cannot be read and may deny anything, so the Instances of their namespaces permit \
     nothing; usual: 0";
const REFUSED: &str = "Connections that the server itself closed, by reason: no place was free (`Crowded`), TLS failed (`Handshake`), or \
     a head of HTTP/1.1 was refused (`Unreadable`)";
const WAITING: &str = "Requests that wait: for news of a token that may be new (`news`), for their body (`body`), or for the review of \
     their caller (`review`). At most 256 wait for each, and for the bodies of each protocol. 64 may wait for news of one Instance, and \
     16 for the reviews of one address";

const LATE_WRITES: &str = "Writes of an operator that did not lead any more. It held them back (`deadline`), the API server refused them \
     as outdated (`precondition`), or they succeeded (`nothing`). Usual: 0";

/// Media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    kind: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: String,
    subresource: &'static str,
    verb: &'static str,
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JudgedLabels {
    instance: String,
    protocol: &'static str,
    status: u16,
    reason: &'static str,
}

/// The reason why a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// News of a token that may be too new.
    News,
    /// The rest of its body.
    Body,
    /// The review of its caller.
    Review,
}

impl WaitsFor {
    fn as_str(self) -> &'static str {
        match self {
            Self::News => "news",
            Self::Body => "body",
            Self::Review => "review",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitingLabels {
    waits_for: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabels {
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabels {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StopLabels {
    stopped_by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: String,
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// The empty label set. A metric without labels appears once it has a value.
type Unlabelled = [(&'static str, &'static str); 0];

/// The obstacle to a write of an operator that leads no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoppedBy {
    /// The operator itself did not send it, because its time was over.
    Deadline,
    /// It was sent before the operator saw its loss, and the API server refused it: another operator had written.
    Precondition,
    /// It was sent before the end of the operator's time, and its success was answered after that.
    Nothing,
}

/// The metrics of a process.
pub struct Metrics {
    registry: Registry,
    heard: Family<KindLabels, Gauge<f64, AtomicU64>>,
    work: Work,
    tokens: TokenCollector,
    requests: Family<RequestLabels, Counter>,
    decisions: Family<DecisionLabels, Counter>,
    failures: Family<DecisionLabels, Counter>,
    rotations: Family<EventLabels, Counter>,
    writes: Family<Write, Counter>,
    events_dropped: Family<Unlabelled, Counter>,
    leads: Family<NameLabels, Gauge>,
    late_writes: Family<StopLabels, Counter>,
    verdicts: Family<JudgedLabels, Counter>,
    durations: Family<ProtocolLabels, Latency>,
    probes: Family<Unlabelled, Counter>,
    objects: Family<KindLabels, Gauge>,
    digests: Family<KindLabels, Gauge>,
    waiting: Family<WaitingLabels, Gauge>,
    audit_dropped: Family<Unlabelled, Counter>,
    spans_dropped: Family<Unlabelled, Counter>,
    ambiguous: Family<Unlabelled, Gauge>,
    unread_policies: Family<Unlabelled, Gauge>,
    stamped: Family<Unlabelled, Gauge>,
    connections: Family<Unlabelled, Gauge>,
    certificate: Family<Unlabelled, Gauge>,
    authority: Family<Unlabelled, Gauge>,
    refused: Family<ReasonLabels, Counter>,
    readings: Mutex<Vec<ReadingHook>>,
}

/// Sets values that are read when metrics are asked for.
type ReadingHook = Box<dyn Fn(&Metrics) + Send + Sync>;

/// The counters of one kind of verdict. Clones share their counts.
#[derive(Clone, Debug)]
pub struct VerdictCounters {
    verdicts: Counter,
    duration: Latency,
}

impl VerdictCounters {
    /// Counts a verdict that took `took`.
    pub fn count(&self, took: Duration) {
        self.verdicts.inc();
        self.duration.count(took);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let all = &mut registry;
        let build: Family<BuildLabels, Gauge> = told(all, "tokenry_build_info", "1, with the version of the program");
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        let tokens = TokenCollector::default();
        all.register_collector(Box::new(tokens.clone()));
        all.register_collector(Box::new(ProcessCollector));
        Self {
            tokens,
            heard: told(all, "tokenry_heard_age_seconds", HEARD),
            work: Work::new(all),
            requests: told(all, "rest_client_requests", REQUESTS),
            decisions: told(all, "tokenry_decisions", DECISIONS),
            failures: told(all, "tokenry_failures", FAILURES),
            rotations: told(all, "tokenry_rotations", "Values that were published, by the name of the Event"),
            writes: told(all, "tokenry_writes", WRITES),
            events_dropped: told(
                all,
                "tokenry_events_dropped",
                "Events that could not be written, or that came while too many waited",
            ),
            leads: told(all, "leader_election_master_status", LEADS),
            late_writes: told(all, "tokenry_late_writes", LATE_WRITES),
            verdicts: told(all, "tokenry_verifier_verdicts", VERDICTS),
            durations: told(all, "tokenry_verifier_duration_seconds", DURATIONS),
            probes: told(all, "tokenry_verifier_probes", "Requests for `/.tokenry/probe`, which are no verdicts"),
            objects: told(all, "tokenry_verifier_objects", "Objects in the index of the verifier, by kind"),
            digests: told(
                all,
                "tokenry_verifier_objects_digest",
                "A number that is the same in verifiers that know the same versions of all objects, by kind",
            ),
            waiting: told(all, "tokenry_verifier_waiting", WAITING),
            audit_dropped: told(all, "tokenry_verifier_audit_dropped", AUDIT_DROPPED),
            spans_dropped: told(all, "tokenry_spans_dropped", SPANS_DROPPED),
            ambiguous: told(
                all,
                "tokenry_verifier_ambiguous_ids",
                "Ids that records of several tokens have; values with such an id are refused; usual: 0",
            ),
            unread_policies: told(all, "tokenry_verifier_unread_policies", UNREAD_POLICIES),
            stamped: told(
                all,
                "tokenry_stamped",
                "1 if the API server stamps the requester of a token, 0 if nothing does",
            ),
            connections: told(all, "tokenry_connections", "Open connections of the process, at all of its ports"),
            certificate: told(all, "tokenry_verifier_certificate_expiration_timestamp_seconds", CERTIFICATE),
            authority: told(all, "tokenry_certificate_authority_expiration_timestamp_seconds", AUTHORITY),
            refused: told(all, "tokenry_connections_refused", REFUSED),
            readings: Mutex::default(),
            registry,
        }
    }
}

/// A metric that `registry` tells of. There is no other way to make one.
fn told<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// Counts a decision.
    pub fn decision(&self, kind: &str, reason: impl ToString) {
        self.decisions.get_or_create(&DecisionLabels { kind: kind.into(), reason: reason.to_string() }).inc();
    }

    /// Counts a failure, by its reason.
    pub fn failure(&self, kind: &str, reason: impl ToString) {
        self.failures.get_or_create(&DecisionLabels { kind: kind.into(), reason: reason.to_string() }).inc();
    }

    /// Counts the action that an Event reports about an object of `kind`: a failure, or a value that was published.
    pub fn noted(&self, kind: &str, note: &Note) {
        if note.reason.is_trouble() {
            self.failure(kind, note.reason);
        }
        if note.event.is_publication() {
            self.rotations.get_or_create(&EventLabels { event: note.event.to_string() }).inc();
        }
    }

    /// Counts a request to the API server. `code` is the status code of its answer. `None`: there was no answer.
    pub fn request(&self, method: &Method, code: Option<StatusCode>) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.as_str().to_owned());
        self.requests.get_or_create(&RequestLabels { code, method: method.to_string() }).inc();
    }

    /// Counts a write.
    pub fn write(&self, kind: &str, verb: Verb, answer: Result<(), &Why>) {
        let result = answer.map_or_else(|why| why.cause().to_lowercase(), |()| "done".to_owned());
        let (verb, subresource) = (verb.name(), verb.subresource());
        self.writes.get_or_create(&Write { kind: kind.into(), subresource, verb, result }).inc();
    }

    /// Counts events that were dropped.
    pub fn events_dropped(&self, events: usize) {
        self.events_dropped.get_or_create(&[]).inc_by(u64::try_from(events).unwrap_or(u64::MAX));
    }

    /// Sets if this process leads by the Lease of this name.
    pub fn leads(&self, name: &str, leads: bool) {
        self.leads.get_or_create(&NameLabels { name: name.to_owned() }).set(leads.into());
    }

    /// Counts a write that came too late.
    pub fn late_write(&self, stopped_by: StoppedBy) {
        let stopped_by = match stopped_by {
            StoppedBy::Deadline => "deadline",
            StoppedBy::Precondition => "precondition",
            StoppedBy::Nothing => "nothing",
        };
        self.late_writes.get_or_create(&StopLabels { stopped_by }).inc();
    }

    /// Sets the metric of stamps: true if the API server stamps the requester on new tokens.
    pub fn stamped(&self, stamped: bool) {
        self.stamped.get_or_create(&[]).set(stamped.into());
    }

    /// The counters of these verdicts of the verifier. The number of different `instance` texts has to be bounded.
    pub fn verdicts(
        &self,
        instance: &str,
        protocol: &'static str,
        status: u16,
        reason: &'static str,
    ) -> VerdictCounters {
        let labels = JudgedLabels { instance: instance.into(), protocol, status, reason };
        let duration = self.durations.get_or_create_owned(&ProtocolLabels { protocol });
        VerdictCounters { verdicts: self.verdicts.get_or_create_owned(&labels), duration }
    }

    /// Forgets the number of these verdicts.
    pub fn forget_verdicts(&self, instance: &str, protocol: &'static str, status: u16, reason: &'static str) {
        self.verdicts.remove(&JudgedLabels { instance: instance.into(), protocol, status, reason });
    }

    /// Counts lost lines of the audit log.
    pub fn audit_dropped(&self, lines: u64) {
        self.audit_dropped.get_or_create(&[]).inc_by(lines);
    }

    /// Counts lost spans of traces.
    pub fn spans_dropped(&self, spans: u64) {
        self.spans_dropped.get_or_create(&[]).inc_by(spans);
    }

    /// Sets the number of objects of a kind in the index of the verifier, and the digest of their versions.
    pub fn objects(&self, kind: String, count: usize, digest: u32) {
        let labels = KindLabels { kind };
        self.digests.get_or_create(&labels).set(digest.into());
        self.objects.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of requests that wait.
    pub fn waiting(&self, waits: WaitsFor, count: usize) {
        let labels = WaitingLabels { waits_for: waits.as_str() };
        self.waiting.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of open connections.
    pub fn connections(&self, count: usize) {
        self.connections.get_or_create(&[]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the end of the certificate that the verifier presents.
    pub fn certificate(&self, until: Timestamp) {
        self.certificate.get_or_create(&[]).set(until.as_second());
    }

    /// Sets the end of the authority that signs the certificate of the verifier.
    pub fn authority(&self, until: Timestamp) {
        self.authority.get_or_create(&[]).set(until.as_second());
    }

    /// Sets the number of connections that were refused for a reason.
    pub fn connections_refused(&self, reason: &'static str, count: u64) {
        self.refused.get_or_create(&ReasonLabels { reason }).inner().store(count, Ordering::Relaxed);
    }

    /// Runs `reading` each time before [`text`](Self::text) is written.
    pub fn reads(&self, reading: impl Fn(&Self) + Send + Sync + 'static) {
        self.readings.lock().expect("nobody panics here").push(Box::new(reading));
    }

    /// Counts a request that tests a guard.
    pub fn probe(&self) {
        self.probes.get_or_create(&[]).inc();
    }

    /// Sets the number of ids that records of several tokens have.
    pub fn ambiguous(&self, ids: usize) {
        self.ambiguous.get_or_create(&[]).set(ids.try_into().unwrap_or(i64::MAX));
    }

    /// Sets the number of policies that cannot be read.
    pub fn unread_policies(&self, policies: usize) {
        self.unread_policies.get_or_create(&[]).set(policies.try_into().unwrap_or(i64::MAX));
    }

    /// Sets how long ago something was heard of a kind.
    pub fn heard(&self, kind: String, age: Duration) {
        self.heard.get_or_create(&KindLabels { kind }).set(age.as_secs_f64());
    }

    /// Everything counted so far.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.readings.lock().expect("nobody panics here").iter().for_each(|reading| reading(self));
        // Writing to a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{EventName, Reason};

    /// Each metric, counted or set at least once.
    fn sampled() -> Metrics {
        let metrics = Metrics::default();
        metrics.request(&Method::GET, Some(StatusCode::CONFLICT));
        metrics.request(&Method::PUT, None);
        metrics.failure("ApiToken", "TookTooLong");
        metrics.noted("ApiToken", &Note::normal(EventName::Rotated, Reason::RotationDue, "m"));
        metrics.noted("ApiToken", &Note::warning(EventName::PublishFailed, Reason::PublishFailed, "m"));
        metrics.noted("ApiToken", &Note::warning(EventName::Rejected, Reason::LifetimeExceeded, "m"));
        metrics.write("Secret", Verb::PATCH, Err(&Why::Stale));
        metrics.write("ApiToken", Verb::UPDATE.status(), Ok(()));
        metrics.write("ApiToken", Verb::UPDATE.status(), Err(&Why::Unauthenticated("m".into())));
        metrics.verdicts("a/eem", "forward-auth", 401, "Expired").count(Duration::from_millis(2));
        metrics.verdicts("a/gone", "forward-auth", 401, "Expired").count(Duration::ZERO);
        metrics.forget_verdicts("a/gone", "forward-auth", 401, "Expired");
        metrics.audit_dropped(3);
        metrics.events_dropped(2);
        metrics.leads("tokenry-operator", true);
        metrics.late_write(StoppedBy::Deadline);
        metrics.late_write(StoppedBy::Precondition);
        metrics.spans_dropped(2);
        metrics.reads(|metrics| metrics.waiting(WaitsFor::News, 5));
        metrics.connections(7);
        metrics.certificate(Timestamp::from_second(1_800_000_000).unwrap());
        metrics.authority(Timestamp::from_second(1_900_000_000).unwrap());
        metrics.objects("apitokens".into(), 9, 7);
        metrics.probe();
        metrics.ambiguous(2);
        metrics.unread_policies(1);
        metrics.connections_refused("Crowded", 4);
        metrics.decision("ApiToken", "Active");
        metrics.heard("apitokens".into(), Duration::from_secs(7));
        metrics
    }

    #[test]
    fn what_is_counted_is_told() {
        let metrics = sampled();
        assert!(!metrics.text().contains("tokenry_stamped{"), "nothing is said of what is not known");
        metrics.stamped(false);
        let text = metrics.text();
        for line in [
            r#"rest_client_requests_total{code="409",method="GET"} 1"#,
            r#"rest_client_requests_total{code="<error>",method="PUT"} 1"#,
            r#"tokenry_failures_total{kind="ApiToken",reason="TookTooLong"} 1"#,
            r#"tokenry_failures_total{kind="ApiToken",reason="PublishFailed"} 1"#,
            r#"tokenry_rotations_total{event="Rotated"} 1"#,
            r#"tokenry_writes_total{kind="Secret",subresource="",verb="patch",result="stale"} 1"#,
            r#"tokenry_writes_total{kind="ApiToken",subresource="status",verb="update",result="done"} 1"#,
            r#"tokenry_writes_total{kind="ApiToken",subresource="status",verb="update",result="unauthenticated"} 1"#,
            r#"verifier_verdicts_total{instance="a/eem",protocol="forward-auth",status="401",reason="Expired"} 1"#,
            r#"tokenry_verifier_duration_seconds_count{protocol="forward-auth"} 2"#,
            "tokenry_verifier_audit_dropped_total 3",
            "tokenry_events_dropped_total 2",
            r#"leader_election_master_status{name="tokenry-operator"} 1"#,
            r#"tokenry_late_writes_total{stopped_by="deadline"} 1"#,
            r#"tokenry_late_writes_total{stopped_by="precondition"} 1"#,
            "tokenry_spans_dropped_total 2",
            r#"tokenry_verifier_waiting{waits_for="news"} 5"#,
            "tokenry_connections 7",
            "tokenry_verifier_certificate_expiration_timestamp_seconds 1800000000",
            "tokenry_certificate_authority_expiration_timestamp_seconds 1900000000",
            r#"tokenry_verifier_objects{kind="apitokens"} 9"#,
            r#"tokenry_verifier_objects_digest{kind="apitokens"} 7"#,
            "tokenry_verifier_probes_total 1",
            "tokenry_verifier_ambiguous_ids 2",
            "tokenry_verifier_unread_policies 1",
            r#"tokenry_connections_refused_total{reason="Crowded"} 4"#,
            r#"tokenry_decisions_total{kind="ApiToken",reason="Active"} 1"#,
            r#"tokenry_heard_age_seconds{kind="apitokens"} 7.0"#,
            "tokenry_stamped 0",
            concat!(r#"tokenry_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
        assert!(!text.contains("a/gone"), "{text}");
        assert!(!text.contains("LifetimeExceeded"), "a fault of a user is no failure of the operator: {text}");
    }
}
