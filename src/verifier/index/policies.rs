//! The entries of policies.

use std::sync::Arc;

use kube::Resource;

use super::{Entries, EntryChange, Index, Indexed, Key, Pools};
use crate::{access::Policy, crd::AccessPolicy};

/// The entry of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyEntry {
    /// The policy could be read, now or earlier.
    Known {
        /// The Instance that the policy applies to.
        instance: Key,
        /// The policy, in a form for quick look-ups.
        policy: Arc<Policy>,
    },
    /// The policy exists, and was never readable. It may deny anything at any Instance of its namespace.
    Unread,
}

impl Indexed for AccessPolicy {
    type Entry = PolicyEntry;

    fn entry(self, _: &Key, pools: &Pools) -> PolicyEntry {
        let namespace = self.meta().namespace.as_deref().unwrap_or_default();
        let instance = pools.key(namespace, self.spec.instance_ref.name.as_str());
        PolicyEntry::Known { instance, policy: Arc::new(Policy::of(&self)) }
    }

    /// A policy may deny, so its last known entry holds.
    fn unread(last: Option<&PolicyEntry>) -> Option<PolicyEntry> {
        Some(last.cloned().unwrap_or(PolicyEntry::Unread))
    }

    fn entries(index: &mut Index) -> &mut Entries<PolicyEntry> {
        &mut index.policies
    }

    fn changed(index: &mut Index, change: &EntryChange<PolicyEntry>) {
        let (Some(key), EntryChange { old, new }) = (change.key(), change) else { return };
        match old.as_ref().map(|held| &held.entry) {
            Some(PolicyEntry::Known { instance, policy }) => {
                let policies = index.policies_of.entry(instance.clone()).or_default();
                policies.remove(policy);
                if policies.is_empty() {
                    index.policies_of.remove(instance);
                }
            }
            Some(PolicyEntry::Unread) => _ = index.unread_policies.remove(key),
            None => {}
        }
        match new.as_ref().map(|held| &held.entry) {
            Some(PolicyEntry::Known { instance, policy }) => {
                index.policies_of.entry(instance.clone()).or_default().add(policy.clone());
            }
            Some(PolicyEntry::Unread) => _ = index.unread_policies.insert(key.clone()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Doubted, Reduced};
    use super::*;
    use crate::outside::watch::Listed;
    use serde_json::json;

    const DENY: &str = r#"{"instanceRef": {"name": "eem"}, "statements": [{"effect": "Deny", "actions": ["*"]}]}"#;

    fn policy(name: &str, version: u64) -> AccessPolicy {
        let metadata = json!({"namespace": "a", "name": name, "resourceVersion": version.to_string()});
        let spec: serde_json::Value = serde_json::from_str(DENY).unwrap();
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "AccessPolicy", "metadata": metadata,
            "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn key() -> Key {
        Key::new("a", "p")
    }

    /// True if the index has the policy, and true if it knows that it does not know one.
    fn known(index: &Index) -> (bool, bool) {
        (index.policies(&Key::new("a", "eem")).is_some(), index.unread_policy("a").is_some())
    }

    fn relist(index: &mut Index, readable: &[u64], doubted: &Doubted, list: Listed) -> bool {
        let pools = index.pools();
        let listed: Vec<Reduced<AccessPolicy>> = readable.iter().map(|at| pools.reduce(policy("p", *at))).collect();
        index.relist(listed, doubted, list)
    }

    #[test]
    fn a_policy_that_cannot_be_read_any_more_holds_as_it_was_known_until_it_is_deleted() {
        let mut index = Index::default();
        index.apply(policy("p", 5));
        assert!(!index.doubt::<AccessPolicy>(key(), 6));
        assert_eq!(known(&index), (true, false));
        let doubted = Doubted::from([(key(), 6)]);
        assert!(!relist(&mut index, &[], &doubted, Listed { version: 9, anew: false }));
        assert!(!relist(&mut index, &[], &Doubted::from([(key(), 2)]), Listed { version: 3, anew: true }));
        assert_eq!(known(&index), (true, false));
        assert!(index.forget::<AccessPolicy>(key(), 4), "its version is that of the new history");
        assert_eq!(known(&index), (false, false));
    }

    #[test]
    fn a_policy_that_was_never_readable_is_known_as_such_until_it_is_readable_or_deleted() {
        let mut index = Index::default();
        assert!(index.doubt::<AccessPolicy>(key(), 5));
        assert!(!index.doubt::<AccessPolicy>(key(), 6), "this is no news");
        assert_eq!((known(&index), index.unread_policy("b")), ((false, true), None));
        assert!(index.apply(policy("p", 7)));
        assert_eq!(known(&index), (true, false));
        assert!(index.forget::<AccessPolicy>(key(), 8));
        assert!(!index.doubt::<AccessPolicy>(key(), 7), "old news");
        assert_eq!(known(&index), (false, false));
        let doubted = Doubted::from([(key(), 9)]);
        assert!(relist(&mut index, &[], &doubted, Listed { version: 9, anew: false }));
        assert_eq!(known(&index), (false, true));
        assert!(!relist(&mut index, &[], &Doubted::new(), Listed { version: 8, anew: false }), "an older list");
        assert!(relist(&mut index, &[], &Doubted::new(), Listed { version: 12, anew: false }), "it was deleted");
        assert_eq!(known(&index), (false, false));
        relist(&mut index, &[], &doubted, Listed::default());
        assert!(relist(&mut index, &[11], &Doubted::new(), Listed { version: 12, anew: false }));
        assert_eq!(known(&index), (true, false));
    }
}
