//! A policy, in a form for quick look-ups.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{Uid, action::Actions, bearer::Reach, roles::Roles};
use crate::crd::{AccessPolicy, access_policy::Effect, subject::Who};

/// A policy, in a form for quick look-ups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// The members. Each request looks up every name of its bearer here. A fast hash is safe, because the names are no
    /// secret, and authors of policies are trusted with more than a hash.
    pub(super) members: HashSet<Arc<str>, RandomState>,
    /// The tokens and accounts that the policy permits something to: each member name, with the uid that it means.
    /// `None`: an operator of an earlier release has not bound the names, so a name means any object with that name.
    bound: Option<HashMap<String, Uid>>,
    statements: Vec<Clause>,
}

/// A statement, with the actions that it permits or denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clause {
    pub effect: Effect,
    subject: Subjects,
    pub projects: Reach,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subjects {
    /// The actions of a role.
    Role(String),
    /// These actions.
    Listed(Actions),
}

impl Policy {
    /// Reads a policy. A policy that is being deleted permits nothing any more, but it denies until it is gone.
    pub fn of(policy: &AccessPolicy) -> Self {
        let statement = |given: &crate::crd::access_policy::Statement| Clause {
            effect: given.effect,
            subject: match &given.role {
                Some(role) => Subjects::Role(role.to_string()),
                None => Subjects::Listed(Actions::new(given.actions.iter().cloned())),
            },
            projects: Reach::projects(&given.projects),
        };
        let going = policy.metadata.deletion_timestamp.is_some();
        Self {
            name: policy.metadata.name.clone().unwrap_or_default().into(),
            members: policy.spec.members.iter().map(|member| member.as_str().into()).collect(),
            bound: bound(policy),
            statements: policy
                .spec
                .statements
                .iter()
                .map(statement)
                .filter(|said| !going || said.effect == Effect::Deny)
                .collect(),
        }
    }

    /// True if the policy has a statement with this effect, and has the bearer of these names as a member.
    ///
    /// A statement that denies means every object with a listed name, now or later. A statement that permits means only
    /// one token or account by each name. It is the one that had the name when the policy was written, or else the
    /// first one after that.
    pub(super) fn is_about(&self, names: &Names<'_>, effect: Effect) -> bool {
        if self.statements(effect).next().is_none() {
            return false;
        }
        let (allows, bound) = match effect {
            Effect::Deny => (false, None),
            Effect::Allow => (true, self.bound.as_ref()),
        };
        let counts = |name: &CountedName<'_>| name.permits || !allows;
        let listed = |name: &str| self.members.contains(name);
        let is_bound = |(name, uid): &(String, &Uid)| bound.is_none_or(|bound| bound.get(&**name) == Some(*uid));
        let meant = |object: &(String, &Uid)| listed(&object.0) && is_bound(object);
        names.joined.iter().any(|joined| counts(joined) && *joined.name == *self.name)
            || names.others.iter().any(|other| counts(other) && listed(&other.name))
            || names.objects.iter().any(meant)
    }

    /// The members, split into kind and name, in no order. A member that is no subject is left out.
    pub fn members(&self) -> impl Iterator<Item = Who<'_>> {
        self.members.iter().filter_map(|member| Who::of(member))
    }

    /// The statements with this effect.
    pub(super) fn statements(&self, effect: Effect) -> impl Iterator<Item = &Clause> {
        self.statements.iter().filter(move |statement| statement.effect == effect)
    }
}

/// The names by which a policy can mean a token.
#[derive(Clone, Debug, Default)]
pub(super) struct Names<'a> {
    /// The names of the token and of its account, each with its uid.
    pub objects: Vec<(String, &'a Uid)>,
    /// All other names that a member can have.
    pub others: Vec<CountedName<'a>>,
    /// The policies that the bearer names itself.
    pub joined: Vec<CountedName<'a>>,
}

/// A name that counts in statements that deny.
#[derive(Clone, Debug)]
pub(super) struct CountedName<'a> {
    pub name: Cow<'a, str>,
    /// True if the name also counts in statements that permit.
    pub permits: bool,
}

impl Names<'_> {
    /// All names that a member can have.
    pub(super) fn members(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().map(|(name, _)| &**name).chain(self.others.iter().map(|other| &*other.name))
    }
}

/// The member names, with the uids that the operator bound them to. If the operator has not bound the names yet, no
/// name counts. `None` if an operator of an earlier release has processed this spec. Such an operator binds no names.
fn bound(policy: &AccessPolicy) -> Option<HashMap<String, Uid>> {
    let status = policy.status.as_ref();
    let Some(members) = status.and_then(|status| status.members.as_ref()) else {
        let observed = status.and_then(|status| status.observed_generation);
        let older = observed.is_some() && observed == policy.metadata.generation;
        return if older { None } else { Some(HashMap::new()) };
    };
    Some(members.iter().map(|bound| (bound.member.clone(), bound.uid.as_str().into())).collect())
}

impl Clause {
    /// True if the statement means a request for `action` in `project`.
    ///
    /// The request may name no project, or the Instance may not have the role of the statement. A statement that denies
    /// then means the request, and a statement that permits does not.
    pub(crate) fn means(&self, roles: &Roles, action: Option<&str>, project: Option<&str>) -> bool {
        let denies = self.effect == Effect::Deny;
        let here = if denies { self.projects.touches(project) } else { self.projects.covers(project) };
        here && match &self.subject {
            Subjects::Role(role) => roles.rank(role).map_or(denies, |rank| roles.actions(rank).include(action)),
            Subjects::Listed(actions) => actions.include(action),
        }
    }

    /// True if the statement means every request.
    pub(crate) fn covers_all(&self, roles: &Roles) -> bool {
        let all = match &self.subject {
            Subjects::Role(role) => roles.rank(role).map(|rank| roles.actions(rank).include(None)),
            Subjects::Listed(actions) => Some(actions.include(None)),
        };
        self.projects == Reach::All && all == Some(true)
    }

    /// The patterns of the statement's actions. Empty if the Instance does not have its role.
    pub(crate) fn patterns<'a>(&'a self, roles: &'a Roles) -> Vec<&'a str> {
        self.known_patterns(roles).unwrap_or_default()
    }

    /// The patterns of the statement's actions. `None` if the Instance does not have its role.
    pub(crate) fn known_patterns<'a>(&'a self, roles: &'a Roles) -> Option<Vec<&'a str>> {
        match &self.subject {
            Subjects::Role(role) => roles.rank(role).map(|rank| roles.actions(rank).patterns().collect()),
            Subjects::Listed(actions) => Some(actions.patterns().collect()),
        }
    }
}
