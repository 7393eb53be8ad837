//! The gate of a way in: if it may lead to the API, as its guard is now.

use super::{
    Acceptance, Exposed, Form, Piece, PieceKind, acceptance, class::Served, gateways::Carriers, http_route, unreported,
};
use crate::crd::{
    endpoint::{Guard, WayIn},
    guarding::realm,
};

/// The answer of a Service to a request without a token, from inside the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The challenge of the verifier, for this Instance.
    Challenge,
    /// Another answer.
    Other,
    /// A failure of a server on the way (5xx). The verifier may be away.
    Failure,
    /// No answer.
    Silence,
    /// Nothing was asked yet.
    Unknown,
}

/// The gate of a way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The way in leads to the Service.
    Open,
    /// The way in has no backend.
    Shut,
    /// The way in does not exist.
    Absent,
    /// A guarded way in that exists stays as it is. None is made.
    Hold,
}

/// The gate, and the obstacle in words if it is not open. The answer of the edge about the way in itself is no obstacle
/// of the guard.
pub type Passage = (Gate, Option<String>);

/// The existing objects of an endpoint, and the answers of its probes.
#[derive(Clone, Copy, Debug)]
pub struct Existing<'a> {
    /// The object of the guard, if it is another object than the way in and exists.
    pub guard: Option<&'a Piece>,
    /// True if this object is as the spec wants it.
    pub is_current: bool,
    /// True if the way in leads to the Service now, with this guard and by the Gateways of the spec.
    pub is_open: bool,
    /// True if the Service is as the spec wants it. Otherwise its answer is that of other Pods.
    pub fronts: bool,
    /// The answer of the Service.
    pub inside: Reply,
    /// The HTTPRoute with this guard and by the Gateways of the spec, if it exists.
    pub route: Option<&'a Piece>,
    /// The answer of the published URI. `None` if nothing is probed.
    pub outside: Option<Reply>,
    /// The controller that serves the Ingress.
    pub served: &'a Served,
    /// The Gateways of the HTTPRoute.
    pub carriers: &'a Carriers,
}

/// The kind of the object of a guard, if it is another object than the way in.
pub fn kind(guard: Guard) -> Option<PieceKind> {
    match guard {
        Guard::Traefik => Some(PieceKind::Middleware),
        Guard::EnvoyGateway => Some(PieceKind::SecurityPolicy),
        Guard::Istio => Some(PieceKind::AuthorizationPolicy),
        Guard::ExternalAuth | Guard::Nginx | Guard::Backend | Guard::None => None,
    }
}

/// True if the API is reached unjudged when an object of this kind disappears before the way in. A router of Traefik
/// that names a missing Middleware refuses all requests.
pub fn leaves_open(kind: PieceKind) -> bool {
    matches!(kind, PieceKind::SecurityPolicy | PieceKind::AuthorizationPolicy)
}

/// The gate of the way in of `exposed`. A guard that is changed in place keeps the way in open. The edge replaces the
/// old guard by the new one in one step.
pub fn gate(exposed: &Exposed, standing: &Existing<'_>) -> Passage {
    let name = &exposed.name;
    match standing.served {
        Served::Fitting => {}
        Served::Other(why) => return (Gate::Absent, Some(why.clone())),
        // An open way in was made for a class that was read.
        Served::Unknown(why) if standing.is_open => return (Gate::Hold, Some(why.clone())),
        Served::Unknown(why) => return (Gate::Absent, Some(why.clone())),
    }
    let guard = exposed.guard();
    if guard.is_at_pods() && !standing.fronts {
        return (Gate::Absent, Some(format!("waiting until Service {name} selects the Pods of the spec")));
    }
    match guard {
        Guard::Nginx | Guard::None => (Gate::Open, None),
        Guard::ExternalAuth => filtered(exposed, standing),
        Guard::Traefik => match standing.guard {
            Some(_) if standing.is_open => (Gate::Open, None),
            Some(_) if standing.is_current && exposed.way == Some(WayIn::Gateway) => (taken(standing.route), None),
            Some(_) if standing.is_current => (Gate::Open, None),
            Some(_) | None => (Gate::Hold, Some(format!("waiting for Middleware {}", exposed.middleware))),
        },
        Guard::EnvoyGateway => policed(exposed, standing),
        Guard::Istio if standing.guard.is_none() => {
            (Gate::Hold, Some(format!("waiting for AuthorizationPolicy {name}")))
        }
        Guard::Istio | Guard::Backend => asked(exposed, standing.inside),
    }
}

/// The gate of a filter that each Gateway has to know. One that does not know it refuses the route.
fn taken(route: Option<&Piece>) -> Gate {
    match route.map(acceptance) {
        Some(Acceptance::Accepted) => Gate::Open,
        Some(Acceptance::Awaited | Acceptance::Refused(_)) | None => Gate::Shut,
    }
}

/// The gate of a SecurityPolicy. Each Gateway of the HTTPRoute has to know the policy: one of another controller would
/// lead to the Service unjudged.
fn policed(exposed: &Exposed, standing: &Existing<'_>) -> Passage {
    let (name, is_open) = (&exposed.name, standing.is_open);
    if let Carriers::Missing(why) = standing.carriers.clone()
        && !is_open
    {
        return (Gate::Shut, Some(why));
    }
    let waiting = format!("waiting until the edge accepts SecurityPolicy {name}");
    let Some(policy) = standing.guard else { return (Gate::Shut, Some(waiting)) };
    let unreported = unreported(policy, http_route::parents(exposed), &exposed.instance.0);
    match (acceptance(policy), unreported) {
        (Acceptance::Refused(why), _) => (Gate::Shut, Some(format!("SecurityPolicy {name} is refused: {why}"))),
        (_, Some(gateway)) => (Gate::Shut, Some(format!("{waiting} for Gateway {gateway}"))),
        (Acceptance::Accepted, None) if standing.is_current || is_open => (Gate::Open, None),
        (Acceptance::Awaited, None) if is_open => (Gate::Open, None),
        (Acceptance::Accepted | Acceptance::Awaited, None) => (Gate::Shut, Some(waiting)),
    }
}

/// The gate of a filter in the HTTPRoute. An edge that does not know the filter should refuse the route, but some
/// accept it. So the challenge has to come while the route has no backend. Without a probe, the answer of the edge
/// suffices. The probe proves one Gateway. Where it proves none, or not all, each class has to list the filter, or to
/// list nothing.
fn filtered(exposed: &Exposed, standing: &Existing<'_>) -> Passage {
    let name = &exposed.name;
    let is_proved = standing.outside == Some(Reply::Challenge) && http_route::gateways(exposed) == 1;
    match standing.carriers {
        Carriers::Missing(why) if !standing.is_open => return (Gate::Shut, Some(why.clone())),
        Carriers::Lacking(why) if !standing.is_open && !is_proved => return (Gate::Shut, Some(why.clone())),
        Carriers::Missing(_) | Carriers::Lacking(_) | Carriers::Fitting => {}
    }
    let told = match (standing.route.map(acceptance), standing.outside) {
        (Some(Acceptance::Refused(why)), _) => format!("HTTPRoute {name} is refused: {why}"),
        // Each write of the route is a change that the edge has to accept anew.
        (Some(_), reply) if standing.is_open && reply != Some(Reply::Other) => return (Gate::Open, None),
        (Some(Acceptance::Accepted), None | Some(Reply::Challenge)) => return (Gate::Open, None),
        (Some(Acceptance::Accepted), Some(Reply::Other | Reply::Failure)) => format!(
            "the edge does not answer a request without a token with the challenge of the verifier; use a Gateway that \
             supports the filter ExternalAuth of HTTPRoute {name}"
        ),
        (Some(Acceptance::Accepted), Some(Reply::Silence)) => format!(
            "no probe reaches the edge of HTTPRoute {name}, and only its answer proves the filter ExternalAuth; let the \
             operator reach the host, or set probe.enabled: false"
        ),
        (Some(Acceptance::Accepted), Some(Reply::Unknown)) => "waiting for the first probe of the edge".into(),
        (Some(Acceptance::Awaited) | None, _) => format!("waiting until the edge accepts HTTPRoute {name}"),
    };
    (Gate::Shut, Some(told))
}

/// The gate of a guard at the Pods, by the answer of the Service.
fn asked(exposed: &Exposed, heard: Reply) -> Passage {
    let (namespace, name) = &exposed.instance;
    let service = &exposed.name;
    match heard {
        Reply::Challenge => (Gate::Open, None),
        Reply::Other => {
            let realm = realm(namespace, name);
            let told = format!(
                "Service {service} does not answer a request without a token with the challenge of the verifier \
                 (401, realm {realm}); let the Pods ask the verifier"
            );
            (Gate::Absent, Some(told))
        }
        Reply::Silence | Reply::Failure => (Gate::Hold, Some(format!("Service {service} does not answer the probe"))),
        Reply::Unknown => (Gate::Hold, Some(format!("waiting for the first probe of Service {service}"))),
    }
}

impl Gate {
    /// The form of the way in. `None` if it does not exist, or stays as it is.
    pub fn form(&self) -> Option<Form> {
        match self {
            Self::Open => Some(Form::Open),
            Self::Shut => Some(Form::Shut),
            Self::Absent | Self::Hold => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::{
        loose::{HttpRoute, Middleware, SecurityPolicy},
        tests::{exposed_of, instance},
    };
    use serde_json::{Value, json};

    fn guarded(guard: &str) -> Exposed {
        let mut endpoint = json!({"name": "admin", "host": "a.example.com", "gateway": {}, "guard": guard});
        if guard == "Istio" {
            endpoint["istio"] = json!({"provider": "p"});
        }
        exposed_of(&instance(json!({"service": {"name": "m"}, "endpoints": [endpoint]})))
    }

    fn policy(status: &str) -> Piece {
        let mut policy = SecurityPolicy::new(Default::default(), Value::Null);
        policy.status = json!({"ancestors": [{"conditions": [{"type": "Accepted", "status": status}]}]});
        policy.into()
    }

    fn route(status: &str) -> Piece {
        let mut route = HttpRoute::new(Default::default(), json!({"parentRefs": [{"name": "g"}]}));
        let conditions = json!([{"type": "Accepted", "status": status}]);
        route.status = json!({"parents": [{"parentRef": {"name": "g"}, "conditions": conditions}]});
        route.into()
    }

    fn of(guard: &str, standing: Existing<'_>) -> Gate {
        let (gate, told) = gate(&guarded(guard), &standing);
        let is_told = gate != Gate::Open && (guard, &gate) != ("Traefik", &Gate::Shut);
        assert_eq!(told.is_some(), is_told, "{told:?}");
        gate
    }

    const NOTHING: Existing<'_> = Existing {
        guard: None,
        is_current: false,
        is_open: false,
        fronts: true,
        inside: Reply::Unknown,
        route: None,
        outside: Some(Reply::Unknown),
        served: &Served::Fitting,
        carriers: &Carriers::Fitting,
    };

    #[test]
    fn an_ingress_of_another_controller_does_not_exist() {
        let middleware = Middleware::new(Default::default(), Value::Null).into();
        let (other, unknown) = (Served::Other("other".into()), Served::Unknown("unknown".into()));
        for (guard, is_open) in [("Nginx", false), ("Nginx", true), ("Traefik", false), ("Traefik", true)] {
            let route = route("True");
            let there =
                Existing { guard: Some(&middleware), is_current: true, is_open, route: Some(&route), ..NOTHING };
            assert_eq!(of(guard, there), Gate::Open);
            assert_eq!(of(guard, Existing { served: &other, ..there }), Gate::Absent);
            let kept = if is_open { Gate::Hold } else { Gate::Absent };
            assert_eq!(of(guard, Existing { served: &unknown, ..there }), kept, "{guard} {is_open}");
        }
    }

    #[test]
    fn a_guard_in_the_way_in_itself_needs_no_waiting() {
        for guard in ["Nginx", "None"] {
            assert_eq!(of(guard, NOTHING), Gate::Open);
        }
    }

    #[test]
    fn a_middleware_has_to_exist_before_the_way_in() {
        let middleware = Middleware::new(Default::default(), Value::Null).into();
        assert_eq!(of("Traefik", NOTHING), Gate::Hold);
        let there = Existing { guard: Some(&middleware), ..NOTHING };
        assert_eq!(of("Traefik", there), Gate::Hold, "an older one is changed first");
        assert_eq!(of("Traefik", Existing { is_open: true, ..there }), Gate::Open);
        let current = Existing { is_current: true, ..there };
        assert_eq!(of("Traefik", current), Gate::Shut, "no Gateway has accepted the route");
        for (status, gate) in [("Unknown", Gate::Shut), ("False", Gate::Shut), ("True", Gate::Open)] {
            let route = route(status);
            assert_eq!(of("Traefik", Existing { route: Some(&route), ..current }), gate, "{status}");
        }
        let endpoint = json!({"name": "admin", "host": "a.example.com", "ingress": {}, "guard": "Traefik"});
        let by_ingress = exposed_of(&instance(json!({"service": {"name": "m"}, "endpoints": [endpoint]})));
        assert_eq!(gate(&by_ingress, &current).0, Gate::Open);
    }

    #[test]
    fn a_way_in_has_no_backend_until_its_policy_is_accepted() {
        assert_eq!(of("EnvoyGateway", NOTHING), Gate::Shut);
        for (status, is_current, is_open, gate) in [
            ("True", true, false, Gate::Open),
            ("True", false, false, Gate::Shut),
            ("True", false, true, Gate::Open),
            ("Unknown", true, false, Gate::Shut),
            ("Unknown", true, true, Gate::Open),
            ("False", true, true, Gate::Shut),
        ] {
            let policy = policy(status);
            let standing = Existing { guard: Some(&policy), is_current, is_open, ..NOTHING };
            assert_eq!(of("EnvoyGateway", standing), gate, "{status} {is_current} {is_open}");
        }
    }

    #[test]
    fn a_gateway_that_does_not_know_the_policy_keeps_the_way_in_shut() {
        let mut exposed = guarded("EnvoyGateway");
        let gateway = exposed.endpoint.gateway.as_mut().unwrap();
        gateway.parent_refs = serde_json::from_value(json!([{"name": "g"}, {"name": "h"}])).unwrap();
        let known = |names: &[&str]| {
            let conditions = json!([{"type": "Accepted", "status": "True"}]);
            let report = |name| json!({"ancestorRef": {"name": name}, "conditions": conditions});
            let mut policy = SecurityPolicy::new(Default::default(), Value::Null);
            policy.status = json!({"ancestors": names.iter().map(report).collect::<Vec<_>>()});
            let policy = policy.into();
            let standing = Existing { guard: Some(&policy), is_current: true, is_open: true, ..NOTHING };
            gate(&exposed, &standing).0
        };
        assert_eq!([known(&["g"]), known(&["h"]), known(&["g", "h"])], [Gate::Shut, Gate::Shut, Gate::Open]);
    }

    #[test]
    fn a_filter_opens_once_its_route_is_accepted_and_the_edge_asks() {
        assert_eq!(of("ExternalAuth", NOTHING), Gate::Shut);
        for (status, outside, is_open, gate) in [
            ("True", Some(Reply::Unknown), false, Gate::Shut),
            ("True", Some(Reply::Unknown), true, Gate::Open),
            ("Unknown", Some(Reply::Silence), true, Gate::Open),
            ("True", Some(Reply::Failure), false, Gate::Shut),
            ("True", Some(Reply::Failure), true, Gate::Open),
            ("True", Some(Reply::Other), true, Gate::Shut),
            ("True", Some(Reply::Challenge), false, Gate::Open),
            ("True", Some(Reply::Silence), false, Gate::Shut),
            ("True", Some(Reply::Silence), true, Gate::Open),
            ("True", None, false, Gate::Open),
            ("Unknown", Some(Reply::Challenge), false, Gate::Shut),
            ("Unknown", Some(Reply::Challenge), true, Gate::Open),
            ("False", Some(Reply::Challenge), true, Gate::Shut),
        ] {
            let route = route(status);
            let standing = Existing { route: Some(&route), outside, is_open, ..NOTHING };
            assert_eq!(of("ExternalAuth", standing), gate, "{status} {outside:?} {is_open}");
        }
    }

    #[test]
    fn a_gateway_whose_class_does_not_list_the_filter_needs_the_proof_of_a_probe() {
        let (route, lacking) = (route("True"), Carriers::Lacking("GatewayClass c".into()));
        let standing = Existing { route: Some(&route), carriers: &lacking, ..NOTHING };
        let by = |parents: Value| {
            let mut exposed = guarded("ExternalAuth");
            exposed.endpoint.gateway.as_mut().unwrap().parent_refs = serde_json::from_value(parents).unwrap();
            exposed
        };
        let one = by(json!([{"name": "g", "sectionName": "s"}, {"name": "g", "sectionName": "t"}]));
        for (outside, is_open, wanted) in [
            (None, false, Gate::Shut),
            (Some(Reply::Silence), false, Gate::Shut),
            (Some(Reply::Challenge), false, Gate::Open),
            (None, true, Gate::Open),
        ] {
            let (gate, told) = gate(&one, &Existing { outside, is_open, ..standing });
            assert_eq!(gate, wanted, "{outside:?} {is_open}");
            assert!(told.is_none_or(|told| told == "GatewayClass c"));
        }
        let two = by(json!([{"name": "g"}, {"name": "h"}]));
        let challenged = Existing { outside: Some(Reply::Challenge), ..standing };
        assert_eq!(gate(&two, &challenged).0, Gate::Shut, "the probe proves one Gateway");
    }

    #[test]
    fn a_guard_at_the_pods_opens_by_the_challenge_and_closes_by_another_answer() {
        for (inside, gate) in [
            (Reply::Challenge, Gate::Open),
            (Reply::Other, Gate::Absent),
            (Reply::Silence, Gate::Hold),
            (Reply::Failure, Gate::Hold),
            (Reply::Unknown, Gate::Hold),
        ] {
            assert_eq!(of("Backend", Existing { inside, ..NOTHING }), gate);
        }
        assert_eq!(of("Istio", Existing { inside: Reply::Challenge, ..NOTHING }), Gate::Hold, "the policy comes first");
        let moved = Existing { inside: Reply::Challenge, fronts: false, ..NOTHING };
        assert_eq!(of("Backend", moved), Gate::Absent, "the answer is that of other Pods");
    }
}
