//! The way to the cluster, and the signals that end a process.

use std::{env, error::Error, io, path::PathBuf, pin::pin, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::proxy::Proxy;

/// The longest that an answer, or a watch, may be silent: longer than a watch lasts, so that only a dead connection is
/// cut.
const SILENCE: Duration = Duration::from_secs(75);

/// Why there is no way to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// Nothing says where there is one.
    #[error("no cluster to work on; run in one, or set KUBECONFIG: {0}")]
    Nowhere(String),
    /// There is a proxy before it that cannot be used.
    #[error("{0}")]
    Proxy(String),
    /// No client can be made.
    #[error("cannot reach the cluster: {0}")]
    NoClient(String),
}

/// A client of the current context of the kubeconfig, or else of the cluster that this process runs in; through a proxy
/// where kubectl would go through one.
///
/// It retries nothing by itself: a second place that does would double every wait, and repeat a write that was done.
///
/// # Errors
/// There is neither.
pub async fn client() -> Result<Client, Unreachable> {
    let nowhere = |error: &dyn Error| Unreachable::Nowhere(error.to_string());
    let known = kubeconfig(&files()).map_err(|error| nowhere(&error))?;
    let configured = known.as_ref().and_then(proxy_url);
    let mut config = match known {
        Some(known) => {
            let config = Config::from_custom_kubeconfig(known, &KubeConfigOptions::default()).await;
            config.map_err(|error| nowhere(&error))?
        }
        None => Config::incluster().map_err(|error| nowhere(&error))?,
    };
    config.default_retry = false;
    config.read_timeout = Some(SILENCE);
    config.proxy_url = None;
    let proxy = Proxy::before(&config.cluster_url, configured.as_deref(), |name| env::var(name).ok());
    let client = match proxy.map_err(Unreachable::Proxy)? {
        Some(proxy) => {
            tracing::info!(%proxy, "the API server is reached through a proxy");
            proxy.client(config)
        }
        None => Client::try_from(config),
    };
    client.map_err(|error| Unreachable::NoClient(error.to_string()))
}

/// The name of the Pod that this process runs in, where it runs in one.
pub fn pod() -> Option<String> {
    env::var("HOSTNAME").ok()
}

/// The files of `KUBECONFIG`, or else the one in the home directory.
fn files() -> Vec<PathBuf> {
    let given = env::var_os("KUBECONFIG").map(|all| env::split_paths(&all).collect::<Vec<_>>()).unwrap_or_default();
    let given: Vec<_> = given.into_iter().filter(|file| !file.as_os_str().is_empty()).collect();
    if given.is_empty() { env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect() } else { given }
}

/// What the files say that are there, as kubectl merges them; nothing where there is none.
fn kubeconfig(files: &[PathBuf]) -> Result<Option<Kubeconfig>, KubeconfigError> {
    let there = files.iter().filter(|file| file.exists());
    let read = |file| {
        let mut config = Kubeconfig::read_from(file)?;
        // `kubectl config unset current-context` leaves it empty.
        config.current_context.take_if(|context| context.is_empty());
        Ok(config)
    };
    there.map(read).try_fold(None::<Kubeconfig>, |merged, next| {
        Ok(Some(match merged {
            Some(merged) => merged.merge(next?)?,
            None => next?,
        }))
    })
}

/// The `proxy-url` of the current context's cluster.
fn proxy_url(config: &Kubeconfig) -> Option<String> {
    let current = config.current_context.as_ref()?;
    let context = config.contexts.iter().find(|context| context.name == *current)?.context.as_ref()?;
    let cluster = config.clusters.iter().find(|cluster| cluster.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone()
}

/// Runs `program` until it ends. The first SIGTERM or SIGINT cancels what it is given, and has it end.
///
/// # Errors
/// Signals cannot be listened for.
pub async fn until_stopped<T>(program: impl AsyncFnOnce(CancellationToken) -> T) -> io::Result<T> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let mut program = pin!(program(stop.clone()));
    tokio::select! {
        ended = &mut program => return Ok(ended),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("told to stop");
    stop.cancel();
    Ok(program.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_there_are_passed_over_and_the_first_says_what_is_current() {
        let folder = env::temp_dir().join(format!("tokenry-kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, cluster: &str| {
            let file = folder.join(name);
            let text = format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: {cluster}\n\
                 contexts: [{{name: {cluster}, context: {{cluster: {cluster}, user: me}}}}]\n\
                 clusters: [{{name: {cluster}, cluster: {{server: 'https://{cluster}', proxy-url: 'http://{cluster}'}}}}]\n"
            );
            std::fs::write(&file, text).unwrap();
            file
        };
        let away = folder.join("away");
        let none = folder.join("none");
        std::fs::write(&none, "apiVersion: v1\nkind: Config\ncurrent-context: ''\n").unwrap();
        let (one, two) = (write("one", "one"), write("two", "two"));
        let merged = kubeconfig(&[away.clone(), none, one, two]).unwrap().unwrap();
        assert_eq!(merged.clusters.len(), 2);
        assert_eq!(proxy_url(&merged).as_deref(), Some("http://one"));
        assert!(kubeconfig(&[away]).unwrap().is_none());
        let odd = folder.join("odd");
        std::fs::write(&odd, "clusters: 7").unwrap();
        assert!(kubeconfig(&[odd]).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
