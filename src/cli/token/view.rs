//! A token as a person looks for it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::times::relative;
use crate::{
    cli::advice,
    crd::{ApiToken, Reason, api_token::ApiTokenStatus, condition},
};

/// The command `kubectl tokenry` with these words, and then the name and the namespace of a token.
pub(crate) fn command(words: &str, token: &ApiToken) -> String {
    advice::command(&format!("{words} {}", token.name_any()), &token.namespace().unwrap_or_default())
}

/// A token as kubectl prints it: without the fields that each manager has set.
pub(crate) fn without_managers(mut token: ApiToken) -> ApiToken {
    token.metadata.managed_fields = None;
    token
}

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

/// The reason for which verifiers refuse a token that its status still calls valid, and the field of the spec that says
/// it. They look at the spec itself, so a change holds before the operator has written the status.
pub(crate) fn refused_by_spec(token: &ApiToken) -> Option<(Reason, &'static str)> {
    let spec = &token.spec;
    let reason = if spec.revoked {
        (Reason::Revoked, "spec.revoked is true")
    } else if spec.active {
        return None;
    } else {
        (Reason::Suspended, "spec.active is false")
    };
    holds(token, condition::VALID).then_some(reason)
}

/// True if the operator has written the status for the current spec.
pub(crate) fn is_current(token: &ApiToken) -> bool {
    token.status.as_ref().is_some_and(|status| status.observed_generation >= token.metadata.generation)
}

/// The time of the last use. `None`: the token was never used.
pub(crate) fn last_used(status: &ApiTokenStatus) -> Option<Timestamp> {
    status.used().iter().map(|used| used.last_used_at.0).max()
}

/// The subject that owns a token, as admission policies know it. `None`: nobody does.
pub(crate) fn holder(token: &ApiToken) -> Option<&str> {
    token.spec.owner.as_ref().map(|owner| owner.as_str()).or_else(|| token.noted_owner())
}

/// The namespace of a token's Instance, and the organizations in which the token can be revoked there. The right to
/// revoke in one of them is enough. There are none until the operator has seen a token that lists none.
pub(crate) fn revocable_in(token: &ApiToken) -> (&str, Vec<&str>) {
    let home = token.metadata.namespace.as_deref().unwrap_or_default();
    (token.spec.instance_ref.namespace_or(home), organizations(token))
}

/// The organizations of a token, as admission policies know them.
fn organizations(token: &ApiToken) -> Vec<&str> {
    if let Some(listed) = token.spec.organizations.as_ref().and_then(|scope| scope.listed.as_ref()) {
        return listed.iter().map(|name| name.as_str()).collect();
    }
    let Some(status) = &token.status else { return Vec::new() };
    let reached = status.effective.iter().flat_map(|effective| effective.organizations.iter().flatten());
    status.organization.iter().chain(reached).map(String::as_str).collect()
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
        let refused = refused_by_spec(token);
        Self {
            valid: holds(token, condition::VALID) && refused.is_none(),
            reason: match (refused, valid) {
                (Some((reason, _)), _) => reason.to_string(),
                (None, Some(valid)) => valid.reason.clone(),
                (None, None) => "Pending".to_owned(),
            },
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
