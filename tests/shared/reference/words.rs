//! Conditions, reasons, metrics, annotations and labels: the words that other programs read.

use std::{path::Path, time::Duration};

use http::Method;
use tokenry::{
    crd::{EventName, Reason, name},
    outside::{
        Verb,
        events::Note,
        metrics::{Metrics, PassEnd, StoppedBy, WaitsFor},
        store::{Gist, NamedGist},
    },
};

use super::{
    page::{begin, cell, code, section, table},
    source::{Named, constants, variants},
};

pub fn conditions(root: &Path) -> String {
    let about = "Each condition carries `observedGeneration`, a reason and a message. Some conditions are present only \
                 while they are true.";
    let mut page = begin("Conditions", "`src/crd/condition.rs`", about);
    page.push('\n');
    let rows = constants(root, "src/crd/condition.rs").into_iter().map(|one| [code(&one.value), cell(&one.about)]);
    table(&mut page, ["condition", "meaning"], rows);
    page
}

pub fn reasons(root: &Path) -> String {
    let about = "A reason is one word. The lists up to Events belong to the operator, those after it to the verifier. \
                 Conditions, logs and metrics show them. [Troubleshooting](../troubleshooting.md) says \
                 which steps help. Events of one name, reason and text about one object within ten minutes are one \
                 Event with a count.";
    let mut page = begin("Reasons and events", "`src/crd/reason.rs` and the verifier's causes", about);
    let all = variants(root, "src/crd/reason.rs", "reasons!");
    let mut groups: Vec<&str> = all.iter().map(|one| &*one.group).collect();
    groups.dedup();
    for group in groups {
        section(&mut page, group.trim_end_matches('.'), "");
        table(&mut page, ["reason", "meaning"], rows(all.iter().filter(|one| one.group == group)));
    }
    section(&mut page, "Events", "An Event is named for its action. Its text has the reason.");
    table(&mut page, ["event", "meaning"], rows(variants(root, "src/crd/event_name.rs", "pub enum EventName").iter()));
    section(&mut page, "Causes of the verifier", "");
    let causes = variants(root, "src/verifier/cause.rs", "pub enum Cause");
    table(
        &mut page,
        ["reason", "meaning"],
        rows(causes.iter().filter(|one| !["Refused", "Flawed"].contains(&&*one.name))),
    );
    section(&mut page, "Causes of a question with a flaw", "");
    table(&mut page, ["reason", "meaning"], rows(variants(root, "src/verifier/flaw.rs", "pub enum Flaw").iter()));
    section(&mut page, "Causes for a valid token", "");
    table(&mut page, ["reason", "meaning"], rows(variants(root, "src/access/judge.rs", "pub enum Ground").iter()));
    page
}

fn rows<'a>(named: impl Iterator<Item = &'a Named>) -> impl Iterator<Item = [String; 2]> {
    named.map(|one| [code(&one.name), cell(&one.about)])
}

pub fn annotations_and_labels(root: &Path) -> String {
    let about = "Tokenry reads or writes these annotations and labels, and no others.";
    let mut page = begin("Annotations and labels", "`src/crd/name.rs` and `src/crd/workload.rs`", about);
    page.push('\n');
    let ours = |one: &Named| one.value.contains('/');
    let all = constants(root, "src/crd/name.rs");
    let restart = constants(root, "src/crd/workload.rs");
    // A prefix is followed by the name of an organization.
    let whole = |one: &Named| one.value.clone() + if one.value.ends_with('/') { "<organization>" } else { "" };
    let keys = all.iter().filter(|one| ours(one)).map(|one| [code(&whole(one)), cell(&one.about)]);
    // The key of a restart ends in the uid of the token.
    let restart = restart.iter().map(|one| [code(&format!("{}<uid>", one.value)), cell(&one.about)]);
    table(&mut page, ["key", "meaning"], keys.chain(restart));
    let managers = [name::MANAGER, name::VERIFIER];
    section(&mut page, "Field managers", "");
    let managers = all.iter().filter(|one| managers.contains(&&*one.value));
    table(&mut page, ["field manager", "meaning"], managers.map(|one| [code(&one.value), cell(&one.about)]));
    page
}

pub fn metrics() -> String {
    let about = "Operator and verifier serve these metrics at `/metrics` of port 8081, in the OpenMetrics text format. \
                 A label holds the name of a user's object only for tokens, and for verdicts of the verifier.";
    let mut page = begin("Metrics", "`src/outside/metrics`", about);
    page.push('\n');
    let text = sampled().text();
    let described = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let rows = described.map(|(name, help)| {
        let of = |line: &&str| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            ["{", " ", "_total{", "_total ", "_bucket{"].iter().any(|ending| rest.starts_with(ending))
        };
        let sample = text.lines().find(of).unwrap_or_else(|| panic!("nothing is counted by {name}"));
        let full = sample.split(['{', ' ']).next().expect("a sample has a name");
        let labels = sample.strip_prefix(full).and_then(|rest| rest.strip_prefix('{')).unwrap_or_default();
        let labels = labels.split('}').next().expect("labels end").split(',');
        let labels: Vec<_> = labels.filter_map(|label| label.split_once('=')).map(|(key, _)| code(key)).collect();
        [code(full), labels.join(", "), cell(help)]
    });
    table(&mut page, ["metric", "labels", "meaning"], rows);
    page
}

/// Something of everything that is counted.
fn sampled() -> Metrics {
    let metrics = Metrics::default();
    metrics.controller("ApiToken", 1).begin().end(PassEnd::Success);
    metrics.queue("ApiToken", "");
    metrics.request(&Method::GET, None);
    metrics.failure("ApiToken", "TookTooLong");
    metrics.noted("ApiToken", &Note::normal(EventName::Issued, Reason::FirstIssue, ""));
    let at = Some(jiff::Timestamp::UNIX_EPOCH);
    let gist = Gist { expires_at: at, rotates_at: at, ..Gist::default() };
    metrics.tokens(move || vec![NamedGist { namespace: "events".into(), name: "ci".into(), gist }]);
    metrics.decision("ApiToken", "Active");
    metrics.write("Secret", Verb::PATCH, Ok(()));
    metrics.verdicts("a/eem", "forward-auth", 200, "Allowed").count(Duration::ZERO);
    metrics.audit_dropped(0);
    metrics.events_dropped(0);
    metrics.leads("tokenry-operator", true);
    metrics.late_write(StoppedBy::Deadline);
    metrics.spans_dropped(0);
    metrics.objects("apitokens".into(), 1, 1);
    metrics.waiting(WaitsFor::News, 0);
    metrics.connections(1);
    metrics.certificate(jiff::Timestamp::UNIX_EPOCH);
    metrics.authority(jiff::Timestamp::UNIX_EPOCH);
    metrics.connections_refused("Crowded", 0);
    metrics.probe();
    metrics.ambiguous(0);
    metrics.unread_policies(0);
    metrics.stamped(true);
    metrics.heard("ApiToken".into(), Duration::ZERO);
    metrics
}
