//! `tokenry operator`.

use std::{sync::Arc, time::Duration};

use clap::{ArgAction, Args};

use super::{Common, Duties, Error, client, token::times::limit};
use crate::{
    exposure::{ExposureConfig, PieceKind},
    operator::{self, CertificateOrder, Options, SecretPlace},
    outside::{
        SystemClock, SystemEntropy, connect,
        lead::{LeaseOrder, LeasePeriods},
        reviewer::REVIEWING,
    },
};

#[derive(Args)]
pub(crate) struct Operator {
    #[command(flatten)]
    common: Common,
    /// Keep the Roles and RoleBindings that follow from Instances with grants: Members, which the roles of the chart
    /// permit with grants.enabled=true; default: grant nothing
    #[arg(long)]
    grants: bool,
    /// The settings of the cluster for exposing endpoints, as JSON, which the chart makes of its values in exposure;
    /// default: Services alone
    #[arg(long, value_name = "JSON", value_parser = exposure)]
    exposure: Option<Arc<ExposureConfig>>,
    /// Keep the verifier's certificate in this Secret, and its certificate authority beside it; default: keep none
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "certificate_name")]
    certificate: Option<SecretPlace>,
    /// DNS name of the verifier in that certificate; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "certificate")]
    certificate_name: Vec<String>,
    #[command(flatten)]
    leadership: Leadership,
    /// Serve metrics for each token, by namespace and name; false: leave them out, for very many tokens
    #[arg(
        long,
        env = "TOKENRY_METRICS_PER_TOKEN",
        default_value = "true",
        action = ArgAction::Set,
        value_name = "true|false"
    )]
    metrics_per_token: bool,
    /// Allow probes of endpoints at loopback and link-local addresses; addresses of cloud metadata are never asked;
    /// default: refuse them
    #[arg(long)]
    probe_local: bool,
}

/// How one of several operators leads.
#[derive(Args)]
struct Leadership {
    /// Let one of several operators lead, by a Lease; the others wait with warm caches; default: each one works
    #[arg(long, env = "TOKENRY_LEADER_ELECT")]
    leader_elect: bool,
    /// Namespace of the Lease; default: that of the Pod, or of the kubeconfig's context
    #[arg(long, env = "TOKENRY_LEADER_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    leader_election_namespace: Option<String>,
    /// Name of the Lease; operators that serve the same namespaces need the same one
    #[arg(long, env = "TOKENRY_LEADER_ELECTION_NAME", default_value = "tokenry-operator", value_name = "NAME")]
    leader_election_name: String,
    /// A Lease that was not renewed for this long is taken by another operator; at most 300s
    #[arg(long, env = "TOKENRY_LEADER_ELECTION_LEASE_DURATION", default_value = "15s", value_name = "DURATION", value_parser = limit)]
    leader_election_lease_duration: Duration,
    /// An operator that could not renew its Lease for this long ends; shorter than the lease duration
    #[arg(long, env = "TOKENRY_LEADER_ELECTION_RENEW_DEADLINE", default_value = "10s", value_name = "DURATION", value_parser = limit)]
    leader_election_renew_deadline: Duration,
    /// Interval of the renewals; at most half of the renew deadline
    #[arg(long, env = "TOKENRY_LEADER_ELECTION_RETRY_PERIOD", default_value = "2s", value_name = "DURATION", value_parser = limit)]
    leader_election_retry_period: Duration,
}

impl Leadership {
    /// The Lease, if there is an election.
    fn order(&self) -> Option<LeaseOrder> {
        let namespace = self.leader_election_namespace.clone().filter(|namespace| !namespace.is_empty());
        let periods = LeasePeriods {
            lease: self.leader_election_lease_duration,
            renew: self.leader_election_renew_deadline,
            retry: self.leader_election_retry_period,
        };
        self.leader_elect.then(|| LeaseOrder { namespace, name: self.leader_election_name.clone(), periods })
    }

    /// The Lease, if there is an election and its times fit.
    fn checked(&self) -> Result<Option<LeaseOrder>, Error> {
        let order = self.order();
        order.as_ref().map_or(Ok(()), |order| order.periods.checked().map(|_| ())).map_err(Error::Usage)?;
        Ok(order)
    }
}

impl Operator {
    /// The permissions that the operator uses with this command line.
    pub(crate) fn duties(&self) -> Duties {
        let granting = if self.grants { &operator::GRANTING[..] } else { &[] };
        let kinds = self.exposure.iter().flat_map(|config| &config.kinds);
        let exposing = kinds.filter(|kind| **kind != PieceKind::Service);
        let useful = operator::RIGHTS.useful.iter().copied();
        Duties {
            scope: self.common.scope(),
            lease: self.leadership.order(),
            needed: [operator::RIGHTS.needed, granting].concat(),
            useful: useful
                .chain(exposing.flat_map(|kind| operator::exposing_rights(*kind)))
                .chain(REVIEWING.into_iter().filter(|_| self.common.monitoring.is_secure()))
                .collect(),
        }
    }

    pub(crate) fn main(&self) -> Result<(), Error> {
        let Self { common, grants, exposure, certificate, certificate_name, .. } = self;
        let Self { leadership, metrics_per_token, probe_local, .. } = self;
        common.log()?;
        client::run(client::THREADS, async |stop| {
            let options = Options {
                scope: common.scope(),
                serving: Some(common.serving()?),
                probes: common.probes()?,
                grants: *grants,
                exposure: exposure.clone().unwrap_or_default(),
                certificate: certificate
                    .clone()
                    .map(|place| CertificateOrder { place, names: certificate_name.clone() }),
                election: leadership.checked()?,
                secure_metrics: common.monitoring.secure_metrics()?,
                traces: common.monitoring.traces("tokenry-operator")?,
                per_token: *metrics_per_token,
                probe_local: *probe_local,
                instance: connect::pod(),
                stop,
            };
            let ended =
                operator::run(client::client().await?, Arc::new(SystemClock), Arc::new(SystemEntropy), options).await;
            ended.map_err(Error::Ended)
        })
    }
}

/// Reads the settings for exposing endpoints.
fn exposure(text: &str) -> Result<Arc<ExposureConfig>, String> {
    serde_json::from_str(text).map(Arc::new).map_err(|error| error.to_string())
}
