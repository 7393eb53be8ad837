//! The conditions of a token.

use super::{
    act::Act,
    decide::CHAIN,
    once::shown,
    outcome::{Outcome, Said},
    owner,
    world::Bond,
};
use crate::{
    crd::{
        Conditions, Reason,
        api_token::OnRevoke,
        condition::{
            ACCEPTED, Conclusion, EXPIRING_SOON, LIMITED_BY_ACCOUNT, OWNER_STALE, PERMITTED, PUBLISHED, VALID,
        },
        fault::first,
    },
    token::Record,
};

/// The message of `Valid` while it is true. `Ready` has the details.
const VALID_SAYS: &str = "the served value is accepted";

impl Outcome<'_> {
    /// All conditions. `soon` is the served generation, if it is about to expire and nothing renews it.
    pub fn conditions(&self, soon: Option<&Record>) -> Conditions {
        let Self { world, terms, progress, .. } = self;
        let old = world.token.status.as_ref().map(|status| status.conditions.as_slice());
        let mut conditions = Conditions::from(old, world.token.metadata.generation, world.now);
        match terms {
            Ok(_) => conditions.set(ACCEPTED, true, Reason::Accepted, "the spec is valid and what it refers to exists"),
            Err(faults) => conditions.set(ACCEPTED, false, first(faults), owner::told(world, faults)),
        }
        let (published, reason, message) = self.published();
        let message = match &progress.failure {
            Some(failure) => conditions.failing(PUBLISHED, reason, failure.obstacle.way(), message),
            None => message,
        };
        conditions.set(PUBLISHED, published, reason, &*message);
        let (conclusion, reason, message) = self.conclusion((published, reason, message));
        conditions.conclude(conclusion, reason, &*message);
        let valid = self.is_valid();
        conditions.set(VALID, valid, reason, if valid { VALID_SAYS.to_owned() } else { message });
        self.expiring(soon, &mut conditions);
        self.permitted(&mut conditions);
        self.limited(&mut conditions);
        self.stale(&mut conditions);
        conditions
    }

    /// The content of `Published`: true if the Secret holds the served value.
    fn published(&self) -> Said<bool> {
        let Self { world, progress, records, claim, .. } = self;
        let name = self.served_in();
        if let Some(failure) = self.failure() {
            let what = if failure.reason == Reason::AccountFailed {
                format!("account {}", world.token.account_name().0)
            } else if progress.decision.act == Act::Mint(()) {
                format!("Secret {}", world.secrets.next().name)
            } else {
                format!("Secret {name}")
            };
            return (false, failure.reason, format!("{what}: {}; trying again", failure.obstacle.why()));
        }
        if progress.decision.reason == Reason::PublishFailed {
            return (false, Reason::PublishFailed, self.refused());
        }
        if progress.ends().is_some() {
            return (false, progress.decision.reason, format!("Secret {name} was {}", self.withdrawn()));
        }
        if let Some(claim) = claim {
            return (true, Reason::Claimed, shown(self, claim));
        }
        let Some(served) = records.served() else {
            return (false, progress.decision.reason, format!("Secret {name} holds no valid generation"));
        };
        let holds = progress.published.is_some() || world.secrets.served.held.digest() == Some(served.sha256);
        if holds {
            let until = world.claim_by(served).map(|at| format!(" until it is claimed, at the latest until {at}"));
            let message = format!("Secret {name} holds generation {}{}", served.generation, until.unwrap_or_default());
            return (true, Reason::Active, message + &self.left());
        }
        (false, progress.decision.reason, format!("Secret {name} does not hold generation {}", served.generation))
    }

    /// A note that the Secret of the old name could not be removed, or that the account could not be updated. The value
    /// is published nevertheless.
    fn left(&self) -> String {
        let discard = self.progress.failure.as_ref().filter(|_| self.progress.is_aside());
        let discard = discard.map(|failure| {
            format!("; Secret {} is still there: {}; trying again", self.leftover(), failure.obstacle.way())
        });
        let follow = self.progress.unfollowed.as_ref().map(|refusal| {
            let name = self.world.token.account_name().0;
            format!("; account {name} is not up to date with the token yet: {}; trying again", refusal.why.way())
        });
        discard.into_iter().chain(follow).collect()
    }

    /// The message of the last refusal. It stays until the next try.
    fn refused(&self) -> String {
        let world = self.world;
        let stands = world.before().conditions.iter().find(|condition| condition.type_ == PUBLISHED);
        let said = stands.filter(|condition| condition.reason == Reason::PublishFailed.to_string());
        let name = &world.secrets.next().name;
        said.map_or_else(
            || format!("Secret {name}: the last try was refused; trying again"),
            |said| said.message.clone(),
        )
    }

    /// True if at least one request with the served value can be accepted, as far as the token and its own Instance
    /// decide. The verifier judges each single request.
    fn is_valid(&self) -> bool {
        let Self { world, terms, progress, records, .. } = self;
        let is_refused = CHAIN.iter().any(|check| check.fate.is_refused() && check.act(world, terms).is_some());
        let acts = progress.bound.is_some() || world.bond == Bond::Held;
        !is_refused && acts && records.served().is_some() && world.owner.shut.is_none()
    }

    /// The content of `Ready`. It comes from the first check that holds and describes the state of the token. If there
    /// is no such check, it describes the delivery of the value.
    fn conclusion(&self, published: Said<bool>) -> Said<Conclusion> {
        let says = CHAIN.iter().find_map(|check| {
            let says = check.says?;
            check.act(self.world, self.terms).map(|act| says(self, act.map(|_| ())))
        });
        says.or_else(|| self.shut(published.0)).unwrap_or_else(|| self.delivered(published))
    }

    /// The content of `Ready` while the value is published but the Instance accepts no request with it.
    fn shut(&self, published: bool) -> Option<Said<Conclusion>> {
        let shut = self.world.owner.shut.as_ref().filter(|_| published)?;
        let conclusion = if shut.reason == Reason::OwnerRemoved { Conclusion::Stalled } else { Conclusion::Ready };
        Some((conclusion, shut.reason, shut.message.clone()))
    }

    /// The content of `Ready` by the delivery of the value.
    fn delivered(&self, (published, why, message): Said<bool>) -> Said<Conclusion> {
        match self.records.overlap_ends() {
            _ if !published => (Conclusion::Working, why, message),
            Some(ends) => {
                (Conclusion::Ready, Reason::Rotating, format!("{message}; its predecessor is valid until {ends}"))
            }
            None => (Conclusion::Ready, Reason::Active, message),
        }
    }

    /// Sets the condition `Permitted`.
    fn permitted(&self, conditions: &mut Conditions) {
        match (self.world.owner.permitted, &self.world.owner.shut) {
            (None, _) => conditions.remove(PERMITTED),
            (Some(false), Some(shut)) => conditions.set(PERMITTED, false, shut.reason, &*shut.message),
            (Some(_), _) => conditions.set(PERMITTED, true, Reason::Permitted, "see status.effective"),
        }
    }

    /// Sets the condition that another field manager limits the token through its account.
    fn limited(&self, conditions: &mut Conditions) {
        let held = self.world.own_account.held_to();
        if held.is_empty() {
            return conditions.remove(LIMITED_BY_ACCOUNT);
        }
        let name = self.world.token.account_name().0;
        let message = format!(
            "account {name} limits the token: another field manager has set its spec.{}; remove the field there, or \
             set it as in the token",
            held.join(", spec.")
        );
        conditions.set(LIMITED_BY_ACCOUNT, true, Reason::LimitedByAccount, message);
    }

    /// Sets the condition that the owner's groups no longer count.
    fn stale(&self, conditions: &mut Conditions) {
        if self.world.owner.is_stale {
            conditions.set(OWNER_STALE, true, Reason::OwnerStale, owner::STALE);
        } else {
            conditions.remove(OWNER_STALE);
        }
    }

    /// Sets the condition that the served generation is about to expire. `soon` is none if it is not, or if it is
    /// renewed.
    fn expiring(&self, soon: Option<&Record>, conditions: &mut Conditions) {
        let Some((served, end)) = soon.and_then(|served| Some((served, served.end()?))) else {
            return conditions.remove(EXPIRING_SOON);
        };
        let why = match (self.world.pause, self.terms) {
            (_, Err(_)) => "the spec has faults".to_owned(),
            (Some(_), Ok(_)) => "it is suspended".to_owned(),
            (None, Ok(terms)) if terms.life.until.is_some_and(|until| until <= end) => "the token ends then".to_owned(),
            (None, Ok(_)) => self.renewal(),
        };
        let message = format!("generation {} expires at {end} and nothing will renew it: {why}", served.generation);
        conditions.set(EXPIRING_SOON, true, Reason::ExpiringSoon, message);
    }

    /// The fate of the Secret of an ended token, in words.
    pub fn withdrawn(&self) -> &'static str {
        let immutable = self.world.secrets.served.held.ours().is_some_and(|secret| secret.immutable == Some(true));
        match self.world.token.on_revoke() {
            OnRevoke::Keep if immutable => "removed, as it was made immutable and could not be emptied",
            OnRevoke::Delete => "removed",
            OnRevoke::Keep => "emptied",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        fixture::{self, DAY, conditions, new, own_account, served, time},
        progress::Progress,
        world::World,
    };
    use crate::{
        crd::condition,
        outside::{Refusal, Why},
        token::Records,
    };
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// `Ready`, `Valid`, `Reconciling` and `Stalled` after a pass that finds nothing to do.
    fn said(world: &World) -> Vec<String> {
        let told = [condition::READY, condition::VALID, condition::RECONCILING, condition::STALLED];
        let mut all = conditions(&world.rested().status);
        all.retain(|said| told.iter().any(|type_| said.starts_with(&format!("{type_}="))));
        all.sort();
        all
    }

    fn instance(spec: Value) -> World {
        served().with_instance(spec)
    }

    fn roles(more: Value) -> World {
        let mut spec = json!({"api": {"authorization": "Roles"}});
        fixture::merge(&mut spec, &more);
        instance(spec)
    }

    #[test]
    fn what_was_asked_for_is_ready_whether_or_not_the_value_is_accepted() {
        let disabled =
            json!({"manager": {"service": {"name": "m"}, "endpoints": [{"name": "admin", "type": "disabled"}]}});
        for (world, reason) in [
            (served().with_spec(&json!({"active": false})), "Suspended"),
            (served().with_account(|account| account.spec.active = false), "AccountSuspended"),
            (served().with_spec(&json!({"revoked": true})), "Revoked"),
            (served().with_spec(&json!({"expiry": {"at": time(80 * DAY)}})).rest().later(80 * DAY), "Expired"),
            (served().with_spec(&json!({"rotation": {"schedule": {"never": true}}})).later(90 * DAY), "Expired"),
            (roles(json!({})), "NoPermissions"),
            (instance(disabled), "EndpointDisabled"),
        ] {
            assert_eq!(said(&world), [format!("Ready=True/{reason}"), format!("Valid=False/{reason}")]);
        }
        assert_eq!(said(&served()), ["Ready=True/Active", "Valid=True/Active"]);
    }

    #[test]
    fn what_ended_against_the_spec_is_stalled() {
        let owned = |then: &str| {
            let world = served().with_spec(&json!({"owner": "serviceaccount:a/b"}));
            let world = world.with_account(|account| account.spec.owner = Some("serviceaccount:a/b".into()));
            let spec = json!({"ceiling": "Members", "tokens": {"onOwnerRemoved": then}});
            world.with_instance(spec).and(|world| world.owner_gone = true)
        };
        for (world, reason) in [
            (served().and(|world| world.account = None), "AccountDeleted"),
            (owned("Revoke"), "OwnerRemoved"),
            (owned("Suspend"), "OwnerRemoved"),
            (owned("Keep"), "OwnerRemoved"),
        ] {
            let wanted = ["Ready=False", "Stalled=True", "Valid=False"].map(|said| format!("{said}/{reason}"));
            assert_eq!(said(&world), wanted);
        }
    }

    #[test]
    fn a_fault_leaves_the_value_valid_and_what_waits_is_reconciling() {
        let faulty = served().with_spec(&json!({"expiry": {"after": "400d"}}));
        let stalled = ["Ready=False/LifetimeExceeded", "Stalled=True/LifetimeExceeded", "Valid=True/LifetimeExceeded"];
        assert_eq!(said(&faulty), stalled);
        let waiting = new().and(|world| world.instance = None);
        let wanted = ["Ready=False/InstanceMissing", "Reconciling=True/InstanceMissing", "Valid=False/InstanceMissing"];
        assert_eq!(said(&waiting), wanted);
        let gone = served().and(|world| world.instance = None);
        assert_eq!(said(&gone), wanted, "without an Instance the verifier refuses all requests");
    }

    #[test]
    fn a_revoked_token_is_ready_only_once_its_secret_is_gone() {
        let world = served().with_spec(&json!({"revoked": true}));
        let refused = super::super::progress::Failure {
            reason: crate::crd::Reason::PublishFailed,
            obstacle: Refusal::because(Why::Forbidden("no".into())).into(),
        };
        let status = world.settle(&Progress { failure: Some(refused), ..Progress::none(world.decision()) }).status;
        let told = conditions(&status);
        assert!(told.contains(&"Ready=False/Revoked".into()) && told.contains(&"Reconciling=True/Revoked".into()));
    }

    #[test]
    fn both_have_the_same_reason_whatever_it_is() {
        let worlds = [served(), new(), served().with_spec(&json!({"active": false})), roles(json!({}))];
        for world in worlds {
            let conditions = world.rested().status.conditions;
            let reason =
                |type_: &str| conditions.iter().find(|said| said.type_ == type_).map(|said| said.reason.clone());
            assert_eq!(reason(condition::READY), reason(condition::VALID));
        }
    }

    #[test]
    fn an_immutable_token_with_a_fault_is_not_told_to_do_what_is_refused() {
        let told = |world: World| fixture::said(&world.rested().status, condition::ACCEPTED).message.clone();
        let faulty = json!({"expiry": {"after": "400d"}, "immutable": true, "description": "nightly"});
        let message = told(served().with_spec(&faulty));
        assert!(message.ends_with("so delete it and make it again"), "{message}");
        let asks = json!({"tokens": {"confirmDelete": true}});
        let message = told(served().with_instance(asks).with_spec(&faulty));
        assert!(
            message.ends_with("so delete it (annotate it first: tokenry.dev/confirm-delete=nightly) and make it again")
        );
        let waits = served().with_spec(&json!({"immutable": true})).and(|world| world.instance = None);
        assert!(!told(waits).contains("immutable"), "it is the Instance that is missing");
        assert!(!told(served().with_spec(&json!({"expiry": {"after": "400d"}}))).contains("immutable"));
    }

    #[test]
    fn the_event_of_a_removed_owner_says_what_the_instance_does() {
        let told = |then: &str| {
            let world = served().with_spec(&json!({"owner": "serviceaccount:a/b"}));
            let spec = json!({"ceiling": "Members", "tokens": {"onOwnerRemoved": then}});
            let world = world.with_instance(spec).and(|world| world.owner_gone = true);
            let notes = world.rested().notes;
            notes.into_iter().find(|note| note.reason == crate::crd::Reason::OwnerRemoved).unwrap().text
        };
        let gone = "serviceaccount:a/b does not exist; name another owner; the Instance";
        let revoked = format!(
            "{gone} revokes such tokens (tokens.onOwnerRemoved: Revoke): all generations are refused from now on, \
             and Secret ci is removed"
        );
        assert_eq!(told("Revoke"), revoked);
        let suspended =
            format!("{gone} suspends such tokens (tokens.onOwnerRemoved: Suspend): refused until the owner is back");
        assert_eq!(told("Suspend"), suspended);
        assert!(told("Keep").starts_with(&format!("{gone} keeps such tokens (tokens.onOwnerRemoved: Keep): ")));
    }

    impl World {
        /// The world with the status of a pass that finds nothing to do.
        fn rest(self) -> Self {
            let progress = Progress::none(self.decision());
            self.settled(&progress)
        }
    }

    #[test]
    fn nothing_is_valid_before_it_was_issued() {
        let world = new().and(|world| world.account = Some(Arc::new(own_account(fixture::ACCOUNT_UID))));
        let recorded = world.clone().settled(&world.minted(1));
        assert!(Records::at(&recorded.status().records, recorded.now).served().is_none());
        assert!(conditions(&recorded.status()).contains(&"Valid=False/FirstIssue".into()));
    }
}
