//! Delivery `Once`: a value that is shown once.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tokenry::crd::api_token::{ApiTokenStatus, Claim, ClaimOutcome};

use crate::harness::{
    World,
    clock::{Held, hours},
    run::Running,
};

/// A token whose value is shown once, with an operator and a verifier at work.
async fn shown(name: &str, secret: Value) -> (World, Held, Running, Running, String) {
    let world = World::new(name).await;
    let clock = Held::default();
    let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "secret": secret})).await;
    let value = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    (world, clock, operator, verifier, value)
}

impl World {
    async fn once(&self) -> ApiTokenStatus {
        self.token("ci").await.status.unwrap()
    }

    /// Annotates the Secret as someone does who has copied the value.
    async fn claims(&self, id: &str) {
        self.patch_secret("ci", json!({"metadata": {"annotations": {"tokenry.dev/claimed": id}}})).await;
    }

    /// What status says became of the value, once the Secret is gone: that follows.
    async fn await_claim(&self) -> Claim {
        let claim = self.eventually("status says what became of the value", async || self.once().await.claim).await;
        self.eventually("the Secret is gone", async || self.value("ci").await.is_none().then_some(())).await;
        claim
    }
}

#[tokio::test]
async fn a_claimed_value_is_shown_no_more_and_not_minted_again() {
    let (world, clock, operator, verifier, first) = shown("claimed", json!({"delivery": "Once"})).await;
    let status = world.once().await;
    assert_eq!((status.claim, status.rotates_at), (None, None), "left out, its schedule is never");
    let said = world.condition("ci", "Published").await.unwrap().message;
    assert!(said.starts_with("Secret ci holds generation 1 until it is claimed, at the latest until "), "{said}");
    world.claims("another").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(world.value("ci").await.as_ref(), Some(&first), "that is not its id");

    world.claims(&status.records[0].id).await;
    let claim = world.await_claim().await;
    assert_eq!((claim.generation, claim.outcome), (1, ClaimOutcome::Claimed));
    let said = world.condition("ci", "Published").await.unwrap().message;
    assert!(said.starts_with("generation 1 was claimed at ") && said.contains("it cannot be shown again"), "{said}");
    world.await_events("ApiToken", "ci", &["Claimed", "Issued"]).await;
    world.await_reason("ci", "Active").await;
    assert_eq!(verifier.present(&world, &first).await, 200);

    // Whatever restarts, and however long it takes.
    operator.stop().await;
    let _operator = world.operator(&clock).await;
    clock.move_by(hours(24));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let status = world.once().await;
    assert_eq!((status.last_generation, status.claim, status.secret_name), (Some(1), Some(claim), None));
    assert_eq!(world.value("ci").await, None);

    world.change("ApiToken", "ci", json!({"regenerate": {"id": "again"}})).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    let waits = async || world.once().await.claim.is_none().then_some(());
    world.eventually("the next one waits to be claimed", waits).await;
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (200, 200));
}

#[tokio::test]
async fn a_value_that_nobody_claims_is_removed_after_its_time() {
    let secret = json!({"delivery": "Once", "claimWithin": "15m"});
    let (world, clock, _operator, verifier, value) = shown("unclaimed", secret).await;
    clock.move_by(SignedDuration::from_mins(14));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(world.value("ci").await.as_ref(), Some(&value));
    clock.move_by(SignedDuration::from_mins(1));
    let claim = world.await_claim().await;
    assert_eq!((claim.generation, claim.outcome), (1, ClaimOutcome::Unclaimed));
    assert_eq!(verifier.present(&world, &value).await, 200);
}

#[tokio::test]
async fn a_secret_that_was_shown_once_and_comes_back_is_removed_again() {
    let (world, _clock, _operator, _verifier, _value) = shown("comes-back", json!({"delivery": "Once"})).await;
    let mut backup = world.api::<Secret>().get("ci").await.unwrap();
    world.api::<Secret>().delete("ci", &Default::default()).await.unwrap();
    let claim = world.await_claim().await;
    assert_eq!((claim.generation, claim.outcome), (1, ClaimOutcome::Removed));
    backup.metadata.resource_version = None;
    backup.metadata.uid = None;
    backup.metadata.managed_fields = None;
    world.api::<Secret>().create(&Default::default(), &backup).await.unwrap();
    world.eventually("it is removed again", async || world.value("ci").await.is_none().then_some(())).await;
    let status = world.once().await;
    assert_eq!((status.claim, status.last_generation), (Some(claim), Some(1)));
}
