//! A real workload on a real node. Its token is rotated, and every Pod of Tokenry is replaced. No call of the workload
//! is refused until the token is revoked. Another workload calls the API through Traefik.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "nobody builds on a test")]
#![allow(clippy::disallowed_methods, reason = "the test reads the real clock")]

mod alerts;
mod audit;
#[path = "../shared/caddy.rs"]
mod caddy;
mod calls;
mod edge;
mod figures;
mod hour;
mod leaks;
mod machine;
mod site;

use std::{collections::BTreeSet, thread, time::Duration};

use calls::{Call, Outcome};
use jiff::Timestamp;
use serde_json::{Value, json};
use site::{SHOP, Site, root};

/// A result whose error is a message for the developer.
type Told<T = ()> = Result<T, String>;

/// The token that the test rotates and revokes.
const ROTATING: &str = "rotating";
/// The token of `examples/token.yaml`. The test does not change it.
const EXPORTER: &str = "exporter";

/// The Caddyfile of the API. It answers requests with the proxy's identity headers, and refuses all others with 403.
const API: &str = r#":8080 {
	route {
		@known header X-Tokenry-Subject account:*
		respond @known "{header.X-Tokenry-Subject} {header.X-Tokenry-Token-Id}"
		respond 403
	}
}
"#;

/// The ConfigMap with the CA of the verifier.
const CA: &str = "tokenry-verifier-tls-ca";

/// Maximum time until both verifiers know of a revocation.
const HEARD: Duration = Duration::from_secs(5);

#[test]
fn a_workload_is_served_until_its_token_is_revoked() {
    let site = Site::of_environment().unwrap_or_else(|wrong| panic!("{wrong}"));
    site.remove().unwrap_or_else(|wrong| panic!("{wrong}"));
    let told = story(&site);
    if told.is_err() {
        println!("{}", site.state());
    }
    let removed = site.remove();
    told.and(removed).unwrap_or_else(|wrong| panic!("{wrong}"));
}

fn story(site: &Site) -> Told {
    let since = site.audit_end();
    let sync = site.kubelet_sync()?;
    site.tell(&format!("the kubelet looks at mounted Secrets every {} s", sync.as_secs()));
    site.make_namespaces()?;
    site.install_traefik_definitions()?;
    site.install(&[])?;
    site.test_release()?;
    site.tell("the chart is installed, and helm test succeeds");
    examples_become_ready(site)?;
    workload_starts(site, sync)?;
    no_call_is_refused(site, sync)?;
    edge::traefik_guards_an_endpoint(site)?;
    revoked_calls_are_refused(site)?;
    site.nothing_was_forbidden(since)?;
    uninstall_leaves_what_runs(site)
}

fn examples_become_ready(site: &Site) -> Told {
    let examples = root().join("examples").display().to_string();
    site.kubectl(&["apply", "--namespace", SHOP, "--filename", &examples])?;
    ready(site, &["instances,apitokens,serviceaccounts.tokenry.dev", "--all"])?;
    site.tell("everything of ours in examples/ is ready");
    Ok(())
}

fn ready(site: &Site, which: &[&str]) -> Told {
    let wait = ["wait", "--for=condition=Ready", "--timeout=1m", "--namespace", SHOP];
    site.kubectl(&[&wait, which].concat()).map(drop)
}

/// Starts the API and the proxy. When they and the tokens are ready, starts the callers.
fn workload_starts(site: &Site, sync: Duration) -> Told {
    serve_api(site)?;
    site.apply(SHOP, &rotating(sync).to_string())?;
    ready(site, &["apitoken", ROTATING])?;
    start_caller(site, ROTATING, "shop-proxy:8080", caddy::SITE)?;
    start_caller(site, EXPORTER, "shop-proxy:8080", caddy::SITE)
}

/// Starts the API, and the proxy in front of it.
fn serve_api(site: &Site) -> Told {
    let map = site.kubectl(&["get", "configmap", CA, "--namespace", site::SYSTEM, "--output=json"])?;
    let mut map: Value = serde_json::from_str(&map).map_err(|error| error.to_string())?;
    map["metadata"] = json!({"name": "tokenry-verifier-ca"});
    site.apply(SHOP, &map.to_string())?;
    let proxy = caddy::caddyfile(&[(caddy::SITE, &format!("http://{}:8080", caddy::SITE))]);
    for (name, caddyfile) in [("shop-manager", API), ("shop-proxy", &*proxy)] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"Caddyfile": caddyfile}});
        site.apply(SHOP, &map.to_string())?;
        site.apply(SHOP, &include_str!("caddy.yaml").replace("$NAME", name))?;
    }
    site.rolled_out(SHOP, "shop-manager")?;
    site.rolled_out(SHOP, "shop-proxy")
}

/// Starts a caller of the API at `host`, with this token, through the proxy at this address.
fn start_caller(site: &Site, token: &str, proxy: &str, host: &str) -> Told {
    let manifest = include_str!("caller.yaml").replace("$NAME", &caller(token)).replace("$SECRET", token);
    site.apply(SHOP, &manifest.replace("$PROXY", proxy).replace("$SITE", host))?;
    site.rolled_out(SHOP, &caller(token))
}

/// The manifest of the rotating token. Its overlap is longer than the kubelet needs to update the mounted file.
fn rotating(sync: Duration) -> Value {
    let (every, overlap) = (sync * 4, sync * 3);
    let rotation =
        json!({"schedule": {"every": format!("{}s", every.as_secs())}, "overlap": format!("{}s", overlap.as_secs())});
    json!({
        "apiVersion": "tokenry.dev/v1alpha1",
        "kind": "ApiToken",
        "metadata": {"name": ROTATING},
        "spec": {"instanceRef": {"name": "shop"}, "expiry": {"after": "2h"}, "rotation": rotation},
    })
}

fn caller(token: &str) -> String {
    format!("caller-{token}")
}

fn account(token: &str) -> String {
    format!("account:{SHOP}/{token}")
}

/// Checks that no call is refused during two rotations, while every Pod of Tokenry is replaced more than once.
fn no_call_is_refused(site: &Site, sync: Duration) -> Told {
    in_use(site, 1, sync)?;
    site.replace_pods("operator")?;
    site.replace_pods("verifier")?;
    // The operator is replaced just before a rotation, so that a new process does the rotation.
    let before = Duration::from_secs(2);
    let (served, due) = site.within(sync * 10, "there is time before the next rotation", || {
        let status = status(site, ROTATING)?;
        let due = time(&status["rotatesAt"])?;
        let served = status["lastGeneration"].as_i64().ok_or("a token without a generation")?;
        Ok((due > Timestamp::now() + before * 2).then_some((served, due)))
    })?;
    sleep_until(due - before);
    site.replace_pods("operator")?;
    in_use(site, served + 1, sync)?;
    site.install(&[
        "operator.podAnnotations.example\\.com/note=new",
        "verifier.podAnnotations.example\\.com/note=new",
    ])?;
    site.tell("helm upgrade has replaced every Pod");
    in_use(site, served + 2, sync)?;
    let over = time(&record(site, served + 1)?["expiresAt"])?;
    site.replace_pods("verifier")?;
    sleep_until(over + sync);
    site.tell(&format!("the overlap of generation {} was over at {over}", served + 1));

    let calls = site.calls(&caller(ROTATING))?;
    calls.were_accepted(&account(ROTATING))?;
    let used = calls.ids();
    site.tell(&format!("{} calls in a row were accepted, by id: {used:?}", calls.len()));
    site.tell(&format!("the longest pause between two calls was {} s", calls.longest_pause().as_secs()));
    let different: BTreeSet<_> = used.iter().map(|(id, _)| *id).collect();
    if different.len() < 3 || different.len() != used.len() {
        return Err(format!("calls should carry three ids or more, one after the other, and carried {used:?}"));
    }
    site.calls(&caller(EXPORTER))?.were_accepted(&account(EXPORTER))
}

/// Waits until at least one call has used a generation.
fn in_use(site: &Site, generation: i64, sync: Duration) -> Told {
    let what = format!("calls are made with generation {generation}");
    let id = site.within(sync * 10, &what, || {
        let calls = site.calls(&caller(ROTATING))?;
        if calls.len() > 0 {
            calls.were_accepted(&account(ROTATING))?;
        }
        let record = record(site, generation).unwrap_or_default();
        let used = calls.ids().into_iter().map(|(id, _)| id).find(|&id| record["id"] == id);
        Ok(used.map(str::to_owned))
    })?;
    site.tell(&format!("{what}, id {id}"));
    Ok(())
}

fn revoked_calls_are_refused(site: &Site) -> Told {
    let revoked = r#"{"spec":{"revoked":true}}"#;
    site.kubectl(&["patch", "apitoken", ROTATING, "--namespace", SHOP, "--type=merge", "--patch", revoked])?;
    site.tell("the token is revoked");
    thread::sleep(HEARD);
    let before = site.calls(&caller(ROTATING))?.len();
    site.eventually("more calls are made", || Ok((site.calls(&caller(ROTATING))?.len() > before + 20).then_some(())))?;
    site.calls(&caller(ROTATING))?.after(before).were_refused(401)?;
    site.calls(&caller(EXPORTER))?.were_accepted(&account(EXPORTER))?;
    site.tell("its calls are refused with 401, those with another token are accepted");
    Ok(())
}

/// Uninstalls the chart: workloads keep their Secrets, and the proxy accepts no call without a verifier. Installs it
/// again: records, Secrets and callers are unchanged.
fn uninstall_leaves_what_runs(site: &Site) -> Told {
    let before = kept(site)?;
    let revoked = site.calls(&caller(ROTATING))?.len();
    site.uninstall()?;
    site.tell("the chart is uninstalled");
    same(&before, &kept(site)?)?;
    let from = site.calls(&caller(EXPORTER))?.len();
    site.eventually("calls are made without a verifier", || {
        Ok((site.calls(&caller(EXPORTER))?.len() > from + 5).then_some(()))
    })?;
    let calls = site.calls(&caller(EXPORTER))?.after(from);
    calls.were_not_accepted()?;
    site.tell(&format!("definitions, tokens, Secrets and callers are as before; calls: {:?}", calls.last()));

    let since = site.audit_end();
    site.install(&[])?;
    let accepted = |call: &Call| call.is_accepted();
    site.eventually("calls are accepted again", || {
        Ok(site.calls(&caller(EXPORTER))?.last().is_some_and(accepted).then_some(()))
    })?;
    same(&before, &kept(site)?)?;
    site.eventually("calls with the revoked token are answered with 401 again", || {
        let calls = site.calls(&caller(ROTATING))?;
        Ok(calls.last().is_some_and(|call| call.outcome == Outcome::Refused(401)).then_some(()))
    })?;
    site.calls(&caller(ROTATING))?.after(revoked).were_not_accepted()?;
    site.tell("installed again: the same value is accepted, and the revoked one is not");
    site.nothing_was_forbidden(since)
}

/// The state that an uninstallation must not change: the CRDs, the records of both tokens, one Secret, and the Pods of
/// the callers.
fn kept(site: &Site) -> Told<[Value; 4]> {
    let containers = |token: &str| {
        let pods = site.get(&["pods", "--namespace", SHOP, "--selector", &format!("app={}", caller(token))])?;
        let pod = &pods["items"][0];
        Ok::<_, String>(json!([pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]]))
    };
    Ok([
        site.definitions()?.into(),
        json!([status(site, EXPORTER)?["records"], status(site, ROTATING)?["records"]]),
        site.get(&["secret", EXPORTER, "--namespace", SHOP])?["metadata"]["resourceVersion"].clone(),
        json!([containers(EXPORTER)?, containers(ROTATING)?]),
    ])
}

fn same(before: &[Value; 4], after: &[Value; 4]) -> Told {
    if before == after {
        Ok(())
    } else {
        Err(format!("the uninstallation changed this state:\n{before:#?}\nto:\n{after:#?}"))
    }
}

fn status(site: &Site, token: &str) -> Told<Value> {
    Ok(site.get(&["apitoken", token, "--namespace", SHOP])?["status"].take())
}

/// The record of a generation of the rotating token.
fn record(site: &Site, generation: i64) -> Told<Value> {
    let status = status(site, ROTATING)?;
    let records = status["records"].as_array().into_iter().flatten();
    let found = records.into_iter().find(|record| record["generation"] == generation).cloned();
    found.ok_or_else(|| format!("status has no generation {generation}: {status}"))
}

fn time(value: &Value) -> Told<Timestamp> {
    let text = value.as_str().ok_or_else(|| format!("{value} is not a time"))?;
    text.parse().map_err(|error| format!("{text} is not a time: {error}"))
}

fn sleep_until(time: Timestamp) {
    let left = time.duration_since(Timestamp::now());
    thread::sleep(Duration::try_from(left).unwrap_or_default());
}
