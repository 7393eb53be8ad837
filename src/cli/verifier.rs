//! `tokenry verifier`.

use std::{path::PathBuf, sync::Arc};

use clap::{ArgAction, Args, ValueEnum};

use super::{Common, Duties, Error, client, take};
use crate::{
    outside::{
        Address, SystemClock, Taken, TlsFiles, hearing::StaleAfter, lines::Sink, peers::Peer, reviewer::REVIEWING,
    },
    verifier::{self, AuditOptions, Clients, Options, Sample, StaleAnswers, WhenFull},
};

#[derive(Args)]
pub(crate) struct Verifier {
    #[command(flatten)]
    common: Common,
    /// Longest silence of a watch while the API server answers; after it the verifier is not ready; at least 10s
    #[arg(long, env = "TOKENRY_STALE_AFTER", default_value = "5m")]
    stale_after: StaleAfter,
    /// Answers after --stale-after without the API server; serve: judge by the last known objects; refuse: answer 503
    #[arg(long, env = "TOKENRY_STALE_ANSWERS", default_value = "serve")]
    stale_answers: StaleAnswers,
    /// Probe address of the other verifiers, HOST:PORT; a host name may resolve to several addresses; may be given
    /// several times
    #[arg(long, env = "TOKENRY_PEERS", value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Answer token introspection (RFC 7662); the API server reviews each caller, as the roles of the chart permit with
    /// verifier.introspection.enabled=true; default: answer 501
    #[arg(long, env = "TOKENRY_INTROSPECTION")]
    introspection: bool,
    /// Trace each decision that its proxy traces; only for proxies that take no traceparent from their own callers;
    /// default: --trace-sample chooses among these too
    #[arg(long, env = "TOKENRY_TRACE_FOLLOW_PROXY")]
    trace_follow_proxy: bool,
    #[command(flatten)]
    ports: Ports,
    #[command(flatten)]
    audit: Audited,
}

/// How proxies reach the verifier.
#[derive(Args)]
struct Ports {
    /// Answer by plain HTTP at --listen; false: by HTTPS alone, which needs --tls-cert
    #[arg(long, env = "TOKENRY_PLAIN_HTTP", default_value = "true", action = ArgAction::Set, value_name = "true|false")]
    plain_http: bool,
    /// Address to answer at by HTTPS, in the form of --listen; used with --tls-cert
    #[arg(long, env = "TOKENRY_TLS_LISTEN", default_value = "[::]:8443")]
    tls_listen: Address,
    /// File with the certificate chain of HTTPS in PEM form; the verifier is ready once it is there; changes load
    /// within seconds; default: no HTTPS
    #[arg(long, env = "TOKENRY_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File with the private key of --tls-cert, in PEM form
    #[arg(long, env = "TOKENRY_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File with the certificates that sign proxies, in PEM form; HTTPS then refuses callers without a certificate of
    /// these; default: callers need none
    #[arg(long, env = "TOKENRY_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
}

impl Ports {
    /// Binds the address of HTTPS, if there is a certificate.
    fn secure(&self) -> Result<Option<(Taken, TlsFiles)>, Error> {
        let Self { tls_cert: Some(certificate), tls_key: Some(key), tls_client_ca: client_ca, .. } = self else {
            return Ok(None);
        };
        let (certificate, key, client_ca) = (certificate.clone(), key.clone(), client_ca.clone());
        Ok(Some((take(self.tls_listen, "--tls-listen")?, TlsFiles { certificate, key, client_ca })))
    }
}

/// Minimum number of threads that answer. The watches read objects in threads of their own, so no answer waits for a
/// long computation. More threads than processors would only wake each other.
const THREADS: usize = 2;

/// How the verifier writes its audit log.
#[derive(Args)]
struct Audited {
    /// Audit log of all decisions; drop: lines that come too fast are lost; block: answers wait for room; off: none
    #[arg(long, env = "TOKENRY_AUDIT", default_value = "drop")]
    audit: AuditMode,
    /// Permitted requests in the audit log: N for every Nth, or a share such as 0.1; refused ones are always in it
    #[arg(long, env = "TOKENRY_AUDIT_SAMPLE", default_value = "1", value_name = "N|SHARE")]
    audit_sample: Sample,
    /// Place of the audit log; otlp: the collector that the variables OTEL_EXPORTER_OTLP_* name, over gRPC
    #[arg(long, env = "TOKENRY_AUDIT_TO", default_value = "stdout")]
    audit_to: AuditTo,
}

#[derive(Clone, Copy, ValueEnum)]
enum AuditMode {
    Drop,
    Block,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum AuditTo {
    Stdout,
    Otlp,
}

impl Audited {
    /// `endpoint` is the collector that the command line names.
    fn options(&self, endpoint: Option<&str>) -> Result<Option<AuditOptions>, Error> {
        let when_full = match self.audit {
            AuditMode::Drop => WhenFull::Drop,
            AuditMode::Block => WhenFull::Block,
            AuditMode::Off => return Ok(None),
        };
        let sink = match self.audit_to {
            AuditTo::Stdout => Sink::stdout().map_err(|error| Error::local("cannot start the audit log", error))?,
            AuditTo::Otlp => Sink::otlp(endpoint).map_err(|wrong| Error::Usage(format!("--audit-to=otlp: {wrong}")))?,
        };
        Ok(Some(AuditOptions { when_full, sample: self.audit_sample, sink }))
    }
}

impl Verifier {
    /// The permissions that the verifier uses with this command line.
    pub(crate) fn duties(&self) -> Duties {
        let reviews = self.introspection || self.common.monitoring.is_secure();
        let reviewing = REVIEWING.into_iter().filter(|_| reviews);
        let useful = verifier::RIGHTS.useful.iter().copied().chain(reviewing).collect();
        Duties { scope: self.common.scope(), lease: None, needed: verifier::RIGHTS.needed.to_vec(), useful }
    }

    pub(crate) fn main(self) -> Result<(), Error> {
        self.common.log()?;
        client::run(THREADS, async |stop| {
            let secure = self.ports.secure()?;
            if secure.is_none() && !self.ports.plain_http {
                return Err(Error::Usage("with --plain-http=false, name a certificate by --tls-cert".to_owned()));
            }
            let audit = self.audit.options(self.common.monitoring.endpoint())?;
            let traces = self.common.monitoring.traces("tokenry-verifier")?;
            let options = Options {
                scope: self.common.scope(),
                serving: self.ports.plain_http.then(|| self.common.serving()).transpose()?,
                secure,
                probes: self.common.probes()?,
                stale_after: self.stale_after,
                stale_answers: self.stale_answers,
                audit,
                secure_metrics: self.common.monitoring.secure_metrics()?,
                traces: traces.map(|traces| traces.following(self.trace_follow_proxy)),
                peers: self.peers,
                introspection: self.introspection,
                stop,
            };
            let clients = Clients { watching: client::client().await?, asking: client::client().await? };
            let ended = verifier::run(clients, Arc::new(SystemClock), options).await;
            ended.map_err(Error::Ended)
        })
    }
}
