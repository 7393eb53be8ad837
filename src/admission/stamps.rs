//! What the API server stamps on a token: its owner, who made it, and the groups of the owner.

use serde_json::{Value, json};

use super::{
    Options,
    cel::{STAMP, me, relabelled},
};
use crate::crd::name;

/// Whether the requester can be written as an owner: a user name may hold anything.
const CAN_OWN: &str = "variables.me.matches('^(user:[!-~]{1,253}|serviceaccount:[-a-z0-9]+/[-a-z0-9.]+)$')";

/// The policy and its binding.
pub fn objects(options: &Options, conditions: &[Value]) -> Vec<Value> {
    let (made, groups) = (name::CREATED_BY, name::OWNER_GROUPS);
    let annotation = |object: &str, key: &str| format!("{object}.metadata.?annotations[?'{key}']");
    // Patches, not configurations: these would refuse an object with a field that the definition does not know.
    let annotated = |key: &str, value: &str| {
        format!(
            "(has(object.metadata.annotations) ? [] : [JSONPatch{{op: 'add', path: '/metadata/annotations', value: {{}}}}]) \
             + [JSONPatch{{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('{key}'), value: {value}}}]"
        )
    };
    let owned = |by: &str| format!("[JSONPatch{{op: 'add', path: '/spec/owner', value: {by}}}]");
    let owner = format!(
        "has(object.spec.owner) ? [] : oldObject == null ? ({CAN_OWN} ? {} : []) : has(oldObject.spec.owner) ? {} : []",
        owned("variables.me"),
        owned("oldObject.spec.owner")
    );
    let kept =
        |key: &str| format!("{}.hasValue() && !{}.hasValue()", annotation("oldObject", key), annotation("object", key));
    let by = format!(
        "oldObject == null ? {} : ({}) ? {} : []",
        annotated(made, "variables.me"),
        kept(made),
        annotated(made, &format!("{}.orValue('')", annotation("oldObject", made)))
    );
    // Whoever applies the same again changes nothing, also where it leaves out what was stamped.
    let touched = format!("(oldObject == null || object.spec != oldObject.spec || {})", relabelled(&[groups]));
    let same_owner = "oldObject != null && oldObject.spec.?owner == object.spec.?owner";
    let stamped = format!(
        "object.spec.?owner.orValue('') == variables.me && {touched} ? {} : ({same_owner} && {}) ? {} : []",
        annotated(groups, STAMP),
        kept(groups),
        annotated(groups, &format!("{}.orValue('')", annotation("oldObject", groups)))
    );
    let gone = format!(
        "oldObject != null && !({same_owner}) && object.spec.?owner.orValue('') != variables.me && {}.hasValue() \
         ? [JSONPatch{{op: 'remove', path: '/metadata/annotations/' + jsonpatch.escapeKey('{groups}')}}] : []",
        annotation("object", groups)
    );
    let variables: Vec<_> =
        me().into_iter().map(|(name, expression)| json!({"name": name, "expression": expression})).collect();
    let rule = json!({
        "apiGroups": [crate::crd::GROUP], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["apitokens"],
    });
    let patch = |expression: String| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    let mutations = [owner, by, stamped, gone].map(patch);
    let name = format!("{}-stamps", options.name);
    vec![
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": [rule]}, "matchConditions": conditions, "variables": variables,
                "mutations": mutations,
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "matchResources": {"namespaceSelector": options.namespaces}},
        }),
    ]
}
