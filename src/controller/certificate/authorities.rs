//! The certificate authorities, as a Secret of their own holds them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::decide::{AUTHORITY, Periods, Succession, from_now};
use crate::{
    crd::secret::{KEY, KeySecret, LEAF},
    outside::{
        Entropy,
        issuer::{KeyedCertificate, NotIssued, period_of_pem},
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

    /// The periods in which they are valid.
    pub(super) fn periods(&self) -> Option<Periods> {
        Some(Periods {
            signer: self.signer.period()?,
            next: self.next.as_ref().and_then(KeyedCertificate::period),
            previous: self.previous.as_deref().and_then(period_of_pem),
        })
    }

    /// The first authority.
    pub(super) fn begin(entropy: &dyn Entropy, now: Timestamp) -> Result<Self, NotIssued> {
        Ok(Self { signer: fresh(entropy, now)?, next: None, previous: None })
    }

    /// The authorities after a change.
    pub(super) fn after(self, change: Succession, entropy: &dyn Entropy, now: Timestamp) -> Result<Self, NotIssued> {
        Ok(match (change, self.next) {
            (Succession::Begin, _) | (Succession::Promote, None) => Self::begin(entropy, now)?,
            (Succession::Prepare, _) => Self { next: Some(fresh(entropy, now)?), ..self },
            (Succession::Promote, Some(next)) => {
                Self { signer: next, next: None, previous: Some(self.signer.certificate) }
            }
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
    KeyedCertificate::authority(entropy, from_now(now, AUTHORITY))
}

/// The certificate and the private key under these keys of a Secret.
pub(super) fn pair(secret: &KeySecret, certificate: &str, key: &str) -> Option<KeyedCertificate> {
    Some(KeyedCertificate { certificate: secret.text(certificate)?.to_string(), key: secret.text(key)? })
}
