//! The policies that have one member in common.

use std::sync::Arc;

use imbl::OrdMap;

use super::policy::Policy;

/// The largest number of policies in a plain list. Most members are in fewer policies than that.
const FEW: usize = 16;

/// The policies that have one member in common. A clone shares everything. A change of a long list copies a few of its
/// parts, so many policies with one member cost no more than others.
#[derive(Clone, Debug)]
pub(super) enum ListedPolicies {
    /// A plain list, which is small. A change copies it.
    Few(Arc<[Arc<Policy>]>),
    /// A tree, by name.
    Many(OrdMap<Arc<str>, Arc<Policy>>),
}

impl Default for ListedPolicies {
    fn default() -> Self {
        Self::Few(Arc::default())
    }
}

impl ListedPolicies {
    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// All policies, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(many)),
        };
        few.into_iter().flat_map(|few| few.iter()).chain(many.into_iter().flat_map(OrdMap::values))
    }

    /// Adds a policy of a new name.
    pub(super) fn add(&mut self, policy: &Arc<Policy>) {
        match self {
            Self::Few(few) if few.len() < FEW => *self = Self::few(few.iter().chain([policy])),
            Self::Few(few) => {
                let all = few.iter().chain([policy]).map(|policy| (policy.name.clone(), policy.clone()));
                *self = Self::Many(all.collect());
            }
            Self::Many(many) => _ = many.insert(policy.name.clone(), policy.clone()),
        }
    }

    /// Removes the policy with the name of this one.
    pub(super) fn remove(&mut self, policy: &Policy) {
        match self {
            Self::Few(few) => *self = Self::few(few.iter().filter(|other| other.name != policy.name)),
            Self::Many(many) => {
                many.remove(&policy.name);
                if many.len() <= FEW / 2 {
                    *self = Self::few(many.values());
                }
            }
        }
    }

    fn few<'a>(policies: impl Iterator<Item = &'a Arc<Policy>>) -> Self {
        let few: Arc<[_]> = policies.cloned().collect();
        #[cfg(test)]
        COPIED.set(COPIED.get() + few.len());
        Self::Few(few)
    }
}

#[cfg(test)]
thread_local! {
    /// The number of policies that lists of this thread have copied.
    static COPIED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The number of policies that lists copy during `work`.
#[cfg(test)]
pub(super) fn copied(work: impl FnOnce()) -> usize {
    COPIED.set(0);
    work();
    COPIED.get()
}
