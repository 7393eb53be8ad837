//! The subjects that have left an Instance.

use std::collections::HashSet;

use super::bearer::Bearer;
use crate::crd::subject::{FormerOwner, canonical};

/// The subjects that have left an Instance. A token of one of them has no owner any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FormerOwners(HashSet<String>);

impl FormerOwners {
    /// Reads `spec.formerOwners`.
    pub(super) fn of(listed: &[FormerOwner]) -> Self {
        Self(listed.iter().map(|former| canonical(former.as_str()).into_owned()).collect())
    }

    /// True if `owner` has left.
    pub(super) fn has(&self, owner: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&*canonical(owner))
    }

    /// The first owner of a bearer that has left. The owners of the accounts behind the token count too.
    pub(super) fn of_bearer<'a>(&self, bearer: &'a Bearer<'_>) -> Option<&'a str> {
        bearer.owners().find(|owner| self.has(owner))
    }
}

#[cfg(test)]
mod tests {
    use crate::access::{Closed, Ground, MOST_OWNERS, Outlook, properties::world};
    use serde_json::{Value, json};

    fn instance(ceiling: &str, then: &str) -> Value {
        let members = json!([
            {"subject": "user:carl", "role": "admin"}, {"subject": "team:t", "role": "admin"},
            {"subject": "group:g", "role": "admin"}, {"subject": "user:alice", "role": "admin"},
            {"subject": "account:events/bot", "role": "admin"}, {"subject": "serviceaccount:ci/bot", "role": "admin"},
        ]);
        json!({
            "api": {"authorization": "Roles"}, "ceiling": ceiling, "members": members,
            "teams": [{"name": "t", "users": ["carl"]}], "tokens": {"onOwnerRemoved": then},
            "formerOwners": ["user:carl", "serviceaccount:ci/bot"],
        })
    }

    /// The decision on a request of an administrator's token of this owner, whose account has this owner.
    fn ground(instance: &Value, owner: &str, of_account: Option<&str>) -> Ground {
        let policy =
            json!([{"name": "p", "members": [owner, "user:*"], "statements": [{"effect": "Allow", "role": "admin"}]}]);
        let account = json!({"role": "admin", "owner": of_account});
        let mut world = world(instance, &policy, &json!({"owner": owner}), &account);
        world.bearer.groups = vec!["g".into()].into();
        let policies: Vec<_> = world.policies.iter().collect();
        let (ground, opened) = (world.ground("GET"), Outlook::of(&world.rules, &policies, &world.bearer).opening());
        assert_eq!(opened.is_ok(), ground.allows(), "{opened:?}");
        assert!(ground != Ground::OwnerRemoved || opened == Err(Closed::OwnerRemoved));
        ground
    }

    #[test]
    fn a_former_owner_holds_nothing_by_whatever_name_it_was_known() {
        for (ceiling, then) in [("Members", "Revoke"), ("Members", "Keep"), ("None", "Revoke"), ("None", "Suspend")] {
            let instance = instance(ceiling, then);
            for owner in ["user:carl", "serviceaccount:ci/bot", "user:system:serviceaccount:ci:bot"] {
                assert_eq!(ground(&instance, owner, None), Ground::OwnerRemoved, "{ceiling} {then} {owner}");
            }
            assert_eq!(ground(&instance, "user:alice", None), Ground::ByRole, "{ceiling} {then}");
            assert_eq!(ground(&instance, "user:alice", Some("user:alice")), Ground::ByRole);
            let gone = ground(&instance, "user:alice", Some("user:carl"));
            assert_eq!(gone, Ground::OwnerRemoved, "{ceiling} {then}: the account is that of a former owner");
        }
    }

    #[test]
    fn a_token_that_is_kept_without_a_ceiling_stays_without_the_rights_of_its_owner() {
        let kept = instance("None", "Keep");
        assert_eq!(ground(&kept, "user:carl", None), Ground::ByRole, "its role is not the owner's");
        let policy = |member: &str| {
            let allow =
                json!([{"name": "p", "members": [member], "statements": [{"effect": "Allow", "actions": ["*"]}]}]);
            world(&kept, &allow, &json!({"owner": "user:carl"}), &json!({})).ground("GET")
        };
        for member in ["user:carl", "user:*", "team:t"] {
            assert_eq!(policy(member), Ground::NoPermissions, "{member}");
        }
        assert_eq!(policy("token:events/ci"), Ground::ByPolicy);
    }

    #[test]
    fn an_account_of_a_former_owner_owns_nothing() {
        let instance = instance("Members", "Revoke");
        // Each account owns the one before it.
        let of = |token: &Value, account: &Value, owner_of: &dyn Fn(&str) -> Option<String>| {
            let mut world = world(&instance, &json!([]), token, account);
            world.bearer = world.bearer.followed(|namespace, name| {
                assert_eq!(namespace, "events");
                owner_of(name).map(Into::into)
            });
            (world.ground("GET"), world.bearer.behind.into_iter().map(String::from).collect::<Vec<_>>())
        };
        let owned = json!({"owner": "account:events/bot"});
        let admin = json!({"role": "admin"});
        let nth = |number: usize| format!("account:events/bot{number}");
        let chain = |end: usize| {
            move |name: &str| {
                let number: usize = name.trim_start_matches("bot").parse().unwrap_or_default();
                Some(if number == end { "user:carl".to_owned() } else { nth(number + 1) })
            }
        };
        assert_eq!(of(&owned, &admin, &|_| Some("user:alice".into())).0, Ground::ByRole);
        for end in 0..MOST_OWNERS - 1 {
            assert_eq!(of(&owned, &admin, &chain(end)).0, Ground::OwnerRemoved, "{end}");
        }
        let (ground, behind) = of(&owned, &admin, &chain(MOST_OWNERS));
        assert_eq!((ground, behind.len()), (Ground::ByRole, MOST_OWNERS - 1), "the number of owners is bounded");
        let circle = |name: &str| Some(if name == "bot" { nth(1) } else { "account:events/bot".to_owned() });
        assert_eq!(of(&owned, &admin, &circle), (Ground::ByRole, vec![nth(1)]), "accounts that own each other");
        // The account that the token acts as belongs to an account.
        let acted = json!({"role": "admin", "owner": nth(1)});
        assert_eq!(of(&json!({"owner": "user:alice"}), &acted, &chain(3)).0, Ground::OwnerRemoved);
        assert_eq!(of(&json!({"owner": "user:alice"}), &acted, &|_| None).0, Ground::ByRole);
    }

    #[test]
    fn an_account_that_was_made_for_the_token_has_no_owner_of_its_own() {
        // After a transfer the account follows the token with a delay.
        let token = json!({"serviceAccountRef": null, "owner": "user:alice", "role": "admin"});
        let account = json!({"role": "admin", "owner": "user:carl"});
        let world = world(&instance("Members", "Revoke"), &json!([]), &token, &account);
        assert_eq!(world.ground("GET"), Ground::ByRole);
    }
}
