//! What the API server stamps on a token: its owner, who made it, and the groups of the owner; on an account the first
//! two.

use serde_json::{Value, json};

use super::{
    Options,
    cel::{can_own, me, relabelled, stamp},
};
use crate::crd::name;

/// Whether it is a token: groups lend what they hold to tokens alone.
const TOKEN: &str = "request.resource.resource == 'apitokens'";

/// The policy and its binding.
pub(crate) fn objects(options: &Options, conditions: &[Value]) -> [Value; 2] {
    let (made, groups) = (name::CREATED_BY, name::OWNER_GROUPS);
    let annotation = |object: &str, key: &str| format!("{object}.metadata.?annotations[?'{key}']");
    let owned = |by: &str| format!("[JSONPatch{{op: 'add', path: '/spec/owner', value: {by}}}]");
    let owner = format!(
        "has(object.spec.owner) ? [] : oldObject == null ? ({} ? {} : []) : has(oldObject.spec.owner) ? {} : []",
        can_own(),
        owned("variables.me"),
        owned("oldObject.spec.owner")
    );
    let kept =
        |key: &str| format!("{}.hasValue() && !{}.hasValue()", annotation("oldObject", key), annotation("object", key));
    let by = format!(
        "oldObject == null ? ({} ? {} : []) : ({}) ? {} : []",
        can_own(),
        annotated(made, "variables.me"),
        kept(made),
        annotated(made, &format!("{}.orValue('')", annotation("oldObject", made)))
    );
    // Whoever applies the same again changes nothing, also where it leaves out what was stamped.
    let touched = format!("(oldObject == null || object.spec != oldObject.spec || {})", relabelled(&[groups]));
    let same_owner = "oldObject != null && oldObject.spec.?owner == object.spec.?owner";
    let stamped = format!(
        "{TOKEN} && object.spec.?owner.orValue('') == variables.me && {touched} ? {} : ({TOKEN} && {same_owner} && {}) ? {} : []",
        annotated(groups, &stamp()),
        kept(groups),
        annotated(groups, &format!("{}.orValue('')", annotation("oldObject", groups)))
    );
    let gone = format!(
        "!({same_owner}) && object.spec.?owner.orValue('') != variables.me && {}.hasValue() \
         ? [JSONPatch{{op: 'remove', path: '/metadata/annotations/' + jsonpatch.escapeKey('{groups}')}}] : []",
        annotation("object", groups)
    );
    let variables: Vec<_> =
        me().into_iter().map(|(name, expression)| json!({"name": name, "expression": expression})).collect();
    let rule = json!({
        "apiGroups": [crate::crd::GROUP], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
        "resources": ["apitokens", "serviceaccounts"],
    });
    let mutations = [owner, by, stamped, gone].map(|expression| patch(&expression));
    let spec = json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": conditions, "variables": variables, "mutations": mutations,
    });
    bound(&format!("{}-stamps", options.name), &spec, &options.namespaces)
}

/// A policy that marks an account which is only tried to be made. It is held up as stamps are: the server mutates no
/// kind that is not on its list yet, and answers 503 (apiserver, admission/plugin/policy/mutating). So the operator,
/// which is exempt from stamps, knows when others can make tokens, and by the mark whether anything stamps them. It
/// holds for any user: an operator that runs outside of the cluster has another name.
pub(crate) fn rehearsed(options: &Options) -> [Value; 2] {
    let rule = json!({
        "apiGroups": [crate::crd::GROUP], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["serviceaccounts"],
    });
    let rehearsal = format!("request.dryRun && object.metadata.?generateName.orValue('') == '{}'", name::REHEARSAL);
    let spec = json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [{"name": "rehearsed", "expression": rehearsal}],
        "mutations": [patch(&annotated(name::REHEARSED, "'true'"))],
    });
    bound(&format!("{}-rehearsed", options.name), &spec, &json!({}))
}

/// Adds an annotation. Patches, not configurations: these would refuse an object with a field that the definition does
/// not know.
fn annotated(key: &str, value: &str) -> String {
    format!(
        "(has(object.metadata.annotations) ? [] : [JSONPatch{{op: 'add', path: '/metadata/annotations', value: {{}}}}]) \
         + [JSONPatch{{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('{key}'), value: {value}}}]"
    )
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

/// A policy and its binding to namespaces.
fn bound(name: &str, spec: &Value, namespaces: &Value) -> [Value; 2] {
    let version = "admissionregistration.k8s.io/v1";
    [
        json!({"apiVersion": version, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec}),
        json!({
            "apiVersion": version, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "matchResources": {"namespaceSelector": namespaces}},
        }),
    ]
}
