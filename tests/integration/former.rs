//! Owners that have left.

use std::process::Command;

use serde_json::json;
use tokenry::crd::{ApiToken, api_token::RevocationReason};

use crate::harness::{
    World,
    clock::Held,
    judged::{Judged, token},
};

/// The text about the end of a token of carl, for as long as the token exists.
const LEFT: &str = "its owner user:carl was in spec.formerOwners of the Instance";

impl World {
    /// What `Ready` of a token says, with its reason.
    async fn readiness(&self, name: &str) -> (String, String) {
        let ready = self.condition(name, "Ready").await.unwrap();
        (ready.reason, ready.message)
    }

    /// The output of `tokenry explain` for a GET request with a token.
    fn explained_by_cli(&self, name: &str) -> String {
        let kubeconfig = self.plane.kubeconfig_for(&self.namespace, self.plane.admin_token()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(["explain", name, "--namespace", &self.namespace, "--path", "/topics"]);
        let done = command.env("KUBECONFIG", kubeconfig).output().unwrap();
        String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
    }

    async fn is_revoked(&self, name: &str) -> bool {
        self.token(name).await.status.unwrap().revocation.is_some()
    }
}

#[tokio::test]
async fn whoever_has_left_owns_nothing_from_then_on_without_a_ceiling_too() {
    let world = World::new("left").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({"tokens": {"onOwnerRemoved": "Suspend"}})).await;
    world.accepts("ServiceAccount", "shared", token(json!({"owner": "user:carl"}))).await;
    let bot = format!("account:{}/shared", world.namespace);
    let acts = json!({"owner": "user:alice", "serviceAccountRef": {"name": "shared"}});
    let left = [("own", json!({"owner": "user:carl"})), ("acting", acts), ("owned", json!({ "owner": bot }))];
    let mut values = Vec::new();
    for (name, spec) in left.clone().into_iter().chain([("other", json!({"owner": "user:alice"}))]) {
        world.accepts("ApiToken", name, token(spec)).await;
        world.await_reason(name, "Active").await;
        values.push(world.await_generation(name, 1).await);
    }
    let await_all = async |answer: u16| {
        for value in &values[..3] {
            world.await_verdict(&verifier, value, answer).await;
        }
        world.await_verdict(&verifier, &values[3], 200).await;
    };
    await_all(200).await;
    world.change("Instance", "eem", json!({"formerOwners": ["user:carl"]})).await.unwrap();
    await_all(403).await;
    for (name, _) in &left {
        world.await_reason(name, "OwnerRemoved").await;
        let (_, message) = world.readiness(name).await;
        assert!(message.contains("user:carl") && message.contains("spec.formerOwners"), "{name}: {message}");
        let told = world.explained_by_cli(name);
        assert!(told.contains("its Instance lists user:carl in spec.formerOwners"), "{name}: {told}");
    }
    world.change("Instance", "eem", json!({"formerOwners": null})).await.unwrap();
    await_all(200).await;

    // The account gets another owner, and then carl leaves for good.
    world.change("ServiceAccount", "shared", json!({"owner": "user:alice"})).await.unwrap();
    let gone = json!({"formerOwners": ["user:carl", "user:dora"], "tokens": {"onOwnerRemoved": "Revoke"}});
    world.change("Instance", "eem", gone).await.unwrap();
    world.await_verdict(&verifier, &values[0], 403).await;
    let ended = async || {
        let token: ApiToken = world.api().get("own").await.unwrap();
        token.status?.revocation.filter(|ended| ended.reason == RevocationReason::OwnerRemoved)
    };
    world.eventually("it has ended", ended).await;
    world.eventually("its Secret is gone", async || world.value("own").await.is_none().then_some(())).await;
    world.accepts("ApiToken", "late", token(json!({"owner": "user:dora"}))).await;
    world.await_reason("late", "OwnerRemoved").await;
    let told = "spec.owner: user:dora is in spec.formerOwners of the Instance; name another owner";
    assert_eq!(world.readiness("late").await.1, told);
    for (name, value) in [("acting", &values[1]), ("owned", &values[2]), ("other", &values[3])] {
        world.await_verdict(&verifier, value, 200).await;
        world.await_reason(name, "Active").await;
        assert!(!world.is_revoked(name).await, "{name}");
    }
    // Whoever comes back gets a new token. The name of the one that left stays.
    let told = world.readiness("own").await.1;
    assert_eq!(told, format!("{LEFT}: refused for ever; make another ApiToken"));
    world.change("Instance", "eem", json!({"formerOwners": null})).await.unwrap();
    world.await_reason("late", "Active").await;
    assert_eq!(world.readiness("own").await.1, told);
    let own: ApiToken = world.api().get("own").await.unwrap();
    assert_eq!(own.status.unwrap().revocation.unwrap().message.as_deref(), Some(LEFT));
    world.await_reason("own", "OwnerRemoved").await;
    assert!(world.is_revoked("own").await);
}

#[tokio::test]
async fn whoever_only_a_group_knew_has_left_by_name() {
    let judged = Judged::new("left-group").await;
    let world = &judged.world;
    let _operator = world.operator(&Held::default()).await;
    let members = json!([{"subject": "group:ops", "role": "viewer"}]);
    world.change("Instance", "eem", json!({"ceiling": "Members", "members": members})).await.unwrap();
    let (carl, dora) = (judged.user("carl", &["ops"]).await, judged.user("dora", &["ops"]).await);
    for user in [&carl, &dora] {
        user.create("ApiToken", &user.name, token(json!({}))).await.unwrap();
        world.await_reason(&user.name, "Active").await;
    }
    world.change("Instance", "eem", json!({"formerOwners": ["user:carl"]})).await.unwrap();
    let token = world.await_reason("carl", "OwnerRemoved").await;
    assert_eq!(token.status.unwrap().revocation.unwrap().reason, RevocationReason::OwnerRemoved);
    assert_eq!(world.readiness("carl").await.1, format!("{LEFT}: refused for ever; make another ApiToken"));
    world.await_reason("dora", "Active").await;
}

#[tokio::test]
async fn whoever_has_left_owns_nothing_behind_accounts_that_own_accounts() {
    let world = World::new("behind").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.accepts("Instance", "eem", json!({"tokens": {"onOwnerRemoved": "Suspend"}})).await;
    let account = |name: &str| format!("account:{}/{name}", world.namespace);
    // The last one is owned by carl, and each other one by the next.
    for (name, owner) in [("a", account("b")), ("b", account("c")), ("c", "user:carl".to_owned())] {
        world.accepts("ServiceAccount", name, token(json!({ "owner": owner }))).await;
    }
    let acts = json!({"owner": "user:alice", "serviceAccountRef": {"name": "a"}});
    let mut values = Vec::new();
    for (name, spec) in [("owned", json!({"owner": account("a")})), ("acting", acts)] {
        world.accepts("ApiToken", name, token(spec)).await;
        world.await_reason(name, "Active").await;
        values.push((name, world.await_generation(name, 1).await));
    }
    let await_all = async |reason: &str, answer: u16| {
        for (name, value) in &values {
            world.await_reason(name, reason).await;
            world.await_verdict(&verifier, value, answer).await;
        }
    };
    world.change("Instance", "eem", json!({"formerOwners": ["user:carl"]})).await.unwrap();
    await_all("OwnerRemoved", 403).await;
    let told = world.explained_by_cli("owned");
    assert!(told.contains("its Instance lists user:carl in spec.formerOwners"), "{told}");
    // An account that neither token names gets another owner.
    world.change("ServiceAccount", "c", json!({"owner": "user:alice"})).await.unwrap();
    await_all("Active", 200).await;
    // Accounts that own each other.
    world.change("ServiceAccount", "c", json!({"owner": account("a")})).await.unwrap();
    world.change("Instance", "eem", json!({"formerOwners": ["user:dora"]})).await.unwrap();
    await_all("Active", 200).await;
    world.change("ServiceAccount", "b", json!({"owner": "user:dora"})).await.unwrap();
    await_all("OwnerRemoved", 403).await;
}
