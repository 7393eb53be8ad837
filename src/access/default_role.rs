//! The role of a token that names neither a role nor an account.

use super::{
    bearer::Bearer,
    roles::{Rank, Roles, Standing},
    rules::Rules,
};
use crate::crd::{
    Fault,
    instance::{Ceiling, InstanceSpec},
    permission::{DefaultRoleName, OWNERS_ROLE},
};

/// The reason why a token gets no default role, and the remedy.
pub const WITHHELD: &str = "the annotation tokenry.dev/created-by of the token does not name its owner; name a role in \
    spec.role";

/// The default role of an Instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DefaultRole {
    /// The best role that the owner of the token holds now, if the owner made the token.
    Owner,
    /// The role with this rank.
    Ranked(Rank),
}

impl DefaultRole {
    /// Reads the default role. `None` if it is a role that the Instance does not have.
    pub(super) fn of(named: &DefaultRoleName, roles: &Roles) -> Option<Self> {
        if named.as_str() == OWNERS_ROLE { Some(Self::Owner) } else { roles.rank(named.as_str()).map(Self::Ranked) }
    }
}

/// The default role of a token that names neither a role nor an account. `None` if the Instance gives it none.
pub(super) fn default_role(rules: &Rules, bearer: &Bearer<'_>, standing: &Standing<'_>) -> Option<Rank> {
    match rules.default_role.filter(|_| bearer.at_home)? {
        DefaultRole::Ranked(rank) => Some(rank),
        DefaultRole::Owner if bearer.made_by_owner => standing.held()?.iter().map(|held| held.rank).max(),
        DefaultRole::Owner => None,
    }
}

/// True if a token would have the best role of its owner, but its maker is another subject than its owner.
pub fn withholds(rules: &Rules, bearer: &Bearer<'_>) -> bool {
    let unnamed = bearer.own_account && bearer.token_role.is_none();
    unnamed && bearer.at_home && rules.default_role == Some(DefaultRole::Owner) && !bearer.made_by_owner
}

/// Adds the fault of a default role that the Instance cannot give.
pub(super) fn faults(spec: &InstanceSpec, roles: &Roles, faults: &mut Vec<Fault>) {
    const PATH: &str = "spec.tokens.defaultRole";
    let Some(named) = &spec.tokens.default_role else { return };
    if let Err(rule) = named.checked() {
        faults.push(Fault::invalid(PATH, rule));
        return;
    }
    match DefaultRole::of(named, roles) {
        None => super::rules::known(roles, named.as_str(), PATH.into(), faults),
        Some(DefaultRole::Owner) if spec.ceiling != Ceiling::Members => {
            let message =
                "Owner needs ceiling: Members, as members say which roles an owner holds; name a role, or set ceiling";
            faults.push(Fault::invalid(PATH, message));
        }
        Some(DefaultRole::Owner | DefaultRole::Ranked(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Ground, properties::world};
    use serde_json::{Value, json};

    /// An Instance with this default role. Under a ceiling, alice is an administrator in one organization and bob is an
    /// auditor, which lends nothing.
    fn instance(default_role: &str, ceiling: &str) -> Value {
        json!({
            "api": {"authorization": "Roles"}, "ceiling": ceiling, "tokens": {"defaultRole": default_role},
            "organizations": ["acme", "eem"],
            "roles": [
                {"name": "viewer", "actions": ["*:read"]}, {"name": "contributor", "actions": ["*:write"]},
                {"name": "auditor", "ownsTokens": false}, {"name": "admin", "actions": ["*"]},
            ],
            "members": [
                {"subject": "user:alice", "role": "viewer"}, {"subject": "user:bob", "role": "auditor"},
                {"subject": "user:alice", "role": "admin", "organizations": {"listed": ["acme"]}},
                {"subject": "group:ops", "role": "contributor"},
            ],
        })
    }

    /// The role of a token with these fields in its spec, and with this role of its account.
    fn role(instance: &Value, token: Value, account: Value) -> Option<String> {
        let world = world(instance, &json!([]), &token, &json!({ "role": account }));
        crate::access::Outlook::of(&world.rules, &[], &world.bearer).effective().role
    }

    fn own(more: Value) -> Value {
        let mut token = json!({"serviceAccountRef": null});
        token.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        token
    }

    /// The checks on a request of a token, in words.
    fn trail(instance: &Value, token: &Value) -> Vec<String> {
        let world = world(instance, &json!([]), token, &json!({}));
        let (headers, mut steps) = (http::HeaderMap::new(), Vec::new());
        let path = crate::access::Path::parse("/x").ok();
        let request = crate::access::Request { method: "GET", path, query: "", headers: &headers };
        crate::access::judge(&world.rules, &Default::default(), &world.bearer, &request, &mut steps);
        steps.into_iter().map(|step| step.text).collect()
    }

    #[test]
    fn a_token_that_names_neither_a_role_nor_an_account_has_the_default_role() {
        let lent = instance("contributor", "None");
        assert_eq!(role(&lent, own(json!({})), Value::Null).as_deref(), Some("contributor"));
        assert_eq!(role(&lent, own(json!({})), json!("viewer")).as_deref(), Some("viewer"), "its account narrows it");
        assert_eq!(role(&lent, own(json!({})), json!("admin")).as_deref(), Some("contributor"));
        assert_eq!(role(&lent, own(json!({})), json!("root")), None);
        assert_eq!(role(&lent, own(json!({"role": "viewer"})), json!("viewer")).as_deref(), Some("viewer"));
        assert_eq!(
            role(&lent, own(json!({"role": "viewer"})), Value::Null).as_deref(),
            Some("viewer"),
            "named just now"
        );
        assert_eq!(
            role(&lent, own(json!({"role": "admin"})), Value::Null).as_deref(),
            Some("contributor"),
            "as before"
        );
        assert_eq!(role(&lent, json!({}), Value::Null), None, "it names an account, which has no role");
        assert_eq!(role(&lent, json!({}), json!("viewer")).as_deref(), Some("viewer"));
        let world = world(&lent, &json!([]), &own(json!({})), &json!({}));
        assert_eq!([world.ground("POST"), world.ground("PURGE")], [Ground::ByRole, Ground::ByRole]);
        let viewer = instance("viewer", "Members");
        let held = own(json!({"owner": "user:alice"}));
        assert_eq!(role(&viewer, held, Value::Null).as_deref(), Some("viewer"), "whoever made it");
    }

    #[test]
    fn a_further_instance_gives_no_default_role() {
        let mut world = world(&instance("admin", "None"), &json!([]), &own(json!({})), &json!({}));
        assert_eq!(world.ground("GET"), Ground::ByRole);
        world.bearer.at_home = false;
        assert_eq!(world.ground("GET"), Ground::NoPermissions);
    }

    #[test]
    fn a_token_that_its_owner_made_has_the_best_role_that_the_owner_holds_now() {
        let lent = instance("Owner", "Members");
        let made = |owner: &str, maker: &str| {
            let token = own(json!({"owner": owner, "createdBy": maker}));
            let world = world(&lent, &json!([]), &token, &json!({}));
            (
                crate::access::Outlook::of(&world.rules, &[], &world.bearer).effective().role,
                withholds(&world.rules, &world.bearer),
            )
        };
        assert_eq!(made("user:alice", "user:alice"), (Some("admin".into()), false));
        assert_eq!(made("user:alice", "user:bob"), (None, true), "its maker is not its owner");
        assert_eq!(made("user:bob", "user:bob"), (None, false), "he holds no role that may own tokens");
        let foreign = own(json!({"owner": "user:alice", "createdBy": "user:bob"}));
        let told = trail(&lent, &foreign);
        assert!(told.iter().any(|step| step.ends_with(WITHHELD)), "{told:?}");
        let unstamped = own(json!({"owner": "user:alice"}));
        assert_eq!(role(&lent, unstamped, Value::Null), None);
        let named = own(json!({"owner": "user:alice", "createdBy": "user:bob", "role": "viewer"}));
        assert_eq!(
            role(&lent, named, json!("viewer")).as_deref(),
            Some("viewer"),
            "a role that is named needs no stamp"
        );
        // The role counts in the organization of the request. No organization is named here.
        let world =
            world(&lent, &json!([]), &own(json!({"owner": "user:alice", "createdBy": "user:alice"})), &json!({}));
        assert_eq!([world.ground("GET"), world.ground("POST")], [Ground::ByRole, Ground::NotPermitted]);
    }

    #[test]
    fn groups_lend_the_default_role_while_their_stamp_counts() {
        let token = own(json!({"owner": "user:carl", "createdBy": "user:carl"}));
        let mut world = world(&instance("Owner", "Members"), &json!([]), &token, &json!({}));
        world.bearer.groups = vec!["ops".into()].into();
        assert_eq!(world.ground("POST"), Ground::ByRole);
        world.bearer.fresh = false;
        assert_eq!(world.ground("POST"), Ground::OwnerStale);
    }
}
