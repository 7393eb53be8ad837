//! Decides if a token can make any request at all, for its status. The verifier judges each request separately.

use super::{outlook::Outlook, roles::Standing, rules::Unnamed};

/// The reason why a valid token can make no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The token names no owner, but the Instance has `ceiling: Members`.
    OwnerMissing,
    /// The owner has left, or holds no role in the Instance that may own tokens.
    OwnerRemoved,
    /// The owner holds roles only through groups, and the groups were stamped too long ago.
    OwnerStale,
    /// No request can name an organization that the token may act for.
    Organization(Unnamed),
    /// No request can name a project that the token may act in.
    Project(Unnamed),
    /// Neither a role nor a policy permits any request that the token could make.
    NoPermissions,
}

impl Outlook<'_> {
    /// Checks that some request of the bearer is permitted. Two cases are not found: an exclusion that covers every
    /// path, and policies that deny everything together, but not alone.
    ///
    /// # Errors
    /// No request is permitted. The error is the reason.
    pub fn opening(&self) -> Result<(), Closed> {
        let Self { rules, bearer, standing, .. } = self;
        match standing {
            Standing::Nobody => return Err(Closed::OwnerMissing),
            Standing::Holds(held) if held.is_empty() => {
                return Err(if rules.is_stale(bearer) { Closed::OwnerStale } else { Closed::OwnerRemoved });
            }
            Standing::Holds(_) | Standing::Free => {}
        }
        let organizations = bearer.organizations.and(&standing.organizations());
        if let Some(cause) = rules.unnamed_organization(&organizations) {
            return Err(Closed::Organization(cause));
        }
        if let Some(cause) = rules.unnamed_project(&bearer.projects) {
            return Err(Closed::Project(cause));
        }
        let shut = self.denies().any(|said| said.covers_all(&rules.roles));
        if !shut && !self.actions.is_empty() { Ok(()) } else { Err(Closed::NoPermissions) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::properties::world;
    use serde_json::json;

    #[test]
    fn a_token_that_lists_only_organizations_that_the_instance_does_not_opens_nothing() {
        let instance = json!({"organizations": ["north"], "api": {"organizationFrom": {"header": "X-Organization"}}});
        let opened = |listed: &[&str]| {
            let token = json!({"organizations": {"listed": listed}});
            let world = world(&instance, &json!([]), &token, &json!({}));
            Outlook::of(&world.rules, &[], &world.bearer).opening()
        };
        assert_eq!(opened(&["south", "north"]), Ok(()));
        assert_eq!([opened(&["south"]), opened(&[])], [Err(Closed::Organization(Unnamed::Empty)); 2]);
    }

    #[test]
    fn a_token_whose_lists_no_request_can_name_opens_nothing_for_that_cause() {
        let opened = |from: serde_json::Value, token: serde_json::Value, account: serde_json::Value| {
            let world = world(&json!({ "api": from }), &json!([]), &token, &account);
            Outlook::of(&world.rules, &[], &world.bearer).opening().err()
        };
        let (none, project) = (json!({}), json!({"projectFrom": {"header": "X-Project"}}));
        let of = |name: &str| json!({ "projects": [name] });
        assert_eq!(opened(none.clone(), of("a"), none.clone()), Some(Closed::Project(Unnamed::Unread)));
        assert_eq!(opened(none.clone(), none.clone(), of("a")), Some(Closed::Project(Unnamed::Unread)));
        assert_eq!(opened(project.clone(), of("a"), of("b")), Some(Closed::Project(Unnamed::Empty)));
        assert_eq!(opened(project, of("a"), of("a")), None);
        let listed = json!({"organizations": {"listed": ["eem"]}});
        assert_eq!(opened(none.clone(), listed, none), Some(Closed::Organization(Unnamed::Unread)));
    }
}
