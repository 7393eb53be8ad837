//! Least rights: what the chart grants is what the tests of `integration` used, and nothing that they needed was
//! refused.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "nobody builds on a test")]

#[path = "integration/harness/evidence.rs"]
mod evidence;
#[path = "integration/harness/grants.rs"]
mod grants;

use std::{collections::BTreeSet, error::Error, fs, path::Path};

use controlplane::{EXPOSING, REVIEWING_CALLERS};
use evidence::{Entry, Right, Rights};
use grants::{Grants, rendered};

const RUN: &str = "run `cargo test --test integration` without a filter, and then this test again";
const UNUSED: &str = "granted by the chart and used by no test; remove it, or test what needs it";
const UNGRANTED: &str = "used by a test and not granted by the chart; grant it, or run the tests again without it";
const REFUSED: &str = "refused in a test; grant it, or do without it";

/// The groups of kinds that the API server of the tests serves only with their definitions.
const FOREIGN: [&str; 5] =
    ["gateway.networking.k8s.io", "gateway.envoyproxy.io", "route.openshift.io", "security.istio.io", "traefik.io"];

/// What the last run left behind.
#[derive(Default)]
struct Evidence {
    tests: usize,
    of: usize,
    unwell: BTreeSet<String>,
    used: Rights,
    refused: BTreeSet<String>,
}

impl Evidence {
    fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let mut evidence = Self::default();
        for line in fs::read_to_string(path)?.lines() {
            evidence.add(serde_json::from_str(line)?);
        }
        Ok(evidence)
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Run { tests, of } => (self.tests, self.of) = (tests, of),
            Entry::Begun { namespace } => _ = self.unwell.insert(namespace),
            Entry::Ended { namespace, well, used, refused } => {
                if well {
                    self.unwell.remove(&namespace);
                }
                self.refused.extend(refused);
                used.into_iter().for_each(|(holder, rights)| self.used.entry(holder).or_default().extend(rights));
            }
        }
    }

    /// Why it cannot say that a right is not used.
    fn gap(&self) -> Option<String> {
        let Self { tests, of, unwell, .. } = self;
        if tests < of {
            return Some(format!("ran {tests} of {of} tests only"));
        }
        let unwell: Vec<_> = unwell.iter().map(String::as_str).collect();
        (!unwell.is_empty()).then(|| format!("failed or was cut off in {}", unwell.join(", ")))
    }
}

/// Each right that is in one and not in the other, with who holds it.
fn beyond(more: &Rights, less: &Rights) -> Vec<String> {
    let none = BTreeSet::new();
    let holders = more.iter().map(|(holder, rights)| (holder, rights.difference(less.get(holder).unwrap_or(&none))));
    holders.flat_map(|(holder, rights)| rights.map(move |right| format!("{holder}: {right}"))).collect()
}

#[test]
fn what_the_chart_grants_is_what_is_used() {
    let path = evidence::path();
    let evidence = Evidence::read(&path);
    let mut evidence = evidence.unwrap_or_else(|error| panic!("no evidence at {}: {error}: {RUN}", path.display()));
    let mut granted = Grants::of(&rendered(&["--set", EXPOSING, "--set", REVIEWING_CALLERS])).all();
    // A release for one namespace has a permission that no other has.
    for (holder, rights) in Grants::of(&rendered(&["--set", "scopedNamespace=team-a,scopedRBAC=true"])).all() {
        granted.entry(holder).or_default().extend(rights);
    }
    granted.values_mut().for_each(|rights| rights.retain(|right| !is_asked_about(right)));
    // Kinds of other products are tried where a test installs their definitions.
    let used: BTreeSet<_> = evidence.used.values().flatten().map(|right| (*right).clone()).collect();
    let tried = |right: &Right| !FOREIGN.contains(&&*right.group) || used.iter().any(|used| used.group == right.group);
    granted.values_mut().for_each(|rights| rights.retain(|right| tried(right) && !is_asked_by_openshift(right)));
    // Whoever holds a role of such rights alone also needs a role that writes objects, which is not of the chart.
    evidence.used.retain(|holder, _| !granted.get(holder).is_some_and(BTreeSet::is_empty));
    let made = |file: &Path| fs::metadata(file).unwrap().modified().unwrap();
    let old = made(&path) < made(Path::new(env!("CARGO_BIN_EXE_tokenry")));
    let gap = if old { Some("is older than the program".to_owned()) } else { evidence.gap() };
    let mut faults = match gap {
        Some(gap) => vec![format!("the last run of `integration` {gap}: {RUN}")],
        None => Vec::from_iter(list(UNUSED, beyond(&granted, &evidence.used))),
    };
    faults.extend(list(UNGRANTED, beyond(&evidence.used, &granted)));
    faults.extend(list(REFUSED, evidence.refused));
    assert!(faults.is_empty(), "by {}\n{}", path.display(), faults.join("\n"));
}

/// True if admission policies or the verifier ask for a right. No request to the API server has such a verb, so no
/// audit log has it. `tests/integration/grants.rs` and `tests/integration/introspection.rs` try each role that has
/// them, and `tests/integration/metrics.rs` tries the role for scrapers.
fn is_asked_about(right: &Right) -> bool {
    let is_ours = right.group == "tokenry.dev" && ["assign", "introspect", "revoke", "use"].contains(&&*right.verb);
    is_ours || right.resource == "/metrics"
}

/// True if OpenShift itself asks for a right when it admits a Route. No request has it, so no audit log has it.
fn is_asked_by_openshift(right: &Right) -> bool {
    right.resource == "routes/custom-host"
}

/// A title and what it is about, if there is anything.
fn list(title: &str, about: impl IntoIterator<Item = String>) -> Option<String> {
    let lines: Vec<_> = about.into_iter().collect();
    (!lines.is_empty()).then(|| format!("{title}:\n  {}", lines.join("\n  ")))
}
