//! The rules of four products, as `examples/products` writes them down: each applied and put to use.

use http::{HeaderMap, HeaderName};
use serde_json::json;

use crate::harness::{World, clock::Held, root, run::Running};

/// An example, applied, with an operator and a verifier at work.
struct Product {
    world: World,
    _operator: Running,
    verifier: Running,
    instance: &'static str,
}

impl Product {
    /// Applies an example of which `token` is one, and waits until the verifier knows the token.
    async fn of(file: &str, instance: &'static str, token: &str) -> Self {
        let world = World::new(file).await;
        let clock = Held::default();
        let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
        let path = root().join(format!("examples/products/{file}.yaml")).display().to_string();
        world.plane.kubectl(&["apply", "--namespace", &world.namespace, "-f", &path]).unwrap();
        let product = Self { world, _operator: operator, verifier, instance };
        product.world.await_generation(token, 1).await;
        let known = async || (product.ask(token, "GET", "/", &[]).await.0 != 401).then_some(());
        product.world.eventually("the verifier knows the token", known).await;
        product
    }

    /// The answer to a request by whoever mounts the Secret of `token`: its status and its body.
    async fn ask(&self, token: &str, method: &str, path: &str, more: &[(&str, &str)]) -> (u16, String) {
        let value = self.world.value(token).await.unwrap();
        let said = [("x-forwarded-method", method), ("x-forwarded-uri", path), ("api-token", &value)];
        let pairs = said.iter().chain(more);
        let headers: HeaderMap = pairs
            .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap()))
            .collect();
        let authorize = format!("/v1/instances/{}/{}/authorize", self.world.namespace, self.instance);
        let (status, _, body) = self.verifier.ask(&authorize, headers).await;
        (status.as_u16(), body)
    }

    async fn status(&self, token: &str, method: &str, path: &str, more: &[(&str, &str)]) -> u16 {
        self.ask(token, method, path, more).await.0
    }

    async fn await_status(&self, token: &str, method: &str, path: &str, more: &[(&str, &str)], status: u16) {
        let what = format!("{method} {path} is answered with {status}");
        let look = async || (self.status(token, method, path, more).await == status).then_some(());
        self.world.eventually(&what, look).await;
    }
}

#[tokio::test]
async fn self_service_within_ninety_days_and_what_groups_are_mapped_to() {
    let product = Product::of("self-service", "event-gateway", "topic-exporter").await;
    let status = async |method, path| product.status("topic-exporter", method, path, &[]).await;
    assert_eq!(status("GET", "/eem/clusters/a").await, 200);
    assert_eq!(status("POST", "/eem/eventsources").await, 200);
    assert_eq!(status("POST", "/eem/clusters").await, 403, "authors change no clusters");
    let (code, body) = product.ask("topic-exporter", "POST", "/eem/tokens", &[]).await;
    assert_eq!(code, 403);
    assert!(body.contains("tokens are made by applying an ApiToken"), "{body}");
    let long = json!({"instanceRef": {"name": "event-gateway"}, "description": "x", "owner": "user:alice@example.com", "expiry": {"after": "91d"}});
    product.world.accepts("ApiToken", "long", long).await;
    product.world.await_reason("long", "LifetimeExceeded").await;
    // The owner loses the role, and has it again.
    let members = |list| json!({"members": list});
    let viewers = json!([{"subject": "user:alice@example.com", "role": "viewer"}]);
    product.world.change("Instance", "event-gateway", members(viewers)).await.unwrap();
    product.await_status("topic-exporter", "GET", "/eem/clusters/a", &[], 403).await;
    let authors = json!([{"subject": "user:alice@example.com", "role": "author"}]);
    product.world.change("Instance", "event-gateway", members(authors)).await.unwrap();
    product.await_status("topic-exporter", "GET", "/eem/clusters/a", &[], 200).await;
}

#[tokio::test]
async fn policies_permit_in_projects_and_one_token_may_do_everything() {
    let product = Product::of("policies-and-projects", "automate", "ingest").await;
    let blue = [("projects", "blue")];
    let nodes = "/api/v0/cfgmgmt/nodes/a";
    assert_eq!(product.status("ingest", "POST", nodes, &blue).await, 200);
    assert_eq!(product.status("ingest", "POST", nodes, &[("projects", "red")]).await, 403);
    assert_eq!(product.status("ingest", "POST", nodes, &[]).await, 403);
    assert_eq!(product.status("ingest", "GET", "/apis/iam/v2/policies", &blue).await, 403);
    product.world.await_generation("break-glass", 1).await;
    product.await_status("break-glass", "GET", "/apis/iam/v2/policies", &[], 200).await;
    assert_eq!(product.status("break-glass", "DELETE", "/anything", &[]).await, 200);
    // A policy is withdrawn, and no value was minted for any of it.
    product.world.delete("AccessPolicy", "blue-ingest").await;
    product.await_status("ingest", "POST", nodes, &blue, 403).await;
    assert_eq!(product.world.token("ingest").await.status.unwrap().last_generation, Some(1));
}

#[tokio::test]
async fn tokens_are_bounded_by_who_makes_them_and_end_with_them() {
    let product = Product::of("bounded-by-creator", "performance", "path-monitor").await;
    let status = async |method, path, organization| {
        product.status("path-monitor", method, path, &[("x-organization", organization)]).await
    };
    assert_eq!(status("GET", "/api/v3/path", "north").await, 200);
    assert_eq!(status("GET", "/api/v3/path", "south").await, 403);
    assert_eq!(status("POST", "/api/v3/path", "north").await, 403);
    let (_, body) = product.ask("path-monitor", "GET", "/api/v3/observer/keys", &[("x-organization", "north")]).await;
    assert!(body.contains("sign in to the console instead"), "{body}");
    // Bob leaves the team, and the token ends for ever.
    product.world.change("Instance", "performance", json!({"teams": []})).await.unwrap();
    product.world.await_reason("path-monitor", "OwnerRemoved").await;
    product
        .world
        .change("Instance", "performance", json!({"teams": [{"name": "network", "users": ["bob@example.com"]}]}))
        .await
        .unwrap();
    let token = product.world.await_reason("path-monitor", "OwnerRemoved").await;
    assert!(token.status.unwrap().revocation.is_some());
}

#[tokio::test]
async fn tokens_of_an_account_share_its_role_and_are_regenerated() {
    let product = Product::of("account-owned", "truth", "pipeline-main").await;
    assert_eq!(product.status("pipeline-main", "POST", "/api/v1/projects/billing", &[]).await, 200);
    assert_eq!(product.status("pipeline-main", "POST", "/api/v1/projects/other", &[]).await, 403);
    product.world.await_generation("pipeline-preview", 1).await;
    product.await_status("pipeline-preview", "GET", "/api/v1/projects/web", &[], 200).await;
    assert_eq!(product.status("pipeline-preview", "POST", "/api/v1/projects/web", &[]).await, 403);
    assert_eq!(product.status("pipeline-preview", "GET", "/api/v1/projects/billing", &[]).await, 403);
    // The account loses its role, and both do.
    product.world.change("ServiceAccount", "pipeline", json!({"role": "viewer"})).await.unwrap();
    product.await_status("pipeline-main", "POST", "/api/v1/projects/billing", &[], 403).await;
    assert_eq!(product.status("pipeline-main", "GET", "/api/v1/projects/billing", &[]).await, 200);
    let before = product.world.value("pipeline-main").await.unwrap();
    let again = json!({"regenerate": {"id": "second", "previous": {"after": "0s"}}});
    product.world.change("ApiToken", "pipeline-main", again).await.unwrap();
    product.world.await_generation("pipeline-main", 2).await;
    assert_ne!(product.world.value("pipeline-main").await.unwrap(), before);
    let path = format!("/v1/instances/{}/truth/authorize", product.world.namespace);
    let refused = async || {
        let headers = [("api-token".parse().unwrap(), before.parse().unwrap())].into_iter().collect();
        (product.verifier.ask(&path, headers).await.0.as_u16() == 401).then_some(())
    };
    product.world.eventually("the value before is refused at once", refused).await;
}
