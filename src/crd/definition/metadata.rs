//! The metadata of a new object, as the API server judges it for objects of all kinds (`ValidateObjectMeta` in
//! k8s.io/apimachinery).

use std::collections::BTreeSet;

use schemars::schema_for;
use serde_json::{Map, Value, json};

use crate::crd::{Fault, ObjectName, keys, text::is_subdomain};

/// The most bytes of all annotations, keys and values together.
const ANNOTATIONS: usize = 256 * 1024;
/// The longest name of an object (RFC 1123 subdomain).
const SUBDOMAIN: usize = 253;
/// The longest name of a namespace (RFC 1123 label).
const LABEL: usize = 63;
/// Finalizers that exclude each other, as each of them says the fate of the dependents.
const FATES: [&str; 2] = ["orphan", "foregroundDeletion"];

/// The schema of the metadata: fields and types. A definition leaves it to the API server.
pub(super) fn schema() -> Value {
    let (text, any, flag) = (json!({"type": "string"}), json!({}), json!({"type": "boolean"}));
    let (given, time) = (json!({"type": "string", "minLength": 1}), json!({"type": "string", "format": "date-time"}));
    let marks = json!({"type": "object", "additionalProperties": text});
    let reference = json!({
        "type": "object", "required": ["apiVersion", "kind", "name", "uid"],
        "properties": {
            "apiVersion": given, "kind": given, "name": given, "uid": given, "controller": flag,
            "blockOwnerDeletion": flag,
        },
    });
    let name = schema_for!(ObjectName).to_value();
    let fields = json!({
        "name": name, "namespace": name, "generateName": text, "labels": marks, "annotations": marks,
        "finalizers": {"type": "array", "items": text}, "ownerReferences": {"type": "array", "items": reference},
        "uid": text, "resourceVersion": text, "generation": {"type": "integer"}, "creationTimestamp": time,
        "deletionTimestamp": time, "deletionGracePeriodSeconds": {"type": "integer"}, "managedFields": any,
        "selfLink": text,
    });
    json!({"type": "object", "properties": fields})
}

/// Removes names that are empty. For the API server, these are not given.
pub(super) fn complete(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, value| !(["name", "namespace", "generateName"].contains(&&**field) && value == ""));
    }
}

/// The faults of metadata whose fields have their types.
pub(super) fn faults(metadata: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    names(metadata, &mut faults);
    let empty = Map::new();
    let map = |field: &str| metadata[field].as_object().unwrap_or(&empty);
    for (key, value) in map("labels") {
        let mut add = |message| faults.push(Fault::invalid(format!("metadata.labels[{key}]"), message));
        if !keys::is_qualified(key) {
            add(keys::QUALIFIED_RULE);
        } else if !value.as_str().is_some_and(keys::is_label) {
            add(keys::LABEL_RULE);
        }
    }
    let annotations = map("annotations");
    // The API server lowers the case of the keys of annotations before it judges them.
    for key in annotations.keys().filter(|key| !keys::is_qualified(&key.to_lowercase())) {
        faults.push(Fault::invalid(format!("metadata.annotations[{key}]"), keys::QUALIFIED_RULE));
    }
    let bytes: usize =
        annotations.iter().map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len()).sum();
    if bytes > ANNOTATIONS {
        let message = format!("must not have more than {ANNOTATIONS} bytes in all, not {bytes}; remove some");
        faults.push(Fault::invalid("metadata.annotations", message));
    }
    finalizers(metadata, &mut faults);
    references(metadata, &mut faults);
    faults
}

fn names(metadata: &Value, faults: &mut Vec<Fault>) {
    let text = |field: &str| metadata[field].as_str().filter(|text| !text.is_empty());
    if text("namespace").is_some_and(|namespace| namespace.contains('.') || namespace.len() > LABEL) {
        let message = "must be the name of a namespace: up to 63 lower-case letters, digits and '-'";
        faults.push(Fault::invalid("metadata.namespace", message));
    }
    match (text("name"), text("generateName")) {
        (None, None) => faults.push(Fault::invalid("metadata.name", "is missing; add it")),
        (_, Some(prefix)) if !begins_name(prefix) => {
            let message = "must be the begin of a name: lower-case letters, digits, '-' and '.', such as ci-";
            faults.push(Fault::invalid("metadata.generateName", message));
        }
        (Some(_), _) | (None, Some(_)) => {}
    }
}

/// True if a name can begin so. The API server judges the prefix, with a letter in place of its last two characters if
/// the last one is a dash. Then it judges the name that it has made.
fn begins_name(prefix: &str) -> bool {
    let masked = prefix.strip_suffix('-').and_then(|before| {
        let mut kept = before.to_owned();
        kept.pop().map(|_| format!("{kept}a"))
    });
    is_subdomain(masked.as_deref().unwrap_or(prefix))
        && is_subdomain(&format!("{prefix}x"))
        && prefix.len() <= SUBDOMAIN
}

fn finalizers(metadata: &Value, faults: &mut Vec<Fault>) {
    let all: Vec<_> = metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (index, finalizer) in all.iter().enumerate().filter(|(_, finalizer)| !keys::is_qualified(finalizer)) {
        let message = format!("{finalizer:?} is no finalizer; give a name with a domain, such as example.com/backup");
        faults.push(Fault::invalid(format!("metadata.finalizers[{index}]"), message));
    }
    if FATES.iter().all(|fate| all.contains(fate)) {
        let message = format!("{} exclude each other; remove one", FATES.join(" and "));
        faults.push(Fault::invalid("metadata.finalizers", message));
    }
}

fn references(metadata: &Value, faults: &mut Vec<Fault>) {
    let all = || metadata["ownerReferences"].as_array().into_iter().flatten();
    for (index, reference) in all().enumerate() {
        let version = reference["apiVersion"].as_str().unwrap_or_default();
        if version.matches('/').count() > 1 || version.ends_with('/') {
            let message = "must be a version, such as v1 or apps/v1";
            faults.push(Fault::invalid(format!("metadata.ownerReferences[{index}].apiVersion"), message));
        }
    }
    // The API server drops repeated entries before it judges them.
    let controllers: BTreeSet<_> =
        all().filter(|reference| reference["controller"] == true).map(Value::to_string).collect();
    if controllers.len() > 1 {
        let message = "must have at most one entry with controller: true; remove the others";
        faults.push(Fault::invalid("metadata.ownerReferences", message));
    }
}
