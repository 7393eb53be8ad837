//! The policies of an Instance, found by the names of their members.

use std::sync::Arc;

use foldhash::fast::RandomState;
use imbl::{GenericHashMap, shared_ptr::DefaultSharedPtr};

use super::{
    listed::ListedPolicies,
    policy::{Names, Policy},
};

/// The policies of an Instance. A clone shares everything, so that a change does not disturb readers.
///
/// A policy can mean a token in two ways: it has a name of the token as a member, or the token names it. So a
/// judgement finds the few policies that can mean its token, and looks at no other.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    by_name: ByText<Arc<Policy>>,
    /// The policies with each member.
    by_member: ByText<ListedPolicies>,
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
            self.by_member.entry(member.clone()).or_default().add(&policy);
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
            let Some(listed) = self.by_member.get_mut(member) else { continue };
            listed.remove(policy);
            if listed.is_empty() {
                self.by_member.remove(member);
            }
        }
    }

    /// The policies that can mean a bearer of these names, each once.
    pub(super) fn about(&self, names: &Names<'_>) -> Vec<&Policy> {
        let by_member = names.members().filter_map(|name| self.by_member.get(name)).flat_map(ListedPolicies::iter);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::listed::copied;
    use serde_json::json;

    fn policy(nth: usize, version: usize) -> Arc<Policy> {
        let spec = json!({"instanceRef": {"name": "eem"}, "members": ["user:*", format!("user:{nth}")],
            "statements": [{"effect": "Allow", "actions": [format!("a:{version}")]}]});
        let object = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "AccessPolicy", "spec": spec,
            "metadata": {"namespace": "a", "name": format!("p{nth}")}});
        Arc::new(Policy::of(&serde_json::from_value(object).unwrap()))
    }

    /// The number of policies that are copied to add this many with one member, to change one, and to remove all.
    fn costs(count: usize) -> [usize; 3] {
        let all: Vec<_> = (0..count).map(|nth| policy(nth, 0)).collect();
        let mut policies = Policies::default();
        let added = copied(|| all.iter().for_each(|policy| policies.add(policy.clone())));
        let reader = policies.clone();
        let changed = copied(|| policies.add(policy(count / 2, 1)));
        let names = Names::default();
        assert_eq!((policies.all(&names).len(), reader.all(&names).len()), (count, count));
        let removed = copied(|| all.iter().for_each(|policy| policies.remove(policy)));
        assert!(policies.is_empty() && policies.by_member.is_empty() && !reader.is_empty());
        [added, changed, removed]
    }

    #[test]
    fn policies_that_share_a_member_cost_each_about_the_same_however_many_there_are() {
        let [few, many] = [100, 10_000].map(costs);
        for (few, many) in [(few[0], many[0] / 100), (few[1], many[1]), (few[2], many[2] / 100)] {
            assert!(many <= 2 * few.max(50), "{few} and {many}");
        }
    }
}
