//! The check that one of the operators leads.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    CheckVisit,
    finding::Results,
    programs::{Program, ProgramPod},
};
use crate::{
    cli::screen::Health,
    outside::{
        Clock, SystemClock, Why,
        lead::{LeaseOrder, LeasePeriods},
        survey::Survey,
    },
};

/// The pause between two looks at a Lease that may be stale.
const PAUSE: Duration = Duration::from_millis(500);
/// The state that the check wants, if it does not know the leader.
const WANTED: &str = "one operator leads";

/// Checks that one of the operators leads, and names it. If the user may not list the Pods, it looks at the Lease that
/// the chart names by default.
pub(super) async fn check(visit: &CheckVisit<'_>, results: &mut Results) {
    let pods: Vec<_> = visit.pods(Program::Operator).collect();
    let order = pods.iter().find_map(|pod| pod.election()).cloned();
    let is_guess = order.is_none() && visit.programs.is_err();
    let Some(order) = order.or_else(|| is_guess.then(LeaseOrder::default)) else {
        if pods.len() > 1 {
            let wrong = format!("{} operators run, and refuse each other's writes", pods.len());
            let hint = "install the chart with leaderElection.enabled=true";
            results.add(WANTED, vec![wrong], (Health::Warning, hint));
        }
        return;
    };
    let differs = |pod: &&&ProgramPod| pod.duties.is_some() && pod.election() != Some(&order);
    let apart = pods.iter().filter(differs).count();
    if apart > 0 {
        let wrong = format!("{apart} of the operators take no part in the election by Lease {}", order.name);
        let hint = "wait for the rollout, or give all operators the same leaderElection";
        results.add("all operators elect one leader", vec![wrong], (Health::Warning, hint));
    }
    let namespace = order.namespace.as_deref().unwrap_or(visit.system);
    let place = format!("Lease {namespace}/{}", order.name);
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{}", order.name);
    let now = SystemClock.now().saturating_add(visit.ahead.unwrap_or_default()).unwrap_or(Timestamp::MAX);
    let hint = format!(
        "look at the logs of the operators: kubectl logs --namespace {} --selector app.kubernetes.io/component=operator",
        visit.system
    );
    match held(visit.survey, &path, now).await {
        Ok(Ok(told)) => results.add(format!("{WANTED}: {told}"), Vec::new(), (Health::Failed, "")),
        Ok(Err(wrong)) => results.add(WANTED, vec![format!("{place} {wrong}")], (Health::Failed, &hint)),
        Err(Why::Gone) if is_guess => {}
        Err(Why::Gone) => results.add(WANTED, vec![format!("{place} does not exist")], (Health::Failed, &hint)),
        Err(why) => results.unseen(WANTED, &why, &format!("get leases.coordination.k8s.io in namespace {namespace}")),
    }
}

impl ProgramPod {
    /// The Lease by which the operator of the Pod leads.
    fn election(&self) -> Option<&LeaseOrder> {
        self.duties.as_ref()?.lease.as_ref()
    }
}

/// The holder of the Lease and the start of its lead, or the fault of the Lease. The clock of the holder may be wrong.
/// So a Lease that looks stale is watched for as long as it lasts.
async fn held(survey: &Survey, path: &str, now: Timestamp) -> Result<Result<String, String>, Why> {
    let first = survey.object(path).await?;
    if is_fresh(&first["spec"], now) {
        return Ok(holder(&first["spec"]));
    }
    let mut last = first.clone();
    let mut rest = lasts(&first["spec"]);
    while last["spec"] == first["spec"] && !rest.is_zero() {
        tokio::time::sleep(PAUSE).await;
        rest = rest.saturating_sub(PAUSE);
        last = survey.object(path).await?;
    }
    let renewed = first["spec"]["renewTime"].as_str().unwrap_or("never");
    let stale = |told: String| format!("is stale: the last renewal is of {renewed}, by {told}");
    let is_alive = last["spec"] != first["spec"];
    Ok(holder(&last["spec"]).and_then(|told| if is_alive { Ok(told) } else { Err(stale(told)) }))
}

/// True if the Lease has a holder that renewed it within its duration, by the clock of the API server.
fn is_fresh(spec: &Value, now: Timestamp) -> bool {
    let renewed = spec["renewTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let lasts = SignedDuration::try_from(lasts(spec)).unwrap_or_default();
    let age = renewed.map(|renewed| now.duration_since(renewed));
    holder(spec).is_ok() && age.is_some_and(|age| !age.is_negative() && age < lasts)
}

/// The duration of a Lease, of at most the time of a leader with the longest one.
fn lasts(spec: &Value) -> Duration {
    let given = spec["leaseDurationSeconds"].as_u64().unwrap_or_default();
    Duration::from_secs(given.clamp(1, LeasePeriods::MOST.as_secs()))
}

/// The holder and the start of its lead, such as `tokenry-operator-0 since 2026-11-29T12:00:00Z`.
fn holder(spec: &Value) -> Result<String, String> {
    let named = spec["holderIdentity"].as_str().filter(|name| !name.is_empty()).ok_or("has no holder")?;
    // The rest of the name tells the starts of one Pod apart.
    let pod = named.rsplit_once('_').map_or(named, |(pod, _)| pod);
    let since = spec["acquireTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let since = since.map(|since| format!(" since {}", since.strftime("%Y-%m-%dT%H:%M:%SZ"))).unwrap_or_default();
    Ok(format!("{pod}{since}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(renewed: &str) -> Value {
        json!({"holderIdentity": "tokenry-operator-0_a1", "leaseDurationSeconds": 15, "renewTime": renewed,
            "acquireTime": "2026-11-29T12:00:00.123456Z"})
    }

    #[test]
    fn a_leader_is_named_with_the_start_of_its_lead() {
        let told = holder(&spec("2026-11-29T12:00:00.000000Z"));
        assert_eq!(told.unwrap(), "tokenry-operator-0 since 2026-11-29T12:00:00Z");
        assert_eq!(holder(&json!({"holderIdentity": "bob", "acquireTime": "x"})).unwrap(), "bob");
        for spec in [json!(null), json!({}), json!({"holderIdentity": ""})] {
            assert_eq!(holder(&spec).unwrap_err(), "has no holder");
        }
    }

    #[test]
    fn a_lease_of_the_past_or_of_the_future_is_not_taken_for_fresh() {
        let now = "2026-11-29T12:00:10Z".parse().unwrap();
        assert!(is_fresh(&spec("2026-11-29T12:00:00.000000Z"), now));
        for renewed in ["2026-11-29T11:59:55.000000Z", "2026-11-29T12:00:11.000000Z", "rubbish"] {
            assert!(!is_fresh(&spec(renewed), now), "{renewed}");
        }
        assert!(!is_fresh(&json!({"renewTime": "2026-11-29T12:00:00.000000Z", "leaseDurationSeconds": 15}), now));
    }

    #[test]
    fn the_longest_lease_is_fresh_for_as_long_as_it_lasts() {
        let mut spec = spec("2026-11-29T12:00:00.000000Z");
        spec["leaseDurationSeconds"] = json!(LeasePeriods::MOST.as_secs());
        assert!(is_fresh(&spec, "2026-11-29T12:04:59Z".parse().unwrap()));
        assert!(!is_fresh(&spec, "2026-11-29T12:05:00Z".parse().unwrap()));
        spec["leaseDurationSeconds"] = json!(u64::MAX);
        assert_eq!(lasts(&spec), LeasePeriods::MOST);
    }
}
