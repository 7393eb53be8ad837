//! A valid world to start a test from: change one thing, and say what should come of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    act::Decision,
    decide::decide,
    delivery::Delivery,
    observed::Observed,
    progress::Progress,
    secrets::{Held, Slot},
    settle::settle,
    terms::CheckedTerms,
    validate::validate,
    workloads::Workloads,
    world::World,
};
use crate::{
    controller::{book::Ruled, kind::Settled},
    crd::{
        Account, ApiToken, Instance, SealedSecret,
        api_token::{ApiTokenStatus, BoundAccount},
        instance::{EndpointName, EndpointStatus, EndpointType, InstanceStatus},
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

/// An account of the token's name that someone made.
pub(crate) fn account() -> Account {
    object("ServiceAccount", "ci", ACCOUNT_UID, json!({"instanceRef": {"name": "eem"}}))
}

/// An account that the token made for itself.
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

/// A token that was just made; its Instance stands, and nothing else.
pub(crate) fn new() -> World {
    World::new(Observed {
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
        stored: BTreeMap::new(),
        may_mint_from: None,
        taken: BTreeSet::new(),
        workloads: Workloads::Unread,
        fellows: Vec::new(),
    })
}

/// Generation 1 is served since the start.
pub(crate) fn served() -> World {
    new().and(|world| world.account = Some(Arc::new(own_account(ACCOUNT_UID)))).issued(1)
}

/// Generation 2 is served since day 60, generation 1 is in its overlap.
pub(crate) fn rotated() -> World {
    served().later(60 * DAY).issued(2)
}

/// Generation 2 is on record since day 60; whether it was published is not known.
pub(crate) fn incomplete() -> World {
    let world = served().later(60 * DAY);
    let recorded = world.minted(2);
    world.settled(&recorded)
}

impl World {
    /// With one change of what was read.
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

    /// With a change of the token, and each Secret where it was.
    pub fn with_token(self, change: impl FnOnce(&mut ApiToken)) -> Self {
        self.and(|read| change(Arc::make_mut(&mut read.token)))
    }

    /// With this at the name at which the served value is looked for.
    pub fn serving(self, held: Held) -> Self {
        let name = self.secrets.served.name.clone();
        self.storing(&name, held)
    }

    /// With this at a name.
    pub fn storing(self, name: &str, held: Held) -> Self {
        self.and(|read| _ = read.stored.insert(name.to_owned(), held))
    }

    /// With these fields in the token's spec, as a merge patch.
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

    /// With the URI of the Admin API.
    pub fn at_endpoint(self, uri: &str) -> Self {
        self.and(|world| {
            let endpoint = EndpointStatus { name: EndpointName::Admin, type_: EndpointType::Internal, uri: uri.into() };
            let status = InstanceStatus { endpoints: vec![endpoint], ..InstanceStatus::default() };
            world.instance.as_mut().unwrap().change(|instance| instance.status = Some(status));
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

    /// The Secret that delivers the `draw`th value as `record`: made, or changed by a merge.
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

    /// With the Secret that delivers the `draw`th value as `record`.
    pub fn holding(self, record: &Record, draw: u64) -> Self {
        let secret = Held::of(Some(Arc::new(self.delivered(record, draw))), &self.token);
        let name = self.secrets.next().name.clone();
        self.storing(&name, secret)
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

/// RFC 7386.
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
    /// When the token is looked at again.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        self.wake.map(|wake| wake.at)
    }

    /// What the next pass will be for.
    pub fn why(&self) -> Option<&'static str> {
        self.wake.map(|wake| wake.why)
    }
}

/// What a status says of a type of condition.
pub(crate) fn said<'a>(status: &'a ApiTokenStatus, type_: &str) -> &'a Condition {
    status.conditions.iter().find(|said| said.type_ == type_).unwrap_or_else(|| panic!("no condition {type_}"))
}

/// `type=status/reason` of a type of condition.
pub(crate) fn judged(status: &ApiTokenStatus, type_: &str) -> String {
    judgement(said(status, type_))
}

/// The same of several.
pub(crate) fn judged_all<const N: usize>(status: &ApiTokenStatus, types: [&str; N]) -> [String; N] {
    types.map(|type_| judged(status, type_))
}

/// The same of all but those of some types.
pub(crate) fn but<const N: usize>(status: &ApiTokenStatus, types: [&str; N]) -> Vec<String> {
    status.conditions.iter().filter(|said| !types.contains(&&*said.type_)).map(judgement).collect()
}

fn judgement(said: &Condition) -> String {
    format!("{}={}/{}", said.type_, said.status, said.reason)
}

/// `type=status/reason` of every condition.
pub(crate) fn conditions(status: &ApiTokenStatus) -> Vec<String> {
    status.conditions.iter().map(judgement).collect()
}

pub(crate) fn time(seconds: i64) -> Time {
    Time(at(seconds))
}
