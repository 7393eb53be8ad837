//! The policies of an Instance, found by the names of their members.

use std::sync::Arc;

use foldhash::fast::RandomState;
use imbl::{GenericHashMap, shared_ptr::DefaultSharedPtr};

use super::policy::{Names, Policy};

/// The policies of an Instance. A clone shares everything, so that a change does not disturb readers.
///
/// A policy can mean a token in two ways: it has a name of the token as a member, or the token names it. So a
/// judgement finds the few policies that can mean its token, and looks at no other.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    by_name: ByText<Arc<Policy>>,
    /// The policies with each member, in the order of their names.
    by_member: ByText<Arc<[Arc<Policy>]>>,
}

/// Values that are found by a text.
type ByText<V> = GenericHashMap<Arc<str>, V, RandomState, DefaultSharedPtr>;

impl Policies {
    /// True if there is no policy.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Adds a policy. It replaces the policy with the same name.
    pub fn add(&mut self, policy: Arc<Policy>) {
        if let Some(old) = self.by_name.insert(policy.name.clone(), policy.clone()) {
            self.unlist(&old);
        }
        for member in policy.members.iter() {
            let listed = self.by_member.get(member).map_or(&[][..], |listed| listed);
            let at = listed.partition_point(|other| other.name < policy.name);
            let listed = [&listed[..at], std::slice::from_ref(&policy), &listed[at..]].concat();
            self.by_member.insert(member.clone(), listed.into());
        }
    }

    /// Removes the policy with the name of this one.
    pub fn remove(&mut self, policy: &Policy) {
        if let Some(old) = self.by_name.remove(&policy.name) {
            self.unlist(&old);
        }
    }

    fn unlist(&mut self, policy: &Policy) {
        for member in policy.members.iter() {
            let Some(listed) = self.by_member.get(member) else { continue };
            let rest: Vec<_> = listed.iter().filter(|other| other.name != policy.name).cloned().collect();
            match rest.is_empty() {
                true => self.by_member.remove(member).map(drop),
                false => self.by_member.insert(member.clone(), rest.into()).map(drop),
            };
        }
    }

    /// The policies that can mean a bearer of these names, each once.
    pub(super) fn about(&self, names: &Names<'_>) -> Vec<&Policy> {
        let by_member = names.members().filter_map(|name| self.by_member.get(name)).flat_map(|listed| listed.iter());
        let by_name = names.joined.iter().filter_map(|joined| self.by_name.get(&*joined.name));
        let mut about: Vec<&Policy> = by_member.chain(by_name).map(|policy| &**policy).collect();
        about.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        about.dedup_by(|one, other| one.name == other.name);
        about
    }
}

#[cfg(test)]
impl Policies {
    /// All policies, for a comparison.
    pub(super) fn all(&self, _: &Names<'_>) -> Vec<&Policy> {
        self.by_name.values().map(|policy| &**policy).collect()
    }
}

impl FromIterator<Arc<Policy>> for Policies {
    fn from_iter<I: IntoIterator<Item = Arc<Policy>>>(all: I) -> Self {
        let mut policies = Self::default();
        all.into_iter().for_each(|policy| policies.add(policy));
        policies
    }
}
