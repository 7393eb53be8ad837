//! Whose token it is, as access sees it.

use std::collections::BTreeSet;

use kube::core::ObjectMeta;

use crate::crd::{
    Account, ApiToken, Subject, name,
    permission::{RoleName, Scope, ScopeName},
    subject::Who,
};

/// Some organizations or projects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// All of them, also for requests that name none.
    All,
    /// These.
    Listed(BTreeSet<String>),
}

impl Reach {
    /// That of organizations: all where nothing is said, and none where it says neither all nor which.
    pub fn of(scope: Option<&Scope>) -> Self {
        match scope {
            None => Self::All,
            Some(Scope { all: true, listed: None }) => Self::All,
            Some(Scope { listed, .. }) => Self::listed(listed.as_deref().unwrap_or_default()),
        }
    }

    /// That of projects: all where none is named.
    pub fn projects(named: &[ScopeName]) -> Self {
        if named.is_empty() { Self::All } else { Self::listed(named) }
    }

    fn listed(names: &[ScopeName]) -> Self {
        Self::Listed(names.iter().map(ScopeName::to_string).collect())
    }

    /// Whether a request is within, that names this one or none.
    pub fn covers(&self, named: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Listed(names) => named.is_some_and(|named| names.contains(named)),
        }
    }

    /// Whether a request could be within, that names this one or none: some servers read a name in whatever case it is
    /// written.
    pub fn touches(&self, named: Option<&str>) -> bool {
        match (self, named) {
            (Self::All, _) | (_, None) => true,
            (Self::Listed(names), Some(named)) => names.iter().any(|name| name.eq_ignore_ascii_case(named)),
        }
    }

    /// What is in both.
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, reach) | (reach, Self::All) => reach.clone(),
            (Self::Listed(a), Self::Listed(b)) => Self::Listed(a & b),
        }
    }

    /// What is in one of them.
    pub fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Listed(a), Self::Listed(b)) => Self::Listed(a | b),
            (Self::All, _) | (_, Self::All) => Self::All,
        }
    }
}

/// What a token says, or an account, of whose it is and what it may do at the most.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claims {
    /// Who answers for it.
    pub owner: Option<String>,
    /// The groups that the API server said the owner is in. An account has none.
    pub groups: Vec<String>,
    /// Its role.
    pub role: Option<String>,
    /// Its organizations.
    pub organizations: Reach,
    /// Its projects.
    pub projects: Reach,
    /// Whether it is a token that names no account: then one of its own was made.
    pub own_account: bool,
}

impl Claims {
    /// Those of a token.
    pub fn of_token(token: &ApiToken) -> Self {
        let spec = &token.spec;
        let said = Self::said((&spec.owner, &spec.role), (&spec.organizations, &spec.projects));
        Self { groups: groups(token), own_account: spec.service_account_ref.is_none(), ..said }
    }

    /// Those of an account.
    pub fn of_account(account: &Account) -> Self {
        let spec = &account.spec;
        Self::said((&spec.owner, &spec.role), (&spec.organizations, &spec.projects))
    }

    /// What tokens and accounts say in the same words.
    fn said(
        (owner, role): (&Option<Subject>, &Option<RoleName>),
        (organizations, projects): (&Option<Scope>, &[ScopeName]),
    ) -> Self {
        Self {
            owner: owner.as_ref().map(ToString::to_string),
            groups: Vec::new(),
            role: role.as_ref().map(ToString::to_string),
            organizations: Reach::of(organizations.as_ref()),
            projects: Reach::projects(projects),
            own_account: false,
        }
    }
}

/// A token or an account, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// What it says.
    pub claims: &'a Claims,
}

impl<'a> Party<'a> {
    fn of(meta: &'a ObjectMeta, claims: &'a Claims) -> Self {
        let text = |field: &'a Option<String>| field.as_deref().unwrap_or_default();
        Self { namespace: text(&meta.namespace), name: text(&meta.name), uid: text(&meta.uid), claims }
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What a token and its account say of whose it is and what it may do at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The token: `namespace/name`.
    pub token: String,
    /// Its uid: a policy that permits by its name means this one alone.
    pub token_uid: String,
    /// Its account: `namespace/name`.
    pub account: String,
    /// The uid of the account.
    pub account_uid: String,
    /// Whether the account is its own, made because it names none: then it can only narrow what the token says.
    pub own_account: bool,
    /// Who answers for it: the token's owner, or the account's where it names none.
    pub owner: Option<String>,
    /// The groups that the API server said the owner is in.
    pub groups: Vec<String>,
    /// Whether that was said lately enough.
    pub fresh: bool,
    /// The role of the account.
    pub account_role: Option<String>,
    /// The role that the token has at most. Nothing: the account's, where it names one; else none.
    pub token_role: Option<String>,
    /// The organizations of both.
    pub organizations: Reach,
    /// The projects of both.
    pub projects: Reach,
    /// Whether the account narrows what the token asks for.
    pub narrowed: bool,
}

impl Bearer {
    /// The bearer of `token`, which acts as `account`. The groups are taken to be fresh.
    pub fn of(token: &ApiToken, account: &Account) -> Self {
        let (said, held) = (Claims::of_token(token), Claims::of_account(account));
        Self::joined(Party::of(&token.metadata, &said), Party::of(&account.metadata, &held))
    }

    /// The same, of what was prepared.
    pub fn joined(token: Party<'_>, account: Party<'_>) -> Self {
        let (asked, held) = (token.claims, account.claims);
        let organizations = asked.organizations.and(&held.organizations);
        let projects = asked.projects.and(&held.projects);
        Self {
            token: token.full_name(),
            token_uid: token.uid.to_owned(),
            account: account.full_name(),
            account_uid: account.uid.to_owned(),
            own_account: asked.own_account,
            owner: asked.owner.as_ref().or(held.owner.as_ref()).cloned(),
            groups: asked.groups.clone(),
            fresh: true,
            account_role: held.role.clone(),
            token_role: asked.role.clone(),
            narrowed: organizations != asked.organizations || projects != asked.projects,
            organizations,
            projects,
        }
    }

    /// Its owner, taken apart.
    pub fn owner(&self) -> Option<Who<'_>> {
        Who::of(self.owner.as_deref()?)
    }
}

/// What tells one stamp of the owner's groups from the next: the version of the token that it was written over.
pub fn stamp(token: &ApiToken) -> Option<&str> {
    stamped(token).next()
}

/// The lines of the stamp: the version, then each group.
fn stamped(token: &ApiToken) -> impl Iterator<Item = &str> {
    let stamp = token.metadata.annotations.as_ref().and_then(|all| all.get(name::OWNER_GROUPS));
    // By what they were joined by and nothing else: a line could end in "\r\n", and a group in "\r".
    stamp.into_iter().flat_map(|stamp| stamp.split('\n'))
}

/// The groups that the API server said the owner of a token is in.
pub fn groups(token: &ApiToken) -> Vec<String> {
    stamped(token).skip(1).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_what_stands_between_two_line_feeds_and_nothing_is_taken_off_it() {
        let mut token: ApiToken = serde_json::from_value(serde_json::json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "a"},
            "spec": {"instanceRef": {"name": "eem"}},
        }))
        .unwrap();
        let mut of = |stamp: &str| {
            token.metadata.annotations = Some([(name::OWNER_GROUPS.into(), stamp.into())].into());
            (stamp_of(&token), groups(&token))
        };
        assert_eq!(of("7\nadmins\r\nDomain Users"), ("7".into(), vec!["admins\r".into(), "Domain Users".into()]));
        assert_eq!(of("7"), ("7".into(), vec![]));
        assert_eq!(of("7\n"), ("7".into(), vec![]));
    }

    fn stamp_of(token: &ApiToken) -> String {
        stamp(token).unwrap().to_owned()
    }
}
