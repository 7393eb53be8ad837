//! What the verifier answers to callers, over HTTP.

use std::{cell::Cell, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};
use serde_json::json;
use tokenry::token::format;

use crate::harness::{VERIFIER, World, clock::Held, rights::asking, run::Running};

fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

/// A served token, its value, a verifier that knows it, and where it is asked.
async fn served(name: &str) -> (World, Running, String, String) {
    let world = World::new(name).await;
    let clock = Held::default();
    let operator = world.operator(&clock).await;
    let verifier = world.verifier(&clock).await;
    world.accepts("Instance", "eem", json!({"organization": "acme"})).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    let value = world.await_generation("ci", 1).await;
    world.eventually("it is known", async || (verifier.present(&world, &value).await == 200).then_some(())).await;
    operator.stop().await;
    let path = format!("/v1/instances/{}/eem/authorize", world.namespace);
    (world, verifier, value, path)
}

#[tokio::test]
async fn every_place_for_a_credential_is_let_in_with_every_identity_header() {
    let (world, verifier, value, path) = served("places").await;
    let id = format::id(&value).unwrap().to_owned();
    for (header, text) in [
        ("authorization", format!("Bearer {value}")),
        ("authorization", format!("token {value}")),
        ("authorization", format!("API-KEY {value}")),
        ("api-token", value.clone()),
    ] {
        // Whatever a caller says of itself is answered with what is so.
        let asked = headers(&[
            (header, text.as_bytes()),
            ("x-tokenry-subject", b"account:a/root"),
            ("x-forwarded-user", b"root"),
        ]);
        let (status, answer, _) = verifier.ask(&path, asked).await;
        assert_eq!(status, 200, "{header}");
        let subject = format!("account:{}/ci", world.namespace);
        for (name, expected) in [
            ("x-tokenry-subject", subject.as_str()),
            ("x-forwarded-user", &subject),
            ("x-tokenry-token-id", &id),
            ("x-tokenry-organization", "acme"),
            ("x-tokenry-role", ""),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer[name], expected, "{name}");
        }
    }
}

#[tokio::test]
async fn an_instance_says_where_it_takes_credentials_and_no_other_place_counts() {
    let (world, verifier, value, path) = served("credentials").await;
    let places = json!([{"header": "X-Api-Key"}, {"header": "Authorization", "scheme": "AccessToken"}]);
    world.change("Instance", "eem", json!({"api": {"credentials": places}})).await.unwrap();
    let (key, own, bearer) = (value.as_bytes(), format!("accesstoken {value}"), format!("Bearer {value}"));
    let status = async |asked: &[(&'static str, &[u8])]| verifier.ask(&path, headers(asked)).await.0.as_u16();
    world.eventually("it is heard of", async || (status(&[("x-api-key", key)]).await == 200).then_some(())).await;
    assert_eq!(status(&[("authorization", own.as_bytes())]).await, 200);
    assert_eq!(status(&[("authorization", bearer.as_bytes())]).await, 401);
    assert_eq!(status(&[("api-token", key)]).await, 401);
    assert_eq!(status(&[("authorization", bearer.as_bytes()), ("x-api-key", key)]).await, 200, "one is of no concern");
    assert_eq!(status(&[("authorization", own.as_bytes()), ("x-api-key", key)]).await, 401, "in two places");
}

#[tokio::test]
async fn bad_credentials_look_the_same_to_callers_and_differ_in_metrics() {
    let (world, verifier, value, path) = served("bad").await;
    let bearer = |text: &str| format!("Bearer {text}").into_bytes();
    let forged = format::assemble("tkn", format::id(&value).unwrap(), &"A".repeat(43));
    let (good, long) = (bearer(&value), vec![b'a'; 9 * 1024]);
    let forged = bearer(forged.expose());
    let malformed = bearer(&value[..value.len() - 1]);
    let two_in_one = bearer(&format!("{value} {value}"));
    let odd = [b"Bearer ".as_slice(), "tkn_é".as_bytes()].concat();
    let cases = [
        ("Malformed", vec![("authorization", malformed.as_slice())]),
        ("Malformed", vec![("authorization", two_in_one.as_slice())]),
        ("Mismatch", vec![("authorization", forged.as_slice())]),
        ("Oversized", vec![("api-token", long.as_slice())]),
        ("NotAscii", vec![("authorization", odd.as_slice())]),
        ("Repeated", vec![("authorization", good.as_slice()), ("authorization", &good)]),
        ("Several", vec![("authorization", good.as_slice()), ("api-token", value.as_bytes())]),
    ];
    let plain = format!(r#"Bearer realm="tokenry/{}/eem""#, world.namespace);
    for (cause, asked) in cases {
        let (status, answer, body) = verifier.ask(&path, headers(&asked)).await;
        assert_eq!(status, 401, "{cause}");
        assert_eq!(answer["www-authenticate"], format!(r#"{plain}, error="invalid_token""#), "{cause}");
        assert_eq!(body, "{\"error\":\"invalid_token\"}\n", "{cause}");
        let of = format!(r#"instance="{}/eem",protocol="forward-auth",status="401",reason="{cause}""#, world.namespace);
        let line = format!("tokenry_verifier_verdicts_total{{{of}}}");
        let counted = async || verifier.get("/metrics").await.1.contains(&line).then_some(());
        world.eventually(&format!("{line} is counted"), counted).await;
    }
    let (status, answer, _) = verifier.ask(&path, HeaderMap::new()).await;
    assert_eq!((status.as_u16(), answer["www-authenticate"].to_str().unwrap()), (401, &*plain));
}

#[tokio::test]
async fn a_test_of_the_guard_gets_the_challenge_of_its_instance_by_each_way_to_ask_and_whatever_the_endpoint_is() {
    let (world, verifier, value, path) = served("probed").await;
    let nginx = format!("/v1/instances/{}/eem/ingress-nginx", world.namespace);
    let ask = async |target: &str, token: &[u8]| {
        let (url, token) = (format!("https://shop.example.com{target}"), ("api-token", token));
        let forwarded = [("x-forwarded-method", b"GET".as_slice()), ("x-forwarded-uri", target.as_bytes()), token];
        let original = [("x-original-method", b"GET".as_slice()), ("x-original-url", url.as_bytes()), token];
        let mut told = Vec::new();
        for (path, asked) in [(&path, &forwarded[..]), (&nginx, &original), (&format!("{path}{target}"), &[token])] {
            let (status, answer, _) = verifier.ask(path, headers(asked)).await;
            let challenge = answer.get("www-authenticate").map_or("", |value| value.to_str().unwrap());
            told.push((status.as_u16(), challenge.to_owned()));
        }
        told
    };
    let plain = format!(r#"Bearer realm="tokenry/{}/eem""#, world.namespace);
    let (probed, refused) = ((401, plain.clone()), (401, format!(r#"{plain}, error="invalid_token""#)));
    assert_eq!(ask("/orders", value.as_bytes()).await, vec![(200, String::new()); 3]);
    assert_eq!(ask("/orders", b"made-up").await, vec![refused.clone(); 3]);
    for token in [value.as_bytes(), b"made-up"] {
        assert_eq!(ask("/.tokenry/probe?a", token).await, vec![probed.clone(); 3]);
        assert_ne!(ask("/.tokenry//probe", token).await, vec![probed.clone(); 3]);
    }
    let disabled =
        json!({"service": {"name": "shop", "port": 80}, "endpoints": [{"name": "admin", "type": "disabled"}]});
    let open = json!({"unguarded": [{"paths": ["/.tokenry/**"]}], "excluded": [{"paths": ["/.tokenry/**"]}]});
    world.change("Instance", "eem", json!({"manager": disabled, "api": open})).await.unwrap();
    let forbidden = (403, format!(r#"{plain}, error="insufficient_scope""#));
    let heard = async || (ask("/orders", value.as_bytes()).await == vec![forbidden.clone(); 3]).then_some(());
    world.eventually("it is disabled", heard).await;
    for token in [value.as_bytes(), b"made-up"] {
        assert_eq!(ask("/.tokenry/probe", token).await, vec![probed.clone(); 3]);
    }
    let (_, metrics) = verifier.get("/metrics").await;
    assert!(metrics.contains("tokenry_verifier_probes_total 12\n"), "{metrics}");
    assert!(!metrics.contains(r#"reason="Probe""#), "{metrics}");
}

#[tokio::test]
async fn any_method_and_any_path_behind_it_is_judged() {
    let (_world, verifier, value, path) = served("methods").await;
    for method in ["GET", "POST", "DELETE", "OPTIONS", "PROPFIND"] {
        for rest in ["", "/", "/eem/topics?x=y", "/..%2f/%00", "/files/caf%E9/%ff"] {
            let url = format!("http://{}{path}{rest}", verifier.address);
            let request = reqwest::Client::new().request(method.parse().unwrap(), &url);
            assert_eq!(request.header("api-token", &value).send().await.unwrap().status(), 200, "{method} {rest}");
            let request = reqwest::Client::new().request(method.parse().unwrap(), &url);
            assert_eq!(request.send().await.unwrap().status(), 401, "{method} {rest}");
        }
    }
}

#[tokio::test]
async fn a_token_opens_no_other_instance_and_no_instance_that_does_not_exist() {
    let (world, verifier, value, _) = served("other").await;
    world.accepts("Instance", "second", json!({})).await;
    for name in ["second", "none"] {
        let path = format!("/v1/instances/{}/{name}/authorize", world.namespace);
        let asked = headers(&[("api-token", value.as_bytes())]);
        world
            .eventually("it is refused", async || (verifier.ask(&path, asked.clone()).await.0 == 401).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn an_instance_that_no_longer_admits_a_namespace_is_forbidden_to_its_tokens() {
    let (world, verifier, value, _) = served("narrowed").await;
    let nobody = json!({"tokens": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}});
    world.change("Instance", "eem", nobody).await.unwrap();
    let forbidden = async || (verifier.present(&world, &value).await == 403).then_some(());
    world.eventually("it is forbidden", forbidden).await;
}

#[tokio::test]
async fn an_unknown_id_is_waited_for_and_then_refused() {
    let (world, verifier, _, _) = served("unknown").await;
    let unknown = format::assemble("tkn", &"A".repeat(16), &"B".repeat(43));
    assert_eq!(verifier.present(&world, unknown.expose()).await, 401);
    // Asked before it is known, let in once it is: the verifier hears of the record within its second. A busy machine
    // may write the record later than that, and is asked about the next one.
    let token = world.token("ci").await;
    let account = token.status.unwrap().account.unwrap();
    world.accepts("ApiToken", "made", json!({"instanceRef": {"name": "eem"}})).await;
    let tries = Cell::new(0);
    let waits = async || {
        let id = format!("{:016}", tries.replace(tries.get() + 1));
        let early = format::assemble("tkn", &id, &"B".repeat(43));
        let record = json!({
            "generation": 1, "id": id, "sha256": early.digest(), "state": "Recorded",
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2999-01-01T00:00:00Z",
        });
        let told = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let account = json!({"name": account.name, "uid": account.uid});
            let patch = kube::api::Patch::Merge(json!({"status": {"records": [record], "account": account}}));
            world.api::<tokenry::crd::ApiToken>().patch_status("made", &Default::default(), &patch).await.unwrap();
        };
        let (verdict, ()) = tokio::join!(verifier.present(&world, early.expose()), told);
        (verdict == 200).then_some(())
    };
    world.eventually("a value that becomes known within a second is let in", waits).await;
}

#[tokio::test]
async fn the_verifier_may_read_no_secret_and_write_none() {
    let world = World::new("rights").await;
    let secrets: Api<Secret> = Api::namespaced(world.acting_as(VERIFIER), &world.namespace);
    assert!(matches!(secrets.list(&ListParams::default()).await, Err(kube::Error::Api(status)) if status.code == 403));
    for verb in ["get", "list", "watch", "create", "patch", "update", "delete"] {
        let writes = ["create", "patch", "update", "delete"].contains(&verb);
        let tokens = writes.then_some(("apitokens", "tokenry.dev"));
        for resource in [Some(("secrets", "")), tokens].into_iter().flatten() {
            assert!(!world.allows(&asking(VERIFIER, &[]), verb, resource, "").await, "{verb} {resource:?}");
        }
    }
}
