//! Checks of an endpoint. The spec and the settings of the cluster decide some, and other objects decide the rest.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderName, HeaderValue};
use k8s_openapi::{
    api::{core::v1::Service, networking::v1::NetworkPolicy},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Exposed, ExposureConfig, VerifierService, annotations, asked_headers, asks, ingress, network_policy};
use crate::{
    access::header::{IDENTITY, METHODS, MOUNTS, OVERRIDES, REWRITES, folds_to},
    crd::{
        Fault, Instance, Reason,
        endpoint::{
            AdmittedFrom, Endpoint, Guard, HEADER_VALUE, HeaderFilter, HeaderFilterType, NetworkPolicyTemplate,
            OtherPorts, Termination, WayIn,
        },
        instance::Scheme,
    },
};

/// Headers of a connection or of the length of a message. The next hop reads a message by them.
const FRAMING: [&str; 5] = ["connection", "content-length", "te", "transfer-encoding", "upgrade"];
/// The header of the verifier's challenge, by which the probe recognises the guard.
const CHALLENGE: &str = "www-authenticate";
const NETWORK_POLICY: &str = "spec.manager.networkPolicy";

/// The faults of an endpoint that the spec and the settings of the cluster decide. `path` is the path of the endpoint.
pub fn faults(
    instance: &Instance,
    endpoint: &Endpoint,
    way: Option<WayIn>,
    config: &ExposureConfig,
    path: &str,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let guard = endpoint.guarding().unwrap_or(Guard::None);
    if asks(guard) && config.verifier.as_ref().and_then(VerifierService::first).is_none() {
        let message = format!(
            "{} needs an address of the verifier that guards can ask, and the operator has none; leave \
             exposure.askByHttps of the chart at auto, or give verifier in --exposure of the operator",
            guard.as_str()
        );
        faults.push(Fault::invalid(format!("{path}.guard"), message));
    }
    let is_probed = endpoint.probe.as_ref().and_then(|probe| probe.enabled) != Some(false);
    if guard.is_at_pods() && !is_probed {
        let message =
            format!("must not be false: the way in of the guard {} exists by the probe alone", guard.as_str());
        faults.push(Fault::invalid(format!("{path}.probe.enabled"), message));
    }
    if endpoint.host.as_ref().is_some_and(|host| host.as_str().parse::<IpAddr>().is_ok()) {
        faults.push(Fault::invalid(format!("{path}.host"), "is an IP address; give a DNS name"));
    }
    match way {
        Some(WayIn::Gateway) => routed(instance, endpoint, config, path, &mut faults),
        Some(WayIn::Ingress) => annotated(endpoint, config, path, &mut faults),
        Some(WayIn::Route) => terminated(instance, endpoint, path, &mut faults),
        None => {}
    }
    let manager = instance.spec.manager.as_ref();
    admitted(&manager.and_then(|it| it.network_policy.clone()).unwrap_or_default(), endpoint, config, &mut faults);
    faults
}

/// Checks the Gateways and the filters of an HTTPRoute.
fn routed(instance: &Instance, endpoint: &Endpoint, config: &ExposureConfig, path: &str, faults: &mut Vec<Fault>) {
    let gateway = endpoint.gateway.clone().unwrap_or_default();
    if gateway.parent_refs.is_empty() && config.gateway.is_empty() {
        let message = "is needed: name a Gateway; or set exposure.gateway in the chart's values";
        faults.push(Fault::invalid(format!("{path}.gateway.parentRefs"), message));
    }
    let asked = asked_headers(instance);
    for (index, filter) in gateway.filters.iter().enumerate() {
        let at = format!("{path}.gateway.filters[{index}]");
        if gateway.filters[..index].iter().any(|earlier| earlier.type_ == filter.type_) {
            faults.push(Fault::invalid(at.clone(), "is a second filter of its type; put all changes into one"));
        }
        faults.extend(
            changes(filter)
                .filter_map(|change| refused(&change, filter.type_, &asked))
                .map(|message| Fault::invalid(at.clone(), message)),
        );
    }
}

/// A header that a filter changes, with its value. A header that is removed has none.
type Change<'a> = (&'a str, Option<&'a str>);

fn changes(filter: &HeaderFilter) -> impl Iterator<Item = Change<'_>> {
    let given = filter.set.iter().chain(&filter.add).map(|(name, value)| (&**name, Some(&**value)));
    given.chain(filter.remove.iter().map(|name| (&**name, None)))
}

/// The reason why a filter must not make this change. `None` if it may.
fn refused((name, value): &Change<'_>, side: HeaderFilterType, asked: &[String]) -> Option<String> {
    let shown: String = name.chars().take(64).collect();
    if HeaderName::from_bytes(name.as_bytes()).is_err() || name.len() > 256 {
        return Some(format!("{shown} is not the name of a header"));
    }
    let is_value =
        |value: &str| !value.is_empty() && value.len() <= HEADER_VALUE && HeaderValue::from_str(value).is_ok();
    if value.is_some_and(|value| !is_value(value)) {
        return Some(format!("the value of {shown} must have 1 to {HEADER_VALUE} printable characters"));
    }
    let is_one_of = |names: &[&str]| names.iter().any(|one| folds_to(name, one));
    match side {
        _ if is_one_of(&FRAMING) => Some(format!("{shown} concerns the connection; a filter must not change it")),
        HeaderFilterType::ResponseHeaderModifier if is_one_of(&[CHALLENGE]) => {
            Some(format!("{shown} carries the challenge of the verifier; a filter must not change it"))
        }
        HeaderFilterType::ResponseHeaderModifier => None,
        HeaderFilterType::RequestHeaderModifier if IDENTITY.iter().any(|one| folds_to(name, one.as_str())) => {
            Some(format!("{shown} can name the caller to the API; only the guard may set it"))
        }
        // Without such a header, an API reads the method and the target of the request itself.
        HeaderFilterType::RequestHeaderModifier
            if value.is_none() && [&OVERRIDES[..], &REWRITES, &METHODS, &MOUNTS].into_iter().any(is_one_of) =>
        {
            None
        }
        HeaderFilterType::RequestHeaderModifier if asked.iter().any(|one| folds_to(name, one)) => {
            Some(format!("{shown} counts in the verdict of the verifier; a filter must not change it"))
        }
        HeaderFilterType::RequestHeaderModifier => None,
    }
}

/// Checks the annotations of an Ingress.
fn annotated(endpoint: &Endpoint, config: &ExposureConfig, path: &str, faults: &mut Vec<Fault>) {
    let at = match endpoint.ingress {
        Some(_) => format!("{path}.ingress.annotations"),
        None => "exposure.ingress.annotations of the chart".to_owned(),
    };
    let template = ingress::template(endpoint, config);
    let refused = template.annotations.keys().filter_map(|key| Some((key, annotations::refused(key)?)));
    faults.extend(refused.map(|(key, why)| Fault::invalid(at.clone(), format!("{key}: {why}"))));
}

/// Checks that a Route and the Service speak the same protocol.
fn terminated(instance: &Instance, endpoint: &Endpoint, path: &str, faults: &mut Vec<Fault>) {
    let given = endpoint.route.as_ref().and_then(|route| route.termination);
    let Some((termination, service)) = given.zip(instance.manager_service()) else { return };
    let behind = match termination {
        Termination::Edge => Scheme::Http,
        Termination::Reencrypt | Termination::Passthrough => Scheme::Https,
    };
    if behind != service.scheme {
        let message = format!(
            "{} means {} behind the router, but spec.manager.service.scheme is {}; change one of them",
            termination.as_str(),
            behind.as_str(),
            service.scheme.as_str()
        );
        faults.push(Fault::invalid(format!("{path}.route.termination"), message));
    }
}

/// Checks the callers that the NetworkPolicy admits.
fn admitted(network: &NetworkPolicyTemplate, endpoint: &Endpoint, config: &ExposureConfig, faults: &mut Vec<Fault>) {
    if network_policy::from(network, endpoint.reach(), config) != AdmittedFrom::Proxies {
        return;
    }
    if network_policy::proxies(network, config).is_empty() {
        let message = "is needed for from: Proxies: give the Pods of the proxies; or set exposure.proxies in the \
            chart's values";
        faults.push(Fault::new(Reason::ProxiesUnknown, format!("{NETWORK_POLICY}.proxies"), message));
    }
    if let Some(guard) = endpoint.guarding().filter(|guard| guard.is_at_pods()) {
        let message = format!(
            "Proxies keeps out the operator, whose probe the guard {} needs; give Cluster or None",
            guard.as_str()
        );
        faults.push(Fault::invalid(format!("{NETWORK_POLICY}.from"), message));
    }
}

/// Checks an endpoint against the Service that serves the Admin API, and against the NetworkPolicies of others in the
/// namespace.
///
/// # Errors
/// A fault that names the field to change.
pub fn fitting(exposed: Exposed, manager: &Service, others: &[Arc<NetworkPolicy>]) -> Result<Exposed, Fault> {
    let is_number = matches!(exposed.target_port, IntOrString::Int(_));
    if exposed.guard() == Guard::Istio && !is_number {
        let message = format!(
            "port {} of the Service leads to a port by name, and the guard Istio needs its number; give the number in \
             the targetPort of the Service",
            exposed.port
        );
        return Err(Fault::new(Reason::ServiceUnusable, "spec.manager.service", message));
    }
    let network = &exposed.network;
    if network_policy::from(network, exposed.endpoint.reach(), &exposed.config) == AdmittedFrom::None {
        return Ok(exposed);
    }
    match network.other_ports {
        Some(OtherPorts::Open) if !is_number => {
            let message = "Open needs the number of the API's port, and the Service leads to a port by name; give the \
                number in the targetPort of the Service, or set Closed";
            Err(Fault::invalid(format!("{NETWORK_POLICY}.otherPorts"), message))
        }
        Some(OtherPorts::Open | OtherPorts::Closed) => Ok(exposed),
        None => match unclear(&exposed, manager, others) {
            None => Ok(exposed),
            Some(why) => {
                let message = format!("is needed: {why}; set Open or Closed, or networkPolicy.from: None");
                Err(Fault::invalid(format!("{NETWORK_POLICY}.otherPorts"), message))
            }
        },
    }
}

/// The reason why a NetworkPolicy for one port can cut callers of others. `None` if nothing shows other ports.
fn unclear(exposed: &Exposed, manager: &Service, others: &[Arc<NetworkPolicy>]) -> Option<String> {
    let ports = manager.spec.as_ref().and_then(|spec| spec.ports.as_ref()).map_or(0, Vec::len);
    if ports > 1 {
        return Some("the Service has more ports than that of the API".into());
    }
    let other = others.iter().find(|policy| network_policy::limits(policy, &exposed.selector))?;
    let name = other.metadata.name.as_deref().unwrap_or_default();
    Some(format!("NetworkPolicy {name} selects the Pods too"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::tests::{config, instance};
    use serde_json::json;

    #[test]
    fn a_guard_that_opens_by_the_probe_needs_it() {
        let paths = |guard: &str, enabled: bool| {
            let endpoint = json!({
                "name": "admin", "host": "a.example.com", "ingress": {"className": "c"}, "guard": guard,
                "probe": {"enabled": enabled},
            });
            let instance = instance(json!({"service": {"name": "m"}, "endpoints": [endpoint]}));
            let endpoint = instance.endpoints().next().unwrap();
            let faults = faults(&instance, endpoint, endpoint.way_in(), &config(), "e");
            faults.into_iter().map(|fault| fault.path.into_owned()).collect::<Vec<_>>()
        };
        for guard in ["Backend", "Istio"] {
            assert_eq!(paths(guard, false), ["e.probe.enabled"]);
            assert!(paths(guard, true).is_empty());
        }
        assert!(paths("Traefik", false).is_empty());
    }
}
