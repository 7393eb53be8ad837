//! The harness of all tests: one shared control plane, and a namespace for each test.

pub mod api;
pub mod clock;
pub mod edge;
pub mod evidence;
pub mod fault;
pub mod grants;
pub mod hand;
pub mod judged;
pub mod process;
pub mod proxy;
pub mod release;
pub mod rights;
pub mod run;
pub mod secured;
pub mod tunnel;
pub mod wire;
mod witness;

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use controlplane::{AuditEvent, ControlPlane, Identities};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Secret},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokenry::{crd::ApiToken, outside::Extent};

/// Timeout of each wait. A working system needs much less.
pub const DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);

/// A control plane with Tokenry's roles, core ServiceAccounts and admission policies.
pub struct Plane {
    pub plane: Arc<ControlPlane>,
    pub identities: Identities,
}

/// The root directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shared control plane, with Tokenry's CRDs. Tests share its addresses and credentials, but never a client. A
/// client stops working when the runtime of its test ends.
pub fn plane() -> &'static Plane {
    static PLANE: OnceLock<Plane> = OnceLock::new();
    PLANE.get_or_init(|| installed(ControlPlane::shared().clone()))
}

/// A control plane with Tokenry's CRDs, roles, core ServiceAccounts and admission policies.
fn installed(plane: Arc<ControlPlane>) -> Plane {
    log();
    plane.install_crds(root()).unwrap();
    let identities = plane.install_rights(root()).unwrap();
    Plane { plane, identities }
}

/// Starts logging. `RUST_LOG=debug` shows the actions of the operators and verifiers of the tests.
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// The namespace of one test, with an administrator's client.
pub struct World {
    pub plane: Arc<ControlPlane>,
    pub identities: Identities,
    pub namespace: String,
    pub client: Client,
    /// The namespaces that the world's operators and verifiers serve.
    pub scope: Extent,
    /// The end of the audit log at the start of the world, as an offset in bytes.
    since: u64,
}

/// Writes the world's requests to the evidence.
impl Drop for World {
    fn drop(&mut self) {
        witness::ended(self);
    }
}

/// The user name of the operator.
pub const OPERATOR: &str = "system:serviceaccount:tokenry-system:tokenry-operator";
/// The user name of the verifier.
pub const VERIFIER: &str = "system:serviceaccount:tokenry-system:tokenry-verifier";

/// The prefix of the user names of the chart's core ServiceAccounts.
const ACCOUNT: &str = "system:serviceaccount:tokenry-system:";
/// The prefix of the user names of test users that are named after a role of the chart.
const ROLE: &str = "role:";

impl World {
    /// A new namespace of the shared control plane. The world's operators and verifiers serve only this namespace.
    pub async fn new(name: &str) -> Self {
        Self::within(plane(), name, json!({})).await.scoped()
    }

    /// A new namespace of a separate control plane, without CRDs. The world's operators and verifiers serve all
    /// namespaces. The servers end with the last world of that control plane.
    pub async fn alone(name: &str) -> Self {
        log();
        let plane = Arc::new(ControlPlane::start().unwrap());
        let identities = plane.install_rights(root()).unwrap();
        Self::within(&Plane { plane, identities }, name, json!({})).await
    }

    /// Another new namespace of the same control plane, with labels.
    pub async fn beside(&self, name: &str, labels: Value) -> Self {
        let plane = Plane { plane: self.plane.clone(), identities: self.identities.clone() };
        Self::within(&plane, name, labels).await
    }

    /// A new namespace of `plane`, with labels. The world's operators and verifiers serve all namespaces.
    pub async fn within(Plane { plane, identities }: &Plane, name: &str, labels: Value) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("{name}-{}", COUNT.fetch_add(1, Ordering::SeqCst));
        let client = plane.client();
        let object = json!({"metadata": {"name": namespace, "labels": labels}});
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let since = plane.audit_end();
        let (plane, identities) = (plane.clone(), identities.clone());
        let world = Self { plane, identities, namespace, client, scope: Extent::Cluster, since };
        witness::begun(&world);
        world
    }

    fn scoped(mut self) -> Self {
        self.scope = Extent::of([&self.namespace]);
        self
    }

    /// The API of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A client that acts as `user`. Refusals of its requests are expected, and are no evidence of a missing
    /// permission.
    pub fn acting_as(&self, user: &str) -> Client {
        let mut config = self.plane.config(self.plane.admin_token());
        config.auth_info.impersonate = Some(user.to_owned());
        Client::try_from(config).unwrap()
    }

    /// A client that acts as a user with one role of the chart in this namespace, and without other permissions.
    pub fn acting_by(&self, role: &str) -> Client {
        let user = format!("{ROLE}{role}");
        let binding = ["create", "rolebinding", role, "--clusterrole", role, "--user", &user];
        self.plane.kubectl(&[&binding[..], &["--namespace", &self.namespace]].concat()).unwrap();
        self.acting_as(&user)
    }

    /// The API of a kind of tokenry.dev in this namespace.
    fn dynamic(&self, kind: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("tokenry.dev", "v1alpha1", kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk(&gvk))
    }

    /// Creates an object of tokenry.dev as an administrator. The error is the message of the API server.
    pub async fn create(&self, kind: &str, name: &str, spec: Value) -> Result<DynamicObject, String> {
        let object = json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        let created = polled(DEADLINE, || async {
            let created = self.dynamic(kind).create(&PostParams::default(), &object).await.map_err(message);
            // A new definition is served some moments after it is established, and the policies get to know it later.
            let early = ["404 page not found", "There can be a delay between when"];
            let is_early = created.as_ref().is_err_and(|told| early.iter().any(|text| told.contains(text)));
            (!is_early).then_some(created)
        });
        created.await.unwrap_or_else(|| panic!("{kind} was not served, or not known to the policies"))
    }

    /// Creates an object. Panics if the API server rejects it.
    pub async fn accepts(&self, kind: &str, name: &str, spec: Value) -> DynamicObject {
        self.create(kind, name, spec).await.unwrap_or_else(|message| panic!("{kind} {name} was refused: {message}"))
    }

    /// Tries to create an object, and returns the message of the rejection. Panics if the API server accepts the
    /// object.
    pub async fn rejects(&self, kind: &str, name: &str, spec: Value) -> String {
        match self.create(kind, name, spec).await {
            Err(message) => message,
            Ok(object) => panic!("{kind} {name} was accepted: {}", serde_json::to_string(&object).unwrap()),
        }
    }

    /// Changes the spec of an object of tokenry.dev by a merge patch. The error is the message of the API server.
    pub async fn change(&self, kind: &str, name: &str, spec: Value) -> Result<DynamicObject, String> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.dynamic(kind).patch(name, &PatchParams::default(), &patch).await.map_err(message)
    }

    /// Creates the smallest Instance, `eem`, and the smallest token, `ci`.
    pub async fn smallest(&self) {
        self.accepts("Instance", "eem", json!({})).await;
        self.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    }

    /// Deletes an object of tokenry.dev.
    pub async fn delete(&self, kind: &str, name: &str) {
        self.dynamic(kind).delete(name, &Default::default()).await.unwrap();
    }

    /// The current token.
    pub async fn token(&self, name: &str) -> ApiToken {
        self.api::<ApiToken>().get(name).await.unwrap()
    }

    /// A current condition of a token.
    pub async fn condition(&self, name: &str, type_: &str) -> Option<Condition> {
        let status = self.token(name).await.status?;
        status.conditions.into_iter().find(|condition| condition.type_ == type_)
    }

    /// Waits until the token's condition `Ready` has this reason for the current spec, and returns the token.
    pub async fn await_reason(&self, name: &str, reason: &str) -> ApiToken {
        self.eventually(&format!("ApiToken {name} says {reason}"), async || {
            let token = self.api::<ApiToken>().get_opt(name).await.unwrap()?;
            let conditions = &token.status.as_ref()?.conditions;
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
            (ready.reason == reason && ready.observed_generation == token.metadata.generation).then_some(token)
        })
        .await
    }

    /// Waits until the token serves this generation, and returns its value.
    pub async fn await_generation(&self, name: &str, generation: i64) -> String {
        self.eventually(&format!("ApiToken {name} serves generation {generation}"), async || {
            let token = self.api::<ApiToken>().get_opt(name).await.unwrap()?;
            let served = tokenry::token::Records::at(&token.status.as_ref()?.records, jiff::Timestamp::UNIX_EPOCH);
            (served.served()?.generation == generation).then_some(())
        })
        .await;
        self.value(name).await.expect("a served generation is in the Secret")
    }

    /// The text in a key of a Secret.
    pub async fn key(&self, secret: &str, key: &str) -> Option<String> {
        let secret = self.api::<Secret>().get_opt(secret).await.unwrap()?;
        let data = secret.data?.remove(key)?;
        Some(String::from_utf8(data.0).unwrap())
    }

    /// The token value in a Secret.
    pub async fn value(&self, secret: &str) -> Option<String> {
        self.key(secret, "token").await
    }

    /// The names of the events about an object, each as often as it was told, in no order.
    pub async fn events(&self, kind: &str, name: &str) -> Vec<String> {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let about = events.into_iter().filter(|event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|r| r.name.as_deref() == Some(name) && r.kind.as_deref() == Some(kind))
        });
        let each = about.map(|event| {
            let count = event.series.map_or(1, |series| series.count);
            std::iter::repeat_n(event.reason.unwrap(), count as usize)
        });
        each.flatten().collect()
    }

    /// Waits until the events about an object have these names, in alphabetical order: they are written after all
    /// else.
    pub async fn await_events(&self, kind: &str, name: &str, reasons: &[&str]) {
        self.eventually(&format!("the events about {kind} {name} are {reasons:?}"), async || {
            let mut events = self.events(kind, name).await;
            events.sort();
            (events == reasons).then_some(())
        })
        .await;
    }

    /// Polls until `look` returns a value. After the timeout, panics with all objects of the namespace.
    pub async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        self.patiently(DEADLINE, what, look).await
    }

    /// The same as [`World::eventually`] with another timeout. Some tests need a long timeout, because the API server
    /// itself tries again only after minutes.
    pub async fn patiently<T>(&self, deadline: Duration, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let seen = polled(deadline, || look()).await;
        seen.unwrap_or_else(|| panic!("timed out while waiting until {what}\n{}", self.dump()))
    }

    /// All requests to the API server since the start of the world, by all users.
    pub fn audited(&self) -> Vec<AuditEvent> {
        self.plane.audit_from(self.since).0
    }

    /// All objects of Tokenry in the namespace, for the message of a failure.
    pub fn dump(&self) -> String {
        let kinds = "apitokens,instances,accesspolicies,serviceaccounts.tokenry.dev,secrets,services,ingresses,roles,rolebindings,events.events.k8s.io";
        let args = ["get", kinds, "--namespace", &self.namespace, "-o", "yaml"];
        self.plane.kubectl(&args).unwrap_or_else(|error| error)
    }
}

/// Polls until `look` returns a value. `None` after the timeout.
pub async fn polled<T, F>(deadline: Duration, mut look: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return Some(seen);
        }
        if begun.elapsed() > deadline {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The message of the API server. Panics if there was no answer.
pub fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("no answer: {other}"),
    }
}
