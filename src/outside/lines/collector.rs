//! The OpenTelemetry collector that the standard variables name.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use percent_encoding::percent_decode_str;
use tonic::{
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Channel, Endpoint},
};

/// The address of a collector beside this process.
const BESIDE: &str = "http://localhost:4317";
/// The longest time that a request may take, in milliseconds.
const TIMEOUT: u64 = 10_000;

/// The collector that the standard variables name, by OTLP over gRPC.
pub(super) struct Collector {
    pub(super) client: LogsServiceClient<Channel>,
    /// The headers of each request. They may hold credentials.
    pub(super) headers: MetadataMap,
}

impl Collector {
    /// `variable` gives the value of a variable of the environment.
    ///
    /// # Errors
    /// A variable is not valid. The error names it, and never the value of a header.
    pub(super) fn named(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let given = |name: &str| {
            let names = [format!("OTEL_EXPORTER_OTLP_LOGS_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
            names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        if given("COMPRESSION").is_some_and(|named| named != "none") {
            return Err("compression is not supported; remove OTEL_EXPORTER_OTLP_COMPRESSION".into());
        }
        let timeout = given("TIMEOUT").map_or(Ok(TIMEOUT), |given| given.parse());
        let timeout = timeout.ok().filter(|milliseconds| *milliseconds > 0);
        let timeout = timeout.ok_or("OTEL_EXPORTER_OTLP_TIMEOUT has to be a number of milliseconds, and not 0")?;
        let is_insecure = given("INSECURE").is_some_and(|given| given.eq_ignore_ascii_case("true"));
        let endpoint = endpoint(&given("ENDPOINT").unwrap_or_else(|| BESIDE.into()), is_insecure)?;
        let channel = endpoint.timeout(Duration::from_millis(timeout)).connect_lazy();
        let headers = headers(&given("HEADERS").unwrap_or_default());
        let headers = headers.ok_or("OTEL_EXPORTER_OTLP_HEADERS has to be a list such as name=value,other=value")?;
        Ok(Self { client: LogsServiceClient::new(channel), headers })
    }
}

/// The endpoint of an address. `is_insecure`: an address without a scheme means HTTP without TLS.
fn endpoint(address: &str, is_insecure: bool) -> Result<Endpoint, String> {
    let whole = if is_insecure && !address.contains("://") { format!("http://{address}") } else { address.to_owned() };
    let endpoint = Endpoint::from_shared(whole).ok().filter(|endpoint| endpoint.uri().scheme_str() == Some("http"));
    endpoint.ok_or_else(|| {
        "name the collector by OTEL_EXPORTER_OTLP_ENDPOINT, such as http://collector:4317; https is not supported"
            .into()
    })
}

/// The headers of a list. Their values are percent-encoded. `None` if it is no such list.
fn headers(list: &str) -> Option<MetadataMap> {
    let mut headers = MetadataMap::new();
    for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let name = AsciiMetadataKey::from_bytes(name.trim().to_ascii_lowercase().as_bytes()).ok()?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        headers.append(name, AsciiMetadataValue::try_from(&*value).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(variables: &[(&str, &str)]) -> Result<Collector, String> {
        let value =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Collector::named(value)
    }

    #[tokio::test]
    async fn the_variables_of_logs_come_before_those_of_all_signals() {
        let headers =
            [("OTEL_EXPORTER_OTLP_HEADERS", "x=1"), ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "X-Key = a%20b%3D, y=2")];
        let collector = named(&headers).unwrap();
        assert_eq!(collector.headers.get("x-key").unwrap(), "a b=");
        assert_eq!((collector.headers.get("y").unwrap().to_str().unwrap(), collector.headers.len()), ("2", 2));
        let address = |text: &str, is_insecure| endpoint(text, is_insecure).map(|endpoint| endpoint.uri().to_string());
        assert_eq!(address("collector:4317", true).as_deref(), Ok("http://collector:4317/"));
        for bad in ["collector:4317", "https://collector:4317", "http://a b", ""] {
            assert!(address(bad, false).unwrap_err().contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{bad}");
        }
        assert!(named(&[]).is_ok(), "a collector beside the verifier");
    }

    #[tokio::test]
    async fn a_variable_that_is_not_valid_is_named_without_the_value_of_a_header() {
        for (variable, value) in [
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=s3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0A"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector"),
        ] {
            let told = named(&[(variable, value)]).err().unwrap();
            assert!(told.contains(variable) && !told.contains("s3cret"), "{told}");
        }
    }
}
