//! What every test stands on: one control plane for all, a namespace for each.

pub mod clock;
mod evidence;
pub mod fault;
pub mod grants;
pub mod judged;
pub mod proxy;
pub mod run;
pub mod tunnel;
pub mod wire;
mod witness;

use std::{
    path::Path,
    sync::{
        OnceLock,
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

/// The longest that anything is waited for. Only what is broken takes that long.
const DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);

/// A control plane with Tokenry's definitions and rights.
pub struct Plane {
    pub plane: &'static ControlPlane,
    pub identities: Identities,
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The one that all tests share. Tests share addresses and credentials, never a client: it dies with its runtime.
pub fn plane() -> &'static Plane {
    static PLANE: OnceLock<Plane> = OnceLock::new();
    PLANE.get_or_init(|| {
        let plane = ControlPlane::shared();
        log();
        plane.install_crds(root()).unwrap();
        Plane { plane, identities: plane.install_rights(root()).unwrap() }
    })
}

/// RUST_LOG=debug shows what the operators and verifiers of the tests do.
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// A namespace of one test, seen by an administrator.
pub struct World {
    pub plane: &'static ControlPlane,
    pub identities: Identities,
    pub namespace: String,
    pub client: Client,
    /// What its operators and verifiers look at.
    pub scope: Extent,
    /// Where the audit log was when it began.
    since: u64,
}

/// What was asked meanwhile is evidence.
impl Drop for World {
    fn drop(&mut self) {
        witness::ended(self);
    }
}

/// Who the operator is to the API server.
pub const OPERATOR: &str = "system:serviceaccount:tokenry-system:tokenry-operator";
/// And who the verifier is.
pub const VERIFIER: &str = "system:serviceaccount:tokenry-system:tokenry-verifier";

/// How the user names of our accounts begin, and those of users who are named after a role of the chart.
const ACCOUNT: &str = "system:serviceaccount:tokenry-system:";
const ROLE: &str = "role:";

impl World {
    /// A fresh namespace of the shared control plane. Its operators and verifiers look at nothing else.
    pub async fn new(name: &str) -> Self {
        Self::within(plane(), name, json!({})).await.scoped()
    }

    /// A fresh namespace of a control plane that this test has to itself, without definitions. Its operators and
    /// verifiers look at all namespaces. The servers end with the process.
    pub async fn alone(name: &str) -> Self {
        log();
        let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().unwrap()));
        let identities = plane.install_rights(root()).unwrap();
        Self::within(&Plane { plane, identities }, name, json!({})).await
    }

    /// Another fresh namespace of the same control plane, with labels.
    pub async fn beside(&self, name: &str, labels: Value) -> Self {
        let plane = Plane { plane: self.plane, identities: self.identities.clone() };
        Self::within(&plane, name, labels).await
    }

    /// A fresh namespace of `plane`, with labels.
    pub async fn within(Plane { plane, identities }: &Plane, name: &str, labels: Value) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("{name}-{}", COUNT.fetch_add(1, Ordering::SeqCst));
        let client = plane.client();
        let object = json!({"metadata": {"name": namespace, "labels": labels}});
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let since = plane.audit_end();
        let identities = identities.clone();
        let world = Self { plane, identities, namespace, client, scope: Extent::Cluster, since };
        witness::begun(&world);
        world
    }

    fn scoped(mut self) -> Self {
        self.scope = Extent::Namespace(self.namespace.clone());
        self
    }

    /// The objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A client that acts as `user`. What it is refused is refused on purpose, and is nobody's fault.
    pub fn acting_as(&self, user: &str) -> Client {
        let mut config = self.plane.config(self.plane.admin_token());
        config.auth_info.impersonate = Some(user.to_owned());
        Client::try_from(config).unwrap()
    }

    /// A client that acts as a user with one role of the chart in this namespace, and nothing else.
    pub fn acting_by(&self, role: &str) -> Client {
        let user = format!("{ROLE}{role}");
        let binding = ["create", "rolebinding", role, "--clusterrole", role, "--user", &user];
        self.plane.kubectl(&[&binding[..], &["--namespace", &self.namespace]].concat()).unwrap();
        self.acting_as(&user)
    }

    /// Any object of ours by kind and name.
    fn dynamic(&self, kind: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("tokenry.dev", "v1alpha1", kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk(&gvk))
    }

    /// Creates an object of ours as an administrator; what the server says is the answer.
    pub async fn create(&self, kind: &str, name: &str, spec: Value) -> Result<DynamicObject, String> {
        let object = json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        self.dynamic(kind).create(&PostParams::default(), &object).await.map_err(message)
    }

    /// Creates an object that has to be accepted.
    pub async fn accepts(&self, kind: &str, name: &str, spec: Value) -> DynamicObject {
        self.create(kind, name, spec).await.unwrap_or_else(|message| panic!("{kind} {name} was refused: {message}"))
    }

    /// Creates an object that has to be refused, and hands back the message.
    pub async fn rejects(&self, kind: &str, name: &str, spec: Value) -> String {
        match self.create(kind, name, spec).await {
            Err(message) => message,
            Ok(object) => panic!("{kind} {name} was accepted: {}", serde_json::to_string(&object).unwrap()),
        }
    }

    /// Changes the spec of an object of ours by a merge patch; what the server says is the answer.
    pub async fn change(&self, kind: &str, name: &str, spec: Value) -> Result<DynamicObject, String> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.dynamic(kind).patch(name, &PatchParams::default(), &patch).await.map_err(message)
    }

    /// The smallest Instance and the smallest token, which is `ci`.
    pub async fn smallest(&self) {
        self.accepts("Instance", "eem", json!({})).await;
        self.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    }

    /// Deletes an object of ours.
    pub async fn delete(&self, kind: &str, name: &str) {
        self.dynamic(kind).delete(name, &Default::default()).await.unwrap();
    }

    /// A token as it is now.
    pub async fn token(&self, name: &str) -> ApiToken {
        self.api::<ApiToken>().get(name).await.unwrap()
    }

    /// One condition of a token as it is now.
    pub async fn condition(&self, name: &str, type_: &str) -> Option<Condition> {
        let status = self.token(name).await.status?;
        status.conditions.into_iter().find(|condition| condition.type_ == type_)
    }

    /// Waits until the reason of a token's `Ready` is this one, and hands back the token.
    pub async fn await_reason(&self, name: &str, reason: &str) -> ApiToken {
        self.eventually(&format!("ApiToken {name} says {reason}"), async || {
            let token = self.api::<ApiToken>().get_opt(name).await.unwrap()?;
            let conditions = &token.status.as_ref()?.conditions;
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
            (ready.reason == reason && ready.observed_generation == token.metadata.generation).then_some(token)
        })
        .await
    }

    /// Waits until a token's served generation is this one, and hands back its value.
    pub async fn await_generation(&self, name: &str, generation: i64) -> String {
        self.eventually(&format!("ApiToken {name} serves generation {generation}"), async || {
            let token = self.api::<ApiToken>().get_opt(name).await.unwrap()?;
            let served = tokenry::token::Records::at(&token.status.as_ref()?.records, jiff::Timestamp::UNIX_EPOCH);
            (served.served()?.generation == generation).then_some(())
        })
        .await;
        self.value(name).await.expect("a served generation is in the Secret")
    }

    /// What a key of a Secret holds.
    pub async fn key(&self, secret: &str, key: &str) -> Option<String> {
        let secret = self.api::<Secret>().get_opt(secret).await.unwrap()?;
        let data = secret.data?.remove(key)?;
        Some(String::from_utf8(data.0).unwrap())
    }

    /// The value that a Secret delivers.
    pub async fn value(&self, secret: &str) -> Option<String> {
        self.key(secret, "token").await
    }

    /// The reasons of the events about an object, each as often as it was told, in no order.
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

    /// Waits until the events about an object have these reasons, in alphabetical order: they are written after all
    /// else.
    pub async fn await_events(&self, kind: &str, name: &str, reasons: &[&str]) {
        self.eventually(&format!("the events about {kind} {name} are {reasons:?}"), async || {
            let mut events = self.events(kind, name).await;
            events.sort();
            (events == reasons).then_some(())
        })
        .await;
    }

    /// Waits until `look` sees something. On failure everything in the namespace is printed.
    pub async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        self.patiently(DEADLINE, what, look).await
    }

    /// The same, for what the API server itself tries again only after minutes.
    pub async fn patiently<T>(&self, deadline: Duration, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            if start.elapsed() > deadline {
                panic!("waited in vain until {what}\n{}", self.dump());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What was asked of the API server since the world began, by anybody.
    pub fn audited(&self) -> Vec<AuditEvent> {
        self.plane.audit_from(self.since).0
    }

    /// Everything of ours in the namespace, for a failure's message.
    pub fn dump(&self) -> String {
        let kinds = "apitokens,instances,accesspolicies,serviceaccounts.tokenry.dev,secrets,services,ingresses,events.events.k8s.io";
        let args = ["get", kinds, "--namespace", &self.namespace, "-o", "yaml"];
        self.plane.kubectl(&args).unwrap_or_else(|error| error)
    }
}

/// The message of the API server.
pub fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("no answer: {other}"),
    }
}
