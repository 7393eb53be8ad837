//! Rolling the workloads that read a token's Secret when they start.
//!
//! ```text
//!  published ──▶ wait for others that are published now ──▶ one write a workload ──▶ said in status
//!                (RestartDue)                              (all pending tokens)      (once per generation)
//! ```
//!
//! Each token has an annotation of its own on a workload's Pods, the value of which is the id of the generation. So several
//! tokens do not undo each other's, and whoever finds it there already has nothing to write.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{observe::World, progress::Progress};
use crate::{
    controller::Rooms,
    crd::{
        ApiToken, Fault, Reason,
        api_token::{Restart, RestartTarget, WorkloadKind},
        name::RESTART,
    },
    outside::{Refusal, workload::Workload},
    token::{Record, Records, duration::after},
};

/// Workloads are rolled once no token that they read was published for this long …
const QUIET: SignedDuration = SignedDuration::from_secs(5);
/// … and at the latest this long after the first that was.
const LATEST: SignedDuration = SignedDuration::from_secs(30);

/// What there is under the name of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The workload.
    There(Workload),
    /// Nothing.
    Missing,
    /// It may not be read.
    Forbidden(String),
}

/// A generation for which workloads are to be rolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Uid of the token.
    pub token: String,
    /// Id of the generation.
    pub id: String,
    /// When it was published.
    pub published: Timestamp,
    /// The workloads.
    pub targets: Vec<RestartTarget>,
}

impl Pending {
    /// What is pending of a token: what it serves, unless that is said to be done.
    pub fn of(token: &ApiToken, records: &Records) -> Option<Self> {
        let served = records.served()?;
        let done = token.status.as_ref()?.restart.as_ref().is_some_and(|done| done.generation == served.generation);
        let Record { id, published_at: Some(published), .. } = served else { return None };
        (!done && !token.spec.restart.is_empty()).then(|| Self {
            token: token.uid().unwrap_or_default(),
            id: id.clone(),
            published: published.0,
            targets: token.spec.restart.clone(),
        })
    }

    fn annotation(&self) -> (String, String) {
        (format!("{RESTART}/{}", self.token), self.id.clone())
    }
}

/// When workloads are rolled for generations that were published at these times.
pub fn rolls_at(published: impl Iterator<Item = Timestamp> + Clone) -> Option<Timestamp> {
    let (first, last) = (published.clone().min()?, published.max()?);
    Some(after(last, QUIET).min(after(first, LATEST)))
}

impl World {
    /// What is pending of this token.
    pub fn pending(&self) -> Option<Pending> {
        Pending::of(&self.token, &self.records())
    }

    /// When its workloads are rolled; nothing where that is done.
    pub fn rolls_at(&self) -> Option<Timestamp> {
        let own = self.pending()?.published;
        rolls_at(self.fellows.iter().map(|fellow| fellow.published).chain([own]))
    }

    /// Which annotations a workload lacks, of all that are pending for it.
    pub fn lacking(&self, workload: &Workload) -> BTreeMap<String, String> {
        let meant = |pending: &&Pending| pending.targets.iter().any(|target| is(target, workload.kind, &workload.name));
        let own = self.pending();
        let wanted = self.fellows.iter().chain(&own).filter(meant).map(Pending::annotation);
        wanted.filter(|(key, id)| workload.annotations.get(key) != Some(id)).collect()
    }
}

fn is(target: &RestartTarget, kind: WorkloadKind, name: &str) -> bool {
    target.kind == kind && target.name.as_str() == name
}

/// The workloads of a token, in the order of its spec.
pub async fn workloads(token: &ApiToken, rooms: &Rooms) -> Result<Vec<Found>, Refusal> {
    let namespace = token.namespace().unwrap_or_default();
    let look =
        async |target: &RestartTarget| match rooms.reader.workload(target.kind, &namespace, target.name.as_str()).await
        {
            Ok(found) => Ok(found.map_or(Found::Missing, Found::There)),
            Err(Refusal::Forbidden(why)) => Ok(Found::Forbidden(why)),
            Err(refusal) => Err(refusal),
        };
    try_join_all(token.spec.restart.iter().map(look)).await
}

/// What is pending of other tokens for a workload of this one.
pub fn fellows(token: &ApiToken, rooms: &Rooms, now: Timestamp) -> Vec<Pending> {
    let shares = |other: &ApiToken| {
        other.namespace() == token.namespace()
            && other.uid() != token.uid()
            && other.spec.restart.iter().any(|target| token.spec.restart.contains(target))
    };
    let pending = |other: &Arc<ApiToken>| {
        let records = other.status.as_ref().map_or(&[] as &[_], |status| &status.records);
        Pending::of(other, &Records::at(records, now))
    };
    rooms.caches.tokens.filter(shares).iter().filter_map(pending).collect()
}

/// What is wrong with the workloads: nothing is minted that one of them could not be rolled for.
pub fn faults(world: &World, faults: &mut Vec<Fault>) {
    let targets = &world.token.spec.restart;
    for (index, target) in targets.iter().enumerate() {
        let path = format!("spec.restart[{index}]");
        if targets[..index].contains(target) {
            faults.push(Fault::invalid(path, format!("{} {} is named twice", target.kind, target.name)));
        }
    }
    if !targets.is_empty() && world.token.is_shown_once() {
        let message =
            "has no meaning with delivery: Once, as a workload that starts later finds no Secret; remove one of them";
        faults.push(Fault::invalid("spec.restart", message));
    }
    for (index, (target, found)) in targets.iter().zip(&world.workloads).enumerate() {
        let RestartTarget { kind, name } = target;
        let (reason, message) = match found {
            Found::There(_) => continue,
            Found::Missing => (
                Reason::WorkloadMissing,
                format!("there is no {kind} {name} in this namespace; create it, or remove the entry"),
            ),
            Found::Forbidden(why) => (
                Reason::WorkloadForbidden,
                format!(
                    "Tokenry may not restart {kind} {name}; set restart.enabled in its chart, or remove the entry: {why}"
                ),
            ),
        };
        faults.push(Fault::new(reason, format!("spec.restart[{index}]"), message));
    }
}

/// Rolls each workload that lacks an annotation, in one write.
pub async fn roll(world: &World, rooms: &Rooms) -> Result<(), Refusal> {
    for found in &world.workloads {
        let Found::There(workload) = found else { continue };
        let lacking = world.lacking(workload);
        if !lacking.is_empty() {
            rooms.writer.roll(workload, &lacking).await?;
        }
    }
    Ok(())
}

/// The last generation that workloads are known to have been rolled for after `progress`.
pub fn settled(world: &World, progress: &Progress, records: &Records) -> Option<Restart> {
    let served = records.served().filter(|_| progress.restarted);
    let now = served.map(|served| Restart { generation: served.generation, at: Time(world.now) });
    now.or(world.status().restart)
}

/// When workloads will be rolled for what is served after `progress`.
pub fn wake(world: &World, progress: &Progress, records: &Records, done: Option<&Restart>) -> Option<Timestamp> {
    let served = records.served().filter(|_| !world.token.spec.restart.is_empty())?;
    let published = served.published_at.as_ref()?.0;
    let waits = done.is_none_or(|done| done.generation != served.generation) && progress.failure.is_none();
    let fellows = world.fellows.iter().map(|fellow| fellow.published);
    rolls_at(fellows.chain([published])).filter(|_| waits && world.paused().is_none())
}

#[cfg(test)]
mod tests {
    use super::super::{
        decide::Act,
        fixture::{at, served},
    };
    use super::*;
    use serde_json::json;

    fn rolled_at(published: &[i64]) -> Option<Timestamp> {
        rolls_at(published.iter().map(|&seconds| at(seconds)))
    }

    #[test]
    fn tokens_that_are_published_together_are_waited_for_but_not_for_ever() {
        assert_eq!(rolled_at(&[]), None);
        assert_eq!(rolled_at(&[0]), Some(at(5)));
        assert_eq!(rolled_at(&[0, 3]), Some(at(8)));
        assert_eq!(rolled_at(&[0, 4, 8, 12, 16, 20, 24, 28]), Some(at(30)));
        assert_eq!(rolled_at(&[7, 0]), Some(at(12)), "in any order");
    }

    fn workload(name: &str, annotations: &[(&str, &str)]) -> Workload {
        Workload {
            kind: WorkloadKind::Deployment,
            namespace: "events".into(),
            name: name.into(),
            uid: "w1".into(),
            annotations: annotations.iter().map(|&(key, id)| (key.into(), id.into())).collect(),
        }
    }

    /// A token that is served and names these Deployments, which are there.
    fn restarting(names: &[&str]) -> World {
        let targets: Vec<_> = names.iter().map(|name| json!({"kind": "Deployment", "name": name})).collect();
        let workloads = names.iter().map(|name| Found::There(workload(name, &[]))).collect();
        served().with_spec(&json!({ "restart": targets })).and(|world| world.workloads = workloads)
    }

    fn fellow(token: &str, published: i64, name: &str) -> Pending {
        let targets = serde_json::from_value(json!([{"kind": "Deployment", "name": name}])).unwrap();
        Pending { token: token.into(), id: format!("id-of-{token}"), published: at(published), targets }
    }

    #[test]
    fn a_restart_is_due_once_it_is_quiet_and_never_twice_for_a_generation() {
        let world = restarting(&["a"]);
        assert_eq!(world.clone().later(4).decision().act, Act::Rest);
        let due = world.clone().later(5);
        assert_eq!((due.decision().reason, due.decision().act), (Reason::RestartDue, Act::Restart));
        let busy = world.and(|world| world.fellows = vec![fellow("b", 3, "a")]);
        assert_eq!(busy.clone().later(5).decision().act, Act::Rest);
        assert_eq!(busy.later(8).decision().act, Act::Restart);
        let done = due
            .clone()
            .settled(&super::super::Progress { restarted: true, ..super::super::Progress::none(due.decision()) });
        assert_eq!(done.decision().act, Act::Rest);
        assert_eq!(
            done.and(|world| world.workloads = vec![Found::There(workload("a", &[]))]).decision().act,
            Act::Rest
        );
    }

    #[test]
    fn one_write_carries_all_that_is_pending_for_a_workload_and_nothing_else() {
        let own = ("restart.tokenry.dev/7d0f", "0000000000000001");
        let world = restarting(&["a", "b"]).and(|world| world.fellows = vec![fellow("x", 0, "a")]);
        let keys = |world: &World, name, annotations: &[(&str, &str)]| {
            world.lacking(&workload(name, annotations)).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(keys(&world, "a", &[]), ["restart.tokenry.dev/7d0f", "restart.tokenry.dev/x"]);
        assert_eq!(keys(&world, "b", &[("note", "mine")]), ["restart.tokenry.dev/7d0f"]);
        assert_eq!(keys(&world, "a", &[own, ("restart.tokenry.dev/x", "earlier")]), ["restart.tokenry.dev/x"]);
        assert!(keys(&world, "b", &[own]).is_empty());
    }

    #[test]
    fn a_workload_that_is_not_there_is_a_fault_and_nothing_is_minted() {
        let told = |world: &World| {
            let wrong = world.terms().unwrap_err();
            wrong.iter().map(|fault| format!("{} {}", fault.reason, fault.path)).collect::<Vec<_>>()
        };
        let missing = restarting(&["a", "b"]).and(|world| world.workloads[1] = Found::Missing);
        assert_eq!(told(&missing), ["WorkloadMissing spec.restart[1]"]);
        assert_eq!(missing.later(60 * 86_400).decision().act, Act::Rest);
        let forbidden = restarting(&["a"]).and(|world| world.workloads[0] = Found::Forbidden("no".into()));
        assert_eq!(told(&forbidden), ["WorkloadForbidden spec.restart[0]"]);
        assert_eq!(told(&restarting(&["a", "a"])), ["Invalid spec.restart[1]"]);
        let once = restarting(&["a"]).with_spec(&json!({"secret": {"delivery": "Once"}}));
        assert_eq!(told(&once), ["Invalid spec.restart"]);
    }

    #[test]
    fn a_generation_that_is_not_published_rolls_nothing() {
        let recorded = restarting(&["a"]).later(60 * 86_400);
        let recorded = recorded.clone().settled(&recorded.minted(2));
        assert_ne!(recorded.later(4).decision().act, Act::Restart);
    }
}
