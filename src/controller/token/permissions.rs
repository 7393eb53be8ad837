//! The event that a token may do something else than before.

use super::{rules, world::World};
use crate::{
    crd::{
        EventName, Reason,
        api_token::{Effective, LimitedBy, SeenRules},
    },
    outside::events::Note,
};

/// The most entries of a list in the text of an event.
const SHOWN: usize = 8;

/// The event that the effective permissions have changed. It has the name of the role if the role is another one. At
/// the first issue only a role counts as a change. A token that has ended is permitted nothing, so it gets no such
/// event.
///
/// The status shows only a part of that. For the rest, `rules` are the digests after this pass.
pub(crate) fn changed(world: &World, rules: &[SeenRules]) -> Option<Note> {
    let now = world.owner.effective.as_ref().filter(|_| world.before().revocation.is_none())?;
    let before = world.before().effective.as_ref();
    let mut others = before.map(|before| differences(before, now)).unwrap_or_default();
    let role = before.and_then(|before| before.role.as_deref());
    let is_shown = role != now.role.as_deref() || !others.is_empty();
    others.extend(hidden(world, rules, is_shown));
    if role != now.role.as_deref() {
        let named = |role: Option<&str>| role.unwrap_or("none").to_owned();
        let text = format!("its effective role was {} and is {} now", named(role), named(now.role.as_deref()));
        let text = [vec![text], others].concat().join("; ");
        return Some(Note::normal(EventName::RoleChanged, Reason::RoleChanged, text));
    }
    let text = others.join("; ");
    (!text.is_empty()).then(|| Note::normal(EventName::PermissionsChanged, Reason::PermissionsChanged, text))
}

/// The differences that show in digests alone, in words. If `is_shown` is true, the status shows a difference of the
/// rights in the token's own Instance. Tokens without digests are new, or were last seen by an earlier release.
fn hidden(world: &World, now: &[SeenRules], is_shown: bool) -> Vec<String> {
    let before = &world.before().rules;
    if before.is_empty() {
        return Vec::new();
    }
    let of = |all: &[SeenRules], rules: &SeenRules| {
        all.iter().find(|other| (&other.name, &other.namespace) == (&rules.name, &rules.namespace)).cloned()
    };
    let named = |rules: &SeenRules| format!("Instance {}/{}", rules.namespace, rules.name);
    let of_now = now.iter().flat_map(|rules| {
        let Some(old) = of(before, rules) else { return vec![format!("{} accepts it now", named(rules))] };
        let rights = old.rights != rules.rights && !(is_shown && rules::is_own(world, rules));
        let requests = (old.requests != rules.requests)
            .then(|| format!("{} excludes other requests, or reads requests differently", named(rules)));
        let rights = rights.then(|| format!("{} permits something else by roles, members or policies", named(rules)));
        requests.into_iter().chain(rights).collect()
    });
    let gone = before.iter().filter(|old| of(now, old).is_none());
    of_now.chain(gone.map(|old| format!("{} does not accept it any more", named(old)))).collect()
}

/// The permissions other than the role that differ, in words.
fn differences(before: &Effective, now: &Effective) -> Vec<String> {
    // Each field is named here, so that a new field does not compile before it is considered here. The policies are the
    // cause of some actions, and the actions tell of their changes.
    let Effective { role: _, actions, policies: _, organizations, projects, limited_by } = now;
    let denying = |of: &[LimitedBy]| Vec::from_iter(of.contains(&LimitedBy::Policy).then(|| "Policy".to_owned()));
    let limits = (denying(&before.limited_by), denying(limited_by));
    let all = [
        ("actions", Some(&before.actions), Some(actions)),
        ("organizations", before.organizations.as_ref(), organizations.as_ref()),
        ("projects", before.projects.as_ref(), projects.as_ref()),
        // A policy that denies changes no action of the status, but it limits the token. The limits of owner and
        // account show in the other fields.
        ("limited by", Some(&limits.0), Some(&limits.1)),
    ];
    let differing = all.into_iter().filter(|(_, before, now)| before != now);
    differing.map(|(field, before, now)| format!("{field}: {} → {}", listed(before), listed(now))).collect()
}

/// A list in words. No list means all.
fn listed(names: Option<&Vec<String>>) -> String {
    let Some(names) = names else { return "all".into() };
    let (shown, left_out) = names.split_at(names.len().min(SHOWN));
    match (shown.is_empty(), left_out.len()) {
        (true, _) => "none".into(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        fixture::{self, DAY, served},
        progress::Progress,
    };
    use super::*;
    use crate::{access::Policy, controller::book::Ruled};
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// The events of these names at the next pass, with their texts.
    fn told(world: &World) -> Vec<(EventName, String)> {
        let named = [EventName::RoleChanged, EventName::PermissionsChanged];
        let notes = world.rested().notes.into_iter().filter(|note| named.contains(&note.event));
        notes.map(|note| (note.event, note.text)).collect()
    }

    /// The world after a pass.
    fn rested(world: World) -> World {
        let decision = world.decision();
        world.settled(&Progress::none(decision))
    }

    #[test]
    fn each_change_of_what_a_token_may_do_is_told_with_before_and_after() {
        let by_roles = |actions: &[&str]| {
            let roles = json!([{"name": "viewer", "actions": actions}, {"name": "admin", "actions": ["*"]}]);
            json!({"api": {"authorization": "Roles"}, "roles": roles, "organizations": ["*"]})
        };
        let acts = |role: &'static str| {
            move |world: World| {
                world.with_account(|account| account.spec.role = Some(role.into())).with_spec(&json!({"role": role}))
            }
        };
        let viewer = rested(acts("viewer")(served().with_instance(by_roles(&["*:read"]))));
        assert_eq!(told(&viewer), [], "at rest");
        let wider = viewer.clone().with_instance(by_roles(&["*:read", "topics:*"]));
        let text = "actions: *:read → *:read, topics:*";
        assert_eq!(told(&wider), [(EventName::PermissionsChanged, text.into())]);
        let none = viewer.clone().with_instance(by_roles(&[]));
        assert_eq!(told(&none), [(EventName::PermissionsChanged, "actions: *:read → none".into())]);
        let text = "its effective role was viewer and is admin now; actions: *:read → *, *:read";
        assert_eq!(told(&acts("admin")(viewer.clone())), [(EventName::RoleChanged, text.into())], "one event for both");
        let within = json!({"organizations": {"listed": ["b", "a"]}, "projects": ["p"]});
        let text = "organizations: all → a, b; projects: all → p";
        assert_eq!(told(&viewer.with_spec(&within)), [(EventName::PermissionsChanged, text.into())]);
    }

    #[test]
    fn a_policy_that_denies_is_told_when_it_comes_and_goes() {
        let deny = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": "frozen"},
            "spec": {"instanceRef": {"name": "eem"}, "members": ["token:events/ci"],
                "statements": [{"effect": "Deny", "actions": ["*"]}]}});
        let deny = Arc::new(Policy::of(&serde_json::from_value(deny).unwrap()));
        let free = rested(served());
        let frozen = free.and(|world| world.policies = vec![deny.clone()]);
        let text = "limited by: none → Policy";
        assert!(told(&frozen).iter().any(|(_, told)| told.ends_with(text)), "{:?}", told(&frozen));
        let freed = rested(frozen).and(|world| world.policies = Vec::new());
        assert!(told(&freed).iter().any(|(_, told)| told.ends_with("limited by: Policy → none")), "{:?}", told(&freed));
    }

    /// A served token that names the Instance `other` as an audience. It has this spec and these policies.
    fn at_audience(world: World, spec: Value, policies: Vec<Arc<Policy>>) -> World {
        let mut instance = fixture::instance(spec);
        instance.metadata.name = Some("other".into());
        let world = world.with_spec(&json!({"audiences": [{"name": "other"}], "owner": "user:alice"}));
        world.and(|world| {
            world.audiences = vec![Some(Ruled::new(Arc::new(instance)))];
            world.audience_policies = vec![policies];
        })
    }

    #[test]
    fn rules_that_the_status_does_not_show_are_told_of_the_instance_that_changed_them() {
        let excluding = |path: &str| json!({"api": {"excluded": [{"paths": [path]}]}});
        let alone = |world: &World| {
            let all = told(world);
            assert!(all.iter().all(|(event, _)| *event == EventName::PermissionsChanged) && all.len() <= 1, "{all:?}");
            all.into_iter().map(|(_, text)| text).collect::<String>()
        };
        let requests =
            |name: &str| format!("Instance events/{name} excludes other requests, or reads requests differently");
        let rights =
            |name: &str| format!("Instance events/{name} permits something else by roles, members or policies");
        let own = rested(served().with_instance(excluding("/a")));
        assert_eq!(alone(&own), "");
        let changed = own.with_instance(excluding("/b"));
        assert_eq!(alone(&changed), requests("eem"));
        assert_eq!(alone(&rested(changed)), "", "it is told once");

        let member = |role: &str| json!({"api": {"authorization": "Roles"}, "ceiling": "Members", "members": [{"subject": "user:alice", "role": role}]});
        let acts = served().with_account(|account| account.spec.role = Some("contributor".into()));
        let acts = acts.with_spec(&json!({"role": "contributor"}));
        let far = rested(at_audience(acts, member("viewer"), vec![]));
        assert_eq!(alone(&far), "");
        let stronger = at_audience(far.clone(), member("admin"), vec![]);
        assert_eq!(alone(&stronger), rights("other"));
        assert_eq!(alone(&at_audience(rested(stronger), member("contributor"), vec![])), "", "it asks for no more");
        let mut both = member("viewer");
        fixture::merge(&mut both, &excluding("/b"));
        assert_eq!(alone(&at_audience(far.clone(), both, vec![])), requests("other"));
        let faulty = at_audience(far.clone(), json!({"tokens": {"minimumRole": "none"}}), vec![]);
        assert_eq!((alone(&faulty), &rested(faulty).status().rules), (String::new(), &far.status().rules));
        let gone = far.clone().with_spec(&json!({"audiences": []})).and(|world| world.audiences.clear());
        assert_eq!(alone(&gone), "Instance events/other does not accept it any more");
        assert_eq!(alone(&at_audience(rested(gone), member("viewer"), vec![])), "Instance events/other accepts it now");
        let ended = rested(far.with_spec(&json!({"revoked": true}))).later(DAY);
        let ended = at_audience(ended, excluding("/c"), vec![]);
        assert_eq!((alone(&ended), ended.rested().status.rules), (String::new(), ended.status().rules));
    }

    #[test]
    fn a_policy_that_denies_something_else_is_told() {
        let deny = |action: &str| {
            let deny = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": "frozen"},
                "spec": {"instanceRef": {"name": "eem"}, "members": ["token:events/ci"],
                    "statements": [{"effect": "Deny", "actions": [action]}]}});
            vec![Arc::new(Policy::of(&serde_json::from_value(deny).unwrap()))]
        };
        let frozen = rested(served().and(|world| world.policies = deny("a:b")));
        let text = "Instance events/eem permits something else by roles, members or policies";
        let other = frozen.clone().and(|world| world.policies = deny("a:c"));
        assert_eq!(told(&other), [(EventName::PermissionsChanged, text.into())]);
        let far = rested(at_audience(served(), json!({}), deny("a:b")));
        let text = "Instance events/other permits something else by roles, members or policies";
        let other = at_audience(far, json!({}), deny("a:c"));
        assert_eq!(told(&other), [(EventName::PermissionsChanged, text.into())]);
    }

    #[test]
    fn nothing_is_told_at_the_first_issue_but_the_role_nor_of_a_token_that_has_ended() {
        let within = json!({"organizations": {"listed": ["a"]}});
        let first = served().with_instance(json!({"organizations": ["*"]}));
        let first = first.with_status(|status| (status.effective, status.rules) = (None, Vec::new()));
        let first = first.with_spec(&within);
        assert_eq!(told(&first), []);
        let role = first.with_account(|account| account.spec.role = Some("viewer".into()));
        let role = role.with_spec(&json!({"role": "viewer"}));
        let text = "its effective role was none and is viewer now";
        assert_eq!(told(&role), [(EventName::RoleChanged, text.into())]);
        let ended = rested(served().with_spec(&json!({"revoked": true}))).later(DAY);
        assert_eq!(told(&ended.with_spec(&within)), []);
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<_> = (0..12).map(|nth| format!("n{nth}")).collect();
        assert_eq!(listed(Some(&names)), "n0, n1, n2, n3, n4, n5, n6, n7 and 4 more");
        assert_eq!((listed(Some(&Vec::new())), listed(None)), ("none".into(), "all".into()));
    }
}
