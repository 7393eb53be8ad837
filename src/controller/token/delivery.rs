//! The content of a token's Secret.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    secrets::{Held, Secrets, Slot},
    shape::KeysOfValue,
    terms::TokenTerms,
    world::World,
};
use crate::{
    crd::{
        SealedSecret,
        api_token::OnRevoke,
        belongs, keys, name,
        secret::{self, Sealed},
    },
    outside::writer::SecretBody,
    token::{Plaintext, Record},
};

/// The keys that a Secret has from `spec.secret`. They are noted in an annotation of the Secret. So keys that leave the
/// spec are removed from the Secret, and keys that others add are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Given {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    labels: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    annotations: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    data: BTreeSet<String>,
}

impl Given {
    /// The keys that the terms ask for in a Secret that holds `record`.
    fn of(terms: &TokenTerms, record: &Record) -> Self {
        let shape = &terms.shape;
        let made = record.rendered.iter().map(|rendered| &rendered.key).filter(|key| shape.is_of_value(key));
        Self {
            labels: shape.labels.keys().cloned().collect(),
            annotations: shape.annotations.keys().cloned().collect(),
            data: shape.plain.keys().chain(made).cloned().collect(),
        }
    }

    /// The keys noted on `secret`. Every writer of the Secret can forge this note. So the note never removes Tokenry's
    /// own keys, and an unreadable note removes no key.
    fn noted(secret: &SealedSecret) -> Self {
        let noted = secret.annotations().get(name::GIVEN);
        let mut given: Self = noted.and_then(|note| serde_json::from_str(note).ok()).unwrap_or_default();
        given.labels.retain(|key| !keys::is_reserved(key));
        given.annotations.retain(|key| !keys::is_reserved(key));
        given.data.retain(|key| !keys::OURS.contains(&key.as_str()));
        given
    }

    fn note(&self) -> Option<String> {
        (*self != Self::default()).then(|| serde_json::to_string(self).expect("keys are plain data"))
    }

    /// The keys that `other` does not have.
    fn without(&self, other: &Self) -> Self {
        let less = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect();
        Self {
            labels: less(&self.labels, &other.labels),
            annotations: less(&self.annotations, &other.annotations),
            data: less(&self.data, &other.data),
        }
    }
}

/// The content of a Secret without the value. It can be updated by an operator that does not know the value.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    owner: Option<OwnerReference>,
    /// The new list of owner references; none if the Secret already has ours.
    owners: Option<Vec<OwnerReference>>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    data: BTreeMap<String, String>,
    given: Given,
    gone: Given,
}

impl Details {
    /// The details of a Secret that holds `record`. `held` is the current object under its name.
    pub(crate) fn of(world: &World, terms: &TokenTerms, record: &Record, held: &Held) -> Self {
        let (shape, mut given) = (&terms.shape, Given::of(terms, record));
        let stood = if let Held::Ours(secret) = held { Given::noted(secret) } else { Given::default() };
        // A key whose new template contains the value keeps its old text until the next value is minted.
        given.data.extend(stood.data.iter().filter(|key| shape.keeps(key)).cloned());
        let labels = [(name::MANAGED_BY, name::MANAGER.to_owned()), (name::OWNER_UID, world.uid().to_owned())];
        let annotations = [(name::GENERATION, record.generation.to_string()), (name::TOKEN_ID, record.id.clone())];
        let note = given.note().map(|note| (name::GIVEN, note));
        let data = [
            (secret::TOKEN_ID, record.id.clone()),
            (secret::ENDPOINT, terms.endpoint.clone()),
            (secret::ORGANIZATION, terms.organization.clone()),
        ];
        let owner = world.token.controller_owner_ref(&());
        let owners = held.ours().filter(|secret| !belongs(*secret, world.uid())).map(|secret| {
            let others = secret.owner_references().iter().filter(|other| other.uid != world.uid()).cloned();
            others.chain(owner.clone()).collect()
        });
        Self {
            owner,
            owners,
            labels: joined(&shape.labels, labels),
            annotations: joined(&shape.annotations, annotations.into_iter().chain(note)),
            data: joined(&shape.plain, data),
            gone: stood.without(&given),
            given,
        }
    }

    /// True if `secret` has all these details.
    pub(crate) fn stand_in(&self, secret: &SealedSecret) -> bool {
        let says = |observed: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
            wanted.iter().all(|(key, value)| observed.get(key) == Some(value))
        };
        let sealed = |(key, value): (&String, &String)| secret.data.get(key) == Some(&Sealed::of(value));
        self.owners.is_none()
            && says(secret.labels(), &self.labels)
            && says(secret.annotations(), &self.annotations)
            && secret.annotations().get(name::GIVEN) == self.given.note().as_ref()
            && self.data.iter().all(sealed)
    }

    /// The details as a patch of an existing Secret.
    pub(crate) fn changes(&self) -> Value {
        let none = || Value::Null;
        let note = self.given.note().is_none().then(|| (name::GIVEN.to_owned(), none()));
        let gone = |keys: &BTreeSet<String>| keys.iter().map(|key| (key.clone(), none())).collect::<Map<_, _>>();
        let (mut labels, mut annotations, mut data) =
            (gone(&self.gone.labels), gone(&self.gone.annotations), gone(&self.gone.data));
        labels.extend(self.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
        annotations.extend(note);
        annotations.extend(self.annotations.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
        data.extend(self.data.iter().map(|(key, value)| (key.clone(), STANDARD.encode(value).into())));
        let mut metadata = json!({ "labels": labels, "annotations": annotations });
        if let Some(owners) = &self.owners {
            metadata["ownerReferences"] = json!(owners);
        }
        json!({ "metadata": metadata, "data": data })
    }
}

/// A patch that removes everything of the value from `secret`. It is for a Secret that is kept after the end of its
/// token.
pub(crate) fn emptied(secret: &SealedSecret) -> Value {
    let data: Map<_, _> = of_value(secret).into_iter().map(|key| (key, Value::from(""))).collect();
    json!({ "metadata": {}, "data": data })
}

/// True if `secret` contains nothing of the value any more.
pub(crate) fn is_empty(secret: &SealedSecret) -> bool {
    of_value(secret).iter().all(|key| secret.data.get(key) == Some(&Sealed::of("")))
}

/// The keys that can contain the value: its own key, and the keys of `spec.secret.data`.
fn of_value(secret: &SealedSecret) -> BTreeSet<String> {
    let mut keys = Given::noted(secret).data;
    keys.insert(secret::TOKEN.to_owned());
    keys
}

/// The users' entries with Tokenry's own. Tokenry's own win.
fn joined(
    chosen: &BTreeMap<String, String>,
    ours: impl IntoIterator<Item = (&'static str, String)>,
) -> BTreeMap<String, String> {
    let ours = ours.into_iter().map(|(key, value)| (key.to_owned(), value));
    chosen.clone().into_iter().chain(ours).collect()
}

/// A whole Secret with the value in it.
pub(crate) struct Delivery<'a> {
    name: &'a str,
    namespace: &'a str,
    details: Details,
    encoded: BTreeMap<String, Zeroizing<String>>,
}

impl<'a> Delivery<'a> {
    /// The Secret that delivers `plaintext`. `record` is its record, and `made` are the keys rendered from it.
    pub(crate) fn new(
        world: &'a World,
        terms: &TokenTerms,
        record: &Record,
        (plaintext, made): (&Plaintext, &KeysOfValue),
    ) -> Self {
        let Slot { name, held } = world.secrets.next();
        let encode = |text: &str| Zeroizing::new(STANDARD.encode(text));
        let mut encoded: BTreeMap<_, _> = made.iter().map(|(key, text)| (key.to_owned(), encode(text))).collect();
        encoded.insert(secret::TOKEN.to_owned(), encode(plaintext.expose()));
        Self { name, namespace: world.namespace(), details: Details::of(world, terms, record, held), encoded }
    }
}

impl SecretBody for Delivery<'_> {
    fn whole(&self) -> impl Serialize {
        let details = &self.details;
        let mut data = self.encoded.clone();
        data.extend(details.data.iter().map(|(key, value)| (key.clone(), Zeroizing::new(STANDARD.encode(value)))));
        Whole {
            api_version: "v1",
            kind: "Secret",
            type_: secret::TYPE,
            metadata: SecretMeta {
                name: self.name.to_owned(),
                namespace: self.namespace.to_owned(),
                owner_references: details.owner.iter().cloned().collect(),
                labels: details.labels.clone(),
                annotations: details.annotations.clone(),
            },
            data,
        }
    }

    fn changes(&self, preconditions: Map<String, Value>) -> impl Serialize {
        let mut changes = self.details.changes();
        let mut metadata = std::mem::take(&mut changes["metadata"]);
        metadata.as_object_mut().expect("changes have metadata").extend(preconditions);
        let data = std::mem::take(&mut changes["data"]);
        Changes { metadata, data: Data { plain: data, encoded: self.encoded.clone() } }
    }
}

/// A Secret as it is sent. The type has no `Debug`, so it cannot be printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    api_version: &'static str,
    kind: &'static str,
    #[serde(rename = "type")]
    type_: &'static str,
    metadata: SecretMeta,
    data: BTreeMap<String, Zeroizing<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecretMeta {
    name: String,
    namespace: String,
    owner_references: Vec<OwnerReference>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// A patch of a Secret as it is sent. The type has no `Debug`, so it cannot be printed.
#[derive(Serialize)]
struct Changes {
    metadata: Value,
    data: Data,
}

#[derive(Serialize)]
struct Data {
    #[serde(flatten)]
    plain: Value,
    #[serde(flatten)]
    encoded: BTreeMap<String, Zeroizing<String>>,
}

/// True if our Secret holds anything else than the served value. A key rendered from the value counts while the spec
/// has it.
pub(crate) fn is_altered(world: &World, terms: Option<&TokenTerms>) -> bool {
    let (held, Some(terms)) = (&world.secrets.served.held, terms) else { return false };
    match world.records.served() {
        Some(served) => !held.holds_keys(served, |key| terms.shape.is_of_value(key)),
        None => held.digest().is_some(),
    }
}

/// The action on a Secret of an ended token. An immutable Secret is deleted, because it cannot be emptied. Returns none
/// if no action is needed, or if the Secret is not ours.
fn to_withdraw(held: &Held, asked: OnRevoke) -> Option<(&SealedSecret, OnRevoke)> {
    let secret = held.ours()?;
    let how = if secret.immutable == Some(true) { OnRevoke::Delete } else { asked };
    (how == OnRevoke::Delete || !is_empty(secret)).then_some((secret, how))
}

impl World {
    /// True if every Secret is removed or emptied, as after the end of a token.
    pub fn is_withdrawn(&self) -> bool {
        !self.secrets.served.held.is_in_the_way() && self.withdrawable().next().is_none()
    }

    /// True if the object under a name needs no action after the end of the token. False if the name is taken by a
    /// Secret that Tokenry must not change.
    pub fn leaves_alone(&self, held: &Held) -> bool {
        !held.is_in_the_way() && to_withdraw(held, self.token.on_revoke()).is_none()
    }

    /// The Secrets to empty or to delete after the end of the token, each with the action.
    pub fn withdrawable(&self) -> impl Iterator<Item = (&SealedSecret, OnRevoke)> {
        let Secrets { served, wanted, leftover } = &self.secrets;
        let kept = [served].into_iter().chain(wanted).map(|slot| (slot, self.token.on_revoke()));
        let all = kept.chain(leftover.iter().map(|slot| (slot, OnRevoke::Delete)));
        all.filter_map(|(slot, how)| to_withdraw(&slot.held, how))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        act::{Act, Decision},
        fixture::{ACCOUNT_UID, DAY, UID, changed, new, own_account, plaintext, served},
        secrets::Held,
    };
    use super::*;
    use crate::crd::Reason;
    use std::sync::Arc;

    type Change = fn(&mut SealedSecret);

    #[test]
    fn a_secret_whose_owner_reference_was_taken_off_is_its_own_by_type_and_value_and_is_mended() {
        let other = |uid: &str, controller| OwnerReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: "x".into(),
            uid: uid.into(),
            controller,
            block_owner_deletion: None,
        };
        let world = served();
        let Held::Ours(secret) = &world.secrets.served.held else { panic!("it is served") };
        let seen = |change: fn(&mut SealedSecret), owners: Vec<OwnerReference>| {
            let mut secret = SealedSecret::clone(secret);
            secret.metadata.owner_references = Some(owners);
            change(&mut secret);
            Held::of(Some(Arc::new(secret)), &world.token)
        };
        let orphan = seen(|_| {}, vec![other("o", None)]);
        assert!(orphan.ours().is_some());
        let orphaned = world.clone().serving(orphan);
        assert_eq!(orphaned.decision(), Decision { reason: Reason::SecretOutdated, act: Act::Amend(()) });
        let terms = orphaned.terms().unwrap();
        let records = &orphaned.records;
        let changes =
            Details::of(&orphaned, &terms, records.served().unwrap(), &orphaned.secrets.served.held).changes();
        let owners: Vec<OwnerReference> =
            serde_json::from_value(changes["metadata"]["ownerReferences"].clone()).unwrap();
        let uids: Vec<_> = owners.iter().map(|owner| (owner.uid.as_str(), owner.controller)).collect();
        assert_eq!(uids, [("o", None), (UID, Some(true))], "references of others are kept");
        assert_eq!(seen(|_| {}, vec![other("o", Some(true))]), Held::Foreign, "somebody else controls it");
        assert_eq!(seen(|secret| secret.type_ = Some("Opaque".into()), vec![]), Held::Foreign);
        assert_eq!(seen(|secret| secret.data.clear(), vec![]), Held::Foreign);
        let planted = |secret: &mut SealedSecret| _ = secret.data.insert(secret::TOKEN.into(), Sealed::of("planted"));
        assert_eq!(seen(planted, vec![]), Held::Foreign, "a value that is on no record");
    }

    #[test]
    fn a_key_that_is_to_be_made_of_the_next_value_stays_until_then() {
        let plain = json!({"secret": {"data": {"url": "{{ endpoint }}"}}});
        let world = served().with_spec(&plain).issued(2);
        assert_eq!(world.decision().act, Act::Rest);
        let asked = json!({"secret": {"data": {"url": "{{ endpoint }}?t={{ token }}"}}});
        let waiting = world.with_spec(&asked);
        assert_eq!(waiting.decision().act, Act::Rest, "an overlap is running");
        assert!(details(&waiting).gone.data.is_empty());
        let free = waiting.later(2 * DAY);
        assert_eq!(free.decision(), Decision { reason: Reason::TemplateChanged, act: Act::Mint(()) });
        let given_up = free.with_spec(&json!({"secret": {"data": null}}));
        assert_eq!(details(&given_up).gone.data, ["url".to_owned()].into());
    }

    fn stands(change: Change) -> bool {
        let world = served().with_secret(change);
        let Held::Ours(secret) = &world.secrets.served.held else { panic!("it is ours") };
        details(&world).stand_in(secret)
    }

    fn details(world: &World) -> Details {
        Details::of(world, &world.terms().unwrap(), world.records.served().unwrap(), &world.secrets.served.held)
    }

    /// The request that delivers the first value: a whole Secret, or a patch if the Secret exists.
    fn body(world: &World, preconditions: Map<String, Value>) -> Value {
        let (terms, records, plaintext) = (world.terms().unwrap(), &world.records, plaintext(1));
        let record = records.served().unwrap();
        let (made, _) = terms.shape.make(&record.id, &plaintext).unwrap();
        let delivery = Delivery::new(world, &terms, record, (&plaintext, &made));
        let sent = match world.secrets.served.held {
            Held::Absent => serde_json::to_value(delivery.whole()),
            Held::Ours(_) | Held::Retyped(_) | Held::Foreign => serde_json::to_value(delivery.changes(preconditions)),
        };
        sent.unwrap()
    }

    fn absent() -> World {
        served().serving(Held::Absent)
    }

    fn shaped(secret: Value) -> World {
        served().with_spec(&json!({ "secret": secret }))
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
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "tokenry.dev/api-token",
            "metadata": {
                "name": "ci",
                "namespace": "events",
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
        assert_eq!(body(&absent(), Map::new()), expected);
    }

    /// `annotations`, with the note of the users' keys removed.
    fn note(annotations: &Value) -> Value {
        let mut annotations = annotations.clone();
        annotations[name::GIVEN] = Value::Null;
        annotations
    }

    #[test]
    fn changes_say_the_same_but_for_the_value_and_whose_it_is() {
        let whole = body(&absent(), Map::new());
        let changes = details(&served()).changes();
        let mut data = whole["data"].clone();
        data.as_object_mut().unwrap().remove(secret::TOKEN);
        let metadata = &whole["metadata"];
        assert_eq!(
            changes,
            json!({
                "metadata": {"labels": metadata["labels"], "annotations": note(&metadata["annotations"])},
                "data": data,
            })
        );
        assert!(!changes.to_string().contains(whole["data"][secret::TOKEN].as_str().unwrap()));
    }

    #[test]
    fn what_users_choose_is_said_and_noted_and_what_is_always_there_wins() {
        let world = shaped(json!({
            "labels": {"team": "shop"},
            "annotations": {"example.com/note": "a b"},
            "data": {"client.env": "TOKEN={{ token }}", "url": "{{ endpoint }}/api"},
        }));
        let whole = body(&world.serving(Held::Absent), Map::new());
        let metadata = &whole["metadata"];
        assert_eq!(metadata["labels"]["team"], "shop");
        assert_eq!(metadata["annotations"]["example.com/note"], "a b");
        let text = format!("TOKEN={}", plaintext(1).expose());
        assert_eq!(whole["data"]["client.env"], STANDARD.encode(text));
        assert_eq!(whole["data"]["url"], STANDARD.encode("/api"));
        assert_eq!(metadata["annotations"][name::GENERATION], "1");
        let given = r#"{"labels":["team"],"annotations":["example.com/note"],"data":["url"]}"#;
        assert_eq!(metadata["annotations"][name::GIVEN], given, "the record has no key with the value");
        let issued = new_with(&json!({"data": {"client.env": "{{ token }}"}}));
        let Held::Ours(secret) = &issued.secrets.served.held else { panic!("it is ours") };
        assert_eq!(secret.annotations()[name::GIVEN], r#"{"data":["client.env"]}"#);
    }

    /// A world in which the first generation was issued with this `spec.secret`.
    fn new_with(secret: &Value) -> World {
        let account = own_account(ACCOUNT_UID);
        let world = new().and(|world| world.account = Some(std::sync::Arc::new(account)));
        world.with_spec(&json!({ "secret": secret })).issued(1)
    }

    #[test]
    fn what_is_asked_for_no_more_goes_and_what_others_put_there_stays() {
        let asked = json!({
            "labels": {"team": "shop", "kept": "a"}, "annotations": {"note": "a"},
            "data": {"url": "{{ endpoint }}", "client.env": "{{ token }}"}, "serviceBinding": {},
        });
        let world = new_with(&asked).with_secret(|secret| {
            secret.metadata.labels.as_mut().unwrap().insert("theirs".into(), "b".into());
            secret.data.insert("theirs".into(), Sealed::of("c"));
        });
        let less = world.with_spec(&json!({"secret": null})).with_spec(&json!({"secret": {"labels": {"kept": "a"}}}));
        let Held::Ours(secret) = &less.secrets.served.held else { panic!("it is ours") };
        assert!(!details(&less).stand_in(secret));
        let after = changed(secret, &details(&less).changes());
        let labels: Vec<_> = after.labels().keys().map(String::as_str).collect();
        assert_eq!(labels, ["app.kubernetes.io/managed-by", "kept", "theirs", "tokenry.dev/owner-uid"]);
        assert!(!after.annotations().contains_key("note"));
        let keys: Vec<_> = after.data.keys().map(String::as_str).collect();
        assert_eq!(keys, ["endpoint", "organization", "theirs", "token", "token-id"]);
        let less = less.with_secret(|secret| *secret = after.clone());
        assert!(details(&less).stand_in(&after));
    }

    #[test]
    fn a_note_that_someone_wrote_takes_nothing_away_that_is_ours() {
        for note in [
            r#"{"labels":["tokenry.dev/owner-uid"],"annotations":["tokenry.dev/generation"],"data":["token","endpoint"]}"#,
            "not JSON",
            "",
            r#"{"data":7}"#,
        ] {
            let world = served().with_secret(|secret| {
                secret.metadata.annotations.as_mut().unwrap().insert(name::GIVEN.into(), note.into());
            });
            let changes = details(&world).changes();
            assert_eq!(changes, note_gone(&details(&served()).changes()), "{note}");
            assert_eq!(body(&world, Map::new())["data"][secret::TOKEN], STANDARD.encode(plaintext(1).expose()));
        }
    }

    fn note_gone(changes: &Value) -> Value {
        let mut changes = changes.clone();
        changes["metadata"]["annotations"][name::GIVEN] = Value::Null;
        changes
    }

    #[test]
    fn a_binding_says_where_the_api_is_once_it_is_known() {
        let of = |world: &World| {
            let whole = body(&world.clone().serving(Held::Absent), Map::new());
            ["type", "provider", "host", "port", "uri"].map(|key| {
                let value = whole["data"][key].as_str().unwrap_or_else(|| panic!("{key} is not there"));
                String::from_utf8(STANDARD.decode(value).unwrap()).unwrap()
            })
        };
        let world = shaped(json!({"serviceBinding": {}}));
        assert_eq!(of(&world), ["api-token", "tokenry", "", "", ""]);
        let at = |uri: &str| world.clone().at_endpoint(uri);
        let uri = "https://admin.example.com";
        assert_eq!(of(&at(uri)), ["api-token", "tokenry", "admin.example.com", "443", uri]);
        assert_eq!(of(&at("http://eem-admin.events.svc:8080"))[2..4], ["eem-admin.events.svc", "8080"]);
        assert_eq!(of(&at("http://eem-admin.events.svc"))[3], "80");
        let named = shaped(json!({"serviceBinding": {"type": "kafka", "provider": "acme"}}));
        assert_eq!(of(&named)[..2], ["kafka", "acme"]);
    }

    #[test]
    fn nothing_of_the_value_is_left_where_an_ended_tokens_secret_is_kept() {
        let world = new_with(&json!({"data": {"client.env": "TOKEN={{ token }}", "url": "{{ endpoint }}/api"}}));
        let Held::Ours(secret) = &world.secrets.served.held else { panic!("it is ours") };
        assert!(!is_empty(secret));
        let emptied = changed(secret, &emptied(secret));
        assert!(is_empty(&emptied));
        for key in [secret::TOKEN, "client.env", "url"] {
            assert_eq!(emptied.data[key], Sealed::of(""), "{key}");
        }
        assert_eq!(emptied.data[secret::TOKEN_ID], secret.data[secret::TOKEN_ID]);
    }
}
