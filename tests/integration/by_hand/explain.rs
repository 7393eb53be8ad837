//! `explain` for a user that owns a token and may not read its Instance.

use std::net::TcpListener;

use jiff::SignedDuration;
use serde_json::json;
use tokenry::outside::{
    Address, Clock, SystemClock, SystemEntropy,
    issuer::{KeyedCertificate, Period},
};

use super::{hand, secrets, setting};
use crate::{
    certificate::Folder,
    harness::{
        clock::Held,
        judged::{Judged, User},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_instance_gets_the_status_and_the_verdict_of_the_verifier() {
    let (judged, _operator) = setting("unread").await;
    let world = &judged.world;
    world.change("Instance", "eem", json!({"api": {"authorization": "Roles"}})).await.unwrap();
    let spec = json!({"instanceRef": {"name": "eem"}, "role": "viewer", "owner": "user:dora"});
    world.accepts("ApiToken", "ci", spec).await;
    world.await_reason("ci", "Active").await;
    let effective = async || world.token("ci").await.status?.effective?.role;
    world.eventually("the permissions are known", effective).await;
    let verifier = world.verifier(&Held::default()).await;
    let url = format!("http://{}", verifier.address);
    let dora = User::of(&judged, world.acting_as("dora"), "dora");
    let ask = async |args: &[&str]| dora.tokenry(&[&["explain", "ci"], args].concat()).await;
    for (args, told) in [
        (&["--path", "orders"][..], "must begin with /"),
        (&["--method", "FO O"], "must be a method of HTTP, such as GET"),
        (&["--verifier", &url, "--organization", "acme"], "cannot be used with"),
        (&["--project", "blue", "--verifier", &url], "cannot be used with"),
    ] {
        let odd = ask(args).await;
        assert!(odd.failed(2).contains(told), "{odd:?}");
    }
    let unread = ask(&["--path", "/orders"]).await;
    assert!(unread.failed(4).contains("you may not get apitokens.tokenry.dev"), "{unread:?}");

    dora.may(json!([{"apiGroups": ["tokenry.dev"], "resources": ["apitokens"], "verbs": ["get"]}])).await;
    let done = ask(&["--path", "/orders"]).await;
    assert_eq!(done.code, 4, "{done:?}");
    let home = dora.home();
    for text in [
        &format!("√ ApiToken {home}/ci: Active: "),
        "√ status.effective: role viewer; actions *:read; policies none;",
        &format!("‼ Instance {home}/eem: you may not read it"),
    ] {
        assert!(done.out.contains(text), "{text}: {done:?}");
    }
    assert!(done.err.contains(&format!("you may not get instances.tokenry.dev in namespace {home}")), "{done:?}");
    let advice = "an administrator gives you the address of a verifier: with --verifier, you ask it as the owner";
    assert!(done.err.contains(advice) && done.err.contains("grant user:dora --view -n "), "{done:?}");
    let unread = ask(&["--path", "/orders", "--verifier", &url]).await;
    assert_eq!(unread.code, 4, "{unread:?}");
    assert!(unread.err.contains("the value of ci is in Secret ci, which you may not read"), "{unread:?}");

    let secret = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ci"], "verbs": ["get"]}]);
    dora.may(secret).await;
    let permitted = async || Some(ask(&["--path", "/orders", "--verifier", &url]).await).filter(|done| done.code == 0);
    let allowed = world.eventually("the verifier knows the role", permitted).await;
    assert!(allowed.well().ends_with("allowed: 200, says the verifier, effective role viewer\n"), "{allowed:?}");
    let refused = ask(&["--method", "POST", "--path", "/orders", "--verifier", &url]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    let told = "refused: 403, says the verifier: neither the role of the token nor a policy permits this\n";
    assert!(refused.out.ends_with(told), "{refused:?}");
    // An Instance that takes tokens from the header api-token alone.
    let credentials = json!([{"header": "api-token"}]);
    world.change("Instance", "eem", json!({"api": {"credentials": credentials}})).await.unwrap();
    let other =
        async || ask(&["--path", "/orders", "--verifier", &url]).await.out.contains("allowed: 200").then_some(());
    world.eventually("the value is read from the other header", other).await;
    let value = world.value("ci").await.unwrap();
    assert!(![&allowed, &refused].iter().any(|done| done.out.contains(&value) || done.err.contains(&value)));
    let away = ask(&["--path", "/orders", "--verifier", "http://127.0.0.1:1"]).await;
    assert!(away.code == 3 && away.err.contains("http://127.0.0.1:1 does not answer"), "{away:?}");
    let odd = ask(&["--path", "/orders", "--verifier", "localhost"]).await;
    assert!(odd.code == 2 && odd.err.contains("give an address such as"), "{odd:?}");
    // The kernel accepts the connection, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut waits = dora.at_a_terminal(&["explain", "ci", "--verifier", &url]);
    waits.exp_string("waiting for the verifier").unwrap();
    by_https(&judged, &dora).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_verified_for_the_organization_and_the_project_that_a_request_names() {
    let (judged, _operator) = setting("verified").await;
    let api = json!({"organizationFrom": {"header": "X-Organization"}, "projectFrom": {"header": "X-Project"}});
    judged.world.change("Instance", "eem", json!({"organizations": ["north", "south"], "api": api})).await.unwrap();
    let alice = hand(&judged, "alice", secrets()).await;
    let limits = ["--organization", "north", "--project", "blue"];
    let value = alice.tokenry(&[&["create", "ci"], &limits[..]].concat()).await.well().trim().to_owned();
    let verify = async |args: &[&str]| alice.tokenry_reading(&value, &[&["verify"], args].concat()).await;
    let nameless = verify(&[]).await;
    assert!(nameless.code == 1 && nameless.out.contains("next: name the organization in the request: --organization"));
    assert!(verify(&limits).await.well().ends_with("allowed: 200 Allowed\n"));
    let outside = verify(&["--organization", "south", "--project", "blue"]).await;
    assert!(outside.code == 1 && outside.out.contains("refused: 403 OrganizationOutside"), "{outside:?}");
    let outside = verify(&["--organization", "north", "--project", "red"]).await;
    assert!(outside.code == 1 && outside.out.contains("refused: 403 ProjectOutside"), "{outside:?}");
}

/// Asks a verifier by HTTPS, with its CA and the name in its certificate.
async fn by_https(judged: &Judged, dora: &User<'_>) {
    let (world, folder) = (&judged.world, Folder::of(&judged.world));
    let (now, hour) = (SystemClock.now(), SignedDuration::from_hours(1));
    let period = Period { from: now - hour, until: now + hour };
    let authority = KeyedCertificate::authority(&SystemEntropy, period).unwrap();
    folder.write(&authority.sign(&SystemEntropy, &["verifier.example".to_owned()], period).unwrap());
    let ca = folder.trust(&authority.certificate).display().to_string();
    let at = "127.0.0.1:0".parse::<Address>().unwrap().take("--tls-listen").unwrap();
    let url = format!("https://{}", at.address().unwrap());
    let (client, secure) = (world.plane.client_for(&world.identities.verifier), Some((at, folder.files())));
    let verifier = world.verifier_by(client, &Held::default(), |options| options.secure = secure).await;
    world.ready(&verifier).await;
    let ask = async |args: &[&str]| dora.tokenry(&[&["explain", "ci", "--verifier", &url], args].concat()).await;
    let named = ask(&["--verifier-ca", &ca, "--verifier-name", "verifier.example"]).await;
    assert!(named.well().contains("allowed: 200, says the verifier"), "{named:?}");
    let other = ask(&["--verifier-ca", &ca]).await;
    assert!(other.code == 3 && other.err.contains("certificate not valid for name"), "{other:?}");
    let untrusted = ask(&[]).await;
    assert!(untrusted.code == 2 && untrusted.err.contains("give --verifier-ca"), "{untrusted:?}");
    let missing = ask(&["--verifier-ca", "/nowhere/ca.crt"]).await;
    assert!(missing.code == 2 && missing.err.contains("there is no file or folder /nowhere/ca.crt"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_token_has_no_verdict_of_a_verifier_and_says_why() {
    let (judged, _operator) = setting("claimed-unread").await;
    let world = &judged.world;
    let secret = json!({"delivery": "Once"});
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:dora", "secret": secret});
    world.accepts("ApiToken", "ci", spec).await;
    world.eventually("the value is there", async || world.value("ci").await).await;
    let root = judged.stranger("root", &["system:masters"]);
    root.tokenry(&["show", "ci", "--claim", "--yes"]).await.well();
    world.eventually("it is claimed", async || judged.token("ci").await?.status?.claim.map(|_| ())).await;
    let dora = judged.stranger("dora", &[]);
    dora.may(json!([{"apiGroups": ["tokenry.dev"], "resources": ["apitokens"], "verbs": ["get"]}])).await;
    let done = dora.tokenry(&["explain", "ci", "--verifier", "http://127.0.0.1:1"]).await;
    assert!(done.code == 5 && done.err.contains("could judge: it was shown once, and claimed; see"), "{done:?}");
    assert!(done.err.contains("`kubectl tokenry verify` judges a value that you have"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_value_has_no_verdict_of_a_verifier() {
    // No operator runs, so the token has no Secret.
    let judged = Judged::new("unserved").await;
    let world = &judged.world;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}, "owner": "user:dora"})).await;
    let dora = User::of(&judged, world.acting_as("dora"), "dora");
    dora.may(json!([{"apiGroups": ["tokenry.dev"], "resources": ["apitokens"], "verbs": ["get"]}])).await;
    let done = dora.tokenry(&["explain", "ci", "--verifier", "http://127.0.0.1:1"]).await;
    assert_eq!(done.code, 5, "{done:?}");
    let home = dora.home();
    let told = format!("ApiToken {home}/ci shows no value that a verifier could judge: none is published; see");
    assert!(done.err.contains(&told), "{done:?}");
    assert!(done.out.contains(&format!("× ApiToken {home}/ci: no status yet")), "{done:?}");
    // A namespace is in no namespace.
    let erin = User::of(&judged, world.acting_as("erin"), "erin");
    let read = json!(["apitokens", "instances", "serviceaccounts"]);
    erin.may(json!([{"apiGroups": ["tokenry.dev"], "resources": read, "verbs": ["get"]}])).await;
    let done = erin.tokenry(&["explain", "ci"]).await;
    let unread = format!("‼ each AccessPolicy in namespace {home}: you may not read it");
    assert!(done.code == 4 && done.out.contains(&unread), "{done:?}");
    erin.may(json!([{"apiGroups": ["tokenry.dev"], "resources": ["accesspolicies"], "verbs": ["list"]}])).await;
    // The labels of a namespace count for an Instance that selects by them, and for no other one.
    assert_eq!(erin.tokenry(&["explain", "ci"]).await.code, 5);
    let namespaces = json!({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}});
    world.change("Instance", "eem", json!({"tokens": {"namespaces": namespaces}})).await.unwrap();
    let done = erin.tokenry(&["explain", "ci"]).await;
    assert!(done.code == 4 && done.out.contains(&format!("‼ Namespace {home}: you may not read it")), "{done:?}");
    let told = format!("you may not get namespaces in namespace {home}");
    assert!(done.err.contains(&told) && done.err.contains(&format!("--view -n {home} --apply")), "{done:?}");
}
