//! The life of a token.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokenry::{
    crd::{Account, ApiToken},
    outside::Clock,
};

use crate::harness::{
    World,
    clock::{Held, hours},
    run::served,
};

impl World {
    pub async fn create_secret(&self, secret: Value) {
        let secret = serde_json::from_value(secret).unwrap();
        self.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }

    async fn patch_status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.api::<ApiToken>().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

#[tokio::test]
async fn the_smallest_token_is_minted_delivered_accepted_rotated_and_revoked() {
    let (world, clock, operator, verifier, first) = served("smallest").await;
    assert_eq!(verifier.present(&world, &first).await, 200);

    // 90 days, of which two thirds are 60.
    clock.move_by(hours(60 * 24));
    let second = world.await_generation("ci", 2).await;
    assert_ne!(first, second);
    assert_eq!(verifier.present(&world, &second).await, 200);
    assert_eq!(verifier.present(&world, &first).await, 200);
    world.await_reason("ci", "Rotating").await;

    clock.move_by(hours(25));
    world.await_reason("ci", "Active").await;
    assert_eq!(verifier.present(&world, &first).await, 401);
    assert_eq!(verifier.present(&world, &second).await, 200);

    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    world.await_reason("ci", "Revoked").await;
    world.await_verdict(&verifier, &second, 401).await;
    assert_eq!(world.value("ci").await, None);
    operator.stop().await;
}

#[tokio::test]
async fn the_secret_and_the_status_say_what_is_documented() {
    let (world, _, _operator, _verifier, value) = served("says").await;
    let token = world.token("ci").await;
    let status = token.status.clone().unwrap();
    let record = &status.records[0];
    assert!(value.starts_with(&format!("tkn_{}_", record.id)));
    assert_eq!(record.sha256, tokenry::token::Digest::of(&value));
    assert_eq!((status.last_generation, status.secret_name.as_deref()), (Some(1), Some("ci")));
    assert_eq!((status.binding.unwrap().name.as_str(), status.organization.as_deref()), ("ci", Some("eem")));
    assert_eq!(status.expires_at, record.expires_at);
    assert!(status.rotates_at < status.expires_at);
    let conditions = |status: &str| {
        let all = token.status.as_ref().unwrap().conditions.iter();
        all.filter(|c| c.status == status).map(|c| c.type_.clone()).collect::<Vec<_>>()
    };
    assert_eq!(conditions("True"), ["Accepted", "Published", "Ready", "Valid"]);
    assert_eq!(conditions("False"), [""; 0], "what is abnormal is there only while it is true");

    let secret = world.api::<Secret>().get("ci").await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("tokenry.dev/api-token"));
    let keys: Vec<_> = secret.data.unwrap().into_keys().collect();
    assert_eq!(keys, ["endpoint", "organization", "token", "token-id"]);
    assert_eq!(world.key("ci", "token-id").await.as_ref(), Some(&record.id));
    assert_eq!(world.key("ci", "organization").await.as_deref(), Some("eem"));
    assert_eq!(world.key("ci", "endpoint").await.as_deref(), Some(""));
    let annotations = secret.metadata.annotations.unwrap();
    assert_eq!(annotations["tokenry.dev/generation"], "1");
    assert_eq!(annotations["tokenry.dev/token-id"], record.id);
    assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, token.metadata.uid.unwrap());
    world.await_events("ApiToken", "ci", &["Issued"]).await;
}

#[tokio::test]
async fn a_schedule_rotates_with_its_own_times() {
    let world = World::new("schedule").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({"tokens": {"prefix": "eem"}})).await;
    let rotation = json!({"schedule": {"beforeExpiry": "1h"}, "overlap": "30m"});
    let spec = json!({
        "instanceRef": {"name": "eem"}, "expiry": {"after": "10h"}, "rotation": rotation, "secret": {"name": "other"},
    });
    world.accepts("ApiToken", "ci", spec).await;
    world.await_reason("ci", "Active").await;
    let first = world.value("other").await.unwrap();
    assert!(first.starts_with("eem_"));
    clock.move_by(hours(8));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(1));
    clock.move_by(hours(1));
    world.await_reason("ci", "Rotating").await;
    let second = world.value("other").await.unwrap();
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (200, 200));
    clock.move_by(jiff::SignedDuration::from_mins(31));
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (401, 200));
}

/// When the status says that the token will be rotated, by the clock of a wall in Berlin.
async fn rotates_at(world: &World) -> jiff::Zoned {
    let at = world.token("ci").await.status.unwrap().rotates_at.unwrap().0;
    at.in_tz("Europe/Berlin").unwrap()
}

#[tokio::test]
async fn a_calendar_rotates_once_a_day_at_the_time_on_the_wall() {
    let world = World::new("calendar").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    world.accepts("Instance", "eem", json!({})).await;
    let schedule = json!({"cron": "0 3 * * *", "timeZone": "Europe/Berlin"});
    let rotation = json!({"schedule": schedule, "overlap": "1h"});
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "rotation": rotation})).await;
    world.await_reason("ci", "Active").await;
    for generation in 1..=3 {
        let due = rotates_at(&world).await;
        assert_eq!(due.hour(), 3, "{due}");
        assert!(due.minute() < 5, "{due}");
        let left = due.timestamp().duration_since(clock.now());
        assert!(left <= hours(25) && left > hours(0), "{left}");
        clock.move_to(due.timestamp() - jiff::SignedDuration::from_mins(1));
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(generation));
        clock.move_by(jiff::SignedDuration::from_mins(2));
        world.await_generation("ci", generation + 1).await;
        assert_eq!(rotates_at(&world).await.date(), due.date().tomorrow().unwrap());
    }
}

#[tokio::test]
async fn a_rotation_that_is_due_waits_for_a_window_and_for_the_next_if_that_was_missed() {
    let world = World::new("window").await;
    let clock = Held::default();
    let operator = world.operator(&clock).await;
    let opens = (clock.now() + hours(6)).in_tz("Europe/Berlin").unwrap().hour();
    let window = json!({"cron": format!("0 {opens} * * *"), "duration": "2h", "timeZone": "Europe/Berlin"});
    world.accepts("Instance", "eem", json!({"tokens": {"windows": [window]}})).await;
    let rotation = json!({"schedule": {"every": "1h"}, "overlap": "10m"});
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "rotation": rotation})).await;
    world.await_reason("ci", "Active").await;
    let planned = rotates_at(&world).await;
    assert_eq!(planned.hour(), opens, "in the first half of the window");
    clock.move_by(hours(3));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(1), "due, and the window is closed");

    operator.stop().await;
    clock.move_to(planned.timestamp() + hours(3));
    let _operator = world.operator(&clock).await;
    let next = async || (rotates_at(&world).await.date() == planned.date().tomorrow().unwrap()).then_some(());
    world.eventually("the next window is waited for", next).await;
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(1));
    clock
        .move_by(rotates_at(&world).await.timestamp().duration_since(clock.now()) + jiff::SignedDuration::from_secs(1));
    world.await_generation("ci", 2).await;
}

#[tokio::test]
async fn a_new_id_asks_once_for_a_new_value_and_says_when_the_old_one_ends() {
    let (world, clock, operator, verifier, first) = served("regenerate").await;
    let asks = async |id: &str, previous: Value| {
        let regenerate = json!({"id": id, "previous": previous});
        world.change("ApiToken", "ci", json!({"regenerate": null})).await.unwrap();
        world.change("ApiToken", "ci", json!({ "regenerate": regenerate })).await.unwrap();
    };
    asks("leak", json!({"after": "0s"})).await;
    let second = world.await_generation("ci", 2).await;
    world.await_verdict(&verifier, &first, 401).await;
    assert_eq!(verifier.present(&world, &second).await, 200);
    let answer = world.token("ci").await.status.unwrap().regeneration.unwrap();
    assert_eq!((answer.id.as_str(), answer.generation), ("leak", 2));

    // Whatever restarts, and with the id still there.
    operator.stop().await;
    let _operator = world.operator(&clock).await;
    clock.move_by(hours(1));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(2));

    let end = clock.now() + hours(2);
    asks("move", json!({"at": end.to_string()})).await;
    let third = world.await_generation("ci", 3).await;
    assert_eq!((verifier.present(&world, &second).await, verifier.present(&world, &third).await), (200, 200));
    // It waits for no overlap, and the one that runs keeps its end.
    asks("again", json!({"after": "5h"})).await;
    world.await_generation("ci", 4).await;
    let records = world.token("ci").await.status.unwrap().records;
    assert_eq!(records.iter().find(|record| record.generation == 2).unwrap().end(), Some(end));
    clock.move_to(end);
    assert_eq!((verifier.present(&world, &second).await, verifier.present(&world, &third).await), (401, 200));

    // Of a token of its own: events of one reason about one object are one, with the text of the first.
    world.accepts("ApiToken", "late", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_generation("late", 1).await;
    let late = json!({"regenerate": {"id": "late", "previous": {"at": "2020-01-01T00:00:00Z"}}});
    world.change("ApiToken", "late", late).await.unwrap();
    world.await_generation("late", 2).await;
    let told = async || {
        let events = world.plane.kubectl(&["get", "events", "--namespace", &world.namespace, "-o", "json"]).unwrap();
        events.contains("refused at once, as 2020-01-01T00:00:00Z is over").then_some(())
    };
    world.eventually("a date in the past is said to be one", told).await;

    asks("long", json!({"after": "8d"})).await;
    world.await_reason("ci", "Invalid").await;
    let message = world.condition("ci", "Accepted").await.unwrap().message;
    let wrong = "spec.regenerate.previous.after: must not be longer than the Instance's maximum overlap, 7d";
    assert_eq!(message, wrong);
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(4));
}

#[tokio::test]
async fn expiry_is_enforced_whether_or_not_an_operator_lives() {
    let (world, clock, operator, verifier, value) = served("expiry").await;
    operator.stop().await;
    clock.move_by(hours(91 * 24));
    assert_eq!(verifier.present(&world, &value).await, 401);
    let _operator = world.operator(&clock).await;
    let next = world.await_generation("ci", 2).await;
    assert_eq!((verifier.present(&world, &value).await, verifier.present(&world, &next).await), (401, 200));
    let states: Vec<_> =
        world.token("ci").await.status.unwrap().records.iter().map(|r| format!("{:?}", r.state)).collect();
    assert_eq!(states, ["Expired", "Active"]);
}

#[tokio::test]
async fn a_suspended_token_is_refused_and_comes_back() {
    let (world, _, _operator, verifier, value) = served("suspend").await;
    world.change("ApiToken", "ci", json!({"active": false})).await.unwrap();
    world.await_reason("ci", "Suspended").await;
    world.await_verdict(&verifier, &value, 401).await;
    assert_eq!(world.value("ci").await.as_ref(), Some(&value));
    world.change("ApiToken", "ci", json!({"active": true})).await.unwrap();
    world.await_reason("ci", "Active").await;
    world.await_verdict(&verifier, &value, 200).await;

    let account = Patch::Merge(json!({"spec": {"active": false}}));
    world.api::<Account>().patch("ci", &PatchParams::default(), &account).await.unwrap();
    world.await_reason("ci", "AccountSuspended").await;
    world.await_verdict(&verifier, &value, 401).await;
}

#[tokio::test]
async fn deleting_a_token_needs_nobody_alive() {
    let (world, _, operator, verifier, value) = served("delete").await;
    operator.stop().await;
    world.delete("ApiToken", "ci").await;
    world.await_verdict(&verifier, &value, 401).await;
    world.eventually("the Secret is collected", async || world.value("ci").await.is_none().then_some(())).await;
    let accounts = world.api::<Account>();
    let gone = async || accounts.get_opt("ci").await.unwrap().is_none().then_some(());
    world.eventually("the account is collected", gone).await;
}

#[tokio::test]
async fn an_account_that_vanished_ends_its_token_for_ever() {
    let (world, _, _operator, verifier, value) = served("vanish").await;
    world.delete("ServiceAccount", "ci").await;
    world.await_verdict(&verifier, &value, 401).await;
    world.await_reason("ci", "AccountDeleted").await;
    assert_eq!(world.value("ci").await, None);
    world.accepts("ServiceAccount", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    world.await_reason("ci", "AccountDeleted").await;
    assert_eq!(verifier.present(&world, &value).await, 401);
}

#[tokio::test]
async fn two_tokens_share_a_named_account_and_one_that_is_missing_is_waited_for() {
    let world = World::new("shared").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({})).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "serviceAccountRef": {"name": "deployer"}});
    world.accepts("ApiToken", "one", spec.clone()).await;
    world.accepts("ApiToken", "two", spec).await;
    let waiting = world.await_reason("one", "AccountMissing").await;
    assert!(waiting.status.unwrap().records.is_empty());
    world.accepts("ServiceAccount", "deployer", json!({"instanceRef": {"name": "eem"}})).await;
    for name in ["one", "two"] {
        let value = world.await_generation(name, 1).await;
        world.await_verdict(&verifier, &value, 200).await;
        assert_eq!(world.token(name).await.status.unwrap().account.unwrap().name, "deployer");
    }
    let account = world.api::<Account>().get("deployer").await.unwrap();
    assert_eq!(account.metadata.owner_references, None, "no owner reference on what a user applied");
    world.delete("ServiceAccount", "deployer").await;
    world.await_reason("one", "AccountDeleted").await;
    world.await_reason("two", "AccountDeleted").await;
}

#[tokio::test]
async fn another_account_of_the_implied_name_is_never_used() {
    let world = World::new("foreign-account").await;
    let operator = world.operator(&Held::default()).await;
    world.accepts("ServiceAccount", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    world.smallest().await;
    let token = world.await_reason("ci", "AccountForeign").await;
    assert!(token.status.unwrap().records.is_empty());
    let accepted = world.condition("ci", "Accepted").await.unwrap();
    assert_eq!((accepted.status.as_str(), accepted.reason.as_str()), ("False", "AccountForeign"));
    assert!(
        accepted.message.starts_with("spec.serviceAccountRef: serviceaccount.tokenry.dev ci exists"),
        "{}",
        accepted.message
    );
    world.await_events("ApiToken", "ci", &["Rejected"]).await;
    let (_, metrics) = operator.get("/metrics").await;
    let counted = r#"tokenry_decisions_total{kind="ApiToken",reason="AccountForeign"}"#;
    assert!(metrics.contains(counted), "{metrics}");
    world.delete("ServiceAccount", "ci").await;
    world.await_generation("ci", 1).await;
}

#[tokio::test]
async fn an_account_of_another_instance_is_refused() {
    let world = World::new("mismatch").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "eem", json!({})).await;
    world.accepts("ServiceAccount", "deployer", json!({"instanceRef": {"name": "other"}})).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "serviceAccountRef": {"name": "deployer"}});
    world.accepts("ApiToken", "ci", spec).await;
    world.await_reason("ci", "AccountMismatch").await;
}

#[tokio::test]
async fn a_secret_of_someone_else_is_never_touched_and_waited_for() {
    let world = World::new("foreign-secret").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    // One with our label and type as well: whose it is, its owner reference alone says.
    let labels = json!({"app.kubernetes.io/managed-by": "tokenry"});
    let theirs = [
        ("plain", json!({"metadata": {"name": "plain"}, "stringData": {"a": "b"}})),
        (
            "alike",
            json!({"metadata": {"name": "alike", "labels": labels}, "type": "tokenry.dev/api-token", "stringData": {"token": "b"}}),
        ),
    ];
    world.accepts("Instance", "eem", json!({})).await;
    for (name, secret) in theirs {
        world.create_secret(secret).await;
        let before = world.api::<Secret>().get(name).await.unwrap();
        world.accepts("ApiToken", name, json!({"instanceRef": {"name": "eem"}})).await;
        let token = world.await_reason(name, "SecretForeign").await;
        let status = token.status.unwrap();
        assert!(status.records.is_empty() && status.account.is_none(), "nothing is minted or made");
        assert_eq!(world.api::<Secret>().get(name).await.unwrap(), before);
        world.await_events("ApiToken", name, &["Rejected"]).await;
        world.api::<Secret>().delete(name, &DeleteParams::default()).await.unwrap();
        world.await_generation(name, 1).await;
    }
}

#[tokio::test]
async fn a_secret_that_was_deleted_or_altered_is_replaced_by_a_new_generation() {
    let (world, _, _operator, verifier, first) = served("repair").await;
    world.api::<Secret>().delete("ci", &DeleteParams::default()).await.unwrap();
    let second = world.await_generation("ci", 2).await;
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (200, 200));

    world.patch_secret("ci", json!({"stringData": {"token": "chosen by someone"}})).await;
    let third = world.await_generation("ci", 3).await;
    assert_eq!(verifier.present(&world, "chosen by someone").await, 401);
    assert_eq!(verifier.present(&world, &third).await, 200);

    // An earlier value, put back, is not adopted.
    world.patch_secret("ci", json!({ "stringData": { "token": second } })).await;
    let fourth = world.await_generation("ci", 4).await;
    assert_ne!(fourth, second);
    let valid =
        world.token("ci").await.status.unwrap().records.iter().filter(|r| r.is_valid(jiff::Timestamp::now())).count();
    assert!(valid <= 3, "{valid} generations are valid");
    world.await_events("ApiToken", "ci", &["Issued", "SecretRestored", "SecretRestored", "SecretRestored"]).await;
}

#[tokio::test]
async fn everything_but_the_value_is_mended_without_a_new_generation() {
    let (world, _, _operator, _verifier, first) = served("amend").await;
    let patch = json!({"metadata": {"labels": {"tokenry.dev/owner-uid": null, "mine": "kept"}}, "data": {"token-id": null}, "stringData": {"endpoint": "http://evil"}});
    world.patch_secret("ci", patch).await;
    world
        .eventually("the keys are mended", async || {
            (world.key("ci", "endpoint").await.as_deref() == Some("")).then_some(())
        })
        .await;
    assert_eq!(world.value("ci").await, Some(first));
    let id = world.token("ci").await.status.unwrap().records[0].id.clone();
    assert_eq!(world.key("ci", "token-id").await, Some(id));
    let labels = world.api::<Secret>().get("ci").await.unwrap().metadata.labels.unwrap();
    assert!(labels.contains_key("tokenry.dev/owner-uid"));
    assert_eq!(labels["mine"], "kept");
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(1));
}

#[tokio::test]
async fn a_status_that_someone_edited_heals() {
    let (world, _, _operator, verifier, value) = served("edited").await;
    let good = world.token("ci").await.status.unwrap();
    let nonsense = json!({
        "secretName": "elsewhere", "expiresAt": "2999-01-01T00:00:00Z", "rotatesAt": "2999-01-01T00:00:00Z", "conditions": [],
        "binding": {"name": "elsewhere"}, "organization": "other", "observedGeneration": 77,
    });
    world.patch_status("ci", nonsense).await;
    let healed = async || {
        let status = world.token("ci").await.status?;
        let conditions = |status: &tokenry::crd::api_token::ApiTokenStatus| {
            status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect::<Vec<_>>()
        };
        let same = conditions(&status) == conditions(&good)
            && (&status.records, &status.secret_name, &status.expires_at, &status.rotates_at)
                == (&good.records, &good.secret_name, &good.expires_at, &good.rotates_at)
            && (&status.binding, &status.organization, &status.observed_generation)
                == (&good.binding, &good.organization, &good.observed_generation);
        same.then_some(())
    };
    world.eventually("the status is as it was", healed).await;
    assert_eq!(verifier.present(&world, &value).await, 200);

    // A field that the operator leaves out goes as well.
    world.change("ApiToken", "ci", json!({"active": false})).await.unwrap();
    world.await_reason("ci", "Suspended").await;
    world.patch_status("ci", json!({"rotatesAt": "2999-01-01T00:00:00Z"})).await;
    let gone = async || world.token("ci").await.status.unwrap().rotates_at.is_none().then_some(());
    world.eventually("what was added is removed", gone).await;
}

#[tokio::test]
async fn a_token_restored_without_its_status_is_issued_anew_under_a_new_number() {
    let (world, clock, operator, verifier, first) = served("restored").await;
    operator.stop().await;
    let nothing = Patch::Merge(json!({ "status": null }));
    world.api::<ApiToken>().patch_status("ci", &PatchParams::default(), &nothing).await.unwrap();
    world.await_verdict(&verifier, &first, 401).await;
    let _operator = world.operator(&clock).await;
    let second = world.await_generation("ci", 2).await;
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (401, 200));
    let told = async || world.events("ApiToken", "ci").await.contains(&"Reissued".to_owned()).then_some(());
    world.eventually("there is an event", told).await;
}

#[tokio::test]
async fn the_longest_name_works() {
    let world = World::new("long").await;
    let _operator = world.operator(&Held::default()).await;
    let name = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
    assert_eq!(name.len(), 253);
    world.accepts("Instance", &name, json!({})).await;
    world.accepts("ApiToken", &name, json!({ "instanceRef": { "name": name } })).await;
    world.await_generation(&name, 1).await;
    world.await_reason(&name, "Active").await;
    world.await_events("ApiToken", &name, &["Issued"]).await;
}

#[tokio::test]
async fn a_namespace_can_be_deleted_with_everything_in_it() {
    let (world, _, _operator, verifier, value) = served("terminating").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    let gone = async || namespaces.get_opt(&world.namespace).await.unwrap().is_none().then_some(());
    world.eventually("the namespace is gone", gone).await;
    world.await_verdict(&verifier, &value, 401).await;
    // Nothing is told there any more: no Event would be let in.
    let told = world.audited().into_iter().filter(|asked| asked.resource == "events" && asked.verb == "create");
    let refused: Vec<_> = told.filter(|asked| asked.namespace == world.namespace && asked.code == 403).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn an_invalid_change_keeps_what_stands_and_is_honoured_when_it_revokes() {
    let (world, _, _operator, verifier, value) = served("invalid").await;
    world.change("ApiToken", "ci", json!({"expiry": {"after": "366d"}})).await.unwrap();
    world.await_reason("ci", "LifetimeExceeded").await;
    let accepted = world.condition("ci", "Accepted").await.unwrap();
    assert_eq!(accepted.message, "spec.expiry.after: must not be longer than the Instance's maximum, 365d");
    assert_eq!(verifier.present(&world, &value).await, 200);
    assert_eq!(world.value("ci").await.as_ref(), Some(&value));
    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    world.await_reason("ci", "Revoked").await;
    world.await_verdict(&verifier, &value, 401).await;
}

/// Writes into the status of a token what no type of ours can hold.
fn write_status(world: &World, name: &str, fields: &serde_json::Value) {
    let status = json!({ "status": fields }).to_string();
    let patch = ["patch", "apitokens", name, "-n", &world.namespace];
    world
        .plane
        .kubectl(&[&patch[..], &["--subresource", "status", "--type", "merge", "-p", &status]].concat())
        .unwrap();
}

#[tokio::test]
async fn a_use_that_cannot_be_read_harms_nobody_and_an_end_that_cannot_be_is_none_that_comes_back() {
    const BEYOND: &str = "9999-12-31T23:59:59Z";
    let (world, _clock, _operator, verifier, value) = served("use-beyond").await;
    let read = |path: &str| {
        let path = format!("jsonpath={{{path}}}");
        world.plane.kubectl(&["get", "apitokens", "ci", "-n", &world.namespace, "-o", &path]).unwrap()
    };
    let records = read(".status.records");
    let used = json!([{"generation": 1, "firstUsedAt": BEYOND, "lastUsedAt": BEYOND}]);
    write_status(&world, "ci", &json!({ "use": used }));
    // Something is to be done, so that the token is looked at once more.
    world.change("ApiToken", "ci", json!({"secret": {"labels": {"team": "a"}}})).await.unwrap();
    let labelled = async || {
        let labels = world.api::<Secret>().get("ci").await.unwrap().metadata.labels?;
        labels.contains_key("team").then_some(())
    };
    world.eventually("life goes on", labelled).await;
    assert_eq!(read(".status.records"), records);
    assert_eq!(verifier.present(&world, &value).await, 200);
    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    let ended = async || (!read(".status.revocation").is_empty()).then_some(());
    world.eventually("it is ended", ended).await;
    world.await_verdict(&verifier, &value, 401).await;

    write_status(&world, "ci", &json!({"revocation": {"at": BEYOND}, "use": null}));
    let told = async || {
        let reason = read(".status.conditions[?(@.type=='Valid')].reason");
        (reason == "StatusUnreadable").then_some(())
    };
    world.eventually("it is told", told).await;
    assert_eq!(read(".status.lastGeneration"), "1");
    assert_eq!(verifier.present(&world, &value).await, 401);
}

/// A status can be lost again and again, as by whoever may write it: then each value is ended by the next, and none
/// follows at once.
#[tokio::test]
async fn a_status_that_is_lost_twice_makes_for_one_value_in_five_seconds() {
    let (world, clock, _operator, _verifier, _) = served("lost-twice").await;
    let erase = async || {
        let nothing = Patch::Merge(json!({ "status": null }));
        world.api::<ApiToken>().patch_status("ci", &PatchParams::default(), &nothing).await.unwrap();
    };
    let minted = async |generation| {
        world.await_generation("ci", generation).await;
        let records = world.token("ci").await.status.unwrap().records;
        records.into_iter().find(|record| record.generation == generation).unwrap().created_at.0
    };
    clock.move_by(hours(1));
    erase().await;
    let second = minted(2).await;
    erase().await;
    let third = minted(3).await;
    assert!(third.duration_since(second) >= jiff::SignedDuration::from_secs(5), "{second} {third}");
}

#[tokio::test]
async fn two_operators_at_once_are_as_good_as_one() {
    let world = World::new("doubled").await;
    let clock = Held::default();
    let (_one, _two) = (world.operator(&clock).await, world.operator(&clock).await);
    let verifier = world.verifier(&clock).await;
    world.accepts("Instance", "eem", json!({})).await;
    for index in 0..10 {
        world.accepts("ApiToken", &format!("t{index}"), json!({"instanceRef": {"name": "eem"}})).await;
    }
    for index in 0..10 {
        let name = format!("t{index}");
        world.await_reason(&name, "Active").await;
        let value = world.value(&name).await.unwrap();
        assert_eq!(verifier.present(&world, &value).await, 200, "{name}");
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_read_harms_no_other() {
    const BEYOND: &str = "9999-12-31T23:59:59Z";
    let (world, clock, operator, verifier, value) = served("unreadable").await;
    // Anybody who may create a Service may write such a time.
    let fields = json!([{"manager": "m", "operation": "Update", "apiVersion": "v1", "time": BEYOND}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "odd", "managedFields": fields},
        "spec": {"ports": [{"port": 1}]},
    });
    let namespace = world.namespace.clone();
    world.plane.kubectl_with_input(&["create", "-n", &namespace, "-f", "-"], &service.to_string()).unwrap();
    world.accepts("ApiToken", "odd", json!({"instanceRef": {"name": "eem"}})).await;
    let kept = world.await_generation("odd", 1).await;
    let status = json!({"status": {"expiresAt": BEYOND, "rotatesAt": BEYOND}}).to_string();
    let patch =
        ["patch", "apitokens", "odd", "-n", &namespace, "--subresource", "status", "--type", "merge", "-p", &status];
    world.plane.kubectl(&patch).unwrap();
    // What cannot be read is not gone: nothing is minted over it, and what is on record stays.
    let reason =
        ["get", "apitokens", "odd", "-n", &namespace, "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].reason}"];
    let told = async || (world.plane.kubectl(&reason).unwrap() == "StatusUnreadable").then_some(());
    world.eventually("it is told", told).await;
    assert_eq!(world.value("odd").await.as_ref(), Some(&kept));
    let mended = json!({"status": {"expiresAt": null, "rotatesAt": null}}).to_string();
    let patch =
        ["patch", "apitokens", "odd", "-n", &namespace, "--subresource", "status", "--type", "merge", "-p", &mended];
    world.plane.kubectl(&patch).unwrap();
    let token = world.await_reason("odd", "Active").await;
    assert_eq!(token.status.unwrap().last_generation, Some(1));
    world.await_verdict(&verifier, &kept, 200).await;
    assert_eq!(verifier.present(&world, &value).await, 200);
    operator.stop().await;
    let _restarted = world.operator(&clock).await;
    let restarted = world.verifier(&clock).await;
    assert_eq!(restarted.present(&world, &value).await, 200);
    world.accepts("ApiToken", "next", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_generation("next", 1).await;
}

#[tokio::test]
async fn a_fault_is_in_condition_event_log_and_metric_and_goes_with_its_cause() {
    let world = World::new("told").await;
    let operator = world.operator_process(0);
    let spec = json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "10d"}, "rotation": {"overlap": "4d"}});
    world.accepts("ApiToken", "ci", spec).await;
    world.accepts("Instance", "eem", json!({"tokens": {"overlap": {"max": "3d"}}})).await;
    world.await_reason("ci", "OverlapExceeded").await;
    let message = "spec.rotation.overlap: must not be longer than the Instance's maximum, 3d";
    let accepted = world.condition("ci", "Accepted").await.unwrap();
    assert_eq!((accepted.status.as_str(), accepted.message.as_str()), ("False", message));
    let told = async || world.events("ApiToken", "ci").await.contains(&"Rejected".to_owned()).then_some(());
    world.eventually("the event is there", told).await;
    let log = operator.log();
    let line = log.lines().find(|line| line.contains(message)).unwrap_or_else(|| panic!("not in the log:\n{log}"));
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["level"], &line["reason"], &line["name"]),
        (&json!("INFO"), &json!("OverlapExceeded"), &json!("ci"))
    );
    let (_, address) = log.split_once("\"message\":\"probes on ").unwrap();
    let address = address.split('"').next().unwrap();
    let metrics = reqwest::get(format!("{address}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"tokenry_decisions_total{kind="ApiToken",reason="OverlapExceeded"}"#), "{metrics}");
    world.change("Instance", "eem", json!({"tokens": {"overlap": {"max": "5d"}}})).await.unwrap();
    world.await_generation("ci", 1).await;
}

#[tokio::test]
async fn an_account_that_another_manager_has_changed_holds_its_token_to_that_and_says_so() {
    let (world, _, _operator, _verifier, _) = served("held-to").await;
    let roles = json!({"api": {"authorization": "Roles"}});
    world.change("Instance", "eem", roles).await.unwrap();
    world.change("ApiToken", "ci", json!({"role": "admin"})).await.unwrap();
    let role = async |wanted: &str| {
        let account = world.api::<Account>().get("ci").await.unwrap();
        account.spec.role.filter(|role| role.as_str() == wanted).map(drop)
    };
    world.eventually("the account follows", async || role("admin").await).await;
    // A keeper narrows the account, and the operator does not take that back.
    let patch = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ServiceAccount", "spec": {"role": "viewer"}});
    let params = PatchParams::apply("keeper").force();
    world.api::<Account>().patch("ci", &params, &Patch::Apply(patch)).await.unwrap();
    let limited = async || world.condition("ci", "LimitedByAccount").await.filter(|said| said.status == "True");
    let told = world.eventually("it is told", limited).await.message;
    assert!(told.contains("another field manager has set its spec.role"), "{told}");
    world.change("ApiToken", "ci", json!({"description": "look again"})).await.unwrap();
    let effective = async || {
        let said = serde_json::to_value(world.token("ci").await.status?.effective?).unwrap();
        (said["role"] == "viewer").then_some(())
    };
    world.eventually("the token is held to it", effective).await;
    role("viewer").await.unwrap();
    // The keeper gives it up, and it follows its token again.
    let patch = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ServiceAccount"});
    world.api::<Account>().patch("ci", &params, &Patch::Apply(patch)).await.unwrap();
    world.eventually("the account follows again", async || role("admin").await).await;
    let free = async || world.condition("ci", "LimitedByAccount").await.is_none().then_some(());
    world.eventually("it is told no more", free).await;
}

#[tokio::test]
async fn an_owner_reference_that_was_taken_off_is_put_back() {
    let (world, _, _operator, verifier, value) = served("reference").await;
    let bare = json!({"metadata": {"ownerReferences": null}});
    world.patch_secret("ci", bare).await;
    let owned = async || world.api::<Secret>().get("ci").await.unwrap().metadata.owner_references.map(drop);
    world.eventually("the Secret is the token's again", owned).await;
    world.await_reason("ci", "Active").await;
    assert_eq!(verifier.present(&world, &value).await, 200);
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(1));
}
