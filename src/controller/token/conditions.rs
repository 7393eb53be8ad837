//! What the conditions of a token say.

use super::{
    act::Act,
    ending::over,
    once::shown,
    owner,
    settle::{Outcome, published_in},
};
use crate::{
    crd::{
        Conditions, Reason,
        api_token::OnRevoke,
        condition::{ACCEPTED, Conclusion, EXPIRING_SOON, OWNER_STALE, PERMITTED, PUBLISHED},
        fault::{first, told},
    },
    token::Record,
};

/// Whether what an act does is about neither the value nor its Secret, so that the token is as good where it fails.
fn is_aside(act: Act) -> bool {
    matches!(act, Act::Discard | Act::Follow)
}

/// What a condition says: whether it holds, the word for it, and the text.
type Said<T> = (T, Reason, String);

impl Outcome<'_> {
    /// All of them. `soon` is a served generation that is about to expire and that nothing renews.
    pub fn conditions(&self, soon: Option<&Record>) -> Conditions {
        let Self { world, terms, progress, .. } = self;
        let old = world.token.status.as_ref().map(|status| status.conditions.as_slice());
        let mut conditions = Conditions::from(old, world.token.metadata.generation, world.now);
        match terms {
            Ok(_) => conditions.set(ACCEPTED, true, Reason::Accepted, "the spec is valid and what it refers to exists"),
            Err(faults) => conditions.set(ACCEPTED, false, first(faults), told(faults)),
        }
        let (published, reason, message) = self.published();
        let message = match &progress.failure {
            Some(failure) => conditions.failing(PUBLISHED, reason, failure.refusal.way(), message),
            None => message,
        };
        conditions.set(PUBLISHED, published, reason, &*message);
        let (conclusion, reason, message) = self.conclusion((published, reason, message));
        conditions.conclude(conclusion, reason, message);
        self.expiring(soon, &mut conditions);
        self.standing(&mut conditions);
        conditions
    }

    /// Whether the Secret holds the value that the records name.
    fn published(&self) -> Said<bool> {
        let Self { world, progress, records, claim, .. } = self;
        let name = published_in(world, progress).unwrap_or(world.place());
        if let Some(failure) = progress.failure.as_ref().filter(|_| !is_aside(progress.decision.act)) {
            let what = match failure.reason {
                Reason::AccountFailed => format!("account {}", world.token.account_name().0),
                _ if progress.decision.act == Act::Mint => format!("Secret {}", world.target().0),
                _ => format!("Secret {name}"),
            };
            return (false, failure.reason, format!("{what}: {}; trying again", failure.refusal));
        }
        if progress.decision.reason == Reason::PublishFailed {
            return (false, Reason::PublishFailed, self.refused());
        }
        if progress.ends().is_some() {
            return (false, progress.decision.reason, format!("Secret {name} was {}", self.withdrawn()));
        }
        if let Some(claim) = claim {
            return (true, Reason::Claimed, shown(claim));
        }
        let Some(served) = records.served() else {
            return (false, progress.decision.reason, format!("Secret {name} holds no valid generation"));
        };
        let holds = progress.published.is_some() || world.secret.digest() == Some(served.sha256);
        if holds {
            let until = world.claim_by(served).map(|at| format!(" until it is claimed, at the latest until {at}"));
            let message = format!("Secret {name} holds generation {}{}", served.generation, until.unwrap_or_default());
            return (true, Reason::Active, message + &self.left());
        }
        (false, progress.decision.reason, format!("Secret {name} does not hold generation {}", served.generation))
    }

    /// That the Secret of the old name could not be removed, or the account not be changed: the value is where it should be
    /// all the same.
    fn left(&self) -> String {
        let Some(failure) = self.progress.failure.as_ref().filter(|_| is_aside(self.progress.decision.act)) else {
            return String::new();
        };
        let way = failure.refusal.way();
        match self.progress.decision.act {
            Act::Follow => {
                let name = self.world.token.account_name().0;
                format!("; account {name} does not say yet what the token says: {way}; trying again")
            }
            _ => format!("; Secret {} is still there: {way}; trying again", self.leftover()),
        }
    }

    /// What was said of the last refusal: while the next try waits, nothing newer is known.
    fn refused(&self) -> String {
        let world = self.world;
        let stands = world.status().conditions.into_iter().find(|condition| condition.type_ == PUBLISHED);
        let said = stands.filter(|condition| condition.reason == Reason::PublishFailed.to_string());
        let name = world.target().0;
        said.map_or_else(|| format!("Secret {name}: the last try was refused; trying again"), |said| said.message)
    }

    /// What it all comes to: how `Ready` stands, and the word for it.
    fn conclusion(&self, (published, why, message): Said<bool>) -> Said<Conclusion> {
        let Self { world, terms, progress, records, .. } = self;
        let reason = progress.decision.reason;
        let name = world.token.account_name().0;
        match (reason, terms) {
            (Reason::Revoked, _) => {
                (Conclusion::Stalled, reason, "revoked: refused for ever; make another ApiToken".into())
            }
            (Reason::AccountDeleted, _) => (
                Conclusion::Stalled,
                reason,
                format!("account {name} is gone: refused for ever; make another ApiToken"),
            ),
            (Reason::OwnerRemoved, _) if progress.ends().is_some() => (
                Conclusion::Stalled,
                reason,
                "its owner is gone or holds too little: refused for ever; make another ApiToken".into(),
            ),
            (Reason::Expired, _) => (Conclusion::Stalled, reason, over(world, progress, records)),
            (Reason::Deleting, _) => (Conclusion::Working, reason, "being deleted".into()),
            (Reason::NamespaceTerminating, _) => (Conclusion::Working, reason, "its namespace is being deleted".into()),
            (_, Err(faults)) => (Conclusion::of(first(faults)), first(faults), told(faults)),
            _ if world.paused() == Some(Reason::Suspended) => {
                (Conclusion::Paused, Reason::Suspended, "refused until active is true again".into())
            }
            _ if world.paused() == Some(Reason::AccountSuspended) => {
                (Conclusion::Paused, Reason::AccountSuspended, format!("refused until account {name} is active again"))
            }
            _ if world.paused() == Some(Reason::OwnerRemoved) => (
                Conclusion::Paused,
                Reason::OwnerRemoved,
                format!("refused until its owner is back: {}", owner::why_removed(world, "the owner")),
            ),
            _ if !published => (Conclusion::Working, why, message),
            _ => match records.overlap_ends() {
                Some(ends) => {
                    (Conclusion::Ready, Reason::Rotating, format!("{message}; its predecessor is valid until {ends}"))
                }
                None => (Conclusion::Ready, Reason::Active, message),
            },
        }
    }

    /// Says how it stands with what its Instance permits.
    fn standing(&self, conditions: &mut Conditions) {
        match self.standing.permitted {
            None => conditions.remove(PERMITTED),
            Some(true) => conditions.set(PERMITTED, true, Reason::Permitted, "status.effective says what"),
            Some(false) => {
                let message = "nothing is permitted: have a role given to it, its account and its owner, or an AccessPolicy about it made";
                conditions.set(PERMITTED, false, Reason::NoPermissions, message);
            }
        }
        if self.standing.is_stale {
            let message = "the groups of its owner were stamped too long ago and count no more; the owner has to change the token, \
                 or its annotation tokenry.dev/confirmed";
            conditions.set(OWNER_STALE, true, Reason::OwnerStale, message);
        } else {
            conditions.remove(OWNER_STALE);
        }
    }

    /// Says that the served generation is about to expire; nothing is given where it is not, or something renews it.
    fn expiring(&self, soon: Option<&Record>, conditions: &mut Conditions) {
        let Some((served, end)) = soon.and_then(|served| Some((served, served.end()?))) else {
            return conditions.remove(EXPIRING_SOON);
        };
        let why = match (self.world.paused(), self.terms) {
            (_, Err(_)) => "the spec has faults",
            (Some(_), Ok(_)) => "it is suspended",
            (None, Ok(terms)) if terms.life.until.is_some_and(|until| until <= end) => "the token ends then",
            (None, Ok(_)) => "give regenerate.id a new text to ask for another",
        };
        let message = format!("generation {} expires at {end} and nothing will renew it: {why}", served.generation);
        conditions.set(EXPIRING_SOON, true, Reason::ExpiringSoon, message);
    }

    /// The name of the Secret that is to go.
    pub fn leftover(&self) -> String {
        self.world.status().other_secret_name.unwrap_or_default()
    }

    /// What becomes of the Secret of a token that was ended, in a word.
    pub fn withdrawn(&self) -> &'static str {
        let immutable = self.world.secret.ours().is_some_and(|secret| secret.immutable == Some(true));
        match self.world.token.on_revoke() {
            OnRevoke::Keep if immutable => "removed, as it was made immutable and could not be emptied",
            OnRevoke::Delete => "removed",
            OnRevoke::Keep => "emptied",
        }
    }
}
