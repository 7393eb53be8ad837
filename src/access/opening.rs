//! Whether a token opens anything at all: what its status says, where a verifier judges each request for itself.

use super::{bearer::Bearer, policy::Policy, roles::Standing, rules::Rules};
use crate::crd::access_policy::Effect;

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
    match &standing {
        Standing::Nobody => return Err(Closed::OwnerMissing),
        Standing::Holds(held) if held.is_empty() => {
            return Err(if rules.is_stale(bearer) { Closed::OwnerStale } else { Closed::OwnerRemoved });
        }
        Standing::Holds(_) | Standing::Free => {}
    }
    let organizations = bearer.organizations.and(&standing.organizations());
    let reached = rules.can_name_organization(&organizations) && rules.can_name_project(&bearer.projects);
    let names = rules.names(bearer);
    let shut = policies.iter().any(|policy| {
        policy.is_about(&names, Effect::Deny)
            && policy.statements(Effect::Deny).any(|said| said.covers_all(&rules.roles))
    });
    let nothing = super::effective::actions(rules, policies, bearer).is_empty();
    if reached && !shut && !nothing { Ok(()) } else { Err(Closed::NoPermissions) }
}
