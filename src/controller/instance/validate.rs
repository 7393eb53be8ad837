//! Checks the spec of an Instance.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use kube::core::Selector;

use super::{observe::World, probes};
use crate::{
    access::{MAX_LIFETIME, MAX_OVERLAP},
    controller::kind::Checked,
    crd::{
        Fault, Reason,
        fault::parsed,
        instance::{
            Ceiling, Endpoint, EndpointName, EndpointType, Grants, Guard, InstanceSpec, Lifetime, ManagerService,
            NamespacesFrom, Permission, WayIn,
        },
        window::windows,
    },
    exposure::{self, Exposed, checks},
    token::{
        TermsPolicy,
        duration::{Duration, written},
        format,
    },
};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// The lifetime of a generation if neither the token nor the Instance gives one.
const DEFAULT_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The default of `tokens.rotation.min`.
const MIN_ROTATION: SignedDuration = SignedDuration::from_mins(1);

/// The checked terms of an Instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceTerms {
    /// The endpoints, without disabled ones. Each is ready to be built, or it waits for another object, which is no
    /// fault of the spec.
    pub endpoints: BTreeMap<EndpointName, Result<Exposed, Fault>>,
}

impl InstanceTerms {
    /// The missing objects of the endpoints, as faults.
    pub fn missing(&self) -> impl Iterator<Item = &Fault> {
        self.endpoints.values().filter_map(|endpoint| endpoint.as_ref().err())
    }
}

/// The checked terms, or all faults of the spec.
pub(crate) fn validate(world: &World) -> Checked<InstanceTerms> {
    let mut faults = policy(&world.instance.spec).err().unwrap_or_default();
    faults.extend_from_slice(world.instance.faults());
    granting(&world.instance.spec, &mut faults);
    let manager = world.instance.manager_service();
    for endpoint in world.instance.endpoints() {
        reached(endpoint, world, &mut faults);
        faults.extend(checks::faults(
            &world.instance,
            endpoint,
            world.way(endpoint),
            &world.config,
            &path(endpoint, ""),
        ));
        served(manager, &world.instance.exposed_name(endpoint.name), &mut faults);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let exposed = |endpoint: &Endpoint| {
        let (manager, service) = (manager?, world.manager.as_deref());
        let exposed =
            exposure::exposed(&world.instance, endpoint, manager, service, (world.way(endpoint), &world.config));
        let fitting = |exposed| match service {
            Some(service) => checks::fitting(exposed, service, &world.network_policies),
            None => Ok(exposed),
        };
        Some((endpoint.name, exposed.and_then(fitting)))
    };
    Ok(InstanceTerms { endpoints: world.instance.endpoints().filter_map(exposed).collect() })
}

/// Checks that grants follow from members only where members limit tokens.
fn granting(spec: &InstanceSpec, faults: &mut Vec<Fault>) {
    if spec.grants == Some(Grants::Members) && spec.ceiling != Ceiling::Members {
        let message = "Members is allowed with ceiling: Members only; set the ceiling, or leave grants out";
        faults.push(Fault::invalid("spec.grants", message));
    }
}

/// Checks that an external endpoint has a way in with a host and a guard, and that an internal one has none of them.
fn reached(endpoint: &Endpoint, world: &World, faults: &mut Vec<Fault>) {
    probes::timing(endpoint, faults);
    if let Some(holder) = &world.holder {
        let message = format!("is the host of Instance {holder}; give another one, or remove it there");
        faults.push(Fault::new(Reason::HostTaken, path(endpoint, ".host"), message));
    }
    match endpoint.reach() {
        EndpointType::External => led_to(endpoint, world.way(endpoint), faults),
        EndpointType::Internal => {
            let is_led_to = WayIn::ALL.into_iter().any(|way| endpoint.asks_for(way));
            if endpoint.host.is_some() || is_led_to {
                let message = "an internal endpoint has neither host, gateway, ingress nor route: remove them";
                faults.push(Fault::invalid(path(endpoint, ""), message));
            }
        }
        EndpointType::Disabled => {}
    }
}

/// Checks the way in, the host and the guard of an external endpoint.
fn led_to(endpoint: &Endpoint, way: Option<WayIn>, faults: &mut Vec<Fault>) {
    let mut fault = |field: &str, message: String| faults.push(Fault::invalid(path(endpoint, field), message));
    let Some(way) = way else {
        let message = "is needed for an external endpoint: give gateway, ingress or route; or set exposure.gateway or \
            exposure.ingress in the chart";
        return fault(".gateway", message.into());
    };
    if endpoint.host.is_none() && way != WayIn::Route {
        fault(".host", "is needed: the DNS name that an external endpoint is reached by".into());
    }
    match endpoint.guard {
        None | Some(Guard::None) if !endpoint.allow_unguarded => fault(
            ".guard",
            "is needed: the part of the edge that asks the verifier; or set allowUnguarded: true".into(),
        ),
        Some(guard) if !guard.fits(way) => {
            fault(".guard", format!("{} cannot guard the way in {}", guard.as_str(), way.field()));
        }
        Some(_) | None => {}
    }
}

/// The path of a field of an endpoint.
fn path(endpoint: &Endpoint, field: &str) -> String {
    format!("spec.manager.endpoints[{}]{field}", endpoint.name.as_str())
}

/// Checks that the spec names a Service for the Admin API, and that its name differs from `exposed`, the endpoint's
/// own.
fn served(manager: Option<&ManagerService>, exposed: &str, faults: &mut Vec<Fault>) {
    const PATH: &str = "spec.manager.service";
    match manager {
        None => faults.push(Fault::invalid(PATH, "is needed: name the Service that serves the Admin API")),
        Some(manager) if manager.name.as_str() == exposed => {
            let message =
                format!("{exposed} is the name of the endpoint's own Service; rename the Instance or that Service");
            faults.push(Fault::invalid(PATH, message));
        }
        Some(_) => {}
    }
}

fn lifetime(spec: &InstanceSpec) -> Lifetime {
    spec.tokens.lifetime.clone().unwrap_or_default()
}

/// The time after which an ended token is deleted; none: never.
pub fn forget_after(spec: &InstanceSpec) -> Option<SignedDuration> {
    spec.tokens.forget_after.as_ref()?.parse().ok()
}

/// The policy for all tokens of an Instance, with defaults for the fields that the spec leaves out.
pub fn policy(spec: &InstanceSpec) -> Checked<TermsPolicy> {
    let mut faults = Vec::new();
    let tokens = &spec.tokens;
    let lifetime = lifetime(spec);
    let overlap = tokens.overlap.clone().unwrap_or_default();
    let (default_lifetime, max_lifetime) = within(
        lifetime.default,
        lifetime.max,
        (DEFAULT_LIFETIME, MAX_LIFETIME),
        ("spec.tokens.lifetime.default", "spec.tokens.lifetime.max"),
        &mut faults,
    );
    let (default_overlap, max_overlap) = within(
        overlap.default,
        overlap.max,
        (DAY, MAX_OVERLAP),
        ("spec.tokens.overlap.default", "spec.tokens.overlap.max"),
        &mut faults,
    );
    let prefix = tokens.prefix.clone().unwrap_or_else(|| "tkn".into());
    if !format::is_prefix(&prefix) {
        faults.push(Fault::invalid(
            "spec.tokens.prefix",
            "must be a lower-case letter, then up to 15 lower-case letters or digits, such as shop",
        ));
    }
    let windows = windows(&tokens.windows, "spec.tokens.windows", &mut faults);
    parsed(tokens.forget_after.as_ref(), "spec.tokens.forgetAfter", &mut faults);
    let min = tokens.rotation.as_ref().and_then(|rotation| rotation.min.as_ref());
    let min_rotation = parsed(min, "spec.tokens.rotation.min", &mut faults).unwrap_or(MIN_ROTATION);
    let selector = tokens.namespaces.selector.clone();
    if tokens.namespaces.from == NamespacesFrom::Selector
        && selector.is_none_or(|selector| Selector::try_from(selector).is_err())
    {
        faults.push(Fault::invalid(
            "spec.tokens.namespaces.selector",
            "is not a label selector; give matchLabels or matchExpressions",
        ));
    }
    if faults.is_empty() {
        let (never, require_description) = (lifetime.never == Permission::Allow, tokens.require_description);
        Ok(TermsPolicy {
            prefix,
            default_lifetime,
            max_lifetime,
            never,
            default_overlap,
            max_overlap,
            windows: vec![windows],
            min_rotation,
            require_description,
        })
    } else {
        Err(faults)
    }
}

/// A default and a maximum. `usual` replaces fields that the spec leaves out. The usual default never exceeds a maximum
/// in the spec.
fn within(
    default: Option<Duration>,
    max: Option<Duration>,
    usual: (SignedDuration, SignedDuration),
    paths: (&'static str, &'static str),
    faults: &mut Vec<Fault>,
) -> (SignedDuration, SignedDuration) {
    let max = parsed(max.as_ref(), paths.1, faults).unwrap_or(usual.1);
    let Some(default) = parsed(default.as_ref(), paths.0, faults) else {
        return (usual.0.min(max), max);
    };
    if default > max {
        faults.push(Fault::invalid(paths.0, format!("must not be longer than the maximum, {}", written(max))));
    }
    (default, max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(tokens: Value) -> Checked<TermsPolicy> {
        policy(&serde_json::from_value(json!({ "tokens": tokens })).unwrap())
    }

    fn paths(tokens: Value) -> Vec<String> {
        of(tokens).unwrap_err().into_iter().map(|fault| fault.path.into_owned()).collect()
    }

    #[test]
    fn left_out_it_is_as_documented() {
        let hours = SignedDuration::from_hours;
        let policy = of(json!({})).unwrap();
        assert_eq!((policy.default_lifetime, policy.max_lifetime), (hours(90 * 24), hours(365 * 24)));
        assert_eq!((policy.default_overlap, policy.max_overlap), (hours(24), hours(7 * 24)));
        assert_eq!(policy.prefix, "tkn");
    }

    #[test]
    fn a_default_of_ours_never_exceeds_a_maximum_of_theirs() {
        let policy = of(json!({"lifetime": {"max": "1h"}, "overlap": {"max": "1m"}})).unwrap();
        assert_eq!(policy.default_lifetime, SignedDuration::from_hours(1));
        assert_eq!(policy.default_overlap, SignedDuration::from_mins(1));
    }

    #[test]
    fn an_endpoint_that_slipped_past_the_schema_is_told() {
        let faults = |endpoint: Value| {
            let (mut faults, endpoint) = (Vec::new(), serde_json::from_value::<Endpoint>(endpoint).unwrap());
            led_to(&endpoint, endpoint.way_in(), &mut faults);
            faults.into_iter().map(|fault| fault.path.into_owned()).collect::<Vec<_>>()
        };
        let path = "spec.manager.endpoints[admin]";
        assert_eq!(faults(json!({"name": "admin"})), [format!("{path}.gateway")]);
        let (host, guard) = (format!("{path}.host"), format!("{path}.guard"));
        assert_eq!(faults(json!({"name": "admin", "ingress": {}})), [host, guard.clone()]);
        for bad in ["ExternalAuth", "None"] {
            assert_eq!(faults(json!({"name": "admin", "host": "a", "ingress": {}, "guard": bad})), [&*guard]);
        }
        for good in [
            json!({"name": "admin", "host": "a", "ingress": {}, "guard": "Traefik"}),
            json!({"name": "admin", "host": "a", "ingress": {}, "allowUnguarded": true}),
            json!({"name": "admin", "route": {}, "guard": "Backend"}),
        ] {
            assert!(faults(good).is_empty());
        }
    }

    #[test]
    fn grants_follow_from_members_only_under_their_ceiling() {
        let faults = |spec: Value| {
            let mut faults = Vec::new();
            granting(&serde_json::from_value(spec).unwrap(), &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert_eq!(faults(json!({"grants": "Members"})), ["spec.grants"]);
        for good in [json!({}), json!({"grants": "None"}), json!({"ceiling": "Members", "grants": "Members"})] {
            assert!(faults(good).is_empty());
        }
    }

    #[test]
    fn a_service_is_needed_and_is_not_the_endpoints_own() {
        let faults = |manager: Option<Value>| {
            let (mut faults, manager) = (Vec::new(), manager.map(|manager| serde_json::from_value(manager).unwrap()));
            served(manager.as_ref(), "eem-admin", &mut faults);
            faults.len()
        };
        assert_eq!(
            [faults(None), faults(Some(json!({"name": "eem-admin"}))), faults(Some(json!({"name": "eem"})))],
            [1, 1, 0]
        );
    }

    #[test]
    fn every_fault_is_told_with_its_path() {
        let all = json!({
            "lifetime": {"default": "2d", "max": "1d"}, "overlap": {"default": "x"}, "prefix": "A",
            "namespaces": {"from": "Selector"},
        });
        assert_eq!(
            paths(all),
            [
                "spec.tokens.lifetime.default",
                "spec.tokens.overlap.default",
                "spec.tokens.prefix",
                "spec.tokens.namespaces.selector"
            ]
        );
    }
}
