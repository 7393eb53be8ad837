//! Does what was decided: record before publish, by type.
//!
//! What is [`Made`] of a [`Minted`] value can only be recorded, and only what is [`Recorded`] can be published.

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;

use super::{
    act::{Act, Decision},
    decide::follows,
    delivery::{self, Delivery, Details},
    once, owner,
    progress::Progress,
    restart,
    settle::settle,
    shape,
    terms::TokenTerms,
    world::{Held, World},
};
use crate::{
    controller::{
        Obstacle, Rooms, instance,
        kind::{Checked, Settled, Version, version},
    },
    crd::{
        Account, ApiToken, Instance, Reason, SealedSecret,
        api_token::{BoundAccount, ClaimOutcome, OnRevoke, RevocationReason},
        condition::READY,
        name,
    },
    outside::{Entropy, NoRandomness, Refusal, Standing, Why, writer::Address},
    token::{Digest, Plaintext, Record, format, template::TooLong},
};

/// Does it. A stale view ends the pass at the record: a value is only published once its digest stands. (An account may have
/// been made by then; it is found by the next pass.) Nothing is taken away by a stale view either.
pub async fn execute(
    rooms: &Rooms,
    world: &World,
    terms: &Checked<TokenTerms>,
    decision: Decision,
) -> Result<(Version, Progress), Obstacle> {
    let unfollowed = if follows(world, decision) { follow(rooms, world).await.err() } else { None };
    let done = Progress { unfollowed, ..Progress::none(decision) };
    let seen = version(&*world.token);
    match (decision.act, terms) {
        (Act::Mint, Ok(terms)) => mint(rooms, world, terms, done).await,
        (Act::Adopt(generation), _) => Ok((seen, Progress { published: Some((generation, world.now)), ..done })),
        (Act::Amend, Ok(terms)) => Ok((seen, amend(rooms, world, terms, done).await?)),
        (Act::End(reason), _) => {
            if reason == RevocationReason::OwnerRemoved && world.before().revocation.is_none() {
                still_removed(rooms, world).await?;
            }
            Ok((seen, withdraw(rooms, world, done).await?))
        }
        (Act::Discard, _) => Ok((seen, discard(rooms, world, done).await?)),
        (Act::Conceal(outcome), _) => conceal(rooms, world, terms, outcome, done).await,
        (Act::Restart, _) => {
            assure(rooms, world).await?;
            Ok((seen, restart::roll(rooms, world, done).await?))
        }
        (Act::Forget, _) => {
            // One that is gone already was told of.
            tokio::try_join!(still_forgets(rooms, world), assure(rooms, world))?;
            rooms.writer.delete(&*world.token).await?;
            Ok((seen, done))
        }
        (Act::Rest | Act::Wait, _) | (Act::Mint | Act::Amend, Err(_)) => Ok((seen, done)),
    }
}

async fn mint(
    rooms: &Rooms,
    world: &World,
    terms: &TokenTerms,
    done: Progress,
) -> Result<(Version, Progress), Obstacle> {
    let bound = match bind(rooms, world).await {
        Ok(bound) => bound,
        Err(refusal) if refusal.why == Why::Stale => return Err(refusal.into()),
        Err(refusal) => return Ok((version(&*world.token), done.failed(Reason::AccountFailed, refusal))),
    };
    let done = Progress { bound: Some(bound), ..done };
    let minted = match Minted::draw(&*rooms.entropy, world, terms)?.made(terms) {
        Ok(minted) => minted,
        Err(obstacle) => return Ok((version(&*world.token), done.failed(Reason::PublishFailed, obstacle))),
    };
    rooms.mints.note(world.uid(), world.now);
    let recorded = minted.record(rooms, world, terms, done).await.inspect_err(|refusal| {
        if refusal.why.is_definite() {
            rooms.mints.forget(world.uid());
        }
    })?;
    Ok(recorded.publish(rooms, world, terms).await)
}

/// The account that the token acts as; made where the token names none and none of its own stands yet.
async fn bind(rooms: &Rooms, world: &World) -> Result<BoundAccount, Refusal> {
    let token = &world.token;
    let name = token.account_name().0.to_owned();
    if let Some(account) = &world.account {
        return Ok(BoundAccount { name, uid: account.uid().unwrap_or_default() });
    }
    let address = Address { namespace: world.namespace(), name: &name };
    let body = owner::applied(token, &BTreeSet::new());
    let receipt = rooms.writer.apply_ours::<Account>(&address, &Standing::Absent, body, false).await?;
    Ok(BoundAccount { name, uid: receipt.uid })
}

/// Has the account that the token made for itself say what the token says, but for what somebody else holds to less there.
/// Whatever comes of it holds up nothing else.
async fn follow(rooms: &Rooms, world: &World) -> Result<(), Refusal> {
    let Some(account) = &world.account else { return Ok(()) };
    let address = Address { namespace: world.namespace(), name: world.token.account_name().0 };
    let yielded = owner::yielded(world);
    let body = owner::applied(&world.token, &yielded);
    let takes_back = world.taken.iter().any(|field| !yielded.contains(field));
    rooms.writer.apply_ours::<Account>(&address, &Standing::seen(&**account), body, takes_back).await.map(|_| ())
}

async fn amend(rooms: &Rooms, world: &World, terms: &TokenTerms, done: Progress) -> Result<Progress, Obstacle> {
    let records = world.records();
    let (Held::Ours(secret), Some(served)) = (&world.secret, records.served()) else { return Ok(done) };
    let changes = Details::of(world, terms, served, &world.secret).changes();
    let answer = rooms.writer.amend(&**secret, changes).await;
    concluded(answer.map(|_| ()), done)
}

/// That the token is still as it was seen. What is taken away is as it was seen, too, by its own version; but a view of the
/// token that is older than that of the Secret would take away a value that was published since.
async fn assure(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    let seen = &*world.token;
    let live: Option<ApiToken> = rooms.reader.live(world.namespace(), &seen.name_any()).await?;
    let same = live.is_some_and(|live| live.uid() == seen.uid() && version(&live) == version(seen));
    if same { Ok(()) } else { Err(Obstacle::Changed) }
}

/// That the Instance, as it is now, wants the token deleted: that cannot be undone.
async fn still_forgets(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    let seen = world.instance.as_ref().ok_or(Obstacle::Changed)?;
    let namespace = seen.namespace().unwrap_or_default();
    let live: Option<Instance> = rooms.reader.live(&namespace, &seen.name_any()).await?;
    let wait = |instance: &Instance| instance::forget_after(&instance.spec);
    let same = live.is_some_and(|live| live.uid() == seen.uid() && wait(&live) == wait(seen));
    if same { Ok(()) } else { Err(Obstacle::Changed) }
}

/// That the Instance, as it is now, has the token end without its owner, and that the account, where the owner is its, names
/// nobody else now: that cannot be undone.
async fn still_removed(rooms: &Rooms, world: &World) -> Result<(), Obstacle> {
    let seen = world.instance.as_ref().ok_or(Obstacle::Changed)?;
    let live: Option<Instance> = rooms.reader.live(&seen.namespace().unwrap_or_default(), &seen.name_any()).await?;
    let same = live.is_some_and(|live| live.uid() == seen.uid() && live.spec == seen.spec);
    if same && still_owns(rooms, world).await? { Ok(()) } else { Err(Obstacle::Changed) }
}

async fn still_owns(rooms: &Rooms, world: &World) -> Result<bool, Refusal> {
    if world.token.spec.owner.is_some() {
        return Ok(true);
    }
    let live = rooms.accounts.live(world.namespace(), world.token.account_name().0).await?;
    let owner = |account: &Arc<Account>| (account.uid(), account.spec.owner.clone());
    Ok(live.as_ref().map(owner) == world.account.as_ref().map(owner))
}

async fn withdraw(rooms: &Rooms, world: &World, mut done: Progress) -> Result<Progress, Obstacle> {
    if world.withdrawable().next().is_some() {
        assure(rooms, world).await?;
    }
    for (secret, how) in world.withdrawable() {
        let answer = match how {
            OnRevoke::Keep => rooms.writer.amend(secret, delivery::emptied(secret)).await.map(|_| ()),
            OnRevoke::Delete => rooms.writer.delete(secret).await,
        };
        done = concluded(answer, done)?;
    }
    Ok(done)
}

/// Says what became of a value that is shown once, and then removes its Secret: in this order, as nobody could tell any more
/// once it is gone.
async fn conceal(
    rooms: &Rooms,
    world: &World,
    terms: &Checked<TokenTerms>,
    outcome: ClaimOutcome,
    done: Progress,
) -> Result<(Version, Progress), Obstacle> {
    let done = Progress { claim: once::claim(world, outcome), ..done };
    let mut seen = version(&*world.token);
    if world.claim().is_some() {
        assure(rooms, world).await?;
    } else {
        // What is told of it once it stands, by a later pass where this one comes to no end.
        let Settled { status, notes, .. } = settle(world, terms, &done);
        let written = rooms.write_status(&*world.token, &seen, &status, &notes);
        seen = written.await?.version;
    }
    let done = match world.secret.ours() {
        Some(secret) => concluded(rooms.writer.delete(secret).await, done)?,
        None => done,
    };
    Ok((seen, done))
}

/// Removes the Secret of the old name, if it is ours.
async fn discard(rooms: &Rooms, world: &World, done: Progress) -> Result<Progress, Obstacle> {
    match world.other.as_ref().and_then(Held::ours) {
        Some(secret) => {
            assure(rooms, world).await?;
            concluded(rooms.writer.delete(secret).await, done)
        }
        None => Ok(done),
    }
}

/// A refusal goes into status, unless a new look will do.
fn concluded(answer: Result<(), Refusal>, done: Progress) -> Result<Progress, Obstacle> {
    match answer {
        Ok(()) => Ok(done),
        Err(refusal) if refusal.why == Why::Stale => Err(refusal.into()),
        Err(refusal) => Ok(done.failed(Reason::PublishFailed, refusal)),
    }
}

/// A drawn value that nobody knows of yet.
struct Minted {
    plaintext: Plaintext,
    record: Record,
}

/// A drawn value, and all that the Secret will hold of it.
struct Made {
    plaintext: Plaintext,
    made: shape::Made,
    record: Record,
}

impl Minted {
    fn draw(entropy: &dyn Entropy, world: &World, terms: &TokenTerms) -> Result<Self, NoRandomness> {
        let (id, secret) = (entropy.base62(format::ID)?, entropy.base62(format::SECRET)?);
        let plaintext = format::assemble(&terms.life.prefix, &id, &secret);
        let digest: Digest = plaintext.digest();
        let record = terms.record(next_generation(world), &id, digest, world.now);
        Ok(Self { plaintext, record })
    }

    /// Makes the keys that hold it: before anything is on record, so that one that cannot be made leaves nothing behind.
    fn made(self, terms: &TokenTerms) -> Result<Made, Obstacle> {
        let Self { plaintext, record } = self;
        let too_long = |key: String| Obstacle::TooLong(format!("spec.secret.data[{key}]: {TooLong}"));
        let (made, rendered) = terms.shape.make(&record.id, &plaintext).map_err(too_long)?;
        Ok(Made { plaintext, made, record: Record { rendered, ..record } })
    }
}

impl Made {
    /// Writes the record: from now on whoever presents the value is let in. With the version that was observed, so a stale
    /// cache or a second replica gets a conflict and nothing else happens.
    async fn record(
        self,
        rooms: &Rooms,
        world: &World,
        terms: &TokenTerms,
        mut progress: Progress,
    ) -> Result<Recorded, Refusal> {
        progress.recorded = Some(self.record.clone());
        let mut status = settle(world, &Ok(terms.clone()), &progress).status;
        if world.before().conditions.is_empty() {
            // The others come a moment later, with the Secret. Each condition costs the API server as much as ten other fields.
            status.conditions.retain(|condition| condition.type_ == READY);
        }
        let seen = version(&*world.token);
        let receipt = rooms.writer.status(&*world.token, &seen, &status).await?;
        Ok(Recorded { minted: self, version: receipt.version, progress })
    }
}

/// A value whose digest is on record.
struct Recorded {
    minted: Made,
    version: Version,
    progress: Progress,
}

impl Recorded {
    /// Writes the Secret: from now on workloads read the value.
    async fn publish(self, rooms: &Rooms, world: &World, terms: &TokenTerms) -> (Version, Progress) {
        let Made { plaintext, made, record } = &self.minted;
        let delivery = Delivery::new(world, terms, record, (plaintext, made));
        let (name, held) = world.target();
        let standing = held.ours().map_or(Standing::Absent, Standing::seen);
        let address = Address { namespace: world.namespace(), name };
        let answer = rooms.writer.write_secret(&address, &standing, &delivery).await;
        let progress = match answer {
            Ok(receipt) => Progress { published: Some((record.generation, receipt.at)), ..self.progress },
            Err(refusal) => self.progress.failed(Reason::PublishFailed, refusal),
        };
        (self.version, progress)
    }
}

/// Above every number that was ever given, also where status was lost and only the Secret remembers. Whoever can write the
/// Secret can write any number there: one so high that the next would soon be the last is not believed.
pub(super) fn next_generation(world: &World) -> i64 {
    let noted = |secret: &SealedSecret| secret.annotations().get(name::GENERATION)?.parse::<u32>().ok();
    let in_secret = world.secrets().filter_map(|(_, held)| noted(held.ours()?)).max();
    let in_status = world.before().last_generation.unwrap_or(0);
    in_status.max(world.records().last_generation()).max(in_secret.map_or(0, i64::from)).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::new, *};
    use crate::outside::entropy::Seeded;

    #[test]
    fn what_is_drawn_can_be_drawn_again_from_the_same_seed() {
        let (world, drawn) = (new(), |seed: u64, world: &World| {
            let minted = Minted::draw(&Seeded::new(seed), world, &world.terms().unwrap()).unwrap();
            (minted.plaintext.digest(), minted.record)
        });
        assert_eq!(drawn(7, &world), drawn(7, &world));
        assert_ne!(drawn(7, &world).0, drawn(8, &world).0);
    }
}
