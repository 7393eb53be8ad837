//! May this token do this? Pure: decided from plain data alone, for the operator and the verifier alike.
//!
//! ```text
//! Instance ─▶ Rules ─┐
//! AccessPolicies ────┼─▶ judge ─▶ Ruling: the first Cause that holds
//! token and account ─▶ Bearer ───┤
//! method and path ─▶ Request ────┘
//! ```

mod action;
mod bearer;
mod effective;
mod judge;
mod namespaces;
mod path;
mod policy;
#[cfg(test)]
mod properties;
mod roles;
mod rules;

pub use action::{Actions, Target};
pub use bearer::{Bearer, Reach, groups, stamp};
pub use effective::effective;
pub use judge::{Cause, Ruling, Step, Trail, judge};
pub use namespaces::{Namespace, admits};
pub use path::{Path, PathFault};
pub use policy::Policy;
pub use roles::{Holding, Standing};
pub use rules::{Named, Request, Rules};
