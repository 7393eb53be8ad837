//! Checks what a token asks for, against its Instance and what stands around it.

use jiff::SignedDuration;

use super::observe::{Bound, Held, World, belongs};
use crate::{
    access::{self, Namespace},
    controller::{instance::policy, kind::Checked},
    crd::{Fault, Instance, Reason, api_token::RotationSchedule},
    exposure,
    token::{
        Policy, Schedule, Terms,
        duration::{Duration, written},
    },
};

/// What a token asks for, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    /// What its generations live by.
    pub life: Terms,
    /// The organization that API requests name.
    pub organization: String,
    /// The URI of the Admin API; empty where the Instance has no endpoint.
    pub endpoint: String,
}

/// Every fault, in the order that a user would mend them in.
pub fn validate(world: &World) -> Checked<TokenTerms> {
    let mut faults = Vec::new();
    let instance = instance(world, &mut faults);
    account(world, &mut faults);
    secret(world, &mut faults);
    let life = instance.and_then(|instance| {
        policy(&instance.spec)
            .map_err(|wrong| faults.push(instance_invalid(instance, &wrong)))
            .ok()
            .map(|policy| terms(world, &policy, &mut faults))
    });
    match (instance, life) {
        (Some(instance), Some(life)) if faults.is_empty() => {
            let endpoint = exposure::endpoints(instance).into_iter().next();
            Ok(TokenTerms {
                life,
                organization: instance.organization().to_owned(),
                endpoint: endpoint.map_or_else(String::new, |endpoint| endpoint.uri),
            })
        }
        _ => Err(faults),
    }
}

fn instance<'a>(world: &'a World, faults: &mut Vec<Fault>) -> Option<&'a Instance> {
    const PATH: &str = "spec.instanceRef";
    let wanted = &world.token.spec.instance_ref;
    let namespace = wanted.namespace_or(world.namespace());
    let Some(instance) = world.instance.as_deref() else {
        let message = format!(
            "there is no Instance {} in namespace {namespace}; create it, or make a token for another",
            wanted.name
        );
        faults.push(Fault::new(Reason::InstanceMissing, PATH, message));
        return None;
    };
    if !access::admits(instance, Namespace { name: world.namespace(), labels: world.labels.as_ref() }) {
        let message = format!(
            "Instance {namespace}/{} does not admit tokens of namespace {}; have its tokens.namespaces changed, or move the token",
            wanted.name,
            world.namespace()
        );
        faults.push(Fault::new(Reason::NamespaceNotAdmitted, PATH, message));
    }
    Some(instance)
}

fn instance_invalid(instance: &Instance, wrong: &[Fault]) -> Fault {
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    let wrong: Vec<_> = wrong.iter().map(Fault::to_string).collect();
    Fault::new(
        Reason::InstanceInvalid,
        "spec.instanceRef",
        format!("Instance {name} has faults of its own: {}", wrong.join("; ")),
    )
}

fn account(world: &World, faults: &mut Vec<Fault>) {
    const PATH: &str = "spec.serviceAccountRef";
    let (name, implied) = world.token.account_name();
    let mut fault = |reason, message| faults.push(Fault::new(reason, PATH, message));
    let Some(account) = world.account.as_deref() else {
        if !implied && world.bound() == Bound::Free {
            fault(
                Reason::AccountMissing,
                format!(
                    "there is no serviceaccount.tokenry.dev {name} in this namespace; create it, or leave serviceAccountRef out"
                ),
            );
        }
        return;
    };
    if implied && !belongs(account, world.uid()) {
        let message = format!(
            "serviceaccount.tokenry.dev {name} exists and is not this token's own; name it in serviceAccountRef of another token, or delete it"
        );
        return fault(Reason::AccountForeign, message);
    }
    let (wanted, held) = (&world.token.spec.instance_ref, &account.spec.instance_ref);
    let of = |reference: &crate::crd::InstanceRef| {
        format!("{}/{}", reference.namespace_or(world.namespace()), reference.name)
    };
    if of(wanted) != of(held) {
        fault(
            Reason::AccountMismatch,
            format!(
                "account {name} belongs to Instance {}, the token to {}; name an account of the same Instance",
                of(held),
                of(wanted)
            ),
        );
    }
}

fn secret(world: &World, faults: &mut Vec<Fault>) {
    if world.secret == Held::Foreign {
        let name = world.token.secret_name();
        let message =
            format!("a Secret {name} exists and is not this token's; delete it, or give secret.name in a new ApiToken");
        faults.push(Fault::new(Reason::SecretForeign, "spec.secret.name", message));
    }
}

fn terms(world: &World, policy: &Policy, faults: &mut Vec<Fault>) -> Terms {
    let spec = &world.token.spec;
    let given = spec.expiry.as_ref().and_then(|expiry| expiry.after.as_ref());
    let lifetime = parsed(given, "spec.expiry.after", faults).unwrap_or(policy.default_lifetime);
    if lifetime > policy.max_lifetime {
        let message = format!("must not be longer than the Instance's maximum, {}", written(policy.max_lifetime));
        faults.push(Fault::invalid("spec.expiry.after", message));
    }
    let rotation = spec.rotation.as_ref();
    let schedule = schedule(rotation.and_then(|rotation| rotation.schedule.as_ref()), lifetime, faults);
    let given = rotation.and_then(|rotation| rotation.overlap.as_ref());
    let overlap =
        overlap(parsed(given, "spec.rotation.overlap", faults), schedule.interval(lifetime), lifetime, policy, faults);
    Terms { prefix: policy.prefix.clone(), lifetime, schedule, overlap }
}

fn schedule(given: Option<&RotationSchedule>, lifetime: SignedDuration, faults: &mut Vec<Fault>) -> Schedule {
    const EVERY: &str = "spec.rotation.schedule.every";
    const BEFORE: &str = "spec.rotation.schedule.beforeExpiry";
    let Some(given) = given else { return Schedule::LastThird };
    let every = parsed(given.every.as_ref(), EVERY, faults).map(|every| (EVERY, every, Schedule::Every(every)));
    let before = parsed(given.before_expiry.as_ref(), BEFORE, faults)
        .map(|before| (BEFORE, before, Schedule::BeforeExpiry(before)));
    if given.every.is_some() == given.before_expiry.is_some() {
        let message = "give exactly one of every and beforeExpiry, or leave schedule out";
        faults.push(Fault::invalid("spec.rotation.schedule", message));
    }
    let Some((path, duration, schedule)) = every.or(before) else { return Schedule::LastThird };
    if duration >= lifetime {
        faults.push(Fault::invalid(path, format!("must be shorter than the lifetime, {}", written(lifetime))));
        return Schedule::LastThird;
    }
    schedule
}

/// Left out, an overlap ends at the latest when the next rotation is due, so that a default never delays one.
fn overlap(
    given: Option<SignedDuration>,
    interval: SignedDuration,
    lifetime: SignedDuration,
    policy: &Policy,
    faults: &mut Vec<Fault>,
) -> SignedDuration {
    const PATH: &str = "spec.rotation.overlap";
    let Some(overlap) = given else { return policy.default_overlap.min(interval) };
    if overlap > policy.max_overlap {
        faults.push(Fault::invalid(
            PATH,
            format!("must not be longer than the Instance's maximum, {}", written(policy.max_overlap)),
        ));
    }
    if overlap > lifetime {
        faults.push(Fault::invalid(PATH, format!("must not be longer than the lifetime, {}", written(lifetime))));
    }
    overlap
}

/// A duration that was given and is one; a fault where it is none.
pub fn parsed(given: Option<&Duration>, path: &'static str, faults: &mut Vec<Fault>) -> Option<SignedDuration> {
    given?.parse().map_err(|rule| faults.push(Fault::invalid(path, rule))).ok()
}
