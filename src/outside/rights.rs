//! The permissions of this process, as the API server reports them.
//!
//! A process without a needed permission is not ready, and names that permission. Otherwise it would look healthy while
//! its objects have no status.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::api::{
    authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
        SubjectAccessReviewSpec,
    },
    rbac::v1::PolicyRule,
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use super::{Extent, Location, Verb, Why, telemetry};
use crate::crd::GROUP;

/// The wait between two checks, while a permission is missing or in doubt.
const SOON: Duration = Duration::from_secs(5);
/// The longest wait for the answers of one check.
const LIMIT: Duration = Duration::from_secs(5);
/// The resource of namespaces.
const NAMESPACES: &str = "namespaces";
/// The number of requests at a time. Each can need a connection of its own.
const TOGETHER: usize = 8;

/// A permission on the objects of a kind, as in the rules of a Role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    verb: Verb,
    group: &'static str,
    /// The resource, with its subresource if the verb names none, as in `routes/custom-host`.
    resource: &'static str,
}

impl Right {
    /// The permission to give a role of an Instance, which the operator grants to its members.
    pub const GIVE_ROLE: Self = Self::new(Verb::ASSIGN, GROUP, "roles");
    /// The permission to use an account, which the operator grants to its owner.
    pub const USE_ACCOUNT: Self = Self::new(Verb::USE, GROUP, "serviceaccounts");
    /// The permission to read a value, which the operator grants to the owner of the token.
    pub const READ_VALUE: Self = Self::new(Verb::GET, "", "secrets");
    /// The permissions that the operator grants to users.
    pub const GRANTED: [Self; 3] = [Self::GIVE_ROLE, Self::USE_ACCOUNT, Self::READ_VALUE];

    /// The permission to `verb` the objects of `resource` in `group`, which is empty for the core group.
    pub const fn new(verb: Verb, group: &'static str, resource: &'static str) -> Self {
        Self { verb, group, resource }
    }

    /// The same permission for a program that serves `scope`. A program that serves some namespaces does not list
    /// namespaces: it reads its own by name.
    pub fn within(self, scope: &Extent) -> Self {
        let lists = self.resource == NAMESPACES && self.verb == Verb::LIST;
        if lists && *scope != Extent::Cluster { Self { verb: Verb::GET, ..self } } else { self }
    }

    /// The rule of a Role that gives this permission on the objects of these names.
    pub fn rule(self, names: Vec<String>) -> PolicyRule {
        PolicyRule {
            api_groups: Some(vec![self.group.into()]),
            resource_names: Some(names),
            resources: Some(vec![self.resource.into()]),
            verbs: vec![self.verb.name().into()],
            ..PolicyRule::default()
        }
    }

    /// The resource and the subresource, which is empty for the object itself.
    fn parts(self) -> (&'static str, &'static str) {
        self.resource.split_once('/').unwrap_or((self.resource, self.verb.subresource()))
    }

    /// Asks the API server if `holder` has the permission at `place`.
    pub(super) async fn is_held(self, client: Client, holder: Holder, place: RightPlace<'_>) -> Result<bool, Why> {
        let (resource, subresource) = self.parts();
        // The API server knows no name yet when it judges a creation.
        let name = place.name.filter(|_| self.verb != Verb::CREATE).map(str::to_owned);
        let attributes = ResourceAttributes {
            verb: Some(self.verb.name().into()),
            group: Some(self.group.into()),
            resource: Some(resource.into()),
            subresource: Some(subresource.into()),
            namespace: place.namespace.filter(|_| self.is_namespaced()).map(str::to_owned),
            name,
            ..ResourceAttributes::default()
        };
        let (params, resource_attributes) = (PostParams::default(), Some(attributes));
        let status = match holder {
            Holder::Myself => {
                let spec = SelfSubjectAccessReviewSpec { resource_attributes, ..Default::default() };
                let review = SelfSubjectAccessReview { spec, ..Default::default() };
                Api::<SelfSubjectAccessReview>::all(client).create(&params, &review).await?.status
            }
            Holder::Account { namespace, name } => {
                let user = Some(format!("system:serviceaccount:{namespace}:{name}"));
                let all = ["system:serviceaccounts", "system:authenticated"].map(str::to_owned);
                let groups = all.into_iter().chain([format!("system:serviceaccounts:{namespace}")]).collect();
                let spec =
                    SubjectAccessReviewSpec { resource_attributes, user, groups: Some(groups), ..Default::default() };
                let review = SubjectAccessReview { spec, ..Default::default() };
                Api::<SubjectAccessReview>::all(client).create(&params, &review).await?.status
            }
        };
        Ok(status.ok_or_else(Why::unreadable)?.allowed)
    }

    /// False for the kinds that are used outside the namespaces of a program. A Gateway is often in one of its own. A
    /// Role in a namespace permits to get and to watch the namespace itself.
    fn is_namespaced(self) -> bool {
        const OUTSIDE: [&str; 13] = [
            "clusterrolebindings",
            "clusterroles",
            "customresourcedefinitions",
            "gatewayclasses",
            "gateways",
            "ingressclasses",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            NAMESPACES,
            "subjectaccessreviews",
            "tokenreviews",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ];
        let is_own = self.resource == NAMESPACES && [Verb::GET, Verb::WATCH].contains(&self.verb);
        is_own || !OUTSIDE.contains(&self.resource)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, group, (resource, subresource)) = (self.verb.name(), self.group, self.parts());
        let dot = if group.is_empty() { "" } else { "." };
        let slash = if subresource.is_empty() { "" } else { "/" };
        write!(f, "{name} {resource}{dot}{group}{slash}{subresource}")
    }
}

/// A permission of a program in one of the namespaces that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRight {
    right: Right,
    /// The namespace. `None`: the program serves all namespaces, or the kind is used outside of those that it serves.
    namespace: Option<String>,
}

impl LocalRight {
    /// These permissions in each namespace that a program serves.
    fn all(scope: &Extent, rights: impl IntoIterator<Item = Right>) -> Vec<Self> {
        let each = |right: Right| {
            let mut namespaces = if right.is_namespaced() { scope.namespaces() } else { vec![None] };
            namespaces.drain(..).map(|name| Self { right, namespace: name.map(str::to_owned) }).collect::<Vec<_>>()
        };
        rights.into_iter().map(|right| right.within(scope)).flat_map(each).collect()
    }

    /// True if a forbidden request in one of these namespaces may have needed it.
    fn is_doubted(&self, namespaces: &BTreeSet<String>) -> bool {
        !namespaces.is_empty() && self.namespace.as_ref().is_none_or(|namespace| namespaces.contains(namespace))
    }
}

impl fmt::Display for LocalRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.right)?;
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in namespace {namespace}"))
    }
}

/// A permission that a command needs in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedRight {
    /// The permission.
    pub right: Right,
    /// The namespace.
    pub namespace: String,
    /// The name of the only object. `None`: all objects.
    pub name: Option<String>,
}

impl PlacedRight {
    /// The place of the permission.
    pub(super) fn place(&self) -> RightPlace<'_> {
        RightPlace { namespace: Some(&self.namespace), name: self.name.as_deref() }
    }
}

/// The place of a permission. The default is all namespaces.
#[derive(Clone, Copy, Debug, Default)]
pub struct RightPlace<'a> {
    /// The namespace. `None`: all namespaces.
    namespace: Option<&'a str>,
    /// The name of the only object. `None`: all objects.
    name: Option<&'a str>,
}

impl<'a> From<Option<&'a str>> for RightPlace<'a> {
    fn from(namespace: Option<&'a str>) -> Self {
        Self { namespace, name: None }
    }
}

impl<'a> From<Location<'a>> for RightPlace<'a> {
    fn from(Location { namespace, name }: Location<'a>) -> Self {
        Self { namespace: Some(namespace), name: Some(name) }
    }
}

/// The user whose permissions are reviewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The user of the client.
    Myself,
    /// A core ServiceAccount. Such a review is a right of its own.
    Account {
        /// The namespace of the ServiceAccount.
        namespace: String,
        /// The name of the ServiceAccount.
        name: String,
    },
}

/// The permissions that a program uses. Together they are the rules of its roles in the chart.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The name of the program, for the log.
    pub program: &'static str,
    /// Permissions without which the program is not ready.
    pub needed: &'static [Right],
    /// Permissions without which the program does less.
    pub useful: &'static [Right],
}

/// The knowledge about a needed permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    /// No answer has come yet, for the reason in [`Why::way`], if there was a failure.
    Unanswered(Option<&'static str>),
    /// The API server refuses to say. The program works and notices by itself if it lacks the permission.
    Unsaid,
    /// The permission is granted.
    Granted,
    /// The permission is missing.
    Missing,
}

impl Knowledge {
    /// The knowledge after an answer. A review that fails says nothing about the permission, so earlier knowledge
    /// stays.
    fn after(self, answer: &Result<bool, Why>) -> Self {
        match answer {
            Ok(true) => Self::Granted,
            Ok(false) => Self::Missing,
            Err(why) => match self {
                Self::Granted | Self::Missing | Self::Unsaid => self,
                Self::Unanswered(_) if comes_again(why) => Self::Unanswered(Some(why.way())),
                Self::Unanswered(_) => Self::Unsaid,
            },
        }
    }
}

/// True if another review can be answered without any change of permissions.
fn comes_again(why: &Why) -> bool {
    match why {
        Why::Stale | Why::Unauthenticated(_) | Why::Unavailable(_) => true,
        Why::Forbidden(_) | Why::Invalid(_) | Why::Gone => false,
    }
}

/// A permission and the answer to its review: true if it is granted.
pub type Reviewed<R = Right> = (R, Result<bool, Why>);

/// The check of the permissions of this process.
#[derive(Clone)]
pub struct Rights(Arc<RightsState>);

struct RightsState {
    /// The name of the program, for the log.
    program: &'static str,
    /// The namespaces that the program serves.
    scope: Extent,
    /// The needed permissions.
    known: Mutex<Vec<(LocalRight, Knowledge)>>,
    /// The useful permissions.
    useful: Mutex<Vec<LocalRight>>,
    /// The permissions on one object alone, among the needed ones.
    special: OnceLock<SpecialRights>,
    /// The namespaces of forbidden requests since the last check. Empty: the request named none.
    doubts: Mutex<BTreeSet<String>>,
    doubted: Notify,
    /// True once the start of the program was logged.
    started: watch::Sender<bool>,
}

/// Permissions on one object alone.
#[derive(Debug)]
struct SpecialRights {
    rights: &'static [Right],
    namespace: String,
    name: String,
}

impl Rights {
    /// A check of these permissions in each namespace of `scope`, before its first answer.
    pub fn new(wanted: Wanted, scope: &Extent) -> Self {
        let (program, scope, special) = (wanted.program, scope.clone(), OnceLock::new());
        let (known, useful, doubts, doubted, started) = Default::default();
        let rights = Self(Arc::new(RightsState { program, scope, known, useful, special, doubts, doubted, started }));
        rights.needing(wanted.needed).using(wanted.useful.iter().copied())
    }

    /// The same check, with further needed permissions.
    pub fn needing(self, further: &[Right]) -> Self {
        self.need(LocalRight::all(&self.0.scope, further.iter().copied()));
        self
    }

    /// The same check, with needed permissions on one object alone. Only the first call counts.
    pub fn needing_on(self, Location { namespace, name }: Location<'_>, rights: &'static [Right]) -> Self {
        let _ = self.0.special.set(SpecialRights { rights, namespace: namespace.to_owned(), name: name.to_owned() });
        self.need(rights.iter().map(|&right| LocalRight { right, namespace: None }).collect());
        self
    }

    /// The same check, with further useful permissions.
    pub fn using(self, further: impl IntoIterator<Item = Right>) -> Self {
        self.useful().extend(LocalRight::all(&self.0.scope, further));
        self
    }

    /// Succeeds if no needed permission is known to be missing, and a review of each was answered.
    ///
    /// # Errors
    /// Some are missing, or nothing is known yet; in words.
    pub fn missing(&self) -> Result<(), String> {
        if let Some(lacking) = self.lacking() {
            return Err(lacking);
        }
        let known = self.known();
        let waits = known.iter().find_map(|(_, known)| match known {
            Knowledge::Unanswered(way) => Some(*way),
            Knowledge::Unsaid | Knowledge::Granted | Knowledge::Missing => None,
        });
        let waiting = "waiting for the permissions from the API server";
        match waits {
            Some(Some(way)) => Err(format!("{waiting}: {way}")),
            Some(None) => Err(waiting.to_owned()),
            None => Ok(()),
        }
    }

    /// The needed permissions that are known to be missing, in words. `None`: there is none.
    pub fn lacking(&self) -> Option<String> {
        let known = self.known();
        let missing = known.iter().filter(|(_, known)| *known == Knowledge::Missing);
        let missing: Vec<_> = missing.map(|(right, _)| right).collect();
        let told = || format!("missing permissions: {}; grant the roles of the chart; waiting", list(&missing));
        (!missing.is_empty()).then(told)
    }

    /// Waits until the start of the program was logged.
    pub async fn started(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.started.subscribe().wait_for(|started| *started).await;
    }

    /// Starts another check of the permissions in a namespace, and of those outside of the namespaces, because a
    /// request was forbidden. Other namespaces are not in doubt: a program can serve many.
    pub fn doubt(&self, namespace: &str) {
        self.doubts().insert(namespace.to_owned());
        self.0.doubted.notify_one();
    }

    /// Checks until no needed permission is missing, and after each [`Rights::doubt`] those in doubt, for ever. The
    /// first answer is part of the log line about the start of the program.
    pub async fn ask(self, client: Client, waits_for: String) {
        let needed: Vec<_> = self.known().iter().map(|(right, _)| right.clone()).collect();
        let useful = self.useful().clone();
        let (first, others) = tokio::join!(self.review(&client, &needed), self.review(&client, &useful));
        telemetry::starts(self.0.program, &self.0.scope, &told(&first, &others), &waits_for);
        self.0.started.send_replace(true);
        let mut open = self.learn(&first);
        loop {
            if open.is_empty() {
                self.0.doubted.notified().await;
            }
            tokio::time::sleep(SOON).await;
            let doubts = std::mem::take(&mut *self.doubts());
            let is_asked = |right: &&LocalRight| open.contains(right) || right.is_doubted(&doubts);
            let asked: Vec<_> = needed.iter().filter(is_asked).cloned().collect();
            let before = self.missing();
            open = self.learn(&self.review(&client, &asked).await);
            self.say_news(before);
        }
    }

    /// Asks for these permissions of this process, each where it is needed.
    async fn review(&self, client: &Client, rights: &[LocalRight]) -> Vec<Reviewed<LocalRight>> {
        let special = self.0.special.get();
        let placed = rights.iter().map(|local| {
            let object = special.filter(|special| special.rights.contains(&local.right));
            let object = object.map(|SpecialRights { namespace, name, .. }| Location { namespace, name }.into());
            (local.clone(), local.right, object.unwrap_or_else(|| local.namespace.as_deref().into()))
        });
        review_each(client, &Holder::Myself, placed).await
    }

    /// Adds needed permissions.
    fn need(&self, further: Vec<LocalRight>) {
        self.known().extend(further.into_iter().map(|right| (right, Knowledge::Unanswered(None))));
    }

    /// Keeps the answers of a check. Returns the permissions that have to be checked again.
    fn learn(&self, answers: &[Reviewed<LocalRight>]) -> Vec<LocalRight> {
        let mut known = self.known();
        let mut open = Vec::new();
        for (right, knowledge) in known.iter_mut() {
            let Some((_, answer)) = answers.iter().find(|(asked, _)| asked == right) else { continue };
            *knowledge = knowledge.after(answer);
            let is_open = matches!(knowledge, Knowledge::Missing) || answer.as_ref().is_err_and(comes_again);
            open.extend(is_open.then(|| right.clone()));
        }
        open
    }

    /// Logs a change since `before`.
    fn say_news(&self, before: Result<(), String>) {
        let now = self.missing();
        if before == now {
            return;
        }
        let unsaid = self.known().iter().any(|(_, known)| *known == Knowledge::Unsaid);
        match now {
            Ok(()) if unsaid => tracing::warn!("the permissions are not known: the API server refuses their review"),
            Ok(()) => tracing::info!("all needed permissions are granted"),
            Err(missing) => tracing::warn!("{missing}"),
        }
    }

    fn useful(&self) -> MutexGuard<'_, Vec<LocalRight>> {
        self.0.useful.lock().expect("nobody panics here")
    }

    fn doubts(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.doubts.lock().expect("nobody panics here")
    }

    fn known(&self) -> MutexGuard<'_, Vec<(LocalRight, Knowledge)>> {
        self.0.known.lock().expect("nobody panics here")
    }
}

/// Asks for each permission of `holder` at `place`. An answer that does not come in time counts as an absence of the
/// API server.
pub async fn review<'a>(
    client: &Client,
    holder: &Holder,
    place: impl Into<RightPlace<'a>>,
    rights: &[Right],
) -> Vec<Reviewed> {
    let place = place.into();
    review_each(client, holder, rights.iter().map(|&right| (right, right, place))).await
}

/// Like [`review`], for a program that serves `scope`.
pub async fn review_within(
    client: &Client,
    holder: &Holder,
    scope: &Extent,
    rights: &[Right],
) -> Vec<Reviewed<LocalRight>> {
    let rights = LocalRight::all(scope, rights.iter().copied());
    let placed = rights.iter().map(|local| (local.clone(), local.right, local.namespace.as_deref().into()));
    review_each(client, holder, placed).await
}

/// Asks for each permission of `holder` at its place. Each answer comes with the name of its question.
async fn review_each<'a, R>(
    client: &Client,
    holder: &Holder,
    rights: impl Iterator<Item = (R, Right, RightPlace<'a>)>,
) -> Vec<Reviewed<R>> {
    let until = Instant::now() + LIMIT;
    let asked = rights.map(|(named, right, place)| {
        let held = right.is_held(client.clone(), holder.clone(), place);
        async move {
            let late = |_| Err(Why::Unavailable("no answer in time".into()));
            (named, timeout_at(until, held).await.unwrap_or_else(late))
        }
    });
    stream::iter(Vec::from_iter(asked)).buffered(TOGETHER).collect().await
}

/// The result of the first check, for the log.
fn told(needed: &[Reviewed<LocalRight>], useful: &[Reviewed<LocalRight>]) -> String {
    fn missing(answers: &[Reviewed<LocalRight>]) -> Vec<&LocalRight> {
        answers.iter().filter(|(_, answer)| *answer == Ok(false)).map(|(right, _)| right).collect()
    }
    let unknown = needed.iter().chain(useful).find_map(|(_, answer)| answer.as_ref().err());
    let unknown = unknown.map(|why| format!("not known: {why}"));
    match (&*missing(needed), &*missing(useful), unknown) {
        ([], [], None) => "all".into(),
        ([], [], Some(unknown)) => unknown,
        ([], useful, None) => format!("all that are needed; missing and optional: {}", list(useful)),
        ([], useful, Some(unknown)) => format!("missing and optional: {}; others {unknown}", list(useful)),
        (needed, useful, None) => format!("needed and missing: {}", list(&[needed, useful].concat())),
        (needed, useful, Some(unknown)) => {
            format!("needed and missing: {}; others {unknown}", list(&[needed, useful].concat()))
        }
    }
}

fn list(rights: &[&LocalRight]) -> String {
    rights.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::{collections::BTreeMap, convert::Infallible};
    use tokio_util::task::AbortOnDropHandle;

    const WANTED: Wanted = Wanted {
        program: "test",
        needed: &[
            Right::new(Verb::UPDATE.status(), "tokenry.dev", "apitokens"),
            Right::new(Verb::CREATE, "", "secrets"),
        ],
        useful: &[Right::new(Verb::PATCH, "apps", "deployments")],
    };

    /// The answers of a server.
    #[derive(Default)]
    struct Said {
        /// These verbs are denied, in the namespace `a`.
        denied: BTreeSet<&'static str>,
        /// Reviews of these verbs fail with this status code.
        failing: BTreeMap<&'static str, u16>,
        /// The number of reviews.
        asked: usize,
    }

    fn server(said: &Arc<Mutex<Said>>) -> Client {
        let said = said.clone();
        let serve = move |request: Request<Body>| {
            let said = said.clone();
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let asked: Value = serde_json::from_slice(&body).unwrap();
                let asked = &asked["spec"]["resourceAttributes"];
                assert_eq!(asked["namespace"], "a");
                let mut said = said.lock().unwrap();
                said.asked += 1;
                let verb = asked["verb"].as_str().unwrap();
                let (status, answer) = match said.failing.get(verb) {
                    Some(code) => (*code, json!({"kind": "Status", "status": "Failure", "code": code, "message": "m"})),
                    None => (200, json!({"spec": {}, "status": {"allowed": !said.denied.contains(verb)}})),
                };
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
            }
        };
        Client::new(tower::service_fn(serve), "a")
    }

    /// A server that answers each review by the attributes that it is about.
    fn reviewing(allows: impl Fn(&Value) -> bool + Clone + Send + 'static) -> Client {
        let serve = move |request: Request<Body>| {
            let allows = allows.clone();
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let asked: Value = serde_json::from_slice(&body).unwrap();
                let answer = json!({"spec": {}, "status": {"allowed": allows(&asked["spec"]["resourceAttributes"])}});
                Ok::<_, Infallible>(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        };
        Client::new(tower::service_fn(serve), "a")
    }

    const MISSING: &str = "missing permissions: update apitokens.tokenry.dev/status in namespace a; grant the roles of the chart; waiting";

    /// One namespace.
    fn team() -> Extent {
        Extent::of(["a"])
    }

    /// A check that has got its first answers from a server that denies these verbs and fails for those.
    async fn asking(
        denied: &[&'static str],
        failing: &[(&'static str, u16)],
    ) -> (Rights, Arc<Mutex<Said>>, AbortOnDropHandle<()>) {
        let (denied, failing) = (denied.iter().copied().collect(), failing.iter().copied().collect());
        let (rights, said) = (Rights::new(WANTED, &team()), Arc::new(Mutex::new(Said { denied, failing, asked: 0 })));
        let asking = rights.clone().ask(server(&said), String::new());
        let asking = AbortOnDropHandle::new(tokio::spawn(asking));
        tokio::time::sleep(Duration::from_secs(1)).await;
        (rights, said, asking)
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_missing_is_named_until_it_is_granted_and_looked_for_again_when_in_doubt() {
        assert!(Rights::new(WANTED, &team()).missing().unwrap_err().starts_with("waiting for the permissions"));
        let (rights, said, _asking) = asking(&["update", "patch"], &[]).await;
        assert_eq!(rights.missing(), Err(MISSING.into()), "an optional permission is not waited for");
        said.lock().unwrap().denied.clear();
        tokio::time::sleep(SOON).await;
        assert_eq!(rights.missing(), Ok(()));
        said.lock().unwrap().denied.insert("create");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(rights.missing(), Ok(()), "nobody asks while nothing is in doubt");
        rights.doubt("a");
        tokio::time::sleep(2 * SOON).await;
        assert!(rights.missing().unwrap_err().contains("create secrets in namespace a;"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_forbidden_request_puts_the_rights_of_its_namespace_in_doubt_and_of_no_other_one() {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = asked.clone();
        let client = reviewing(move |about| {
            seen.lock().unwrap().push(about["namespace"].as_str().unwrap_or_default().to_owned());
            true
        });
        let scope = Extent::of((0..50).map(|nth| format!("n{nth}")));
        let classes = Right::new(Verb::LIST, "networking.k8s.io", "ingressclasses");
        let rights = Rights::new(WANTED, &scope).needing(&[classes]);
        let _asking = AbortOnDropHandle::new(tokio::spawn(rights.clone().ask(client, String::new())));
        rights.started().await;
        tokio::time::sleep(SOON).await;
        assert_eq!(rights.missing(), Ok(()));
        for (namespace, wanted) in [("n7", &["", "n7", "n7"][..]), ("elsewhere", &[""])] {
            asked.lock().unwrap().clear();
            rights.doubt(namespace);
            rights.doubt(namespace);
            tokio::time::sleep(4 * SOON).await;
            asked.lock().unwrap().sort();
            assert_eq!(*asked.lock().unwrap(), wanted);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_useful_right_is_reviewed_by_its_subresource_and_not_waited_for() {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let asked = seen.clone();
        let client = reviewing(move |about| {
            asked.lock().unwrap().insert(format!("{} {}", about["verb"], about["resource"]));
            about["subresource"] != "custom-host"
        });
        let hosts = Right::new(Verb::CREATE, "route.openshift.io", "routes/custom-host");
        assert_eq!(hosts.to_string(), "create routes.route.openshift.io/custom-host");
        let rights = Rights::new(WANTED, &team()).using([hosts]);
        let asking = rights.clone().ask(client, String::new());
        let _asking = AbortOnDropHandle::new(tokio::spawn(asking));
        rights.started().await;
        assert!(seen.lock().unwrap().contains(r#""create" "routes""#), "{seen:?}");
        tokio::time::sleep(SOON).await;
        assert_eq!(rights.missing(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_missing_stays_so_until_a_review_grants_it_whatever_fails_in_between() {
        let (rights, said, _asking) = asking(&["update"], &[]).await;
        for code in [403, 401, 404, 422, 500, 503] {
            said.lock().unwrap().failing = BTreeMap::from([("update", code), ("create", code)]);
            tokio::time::sleep(3 * SOON).await;
            assert_eq!(rights.missing(), Err(MISSING.into()), "{code}");
            rights.doubt("a");
            tokio::time::sleep(3 * SOON).await;
            assert_eq!(rights.missing(), Err(MISSING.into()), "{code}, in doubt");
        }
        *said.lock().unwrap() = Said::default();
        tokio::time::sleep(2 * SOON).await;
        assert_eq!(rights.missing(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_review_that_fails_hides_no_other_permission_that_is_missing() {
        let (rights, _said, _asking) = asking(&["update"], &[("create", 503)]).await;
        assert_eq!(rights.missing(), Err(MISSING.into()));
    }

    #[tokio::test(start_paused = true)]
    async fn while_no_review_is_answered_the_program_waits_and_says_the_class_of_the_failure_alone() {
        for (code, way) in [(401, "unauthenticated"), (503, "the API server is not available")] {
            let (rights, said, _asking) = asking(&[], &[("update", code), ("create", code)]).await;
            let waiting = format!("waiting for the permissions from the API server: {way}");
            assert_eq!(rights.missing(), Err(waiting));
            said.lock().unwrap().failing.clear();
            tokio::time::sleep(2 * SOON).await;
            assert_eq!(rights.missing(), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_reviews_leaves_the_permissions_unknown_and_is_asked_no_more() {
        let (rights, said, _asking) = asking(&[], &[("update", 403), ("create", 403)]).await;
        assert_eq!(rights.missing(), Ok(()), "a request that is forbidden will say so");
        let asked = said.lock().unwrap().asked;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(said.lock().unwrap().asked, asked);
    }

    #[test]
    fn what_a_program_has_is_said_in_one_sentence() {
        let local = |right| LocalRight { right, namespace: None };
        let [update, create, patch] = [WANTED.needed[0], WANTED.needed[1], WANTED.useful[0]].map(local);
        let late = || Err(Why::Unavailable("late".into()));
        let told = |update_is, create_is, patch_is| {
            super::told(&[(update.clone(), update_is), (create.clone(), create_is)], &[(patch.clone(), patch_is)])
        };
        assert_eq!(told(Ok(true), Ok(true), Ok(true)), "all");
        let optional = "missing and optional: patch deployments.apps";
        assert_eq!(told(Ok(true), Ok(true), Ok(false)), format!("all that are needed; {optional}"));
        let all = "needed and missing: update apitokens.tokenry.dev/status, create secrets, patch deployments.apps";
        assert_eq!(told(Ok(false), Ok(false), Ok(false)), all);
        let unknown = "not known: the API server is not available: late";
        assert_eq!(told(late(), Ok(true), late()), unknown);
        assert_eq!(told(late(), Ok(true), Ok(false)), format!("{optional}; others {unknown}"));
        let some = "needed and missing: update apitokens.tokenry.dev/status";
        assert_eq!(told(Ok(false), late(), Ok(true)), format!("{some}; others {unknown}"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_on_one_object_is_reviewed_by_its_name_and_a_creation_without_one() {
        const SPECIAL: [Right; 2] = [Right::new(Verb::CREATE, "x", "leases"), Right::new(Verb::UPDATE, "x", "leases")];
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let asked = seen.clone();
        let client = reviewing(move |about| {
            let text = |key: &str| about[key].as_str().unwrap_or_default().to_owned();
            let told = ["verb", "resource", "namespace", "name"].map(text).join(" ");
            let allowed = told != "update leases b one";
            asked.lock().unwrap().insert(told);
            allowed
        });
        let rights = Rights::new(WANTED, &team()).needing_on(Location { namespace: "b", name: "one" }, &SPECIAL);
        let asking = rights.clone().ask(client, String::new());
        let _asking = AbortOnDropHandle::new(tokio::spawn(asking));
        rights.started().await;
        let wanted = ["create leases b ", "create secrets a ", "patch deployments a ", "update apitokens a "];
        let wanted: BTreeSet<_> = wanted.into_iter().chain(["update leases b one"]).map(str::to_owned).collect();
        assert_eq!(*seen.lock().unwrap(), wanted);
        assert!(rights.missing().unwrap_err().contains("missing permissions: update leases.x;"));
    }

    #[tokio::test]
    async fn namespaces_are_listed_in_no_namespace_and_each_is_read_in_itself() {
        let client = reviewing(|about| about["namespace"].is_null());
        let held =
            |verb, resource| Right::new(verb, "", resource).is_held(client.clone(), Holder::Myself, Some("a").into());
        assert_eq!((held(Verb::LIST, "namespaces").await, held(Verb::LIST, "secrets").await), (Ok(true), Ok(false)));
        assert_eq!(
            (held(Verb::GET, "namespaces").await, held(Verb::WATCH, "namespaces").await),
            (Ok(false), Ok(false))
        );
        let named = Right::new(Verb::LIST, "", "namespaces").within(&team());
        assert_eq!(named, Right::new(Verb::GET, "", "namespaces"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_missing_in_one_of_several_namespaces_is_named_with_that_namespace() {
        let client = reviewing(|about| about["namespace"] != "b" || about["verb"] != "create");
        let rights = Rights::new(WANTED, &Extent::of(["a", "b", "c"]));
        let asking = rights.clone().ask(client.clone(), String::new());
        let _asking = AbortOnDropHandle::new(tokio::spawn(asking));
        rights.started().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let missing = "missing permissions: create secrets in namespace b; grant the roles of the chart; waiting";
        assert_eq!(rights.lacking().as_deref(), Some(missing));
        assert_eq!(rights.missing(), Err(missing.to_owned()));
        let asked = [Right::new(Verb::CREATE, "", "secrets"), Right::new(Verb::LIST, "", "ingressclasses")];
        let answers = review_within(&client, &Holder::Myself, &Extent::of(["a", "b"]), &asked).await;
        let told: Vec<_> = answers.iter().map(|(right, held)| (right.to_string(), held == &Ok(true))).collect();
        let wanted = [("create secrets in namespace a", true), ("create secrets in namespace b", false)];
        let wanted = wanted.into_iter().chain([("list ingressclasses", true)]);
        assert_eq!(told, wanted.map(|(right, held)| (right.to_owned(), held)).collect::<Vec<_>>());
    }
}
