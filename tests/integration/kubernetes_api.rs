//! Servers of the Kubernetes API that accept tokens: a real kube-apiserver with the webhook of the example, and a real
//! kube-controller-manager that delegates its authentication. Both ask a real verifier by TokenReview.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use controlplane::{ControlPlane, Process, free_address};
use k8s_openapi::api::{
    authentication::v1::{SelfSubjectReview, UserInfo},
    core::v1::Pod,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
    config::AuthInfo,
};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::harness::{
    World,
    clock::{Held, hours},
    root,
    run::Running,
    secured::Secured,
};

/// The names in the documentation that a test replaces.
const CA: &str = ": /etc/kubernetes/tokenry/ca.crt";
const SERVICE: &str = "tokenry-verifier.tokenry-system.svc";

/// The treatment of connections to the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Through,
    /// Connections are accepted, and nothing is answered.
    Silent,
    /// Connections are closed.
    Closed,
}

/// A relay to the verifier that a test can interrupt.
struct Relay {
    address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Relay {
    async fn start(verifier: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, way) = (listener.local_addr().unwrap(), watch::Sender::new(Way::Through));
        let ways = way.clone();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(relay(caller, verifier, ways.subscribe()));
            }
        });
        Self { address, way }
    }

    /// Treats connections in this way from now on. Open ones are closed.
    fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn relay(mut caller: TcpStream, verifier: SocketAddr, mut ways: watch::Receiver<Way>) {
    let way = *ways.borrow_and_update();
    let served = async {
        match way {
            Way::Through => {
                if let Ok(mut verifier) = TcpStream::connect(verifier).await {
                    let _ = copy_bidirectional(&mut caller, &mut verifier).await;
                }
            }
            Way::Silent => std::future::pending().await,
            Way::Closed => {}
        }
    };
    tokio::select! {
        () = served => {}
        _ = ways.changed() => {}
    }
}

/// A namespace with an operator, a verifier, and the Instance `shop`. Its tokens are viewers.
struct Setting {
    world: World,
    clock: Held,
    /// A kube-apiserver knows it by its certificate.
    verifier: Secured,
    _operator: Running,
}

impl Setting {
    async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        let clock = Held::default();
        let (_operator, verifier) = (world.operator(&clock).await, Secured::start(&world, &clock).await);
        world.ready(verifier.running()).await;
        let roles = json!({"api": {"authorization": "Roles"}, "tokens": {"defaultRole": "viewer"}});
        world.accepts("Instance", "shop", roles).await;
        Self { world, clock, verifier, _operator }
    }

    /// The value of a new token.
    async fn token(&self, name: &str, instance: &str) -> String {
        self.world.accepts("ApiToken", name, json!({"instanceRef": {"name": instance}})).await;
        let value = self.world.await_generation(name, 1).await;
        self.world.await_reason(name, "Active").await;
        value
    }
}

/// A kube-apiserver that accepts tokens of the Instance `shop`.
struct Guarded<'a> {
    plane: ControlPlane,
    world: &'a World,
}

impl<'a> Guarded<'a> {
    fn start(world: &'a World) -> Self {
        Self { plane: ControlPlane::start().unwrap(), world }
    }

    /// The text of the example, with the address `verifier`, and the files and names of this test.
    fn webhook(&self, verifier: SocketAddr, ca: &Path) -> String {
        let mut text = fs::read_to_string(root().join("examples/proxies/kube-apiserver.yaml")).unwrap();
        let namespace = &self.world.namespace;
        for (from, to) in [
            ("https://10.96.0.53/", format!("https://{verifier}/")),
            ("/instances/events/shop/", format!("/instances/{namespace}/shop/")),
            (",tokenry.dev/events/shop", format!(",tokenry.dev/{namespace}/shop")),
            (CA, format!(": {}", ca.display())),
            ("=/etc/kubernetes/tokenry/kube-apiserver.yaml", format!("={}", self.file().display())),
            ("=https://kubernetes.default.svc.cluster.local,", "=https://kubernetes.default.svc,".to_owned()),
        ] {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, &to);
        }
        text
    }

    fn file(&self) -> PathBuf {
        self.plane.directory().join("webhook.yaml")
    }

    /// Gives kube-apiserver this webhook, by the flags that it names itself.
    fn ask(&self, webhook: &str, further: &[&str]) {
        fs::write(self.file(), webhook).unwrap();
        let named = webhook.lines().filter_map(|line| line.strip_prefix("#   ")).chain(further.iter().copied());
        let flags: Vec<_> = named.map(str::to_owned).collect();
        assert_eq!(flags.len(), 4 + further.len(), "{flags:?}");
        self.plane.restart_api_server_with(&flags).unwrap();
    }

    /// The user that a token is, or else the status of the refusal. No token: `None`.
    async fn whoami(&self, token: Option<&str>) -> Result<UserInfo, u16> {
        let mut config = self.plane.config(token.unwrap_or_default());
        if token.is_none() {
            config.auth_info = AuthInfo::default();
        }
        let api = Api::<SelfSubjectReview>::all(Client::try_from(config).unwrap());
        match api.create(&PostParams::default(), &SelfSubjectReview::default()).await {
            Ok(review) => Ok(review.status.unwrap().user_info.unwrap()),
            Err(kube::Error::Api(status)) => Err(status.code),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Waits until the answer to a token has this status. Cached answers end first.
    async fn becomes(&self, token: &str, status: u16) {
        let told = async || {
            let now = self.whoami(Some(token)).await.map_or_else(|code| code, |_| 200);
            (now == status).then_some(())
        };
        self.world.eventually(&format!("kube-apiserver says {status}"), told).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_apiserver_knows_a_token_as_a_user_by_the_example_and_refuses_any_other() {
    let setting = Setting::new("apiserver").await;
    let Setting { world, clock, verifier, .. } = &setting;
    let namespace = &world.namespace;
    let value = setting.token("ci", "shop").await;
    world.accepts("Instance", "other", json!({})).await;
    let stray = setting.token("stray", "other").await;
    let (relay, guarded) = (Relay::start(verifier.address).await, Guarded::start(world));
    let webhook = guarded.webhook(relay.address, &verifier.ca);
    guarded.ask(&webhook, &["--anonymous-auth=false"]);

    let user = guarded.whoami(Some(&value)).await.unwrap();
    let named = |group: &str| format!("tokenry.dev:{group}");
    let groups = [
        named(&format!("account:{namespace}/ci")),
        named(&format!("instance:{namespace}/shop")),
        named("role:viewer"),
        "system:authenticated".to_owned(),
    ];
    assert_eq!(user.username, Some(format!("token:{namespace}/ci")));
    assert_eq!(user.uid, world.token("ci").await.metadata.uid);
    assert_eq!(BTreeSet::from_iter(user.groups.unwrap()), BTreeSet::from(groups));
    let id = world.key("ci", "token-id").await.unwrap();
    assert_eq!(user.extra, Some(BTreeMap::from([("tokenry.dev/token-id".to_owned(), vec![id])])));

    let pods = || Api::<Pod>::namespaced(guarded.plane.client_for(&value), "default");
    let list = async || pods().list(&ListParams::default()).await;
    assert!(matches!(list().await, Err(kube::Error::Api(status)) if status.code == 403), "no group has a right yet");
    let binding = ["create", "clusterrolebinding", "viewers", "--clusterrole=view", "--group=tokenry.dev:role:viewer"];
    guarded.plane.kubectl(&binding).unwrap();
    world.eventually("the group of the role may list Pods", async || list().await.ok()).await;

    let unknown = tokenry::token::format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
    for (token, about) in [
        (None, "no token"),
        (Some("made up"), "no form of a token"),
        (Some(unknown.expose()), "unknown"),
        (Some(&*stray), "another Instance"),
    ] {
        assert_eq!(guarded.whoami(token).await.err(), Some(401), "{about}");
    }

    world.change("ApiToken", "ci", json!({"active": false})).await.unwrap();
    guarded.becomes(&value, 401).await;
    world.change("ApiToken", "ci", json!({"active": true})).await.unwrap();
    guarded.becomes(&value, 200).await;

    world.change("ApiToken", "ci", json!({"regenerate": {"id": "again"}})).await.unwrap();
    let next = world.await_generation("ci", 2).await;
    let ids = [&value, &next].map(async |value| guarded.whoami(Some(value)).await.unwrap().extra.unwrap());
    let [old, new] = ids;
    assert_ne!(old.await, new.await, "both generations are accepted during the overlap");
    clock.move_by(hours(25));
    guarded.becomes(&value, 401).await;
    assert!(guarded.whoami(Some(&next)).await.is_ok(), "only the older generation has expired");
    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    guarded.becomes(&next, 401).await;

    let late = setting.token("late", "shop").await;
    for way in [Way::Closed, Way::Silent] {
        relay.set(way);
        assert_eq!(guarded.whoami(Some(&late)).await.err(), Some(401), "{way:?}");
    }
    relay.set(Way::Through);
    assert!(guarded.whoami(Some(&late)).await.is_ok(), "an error is not kept");

    // The default version of kube-apiserver.
    guarded.ask(&webhook, &["--authentication-token-webhook-version=v1beta1"]);
    assert_eq!(guarded.whoami(Some(&late)).await.unwrap().username, Some(format!("token:{namespace}/late")));
    assert_eq!(guarded.whoami(Some(&next)).await.err(), Some(401));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_apiserver_asks_no_verifier_but_its_own_and_refuses_tokens_while_that_cannot_answer() {
    let mut setting = Setting::new("apiserver-outage").await;
    let value = setting.token("ci", "shop").await;
    let Setting { world, verifier, .. } = &mut setting;
    let guarded = Guarded::start(world);
    guarded.ask(&guarded.webhook(verifier.address, &verifier.ca), &[]);
    // No failure to ask is kept. So one value shows all of them.
    let refuses = async |about: &str| assert_eq!(guarded.whoami(Some(&value)).await.err(), Some(401), "{about}");

    verifier.stop().await;
    refuses("it is down").await;
    verifier.start_untrusted(world).await;
    refuses("it has a certificate of another authority").await;
    verifier.stop().await;
    verifier.start_misnamed(world).await;
    refuses("it has a certificate for another name").await;
    verifier.stop().await;
    let wire = verifier.start_unsynced(world).await;
    refuses("it has read nothing so far").await;
    verifier.stop().await;
    drop(wire);
    let path = format!("/v1/instances/{}/shop/authorize", world.namespace);
    let wire = verifier.start_cut_off(world, &path).await;
    refuses("it cannot reach the API server any more").await;
    verifier.stop().await;
    drop(wire);
    verifier.start_again(world).await;
    let accepts = async || guarded.whoami(Some(&value)).await.ok();
    world.eventually("the token is accepted after a restart", accepts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_delegates_its_authentication_asks_below_the_address_of_the_instance() {
    let setting = Setting::new("delegating").await;
    let Setting { world, verifier, .. } = &setting;
    let (value, other) = (setting.token("ci", "shop").await, setting.token("other", "shop").await);
    let namespace = &world.namespace;
    let (port, _manager) = manager(world, &delegating(verifier, namespace)).await;

    let group = format!("--group=tokenry.dev:account:{namespace}/ci");
    let kubectl = |args: &[&str]| world.plane.kubectl(&[args, &[&*format!("metrics-{namespace}")]].concat()).unwrap();
    kubectl(&["create", "clusterrole", "--verb=get", "--non-resource-url=/metrics"]);
    let role = format!("--clusterrole=metrics-{namespace}");
    kubectl(&["create", "clusterrolebinding", &role, &group]);
    let status = async |token: &str| {
        let mut config = world.plane.config(token);
        config.cluster_url = format!("https://127.0.0.1:{port}").parse().unwrap();
        config.accept_invalid_certs = true;
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        match Client::try_from(config).unwrap().request_text(request).await {
            Ok(_) => 200,
            Err(kube::Error::Api(status)) => status.code,
            Err(error) => panic!("no answer: {error}"),
        }
    };
    let permitted = async || (status(&value).await == 200).then_some(());
    world.eventually("the group of the account may read metrics", permitted).await;
    assert_eq!(status(&other).await, 403, "a valid token without a right");
    assert_eq!(status("made up").await, 401);
}

/// The `cluster` of the documentation for servers that delegate, with the address of this verifier.
fn delegating(verifier: &Secured, namespace: &str) -> String {
    let page = fs::read_to_string(root().join("docs/how-to/kubernetes-api.md")).unwrap();
    let part = page.split("## Servers that delegate their authentication").nth(1).unwrap();
    let block = part.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let address = verifier.address.to_string();
    let instance = format!("/instances/{namespace}/shop");
    [
        (CA, &*format!(": {}", verifier.ca.display())),
        (&*format!("https://{SERVICE}/"), &*format!("https://{address}/")),
        ("/instances/events/shop", &instance),
    ]
    .iter()
    .fold(block.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    })
}

/// Starts kube-controller-manager, with this cluster for its authentication. Returns its port.
async fn manager(world: &World, cluster: &str) -> (u16, Process) {
    let folder = world.plane.directory().join(format!("manager-{}", world.namespace));
    fs::create_dir_all(&folder).unwrap();
    let cluster: String = cluster.lines().map(|line| format!("  {line}\n")).collect();
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: tokenry\nclusters:\n- name: tokenry\n{cluster}contexts:\n\
         - name: tokenry\n  context: {{cluster: tokenry, user: nobody}}\nusers:\n- name: nobody\n"
    );
    fs::write(folder.join("authentication"), kubeconfig).unwrap();
    let port = free_address().unwrap().port();
    let mut command = Command::new(controlplane::program("kube-controller-manager").unwrap());
    command.env_clear().arg("--kubeconfig").arg(world.plane.kubeconfig());
    command.arg("--authorization-kubeconfig").arg(world.plane.kubeconfig());
    command.arg("--authentication-kubeconfig").arg(folder.join("authentication")).arg("--cert-dir").arg(&folder);
    command.arg(format!("--secure-port={port}")).args(["--bind-address=127.0.0.1", "--authentication-skip-lookup"]);
    command.args(["--leader-elect=false", "--controllers=token-cleaner-controller"]);
    let mut manager = Process::start("kube-controller-manager", command, &folder.join("log")).unwrap();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(manager.is_running(), "{}", manager.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    (port, manager)
}
