//! Who may write a ServiceAccount of tokenry.dev.

use super::{
    Policy, Rule,
    cel::{changes, lacks, may, named, owners},
};

/// Who may create, change and delete an account, and which role it may have.
pub fn policy() -> Policy {
    let home = "object.spec.instanceRef.?namespace.orValue(request.namespace)";
    let mut variables = owners();
    variables.extend(named([
        ("role", "object == null ? '' : object.spec.?role.orValue('')".to_owned()),
        ("home", format!("object == null ? '' : {home}")),
        ("roleName", ROLE_NAME.into()),
        (
            "mayAssign",
            format!(
                "object == null || !{} || (variables.role == '' && !{RESCOPED}) || {}",
                changes(&["role", "organizations", "projects", "instanceRef"]),
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
    let mut rules = ownership("ServiceAccount of tokenry.dev", "false");
    rules.push(assigned());
    rules.push(Rule::new(
        "variables.mayBelong",
        lacks("metadata.ownerReferences", "use", "serviceaccounts", "object.metadata.name", "request.namespace"),
    ));
    Policy {
        name: "serviceaccounts",
        resources: &["serviceaccounts"],
        operations: &["CREATE", "UPDATE", "DELETE"],
        variables,
        rules,
    }
}

/// Which role is given; `*` where there is none, and what is changed may be permitted by policies.
pub const ROLE_NAME: &str =
    "object == null ? '' : object.spec.instanceRef.name + ':' + (variables.role == '' ? '*' : variables.role)";

/// Whether it may be used in other organizations or projects than before: also without a role, a policy may permit there.
pub const RESCOPED: &str = "(oldObject != null && (object.spec.?organizations != oldObject.spec.?organizations || \
    object.spec.?projects != oldObject.spec.?projects))";

/// Whether an account is given to an object of ours: a token that owns it acts as it.
const ADOPTED: &str = "object.metadata.?ownerReferences.orValue([]).exists(r, r.apiVersion.startsWith('tokenry.dev/') && \
    !(oldObject != null && r in oldObject.metadata.?ownerReferences.orValue([])))";

/// The rule on what `mayAssign` says.
pub fn assigned() -> Rule {
    Rule::new(
        "variables.mayAssign",
        "(variables.role == '' ? 'spec.organizations, spec.projects: ' : 'spec.role: ') + variables.me + \
         ' may not assign roles.tokenry.dev/' + variables.roleName + ' in namespace ' + variables.home",
    )
}

/// Whose an object is, and who may do something to it; or `unless` it is that.
pub fn ownership(kind: &str, unless: &str) -> Vec<Rule> {
    vec![
        Rule::new(
            format!("oldObject == null || variables.actsForHolder || {unless}"),
            format!(
                "'this {kind} is owned by ' + variables.holder + ': ' + variables.me + \
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
