//! A simulation of random lives of one token, which asserts the invariants after each step. It is pure: the writes of
//! `execute` change plain data. Each write may be refused, lost or late, or the operator may die after it.
//!
//! It does not cover:
//! * `observe` and `execute` themselves. This file repeats their reads and writes, in the same order. Its caches are
//!   never behind, and its live reads never fail.
//! * More than one pass at a time, and other writers of the token's status than the operator.
//! * Owners, roles, policies and audiences. Secrets that are not ours.
//! * Accounts that cannot be made or that others change.
//! * Workloads that are missing or forbidden, and other tokens that share them.
//! * A token that is deleted or forgotten, and clocks that are set back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{
    act::Act,
    delivery::Details,
    fixture::{changed, new, own_account},
    observed::Observed,
    once::claim,
    progress::{Failure, Progress, Rolled},
    restart::{Needed, is_unseen, needed},
    secrets::Held,
    workloads::{Seen, Workloads},
    world::World,
};
use crate::{
    controller::kind::Wake,
    crd::{
        Reason, RestartTarget, SealedSecret,
        api_token::ApiTokenStatus,
        name,
        secret::{self, Sealed},
    },
    outside::{Refusal, Why, Workload},
    token::{
        Record, Schedule, State,
        records::{LANDS_WITHIN, MAX_VALID},
    },
};

/// The maximum number of passes until a pass finds nothing to do.
const PASSES: usize = 6;
/// The maximum number of failed passes in a row. With more, a token could expire before a pass succeeds.
const LUCKLESS: u8 = 3;

/// The fate of the writes of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    Good,
    /// The write of the Secret is refused, so certainly not done.
    Refused,
    /// The write of the Secret is done, but gets no answer.
    Unheard,
    /// The write of the Secret gets no answer. It is done later, or never.
    Late,
    /// The operator dies after the record.
    DiesRecorded,
    /// The operator dies after the publish.
    DiesPublished,
}

/// An event in the life of a token.
#[derive(Clone, Debug)]
enum Event {
    /// Time passes. Each wake-up in that time starts a pass.
    Wait(i64),
    /// Another cause starts a pass.
    Look,
    Spec(usize),
    Policy(usize),
    /// The spec asks for a new generation, with this end for its predecessor.
    Regenerate(usize),
    /// The spec gives another name for the Secret.
    Rename(usize),
    /// The spec gives another template for a key.
    Template(usize),
    Suspend(bool),
    SuspendAccount(bool),
    DropSecret,
    AlterSecret(Damage),
    /// A publish that seemed lost is done after all: the oldest one if true, else the newest one.
    Land(bool),
    DeleteAccount,
    Revoke,
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Value,
    Key,
    Label,
    Number,
    Endpoint,
}

/// The specs of the simulation. Their time margins are wider than the duration of [`LUCKLESS`] passes. The last spec is
/// not valid.
fn specs() -> [Value; 10] {
    let spec = |expiry: Value, schedule: Value, overlap: Value, delivery: &str| {
        let rotation = json!({"schedule": schedule, "overlap": overlap});
        json!({"expiry": expiry, "rotation": rotation, "secret": {"delivery": delivery}, "restart": null})
    };
    let after = |after: &str| json!({"after": after, "never": false});
    [
        json!({"expiry": null, "rotation": null, "secret": null, "restart": null}),
        spec(after("1h"), json!({"every": "40m", "never": false}), json!("15m"), "Retain"),
        spec(after("4h"), json!({"every": null, "beforeExpiry": "20m", "never": false}), json!("30m"), "Retain"),
        spec(after("1d"), json!({"every": "20h", "beforeExpiry": null, "never": false}), Value::Null, "Retain"),
        spec(after("3h"), json!({"every": null, "beforeExpiry": null, "never": true}), Value::Null, "Retain"),
        spec(json!({"after": null, "never": true}), Value::Null, Value::Null, "Retain"),
        spec(after("3h"), Value::Null, json!("10m"), "Once"),
        json!({
            "expiry": {"after": "2h", "never": false}, "rotation": null, "secret": null,
            "restart": [{"kind": "Deployment", "name": "exporter"}],
        }),
        json!({
            "expiry": after("1h"), "rotation": {"schedule": {"every": "40m", "never": false}, "overlap": "15m"},
            "secret": null, "restart": null,
        }),
        spec(after("1h"), json!({"every": "2h", "beforeExpiry": null, "never": false}), Value::Null, "Retain"),
    ]
}

/// The Instance's policies. The third one allows less than some specs ask for. The last one demands that values are
/// shown once.
fn policies() -> [Value; 4] {
    let policy = |never: &str, max: &str| {
        let lifetime = json!({"default": "2h", "max": max, "never": never});
        json!({"tokens": {"lifetime": lifetime, "overlap": {"default": "20m"}}})
    };
    let mut once = policy("Allow", "365d");
    once["tokens"]["delivery"] = json!("Once");
    [policy("Allow", "365d"), policy("Forbid", "365d"), policy("Allow", "3h"), once]
}

/// The possible texts of `regenerate.previous`.
fn endings() -> [Value; 4] {
    let [at_once, soon] = ["0s", "10m"].map(|after| json!({ "after": after }));
    [Value::Null, at_once, soon, json!({"at": "2020-01-01T00:00:00Z"})]
}

/// A late write of the Secret, not done yet.
struct Flight {
    name: String,
    onto: Option<String>,
    secret: SealedSecret,
    until: Timestamp,
}

struct Sim {
    world: World,
    /// All existing Secrets by name, also those that the token does not use.
    secrets: BTreeMap<String, Held>,
    wake: Option<Wake>,
    flights: Vec<Flight>,
    luck: Vec<Luck>,
    luckless: u8,
    draws: u64,
    versions: u64,
    given: BTreeSet<i64>,
    /// The generation that answered each `regenerate.id`.
    answered: BTreeMap<String, i64>,
    /// The generations with a noted restart of the workload.
    rolled: BTreeSet<i64>,
    /// True while the Secret must always hold a valid value.
    promised: bool,
}

impl Sim {
    fn new(luck: Vec<Luck>) -> Self {
        let mut sim = Self {
            world: new().with_instance(policies()[0].clone()),
            secrets: BTreeMap::new(),
            wake: None,
            flights: Vec::new(),
            luck,
            luckless: 0,
            draws: 0,
            versions: 1,
            given: BTreeSet::new(),
            answered: BTreeMap::new(),
            rolled: BTreeSet::new(),
            promised: false,
        };
        sim.run();
        sim
    }

    fn luck(&mut self) -> Luck {
        let luck = if self.luckless < LUCKLESS { self.luck.pop() } else { None }.unwrap_or(Luck::Good);
        self.luckless = if luck == Luck::Good { 0 } else { self.luckless + 1 };
        luck
    }

    fn version(&mut self) -> Option<String> {
        self.versions += 1;
        Some(self.versions.to_string())
    }

    fn standing(&self, name: &str) -> Option<String> {
        self.secrets.get(name)?.ours()?.metadata.resource_version.clone()
    }

    fn put(&mut self, name: &str, held: Held) {
        self.secrets.insert(name.to_owned(), held);
        self.look();
    }

    fn look(&mut self) {
        self.see(|_| {});
    }

    /// Reads the world after a change, as `observe` does. It reads the workloads only if the pass needs them.
    fn see(&mut self, change: impl FnOnce(&mut Observed)) {
        let unread = self.world.clone().and(|read| {
            change(read);
            read.stored.clone_from(&self.secrets);
            read.workloads = Workloads::Unread;
        });
        self.world = match needed(&unread) {
            Needed::Nothing => unread,
            Needed::ToMint => seeing(unread, Workloads::Checked),
            Needed::ToRestart => seeing(unread, Workloads::Due),
        };
    }

    /// Writes the Secret, if its resourceVersion is still the expected one.
    fn land(&mut self, flight: Flight) {
        if self.standing(&flight.name) == flight.onto && self.world.now < flight.until {
            let mut secret = flight.secret;
            secret.metadata.resource_version = self.version();
            self.put(&flight.name, Held::of(Some(Arc::new(secret)), &self.world.token));
        }
    }

    fn write_status(&mut self, status: ApiTokenStatus) {
        never_back(&self.world.status(), &status);
        bounded(&status, self.world.now);
        for record in &status.records {
            let known = self.world.status().records.iter().any(|old| old.generation == record.generation);
            assert!(known || self.given.insert(record.generation), "{} is given twice", record.generation);
            if let (Some(id), Some(_)) = (&record.asked_by, &record.published_at) {
                let first = *self.answered.entry(id.clone()).or_insert(record.generation);
                assert_eq!(first, record.generation, "{id} asked once");
            }
        }
        self.see(|read| Arc::make_mut(&mut read.token).status = Some(status));
        self.assert_continuity();
    }

    /// Runs one pass. Returns none if the operator died in it.
    fn pass(&mut self) -> Option<()> {
        self.look();
        let (seen, decision) = (self.world.clone(), self.world.decision());
        let done = Progress::none(decision);
        let progress = match decision.act {
            Act::Rest | Act::Wait => done,
            Act::Acknowledge(generation) => Progress { published: Some((generation, seen.now)), ..done },
            Act::Amend(()) => self.amend(done),
            Act::End(_) => self.remove(seen.secrets.all().map(|slot| slot.name.clone()).collect(), done),
            Act::Discard => self.remove(seen.status().other_secret_name.into_iter().collect(), done),
            Act::Conceal(outcome) => self.conceal(&seen, Progress { claim: claim(&seen, outcome), ..done })?,
            Act::Restart => self.roll(done)?,
            Act::Forget => unreachable!("no Instance here forgets"),
            Act::Mint(()) => self.mint(&seen)?,
        };
        let settled = seen.settle(&progress);
        self.write_status(settled.status);
        self.wake = settled.wake;
        Some(())
    }

    /// Writes the claim of the value, then removes its Secret.
    fn conceal(&mut self, seen: &World, done: Progress) -> Option<Progress> {
        if seen.claim.is_none() {
            self.write_status(seen.settle(&done).status);
            if self.luck.last() == Some(&Luck::DiesRecorded) && self.luck() == Luck::DiesRecorded {
                return None;
            }
        }
        Some(self.remove(vec![seen.secrets.served.name.clone()], done))
    }

    /// Restarts the workload, once for each generation.
    fn roll(&mut self, done: Progress) -> Option<Progress> {
        assert_ne!(self.world.workloads, Workloads::Unread, "the workloads were not read");
        let served = self.world.records.served().cloned().unwrap();
        assert_eq!(self.world.secrets.served.held.digest(), Some(served.sha256), "it would read another value");
        let luck = self.luck();
        let rolled = Rolled { generation: served.generation, missing: vec![], failure: None };
        if luck == Luck::Refused {
            let failure =
                Some((self.world.token.spec.restart[0].clone(), Refusal::because(Why::Forbidden("no".into()))));
            return Some(Progress { rolled: Some(Rolled { failure, ..rolled }), ..done });
        }
        if matches!(luck, Luck::DiesRecorded | Luck::DiesPublished) {
            return None;
        }
        assert!(self.rolled.insert(served.generation), "restarted once for each generation");
        Some(Progress { rolled: Some(rolled), ..done })
    }

    fn mint(&mut self, seen: &World) -> Option<Progress> {
        assert!(!is_unseen(seen), "the workloads were not read");
        let mut seen = seen.clone();
        if seen.account.is_none() {
            self.draws += 1;
            let account = Some(Arc::new(own_account(&format!("account-{}", self.draws))));
            seen = seen.and(|read| read.account.clone_from(&account));
            self.world = self.world.clone().and(|read| read.account = account);
        }
        self.draws += 1;
        let progress = seen.minted(self.draws);
        let record = progress.recorded.clone().unwrap();
        self.write_status(seen.settle(&progress).status);
        let until = seen.now + LANDS_WITHIN;
        let name = seen.secrets.next().name.clone();
        let flight = Flight { onto: self.standing(&name), secret: seen.delivered(&record, self.draws), until, name };
        let answer = match self.luck() {
            Luck::DiesRecorded => return None,
            Luck::DiesPublished => {
                self.land(flight);
                self.assert_continuity();
                return None;
            }
            Luck::Refused => Err(Refusal::because(Why::Forbidden("no".into()))),
            Luck::Unheard => {
                self.land(flight);
                Err(Refusal::because(Why::Unavailable("lost".into())))
            }
            Luck::Late => {
                self.flights.push(flight);
                Err(Refusal::because(Why::Unavailable("lost".into())))
            }
            Luck::Good => {
                self.land(flight);
                Ok(())
            }
        };
        self.assert_continuity();
        Some(match answer {
            Ok(()) => Progress { published: Some((record.generation, seen.now)), ..progress },
            Err(refusal) => failed(progress, refusal),
        })
    }

    fn amend(&mut self, done: Progress) -> Progress {
        if self.luck() != Luck::Good {
            return failed(done, Refusal::because(Why::Forbidden("no".into())));
        }
        let (terms, held) = (self.world.terms().unwrap(), &self.world.secrets.served.held);
        let served = self.world.records.served().unwrap();
        let changes = Details::of(&self.world, &terms, served, held).changes();
        let mut secret = changed(held.ours().unwrap(), &changes);
        secret.metadata.resource_version = self.version();
        let place = self.world.secrets.served.name.clone();
        self.put(&place, Held::of(Some(Arc::new(secret)), &self.world.token));
        done
    }

    fn remove(&mut self, names: Vec<String>, done: Progress) -> Progress {
        let ours = |name: &String| self.secrets.get(name).is_some_and(|held| held.ours().is_some());
        let names: Vec<_> = names.into_iter().filter(ours).collect();
        if !names.is_empty() && self.luck() != Luck::Good {
            return failed(done, Refusal::because(Why::Forbidden("no".into())));
        }
        names.iter().for_each(|name| self.put(name, Held::Absent));
        done
    }

    /// Runs passes until one changes nothing, as each pass's own writes start another.
    fn run(&mut self) {
        for _ in 0..PASSES + usize::from(LUCKLESS) {
            let before = (self.world.status(), self.secrets.clone());
            let died = self.pass().is_none();
            if !died && before == (self.world.status(), self.secrets.clone()) {
                self.rest();
                return;
            }
        }
        panic!("no rest: {:?} in {:#?}", self.world.decision(), self.world.status());
    }

    /// Checks the state after a pass that wrote nothing. If there was no action left, there is none before the wake-up.
    fn rest(&mut self) {
        let decision = self.world.decision();
        if matches!(
            (decision.act, &self.world.secrets.served.held),
            (Act::Amend(()) | Act::Discard | Act::Restart, _) | (Act::End(_) | Act::Conceal(_), Held::Ours(_))
        ) || (matches!(decision.act, Act::End(_)) && !self.world.is_withdrawn())
        {
            assert!(
                self.wake.is_some_and(|wake| wake.at > self.world.now),
                "a failure is tried again: {:?}",
                self.wake
            );
            return;
        }
        let rests = matches!(decision.reason, Reason::Active | Reason::RecordsOutdated);
        self.promised = (rests && self.is_renewed()) || self.promised;
        let end = self.wake.map_or(self.world.now + SignedDuration::from_hours(10_000), |wake| wake.at);
        assert!(end > self.world.now, "passes would follow one another without end: {:?}", self.wake);
        let length = end.duration_since(self.world.now).as_secs();
        for seconds in [0, 1, length / 3, length - 1] {
            let then = self.world.clone().later(seconds.min(length - 1));
            assert!(
                matches!(then.decision().act, Act::Rest | Act::End(_)),
                "{:?} before {:?}",
                then.decision(),
                self.wake
            );
            let settled = then.rested();
            assert_eq!(settled.status, self.world.status(), "after {seconds} s of {length}");
            assert_eq!(settled.notes, []);
            assert!(settled.wakes_at().is_none_or(|at| at > then.now) && settled.wake.is_some() == self.wake.is_some());
        }
    }

    /// True if the terms renew the value for ever, and its Secret exists as long as the token.
    fn is_renewed(&self) -> bool {
        let renews = self.world.terms().is_ok_and(|terms| terms.life.schedule != Schedule::Never);
        renews && !self.world.shown_once.served
    }

    /// Asserts that a workload which reads the Secret now gets a value that is on record and valid.
    fn assert_continuity(&self) {
        if !self.promised {
            return;
        }
        let status = self.world.status();
        let name = status.secret_name.as_deref().unwrap_or(self.world.token.secret_name());
        let digest = self.secrets.get(name).and_then(Held::digest);
        let found = status.records.iter().find(|record| Some(record.sha256) == digest);
        let valid = found.is_some_and(|record| record.is_valid(self.world.now));
        assert!(valid, "a consumer reads {found:?} at {} of {:#?}", self.world.now, status.records);
    }

    fn wait(&mut self, seconds: i64) {
        let until = self.world.now + SignedDuration::from_secs(seconds);
        while let Some(wake) = self.wake.filter(|wake| wake.at <= until) {
            self.world = self.world.clone().at(wake.at.max(self.world.now));
            self.assert_continuity();
            self.run();
        }
        self.world = self.world.clone().at(until);
        self.assert_continuity();
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wait(seconds) => return self.wait(seconds),
            Event::Look => {}
            Event::Spec(index) => {
                self.ask(&specs()[index]);
                self.promised &= self.is_renewed();
            }
            Event::Policy(index) => {
                // A generation that the policy shortens may end without a successor.
                self.promised = false;
                self.change(|world| world.with_instance(policies()[index].clone()));
            }
            Event::Regenerate(ending) => {
                self.draws += 1;
                let asked = json!({"id": format!("ask-{}", self.draws), "previous": endings()[ending]});
                self.ask(&json!({"regenerate": null}));
                self.ask(&json!({"regenerate": asked}));
            }
            Event::Rename(index) => {
                let name = ["ci", "second", "third"][index];
                self.ask(&json!({"secret": {"name": name}}));
            }
            Event::Template(index) => {
                let template =
                    [Value::Null, json!("{{ token }}"), json!("a {{ token }}"), json!("plain")][index].clone();
                self.ask(&json!({"secret": {"data": {"a": template}}}));
            }
            Event::Suspend(suspended) => {
                self.ask(&json!({"active": !suspended}));
                self.promised &= !suspended;
            }
            Event::SuspendAccount(suspended) => {
                if self.world.account.is_some() {
                    self.change(|world| world.with_account(|account| account.spec.active = !suspended));
                }
                self.promised &= !suspended;
            }
            Event::DropSecret => {
                self.promised = false;
                let place = self.world.secrets.served.name.clone();
                self.put(&place, Held::Absent);
            }
            Event::AlterSecret(damage) => self.alter(damage),
            Event::Land(oldest) => {
                let (now, flights) = (self.world.now, &mut self.flights);
                flights.retain(|flight| flight.until > now);
                let flight = if oldest && !flights.is_empty() { Some(flights.remove(0)) } else { flights.pop() };
                flight.into_iter().for_each(|flight| self.land(flight));
            }
            Event::DeleteAccount => {
                self.promised = false;
                self.see(|read| read.account = None);
            }
            Event::Revoke => {
                self.promised = false;
                self.ask(&json!({"revoked": true}));
            }
        }
        self.assert_continuity();
        self.run();
    }

    /// Applies a merge patch to the spec, which increments `metadata.generation`.
    fn ask(&mut self, patch: &Value) {
        self.change(|world| {
            let world = world.with_spec(patch);
            world.with_token(|token| token.metadata.generation = token.metadata.generation.map(|count| count + 1))
        });
    }

    fn change(&mut self, change: impl FnOnce(World) -> World) {
        self.world = change(self.world.clone());
        self.look();
    }

    fn alter(&mut self, damage: Damage) {
        let Some(mut secret) = self.world.secrets.served.held.ours().cloned() else { return };
        self.promised &= !matches!(damage, Damage::Value);
        secret.metadata.resource_version = self.version();
        let annotations = secret.metadata.annotations.get_or_insert_default();
        match damage {
            Damage::Value => secret.data.extend([(secret::TOKEN.into(), Sealed::of("other"))]),
            Damage::Key => secret.data.extend([("a".into(), Sealed::of("other"))]),
            Damage::Label => secret.metadata.labels = None,
            Damage::Number => annotations.extend([(name::GENERATION.into(), i64::MAX.to_string())]),
            Damage::Endpoint => secret.data.retain(|key, _| key != secret::ENDPOINT),
        }
        let place = self.world.secrets.served.name.clone();
        self.put(&place, Held::of(Some(Arc::new(secret)), &self.world.token));
    }

    /// Asserts that the token converges while all writes succeed and no object is changed from outside.
    fn assert_converges(&mut self) {
        self.luck.clear();
        for _ in 0..PASSES {
            let before = self.world.status();
            self.pass().expect("nobody dies");
            if before == self.world.status() {
                break;
            }
        }
        self.run();
        self.wait(6 * 60 * 60);
        let status = self.world.status();
        let holds = |type_: &str| {
            status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
        };
        let ready = holds("Ready") && holds("Valid");
        let asked = self.world.token.spec.active
            && self.world.account.as_ref().is_some_and(|account| account.spec.active)
            && self.world.terms().is_ok()
            && status.revocation.is_none()
            && self.world.decision().reason != Reason::Expired;
        assert_eq!(ready, asked, "{:?}", self.world.decision());
        assert!(!ready || status.records.iter().all(|record| record.state != State::Recorded));
        let served = self.world.records.served().and_then(|served| served.published_at.clone());
        let recent = served.is_some_and(|at| self.world.now.duration_since(at.0).as_secs() <= 30);
        let restarted = recent || status.restart.as_ref().is_none_or(|restart| restart.at.is_some());
        assert!(!ready || restarted, "a restart is forgotten");
        let asked = self.world.token.spec.regenerate.as_ref().map(|asked| &asked.id);
        assert!(!ready || asked.is_none_or(|id| status.regeneration.is_some_and(|answer| answer.id == *id)));
        assert!(status.revocation.is_none() || self.world.is_withdrawn());
        let lasts = ready && !self.world.shown_once.served;
        let names = (status.secret_name.as_deref(), status.other_secret_name);
        assert!(!lasts || names == (Some(self.world.token.secret_name()), None), "{names:?}");
    }
}

/// The world with all workloads of `spec.restart`, which all exist.
fn seeing(world: World, read_for: fn(Vec<Seen>) -> Workloads) -> World {
    let there = |target: &RestartTarget| {
        Seen::There(Workload {
            kind: target.kind,
            namespace: "events".into(),
            name: target.name.to_string(),
            uid: "w".into(),
            version: "1".into(),
            annotations: BTreeMap::new(),
        })
    };
    world.and(|read| read.workloads = read_for(read.token.spec.restart.iter().map(there).collect()))
}

fn failed(progress: Progress, refusal: Refusal) -> Progress {
    Progress { failure: Some(Failure { reason: Reason::PublishFailed, obstacle: refusal.into() }), ..progress }
}

fn lasts_no_longer(after: &Record, before: &Record) -> bool {
    before.end().is_none_or(|end| after.end().is_some_and(|now| now <= end))
}

fn ended(record: &Record) -> bool {
    matches!(record.state, State::Expired | State::Revoked)
}

/// Asserts that expired and revoked generations stay so, that no expiry is extended, and that no number goes back. The
/// other fields of a record never change.
fn never_back(old: &ApiTokenStatus, new: &ApiTokenStatus) {
    assert!(new.last_generation >= old.last_generation);
    assert!(old.revocation.is_none() || new.revocation == old.revocation);
    assert!(new.records.iter().all(|record| Some(record.generation) <= new.last_generation));
    for before in &old.records {
        let Some(after) = new.records.iter().find(|after| after.generation == before.generation) else {
            assert!(before.state != State::Revoked, "revoked ids stay");
            continue;
        };
        assert!(lasts_no_longer(after, before), "extended: {before:?} to {after:?}");
        assert!(!ended(before) || after.state == before.state, "back: {before:?} to {after:?}");
        assert_eq!((&after.id, after.sha256, &after.created_at), (&before.id, before.sha256, &before.created_at));
        assert!(before.published_at.is_none() || after.published_at == before.published_at);
    }
}

fn bounded(status: &ApiTokenStatus, now: Timestamp) {
    let count = |keep: fn(State) -> bool| status.records.iter().filter(|record| keep(record.state)).count();
    assert!(status.records.iter().filter(|record| record.is_valid(now)).count() <= MAX_VALID);
    assert!(count(|state| state == State::Active) <= 1, "one is served");
    assert!(count(|state| state == State::Expired) <= 2 && status.records.len() <= MAX_VALID + 2);
    // Four are always there. Restarted, ExpiringSoon, and one of Reconciling and Stalled come and go.
    assert!((4..=7).contains(&status.conditions.len()));
    assert!(status.records.is_sorted_by(|a, b| a.generation < b.generation));
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![
        3 => Just(Luck::Good),
        1 => Just(Luck::Refused),
        1 => Just(Luck::Unheard),
        2 => Just(Luck::Late),
        1 => Just(Luck::DiesRecorded),
        1 => Just(Luck::DiesPublished),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let damage = prop_oneof![
        Just(Damage::Value),
        Just(Damage::Key),
        Just(Damage::Label),
        Just(Damage::Number),
        Just(Damage::Endpoint)
    ];
    prop_oneof![
        4 => (0i64..300).prop_map(Event::Wait),
        8 => (300i64..3 * 60 * 60).prop_map(Event::Wait),
        3 => Just(Event::Look),
        4 => (0..specs().len()).prop_map(Event::Spec),
        2 => (0..policies().len()).prop_map(Event::Policy),
        3 => (0..endings().len()).prop_map(Event::Regenerate),
        3 => (0..3usize).prop_map(Event::Rename),
        3 => (0..4usize).prop_map(Event::Template),
        2 => any::<bool>().prop_map(Event::Suspend),
        1 => any::<bool>().prop_map(Event::SuspendAccount),
        2 => Just(Event::DropSecret),
        4 => damage.prop_map(Event::AlterSecret),
        4 => any::<bool>().prop_map(Event::Land),
        1 => prop_oneof![Just(Event::Look), Just(Event::DeleteAccount), Just(Event::Revoke)],
    ]
}

proptest! {
    #![proptest_config(crate::token::cases::usual())]

    #[test]
    fn whatever_happens_no_consumer_is_left_nothing_comes_back_and_rest_is_reached(
        luck in vec(luck(), 0..40), events in vec(event(), 0..40),
    ) {
        let mut sim = Sim::new(luck);
        events.into_iter().for_each(|event| sim.happens(event));
        sim.assert_converges();
    }
}
