//! The permissions that a token has now, for its status.

use std::collections::BTreeSet;

use super::{
    action::{common, widest},
    bearer::Bearer,
    judge::asked_role,
    policy::{Clause, Policy},
    roles::{Rank, Standing},
    rules::Rules,
};
use crate::crd::{
    access_policy::Effect,
    api_token::{Effective, LimitedBy},
    instance::Authorization,
};

/// The most patterns of actions that a status lists.
const MOST: usize = 64;
/// The most pairs of patterns that are compared for a status. A pair is a pattern that a policy gives, and a pattern
/// that the owner holds.
const PAIRS: usize = 65_536;

/// The widest permissions of the bearer in all organizations together, and the causes that limit them.
pub fn effective(rules: &Rules, policies: &[&Policy], bearer: &Bearer) -> Effective {
    let roles = &rules.roles;
    let asked = asked_role(rules, bearer);
    let standing = rules.standing(bearer);
    let role = role(rules, bearer, &standing);
    let organizations = bearer.organizations.and(&standing.organizations());
    let names = rules.names(bearer);
    let denied = policies.iter().any(|policy| policy.is_about(&names, Effect::Deny));
    let limits = [
        (role != asked || organizations != bearer.organizations, LimitedBy::Owner),
        (is_narrowed(rules, bearer) || bearer.narrowed, LimitedBy::Account),
        (denied, LimitedBy::Policy),
    ];
    Effective {
        role: role.map(|rank| roles.name(rank).to_owned()),
        actions: actions(rules, policies, bearer),
        organizations: organizations.and(&rules.organizations).names(),
        projects: bearer.projects.names(),
        limited_by: limits.into_iter().filter_map(|(holds, by)| holds.then_some(by)).collect(),
    }
}

/// The permitted actions, as patterns. The effective role permits actions. A policy permits actions as far as the owner
/// holds them too. A statement with projects counts if a request of the bearer can name one of them.
pub(super) fn actions(rules: &Rules, policies: &[&Policy], bearer: &Bearer) -> Vec<String> {
    let roles = &rules.roles;
    let standing = rules.standing(bearer);
    let held = standing.held();
    if rules.authorization == Authorization::Authenticated {
        return if held.is_some_and(<[_]>::is_empty) { Vec::new() } else { vec!["*".into()] };
    }
    let by_role = role(rules, bearer, &standing).into_iter().flat_map(|rank| roles.actions(rank).patterns());
    let names = rules.names(bearer);
    let here = |said: &&Clause| rules.can_name_project(&said.projects.and(&bearer.projects));
    let given = policies
        .iter()
        .filter(|policy| policy.is_about(&names, Effect::Allow))
        .flat_map(|policy| policy.statements(Effect::Allow))
        .filter(here)
        .flat_map(|said| said.patterns(roles));
    let given: BTreeSet<&str> = given.collect();
    let mut actions: BTreeSet<String> = by_role.map(str::to_owned).collect();
    match held {
        None => actions.extend(given.into_iter().map(str::to_owned)),
        Some(held) => {
            let ranks: BTreeSet<Rank> = held.iter().map(|held| held.rank).collect();
            let own: BTreeSet<&str> = ranks.into_iter().flat_map(|rank| roles.actions(rank).patterns()).collect();
            // Users write both lists, and the number of pairs is the product of their lengths. A status lists few
            // patterns, so the number of pairs is limited.
            let enough = given.into_iter().take(PAIRS / own.len().max(1));
            actions.extend(enough.flat_map(|given| widest(own.iter().flat_map(|own| common(own, given)).collect())));
        }
    }
    actions.into_iter().take(MOST).collect()
}

/// The effective role, regardless of the organization. It is the weaker of the role that is asked for and the strongest
/// role that the owner holds anywhere.
fn role(rules: &Rules, bearer: &Bearer, standing: &Standing) -> Option<Rank> {
    let asked = asked_role(rules, bearer);
    match standing.held().map(|held| held.iter().map(|held| held.rank).max()) {
        None => asked,
        Some(most) => asked.zip(most).map(|(asked, most)| asked.min(most)),
    }
}

/// True if the account has a weaker role than the token asks for.
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
            json!({"role": null, "actions": ["*"], "organizations": ["eem"], "projects": null, "limitedBy": []})
        );
        let any = json!({"organizations": ["*"]});
        assert_eq!(told(&any, &json!([]), &none, &none)["organizations"], Value::Null);
        let roles = json!({"api": {"authorization": "Roles"}});
        assert_eq!(told(&roles, &json!([]), &none, &none)["actions"], json!([]));
        let token = json!({"projects": ["p", "q"], "organizations": {"listed": ["b", "a"]}});
        let roles = json!({"api": {"authorization": "Roles"}, "organizations": ["c", "b", "a"]});
        assert_eq!(
            told(&roles, &json!([]), &token, &json!({"role": "contributor"})),
            json!({"role": "contributor", "actions": ["*:read", "*:write"], "organizations": ["a", "b"], "projects": ["p", "q"], "limitedBy": []})
        );
    }

    #[test]
    fn all_organizations_are_those_of_the_instance_that_the_owner_has() {
        let of = |listed: Value, held: Value| {
            let members = json!([{"subject": "user:a", "role": "viewer", "organizations": held}]);
            let instance = json!({"ceiling": "Members", "members": members, "organizations": listed});
            let told =
                told(&instance, &json!([]), &json!({"owner": "user:a", "organizations": {"all": true}}), &json!({}));
            (told["organizations"].clone(), told["limitedBy"].clone())
        };
        let all = json!({"all": true});
        assert_eq!(of(json!(["b", "a"]), all.clone()), (json!(["a", "b"]), json!([])));
        assert_eq!(of(json!(["b", "a"]), json!({"listed": ["b"]})), (json!(["b"]), json!(["Owner"])));
        assert_eq!(of(json!(["*"]), all), (Value::Null, json!([])));
    }

    #[test]
    fn what_a_policy_gives_is_told_as_far_as_the_owner_lends_it() {
        let of = |own: &str, given: Value| {
            let instance = json!({
                "api": {"authorization": "Roles"}, "ceiling": "Members", "roles": [{"name": "own", "actions": [own]}],
                "members": [{"subject": "user:a", "role": "own"}],
            });
            let policy = json!([{"name": "p", "members": ["user:a"], "statements": [given]}]);
            told(&instance, &policy, &json!({"owner": "user:a"}), &json!({}))["actions"].clone()
        };
        let allow = |action: &str| json!({"effect": "Allow", "actions": [action]});
        assert_eq!(of("*:read", allow("*")), json!(["*:read"]));
        assert_eq!(of("*:read", allow("topics:*")), json!(["topics:*:read", "topics:read"]));
        assert_eq!(of("*:read", allow("*:write")), json!([]));
        let mut of_project = allow("*");
        of_project["projects"] = json!(["p"]);
        assert_eq!(of("*:read", of_project), json!([]), "no request can name a project here");
    }

    #[test]
    fn it_says_what_limits_it() {
        let roles = json!({"api": {"authorization": "Roles"}});
        let admin = json!({"role": "admin"});
        assert_eq!(told(&roles, &json!([]), &admin, &json!({"role": "viewer"}))["limitedBy"], json!(["Account"]));
        let members = json!({
            "api": {"authorization": "Roles"}, "ceiling": "Members", "organizations": ["x", "y"],
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
