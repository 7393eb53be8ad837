//! The Secrets of a token. The *served* one holds the value now, the *wanted* one is named by the spec, and the
//! *leftover* one is to be removed. After a rename, these are different Secrets.
//!
//! ```text
//!  spec.secret  status.       status.
//!  .name        secretName    otherSecretName │ served  wanted  leftover
//!  ───────────────────────────────────────────┼─────────────────────────
//!  ci                                         │ ci                        at the start
//!  ci           ci                            │ ci                        at rest
//!  new          ci                            │ ci      new               renamed: the next value goes to new
//!  new          ci            new             │ ci      new               recorded: the publish may be lost
//!  new          new           ci              │ new             ci        published: ci is to be removed
//!  third        new           ci              │ new     third   ci        renamed again: ci is removed first
//!  new          new                           │ new                       at rest
//!  ci           elsewhere     ci              │ ci                        ci holds the value: the status is wrong
//! ```

use std::sync::Arc;

use kube::ResourceExt;

use super::observed::Observed;
use crate::{
    crd::{
        ApiToken, SealedSecret, belongs, name,
        secret::{self, Sealed},
    },
    token::{Digest, Record, Records, Rendered},
};

/// The object under a name that the token uses for a Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    /// No Secret has this name.
    Absent,
    /// The token's own Secret.
    Ours(Arc<SealedSecret>),
    /// The token's own Secret, recreated with this other type.
    Retyped(String),
    /// A Secret that does not belong to the token.
    Foreign,
}

impl Held {
    /// Classifies `secret` for a token. A Secret with an owner reference to the token is its own. A Secret without it
    /// is still its own if it has our type, a value on the token's record, and no other controller.
    pub fn of(secret: Option<Arc<SealedSecret>>, token: &ApiToken) -> Self {
        let uid = token.metadata.uid.as_deref().unwrap_or_default();
        match secret {
            None => Self::Absent,
            Some(secret) if !belongs(&*secret, uid) && !is_on_record(&secret, token) => Self::Foreign,
            Some(secret) if secret.type_.as_deref() == Some(secret::TYPE) => Self::Ours(secret),
            Some(secret) => Self::Retyped(secret.type_.clone().unwrap_or_default()),
        }
    }

    /// The Secret, if it is ours.
    pub fn ours(&self) -> Option<&SealedSecret> {
        match self {
            Self::Ours(secret) => Some(secret),
            Self::Absent | Self::Retyped(_) | Self::Foreign => None,
        }
    }

    /// True if the name is taken by a Secret that Tokenry must not change.
    pub fn is_in_the_way(&self) -> bool {
        match self {
            Self::Retyped(_) | Self::Foreign => true,
            Self::Absent | Self::Ours(_) => false,
        }
    }

    /// The digest of the value that our own Secret holds.
    pub fn digest(&self) -> Option<Digest> {
        self.digest_of(secret::TOKEN)
    }

    /// The digest of one key of our own Secret.
    pub fn digest_of(&self, key: &str) -> Option<Digest> {
        self.ours()?.data.get(key)?.digest()
    }

    /// True if our own Secret holds the value of `record` and each key rendered from it.
    pub fn holds(&self, record: &Record) -> bool {
        self.holds_keys(record, |_| true)
    }

    /// True if our own Secret holds the value of `record`. Of the rendered keys, only the `asked` ones count.
    pub fn holds_keys(&self, record: &Record, asked: impl Fn(&str) -> bool) -> bool {
        let stands = |rendered: &Rendered| self.digest_of(&rendered.key) == Some(rendered.sha256);
        let mut made = record.rendered.iter().filter(|rendered| asked(&rendered.key));
        self.digest() == Some(record.sha256) && made.all(stands)
    }

    /// The generation number in the annotation of our own Secret. Every writer of the Secret can set any number there.
    /// So a number above 32 bits is ignored, because it would soon use up all numbers.
    fn noted_generation(&self) -> Option<u32> {
        self.ours()?.annotations().get(name::GENERATION)?.parse().ok()
    }
}

/// True if a Secret has our type, has no controller, and holds a value that is on the token's record.
fn is_on_record(secret: &SealedSecret, token: &ApiToken) -> bool {
    let controlled = secret.owner_references().iter().any(|owner| owner.controller == Some(true));
    let digest = secret.data.get(secret::TOKEN).and_then(Sealed::digest);
    let mut records = token.status.iter().flat_map(|status| &status.records);
    let ours = secret.type_.as_deref() == Some(secret::TYPE) && !controlled;
    ours && digest.is_some_and(|digest| records.any(|record| record.sha256 == digest))
}

/// A name and the object under it.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The name of a Secret.
    pub name: String,
    /// The object under that name.
    pub held: Held,
}

/// The Secrets of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Secrets {
    /// The Secret that holds the served value, or should hold it.
    pub served: Slot,
    /// The Secret that the spec names, if it is another one.
    pub wanted: Option<Slot>,
    /// The Secret in `status.otherSecretName`, if it is neither of these. It is to be removed.
    pub leftover: Option<Slot>,
}

impl Secrets {
    /// Derives the Secrets from the names in spec and status, and from the objects under these names.
    pub fn of(read: &Observed, records: &Records) -> Self {
        let names = SecretNames::of(&read.token);
        let slot =
            |name: &str| Slot { name: name.to_owned(), held: read.stored.get(name).cloned().unwrap_or(Held::Absent) };
        let (asked, leftover) = (slot(names.asked), names.leftover.map(slot));
        // If the Secret that the spec names holds the served value, it is the served one, whatever the status says.
        let is_there = records.served().is_some_and(|served| asked.held.digest() == Some(served.sha256));
        match names.renamed_from.filter(|_| !is_there) {
            Some(stated) => Self { served: slot(stated), wanted: Some(asked), leftover },
            None => Self { served: asked, wanted: None, leftover },
        }
    }

    /// The Secret for the next value. It is the wanted one, unless a leftover one still has to be removed.
    pub fn next(&self) -> &Slot {
        self.wanted.as_ref().filter(|_| self.leftover.is_none()).unwrap_or(&self.served)
    }

    /// All Secrets of the token.
    pub fn all(&self) -> impl Iterator<Item = &Slot> {
        [&self.served].into_iter().chain(&self.wanted).chain(&self.leftover)
    }

    /// The Secret that holds the value of `record`.
    pub fn holding(&self, record: &Record) -> Option<&Slot> {
        self.all().find(|slot| slot.held.digest() == Some(record.sha256))
    }

    /// The highest generation number noted on these Secrets.
    pub fn last_generation(&self) -> Option<u32> {
        self.all().filter_map(|slot| slot.held.noted_generation()).max()
    }
}

/// The names that a token uses for Secrets, each once.
pub(crate) struct SecretNames<'a> {
    /// The name in the spec.
    pub asked: &'a str,
    /// The name of the served Secret in the status, if it is another one.
    pub renamed_from: Option<&'a str>,
    /// The name in `status.otherSecretName`, if it is neither of these.
    pub leftover: Option<&'a str>,
}

impl<'a> SecretNames<'a> {
    /// The names of a token.
    pub(crate) fn of(token: &'a ApiToken) -> Self {
        let [asked, stated, other] = token.secret_names();
        let asked = asked.unwrap_or_default();
        let renamed_from = stated.filter(|&name| name != asked);
        let leftover = other.filter(|&name| name != asked && Some(name) != renamed_from);
        Self { asked, renamed_from, leftover }
    }

    /// All names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'a str> {
        [self.asked].into_iter().chain(self.renamed_from).chain(self.leftover)
    }
}
