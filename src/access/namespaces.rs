//! The namespaces in which the tokens of an Instance may live.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use crate::crd::{Instance, instance::NamespacesFrom};

/// A namespace, in the form that access judges.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels. `None`: not known.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// The namespaces in which the tokens of an Instance may live, in a form for quick tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Homes {
    /// Only the Instance's own namespace.
    Own(Option<String>),
    /// Every namespace.
    All,
    /// Namespaces with matching labels. `None`: the selector cannot be parsed, so no namespace matches.
    Matching(Option<Selector>),
}

impl Homes {
    /// The namespaces for the tokens of `instance`.
    pub fn of(instance: &Instance) -> Self {
        let policy = &instance.spec.tokens.namespaces;
        match policy.from {
            NamespacesFrom::Same => Self::Own(instance.metadata.namespace.clone()),
            NamespacesFrom::All => Self::All,
            NamespacesFrom::Selector => {
                Self::Matching(policy.selector.clone().and_then(|selector| Selector::try_from(selector).ok()))
            }
        }
    }

    /// True if tokens may live in the namespace with this name. `labels` are its labels, which only a selector needs. A
    /// selector that cannot be parsed admits no namespace. A namespace with unknown labels matches no selector.
    pub fn has<'a>(&self, name: &str, labels: impl FnOnce() -> Option<&'a BTreeMap<String, String>>) -> bool {
        match self {
            Self::Own(own) => own.as_deref() == Some(name),
            Self::All => true,
            Self::Matching(selector) => {
                selector.as_ref().zip(labels()).is_some_and(|(selector, labels)| selector.matches(labels))
            }
        }
    }
}

/// True if `instance` admits tokens that live in `namespace`.
pub fn admits(instance: &Instance, namespace: Namespace<'_>) -> bool {
    Homes::of(instance).has(namespace.name, || namespace.labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn admitted(policy: serde_json::Value, namespace: &str, labels: Option<&[(&str, &str)]>) -> bool {
        let instance: Instance = serde_json::from_value(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "eem", "namespace": "home"},
            "spec": {"tokens": {"namespaces": policy}},
        }))
        .unwrap();
        let labels = labels.map(|pairs| pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect());
        admits(&instance, Namespace { name: namespace, labels: labels.as_ref() })
    }

    #[test]
    fn same_admits_the_instances_own_namespace_only() {
        assert!(admitted(json!({}), "home", None));
        assert!(!admitted(json!({"from": "Same"}), "other", None));
    }

    #[test]
    fn all_admits_every_namespace() {
        assert!(admitted(json!({"from": "All"}), "other", None));
    }

    #[test]
    fn a_selector_admits_by_label_and_nothing_that_is_not_known() {
        let policy = json!({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}});
        assert!(admitted(policy.clone(), "other", Some(&[("team", "a")])));
        assert!(!admitted(policy.clone(), "other", Some(&[("team", "b")])));
        assert!(!admitted(policy, "other", None));
    }

    #[test]
    fn a_selector_that_cannot_be_read_admits_nothing() {
        let odd = json!({"from": "Selector", "selector": {"matchExpressions": [{"key": "a", "operator": "Odd"}]}});
        assert!(!admitted(odd, "other", Some(&[("a", "b")])));
        assert!(!admitted(json!({"from": "Selector"}), "home", Some(&[])));
    }
}
