//! The cluster of `KUBECONFIG`, and what is made in it.

use std::{
    env,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use controlplane::Cluster;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{Told, calls::Calls};

/// Where Tokenry is installed, and where its users live: the names of the README.
const SYSTEM: &str = "tokenry-system";
pub const SHOP: &str = "events";
const RELEASE: &str = "tokenry";

/// Says that a namespace was made by this test.
const MARK: (&str, &str) = ("tokenry.dev/made-by", "cluster-test");

/// The longest that anything is waited for. Only what is broken takes that long.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// The operator and the verifier, and their core ServiceAccounts.
const COMPONENTS: [&str; 2] = ["operator", "verifier"];

pub struct Site {
    cluster: Cluster,
    /// Repository and tag of the image of this build.
    image: (String, String),
    /// The API server's audit log, if the test may read it.
    audit_log: Option<PathBuf>,
    start: Instant,
}

impl Site {
    pub fn of_environment() -> Told<Self> {
        let needed = |name: &str, what: &str| {
            let unset = format!("{name} is not set. It has to be {what}: see CONTRIBUTING.md, Tests");
            env::var(name).ok().filter(|value| !value.is_empty()).ok_or(unset)
        };
        let kubeconfig = needed("KUBECONFIG", "the kubeconfig of a cluster for tests")?;
        let image = needed("TOKENRY_IMAGE", "an image of tokenry that the cluster has, as repository:tag")?;
        let image =
            image.rsplit_once(':').ok_or(format!("TOKENRY_IMAGE is {image}, and has no tag: repository:tag"))?;
        let audit_log = env::var_os("TOKENRY_AUDIT_LOG").map(PathBuf::from);
        if let Some(missing) = audit_log.as_ref().filter(|path| !path.is_file()) {
            return Err(format!("TOKENRY_AUDIT_LOG is {}, which is no file", missing.display()));
        }
        Ok(Self {
            cluster: Cluster::new(kubeconfig, env!("CARGO_TARGET_TMPDIR")),
            image: (image.0.to_owned(), image.1.to_owned()),
            audit_log,
            start: Instant::now(),
        })
    }

    /// Prints what was seen, with the seconds that have passed.
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

    /// What kubectl gets, as JSON.
    pub fn get(&self, args: &[&str]) -> Told<Value> {
        let printed = self.kubectl(&[&["get", "--output=json"], args].concat())?;
        serde_json::from_str(&printed).map_err(|error| format!("kubectl get {}: {error}", args.join(" ")))
    }

    pub fn apply(&self, namespace: &str, manifest: &str) -> Told<String> {
        self.kubectl_with_input(&["apply", "--namespace", namespace, "--filename=-"], manifest)
    }

    /// Asks until there is an answer.
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
        Err(format!("waited {} s in vain until {what}", patience.as_secs()))
    }

    /// The time after which the slowest kubelet looks anew at the Secrets that its Pods mount.
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

    /// Makes the namespaces, in which Pods have to obey the strictest rules.
    pub fn make_namespaces(&self) -> Told {
        let namespaces = [SYSTEM, SHOP].map(|name| {
            let labels = json!({MARK.0: MARK.1, "pod-security.kubernetes.io/enforce": "restricted"});
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": namespaces});
        self.kubectl_with_input(&["create", "--filename=-"], &list.to_string()).map(drop)
    }

    /// Installs the chart with the image of this build, or upgrades to other values, and waits until all is ready.
    pub fn install(&self, values: &[&str]) -> Told {
        let chart = root().join("charts/tokenry").display().to_string();
        let image = [format!("image.repository={}", self.image.0), format!("image.tag={}", self.image.1)];
        let release = ["upgrade", "--install", RELEASE, &chart, "--namespace", SYSTEM, "--wait", "--timeout=2m"];
        let values = image.iter().map(String::as_str).chain(values.iter().copied());
        let values: Vec<_> = values.flat_map(|value| ["--set-string", value]).collect();
        self.helm(&[&release, &*values].concat()).map(drop)
    }

    /// Uninstalls the chart and waits until no Pod of it is left.
    pub fn uninstall(&self) -> Told {
        self.helm(&["uninstall", RELEASE, "--namespace", SYSTEM, "--ignore-not-found", "--wait"])?;
        self.eventually("no Pod of the release is left", || {
            let left = self.kubectl(&["get", "pods", "--namespace", SYSTEM, "--output=name"])?;
            Ok(left.is_empty().then_some(()))
        })
    }

    /// The Pods of a component that are not being deleted.
    fn pods(&self, component: &str) -> Told<Vec<String>> {
        let selector = format!("--selector=app.kubernetes.io/component={component}");
        let pods = self.get(&["pods", "--namespace", SYSTEM, &selector])?;
        let pods = pods["items"].as_array().into_iter().flatten();
        let standing = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(standing.filter_map(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned).collect())
    }

    /// Deletes the Pods of a component, each when the successor of the one before is ready.
    pub fn replace_pods(&self, component: &str) -> Told {
        let pods = self.pods(component)?;
        for pod in &pods {
            self.kubectl(&["delete", "pod", pod, "--namespace", SYSTEM])?;
            self.rolled_out(SYSTEM, &format!("{RELEASE}-{component}"))?;
            self.tell(&format!("deleted {pod}, and its successor is ready"));
        }
        if pods.is_empty() { Err(format!("there is no Pod of the {component}")) } else { Ok(()) }
    }

    pub fn rolled_out(&self, namespace: &str, deployment: &str) -> Told {
        let deployment = format!("deployment/{deployment}");
        self.kubectl(&["rollout", "status", &deployment, "--namespace", namespace, "--timeout=2m"]).map(drop)
    }

    /// All calls of a caller so far.
    pub fn calls(&self, caller: &str) -> Told<Calls> {
        let log = self.kubectl(&["logs", &format!("deployment/{caller}"), "--namespace", SHOP])?;
        Ok(Calls::parse(&log))
    }

    /// Where the audit log ends now.
    pub fn audit_end(&self) -> u64 {
        self.audit_log.as_ref().map_or(0, |path| controlplane::audit_from(path, 0).1)
    }

    /// Whether nothing was forbidden to operator and verifier since `offset`.
    pub fn nothing_was_forbidden(&self, offset: u64) -> Told {
        let Some(path) = &self.audit_log else { return Ok(()) };
        let users = COMPONENTS.map(|component| format!("system:serviceaccount:{SYSTEM}:{RELEASE}-{component}"));
        let (events, _) = controlplane::audit_from(path, offset);
        for user in &users {
            let mut asked = events.iter().filter(|event| event.user == *user).peekable();
            asked.peek().ok_or_else(|| format!("{} has nothing that {user} asked for", path.display()))?;
            if let Some(event) = asked.find(|event| event.code == 403 && !event.is_try_to_forge()) {
                return Err(format!("forbidden, and should not be: {event:?}"));
            }
        }
        self.tell("the audit log has nothing that was forbidden to operator or verifier");
        Ok(())
    }

    /// Removes what this test made, now or in an earlier run, and refuses where someone else uses Tokenry.
    pub fn remove(&self) -> Told {
        let mark = format!("--selector={}={}", MARK.0, MARK.1);
        let ours = self.kubectl(&["get", "namespaces", "--output=name", &mark])?;
        let taken = self.kubectl(&["get", "namespaces", SYSTEM, SHOP, "--output=name", "--ignore-not-found"])?;
        if let Some(foreign) = taken.lines().find(|name| !ours.lines().any(|our| our == *name)) {
            return Err(format!("{foreign} is there already and not of this test: use a cluster of its own"));
        }
        let definitions = self.definitions()?;
        if ours.is_empty() && !definitions.is_empty() {
            return Err("Tokenry's CRDs are there already and not of this test: use a cluster of its own".into());
        }
        if ours.contains(SYSTEM) {
            self.uninstall()?;
        }
        let definitions: Vec<_> = definitions.lines().collect();
        if !definitions.is_empty() {
            self.kubectl(&[&["delete", "--timeout=2m"], &*definitions].concat())?;
        }
        self.kubectl(&["delete", "namespaces", &mark, "--timeout=2m"]).map(drop)
    }

    /// The names of Tokenry's definitions that are installed.
    pub fn definitions(&self) -> Told<String> {
        let all = self.kubectl(&["get", "customresourcedefinitions", "--output=name"])?;
        Ok(all.lines().filter(|name| name.ends_with(".tokenry.dev")).map(|name| format!("{name}\n")).collect())
    }

    /// What one needs to find out what went wrong.
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
        for deployment in ["shop-proxy", "shop-manager", "caller-rotating", "caller-exporter"] {
            show(&["logs", &format!("deployment/{deployment}"), "--namespace", SHOP, "--tail=100"]);
        }
        state
    }
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
