//! Traces, by OTLP. A pass of the operator and a question to the verifier are spans without parents in this process.
//!
//! ```text
//! begin ──▶ OpenSpan ──▶ end ──▶ queue ──▶ Exporter ──▶ collector
//! None: off, or not                full: lost     many spans
//! of the sample                    and counted    in a request
//! ```

mod export;
mod parent;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    trace::v1::{Span, Status, span::SpanKind as Kind, status::StatusCode},
};
use tokio::sync::mpsc;

use super::{foreign::written, metrics::Metrics, sample::Sample};

pub use export::TraceOptions;
pub use parent::{TraceId, TraceParent};

/// The longest text in an attribute, in bytes.
const LONGEST: usize = 512;

/// The kind of a span, as OpenTelemetry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Work that nobody waits for.
    Internal,
    /// The answer to a request.
    Server,
}

/// The attributes that a span can have. There is no way to add another one. None of them holds a credential, a path or
/// a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanAttribute {
    /// The kind of the object of a pass.
    Kind,
    /// The namespace of the object of a pass.
    Namespace,
    /// The name of the object of a pass.
    Name,
    /// The number of a pass, as `reconcileID` in log lines.
    Pass,
    /// How a pass ended.
    Result,
    /// The Instance of a question, if it exists.
    Instance,
    /// The protocol of a question.
    Protocol,
    /// The status code of an answer.
    Status,
    /// The cause of an answer, as in the audit log.
    Reason,
    /// The token that a question was about, as namespace and name.
    Token,
    /// The request id, as in the audit log.
    RequestId,
}

impl SpanAttribute {
    /// All attributes, in their order.
    pub const ALL: [Self; 11] = [
        Self::Kind,
        Self::Namespace,
        Self::Name,
        Self::Pass,
        Self::Result,
        Self::Instance,
        Self::Protocol,
        Self::Status,
        Self::Reason,
        Self::Token,
        Self::RequestId,
    ];

    /// The key of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "tokenry.kind",
            Self::Namespace => "tokenry.namespace",
            Self::Name => "tokenry.name",
            Self::Pass => "tokenry.reconcile_id",
            Self::Result => "tokenry.result",
            Self::Instance => "tokenry.instance",
            Self::Protocol => "tokenry.protocol",
            Self::Status => "http.response.status_code",
            Self::Reason => "tokenry.reason",
            Self::Token => "tokenry.token",
            Self::RequestId => "tokenry.request_id",
        }
    }
}

/// Begins spans. Clones share one queue. The default begins none, and costs nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Tracing>>);

struct Tracing {
    sample: Sample,
    /// True: the caller alone chooses among spans with a parent.
    follows: bool,
    sampled: AtomicU64,
    spans: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
}

impl Tracer {
    fn new((sample, follows): (Sample, bool), spans: mpsc::Sender<Span>, metrics: Arc<Metrics>) -> Self {
        Self(Some(Arc::new(Tracing { sampled: sample.start(), sample, follows, spans, metrics })))
    }

    /// Begins a span. `None`: traces are off, or this one is left out. A span with a parent is left out if its parent
    /// was. Of the others, the sample chooses: else each caller could have all of its requests traced. Of those with a
    /// parent it does not choose if the options follow callers.
    pub fn begin(&self, kind: SpanKind, parent: Option<TraceParent>) -> Option<OpenSpan> {
        let tracing = self.0.as_ref()?;
        let is_followed = parent.is_some() && tracing.follows;
        let is_chosen =
            parent.is_none_or(TraceParent::is_sampled) && (is_followed || tracing.sample.picks(&tracing.sampled));
        is_chosen.then(|| OpenSpan {
            trace: parent.map_or_else(TraceId::random, TraceParent::id),
            parent,
            kind,
            since: Timestamp::now(),
            attributes: Vec::new(),
            tracing: tracing.clone(),
        })
    }
}

/// A span that has not ended yet. It is lost if it is dropped.
pub struct OpenSpan {
    trace: TraceId,
    parent: Option<TraceParent>,
    kind: SpanKind,
    since: Timestamp,
    attributes: Vec<KeyValue>,
    tracing: Arc<Tracing>,
}

impl OpenSpan {
    /// The id of its trace.
    pub fn trace(&self) -> TraceId {
        self.trace
    }

    /// Adds an attribute with a text. Tokens in the text are hidden, and a long text is cut.
    pub fn text(mut self, attribute: SpanAttribute, value: &str) -> Self {
        self.put(attribute, Any::StringValue(written(value, LONGEST).into_owned()));
        self
    }

    /// Adds an attribute with a number.
    pub fn number(mut self, attribute: SpanAttribute, value: impl Into<i64>) -> Self {
        self.put(attribute, Any::IntValue(value.into()));
        self
    }

    fn put(&mut self, attribute: SpanAttribute, value: Any) {
        let value = Some(AnyValue { value: Some(value) });
        self.attributes.push(KeyValue { key: attribute.as_str().into(), value, ..KeyValue::default() });
    }

    /// Ends the span under this name. `has_failed`: the work has failed.
    pub fn end(self, name: String, has_failed: bool) {
        let nanoseconds = |at: Timestamp| u64::try_from(at.as_nanosecond()).unwrap_or_default();
        let kind = match self.kind {
            SpanKind::Internal => Kind::Internal,
            SpanKind::Server => Kind::Server,
        };
        let span = Span {
            trace_id: self.trace.bytes(),
            span_id: rand::random::<u64>().max(1).to_be_bytes().into(),
            parent_span_id: self.parent.map_or_else(Vec::new, TraceParent::span),
            name,
            kind: kind.into(),
            start_time_unix_nano: nanoseconds(self.since),
            end_time_unix_nano: nanoseconds(Timestamp::now()),
            attributes: self.attributes,
            status: has_failed.then(|| Status { code: StatusCode::Error.into(), ..Status::default() }),
            ..Span::default()
        };
        if self.tracing.spans.try_send(span).is_err() {
            self.tracing.metrics.spans_dropped(1);
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::format;

    fn tracer(sample: &str, room: usize) -> (Tracer, mpsc::Receiver<Span>, Arc<Metrics>) {
        let ((spans, ended), metrics) = (mpsc::channel(room), Arc::new(Metrics::default()));
        (Tracer::new((sample.parse().unwrap(), false), spans, metrics.clone()), ended, metrics)
    }

    #[test]
    fn a_caller_has_spans_left_out_and_makes_further_ones_only_if_it_is_followed() {
        for (follows, traced) in [(false, 2), (true, 20)] {
            let tracer =
                Tracer::new(("10".parse().unwrap(), follows), mpsc::channel(1).0, Arc::new(Metrics::default()));
            let begun = |parent: Option<&str>| {
                let parent = parent.map(|text| TraceParent::of(text.as_bytes()).unwrap());
                (0..20).filter_map(|_| tracer.begin(SpanKind::Server, parent)).count()
            };
            let parent = |flags| format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            assert_eq!((begun(None), begun(Some(&parent("01"))), begun(Some(&parent("00")))), (2, traced, 0));
        }
        assert!(Tracer::default().begin(SpanKind::Server, None).is_none(), "traces are off");
    }

    #[test]
    fn a_span_has_its_attributes_without_any_token_and_the_ids_of_its_parent() {
        let (tracer, mut ended, metrics) = tracer("1", 1);
        let parent = TraceParent::of(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let value = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        let span = tracer.begin(SpanKind::Server, parent).unwrap();
        assert_eq!(span.trace().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let span = span.text(SpanAttribute::Instance, value.expose()).number(SpanAttribute::Status, 503);
        span.text(SpanAttribute::Name, &"x".repeat(600)).end("a".into(), true);
        let span = ended.try_recv().unwrap();
        assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
        assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        assert!(span.span_id.len() == 8 && span.start_time_unix_nano <= span.end_time_unix_nano);
        assert_eq!((&*span.name, span.kind, span.status.unwrap().code), ("a", 2, 2));
        let texts: Vec<_> = span.attributes.iter().map(|one| (&*one.key, one.value.clone().unwrap().value)).collect();
        assert_eq!(texts[0], ("tokenry.instance", Some(Any::StringValue("[token]".into()))));
        assert_eq!(texts[1], ("http.response.status_code", Some(Any::IntValue(503))));
        assert!(matches!(&texts[2].1, Some(Any::StringValue(text)) if text.len() == LONGEST));
        let root = || tracer.begin(SpanKind::Internal, None).unwrap();
        assert_ne!(root().trace(), root().trace());
        (0..3).for_each(|_| root().end("b".into(), false));
        let span = ended.try_recv().unwrap();
        assert!(span.parent_span_id.is_empty() && span.status.is_none() && span.kind == 1);
        assert!(metrics.text().contains("tokenry_spans_dropped_total 2"), "there was room for one");
    }

    #[test]
    fn each_attribute_is_in_the_list_once() {
        let mut keys: Vec<_> = SpanAttribute::ALL.map(SpanAttribute::as_str).into();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), SpanAttribute::ALL.len());
    }
}
