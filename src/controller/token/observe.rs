//! Reads everything a token depends on, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use futures::future::try_join_all;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::{
    act::{Act, Decision},
    decide::decide,
    owner,
    restart::pending,
    validate::validate,
    workloads::{Fellow, Seen, Workloads},
    world::{Bound, Held, Names, World},
};
use crate::{
    access::Policy,
    controller::{Rooms, book::Ruled, depends::Depends},
    crd::{
        Account, ApiToken, Instance, InstanceRef,
        api_token::ApiTokenStatus,
        condition::ACCEPTED,
        subject::{SubjectKind, Who},
        workload::MAX_RESTARTED,
    },
    outside::{Refusal, Why, watch::CoreAccount},
};

/// Reads the caches, and past them where they cannot be rested on.
pub async fn observe(token: Arc<ApiToken>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
    let namespace = token.namespace().unwrap_or_default();
    let caches = &rooms.caches;
    let wanted = &token.spec.instance_ref;
    let home = caches.namespaces.get("", &namespace);
    let world = World {
        now,
        instance: instance(rooms, wanted, &namespace),
        labels: home.as_ref().map(|home| home.metadata.labels.clone().unwrap_or_default()),
        terminating: home.is_some_and(|home| home.metadata.deletion_timestamp.is_some()),
        audiences: token.spec.audiences.iter().map(|wanted| instance(rooms, wanted, &namespace)).collect(),
        policies: policies(rooms, wanted.namespace_or(&namespace), wanted.name.as_str()),
        owner_gone: false,
        surplus: None,
        account: caches.accounts.get(&namespace, token.account_name().0),
        secret: Held::of(caches.secrets.get(&namespace, token.secret_name()), &token),
        wanted: None,
        other: None,
        may_mint_from: rooms.mints.may_mint_from(token.metadata.uid.as_deref().unwrap_or_default(), now),
        taken: BTreeSet::new(),
        workloads: Workloads::Unread,
        fellows: Vec::new(),
        known: OnceLock::new(),
        token,
    };
    // Bound once is bound for life, and lost once is lost for ever: neither is decided from a cache.
    let account_in_doubt = match world.bound() {
        Bound::Free => world.account.is_some(),
        Bound::Held => false,
        Bound::Lost => true,
    };
    let (account, (wanted, served, other)) = tokio::try_join!(
        async {
            if !account_in_doubt {
                return Ok(world.account.clone());
            }
            rooms.accounts.live(&namespace, world.token.account_name().0).await
        },
        secrets(rooms, &world),
    )?;
    let world = taken(World { account, ..world }, rooms).await?;
    let (owner_gone, surplus) = (owner_gone(&world, rooms).await?, surplus(&world, rooms));
    restarting(World { owner_gone, surplus, ..world }.seeing(wanted, served, other), rooms).await
}

/// Reads the token's own account and who has set its fields, where it does not say what the token says.
async fn taken(world: World, rooms: &Rooms) -> Result<World, Refusal> {
    if !owner::differs(&world) {
        return Ok(world);
    }
    let (namespace, name) = (world.namespace(), world.token.account_name().0);
    let Some((account, taken)) = rooms.reader.managed::<Account>(namespace, name).await? else { return Ok(world) };
    Ok(World { account: Some(Arc::new(account)), taken, ..world })
}

fn instance(rooms: &Rooms, wanted: &InstanceRef, own: &str) -> Option<Ruled> {
    rooms.instance(wanted.namespace_or(own), wanted.name.as_str())
}

/// Whether what it is judged by takes long to look at: an Instance that lists much, or policies that do.
pub fn is_much(token: &ApiToken, rooms: &Rooms) -> bool {
    let home = token.metadata.namespace.as_deref().unwrap_or_default();
    let large = |wanted: &InstanceRef| instance(rooms, wanted, home).is_some_and(|instance| instance.is_large());
    let wanted = &token.spec.instance_ref;
    let about = rooms.caches.policies.by(&Depends::Instance(wanted.namespace_or(home), wanted.name.as_str()));
    let listed = about.iter().map(|policy| policy.spec.members.len() + policy.spec.statements.len());
    token.instances().any(large) || listed.sum::<usize>() > LISTED
}

/// Policies of one Instance that list more members and statements than this, all together, take long to look at.
const LISTED: usize = 1000;

/// The policies about an Instance, by name.
fn policies(rooms: &Rooms, namespace: &str, instance: &str) -> Vec<Arc<Policy>> {
    let mut policies = rooms.caches.policies.by(&Depends::Instance(namespace, instance));
    policies.sort_by_key(|policy| policy.name_any());
    policies.iter().map(|policy| rooms.policies.policy(policy)).collect()
}

/// Whether the owner is an account that does not exist, or is being deleted, which a finalizer can draw out: never by a cache
/// alone, as a token may end by it. One that this operator may not look at is taken to be there.
async fn owner_gone(world: &World, rooms: &Rooms) -> Result<bool, Refusal> {
    let owner = owner::owner(world).map(ToString::to_string).unwrap_or_default();
    let Some((kind, (namespace, name))) = Who::of(&owner).and_then(|who| Some((who.kind, who.namespaced()?))) else {
        return Ok(false);
    };
    let gone = match kind {
        SubjectKind::ServiceAccount if !rooms.caches.users.get(namespace, name).is_some_and(|user| stays(&*user)) => {
            rooms.reader.live::<CoreAccount>(namespace, name).await.map(|found| !found.is_some_and(|user| stays(&user)))
        }
        SubjectKind::Account if !rooms.caches.accounts.get(namespace, name).is_some_and(|account| stays(&*account)) => {
            rooms
                .reader
                .live::<Account>(namespace, name)
                .await
                .map(|found| !found.is_some_and(|account| stays(&account)))
        }
        _ => Ok(false),
    };
    match gone {
        Err(Refusal { why: Why::Forbidden(_), .. }) => Ok(false),
        gone => gone,
    }
}

fn stays(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_none()
}

/// The first Instance, of those that are to accept it, of which the same owner has so many other tokens, that have not ended and
/// are older, as it allows. A further one counts as the first does: else a lax Instance of one's own would dodge it.
fn surplus(world: &World, rooms: &Rooms) -> Option<Ruled> {
    let owner = owner::owner(world)?.as_str();
    let age = |token: &ApiToken| {
        // Those that have a value come first: no token of the same second takes it from them.
        let issued = |status: &ApiTokenStatus| status.last_generation.is_some() || !status.unreadable.is_empty();
        let issued = token.status.as_ref().is_some_and(issued);
        let made = token.metadata.creation_timestamp.as_ref().map(|at| at.0);
        (!issued, made, token.uid().unwrap_or_default())
    };
    let own = age(&world.token);
    let counts = |other: &ApiToken, instance: &Instance| {
        let status = other.status.as_ref();
        let seen = status.and_then(|status| status.owner.as_ref()).and_then(|owner| owner.subject.as_deref());
        let owned = other.spec.owner.as_ref().map(|owner| owner.as_str()).or(seen) == Some(owner);
        let ended = other.spec.revoked || status.is_some_and(|status| status.revocation.is_some());
        let stands = !ended && other.metadata.deletion_timestamp.is_none();
        owned && stands && other.opens(instance) && age(other) < own
    };
    let count = |instance: &Instance| {
        let owned = rooms.caches.tokens.by(&Depends::Subject(owner));
        owned.iter().filter(|other| counts(other, instance)).count()
    };
    let is_full =
        |instance: &&Ruled| instance.spec.tokens.max_per_owner.is_some_and(|most| count(instance) as i64 >= most);
    world.instance.iter().chain(world.audiences.iter().flatten()).find(is_full).cloned()
}

/// What holds each of the names. While the Secret is getting another one, none of them is taken from a cache but that of the
/// served value: a cache knows of Secrets of our type only, and what is to be removed is looked at once more.
async fn secrets(rooms: &Rooms, world: &World) -> Result<(Held, Option<Held>, Option<Held>), Refusal> {
    let names = Names::of(&world.token);
    let live = async |name: &str| {
        let secret = rooms.reader.live(world.namespace(), name).await?;
        Ok::<_, Refusal>(Held::of(secret.map(Arc::new), &world.token))
    };
    let other = match names.other {
        Some(name) => Some(live(name).await?),
        None => None,
    };
    let Some(name) = names.served else {
        let held = match () {
            () if cache_agrees(world) => world.secret.clone(),
            () if is_untouched(world) => {
                let secret = rooms.reader.recent(world.namespace(), names.wanted).await?;
                Held::of(secret.map(Arc::new), &world.token)
            }
            () => live(names.wanted).await?,
        };
        return Ok((held, None, other));
    };
    let cached = Held::of(rooms.caches.secrets.get(world.namespace(), name), &world.token);
    let agrees = cache_agrees(&World { secret: cached.clone(), ..world.clone() });
    let served = if agrees { cached } else { live(name).await? };
    Ok((live(names.wanted).await?, Some(served), other))
}

/// Whether nothing was ever done for the token. A first value goes only where no Secret is, which the write itself makes sure of.
fn is_untouched(world: &World) -> bool {
    world.token.status.is_none() && world.secret == Held::Absent
}

/// Whether the cached Secret is what the records say. Only then can the cache be rested on.
fn cache_agrees(world: &World) -> bool {
    let status = world.token.status.as_ref();
    if world.token.spec.revoked || status.is_some_and(|status| status.revocation.is_some()) {
        return world.is_withdrawn();
    }
    if world.claim().is_some() {
        return world.secret == Held::Absent;
    }
    let records = world.records();
    records.recorded().next().is_none() && records.served().is_some_and(|served| world.secret.holds(served))
}

/// Reads what of all this the token's pass needs: at rest nothing.
async fn restarting(world: World, rooms: &Rooms) -> Result<World, Refusal> {
    let fellows = fellows(&world, rooms);
    let world = World { fellows, ..world };
    let workloads = match needed(&world) {
        Needed::Nothing => Workloads::Unread,
        Needed::ToMint => Workloads::Checked(read(&world, rooms).await?),
        Needed::ToRestart => Workloads::Due(read(&world, rooms).await?),
    };
    Ok(World { workloads, ..world })
}

fn fellows(world: &World, rooms: &Rooms) -> Vec<Fellow> {
    if pending(world).is_none() {
        return Vec::new();
    }
    let token = &world.token;
    let of = |target| rooms.caches.tokens.by(&Depends::Restarted(world.namespace(), target));
    let others = token.spec.restart.iter().flat_map(of).filter(|other| other.uid() != token.uid());
    let others: BTreeMap<_, _> = others.map(|other| (other.uid(), other)).collect();
    others.values().map(|other| Fellow::of(other, world.now)).collect()
}

/// What the workloads are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    Nothing,
    ToMint,
    ToRestart,
}

/// What would be decided without them tells. A new spec is told its faults at once, and a faulty one until they are mended.
pub fn needed(world: &World) -> Needed {
    if world.token.spec.restart.is_empty() {
        return Needed::Nothing;
    }
    let Decision { reason, act } = decide(world, &validate(world));
    match act {
        Act::Mint => Needed::ToMint,
        Act::Restart => Needed::ToRestart,
        Act::Rest | Act::Amend | Act::Discard if !reason.is_going() && (is_new(world) || is_refused(world)) => {
            Needed::ToMint
        }
        Act::Rest
        | Act::Wait
        | Act::Amend
        | Act::Discard
        | Act::Adopt(_)
        | Act::End(_)
        | Act::Conceal(_)
        | Act::Forget => Needed::Nothing,
    }
}

fn is_new(world: &World) -> bool {
    world.before().observed_generation != world.token.metadata.generation
}

fn is_refused(world: &World) -> bool {
    world.before().conditions.iter().any(|condition| condition.type_ == ACCEPTED && condition.status == "False")
}

async fn read(world: &World, rooms: &Rooms) -> Result<Vec<Seen>, Refusal> {
    // No spec has more; one that does is faulty, and nothing is done for it.
    let targets = world.token.spec.restart.iter().take(MAX_RESTARTED);
    try_join_all(targets.map(async |target| match rooms.reader.workload(world.namespace(), target).await {
        Ok(None) => Ok(Seen::Absent),
        Ok(Some(workload)) => Ok(Seen::There(workload)),
        Err(refusal @ Refusal { why: Why::Forbidden(_), .. }) => Ok(Seen::Forbidden(refusal)),
        Err(refusal) => Err(refusal),
    }))
    .await
}
