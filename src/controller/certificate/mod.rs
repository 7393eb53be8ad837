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

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use authorities::{Authorities, pair};
use body::KeyBody;
use decide::{CERTIFICATE, from_now, is_due, succession};
use handed::HandedOut;

use super::Caches;
use crate::{
    crd::{
        name,
        secret::{AUTHORITIES, CA, KEY, KeySecret, LEAF, TLS},
    },
    outside::{
        Clock, Entropy, Expected, Location, Reader, Refusal, Why, Writer,
        clock::jumps,
        issuer::{KeyedCertificate, NotIssued},
    },
};

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

/// The part of the outside world that the keeper uses.
pub struct CertificateKeeper {
    /// The certificate to keep.
    pub order: CertificateOrder,
    /// The name of the Secret with the certificates that Traefik trusts. `None`: Traefik needs none.
    pub ca_secret: Option<String>,
    /// True once each namespace has that Secret.
    pub handed: watch::Sender<bool>,
    /// The Instances.
    pub caches: Arc<Caches>,
    /// Reads the objects.
    pub reader: Reader,
    /// Writes the objects.
    pub writer: Writer,
    /// The time by which certificates are valid.
    pub clock: Arc<dyn Clock>,
    /// The source of serial numbers.
    pub entropy: Arc<dyn Entropy>,
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
}

impl CertificateKeeper {
    /// Keeps the certificate for ever.
    pub async fn keep(self) {
        let mut jumps = Box::pin(jumps(self.clock.clone()));
        let (mut said, mut given, mut bundle) = (None, HandedOut::new(), None);
        loop {
            let pause = match self.pass(self.clock.now()).await {
                Ok(trusted) => {
                    (said, bundle) = (None, Some(trusted));
                    // Somebody can have deleted or changed a Secret that was handed out, so each is read again.
                    given.clear();
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
            let handing = async {
                match &bundle {
                    Some(bundle) => self.hand_out(bundle, &mut given).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                _ = jumps.next() => {}
                () = handing => {}
            }
        }
    }

    /// Brings the three objects to their desired state. Returns the certificates that clients trust.
    async fn pass(&self, now: Timestamp) -> Result<String, Unkept> {
        let authorities = self.authorities(now).await?;
        let bundle = authorities.bundle();
        self.publish(&bundle).await?;
        self.certificate(&authorities, &bundle, now).await?;
        Ok(bundle)
    }

    /// The authorities, after the change that is due.
    async fn authorities(&self, now: Timestamp) -> Result<Authorities, Unkept> {
        let name = self.authorities_name();
        let found = self.secret(&name).await?;
        let (mut authorities, mut is_changed) = match found.as_ref().and_then(Authorities::read) {
            Some(authorities) => (authorities, false),
            None => (Authorities::begin(&*self.entropy, now)?, true),
        };
        while let Some(change) = authorities.periods().and_then(|periods| succession(periods, now)) {
            tracing::info!(secret = name, ?change, "the certificate authorities of the verifier change");
            authorities = authorities.after(change, &*self.entropy, now)?;
            is_changed = true;
        }
        if is_changed {
            self.write(&name, found.as_ref(), AUTHORITIES, authorities.keys()).await?;
        }
        Ok(authorities)
    }

    /// Writes the certificates that clients trust into the ConfigMap.
    async fn publish(&self, bundle: &str) -> Result<(), Unkept> {
        let (namespace, name) = (&*self.order.place.namespace, &*self.authorities_name());
        let found = self.reader.live::<ConfigMap>(namespace, name).await?;
        if let Some(found) = found.as_ref().filter(|found| !is_ours(&found.metadata.labels)) {
            return Err(Unkept::Foreign { kind: "ConfigMap", name: found.name_any() });
        }
        let holds =
            |found: &ConfigMap| found.data.as_ref().and_then(|data| data.get(CA)).is_some_and(|ca| ca == bundle);
        if found.as_ref().is_some_and(holds) {
            return Ok(());
        }
        let labels = json!({name::MANAGED_BY: name::MANAGER});
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace, "labels": labels}, "data": {CA: bundle},
        });
        let expected = found.as_ref().map_or(Expected::Absent, Expected::seen);
        self.writer.apply_ours::<ConfigMap>(&Location { namespace, name }, &expected, body, true).await?;
        Ok(())
    }

    /// Renews the certificate if it is due, and keeps the authorities beside it.
    async fn certificate(&self, authorities: &Authorities, bundle: &str, now: Timestamp) -> Result<(), Unkept> {
        let CertificateOrder { place, names } = &self.order;
        let found = self.secret(&place.name).await?;
        let stored = found.as_ref().and_then(|secret| pair(secret, LEAF, KEY));
        let keeps = |pair: &KeyedCertificate| {
            let is_valid = pair.period().is_some_and(|period| !is_due(period, now));
            is_valid && pair.serves(&authorities.signer.certificate, names, now)
        };
        let ca = (CA, Some(bundle.to_owned().into()));
        if stored.as_ref().is_some_and(keeps) {
            let has_bundle = found.as_ref().and_then(|secret| secret.text(CA)).is_some_and(|ca| *ca == bundle);
            if !has_bundle {
                self.write(&place.name, found.as_ref(), TLS, BTreeMap::from([ca])).await?;
            }
            return Ok(());
        }
        let made = authorities.signer.sign(&*self.entropy, names, from_now(now, CERTIFICATE))?;
        let keys = BTreeMap::from([(LEAF, Some(made.certificate.into())), (KEY, Some(made.key)), ca]);
        self.write(&place.name, found.as_ref(), TLS, keys).await?;
        tracing::info!(secret = place.name, "the verifier has a new certificate");
        Ok(())
    }

    fn authorities_name(&self) -> String {
        format!("{}-ca", self.order.place.name)
    }

    /// The Secret of this name. An error if it exists and is not ours.
    async fn secret(&self, name: &str) -> Result<Option<KeySecret>, Unkept> {
        let found = self.reader.keys(&self.order.place.namespace, name).await?;
        match found {
            Some(found) if !is_ours(&found.metadata.labels) => {
                Err(Unkept::Foreign { kind: "Secret", name: name.to_owned() })
            }
            found => Ok(found),
        }
    }

    /// Writes these keys of a Secret, which is unchanged since it was `found`.
    async fn write(
        &self,
        name: &str,
        found: Option<&KeySecret>,
        type_: &'static str,
        keys: BTreeMap<&'static str, Option<zeroize::Zeroizing<String>>>,
    ) -> Result<(), Refusal> {
        let namespace = &*self.order.place.namespace;
        let expected = found.map_or(Expected::Absent, Expected::seen);
        let body = KeyBody { name, namespace, type_, keys };
        self.writer.write_secret(&Location { namespace, name }, &expected, &body).await.map(|_| ())
    }
}

/// True if Tokenry made the object with these labels.
fn is_ours(labels: &Option<BTreeMap<String, String>>) -> bool {
    labels.as_ref().and_then(|labels| labels.get(name::MANAGED_BY)).is_some_and(|by| by == name::MANAGER)
}
