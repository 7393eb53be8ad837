//! Who answers for a token, what that lends it, and what becomes of it when they are gone.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{Standing, World};
use crate::{
    access::{self, Bearer, Policy, Rules},
    crd::{
        self, Account, ApiToken, Fault, Instance, Reason,
        account::AccountSpec,
        api_token::{Effective, MirroredPolicy, SeenOwner},
        instance::{Authorization, Ceiling, OnOwnerRemoved, Permission},
        subject::Subject,
    },
    outside::events::Note,
};

/// The account that a token makes for itself where it names none: it says of its rights what the token says.
pub fn own_account(token: &ApiToken) -> Account {
    let spec = token.spec.clone();
    let mut account = Account::new(
        token.account_name().0,
        AccountSpec {
            instance_ref: spec.instance_ref,
            display_name: None,
            description: None,
            owner: spec.owner,
            role: spec.role,
            organizations: spec.organizations,
            projects: spec.projects,
            active: true,
        },
    );
    crd::give(&mut account, token);
    account
}

/// Whether the account that the token made for itself says of its rights what the token says no more.
pub fn is_outdated(world: &World) -> bool {
    let rights = |account: &Account| {
        let AccountSpec { owner, role, organizations, projects, .. } = account.spec.clone();
        (owner, role, organizations, projects)
    };
    let own = world.account.as_ref().filter(|_| world.token.account_name().1);
    own.is_some_and(|own| crd::belongs(&**own, world.uid()) && rights(own) != rights(&own_account(&world.token)))
}

/// What access sees of the token: with the account that it acts as, or the one that would be made for it.
fn bearer(world: &World, rules: &Rules) -> Bearer {
    let made = || Arc::new(own_account(&world.token));
    let mut bearer = Bearer::of(&world.token, &world.account.clone().unwrap_or_else(made));
    bearer.fresh = stale_from(world, rules).is_none_or(|from| world.now < from);
    bearer
}

/// The owner of a token: its own, or its account's.
pub fn owner(world: &World) -> Option<&Subject> {
    let accounts = || world.account.as_ref().and_then(|account| account.spec.owner.as_ref());
    world.token.spec.owner.as_ref().or_else(accounts)
}

/// From when on the groups that were stamped hold no more.
fn stale_from(world: &World, rules: &Rules) -> Option<Timestamp> {
    rules.groups_hold_until(seen(world)?.stamped_at?.0)
}

/// The owner as it is seen now, and since when its groups are known.
pub fn seen(world: &World) -> Option<SeenOwner> {
    let before = world.status().owner;
    let subject = owner(world).map(ToString::to_string);
    let stamp = access::stamp(&world.token).map(str::to_owned);
    if before.is_none() && subject.is_none() && stamp.is_none() {
        return None;
    }
    let known = before.filter(|before| before.stamp == stamp).and_then(|before| before.stamped_at);
    let stamped_at = stamp.as_ref().map(|_| known.unwrap_or(Time(world.now)));
    Some(SeenOwner { subject, stamp, stamped_at, gone: world.owner_gone })
}

/// That the owner is another one now.
pub fn changed(world: &World) -> Option<Note> {
    let before = world.status().owner?.subject;
    let now = owner(world).map(ToString::to_string);
    let named = |subject: &Option<String>| subject.clone().unwrap_or_else(|| "nobody".into());
    let text = format!("the owner was {} and is {} now", named(&before), named(&now));
    (before != now).then(|| Note::normal(Reason::OwnerChanged, text))
}

/// That the token has another role now: also that it has one at all.
pub fn promoted(world: &World, effective: Option<&Effective>) -> Option<Note> {
    let before = world.status().effective.and_then(|effective| effective.role);
    let now = effective?.role.clone();
    let named = |role: &Option<String>| role.clone().unwrap_or_else(|| "none".into());
    let text = format!("its effective role was {} and is {} now", named(&before), named(&now));
    (before != now).then(|| Note::normal(Reason::RoleChanged, text))
}

/// What becomes of the token, as its owner is gone or holds too little; nothing where that is not so.
pub fn removed(world: &World) -> Option<OnOwnerRemoved> {
    let instance = world.instance.as_deref()?;
    let rules = Rules::of(instance).ok()?;
    // Groups that are not relied on any more permit nothing; that the owner has left them is not known.
    let known = Bearer { fresh: true, ..bearer(world, &rules) };
    let lent = match rules.standing(&known) {
        access::Standing::Free | access::Standing::Nobody => true,
        access::Standing::Holds(held) => !held.is_empty(),
    };
    (world.owner_gone || !lent).then_some(instance.spec.tokens.on_owner_removed)
}

impl World {
    /// Why a token is not accepted for now, where somebody asked for that.
    pub fn paused(&self) -> Option<Reason> {
        let account = self.account.as_ref().is_none_or(|account| account.spec.active);
        match (self.token.spec.active, account) {
            (false, _) => Some(Reason::Suspended),
            (true, false) => Some(Reason::AccountSuspended),
            (true, true) => (removed(self) == Some(OnOwnerRemoved::Suspend)).then_some(Reason::OwnerRemoved),
        }
    }
}

/// Everything that is wrong with whose it is and with what it asks for.
pub fn faults(world: &World, instance: &Instance, faults: &mut Vec<Fault>) {
    let Ok(rules) = Rules::of(instance) else { return };
    let spec = &world.token.spec;
    if let Some(role) = spec.role.as_ref().filter(|role| !rules.has_role(role.as_str())) {
        let names: Vec<_> = rules.role_names().collect();
        let message = format!("the Instance has no role {role}; give one of {}", names.join(", "));
        faults.push(Fault::new(Reason::RoleMissing, "spec.role", message));
    }
    const OWNER: &str = "spec.owner";
    if let Some(rule) = spec.owner.as_ref().and_then(|owner| owner.checked().err()) {
        faults.push(Fault::invalid(OWNER, rule));
    }
    let asked = instance.spec.ceiling == Ceiling::Members;
    match owner(world) {
        None if asked => {
            let message = "is needed: the Instance's ceiling is what the owner holds in its members";
            faults.push(Fault::new(Reason::OwnerMissing, OWNER, message));
        }
        Some(owner) if removed(world).is_some_and(|then| then != OnOwnerRemoved::Keep) && is_new(world) => {
            // One that was never valid is not ended for what may be a slip.
            faults.push(Fault::new(Reason::OwnerRemoved, OWNER, why_removed(world, &owner.to_string())));
        }
        None | Some(_) => {}
    }
    let full = world.surplus.as_deref();
    if let Some((full, most)) = full.and_then(|full| Some((full, full.spec.tokens.max_per_owner?))) {
        let name = full.metadata.name.as_deref().unwrap_or_default();
        let own = full.metadata.uid == instance.metadata.uid;
        let of = if own { "the Instance".to_owned() } else { format!("Instance {name}") };
        let message = format!("owns more tokens of {of} than the {most} that it allows; delete another");
        faults.push(Fault::new(Reason::TooManyTokens, OWNER, message));
    }
}

fn is_new(world: &World) -> bool {
    !world.records().ever_published()
}

/// Why the owner is not one, in words.
pub fn why_removed(world: &World, owner: &str) -> String {
    match world.owner_gone {
        true => format!("{owner} does not exist; name another owner"),
        false => format!("{owner} holds no role in the Instance's members that may own tokens"),
    }
}

/// What the token may do now. Nothing where its Instance is not known, or faulty: then what was said stands.
pub fn effective(world: &World) -> Option<Effective> {
    let rules = Rules::of(world.instance.as_deref()?).ok()?;
    let policies: Vec<_> = world.policies.iter().map(|policy| Policy::of(policy)).collect();
    Some(access::effective(&rules, &policies.iter().collect::<Vec<_>>(), &bearer(world, &rules)))
}

/// What its Instance asks of those who change it.
pub fn mirrored(world: &World) -> Option<MirroredPolicy> {
    let tokens = &world.instance.as_ref()?.spec.tokens;
    let immutable = tokens.immutable.clone().unwrap_or_default();
    Some(MirroredPolicy {
        confirm_delete: tokens.confirm_delete,
        immutable: immutable.always,
        regenerate: immutable.regenerate == Permission::Allow,
    })
}

/// What of its standing a token is told, by conditions that are there only where they mean something.
pub fn standing(world: &World, effective: Option<&Effective>) -> Standing {
    let instance = world.instance.as_deref();
    let rules = instance.and_then(|instance| Rules::of(instance).ok());
    let judged = instance.is_some_and(|instance| {
        let by_roles = instance.spec.api.as_ref().is_some_and(|api| api.authorization == Authorization::Roles);
        by_roles || instance.spec.ceiling == Ceiling::Members
    });
    let stale_from = rules.and_then(|rules| stale_from(world, &rules));
    Standing {
        permitted: effective.filter(|_| judged).map(|effective| !effective.actions.is_empty()),
        stale_from,
        is_stale: stale_from.is_some_and(|from| from <= world.now),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        act::{Act, Decision},
        fixture::{self, DAY, at, conditions, served},
        progress::{Failure, Progress},
        validate::validate,
    };
    use super::*;
    use crate::{crd::name, outside::Refusal};
    use serde_json::json;

    /// A token of alice's that is served, where a group lends what she may, and her groups were stamped at the start.
    fn by_group(on_owner_removed: &str) -> World {
        let tokens = json!({"onOwnerRemoved": on_owner_removed, "groupsMaxAge": "10d"});
        let members = json!([{"subject": "group:ops", "role": "viewer"}]);
        let world = served().with_token(|token| {
            token.metadata.annotations = Some([(name::OWNER_GROUPS.into(), "7\nops".into())].into());
        });
        let world = world.with_instance(json!({"ceiling": "Members", "members": members, "tokens": tokens}));
        let world = world.with_spec(&json!({"owner": "user:alice"}));
        let rest = Progress::none(Decision { reason: Reason::Active, act: Act::Rest });
        world.with_account(|account| account.spec.owner = Some("user:alice".into())).settled(&rest)
    }

    #[test]
    fn groups_that_are_merely_old_end_and_suspend_nothing() {
        for then in ["Revoke", "Suspend", "Keep"] {
            let world = by_group(then).later(10 * DAY);
            assert_eq!(world.decision().act, Act::Rest, "{then}");
            assert_eq!(world.paused(), None, "{then}");
            assert_eq!(effective(&world).unwrap().actions, [] as [&str; 0], "they count no more all the same");
        }
    }

    #[test]
    fn every_audience_has_windows_of_its_own() {
        let windows =
            |hour: u8| json!({"tokens": {"windows": [{"cron": format!("0 {hour} * * *"), "duration": "1h"}]}});
        let world = served().with_instance(windows(3)).with_spec(&json!({"audiences": [{"name": "other"}]}));
        let other = Some(Arc::new(fixture::instance(windows(15))));
        let world = world.and(|world| world.audiences = vec![other]);
        let told: Vec<_> = validate(&world).unwrap_err().into_iter().map(|fault| fault.reason).collect();
        assert_eq!(told, [Reason::WindowsUnmet], "a rotation has to meet one of each");
    }

    #[test]
    fn an_account_that_cannot_follow_leaves_the_token_ready() {
        let world = served().with_account(|account| account.spec.role = Some("viewer".into()));
        assert_eq!(world.decision(), Decision { reason: Reason::AccountOutdated, act: Act::Follow });
        let refused = Failure { reason: Reason::AccountFailed, refusal: Refusal::Forbidden("no".into()) };
        let settled = world.settle(&Progress { failure: Some(refused), ..Progress::none(world.decision()) });
        assert_eq!(conditions(&settled.status)[1..3], ["Published=True/Active", "Ready=True/Active"]);
        let said =
            "Secret ci holds generation 1; account ci does not say yet what the token says: forbidden; trying again";
        assert_eq!(settled.status.conditions[1].message, said);
        assert!(settled.wake.is_some_and(|wake| wake < at(DAY)), "it is tried again");
    }
}
