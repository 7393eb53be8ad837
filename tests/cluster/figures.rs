//! The figures of the hour: each fault, and each process of Tokenry.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use crate::{Told, calls::Tally, machine::Process};

/// The memory of a component, in the last third of the hour compared with the first third.
const FLAT: f64 = 1.5;

/// A fault, and its consequences.
pub struct Step {
    pub round: usize,
    pub fault: String,
    /// The duration of the fault itself.
    pub lasted: Duration,
    /// The time from the end of the fault until all Pods and tokens were ready.
    pub ready: Duration,
    /// The time from then until each workload used the newest value.
    pub followed: Duration,
    pub calls: Tally,
    /// The alerts that fired then.
    pub firing: BTreeSet<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, fault, lasted, ready, followed, calls, firing } = self;
        let [lasted, ready, followed] = [lasted, ready, followed].map(Duration::as_secs_f32);
        write!(f, "round {round}: {fault:<40} lasted {lasted:5.1} s, ready after {ready:5.1} s, ")?;
        write!(f, "followed after {followed:5.1} s; calls: {calls}; firing: {firing:?}")
    }
}

/// A process of Tokenry.
struct Life {
    component: String,
    begin: Instant,
    end: Instant,
    /// Resident memory at the first and the last look, and its peak, in KiB.
    first: u64,
    last: u64,
    peak: u64,
}

#[derive(Default)]
pub struct Figures {
    steps: Vec<Step>,
    lives: BTreeMap<(String, u32), Life>,
    /// The largest resident memory of operator and verifier at each look, in KiB.
    resident: Vec<[u64; 2]>,
}

impl Figures {
    pub fn add(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Notes the memory of the processes that run now.
    pub fn look(&mut self, processes: &[Process]) {
        let now = Instant::now();
        for Process { pid, resident, peak, pod, component } in processes {
            let (component, first) = (component.clone(), *resident);
            let born = || Life { component, begin: now, end: now, first, last: 0, peak: 0 };
            let life = self.lives.entry((pod.clone(), *pid)).or_insert_with(born);
            (life.end, life.last, life.peak) = (now, *resident, *peak);
        }
        let largest = |component: &str| {
            processes.iter().filter(|process| process.component == component).map(|process| process.resident).max()
        };
        self.resident.push(["operator", "verifier"].map(|component| largest(component).unwrap_or_default()));
    }

    /// Fails if a component needs much more memory than at the beginning.
    pub fn memory_is_flat(&self) -> Told {
        let third = self.resident.len() / 3;
        let (first, last) = (&self.resident[..third], &self.resident[self.resident.len() - third..]);
        for (nth, component) in ["operator", "verifier"].into_iter().enumerate() {
            let most = |looks: &[[u64; 2]]| looks.iter().map(|look| look[nth]).max().unwrap_or_default();
            let (before, after) = (most(first), most(last));
            if before == 0 || after as f64 > before as f64 * FLAT {
                return Err(format!("the {component} needed {before} KiB in the first third, and {after} in the last"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        for ((pod, pid), life) in &self.lives {
            let Life { component, begin, end, first, last, peak } = life;
            let seconds = end.duration_since(*begin).as_secs();
            let [first, last, peak] = [first, last, peak].map(|kib| *kib as f64 / 1024.0);
            writeln!(
                f,
                "{component} {pod}, process {pid}, seen for {seconds} s: {first:.1} MiB at first, {last:.1} at last, {peak:.1} at most"
            )?;
        }
        let most = |nth: usize| self.resident.iter().map(|look| look[nth]).max().unwrap_or_default() / 1024;
        let peak = |component: &str| {
            let of = self.lives.values().filter(|life| life.component == component);
            of.map(|life| life.peak).max().unwrap_or_default() / 1024
        };
        for (nth, component) in ["operator", "verifier"].into_iter().enumerate() {
            writeln!(f, "{component}: {} MiB at most at a look, {} MiB at its peak", most(nth), peak(component))?;
        }
        Ok(())
    }
}

#[test]
fn memory_that_grows_is_seen() {
    let process = |resident| Process { pid: 1, resident, peak: 900, pod: "pod".into(), component: "operator".into() };
    let verifier = || Process { component: "verifier".into(), pid: 2, ..process(100) };
    let figures = |looks: [u64; 6]| {
        let mut figures = Figures::default();
        looks.iter().for_each(|look| figures.look(&[process(*look), verifier()]));
        figures
    };
    assert_eq!(figures([100, 100, 300, 100, 120, 140]).memory_is_flat(), Ok(()));
    let grown = figures([100, 100, 100, 100, 120, 160]).memory_is_flat();
    assert_eq!(grown.unwrap_err(), "the operator needed 100 KiB in the first third, and 160 in the last");
    assert!(Figures::default().memory_is_flat().is_err(), "no look is no proof");
}
