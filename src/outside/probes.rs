//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};

use super::{
    Hearing, Pulse,
    metrics::{self, Metrics},
};

/// A readiness check. Its error names the missing condition, and becomes the body of the 503.
pub trait Ready: Fn() -> Result<(), String> + Clone + Send + Sync + 'static {}
impl<F: Fn() -> Result<(), String> + Clone + Send + Sync + 'static> Ready for F {}

/// Routes `/healthz` and `/readyz`, for the main port of a process. `/healthz` fails once a loop of the process hangs.
pub fn health(ready: impl Ready, pulse: Pulse) -> Router {
    let healthz = move || std::future::ready(answer(pulse.check()));
    let readyz = move || std::future::ready(answer(ready()));
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

fn answer(found: Result<(), String>) -> (StatusCode, String) {
    match found {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(wrong) => (StatusCode::SERVICE_UNAVAILABLE, format!("{wrong}\n")),
    }
}

/// And `/metrics`, for the port of the probes.
pub fn probes(ready: impl Ready, pulse: Pulse, metrics: Arc<Metrics>, hearing: Hearing) -> Router {
    let told = move || {
        for (kind, age) in hearing.ages() {
            metrics.heard(kind, age);
        }
        std::future::ready(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text()).into_response())
    };
    health(ready, pulse).route("/metrics", get(told))
}
