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
}

impl Operator {
    pub(crate) fn main(&self) -> Result<(), Error> {
        let Self { common, grants } = self;
        common.log()?;
        client::run(async |stop| {
            let (serving, probes) = common.take()?;
            let (scope, instance, grants) = (common.scope(), connect::pod(), *grants);
            let options = Options { scope, serving: Some(serving), probes, grants, instance, stop };
            let ended =
                operator::run(client::client().await?, Arc::new(SystemClock), Arc::new(SystemEntropy), options).await;
            ended.map_err(Error::Ended)
        })
    }
}
