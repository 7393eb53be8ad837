//! Several operators, of which one leads by a Lease.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use controlplane::{AuditEvent, Process, free_address};
use futures::{StreamExt, stream};
use http::StatusCode;
use jiff::SignedDuration;
use k8s_openapi::api::{coordination::v1::Lease, events::v1::Event};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::json;
use tokenry::outside::lead::{LeaseOrder, LeasePeriods};

use crate::harness::{
    World,
    clock::{Held, hours},
    run::Running,
    tunnel::{self, Protocol},
};

/// The name of the Lease, which the role of the chart names.
const LEASE: &str = "tokenry-operator";
/// The duration of the Leases of processes. The other times are in proportion to the defaults.
const LASTS: Duration = Duration::from_secs(10);
/// The longest time from the death of a leader to the next one.
const TAKEOVER: f64 = 1.2;
/// The number of tokens that operators rotate side by side.
const MANY: usize = 200;

/// An operator in a process of its own, with a user of its own.
struct Candidate {
    name: &'static str,
    process: Process,
    probes: SocketAddr,
}

impl Candidate {
    fn signal(&self, signal: &str) {
        let pid = self.process.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits until the process has ended.
    async fn ended(&mut self) {
        let ended = async {
            while self.process.is_running() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(LASTS * 6, ended).await.is_ok(), "{} still runs", self.name);
    }

    async fn get(&self, path: &str) -> Option<(StatusCode, String)> {
        let answer = reqwest::get(format!("http://{}{path}", self.probes)).await.ok()?;
        Some((answer.status(), answer.text().await.ok()?))
    }
}

impl World {
    /// The permissions for the Lease of this namespace, as the chart grants them, for a core ServiceAccount.
    fn allow_lease(&self, name: &str, account: &str) {
        let role = ["--clusterrole", "tokenry-operator-leader", "--serviceaccount", account];
        let binding = [&["create", "rolebinding", name], &role[..], &["--namespace", &self.namespace]].concat();
        self.plane.kubectl(&binding).unwrap();
    }

    /// A token of a core ServiceAccount with the operator's roles. So the audit log tells operators apart.
    fn hire(&self, name: &str) -> String {
        let (space, kubectl) = (&*self.namespace, |args: &[&str]| self.plane.kubectl(args).unwrap());
        kubectl(&["create", "serviceaccount", name, "--namespace", space]);
        let account = format!("{space}:{name}");
        for role in ["tokenry-operator", "tokenry-operator-cluster", "scoped"] {
            let binding = format!("{space}-{name}-{role}");
            kubectl(&["create", "clusterrolebinding", &binding, "--clusterrole", role, "--serviceaccount", &account]);
        }
        self.allow_lease(name, &account);
        kubectl(&["create", "token", name, "--namespace", space]).trim().to_owned()
    }

    /// Starts an operator as a process, with the API server behind `proxy` if there is one.
    fn candidate(&self, name: &'static str, proxy: Option<&str>, elected: bool) -> Candidate {
        let token = self.hire(name);
        let kubeconfig = match proxy {
            Some(proxy) => self.afar(name, &token, Some(&format!("http://{proxy}"))),
            None => {
                let path = self.plane.kubeconfig_for(&format!("{name}-{}", self.namespace), &token).unwrap();
                path.display().to_string()
            }
        };
        let probes = free_address().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(["operator", "--listen", "127.0.0.1:0", "--probes", &probes.to_string()]);
        command.args(["--namespace", &self.namespace]);
        if elected {
            command.args(["--leader-elect", "--leader-election-namespace", &self.namespace]);
            command.args(["--leader-election-lease-duration=10s", "--leader-election-renew-deadline=6s"]);
            command.arg("--leader-election-retry-period=1s");
        }
        command.env("KUBECONFIG", kubeconfig).env("HOSTNAME", name);
        let log = self.plane.directory().join(format!("operator-{}-{name}.log", self.namespace));
        Candidate { name, process: Process::start(name, command, &log).unwrap(), probes }
    }

    /// The name of the operator that holds the Lease.
    async fn holder(&self) -> Option<String> {
        let lease = self.api::<Lease>().get_opt(LEASE).await.ok()??;
        Some(lease.spec?.holder_identity?.split('_').next()?.to_owned())
    }

    async fn awaits_leader(&self, name: &str) {
        let leads = async || (self.holder().await.as_deref() == Some(name)).then_some(());
        self.eventually(&format!("{name} leads"), leads).await;
    }

    /// Two operators: `one` leads, and `two` is ready. The API server is behind the valves, if there are any.
    async fn two(&self, proxies: [Option<&str>; 2]) -> (Candidate, Candidate) {
        let one = self.candidate("one", proxies[0], true);
        self.awaits_leader("one").await;
        let two = self.candidate("two", proxies[1], true);
        let ready = async || (two.get("/readyz").await?.0 == StatusCode::OK).then_some(());
        self.eventually("the standby is ready", ready).await;
        self.smallest().await;
        self.await_reason("ci", "Active").await;
        (one, two)
    }

    /// Asks for a new generation of each of these tokens.
    async fn rotate(&self, id: &str, names: impl Iterator<Item = String>) {
        let ask = async |name: String| {
            self.change("ApiToken", &name, json!({"regenerate": {"id": id}})).await.unwrap();
        };
        stream::iter(names).for_each_concurrent(8, ask).await;
    }

    /// Creates these tokens, and waits until each has its first value.
    async fn many(&self, count: usize) {
        let create = async |name: String| {
            self.accepts("ApiToken", &name, json!({"instanceRef": {"name": "eem"}})).await;
        };
        stream::iter(names(count)).for_each_concurrent(8, create).await;
        self.await_all(count, 1).await;
    }

    /// Waits until each of these tokens serves this generation. A pass that is cut off takes a number of its own, so
    /// it may be a later one.
    async fn await_all(&self, count: usize, generation: i64) {
        for name in names(count) {
            self.await_reason(&name, if generation == 1 { "Active" } else { "Rotating" }).await;
            let served = self.token(&name).await.status.unwrap().records.iter().map(|record| record.generation).max();
            assert!(served >= Some(generation), "{name}: {served:?}");
        }
    }

    /// The writes of the operators, in the order of their arrival, with the name of each operator. Leases and Events
    /// are not among them.
    fn written(&self) -> Vec<(String, AuditEvent)> {
        let prefix = format!("system:serviceaccount:{}:", self.namespace);
        let mut all = self.audited();
        all.sort_by(|one, other| one.time.cmp(&other.time));
        let of = |event: AuditEvent| Some((event.user.strip_prefix(&prefix)?.to_owned(), event));
        let writes = |event: &AuditEvent| ["create", "update", "patch", "delete"].contains(&&*event.verb);
        let matters = |event: &AuditEvent| {
            let others = ["leases", "events", "selfsubjectaccessreviews"];
            writes(event) && !event.dry_run && !others.contains(&&*event.resource)
        };
        all.into_iter().filter(matters).filter_map(of).collect()
    }

    /// Fails unless these operators wrote, each only after the last write of the one before it. Prints the writes that
    /// a precondition stopped.
    fn assert_in_turn(&self, names: &[&str]) {
        let all = self.written();
        let done = all.iter().filter(|(_, event)| event.code < 300).map(|(name, _)| &**name);
        let mut order: Vec<&str> = done.collect();
        order.dedup();
        assert_eq!(order, names, "operators wrote side by side");
        let refused = all.iter().filter(|(_, event)| event.code == 409).count();
        println!("{}: {} writes in turn, {refused} refused by preconditions", self.namespace, all.len());
    }

    /// An operator of the test's own process that takes part in an election with short times.
    async fn elected(&self, name: &str, clock: &Held) -> Running {
        let client = self.plane.client_for(&self.identities.operator);
        let order = LeaseOrder { namespace: Some(self.namespace.clone()), name: LEASE.to_owned(), periods: short() };
        let choose = |options: &mut tokenry::operator::Options| {
            options.election = Some(order);
            options.instance = Some(name.to_owned());
        };
        self.operator_with(client, clock, choose).await
    }

    /// A namespace with two operators of the test's own process, of which the first leads.
    async fn pair(name: &str, clocks: [&Held; 2]) -> (Self, Running, Running) {
        let world = Self::new(name).await;
        world.allow_lease("leader", "tokenry-system:tokenry-operator");
        let one = world.elected("one", clocks[0]).await;
        world.awaits_leader("one").await;
        let two = world.elected("two", clocks[1]).await;
        world.ready(&two).await;
        (world, one, two)
    }

    /// Merges this patch into the Lease, as `kubectl edit` would.
    async fn edit(&self, patch: &serde_json::Value) {
        let kind = ApiResource::erase::<Lease>(&());
        let leases: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
        leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until the Lease was renewed some times.
    async fn awaits_renewals(&self) {
        for _ in 0..3 {
            let renewed = async || self.api::<Lease>().get(LEASE).await.ok()?.spec?.renew_time;
            let before = renewed().await;
            let is_renewed = async || renewed().await.filter(|renewed| Some(renewed) != before.as_ref());
            self.eventually("the Lease is renewed", is_renewed).await;
        }
    }
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|nth| format!("t{nth}"))
}

/// Times for operators in the test's own process.
fn short() -> LeasePeriods {
    LeasePeriods { lease: Duration::from_secs(3), renew: Duration::from_secs(2), retry: Duration::from_millis(200) }
}

/// True if an operator says that it leads.
async fn leads(operator: &Running) -> bool {
    let (_, metrics) = operator.get("/metrics").await;
    let told = |value: u8| metrics.contains(&format!(r#"leader_election_master_status{{name="{LEASE}"}} {value}"#));
    assert!(told(0) || told(1), "{metrics}");
    told(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_ready_and_only_watches_until_the_leader_ends() {
    let (world, one, two) = World::pair("standby", [&Held::default(), &Held::default()]).await;
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    for (operator, leader) in [(&one, true), (&two, false)] {
        assert_eq!(operator.get("/readyz").await.0, StatusCode::OK);
        assert_eq!(operator.get("/healthz").await.0, StatusCode::OK);
        assert_eq!(leads(operator).await, leader);
        assert_eq!(
            operator.get("/metrics").await.1.contains("tokenry_writes_total{"),
            leader,
            "a standby writes nothing"
        );
    }
    let about = async || {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        let leading = events.into_iter().filter(|event| event.reason.as_deref() == Some("LeaderElection"));
        Vec::from_iter(leading.map(|event| event.note.unwrap_or_default()))
    };
    world.eventually("an Event says so", async || (about().await.len() == 1).then_some(())).await;
    assert!(about().await[0].starts_with("LeaseTaken: one_"), "{:?}", about().await);
    let start = Instant::now();
    one.stop().await;
    world.awaits_leader("two").await;
    println!("the Lease was released and taken after {:?}", start.elapsed());
    world.rotate("next", std::iter::once("ci".to_owned())).await;
    world.await_generation("ci", 2).await;
    world.eventually("the metric says who leads", async || leads(&two).await.then_some(())).await;
    assert!(about().await.iter().any(|note| note.starts_with("LeaseReleased: one_")), "{:?}", about().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_without_a_right_on_the_lease_is_not_ready_and_names_it_until_it_is_granted() {
    let world = World::new("leaseless").await;
    world.allow_lease("leader", "tokenry-system:tokenry-operator");
    let _one = world.elected("one", &Held::default()).await;
    world.awaits_leader("one").await;
    let [get, create, update] = ["get", "create", "update"].map(|verb| format!("{verb} leases.coordination.k8s.io"));
    for (held, missing) in [
        ("", format!("{get}, {create}, {update}")),
        ("get", format!("{create}, {update}")),
        ("get,create", update.clone()),
    ] {
        // A user with the rights of the operator, and some of those on the Lease.
        let user = format!("{}-leaseless-{}", world.namespace, held.replace(',', "-"));
        for role in ["tokenry-operator", "tokenry-operator-cluster", "scoped"] {
            let binding = format!("{user}-{role}");
            let args = ["create", "clusterrolebinding", &binding, "--clusterrole", role, "--user", &user];
            world.plane.kubectl(&args).unwrap();
        }
        let grant = |name: &str, verbs: &str| {
            let role = ["create", "role", name, "--verb", verbs, "--resource", "leases.coordination.k8s.io"];
            let bind = ["create", "rolebinding", name, "--role", name, "--user", &user];
            for args in [&role[..], &bind] {
                world.plane.kubectl(&[args, &["--namespace", &world.namespace]].concat()).unwrap();
            }
        };
        if !held.is_empty() {
            grant(&format!("some-{}", held.replace(',', "-")), held);
        }
        let order = LeaseOrder { namespace: Some(world.namespace.clone()), name: LEASE.to_owned(), periods: short() };
        let (client, clock) = (world.acting_as(&user), Held::default());
        let operator = world.operator_with(client, &clock, |options| options.election = Some(order)).await;
        let wanted = format!("missing permissions: {missing}; grant the roles of the chart; waiting\n");
        let told = async || {
            let (status, told) = operator.get("/readyz").await;
            (told == wanted && status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
        };
        world.eventually(&format!("/readyz says {wanted}"), told).await;
        grant(&format!("all-{}", held.replace(',', "-")), "get,create,update");
        world.ready(&operator).await;
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_hours_apart_make_no_second_leader_and_no_late_one() {
    for (ahead, behind) in [(2, -2), (-2, 2)] {
        let (first, second) = (Held::default(), Held::default());
        first.move_by(hours(ahead));
        second.move_by(hours(behind));
        let (world, one, two) = World::pair("skewed", [&first, &second]).await;
        world.awaits_renewals().await;
        first.move_by(SignedDuration::from_hours(-5));
        world.awaits_renewals().await;
        let lease = world.api::<Lease>().get(LEASE).await.unwrap().spec.unwrap();
        assert_eq!((leads(&one).await, leads(&two).await, lease.lease_transitions), (true, false, Some(0)));
        one.kill().await;
        world.awaits_leader("two").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_deleted_or_full_of_rubbish_stays_with_its_leader() {
    let (world, one, two) = World::pair("rubbish", [&Held::default(), &Held::default()]).await;
    let rubbish = [
        json!({"spec": null}),
        json!({"spec": {"holderIdentity": null}}),
        json!({"spec": {"leaseDurationSeconds": i32::MAX, "leaseTransitions": i32::MAX}}),
        json!({"spec": {"leaseDurationSeconds": null, "renewTime": null, "acquireTime": null}}),
        // A time that the client library cannot read.
        json!({"spec": {"renewTime": "9999-12-31T23:59:59.999999Z"}}),
        json!({"spec": {"renewTime": "1970-01-01T00:00:00.000000Z"}}),
        json!({"metadata": {"labels": {"a": "b"}}}),
    ];
    for patch in rubbish {
        world.edit(&patch).await;
        world.awaits_leader("one").await;
        world.awaits_renewals().await;
        assert_eq!((leads(&one).await, leads(&two).await), (true, false), "{patch}");
    }
    let leases: Api<Lease> = world.api();
    leases.delete(LEASE, &DeleteParams::default()).await.unwrap();
    world.awaits_leader("one").await;
    world.awaits_renewals().await;
    assert_eq!((leads(&one).await, leads(&two).await), (true, false), "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_is_taken_by_hand_ends_and_the_lease_is_free_after_its_duration() {
    let (world, one, _two) = World::pair("by-hand", [&Held::default(), &Held::default()]).await;
    let start = Instant::now();
    world.edit(&json!({"spec": {"holderIdentity": "somebody"}})).await;
    let ended = one.ended().await.unwrap_err().to_string();
    assert!(ended.contains("lost the Lease") && ended.contains("somebody holds it"), "{ended}");
    world.awaits_leader("two").await;
    assert!(start.elapsed() >= short().lease, "somebody may lead as long as the Lease says");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standby_leads_within_a_fifth_more_than_the_lease_after_a_leader_is_killed() {
    let world = World::new("killed").await;
    let (one, two) = world.two([None, None]).await;
    let start = Instant::now();
    one.signal("-KILL");
    world.awaits_leader("two").await;
    let ratio = start.elapsed().as_secs_f64() / LASTS.as_secs_f64();
    println!("takeover after {ratio:.2} of the Lease");
    assert!(ratio <= TAKEOVER, "{ratio}");
    world.rotate("next", std::iter::once("ci".to_owned())).await;
    world.await_generation("ci", 2).await;
    world.assert_in_turn(&["one", two.name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_in_the_middle_of_its_work_does_no_write_when_it_continues() {
    let world = World::new("paused").await;
    let (mut one, two) = world.two([None, None]).await;
    world.many(40).await;
    world.rotate("next", names(40)).await;
    one.signal("-STOP");
    world.awaits_leader("two").await;
    world.await_all(40, 2).await;
    one.signal("-CONT");
    world.rotate("last", names(40)).await;
    one.ended().await;
    assert_eq!(one.process.exit_status().unwrap().code(), Some(7));
    let log = one.process.log();
    assert!(log.contains("lost the Lease"), "{log}");
    let times = |text: &str| log.matches(text).count();
    println!("held back: {}, refused late: {}", times("a write is held back"), times("a late write was refused"));
    world.await_all(40, 3).await;
    world.assert_in_turn(&["one", two.name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_ends_before_another_one_leads() {
    let world = World::new("cut").await;
    let (proxy, valve) = tunnel::stoppable(Protocol::Connect).await;
    let (mut one, two) = world.two([Some(&proxy), None]).await;
    world.many(20).await;
    world.rotate("next", names(20)).await;
    valve.shut();
    while one.process.is_running() {
        assert_eq!(world.holder().await.as_deref(), Some("one"), "another one leads while the first still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.awaits_leader("two").await;
    world.await_all(20, 2).await;
    world.assert_in_turn(&["one", two.name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_for_longer_than_the_lease_makes_no_second_leader() {
    let world = World::new("away").await;
    let (proxy, valve) = tunnel::stoppable(Protocol::Connect).await;
    let (mut one, two) = world.two([Some(&proxy), Some(&proxy)]).await;
    valve.shut();
    one.ended().await;
    tokio::time::sleep(LASTS).await;
    assert_eq!(two.get("/healthz").await.unwrap().0, StatusCode::OK, "a standby waits");
    assert_eq!(two.get("/readyz").await.unwrap().0, StatusCode::OK);
    valve.open();
    world.awaits_leader("two").await;
    world.rotate("next", std::iter::once("ci".to_owned())).await;
    world.await_generation("ci", 2).await;
    world.assert_in_turn(&["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_end_finishes_its_work_and_gives_the_lease_away_last() {
    let world = World::new("ended").await;
    let (mut one, two) = world.two([None, None]).await;
    world.many(40).await;
    world.rotate("next", names(40)).await;
    one.signal("-TERM");
    one.ended().await;
    let end = Instant::now();
    assert_eq!(one.process.exit_status().unwrap().code(), Some(0), "{}", one.process.log());
    world.awaits_leader("two").await;
    let ratio = end.elapsed().as_secs_f64() / LASTS.as_secs_f64();
    println!("takeover after {ratio:.2} of the Lease");
    assert!(ratio < 0.5, "the successor leads at once: {ratio}");
    world.await_all(40, 2).await;
    world.assert_in_turn(&["one", two.name]);
    let user = format!("system:serviceaccount:{}:one", world.namespace);
    let mut of_one: Vec<_> = world.audited().into_iter().filter(|event| event.user == user).collect();
    of_one.retain(|event| ["create", "update", "patch", "delete"].contains(&&*event.verb));
    of_one.sort_by(|one, other| one.time.cmp(&other.time));
    assert!(of_one.iter().any(|event| event.resource == "events"), "Events were written");
    assert_eq!(of_one.last().unwrap().resource, "leases", "the last write");
}

/// The writes of two operators that rotate many tokens, and those of them that were refused as outdated.
async fn side_by_side(name: &str, elected: bool) -> (usize, usize) {
    let world = World::new(name).await;
    let _both = ["one", "two"].map(|name| world.candidate(name, None, elected));
    world.accepts("Instance", "eem", json!({})).await;
    world.many(MANY).await;
    let before = world.written().len();
    world.rotate("next", names(MANY)).await;
    world.await_all(MANY, 2).await;
    let all = world.written().split_off(before);
    let refused = all.iter().filter(|(_, event)| event.code == 409).count();
    println!("elected: {elected}; {} writes, {refused} refused: {} %", all.len(), 100 * refused / all.len());
    (all.len(), refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_refuse_each_other_nothing_if_one_of_them_leads() {
    let (_, refused) = side_by_side("refusing", false).await;
    assert!(refused > 0, "two that work refuse each other");
    let (_, refused) = side_by_side("led", true).await;
    assert_eq!(refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_leader_keeps_the_certificate_of_the_verifier() {
    let world = World::alone("keepers").await;
    world.plane.install_crds(crate::harness::root()).unwrap();
    world.allow_lease("leader", "tokenry-system:tokenry-operator");
    let order = LeaseOrder { namespace: Some(world.namespace.clone()), name: LEASE.to_owned(), periods: short() };
    let keeper = async |name: &str| {
        let client = world.plane.client_for(&world.identities.operator);
        let choose = |options: &mut tokenry::operator::Options| {
            options.election = Some(order.clone());
            options.instance = Some(name.to_owned());
            options.certificate = Some(crate::certificate::order(crate::certificate::SECRET));
        };
        world.operator_with(client, &Held::default(), choose).await
    };
    let wrote =
        async |operator: &Running| operator.get("/metrics").await.1.contains(r#"writes_total{kind="ConfigMap""#);
    let one = keeper("one").await;
    world.eventually("the leader keeps it", async || wrote(&one).await.then_some(())).await;
    let two = keeper("two").await;
    world.ready(&two).await;
    let path = ["get", "secret", crate::certificate::SECRET, "--namespace", "tokenry-system", "-o", "name"];
    world.eventually("the certificate is there", async || world.plane.kubectl(&path).ok()).await;
    world.plane.kubectl(&["delete", "configmap", "tokenry-verifier-tls-ca", "--namespace", "tokenry-system"]).unwrap();
    assert!(!wrote(&two).await);
    one.stop().await;
    world.eventually("the successor keeps it", async || wrote(&two).await.then_some(())).await;
    world.plane.stop_api_server();
}
