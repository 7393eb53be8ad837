//! The admission policies on writes of a status. With the right to write a digest into a status, a user can mint
//! tokens. So these policies bind administrators too.

use serde_json::{Value, json};

use super::{AdmissionPolicy, Options, Rule, cel::quoted};

const STATUSES: [&str; 4] = ["apitokens/status", "serviceaccounts/status", "instances/status", "accesspolicies/status"];

/// The policy that only the operator may write a status. The verifier may write the status of tokens, which
/// [`verifier`] limits further.
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

/// The match condition for writes of the verifier.
pub(crate) fn of_verifier(options: &Options) -> Vec<Value> {
    let verifier = quoted(&options.verifier);
    vec![json!({"name": "verifier", "expression": format!("request.userInfo.username == {verifier}")})]
}

/// The policy that the verifier may change only `status.use` of ApiTokens.
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

/// The rule on the entries of `status.use`. Each entry names a generation on record. Its times are before the year
/// 9000, because one time that the operator cannot read makes the whole list unreadable.
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
