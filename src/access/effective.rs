//! The permissions that a token has now, for its status.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    action::{common, widest},
    default_role::default_role,
    outlook::Outlook,
};
use crate::crd::{
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

impl Outlook<'_> {
    /// The widest permissions of the bearer in all organizations together, and the causes that limit them.
    pub fn effective(&self) -> Effective {
        let (rules, bearer, role) = (self.rules, self.bearer, self.role());
        let organizations = bearer.organizations.and(&self.standing.organizations());
        let limits = [
            (role != self.asked || organizations != *bearer.organizations, LimitedBy::Owner),
            (self.is_narrowed() || bearer.narrowed, LimitedBy::Account),
            (!self.denying.is_empty(), LimitedBy::Policy),
        ];
        Effective {
            role: role.map(|rank| rules.roles.name(rank).to_owned()),
            actions: self.actions.clone(),
            policies: self.permitting(),
            organizations: organizations.and(&rules.organizations).names(),
            projects: bearer.projects.names(),
            limited_by: limits.into_iter().filter_map(|(holds, by)| holds.then_some(by)).collect(),
        }
    }

    /// The permitted actions, as patterns. The effective role permits actions. A policy permits actions as far as the
    /// owner holds them too.
    pub(super) fn permitted(&self) -> Vec<String> {
        let roles = &self.rules.roles;
        if self.rules.authorization == Authorization::Authenticated {
            let nobody = self.standing.held().is_some_and(<[_]>::is_empty);
            return if nobody { Vec::new() } else { vec!["*".into()] };
        }
        let by_role = self.role().into_iter().flat_map(|rank| roles.actions(rank).patterns());
        let mut actions: BTreeSet<String> = by_role.map(str::to_owned).collect();
        let given: BTreeSet<&str> = self.given.iter().map(|(_, pattern)| *pattern).collect();
        match &self.own {
            None => actions.extend(given.into_iter().map(str::to_owned)),
            Some(own) => {
                // Users write both lists, and the number of pairs is the product of their lengths. A status lists few
                // patterns, so the number of pairs is limited.
                let enough = given.into_iter().take(PAIRS / own.len().max(1));
                actions
                    .extend(enough.flat_map(|given| widest(own.iter().flat_map(|own| common(own, given)).collect())));
            }
        }
        actions.into_iter().take(MOST).collect()
    }

    /// The names of the policies that permit some action, sorted.
    fn permitting(&self) -> Vec<String> {
        let lent =
            |given: &str| self.own.as_ref().is_none_or(|own| own.iter().any(|own| !common(own, given).is_empty()));
        let most = self.own.as_ref().map_or(usize::MAX, |own| PAIRS / own.len().max(1));
        let mut names = BTreeSet::new();
        for &(name, pattern) in self.given.iter().take(most) {
            if names.len() < MOST_POLICIES && !names.contains(name) && lent(pattern) {
                names.insert(name);
            }
        }
        names.into_iter().map(str::to_owned).collect()
    }

    /// True if the account has a weaker role than the token asks for. The account of a token with the default role can
    /// have none, which narrows nothing.
    fn is_narrowed(&self) -> bool {
        let (rules, bearer) = (self.rules, self.bearer);
        let rank = |role: &Option<Cow<'_, str>>| role.as_deref().and_then(|role| rules.roles.rank(role));
        let by_default = || default_role(rules, bearer, &self.standing).filter(|_| bearer.account_role.is_some());
        let wanted = match &bearer.token_role {
            None if bearer.own_account => by_default(),
            None | Some(_) => rank(&bearer.token_role),
        };
        let granted = rank(&bearer.account_role);
        wanted.is_some_and(|wanted| granted.is_none_or(|granted| granted < wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::properties::world;
    use serde_json::{Value, json};

    fn told(instance: &Value, policies: &Value, token: &Value, account: &Value) -> Value {
        let world = world(instance, policies, token, account);
        let policies: Vec<_> = world.policies.iter().collect();
        serde_json::to_value(Outlook::of(&world.rules, &policies, &world.bearer).effective()).unwrap()
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
