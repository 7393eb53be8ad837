//! Lines to an OpenTelemetry collector.

use std::io;

use opentelemetry::{
    InstrumentationScope, SpanId, TraceId,
    logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity},
};
use opentelemetry_otlp::LogExporter as Exporter;
use opentelemetry_sdk::{
    Resource,
    logs::{LogBatch, LogExporter, SdkLogRecord, SdkLogger, SdkLoggerProvider},
};
use serde_json::{Map, Value};

/// The number of lines in one request. Collectors accept 4 MiB by default.
const AT_ONCE: usize = 512;
/// The name of the program, unless the variable `OTEL_SERVICE_NAME` has another.
const SERVICE: &str = "tokenry-verifier";
/// The name of the lines' origin, and of the event that each line reports.
const SCOPE: &str = "tokenry.audit";
const EVENT: &str = "tokenry.verifier.decision";

/// A collector that takes log records by OTLP over gRPC.
pub(super) struct Otlp {
    exporter: Exporter,
    /// Only makes empty records.
    logger: SdkLogger,
    scope: InstrumentationScope,
}

impl Otlp {
    /// The collector that the standard variables name.
    ///
    /// # Errors
    /// A variable is not valid.
    pub(super) fn new() -> Result<Self, String> {
        let built = Exporter::builder().with_tonic().build();
        let help =
            "name the collector by OTEL_EXPORTER_OTLP_ENDPOINT, such as http://collector:4317; https is not supported";
        let mut exporter = built.map_err(|error| format!("{error}; {help}"))?;
        let detected = Resource::builder().build();
        let name = detected.get(&"service.name".into()).map(|name| name.to_string());
        let is_named = name.is_some_and(|name| !name.starts_with("unknown_service"));
        let resource = if is_named { detected } else { Resource::builder().with_service_name(SERVICE).build() };
        exporter.set_resource(&resource);
        let logger = SdkLoggerProvider::builder().build().logger(SCOPE);
        Ok(Self { exporter, logger, scope: InstrumentationScope::builder(SCOPE).build() })
    }

    /// Sends the lines in `bytes`. After an error, `bytes` are those that were not sent.
    pub(super) async fn put(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
            let end = ends.take(AT_ONCE).last().unwrap_or(bytes.len());
            let records: Vec<_> =
                bytes[..end].split(|byte| *byte == b'\n').filter_map(|line| self.record(line)).collect();
            let batch: Vec<_> = records.iter().map(|record| (record, &self.scope)).collect();
            self.exporter.export(LogBatch::new(&batch)).await.map_err(io::Error::other)?;
            bytes.drain(..end);
        }
        Ok(())
    }

    /// The record of a line: an attribute for each field, but for time and trace. `None`: the line is empty.
    fn record(&self, line: &[u8]) -> Option<SdkLogRecord> {
        let fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let mut record = self.logger.create_log_record();
        record.set_event_name(EVENT);
        record.set_severity_number(Severity::Info);
        record.set_severity_text("INFO");
        for (name, value) in fields {
            match (&*name, value) {
                ("time", Value::String(time)) => {
                    let time: jiff::Timestamp = time.parse().unwrap_or_default();
                    record.set_timestamp(time.into());
                    record.set_observed_timestamp(time.into());
                }
                ("trace_id", Value::String(id)) => {
                    let trace = TraceId::from_hex(&id).unwrap_or(TraceId::INVALID);
                    record.set_trace_context(trace, SpanId::INVALID, None);
                }
                (_, Value::String(text)) => {
                    if name == "reason" {
                        record.set_body(AnyValue::String(text.clone().into()));
                    }
                    record.add_attribute(name, AnyValue::String(text.into()));
                }
                (_, other) => record.add_attribute(name, AnyValue::Int(other.as_i64().unwrap_or_default())),
            }
        }
        Some(record)
    }
}
