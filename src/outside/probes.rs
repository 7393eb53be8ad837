//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};

use super::{
    Hearing,
    metrics::{self, Metrics},
};

/// A readiness check. Its error names the missing condition, and becomes the body of the 503.
pub trait Ready: Fn() -> Result<(), String> + Clone + Send + Sync + 'static {}
impl<F: Fn() -> Result<(), String> + Clone + Send + Sync + 'static> Ready for F {}

/// Routes `/healthz` and `/readyz`, for the main port of a process.
pub fn health(ready: impl Ready) -> Router {
    let readyz = move || {
        let answer = match ready() {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
        };
        std::future::ready(answer)
    };
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz))
}

/// Routes `/healthz`, `/readyz` and `/metrics`, for the probe port.
pub fn probes(ready: impl Ready, metrics: Arc<Metrics>, hearing: Hearing) -> Router {
    let told = move || {
        for (kind, age) in hearing.ages() {
            metrics.heard(kind, age);
        }
        std::future::ready(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text()).into_response())
    };
    health(ready).route("/metrics", get(told))
}
