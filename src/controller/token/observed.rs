//! What was read for a pass over a token. What follows from it is the [`World`](super::world::World).

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
        instance::{EndpointName, EndpointType},
        subject::Subject,
    },
};

/// Everything that was read, and when. What is not there is absent, and no error.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When it was read.
    pub now: Timestamp,
    /// The token itself.
    pub token: Arc<ApiToken>,
    /// The Instance that it refers to.
    pub instance: Option<Ruled>,
    /// Labels of its namespace, where they are known.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether its namespace is being deleted.
    pub terminating: bool,
    /// The further Instances that accept it, in the order of `spec.audiences`.
    pub audiences: Vec<Option<Ruled>>,
    /// The policies of its Instance, by name.
    pub policies: Vec<Arc<Policy>>,
    /// Whether its owner is an account that does not exist.
    pub owner_gone: bool,
    /// An Instance that is to accept it, and of which its owner has as many other tokens as it allows, all of them
    /// older.
    pub surplus: Option<Ruled>,
    /// The account of the name that it acts as.
    pub account: Option<Arc<Account>>,
    /// What holds each name of a Secret that the token uses. A name that is not here is free.
    pub stored: BTreeMap<String, Held>,
    /// From when on a value may be minted for it, whatever its status says; nothing: now.
    pub may_mint_from: Option<Timestamp>,
    /// Fields of the spec of its own account that another field manager has set, also to more than the token says.
    pub taken: BTreeSet<String>,
    /// The workloads that it has restarted, where they matter.
    pub workloads: Workloads,
    /// The other tokens that have one of them restarted, while a restart is pending.
    pub fellows: Vec<Fellow>,
}

impl Observed {
    /// The token's uid.
    pub fn uid(&self) -> &str {
        self.token.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The token's namespace.
    pub fn namespace(&self) -> &str {
        self.token.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The same, as an Instance is asked whether it admits it.
    pub fn home(&self) -> Namespace<'_> {
        Namespace { name: self.namespace(), labels: self.labels.as_ref() }
    }

    /// The status that stands; empty where there is none.
    pub fn before(&self) -> &ApiTokenStatus {
        static EMPTY: LazyLock<ApiTokenStatus> = LazyLock::new(ApiTokenStatus::default);
        self.token.status.as_ref().unwrap_or(&EMPTY)
    }

    /// What its Instance says of requests, where that has no faults.
    pub fn rules(&self) -> Option<&Rules> {
        self.instance.as_ref()?.rules()
    }

    /// The owner of the token: its own, or its account's.
    pub fn owner(&self) -> Option<&Subject> {
        let accounts = || self.account.as_ref().and_then(|account| account.spec.owner.as_ref());
        self.token.spec.owner.as_ref().or_else(accounts)
    }

    /// Whether the spec is newer than what the status says of it.
    pub fn has_new_spec(&self) -> bool {
        self.before().observed_generation != self.token.metadata.generation
    }

    /// Whether somebody asks for a new generation by an id that none was published for.
    pub fn asks_anew(&self) -> bool {
        let answered = self.before().regeneration.as_ref().map(|answered| &answered.id);
        self.token.spec.regenerate.as_ref().is_some_and(|asked| Some(&asked.id) != answered)
    }

    /// The URI of the Admin API; empty while the Instance has no endpoint that stands.
    pub fn endpoint(&self) -> &str {
        let status = self.instance.as_deref().and_then(|instance| instance.status.as_ref());
        status.and_then(|status| status.endpoint(EndpointName::Admin)).map_or("", |endpoint| &endpoint.uri)
    }

    /// Whether the Instance asks for an endpoint and none stands, so that its URI is not known.
    pub fn awaits_endpoint(&self) -> bool {
        let stands = |instance: &Instance| {
            let endpoints = instance.status.iter().flat_map(|status| &status.endpoints);
            endpoints.into_iter().any(|endpoint| endpoint.type_ != EndpointType::Disabled)
        };
        self.instance.as_deref().is_some_and(|instance| instance.endpoints().next().is_some() && !stands(instance))
    }
}
