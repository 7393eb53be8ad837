//! What is kept of each object: all that a verdict depends on, and no more.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::{Entries, Index, Indexed, Key, Pools};
use crate::{
    access::{self, Claims, Homes, Policy, Rules},
    crd::{
        AccessPolicy, Account, ApiToken, Fault, Instance, InstanceRef,
        api_token::{AcceptedAudience, ApiTokenStatus, Use},
    },
    outside::watch::NamespaceMeta,
    token::{Digest, Life, Limit, Record},
    verifier::credential::Places,
};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEntry {
    /// Its uid.
    pub uid: Arc<str>,
    /// The Instances that it opens: its own, and further ones.
    pub instances: Arc<[Opened]>,
    /// What it says of whose it is and what it may do.
    pub claims: Arc<Claims>,
    /// The account that it is bound to.
    pub account: Option<Acting>,
    /// Whether it is to be accepted.
    pub active: bool,
    /// Whether it was ended for ever.
    pub revoked: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// When the groups of its owner were stamped, as far as an operator has recorded it. A later stamp is as old as the
    /// one on record, until it is recorded itself: else one that cannot be would never grow old.
    pub stamped_at: Option<Timestamp>,
    /// Whether an operator has seen that its owner is an account that does not exist.
    pub owner_gone: bool,
    /// When they were used, as far as status says.
    pub used: Box<[Use]>,
    /// Its generations.
    pub generations: Box<[Generation]>,
}

/// A generation of a token, as its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub number: i64,
    /// Its public id.
    pub id: Arc<str>,
    /// The digest of its value.
    pub sha256: Digest,
    /// Its state, and its times.
    pub life: Life,
}

/// An Instance that a token opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opened {
    /// Its name.
    pub key: Key,
    /// The uid of the one that is meant; nothing: whichever bears the name.
    pub uid: Option<Arc<str>>,
}

/// The account that a token acts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acting {
    /// Its name.
    pub key: Key,
    /// The uid of the one that is meant.
    pub uid: Arc<str>,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEntry {
    /// Its uid.
    pub uid: Arc<str>,
    /// What it says of what it may do.
    pub claims: Arc<Claims>,
    /// Whether its tokens are to be accepted.
    pub active: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// An Instance, its rules ready to be asked; faults where it cannot be gone by.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceEntry {
    /// Its uid; nothing where none is known.
    pub uid: Option<String>,
    /// The value that every request to its API names.
    pub organization: String,
    /// What it says of requests, and of who may make them.
    pub rules: Result<Rules, Vec<Fault>>,
    /// Where it takes credentials.
    pub places: Places,
    /// What no generation of its tokens exceeds.
    pub limit: Limit,
    /// Where its tokens may live.
    pub homes: Homes,
    /// Whether its endpoint is disabled.
    pub disabled: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A policy, and the Instance that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEntry {
    /// The Instance.
    pub instance: Key,
    /// The policy, ready to be asked.
    pub policy: Arc<Policy>,
}

impl Indexed for ApiToken {
    type Entry = TokenEntry;

    const USED: bool = true;

    fn entry(self, pools: &Pools) -> TokenEntry {
        let (instances, claims) = (opened(&self, pools), Claims::of_token(&self));
        let status = self.status.unwrap_or_default();
        let owner = status.owner.as_ref();
        TokenEntry {
            // No other has it.
            uid: self.metadata.uid.unwrap_or_default().into(),
            instances: pools.opened.share(instances),
            claims: pools.claims.share(claims),
            account: acting(&self.metadata.namespace.unwrap_or_default(), &status, pools),
            active: self.spec.active,
            revoked: self.spec.revoked || status.revocation.is_some(),
            deleting: self.metadata.deletion_timestamp.is_some(),
            stamped_at: owner.and_then(|seen| seen.stamped_at.as_ref()).map(|at| at.0),
            owner_gone: owner.is_some_and(|seen| seen.gone),
            used: status.used().into(),
            generations: status.records.iter().map(Generation::of).collect(),
        }
    }

    fn shelf(index: &mut Index) -> &mut Entries<Self> {
        &mut index.tokens
    }

    fn changed(index: &mut Index, key: &Key, old: Option<&TokenEntry>, new: Option<&TokenEntry>) {
        for generation in old.iter().flat_map(|token| &token.generations) {
            unlist(&mut index.ids, &generation.id, key);
        }
        for generation in new.iter().flat_map(|token| &token.generations) {
            list(&mut index.ids, &generation.id, key);
        }
    }
}

impl Generation {
    fn of(record: &Record) -> Self {
        let (number, id) = (record.generation, Arc::from(&*record.id));
        Self { number, id, sha256: record.sha256, life: record.life() }
    }
}

fn acting(namespace: &str, status: &ApiTokenStatus, pools: &Pools) -> Option<Acting> {
    let bound = status.account.as_ref()?;
    Some(Acting { key: pools.key(namespace, &bound.name), uid: pools.text(&*bound.uid) })
}

/// The Instances that a token opens: its own, and of the further ones that it names those which the operator has
/// accepted. A status that does not say which is an older operator's, and means all of them.
fn opened(token: &ApiToken, pools: &Pools) -> Vec<Opened> {
    let namespace = token.namespace().unwrap_or_default();
    let key = |wanted: &InstanceRef| pools.key(wanted.namespace_or(&namespace), wanted.name.as_str());
    let accepted = token.status.as_ref().and_then(|status| status.audiences.as_ref());
    let further = token.spec.audiences.iter().filter_map(|wanted| {
        let key = key(wanted);
        let Some(accepted) = accepted else { return Some(Opened { key, uid: None }) };
        let is_it = |audience: &&AcceptedAudience| *audience.name == *key.name && *audience.namespace == *key.namespace;
        let uid = pools.text(&*accepted.iter().find(is_it)?.uid);
        Some(Opened { key, uid: Some(uid) })
    });
    [Opened { key: key(&token.spec.instance_ref), uid: None }].into_iter().chain(further).collect()
}

/// Puts a token on the list of an id. Lists are sorted, and short.
fn list(ids: &mut HashMap<Arc<str>, Vec<Key>>, id: &Arc<str>, key: &Key) {
    let Some(keys) = ids.get_mut(id) else {
        ids.insert(id.clone(), vec![key.clone()]);
        return;
    };
    if let Err(place) = keys.binary_search(key) {
        keys.insert(place, key.clone());
    }
}

/// Takes a token off the list of an id, and the list away with its last.
fn unlist(ids: &mut HashMap<Arc<str>, Vec<Key>>, id: &str, key: &Key) {
    let Some(keys) = ids.get_mut(id) else { return };
    keys.retain(|listed| listed != key);
    if keys.is_empty() {
        ids.remove(id);
    }
}

impl Indexed for Account {
    type Entry = AccountEntry;

    fn entry(self, pools: &Pools) -> AccountEntry {
        AccountEntry {
            claims: pools.claims.share(Claims::of_account(&self)),
            uid: pools.text(self.metadata.uid.unwrap_or_default()),
            active: self.spec.active,
            deleting: self.metadata.deletion_timestamp.is_some(),
        }
    }

    fn shelf(index: &mut Index) -> &mut Entries<Self> {
        &mut index.accounts
    }
}

impl Indexed for Instance {
    type Entry = InstanceEntry;

    fn entry(self, _: &Pools) -> InstanceEntry {
        InstanceEntry {
            organization: self.organization().to_owned(),
            rules: Rules::of(&self),
            places: Places::of(self.spec.api.as_ref().map_or(&[], |api| &api.credentials)),
            limit: access::limit(&self.spec),
            homes: Homes::of(&self),
            disabled: self.is_disabled(),
            deleting: self.metadata.deletion_timestamp.is_some(),
            uid: self.metadata.uid,
        }
    }

    fn shelf(index: &mut Index) -> &mut Entries<Self> {
        &mut index.instances
    }
}

impl Indexed for AccessPolicy {
    type Entry = PolicyEntry;

    // It may deny.
    const GRANTS: bool = false;

    fn entry(self, pools: &Pools) -> PolicyEntry {
        let namespace = self.meta().namespace.as_deref().unwrap_or_default();
        let instance = pools.key(namespace, self.spec.instance_ref.name.as_str());
        PolicyEntry { instance, policy: Arc::new(Policy::of(&self)) }
    }

    fn shelf(index: &mut Index) -> &mut Entries<Self> {
        &mut index.policies
    }

    fn changed(index: &mut Index, key: &Key, old: Option<&PolicyEntry>, new: Option<&PolicyEntry>) {
        if let Some(old) = old {
            let policies = index.policies_of.entry(old.instance.clone()).or_default();
            policies.remove(key);
            if policies.is_empty() {
                index.policies_of.remove(&old.instance);
            }
        }
        if let Some(new) = new {
            index.policies_of.entry(new.instance.clone()).or_default().insert(key.clone(), new.policy.clone());
        }
    }
}

impl Indexed for NamespaceMeta {
    /// Its labels.
    type Entry = BTreeMap<String, String>;

    fn entry(self, _: &Pools) -> BTreeMap<String, String> {
        self.metadata.labels.unwrap_or_default()
    }

    fn shelf(index: &mut Index) -> &mut Entries<Self> {
        &mut index.namespaces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        let sizes = [size_of::<TokenEntry>(), size_of::<Generation>(), size_of::<AccountEntry>(), size_of::<Key>()];
        assert!(sizes.iter().zip([216, 120, 40, 32]).all(|(size, most)| *size <= most), "{sizes:?}");
    }
}
