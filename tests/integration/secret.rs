//! What the Secret looks like, and what becomes of it when someone else changes it.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokenry::{crd::ApiToken, outside::Clock};

use crate::harness::{
    World,
    clock::{Held, hours},
    run::served,
};

impl World {
    /// Waits until a key of a Secret holds this; nothing: until it is gone.
    async fn await_key(&self, secret: &str, key: &str, value: Option<&str>) {
        let what = format!("{key} of Secret {secret} is {value:?}");
        self.eventually(&what, async || (self.key(secret, key).await.as_deref() == value).then_some(())).await;
    }

    async fn secret(&self, name: &str) -> Secret {
        self.api::<Secret>().get(name).await.unwrap()
    }

    /// Waits until the token `ci` serves a generation in this Secret.
    async fn await_generation_in(&self, secret: &str, generation: i64) {
        self.eventually(&format!("generation {generation} is in Secret {secret}"), async || {
            let status = self.token("ci").await.status?;
            let records = tokenry::token::Records::at(&status.records, jiff::Timestamp::UNIX_EPOCH);
            let served = records.served()?;
            let held = tokenry::token::Digest::of(self.value(secret).await?);
            let named = status.secret_name.as_deref() == Some(secret);
            (named && served.generation == generation && served.sha256 == held).then_some(())
        })
        .await;
    }

    /// Asks for another Secret of the token `ci`.
    async fn shape(&self, secret: Value) {
        self.change("ApiToken", "ci", json!({ "secret": secret })).await.unwrap();
    }

    async fn last_generation(&self) -> Option<i64> {
        self.token("ci").await.status.unwrap().last_generation
    }

    /// What is wrong with the token `ci`, once its `Ready` says this reason.
    async fn await_fault(&self, reason: &str) -> String {
        self.await_reason("ci", reason).await;
        self.condition("ci", "Accepted").await.unwrap().message
    }
}

#[tokio::test]
async fn a_secret_has_the_keys_labels_and_annotations_that_are_asked_for() {
    let (world, clock, _operator, _verifier, first) = served("shape").await;
    let asked = json!({
        "labels": {"team": "shop"},
        "annotations": {"example.com/note": "a, b"},
        "data": {"url": "{{ endpoint or 'none' }}\n", "client.json": "{\"user\": {{ name | tojson }}}"},
        "serviceBinding": {"type": "admin"},
    });
    world.shape(asked).await;
    world.await_key("ci", "url", Some("none\n")).await;
    for (key, value) in [
        ("client.json", "{\"user\": \"ci\"}"),
        ("type", "admin"),
        ("provider", "tokenry"),
        ("host", ""),
        ("uri", ""),
        ("token", &first),
    ] {
        assert_eq!(world.key("ci", key).await.as_deref(), Some(value), "{key}");
    }
    let secret = world.secret("ci").await;
    assert_eq!(secret.metadata.labels.unwrap()["team"], "shop");
    assert_eq!(secret.metadata.annotations.unwrap()["example.com/note"], "a, b");
    assert_eq!(world.last_generation().await, Some(1), "nothing was minted");

    // What holds the value comes with a new one.
    world
        .shape(json!({"data": {"client.env": "TOKEN={{ token }}\n", "basic": "{{ ('ci:' ~ token) | b64encode }}"}}))
        .await;
    let second = world.await_generation("ci", 2).await;
    assert_eq!(world.key("ci", "client.env").await, Some(format!("TOKEN={second}\n")));
    assert_eq!(world.key("ci", "basic").await, Some(STANDARD.encode(format!("ci:{second}"))));
    world.await_reason("ci", "Rotating").await;

    // A rotation makes it anew; what others put there stays.
    world.patch_secret("ci", json!({"metadata": {"labels": {"theirs": "a"}}, "stringData": {"theirs": "b"}})).await;
    clock.move_by(hours(61 * 24));
    let third = world.await_generation("ci", 3).await;
    assert_eq!(world.key("ci", "client.env").await, Some(format!("TOKEN={third}\n")));
    world.shape(json!({"labels": null, "annotations": null, "data": null, "serviceBinding": null})).await;
    world.await_key("ci", "client.env", None).await;
    let secret = world.secret("ci").await;
    let keys: Vec<_> = secret.data.unwrap().into_keys().collect();
    assert_eq!(keys, ["endpoint", "organization", "theirs", "token", "token-id"]);
    let labels: Vec<_> = secret.metadata.labels.unwrap().into_keys().collect();
    assert_eq!(labels, ["app.kubernetes.io/managed-by", "theirs", "tokenry.dev/owner-uid"]);
    let annotations: Vec<_> = secret.metadata.annotations.unwrap().into_keys().collect();
    assert_eq!(annotations, ["tokenry.dev/generation", "tokenry.dev/token-id"]);
    assert_eq!((world.value("ci").await, world.last_generation().await), (Some(third), Some(3)));
}

#[tokio::test]
async fn a_template_that_changes_waits_for_the_overlap_and_says_until_when() {
    let (world, clock, _operator, _verifier, _) = served("template").await;
    world.shape(json!({"data": {"a": "{{ token }}"}})).await;
    let second = world.await_generation("ci", 2).await;
    world.await_events("ApiToken", "ci", &["Issued", "Rotated"]).await;
    world.shape(json!({"data": {"a": "2 {{ token }}"}})).await;
    let ends = world.token("ci").await.status.unwrap().records[0].end().unwrap();
    let told = async || (world.token("ci").await.status?.rotates_at?.0 == ends).then_some(());
    world.eventually("status says until when", told).await;
    assert_eq!((world.key("ci", "a").await, world.last_generation().await), (Some(second), Some(2)));
    clock.move_to(ends);
    let third = world.await_generation("ci", 3).await;
    assert_eq!(world.key("ci", "a").await, Some(format!("2 {third}")));
}

#[tokio::test]
async fn a_faulty_template_mints_nothing_and_leaves_what_stands() {
    let (world, _, _operator, verifier, value) = served("faulty").await;
    let records = world.token("ci").await.status.unwrap().records;
    for (template, told) in [
        ("TOKEN={{ token", "spec.secret.data[a]: line 1, column "),
        ("x\n{{ tokn }}", "spec.secret.data[a]: line 2, column 4: there is no tokn; a template can name token, "),
        ("{% for x in token %}{% endfor %}", "spec.secret.data[a]: line 1, column 4: there is nothing to loop over"),
        (
            "{{ 'x' * 1000000000 }}",
            "spec.secret.data[a]: line 1, column 4: is not supported in these templates; use names, ",
        ),
    ] {
        world.shape(json!({"data": {"a": template}})).await;
        let said = async || world.condition("ci", "Accepted").await?.message.starts_with(told).then_some(());
        world.eventually(&format!("it is told: {told}"), said).await;
        world.await_reason("ci", "Invalid").await;
    }
    // Each letter of two bytes becomes ten.
    let growing = format!("{{{{ '{}' | urlencode | urlencode }}}}", "é".repeat(20 * 1024));
    world.shape(json!({"data": null})).await;
    let data: serde_json::Map<_, _> = (0..6).map(|key| (key.to_string(), json!(growing))).collect();
    world.shape(json!({ "data": data })).await;
    let fault = world.await_fault("Invalid").await;
    let rule = "the result of the template is too long; a Secret holds at most 1 MiB, all keys together";
    assert!(fault.starts_with(&format!("spec.secret.data[5]: {rule}")), "{fault}");
    assert_eq!(world.token("ci").await.status.unwrap().records, records);
    assert_eq!((world.value("ci").await.as_ref(), verifier.present(&world, &value).await), (Some(&value), 200));
    world.shape(json!({"data": null})).await;
    world.await_reason("ci", "Active").await;
    assert_eq!(world.last_generation().await, Some(1));
}

#[tokio::test]
async fn a_secret_that_was_emptied_or_holds_what_nobody_knows_gets_a_new_value() {
    let (world, _, _operator, verifier, first) = served("altered").await;
    world.patch_secret("ci", json!({"data": null})).await;
    let second = world.await_generation("ci", 2).await;
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (200, 200));
    world.patch_secret("ci", json!({"stringData": {"token": "tkn_unknown"}})).await;
    let third = world.await_generation("ci", 3).await;
    assert_eq!(verifier.present(&world, "tkn_unknown").await, 401);
    world.shape(json!({"data": {"a": "{{ token }}"}})).await;
    let asked = json!({"regenerate": {"id": "now"}});
    world.change("ApiToken", "ci", asked).await.unwrap();
    let fourth = world.await_generation("ci", 4).await;
    assert_ne!(third, fourth);
    world.patch_secret("ci", json!({"stringData": {"a": "mine"}})).await;
    let fifth = world.await_generation("ci", 5).await;
    assert_eq!(world.key("ci", "a").await, Some(fifth));
    let told = ["Issued", "Regenerated", "SecretRestored", "SecretRestored", "SecretRestored"];
    world.await_events("ApiToken", "ci", &told).await;
}

#[tokio::test]
async fn a_secret_that_was_made_immutable_is_told_until_it_is_deleted() {
    let (world, _, _operator, verifier, value) = served("immutable").await;
    world.patch_secret("ci", json!({"immutable": true})).await;
    let fault = world.await_fault("SecretImmutable").await;
    assert!(fault.starts_with("spec.secret: Secret ci is immutable; delete it"), "{fault}");
    assert_eq!(verifier.present(&world, &value).await, 200, "what stands stays");
    world.api::<Secret>().delete("ci", &DeleteParams::default()).await.unwrap();
    world.await_generation("ci", 2).await;
    world.await_reason("ci", "Rotating").await;
}

#[tokio::test]
async fn a_secret_of_another_type_is_left_alone_and_told() {
    let (world, _, operator, verifier, value) = served("retyped").await;
    operator.stop().await;
    let secret = world.secret("ci").await;
    world.api::<Secret>().delete("ci", &DeleteParams::default()).await.unwrap();
    let metadata = json!({"name": "ci", "ownerReferences": secret.metadata.owner_references});
    let opaque = json!({"metadata": metadata, "stringData": {"token": value}});
    world.create_secret(opaque).await;
    let _operator = world.operator(&Held::default()).await;
    let fault = world.await_fault("SecretForeign").await;
    assert!(fault.starts_with("spec.secret.name: Secret ci is of type \"Opaque\", not "), "{fault}");
    assert_eq!((world.value("ci").await.as_ref(), verifier.present(&world, &value).await), (Some(&value), 200));
    assert_eq!(world.last_generation().await, Some(1));
}

#[tokio::test]
async fn a_secret_gets_another_name_with_a_new_value_and_then_the_old_one_goes() {
    let (world, clock, operator, verifier, first) = served("rename").await;
    world.shape(json!({"name": "second", "labels": {"team": "shop"}})).await;
    world.await_generation_in("second", 2).await;
    world.await_key("ci", "token", None).await;
    let second = world.value("second").await.unwrap();
    assert_eq!((verifier.present(&world, &first).await, verifier.present(&world, &second).await), (200, 200));
    let named = async || {
        let status = world.token("ci").await.status.unwrap();
        (status.other_secret_name.is_none()).then_some((status.secret_name.unwrap(), status.binding.unwrap().name))
    };
    assert_eq!(world.eventually("the old one is forgotten", named).await, ("second".into(), "second".into()));
    assert_eq!(world.secret("second").await.metadata.labels.unwrap()["team"], "shop");
    world.await_events("ApiToken", "ci", &["Issued", "Rotated", "SecretRemoved"]).await;

    // The next name waits for the overlap; until then the value is looked after where it is.
    world.shape(json!({"name": null})).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!((world.value("ci").await, world.value("second").await), (None, Some(second.clone())));
    world.patch_secret("second", json!({"metadata": {"labels": {"team": null}}})).await;
    let mended = async || world.secret("second").await.metadata.labels.unwrap().contains_key("team").then_some(());
    world.eventually("the label is back", mended).await;
    operator.stop().await;
    let _operator = world.operator(&clock).await;
    clock.move_by(hours(25));
    world.await_generation_in("ci", 3).await;
    world.await_key("second", "token", None).await;
    assert_eq!(verifier.present(&world, &second).await, 200, "in its overlap");
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_and_the_old_secret_stays_served() {
    let (world, _, _operator, verifier, value) = served("taken").await;
    world.create_secret(json!({"metadata": {"name": "taken"}, "stringData": {"a": "b"}})).await;
    let theirs = world.secret("taken").await;
    world.shape(json!({"name": "taken"})).await;
    let fault = world.await_fault("SecretForeign").await;
    assert!(fault.starts_with("spec.secret.name: Secret taken exists and does not belong to this token"), "{fault}");
    assert_eq!((world.value("ci").await.as_ref(), verifier.present(&world, &value).await), (Some(&value), 200));
    let status = world.token("ci").await.status.unwrap();
    assert_eq!((status.secret_name.as_deref(), status.last_generation), (Some("ci"), Some(1)));
    assert_eq!(world.secret("taken").await, theirs);
    world.shape(json!({"name": "free"})).await;
    world.await_generation_in("free", 2).await;
    assert_eq!(world.secret("taken").await, theirs);
}

#[tokio::test]
async fn an_immutable_secret_gives_way_to_one_of_another_name() {
    let (world, _, _operator, _verifier, _) = served("way-out").await;
    world.patch_secret("ci", json!({"immutable": true})).await;
    world.await_reason("ci", "SecretImmutable").await;
    world.shape(json!({"name": "second"})).await;
    world.await_generation_in("second", 2).await;
    world.await_key("ci", "token", None).await;
    world.await_reason("ci", "Rotating").await;
}

#[tokio::test]
async fn a_token_that_is_revoked_while_its_secret_is_renamed_leaves_none() {
    let (world, _, _operator, _verifier, _) = served("revoked-rename").await;
    world.shape(json!({"name": "second"})).await;
    world.await_generation_in("second", 2).await;
    world.change("ApiToken", "ci", json!({"revoked": true, "secret": {"name": "third"}})).await.unwrap();
    world.await_reason("ci", "Revoked").await;
    for name in ["ci", "second", "third"] {
        world.await_key(name, "token", None).await;
    }
}

#[tokio::test]
async fn a_key_that_is_made_of_value_and_endpoint_waits_for_the_endpoint() {
    let world = World::new("awaited").await;
    let _operator = world.operator(&Held::default()).await;
    let endpoint = json!({"name": "admin", "type": "internal"});
    let manager = json!({"service": {"name": "manager", "port": 8443}, "endpoints": [endpoint]});
    world.accepts("Instance", "eem", json!({ "manager": manager })).await;
    let data = json!({"client.env": "{{ token }} at {{ endpoint }}"});
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "secret": {"data": data}})).await;
    world.await_reason("ci", "EndpointAwaited").await;
    assert_eq!(world.last_generation().await, None);

    let ports = json!([{"port": 8443}]);
    let service = json!({"metadata": {"name": "manager"}, "spec": {"selector": {"app": "eem"}, "ports": ports}});
    let services = world.api::<k8s_openapi::api::core::v1::Service>();
    services.create(&Default::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    let value = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;
    let made = world.key("ci", "client.env").await.unwrap();
    let uri = world.key("ci", "endpoint").await.unwrap();
    assert!(!uri.is_empty());
    assert_eq!(made, format!("{value} at {uri}"));
    assert_eq!(world.last_generation().await, Some(1));
}

#[tokio::test]
async fn a_token_that_is_filled_to_every_bound_is_issued_shortened_and_revoked() {
    let world = World::new("full").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({})).await;
    let many = |prefix: &str, count: usize, value: &str| -> serde_json::Map<String, Value> {
        (0..count).map(|nth| (format!("{prefix}{nth}"), json!(value))).collect()
    };
    // 32 keys of data come to 256 KiB, of which 28 are made of the value; 32 annotations to 216 KiB.
    let mut data = many("large", 4, &"x".repeat(62 * 1024));
    data.extend(many("made", 28, &format!("{{{{ token }}}}{}", "y".repeat(250))));
    let mut annotations = many(&format!("example.com/{}", "k".repeat(60)), 32, &"z".repeat(4096));
    annotations.insert("example.com/k0".into(), json!("z".repeat(4000)));
    annotations.remove(&format!("example.com/{}0", "k".repeat(60)));
    let spec = json!({
        "instanceRef": {"name": "eem"}, "displayName": "é".repeat(253), "description": "é".repeat(1024),
        "secret": {"data": data, "annotations": annotations, "labels": many("label", 32, &"l".repeat(63))},
    });
    world.accepts("ApiToken", "ci", spec).await;
    // And as many annotations of its own as there may be, to the 256 KiB that the API server takes.
    let own = json!({"metadata": {"annotations": many("own", 256, &"a".repeat(990)), "labels": many("own", 250, &"l".repeat(63))}});
    let params = PatchParams::default();
    world.api::<ApiToken>().patch("ci", &params, &Patch::Merge(own)).await.unwrap();
    let value = world.await_generation("ci", 1).await;
    world.await_verdict(&verifier, &value, 200).await;
    world.change("ApiToken", "ci", json!({"rotation": {"schedule": {"every": "1h"}, "overlap": "30m"}})).await.unwrap();
    for (nth, generation) in (2..10).enumerate() {
        world.change("ApiToken", "ci", json!({"regenerate": {"id": nth.to_string()}})).await.unwrap();
        world.await_generation("ci", generation).await;
        clock.move_by(jiff::SignedDuration::from_mins(10));
    }
    world.change("Instance", "eem", json!({"tokens": {"lifetime": {"default": "2h", "max": "2h"}}})).await.unwrap();
    let bound = clock.now().checked_add(jiff::SignedDuration::from_hours(2)).unwrap();
    let short = async || {
        let status = world.token("ci").await.status?;
        status.records.iter().all(|record| record.expires_at.as_ref().is_some_and(|end| end.0 <= bound)).then_some(())
    };
    world.eventually("every record ends within the new maximum", short).await;
    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    world.await_reason("ci", "Revoked").await;
}
