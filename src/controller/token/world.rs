//! Everything that a pass over a token knows: what was read, and what follows from it, worked out once.

use std::ops::Deref;

use jiff::Timestamp;

use super::{
    observed::Observed,
    own_account::OwnAccount,
    owner::Ownership,
    pause::Pause,
    secrets::{Held, SecretNames, Secrets},
};
use crate::{
    access,
    controller::book::Ruled,
    crd::{Account, ApiToken, api_token::Claim},
    token::{Limit, Records, duration::after},
};

/// Everything that a pass over a token knows. What was read cannot be changed in it, so that what follows from it stays
/// true.
#[derive(Clone, Debug)]
pub struct World {
    read: Observed,
    /// The records as they are now, none of them beyond what the Instance, `expiry.at` and `regenerate.previous` allow.
    pub records: Records,
    /// Its Secrets.
    pub secrets: Secrets,
    /// What became of the served value, where each is shown once.
    pub claim: Option<Claim>,
    /// How it stands to its account.
    pub bond: Bond,
    /// What follows from whose it is.
    pub owner: Ownership,
    /// What of its own account differs from it.
    pub own_account: OwnAccount,
    /// Why it is not accepted for now.
    pub pause: Option<Pause>,
}

impl Deref for World {
    type Target = Observed;

    fn deref(&self) -> &Observed {
        &self.read
    }
}

/// How a token stands to the account of its choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// Not bound yet.
    Free,
    /// Bound to the account that stands.
    Held,
    /// The account that it was bound to is gone, for ever.
    Lost,
}

impl World {
    /// What follows from what was read.
    pub fn new(read: Observed) -> Self {
        #[cfg(test)]
        derivations::note("world");
        let records = records(&read);
        let owner = Ownership::of(&read);
        Self {
            secrets: Secrets::of(&read, &records),
            claim: claim(&read, &records),
            bond: bond(&read),
            own_account: OwnAccount::of(&read),
            pause: Pause::of(&read, owner.removed),
            owner,
            records,
            read,
        }
    }

    /// What was read, to read more.
    pub fn into_read(self) -> Observed {
        self.read
    }

    /// The Secrets that have to be read past the cache. While the Secret is getting another name, none of them is taken
    /// from a cache but that of the served value: a cache knows of Secrets of our type only. What is to go is looked at
    /// once more, too.
    pub fn doubted_secrets(&self) -> Vec<&str> {
        let names = SecretNames::of(&self.token);
        let served = names.renamed_from.unwrap_or(names.asked);
        let agrees = self.stored.get(served).map_or(self.agrees(&Held::Absent), |held| self.agrees(held));
        names.all().filter(|&name| name != served || !agrees).collect()
    }

    /// Whether nothing was ever done for the token. A first value goes only where no Secret is, which the write itself
    /// makes sure of.
    pub fn is_untouched(&self) -> bool {
        self.token.status.is_none() && self.secrets.served.held == Held::Absent
    }

    /// Whether the cached Secret is what the records say. Only then can the cache be rested on.
    fn agrees(&self, held: &Held) -> bool {
        if self.token.spec.revoked || self.before().revocation.is_some() {
            return self.leaves_alone(held);
        }
        if self.claim.is_some() {
            return *held == Held::Absent;
        }
        self.records.recorded().next().is_none() && self.records.served().is_some_and(|served| held.holds(served))
    }

    /// Whether the account has to be read past the cache: bound once is bound for life, and lost once is lost for ever.
    pub fn doubts_account(&self) -> bool {
        match self.bond {
            Bond::Free => self.account.is_some(),
            Bond::Held => false,
            Bond::Lost => true,
        }
    }

    /// The number of the next generation: above every number that was ever given, also where status was lost and only a
    /// Secret remembers.
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

/// What no generation exceeds. An `expiry.at` that is over is either a fault, or all of them have ended by it.
fn limit(read: &Observed) -> Limit {
    // One that is named and not accepted, as a slip may be, shortens nothing.
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

/// The generation that answered `regenerate.id`, and the end of all before it that `regenerate.previous` gives. It is
/// read as it stands now: under the same id it can be shortened later, and so one leaked value be ended alone.
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
    (read.token.is_shown_once() && served == Some(claim.generation)).then(|| claim.clone())
}

/// An account that is being deleted is as good as gone: that cannot be undone.
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

/// What was worked out in this thread that is to be worked out once for a pass, or not at all.
#[cfg(test)]
pub(crate) mod derivations {
    use std::cell::RefCell;

    thread_local! { static NOTED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) }; }

    pub(crate) fn note(what: &'static str) {
        NOTED.with_borrow_mut(|noted| noted.push(what));
    }

    /// What was worked out while `work` was done.
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
