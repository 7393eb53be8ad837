//! `kubectl tokenry status`: one page about a token.

use std::fmt::Write;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt;

use super::{
    pick, plan, show,
    times::{both, relative},
    view::{self, last_used},
    wait,
};
use crate::{
    cli::{
        Error,
        connection::{Connection, Workplace},
        names::{self, Nameable},
        output::MAX_LINE,
        screen::{Health, bold, mark, say},
    },
    crd::{
        ApiToken,
        api_token::{ApiTokenStatus, RotationSchedule},
        condition,
    },
    outside::{Clock, SystemClock, foreign::written},
    token::{Record, State},
};

#[derive(Args)]
pub(crate) struct Status {
    /// Name of the ApiToken
    #[arg(add = names::of(Nameable::Token), value_parser = names::token)]
    name: String,
    #[command(flatten)]
    connection: Connection,
}

/// The most Events that the page shows.
const MAX_EVENTS: usize = 10;

/// The objects around a token, as far as the user may list them. Each is in lines.
#[derive(Debug, Default)]
struct Surroundings {
    readers: Vec<String>,
    events: Vec<String>,
    /// The lists that the user may not read.
    unknown: Vec<String>,
}

impl Status {
    pub(crate) fn main(self) -> Result<(), Error> {
        let now = SystemClock.now();
        let (token, around) = self.connection.work(async |place| {
            let token = pick::one(place, &self.name, pick::LOOKS).await?;
            let around = Surroundings::of(place, &token, now).await?;
            Ok((token, around))
        })?;
        say(&page(&token, &around, now));
        Ok(())
    }
}

impl Surroundings {
    async fn of(place: &Workplace, token: &ApiToken, now: Timestamp) -> Result<Self, Error> {
        let effects = plan::effects(place, token, false).await?;
        let (readers, mut unknown) = (effects.read_by(), effects.unknown);
        let listed = place.desk.events(&place.namespace, &token.uid().unwrap_or_default()).await;
        let events = told(unknown.permitted(listed)?, now);
        Ok(Self { readers, events, unknown: unknown.told() })
    }
}

/// The last Events, the latest first.
fn told(mut events: Vec<Event>, now: Timestamp) -> Vec<String> {
    events.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
    let latest = events.into_iter().take(MAX_EVENTS);
    let line = |event: Event| {
        // The clock of the operator may be ahead.
        let at = last_seen(&event).map_or_else(String::new, |at| relative(at.min(now), now));
        let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
        format!("{at:<8} {} {reason}: {message}", event.type_.unwrap_or_default())
    };
    latest.map(line).collect()
}

/// The time of an Event, or of its last repetition.
fn last_seen(event: &Event) -> Option<Timestamp> {
    let repeated = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|at| at.0);
    let once = event.event_time.as_ref().map(|at| at.0);
    repeated.or(once).or_else(|| event.last_timestamp.as_ref().map(|at| at.0))
}

/// The page about a token.
fn page(token: &ApiToken, around: &Surroundings, now: Timestamp) -> String {
    let status = token.status.clone().unwrap_or_default();
    let mut page = String::new();
    heading(&mut page, &format!("ApiToken {}/{}", token.namespace().unwrap_or_default(), token.name_any()));
    facts(&mut page, &about(token, &status));
    heading(&mut page, "Conditions");
    conditions(token, &status).iter().for_each(|line| _ = writeln!(page, "  {line}"));
    heading(&mut page, "Values");
    let is_revoked = token.spec.revoked;
    status.records.iter().rev().for_each(|record| _ = writeln!(page, "  {}", value(record, &status, is_revoked, now)));
    if status.records.is_empty() {
        let _ = writeln!(page, "  none yet");
    }
    section(&mut page, "Readers", &around.readers);
    section(&mut page, "Events", &around.events);
    section(&mut page, "Not shown", &around.unknown);
    section(&mut page, "Next", &next(token, &status, now));
    page
}

/// A heading, and lines that may contain text of other users. Nothing if there are none.
fn section(page: &mut String, name: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    heading(page, name);
    lines.iter().for_each(|line| _ = writeln!(page, "  {}", written(line, MAX_LINE)));
}

fn heading(page: &mut String, text: &str) {
    let _ = writeln!(page, "{}", bold(text));
}

fn facts(page: &mut String, facts: &[(&str, String)]) {
    for (name, text) in facts.iter().filter(|(_, text)| !text.is_empty()) {
        let text = written(text, MAX_LINE);
        let _ = writeln!(page, "  {:<15}{text}", format!("{name}:"));
    }
}

fn about(token: &ApiToken, status: &ApiTokenStatus) -> Vec<(&'static str, String)> {
    let spec = &token.spec;
    let effective = status.effective.clone().unwrap_or_default();
    let shown = show::is_shown_once(token);
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
        ("Organization", status.organization.clone().unwrap_or_default()),
        ("Organizations", effective.organizations.map(|names| names.join(", ")).unwrap_or_default()),
        ("Projects", effective.projects.map(|names| names.join(", ")).unwrap_or_default()),
        ("Limited by", effective.limited_by.iter().map(|cause| format!("{cause:?}")).collect::<Vec<_>>().join(", ")),
        ("Endpoint", status.endpoint.clone().unwrap_or_default()),
        ("Secret", if secret.is_empty() { secret } else { format!("{secret} ({keys})") }),
        ("Delivery", if shown { "the value is shown once".to_owned() } else { String::new() }),
    ]
}

/// A line for each condition. If they describe an earlier spec, the first line says so. `Valid` is then the verdict of
/// the current spec, as far as that alone decides it.
fn conditions(token: &ApiToken, status: &ApiTokenStatus) -> Vec<String> {
    if status.conditions.is_empty() {
        return vec!["none yet: the operator has not seen this token; is it running?".to_owned()];
    }
    let late = "the operator has not seen the current spec yet, so these conditions may be old; is it running?";
    let late = (!view::is_current(token)).then(|| mark(Health::Warning, late));
    let line = |condition: &Condition| match view::refused_by_spec(token) {
        Some((reason, why)) if condition.type_ == condition::VALID => {
            mark(Health::Failed, &format!("Valid=False {reason}: {why}, so verifiers refuse the token"))
        }
        Some(_) | None => state(condition),
    };
    late.into_iter().chain(status.conditions.iter().map(line)).collect()
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

/// A generation on its time line. `is_revoked`: the spec revokes the token. The status may not say so yet.
fn value(record: &Record, status: &ApiTokenStatus, is_revoked: bool, now: Timestamp) -> String {
    let ended =
        status.revocation.as_ref().map(|ended| ended.at.0).filter(|at| record.end().is_none_or(|end| *at < end));
    let is_revoked = is_revoked || record.state == State::Revoked;
    let end = match ended.or(record.end()) {
        // A revoked value ends before its expiry.
        None if is_revoked => "ended".to_owned(),
        Some(end) if is_revoked && end > now => "ended".to_owned(),
        Some(end) if end <= now => format!("ended {}", both(end, now)),
        Some(end) => format!("ends {}", both(end, now)),
        None => "never expires".to_owned(),
    };
    let used = status.used().into_iter().find(|used| used.generation == record.generation);
    let used =
        used.map_or_else(|| "never used".to_owned(), |used| format!("last used {}", both(used.last_used_at.0, now)));
    let is_valid = record.is_valid(now) && ended.is_none() && !is_revoked;
    let text =
        format!("{} {:?}, made {}, {end}, {used}", record.generation, record.state, both(record.created_at.0, now));
    mark(is_valid, &text)
}

/// The next events in the life of the token, each with its cause.
fn next(token: &ApiToken, status: &ApiTokenStatus, now: Timestamp) -> Vec<String> {
    if let Some(ended) = &status.revocation {
        return vec![format!(
            "nothing: the token ended {} ({:?}); make another one",
            both(ended.at.0, now),
            ended.reason
        )];
    }
    if let Some(ended) = wait::ended(token) {
        return vec![format!("nothing: {ended}")];
    }
    let mut next = Vec::new();
    if !token.spec.active {
        next.push(format!(
            "the token is suspended (spec.active): `{}` lets it in again",
            view::command("resume", token)
        ));
    }
    let older = status.records.iter().filter(|record| record.state == State::Superseded && record.is_valid(now));
    next.extend(older.filter_map(|record| {
        Some(format!(
            "value {} ends at {}, because a newer one replaced it",
            record.generation,
            both(record.end()?, now)
        ))
    }));
    if show::is_shown_once(token) && show::secret(token).is_some() {
        next.push(show::again(token, now));
    }
    match (&status.rotates_at, &status.expires_at) {
        (Some(at), _) => next.push(format!("a new value at {}, {}", both(at.0, now), schedule(token))),
        (None, Some(end)) => next.push(format!("no new value is scheduled; the value ends at {}", both(end.0, now))),
        (None, None) => next.push("no new value is scheduled, and no end".to_owned()),
    }
    if let Some(at) = last_used(status) {
        next.push(format!("last used {}", both(at, now)));
    }
    next
}

/// The cause of the next rotation.
fn schedule(token: &ApiToken) -> String {
    let schedule = token.spec.rotation.as_ref().and_then(|rotation| rotation.schedule.as_ref());
    let Some(RotationSchedule { every, cron, time_zone, before_expiry, .. }) = schedule else {
        return "because a third of the lifetime is left then".to_owned();
    };
    let zone = time_zone.as_deref().unwrap_or("UTC");
    let by_cron = || cron.as_ref().map(|cron| format!("by its schedule {cron:?} in {zone}"));
    let every = every.as_ref().map(|every| format!("by its schedule: every {every}"));
    let before = before_expiry.as_ref().map(|before| format!("by its schedule: {before} before the value expires"));
    every.or_else(by_cron).or(before).unwrap_or_else(|| "as spec.regenerate asks".to_owned())
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
                "effective": {"organizations": ["north"]}, "secretName": "ci", "expiresAt": "2027-04-01T00:00:00Z", "rotatesAt": "2027-03-01T00:00:00Z",
            },
        }))
        .unwrap();
        let event: Event = serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "reason": "Published", "message": "m\u{1b}[31m", "type": "Normal",
            "eventTime": "2027-01-01T00:00:00.000000Z",
        }))
        .unwrap();
        let now = "2027-01-03T00:00:00Z".parse().unwrap();
        let readers = vec!["no workload reads its Secret (ci)".to_owned()];
        let page = page(
            &token,
            &Surroundings { readers, events: told(vec![event], now), unknown: vec!["not all is known".into()] },
            now,
        );
        let lines: Vec<_> = page.lines().collect();
        for line in [
            "ApiToken a/ci",
            "  Owner:         user:alice",
            "  Organizations: north",
            "  Secret:        ci (token, token-id, endpoint, organization)",
            "  √ Valid=True Active",
            "  × Stalled=True Invalid: m",
            "  √ 2 Active, made 2027-01-01T00:00:00Z (2d ago), ends 2027-04-01T00:00:00Z (in 88d), last used 2027-01-02T01:00:00Z (23h ago)",
            "  × 1 Superseded, made 2027-01-01T00:00:00Z (2d ago), ended 2027-01-02T00:00:00Z (24h ago), never used",
            "  a new value at 2027-03-01T00:00:00Z (in 57d), because a third of the lifetime is left then",
            "  no workload reads its Secret (ci)",
            "Not shown",
            "  not all is known",
            "  2d ago   Normal Published: m\\u{1b}[31m",
        ] {
            assert!(lines.contains(&line), "{line} is missing from\n{page}");
        }
        assert!(!page.contains('\u{1b}'), "{page}");
    }

    #[test]
    fn a_page_says_at_once_that_the_spec_revokes_or_suspends_the_token() {
        let now = "2027-01-03T00:00:00Z".parse().unwrap();
        let page_of = |more: serde_json::Value, seen: i64| {
            let mut spec = json!({"instanceRef": {"name": "eem"}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let record = json!({"generation": 1, "id": "i", "sha256": "0".repeat(64), "state": "Active",
                "createdAt": "2027-01-01T00:00:00Z", "expiresAt": "2027-04-01T00:00:00Z"});
            let valid = json!({"type": "Valid", "status": "True", "reason": "Active", "message": "",
                "lastTransitionTime": "2027-01-01T00:00:00Z"});
            let status = json!({"observedGeneration": seen, "conditions": [valid], "records": [record]});
            let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken",
                "metadata": {"name": "ci", "namespace": "a", "generation": 2}, "spec": spec, "status": status});
            page(&serde_json::from_value(object).unwrap(), &Surroundings::default(), now)
        };
        let late = "‼ the operator has not seen the current spec yet";
        let revoked = page_of(json!({"revoked": true}), 1);
        for part in [
            late,
            "× Valid=False Revoked: spec.revoked is true, so verifiers refuse the token",
            "× 1 Active, made 2027-01-01T00:00:00Z (2d ago), ended, never used",
            "nothing: ci is revoked, and that is final",
        ] {
            assert!(revoked.contains(part), "{part}: {revoked}");
        }
        let suspended = page_of(json!({"active": false}), 1);
        for part in [late, "× Valid=False Suspended: spec.active is false", "`kubectl tokenry resume ci -n a`"] {
            assert!(suspended.contains(part), "{part}: {suspended}");
        }
        let changed = page_of(json!({"description": "other"}), 1);
        assert!(changed.contains(late) && changed.contains("√ Valid=True Active"), "{changed}");
        assert!(!page_of(json!({}), 2).contains(late));
    }

    #[test]
    fn a_value_of_a_token_that_ended_ended_with_it() {
        let told = |state: &str, end: Option<&str>, ended: Option<&str>| {
            let record = json!({"generation": 1, "id": "i", "sha256": "0".repeat(64), "state": state,
                "createdAt": "2027-01-01T00:00:00Z", "expiresAt": end});
            let revocation = ended.map(|at| json!({"reason": "Manual", "at": at}));
            let status = serde_json::from_value(json!({ "revocation": revocation })).unwrap();
            value(&serde_json::from_value(record).unwrap(), &status, false, "2027-01-03T00:00:00Z".parse().unwrap())
        };
        let (later, day) = (Some("2027-04-01T00:00:00Z"), Some("2027-01-02T00:00:00Z"));
        for (state, end) in [("Revoked", later), ("Revoked", None), ("Active", later)] {
            let told = told(state, end, day);
            assert!(told.starts_with('×') && told.contains("ended 2027-01-02T00:00:00Z (24h ago)"), "{told}");
        }
        assert!(told("Revoked", later, None).contains("(2d ago), ended, never used"));
        let before = told("Expired", Some("2027-01-01T12:00:00Z"), day);
        assert!(before.contains("ended 2027-01-01T12:00:00Z"), "{before}");
        assert!(told("Active", later, None).contains("ends 2027-04-01T00:00:00Z (in 88d)"));
    }

    #[test]
    fn a_rotation_says_its_cause() {
        let cause = |at: serde_json::Value| {
            let spec = json!({"instanceRef": {"name": "eem"}, "rotation": {"schedule": at}});
            let object =
                json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {}, "spec": spec});
            schedule(&serde_json::from_value(object).unwrap())
        };
        assert_eq!(cause(json!({"every": "30d"})), "by its schedule: every 30d");
        assert_eq!(cause(json!({"beforeExpiry": "7d"})), "by its schedule: 7d before the value expires");
        let cron = json!({"cron": "0 3 * * SUN", "timeZone": "Europe/Berlin"});
        assert_eq!(cause(cron), "by its schedule \"0 3 * * SUN\" in Europe/Berlin");
        assert!(cause(json!(null)).contains("a third of the lifetime"));
    }
}
