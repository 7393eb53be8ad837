//! Against a real API server: the start among many tokens, and the time until a revocation is in effect.
#![allow(clippy::disallowed_types, reason = "a benchmark stands outside")]

use std::{
    fmt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use controlplane::{ControlPlane, Identities};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, PartialObjectMeta},
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenry::{
    crd::{AccessPolicy, Account, ApiToken, Instance},
    outside::connect,
};

use crate::{
    Outcome,
    load::{Callers, Speech},
    objects::{self, INSTANCE, NAMESPACE, served},
    served::Served,
};

/// Number of concurrent writes.
const CONCURRENCY: usize = 16;
/// Number of starts of each side.
const STARTS: usize = 5;
/// Number of revocations.
const REVOCATIONS: usize = 100;
/// Objects in a page of a list. The verifier lists by pages of this size.
const PAGE: u32 = 500;
/// Maximum ratios.
const START: f64 = 1.3;
const LAG: f64 = 2.0;

/// Times of the verifier, and then of a bare client. All are in ascending order.
pub struct Heard {
    tokens: usize,
    starts: [Vec<Duration>; 2],
    lags: [Vec<Duration>; 2],
}

/// Measures a verifier beside bare clients, among `tokens` tokens.
pub async fn measure(tokens: usize) -> Outcome<Heard> {
    let plane = ControlPlane::start_for_benchmark()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    plane.install_crds(root)?;
    let identities = plane.install_rights(root)?;
    eprintln!("creating {tokens} tokens …");
    create(&plane, &identities, tokens).await?;
    let kubeconfig = plane.kubeconfig_for("verifier", &identities.verifier)?;
    let mut starts = [Vec::new(), Vec::new()];
    for round in 0..STARTS {
        eprintln!("start {} of {STARTS} …", round + 1);
        let began = Instant::now();
        drop(Served::verifier(&kubeconfig).await?);
        starts[0].push(began.elapsed());
        let began = Instant::now();
        let bare = Command::new(std::env::current_exe()?).arg("--bare-list").env("KUBECONFIG", &kubeconfig).status()?;
        starts[1].push(began.elapsed());
        if !bare.success() {
            return Err("the bare list failed".into());
        }
    }
    let verifier = Served::verifier(&kubeconfig).await?;
    let mut lags = revoke(&plane, &verifier).await?;
    starts.iter_mut().chain(&mut lags).for_each(|times| times.sort_unstable());
    Ok(Heard { tokens, starts, lags })
}

/// Creates tokens with records, as an administrator and an operator do.
async fn create(plane: &ControlPlane, identities: &Identities, tokens: usize) -> Outcome {
    let (client, new) = (plane.client(), PostParams::default());
    let home: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::all(client.clone()).create(&new, &home).await?;
    dynamic::<Instance>(&client).create(&new, &plain(objects::instance(false))?).await?;
    let account = json!({
        "apiVersion": "tokenry.dev/v1alpha1", "kind": "ServiceAccount", "metadata": {"name": INSTANCE},
        "spec": {"instanceRef": {"name": INSTANCE}},
    });
    let account = dynamic::<Account>(&client).create(&new, &serde_json::from_value(account)?).await?;
    let (own, operators) = (dynamic::<ApiToken>(&client), dynamic::<ApiToken>(&plane.client_for(&identities.operator)));
    let all = stream::iter((0..tokens).map(Ok));
    all.try_for_each_concurrent(CONCURRENCY, async |n| {
        let mut token = objects::token(n);
        token["spec"] = json!({"instanceRef": {"name": INSTANCE}, "serviceAccountRef": {"name": INSTANCE}});
        token["status"]["account"] = json!({"name": INSTANCE, "uid": account.metadata.uid});
        let status = json!({ "status": token["status"].take() });
        let name = token["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        own.create(&new, &plain(token)?).await?;
        operators.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    })
    .await
}

/// An object as it is created: the API server gives it its uid.
fn plain(mut object: Value) -> Outcome<DynamicObject> {
    object["metadata"] = json!({"name": object["metadata"]["name"]});
    Ok(serde_json::from_value(object)?)
}

fn dynamic<K: Resource<DynamicType = ()>>(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, &ApiResource::erase::<K>(&()))
}

/// Revokes one token after the other. Returns the time until the verifier refuses it, and until a bare watch shows it,
/// both from the beginning of the write.
async fn revoke(plane: &ControlPlane, verifier: &Served) -> Outcome<[Vec<Duration>; 2]> {
    let (client, mut lags) = (plane.client(), [Vec::new(), Vec::new()]);
    let tokens: Api<ApiToken> = Api::namespaced(client.clone(), NAMESPACE);
    let mut seen = watcher(tokens, watcher::Config::default().streaming_lists()).touched_objects().boxed();
    let mut caller = Callers::connect(verifier.address, Speech::Http, 1).await?;
    // The first page of the bare watch has been read once the last token was seen.
    for n in 0..REVOCATIONS {
        let token = objects::token(n);
        let name = token["metadata"]["name"].as_str().ok_or("no name")?;
        let began = Instant::now();
        let write = async {
            let patch = Patch::Merge(json!({"spec": {"revoked": true}}));
            dynamic::<ApiToken>(&client).patch(name, &PatchParams::default(), &patch).await?;
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let refused = async {
            while caller.ask(std::iter::once(served(n)), &["401"]).await?.odd > 0 {}
            Ok(began.elapsed())
        };
        let shown = async {
            while let Some(token) = seen.try_next().await? {
                if token.metadata.name.as_deref() == Some(name) && token.spec.revoked {
                    break;
                }
            }
            Ok(began.elapsed())
        };
        let ((), refused, shown) = tokio::try_join!(write, refused, shown)?;
        // The first one waits for the first list of the bare watch.
        if n > 0 {
            lags[0].push(refused);
            lags[1].push(shown);
        }
    }
    Ok(lags)
}

/// Lists every kind that a verifier reads, and keeps the objects until the end. Runs as a process of its own.
pub async fn list() -> Outcome {
    let client = connect::client().await?;
    let read = tokio::try_join!(
        all::<Instance>(Api::all(client.clone())),
        all::<Account>(Api::all(client.clone())),
        all::<ApiToken>(Api::all(client.clone())),
        all::<AccessPolicy>(Api::all(client.clone())),
        all::<PartialObjectMeta<Namespace>>(Api::all(client)),
    )?;
    std::hint::black_box(read);
    Ok(())
}

async fn all<K: Clone + DeserializeOwned + fmt::Debug>(api: Api<K>) -> Outcome<Vec<K>> {
    let (mut all, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = api.list(&page).await?;
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(all),
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<52}{:>12}{:>12}{:>8}", "", "verifier ms", "bare ms", "ratio")?;
        let quantile = |times: &[Duration], share: f64| {
            let rank = (times.len() as f64 * share).ceil() as usize;
            times.get(rank.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        let start = format!("{} tokens synced", self.tokens);
        for (name, times, share, most) in [
            (start.as_str(), &self.starts, 0.5, START),
            ("a revocation, half of them", &self.lags, 0.5, LAG),
            ("a revocation, 99 of 100", &self.lags, 0.99, LAG),
        ] {
            let [own, bare] = times.each_ref().map(|times| quantile(times, share));
            let missed = if own / bare > most { "!" } else { "" };
            writeln!(f, "{name:<52}{own:>12.1}{bare:>12.1}{:>8.2}{missed}", own / bare)?;
        }
        Ok(())
    }
}
