//! The admission policy on ApiTokens.

use super::{
    AdmissionPolicy, Rule,
    accounts::{GIVES, ROLE_NAME, assigned, confirmation, confirmed, foreign, handed_over, made_by, owned},
    cel::{BECOMES_REVOKED, Grant, changes, may, named, owners, relabelled, same_but, stamp, unmarked, widened},
};
use crate::crd::{
    api_token::MAX_AUDIENCES,
    name,
    subject::SubjectForm,
    text::{Form, rule},
    workload::MAX_RESTARTED,
};

/// CEL: the recorded creator of a token, or the empty text. For a token without an owner, a requester needs the
/// permission to act for the creator.
fn maker() -> String {
    format!("(oldObject == null ? '' : oldObject.metadata.?annotations[?'{}'].orValue(''))", name::CREATED_BY)
}

/// The policy on creation, change and deletion of tokens, and on the fields of their spec. `require_owner` is passed to
/// [`owned`].
pub(crate) fn policy(require_owner: &str) -> AdmissionPolicy {
    let known = maker();
    let maker = format!("({known} == '' ? '*' : {known})");
    let mut variables =
        owners(&format!("{known} == variables.me || {}", may("assign", "owners", "request.namespace", &maker)));
    variables.push(("maker".into(), maker));
    variables.extend(rights());
    variables.extend((0..MOST_ORGANIZATIONS).map(revoke));
    variables.push(("revokes".into(), revokes()));
    variables.extend(confirmation());
    variables.extend((0..MAX_AUDIENCES).map(audience));
    variables.extend((0..MAX_RESTARTED).map(restart));
    let mut rules = ownership();
    rules.extend(owned(require_owner));
    rules.extend(granted());
    rules.extend(kept());
    AdmissionPolicy {
        name: "apitokens",
        resources: &["apitokens"],
        operations: &["CREATE", "UPDATE", "DELETE"],
        variables,
        rules,
    }
}

/// CEL: the organizations of the token before the change: the listed ones. Without a list in its spec, they are the
/// organization of its Instance, and then those in its status.
const ORGANIZATIONS: &str = "oldObject != null && oldObject.spec.?organizations.?listed.hasValue() \
     ? oldObject.spec.organizations.listed \
     : [oldObject.?status.?organization.orValue('')] + (variables.reached == null ? [] : variables.reached)";

/// CEL: for an update that only revokes the token, the first organization in which the requester may be permitted to do
/// so. Otherwise, and before the operator has written an organization into the status, the empty text.
const REVOCABLE: &str = "variables.onlyRevokes && size(variables.organizations) > 0 ? variables.organizations[0] : ''";

/// CEL: true if the request gives the Secret another name than the token's, or new labels, annotations or keys.
/// Settings that the old token already has do not count.
const CUSTOM: &str = "object != null && has(object.spec.secret) && \
     ((object.spec.secret.?name.orValue(object.metadata.name) != object.metadata.name && \
     (oldObject == null || object.spec.secret.?name != oldObject.spec.?secret.?name)) || \
     ['labels', 'annotations', 'data'].exists(k, k in object.spec.secret && object.spec.secret[k].exists(x, \
     oldObject == null || oldObject.spec.?secret[?k][?x] != optional.of(object.spec.secret[k][x]))))";

/// CEL: true if the update does nothing but revoke the token. The stamp of the requester belongs to the revocation, and
/// [`revoked_by`] checks it.
fn only_revokes() -> String {
    format!(
        "request.operation == 'UPDATE' && object.spec.?revoked.orValue(false) && {} && !({} || {})",
        same_but(&["revoked", "revocationReason"]),
        relabelled(&[name::REVOKED_BY]),
        unmarked()
    )
}

/// CEL: true if the update only revokes the token, and the requester has permission to revoke in one of the token's
/// organizations.
fn revokes() -> String {
    let any: Vec<_> = (0..MOST_ORGANIZATIONS).map(|index| format!("variables.revoke{index}")).collect();
    format!("variables.onlyRevokes && ({})", any.join(" || "))
}

/// A variable that is true if the requester may revoke in the organization at this index.
fn revoke(index: usize) -> (String, String) {
    let right = may("revoke", "organizations", "variables.home", &format!("variables.organizations[{index}]"));
    (format!("revoke{index}"), format!("size(variables.organizations) > {index} && {right}"))
}

fn rights() -> Vec<(String, String)> {
    let role = "object.spec.?role.orValue('')";
    let instance = "object.spec.instanceRef.?namespace.orValue(request.namespace)";
    let own = "(object == null ? oldObject : object).spec.instanceRef.?namespace.orValue(request.namespace)";
    let account = "object.spec.?serviceAccountRef.?name.orValue('')";
    named([
        ("role", format!("object == null ? '' : {role}")),
        ("home", own.to_owned()),
        ("roleName", ROLE_NAME.into()),
        ("account", format!("object == null ? '' : {account}")),
        ("widened", widened()),
        ("gives", GIVES.into()),
        // A token with an account and without a role has the role of its account. So the requester needs the permission
        // to use the account, not to assign the role.
        (
            "mayAssign",
            format!(
                "object == null || !(variables.gives || variables.widened) || (variables.role == '' && variables.account != '') || {}",
                may("assign", "roles", instance, "variables.roleName")
            ),
        ),
        (
            "mayUse",
            format!(
                "object == null || variables.account == '' || \
                 !({} || (variables.role == '' && (variables.gives || variables.widened))) || {}",
                changes(&["serviceAccountRef"]),
                may("use", "serviceaccounts", "request.namespace", "variables.account")
            ),
        ),
        ("reached", "oldObject == null ? null : oldObject.?status.?effective.?organizations.orValue(null)".into()),
        ("organizations", ORGANIZATIONS.into()),
        ("onlyRevokes", only_revokes()),
        ("revocable", REVOCABLE.into()),
        ("custom", CUSTOM.into()),
        (
            "mayMakeSecrets",
            "!variables.custom || \
             authorizer.group('').resource('secrets').namespace(request.namespace).check('create').allowed()"
                .into(),
        ),
        (
            "immutable",
            "oldObject != null && (oldObject.spec.?immutable.orValue(false) || \
             oldObject.?status.?policy.?immutable.orValue(false))"
                .into(),
        ),
        ("stamp", stamp()),
    ])
}

/// Maximum number of a token's organizations for which the permission to revoke is checked. A token lists fewer. Each
/// check costs a part of the budget of a policy, which is enough for 28.
const MOST_ORGANIZATIONS: usize = 25;

/// A variable that is true if the requester may use the audience at this index. An audience of the old token, with the
/// same permissions, needs no check.
fn audience(index: usize) -> (String, String) {
    let it = format!("object.spec.audiences[{index}]");
    let same = "!variables.gives && !variables.widened";
    let stood = format!("(oldObject != null && {same} && {it} in oldObject.spec.?audiences.orValue([]))");
    let right = may(
        "assign",
        "roles",
        &format!("{it}.?namespace.orValue(request.namespace)"),
        &format!("{it}.name + ':' + (variables.role == '' ? '*' : variables.role)"),
    );
    let none = format!("object == null || size(object.spec.?audiences.orValue([])) <= {index}");
    (format!("audience{index}"), format!("{none} || {stood} || {right}"))
}

/// A variable that is true if the requester may restart the workload at this index. A workload that the old token names
/// needs no check. Otherwise the requester needs the permission to patch the workload.
fn restart(index: usize) -> (String, String) {
    let it = format!("object.spec.restart[{index}]");
    let none = format!("object == null || size(object.spec.?restart.orValue([])) <= {index}");
    let stood = format!("(oldObject != null && {it} in oldObject.spec.?restart.orValue([]))");
    let right = format!(
        "authorizer.group('apps').resource({it}.kind.lowerAscii() + 's').namespace(request.namespace).name({it}.name)\
         .check('patch').allowed()"
    );
    (format!("restart{index}"), format!("{none} || {stood} || {right}"))
}

/// The rules on the owner of a token, and on changes by other users. If an update only revokes the token, the message
/// asks for the permission to revoke. The permission to act for the owner would permit more.
fn ownership() -> Vec<Rule> {
    let maker = Grant { verb: "assign", resource: "owners", name: "variables.maker", namespace: "request.namespace" };
    let revoke =
        Grant { verb: "revoke", resource: "organizations", name: "variables.revocable", namespace: "variables.home" };
    let told = format!(
        "variables.revocable != '' ? 'spec.revoked: this ApiToken ' + (variables.holder == '' ? 'has no owner' \
         : 'is owned by ' + variables.holder) + ': ' + {} : {}",
        revoke.missing(),
        foreign("ApiToken", maker)
    );
    let mut rules = vec![Rule::new("oldObject == null || variables.actsForHolder || variables.revokes", told)];
    rules.extend(handed_over());
    rules
}

/// The rules on fields of the spec that need a permission. Each audience and each workload has its own rule, because a
/// message expression cannot check permissions.
fn granted() -> Vec<Rule> {
    let account =
        Grant { verb: "use", resource: "serviceaccounts", name: "variables.account", namespace: "request.namespace" };
    let mut rules = vec![assigned()];
    rules.extend((0..MAX_AUDIENCES).map(audience_granted));
    rules.push(Rule::new("variables.mayUse", account.lacks("spec.serviceAccountRef")));
    rules.push(Rule::new(
        "variables.mayMakeSecrets",
        "'spec.secret: ' + variables.me + ' may not create secrets in namespace ' + request.namespace + ', \
         and so may choose neither name, labels, annotations nor data of one'",
    ));
    rules.extend((0..MAX_RESTARTED).map(restart_granted));
    rules
}

/// The rule about the audience at `index`.
fn audience_granted(index: usize) -> Rule {
    let it = format!("object.spec.audiences[{index}]");
    let grant = Grant {
        verb: "assign",
        resource: "roles",
        name: &format!("({it}.name + ':' + (variables.role == '' ? '*' : variables.role))"),
        namespace: &format!("{it}.?namespace.orValue(request.namespace)"),
    };
    Rule::new(format!("variables.audience{index}"), grant.lacks(&format!("spec.audiences[{index}]")))
}

/// The rule about the workload at `index`.
fn restart_granted(index: usize) -> Rule {
    let it = format!("object.spec.restart[{index}]");
    let message = format!(
        "'spec.restart[{index}]: ' + variables.me + ' may not patch ' + {it}.kind + ' ' + {it}.name + \
         ' in namespace ' + request.namespace"
    );
    Rule::new(format!("variables.restart{index}"), message)
}

/// The rules on changes: confirmation of a deletion, immutable tokens and stamps.
fn kept() -> Vec<Rule> {
    let annotation = |object: &str, key: &str| format!("{object}.metadata.?annotations[?'{key}'].orValue('')");
    let groups = name::OWNER_GROUPS;
    let (stamp, old) = (annotation("object", groups), annotation("oldObject", groups));
    let mut rules = confirmed("ApiToken");
    rules.extend([
        Rule::new(
            format!(
                "request.operation != 'UPDATE' || !variables.immutable || ({})",
                same_but(&["revoked", "revocationReason", "regenerate"])
            ),
            "'spec: the token is immutable: only revoked, revocationReason and, if the Instance allows it, regenerate may change; make another ApiToken'",
        ),
        Rule::new(
            "request.operation != 'UPDATE' || !variables.immutable || object.spec.?regenerate == oldObject.spec.?regenerate || \
             oldObject.?status.?policy.?regenerate.orValue(false)",
            "'spec.regenerate: the token is immutable, and its Instance does not permit it to be regenerated (tokens.immutable.regenerate)'",
        ),
        made_by(),
        revoked_by(),
        Rule::new(
            format!(
                "object == null || ({stamp} == (oldObject == null ? '' : {old}) && \
                 (oldObject == null || {stamp} == '' || variables.owner == variables.before)) || \
                 ({stamp} == '' && variables.owner != variables.before) || \
                 (variables.owner == variables.me && {stamp} == variables.stamp)"
            ),
            format!(
                "'metadata.annotations[{groups}]: says which groups the owner is in, and is stamped by the API server'"
            ),
        ),
    ]);
    rules
}

/// The rule on the annotation for the requester that revoked the token. A request that revokes the token may name only
/// its requester. No other request changes the annotation.
///
/// A text from before this rule can stay if it is no subject, as the operator ignores it. A subject cannot stay, as
/// the operator would take it for the requester. The message then says how to revoke the token all the same.
fn revoked_by() -> Rule {
    let key = name::REVOKED_BY;
    let by = |object: &str| format!("{object}.metadata.?annotations[?'{key}'].orValue('')");
    let (new, old) = (by("object"), format!("(oldObject == null ? '' : {})", by("oldObject")));
    let is_text = format!("(size({new}) > {} || !({}))", SubjectForm::MAX, rule::<SubjectForm>(&new));
    let patch = format!("{{\"metadata\":{{\"annotations\":{{\"{key}\":null}}}},\"spec\":{{\"revoked\":true}}}}");
    Rule::new(
        format!(
            "object == null || ({BECOMES_REVOKED} ? {new} in ['', variables.me] || ({new} == {old} && {is_text}) \
             : {new} == {old})"
        ),
        format!(
            "'metadata.annotations[{key}]: names the requester that revokes the token, in that request, and is not changed' + \
             ({BECOMES_REVOKED} && {old} != '' && {new} == {old} \
             ? '; this name is older than the revocation: remove it in the request that revokes, by the merge patch {patch}' : '')"
        ),
    )
}

/// CEL: the warning that the values of a new token expire. The default of the Instance is not known here. `string` also
/// reads a time that the API server has parsed.
const EXPIRES: &str = "'spec.expiry: each value of this token expires ' + \
     (object.spec.?expiry.?after.hasValue() ? string(object.spec.expiry.after) + ' after its creation' : \
     (object.spec.?expiry.?at.hasValue() ? 'at the latest at ' + string(object.spec.expiry.at) : \
     'by the default of its Instance, see status.expiresAt'))";

/// The warnings for requests that are permitted, but may be mistakes, and the warning that values expire.
pub(crate) fn warnings() -> AdmissionPolicy {
    AdmissionPolicy {
        name: "apitokens-warn",
        resources: &["apitokens"],
        operations: &["CREATE", "UPDATE"],
        variables: Vec::new(),
        rules: vec![
            // Each warning appears with the change that causes it, but not with later changes.
            Rule::new(
                "has(object.spec.owner) || (oldObject != null && !has(oldObject.spec.owner))",
                "'spec.owner: nobody answers for this token'",
            ),
            Rule::new(
                "object.spec.?audiences.orValue([]).all(a, oldObject != null && a in oldObject.spec.?audiences.orValue([]))",
                "'spec.audiences: each further Instance gives the token its role there'",
            ),
            Rule::new(
                "!object.spec.?expiry.?never.orValue(false) || \
                 (oldObject != null && oldObject.spec.?expiry.?never.orValue(false))",
                "'spec.expiry.never: the values of this token never run out of time'",
            ),
            Rule::new("oldObject != null || object.spec.?expiry.?never.orValue(false)", EXPIRES),
        ],
    }
}
