//! Requests that the API judges by itself: a login, its own basic authentication, and a preflight request. Beside them
//! tokens in places that such requests use.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use tokenry::token::format;

use crate::harness::{World, clock::Held, run::Running};

const IDENTITY: [&str; 5] =
    ["x-tokenry-subject", "x-tokenry-token-id", "x-tokenry-role", "x-tokenry-organization", "x-forwarded-user"];

/// An Instance `eem` with this `api`, and a token `ci` that a verifier knows.
struct Stage {
    world: World,
    operator: Running,
    verifier: Running,
    value: String,
}

impl Stage {
    async fn new(name: &str, api: Value) -> Self {
        let world = World::new(name).await;
        let clock = Held::default();
        let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
        world.accepts("Instance", "eem", json!({ "api": api, "organization": "acme" })).await;
        world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
        let value = world.await_generation("ci", 1).await;
        Self { world, operator, verifier, value }
    }

    async fn ask(&self, method: &str, path: &str, more: &[(&str, &str)]) -> (u16, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-forwarded-method", method), ("x-forwarded-uri", path)].iter().chain(more) {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let authorize = format!("/v1/instances/{}/eem/authorize", self.world.namespace);
        let (status, headers, _) = self.verifier.ask(&authorize, headers).await;
        (status.as_u16(), headers)
    }

    async fn await_status(&self, asked: (&str, &str), more: &[(&str, &str)], status: u16) {
        let reached = async || (self.ask(asked.0, asked.1, more).await.0 == status).then_some(());
        self.world.eventually(&format!("{asked:?} is answered with {status}"), reached).await;
    }
}

#[tokio::test]
async fn the_api_s_own_authentication_works_beside_tokens_that_are_excluded_there() {
    let observer = json!([{"paths": ["/api/v3/observer/**"], "message": "sign in to the console instead"}]);
    let open = json!([{"paths": ["/api/v3/observer/**"]}, {"methods": ["OPTIONS"], "paths": ["/**"]}]);
    let stage = Stage::new("observer", json!({"excluded": observer, "unguarded": open})).await;
    let token = [("authorization", &*format!("Bearer {}", stage.value))];
    stage.await_status(("GET", "/api/v3/other"), &token, 200).await;
    let path = "/api/v3/observer/keys";
    let (status, answer) =
        stage.ask("POST", path, &[("authorization", "Basic dTpw"), ("x-tokenry-subject", "a")]).await;
    assert_eq!(status, 200);
    for name in IDENTITY {
        assert_eq!(answer.get_all(name).iter().collect::<Vec<_>>(), [""], "{name}");
    }
    assert_eq!(stage.ask("OPTIONS", "/anything", &[("origin", "https://a.example.com")]).await.0, 200);
    assert_eq!(stage.ask("POST", path, &token).await.0, 403, "excluded for every token");
    let other = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
    assert_eq!(stage.ask("POST", path, &[("api-token", other.expose())]).await.0, 401, "a token of nobody");
    for odd in ["/api/v3//observer", "/api/v3/observer./x", "/api/v3/observer/a%2Fb", "/API/v3/observer"] {
        assert_eq!(stage.ask("GET", odd, &[]).await.0, 401, "{odd}");
    }
    let (_, metrics) = stage.verifier.get("/metrics").await;
    assert!(metrics.contains("protocol=\"forward-auth\",status=\"200\",reason=\"Unguarded\"}"), "{metrics}");
    // A proxy that says nothing of the request.
    let authorize = format!("/v1/instances/{}/eem/authorize", stage.world.namespace);
    assert_eq!(stage.verifier.ask(&authorize, HeaderMap::new()).await.0, 401);
    assert_eq!(stage.verifier.ask(&format!("{authorize}{path}"), HeaderMap::new()).await.0, 200, "it appends the path");
}

#[tokio::test]
async fn a_caller_that_forges_the_headers_of_a_proxy_reaches_no_other_request() {
    let open = json!([{"paths": ["/", "/login"]}, {"methods": ["GET"], "paths": ["/**"]}]);
    let stage = Stage::new("forging", json!({ "unguarded": open })).await;
    let post = ("POST", "/login?a=b");
    stage.await_status(post, &[], 200).await;
    // These proxies name the request in other headers, and pass on those that the caller forges.
    let nginx = [("x-original-uri", "/orders")];
    let ingress = [("x-original-url", "https://shop.example.com/orders"), ("x-original-method", "DELETE")];
    for true_one in [&nginx[..], &ingress, &[("x-original-method", "DELETE")], &[("x_forwarded_uri", "/orders")]] {
        assert_eq!(stage.ask(post.0, post.1, true_one).await.0, 401, "{true_one:?}");
    }
    let own = [("x-original-url", "https://shop.example.com/login?a=b"), ("x-original-method", "POST")];
    assert_eq!(stage.ask(post.0, post.1, &own).await.0, 200);
    assert_eq!(stage.ask("POST", "/login?_method", &[]).await.0, 401);
    let slash = format!("/v1/instances/{}/eem/authorize/", stage.world.namespace);
    for (method, path, status) in [("DELETE", "/orders", 401), ("DELETE", "/", 401), ("GET", "/", 200)] {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-method", method.parse().unwrap());
        headers.append("x-forwarded-uri", path.parse().unwrap());
        assert_eq!(stage.verifier.ask(&slash, headers).await.0, status, "{method} {path}");
    }
    stage.operator.stop().await;
}

#[tokio::test]
async fn an_instance_that_lets_nobody_in_lets_no_login_through() {
    let api = json!({"unguarded": [{"paths": ["/login"]}]});
    let stage = Stage::new("closed", api.clone()).await;
    let login = ("POST", "/login");
    stage.await_status(login, &[], 200).await;
    let endpoints = json!([{"name": "admin", "type": "disabled"}]);
    let disabled = json!({"manager": {"service": {"name": "eem"}, "endpoints": endpoints}});
    stage.world.change("Instance", "eem", disabled).await.unwrap();
    stage.await_status(login, &[], 401).await;
    stage.world.change("Instance", "eem", json!({"manager": null})).await.unwrap();
    stage.await_status(login, &[], 200).await;
    let faulty = json!({"members": [{"subject": "user:alice", "role": "none"}]});
    stage.world.change("Instance", "eem", faulty).await.unwrap();
    stage.await_status(login, &[], 401).await;
    stage.world.change("Instance", "eem", json!({"members": null})).await.unwrap();
    stage.await_status(login, &[], 200).await;
    stage.world.delete("Instance", "eem").await;
    stage.await_status(login, &[], 401).await;
    stage.operator.stop().await;
}

#[tokio::test]
async fn a_token_is_the_password_of_any_user_where_the_instance_takes_basic_credentials() {
    let places =
        json!([{"header": "Authorization", "scheme": "Bearer"}, {"header": "Authorization", "scheme": "Basic"}]);
    let stage = Stage::new("basic", json!({"credentials": places, "unguarded": [{"paths": ["/login"]}]})).await;
    let basic = |credentials: String| format!("Basic {}", STANDARD.encode(credentials));
    let asked = async |path: &str, text: &str| stage.ask("GET", path, &[("authorization", text)]).await;
    let ci = basic(format!("ci:{}", stage.value));
    stage.await_status(("GET", "/orders"), &[("authorization", &ci)], 200).await;
    let (_, answer) = asked("/login", &ci).await;
    assert_eq!(answer["x-tokenry-subject"], format!("account:{}/ci", stage.world.namespace), "it is judged");
    assert_eq!(asked("/orders", &basic(format!(":{}", stage.value))).await.0, 200);
    assert_eq!(asked("/orders", &basic(format!("{}:x", stage.value))).await.0, 401, "it is no user name");
    assert_eq!(asked("/orders", ci.trim_end_matches('=')).await.0 == 200, !ci.ends_with('='), "canonical base64 only");
    let (status, answer) = asked("/orders", &basic("alice:secret".into())).await;
    let realm = format!(r#"realm="tokenry/{}/eem""#, stage.world.namespace);
    let challenge = format!(r#"Bearer {realm}, error="invalid_token", Basic {realm}"#);
    assert_eq!((status, answer["www-authenticate"].to_str().unwrap()), (401, &*challenge));
    let (status, answer) = stage.ask("GET", "/orders", &[]).await;
    let challenge = format!("Bearer {realm}, Basic {realm}");
    assert_eq!((status, answer["www-authenticate"].to_str().unwrap()), (401, &*challenge));
    let (status, answer) = asked("/login", &basic("alice:secret".into())).await;
    assert_eq!((status, &answer["x-tokenry-subject"]), (200, &"".parse().unwrap()), "the API's own user");
    let (_, metrics) = stage.verifier.get("/metrics").await;
    assert!(!metrics.contains(&stage.value));
}

#[tokio::test]
async fn an_encoded_slash_is_kept_where_the_instance_says_so() {
    let excluded = json!([{"paths": ["/projects/*/keys/**"]}]);
    let stage = Stage::new("slash", json!({"excluded": excluded})).await;
    let token = [("api-token", &*stage.value)];
    stage.await_status(("GET", "/projects/a"), &token, 200).await;
    assert_eq!(stage.ask("GET", "/projects/group%2Fname", &token).await.0, 403);
    stage.world.change("Instance", "eem", json!({"api": {"encodedSlash": "Keep"}})).await.unwrap();
    stage.await_status(("GET", "/projects/group%2Fname"), &token, 200).await;
    for path in [
        "/projects/a%2Fkeys",
        "/projects/group%2Fname/keys",
        "/projects/x%2F..%2Fa/keys",
        "/projects/a%2F%2Fb",
        "/projects/a%252Fb",
        "/projects/a%5Cb",
    ] {
        let status = stage.ask("GET", path, &token).await.0;
        assert_eq!(status, 403, "{path}");
    }
}
