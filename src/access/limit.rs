//! What no generation of a token exceeds, whatever it was given when it was minted.

use jiff::SignedDuration;

use crate::{
    crd::instance::{InstanceSpec, Permission},
    token::Limit,
};

/// The longest lifetime where an Instance names none.
pub const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The longest overlap where an Instance names none.
pub const MAX_OVERLAP: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What an Instance allows generations at the most. A maximum that cannot be read limits nothing.
pub fn limit(spec: &InstanceSpec) -> Limit {
    let lifetime = spec.tokens.lifetime.clone().unwrap_or_default();
    let overlap = spec.tokens.overlap.clone().unwrap_or_default();
    Limit {
        lifetime: lifetime.max.as_ref().map_or(Some(MAX_LIFETIME), |max| max.parse().ok()),
        overlap: overlap.max.as_ref().map_or(Some(MAX_OVERLAP), |max| max.parse().ok()),
        never: lifetime.never == Permission::Allow,
        until: None,
    }
}
