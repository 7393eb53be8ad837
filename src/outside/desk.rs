//! The API server as a user of the command line works with it: with the rights of that user, and no more.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::Stream;
use k8s_openapi::api::{
    authentication::v1::{SelfSubjectReview, UserInfo},
    authorization::v1::SelfSubjectAccessReview,
    core::v1::{Event, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::ObjectMeta,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use super::{
    Hearing, Reader, Refusal, Verb, Why,
    deeds::Deeds,
    follower::{Selection, WatchPlace},
    forbidder::{Denied, Forbidder},
    readable::Readable,
    reader::{Read, found},
    rights::{Holder, PlacedRight, Right, RightPlace},
    watch::{self, Heard, Object},
};
use crate::crd::name;

/// The field manager of the command line.
const MANAGER: &str = "tokenry-cli";
/// The time for which a request is tried again that the operator may be about to permit. It keeps RoleBindings for
/// members and owners.
pub const GRANTED_WITHIN: Duration = Duration::from_secs(10);
/// The time for which any other forbidden request is tried again. The API server heeds a new RoleBinding after some
/// moments.
const HEEDED_WITHIN: Duration = Duration::from_secs(1);
/// The interval between two tries, and between two looks at an object.
const AGAIN: Duration = Duration::from_millis(300);
/// The number of times that a stale write is repeated. The operator writes the status now and then.
const REPEATS: usize = 5;
/// The number of objects that one page of a list has.
const PAGE: u32 = 500;
/// A wait that is longer than this is shown.
const SLOW: Duration = Duration::from_secs(1);

/// The cause of a wait.
#[derive(Clone, Copy, Debug)]
pub enum DeskWait<'a> {
    /// The API server has not answered yet.
    Answer,
    /// The API server refuses the request so far, and a grant may be on its way.
    Grant(&'a Refusal),
    /// The user lacks these rights so far, and a grant may be on its way.
    Rights(&'a [PlacedRight]),
}

impl DeskWait<'_> {
    /// The time for which a wait of this cause can help.
    fn limit(self) -> Duration {
        let is_granted = |lacked: &str| {
            let right = lacked.split('/').next();
            Right::GRANTED.iter().any(|granted| right == Some(&*granted.to_string()))
        };
        let is_on_its_way = match self {
            Self::Answer => false,
            Self::Grant(refusal) => lacked_by(refusal).is_some_and(|lacked| is_granted(&lacked)),
            Self::Rights(rights) => rights.iter().all(|lacked| Right::GRANTED.contains(&lacked.right)),
        };
        if is_on_its_way { GRANTED_WITHIN } else { HEEDED_WITHIN }
    }
}

/// Shows a wait to the user, until the returned guard is dropped.
pub type ShowWait = fn(DeskWait<'_>) -> Box<dyn Send>;

/// The API server as a user of the command line works with it.
#[derive(Clone)]
pub struct Desk {
    client: Client,
    reader: Reader,
    show: ShowWait,
    deeds: Arc<Deeds>,
    /// The longest wait for a grant, in seconds. It is zero once a wait was in vain: no further request waits for one.
    patience: Arc<AtomicU64>,
}

/// A wait for a grant.
struct GrantWait<'a> {
    desk: &'a Desk,
    begun: Instant,
    shown: Option<Box<dyn Send>>,
}

impl GrantWait<'_> {
    /// Waits until the next try. A wait of more than a second is shown. False: the time is over.
    async fn again(&mut self, cause: DeskWait<'_>) -> bool {
        let patience = Duration::from_secs(self.desk.patience.load(Ordering::Relaxed));
        if self.begun.elapsed() >= cause.limit().min(patience) {
            self.desk.patience.store(0, Ordering::Relaxed);
            return false;
        }
        if self.begun.elapsed() >= SLOW {
            self.shown.get_or_insert_with(|| (self.desk.show)(cause));
        }
        sleep(AGAIN).await;
        true
    }
}

/// A value, as its Secret shows it.
#[derive(Clone, Default, Deserialize, Resource)]
#[resource(inherit = "Secret")]
pub struct Shown {
    #[serde(default)]
    metadata: ObjectMeta,
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
    /// The desk of the user of `client`. `show` shows each wait of more than a second.
    pub fn new(client: Client, show: ShowWait) -> Self {
        let patience = Arc::new(AtomicU64::new(GRANTED_WITHIN.as_secs()));
        Self { reader: Reader::new(client.clone()), client, show, deeds: Arc::default(), patience }
    }

    /// Shortens each wait for a grant: no grant of the operator is on its way.
    pub fn expect_no_grant(&self) {
        self.patience.fetch_min(HEEDED_WITHIN.as_secs(), Ordering::Relaxed);
    }

    /// The client of the desk, for rooms that read by one themselves.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The writes of this desk so far, as a sentence without its full stop.
    pub fn deeds(&self) -> String {
        self.deeds.told()
    }

    /// Awaits an answer. A wait of more than a second is shown.
    pub async fn shown<T>(&self, asked: impl Future<Output = T>) -> T {
        let mut asked = pin!(asked);
        match timeout(SLOW, &mut asked).await {
            Ok(answer) => answer,
            Err(_) => {
                let _shown = (self.show)(DeskWait::Answer);
                asked.await
            }
        }
    }

    /// The current object of that name. `None` if the object does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn find<K: Read>(&self, namespace: &str, name: &str) -> Result<Option<K>, Refusal> {
        self.shown(self.reader.live(namespace, name)).await
    }

    /// The current object of that name, without which the command cannot continue. A refusal that a grant on its way
    /// can lift is tried again.
    ///
    /// # Errors
    /// As of [`find`](Self::find).
    pub async fn find_needed<K: Read>(&self, namespace: &str, name: &str) -> Result<Option<K>, Refusal> {
        self.once_granted(Intent::Do, async || self.reader.live(namespace, name).await).await
    }

    /// True if there is no namespace of this name. False also if the user may not look for it.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn lacks_namespace(&self, name: &str) -> Result<bool, Refusal> {
        match self.shown(self.reader.namespace(name)).await {
            Err(Refusal { why: Why::Forbidden(_), .. }) => Ok(false),
            found => Ok(found?.is_none()),
        }
    }

    /// The names of all namespaces.
    ///
    /// # Errors
    /// The API server refused the list or did not answer.
    pub async fn namespaces(&self) -> Result<Vec<String>, Refusal> {
        let all = self.shown(self.reader.namespaces()).await?;
        Ok(all.iter().map(ResourceExt::name_any).collect())
    }

    /// The type of a Secret, without its data. `None` if the Secret does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn secret_type(&self, namespace: &str, name: &str) -> Result<Option<String>, Refusal> {
        self.shown(self.reader.secret_type(namespace, name)).await
    }

    /// All objects of a kind with these labels in `namespace`; `None`: in all namespaces. Objects that cannot be parsed
    /// are left out.
    ///
    /// # Errors
    /// The API server refused the list or did not answer.
    pub async fn list<K: Read>(&self, namespace: Option<&str>, labels: Option<&str>) -> Result<Vec<K>, Refusal> {
        self.shown(self.reader.pages(namespace, labels)).await
    }

    /// All objects of a kind, as of [`list`](Self::list), without which the command cannot continue. A refusal that a
    /// grant on its way can lift is tried again.
    ///
    /// # Errors
    /// As of [`list`](Self::list).
    pub async fn list_needed<K: Read>(&self, namespace: Option<&str>, labels: Option<&str>) -> Result<Vec<K>, Refusal> {
        self.once_granted(Intent::Do, async || self.reader.pages(namespace, labels).await).await
    }

    /// The Events about the object with this uid.
    ///
    /// # Errors
    /// The API server refused the list or did not answer.
    pub async fn events(&self, namespace: &str, uid: &str) -> Result<Vec<Event>, Refusal> {
        let params = ListParams::default().limit(PAGE).fields(&format!("involvedObject.uid={uid}"));
        Ok(self.shown(self.reader.page(Some(namespace), &params)).await?.objects)
    }

    /// All objects of a kind with these labels in `namespace`, and then each change of them; `None`: in all namespaces.
    /// The stream survives every failure of the API server, and never ends.
    pub fn watch<K: Read + Object>(
        &self,
        namespace: Option<&str>,
        labels: Option<&str>,
    ) -> impl Stream<Item = Heard<K>> + use<K> {
        let api: Api<Readable<K>> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let selection = labels.map_or(Selection::All, |labels| Selection::Labels(labels.to_owned()));
        let place = WatchPlace { api, selection, namespace: namespace.map(str::to_owned) };
        watch::watch(vec![place], &Hearing::default())
    }

    /// The rights that the user lacks. They are reviewed for ten seconds, as far as a grant may be on its way. A
    /// rehearsal reviews them once. A right that the API server does not review counts as held.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn lacked(&self, needed: &[PlacedRight], intent: Intent) -> Result<Vec<PlacedRight>, Refusal> {
        let (mut lacked, mut wait) = (self.review(needed).await?, self.wait_for_grant());
        while intent == Intent::Do && !lacked.is_empty() && wait.again(DeskWait::Rights(&lacked)).await {
            lacked = self.review(&lacked).await?;
        }
        Ok(lacked)
    }

    async fn review(&self, needed: &[PlacedRight]) -> Result<Vec<PlacedRight>, Refusal> {
        let mut lacked = Vec::new();
        for needed in needed {
            match self.may(needed.right, needed.place()).await {
                Ok(true) | Err(Refusal { why: Why::Forbidden(_), .. }) => {}
                Ok(false) => lacked.push(needed.clone()),
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(lacked)
    }

    /// True if the user holds this right at a place.
    ///
    /// # Errors
    /// The API server refused the question or did not answer.
    pub async fn may<'a>(&self, right: Right, place: impl Into<RightPlace<'a>>) -> Result<bool, Refusal> {
        let answer = self.shown(right.is_held(self.client.clone(), Holder::Myself, place.into())).await;
        answer.map_err(Refusal::of::<SelfSubjectAccessReview, _>(Verb::CREATE, "", ""))
    }

    /// The value in a Secret, if the user may read it. `None` if the Secret does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn value(&self, namespace: &str, secret: &str) -> Result<Option<Shown>, Refusal> {
        let api: Api<Shown> = Api::namespaced(self.client.clone(), namespace);
        self.once_granted(Intent::Do, async || {
            found::<Shown, _>(api.get(secret).await.map_err(Why::from), namespace, secret)
        })
        .await
    }

    /// The user of this desk, as the API server names it.
    ///
    /// # Errors
    /// The API server refused the question or did not answer.
    pub async fn user(&self) -> Result<UserInfo, Refusal> {
        let api = Api::<SelfSubjectReview>::all(self.client.clone());
        let refusal = Refusal::of::<SelfSubjectReview, _>(Verb::CREATE, "", "");
        let (params, review) = (PostParams::default(), SelfSubjectReview::default());
        let review = self.shown(api.create(&params, &review)).await.map_err(refusal)?;
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
        let deed = (intent, "created", format!("{} {namespace}/{name}", K::kind(&())));
        self.noted(deed, self.once_granted(intent, try_it)).await
    }

    /// Changes an object by a merge patch, if its spec is still as `seen`. Returns the object as the API server keeps
    /// it.
    ///
    /// # Errors
    /// The API server refused the write or did not answer. [`Why::Stale`]: the spec has changed.
    pub async fn change<K: UserWritten>(&self, seen: &K, changes: Value, intent: Intent) -> Result<K, Refusal> {
        let change = self.while_same(seen, async |seen| self.change_once(seen, changes.clone(), intent).await);
        self.noted((intent, "changed", told(seen)), change).await
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
        self.once_granted(intent, try_it).await
    }

    /// Deletes an object, if its spec is still as `seen`. A rehearsal deletes nothing.
    ///
    /// # Errors
    /// The API server refused the deletion or did not answer. [`Why::Stale`]: the spec has changed.
    pub async fn delete<K: UserWritten>(&self, seen: &K, intent: Intent) -> Result<(), Refusal> {
        let deletion = self.while_same(seen, async |seen| self.delete_once(seen, intent).await);
        self.noted((intent, "deleted", told(seen)), deletion).await
    }

    async fn delete_once<K: UserWritten>(&self, seen: &K, intent: Intent) -> Result<(), Refusal> {
        let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let seen = Preconditions { uid: seen.uid(), resource_version: seen.resource_version() };
        let mut params = DeleteParams::default().preconditions(seen);
        params.dry_run = intent == Intent::Rehearse;
        let try_it = async || {
            let refusal = Refusal::of::<K, _>(Verb::DELETE, &namespace, &name);
            api.delete(&name, &params).await.map_err(refusal).map(drop)
        };
        self.once_granted(intent, try_it).await
    }

    /// Marks the shown value of this id as claimed, so that the operator deletes its Secret.
    ///
    /// # Errors
    /// The API server refused the write or did not answer. [`Why::Stale`]: the Secret shows another value now.
    /// [`Why::Gone`]: it does not exist any more.
    pub async fn claim(&self, namespace: &str, shown: &Shown, id: &str) -> Result<(), Refusal> {
        let name = shown.metadata.name.as_deref().unwrap_or_default();
        let deed = (Intent::Do, "claimed", format!("Secret {namespace}/{name}"));
        let claim = async {
            let mut current = shown.clone();
            for _ in 0..REPEATS {
                let stale = match self.claim_once(namespace, &current, id).await {
                    Err(refusal) if refusal.why == Why::Stale => refusal,
                    done => return done,
                };
                current = match self.value(namespace, name).await? {
                    Some(found) if found.id().as_deref() == Some(id) => found,
                    Some(_) => return Err(stale),
                    None => return Err(Refusal { why: Why::Gone, ..stale }),
                };
            }
            self.claim_once(namespace, &current, id).await
        };
        self.noted(deed, claim).await
    }

    async fn claim_once(&self, namespace: &str, shown: &Shown, id: &str) -> Result<(), Refusal> {
        let api: Api<Shown> = Api::namespaced(self.client.clone(), namespace);
        let ObjectMeta { name, uid, resource_version, .. } = &shown.metadata;
        let name = name.as_deref().unwrap_or_default();
        let annotations = json!({ name::CLAIMED: id });
        let metadata = json!({"uid": uid, "resourceVersion": resource_version, "annotations": annotations});
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let try_it = async || {
            let refusal = Refusal::of::<Secret, _>(Verb::PATCH, namespace, name);
            api.patch_metadata(name, &params, &patch).await.map_err(refusal).map(drop)
        };
        self.once_granted(Intent::Do, try_it).await
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
            match self.reader.live::<K>(namespace, name).await {
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

    /// Does a write, and notes it, unless it is a rehearsal.
    async fn noted<T>(
        &self,
        (intent, verb, object): (Intent, &'static str, String),
        write: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        if intent == Intent::Rehearse {
            return write.await;
        }
        self.deeds.begin(verb, object);
        let done = write.await;
        self.deeds.end(done.as_ref().err());
        done
    }

    /// Repeats a forbidden request for ten seconds, if a grant on its way can lift the refusal. A rehearsal is not
    /// repeated.
    async fn once_granted<T>(
        &self,
        intent: Intent,
        try_it: impl AsyncFn() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let (mut answer, mut wait) = (self.shown(try_it()).await, self.wait_for_grant());
        while intent == Intent::Do
            && let Some(refusal) = answer.as_ref().err().filter(|refusal| lacked_by(refusal).is_some())
            && wait.again(DeskWait::Grant(refusal)).await
        {
            answer = try_it().await;
        }
        answer
    }

    fn wait_for_grant(&self) -> GrantWait<'_> {
        GrantWait { desk: self, begun: Instant::now(), shown: None }
    }
}

/// The right whose lack this refusal is about, such as `get secrets`. `None`: no grant can lift the refusal.
fn lacked_by(refusal: &Refusal) -> Option<String> {
    let Why::Forbidden(text) = &refusal.why else { return None };
    match Forbidder::of(text) {
        Forbidder::Authorizer(Denied { verb, resource, group, .. }) => {
            let dot = if group.is_empty() { "" } else { "." };
            Some(format!("{verb} {resource}{dot}{group}"))
        }
        Forbidder::Policy(_) => text.split_once(" may not ").map(|(_, right)| right.to_owned()),
        Forbidder::Webhook(_) | Forbidder::Quota(_) | Forbidder::Plugin => None,
    }
}

/// The kind and the name of an object.
fn told<K: Read>(object: &K) -> String {
    format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any())
}

/// A page of a list.
pub(super) struct ListPage<K> {
    pub(super) objects: Vec<K>,
    /// The token of the next page. `None`: this is the last one.
    pub(super) more: Option<String>,
}

impl Reader {
    /// All objects of a kind with these labels in `namespace`; `None`: in all namespaces.
    async fn pages<K: Read>(&self, namespace: Option<&str>, labels: Option<&str>) -> Result<Vec<K>, Refusal> {
        let (mut all, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
        params.label_selector = labels.map(str::to_owned);
        loop {
            let page = self.page(namespace, &params).await?;
            all.extend(page.objects);
            let Some(more) = page.more else { return Ok(all) };
            params = params.continue_token(&more);
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{ApiToken, InstanceRef, api_token::ApiTokenSpec};
    use http::{Request, Response};
    use kube::client::Body;
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    /// A server that forbids each request with this text, and the number of its requests.
    fn forbidding(text: &'static str) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let serve = move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "message": text});
            let answer = Response::builder().status(403).body(Body::from(status.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(answer.unwrap()) }
        };
        (Client::new(tower::service_fn(serve), "n"), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_more_than_a_second_is_shown_and_a_shorter_one_is_not() {
        static SHOWN: AtomicUsize = AtomicUsize::new(0);
        let show: ShowWait = |_| {
            SHOWN.fetch_add(1, Ordering::SeqCst);
            Box::new(())
        };
        let desk = Desk::new(forbidding("").0, show);
        desk.shown(sleep(Duration::from_millis(900))).await;
        assert_eq!(SHOWN.load(Ordering::SeqCst), 0);
        desk.shown(sleep(Duration::from_millis(1100))).await;
        assert_eq!(SHOWN.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_a_grant_can_lift_is_tried_again_for_ten_seconds_and_no_other() {
        static SHOWN: AtomicUsize = AtomicUsize::new(0);
        let show: ShowWait = |wait| {
            let is_grant = matches!(wait, DeskWait::Grant(Refusal { why: Why::Forbidden(_), .. }));
            SHOWN.fetch_add(usize::from(is_grant), Ordering::SeqCst);
            Box::new(())
        };
        let denied = r#"x is forbidden: User "a" cannot create resource "apitokens" in API group "tokenry.dev" in the namespace "n""#;
        let role = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: spec.role: user:a may not assign \
                    roles.tokenry.dev/eem:admin in namespace n";
        for (text, intent, at_least, most) in [
            (role, Intent::Do, 30, 36),
            (role, Intent::Rehearse, 1, 1),
            // The operator never grants this right.
            (denied, Intent::Do, 3, 6),
            (denied, Intent::Rehearse, 1, 1),
            ("exceeded quota: few, requested: secrets=1", Intent::Do, 1, 1),
        ] {
            let (client, asked) = forbidding(text);
            let (desk, begun) = (Desk::new(client, show), Instant::now());
            let mut token = ApiToken::new("ci", ApiTokenSpec::of(InstanceRef { name: "eem".into(), namespace: None }));
            token.metadata.namespace = Some("n".into());
            assert!(desk.create(&token, intent).await.is_err());
            let asked = asked.load(Ordering::SeqCst);
            assert!((at_least..=most).contains(&asked), "{text}: {asked} requests in {:?}", begun.elapsed());
            assert_eq!(desk.deeds(), "nothing was changed");
            assert_eq!(SHOWN.load(Ordering::SeqCst), 1, "the wait of the first one is shown, with its refusal");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_is_waited_for_once_in_vain_and_not_for_each_request() {
        let denied = r#"x is forbidden: User "a" cannot get resource "secrets" in API group "" in the namespace "n""#;
        let (client, asked) = forbidding(denied);
        let desk = Desk::new(client, |_| Box::new(()));
        assert!(desk.value("n", "ci").await.is_err());
        let before = asked.load(Ordering::SeqCst);
        assert!(before > 1 && desk.value("n", "other").await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), before + 1);
    }

    /// A server that says of each write that the object has changed, and shows this Secret; `None`: it has none.
    fn changing(secret: Option<Value>) -> Client {
        let serve = move |request: Request<Body>| {
            let status = |code: u16, reason: &str| {
                (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "m"}))
            };
            let (code, told) = match (request.method() == http::Method::GET, &secret) {
                (false, _) => status(409, "Conflict"),
                (true, Some(secret)) => (200, secret.clone()),
                (true, None) => status(404, "NotFound"),
            };
            let answer = Response::builder().status(code).body(Body::from(told.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(answer.unwrap()) }
        };
        Client::new(tower::service_fn(serve), "n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_came_too_late_tells_a_secret_that_is_gone_from_one_with_another_value() {
        let secret = |id: &str| json!({"metadata": {"name": "ci"}, "data": {"token-id": STANDARD.encode(id)}});
        let seen: Shown = serde_json::from_value(secret("a")).unwrap();
        for (secret, why) in
            [(None, Why::Gone), (Some(secret("b")), Why::Stale), (Some(json!({"metadata": {}})), Why::Stale)]
        {
            let desk = Desk::new(changing(secret), |_| Box::new(()));
            assert_eq!(desk.claim("n", &seen, "a").await.unwrap_err().why, why);
            assert_eq!(desk.deeds(), "nothing was changed");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_the_api_server_does_not_review_counts_as_held() {
        let desk = Desk::new(forbidding("no reviews").0, |_| Box::new(()));
        let right = Right::new(Verb::GET, "", "secrets");
        let needed = [PlacedRight { right, namespace: "n".into(), name: None }];
        assert_eq!(desk.lacked(&needed, Intent::Do).await, Ok(Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_no_operator_grants_is_waited_for_as_long_as_the_api_server_needs() {
        let denied = r#"x is forbidden: User "a" cannot get resource "secrets" in API group "" in the namespace "n""#;
        let (client, asked) = forbidding(denied);
        let desk = Desk::new(client, |_| Box::new(()));
        desk.expect_no_grant();
        assert!(desk.value("n", "ci").await.is_err());
        assert!((3..=6).contains(&asked.load(Ordering::SeqCst)));
    }

    #[test]
    fn only_a_missing_right_is_waited_for() {
        let lacked = |text: &str| lacked_by(&Refusal::because(Why::Forbidden(text.into())));
        let by_policy =
            |text: &str| lacked(&format!("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {text}"));
        let of_rbac = |group: &str| {
            lacked(&format!(r#"User "a" cannot get resource "secrets" in API group "{group}" in the namespace "n""#))
        };
        assert_eq!(of_rbac("").as_deref(), Some("get secrets"));
        assert_eq!(of_rbac("x.dev").as_deref(), Some("get secrets.x.dev"));
        let told = "assign roles.tokenry.dev/eem:admin in namespace n";
        assert_eq!(by_policy(&format!("spec.role: user:a may not {told}")).as_deref(), Some(told));
        assert_eq!(by_policy("spec: the token is immutable"), None);
        assert_eq!(lacked("exceeded quota: few, requested: secrets=1"), None);
        assert_eq!(lacked_by(&Refusal::because(Why::Stale)), None);
    }
}
