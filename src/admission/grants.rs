//! The admission policies on Roles and RoleBindings.
//!
//! RBAC lets the operator grant each right that it holds itself. The first policy leaves the rights that follow from
//! members and owners. The second keeps the names of the operator's Roles from other users.

use serde_json::{Value, json};

use super::{
    AdmissionPolicy, Options, Rule,
    cel::{named, quoted},
};
use crate::crd::name;

/// The API group of Roles and RoleBindings.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// The match condition for writes of the operator.
pub(crate) fn of_operator(options: &Options) -> Vec<Value> {
    let operator = quoted(&options.operator);
    vec![json!({"name": "operator", "expression": format!("request.userInfo.username == {operator}")})]
}

/// The policy that the operator writes no other Roles and RoleBindings than those that follow from objects of Tokenry.
pub(crate) fn policy() -> AdmissionPolicy {
    AdmissionPolicy {
        name: "grants",
        resources: &["roles", "rolebindings"],
        operations: &["CREATE", "UPDATE", "DELETE"],
        variables: named([
            ("ours", ours("object")),
            ("wasOurs", ours("oldObject")),
            ("rules", rules()),
            ("owners", OWNERS.to_owned()),
        ]),
        rules: vec![
            Rule::new(
                "variables.wasOurs",
                "'metadata.labels: the operator of Tokenry changes and deletes only objects that it has made'",
            ),
            Rule::new(
                format!("variables.ours && {OWNED}"),
                "'metadata.labels: the operator of Tokenry labels its objects and names their owner'",
            ),
            Rule::new(
                "request.resource.resource != 'roles' || variables.rules",
                "'rules: the operator of Tokenry grants assign on roles and use on serviceaccounts of tokenry.dev, and get on \
                 secrets, each by name, and nothing else'",
            ),
            Rule::new(
                format!("request.resource.resource != 'roles' || object == null || {FOLLOWING}"),
                "'rules: the operator of Tokenry grants only rights on the owner that metadata.ownerReferences names'",
            ),
            Rule::new(
                format!("request.resource.resource != 'rolebindings' || object == null || {BOUND}"),
                "'roleRef: the operator of Tokenry binds the Role of the same name, and nothing else'",
            ),
        ],
    }
}

/// The policy that only the operator creates Roles with its names, and RoleBindings to them. A RoleBinding that
/// somebody prepares would get the rights of the Role that the operator writes later.
pub(crate) fn reserved() -> AdmissionPolicy {
    let prefix = quoted(name::GRANTED);
    AdmissionPolicy {
        name: "granted",
        resources: &["roles", "rolebindings"],
        operations: &["CREATE", "UPDATE"],
        variables: Vec::new(),
        rules: vec![
            Rule::new(
                format!(
                    "request.resource.resource != 'roles' || oldObject != null || !object.metadata.name.startsWith({prefix})"
                ),
                format!(
                    "'metadata.name: only the operator of Tokenry creates Roles whose names begin with {}; use another name'",
                    name::GRANTED
                ),
            ),
            // An update of the metadata alone gives no right. The API server lets nobody change `roleRef`.
            Rule::new(
                format!(
                    "request.resource.resource != 'rolebindings' || object.roleRef.kind != 'Role' || \
                     !object.roleRef.name.startsWith({prefix}) || \
                     (oldObject != null && object.?subjects.orValue([]) == oldObject.?subjects.orValue([]))"
                ),
                format!(
                    "'roleRef: only the operator of Tokenry binds Roles whose names begin with {}; bind another Role'",
                    name::GRANTED
                ),
            ),
        ],
    }
}

/// CEL: true if there is no such object, or if it has the name and the labels of an object that the operator creates.
fn ours(object: &str) -> String {
    let label = |key: &str| format!("{object}.metadata.?labels[?{}].orValue('')", quoted(key));
    format!(
        "{object} == null || ({object}.metadata.name.startsWith({}) && {} == {} && {} != '')",
        quoted(name::GRANTED),
        label(name::MANAGED_BY),
        quoted(name::MANAGER),
        label(name::OWNER_UID)
    )
}

/// CEL: the owner references of tokenry.dev by whose uid the object is labelled.
const OWNERS: &str = "object == null ? [] : object.metadata.?ownerReferences.orValue([]).filter(o, \
    o.apiVersion.startsWith('tokenry.dev/') && \
    o.uid == object.metadata.?labels[?'tokenry.dev/owner-uid'].orValue(''))";

/// CEL: true if a new or changed object has an owner of tokenry.dev, by whose uid it is labelled. The label does not
/// change.
const OWNED: &str = "(object == null || (size(variables.owners) > 0 && (oldObject == null || \
    object.metadata.labels['tokenry.dev/owner-uid'] == oldObject.metadata.?labels[?'tokenry.dev/owner-uid'].orValue(''))))";

/// CEL: true if each rule of a Role is about its owner: the roles of an Instance, an account, or Secrets of a token.
const FOLLOWING: &str = "variables.owners.exists(o, object.?rules.orValue([]).all(r, \
    o.kind == 'Instance' ? r.verbs == ['assign'] && r.?resourceNames.orValue([]).all(n, n.startsWith(o.name + ':')) : \
    o.kind == 'ServiceAccount' ? r.verbs == ['use'] && r.?resourceNames.orValue([]) == [o.name] : \
    o.kind == 'ApiToken' && r.verbs == ['get']))";

/// CEL: true if a RoleBinding leads to the Role of its own name, without the number of a further RoleBinding.
const BOUND: &str = "(object.roleRef.apiGroup == 'rbac.authorization.k8s.io' && object.roleRef.kind == 'Role' && \
    (object.roleRef.name == object.metadata.name || (object.metadata.name.startsWith(object.roleRef.name + ':') && \
    object.metadata.name.substring(size(object.roleRef.name)).matches('^:[0-9]{1,2}$'))))";

/// CEL: true if each rule of a Role is one of those that follow from members and owners. Each rule lists names: without
/// names it would grant the verb on all objects.
fn rules() -> String {
    let rule = |(group, resource, verb): (&str, &str, &str)| {
        format!(
            "(r.?apiGroups.orValue([]) == ['{group}'] && r.?resources.orValue([]) == ['{resource}'] && r.verbs == ['{verb}'])"
        )
    };
    let granted =
        [("tokenry.dev", "roles", "assign"), ("tokenry.dev", "serviceaccounts", "use"), ("", "secrets", "get")];
    format!(
        "request.resource.resource != 'roles' || object == null || object.?rules.orValue([]).all(r, \
         size(r.?resourceNames.orValue([])) > 0 && r.resourceNames.all(n, n != '') && ({}))",
        granted.map(rule).join(" || ")
    )
}
