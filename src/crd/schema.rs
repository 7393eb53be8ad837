//! Schemas of the domain's values in the CRDs, and CEL rules about them.
//!
//! A CEL rule is used instead of a `pattern`, because the error for a pattern shows only the expression.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use crate::token::{
    Digest,
    duration::{self, Delay, Duration},
    moment::{self, Moment},
};

/// An RE2 expression for whole days. `Duration::parse` accepts the same texts.
const DAYS: &str = "[1-9][0-9]{0,4}d";
/// An RE2 expression for hours, minutes and seconds. CEL parses these texts as durations.
const CLOCK: &str = "([0-9]{1,5}[hms]){1,4}";

/// Implements `JsonSchema` for a type. The schema is inlined at each use of the type.
macro_rules! schema {
    ($type:ident, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema!(Digest, json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" }));
schema!(Duration, ruled(duration::LONGEST, &format!("{} && {} > 0", written("self"), seconds("self")), duration::RULE));
schema!(Delay, ruled(duration::LONGEST, &written("self"), duration::DELAY_RULE));
schema!(Moment, {
    let mut schema = ruled(moment::LONGEST, &format!("self < timestamp('{}')", moment::END), moment::RULE);
    schema.insert("format".into(), "date-time".into());
    schema
});

/// A text of at most `longest` characters with a CEL rule.
fn ruled(longest: usize, rule: &str, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": longest,
        "x-kubernetes-validations": [{ "rule": rule, "message": message }],
    })
}

/// A CEL expression that is true if `field` has the form of a duration.
fn written(field: &str) -> String {
    format!("{field}.matches('^({DAYS}|{CLOCK})$')")
}

/// A CEL expression for the seconds of the duration `field`.
fn seconds(field: &str) -> String {
    format!(
        "({field}.endsWith('d') ? int({field}.substring(0, size({field}) - 1)) * 86400 \
         : duration({field}).getSeconds())"
    )
}

/// A CEL rule that compares `times` the duration `one` with the duration `other`. It holds for an invalid duration,
/// because the rule of that field reports it.
pub fn compared(one: &str, times: i32, comparison: &str, other: &str) -> String {
    let factor = if times == 1 { String::new() } else { format!(" * {times}") };
    format!("!({} && {}) || {}{factor} {comparison} {}", written(one), written(other), seconds(one), seconds(other))
}

/// The end of every description of a duration.
const A_DURATION: &str = "Whole days such as `90d`, or hours, minutes and seconds such as `24h` or `1h30m`.";
/// The end of every description of a delay.
const A_DELAY: &str = "Whole days such as `7d`, or hours, minutes and seconds such as `30m` or `1h30m`, or `0s`.";
/// The end of every description of a time.
const A_TIME: &str = "A time as in RFC 3339 such as `2027-06-30T00:00:00Z`.";

/// Rewrites the descriptions in a schema for `kubectl explain`: one line per paragraph, and the form of each duration
/// and time.
pub(super) fn describe(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let form = form(fields);
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text =
                    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
                form.into_iter().for_each(|form| *text = format!("{text} {form}"));
            }
            fields.values_mut().for_each(describe);
        }
        Value::Array(items) => items.iter_mut().for_each(describe),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The sentence about the form of a duration or a time; `None` for other fields.
fn form(schema: &Map<String, Value>) -> Option<&'static str> {
    if schema.get("format").is_some_and(|format| format == "date-time") {
        return Some(A_TIME);
    }
    let mut rules = schema.get("x-kubernetes-validations")?.as_array()?.iter();
    rules.find_map(|rule| match rule["message"].as_str() {
        Some(duration::RULE) => Some(A_DURATION),
        Some(duration::DELAY_RULE) => Some(A_DELAY),
        Some(_) | None => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The fields of a type, as users write them.
    pub(crate) fn fields<T: JsonSchema>() -> BTreeSet<String> {
        let schema = schemars::schema_for!(T).to_value();
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }
}
