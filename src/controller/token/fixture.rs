//! A valid world as the start of unit tests. A test changes one thing in it and asserts the consequences.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    act::Decision,
    decide::decide,
    delivery::{Delivery, Details},
    observed::Observed,
    progress::Progress,
    secrets::{Held, Slot},
    settle::settle,
    terms::CheckedTerms,
    validate::validate,
    world::World,
};
use crate::{
    controller::{book::Ruled, kind::Settled},
    crd::{
        Account, ApiToken, Instance, SealedSecret,
        api_token::{ApiTokenStatus, BoundAccount},
        instance::{CaSource, EndpointName, EndpointStatus, EndpointType, InstanceSpec, InstanceStatus, Trust},
    },
    outside::writer::SecretBody,
    token::{Plaintext, Record, format},
};

pub(crate) const UID: &str = "7d0f";
pub(crate) const ACCOUNT_UID: &str = "acc1";
pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn object<T: DeserializeOwned>(kind: &str, name: &str, uid: &str, spec: Value) -> T {
    let metadata = json!({"name": name, "namespace": "events", "uid": uid, "generation": 1, "resourceVersion": "1"});
    serde_json::from_value(
        json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}),
    )
    .unwrap()
}

pub(crate) fn token(spec: Value) -> ApiToken {
    object("ApiToken", "ci", UID, spec)
}

pub(crate) fn instance(spec: Value) -> Instance {
    object("Instance", "eem", "1457", spec)
}

/// The spec of an Instance with an internal endpoint, which has these further fields.
pub(crate) fn exposed(further: Value) -> Value {
    let mut endpoint = json!({"name": "admin", "type": "internal"});
    merge(&mut endpoint, &further);
    json!({"manager": {"service": {"name": "eem-manager"}, "endpoints": [endpoint]}})
}

/// An account of the token's name that a user created.
pub(crate) fn account() -> Account {
    object("ServiceAccount", "ci", ACCOUNT_UID, json!({"instanceRef": {"name": "eem"}}))
}

/// The token's own account.
pub(crate) fn own_account(uid: &str) -> Account {
    let mut account = account();
    account.metadata.uid = Some(uid.into());
    account.metadata.owner_references = kube::Resource::controller_owner_ref(&*new().token, &()).map(|own| vec![own]);
    account
}

/// The `draw`th value; the same each time.
pub(crate) fn plaintext(draw: u64) -> Plaintext {
    format::assemble("tkn", &format!("{draw:016}"), &format!("{draw:043}"))
}

/// A token that was just created, with its Instance and no other object.
pub(crate) fn new() -> World {
    let token = Arc::new(token(json!({"instanceRef": {"name": "eem"}})));
    World::new(Observed {
        instance: Some(Ruled::new(Arc::new(instance(json!({}))))),
        labels: Some(BTreeMap::new()),
        ..Observed::alone(token, at(0))
    })
}

/// Generation 1 is served from the start.
pub(crate) fn served() -> World {
    new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID)))).issued(1)
}

/// Generation 2 is served from day 60, and generation 1 is in its overlap.
pub(crate) fn rotated() -> World {
    served().later(60 * DAY).issued(2)
}

/// Generation 2 was recorded on day 60. Its publish is unknown.
pub(crate) fn incomplete() -> World {
    let world = served().later(60 * DAY);
    let recorded = world.minted(2);
    world.settled(&recorded)
}

impl World {
    /// The world after one change of the objects that were read.
    pub fn and(self, change: impl FnOnce(&mut Observed)) -> Self {
        let mut read = self.into_read();
        change(&mut read);
        Self::new(read)
    }

    pub(crate) fn status(&self) -> ApiTokenStatus {
        self.before().clone()
    }

    pub(crate) fn later(self, seconds: i64) -> Self {
        let now = self.now + SignedDuration::from_secs(seconds);
        self.at(now)
    }

    pub(crate) fn at(self, now: Timestamp) -> Self {
        self.and(|world| world.now = now)
    }

    /// The world after a change of the token. The Secrets keep their names.
    pub fn with_token(self, change: impl FnOnce(&mut ApiToken)) -> Self {
        self.and(|read| change(Arc::make_mut(&mut read.token)))
    }

    /// The world with this object under the name of the served Secret.
    pub fn serving(self, held: Held) -> Self {
        let name = self.secrets.served.name.clone();
        self.storing(&name, held)
    }

    /// The world with this object under a name.
    pub fn storing(self, name: &str, held: Held) -> Self {
        self.and(|read| _ = read.stored.insert(name.to_owned(), held))
    }

    /// The world after a merge patch of the token's spec.
    pub fn with_spec(self, patch: &Value) -> Self {
        self.with_token(|token| {
            let mut spec = serde_json::to_value(&token.spec).unwrap();
            merge(&mut spec, patch);
            token.spec = serde_json::from_value(spec).unwrap();
        })
    }

    pub(crate) fn with_status(self, change: impl FnOnce(&mut ApiTokenStatus)) -> Self {
        self.with_token(|token| change(token.status.get_or_insert_default()))
    }

    pub(crate) fn with_account(self, change: impl FnOnce(&mut Account)) -> Self {
        self.and(|world| change(Arc::make_mut(world.account.as_mut().unwrap())))
    }

    pub(crate) fn with_instance(self, spec: Value) -> Self {
        self.and(|world| world.instance = Some(Ruled::new(Arc::new(instance(spec)))))
    }

    /// The world in which the Instance asks for an endpoint without certificates, and has this URI.
    pub fn at_endpoint(self, uri: &str) -> Self {
        let asking = self.and(|world| {
            let asks: InstanceSpec = serde_json::from_value(exposed(json!({}))).unwrap();
            world.instance.as_mut().unwrap().change(|instance| instance.spec.manager = asks.manager);
        });
        asking.with_instance_status(|status| {
            let endpoint = EndpointStatus { name: EndpointName::Admin, type_: EndpointType::Internal, uri: uri.into() };
            status.endpoints = vec![endpoint];
        })
    }

    /// The world in which the endpoint of the Instance has these certificates.
    pub fn trusting(self, ca_bundle: &str) -> Self {
        let source = || -> CaSource { serde_json::from_value(json!({"secretName": "admin-tls"})).unwrap() };
        let asking = self.and(|world| {
            world.instance.as_mut().unwrap().change(|instance| {
                let manager = instance.spec.manager.as_mut().unwrap();
                manager.endpoints[0].ca = Some(source());
            });
        });
        asking.with_instance_status(|status| {
            let ca_bundle = ca_bundle.to_owned();
            status.trust = vec![Trust { name: EndpointName::Admin, secret_name: "admin-tls".into(), ca_bundle }];
        })
    }

    /// The world in which the served Secret has all details but another value.
    pub fn amended(self) -> Self {
        let (terms, served) = (self.terms().unwrap(), self.records.served().unwrap().clone());
        let Held::Ours(secret) = &self.secrets.served.held else { panic!("there is no Secret of ours") };
        let details = Details::of(&self, &terms, &served, &self.secrets.served.held);
        let secret = changed(secret, &details.changes());
        self.serving(Held::Ours(Arc::new(secret)))
    }

    /// The world with a change of the status of its Instance, which describes the current spec.
    pub fn with_instance_status(self, change: impl FnOnce(&mut InstanceStatus)) -> Self {
        self.and(|world| {
            world.instance.as_mut().unwrap().change(|instance| {
                let generation = instance.metadata.generation;
                let status = instance.status.get_or_insert_default();
                status.observed_generation = generation;
                change(status);
            });
        })
    }

    pub(crate) fn with_secret(self, change: impl FnOnce(&mut SealedSecret)) -> Self {
        let Slot { name, mut held } = self.secrets.served.clone();
        let Held::Ours(secret) = &mut held else { panic!("there is no Secret of ours") };
        change(Arc::make_mut(secret));
        self.storing(&name, held)
    }

    pub(crate) fn terms(&self) -> CheckedTerms {
        validate(self).map(Arc::new)
    }

    pub(crate) fn decision(&self) -> Decision {
        decide(self, &self.terms()).told()
    }

    pub(crate) fn settle(&self, progress: &Progress) -> Settled<ApiTokenStatus> {
        settle(self, &self.terms(), progress)
    }

    /// The result of a pass without any progress.
    pub fn rested(&self) -> Settled<ApiTokenStatus> {
        self.settle(&Progress::none(self.decision()))
    }

    /// The world with the status that results from `progress`.
    pub fn settled(self, progress: &Progress) -> Self {
        let status = self.settle(progress).status;
        self.with_token(|token| token.status = Some(status))
    }

    /// The progress of minting the next generation with the `draw`th value, bound to the existing account.
    pub fn minted(&self, draw: u64) -> Progress {
        let (terms, plaintext) = (self.terms().unwrap(), plaintext(draw));
        let id = format::id(plaintext.expose()).unwrap();
        let record = terms.record(self.next_generation(), id, plaintext.digest(), self.now);
        let (_, rendered) = terms.shape.make(&record.id, &plaintext).unwrap();
        let record = Record { rendered, ..record };
        let uid = self.account.as_ref().and_then(|account| account.metadata.uid.clone()).unwrap();
        Progress {
            bound: Some(BoundAccount { name: self.token.account_name().0.into(), uid }),
            recorded: Some(record),
            ..Progress::none(self.decision())
        }
    }

    /// The Secret that delivers the `draw`th value as `record`: created, or patched if it exists.
    pub fn delivered(&self, record: &Record, draw: u64) -> SealedSecret {
        let (terms, plaintext) = (self.terms().unwrap(), plaintext(draw));
        let (made, _) = terms.shape.make(&record.id, &plaintext).unwrap();
        let delivery = Delivery::new(self, &terms, record, (&plaintext, &made));
        match &self.secrets.next().held {
            Held::Ours(secret) => changed(secret, &serde_json::to_value(delivery.changes(Map::new())).unwrap()),
            Held::Absent | Held::Retyped(_) | Held::Foreign => {
                serde_json::from_value(serde_json::to_value(delivery.whole()).unwrap()).unwrap()
            }
        }
    }

    /// The world with the Secret that delivers the `draw`th value as `record`.
    pub fn holding(self, record: &Record, draw: u64) -> Self {
        let secret = Held::of(Some(Arc::new(self.delivered(record, draw))), &self.token);
        let name = self.secrets.next().name.clone();
        self.storing(&name, secret)
    }

    /// The world in which the next generation was minted, recorded, published and settled.
    pub fn issued(self, draw: u64) -> Self {
        let progress = self.minted(draw);
        let record = progress.recorded.clone().unwrap();
        let published = Some((record.generation, self.now));
        // The status comes from the world before the Secret has changed, as in a pass.
        let status = self.settle(&Progress { published, ..progress }).status;
        self.holding(&record, draw).with_token(|token| token.status = Some(status))
    }
}

/// `secret` after `changes`, a merge patch of its labels, annotations and data.
pub(crate) fn changed(secret: &SealedSecret, changes: &Value) -> SealedSecret {
    fn patch<T: DeserializeOwned>(of: &mut BTreeMap<String, T>, changes: &Value) {
        for (key, value) in changes.as_object().into_iter().flatten() {
            of.remove(key);
            if !value.is_null() {
                of.insert(key.clone(), serde_json::from_value(value.clone()).unwrap());
            }
        }
    }
    let mut secret = secret.clone();
    patch(secret.metadata.labels.get_or_insert_default(), &changes["metadata"]["labels"]);
    patch(secret.metadata.annotations.get_or_insert_default(), &changes["metadata"]["annotations"]);
    patch(&mut secret.data, &changes["data"]);
    secret
}

/// Applies a JSON merge patch (RFC 7386).
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in fields {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

impl Settled<ApiTokenStatus> {
    /// The time of the next pass.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        self.wake.map(|wake| wake.at)
    }

    /// The purpose of the next pass.
    pub fn why(&self) -> Option<&'static str> {
        self.wake.map(|wake| wake.why)
    }
}

/// The condition of this type in a status.
pub(crate) fn said<'a>(status: &'a ApiTokenStatus, type_: &str) -> &'a Condition {
    status.conditions.iter().find(|said| said.type_ == type_).unwrap_or_else(|| panic!("no condition {type_}"))
}

/// The condition of this type as `type=status/reason`.
pub(crate) fn judged(status: &ApiTokenStatus, type_: &str) -> String {
    judgement(said(status, type_))
}

/// The conditions of several types, each as `type=status/reason`.
pub(crate) fn judged_all<const N: usize>(status: &ApiTokenStatus, types: [&str; N]) -> [String; N] {
    types.map(|type_| judged(status, type_))
}

/// All conditions except those of some types, each as `type=status/reason`.
pub(crate) fn but<const N: usize>(status: &ApiTokenStatus, types: [&str; N]) -> Vec<String> {
    status.conditions.iter().filter(|said| !types.contains(&&*said.type_)).map(judgement).collect()
}

fn judgement(said: &Condition) -> String {
    format!("{}={}/{}", said.type_, said.status, said.reason)
}

/// All conditions, each as `type=status/reason`.
pub(crate) fn conditions(status: &ApiTokenStatus) -> Vec<String> {
    status.conditions.iter().map(judgement).collect()
}

pub(crate) fn time(seconds: i64) -> Time {
    Time(at(seconds))
}
