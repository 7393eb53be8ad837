//! The owner of a token: the rights that follow from the owner, and the consequences of the owner's removal.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{observed::Observed, own_account::own_account, rules, world::World};
use crate::{
    access::{self, Bearer, Outlook, Policy, Rules, Unnamed},
    crd::{
        EventName, Fault, Instance, Reason,
        api_token::{Effective, MirroredPolicy, SeenOwner, SeenRules},
        fault,
        instance::{Authorization, Ceiling, OnOwnerRemoved, Permission},
        name,
        reason::{Mended, Sense},
    },
    outside::events::Note,
};

/// The facts that follow from the owner of a token and from its Instance's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The consequence for the token if its owner is gone or holds too little; otherwise none.
    pub removed: Option<OnOwnerRemoved>,
    /// The owner in the Instance's `formerOwners`: of the token, of its account, or of the account that owns it. None
    /// if all of them are still there.
    pub former: Option<String>,
    /// The current owner, with the time at which the stamp of its groups was first seen.
    pub seen: Option<SeenOwner>,
    /// The time from which the owner's groups no longer count.
    pub stale_from: Option<Timestamp>,
    /// True if the owner's groups no longer count.
    pub is_stale: bool,
    /// The effective rights of the token. If the Instance is missing or faulty, the rights in the old status are kept.
    pub effective: Option<Effective>,
    /// The digests of the rules of the token's Instances, audiences included.
    pub rules: Vec<SeenRules>,
    /// The reason why the Instance accepts no request with the token; none if it can accept some.
    pub shut: Option<Shut>,
    /// True if any action is permitted; none if the Instance does not judge rights.
    pub permitted: Option<bool>,
}

/// The reason why no request with a valid value is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shut {
    /// The reason for conditions.
    pub reason: Reason,
    /// The cause and the remedy.
    pub message: String,
    /// True if the token is valid otherwise, but is permitted no action.
    pub permits_nothing: bool,
}

impl Ownership {
    /// Derives all facts about the owner.
    pub fn of(read: &Observed) -> Self {
        let seen = seen(read);
        let stamped_at = seen.as_ref().and_then(|seen| seen.stamped_at.as_ref()).map(|at| at.0);
        let stale_from = read.rules().zip(stamped_at).and_then(|(rules, at)| rules.groups_hold_until(at));
        let is_stale = stale_from.is_some_and(|from| from <= read.now);
        let judged = read.rules().map(|rules| Judged::of(read, rules, !is_stale));
        let outlook = judged.as_ref().map(|judged| Outlook::of(judged.rules, &judged.policies, &judged.bearer));
        let effective = outlook.as_ref().map(Outlook::effective).or_else(|| read.before().effective.clone());
        let shut = shut(read, judged.as_ref(), outlook.as_ref());
        let nothing = shut.as_ref().is_some_and(|shut| shut.permits_nothing);
        Self {
            removed: judged.as_ref().and_then(|judged| judged.removed),
            former: judged.as_ref().and_then(Judged::former),
            permitted: effective.as_ref().filter(|_| judges_rights(read)).map(|_| !nothing),
            rules: rules::seen(read, outlook.as_ref()),
            effective,
            shut,
            seen,
            stale_from,
            is_stale,
        }
    }
}

/// The input for `access` about a token whose Instance has rules without faults.
struct Judged<'a> {
    rules: &'a Rules,
    policies: Vec<&'a Policy>,
    bearer: Bearer<'static>,
    removed: Option<OnOwnerRemoved>,
}

/// The token with the account that it acts as, or else the account that would be created for it. The accounts behind it
/// are left out.
pub(crate) fn bearer(read: &Observed) -> Bearer<'static> {
    let made = || Arc::new(own_account(&read.token));
    Bearer::of(&read.token, &read.account.clone().unwrap_or_else(made))
}

impl<'a> Judged<'a> {
    fn of(read: &'a Observed, rules: &'a Rules, fresh: bool) -> Self {
        #[cfg(test)]
        super::world::derivations::note("bearer");
        let bearer = bearer(read).followed(|namespace, name| read.owner_of(namespace, name).map(Into::into));
        // Old groups permit nothing, but they do not prove that the owner has left them. So they do not count as a
        // removal of the owner.
        let lent = match rules.standing(&bearer) {
            access::Standing::Free | access::Standing::Nobody => true,
            access::Standing::Holds(held) => !held.is_empty(),
        };
        let left = rules.former_owner(&bearer).is_some();
        let removed = (read.owner_gone || left || !lent).then_some(rules.on_owner_removed);
        let policies = read.policies.iter().map(|policy| &**policy).collect();
        Self { rules, policies, bearer: Bearer { fresh, ..bearer }, removed }
    }

    fn former(&self) -> Option<String> {
        self.rules.former_owner(&self.bearer).map(str::to_owned)
    }
}

/// The current owner, with the time at which the stamp of its groups was first seen.
fn seen(read: &Observed) -> Option<SeenOwner> {
    let before = read.before().owner.as_ref();
    let subject = read.owner().map(ToString::to_string);
    let stamp = access::stamp(&read.token).map(str::to_owned);
    if before.is_none() && subject.is_none() && stamp.is_none() {
        return None;
    }
    let known = before.filter(|before| before.stamp == stamp).and_then(|before| before.stamped_at.clone());
    let stamped_at = stamp.as_ref().map(|_| known.unwrap_or(Time(read.now)));
    Some(SeenOwner { subject, stamp, stamped_at, gone: read.owner_gone })
}

/// True if the Instance judges requests by rights: by roles, by members, or by both.
fn judges_rights(read: &Observed) -> bool {
    read.instance.as_deref().is_some_and(|instance| {
        let by_roles = instance.spec.api.as_ref().is_some_and(|api| api.authorization == Authorization::Roles);
        by_roles || instance.spec.ceiling == Ceiling::Members
    })
}

/// The reason why the token's own Instance accepts no request with its value, in the order of the verifier's checks.
fn shut(read: &Observed, judged: Option<&Judged<'_>>, outlook: Option<&Outlook<'_>>) -> Option<Shut> {
    let says = |reason, message: &str| Some(Shut { reason, message: message.to_owned(), permits_nothing: false });
    let permits_nothing =
        |reason, message: &str| says(reason, message).map(|shut| Shut { permits_nothing: true, ..shut });
    let Some(instance) = read.instance.as_deref() else {
        return says(Reason::InstanceMissing, "its Instance does not exist");
    };
    if instance.metadata.deletion_timestamp.is_some() {
        return says(Reason::InstanceMissing, "its Instance is being deleted");
    }
    if !access::admits(instance, read.home()) {
        return says(Reason::NamespaceNotAdmitted, "its Instance does not admit tokens of this namespace");
    }
    if instance.is_disabled() {
        return says(Reason::EndpointDisabled, DISABLED);
    }
    let Some((judged, outlook)) = judged.zip(outlook) else {
        return says(Reason::InstanceInvalid, "its Instance has faults");
    };
    let removed = || permits_nothing(Reason::OwnerRemoved, &why_removed(read, judged.former().as_deref(), "the owner"));
    if read.owner_gone && judged.rules.on_owner_removed != OnOwnerRemoved::Keep {
        return removed();
    }
    match outlook.opening().err()? {
        access::Closed::OwnerMissing => permits_nothing(Reason::OwnerMissing, "the token has no owner"),
        access::Closed::OwnerRemoved => removed(),
        access::Closed::OwnerStale => permits_nothing(Reason::OwnerStale, STALE),
        access::Closed::Organization(cause) => permits_nothing(Reason::NoPermissions, no_organization(cause)),
        access::Closed::Project(cause) => permits_nothing(Reason::NoPermissions, no_project(cause)),
        access::Closed::NoPermissions if access::withholds(judged.rules, &judged.bearer) => {
            let message = format!("nothing is permitted, and tokens.defaultRole gives no role: {}", access::WITHHELD);
            permits_nothing(Reason::NoPermissions, &message)
        }
        access::Closed::NoPermissions => permits_nothing(Reason::NoPermissions, NOTHING),
    }
}

/// The message for a disabled endpoint.
const DISABLED: &str = "the endpoint of the Instance is disabled: every token is refused until it is enabled again";
/// The message for groups of the owner that were stamped too long ago.
pub(crate) const STALE: &str = "the owner's groups were stamped too long ago and no longer count; the owner must \
    change the token, or its annotation tokenry.dev/confirmed";
/// The message for a token that is permitted no action.
const NOTHING: &str = "nothing is permitted: give a role to the token, its account and its owner, or create an \
    AccessPolicy for it; see status.effective for the limits";

/// The message for a token with organizations that no request can name.
fn no_organization(cause: Unnamed) -> &'static str {
    match cause {
        Unnamed::Unread => {
            "nothing is permitted: the token may act for listed organizations alone, and its Instance reads no \
             organization from requests; set spec.api.organizationFrom of the Instance, or let the token, its account \
             and its owner act for all organizations"
        }
        Unnamed::Empty => {
            "nothing is permitted: no organization is allowed to the token, its account and its owner alike, and \
             listed by the Instance; see status.effective for the limits"
        }
    }
}

/// The message for a token with projects that no request can name.
fn no_project(cause: Unnamed) -> &'static str {
    match cause {
        Unnamed::Unread => {
            "nothing is permitted: the token may act in listed projects alone, and its Instance reads no project from \
             requests; set spec.api.projectFrom of the Instance, or remove spec.projects of the token and of its account"
        }
        Unnamed::Empty => {
            "nothing is permitted: spec.projects of the token and of its account have no project in common"
        }
    }
}

/// The event that the owner has changed.
pub(crate) fn changed(world: &World) -> Option<Note> {
    let before = &world.before().owner.as_ref()?.subject;
    let now = world.owner().map(ToString::to_string);
    let named = |subject: &Option<String>| subject.clone().unwrap_or_else(|| "nobody".into());
    let text = format!("the owner was {} and is {} now", named(before), named(&now));
    (*before != now).then(|| Note::normal(EventName::OwnerChanged, Reason::OwnerChanged, text))
}

/// Adds the faults of the token's owner and role.
pub(crate) fn faults(world: &World, instance: &Instance, faults: &mut Vec<Fault>) {
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
    match world.owner() {
        None if asked => {
            let message = "is missing; the Instance has ceiling: Members, so each token needs an owner";
            faults.push(Fault::new(Reason::OwnerMissing, OWNER, message));
        }
        Some(owner) if world.owner.removed.is_some() && !world.records.ever_published() => {
            // A token that was never published gets a fault instead, whatever onOwnerRemoved says. The owner may be a
            // typing error.
            let message = why_removed(world, world.owner.former.as_deref(), &owner.to_string());
            faults.push(Fault::new(Reason::OwnerRemoved, OWNER, message));
        }
        None | Some(_) => {}
    }
    let full = world.surplus.as_deref();
    if let Some((full, most)) = full.and_then(|full| Some((full, full.spec.tokens.max_per_owner?))) {
        let name = full.metadata.name.as_deref().unwrap_or_default();
        let own = full.metadata.uid == instance.metadata.uid;
        let of = if own { "the Instance".to_owned() } else { format!("Instance {name}") };
        let message = format!("owns more tokens than the {most} that {of} allows; delete another token");
        faults.push(Fault::new(Reason::TooManyTokens, OWNER, message));
    }
}

/// The text about a removed owner. `former` is the owner in the Instance's `formerOwners`.
pub(crate) fn why_removed(read: &Observed, former: Option<&str>, owner: &str) -> String {
    match (former, read.owner_gone) {
        (Some(former), _) if is_owner(read, former) => {
            format!("{former} is in spec.formerOwners of the Instance; name another owner")
        }
        (Some(former), _) => {
            format!("{former} owns an account behind the token, and is in spec.formerOwners of the Instance")
        }
        (None, true) => format!("{owner} does not exist; name another owner"),
        (None, false) => format!("{owner} holds no role in the Instance's members that may own tokens"),
    }
}

/// The text about a token that ends because its owner is removed.
pub(crate) fn why_ended(world: &World) -> String {
    let owner = world.owner().map_or_else(|| "nobody".into(), ToString::to_string);
    match (world.owner.former.as_deref(), world.owner_gone) {
        (Some(former), _) if is_owner(world, former) => {
            format!("its owner {former} was in spec.formerOwners of the Instance")
        }
        (Some(former), _) => {
            format!("{former} owned an account behind the token, and was in spec.formerOwners of the Instance")
        }
        (None, true) => format!("its owner {owner} did not exist"),
        (None, false) => format!("its owner {owner} held no role in the Instance's members that may own tokens"),
    }
}

fn is_owner(read: &Observed, subject: &str) -> bool {
    read.owner().is_some_and(|owner| owner.as_str() == subject)
}

/// The start of an event about a removed owner, with the Instance's reaction.
pub(crate) fn acted_on(world: &World) -> Option<String> {
    let (does, then) = match world.owner.removed? {
        OnOwnerRemoved::Revoke => ("revokes", "Revoke"),
        OnOwnerRemoved::Suspend => ("suspends", "Suspend"),
        OnOwnerRemoved::Keep => ("keeps", "Keep"),
    };
    let owner = world.owner().map_or_else(|| "the owner".into(), ToString::to_string);
    let why = why_removed(world, world.owner.former.as_deref(), &owner);
    Some(format!("{why}; the Instance {does} such tokens (tokens.onOwnerRemoved: {then}): "))
}

/// True if a fault can be fixed by a change of the token's own spec. Other faults are fixed in other objects.
fn is_of_spec(fault: &Fault) -> bool {
    fault.reason.sense() == Sense::Fault(Mended::Here)
}

/// The faults in words. For an immutable token, the text adds that it must be deleted and made again.
pub(crate) fn told(world: &World, faults: &[Fault]) -> String {
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
    format!("{all}; the token is immutable and cannot be changed, so delete it{confirmed} and make it again")
}

/// The Instance's rules for changes of the token, as the token's status mirrors them.
pub(crate) fn mirrored(read: &Observed) -> Option<MirroredPolicy> {
    let tokens = &read.instance.as_ref()?.spec.tokens;
    let immutable = tokens.immutable.clone().unwrap_or_default();
    Some(MirroredPolicy {
        confirm_delete: tokens.confirm_delete,
        immutable: immutable.always,
        regenerate: immutable.regenerate == Permission::Allow,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{
        act::{Act, Decision},
        fixture::{self, DAY, served},
        progress::Progress,
        validate::validate,
    };
    use super::*;
    use crate::{
        controller::book::Ruled,
        crd::{condition, name},
    };
    use serde_json::{Value, json};

    /// A served token of alice. Her role comes from a group, and her groups were stamped at the start.
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
            assert_eq!(world.pause, None, "{then}");
            assert_eq!(world.owner.effective.unwrap().actions, [] as [&str; 0], "the groups still do not count");
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
        assert_eq!(told, [Reason::WindowsUnmet], "a rotation has to meet a window of each");
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
        assert!(!advice(elsewhere), "the Instance has the fault");
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

    /// A served token of carl, by an Instance that carl has left.
    fn left(ceiling: &str, then: &str) -> World {
        let members = json!([{"subject": "user:carl", "role": "viewer"}, {"subject": "user:alice", "role": "viewer"}]);
        let world = served().with_spec(&json!({"owner": "user:carl"}));
        let world = world.with_account(|account| account.spec.owner = Some("user:carl".into()));
        let tokens = json!({"onOwnerRemoved": then});
        let former = json!(["user:carl", "user:dora"]);
        world.with_instance(json!({"ceiling": ceiling, "members": members, "tokens": tokens, "formerOwners": former}))
    }

    fn ready(world: &World) -> (String, String) {
        let said = fixture::said(&world.rested().status, condition::READY).clone();
        (said.reason, said.message)
    }

    const ENDED: Decision =
        Decision { reason: Reason::OwnerRemoved, act: Act::End(crate::crd::api_token::RevocationReason::OwnerRemoved) };

    #[test]
    fn a_former_owner_counts_as_removed_with_and_without_a_ceiling_and_is_named() {
        let removed = |message: &str| ("OwnerRemoved".to_owned(), message.to_owned());
        let in_list = "user:carl is in spec.formerOwners of the Instance";
        for ceiling in ["None", "Members"] {
            let revoked = left(ceiling, "Revoke");
            assert_eq!(revoked.decision(), ENDED, "{ceiling}");
            let noted = "its owner user:carl was in spec.formerOwners of the Instance";
            let message = format!("{noted}: refused for ever; make another ApiToken");
            assert_eq!(ready(&revoked), removed(&message));
            let ended = revoked.clone().settled(&Progress::none(ENDED)).later(DAY);
            assert_eq!(ended.status().revocation.unwrap().message.as_deref(), Some(noted));
            for tidied in [json!({"formerOwners": []}), json!({"formerOwners": ["user:dora"]})] {
                let tidy = ended.clone().with_instance(tidied).with_spec(&json!({"owner": "user:dora"}));
                assert_eq!(ready(&tidy), removed(&message), "the list is tidied, or another owner has left");
                assert_eq!(tidy.rested().status.revocation, ended.status().revocation);
            }
            let message = format!("refused until its owner is back: {in_list}; name another owner");
            assert_eq!(ready(&left(ceiling, "Suspend")), removed(&message));
            let fault = fixture::new().with_spec(&json!({"owner": "user:carl"}));
            let fault = fault.and(|world| world.instance = left(ceiling, "Keep").instance.clone());
            assert_eq!(ready(&fault), removed(&format!("spec.owner: {in_list}; name another owner")));
        }
        let kept = left("Members", "Keep");
        assert_eq!((kept.decision().act, ready(&kept).0), (Act::Rest, "OwnerRemoved".into()));
        assert_eq!(ready(&left("None", "Keep")).0, "Active", "the Instance keeps it, and no rights are the owner's");
        let handed = left("Members", "Revoke").with_spec(&json!({"owner": "user:alice"}));
        assert_eq!(handed.decision().act, Act::Rest, "its own account follows later");
    }

    #[test]
    fn a_token_behind_an_account_of_a_former_owner_counts_as_removed_too() {
        let acting =
            left("None", "Revoke").with_spec(&json!({"owner": "user:alice", "serviceAccountRef": {"name": "ci"}}));
        assert_eq!(acting.decision(), ENDED);
        let told = "user:carl owns an account behind the token, and is in spec.formerOwners of the Instance";
        let suspended =
            left("None", "Suspend").with_spec(&json!({"owner": "user:alice", "serviceAccountRef": {"name": "ci"}}));
        assert!(ready(&suspended).1.ends_with(told), "{}", ready(&suspended).1);
        let mut bot = fixture::account();
        bot.metadata.name = Some("bot".into());
        bot.spec.owner = Some("user:dora".into());
        let owned = left("None", "Revoke").with_spec(&json!({"owner": "account:events/bot"}));
        assert_eq!(owned.decision().act, Act::Rest);
        assert_eq!(owned.and(|world| world.owning = vec![Arc::new(bot)]).decision(), ENDED);
    }

    #[test]
    fn a_token_whose_organizations_or_projects_no_request_can_name_says_so() {
        let told = |world: World| {
            let (reason, message) = ready(&world);
            assert_eq!(reason, "NoPermissions");
            message
        };
        let of = |spec: serde_json::Value| served().with_instance(json!({})).with_spec(&spec);
        let projects = told(of(json!({"projects": ["a"]})));
        assert!(projects.contains("reads no project") && projects.contains("spec.api.projectFrom"), "{projects}");
        let apart = of(json!({"projects": ["a"]})).with_account(|account| account.spec.projects = vec!["b".into()]);
        let apart = told(apart.with_instance(json!({"api": {"projectFrom": {"header": "X-Project"}}})));
        assert!(apart.contains("no project in common"), "{apart}");
        let organizations = told(of(json!({"organizations": {"listed": ["eem"]}})));
        assert!(organizations.contains("spec.api.organizationFrom"), "{organizations}");
    }

    #[test]
    fn a_token_that_another_made_for_its_owner_is_told_to_name_a_role() {
        let spec = json!({
            "api": {"authorization": "Roles"}, "ceiling": "Members", "tokens": {"defaultRole": "Owner"},
            "members": [{"subject": "user:alice", "role": "viewer"}],
        });
        let made = |maker: &str| {
            let world = served().with_instance(spec.clone()).with_spec(&json!({"owner": "user:alice"}));
            world.with_account(|account| account.spec.owner = Some("user:alice".into())).with_token(|token| {
                token.metadata.annotations = Some([(name::CREATED_BY.into(), maker.into())].into());
            })
        };
        let (reason, message) = ready(&made("user:bob"));
        assert_eq!(reason, "NoPermissions");
        assert!(message.ends_with("does not name its owner; name a role in spec.role"), "{message}");
        let own = made("user:alice");
        assert_eq!(ready(&own).0, "Active");
        assert_eq!(own.owner.effective.unwrap().role.as_deref(), Some("viewer"));
    }
}
