//! Expressions that several policies share.

use crate::crd::{
    name,
    subject::{SubjectForm, UserNameForm},
    text::rule,
};

/// Whether a request is judged: everything but a change of metadata that is free. An owner reference is not: one whose
/// owner is dead has the object collected. Nor is that somebody holds a policy up by a finalizer, or that somebody else
/// than before sets what an account says.
pub(crate) fn judged() -> String {
    format!(
        "request.operation != 'UPDATE' || object.spec != oldObject.spec || {} || {} || {}",
        relabelled(&[]),
        held_up(),
        claimed()
    )
}

/// Whether a field manager sets fields of the spec of an account that it did not set before: the operator leaves those
/// alone, also where their values are as they were.
fn claimed() -> String {
    let setters = |object: &str| {
        format!(
            "{object}.metadata.?managedFields.orValue([])\
             .filter(m, m.?subresource.orValue('') == '' && m.?fieldsV1[?'f:spec'].hasValue())\
             .map(m, [m.manager, m.operation, m.fieldsV1['f:spec']])"
        )
    };
    format!(
        "(request.resource.resource == 'serviceaccounts' && !{}.all(s, s in {}))",
        setters("object"),
        setters("oldObject")
    )
}

/// Whether somebody else than Kubernetes' own collectors is to hold a policy up, or not any more.
fn held_up() -> String {
    let held = |object: &str| {
        format!("{object}.metadata.?finalizers.orValue([]).filter(f, !(f in ['foregroundDeletion', 'orphan']))")
    };
    // Many are compared whole: to look at each takes time by the square of their number.
    let all = |object: &str| format!("{object}.metadata.?finalizers.orValue([])");
    let (new, old) = (all("object"), all("oldObject"));
    format!(
        "(request.resource.resource == 'accesspolicies' && {new} != {old} && \
         (size({new}) > {FINALIZERS} || size({old}) > {FINALIZERS} || {} != {}))",
        held("object"),
        held("oldObject")
    )
}

/// The most finalizers that an object may have, and that are looked at one by one.
pub(crate) const FINALIZERS: usize = 16;

/// Whether owner references, or a label or annotation of ours but `free`, are others than before. These are asked for
/// by name: an expression that looks at each of them takes time by the square of their number.
pub(crate) fn relabelled(free: &[&str]) -> String {
    let changed = |field: &str, key: &str| {
        format!("object.metadata.?{field}[?{key}] != oldObject.metadata.?{field}[?{key}]", key = quoted(key))
    };
    let annotations = name::JUDGED.iter().filter(|key| !free.contains(key)).map(|key| changed("annotations", key));
    let owners =
        "object.metadata.?ownerReferences.orValue([]) != oldObject.metadata.?ownerReferences.orValue([])".to_owned();
    let all: Vec<_> = [owners, changed("labels", name::OWNER_UID)].into_iter().chain(annotations).collect();
    all.join(" || ")
}

/// The requester as a subject.
const ME: &str = "request.userInfo.username.startsWith('system:serviceaccount:') && request.userInfo.username.split(':').size() == 4 \
    ? 'serviceaccount:' + request.userInfo.username.split(':')[2] + '/' + request.userInfo.username.split(':')[3] \
    : 'user:' + request.userInfo.username";

/// The stamp of the requester's groups on a token: the version that it had, which makes each stamp another one, so that
/// an operator sees when; then a line for each group. What is no name, such as one with a line feed in it, is left out.
pub(crate) fn stamp() -> String {
    format!(
        "([(oldObject == null ? '0' : oldObject.metadata.resourceVersion)] + \
         request.userInfo.?groups.orValue([]).filter(self, {})).join('\\n')",
        rule::<UserNameForm>("self")
    )
}

/// Whether the requester can be written as an owner: a user name may hold anything.
pub(crate) fn can_own() -> String {
    rule::<SubjectForm>("variables.me")
}

/// A string of CEL.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Whether the requester has a right on an object of our group, by expressions for its namespace and name.
pub(crate) fn may(verb: &str, resource: &str, namespace: &str, name: &str) -> String {
    format!(
        "authorizer.group('tokenry.dev').resource('{resource}').namespace({namespace}).name({name}).check('{verb}').allowed()"
    )
}

/// Who asks, and the owners before and after, and whether the requester may act for each. What a group owns, each of
/// its members may change; but nobody hands anything to a group without a right, as that changes who answers for it.
///
/// A token that names no owner has that of its account, as far as the operator has said so in its status. What has no
/// owner at all, from before owners were asked for, is that of whoever may act `unless_owned`.
pub(crate) fn owners(unless_owned: &str) -> Vec<(String, String)> {
    let member = "(variables.holder.startsWith('group:') && \
        variables.holder.substring(6) in request.userInfo.?groups.orValue([]))";
    let right = |owner: &str| may("assign", "owners", "request.namespace", &format!("variables.{owner}"));
    named([
        ("me", ME.to_owned()),
        ("before", "oldObject == null ? '' : oldObject.spec.?owner.orValue('')".into()),
        (
            "holder",
            "variables.before != '' || oldObject == null ? variables.before \
             : oldObject.?status.?owner.?subject.orValue('')"
                .into(),
        ),
        ("owner", "object == null ? variables.before : object.spec.?owner.orValue('')".into()),
        (
            "actsForHolder",
            format!(
                "variables.holder == '' ? ({unless_owned}) : (variables.holder == variables.me || {member} || {})",
                right("holder")
            ),
        ),
        ("actsForOwner", format!("variables.owner == '' || variables.owner == variables.me || {}", right("owner"))),
    ])
}

/// The requester alone.
pub(crate) fn me() -> Vec<(String, String)> {
    named([("me", ME.to_owned())])
}

/// What is said of a right that is missing: an expression for a text.
pub(crate) fn lacks(what: &str, verb: &str, resource: &str, name: &str, namespace: &str) -> String {
    format!(
        "'{what}: ' + variables.me + ' may not {verb} {resource}.tokenry.dev/' + {name} + ' in namespace ' + {namespace}"
    )
}

/// Names each expression.
pub(crate) fn named<const N: usize>(all: [(&str, String); N]) -> Vec<(String, String)> {
    all.into_iter().map(|(name, expression)| (name.to_owned(), expression)).collect()
}

/// Whether every field of the spec but `fields` is as it was.
pub(crate) fn same_but(fields: &[&str]) -> String {
    let free: Vec<_> = fields.iter().map(|field| quoted(field)).collect();
    let free = free.join(", ");
    format!(
        "object.spec.all(k, k in [{free}] || (k in oldObject.spec && oldObject.spec[k] == object.spec[k])) \
         && oldObject.spec.all(k, k in [{free}] || k in object.spec)"
    )
}

/// Whether one of these fields of the spec is new or another than before.
pub(crate) fn changes(fields: &[&str]) -> String {
    let each: Vec<_> = fields.iter().map(|field| format!("object.spec.?{field} != oldObject.spec.?{field}")).collect();
    format!("(oldObject == null || {})", each.join(" || "))
}

/// Whether organizations or projects reach further than before; what is new reaches no further than its role, which is
/// judged.
pub(crate) fn widened() -> String {
    let listed = |object: &str| format!("{object}.spec.?organizations.?listed");
    let all = |object: &str| format!("{object}.spec.?organizations.?all.orValue(false)");
    let (new, old) = (listed("object"), listed("oldObject"));
    let organizations = format!(
        "({old}.hasValue() && !{} && !({new}.hasValue() && !{} && {new}.value().all(o, o in {old}.value())))",
        all("oldObject"),
        all("object")
    );
    let (new, old) = ("object.spec.?projects.orValue([])", "oldObject.spec.?projects.orValue([])");
    let projects = format!("(size({old}) > 0 && !(size({new}) > 0 && {new}.all(p, p in {old})))");
    format!("(oldObject != null && object != null && ({organizations} || {projects}))")
}
