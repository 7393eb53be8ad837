//! The facts about a bearer that follow from an Instance and its policies alone, without a request. They are derived
//! once, and several answers use them.

use std::collections::BTreeSet;

use super::{
    bearer::Bearer,
    judge::asked_role,
    policy::{Clause, Policy},
    roles::{Rank, Standing},
    rules::Rules,
};
use crate::crd::{access_policy::Effect, instance::Authorization};

/// The facts about a bearer that follow from an Instance and its policies.
pub struct Outlook<'a> {
    /// The rules of the Instance.
    pub rules: &'a Rules,
    /// The bearer.
    pub bearer: &'a Bearer<'a>,
    pub(super) standing: Standing<'a>,
    /// The role that the token asks for.
    pub(super) asked: Option<Rank>,
    /// The policies that deny the bearer something.
    pub(super) denying: Vec<&'a Policy>,
    /// The statements that permit the bearer something, each with the name of its policy. A statement with projects
    /// counts if a request of the bearer can name one of them.
    pub(super) permits: Vec<(&'a str, &'a Clause)>,
    /// The patterns of actions in these statements. The owner may hold fewer actions.
    pub(super) given: Vec<(&'a str, &'a str)>,
    /// The permitted actions, as patterns.
    pub(super) actions: Vec<String>,
    /// The patterns of actions that the owner holds. `None` if the owner limits nothing.
    pub(super) own: Option<BTreeSet<&'a str>>,
}

impl<'a> Outlook<'a> {
    /// Derives the facts. `policies` are all policies of the Instance, in the order of their names.
    pub fn of(rules: &'a Rules, policies: &[&'a Policy], bearer: &'a Bearer<'_>) -> Self {
        let standing = rules.standing(bearer);
        let names = &rules.names(bearer);
        let own = standing.held().map(|held| {
            let ranks: BTreeSet<Rank> = held.iter().map(|held| held.rank).collect();
            ranks.into_iter().flat_map(|rank| rules.roles.actions(rank).patterns()).collect()
        });
        let about = |effect| policies.iter().copied().filter(move |policy| policy.is_about(names, effect));
        let here = |said: &&Clause| rules.unnamed_project(&said.projects.and(&bearer.projects)).is_none();
        let of_policy = |policy: &'a Policy| {
            policy.statements(Effect::Allow).filter(here).map(|said| (&*policy.name, said)).collect::<Vec<_>>()
        };
        let by_roles = rules.authorization == Authorization::Roles;
        let permits: Vec<_> = about(Effect::Allow).filter(|_| by_roles).flat_map(of_policy).collect();
        let patterns = |&(name, said): &(&'a str, &'a Clause)| {
            said.patterns(&rules.roles).into_iter().map(move |pattern| (name, pattern))
        };
        let mut outlook = Self {
            asked: asked_role(rules, bearer, &standing),
            denying: about(Effect::Deny).collect(),
            given: permits.iter().flat_map(patterns).collect(),
            actions: Vec::new(),
            permits,
            rules,
            bearer,
            standing,
            own,
        };
        outlook.actions = outlook.permitted();
        outlook
    }

    /// The effective role, regardless of the organization. It is the weaker of the role that is asked for and the
    /// strongest role that the owner holds anywhere.
    pub(super) fn role(&self) -> Option<Rank> {
        match self.standing.held().map(|held| held.iter().map(|held| held.rank).max()) {
            None => self.asked,
            Some(most) => self.asked.zip(most).map(|(asked, most)| asked.min(most)),
        }
    }

    /// The statements that deny something.
    pub(super) fn denies(&self) -> impl Iterator<Item = &'a Clause> {
        self.denying.iter().flat_map(|policy| policy.statements(Effect::Deny))
    }
}
