//! Who may write a status: whoever can write a digest into one can mint. It binds administrators too.

use serde_json::{Value, json};

use super::{AdmissionPolicy, Options, Rule, cel::quoted};

const STATUSES: [&str; 4] = ["apitokens/status", "serviceaccounts/status", "instances/status", "accesspolicies/status"];

/// Nobody but the operator, and the verifier of tokens, which has a policy of its own.
pub(crate) fn policy(options: &Options) -> AdmissionPolicy {
    let (operator, verifier) = (quoted(&options.operator), quoted(&options.verifier));
    AdmissionPolicy {
        name: "status",
        resources: &STATUSES,
        operations: &["CREATE", "UPDATE"],
        variables: Vec::new(),
        rules: vec![Rule::new(
            format!(
                "request.userInfo.username == {operator} || \
                 (request.userInfo.username == {verifier} && request.resource.resource == 'apitokens')"
            ),
            "'status: is written by the operator of Tokenry alone: whoever can write a digest into it can mint'",
        )],
    }
}

/// Of the verifier's writes.
pub(crate) fn of_verifier(options: &Options) -> Vec<Value> {
    let verifier = quoted(&options.verifier);
    vec![json!({"name": "verifier", "expression": format!("request.userInfo.username == {verifier}")})]
}

/// The verifier says when tokens were used, and nothing else.
pub(crate) fn verifier(_: &Options) -> AdmissionPolicy {
    let (new, old) = ("object.?status.orValue({})", "oldObject.?status.orValue({})");
    AdmissionPolicy {
        name: "verifier",
        resources: &STATUSES,
        operations: &["CREATE", "UPDATE"],
        variables: Vec::new(),
        rules: vec![
            uses(),
            Rule::new(
                format!(
                    "request.resource.resource == 'apitokens' && oldObject != null && \
                 {new}.all(k, k == 'use' || (k in {old} && {old}[k] == {new}[k])) && {old}.all(k, k == 'use' || k in {new})"
                ),
                "'status: the verifier of Tokenry writes status.use of ApiTokens, and nothing else'",
            ),
        ],
    }
}

/// What it says of uses is about generations on record, and in times that everybody can reckon with: one that an
/// operator cannot read would be in the way of all else.
fn uses() -> Rule {
    let record = "oldObject.?status.?records.orValue([]).exists(r, r.generation == u.generation)";
    let time = |field: &str| format!("timestamp(u.{field}) < timestamp('9000-01-01T00:00:00Z')");
    Rule::new(
        format!(
            "object.?status[?'use'].orValue([]).all(u, {record} && {} && {} && timestamp(u.firstUsedAt) <= timestamp(u.lastUsedAt))",
            time("firstUsedAt"),
            time("lastUsedAt")
        ),
        "'status.use: is about generations on record, and times before the year 9000'",
    )
}
