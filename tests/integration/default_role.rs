//! The role of a token that names none, and the right to leave a role out.

use serde_json::{Value, json};
use tokenry::crd::{ApiToken, api_token::Effective};

use crate::harness::{
    World,
    clock::Held,
    judged::{Judged, User, refused, token},
    run::Running,
};

impl World {
    /// Waits until the token has this effective role, and nothing new to look at.
    async fn await_role(&self, name: &str, role: Option<&str>) -> Effective {
        let look = async || {
            let token: ApiToken = self.api().get(name).await.unwrap();
            let status = token.status.filter(|status| status.observed_generation == token.metadata.generation)?;
            status.effective.filter(|effective| effective.role.as_deref() == role)
        };
        self.eventually(&format!("the effective role of {name} is {role:?}"), look).await
    }

    /// The answer of the verifier, and the role that it tells the API, for a GET request to an Instance.
    async fn answered(&self, verifier: &Running, instance: &str, value: &str) -> (u16, String) {
        let path = format!("/v1/instances/{}/{instance}/authorize", self.namespace);
        let said = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/topics"), ("api-token", value)];
        let named = said.map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()));
        let (status, headers, _) = verifier.ask(&path, named.into_iter().collect()).await;
        let role = headers.get("x-tokenry-role").map(|role| role.to_str().unwrap().to_owned());
        (status.as_u16(), role.unwrap_or_default())
    }

    async fn await_answered(&self, verifier: &Running, (instance, value): (&str, &str), answer: (u16, &str)) {
        let wanted = (answer.0, answer.1.to_owned());
        let asked = async || (self.answered(verifier, instance, value).await == wanted).then_some(());
        self.eventually(&format!("{instance} answers {answer:?}"), asked).await;
    }
}

fn by_roles(default_role: &str) -> Value {
    json!({"api": {"authorization": "Roles"}, "tokens": {"defaultRole": default_role}})
}

#[tokio::test]
async fn a_token_that_names_no_role_has_the_default_role_of_its_own_instance_and_of_no_audience() {
    let world = World::new("default-role").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    for name in ["eem", "other"] {
        world.accepts("Instance", name, by_roles("viewer")).await;
    }
    world.accepts("ApiToken", "ci", token(json!({"audiences": [{"name": "other"}]}))).await;
    let value = world.await_generation("ci", 1).await;
    world.await_role("ci", Some("viewer")).await;
    world.await_answered(&verifier, ("eem", &value), (200, "viewer")).await;
    world.await_answered(&verifier, ("other", &value), (403, "")).await;

    // It follows the Instance without a new value.
    world.change("Instance", "eem", by_roles("contributor")).await.unwrap();
    world.await_role("ci", Some("contributor")).await;
    world.await_answered(&verifier, ("eem", &value), (200, "contributor")).await;
    world.change("Instance", "eem", json!({"tokens": {"defaultRole": null}})).await.unwrap();
    world.await_role("ci", None).await;
    world.await_answered(&verifier, ("eem", &value), (403, "")).await;

    // By a policy alone it has no role, and the API is told none.
    let allow = json!([{"effect": "Allow", "actions": ["*:read"]}]);
    let policy = token(json!({"members": [format!("token:{}/ci", world.namespace)], "statements": allow}));
    world.accepts("AccessPolicy", "readers", policy).await;
    world.await_answered(&verifier, ("eem", &value), (200, "")).await;
    let named = async || {
        let effective = world.token("ci").await.status?.effective?;
        (effective.role.is_none() && effective.policies == ["readers"]).then_some(())
    };
    world.eventually("the policy is named", named).await;

    world.change("Instance", "eem", by_roles("nobody")).await.unwrap();
    let faulty = async || {
        let instance: tokenry::crd::Instance = world.api().get("eem").await.unwrap();
        let conditions = instance.status?.conditions;
        let accepted = conditions.into_iter().find(|said| said.type_ == "Accepted" && said.status == "False")?;
        Some((accepted.reason, accepted.message))
    };
    let (reason, message) = world.eventually("there is no such role", faulty).await;
    assert_eq!(reason, "RoleMissing");
    assert!(message.starts_with("spec.tokens.defaultRole: there is no role nobody; give one of viewer"), "{message}");
    world.await_answered(&verifier, ("eem", &value), (403, "")).await;
}

/// An Instance that lends tokens the role of their owner. Alice is a contributor.
async fn lending(judged: &Judged) {
    let members = json!([{"subject": "user:alice", "role": "contributor"}, {"subject": "group:ops", "role": "viewer"}]);
    let mut spec = by_roles("Owner");
    (spec["ceiling"], spec["members"]) = (json!("Members"), members);
    judged.world.change("Instance", "eem", spec).await.unwrap();
}

#[tokio::test]
async fn a_token_that_its_owner_made_has_the_role_of_its_owner_without_a_right_to_give_one() {
    let judged = Judged::new("lent").await;
    let _operator = judged.world.operator(&Held::default()).await;
    lending(&judged).await;
    let (alice, olga) = (judged.user("alice", &[]).await, judged.user("olga", &["ops"]).await);
    let root = judged.user("root", &["system:masters"]).await;
    let told =
        format!("spec.role: user:alice may not assign roles.tokenry.dev/eem:viewer in namespace {}", alice.home());
    refused(alice.create("ApiToken", "named", token(json!({"role": "viewer"}))).await, &told);
    alice.create("ApiToken", "own", token(json!({}))).await.unwrap();
    judged.world.await_role("own", Some("contributor")).await;
    olga.create("ApiToken", "group", token(json!({}))).await.unwrap();
    judged.world.await_role("group", Some("viewer")).await;

    root.create("ApiToken", "given", token(json!({"owner": "user:alice"}))).await.unwrap();
    let token = judged.world.await_reason("given", "NoPermissions").await;
    let conditions = token.status.unwrap().conditions;
    let ready = conditions.into_iter().find(|said| said.type_ == "Ready").unwrap();
    assert!(ready.message.ends_with("name a role in spec.role"), "{}", ready.message);
    // Neither its owner nor anybody else stamps it again.
    alice.change("ApiToken", "given", json!({"description": "x"})).await.unwrap();
    let forged = json!({"metadata": {"annotations": {"tokenry.dev/created-by": "user:alice"}}});
    let told = "metadata.annotations[tokenry.dev/created-by]: says who made the object, and is not changed";
    refused(alice.patch("ApiToken", "given", forged).await, told);
    judged.world.await_reason("given", "NoPermissions").await;
    judged.world.await_role("given", None).await;

    // It follows the owner.
    let promoted = json!({"members": [{"subject": "user:alice", "role": "admin"}]});
    judged.world.change("Instance", "eem", promoted).await.unwrap();
    judged.world.await_role("own", Some("admin")).await;
}

#[tokio::test]
async fn a_role_gives_way_to_the_default_by_who_may_give_any() {
    let judged = Judged::new("dropped").await;
    let _operator = judged.world.operator(&Held::default()).await;
    lending(&judged).await;
    let alice = judged.user("alice", &[]).await;
    alice.may_on("assign", "roles", "eem:viewer").await;
    alice.create("ApiToken", "ci", token(json!({"role": "viewer"}))).await.unwrap();
    judged.world.await_role("ci", Some("viewer")).await;
    let told = format!("spec.role: user:alice may not assign roles.tokenry.dev/eem:* in namespace {}", alice.home());
    refused(alice.change("ApiToken", "ci", json!({"role": null})).await, &told);
    let whole = async |user: &User<'_>| {
        let mut whole = user.api("ApiToken").get("ci").await.unwrap();
        whole.data["spec"].as_object_mut().unwrap().remove("role");
        user.api("ApiToken").replace("ci", &Default::default(), &whole).await.map_err(crate::harness::message)
    };
    refused(whole(&alice).await, &told);
    alice.may_on("assign", "roles", "eem:*").await;
    whole(&alice).await.unwrap();
    judged.world.await_role("ci", Some("contributor")).await;

    // Its reach is widened by the same right.
    let bob = judged.user("bob", &[]).await;
    let narrow = token(json!({"organizations": {"listed": ["acme"]}}));
    bob.create("ApiToken", "narrow", narrow).await.unwrap();
    let told = format!(
        "spec.organizations, spec.projects: user:bob may not assign roles.tokenry.dev/eem:* in namespace {}",
        bob.home()
    );
    refused(bob.change("ApiToken", "narrow", json!({"organizations": null})).await, &told);
}
