//! Ranked roles, and the subjects that hold them.

use std::{collections::HashMap, iter};

use foldhash::quality::RandomState;

use super::{action::Actions, bearer::Reach};
use crate::crd::{
    instance::{Member, Team},
    permission::{ActionPattern, Role},
    subject::{SubjectKind, Who},
};

/// The roles of an Instance that names none, weakest first. Each role permits its actions and those of the weaker
/// roles.
const BUILT_IN: [(&str, &[&str]); 3] = [("viewer", &["*:read"]), ("contributor", &["*:write"]), ("admin", &["*"])];

/// The rank of a role. A higher rank permits more.
pub(crate) type Rank = usize;

/// The roles of an Instance, weakest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roles(Vec<Ranked>);

/// A role with all actions that it permits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranked {
    name: String,
    actions: Actions,
    owns_tokens: bool,
}

impl Roles {
    /// The named roles. If none is named, the built-in roles.
    pub(crate) fn of(named: &[Role]) -> Self {
        let built_in = || {
            BUILT_IN.iter().map(|&(name, actions)| Role {
                name: name.into(),
                actions: actions.iter().map(|&action| action.into()).collect(),
                owns_tokens: None,
            })
        };
        let roles: Vec<_> = if named.is_empty() { built_in().collect() } else { named.to_vec() };
        let mut all: Vec<ActionPattern> = Vec::new();
        let ranked = roles.into_iter().map(|role| {
            all.extend(role.actions);
            let actions = Actions::new(all.clone());
            Ranked { name: role.name.to_string(), actions, owns_tokens: role.owns_tokens.unwrap_or(true) }
        });
        Self(ranked.collect())
    }

    /// The rank of a role. `None` if the role does not exist.
    pub(crate) fn rank(&self, name: &str) -> Option<Rank> {
        self.0.iter().position(|role| role.name == name)
    }

    /// The name of the role with this rank.
    pub(crate) fn name(&self, rank: Rank) -> &str {
        &self.0[rank].name
    }

    /// The actions of the role with this rank, including those of weaker roles.
    pub(crate) fn actions(&self, rank: Rank) -> &Actions {
        &self.0[rank].actions
    }

    /// True if holders of the role may own tokens.
    pub(crate) fn owns_tokens(&self, rank: Rank) -> bool {
        self.0[rank].owns_tokens
    }

    /// All names, weakest first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|role| &*role.name)
    }
}

/// A role that an owner holds in some organizations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The rank of the role.
    pub rank: Rank,
    /// The organizations.
    pub organizations: Reach,
}

/// The roles that an owner can lend to a token of an Instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// The Instance does not limit a token to the roles of its owner.
    Free,
    /// The Instance limits a token to the roles of its owner, but the token has no owner.
    Nobody,
    /// The roles that the owner can lend to a token. Empty: the owner holds no sufficient role.
    Holds(Vec<&'a Holding>),
}

impl Standing<'_> {
    /// The roles that can be lent. `None` if the Instance does not limit a token to the roles of its owner.
    pub fn held(&self) -> Option<&[&Holding]> {
        match self {
            Self::Free => None,
            Self::Nobody => Some(&[]),
            Self::Holds(held) => Some(held),
        }
    }

    /// The organizations in which a role can be lent.
    pub fn organizations(&self) -> Reach {
        let none = Reach::Listed(Default::default());
        match self {
            Self::Free => Reach::All,
            Self::Nobody => none,
            Self::Holds(held) => held.iter().fold(none, |all, held| all.or(&held.organizations)),
        }
    }
}

/// The roles that members hold, by subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// The roles of each subject that can be lent to tokens.
    held: HashMap<String, Vec<Holding>, RandomState>,
    /// The subjects of the teams of each user.
    teams: HashMap<String, Vec<String>, RandomState>,
    minimum: Option<Rank>,
}

impl Members {
    /// Reads the members and teams of an Instance. A role that may not own tokens is not lent. A member with an unknown
    /// role holds no role.
    pub(crate) fn of(roles: &Roles, members: &[Member], teams: &[Team], minimum: Option<Rank>) -> Self {
        let mut all = Self { minimum, ..Self::default() };
        for member in members {
            let rank = roles.rank(member.role.as_str()).filter(|&rank| roles.owns_tokens(rank));
            let organizations = Reach::of(member.organizations.as_ref());
            let held = all.held.entry(member.subject.to_string()).or_default();
            held.extend(rank.map(|rank| Holding { rank, organizations }));
        }
        for team in teams {
            let subject = Who { kind: SubjectKind::Team, name: team.name.as_str() }.to_string();
            team.users.iter().for_each(|user| all.teams.entry(user.to_string()).or_default().push(subject.clone()));
        }
        all
    }

    /// The names of `owner` that this process knows: its own name, and its teams.
    pub(crate) fn names<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a str> {
        let user = Who::of(owner).filter(|who| who.kind == SubjectKind::User);
        let teams = user.and_then(|user| self.teams.get(user.name));
        iter::once(owner).chain(teams.into_iter().flatten().map(String::as_str))
    }

    /// The strongest role that each subject can lend to a token by its own name. A subject that lends none is left out.
    pub(crate) fn strongest(&self) -> impl Iterator<Item = (&str, Rank)> {
        let strongest = |held: &[Holding]| held.iter().map(|holding| holding.rank).max();
        let all = self.held.iter().filter_map(move |(subject, held)| Some((&**subject, strongest(held)?)));
        all.filter(|(_, rank)| self.minimum.is_none_or(|minimum| *rank >= minimum))
    }

    /// The roles that `owner` with these groups can lend to a token. Empty if all of them are weaker than the minimum
    /// role.
    pub(crate) fn holdings(&self, owner: &str, groups: &[String]) -> Vec<&Holding> {
        let of_groups = group_names(groups).filter_map(|name| self.held.get(&name));
        let held: Vec<_> =
            self.names(owner).filter_map(|name| self.held.get(name)).chain(of_groups).flatten().collect();
        let suffices = held.iter().any(|holding| self.minimum.is_none_or(|minimum| holding.rank >= minimum));
        if suffices { held } else { Vec::new() }
    }

    /// True if an owner holds no role, whatever its groups are.
    pub(crate) fn lend_nothing_to(&self, owner: &str) -> bool {
        let is_group = |name: &String| Who::of(name).is_some_and(|who| who.kind == SubjectKind::Group);
        self.holdings(owner, &[]).is_empty() && !self.held.keys().any(is_group)
    }
}

/// These groups as subjects.
pub(crate) fn group_names(groups: &[String]) -> impl Iterator<Item = String> {
    groups.iter().map(|name| Who { kind: SubjectKind::Group, name }.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn members(list: serde_json::Value) -> Vec<Member> {
        serde_json::from_value(list).unwrap()
    }

    #[test]
    fn a_role_permits_what_the_ones_before_it_do() {
        let roles = Roles::of(&[]);
        assert!(roles.names().eq(["viewer", "contributor", "admin"]));
        let may = |role: &str, action| roles.actions(roles.rank(role).unwrap()).include(Some(action));
        assert!(may("viewer", "api:read") && !may("viewer", "api:write"));
        assert!(may("contributor", "api:read") && may("contributor", "api:write") && !may("contributor", "x:y"));
        assert!(may("admin", "x:y"));
        assert_eq!(roles.rank("root"), None);
    }

    #[test]
    fn a_user_holds_what_its_teams_and_groups_hold() {
        let roles = Roles::of(&[]);
        let teams: Vec<Team> =
            serde_json::from_value(json!([{"name": "platform", "users": ["bob"]}, {"name": "b"}])).unwrap();
        let list = members(json!([
            {"subject": "user:alice", "role": "admin"},
            {"subject": "team:platform", "role": "contributor", "organizations": {"listed": ["eem"]}},
            {"subject": "group:ops", "role": "viewer"},
            {"subject": "user:bob", "role": "root"},
        ]));
        let groups = ["ops".to_owned()];
        let held = |owner: &'static str, groups: &[String]| {
            let members = Members::of(&roles, &list, &teams, None);
            let held = members.holdings(owner, groups);
            held.into_iter().map(|holding| holding.rank).collect::<Vec<_>>()
        };
        assert_eq!(held("user:alice", &[]), [2]);
        assert_eq!(held("user:bob", &groups), [1, 0]);
        assert_eq!(held("user:bob", &[]), [1]);
        assert_eq!(held("team:platform", &[]), [1]);
        assert_eq!(held("user:platform", &[]), [] as [usize; 0]);
        assert_eq!(held("serviceaccount:a/bob", &[]), [] as [usize; 0], "another bob");
    }

    #[test]
    fn a_role_that_is_too_weak_or_owns_no_tokens_lends_nothing() {
        let named: Vec<Role> = serde_json::from_value(json!([
            {"name": "viewer"}, {"name": "editor"}, {"name": "auditor", "ownsTokens": false},
        ]))
        .unwrap();
        let roles = Roles::of(&named);
        let list = members(json!([
            {"subject": "user:weak", "role": "viewer"},
            {"subject": "user:able", "role": "editor"},
            {"subject": "user:able", "role": "viewer"},
            {"subject": "user:barred", "role": "auditor"},
        ]));
        let members = Members::of(&roles, &list, &[], Some(1));
        let held = |owner: &'static str| members.holdings(owner, &[]).len();
        assert_eq!(["user:weak", "user:able", "user:barred", "user:none"].map(held), [0, 2, 0, 0]);
    }
}
