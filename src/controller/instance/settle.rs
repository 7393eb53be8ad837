//! Computes the new status of an Instance from the progress of a pass.

use jiff::SignedDuration;

use super::{
    execute::Progress,
    observe::{Place, World},
    proofs,
    validate::InstanceTerms,
};
use crate::{
    controller::{
        census,
        kind::{Checked, Settled, Wake},
    },
    crd::{
        Conditions, EventName, Reason,
        condition::{ACCEPTED, Conclusion, ENDPOINTS_READY, READY, STAMPS_MISSING},
        fault::told,
        instance::{Ceiling, EndpointStatus, InstanceStatus, Trust},
    },
    exposure,
    outside::{events::Note, foreign::written},
    token::duration::after,
};

/// The longest time between two looks at the Secrets with certificates, or at the classes of Ingresses.
const LOOK: SignedDuration = SignedDuration::from_mins(5);

/// The message of the condition `StampsMissing`.
const UNSTAMPED: &str = "nothing stamps the requester on tokens and accounts: each must name its owner (spec.owner), \
    an owner's groups give no role, and tokens.defaultRole: Owner gives a role only to a token whose annotation \
    tokenry.dev/created-by names its owner; install the chart with admission.stamps=auto or always on Kubernetes 1.36 \
    or newer";

/// The most bytes of the texts about guards that are awaited. They can hold texts of other controllers.
const MAX_WAITS: usize = 1024;

/// The complete status after `progress`, with the events and the next wake-up.
pub(crate) fn settle(world: &World, terms: &Checked<InstanceTerms>, progress: &Progress) -> Settled<InstanceStatus> {
    let instance = &world.instance;
    let old = instance.status.clone().unwrap_or_default();
    let mut conditions = Conditions::from(Some(&old.conditions), instance.metadata.generation, world.now);
    let faults = terms.as_ref().err();
    match faults {
        None => conditions.set(ACCEPTED, true, Reason::Accepted, "the spec is valid"),
        Some(faults) => conditions.set(ACCEPTED, false, progress.reason, told(faults)),
    }
    let (conclusion, reason, message) = endpoints(world, terms, progress);
    let message = match &progress.failure {
        Some(refusal) => conditions.failing(ENDPOINTS_READY, reason, refusal.why.way(), message),
        None => message,
    };
    let stands = conclusion == Conclusion::Ready;
    // A fault of the certificates holds up neither the objects nor the URI: such a Secret can follow from an Ingress.
    // An edge that answers the probe has a certificate, from wherever it is.
    let mut uncertified = world.certificates.iter().filter(|(endpoint, _)| !world.is_proved(**endpoint));
    let uncertified = uncertified.find_map(|(_, certified)| certified.as_ref().err());
    let distrusted = world.authorities.values().find_map(|trust| trust.as_ref().err());
    let distrusted = distrusted.or(uncertified).filter(|_| stands);
    let (conclusion, reason, message) = match distrusted {
        Some(fault) => (Conclusion::of(fault.reason), fault.reason, fault.to_string()),
        None => (conclusion, reason, message),
    };
    let ready = conclusion == Conclusion::Ready;
    conditions.set(ENDPOINTS_READY, ready, reason, &*message);
    match faults {
        _ if reason.is_going() => {}
        Some(_) => proofs::keep(&mut conditions),
        None => proofs::prove(&mut conditions, world, &progress.waits, (ready, reason, &message)),
    }
    let word = if ready && reason != Reason::EndpointDisabled { Reason::Accepted } else { reason };
    conditions.conclude(conclusion, word, &*message);
    match (world.stamped, instance.spec.ceiling == Ceiling::Members) {
        (Some(false), true) => conditions.set(STAMPS_MISSING, true, Reason::StampsMissing, UNSTAMPED),
        // Without a fresh result the condition stays as it is. Another operator may have set it.
        (None, true) => {}
        (Some(true), _) | (_, false) => conditions.remove(STAMPS_MISSING),
    }
    let retry = (!ready && !reason.is_going()).then(|| Wake { at: conditions.retry(READY), why: "another try" });
    let (tokens, recount) = census::seldom(old.tokens, world.tokens.clone(), census::agree, world.now);
    let look = |is_read: bool, why| (is_read && !reason.is_going()).then(|| Wake { at: after(world.now, LOOK), why });
    let has_certificates = !world.authorities.is_empty() || !world.certificates.is_empty();
    let authorities = look(has_certificates, "another look at certificates");
    let classes = look(world.classes.is_some(), "another look at the classes of Ingresses");
    let carriers = look(!world.carriers.is_empty(), "another look at Gateways");
    let step = progress.next.map(|at| Wake { at, why: "the next step of a removal" });
    let wake = retry.into_iter().chain(recount).chain(authorities).chain(classes).chain(carriers).chain(step).min();
    let changed = conditions.changed(READY) && !reason.is_going();
    let note = changed.then(|| Note { warning: !ready, event: EventName::of(word), reason: word, text: message });
    let notes = note.into_iter().chain(proofs::failed(&conditions)).collect();
    let standing = standing(world, terms, stands, reason, old.endpoints);
    let status = InstanceStatus {
        unreadable: Vec::new(),
        observed_generation: instance.metadata.generation,
        conditions: conditions.into_vec(),
        organization: Some(instance.organization().to_owned()),
        endpoints: standing,
        trust: trusted(world, old.trust),
        tokens: Some(tokens),
        others: old.others,
    };
    Settled { status, notes, wake }
}

/// The certificates for the status. While they cannot be read, those that were read before from the same Secret are
/// kept.
fn trusted(world: &World, before: Vec<Trust>) -> Vec<Trust> {
    if world.instance.metadata.deletion_timestamp.is_some() {
        return before;
    }
    let asked = world.instance.endpoints().filter_map(|endpoint| Some((endpoint.name, endpoint.ca.as_ref()?)));
    let trusted = asked.filter_map(|(name, source)| {
        let kept = || {
            before.iter().find(|trust| trust.name == name && trust.secret_name == source.secret_name.as_str()).cloned()
        };
        world.authorities.get(&name).and_then(|read| read.as_ref().ok().cloned()).or_else(kept)
    });
    trusted.collect()
}

/// The endpoints for the status. While the pass fails, these are the endpoints of the old status that the spec still
/// has. With a faulty spec, all old endpoints are kept. If the name is taken or the kind is not served, there are none.
fn standing(
    world: &World,
    terms: &Checked<InstanceTerms>,
    ready: bool,
    reason: Reason,
    mut before: Vec<EndpointStatus>,
) -> Vec<EndpointStatus> {
    let asked = exposure::endpoints(&world.instance, |endpoint| world.published(endpoint));
    match (reason, terms) {
        _ if ready => asked,
        (Reason::EndpointForeign | Reason::EndpointUnserved | Reason::EndpointKindOff, _) => Vec::new(),
        (_, Ok(_)) => {
            before.retain(|endpoint| asked.contains(endpoint));
            before
        }
        (_, Err(_)) => before,
    }
}

/// The state of the endpoints: the conclusion, the reason and the message.
fn endpoints(world: &World, terms: &Checked<InstanceTerms>, progress: &Progress) -> (Conclusion, Reason, String) {
    let reason = progress.reason;
    if reason.is_going() {
        let what = if reason == Reason::Deleting { "being deleted" } else { "its namespace is being deleted" };
        return (Conclusion::Working, reason, what.into());
    }
    let terms = match terms {
        Ok(terms) => terms,
        Err(faults) => return (Conclusion::Stalled, reason, told(faults)),
    };
    if let Some(refusal) = &progress.failure {
        return (Conclusion::Working, Reason::EndpointFailed, format!("{refusal}; trying again"));
    }
    if let Some(missing) = terms.missing().next() {
        return (Conclusion::of(missing.reason), missing.reason, missing.to_string());
    }
    if let Some(place) = progress.barred.first() {
        return (Conclusion::Stalled, reason, barred(world, *place, reason));
    }
    if !progress.waits.is_empty() {
        return (Conclusion::Working, reason, written(&progress.waits.join("; "), MAX_WAITS).into_owned());
    }
    if let Some((reason, message)) = proofs::awaited(world) {
        return (Conclusion::of(reason), reason, message);
    }
    let names: Vec<_> = terms.endpoints.keys().map(|name| world.instance.exposed_name(*name)).collect();
    let message = if !names.is_empty() {
        format!("{} is up to date", names.join(", "))
    } else if reason == Reason::EndpointDisabled {
        "the endpoint is disabled: it has no objects, and every token is refused".into()
    } else {
        "the spec has no endpoint".into()
    };
    (Conclusion::Ready, reason, message)
}

/// The reason why no action is possible at `place`, and the remedy.
fn barred(world: &World, place: Place, reason: Reason) -> String {
    let (kind, endpoint) = (place.kind.name(), place.endpoint.as_str());
    if reason == Reason::EndpointKindOff {
        return format!(
            "endpoint {endpoint} needs {kind}, which this operator may not create; switch it on in the chart's values \
             (exposure.kinds), or expose the endpoint another way"
        );
    }
    if reason == Reason::EndpointUnserved {
        return format!(
            "the cluster does not serve {kind}, which endpoint {endpoint} needs; make the endpoint internal, or \
             install the API of this kind"
        );
    }
    let name = place.kind.object_name(&world.instance, place.endpoint);
    format!("{kind} {name} exists and is not this Instance's; delete it, or rename the Instance")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            decide::tests::{decided, done, world},
            observe::World,
            validate::validate,
        },
        *,
    };
    use crate::crd::{Fault, instance::EndpointName};
    use serde_json::json;

    const NAME: EndpointName = EndpointName::Admin;

    /// An Instance with certificates from this Secret, whose objects exist.
    fn asking(secret: &str) -> World {
        done(world(json!([{"name": "admin", "type": "internal", "ca": {"secretName": secret}}])))
    }

    fn read(secret: &str, ca_bundle: &str) -> Trust {
        serde_json::from_value(json!({"name": "admin", "secretName": secret, "caBundle": ca_bundle})).unwrap()
    }

    fn missing() -> Fault {
        Fault::new(Reason::CaMissing, "spec.manager.endpoints[admin].ca.secretName", "there is no Secret a")
    }

    fn settled(world: &World, trust: Result<Trust, Fault>, before: Vec<Trust>) -> Settled<InstanceStatus> {
        let mut world = world.clone();
        world.authorities = [(NAME, trust)].into();
        world.instance.change(|instance| instance.status.get_or_insert_default().trust = before);
        let decision = decided(&world);
        let progress = Progress {
            reason: decision.reason,
            barred: decision.barred().collect(),
            waits: vec![],
            next: None,
            failure: None,
        };
        settle(&world, &validate(&world), &progress)
    }

    fn ready(settled: &Settled<InstanceStatus>) -> (&str, &str) {
        let ready = settled.status.conditions.iter().find(|condition| condition.type_ == READY).unwrap();
        (&ready.status, &ready.reason)
    }

    #[test]
    fn certificates_are_in_the_status_and_looked_at_again() {
        let found = settled(&asking("a"), Ok(read("a", "PEM")), vec![read("a", "old")]);
        assert_eq!((found.status.trust.clone(), ready(&found)), (vec![read("a", "PEM")], ("True", "Accepted")));
        assert_eq!(found.wake.unwrap().at, after(jiff::Timestamp::UNIX_EPOCH, LOOK));
        let none = done(world(json!([{"name": "admin", "type": "internal"}])));
        let none = settle(
            &none,
            &validate(&none),
            &Progress { reason: Reason::Accepted, barred: vec![], waits: vec![], next: None, failure: None },
        );
        assert_eq!((none.status.trust.len(), none.wake), (0, None));
    }

    #[test]
    fn certificates_that_cannot_be_read_are_a_fault_and_the_last_ones_stay_and_so_does_the_uri() {
        let lost = settled(&asking("a"), Err(missing()), vec![read("a", "old")]);
        assert_eq!(lost.status.trust, [read("a", "old")]);
        assert_eq!((ready(&lost), lost.status.endpoints.len()), (("False", "CaMissing"), 1));
        assert_eq!(lost.notes[0].text, missing().to_string());
        assert!(lost.wake.unwrap().at < after(jiff::Timestamp::UNIX_EPOCH, LOOK), "it is tried again sooner");
        assert_eq!(settled(&asking("b"), Err(missing()), vec![read("a", "old")]).status.trust, [], "of another Secret");
    }

    #[test]
    fn certificates_of_an_endpoint_without_ca_or_of_none_go() {
        for endpoints in [json!([]), json!([{"name": "admin", "type": "internal"}])] {
            let mut world = done(world(endpoints));
            world.instance.change(|instance| instance.status.get_or_insert_default().trust = vec![read("a", "old")]);
            assert_eq!(trusted(&world, vec![read("a", "old")]), []);
        }
        let mut deleted = asking("a");
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        deleted.instance.change(|instance| instance.metadata.deletion_timestamp = Some(at));
        assert_eq!(trusted(&deleted, vec![read("a", "old")]), [read("a", "old")]);
    }
}
