//! What a token may do now, for its status.

use super::{bearer::Bearer, judge::asked_role, policy::Policy, roles::Standing, rules::Rules};
use crate::crd::{
    access_policy::Effect,
    api_token::{Effective, LimitedBy},
    instance::Authorization,
};

/// The most patterns of actions that a status lists.
const MOST: usize = 64;

/// What the bearer may do at the most, in all organizations together, and what holds it to that.
pub fn effective(rules: &Rules, policies: &[&Policy], bearer: &Bearer) -> Effective {
    let roles = &rules.roles;
    let asked = asked_role(rules, bearer);
    let standing = rules.standing(bearer);
    let held = match &standing {
        Standing::Free => None,
        Standing::Nobody => Some(&[][..]),
        Standing::Holds(held) => Some(&held[..]),
    };
    let most = held.map(|held| held.iter().map(|held| held.rank).max());
    let role = match most {
        None => asked,
        Some(most) => asked.zip(most).map(|(asked, most)| asked.min(most)),
    };
    let organizations = bearer.organizations.and(&standing.organizations());
    let names = rules.names(bearer);
    let bars =
        |policy: &&&Policy, effect| policy.is_about(&names, effect) && policy.statements(effect).next().is_some();
    let denied = policies.iter().any(|policy| bars(&policy, Effect::Deny));
    let limits = [
        (role != asked || organizations != bearer.organizations, LimitedBy::Owner),
        (is_narrowed(rules, bearer) || bearer.narrowed, LimitedBy::Account),
        (denied, LimitedBy::Policy),
    ];
    let lent = |action: &str| {
        held.is_none_or(|held| {
            held.iter().any(|held| roles.actions(held.rank).include(Some(action).filter(|action| *action != "*")))
        })
    };
    let mut actions: Vec<String> = match rules.authorization {
        Authorization::Authenticated if held.is_some_and(<[_]>::is_empty) => Vec::new(),
        Authorization::Authenticated => vec!["*".into()],
        Authorization::Roles => {
            let by_role = role.into_iter().flat_map(|rank| roles.actions(rank).patterns());
            let allowing = policies.iter().filter(|policy| bars(policy, Effect::Allow));
            let by_policy =
                allowing.flat_map(|policy| policy.statements(Effect::Allow)).flat_map(|said| said.patterns(roles));
            by_role.chain(by_policy.filter(|action| lent(action))).map(str::to_owned).collect()
        }
    };
    actions.sort();
    actions.dedup();
    actions.truncate(MOST);
    Effective {
        role: role.map(|rank| roles.name(rank).to_owned()),
        actions,
        organizations: organizations.names(),
        projects: bearer.projects.names(),
        limited_by: limits.into_iter().filter_map(|(holds, by)| holds.then_some(by)).collect(),
    }
}

/// Whether the account has a weaker role than the token asks for.
fn is_narrowed(rules: &Rules, bearer: &Bearer) -> bool {
    let wanted = bearer.token_role.as_deref().and_then(|role| rules.roles.rank(role));
    let granted = bearer.account_role.as_deref().and_then(|role| rules.roles.rank(role));
    wanted.is_some_and(|wanted| granted.is_none_or(|granted| granted < wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::properties::world;
    use serde_json::{Value, json};

    fn told(instance: &Value, policies: &Value, token: &Value, account: &Value) -> Value {
        let world = world(instance, policies, token, account);
        let policies: Vec<_> = world.policies.iter().collect();
        serde_json::to_value(effective(&world.rules, &policies, &world.bearer)).unwrap()
    }

    #[test]
    fn a_token_says_what_it_may_do() {
        let none = json!({});
        assert_eq!(
            told(&none, &json!([]), &none, &none),
            json!({"role": null, "actions": ["*"], "organizations": null, "projects": null, "limitedBy": []})
        );
        let roles = json!({"api": {"authorization": "Roles"}});
        assert_eq!(told(&roles, &json!([]), &none, &none)["actions"], json!([]));
        let token = json!({"projects": ["p", "q"], "organizations": {"listed": ["b", "a"]}});
        assert_eq!(
            told(&roles, &json!([]), &token, &json!({"role": "contributor"})),
            json!({"role": "contributor", "actions": ["*:read", "*:write"], "organizations": ["a", "b"], "projects": ["p", "q"], "limitedBy": []})
        );
    }

    #[test]
    fn it_says_what_limits_it() {
        let roles = json!({"api": {"authorization": "Roles"}});
        let admin = json!({"role": "admin"});
        assert_eq!(told(&roles, &json!([]), &admin, &json!({"role": "viewer"}))["limitedBy"], json!(["Account"]));
        let members = json!({
            "api": {"authorization": "Roles"}, "ceiling": "Members",
            "members": [{"subject": "user:a", "role": "viewer", "organizations": {"listed": ["x"]}}],
        });
        let owned = told(&members, &json!([]), &json!({"owner": "user:a"}), &admin);
        assert_eq!(
            (&owned["role"], &owned["organizations"], &owned["limitedBy"]),
            (&json!("viewer"), &json!(["x"]), &json!(["Owner"]))
        );
        let deny = json!([{"name": "d", "members": ["token:events/*"], "statements": [{"effect": "Deny", "actions": ["a:b"]}]}]);
        assert_eq!(told(&roles, &deny, &json!({}), &admin)["limitedBy"], json!(["Policy"]));
        assert_eq!(told(&roles, &deny, &json!({}), &admin)["actions"], json!(["*", "*:read", "*:write"]));
    }
}
