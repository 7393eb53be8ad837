//! The `ApiToken` controller: mint, record, publish, settle.

mod act;
mod audience;
mod conditions;
mod decide;
mod delivery;
mod ending;
mod execute;
#[cfg(test)]
mod fixture;
mod life;
mod mints;
mod notes;
mod observe;
mod once;
mod owner;
mod progress;
mod restart;
mod settle;
mod shape;
#[cfg(test)]
mod simulation;
mod terms;
mod validate;
mod workloads;
mod world;

use std::sync::Arc;

use futures::stream::{BoxStream, SelectAll};
use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Rooms,
    kind::{Checked, Kind, Settled, Unreadable, Version},
    run::{each, every, mapped},
};
use crate::{
    crd::{
        AccessPolicy, Account, ApiToken, Instance, Reason, SealedSecret,
        api_token::ApiTokenStatus,
        subject::{SubjectKind, Who},
    },
    outside::{
        Refusal,
        clock::jumps,
        watch::{CoreAccount, NamespaceMeta},
    },
};

pub use act::{Act, Decision};
pub use decide::CHAIN;
pub use mints::Mints;
pub use progress::{Failure, Progress};
pub use terms::TokenTerms;
pub use world::{Bound, Held, World};

impl Kind for ApiToken {
    type World = World;
    type Terms = TokenTerms;
    type Decision = Decision;
    type Progress = Progress;
    type Status = ApiTokenStatus;

    const WHEN_UNREADABLE: &'static str = "nothing is minted and nothing let in by it";
    const STATUS_FIELDS: &'static [&'static str] = &[
        "observedGeneration",
        "conditions",
        "records",
        "lastGeneration",
        "account",
        "secretName",
        "otherSecretName",
        "binding",
        "organization",
        "audiences",
        "effective",
        "owner",
        "policy",
        "expiresAt",
        "rotatesAt",
        "regeneration",
        "restart",
        "claim",
        "revocation",
    ];

    const HAS_VALID: bool = true;

    async fn observe(self: Arc<Self>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
        observe::observe(self, rooms, now).await
    }

    fn is_costly(&self) -> bool {
        shape::is_costly(self)
    }

    fn validate(world: &World) -> Checked<TokenTerms> {
        validate::validate(world)
    }

    fn decide(world: &World, terms: &Checked<TokenTerms>) -> Decision {
        decide::decide(world, terms)
    }

    fn reason(decision: &Decision) -> Reason {
        decision.reason
    }

    async fn execute(
        rooms: &Rooms,
        world: &World,
        terms: &Checked<TokenTerms>,
        decision: Decision,
    ) -> Result<(Version, Progress), Refusal> {
        execute::execute(rooms, world, terms, decision).await
    }

    fn settle(world: &World, terms: &Checked<TokenTerms>, progress: &Progress) -> Settled<ApiTokenStatus> {
        settle::settle(world, terms, progress)
    }

    fn status(&self) -> Option<&ApiTokenStatus> {
        self.status.as_ref()
    }

    fn unreadable(status: &ApiTokenStatus) -> Unreadable<'_> {
        Unreadable { fields: &status.unreadable, conditions: &status.conditions }
    }
}

/// Names the tokens that something has happened to: to themselves, or to what they depend on. Several can use one account,
/// and several can wait for one Secret's name, so all tokens are looked through.
pub fn triggers(rooms: &Arc<Rooms>) -> SelectAll<BoxStream<'static, ObjectRef<ApiToken>>> {
    let caches = &rooms.caches;
    let (secrets, accounts, instances, namespaces) = (rooms.clone(), rooms.clone(), rooms.clone(), rooms.clone());
    let (policies, users) = (rooms.clone(), rooms.clone());
    futures::stream::select_all([
        each(caches.tokens.touched()),
        mapped(caches.secrets.touched(), move |secret: &SealedSecret| {
            let (name, home) = (secret.name_any(), secret.namespace());
            tokens(&secrets, |token| token.secret_names().contains(&Some(&*name)) && token.namespace() == home)
        }),
        mapped(caches.accounts.touched(), move |account: &Account| {
            let (name, home) = (account.name_any(), account.namespace());
            let subject = of_account(SubjectKind::Account, account);
            tokens(&accounts, |token| {
                let acts = token.account_name().0 == name && token.namespace() == home;
                acts || token.status.as_ref().is_some_and(|status| owns(&subject, status))
            })
        }),
        mapped(caches.instances.touched(), move |instance: &Instance| {
            tokens(&instances, |token| token.opens(instance))
        }),
        mapped(caches.policies.touched(), move |policy: &AccessPolicy| {
            let (name, home) = (policy.spec.instance_ref.name.clone(), policy.namespace());
            tokens(&policies, |token| {
                let wanted = &token.spec.instance_ref;
                wanted.name == name
                    && Some(wanted.namespace_or(&token.namespace().unwrap_or_default())) == home.as_deref()
            })
        }),
        mapped(caches.users.touched(), move |user: &CoreAccount| {
            let subject = of_account(SubjectKind::ServiceAccount, user);
            tokens(&users, |token| token.status.as_ref().is_some_and(|status| owns(&subject, status)))
        }),
        mapped(caches.namespaces.touched(), move |namespace: &NamespaceMeta| {
            tokens(&namespaces, |token| token.namespace() == namespace.metadata.name)
        }),
        every(jumps(rooms.clock.clone()), caches.tokens.store()),
    ])
}

/// The subject of an account, whichever kind it is.
fn of_account(kind: SubjectKind, account: &impl kube::Resource) -> String {
    Who { kind, name: &format!("{}/{}", account.namespace().unwrap_or_default(), account.name_any()) }.to_string()
}

fn owns(subject: &str, status: &ApiTokenStatus) -> bool {
    status.owner.as_ref().is_some_and(|owner| owner.subject.as_deref() == Some(subject))
}

fn tokens(rooms: &Rooms, keep: impl Fn(&ApiToken) -> bool) -> Vec<ObjectRef<ApiToken>> {
    rooms.caches.tokens.filter(keep).iter().map(|token| ObjectRef::from_obj(&**token)).collect()
}
