//! Checks of the API server.

use jiff::SignedDuration;

use super::finding::{CheckResult, CheckedPart, Results};
use crate::{
    cli::{error::unserved, screen::Health},
    outside::{Clock, SystemClock, survey::Survey},
};

/// The oldest minor version of Kubernetes that Tokenry supports, as in `kubeVersion` of the chart.
const OLDEST: u64 = 33;
/// The largest distance of two clocks that is fine. A time in an HTTP answer is in whole seconds.
pub(super) const CLOSE: SignedDuration = SignedDuration::from_secs(5);

/// The answer of the API server, as later checks need it.
pub(super) struct ClusterState {
    /// False if the API server does not answer. No further check is possible then.
    pub(super) answers: bool,
    /// The distance of its clock from the clock of this machine, if it is known.
    pub(super) ahead: Option<SignedDuration>,
}

/// Checks that the API server answers, its version and its clock.
pub(super) async fn check(survey: &Survey) -> (ClusterState, Vec<CheckResult>) {
    let mut results = Results::of(CheckedPart::Cluster);
    let reply = match survey.get("/version").await {
        Ok(reply) => reply,
        Err(why) => {
            results.add("the API server answers", vec![why.to_string()], (Health::Failed, unserved(&why)));
            return (ClusterState { answers: false, ahead: None }, results.done());
        }
    };
    let ahead = reply.date().map(|there| there.duration_since(SystemClock.now()));
    results.add("the API server answers", Vec::new(), (Health::Failed, ""));
    let version: serde_json::Value = serde_json::from_str(&reply.text).unwrap_or_default();
    let named = version["gitVersion"].as_str().unwrap_or("of an unknown version");
    let old = is_old(&version).then(|| format!("it is {named}"));
    let hint = "upgrade the cluster, or use a release of Tokenry for this version";
    let wanted = format!("the API server is Kubernetes 1.{OLDEST} or newer");
    results.add(wanted, old.into_iter().collect(), (Health::Failed, hint));
    let apart = ahead.filter(|ahead| ahead.abs() > CLOSE).map(|ahead| apart("the API server", ahead));
    let hint = "set the clock of this machine by NTP: dates that you give are of this clock";
    let wanted = "the clocks of this machine and of the API server agree";
    results.add(wanted, apart.into_iter().collect(), (Health::Warning, hint));
    (ClusterState { answers: true, ahead }, results.done())
}

/// The distance of a clock from that of this machine, in words.
pub(super) fn apart(whose: &str, ahead: SignedDuration) -> String {
    let way = if ahead.is_negative() { "behind" } else { "ahead" };
    format!("the clock of {whose} is {} s {way}", ahead.abs().as_secs())
}

/// True for a version before the oldest that Tokenry supports.
fn is_old(version: &serde_json::Value) -> bool {
    let number = |key: &str| version[key].as_str()?.trim_end_matches('+').parse::<u64>().ok();
    number("major").zip(number("minor")).is_some_and(|version| version < (1, OLDEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_oldest_version_is_that_of_the_chart() {
        let chart = include_str!("../../../charts/tokenry/Chart.yaml");
        assert!(chart.contains(&format!("kubeVersion: \">=1.{OLDEST}.0-0\"")), "{chart}");
        let old = |minor: &str| is_old(&json!({"major": "1", "minor": minor}));
        assert!(old("32") && old("32+") && !old("33") && !old("36+"));
        assert!(!is_old(&json!({})), "an unknown version is not refused");
    }

    #[test]
    fn a_clock_is_ahead_or_behind() {
        assert_eq!(apart("x", SignedDuration::from_secs(7)), "the clock of x is 7 s ahead");
        assert_eq!(apart("x", SignedDuration::from_secs(-90)), "the clock of x is 90 s behind");
    }
}
