//! The answer of another controller about an object: if it has accepted it. Read from the object's status.

use serde_json::Value;

use super::Piece;

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
            let wanted = route.spec["parentRefs"].as_array().map_or(1, Vec::len);
            let needed = [("Accepted", true), ("ResolvedRefs", false)];
            answered(&route.status["parents"], wanted, &needed, route.metadata.generation)
        }
        Piece::SecurityPolicy(policy) => {
            let ancestors = &policy.status["ancestors"];
            overridden(ancestors)
                .unwrap_or_else(|| answered(ancestors, 1, &[("Accepted", true)], policy.metadata.generation))
        }
        Piece::Route(route) => answered(&route.status["ingress"], 1, &[("Admitted", true)], None),
    }
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

/// The refusal of a policy that another one replaces for a part of the route. Such a policy stays accepted.
fn overridden(reports: &Value) -> Option<Acceptance> {
    let mut conditions =
        reports.as_array().into_iter().flatten().flat_map(|it| it["conditions"].as_array().into_iter().flatten());
    let condition = conditions.find(|it| it["type"] == "Overridden" && it["status"] == "True")?;
    Some(Acceptance::Refused(format!("Overridden: {}", condition["message"].as_str().unwrap_or_default())))
}

/// The answer of one condition of a report.
fn condition(report: &Value, type_: &str, is_required: bool, generation: Option<i64>) -> Acceptance {
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
        let of = |conditions: Value| acceptance(&route(json!([{ "conditions": conditions }])));
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
    fn a_policy_is_accepted_by_its_ancestor() {
        let mut policy = SecurityPolicy::new(ObjectMeta::default(), json!({}));
        assert_eq!(acceptance(&policy.clone().into()), Acceptance::Awaited);
        policy.status = json!({"ancestors": [{"conditions": [said("Accepted", "True", 1)]}]});
        assert_eq!(acceptance(&policy.clone().into()), Acceptance::Accepted);
        let conditions = json!([said("Accepted", "True", 1), said("Overridden", "True", 1)]);
        policy.status = json!({"ancestors": [{ "conditions": conditions }]});
        assert_eq!(acceptance(&policy.into()), Acceptance::Refused("Overridden: m".into()));
    }
}
