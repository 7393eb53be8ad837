//! Checks manifests with the functions of the controllers, without a cluster.
//!
//! The manifests are judged together. A manifest that names another object finds it among them. A check that needs an
//! object of the cluster is no fault here. It is reported as unsettled.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::{
    account,
    book::Ruled,
    depends::{lives, owner},
    instance, policy,
    token::{self, Observed},
};
use crate::{
    access::Policy,
    crd::{
        AccessPolicy, Account, ApiToken, Fault, Instance, InstanceRef, Reason,
        access_policy::{Effect, Statement},
        instance::NamespacesFrom,
        subject::{SubjectKind, Who},
    },
};

/// A manifest of a kind of Tokenry.
#[derive(Clone, Debug)]
pub enum Manifest {
    /// An Instance.
    Instance(Arc<Instance>),
    /// An account.
    Account(Arc<Account>),
    /// A token.
    Token(Arc<ApiToken>),
    /// A policy.
    Policy(Arc<AccessPolicy>),
}

/// The result of the checks of one manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// The faults.
    pub faults: Vec<Fault>,
    /// The checks that only a cluster can settle.
    pub unsettled: Vec<Fault>,
}

/// Manifests that are judged together: those of one cluster.
#[derive(Debug, Default)]
pub struct Manifests {
    instances: Vec<Ruled>,
    accounts: Vec<Arc<Account>>,
    tokens: Vec<Arc<ApiToken>>,
    policies: Vec<Arc<AccessPolicy>>,
    /// Objects whose manifests cannot be read, such as `Instance events/eem`.
    unread: BTreeSet<String>,
    /// The labels of namespaces.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Manifests {
    /// Adds a manifest, so that others can refer to it.
    pub fn add(&mut self, manifest: &Manifest) {
        match manifest {
            Manifest::Instance(instance) => self.instances.push(Ruled::new(with_uid(instance))),
            Manifest::Account(account) => self.accounts.push(with_uid(account)),
            Manifest::Token(token) => self.tokens.push(with_uid(token)),
            Manifest::Policy(policy) => self.policies.push(with_uid(policy)),
        }
    }

    /// Adds an object whose manifest cannot be read because of its faults, such as `Instance events/eem`.
    pub fn add_unread(&mut self, named: String) {
        self.unread.insert(named);
    }

    /// Adds a namespace with its labels.
    pub fn add_namespace(&mut self, name: String, labels: BTreeMap<String, String>) {
        self.namespaces.insert(name, labels);
    }

    /// Checks a manifest as of `now`.
    pub fn examine(&self, manifest: &Manifest, now: Timestamp) -> Examined {
        match manifest {
            Manifest::Instance(instance) => self.of_instance(Ruled::new(with_uid(instance)), now),
            Manifest::Account(account) => self.of_account(with_uid(account), now),
            Manifest::Token(token) => self.of_token(with_uid(token), now),
            Manifest::Policy(policy) => self.of_policy(with_uid(policy), now),
        }
    }

    fn of_instance(&self, instance: Ruled, now: Timestamp) -> Examined {
        let mut earlier = self.instances.iter().take_while(|other| other.uid() != instance.uid());
        let rival = earlier.find(|other| other.hosts().any(|host| instance.hosts().any(|own| own == host)));
        let holder = rival.map(|rival| format!("{}/{}", rival.namespace().unwrap_or_default(), rival.name_any()));
        let names_way = instance.endpoints().any(|endpoint| endpoint.way_in().is_some());
        let sort = |fault: &Fault| match fault.reason == Reason::ProxiesUnknown {
            true => Some("exposure.proxies of the chart's values may give the Pods of the proxies".into()),
            false if !names_way && fault.path.ends_with(".gateway") => {
                Some("the cluster gives the way in, as the endpoint names none".into())
            }
            false => None,
        };
        sorted(instance::faults_of_manifest(instance, holder, now), sort)
    }

    fn of_account(&self, account: Arc<Account>, now: Timestamp) -> Examined {
        let home = account.namespace().unwrap_or_default();
        let (namespace, name) = full(&account.spec.instance_ref, &home);
        let found = self.referred(namespace, name);
        let policies = self.policies_of(namespace, name).map(|policy| policy.name_any()).collect();
        let unread = found.instance.unread_faults(account.spec.organizations.as_ref(), &account.spec.projects);
        let mut faults = account::faults_of_manifest(account, found.instance.clone(), policies, now);
        faults.extend(unread);
        found.sorted(faults, |_| None)
    }

    fn of_policy(&self, policy: Arc<AccessPolicy>, now: Timestamp) -> Examined {
        let home = policy.namespace().unwrap_or_default();
        let found = self.referred(&home, policy.spec.instance_ref.name.as_str());
        let unread = unread_statements(&policy, &found.instance);
        let mut faults = policy::faults_of_manifest(policy, found.instance.clone(), now);
        faults.extend(unread);
        found.sorted(faults, |_| None)
    }

    fn of_token(&self, token: Arc<ApiToken>, now: Timestamp) -> Examined {
        let home = token.namespace().unwrap_or_default();
        let own = full(&token.spec.instance_ref, &home);
        let found = self.referred(own.0, own.1);
        let parsed = |(namespace, name): (&str, &str)| -> Vec<Arc<Policy>> {
            self.policies_of(namespace, name).map(|policy| Arc::new(Policy::of(policy))).collect()
        };
        let account = self.account(&home, token.account_name().0);
        let read = Observed {
            instance: Some(found.instance.clone()),
            labels: self.namespaces.get(&home).cloned(),
            audiences: token.spec.audiences.iter().map(|wanted| self.instance(full(wanted, &home)).cloned()).collect(),
            audience_policies: token.spec.audiences.iter().map(|wanted| parsed(full(wanted, &home))).collect(),
            policies: parsed(own),
            account: account.cloned(),
            ..Observed::alone(token.clone(), now)
        };
        let read = Observed { owning: token::owning(&read, |home, name| self.account(home, name).cloned()), ..read };
        let read = Observed { surplus: self.surplus(&read), ..read };
        let instance = found.instance.clone();
        let opened = read.instance.iter().chain(read.audiences.iter().flatten());
        let (organizations, projects) = (token.spec.organizations.as_ref(), &token.spec.projects);
        let unread: Vec<_> = opened.flat_map(|opened| opened.unread_faults(organizations, projects)).collect();
        let mut faults = token::faults_of_manifest(read);
        faults.extend(unread);
        found.sorted(faults, |fault| self.unsettled(fault, &instance, &home))
    }

    /// The text about a fault of a token that only a cluster can settle.
    fn unsettled(&self, fault: &Fault, instance: &Instance, home: &str) -> Option<String> {
        let selects = instance.spec.tokens.namespaces.from == NamespacesFrom::Selector;
        let is_group = |member: &str| Who::of(member).is_some_and(|who| who.kind == SubjectKind::Group);
        let by_group = instance.spec.members.iter().any(|member| is_group(member.subject.as_str()));
        let is_former = fault.message.contains("formerOwners");
        if fault.reason == Reason::AccountMissing {
            Some("no readable manifest has the account, so it is not checked".into())
        } else if fault.reason == Reason::NamespaceNotAdmitted && selects && !self.namespaces.contains_key(home) {
            Some(format!("no manifest has Namespace {home}, so its labels are not checked"))
        } else if fault.reason == Reason::OwnerMissing {
            Some("the user that applies the token becomes its owner, if the API server stamps it".into())
        } else if fault.reason == Reason::OwnerRemoved && by_group && !is_former {
            Some("the owner has to be in a group of spec.members of the Instance".into())
        } else {
            None
        }
    }

    /// The first Instance of a token whose `tokens.maxPerOwner` is reached by tokens before it.
    fn surplus(&self, read: &Observed) -> Option<Ruled> {
        let owned_by = read.owner()?.as_str();
        let earlier = || self.tokens.iter().take_while(|other| other.uid() != read.token.uid());
        let counts = |other: &&Arc<ApiToken>, instance: &Instance| {
            owner(other) == Some(owned_by) && lives(other) && other.opens(instance)
        };
        let is_full = |instance: &&Ruled| {
            let most = instance.spec.tokens.max_per_owner.and_then(|most| usize::try_from(most).ok());
            most.is_some_and(|most| earlier().filter(|other| counts(other, instance)).count() >= most)
        };
        read.instance.iter().chain(read.audiences.iter().flatten()).find(is_full).cloned()
    }

    fn instance(&self, (namespace, name): (&str, &str)) -> Option<&Ruled> {
        self.instances.iter().find(|instance| is_at(&***instance, namespace, name))
    }

    fn account(&self, home: &str, name: &str) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| is_at(&***account, home, name))
    }

    /// The policies of an Instance, sorted by name.
    fn policies_of(&self, namespace: &str, name: &str) -> impl Iterator<Item = &Arc<AccessPolicy>> + use<'_> {
        let is_of = |policy: &&Arc<AccessPolicy>| {
            policy.metadata.namespace.as_deref() == Some(namespace) && policy.spec.instance_ref.name.as_str() == name
        };
        let mut policies: Vec<_> = self.policies.iter().filter(is_of).collect();
        policies.sort_by_key(|policy| policy.name_any());
        policies.into_iter()
    }

    /// The Instance that an object refers to. If no manifest has it, another one takes its place, which allows
    /// everything that an Instance can allow. So all faults are still found that do not depend on the Instance.
    fn referred(&self, namespace: &str, name: &str) -> Referred {
        if let Some(instance) = self.instance((namespace, name)).cloned() {
            return Referred { instance, absence: None };
        }
        let named = format!("Instance {namespace}/{name}");
        let absence = match self.unread.contains(&named) {
            true => format!("{named} cannot be read until its faults are corrected"),
            false => format!("no manifest has {named}"),
        };
        Referred { instance: lenient(namespace, name), absence: Some(absence) }
    }
}

/// The namespace and the name in a reference of an object in the namespace `home`.
fn full<'a>(wanted: &'a InstanceRef, home: &'a str) -> (&'a str, &'a str) {
    (wanted.namespace_or(home), wanted.name.as_str())
}

/// The Instance that an object refers to.
struct Referred {
    instance: Ruled,
    /// The cause for which no manifest gives it. `None`: one does.
    absence: Option<String>,
}

impl Referred {
    /// The result of the checks of the object. `unsettled` gives the text about a fault that only a cluster can settle.
    fn sorted(&self, faults: Vec<Fault>, unsettled: impl Fn(&Fault) -> Option<String>) -> Examined {
        let of = |fault: &Fault| {
            if fault.reason == Reason::InstanceMissing {
                Some("no readable manifest has the Instance, so its limits are not checked".to_owned())
            } else if fault.reason == Reason::PolicyMissing {
                Some("no readable manifest has the policy".to_owned())
            } else {
                unsettled(fault)
            }
        };
        let mut examined = sorted(faults, of);
        if let Some(absence) = &self.absence {
            let message = format!("{absence}, so its limits, roles and policies are not checked");
            examined.faults.retain(|fault| fault.reason != Reason::RoleMissing);
            examined.unsettled.retain(|fault| fault.reason != Reason::PolicyMissing);
            examined.unsettled.insert(0, Fault::new(Reason::InstanceMissing, "spec.instanceRef", message));
        }
        examined
    }
}

/// The faults of statements with projects, where the Instance reads none from requests.
fn unread_statements(policy: &AccessPolicy, instance: &Ruled) -> Vec<Fault> {
    let statements = policy.spec.statements.iter().enumerate();
    let fault = |(index, statement): (usize, &Statement)| {
        let then = match statement.effect {
            Effect::Allow => "the statement permits nothing",
            Effect::Deny => "the statement counts in each request",
        };
        instance.unread_projects(&format!("spec.statements[{index}].projects"), &statement.projects, then)
    };
    statements.filter_map(fault).collect()
}

/// Separates the faults from those that only a cluster can settle.
fn sorted(faults: Vec<Fault>, unsettled: impl Fn(&Fault) -> Option<String>) -> Examined {
    let mut examined = Examined::default();
    for fault in faults {
        match unsettled(&fault) {
            Some(message) => examined.unsettled.push(Fault { message, ..fault }),
            None => examined.faults.push(fault),
        }
    }
    examined
}

/// An Instance that allows everything that an Instance can allow. It has the default roles, so a missing role is no
/// fault.
fn lenient(namespace: &str, name: &str) -> Ruled {
    const LONGEST: &str = "99999d";
    let spec = json!({
        "organizations": ["*"],
        "api": {"organizationFrom": {"header": "X-Organization"}, "projectFrom": {"header": "X-Project"}},
        "tokens": {
            "lifetime": {"default": LONGEST, "max": LONGEST, "never": "Allow"}, "namespaces": {"from": "All"},
            "overlap": {"default": "1s", "max": LONGEST}, "rotation": {"min": "1s"},
        },
    });
    let spec = serde_json::from_value(spec).expect("it is the spec of an Instance");
    let mut instance = Instance::new(name, spec);
    instance.metadata.namespace = Some(namespace.to_owned());
    Ruled::new(with_uid(&Arc::new(instance)))
}

/// The object with a uid. Controllers compare uids. Two manifests have the same one if they have the same name.
fn with_uid<K: Resource + Clone>(object: &Arc<K>) -> Arc<K> {
    let mut object = K::clone(object);
    let uid = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    object.meta_mut().uid = Some(uid);
    Arc::new(object)
}

fn is_at(object: &impl Resource, home: &str, name: &str) -> bool {
    object.meta().namespace.as_deref() == Some(home) && object.meta().name.as_deref() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: Value) -> Arc<K> {
        let metadata = json!({"name": name, "namespace": "events"});
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn token(name: &str, more: Value) -> Manifest {
        let mut spec = json!({"instanceRef": {"name": "eem"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Manifest::Token(object("ApiToken", name, spec))
    }

    fn instance(spec: Value) -> Manifest {
        Manifest::Instance(object("Instance", "eem", spec))
    }

    /// The faults of the last manifest beside all of them, each as `reason path`; then those that a cluster settles.
    fn told(all: &[Manifest]) -> [Vec<String>; 2] {
        let mut manifests = Manifests::default();
        all.iter().for_each(|manifest| manifests.add(manifest));
        let examined = manifests.examine(all.last().unwrap(), Timestamp::from_second(1_800_000_000).unwrap());
        [examined.faults, examined.unsettled]
            .map(|all| all.iter().map(|fault| format!("{} {}", fault.reason, fault.path)).collect())
    }

    const ALONE: &str = "InstanceMissing spec.instanceRef";

    #[test]
    fn a_token_without_its_instance_has_the_faults_of_its_own() {
        let well = json!({
            "expiry": {"after": "5000d"}, "rotation": {"overlap": "1000d", "schedule": {"cron": "* * * * *"}},
            "role": "any", "organizations": {"listed": ["a"]}, "policies": ["p"], "audiences": [{"name": "other"}],
        });
        assert_eq!(
            told(&[token("ci", well)]),
            [vec![], vec![ALONE.into(), "InstanceMissing spec.audiences[0]".to_owned()]]
        );
        let schedule = json!({"schedule": {"cron": "0 3 * *"}, "windows": [{"cron": "x", "duration": "1h"}]});
        let wrong = json!({"rotation": schedule, "secret": {"data": {"a": "{{ nothing }}"}}});
        let [faults, unsettled] = told(&[token("ci", wrong)]);
        let paths = ["secret.data[a]", "rotation.schedule.cron", "rotation.windows[0].cron"];
        for path in paths {
            assert!(faults.contains(&format!("Invalid spec.{path}")), "{path}: {faults:?}");
        }
        assert_eq!((faults.len(), unsettled), (paths.len(), vec![ALONE.to_owned()]));
    }

    #[test]
    fn a_token_is_judged_by_the_instance_among_the_manifests() {
        let strict =
            instance(json!({"tokens": {"lifetime": {"max": "1d"}, "requireDescription": true, "maxPerOwner": 1}}));
        let of = |more: Value| told(&[strict.clone(), token("first", json!({"owner": "user:a"})), token("ci", more)]);
        let [faults, unsettled] = of(json!({"expiry": {"after": "2d"}, "role": "root", "owner": "user:a"}));
        let wanted = [
            "RoleMissing spec.role",
            "TooManyTokens spec.owner",
            "DescriptionMissing spec.description",
            "LifetimeExceeded spec.expiry.after",
        ];
        assert_eq!((faults, unsettled), (wanted.map(String::from).into(), vec![]));
        assert_eq!(
            of(json!({"description": "d", "owner": "user:b", "expiry": {"after": "1d"}})),
            [vec![], Vec::<String>::new()]
        );
    }

    #[test]
    fn what_only_a_cluster_knows_is_no_fault() {
        let unsettled = |spec: Value, more: Value| {
            let [faults, unsettled] = told(&[instance(spec), token("ci", more)]);
            assert_eq!(faults, [""; 0]);
            unsettled
        };
        let named = json!({"serviceAccountRef": {"name": "bot"}, "policies": ["p"]});
        assert_eq!(
            unsettled(json!({}), named),
            ["AccountMissing spec.serviceAccountRef", "PolicyMissing spec.policies[0]"]
        );
        let selected = json!({"tokens": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}});
        assert_eq!(unsettled(selected, json!({})), ["NamespaceNotAdmitted spec.instanceRef"]);
        let group = json!({"ceiling": "Members", "members": [{"subject": "group:ops", "role": "admin"}]});
        assert_eq!(unsettled(group.clone(), json!({})), ["OwnerMissing spec.owner"]);
        assert_eq!(unsettled(group, json!({"owner": "user:a"})), ["OwnerRemoved spec.owner"]);
    }

    #[test]
    fn what_the_manifests_know_is_a_fault() {
        let faults = |all: &[Manifest]| {
            let [faults, unsettled] = told(all);
            assert_eq!(unsettled, [""; 0]);
            faults
        };
        let members = json!([{"subject": "user:a", "role": "admin"}]);
        let members = json!({"ceiling": "Members", "members": members, "formerOwners": ["user:b"]});
        assert_eq!(
            faults(&[instance(members.clone()), token("ci", json!({"owner": "user:c"}))]),
            ["OwnerRemoved spec.owner"]
        );
        let account = |spec: Value| Manifest::Account(object("ServiceAccount", "ci", spec));
        let own = account(json!({"instanceRef": {"name": "eem"}}));
        let foreign = faults(&[instance(json!({})), own, token("ci", json!({}))]);
        assert_eq!(foreign, ["AccountForeign spec.serviceAccountRef"]);
        let other = account(json!({"instanceRef": {"name": "other"}}));
        let named = json!({"serviceAccountRef": {"name": "ci"}});
        assert_eq!(
            faults(&[instance(json!({})), other, token("t", named)]),
            ["AccountMismatch spec.serviceAccountRef"]
        );
        let wrong = account(json!({"instanceRef": {"name": "eem"}, "role": "root", "owner": "user:b"}));
        assert_eq!(faults(&[instance(members), wrong]), ["RoleMissing spec.role", "OwnerRemoved spec.owner"]);
        let statements = json!([{"effect": "Allow", "role": "root"}]);
        let policy = Manifest::Policy(object(
            "AccessPolicy",
            "p",
            json!({"instanceRef": {"name": "eem"}, "statements": statements}),
        ));
        assert_eq!(faults(&[instance(json!({})), policy.clone()]), ["RoleMissing spec.statements[0].role"]);
        assert_eq!(told(&[policy]), [vec![], vec![ALONE.to_owned()]]);
    }

    #[test]
    fn what_lists_projects_that_the_instance_does_not_read_is_a_fault() {
        let faults =
            |api: Value, manifest: &Manifest| told(&[instance(json!({ "api": api })), manifest.clone()])[0].clone();
        let both = json!({"organizations": {"listed": ["eem"]}, "projects": ["a"]});
        let paths = ["Invalid spec.organizations.listed", "Invalid spec.projects"];
        let account = json!({"instanceRef": {"name": "eem"}, "organizations": {"listed": ["eem"]}, "projects": ["a"]});
        let statement = |effect: &str| json!({"effect": effect, "actions": ["*"], "projects": ["a"]});
        let policy = json!({"instanceRef": {"name": "eem"}, "statements": [statement("Allow"), statement("Deny")]});
        let at = |index: u8| format!("Invalid spec.statements[{index}].projects");
        for (manifest, unread) in [
            (token("ci", both), paths.map(str::to_owned)),
            (Manifest::Account(object("ServiceAccount", "bot", account)), paths.map(str::to_owned)),
            (Manifest::Policy(object("AccessPolicy", "p", policy)), [at(0), at(1)]),
        ] {
            assert_eq!(faults(json!({}), &manifest), unread);
            let read = json!({"organizationFrom": {"header": "X-Org"}, "projectFrom": {"header": "X-Project"}});
            assert_eq!(faults(read, &manifest), [""; 0]);
            assert_eq!(told(&[manifest])[0], [""; 0], "an unknown Instance may read them");
        }
    }

    #[test]
    fn a_namespace_among_the_manifests_has_its_labels() {
        let selector = json!({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}});
        let all = [instance(json!({"tokens": {"namespaces": selector}})), token("ci", json!({}))];
        for (team, faults) in [("a", 0), ("b", 1)] {
            let mut manifests = Manifests::default();
            all.iter().for_each(|manifest| manifests.add(manifest));
            manifests.add_namespace("events".into(), [("team".to_owned(), team.to_owned())].into());
            let examined = manifests.examine(&all[1], Timestamp::UNIX_EPOCH);
            assert_eq!((examined.faults.len(), examined.unsettled.len()), (faults, 0), "{examined:?}");
        }
    }

    #[test]
    fn an_instance_is_judged_with_its_endpoint() {
        let exposed = |endpoint: Value| {
            let mut given = json!({"name": "admin", "host": "a.example.com", "guard": "Traefik"});
            given.as_object_mut().unwrap().extend(endpoint.as_object().unwrap().clone());
            json!({"manager": {"service": {"name": "eem"}, "endpoints": [given]}})
        };
        assert_eq!(told(&[instance(exposed(json!({"ingress": {}})))]), [vec![], Vec::<String>::new()]);
        assert_eq!(told(&[instance(exposed(json!({"gateway": {}})))]), [vec![], Vec::<String>::new()]);
        let path = "Invalid spec.manager.endpoints[admin]";
        assert_eq!(told(&[instance(exposed(json!({})))]), [vec![], vec![format!("{path}.gateway")]]);
        let wrong = exposed(json!({"ingress": {}, "host": "10.0.0.1", "guard": "ExternalAuth"}));
        assert_eq!(told(&[instance(wrong)])[0], [format!("{path}.guard"), format!("{path}.host")]);
        let other = Manifest::Instance(object("Instance", "other", exposed(json!({"ingress": {}}))));
        let both = told(&[other, instance(exposed(json!({"ingress": {}})))]);
        assert_eq!(both[0], ["HostTaken spec.manager.endpoints[admin].host"]);
        let proxies = json!({"ingress": {}});
        let mut spec = exposed(proxies);
        spec["manager"]["networkPolicy"] = json!({"from": "Proxies"});
        assert_eq!(told(&[instance(spec)])[1], ["ProxiesUnknown spec.manager.networkPolicy.proxies"]);
    }
}
