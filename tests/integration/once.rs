//! Delivery `Once`: a value that is shown once.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tokenry::crd::{
    Instance,
    api_token::{ApiTokenStatus, Claim, ClaimOutcome, DeliveryMode},
};

use crate::harness::{
    World,
    clock::{Held, hours},
    fault::{Death, dying},
    run::Running,
};

/// A token whose value is shown once, with an operator and a verifier at work.
async fn shown(name: &str, secret: Value) -> (World, Held, Running, Running, String) {
    issued(name, json!({}), json!({ "secret": secret })).await
}

/// A token of an Instance with this policy, with an operator and a verifier at work.
async fn issued(name: &str, policy: Value, mut spec: Value) -> (World, Held, Running, Running, String) {
    let world = World::new(name).await;
    let clock = Held::default();
    let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({ "tokens": policy })).await;
    spec["instanceRef"] = json!({"name": "eem"});
    world.accepts("ApiToken", "ci", spec).await;
    let value = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    (world, clock, operator, verifier, value)
}

impl World {
    /// Changes the token policy of the Instance.
    async fn demands(&self, policy: Value) {
        self.change("Instance", "eem", json!({ "tokens": policy })).await.unwrap();
    }

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
async fn a_demand_that_the_operator_hears_of_during_the_first_record_is_met() {
    let world = World::new("meanwhile").await;
    // The second write about a token is its first record.
    let (client, doom) = dying(world.plane.config(&world.identities.operator), 2, Death::Late);
    let _operator = world.operator_by(client, &Held::default()).await;
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    let recorded = async || (!world.token("ci").await.status?.records.is_empty()).then_some(());
    world.eventually("the first value is recorded", recorded).await;
    world.demands(json!({"delivery": "Once"})).await;
    let heard = async || {
        let instance = world.api::<Instance>().get("eem").await.unwrap();
        (instance.status?.observed_generation == instance.metadata.generation).then_some(())
    };
    world.eventually("the operator has heard of the demand", heard).await;
    assert_eq!(world.value("ci").await, None);
    doom.release();
    world.await_generation("ci", 2).await;
    world.await_reason("ci", "Active").await;
    let status = world.once().await;
    assert_eq!((status.delivery, status.last_generation), (Some(DeliveryMode::Once), Some(2)));
    world.await_events("ApiToken", "ci", &["Issued"]).await;
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

#[tokio::test]
async fn the_first_use_claims_a_value_where_that_is_asked_for() {
    let by_use = json!({"delivery": "Once", "claimedBy": "FirstUse"});
    let (world, _clock, _operator, verifier, value) = shown("by-use", by_use).await;
    assert_eq!(world.value("ci").await.as_ref(), Some(&value), "it waits for its first use");
    assert_eq!(verifier.present(&world, &value).await, 200);
    let claim = world.await_claim().await;
    assert_eq!((claim.generation, claim.outcome), (1, ClaimOutcome::Claimed));
    world.await_events("ApiToken", "ci", &["Claimed", "Issued"]).await;
    assert_eq!(verifier.present(&world, &value).await, 200);

    // The annotation claims the next one, which nobody has used.
    world.change("ApiToken", "ci", json!({"regenerate": {"id": "again"}})).await.unwrap();
    world.await_generation("ci", 2).await;
    world.eventually("it waits to be claimed", async || world.once().await.claim.is_none().then_some(())).await;
    assert_eq!(verifier.present(&world, &value).await, 200, "a use of the first one claims nothing");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(world.value("ci").await.is_some());
    let id = world.once().await.records.last().unwrap().id.clone();
    world.claims(&id).await;
    assert_eq!(world.await_claim().await.generation, 2);
}

#[tokio::test]
async fn an_instance_demands_that_every_value_is_shown_once() {
    let (world, clock, _operator, verifier, value) = issued("demanded", json!({"delivery": "Once"}), json!({})).await;
    let status = world.once().await;
    assert_eq!((status.delivery, status.rotates_at), (Some(DeliveryMode::Once), None));
    let retains = json!({"instanceRef": {"name": "eem"}, "secret": {"delivery": "Retain"}});
    world.accepts("ApiToken", "retains", retains).await;
    world.await_reason("retains", "DeliveryNotAllowed").await;
    let told = world.condition("retains", "Accepted").await.unwrap().message;
    assert!(told.starts_with("spec.secret.delivery: ") && told.contains("tokens.delivery of Instance eem"), "{told}");
    assert_eq!(world.value("retains").await, None);

    world.claims(&status.records[0].id).await;
    let claim = world.await_claim().await;
    // A person has the value. The Instance mints no other one when it demands nothing any more.
    world.demands(json!({"delivery": null})).await;
    world.await_reason("retains", "Active").await;
    clock.move_by(hours(24));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let status = world.once().await;
    assert_eq!(
        (status.claim, status.last_generation, status.delivery),
        (Some(claim), Some(1), Some(DeliveryMode::Once))
    );
    assert_eq!((verifier.present(&world, &value).await, world.value("ci").await), (200, None));
}

#[tokio::test]
async fn a_demand_that_comes_later_takes_no_secret_from_a_workload() {
    let (world, clock, _operator, verifier, value) = issued("demanded-later", json!({}), json!({})).await;
    clock.move_by(hours(24));
    world.demands(json!({"delivery": "Once"})).await;
    world.await_reason("ci", "DeliveryNotAllowed").await;
    let told = world.condition("ci", "Accepted").await.unwrap().message;
    assert!(told.contains("Secret ci was published to stay"), "{told}");
    clock.move_by(hours(24));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(world.value("ci").await.as_ref(), Some(&value), "the Secret stays, although an hour is over");
    assert_eq!(verifier.present(&world, &value).await, 200);

    // Its user agrees, and asks for a value to be shown.
    let agreed = json!({"secret": {"delivery": "Once"}, "regenerate": {"id": "once"}});
    world.change("ApiToken", "ci", agreed).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    world.await_reason("ci", "Rotating").await;
    assert_eq!(world.once().await.delivery, Some(DeliveryMode::Once));
    assert_eq!((verifier.present(&world, &value).await, verifier.present(&world, &second).await), (200, 200));
}
