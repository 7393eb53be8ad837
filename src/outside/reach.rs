//! Requests for a URL until it answers as wanted.

use std::{fmt::Display, time::Duration};

use http::{Request, Uri, uri::Scheme};
use kube::{Client, Config, client::Body};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

use super::refusal::with_causes;

/// The wait between two requests.
const PAUSE: Duration = Duration::from_secs(1);
/// Time limit for a connection, and for the silence of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends GET requests for `url` until an answer has the status `wanted`. For `https`, one of the certificates in the
/// PEM text `ca` has to have signed that of the server; `None`: one of this machine's roots. No proxy is used.
///
/// # Errors
/// No answer within `limit` had that status. The text has the last answer, or the reason why there was none.
pub async fn reach(url: &Uri, wanted: u16, ca: Option<&str>, limit: Duration) -> Result<(), String> {
    let client = client(url, ca)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut last = "none".to_owned();
    let asked = async {
        loop {
            let request = Request::get(path).body(Body::empty()).map_err(told)?;
            match client.send(request).await {
                Ok(answer) if answer.status() == wanted => return Ok(()),
                Ok(answer) => last = answer.status().as_u16().to_string(),
                Err(error) => last = with_causes(&error),
            }
            sleep(PAUSE).await;
        }
    };
    timeout(limit, asked).await.unwrap_or(Err(last))
}

/// A client of the server of `url`.
fn client(url: &Uri, ca: Option<&str>) -> Result<Client, String> {
    let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
        return Err("the URL has no scheme or no host".to_owned());
    };
    let server = Uri::builder().scheme(scheme.clone()).authority(authority.clone()).path_and_query("/");
    let mut config = Config::new(server.build().map_err(told)?);
    (config.default_retry, config.proxy_url) = (false, None);
    (config.connect_timeout, config.read_timeout) = (Some(PATIENCE), Some(PATIENCE));
    // Without a list, the client needs the roots of the machine, even for plain HTTP. An image may have none.
    let none = (*scheme == Scheme::HTTP).then_some("");
    if let Some(ca) = ca.or(none) {
        let all = CertificateDer::pem_slice_iter(ca.as_bytes()).collect::<Result<Vec<_>, _>>();
        config.root_cert = Some(all.map_err(told)?.iter().map(|one| one.to_vec()).collect());
    }
    Client::try_from(config).map_err(told)
}

fn told(error: impl Display) -> String {
    error.to_string()
}
