//! The token and the account behind a request, in the form that access judges.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use kube::core::ObjectMeta;

use super::Uid;
use crate::crd::{
    Account, ApiToken, Instance, ObjectName, Subject, name,
    permission::{ANY, RoleName, Scope, ScopeName},
    subject::{SubjectKind, Who},
};

/// A set of organizations or projects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// All of them. This also covers requests that name none.
    All,
    /// Only these.
    Listed(BTreeSet<String>),
}

impl Reach {
    /// The reach for organizations. All if the scope is left out. None if the scope has neither `all` nor `listed`.
    pub fn of(scope: Option<&Scope>) -> Self {
        match scope {
            None => Self::All,
            Some(Scope { all: true, listed: None }) => Self::All,
            Some(Scope { listed, .. }) => Self::listed(listed.as_deref().unwrap_or_default()),
        }
    }

    /// The reach for projects. All if no project is named.
    pub fn projects(named: &[ScopeName]) -> Self {
        if named.is_empty() { Self::All } else { Self::listed(named) }
    }

    /// The organizations that requests to an Instance may name.
    pub(super) fn of_instance(instance: &Instance) -> Self {
        let listed = &instance.spec.organizations;
        if listed.iter().any(|name| name.as_str() == ANY) {
            return Self::All;
        }
        let own = listed.is_empty().then(|| instance.organization().to_owned());
        Self::Listed(own.into_iter().chain(listed.iter().map(ToString::to_string)).collect())
    }

    fn listed(names: &[ScopeName]) -> Self {
        Self::Listed(names.iter().map(ScopeName::to_string).collect())
    }

    /// True if a request is within reach. `named` is the organization or project that the request names.
    pub fn covers(&self, named: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Listed(names) => named.is_some_and(|named| names.contains(named)),
        }
    }

    /// True if a request could be within reach. `named` is the organization or project that the request names. A
    /// request that names none could be about any of them. Case does not matter, because some servers ignore the case
    /// of a name.
    pub fn touches(&self, named: Option<&str>) -> bool {
        match (self, named) {
            (Self::All, _) | (_, None) => true,
            (Self::Listed(names), Some(named)) => names.iter().any(|name| name.eq_ignore_ascii_case(named)),
        }
    }

    /// The organizations or projects in both sets.
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, reach) | (reach, Self::All) => reach.clone(),
            (Self::Listed(a), Self::Listed(b)) => Self::Listed(a & b),
        }
    }

    /// The organizations or projects in at least one of the sets.
    pub fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Listed(a), Self::Listed(b)) => Self::Listed(a | b),
            (Self::All, _) | (_, Self::All) => Self::All,
        }
    }
}

/// The owner, role and scopes that a token or an account names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claims {
    /// The owner.
    pub owner: Option<String>,
    /// The groups of the owner, as the API server stamped them on the token. Empty for an account.
    pub groups: Vec<String>,
    /// Its role.
    pub role: Option<String>,
    /// Its organizations.
    pub organizations: Reach,
    /// Its projects.
    pub projects: Reach,
    /// The policies that it names.
    pub policies: Vec<String>,
    /// True for a token that names no account. An account was then made for it.
    pub own_account: bool,
    /// True for a token whose maker is its owner, by the annotation `tokenry.dev/created-by`.
    pub made_by_owner: bool,
}

impl Claims {
    /// The claims of a token.
    pub fn of_token(token: &ApiToken) -> Self {
        let spec = &token.spec;
        let said = Self::said((&spec.owner, &spec.role), (&spec.organizations, &spec.projects));
        Self {
            groups: groups(token),
            policies: names(&spec.policies),
            own_account: spec.service_account_ref.is_none(),
            made_by_owner: is_made_by_owner(token),
            ..said
        }
    }

    /// The claims of an account.
    pub fn of_account(account: &Account) -> Self {
        let spec = &account.spec;
        let said = Self::said((&spec.owner, &spec.role), (&spec.organizations, &spec.projects));
        Self { policies: names(&spec.policies), ..said }
    }

    /// The claims that tokens and accounts have in common.
    fn said(
        (owner, role): (&Option<Subject>, &Option<RoleName>),
        (organizations, projects): (&Option<Scope>, &[ScopeName]),
    ) -> Self {
        Self {
            owner: owner.as_ref().map(ToString::to_string),
            groups: Vec::new(),
            policies: Vec::new(),
            role: role.as_ref().map(ToString::to_string),
            organizations: Reach::of(organizations.as_ref()),
            projects: Reach::projects(projects),
            own_account: false,
            made_by_owner: false,
        }
    }
}

/// A namespace and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullName<'a> {
    /// The namespace.
    pub namespace: Cow<'a, str>,
    /// The name.
    pub name: Cow<'a, str>,
}

impl FullName<'_> {
    fn into_owned(self) -> FullName<'static> {
        FullName { namespace: self.namespace.into_owned().into(), name: self.name.into_owned().into() }
    }
}

impl fmt::Display for FullName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A token or an account, with its claims.
#[derive(Clone, Debug)]
pub struct Party<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a Uid,
    /// Its claims.
    pub claims: &'a Claims,
}

impl<'a> Party<'a> {
    fn of(meta: &'a ObjectMeta, uid: &'a Uid, claims: &'a Claims) -> Self {
        let text = |field: &'a Option<String>| field.as_deref().unwrap_or_default();
        Self { namespace: text(&meta.namespace), name: text(&meta.name), uid, claims }
    }

    fn full_name(&self) -> FullName<'a> {
        FullName { namespace: self.namespace.into(), name: self.name.into() }
    }
}

/// The most owners of a token, together with the owners of accounts behind it.
pub const MOST_OWNERS: usize = 16;

/// A token, joined with the account that it acts as. It borrows the texts of both, so that each judgement can make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer<'a> {
    /// The token.
    pub token: FullName<'a>,
    /// The uid of the token. If a policy permits by name, the name means one uid only.
    pub token_uid: Cow<'a, Uid>,
    /// Its account.
    pub account: FullName<'a>,
    /// The uid of the account.
    pub account_uid: Cow<'a, Uid>,
    /// True if the account was made for the token, because the token names no account. Such an account can only narrow
    /// the token's role.
    pub own_account: bool,
    /// The owner of the token, or the owner of the account if the token names none.
    pub owner: Option<Cow<'a, str>>,
    /// The owners of accounts behind the token. These are the account that it acts as, the account that owns it, and
    /// accounts that own these. An account that was made for the token follows the token's owner with a delay, so its
    /// owner does not count.
    pub behind: Vec<Cow<'a, str>>,
    /// True if the annotation `tokenry.dev/created-by` of the token names its owner.
    pub made_by_owner: bool,
    /// True if the Instance is the token's own. False: the Instance is an audience. An audience gives no default role,
    /// and the policies that token and account name are not policies of it.
    pub at_home: bool,
    /// The groups of the owner, as the API server stamped them on the token.
    pub groups: Cow<'a, [String]>,
    /// True if the groups were stamped recently enough to count.
    pub fresh: bool,
    /// The role of the account.
    pub account_role: Option<Cow<'a, str>>,
    /// The role that the token names. `None`: the token has the account's role if it names an account. Otherwise it has
    /// the Instance's default role, or none.
    pub token_role: Option<Cow<'a, str>>,
    /// The organizations that both token and account allow.
    pub organizations: Cow<'a, Reach>,
    /// The projects that both token and account allow.
    pub projects: Cow<'a, Reach>,
    /// True if the account allows fewer organizations or projects than the token asks for.
    pub narrowed: bool,
    /// The policies that the token names. They are policies of the Instance in its `instanceRef`.
    pub policies: Cow<'a, [String]>,
    /// The policies that the account names.
    pub account_policies: Cow<'a, [String]>,
}

impl Bearer<'static> {
    /// The bearer of `token`, which acts as `account`. The groups count as stamped recently, and the Instance as the
    /// token's own.
    pub fn of(token: &ApiToken, account: &Account) -> Self {
        let (said, held) = (Claims::of_token(token), Claims::of_account(account));
        let uid = |meta: &ObjectMeta| Uid::from(meta.uid.as_deref().unwrap_or_default());
        let uids = [uid(&token.metadata), uid(&account.metadata)];
        let token = Party::of(&token.metadata, &uids[0], &said);
        Bearer::joined(token, Party::of(&account.metadata, &uids[1], &held)).into_owned()
    }
}

impl<'a> Bearer<'a> {
    /// The bearer of a token and an account whose claims were read before.
    pub fn joined(token: Party<'a>, account: Party<'a>) -> Self {
        let (asked, held) = (token.claims, account.claims);
        let organizations = common(&asked.organizations, &held.organizations);
        let projects = common(&asked.projects, &held.projects);
        let owner = asked.owner.as_deref().or(held.owner.as_deref());
        let behind = held.owner.as_deref().filter(|_| !asked.own_account && asked.owner != held.owner);
        Self {
            token: token.full_name(),
            token_uid: Cow::Borrowed(token.uid),
            account: account.full_name(),
            account_uid: Cow::Borrowed(account.uid),
            own_account: asked.own_account,
            owner: owner.map(Cow::Borrowed),
            behind: behind.map(Cow::Borrowed).into_iter().collect(),
            made_by_owner: asked.made_by_owner,
            at_home: true,
            groups: Cow::Borrowed(&asked.groups),
            fresh: true,
            account_role: held.role.as_deref().map(Cow::Borrowed),
            token_role: asked.role.as_deref().map(Cow::Borrowed),
            narrowed: *organizations != asked.organizations || *projects != asked.projects,
            organizations,
            projects,
            policies: Cow::Borrowed(&asked.policies),
            account_policies: Cow::Borrowed(&held.policies),
        }
    }

    /// The same bearer, with texts of its own.
    fn into_owned(self) -> Bearer<'static> {
        let text = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Bearer {
            token: self.token.into_owned(),
            token_uid: Cow::Owned(self.token_uid.into_owned()),
            account: self.account.into_owned(),
            account_uid: Cow::Owned(self.account_uid.into_owned()),
            own_account: self.own_account,
            owner: self.owner.map(text),
            behind: self.behind.into_iter().map(text).collect(),
            made_by_owner: self.made_by_owner,
            at_home: self.at_home,
            groups: Cow::Owned(self.groups.into_owned()),
            fresh: self.fresh,
            account_role: self.account_role.map(text),
            token_role: self.token_role.map(text),
            narrowed: self.narrowed,
            organizations: Cow::Owned(self.organizations.into_owned()),
            projects: Cow::Owned(self.projects.into_owned()),
            policies: Cow::Owned(self.policies.into_owned()),
            account_policies: Cow::Owned(self.account_policies.into_owned()),
        }
    }

    /// The bearer with the owners of all accounts behind the token. An account can own an account, and so on.
    /// `owner_of` gives the owner of an account, by the namespace and the name of the account. Owners beyond
    /// [`MOST_OWNERS`] do not count.
    pub fn followed(mut self, mut owner_of: impl FnMut(&str, &str) -> Option<Cow<'a, str>>) -> Self {
        let mut at = 0;
        while (at + 1..MOST_OWNERS).contains(&self.owners().count()) {
            let known = self.owners().nth(at).and_then(account);
            let further = known.and_then(|(namespace, name)| owner_of(namespace, name));
            // Accounts can own each other.
            let new = further.filter(|further| self.owners().all(|known| known != further));
            self.behind.extend(new);
            at += 1;
        }
        self
    }

    /// The owner, and the owners of the accounts behind the token.
    pub(super) fn owners(&self) -> impl Iterator<Item = &str> {
        self.owner.iter().chain(&self.behind).map(|owner| &**owner)
    }

    /// The owner, split into kind and name. `None` if there is no owner, or if its text is no subject.
    pub fn owner(&self) -> Option<Who<'_>> {
        Who::of(self.owner.as_deref()?)
    }
}

/// The organizations or projects in both sets.
fn common<'a>(one: &'a Reach, other: &'a Reach) -> Cow<'a, Reach> {
    match (one, other) {
        (Reach::All, reach) | (reach, Reach::All) => Cow::Borrowed(reach),
        (Reach::Listed(_), Reach::Listed(_)) => Cow::Owned(one.and(other)),
    }
}

/// The namespace and the name of an owner. `None` if the owner is no account of tokenry.dev.
pub fn account(owner: &str) -> Option<(&str, &str)> {
    Who::of(owner).filter(|owner| owner.kind == SubjectKind::Account)?.namespaced()
}

fn names(named: &[ObjectName]) -> Vec<String> {
    named.iter().map(ToString::to_string).collect()
}

/// True if the annotation for the maker of a token names the token's owner. The owner of the account does not count.
fn is_made_by_owner(token: &ApiToken) -> bool {
    let maker = token.metadata.annotations.as_ref().and_then(|all| all.get(name::CREATED_BY));
    token.spec.owner.as_ref().zip(maker).is_some_and(|(owner, maker)| owner.as_str() == maker)
}

/// The version of the token over which its owner's groups were stamped. Each stamp has a different version. `None` if
/// there is no stamp.
pub fn stamp(token: &ApiToken) -> Option<&str> {
    stamped(token).next()
}

/// The lines of the stamp: the version, then each group.
fn stamped(token: &ApiToken) -> impl Iterator<Item = &str> {
    let stamp = token.metadata.annotations.as_ref().and_then(|all| all.get(name::OWNER_GROUPS));
    // Splits at line feeds only, because the stamp was joined with line feeds. `lines` would also remove a carriage
    // return from the end of a group.
    stamp.into_iter().flat_map(|stamp| stamp.split('\n'))
}

/// The groups of the owner of a token, as the API server stamped them on the token.
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
