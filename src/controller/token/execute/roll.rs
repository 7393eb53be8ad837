//! Restarts workloads.

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

/// Restarts each workload that was not restarted for this generation yet, by a fellow's pass or one that was cut off.
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
            Why::Invalid(_) | Why::Forbidden(_) | Why::Unavailable(_) => {
                rolled.failure.get_or_insert((target.clone(), refusal));
            }
        }
    }
    Ok(Progress { rolled: Some(rolled), ..done })
}

/// Restarts a workload that was not restarted for this generation yet; nothing, where there is none.
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
