//! Caddy, with the Caddyfile of the examples.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use super::{
    caller::{Request, request},
    cases::FORGED,
    holds, holds_in_all_cases,
    program::{API, CA, INSTANCE, Outage, Places, Program, Proxy, Sees::Unproved, VERIFIER, program},
    setting::{ORGANIZATION, Setting},
};
use crate::{caddy, harness::root};

pub const CADDY: Program = Program {
    name: "caddy",
    command: |places, folder| run(&configuration(places), folder),
    differs: &[],
    without: |outage| match outage {
        Outage::Down | Outage::Untrusted | Outage::Misnamed | Outage::NotSynced => 502,
        Outage::Slow => 504,
        Outage::CutOff => 503,
    },
    waits: false,
    passes_query: true,
    renames: false,
};

/// The same without the last lines of the example, which set the identity headers again.
const BARE: Program = Program {
    name: "caddy-bare",
    command: |places, folder| run(&bare(&configuration(places)), folder),
    differs: &[
        ("named in Connection", Unproved),
        ("spoofed and named in Connection", Unproved),
        ("named in Connection where unguarded", Unproved),
        ("one named in Connection", Unproved),
        ("two named in Connection", Unproved),
        ("named in a second Connection", Unproved),
        ("named beside an upgrade", Unproved),
        ("named beside TE", Unproved),
        ("named beside keep-alive", Unproved),
        // Caddy sends no header without a value.
        ("an upgrade to HTTP/2 at a login", Unproved),
        ("preflight", Unproved),
        ("login", Unproved),
        ("login by POST", Unproved),
        ("login with a password", Unproved),
        ("login with another token", Unproved),
        ("login with a guessed token", Unproved),
        ("spoofed where unguarded", Unproved),
        ("spoofed by underscores where unguarded", Unproved),
        ("X-Forwarded-Uri at a login", Unproved),
        ("a long path", Unproved),
        ("a URL", Unproved),
    ],
    ..CADDY
};

/// The same with the answer to preflight requests, as the documentation adds it.
const WITH_PREFLIGHT: Program = Program {
    name: "caddy-preflight",
    command: |places, folder| run(&with_preflight(&configuration(places)), folder),
    ..CADDY
};

fn configuration(places: &Places) -> String {
    let verifiers: Vec<_> = places.verifiers.iter().map(ToString::to_string).collect();
    caddy::caddyfile(&[
        (caddy::SITE, &format!("http://{}", places.site)),
        (VERIFIER, &verifiers.join(" ")),
        (CA, &places.ca),
        (INSTANCE, &places.instance),
        (API, &places.api.to_string()),
    ])
}

fn bare(configuration: &str) -> String {
    configuration.lines().filter(|line| !line.contains("header_up")).map(|line| format!("{line}\n")).collect()
}

fn with_preflight(configuration: &str) -> String {
    let page = fs::read_to_string(root().join("docs/how-to/cors-and-methods.md")).unwrap();
    let block = page.split("```caddyfile\n").nth(1).unwrap().split("```").next().unwrap();
    let route = "\troute {\n";
    assert_eq!(configuration.matches(route).count(), 1);
    configuration.replace(route, &format!("{route}{block}"))
}

fn run(text: &str, folder: &Path) -> Command {
    let file = folder.join("Caddyfile");
    fs::write(&file, text).unwrap();
    let mut command = program("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_past_caddy() {
    holds(&CADDY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_itself_refuses_a_request_that_a_proxy_took_identity_headers_off() {
    let setting = Setting::new(BARE.name).await;
    let proxy = Proxy::start(&BARE, &setting).await;
    holds_in_all_cases(&BARE, &proxy, &setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_request_is_answered_by_the_proxy_and_any_other_needs_a_token() {
    let setting = Setting::new(WITH_PREFLIGHT.name).await;
    let proxy = Proxy::start(&WITH_PREFLIGHT, &setting).await;
    let ask = async |request: Request| request.line(format!("{ORGANIZATION}: acme")).send(proxy.address).await.unwrap();
    let origin = "Origin: https://console.shop.example.com";
    let asked = "Access-Control-Request-Method: DELETE";
    let preflight = ask(request("OPTIONS", "/orders").lines([origin, asked])).await;
    assert_eq!((preflight.status, setting.backend.all().len()), (204, 0));
    assert_eq!(preflight.header("access-control-allow-origin"), origin.strip_prefix("Origin: "));
    // Any other OPTIONS is as any request.
    setting.world.change("Instance", "shop", json!({"api": {"unguarded": null}})).await.unwrap();
    let is_refused = async || (ask(request("OPTIONS", "/orders").line(origin)).await.status == 401).then_some(());
    setting.world.eventually("a token is needed", is_refused).await;
    let get = || request("GET", "/orders").line(origin);
    assert_eq!(ask(get().line(asked)).await.status, 401);
    assert_eq!(ask(get().bearer(&setting.tokens.admin)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_says_of_itself_is_not_passed_on() {
    let setting = Setting::new("caddy-forged").await;
    let proxy = Proxy::start(&CADDY, &setting).await;
    let others = ["X-Tokenry-Whatever", "x_tokenry.role", "X.Tokenry_Token-Id", "x-forwarded.user", "X_Forwarded_User"];
    let forged = request("GET", "/orders").lines(others.map(|name| format!("{name}: {FORGED}")));
    let forged = forged.bearer(&setting.tokens.admin).line(format!("{ORGANIZATION}: acme"));
    assert_eq!(forged.send(proxy.address).await.unwrap().status, 200);
    let seen = setting.backend.all();
    assert!(seen.len() == 1 && !seen[0].values().flatten().any(|value| value == FORGED), "{seen:?}");
}
