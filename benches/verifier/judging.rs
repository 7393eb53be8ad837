//! The time to judge a request in memory, compared with the time to hash its token.

use std::{hint::black_box, time::Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokenry::{
    access::{Path, Request},
    token::{Digest, format},
    verifier::{
        Cause,
        check::check,
        index::{Index, Key},
    },
};

use crate::objects::{self, value};

/// Number of tokens in the index.
const TOKENS: usize = 10_000;
/// Number of judgements per mean.
const ROUNDS: usize = 20_000;

fn object<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value, status: Value) -> T {
    let metadata = json!({"namespace": "a", "name": name, "uid": name});
    serde_json::from_value(objects::object(kind, metadata, spec, status)).unwrap()
}

/// An index with tokens that have one account each, an Instance, and policies.
fn index(instance: Value, policies: usize, members: usize) -> Index {
    let mut index = Index::default();
    for n in 0..TOKENS {
        let (name, value) = (format!("t{n}"), value(n));
        let record = json!({
            "generation": 1, "id": format::id(&value).unwrap(), "sha256": Digest::of(&value).to_string(),
            "state": "Active",
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2027-01-01T00:00:00Z",
        });
        let refers = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice", "role": "contributor"});
        let status = json!({"account": {"name": name, "uid": name}, "records": [record]});
        index.apply::<tokenry::crd::ApiToken>(object("ApiToken", &name, refers, status));
        let account = json!({"instanceRef": {"name": "eem"}, "role": "contributor"});
        index.apply::<tokenry::crd::Account>(object("ServiceAccount", &name, account, json!(null)));
    }
    index.apply::<tokenry::crd::Instance>(object("Instance", "eem", instance, json!(null)));
    for n in 0..policies {
        let members: Vec<_> = (0..members).map(|m| format!("token:a/other-{n}-{m}")).collect();
        let statement = json!({"effect": "Deny", "actions": ["clusters:*"]});
        let spec = json!({"instanceRef": {"name": "eem"}, "members": members, "statements": [statement]});
        index.apply::<tokenry::crd::AccessPolicy>(object("AccessPolicy", &format!("p{n}"), spec, json!(null)));
    }
    index
}

/// Mean duration of `work`, in nanoseconds.
fn mean(mut work: impl FnMut(usize)) -> f64 {
    (0..ROUNDS / 10).for_each(&mut work);
    let start = Instant::now();
    (0..ROUNDS).for_each(&mut work);
    start.elapsed().as_nanos() as f64 / ROUNDS as f64
}

/// Prints the mean time of a judgement by indexes of several rules.
pub fn report() {
    let values: Vec<_> = (0..TOKENS).map(value).collect();
    let hashed = mean(|n| _ = black_box(Digest::of(&values[n % TOKENS])));
    println!("{:<58}{:>10}{:>8}", "", "ns", "ratio");
    println!("{:<58}{hashed:>10.0}{:>8.1}", "SHA-256 of the value", 1.0);
    let roles = json!({"api": {"authorization": "Roles"}});
    let members: Vec<_> = (0..256).map(|n| json!({"subject": format!("user:u{n}"), "role": "viewer"})).collect();
    let held = [members, vec![json!({"subject": "user:alice", "role": "admin"})]].concat();
    let ceiling = json!({"api": {"authorization": "Roles"}, "ceiling": "Members", "members": held});
    for (what, instance, policies, of) in [
        ("every valid token may", json!({}), 0, 0),
        ("by role", roles.clone(), 0, 0),
        ("by role, within what the owner holds of 257 members", ceiling.clone(), 0, 0),
        ("the same, and 100 policies of 10 members", ceiling.clone(), 100, 10),
        ("the same, and 100 policies of 256 members", ceiling, 100, 256),
    ] {
        let index = index(instance, policies, of);
        let (key, now): (_, Timestamp) =
            (Key { namespace: "a".into(), name: "eem".into() }, "2026-06-01T00:00:00Z".parse().unwrap());
        let headers = http::HeaderMap::new();
        let judged = mean(|n| {
            let request =
                Request { method: "POST", path: Path::parse("/eem/topics/x").ok(), query: "", headers: &headers };
            let verdict = check(&index, &key, &values[n % TOKENS], Some(&request), now);
            assert_eq!(verdict.cause, Cause::Allowed);
        });
        println!("{what:<58}{judged:>10.0}{:>8.1}", judged / hashed);
    }
}
