//! What a token asks for, checked.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::shape::Shape;
use crate::{
    controller::kind::Checked,
    token::{Asked, Digest, Ending, Record, Terms},
};

/// The terms, or everything that is wrong with them.
pub(crate) type CheckedTerms = Checked<Arc<TokenTerms>>;

/// What a token asks for, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    /// What its generations live by.
    pub life: Terms,
    /// A new generation that is asked for and was not published yet.
    pub regenerate: Option<Asked>,
    /// The organization that API requests name.
    pub organization: String,
    /// The URI of the Admin API; empty while the Instance has no endpoint that stands.
    pub endpoint: String,
    /// What the Secret looks like besides.
    pub shape: Shape,
}

impl TokenTerms {
    /// The record of a generation that is minted at `now` by these terms.
    pub fn record(&self, generation: i64, id: &str, digest: Digest, now: Timestamp) -> Record {
        let mut record = Record::new(generation, id.to_owned(), digest, now, self.life.lifetime);
        self.life.until.into_iter().for_each(|until| record.end_by(until));
        record.asked_by = self.regenerate.as_ref().map(|asked| asked.id.clone());
        record
    }

    /// When the predecessor of a generation that `asked` asked for ends.
    pub fn previous(&self, asked: Option<&str>) -> Ending {
        let regenerate = self.regenerate.as_ref().filter(|regenerate| Some(&*regenerate.id) == asked);
        regenerate.map_or(Ending::Overlap, |regenerate| regenerate.previous)
    }

    /// How long the predecessor of a generation that `asked` asked for stays valid, once that is published `at`.
    pub fn overlap(&self, asked: Option<&str>, at: Timestamp) -> SignedDuration {
        self.previous(asked).overlap(at, self.life.overlap)
    }
}
