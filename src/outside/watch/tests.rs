use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{future, pin_mut, stream};
use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, ResourceExt, client::Body};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{
    sync,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::{
    crd::ApiToken,
    outside::{Extent, hearing::StaleAfter},
};

/// A server without objects, which never answers its first request.
fn hanging() -> Client {
    let hangs = AtomicBool::new(true);
    Client::new(
        tower::service_fn(move |_: Request<Body>| {
            let hangs = hangs.swap(false, Ordering::SeqCst);
            let list = r#"{"metadata": {"resourceVersion": "7"}, "items": []}"#;
            async move {
                if hangs {
                    future::pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::new(Body::from(list.as_bytes().to_vec())))
            }
        }),
        "a",
    )
}

/// A server without objects, which cuts each watch after 20 seconds of silence. The counter counts its watch requests.
fn cutting() -> (Client, Arc<AtomicUsize>) {
    let watches = Arc::new(AtomicUsize::new(0));
    let counted = watches.clone();
    let serve = move |request: Request<Body>| {
        let list = stream::iter([Ok::<_, io::Error>(r#"{"metadata": {"resourceVersion": "7"}, "items": []}"#)]);
        let body = if request.uri().query().unwrap_or_default().contains("watch=true") {
            counted.fetch_add(1, Ordering::SeqCst);
            let cut = stream::once(async {
                sleep(Duration::from_secs(20)).await;
                Err::<&str, _>(io::Error::from(io::ErrorKind::ConnectionReset))
            });
            axum::body::Body::from_stream(cut)
        } else {
            axum::body::Body::from_stream(list)
        };
        future::ready(Ok::<_, Infallible>(Response::new(body)))
    };
    (Client::new(tower::service_fn(serve), "a"), watches)
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_that_is_cut_again_and_again_is_begun_again_soon() {
    let (client, watches) = cutting();
    let hearing = Hearing::default();
    let events = Extent::Cluster.watch::<ApiToken>(&client, &hearing);
    assert!(timeout(Duration::from_secs(600), events.for_each(|_| future::ready(()))).await.is_err());
    let watches = watches.load(Ordering::SeqCst);
    assert!((28..=30).contains(&watches), "{watches} in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_is_given_up_when_a_new_history_begins() {
    let hearing = Hearing::default();
    let events = Extent::Cluster.watch::<ApiToken>(&hanging(), &hearing);
    pin_mut!(events);
    let begun = Instant::now();
    let (heard, ()) = future::join(events.take(4).collect::<Vec<_>>(), async {
        sleep(Duration::from_secs(5)).await;
        hearing.begin_history();
    })
    .await;
    let all = heard.iter().map(|heard| matches!(heard, Heard::Event(Event::Init)));
    assert_eq!(all.collect::<Vec<_>>(), [true, true, false, false], "{heard:?}");
    assert!(matches!(heard[2], Heard::Listed(Listed { version: 7, anew: true })), "{heard:?}");
    assert!(matches!(heard[3], Heard::Event(Event::InitDone)), "{heard:?}");
    assert_eq!(begun.elapsed().as_secs(), 5, "long before the list would have been late");
}

/// The versions of objects, by namespace and name.
type SeenVersions = BTreeMap<(String, String), u64>;

/// The state of a model of an API server with ConfigMaps in namespaces.
#[derive(Default)]
struct Model {
    version: u64,
    objects: SeenVersions,
    /// All changes: version, namespace and event.
    log: Vec<(u64, String, Value)>,
    /// New requests for these namespaces are refused.
    forbidden: BTreeSet<String>,
    /// Watches of these namespaces are refused, though their lists are permitted.
    unwatchable: BTreeSet<String>,
    /// Watches of these namespaces show no events and do not end.
    silent: BTreeSet<String>,
    /// Watches from an earlier version are refused.
    oldest: u64,
    /// The version, the objects and the changes that a restore brings back.
    backup: (u64, SeenVersions, Vec<(u64, String, Value)>),
    /// The number of complete lists, by namespace.
    listed: BTreeMap<String, usize>,
    /// The versions from which watches began, by namespace.
    watched: BTreeMap<String, Vec<u64>>,
}

impl Model {
    fn object(namespace: &str, name: &str, version: u64) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name, "resourceVersion": version.to_string()}})
    }

    fn log(&mut self, event: &str, namespace: &str, name: &str) {
        let object = Self::object(namespace, name, self.version);
        self.log.push((self.version, namespace.to_owned(), json!({"type": event, "object": object})));
    }

    fn write(&mut self, namespace: &str, name: &str) {
        self.version += 1;
        let before = self.objects.insert((namespace.to_owned(), name.to_owned()), self.version);
        self.log(if before.is_some() { "MODIFIED" } else { "ADDED" }, namespace, name);
    }

    fn delete(&mut self, namespace: &str, name: &str) {
        if self.objects.remove(&(namespace.to_owned(), name.to_owned())).is_some() {
            self.version += 1;
            self.log("DELETED", namespace, name);
        }
    }

    fn back_up(&mut self) {
        self.backup = (self.version, self.objects.clone(), self.log.clone());
    }

    /// Goes back to the backup. The versions of later changes are given again.
    fn restore(&mut self) {
        (self.version, self.objects, self.log) = self.backup.clone();
        self.oldest = self.oldest.min(self.version);
    }

    fn list(&mut self, namespace: &str) -> Value {
        let items = self.objects.iter().filter(|((of, _), _)| of == namespace);
        let items: Vec<_> = items.map(|((of, name), version)| Self::object(of, name, *version)).collect();
        json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items})
    }

    /// The objects of the namespaces `a` and `b`.
    fn served(&self) -> SeenVersions {
        let served = self.objects.iter().filter(|((namespace, _), _)| namespace != "c");
        served.map(|(key, version)| (key.clone(), *version)).collect()
    }

    /// The first event after a version.
    fn after(&self, namespace: &str, version: u64) -> Option<&(u64, String, Value)> {
        let mut log = self.log.iter().filter(|(at, of, _)| *at > version && of == namespace);
        log.next().filter(|_| !self.silent.contains(namespace))
    }
}

/// A model of an API server.
#[derive(Clone)]
struct ModelServer(sync::watch::Sender<Model>);

impl ModelServer {
    fn new() -> Self {
        let mut model = Model { version: 10, ..Model::default() };
        model.back_up();
        Self(sync::watch::Sender::new(model))
    }

    fn change(&self, change: impl FnOnce(&mut Model)) {
        self.0.send_modify(change);
    }

    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(tower::service_fn(move |request| future::ready(Ok::<_, Infallible>(server.answer(&request)))), "a")
    }

    fn answer(&self, request: &Request<Body>) -> Response<axum::body::Body> {
        let namespace = request.uri().path().split('/').nth(4).unwrap().to_owned();
        let asked = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let asked: BTreeMap<_, _> = asked.into_owned().collect();
        let said = |code: u16| {
            let status = json!({"kind": "Status", "status": "Failure", "message": "m", "code": code}).to_string();
            Response::builder().status(code).body(axum::body::Body::from(status)).unwrap()
        };
        if self.0.borrow().forbidden.contains(&namespace) {
            return said(403);
        }
        if asked.get("watch").is_none_or(|watch| watch != "true") {
            let mut list = Value::Null;
            self.0.send_if_modified(|model| {
                *model.listed.entry(namespace.clone()).or_default() += usize::from(asked["limit"] != "1");
                list = model.list(&namespace);
                false
            });
            return Response::new(axum::body::Body::from(list.to_string()));
        }
        if self.0.borrow().unwatchable.contains(&namespace) {
            return said(403);
        }
        let from: u64 = asked["resourceVersion"].parse().unwrap();
        if from < self.0.borrow().oldest {
            return said(410);
        }
        self.0.send_if_modified(|model| {
            model.watched.entry(namespace.clone()).or_default().push(from);
            false
        });
        let ends = Instant::now() + Duration::from_secs(asked["timeoutSeconds"].parse().unwrap());
        Response::new(axum::body::Body::from_stream(self.events(namespace, from, ends)))
    }

    /// The lines of a watch.
    fn events(&self, namespace: String, from: u64, ends: Instant) -> impl Stream<Item = io::Result<String>> + use<> {
        let begun = (self.0.subscribe(), from);
        stream::unfold(begun, move |(mut changes, from)| {
            let namespace = namespace.clone();
            async move {
                loop {
                    let next = changes.borrow_and_update().after(&namespace, from).cloned();
                    if let Some((version, _, event)) = next {
                        return Some((Ok(format!("{event}\n")), (changes, version)));
                    }
                    let is_silent = changes.borrow().silent.contains(&namespace);
                    tokio::select! {
                        changed = changes.changed() => changed.ok()?,
                        () = sleep_until(ends), if !is_silent => return None,
                    }
                }
            }
        })
    }
}

/// The objects that a consumer of the stream knows.
#[derive(Default)]
struct View {
    objects: SeenVersions,
    listing: SeenVersions,
    lists: Vec<Listed>,
}

impl View {
    fn hear(&mut self, heard: Heard<ConfigMap>) {
        let key = |object: &ConfigMap| (object.namespace().unwrap(), object.name_any());
        match heard {
            Heard::Event(Event::Init) => self.listing.clear(),
            Heard::Event(Event::InitApply(object)) => _ = self.listing.insert(key(&object), version(&object)),
            Heard::Listed(listed) => self.lists.push(listed),
            Heard::Event(Event::InitDone) => self.objects = std::mem::take(&mut self.listing),
            Heard::Event(Event::Apply(object)) => _ = self.objects.insert(key(&object), version(&object)),
            Heard::Event(Event::Delete(object)) => _ = self.objects.remove(&key(&object)),
            Heard::Gone(Unread { namespace, name, .. }) => _ = self.objects.remove(&(namespace, name)),
            Heard::Unreadable(unread) => panic!("{unread:?}"),
        }
    }
}

/// A watch of the namespaces `a` and `b` of a server, and the poll beside it.
struct Watched {
    server: ModelServer,
    hearing: Hearing,
    view: Arc<Mutex<View>>,
    /// The watch and the poll.
    tasks: [AbortOnDropHandle<()>; 2],
}

impl Watched {
    /// A watch that has listed everything, if the server permits it.
    async fn begun(server: ModelServer) -> Self {
        let (hearing, view) = (Hearing::close(StaleAfter::default()), Arc::<Mutex<View>>::default());
        let (scope, client) = (Extent::of(["a", "b"]), server.client());
        let events = scope.watch::<ConfigMap>(&client, &hearing);
        let (told, model) = (view.clone(), server.clone());
        let task = tokio::spawn(events.for_each(move |heard| {
            let is_list = matches!(heard, Heard::Event(Event::InitDone));
            let mut view = told.lock().unwrap();
            view.hear(heard);
            assert!(!is_list || view.objects == model.0.borrow().served(), "a list is whole");
            future::ready(())
        }));
        let poll = tokio::spawn(hearing.clone().ask::<ConfigMap>(client, scope));
        let watched = Self { server, hearing, view, tasks: [task, poll].map(AbortOnDropHandle::new) };
        watched.change(|_| ()).await;
        watched
    }

    /// Changes the server, and waits until the news has arrived.
    async fn change(&self, change: impl FnOnce(&mut Model)) {
        self.server.change(change);
        sleep(Duration::from_millis(1)).await;
    }

    fn objects(&self) -> Vec<String> {
        self.view.lock().unwrap().objects.keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }

    fn lists(&self) -> usize {
        self.view.lock().unwrap().lists.len()
    }
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn several_namespaces_are_one_list_with_the_lowest_version_and_then_all_their_events() {
    let server = ModelServer::new();
    server.change(|model| {
        model.write("a", "x");
        model.write("b", "y");
        model.write("c", "z");
    });
    let watched = Watched::begun(server).await;
    assert_eq!(watched.objects(), ["a/x", "b/y"]);
    watched.change(|model| model.delete("a", "x")).await;
    watched.change(|model| model.write("b", "new")).await;
    watched.change(|model| model.write("c", "new")).await;
    assert_eq!(watched.objects(), ["b/new", "b/y"]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((watched.lists(), watched.hearing.is_old()), (1, false), "watches that end are begun again");
    let lists = watched.view.lock().unwrap().lists.clone();
    assert_eq!(lists, [Listed { version: 13, anew: true }]);
}

#[test]
fn the_version_of_a_list_is_the_lowest_of_its_places_and_an_unknown_one_is_the_lowest_of_all() {
    let lowest = |versions: &[&str]| super::lowest(&versions.iter().map(|&it| it.to_owned()).collect::<Vec<_>>());
    assert_eq!([lowest(&["12", "9", "10"]), lowest(&["7"]), lowest(&["7", ""])], [9, 7, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_watch_hangs_does_not_hide_behind_another_one() {
    let watched = Watched::begun(ModelServer::new()).await;
    watched.change(|model| _ = model.silent.insert("b".to_owned())).await;
    for n in 0..100 {
        watched.change(|model| model.write("a", &n.to_string())).await;
        sleep(Duration::from_secs(4)).await;
        assert!(n < 3 || watched.hearing.is_old(), "{n}");
    }
    assert_eq!(watched.objects().len(), 100, "the other one is heard");
    assert_eq!(watched.hearing.deaf().as_deref(), Some("configmaps in namespace b"));
    watched.change(|model| model.silent.clear()).await;
    sleep(SOON).await;
    assert!(!watched.hearing.is_old() && watched.hearing.deaf().is_none());
    assert_eq!(watched.lists(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_lost_its_version_is_listed_alone_and_nothing_stays_that_is_gone() {
    let watched = Watched::begun(ModelServer::new()).await;
    watched.change(|model| ["kept", "gone"].iter().for_each(|name| model.write("b", name))).await;
    watched.change(|model| _ = model.silent.insert("b".to_owned())).await;
    watched.change(|model| model.delete("b", "gone")).await;
    watched.change(|model| model.write("a", "new")).await;
    assert_eq!(watched.objects(), ["a/new", "b/gone", "b/kept"]);
    watched.change(|model| model.oldest = model.version).await;
    // The silent watch is given up, and its version is too old for another one.
    sleep(SOON).await;
    assert_eq!((watched.objects(), watched.lists()), (vec!["a/new".to_owned(), "b/kept".to_owned()], 1));
    let listed = watched.server.0.borrow().listed.clone();
    assert_eq!(listed, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_lost_its_version_while_another_is_refused_is_heard_again() {
    let watched = Watched::begun(ModelServer::new()).await;
    watched.change(|model| _ = model.forbidden.insert("b".to_owned())).await;
    sleep(SOON).await;
    watched.change(|model| model.write("b", "unseen")).await;
    watched.change(|model| model.oldest = model.version).await;
    sleep(SOON).await;
    watched.change(|model| model.write("a", "new")).await;
    assert_eq!(watched.objects(), ["a/new"]);
    assert!(watched.hearing.is_old() && !watched.hearing.is_cut_off());
    watched.change(|model| model.forbidden.clear()).await;
    sleep(SOON).await;
    assert_eq!((watched.objects(), watched.lists()), (vec!["a/new".to_owned(), "b/unseen".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_can_be_listed_and_not_watched_is_listed_ever_less_often_and_the_other_one_once() {
    let watched = Watched::begun(ModelServer::new()).await;
    watched.change(|model| _ = model.unwatchable.insert("b".to_owned())).await;
    sleep(Duration::from_secs(120)).await;
    let listed = watched.server.0.borrow().listed.clone();
    assert!(listed["a"] == 1 && listed["b"] <= 16, "{listed:?}");
    watched.change(|model| model.write("b", "new")).await;
    watched.change(|model| model.unwatchable.clear()).await;
    sleep(SOON).await;
    assert_eq!(watched.objects(), ["b/new"]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_refused_leaves_the_others_heard_and_is_listed_later() {
    let watched = Watched::begun(ModelServer::new()).await;
    watched.change(|model| ["kept", "gone"].iter().for_each(|name| model.write("b", name))).await;
    watched.change(|model| _ = model.forbidden.insert("b".to_owned())).await;
    sleep(SOON).await;
    watched.change(|model| model.delete("b", "gone")).await;
    watched.change(|model| model.write("a", "new")).await;
    assert_eq!(watched.objects(), ["a/new", "b/gone", "b/kept"], "the other one is heard at once");
    assert_eq!(watched.lists(), 1);
    sleep(Duration::from_secs(400)).await;
    assert!(watched.hearing.is_old());
    assert_eq!(watched.hearing.stale().as_deref(), Some("configmaps in namespace b"));
    watched.change(|model| model.forbidden.clear()).await;
    sleep(SOON).await;
    assert_eq!((watched.objects(), watched.lists()), (vec!["a/new".to_owned(), "b/kept".to_owned()], 1));
    assert!(!watched.hearing.is_old());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_each_namespace_was_listed() {
    let server = ModelServer::new();
    server.change(|model| {
        model.write("a", "x");
        model.forbidden.insert("b".to_owned());
    });
    let watched = Watched::begun(server).await;
    sleep(Duration::from_secs(400)).await;
    assert_eq!((watched.objects().len(), watched.lists()), (0, 0));
    assert_eq!(watched.hearing.stale().as_deref(), Some("configmaps in namespace b"));
    watched.change(|model| model.forbidden.clear()).await;
    sleep(SOON).await;
    assert_eq!((watched.objects(), watched.lists()), (vec!["a/x".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_aborts_the_watch_of_each_namespace() {
    let watched = Watched::begun(ModelServer::new()).await;
    watched.change(|model| model.silent.extend(["a", "b"].map(str::to_owned))).await;
    watched.change(|model| model.write("b", "x")).await;
    watched.change(|model| model.silent.clear()).await;
    assert_eq!(watched.objects(), ["b/x"], "the model itself wakes its watches");
    watched.change(|model| _ = model.silent.insert("b".to_owned())).await;
    watched.change(|model| model.write("b", "y")).await;
    watched.hearing.begin_history();
    sleep(Duration::from_millis(1)).await;
    assert_eq!((watched.objects(), watched.lists()), (vec!["b/x".to_owned(), "b/y".to_owned()], 2));
    assert!(watched.view.lock().unwrap().lists[1].anew);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_busy_is_watched_again_from_the_version_of_each_namespace_without_a_list() {
    let watched = Watched::begun(ModelServer::new()).await;
    watched.tasks[1].abort();
    watched.change(|model| model.write("b", "x")).await;
    watched.change(|model| model.silent.extend(["a", "b"].map(str::to_owned))).await;
    sleep(Duration::from_secs(6)).await;
    watched.hearing.fails(true);
    watched.hearing.answered();
    sleep(Duration::from_millis(1)).await;
    let begun = watched.server.0.borrow().watched.clone();
    assert_eq!(begun, BTreeMap::from([("a".to_owned(), vec![10, 10]), ("b".to_owned(), vec![10, 11])]));
    watched.change(|model| model.silent.clear()).await;
    watched.change(|model| model.write("b", "y")).await;
    assert_eq!((watched.objects(), watched.lists()), (vec!["b/x".to_owned(), "b/y".to_owned()], 1));
}

/// A change of the model, or a time that passes.
#[derive(Clone, Debug)]
enum ModelStep {
    Write(&'static str, &'static str),
    Delete(&'static str, &'static str),
    Forbid(&'static str, bool),
    Silence(&'static str, bool),
    Compact,
    BackUp,
    Restore,
    Pass(u64),
}

fn model_step() -> impl Strategy<Value = ModelStep> {
    let (namespace, name) = (|| prop::sample::select(vec!["a", "b"]), || prop::sample::select(vec!["x", "y", "z"]));
    prop_oneof![
        4 => (namespace(), name()).prop_map(|(namespace, name)| ModelStep::Write(namespace, name)),
        3 => (namespace(), name()).prop_map(|(namespace, name)| ModelStep::Delete(namespace, name)),
        2 => (namespace(), any::<bool>()).prop_map(|(namespace, on)| ModelStep::Forbid(namespace, on)),
        2 => (namespace(), any::<bool>()).prop_map(|(namespace, on)| ModelStep::Silence(namespace, on)),
        1 => Just(ModelStep::Compact),
        1 => Just(ModelStep::BackUp),
        1 => Just(ModelStep::Restore),
        3 => (0u64..20).prop_map(ModelStep::Pass),
    ]
}

async fn plays(steps: &[ModelStep]) -> (SeenVersions, SeenVersions) {
    let watched = Watched::begun(ModelServer::new()).await;
    for step in steps {
        match *step {
            ModelStep::Write(namespace, name) => watched.change(|model| model.write(namespace, name)).await,
            ModelStep::Delete(namespace, name) => watched.change(|model| model.delete(namespace, name)).await,
            ModelStep::Forbid(namespace, true) => {
                watched.change(|model| _ = model.forbidden.insert(namespace.to_owned())).await;
            }
            ModelStep::Forbid(namespace, false) => {
                watched.change(|model| _ = model.forbidden.remove(namespace)).await;
            }
            ModelStep::Silence(namespace, true) => {
                watched.change(|model| _ = model.silent.insert(namespace.to_owned())).await;
            }
            ModelStep::Silence(namespace, false) => watched.change(|model| _ = model.silent.remove(namespace)).await,
            ModelStep::Compact => watched.change(|model| model.oldest = model.version).await,
            ModelStep::BackUp => watched.change(Model::back_up).await,
            // A server that comes back from a restore was away, and that begins a history.
            ModelStep::Restore => {
                watched.server.change(Model::restore);
                watched.hearing.begin_history();
            }
            ModelStep::Pass(seconds) => sleep(Duration::from_secs(seconds)).await,
        }
    }
    watched
        .change(|model| {
            model.forbidden.clear();
            model.silent.clear();
        })
        .await;
    sleep(Duration::from_secs(60)).await;
    let seen = watched.view.lock().unwrap().objects.clone();
    (seen, watched.server.0.borrow().objects.clone())
}

proptest! {
    #![proptest_config(crate::token::cases::so_many(256))]

    #[test]
    fn whatever_is_refused_silent_or_lost_the_consumer_knows_in_the_end_exactly_what_exists(
        steps in prop::collection::vec(model_step(), 0..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (seen, exist) = runtime.block_on(plays(&steps));
        prop_assert_eq!(seen, exist);
    }
}
