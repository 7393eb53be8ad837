//! The account that a token makes for itself where it names none: it says of its rights what the token says, and
//! follows it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    act::{Act, Decision},
    observed::Observed,
    world::World,
};
use crate::{
    access::Reach,
    crd::{self, Account, ApiToken, account::AccountSpec, api_token::ApiTokenSpec, listed},
};

listed! {
    /// A field of its own account that a token has a say in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Followed {
        /// Who answers for it.
        Owner,
        /// Its role.
        Role,
        /// The organizations that it may act for.
        Organizations,
        /// The projects that it may act in.
        Projects,
    }
}

impl Followed {
    /// As it is written.
    fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Role => "role",
            Self::Organizations => "organizations",
            Self::Projects => "projects",
        }
    }

    /// The one that is written so; nothing where a token has no say.
    fn of(field: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|followed| followed.as_str() == field)
    }

    /// Whether an account says something else in it than it is wanted to.
    fn differs(self, (held, wanted): (&AccountSpec, &ApiTokenSpec)) -> bool {
        match self {
            Self::Owner => held.owner != wanted.owner,
            Self::Role => held.role != wanted.role,
            Self::Organizations => held.organizations != wanted.organizations,
            Self::Projects => held.projects != wanted.projects,
        }
    }

    /// Whether an account says more in it than it is wanted to.
    fn says_more(self, read: &Observed, (held, wanted): (&AccountSpec, &ApiTokenSpec)) -> bool {
        let exceeds = |held: Reach, wanted: Reach| held.and(&wanted) != held;
        match self {
            Self::Owner => held.owner != wanted.owner,
            Self::Role => match (&held.role, &wanted.role) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(held), Some(wanted)) => {
                    read.rules().is_some_and(|rules| rules.is_stronger(held.as_str(), wanted.as_str()))
                }
            },
            Self::Organizations => {
                exceeds(Reach::of(held.organizations.as_ref()), Reach::of(wanted.organizations.as_ref()))
            }
            Self::Projects => exceeds(Reach::projects(&held.projects), Reach::projects(&wanted.projects)),
        }
    }
}

/// What of the account that a token made for itself differs from the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAccount {
    /// The fields in which it says something else.
    differing: Vec<&'static str>,
    /// The fields that are left to another field manager, who has set them. In which the account says more than the
    /// token, or has another owner, is none of them: what others may act as is brought down with the token, and goes
    /// where that goes.
    pub yielded: BTreeSet<String>,
}

impl OwnAccount {
    /// How the account compares with its token.
    pub fn of(read: &Observed) -> Self {
        let wanted = &read.token.spec;
        let more = |field: &str| {
            let account = read.account.as_ref().zip(Followed::of(field));
            account.is_some_and(|(account, followed)| followed.says_more(read, (&account.spec, wanted)))
        };
        let yielded = read.taken.iter().filter(|field| !more(field)).cloned().collect();
        Self { differing: differing(read), yielded }
    }

    /// Whether it says something else than the token.
    pub fn differs(&self) -> bool {
        !self.differing.is_empty()
    }

    /// Whether it is to be changed so that it says what the token says. Where another field manager holds it to less,
    /// that stays.
    pub fn is_outdated(&self) -> bool {
        self.differing.iter().any(|&field| !self.yielded.contains(field))
    }

    /// The fields in which another field manager holds it to less than the token says.
    pub fn held_to(&self) -> Vec<&'static str> {
        self.differing.iter().copied().filter(|&field| self.yielded.contains(field)).collect()
    }
}

fn differing(read: &Observed) -> Vec<&'static str> {
    let own = read.account.as_ref().filter(|_| read.token.account_name().1);
    let Some(own) = own.filter(|own| crd::belongs(&***own, read.uid())) else { return Vec::new() };
    let specs = (&own.spec, &read.token.spec);
    Followed::ALL.into_iter().filter(|field| field.differs(specs)).map(Followed::as_str).collect()
}

/// Whether the account is to be brought up to date, before all else that is done: what it says more than the token is
/// never in force for the token itself, but others may act as it.
pub(crate) fn follows(world: &World, decision: Decision) -> bool {
    let over = decision.reason.is_going() || matches!(decision.act, Act::End(_) | Act::Forget);
    !over && world.own_account.is_outdated()
}

/// The account that `token` makes for itself.
pub(crate) fn own_account(token: &ApiToken) -> Account {
    #[cfg(test)]
    super::world::derivations::note("own account");
    let spec = token.spec.clone();
    let mut account = Account::new(
        token.account_name().0,
        AccountSpec {
            instance_ref: spec.instance_ref,
            display_name: None,
            description: None,
            owner: spec.owner,
            role: spec.role,
            organizations: spec.organizations,
            projects: spec.projects,
            active: true,
        },
    );
    crd::give(&mut account, token);
    account
}

/// The same as it is applied, without what is `yielded` to somebody else: what the token has no say in is not named, so
/// that it stays whoever's it is.
pub(crate) fn applied(token: &ApiToken, yielded: &BTreeSet<String>) -> Value {
    let mut account = serde_json::to_value(own_account(token)).expect("an account is plain data");
    if let Some(spec) = account["spec"].as_object_mut() {
        let named = |field: &str| field == "instanceRef" || (Followed::of(field).is_some() && !yielded.contains(field));
        spec.retain(|field, _| named(field));
    }
    account
}

#[cfg(test)]
mod tests {
    use super::super::{
        fixture::{DAY, at, judged_all, said, served},
        progress::Progress,
    };
    use super::*;
    use crate::{
        crd::condition::{self, PUBLISHED, READY, VALID},
        outside::{Refusal, Why},
    };
    use serde_json::json;

    #[test]
    fn a_field_that_both_have_is_followed_or_known_to_be_its_own() {
        let fields = |schema: schemars::Schema| -> BTreeSet<String> {
            schema.get("properties").unwrap().as_object().unwrap().keys().cloned().collect()
        };
        let (account, token) = (schemars::schema_for!(AccountSpec), schemars::schema_for!(ApiTokenSpec));
        let both: BTreeSet<_> = fields(account).intersection(&fields(token)).cloned().collect();
        let own = ["instanceRef", "displayName", "description", "active"];
        let known = Followed::ALL.map(Followed::as_str).into_iter().chain(own).map(str::to_owned);
        assert_eq!(both, known.collect());
    }

    #[test]
    fn what_another_sets_that_the_token_has_no_say_in_takes_nothing_back() {
        let world = served().with_spec(&json!({"owner": "user:a"}));
        let world = world.and(|world| world.taken = BTreeSet::from(["displayName".to_owned()]));
        assert_eq!(world.own_account.yielded, world.taken);
    }

    #[test]
    fn an_account_that_cannot_follow_leaves_the_token_ready_and_holds_nothing_up() {
        let narrowed = |world: World| world.with_account(|account| account.spec.role = Some("viewer".into()));
        let world = narrowed(served());
        assert!(follows(&world, world.decision()));
        let refused = Some(Refusal::because(Why::Forbidden("no".into())));
        let settled = world.settle(&Progress { unfollowed: refused, ..Progress::none(world.decision()) });
        let good = ["Published=True/Active", "Ready=True/Active", "Valid=True/Active"];
        assert_eq!(judged_all(&settled.status, [PUBLISHED, READY, VALID]), good);
        let told =
            "Secret ci holds generation 1; account ci does not say yet what the token says: forbidden; trying again";
        assert_eq!(said(&settled.status, PUBLISHED).message, told);
        assert!(settled.wakes_at().is_some_and(|wake| wake < at(DAY)), "it is tried again");
        let faulty = narrowed(served().with_spec(&json!({"expiry": {"after": "400d"}})));
        assert!(follows(&faulty, faulty.decision()), "a fault does not hold it up");
        let suspended = narrowed(served().with_spec(&json!({"active": false})));
        assert!(follows(&suspended, suspended.decision()));
        let due = narrowed(served().later(60 * DAY));
        assert_eq!((due.decision().act, follows(&due, due.decision())), (Act::Mint(()), true));
        let ended = narrowed(served().with_spec(&json!({"revoked": true})));
        assert!(!follows(&ended, ended.decision()));
        assert!(!follows(&served(), served().decision()));
    }

    #[test]
    fn what_another_field_manager_has_set_to_more_is_brought_down_and_limits_nothing() {
        let taken = |world: World, field: &str| world.and(|world| world.taken = BTreeSet::from([field.to_owned()]));
        let limited = |world: &World| {
            world.rested().status.conditions.iter().any(|said| said.type_ == condition::LIMITED_BY_ACCOUNT)
        };
        let viewer = || served().with_spec(&json!({"role": "viewer", "owner": "user:a", "projects": ["p"]}));
        let says = |change: &dyn Fn(&mut AccountSpec)| {
            viewer().with_account(|account| {
                account.spec.role = Some("viewer".into());
                account.spec.owner = Some("user:a".into());
                account.spec.projects = vec!["p".into()];
                change(&mut account.spec);
            })
        };
        for (field, world) in [
            ("role", says(&|spec| spec.role = Some("admin".into()))),
            ("owner", says(&|spec| spec.owner = Some("user:b".into()))),
            ("projects", says(&|spec| spec.projects = Vec::new())),
        ] {
            let world = taken(world, field);
            assert!(world.own_account.is_outdated() && !limited(&world), "{field}");
            assert!(applied(&world.token, &world.own_account.yielded)["spec"].get(field).is_some(), "{field}");
        }
        let less = taken(says(&|spec| spec.projects = vec!["q".into(), "p".into()]), "projects");
        assert!(less.own_account.is_outdated(), "more in one of them is more");
        let less = taken(says(&|spec| spec.role = None), "role");
        assert!(!less.own_account.is_outdated() && limited(&less));
        assert!(!taken(says(&|_| {}), "role").own_account.is_outdated());
    }

    #[test]
    fn what_another_field_manager_has_set_stays_and_is_told() {
        let world = served().with_spec(&json!({"role": "admin", "projects": ["a"]}));
        let world = world.with_account(|account| account.spec.role = Some("viewer".into()));
        let taken = world.clone().and(|world| world.taken = BTreeSet::from(["role".to_owned()]));
        assert!(taken.own_account.is_outdated(), "the projects are ours");
        assert_eq!(
            applied(&taken.token, &taken.taken)["spec"],
            json!({"instanceRef": {"name": "eem"}, "projects": ["a"]})
        );
        let both = taken.with_account(|account| account.spec.projects = vec!["a".into()]);
        assert!(!both.own_account.is_outdated());
        let limited = |world: &World| {
            let conditions = world.rested().status.conditions;
            conditions.into_iter().find(|said| said.type_ == condition::LIMITED_BY_ACCOUNT).map(|said| said.message)
        };
        let told = "account ci holds the token to less: another field manager has set its spec.role; remove that \
            there, or have it say what the token says";
        assert_eq!(limited(&both).as_deref(), Some(told));
        assert_eq!(limited(&served()), None);
        let spec = applied(&world.token, &BTreeSet::new());
        assert_eq!(spec["spec"].as_object().unwrap().keys().collect::<Vec<_>>(), ["instanceRef", "projects", "role"]);
    }
}
