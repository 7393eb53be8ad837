//! The domain: the form of a token, the life of its generations, and their schedule.
//!
//! The module is pure and synchronous. It has no clock, no randomness and no Kubernetes client. Time and random
//! characters come in as arguments.

pub mod calendar;
pub mod digest;
pub mod duration;
pub mod format;
pub mod id;
pub mod jitter;
pub mod moment;
pub mod plaintext;
pub mod records;
pub mod schedule;
pub mod template;
pub mod terms;

pub use calendar::{Calendar, Window};
pub use digest::Digest;
pub use id::Id;
pub use moment::Moment;
pub use plaintext::Plaintext;
pub use records::{Life, Record, Records, Rendered, State};
pub use template::Template;
pub use terms::{Asked, Ending, Limit, Schedule, Terms, TermsPolicy};

#[cfg(test)]
#[path = "../../tests/shared/cases.rs"]
pub(crate) mod cases;
#[cfg(test)]
#[path = "../../tests/shared/durations.rs"]
mod durations;
