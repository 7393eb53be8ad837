//! One side of the comparison: a namespace, the process that writes in it, and the watch for Ready tokens.

use std::{
    collections::{HashMap, HashSet},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use controlplane::{ControlPlane, Process};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokenry::crd::{Account, ApiToken, Instance};
use tokio::{io::AsyncWriteExt, process::Child, sync::mpsc};

use crate::{
    NAME, Outcome,
    bare::{Job, Template},
    readings, small,
};

/// Namespace of the operator's side.
pub const OPERATOR: &str = "operator";
/// Number of concurrent creations.
const CONCURRENCY: usize = 16;
/// Maximum wait for a token.
const PATIENCE: Duration = Duration::from_secs(60);
/// A process counts as at rest after this time without CPU use.
const QUIET: Duration = Duration::from_millis(300);

pub struct Side {
    pub namespace: String,
    /// Process id of the writer.
    pub pid: u32,
    writer: Writer,
    tokens: Api<DynamicObject>,
    secrets: Api<Secret>,
    /// The body of each token, without the name.
    body: Value,
    /// Names of tokens that became Ready, and the time of each report.
    ready: mpsc::UnboundedReceiver<(String, Instant)>,
    issued: usize,
}

enum Writer {
    /// Watches the tokens.
    Operator(Process),
    /// Receives each token on its standard input.
    Bare(Child),
}

impl Side {
    /// Starts an operator with further arguments. The operator has issued its first token when this returns.
    pub async fn operator(plane: &ControlPlane, identity: &str, arguments: &[&str]) -> Outcome<Self> {
        let namespace = OPERATOR;
        prepare(plane, namespace).await?;
        let process = start(plane, identity, arguments)?;
        let kind = ApiResource::erase::<ApiToken>(&());
        let mut side = Self::new(plane, (namespace, &kind), process.pid(), Writer::Operator(process));
        side.body = token(Value::Null);
        side.issue_at_once(1).await?;
        Ok(side)
    }

    /// Stops the operator and starts another one, which finds the existing tokens.
    pub async fn restart(&mut self, plane: &ControlPlane, identity: &str, arguments: &[&str]) -> Outcome {
        if let Writer::Operator(process) = &mut self.writer {
            process.stop();
            *process = start(plane, identity, arguments)?;
            self.pid = process.pid();
        }
        // A further token proves that the operator has listed everything. Without this it could look at rest too early.
        self.issue_at_once(1).await?;
        Ok(())
    }

    /// A bare client with the same writes as `operator`.
    pub async fn bare(plane: &ControlPlane, identity: &str, operator: &Self) -> Outcome<Self> {
        let namespace = "bare";
        prepare(plane, namespace).await?;
        let template = operator.template(namespace).await?;
        let mut side = Self::told(plane, identity, &template).await?;
        side.body = token(Value::Null);
        side.issue_at_once(1).await?;
        Ok(side)
    }

    /// A bare client with as many writes to a small kind.
    pub async fn small(plane: &ControlPlane, identity: &str) -> Outcome<Self> {
        let namespace = "small";
        prepare(plane, namespace).await?;
        let template = small::install(plane, namespace).await?;
        let mut side = Self::told(plane, identity, &template).await?;
        side.issue_at_once(1).await?;
        Ok(side)
    }

    /// A bare client whose writes follow `template`.
    async fn told(plane: &ControlPlane, identity: &str, template: &Template) -> Outcome<Self> {
        let namespace = &*template.namespace;
        let mut child = tokio::process::Command::new(std::env::current_exe()?)
            .arg("--bare")
            .env("KUBECONFIG", plane.kubeconfig_for(namespace, identity)?)
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        tell(&mut child, template).await?;
        let pid = child.id().ok_or("the bare client has ended")?;
        Ok(Self::new(plane, (namespace, &template.kind), pid, Writer::Bare(child)))
    }

    fn new(plane: &ControlPlane, (namespace, kind): (&str, &ApiResource), pid: u32, writer: Writer) -> Self {
        let client = plane.client();
        let tokens: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
        let ready = watch(tokens.clone());
        let secrets = Api::namespaced(client, namespace);
        Self { namespace: namespace.into(), pid, writer, tokens, secrets, body: small::body(), ready, issued: 0 }
    }

    /// The writes for the first token of this side, for use in another namespace.
    async fn template(&self, namespace: &str) -> Outcome<Template> {
        let name = token_name(0);
        let settled = self.tokens.get(&name).await?.data["status"].clone();
        let recorded = recorded(&settled)?;
        let secret = self.secrets.get(&name).await?;
        let metadata = json!({
            "name": name,
            "labels": secret.metadata.labels,
            "annotations": secret.metadata.annotations,
            "ownerReferences": secret.metadata.owner_references,
        });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": secret.type_, "metadata": metadata, "data": secret.data,
        });
        let kind = ApiResource::erase::<ApiToken>(&());
        Ok(Template { namespace: namespace.into(), kind, recorded, settled, secret })
    }

    pub fn memory(&self) -> Outcome<f64> {
        readings::memory(self.pid)
    }

    /// Waits until the writer has nothing more to do.
    pub async fn rest(&self) -> Outcome {
        let mut used = readings::seconds(self.pid)?;
        loop {
            tokio::time::sleep(QUIET).await;
            let now = readings::seconds(self.pid)?;
            if now == used {
                return Ok(());
            }
            used = now;
        }
    }

    /// Creates tokens as fast as possible. Returns the time until all were Ready.
    pub async fn issue_at_once(&mut self, count: usize) -> Outcome<Duration> {
        let start = Instant::now();
        let names = self.names(count);
        let (tokens, body, writer) = (&self.tokens, &self.body, tokio::sync::Mutex::new(&mut self.writer));
        let created = stream::iter(names.clone()).map(Ok).try_for_each_concurrent(CONCURRENCY, async |name| {
            let job = create(tokens, &name, body).await?;
            writer.lock().await.tell(&job).await
        });
        let ((), seen) = tokio::try_join!(created, await_all(&mut self.ready, names))?;
        Ok(seen.into_values().max().ok_or("no token")? - start)
    }

    /// Creates one token after another at this pace. Returns the time until Ready of each.
    pub async fn issue_paced(&mut self, count: usize, pace: Duration) -> Outcome<Vec<Duration>> {
        let mut ticks = tokio::time::interval(pace);
        let names = self.names(count);
        let mut started = HashMap::new();
        let created = async {
            for name in &names {
                ticks.tick().await;
                started.insert(name.clone(), Instant::now());
                let job = create(&self.tokens, name, &self.body).await?;
                self.writer.tell(&job).await?;
            }
            Ok(())
        };
        let ((), seen) = tokio::try_join!(created, await_all(&mut self.ready, names.clone()))?;
        Ok(seen.into_iter().map(|(name, at)| at - started[&name]).collect())
    }

    fn names(&mut self, count: usize) -> Vec<String> {
        let first = self.issued;
        self.issued += count;
        (first..self.issued).map(token_name).collect()
    }
}

/// The status that the operator writes before the Secret exists, made from the one that it writes afterwards.
fn recorded(settled: &Value) -> Outcome<Value> {
    const FROM_RECORD: [&str; 5] = ["account", "audiences", "lastGeneration", "observedGeneration", "policy"];
    let mut recorded = json!({"records": settled["records"], "conditions": settled["conditions"]});
    FROM_RECORD.into_iter().for_each(|field| recorded[field] = settled[field].clone());
    recorded["records"][0]["state"] = json!("Recorded");
    recorded["records"][0].as_object_mut().ok_or("a token without a record")?.remove("publishedAt");
    let conditions = recorded["conditions"].as_array_mut().ok_or("a token without conditions")?;
    conditions.retain(|condition| condition["type"] == "Ready");
    conditions.iter_mut().for_each(|condition| condition["status"] = json!("False"));
    Ok(recorded)
}

fn start(plane: &ControlPlane, identity: &str, arguments: &[&str]) -> Outcome<Process> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command.args(["operator", "--listen", "127.0.0.1:0", "--probes", "off"]).args(arguments);
    command.env("KUBECONFIG", plane.kubeconfig_for(OPERATOR, identity)?);
    Ok(Process::start("operator", command, &plane.directory().join("operator.log"))?)
}

impl Writer {
    async fn tell(&mut self, job: &Job) -> Outcome {
        match self {
            Self::Operator(_) => Ok(()),
            Self::Bare(child) => tell(child, job).await,
        }
    }
}

fn token_name(nth: usize) -> String {
    format!("token-{nth}")
}

/// A control plane with the CRDs and the chart's permissions, and the identity of operators there.
pub fn stage() -> Outcome<(ControlPlane, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let plane = ControlPlane::start_for_benchmark()?;
    plane.install_crds(root)?;
    let identities = plane.install_rights(root)?;
    Ok((plane, identities.operator))
}

/// Creates a namespace with an Instance and an account.
pub async fn prepare(plane: &ControlPlane, namespace: &str) -> Outcome {
    let client = plane.client();
    let new = PostParams::default();
    let home: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
    Api::all(client.clone()).create(&new, &home).await?;
    let instance: Instance = serde_json::from_value(object("Instance", NAME, json!({})))?;
    Api::<Instance>::namespaced(client.clone(), namespace).create(&new, &instance).await?;
    let account: Account =
        serde_json::from_value(object("ServiceAccount", NAME, json!({"instanceRef": {"name": NAME}})))?;
    Api::<Account>::namespaced(client, namespace).create(&new, &account).await?;
    Ok(())
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A token without a name. `secret` is its field `spec.secret`.
pub fn token(secret: Value) -> Value {
    let spec = json!({"instanceRef": {"name": NAME}, "serviceAccountRef": {"name": NAME}, "secret": secret});
    json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "spec": spec})
}

/// Creates a token, or a small object in its place.
pub async fn create(tokens: &Api<DynamicObject>, name: &str, body: &Value) -> Outcome<Job> {
    let mut body: DynamicObject = serde_json::from_value(body.clone())?;
    body.metadata.name = Some(name.into());
    let token = tokens.create(&PostParams::default(), &body).await?;
    Ok(Job {
        name: name.into(),
        uid: token.uid().unwrap_or_default(),
        version: token.resource_version().unwrap_or_default(),
        spec: token.data["spec"].clone(),
    })
}

async fn tell(child: &mut Child, what: &impl serde::Serialize) -> Outcome {
    let line = serde_json::to_string(what)? + "\n";
    let input = child.stdin.as_mut().ok_or("the bare client has no input")?;
    Ok(input.write_all(line.as_bytes()).await?)
}

/// Reports each token once, when it becomes Ready.
fn watch(tokens: Api<DynamicObject>) -> mpsc::UnboundedReceiver<(String, Instant)> {
    let (tell, hear) = mpsc::unbounded_channel();
    let mut objects = watcher(tokens, watcher::Config::default()).default_backoff().touched_objects().boxed();
    tokio::spawn(async move {
        let mut told = HashSet::new();
        while let Some(object) = objects.next().await {
            let Ok(token) = object else { continue };
            let name = token.name_any();
            if is_ready(&token) && told.insert(name.clone()) && tell.send((name, Instant::now())).is_err() {
                break;
            }
        }
    });
    hear
}

fn is_ready(token: &DynamicObject) -> bool {
    let conditions = token.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The time at which each of these tokens became Ready.
async fn await_all(
    ready: &mut mpsc::UnboundedReceiver<(String, Instant)>,
    names: Vec<String>,
) -> Outcome<HashMap<String, Instant>> {
    let mut waiting: HashSet<_> = names.into_iter().collect();
    let mut seen = HashMap::new();
    while !waiting.is_empty() {
        let next = tokio::time::timeout(PATIENCE, ready.recv()).await;
        let (name, at) =
            next.map_err(|_| format!("{} tokens did not become Ready", waiting.len()))?.ok_or("the watch ended")?;
        if waiting.remove(&name) {
            seen.insert(name, at);
        }
    }
    Ok(seen)
}
