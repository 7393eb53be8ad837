//! The labels on tokens that name their organizations. With them, `kubectl get apitokens --selector` lists the tokens
//! of an organization, because a field selector cannot search a list. The API server stamps the labels. A policy
//! refuses labels with their prefix for organizations that the token does not list.

use super::{
    AdmissionPolicy, Rule,
    cel::{TOKEN, named},
};
use crate::crd::{
    api_token::MAX_ORGANIZATIONS,
    name::{MOST_MARKS, ORGANIZATION},
};

/// Maximum number of labels that a policy loops over. The cost of such a loop grows with the square of the number. The
/// policy on metadata allows fewer labels, but older objects can have more.
const LOOPED: usize = 2 * MOST_MARKS;

/// CEL: the organizations that the token lists and that can be the name of a label. The schema is checked after the
/// stamps, so the fields may still have other types here.
fn wanted() -> String {
    let organizations = "object.spec.?organizations.orValue(null)";
    let listed = "object.spec.organizations.?listed.orValue(null)";
    format!(
        "{TOKEN} && type({organizations}) == map && type({listed}) == list && size({listed}) <= {MAX_ORGANIZATIONS} \
         ? {listed}.filter(o, type(o) == string && o.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$')) : []"
    )
}

/// The variables of the stamps.
pub(super) fn variables() -> Vec<(String, String)> {
    named([("organizations", wanted())])
}

/// CEL: the stamps, as JSON patches. They add the labels of the listed organizations, and remove older labels of other
/// organizations. A new label of another organization stays, so that the policy refuses the request.
pub(super) fn mutations() -> [String; 2] {
    let labels = "object.metadata.?labels";
    let path = |key: &str| format!("'/metadata/labels/' + jsonpatch.escapeKey({key})");
    let key = format!("'{ORGANIZATION}' + o");
    let added = format!(
        "(size(variables.organizations) == 0 || has(object.metadata.labels) ? [] \
         : [JSONPatch{{op: 'add', path: '/metadata/labels', value: {{}}}}]) + \
         variables.organizations.filter(o, {labels}[?{key}] != optional.of(''))\
         .map(o, JSONPatch{{op: 'add', path: {}, value: ''}})",
        path(&key)
    );
    let before = "oldObject.metadata.?labels.orValue({})";
    let removed = format!(
        "{TOKEN} && oldObject != null && size({before}) <= {LOOPED} ? {before}\
         .filter(k, k.startsWith('{ORGANIZATION}') && {labels}[?k].hasValue() && \
         !(k.substring({}) in variables.organizations)).map(k, JSONPatch{{op: 'remove', path: {}}}) : []",
        ORGANIZATION.len(),
        path("k")
    );
    [added, removed]
}

/// The policy on the labels. It does not require them, because some API servers do not stamp. It applies to all users
/// that are not exempt, also to updates that other policies ignore.
pub(crate) fn policy() -> AdmissionPolicy {
    let variables = named([
        ("labels", "object.metadata.?labels.orValue({})".into()),
        ("listed", "object.spec.?organizations.?listed.orValue([])".into()),
        (
            "same",
            "oldObject != null && object.metadata.?labels == oldObject.metadata.?labels && \
             object.spec.?organizations == oldObject.spec.?organizations"
                .into(),
        ),
        ("few", format!("size(variables.labels) <= {LOOPED}")),
        (
            "forged",
            format!(
                "variables.same || !variables.few ? [] : variables.labels.filter(k, k.startsWith('{ORGANIZATION}') && \
                 !(variables.labels[k] == '' && k.substring({}) in variables.listed))",
                ORGANIZATION.len()
            ),
        ),
    ]);
    AdmissionPolicy {
        name: "organizations",
        resources: &["apitokens"],
        operations: &["CREATE", "UPDATE"],
        variables,
        rules: vec![
            Rule::new(
                "size(variables.forged) == 0",
                "'metadata.labels: remove ' + variables.forged[0] + '; such a label has an empty value, and names an \
                 organization in spec.organizations.listed'",
            ),
            Rule::new(
                "variables.same || variables.few",
                format!(
                    "'metadata.labels: more than {LOOPED} of them; remove some, or change neither them nor \
                     spec.organizations'"
                ),
            ),
        ],
    }
}

/// CEL: the number of labels in the `labels` of an `object` that name its organizations.
pub(super) fn count(object: &str, labels: &str) -> String {
    format!(
        "({TOKEN} ? size({object}.spec.?organizations.?listed.orValue([])\
         .filter(o, {labels}[?'{ORGANIZATION}' + o].hasValue())) : 0)"
    )
}
