//! The objects that the verifiers of the benchmark read, and the values of their tokens.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokenry::token::{Digest, format};

/// The namespace of all objects, and the name of the Instance.
pub const NAMESPACE: &str = "events";
pub const INSTANCE: &str = "eem";
/// The owner of all tokens.
const OWNER: &str = "user:alice@example.com";
/// Number of members of an Instance with roles, besides the owner of all tokens.
const MEMBERS: usize = 256;
/// Number of members of each policy. None of them is a token of the benchmark.
const MEMBERS_OF_A_POLICY: usize = 10;

/// An object of tokenry.dev.
pub fn object(kind: &str, metadata: Value, spec: Value, status: Value) -> Value {
    let mut object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata});
    (object["spec"], object["status"]) = (spec, status);
    object
}

/// The value with a number.
pub fn value(n: usize) -> String {
    format::assemble("tkn", &format!("{n:016}"), &format!("{n:043}")).expose().to_owned()
}

/// The value that a token serves.
pub fn served(n: usize) -> String {
    value(2 * n + 2)
}

/// The value of a token that the next one has superseded long ago.
pub fn expired(n: usize) -> String {
    value(2 * n + 1)
}

/// A value whose id no token has.
pub fn unknown(n: usize) -> String {
    value(usize::MAX / 2 - n)
}

/// A token with two generations: one that has expired, and one that was used just now. The verifier writes no use of
/// it.
pub fn token(n: usize) -> Value {
    let record = |generation: usize, state: &str, expires: &str| {
        let value = value(2 * n + generation);
        json!({
            "generation": generation, "id": format::id(&value).unwrap(), "sha256": Digest::of(&value).to_string(),
            "state": state, "createdAt": "2026-01-01T00:00:00Z", "publishedAt": "2026-01-01T00:00:00Z",
            "expiresAt": expires,
        })
    };
    let spec = json!({
        "instanceRef": {"name": INSTANCE}, "owner": OWNER, "role": "contributor",
        "displayName": "Topic exporter", "description": "exports topics every night",
    });
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Active", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let conditions = ["Valid", "Ready", "Accepted", "Published"].map(condition);
    let records = [record(1, "Superseded", "2026-01-02T00:00:00Z"), record(2, "Active", "2999-01-01T00:00:00Z")];
    let status = json!({
        "account": {"name": name(n), "uid": uid("account", n)}, "conditions": conditions, "records": records,
        "use": [{"generation": 2, "firstUsedAt": "2026-01-01T00:00:00Z", "lastUsedAt": now()}],
    });
    object("ApiToken", metadata("token", n), spec, status)
}

/// The account of a token.
pub fn account(n: usize) -> Value {
    let spec = json!({"instanceRef": {"name": INSTANCE}, "owner": OWNER, "role": "contributor"});
    object("ServiceAccount", metadata("account", n), spec, Value::Null)
}

/// The Instance. With roles, each token has at most the role of its owner, who is one of many members.
pub fn instance(roles: bool) -> Value {
    let members = (0..MEMBERS).map(|n| json!({"subject": format!("user:u{n}"), "role": "viewer"}));
    let members: Vec<_> = members.chain([json!({"subject": OWNER, "role": "admin"})]).collect();
    let spec = if roles {
        json!({"api": {"authorization": "Roles"}, "ceiling": "Members", "members": members})
    } else {
        json!({})
    };
    object("Instance", json!({"namespace": NAMESPACE, "name": INSTANCE, "uid": uid("instance", 0)}), spec, Value::Null)
}

/// A policy of the Instance.
pub fn policy(n: usize) -> Value {
    let members: Vec<_> = (0..MEMBERS_OF_A_POLICY).map(|m| format!("token:{NAMESPACE}/other-{n}-{m}")).collect();
    let statement = json!({"effect": "Deny", "actions": ["clusters:*"]});
    let spec = json!({"instanceRef": {"name": INSTANCE}, "members": members, "statements": [statement]});
    object(
        "AccessPolicy",
        json!({"namespace": NAMESPACE, "name": format!("p{n}"), "uid": uid("policy", n)}),
        spec,
        Value::Null,
    )
}

fn now() -> String {
    Timestamp::now().to_string()
}

fn metadata(kind: &str, n: usize) -> Value {
    json!({
        "namespace": NAMESPACE, "name": name(n), "uid": uid(kind, n), "resourceVersion": "1", "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app.kubernetes.io/part-of": "events"},
    })
}

fn name(n: usize) -> String {
    format!("topic-exporter-{n:05}")
}

/// A UUID, as the API server makes it.
fn uid(kind: &str, n: usize) -> String {
    format!("{:08x}-0000-4000-8000-{n:012}", crc32fast::hash(kind.as_bytes()))
}
