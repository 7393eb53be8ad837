//! How a token, or a generation of it, comes to its end.

use jiff::SignedDuration;
use kube::Api;
use serde_json::{Value, json};
use tokenry::{
    crd::{
        ApiToken, SealedSecret,
        api_token::{ApiTokenStatus, RevocationReason},
        secret::TOKEN,
    },
    outside::Clock,
    token::Digest,
};

use crate::harness::{
    World,
    clock::{Held, hours},
    run::{Running, served},
};

/// A namespace with an operator and a verifier at work, an Instance of this policy, and a token of this spec served.
async fn issued(
    name: &str,
    policy: Value,
    spec: impl FnOnce(&Held) -> Value,
) -> (World, Held, Running, Running, String) {
    let world = World::new(name).await;
    let clock = Held::default();
    let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({ "tokens": policy })).await;
    let mut whole = spec(&clock);
    whole["instanceRef"] = json!({"name": "eem"});
    world.accepts("ApiToken", "ci", whole).await;
    let value = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    (world, clock, operator, verifier, value)
}

impl World {
    async fn status(&self) -> ApiTokenStatus {
        self.token("ci").await.status.unwrap()
    }

    async fn policy(&self, policy: Value) {
        self.change("Instance", "eem", json!({ "tokens": policy })).await.unwrap();
    }

    async fn await_end(&self, end: jiff::Timestamp) {
        let ends = async || (self.status().await.expires_at.map(|at| at.0) == Some(end)).then_some(());
        self.eventually(&format!("it expires at {end}"), ends).await;
    }
}

#[tokio::test]
async fn a_token_as_a_whole_ends_at_its_time_and_for_ever() {
    let end = Held::default().now() + hours(10);
    let spec = |_: &Held| json!({"expiry": {"at": end.to_string()}});
    let (world, clock, _operator, verifier, value) = issued("at", json!({}), spec).await;
    let status = world.status().await;
    let expires = status.expires_at.map(|at| at.0);
    assert_eq!((expires, status.rotates_at), (Some(end), None), "the next would last no longer");
    assert_eq!(world.condition("ci", "ExpiringSoon").await, None);
    clock.move_by(hours(7));
    world.await_events("ApiToken", "ci", &["ExpiringSoon", "Issued"]).await;
    let soon = world.condition("ci", "ExpiringSoon").await.unwrap().message;
    assert_eq!(soon, format!("generation 1 expires at {end} and nothing will renew it: the token ends then"));
    assert_eq!(verifier.present(&world, &value).await, 200);

    clock.move_to(end);
    let token = world.await_reason("ci", "Expired").await;
    let revocation = token.status.unwrap().revocation.unwrap();
    assert_eq!((revocation.reason, revocation.generations), (RevocationReason::Expired, vec![1]));
    assert_eq!((verifier.present(&world, &value).await, world.value("ci").await), (401, None));
    assert_eq!(world.condition("ci", "ExpiringSoon").await, None);
    assert_eq!(world.condition("ci", "Accepted").await.unwrap().status, "True", "it is nobody's mistake");
    world.await_events("ApiToken", "ci", &["Expired", "ExpiringSoon", "Issued"]).await;

    let later = json!({"expiry": {"at": (end + hours(100)).to_string()}, "regenerate": {"id": "back"}});
    world.change("ApiToken", "ci", later).await.unwrap();
    let generation = world.token("ci").await.metadata.generation;
    let seen = async || (world.status().await.observed_generation == generation).then_some(());
    world.eventually("the change is seen", seen).await;
    world.await_reason("ci", "Expired").await;
    assert_eq!(world.status().await.last_generation, Some(1));
}

#[tokio::test]
async fn a_time_that_is_over_mints_nothing_and_one_set_later_ends_nothing() {
    let (world, clock, _operator, verifier, value) = served("past").await;
    let past = json!({"at": (clock.now() - hours(1)).to_string()});
    let spec = json!({"instanceRef": {"name": "eem"}, "expiry": past});
    world.accepts("ApiToken", "late", spec).await;
    world.await_reason("late", "Invalid").await;
    let told = world.condition("late", "Accepted").await.unwrap().message;
    assert!(told.starts_with("spec.expiry.at: ") && told.contains("set revoked: true to end the token now"), "{told}");
    assert_eq!(world.token("late").await.status.unwrap().last_generation, None);

    let before = world.status().await.records;
    world.change("ApiToken", "ci", json!({ "expiry": past })).await.unwrap();
    world.await_reason("ci", "Invalid").await;
    assert_eq!(world.status().await.records, before);
    assert_eq!(verifier.present(&world, &value).await, 200);
}

#[tokio::test]
async fn what_nothing_renews_says_so_runs_out_and_can_be_asked_for_again() {
    let spec = |_: &Held| json!({"expiry": {"after": "10h"}, "rotation": {"schedule": {"never": true}}});
    let (world, clock, _operator, verifier, first) = issued("unrenewed", json!({}), spec).await;
    assert_eq!(world.status().await.rotates_at, None);
    clock.move_by(hours(7));
    world.await_events("ApiToken", "ci", &["ExpiringSoon", "Issued"]).await;
    let soon = world.condition("ci", "ExpiringSoon").await.unwrap();
    assert_eq!((soon.status.as_str(), soon.reason.as_str()), ("True", "ExpiringSoon"));
    clock.move_by(hours(3));
    let token = world.await_reason("ci", "Expired").await;
    assert_eq!(token.status.unwrap().revocation, None);
    assert_eq!(verifier.present(&world, &first).await, 401);

    world.change("ApiToken", "ci", json!({"regenerate": {"id": "again"}})).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    world.await_reason("ci", "Active").await;
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (401, 200));
    assert_eq!(world.condition("ci", "ExpiringSoon").await, None);
}

#[tokio::test]
async fn an_instance_leaves_values_alone_unless_a_token_asks_for_another() {
    let policy = json!({"rotation": {"default": "Never"}});
    let (world, clock, _operator, verifier, value) = issued("left-alone", policy, |_| json!({})).await;
    let scheduled = json!({"instanceRef": {"name": "eem"}, "rotation": {"schedule": {"every": "30d"}}});
    world.accepts("ApiToken", "scheduled", scheduled).await;
    world.await_generation("scheduled", 1).await;
    world.await_reason("scheduled", "Active").await;
    assert_eq!(world.status().await.rotates_at, None);
    clock.move_by(hours(80 * 24));
    world.await_generation("scheduled", 2).await;
    world.await_events("ApiToken", "ci", &["ExpiringSoon", "Issued"]).await;
    assert_eq!((world.value("ci").await.as_ref(), world.status().await.last_generation), (Some(&value), Some(1)));
    assert_eq!(verifier.present(&world, &value).await, 200);
    world.change("ApiToken", "ci", json!({"regenerate": {"id": "asked"}})).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    assert_eq!(verifier.present(&world, &second).await, 200);
}

#[tokio::test]
async fn a_value_lives_until_the_date_of_its_token_and_nothing_replaces_it() {
    let end = Held::default().now() + hours(300 * 24);
    let spec = |_: &Held| json!({"expiry": {"at": end.to_string()}});
    let (world, clock, _operator, verifier, value) = issued("to-its-date", json!({}), spec).await;
    let status = world.status().await;
    assert_eq!((status.expires_at.map(|at| at.0), status.rotates_at), (Some(end), None));
    clock.move_by(hours(200 * 24));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!((world.value("ci").await.as_ref(), world.status().await.last_generation), (Some(&value), Some(1)));
    assert_eq!(verifier.present(&world, &value).await, 200);
    clock.move_to(end);
    world.await_reason("ci", "Expired").await;
    assert_eq!(verifier.present(&world, &value).await, 401);
}

#[tokio::test]
async fn what_never_expires_does_once_the_instance_forbids_it() {
    let never = |_: &Held| json!({"expiry": {"never": true}});
    let allows = json!({"lifetime": {"never": "Allow", "max": "300d"}});
    let (world, clock, _operator, verifier, value) = issued("never", allows, never).await;
    let status = world.status().await;
    assert_eq!((&status.expires_at, &status.rotates_at, &status.records[0].expires_at), (&None, &None, &None));
    let issued = clock.now();
    clock.move_by(hours(30_000));
    assert_eq!(verifier.present(&world, &value).await, 200);
    clock.move_to(issued);

    world.policy(json!({"lifetime": {"never": "Forbid"}})).await;
    world.await_reason("ci", "LifetimeExceeded").await;
    let told = world.condition("ci", "Accepted").await.unwrap().message;
    assert!(told.starts_with("spec.expiry.never: the Instance forbids tokens that never expire"), "{told}");
    world.await_end(status.records[0].created_at.0 + hours(300 * 24)).await;
    world.await_events("ApiToken", "ci", &["Issued", "Rejected", "Shortened"]).await;
    assert_eq!(verifier.present(&world, &value).await, 200);
}

#[tokio::test]
async fn a_shorter_maximum_shortens_what_exists_and_a_longer_one_extends_nothing() {
    let (world, clock, _operator, verifier, first) = served("maximum").await;
    let created = world.status().await.records[0].created_at.0;
    world.policy(json!({"lifetime": {"max": "10d"}})).await;
    world.await_end(created + hours(240)).await;
    world.await_events("ApiToken", "ci", &["Issued", "Shortened"]).await;
    world.policy(json!({"lifetime": {"max": "365d"}})).await;
    world.change("ApiToken", "ci", json!({"displayName": "seen"})).await.unwrap();
    let generation = world.token("ci").await.metadata.generation;
    let seen = async || (world.status().await.observed_generation == generation).then_some(());
    world.eventually("the change is seen", seen).await;
    assert_eq!(world.status().await.expires_at.unwrap().0, created + hours(240));
    // It is renewed in time all the same.
    clock.move_by(hours(200));
    let second = world.await_generation("ci", 2).await;
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (200, 200));
    clock.move_to(created + hours(240));
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (401, 200));
}

#[tokio::test]
async fn a_policy_that_comes_later_binds_tokens_that_exist() {
    let spec = |_: &Held| json!({"expiry": {"after": "7d"}, "rotation": {"overlap": "2h"}});
    let (world, _clock, _operator, verifier, value) = issued("policy", json!({}), spec).await;
    for (policy, reason, path) in [
        (json!({"requireDescription": true}), "DescriptionMissing", "spec.description"),
        (json!({"lifetime": {"max": "5d"}}), "LifetimeExceeded", "spec.expiry.after"),
        (json!({"overlap": {"max": "1h"}}), "OverlapExceeded", "spec.rotation.overlap"),
        (json!({"windows": [{"cron": "0 3 1 1 *", "duration": "1h"}]}), "WindowsUnmet", "spec.rotation.windows"),
    ] {
        world.policy(policy).await;
        world.await_reason("ci", reason).await;
        let told = world.condition("ci", "Accepted").await.unwrap().message;
        assert!(told.starts_with(&format!("{path}: ")), "{told}");
        let none = json!({"requireDescription": null, "lifetime": null, "overlap": null, "windows": null});
        world.policy(none).await;
        world.await_reason("ci", "Active").await;
    }
    assert_eq!((verifier.present(&world, &value).await, world.status().await.last_generation), (200, Some(1)));
}

#[tokio::test]
async fn ended_tokens_stay_listed_until_their_instance_wants_them_forgotten() {
    let (world, clock, _operator, _verifier, _value) = served("forget").await;
    let never = json!({"schedule": {"never": true}});
    let spec = json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "1h"}, "rotation": never});
    world.accepts("ApiToken", "spent", spec).await;
    world.await_reason("spent", "Active").await;
    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    world.await_reason("ci", "Revoked").await;
    clock.move_by(hours(9_000));
    world.await_reason("spent", "Expired").await;
    world.await_reason("ci", "Revoked").await;

    world.accepts("ApiToken", "lives", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_reason("lives", "Active").await;
    world.policy(json!({"forgetAfter": "30d"})).await;
    let tokens: Api<ApiToken> = world.api();
    let revoked: &[_] = &["Deleted", "Issued", "Revoked"];
    let expired: &[_] = &["Deleted", "Expired", "Issued"];
    for (name, events) in [("ci", revoked), ("spent", expired)] {
        let gone = async || tokens.get_opt(name).await.unwrap().is_none().then_some(());
        world.eventually(&format!("{name} is deleted"), gone).await;
        world.await_events("ApiToken", name, events).await;
    }
    world.await_reason("lives", "Active").await;
}

#[tokio::test]
async fn the_secret_of_a_revoked_token_can_be_kept_without_its_value() {
    let spec = |_: &Held| json!({"secret": {"onRevoke": "Keep"}});
    let (world, _clock, _operator, verifier, value) = issued("keep", json!({}), spec).await;
    let stated = json!({"revoked": true, "revocationReason": "Compromised"});
    world.change("ApiToken", "ci", stated).await.unwrap();
    let revocation = world.await_reason("ci", "Revoked").await.status.unwrap().revocation.unwrap();
    assert_eq!((revocation.reason, revocation.generations), (RevocationReason::Compromised, vec![1]));
    let emptied = async || (world.value("ci").await.as_deref() == Some("")).then_some(());
    world.eventually("the Secret is emptied", emptied).await;
    world.await_verdict(&verifier, &value, 401).await;
    // Put back, as from a backup, the value goes again and is refused all the while.
    world.patch_secret("ci", json!({"stringData": {"token": value}})).await;
    world.eventually("the Secret is emptied again", emptied).await;
    assert_eq!(verifier.present(&world, &value).await, 401);
    world.change("ApiToken", "ci", json!({"secret": {"onRevoke": "Delete"}})).await.unwrap();
    world.eventually("the Secret is removed", async || world.value("ci").await.is_none().then_some(())).await;
}

#[tokio::test]
async fn a_value_that_is_put_back_from_a_backup_never_becomes_valid_again() {
    let (world, clock, _operator, verifier, old) = served("backup").await;
    let regenerate = json!({"regenerate": {"id": "leak", "previous": {"after": "0s"}}});
    world.change("ApiToken", "ci", regenerate).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    world.await_verdict(&verifier, &old, 401).await;
    clock.move_by(SignedDuration::from_secs(10));
    world.patch_secret("ci", json!({"stringData": {"token": old}})).await;
    let third = world.await_generation("ci", 3).await;
    let said = [&old, &second, &third].map(Digest::of);
    let held = world.api::<SealedSecret>().get("ci").await.unwrap().data[TOKEN].digest();
    assert_eq!(held, Some(said[2]));
    assert_eq!((verifier.present(&world, &old).await, verifier.present(&world, &third).await), (401, 200));
}
