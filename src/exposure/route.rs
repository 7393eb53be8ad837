//! The OpenShift Route of an external endpoint.

use serde_json::json;

use super::{Acceptance, Exposed, acceptance::condition, loose::Route};
use crate::crd::{
    endpoint::{Termination, WayIn},
    instance::Scheme,
};

/// The Route of `exposed`. `None` unless the way in is a Route.
pub(crate) fn build(exposed: &Exposed) -> Option<Route> {
    if !exposed.is_led_by(WayIn::Route) {
        return None;
    }
    let given = exposed.endpoint.route.as_ref().and_then(|route| route.termination);
    let termination = given.unwrap_or(match exposed.scheme {
        Scheme::Http => Termination::Edge,
        Scheme::Https => Termination::Reencrypt,
    });
    let mut spec = json!({
        "to": {"kind": "Service", "name": exposed.name, "weight": 100},
        "port": {"targetPort": exposed.port_name},
        "tls": {"termination": termination.as_str(), "insecureEdgeTerminationPolicy": "Redirect"},
        "wildcardPolicy": "None",
    });
    if let Some(host) = &exposed.endpoint.host {
        spec["host"] = host.as_str().into();
    }
    Some(Route::new(super::named(exposed), spec))
}

/// The host of a Route, as the first router that admits it says.
pub fn published_host(route: &Route) -> Option<String> {
    let mut routers = route.status["ingress"].as_array()?.iter();
    let admitted = routers.find(|router| condition(router, "Admitted", true, None) == Acceptance::Accepted)?;
    admitted["host"].as_str().filter(|host| !host.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_host_is_read_from_a_router_that_admits_the_route() {
        let of = |ingress: Value| {
            let mut route = Route::new(Default::default(), json!({}));
            route.status = json!({ "ingress": ingress });
            published_host(&route)
        };
        let said =
            |host: &str, status: &str| json!({"host": host, "conditions": [{"type": "Admitted", "status": status}]});
        assert_eq!(of(json!(null)), None);
        assert_eq!(of(json!([{"host": "a.example.com"}])), None, "nobody admits it");
        assert_eq!(of(json!([said("a.example.com", "False")])), None);
        assert_eq!(of(json!([said("", "True")])), None);
        let two = json!([said("a.example.com", "False"), said("b.example.com", "True")]);
        assert_eq!(of(two).as_deref(), Some("b.example.com"));
    }
}
