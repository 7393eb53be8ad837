//! Checks of the Pods of the operator and of the verifier.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;

use super::{
    CheckVisit,
    cluster::{CLOSE, apart},
    finding::{CheckResult, CheckedPart, Results},
    leader,
    programs::{KnownKind, Program, ProgramPod, Programs, probe},
    samples,
};
use crate::{cli::screen::Health, outside::Why};

/// The metric of the time since the last report of each kind, and the longest that is usual, in seconds.
const HEARD: (&str, f64) = ("tokenry_heard_age_seconds", 60.0);
/// A clock that is further away than this makes tokens expire too early or too late.
const FAR: SignedDuration = SignedDuration::from_mins(1);
/// The number of times that verifiers are compared, and the pause between two comparisons. A change reaches them one
/// after the other.
const COMPARED: usize = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// Checks the Pods of the operator, and that one of them leads.
pub(super) async fn operator(visit: &CheckVisit<'_>) -> Vec<CheckResult> {
    let mut results = Results::of(CheckedPart::Operator);
    common(visit, Program::Operator, &mut results);
    leader::check(visit, &mut results).await;
    results.done()
}

/// Checks the Pods of the verifier, and that all of them know the same.
pub(super) async fn verifiers(visit: &CheckVisit<'_>) -> Vec<CheckResult> {
    let mut results = Results::of(CheckedPart::Verifiers);
    common(visit, Program::Verifier, &mut results);
    let known: Vec<_> = visit.pods(Program::Verifier).filter_map(|pod| Some((pod, pod.objects()?))).collect();
    if known.len() > 1 {
        let Disagreement { wrong, is_in_number } = disagreement(visit, &known).await;
        let (health, hint) = if is_in_number {
            (Health::Failed, "look at the logs of the verifiers, and compare their flags and their rights")
        } else {
            (Health::Warning, "check again, as objects may be changing now; else look at the logs of the verifiers")
        };
        results.add("the verifiers know the same objects", wrong, (health, hint));
    }
    results.done()
}

/// The checks that both programs have in common.
fn common(visit: &CheckVisit<'_>, program: Program, results: &mut Results) {
    let name = program.name();
    let runs = format!("the {name} runs");
    let Programs { namespace, .. } = match visit.programs {
        Ok(programs) => programs,
        Err(why) => return results.unseen(runs, why, &format!("list pods in namespace {}", visit.system)),
    };
    let pods: Vec<&ProgramPod> = visit.pods(program).collect();
    let none = pods.is_empty().then(|| format!("no Pod of the {name} is in namespace {namespace}"));
    let hint = "install the chart, or name its namespace by --system-namespace";
    results.add(runs, none.into_iter().collect(), (Health::Failed, hint));
    if pods.is_empty() {
        return;
    }
    let hint = format!("look at its log: kubectl logs --namespace {namespace} deployment/tokenry-{name}");
    let unready = pods.iter().filter_map(|pod| pod.unready()).collect();
    results.add(format!("the {name} is ready"), unready, (Health::Failed, &hint));
    let other = pods.iter().filter_map(|pod| pod.of_other_version()).collect();
    let version = env!("CARGO_PKG_VERSION");
    let upgrade = "upgrade the chart, or use the program of the same version";
    results.add(format!("the {name} has the version of this program, {version}"), other, (Health::Warning, upgrade));
    let answers = format!("the {name} answers, and hears the API server");
    if let Some(why) = pods.iter().find_map(|pod| pod.probed.as_ref().err().filter(|why| is_right(why))) {
        return results.unseen(answers, why, &format!("get pods/proxy in namespace {namespace}"));
    }
    let silent = pods.iter().filter_map(|pod| pod.silent().or_else(|| pod.deaf())).collect();
    results.add(answers, silent, (Health::Failed, &hint));
    let (far, apart) = clocks(&pods, visit.ahead.unwrap_or_default());
    let health = if far { Health::Failed } else { Health::Warning };
    let hint = "set the clocks of the nodes by NTP: values expire by the clock of the verifier";
    results.add(format!("the clocks of the {name} and of the API server agree"), apart, (health, hint));
}

/// The clocks that are not that of the API server, which is `server` ahead of this machine. The first part is true if
/// one of them is so far away that tokens suffer.
fn clocks(pods: &[&ProgramPod], server: SignedDuration) -> (bool, Vec<String>) {
    let distance = |pod: &&ProgramPod| Some((pod.name.clone(), pod.probed.as_ref().ok()?.ahead? - server));
    let apart_: Vec<_> = pods.iter().filter_map(distance).filter(|(_, ahead)| ahead.abs() > CLOSE).collect();
    let is_far = apart_.iter().any(|(_, ahead)| ahead.abs() > FAR);
    (is_far, apart_.into_iter().map(|(pod, ahead)| apart(&format!("Pod {pod}"), ahead)).collect())
}

impl ProgramPod {
    /// The reason why the Pod is not ready.
    fn unready(&self) -> Option<String> {
        let told = self.probed.as_ref().ok().and_then(|probed| probed.unready.clone());
        let reported = (!self.is_ready).then(|| "the kubelet reports that it is not".to_owned());
        told.or(reported).map(|why| format!("Pod {} is not ready: {why}", self.name))
    }

    fn of_other_version(&self) -> Option<String> {
        let version = self.version().filter(|version| version != env!("CARGO_PKG_VERSION"))?;
        Some(format!("Pod {} has version {version}", self.name))
    }

    /// The reason why the Pod does not answer.
    fn silent(&self) -> Option<String> {
        let why = match self.probed.as_ref().err()? {
            // The API server says so on behalf of the Pod.
            Why::Unavailable(text) => text.clone(),
            why @ (Why::Stale | Why::Invalid(_) | Why::Forbidden(_) | Why::Unauthenticated(_) | Why::Gone) => {
                why.to_string()
            }
        };
        Some(format!("Pod {} does not answer: {why}", self.name))
    }

    /// A kind of which the program has heard nothing for too long.
    fn deaf(&self) -> Option<String> {
        let (metric, longest) = HEARD;
        let metrics = &self.probed.as_ref().ok()?.metrics;
        let (kind, age) = samples::by_label(metrics, metric).find(|(_, age)| *age > longest)?;
        Some(format!("Pod {} has heard nothing of {kind} for {age:.0} s", self.name))
    }
}

/// The differences between verifiers that are still there after several comparisons.
async fn disagreement(visit: &CheckVisit<'_>, known: &[(&ProgramPod, KnownKinds)]) -> Disagreement {
    let mut all: Vec<_> = known.iter().map(|(pod, objects)| (pod.name.clone(), objects.clone())).collect();
    for _ in 1..COMPARED {
        if Disagreement::of(&all).wrong.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        for ((pod, _), (_, kinds)) in known.iter().zip(&mut all) {
            let Some(port) = &pod.port else { continue };
            let probed = probe(visit.survey, port).await;
            *kinds = probed.map(|probed| probed.objects()).unwrap_or_default();
        }
    }
    Disagreement::of(&all)
}

/// The objects that a verifier knows, by kind.
type KnownKinds = BTreeMap<String, KnownKind>;

/// The differences between verifiers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Disagreement {
    wrong: Vec<String>,
    /// True if the verifiers know different numbers of objects, and not only other versions of the same number.
    is_in_number: bool,
}

impl Disagreement {
    /// The differences between the first of these verifiers and each other one.
    fn of(all: &[(String, KnownKinds)]) -> Self {
        let (mut found, Some(((first, wanted), others))) = (Self::default(), all.split_first()) else {
            return Self::default();
        };
        for (pod, other) in others {
            let kinds = wanted.keys().chain(other.keys().filter(|kind| !wanted.contains_key(*kind)));
            for kind in kinds {
                let of = |known: &KnownKinds| known.get(kind).copied().unwrap_or_default();
                let (here, there) = (of(wanted), of(other));
                if here.count != there.count {
                    found.is_in_number = true;
                    let (here, there) = (here.count, there.count);
                    found.wrong.push(format!("{kind}: Pod {first} knows {here}, and Pod {pod} knows {there}"));
                } else if here.digest.zip(there.digest).is_some_and(|(here, there)| here != there) {
                    found.wrong.push(format!("{kind}: Pod {first} and Pod {pod} know other versions of the objects"));
                }
            }
        }
        found
    }
}

/// True for a failure that a permission of the user ends.
fn is_right(why: &Why) -> bool {
    match why {
        Why::Forbidden(_) => true,
        Why::Stale | Why::Invalid(_) | Why::Unauthenticated(_) | Why::Gone | Why::Unavailable(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifiers_that_know_different_numbers_of_objects_are_named_with_the_kind() {
        let known = |tokens: u64, digest: u64| {
            let kind = |count, digest| KnownKind { count, digest: Some(digest) };
            BTreeMap::from([("apitokens".to_owned(), kind(tokens, digest)), ("instances".to_owned(), kind(1, 7))])
        };
        let all = |others: &[KnownKinds]| {
            let named: Vec<_> =
                others.iter().zip(["a", "b", "c"]).map(|(kinds, pod)| (pod.to_owned(), kinds.clone())).collect();
            Disagreement::of(&named)
        };
        assert_eq!(all(&[known(2, 1), known(2, 1)]), Disagreement::default());
        let told = all(&[known(2, 1), known(3, 2), known(2, 1)]);
        assert_eq!(
            (&told.wrong[..], told.is_in_number),
            (&["apitokens: Pod a knows 2, and Pod b knows 3".to_owned()][..], true)
        );
        let told = all(&[known(2, 1), known(2, 5)]);
        let versions = "apitokens: Pod a and Pod b know other versions of the objects".to_owned();
        assert_eq!((&told.wrong[..], told.is_in_number), (&[versions][..], false));
        let mut older = known(2, 5);
        older.values_mut().for_each(|kind| kind.digest = None);
        assert_eq!(all(&[known(2, 1), older]), Disagreement::default(), "an older verifier tells no digest");
    }
}
