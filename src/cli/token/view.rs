//! A token as a person looks for it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::times::relative;
use crate::crd::{ApiToken, api_token::ApiTokenStatus, condition};

/// A condition of a token.
pub(crate) fn condition<'a>(token: &'a ApiToken, type_: &str) -> Option<&'a Condition> {
    token.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}

/// The condition `Ready` of a token.
pub(crate) fn ready(token: &ApiToken) -> Option<&Condition> {
    condition(token, condition::READY)
}

/// True if the condition says `True`.
pub(crate) fn holds(token: &ApiToken, type_: &str) -> bool {
    condition(token, type_).is_some_and(|condition| condition.status == "True")
}

/// The time of the last use. `None`: the token was never used.
pub(crate) fn last_used(status: &ApiTokenStatus) -> Option<Timestamp> {
    status.used().iter().map(|used| used.last_used_at.0).max()
}

/// The facts of a token that a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) valid: bool,
    pub(crate) reason: String,
    pub(crate) owner: String,
    pub(crate) role: String,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) rotates: Option<Timestamp>,
    pub(crate) used: Option<Timestamp>,
    pub(crate) created: Option<Timestamp>,
}

impl Facts {
    /// The facts of `token`.
    pub(crate) fn of(token: &ApiToken) -> Self {
        let status = token.status.clone().unwrap_or_default();
        let valid = condition(token, condition::VALID);
        let effective = status.effective.as_ref().and_then(|effective| effective.role.clone());
        let named = token.spec.role.as_ref().map(ToString::to_string);
        Self {
            valid: holds(token, condition::VALID),
            reason: valid.map_or_else(|| "Pending".to_owned(), |valid| valid.reason.clone()),
            owner: token.spec.owner.as_ref().map(ToString::to_string).unwrap_or_default(),
            role: effective.or(named).unwrap_or_default(),
            expires: status.expires_at.as_ref().map(|at| at.0),
            rotates: status.rotates_at.as_ref().map(|at| at.0),
            used: last_used(&status),
            created: token.metadata.creation_timestamp.as_ref().map(|at| at.0),
        }
    }
}

/// A time as its distance from `now`; `otherwise` if there is none.
pub(crate) fn when(at: Option<Timestamp>, now: Timestamp, otherwise: &str) -> String {
    at.map_or_else(|| otherwise.to_owned(), |at| relative(at, now))
}
