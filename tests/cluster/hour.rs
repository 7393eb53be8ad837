//! An hour of faults. Two hundred tokens are rotated every two minutes, both Deployments have two replicas, and the
//! parts of the cluster and of Tokenry fail in turn. No call of a workload is refused.

use std::{cell::RefCell, collections::BTreeSet, env, time::Duration};

use base64::Engine;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Told, account,
    alerts::Prometheus,
    caddy, caller,
    calls::Tally,
    examples_become_ready,
    machine::{Deed, Machine, Process},
    ready, serve_api,
    site::{SHOP, SYSTEM, Site},
    start_caller, status, time,
};

/// The number of tokens.
const TOKENS: usize = 200;
/// The tokens of which a workload mounts the Secret. They are rotated at different times.
const CALLING: [usize; 4] = [0, 50, 100, 150];
/// The time between two rotations of a token.
const EVERY: Duration = Duration::from_secs(120);
/// How long a superseded value is accepted. It is longer than the longest fault and the kubelet's delay together.
const OVERLAP: Duration = Duration::from_secs(100);
/// The longest fault. It is longer than the leader's lease.
const LONG: Duration = Duration::from_secs(35);
const SHORT: Duration = Duration::from_secs(20);
/// Maximum time from the end of a fault until everything is ready.
const MENDED: Duration = Duration::from_secs(120);
/// The label of the tokens.
const LABEL: &str = "example.com/run=hour";
/// Values of the alerts. They fire sooner than by default, so that a wrong one fires within the hour.
const ALERTS: &str = "metrics.prometheusRule.for=1m,metrics.prometheusRule.notReadyFor=2m";
/// Maximum time until no alert fires. An alert reads rates of ten minutes.
const QUIET: Duration = Duration::from_secs(15 * 60);
/// The memory of a process after a round, compared with the first round.
const FLAT: f64 = 1.5;

/// A part that fails, and how.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Daemon(&'static str, Deed),
    /// The operator that has the Lease.
    Leader(Deed),
    /// One of the verifiers.
    Verifier(Deed),
    /// All Pods of a component, one after the other.
    Replaced(&'static str),
    /// Somebody deletes the Lease.
    LeaseDeleted,
    /// An upgrade of the release that replaces every Pod.
    Upgrade,
}

const FAULTS: [Fault; 16] = [
    Fault::Leader(Deed::Kill),
    Fault::Daemon("etcd", Deed::Kill),
    Fault::Verifier(Deed::Kill),
    Fault::Daemon("kube-apiserver", Deed::Kill),
    Fault::Leader(Deed::Freeze(LONG)),
    Fault::Daemon("kubelet", Deed::Kill),
    Fault::Upgrade,
    Fault::Daemon("etcd", Deed::Freeze(SHORT)),
    Fault::Verifier(Deed::Freeze(SHORT)),
    Fault::Daemon("kube-apiserver", Deed::Freeze(LONG)),
    Fault::Replaced("operator"),
    Fault::Daemon("kubelet", Deed::Freeze(LONG)),
    Fault::LeaseDeleted,
    Fault::Daemon("kube-apiserver", Deed::Stop(LONG)),
    Fault::Replaced("verifier"),
    Fault::Daemon("kube-controller-manager", Deed::Kill),
];

#[test]
#[ignore = "takes an hour: see CONTRIBUTING.md"]
fn an_hour_of_faults_refuses_no_call() {
    let site = Site::of_environment().unwrap_or_else(|wrong| panic!("{wrong}"));
    let machine = Machine::of_environment().unwrap_or_else(|wrong| panic!("{wrong}"));
    site.remove().unwrap_or_else(|wrong| panic!("{wrong}"));
    let told = Prometheus::start(&site, &machine, ALERTS)
        .and_then(|prometheus| Hour { site: &site, machine: &machine, prometheus, values: BTreeSet::new() }.story());
    if told.is_err() {
        println!("{}", site.state());
    }
    let removed = site.remove();
    told.and(removed).unwrap_or_else(|wrong| panic!("{wrong}"));
}

struct Hour<'a> {
    site: &'a Site,
    machine: &'a Machine,
    prometheus: Prometheus<'a>,
    /// All values that were seen in Secrets.
    values: BTreeSet<String>,
}

impl Hour<'_> {
    fn story(&mut self) -> Told {
        let site = self.site;
        let since = site.audit_end();
        site.make_namespaces()?;
        site.install_traefik_definitions()?;
        self.install("0")?;
        examples_become_ready(site)?;
        serve_api(site)?;
        let tokens: Vec<_> = (0..TOKENS).map(token).collect();
        site.apply(SHOP, &json!({"apiVersion": "v1", "kind": "List", "items": tokens}).to_string())?;
        self.everything_is_ready()?;
        site.tell(&format!("{TOKENS} tokens are ready"));
        self.prometheus.follow(site)?;
        for name in calling() {
            start_caller(site, &name, "shop-proxy:8080", caddy::SITE)?;
        }
        let begin = Timestamp::now();
        let end = begin + minutes()?;
        let mut resident = Vec::new();
        for round in 1.. {
            self.round(round)?;
            resident.push(self.resident()?);
            if Timestamp::now() > end {
                break;
            }
        }
        self.alerts_end()?;
        self.memory_is_flat(&resident)?;
        self.rotations_happened(begin)?;
        self.no_call_was_refused()?;
        self.nothing_leaked()?;
        site.nothing_was_forbidden(since)
    }

    /// Installs the release, or upgrades it. Another note replaces every Pod.
    fn install(&self, note: &str) -> Told {
        let note = |component| format!("{component}.podAnnotations.example\\.com/note={note}");
        self.site.install(&["highAvailability.enabled=true", &note("operator"), &note("verifier")])
    }

    /// Lets each part fail once.
    fn round(&mut self, round: usize) -> Told {
        for fault in FAULTS {
            self.collect_values()?;
            let before = self.tally()?;
            self.site.tell(&format!("round {round}: {fault:?}"));
            self.fail(fault, round)?;
            self.everything_is_ready()?;
            self.prometheus.follow(self.site)?;
            let calls = self.tally()?.since(before);
            self.site.tell(&format!(
                "round {round}: ready again; calls meanwhile: {calls}; alerts: {:?}",
                self.prometheus.firing()?
            ));
            if calls.refused > 0 {
                return self.no_call_was_refused();
            }
        }
        Ok(())
    }

    fn fail(&self, fault: Fault, round: usize) -> Told {
        match fault {
            Fault::Daemon(name, deed) => self.machine.daemon(name, deed),
            Fault::Leader(deed) => self.machine.process(&self.leader()?, deed),
            Fault::Verifier(deed) => {
                self.machine.process(&self.process(|process| process.component == "verifier")?, deed)
            }
            Fault::Replaced(component) => self.site.replace_pods(component),
            Fault::LeaseDeleted => self.site.kubectl(&["delete", "leases", "--all", "--namespace", SYSTEM]).map(drop),
            Fault::Upgrade => self.install(&round.to_string()),
        }
    }

    fn process(&self, is: impl Fn(&Process) -> bool) -> Told<Process> {
        let all = self.machine.processes()?;
        all.iter().find(|process| is(process)).cloned().ok_or_else(|| format!("no such process among {all:?}"))
    }

    /// The operator that has the Lease. The holder's identity begins with the name of the Pod.
    fn leader(&self) -> Told<Process> {
        let leases = self.site.get(&["leases", "--namespace", SYSTEM])?;
        let holder = leases["items"][0]["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        self.process(|process| process.component == "operator" && holder.starts_with(&process.pod))
    }

    /// Waits until both Deployments and all tokens are ready, after a fault.
    fn everything_is_ready(&self) -> Told {
        let ready = || -> Told<()> {
            for component in ["operator", "verifier"] {
                self.site.rolled_out(SYSTEM, &format!("tokenry-{component}"))?;
            }
            ready(self.site, &["apitokens", "--selector", LABEL])
        };
        let told = RefCell::new(String::new());
        let found = self.site.within(MENDED, "everything is ready", || match ready() {
            Ok(()) => Ok(Some(())),
            // The API server may still be starting.
            Err(error) => {
                told.replace(error);
                Ok(None)
            }
        });
        found.map_err(|error| format!("{error}: {}", told.take()))
    }

    /// Remembers the values that the Secrets hold now, for [`Hour::nothing_leaked`].
    fn collect_values(&mut self) -> Told {
        let secrets = self.site.get(&["secrets", "--namespace", SHOP])?;
        for secret in secrets["items"].as_array().into_iter().flatten() {
            if let Some(value) = secret["data"]["token"].as_str() {
                self.values.insert(decoded(value)?);
            }
        }
        Ok(())
    }

    /// Waits until no alert fires: an alert that goes on without a cause is wrong.
    fn alerts_end(&self) -> Told {
        let last = RefCell::new(BTreeSet::new());
        let told = self.site.within(QUIET, "no alert fires", || {
            let firing = self.prometheus.firing()?;
            let quiet = firing.is_empty().then_some(());
            last.replace(firing);
            Ok(quiet)
        });
        told.map_err(|error| format!("{error}, and these do: {:?}", last.take()))?;
        self.site.tell("no alert fires");
        Ok(())
    }

    fn tally(&self) -> Told<Tally> {
        calling().iter().try_fold(Tally::default(), |all, name| Ok(all + self.site.calls(&caller(name))?.tally()))
    }

    fn no_call_was_refused(&self) -> Told {
        for name in calling() {
            let calls = self.site.calls(&caller(&name))?;
            let (tally, ids) = (calls.tally(), calls.ids().len());
            self.site.tell(&format!(
                "{name}: {tally}, with {ids} values in turn, longest pause {} s",
                calls.longest_pause().as_secs()
            ));
            calls.were_not_refused(&account(&name))?;
        }
        Ok(())
    }

    /// The resident memory of the largest process of each component, in KiB.
    fn resident(&self) -> Told<[u64; 2]> {
        let all = self.machine.processes()?;
        let largest = |component: &str| {
            all.iter().filter(|process| process.component == component).map(|process| process.resident).max()
        };
        let both = [largest("operator").unwrap_or_default(), largest("verifier").unwrap_or_default()];
        self.site.tell(&format!("resident memory of operator and verifier: {both:?} KiB"));
        Ok(both)
    }

    fn memory_is_flat(&self, rounds: &[[u64; 2]]) -> Told {
        let (Some(first), Some(last)) = (rounds.first(), rounds.last()) else { return Err("no round was done".into()) };
        match first.iter().zip(last).find(|(first, last)| **last as f64 > **first as f64 * FLAT) {
            Some(_) => Err(format!("memory grew: {rounds:?} KiB of operator and verifier after each round")),
            None => Ok(()),
        }
    }

    /// Fails unless each token was rotated about as often as its schedule says. A fault delays a rotation.
    fn rotations_happened(&self, begin: Timestamp) -> Told {
        let passed = Timestamp::now().duration_since(begin).as_secs();
        let least = passed / (EVERY + MENDED).as_secs() as i64;
        let mut sum = 0;
        for nth in 0..TOKENS {
            let status = status(self.site, &name(nth))?;
            let generation = status["lastGeneration"].as_i64().unwrap_or_default();
            if generation < least {
                return Err(format!("{} has generation {generation} after {passed} s: {status}", name(nth)));
            }
            if time(&status["rotatesAt"])? + MENDED < Timestamp::now() {
                return Err(format!("a rotation of {} is overdue: {status}", name(nth)));
            }
            sum += generation - 1;
        }
        self.site.tell(&format!("{sum} rotations in {passed} s"));
        Ok(())
    }

    /// Fails if a log or an object that is no Secret holds a value.
    fn nothing_leaked(&self) -> Told {
        let (mut texts, site) = (Vec::new(), self.site);
        for component in ["operator", "verifier"] {
            let selector = format!("--selector=app.kubernetes.io/component={component}");
            texts.push(site.kubectl(&["logs", &selector, "--namespace", SYSTEM, "--tail=-1"])?);
        }
        let kinds = "apitokens,instances,serviceaccounts.tokenry.dev,events,configmaps,leases";
        texts.push(site.kubectl(&["get", kinds, "--all-namespaces", "--output=json"])?);
        let leaked = |value: &&String| texts.iter().any(|text| text.contains(&***value));
        match self.values.iter().filter(leaked).count() {
            0 => {
                let bytes: usize = texts.iter().map(String::len).sum();
                site.tell(&format!("none of {} values is in {bytes} bytes of logs and objects", self.values.len()));
                Ok(())
            }
            count => Err(format!("{count} values are in logs or objects")),
        }
    }
}

/// How long the faults go on: an hour, or `HOUR_MINUTES`.
fn minutes() -> Told<Duration> {
    let minutes = env::var("HOUR_MINUTES").unwrap_or_else(|_| "60".into());
    let minutes: u64 = minutes.parse().map_err(|error| format!("HOUR_MINUTES is {minutes}: {error}"))?;
    Ok(Duration::from_secs(60 * minutes))
}

fn name(nth: usize) -> String {
    format!("hour-{nth:03}")
}

fn calling() -> [String; CALLING.len()] {
    CALLING.map(name)
}

fn token(nth: usize) -> Value {
    let rotation = json!({
        "schedule": {"every": format!("{}s", EVERY.as_secs())}, "overlap": format!("{}s", OVERLAP.as_secs()),
    });
    let (key, label) = LABEL.split_once('=').unwrap_or_default();
    json!({
        "apiVersion": "tokenry.dev/v1alpha1",
        "kind": "ApiToken",
        "metadata": {"name": name(nth), "labels": {key: label}},
        "spec": {"instanceRef": {"name": "shop"}, "expiry": {"after": "2h"}, "rotation": rotation},
    })
}

fn decoded(base64: &str) -> Told<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}
