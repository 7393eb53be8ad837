//! `/metrics`: at the port of the probes, or by HTTPS for callers that prove themselves.
//!
//! A caller proves itself as with controller-runtime's filter `WithAuthenticationAndAuthorization`. The API server
//! names the bearer of its Kubernetes token, and says if that user may `get` the path `/metrics`.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::SignedDuration;
use kube::Client;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Clock, Hearing, Permit, Reviewer, SystemClock, SystemEntropy, Taken, Tasks, Tls, TlsFiles, connect,
    issuer::{KeyedCertificate, Period},
    metrics::{self, Metrics},
    server::{self, PeerAddress, Port, Refused, Server},
};

/// The lifetime of a certificate that nobody verifies. It is longer than any process runs.
const LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// How long a text serves further scrapes. To write it takes a look at every token, or at every object of the index. So
/// callers that scrape all the time cost little more than one.
const HOLDS: Duration = Duration::from_secs(1);

/// The port of `/metrics` for callers that prove themselves.
#[derive(Debug)]
pub struct SecureMetrics {
    /// Its address.
    pub at: Taken,
    /// The files of its certificate. `None`: each process makes a certificate, which callers cannot verify.
    pub files: Option<TlsFiles>,
}

/// All that a scrape reads.
#[derive(Clone)]
struct Scraped {
    metrics: Arc<Metrics>,
    hearing: Hearing,
    /// The last text, and the time at which it was complete.
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl Scraped {
    fn new(metrics: Arc<Metrics>, hearing: Hearing) -> Self {
        Self { metrics, hearing, last: Arc::default() }
    }

    /// The text of now, or of a second ago at most. All answers share its memory.
    async fn read(&self) -> Response {
        let mut last = self.last.lock().await;
        let text = match &*last {
            Some((at, text)) if at.elapsed() < HOLDS => text.clone(),
            Some(_) | None => {
                let text = Bytes::from(self.write());
                *last = Some((Instant::now(), text.clone()));
                text
            }
        };
        ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
    }

    fn write(&self) -> String {
        for (kind, age) in self.hearing.ages() {
            self.metrics.heard(kind, age);
        }
        self.metrics.connections(server::open());
        Refused::ALL.into_iter().for_each(|reason| self.metrics.connections_refused(reason.as_str(), reason.count()));
        self.metrics.text()
    }
}

/// Opens `/metrics`. Without `secure`, the returned routes have it, for the port of the probes. Otherwise they are
/// empty, and a port of its own serves it until `stop`.
///
/// # Errors
/// The port cannot be opened, or no certificate can be made.
pub fn open(
    secure: Option<SecureMetrics>,
    (metrics, hearing): (Arc<Metrics>, Hearing),
    client: &Client,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) -> io::Result<Router> {
    let scraped = Scraped::new(metrics, hearing);
    let Some(SecureMetrics { at, files }) = secure else {
        return Ok(Router::new()
            .route("/metrics", get(async |State(scraped): State<Scraped>| scraped.read().await))
            .with_state(scraped));
    };
    let clock = Arc::new(SystemClock);
    let tls = match files {
        Some(files) => {
            let tls = Tls::new(files, "the port of metrics", clock);
            tasks.endless("the watch of the certificate of metrics", tls.clone().watch());
            tls
        }
        None => Tls::fixed(&own_certificate()?, "the port of metrics", clock).map_err(io::Error::other)?,
    };
    let reviewer = Arc::new(Reviewer::new(client.clone()));
    let router = Router::new().route("/metrics", get(scrape)).with_state((scraped, reviewer));
    let (listener, server) = (at.listen_by("https", "metrics")?, Server::new(router, Port::Probes, stop.clone()));
    tasks.finishing("the port of metrics", server.serve(listener, Some(tls)));
    Ok(Router::new())
}

/// A certificate of this process alone.
fn own_certificate() -> io::Result<KeyedCertificate> {
    let now = SystemClock.now();
    let until = now.checked_add(LIFETIME).map_err(io::Error::other)?;
    let (period, names) = (Period { from: now, until }, [connect::pod().unwrap_or_else(|| "localhost".into())]);
    let authority = KeyedCertificate::authority(&SystemEntropy, period).map_err(io::Error::other)?;
    authority.sign(&SystemEntropy, &names, period).map_err(io::Error::other)
}

/// Answers a scrape of a caller that proves itself.
async fn scrape(State((scraped, reviewer)): State<(Scraped, Arc<Reviewer>)>, request: Request) -> Response {
    let from = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
    let Some(token) = bearer(request.headers()) else { return refused(StatusCode::UNAUTHORIZED) };
    match reviewer.permit_scrape(from, token).await {
        Ok(Permit::Granted(_)) => scraped.read().await,
        Ok(Permit::Lacking(_)) => refused(StatusCode::FORBIDDEN),
        Ok(Permit::Unproven) => refused(StatusCode::UNAUTHORIZED),
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// The only bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let only = sent.next().filter(|_| sent.next().is_none())?.to_str().ok()?;
    let (scheme, token) = only.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim_matches(' ')).filter(|token| !token.is_empty())
}

/// The answer to a caller that gets no metrics.
fn refused(status: StatusCode) -> Response {
    let told = match status {
        StatusCode::UNAUTHORIZED => {
            "give a Kubernetes token for the audience tokenry.dev/metrics or for the API server, as \
             Authorization: Bearer TOKEN\n"
        }
        StatusCode::FORBIDDEN => "this user may not get the path /metrics; bind it to the ClusterRole for scrapers\n",
        _ => "the API server cannot review the caller now; try again\n",
    };
    let challenge = (status == StatusCode::UNAUTHORIZED).then_some([(WWW_AUTHENTICATE, "Bearer realm=\"metrics\"")]);
    (status, challenge, told).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::reviewer::tests::Server as ApiServer;
    use axum::body::{Body, to_bytes};
    use futures::future::join_all;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::sleep;
    use tower::ServiceExt;

    #[tokio::test]
    async fn only_a_caller_that_proves_itself_and_has_the_right_reads_metrics() {
        let api = ApiServer::granting();
        let scraped = Scraped::new(Arc::default(), Hearing::default());
        let answer = async |headers: &[&str]| {
            let reviewer = Arc::new(ApiServer::reviewer(&api));
            let router = Router::new().route("/metrics", get(scrape)).with_state((scraped.clone(), reviewer));
            let mut request = http::Request::get("/metrics");
            for value in headers {
                request = request.header(AUTHORIZATION, *value);
            }
            let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let (status, challenge) = (answer.status().as_u16(), answer.headers().contains_key(WWW_AUTHENTICATE));
            let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            (status, challenge, String::from_utf8_lossy(&body).contains("tokenry_build_info"))
        };
        assert_eq!(answer(&["Bearer t"]).await, (200, false, true));
        for none in [&[][..], &["Bearer"], &["Bearer "], &["Basic dTpw"], &["Bearer t", "Bearer t"]] {
            assert_eq!(answer(none).await, (401, true, false), "{none:?}");
        }
        api.lock().unwrap().access = json!({"allowed": false});
        assert_eq!(answer(&["bearer t"]).await, (403, false, false));
        api.lock().unwrap().token = json!({"authenticated": false});
        assert_eq!(answer(&["Bearer t"]).await, (401, true, false));
        api.lock().unwrap().code = 503;
        assert_eq!(answer(&["Bearer t"]).await, (503, false, false), "nobody can say");
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_scrapes_in_a_second_one_reads_everything() {
        let (metrics, written) = (Arc::new(Metrics::default()), Arc::new(AtomicUsize::new(0)));
        let counted = written.clone();
        metrics.reads(move |_| _ = counted.fetch_add(1, Ordering::SeqCst));
        let scraped = Scraped::new(metrics.clone(), Hearing::default());
        let all = async || join_all((0..100).map(|_| scraped.read())).await.into_iter().map(Response::into_body);
        let texts = join_all(all().await.map(|body| to_bytes(body, 1 << 20))).await;
        let texts: Vec<Bytes> = texts.into_iter().map(Result::unwrap).collect();
        assert!(texts.iter().all(|text| text.as_ptr() == texts[0].as_ptr()), "they share its memory");
        assert_eq!(written.load(Ordering::SeqCst), 1);
        metrics.audit_dropped(7);
        sleep(HOLDS).await;
        let texts = join_all(all().await.map(|body| to_bytes(body, 1 << 20))).await;
        let has_news = |text: &Bytes| String::from_utf8_lossy(text).contains("audit_dropped_total 7");
        assert!(texts.iter().all(|text| has_news(text.as_ref().unwrap())));
        assert_eq!(written.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn without_a_port_of_their_own_metrics_are_for_everybody() {
        let mut tasks = Tasks::new(CancellationToken::new());
        let nobody = tower::service_fn(async |_: http::Request<kube::client::Body>| {
            Err::<http::Response<Body>, _>(io::Error::other("nobody is asked"))
        });
        let (facts, client) = ((Arc::default(), Hearing::default()), Client::new(nobody, "a"));
        let router = open(None, facts, &client, &mut tasks, &CancellationToken::new()).unwrap();
        let asked = http::Request::get("/metrics").body(Body::empty()).unwrap();
        assert_eq!(router.oneshot(asked).await.unwrap().status(), 200);
    }
}
