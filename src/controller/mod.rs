//! Reads, decides, writes: one generic pass over every kind.
//!
//! ```text
//! watch event ─▶ observe ─▶ validate ─▶ decide ─▶ execute ─▶ settle ─▶ apply status ─▶ events, metrics, next wake-up
//!                reads      pure        pure      writes,    pure
//!                once       all faults  cannot    in order
//!                                       fail
//! ```

pub mod account;
pub mod book;
mod census;
pub mod depends;
pub mod instance;
pub mod kind;
mod obstacle;
pub mod policy;
mod queue;
pub mod run;
pub mod stamping;
pub mod token;

use std::sync::Arc;

use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};

use book::{Book, Made, Ruled};
use kind::{Kind, Version};

pub use obstacle::Obstacle;

use crate::{
    access::Policy,
    crd::{AccessPolicy, Account, ApiToken, Instance, SealedSecret},
    outside::{
        Cache, Clock, Entropy, Joint, Optional, Reader, Receipt, Refusal, Writer,
        events::{Events, Note, Untold},
        metrics::Metrics,
        watch::{CoreAccount, NamespaceMeta},
    },
};

/// What a pass may touch.
pub struct Rooms {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where values come from.
    pub entropy: Arc<dyn Entropy>,
    /// What there is.
    pub caches: Arc<Caches>,
    /// Reads past the caches.
    pub reader: Reader,
    /// Reads accounts past the cache; tokens that are made together share one.
    pub accounts: Arc<Joint<Account>>,
    /// Writes.
    pub writer: Writer,
    /// When values were minted last.
    pub mints: token::Mints,
    /// Whether tokens are stamped.
    pub stamping: Arc<stamping::Stamping>,
    /// The rules of Instances.
    pub rules: Book<Instance, Made>,
    /// Policies, ready to be asked.
    pub policies: Book<AccessPolicy, Policy>,
    /// Tells users.
    pub events: Events,
    /// What they are yet to be told.
    pub untold: Untold,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Rooms {
    /// An Instance as far as this process has heard, with its rules.
    pub fn instance(&self, namespace: &str, name: &str) -> Option<Ruled> {
        self.caches.instances.get(namespace, name).map(|instance| self.rules.ruled(instance))
    }

    /// Writes a status, and keeps what it tells until that is told or certain not to have come to be.
    ///
    /// # Errors
    /// It was not written, or nothing was heard of it.
    pub async fn write_status<K: Kind>(
        &self,
        object: &K,
        version: &Version,
        status: &K::Status,
        notes: &[Note],
    ) -> Result<Receipt, Refusal> {
        self.telling(object, notes, self.writer.status(object, version, status)).await
    }

    /// Does `write`, and keeps what it tells until that is told or certain not to have come to be.
    ///
    /// # Errors
    /// It was not written, or nothing was heard of it.
    pub async fn telling<K: Kind>(
        &self,
        object: &K,
        notes: &[Note],
        write: impl Future<Output = Result<Receipt, Refusal>>,
    ) -> Result<Receipt, Refusal> {
        let uid = object.meta().uid.as_deref().unwrap_or_default();
        let kept = self.untold.keep(uid, notes);
        let written = write.await;
        if written.as_ref().is_err_and(|refusal| refusal.why.is_definite()) {
            self.untold.forget(uid, &kept);
        }
        written
    }
}

/// The objects that the controllers read, by kind.
pub struct Caches {
    /// Instances.
    pub instances: Cache<Instance>,
    /// Accounts: ServiceAccounts of tokenry.dev.
    pub accounts: Cache<Account>,
    /// Policies.
    pub policies: Cache<AccessPolicy>,
    /// Core ServiceAccounts, which can own tokens.
    pub users: Cache<CoreAccount>,
    /// Tokens.
    pub tokens: Cache<ApiToken>,
    /// Secrets of our type.
    pub secrets: Cache<SealedSecret>,
    /// Services.
    pub services: Cache<Service>,
    /// Ingresses, where the cluster serves them.
    pub ingresses: Optional<Ingress>,
    /// Namespaces.
    pub namespaces: Cache<NamespaceMeta>,
}

impl Caches {
    /// Waits until every kind that each cluster serves has been read: before that, what is missing may only not have
    /// been heard of.
    pub async fn synced(&self) {
        let Self { instances, accounts, policies, users, tokens, secrets, services, ingresses: _, namespaces } = self;
        tokio::join!(
            instances.synced(),
            accounts.synced(),
            policies.synced(),
            users.synced(),
            tokens.synced(),
            secrets.synced(),
            services.synced(),
            namespaces.synced(),
        );
    }

    /// Which kinds have not been read yet; an error that names them.
    pub fn missing(&self) -> Result<(), String> {
        let Self { instances, accounts, policies, users, tokens, secrets, services, ingresses: _, namespaces } = self;
        let synced = [
            ("Instance", instances.is_synced()),
            ("ServiceAccount of tokenry.dev", accounts.is_synced()),
            ("AccessPolicy", policies.is_synced()),
            ("ServiceAccount", users.is_synced()),
            ("ApiToken", tokens.is_synced()),
            ("Secret", secrets.is_synced()),
            ("Service", services.is_synced()),
            ("Namespace", namespaces.is_synced()),
        ];
        let missing: Vec<_> = synced.iter().filter(|(_, synced)| !synced).map(|(kind, _)| *kind).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("waiting for the first list of: {}", missing.join(", "))) }
    }
}
