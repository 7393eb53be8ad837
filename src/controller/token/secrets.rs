//! The Secrets of a token: the one that is served, the one that is wanted, and one that is left over.
//!
//! ```text
//!  spec.secret  status.       status.
//!  .name        secretName    otherSecretName │ served  wanted  leftover
//!  ───────────────────────────────────────────┼─────────────────────────
//!  ci                                         │ ci                        at the start
//!  ci           ci                            │ ci                        at rest
//!  new          ci                            │ ci      new               renamed: the next value goes to new
//!  new          ci            new             │ ci      new               on record: its publish may be lost
//!  new          new           ci              │ new             ci        published: ci is to go
//!  third        new           ci              │ new     third   ci        renamed again: ci goes first
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

/// What holds the name of a token's Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    /// Nothing.
    Absent,
    /// The token's own Secret.
    Ours(Arc<SealedSecret>),
    /// One of the token's own that has come to be of this type.
    Retyped(String),
    /// Something that is not ours by uid.
    Foreign,
}

impl Held {
    /// What `secret` is to a token: its own by owner reference; or, where that was taken off, by its type and by a
    /// value that is on the token's record, while nobody else controls it.
    pub fn of(secret: Option<Arc<SealedSecret>>, token: &ApiToken) -> Self {
        let uid = token.metadata.uid.as_deref().unwrap_or_default();
        match secret {
            None => Self::Absent,
            Some(secret) if !belongs(&*secret, uid) && !is_on_record(&secret, token) => Self::Foreign,
            Some(secret) if secret.type_.as_deref() == Some(secret::TYPE) => Self::Ours(secret),
            Some(secret) => Self::Retyped(secret.type_.clone().unwrap_or_default()),
        }
    }

    /// Our own Secret.
    pub fn ours(&self) -> Option<&SealedSecret> {
        match self {
            Self::Ours(secret) => Some(secret),
            Self::Absent | Self::Retyped(_) | Self::Foreign => None,
        }
    }

    /// Whether something is there that is not our own Secret.
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

    /// The digest of what a key of our own Secret holds.
    pub fn digest_of(&self, key: &str) -> Option<Digest> {
        self.ours()?.data.get(key)?.digest()
    }

    /// Whether our own Secret holds the value of `record`, and each key that was made of it.
    pub fn holds(&self, record: &Record) -> bool {
        self.holds_keys(record, |_| true)
    }

    /// The same, of those keys alone that are `asked` for.
    pub fn holds_keys(&self, record: &Record, asked: impl Fn(&str) -> bool) -> bool {
        let stands = |rendered: &Rendered| self.digest_of(&rendered.key) == Some(rendered.sha256);
        let mut made = record.rendered.iter().filter(|rendered| asked(&rendered.key));
        self.digest() == Some(record.sha256) && made.all(stands)
    }

    /// The number of the generation that is noted on our own Secret. Whoever can write the Secret can write any number
    /// there: one so high that the next would soon be the last is not believed.
    fn noted_generation(&self) -> Option<u32> {
        self.ours()?.annotations().get(name::GENERATION)?.parse().ok()
    }
}

/// Whether a Secret of our type that nobody controls holds a value of which the token has a record.
fn is_on_record(secret: &SealedSecret, token: &ApiToken) -> bool {
    let controlled = secret.owner_references().iter().any(|owner| owner.controller == Some(true));
    let digest = secret.data.get(secret::TOKEN).and_then(Sealed::digest);
    let mut records = token.status.iter().flat_map(|status| &status.records);
    let ours = secret.type_.as_deref() == Some(secret::TYPE) && !controlled;
    ours && digest.is_some_and(|digest| records.any(|record| record.sha256 == digest))
}

/// A name, and what holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The name of a Secret.
    pub name: String,
    /// What holds it.
    pub held: Held,
}

/// The Secrets of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Secrets {
    /// Where the served value is, or should be.
    pub served: Slot,
    /// The one that is asked for, where that is another.
    pub wanted: Option<Slot>,
    /// The other one of the status, where that is neither: it is to go.
    pub leftover: Option<Slot>,
}

impl Secrets {
    /// Those of a token, by what holds each name.
    pub fn of(read: &Observed, records: &Records) -> Self {
        let names = SecretNames::of(&read.token);
        let slot =
            |name: &str| Slot { name: name.to_owned(), held: read.stored.get(name).cloned().unwrap_or(Held::Absent) };
        let (asked, leftover) = (slot(names.asked), names.leftover.map(slot));
        // A served value that is found at the name that is asked for is there, whatever the status says.
        let is_there = records.served().is_some_and(|served| asked.held.digest() == Some(served.sha256));
        match names.renamed_from.filter(|_| !is_there) {
            Some(stated) => Self { served: slot(stated), wanted: Some(asked), leftover },
            None => Self { served: asked, wanted: None, leftover },
        }
    }

    /// Where the next value goes: to the wanted one, once none is left over.
    pub fn next(&self) -> &Slot {
        self.wanted.as_ref().filter(|_| self.leftover.is_none()).unwrap_or(&self.served)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Slot> {
        [&self.served].into_iter().chain(&self.wanted).chain(&self.leftover)
    }

    /// The one that holds the value of `record`.
    pub fn holding(&self, record: &Record) -> Option<&Slot> {
        self.all().find(|slot| slot.held.digest() == Some(record.sha256))
    }

    /// The highest number of a generation that is noted on one of them.
    pub fn last_generation(&self) -> Option<u32> {
        self.all().filter_map(|slot| slot.held.noted_generation()).max()
    }
}

/// The names that a token uses, each once.
pub(crate) struct SecretNames<'a> {
    /// The name that the spec asks for.
    pub asked: &'a str,
    /// The name that the status says the served value is at, where that is another.
    pub renamed_from: Option<&'a str>,
    /// The other name of the status, where that is neither.
    pub leftover: Option<&'a str>,
}

impl<'a> SecretNames<'a> {
    /// Those of a token.
    pub(crate) fn of(token: &'a ApiToken) -> Self {
        let [asked, stated, other] = token.secret_names();
        let asked = asked.unwrap_or_default();
        let renamed_from = stated.filter(|&name| name != asked);
        let leftover = other.filter(|&name| name != asked && Some(name) != renamed_from);
        Self { asked, renamed_from, leftover }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'a str> {
        [self.asked].into_iter().chain(self.renamed_from).chain(self.leftover)
    }
}
