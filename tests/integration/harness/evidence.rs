//! The permissions that the operator, the verifier and the chart's user roles used in a run of `integration`. The run
//! writes this evidence to a file. `tests/rights.rs` checks it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// A permission that a role can grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Right {
    pub group: String,
    /// The resource, with its subresource, as in `apitokens/status`.
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

/// Permissions by holder. A holder is a core ServiceAccount of the chart, or a role of the chart for users.
pub type Rights = BTreeMap<String, BTreeSet<Right>>;

/// A line of the evidence.
#[derive(Debug, Serialize, Deserialize)]
pub enum Entry {
    /// The start of a run. It replaces the evidence of the previous run. `tests` is the number of tests in this run,
    /// and `of` is the number of all tests.
    Run { tests: usize, of: usize },
    /// The start of a test's world.
    Begun { namespace: String },
    /// The end of a world. `well` is false if the test failed. `used` has the permissions that were used during the
    /// world. `refused` has the requests in this world that the operator or the verifier had no permission for.
    Ended { namespace: String, well: bool, used: Rights, refused: BTreeSet<String> },
}

/// The path of the evidence. Each line is an [`Entry`] in JSON.
pub fn path() -> PathBuf {
    [env!("CARGO_TARGET_TMPDIR"), "rights.jsonl"].iter().collect()
}
