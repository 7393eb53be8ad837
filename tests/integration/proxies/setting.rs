//! Everything behind a proxy under test: the API, its Instance and tokens, and a verifier that a test can end, replace
//! and start again.

use http::HeaderMap;
use serde_json::json;
use tokenry::token::format;
use tokio::net::TcpListener;

use super::{backend::Backend, silent::Silent};
use crate::harness::{
    World,
    clock::{Held, hours},
    run::Running,
    secured::Secured,
    wire::Wire,
};

/// The header in which a request names its organization. Each token is for `acme`.
pub const ORGANIZATION: &str = "x-organization";

/// The values of the tokens.
pub struct Tokens {
    /// A token with the role `admin`.
    pub admin: String,
    /// A token with the role `viewer`.
    pub viewer: String,
    pub expired: String,
    pub revoked: String,
    pub suspended: String,
    /// A rotated token with the role `admin`: the former value in its overlap, and the new one.
    pub old: String,
    pub new: String,
}

pub struct Setting {
    pub world: World,
    pub backend: Backend,
    pub tokens: Tokens,
    /// The verifier that a proxy asks, by HTTPS.
    pub verifier: Secured,
    _operator: Running,
}

impl Setting {
    pub async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        let clock = Held::default();
        let verifier = Secured::start(&world, &clock).await;
        let operator = world.operator(&clock).await;
        world.ready(verifier.running()).await;
        let excluded = json!([{"paths": ["/console/**", "/login/**"], "message": "sign in without a token"}]);
        let unguarded = json!([
            {"methods": ["GET", "POST"], "paths": ["/login/**"]},
            {"methods": ["OPTIONS"], "paths": ["/**"]},
        ]);
        let from = json!({"header": ORGANIZATION});
        let api = json!({
            "authorization": "Roles", "excluded": excluded, "unguarded": unguarded, "organizationFrom": from,
        });
        world.accepts("Instance", "shop", json!({"organization": "acme", "api": api})).await;
        let tokens = Tokens::issue(&world, &clock, verifier.running()).await;
        let backend = Backend::start().await;
        Self { world, backend, tokens, verifier, _operator: operator }
    }

    /// The path by which a proxy asks, without the end that names the protocol.
    pub fn instance(&self) -> String {
        format!("/{}/shop/", self.world.namespace)
    }

    /// The identity that the API has to see for this value: for each identity header all that was sent of it.
    pub fn identity(&self, token: &str, role: &str, value: &str) -> [Vec<String>; 5] {
        let subject = format!("account:{}/{token}", self.world.namespace);
        let id = format::id(value).unwrap().to_owned();
        [subject.clone(), id, role.to_owned(), "acme".to_owned(), subject].map(|value| vec![value])
    }

    /// Starts a verifier at the same address.
    pub async fn start_verifier(&mut self) {
        self.verifier.start_again(&self.world).await;
    }

    /// Starts a verifier at the same address that cannot reach the API server any more. Returns its way there.
    pub async fn start_cut_off(&mut self) -> Wire {
        let path = format!("/v1/instances{}authorize", self.instance());
        self.verifier.start_cut_off(&self.world, &path).await
    }

    /// Listens at the verifier's address, and answers nobody.
    pub async fn silence(&self) -> Silent {
        let bind = async || TcpListener::bind(self.verifier.address).await.ok();
        let listener = self.world.eventually("the address is free", bind).await;
        Silent::hangs(listener)
    }
}

impl Tokens {
    async fn issue(world: &World, clock: &Held, verifier: &Running) -> Self {
        let only = json!({"listed": ["acme"]});
        let of = |role: &str| json!({"instanceRef": {"name": "shop"}, "role": role, "organizations": only});
        let mut expiring = of("admin");
        expiring["expiry"] = json!({"after": "1h"});
        world.accepts("ApiToken", "expired", expiring).await;
        let expired = world.await_generation("expired", 1).await;
        clock.move_by(hours(2));
        for (name, role) in [
            ("admin", "admin"),
            ("viewer", "viewer"),
            ("revoked", "admin"),
            ("suspended", "admin"),
            ("turning", "admin"),
        ] {
            world.accepts("ApiToken", name, of(role)).await;
        }
        let value = async |name| world.await_generation(name, 1).await;
        let (admin, viewer) = (value("admin").await, value("viewer").await);
        let (revoked, suspended, old) = (value("revoked").await, value("suspended").await, value("turning").await);
        world.change("ApiToken", "revoked", json!({"revoked": true})).await.unwrap();
        world.change("ApiToken", "suspended", json!({"active": false})).await.unwrap();
        let again = json!({"id": "again", "previous": {"after": "1h"}});
        world.change("ApiToken", "turning", json!({"regenerate": again})).await.unwrap();
        let new = world.await_generation("turning", 2).await;
        let tokens = Self { admin, viewer, expired, revoked, suspended, old, new };
        tokens.are_known(world, verifier).await;
        tokens
    }

    /// Waits until the verifier judges each of them as a test expects.
    async fn are_known(&self, world: &World, verifier: &Running) {
        let path = format!("/v1/instances/{}/shop/authorize", world.namespace);
        for (value, status) in [
            (&self.admin, 200),
            (&self.viewer, 200),
            (&self.expired, 401),
            (&self.revoked, 401),
            (&self.suspended, 401),
            (&self.old, 200),
            (&self.new, 200),
        ] {
            let sent = [
                ("x-forwarded-method", "GET"),
                ("x-forwarded-uri", "/orders"),
                (ORGANIZATION, "acme"),
                ("api-token", value),
            ];
            let sent = sent.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let headers: HeaderMap = sent.into_iter().collect();
            let judged = async || (verifier.ask(&path, headers.clone()).await.0.as_u16() == status).then_some(());
            world.eventually(&format!("the verifier answers {status}"), judged).await;
        }
    }
}
