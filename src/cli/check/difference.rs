//! The difference between an object that is wanted and the object that the API server has.

use serde_json::Value;

/// The first place where `served` is not as `wanted`, such as `spec.versions[0].schema`. `None` if there is none.
///
/// The API server adds defaults, so `served` may have further fields. The exceptions are the fields of a schema, and an
/// empty selector: it selects everything, and a selector with labels does not.
pub(super) fn difference(wanted: &Value, served: &Value) -> Option<String> {
    let place = at(wanted, served, "")?;
    Some(place.trim_start_matches('.').to_owned())
}

fn at(wanted: &Value, served: &Value, path: &str) -> Option<String> {
    let here = || Some(path.to_owned());
    match (wanted, served) {
        (Value::Object(wanted), Value::Object(served)) => {
            let is_exact = wanted.is_empty() || path.ends_with(".properties");
            let keys = wanted.keys().chain(served.keys()).filter(|_| is_exact);
            if let Some(key) = { keys }.find(|key| wanted.contains_key(*key) != served.contains_key(*key)) {
                return Some(format!("{path}.{key}"));
            }
            wanted
                .iter()
                .find_map(|(key, value)| at(value, served.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}")))
        }
        (Value::Array(wanted), Value::Array(served)) if wanted.len() == served.len() => {
            let both = wanted.iter().zip(served).enumerate();
            { both }.find_map(|(nth, (wanted, served))| at(wanted, served, &format!("{path}[{nth}]")))
        }
        // The API server leaves out fields that are empty.
        (wanted, Value::Null) if is_empty(wanted) => None,
        // A whole number has two forms in JSON.
        (Value::Number(wanted), Value::Number(served)) if wanted.as_f64() == served.as_f64() => None,
        (wanted, served) => (wanted != served).then(here).flatten(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_on) => !is_on,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_of_the_api_server_are_no_difference_and_all_else_is() {
        let wanted = json!({"a": [{"b": 1.0}], "properties": {"x": {}}, "selector": {}, "off": false});
        let same = json!({"a": [{"b": 1, "more": 2}], "properties": {"x": {}}, "selector": {}, "extra": true});
        assert_eq!(difference(&wanted, &same), None);
        for (path, value, place) in [
            ("/a/0/b", json!(2), "a[0].b"),
            ("/a", json!([]), "a"),
            ("/properties", json!({"x": {}, "y": {}}), "properties.y"),
            ("/selector", json!({"matchLabels": {}}), "selector.matchLabels"),
            ("/properties", json!({}), "properties.x"),
        ] {
            let mut other = same.clone();
            *other.pointer_mut(path).unwrap() = value;
            let found = difference(&wanted, &other);
            assert_eq!(found.as_deref(), Some(place), "{path}");
        }
        assert_eq!(difference(&json!({"a": "x"}), &json!({})).as_deref(), Some("a"));
        assert_eq!(difference(&json!({"a": "x"}), &json!({"a": "y"})).as_deref(), Some("a"));
    }
}
