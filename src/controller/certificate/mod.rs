//! The certificate of the verifier, if nobody names a Secret with one. The operator makes a certificate authority once,
//! signs the certificate with it, and renews both.
//!
//! ```text
//! Secret NAME-ca         the keys of the authorities; nobody mounts it
//! ConfigMap NAME-ca      ca.crt: the certificates that clients trust
//! Secret NAME            tls.crt and tls.key, which the verifier mounts, and ca.crt
//! Secret of Traefik      ca.crt, in each namespace in which Traefik asks the verifier by HTTPS
//! ```
//!
//! They are written in this order, so a client can trust an authority before it signs. Two operators are safe: each
//! write has the version of the object that was read. The one that comes second reads again.

mod authorities;
mod body;
mod decide;
mod handed;
mod ledger;
mod objects;
mod ownership;
mod turns;

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    time::sleep,
};
use zeroize::Zeroizing;

use body::KeyBody;
use decide::Renewal;
use objects::{NextState, Objects};

use super::Rooms;
use crate::{
    crd::{
        name,
        secret::{AUTHORITIES, CA, KeySecret, TLS},
    },
    outside::{
        Daily, Expected, Location, Refusal, Why,
        clock::jumps,
        issuer::{NotIssued, Period},
    },
};

pub use handed::HandOut;
pub use turns::in_turn;

/// Interval at which the objects are read.
const LOOK: Duration = Duration::from_secs(60);
/// The pause after another operator changed an object.
const SOON: Duration = Duration::from_secs(1);
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// The Secret of a certificate, `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretPlace {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl FromStr for SecretPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
        let (namespace, name) = parts.ok_or("give NAMESPACE/NAME of a Secret")?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// The certificate that the operator keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOrder {
    /// Its Secret.
    pub place: SecretPlace,
    /// The DNS names of the server.
    pub names: Vec<String>,
}

/// Keeps the certificate, and gives its authorities to Traefik.
pub struct CertificateKeeper {
    /// The certificate to keep.
    pub order: CertificateOrder,
    /// The name of the Secret with the certificates that Traefik trusts. `None`: Traefik needs none.
    pub ca_secret: Option<String>,
    /// Receives each namespace that got that Secret, or cannot get it.
    pub results: UnboundedSender<HandOut>,
    /// The outside world.
    pub rooms: Arc<Rooms>,
}

/// The reason why the certificate is not as it should be.
#[derive(Debug, thiserror::Error)]
enum Unkept {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    NotIssued(#[from] NotIssued),
    #[error(
        "{kind} {name} exists and is not Tokenry's; delete it, or name the Secret of your certificate in \
         verifier.tls.secretName"
    )]
    Foreign { kind: &'static str, name: String },
    #[error(
        "Secret {namespace}/{name} exists and is not Tokenry's, so Traefik may refuse all requests of this namespace; \
         delete it, or put the certificates of ConfigMap {map} into its key ca.crt"
    )]
    ForeignTrust { namespace: String, name: String, map: String },
    #[error(
        "no client accepts the certificate of the verifier, and its authority is valid only from {from} until {until}; \
         check the clock; else the next authority signs an hour after clients could read it"
    )]
    NotValid { from: Timestamp, until: Timestamp },
}

impl CertificateKeeper {
    /// Keeps the certificate for ever.
    pub async fn keep(self) {
        let (trusted, bundle) = watch::channel(None);
        tokio::join!(self.renew(trusted), self.hand_out(bundle));
    }

    /// Renews authorities and certificate. `trusted` gets the certificates that clients trust.
    async fn renew(&self, trusted: watch::Sender<Option<Arc<str>>>) {
        let mut jumps = Box::pin(jumps(self.rooms.clock.clone()));
        let (mut said, mut daily) = (None, Daily::default());
        loop {
            let pause = match self.pass(self.rooms.clock.now(), &trusted, &mut daily).await {
                Ok(()) => {
                    said = None;
                    LOOK
                }
                Err(Unkept::Refused(Refusal { why: Why::Stale, .. })) => SOON,
                Err(why) => {
                    let told = why.to_string();
                    if said.as_ref() != Some(&told) {
                        tracing::warn!(why = told, "cannot keep the certificate of the verifier, trying again");
                        said = Some(told);
                    }
                    RETRY
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                _ = jumps.next() => {}
            }
        }
    }

    /// Brings the three objects to their desired state.
    async fn pass(
        &self,
        now: Timestamp,
        trusted: &watch::Sender<Option<Arc<str>>>,
        daily: &mut Daily,
    ) -> Result<(), Unkept> {
        let objects = self.objects().await?;
        let plan = objects.plan(&self.order.names, &*self.rooms.entropy, now)?;
        self.measure(plan.signer, daily, now);
        if plan.writes_authorities() {
            let name = self.authorities_name();
            log(&plan, &objects, &name);
            self.write(&name, objects.authorities.as_ref(), AUTHORITIES, plan.authorities.keys()).await?;
        }
        if objects.published() != Some(&*plan.bundle) {
            self.publish(objects.bundle.as_ref(), &plan.bundle).await?;
        }
        trusted.send_if_modified(|before| {
            let is_news = before.as_deref() != Some(&*plan.bundle);
            if is_news {
                *before = Some(plan.bundle.as_str().into());
            }
            is_news
        });
        self.certificate(&objects, &plan, now).await
    }

    /// The objects as they are.
    async fn objects(&self) -> Result<Objects, Refusal> {
        let (namespace, reader) = (&*self.order.place.namespace, &self.rooms.reader);
        let name = &*self.authorities_name();
        Ok(Objects {
            authorities: reader.keys(namespace, name).await?,
            bundle: reader.whole::<ConfigMap>(namespace, name).await?,
            certificate: reader.keys(namespace, &self.order.place.name).await?,
        })
    }

    /// Sets the metric of the authority that signs, and warns before its end.
    fn measure(&self, signer: Period, daily: &mut Daily, now: Timestamp) {
        self.rooms.metrics.authority(signer.until);
        if signer.ends_soon(now) && daily.is_due(now) {
            let until = signer.until.to_string();
            tracing::warn!(
                until,
                "the certificate authority of the verifier ends soon; its successor does not sign yet"
            );
        }
    }

    /// Writes the certificates that clients trust into the ConfigMap.
    async fn publish(&self, found: Option<&ConfigMap>, bundle: &str) -> Result<(), Refusal> {
        let (namespace, name) = (&*self.order.place.namespace, &*self.authorities_name());
        let labels = json!({name::MANAGED_BY: name::MANAGER});
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace, "labels": labels}, "data": {CA: bundle},
        });
        let expected = found.map_or(Expected::Absent, Expected::seen);
        self.rooms.writer.apply_ours::<ConfigMap>(&Location { namespace, name }, &expected, body, true).await?;
        Ok(())
    }

    /// Renews the certificate if it is due, and keeps the authorities beside it.
    async fn certificate(&self, objects: &Objects, plan: &NextState, now: Timestamp) -> Result<(), Unkept> {
        let (name, found) = (&*self.order.place.name, objects.certificate.as_ref());
        let has_bundle = objects.beside().is_some_and(|beside| *beside == plan.bundle);
        match plan.renewal {
            Renewal::Keep if has_bundle => Ok(()),
            Renewal::Keep => {
                let ca = BTreeMap::from([(CA, Some(plan.bundle.clone().into()))]);
                Ok(self.write(name, found, TLS, ca).await?)
            }
            Renewal::Sign { is_unfit } => {
                if is_unfit && found.is_some() {
                    tracing::warn!(
                        secret = name,
                        "no client accepts the certificate of the verifier: it was changed, \
                        has expired, or has other names; a new one is made"
                    );
                }
                let keys = plan.signed(&self.order.names, &*self.rooms.entropy, now)?;
                self.write(name, found, TLS, keys).await?;
                tracing::info!(secret = name, "the verifier has a new certificate");
                Ok(())
            }
            Renewal::Wait => Err(Unkept::NotValid { from: plan.signer.from, until: plan.signer.until }),
        }
    }

    fn authorities_name(&self) -> String {
        format!("{}-ca", self.order.place.name)
    }

    /// Writes these keys of a Secret, which is unchanged since it was `found`.
    async fn write(
        &self,
        name: &str,
        found: Option<&KeySecret>,
        type_: &'static str,
        keys: BTreeMap<&'static str, Option<Zeroizing<String>>>,
    ) -> Result<(), Refusal> {
        let namespace = &*self.order.place.namespace;
        let expected = found.map_or(Expected::Absent, Expected::seen);
        let body = KeyBody { name, namespace, type_, keys };
        self.rooms.writer.write_secret(&Location { namespace, name }, &expected, &body).await.map(|_| ())
    }
}

/// Logs the changes of the authorities.
fn log(plan: &NextState, objects: &Objects, secret: &str) {
    for change in &plan.changes {
        tracing::info!(secret, ?change, "the certificate authorities of the verifier change");
    }
    match plan.authorities.previous() {
        _ if !plan.is_new => {}
        Some(_) => tracing::warn!(
            secret,
            "the keys of the certificate authority of the verifier are lost; clients have \
            to read the new ca.crt before the certificate of the lost authority runs out"
        ),
        None if objects.bundle.is_some() => tracing::warn!(
            secret,
            "the keys of the certificate authority of the \
            verifier are lost, and no certificate of it is in use; clients have to read the new ca.crt now"
        ),
        None => tracing::info!(secret, "the verifier has a new certificate authority"),
    }
}
