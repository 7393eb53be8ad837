//! Lines to an OpenTelemetry collector, by OTLP over gRPC.

use std::io;

use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use serde_json::{Map, Value};
use tonic::{Code, transport::Channel};

use crate::outside::collector::{Collector, Signal, is_temporary, later, rejected, resource, with_endpoint};

/// The number of lines in one request. Collectors accept 4 MiB by default.
const AT_ONCE: usize = 512;
/// The name of the program, unless the variable `OTEL_SERVICE_NAME` has another.
const SERVICE: &str = "tokenry-verifier";
/// The name of the lines' origin, and of the event that each line reports.
const SCOPE: &str = "tokenry.audit";
const EVENT: &str = "tokenry.verifier.decision";

/// A collector that takes log records by OTLP over gRPC.
pub(super) struct Otlp {
    collector: Collector,
    client: LogsServiceClient<Channel>,
    resource: Resource,
    /// True if the collector refused records of the last request for good.
    is_refused: bool,
}

impl Otlp {
    /// The collector that the standard variables name. `endpoint` replaces that of all signals.
    ///
    /// # Errors
    /// A variable is not valid.
    pub(super) fn new(endpoint: Option<&str>) -> Result<Self, String> {
        Collector::named(Signal::Logs, with_endpoint(endpoint)).map(Self::to)
    }

    fn to(collector: Collector) -> Self {
        let client = LogsServiceClient::new(collector.channel.clone());
        Self { collector, client, resource: resource(SERVICE), is_refused: false }
    }

    /// Sends the first lines in `bytes`, and removes them. Returns the number of those that the collector has refused
    /// for good. Such lines are lost: OTLP forbids to send them again.
    ///
    /// # Errors
    /// The collector cannot take the lines now. They are still in `bytes`.
    pub(super) async fn put(&mut self, bytes: &mut Vec<u8>) -> io::Result<u64> {
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let end = ends.take(AT_ONCE).last().unwrap_or(bytes.len());
        let records: Vec<_> = bytes[..end].split(|byte| *byte == b'\n').filter_map(record).collect();
        let count = records.len() as u64;
        let request = self.collector.request(self.exported(records));
        let (lost, code) = match self.client.export(request).await {
            Ok(answer) => {
                let said = answer.get_ref().partial_success.as_ref().map(|partial| partial.rejected_log_records);
                (rejected(said).min(count), Code::Ok)
            }
            Err(status) if is_temporary(&status) => return Err(later(&status).await),
            Err(status) => (count, status.code()),
        };
        if lost > 0 && !self.is_refused {
            tracing::warn!(
                ?code,
                lost,
                "the collector refuses lines of the audit log for good, so they are lost; its own log may say why"
            );
        }
        self.is_refused = lost > 0;
        bytes.drain(..end);
        Ok(lost)
    }

    fn exported(&self, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
        let scope = Some(InstrumentationScope { name: SCOPE.into(), ..InstrumentationScope::default() });
        let scope_logs = vec![ScopeLogs { scope, log_records, ..ScopeLogs::default() }];
        let resource = Some(self.resource.clone());
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }],
        }
    }
}

/// The record of a line: an attribute for each field, but for time and trace. `None`: the line is empty.
fn record(line: &[u8]) -> Option<LogRecord> {
    let fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let mut record = LogRecord {
        severity_number: SeverityNumber::Info.into(),
        severity_text: "INFO".into(),
        event_name: EVENT.into(),
        ..LogRecord::default()
    };
    for (name, value) in fields {
        match (&*name, value) {
            ("time", Value::String(time)) => {
                let time: jiff::Timestamp = time.parse().unwrap_or_default();
                record.time_unix_nano = u64::try_from(time.as_nanosecond()).unwrap_or_default();
                record.observed_time_unix_nano = record.time_unix_nano;
            }
            ("trace_id", Value::String(id)) => {
                record.trace_id = u128::from_str_radix(&id, 16).map_or(Vec::new(), |id| id.to_be_bytes().into());
            }
            (_, Value::String(text)) => {
                if name == "reason" {
                    record.body = Some(any(Any::StringValue(text.clone())));
                }
                record.attributes.push(attribute(name, Any::StringValue(text)));
            }
            (_, other) => record.attributes.push(attribute(name, Any::IntValue(other.as_i64().unwrap_or_default()))),
        }
    }
    Some(record)
}

fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: String, value: Any) -> KeyValue {
    KeyValue { key, value: Some(any(value)), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    };
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
        time::Duration,
    };
    use tonic::{Request, Status, metadata::MetadataMap, transport::server::TcpIncoming};
    use tonic_types::{ErrorDetails, StatusExt};

    /// The answers of a collector: how many records it rejects, or its error. The number of records and the headers of
    /// each request.
    #[derive(Default)]
    struct Exchange {
        answers: VecDeque<Result<i64, Status>>,
        asked: Vec<(usize, MetadataMap)>,
    }

    #[derive(Clone, Default)]
    struct Answering(Arc<Mutex<Exchange>>);

    #[tonic::async_trait]
    impl LogsService for Answering {
        async fn export(
            &self,
            asked: Request<ExportLogsServiceRequest>,
        ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
            let mut exchange = self.0.lock().unwrap();
            let (headers, _, message) = asked.into_parts();
            exchange.asked.push((message.resource_logs[0].scope_logs[0].log_records.len(), headers));
            let rejected_log_records = exchange.answers.pop_front().unwrap_or(Ok(0))?;
            let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records, error_message: "full".into() });
            Ok(tonic::Response::new(ExportLogsServiceResponse { partial_success }))
        }
    }

    /// The sink of a collector, and the collector.
    async fn answering(answers: Vec<Result<i64, Status>>) -> (Otlp, Answering) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let collector = Answering::default();
        collector.0.lock().unwrap().answers = answers.into();
        let service = tonic::transport::Server::builder().add_service(LogsServiceServer::new(collector.clone()));
        tokio::spawn(service.serve_with_incoming(TcpIncoming::from(listener)));
        let value = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(address.clone()),
            "OTEL_EXPORTER_OTLP_HEADERS" => Some("api-key=a%20b".to_owned()),
            _ => None,
        };
        (Otlp::to(Collector::named(Signal::Logs, value).unwrap()), collector)
    }

    fn lines(count: usize) -> Vec<u8> {
        "{\"reason\":\"Missing\",\"status\":401}\n".repeat(count).into_bytes()
    }

    fn exhausted(recovers: bool) -> Status {
        let delay = Some(Duration::from_millis(1));
        let details = if recovers { ErrorDetails::with_retry_info(delay) } else { ErrorDetails::new() };
        Status::with_error_details(Code::ResourceExhausted, "full", details)
    }

    #[tokio::test]
    async fn what_a_collector_cannot_take_now_is_kept_and_what_it_refuses_for_good_is_lost_and_counted() {
        for temporary in [
            Status::unavailable("a"),
            Status::cancelled("a"),
            Status::deadline_exceeded("a"),
            Status::aborted("a"),
            Status::out_of_range("a"),
            Status::data_loss("a"),
            exhausted(true),
        ] {
            let (mut otlp, _) = answering(vec![Err(temporary.clone())]).await;
            let mut bytes = lines(3);
            let told = otlp.put(&mut bytes).await.unwrap_err().to_string();
            assert_eq!((bytes.clone(), told), (lines(3), format!("the collector answers {:?}", temporary.code())));
            assert_eq!((otlp.put(&mut bytes).await.unwrap(), bytes.len()), (0, 0));
        }
        for last in [
            Status::invalid_argument("a"),
            Status::unauthenticated("a"),
            Status::permission_denied("a"),
            Status::unimplemented("a"),
            Status::internal("a"),
            Status::unknown("a"),
            exhausted(false),
        ] {
            let (mut otlp, collector) = answering(vec![Err(last.clone())]).await;
            let mut bytes = lines(3);
            assert_eq!((otlp.put(&mut bytes).await.unwrap(), bytes.len()), (3, 0), "{last:?}");
            assert_eq!(collector.0.lock().unwrap().asked.len(), 1, "it is not sent again");
        }
    }

    #[tokio::test]
    async fn records_that_a_collector_rejects_in_part_are_lost_and_counted() {
        let (mut otlp, collector) = answering(vec![Ok(2), Ok(7), Ok(-1)]).await;
        for lost in [2, 3, 0] {
            let mut bytes = lines(3);
            assert_eq!((otlp.put(&mut bytes).await.unwrap(), bytes.len()), (lost, 0));
        }
        let asked = &collector.0.lock().unwrap().asked;
        assert!(asked.iter().all(|(count, headers)| *count == 3 && headers.get("api-key").unwrap() == "a b"));
    }

    #[tokio::test]
    async fn many_lines_go_in_several_requests_and_a_collector_that_is_away_loses_none() {
        let (mut otlp, collector) = answering(vec![Err(Status::internal("a"))]).await;
        let mut bytes = lines(AT_ONCE + 1);
        assert_eq!((otlp.put(&mut bytes).await.unwrap(), bytes.len()), (AT_ONCE as u64, lines(1).len()));
        assert_eq!((otlp.put(&mut bytes).await.unwrap(), bytes.len()), (0, 0));
        assert_eq!(collector.0.lock().unwrap().asked.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [AT_ONCE, 1]);
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let away = |name: &str| name.ends_with("OTLP_ENDPOINT").then(|| format!("http://{nobody}"));
        let mut away = Otlp::to(Collector::named(Signal::Logs, away).unwrap());
        let mut bytes = lines(1);
        let told = away.put(&mut bytes).await.unwrap_err().to_string();
        assert!(bytes == lines(1) && told.contains("refused"), "{told}");
    }
}
