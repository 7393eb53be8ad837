//! The event that a token may do something else than before.

use super::world::World;
use crate::{
    crd::{
        EventName, Reason,
        api_token::{Effective, LimitedBy},
    },
    outside::events::Note,
};

/// The most entries of a list in the text of an event.
const SHOWN: usize = 8;

/// The event that the effective permissions have changed. It has the name of the role if the role is another one. At
/// the first issue only a role counts as a change. A token that has ended is permitted nothing, so it gets no such
/// event.
pub(crate) fn changed(world: &World) -> Option<Note> {
    let now = world.owner.effective.as_ref().filter(|_| world.before().revocation.is_none())?;
    let before = world.before().effective.as_ref();
    let others = before.map(|before| differences(before, now)).unwrap_or_default();
    let role = before.and_then(|before| before.role.as_deref());
    if role != now.role.as_deref() {
        let named = |role: Option<&str>| role.unwrap_or("none").to_owned();
        let text = format!("its effective role was {} and is {} now", named(role), named(now.role.as_deref()));
        let text = [vec![text], others].concat().join("; ");
        return Some(Note::normal(EventName::RoleChanged, Reason::RoleChanged, text));
    }
    let text = others.join("; ");
    (!text.is_empty()).then(|| Note::normal(EventName::PermissionsChanged, Reason::PermissionsChanged, text))
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
        fixture::{DAY, served},
        progress::Progress,
    };
    use super::*;
    use crate::access::Policy;
    use serde_json::json;
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

    #[test]
    fn nothing_is_told_at_the_first_issue_but_the_role_nor_of_a_token_that_has_ended() {
        let within = json!({"organizations": {"listed": ["a"]}});
        let first = served().with_instance(json!({"organizations": ["*"]}));
        let first = first.with_status(|status| status.effective = None).with_spec(&within);
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
