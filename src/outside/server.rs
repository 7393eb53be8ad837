//! HTTP: probes, metrics, and the way to serve a router until it is told to stop.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::{self, Metrics};

/// `/healthz`, `/readyz` and `/metrics`. `ready` says what is still missing, if anything is.
pub fn probes(metrics: Arc<Metrics>, ready: impl Fn() -> Result<(), String> + Clone + Send + Sync + 'static) -> Router {
    let readyz = move || {
        let answer = match ready() {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
        };
        std::future::ready(answer)
    };
    let metrics = move || std::future::ready(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text()).into_response());
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// Listens at `address`, and says where on standard output: port 0 takes a free one.
///
/// # Errors
/// The address cannot be listened on.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let cannot = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(listener)
}

/// Serves `router` until `stop`, then answers what was asked.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
