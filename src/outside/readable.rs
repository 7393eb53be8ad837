//! Objects as they come, whatever stands in them: one that cannot be read never harms another.

use std::{borrow::Cow, fmt::Debug};

use kube::{Resource, core::ObjectMeta};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// An object of kind `K`, read as far as it can be.
///
/// A whole list cannot be read if one time in it is beyond what our types hold, and anybody who may create an object can
/// write such a time into its managed fields. So these are left out before reading; and where a status that someone wrote by
/// hand cannot be read, the object is taken as having none.
#[derive(Clone, Debug)]
pub struct Readable<K> {
    /// The object; nothing where not even its spec can be read.
    pub object: Option<K>,
    meta: ObjectMeta,
}

impl<'de, K: DeserializeOwned + Resource> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let object = K::deserialize(&value).ok().or_else(|| {
            value.as_object_mut()?.remove("status");
            K::deserialize(&value).ok()
        });
        let meta = object.as_ref().map_or_else(|| names(&value["metadata"]), |object| names_of(object.meta()));
        Ok(Self { object, meta })
    }
}

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
    use crate::crd::ApiToken;
    use serde_json::json;

    const BEYOND: &str = "9999-12-31T23:59:59Z";

    fn read(metadata: Value, spec: Value, status: Value) -> Readable<ApiToken> {
        let object = json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": metadata, "spec": spec, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_time_beyond_all_times_harms_nobody() {
        let managed = json!({"name": "a", "managedFields": [{"manager": "m", "operation": "Update", "time": BEYOND}]});
        let refers = json!({"instanceRef": {"name": "eem"}});
        assert!(read(managed, refers.clone(), json!({})).object.is_some());
        let lost = read(json!({"name": "a"}), refers, json!({"expiresAt": BEYOND})).object.unwrap();
        assert_eq!(lost.status, None);
    }

    #[test]
    fn what_cannot_be_read_at_all_is_still_named() {
        let odd = read(json!({"name": "a", "resourceVersion": "7"}), json!(null), json!({}));
        assert!(odd.object.is_none());
        assert_eq!((odd.meta().name.as_deref(), odd.meta().resource_version.as_deref()), (Some("a"), Some("7")));
    }
}
