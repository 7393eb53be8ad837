//! The controllers. One generic pass reads, decides and writes for all kinds.
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
pub mod certificate;
pub mod depends;
pub mod exposing;
pub mod grants;
pub mod https;
pub mod instance;
pub mod kind;
pub mod manifests;
mod obstacle;
pub mod policy;
mod queue;
pub mod run;
pub mod stamping;
pub mod token;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::Service,
    rbac::v1::{Role, RoleBinding},
};

use book::{Book, Made, Ruled};
use exposing::Exposing;
use kind::{Kind, Version};

pub use obstacle::Obstacle;

use crate::{
    access::Policy,
    crd::{AccessPolicy, Account, ApiToken, Instance, SealedSecret},
    exposure::ExposureConfig,
    outside::{
        Cache, Clock, Entropy, Joint, Lead, Prober, Pulse, Reader, Receipt, Refusal, Rights, Writer,
        events::{Events, Note, Untold},
        metrics::Metrics,
        traces::Tracer,
        watch::{CoreAccount, NamespaceMeta},
    },
};

/// The parts of the outside world that a pass may use.
pub struct Rooms {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness for values.
    pub entropy: Arc<dyn Entropy>,
    /// The cached objects.
    pub caches: Arc<Caches>,
    /// The reader for live reads, past the caches.
    pub reader: Reader,
    /// The reader for live reads of accounts. Tokens that are created together share one read.
    pub accounts: Arc<Joint<Account>>,
    /// The reader for live reads of Instances. The first values of many tokens share one read.
    pub instances: Arc<Joint<Instance>>,
    /// The right to write. An operator that does not lead has none.
    pub lead: Lead,
    /// The writer of objects and statuses.
    pub writer: Writer,
    /// The times of the last mints.
    pub mints: token::Mints,
    /// The knowledge if tokens are stamped.
    pub stamping: Arc<stamping::Stamping>,
    /// The knowledge of guards that can ask the verifier by HTTPS.
    pub by_https: Arc<https::ByHttps>,
    /// The check of the permissions of this process.
    pub rights: Rights,
    /// The heartbeats of loops and passes.
    pub pulse: Pulse,
    /// The cached rules of Instances.
    pub rules: Book<Instance, Made>,
    /// The parsed policies.
    pub policies: Book<AccessPolicy, Policy>,
    /// The writer of Events.
    pub events: Events,
    /// The events that are not written yet.
    pub untold: Untold,
    /// The probes of endpoints.
    pub prober: Arc<Prober>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The traces of passes.
    pub tracer: Tracer,
    /// True if the operator keeps the Roles and RoleBindings that follow from Instances, accounts and tokens.
    pub grants: bool,
    /// The settings of the cluster for exposing endpoints.
    pub exposure: Arc<ExposureConfig>,
}

impl Rooms {
    /// An Instance from the cache, with its rules.
    pub fn instance(&self, namespace: &str, name: &str) -> Option<Ruled> {
        self.caches.instances.get(namespace, name).map(|instance| self.rules.ruled(instance))
    }

    /// Writes a status with its events. The events are kept until they are written, or until the status certainly was
    /// not.
    ///
    /// # Errors
    /// The status was not written, or there was no answer.
    pub async fn write_status<K: Kind>(
        &self,
        object: &K,
        version: &Version,
        status: &K::Status,
        notes: &[Note],
    ) -> Result<Receipt, Refusal> {
        self.telling(object, notes, self.writer.status(object, version, status)).await
    }

    /// Runs `write` with its events. The events are kept until they are written, or until `write` certainly had no
    /// effect.
    ///
    /// # Errors
    /// The write was refused, or there was no answer.
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
    /// Objects that expose endpoints, of kinds that a cluster may not serve.
    pub exposing: Exposing,
    /// Namespaces.
    pub namespaces: Cache<NamespaceMeta>,
    /// Roles with our label. Empty if the operator grants nothing.
    pub roles: Cache<Role>,
    /// RoleBindings with our label. Empty if the operator grants nothing.
    pub bindings: Cache<RoleBinding>,
}

impl Caches {
    /// Waits until all kinds that every cluster serves have been listed. Before that, an object that exists can be
    /// missing in a cache.
    pub async fn synced(&self) {
        let Self {
            instances,
            accounts,
            policies,
            users,
            tokens,
            secrets,
            services,
            exposing: _,
            namespaces,
            roles,
            bindings,
        } = self;
        tokio::join!(
            instances.synced(),
            accounts.synced(),
            policies.synced(),
            users.synced(),
            tokens.synced(),
            secrets.synced(),
            services.synced(),
            namespaces.synced(),
            roles.synced(),
            bindings.synced(),
        );
    }

    /// Logs once that every kind has been listed, with the number of objects.
    pub async fn say_synced(&self) {
        self.synced().await;
        let (instances, accounts) = (self.instances.count(), self.accounts.count());
        let (tokens, policies) = (self.tokens.count(), self.policies.count());
        tracing::info!(instances, accounts, tokens, policies, "synced: every object was read once, and work begins");
    }

    /// Succeeds once all kinds have been listed. The error names the kinds that are missing.
    pub fn missing(&self) -> Result<(), String> {
        let Self {
            instances,
            accounts,
            policies,
            users,
            tokens,
            secrets,
            services,
            exposing: _,
            namespaces,
            roles,
            bindings,
        } = self;
        let synced = [
            ("Instance", instances.is_synced()),
            ("ServiceAccount of tokenry.dev", accounts.is_synced()),
            ("AccessPolicy", policies.is_synced()),
            ("ServiceAccount", users.is_synced()),
            ("ApiToken", tokens.is_synced()),
            ("Secret", secrets.is_synced()),
            ("Service", services.is_synced()),
            ("Namespace", namespaces.is_synced()),
            ("Role", roles.is_synced()),
            ("RoleBinding", bindings.is_synced()),
        ];
        let missing: Vec<_> = synced.iter().filter(|(_, synced)| !synced).map(|(kind, _)| *kind).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("waiting for the first list of: {}", missing.join(", "))) }
    }
}
