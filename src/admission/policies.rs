//! The admission policy on AccessPolicies.

use super::{
    AdmissionPolicy, Rule,
    cel::{Grant, may, me, named},
};

/// Maximum number of statements with a role. Each needs a permission check.
const MOST: usize = 16;

/// The policy on writes of AccessPolicies. An AccessPolicy permits or denies actions to its members, so a write needs
/// the permission to assign policies of the Instance. A statement with a role needs the permission to assign that role.
pub(crate) fn policy() -> AdmissionPolicy {
    let mut variables = me();
    variables.extend(named([
        ("instance", "(object == null ? oldObject : object).spec.instanceRef.name".to_owned()),
        ("mayAssign", may("assign", "policies", "request.namespace", "variables.instance")),
        ("roles", "object == null ? [] : object.spec.statements.filter(s, has(s.role)).map(s, s.role)".into()),
    ]));
    variables.extend((0..MOST).map(|index| {
        let name = format!("variables.instance + ':' + variables.roles[{index}]");
        let right = may("assign", "roles", "request.namespace", &name);
        (format!("role{index}"), format!("size(variables.roles) <= {index} || {right}"))
    }));
    let policy =
        Grant { verb: "assign", resource: "policies", name: "variables.instance", namespace: "request.namespace" };
    let mut rules = vec![
        Rule::new("variables.mayAssign", policy.lacks("spec.instanceRef")),
        Rule::new(
            format!("size(variables.roles) <= {MOST}"),
            format!("'spec.statements: at most {MOST} of them may be by role; make another AccessPolicy for the rest'"),
        ),
    ];
    rules.extend((0..MOST).map(|index| {
        let name = format!("(variables.instance + ':' + variables.roles[{index}])");
        let role = Grant { resource: "roles", name: &name, ..policy };
        Rule::new(format!("variables.role{index}"), role.lacks("spec.statements"))
    }));
    AdmissionPolicy {
        name: "accesspolicies",
        resources: &["accesspolicies"],
        operations: &["CREATE", "UPDATE", "DELETE"],
        variables,
        rules,
    }
}
