//! `/healthz`, `/readyz` and `/log-level`.

use axum::{Router, http::StatusCode, routing::get};

use super::{Pulse, level};

/// A readiness check. Its error names the missing condition, and becomes the body of the 503. Everybody can read
/// it, so it names kinds and never objects.
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

/// And `/log-level`, for the port of the probes.
pub fn probes(ready: impl Ready, pulse: Pulse) -> Router {
    health(ready, pulse).merge(level::router())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use http::Request;
    use std::time::Duration;
    use tokio::time::sleep;
    use tower::ServiceExt;

    async fn got(router: &Router, path: &str) -> (u16, String) {
        let asked = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(asked).await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8(to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stops_beating_fails_healthz_by_its_name_until_it_ends() {
        let pulse = Pulse::default();
        let router = probes(|| Ok(()), pulse.clone());
        let beating = pulse.begin("the token controller", "the token controller");
        assert_eq!(got(&router, "/healthz").await, (200, "ok\n".into()));
        sleep(Duration::from_secs(61)).await;
        assert_eq!(got(&router, "/healthz").await, (503, "the token controller has not run for 61 s\n".into()));
        assert_eq!(got(&router, "/readyz").await.0, 200, "readiness is another matter");
        drop(beating);
        assert_eq!(got(&router, "/healthz").await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn healthz_names_the_kind_of_work_and_never_its_object() {
        let pulse = Pulse::default();
        let _beating = pulse.begin("a pass over ApiToken", "the pass over ApiToken events/ci");
        sleep(Duration::from_secs(61)).await;
        let (status, told) = got(&health(|| Ok(()), pulse), "/healthz").await;
        assert_eq!((status, &*told), (503, "a pass over ApiToken has not run for 61 s\n"));
    }

    #[tokio::test]
    async fn readyz_says_the_missing_condition_and_the_log_level_is_at_the_port_of_the_probes_alone() {
        let unready = || Err("waiting for the first list of: ApiToken".to_owned());
        let router = health(unready, Pulse::default());
        assert_eq!(got(&router, "/readyz").await, (503, "waiting for the first list of: ApiToken\n".into()));
        assert_eq!(got(&router, "/healthz").await.0, 200, "a process that waits is alive");
        assert_eq!(got(&router, "/log-level").await.0, 404);
        assert_eq!(got(&probes(unready, Pulse::default()), "/log-level").await.0, 403, "nobody knows the caller");
    }
}
