//! Everything behind a proxy under test: the API, its Instance and tokens, and a verifier whose address stays the same
//! while a test ends it, replaces it and starts it again.

use std::{net::SocketAddr, path::PathBuf};

use http::HeaderMap;
use serde_json::json;
use tokenry::{
    outside::{
        Address, Clock, SystemEntropy, Taken,
        issuer::{KeyedCertificate, Period},
    },
    token::format,
    verifier::{Options, StaleAnswers},
};
use tokio::net::TcpListener;

use super::{backend::Backend, silent::Silent};
use crate::certificate::{Folder, names};
use crate::harness::{
    World,
    clock::{Held, hours},
    run::Running,
    wire::{Through, Wire},
};

/// After this time without news, a strict verifier answers 503. It is the shortest that there is.
const SHORT: &str = "10s";

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

/// A certificate that proxies trust, and one that they do not. The verifier can have either.
struct Pairs {
    trusted: KeyedCertificate,
    other: KeyedCertificate,
}

pub struct Setting {
    pub world: World,
    pub clock: Held,
    pub backend: Backend,
    pub tokens: Tokens,
    /// The address at which a proxy asks, by HTTPS.
    pub verifier: SocketAddr,
    /// The file with the certificates by which a proxy knows the verifier.
    pub ca: PathBuf,
    pairs: Pairs,
    folder: Folder,
    running: Option<Running>,
    _operator: Running,
}

impl Setting {
    pub async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        let clock = Held::default();
        let ((trusted, authority), (other, _)) = (signed(&clock), signed(&clock));
        let folder = Folder::of(&world);
        let (ca, at) = (folder.trust(&authority), take("127.0.0.1:0").unwrap());
        folder.write(&trusted);
        let (verifier, secure) = (at.address().unwrap(), Some((at, folder.files())));
        let client = world.plane.client_for(&world.identities.verifier);
        let running = world.verifier_by(client, &clock, |options| options.secure = secure).await;
        let operator = world.operator(&clock).await;
        world.ready(&running).await;
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
        let tokens = Tokens::issue(&world, &clock, &running).await;
        let (backend, running, pairs) = (Backend::start().await, Some(running), Pairs { trusted, other });
        Self { world, clock, backend, tokens, verifier, ca, pairs, folder, running, _operator: operator }
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

    /// Ends the verifier. Nothing listens at its address afterwards.
    pub async fn stop_verifier(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    /// Starts a verifier at the same address.
    pub async fn start_verifier(&mut self) {
        self.folder.write(&self.pairs.trusted);
        self.start_here().await;
    }

    /// Starts a verifier at the same address, with a certificate of another authority.
    pub async fn start_impostor(&mut self) {
        self.folder.write(&self.pairs.other);
        self.start_here().await;
    }

    async fn start_here(&mut self) {
        let client = self.world.plane.client_for(&self.world.identities.verifier);
        self.start_with(client, |_| ()).await;
    }

    /// Starts a verifier at the same address that cannot reach the API server, so it answers 503. Returns its way to
    /// the API server.
    pub async fn start_cut_off(&mut self) -> Wire {
        self.folder.write(&self.pairs.trusted);
        let wire = Wire::new(self.world.plane.client_for(&self.world.identities.verifier)).await;
        self.start_with(wire.client(), |options| {
            options.stale_after = SHORT.parse().unwrap();
            options.stale_answers = StaleAnswers::Refuse;
        })
        .await;
        wire.let_through(Through::Nothing);
        let running = self.running.as_ref().unwrap();
        let path = format!("/v1/instances{}authorize", self.instance());
        let refuses = async || (running.ask(&path, HeaderMap::new()).await.0 == 503).then_some(());
        self.world.eventually("the verifier answers 503", refuses).await;
        wire
    }

    async fn start_with(&mut self, client: kube::Client, choose: impl FnOnce(&mut Options)) {
        // Another socket may have the port for a moment.
        let taken = self.world.eventually("the address is free", async || take(&self.verifier.to_string())).await;
        let at_address = |options: &mut Options| {
            options.secure = Some((taken, self.folder.files()));
            choose(options);
        };
        let running = self.world.verifier_by(client, &self.clock, at_address).await;
        self.world.ready(&running).await;
        self.running = Some(running);
    }

    /// Listens at the verifier's address, and answers nobody.
    pub async fn silence(&self) -> Silent {
        let bind = async || TcpListener::bind(self.verifier).await.ok();
        let listener = self.world.eventually("the address is free", bind).await;
        Silent::hangs(listener)
    }
}

/// Binds an address for HTTPS. `None` if another socket has it.
fn take(address: &str) -> Option<Taken> {
    address.parse::<Address>().unwrap().take("--tls-listen").ok()
}

/// A certificate of the verifier, and that of its authority.
fn signed(clock: &Held) -> (KeyedCertificate, String) {
    let period = |length: i64| Period { from: clock.now() - hours(1), until: clock.now() + hours(length) };
    let authority = KeyedCertificate::authority(&SystemEntropy, period(48)).unwrap();
    let pair = authority.sign(&SystemEntropy, &names(), period(24)).unwrap();
    (pair, authority.certificate)
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
