//! An hour of faults. Two hundred tokens are rotated every two minutes, both Deployments have two replicas, and the
//! parts of the cluster and of Tokenry fail in turn. No call of a workload is refused.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Told, account,
    alerts::Prometheus,
    audit::Audit,
    caddy, caller,
    calls::Tally,
    examples_become_ready,
    figures::{Figures, Step},
    leaks::Leaks,
    machine::{Deed, Machine, Process},
    serve_api,
    site::{SHOP, SYSTEM, Site, says_ready},
    start_caller, time,
};

/// The number of tokens.
const TOKENS: usize = 200;
/// The tokens of which a workload mounts the Secret. They are rotated at different times.
const CALLING: [usize; 4] = [0, 50, 100, 150];
/// The time between two rotations of a token.
const EVERY: Duration = Duration::from_secs(120);
/// How long a superseded value is accepted. It is longer than the longest fault and the kubelet's delay together.
const OVERLAP: Duration = Duration::from_secs(110);
/// The longest fault. It is longer than the leader's lease.
const LONG: Duration = Duration::from_secs(35);
const SHORT: Duration = Duration::from_secs(20);
/// Maximum time from the end of a fault until everything is ready. It is long because the machine may be busy.
const MENDED: Duration = Duration::from_secs(300);
/// A rotation later than this is overdue.
const LATE: Duration = Duration::from_secs(15);
/// The Pods of both Deployments.
const PODS: usize = 4;
/// The label of the tokens.
const LABEL: &str = "example.com/run=hour";
/// Values of the alerts. They fire sooner than by default, so that a wrong one fires within the hour.
const ALERTS: &str = "metrics.prometheusRule.for=1m,metrics.prometheusRule.notReadyFor=2m";
/// Maximum time until no alert fires. An alert reads rates of ten minutes.
const QUIET: Duration = Duration::from_secs(15 * 60);
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
    let told = lived(&site, &machine);
    if told.is_err() {
        println!("{}", site.state());
    }
    let removed = site.remove();
    told.and(removed).unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// Installs the release, lives through the hour, and prints its figures.
fn lived(site: &Site, machine: &Machine) -> Told {
    let audited = site.audit_end();
    site.make_namespaces()?;
    site.install_traefik_definitions()?;
    install(site, 0)?;
    let prometheus = Prometheus::start(site, machine, ALERTS)?;
    let (leaks, figures, audit) = (Leaks::default(), Figures::default(), Audit::default());
    let mut hour = Hour { site, machine, prometheus, leaks, figures, audit, audited, searched: Timestamp::now() };
    let told = hour.story();
    println!("{}{}", hour.figures, hour.audit);
    told
}

/// Installs the release, or upgrades it. Another round replaces every Pod.
fn install(site: &Site, round: usize) -> Told {
    let note = |component| format!("{component}.podAnnotations.example\\.com/note=round-{round}");
    site.install(&["highAvailability.enabled=true", &note("operator"), &note("verifier")])
}

struct Hour<'a> {
    site: &'a Site,
    machine: &'a Machine,
    prometheus: Prometheus<'a>,
    leaks: Leaks,
    /// Logs are searched up to here.
    searched: Timestamp,
    figures: Figures,
    audit: Audit,
    /// The audit log is read up to here.
    audited: u64,
}

impl Hour<'_> {
    fn story(&mut self) -> Told {
        let site = self.site;
        examples_become_ready(site)?;
        serve_api(site)?;
        let tokens: Vec<_> = (0..TOKENS).map(token).collect();
        site.apply(SHOP, &json!({"apiVersion": "v1", "kind": "List", "items": tokens}).to_string())?;
        self.becomes("ready", Self::is_ready)?;
        site.tell(&format!("{TOKENS} tokens are ready"));
        for name in calling() {
            start_caller(site, &name, "shop-proxy:8080", caddy::SITE)?;
        }
        let begin = Timestamp::now();
        self.everything_holds(begin)?;
        self.faults(begin + minutes()?)?;
        site.tell(&format!("the faults went on for {} s", Timestamp::now().duration_since(begin).as_secs()));
        self.everything_holds(begin)?;
        self.figures.memory_is_flat()
    }

    /// Does all checks. Fails with the message of each that failed.
    fn everything_holds(&mut self, begin: Timestamp) -> Told {
        let checks = [
            self.alerts_end(),
            self.look(),
            self.rotations_happened(begin),
            self.no_call_was_refused(),
            self.nothing_leaked(),
            self.audit.nothing_stayed_forbidden(),
        ];
        let failed: Vec<_> = checks.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
    }

    /// Lets each part fail in turn, once at least.
    fn faults(&mut self, end: Timestamp) -> Told {
        for round in 1.. {
            for fault in FAULTS {
                if round > 1 && Timestamp::now() > end {
                    return Ok(());
                }
                self.suffer(round, fault)?;
            }
        }
        Ok(())
    }

    fn suffer(&mut self, round: usize, fault: Fault) -> Told {
        self.look()?;
        let before = self.again("calls are read", || self.tally())?;
        self.site.tell(&format!("round {round}: {fault:?}"));
        let begin = Instant::now();
        self.fail(fault, round)?;
        let lasted = begin.elapsed();
        let ready = self.becomes("ready", Self::is_ready)?;
        let followed = self.becomes("followed", Self::is_followed)?;
        self.again("Prometheus follows", || self.prometheus.follow(self.site))?;
        let calls = self.again("calls are read", || self.tally())?.since(before);
        let firing = self.prometheus.firing()?;
        let step = Step { round, fault: format!("{fault:?}"), lasted, ready, followed, calls, firing };
        self.site.tell(&step.to_string());
        self.figures.add(step);
        if calls.refused > 0 { self.no_call_was_refused() } else { Ok(()) }
    }

    fn fail(&self, fault: Fault, round: usize) -> Told {
        match fault {
            Fault::Daemon(name, deed) => self.machine.daemon(name, deed),
            Fault::Leader(deed) => {
                let leader = self.again("an operator leads", || self.leader())?;
                self.machine.process(&leader, deed)
            }
            Fault::Verifier(deed) => {
                let is = |process: &Process| process.component == "verifier";
                let verifier = self.again("a verifier runs", || self.process(is))?;
                self.machine.process(&verifier, deed)
            }
            Fault::Replaced(component) => self.site.replace_pods(component),
            Fault::LeaseDeleted => self.site.kubectl(&["delete", "leases", "--all", "--namespace", SYSTEM]).map(drop),
            Fault::Upgrade => install(self.site, round),
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

    /// Waits for a state after a fault. Returns the time that it took.
    fn becomes(&self, state: &str, is: impl Fn(&Self) -> Told) -> Told<Duration> {
        let begin = Instant::now();
        self.again(&format!("everything is {state}"), || is(self))?;
        Ok(begin.elapsed())
    }

    /// Asks until there is an answer. A part that just came back may fail again for a moment.
    fn again<T>(&self, what: &str, ask: impl Fn() -> Told<T>) -> Told<T> {
        let missing = RefCell::new(String::new());
        let found = self.site.within(MENDED, what, || match ask() {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                missing.replace(error);
                Ok(None)
            }
        });
        found.map_err(|error| format!("{error}: {}", missing.take()))
    }

    /// Fails unless each Pod of both Deployments is ready, and says so itself, one operator leads, and each token is
    /// ready and rotated.
    fn is_ready(&self) -> Told {
        let pods = self.site.pods("operator,verifier")?;
        if pods.len() != PODS {
            return Err(format!("there are {} Pods", pods.len()));
        }
        let mut leaders = 0;
        for pod in &pods {
            if !says_ready(pod) {
                return Err(format!("Pod {} is not Ready", pod["metadata"]["name"]));
            }
            self.ask(pod, "readyz")?;
            leaders += self.ask(pod, "metrics")?.lines().filter(|line| is_of_leader(line)).count();
        }
        if leaders != 1 {
            return Err(format!("{leaders} operators lead"));
        }
        let tokens = self.tokens()?;
        if tokens.len() != TOKENS {
            return Err(format!("there are {} tokens", tokens.len()));
        }
        for token in tokens {
            if !says_ready(&token) || time(&token["status"]["rotatesAt"])? + LATE < Timestamp::now() {
                return Err(format!("{} is not ready, or its rotation is overdue", token["metadata"]["name"]));
            }
        }
        Ok(())
    }

    /// The answer of a Pod on the port of probes and metrics.
    fn ask(&self, pod: &Value, path: &str) -> Told<String> {
        let address = format!("http://{}:8081/{path}", pod["status"]["podIP"].as_str().unwrap_or_default());
        let told = |error| format!("{path} of {}: {error}", pod["metadata"]["name"]);
        self.machine.in_node(&["curl", "-fsS", "--max-time", "5", &address]).map_err(told)
    }

    /// Fails unless the last call of each workload was accepted with the newest value.
    fn is_followed(&self) -> Told {
        let tokens = self.tokens()?;
        for token in CALLING.map(|nth| &tokens[nth]) {
            let name = token["metadata"]["name"].as_str().unwrap_or_default();
            let calls = self.site.last_calls(&caller(name), 1)?;
            let records = token["status"]["records"].as_array().into_iter().flatten();
            let newest = records.filter(|record| record["state"] == "Active").find_map(|record| record["id"].as_str());
            if calls.ids().last().map(|(id, _)| *id) != newest {
                return Err(format!("the last call of {name} is {:?}, and its newest value {newest:?}", calls.last()));
            }
        }
        Ok(())
    }

    /// All tokens, in the order of their names.
    fn tokens(&self) -> Told<Vec<Value>> {
        let mut tokens = self.site.get(&["apitokens", "--namespace", SHOP, "--selector", LABEL])?;
        match tokens["items"].take() {
            Value::Array(tokens) => Ok(tokens),
            other => Err(format!("no list of tokens: {other}")),
        }
    }

    /// The logs of operators and verifiers, with their Pods.
    fn logs(&self, from: &str) -> Told<Vec<(String, String)>> {
        let log = |pod: &Value| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            Ok((name.to_owned(), self.site.kubectl(&["logs", name, "--namespace", SYSTEM, from])?))
        };
        self.site.pods("operator,verifier")?.iter().map(log).collect()
    }

    /// Looks for leaked values, at new requests, and at the memory of each process.
    fn look(&mut self) -> Told {
        let from = format!("--since-time={}", self.searched);
        self.searched = Timestamp::now();
        let secrets = self.again("Secrets are listed", || self.site.get(&["secrets", "--namespace", SHOP]))?;
        self.leaks.learn(&secrets)?;
        for (name, log) in self.again("logs are read", || self.logs(&from))? {
            self.leaks.search(&format!("the log of {name}"), &log);
        }
        self.audit.count(&self.site.audited(&mut self.audited)?);
        self.figures.look(&self.machine.processes()?);
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
        let fired = self.prometheus.fired()?;
        self.site.tell(&format!("no alert fires; these have fired, for so many seconds: {fired:?}"));
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

    /// Fails unless each token was rotated about as often as its schedule says. A fault delays a rotation.
    fn rotations_happened(&self, begin: Timestamp) -> Told {
        let passed = Timestamp::now().duration_since(begin).as_secs();
        let least = passed / (EVERY * 2).as_secs() as i64;
        let mut sum = 0;
        for token in self.again("tokens are listed", || self.tokens())? {
            let status = &token["status"];
            let generation = status["lastGeneration"].as_i64().unwrap_or_default();
            if generation < least {
                return Err(format!("{} has generation {generation} after {passed} s", token["metadata"]["name"]));
            }
            sum += generation - 1;
        }
        self.site.tell(&format!("{sum} rotations in {passed} s"));
        Ok(())
    }

    /// Fails if a log, a metric, or an object that is no Secret holds a value.
    fn nothing_leaked(&mut self) -> Told {
        let kinds = "apitokens,instances,serviceaccounts.tokenry.dev,events,configmaps,leases";
        let objects = self.site.kubectl(&["get", kinds, "--all-namespaces", "--output=json"])?;
        self.leaks.search("an object", &objects);
        for pod in self.site.pods("operator,verifier")? {
            self.leaks.search("a metric", &self.ask(&pod, "metrics")?);
        }
        self.site.tell(&self.leaks.none()?);
        Ok(())
    }
}

/// True for the line of a metric that says that this operator leads.
fn is_of_leader(line: &str) -> bool {
    line.starts_with("leader_election_master_status{") && line.ends_with(" 1")
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
