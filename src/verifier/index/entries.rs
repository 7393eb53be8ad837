//! The entries of the index. An entry keeps the few parts of an object that the verifier needs.

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

/// The entry of an ApiToken.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEntry {
    /// Its uid.
    pub uid: Arc<str>,
    /// The Instances that the token opens: its own, and further ones.
    pub instances: Arc<[Opened]>,
    /// The owner, role and scopes that the token names.
    pub claims: Arc<Claims>,
    /// The account that the token is bound to. `None`: it is not bound yet.
    pub account: Option<Acting>,
    /// True unless the token is suspended.
    pub active: bool,
    /// True if the token is revoked, by its spec or its status.
    pub revoked: bool,
    /// True if the token is being deleted.
    pub deleting: bool,
    /// The time of the owner's group stamp, as the operator recorded it. A newer stamp counts as old as the recorded
    /// one until the operator records it. Otherwise a stamp that cannot be recorded would never become too old.
    pub stamped_at: Option<Timestamp>,
    /// True if the operator found that the owner is an account that does not exist.
    pub owner_gone: bool,
    /// The uses that the status lists.
    pub used: Box<[Use]>,
    /// Its generations.
    pub generations: Box<[Generation]>,
}

/// A generation of a token, taken from its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub number: i64,
    /// Its public id.
    pub id: Arc<str>,
    /// The digest of its value.
    pub sha256: Digest,
    /// Its state and its times.
    pub life: Life,
}

/// An Instance that a token opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opened {
    /// Its name.
    pub key: Key,
    /// The uid of that Instance. `None`: any Instance with this name.
    pub uid: Option<Arc<str>>,
}

/// The account that a token acts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acting {
    /// Its name.
    pub key: Key,
    /// The uid of that account.
    pub uid: Arc<str>,
}

/// The entry of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEntry {
    /// Its uid.
    pub uid: Arc<str>,
    /// The owner, role and scopes that the account names.
    pub claims: Arc<Claims>,
    /// True unless the account is suspended. The tokens of a suspended account are refused.
    pub active: bool,
    /// True if the account is being deleted.
    pub deleting: bool,
}

/// The entry of an Instance, with its rules in a form for quick look-ups.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceEntry {
    /// Its uid. `None`: not known.
    pub uid: Option<String>,
    /// The organization of the Instance. Default: the name of the Instance.
    pub organization: String,
    /// The rules of the Instance. If the Instance has faults, it lets nobody in.
    pub rules: Result<Rules, Vec<Fault>>,
    /// The places for credentials.
    pub places: Places,
    /// The limits of every generation of its tokens.
    pub limit: Limit,
    /// The namespaces in which its tokens may live.
    pub homes: Homes,
    /// True if its endpoint is disabled.
    pub disabled: bool,
    /// True if the Instance is being deleted.
    pub deleting: bool,
}

/// The entry of a policy, with the Instance that it applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEntry {
    /// The Instance.
    pub instance: Key,
    /// The policy, in a form for quick look-ups.
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
            // A uid belongs to one token, so it is not shared.
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

/// The Instances that a token opens: its own, and those of its `spec.audiences` that the operator has accepted. An
/// operator of an earlier release does not write `status.audiences`. The token then opens all of its `spec.audiences`.
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

/// Adds a token to the list of an id. The lists are sorted and short.
fn list(ids: &mut HashMap<Arc<str>, Vec<Key>>, id: &Arc<str>, key: &Key) {
    let Some(keys) = ids.get_mut(id) else {
        ids.insert(id.clone(), vec![key.clone()]);
        return;
    };
    if let Err(place) = keys.binary_search(key) {
        keys.insert(place, key.clone());
    }
}

/// Removes a token from the list of an id. An empty list is removed too.
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

    // A policy may deny, so forgetting it could permit more.
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
    /// The labels of the namespace.
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
