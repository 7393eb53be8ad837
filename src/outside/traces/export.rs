//! Sends spans to the collector, many at once.

use std::{fmt, mem, pin::pin, sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;

use super::Tracer;
use crate::outside::{
    Tasks,
    collector::{Collector, Signal, is_temporary, later, rejected, resource, with_endpoint},
    metrics::Metrics,
    sample::Sample,
};

/// The number of spans that wait, and of those in one request: the defaults of OpenTelemetry's SDKs.
const WAITING: usize = 2048;
const AT_ONCE: usize = 512;
/// How long the exporter waits for more spans, so that it sends many at once.
const GATHER: Duration = Duration::from_secs(1);
/// Delay after a failed request.
const AGAIN: Duration = Duration::from_secs(1);
/// How long spans may still be sent after the last one.
const GRACE: Duration = Duration::from_secs(5);
/// The name of the spans' origin.
const SCOPE: &str = "tokenry";

/// The collector of spans, and the share of spans that it gets.
pub struct TraceOptions {
    collector: Collector,
    resource: Resource,
    sample: Sample,
    follows: bool,
}

impl fmt::Debug for TraceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headers may hold credentials.
        f.debug_struct("TraceOptions").field("sample", &self.sample).finish_non_exhaustive()
    }
}

impl TraceOptions {
    /// The collector that the standard variables `OTEL_EXPORTER_OTLP_*` name. `endpoint` replaces the one of
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`. `service` is the name of this process. `None`: there is no collector for traces,
    /// or the variable `OTEL_TRACES_EXPORTER` is `none`.
    ///
    /// # Errors
    /// A variable is not valid.
    pub fn named(endpoint: Option<&str>, sample: Sample, service: &'static str) -> Result<Option<Self>, String> {
        let variable = with_endpoint(endpoint);
        if !Signal::Traces.has_endpoint(&variable) || variable("OTEL_TRACES_EXPORTER").as_deref() == Some("none") {
            return Ok(None);
        }
        let collector = Collector::named(Signal::Traces, variable)?;
        Ok(Some(Self { collector, resource: resource(service), sample, follows: false }))
    }

    /// The same options. `follows`: every request that its caller traces is traced, whatever the sample is. The caller
    /// must be a proxy that takes no `traceparent` from its own callers.
    pub fn following(self, follows: bool) -> Self {
        Self { follows, ..self }
    }

    /// Starts the task that sends spans. The task ends after the last clone of the tracer was dropped, or the returned
    /// guard.
    pub fn open(self, tasks: &mut Tasks, metrics: Arc<Metrics>) -> (Tracer, DropGuard) {
        let ((spans, ended), closed) = (mpsc::channel(WAITING), CancellationToken::new());
        metrics.spans_dropped(0);
        let tracer = Tracer::new((self.sample, self.follows), spans, metrics.clone());
        let client = TraceServiceClient::new(self.collector.channel.clone());
        let (collector, resource) = (self.collector, self.resource);
        let exporter = Exporter { collector, client, resource, metrics, closed: closed.clone(), is_refused: false };
        tasks.finishing("the traces", async move {
            exporter.run(ended).await;
            Ok(())
        });
        (tracer, closed.drop_guard())
    }
}

struct Exporter {
    collector: Collector,
    client: TraceServiceClient<Channel>,
    resource: Resource,
    metrics: Arc<Metrics>,
    closed: CancellationToken,
    /// True if the collector refused spans of the last request for good.
    is_refused: bool,
}

impl Exporter {
    /// Sends spans until there are no more, but at most for five seconds after the end.
    async fn run(mut self, mut ended: mpsc::Receiver<Span>) {
        let closed = self.closed.clone();
        let mut sending = pin!(async {
            let mut spans = Vec::new();
            while gather(&mut ended, &mut spans, &closed).await {
                self.put(mem::take(&mut spans)).await;
            }
        });
        tokio::select! {
            () = &mut sending => return,
            () = closed.cancelled() => {}
        }
        let _ = timeout(GRACE, sending).await;
    }

    /// Sends spans. While the collector cannot take them, it is asked again. Spans that it refuses are lost and
    /// counted.
    async fn put(&mut self, spans: Vec<Span>) {
        let (count, message) = (spans.len() as u64, self.exported(spans));
        let mut is_told = false;
        let lost = loop {
            match self.client.export(self.collector.request(message.clone())).await {
                Ok(answer) => {
                    let said = answer.get_ref().partial_success.as_ref().map(|partial| partial.rejected_spans);
                    break rejected(said).min(count);
                }
                Err(status) if is_temporary(&status) && !self.closed.is_cancelled() => {
                    let Some(error) = self.closed.clone().run_until_cancelled(later(&status)).await else {
                        break count;
                    };
                    if !mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "cannot send traces to the collector, trying again");
                    }
                    self.closed.clone().run_until_cancelled(sleep(AGAIN)).await;
                }
                Err(status) => {
                    if !self.is_refused {
                        let code = status.code();
                        tracing::warn!(
                            ?code,
                            "the collector refuses traces, so they are lost; its own log may say why"
                        );
                    }
                    break count;
                }
            }
        };
        self.is_refused = lost > 0;
        self.metrics.spans_dropped(lost);
    }

    fn exported(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let scope = Some(InstrumentationScope { name: SCOPE.into(), version, ..InstrumentationScope::default() });
        let scope_spans = vec![ScopeSpans { scope, spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        }
    }
}

/// Waits for spans, and then a moment for more. False if there are no more.
async fn gather(ended: &mut mpsc::Receiver<Span>, spans: &mut Vec<Span>, closed: &CancellationToken) -> bool {
    let first = tokio::select! {
        count = ended.recv_many(spans, AT_ONCE) => count,
        () = closed.cancelled() => {
            // The spans that wait are received all the same.
            ended.close();
            ended.recv_many(spans, AT_ONCE).await
        }
    };
    if first == 0 {
        return false;
    }
    tokio::select! {
        () = async { while spans.len() < AT_ONCE && ended.recv_many(spans, AT_ONCE - spans.len()).await > 0 {} } => {}
        () = sleep(GATHER) => {}
        () = closed.cancelled() => {}
    }
    true
}
