//! The domain: what a token is, how it lives and what it looks like.
//!
//! Pure and synchronous: no clock, no randomness, no Kubernetes client. Time comes in as an argument, random
//! characters come in as text.

pub mod calendar;
pub mod digest;
pub mod duration;
pub mod format;
pub mod jitter;
pub mod moment;
pub mod plaintext;
pub mod records;
pub mod schedule;
pub mod template;
pub mod terms;

pub use calendar::{Calendar, Window};
pub use digest::Digest;
pub use moment::Moment;
pub use plaintext::Plaintext;
pub use records::{Life, Record, Records, Rendered, State};
pub use template::Template;
pub use terms::{Asked, Ending, Limit, Schedule, Terms, TermsPolicy};

#[cfg(test)]
#[path = "../../tests/shared/cases.rs"]
pub(crate) mod cases;
