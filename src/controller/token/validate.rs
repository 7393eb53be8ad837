//! Checks a token's spec against its Instances, its account, its Secret and its workloads.

use std::borrow::Cow;

use super::{
    life::{life, regenerate},
    once, organizations, owner, restart,
    secrets::{Held, Slot},
    shape::shape,
    shown,
    terms::TokenTerms,
    world::{Bond, World},
};
use crate::{
    access,
    controller::{book::Ruled, instance::policy, kind::Checked, policy::missing_policies},
    crd::{Fault, Instance, InstanceRef, ObjectName, Reason, belongs, fault::told, secret},
    token::TermsPolicy,
};

/// The checked terms, or all faults in the order in which a user would fix them.
pub(crate) fn validate(world: &World) -> Checked<TokenTerms> {
    let mut faults = Vec::new();
    let instance = instance(world, &mut faults);
    let policy = instance.and_then(|instance| {
        let wrong = |wrong: Vec<Fault>| faults.push(instance_invalid("spec.instanceRef", instance, &wrong));
        policy_of(instance).map_err(wrong).ok()
    });
    let policy = audiences(world, policy, &mut faults);
    instance.inspect(|instance| {
        admission(world, instance, &mut faults);
        owner::faults(world, instance, &mut faults);
    });
    organizations::faults(world, &mut faults);
    account(world, &mut faults);
    policies(world, &mut faults);
    secret(world, &mut faults);
    restart::faults(world, &mut faults);
    shown::faults(world, &mut faults);
    once::faults(world, &mut faults);
    policy.as_ref().inspect(|policy| description(world, policy, &mut faults));
    let organization = instance.map_or_else(String::new, |instance| instance.organization().to_owned());
    let endpoint = world.endpoint().to_owned();
    let shape = shape(world, &organization, &endpoint, &mut faults);
    let life = policy.map(|policy| (life(world, &policy, &mut faults), regenerate(world, &policy, &mut faults)));
    match life {
        Some((life, regenerate)) if faults.is_empty() => {
            Ok(TokenTerms { life, regenerate, organization, endpoint, shape })
        }
        _ => Err(faults),
    }
}

/// The token policy of an Instance, or the Instance's faults.
fn policy_of(instance: &Ruled) -> Checked<TermsPolicy> {
    let policy = policy(&instance.spec)?;
    if instance.faults().is_empty() { Ok(policy) } else { Err(instance.faults().to_vec()) }
}

fn instance<'a>(world: &'a World, faults: &mut Vec<Fault>) -> Option<&'a Ruled> {
    const PATH: &str = "spec.instanceRef";
    let wanted = &world.token.spec.instance_ref;
    let namespace = wanted.namespace_or(world.namespace());
    let Some(instance) = world.instance.as_ref() else {
        let message = format!(
            "there is no Instance {} in namespace {namespace}; create it, or make a token for another",
            wanted.name
        );
        faults.push(Fault::new(Reason::InstanceMissing, PATH, message));
        return None;
    };
    going(instance, PATH, faults);
    let odd = instance.status.as_ref().is_some_and(|status| !status.unreadable.is_empty());
    if odd {
        // The status holds the endpoints. An unreadable status must not count as a status without endpoints.
        let message = format!("the status of Instance {} cannot be read; the token waits for it", wanted.name);
        faults.push(Fault::new(Reason::StatusUnreadable, PATH, message));
    }
    Some(instance)
}

/// Adds a fault if the Instance is being deleted. It counts as missing, because a deletion cannot be undone, whichever
/// finalizer delays it.
fn going(instance: &Instance, path: impl Into<Cow<'static, str>>, faults: &mut Vec<Fault>) {
    if instance.metadata.deletion_timestamp.is_some() {
        let name = instance.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Instance {name} is being deleted; create it again once it is gone");
        faults.push(Fault::new(Reason::InstanceMissing, path, message));
    }
}

fn admission(world: &World, instance: &Instance, faults: &mut Vec<Fault>) {
    const PATH: &str = "spec.instanceRef";
    let wanted = &world.token.spec.instance_ref;
    let namespace = wanted.namespace_or(world.namespace());
    if !access::admits(instance, world.home()) {
        let message = format!(
            "Instance {namespace}/{} does not admit tokens of namespace {}; change its tokens.namespaces, or create \
             the token in another namespace",
            wanted.name,
            world.namespace()
        );
        faults.push(Fault::new(Reason::NamespaceNotAdmitted, PATH, message));
    }
}

fn instance_invalid(path: impl Into<Cow<'static, str>>, instance: &Instance, wrong: &[Fault]) -> Fault {
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    Fault::new(Reason::InstanceInvalid, path, format!("Instance {name} has faults: {}", told(wrong)))
}

/// The policy that combines the first Instance with all audiences. The strictest limit of each kind applies.
fn audiences(world: &World, policy: Option<TermsPolicy>, faults: &mut Vec<Fault>) -> Option<TermsPolicy> {
    let mut seen = vec![full(&world.token.spec.instance_ref, world)];
    let mut policy = policy;
    for (index, (wanted, held)) in world.token.spec.audiences.iter().zip(&world.audiences).enumerate() {
        let (path, (namespace, name)) = (format!("spec.audiences[{index}]"), full(wanted, world));
        if seen.contains(&(namespace, name)) {
            faults.push(Fault::invalid(path, format!("names Instance {namespace}/{name} again; remove the entry")));
            continue;
        }
        seen.push((namespace, name));
        let Some(instance) = held else {
            let message =
                format!("there is no Instance {name} in namespace {namespace}; create it, or remove the entry");
            faults.push(Fault::new(Reason::InstanceMissing, path, message));
            continue;
        };
        let other = audience(world, instance, &path, faults);
        policy = policy.map(|policy| other.into_iter().fold(policy, TermsPolicy::and));
    }
    policy
}

/// The namespace and the name in a reference to an Instance.
fn full<'a>(reference: &'a InstanceRef, world: &'a World) -> (&'a str, &'a str) {
    (reference.namespace_or(world.namespace()), reference.name.as_str())
}

/// The policy of one audience; none if that Instance has faults.
fn audience(world: &World, instance: &Ruled, path: &str, faults: &mut Vec<Fault>) -> Option<TermsPolicy> {
    going(instance, path.to_owned(), faults);
    if !access::admits(instance, world.home()) {
        let message = format!(
            "Instance {}/{} does not admit tokens of namespace {}; remove the entry",
            instance.metadata.namespace.as_deref().unwrap_or_default(),
            instance.metadata.name.as_deref().unwrap_or_default(),
            world.namespace()
        );
        faults.push(Fault::new(Reason::NamespaceNotAdmitted, path.to_owned(), message));
    }
    let wrong = |wrong: Vec<Fault>| faults.push(instance_invalid(path.to_owned(), instance, &wrong));
    policy_of(instance).map_err(wrong).ok()
}

fn account(world: &World, faults: &mut Vec<Fault>) {
    const PATH: &str = "spec.serviceAccountRef";
    let (name, implied) = world.token.account_name();
    let mut fault = |reason, message| faults.push(Fault::new(reason, PATH, message));
    let Some(account) = world.account.as_deref() else {
        if !implied && world.bond == Bond::Free {
            fault(
                Reason::AccountMissing,
                format!(
                    "there is no serviceaccount.tokenry.dev {name} in this namespace; create it, or leave \
                     serviceAccountRef out"
                ),
            );
        }
        return;
    };
    if world.bond == Bond::Free && account.metadata.deletion_timestamp.is_some() {
        // A token that is bound to this account would end with it, which is final.
        let message = format!("serviceaccount.tokenry.dev {name} is being deleted; create it again once it is gone");
        return fault(Reason::AccountMissing, message);
    }
    if implied && !belongs(account, world.uid()) {
        let message = format!(
            "serviceaccount.tokenry.dev {name} exists and was not made for this token; delete this token, and create \
             one of another name, or one that names the account in serviceAccountRef"
        );
        return fault(Reason::AccountForeign, message);
    }
    if !implied && world.is_namesake(account) {
        let message = format!(
            "serviceaccount.tokenry.dev {name} was made after this token, and for another owner; create the token again, \
             so that its right to use the account is checked"
        );
        return fault(Reason::AccountForeign, message);
    }
    let (wanted, held) = (&world.token.spec.instance_ref, &account.spec.instance_ref);
    let of = |reference: &InstanceRef| format!("{}/{}", reference.namespace_or(world.namespace()), reference.name);
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

/// Checks before the first publish that the policies in `spec.policies` exist. Later, a policy that is gone permits and
/// denies nothing, but it must not keep a token from being renewed. Without its Instance, a token has that fault alone.
fn policies(world: &World, faults: &mut Vec<Fault>) {
    let Some(instance) = world.instance.as_ref().filter(|_| !world.records.ever_published()) else { return };
    let exists = |name: &ObjectName| world.policies.iter().any(|policy| *policy.name == *name.as_str());
    faults.extend(missing_policies(instance, &world.token.spec.policies, exists));
}

fn secret(world: &World, faults: &mut Vec<Fault>) {
    let Slot { name, held } = world.secrets.next();
    if held.ours().is_some_and(|secret| secret.immutable == Some(true)) {
        let message = format!(
            "Secret {name} is immutable; delete it to get a new Secret with a new value, or give another secret.name"
        );
        faults.push(Fault::new(Reason::SecretImmutable, "spec.secret", message));
    }
    if let Held::Retyped(type_) = held {
        let message = format!(
            "Secret {name} is of type {type_:?}, not {:?}; delete it, or give another secret.name",
            secret::TYPE
        );
        faults.push(Fault::new(Reason::SecretForeign, "spec.secret.name", message));
    }
    if *held == Held::Foreign {
        let message =
            format!("Secret {name} exists and does not belong to this token; delete it, or give another secret.name");
        faults.push(Fault::new(Reason::SecretForeign, "spec.secret.name", message));
    }
}

fn description(world: &World, policy: &TermsPolicy, faults: &mut Vec<Fault>) {
    let given = world.token.spec.description.as_deref().unwrap_or_default();
    if policy.require_description && given.trim().is_empty() {
        let message = "is missing; the Instance requires a description of each token";
        faults.push(Fault::new(Reason::DescriptionMissing, "spec.description", message));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::fixture::{self, DAY, HOUR, account, new, own_account, served, time};
    use super::*;
    use crate::{
        crd::instance::InstanceStatus,
        token::{Digest, Schedule, Terms, duration::RULE},
    };
    use jiff::SignedDuration;
    use serde_json::{Value, json};

    type Change = fn(World) -> World;

    /// All faults, each as `reason path`.
    fn faults(world: &World) -> Vec<String> {
        let faults = validate(world).expect_err("it has faults");
        faults.iter().map(|fault| format!("{} {}", fault.reason, fault.path)).collect()
    }

    fn named(world: World) -> World {
        world.with_spec(&json!({"serviceAccountRef": {"name": "ci"}}))
    }

    #[test]
    fn what_is_valid_becomes_terms() {
        let world = new().with_instance(json!({"organization": "acme", "tokens": {"prefix": "acme"}}));
        let world = world.at_endpoint("https://eem-admin.events.svc");
        let hours = SignedDuration::from_hours;
        let life = Terms {
            prefix: "acme".into(),
            lifetime: Some(hours(90 * 24)),
            until: None,
            schedule: Schedule::LastThird,
            overlap: hours(24),
            asks_overlap: false,
            windows: vec![],
        };
        let terms = TokenTerms {
            life,
            regenerate: None,
            organization: "acme".into(),
            endpoint: "https://eem-admin.events.svc".into(),
            shape: validate(&world).unwrap().shape,
        };
        assert_eq!(validate(&world), Ok(terms));
        assert_eq!(validate(&new()).unwrap().endpoint, "");
        assert_eq!(validate(&new()).unwrap().organization, "eem");
    }

    #[test]
    fn each_thing_around_it_that_is_wrong_is_one_fault() {
        let cases: [(&str, Change); 12] = [
            ("InstanceMissing spec.instanceRef", |world| world.and(|world| world.instance = None)),
            ("StatusUnreadable spec.instanceRef", |world| {
                world.and(|world| {
                    let unreadable = vec!["endpoints".to_owned()];
                    let status = InstanceStatus { unreadable, ..InstanceStatus::default() };
                    world.instance.as_mut().unwrap().change(|instance| instance.status = Some(status));
                })
            }),
            ("NamespaceNotAdmitted spec.instanceRef", |world| {
                world
                    .with_token(|token| token.metadata.namespace = Some("other".into()))
                    .with_spec(&json!({"instanceRef": {"namespace": "events"}}))
            }),
            ("NamespaceNotAdmitted spec.instanceRef", |world| {
                let selector = json!({"from": "Selector", "selector": {}});
                world.with_instance(json!({"tokens": {"namespaces": selector}})).and(|world| world.labels = None)
            }),
            ("InstanceInvalid spec.instanceRef", |world| world.with_instance(json!({"tokens": {"prefix": "A"}}))),
            ("AccountMissing spec.serviceAccountRef", named),
            ("AccountForeign spec.serviceAccountRef", |world| {
                world.and(|world| world.account = Some(Arc::new(account())))
            }),
            ("AccountMismatch spec.serviceAccountRef", |world| {
                named(world).and(|world| world.account = Some(Arc::new(account()))).with_account(|account| {
                    account.spec.instance_ref.name = "another".into();
                })
            }),
            ("AccountMissing spec.serviceAccountRef", |world| {
                // The token would end with this account, which is final.
                named(world).and(|world| world.account = Some(Arc::new(account()))).with_account(|account| {
                    account.metadata.deletion_timestamp = Some(time(0));
                })
            }),
            ("AccountForeign spec.serviceAccountRef", |world| {
                let mine = json!({"serviceAccountRef": {"name": "ci"}, "owner": "user:alice"});
                let world = world.with_spec(&mine).and(|world| world.account = Some(Arc::new(account())));
                let made = json!({"tokenry.dev/created-by": "user:alice"});
                world
                    .with_token(|token| token.metadata.annotations = serde_json::from_value(made).unwrap())
                    .with_account(|account| account.metadata.creation_timestamp = Some(time(1)))
            }),
            ("SecretForeign spec.secret.name", |world| world.serving(Held::Foreign)),
            ("SecretForeign spec.secret.name", |world| world.serving(Held::Retyped("Opaque".into()))),
        ];
        assert!(validate(&new()).is_ok());
        for (fault, wrong) in cases {
            assert_eq!(faults(&wrong(new())), [fault]);
        }
    }

    #[test]
    fn a_policy_that_a_token_names_exists() {
        let world = new().with_spec(&json!({"policies": ["readers", "writers"]}));
        let told: Vec<_> = validate(&world).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "spec.policies[0]: there is no AccessPolicy readers of Instance events/eem; create it, or remove the entry",
                "spec.policies[1]: there is no AccessPolicy writers of Instance events/eem; create it, or remove the entry",
            ]
        );
        let readers = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": "readers"},
            "spec": {"instanceRef": {"name": "eem"}, "statements": [{"effect": "Allow", "actions": ["*:read"]}]}});
        let readers = access::Policy::of(&serde_json::from_value(readers).unwrap());
        let world = world.and(|world| world.policies = vec![Arc::new(readers)]);
        assert_eq!(faults(&world), ["PolicyMissing spec.policies[1]"]);
        let published = served().with_spec(&json!({"policies": ["readers"]}));
        assert!(validate(&published).is_ok(), "a policy that is deleted ends no renewal");
    }

    #[test]
    fn a_secret_that_nothing_can_be_delivered_in_is_a_fault_that_says_why() {
        let told = |world: &World| validate(world).unwrap_err()[0].to_string();
        let immutable = served().with_secret(|secret| secret.immutable = Some(true));
        assert_eq!(faults(&immutable), ["SecretImmutable spec.secret"]);
        assert_eq!(
            told(&immutable),
            "spec.secret: Secret ci is immutable; delete it to get a new Secret with a new value, or give another \
             secret.name"
        );
        assert!(validate(&served().with_secret(|secret| secret.immutable = Some(false))).is_ok());
        let retyped = served().serving(Held::Retyped("Opaque".into()));
        assert_eq!(
            told(&retyped),
            "spec.secret.name: Secret ci is of type \"Opaque\", not \"tokenry.dev/api-token\"; delete it, or give \
             another secret.name"
        );
    }

    #[test]
    fn an_instance_is_named_with_or_without_its_namespace() {
        let world = named(new()).and(|world| world.account = Some(Arc::new(account())));
        let world = world.with_account(|account| account.spec.instance_ref.namespace = Some("events".into()));
        assert!(validate(&world).is_ok());
    }

    #[test]
    fn an_account_that_is_younger_than_the_token_is_its_maker_s_own_or_that_of_a_token_made_for_others() {
        let found = |created_by: Value, owner: &str, account_made: i64| {
            let mine = json!({"serviceAccountRef": {"name": "ci"}, "owner": "user:alice"});
            let world = new().with_spec(&mine).and(|world| world.account = Some(Arc::new(account())));
            let world = world
                .with_token(|token| {
                    token.metadata.creation_timestamp = Some(time(5));
                    token.metadata.annotations = serde_json::from_value(created_by).unwrap();
                })
                .with_account(|account| {
                    account.metadata.creation_timestamp = Some(time(account_made));
                    account.spec.owner = Some(owner.into());
                });
            let bound = world.rested().status.account.is_some();
            assert_eq!(bound, validate(&world).is_ok());
            bound
        };
        let by = |maker: &str| json!({"tokenry.dev/created-by": maker});
        assert!(!found(by("user:alice"), "user:bob", 6), "nobody checked that she may use it");
        assert!(found(by("user:alice"), "user:bob", 5), "both were applied together");
        assert!(found(by("user:alice"), "user:alice", 6));
        assert!(found(by("serviceaccount:ci/deployer"), "user:bob", 6));
        assert!(found(json!({}), "user:bob", 6), "nothing stamps the maker");
    }

    #[test]
    fn an_account_of_its_own_is_no_foreign_one() {
        let world = new().and(|world| world.account = Some(Arc::new(own_account("u"))));
        assert!(validate(&world).is_ok());
    }

    #[test]
    fn an_account_that_a_token_was_bound_to_is_never_called_missing() {
        // The account is gone for ever, and a new account of its name would not help.
        let world = named(served()).and(|world| world.account = None);
        assert!(validate(&world).is_ok());
    }

    #[test]
    fn each_field_that_breaks_a_rule_is_one_fault() {
        const LIFETIME: &str = "Invalid spec.expiry.after";
        const EXCEEDED: &str = "LifetimeExceeded spec.expiry.after";
        const OVERLAP: &str = "Invalid spec.rotation.overlap";
        const SCHEDULE: &str = "Invalid spec.rotation.schedule";
        const EVERY: &str = "Invalid spec.rotation.schedule.every";
        const BEFORE: &str = "Invalid spec.rotation.schedule.beforeExpiry";
        const CRON: &str = "Invalid spec.rotation.schedule.cron";
        const ZONE: &str = "Invalid spec.rotation.schedule.timeZone";
        let windows =
            |window: Value| json!({"rotation": {"windows": [{"cron": "0 3 * * *", "duration": "1h"}, window]}});
        let schedule = |schedule: Value| json!({"rotation": {"schedule": schedule}});
        let overlap = |overlap: &str| json!({"rotation": {"overlap": overlap}});
        for (spec, fault) in [
            (json!({"expiry": {"after": "366d"}}), EXCEEDED),
            (json!({"expiry": {"after": "1d", "at": time(DAY)}}), "Invalid spec.expiry"),
            (json!({"expiry": {"never": true}}), "LifetimeExceeded spec.expiry.never"),
            (json!({"expiry": {"at": time(0)}}), "Invalid spec.expiry.at"),
            (
                json!({"expiry": {"at": time(366 * DAY)}, "rotation": {"schedule": {"never": true}}}),
                "LifetimeExceeded spec.expiry.at",
            ),
            (json!({"secret": {"claimWithin": "1h"}}), "Invalid spec.secret.claimWithin"),
            (json!({"secret": {"delivery": "Once", "claimWithin": "x"}}), "Invalid spec.secret.claimWithin"),
            (json!({"secret": {"claimedBy": "FirstUse"}}), "Invalid spec.secret.claimedBy"),
            (json!({"expiry": {"after": "soon"}}), LIFETIME),
            (overlap("8d"), "OverlapExceeded spec.rotation.overlap"),
            (overlap("0d"), OVERLAP),
            (json!({"expiry": {"after": "3h"}, "rotation": {"overlap": "4h"}}), OVERLAP),
            (schedule(json!({"every": "90d"})), EVERY),
            (schedule(json!({"every": "x"})), EVERY),
            (schedule(json!({"beforeExpiry": "90d"})), BEFORE),
            (schedule(json!({"beforeExpiry": "91d"})), BEFORE),
            (schedule(json!({"beforeExpiry": ""})), BEFORE),
            (schedule(json!({})), SCHEDULE),
            (schedule(json!({"every": "1d", "beforeExpiry": "1d"})), SCHEDULE),
            (schedule(json!({"every": "1d", "never": true})), SCHEDULE),
            (schedule(json!({"every": "1d", "cron": "0 3 * * *"})), SCHEDULE),
            (schedule(json!({"every": "1d", "timeZone": "UTC"})), SCHEDULE),
            (schedule(json!({"cron": "0 3 * *"})), CRON),
            (schedule(json!({"cron": "0 0 30 2 *"})), CRON),
            (schedule(json!({"cron": "0 3 1 1 *"})), CRON),
            (schedule(json!({"cron": "0 3 * * *", "timeZone": "Mars/Olympus"})), ZONE),
            (windows(json!({"cron": "x", "duration": "1h"})), "Invalid spec.rotation.windows[1].cron"),
            (windows(json!({"cron": "0 3 * * *", "duration": "x"})), "Invalid spec.rotation.windows[1].duration"),
            (
                windows(json!({"cron": "0 3 * * *", "duration": "1h", "timeZone": "x"})),
                "Invalid spec.rotation.windows[1].timeZone",
            ),
        ] {
            assert_eq!(faults(&new().with_spec(&spec)), [fault], "{spec}");
        }
    }

    #[test]
    fn what_is_just_within_a_rule_is_valid() {
        for spec in [
            json!({"expiry": {"after": "365d"}}),
            json!({"rotation": {"overlap": "7d"}}),
            json!({"expiry": {"after": "3h"}, "rotation": {"overlap": "90m"}}),
            json!({"rotation": {"schedule": {"every": "1m"}}}),
            json!({"rotation": {"schedule": {"cron": "* * * * *"}}}),
            json!({"expiry": {"after": "90s"}}),
            json!({"expiry": {"at": time(900 * DAY)}}),
            json!({"expiry": {"at": time(365 * DAY)}, "rotation": {"schedule": {"never": true}}}),
            json!({"expiry": {"never": false}}),
            json!({"secret": {"delivery": "Once", "claimWithin": "15m", "claimedBy": "FirstUse"}}),
            json!({"rotation": {"schedule": {"every": "2159h"}}}),
            json!({"rotation": {"schedule": {"beforeExpiry": "2159h"}}}),
            json!({"rotation": {"schedule": {"cron": "0 3 1 * *", "timeZone": "Europe/Berlin"}}}),
            json!({"rotation": {"windows": [{"cron": "0 3 * * SUN", "duration": "4h"}]}}),
        ] {
            assert!(validate(&new().with_spec(&spec)).is_ok(), "{spec}");
        }
    }

    #[test]
    fn an_ending_that_cannot_be_is_a_fault_until_the_id_was_answered() {
        const AFTER: &str = "Invalid spec.regenerate.previous.after";
        const AT: &str = "Invalid spec.regenerate.previous.at";
        let asks = |previous: Value| json!({"regenerate": {"id": "leak", "previous": previous}});
        let at = |seconds: i64| json!({"at": time(seconds)});
        for (previous, fault) in [
            (json!({}), "Invalid spec.regenerate.previous"),
            (json!({"after": "1h", "at": time(0)}), "Invalid spec.regenerate.previous"),
            (json!({"after": "8d"}), AFTER),
            (json!({"after": "soon"}), AFTER),
            (at(8 * DAY), AT),
        ] {
            assert_eq!(faults(&served().with_spec(&asks(previous.clone()))), [fault], "{previous}");
        }
        assert_eq!(faults(&served().later(89 * DAY).with_spec(&asks(at(91 * DAY)))), [AT], "the value expires earlier");
        assert_eq!(faults(&new().with_spec(&json!({"regenerate": {"id": ""}}))), ["Invalid spec.regenerate.id"]);
        for previous in [json!({"after": "0s"}), json!({"after": "7d"}), at(6 * DAY), at(-DAY)] {
            assert!(validate(&served().with_spec(&asks(previous.clone()))).is_ok(), "{previous}");
        }
        let answered = served().with_spec(&asks(at(6 * DAY))).issued(2).with_spec(&asks(at(80 * DAY)));
        assert!(validate(&answered).is_ok(), "the request was answered");
    }

    #[test]
    fn a_policy_binds_tokens_that_exist_each_rule_with_its_reason() {
        for (policy, spec, fault) in [
            (
                json!({"lifetime": {"max": "30d"}}),
                json!({"expiry": {"after": "90d"}}),
                "LifetimeExceeded spec.expiry.after",
            ),
            (
                json!({"lifetime": {"never": "Forbid"}}),
                json!({"expiry": {"never": true}}),
                "LifetimeExceeded spec.expiry.never",
            ),
            (
                json!({"overlap": {"max": "1h"}}),
                json!({"rotation": {"overlap": "2h"}}),
                "OverlapExceeded spec.rotation.overlap",
            ),
            (json!({"requireDescription": true}), json!({}), "DescriptionMissing spec.description"),
            (json!({"requireDescription": true}), json!({"description": " \n"}), "DescriptionMissing spec.description"),
            (
                json!({"windows": [{"cron": "0 3 1 1 *", "duration": "1h"}]}),
                json!({"expiry": {"after": "7d"}}),
                "WindowsUnmet spec.rotation.windows",
            ),
        ] {
            let world = served().with_instance(json!({ "tokens": policy })).with_spec(&spec);
            assert_eq!(faults(&world), [fault], "{policy}");
        }
        let described = new().with_instance(json!({"tokens": {"requireDescription": true}}));
        assert!(validate(&described.with_spec(&json!({"description": "nightly export"}))).is_ok());
    }

    #[test]
    fn what_may_never_run_out_of_time_is_replaced_by_a_schedule_of_its_own_only() {
        let never = |rotation: Value| {
            let world = new().with_instance(json!({"tokens": {"lifetime": {"never": "Allow"}}}));
            world.with_spec(&json!({"expiry": {"never": true}, "rotation": rotation}))
        };
        let terms = validate(&never(Value::Null)).unwrap();
        assert_eq!((terms.life.lifetime, terms.life.overlap), (None, SignedDuration::from_hours(24)));
        assert_eq!(terms.record(1, "id", Digest::of(""), new().now).end(), None);
        assert!(validate(&never(json!({"schedule": {"every": "9000d"}, "overlap": "7d"}))).is_ok());
        let before = json!({"schedule": {"beforeExpiry": "1d"}});
        assert_eq!(faults(&never(before)), ["Invalid spec.rotation.schedule.beforeExpiry"]);
    }

    #[test]
    fn no_generation_outlives_the_time_of_its_token() {
        let end = |spec: Value, days| {
            let world = new().with_spec(&spec).later(days * DAY);
            validate(&world).unwrap().record(1, "id", Digest::of(""), world.now).end()
        };
        let at = |days: i64, schedule: Value| {
            let rotation = json!({ "schedule": schedule });
            json!({"expiry": {"at": time(days * DAY)}, "rotation": rotation})
        };
        let never = json!({"never": true});
        assert_eq!(end(at(200, never), 0), Some(time(200 * DAY).0), "the only generation has to last");
        assert_eq!(end(at(200, Value::Null), 0), Some(time(200 * DAY).0), "within the maximum it lasts until then");
        assert_eq!(end(at(365, Value::Null), 0), Some(time(365 * DAY).0));
        assert_eq!(end(at(500, Value::Null), 0), Some(time(90 * DAY).0), "beyond, the Instance's default");
        assert_eq!(end(at(500, Value::Null), 150), Some(time(500 * DAY).0), "the last one lasts until then");
        let every = json!({"every": "30d"});
        assert_eq!(end(at(200, every.clone()), 0), Some(time(90 * DAY).0), "a schedule replaces it");
        assert_eq!(end(at(200, every), 150), Some(time(200 * DAY).0));
    }

    #[test]
    fn a_value_that_lives_until_its_token_ends_is_not_replaced() {
        let end = time(200 * DAY);
        let token = || new().and(|world| world.account = Some(Arc::new(own_account("u"))));
        let world = token().with_spec(&json!({"expiry": {"at": end}})).issued(1);
        assert_eq!((world.status().expires_at, world.status().rotates_at), (Some(end.clone()), None));
        assert_eq!(world.later(199 * DAY).decision().reason, Reason::Active);
        // A value from before `expiry.at` expires earlier, so it is replaced by one that lasts.
        let changed = token().issued(1).with_spec(&json!({"expiry": {"at": end}}));
        assert_eq!(changed.records.served().unwrap().end(), Some(time(90 * DAY).0));
        let rotated = changed.later(60 * DAY);
        assert_eq!(rotated.decision().reason, Reason::RotationDue);
        let rotated = rotated.issued(2).status();
        assert_eq!((rotated.expires_at, rotated.rotates_at), (Some(end), None));
    }

    #[test]
    fn an_instance_says_the_schedule_of_tokens_that_give_none() {
        let world = |default: &str, rotation: Value| {
            let tokens = json!({"tokens": {"rotation": {"default": default}}});
            new().with_instance(tokens).with_spec(&json!({ "rotation": rotation }))
        };
        let schedule = |world: &World| validate(world).unwrap().life.schedule;
        assert_eq!(schedule(&world("Renew", Value::Null)), Schedule::LastThird);
        assert_eq!(schedule(&world("Never", Value::Null)), Schedule::Never);
        assert_eq!(schedule(&world("Never", json!({"overlap": "1h"}))), Schedule::Never);
        let every = json!({"schedule": {"every": "30d"}});
        assert_eq!(schedule(&world("Never", every)), Schedule::Every(SignedDuration::from_hours(720)));
        let beyond = world("Never", Value::Null).with_spec(&json!({"expiry": {"at": time(366 * DAY)}}));
        assert_eq!(faults(&beyond), ["LifetimeExceeded spec.expiry.at"]);
        let lax = new().with_spec(&json!({"audiences": [{"name": "never"}]}));
        let never = Arc::new(fixture::instance(json!({"tokens": {"rotation": {"default": "Never"}}})));
        let lax = lax.and(|world| world.audiences = vec![Some(Ruled::new(never))]);
        assert_eq!(schedule(&lax), Schedule::LastThird, "the token's own Instance gives defaults");
        // Nothing replaces a served value any more; it runs out.
        let tokens = json!({"tokens": {"rotation": {"default": "Never"}}});
        let kept = served().with_instance(tokens).later(80 * DAY);
        assert_eq!((kept.decision().reason, kept.rested().status.rotates_at), (Reason::Active, None));
        assert_eq!(kept.later(10 * DAY).decision().reason, Reason::Expired);
    }

    #[test]
    fn a_value_that_is_shown_once_is_replaced_only_when_asked_for_unless_a_schedule_says_so() {
        let schedule = |spec: Value| validate(&new().with_spec(&spec)).unwrap().life.schedule;
        assert_eq!(schedule(json!({"secret": {"delivery": "Once"}})), Schedule::Never);
        let own = json!({"secret": {"delivery": "Once"}, "rotation": {"schedule": {"every": "30d"}}});
        assert_eq!(schedule(own), Schedule::Every(SignedDuration::from_hours(720)));
    }

    #[test]
    fn windows_that_no_rotation_can_meet_are_told() {
        let window = |cron: &str| json!([{"cron": cron, "duration": "1h"}]);
        let weeks = |windows: Value| json!({"expiry": {"after": "7d"}, "rotation": {"windows": windows}});
        let missed = "WindowsUnmet spec.rotation.windows";
        assert_eq!(faults(&new().with_spec(&weeks(window("0 3 1 1 *")))), [missed]);
        assert!(validate(&new().with_spec(&weeks(window("0 3 * * SUN")))).is_ok());
        // The Instance's windows and the token's own windows have to be open at the same time.
        let world = new().with_instance(json!({"tokens": {"windows": window("0 3 * * SAT")}}));
        assert!(validate(&world).is_ok());
        let own = |cron: &str| json!({"rotation": {"windows": window(cron)}});
        assert!(validate(&world.clone().with_spec(&own("0 3 * * *"))).is_ok());
        assert_eq!(faults(&world.with_spec(&own("0 9 * * SAT"))), [missed]);
        let wrong = new().with_instance(json!({"tokens": {"windows": window("0 3 30 2 *")}}));
        assert_eq!(faults(&wrong), ["InstanceInvalid spec.instanceRef"]);
    }

    #[test]
    fn a_default_overlap_is_over_before_the_next_moment_of_a_calendar() {
        let overlap = |cron: &str| {
            let spec = json!({"rotation": {"schedule": {"cron": cron}}});
            validate(&new().with_spec(&spec)).unwrap().life.overlap
        };
        assert_eq!(overlap("0 * * * *"), SignedDuration::from_mins(57));
        assert_eq!(overlap("0 3 * * SUN"), SignedDuration::from_hours(24));
    }

    #[test]
    fn whether_a_rotation_is_valid_does_not_depend_on_the_time() {
        let window = json!([{"cron": "0 */6 * * *", "duration": "1h"}]);
        for (lifetime, schedule, windows) in [
            ("1d", json!({"every": "20h"}), window),
            ("90d", json!({"cron": "0 3 1 1,2 *"}), Value::Null),
            ("30d", json!({"cron": "0 1,2 * * *"}), json!([{"cron": "0 9 1 * *", "duration": "4h"}])),
        ] {
            let rotation = json!({"schedule": schedule, "windows": windows});
            let world = new().with_spec(&json!({"expiry": {"after": lifetime}, "rotation": rotation}));
            let first = validate(&world);
            for days in 1..60 {
                assert_eq!(validate(&world.clone().later(days * (DAY + 3 * HOUR / 2))), first, "{schedule}");
            }
        }
    }

    #[test]
    fn an_overlap_can_break_two_rules() {
        let spec = json!({"expiry": {"after": "1d"}, "rotation": {"overlap": "8d"}});
        let both = ["OverlapExceeded spec.rotation.overlap", "Invalid spec.rotation.overlap"];
        assert_eq!(faults(&new().with_spec(&spec)), both);
    }

    #[test]
    fn all_faults_are_found_at_once_in_the_order_to_mend_them_in() {
        let spec = json!({
            "expiry": {"after": "400d"},
            "rotation": {"overlap": "9d", "schedule": {"every": "500d"}},
        });
        let world = new().with_spec(&spec).and(|world| {
            world.stored = [("ci".to_owned(), Held::Foreign)].into();
            world.account = Some(Arc::new(account()));
            world.labels = None;
        });
        let selector = json!({"from": "Selector", "selector": {}});
        let world = world.with_instance(json!({"tokens": {"namespaces": selector}}));
        assert_eq!(
            faults(&world),
            [
                "NamespaceNotAdmitted spec.instanceRef",
                "AccountForeign spec.serviceAccountRef",
                "SecretForeign spec.secret.name",
                "LifetimeExceeded spec.expiry.after",
                "Invalid spec.rotation.schedule.every",
                "OverlapExceeded spec.rotation.overlap",
            ]
        );
    }

    #[test]
    fn a_fault_says_what_to_do() {
        let message = |spec: Value| validate(&new().with_spec(&spec)).unwrap_err()[0].message.clone();
        assert_eq!(message(json!({"expiry": {"after": "1y"}})), RULE);
        assert_eq!(
            message(json!({"expiry": {"after": "8784h"}})),
            "must not be longer than the Instance's maximum, 365d"
        );
        assert_eq!(
            message(json!({"expiry": {"after": "36h"}, "rotation": {"schedule": {"every": "2d"}}})),
            "must be shorter than the lifetime, 36h"
        );
    }

    #[test]
    fn left_out_an_overlap_is_the_instances_or_lasts_until_the_next_rotation_may_be_due() {
        let overlap = |spec: Value| validate(&new().with_spec(&spec)).unwrap().life.overlap;
        let (hours, mins) = (SignedDuration::from_hours, SignedDuration::from_mins);
        assert_eq!(overlap(json!({})), hours(24));
        // A twentieth less than the interval, because jitter takes at most a twentieth.
        assert_eq!(
            overlap(json!({"expiry": {"after": "30h"}, "rotation": {"schedule": {"every": "5h"}}})),
            hours(5) - mins(15)
        );
        // No more than the rest of the value's lifetime at the time of the rotation.
        assert_eq!(overlap(json!({"expiry": {"after": "3h"}})), hours(1));
        assert_eq!(overlap(json!({"rotation": {"schedule": {"every": "5h"}}})), hours(5) - mins(15));
        let before = json!({"expiry": {"after": "8h"}, "rotation": {"schedule": {"beforeExpiry": "2h"}}});
        assert_eq!(overlap(before), hours(2));
        assert_eq!(overlap(json!({"rotation": {"overlap": "25h"}})), hours(25));
    }

    #[test]
    fn an_overlap_that_cannot_be_given_is_a_fault_with_the_figures() {
        let told = |spec: Value| {
            let world = new().with_instance(json!({"tokens": {"rotation": {"min": "1s"}}})).with_spec(&spec);
            validate(&world).err().map(|faults| faults[0].to_string())
        };
        let asks = |after: &str, overlap: &str| json!({"expiry": {"after": after}, "rotation": {"schedule": {"every": "38s"}, "overlap": overlap}});
        let text = "spec.rotation.overlap: an overlap of 30s is too long for a lifetime of 40s; give at most 20s, \
            half the lifetime";
        assert_eq!(told(asks("40s", "30s")).as_deref(), Some(text));
        assert_eq!(told(asks("40s", "20s")), None);
    }

    #[test]
    fn values_are_renewed_no_more_often_than_the_instance_allows_whatever_makes_for_it() {
        let faults = |min: Value, spec: Value| {
            let world = new().with_instance(json!({"tokens": {"rotation": {"min": min}}})).with_spec(&spec);
            let faults = validate(&world).err().unwrap_or_default();
            faults.iter().map(|fault| format!("{} {}", fault.reason, fault.path)).collect::<Vec<_>>()
        };
        let often = |path: &str| vec![format!("RotationTooFrequent spec.{path}")];
        let every = |every: &str| json!({"rotation": {"schedule": {"every": every}}});
        assert_eq!(faults(Value::Null, every("59s")), often("rotation.schedule.every"));
        assert_eq!(faults(json!("10m"), every("9m")), often("rotation.schedule.every"));
        assert_eq!(faults(json!("1s"), every("1s")), [""; 0]);
        let cron = json!({"rotation": {"schedule": {"cron": "*/5 * * * *"}}});
        assert_eq!(faults(json!("10m"), cron), often("rotation.schedule.cron"));
        let before = json!({"expiry": {"after": "1h"}, "rotation": {"schedule": {"beforeExpiry": "3570s"}}});
        assert_eq!(faults(Value::Null, before), often("rotation.schedule.beforeExpiry"));
        assert_eq!(
            faults(Value::Null, json!({"expiry": {"after": "60s"}})),
            often("expiry.after"),
            "after two thirds of the lifetime"
        );
        let overlap = json!({"expiry": {"after": "90s"}, "rotation": {"schedule": {"every": "80s"}, "overlap": "45s"}});
        assert_eq!(faults(Value::Null, overlap), often("rotation.overlap"), "45s before the expiry");
        let never = json!({"expiry": {"after": "10s"}, "rotation": {"schedule": {"never": true}}});
        assert_eq!(faults(Value::Null, never), [""; 0]);
        let strict = Arc::new(fixture::instance(json!({"tokens": {"rotation": {"min": "1h"}}})));
        let world =
            new().with_spec(&json!({"audiences": [{"name": "strict"}], "rotation": {"schedule": {"every": "30m"}}}));
        let world = world.and(|world| world.audiences = vec![Some(Ruled::new(strict))]);
        let fault = &validate(&world).unwrap_err()[0];
        let told = "spec.rotation.schedule.every: a value would be renewed every 30m, but the Instance's \
            tokens.rotation.min is 1h; rotate less often";
        assert_eq!(fault.to_string(), told, "the minimum of each audience counts");
    }

    #[test]
    fn a_lifetime_left_out_is_the_instances() {
        let world = new().with_instance(json!({"tokens": {"lifetime": {"default": "10d", "max": "20d"}}}));
        assert_eq!(validate(&world).unwrap().life.lifetime, Some(SignedDuration::from_hours(240)));
        assert_eq!(
            faults(&world.with_spec(&json!({"expiry": {"after": "21d"}}))),
            ["LifetimeExceeded spec.expiry.after"]
        );
    }
}
