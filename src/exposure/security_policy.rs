//! The SecurityPolicy of Envoy Gateway: it asks the verifier about each request on the HTTPRoute.

use serde_json::json;

use super::{Exposed, loose::SecurityPolicy};
use crate::crd::endpoint::Guard;

/// The SecurityPolicy of `exposed`. `None` unless the guard is EnvoyGateway.
pub(crate) fn build(exposed: &Exposed) -> Option<SecurityPolicy> {
    let verifier = exposed.verifier_of(Guard::EnvoyGateway)?;
    // Envoy appends the path of the request to `path`. A retry would keep the body of the request in memory.
    let http = json!({
        "path": exposed.asked_at("authorize"),
        "backendRefs": [verifier.backend_ref()],
        "headersToBackend": super::passed_on(),
        "backendSettings": {"timeout": {"tcp": {"connectTimeout": "1s"}}},
    });
    let spec = json!({
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": exposed.name}],
        "extAuth": {
            "failOpen": false,
            "timeout": "2s",
            "statusOnError": 503,
            "headersToExtAuth": exposed.asked_headers,
            "http": http,
        },
    });
    Some(SecurityPolicy::new(super::named(exposed), spec))
}
