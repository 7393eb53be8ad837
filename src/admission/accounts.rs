//! Who may write a ServiceAccount of tokenry.dev.

use super::{
    AdmissionPolicy, Rule,
    cel::{can_own, lacks, may, named, owners, widened},
};
use crate::crd::name;

/// Who may create, change and delete an account, and which role it may have.
pub(crate) fn policy(require_owner: &str) -> AdmissionPolicy {
    let home = "object.spec.instanceRef.?namespace.orValue(request.namespace)";
    // What has no owner from before is that of whoever may use it.
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
    let mut rules =
        ownership("ServiceAccount of tokenry.dev", "false", "use serviceaccounts.tokenry.dev/' + variables.name + '");
    rules.extend(owned(require_owner));
    rules.push(made_by());
    rules.push(assigned());
    rules.push(Rule::new(
        format!("variables.counted || (oldObject != null && object != null && {SAME_REFERENCES})"),
        "'metadata.ownerReferences: at most 64; with more of them they are not changed'",
    ));
    rules.push(Rule::new(
        "variables.mayBelong",
        lacks("metadata.ownerReferences", "use", "serviceaccounts", "object.metadata.name", "request.namespace"),
    ));
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

/// Whether the owner references are as they were.
const SAME_REFERENCES: &str =
    "object.metadata.?ownerReferences.orValue([]) == oldObject.metadata.?ownerReferences.orValue([])";

/// Whether there are so few owner references that each is looked at: that takes time by the square of their number.
const COUNTED: &str = "object == null || (size(object.metadata.?ownerReferences.orValue([])) <= 64 && \
    (oldObject == null || size(oldObject.metadata.?ownerReferences.orValue([])) <= 64))";

/// The name of the object.
const NAME: &str = "(object == null ? oldObject : object).metadata.name";

/// Which role is given; `*` where there is none, and what is changed may be permitted by policies.
pub(crate) const ROLE_NAME: &str =
    "object == null ? '' : object.spec.instanceRef.name + ':' + (variables.role == '' ? '*' : variables.role)";

/// Whether another role is given than before. To leave one out is to give another, as something else may stand in its
/// place; but what is made without one has none.
pub(crate) const GIVES: &str = "object != null && (oldObject == null ? variables.role != '' \
    : object.spec.?role != oldObject.spec.?role || object.spec.instanceRef != oldObject.spec.instanceRef)";

/// Whether an account is given to an object of ours: a token that owns it acts as it.
const ADOPTED: &str = "variables.counted && object.metadata.?ownerReferences.orValue([]).exists(r, r.apiVersion.startsWith('tokenry.dev/') && \
    !(oldObject != null && r in oldObject.metadata.?ownerReferences.orValue([])))";

/// Whether an account that belongs to a token goes on to: without its reference it would be collected, or be another's.
const BELONGS: &str = "!variables.counted || oldObject.metadata.?ownerReferences.orValue([]).all(r, !r.apiVersion.startsWith('tokenry.dev/') || \
    r in object.metadata.?ownerReferences.orValue([]))";

/// The rule on what `mayAssign` says.
pub(crate) fn assigned() -> Rule {
    Rule::new(
        "variables.mayAssign",
        "(variables.gives ? 'spec.role: ' : 'spec.organizations, spec.projects: ') + variables.me + \
         ' may not assign roles.tokenry.dev/' + variables.roleName + ' in namespace ' + variables.home",
    )
}

/// The word that confirms a deletion, and whether it is given.
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

/// The rules that a deletion is confirmed, where the Instance asks for that; also one that comes with that of an owner.
pub(crate) fn confirmed(kind: &str) -> Vec<Rule> {
    let unless = "!oldObject.?status.?policy.?confirmDelete.orValue(false) || variables.confirmed";
    let annotate = format!("annotate it first: {}=' + variables.word", name::CONFIRM_DELETE);
    let references = |object: &str| format!("{object}.metadata.?ownerReferences.orValue([])");
    let (new, old) = (references("object"), references("oldObject"));
    vec![
        Rule::new(format!("request.operation != 'DELETE' || {unless}"), format!("'to delete this {kind}, {annotate}")),
        Rule::new(
            format!("request.operation != 'UPDATE' || {new} == {old} || {unless} || {new}.all(r, r in {old})"),
            format!("'metadata.ownerReferences: this {kind} is deleted with an owner; to give it one, {annotate}"),
        ),
    ]
}

/// The rules that somebody owns what is made. `required` is an expression for a text: `true`, or something else where
/// nobody has to.
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

/// The rule that says who made an object.
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

/// Whose an object is, and who may do something to it; or `unless` it is that. `unowned` is the right that is asked for
/// where nobody owns it, within a text of CEL.
pub(crate) fn ownership(kind: &str, unless: &str, unowned: &str) -> Vec<Rule> {
    vec![
        Rule::new(
            format!("oldObject == null || variables.actsForHolder || {unless}"),
            format!(
                "variables.holder == '' ? 'nobody owns this {kind}: ' + variables.me + ' may not {unowned} in namespace ' + request.namespace \
                 : 'this {kind} is owned by ' + variables.holder + ': ' + variables.me + \
                 ' may not assign owners.tokenry.dev/' + variables.holder + ' in namespace ' + request.namespace"
            ),
        ),
        Rule::new(
            "object == null || variables.owner == variables.before || variables.actsForOwner",
            lacks("spec.owner", "assign", "owners", "variables.owner", "request.namespace"),
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
