//! Logs in SARIF against the schema of the standard. Helm validates them, as values of a chart with that schema.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use crate::harness::hand::{Done, run};

/// sarif-schema-2.1.0.json of OASIS (see NOTICE).
const SCHEMA: &str = include_str!("schema.json");

/// The answer of Helm to a log.
fn validated(text: &str) -> Done {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("sarif-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
    let chart = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&chart).unwrap();
    let files = [
        ("Chart.yaml", "apiVersion: v2\nname: sarif\nversion: 2.1.0\n"),
        ("values.schema.json", SCHEMA),
        ("log.json", text),
    ];
    files.iter().for_each(|(file, text)| fs::write(chart.join(file), text).unwrap());
    let mut helm = Command::new(controlplane::program("helm").unwrap());
    helm.args(["template", "x", ".", "--values", "log.json"]).current_dir(&chart);
    let done = run(helm, "");
    fs::remove_dir_all(chart).unwrap();
    done
}

/// Checks a log: by the schema, and that each result has a rule, which the schema does not ask for.
pub(super) fn validate(text: &str) {
    let told = validated(text);
    assert_eq!(told.code, 0, "{}: {text}", told.err);
    let log: Value = serde_json::from_str(text).unwrap();
    assert!(log["$schema"].as_str().unwrap().ends_with("sarif-2.1.0.json") && log["version"] == "2.1.0", "{text}");
    let [run] = &log["runs"].as_array().unwrap()[..] else { panic!("{text}") };
    let rules: Vec<_> = run["tool"]["driver"]["rules"].as_array().unwrap().iter().map(|rule| &rule["id"]).collect();
    assert!(run["results"].as_array().unwrap().iter().all(|result| rules.contains(&&result["ruleId"])), "{text}");
}

#[test]
fn the_schema_refuses_a_log_with_a_fault() {
    let place = json!({"physicalLocation": {"artifactLocation": {"uri": "a"}, "region": {"startLine": 1}}});
    let log = json!({
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "a", "rules": [{"id": "a"}]}},
            "results": [{"ruleId": "a", "level": "error", "message": {"text": "a"}, "locations": [place]}],
        }],
    });
    assert_eq!(validated(&log.to_string()).code, 0, "{log}");
    let result = "/runs/0/results/0";
    let region = format!("{result}/locations/0/physicalLocation");
    for (at, field, value) in [
        (result, "level", json!("fatal")),
        (result, "message", json!("text")),
        (result, "line", json!(1)),
        (&*format!("{region}/region"), "startLine", json!(0)),
        (&*format!("{region}/artifactLocation"), "uri", json!("a b:c")),
        ("/runs/0/tool/driver", "name", Value::Null),
    ] {
        let mut wrong = log.clone();
        wrong.pointer_mut(at).unwrap()[field] = value;
        let told = validated(&wrong.to_string());
        assert!(told.code != 0 && told.err.contains("specifications of the schema"), "{at} {field}: {told:?}");
    }
}
