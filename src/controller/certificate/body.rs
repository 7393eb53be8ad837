//! A Secret with keys, as it is sent.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{crd::name, outside::writer::SecretBody};

/// A Secret with these keys. It has no `Debug`, so it cannot be printed.
pub(super) struct KeyBody<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) type_: &'static str,
    /// `None`: the key is removed.
    pub(super) keys: BTreeMap<&'static str, Option<Zeroizing<String>>>,
}

#[derive(Serialize)]
struct WholeKeys {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    #[serde(rename = "type")]
    type_: &'static str,
    metadata: Value,
    data: BTreeMap<&'static str, Zeroizing<String>>,
}

#[derive(Serialize)]
struct ChangedKeys {
    metadata: Value,
    data: BTreeMap<&'static str, Option<Zeroizing<String>>>,
}

fn encoded(value: &Zeroizing<String>) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(value.as_bytes()))
}

impl SecretBody for KeyBody<'_> {
    fn whole(&self) -> impl Serialize {
        let labels = json!({name::MANAGED_BY: name::MANAGER});
        let metadata = json!({"name": self.name, "namespace": self.namespace, "labels": labels});
        let present = self.keys.iter().filter_map(|(key, value)| Some((*key, encoded(value.as_ref()?))));
        WholeKeys { api_version: "v1", kind: "Secret", type_: self.type_, metadata, data: present.collect() }
    }

    fn changes(&self, preconditions: Map<String, Value>) -> impl Serialize {
        let data = self.keys.iter().map(|(key, value)| (*key, value.as_ref().map(encoded)));
        ChangedKeys { metadata: preconditions.into(), data: data.collect() }
    }
}
