//! The checked terms of a token.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::shape::Shape;
use crate::{
    controller::kind::Checked,
    crd::secret,
    token::{Asked, Digest, Ending, Record, Terms},
};

/// The terms, or all faults of the spec.
pub(crate) type CheckedTerms = Checked<Arc<TokenTerms>>;

/// The number of digits that [`TokenTerms::endpoint_digest`] keeps. They only tell one state from the next.
const ENDPOINT_DIGEST: usize = 16;

/// The checked terms of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    /// The lifetime, schedule and overlap of its generations.
    pub life: Terms,
    /// A new generation that `spec.regenerate` asks for and that is not published yet.
    pub regenerate: Option<Asked>,
    /// The Instance's own organization.
    pub organization: String,
    /// The URI of the Admin API; empty if the Instance asks for no endpoint.
    pub endpoint: String,
    /// The labels, annotations and further keys of the Secret.
    pub shape: Shape,
}

impl TokenTerms {
    /// A digest of the keys `endpoint` and `ca.crt` that the Secret should have.
    pub fn endpoint_digest(&self) -> String {
        let ca = self.shape.plain.get(secret::CA).map_or("", String::as_str);
        let mut digest = Digest::of(format!("{}\n{ca}", self.endpoint)).to_string();
        digest.truncate(ENDPOINT_DIGEST);
        digest
    }

    /// The record of a generation that is minted at `now` by these terms.
    pub fn record(&self, generation: i64, id: &str, digest: Digest, now: Timestamp) -> Record {
        let mut record = Record::new(generation, id.to_owned(), digest, now, self.life.lifetime);
        self.life.until.into_iter().for_each(|until| record.end_by(until));
        record.asked_by = self.regenerate.as_ref().map(|asked| asked.id.clone());
        record
    }

    /// The end of the predecessor of a generation that was minted for the id `asked`.
    pub fn previous(&self, asked: Option<&str>) -> Ending {
        let regenerate = self.regenerate.as_ref().filter(|regenerate| Some(&*regenerate.id) == asked);
        regenerate.map_or(Ending::Overlap, |regenerate| regenerate.previous)
    }

    /// The time for which the predecessor stays valid after the publish `at` of a generation minted for the id `asked`.
    pub fn overlap(&self, asked: Option<&str>, at: Timestamp) -> SignedDuration {
        self.previous(asked).overlap(at, self.life.overlap)
    }
}
