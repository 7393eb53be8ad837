//! The NetworkPolicy in front of the Pods: it limits the callers of the API's port.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};
use kube::core::{Selector, SelectorExt};

use super::{Exposed, ExposureConfig, PieceKind};
use crate::crd::endpoint::{AdmittedFrom, EndpointType, NetworkPolicyTemplate, OtherPorts, PodPeer};

/// The label of each namespace with its name.
const NAMESPACE: &str = "kubernetes.io/metadata.name";
const LAST: i32 = 65_535;

/// The NetworkPolicy of `exposed`. `None` if the spec asks for none.
pub(crate) fn build(exposed: &Exposed) -> Option<NetworkPolicy> {
    let peers = peers(exposed)?;
    let ours = NetworkPolicyPort {
        port: Some(exposed.target_port.clone()),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    };
    let to_ours = NetworkPolicyIngressRule { from: Some(peers), ports: Some(vec![ours]) };
    let to_others = match exposed.network.other_ports {
        Some(OtherPorts::Open) => Some(others(&exposed.target_port)?),
        Some(OtherPorts::Closed) | None => None,
    };
    let to_others = to_others.map(|ports| NetworkPolicyIngressRule { from: None, ports: Some(ports) });
    let spec = NetworkPolicySpec {
        pod_selector: Some(LabelSelector { match_labels: Some(exposed.selector.clone()), ..LabelSelector::default() }),
        policy_types: Some(vec!["Ingress".into()]),
        ingress: Some([to_ours].into_iter().chain(to_others).collect()),
        ..NetworkPolicySpec::default()
    };
    Some(NetworkPolicy { metadata: super::named(exposed), spec: Some(spec) })
}

/// The callers that the spec admits. `AdmittedFrom::None` without a value for an endpoint that is not internal, and
/// where the operator makes no NetworkPolicy.
pub(crate) fn from(template: &NetworkPolicyTemplate, reach: EndpointType, config: &ExposureConfig) -> AdmittedFrom {
    let is_usual = reach == EndpointType::Internal && config.kinds.contains(&PieceKind::NetworkPolicy);
    template.from.unwrap_or(if is_usual { AdmittedFrom::Cluster } else { AdmittedFrom::None })
}

/// The proxies of the spec, or else those of the cluster.
pub(crate) fn proxies<'a>(template: &'a NetworkPolicyTemplate, config: &'a ExposureConfig) -> &'a [PodPeer] {
    if template.proxies.is_empty() { &config.proxies } else { &template.proxies }
}

/// True if `policy` limits the callers of Pods that have the labels of `selector`.
pub(crate) fn limits(policy: &NetworkPolicy, selector: &BTreeMap<String, String>) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let is_for_callers = spec.policy_types.as_ref().is_none_or(|types| types.iter().any(|type_| type_ == "Ingress"));
    let selected = Selector::try_from(spec.pod_selector.clone().unwrap_or_default());
    is_for_callers && selected.is_ok_and(|selected| selected.matches(selector))
}

/// The admitted callers. An empty list would admit all, so there is no policy then.
fn peers(exposed: &Exposed) -> Option<Vec<NetworkPolicyPeer>> {
    let (network, config) = (&exposed.network, &exposed.config);
    let peers = match from(network, exposed.endpoint.reach(), config) {
        AdmittedFrom::None => return None,
        AdmittedFrom::Proxies => proxies(network, config).iter().map(peer).collect(),
        AdmittedFrom::Cluster if network.namespaces.is_empty() => vec![NetworkPolicyPeer {
            namespace_selector: Some(LabelSelector::default()),
            ..NetworkPolicyPeer::default()
        }],
        AdmittedFrom::Cluster => [among(exposed)].into_iter().chain(config.operator.iter().map(peer)).collect(),
    };
    Some(peers).filter(|peers: &Vec<_>| !peers.is_empty())
}

/// All Pods of the namespaces in the spec.
fn among(exposed: &Exposed) -> NetworkPolicyPeer {
    let names = exposed.network.namespaces.iter().map(ToString::to_string).collect();
    let one = LabelSelectorRequirement { key: NAMESPACE.into(), operator: "In".into(), values: Some(names) };
    let namespace_selector = LabelSelector { match_expressions: Some(vec![one]), ..LabelSelector::default() };
    NetworkPolicyPeer { namespace_selector: Some(namespace_selector), ..NetworkPolicyPeer::default() }
}

/// A peer needs a selector.
fn peer(pods: &PodPeer) -> NetworkPolicyPeer {
    let PodPeer { namespace_selector, pod_selector } = pods.clone();
    let all = namespace_selector.is_none().then(LabelSelector::default);
    NetworkPolicyPeer { namespace_selector, pod_selector: pod_selector.or(all), ip_block: None }
}

/// All ports except `port`. `None` for a port that is given by name, because a policy can only list ports.
fn others(port: &IntOrString) -> Option<Vec<NetworkPolicyPort>> {
    let IntOrString::Int(port) = *port else { return None };
    let of = |protocol: &str, range: Option<(i32, i32)>| NetworkPolicyPort {
        protocol: Some(protocol.into()),
        port: range.map(|(first, _)| IntOrString::Int(first)),
        end_port: range.map(|(_, last)| last),
    };
    let ranges = [(1, port - 1), (port + 1, LAST)].into_iter().filter(|(first, last)| first <= last);
    let tcp = ranges.map(|range| of("TCP", Some(range)));
    Some(tcp.chain(["UDP", "SCTP"].map(|protocol| of(protocol, None))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn all_other_ports_are_all_but_one() {
        let tcp = |port| {
            let all = others(&IntOrString::Int(port)).unwrap().into_iter();
            let tcp = all.filter(|one| one.protocol.as_deref() == Some("TCP"));
            tcp.map(|one| (one.port.unwrap(), one.end_port.unwrap())).collect::<Vec<_>>()
        };
        let range = |first, last| (IntOrString::Int(first), last);
        assert_eq!(tcp(443), [range(1, 442), range(444, 65_535)]);
        assert_eq!(tcp(1), [range(2, 65_535)]);
        assert_eq!(tcp(65_535), [range(1, 65_534)]);
        assert_eq!(others(&IntOrString::String("api".into())), None);
    }

    #[test]
    fn another_policy_counts_if_it_limits_callers_of_the_pods() {
        let selector = [("app".to_owned(), "eem".to_owned())].into();
        let of = |spec: Value| limits(&serde_json::from_value(json!({ "spec": spec })).unwrap(), &selector);
        for counts in [
            json!({"podSelector": {}}),
            json!({"podSelector": {"matchLabels": {"app": "eem"}}, "policyTypes": ["Egress", "Ingress"]}),
            json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}),
        ] {
            assert!(of(counts.clone()), "{counts}");
        }
        for other in [
            json!({"podSelector": {}, "policyTypes": ["Egress"]}),
            json!({"podSelector": {"matchLabels": {"app": "other"}}}),
            json!({"podSelector": {"matchLabels": {"tier": "db"}}}),
        ] {
            assert!(!of(other.clone()), "{other}");
        }
    }
}
