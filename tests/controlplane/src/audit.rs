//! The requests to the API server, read from its audit log.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use serde::Deserialize;
use serde_json::Value;

/// The audit policy of the control plane. Events never contain the content of a Secret. For writes to Tokenry's own
/// objects, events contain the request's body.
pub(crate) const POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  verbs: [create, update, patch, delete]
  resources: [{group: tokenry.dev}]
- level: Metadata
"#;

/// The audit policy of a control plane for benchmarks. All kinds are audited alike, as a body costs time.
pub(crate) const WITHOUT_BODIES: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"#;

/// A request that the API server has answered.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    /// The name of the authenticated user.
    pub user: String,
    /// The impersonated user; empty without impersonation.
    pub impersonated: String,
    /// The verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// The API group; empty for the core group and for requests outside of resources.
    pub group: String,
    /// The resource, such as `configmaps`; empty for requests outside of resources, such as `/version`.
    pub resource: String,
    /// The subresource, such as `status`; empty without one.
    pub subresource: String,
    /// The namespace; empty without one.
    pub namespace: String,
    /// The object's name; empty if the request names none, as in a list or with `generateName`.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// True if RBAC allowed the request. The request may still be refused. An apply that would create also needs the
    /// permission `create`. A namespace that is being deleted accepts no new objects.
    pub authorized: bool,
    /// The time of the request, as the API server writes it (RFC 3339, in microseconds).
    pub time: String,
    /// True for a dry run.
    pub dry_run: bool,
    /// The request's body, for writes to the group `tokenry.dev`. [`Value::Null`] for all other requests.
    pub request: Value,
}

impl AuditEvent {
    /// True if this is a verifier's dry run of a write to a token's status. The verifier sends it regularly, and
    /// expects a refusal.
    pub fn is_try_to_forge(&self) -> bool {
        let asked = (&*self.verb, &*self.resource, &*self.subresource);
        self.authorized && self.dry_run && asked == ("patch", "apitokens", "status") && self.user.ends_with("-verifier")
    }

    /// True if this writes the use of a generation whose record was removed in the meantime, according to `all`
    /// requests. Admission refuses such a write, and the verifier tries again with the remaining records. The audit log
    /// has no message of the refusal, because the verifier requests only metadata in the answer.
    pub fn is_late_use(&self, all: &[Self]) -> bool {
        let writes_status = |event: &Self, who: &str, verb: &str| {
            let asked = (&*event.verb, &*event.resource, &*event.subresource);
            event.authorized && event.user.ends_with(who) && asked == (verb, "apitokens", "status")
        };
        let object = (&self.namespace, &self.name);
        let records = all.iter().filter(|event| {
            event.code < 300 && (&event.namespace, &event.name) == object && writes_status(event, "-operator", "update")
        });
        let records: Vec<_> = records.map(|event| generations(&event.request, "records")).collect();
        let is_gone = |used: &i64| {
            records.iter().any(|on_record| !on_record.contains(used) && on_record.iter().any(|later| later > used))
        };
        writes_status(self, "-verifier", "patch") && generations(&self.request, "use").iter().any(is_gone)
    }
}

/// The generations that a field of a status lists.
fn generations(request: &Value, field: &str) -> Vec<i64> {
    let listed = request["status"][field].as_array();
    listed.into_iter().flatten().filter_map(|entry| entry["generation"].as_i64()).collect()
}

/// The events of the audit log `path` from `offset` on, and the offset of the next events. The first offset is 0. A
/// file that does not exist has no events yet.
pub fn audit_from(path: &Path, offset: u64) -> (Vec<AuditEvent>, u64) {
    let mut bytes = Vec::new();
    // The file is created with the first event. Events that cannot be read yet are read the next time.
    let _ = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.read_to_end(&mut bytes)
    });
    // The last line may be half-written.
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    (parse(&String::from_utf8_lossy(&bytes[..end])), offset + end as u64)
}

/// The events of answered requests in `lines`, the text of an audit log.
fn parse(lines: &str) -> Vec<AuditEvent> {
    lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .filter(Line::is_answer)
        .map(AuditEvent::from)
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    user: User,
    #[serde(default)]
    impersonated_user: User,
    #[serde(default)]
    object_ref: ObjectReference,
    #[serde(default)]
    response_status: Status,
    #[serde(default)]
    annotations: Annotations,
    #[serde(default)]
    request_object: Value,
    request_received_timestamp: String,
    #[serde(default, rename = "requestURI")]
    request_uri: String,
}

impl Line {
    /// True if the line is about an answered request. A watch is answered when it starts, and completes only when it
    /// ends.
    fn is_answer(&self) -> bool {
        self.stage == if self.verb == "watch" { "ResponseStarted" } else { "ResponseComplete" }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectReference {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "authorization.k8s.io/decision")]
    decision: String,
}

impl From<Line> for AuditEvent {
    fn from(line: Line) -> Self {
        let object = line.object_ref;
        Self {
            user: line.user.username,
            impersonated: line.impersonated_user.username,
            verb: line.verb,
            group: object.api_group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            code: line.response_status.code,
            authorized: line.annotations.decision == "allow",
            time: line.request_received_timestamp,
            dry_run: line.request_uri.contains("dryRun=All"),
            request: line.request_object,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_answer_once_and_skips_the_rest() {
        let complete = r#"{"stage":"ResponseComplete","verb":"get","user":{"username":"a"},
            "requestURI":"/version","responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z"}"#
            .replace('\n', "");
        let started = complete.replace("ResponseComplete", "ResponseStarted");
        let half = &complete[..40];
        let events = parse(&format!("{started}\n{complete}\n{half}"));
        let [event] = &events[..] else { panic!("{events:?}") };
        assert_eq!((&*event.user, &*event.resource, event.code, event.dry_run), ("a", "", 200, false));
        let [tried] = &parse(&complete.replace("/version", "/version?&dryRun=All"))[..] else { panic!() };
        assert!(tried.dry_run);
        let watch = |line: &str| line.replace(r#""get""#, r#""watch""#);
        assert_eq!(parse(&watch(&started)).len(), 1);
        assert_eq!(parse(&watch(&format!("{started}\n{complete}"))).len(), 1);
    }

    #[test]
    fn a_use_that_came_too_late_is_told_from_a_right_that_is_missing() {
        let line = |(who, verb): (&str, &str), code: u16, status: &str| {
            format!(
                r#"{{"stage":"ResponseComplete","verb":"{verb}","user":{{"username":"system:serviceaccount:x:tokenry-{who}"}},
                "objectRef":{{"resource":"apitokens","subresource":"status","namespace":"a","name":"ci"}},
                "requestObject":{{"status":{status}}},"responseStatus":{{"code":{code}}},
                "requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","annotations":{{"authorization.k8s.io/decision":"allow"}}}}"#
            )
            .replace('\n', "")
        };
        let used =
            |generation: u8| line(("verifier", "patch"), 403, &format!(r#"{{"use":[{{"generation":{generation}}}]}}"#));
        let recorded = line(("operator", "update"), 200, r#"{"records":[{"generation":2},{"generation":3}]}"#);
        let refused = line(("operator", "update"), 409, r#"{"records":[{"generation":3},{"generation":4}]}"#);
        let is_late = |generation| {
            let all = parse(&[recorded.clone(), refused.clone(), used(generation)].join("\n"));
            all[2].is_late_use(&all)
        };
        assert_eq!([1, 2, 3].map(is_late), [true, false, false]);
    }
}
