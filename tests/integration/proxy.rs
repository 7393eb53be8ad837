//! A real proxy in front of an API, set up as the documentation says: what is let in, and what the API is told of it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use controlplane::Process;
use http::{HeaderMap, Method};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{
    caddy,
    harness::{
        World,
        api::{self, Api, IDENTITY, Seen, told},
        clock::Held,
        root,
        run::Running,
    },
};

/// Names that the documentation uses.
const VERIFIER: &str = "tokenry-verifier.tokenry-system.svc:80";
const INSTANCE: &str = "/events/shop/";
const API: &str = "shop-manager.events.svc:8080";

/// Caddy, with the configuration of the documentation.
struct Edge {
    address: SocketAddr,
    _caddy: Process,
}

impl Edge {
    /// `verifier` is the addresses at which it asks, with a space between two.
    async fn start(world: &World, verifier: &str, api: &Api) -> Self {
        Self::start_with(world, verifier, api, |configuration| configuration).await
    }

    /// The same, with another configuration made of it.
    async fn start_with(world: &World, verifier: &str, api: &Api, change: impl Fn(String) -> String) -> Self {
        // Another process may take the port before Caddy does.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let mut caddy = caddy(world, free, &change(configuration(world, free, verifier, api.address)));
            if serves(&mut caddy).await {
                return Self { address: free, _caddy: caddy };
            }
            assert!(caddy.log().contains("address already in use"), "{}", caddy.log());
        }
        panic!("Caddy found no free port");
    }

    /// What a caller gets who sends these headers: the status, the answer's headers, and what the API saw.
    async fn get(&self, headers: &[(&'static str, &str)]) -> (u16, HeaderMap, Seen) {
        self.ask(Method::GET, "/orders?page=2", headers).await
    }

    /// The same for another request.
    async fn ask(&self, method: Method, path: &str, headers: &[(&'static str, &str)]) -> (u16, HeaderMap, Seen) {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|&(name, value)| {
            map.append(name, value.parse().unwrap());
        });
        let request = reqwest::Client::new().request(method, format!("http://{}{path}", self.address)).headers(map);
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, headers, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    async fn status(&self, headers: &[(&'static str, &str)]) -> u16 {
        self.get(headers).await.0
    }

    /// The same for a request with these very lines behind its host, which a library would not send.
    async fn raw(&self, lines: &str) -> (u16, Seen) {
        let head = format!("GET /orders HTTP/1.1\r\nHost: {}\r\n{lines}", self.address);
        let (status, body) = api::raw(self.address, &head).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }
}

/// The configuration of the documentation, with the addresses of this test in it.
fn configuration(world: &World, site: SocketAddr, verifier: &str, api: SocketAddr) -> String {
    caddy::caddyfile(&[
        (caddy::SITE, &format!("http://{site}")),
        (VERIFIER, verifier),
        (INSTANCE, &format!("/{}/shop/", world.namespace)),
        (API, &api.to_string()),
    ])
}

/// The same with the answer to preflight requests, as the documentation adds it.
fn with_preflight(configuration: String) -> String {
    let page = fs::read_to_string(root().join("docs/how-to/cors-and-methods.md")).unwrap();
    let block = page.split("```caddyfile\n").nth(1).unwrap().split("```").next().unwrap();
    let route = "\troute {\n";
    assert_eq!(configuration.matches(route).count(), 1);
    configuration.replace(route, &format!("{route}{block}"))
}

fn caddy(world: &World, site: SocketAddr, configuration: &str) -> Process {
    let folder = world.plane.directory().join(format!("{}-{}", world.namespace, site.port()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("Caddyfile");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new(controlplane::program("caddy").unwrap());
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file).env_clear().env("HOME", &folder);
    Process::start("caddy", command, &folder.join("caddy.log")).unwrap()
}

/// Waits until it does, or has ended.
async fn serves(caddy: &mut Process) -> bool {
    let serves = async {
        while !caddy.log().contains("serving initial configuration") {
            if !caddy.is_running() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        true
    };
    tokio::time::timeout(Duration::from_secs(60), serves).await.expect("Caddy starts within a minute")
}

/// A token that is served, and an API behind a proxy that asks about it.
struct Setting {
    world: World,
    _operator: Running,
    verifier: Running,
    api: Api,
    edge: Edge,
    bearer: String,
}

async fn setting(name: &str) -> Setting {
    let world = World::new(name).await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "shop", json!({"organization": "acme"})).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "shop"}})).await;
    let bearer = format!("Bearer {}", world.await_generation("ci", 1).await);
    let api = Api::start(Ipv4Addr::LOCALHOST).await;
    let edge = Edge::start(&world, &verifier.address.to_string(), &api).await;
    Setting { world, _operator, verifier, api, edge, bearer }
}

impl Setting {
    /// What the API has to be told, whatever the caller says: for each identity header all that was sent of it.
    async fn identity(&self) -> [Vec<String>; 5] {
        let id = self.world.key("ci", "token-id").await.unwrap();
        let subject = format!("account:{}/ci", self.world.namespace);
        [subject.clone(), id, String::new(), "acme".to_owned(), subject].map(|value| vec![value])
    }
}

#[tokio::test]
async fn a_valid_token_is_let_in_and_the_api_is_told_whose_it_is() {
    let setting = setting("proxied").await;
    let value = setting.bearer.strip_prefix("Bearer ").unwrap();
    let (token, api_key) = (format!("Token {value}"), format!("Api-Key {value}"));
    let places = [
        ("authorization", &*setting.bearer),
        ("authorization", &token),
        ("authorization", &api_key),
        ("api-token", value),
    ];
    for place in places {
        let (status, _, seen) = setting.edge.get(&[place]).await;
        assert_eq!((status, told(&seen)), (200, setting.identity().await), "{}", place.0);
    }
    assert_eq!(setting.api.asked(), places.len());
}

#[tokio::test]
async fn a_preflight_request_is_answered_by_the_proxy_and_any_other_needs_a_token() {
    let Setting { world, verifier, api, bearer, .. } = &setting("preflight").await;
    let edge = Edge::start_with(world, &verifier.address.to_string(), api, with_preflight).await;
    let origin = ("origin", "https://console.shop.example.com");
    let asked = ("access-control-request-method", "DELETE");
    let (status, headers, _) = edge.ask(Method::OPTIONS, "/orders", &[origin, asked]).await;
    assert_eq!((status, api.asked()), (204, 0));
    assert_eq!(headers["access-control-allow-origin"], origin.1);
    assert_eq!(edge.ask(Method::OPTIONS, "/orders", &[origin]).await.0, 401);
    assert_eq!(edge.ask(Method::GET, "/orders", &[origin, asked]).await.0, 401);
    assert_eq!(edge.ask(Method::GET, "/orders", &[origin, ("authorization", bearer)]).await.0, 200);
}

#[tokio::test]
async fn a_login_without_a_token_reaches_the_api_and_names_nobody() {
    let Setting { world, api, edge, bearer, _operator, verifier: _verifier } = setting("login").await;
    let unguarded = json!([{"methods": ["GET", "POST"], "paths": ["/login/**"]}]);
    let excluded = json!([{"paths": ["/login/**"], "message": "sign in without a token"}]);
    world.change("Instance", "shop", json!({"api": {"unguarded": unguarded, "excluded": excluded}})).await.unwrap();
    let opened = async || (edge.ask(Method::POST, "/login", &[]).await.0 == 200).then_some(());
    world.eventually("the login is unguarded", opened).await;
    let nobody = IDENTITY.map(|_| vec![String::new()]);
    let forged = IDENTITY.map(|name| (name, "forged"));
    for own in [("authorization", "Basic dTpw"), ("authorization", "Bearer a.b.c"), ("accept", "*/*")] {
        let (status, _, seen) =
            edge.ask(Method::POST, "/login/form?next=/orders", &[&forged[..], &[own]].concat()).await;
        assert_eq!((status, told(&seen)), (200, nobody.clone()), "{own:?}");
        assert_eq!(seen[own.0], [own.1], "the API reads the credential itself");
    }
    let asked = api.asked();
    for (method, path, headers, status) in [
        (Method::GET, "/login", vec![("authorization", &*bearer)], 403),
        (Method::GET, "/login", vec![("authorization", "Basic dTpw"), ("authorization", &bearer)], 401),
        (Method::DELETE, "/login", vec![], 401),
        (Method::GET, "/orders", vec![("authorization", "Basic dTpw")], 401),
        (Method::GET, "/Login", vec![], 401),
        (Method::GET, "//login", vec![], 401),
        (Method::GET, "/login/..%2forders", vec![], 401),
        (Method::GET, "/login%2Fform", vec![], 401),
        (Method::GET, "/login", vec![("x-http-method-override", "DELETE")], 401),
        (Method::GET, "/login?_method=DELETE", vec![], 401),
    ] {
        assert_eq!(edge.ask(method.clone(), path, &headers).await.0, status, "{method} {path} {headers:?}");
    }
    assert_eq!(api.asked(), asked);
}

#[tokio::test]
async fn what_a_caller_says_of_itself_is_not_passed_on() {
    let setting = setting("forged").await;
    let mut headers = IDENTITY.map(|name| (name, "forged")).to_vec();
    let look_alikes = ["x_tokenry_subject", "x-tokenry_role", "x_tokenry-role", "x_forwarded_user", "x-forwarded_user"];
    headers.extend(look_alikes.map(|name| (name, "forged")));
    headers.extend(["x-tokenry-whatever", "x_forwarded-user"].map(|name| (name, "forged")));
    assert_eq!(setting.edge.status(&headers).await, 401);
    assert_eq!(setting.api.asked(), 0);
    headers.push(("authorization", &setting.bearer));
    let (status, _, seen) = setting.edge.get(&headers).await;
    assert_eq!((status, told(&seen)), (200, setting.identity().await));
    assert!(!seen.values().flatten().any(|value| value == "forged"), "{:?}", seen.keys());
}

#[tokio::test]
async fn every_identity_header_reaches_the_api_whatever_a_caller_names_in_connection() {
    let setting = setting("connection").await;
    for lines in [
        "Connection: close, X-Tokenry-Role, X-Tokenry-Organization\r\n",
        "connection: x-forwarded-user\r\n",
        "CONNECTION:  X-TOKENRY-SUBJECT ,\tx-tokenry-token-id,,\r\n",
        "Connection: close\r\nConnection: X-Tokenry-Role\r\nconnection: X-Tokenry-Subject\r\n",
        "Connection: Upgrade, X-Tokenry-Role\r\nUpgrade: websocket\r\n",
        "Connection: TE, X-Tokenry-Role\r\nTE: trailers\r\n",
        "Connection: keep-alive, Connection, X-Tokenry-Role\r\nKeep-Alive: timeout=5\r\n",
        "Connection: X-Tokenry-*, X_Tokenry_Role, \"X-Tokenry-Role\"\r\n",
        "Proxy-Connection: X-Tokenry-Role\r\n",
    ] {
        let (status, seen) = setting.edge.raw(&format!("Authorization: {}\r\n{lines}", setting.bearer)).await;
        assert_eq!((status, told(&seen)), (200, setting.identity().await), "{lines:?}");
    }
    // What says who calls is taken off for the verifier too.
    let asked = setting.api.asked();
    let lines = format!("Authorization: {}\r\nConnection: Authorization\r\n", setting.bearer);
    assert_eq!((setting.edge.raw(&lines).await.0, setting.api.asked()), (401, asked));
}

#[tokio::test]
async fn nobody_else_is_let_in() {
    let Setting { world, _operator, verifier: _verifier, api, edge, bearer } = setting("refused").await;
    let (status, headers, _) = edge.get(&[]).await;
    let plain = format!(r#"Bearer realm="tokenry/{}/shop""#, world.namespace);
    assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, &*plain));
    let (status, headers, _) = edge.get(&[("authorization", "Bearer tkn_guessed")]).await;
    let challenge = format!(r#"{plain}, error="invalid_token""#);
    assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, &*challenge));
    // The test of the guard, also with a token.
    for headers in [&[][..], &[("authorization", &*bearer)]] {
        let (status, headers, _) = edge.ask(Method::POST, "/.tokenry/probe?a", headers).await;
        assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, &*plain));
    }
    let value = bearer.strip_prefix("Bearer ").unwrap();
    assert_eq!(edge.status(&[("authorization", &bearer), ("api-token", value)]).await, 401, "in two places");
    assert_eq!(edge.status(&[("authorization", &bearer), ("authorization", &bearer)]).await, 401, "twice");
    assert_eq!((edge.status(&[("authorization", &bearer)]).await, api.asked()), (200, 1));

    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    let refused = async || (edge.status(&[("authorization", &bearer)]).await == 401).then_some(api.asked());
    let asked = world.eventually("the revoked token is refused", refused).await;
    assert_eq!((edge.status(&[("authorization", &bearer)]).await, api.asked()), (401, asked));
}

#[tokio::test]
async fn what_a_token_may_do_is_judged_by_what_the_caller_asked_the_proxy_for() {
    let setting = setting("permitted").await;
    let excluded = json!([{"paths": ["/console/**"], "message": "sign in to the console instead"}]);
    let api = json!({"api": {"authorization": "Roles", "excluded": excluded, "organizationFrom": {"header": "X-Organization"}}});
    setting.world.change("Instance", "shop", api).await.unwrap();
    setting
        .world
        .change("ApiToken", "ci", json!({"role": "viewer", "organizations": {"listed": ["acme"]}}))
        .await
        .unwrap();
    let ask = async |method, path, organization: &'static str, more: &[(&'static str, &str)]| {
        let sent = [&[("authorization", &*setting.bearer), ("x-organization", organization)], more].concat();
        setting.edge.ask(method, path, &sent).await
    };
    let permitted = async || (ask(Method::GET, "/orders", "acme", &[]).await.0 == 200).then_some(());
    setting.world.eventually("a viewer may read", permitted).await;
    let (_, _, seen) = ask(Method::GET, "/orders", "acme", &[]).await;
    assert_eq!(seen["x-tokenry-role"], ["viewer"]);
    let asked = setting.api.asked();
    assert_eq!(ask(Method::POST, "/orders", "acme", &[]).await.0, 403);
    // A query is no path, whatever is in it.
    assert_eq!(ask(Method::POST, "/orders?back=/orders", "acme", &[]).await.0, 403);
    assert_eq!(ask(Method::POST, "/orders?/", "acme", &[]).await.0, 403);
    assert_eq!(ask(Method::GET, "/orders", "other", &[]).await.0, 403);
    for path in [
        "/console",
        "/Console/keys/",
        "//console//keys",
        "/orders/..%2fconsole",
        "/orders/%2e%2e%2fconsole",
        "/c%6fnsole;a=b/x",
        "/console?back=/orders",
        "/console/keys?/orders",
    ] {
        // What the proxy says of itself is not the caller's to say.
        let forged = [("x-forwarded-uri", "/orders"), ("x-forwarded-method", "GET")];
        assert_eq!(ask(Method::GET, path, "acme", &forged).await.0, 403, "{path}");
    }
    assert_eq!(setting.api.asked(), asked);
}

#[tokio::test]
async fn without_a_verifier_nobody_is_let_in() {
    let Setting { verifier, api, edge, bearer, .. } = setting("unguarded").await;
    verifier.stop().await;
    assert_eq!(edge.status(&[("authorization", &bearer)]).await, 502);
    assert_eq!(api.asked(), 0);
}

/// An address of a verifier that says nothing.
struct Silent {
    address: SocketAddr,
    /// How many connections it took.
    taken: Arc<AtomicUsize>,
}

impl Silent {
    /// One that takes connections, and answers none.
    async fn hangs() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, taken) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let count = taken.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(connection) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                held.push(connection);
            }
        });
        Self { address, taken }
    }

    /// One whose queue of connections is full, so that a connect waits.
    async fn is_full() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let first = TcpStream::connect(address).await.unwrap();
        tokio::spawn(async move {
            let _second = TcpStream::connect(address).await;
            drop((first, listener));
        });
        Self { address, taken: Arc::default() }
    }
}

#[tokio::test]
async fn a_verifier_that_hangs_is_left_for_another() {
    let Setting { world, verifier, api, bearer, .. } = setting("hanging").await;
    let (hanging, full) = (Silent::hangs().await, Silent::is_full().await);
    let addresses = format!("{} {} {}", hanging.address, full.address, verifier.address);
    let edge = Edge::start(&world, &addresses, &api).await;
    let all = async {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            assert_eq!(edge.ask(method, "/orders", &[("authorization", &bearer)]).await.0, 200);
        }
    };
    // Each address is tried once for a request: that takes a second, and two, at most.
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("a caller does not wait for a verifier that hangs");
    assert_eq!(api.asked(), 3);
    let tries = hanging.taken.load(Ordering::SeqCst);
    assert!((1..=3).contains(&tries), "{tries}");
}
