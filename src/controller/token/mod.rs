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
    Obstacle, Rooms,
    depends::{self, Depends},
    kind::{Checked, Kind, Settled, Unreadable, Version, is_news_of_instance},
    run::{each, every, mapped, names},
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
    const HAS_VALID: bool = true;

    async fn observe(self: Arc<Self>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
        observe::observe(self, rooms, now).await
    }

    fn is_costly(&self, rooms: &Rooms) -> bool {
        shape::is_costly(self) || observe::is_much(self, rooms)
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
    ) -> Result<(Version, Progress), Obstacle> {
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
/// and several can wait for one Secret's name.
pub fn triggers(rooms: &Arc<Rooms>) -> SelectAll<BoxStream<'static, ObjectRef<ApiToken>>> {
    let caches = &rooms.caches;
    let (secrets, accounts, instances, namespaces) = (rooms.clone(), rooms.clone(), rooms.clone(), rooms.clone());
    let (policies, users) = (rooms.clone(), rooms.clone());
    futures::stream::select_all([
        each(caches.tokens.touched()),
        mapped(caches.secrets.touched(), move |secret: &SealedSecret| {
            let (home, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
            tokens(&secrets, &Depends::Secret(&home, &name))
        }),
        mapped(caches.accounts.touched(), move |account: &Account| {
            let (home, name) = (account.namespace().unwrap_or_default(), account.name_any());
            let owned = tokens(&accounts, &Depends::Subject(&of_account(SubjectKind::Account, account)));
            [tokens(&accounts, &Depends::Account(&home, &name)), owned].concat()
        }),
        mapped(caches.instances.touched_in(is_news_of_instance), move |instance: &Instance| {
            tokens(&instances, &depends::instance(instance))
        }),
        mapped(caches.policies.touched(), move |policy: &AccessPolicy| {
            let home = policy.namespace().unwrap_or_default();
            tokens(&policies, &Depends::Instance(&home, policy.spec.instance_ref.name.as_str()))
        }),
        mapped(caches.users.touched(), move |user: &CoreAccount| {
            tokens(&users, &Depends::Subject(&of_account(SubjectKind::ServiceAccount, user)))
        }),
        mapped(caches.namespaces.touched(), move |namespace: &NamespaceMeta| {
            tokens(&namespaces, &Depends::Home(&namespace.name_any()))
        }),
        every(jumps(rooms.clock.clone()), caches.tokens.store()),
    ])
}

/// The subject of an account, whichever kind it is.
fn of_account(kind: SubjectKind, account: &impl kube::Resource) -> String {
    Who { kind, name: &format!("{}/{}", account.namespace().unwrap_or_default(), account.name_any()) }.to_string()
}

fn tokens(rooms: &Rooms, key: &Depends<'_>) -> Vec<ObjectRef<ApiToken>> {
    names(rooms.caches.tokens.by(key))
}
