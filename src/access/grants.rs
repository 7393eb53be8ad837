//! The rights of RBAC that follow from an Instance, as plain data: roles, and the users, groups and core
//! ServiceAccounts that may give them.

use std::collections::BTreeMap;

use super::{roles::Rank, rules::Rules};
use crate::crd::{
    Instance,
    name::ObjectNameForm,
    subject::{SubjectKind, Who, of_username},
    text::is,
};

/// A subject that RBAC knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grantee {
    /// A user.
    User(String),
    /// A group.
    Group(String),
    /// A core ServiceAccount, by its namespace and its name.
    ServiceAccount(String, String),
}

/// The grantees whose strongest role is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Givers {
    /// The name of the role.
    pub role: String,
    /// The names of all roles that the grantees may give: the weaker ones first, and the role itself at the end.
    pub gives: Vec<String>,
    /// The grantees, each once.
    pub grantees: Vec<Grantee>,
}

/// The grantees of an Instance by their strongest role, weakest first. A role that may not own tokens, or that is
/// weaker than `tokens.minimumRole`, gives nothing. A grantee is listed once: the strongest role includes the others.
pub fn givers(instance: &Instance, rules: &Rules) -> Vec<Givers> {
    let mut strongest: BTreeMap<Grantee, Rank> = BTreeMap::new();
    for (subject, rank) in rules.members.strongest() {
        for grantee in grantees(instance, rules, subject) {
            let known = strongest.entry(grantee).or_insert(rank);
            *known = rank.max(*known);
        }
    }
    let mut by_rank: BTreeMap<Rank, Vec<Grantee>> = BTreeMap::new();
    strongest.into_iter().for_each(|(grantee, rank)| by_rank.entry(rank).or_default().push(grantee));
    let givers = by_rank.into_iter().map(|(rank, grantees)| Givers {
        role: rules.roles.name(rank).to_owned(),
        gives: rules.roles.names().take(rank + 1).map(str::to_owned).collect(),
        grantees,
    });
    givers.collect()
}

/// True if an owner may lend a role to a token. The groups of a user or of a core ServiceAccount are not known here, so
/// it may lend the role of any group.
pub fn may_lend(rules: &Rules, owner: &str) -> bool {
    let Some(who) = Who::of(owner) else { return false };
    let by_name = !rules.members.holdings(owner, &[]).is_empty();
    let group = format!("{}:", SubjectKind::Group.as_str());
    let by_group = || rules.members.strongest().any(|(subject, _)| subject.starts_with(&group));
    by_name || (matches!(who.kind, SubjectKind::User | SubjectKind::ServiceAccount) && by_group())
}

/// The grantees that a subject means: itself, or the users of a team.
pub fn grantees(instance: &Instance, rules: &Rules, subject: &str) -> Vec<Grantee> {
    let Some(who) = Who::of(subject) else { return Vec::new() };
    if who.kind != SubjectKind::Team {
        return grantee(rules, who).into_iter().collect();
    }
    let teams = instance.spec.teams.iter().filter(|team| team.name.as_str() == who.name);
    let users = teams.flat_map(|team| &team.users);
    users.filter_map(|user| grantee(rules, Who { kind: SubjectKind::User, name: user.as_str() })).collect()
}

fn grantee(rules: &Rules, who: Who<'_>) -> Option<Grantee> {
    let name = || who.name.to_owned();
    match who.kind {
        _ if !may_be_granted(rules, who) => None,
        SubjectKind::User => Some(Grantee::User(name())),
        SubjectKind::Group => Some(Grantee::Group(name())),
        SubjectKind::ServiceAccount => {
            let (namespace, name) = who.namespaced()?;
            Some(Grantee::ServiceAccount(namespace.to_owned(), name.to_owned()))
        }
        SubjectKind::Team | SubjectKind::Account | SubjectKind::Token => None,
    }
}

/// True if a subject may be granted rights. A subject that has left gets none.
///
/// The user name of a core ServiceAccount is no user of an Instance: such a member lends nothing, so it gets nothing
/// either. The API server refuses a whole RoleBinding with an invalid name of a ServiceAccount.
fn may_be_granted(rules: &Rules, who: Who<'_>) -> bool {
    match who.kind {
        _ if rules.has_left(&who.to_string()) => false,
        SubjectKind::User => of_username(who.name) == who.to_string(),
        SubjectKind::Group => true,
        SubjectKind::ServiceAccount => {
            who.namespaced().is_some_and(|(namespace, name)| [namespace, name].into_iter().all(is::<ObjectNameForm>))
        }
        SubjectKind::Team | SubjectKind::Account | SubjectKind::Token => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn instance(spec: Value) -> Instance {
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "eem"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    /// The role, the roles that are given, and the grantees.
    fn given(spec: Value) -> Vec<(String, String, Vec<String>)> {
        let instance = instance(spec);
        let rules = Rules::of(&instance).unwrap();
        let told = |grantee: &Grantee| match grantee {
            Grantee::User(name) => format!("User {name}"),
            Grantee::Group(name) => format!("Group {name}"),
            Grantee::ServiceAccount(namespace, name) => format!("ServiceAccount {namespace}/{name}"),
        };
        let all = givers(&instance, &rules).into_iter();
        all.map(|one| (one.role, one.gives.join(" "), one.grantees.iter().map(told).collect())).collect()
    }

    fn row(role: &str, gives: &str, grantees: &[&str]) -> (String, String, Vec<String>) {
        (role.into(), gives.into(), grantees.iter().map(|grantee| (*grantee).to_owned()).collect())
    }

    #[test]
    fn each_grantee_gives_its_strongest_role_and_the_weaker_ones() {
        let spec = json!({
            "organizations": ["a"],
            "teams": [{"name": "platform", "users": ["bob", "carl", "alice"]}, {"name": "other", "users": ["carol"]}],
            "members": [
                {"subject": "user:alice", "role": "admin", "organizations": {"listed": ["a"]}},
                {"subject": "user:alice", "role": "viewer"},
                {"subject": "team:platform", "role": "contributor"},
                {"subject": "group:ops", "role": "contributor"},
                {"subject": "serviceaccount:ci/builder", "role": "viewer"},
                {"subject": "user:carl", "role": "admin"}, {"subject": "serviceaccount:ci/old", "role": "admin"},
            ],
            "formerOwners": ["user:carl", "serviceaccount:ci/old"],
        });
        assert_eq!(
            given(spec),
            [
                row("viewer", "viewer", &["ServiceAccount ci/builder"]),
                row("contributor", "viewer contributor", &["User bob", "Group ops"]),
                row("admin", "viewer contributor admin", &["User alice"]),
            ]
        );
    }

    #[test]
    fn a_role_that_is_too_weak_or_owns_no_tokens_gives_nothing() {
        let spec = json!({
            "roles": [{"name": "viewer"}, {"name": "auditor", "ownsTokens": false}, {"name": "editor"}],
            "tokens": {"minimumRole": "auditor"},
            "members": [
                {"subject": "user:weak", "role": "viewer"},
                {"subject": "user:barred", "role": "auditor"},
                {"subject": "user:able", "role": "editor"},
            ],
        });
        assert_eq!(given(spec), [row("editor", "viewer auditor editor", &["User able"])]);
    }

    #[test]
    fn an_owner_that_holds_no_role_lends_none() {
        let lends = |members: Value, owner: &str| {
            let teams = json!([{"name": "t", "users": ["bob"]}]);
            may_lend(&Rules::of(&instance(json!({"members": members, "teams": teams}))).unwrap(), owner)
        };
        let by_name = json!([{"subject": "user:alice", "role": "viewer"}, {"subject": "team:t", "role": "viewer"}]);
        let told = ["user:alice", "user:bob", "team:t", "user:carol", "serviceaccount:a/b", "group:ops"];
        assert_eq!(told.map(|owner| lends(by_name.clone(), owner)), [true, true, true, false, false, false]);
        let by_group = json!([{"subject": "group:ops", "role": "viewer"}]);
        assert_eq!(told.map(|owner| lends(by_group.clone(), owner)), [true, true, false, true, true, true]);
        let members = json!([{"subject": "group:ops", "role": "clerk"}]);
        let weak = instance(json!({"roles": [{"name": "clerk"}, {"name": "head"}], "members": members,
            "tokens": {"minimumRole": "head"}}));
        assert!(!may_lend(&Rules::of(&weak).unwrap(), "user:alice"));
    }

    #[test]
    fn a_subject_that_rbac_does_not_know_gives_nothing() {
        let members: Vec<_> = [
            "account:ci/a",
            "user:system:serviceaccount:ci:a",
            "serviceaccount:ci/a--.b",
            "serviceaccount:-/a",
            "team:none",
        ]
        .map(|subject| json!({"subject": subject, "role": "admin"}))
        .into();
        assert_eq!(given(json!({ "members": members })), []);
    }
}
