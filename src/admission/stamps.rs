//! The stamps that the API server sets. A token gets its owner, its creator, the groups of its owner, labels for its
//! organizations, and the requester that revoked it. An account gets its owner and its creator.

use serde_json::{Value, json};

use super::{
    Options,
    cel::{BECOMES_REVOKED, TOKEN, can_own, me, relabelled, stamp},
    marks,
};
use crate::crd::name;

/// The stamping policy and its binding.
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
    // If a manifest without the stamps is applied again, the stamps are kept and nothing changes.
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
    let variables = me().into_iter().chain(marks::variables());
    let variables: Vec<_> =
        variables.map(|(name, expression)| json!({"name": name, "expression": expression})).collect();
    let rule = json!({
        "apiGroups": [crate::crd::GROUP], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
        "resources": ["apitokens", "serviceaccounts"],
    });
    let mutations = [owner, by, revoked(), stamped, gone].into_iter().chain(marks::mutations());
    let mutations: Vec<_> = mutations.map(|expression| patch(&expression)).collect();
    let spec = json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": conditions, "variables": variables, "mutations": mutations,
    });
    bound(&format!("{}-stamps", options.name), &spec, &options.namespaces)
}

/// CEL: JSON patches for the requester that revokes the token. Other updates that lack the stamp keep it.
fn revoked() -> String {
    let (key, by) =
        (name::REVOKED_BY, |object: &str| format!("{object}.metadata.?annotations[?'{}']", name::REVOKED_BY));
    let (new, old) = (by("object"), by("oldObject"));
    format!(
        "{TOKEN} && {BECOMES_REVOKED} && {} ? {} \
         : ({TOKEN} && !{BECOMES_REVOKED} && oldObject != null && {old}.hasValue() && !{new}.hasValue()) ? {} : []",
        can_own(),
        annotated(key, "variables.me"),
        annotated(key, &format!("{old}.orValue('')"))
    )
}

/// The policy that marks rehearsals, and its binding. A rehearsal is the creation of an account as a dry run, by the
/// operator.
///
/// The API server cannot mutate a kind that is not yet in its own list of kinds, and answers 503 (apiserver,
/// admission/plugin/policy/mutating). The operator itself is exempt from stamps. So it needs the rehearsal to learn
/// when users can create tokens. The mark shows that the stamping policies are installed. The policy applies to all
/// users, because an operator outside of the cluster has another user name.
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

/// CEL: JSON patches that add an annotation. Apply configurations are not used, because they reject an object with a
/// field that its definition does not have.
fn annotated(key: &str, value: &str) -> String {
    format!(
        "(has(object.metadata.annotations) ? [] : [JSONPatch{{op: 'add', path: '/metadata/annotations', value: {{}}}}]) \
         + [JSONPatch{{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('{key}'), value: {value}}}]"
    )
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

/// A policy and its binding to the namespaces that the selector matches.
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
