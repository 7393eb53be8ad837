//! `tokenry verifier`.

use std::sync::Arc;

use clap::Args;

use super::{Common, Error, client};
use crate::{
    outside::{SystemClock, hearing::StaleAfter, peers::Peer},
    verifier::{self, Options, StaleAnswers},
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
}

impl Verifier {
    pub(crate) fn main(self) -> Result<(), Error> {
        self.common.log()?;
        client::run(async |stop| {
            let (serving, probes) = self.common.take()?;
            let options = Options {
                scope: self.common.scope(),
                serving,
                probes,
                stale_after: self.stale_after,
                stale_answers: self.stale_answers,
                peers: self.peers,
                stop,
            };
            let ended = verifier::run(client::client().await?, Arc::new(SystemClock), options).await;
            ended.map_err(Error::Ended)
        })
    }
}
