//! The cluster of `KUBECONFIG`, and the objects that the test creates in it.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use controlplane::{AuditEvent, Cluster, Definitions};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{Told, calls::Calls};

/// The namespace in which the test installs Tokenry. The documentation uses the same name.
pub const SYSTEM: &str = "tokenry-system";
/// The namespace of the tokens and the workloads. The documentation uses the same name.
pub const SHOP: &str = "events";
const RELEASE: &str = "tokenry";

/// The label, with its value, of the namespaces that this test created.
const MARK: (&str, &str) = ("tokenry.dev/made-by", "cluster-test");

/// Timeout of each wait. A working system needs much less.
const PATIENCE: Duration = Duration::from_secs(120);
/// Timeout of the wait for a new Pod.
const ROLLOUT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(500);

/// The operator and the verifier, and their core ServiceAccounts.
const COMPONENTS: [&str; 2] = ["operator", "verifier"];

pub struct Site {
    cluster: Cluster,
    /// Repository and tag of the image of this build.
    image: (String, String),
    /// The path of the API server's audit log. Without it, the test does not check for forbidden requests.
    audit_log: Option<PathBuf>,
    start: Instant,
}

impl Site {
    pub fn of_environment() -> Told<Self> {
        let needed = |name: &str, what: &str| {
            let unset = format!("{name} is not set. Set it to {what}: see CONTRIBUTING.md, Tests");
            env::var(name).ok().filter(|value| !value.is_empty()).ok_or(unset)
        };
        let kubeconfig = needed("KUBECONFIG", "the kubeconfig of a cluster for tests")?;
        let image = needed("TOKENRY_IMAGE", "an image of Tokenry that the nodes have, as repository:tag")?;
        let image =
            image.rsplit_once(':').ok_or(format!("TOKENRY_IMAGE is {image}, without a tag: give repository:tag"))?;
        let audit_log = env::var_os("TOKENRY_AUDIT_LOG").map(PathBuf::from);
        if let Some(missing) = audit_log.as_ref().filter(|path| !path.is_file()) {
            return Err(format!("TOKENRY_AUDIT_LOG is {}, but this file does not exist", missing.display()));
        }
        Ok(Self {
            cluster: Cluster::new(kubeconfig, env!("CARGO_TARGET_TMPDIR")),
            image: (image.0.to_owned(), image.1.to_owned()),
            audit_log,
            start: Instant::now(),
        })
    }

    /// Prints an observation, with the seconds since the start of the test.
    pub fn tell(&self, seen: &str) {
        println!("{:6.1} s  {seen}", self.start.elapsed().as_secs_f32());
    }

    pub fn kubectl(&self, args: &[&str]) -> Told<String> {
        self.kubectl_with_input(args, "")
    }

    fn kubectl_with_input(&self, args: &[&str], input: &str) -> Told<String> {
        let failed = |error| format!("kubectl {}: {error}", args.join(" "));
        self.cluster.kubectl_with_input(args, input).map_err(failed)
    }

    fn helm(&self, args: &[&str]) -> Told<String> {
        self.cluster.helm(args).map_err(|error| format!("helm {}: {error}", args.join(" ")))
    }

    /// Runs `kubectl get` and returns its JSON.
    pub fn get(&self, args: &[&str]) -> Told<Value> {
        let printed = self.kubectl(&[&["get", "--output=json"], args].concat())?;
        serde_json::from_str(&printed).map_err(|error| format!("kubectl get {}: {error}", args.join(" ")))
    }

    pub fn apply(&self, namespace: &str, manifest: &str) -> Told<String> {
        self.kubectl_with_input(&["apply", "--namespace", namespace, "--filename=-"], manifest)
    }

    /// Polls until `ask` returns a value. `what` names the awaited state, for the error message.
    pub fn eventually<T>(&self, what: &str, ask: impl Fn() -> Told<Option<T>>) -> Told<T> {
        self.within(PATIENCE, what, ask)
    }

    pub fn within<T>(&self, patience: Duration, what: &str, ask: impl Fn() -> Told<Option<T>>) -> Told<T> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            thread::sleep(POLL);
        }
        Err(format!("timed out after {} s while waiting until {what}", patience.as_secs()))
    }

    /// The longest sync frequency of the cluster's kubelets. After this time, a kubelet looks at mounted Secrets again.
    pub fn kubelet_sync(&self) -> Told<Duration> {
        let nodes = self.kubectl(&["get", "nodes", "--output=name"])?;
        let sync = nodes.lines().map(|node| {
            let name = node.trim_start_matches("node/");
            let configuration = self.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{name}/proxy/configz")])?;
            let unreadable = |error| format!("configuration of the kubelet of {name}: {error}");
            let configuration: Value =
                serde_json::from_str(&configuration).map_err(|error| unreadable(error.to_string()))?;
            let text = configuration["kubeletconfig"]["syncFrequency"].as_str().unwrap_or_default();
            let sync: SignedDuration = text.parse().map_err(|error: jiff::Error| unreadable(error.to_string()))?;
            Duration::try_from(sync).map_err(|error| unreadable(error.to_string()))
        });
        sync.collect::<Told<Vec<_>>>()?.into_iter().max().ok_or_else(|| "the cluster has no node".to_owned())
    }

    /// Creates the namespaces. They enforce the Pod security level `restricted`.
    pub fn make_namespaces(&self) -> Told {
        let namespaces = [SYSTEM, SHOP].map(|name| {
            let labels = json!({MARK.0: MARK.1, "pod-security.kubernetes.io/enforce": "restricted"});
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": namespaces});
        self.kubectl_with_input(&["create", "--filename=-"], &list.to_string()).map(drop)
    }

    /// Installs the definitions of Traefik, with the mark of this test. Fails if the cluster has them.
    pub fn install_traefik_definitions(&self) -> Told {
        let definitions = Definitions::Traefik.manifests().map_err(|error| error.to_string())?;
        self.kubectl_with_input(&["create", "--filename=-"], &definitions)?;
        let mark = format!("{}={}", MARK.0, MARK.1);
        self.kubectl_with_input(&["label", "--filename=-", &mark], &definitions)?;
        let wait = ["wait", "--for=condition=Established", "--timeout=1m", "--filename=-"];
        self.kubectl_with_input(&wait, &definitions).map(drop)
    }

    /// Installs the chart with the image of this build, or upgrades it to other values. Waits until everything is
    /// ready.
    pub fn install(&self, values: &[&str]) -> Told {
        let chart = root().join("charts/tokenry").display().to_string();
        let image = format!("image.repository={},image.tag={}", self.image.0, self.image.1);
        let kinds = "exposure.kinds={Ingress,NetworkPolicy,Middleware}";
        let release = ["upgrade", "--install", RELEASE, &chart, "--namespace", SYSTEM, "--wait", "--timeout=5m"];
        let values = values.iter().copied().chain([kinds]).flat_map(|value| ["--set", value]);
        let values: Vec<_> = ["--set-string", &image].into_iter().chain(values).collect();
        self.helm(&[&release, &*values].concat()).map(drop)
    }

    /// Runs the Pod of `helm test`, which asks the verifier.
    pub fn test_release(&self) -> Told {
        self.helm(&["test", RELEASE, "--namespace", SYSTEM, "--timeout=2m"]).map(drop)
    }

    /// The rule file in the PrometheusRule of the chart with these values.
    pub fn rules(&self, values: &str) -> Told<Value> {
        let chart = root().join("charts/tokenry").display().to_string();
        let only = ["template", RELEASE, &chart, "--namespace", SYSTEM, "--show-only=templates/prometheusrule.yaml"];
        let set =
            format!("metrics.prometheusRule.enabled=true,metrics.prometheusRule.renderMode=alwaysRender,{values}");
        let printed = self.helm(&[&only[..], &["--set", &set]].concat())?;
        let rule: Value = serde_saphyr::from_str(&printed).map_err(|error| error.to_string())?;
        Ok(rule["spec"].clone())
    }

    /// Uninstalls the chart, and waits until its Pods are gone.
    pub fn uninstall(&self) -> Told {
        self.helm(&["uninstall", RELEASE, "--namespace", SYSTEM, "--ignore-not-found", "--wait"])?;
        self.eventually("no Pod of the release is left", || {
            // Helm keeps the Pod of a test that failed.
            let selector = "--selector=app.kubernetes.io/component in (operator,verifier)";
            let left = self.kubectl(&["get", "pods", "--namespace", SYSTEM, "--output=name", selector])?;
            Ok(left.is_empty().then_some(()))
        })
    }

    /// The Pods of these components that are not being deleted.
    pub fn pods(&self, components: &str) -> Told<Vec<Value>> {
        let selector = format!("--selector=app.kubernetes.io/component in ({components})");
        let mut pods = self.get(&["pods", "--namespace", SYSTEM, &selector])?;
        let Value::Array(mut pods) = pods["items"].take() else { return Ok(Vec::new()) };
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(pods)
    }

    /// Deletes the Pods of a component, one after the other. Each deletion waits until the previous successor is ready.
    pub fn replace_pods(&self, component: &str) -> Told {
        let pods = self.pods(component)?;
        for pod in pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()) {
            self.kubectl(&["delete", "pod", pod, "--namespace", SYSTEM])?;
            // The status of the Deployment is old while the controller manager catches up.
            self.within(ROLLOUT, "the successor is ready", || {
                let ready = self.pods(component)?.iter().filter(|pod| says_ready(pod)).count();
                Ok((ready == pods.len()).then_some(()))
            })?;
            self.tell(&format!("deleted {pod}, and its successor is ready"));
        }
        if pods.is_empty() { Err(format!("there is no Pod of the {component}")) } else { Ok(()) }
    }

    pub fn rolled_out(&self, namespace: &str, deployment: &str) -> Told {
        let deployment = format!("deployment/{deployment}");
        let timeout = format!("--timeout={}s", ROLLOUT.as_secs());
        self.kubectl(&["rollout", "status", &deployment, "--namespace", namespace, &timeout]).map(drop)
    }

    /// All calls of a caller so far.
    pub fn calls(&self, caller: &str) -> Told<Calls> {
        self.last_calls(caller, -1)
    }

    /// The last calls of a caller. -1: all.
    pub fn last_calls(&self, caller: &str, count: i32) -> Told<Calls> {
        let (deployment, tail) = (format!("deployment/{caller}"), format!("--tail={count}"));
        Ok(Calls::parse(&self.kubectl(&["logs", &deployment, "--namespace", SHOP, &tail])?))
    }

    /// The current end of the audit log, as an offset in bytes. The result is 0 without an audit log.
    pub fn audit_end(&self) -> u64 {
        self.audit_log.as_ref().map_or(0, |path| controlplane::audit_from(path, 0).1)
    }

    /// Fails if the API server has forbidden a request of the operator or the verifier since `offset`.
    pub fn nothing_was_forbidden(&self, offset: u64) -> Told {
        let Some(path) = &self.audit_log else { return Ok(()) };
        let (users, (events, _)) = (Self::users(), controlplane::audit_from(path, offset));
        for user in &users {
            let mut asked = events.iter().filter(|event| event.user == *user).peekable();
            asked.peek().ok_or_else(|| format!("{} has no request of {user}", path.display()))?;
            if let Some(event) = asked.find(|event| event.code == 403 && !event.is_try_to_forge()) {
                return Err(format!("the API server has forbidden this request, and should permit it: {event:?}"));
            }
        }
        self.tell("the audit log has no forbidden request of the operator or the verifier");
        Ok(())
    }

    /// The requests of operator and verifier since `offset`, which moves to the end. The API server renames a log of
    /// 100 MB.
    pub fn audited(&self, offset: &mut u64) -> Told<Vec<AuditEvent>> {
        let Some(path) = &self.audit_log else { return Ok(Vec::new()) };
        let mut events = Vec::new();
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        if path.metadata().map_err(failed)?.len() < *offset {
            let all = path.parent().into_iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
            let older = all.filter(|other| other.to_string_lossy().contains("/audit-")).max();
            let older = older.ok_or_else(|| format!("{} has become shorter", path.display()))?;
            events = controlplane::audit_from(&older, *offset).0;
            *offset = 0;
        }
        let (more, end) = controlplane::audit_from(path, *offset);
        *offset = end;
        events.extend(more);
        let users = Self::users();
        events.retain(|event| users.contains(&event.user));
        Ok(events)
    }

    /// The users of operator and verifier, as the API server names them.
    fn users() -> [String; 2] {
        COMPONENTS.map(|component| format!("system:serviceaccount:{SYSTEM}:{RELEASE}-{component}"))
    }

    /// Removes everything that this test has created, in this or an earlier run. Fails if another user of the cluster
    /// has one of the namespaces, or Tokenry's CRDs.
    pub fn remove(&self) -> Told {
        let mark = format!("--selector={}={}", MARK.0, MARK.1);
        let ours = self.kubectl(&["get", "namespaces", "--output=name", &mark])?;
        let taken = self.kubectl(&["get", "namespaces", SYSTEM, SHOP, "--output=name", "--ignore-not-found"])?;
        if let Some(foreign) = taken.lines().find(|name| !ours.lines().any(|our| our == *name)) {
            return Err(format!("{foreign} exists, but this test did not create it: use a separate cluster"));
        }
        let definitions = self.definitions()?;
        if ours.is_empty() && !definitions.is_empty() {
            return Err("Tokenry's CRDs exist, but this test did not create them: use a separate cluster".into());
        }
        if ours.contains(SYSTEM) {
            self.uninstall()?;
        }
        let definitions: Vec<_> = definitions.lines().collect();
        if !definitions.is_empty() {
            self.kubectl(&[&["delete", "--timeout=2m"], &*definitions].concat())?;
        }
        let others = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,ingressclasses";
        self.kubectl(&["delete", others, &mark, "--timeout=2m"]).map(drop)
    }

    /// The names of Tokenry's installed CRDs, one per line.
    pub fn definitions(&self) -> Told<String> {
        let all = self.kubectl(&["get", "customresourcedefinitions", "--output=name"])?;
        Ok(all.lines().filter(|name| name.ends_with(".tokenry.dev")).map(|name| format!("{name}\n")).collect())
    }

    /// The state of the cluster as text, for the message of a failure.
    pub fn state(&self) -> String {
        let mut state = String::new();
        let mut show = |args: &[&str]| {
            let said = self.kubectl(args).unwrap_or_else(|error| error);
            state += &format!("\n$ kubectl {}\n{said}", args.join(" "));
        };
        show(&["get", "apitokens,instances", "--namespace", SHOP, "--output=yaml"]);
        for namespace in [SYSTEM, SHOP] {
            show(&["get", "deployments,pods,endpointslices,services", "--namespace", namespace, "--output=wide"]);
            show(&["get", "events", "--namespace", namespace, "--sort-by=.lastTimestamp"]);
        }
        for component in COMPONENTS {
            let selector = format!("--selector=app.kubernetes.io/component={component}");
            show(&["logs", &selector, "--namespace", SYSTEM, "--prefix", "--tail=60"]);
        }
        show(&["logs", &format!("pod/{RELEASE}-test"), "--namespace", SYSTEM, "--all-containers", "--prefix"]);
        for deployment in ["shop-proxy", "shop-manager", "traefik", "caller-rotating", "caller-exporter", "caller-edge"]
        {
            show(&["logs", &format!("deployment/{deployment}"), "--namespace", SHOP, "--tail=100"]);
        }
        state
    }
}

/// True if the condition Ready of an object is true.
pub fn says_ready(object: &Value) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The root directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
