//! The fields of the four kinds.

use serde_json::Value;
use tokenry::crd;

use super::page::{begin, cell, code, section, table};

/// The kinds in the order of the page: the ones that a reader needs first.
const ORDER: [&str; 4] = ["Instance", "ApiToken", "ServiceAccount", "AccessPolicy"];

pub fn page() -> String {
    let about = "Each kind belongs to the group `tokenry.dev`, version `v1alpha1`, and lives in a namespace. A field \
                 with a star is required. `kubectl explain` prints the same text.";
    let mut page = begin("API", "the CustomResourceDefinitions", about);
    let to_json = |definition| serde_json::to_value(definition).expect("a definition is JSON");
    let mut definitions: Vec<Value> = crd::definitions().into_iter().map(to_json).collect();
    definitions.sort_by_key(|one| ORDER.iter().position(|kind| one["spec"]["names"]["kind"] == *kind));
    definitions.iter().for_each(|definition| kind(&mut page, definition));
    page
}

fn kind(page: &mut String, definition: &Value) {
    let names = &definition["spec"]["names"];
    let version = &definition["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = format!(
        "{}\n\nPlural `{}`, short name `{}`.",
        cell(&text(&schema["description"])),
        text(&names["plural"]),
        text(&names["shortNames"][0])
    );
    section(page, &text(&names["kind"]), &about);
    let mut rows = Vec::new();
    for part in ["spec", "status"] {
        fields(part, &schema["properties"][part], &mut rows);
    }
    table(page, ["field", "form", "description"], rows);
    let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
    let columns = columns.map(|column| {
        let shown = if column["priority"].as_i64().unwrap_or(0) > 0 { "`-o wide`" } else { "always" };
        [text(&column["name"]), shown.to_owned(), code(&text(&column["jsonPath"]))]
    });
    page.push_str("\nColumns of `kubectl get`:\n\n");
    table(page, ["column", "shown", "field"], columns);
}

/// A row for each field below `schema`.
fn fields(path: &str, schema: &Value, rows: &mut Vec<[String; 3]>) {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let star = if required.iter().any(|one| *one == name) { " \\*" } else { "" };
        rows.push([code(&path) + star, form(field), about(field)]);
        // The fields of a condition are those of every Kubernetes API.
        if name != "conditions" {
            below(&path, field, rows);
        }
    }
}

/// The description of a field, with a break between paragraphs. The default of the schema follows, unless the
/// description has it already.
fn about(field: &Value) -> String {
    let described = field["description"].as_str().unwrap_or_default();
    let text = described.split("\n\n").map(cell).collect::<Vec<_>>().join(" <br> ");
    let Some(default) = field.get("default") else { return text };
    let plain = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
    if described.contains(&format!("Default: {plain}.")) {
        return text;
    }
    format!("{text} *Schema default:* {}.", code(&default.to_string()))
}

fn below(path: &str, field: &Value, rows: &mut Vec<[String; 3]>) {
    fields(path, field, rows);
    fields(&format!("{path}[]"), &field["items"], rows);
    fields(&format!("{path}.*"), &field["additionalProperties"], rows);
}

/// The type of a field, in words.
fn form(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        return values.iter().filter_map(Value::as_str).map(code).collect::<Vec<_>>().join(" or ");
    }
    match (field["type"].as_str().unwrap_or("any"), field["format"].as_str()) {
        ("array", _) => format!("list of {}", form(&field["items"])),
        ("object", _) if field["additionalProperties"].is_object() => {
            format!("map to {}", form(&field["additionalProperties"]))
        }
        ("string", Some("date-time")) => "time".to_owned(),
        (plain, _) => plain.to_owned(),
    }
}
