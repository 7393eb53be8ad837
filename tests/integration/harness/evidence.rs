//! What a run of `integration` asked of the API server as ours: written by it, judged by `tests/rights.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// Something that a role grants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Right {
    pub group: String,
    /// With its subresource, as in `apitokens/status`.
    pub resource: String,
    pub verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, resource, verb } = self;
        let of = if group.is_empty() { "" } else { " of " };
        write!(f, "{verb} {resource}{of}{group}")
    }
}

/// Rights by who holds them: an account of the chart, or a role of the chart for users.
pub type Rights = BTreeMap<String, BTreeSet<Right>>;

/// A line of the evidence.
#[derive(Debug, Serialize, Deserialize)]
pub enum Entry {
    /// A run, which replaces the evidence of the one before: how many tests it runs, of how many.
    Run { tests: usize, of: usize },
    /// A world of a test begins.
    Begun { namespace: String },
    /// It ended, well or with a failed test: the rights that were used while it stood, and what the operator or the
    /// verifier was refused in it.
    Ended { namespace: String, well: bool, used: Rights, refused: BTreeSet<String> },
}

/// The evidence: an [`Entry`] a line, in JSON.
pub fn path() -> PathBuf {
    [env!("CARGO_TARGET_TMPDIR"), "rights.jsonl"].iter().collect()
}
