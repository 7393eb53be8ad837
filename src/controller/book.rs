//! A cache of values that are computed from Instances and policies. Every pass over a token needs them, and these
//! objects can be large. So each value is computed once for each version of the object.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard},
};

use super::kind::Checked;
use crate::{
    access::{Policy, Reach, Rules, Unnamed},
    crd::{
        AccessPolicy, Fault, Instance, Reason,
        permission::{Scope, ScopeName},
    },
    outside::{Cache, watch::Object},
};

/// The largest number of entries, all lists together, that an Instance may have before it counts as large.
const LARGE: usize = 2000;

/// The effect of organizations or projects of a token that its Instance does not read from requests.
const REFUSED: &str = "each request is refused";

/// An Instance and its rules.
#[derive(Clone, Debug)]
pub struct Ruled {
    instance: Arc<Instance>,
    made: Arc<Made>,
}

/// The values that are computed from an Instance.
#[derive(Debug)]
pub struct Made {
    rules: Checked<Rules>,
    is_large: bool,
}

impl Made {
    fn of(instance: &Instance) -> Self {
        Self { rules: Rules::of(instance), is_large: listed(instance) > LARGE }
    }
}

impl Ruled {
    /// An Instance with its rules, computed anew.
    pub fn new(instance: Arc<Instance>) -> Self {
        let made = Arc::new(Made::of(&instance));
        Self { instance, made }
    }

    /// The Instance's rules; none if they have faults.
    pub fn rules(&self) -> Option<&Rules> {
        self.made.rules.as_ref().ok()
    }

    /// The faults of the Instance's rules.
    pub fn faults(&self) -> &[Fault] {
        self.made.rules.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// The fault of a token or an account that lists organizations which the Instance does not list. The fault names
    /// both fields.
    pub fn organization_fault(&self, scope: Option<&Scope>) -> Option<Fault> {
        let message = format!("{}, or remove it here", self.unlisted(scope)?);
        Some(Fault::new(Reason::OrganizationUnknown, "spec.organizations.listed", message))
    }

    /// The faults of an object that lists organizations or projects, where the Instance reads none from requests. Each
    /// request of its tokens is then refused.
    pub fn unread_faults(&self, organizations: Option<&Scope>, projects: &[ScopeName]) -> Vec<Fault> {
        let reach = Reach::of(organizations);
        let is_unread = self.rules().is_some_and(|rules| rules.unnamed_organization(&reach) == Some(Unnamed::Unread));
        let organizations = is_unread.then(|| self.unread("spec.organizations.listed", "organization", REFUSED));
        organizations.into_iter().chain(self.unread_projects("spec.projects", projects, REFUSED)).collect()
    }

    /// The fault of projects at `path`, where the Instance reads none from requests. `then` is the effect.
    pub fn unread_projects(&self, path: &str, projects: &[ScopeName], then: &str) -> Option<Fault> {
        let cause = self.rules()?.unnamed_project(&Reach::projects(projects))?;
        (cause == Unnamed::Unread).then(|| self.unread(path, "project", then))
    }

    /// The fault of organizations or projects that the Instance does not read from requests.
    fn unread(&self, path: &str, thing: &str, then: &str) -> Fault {
        let message = format!(
            "Instance {} reads no {thing} from requests, so {then}; set spec.api.{thing}From there, or leave the \
             {thing}s out",
            self.full_name()
        );
        Fault::invalid(path.to_owned(), message)
    }

    /// The namespace and the name.
    fn full_name(&self) -> String {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        format!("{}/{}", text(&self.metadata.namespace), text(&self.metadata.name))
    }

    /// The text about the organizations in a scope that the Instance does not list. `None` if it lists all of them.
    pub fn unlisted(&self, scope: Option<&Scope>) -> Option<String> {
        let names = self.rules()?.unlisted(scope);
        let told = || {
            let (of, names) = (self.full_name(), names.join(", "));
            format!("lists {names}, but spec.organizations of Instance {of} does not; add each of them there")
        };
        (!names.is_empty()).then(told)
    }

    /// True if the Instance has so many entries that a pass which uses its rules takes long.
    pub fn is_large(&self) -> bool {
        self.made.is_large
    }
}

impl Deref for Ruled {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

/// The number of entries of an Instance, all lists together.
fn listed(instance: &Instance) -> usize {
    let spec = &instance.spec;
    let api = spec.api.iter();
    let paths = api.flat_map(|api| {
        let actions = api.actions.iter().map(|rule| rule.paths.len());
        let unguarded = api.unguarded.iter().map(|unguarded| unguarded.paths.len());
        actions.chain(api.excluded.iter().map(|excluded| excluded.paths.len())).chain(unguarded)
    });
    let roles = spec.roles.iter().map(|role| role.actions.len());
    let teams = spec.teams.iter().map(|team| team.users.len());
    paths.chain(roles).chain(teams).sum::<usize>() + spec.members.len() + spec.organizations.len()
}

/// The value computed from the newest version of each object of a kind, by uid.
pub struct Book<K, T>(Mutex<HashMap<String, Page<K, T>>>);

/// A computed value, with the object that it was computed from. Neither generation nor resourceVersion can tell two
/// versions apart, because both repeat after a restore from a backup. So the objects themselves are compared.
struct Page<K, T> {
    object: Arc<K>,
    made: Arc<T>,
}

impl<K, T> Default for Book<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Object, T> Book<K, T> {
    /// The value of an object. The stored value is reused if it was computed from this object, or from one that is the
    /// `same`. Otherwise `make` computes a new value. Concurrent callers wait, so each value is computed once.
    fn of(&self, object: &Arc<K>, same: impl Fn(&K, &K) -> bool, make: impl FnOnce(&K) -> T) -> Arc<T> {
        let mut pages = self.lock();
        let uid = object.meta().uid.clone().unwrap_or_default();
        let page = pages.get(&uid).filter(|page| Arc::ptr_eq(&page.object, object) || same(&page.object, object));
        let made = page.map_or_else(|| Arc::new(make(object)), |page| page.made.clone());
        pages.insert(uid, Page { object: object.clone(), made: made.clone() });
        made
    }

    /// Forgets the value of a touched object if `cache` no longer has an object with its uid.
    pub fn tidy(&self, cache: &Cache<K>, touched: &K) {
        let meta = touched.meta();
        let stands = cache.get(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        if stands.is_none_or(|stands| stands.meta().uid != meta.uid) {
            self.forget(touched);
        }
    }

    fn forget(&self, object: &K) {
        self.lock().remove(object.meta().uid.as_deref().unwrap_or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Page<K, T>>> {
        self.0.lock().expect("nobody panics here")
    }
}

impl Book<Instance, Made> {
    /// An Instance with its rules. The rules depend on nothing but the Instance's name and spec.
    pub fn ruled(&self, instance: Arc<Instance>) -> Ruled {
        let same =
            |one: &Instance, other: &Instance| one.spec == other.spec && one.metadata.name == other.metadata.name;
        let made = self.of(&instance, same, Made::of);
        Ruled { instance, made }
    }
}

impl Book<AccessPolicy, Policy> {
    /// A policy in its parsed form.
    pub fn policy(&self, policy: &Arc<AccessPolicy>) -> Arc<Policy> {
        self.of(policy, |_, _| false, Policy::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    impl Ruled {
        /// Changes the Instance and computes its rules again.
        pub fn change(&mut self, change: impl FnOnce(&mut Instance)) {
            let mut instance = (*self.instance).clone();
            change(&mut instance);
            *self = Self::new(Arc::new(instance));
        }
    }

    fn instance(generation: i64, role: &str) -> Arc<Instance> {
        let metadata = json!({"namespace": "a", "name": "eem", "uid": "u", "generation": generation});
        let spec = json!({"roles": [{"name": role}]});
        let object =
            json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": metadata, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn rules_are_made_once_for_each_form_of_an_instance() {
        let book = Book::default();
        let first = book.ruled(instance(1, "reader"));
        assert!(first.rules().unwrap().has_role("reader"));
        assert!(Arc::ptr_eq(&first.made, &book.ruled(instance(1, "reader")).made), "another status changes nothing");
        assert!(book.ruled(instance(2, "writer")).rules().unwrap().has_role("writer"));
        assert!(book.ruled(instance(2, "editor")).rules().unwrap().has_role("editor"), "as after a restore");
        book.forget(&*first);
        assert!(book.lock().is_empty());
    }

    #[test]
    fn a_policy_is_read_once_for_each_form() {
        let policy = |member: &str| -> Arc<AccessPolicy> {
            let metadata = json!({"namespace": "a", "name": "p", "uid": "u", "generation": 1, "resourceVersion": "1"});
            let spec = json!({"instanceRef": {"name": "eem"}, "members": [member], "statements": []});
            let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "AccessPolicy", "metadata": metadata, "spec": spec});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let (book, one) = (Book::default(), policy("user:a"));
        let first = book.policy(&one);
        assert!(Arc::ptr_eq(&first, &book.policy(&one)));
        assert_eq!(book.policy(&policy("user:b")).members().next().unwrap().name, "b", "as after a restore");
    }

    #[test]
    fn an_instance_that_lists_much_is_large() {
        let mut ruled = Ruled::new(instance(1, "reader"));
        assert!(!ruled.is_large());
        let users: Vec<_> = (0..2001).map(|nth| format!("u{nth}")).collect();
        let teams = json!([{"name": "t", "users": users}]);
        ruled.change(|instance| instance.spec.teams = serde_json::from_value(teams).unwrap());
        assert!(ruled.is_large());
    }

    #[test]
    fn an_instance_with_faults_has_no_rules() {
        let mut ruled = Ruled::new(instance(1, "reader"));
        assert!(ruled.faults().is_empty());
        ruled.change(|instance| {
            instance.spec.tokens.minimum_role = Some(serde_json::from_value(json!("none")).unwrap())
        });
        assert!(ruled.rules().is_none() && !ruled.faults().is_empty());
    }
}
