//! All writes to the API server except events and the Lease. Each write is sent once. The operator's writes have
//! preconditions and share one field manager.

use std::sync::Arc;

use http::{HeaderValue, header::ACCEPT};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{PartialObjectMeta, Request, request},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    Clock, Lead, Location, Refusal, Verb, Why,
    metrics::{Metrics, StoppedBy},
    replaced::Replaced,
};
use crate::{
    crd::{Account, ApiToken, SealedSecret, api_token::Use, name},
    token::{Digest, format},
};

/// The result of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Uid of the object.
    pub uid: String,
    /// The resourceVersion that the write gave it.
    pub version: String,
    /// When the write was answered.
    pub at: Timestamp,
}

/// The state of the object that a write expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No object of that name.
    Absent,
    /// This object, unchanged.
    Seen {
        /// Its uid.
        uid: String,
        /// Its resourceVersion.
        version: String,
    },
}

impl Expected {
    /// The object as it was read.
    pub fn seen(object: &impl Resource) -> Self {
        Self::of_meta(object.meta())
    }

    /// The object with this metadata, as it was read.
    pub fn of_meta(meta: &ObjectMeta) -> Self {
        Self::Seen {
            uid: meta.uid.clone().unwrap_or_default(),
            version: meta.resource_version.clone().unwrap_or_default(),
        }
    }

    /// The expectation as metadata of an apply or of a merge patch.
    ///
    /// For an absent object this is a resourceVersion that no object has. The server creates an absent object with any
    /// version, and answers 409 if the object exists. A test checks this against a real API server.
    fn preconditions(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        match self {
            Self::Absent => {
                fields.insert("resourceVersion".into(), "1".into());
            }
            Self::Seen { uid, version } => {
                fields.insert("uid".into(), uid.as_str().into());
                fields.insert("resourceVersion".into(), version.as_str().into());
            }
        }
        fields
    }
}

/// A kind that can be written.
pub trait Written: Resource<DynamicType = (), Scope = NamespaceResourceScope> {}
impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>> Written for K {}

/// Writes objects.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    lead: Lead,
    replaced: Arc<Replaced>,
}

impl Writer {
    /// A writer that uses `client`. `clock` dates its receipts.
    pub fn new(client: Client, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self { client, clock, metrics, lead: Lead::default(), replaced: Arc::default() }
    }

    /// The same writer, which writes only while `lead` permits it. A write waits until then. Dry runs do not wait.
    pub fn led_by(self, lead: Lead) -> Self {
        Self { lead, ..self }
    }

    /// True if this writer has already replaced the status of `object` at its version. The watch reports a write some
    /// moments after its answer. Until then every decision would be refused as stale.
    pub fn has_replaced(&self, object: &impl Resource) -> bool {
        let meta = object.meta();
        let (uid, version) = (meta.uid.as_deref(), meta.resource_version.as_deref());
        self.replaced.holds(uid.unwrap_or_default(), version.unwrap_or_default())
    }

    /// Applies `object`, if the server's object still is as `standing` says. Fields that Tokenry owns and `object`
    /// leaves out are removed.
    pub async fn apply<K: Written + Serialize>(&self, object: &K, standing: &Expected) -> Result<Receipt, Refusal> {
        let body = serde_json::to_value(object).expect("an object is plain data");
        self.apply_ours::<K>(&Location::of(object), standing, body, true).await
    }

    /// Applies `body`, if the server's object still is as `standing` says. A field of `body` that another manager owns
    /// makes the apply fail as stale. With `takes_back`, Tokenry takes such fields over. Fields that Tokenry owns and
    /// `body` leaves out are removed.
    pub async fn apply_ours<K: Written>(
        &self,
        object: &Location<'_>,
        standing: &Expected,
        mut body: Value,
        takes_back: bool,
    ) -> Result<Receipt, Refusal> {
        let metadata = body["metadata"].as_object_mut().expect("an object has metadata");
        metadata.extend(standing.preconditions());
        let params = PatchParams { force: takes_back, ..PatchParams::apply(name::MANAGER) };
        let request = Request::new(K::url_path(&(), Some(object.namespace)));
        self.send::<K>(Verb::PATCH, object, request.patch(object.name, &params, &Patch::Apply(body))).await
    }

    /// Creates the Secret that `body` describes, or changes the existing one, which may have further fields. `body` may
    /// hold a plaintext, so it is neither kept nor logged. The answer is requested without data.
    pub async fn write_secret(
        &self,
        secret: &Location<'_>,
        standing: &Expected,
        body: &impl SecretBody,
    ) -> Result<Receipt, Refusal> {
        let request = Request::new(SealedSecret::url_path(&(), Some(secret.namespace)));
        match standing {
            Expected::Absent => {
                let whole = serde_json::to_vec(&body.whole()).expect("a Secret is plain data");
                self.send::<SealedSecret>(Verb::CREATE, secret, request.create(&whole_by_us(), whole)).await
            }
            Expected::Seen { .. } => {
                let changes = Patch::Merge(Body(body.changes(standing.preconditions())));
                self.send::<SealedSecret>(Verb::PATCH, secret, request.patch(secret.name, &manager(), &changes)).await
            }
        }
    }

    /// Merges `changes` into an object that is unchanged since it was `seen`. Lists are replaced, and `null` removes a
    /// field. All other fields stay, so a Secret can be changed without knowing its value.
    pub async fn amend<K: Written>(&self, seen: &K, mut changes: Value) -> Result<Receipt, Refusal> {
        let metadata = changes["metadata"].as_object_mut().expect("changes have metadata");
        metadata.extend(Expected::seen(seen).preconditions());
        let location = Location::of(seen);
        let request = Request::new(K::url_path(&(), Some(location.namespace)));
        let request = request.patch(location.name, &manager(), &Patch::Merge(changes));
        self.send::<K>(Verb::PATCH, &location, request).await
    }

    /// Replaces the whole status of an object that is still at `version`. Fields that `status` leaves out are removed,
    /// also fields of other writers. A status write changes neither metadata nor spec.
    pub async fn status<K: Written>(
        &self,
        object: &K,
        version: &str,
        status: &impl Serialize,
    ) -> Result<Receipt, Refusal> {
        let (location, uid) = (Location::of(object), object.meta().uid.as_deref());
        let Location { namespace, name } = location;
        let body = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": { "namespace": namespace, "name": name, "uid": uid, "resourceVersion": version },
            "status": status,
        });
        let request = Request::new(K::url_path(&(), Some(namespace)));
        let request = request.replace_subresource("status", name, &whole_by_us(), body.to_string().into_bytes());
        self.replacing::<K>(Verb::UPDATE, &location, version, request).await
    }

    /// Replaces the conditions of an object that is still at `version`. All other fields of the status stay.
    pub async fn conditions<K: Written>(
        &self,
        object: &K,
        version: &str,
        conditions: &[Condition],
    ) -> Result<Receipt, Refusal> {
        let body = json!({ "metadata": { "resourceVersion": version }, "status": { "conditions": conditions } });
        let location = Location::of(object);
        let request = Request::new(K::url_path(&(), Some(location.namespace)));
        let request = request.patch_subresource("status", location.name, &manager(), &Patch::Merge(body));
        self.replacing::<K>(Verb::PATCH, &location, version, request).await
    }

    /// Sends a status write, and marks `version` as replaced.
    async fn replacing<K: Written>(
        &self,
        verb: Verb,
        address: &Location<'_>,
        version: &str,
        request: Draft,
    ) -> Result<Receipt, Refusal> {
        let receipt = self.send::<K>(verb.status(), address, request).await?;
        if receipt.version != version {
            self.replaced.add(&receipt.uid, version);
        }
        Ok(receipt)
    }

    /// Writes `status.use` of a token, the only status field that the verifier owns. Entries that `used` leaves out are
    /// removed.
    pub async fn used(&self, namespace: &str, name: &str, used: &[Use]) -> Result<Receipt, Refusal> {
        let body = json!({
            "apiVersion": ApiToken::api_version(&()), "kind": ApiToken::kind(&()), "status": { "use": used },
        });
        let params = PatchParams::apply(name::VERIFIER).force();
        let request = Request::new(ApiToken::url_path(&(), Some(namespace)));
        let request = request.patch_subresource("status", name, &params, &Patch::Apply(body));
        self.send::<ApiToken>(Verb::PATCH.status(), &Location { namespace, name }, request).await
    }

    /// Sends a dry run of a write that adds a record to a token's status. Success means that no admission policy
    /// protects the records.
    ///
    /// # Errors
    /// The API server refused the dry run or did not answer.
    pub async fn forge(&self, namespace: &str, name: &str) -> Result<(), Refusal> {
        let never = Timestamp::UNIX_EPOCH.to_string();
        let record = json!({
            "generation": 1, "id": "0".repeat(format::ID), "sha256": Digest::of("").to_string(), "state": "Expired",
            "createdAt": never, "expiresAt": never,
        });
        let params =
            PatchParams { dry_run: true, field_manager: Some(name::VERIFIER.into()), ..PatchParams::default() };
        let body = Patch::Merge(json!({ "status": { "records": [record] } }));
        let request = Request::new(ApiToken::url_path(&(), Some(namespace)));
        let request = request.patch_subresource("status", name, &params, &body);
        self.send::<ApiToken>(Verb::PATCH.status(), &Location { namespace, name }, request).await.map(|_| ())
    }

    /// Sends a dry run of an account's creation. Returns true if the mutating admission policies have marked the
    /// account. The metrics do not count this as a write.
    ///
    /// # Errors
    /// The API server refused the dry run or did not answer.
    pub async fn rehearse(&self, namespace: &str) -> Result<bool, Refusal> {
        let body = json!({
            "apiVersion": Account::api_version(&()), "kind": Account::kind(&()),
            "metadata": { "generateName": name::REHEARSAL }, "spec": { "instanceRef": { "name": "rehearsal" } },
        });
        let params = PostParams { dry_run: true, ..whole_by_us() };
        let request = Request::new(Account::url_path(&(), Some(namespace)));
        let made = self.answered::<Account>(request.create(&params, body.to_string().into_bytes())).await;
        let made = made.map_err(Refusal::of::<Account, _>(Verb::CREATE, namespace, ""))?;
        Ok(made.annotations.is_some_and(|marks| marks.contains_key(name::REHEARSED)))
    }

    /// Deletes an object that is unchanged since it was read. Success also if the object does not exist any more.
    pub async fn delete<K: Written + Clone + DeserializeOwned + std::fmt::Debug>(
        &self,
        object: &K,
    ) -> Result<(), Refusal> {
        let Location { namespace, name } = Location::of(object);
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), namespace);
        let meta = object.meta();
        let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
        let params = DeleteParams::background().preconditions(preconditions);
        self.permitted().await;
        let answer = api.delete(name, &params).await.map(|_| ()).map_err(Why::from);
        self.note::<K>(Verb::DELETE, answer.as_ref().copied());
        match answer {
            Ok(()) | Err(Why::Gone) => Ok(()),
            Err(why) => Err(Refusal::of::<K, _>(Verb::DELETE, namespace, name)(why)),
        }
    }

    /// Sends a request about the object at `address`. Metrics and errors name the request by `verb`.
    pub(super) async fn send<K: Written>(
        &self,
        verb: Verb,
        address: &Location<'_>,
        request: Draft,
    ) -> Result<Receipt, Refusal> {
        self.permitted().await;
        let answer = self.answered::<K>(request).await;
        self.note::<K>(verb, answer.as_ref().map(|_| ()));
        let meta = answer.map_err(Refusal::of::<K, _>(verb, address.namespace, address.name))?;
        Ok(Receipt {
            uid: meta.uid.unwrap_or_default(),
            version: meta.resource_version.unwrap_or_default(),
            at: self.clock.now(),
        })
    }

    /// Waits until this process may write. A leader that lost its Lease waits for the end of its process.
    async fn permitted(&self) {
        if !self.lead.holds() {
            tracing::warn!("a write is held back, because this operator does not lead");
            self.metrics.late_write(StoppedBy::Deadline);
            self.lead.begun().await;
        }
    }

    /// Counts a write. A precondition can stop a write that was sent in time, and arrived too late.
    fn note<K: Written>(&self, verb: Verb, answer: Result<(), &Why>) {
        self.metrics.write(&K::kind(&()), verb, answer);
        if self.lead.holds() {
            return;
        }
        let (stopped_by, said) = match answer {
            Err(Why::Stale) => (StoppedBy::Precondition, "was refused by its precondition: another operator leads"),
            Ok(()) => (StoppedBy::Nothing, "succeeded, and may have come after a write of another operator"),
            Err(Why::Gone | Why::Invalid(_) | Why::Forbidden(_) | Why::Unauthenticated(_) | Why::Unavailable(_)) => {
                return;
            }
        };
        let kind = K::kind(&());
        tracing::warn!(%kind, verb = verb.name(), "a late write {said}");
        self.metrics.late_write(stopped_by);
    }

    /// Sends a request, and returns the object's metadata from the answer.
    async fn answered<K: Written>(&self, request: Draft) -> Result<ObjectMeta, Why> {
        // Only metadata is requested, so that a Secret's data is not sent back.
        const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let mut request = request?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA));
        let answer: PartialObjectMeta<K> = self.client.request(request).await?;
        Ok(answer.metadata)
    }
}

/// A Secret that can be serialized with preconditions in its metadata. It need not implement
/// [`Debug`](std::fmt::Debug).
pub trait SecretBody {
    /// The whole Secret, for a creation.
    fn whole(&self) -> impl Serialize;
    /// The changes to an existing Secret, as a merge patch.
    fn changes(&self, preconditions: Map<String, Value>) -> impl Serialize;
}

/// Wraps a body for `Patch`, which requires `Debug`. The debug output never shows the body.
#[derive(Serialize)]
#[serde(transparent)]
struct Body<T>(T);

impl<T> std::fmt::Debug for Body<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[body]")
    }
}

/// A prepared request, or the reason why it cannot be built.
pub(super) type Draft = Result<http::Request<Vec<u8>>, request::Error>;

/// The parameters of a patch: Tokenry's field manager.
pub(super) fn manager() -> PatchParams {
    PatchParams { field_manager: Some(name::MANAGER.into()), ..PatchParams::default() }
}

/// The parameters of a whole write: Tokenry's field manager.
fn whole_by_us() -> PostParams {
    PostParams { field_manager: Some(name::MANAGER.into()), ..PostParams::default() }
}

/// True if `observed` has every field of `desired`. `observed` may have more fields, such as the server's defaults.
/// Lists have to have the same length.
pub fn holds(observed: &Value, desired: &Value) -> bool {
    match (observed, desired) {
        (Value::Object(observed), Value::Object(desired)) => desired
            .iter()
            .all(|(key, value)| observed.get(key).map_or(value.is_null(), |observed| holds(observed, value))),
        (Value::Array(observed), Value::Array(desired)) => {
            observed.len() == desired.len()
                && observed.iter().zip(desired).all(|(observed, desired)| holds(observed, desired))
        }
        (observed, desired) => observed == desired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observed_object_may_say_more_and_never_less() {
        let observed =
            json!({"spec": {"type": "ClusterIP", "ports": [{"port": 443, "protocol": "TCP"}]}, "status": {}});
        assert!(holds(&observed, &json!({"spec": {"ports": [{"port": 443}]}})));
        for differs in [
            json!({"spec": {"ports": [{"port": 80}]}}),
            json!({"spec": {"ports": []}}),
            json!({"spec": {"selector": {"a": "b"}}}),
        ] {
            assert!(!holds(&observed, &differs), "{differs}");
        }
    }
}
