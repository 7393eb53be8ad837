//! Who answers for a token, what that lends it, and what becomes of it when they are gone.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::world::{Closed, Standing, World};
use crate::{
    access::{self, Bearer, Namespace, Reach, Rules},
    crd::{
        self, Account, ApiToken, Fault, Instance, Reason,
        account::AccountSpec,
        api_token::{Effective, MirroredPolicy, SeenOwner},
        fault,
        instance::{Authorization, Ceiling, OnOwnerRemoved, Permission},
        name,
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

/// The fields of its own account that a token has a say in.
const FOLLOWED: [&str; 4] = ["owner", "role", "organizations", "projects"];

/// The same as it is applied, without what is `yielded` to somebody else: what the token has no say in is not named, so that it
/// stays whoever's it is.
pub fn applied(token: &ApiToken, yielded: &BTreeSet<String>) -> Value {
    let mut account = serde_json::to_value(own_account(token)).expect("an account is plain data");
    if let Some(spec) = account["spec"].as_object_mut() {
        let named = |field: &str| field == "instanceRef" || (FOLLOWED.contains(&field) && !yielded.contains(field));
        spec.retain(|field, _| named(field));
    }
    account
}

/// Whether the account that the token made for itself says of its rights something else than the token.
pub fn differs(world: &World) -> bool {
    differing(world).next().is_some()
}

/// Whether it is to be changed so that it says what the token says. Where another field manager holds it to less, that stays.
pub fn is_outdated(world: &World) -> bool {
    let yielded = yielded(world);
    differing(world).any(|field| !yielded.contains(field))
}

/// The fields in which another field manager holds it to less than the token says.
pub fn held_to(world: &World) -> Vec<&'static str> {
    let yielded = yielded(world);
    differing(world).filter(|field| yielded.contains(*field)).collect()
}

/// The fields that are left to another field manager, who has set them. In which the account says more than the token, or has
/// another owner, is none of them: what others may act as is brought down with the token, and goes where that goes.
pub fn yielded(world: &World) -> BTreeSet<String> {
    let Some(own) = &world.account else { return world.taken.clone() };
    let wanted = own_account(&world.token).spec;
    let more = |field: &str| says_more(world, field, &own.spec, &wanted);
    world.taken.iter().filter(|field| !more(field)).cloned().collect()
}

/// Whether an account says more in a field than it is wanted to.
fn says_more(world: &World, field: &str, held: &AccountSpec, wanted: &AccountSpec) -> bool {
    let exceeds = |held: Reach, wanted: Reach| held.and(&wanted) != held;
    match field {
        "role" => match (&held.role, &wanted.role) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(held), Some(wanted)) => {
                world.rules().is_some_and(|rules| rules.is_stronger(held.as_str(), wanted.as_str()))
            }
        },
        "organizations" => exceeds(Reach::of(held.organizations.as_ref()), Reach::of(wanted.organizations.as_ref())),
        "projects" => exceeds(Reach::projects(&held.projects), Reach::projects(&wanted.projects)),
        _ => held.owner != wanted.owner,
    }
}

fn differing(world: &World) -> impl Iterator<Item = &'static str> + use<> {
    let own = world.account.as_ref().filter(|_| world.token.account_name().1);
    let own = own.filter(|own| crd::belongs(&***own, world.uid()));
    let wanted = own_account(&world.token).spec;
    let differs = own.map_or([false; 4], |own| {
        let held = &own.spec;
        [
            held.owner != wanted.owner,
            held.role != wanted.role,
            held.organizations != wanted.organizations,
            held.projects != wanted.projects,
        ]
    });
    FOLLOWED.into_iter().zip(differs).filter_map(|(field, differs)| differs.then_some(field))
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
    let before = world.before().owner.as_ref();
    let subject = owner(world).map(ToString::to_string);
    let stamp = access::stamp(&world.token).map(str::to_owned);
    if before.is_none() && subject.is_none() && stamp.is_none() {
        return None;
    }
    let known = before.filter(|before| before.stamp == stamp).and_then(|before| before.stamped_at.clone());
    let stamped_at = stamp.as_ref().map(|_| known.unwrap_or(Time(world.now)));
    Some(SeenOwner { subject, stamp, stamped_at, gone: world.owner_gone })
}

/// That the owner is another one now.
pub fn changed(world: &World) -> Option<Note> {
    let before = &world.before().owner.as_ref()?.subject;
    let now = owner(world).map(ToString::to_string);
    let named = |subject: &Option<String>| subject.clone().unwrap_or_else(|| "nobody".into());
    let text = format!("the owner was {} and is {} now", named(before), named(&now));
    (*before != now).then(|| Note::normal(Reason::OwnerChanged, text))
}

/// That the token has another role now: also that it has one at all.
pub fn promoted(world: &World, effective: Option<&Effective>) -> Option<Note> {
    let before = world.before().effective.as_ref().and_then(|effective| effective.role.as_ref());
    let now = effective?.role.as_ref();
    let named = |role: Option<&String>| role.cloned().unwrap_or_else(|| "none".into());
    let text = format!("its effective role was {} and is {} now", named(before), named(now));
    (before != now).then(|| Note::normal(Reason::RoleChanged, text))
}

/// What becomes of the token, as its owner is gone or holds too little; nothing where that is not so.
pub fn removed(world: &World) -> Option<OnOwnerRemoved> {
    let instance = world.instance.as_deref()?;
    let rules = world.rules()?;
    // Groups that are not relied on any more permit nothing; that the owner has left them is not known.
    let known = Bearer { fresh: true, ..bearer(world, rules) };
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
    let Some(rules) = world.rules() else { return };
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
        Some(owner) if removed(world).is_some() && is_new(world) => {
            // One that was never valid is not ended for what may be a slip; nor is it kept.
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

/// That its owner is no owner any more, and what its Instance does then: how an event about it begins.
pub fn acted_on(world: &World) -> Option<String> {
    let (does, then) = match removed(world)? {
        OnOwnerRemoved::Revoke => ("revokes", "Revoke"),
        OnOwnerRemoved::Suspend => ("suspends", "Suspend"),
        OnOwnerRemoved::Keep => ("keeps", "Keep"),
    };
    let owner = owner(world).map_or_else(|| "the owner".into(), ToString::to_string);
    let why = why_removed(world, &owner);
    Some(format!("{why}; the Instance {does} such tokens (tokens.onOwnerRemoved: {then}): "))
}

/// Whether a fault is mended by a change of the token's own spec. Any other is that of another object, and mended there.
fn is_of_spec(fault: &Fault) -> bool {
    matches!(
        fault.reason,
        Reason::Invalid
            | Reason::LifetimeExceeded
            | Reason::OverlapExceeded
            | Reason::RotationTooFrequent
            | Reason::WindowsUnmet
            | Reason::DescriptionMissing
            | Reason::RoleMissing
            | Reason::OwnerMissing
    )
}

/// The faults in words. A token that cannot be changed is not told to be.
pub fn told(world: &World, faults: &[Fault]) -> String {
    let all = fault::told(faults);
    let policy = mirrored(world).unwrap_or_default();
    if !(world.token.spec.immutable || policy.immutable) || !faults.iter().any(is_of_spec) {
        return all;
    }
    let name = world.token.metadata.name.as_deref().unwrap_or_default();
    let given = world.token.spec.description.as_deref().filter(|given| !given.is_empty());
    let confirmed = match policy.confirm_delete {
        true => format!(" (annotate it first: {}={})", name::CONFIRM_DELETE, given.unwrap_or(name)),
        false => String::new(),
    };
    format!(
        "{all}; the token is immutable: what is wrong in it cannot be changed, so delete it{confirmed} and make it again"
    )
}

/// What the token may do now. Nothing where its Instance is not known, or faulty: then what was said stands.
pub fn effective(world: &World) -> Option<Effective> {
    let rules = world.rules()?;
    let policies: Vec<_> = world.policies.iter().map(|policy| &**policy).collect();
    Some(access::effective(rules, &policies, &bearer(world, rules)))
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

/// Why no request with its value is let in by its own Instance, in the order in which a verifier judges.
fn closed(world: &World) -> Option<Closed> {
    let Some(instance) = world.instance.as_deref() else {
        return Some(Closed { reason: Reason::InstanceMissing, message: "its Instance does not exist".into() });
    };
    if instance.metadata.deletion_timestamp.is_some() {
        return Some(Closed { reason: Reason::InstanceMissing, message: "its Instance is being deleted".into() });
    }
    let home = Namespace { name: world.namespace(), labels: world.labels.as_ref() };
    if !access::admits(instance, home) {
        let message = "its Instance does not admit tokens of this namespace".into();
        return Some(Closed { reason: Reason::NamespaceNotAdmitted, message });
    }
    if instance.is_disabled() {
        let message =
            "the endpoint of the Instance is disabled: every token is refused until it is enabled again".into();
        return Some(Closed { reason: Reason::EndpointDisabled, message });
    }
    let Some(rules) = world.rules() else {
        return Some(Closed { reason: Reason::InstanceInvalid, message: "its Instance has faults of its own".into() });
    };
    if world.owner_gone && rules.on_owner_removed != OnOwnerRemoved::Keep {
        return Some(Closed { reason: Reason::OwnerRemoved, message: why_removed(world, "the owner") });
    }
    let policies: Vec<_> = world.policies.iter().map(|policy| &**policy).collect();
    let opening = access::opening(rules, &policies, &bearer(world, rules));
    let (reason, message) = match opening.err()? {
        access::Closed::OwnerMissing => (Reason::OwnerMissing, "nobody owns the token".into()),
        access::Closed::OwnerRemoved => (Reason::OwnerRemoved, why_removed(world, "the owner")),
        access::Closed::OwnerStale => (Reason::OwnerStale, STALE.into()),
        access::Closed::NoPermissions => (Reason::NoPermissions, NOTHING.into()),
    };
    Some(Closed { reason, message })
}

/// The reasons for which nothing is permitted to a token that is otherwise as it should be.
const NOTHING_PERMITTED: [Reason; 4] =
    [Reason::NoPermissions, Reason::OwnerStale, Reason::OwnerRemoved, Reason::OwnerMissing];

/// What is said where the groups of the owner were stamped too long ago.
pub const STALE: &str = "the groups of its owner were stamped too long ago and count no more; the owner has to change the token, or \
    its annotation tokenry.dev/confirmed";
/// What is said where nothing is permitted.
pub const NOTHING: &str = "nothing is permitted: have a role given to it, its account and its owner, or an AccessPolicy about it made; \
    status.effective says what limits it";

/// What of its standing a token is told, by conditions that are there only where they mean something.
pub fn standing(world: &World, effective: Option<&Effective>) -> Standing {
    let instance = world.instance.as_deref();
    let judged = instance.is_some_and(|instance| {
        let by_roles = instance.spec.api.as_ref().is_some_and(|api| api.authorization == Authorization::Roles);
        by_roles || instance.spec.ceiling == Ceiling::Members
    });
    let stale_from = world.rules().and_then(|rules| stale_from(world, rules));
    let closed = closed(world);
    let nothing = closed.as_ref().is_some_and(|closed| NOTHING_PERMITTED.contains(&closed.reason));
    Standing {
        permitted: effective.filter(|_| judged).map(|_| !nothing),
        closed,
        stale_from,
        is_stale: stale_from.is_some_and(|from| from <= world.now),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        act::{Act, Decision},
        decide::follows,
        fixture::{self, DAY, at, conditions, served},
        progress::Progress,
        validate::validate,
    };
    use super::*;
    use crate::controller::book::Ruled;
    use crate::{
        crd::{condition, name},
        outside::{Refusal, Why},
    };
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
    fn who_may_own_tokens_is_asked_at_the_first_mint_whatever_becomes_of_tokens_later() {
        for then in ["Revoke", "Suspend", "Keep"] {
            for lends_nothing in [json!({"minimumRole": "admin"}), json!({})] {
                let mut spec = json!({
                    "ceiling": "Members",
                    "roles": [{"name": "viewer", "ownsTokens": false}, {"name": "clerk"}, {"name": "admin"}],
                    "members": [{"subject": "user:alice", "role": "viewer"}, {"subject": "user:bob", "role": "clerk"}],
                    "tokens": {"onOwnerRemoved": then},
                });
                let owner = if lends_nothing == json!({}) { "user:alice" } else { "user:bob" };
                fixture::merge(&mut spec, &json!({ "tokens": lends_nothing }));
                let world = fixture::new().with_instance(spec).with_spec(&json!({ "owner": owner }));
                let faults: Vec<_> = validate(&world).unwrap_err().into_iter().map(|fault| fault.reason).collect();
                assert_eq!(faults, [Reason::OwnerRemoved], "{then} {owner}");
            }
        }
    }

    #[test]
    fn every_audience_has_windows_of_its_own() {
        let windows =
            |hour: u8| json!({"tokens": {"windows": [{"cron": format!("0 {hour} * * *"), "duration": "1h"}]}});
        let world = served().with_instance(windows(3)).with_spec(&json!({"audiences": [{"name": "other"}]}));
        let other = Some(Arc::new(fixture::instance(windows(15))));
        let world = world.and(|world| world.audiences = vec![other.map(Ruled::new)]);
        let told: Vec<_> = validate(&world).unwrap_err().into_iter().map(|fault| fault.reason).collect();
        assert_eq!(told, [Reason::WindowsUnmet], "a rotation has to meet one of each");
    }

    #[test]
    fn an_account_that_cannot_follow_leaves_the_token_ready_and_holds_nothing_up() {
        let narrowed = |world: World| world.with_account(|account| account.spec.role = Some("viewer".into()));
        let world = narrowed(served());
        assert!(follows(&world, world.decision()));
        let refused = Some(Refusal::because(Why::Forbidden("no".into())));
        let settled = world.settle(&Progress { unfollowed: refused, ..Progress::none(world.decision()) });
        let said = ["Published=True/Active", "Ready=True/Active", "Valid=True/Active"];
        assert_eq!(conditions(&settled.status)[1..4], said);
        let told =
            "Secret ci holds generation 1; account ci does not say yet what the token says: forbidden; trying again";
        assert_eq!(settled.status.conditions[1].message, told);
        assert!(settled.wake.is_some_and(|wake| wake < at(DAY)), "it is tried again");
        let faulty = narrowed(served().with_spec(&json!({"expiry": {"after": "400d"}})));
        assert!(follows(&faulty, faulty.decision()), "a fault does not hold it up");
        let suspended = narrowed(served().with_spec(&json!({"active": false})));
        assert!(follows(&suspended, suspended.decision()));
        let due = narrowed(served().later(60 * DAY));
        assert_eq!((due.decision().act, follows(&due, due.decision())), (Act::Mint, true));
        let ended = narrowed(served().with_spec(&json!({"revoked": true})));
        assert!(!follows(&ended, ended.decision()));
        assert!(!follows(&served(), served().decision()));
    }

    #[test]
    fn what_another_field_manager_has_set_to_more_is_brought_down_and_limits_nothing() {
        let taken = |world: World, field: &str| world.and(|world| world.taken = BTreeSet::from([field.to_owned()]));
        let limited = |world: &World| {
            world.rested().status.conditions.iter().any(|said| said.type_ == condition::LIMITED_BY_ACCOUNT)
        };
        let viewer = || served().with_spec(&json!({"role": "viewer", "owner": "user:a", "projects": ["p"]}));
        let says = |change: &dyn Fn(&mut AccountSpec)| {
            viewer().with_account(|account| {
                account.spec.role = Some("viewer".into());
                account.spec.owner = Some("user:a".into());
                account.spec.projects = vec!["p".into()];
                change(&mut account.spec);
            })
        };
        for (field, world) in [
            ("role", says(&|spec| spec.role = Some("admin".into()))),
            ("owner", says(&|spec| spec.owner = Some("user:b".into()))),
            ("projects", says(&|spec| spec.projects = Vec::new())),
        ] {
            let world = taken(world, field);
            assert!(is_outdated(&world) && !limited(&world), "{field}");
            assert!(applied(&world.token, &yielded(&world))["spec"].get(field).is_some(), "{field}");
        }
        let less = taken(says(&|spec| spec.projects = vec!["q".into(), "p".into()]), "projects");
        assert!(is_outdated(&less), "more in one of them is more");
        let less = taken(says(&|spec| spec.role = None), "role");
        assert!(!is_outdated(&less) && limited(&less));
        assert!(!is_outdated(&taken(says(&|_| {}), "role")));
    }

    #[test]
    fn a_token_that_cannot_be_changed_is_told_to_be_made_again_only_where_that_mends_it() {
        let advice = |world: World| {
            let conditions = world.rested().status.conditions;
            conditions.into_iter().any(|said| said.message.contains("delete it"))
        };
        let immutable = |spec: Value| {
            let mut with = json!({"immutable": true});
            fixture::merge(&mut with, &spec);
            served().with_spec(&with)
        };
        assert!(advice(immutable(json!({"expiry": {"after": "400d"}}))));
        let elsewhere = immutable(json!({})).with_instance(json!({"api": {"organizationFrom": {}}}));
        assert!(!advice(elsewhere), "the Instance is to be mended");
    }

    #[test]
    fn what_is_not_permitted_is_said_by_the_same_word_as_that_it_is_not_valid() {
        let permitted = |world: World| {
            let conditions = world.rested().status.conditions;
            let said = conditions.into_iter().find(|said| said.type_ == condition::PERMITTED).unwrap();
            (said.status, said.reason)
        };
        assert_eq!(permitted(by_group("Keep").later(10 * DAY)), ("False".into(), "OwnerStale".into()));
        assert_eq!(permitted(by_group("Keep")), ("True".into(), "Permitted".into()));
        let unowned = served().with_instance(json!({"ceiling": "Members"}));
        assert_eq!(permitted(unowned), ("False".into(), "OwnerMissing".into()));
    }

    #[test]
    fn what_another_field_manager_has_set_stays_and_is_told() {
        let world = served().with_spec(&json!({"role": "admin", "projects": ["a"]}));
        let world = world.with_account(|account| account.spec.role = Some("viewer".into()));
        let taken = world.clone().and(|world| world.taken = BTreeSet::from(["role".to_owned()]));
        assert!(is_outdated(&taken), "the projects are ours");
        assert_eq!(
            applied(&taken.token, &taken.taken)["spec"],
            json!({"instanceRef": {"name": "eem"}, "projects": ["a"]})
        );
        let both = taken.with_account(|account| account.spec.projects = vec!["a".into()]);
        assert!(!is_outdated(&both));
        let limited = |world: &World| {
            let conditions = world.rested().status.conditions;
            conditions.into_iter().find(|said| said.type_ == condition::LIMITED_BY_ACCOUNT).map(|said| said.message)
        };
        let told = "account ci holds the token to less: another field manager has set its spec.role; remove that there, or have it say what the token says";
        assert_eq!(limited(&both).as_deref(), Some(told));
        assert_eq!(limited(&served()), None);
        let spec = applied(&world.token, &BTreeSet::new());
        assert_eq!(spec["spec"].as_object().unwrap().keys().collect::<Vec<_>>(), ["instanceRef", "projects", "role"]);
    }
}
