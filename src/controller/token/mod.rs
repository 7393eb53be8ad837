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
mod granted;
mod issue;
mod life;
mod mints;
mod notes;
mod observe;
mod observed;
mod once;
mod organizations;
mod outcome;
mod own_account;
mod owner;
mod pause;
mod permissions;
mod progress;
mod repair;
mod restart;
mod rules;
mod secrets;
mod settle;
mod shape;
mod shown;
#[cfg(test)]
mod simulation;
mod terms;
mod triggers;
mod validate;
mod wakes;
mod workloads;
mod world;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    Obstacle, Rooms,
    grants::Granted,
    kind::{Checked, Kind, Settled, Unreadable, Version},
};
use crate::{
    crd::{ApiToken, Fault, Reason, api_token::ApiTokenStatus},
    outside::Refusal,
};

pub use act::{Act, Decision};
pub use decide::CHAIN;
pub use mints::Mints;
pub use progress::{Failure, Progress};
pub use secrets::Held;
pub use terms::TokenTerms;
pub use triggers::triggers;
pub use world::{Bond, World};

pub(super) use observe::owning;
pub(super) use observed::Observed;

/// The faults of a token that is no object yet, among the objects in `read`.
pub(super) fn faults_of_manifest(read: Observed) -> Vec<Fault> {
    validate::validate(&World::new(read)).err().unwrap_or_default()
}

impl Kind for ApiToken {
    type World = World;
    type Terms = Arc<TokenTerms>;
    type Decision = Decision<Arc<TokenTerms>>;
    type Progress = Progress;
    type Status = ApiTokenStatus;

    const WHEN_UNREADABLE: &'static str = "no value is minted and every request is refused";
    const HAS_VALID: bool = true;

    async fn observe(self: Arc<Self>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
        observe::observe(self, rooms, now).await
    }

    fn is_costly(&self, rooms: &Rooms) -> bool {
        shape::is_costly(self) || observe::is_much(self, rooms)
    }

    fn validate(world: &World) -> Checked<Arc<TokenTerms>> {
        validate::validate(world).map(Arc::new)
    }

    fn decide(world: &World, terms: &Checked<Arc<TokenTerms>>) -> Self::Decision {
        decide::decide(world, terms)
    }

    fn reason(decision: &Self::Decision) -> Reason {
        decision.reason
    }

    async fn execute(
        rooms: &Rooms,
        world: &World,
        terms: &Checked<Arc<TokenTerms>>,
        decision: Self::Decision,
    ) -> Result<(Version, Progress), Obstacle> {
        execute::execute(rooms, world, terms, decision).await
    }

    fn refusals(progress: &Progress) -> Vec<&Refusal> {
        progress.refusals()
    }

    fn settle(world: &World, terms: &Checked<Arc<TokenTerms>>, progress: &Progress) -> Settled<ApiTokenStatus> {
        settle::settle(world, terms, progress)
    }

    fn grants(world: &World) -> Option<Vec<Granted>> {
        granted::granted(world)
    }

    fn conditions(status: &mut ApiTokenStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn status(&self) -> Option<&ApiTokenStatus> {
        self.status.as_ref()
    }

    fn unreadable(status: &ApiTokenStatus) -> Unreadable<'_> {
        Unreadable { fields: &status.unreadable, conditions: &status.conditions }
    }
}
