//! What those who run it see: its log, its probes and its metrics.

use std::{cell::Cell, time::Duration};

use http::StatusCode;
use k8s_openapi::api::events::v1::Event;
use kube::{Client, api::ListParams};
use serde_json::{Value, json};

use crate::{
    harness::{World, clock::Held, run::Running},
    metrics::Program,
};

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
    /// A client of a user who has the operator's rights as `change` leaves them.
    fn user_with(&self, change: impl Fn(&mut Vec<Value>)) -> Client {
        let user = format!("{}-lacking", self.namespace);
        let of = |name: &str| {
            let text = self.plane.kubectl(&["get", "clusterrole", name, "-o", "json"]).unwrap();
            let role: Value = serde_json::from_str(&text).unwrap();
            role["rules"].as_array().unwrap().clone()
        };
        let mut rules = of("tokenry-operator");
        rules.extend(of("tokenry-operator-cluster"));
        rules.extend(of("scoped"));
        change(&mut rules);
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

    /// Waits until an event `RequestForbidden` about a token has this text.
    async fn awaits_forbidden(&self, name: &str, text: &str) {
        let told = async || {
            let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
            let about = |event: &Event| event.regarding.as_ref().is_some_and(|it| it.name.as_deref() == Some(name));
            let forbidden = |event: &Event| event.reason.as_deref() == Some("RequestForbidden") && about(event);
            let said = |event: &Event| event.note.as_ref().is_some_and(|note| note.contains(text));
            events.iter().any(|event| forbidden(event) && said(event)).then_some(())
        };
        self.eventually(&format!("an event says {text}"), told).await;
    }

    /// Forbids Secrets in this namespace by an admission policy of this name.
    fn forbid_secrets(&self, name: &str) {
        let version = "admissionregistration.k8s.io/v1";
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": self.namespace}});
        let secrets =
            json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]});
        let never = json!({"expression": "false", "message": "no secrets here", "reason": "Forbidden"});
        let policy = json!({"matchConstraints": {"namespaceSelector": here, "resourceRules": [secrets]}, "validations": [never]});
        let binding = json!({"policyName": name, "validationActions": ["Deny"]});
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": policy},
            {"apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": binding},
        ]});
        self.plane.kubectl_with_input(&["apply", "-f", "-"], &objects.to_string()).unwrap();
    }

    /// Waits until an operator says at `/readyz` that this is missing.
    pub(crate) async fn awaits_not_ready(&self, operator: &Running, text: &str) {
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
    let no_status =
        |rules: &mut Vec<Value>| rules.retain(|rule| !rule["resources"].to_string().contains("apitokens/status"));
    let operator = world.operator_by(world.user_with(no_status), &Held::default()).await;
    world.awaits_not_ready(&operator, "update apitokens.tokenry.dev/status").await;
    world.smallest().await;
    let namespace = &world.namespace;
    let text = format!("grant it the verb update on apitokens/status of tokenry.dev in namespace {namespace}; ");
    world.awaits_forbidden("ci", &text).await;
    let (_, metrics) = operator.get("/metrics").await;
    let written = r#"tokenry_writes_total{kind="ApiToken",subresource="status",verb="update",result="forbidden"}"#;
    assert!(metrics.contains(written), "{metrics}");
    let user = format!("{}-lacking", world.namespace);
    world.plane.kubectl(&["delete", "clusterrolebinding,clusterrole", &user]).unwrap();
    world.user_with(|_| ());
    world.ready(&operator).await;
    world.await_reason("ci", "Active").await;
    world.plane.kubectl(&["delete", "clusterrolebinding,clusterrole", &user]).unwrap();
}

#[tokio::test]
async fn a_forbidden_secret_is_told_with_the_role_or_the_policy_to_look_at() {
    let world = World::new("forbidden").await;
    let (user, namespace) = (format!("{}-lacking", world.namespace), &world.namespace);
    let no_create = |rules: &mut Vec<Value>| {
        for rule in rules.iter_mut().filter(|rule| rule["resources"] == json!(["secrets"])) {
            rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != "create");
        }
    };
    let operator = world.operator_by(world.user_with(no_create), &Held::default()).await;
    let missing = format!("missing permissions: create secrets in namespace {namespace}; ");
    world.awaits_not_ready(&operator, &missing).await;
    world.smallest().await;
    let text = format!("grant it the verb create on secrets in namespace {namespace}; look at its ClusterRole");
    world.awaits_forbidden("ci", &text).await;
    let failed = async || world.events("ApiToken", "ci").await.contains(&"PublishFailed".to_owned()).then_some(());
    world.eventually("its consequence is an event too", failed).await;
    world.forbid_secrets(&user);
    world.user_with(|_| ());
    world.ready(&operator).await;
    let policy = format!("ValidatingAdmissionPolicy {user} forbids it");
    let tries = Cell::new(0);
    let told = async || {
        // A policy is in force some moments after it is made, and the first token may come before.
        let last = tries.replace(tries.get() + 1);
        let name = |nth| format!("late-{nth}");
        world.accepts("ApiToken", &name(last), json!({"instanceRef": {"name": "eem"}})).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        for name in (0..=last).map(name) {
            if world.events("ApiToken", &name).await.contains(&"RequestForbidden".to_owned()) {
                return Some(name);
            }
        }
        None
    };
    let name = world.eventually("a token meets the policy", told).await;
    world.awaits_forbidden(&name, &policy).await;
    world.plane.kubectl(&["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", &user]).unwrap();
    world.plane.kubectl(&["delete", "clusterrolebinding,clusterrole", &user]).unwrap();
}

#[tokio::test]
async fn an_operator_whose_credentials_are_not_accepted_says_so_and_names_no_permission() {
    let world = World::new("unknown").await;
    let operator = world.operator_by(world.plane.client_for("no.token.ofours"), &Held::default()).await;
    world.awaits_not_ready(&operator, "waiting for the permissions from the API server: unauthenticated").await;
    assert_eq!(operator.get("/healthz").await.0, StatusCode::OK, "a restart would not help");
}

#[tokio::test]
async fn who_is_alive_says_so_of_every_loop() {
    let world = World::new("alive").await;
    let (operator, verifier) = (world.operator(&Held::default()).await, world.verifier(&Held::default()).await);
    for running in [&operator, &verifier] {
        assert_eq!(running.get("/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
    }
}

/// The status and the text of the answer to a request from this local address.
async fn asked_from(local: [u8; 4], request: impl FnOnce(reqwest::Client) -> reqwest::RequestBuilder) -> (u16, String) {
    let client = reqwest::Client::builder().local_address(std::net::IpAddr::from(local)).build().unwrap();
    let answer = request(client).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn the_log_level_changes_while_a_program_runs_and_only_from_within_its_pod() {
    let world = World::new("level").await;
    for name in ["operator", "verifier"] {
        let program = Program::start(&world, name, &["--log-level=info"], &[]).await;
        let url = format!("http://{}/log-level", program.probes);
        let put = async |level: &str, from| asked_from(from, |client| client.put(&url).body(level.to_owned())).await;
        let (within, elsewhere) = ([127, 0, 0, 1], [127, 0, 0, 2]);
        assert_eq!(program.get("/log-level").await, (200, "info\n".into()));
        assert_eq!(put("debug", elsewhere).await.0, 403);
        assert_eq!(asked_from(elsewhere, |client| client.get(&url)).await.0, 403);
        let (status, told) = put("loud", within).await;
        assert!(status == 400 && told.contains("\"loud\" is no level; give off, error, warn"), "{told}");
        assert_eq!(program.get("/log-level").await.1, "info\n");
        assert!(!program.process.log().contains("\"level\":\"DEBUG\""));
        assert_eq!(put("tokenry=info,debug\n", within).await, (200, "tokenry=info,debug\n".into()));
        let debugged = async || program.process.log().contains("\"level\":\"DEBUG\"").then_some(());
        world.eventually("the program logs more", debugged).await;
        assert_eq!(put("off", within).await, (200, "off\n".into()));
        let before = program.process.log();
        assert_eq!(program.get("/healthz").await.0, 200);
        let changes = lines(&before).into_iter().filter(|line| line["message"] == "the log level was changed");
        let changes: Vec<_> = changes.map(|line| (line["before"].clone(), line["now"].clone())).collect();
        assert_eq!(changes, [(json!("info"), json!("tokenry=info,debug"))], "{before}");
    }
}
