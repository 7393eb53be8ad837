//! The result of a pass, as conditions and events report it.

use super::{
    progress::{Failure, Progress},
    secrets::Slot,
    terms::CheckedTerms,
    world::World,
};
use crate::{
    crd::{Fault, Reason, api_token::Claim},
    token::{Record, Records},
};

/// The content of a condition: its status, its reason and its message.
pub(crate) type Said<T> = (T, Reason, String);

/// The result of a pass.
pub struct Outcome<'a> {
    /// The world that the pass read.
    pub world: &'a World,
    /// The checked terms, or the faults of the spec.
    pub terms: &'a CheckedTerms,
    /// The progress of the pass.
    pub progress: &'a Progress,
    /// The records after that progress.
    pub records: &'a Records,
    /// The claim of a value that is shown once.
    pub claim: Option<&'a Claim>,
}

impl Outcome<'_> {
    /// All faults of the spec.
    pub fn faults(&self) -> &[Fault] {
        self.terms.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// True if the token has ended. An end is final.
    pub fn has_ended(&self) -> bool {
        self.progress.ends().is_some() || self.world.before().revocation.is_some()
    }

    /// The served generation; none once the token has ended.
    pub fn served(&self) -> Option<&Record> {
        self.records.served().filter(|_| !self.has_ended())
    }

    /// The name of the Secret that holds the served value, or should hold it.
    pub fn served_in(&self) -> &str {
        published_in(self.world, self.progress).unwrap_or(&self.world.secrets.served.name)
    }

    /// The failure of the pass, if it concerns the value or its Secret. Any other failure leaves the token usable.
    pub fn failure(&self) -> Option<&Failure> {
        self.progress.failure.as_ref().filter(|_| !self.progress.is_aside())
    }

    /// The way to another value, as a clause.
    pub fn renewal(&self) -> String {
        let name = self.world.token.metadata.name.as_deref().unwrap_or_default();
        let home = self.world.namespace();
        format!("ask for another by `kubectl tokenry rotate {name} -n {home}`, or by a new text in spec.regenerate.id")
    }

    /// The name of the Secret that is to be removed; empty if there is none.
    pub fn leftover(&self) -> &str {
        self.world.before().other_secret_name.as_deref().unwrap_or_default()
    }
}

/// The name of the Secret in which this pass published a value, or found a published one.
pub(crate) fn published_in<'a>(world: &'a World, progress: &Progress) -> Option<&'a str> {
    let (generation, _) = progress.published?;
    let found = world.records.get(generation).and_then(|record| world.secrets.holding(record));
    let Slot { name, .. } = found.unwrap_or(world.secrets.next());
    Some(name)
}
