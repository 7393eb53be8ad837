//! Every write to the API server but events: with preconditions, under one field manager, once.

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

use super::{Clock, Location, Refusal, Why, metrics::Metrics, replaced::Replaced};
use crate::{
    crd::{Account, ApiToken, SealedSecret, api_token::Use, name},
    token::{Digest, format},
};

/// What stands now, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Uid of the object.
    pub uid: String,
    /// The resourceVersion that the write gave it.
    pub version: String,
    /// When the write was answered.
    pub at: Timestamp,
}

/// What a write expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No object of that name.
    Absent,
    /// This very object, unchanged.
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
        let meta = object.meta();
        Self::Seen {
            uid: meta.uid.clone().unwrap_or_default(),
            version: meta.resource_version.clone().unwrap_or_default(),
        }
    }

    /// As metadata of an apply.
    ///
    /// For an absent object it is a resourceVersion that no object has: the server creates an absent object whatever
    /// version is given, and answers 409 where one exists. Measured, and held by a test.
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

/// What can be written.
pub trait Written: Resource<DynamicType = (), Scope = NamespaceResourceScope> {}
impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>> Written for K {}

/// Writes objects.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    replaced: Arc<Replaced>,
}

impl Writer {
    /// A writer by `client`, whose receipts are dated by `clock`.
    pub fn new(client: Client, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self { client, clock, metrics, replaced: Arc::default() }
    }

    /// Whether `object` was read before a status that was written here. A watch tells of a write some moments after its
    /// answer; whatever is decided until then would be refused as stale.
    pub fn has_replaced(&self, object: &impl Resource) -> bool {
        let meta = object.meta();
        let (uid, version) = (meta.uid.as_deref(), meta.resource_version.as_deref());
        self.replaced.holds(uid.unwrap_or_default(), version.unwrap_or_default())
    }

    /// Applies `object`, where `standing` is still what stands. Fields of ours that it leaves out are removed.
    pub async fn apply<K: Written + Serialize>(&self, object: &K, standing: &Expected) -> Result<Receipt, Refusal> {
        let body = serde_json::to_value(object).expect("an object is plain data");
        self.apply_ours::<K>(&Location::of(object), standing, body, true).await
    }

    /// Applies `body`, where `standing` is still what stands. A field that another manager has set is refused as stale,
    /// unless this `takes_back` what it names. Fields of ours that it leaves out are removed.
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
        self.send::<K>("apply", object, request.patch(object.name, &params, &Patch::Apply(body))).await
    }

    /// Makes the Secret that `body` describes, or changes the one that stands, which may say more. `body` may hold a
    /// plaintext: it is neither kept nor logged, and the answer is asked for without data.
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
                self.send::<SealedSecret>("create", secret, request.create(&whole_by_us(), whole)).await
            }
            Expected::Seen { .. } => {
                let changes = Patch::Merge(Body(body.changes(standing.preconditions())));
                self.send::<SealedSecret>("amend", secret, request.patch(secret.name, &manager(), &changes)).await
            }
        }
    }

    /// Merges `changes` into an object that is still as it was `seen`: lists are replaced, `null` removes, and what is
    /// not named is not touched. So a Secret is brought up to date without knowing its value.
    pub async fn amend<K: Written>(&self, seen: &K, mut changes: Value) -> Result<Receipt, Refusal> {
        let metadata = changes["metadata"].as_object_mut().expect("changes have metadata");
        metadata.extend(Expected::seen(seen).preconditions());
        let location = Location::of(seen);
        let request = Request::new(K::url_path(&(), Some(location.namespace)));
        let request = request.patch(location.name, &manager(), &Patch::Merge(changes));
        self.send::<K>("amend", &location, request).await
    }

    /// Replaces the whole status of an object that is still at `version`: what `status` leaves out is removed, also
    /// what someone else wrote there. Metadata and spec stay: a write of a status changes neither.
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
        self.replacing::<K>(&location, version, request).await
    }

    /// Replaces the conditions of an object that is still at `version`. All else of its status stays as it is.
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
        self.replacing::<K>(&location, version, request).await
    }

    /// Sends a write of a status, after which `version` is of the past.
    async fn replacing<K: Written>(
        &self,
        address: &Location<'_>,
        version: &str,
        request: Draft,
    ) -> Result<Receipt, Refusal> {
        let receipt = self.send::<K>("status", address, request).await?;
        if receipt.version != version {
            self.replaced.add(&receipt.uid, version);
        }
        Ok(receipt)
    }

    /// Says when a token was used: the one part of a status that is the verifier's. What it said before and leaves out
    /// now is removed.
    pub async fn used(&self, namespace: &str, name: &str, used: &[Use]) -> Result<Receipt, Refusal> {
        let body = json!({
            "apiVersion": ApiToken::api_version(&()), "kind": ApiToken::kind(&()), "status": { "use": used },
        });
        let params = PatchParams::apply(name::VERIFIER).force();
        let request = Request::new(ApiToken::url_path(&(), Some(namespace)));
        let request = request.patch_subresource("status", name, &params, &Patch::Apply(body));
        self.send::<ApiToken>("use", &Location { namespace, name }, request).await
    }

    /// Tries to write a record into the status of a token, without any effect.
    ///
    /// # Errors
    /// It would not be done.
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
        self.send::<ApiToken>("forge", &Location { namespace, name }, request).await.map(|_| ())
    }

    /// Tries to make an account, without any effect, and says whether the policies that stamp have marked it. It is no
    /// write, and is not counted as one.
    ///
    /// # Errors
    /// It would not be done.
    pub async fn rehearse(&self, namespace: &str) -> Result<bool, Refusal> {
        let body = json!({
            "apiVersion": Account::api_version(&()), "kind": Account::kind(&()),
            "metadata": { "generateName": name::REHEARSAL }, "spec": { "instanceRef": { "name": "rehearsal" } },
        });
        let params = PostParams { dry_run: true, ..whole_by_us() };
        let request = Request::new(Account::url_path(&(), Some(namespace)));
        let made = self.answered::<Account>(request.create(&params, body.to_string().into_bytes())).await;
        let made = made.map_err(Refusal::of::<Account, _>("rehearse", namespace, ""))?;
        Ok(made.annotations.is_some_and(|marks| marks.contains_key(name::REHEARSED)))
    }

    /// Deletes an object that is still as it was seen. One that is gone already is as good.
    pub async fn delete<K: Written + Clone + DeserializeOwned + std::fmt::Debug>(
        &self,
        object: &K,
    ) -> Result<(), Refusal> {
        let Location { namespace, name } = Location::of(object);
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), namespace);
        let meta = object.meta();
        let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
        let params = DeleteParams::background().preconditions(preconditions);
        let answer = api.delete(name, &params).await.map(|_| ()).map_err(Why::from);
        self.metrics.write(&K::kind(&()), "delete", answer.as_ref().copied());
        match answer {
            Ok(()) | Err(Why::Gone) => Ok(()),
            Err(why) => Err(Refusal::of::<K, _>("delete", namespace, name)(why)),
        }
    }

    /// Sends what is to be done, by the word `verb`, to the object at `address`.
    pub(super) async fn send<K: Written>(
        &self,
        verb: &'static str,
        address: &Location<'_>,
        request: Draft,
    ) -> Result<Receipt, Refusal> {
        let answer = self.answered::<K>(request).await;
        self.metrics.write(&K::kind(&()), verb, answer.as_ref().map(|_| ()));
        let meta = answer.map_err(Refusal::of::<K, _>(verb, address.namespace, address.name))?;
        Ok(Receipt {
            uid: meta.uid.unwrap_or_default(),
            version: meta.resource_version.unwrap_or_default(),
            at: self.clock.now(),
        })
    }

    /// The metadata of what stands after a request.
    async fn answered<K: Written>(&self, request: Draft) -> Result<ObjectMeta, Why> {
        // Metadata is all that is read of an answer; asked for alone, a Secret's data does not travel back.
        const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let mut request = request?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA));
        let answer: PartialObjectMeta<K> = self.client.request(request).await?;
        Ok(answer.metadata)
    }
}

/// A Secret that can be written down with preconditions in its metadata. It need not be [`Debug`](std::fmt::Debug).
pub trait SecretBody {
    /// All of it, for one that is made.
    fn whole(&self) -> impl Serialize;
    /// What it is to say, as a merge patch of one that stands.
    fn changes(&self, preconditions: Map<String, Value>) -> impl Serialize;
}

/// Carries a body through `Patch`, which wants to be able to print it; what it prints is nothing.
#[derive(Serialize)]
#[serde(transparent)]
struct Body<T>(T);

impl<T> std::fmt::Debug for Body<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[body]")
    }
}

/// A request as it was written down, or why it cannot be.
pub(super) type Draft = Result<http::Request<Vec<u8>>, request::Error>;

/// Who changes parts of objects.
pub(super) fn manager() -> PatchParams {
    PatchParams { field_manager: Some(name::MANAGER.into()), ..PatchParams::default() }
}

/// Who writes whole objects: the same.
fn whole_by_us() -> PostParams {
    PostParams { field_manager: Some(name::MANAGER.into()), ..PostParams::default() }
}

/// Whether `observed` holds everything that `desired` says; it may say more, as the server's defaults do.
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
