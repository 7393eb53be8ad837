//! The endpoint and its certificates in the Secret of a token: never without them, and up to date without a new value.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokenry::crd::{Instance, instance::InstanceStatus};

use crate::harness::{World, clock::Held, wire::Wire};

/// Certificates, as far as a reader of PEM looks at them.
const ONE: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
const OTHER: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQI=\n-----END CERTIFICATE-----\n";

/// Longer than the operator waits between two looks at certificates.
const LOOK: jiff::SignedDuration = jiff::SignedDuration::from_mins(6);

fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "manager"},
        "spec": {"selector": {"app": "eem"}, "ports": [{"port": 443}]}})
}

fn tls(name: &str, ca: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name},
        "stringData": {"tls.crt": ONE, "tls.key": "the key", "ca.crt": ca}})
}

/// An external endpoint with this host, and with certificates from the Secret `admin-tls`.
fn exposed(host: &str) -> Value {
    let ca = json!({"secretName": "admin-tls"});
    let endpoint = json!({"name": "admin", "host": host, "ingress": {"tls": {}}, "ca": ca, "allowUnguarded": true});
    json!({"manager": {"service": {"name": "manager"}, "endpoints": [endpoint]}})
}

fn ours(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

impl World {
    /// Applies all objects by one command, in this order.
    fn apply(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        self.plane.kubectl_with_input(&["apply", "--namespace", &self.namespace, "-f", "-"], &list).unwrap();
    }

    async fn holds(&self, secret: &str, key: &str, text: Option<&str>) {
        let what = format!("{key} of Secret {secret} is {text:?}");
        self.eventually(&what, async || (self.key(secret, key).await.as_deref() == text).then_some(())).await;
    }

    /// Waits until the Instance `eem` says this about its current spec, and hands back the message and the status.
    async fn told(&self, reason: &str) -> (String, InstanceStatus) {
        self.eventually(&format!("Instance eem says {reason}"), async || {
            let instance = self.api::<Instance>().get("eem").await.unwrap();
            let status = instance.status.filter(|status| status.observed_generation == instance.metadata.generation)?;
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
            (ready.reason == reason).then(|| (ready.message.clone(), status.clone()))
        })
        .await
    }

    async fn replace_ca(&self, name: &str, ca: &str) {
        let patch = Patch::Merge(json!({"stringData": {"ca.crt": ca}}));
        self.api::<Secret>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// All texts of `endpoint` and `ca.crt` in Secrets of tokens, as a reader with a watch sees them.
async fn reader(world: &World) -> Arc<Mutex<Vec<(String, String)>>> {
    let (seen, secrets) = (Arc::new(Mutex::new(Vec::new())), world.api::<Secret>());
    let noted = seen.clone();
    let watch = WatchParams::default().fields("type=tokenry.dev/api-token");
    let mut events = secrets.watch(&watch, "0").await.unwrap().boxed();
    tokio::spawn(async move {
        while let Some(Ok(event)) = events.next().await {
            let (WatchEvent::Added(secret) | WatchEvent::Modified(secret)) = event else { continue };
            let data = secret.data.unwrap_or_default();
            let of = |key: &str| data.get(key).map(|ByteString(text)| String::from_utf8(text.clone()).unwrap());
            let texts = ["endpoint", "ca.crt"].map(|key| of(key).unwrap_or_else(|| format!("no {key}")));
            noted.lock().unwrap().push(texts.into());
        }
    });
    seen
}

#[tokio::test]
async fn no_reader_sees_a_secret_without_its_endpoint_where_all_is_applied_at_once() {
    let world = World::new("at-once").await;
    let _operator = world.operator(&Held::default()).await;
    let seen = reader(&world).await;
    let token = |name: &str| ours("ApiToken", name, json!({"instanceRef": {"name": "eem"}}));
    let names = ["a", "b", "c", "d"];
    let instance = ours("Instance", "eem", exposed("a.example.com"));
    world.apply(&[token("a"), token("b"), instance, token("c"), service(), token("d"), tls("admin-tls", ONE)]);
    for name in names {
        world.await_generation(name, 1).await;
        world.await_reason(name, "Active").await;
    }
    // An Instance that changes in the same command as a token is created.
    world.apply(&[ours("Instance", "eem", exposed("b.example.com")), token("e")]);
    world.await_generation("e", 1).await;
    for name in names {
        world.holds(name, "endpoint", Some("https://b.example.com")).await;
    }
    let watched = async || (seen.lock().unwrap().len() > 2 * names.len()).then_some(());
    world.eventually("the reader has seen every change", watched).await;
    let pair = |host: &str| (format!("https://{host}.example.com"), ONE.to_owned());
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.iter().filter(|texts| **texts == pair("a")).count(), names.len(), "{seen:?}");
    assert_eq!(seen.iter().filter(|texts| **texts == pair("b")).count(), names.len() + 1, "{seen:?}");
    assert_eq!(seen.len(), 2 * names.len() + 1, "{seen:?}");
}

#[tokio::test]
async fn a_token_waits_for_an_endpoint_that_cannot_exist_yet_and_says_where_to_look() {
    let world = World::new("waits").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    world.apply(&[
        ours("Instance", "eem", exposed("a.example.com")),
        ours("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})),
    ]);
    world.told("ServiceMissing").await;
    world.await_reason("ci", "EndpointAwaited").await;
    let said = async |type_: &str| world.condition("ci", type_).await.map(|said| (said.status, said.message));
    let message = format!(
        "no value is published before the endpoint of Instance {}/eem is known; see its condition EndpointsReady",
        world.namespace
    );
    assert_eq!(said("Reconciling").await, Some(("True".into(), message)));
    assert_eq!((said("Stalled").await, said("Accepted").await.unwrap().0), (None, "True".into()));
    assert_eq!((world.value("ci").await, world.token("ci").await.status.unwrap().last_generation), (None, None));

    world.apply(&[service()]);
    let (message, status) = world.told("CaMissing").await;
    let told = "spec.manager.endpoints[admin].ca.secretName: there is no Secret admin-tls in this namespace; create it, \
        or name another";
    assert_eq!((&*message, status.endpoints.len(), status.trust.len()), (told, 1, 0));
    world.await_reason("ci", "EndpointAwaited").await;
    // A token with certificates of its own waits for none.
    let data = json!({"data": {"ca.crt": OTHER}});
    world.accepts("ApiToken", "own", json!({"instanceRef": {"name": "eem"}, "secret": data})).await;
    world.await_generation("own", 1).await;
    assert_eq!(world.value("ci").await, None);

    world.apply(&[tls("admin-tls", ONE)]);
    clock.move_by(LOOK);
    world.await_generation("ci", 1).await;
    assert_eq!(world.key("ci", "ca.crt").await.as_deref(), Some(ONE));
    assert_eq!(world.key("own", "ca.crt").await.as_deref(), Some(OTHER));
    let kept = world.told("Accepted").await.1.trust;
    assert!(!serde_json::to_string(&kept).unwrap().contains("key"), "{kept:?}");
}

#[tokio::test]
async fn an_operator_that_has_not_heard_of_the_endpoint_yet_publishes_nothing() {
    let world = World::new("unheard").await;
    world.apply(&[service(), tls("admin-tls", ONE), ours("Instance", "eem", json!({}))]);
    let wire = Wire::new(world.plane.client_for(&world.identities.operator)).await;
    let _operator = world.operator_by(wire.client(), &Held::default()).await;
    world.told("Accepted").await;
    wire.mute(Some("instances"));
    world.apply(&[
        ours("Instance", "eem", exposed("a.example.com")),
        ours("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})),
    ]);
    let looked = async || {
        let here = |event: &controlplane::AuditEvent| event.namespace == world.namespace && event.verb == "get";
        world.audited().iter().any(|event| here(event) && event.resource == "instances").then_some(())
    };
    world.eventually("the operator looks at the Instance before it mints", looked).await;
    assert_eq!(world.value("ci").await, None);
    wire.mute(None);
    world.await_generation("ci", 1).await;
    assert_eq!(world.key("ci", "endpoint").await.as_deref(), Some("https://a.example.com"));
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(1));
}

#[tokio::test]
async fn endpoint_and_certificates_follow_without_a_new_value() {
    let world = World::new("follows").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    world.apply(&[service(), tls("admin-tls", ONE), ours("Instance", "eem", exposed("a.example.com"))]);
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    let value = world.await_generation("ci", 1).await;
    let records = world.await_reason("ci", "Active").await.status.unwrap().records;

    world.change("Instance", "eem", exposed("b.example.com")).await.unwrap();
    world.holds("ci", "endpoint", Some("https://b.example.com")).await;
    world.replace_ca("admin-tls", OTHER).await;
    clock.move_by(LOOK);
    world.holds("ci", "ca.crt", Some(OTHER)).await;

    // Faults in words, and the last certificates stay.
    for (secret, part) in [
        (json!({"ca.crt": "the key"}), "ca.crt does not hold certificates alone, in PEM form"),
        (json!({"ca.crt": "-".repeat(65 * 1024)}), "ca.crt is longer than 64 KiB"),
    ] {
        let text = secret["ca.crt"].as_str().unwrap();
        world.replace_ca("admin-tls", text).await;
        clock.move_by(LOOK);
        let part = part.to_owned();
        let told = async || world.told("CaUnusable").await.0.contains(&part).then_some(());
        world.eventually(&part, told).await;
    }
    world.api::<Secret>().delete("admin-tls", &DeleteParams::default()).await.unwrap();
    clock.move_by(LOOK);
    let (_, status) = world.told("CaMissing").await;
    assert_eq!((status.trust[0].ca_bundle.as_str(), status.endpoints.len()), (OTHER, 1));
    let opaque = json!({"metadata": {"name": "admin-tls"}, "stringData": {"ca.crt": ONE}});
    let opaque = serde_json::from_value(opaque).unwrap();
    world.api::<Secret>().create(&PostParams::default(), &opaque).await.unwrap();
    clock.move_by(LOOK);
    let (message, _) = world.told("CaUnusable").await;
    assert!(message.contains(r#"Secret admin-tls is of type "Opaque", not "kubernetes.io/tls""#), "{message}");
    assert_eq!(world.key("ci", "ca.crt").await.as_deref(), Some(OTHER));

    let without = json!([{"name": "admin", "host": "b.example.com", "ingress": {"tls": {}}, "allowUnguarded": true}]);
    world.change("Instance", "eem", json!({"manager": {"endpoints": without}})).await.unwrap();
    world.holds("ci", "ca.crt", None).await;
    let token = world.await_reason("ci", "Active").await;
    assert_eq!((token.status.unwrap().records, world.value("ci").await), (records, Some(value)), "nothing was minted");
}

#[tokio::test]
async fn a_renewal_keeps_the_endpoint_that_is_away() {
    let world = World::new("renewal").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    world.apply(&[service(), tls("admin-tls", ONE), ours("Instance", "eem", exposed("a.example.com"))]);
    let data = json!({"client.env": "{{ token }} {{ endpoint }}"});
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "secret": {"data": data}})).await;
    world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;

    let mut away = exposed("b.example.com");
    away["manager"]["service"]["name"] = json!("gone");
    world.change("Instance", "eem", away).await.unwrap();
    let (_, status) = world.told("ServiceMissing").await;
    assert_eq!((status.endpoints, status.trust.len()), (vec![], 1));
    world.accepts("ApiToken", "new", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_reason("new", "EndpointAwaited").await;
    let holds = async |value: &str| {
        let keys = ["endpoint", "client.env", "ca.crt"].map(|key| world.key("ci", key));
        let uri = "https://a.example.com";
        assert_eq!(
            futures::future::join_all(keys).await,
            [uri, &format!("{value} {uri}"), ONE].map(|text| Some(text.into()))
        );
    };
    world.change("ApiToken", "ci", json!({"regenerate": {"id": "leak"}})).await.unwrap();
    holds(&world.await_generation("ci", 2).await).await;
    // A Secret that is lost meanwhile comes back with the same endpoint.
    world.api::<Secret>().delete("ci", &DeleteParams::default()).await.unwrap();
    clock.move_by(LOOK);
    holds(&world.await_generation("ci", 3).await).await;
    assert_eq!(world.value("new").await, None);

    world.change("Instance", "eem", exposed("b.example.com")).await.unwrap();
    world.holds("ci", "endpoint", Some("https://b.example.com")).await;
    world.await_generation("new", 1).await;
}
