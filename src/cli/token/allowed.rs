//! The faults of a token that its Instance proves, before the token is written.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use crate::{
    access::Rules,
    cli::{Error, connection::Workplace},
    controller::{
        manifests::{Manifest, Manifests},
        policy::missing_policies,
    },
    crd::{AccessPolicy, ApiToken, Fault, Instance, InstanceRef, name::ObjectName},
    outside::{Refusal, Why},
};

/// The field whose faults depend on more than the Instance: on accounts, groups and the stamp of the API server.
const OWNER: &str = "spec.owner";

/// The fields of a token, each with the flag of `create` that sets it.
const FLAGS: [(&str, &str); 7] = [
    ("spec.role", "--role"),
    ("spec.expiry", "--expires"),
    ("spec.description", "--description"),
    ("spec.organizations", "--organization"),
    ("spec.projects", "--project"),
    ("spec.policies", "--policy"),
    ("spec.secret.delivery", "--once"),
];

/// Succeeds if `instance` allows a new token.
///
/// # Errors
/// The Instance forbids a field, and the text names the values that it allows. Or a policy does not exist.
pub(super) async fn check(
    place: &Workplace,
    instance: &Instance,
    token: &ApiToken,
    now: Timestamp,
) -> Result<(), Error> {
    let mut faults = faults(instance, token, now);
    faults.iter_mut().for_each(|fault| fault.path = with_flag(&fault.path).into());
    refuse(instance, &faults, "created")?;
    check_policies(place, instance, &token.spec.policies, "created").await
}

/// The path of a field, with the flag of `create` that sets it.
fn with_flag(path: &str) -> String {
    let is_below = |field: &str| path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let flag = FLAGS.iter().find(|(field, _)| is_below(field));
    flag.map_or_else(|| path.to_owned(), |(_, flag)| format!("{path} ({flag})"))
}

/// Succeeds if the Instance has each of these policies, or if the user may not read them.
async fn check_policies(place: &Workplace, instance: &Instance, named: &[ObjectName], deed: &str) -> Result<(), Error> {
    let home = instance.namespace().unwrap_or_default();
    let mut existing = Vec::new();
    for name in named {
        match place.desk.find::<AccessPolicy>(&home, name.as_str()).await {
            Ok(Some(policy)) if policy.spec.instance_ref.name.as_str() != instance.name_any() => {}
            Ok(None) => {}
            Ok(Some(_)) | Err(Refusal { why: Why::Forbidden(_), .. }) => existing.push(name),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let missing: Vec<_> = missing_policies(instance, named, |name| existing.contains(&name)).collect();
    let refused = || Error::Missing(format!("nothing was {deed}: {}", told(&missing)));
    if missing.is_empty() { Ok(()) } else { Err(refused()) }
}

/// The Instance that `reference` of an object in the command's namespace names. `None`: it does not exist, or the user
/// may not read it.
///
/// # Errors
/// The API server does not answer.
pub(super) async fn instance_of(place: &Workplace, reference: &InstanceRef) -> Result<Option<Instance>, Error> {
    permitted(place.desk.find(reference.namespace_or(&place.namespace), reference.name.as_str()).await)
}

/// A found object. `None`: it does not exist, or the user may not read it.
///
/// # Errors
/// The API server does not answer.
pub(super) fn permitted<T>(found: Result<Option<T>, Refusal>) -> Result<Option<T>, Error> {
    match found {
        Err(Refusal { why: Why::Forbidden(_), .. }) => Ok(None),
        found => Ok(found?),
    }
}

/// Succeeds if `instance`, that of `token`, allows this change of its spec. An unknown Instance allows each change.
///
/// # Errors
/// The Instance forbids a changed field, or the API server does not answer.
pub(super) async fn check_change(
    place: &Workplace,
    instance: Option<&Instance>,
    token: &ApiToken,
    spec: &Value,
    now: Timestamp,
) -> Result<(), Error> {
    let (Some(instance), Some(changed)) = (instance, changed(token, spec)) else { return Ok(()) };
    if let Some(owner) = spec["owner"].as_str() {
        check_owner(instance, owner)?;
    }
    let before = faults(instance, token, now);
    let is_of_change = |fault: &Fault| {
        let fields = spec.as_object().into_iter().flat_map(|fields| fields.keys());
        { fields }.any(|field| fault.path.starts_with(&format!("spec.{field}")))
    };
    let is_new = |fault: &Fault| is_of_change(fault) || !before.contains(fault);
    let new: Vec<_> = faults(instance, &changed, now).into_iter().filter(is_new).collect();
    refuse(instance, &new, "changed")?;
    let policies = if spec["policies"].is_null() { &[] } else { &changed.spec.policies[..] };
    check_policies(place, instance, policies, "changed").await
}

/// Succeeds unless tokens of this owner are refused. Such a token may end for good at once.
fn check_owner(instance: &Instance, owner: &str) -> Result<(), Error> {
    match Rules::of(instance) {
        Ok(rules) if rules.refuses_owner(owner) => Err(Error::Usage(format!(
            "nothing was changed: {owner} holds no role in Instance {}, so the token would be refused, and may end for \
             good (spec.onOwnerRemoved); first add {owner} to spec.members of that Instance",
            instance.name_any()
        ))),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn refuse(instance: &Instance, faults: &[Fault], deed: &str) -> Result<(), Error> {
    let refused = || format!("Instance {} forbids it; nothing was {deed}: {}", instance.name_any(), told(faults));
    if faults.is_empty() { Ok(()) } else { Err(Error::Usage(refused())) }
}

/// The faults in one line.
fn told(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect::<Vec<_>>().join("; ")
}

/// The faults of a token that its Instance alone proves.
fn faults(instance: &Instance, token: &ApiToken, now: Timestamp) -> Vec<Fault> {
    let mut manifests = Manifests::default();
    manifests.add(&Manifest::Instance(Arc::new(instance.clone())));
    let mut faults = manifests.examine(&Manifest::Token(Arc::new(token.clone())), now).faults;
    faults.retain(|fault| fault.path != OWNER);
    faults
}

/// The token with these fields in its spec. A null removes a field. `None` if that is no token.
pub(super) fn changed(token: &ApiToken, spec: &Value) -> Option<ApiToken> {
    let mut changed = serde_json::to_value(token).ok()?;
    for (name, value) in spec.as_object()? {
        changed["spec"][name] = value.clone();
    }
    serde_json::from_value(changed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> K {
        let metadata = json!({"name": name, "namespace": "a", "uid": "u"});
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn no_token_is_given_to_somebody_whose_tokens_are_refused() {
        let of = |spec: Value| -> Instance {
            let mut all = json!({"ceiling": "Members", "members": [{"subject": "user:alice", "role": "viewer"}]});
            all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            object("Instance", "eem", all)
        };
        let with = |subject: &str| json!({"members": [{"subject": subject, "role": "viewer"}]});
        let cases = [
            (json!({}), "user:alice", true),
            (json!({}), "user:carol", false),
            (json!({}), "account:a/b", true),
            (json!({"formerOwners": ["user:alice"]}), "user:alice", false),
            (json!({"ceiling": "None", "members": []}), "user:carol", true),
            (with("group:staff"), "user:carol", true),
            (with("team:x"), "team:x", true),
            (with("team:x"), "user:carol", false),
        ];
        for (spec, owner, is_allowed) in cases {
            let told = check_owner(&of(spec.clone()), owner).map_err(|error| error.to_string());
            assert_eq!(told.is_ok(), is_allowed, "{spec} {owner}: {told:?}");
            assert!(told.err().is_none_or(|told| told.contains(owner) && told.contains("spec.members")));
        }
    }

    #[test]
    fn a_fault_of_a_new_token_names_the_flag_that_sets_its_field() {
        assert_eq!(with_flag("spec.expiry.never"), "spec.expiry.never (--expires)");
        assert_eq!(with_flag("spec.organizations"), "spec.organizations (--organization)");
        assert_eq!((&*with_flag("spec.roles"), &*with_flag("spec.rotation")), ("spec.roles", "spec.rotation"));
    }

    #[test]
    fn a_fault_says_what_the_instance_allows_and_an_owner_is_left_to_the_cluster() {
        let instance: Instance = object(
            "Instance",
            "eem",
            json!({"tokens": {"lifetime": {"max": "90d"}, "requireDescription": true}, "ceiling": "Members"}),
        );
        let of = |more: Value| -> ApiToken {
            let mut spec = json!({"instanceRef": {"name": "eem"}, "description": "d", "owner": "account:a/b"});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            object("ApiToken", "ci", spec)
        };
        let now = "2027-01-01T00:00:00Z".parse().unwrap();
        let told = |more: Value| {
            let faults = faults(&instance, &of(more), now);
            refuse(&instance, &faults, "created").map_err(|error| error.to_string())
        };
        assert_eq!(told(json!({})), Ok(()));
        let role = told(json!({"role": "root"})).unwrap_err();
        assert_eq!(
            role,
            "Instance eem forbids it; nothing was created: spec.role: the Instance has no role root; give one of \
             viewer, contributor, admin"
        );
        assert!(told(json!({"expiry": {"after": "91d"}})).unwrap_err().contains("the Instance's maximum, 90d"));
        assert!(told(json!({"expiry": {"never": true}})).unwrap_err().contains("forbids tokens that never expire"));
        assert!(told(json!({"description": null})).unwrap_err().contains("spec.description: "));
        let cleared = changed(&of(json!({"role": "root"})), &json!({"role": null})).unwrap();
        assert_eq!((cleared.spec.role, cleared.spec.description.as_deref()), (None, Some("d")));
    }
}
