//! The way to the cluster, and the signals that end a process.

use std::time::Duration;

use kube::{Client, Config, config::Kubeconfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::proxy::Proxy;

/// The longest that an answer, or a watch, may be silent: longer than a watch lasts, so that only a dead connection is cut.
const SILENCE: Duration = Duration::from_secs(75);

/// A client of the current context of the kubeconfig, or else of the cluster that this process runs in; through a proxy where kubectl
/// would go through one.
///
/// It retries nothing by itself: a second place that does would double every wait, and repeat a write that was done.
///
/// # Errors
/// There is neither.
pub async fn client() -> Result<Client, String> {
    let mut config = Config::infer()
        .await
        .map_err(|error| format!("no cluster to work on; run in one, or set KUBECONFIG: {error}"))?;
    config.default_retry = false;
    config.read_timeout = Some(SILENCE);
    config.proxy_url = None;
    let proxy = Proxy::before(&config.cluster_url, configured().as_deref(), |name| std::env::var(name).ok())?;
    let client = match proxy {
        Some(proxy) => {
            tracing::info!(%proxy, "the API server is reached through a proxy");
            proxy.client(config)
        }
        None => Client::try_from(config),
    };
    client.map_err(|error| format!("cannot reach the cluster: {error}"))
}

/// The `proxy-url` of the current context's cluster.
fn configured() -> Option<String> {
    let config = Kubeconfig::read().ok()?;
    let current = config.current_context?;
    let context = config.contexts.into_iter().find(|context| context.name == current)?.context?;
    let cluster = config.clusters.into_iter().find(|cluster| cluster.name == context.cluster)?;
    cluster.cluster?.proxy_url
}

/// Cancelled at the first SIGTERM or SIGINT.
///
/// # Errors
/// Signals cannot be listened for.
pub fn stop_on_signal() -> Result<CancellationToken, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        told.cancel();
    });
    Ok(stop)
}
