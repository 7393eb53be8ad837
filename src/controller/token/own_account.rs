//! The token's own account. It is created if the token has no `serviceAccountRef`. It copies the token's owner, role,
//! organizations and projects, and follows their changes.

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
    /// A field that the own account copies from its token.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Followed {
        /// `owner`.
        Owner,
        /// `role`.
        Role,
        /// `organizations`.
        Organizations,
        /// `projects`.
        Projects,
    }
}

impl Followed {
    /// The name of the field in a spec.
    fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Role => "role",
            Self::Organizations => "organizations",
            Self::Projects => "projects",
        }
    }

    /// The field of this name; none if the account does not copy it from its token.
    fn of(field: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|followed| followed.as_str() == field)
    }

    /// True if an account differs from its token in this field.
    fn differs(self, (held, wanted): (&AccountSpec, &ApiTokenSpec)) -> bool {
        match self {
            Self::Owner => held.owner != wanted.owner,
            Self::Role => held.role != wanted.role,
            Self::Organizations => held.organizations != wanted.organizations,
            Self::Projects => held.projects != wanted.projects,
        }
    }

    /// True if an account allows more in this field than its token, or has another owner.
    fn says_more(self, read: &Observed, (held, wanted): (&AccountSpec, &ApiTokenSpec)) -> bool {
        let exceeds = |held: Reach, wanted: Reach| held.and(&wanted) != held;
        match self {
            Self::Owner => held.owner != wanted.owner,
            Self::Role => match (&held.role, &wanted.role) {
                // Without a role, the token has the default role or none. An account with a role can only narrow that.
                (None, _) | (Some(_), None) => false,
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

/// The differences between a token and its own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAccount {
    /// The fields in which the account differs from the token.
    differing: Vec<&'static str>,
    /// The fields that are left to another field manager, which has set them. A field in which the account allows more
    /// than the token is not left, and neither is another owner. Other tokens may act as this account, so it must not
    /// allow more than its token.
    pub yielded: BTreeSet<String>,
}

impl OwnAccount {
    /// Compares the account with its token.
    pub fn of(read: &Observed) -> Self {
        let wanted = &read.token.spec;
        let more = |field: &str| {
            let account = read.account.as_ref().zip(Followed::of(field));
            account.is_some_and(|(account, followed)| followed.says_more(read, (&account.spec, wanted)))
        };
        let yielded = read.taken.iter().filter(|field| !more(field)).cloned().collect();
        Self { differing: differing(read), yielded }
    }

    /// True if the account differs from the token.
    pub fn differs(&self) -> bool {
        !self.differing.is_empty()
    }

    /// True if the account needs an update. A field that another field manager has narrowed needs none.
    pub fn is_outdated(&self) -> bool {
        self.differing.iter().any(|&field| !self.yielded.contains(field))
    }

    /// The fields that another field manager has narrowed below the token.
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

/// True if the account is to be updated, before any other action. The token itself never has more rights than its spec,
/// but other tokens may act as this account.
pub(crate) fn follows(world: &World, decision: Decision) -> bool {
    let over = decision.reason.is_going() || matches!(decision.act, Act::End(_) | Act::Forget);
    !over && world.own_account.is_outdated()
}

/// The account that is created for `token`.
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
            // The token is a member by its own spec. A policy that the account names would only deny.
            policies: Vec::new(),
            active: true,
        },
    );
    crd::give(&mut account, token);
    account
}

/// The own account as it is applied, without the `yielded` fields. Fields that do not come from the token are left out,
/// so that they keep their field manager.
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
        crd::{
            condition::{self, PUBLISHED, READY, VALID},
            schema::tests::fields,
        },
        outside::{Refusal, Why},
    };
    use serde_json::json;

    #[test]
    fn a_field_that_both_have_is_followed_or_known_to_be_its_own() {
        let both: BTreeSet<_> = fields::<AccountSpec>().intersection(&fields::<ApiTokenSpec>()).cloned().collect();
        let own = ["instanceRef", "displayName", "description", "policies", "active"];
        let known = Followed::ALL.map(Followed::as_str).into_iter().chain(own).map(str::to_owned);
        assert_eq!(both, known.collect());
    }

    #[test]
    fn a_role_that_another_sets_for_a_token_without_one_is_left_and_told() {
        let world = served().with_account(|account| account.spec.role = Some("viewer".into()));
        let world = world.and(|world| world.taken = BTreeSet::from(["role".to_owned()]));
        assert!(!world.own_account.is_outdated(), "no pass writes it again");
        assert_eq!(world.own_account.held_to(), ["role"]);
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
            "Secret ci holds generation 1; account ci is not up to date with the token yet: forbidden; trying again";
        assert_eq!(said(&settled.status, PUBLISHED).message, told);
        assert!(settled.wakes_at().is_some_and(|wake| wake < at(DAY)), "it is tried again");
        let faulty = narrowed(served().with_spec(&json!({"expiry": {"after": "400d"}})));
        assert!(follows(&faulty, faulty.decision()), "a fault does not delay it");
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
        assert!(less.own_account.is_outdated(), "one more project is more");
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
        let told = "account ci limits the token: another field manager has set its spec.role; remove the field \
            there, or set it as in the token";
        assert_eq!(limited(&both).as_deref(), Some(told));
        assert_eq!(limited(&served()), None);
        let spec = applied(&world.token, &BTreeSet::new());
        assert_eq!(spec["spec"].as_object().unwrap().keys().collect::<Vec<_>>(), ["instanceRef", "projects", "role"]);
    }
}
