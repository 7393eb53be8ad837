//! The OpenTelemetry collector that the standard variables name, and its answers.

use std::{env, error::Error, fs, io, net::IpAddr, time::Duration};

use http::Uri;
use opentelemetry_proto::{tonic::resource::v1::Resource, transform::common::tonic::ResourceAttributesWithSchema};
use opentelemetry_sdk::Resource as Detected;
use percent_encoding::percent_decode_str;
use tokio::time::sleep;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tonic::{
    Code, Request, Status,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt;

use super::refusal::with_causes;

/// The address of a collector beside this process.
const BESIDE: &str = "http://localhost:4317";
/// The longest time that a request may take, in milliseconds.
const TIMEOUT: u64 = 10_000;
/// The longest pause that a collector can ask for.
const PAUSE: Duration = Duration::from_secs(60);

/// The collector that the standard variables name, by OTLP over gRPC.
pub(super) struct Collector {
    pub(super) channel: Channel,
    /// The headers of each request. They may hold credentials.
    headers: MetadataMap,
}

/// A kind of messages to a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Logs,
    Traces,
}

impl Signal {
    /// The part of the names of its variables.
    fn name(self) -> &'static str {
        match self {
            Self::Logs => "LOGS",
            Self::Traces => "TRACES",
        }
    }

    /// The values of a variable, such as `ENDPOINT`: its own before that of all signals.
    fn given(self, variable: impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
        let names = [format!("OTEL_EXPORTER_OTLP_{}_{name}", self.name()), format!("OTEL_EXPORTER_OTLP_{name}")];
        names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()))
    }

    /// True if a variable names a collector for this signal.
    pub(super) fn has_endpoint(self, variable: impl Fn(&str) -> Option<String>) -> bool {
        self.given(variable, "ENDPOINT").is_some()
    }
}

/// The variables of the environment. `endpoint` replaces the collector of all signals.
#[allow(clippy::disallowed_methods, reason = "OpenTelemetry defines the names of these variables")]
pub(super) fn with_endpoint(endpoint: Option<&str>) -> impl Fn(&str) -> Option<String> {
    let endpoint = endpoint.map(str::to_owned);
    move |name| match &endpoint {
        Some(given) if name == "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(given.clone()),
        Some(_) | None => env::var(name).ok(),
    }
}

impl Collector {
    /// `variable` gives the value of a variable of the environment.
    ///
    /// # Errors
    /// A variable is not valid. The error names it, and never the value of a header.
    pub(super) fn named(signal: Signal, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let given = |name: &str| signal.given(&variable, name);
        if given("COMPRESSION").is_some_and(|named| named != "none") {
            return Err("compression is not supported; remove OTEL_EXPORTER_OTLP_COMPRESSION".into());
        }
        let timeout = given("TIMEOUT").map_or(Ok(TIMEOUT), |given| given.parse());
        let timeout = timeout.ok().filter(|milliseconds| *milliseconds > 0);
        let timeout = timeout.ok_or("OTEL_EXPORTER_OTLP_TIMEOUT has to be a number of milliseconds, and not 0")?;
        let headers = headers(&given("HEADERS").unwrap_or_default());
        let headers = headers.ok_or("OTEL_EXPORTER_OTLP_HEADERS has to be a list such as name=value,other=value")?;
        let is_insecure = given("INSECURE").is_some_and(|given| given.eq_ignore_ascii_case("true"));
        let mut endpoint = endpoint(&given("ENDPOINT").unwrap_or_else(|| BESIDE.into()), is_insecure)?;
        if is_encrypted(endpoint.uri()) {
            endpoint = endpoint.tls_config(tls(given)?).map_err(|error| {
                format!(
                    "cannot use TLS for the collector: {}; see the files that OTEL_EXPORTER_OTLP_CERTIFICATE, \
                     OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY name",
                    with_causes(&error)
                )
            })?;
        }
        if let Some(warning) = exposed(&headers, endpoint.uri()) {
            tracing::warn!("{warning}");
        }
        let channel = endpoint.timeout(Duration::from_millis(timeout)).connect_lazy();
        Ok(Self { channel, headers })
    }

    /// A request with the headers of all requests.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request
    }
}

/// This process, for the collector: the attributes that the standard variables name. `service` is its name, unless the
/// variable `OTEL_SERVICE_NAME` has another.
pub(super) fn resource(service: &'static str) -> Resource {
    let detected = Detected::builder().build();
    let name = detected.get(&"service.name".into()).map(|name| name.to_string());
    let is_named = name.is_some_and(|name| !name.starts_with("unknown_service"));
    let detected = if is_named { detected } else { Detected::builder().with_service_name(service).build() };
    Resource { attributes: ResourceAttributesWithSchema::from(&detected).attributes.0, ..Resource::default() }
}

/// The number of items that a collector has rejected although it answers with success.
pub(super) fn rejected(said: Option<i64>) -> u64 {
    said.map_or(0, |rejected| u64::try_from(rejected).unwrap_or_default())
}

/// True if the request may be sent again (OTLP, section Failures). `RESOURCE_EXHAUSTED` is temporary only if the
/// collector says when it recovers. A status with a source was made here, for example as the connection broke.
pub(super) fn is_temporary(status: &Status) -> bool {
    let usual = matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    );
    let recovers = || status.code() == Code::ResourceExhausted && status.get_details_retry_info().is_some();
    usual || status.source().is_some() || recovers()
}

/// Waits for as long as the collector asks for. Returns the error, without the text of the collector.
pub(super) async fn later(status: &Status) -> io::Error {
    if let Some(delay) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
        sleep(delay.min(PAUSE)).await;
    }
    let mut cause = status.source();
    while let Some(further) = cause.and_then(Error::source) {
        cause = Some(further);
    }
    let answered = || format!("the collector answers {:?}", status.code());
    io::Error::other(cause.map_or_else(answered, ToString::to_string))
}

/// The endpoint of an address. `is_insecure`: an address without a scheme means HTTP without TLS. Else it means HTTPS.
fn endpoint(address: &str, is_insecure: bool) -> Result<Endpoint, String> {
    let scheme = if is_insecure { "http" } else { "https" };
    let whole = if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") };
    let is_known = |endpoint: &Endpoint| ["http", "https"].map(Some).contains(&endpoint.uri().scheme_str());
    let endpoint = Endpoint::from_shared(whole).ok().filter(is_known);
    endpoint.ok_or_else(|| "name the collector by OTEL_EXPORTER_OTLP_ENDPOINT, such as https://collector:4317".into())
}

fn is_encrypted(collector: &Uri) -> bool {
    collector.scheme_str() == Some("https")
}

/// The rules for the handshake with a collector. It is verified by the roots of the system, or by the authorities in
/// the file that `OTEL_EXPORTER_OTLP_CERTIFICATE` names.
fn tls(given: impl Fn(&str) -> Option<String>) -> Result<ClientTlsConfig, String> {
    let read = |name: &str| {
        let unread = |path, error| format!("OTEL_EXPORTER_OTLP_{name}: cannot read {path}: {error}");
        given(name).map(|path| fs::read(&path).map_err(|error| unread(path, error))).transpose()
    };
    let config = match read("CERTIFICATE")? {
        // The library takes a file without certificates for authorities that nobody signed by.
        Some(pem) if CertificateDer::from_pem_slice(&pem).is_err() => {
            return Err("OTEL_EXPORTER_OTLP_CERTIFICATE: the file has no certificate in PEM form".to_owned());
        }
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match (read("CLIENT_CERTIFICATE")?, read("CLIENT_KEY")?) {
        (Some(certificate), Some(key)) => Ok(config.identity(Identity::from_pem(certificate, key))),
        (None, None) => Ok(config),
        (Some(_), None) | (None, Some(_)) => {
            let both = "name both OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY, or neither";
            Err(both.to_owned())
        }
    }
}

/// The warning about headers that others on the network can read. `None`: there are no headers, they are encrypted, or
/// they stay on this machine.
fn exposed(headers: &MetadataMap, collector: &Uri) -> Option<String> {
    let host = collector.host().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let stays = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    (!headers.is_empty() && !is_encrypted(collector) && !stays).then(|| {
        format!("the headers in OTEL_EXPORTER_OTLP_HEADERS are sent to {host} without encryption: use an https address")
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
        Collector::named(Signal::Logs, value)
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
        for secure in ["collector:4317", "https://collector:4317"] {
            assert_eq!(address(secure, false).as_deref(), Ok("https://collector:4317/"));
        }
        for bad in ["ftp://collector:4317", "http://a b", ""] {
            assert!(address(bad, false).unwrap_err().contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{bad}");
        }
        assert!(named(&[]).is_ok(), "a collector beside the verifier");
    }

    #[test]
    fn headers_that_others_can_read_are_warned_of_by_the_name_of_their_variable() {
        let warned =
            |list: &str, collector: &'static str| exposed(&headers(list).unwrap(), &Uri::from_static(collector));
        let told = warned("authorization=s3cret", "http://collector:4317").unwrap();
        assert!(told.contains("OTEL_EXPORTER_OTLP_HEADERS") && told.contains("sent to collector"), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
        assert_eq!(warned("", "http://collector:4317"), None);
        for safe in ["https://collector:4317", "http://localhost:4317", "http://127.0.0.2:4317", "http://[::1]:4317"] {
            assert_eq!(warned("authorization=s3cret", safe), None, "{safe}");
        }
    }

    #[tokio::test]
    async fn a_variable_that_is_not_valid_is_named_without_the_value_of_a_header() {
        for (variable, value) in [
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=s3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0A"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/dev/null"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/dev/null"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/dev/null"),
        ] {
            let tried = [(variable, value), ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector")];
            let told = named(&tried).err().unwrap();
            assert!(told.contains(variable) && !told.contains("s3cret"), "{told}");
        }
    }
}
