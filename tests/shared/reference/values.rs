//! The values of the chart.

use std::{fs, path::Path};

use serde_json::Value;

use super::page::{begin, cell, code, section, table};

const FILE: &str = "charts/tokenry/values.yaml";

/// The path of the README of the chart.
pub const README: &str = "charts/tokenry/README.md";

pub fn page(root: &Path) -> String {
    let about = "A value that the schema does not know is an error of `helm install`.";
    let mut page = begin("Values of the chart", "`charts/tokenry/values.yaml`", about);
    page.push('\n');
    all(&mut page, root);
    page
}

/// The README of the chart, which registries of charts show.
pub fn readme(root: &Path) -> String {
    let about = "Tokenry issues API access tokens as Kubernetes objects, delivers their values in Secrets, rotates them \
                 without an outage, and revokes them at once. This chart installs its operator and its verifier, the \
                 CustomResourceDefinitions, and the admission policies.";
    let mut page = begin("Tokenry", "`charts/tokenry/values.yaml`", about);
    section(&mut page, "Install", "The chart needs Kubernetes 1.33 or newer, and Helm 3 or 4.");
    page.push_str(
        "```console\n\
         $ helm install tokenry charts/tokenry --namespace tokenry-system --create-namespace --wait\n\
         $ helm test tokenry --namespace tokenry-system\n\
         $ helm upgrade tokenry charts/tokenry --namespace tokenry-system --reset-then-reuse-values --wait\n\
         $ helm uninstall tokenry --namespace tokenry-system\n\
         ```\n\n\
         An uninstall keeps the definitions, and with them every token and its Secret. `docs/how-to` of the repository \
         explains upgrades, high availability, network policies and releases for some namespaces.\n\n\
         A parent chart may name `tokenry.enabled` as the `condition` of this dependency.\n",
    );
    section(&mut page, "Values", "A value that the schema does not know is an error of `helm install`.");
    all(&mut page, root);
    page
}

/// The table of all values.
fn all(page: &mut String, root: &Path) {
    let text = fs::read_to_string(root.join(FILE)).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    let values: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    table(page, ["value", "default", "meaning"], rows(&text, &values));
}

/// A row for each value with a comment (`# -- …`) above it.
fn rows(text: &str, values: &Value) -> Vec<[String; 3]> {
    let (mut path, mut about, mut rows) = (Vec::<&str>::new(), None::<String>, Vec::new());
    for line in text.lines() {
        let inner = line.trim_start();
        if let Some(first) = inner.strip_prefix("# -- ") {
            about = Some(first.to_owned());
        } else if let Some(more) = inner.strip_prefix("# ") {
            about = about.map(|begun| format!("{begun} {more}"));
        } else if let Some((key, _)) = inner.split_once(':').filter(|_| !inner.starts_with('-')) {
            path.truncate((line.len() - inner.len()) / 2);
            path.push(key);
            if let Some(about) = about.take() {
                let default = path.iter().fold(values, |value, key| &value[*key]);
                rows.push([code(&path.join(".")), code(&default.to_string()), cell(&about)]);
            }
        }
    }
    rows
}
