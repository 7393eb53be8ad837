//! A token that is not accepted for now, and lives.

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
    /// Why a token is not accepted for now.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Pause {
        /// The token says so.
        Suspended,
        /// Its account says so.
        AccountSuspended,
        /// Its owner is gone or holds too little, and its Instance says so.
        OwnerRemoved,
    }
}

impl Pause {
    /// The first reason for one, where there is any.
    pub fn of(read: &Observed, removed: Option<OnOwnerRemoved>) -> Option<Self> {
        let account = read.account.as_ref().is_none_or(|account| account.spec.active);
        match (read.token.spec.active, account) {
            (false, _) => Some(Self::Suspended),
            (true, false) => Some(Self::AccountSuspended),
            (true, true) => (removed == Some(OnOwnerRemoved::Suspend)).then_some(Self::OwnerRemoved),
        }
    }

    /// The word for it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Suspended => Reason::Suspended,
            Self::AccountSuspended => Reason::AccountSuspended,
            Self::OwnerRemoved => Reason::OwnerRemoved,
        }
    }
}

/// The token asks to pause.
pub(crate) fn suspended(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    rests(world, Pause::Suspended)
}

/// What `Ready` says then: that was asked for.
pub(crate) fn says_suspended(_: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    (Conclusion::Ready, Reason::Suspended, "refused until active is true again".into())
}

/// Its account asks to pause.
pub(crate) fn account_suspended(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    rests(world, Pause::AccountSuspended)
}

/// What `Ready` says then: that was asked for, too.
pub(crate) fn says_account_suspended(outcome: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    let name = outcome.world.token.account_name().0;
    (Conclusion::Ready, Reason::AccountSuspended, format!("refused until account {name} is active again"))
}

/// Nobody answers for it any more, and its Instance wants such tokens to wait.
pub(crate) fn owner_removed(world: &World, _: &CheckedTerms) -> Option<Act<Never>> {
    rests(world, Pause::OwnerRemoved)
}

/// What `Ready` says then: an owner that is gone was not asked for.
pub(crate) fn says_owner_removed(outcome: &Outcome<'_>, _: Act) -> Said<Conclusion> {
    let why = why_removed(outcome.world, "the owner");
    (Conclusion::Stalled, Reason::OwnerRemoved, format!("refused until its owner is back: {why}"))
}

fn rests(world: &World, pause: Pause) -> Option<Act<Never>> {
    (world.pause == Some(pause)).then_some(Act::Rest)
}
