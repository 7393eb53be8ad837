//! The admission policy on the exposed endpoints of an Instance.

use super::{
    AdmissionPolicy, Rule,
    cel::{me, named},
};
use crate::{
    crd::endpoint::{Guard, WayIn},
    exposure::{PieceKind, gate},
};

/// A CEL expression that is true if `spec.manager` is new or has changed.
const CHANGED: &str = "(oldObject == null || object.spec.?manager != oldObject.spec.?manager)";

/// A CEL expression that is true if the requester may get each of these Secrets.
const MAY_TRUST: &str = "variables.authorities.all(name, authorizer.group('').resource('secrets')\
    .namespace(request.namespace).name(name).check('get').allowed())";

/// A CEL expression for the message to a requester that may not.
const TRUSTS_TOO_MUCH: &str = "'spec.manager.endpoints: ' + variables.me + ' may not get Secret ' + \
    variables.authorities.join(', ') + ' in namespace ' + request.namespace";

/// The admission policy on Instances. The operator creates objects for the endpoints of an Instance. So a user must
/// have the permission to create each of them. The operator also copies certificates from a Secret to the Secrets of
/// tokens. So a user must have the permission to get that Secret.
pub(crate) fn policy() -> AdmissionPolicy {
    let mut variables = me();
    variables.extend(named([
        ("manager", format!("{CHANGED} ? object.spec.?manager.orValue({{}}) : {{}}")),
        ("endpoints", "variables.manager.?endpoints.orValue([])".into()),
        ("external", "variables.endpoints.filter(e, e.?type.orValue('external') == 'external')".into()),
    ]));
    variables.extend(named([
        ("authorities", "variables.endpoints.filter(e, has(e.ca)).map(e, e.ca.secretName)".into()),
        ("mayTrust", MAY_TRUST.into()),
    ]));
    let mut rules = Vec::new();
    for kind in PieceKind::ALL {
        let (group, resource) = kind.resource();
        let (path, asks) = asked(kind);
        let may = format!("!({asks}) || {}", may_create(group, resource));
        let dot = if group.is_empty() { "" } else { "." };
        variables.push((format!("may_{resource}"), may));
        rules.push(Rule::new(format!("variables.may_{resource}"), lacks(path, &format!("{resource}{dot}{group}"))));
    }
    let host = format!("!variables.external.exists(e, has(e.host) && ({}))", gets(WayIn::Route));
    let custom = may_create("route.openshift.io", "routes").replace(".check(", ".subresource('custom-host').check(");
    variables.push(("may_host".into(), format!("{host} || {custom}")));
    rules.push(Rule::new(
        "variables.may_host",
        lacks("spec.manager.endpoints", "routes/custom-host.route.openshift.io"),
    ));
    rules.push(Rule::new("variables.mayTrust", TRUSTS_TOO_MUCH));
    AdmissionPolicy {
        name: "instances",
        resources: &["instances"],
        operations: &["CREATE", "UPDATE"],
        variables,
        rules,
    }
}

/// The warning that an endpoint without a type is external. It appears with the change that causes it.
pub(crate) fn warnings() -> AdmissionPolicy {
    let endpoints = |object: &str| format!("{object}.spec.?manager.?endpoints.orValue([])");
    let (new, old) = (endpoints("object"), endpoints("oldObject"));
    AdmissionPolicy {
        name: "instances-warn",
        resources: &["instances"],
        operations: &["CREATE", "UPDATE"],
        variables: Vec::new(),
        rules: vec![Rule::new(
            format!(
                "{new}.all(e, has(e.type) || (oldObject != null && {old}.exists(o, o.name == e.name && !has(o.type))))"
            ),
            "'spec.manager.endpoints: an endpoint without type is external, and reached from outside the cluster'",
        )],
    }
}

/// The field that asks for an object of `kind`, and a CEL expression that is true if it does. An endpoint that names no
/// way in may get each of them, as the cluster decides.
fn asked(kind: PieceKind) -> (&'static str, String) {
    const ENDPOINTS: &str = "spec.manager.endpoints";
    let guards: Vec<_> = Guard::ALL.into_iter().filter(|guard| gate::kind(*guard) == Some(kind)).collect();
    let way = WayIn::ALL.into_iter().find(|way| PieceKind::from(*way) == kind);
    match (kind, way, guards.first()) {
        (_, Some(way), _) => (ENDPOINTS, format!("variables.external.exists(e, {})", gets(way))),
        (_, None, Some(guard)) => {
            (ENDPOINTS, format!("variables.external.exists(e, e.?guard.orValue('None') == '{}')", guard.as_str()))
        }
        (PieceKind::NetworkPolicy, None, None) => {
            let default =
                "variables.endpoints.exists(e, e.?type.orValue('external') == 'internal') ? 'Cluster' : 'None'";
            let asks = format!("variables.manager.?networkPolicy.from.orValue({default}) != 'None'");
            ("spec.manager.networkPolicy", asks)
        }
        (_, None, None) => ("spec.manager.service", "has(variables.manager.service)".into()),
    }
}

/// A CEL expression that is true if the external endpoint `e` may get this way in.
fn gets(way: WayIn) -> String {
    let others = WayIn::ALL.into_iter().filter(|other| *other != way);
    let lacks: Vec<_> = others.map(|other| format!("!has(e.{})", other.field())).collect();
    format!("has(e.{}) || ({})", way.field(), lacks.join(" && "))
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
        // These make no object, and limit or describe those that are asked for.
        let free = ["name", "istio", "allowUnguarded", "probe"];
        let judged = fields::<Manager>().into_iter().chain(fields::<Endpoint>());
        for field in judged.filter(|field| !free.contains(&&**field)) {
            assert!(mentions(&policy(), &field), "{field}: no rule checks this field");
        }
    }
}
