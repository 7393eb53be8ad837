//! The permissions that a token has now, for its status.

use std::collections::BTreeSet;

use super::{
    action::{common, widest},
    bearer::Bearer,
    default_role::default_role,
    judge::asked_role,
    policy::{Clause, Policy},
    roles::{Holding, Rank, Roles, Standing},
    rules::Rules,
};
use crate::crd::{
    access_policy::Effect,
    api_token::{Effective, LimitedBy},
    instance::Authorization,
};

/// The most patterns of actions that a status lists.
const MOST: usize = 64;
/// The most policies that a status lists.
const MOST_POLICIES: usize = 32;
/// The most pairs of patterns that are compared for a status. A pair is a pattern that a policy gives, and a pattern
/// that the owner holds.
const PAIRS: usize = 65_536;

/// The widest permissions of the bearer in all organizations together, and the causes that limit them.
pub fn effective(rules: &Rules, policies: &[&Policy], bearer: &Bearer) -> Effective {
    let roles = &rules.roles;
    let standing = rules.standing(bearer);
    let asked = asked_role(rules, bearer, &standing);
    let role = role(rules, bearer, &standing);
    let organizations = bearer.organizations.and(&standing.organizations());
    let names = rules.names(bearer);
    let denied = policies.iter().any(|policy| policy.is_about(&names, Effect::Deny));
    let limits = [
        (role != asked || organizations != bearer.organizations, LimitedBy::Owner),
        (is_narrowed(rules, bearer, &standing) || bearer.narrowed, LimitedBy::Account),
        (denied, LimitedBy::Policy),
    ];
    Effective {
        role: role.map(|rank| roles.name(rank).to_owned()),
        actions: actions(rules, policies, bearer),
        policies: permitting(rules, policies, bearer, &standing),
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
    let given: BTreeSet<&str> = given(rules, policies, bearer).map(|(_, pattern)| pattern).collect();
    let mut actions: BTreeSet<String> = by_role.map(str::to_owned).collect();
    match held {
        None => actions.extend(given.into_iter().map(str::to_owned)),
        Some(held) => {
            let own = own(roles, held);
            // Users write both lists, and the number of pairs is the product of their lengths. A status lists few
            // patterns, so the number of pairs is limited.
            let enough = given.into_iter().take(PAIRS / own.len().max(1));
            actions.extend(enough.flat_map(|given| widest(own.iter().flat_map(|own| common(own, given)).collect())));
        }
    }
    actions.into_iter().take(MOST).collect()
}

/// The names of the policies that permit some action, sorted.
fn permitting(rules: &Rules, policies: &[&Policy], bearer: &Bearer, standing: &Standing) -> Vec<String> {
    if rules.authorization == Authorization::Authenticated {
        return Vec::new();
    }
    let own = standing.held().map(|held| own(&rules.roles, held));
    let lent = |given: &str| own.as_ref().is_none_or(|own| own.iter().any(|own| !common(own, given).is_empty()));
    let most = own.as_ref().map_or(usize::MAX, |own| PAIRS / own.len().max(1));
    let mut names = BTreeSet::new();
    for (name, pattern) in given(rules, policies, bearer).take(most) {
        if names.len() < MOST_POLICIES && !names.contains(name) && lent(pattern) {
            names.insert(name);
        }
    }
    names.into_iter().map(str::to_owned).collect()
}

/// The patterns of actions that policies give the bearer, each with the name of its policy. The owner may hold fewer
/// actions.
fn given<'a>(
    rules: &'a Rules,
    policies: &'a [&'a Policy],
    bearer: &'a Bearer,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let names = rules.names(bearer);
    let here = move |said: &&Clause| rules.can_name_project(&said.projects.and(&bearer.projects));
    let about = policies.iter().filter(move |policy| policy.is_about(&names, Effect::Allow));
    about.flat_map(move |policy| {
        let statements = policy.statements(Effect::Allow).filter(here);
        statements.flat_map(|said| said.patterns(&rules.roles)).map(|pattern| (&*policy.name, pattern))
    })
}

/// The patterns of actions that an owner holds.
fn own<'a>(roles: &'a Roles, held: &[Holding]) -> BTreeSet<&'a str> {
    let ranks: BTreeSet<Rank> = held.iter().map(|held| held.rank).collect();
    ranks.into_iter().flat_map(|rank| roles.actions(rank).patterns()).collect()
}

/// The effective role, regardless of the organization. It is the weaker of the role that is asked for and the strongest
/// role that the owner holds anywhere.
fn role(rules: &Rules, bearer: &Bearer, standing: &Standing) -> Option<Rank> {
    let asked = asked_role(rules, bearer, standing);
    match standing.held().map(|held| held.iter().map(|held| held.rank).max()) {
        None => asked,
        Some(most) => asked.zip(most).map(|(asked, most)| asked.min(most)),
    }
}

/// True if the account has a weaker role than the token asks for. The account of a token with the default role can have
/// none, which narrows nothing.
fn is_narrowed(rules: &Rules, bearer: &Bearer, standing: &Standing) -> bool {
    let rank = |role: &Option<String>| role.as_deref().and_then(|role| rules.roles.rank(role));
    let by_default = || default_role(rules, bearer, standing).filter(|_| bearer.account_role.is_some());
    let wanted = match &bearer.token_role {
        None if bearer.own_account => by_default(),
        None | Some(_) => rank(&bearer.token_role),
    };
    let granted = rank(&bearer.account_role);
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
            json!({"role": null, "actions": ["*"], "policies": [], "organizations": ["eem"], "projects": null, "limitedBy": []})
        );
        let any = json!({"organizations": ["*"]});
        assert_eq!(told(&any, &json!([]), &none, &none)["organizations"], Value::Null);
        let roles = json!({"api": {"authorization": "Roles"}});
        assert_eq!(told(&roles, &json!([]), &none, &none)["actions"], json!([]));
        let token = json!({"projects": ["p", "q"], "organizations": {"listed": ["b", "a"]}});
        let roles = json!({"api": {"authorization": "Roles"}, "organizations": ["c", "b", "a"]});
        assert_eq!(
            told(&roles, &json!([]), &token, &json!({"role": "contributor"})),
            json!({
                "role": "contributor", "actions": ["*:read", "*:write"], "policies": [],
                "organizations": ["a", "b"], "projects": ["p", "q"], "limitedBy": [],
            })
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
    fn policies_that_permit_something_are_named_and_the_role_stays_none() {
        let instance = json!({
            "api": {"authorization": "Roles"}, "ceiling": "Members", "roles": [{"name": "own", "actions": ["*:read"]}],
            "members": [{"subject": "user:a", "role": "own"}],
        });
        let policy = |name: &str, member: &str, effect: &str, action: &str| json!({"name": name, "members": [member], "statements": [{"effect": effect, "actions": [action]}]});
        let policies = json!([
            policy("reads", "user:a", "Allow", "topics:read"),
            policy("all", "user:*", "Allow", "*"),
            policy("writes", "user:a", "Allow", "topics:write"),
            policy("others", "user:b", "Allow", "*"),
            policy("denies", "user:a", "Deny", "keys:read"),
        ]);
        let said = told(&instance, &policies, &json!({"owner": "user:a"}), &json!({}));
        assert_eq!((&said["role"], &said["policies"]), (&Value::Null, &json!(["all", "reads"])));
        let free = json!({"api": {"authorization": "Roles"}});
        let said = told(&free, &policies, &json!({"owner": "user:a"}), &json!({}));
        assert_eq!(said["policies"], json!(["all", "reads", "writes"]));
        assert_eq!(told(&json!({}), &policies, &json!({"owner": "user:a"}), &json!({}))["policies"], json!([]));
        let many: Vec<_> = (10..50).map(|n| policy(&format!("p{n}"), "user:a", "Allow", "*")).collect();
        let said = told(&free, &json!(many), &json!({"owner": "user:a"}), &json!({}));
        assert_eq!(said["policies"].as_array().unwrap().len(), MOST_POLICIES);
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
