//! The flags for metrics and traces of operator and verifier.

use std::path::PathBuf;

use clap::Args;

use super::{Error, take};
use crate::outside::{Address, TlsFiles, sample::Sample, scrapes::SecureMetrics, traces::TraceOptions};

#[derive(Args)]
pub(crate) struct Monitoring {
    /// Serve /metrics by HTTPS at --metrics-listen alone, to callers with a Kubernetes token whose user may get that
    /// path. The token is for the audience tokenry.dev/metrics, or for the API server. The roles of the chart permit it
    /// with metrics.secure.enabled=true. Default: serve it at --probes, to all
    #[arg(long, env = "TOKENRY_METRICS_SECURE")]
    metrics_secure: bool,
    /// Address of /metrics with --metrics-secure, in the form of --listen
    #[arg(long, env = "TOKENRY_METRICS_LISTEN", default_value = "[::]:8444")]
    metrics_listen: Address,
    /// File with the certificate chain for --metrics-secure in PEM form; changes load within seconds; default: each
    /// process makes a certificate, which no caller can verify
    #[arg(long, env = "TOKENRY_METRICS_TLS_CERT", value_name = "FILE", requires = "metrics_tls_key")]
    metrics_tls_cert: Option<PathBuf>,
    /// File with the private key of --metrics-tls-cert, in PEM form
    #[arg(long, env = "TOKENRY_METRICS_TLS_KEY", value_name = "FILE", requires = "metrics_tls_cert")]
    metrics_tls_key: Option<PathBuf>,
    /// OpenTelemetry collector that gets traces by OTLP over gRPC, such as http://collector:4317; further variables
    /// OTEL_EXPORTER_OTLP_* apply; default: no traces
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Passes and decisions that are traced: N for every Nth, or a share such as 0.1
    #[arg(long, env = "TOKENRY_TRACE_SAMPLE", default_value = "1", value_name = "N|SHARE")]
    trace_sample: Sample,
}

impl Monitoring {
    /// True if callers of /metrics have to prove themselves.
    pub(crate) fn is_secure(&self) -> bool {
        self.metrics_secure
    }

    /// Binds the address of metrics for callers that prove themselves, if they have to.
    pub(crate) fn secure_metrics(&self) -> Result<Option<SecureMetrics>, Error> {
        if !self.metrics_secure {
            return Ok(None);
        }
        let pair = self.metrics_tls_cert.clone().zip(self.metrics_tls_key.clone());
        let files = pair.map(|(certificate, key)| TlsFiles { certificate, key, client_ca: None });
        Ok(Some(SecureMetrics { at: take(self.metrics_listen, "--metrics-listen")?, files }))
    }

    /// The collector that the command line names.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref()
    }

    /// The traces of the program `service`, if there is a collector.
    pub(crate) fn traces(&self, service: &'static str) -> Result<Option<TraceOptions>, Error> {
        let traces = TraceOptions::named(self.endpoint(), self.trace_sample, service);
        traces.map_err(|wrong| Error::Usage(format!("traces: {wrong}")))
    }
}
