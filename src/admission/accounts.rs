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
        ("roleName", "object == null ? '' : object.spec.instanceRef.name + ':' + variables.role".into()),
        (
            "mayAssign",
            format!(
                "object == null || variables.role == '' || !{} || {}",
                changes(&["role", "organizations", "projects", "instanceRef"]),
                may("assign", "roles", home, "variables.roleName")
            ),
        ),
    ]));
    let mut rules = ownership("ServiceAccount of tokenry.dev", "false");
    rules.push(Rule::new(
        "variables.mayAssign",
        lacks("spec.role", "assign", "roles", "variables.roleName", "variables.home"),
    ));
    Policy {
        name: "serviceaccounts",
        resources: &["serviceaccounts"],
        operations: &["CREATE", "UPDATE", "DELETE"],
        variables,
        rules,
    }
}

/// Whose an object is, and who may do something to it; or `unless` it is that.
pub fn ownership(kind: &str, unless: &str) -> Vec<Rule> {
    vec![
        Rule::new(
            format!("oldObject == null || variables.actsForBefore || {unless}"),
            format!(
                "'this {kind} is owned by ' + variables.before + ': ' + variables.me + \
                 ' may not assign owners.tokenry.dev/' + variables.before + ' in namespace ' + request.namespace"
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
