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
    lines: BTreeMap<Arc<ProbeTarget>, Scheduled>,
    /// The targets that are not asked now, by the time of their next probe.
    queue: BTreeSet<(Instant, Arc<ProbeTarget>)>,
    /// The probes that hold a place, by namespace.
    busy: HashMap<Arc<str>, usize>,
}

/// A target on the agenda.
struct Scheduled {
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
    /// The number of probes since the last challenge.
    missed: u32,
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
        let line = Scheduled {
            owners: vec![owner.clone()],
            namespace: owner.namespace.as_deref().unwrap_or_default().into(),
            seen,
            due: Some(now),
            begun: None,
            hurried: false,
            missed: 0,
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
        let has_place = move |line: &Scheduled| self.busy.get(&line.namespace).is_none_or(|busy| *busy < PLACES_OF_ONE);
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
        line.missed = if answer == ProbeAnswer::Challenge { 0 } else { line.missed.saturating_add(1) };
        line.count = line.count.saturating_add(1);
        let pause = if line.hurried { SHORTEST } else { pause(target, line.missed, line.count) };
        let due = now.max(line.begun.unwrap_or(now) + pause);
        line.due = Some(due);
        self.queue.insert((due, target.clone()));
        if same.is_some() { Vec::new() } else { line.owners.clone() }
    }
}

/// The time from the start of a probe to the start of the next one. While the challenge is missed, it begins with
/// [`SHORTEST`] and doubles up to the interval, as proxies need some moments for a new route. A server that changes
/// its answer all the time cannot keep it short.
fn pause(target: &ProbeTarget, missed: u32, count: i64) -> Duration {
    let interval = target.interval.unsigned_abs().clamp(SHORTEST, LONGEST);
    let most = (interval / JITTER).as_millis().try_into().unwrap_or(i64::MAX);
    let key = format!("{}:{} {}", target.host, target.port, target.realm);
    // The jitter is drawn in whole seconds. Here each of them means a millisecond.
    let less = jitter(&key, count, SignedDuration::from_secs(most)).as_secs();
    let spread = interval - Duration::from_millis(less.unsigned_abs());
    missed.checked_sub(1).map_or(spread, |doubled| spread.min(SHORTEST * 2u32.pow(doubled.min(16))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::prober::tests::{owner, target};
    use ProbeAnswer::{Challenge, Connect, Silent, Status};

    /// The second `second` of a run.
    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    /// An agenda with one target of the Instance `eem`, and the target.
    fn one() -> (Agenda, ProbeTarget, Instant) {
        let (mut agenda, target, begin) = (Agenda::default(), target("a.example.com"), Instant::now());
        agenda.keep(&owner("shop", "eem"), vec![target.clone()], begin);
        (agenda, target, begin)
    }

    /// Runs the next probe, from `now` on, with this answer. Returns the owners to tell.
    fn run(agenda: &mut Agenda, now: Instant, answer: ProbeAnswer, second: i64) -> Vec<ObjectRef<Instance>> {
        let due = agenda.start(now).expect("one is due");
        agenda.leave(&due.namespace);
        agenda.end(&due.target, answer, at(second), now)
    }

    #[test]
    fn a_target_is_asked_at_once_and_then_in_each_interval() {
        let (mut agenda, target, begin) = one();
        assert_eq!((agenda.wakes(), agenda.seen(&target)), (Some(begin), None));
        let mut now = begin;
        for _ in 0..20 {
            run(&mut agenda, now, Challenge, 1);
            assert!(agenda.start(now).is_none());
            let next = agenda.wakes().unwrap();
            let pause = next - now;
            assert!(pause > Duration::from_secs(54) && pause <= Duration::from_secs(60), "{pause:?}");
            now = next;
        }
    }

    #[test]
    fn intervals_differ_so_that_probes_do_not_stay_together() {
        let target = target("a.example.com");
        let pauses: BTreeSet<_> = (0..100).map(|count| pause(&target, 0, count)).collect();
        assert!(pauses.len() > 90, "{pauses:?}");
        let short = ProbeTarget { interval: SignedDuration::ZERO, ..target.clone() };
        assert!(pause(&short, 0, 7) > SHORTEST - SHORTEST / JITTER);
        let long = ProbeTarget { interval: SignedDuration::MAX, ..target };
        assert!(pause(&long, 0, i64::MAX) <= LONGEST);
        assert!(pause(&long, u32::MAX, i64::MAX) <= LONGEST);
    }

    #[test]
    fn a_missing_challenge_is_looked_for_less_and_less_often() {
        let (mut agenda, _, mut now) = one();
        let mut pauses = Vec::new();
        let missed = [Connect, Status(503), Connect, Silent, Status(404), Connect, Status(503), Connect];
        for answer in missed.into_iter().chain([Challenge, Challenge, Connect]) {
            run(&mut agenda, now, answer, 1);
            let next = agenda.wakes().unwrap();
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses[..5], [2, 4, 8, 16, 32]);
        assert!(pauses[5..10].iter().all(|pause| *pause >= 54), "{pauses:?}");
        assert_eq!(pauses[10], 2, "missed anew");
    }

    #[test]
    fn owners_are_told_of_the_first_answer_and_of_each_other_one() {
        let (mut agenda, target, mut now) = one();
        let told = [(Connect, 10, 10, true), (Connect, 12, 10, false), (Challenge, 16, 16, true)];
        for (answer, second, since, news) in told.into_iter().chain([
            (Challenge, 70, 16, false),
            (Status(200), 130, 130, true),
            (Status(404), 132, 132, true),
        ]) {
            let owners = run(&mut agenda, now, answer, second);
            assert_eq!(owners, if news { vec![owner("shop", "eem")] } else { vec![] }, "{answer:?} at {second}");
            assert_eq!(agenda.seen(&target), Some(Probed { answer, at: at(second), since: at(since) }));
            now = agenda.wakes().unwrap();
        }
    }

    #[test]
    fn a_target_that_stays_keeps_its_time_and_its_answer() {
        let (mut agenda, target, begin) = one();
        run(&mut agenda, begin, Challenge, 1);
        let (wakes, seen) = (agenda.wakes(), agenda.seen(&target));
        agenda.keep(&owner("shop", "eem"), vec![target.clone(), target.clone()], after(begin, 5));
        assert_eq!((agenda.wakes(), agenda.seen(&target)), (wakes, seen));
        assert_eq!(agenda.lines[&target].owners.len(), 1);
    }

    #[test]
    fn a_target_that_is_asked_by_other_rules_keeps_the_answer_and_is_asked_at_once() {
        let (mut agenda, target, begin) = one();
        run(&mut agenda, begin, Challenge, 1);
        let rules = ProbeTarget { ca: Some("PEM".into()), interval: SignedDuration::from_secs(9), ..target.clone() };
        agenda.keep(&owner("shop", "eem"), vec![rules.clone()], after(begin, 5));
        assert_eq!(agenda.seen(&rules).unwrap().answer, Challenge);
        assert_eq!((agenda.seen(&target), agenda.wakes()), (None, Some(after(begin, 5))));
        assert!(run(&mut agenda, after(begin, 5), Challenge, 6).is_empty(), "no news");
        let others = [
            ProbeTarget { host: "b.example.com".into(), ..target.clone() },
            ProbeTarget { port: 8443, ..target.clone() },
            ProbeTarget { realm: "tokenry/shop/other".into(), ..target.clone() },
            ProbeTarget { scheme: crate::crd::instance::Scheme::Http, ..target.clone() },
        ];
        agenda.keep(&owner("shop", "eem"), others.to_vec(), after(begin, 5));
        assert!(others.iter().all(|other| agenda.seen(other).is_none()), "another question");
    }

    #[test]
    fn nothing_is_left_of_an_owner_without_targets() {
        let (mut agenda, target, begin) = one();
        agenda.keep(&owner("shop", "two"), vec![target.clone()], begin);
        agenda.keep(&owner("shop", "eem"), vec![], begin);
        assert_eq!(run(&mut agenda, begin, Challenge, 1), [owner("shop", "two")], "the other owner remains");
        agenda.keep(&owner("shop", "two"), vec![], begin);
        assert_eq!((agenda.seen(&target), agenda.wakes()), (None, None));
        let Agenda { owners, lines, queue, busy } = agenda;
        assert!(owners.is_empty() && lines.is_empty() && queue.is_empty() && busy.is_empty());
    }

    #[test]
    fn an_answer_that_comes_after_the_removal_is_forgotten() {
        let (mut agenda, target, begin) = one();
        let due = agenda.start(begin).unwrap();
        agenda.keep(&owner("shop", "eem"), vec![], begin);
        assert!(agenda.end(&due.target, Challenge, at(1), begin).is_empty());
        assert_eq!(agenda.seen(&target), None);
        agenda.keep(&owner("shop", "eem"), vec![target.clone()], begin);
        assert!(agenda.end(&due.target, Challenge, at(1), begin).is_empty());
        assert_eq!((agenda.seen(&target), agenda.wakes()), (None, Some(begin)), "of the former target");
    }

    #[test]
    fn a_hurried_target_is_asked_two_seconds_after_the_last_time() {
        let (mut agenda, target, begin) = one();
        agenda.hurry(&target, begin);
        assert_eq!(agenda.wakes(), Some(begin), "it is due already");
        run(&mut agenda, begin, Challenge, 1);
        agenda.hurry(&target, after(begin, 1));
        assert_eq!(agenda.wakes(), Some(after(begin, 2)));
        agenda.hurry(&target, after(begin, 30));
        assert_eq!(agenda.wakes(), Some(after(begin, 2)), "it is never put off");
        run(&mut agenda, after(begin, 2), Challenge, 1);
        agenda.hurry(&target, after(begin, 30));
        assert_eq!(agenda.wakes(), Some(after(begin, 30)));
        let other = ProbeTarget { port: 1, ..target };
        agenda.hurry(&other, begin);
        assert_eq!(agenda.lines.len(), 1, "nobody keeps it");
    }

    #[test]
    fn a_target_that_is_hurried_while_it_is_asked_is_asked_again() {
        for (answered, asked_again) in [(1, 2), (9, 9)] {
            let (mut agenda, target, begin) = one();
            let due = agenda.start(begin).unwrap();
            agenda.hurry(&target, begin);
            assert_eq!(agenda.wakes(), None, "it is being asked");
            agenda.end(&due.target, Challenge, at(1), after(begin, answered));
            assert_eq!(agenda.wakes(), Some(after(begin, asked_again)));
        }
    }

    #[test]
    fn an_owner_has_four_targets() {
        let (mut agenda, begin) = (Agenda::default(), Instant::now());
        let targets = (1..=9).map(|port| ProbeTarget { port, ..target("a.example.com") }).collect();
        agenda.keep(&owner("shop", "eem"), targets, begin);
        assert_eq!((agenda.lines.len(), agenda.queue.len()), (TARGETS, TARGETS));
    }

    #[test]
    fn the_probes_of_one_namespace_leave_places_for_others() {
        let (mut agenda, begin) = (Agenda::default(), Instant::now());
        let keep = |agenda: &mut Agenda, namespace: &str, count| {
            for nth in 0..count {
                let host = format!("{nth}.{namespace}.example.com");
                agenda.keep(&owner(namespace, &nth.to_string()), vec![target(&host)], begin);
            }
        };
        keep(&mut agenda, "a", 100);
        let mut started: Vec<_> = std::iter::from_fn(|| agenda.start(begin)).collect();
        assert_eq!((started.len(), agenda.wakes()), (PLACES_OF_ONE, None), "the others wait for a place");
        for nth in 0..6 {
            keep(&mut agenda, &format!("b{nth}"), 2);
        }
        started.extend(std::iter::from_fn(|| agenda.start(begin)));
        assert_eq!((started.len(), agenda.wakes()), (PLACES, None));
        assert!(started[PLACES_OF_ONE..].iter().all(|due| &*due.namespace != "a"));
        // The answer alone gives no place back: the look-up of its name may still run.
        agenda.end(&started[0].target, Silent, at(1), begin);
        assert!(agenda.start(begin).is_none());
        agenda.leave(&started[0].namespace);
        assert_eq!(&*agenda.start(begin).unwrap().namespace, "a");
    }
}
