//! What the Secret of a token says.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use serde::Serialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{observe::World, validate::TokenTerms};
use crate::{
    crd::{
        SealedSecret, name,
        secret::{self, Sealed},
    },
    outside::writer::SecretBody,
    token::{Plaintext, Record},
};

/// Everything that a Secret says besides the value: it can be brought up to date without knowing the value.
#[derive(Clone, Debug)]
pub struct Details {
    owner: Option<OwnerReference>,
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    data: BTreeMap<&'static str, String>,
}

impl Details {
    /// What the Secret says when it holds `record`.
    pub fn of(world: &World, terms: &TokenTerms, record: &Record) -> Self {
        Self {
            owner: world.token.controller_owner_ref(&()),
            labels: [(name::MANAGED_BY, name::MANAGER.to_owned()), (name::OWNER_UID, world.uid().to_owned())].into(),
            annotations: [(name::GENERATION, record.generation.to_string()), (name::TOKEN_ID, record.id.clone())]
                .into(),
            data: [
                (secret::TOKEN_ID, record.id.clone()),
                (secret::ENDPOINT, terms.endpoint.clone()),
                (secret::ORGANIZATION, terms.organization.clone()),
            ]
            .into(),
        }
    }

    /// Whether `secret` says all of it.
    pub fn stand_in(&self, secret: &SealedSecret) -> bool {
        let says = |observed: &Option<BTreeMap<String, String>>, wanted: &BTreeMap<&str, String>| {
            wanted
                .iter()
                .all(|(&key, value)| observed.as_ref().is_some_and(|observed| observed.get(key) == Some(value)))
        };
        let sealed = |(&key, value): (&&str, &String)| secret.data.get(key) == Some(&Sealed::of(value));
        says(&secret.metadata.labels, &self.labels)
            && says(&secret.metadata.annotations, &self.annotations)
            && self.data.iter().all(sealed)
    }

    /// As changes to a Secret that stands.
    pub fn changes(&self) -> Value {
        let data: Map<String, Value> =
            self.data.iter().map(|(&key, value)| (key.to_owned(), STANDARD.encode(value).into())).collect();
        json!({ "metadata": { "labels": self.labels, "annotations": self.annotations }, "data": data })
    }
}

/// A whole Secret, the value in it.
pub struct Delivery<'a> {
    name: &'a str,
    namespace: &'a str,
    details: Details,
    encoded: Zeroizing<String>,
}

impl<'a> Delivery<'a> {
    /// The Secret that delivers `plaintext`, which `record` is about.
    pub fn new(world: &'a World, terms: &TokenTerms, record: &Record, plaintext: &Plaintext) -> Self {
        Self {
            name: world.token.secret_name(),
            namespace: world.namespace(),
            details: Details::of(world, terms, record),
            encoded: Zeroizing::new(STANDARD.encode(plaintext.expose())),
        }
    }

    /// The value as the Secret holds it, to be cut out of answers.
    pub fn encoded(&self) -> &str {
        &self.encoded
    }
}

impl SecretBody for Delivery<'_> {
    fn with(&self, preconditions: Map<String, Value>) -> impl Serialize {
        let mut data: BTreeMap<&str, Zeroizing<String>> = BTreeMap::new();
        data.extend(self.details.data.iter().map(|(&key, value)| (key, Zeroizing::new(STANDARD.encode(value)))));
        data.insert(secret::TOKEN, self.encoded.clone());
        let details = &self.details;
        Whole {
            api_version: "v1",
            kind: "Secret",
            type_: secret::TYPE,
            metadata: Metadata {
                name: self.name.to_owned(),
                namespace: self.namespace.to_owned(),
                owner_references: details.owner.iter().cloned().collect(),
                labels: details.labels.clone(),
                annotations: details.annotations.clone(),
                preconditions,
            },
            data,
        }
    }
}

/// A Secret as it is sent. It cannot be printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    api_version: &'static str,
    kind: &'static str,
    #[serde(rename = "type")]
    type_: &'static str,
    metadata: Metadata,
    data: BTreeMap<&'static str, Zeroizing<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    owner_references: Vec<OwnerReference>,
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    preconditions: Map<String, Value>,
}
