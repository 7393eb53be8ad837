//! Whether a token opens anything at all: what its status says, where a verifier judges each request for itself.

use super::{bearer::Bearer, policy::Policy, roles::Standing, rules::Rules};
use crate::crd::{access_policy::Effect, instance::Authorization};

/// Why no request with a valid token is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The token names no owner, and its Instance's ceiling is what the owner holds.
    OwnerMissing,
    /// The owner holds nothing in the Instance that may own tokens.
    OwnerRemoved,
    /// The owner holds something by its groups alone, and these were stamped too long ago.
    OwnerStale,
    /// Neither a role nor a policy permits anything that the token could ask for.
    NoPermissions,
}

/// Whether some request of `bearer` is permitted. It does not see an exclusion that covers every path, nor that several
/// policies together deny all that is permitted.
///
/// # Errors
/// None is: why not.
pub fn opening(rules: &Rules, policies: &[&Policy], bearer: &Bearer) -> Result<(), Closed> {
    let standing = rules.standing(bearer);
    let held = match &standing {
        Standing::Nobody => return Err(Closed::OwnerMissing),
        Standing::Holds(held) if held.is_empty() => {
            return Err(if rules.is_stale(bearer) { Closed::OwnerStale } else { Closed::OwnerRemoved });
        }
        Standing::Holds(held) => Some(held),
        Standing::Free => None,
    };
    let organizations = bearer.organizations.and(&standing.organizations());
    let reached = rules.can_name_organization(&organizations) && rules.can_name_project(&bearer.projects);
    let names = rules.names(bearer);
    let shut = policies.iter().any(|policy| {
        policy.is_about(&names, Effect::Deny)
            && policy.statements(Effect::Deny).any(|said| said.covers_all(&rules.roles))
    });
    // A role permits what the owner's does, too; a policy may ask for more than the owner lends, and gives what both have.
    let lent = |asked: &str| {
        let own = |rank| rules.roles.actions(rank).patterns().any(|own| meet(own, asked));
        held.is_none_or(|held| held.iter().any(|held| own(held.rank)))
    };
    let by_policy = policies
        .iter()
        .filter(|policy| policy.is_about(&names, Effect::Allow))
        .any(|policy| policy.statements(Effect::Allow).flat_map(|said| said.patterns(&rules.roles)).any(lent));
    let nothing = rules.authorization == Authorization::Roles
        && !by_policy
        && super::effective(rules, policies, bearer).actions.is_empty();
    if reached && !shut && !nothing { Ok(()) } else { Err(Closed::NoPermissions) }
}

/// Whether some action is meant by both patterns.
fn meet(one: &str, other: &str) -> bool {
    fn words(one: &[&str], other: &[&str]) -> bool {
        match (one, other) {
            ([], []) => true,
            (["*", rest @ ..], ["*", others @ ..]) => words(rest, others) || words(one, others) || words(rest, other),
            (["*", rest @ ..], [_, others @ ..]) => words(rest, others) || words(one, others),
            ([_, rest @ ..], ["*", others @ ..]) => words(rest, others) || words(rest, other),
            ([word, rest @ ..], [same, others @ ..]) => word == same && words(rest, others),
            _ => false,
        }
    }
    words(&one.split(':').collect::<Vec<_>>(), &other.split(':').collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_meet_where_some_action_is_meant_by_both() {
        for (one, other) in [("*", "a:b"), ("topics:*", "*:read"), ("*:read", "*"), ("a:*:c", "*:b:c"), ("a:b", "a:b")]
        {
            assert!(meet(one, other) && meet(other, one), "{one} {other}");
        }
        for (one, other) in [("*:write", "*:read"), ("topics:*", "clusters:*"), ("a:b", "a:b:c"), ("a:*", "a")] {
            assert!(!meet(one, other) && !meet(other, one), "{one} {other}");
        }
    }
}
