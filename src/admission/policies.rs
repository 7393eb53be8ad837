//! Who may write an AccessPolicy.

use super::{
    AdmissionPolicy, Rule,
    cel::{lacks, may, me, named},
};

/// The most statements by role: each takes a check.
const MOST: usize = 16;

/// Whoever writes a policy gives actions to its members, or takes them away; a statement by role gives that role.
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
    let roles: Vec<_> = (0..MOST).map(|index| format!("variables.role{index}")).collect();
    let rules = vec![
        Rule::new(
            "variables.mayAssign",
            lacks("AccessPolicy", "assign", "policies", "variables.instance", "request.namespace"),
        ),
        Rule::new(
            format!("size(variables.roles) <= {MOST}"),
            format!("'spec.statements: at most {MOST} of them may be by role; make another AccessPolicy for the rest'"),
        ),
        Rule::new(
            roles.join(" && "),
            "'spec.statements: ' + variables.me + ' may not assign each of roles.tokenry.dev/' + variables.instance + ':' + \
             variables.roles.join(', ') + ' in namespace ' + request.namespace",
        ),
    ];
    AdmissionPolicy {
        name: "accesspolicies",
        resources: &["accesspolicies"],
        operations: &["CREATE", "UPDATE", "DELETE"],
        variables,
        rules,
    }
}
