//! Expressions that several policies share.

/// Whether a request is judged: everything but a change of metadata that is free. An owner reference is not: one whose owner
/// is dead has the object collected.
pub fn judged() -> String {
    format!("request.operation != 'UPDATE' || object.spec != oldObject.spec || {}", relabelled(&[]))
}

/// Whether owner references, or a label or annotation of ours but `free`, are others than before.
pub fn relabelled(free: &[&str]) -> String {
    let free: Vec<_> = free.iter().map(|key| quoted(key)).collect();
    let free = free.join(", ");
    format!(
        "object.metadata.?ownerReferences.orValue([]) != oldObject.metadata.?ownerReferences.orValue([]) \
         || [[object.metadata.?annotations.orValue({{}}), oldObject.metadata.?annotations.orValue({{}})], \
         [object.metadata.?labels.orValue({{}}), oldObject.metadata.?labels.orValue({{}})]].exists(pair, \
         pair[0].exists(k, k.startsWith('tokenry.dev/') && !(k in [{free}]) && (!(k in pair[1]) || pair[0][k] != pair[1][k])) \
         || pair[1].exists(k, k.startsWith('tokenry.dev/') && !(k in [{free}]) && !(k in pair[0])))"
    )
}

/// The requester as a subject.
const ME: &str = "request.userInfo.username.startsWith('system:serviceaccount:') && request.userInfo.username.split(':').size() == 4 \
    ? 'serviceaccount:' + request.userInfo.username.split(':')[2] + '/' + request.userInfo.username.split(':')[3] \
    : 'user:' + request.userInfo.username";

/// The stamp of the requester's groups on a token: the version that it had, which makes each stamp another one, so that an
/// operator sees when; then a line for each group.
pub const STAMP: &str = "(oldObject == null ? '0' : oldObject.metadata.resourceVersion) + '\\n' + \
    request.userInfo.?groups.orValue([]).filter(group, !group.contains('\\n')).join('\\n')";

/// A string of CEL.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Whether the requester has a right on an object of our group, by expressions for its namespace and name.
pub fn may(verb: &str, resource: &str, namespace: &str, name: &str) -> String {
    format!(
        "authorizer.group('tokenry.dev').resource('{resource}').namespace({namespace}).name({name}).check('{verb}').allowed()"
    )
}

/// Who asks, and the owners before and after, and whether the requester may act for each. What a group owns, each of its members
/// may change; but nobody hands anything to a group without a right, as that changes who answers for it.
///
/// A token that names no owner has that of its account, as far as the operator has said so in its status.
pub fn owners() -> Vec<(String, String)> {
    let mine = |owner: &str| format!("variables.{owner} == '' || variables.{owner} == variables.me");
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
        ("actsForHolder", format!("{} || {member} || {}", mine("holder"), right("holder"))),
        ("actsForOwner", format!("{} || {}", mine("owner"), right("owner"))),
    ])
}

/// The requester alone.
pub fn me() -> Vec<(String, String)> {
    named([("me", ME.to_owned())])
}

/// What is said of a right that is missing: an expression for a text.
pub fn lacks(what: &str, verb: &str, resource: &str, name: &str, namespace: &str) -> String {
    format!(
        "'{what}: ' + variables.me + ' may not {verb} {resource}.tokenry.dev/' + {name} + ' in namespace ' + {namespace}"
    )
}

/// Names each expression.
pub fn named<const N: usize>(all: [(&str, String); N]) -> Vec<(String, String)> {
    all.into_iter().map(|(name, expression)| (name.to_owned(), expression)).collect()
}

/// Whether every field of the spec but `fields` is as it was.
pub fn same_but(fields: &[&str]) -> String {
    let free: Vec<_> = fields.iter().map(|field| quoted(field)).collect();
    let free = free.join(", ");
    format!(
        "object.spec.all(k, k in [{free}] || (k in oldObject.spec && oldObject.spec[k] == object.spec[k])) \
         && oldObject.spec.all(k, k in [{free}] || k in object.spec)"
    )
}

/// Whether one of these fields of the spec is new or another than before.
pub fn changes(fields: &[&str]) -> String {
    let each: Vec<_> = fields.iter().map(|field| format!("object.spec.?{field} != oldObject.spec.?{field}")).collect();
    format!("(oldObject == null || {})", each.join(" || "))
}
