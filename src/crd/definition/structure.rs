//! The structure of an object by its schema: types, unknown and missing fields, and limits.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::rules::DefinitionRules;
use crate::{crd::Fault, token::moment};

/// Two names that are at least this similar are one name with a typing error (Jaro-Winkler).
const SIMILAR: f64 = 0.8;

/// Adds the defaults of the schema, and removes the fields that are `null`. A whole number such as `7.0` becomes `7`.
pub(super) fn complete(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            for (name, schema) in entries(schema, "properties") {
                if let Some(default) = schema.get("default") {
                    fields.entry(name.clone()).or_insert_with(|| default.clone());
                }
            }
            for (name, value) in fields {
                below(schema, name).into_iter().for_each(|schema| complete(schema, value));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| complete(&schema["items"], item)),
        Value::Number(_) if schema["type"] == "integer" => {
            if let Some(whole) = whole(value) {
                *value = whole.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The inspection of one object.
pub(super) struct Inspection<'a> {
    pub(super) rules: &'a DefinitionRules,
    pub(super) faults: Vec<Fault>,
}

impl Inspection<'_> {
    /// Judges a value by its schema, and then all values in it.
    pub(super) fn judge(&mut self, schema: &Value, value: &Value, path: &str) {
        let before = self.faults.len();
        if let Some(message) = mistyped(schema, value) {
            return self.add(path, message);
        }
        if let Some(message) = beyond(schema, value) {
            self.add(path, message);
        }
        match value {
            Value::Object(fields) => self.fields(schema, fields, path),
            Value::Array(items) => self.items(schema, items, path),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        if self.faults.len() == before {
            self.faults.extend(self.rules.broken(schema, value, path));
        }
    }

    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault::invalid(path.to_owned(), message));
    }

    fn fields(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        let field = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, value) in fields {
            let is_named = schema["properties"].get(name).is_some();
            match below(schema, name) {
                Some(schema) if is_named => self.judge(schema, value, &field(name)),
                Some(schema) => self.judge(schema, value, &format!("{path}[{name}]")),
                None if schema.get("type").is_some() => {
                    let known: Vec<_> = entries(schema, "properties").map(|(name, _)| name.as_str()).collect();
                    self.add(&field(name), format!("no such field exists; {}", advice(name, &known)));
                }
                None => {}
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !fields.contains_key(*name)) {
            self.add(&field(name), "is missing; add it");
        }
    }

    fn items(&mut self, schema: &Value, items: &[Value], path: &str) {
        let keys: Vec<_> = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().collect();
        let is_set = matches!(schema["x-kubernetes-list-type"].as_str(), Some("set" | "map"));
        let identity = |item: &Value| match &keys[..] {
            [] => item.to_string(),
            keys => keys.iter().filter_map(|key| Some(item.get(key.as_str()?)?.to_string() + ",")).collect(),
        };
        let mut seen = HashSet::new();
        let most = schema["maxItems"].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        // A list with further entries has a fault already.
        for (index, item) in items.iter().enumerate().take(most) {
            let path = format!("{path}[{index}]");
            if is_set && !seen.insert(identity(item)) {
                self.add(&path, "repeats an earlier entry; remove it");
            }
            self.judge(&schema["items"], item, &path);
        }
    }
}

/// The schema of a field, or of a value under a free key.
fn below<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let named = schema["properties"].get(name);
    named.or_else(|| schema.get("additionalProperties").filter(|schema| schema.is_object()))
}

fn entries<'a>(schema: &'a Value, keyword: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema[keyword].as_object().into_iter().flatten()
}

/// The message for a value that is not of the type of its schema.
fn mistyped(schema: &Value, value: &Value) -> Option<String> {
    let (wanted, fits) = match schema.get("type")?.as_str()? {
        "string" => ("a text", value.is_string()),
        "integer" => ("a whole number", value.is_i64() || value.is_u64()),
        "number" => ("a number", value.is_number()),
        "boolean" => ("true or false", value.is_boolean()),
        "array" => ("a list", value.is_array()),
        "object" => ("a map of fields", value.is_object()),
        _ => return None,
    };
    let given = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map of fields",
    };
    let is_unquoted = wanted == "a text" && (value.is_boolean() || value.is_number());
    let quotes = if is_unquoted { "; put it into quotes" } else { "" };
    (!fits).then(|| format!("must be {wanted}, not {given}{quotes}"))
}

/// The whole number that a number such as `7.0` is for the API server.
fn whole(value: &Value) -> Option<i64> {
    /// The largest number up to which a floating-point number holds all whole ones.
    const EXACT: f64 = 9_007_199_254_740_991.0;
    let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= EXACT)?;
    format!("{number:.0}").parse().ok()
}

/// True for a time of RFC 3339 with capital letters. The parser alone also takes other forms, which the API server
/// refuses.
fn is_date_time(text: &str) -> bool {
    let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let form: String = text.chars().map(digit).collect();
    let Some(rest) = form.strip_prefix("0000-00-00T00:00:00") else { return false };
    let zone = rest.strip_prefix(".0").map_or(rest, |fraction| fraction.trim_start_matches('0'));
    let is_leap_second = text.get(17..19) == Some("60");
    ["Z", "+00:00", "-00:00"].contains(&zone) && !is_leap_second && text.parse::<jiff::Timestamp>().is_ok()
}

/// The message for a value that is beyond a limit of its schema.
fn beyond(schema: &Value, value: &Value) -> Option<String> {
    let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok());
    let counted = |count: usize, [least, most]: [&str; 2], unit: &str| {
        let few = limit(least).filter(|least| count < *least);
        let many = limit(most).filter(|most| count > *most);
        let few = few.map(|least| match count {
            0 => "must not be empty".to_owned(),
            _ => format!("must have at least {least} {unit}, not {count}"),
        });
        few.or_else(|| many.map(|most| format!("must have at most {most} {unit}, not {count}")))
    };
    match value {
        Value::String(text) => {
            let formless = || (schema["format"] == "date-time" && !is_date_time(text)).then(|| moment::RULE.to_owned());
            let length = || counted(text.chars().count(), ["minLength", "maxLength"], "characters");
            unlisted(schema, text).or_else(length).or_else(formless)
        }
        Value::Array(items) => counted(items.len(), ["minItems", "maxItems"], "entries"),
        Value::Object(fields) => counted(fields.len(), ["minProperties", "maxProperties"], "keys"),
        Value::Number(number) => {
            let (given, bound) = (number.as_f64()?, |keyword: &str| schema.get(keyword).and_then(Value::as_f64));
            let small =
                bound("minimum").filter(|least| given < *least).map(|least| format!("must be at least {least}"));
            small
                .or_else(|| bound("maximum").filter(|most| given > *most).map(|most| format!("must be at most {most}")))
        }
        Value::Null | Value::Bool(_) => None,
    }
}

/// The message for a text that is none of the listed ones.
fn unlisted(schema: &Value, text: &str) -> Option<String> {
    let listed: Vec<_> = schema.get("enum")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let near = nearest(text, &listed).map(|near| format!("; did you mean {near}?"));
    (!listed.contains(&text)).then(|| format!("must be one of {}{}", listed.join(", "), near.unwrap_or_default()))
}

/// The way to correct a name that is none of the known ones.
fn advice(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("remove it, or give one of {}", known.join(", ")),
    }
}

/// The known name that is most similar to `name`. `None` if no name is similar.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let similarity = |known: &str| strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
    let scored = known.iter().map(|known| (similarity(known), *known));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 >= SIMILAR).then_some(best.1)
}
