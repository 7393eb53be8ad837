//! The admission policy on the exposed endpoints of an Instance.

use super::{
    AdmissionPolicy, Rule,
    cel::{me, named},
};

/// The operator makes Services and Ingresses for an Instance: whoever names what they lead to has to be allowed to make
/// them.
pub(crate) fn policy() -> AdmissionPolicy {
    let changed = "(oldObject == null || object.spec.?manager != oldObject.spec.?manager)";
    let may = |group: &str, resource: &str| {
        format!(
            "authorizer.group('{group}').resource('{resource}').namespace(request.namespace).check('create').allowed()"
        )
    };
    let lacks = |path: &str, what: &str| {
        format!("'{path}: ' + variables.me + ' may not create {what} in namespace ' + request.namespace")
    };
    let mut variables = me();
    variables.extend(named([
        ("exposes", format!("{changed} && has(object.spec.manager) && has(object.spec.manager.service)")),
        (
            "leads",
            format!(
                "{changed} && has(object.spec.manager) && object.spec.manager.?endpoints.orValue([]).exists(e, has(e.ingress))"
            ),
        ),
        ("mayExpose", format!("!variables.exposes || {}", may("", "services"))),
        ("mayLead", format!("!variables.leads || {}", may("networking.k8s.io", "ingresses"))),
    ]));
    let rules = vec![
        Rule::new("variables.mayExpose", lacks("spec.manager.service", "services")),
        Rule::new("variables.mayLead", lacks("spec.manager.endpoints", "ingresses.networking.k8s.io")),
    ];
    AdmissionPolicy {
        name: "instances",
        resources: &["instances"],
        operations: &["CREATE", "UPDATE"],
        variables,
        rules,
    }
}
