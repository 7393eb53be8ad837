//! The faults of a token that its Instance proves, before the token is written.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use crate::{
    cli::{Error, connection::Workplace},
    controller::manifests::{Manifest, Manifests},
    crd::{ApiToken, Fault, Instance},
    outside::{Refusal, Why},
};

/// The field whose faults depend on more than the Instance: on accounts, groups and the stamp of the API server.
const OWNER: &str = "spec.owner";

/// Succeeds if `instance` allows a new token.
///
/// # Errors
/// The Instance forbids a field. The text names the values that it allows.
pub(super) fn check(instance: &Instance, token: &ApiToken, now: Timestamp) -> Result<(), Error> {
    refuse(instance, &faults(instance, token, now), "created")
}

/// Succeeds if the Instance of `token` allows this change of its spec, or if the user may not read the Instance.
///
/// # Errors
/// The Instance forbids a changed field, or the API server does not answer.
pub(super) async fn check_change(
    place: &Workplace,
    token: &ApiToken,
    spec: &Value,
    now: Timestamp,
) -> Result<(), Error> {
    let reference = &token.spec.instance_ref;
    let found = place.desk.find(reference.namespace_or(&place.namespace), reference.name.as_str()).await;
    let instance: Instance = match found {
        Ok(Some(instance)) => instance,
        Ok(None) | Err(Refusal { why: Why::Forbidden(_), .. }) => return Ok(()),
        Err(refusal) => return Err(refusal.into()),
    };
    let Some(changed) = changed(token, spec) else { return Ok(()) };
    let before = faults(&instance, token, now);
    let is_of_change = |fault: &Fault| {
        let fields = spec.as_object().into_iter().flat_map(|fields| fields.keys());
        { fields }.any(|field| fault.path.starts_with(&format!("spec.{field}")))
    };
    let is_new = |fault: &Fault| is_of_change(fault) || !before.contains(fault);
    let new: Vec<_> = faults(&instance, &changed, now).into_iter().filter(is_new).collect();
    refuse(&instance, &new, "changed")
}

fn refuse(instance: &Instance, faults: &[Fault], deed: &str) -> Result<(), Error> {
    let told: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    let refused = || format!("Instance {} forbids it; nothing was {deed}: {}", instance.name_any(), told.join("; "));
    if faults.is_empty() { Ok(()) } else { Err(Error::Usage(refused())) }
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
fn changed(token: &ApiToken, spec: &Value) -> Option<ApiToken> {
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
        let told = |more: Value| check(&instance, &of(more), now).map_err(|error| error.to_string());
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
