//! Token introspection (RFC 7662): real callers with tokens of core ServiceAccounts, which a real API server reviews.

use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use serde_json::{Value, json};

use crate::harness::{
    World,
    clock::Held,
    run::Running,
    wire::{Through, Wire},
};

/// The audience of the tokens of callers.
pub(crate) const AUDIENCE: &str = "tokenry.dev/verifier";

/// A core ServiceAccount with a token for this audience. `None`: the audience of the API server.
pub(crate) fn caller(world: &World, name: &str, audience: Option<&str>) -> String {
    let kubectl = |args: &[&str]| world.plane.kubectl(&[args, &["--namespace", &world.namespace]].concat());
    let _ = kubectl(&["create", "serviceaccount", name]);
    let audience = audience.map(|audience| format!("--audience={audience}"));
    let token =
        kubectl(&[&["create", "token", name][..], &audience.as_deref().into_iter().collect::<Vec<_>>()].concat());
    token.unwrap().trim().to_owned()
}

/// Binds a ClusterRole or Role to a core ServiceAccount.
pub(crate) fn bind(world: &World, name: &str, role: &str) {
    let account = format!("--serviceaccount={}:{name}", world.namespace);
    let args = ["create", "rolebinding", name, role, &account, "--namespace", &world.namespace];
    world.plane.kubectl(&args).unwrap();
}

/// The answer to a question about `token`, with the credential of a caller: its status, its body, and the challenge.
async fn asked(world: &World, verifier: &Running, caller: Option<&str>, token: &str) -> (u16, Value, String) {
    let url = format!("http://{}/v1/instances/{}/eem/introspect", verifier.address, world.namespace);
    let mut request = reqwest::Client::new().post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(caller) = caller {
        request = request.header(AUTHORIZATION, format!("Bearer {caller}"));
    }
    let answer = request.body(format!("token={token}")).send().await.unwrap();
    let challenge = answer.headers().get(WWW_AUTHENTICATE).map_or("", |value| value.to_str().unwrap()).to_owned();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap(), challenge)
}

async fn status(world: &World, verifier: &Running, caller: Option<&str>, token: &str) -> u16 {
    asked(world, verifier, caller, token).await.0
}

#[tokio::test]
async fn a_caller_with_the_right_learns_of_a_token_and_no_other_caller_does() {
    let world = World::new("introspect").await;
    let clock = Held::default();
    let _operator = world.operator(&clock).await;
    let wire = Wire::new(world.plane.client_for(&world.identities.verifier)).await;
    let verifier = world.verifier_by(wire.client(), &clock, |options| options.introspection = true).await;
    world.ready(&verifier).await;
    world.smallest().await;
    let value = world.await_generation("ci", 1).await;
    world.await_reason("ci", "Active").await;

    let (api, keeper) = (caller(&world, "api", Some(AUDIENCE)), caller(&world, "keeper", Some(AUDIENCE)));
    let (status_of, inactive) =
        (async |caller| status(&world, &verifier, caller, &value).await, json!({"active": false}));
    let (unproven, body, challenge) = asked(&world, &verifier, None, &value).await;
    assert_eq!((unproven, &*challenge), (401, r#"Bearer realm="kubernetes""#), "{body}");
    let meant_for_others = caller(&world, "api", None);
    for bad in [&*meant_for_others, "made-up", &value] {
        assert_eq!(status_of(Some(bad)).await, 401);
    }
    let (lacking, body, _) = asked(&world, &verifier, Some(&api), &value).await;
    assert!(lacking == 403 && !body.to_string().contains("active"), "{body}");

    let role = ["create", "role", "introspect-eem", "--verb=introspect", "--resource=instances.tokenry.dev"];
    let named = ["--resource-name=eem", "--namespace", &world.namespace];
    world.plane.kubectl(&[&role[..], &named].concat()).unwrap();
    bind(&world, "api", "--role=introspect-eem");
    bind(&world, "keeper", "--clusterrole=tokenry-admin");
    for caller in [&api, &keeper] {
        world.eventually("the right is seen", async || (status_of(Some(caller)).await == 200).then_some(())).await;
    }
    let (_, body, _) = asked(&world, &verifier, Some(&api), &value).await;
    let token = world.token("ci").await;
    let record = &token.status.as_ref().unwrap().records[0];
    let described = json!({
        "active": true, "iss": "tokenry.dev", "sub": format!("account:{}/ci", world.namespace),
        "aud": format!("tokenry.dev/{}/eem", world.namespace), "username": format!("token:{}/ci", world.namespace),
        "token_type": "Bearer", "jti": record.id, "iat": record.created_at.0.as_second(),
        "exp": record.expires_at.as_ref().unwrap().0.as_second(),
    });
    assert_eq!(body, described);
    assert_eq!(asked(&world, &verifier, Some(&api), "made-up").await.1, inactive);

    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    let revoked = async || (asked(&world, &verifier, Some(&api), &value).await.1 == inactive).then_some(());
    world.eventually("the token is not active", revoked).await;

    world.plane.kubectl(&["delete", "rolebinding", "keeper", "--namespace", &world.namespace]).unwrap();
    world.eventually("the right is gone", async || (status_of(Some(&keeper)).await == 403).then_some(())).await;

    let fresh = caller(&world, "fresh", Some(AUDIENCE));
    bind(&world, "fresh", "--role=introspect-eem");
    wire.let_through(Through::Nothing);
    assert_eq!(status_of(Some(&fresh)).await, 503, "the API server does not answer");
    wire.let_through(Through::All);
    world.eventually("no failure is kept", async || (status_of(Some(&fresh)).await == 200).then_some(())).await;
}

#[tokio::test]
async fn introspection_is_off_by_default() {
    let world = World::new("introspect-off").await;
    let verifier = world.verifier(&Held::default()).await;
    let caller = caller(&world, "api", Some(AUDIENCE));
    let (status, body, _) = asked(&world, &verifier, Some(&caller), "made-up").await;
    assert!(status == 501 && body["error_description"].as_str().unwrap().contains("--introspection"), "{body}");
}
