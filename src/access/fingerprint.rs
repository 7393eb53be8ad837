//! Digests by which the operator notices that a token may do something else. A status shows only a part of that.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::json;

use super::{bearer::Reach, outlook::Outlook, policy::Clause};
use crate::{crd::instance::Api, token::Digest};

/// The number of characters of a digest.
const LENGTH: usize = 16;

/// A digest of the requests that an Instance refuses to every token, and of the way in which it reads requests. The
/// parts are those of the spec, so another release has the same digest.
pub(super) fn of_requests(api: &Api) -> String {
    // The order of exclusions and their messages exclude nothing.
    let excluded: BTreeSet<_> =
        api.excluded.iter().map(|excluded| json!([excluded.methods, excluded.paths]).to_string()).collect();
    digest(&(excluded, &api.actions, &api.encoded_slash, &api.organization_from, &api.project_from))
}

/// The rights of a bearer, with the parts that a status does not show.
#[derive(Serialize)]
struct Entitlement<'a> {
    role: Option<&'a str>,
    actions: &'a [String],
    organizations: Option<Vec<String>>,
    projects: Option<Vec<String>>,
    /// The roles that the owner holds, each with its organizations.
    held: BTreeMap<&'a str, Option<Vec<String>>>,
    /// The statements that permit or deny. `None`: those of a role that the Instance does not have.
    permits: BTreeSet<StatementParts<'a>>,
    denies: BTreeSet<StatementParts<'a>>,
}

/// The actions and the projects of a statement.
type StatementParts<'a> = (Option<Vec<&'a str>>, Option<Vec<String>>);

impl<'a> Outlook<'a> {
    /// A digest of the rights of the bearer. It changes with the role, the actions, organizations and projects, and
    /// with the details that a status does not show.
    pub fn rights(&self) -> String {
        let (rules, bearer) = (self.rules, self.bearer);
        let organizations = bearer.organizations.and(&rules.organizations);
        let statement =
            |said: &'a Clause| -> StatementParts<'a> { (said.known_patterns(&rules.roles), said.projects.names()) };
        digest(&Entitlement {
            role: self.role().map(|rank| rules.roles.name(rank)),
            actions: &self.actions,
            organizations: organizations.and(&self.standing.organizations()).names(),
            projects: bearer.projects.names(),
            held: self.held(&organizations).into_iter().map(|(role, held)| (role, held.names())).collect(),
            permits: self.permits.iter().map(|(_, said)| statement(said)).collect(),
            denies: self.denies().map(statement).collect(),
        })
    }

    /// The roles that the owner lends, each with those of these organizations in which it lends it. Without a policy
    /// that permits something, a role stronger than the one asked for lends no more than that one.
    fn held(&self, organizations: &Reach) -> BTreeMap<&'a str, Reach> {
        let most = self.asked.filter(|_| self.permits.is_empty());
        let mut all: BTreeMap<&'a str, Reach> = BTreeMap::new();
        for held in self.standing.held().unwrap_or_default() {
            let role = self.rules.roles.name(most.map_or(held.rank, |most| held.rank.min(most)));
            let reach = held.organizations.and(organizations);
            let known = all.get(role).map_or_else(|| reach.clone(), |known| known.or(&reach));
            all.insert(role, known);
        }
        all
    }
}

fn digest(content: &impl Serialize) -> String {
    let content = serde_json::to_vec(content).unwrap_or_default();
    Digest::of(content).to_string().chars().take(LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::properties::world;
    use serde_json::Value;

    /// The digests of a token of alice, with these policies.
    fn of(instance: &Value, policies: &Value) -> (String, String) {
        let mut whole = json!({
            "ceiling": "Members", "organizations": ["a", "b"],
            "members": [{"subject": "user:alice", "role": "admin", "organizations": {"listed": ["a"]}}],
            "api": {"authorization": "Roles", "excluded": [{"paths": ["/x"]}, {"paths": ["/y"]}]},
        });
        for (field, value) in instance.as_object().unwrap() {
            whole[field] = value.clone();
        }
        let world = world(&whole, policies, &json!({"owner": "user:alice"}), &json!({"role": "contributor"}));
        let policies: Vec<_> = world.policies.iter().collect();
        (world.rules.requests.clone(), Outlook::of(&world.rules, &policies, &world.bearer).rights())
    }

    #[test]
    fn requests_that_are_excluded_or_read_otherwise_have_another_digest() {
        let of = |change: Value| {
            let mut api = json!({"authorization": "Roles", "excluded": [{"paths": ["/x"]}, {"paths": ["/y"]}]});
            for (field, value) in change.as_object().unwrap() {
                api[field] = value.clone();
            }
            of(&json!({ "api": api }), &json!([])).0
        };
        let before = of(json!({}));
        assert_eq!(before.len(), LENGTH);
        let told = json!({"excluded": [{"paths": ["/y"]}, {"paths": ["/x"], "message": "no"}]});
        assert_eq!(of(told), before, "another order and message exclude nothing else");
        assert_eq!(of(json!({"unguarded": [{"paths": ["/login"]}]})), before, "a token may do nothing else there");
        let others = [
            json!({"excluded": [{"paths": ["/x"]}]}),
            json!({"excluded": [{"paths": ["/x"], "methods": ["GET"]}, {"paths": ["/y"]}]}),
            json!({"actions": [{"action": "a:b", "paths": ["/z"]}]}),
            json!({"encodedSlash": "Keep"}),
            json!({"organizationFrom": {"header": "X-O"}}),
            json!({"projectFrom": {"pathSegment": 1}}),
        ];
        let all: BTreeSet<_> = others.map(of).into_iter().chain([before]).collect();
        assert_eq!(all.len(), 7, "{all:?}");
    }

    #[test]
    fn rights_have_another_digest_where_the_status_shows_no_difference() {
        let none = json!([]);
        let rights = |instance: Value, policies: &Value| of(&instance, policies).1;
        let before = rights(json!({}), &none);
        let member = |role: &str, listed: &[&str]| json!({"subject": "user:alice", "role": role, "organizations": {"listed": listed}});
        let same = json!([member("contributor", &["a"]), {"subject": "user:bob", "role": "admin"}]);
        assert_eq!(rights(json!({ "members": same }), &none), before, "the token asks for no more");
        let policy = |effect: &str, action: &str, more: Value| {
            let mut statement = json!({"effect": effect, "actions": [action]});
            statement.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([{"name": "p", "members": ["user:alice"], "statements": [statement]}])
        };
        let others = [
            rights(json!({"members": [member("admin", &["a"]), member("viewer", &["b"])]}), &none),
            rights(json!({"members": [member("admin", &["a", "b"])]}), &none),
            rights(json!({}), &policy("Deny", "a:b", json!({}))),
            rights(json!({}), &policy("Deny", "a:c", json!({}))),
            rights(json!({}), &policy("Deny", "a:c", json!({"projects": ["p"]}))),
            rights(json!({}), &policy("Allow", "*:read", json!({}))),
        ];
        let all: BTreeSet<_> = others.into_iter().chain([before.clone()]).collect();
        assert_eq!(all.len(), 7, "{all:?}");
        let of_others =
            json!([{"name": "p", "members": ["user:bob"], "statements": [{"effect": "Deny", "actions": ["*"]}]}]);
        assert_eq!(rights(json!({}), &of_others), before);
    }
}
