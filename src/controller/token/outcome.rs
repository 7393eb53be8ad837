//! What a pass comes to, as far as it is told in conditions and events.

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

/// What a condition says: whether it holds, the word for it, and the text.
pub(crate) type Said<T> = (T, Reason, String);

/// What a pass comes to.
pub struct Outcome<'a> {
    /// What was known.
    pub world: &'a World,
    /// What was asked for.
    pub terms: &'a CheckedTerms,
    /// What was done.
    pub progress: &'a Progress,
    /// The records after that.
    pub records: &'a Records,
    /// What became of a value that is shown once.
    pub claim: Option<&'a Claim>,
}

impl Outcome<'_> {
    /// Everything that is wrong with what was asked for.
    pub fn faults(&self) -> &[Fault] {
        self.terms.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// Whether the token has ended, for ever.
    pub fn has_ended(&self) -> bool {
        self.progress.ends().is_some() || self.world.before().revocation.is_some()
    }

    /// The generation that is served, while the token has not ended.
    pub fn served(&self) -> Option<&Record> {
        self.records.served().filter(|_| !self.has_ended())
    }

    /// The name of the Secret that the served value is in, or should be.
    pub fn served_in(&self) -> &str {
        published_in(self.world, self.progress).unwrap_or(&self.world.secrets.served.name)
    }

    /// What could not be done, if that was about the value or its Secret: else the token is as good where it fails.
    pub fn failure(&self) -> Option<&Failure> {
        self.progress.failure.as_ref().filter(|_| !self.progress.is_aside())
    }

    /// The name of the Secret that is to go.
    pub fn leftover(&self) -> &str {
        self.world.before().other_secret_name.as_deref().unwrap_or_default()
    }
}

/// The Secret in which this pass published a value, or found one.
pub(crate) fn published_in<'a>(world: &'a World, progress: &Progress) -> Option<&'a str> {
    let (generation, _) = progress.published?;
    let found = world.records.get(generation).and_then(|record| world.secrets.holding(record));
    let Slot { name, .. } = found.unwrap_or(world.secrets.next());
    Some(name)
}
