//! The answer of another controller about an object: if it has accepted it. Read from the object's status.

use serde_json::Value;

use super::{
    Piece,
    loose::{HttpRoute, SecurityPolicy},
};
use crate::crd::endpoint::ParentRef;

/// The answer of another controller about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// The object is in effect, or nobody reports on objects of its kind.
    Accepted,
    /// There is no answer yet about the object as it is now.
    Awaited,
    /// The object is refused. The text has the reason and the message of the other controller, as it wrote them.
    Refused(String),
}

impl Acceptance {
    /// The answer if both are needed. A refusal comes first.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Refused(why), _) | (_, Self::Refused(why)) => Self::Refused(why),
            (Self::Awaited, _) | (_, Self::Awaited) => Self::Awaited,
            (Self::Accepted, Self::Accepted) => Self::Accepted,
        }
    }
}

/// The answer about `piece` in its status.
pub fn acceptance(piece: &Piece) -> Acceptance {
    match piece {
        // Nobody reports on these. An Ingress controller reports addresses at most.
        Piece::Service(_)
        | Piece::NetworkPolicy(_)
        | Piece::Middleware(_)
        | Piece::AuthorizationPolicy(_)
        | Piece::Ingress(_) => Acceptance::Accepted,
        Piece::HttpRoute(route) => {
            let parents = route.spec["parentRefs"].as_array().into_iter().flatten();
            parents.map(|parent| attached(route, parent)).fold(Acceptance::Accepted, Acceptance::and)
        }
        Piece::SecurityPolicy(policy) => replaced(policy).unwrap_or_else(|| {
            answered(&policy.status["ancestors"], 1, &[("Accepted", true)], policy.metadata.generation)
        }),
        Piece::Route(route) => answered(&route.status["ingress"], 1, &[("Admitted", true)], None),
    }
}

/// The answer about `route` at one of its parents. Reports about a former parent do not count.
fn attached(route: &HttpRoute, parent: &Value) -> Acceptance {
    let home = route.metadata.namespace.as_deref().unwrap_or_default();
    let namespace = |parent: &Value| parent["namespace"].as_str().unwrap_or(home).to_owned();
    // A controller may report on each listener of a Gateway, where the route names none.
    let is_same = |of: &Value, key: &str| parent[key].is_null() || of[key] == parent[key];
    let is_about = |of: &Value| {
        namespace(of) == namespace(parent) && ["name", "sectionName", "port"].iter().all(|key| is_same(of, key))
    };
    let reports = route.status["parents"].as_array().into_iter().flatten();
    let reports: Vec<_> = reports.filter(|report| is_about(&report["parentRef"])).cloned().collect();
    answered(&reports.into(), 1, &[("Accepted", true), ("ResolvedRefs", false)], route.metadata.generation)
}

/// The namespaces and the names of the Gateways that have not answered about a way in.
pub fn silent(piece: &Piece) -> Vec<String> {
    let Piece::HttpRoute(route) = piece else { return Vec::new() };
    let home = route.metadata.namespace.as_deref().unwrap_or_default();
    let parents = route.spec["parentRefs"].as_array().into_iter().flatten();
    let silent = parents.filter(|parent| attached(route, parent) == Acceptance::Awaited);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    silent
        .filter_map(|to| Some(format!("{}/{}", text(&to["namespace"]).unwrap_or(home.into()), text(&to["name"])?)))
        .collect()
}

/// The refusal of a policy that another one replaces: for the same route, or for a part of it.
fn replaced(policy: &SecurityPolicy) -> Option<Acceptance> {
    let reports = policy.status["ancestors"].as_array().into_iter().flatten();
    let mut conditions = reports.flat_map(|report| report["conditions"].as_array().into_iter().flatten());
    let is_replaced = |condition: &&Value| {
        (condition["type"] == "Overridden" || condition["type"] == "Conflicted") && condition["status"] == "True"
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    conditions
        .find(is_replaced)
        .map(|found| Acceptance::Refused(format!("{}: {}", text(&found["type"]), text(&found["message"]))))
}

/// The name of the first of these Gateways that does not report on a policy. Another controller ignores the policy, and
/// so does one that has not seen it for this Gateway. `home` is the namespace of a Gateway that names none.
pub fn unreported<'a>(policy: &Piece, gateways: &'a [ParentRef], home: &str) -> Option<&'a str> {
    let Piece::SecurityPolicy(policy) = policy else { return None };
    let reports: Vec<_> = policy.status["ancestors"].as_array().into_iter().flatten().collect();
    let is_for = |report: &&Value, gateway: &ParentRef| {
        let (by, namespace) = (&report["ancestorRef"], gateway.namespace.as_ref().map_or(home, |it| it.as_str()));
        by["name"] == gateway.name.as_str() && by["namespace"].as_str().unwrap_or(home) == namespace
    };
    let lacks = |gateway: &&ParentRef| !reports.iter().any(|report| is_for(report, gateway));
    gateways.iter().find(lacks).map(|gateway| gateway.name.as_str())
}

/// The answer of a list of reports with conditions. At least `wanted` reports must have each condition of `needed`. A
/// condition that is marked as required must be there. Conditions about an older generation do not count.
fn answered(reports: &Value, wanted: usize, needed: &[(&str, bool)], generation: Option<i64>) -> Acceptance {
    let reports: Vec<_> = reports.as_array().into_iter().flatten().collect();
    let each = reports.iter().map(|report| {
        needed.iter().map(|(type_, is_required)| condition(report, type_, *is_required, generation)).collect::<Vec<_>>()
    });
    let all: Vec<_> = each.flatten().collect();
    let refused = all.iter().find(|answer| matches!(answer, Acceptance::Refused(_)));
    match refused {
        Some(refused) => refused.clone(),
        None if reports.len() < wanted || all.contains(&Acceptance::Awaited) => Acceptance::Awaited,
        None => Acceptance::Accepted,
    }
}

/// The answer of one condition of a report.
pub(super) fn condition(report: &Value, type_: &str, is_required: bool, generation: Option<i64>) -> Acceptance {
    let conditions = report["conditions"].as_array().into_iter().flatten();
    let is_current = |condition: &&Value| {
        let observed = condition["observedGeneration"].as_i64();
        generation.is_none() || observed.is_none() || observed == generation
    };
    let Some(condition) = conditions.filter(|it| it["type"] == type_).find(is_current) else {
        return if is_required { Acceptance::Awaited } else { Acceptance::Accepted };
    };
    match condition["status"].as_str() {
        Some("True") => Acceptance::Accepted,
        Some("False") => {
            let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
            Acceptance::Refused(format!("{}: {}", text("reason"), text("message")))
        }
        _ => Acceptance::Awaited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::loose::{HttpRoute, SecurityPolicy};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::json;

    fn route(parents: Value) -> Piece {
        let metadata = ObjectMeta { generation: Some(2), ..ObjectMeta::default() };
        let mut route = HttpRoute::new(metadata, json!({"parentRefs": [{"name": "g"}]}));
        route.status = json!({ "parents": parents });
        route.into()
    }

    fn said(type_: &str, status: &str, generation: i64) -> Value {
        json!({"type": type_, "status": status, "reason": "R", "message": "m", "observedGeneration": generation})
    }

    #[test]
    fn a_route_is_accepted_once_its_parent_says_so_about_its_generation() {
        let of =
            |conditions: Value| acceptance(&route(json!([{"parentRef": {"name": "g"}, "conditions": conditions}])));
        assert_eq!(of(json!([said("Accepted", "True", 2)])), Acceptance::Accepted);
        assert_eq!(of(json!([said("Accepted", "True", 1)])), Acceptance::Awaited);
        assert_eq!(of(json!([said("Accepted", "Unknown", 2)])), Acceptance::Awaited);
        assert_eq!(of(json!([])), Acceptance::Awaited);
        let refused = Acceptance::Refused("R: m".into());
        assert_eq!(of(json!([said("Accepted", "False", 2)])), refused);
        assert_eq!(of(json!([said("Accepted", "True", 2), said("ResolvedRefs", "False", 2)])), refused);
        assert_eq!(acceptance(&route(json!([]))), Acceptance::Awaited);
    }

    #[test]
    fn each_parent_of_a_route_has_to_accept_it() {
        let parents = json!([{"name": "g"}, {"name": "h", "namespace": "b", "sectionName": "s"}]);
        let by = |reports: &[(Value, &str)]| {
            let metadata = ObjectMeta { generation: Some(2), namespace: Some("a".into()), ..ObjectMeta::default() };
            let mut route = HttpRoute::new(metadata, json!({ "parentRefs": parents }));
            let report = |(parent, status): &(Value, &str)| json!({"parentRef": parent, "conditions": [said("Accepted", status, 2)]});
            route.status = json!({ "parents": reports.iter().map(report).collect::<Vec<_>>() });
            let route = route.into();
            let (answer, silent) = (acceptance(&route), silent(&route));
            assert_eq!(silent.is_empty(), answer != Acceptance::Awaited);
            assert!(silent.is_empty() || silent == ["b/h"], "{silent:?}");
            answer
        };
        let g =
            (json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g", "namespace": "a"}), "True");
        let h = (json!({"name": "h", "namespace": "b", "sectionName": "s"}), "True");
        let former = (json!({"name": "former"}), "True");
        let another = (json!({"name": "h", "namespace": "b", "sectionName": "t"}), "True");
        assert_eq!(by(&[g.clone(), h.clone()]), Acceptance::Accepted);
        let listener = (json!({"name": "g", "namespace": "a", "sectionName": "web"}), "True");
        assert_eq!(by(&[listener, h.clone()]), Acceptance::Accepted, "a report on a listener, where none is named");
        assert_eq!(by(&[g.clone(), former]), Acceptance::Awaited, "a former parent has reported");
        assert_eq!(by(&[g.clone(), another]), Acceptance::Awaited, "another listener has reported");
        assert_eq!(by(&[g, (h.0, "False")]), Acceptance::Refused("R: m".into()));
    }

    #[test]
    fn a_policy_is_accepted_by_its_ancestor() {
        let mut policy = SecurityPolicy::new(ObjectMeta::default(), json!({}));
        assert_eq!(acceptance(&policy.clone().into()), Acceptance::Awaited);
        policy.status = json!({"ancestors": [{"conditions": [said("Accepted", "True", 1)]}]});
        assert_eq!(acceptance(&policy.clone().into()), Acceptance::Accepted);
        for type_ in ["Overridden", "Conflicted"] {
            let conditions = json!([said("Accepted", "True", 1), said(type_, "True", 1)]);
            policy.status = json!({ "ancestors": [{ "conditions": conditions }] });
            let refused = Acceptance::Refused(format!("{type_}: m"));
            assert_eq!(acceptance(&policy.clone().into()), refused);
        }
    }

    #[test]
    fn each_gateway_has_to_report_on_a_policy() {
        let gateways: Vec<ParentRef> =
            serde_json::from_value(json!([{"name": "g"}, {"name": "h", "namespace": "b"}])).unwrap();
        let by = |ancestors: Value| {
            let mut policy = SecurityPolicy::new(ObjectMeta::default(), json!({}));
            policy.status = json!({ "ancestors": ancestors });
            unreported(&policy.into(), &gateways, "a").map(str::to_owned)
        };
        let (g, h) = (json!({"ancestorRef": {"name": "g"}}), json!({"ancestorRef": {"name": "h", "namespace": "b"}}));
        assert_eq!(by(json!([])).as_deref(), Some("g"));
        assert_eq!(by(json!([g])).as_deref(), Some("h"));
        assert_eq!(by(json!([g, {"ancestorRef": {"name": "h", "namespace": "a"}}])).as_deref(), Some("h"));
        assert_eq!(by(json!([h, g])), None);
    }
}
