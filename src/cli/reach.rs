//! `tokenry reach`.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use http::Uri;

use super::{Error, client, connection::timeout};
use crate::outside::reach::reach;

#[derive(Args)]
pub(crate) struct ReachUrl {
    /// URL, such as http://tokenry-peers.tokenry-system.svc:8081/readyz
    url: Uri,
    /// Status of the answer that is success
    #[arg(long, default_value = "200")]
    status: u16,
    /// File with the CA certificates of the server, as PEM; default: those of this machine
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Longest wait for that answer, such as 30s; 0: no limit
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout, allow_hyphen_values = true)]
    timeout: Duration,
}

impl ReachUrl {
    pub(crate) fn main(self) -> Result<(), Error> {
        let Self { url, status, ca, timeout } = self;
        let read = |path: PathBuf| fs::read_to_string(&path).map_err(|error| Error::unreadable(&path, error));
        let ca = ca.map(read).transpose()?;
        let reached = client::block_on(async { Ok(reach(&url, status, ca.as_deref(), timeout).await) })?;
        reached.map_err(|last| {
            Error::Unreachable(format!(
                "{url} did not answer {status} in time; the last answer: {last}; look at the Pods behind it"
            ))
        })
    }
}
