//! The limits that an Instance sets for every generation.

use jiff::SignedDuration;

use crate::{
    crd::instance::{InstanceSpec, Permission},
    token::Limit,
};

/// The longest lifetime if an Instance names none: 365 days.
pub const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The longest overlap if an Instance names none: 7 days.
pub const MAX_OVERLAP: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The limits that an Instance sets for generations. A maximum that cannot be parsed sets no limit.
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
