//! The AuthorizationPolicy of Istio: it asks the verifier in front of the Pods.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::{Exposed, loose::AuthorizationPolicy};
use crate::crd::endpoint::Guard;

/// The AuthorizationPolicy of `exposed`. `None` unless the guard is Istio, and for a port of the Pods that is given by
/// name.
pub(crate) fn build(exposed: &Exposed) -> Option<AuthorizationPolicy> {
    let istio = exposed.endpoint.istio.as_ref().filter(|_| exposed.guard() == Guard::Istio && exposed.way.is_some())?;
    let IntOrString::Int(port) = &exposed.target_port else { return None };
    // A condition on the host would let requests through that name the port in their host.
    let spec = json!({
        "selector": {"matchLabels": exposed.selector},
        "action": "CUSTOM",
        "provider": {"name": istio.provider.as_str()},
        "rules": [{"to": [{"operation": {"ports": [port.to_string()]}}]}],
    });
    Some(AuthorizationPolicy::new(super::named(exposed), spec))
}
