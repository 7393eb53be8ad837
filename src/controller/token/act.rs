//! The actions that a pass can take on a token.

use std::convert::Infallible;

use crate::crd::{
    Reason,
    api_token::{ClaimOutcome, RevocationReason},
};

/// The payload of actions for checks that also run with faulty terms. It has no value, so such a check can neither mint
/// nor amend.
pub(crate) type Never = Infallible;

/// An action. Actions that write a value or its keys into a Secret carry `T`. `T` holds the valid terms where the
/// action is carried out, and is empty where the action is only reported. Checks that also run with faulty terms use
/// `Never` for `T`, so they cannot ask for such an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act<T = ()> {
    /// Writes the status only.
    Rest,
    /// Writes the status only. The action that is due follows a little later.
    Wait,
    /// Revokes every generation, and removes or empties the Secret. This is final.
    End(RevocationReason),
    /// Mints the next generation, records it and publishes it.
    Mint(T),
    /// Marks this recorded generation as published. The Secret holds it, but the publish got no answer.
    Acknowledge(i64),
    /// Updates the Secret, except for the value.
    Amend(T),
    /// Removes the Secret under the previous name.
    Discard,
    /// Removes the Secret of a value that is shown once.
    Conceal(ClaimOutcome),
    /// Restarts the workloads that `spec.restart` names.
    Restart,
    /// Deletes the token, which ended long ago or with its account.
    Forget,
}

impl<T> Act<T> {
    /// The same action, with `take` applied to its payload.
    pub fn map<U>(self, take: impl FnOnce(T) -> U) -> Act<U> {
        match self {
            Self::Rest => Act::Rest,
            Self::Wait => Act::Wait,
            Self::End(why) => Act::End(why),
            Self::Mint(taken) => Act::Mint(take(taken)),
            Self::Acknowledge(generation) => Act::Acknowledge(generation),
            Self::Amend(taken) => Act::Amend(take(taken)),
            Self::Discard => Act::Discard,
            Self::Conceal(outcome) => Act::Conceal(outcome),
            Self::Restart => Act::Restart,
            Self::Forget => Act::Forget,
        }
    }
}

/// An action and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<T = ()> {
    /// The reason.
    pub reason: Reason,
    /// The action.
    pub act: Act<T>,
}

impl<T> Decision<T> {
    /// The same decision without its payload, for reports.
    pub fn told(self) -> Decision {
        Decision { reason: self.reason, act: self.act.map(|_| ()) }
    }
}
