//! The objects that a pass over a token has read. The facts derived from them are in the
//! [`World`](super::world::World).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;

use super::{
    secrets::Held,
    workloads::{Fellow, Workloads},
};
use crate::{
    access::{Namespace, Policy, Rules},
    controller::book::Ruled,
    crd::{
        Account, ApiToken, Instance,
        api_token::ApiTokenStatus,
        instance::{Endpoint, EndpointName},
        secret,
        subject::Subject,
    },
};

/// Everything that was read, with the time of reading. A missing object is absent here, and no error.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The time of reading.
    pub now: Timestamp,
    /// The token.
    pub token: Arc<ApiToken>,
    /// The Instance of `spec.instanceRef`.
    pub instance: Option<Ruled>,
    /// The labels of the token's namespace; none if the namespace is not in the cache.
    pub labels: Option<BTreeMap<String, String>>,
    /// True if the token's namespace is being deleted.
    pub terminating: bool,
    /// The Instances of `spec.audiences`, in the same order. None in place of one that does not exist.
    pub audiences: Vec<Option<Ruled>>,
    /// The policies of each of these Instances, sorted by name.
    pub audience_policies: Vec<Vec<Arc<Policy>>>,
    /// The policies of the token's Instance, sorted by name.
    pub policies: Vec<Arc<Policy>>,
    /// True if the token's owner is an account that does not exist or is being deleted.
    pub owner_gone: bool,
    /// The accounts of tokenry.dev behind the token: those that own it, that own the account that it acts as, or that
    /// own such an account. Accounts that do not exist are left out.
    pub owning: Vec<Arc<Account>>,
    /// The first Instance of the token, audiences included, whose `tokens.maxPerOwner` is reached. Only older tokens of
    /// the same owner count.
    pub surplus: Option<Ruled>,
    /// The account under the name that the token acts as.
    pub account: Option<Arc<Account>>,
    /// The Secret under each name that the token uses. A name that is missing here is free.
    pub stored: BTreeMap<String, Held>,
    /// The earliest time for the next mint, whatever the status says; none: now.
    pub may_mint_from: Option<Timestamp>,
    /// Fields in the spec of the token's own account that another field manager has set. Such a field can also allow
    /// more than the token does.
    pub taken: BTreeSet<String>,
    /// The workloads of `spec.restart`, if this pass needs them.
    pub workloads: Workloads,
    /// The other tokens that restart one of these workloads. Empty unless a restart is pending.
    pub fellows: Vec<Fellow>,
}

impl Observed {
    /// A token without any other object.
    pub fn alone(token: Arc<ApiToken>, now: Timestamp) -> Self {
        Self {
            now,
            token,
            instance: None,
            labels: None,
            terminating: false,
            audiences: Vec::new(),
            audience_policies: Vec::new(),
            policies: Vec::new(),
            owner_gone: false,
            owning: Vec::new(),
            surplus: None,
            account: None,
            stored: BTreeMap::new(),
            may_mint_from: None,
            taken: BTreeSet::new(),
            workloads: Workloads::Unread,
            fellows: Vec::new(),
        }
    }

    /// The token's uid.
    pub fn uid(&self) -> &str {
        self.token.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The token's namespace.
    pub fn namespace(&self) -> &str {
        self.token.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The token's namespace with its labels, for the check that an Instance admits it.
    pub fn home(&self) -> Namespace<'_> {
        Namespace { name: self.namespace(), labels: self.labels.as_ref() }
    }

    /// The current status; an empty one if the token has none.
    pub fn before(&self) -> &ApiTokenStatus {
        static EMPTY: LazyLock<ApiTokenStatus> = LazyLock::new(ApiTokenStatus::default);
        self.token.status.as_ref().unwrap_or(&EMPTY)
    }

    /// The rules of the token's Instance, if they have no faults.
    pub fn rules(&self) -> Option<&Rules> {
        self.instance.as_ref()?.rules()
    }

    /// The owner in the token's spec, or else in the spec of its account.
    pub fn owner(&self) -> Option<&Subject> {
        let accounts = || self.account.as_ref().and_then(|account| account.spec.owner.as_ref());
        self.token.spec.owner.as_ref().or_else(accounts)
    }

    /// The owner of an account behind the token.
    pub fn owner_of(&self, namespace: &str, name: &str) -> Option<String> {
        let is_it = |account: &&Arc<Account>| {
            account.metadata.namespace.as_deref() == Some(namespace) && account.metadata.name.as_deref() == Some(name)
        };
        self.owning.iter().find(is_it)?.spec.owner.as_ref().map(ToString::to_string)
    }

    /// True if the spec has changed since the status was written.
    pub fn has_new_spec(&self) -> bool {
        self.before().observed_generation != self.token.metadata.generation
    }

    /// True if `regenerate.id` is new: no generation was published for this id yet.
    pub fn asks_anew(&self) -> bool {
        let answered = self.before().regeneration.as_ref().map(|answered| &answered.id);
        self.token.spec.regenerate.as_ref().is_some_and(|asked| Some(&asked.id) != answered)
    }

    /// The URI of the Admin API; empty if the Instance asks for no endpoint, or disables it. While the endpoint does
    /// not exist, this is the URI that the token knew last.
    pub fn endpoint(&self) -> &str {
        let last = || self.before().endpoint.as_deref().unwrap_or_default();
        self.asked().map_or("", |(instance, asked)| uri(instance, asked.name).unwrap_or_else(last))
    }

    /// The certificates by which clients verify the endpoint.
    pub fn ca(&self) -> Ca<'_> {
        let has_own = self.token.spec.secret.as_ref().is_some_and(|secret| secret.data.contains_key(secret::CA));
        let Some((instance, asked)) = self.asked().filter(|(_, asked)| asked.ca.is_some() && !has_own) else {
            return Ca::None;
        };
        let trust = instance.status.as_ref().and_then(|status| status.trust(asked.name));
        trust.map_or(Ca::Unknown, |trust| Ca::Known(&trust.ca_bundle))
    }

    /// True if the Instance asks for an endpoint, and its status does not describe that endpoint completely yet.
    pub fn lacks_endpoint(&self) -> bool {
        let is_settled = |instance: &Instance| {
            let status = instance.status.as_ref();
            status.is_some_and(|status| status.observed_generation == instance.metadata.generation)
        };
        let is_known = |(instance, asked): (&Instance, &Endpoint)| {
            is_settled(instance) && uri(instance, asked.name).is_some() && self.ca() != Ca::Unknown
        };
        self.asked().is_some_and(|asked| !is_known(asked))
    }

    /// The endpoint in the Instance's spec, with the Instance; none if there is none, or if it is disabled.
    fn asked(&self) -> Option<(&Instance, &Endpoint)> {
        let instance = self.instance.as_deref()?;
        Some((instance, instance.endpoints().next()?))
    }
}

/// The URI of an endpoint, by the Instance's status.
fn uri(instance: &Instance, endpoint: EndpointName) -> Option<&str> {
    let standing = instance.status.as_ref()?.endpoint(endpoint)?;
    Some(&*standing.uri).filter(|uri| !uri.is_empty())
}

/// The certificates by which clients verify an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ca<'a> {
    /// The Instance gives none, or the token has a key `ca.crt` of its own.
    None,
    /// The Instance names a Secret, and has not read it yet.
    Unknown,
    /// The certificates in PEM form.
    Known(&'a str),
}
