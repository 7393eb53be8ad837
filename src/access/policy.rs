//! A policy, ready to be asked.

use std::collections::HashSet;

use super::{action::Actions, bearer::Reach, roles::Roles};
use crate::crd::{AccessPolicy, access_policy::Effect, subject::Who};

/// A policy, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    members: HashSet<String>,
    statements: Vec<Statement>,
}

/// What a statement permits or denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub effect: Effect,
    subject: Subjects,
    projects: Reach,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subjects {
    /// What a role permits.
    Role(String),
    /// These actions.
    Listed(Actions),
}

impl Policy {
    /// Reads a policy.
    pub fn of(policy: &AccessPolicy) -> Self {
        let statement = |given: &crate::crd::access_policy::Statement| Statement {
            effect: given.effect,
            subject: match &given.role {
                Some(role) => Subjects::Role(role.to_string()),
                None => Subjects::Listed(Actions::new(given.actions.iter().cloned())),
            },
            projects: Reach::projects(&given.projects),
        };
        Self {
            name: policy.metadata.name.clone().unwrap_or_default(),
            members: policy.spec.members.iter().map(ToString::to_string).collect(),
            statements: policy.spec.statements.iter().map(statement).collect(),
        }
    }

    /// Whether it is about somebody of these names.
    pub(super) fn is_about(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.members.contains(name))
    }

    /// Its members, taken apart, in no order; what is no subject means nobody.
    pub fn members(&self) -> impl Iterator<Item = Who<'_>> {
        self.members.iter().filter_map(|member| Who::of(member))
    }

    /// Its statements of one effect.
    pub(super) fn statements(&self, effect: Effect) -> impl Iterator<Item = &Statement> {
        self.statements.iter().filter(move |statement| statement.effect == effect)
    }
}

impl Statement {
    /// Whether a request for `action` in `project` is meant. Where it is not known, as the request names no project or the
    /// Instance has no such role, one that denies means it and one that permits does not.
    pub fn means(&self, roles: &Roles, action: Option<&str>, project: Option<&str>) -> bool {
        let denies = self.effect == Effect::Deny;
        let here = if denies { self.projects.touches(project) } else { self.projects.covers(project) };
        here && match &self.subject {
            Subjects::Role(role) => roles.rank(role).map_or(denies, |rank| roles.actions(rank).include(action)),
            Subjects::Listed(actions) => actions.include(action),
        }
    }

    /// The patterns of what it permits, as far as the roles are known.
    pub fn patterns<'a>(&'a self, roles: &'a Roles) -> Vec<&'a str> {
        match &self.subject {
            Subjects::Role(role) => {
                roles.rank(role).map(|rank| roles.actions(rank).patterns().collect()).unwrap_or_default()
            }
            Subjects::Listed(actions) => actions.patterns().collect(),
        }
    }
}
