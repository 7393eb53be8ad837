//! Objects that an older release has left, and a newer operator and verifier that go on with them.

use std::fs;

use http::HeaderName;
use serde_json::{Map, Value, json};

use crate::harness::{
    World,
    clock::{Held, hours},
    root,
    run::Running,
};

/// The objects. Their namespace is called `upgraded`.
const LEFT: &str = "tests/charts/objects-0.1.0.yaml";

/// A time soon after the last status.
const SOON: &str = "2026-11-30T01:55:00Z";

/// The value that was shown once and claimed. No Secret has it any more.
const CLAIMED: &str = "tkn_GKMUlwon9Arcklwf_CB4st6CzBTDerYfuJ6sLkvFwazZZnGsoWkJXxUTuIUF3OTfuL";

/// Fields of some tokens that were changed after the tokens were made.
const CHANGED: [&str; 3] = ["active", "regenerate", "revoked"];

/// The object with new uids in place of older ones.
fn with_uids(object: &Value, uids: &[(String, String)]) -> Value {
    let text = uids.iter().fold(object.to_string(), |text, (old, new)| text.replace(old, new));
    serde_json::from_str(&text).unwrap()
}

impl World {
    /// Runs kubectl about an object in this namespace. Returns the object as it is then.
    fn kubectl_about(&self, args: &[&str], object: &Value) -> Value {
        let args = [args, &["--namespace", &self.namespace, "--output", "json", "--filename", "-"]].concat();
        serde_json::from_str(&self.plane.kubectl_with_input(&args, &object.to_string()).unwrap()).unwrap()
    }

    /// Makes the objects here, and then their statuses. The API server gives new uids.
    fn inherit(&self) {
        let text = fs::read_to_string(root().join(LEFT)).unwrap().replace("upgraded", &self.namespace);
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let mut uids = Vec::new();
        for object in &objects {
            let made = self.make(&with_uids(object, &uids));
            let old = object["metadata"]["uid"].as_str().map(str::to_owned);
            uids.extend(old.map(|old| (old, made["metadata"]["uid"].as_str().unwrap().to_owned())));
        }
        for object in objects.iter().filter(|object| object["status"].is_object()) {
            self.report(&with_uids(object, &uids));
        }
    }

    /// Makes an object without its status, under the field manager that made it. A token that was changed later is
    /// changed here too, so it has the same generation.
    fn make(&self, object: &Value) -> Value {
        let is_ours = object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tokenry";
        let verb: &[&str] = match (is_ours, object["kind"] == "ServiceAccount") {
            (true, true) => &["apply", "--server-side", "--field-manager=tokenry"],
            (true, false) => &["create", "--field-manager=tokenry"],
            (false, _) => &["create"],
        };
        let mut first = object.clone();
        first.as_object_mut().unwrap().remove("status");
        let metadata = first["metadata"].as_object_mut().unwrap();
        metadata.remove("uid");
        let generation = metadata.remove("generation");
        let mut changed = Map::new();
        if object["kind"] == "ApiToken" {
            let spec = first["spec"].as_object_mut().unwrap();
            changed.extend(CHANGED.iter().filter_map(|field| spec.remove_entry(*field)));
        }
        let made = self.kubectl_about(verb, &first);
        if generation.as_ref().is_none_or(|generation| made["metadata"]["generation"] == *generation) {
            return made;
        }
        let patch = json!({"spec": changed}).to_string();
        let made = self.kubectl_about(&["patch", "--type=merge", "--patch", &patch], &first);
        assert_eq!(Some(&made["metadata"]["generation"]), generation.as_ref());
        made
    }

    /// Writes a status under the field managers that wrote it.
    fn report(&self, object: &Value) {
        let mut status = object["status"].clone();
        let used = status.as_object_mut().unwrap().remove("use");
        let patch = json!({"status": status}).to_string();
        let as_operator = ["--subresource=status", "--field-manager=tokenry"];
        self.kubectl_about(&[&["patch", "--type=merge", "--patch", &patch], &as_operator[..]].concat(), object);
        if let Some(used) = used {
            let part = json!({
                "apiVersion": object["apiVersion"], "kind": object["kind"],
                "metadata": {"name": object["metadata"]["name"]}, "status": {"use": used},
            });
            let as_verifier = ["--subresource=status", "--field-manager=tokenry-verifier"];
            self.kubectl_about(&[&["apply", "--server-side"], &as_verifier[..]].concat(), &part);
        }
    }

    /// The objects as they are stored. Secrets are complete, with their version.
    fn lasting(&self) -> Vec<Value> {
        let kinds = "instances,serviceaccounts.tokenry.dev,apitokens,accesspolicies,secrets";
        let text = self.plane.kubectl(&["get", kinds, "--namespace", &self.namespace, "-o", "json"]).unwrap();
        let mut list: Value = serde_json::from_str(&text).unwrap();
        let mut objects: Vec<Value> = serde_json::from_value(list["items"].take()).unwrap();
        for object in objects.iter_mut().filter(|object| object["kind"] != "Secret") {
            object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            let status = object["status"].as_object_mut().unwrap();
            // Counters of the last minute, and a time that depends on the uid.
            for field in ["tokens", "lastUsedAt", "rotatesAt"] {
                status.remove(field);
            }
            for condition in status["conditions"].as_array_mut().unwrap() {
                condition.as_object_mut().unwrap().remove("message");
            }
        }
        objects
    }

    /// The status of the answer about a request to read, with this value.
    async fn reads(&self, verifier: &Running, value: &str) -> u16 {
        let path = format!("/v1/instances/{}/eem/authorize", self.namespace);
        let bearer = format!("Bearer {value}");
        let headers =
            [("authorization", &*bearer), ("x-forwarded-method", "GET"), ("x-forwarded-uri", "/orders")].into_iter();
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        verifier.ask(&path, headers.collect()).await.0.as_u16()
    }

    /// Waits until the operator has looked at so many tokens and is at rest.
    async fn looked_at(&self, operator: &Running, tokens: f64) {
        let rests = async || {
            let (_, text) = operator.get("/metrics").await;
            let number = |name: &str| -> Option<f64> {
                let sample = format!(r#"workqueue_{name}{{name="apitoken",controller="apitoken"}} "#);
                text.lines().find_map(|line| line.strip_prefix(&*sample)?.parse().ok())
            };
            let is_idle = number("depth")? == 0.0 && number("unfinished_work_seconds")? == 0.0;
            (is_idle && number("work_duration_seconds_count")? >= tokens).then_some(())
        };
        self.eventually("the operator has looked at each token", rests).await;
    }
}

#[tokio::test]
async fn a_newer_operator_goes_on_with_the_objects_of_0_1_0_and_writes_no_record_and_no_secret() {
    let (world, clock) = (World::new("inherited").await, Held::default());
    clock.move_to(SOON.parse().unwrap());
    world.inherit();
    let before = world.lasting();
    assert_eq!(before.len(), 15, "an Instance, five accounts, five tokens, a policy and three Secrets");
    let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.ready(&operator).await;
    world.looked_at(&operator, 5.0).await;
    assert_eq!(world.lasting(), before);
    for (secret, verdict) in [("ci", 200), ("rotated-token", 200), ("suspended", 401)] {
        let value = world.value(secret).await.unwrap();
        assert_eq!(world.reads(&verifier, &value).await, verdict, "{secret}");
    }
    assert_eq!(world.reads(&verifier, CLAIMED).await, 200);

    // The life of each value goes on.
    let first = world.value("ci").await.unwrap();
    clock.move_by(hours(60 * 24));
    let second = world.await_generation("ci", 2).await;
    let accepted = async || (world.reads(&verifier, &second).await == 200).then_some(());
    world.eventually("the second value is accepted", accepted).await;
    assert_eq!(world.reads(&verifier, &first).await, 200, "it is in its overlap");
    operator.stop().await;
    verifier.stop().await;
}
