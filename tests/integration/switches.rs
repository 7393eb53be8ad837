//! Every switch of the chart that is off takes its rights away, and no other right.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use tokenry::{
    exposure::PieceKind,
    operator::{CERTIFYING, ELECTING, GRANTING, exposing_rights},
    outside::reviewer::REVIEWING,
};

use crate::{
    chart::told,
    harness::{
        evidence::Right,
        grants::{Grants, rendered},
        root,
    },
};

/// A switch, the values beside it, and the rights that it takes from an account when it is off.
struct Switch {
    path: &'static str,
    beside: &'static str,
    takes: Vec<String>,
}

const OPERATOR: &str = "tokenry-operator";
const VERIFIER: &str = "tokenry-verifier";

fn of(account: &str, rights: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    rights.into_iter().map(|right| format!("{account}: {}", right.to_string())).collect()
}

/// Every switch that rights depend on.
fn switches() -> Vec<Switch> {
    let switch = |path, beside, takes| Switch { path, beside, takes };
    let workloads = ["deployments", "statefulsets", "daemonsets"];
    let restarts = workloads.iter().flat_map(|kind| ["get", "patch"].map(|verb| format!("{verb} {kind}.apps")));
    let use_of_tokens = of(VERIFIER, ["patch apitokens.tokenry.dev/status"]);
    let certificate = of(OPERATOR, CERTIFYING);
    let policy = of(OPERATOR, ["get backendtlspolicies.gateway.networking.k8s.io"]);
    // The keeper of an Instance may ask about its tokens, and let others ask.
    let keeper = of("tokenry-admin", ["introspect instances.tokenry.dev"]);
    let reviews = [of(VERIFIER, REVIEWING), keeper].concat();
    let reader = of("tokenry-metrics-reader", ["get /metrics"]);
    let scrapers = [of(OPERATOR, REVIEWING), of(VERIFIER, REVIEWING), reader].concat();
    vec![
        switch("restart.enabled", "", of(OPERATOR, restarts)),
        switch("grants.enabled", "grants.enabled=true", of(OPERATOR, GRANTING)),
        switch("leaderElection.enabled", "", of(OPERATOR, ELECTING)),
        switch("admission.enabled", "grants.enabled=true", use_of_tokens),
        switch("verifier.tls.enabled", "", certificate),
        switch("exposure.askByHttps", "", policy),
        switch("verifier.introspection.enabled", "verifier.introspection.enabled=true", reviews),
        switch("metrics.secure.enabled", "metrics.secure.enabled=true", scrapers),
    ]
}

/// The switches that no right depends on.
const WITHOUT_RIGHTS: [&str; 19] = [
    "crds.enabled",
    "crds.keep",
    "admission.requireOwner",
    "exposure.traefikSafeNaming",
    "exposure.probeLocal",
    "highAvailability.enabled",
    "helmTest.enabled",
    "metrics.perToken",
    "traces.followProxy",
    "operator.podDisruptionBudget.enabled",
    "verifier.podDisruptionBudget.enabled",
    "operator.networkPolicy.enabled",
    "verifier.networkPolicy.enabled",
    "verifier.autoscaling.enabled",
    "metrics.serviceMonitor.enabled",
    "metrics.podMonitor.enabled",
    "metrics.prometheusRule.enabled",
    "metrics.grafanaDashboard.enabled",
    "verifier.plainHttp",
];

/// The rights of each account with these values, in words.
fn rights(sets: &str) -> BTreeSet<String> {
    rights_of(&["--set", sets])
}

/// The rights of each account with these arguments of helm, in words.
fn rights_of(args: &[&str]) -> BTreeSet<String> {
    let all = Grants::of(&rendered(args)).all();
    let of_holder = |(holder, rights): (String, BTreeSet<Right>)| {
        rights.into_iter().map(move |right| format!("{holder}: {}", told(&right))).collect::<Vec<_>>()
    };
    all.into_iter().flat_map(of_holder).collect()
}

/// The paths of all values that are true or false.
fn all_switches(values: &Value, path: &str) -> Vec<String> {
    match values {
        Value::Bool(_) => vec![path.to_owned()],
        Value::Object(inner) => {
            let dot = if path.is_empty() { "" } else { "." };
            inner.iter().flat_map(|(key, inner)| all_switches(inner, &format!("{path}{dot}{key}"))).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_switch_that_is_off_takes_its_rights_away_and_no_other() {
    for Switch { path, beside, takes } in switches() {
        let on = format!("log.level=info,{beside}").trim_end_matches(',').to_owned();
        let (with, without) = (rights(&on), rights(&format!("{on},{path}=false")));
        let taken: BTreeSet<_> = with.difference(&without).cloned().collect();
        // Another right may need the same verb on the same kind.
        let mut wanted: BTreeSet<_> = takes.into_iter().collect();
        wanted.retain(|right| with.contains(right));
        assert!(!taken.is_empty(), "{path}");
        assert_eq!(taken, wanted, "{path}");
        assert!(without.is_subset(&with), "{path} grants something when it is off");
    }
    for path in WITHOUT_RIGHTS {
        let on = format!("{path}=true");
        assert_eq!(rights(&on), rights(&format!("{path}=false")), "{path}");
    }
}

#[test]
fn a_kind_that_is_not_exposed_and_all_rights_can_be_switched_off() {
    let (all, none) = (rights("log.level=info"), rights_of(&["--set-json", "exposure.kinds=[]"]));
    let kinds = [PieceKind::NetworkPolicy, PieceKind::HttpRoute, PieceKind::Ingress];
    let wanted: BTreeSet<_> = of(OPERATOR, kinds.into_iter().flat_map(exposing_rights)).into_iter().collect();
    assert_eq!(all.difference(&none).cloned().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(rights("rbac.create=false"), BTreeSet::new());
}

#[test]
fn each_switch_is_tried() {
    let values = fs::read_to_string(root().join("charts/tokenry/values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let tried: Vec<_> = switches().iter().map(|switch| switch.path).chain(WITHOUT_RIGHTS).collect();
    // These have a test of their own. The network policies, the accounts and the rules of a Service give no rights.
    let elsewhere = ["rbac.create", "rbac.aggregateClusterRoles", "scopedRBAC"];
    let inner = ["podSecurityContext.", "securityContext.", "networkPolicy.", "serviceAccount.", ".honorLabels"];
    let untried = all_switches(&values, "").into_iter().filter(|path| {
        !tried.contains(&&**path) && !elsewhere.contains(&&**path) && !inner.iter().any(|part| path.contains(part))
    });
    assert_eq!(
        untried.collect::<Vec<_>>(),
        Vec::<String>::new(),
        "add them to a list of tests/integration/switches.rs"
    );
}
