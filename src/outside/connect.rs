//! The client of the cluster, and the signals that stop a process.

use std::{
    env,
    error::Error,
    io,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use axum::body::Body;
use futures::{TryStreamExt, stream};
use http::Response;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::proxy::Proxy;

/// Read timeout of a connection to the API server. The timeout is longer than a watch lasts, so that only a dead
/// connection is cut.
const SILENCE: Duration = Duration::from_secs(75);
/// A limit of a whole request that is none, because nobody waits that long: a year.
const UNLIMITED: Duration = Duration::from_hours(24 * 365);

/// Reasons why no client of a cluster can be made.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// Neither a kubeconfig nor an in-cluster configuration can be read.
    #[error("no cluster is configured; run in a cluster or set KUBECONFIG: {0}")]
    Nowhere(String),
    /// The configured proxy cannot be used.
    #[error("{0}")]
    Proxy(String),
    /// The configuration cannot be used for a client.
    #[error("cannot reach the cluster: {0}")]
    NoClient(String),
}

/// The cluster and the user of a client, as kubectl's flags name them. Default: those of the current context.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The kubeconfig. `None`: the files that `KUBECONFIG` lists, or else `.kube/config` in the home directory.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig. `None`: the current context.
    pub context: Option<String>,
    /// The user to impersonate. `None`: nobody.
    pub user: Option<String>,
    /// The groups of the impersonated user.
    pub groups: Vec<String>,
    /// The longest time of a request, from its connection to the end of its answer. A connection has 30 seconds at
    /// most. `Duration::MAX`: no limit for an answer. `None`: no limit for a whole request, and 75 seconds for a
    /// silence.
    pub timeout: Option<Duration>,
}

/// A client of the kubeconfig's current context, or else of the cluster that this process runs in.
///
/// # Errors
/// As of [`client_as`].
pub async fn client() -> Result<Client, Unreachable> {
    client_as(&Login::default()).await
}

/// A client of the cluster and the user that `login` names. Without a kubeconfig, it is the cluster that this process
/// runs in. The client uses a proxy where kubectl would use one.
///
/// The client never retries, because callers retry. A second retry would double every delay, and could repeat a write
/// that was done.
///
/// # Errors
/// No configuration can be read, or the configuration or its proxy cannot be used.
pub async fn client_as(login: &Login) -> Result<Client, Unreachable> {
    let nowhere = |error: &dyn Error| Unreachable::Nowhere(error.to_string());
    let known = known(login)?;
    let configured = known.as_ref().and_then(proxy_url);
    let mut config = match known {
        Some(known) => {
            let config = Config::from_custom_kubeconfig(known, &KubeConfigOptions::default()).await;
            config.map_err(|error| nowhere(&error))?
        }
        None if env::var_os("KUBERNETES_SERVICE_HOST").is_none() => return Err(Unreachable::Nowhere(absent(&files()))),
        None => Config::incluster().map_err(|error| nowhere(&error))?,
    };
    config.default_retry = false;
    config.read_timeout = login.timeout.is_none().then_some(SILENCE);
    if login.user.is_some() {
        config.auth_info.impersonate.clone_from(&login.user);
        config.auth_info.impersonate_groups = Some(login.groups.clone());
    }
    config.proxy_url = None;
    let proxy = Proxy::before(&config.cluster_url, configured.as_deref(), |name| env::var(name).ok());
    let client = match proxy.map_err(Unreachable::Proxy)? {
        Some(proxy) => {
            tracing::info!(%proxy, "the API server is reached through a proxy");
            proxy.client(config)
        }
        None => Client::try_from(config),
    };
    let client = client.map_err(|error| Unreachable::NoClient(error.to_string()))?;
    let limit = login.timeout.filter(|limit| *limit < UNLIMITED);
    Ok(limit.map_or(client.clone(), |limit| limited(client, limit)))
}

/// A client whose requests end after `limit`, each with its connection and the body of its answer.
fn limited(client: Client, limit: Duration) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request| {
        let (client, end) = (client.clone(), Instant::now() + limit);
        async move {
            let (head, body) = timeout_at(end, client.send(request)).await??.into_parts();
            let parts = stream::try_unfold(Body::new(body).into_data_stream(), move |mut rest| async move {
                let next = timeout_at(end, rest.try_next()).await??;
                Ok::<_, BoxError>(next.map(|part| (part, rest)))
            });
            Ok::<_, BoxError>(Response::from_parts(head, Body::from_stream(parts)))
        }
    });
    Client::new(service, namespace)
}

/// The kubeconfig that `login` names, with its context as the current one. `None` if there is no kubeconfig.
fn known(login: &Login) -> Result<Option<Kubeconfig>, Unreachable> {
    let nowhere = |text: String| Unreachable::Nowhere(text);
    if let Some(file) = login.kubeconfig.as_ref().filter(|file| !file.exists()) {
        return Err(nowhere(format!("--kubeconfig {}: the file does not exist", file.display())));
    }
    let files = login.kubeconfig.clone().map_or_else(files, |file| vec![file]);
    let mut known = kubeconfig(&files).map_err(nowhere)?;
    if let Some(context) = &login.context {
        let is_known = |known: &Kubeconfig| known.contexts.iter().any(|named| named.name == *context);
        match known.as_mut().filter(|known| is_known(known)) {
            Some(known) => known.current_context = Some(context.clone()),
            None => return Err(nowhere(format!("--context {context}: the kubeconfig has no such context"))),
        }
    }
    Ok(known)
}

/// The name of the Pod that this process runs in: the variable `HOSTNAME`. `None` if the variable is not set.
pub fn pod() -> Option<String> {
    env::var("HOSTNAME").ok()
}

/// The files that `KUBECONFIG` lists, or else `.kube/config` in the home directory.
fn files() -> Vec<PathBuf> {
    let given = env::var_os("KUBECONFIG").map(|all| env::split_paths(&all).collect::<Vec<_>>()).unwrap_or_default();
    let given: Vec<_> = given.into_iter().filter(|file| !file.as_os_str().is_empty()).collect();
    if given.is_empty() { env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect() } else { given }
}

/// The kubeconfigs that do not exist, in words.
fn absent(files: &[PathBuf]) -> String {
    let named: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    format!("there is no file {}", named.join(", "))
}

/// The text of an error, without lines of the file. They may hold a credential.
fn unreadable(file: &Path, error: &KubeconfigError) -> String {
    let KubeconfigError::Parse(error) = error else { return format!("{}: {error}", file.display()) };
    let place = error.location().map(|place| format!(", line {}, column {}", place.line(), place.column()));
    format!("{}{}: it has not the form of a kubeconfig", file.display(), place.unwrap_or_default())
}

/// The files that exist, merged as kubectl merges them. `None` if no file exists.
fn kubeconfig(files: &[PathBuf]) -> Result<Option<Kubeconfig>, String> {
    let there = files.iter().filter(|file| file.exists());
    let read = |file: &PathBuf| {
        let mut config = Kubeconfig::read_from(file).map_err(|error| unreadable(file, &error))?;
        // `kubectl config unset current-context` leaves it empty.
        config.current_context.take_if(|context| context.is_empty());
        Ok::<_, String>(config)
    };
    there.map(read).try_fold(None::<Kubeconfig>, |merged, next| {
        Ok(Some(match merged {
            Some(merged) => merged.merge(next?).map_err(|error| error.to_string())?,
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

/// Waits for a SIGINT, which Ctrl-C sends. From this call on, SIGINT does not end the process.
///
/// # Errors
/// The process cannot listen for signals.
pub fn interrupted() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        interrupt.recv().await;
    })
}

/// Runs `program` until it ends. The first SIGTERM or SIGINT cancels the token that `program` was given, so that
/// `program` stops.
///
/// # Errors
/// The process cannot listen for signals.
pub async fn until_stopped<T>(program: impl AsyncFnOnce(CancellationToken) -> T) -> io::Result<T> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let mut program = pin!(program(stop.clone()));
    tokio::select! {
        ended = &mut program => return Ok(ended),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("received a stop signal, shutting down");
    stop.cancel();
    Ok(program.await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

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
        for text in ["clusters: 7", "users:\n- {name: me, user: {token: s3cret}\n", "users: [{name: me, user: s3cret}]"]
        {
            std::fs::write(&odd, text).unwrap();
            let told = kubeconfig(slice::from_ref(&odd)).unwrap_err();
            assert!(told.contains("odd, line ") && !told.contains("s3cret"), "{told}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
