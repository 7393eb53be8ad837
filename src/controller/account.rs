//! The controller of `ServiceAccount` of tokenry.dev. It reports if tokens can act as the account.

use std::{collections::BTreeSet, sync::Arc};

use futures::stream::{BoxStream, SelectAll};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Caches, Obstacle, Rooms,
    book::Ruled,
    census,
    depends::Depends,
    grants::{self, Granted, granting},
    kind::{Checked, Kind, Settled, Unreadable, Version, Wake, version},
    policy::missing_policies,
    run::{each, every, mapped, names, referring, together},
};
use crate::{
    access::Rules,
    crd::{
        AccessPolicy, Account, ApiToken, Conditions, EventName, Fault, Reason,
        account::{AccountStatus, MirroredAccountPolicy, TokenCount},
        api_token::BoundAccount,
        condition::{ACCEPTED, Conclusion},
        fault::{first, told},
        instance::OnOwnerRemoved,
    },
    outside::{Location, Refusal, clock::jumps, events::Note, store::Gist},
};

/// Everything a pass over an account knows.
pub struct World {
    now: Timestamp,
    account: Arc<Account>,
    instance: Option<Ruled>,
    /// The names of the Instance's policies.
    policies: BTreeSet<String>,
    /// The counted facts of the tokens that act as the account.
    tokens: Vec<Gist>,
}

impl Kind for Account {
    type World = World;
    type Terms = ();
    type Decision = Reason;
    type Progress = Reason;
    type Status = AccountStatus;

    const WHEN_UNREADABLE: &'static str = "its tokens are not counted, and are judged as before";
    async fn observe(self: Arc<Self>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
        let namespace = self.namespace().unwrap_or_default();
        let wanted = &self.spec.instance_ref;
        let instance = rooms.instance(wanted.namespace_or(&namespace), wanted.name.as_str());
        let tokens = rooms.caches.tokens.gists(&Depends::Bound(&self.uid().unwrap_or_default()));
        let of = Depends::Instance(wanted.namespace_or(&namespace), wanted.name.as_str());
        let policies = rooms.caches.policies.by(&of).map(|policy| policy.name_any()).collect();
        Ok(World { now, account: self, instance, policies, tokens })
    }

    fn validate(world: &World) -> Checked<()> {
        if let Some(instance) = &world.instance {
            return rights(world, instance);
        }
        let wanted = &world.account.spec.instance_ref;
        let namespace = world.account.namespace().unwrap_or_default();
        let message =
            format!("there is no Instance {} in namespace {}; create it", wanted.name, wanted.namespace_or(&namespace));
        Err(vec![Fault::new(Reason::InstanceMissing, "spec.instanceRef", message)])
    }

    fn decide(world: &World, terms: &Checked<()>) -> Reason {
        match terms {
            _ if world.account.metadata.deletion_timestamp.is_some() => Reason::Deleting,
            Err(faults) => first(faults),
            Ok(()) if !world.account.spec.active => Reason::Suspended,
            Ok(()) => Reason::Active,
        }
    }

    fn reason(decision: &Reason) -> Reason {
        *decision
    }

    async fn execute(
        _: &Rooms,
        world: &World,
        _: &Checked<()>,
        decision: Reason,
    ) -> Result<(Version, Reason), Obstacle> {
        Ok((version(&*world.account), decision))
    }

    fn settle(world: &World, terms: &Checked<()>, reason: &Reason) -> Settled<AccountStatus> {
        let account = &world.account;
        let old = account.status.as_ref().map(|status| status.conditions.as_slice());
        let mut conditions = Conditions::from(old, account.metadata.generation, world.now);
        match terms {
            Ok(()) => conditions.set(ACCEPTED, true, Reason::Accepted, "what it refers to exists"),
            Err(faults) => conditions.set(ACCEPTED, false, *reason, told(faults)),
        }
        let (conclusion, message) = match terms {
            _ if *reason == Reason::Deleting => (Conclusion::Working, "being deleted".into()),
            Err(faults) => (Conclusion::of(*reason), told(faults)),
            Ok(()) if *reason == Reason::Suspended => {
                (Conclusion::Ready, "its tokens are refused until active is true again".into())
            }
            Ok(()) => (Conclusion::Ready, "its tokens are accepted".into()),
        };
        conditions.conclude(conclusion, *reason, message);
        let news = terms.as_ref().err().filter(|_| conditions.changed(ACCEPTED));
        let notes =
            news.map(|faults| Note::warning(EventName::of(*reason), *reason, told(faults))).into_iter().collect();
        let (Count { tokens, last_used_at }, wake) = counted(world);
        let status = AccountStatus {
            unreadable: Vec::new(),
            observed_generation: account.metadata.generation,
            conditions: conditions.into_vec(),
            tokens: Some(tokens),
            policy: mirrored(world),
            last_used_at,
            others: account.status.as_ref().map(|stands| stands.others.clone()).unwrap_or_default(),
        };
        Settled { status, notes, wake }
    }

    fn grants(world: &World) -> Option<Vec<Granted>> {
        let Some(instance) = world.instance.as_ref().filter(|instance| instance.grants_rights()) else {
            return Some(Vec::new());
        };
        Some(grants::of_account(&world.account, instance, instance.rules()?).into_iter().collect())
    }

    fn conditions(status: &mut AccountStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn status(&self) -> Option<&AccountStatus> {
        self.status.as_ref()
    }

    fn unreadable(status: &AccountStatus) -> Unreadable<'_> {
        Unreadable { fields: &status.unreadable, conditions: &status.conditions }
    }
}

/// The faults of an account that is no object yet. `policies` are the names of the Instance's policies.
pub(super) fn faults_of_manifest(
    account: Arc<Account>,
    instance: Ruled,
    policies: BTreeSet<String>,
    now: Timestamp,
) -> Vec<Fault> {
    let world = World { now, account, instance: Some(instance), policies, tokens: Vec::new() };
    Account::validate(&world).err().unwrap_or_default()
}

/// The Instance's rule for a deletion of the account. If the Instance is missing, the old rule in status is kept.
fn mirrored(world: &World) -> Option<MirroredAccountPolicy> {
    let asks = |instance: &Ruled| MirroredAccountPolicy { confirm_delete: instance.spec.tokens.confirm_delete };
    let said = world.account.status.as_ref().and_then(|status| status.policy.clone());
    world.instance.as_ref().map(asks).or(said)
}

/// Checks the account's role, owner, organizations and policies.
fn rights(world: &World, instance: &Ruled) -> Checked<()> {
    let (spec, mut faults) = (&world.account.spec, Vec::new());
    let unknown = |role: &str| instance.rules().is_some_and(|rules| !rules.has_role(role));
    if let Some(role) = spec.role.as_ref().filter(|role| unknown(role.as_str())) {
        faults.push(Fault::new(Reason::RoleMissing, "spec.role", format!("the Instance has no role {role}")));
    }
    if let Some(rule) = spec.owner.as_ref().and_then(|owner| owner.checked().err()) {
        faults.push(Fault::invalid("spec.owner", rule));
    }
    faults.extend(missing_policies(instance, &spec.policies, |name| world.policies.contains(name.as_str())));
    faults.extend(instance.organization_fault(spec.organizations.as_ref()));
    let removes = |rules: &&Rules| rules.on_owner_removed != OnOwnerRemoved::Keep;
    let has_left = |owner: &str| instance.rules().filter(removes).is_some_and(|rules| rules.has_left(owner));
    if let Some(owner) = spec.owner.as_ref().filter(|owner| has_left(owner.as_str())) {
        let message = format!("{owner} is in spec.formerOwners of the Instance; name another owner");
        faults.push(Fault::new(Reason::OwnerRemoved, "spec.owner", message));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The count of an account's tokens and their last use.
struct Count {
    tokens: TokenCount,
    last_used_at: Option<Time>,
}

impl AsRef<TokenCount> for Count {
    fn as_ref(&self) -> &TokenCount {
        &self.tokens
    }
}

/// The count of tokens for the status, and the wake-up for the next count.
fn counted(world: &World) -> (Count, Option<Wake>) {
    let tokens = census::count(world.tokens.iter().copied(), world.now);
    let fresh = Count { tokens, last_used_at: last_used(world) };
    let said =
        world.account.status.as_ref().and_then(|status| {
            Some(Count { tokens: status.tokens.clone()?, last_used_at: status.last_used_at.clone() })
        });
    let agree = |one: &Count, other: &Count| {
        census::agree(&one.tokens, &other.tokens) && one.last_used_at == other.last_used_at
    };
    census::seldom(said, fresh, agree, world.now)
}

/// The last use of one of the account's tokens. It is kept after the token is deleted.
fn last_used(world: &World) -> Option<Time> {
    let used = world.tokens.iter().filter_map(|token| token.used_at).map(Time);
    let stands = world.account.status.as_ref().and_then(|status| status.last_used_at.clone());
    used.chain(stands).max()
}

/// The names of accounts that need a pass, because the account, its Instance or one of its tokens has changed.
pub fn triggers(rooms: &Arc<Rooms>) -> SelectAll<BoxStream<'static, ObjectRef<Account>>> {
    // Each cache is named here, so that a new cache does not compile before it is considered here.
    let Caches {
        accounts,
        instances,
        tokens,
        policies,
        users: _,
        secrets: _,
        services: _,
        exposing: _,
        namespaces: _,
        roles,
        bindings,
    } = &*rooms.caches;
    let [of_tokens, of_policies] = std::array::from_fn(|_| rooms.clone());
    futures::stream::select_all([
        each(accounts.touched()),
        referring(instances, accounts.store()),
        mapped(policies.touched(), move |policy: &AccessPolicy| {
            let home = policy.namespace().unwrap_or_default();
            let of = Depends::Instance(&home, policy.spec.instance_ref.name.as_str());
            // A policy changes only accounts that name it.
            let name = policy.name_any();
            let names_it = |account: &Arc<Account>| account.spec.policies.iter().any(|named| named.as_str() == name);
            names(of_policies.caches.accounts.by(&of).filter(names_it))
        }),
        together(mapped(tokens.touched(), move |token: &ApiToken| {
            let bound = token.status.as_ref().and_then(|status| status.account.as_ref());
            let namespace = &*token.namespace().unwrap_or_default();
            let accounts = &of_tokens.caches.accounts;
            let named = |bound: &BoundAccount| accounts.names(&Location { namespace, name: &bound.name });
            bound.map(named).unwrap_or_default()
        })),
        granting(roles, accounts.store()),
        granting(bindings, accounts.store()),
        every(jumps(rooms.clock.clone()), accounts.store()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use serde_json::json;

    fn world() -> World {
        let object = |kind: &str, spec| {
            let metadata = json!({"name": "eem", "namespace": "events", "uid": "u", "generation": 3});
            json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
        };
        let account = object("ServiceAccount", json!({"instanceRef": {"name": "eem"}}));
        World {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            account: Arc::new(serde_json::from_value(account).unwrap()),
            instance: Some(Ruled::new(Arc::new(serde_json::from_value(object("Instance", json!({}))).unwrap()))),
            policies: BTreeSet::new(),
            tokens: Vec::new(),
        }
    }

    fn with(change: impl FnOnce(&mut World)) -> World {
        let mut world = world();
        change(&mut world);
        world
    }

    fn settled(world: &World) -> Settled<AccountStatus> {
        let terms = Account::validate(world);
        Account::settle(world, &terms, &Account::decide(world, &terms))
    }

    fn said(world: &World) -> Vec<String> {
        let conditions = settled(world).status.conditions;
        conditions.iter().map(|said| format!("{}={}/{}", said.type_, said.status, said.reason)).collect()
    }

    #[test]
    fn an_account_whose_instance_exists_is_ready() {
        assert_eq!(said(&world()), ["Accepted=True/Accepted", "Ready=True/Active"]);
        assert_eq!(settled(&world()).status.observed_generation, Some(3));
    }

    #[test]
    fn an_instance_that_may_be_about_to_be_created_is_waited_for_and_named() {
        let world = with(|world| world.instance = None);
        assert_eq!(
            said(&world),
            ["Accepted=False/InstanceMissing", "Ready=False/InstanceMissing", "Reconciling=True/InstanceMissing"]
        );
        let message = &settled(&world).status.conditions[1].message;
        assert!(
            message.contains("spec.instanceRef") && message.contains("Instance eem in namespace events"),
            "{message}"
        );
    }

    #[test]
    fn an_account_lists_organizations_of_its_instance() {
        let of = |listed: &[&str]| {
            with(|world| {
                let scope = serde_json::from_value(json!({ "listed": listed })).unwrap();
                Arc::make_mut(&mut world.account).spec.organizations = Some(scope);
            })
        };
        assert_eq!(said(&of(&["eem"])), ["Accepted=True/Accepted", "Ready=True/Active"]);
        let unknown = of(&["eem", "north"]);
        assert_eq!(said(&unknown)[0], "Accepted=False/OrganizationUnknown");
        let message = &settled(&unknown).status.conditions[0].message;
        let both = "spec.organizations.listed: lists north, but spec.organizations of Instance events/eem does not";
        assert!(message.starts_with(both), "{message}");
    }

    #[test]
    fn an_account_of_a_former_owner_is_told_of() {
        let owned = |then: &str| {
            with(|world| {
                Arc::make_mut(&mut world.account).spec.owner = Some("user:carl".into());
                let instance = world.instance.as_mut().unwrap();
                instance.change(|instance| {
                    instance.spec.former_owners = vec!["user:carl".into()];
                    instance.spec.tokens = serde_json::from_value(json!({ "onOwnerRemoved": then })).unwrap();
                });
            })
        };
        for then in ["Revoke", "Suspend"] {
            let told = ["Accepted=False/OwnerRemoved", "Ready=False/OwnerRemoved", "Stalled=True/OwnerRemoved"];
            assert_eq!(said(&owned(then)), told, "{then}");
        }
        assert_eq!(said(&owned("Keep")), ["Accepted=True/Accepted", "Ready=True/Active"]);
    }

    #[test]
    fn a_suspended_account_is_as_was_asked_for() {
        let world = with(|world| Arc::make_mut(&mut world.account).spec.active = false);
        assert_eq!(said(&world), ["Accepted=True/Accepted", "Ready=True/Suspended"]);
    }

    #[test]
    fn deleting_beats_missing_and_missing_beats_suspended() {
        let missing = with(|world| {
            world.instance = None;
            Arc::make_mut(&mut world.account).spec.active = false;
        });
        assert_eq!(Account::decide(&missing, &Account::validate(&missing)), Reason::InstanceMissing);
        let deleting = with(|world| {
            world.instance = None;
            Arc::make_mut(&mut world.account).metadata.deletion_timestamp = Some(Time(world.now));
        });
        assert_eq!(Account::decide(&deleting, &Account::validate(&deleting)), Reason::Deleting);
        assert_eq!(said(&deleting)[1], "Ready=False/Deleting");
    }

    #[test]
    fn settled_twice_a_status_is_the_same() {
        let changes: [fn(&mut World); 3] =
            [|_| {}, |world| world.instance = None, |world| Arc::make_mut(&mut world.account).spec.active = false];
        for change in changes {
            let mut world = with(change);
            let first = settled(&world).status;
            Arc::make_mut(&mut world.account).status = Some(first.clone());
            world.now += SignedDuration::from_hours(1);
            assert_eq!(settled(&world).status, first);
            assert_eq!(settled(&world).wake, None);
        }
    }
}
