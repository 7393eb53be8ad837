//! The objects that the chart renders, and the permissions that they grant.

use std::collections::{BTreeMap, BTreeSet};

use controlplane::{NAMESPACE, helm};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use serde::Deserialize;
use serde_json::Value;

use super::evidence::{Right, Rights};

/// The path of the chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tokenry");

pub fn template(args: &[&str]) -> Result<String, String> {
    helm(&[&["template", "tokenry", CHART, "--namespace", NAMESPACE], args].concat())
}

/// The objects that the chart renders with these arguments of helm.
pub fn rendered(args: &[&str]) -> Vec<Value> {
    let text = template(args).unwrap_or_else(|error| panic!("{args:?}: {error}"));
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    objects.into_iter().filter(|object| !object.is_null()).collect()
}

pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// The namespace of an object, if it has one.
fn place(object: &Value) -> Option<String> {
    object["metadata"]["namespace"].as_str().map(str::to_owned)
}

pub fn read<T: for<'a> Deserialize<'a>>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn rights_of(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        for path in rule.non_resource_urls.iter().flatten() {
            let right = |verb: &String| Right { group: String::new(), resource: path.clone(), verb: verb.clone() };
            rights.extend(rule.verbs.iter().map(right));
        }
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let right =
                    |verb: &String| Right { group: group.clone(), resource: resource.clone(), verb: verb.clone() };
                rights.extend(rule.verbs.iter().map(right));
            }
        }
    }
    rights
}

/// The roles in a list of objects, and their bindings to accounts. A binding applies in one namespace or in all. Roles
/// of one name can be in several namespaces, with the same rules.
pub struct Grants {
    rules: BTreeMap<String, BTreeSet<Right>>,
    bound: Vec<(String, String, Option<String>)>,
}

impl Grants {
    pub fn of(objects: &[Value]) -> Self {
        let roles = [of_kind(objects, "ClusterRole"), of_kind(objects, "Role")].concat();
        let mut rules = BTreeMap::new();
        for role in &roles {
            let rights = rights_of(&read::<Vec<_>>(&role["rules"]));
            let known = rules.entry(name(role).to_owned()).or_insert_with(|| rights.clone());
            assert_eq!(*known, rights, "roles of one name differ: {}", name(role));
        }
        for role in rules.keys() {
            let places: Vec<_> = roles.iter().filter(|it| name(it) == role).map(|it| place(it)).collect();
            let all: BTreeSet<_> = places.iter().collect();
            assert!(all.len() == places.len() && (!all.contains(&None) || all.len() == 1), "{role}: {places:?}");
        }
        let mut bound = Vec::new();
        for binding in [of_kind(objects, "ClusterRoleBinding"), of_kind(objects, "RoleBinding")].concat() {
            let role: RoleRef = read(&binding["roleRef"]);
            let namespace = place(binding);
            let serves = |it: &Value| place(it).is_none() || place(it) == namespace;
            let is_bound = |it: &&Value| it["kind"] == *role.kind && name(it) == role.name && serves(it);
            assert!(roles.iter().any(is_bound), "no role of a binding: {}", name(binding));
            assert_eq!(namespace.is_some(), binding["kind"] == "RoleBinding");
            for subject in read::<Vec<Subject>>(&binding["subjects"]) {
                assert_eq!((subject.kind.as_str(), subject.namespace.as_deref()), ("ServiceAccount", Some(NAMESPACE)));
                bound.push((subject.name, role.name.clone(), namespace.clone()));
            }
        }
        Self { rules, bound }
    }

    /// The permissions of an account, by namespace. The key `None` stands for all namespaces.
    pub fn to(&self, account: &str) -> BTreeMap<Option<String>, BTreeSet<Right>> {
        let mut granted: BTreeMap<_, BTreeSet<Right>> = BTreeMap::new();
        for (_, role, place) in self.bound.iter().filter(|(name, ..)| name == account) {
            granted.entry(place.clone()).or_default().extend(self.rules[role].iter().cloned());
        }
        granted
    }

    /// The permissions of each account in any namespace, and the permissions of each role for users.
    pub fn all(&self) -> Rights {
        let accounts = self.bound.iter().map(|(account, ..)| account);
        let to_accounts = accounts.map(|account| (account.clone(), self.to(account).into_values().flatten().collect()));
        let to_users = self.for_users().into_iter().map(|(role, rights)| (role.to_owned(), rights.clone()));
        to_accounts.chain(to_users).collect()
    }

    /// The roles for users. The chart binds these roles to no account.
    pub fn for_users(&self) -> BTreeMap<&str, &BTreeSet<Right>> {
        let unbound = self.rules.iter().filter(|(name, _)| !self.bound.iter().any(|(_, role, _)| role == *name));
        unbound.map(|(name, rights)| (name.as_str(), rights)).collect()
    }
}
