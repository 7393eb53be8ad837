//! Judges an object by the definition of its kind, as the API server does when it creates the object. This needs no
//! cluster.
//!
//! The order is that of the API server: defaults, then types and limits, then rules in CEL. A rule judges only values
//! without faults in their structure. Rules about a change of an object (`oldSelf`) are left out. Metadata has rules of
//! its own, which are those of all kinds.

mod metadata;
mod rules;
mod structure;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Fault, definitions};
use rules::DefinitionRules;
pub(crate) use rules::environment;
use structure::Inspection;

/// The definitions of all kinds, ready to judge objects.
pub struct Definitions {
    /// The schema of each kind, with its name.
    kinds: BTreeMap<String, Value>,
    rules: DefinitionRules,
}

impl Default for Definitions {
    fn default() -> Self {
        let named = definitions().into_iter().map(|definition| {
            let kind = definition.spec.names.kind.clone();
            let version = serde_json::to_value(&definition.spec.versions[0]).expect("a definition is plain data");
            (kind, with_metadata(version["schema"]["openAPIV3Schema"].clone()))
        });
        let kinds: BTreeMap<_, _> = named.collect();
        Self { rules: DefinitionRules::of(kinds.values()), kinds }
    }
}

impl Definitions {
    /// The kinds that have a definition, in alphabetical order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// The object as the API server would store it: with defaults, and without fields that are `null` or names that are
    /// empty. An object of
    /// another kind stays as it is.
    pub fn complete(&self, object: &mut Value) {
        if let Some(schema) = self.schema(object) {
            structure::complete(schema, object);
            metadata::complete(object);
        }
    }

    /// All faults of an object that is complete. An object of another kind has none.
    pub fn faults(&self, object: &Value) -> Vec<Fault> {
        let Some(schema) = self.schema(object) else { return Vec::new() };
        let mut inspection = Inspection { rules: &self.rules, faults: Vec::new() };
        inspection.judge(schema, object, "");
        let mut faults = inspection.faults;
        if faults.iter().all(|fault| !fault.path.starts_with("metadata")) {
            faults.extend(metadata::faults(&object["metadata"]));
        }
        faults
    }

    fn schema(&self, object: &Value) -> Option<&Value> {
        self.kinds.get(object["kind"].as_str()?)
    }
}

/// The schema with the fields that every object has. A definition leaves them to the API server.
fn with_metadata(mut schema: Value) -> Value {
    let text = json!({"type": "string"});
    let properties = &mut schema["properties"];
    properties["apiVersion"] = text.clone();
    properties["kind"] = text;
    properties["metadata"] = metadata::schema();
    // The API server drops a status from an object that it creates.
    properties["status"] = json!({});
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults of a token with this spec, each as `path: message`.
    fn told(spec: Value) -> Vec<String> {
        of(json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "ci"}, "spec": spec}))
    }

    fn of(mut object: Value) -> Vec<String> {
        let definitions = Definitions::default();
        definitions.complete(&mut object);
        definitions.faults(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn types_and_unknown_fields_are_told_with_their_path() {
        let wrong =
            json!({"instanceRef": {"name": 7}, "rotations": {}, "secret": {"labels": {"a": true}}, "role": null});
        let faults = told(wrong);
        let start = |text: &str| faults.iter().any(|fault| fault.starts_with(text));
        assert!(start("spec.instanceRef.name: must be a text, not a number"), "{faults:?}");
        assert!(start("spec.rotations: no such field exists; did you mean rotation?"), "{faults:?}");
        assert!(start("spec.secret.labels[a]: must be a text, not a boolean; put it into quotes"), "{faults:?}");
        assert_eq!(faults.len(), 3, "null means left out: {faults:?}");
        assert_eq!(told(json!({})), ["spec.instanceRef: is missing; add it"]);
    }

    #[test]
    fn limits_are_told() {
        let of = |more: Value| {
            let mut spec = json!({"instanceRef": {"name": "eem"}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            told(spec)
        };
        assert_eq!(of(json!({"role": ""})), ["spec.role: must not be empty"]);
        let delivery = of(json!({"secret": {"delivery": "once"}}));
        assert_eq!(delivery, ["spec.secret.delivery: must be one of Retain, Once; did you mean Once?"]);
        let long = of(json!({"role": "a".repeat(64)}));
        assert_eq!(long, ["spec.role: must have at most 63 characters, not 64"]);
        let twice = of(json!({"projects": ["a", "b", "a"]}));
        assert_eq!(twice, ["spec.projects[2]: repeats an earlier entry; remove it"]);
        for at in ["tomorrow", "2030-01-01", "2030-01-01 00:00:00Z", "2030-01-01T00:00Z", "2030-01-01T00:00:00.Z"] {
            let time = of(json!({"expiry": {"at": at}}));
            assert_eq!(time, [format!("spec.expiry.at: {}", crate::token::moment::RULE)], "{at}");
        }
        assert_eq!(of(json!({"expiry": {"at": "2030-01-01T00:00:00.25+02:00"}})), [""; 0]);
    }

    #[test]
    fn rules_are_evaluated() {
        let of = |more: Value| {
            let mut spec = json!({"instanceRef": {"name": "eem"}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            told(spec)
        };
        assert_eq!(of(json!({"role": "Admin"})).len(), 1);
        assert_eq!(of(json!({"expiry": {"after": "1d", "at": "2030-01-01T00:00:00Z"}})).len(), 1);
        assert_eq!(of(json!({"expiry": {"after": "1d"}, "rotation": {"overlap": "20h"}})).len(), 1);
        assert_eq!(of(json!({"expiry": {"at": "9999-06-01T00:00:00Z"}})).len(), 1);
        assert_eq!(of(json!({"secret": {"labels": {"tokenry.dev/a": "b"}}})).len(), 1);
        let well = json!({
            "role": "admin", "expiry": {"at": "2030-01-01T00:00:00Z"}, "owner": "user:é",
            "secret": {"labels": {"a/b": "c"}, "data": {"client.env": "{{ token }}"}},
        });
        assert_eq!(of(well), [""; 0]);
    }

    #[test]
    fn a_rule_with_a_field_path_is_told_there() {
        let instance = json!({"kind": "Instance", "metadata": {"name": "eem"}, "spec": {"grants": "Members"}});
        assert_eq!(of(instance).iter().filter(|fault| fault.starts_with("spec.grants: ")).count(), 1);
    }

    #[test]
    fn metadata_is_judged_too() {
        let wrong = json!({"name": "Ci", "label": {}, "annotations": {"a": 1}});
        let told = of(json!({"kind": "ApiToken", "metadata": wrong, "spec": {"instanceRef": {"name": "eem"}}}));
        let mut paths: Vec<_> = told.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["metadata.annotations[a]", "metadata.label", "metadata.name"]);
    }

    #[test]
    fn metadata_has_the_rules_of_all_kinds() {
        let faults = |more: Value| {
            let mut metadata = json!({"name": "ci"});
            metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of(json!({"kind": "ApiToken", "metadata": metadata, "spec": {"instanceRef": {"name": "eem"}}}))
        };
        let owner = |more: Value| {
            let mut owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u"});
            owner.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            owner
        };
        let controller = owner(json!({"controller": true}));
        let other = owner(json!({"controller": true, "uid": "v"}));
        for (wrong, path) in [
            (json!({"name": null}), "metadata.name"),
            (json!({"generateName": "A-"}), "metadata.generateName"),
            (json!({"generateName": "Ab-"}), "metadata.generateName"),
            (json!({"generateName": "a.-"}), "metadata.generateName"),
            (json!({"namespace": "a.b"}), "metadata.namespace"),
            (json!({"labels": {"a b": "c"}}), "metadata.labels[a b]"),
            (json!({"labels": {"a": "b c"}}), "metadata.labels[a]"),
            (json!({"annotations": {"a b": "c"}}), "metadata.annotations[a b]"),
            (json!({"annotations": {"a": "b".repeat(257 * 1024)}}), "metadata.annotations"),
            (json!({"finalizers": ["a b"]}), "metadata.finalizers[0]"),
            (json!({"finalizers": ["orphan", "foregroundDeletion"]}), "metadata.finalizers"),
            (json!({"ownerReferences": [owner(json!({"uid": ""}))]}), "metadata.ownerReferences[0].uid"),
            (
                json!({"ownerReferences": [owner(json!({"apiVersion": "a/"}))]}),
                "metadata.ownerReferences[0].apiVersion",
            ),
            (json!({"ownerReferences": [controller, other]}), "metadata.ownerReferences"),
            (json!({"creationTimestamp": "soon"}), "metadata.creationTimestamp"),
        ] {
            let told = faults(wrong);
            assert!(told.len() == 1 && told[0].starts_with(&format!("{path}: ")), "{path}: {told:?}");
        }
        let well = json!({
            "generateName": "ci-", "labels": {"a": "b"}, "annotations": {"Example.com/a": "b c"},
            "finalizers": ["example.com/a"], "ownerReferences": [controller, controller], "creationTimestamp": null,
            "namespace": "", "resourceVersion": "1",
        });
        assert_eq!(faults(well), [""; 0]);
    }

    #[test]
    fn what_is_stored_has_its_defaults() {
        let mut object =
            json!({"kind": "ApiToken", "spec": {"instanceRef": {"name": "eem"}, "secret": {}, "role": null}});
        let definitions = Definitions::default();
        definitions.complete(&mut object);
        assert_eq!(object["spec"]["active"], true);
        assert!(object["spec"].get("role").is_none());
        let kinds: Vec<_> = definitions.kinds().collect();
        assert_eq!(kinds, ["AccessPolicy", "ApiToken", "Instance", "ServiceAccount"]);
    }
}
