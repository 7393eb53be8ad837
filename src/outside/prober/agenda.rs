//! The times of all probes, without a clock: each method is given the time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;

use super::target::{ProbeAnswer, ProbeTarget, Probed};
use crate::{crd::Instance, token::jitter::jitter};

/// Maximum number of targets of an owner. Further ones are not asked.
const TARGETS: usize = 4;
/// Maximum number of probes at one time.
const PLACES: usize = 16;
/// Maximum number of probes at one time for the Instances of one namespace. So slow answers in one namespace do not
/// delay the probes of others.
const PLACES_OF_ONE: usize = 4;
/// The shortest interval. It also limits [`Agenda::hurry`].
const SHORTEST: Duration = Duration::from_secs(2);
/// The longest interval.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The share of an interval by which jitter can shorten it.
const JITTER: u32 = 10;

/// The targets of all owners, and the time of the next probe of each.
#[derive(Default)]
pub(super) struct Agenda {
    owners: HashMap<ObjectRef<Instance>, BTreeSet<Arc<ProbeTarget>>>,
    lines: BTreeMap<Arc<ProbeTarget>, Line>,
    /// The targets that are not asked now, by the time of their next probe.
    queue: BTreeSet<(Instant, Arc<ProbeTarget>)>,
    /// The probes that hold a place, by namespace.
    busy: HashMap<Arc<str>, usize>,
}

/// A target on the agenda.
struct Line {
    owners: Vec<ObjectRef<Instance>>,
    /// The namespace whose places its probes use.
    namespace: Arc<str>,
    seen: Option<Probed>,
    /// The time of the next probe. `None` while a probe runs.
    due: Option<Instant>,
    /// The start of the last probe.
    begun: Option<Instant>,
    /// True if something changed while a probe ran.
    hurried: bool,
    /// The number of probes with the same answer in a row.
    in_a_row: u32,
    /// The number of all probes.
    count: i64,
}

/// A probe that has to start now.
pub(super) struct Due {
    /// The target. Its pointer distinguishes it from an equal target that was removed and kept again.
    pub target: Arc<ProbeTarget>,
    /// The namespace that holds the place, for [`Agenda::leave`].
    pub namespace: Arc<str>,
}

impl Agenda {
    /// Replaces the targets of `owner`. New ones are due at once. Targets that stay keep their time and their answer. A
    /// new target with the same question as a former one begins with its answer.
    pub(super) fn keep(&mut self, owner: &ObjectRef<Instance>, targets: Vec<ProbeTarget>, now: Instant) {
        let before = self.owners.remove(owner).unwrap_or_default();
        let mut kept = BTreeSet::new();
        for target in targets.into_iter().take(TARGETS) {
            let known = self.lines.get_key_value(&target).map(|(known, _)| known.clone());
            let target = known.unwrap_or_else(|| Arc::new(target));
            if kept.insert(target.clone()) && !before.contains(&target) {
                self.add(owner, target, &before, now);
            }
        }
        for gone in before.difference(&kept) {
            self.remove(owner, gone);
        }
        if !kept.is_empty() {
            self.owners.insert(owner.clone(), kept);
        }
    }

    fn add(
        &mut self,
        owner: &ObjectRef<Instance>,
        target: Arc<ProbeTarget>,
        before: &BTreeSet<Arc<ProbeTarget>>,
        now: Instant,
    ) {
        if let Some(line) = self.lines.get_mut(&target) {
            line.owners.push(owner.clone());
            return;
        }
        let former = before.iter().find(|former| former.question() == target.question());
        let seen = former.and_then(|former| self.lines.get(former)).and_then(|line| line.seen);
        let line = Line {
            owners: vec![owner.clone()],
            namespace: owner.namespace.as_deref().unwrap_or_default().into(),
            seen,
            due: Some(now),
            begun: None,
            hurried: false,
            in_a_row: 0,
            count: 0,
        };
        self.queue.insert((now, target.clone()));
        self.lines.insert(target, line);
    }

    fn remove(&mut self, owner: &ObjectRef<Instance>, target: &Arc<ProbeTarget>) {
        let Some(line) = self.lines.get_mut(target) else { return };
        line.owners.retain(|other| other != owner);
        if !line.owners.is_empty() {
            return;
        }
        if let Some(due) = line.due {
            self.queue.remove(&(due, target.clone()));
        }
        self.lines.remove(target);
    }

    /// The last answer of `target`.
    pub(super) fn seen(&self, target: &ProbeTarget) -> Option<Probed> {
        self.lines.get(target)?.seen
    }

    /// Moves the next probe of `target` forward, to [`SHORTEST`] after the start of the last one. If a probe runs now,
    /// another one follows it.
    pub(super) fn hurry(&mut self, target: &ProbeTarget, now: Instant) {
        let Some((target, _)) = self.lines.get_key_value(target) else { return };
        let target = target.clone();
        let Some(line) = self.lines.get_mut(&target) else { return };
        let Some(due) = line.due else {
            line.hurried = true;
            return;
        };
        let soon = line.begun.map_or(now, |begun| now.max(begun + SHORTEST)).min(due);
        line.due = Some(soon);
        self.queue.remove(&(due, target.clone()));
        self.queue.insert((soon, target));
    }

    /// The next probe that is due, if it has a place. The caller starts it, and calls [`Agenda::end`] and
    /// [`Agenda::leave`] later.
    pub(super) fn start(&mut self, now: Instant) -> Option<Due> {
        let found = self.waiting().take_while(|(due, _)| *due <= now).find_map(|(due, target)| {
            let line = self.lines.get(target)?;
            Some((*due, Due { target: target.clone(), namespace: line.namespace.clone() }))
        });
        let (at, due) = found?;
        self.queue.remove(&(at, due.target.clone()));
        *self.busy.entry(due.namespace.clone()).or_default() += 1;
        let line = self.lines.get_mut(&due.target)?;
        (line.due, line.begun, line.hurried) = (None, Some(now), false);
        Some(due)
    }

    /// The time of the next probe that has a place. The end of a probe can bring it forward.
    pub(super) fn wakes(&self) -> Option<Instant> {
        self.waiting().next().map(|(due, _)| *due)
    }

    /// The targets in the queue that have a place, soonest first.
    fn waiting(&self) -> impl Iterator<Item = &(Instant, Arc<ProbeTarget>)> {
        let is_full = self.busy.values().sum::<usize>() >= PLACES;
        let has_place = move |line: &Line| self.busy.get(&line.namespace).is_none_or(|busy| *busy < PLACES_OF_ONE);
        let queue = self.queue.iter().take(if is_full { 0 } else { usize::MAX });
        queue.filter(move |(_, target)| self.lines.get(target).is_some_and(has_place))
    }

    /// Gives the place of a probe back.
    pub(super) fn leave(&mut self, namespace: &Arc<str>) {
        if let Some(busy) = self.busy.get_mut(namespace) {
            *busy -= 1;
            if *busy == 0 {
                self.busy.remove(namespace);
            }
        }
    }

    /// Notes the answer of a probe that began at `at`. Returns the owners if the answer differs from the one before. An
    /// answer for a target that was removed since then is forgotten.
    pub(super) fn end(
        &mut self,
        target: &Arc<ProbeTarget>,
        answer: ProbeAnswer,
        at: Timestamp,
        now: Instant,
    ) -> Vec<ObjectRef<Instance>> {
        let known = self.lines.get_key_value(target).is_some_and(|(known, _)| Arc::ptr_eq(known, target));
        let Some(line) = self.lines.get_mut(target).filter(|_| known) else { return Vec::new() };
        let same = line.seen.filter(|seen| seen.answer == answer);
        line.seen = Some(Probed { answer, at, since: same.map_or(at, |seen| seen.since) });
        line.in_a_row = if same.is_some() { line.in_a_row.saturating_add(1) } else { 1 };
        line.count = line.count.saturating_add(1);
        let pause = if line.hurried { SHORTEST } else { pause(target, answer, line.in_a_row, line.count) };
        let due = now.max(line.begun.unwrap_or(now) + pause);
        line.due = Some(due);
        self.queue.insert((due, target.clone()));
        if same.is_some() { Vec::new() } else { line.owners.clone() }
    }
}

/// The time from the start of a probe to the start of the next one. After an answer without our challenge it begins
/// with [`SHORTEST`] and doubles up to the interval, as proxies need some moments for a new route.
fn pause(target: &ProbeTarget, answer: ProbeAnswer, in_a_row: u32, count: i64) -> Duration {
    let interval = target.interval.unsigned_abs().clamp(SHORTEST, LONGEST);
    let most = (interval / JITTER).as_millis().try_into().unwrap_or(i64::MAX);
    let key = format!("{}:{} {}", target.host, target.port, target.realm);
    // The jitter is drawn in whole seconds. Here each of them means a millisecond.
    let less = jitter(&key, count, SignedDuration::from_secs(most)).as_secs();
    let spread = interval - Duration::from_millis(less.unsigned_abs());
    if answer == ProbeAnswer::Challenge {
        return spread;
    }
    spread.min(SHORTEST * 2u32.saturating_pow(in_a_row.saturating_sub(1).min(16)))
}
