//! Objects, read with the fields that other field managers than Tokenry own (server-side apply,
//! `metadata.managedFields`).

use std::{collections::BTreeSet, fmt::Debug};

use kube::{api::GetParams, core::Request};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    Reader, Refusal, Why,
    readable::Readable,
    reader::{Read, found},
};
use crate::crd::name;

/// The field managers of an object and their fields. Times are left out, because our types cannot hold every time.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ManagedReply {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    managed_fields: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    manager: String,
    subresource: String,
    #[serde(rename = "fieldsV1")]
    fields: Map<String, Value>,
}

impl Reader {
    /// The current object of that name, and the spec fields that other field managers than Tokenry own. `None` if the
    /// object does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn managed<K: Read>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(K, BTreeSet<String>)>, Refusal> {
        let request = Request::new(K::url_path(&(), Some(namespace))).get(name, &GetParams::default());
        found::<K, _>(self.asked(request).await.and_then(taken_apart), namespace, name)
    }
}

fn taken_apart<K: DeserializeOwned + kube::Resource<DynamicType = ()> + Debug>(
    value: Value,
) -> Result<(K, BTreeSet<String>), Why> {
    let fields = of_others(&ManagedReply::deserialize(&value).map_err(|_| Why::unreadable())?);
    let read: Readable<K> = serde_json::from_value(value).map_err(|_| Why::unreadable())?;
    Ok((read.object.ok_or_else(Why::unreadable)?, fields))
}

/// The names of the spec fields that other field managers than Tokenry own.
fn of_others(reply: &ManagedReply) -> BTreeSet<String> {
    let others = reply.metadata.managed_fields.iter();
    let others = others.filter(|entry| entry.manager != name::MANAGER && entry.subresource.is_empty());
    let specs = others.filter_map(|entry| entry.fields.get("f:spec")?.as_object());
    specs.flat_map(|spec| spec.keys().filter_map(|key| key.strip_prefix("f:").map(str::to_owned))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::Account;
    use serde_json::json;

    #[test]
    fn what_others_have_set_is_told_from_what_we_have() {
        let entry = |manager: &str, fields: Value| json!({"manager": manager, "operation": "Update", "time": "9999-12-31T23:59:59Z", "fieldsV1": {"f:spec": fields}});
        let mut status = entry("someone", json!({"f:owner": {}}));
        status["subresource"] = json!("status");
        let account = json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ServiceAccount",
            "metadata": {"name": "a", "managedFields": [
                entry("tokenry", json!({"f:role": {}, "f:owner": {}})), entry("kubectl", json!({".": {}, "f:role": {}})), status,
            ]},
            "spec": {"instanceRef": {"name": "eem"}},
        });
        let (read, taken) = taken_apart::<Account>(account).unwrap();
        assert_eq!((read.metadata.name.as_deref(), taken), (Some("a"), BTreeSet::from(["role".to_owned()])));
        let bare = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "spec": {"instanceRef": {"name": "eem"}}});
        assert!(taken_apart::<Account>(bare).unwrap().1.is_empty());
    }
}
