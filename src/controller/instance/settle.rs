//! Computes the new status of an Instance from the progress of a pass.

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
        instance::{Ceiling, EndpointStatus, InstanceStatus},
    },
    exposure,
    outside::{events::Note, foreign::written},
};

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
    let ready = conclusion == Conclusion::Ready;
    conditions.set(ENDPOINTS_READY, ready, reason, &*message);
    if faults.is_none() && !reason.is_going() {
        proofs::prove(&mut conditions, world, &progress.waits, (ready, reason, &message));
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
    let step = progress.next.map(|at| Wake { at, why: "the next step of a removal" });
    let wake = retry.into_iter().chain(recount).chain(step).min();
    let changed = conditions.changed(READY) && !reason.is_going();
    let note = changed.then(|| Note { warning: !ready, event: EventName::of(word), reason: word, text: message });
    let notes = note.into_iter().collect();
    let standing = standing(world, terms, ready, reason, old.endpoints);
    let status = InstanceStatus {
        unreadable: Vec::new(),
        observed_generation: instance.metadata.generation,
        conditions: conditions.into_vec(),
        organization: Some(instance.organization().to_owned()),
        endpoints: standing,
        tokens: Some(tokens),
        others: old.others,
    };
    Settled { status, notes, wake }
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
    let asked = exposure::endpoints(&world.instance, |endpoint| (world.way(endpoint), world.host(endpoint)));
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
        return (Conclusion::Working, reason, written(&progress.waits.join("; "), MAX_WAITS));
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
    let name = world.instance.exposed_name(place.endpoint);
    format!("a {kind} {name} exists and is not this Instance's; delete it, or rename the Instance")
}
