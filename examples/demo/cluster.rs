//! The cluster of the demo, and the commands of kubectl and helm that change it.

use std::{
    env,
    fs::{DirBuilder, File},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use controlplane::ControlPlane;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::{NAMESPACE, Options, Told, edge, progress, root};

/// The cluster of the demo.
pub struct Cluster {
    pub place: Place,
    pub program: PathBuf,
    /// Flags by which kubectl selects this cluster.
    pub flags: Vec<String>,
    pub client: Client,
}

/// The kind of cluster: one that the demo starts, or an existing one.
pub enum Place {
    /// A control plane that ends with the demo.
    Own(Box<ControlPlane>),
    /// An existing cluster, and a directory of the demo for logs and credentials.
    Theirs(Scratch),
}

impl Cluster {
    pub async fn open(options: &Options) -> Told<Self> {
        let (place, context) = match &options.context {
            Some(context) => (Place::Theirs(Scratch::create()?), Some(context.clone())),
            None => {
                progress("starting etcd, kube-apiserver and kube-controller-manager");
                (Place::Own(Box::new(ControlPlane::start().map_err(|error| error.to_string())?)), None)
            }
        };
        let (kubeconfig, flag) = match &place {
            Place::Own(plane) => {
                let path = plane.kubeconfig();
                (Kubeconfig::read_from(path), ["--kubeconfig".to_owned(), path.display().to_string()])
            }
            Place::Theirs(_) => (Kubeconfig::read(), ["--context".to_owned(), context.clone().unwrap_or_default()]),
        };
        let unreadable = |error| format!("cannot use the kubeconfig: {error}");
        let which = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig.map_err(unreadable)?, &which).await;
        let client = Client::try_from(config.map_err(unreadable)?).map_err(|error| error.to_string())?;
        Ok(Self { program: tool("kubectl", &place)?, flags: flag.into(), client, place })
    }

    pub fn is_own(&self) -> bool {
        matches!(self.place, Place::Own(_))
    }

    pub fn directory(&self) -> &Path {
        match &self.place {
            Place::Own(plane) => plane.directory(),
            Place::Theirs(scratch) => &scratch.0,
        }
    }

    /// Runs kubectl and returns its output. If kubectl fails, the error is its standard error.
    pub fn kubectl(&self, args: &[&str], input: &str) -> Told<String> {
        let mut command = Command::new(&self.program);
        command.args(&self.flags).arg("--cache-dir").arg(self.directory().join("kubectl")).args(args);
        output(&mut command, input).map_err(|error| format!("kubectl {}: {error}", args.join(" ")))
    }

    pub fn apply(&self, object: &Value) -> Told {
        self.kubectl(&["apply", "--server-side", "-f", "-"], &object.to_string()).map(drop)
    }

    /// True if the cluster has no object of this kind and name.
    pub fn lacks(&self, kind: &str, name: &str) -> Told<bool> {
        Ok(self.kubectl(&["get", kind, name, "--ignore-not-found", "--output=name"], "")?.is_empty())
    }

    pub fn make_namespace(&self) -> Told {
        self.kubectl(&["create", "namespace", NAMESPACE], "").map(drop).map_err(|error| match &*self.flags {
            [context, name] if error.contains("AlreadyExists") => format!(
                "{error}\nIf another demo runs in this cluster, wait until it ends. If a demo was killed, remove its \
                 namespace: kubectl {context} {name} delete namespace {NAMESPACE}"
            ),
            _ => error,
        })
    }

    pub fn install_crds(&self) -> Told {
        let crds = root().join("crds").display().to_string();
        self.kubectl(&["apply", "--server-side", "-f", &crds], "")?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds], "").map(drop)
    }

    /// The chart's roles, bindings and admission policies, as YAML. Their names begin with the demo's name. In an
    /// existing cluster, they apply to the demo's namespace only.
    fn rights(&self) -> Told<String> {
        const STAMPS: &str = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";
        let mut helm = Command::new(tool("helm", &self.place)?);
        helm.args(["template", NAMESPACE, "--namespace", NAMESPACE]).arg(root().join("charts/tokenry"));
        for part in ["serviceaccounts", "clusterroles", "bindings", "userroles", "admission"] {
            helm.args(["--show-only", &format!("templates/{part}.yaml")]);
        }
        helm.args(["--set", &format!("exposure.kinds={{{}}}", edge::KINDS.join(","))]);
        if !self.is_own() {
            helm.args(["--set", &format!("scopedNamespace={NAMESPACE},rbac.aggregateClusterRoles=false")]);
        }
        // The examples name no owner. So a server that stamps no owner must not require one.
        match self.stamps()? {
            true => helm.args(["--api-versions", STAMPS]),
            false => helm.args(["--set", "admission.requireOwner=false"]),
        };
        output(&mut helm, "").map_err(|error| format!("helm template: {error}"))
    }

    /// Tells if the API server can record the creator of a token.
    fn stamps(&self) -> Told<bool> {
        let served = self.kubectl(&["get", "--raw", "/apis/admissionregistration.k8s.io/v1"], "")?;
        Ok(served.contains("\"mutatingadmissionpolicies\""))
    }

    pub fn install_rights(&self) -> Told {
        self.kubectl(&["apply", "--server-side", "-f", "-"], &self.rights()?).map(drop)
    }

    /// A kubeconfig file for the account that `component` runs as.
    pub fn kubeconfig(&self, component: &str) -> Told<PathBuf> {
        let account = format!("{NAMESPACE}-{component}");
        let token = self.kubectl(&["create", "token", &account, "--namespace", NAMESPACE, "--duration", "8h"], "")?;
        let mut kubeconfig = self.own_kubeconfig()?;
        kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
        self.write_kubeconfig(component, &kubeconfig)
    }

    /// A kubeconfig file for the administrator, for this cluster alone.
    pub fn administrator(&self) -> Told<PathBuf> {
        self.write_kubeconfig("administrator", &self.own_kubeconfig()?)
    }

    fn own_kubeconfig(&self) -> Told<Value> {
        let own = self.kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"], "")?;
        serde_json::from_str(&own).map_err(|error| format!("kubectl config view: {error}"))
    }

    fn write_kubeconfig(&self, name: &str, kubeconfig: &Value) -> Told<PathBuf> {
        let path = self.directory().join(format!("{name}.kubeconfig"));
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(kubeconfig.to_string().as_bytes()))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }

    /// Removes the demo's objects from an existing cluster, except the CRDs.
    pub fn leave(&self) -> Told {
        if self.is_own() {
            return Ok(());
        }
        progress("removing the namespace, the rights and the admission policies of the demo");
        self.kubectl(&["delete", "--ignore-not-found", "-f", "-"], &self.rights()?)?;
        self.kubectl(&["delete", "ingressclass", "--selector", &edge::MADE_BY.join("=")], "")?;
        self.kubectl(&["delete", "namespace", NAMESPACE], "")?;
        eprintln!(
            "The CRDs are kept, also those of Traefik. To remove those of Tokenry and all its objects of the cluster: kubectl delete -f crds/"
        );
        Ok(())
    }
}

/// A directory that only this user can read. It is removed on drop.
pub struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Told<Self> {
        let path = env::temp_dir().join(format!("{NAMESPACE}-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If this fails, logs remain, and credentials of accounts that no longer exist.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The path of kubectl or helm. For an existing cluster, the program on the `PATH` is preferred, because its version
/// fits that cluster. Otherwise the program is built.
fn tool(name: &str, place: &Place) -> Told<PathBuf> {
    match (place, on_path(name)) {
        (Place::Theirs(_), Some(path)) => Ok(path),
        _ => controlplane::program(name).map_err(|error| error.to_string()),
    }
}

/// The path of a program on the `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Runs a command with `input` on its standard input, and returns its output. If the command fails, the error is its
/// standard error.
fn output(command: &mut Command, input: &str) -> Told<String> {
    let (stdin, stdout, stderr) = (Stdio::piped(), Stdio::piped(), Stdio::piped());
    let failed = |error: std::io::Error| error.to_string();
    let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
