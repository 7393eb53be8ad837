//! Objects as the API server sends them. An object that cannot be parsed never affects another object.

use std::{borrow::Cow, collections::BTreeMap, fmt::Debug};

use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, core::ObjectMeta};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, IgnoredAny},
};
use serde_json::{Map, Value, json, to_value};

use crate::crd::{UNREADABLE, secret::Sealed};

/// An object of kind `K`, parsed as far as possible.
///
/// A single time outside the range of our types would make a whole list unreadable. Everyone with permission to create
/// an object can write such a time into its managed fields. So the managed fields are removed before parsing.
///
/// A status that exists but cannot be parsed does not count as absent: it may hold records and a revocation. Its fields
/// are parsed one by one. The status that replaces it names the fields that cannot be parsed ([`UNREADABLE`]). The
/// verifier's field `use` is never named, because no other field depends on it.
#[derive(Clone, Debug)]
pub struct Readable<K> {
    /// The object. `None` if not even its spec can be parsed.
    pub object: Option<K>,
    meta: ObjectMeta,
}

impl<'de, K: DeserializeOwned + Resource<DynamicType = ()>> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = fields::<K, D>(deserializer)?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
            annotations.map(|annotations| annotations.remove(LAST_APPLIED));
        }
        let object = K::deserialize(&value).ok().or_else(|| {
            let status = value.as_object_mut()?.remove("status")?;
            value["status"] = readable::<K>(&value, status);
            K::deserialize(&value).ok()
        });
        let meta = object.as_ref().map_or_else(|| names(&value["metadata"]), |object| names_of(object.meta()));
        Ok(Self { object, meta })
    }
}

/// The annotation in which `kubectl apply` keeps a copy of the whole object. Nothing in Tokenry reads it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields of an object. A Secret's values are sealed while they are parsed, so they are never in a plain `Value`.
fn fields<'de, K: Resource<DynamicType = ()>, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    match K::kind(&()) == Secret::kind(&()) {
        true => SecretFields::deserialize(deserializer).and_then(|read| to_value(read).map_err(de::Error::custom)),
        false => Value::deserialize(deserializer),
    }
}

/// The fields of a Secret.
#[derive(Serialize, Deserialize)]
struct SecretFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<BTreeMap<String, Sealed>>,
    /// A write-only field with plain values, which is ignored.
    #[serde(default, rename = "stringData", skip_serializing)]
    _plain: IgnoredAny,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The replacement of a `status` that cannot be parsed. `bare` is the object without its status.
fn readable<K: DeserializeOwned>(bare: &Value, status: Value) -> Value {
    let Value::Object(mut fields) = status else { return json!({ UNREADABLE: ["status"] }) };
    let reads = |field: &str, value: &Value| {
        let mut object = bare.clone();
        object["status"] = json!({ field: value });
        K::deserialize(object).is_ok()
    };
    let odd: Vec<String> =
        fields.iter().filter(|(field, value)| !reads(field, value)).map(|(field, _)| field.clone()).collect();
    if odd.is_empty() {
        return Value::Object(fields);
    }
    let conditions = fields.remove(CONDITIONS).filter(|_| !odd.iter().any(|field| field == CONDITIONS));
    json!({ UNREADABLE: odd, CONDITIONS: conditions.unwrap_or_else(|| json!([])) })
}

/// The status field with the conditions. No decision depends on it.
const CONDITIONS: &str = "conditions";

fn names(metadata: &Value) -> ObjectMeta {
    let text = |key: &str| metadata[key].as_str().map(str::to_owned);
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

fn names_of(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..ObjectMeta::default()
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Readable<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{ApiToken, SealedSecret};
    use serde_json::json;

    const BEYOND: &str = "9999-12-31T23:59:59Z";

    fn read(metadata: Value, spec: Value, status: Value) -> Readable<ApiToken> {
        let object = json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": metadata, "spec": spec, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn no_value_of_a_secret_is_ever_in_a_plain_one() {
        let secret = r#"{"kind":"Secret","metadata":{"name":"a"},"data":{"token":"YWJj","odd":7},"stringData":{"token":"YWJj"}}"#;
        let mut text = serde_json::Deserializer::from_str(secret);
        let read = fields::<SealedSecret, _>(&mut text).unwrap();
        assert!(!read.to_string().contains("YWJj"), "{read}");
        assert_eq!(read["metadata"]["name"], "a");
        let sealed: Readable<SealedSecret> = serde_json::from_str(secret).unwrap();
        let data = sealed.object.unwrap().data;
        assert_eq!((data["token"], data["odd"].digest()), (Sealed::of("abc"), None));
        let bare: Readable<SealedSecret> = serde_json::from_str(r#"{"metadata":{"name":"a"},"data":null}"#).unwrap();
        assert!(bare.object.unwrap().data.is_empty());
    }

    #[test]
    fn a_time_beyond_all_times_harms_nobody() {
        let managed = json!({"name": "a", "managedFields": [{"manager": "m", "operation": "Update", "time": BEYOND}]});
        let refers = json!({"instanceRef": {"name": "eem"}});
        assert!(read(managed, refers.clone(), json!({})).object.is_some());
        let lost = read(json!({"name": "a"}), refers, json!({"expiresAt": BEYOND})).object.unwrap();
        assert_eq!(lost.status.unwrap().unreadable, ["expiresAt"]);
    }

    #[test]
    fn what_kubectl_notes_for_itself_is_left_out_and_other_annotations_are_not() {
        let annotations = json!({LAST_APPLIED: "{}", "note": "a"});
        let read =
            read(json!({"name": "a", "annotations": annotations}), json!({"instanceRef": {"name": "eem"}}), json!({}));
        let annotations = read.object.unwrap().metadata.annotations.unwrap();
        assert_eq!(annotations.into_iter().collect::<Vec<_>>(), [("note".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn a_status_that_cannot_be_read_is_not_an_absent_one_and_uses_harm_nobody() {
        let refers = || json!({"instanceRef": {"name": "eem"}});
        let status = |status: Value| read(json!({"name": "a"}), refers(), status).object.unwrap().status.unwrap();
        let used = json!([{"generation": 1, "firstUsedAt": BEYOND, "lastUsedAt": BEYOND}]);
        let plain = status(json!({"lastGeneration": 7, "use": used}));
        assert_eq!((plain.last_generation, plain.used().len(), plain.unreadable.len()), (Some(7), 0, 0));
        let said = json!({"type": "Ready", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let odd = status(json!({
            "lastGeneration": 7, "use": used, "records": "none", "claim": 7, "conditions": [said], "newer": "unknown",
        }));
        assert_eq!((odd.last_generation, odd.conditions.len()), (None, 1), "nothing of it is gone by");
        assert_eq!(odd.unreadable, ["claim", "records"]);
        assert_eq!(status(json!("odd")).unreadable, ["status"]);
        assert_eq!(status(json!({"conditions": "odd"})).unreadable, ["conditions"]);
        assert!(read(json!({"name": "a"}), refers(), json!({"unreadable": []})).object.unwrap().status.is_some());
    }

    #[test]
    fn what_cannot_be_read_at_all_is_still_named() {
        let odd = read(json!({"name": "a", "resourceVersion": "7"}), json!(null), json!({}));
        assert!(odd.object.is_none());
        assert_eq!((odd.meta().name.as_deref(), odd.meta().resource_version.as_deref()), (Some("a"), Some("7")));
    }
}
