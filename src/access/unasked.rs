//! Decides on a token without a request.

use smol_str::SmolStr;

use super::{
    bearer::{Bearer, Reach},
    judge::{Ground, Ruling},
    opening::Closed,
    outlook::Outlook,
    policies::Policies,
    rules::Rules,
};

/// Decides if `bearer` may make some request. `policies` are all policies of the Instance.
///
/// The role of the ruling is the effective role of every request that is permitted. `None` if there is no role, or if
/// the role depends on the organization that a request names.
pub fn judge_unasked(rules: &Rules, policies: &Policies, bearer: &Bearer) -> Ruling {
    let about = policies.about(&rules.names(bearer));
    let outlook = Outlook::of(rules, &about, bearer);
    let ground = match outlook.opening() {
        Ok(()) => Ground::Authenticated,
        Err(Closed::OwnerMissing) => Ground::OwnerMissing,
        Err(Closed::OwnerRemoved) => Ground::OwnerRemoved,
        Err(Closed::OwnerStale) => Ground::OwnerStale,
        Err(Closed::Organization(_) | Closed::Project(_) | Closed::NoPermissions) => Ground::NoPermissions,
    };
    Ruling { ground, role: outlook.role_everywhere(), organization: None, message: None }
}

impl Outlook<'_> {
    /// The effective role, if it is the same in each organization that the token may act for.
    fn role_everywhere(&self) -> Option<SmolStr> {
        let (role, asked) = (self.role()?, self.asked?);
        let lent = self.standing.organizations().and(&self.bearer.organizations);
        let lends_it = self.standing.held().is_none_or(|held| {
            let strong = held.iter().filter(|holding| holding.rank.min(asked) == role);
            let none = Reach::Listed(Default::default());
            lent == lent.and(&strong.fold(none, |all, holding| all.or(&holding.organizations)))
        });
        lends_it.then(|| SmolStr::new(self.rules.roles.name(role)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::properties::world;
    use serde_json::{Value, json};

    fn ruling(instance: &Value, token: &Value, account: &Value) -> Ruling {
        let world = world(instance, &json!([]), token, account);
        judge_unasked(&world.rules, &Policies::default(), &world.bearer)
    }

    #[test]
    fn a_token_that_may_make_no_request_is_refused_without_one_too() {
        let ground = |instance: Value, token: Value| ruling(&instance, &token, &json!({})).ground;
        let roles = json!({"api": {"authorization": "Roles"}});
        let members = json!({"ceiling": "Members", "members": [{"subject": "user:a", "role": "admin"}]});
        assert_eq!(ground(json!({}), json!({})), Ground::Authenticated);
        assert_eq!(ground(roles, json!({})), Ground::NoPermissions);
        assert_eq!(ground(members.clone(), json!({})), Ground::OwnerMissing);
        assert_eq!(ground(members.clone(), json!({"owner": "user:b"})), Ground::OwnerRemoved);
        assert_eq!(ground(members, json!({"owner": "user:a"})), Ground::Authenticated);
    }

    #[test]
    fn a_role_is_known_without_a_request_if_it_is_the_same_in_each_organization() {
        let role = |members: Value, token: Value| {
            let instance = json!({
                "organizations": ["acme", "eem"], "api": {"organizationFrom": {"header": "X-Organization"}},
                "ceiling": "Members", "members": members,
            });
            ruling(&instance, &token, &json!({"role": "admin"})).role
        };
        let in_one =
            |role: &str, name: &str| json!({"subject": "user:a", "role": role, "organizations": {"listed": [name]}});
        let owned = json!({"owner": "user:a"});
        let narrow = json!({"owner": "user:a", "organizations": {"listed": ["acme"]}});
        let weak = json!({"owner": "user:a", "role": "viewer"});
        let two = json!([in_one("admin", "acme"), in_one("viewer", "eem")]);
        assert_eq!(role(two.clone(), owned.clone()), None);
        assert_eq!(role(two.clone(), narrow).as_deref(), Some("admin"));
        assert_eq!(role(two, weak).as_deref(), Some("viewer"));
        let other = json!([in_one("admin", "acme"), {"subject": "user:a", "role": "viewer"}]);
        assert_eq!(role(other, owned.clone()), None);
        assert_eq!(role(json!([in_one("admin", "acme")]), owned).as_deref(), Some("admin"));
        assert_eq!(ruling(&json!({}), &json!({}), &json!({"role": "admin"})).role.as_deref(), Some("admin"));
        assert_eq!(ruling(&json!({}), &json!({}), &json!({})).role, None);
    }
}
