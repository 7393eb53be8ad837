//! A verifier with HTTPS. Its address stays the same while a test ends it, replaces it and starts it again.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use http::HeaderMap;
use kube::Client;
use serde_json::Value;
use tokenry::{
    outside::{
        Address, Clock, SystemEntropy, Taken,
        issuer::{KeyedCertificate, Period},
        lines::Sink,
    },
    verifier::{AuditOptions, Options, Sample, StaleAnswers, WhenFull},
};
use tokio::net::TcpStream;

use super::{
    World,
    clock::{Held, hours},
    run::Running,
    wire::{Through, Wire},
};
use crate::certificate::{Folder, names};

/// After this time without news, a strict verifier answers 503. It is the shortest that there is.
const SHORT: &str = "10s";

/// The certificates of a verifier.
struct Pairs {
    /// That of the verifier, by an authority that its clients trust.
    right: KeyedCertificate,
    /// One for the same names, by an authority that nobody trusts.
    untrusted: KeyedCertificate,
    /// One for another name, by the trusted authority.
    misnamed: KeyedCertificate,
}

/// A verifier with HTTPS at an address of its own, perhaps ended.
pub struct Secured {
    /// The address for HTTPS.
    pub address: SocketAddr,
    /// The file with the certificates by which a client knows the verifier.
    pub ca: PathBuf,
    /// The audit log of all verifiers that were started here.
    pub log: AuditLog,
    pairs: Pairs,
    folder: Folder,
    clock: Held,
    running: Option<Running>,
}

impl Secured {
    /// Starts a verifier, which may not be ready yet.
    pub async fn start(world: &World, clock: &Held) -> Self {
        let period = |length: i64| Period { from: clock.now() - hours(1), until: clock.now() + hours(length) };
        let [trusted, other] = [(); 2].map(|()| KeyedCertificate::authority(&SystemEntropy, period(48)).unwrap());
        let signed =
            |authority: &KeyedCertificate, names: &[String]| authority.sign(&SystemEntropy, names, period(24)).unwrap();
        let pairs = Pairs {
            right: signed(&trusted, &names()),
            untrusted: signed(&other, &names()),
            misnamed: signed(&trusted, &["another.tokenry-system.svc".to_owned()]),
        };
        let folder = Folder::of(world);
        let (ca, at) = (folder.trust(&trusted.certificate), take("127.0.0.1:0").unwrap());
        let address = at.address().unwrap();
        let mut secured =
            Self { address, ca, log: AuditLog::default(), pairs, folder, clock: clock.clone(), running: None };
        secured.folder.write(&secured.pairs.right);
        let client = world.plane.client_for(&world.identities.verifier);
        secured.running = Some(secured.verifier(world, client, at, |_| ()).await);
        secured
    }

    /// The running verifier.
    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Ends the verifier. Nothing listens at its address afterwards.
    pub async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    /// Starts a verifier at the same address.
    pub async fn start_again(&mut self, world: &World) {
        self.folder.write(&self.pairs.right);
        self.start_here(world).await;
    }

    /// Starts a verifier at the same address, with a certificate of another authority.
    pub async fn start_untrusted(&mut self, world: &World) {
        self.folder.write(&self.pairs.untrusted);
        self.start_here(world).await;
    }

    /// Starts a verifier at the same address, with a certificate of the trusted authority for another name.
    pub async fn start_misnamed(&mut self, world: &World) {
        self.folder.write(&self.pairs.misnamed);
        self.start_here(world).await;
    }

    async fn start_here(&mut self, world: &World) {
        let client = world.plane.client_for(&world.identities.verifier);
        self.start_with(world, client, |_| ()).await;
    }

    /// Starts a verifier at the same address that cannot reach the API server any more, so it answers 503. `path` is
    /// one that it answers. Returns its way to the API server.
    pub async fn start_cut_off(&mut self, world: &World, path: &str) -> Wire {
        self.folder.write(&self.pairs.right);
        let wire = Wire::new(world.plane.client_for(&world.identities.verifier)).await;
        self.start_with(world, wire.client(), |options| {
            options.stale_after = SHORT.parse().unwrap();
            options.stale_answers = StaleAnswers::Refuse;
        })
        .await;
        wire.let_through(Through::Nothing);
        let refuses = async || (self.running().ask(path, HeaderMap::new()).await.0 == 503).then_some(());
        world.eventually("the verifier answers 503", refuses).await;
        wire
    }

    /// Starts a verifier at the same address that never reached the API server, so it does not listen. Returns its way
    /// there.
    pub async fn start_unsynced(&mut self, world: &World) -> Wire {
        self.folder.write(&self.pairs.right);
        let wire = Wire::new(world.plane.client_for(&world.identities.verifier)).await;
        wire.let_through(Through::Nothing);
        let taken = self.taken(world).await;
        self.running = Some(self.verifier(world, wire.client(), taken, |_| ()).await);
        assert!(TcpStream::connect(self.address).await.is_err(), "it does not listen");
        wire
    }

    /// The address. Another socket may have the port for a moment.
    async fn taken(&self, world: &World) -> Taken {
        world.eventually("the address is free", async || take(&self.address.to_string())).await
    }

    async fn start_with(&mut self, world: &World, client: Client, choose: impl FnOnce(&mut Options)) {
        let taken = self.taken(world).await;
        let running = self.verifier(world, client, taken, choose).await;
        world.ready(&running).await;
        self.running = Some(running);
    }

    async fn verifier(&self, world: &World, client: Client, at: Taken, choose: impl FnOnce(&mut Options)) -> Running {
        let chosen = |options: &mut Options| {
            options.secure = Some((at, self.folder.files()));
            options.audit = Some(AuditOptions {
                when_full: WhenFull::default(),
                sample: Sample::default(),
                sink: Sink::text(Box::new(self.log.clone())).unwrap(),
            });
            choose(options);
        };
        world.verifier_by(client, &self.clock, chosen).await
    }
}

/// Binds an address for HTTPS. `None` if another socket has it.
fn take(address: &str) -> Option<Taken> {
    address.parse::<Address>().unwrap().take("--tls-listen").ok()
}

/// The lines of an audit log. Clones share them.
#[derive(Clone, Default)]
pub struct AuditLog(Arc<Mutex<Vec<u8>>>);

impl AuditLog {
    /// The only line with this value of a field, if it was written.
    pub fn line(&self, field: &str, value: &str) -> Option<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found: Vec<_> = lines.filter(|line| line[field] == value).collect();
        assert!(found.len() <= 1, "{found:?}");
        found.into_iter().next()
    }
}

impl io::Write for AuditLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
