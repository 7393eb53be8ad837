//! `tokenry operator`.

use std::sync::Arc;

use super::Common;
use crate::{
    operator::{self, Options},
    outside::{SystemClock, connect},
};

pub fn main(common: &Common) -> Result<(), String> {
    common.log()?;
    super::block_on(async {
        let (serving, probes) = common.take()?;
        let options = Options {
            scope: common.scope(),
            serving: Some(serving),
            probes,
            instance: std::env::var("HOSTNAME").ok(),
            stop: connect::stop_on_signal()?,
        };
        let ended = operator::run(connect::client().await?, Arc::new(SystemClock), options).await;
        ended.map_err(|error| error.to_string())
    })
}
