//! The objects as they were read, and the next state of each. Pure, but for the keys and serial numbers of new
//! certificates.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::{
    Unkept,
    authorities::{Authorities, pair},
    decide::{Renewal, Succession, of_certificate, renewal},
    ownership::is_ours,
};
use crate::{
    crd::secret::{AUTHORITIES, CA, KEY, KeySecret, LEAF},
    outside::{
        Entropy,
        issuer::{KeyedCertificate, NotIssued, Period, share_a_certificate},
    },
};

/// The objects as they were read. `None`: the object does not exist.
#[derive(Default)]
pub(super) struct Objects {
    /// The Secret with the authorities.
    pub(super) authorities: Option<KeySecret>,
    /// The ConfigMap with the certificates that clients trust.
    pub(super) bundle: Option<ConfigMap>,
    /// The Secret with the certificate.
    pub(super) certificate: Option<KeySecret>,
}

/// The next state of the objects.
pub(super) struct NextState {
    /// The authorities.
    pub(super) authorities: Authorities,
    /// The period of the authority that signs.
    pub(super) signer: Period,
    /// The changes of the authorities. A first or new authority is not among them.
    pub(super) changes: Vec<Succession>,
    /// True if the authorities are new, because there were none that could be used.
    pub(super) is_new: bool,
    /// The certificates that clients trust.
    pub(super) bundle: String,
    /// The fate of the certificate.
    pub(super) renewal: Renewal,
}

impl Objects {
    /// Decides on the next state for a server with these `names`.
    ///
    /// # Errors
    /// An object is not the keeper's, or nothing can be issued.
    pub(super) fn plan(&self, names: &[String], entropy: &dyn Entropy, now: Timestamp) -> Result<NextState, Unkept> {
        let stored = self.authorities.as_ref().and_then(Authorities::read);
        let is_new = stored.is_none();
        self.refuse_foreign_authorities(is_new)?;
        let authorities = match stored {
            Some(authorities) => authorities,
            None => Authorities::begin(self.lost(names, now), entropy, now)?,
        };
        let (authorities, changes) = authorities.advance(self.published().unwrap_or_default(), entropy, now)?;
        let bundle = authorities.bundle();
        self.refuse_foreign(&bundle)?;
        let accepted = self.pair().filter(|pair| pair.serves(&bundle, names, now));
        let signer = authorities.signs().ok_or_else(NotIssued::unreadable)?;
        let renewal = renewal(accepted.and_then(|pair| pair.period()), signer, now);
        Ok(NextState { authorities, signer, changes, is_new, bundle, renewal })
    }

    /// The certificates that clients can read in the ConfigMap.
    pub(super) fn published(&self) -> Option<&str> {
        self.bundle.as_ref()?.data.as_ref()?.get(CA).map(|ca| &**ca)
    }

    /// The certificates beside the certificate of the server.
    pub(super) fn beside(&self) -> Option<Zeroizing<String>> {
        self.certificate.as_ref()?.text(CA)
    }

    /// The certificate of the server.
    fn pair(&self) -> Option<KeyedCertificate> {
        pair(self.certificate.as_ref()?, LEAF, KEY)
    }

    /// The certificate of the authority whose keys are lost: the one by which clients accept the server now. No other
    /// certificate of the ConfigMap is trusted on, because somebody else could have put it there.
    fn lost(&self, names: &[String], now: Timestamp) -> Option<String> {
        let (pair, beside) = (self.pair()?, self.beside());
        let texts = self.published().into_iter().chain(beside.as_ref().map(|beside| &***beside));
        texts.into_iter().find_map(|bundle| pair.authority_in(bundle, names, now))
    }

    fn refuse_foreign_authorities(&self, is_unreadable: bool) -> Result<(), Unkept> {
        let Some(secret) = &self.authorities else { return Ok(()) };
        let is_known = !is_unreadable && secret.type_.as_deref() == Some(AUTHORITIES);
        if is_ours(&secret.metadata, is_known) { Ok(()) } else { Err(foreign("Secret", secret)) }
    }

    fn refuse_foreign(&self, bundle: &str) -> Result<(), Unkept> {
        let is_known = |ca: Option<&str>| ca.is_some_and(|ca| share_a_certificate(ca, bundle));
        if let Some(map) = self.bundle.as_ref().filter(|map| !is_ours(&map.metadata, is_known(self.published()))) {
            return Err(foreign("ConfigMap", map));
        }
        let beside = self.beside();
        let is_known = is_known(beside.as_ref().map(|beside| &***beside));
        match self.certificate.as_ref().filter(|secret| !is_ours(&secret.metadata, is_known)) {
            Some(secret) => Err(foreign("Secret", secret)),
            None => Ok(()),
        }
    }
}

fn foreign(kind: &'static str, object: &impl ResourceExt) -> Unkept {
    Unkept::Foreign { kind, name: object.name_any() }
}

impl NextState {
    /// True if the Secret with the authorities has to be written.
    pub(super) fn writes_authorities(&self) -> bool {
        self.is_new || !self.changes.is_empty()
    }

    /// A new certificate for these names, as keys of its Secret.
    pub(super) fn signed(
        &self,
        names: &[String],
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<BTreeMap<&'static str, Option<Zeroizing<String>>>, NotIssued> {
        let made = self.authorities.signer.sign(entropy, names, of_certificate(self.signer, now))?;
        let [certificate, ca] = [made.certificate, self.bundle.clone()].map(|text| Some(text.into()));
        Ok(BTreeMap::from([(LEAF, certificate), (KEY, Some(made.key)), (CA, ca)]))
    }
}

#[cfg(test)]
mod tests;
