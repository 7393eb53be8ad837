//! Everything that a pass over a token knows: the objects it read, and the facts derived from them. The facts are
//! derived once.

use std::ops::Deref;

use jiff::Timestamp;
use kube::core::ObjectMeta;

use super::{
    observed::Observed,
    own_account::OwnAccount,
    owner::Ownership,
    pause::Pause,
    secrets::{Held, SecretNames, Secrets},
    shown::ShownOnce,
};
use crate::{
    access::{self, Claims},
    controller::book::Ruled,
    crd::{
        Account, ApiToken,
        api_token::{ApiTokenStatus, Claim},
    },
    token::{Limit, Records, duration::after},
};

/// Everything that a pass over a token knows. The objects in it cannot be changed, so the derived facts stay true.
#[derive(Clone, Debug)]
pub struct World {
    read: Observed,
    /// The records at this time, shortened to the limits of the Instances, `expiry.at` and `regenerate.previous`.
    pub records: Records,
    /// The token's Secrets.
    pub secrets: Secrets,
    /// The values that are shown once.
    pub shown_once: ShownOnce,
    /// The claim of the served value, if it is shown once.
    pub claim: Option<Claim>,
    /// The relation between the token and its account.
    pub bond: Bond,
    /// The owner, and the role and limits that follow from the owner.
    pub owner: Ownership,
    /// The differences between the token and the account that was made for it.
    pub own_account: OwnAccount,
    /// The reason why the token is refused for now; none if it is accepted.
    pub pause: Option<Pause>,
}

impl Deref for World {
    type Target = Observed;

    fn deref(&self) -> &Observed {
        &self.read
    }
}

/// The relation between a token and its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// The token is not bound yet.
    Free,
    /// The token is bound to the existing account.
    Held,
    /// The account that the token was bound to is gone. This is final.
    Lost,
}

impl World {
    /// Derives all facts from the objects that were read.
    pub fn new(read: Observed) -> Self {
        #[cfg(test)]
        derivations::note("world");
        let records = records(&read);
        let owner = Ownership::of(&read);
        let shown_once = ShownOnce::of(&read, &records);
        Self {
            secrets: Secrets::of(&read, &records),
            claim: claim(&read, &records).filter(|_| shown_once.served),
            shown_once,
            bond: bond(&read),
            own_account: OwnAccount::of(&read),
            pause: Pause::of(&read, owner.removed),
            owner,
            records,
            read,
        }
    }

    /// The objects that were read, so that more can be added.
    pub fn into_read(self) -> Observed {
        self.read
    }

    /// The names of the Secrets that must be read live, past the cache. The cache is trusted for the served name only,
    /// and only if it agrees with the records. Under any other name, a Secret of another type may exist, and the cache
    /// knows Secrets of our type only.
    pub fn doubted_secrets(&self) -> Vec<&str> {
        let names = SecretNames::of(&self.token);
        let served = names.renamed_from.unwrap_or(names.asked);
        let agrees = self.stored.get(served).map_or(self.agrees(&Held::Absent), |held| self.agrees(held));
        names.all().filter(|&name| name != served || !agrees).collect()
    }

    /// True if no pass has done anything for the token yet. The first publish creates the Secret, so the write itself
    /// fails if a Secret exists.
    pub fn is_untouched(&self) -> bool {
        // The definition gives each new object a generation that no pass has observed.
        let told = ApiTokenStatus { observed_generation: None, ..self.before().clone() };
        told == ApiTokenStatus::default() && self.secrets.served.held == Held::Absent
    }

    /// True if the cached Secret agrees with the records. Otherwise the cache cannot be trusted.
    fn agrees(&self, held: &Held) -> bool {
        if self.token.spec.revoked || self.before().revocation.is_some() {
            return self.leaves_alone(held);
        }
        if self.claim.is_some() {
            return *held == Held::Absent;
        }
        self.records.recorded().next().is_none() && self.records.served().is_some_and(|served| held.holds(served))
    }

    /// True if the maker of the token may have had no permission to use the account that the token names now. The maker
    /// owns the token, and the account is younger and has another owner. A grant to use an account outlives it for a
    /// moment.
    pub fn is_namesake(&self, account: &Account) -> bool {
        let made = |meta: &ObjectMeta| meta.creation_timestamp.as_ref().map(|at| at.0);
        let is_younger = made(&account.metadata) > made(&self.token.metadata);
        self.bond == Bond::Free
            && is_younger
            && account.spec.owner != self.token.spec.owner
            && Claims::of_token(&self.token).made_by_owner
    }

    /// True if the account must be read live, past the cache. A token is bound for life, and the loss of its account is
    /// final.
    pub fn doubts_account(&self) -> bool {
        match self.bond {
            Bond::Free => self.account.is_some(),
            Bond::Held => false,
            Bond::Lost => true,
        }
    }

    /// The number of the next generation, above every number given before. If the status was lost, the number noted on
    /// a Secret still counts.
    pub fn next_generation(&self) -> i64 {
        let in_status = self.before().last_generation.unwrap_or(0);
        let in_secrets = self.secrets.last_generation().map_or(0, i64::from);
        in_status.max(self.records.last_generation()).max(in_secrets).saturating_add(1)
    }
}

fn records(read: &Observed) -> Records {
    let mut records = Records::at(&read.before().records, read.now);
    records.limit(&limit(read), read.now);
    if let Some((generation, end)) = ends_before(&read.token) {
        records.end_before(generation, end, read.now);
    }
    records
}

/// The upper limit for every generation. An `expiry.at` in the past is ignored: it is either a fault, or every
/// generation has ended by it.
fn limit(read: &Observed) -> Limit {
    // An audience that is named but not accepted, such as a typing error, shortens nothing.
    let accepted = read.before().audiences.as_ref();
    let is_accepted = |instance: &&Ruled| {
        let uid = instance.metadata.uid.as_deref();
        accepted.is_none_or(|accepted| accepted.iter().any(|audience| Some(&*audience.uid) == uid))
    };
    let all = read.instance.iter().chain(read.audiences.iter().flatten().filter(is_accepted));
    let limits = all.map(|instance| access::limit(&instance.spec));
    let limit = limits.reduce(|one, other| one.and(other)).unwrap_or_default();
    Limit { until: read.token.until().filter(|&until| until > read.now), ..limit }
}

/// The generation that answered `regenerate.id`, and the end that `regenerate.previous` sets for all older generations.
/// The current text of `previous` counts. So a user can shorten it later under the same id, to end one leaked value
/// alone.
pub(crate) fn ends_before(token: &ApiToken) -> Option<(i64, Timestamp)> {
    let (asked, status) = (token.spec.regenerate.as_ref()?, token.status.as_ref()?);
    let answered = status.regeneration.as_ref().filter(|answered| answered.id == asked.id)?;
    let record = status.records.iter().find(|record| record.generation == answered.generation)?;
    let published = record.published_at.as_ref()?.0;
    let previous = asked.previous.as_ref()?;
    let after_publish = previous.after.as_ref().and_then(|delay| delay.parse().ok());
    let at = previous.at.as_ref().and_then(|at| at.parse().ok());
    let end = after_publish.map(|delay| after(published, delay)).or(at.map(|at| at.max(published)))?;
    Some((answered.generation, end))
}

fn claim(read: &Observed, records: &Records) -> Option<Claim> {
    let claim = read.before().claim.as_ref()?;
    let served = records.served().map(|served| served.generation);
    (served == Some(claim.generation)).then(|| claim.clone())
}

/// The relation to the account. An account that is being deleted counts as gone, because a deletion cannot be undone.
fn bond(read: &Observed) -> Bond {
    match &read.before().account {
        None => Bond::Free,
        Some(bound) if read.account.as_ref().is_some_and(|account| stands(account, &bound.uid)) => Bond::Held,
        Some(_) => Bond::Lost,
    }
}

fn stands(account: &Account, uid: &str) -> bool {
    account.metadata.uid.as_deref() == Some(uid) && account.metadata.deletion_timestamp.is_none()
}

/// A list of the derivations of this thread that a pass must do once at most.
#[cfg(test)]
pub(crate) mod derivations {
    use std::cell::RefCell;

    thread_local! { static NOTED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) }; }

    pub(crate) fn note(what: &'static str) {
        NOTED.with_borrow_mut(|noted| noted.push(what));
    }

    /// The derivations during `work`, with its result.
    pub(crate) fn during<T>(work: impl FnOnce() -> T) -> (Vec<&'static str>, T) {
        NOTED.take();
        let done = work();
        (NOTED.take(), done)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decide::decide, fixture::served, progress::Progress, settle::settle, validate::validate};
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_pass_works_out_once_what_follows_from_what_was_read() {
        let read = served().into_read();
        let (noted, settled) = derivations::during(|| {
            let world = World::new(read);
            let terms = validate(&world).map(Arc::new);
            let decision = decide(&world, &terms).told();
            settle(&world, &terms, &Progress::none(decision))
        });
        assert_eq!((noted, settled.status), (vec!["world", "bearer"], served().status()));
    }
}
