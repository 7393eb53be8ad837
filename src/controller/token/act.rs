//! What can be done about a token.

use crate::crd::{
    Reason,
    api_token::{ClaimOutcome, RevocationReason},
};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing but to say how it is.
    Rest,
    /// Nothing either, as a value was minted only just now: mint a little later.
    Wait,
    /// Withdraw every generation and the Secret, for ever.
    End(RevocationReason),
    /// Mint the next generation, record it and publish it.
    Mint,
    /// The Secret holds this recorded generation: a publish that was not heard of again.
    Adopt(i64),
    /// Bring everything of the Secret but its value up to date.
    Amend,
    /// Remove the Secret of the old name.
    Discard,
    /// Remove the Secret of a value that was shown once.
    Conceal(ClaimOutcome),
    /// Roll the workloads that read the Secret when they start.
    Restart,
    /// Delete the token itself, which ended long ago.
    Forget,
}

/// What is to be done, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The word for it.
    pub reason: Reason,
    /// What is to be done.
    pub act: Act,
}
