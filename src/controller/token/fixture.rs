//! A valid world to start a test from: change one thing, and say what should come of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    act::Decision,
    decide::decide,
    delivery::Delivery,
    execute::next_generation,
    progress::Progress,
    settle::settle,
    terms::TokenTerms,
    validate::validate,
    workloads::Workloads,
    world::{Held, Names, World},
};
use crate::{
    controller::{
        book::Ruled,
        kind::{Checked, Settled},
    },
    crd::{
        Account, ApiToken, Instance, SealedSecret,
        api_token::{ApiTokenStatus, BoundAccount},
        instance::{EndpointName, EndpointStatus, EndpointType, InstanceStatus},
    },
    outside::writer::SecretBody,
    token::{Plaintext, Record, format},
};

pub const UID: &str = "7d0f";
pub const ACCOUNT_UID: &str = "acc1";
pub const HOUR: i64 = 3_600;
pub const DAY: i64 = 24 * HOUR;

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn object<T: DeserializeOwned>(kind: &str, name: &str, uid: &str, spec: Value) -> T {
    let metadata = json!({"name": name, "namespace": "events", "uid": uid, "generation": 1, "resourceVersion": "1"});
    serde_json::from_value(
        json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}),
    )
    .unwrap()
}

pub fn token(spec: Value) -> ApiToken {
    object("ApiToken", "ci", UID, spec)
}

pub fn instance(spec: Value) -> Instance {
    object("Instance", "eem", "1457", spec)
}

/// An account of the token's name that someone made.
pub fn account() -> Account {
    object("ServiceAccount", "ci", ACCOUNT_UID, json!({"instanceRef": {"name": "eem"}}))
}

/// An account that the token made for itself.
pub fn own_account(uid: &str) -> Account {
    let mut account = account();
    account.metadata.uid = Some(uid.into());
    account.metadata.owner_references = kube::Resource::controller_owner_ref(&*new().token, &()).map(|own| vec![own]);
    account
}

/// The `draw`th value; the same each time.
pub fn plaintext(draw: u64) -> Plaintext {
    format::assemble("tkn", &format!("{draw:016}"), &format!("{draw:043}"))
}

/// A token that was just made; its Instance stands, and nothing else.
pub fn new() -> World {
    World {
        now: at(0),
        token: Arc::new(token(json!({"instanceRef": {"name": "eem"}}))),
        instance: Some(Ruled::new(Arc::new(instance(json!({}))))),
        labels: Some(BTreeMap::new()),
        terminating: false,
        audiences: Vec::new(),
        policies: Vec::new(),
        owner_gone: false,
        surplus: None,
        account: None,
        secret: Held::Absent,
        wanted: None,
        other: None,
        may_mint_from: None,
        taken: BTreeSet::new(),
        workloads: Workloads::Unread,
        fellows: Vec::new(),
        known: OnceLock::new(),
    }
}

/// Generation 1 is served since the start.
pub fn served() -> World {
    new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID)))).issued(1)
}

/// Generation 2 is served since day 60, generation 1 is in its overlap.
pub fn rotated() -> World {
    served().later(60 * DAY).issued(2)
}

/// Generation 2 is on record since day 60; whether it was published is not known.
pub fn incomplete() -> World {
    let world = served().later(60 * DAY);
    let recorded = world.minted(2);
    world.settled(&recorded)
}

impl World {
    /// With one change.
    pub fn and(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self.known = OnceLock::new();
        self
    }

    pub fn status(&self) -> ApiTokenStatus {
        self.before().clone()
    }

    pub fn later(self, seconds: i64) -> Self {
        let now = self.now + SignedDuration::from_secs(seconds);
        self.at(now)
    }

    pub fn at(self, now: Timestamp) -> Self {
        self.and(|world| world.now = now)
    }

    /// With a change of the token, and each Secret where it was.
    pub fn with_token(self, change: impl FnOnce(&mut ApiToken)) -> Self {
        let stored = self.stored();
        self.and(|world| change(Arc::make_mut(&mut world.token))).looking_at(&stored)
    }

    /// The Secrets that are known, by name.
    pub fn stored(&self) -> BTreeMap<String, Held> {
        self.secrets().map(|(name, held)| (name.to_owned(), held.clone())).collect()
    }

    /// With the Secrets that there are.
    pub fn looking_at(self, stored: &BTreeMap<String, Held>) -> Self {
        let token = self.token.clone();
        let (names, held) = (Names::of(&token), |name: &str| stored.get(name).cloned().unwrap_or(Held::Absent));
        self.seeing(held(names.wanted), names.served.map(held), names.other.map(held))
    }

    /// With these fields in the token's spec, as a merge patch.
    pub fn with_spec(self, patch: &Value) -> Self {
        self.with_token(|token| {
            let mut spec = serde_json::to_value(&token.spec).unwrap();
            merge(&mut spec, patch);
            token.spec = serde_json::from_value(spec).unwrap();
        })
    }

    pub fn with_status(self, change: impl FnOnce(&mut ApiTokenStatus)) -> Self {
        self.with_token(|token| change(token.status.get_or_insert_default()))
    }

    pub fn with_account(self, change: impl FnOnce(&mut Account)) -> Self {
        self.and(|world| change(Arc::make_mut(world.account.as_mut().unwrap())))
    }

    pub fn with_instance(self, spec: Value) -> Self {
        self.and(|world| world.instance = Some(Ruled::new(Arc::new(instance(spec)))))
    }

    /// With the URI of the Admin API.
    pub fn at_endpoint(self, uri: &str) -> Self {
        self.and(|world| {
            let endpoint = EndpointStatus { name: EndpointName::Admin, type_: EndpointType::Internal, uri: uri.into() };
            let status = InstanceStatus { endpoints: vec![endpoint], ..InstanceStatus::default() };
            world.instance.as_mut().unwrap().change(|instance| instance.status = Some(status));
        })
    }

    pub fn with_secret(self, change: impl FnOnce(&mut SealedSecret)) -> Self {
        self.and(|world| {
            let Held::Ours(secret) = &mut world.secret else { panic!("there is no Secret of ours") };
            change(Arc::make_mut(secret));
        })
    }

    pub fn terms(&self) -> Checked<TokenTerms> {
        validate(self)
    }

    pub fn decision(&self) -> Decision {
        decide(self, &self.terms())
    }

    pub fn settle(&self, progress: &Progress) -> Settled<ApiTokenStatus> {
        settle(self, &self.terms(), progress)
    }

    /// What a pass comes to that finds nothing to do.
    pub fn rested(&self) -> Settled<ApiTokenStatus> {
        self.settle(&Progress::none(self.decision()))
    }

    /// With the status that `progress` comes to.
    pub fn settled(self, progress: &Progress) -> Self {
        let status = self.settle(progress).status;
        self.with_token(|token| token.status = Some(status))
    }

    /// The next generation, as the `draw`th value, minted and bound to the account that stands.
    pub fn minted(&self, draw: u64) -> Progress {
        let (terms, plaintext) = (self.terms().unwrap(), plaintext(draw));
        let id = format::id(plaintext.expose()).unwrap();
        let record = terms.record(next_generation(self), id, plaintext.digest(), self.now);
        let (_, rendered) = terms.shape.make(&record.id, &plaintext).unwrap();
        let record = Record { rendered, ..record };
        let uid = self.account.as_ref().and_then(|account| account.metadata.uid.clone()).unwrap();
        Progress {
            bound: Some(BoundAccount { name: self.token.account_name().0.into(), uid }),
            recorded: Some(record),
            ..Progress::none(self.decision())
        }
    }

    /// The Secret that delivers the `draw`th value as `record`: made, or changed by a merge.
    pub fn delivered(&self, record: &Record, draw: u64) -> SealedSecret {
        let (terms, plaintext) = (self.terms().unwrap(), plaintext(draw));
        let (made, _) = terms.shape.make(&record.id, &plaintext).unwrap();
        let delivery = Delivery::new(self, &terms, record, (&plaintext, &made));
        match self.target().1 {
            Held::Ours(secret) => changed(secret, &serde_json::to_value(delivery.changes(Map::new())).unwrap()),
            _ => serde_json::from_value(serde_json::to_value(delivery.whole()).unwrap()).unwrap(),
        }
    }

    /// With the Secret that delivers the `draw`th value as `record`.
    pub fn holding(self, record: &Record, draw: u64) -> Self {
        let secret = Held::of(Some(Arc::new(self.delivered(record, draw))), &self.token);
        let mut stored = self.stored();
        stored.insert(self.target().0.to_owned(), secret);
        self.looking_at(&stored)
    }

    /// With the next generation minted, recorded, published and settled.
    pub fn issued(self, draw: u64) -> Self {
        let progress = self.minted(draw);
        let record = progress.recorded.clone().unwrap();
        let published = Some((record.generation, self.now));
        // Why it was minted is known before the Secret changes.
        self.holding(&record, draw).settled(&Progress { published, ..progress })
    }
}

/// `secret` after `changes`, a merge patch of its labels, annotations and data.
pub fn changed(secret: &SealedSecret, changes: &Value) -> SealedSecret {
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

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
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

/// `type=status/reason` of every condition.
pub fn conditions(status: &ApiTokenStatus) -> Vec<String> {
    let said = status.conditions.iter();
    said.map(|condition| format!("{}={}/{}", condition.type_, condition.status, condition.reason)).collect()
}

pub fn time(seconds: i64) -> Time {
    Time(at(seconds))
}
