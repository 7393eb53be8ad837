//! Reads all objects that a token depends on. Caches come first. The [`World`] then names the objects that must be read
//! live, past the caches. At rest there are none.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::try_join_all;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::{
    observed::Observed,
    owner,
    restart::{Needed, needed},
    secrets::{Held, SecretNames},
    workloads::{Fellow, Seen, Workloads},
    world::World,
};
use crate::{
    access::Policy,
    controller::{
        Rooms,
        book::Ruled,
        depends::{self, Depends},
    },
    crd::{
        Account, ApiToken, Instance, InstanceRef, SealedSecret,
        api_token::ApiTokenStatus,
        instance::OnOwnerRemoved,
        subject::{SubjectKind, Who},
        workload::MAX_RESTARTED,
    },
    outside::{Refusal, Why, watch::CoreAccount},
};

/// Reads the caches, and then live all objects for which the caches cannot be trusted.
pub(crate) async fn observe(token: Arc<ApiToken>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
    let world = World::new(cached(token, rooms, now));
    let world = doubted(world, rooms).await?;
    let world = taken(world, rooms).await?;
    let world = owner_gone(world, rooms).await?;
    let world = former_owner(world, rooms).await?;
    workloads(world, rooms).await
}

/// Reads all objects from the caches.
fn cached(token: Arc<ApiToken>, rooms: &Rooms, now: Timestamp) -> Observed {
    let namespace = token.namespace().unwrap_or_default();
    let (caches, wanted) = (&rooms.caches, &token.spec.instance_ref);
    let home = caches.namespaces.get("", &namespace);
    let held = |name: &str| (name.to_owned(), Held::of(caches.secrets.get(&namespace, name), &token));
    let read = Observed {
        instance: instance(rooms, wanted, &namespace),
        labels: home.as_ref().map(|home| home.metadata.labels.clone().unwrap_or_default()),
        terminating: home.is_some_and(|home| home.metadata.deletion_timestamp.is_some()),
        audiences: token.spec.audiences.iter().map(|wanted| instance(rooms, wanted, &namespace)).collect(),
        audience_policies: token.spec.audiences.iter().map(|wanted| policies(rooms, wanted, &namespace)).collect(),
        policies: policies(rooms, wanted, &namespace),
        account: caches.accounts.get(&namespace, token.account_name().0),
        stored: SecretNames::of(&token).all().map(held).collect(),
        may_mint_from: rooms.mints.may_mint_from(token.metadata.uid.as_deref().unwrap_or_default(), now),
        fellows: fellows(&token, rooms, now),
        ..Observed::alone(token.clone(), now)
    };
    owned(read, rooms)
}

/// Adds the facts about the owner from the caches.
fn owned(read: Observed, rooms: &Rooms) -> Observed {
    let caches = &rooms.caches;
    let owner_gone = match owning_account(&read) {
        Some((OwningKind::Core, namespace, name)) => {
            !caches.users.get(namespace, name).is_some_and(|user| stays(&*user))
        }
        Some((OwningKind::Ours, namespace, name)) => {
            !caches.accounts.get(namespace, name).is_some_and(|account| stays(&*account))
        }
        None => false,
    };
    let owning = owning(&read, |namespace, name| caches.accounts.get(namespace, name));
    let surplus = surplus(&read, rooms);
    Observed { owner_gone, owning, surplus, ..read }
}

/// The accounts behind a token. `account` gives an account by its namespace and name.
pub(crate) fn owning(read: &Observed, account: impl Fn(&str, &str) -> Option<Arc<Account>>) -> Vec<Arc<Account>> {
    let mut owning = Vec::new();
    let _ = owner::bearer(read).followed(|namespace, name| {
        let account = account(namespace, name)?;
        let owner = account.spec.owner.as_ref().map(ToString::to_string);
        owning.push(account);
        owner.map(Into::into)
    });
    owning
}

/// Reads the account and the Secrets live, if the cache cannot be trusted for them.
async fn doubted(world: World, rooms: &Rooms) -> Result<World, Refusal> {
    let (doubts_account, names) = (world.doubts_account(), world.doubted_secrets());
    if !doubts_account && names.is_empty() {
        return Ok(world);
    }
    let (account, secrets) = tokio::try_join!(
        async {
            if !doubts_account {
                return Ok(world.account.clone());
            }
            rooms.accounts.live(world.namespace(), world.token.account_name().0).await
        },
        try_join_all(names.into_iter().map(async |name| {
            let (home, reader) = (world.namespace(), &rooms.reader);
            let is_free = world.is_untouched() && reader.recent::<SealedSecret>(home, name).await?.is_none();
            // The Secret may have been deleted since the recent read.
            let secret = if is_free { None } else { reader.live(home, name).await? };
            Ok::<_, Refusal>((name.to_owned(), Held::of(secret.map(Arc::new), &world.token)))
        })),
    )?;
    let mut read = Observed { account, ..world.into_read() };
    read.stored.extend(secrets);
    Ok(World::new(if doubts_account { owned(read, rooms) } else { read }))
}

/// Reads the token's own account with the field managers of its fields, if it differs from the token.
async fn taken(world: World, rooms: &Rooms) -> Result<World, Refusal> {
    if !world.own_account.differs() {
        return Ok(world);
    }
    let (namespace, name) = (world.namespace(), world.token.account_name().0);
    let Some((account, taken)) = rooms.reader.managed::<Account>(namespace, name).await? else { return Ok(world) };
    let read = Observed { account: Some(Arc::new(account)), taken, ..world.into_read() };
    Ok(World::new(owned(read, rooms)))
}

/// Checks live if the owner is an account that does not exist or is being deleted. The cache alone is not enough,
/// because the token may end for this reason. An account that the operator has no permission to read counts as
/// existing.
async fn owner_gone(world: World, rooms: &Rooms) -> Result<World, Refusal> {
    let Some((kind, namespace, name)) = owning_account(&world).filter(|_| world.owner_gone) else { return Ok(world) };
    let reader = &rooms.reader;
    let found = match kind {
        OwningKind::Core => {
            reader.live::<CoreAccount>(namespace, name).await.map(|found| found.is_some_and(|user| stays(&user)))
        }
        OwningKind::Ours => {
            reader.live::<Account>(namespace, name).await.map(|found| found.is_some_and(|account| stays(&account)))
        }
    };
    match found {
        Ok(false) => Ok(world),
        Ok(true) | Err(Refusal { why: Why::Forbidden(_), .. }) => {
            Ok(World::new(Observed { owner_gone: false, ..world.into_read() }))
        }
        Err(refusal) => Err(refusal),
    }
}

/// Reads the accounts behind the token live, if one of them belongs to a former owner. The cache alone is not enough,
/// because the token may end for this reason, and the account may have another owner by now. An account that the
/// operator has no permission to read keeps its cached owner.
async fn former_owner(world: World, rooms: &Rooms) -> Result<World, Refusal> {
    let own = world.token.spec.owner.as_ref().map(|owner| owner.as_str());
    let ends = world.owner.removed == Some(OnOwnerRemoved::Revoke) && world.before().revocation.is_none();
    // The write of an end fails if the token itself has another owner by now.
    if !ends || world.owner.former.as_deref().is_none_or(|former| Some(former) == own) {
        return Ok(world);
    }
    let live = async |account: &Option<Arc<Account>>| {
        let Some(cached) = account else { return Ok(None) };
        let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
        match rooms.reader.live::<Account>(&namespace, &name).await {
            Ok(found) => Ok(found.map(Arc::new)),
            Err(Refusal { why: Why::Forbidden(_), .. }) => Ok(Some(cached.clone())),
            Err(refusal) => Err(refusal),
        }
    };
    let owning = world.owning.iter().map(async |account| live(&Some(account.clone())).await);
    let (account, owning) = tokio::try_join!(live(&world.account), try_join_all(owning))?;
    let owning = owning.into_iter().flatten().collect();
    Ok(World::new(Observed { account, owning, ..world.into_read() }))
}

/// Reads the workloads, if the pass needs them.
async fn workloads(world: World, rooms: &Rooms) -> Result<World, Refusal> {
    let workloads = match needed(&world) {
        Needed::Nothing => return Ok(world),
        Needed::ToMint => Workloads::Checked(named(&world, rooms).await?),
        Needed::ToRestart => Workloads::Due(named(&world, rooms).await?),
    };
    Ok(World::new(Observed { workloads, ..world.into_read() }))
}

/// Reads the workloads of `spec.restart`.
async fn named(world: &World, rooms: &Rooms) -> Result<Vec<Seen>, Refusal> {
    // A spec with more workloads has a fault, and no action is taken for it.
    let targets = world.token.spec.restart.iter().take(MAX_RESTARTED);
    try_join_all(targets.map(async |target| match rooms.reader.workload(world.namespace(), target).await {
        Ok(None) => Ok(Seen::Absent),
        Ok(Some(workload)) => Ok(Seen::There(workload)),
        Err(refusal @ Refusal { why: Why::Forbidden(_), .. }) => Ok(Seen::Forbidden(refusal)),
        Err(refusal) => Err(refusal),
    }))
    .await
}

/// The other tokens that restart a workload of this token. Empty unless a restart of this token is pending.
fn fellows(token: &ApiToken, rooms: &Rooms, now: Timestamp) -> Vec<Fellow> {
    let noted = token.status.as_ref().and_then(|status| status.restart.as_ref());
    if noted.is_none_or(|restart| restart.at.is_some()) {
        return Vec::new();
    }
    let home = token.metadata.namespace.as_deref().unwrap_or_default();
    let of = |target| rooms.caches.tokens.by(&Depends::Restarted(home, target));
    let others = token.spec.restart.iter().flat_map(of).filter(|other| other.uid() != token.uid());
    let others: BTreeMap<_, _> = others.map(|other| (other.uid(), other)).collect();
    others.values().map(|other| Fellow::of(other, now)).collect()
}

fn instance(rooms: &Rooms, wanted: &InstanceRef, own: &str) -> Option<Ruled> {
    rooms.instance(wanted.namespace_or(own), wanted.name.as_str())
}

/// True if the token's Instances or policies have so many entries that a pass takes long.
pub(crate) fn is_much(token: &ApiToken, rooms: &Rooms) -> bool {
    let home = token.metadata.namespace.as_deref().unwrap_or_default();
    let large = |wanted: &InstanceRef| instance(rooms, wanted, home).is_some_and(|instance| instance.is_large());
    let of = |wanted: &InstanceRef| {
        rooms
            .caches
            .policies
            .by(&Depends::Instance(wanted.namespace_or(home), wanted.name.as_str()))
            .collect::<Vec<_>>()
    };
    let about = token.instances().flat_map(of);
    let listed = about.map(|policy| policy.spec.members.len() + policy.spec.statements.len());
    token.instances().any(large) || listed.sum::<usize>() > LISTED
}

/// The number of members and statements, over all policies of an Instance, above which a pass takes long.
const LISTED: usize = 1000;

/// The policies of an Instance, sorted by name.
fn policies(rooms: &Rooms, instance: &InstanceRef, own: &str) -> Vec<Arc<Policy>> {
    let key = Depends::Instance(instance.namespace_or(own), instance.name.as_str());
    let mut policies: Vec<_> = rooms.caches.policies.by(&key).collect();
    policies.sort_by_key(|policy| policy.name_any());
    policies.iter().map(|policy| rooms.policies.policy(policy)).collect()
}

/// The kinds of accounts that can own a token.
#[derive(Clone, Copy)]
enum OwningKind {
    Core,
    Ours,
}

/// The kind, namespace and name of the account that owns the token; none if the owner is no account.
fn owning_account(read: &Observed) -> Option<(OwningKind, &str, &str)> {
    let who = Who::of(read.owner()?.as_str())?;
    let kind = match who.kind {
        SubjectKind::ServiceAccount => OwningKind::Core,
        SubjectKind::Account => OwningKind::Ours,
        SubjectKind::User | SubjectKind::Group | SubjectKind::Team | SubjectKind::Token => return None,
    };
    let (namespace, name) = who.namespaced()?;
    Some((kind, namespace, name))
}

fn stays(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_none()
}

/// The first Instance of the token, audiences included, whose `tokens.maxPerOwner` is reached. Older tokens of the same
/// owner count, unless they have ended. Audiences count too. Otherwise a user could bypass the limit with a lax
/// Instance as the first one.
fn surplus(read: &Observed, rooms: &Rooms) -> Option<Ruled> {
    let owner = read.owner()?.as_str();
    let own = age(&read.token);
    let counts = |other: &ApiToken, instance: &Instance| {
        depends::owner(other) == Some(owner) && depends::lives(other) && other.opens(instance) && age(other) < own
    };
    let has = |instance: &Instance, most: i64| {
        let most = usize::try_from(most).unwrap_or_default();
        let key = depends::counted_by(instance, owner);
        // Each token is parsed. So names are counted first, and the count of tokens stops early.
        let may_be_full = rooms.caches.tokens.names(&key).len() >= most;
        may_be_full && rooms.caches.tokens.by(&key).filter(|other| counts(other, instance)).take(most).count() == most
    };
    let is_full = |instance: &&Ruled| instance.spec.tokens.max_per_owner.is_some_and(|most| has(instance, most));
    read.instance.iter().chain(read.audiences.iter().flatten()).find(is_full).cloned()
}

/// The order in which tokens count. Tokens with a value come first, so a new token with the same creation time cannot
/// displace them.
fn age(token: &ApiToken) -> impl PartialOrd + use<> {
    let issued = |status: &ApiTokenStatus| status.last_generation.is_some() || !status.unreadable.is_empty();
    let issued = token.status.as_ref().is_some_and(issued);
    let made = token.metadata.creation_timestamp.as_ref().map(|at| at.0);
    (!issued, made, token.uid().unwrap_or_default())
}
