//! Pauses: a paused token is refused for now, but has not ended.

use super::{
    act::{Act, Never},
    observed::Observed,
    outcome::{Outcome, Said},
    owner::why_removed,
    terms::CheckedTerms,
    world::World,
};
use crate::crd::{Reason, condition::Conclusion, instance::OnOwnerRemoved, listed};

listed! {
    /// The reason why a token is refused for now.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Pause {
        /// The token has `active: false`.
        Suspended,
        /// The token's account has `active: false`.
        AccountSuspended,
        /// The owner is gone or holds too little, and the Instance has `onOwnerRemoved: Suspend`.
        OwnerRemoved,
    }
}

impl Pause {
    /// The first reason for a pause; none if the token is not paused.
    pub fn of(read: &Observed, removed: Option<OnOwnerRemoved>) -> Option<Self> {
        let account = read.account.as_ref().is_none_or(|account| account.spec.active);
        match (read.token.spec.active, account) {
            (false, _) => Some(Self::Suspended),
            (true, false) => Some(Self::AccountSuspended),
            (true, true) => (removed == Some(OnOwnerRemoved::Suspend)).then_some(Self::OwnerRemoved),
        }
    }

    /// The reason for conditions.
    pub fn reason(self) -> Reason {
        match self {
            Self::Suspended => Reason::Suspended,
            Self::AccountSuspended => Reason::AccountSuspended,
            Self::OwnerRemoved => Reason::OwnerRemoved,
        }
    }
}

/// The check `Suspended`: the token has `active: false`.
pub(crate) fn suspended(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    rests(world, Pause::Suspended)
}

/// The content of `Ready` for a suspended token. It is ready, because the spec asks for the suspension.
pub(crate) fn says_suspended(_: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    (Conclusion::Ready, Reason::Suspended, "refused until active is true again".into())
}

/// The check `AccountSuspended`: the token's account has `active: false`.
pub(crate) fn account_suspended(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    rests(world, Pause::AccountSuspended)
}

/// The content of `Ready` for a token with a suspended account. It is ready, because the account asks for this.
pub(crate) fn says_account_suspended(outcome: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    let name = outcome.world.token.account_name().0;
    (Conclusion::Ready, Reason::AccountSuspended, format!("refused until account {name} is active again"))
}

/// The check `OwnerRemoved` for a suspension: the owner is removed, and the Instance has `onOwnerRemoved: Suspend`.
pub(crate) fn owner_removed(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    rests(world, Pause::OwnerRemoved)
}

/// The content of `Ready` for a token without its owner. It is not ready, because the spec does not ask for this.
pub(crate) fn says_owner_removed(outcome: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    let former = outcome.world.owner.former.as_deref();
    let why = why_removed(outcome.world, former, "the owner");
    (Conclusion::Stalled, Reason::OwnerRemoved, format!("refused until its owner is back: {why}"))
}

fn rests(world: &World, pause: Pause) -> Option<Act<Never>> {
    (world.pause == Some(pause)).then_some(Act::Rest)
}
