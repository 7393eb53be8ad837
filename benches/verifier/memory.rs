//! The memory per token.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokenry::{
    crd::{Account, ApiToken},
    token::{Digest, format},
    verifier::index::Index,
};

use crate::{object_of, value};

/// Prints the memory per token of a verifier that reads the tokens from a list. Each token has a separate account, two
/// generations and one use.
pub fn report(tokens: usize) {
    let before = resident();
    let mut index = Index::default();
    let pools = index.pools();
    index.reset((0..tokens).map(|n| pools.reduce(token(n))).collect(), &BTreeSet::new());
    index.reset((0..tokens).map(|n| pools.reduce(account(n))).collect(), &BTreeSet::new());
    let bytes = (resident() - before) / tokens as f64;
    println!("{:<58}{:>10.2} KiB", "a token in memory, with its account", bytes / 1024.0);
    assert!(index.any_token().is_some());
}

/// Resident memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> f64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status()).unwrap();
    status.vmrss.unwrap() as f64 * 1024.0
}

/// Memory is measured on Linux only.
#[cfg(not(target_os = "linux"))]
fn resident() -> f64 {
    f64::NAN
}

fn token(n: usize) -> ApiToken {
    let record = |generation: usize, state: &str| {
        let value = value(2 * n + generation);
        json!({
            "generation": generation, "id": format::id(&value).unwrap(), "sha256": Digest::of(&value).to_string(),
            "state": state, "createdAt": "2026-01-01T00:00:00Z", "publishedAt": "2026-01-01T00:00:00Z",
            "expiresAt": "2027-01-01T00:00:00Z",
        })
    };
    let spec = json!({
        "instanceRef": {"name": "eem"}, "owner": "user:alice@example.com", "role": "contributor",
        "displayName": "Topic exporter", "description": "exports topics every night",
    });
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Active", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let conditions = ["Valid", "Ready", "Accepted", "Published"].map(condition);
    let status = json!({
        "account": {"name": name(n), "uid": uid("account", n)},
        "conditions": conditions,
        "records": [record(1, "Superseded"), record(2, "Active")],
        "use": [{"generation": 2, "firstUsedAt": "2026-01-01T00:00:00Z", "lastUsedAt": "2026-01-01T00:00:00Z"}],
    });
    object_of("ApiToken", metadata("token", n), spec, status)
}

fn account(n: usize) -> Account {
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice@example.com", "role": "contributor"});
    object_of("ServiceAccount", metadata("account", n), spec, Value::Null)
}

fn metadata(kind: &str, n: usize) -> Value {
    json!({
        "namespace": "events", "name": name(n), "uid": uid(kind, n), "resourceVersion": n.to_string(), "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app.kubernetes.io/part-of": "events"},
    })
}

fn name(n: usize) -> String {
    format!("topic-exporter-{n:05}")
}

/// A uid with the length of the API server's uids.
fn uid(kind: &str, n: usize) -> String {
    format!("{kind:0<8}-0000-4000-8000-{n:012}")
}
