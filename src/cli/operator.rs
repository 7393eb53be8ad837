//! `tokenry operator`.

use std::sync::Arc;

use clap::Args;

use super::{Common, Duties, Error, client};
use crate::{
    exposure::{ExposureConfig, PieceKind},
    operator::{self, CertificateOrder, Options, SecretPlace},
    outside::{SystemClock, SystemEntropy, connect},
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
    /// Allow probes of endpoints at loopback and link-local addresses; addresses of cloud metadata are never asked;
    /// default: refuse them
    #[arg(long)]
    probe_local: bool,
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
            needed: [operator::RIGHTS.needed, granting].concat(),
            useful: useful.chain(exposing.flat_map(|kind| operator::exposing_rights(*kind))).collect(),
        }
    }

    pub(crate) fn main(&self) -> Result<(), Error> {
        let Self { common, grants, exposure, certificate, certificate_name, probe_local } = self;
        common.log()?;
        client::run(async |stop| {
            let options = Options {
                scope: common.scope(),
                serving: Some(common.serving()?),
                probes: common.probes()?,
                grants: *grants,
                exposure: exposure.clone().unwrap_or_default(),
                certificate: certificate
                    .clone()
                    .map(|place| CertificateOrder { place, names: certificate_name.clone() }),
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
