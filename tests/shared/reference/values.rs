//! The values of the chart.

use std::{fs, path::Path};

use serde_json::Value;

use super::page::{begin, cell, code, table};

const FILE: &str = "charts/tokenry/values.yaml";

pub fn page(root: &Path) -> String {
    let text = fs::read_to_string(root.join(FILE)).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    let values: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    let about = "A value that the schema does not know is an error of `helm install`.";
    let mut page = begin("Values of the chart", "`charts/tokenry/values.yaml`", about);
    page.push('\n');
    table(&mut page, ["value", "default", "meaning"], rows(&text, &values));
    page
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
