//! Decides if a token may make a request. The module is pure: it decides from plain data alone, for the operator and
//! the verifier alike.
//!
//! ```text
//! Instance ─▶ Rules ─┐
//! AccessPolicies ────┼─▶ judge ─▶ Ruling: the first Ground that holds
//! token and account ─▶ Bearer ───┤
//! method and path ─▶ Request ────┘
//! ```

mod action;
mod bearer;
mod cut;
mod default_role;
mod effective;
mod fingerprint;
mod former;
mod grants;
pub mod header;
mod judge;
mod limit;
mod listed;
mod namespaces;
mod opening;
mod outlook;
mod path;
mod policies;
mod policy;
#[cfg(test)]
mod properties;
mod roles;
mod rules;
mod uid;
mod unasked;
mod unguarded;

pub use action::{Actions, Target};
pub use bearer::{Bearer, Claims, FullName, MOST_OWNERS, Party, Reach, account, groups, stamp};
pub(crate) use cut::cut;
pub use default_role::{WITHHELD, withholds};
pub use grants::{Givers, Grantee, givers, grantees, may_lend};
pub use judge::{Ground, Ruling, Step, Trail, judge};
pub use limit::{MAX_LIFETIME, MAX_OVERLAP, limit};
pub use namespaces::{Homes, Namespace, admits};
pub use opening::Closed;
pub use outlook::Outlook;
pub use path::{Path, PathFault, bare_path};
pub use policies::Policies;
pub use policy::Policy;
pub use roles::{Holding, Standing};
pub use rules::{Named, Request, Rules, Unnamed};
pub use uid::Uid;
pub use unasked::judge_unasked;
pub use unguarded::Guarded;
