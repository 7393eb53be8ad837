//! Restarts the workloads of a token.

use super::still;
use crate::{
    controller::{
        Obstacle, Rooms,
        token::{
            progress::{Progress, Rolled},
            restart::{annotations, to_roll},
            workloads::{Pending, Seen},
            world::World,
        },
    },
    crd::RestartTarget,
    outside::{Refusal, Why},
};

/// Restarts each workload that was not yet restarted for this generation. A pass over another token, or a pass that was
/// cut off, may have done some already.
pub(crate) async fn roll(rooms: &Rooms, world: &World, done: Progress) -> Result<Progress, Obstacle> {
    still::as_seen(rooms, world).await?;
    let Some((pending, all)) = to_roll(world) else { return Ok(done) };
    let mut rolled = Rolled { generation: pending.generation, missing: Vec::new(), failure: None };
    for (target, seen) in all {
        let Some(answer) = roll_one(rooms, world, &pending, (target, seen)).await else {
            rolled.missing.push(target.clone());
            continue;
        };
        let Err(refusal) = answer else { continue };
        match refusal.why {
            Why::Gone => rolled.missing.push(target.clone()),
            Why::Stale => return Err(refusal.into()),
            Why::Invalid(_) | Why::Forbidden(_) | Why::Unauthenticated(_) | Why::Unavailable(_) => {
                rolled.failure.get_or_insert((target.clone(), refusal));
            }
        }
    }
    Ok(Progress { rolled: Some(rolled), ..done })
}

/// Restarts one workload, unless it was restarted for this generation already. Returns none if it does not exist.
async fn roll_one(
    rooms: &Rooms,
    world: &World,
    pending: &Pending,
    (target, seen): (&RestartTarget, &Seen),
) -> Option<Result<(), Refusal>> {
    match seen {
        Seen::Absent => None,
        Seen::Forbidden(refusal) => Some(Err(refusal.clone())),
        Seen::There(workload) => match annotations(world, pending, target, workload) {
            Some(annotations) => Some(rooms.writer.roll(workload, &annotations).await.map(|_| ())),
            None => Some(Ok(())),
        },
    }
}
