//! The journal of the door: counts each decision, writes it to the audit log, and traces it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    Answer, Asking, Cause, RequestId, Verdict,
    audit::{Audit, UnwrittenLine},
    index::{Index, Key},
    origin::RequestIds,
    tally::Tallies,
};
use crate::outside::{
    metrics::Metrics,
    traces::{OpenSpan, SpanAttribute, SpanKind, Tracer},
};

/// Counts each decision, and writes it to the audit log. A request that tests a guard is no decision about a caller,
/// and comes again and again. It has a counter of its own, and no line.
pub struct Journal {
    metrics: Arc<Metrics>,
    tallies: Tallies,
    audit: Option<Audit>,
    ids: RequestIds,
    tracer: Tracer,
}

impl Journal {
    /// A journal that counts in `metrics`, and writes to `audit` if there is one. `process` is a random text, which
    /// keeps the request ids of several verifiers apart.
    pub fn new(metrics: Arc<Metrics>, audit: Option<Audit>, process: String) -> Self {
        let (tallies, tracer) = (Tallies::new(metrics.clone()), Tracer::default());
        Self { tallies, metrics, audit, ids: RequestIds::new(process), tracer }
    }

    /// The same journal, which traces decisions by `tracer`.
    pub(crate) fn tracing(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Begins the span of a question. The span of its proxy is the parent.
    pub(crate) fn begin(&self, asking: &Asking<'_>) -> Option<OpenSpan> {
        self.tracer.begin(SpanKind::Server, asking.origin.trace)
    }

    /// Ends the span of a question by its answer. A request that tests a guard has none.
    pub(crate) fn end(&self, span: OpenSpan, asking: &Asking<'_>, answer: &Answer) {
        let (verdict, protocol) = (answer.verdict(), answer.protocol().as_str());
        if verdict.cause == Cause::Probe {
            return;
        }
        let pair = |key: &Key| format!("{}/{}", key.namespace, key.name);
        let code = verdict.cause.category().code();
        let span = span
            .text(SpanAttribute::Protocol, protocol)
            .text(SpanAttribute::Instance, &answer.known_instance(asking).map(pair).unwrap_or_default())
            .number(SpanAttribute::Status, code)
            .text(SpanAttribute::Reason, verdict.cause.as_str())
            .text(SpanAttribute::RequestId, answer.request_id().as_str());
        let span = match &verdict.identity {
            Some(identity) => span.text(SpanAttribute::Token, &pair(&identity.token)),
            None => span,
        };
        span.end(format!("decision {protocol}"), code >= 500);
    }

    /// The id of a request: its own, or else a new one.
    pub(crate) fn request_id(&self, asking: &Asking<'_>) -> RequestId {
        asking.origin.request_id.clone().unwrap_or_else(|| self.ids.make())
    }

    /// Counts a decision that took `took`. `exists` says if the Instance exists.
    pub(crate) fn count(&self, exists: bool, asking: &Asking<'_>, cause: Cause, took: Duration) {
        if cause == Cause::Probe {
            return self.metrics.probe();
        }
        let instance = exists.then_some(&asking.instance);
        self.tallies.count(instance, (asking.origin.protocol, cause), took);
    }

    /// Forgets the numbers of decisions for Instances that `index` does not have.
    pub(crate) fn tidy(&self, index: &Index) {
        self.tallies.retain(|key| index.instance(key).is_some());
    }

    /// Writes a decision to the audit log, if there is one. Returns a line that has to wait for room, because the log
    /// is to lose none.
    pub(crate) fn write(
        &self,
        asking: &Asking<'_>,
        verdict: &Verdict,
        id: &RequestId,
        now: Timestamp,
    ) -> Option<UnwrittenLine<'_>> {
        let audit = self.audit.as_ref().filter(|_| verdict.cause != Cause::Probe)?;
        audit.write(asking, verdict, id, now)
    }

    /// The metrics that the journal counts in.
    #[cfg(test)]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
