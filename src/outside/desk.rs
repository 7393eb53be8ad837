//! The API server as a user of the command line works with it: with the rights of that user, and no more.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    authentication::v1::{SelfSubjectReview, UserInfo},
    core::v1::Secret,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::{
    Reader, Refusal, Verb, Why,
    readable::Readable,
    reader::{Read, found},
};
use crate::crd::name;

/// The field manager of the command line.
const MANAGER: &str = "tokenry-cli";
/// The time for which a forbidden request is tried again. The operator may be about to grant the right: it keeps
/// RoleBindings for members and owners.
const GRANTED_WITHIN: Duration = Duration::from_secs(10);
/// The interval between two tries, and between two looks at an object.
const AGAIN: Duration = Duration::from_millis(300);
/// The number of times that a stale write is repeated. The operator writes the status now and then.
const REPEATS: usize = 5;
/// The number of objects that one page of a list has.
const PAGE: u32 = 500;

/// The API server as a user of the command line works with it.
#[derive(Clone)]
pub struct Desk {
    client: Client,
    reader: Reader,
}

/// A value, as its Secret shows it.
#[derive(Clone, Default, Deserialize, Resource)]
#[resource(inherit = "Secret")]
pub struct Shown {
    #[serde(default)]
    metadata: kube::core::ObjectMeta,
    #[serde(default)]
    data: Option<ShownKeys>,
}

/// The two keys that are kept, in base64.
#[derive(Clone, Default, Deserialize)]
struct ShownKeys {
    #[serde(default)]
    token: Option<Zeroizing<String>>,
    #[serde(default, rename = "token-id")]
    id: Option<String>,
}

impl Shown {
    /// The plaintext. `None` if the Secret holds none.
    pub fn plaintext(&self) -> Option<Zeroizing<String>> {
        let bytes = Zeroizing::new(STANDARD.decode(&**self.data.as_ref()?.token.as_ref()?).ok()?);
        str::from_utf8(&bytes).ok().filter(|text| !text.is_empty()).map(|text| Zeroizing::new(text.to_owned()))
    }

    /// The public id of the value. `None` if the Secret holds none.
    pub fn id(&self) -> Option<String> {
        String::from_utf8(STANDARD.decode(self.data.as_ref()?.id.as_ref()?).ok()?).ok()
    }
}

/// The value is not printed.
impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("name", &self.metadata.name).finish_non_exhaustive()
    }
}

/// The intention of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// The write is done.
    Do,
    /// The API server checks the write, and does not do it.
    Rehearse,
}

/// A kind that users write.
pub trait UserWritten: Read + Serialize {}
impl<K: Read + Serialize> UserWritten for K {}

impl Desk {
    /// The desk of the user of `client`.
    pub fn new(client: Client) -> Self {
        Self { reader: Reader::new(client.clone()), client }
    }

    /// The client of the desk, for rooms that read by one themselves.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The current object of that name. `None` if the object does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn find<K: Read>(&self, namespace: &str, name: &str) -> Result<Option<K>, Refusal> {
        self.reader.live(namespace, name).await
    }

    /// All objects of a kind with these labels in `namespace`; `None`: in all namespaces. Objects that cannot be parsed
    /// are left out.
    ///
    /// # Errors
    /// The API server refused the list or did not answer.
    pub async fn list<K: Read>(&self, namespace: Option<&str>, labels: Option<&str>) -> Result<Vec<K>, Refusal> {
        let (mut all, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
        params.label_selector = labels.map(str::to_owned);
        loop {
            let page = self.reader.page::<K>(namespace, &params).await?;
            all.extend(page.objects);
            let Some(more) = page.more else { return Ok(all) };
            params = params.continue_token(&more);
        }
    }

    /// The value in a Secret, if the user may read it. `None` if the Secret does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn value(&self, namespace: &str, secret: &str) -> Result<Option<Shown>, Refusal> {
        let api: Api<Shown> = Api::namespaced(self.client.clone(), namespace);
        self.once_granted(async || found::<Shown, _>(api.get(secret).await.map_err(Why::from), namespace, secret)).await
    }

    /// The user of this desk, as the API server names it.
    ///
    /// # Errors
    /// The API server refused the question or did not answer.
    pub async fn user(&self) -> Result<UserInfo, Refusal> {
        let api = Api::<SelfSubjectReview>::all(self.client.clone());
        let refusal = Refusal::of::<SelfSubjectReview, _>(Verb::CREATE, "", "");
        let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await.map_err(refusal)?;
        Ok(review.status.and_then(|status| status.user_info).unwrap_or_default())
    }

    /// Creates an object, and returns it as the API server keeps it.
    ///
    /// # Errors
    /// The API server refused the write or did not answer. [`Why::Stale`]: the object exists.
    pub async fn create<K: UserWritten>(&self, object: &K, intent: Intent) -> Result<K, Refusal> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let params = PostParams { dry_run: intent == Intent::Rehearse, field_manager: Some(MANAGER.to_owned()) };
        let try_it = async || {
            let refusal = Refusal::of::<K, _>(Verb::CREATE, &namespace, &name);
            api.create(&params, object).await.map_err(refusal)
        };
        self.once_granted(try_it).await
    }

    /// Changes an object by a merge patch, if its spec is still as `seen`. Returns the object as the API server keeps
    /// it.
    ///
    /// # Errors
    /// The API server refused the write or did not answer. [`Why::Stale`]: the spec has changed.
    pub async fn change<K: UserWritten>(&self, seen: &K, changes: Value, intent: Intent) -> Result<K, Refusal> {
        self.while_same(seen, async |seen| self.change_once(seen, changes.clone(), intent).await).await
    }

    async fn change_once<K: UserWritten>(&self, seen: &K, mut changes: Value, intent: Intent) -> Result<K, Refusal> {
        let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        changes["metadata"]["uid"] = json!(seen.uid());
        changes["metadata"]["resourceVersion"] = json!(seen.resource_version());
        let mut params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        params.dry_run = intent == Intent::Rehearse;
        let try_it = async || {
            let refusal = Refusal::of::<K, _>(Verb::PATCH, &namespace, &name);
            api.patch(&name, &params, &Patch::Merge(&changes)).await.map_err(refusal)
        };
        self.once_granted(try_it).await
    }

    /// Deletes an object, if its spec is still as `seen`.
    ///
    /// # Errors
    /// The API server refused the deletion or did not answer. [`Why::Stale`]: the spec has changed.
    pub async fn delete<K: UserWritten>(&self, seen: &K) -> Result<(), Refusal> {
        self.while_same(seen, async |seen| self.delete_once(seen).await).await
    }

    async fn delete_once<K: UserWritten>(&self, seen: &K) -> Result<(), Refusal> {
        let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let seen = Preconditions { uid: seen.uid(), resource_version: seen.resource_version() };
        let params = DeleteParams::default().preconditions(seen);
        let try_it = async || {
            let refusal = Refusal::of::<K, _>(Verb::DELETE, &namespace, &name);
            api.delete(&name, &params).await.map_err(refusal).map(drop)
        };
        self.once_granted(try_it).await
    }

    /// Marks the shown value of a Secret as claimed, so that the operator deletes the Secret.
    ///
    /// # Errors
    /// The API server refused the write or did not answer.
    pub async fn claim(&self, namespace: &str, shown: &Shown) -> Result<(), Refusal> {
        let name = shown.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Shown> = Api::namespaced(self.client.clone(), namespace);
        let annotations = json!({ name::CLAIMED: shown.id() });
        let metadata = json!({"uid": shown.metadata.uid, "annotations": annotations});
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let try_it = async || {
            let refusal = Refusal::of::<Secret, _>(Verb::PATCH, namespace, name);
            api.patch_metadata(name, &params, &patch).await.map_err(refusal).map(drop)
        };
        self.once_granted(try_it).await
    }

    /// Looks at an object again and again until `look` finds something, for at most `limit`. `look` gets `None` while
    /// the object does not exist.
    ///
    /// # Errors
    /// The API server refused the read. While it does not answer, this method looks again.
    pub async fn until<K: Read, T>(
        &self,
        (namespace, name): (&str, &str),
        limit: Duration,
        mut look: impl FnMut(Option<&K>) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let end = Instant::now() + limit;
        loop {
            match self.find::<K>(namespace, name).await {
                Ok(object) => {
                    if let Some(seen) = look(object.as_ref()) {
                        return Ok(Some(seen));
                    }
                }
                Err(Refusal { why: Why::Unavailable(_), .. }) => {}
                Err(refusal) => return Err(refusal),
            }
            if Instant::now() > end {
                return Ok(None);
            }
            sleep(AGAIN).await;
        }
    }

    /// Repeats a write that was stale, as long as only the status or the metadata of the object changes.
    async fn while_same<K: UserWritten, T>(
        &self,
        seen: &K,
        write: impl AsyncFn(&K) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut current = seen.clone();
        for _ in 0..REPEATS {
            let refusal = match write(&current).await {
                Err(refusal) if refusal.why == Why::Stale => refusal,
                done => return done,
            };
            let found: Option<K> = self.find(&seen.namespace().unwrap_or_default(), &seen.name_any()).await?;
            let is_same = |found: &K| found.uid() == seen.uid() && found.meta().generation == seen.meta().generation;
            current = found.filter(is_same).ok_or(refusal)?;
        }
        write(&current).await
    }

    /// Repeats a forbidden request for ten seconds.
    async fn once_granted<T>(&self, try_it: impl AsyncFn() -> Result<T, Refusal>) -> Result<T, Refusal> {
        let end = Instant::now() + GRANTED_WITHIN;
        loop {
            match try_it().await {
                Err(Refusal { why: Why::Forbidden(_), .. }) if Instant::now() < end => sleep(AGAIN).await,
                done => return done,
            }
        }
    }
}

/// A page of a list.
pub(super) struct ListPage<K> {
    pub(super) objects: Vec<K>,
    /// The token of the next page. `None`: this is the last one.
    pub(super) more: Option<String>,
}

impl Reader {
    /// A page of the objects of a kind in `namespace`; `None`: in all namespaces.
    async fn page<K: Read>(&self, namespace: Option<&str>, params: &ListParams) -> Result<ListPage<K>, Refusal> {
        let api: Api<Readable<K>> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let refusal = Refusal::of::<K, _>(Verb::LIST, namespace.unwrap_or_default(), "");
        let list = api.list(params).await.map_err(refusal)?;
        let more = list.metadata.continue_.filter(|more| !more.is_empty());
        Ok(ListPage { objects: list.items.into_iter().filter_map(|read| read.object).collect(), more })
    }
}
