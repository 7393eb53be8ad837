//! What those who run it see: its log, its probes and its metrics.

use http::StatusCode;
use kube::Client;
use serde_json::{Value, json};

use crate::harness::{World, clock::Held, run::Running};

/// The lines of the log, each one JSON object.
fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[tokio::test]
async fn each_line_of_the_log_is_one_object_from_the_start_on() {
    let world = World::new("log").await;
    let operator = world.operator_process(1);
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    world.accepts("ApiToken", "wrong", json!({"instanceRef": {"name": "eem"}, "expiry": {"after": "9999d"}})).await;
    world.await_reason("wrong", "LifetimeExceeded").await;
    let told = async || {
        let lines = lines(&operator.log());
        let said = |text: &str| lines.iter().any(|line| line["message"].as_str().unwrap().contains(text));
        (said("listening on http://") && said("synced") && said("LifetimeExceeded") | said("maximum")).then_some(lines)
    };
    let lines = world.eventually("the operator has said so", told).await;
    let start = lines.iter().find(|line| line["message"] == "starting").unwrap();
    assert_eq!(start["program"], "operator");
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(start["scope"], format!("namespace {}", world.namespace));
    assert_eq!(start["permissions"], "all");
    assert!(start["waits_for"].as_str().unwrap().contains("ApiToken"), "{start}");
    let of_passes: Vec<_> = lines.iter().filter(|line| line["reason"].is_string()).collect();
    for line in &of_passes {
        assert!(line["reconcileID"].is_u64() && line["namespace"] == world.namespace.as_str(), "{line}");
        assert!(line["span"].is_null() && line["spans"].is_null() && line["object"].is_null(), "{line}");
    }
    let issued = of_passes.iter().find(|line| line["event"] == "Issued").unwrap();
    assert_eq!(
        (&issued["kind"], &issued["name"], &issued["reason"]),
        (&json!("ApiToken"), &json!("ci"), &json!("FirstIssue"))
    );
    let mistake = of_passes.iter().find(|line| line["name"] == "wrong").unwrap();
    assert_eq!((&mistake["level"], &mistake["reason"]), (&json!("INFO"), &json!("LifetimeExceeded")));
}

impl World {
    /// A client of a user who has the operator's rights in this namespace, but for one rule that `without` takes out.
    fn user_without(&self, without: impl Fn(&Value) -> bool) -> Client {
        let user = format!("{}-lacking", self.namespace);
        let of = |name: &str| {
            let text = self.plane.kubectl(&["get", "clusterrole", name, "-o", "json"]).unwrap();
            let role: Value = serde_json::from_str(&text).unwrap();
            role["rules"].as_array().unwrap().clone()
        };
        let mut rules = of("tokenry-operator");
        rules.extend(of("tokenry-operator-namespaces"));
        rules.retain(|rule| !without(rule));
        self.grant(&user, &rules);
        let mut config = self.plane.config(self.plane.admin_token());
        config.auth_info.impersonate = Some(user);
        config.auth_info.impersonate_groups = Some(vec!["system:authenticated".into()]);
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// Grants these rules to a user, beside what was granted before.
    fn grant(&self, user: &str, rules: &[Value]) {
        let meta = json!({"name": user});
        let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user});
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user});
        let version = "rbac.authorization.k8s.io/v1";
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": version, "kind": "ClusterRole", "metadata": meta, "rules": rules},
            {"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": meta, "roleRef": reference, "subjects": [subject]},
        ]});
        self.plane.kubectl_with_input(&["apply", "-f", "-"], &objects.to_string()).unwrap();
    }

    /// Waits until an operator says at `/readyz` that this is missing.
    async fn awaits_not_ready(&self, operator: &Running, text: &str) {
        let told = async || {
            let (status, told) = operator.get("/readyz").await;
            (status == StatusCode::SERVICE_UNAVAILABLE && told.contains(text)).then_some(())
        };
        self.eventually(&format!("/readyz says {text}"), told).await;
    }
}

#[tokio::test]
async fn an_operator_that_may_write_no_status_says_which_right_it_lacks() {
    let world = World::new("lacking").await;
    let is_status = |rule: &Value| rule["resources"].to_string().contains("apitokens/status");
    let operator = world.operator_by(world.user_without(is_status), &Held::default()).await;
    world.awaits_not_ready(&operator, "update apitokens.tokenry.dev/status").await;
    world.smallest().await;
    let told = async || world.events("ApiToken", "ci").await.contains(&"StatusForbidden".to_owned()).then_some(());
    world.eventually("an event says that the status is forbidden", told).await;
    let told = world.plane.kubectl(&["get", "events", "-n", &world.namespace, "-o", "json"]).unwrap();
    assert!(told.contains("grant it the verb update on apitokens/status of tokenry.dev"), "{told}");
    let (_, metrics) = operator.get("/metrics").await;
    let written = r#"tokenry_writes_total{kind="ApiToken",subresource="status",verb="update",result="forbidden"}"#;
    assert!(metrics.contains(written), "{metrics}");
    let user = format!("{}-lacking", world.namespace);
    world.plane.kubectl(&["delete", "clusterrolebinding,clusterrole", &user]).unwrap();
    world.user_without(|_| false);
    world.ready(&operator).await;
    world.await_reason("ci", "Active").await;
    world.plane.kubectl(&["delete", "clusterrolebinding,clusterrole", &user]).unwrap();
}

#[tokio::test]
async fn who_is_alive_says_so_of_every_loop() {
    let world = World::new("alive").await;
    let (operator, verifier) = (world.operator(&Held::default()).await, world.verifier(&Held::default()).await);
    for running in [&operator, &verifier] {
        assert_eq!(running.get("/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
    }
}
