//! The examples, which users copy.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::harness::{World, clock::Held, root};

#[tokio::test]
async fn everything_in_examples_becomes_ready_in_one_namespace() {
    let examples = root().join("examples").display().to_string();
    let ready = ready_after(&["-f", &examples]).await;
    let kinds = ["ApiToken", "Instance", "ServiceAccount"];
    assert!(kinds.iter().all(|kind| ready.iter().any(|object| object.starts_with(kind))), "{ready:?}");
}

#[tokio::test]
async fn each_example_of_an_exposed_endpoint_is_valid() {
    let files = fs::read_dir(root().join("examples/exposure")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert_eq!(files.len(), 8, "{files:?}");
    for path in files {
        let world = World::new("exposed").await;
        let _operator = world.operator(&Held::default()).await;
        let kubectl =
            |args: &[&str]| world.plane.kubectl(&[args, &["--namespace", &world.namespace]].concat()).unwrap();
        kubectl(&["apply", "-f", path.to_str().unwrap()]);
        let accepted = async || {
            let instance: Value =
                serde_json::from_str(&kubectl(&["get", "instance", "billing", "-o", "json"])).unwrap();
            let conditions = instance["status"]["conditions"].as_array()?.clone();
            conditions.into_iter().find(|condition| condition["type"] == "Accepted")
        };
        let accepted = world.eventually("the Instance has a verdict", accepted).await;
        assert_eq!(accepted["status"], "True", "{path:?}: {accepted}");
    }
}

#[tokio::test]
async fn the_workloads_of_the_examples_can_start() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let world = World::new("start").await.beside("start-restricted", labels).await;
    let all: Vec<_> = manifests(&root().join("examples")).into_iter().flatten().collect();
    let deployments: Vec<_> = all.iter().filter(|object| object["kind"] == "Deployment").collect();
    assert!(deployments.len() >= 2, "{deployments:?}");
    for deployment in deployments {
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "busybox:1.37.0", "an image that everybody can pull");
        world.tries_pod_of(deployment).await.unwrap();
        let script = container["command"][2].as_str().or(container["args"][0].as_str()).unwrap();
        let checked = Command::new("sh").args(["-n", "-c", script]).output().unwrap();
        assert!(checked.status.success(), "{script}: {checked:?}");
    }
}

#[tokio::test]
async fn what_is_applied_again_is_unchanged() {
    let products = fs::read_dir(root().join("examples/products")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = products.chain([root().join("examples")]).collect();
    all.sort();
    assert_eq!(all.len(), 5, "{all:?}");
    for path in all {
        let world = World::new("again").await;
        let _operator = world.operator(&Held::default()).await;
        let kubectl = |args: &[&str]| {
            let source = ["-f", path.to_str().unwrap(), "--namespace", &world.namespace];
            world.plane.kubectl(&[args, &source].concat()).unwrap()
        };
        kubectl(&["apply"]);
        let told = async || all_told(&kubectl(&["get", "-o", "json"]));
        world.eventually("the operator says something of each object", told).await;
        let again = kubectl(&["apply"]);
        let lines: Vec<_> = again.lines().collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(" unchanged")), "{path:?}: {again}");
    }
}

/// Whether something is said of each of our objects in what kubectl printed.
fn all_told(printed: &str) -> Option<()> {
    let objects: Value = serde_json::from_str(printed).unwrap();
    let ours = ours(&objects);
    // A policy may have nothing to be told of it.
    let told = |object: &&Value| object["kind"] == "AccessPolicy" || object["status"]["conditions"].is_array();
    ours.iter().all(told).then_some(())
}

/// Our objects in a list.
fn ours(list: &Value) -> Vec<&Value> {
    let objects = list["items"].as_array().unwrap().iter();
    objects.filter(|object| object["apiVersion"] == "tokenry.dev/v1alpha1").collect()
}

/// Applies what `source` names and waits until each of our objects in it is ready.
async fn ready_after(source: &[&str]) -> Vec<String> {
    let world = World::new("examples").await;
    let _operator = world.operator(&Held::default()).await;
    let kubectl = |args: &[&str]| {
        let args = [args, source, &["--namespace", &world.namespace]].concat();
        world.plane.kubectl(&args).unwrap()
    };
    kubectl(&["apply"]);
    let mut ready =
        world.eventually("each object is ready", async || all_ready(&kubectl(&["get", "-o", "json"]))).await;
    ready.sort();
    ready
}

/// Our objects in what kubectl printed, if each of them is ready.
fn all_ready(printed: &str) -> Option<Vec<String>> {
    let objects: Value = serde_json::from_str(printed).unwrap();
    let ours = ours(&objects).into_iter();
    ours.map(|object| {
        let conditions = object["status"]["conditions"].as_array()?;
        let is_ready = conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        is_ready.then(|| format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"])))
    })
    .collect()
}

/// The objects of each file with manifests, file by file.
fn manifests(folder: &Path) -> Vec<Vec<Value>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files.extend(manifests(&entry));
        } else if entry.extension().is_some_and(|ending| ending == "yaml") {
            files.push(serde_saphyr::from_multiple(&fs::read_to_string(&entry).unwrap()).unwrap());
        }
    }
    files
}

/// The names of the teams that an object has as subjects.
fn teams_in(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.strip_prefix("team:").into_iter().collect(),
        Value::Array(values) => values.iter().flat_map(teams_in).collect(),
        Value::Object(fields) => fields.values().flat_map(teams_in).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

#[test]
fn every_team_that_an_example_names_is_one_of_its_instance() {
    let mut seen = 0;
    for objects in manifests(&root().join("examples")) {
        for object in &objects {
            let named = if object["kind"] == "Instance" { &object["metadata"] } else { &object["spec"]["instanceRef"] };
            let is_its = |other: &&Value| other["kind"] == "Instance" && other["metadata"]["name"] == named["name"];
            let teams = objects.iter().find(is_its).and_then(|instance| instance["spec"]["teams"].as_array());
            for team in teams_in(object) {
                assert!(teams.into_iter().flatten().any(|one| one["name"] == team), "no team {team} for {object}");
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no example names a team");
}

/// The names of all tests, as they stand in the sources.
fn tests_of(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            tests_of(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line == "#[test]" || line.starts_with("#[tokio::test") {
                    let name = lines.find_map(|line| line.split_once("fn ")).unwrap().1;
                    found.insert(name.split('(').next().unwrap().to_owned());
                }
            }
        }
    }
}

/// The rows of a page that name tests in their last cell.
fn rows_with_tests(page: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

const TOKEN_PAGES: &str = "docs/explanation/token-pages.md";

#[test]
fn each_test_that_holds_a_promise_is_one() {
    let mut tests = BTreeSet::new();
    ["src", "tests"].iter().for_each(|folder| tests_of(&root().join(folder), &mut tests));
    for page in ["docs/promises.md", TOKEN_PAGES] {
        let rows = rows_with_tests(page);
        assert!(rows.len() > 40, "{page}: {}", rows.len());
        for name in rows.iter().flat_map(|row| row.last().unwrap().split(", ")) {
            assert!(tests.contains(name.trim_matches('`')), "{page}: there is no test {name}");
        }
    }
}

#[test]
fn each_promise_of_the_four_products_has_a_step_and_a_test() {
    let products = [('E', 31), ('C', 24), ('A', 29), ('T', 25)];
    let wanted: Vec<_> =
        products.iter().flat_map(|(letter, most)| (1..=*most).map(move |nth| format!("{letter}{nth}"))).collect();
    let rows = rows_with_tests(TOKEN_PAGES);
    assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), wanted);
    for row in rows {
        assert!(row.len() == 4 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}
