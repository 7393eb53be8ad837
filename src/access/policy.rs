//! A policy, ready to be asked.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::{action::Actions, bearer::Reach, roles::Roles};
use crate::crd::{AccessPolicy, access_policy::Effect, subject::Who};

/// A policy, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Asked for each name of each caller: what is asked is no secret, and those who write it are trusted with more
    /// than the hash.
    members: HashSet<String, RandomState>,
    /// Each listed name of a token or account that it permits something to, and the uid that it means by that. Nothing
    /// where an older operator has not said yet: then a name is a name.
    bound: Option<HashSet<(String, String)>>,
    statements: Vec<Clause>,
}

/// What a statement permits or denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clause {
    pub effect: Effect,
    subject: Subjects,
    pub projects: Reach,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subjects {
    /// What a role permits.
    Role(String),
    /// These actions.
    Listed(Actions),
}

impl Policy {
    /// Reads a policy. One that is being deleted permits nothing any more, and denies until it is gone.
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
            name: policy.metadata.name.clone().unwrap_or_default(),
            members: policy.spec.members.iter().map(ToString::to_string).collect(),
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

    /// Whether it has a statement of this effect, and that is about the bearer of these names.
    ///
    /// One that denies means whoever bears a name, now or later. One that permits means, by the name of a token or an
    /// account, the one that bore it when the policy was written, or the first that bore it afterwards.
    pub(super) fn is_about(&self, names: &Names, effect: Effect) -> bool {
        if self.statements(effect).next().is_none() {
            return false;
        }
        let (others, bound) = match effect {
            Effect::Deny => (&names.denying, None),
            Effect::Allow => (&names.permitting, self.bound.as_ref()),
        };
        let listed = |name: &String| self.members.contains(name);
        let meant = |object: &(String, String)| listed(&object.0) && bound.is_none_or(|bound| bound.contains(object));
        others.iter().any(listed) || names.objects.iter().any(meant)
    }

    /// Its members, taken apart, in no order; what is no subject means nobody.
    pub fn members(&self) -> impl Iterator<Item = Who<'_>> {
        self.members.iter().filter_map(|member| Who::of(member))
    }

    /// Its statements of one effect.
    pub(super) fn statements(&self, effect: Effect) -> impl Iterator<Item = &Clause> {
        self.statements.iter().filter(move |statement| statement.effect == effect)
    }
}

/// The names by which a policy can mean a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Those of the token itself and of its account, each with its uid.
    pub objects: [(String, String); 2],
    /// All others by which a statement that permits means it.
    pub permitting: Vec<String>,
    /// All others by which a statement that denies means it.
    pub denying: Vec<String>,
}

/// What the operator has said of the listed names. A policy of which nothing is said yet binds none; a status of before
/// names were bound, about this very spec, is an older operator's.
fn bound(policy: &AccessPolicy) -> Option<HashSet<(String, String)>> {
    let status = policy.status.as_ref();
    let Some(members) = status.and_then(|status| status.members.as_ref()) else {
        let observed = status.and_then(|status| status.observed_generation);
        let older = observed.is_some() && observed == policy.metadata.generation;
        return if older { None } else { Some(HashSet::new()) };
    };
    Some(members.iter().map(|bound| (bound.member.clone(), bound.uid.clone())).collect())
}

impl Clause {
    /// Whether a request for `action` in `project` is meant. Where it is not known, as the request names no project or
    /// the Instance has no such role, one that denies means it and one that permits does not.
    pub(crate) fn means(&self, roles: &Roles, action: Option<&str>, project: Option<&str>) -> bool {
        let denies = self.effect == Effect::Deny;
        let here = if denies { self.projects.touches(project) } else { self.projects.covers(project) };
        here && match &self.subject {
            Subjects::Role(role) => roles.rank(role).map_or(denies, |rank| roles.actions(rank).include(action)),
            Subjects::Listed(actions) => actions.include(action),
        }
    }

    /// Whether it is about every request there is.
    pub(crate) fn covers_all(&self, roles: &Roles) -> bool {
        let all = match &self.subject {
            Subjects::Role(role) => roles.rank(role).map(|rank| roles.actions(rank).include(None)),
            Subjects::Listed(actions) => Some(actions.include(None)),
        };
        self.projects == Reach::All && all == Some(true)
    }

    /// The patterns of what it permits, as far as the roles are known.
    pub(crate) fn patterns<'a>(&'a self, roles: &'a Roles) -> Vec<&'a str> {
        match &self.subject {
            Subjects::Role(role) => {
                roles.rank(role).map(|rank| roles.actions(rank).patterns().collect()).unwrap_or_default()
            }
            Subjects::Listed(actions) => actions.patterns().collect(),
        }
    }
}
