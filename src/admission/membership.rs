//! The admission policy on the policies that tokens and accounts name themselves. Each name needs a permission check.
//! The API server limits the cost of all checks of one policy, so this is a policy of its own.

use super::{
    AdmissionPolicy, Rule,
    cel::{Grant, may, me, named},
};
use crate::crd::api_token::MAX_POLICIES;

/// The policy on `spec.policies`. A new name makes the object a member. A removed name can end a statement that denies.
/// Both changes need the permission to assign the policy, in the namespace of the Instance.
pub(crate) fn policy() -> AdmissionPolicy {
    let mut variables = me();
    variables.extend(named([
        ("home", "object.spec.instanceRef.?namespace.orValue(request.namespace)".to_owned()),
        ("instance", "object.spec.instanceRef.name".into()),
        ("new", "object.spec.?policies.orValue([])".into()),
        ("old", "oldObject == null ? [] : oldObject.spec.?policies.orValue([])".into()),
    ]));
    let sides = [("new", "old"), ("old", "new")];
    let all = sides.into_iter().flat_map(|(side, other)| (0..MAX_POLICIES).map(move |index| (side, other, index)));
    let mut rules = vec![Rule::new(
        format!("size(variables.old) <= {MAX_POLICIES} && size(variables.new) <= {MAX_POLICIES}"),
        format!("'spec.policies: at most {MAX_POLICIES} of them'"),
    )];
    for (side, other, index) in all {
        let (it, name) = (format!("{side}{index}"), name(side, index));
        variables.push((it.clone(), assigned(side, other, index)));
        let grant =
            Grant { verb: "assign", resource: "policies", name: &format!("({name})"), namespace: "variables.home" };
        rules.push(Rule::new(format!("variables.{it}"), grant.lacks("spec.policies")));
    }
    AdmissionPolicy {
        name: "membership",
        resources: &["apitokens", "serviceaccounts"],
        operations: &["CREATE", "UPDATE"],
        variables,
        rules,
    }
}

/// CEL: the name of a policy for permission checks, as `INSTANCE:POLICY`.
fn name(side: &str, index: usize) -> String {
    format!("variables.instance + ':' + variables.{side}[{index}]")
}

/// CEL: true if the name at this index is on the other side too, or the requester may assign it.
fn assigned(side: &str, other: &str, index: usize) -> String {
    let right = may("assign", "policies", "variables.home", &name(side, index));
    format!("size(variables.{side}) <= {index} || variables.{side}[{index}] in variables.{other} || {right}")
}
