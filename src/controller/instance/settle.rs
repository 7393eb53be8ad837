//! Folds what was done into a status.

use super::{execute::Progress, observe::World, validate::InstanceTerms};
use crate::{
    controller::{
        census,
        kind::{Checked, Settled},
    },
    crd::{
        Conditions, Reason,
        condition::{ACCEPTED, Conclusion, ENDPOINTS_READY, READY, STAMPS_MISSING},
        fault::told,
        instance::{Ceiling, EndpointStatus, InstanceStatus},
    },
    exposure,
    outside::events::Note,
};

/// What it means that nothing stamps.
const UNSTAMPED: &str = "nothing stamps who makes a token or account: each has to name its owner (spec.owner), no role comes from \
    groups of an owner, and tokens.defaultRole: Owner gives none; install the chart with admission.stamps=auto or always on Kubernetes \
    1.36 or newer";

/// The whole status after `progress`, what users are told, and when to look again.
pub fn settle(world: &World, terms: &Checked<InstanceTerms>, progress: &Progress) -> Settled<InstanceStatus> {
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
    let word = if ready && reason != Reason::EndpointDisabled { Reason::Accepted } else { reason };
    conditions.conclude(conclusion, word, &*message);
    match (world.stamped, instance.spec.ceiling == Ceiling::Members) {
        (Some(false), true) => conditions.set(STAMPS_MISSING, true, Reason::StampsMissing, UNSTAMPED),
        // What was said stands until it is seen to be otherwise, also by another operator.
        (None, true) => {}
        (Some(true), _) | (_, false) => conditions.remove(STAMPS_MISSING),
    }
    let retry = (!ready && !reason.is_going()).then(|| conditions.retry(READY));
    let (tokens, recount) = census::seldom(old.tokens, world.tokens.clone(), census::agree, world.now);
    let wake = retry.into_iter().chain(recount).min();
    let notes = match conditions.changed(READY) && !reason.is_going() {
        true if ready => vec![Note::normal(word, message)],
        true => vec![Note::warning(word, message)],
        false => Vec::new(),
    };
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

/// The ways in that stand. While something fails, those of before that are still asked for; none where the name is
/// another's.
fn standing(
    world: &World,
    terms: &Checked<InstanceTerms>,
    ready: bool,
    reason: Reason,
    mut before: Vec<EndpointStatus>,
) -> Vec<EndpointStatus> {
    let asked = exposure::endpoints(&world.instance);
    match (reason, terms) {
        _ if ready => asked,
        (Reason::EndpointForeign, _) => Vec::new(),
        (_, Ok(_)) => {
            before.retain(|endpoint| asked.contains(endpoint));
            before
        }
        (_, Err(_)) => before,
    }
}

/// How the endpoints stand: what it comes to, the word for it, and in words.
fn endpoints(world: &World, terms: &Checked<InstanceTerms>, progress: &Progress) -> (Conclusion, Reason, String) {
    let name = world.instance.exposed_name();
    match progress.reason {
        Reason::Deleting => return (Conclusion::Working, Reason::Deleting, "being deleted".into()),
        Reason::NamespaceTerminating => {
            return (Conclusion::Working, Reason::NamespaceTerminating, "its namespace is being deleted".into());
        }
        _ => {}
    }
    if let Err(faults) = terms {
        return (Conclusion::Stalled, progress.reason, told(faults));
    }
    if let Some(refusal) = &progress.failure {
        return (Conclusion::Working, Reason::EndpointFailed, format!("{refusal}; trying again"));
    }
    match (progress.reason, terms) {
        (Reason::EndpointForeign, _) => {
            let message = format!(
                "a Service or Ingress {name} exists and is not this Instance's; delete it, or rename the Instance"
            );
            (Conclusion::Stalled, Reason::EndpointForeign, message)
        }
        (_, Ok(InstanceTerms { endpoint: Err(missing) })) => {
            (Conclusion::of(missing.reason), missing.reason, missing.to_string())
        }
        (Reason::NoEndpoints, _) => (Conclusion::Ready, Reason::NoEndpoints, "no endpoint is asked for".into()),
        (Reason::EndpointDisabled, _) => {
            let message = "the endpoint is disabled: there is no way in, and every token is refused";
            (Conclusion::Ready, Reason::EndpointDisabled, message.into())
        }
        (reason, _) => (Conclusion::Ready, reason, format!("{name} stands")),
    }
}
