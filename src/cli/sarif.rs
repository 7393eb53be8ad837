//! Findings as SARIF 2.1.0 (OASIS), for code scanning.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use crate::outside::foreign::{without_tokens, written};

/// The longest text of a finding, in bytes.
const MAX_TEXT: usize = 4096;
/// The characters of a path that a URI writes otherwise (RFC 3986).
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b':');

/// A finding in a file.
pub(crate) struct SarifFinding<'a> {
    /// The id of its rule, such as `tokenry/token`.
    pub(crate) rule: String,
    pub(crate) file: &'a str,
    /// The line, from 1.
    pub(crate) line: u64,
    /// The column, in characters from 1.
    pub(crate) column: u64,
    pub(crate) message: String,
}

/// The log of one run. `rules` has a text for the id of each rule.
pub(crate) fn log(rules: &BTreeMap<String, String>, found: &[SarifFinding<'_>]) -> Value {
    let result = |finding: &SarifFinding<'_>| {
        let region = json!({"startLine": finding.line, "startColumn": finding.column});
        let place = json!({"artifactLocation": {"uri": uri(finding.file)}, "region": region});
        json!({
            "ruleId": finding.rule, "level": "error", "message": {"text": written(&finding.message, MAX_TEXT)},
            "locations": [{"physicalLocation": place}],
        })
    };
    let rule = |(id, text): (&String, &String)| json!({"id": id, "shortDescription": {"text": text}});
    let rules: Vec<_> = rules.iter().map(rule).collect();
    let driver = json!({"name": "tokenry", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    let results: Vec<_> = found.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    })
}

/// The URI of a file. A relative path stays relative, as code scanning joins it to the root of the repository.
fn uri(file: &str) -> String {
    let path = utf8_percent_encode(&without_tokens(file.trim_start_matches("./")), ENCODED).to_string();
    if path.starts_with('/') { format!("file://{path}") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_places_by_uri_and_escapes_what_others_wrote() {
        let found = |file| SarifFinding { rule: "a/b".into(), file, line: 3, column: 7, message: "x\u{1b}[31m".into() };
        let rules = [("a/b".to_owned(), "A rule".to_owned())].into();
        let log = log(&rules, &[found("./a b/ü.yaml"), found("/x"), found("<stdin>")]);
        let results = log["runs"][0]["results"].as_array().unwrap().clone();
        let uris: Vec<_> = results
            .iter()
            .map(|result| result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap())
            .collect();
        assert_eq!(uris, ["a%20b/%C3%BC.yaml", "file:///x", "%3Cstdin%3E"]);
        assert_eq!(results[0]["message"]["text"], "x\\u{1b}[31m");
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][0]["id"], "a/b");
    }
}
