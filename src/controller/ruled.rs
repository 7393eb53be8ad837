//! Instances with their rules. Rules can be large, and every pass of a token needs them: they are made once for each generation.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{
    access::Rules,
    controller::kind::Checked,
    crd::{Fault, Instance},
};

/// An Instance and its rules.
#[derive(Clone, Debug)]
pub struct Ruled {
    instance: Arc<Instance>,
    rules: Arc<Checked<Rules>>,
}

impl Ruled {
    /// An Instance whose rules nobody has made yet.
    pub fn new(instance: Arc<Instance>) -> Self {
        let rules = Arc::new(Rules::of(&instance));
        Self { instance, rules }
    }

    /// Its rules, where they have no faults.
    pub fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref().as_ref().ok()
    }

    /// What is wrong with its rules.
    pub fn faults(&self) -> &[Fault] {
        self.rules.as_ref().as_ref().err().map_or(&[], Vec::as_slice)
    }
}

impl Deref for Ruled {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

/// The rules of each Instance in its newest generation, by uid. Name and spec alone make them.
#[derive(Default)]
pub struct RuleBook(Mutex<HashMap<String, Page>>);

struct Page {
    generation: Option<i64>,
    rules: Arc<Checked<Rules>>,
}

impl RuleBook {
    /// An Instance with its rules.
    pub fn of(&self, instance: Arc<Instance>) -> Ruled {
        let Some(uid) = instance.metadata.uid.as_deref() else { return Ruled::new(instance) };
        let generation = instance.metadata.generation;
        if let Some(page) = self.lock().get(uid).filter(|page| page.generation == generation) {
            return Ruled { instance, rules: page.rules.clone() };
        }
        let ruled = Ruled::new(instance.clone());
        self.lock().insert(uid.to_owned(), Page { generation, rules: ruled.rules.clone() });
        ruled
    }

    /// Forgets an Instance that is gone.
    pub fn forget(&self, instance: &Instance) {
        self.lock().remove(instance.metadata.uid.as_deref().unwrap_or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Page>> {
        self.0.lock().expect("nobody panics here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    impl Ruled {
        /// Changes the Instance, and its rules with it.
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
    fn rules_are_made_once_for_each_generation() {
        let book = RuleBook::default();
        let first = book.of(instance(1, "reader"));
        assert!(first.rules().unwrap().has_role("reader"));
        assert!(Arc::ptr_eq(&first.rules, &book.of(instance(1, "reader")).rules));
        assert!(book.of(instance(2, "writer")).rules().unwrap().has_role("writer"));
        book.forget(&first);
        assert!(book.lock().is_empty());
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
