//! The probes of an endpoint: requests without a token, which must be answered by the challenge of the verifier.

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Service;

use crate::{
    crd::{
        Fault, Instance,
        endpoint::{Endpoint, EndpointType},
        fault::parsed,
        guarding::realm,
        instance::Scheme,
    },
    exposure::gate::Reply,
    outside::prober::{ProbeAnswer, ProbeReach, ProbeTarget, Probed},
    token::Digest,
};

/// The default interval between two probes.
const INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// The shortest interval.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(10);
/// The default timeout of a probe.
const TIMEOUT: SignedDuration = SignedDuration::from_secs(5);
/// The longest timeout.
const MAX_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);

/// The targets of an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// The Service.
    pub inside: Option<ProbeTarget>,
    /// The published URI.
    pub outside: Option<ProbeTarget>,
}

impl Targets {
    /// All targets.
    pub fn all(&self) -> Vec<ProbeTarget> {
        [&self.inside, &self.outside].into_iter().flatten().cloned().collect()
    }
}

/// The targets of `endpoint`, whose own Service is `service`. `published` is the scheme and the DNS name for clients
/// outside the cluster. None if the spec switches the probe off.
pub(super) fn targets(
    instance: &Instance,
    endpoint: &Endpoint,
    service: &Service,
    published: Option<(Scheme, String)>,
) -> Targets {
    let settings = endpoint.probe.clone().unwrap_or_default();
    let manager = instance.manager_service().filter(|_| settings.enabled != Some(false));
    let (Some(manager), true) = (manager, endpoint.reach() != EndpointType::Disabled) else {
        return Targets::default();
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, name) = (text(&instance.metadata.namespace), text(&instance.metadata.name));
    let (interval, timeout) = timing(endpoint, &mut Vec::new());
    let trust = instance.status.as_ref().and_then(|status| status.trust(endpoint.name));
    let ca: Option<Arc<str>> = trust.map(|trust| trust.ca_bundle.as_str().into());
    let target = |reach, scheme, host: String, port| ProbeTarget {
        reach,
        scheme,
        host,
        port,
        realm: realm(&namespace, &name),
        about: String::new(),
        interval,
        timeout,
        ca: ca.clone(),
    };
    let port = |port: i32| u16::try_from(port).unwrap_or_default();
    let host = instance.exposed_host(endpoint.name);
    let spec = serde_json::to_vec(&service.spec).unwrap_or_default();
    let about = Digest::of(spec).to_string();
    let inside = target(ProbeReach::Inside, manager.scheme, host, port(manager.port));
    let inside = ProbeTarget { about, ..inside };
    let published = published.filter(|_| endpoint.reach() == EndpointType::External);
    let outside =
        published.map(|(scheme, host)| target(ProbeReach::Published, scheme, host, port(scheme.default_port())));
    Targets { inside: Some(inside), outside }
}

/// The interval and the timeout of the probes of `endpoint`.
pub(super) fn timing(endpoint: &Endpoint, faults: &mut Vec<Fault>) -> (SignedDuration, SignedDuration) {
    let settings = endpoint.probe.clone().unwrap_or_default();
    let path = |field: &str| format!("spec.manager.endpoints[{}].probe.{field}", endpoint.name.as_str());
    let interval = parsed(settings.interval.as_ref(), path("interval"), faults).unwrap_or(INTERVAL);
    let timeout = parsed(settings.timeout.as_ref(), path("timeout"), faults).unwrap_or(TIMEOUT);
    if interval < MIN_INTERVAL {
        faults.push(Fault::invalid(path("interval"), "must be at least 10s"));
    }
    if timeout > MAX_TIMEOUT {
        faults.push(Fault::invalid(path("timeout"), "must be at most 30s"));
    }
    (interval.max(MIN_INTERVAL), timeout.min(MAX_TIMEOUT))
}

/// The meaning of the last answer of a target.
pub(super) fn heard(probed: Option<&Probed>) -> Reply {
    match probed.map(|probed| probed.answer) {
        None => Reply::Unknown,
        Some(ProbeAnswer::Challenge) => Reply::Challenge,
        Some(ProbeAnswer::Status(code)) if code >= 500 => Reply::Failure,
        Some(ProbeAnswer::Status(_)) => Reply::Other,
        Some(
            ProbeAnswer::Dns | ProbeAnswer::Barred | ProbeAnswer::Connect | ProbeAnswer::Tls | ProbeAnswer::Silent,
        ) => Reply::Silence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::tests::instance;
    use serde_json::{Value, json};

    fn of(endpoint: Value) -> Vec<String> {
        let instance = instance(json!({"service": {"name": "m", "port": 8443}, "endpoints": [endpoint]}));
        let endpoint = instance.all_endpoints().next().unwrap();
        let published = endpoint.host.as_ref().map(|host| (Scheme::Https, host.to_string()));
        let all = targets(&instance, endpoint, &Service::default(), published).all().into_iter();
        all.map(|target| format!("{}://{}:{} {}", target.scheme.as_str(), target.host, target.port, target.realm))
            .collect()
    }

    #[test]
    fn the_service_and_the_published_uri_are_probed() {
        let inside = "https://eem-admin.events.svc:8443 tokenry/events/eem";
        assert_eq!(of(json!({"name": "admin", "type": "internal"})), [inside]);
        let external = json!({"name": "admin", "host": "a.example.com", "gateway": {}});
        assert_eq!(of(external), [inside, "https://a.example.com:443 tokenry/events/eem"]);
        assert!(of(json!({"name": "admin", "type": "disabled"})).is_empty());
        assert!(of(json!({"name": "admin", "type": "internal", "probe": {"enabled": false}})).is_empty());
    }

    #[test]
    fn times_out_of_bounds_are_faults() {
        let faults = |probe: Value| {
            let endpoint = serde_json::from_value(json!({"name": "admin", "probe": probe})).unwrap();
            let mut faults = Vec::new();
            timing(&endpoint, &mut faults);
            faults.into_iter().map(|fault| fault.path.into_owned()).collect::<Vec<_>>()
        };
        let path = "spec.manager.endpoints[admin].probe";
        assert!(faults(json!({})).is_empty());
        assert_eq!(faults(json!({"interval": "1s"})), [format!("{path}.interval")]);
        assert_eq!(faults(json!({"timeout": "1m"})), [format!("{path}.timeout")]);
    }
}
