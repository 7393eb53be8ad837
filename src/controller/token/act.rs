//! What can be done about a token.

use std::convert::Infallible;

use crate::crd::{
    Reason,
    api_token::{ClaimOutcome, RevocationReason},
};

/// What a check cannot have that looks at faulty terms, too: so it can neither mint nor amend.
pub(crate) type Never = Infallible;

/// What is to be done. What writes a Secret takes `T`: the valid terms, when it is carried out; nothing, when it is
/// only told of. A check that looks at faulty terms, too, cannot ask for it, as there is no `Never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act<T = ()> {
    /// Nothing but to say how it is.
    Rest,
    /// Nothing either: what is due comes a little later.
    Wait,
    /// Withdraw every generation and the Secret, for ever.
    End(RevocationReason),
    /// Mint the next generation, record it and publish it.
    Mint(T),
    /// Say that this recorded generation is published: the Secret holds it, and the publish was not heard of again.
    Acknowledge(i64),
    /// Bring everything of the Secret but its value up to date.
    Amend(T),
    /// Remove the Secret that is left over.
    Discard,
    /// Remove the Secret of a value that was shown once.
    Conceal(ClaimOutcome),
    /// Roll the workloads that read the Secret when they start.
    Restart,
    /// Delete the token itself, which ended long ago.
    Forget,
}

impl<T> Act<T> {
    /// The same, where what it takes is made of what it took.
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

/// What is to be done, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<T = ()> {
    /// The word for it.
    pub reason: Reason,
    /// What is to be done.
    pub act: Act<T>,
}

impl<T> Decision<T> {
    /// The same, to be told of.
    pub fn told(self) -> Decision {
        Decision { reason: self.reason, act: self.act.map(|_| ()) }
    }
}
