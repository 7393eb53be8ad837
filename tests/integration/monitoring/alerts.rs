//! The alerts by simulated time: each fires in its condition after its duration, and is silent otherwise.

use std::{collections::BTreeSet, fs, process::Command};

use controlplane::{NAMESPACE, helm};
use serde_json::{Value, json};

use super::{alerts, prometheus::promtool, rules};
use crate::{
    book,
    harness::{
        grants::{CHART, template},
        root,
    },
};

/// Series of a sound release, a sample each 30 seconds. Simulated time begins in 1970.
const SOUND: [(&str, &str); 14] = [
    (READY, "1x240"),
    (VALID, "1x240"),
    (EXPIRES, "5184000x240"),
    (RENEWS, "2592000x240"),
    (LEADS, "1x240"),
    (STANDBY, "0x240"),
    (WORKS, "4x240"),
    (OBJECTS, "3x240"),
    (HEARD, "5x240"),
    (ACCEPTED, "0+10x240"),
    (REFUSED, "0+1x240"),
    (UNREAD, "0x240"),
    (AMBIGUOUS, "0x240"),
    (CERTIFICATE, "5184000x240"),
];

const READY: &str = r#"tokenry_token_ready{namespace="shop",name="ci",pod="o"}"#;
const VALID: &str = r#"tokenry_token_valid{namespace="shop",name="ci",pod="o"}"#;
const EXPIRES: &str = r#"tokenry_token_expiration_timestamp_seconds{namespace="shop",name="ci",pod="o"}"#;
const RENEWS: &str = r#"tokenry_token_renewal_timestamp_seconds{namespace="shop",name="ci",pod="o"}"#;
const LEADS: &str = r#"leader_election_master_status{namespace="tokenry-system",name="tokenry-operator",pod="o"}"#;
const STANDBY: &str = r#"leader_election_master_status{namespace="tokenry-system",name="tokenry-operator",pod="p"}"#;
const WORKS: &str =
    r#"controller_runtime_max_concurrent_reconciles{namespace="tokenry-system",pod="o",controller="apitoken"}"#;
const OBJECTS: &str = r#"tokenry_verifier_objects{namespace="tokenry-system",pod="v",kind="apitokens"}"#;
const HEARD: &str = r#"tokenry_heard_age_seconds{namespace="tokenry-system",pod="v",kind="apitokens"}"#;
const ACCEPTED: &str =
    r#"tokenry_verifier_verdicts_total{namespace="tokenry-system",instance="shop/eem",status="200",reason="Allowed"}"#;
const REFUSED: &str =
    r#"tokenry_verifier_verdicts_total{namespace="tokenry-system",instance="shop/eem",status="401",reason="Expired"}"#;
const FAULTY: &str =
    r#"tokenry_verifier_verdicts_total{namespace="tokenry-system",instance="shop/eem",status="503",reason="Crowded"}"#;
const REVOKED: &str =
    r#"tokenry_verifier_verdicts_total{namespace="tokenry-system",instance="shop/eem",status="401",reason="Revoked"}"#;
const FAILURES: &str = r#"tokenry_failures_total{namespace="tokenry-system",kind="ApiToken",reason="PublishFailed"}"#;
const LOST: &str = r#"tokenry_verifier_audit_dropped_total{namespace="tokenry-system",pod="v"}"#;
const UNREAD: &str = r#"tokenry_verifier_unread_policies{namespace="tokenry-system",pod="v"}"#;
const AMBIGUOUS: &str = r#"tokenry_verifier_ambiguous_ids{namespace="tokenry-system",pod="v"}"#;
const CERTIFICATE: &str =
    r#"tokenry_verifier_certificate_expiration_timestamp_seconds{namespace="tokenry-system",pod="v"}"#;

/// Series of another release in the same namespace.
const OTHER_WORKS: &str =
    r#"controller_runtime_max_concurrent_reconciles{namespace="tokenry-system",app_kubernetes_io_instance="other"}"#;
const OTHER_OBJECTS: &str =
    r#"tokenry_verifier_objects{namespace="tokenry-system",app_kubernetes_io_instance="other",pod="x"}"#;
const OTHER_HEARD: &str =
    r#"tokenry_heard_age_seconds{namespace="tokenry-system",app_kubernetes_io_instance="other",pod="x"}"#;
const OTHER_READY: &str =
    r#"tokenry_token_ready{namespace="shop",app_kubernetes_io_instance="other",name="theirs",pod="y"}"#;

/// No sample at all.
const NEVER: &str = "_x240";

/// Series in place of those of a sound release, an alert, a time before it fires and a time when it does.
type Trouble = (&'static [(&'static str, &'static str)], &'static str, &'static str, &'static str);

/// The conditions of the alerts.
const TROUBLES: [Trouble; 19] = [
    (&[(EXPIRES, "604000x240"), (RENEWS, NEVER)], "TokenryValueExpires", "4m", "6m"),
    (&[(EXPIRES, "605700x240"), (RENEWS, NEVER)], "TokenryValueExpires", "19m", "21m"),
    (&[(RENEWS, "60x240")], "TokenryRotationOverdue", "16m", "18m"),
    (&[(READY, "0x240")], "TokenryTokenNotReady", "14m", "16m"),
    (&[(LEADS, "1x20 0x220")], "TokenryNoLeader", "14m", "16m"),
    (&[(LEADS, NEVER), (STANDBY, NEVER), (WORKS, NEVER)], "TokenryNoLeader", "4m", "6m"),
    (&[(LEADS, NEVER), (STANDBY, NEVER), (WORKS, NEVER), (OTHER_WORKS, "4x240")], "TokenryNoLeader", "4m", "6m"),
    (&[(FAILURES, "0+1x240")], "TokenryOperatorFailing", "14m", "17m"),
    (&[(OBJECTS, "3x20 _x220")], "TokenryVerifierAbsent", "18m", "21m"),
    (&[(OBJECTS, NEVER)], "TokenryVerifierAbsent", "4m", "6m"),
    (&[(OBJECTS, NEVER), (OTHER_OBJECTS, "3x240")], "TokenryVerifierAbsent", "4m", "6m"),
    (&[(HEARD, "0+30x240")], "TokenryOutOfTouch", "3m", "4m"),
    (&[(FAULTY, "0+1x240")], "TokenryVerifierErrors", "4m", "7m"),
    (&[(REVOKED, "_x40 1x200")], "TokenryRevokedValueUsed", "19m", "21m"),
    (&[(REVOKED, "1x60 2x180")], "TokenryRevokedValueUsed", "29m", "31m"),
    (&[(LOST, "_x40 7x200")], "TokenryAuditLinesLost", "19m", "21m"),
    (&[(UNREAD, "1x240")], "TokenryPolicyUnread", "4m", "6m"),
    (&[(AMBIGUOUS, "1x240")], "TokenryIdAmbiguous", "4m", "6m"),
    (&[(CERTIFICATE, "1800000x240")], "TokenryCertificateExpires", "4m", "6m"),
];

/// Worlds in which nobody is called: series in place of those of a sound release, and the reason for the silence.
const QUIET: [(&str, &[(&str, &str)]); 11] = [
    ("all is sound", &[]),
    ("the value expires soon, and is renewed", &[(EXPIRES, "20000x240"), (RENEWS, "10000x240")]),
    ("a suspended value ends", &[(EXPIRES, "20000x240"), (RENEWS, NEVER), (VALID, "0x240")]),
    ("a value never expires", &[(EXPIRES, NEVER), (RENEWS, NEVER)]),
    ("a token is not ready for a while", &[(READY, "0x28 1x212")]),
    ("another operator leads at once", &[(LEADS, "1x20 0x220"), (STANDBY, "0x22 1x218")]),
    ("an operator works without an election", &[(LEADS, NEVER), (STANDBY, NEVER)]),
    ("a single failure", &[(FAILURES, "0x40 1x200")]),
    ("less than a twentieth of the answers are errors", &[(FAULTY, "0+0.5x240")]),
    ("another release has troubles", &[(OTHER_HEARD, "0+30x240"), (OTHER_READY, "0x240")]),
    ("the API server speaks each minute", &[(HEARD, "0 30 60 0 30 60 0 30 60 0 30 60")]),
];

/// The series with the label of this release, unless it names another.
fn labelled(series: &str) -> String {
    if series.contains("app_kubernetes_io_instance=") {
        return series.to_owned();
    }
    series.replacen('{', r#"{app_kubernetes_io_instance="tokenry","#, 1)
}

/// The series of a sound release, with some of them replaced or added.
fn series(changed: &[(&str, &str)]) -> Vec<Value> {
    let kept = SOUND.iter().filter(|(name, _)| !changed.iter().any(|(other, _)| other == name));
    kept.chain(changed).map(|(name, values)| json!({"series": labelled(name), "values": values})).collect()
}

/// A question to promtool: the alerts that fire at a time. No alert is expected with an empty list.
fn expected(at: &str, alerts: &[&Value]) -> Value {
    let labels = |alert: &&Value| {
        let (name, severity) = (&alert["alert"], &alert["labels"]["severity"]);
        json!({"labels": format!("{{alertname={name}, severity={severity}}}"), "value": 1})
    };
    json!({
        "expr": r#"max by (alertname, severity) (ALERTS{alertstate="firing"})"#,
        "eval_time": at,
        "exp_samples": alerts.iter().map(labels).collect::<Vec<_>>(),
    })
}

#[test]
fn each_alert_fires_in_its_condition_after_its_duration_and_is_silent_otherwise() {
    let rules = rules("");
    let all = alerts(&rules);
    let named = |name: &str| all.iter().find(|alert| alert["alert"] == name).unwrap_or_else(|| panic!("{name}"));
    let mut tests = Vec::new();
    for (changed, alert, before, after) in TROUBLES {
        let asked = [expected(before, &[]), expected(after, &[named(alert)])];
        tests.push(
            json!({"name": alert, "interval": "30s", "input_series": series(changed), "promql_expr_test": asked}),
        );
    }
    for (name, changed) in QUIET {
        let asked: Vec<_> = (1..12).map(|nth| expected(&format!("{}m", nth * 10), &[])).collect();
        tests
            .push(json!({"name": name, "interval": "30s", "input_series": series(changed), "promql_expr_test": asked}));
    }
    let file = json!({"rule_files": ["rules.json"], "evaluation_interval": "30s", "tests": tests});
    let told = promtool("alerts", &["test", "rules"], &[("test.json", &file), ("rules.json", &rules)]);
    told.unwrap_or_else(|told| panic!("{told}"));
    let tried: BTreeSet<_> = TROUBLES.iter().map(|(_, alert, ..)| *alert).collect();
    assert_eq!(tried, all.iter().map(|alert| alert["alert"].as_str().unwrap()).collect());
}

#[test]
fn promtool_finds_no_fault_in_the_alerts_of_any_values() {
    let several = "scopedNamespace=team-a,additionalScopedNamespaces={team-b}";
    for values in ["", "scopedNamespace=team-a", several, "fullnameOverride=issuer,namespaceOverride=issuers"] {
        let told = promtool("rules", &["check", "rules", "--lint=all", "--lint-fatal"], &[("r.json", &rules(values))]);
        assert!(told.as_ref().is_ok_and(|told| told.contains("SUCCESS: 13 rules found")), "{values}: {told:?}");
    }
}

#[test]
fn each_alert_says_its_severity_and_its_section_of_the_troubleshooting_page() {
    let anchors = book::anchors("docs/troubleshooting.md");
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let sections: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("### Tokenry")).collect();
    let all = alerts(&rules("metrics.prometheusRule.runbookUrl=https://docs.example.com/troubleshooting.html"));
    for alert in &all {
        let (name, told) = (alert["alert"].as_str().unwrap(), &alert["annotations"]);
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{alert}");
        assert!(told["summary"].as_str().is_some_and(|summary| !summary.contains("{{")), "one line for all: {alert}");
        let url = told["runbook_url"].as_str().unwrap();
        let anchor = url.strip_prefix("https://docs.example.com/troubleshooting.html#").unwrap();
        assert!(anchors.contains(anchor) && sections.contains(name.trim_start_matches("Tokenry")), "{name}: {url}");
        let (_, command) = told["description"].as_str().unwrap().rsplit_once("kubectl tokenry ").unwrap();
        let mut docs = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        let output = docs.args(command.split(' ')).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(&format!("### {name}")), "kubectl tokenry {command}: {text}");
    }
    assert_eq!(sections.len(), all.len(), "a section for each alert, and no other");
}

#[test]
fn thresholds_and_durations_are_values_and_an_alert_can_be_left_out() {
    let values = ["for=1m", "notReadyFor=2m", "expiresWithinDays=3", "certificateExpiresWithinDays=4"];
    let values = [&values[..], &["outOfTouchSeconds=77", "errorPercent=2", "disabled={TokenryNoLeader}"]].concat();
    let set: Vec<_> = values.iter().map(|value| format!("metrics.prometheusRule.{value}")).collect();
    let all = alerts(&rules(&set.join(",")));
    let of = |name: &str| all.iter().find(|alert| alert["alert"] == name);
    for (name, lasts, limit) in [
        ("TokenryValueExpires", json!("1m"), "< 259200"),
        ("TokenryTokenNotReady", json!("2m"), "== 0"),
        ("TokenryCertificateExpires", json!("1m"), "< 345600"),
        ("TokenryOutOfTouch", Value::Null, "> 77"),
        ("TokenryVerifierErrors", json!("1m"), "> 2"),
    ] {
        let alert = of(name).unwrap();
        assert_eq!(alert["for"], lasts, "{name}");
        assert!(alert["expr"].as_str().unwrap().contains(limit), "{alert}");
    }
    assert!(of("TokenryNoLeader").is_none());
    let set = ["--set", "metrics.prometheusRule.enabled=true,metrics.prometheusRule.disabled={TokenryNone}"];
    let told = template(&[&super::SERVED[..], &set].concat()).unwrap_err();
    assert!(told.contains("there is no alert TokenryNone. Alerts: TokenryValueExpires, "), "{told}");
}

#[test]
fn alerts_that_could_never_fire_are_left_out_and_the_notes_say_so() {
    let without = "metrics.perToken=false,metrics.prometheusRule.disabled={TokenryTokenNotReady}";
    let (all, kept) = (alerts(&rules("")), alerts(&rules(without)));
    let about_tokens = |alert: &Value| alert["expr"].as_str().unwrap().contains("tokenry_token_");
    assert!(kept.iter().all(|alert| !about_tokens(alert)), "{kept:?}");
    assert_eq!(all.iter().filter(|alert| !about_tokens(alert)).count(), kept.len());
    let told = |set: &str| {
        let rule = ["--set", "metrics.prometheusRule.enabled=true", "--set", set];
        let args = ["install", "tokenry", CHART, "--dry-run=client", "--namespace", NAMESPACE];
        helm(&[&args[..], &rule].concat())
            .unwrap()
            .contains("There are no alerts about tokens, because metrics.perToken")
    };
    assert_eq!([told("metrics.perToken=false"), told("metrics.perToken=true")], [true, false]);
}

#[test]
fn alerts_about_tokens_are_those_of_the_served_namespaces() {
    for (values, namespaces) in [
        ("scopedNamespace=team-a", r#"namespace="team-a""#),
        ("scopedNamespace=team-a,additionalScopedNamespaces={b,c}", r#"namespace=~"team-a|b|c""#),
    ] {
        let scoped = alerts(&rules(values));
        let about_tokens = scoped.iter().filter(|alert| alert["expr"].as_str().unwrap().contains("tokenry_token_"));
        let exprs: Vec<_> = about_tokens.map(|alert| alert["expr"].as_str().unwrap()).collect();
        assert_eq!(exprs.len(), 3);
        for expr in exprs {
            let named = expr.split("tokenry_token_").skip(1);
            let wanted = format!(r#"{{{namespaces},app_kubernetes_io_instance="tokenry"}}"#);
            let all = { named }.all(|rest| rest.split(['(', ')']).next().unwrap().ends_with(&wanted));
            assert!(all, "{expr}");
        }
    }
}
