//! `kubectl tokenry status`: one page about a token.

use std::fmt::Write;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{pick, times::both, view::last_used};
use crate::{
    cli::{
        Error, client,
        connection::Connection,
        screen::{bold, mark},
    },
    crd::{
        ApiToken,
        api_token::{ApiTokenStatus, DeliveryMode},
    },
    outside::{Clock, SystemClock},
    token::{Record, State},
};

#[derive(Args)]
pub(crate) struct Status {
    /// Name of the ApiToken
    name: String,
    #[command(flatten)]
    connection: Connection,
}

impl Status {
    pub(crate) fn main(self) -> Result<(), Error> {
        let token = client::block_on(async {
            let place = self.connection.open().await?;
            pick::one(&place, &self.name).await
        })?;
        for line in page(&token, SystemClock.now()).lines() {
            println!("{line}");
        }
        Ok(())
    }
}

/// The page about a token.
fn page(token: &ApiToken, now: Timestamp) -> String {
    let status = token.status.clone().unwrap_or_default();
    let mut page = String::new();
    heading(&mut page, &format!("ApiToken {}/{}", token.namespace().unwrap_or_default(), token.name_any()));
    facts(&mut page, &about(token, &status));
    heading(&mut page, "Conditions");
    status.conditions.iter().for_each(|condition| _ = writeln!(page, "  {}", state(condition)));
    if status.conditions.is_empty() {
        let _ = writeln!(page, "  none yet: the operator has not seen this token; is it running?");
    }
    heading(&mut page, "Values");
    status.records.iter().rev().for_each(|record| _ = writeln!(page, "  {}", value(record, &status, now)));
    if status.records.is_empty() {
        let _ = writeln!(page, "  none yet");
    }
    heading(&mut page, "Next");
    next(token, &status, now).iter().for_each(|step| _ = writeln!(page, "  {step}"));
    page
}

fn heading(page: &mut String, text: &str) {
    let _ = writeln!(page, "{}", bold(text));
}

fn facts(page: &mut String, facts: &[(&str, String)]) {
    for (name, text) in facts.iter().filter(|(_, text)| !text.is_empty()) {
        let text = crate::outside::foreign::written(text, 1024);
        let _ = writeln!(page, "  {:<14}{text}", format!("{name}:"));
    }
}

fn about(token: &ApiToken, status: &ApiTokenStatus) -> Vec<(&'static str, String)> {
    let spec = &token.spec;
    let effective = status.effective.clone().unwrap_or_default();
    let shown = status.delivery == Some(DeliveryMode::Once);
    let secret = status.secret_name.clone().unwrap_or_default();
    let keys = spec.secret.as_ref().map(|secret| secret.data.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let keys = [&["token", "token-id", "endpoint", "organization"].map(str::to_owned)[..], &keys].concat().join(", ");
    vec![
        ("Name", spec.display_name.clone().unwrap_or_default()),
        ("Description", spec.description.clone().unwrap_or_default()),
        ("Instance", spec.instance_ref.name.to_string()),
        ("Owner", spec.owner.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("Account", status.account.as_ref().map(|account| account.name.clone()).unwrap_or_default()),
        ("Role", effective.role.unwrap_or_default()),
        ("Actions", effective.actions.join(", ")),
        ("Policies", effective.policies.join(", ")),
        ("Organizations", effective.organizations.map(|names| names.join(", ")).unwrap_or_default()),
        ("Projects", effective.projects.map(|names| names.join(", ")).unwrap_or_default()),
        ("Limited by", effective.limited_by.iter().map(|cause| format!("{cause:?}")).collect::<Vec<_>>().join(", ")),
        ("Endpoint", status.endpoint.clone().unwrap_or_default()),
        ("Secret", if secret.is_empty() { secret } else { format!("{secret} ({keys})") }),
        ("Delivery", if shown { "the value is shown once".to_owned() } else { String::new() }),
    ]
}

/// A condition in a line. A condition that is present only while something is wrong is marked as such.
fn state(condition: &Condition) -> String {
    const ALARMS: [&str; 8] = [
        "Stalled",
        "Reconciling",
        "ExpiringSoon",
        "LimitedByAccount",
        "OwnerStale",
        "StampsMissing",
        "GrantsMissing",
        "DanglingMember",
    ];
    let is_alarm = ALARMS.contains(&&*condition.type_);
    let is_well = (condition.status == "True") != is_alarm;
    let message = if condition.message.is_empty() { String::new() } else { format!(": {}", condition.message) };
    mark(is_well, &format!("{}={} {}{message}", condition.type_, condition.status, condition.reason))
}

/// A generation on its time line.
fn value(record: &Record, status: &ApiTokenStatus, now: Timestamp) -> String {
    let end = record.end().map_or_else(
        || "never expires".to_owned(),
        |end| {
            let verb = if end <= now { "ended" } else { "ends" };
            format!("{verb} {}", both(end, now))
        },
    );
    let used = status.used().into_iter().find(|used| used.generation == record.generation);
    let used =
        used.map_or_else(|| "never used".to_owned(), |used| format!("last used {}", both(used.last_used_at.0, now)));
    let is_valid = record.is_valid(now) && record.state != State::Revoked;
    let text =
        format!("{} {:?}, made {}, {end}, {used}", record.generation, record.state, both(record.created_at.0, now));
    mark(is_valid, &text)
}

/// The next events in the life of the token.
fn next(token: &ApiToken, status: &ApiTokenStatus, now: Timestamp) -> Vec<String> {
    if let Some(ended) = &status.revocation {
        return vec![format!(
            "nothing: the token ended {} ({:?}); make another one",
            both(ended.at.0, now),
            ended.reason
        )];
    }
    let mut next = Vec::new();
    if !token.spec.active {
        next.push("the token is suspended: kubectl tokenry resume lets it in again".to_owned());
    }
    match (&status.rotates_at, &status.expires_at) {
        (Some(at), _) => next.push(format!("a new value at {}", both(at.0, now))),
        (None, Some(end)) => next.push(format!("no new value is scheduled; the value ends at {}", both(end.0, now))),
        (None, None) => next.push("no new value is scheduled, and no end".to_owned()),
    }
    if let Some(at) = last_used(status) {
        next.push(format!("last used {}", both(at, now)));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page_says_what_is_and_what_will_be() {
        let record = |generation: i64, state: &str, end: &str| {
            json!({"generation": generation, "id": "i", "sha256": "0".repeat(64), "state": state,
                "createdAt": "2027-01-01T00:00:00Z", "publishedAt": "2027-01-01T00:00:00Z", "expiresAt": end})
        };
        let token: ApiToken = serde_json::from_value(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "ci", "namespace": "a"},
            "spec": {"instanceRef": {"name": "eem"}, "owner": "user:alice", "description": "nightly \u{1b}[31mexport"},
            "status": {
                "conditions": [
                    {"type": "Valid", "status": "True", "reason": "Active", "message": "", "lastTransitionTime": "2027-01-01T00:00:00Z"},
                    {"type": "Stalled", "status": "True", "reason": "Invalid", "message": "m", "lastTransitionTime": "2027-01-01T00:00:00Z"},
                ],
                "records": [record(1, "Superseded", "2027-01-02T00:00:00Z"), record(2, "Active", "2027-04-01T00:00:00Z")],
                "use": [{"generation": 2, "firstUsedAt": "2027-01-01T01:00:00Z", "lastUsedAt": "2027-01-02T01:00:00Z"}],
                "secretName": "ci", "expiresAt": "2027-04-01T00:00:00Z", "rotatesAt": "2027-03-01T00:00:00Z",
            },
        }))
        .unwrap();
        let page = page(&token, "2027-01-03T00:00:00Z".parse().unwrap());
        let lines: Vec<_> = page.lines().collect();
        for line in [
            "ApiToken a/ci",
            "  Owner:        user:alice",
            "  Secret:       ci (token, token-id, endpoint, organization)",
            "  √ Valid=True Active",
            "  × Stalled=True Invalid: m",
            "  √ 2 Active, made 2027-01-01T00:00:00Z (2d ago), ends 2027-04-01T00:00:00Z (in 88d), last used 2027-01-02T01:00:00Z (23h ago)",
            "  × 1 Superseded, made 2027-01-01T00:00:00Z (2d ago), ended 2027-01-02T00:00:00Z (24h ago), never used",
            "  a new value at 2027-03-01T00:00:00Z (in 57d)",
        ] {
            assert!(lines.contains(&line), "{line} is missing from\n{page}");
        }
        assert!(!page.contains('\u{1b}'), "{page}");
    }
}
