//! `tokenry operator`.

use std::sync::Arc;

use super::{Common, Error, client};
use crate::{
    operator::{self, Options},
    outside::{SystemClock, SystemEntropy, connect},
};

pub(crate) fn main(common: &Common) -> Result<(), Error> {
    common.log()?;
    client::run(async |stop| {
        let (serving, probes) = common.take()?;
        let options = Options { scope: common.scope(), serving: Some(serving), probes, instance: connect::pod(), stop };
        let ended =
            operator::run(client::client().await?, Arc::new(SystemClock), Arc::new(SystemEntropy), options).await;
        ended.map_err(Error::Ended)
    })
}
