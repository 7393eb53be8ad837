//! `tokenry verifier`.

use std::sync::Arc;

use super::Common;
use crate::{
    outside::{SystemClock, connect},
    verifier::{self, Options},
};

pub fn main(common: &Common) -> Result<(), String> {
    common.log()?;
    super::block_on(async {
        let options =
            Options { scope: common.scope(), listener: common.listen().await?, stop: connect::stop_on_signal()? };
        let ended = verifier::run(connect::client().await?, Arc::new(SystemClock), options).await;
        ended.map_err(|error| error.to_string())
    })
}
