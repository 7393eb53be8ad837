//! A reader of SARIF 2.1.0 that takes the properties that this program writes, in the types of the OASIS schema, and no
//! others.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    #[serde(rename = "$schema")]
    schema: String,
    version: String,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Run {
    tool: Tool,
    column_kind: ColumnKind,
    results: Vec<Found>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    driver: Driver,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Driver {
    name: String,
    version: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rule {
    id: String,
    short_description: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum ColumnKind {
    Utf16CodeUnits,
    UnicodeCodePoints,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Level {
    None,
    Note,
    Warning,
    Error,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Found {
    rule_id: String,
    level: Level,
    message: Text,
    locations: Vec<Location>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Location {
    physical_location: Physical,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    region: Region,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Artifact {
    uri: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Region {
    start_line: u64,
    start_column: u64,
}

/// Checks a log with at least one result.
pub(super) fn validate(text: &str) {
    let log: Log = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(log.schema.ends_with("sarif-2.1.0.json") && log.version == "2.1.0", "{text}");
    let [Run { tool: Tool { driver }, column_kind, results }] = &log.runs[..] else { panic!("{text}") };
    assert!(*column_kind == ColumnKind::UnicodeCodePoints && !results.is_empty(), "{text}");
    assert!(!driver.name.is_empty() && !driver.version.is_empty(), "{text}");
    for Found { rule_id, level, message, locations } in results {
        let rule = driver.rules.iter().find(|rule| rule.id == *rule_id);
        assert!(rule.is_some_and(|rule| !rule.short_description.text.is_empty()), "{rule_id} has no rule: {text}");
        assert!(*level == Level::Error && !message.text.is_empty(), "{text}");
        let [Location { physical_location: Physical { artifact_location, region } }] = &locations[..] else {
            panic!("{text}")
        };
        assert!(region.start_line > 0 && region.start_column > 0, "{text}");
        let reference = artifact_location.uri.parse::<http::Uri>();
        assert!(reference.is_ok() || !artifact_location.uri.contains([' ', '\\']), "{text}");
    }
}
