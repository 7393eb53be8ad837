//! `tokenry operator`.

use std::sync::Arc;

use clap::Args;

use super::{Common, Error, client};
use crate::{
    operator::{self, Options},
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
    /// Allow probes of endpoints at loopback and link-local addresses; addresses of cloud metadata are never asked;
    /// default: refuse them
    #[arg(long)]
    probe_local: bool,
}

impl Operator {
    pub(crate) fn main(&self) -> Result<(), Error> {
        let Self { common, grants, probe_local } = self;
        common.log()?;
        client::run(async |stop| {
            let (serving, probes) = common.take()?;
            let (scope, instance, serving) = (common.scope(), connect::pod(), Some(serving));
            let (grants, probe_local) = (*grants, *probe_local);
            let options = Options { scope, serving, probes, grants, probe_local, instance, stop };
            let ended =
                operator::run(client::client().await?, Arc::new(SystemClock), Arc::new(SystemEntropy), options).await;
            ended.map_err(Error::Ended)
        })
    }
}
