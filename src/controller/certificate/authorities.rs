//! The certificate authorities, as a Secret of their own holds them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::decide::{Periods, Succession, Successor, of_authority, succession};
use crate::{
    crd::secret::{KEY, KeySecret, LEAF},
    outside::{
        Entropy,
        issuer::{KeyedCertificate, NotIssued, Period, period_of_pem, share_a_certificate},
    },
};

const NEXT: (&str, &str) = ("next.crt", "next.key");
const PREVIOUS: &str = "previous.crt";

/// The authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authorities {
    /// The authority that signs.
    pub(super) signer: KeyedCertificate,
    /// The authority that signs next.
    next: Option<KeyedCertificate>,
    /// The certificate of the authority that signed before.
    previous: Option<String>,
}

impl Authorities {
    /// The authorities in a Secret. `None` if the one that signs cannot be used.
    pub(super) fn read(secret: &KeySecret) -> Option<Self> {
        let signer = pair(secret, LEAF, KEY)?;
        signer.period()?;
        let next = pair(secret, NEXT.0, NEXT.1).filter(|next| next.period().is_some());
        let previous = secret.text(PREVIOUS).filter(|previous| period_of_pem(previous).is_some());
        Some(Self { signer, next, previous: previous.map(|text| text.to_string()) })
    }

    /// The periods in which they are valid. `published` is the bundle that clients can read already.
    fn periods(&self, published: &str) -> Option<Periods> {
        let successor = |next: &KeyedCertificate| {
            let is_published = share_a_certificate(published, &next.certificate);
            Some(Successor { period: next.period()?, is_published })
        };
        Some(Periods {
            signer: self.signer.period()?,
            next: self.next.as_ref().and_then(successor),
            previous: self.previous.as_deref().and_then(period_of_pem),
        })
    }

    /// The certificate of the authority that signed before.
    pub(super) fn previous(&self) -> Option<&str> {
        self.previous.as_deref()
    }

    /// The period of the authority that signs.
    pub(super) fn signs(&self) -> Option<Period> {
        self.signer.period()
    }

    /// A first authority. `lost` is the certificate of the one before it, if its keys were lost. Clients trust it on.
    pub(super) fn begin(lost: Option<String>, entropy: &dyn Entropy, now: Timestamp) -> Result<Self, NotIssued> {
        Ok(Self { signer: fresh(entropy, now)?, next: None, previous: lost })
    }

    /// The authorities after the changes that are due. `published` is the bundle that clients can read already.
    pub(super) fn advance(
        mut self,
        published: &str,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<(Self, Vec<Succession>), NotIssued> {
        let mut changes = Vec::new();
        while let Some(change) = self.periods(published).and_then(|periods| succession(periods, now)) {
            self = self.after(change, entropy, now)?;
            changes.push(change);
        }
        Ok((self, changes))
    }

    fn after(self, change: Succession, entropy: &dyn Entropy, now: Timestamp) -> Result<Self, NotIssued> {
        Ok(match (change, self.next) {
            (Succession::Prepare, _) => Self { next: Some(fresh(entropy, now)?), ..self },
            (Succession::Promote, Some(next)) => {
                Self { signer: next, next: None, previous: Some(self.signer.certificate) }
            }
            (Succession::Promote, None) => Self { next: None, ..self },
            (Succession::Forget, next) => Self { previous: None, next, ..self },
        })
    }

    /// The certificates that clients trust, in PEM form.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| &*next.certificate);
        [Some(&*self.signer.certificate), next, self.previous.as_deref()].into_iter().flatten().collect()
    }

    /// The keys of the Secret. `None`: the key is removed.
    pub(super) fn keys(&self) -> BTreeMap<&'static str, Option<Zeroizing<String>>> {
        let text = |text: &str| Some(Zeroizing::new(text.to_owned()));
        BTreeMap::from([
            (LEAF, text(&self.signer.certificate)),
            (KEY, Some(self.signer.key.clone())),
            (NEXT.0, self.next.as_ref().and_then(|next| text(&next.certificate))),
            (NEXT.1, self.next.as_ref().map(|next| next.key.clone())),
            (PREVIOUS, self.previous.as_deref().and_then(text)),
        ])
    }
}

fn fresh(entropy: &dyn Entropy, now: Timestamp) -> Result<KeyedCertificate, NotIssued> {
    KeyedCertificate::authority(entropy, of_authority(now))
}

/// The certificate and the private key under these keys of a Secret.
pub(super) fn pair(secret: &KeySecret, certificate: &str, key: &str) -> Option<KeyedCertificate> {
    Some(KeyedCertificate { certificate: secret.text(certificate)?.to_string(), key: secret.text(key)? })
}
