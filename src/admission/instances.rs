//! The admission policy on the exposed endpoints of an Instance.

use super::{
    AdmissionPolicy, Rule,
    cel::{me, named},
};
use crate::crd::instance::WayIn;

/// A CEL expression that is true if `spec.manager` is new or has changed.
const CHANGED: &str = "(oldObject == null || object.spec.?manager != oldObject.spec.?manager)";

/// A CEL expression for the Secrets that endpoints name in `ca`.
const AUTHORITIES: &str = "object.spec.manager.?endpoints.orValue([]).filter(e, has(e.ca)).map(e, e.ca.secretName)";

/// A CEL expression that is true if the requester may get each of these Secrets.
const MAY_TRUST: &str = "variables.authorities.all(name, authorizer.group('').resource('secrets')\
    .namespace(request.namespace).name(name).check('get').allowed())";

/// A CEL expression for the message to a requester that may not.
const TRUSTS_TOO_MUCH: &str = "'spec.manager.endpoints: ' + variables.me + ' may not get Secret ' + \
    variables.authorities.join(', ') + ' in namespace ' + request.namespace";

/// The admission policy on Instances. The operator creates Services, and the ways in to them, for an Instance. So a
/// user must have the permission to create them. The operator also copies certificates from a Secret to the Secrets of
/// tokens. So a user must have the permission to get that Secret.
pub(crate) fn policy() -> AdmissionPolicy {
    let mut variables = me();
    variables.extend(named([
        ("exposes", format!("{CHANGED} && has(object.spec.manager) && has(object.spec.manager.service)")),
        ("mayExpose", format!("!variables.exposes || {}", may_create("", "services"))),
    ]));
    variables.extend(WayIn::ALL.into_iter().flat_map(leading));
    variables.extend(named([
        ("authorities", format!("{CHANGED} && has(object.spec.manager) ? {AUTHORITIES} : []")),
        ("mayTrust", MAY_TRUST.into()),
    ]));
    let mut rules = vec![Rule::new("variables.mayExpose", lacks("spec.manager.service", "services"))];
    rules.extend(WayIn::ALL.map(led));
    rules.push(Rule::new("variables.mayTrust", TRUSTS_TOO_MUCH));
    AdmissionPolicy {
        name: "instances",
        resources: &["instances"],
        operations: &["CREATE", "UPDATE"],
        variables,
        rules,
    }
}

/// Two variables: an endpoint asks for this way in, and the requester may create its object.
fn leading(way: WayIn) -> Vec<(String, String)> {
    let (field, (group, resource)) = (way.field(), way.resource());
    let asks = format!(
        "{CHANGED} && has(object.spec.manager) && \
         object.spec.manager.?endpoints.orValue([]).exists(e, has(e.{field}))"
    );
    let may = format!("!variables.leads_{field} || {}", may_create(group, resource));
    vec![(format!("leads_{field}"), asks), (format!("may_{field}"), may)]
}

/// The rule that rejects a way in that the requester may not create.
fn led(way: WayIn) -> Rule {
    let (group, resource) = way.resource();
    Rule::new(format!("variables.may_{}", way.field()), lacks("spec.manager.endpoints", &format!("{resource}.{group}")))
}

fn may_create(group: &str, resource: &str) -> String {
    format!("authorizer.group('{group}').resource('{resource}').namespace(request.namespace).check('create').allowed()")
}

fn lacks(path: &str, what: &str) -> String {
    format!("'{path}: ' + variables.me + ' may not create {what} in namespace ' + request.namespace")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admission::tests::mentions,
        crd::{
            instance::{Endpoint, Manager},
            schema::tests::fields,
        },
    };

    #[test]
    fn every_field_that_has_something_made_is_asked_about() {
        let free = ["name", "type", "host"];
        let judged = fields::<Manager>().into_iter().chain(fields::<Endpoint>());
        for field in judged.filter(|field| !free.contains(&&**field)) {
            assert!(mentions(&policy(), &field), "{field}: no rule checks this field");
        }
    }
}
