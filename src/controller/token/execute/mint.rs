//! Mints, records and publishes a value. Each step takes a type that only the step before returns.
//!
//! The steps are [`Minted`], [`Complete`] and [`Recorded`]. A [`Complete`] value can only be recorded, and only a
//! [`Recorded`] value can be published.

use std::sync::Arc;

use super::{Done, follow::bind, still};
use crate::{
    controller::{
        Obstacle, Rooms,
        kind::{Version, version},
        token::{
            delivery::Delivery, progress::Progress, secrets::Slot, settle::settle, shape::KeysOfValue,
            terms::TokenTerms, world::World,
        },
    },
    crd::{InstanceRef, Reason, condition::READY},
    outside::{Entropy, Expected, Location, NoRandomness, Refusal, Why},
    token::{Digest, Plaintext, Record, format, template::TooLong},
};

/// Mints the next generation, records it and publishes it.
pub(crate) async fn mint(
    rooms: &Rooms,
    world: &World,
    terms: &Arc<TokenTerms>,
    done: Progress,
) -> Result<Done, Obstacle> {
    if !world.records.ever_published() {
        still::exposes(rooms, world).await?;
    }
    let bound = match bind(rooms, world).await {
        Ok(bound) => bound,
        Err(refusal) if refusal.why == Why::Stale => return Err(refusal.into()),
        Err(refusal) => return Ok((version(&*world.token), done.failed(Reason::AccountFailed, refusal))),
    };
    let done = Progress { bound: Some(bound), ..done };
    let complete = match Minted::draw(&*rooms.entropy, world, terms)?.complete(terms) {
        Ok(complete) => complete,
        Err(obstacle) => return Ok((version(&*world.token), done.failed(Reason::PublishFailed, obstacle))),
    };
    rooms.mints.note(world.uid(), world.now);
    let recorded = complete.record(rooms, world, terms, done).await.inspect_err(|refusal| {
        if refusal.why.is_definite() {
            rooms.mints.forget(world.uid());
        }
    })?;
    if is_demanded_by_now(rooms, world) {
        // The next pass mints a value that is shown once.
        return Err(Obstacle::Changed);
    }
    Ok(recorded.publish(rooms, world, terms).await)
}

/// True if the first value is to stay, and an Instance demands `Once` since the pass began. The caches may hear of a
/// demand later than of a token that was created after it. The time for the record lets them catch up, and costs no
/// request.
fn is_demanded_by_now(rooms: &Rooms, world: &World) -> bool {
    let cached =
        |wanted: &InstanceRef| rooms.caches.instances.get(wanted.namespace_or(world.namespace()), wanted.name.as_str());
    let stays = !world.shown_once.next && !world.records.ever_published();
    stays && world.token.instances().filter_map(cached).any(|instance| instance.spec.tokens.delivery.is_some())
}

/// A drawn value that is not on record yet.
struct Minted {
    plaintext: Plaintext,
    record: Record,
}

/// A drawn value with all keys of the Secret that contain it.
struct Complete {
    plaintext: Plaintext,
    keys: KeysOfValue,
    record: Record,
}

impl Minted {
    fn draw(entropy: &dyn Entropy, world: &World, terms: &TokenTerms) -> Result<Self, NoRandomness> {
        let (id, secret) = (entropy.base62(format::ID)?, entropy.base62(format::SECRET)?);
        let plaintext = format::assemble(&terms.life.prefix, &id, &secret);
        let digest: Digest = plaintext.digest();
        let record = terms.record(world.next_generation(), &id, digest, world.now);
        Ok(Self { plaintext, record })
    }

    /// Renders the keys that contain the value. This happens before the record, so a failure leaves nothing behind.
    fn complete(self, terms: &TokenTerms) -> Result<Complete, Obstacle> {
        let Self { plaintext, record } = self;
        let too_long = |key: String| Obstacle::TooLong(format!("spec.secret.data[{key}]: {TooLong}"));
        let (keys, rendered) = terms.shape.make(&record.id, &plaintext).map_err(too_long)?;
        Ok(Complete { plaintext, keys, record: Record { rendered, ..record } })
    }
}

impl Complete {
    /// Writes the record. From now on verifiers accept the value. The write requires the observed resourceVersion. A
    /// stale cache or a second replica thus gets a conflict, and nothing else happens.
    async fn record(
        self,
        rooms: &Rooms,
        world: &World,
        terms: &Arc<TokenTerms>,
        mut progress: Progress,
    ) -> Result<Recorded, Refusal> {
        progress.recorded = Some(self.record.clone());
        let mut status = settle(world, &Ok(terms.clone()), &progress).status;
        if world.before().conditions.is_empty() {
            // No verdict depends on the rest, and it follows a moment later, after the Secret. One condition costs the
            // API server as much as ten other fields.
            status.conditions.retain(|condition| condition.type_ == READY);
            status.effective = None;
            status.organization = None;
        }
        let seen = version(&*world.token);
        let receipt = rooms.writer.status(&*world.token, &seen, &status).await?;
        Ok(Recorded { minted: self, version: receipt.version, progress })
    }
}

/// A value whose digest is on record.
struct Recorded {
    minted: Complete,
    version: Version,
    progress: Progress,
}

impl Recorded {
    /// Writes the Secret. From now on workloads read the value.
    async fn publish(self, rooms: &Rooms, world: &World, terms: &TokenTerms) -> Done {
        let Complete { plaintext, keys, record } = &self.minted;
        let delivery = Delivery::new(world, terms, record, (plaintext, keys));
        let Slot { name, held } = world.secrets.next();
        let standing = held.ours().map_or(Expected::Absent, Expected::seen);
        let address = Location { namespace: world.namespace(), name };
        let answer = rooms.writer.write_secret(&address, &standing, &delivery).await;
        let progress = match answer {
            Ok(receipt) => Progress { published: Some((record.generation, receipt.at)), ..self.progress },
            Err(refusal) => self.progress.failed(Reason::PublishFailed, refusal),
        };
        (self.version, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::token::fixture::new;
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
