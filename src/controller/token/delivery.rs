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

/// As changes to a Secret whose token was ended and that is kept: nothing of the value is left in it.
pub fn emptied() -> Value {
    json!({ "metadata": {}, "data": { secret::TOKEN: "" } })
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

#[cfg(test)]
mod tests {
    use super::super::{
        fixture::{UID, plaintext, served},
        observe::Held,
    };
    use super::*;

    type Change = fn(&mut SealedSecret);

    fn stands(change: Change) -> bool {
        let world = served().with_secret(change);
        let (terms, records) = (world.terms().unwrap(), world.records());
        let Held::Ours(secret) = &world.secret else { panic!("it is ours") };
        Details::of(&world, &terms, records.served().unwrap()).stand_in(secret)
    }

    fn body(preconditions: Map<String, Value>) -> Value {
        let world = served();
        let (terms, records) = (world.terms().unwrap(), world.records());
        let delivery = Delivery::new(&world, &terms, records.served().unwrap(), &plaintext(1));
        serde_json::to_value(delivery.with(preconditions)).unwrap()
    }

    #[test]
    fn what_was_delivered_stands_and_may_say_more() {
        assert!(stands(|_| {}));
        assert!(stands(|secret| {
            secret.metadata.labels.as_mut().unwrap().insert("team".into(), "a".into());
            secret.metadata.annotations.as_mut().unwrap().insert("note".into(), "b".into());
            secret.data.insert("more".into(), Sealed::of("c"));
            secret.data.insert(secret::TOKEN.into(), Sealed::of("not looked at here"));
        }));
    }

    #[test]
    fn whatever_is_missing_or_changed_is_noticed() {
        let changes: [(&str, Change); 10] = [
            ("no labels", |secret| secret.metadata.labels = None),
            ("no annotations", |secret| secret.metadata.annotations = None),
            ("another manager", |secret| {
                secret.metadata.labels.as_mut().unwrap().insert(name::MANAGED_BY.into(), "helm".into());
            }),
            ("no owner's uid", |secret| drop(secret.metadata.labels.as_mut().unwrap().remove(name::OWNER_UID))),
            ("another generation", |secret| {
                secret.metadata.annotations.as_mut().unwrap().insert(name::GENERATION.into(), "2".into());
            }),
            ("no id", |secret| drop(secret.metadata.annotations.as_mut().unwrap().remove(name::TOKEN_ID))),
            ("another id", |secret| secret.data.extend([(secret::TOKEN_ID.into(), Sealed::of("x"))])),
            ("no endpoint", |secret| secret.data.retain(|key, _| key != secret::ENDPOINT)),
            ("another organization", |secret| secret.data.extend([(secret::ORGANIZATION.into(), Sealed::of("x"))])),
            ("no data", |secret| secret.data.clear()),
        ];
        for (what, change) in changes {
            assert!(!stands(change), "{what}");
        }
    }

    #[test]
    fn the_whole_secret_says_what_is_documented_and_nothing_else() {
        let id = "0000000000000001";
        let preconditions = [("uid".to_owned(), Value::from("s1")), ("resourceVersion".to_owned(), "7".into())];
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "tokenry.dev/api-token",
            "metadata": {
                "name": "ci",
                "namespace": "events",
                "uid": "s1",
                "resourceVersion": "7",
                "ownerReferences": [{
                    "apiVersion": "tokenry.dev/v1alpha1",
                    "kind": "ApiToken",
                    "name": "ci",
                    "uid": UID,
                    "controller": true,
                }],
                "labels": {"app.kubernetes.io/managed-by": "tokenry", "tokenry.dev/owner-uid": UID},
                "annotations": {"tokenry.dev/generation": "1", "tokenry.dev/token-id": id},
            },
            "data": {
                "token": STANDARD.encode(plaintext(1).expose()),
                "token-id": STANDARD.encode(id),
                "endpoint": "",
                "organization": STANDARD.encode("eem"),
            },
        });
        assert_eq!(body(preconditions.into_iter().collect()), expected);
    }

    #[test]
    fn changes_say_the_same_but_for_the_value_and_whose_it_is() {
        let (world, whole) = (served(), body(Map::new()));
        let (terms, records) = (world.terms().unwrap(), world.records());
        let changes = Details::of(&world, &terms, records.served().unwrap()).changes();
        let mut data = whole["data"].clone();
        data.as_object_mut().unwrap().remove(secret::TOKEN);
        let metadata = &whole["metadata"];
        assert_eq!(
            changes,
            json!({"metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]}, "data": data})
        );
        assert!(!changes.to_string().contains(whole["data"][secret::TOKEN].as_str().unwrap()));
    }
}
