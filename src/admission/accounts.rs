//! The admission policy on ServiceAccounts of tokenry.dev.

use super::{
    AdmissionPolicy, Rule,
    cel::{Grant, can_own, may, named, owners, widened},
};
use crate::crd::name;

/// The policy on creation, change and deletion of accounts, and on their roles. `require_owner` is passed to [`owned`].
pub(crate) fn policy(require_owner: &str) -> AdmissionPolicy {
    let home = "object.spec.instanceRef.?namespace.orValue(request.namespace)";
    // An account without an owner can be changed by every user with permission to use this account.
    let mut variables = owners(&may("use", "serviceaccounts", "request.namespace", NAME));
    variables.extend(named([
        ("counted", COUNTED.into()),
        ("role", "object == null ? '' : object.spec.?role.orValue('')".to_owned()),
        ("home", format!("object == null ? '' : {home}")),
        ("roleName", ROLE_NAME.into()),
        ("widened", widened()),
        ("gives", GIVES.into()),
        (
            "mayAssign",
            format!(
                "object == null || !(variables.gives || variables.widened) || {}",
                may("assign", "roles", home, "variables.roleName")
            ),
        ),
        (
            "mayBelong",
            format!(
                "object == null || !({ADOPTED}) || {}",
                may("use", "serviceaccounts", "request.namespace", "object.metadata.name")
            ),
        ),
    ]));
    variables.extend(confirmation());
    let foreign = foreign("ServiceAccount of tokenry.dev", used("variables.name"));
    let mut rules = vec![Rule::new("oldObject == null || variables.actsForHolder", foreign)];
    rules.extend(handed_over());
    rules.extend(owned(require_owner));
    rules.push(made_by());
    rules.push(assigned());
    rules.push(Rule::new(
        format!("variables.counted || (oldObject != null && object != null && {SAME_REFERENCES})"),
        "'metadata.ownerReferences: at most 64; with more of them they are not changed'",
    ));
    rules.push(Rule::new("variables.mayBelong", used("object.metadata.name").lacks("metadata.ownerReferences")));
    rules.push(Rule::new(
        format!("oldObject == null || object == null || {BELONGS}"),
        "'metadata.ownerReferences: the account belongs to its token: nobody but the operator of Tokenry takes it away from that'",
    ));
    rules.extend(confirmed("ServiceAccount of tokenry.dev"));
    AdmissionPolicy {
        name: "serviceaccounts",
        resources: &["serviceaccounts"],
        operations: &["CREATE", "UPDATE", "DELETE"],
        variables,
        rules,
    }
}

/// The permission to use the account of this name.
fn used(name: &str) -> Grant<'_> {
    Grant { verb: "use", resource: "serviceaccounts", name, namespace: "request.namespace" }
}

/// CEL: true if the owner references are unchanged.
const SAME_REFERENCES: &str =
    "object.metadata.?ownerReferences.orValue([]) == oldObject.metadata.?ownerReferences.orValue([])";

/// CEL: true if the old and the new object have at most 64 owner references each. Other expressions compare each
/// reference with all others, so their cost grows with the square of the number.
const COUNTED: &str = "object == null || (size(object.metadata.?ownerReferences.orValue([])) <= 64 && \
    (oldObject == null || size(oldObject.metadata.?ownerReferences.orValue([])) <= 64))";

/// CEL: the name of the object.
const NAME: &str = "(object == null ? oldObject : object).metadata.name";

/// CEL: the role of the object for permission checks, as `INSTANCE:ROLE`. The role is `*` if the object has none,
/// because policies may still permit actions to it.
pub(crate) const ROLE_NAME: &str =
    "object == null ? '' : object.spec.instanceRef.name + ':' + (variables.role == '' ? '*' : variables.role)";

/// CEL: true if the request gives the object another role. An update that removes the role counts too, because another
/// role may take its place, for example a default. A new object without a role does not count.
pub(crate) const GIVES: &str = "object != null && (oldObject == null ? variables.role != '' \
    : object.spec.?role != oldObject.spec.?role || object.spec.instanceRef != oldObject.spec.instanceRef)";

/// CEL: true if the request adds an owner reference to an object of tokenry.dev. A token that owns an account acts as
/// that account.
const ADOPTED: &str = "variables.counted && object.metadata.?ownerReferences.orValue([]).exists(r, r.apiVersion.startsWith('tokenry.dev/') && \
    !(oldObject != null && r in oldObject.metadata.?ownerReferences.orValue([])))";

/// CEL: true if the request removes no owner reference to an object of tokenry.dev. Without its reference to a token,
/// the account could be given to another owner, or the garbage collector could delete it.
const BELONGS: &str = "!variables.counted || oldObject.metadata.?ownerReferences.orValue([]).all(r, !r.apiVersion.startsWith('tokenry.dev/') || \
    r in object.metadata.?ownerReferences.orValue([]))";

/// The rule on the variable `mayAssign`.
pub(crate) fn assigned() -> Rule {
    let grant = Grant { verb: "assign", resource: "roles", name: "variables.roleName", namespace: "variables.home" };
    let (role, reach) = (grant.lacks("spec.role"), grant.lacks("spec.organizations, spec.projects"));
    Rule::new("variables.mayAssign", format!("variables.gives ? {role} : {reach}"))
}

/// The variables for a confirmed deletion: the text that confirms it, and a check of the annotation.
pub(crate) fn confirmation() -> Vec<(String, String)> {
    named([
        ("name", NAME.to_owned()),
        (
            "word",
            "oldObject == null ? '' : oldObject.spec.?description.orValue('') != '' ? oldObject.spec.description \
             : oldObject.metadata.name"
                .into(),
        ),
        (
            "confirmed",
            format!(
                "oldObject == null || oldObject.metadata.?annotations[?'{}'].orValue('') == variables.word",
                name::CONFIRM_DELETE
            ),
        ),
    ])
}

/// The rules for confirmation, if the Instance requires it. A deletion must be confirmed. A new owner reference must be
/// confirmed too, because the object is deleted together with its owner.
pub(crate) fn confirmed(kind: &str) -> Vec<Rule> {
    let unless = "!oldObject.?status.?policy.?confirmDelete.orValue(false) || variables.confirmed";
    let annotate = format!("annotate it first: {}=' + variables.word", name::CONFIRM_DELETE);
    let references = |object: &str| format!("{object}.metadata.?ownerReferences.orValue([])");
    let (new, old) = (references("object"), references("oldObject"));
    vec![
        Rule::new(
            format!("request.operation != 'DELETE' || {unless}"),
            format!("'metadata.annotations: to delete this {kind}, {annotate}"),
        ),
        Rule::new(
            format!("request.operation != 'UPDATE' || {new} == {old} || {unless} || {new}.all(r, r in {old})"),
            format!("'metadata.ownerReferences: this {kind} is deleted with an owner; to give it one, {annotate}"),
        ),
    ]
}

/// The rule that a new object has an owner. `required` is a CEL expression for a text. Only the text `true` requires an
/// owner.
pub(crate) fn owned(required: &str) -> Vec<Rule> {
    vec![Rule::new(
        format!("oldObject != null || object == null || {required} != 'true' || variables.owner != ''"),
        format!(
            "{} ? 'spec.owner: is needed, and nothing stamps it here: name yourself, ' + variables.me \
             : 'spec.owner: is needed, and your name can be none: have it made by somebody whose name has at most 253 bytes and no \
             control characters'",
            can_own()
        ),
    )]
}

/// The rule on the annotation for the creator. A new object may name only the requester. Later the annotation must not
/// change.
pub(crate) fn made_by() -> Rule {
    let made = |object: &str| format!("{object}.metadata.?annotations[?'{}'].orValue('')", name::CREATED_BY);
    Rule::new(
        format!(
            "object == null || (oldObject == null ? {new} in ['', variables.me] : {new} == {before})",
            new = made("object"),
            before = made("oldObject")
        ),
        format!("'metadata.annotations[{}]: says who made the object, and is not changed'", name::CREATED_BY),
    )
}

/// The permission to act for the owner of this name.
fn owner(name: &str) -> Grant<'_> {
    Grant { verb: "assign", resource: "owners", name, namespace: "request.namespace" }
}

/// The message to a user that changes an object of another owner. `unowned` is the permission that an object without an
/// owner requires.
pub(crate) fn foreign(kind: &str, unowned: Grant<'_>) -> String {
    format!(
        "variables.holder == '' ? 'spec.owner: nobody owns this {kind}: ' + {} \
         : 'spec.owner: this {kind} is owned by ' + variables.holder + ': ' + {}",
        unowned.missing(),
        owner("variables.holder").missing()
    )
}

/// The rules on a new owner of an object.
pub(crate) fn handed_over() -> Vec<Rule> {
    vec![
        Rule::new(
            "object == null || variables.owner == variables.before || variables.actsForOwner",
            owner("variables.owner").lacks("spec.owner"),
        ),
        Rule::new(
            "object == null || variables.before == '' || variables.owner != ''",
            "'spec.owner: is kept; name another owner to hand the object over'",
        ),
        Rule::new(
            "object == null || variables.owner == variables.before || !variables.owner.startsWith('user:system:serviceaccount:')",
            "'spec.owner: write the user of a core ServiceAccount as serviceaccount:NAMESPACE/NAME'",
        ),
    ]
}
