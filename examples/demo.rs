//! `cargo demo`: the life of a token on a real control plane, told while it happens.
//!
//! Every line of the story is something that was read from the API server or answered by the verifier; the demo fails if
//! one of them is not as it should be. Progress goes to standard error, the story to standard output.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a demo stands outside and looks at everything"
)]

use std::{
    env, fmt,
    fs::{DirBuilder, File},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use controlplane::{ControlPlane, Process};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};
use tokenry::{
    crd::{ApiToken, secret},
    token::{Digest, Record, State},
};
use tokio::signal::unix::{SignalKind, signal};

/// Where the story takes place. In a cluster of someone else's, nothing happens outside of it.
const NAMESPACE: &str = "tokenry-demo";
/// The token whose life is told, of `examples/short-lived.yaml`, and the Instance that it opens.
const TOKEN: &str = "short-lived";
const INSTANCE: &str = "shop";

/// The longest that anything is waited for; the slowest takes ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(100);

/// What went wrong, in words.
type Told<T = ()> = Result<T, String>;

/// Tells the life of a token, on a real control plane that needs nothing but this machine.
///
/// Builds what it needs (the first time that takes minutes), starts etcd, kube-apiserver and kube-controller-manager, an
/// operator and a verifier, applies examples/ and shows what becomes of a token that rotates every ten seconds. All of it
/// is gone when the demo ends.
#[derive(Parser)]
#[command(bin_name = "cargo demo")]
struct Options {
    /// Stay until Ctrl-C after the story, and say what to try
    #[arg(long)]
    keep: bool,
    /// Use the cluster of this kubeconfig context instead of a new control plane
    ///
    /// You have to be its administrator. The demo installs the CRDs, makes the namespace tokenry-demo and two sets of
    /// rights, and runs operator and verifier as processes of this machine that look at this namespace only. At the end
    /// it removes the namespace and the rights; the CRDs stay.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("demo: {wrong}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Told {
    let program = build()?;
    let cluster = Cluster::open(options).await?;
    cluster.make_namespace()?;
    let told = tokio::select! {
        told = play(&cluster, &program) => told,
        stopped = stop_signal() => stopped.and_then(|()| Err("interrupted".into())),
    };
    let stayed = match told {
        Ok(stage) if options.keep => {
            stage.say_what_to_try();
            stop_signal().await
        }
        told => told.map(drop),
    };
    // Operator and verifier have ended by now.
    let left = cluster.leave();
    stayed.and(left)
}

/// Sets the stage and tells the story.
async fn play<'a>(cluster: &'a Cluster, program: &Path) -> Told<Stage<'a>> {
    progress("installing the CRDs and the rights");
    cluster.install_crds()?;
    cluster.install_rights()?;
    progress("starting operator and verifier");
    let stage = Stage {
        operator: Actor::start("operator", cluster, program).await?,
        verifier: Actor::start("verifier", cluster, program).await?,
        cluster,
        start: Instant::now(),
    };
    let told = stage.story().await.map_err(|wrong| format!("{wrong}\n{}\n{}", stage.operator, stage.verifier));
    told.map(|()| stage)
}

/// Builds the `tokenry` program beside this one, with the same profile.
fn build() -> Told<PathBuf> {
    progress("building tokenry");
    let cannot = |error| format!("cannot tell where this program lies: {error}");
    let own = env::current_exe().map_err(cannot)?;
    let folder = own.parent().and_then(Path::parent).ok_or("this program lies in no target directory")?;
    let (Some(target), Some(profile)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str())) else {
        return Err(format!("{} is no folder of a target directory", folder.display()));
    };
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // This example is named too, so that its dependencies are built as they are for it already.
        .args(["build", "--bin", "tokenry", "--example", "demo"])
        .args(["--profile", if profile == "debug" { "dev" } else { profile }])
        .arg("--target-dir")
        .arg(target)
        .current_dir(root())
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() { Ok(folder.join("tokenry")) } else { Err("cargo could not build tokenry: see above".into()) }
}

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn progress(what: &str) {
    eprintln!("{what} …");
}

async fn stop_signal() -> Told {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The cluster of the story.
struct Cluster {
    place: Place,
    kubectl: PathBuf,
    /// Flags that tell kubectl which cluster is meant.
    flags: Vec<String>,
    client: Client,
}

enum Place {
    /// A control plane that ends with the demo.
    Own(ControlPlane),
    /// Someone's, and a directory of ours for logs and credentials.
    Theirs(Scratch),
}

impl Cluster {
    async fn open(options: &Options) -> Told<Self> {
        let (place, context) = match &options.context {
            Some(context) => (Place::Theirs(Scratch::create()?), Some(context.clone())),
            None => {
                progress("starting etcd, kube-apiserver and kube-controller-manager");
                (Place::Own(ControlPlane::start().map_err(|error| error.to_string())?), None)
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
        Ok(Self { kubectl: tool("kubectl", &place)?, flags: flag.into(), client, place })
    }

    fn is_own(&self) -> bool {
        matches!(self.place, Place::Own(_))
    }

    fn directory(&self) -> &Path {
        match &self.place {
            Place::Own(plane) => plane.directory(),
            Place::Theirs(scratch) => &scratch.0,
        }
    }

    /// What kubectl prints, or else its error.
    fn kubectl(&self, args: &[&str], input: &str) -> Told<String> {
        let mut command = Command::new(&self.kubectl);
        command.args(&self.flags).arg("--cache-dir").arg(self.directory().join("kubectl")).args(args);
        output(&mut command, input).map_err(|error| format!("kubectl {}: {error}", args.join(" ")))
    }

    fn make_namespace(&self) -> Told {
        self.kubectl(&["create", "namespace", NAMESPACE], "").map(drop).map_err(|error| match &*self.flags {
            [context, name] if error.contains("AlreadyExists") => format!(
                "{error}\nIf another demo runs there, wait for it. If one was killed, remove what it left: \
                 kubectl {context} {name} delete namespace {NAMESPACE}"
            ),
            _ => error,
        })
    }

    fn install_crds(&self) -> Told {
        let crds = root().join("crds").display().to_string();
        self.kubectl(&["apply", "--server-side", "-f", &crds], "")?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds], "").map(drop)
    }

    /// What the chart grants, under names of the demo's own. In someone's cluster it counts in the demo's namespace only.
    fn rights(&self) -> Told<String> {
        let mut helm = Command::new(tool("helm", &self.place)?);
        helm.args(["template", NAMESPACE, "--namespace", NAMESPACE]).arg(root().join("charts/tokenry"));
        for part in ["serviceaccounts", "clusterroles", "bindings"] {
            helm.args(["--show-only", &format!("templates/{part}.yaml")]);
        }
        if !self.is_own() {
            helm.args(["--set", &format!("scopedNamespace={NAMESPACE}")]);
        }
        output(&mut helm, "").map_err(|error| format!("helm template: {error}"))
    }

    fn install_rights(&self) -> Told {
        self.kubectl(&["apply", "--server-side", "-f", "-"], &self.rights()?).map(drop)
    }

    /// A kubeconfig file for the account that `component` runs as.
    fn kubeconfig(&self, component: &str) -> Told<PathBuf> {
        let account = format!("{NAMESPACE}-{component}");
        let token = self.kubectl(&["create", "token", &account, "--namespace", NAMESPACE, "--duration", "8h"], "")?;
        let own = self.kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"], "")?;
        let mut kubeconfig: Value =
            serde_json::from_str(&own).map_err(|error| format!("kubectl config view: {error}"))?;
        kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
        let path = self.directory().join(format!("{component}.kubeconfig"));
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(kubeconfig.to_string().as_bytes()))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }

    /// Takes away what was brought into a cluster of someone else's.
    fn leave(&self) -> Told {
        if self.is_own() {
            return Ok(());
        }
        progress("removing the namespace and the rights of the demo");
        self.kubectl(&["delete", "--ignore-not-found", "-f", "-"], &self.rights()?)?;
        self.kubectl(&["delete", "namespace", NAMESPACE], "")?;
        eprintln!(
            "the CRDs stay; kubectl delete -f crds/ removes them, and with them every Tokenry object of the cluster",
        );
        Ok(())
    }
}

/// A directory that only we may read, removed at the end.
struct Scratch(PathBuf);

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
        // Left behind at worst: a log, and credentials of accounts that are gone.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program: for a cluster of someone else's theirs, which fits it, else one that is built.
fn tool(name: &str, place: &Place) -> Told<PathBuf> {
    match (place, on_path(name)) {
        (Place::Theirs(_), Some(path)) => Ok(path),
        _ => controlplane::program(name).map_err(|error| error.to_string()),
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What a command prints when it is given `input`, or else its error.
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

/// A running operator or verifier.
struct Actor {
    process: Process,
    address: String,
}

impl Actor {
    /// Starts it with the rights that the chart grants, and waits until it is ready.
    async fn start(name: &str, cluster: &Cluster, program: &Path) -> Told<Self> {
        let mut command = Command::new(program);
        command.args([name, "--listen", "127.0.0.1:0", "--log-format", "text"]);
        command.env("KUBECONFIG", cluster.kubeconfig(name)?).env("NO_COLOR", "1");
        if !cluster.is_own() {
            command.args(["--namespace", NAMESPACE]);
        }
        let log = cluster.directory().join(format!("{name}.log"));
        let process =
            Process::start(name, command, &log).map_err(|error| format!("cannot start the {name}: {error}"))?;
        let mut actor = Self { process, address: String::new() };
        let waited = eventually(&format!("the {name} is ready"), async || actor.is_ready().await).await;
        actor.address = waited.map_err(|wrong| format!("{wrong}\n{actor}"))?;
        Ok(actor)
    }

    /// The address it says that it listens at, once it is ready to serve.
    async fn is_ready(&self) -> Told<Option<String>> {
        let log = self.process.log();
        let said = log.lines().find_map(|line| line.strip_prefix("listening on "));
        let Some(address) = said else { return Ok(None) };
        let answer = http()?.get(format!("{address}/readyz")).send().await;
        Ok(answer.is_ok_and(|answer| answer.status().is_success()).then(|| address.to_owned()))
    }
}

/// The end of its log, for the message of a failure.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LINES: usize = 15;
        let log = self.process.log();
        let lines: Vec<_> = log.lines().collect();
        write!(f, "\nThe end of the {}'s log:", self.process.name())?;
        lines.iter().skip(lines.len().saturating_sub(LINES)).try_for_each(|line| write!(f, "\n  {line}"))
    }
}

fn http() -> Told<reqwest::Client> {
    // The verifier is on this machine.
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().map_err(|error| error.to_string())
}

/// Waits until `look` sees something.
async fn eventually<T>(what: &str, look: impl AsyncFn() -> Told<Option<T>>) -> Told<T> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("waited {} s in vain until {what}", PATIENCE.as_secs()));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Everything is there, and the story can be told.
struct Stage<'a> {
    cluster: &'a Cluster,
    operator: Actor,
    verifier: Actor,
    start: Instant,
}

/// What the verifier answered.
struct Answer {
    status: u16,
    headers: HeaderMap,
}

/// A generation, seen on record and in the Secret. Its value is never printed.
struct Generation {
    record: Record,
    value: String,
}

/// The part of a value that everybody may know.
impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        let prefix = self.value.split('_').next().unwrap_or_default();
        write!(f, "{prefix}_{:.SHOWN$}…", self.record.id)
    }
}

impl Stage<'_> {
    async fn story(&self) -> Told {
        println!();
        let first = self.issued().await?;
        self.all_ready().await?;
        let second = self.rotated(&first).await?;
        self.overlap_over(&first, &second).await?;
        self.revoked(&second).await?;
        println!("\nEverything above was seen within {:.0} s.", self.start.elapsed().as_secs_f32());
        Ok(())
    }

    async fn issued(&self) -> Told<Generation> {
        let examples = root().join("examples").display().to_string();
        self.tell("applied", self.cluster.kubectl(&["apply", "--namespace", NAMESPACE, "-f", &examples], "")?);
        let record = eventually("a generation is on record", async || self.record(1).await).await?;
        self.tell("minted", format!("ApiToken {TOKEN}, status.records: {}", about(&record)));
        let first = eventually("the Secret holds generation 1", async || self.served(1).await).await?;
        self.tell("delivered", format!("Secret {TOKEN} holds {first}, whose SHA-256 is the one on record"));
        let refused = self.ask(None).await?;
        refused.must_be(401, "a request without a token")?;
        let challenge = refused.header("www-authenticate");
        self.tell("refused", format!("without a token: {refused}, WWW-Authenticate: {challenge}"));
        let accepted = self.answered(&first, 200).await?;
        let (subject, organization) = (accepted.header("x-tokenry-subject"), accepted.header("x-tokenry-organization"));
        self.tell("accepted", format!("with {first}: {accepted}, as {subject} of organization {organization}"));
        Ok(first)
    }

    /// The other objects of `examples/`.
    async fn all_ready(&self) -> Told {
        let names = eventually("every Tokenry object of examples/ is Ready", async || self.ready_objects()).await?;
        self.tell("ready", names.join("\n"));
        Ok(())
    }

    fn ready_objects(&self) -> Told<Option<Vec<String>>> {
        let printed = self.cluster.kubectl(&["get", "tokenry", "--namespace", NAMESPACE, "-o", "json"], "")?;
        let objects: Value = serde_json::from_str(&printed).map_err(|error| format!("kubectl get: {error}"))?;
        let about = |object: &Value| {
            let conditions = object["status"]["conditions"].as_array()?;
            let ready =
                conditions.iter().find(|condition| condition["type"] == "Ready" && condition["status"] == "True")?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, name, reason) = (&object["kind"], &object["metadata"]["name"], &ready["reason"]);
            Some(format!("{} {}: {}", text(kind), text(name), text(reason)))
        };
        Ok(objects["items"].as_array().into_iter().flatten().map(about).collect())
    }

    async fn rotated(&self, first: &Generation) -> Told<Generation> {
        let second = eventually("the Secret holds generation 2", async || self.served(2).await).await?;
        // In this order, as the overlap of the first is running.
        let (old, new) = (self.ask(Some(first)).await?, self.answered(&second, 200).await?);
        self.tell("rotated", format!("Secret {TOKEN} holds {second}, and status.records: {}", about(&second.record)));
        old.must_be(200, "the predecessor in its overlap")?;
        self.tell("overlap", format!("with {first}: {old}; with {second}: {new}"));
        Ok(second)
    }

    async fn overlap_over(&self, first: &Generation, second: &Generation) -> Told {
        let ends = self.record(1).await?.ok_or("the record of generation 1 is gone before its overlap is over")?;
        let old = self.answered(first, 401).await?;
        let end = ends.end().ok_or("a superseded generation has no end")?;
        if Timestamp::now() < end {
            return Err(format!("{first} was refused before {end}, when its overlap is over"));
        }
        let new = self.ask(Some(second)).await?;
        new.must_be(200, "the successor")?;
        self.tell("over", format!("after {end}, with {first}: {old}; with {second}: {new}"));
        Ok(())
    }

    async fn revoked(&self, second: &Generation) -> Told {
        let patch = ["--type", "merge", "--patch", r#"{"spec":{"revoked":true}}"#];
        let args = [["patch", "apitoken", TOKEN, "--namespace", NAMESPACE].as_slice(), &patch].concat();
        self.tell("revoked", self.cluster.kubectl(&args, "")?);
        let refused = self.answered(second, 401).await?;
        self.tell("refused", format!("with {second}: {refused}"));
        let said = eventually("the Secret is gone and status says so", async || self.ended().await).await?;
        self.tell("ended", format!("{said}; Secret {TOKEN} is gone"));
        Ok(())
    }

    async fn ended(&self) -> Told<Option<String>> {
        let secret = self.secrets().get_opt(TOKEN).await.map_err(|error| error.to_string())?;
        let conditions = self.token().await?.and_then(|token| token.status).map(|status| status.conditions);
        let ready = conditions.into_iter().flatten().find(|ready| ready.type_ == "Ready" && ready.reason == "Revoked");
        let said = ready.map(|ready| format!("ApiToken {TOKEN}, Ready: {}, {}", ready.status, ready.message));
        Ok(said.filter(|_| secret.is_none()))
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.cluster.client.clone(), NAMESPACE)
    }

    async fn token(&self) -> Told<Option<ApiToken>> {
        let tokens: Api<ApiToken> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        tokens.get_opt(TOKEN).await.map_err(|error| error.to_string())
    }

    /// What status has of a generation.
    async fn record(&self, generation: i64) -> Told<Option<Record>> {
        let records = self.token().await?.and_then(|token| token.status).map(|status| status.records);
        Ok(records.into_iter().flatten().find(|record| record.generation == generation))
    }

    /// A generation that is active on record, and whose value the Secret holds.
    async fn served(&self, generation: i64) -> Told<Option<Generation>> {
        let Some(record) = self.record(generation).await?.filter(|record| record.state == State::Active) else {
            return Ok(None);
        };
        let secret = self.secrets().get_opt(TOKEN).await.map_err(|error| error.to_string())?;
        let value = secret.and_then(|secret| secret.data?.remove(secret::TOKEN));
        let value = value.and_then(|value| String::from_utf8(value.0).ok());
        let value = value.filter(|value| Digest::of(value) == record.sha256);
        Ok(value.map(|value| Generation { record, value }))
    }

    /// Asks the verifier about a request that carries a generation's value, as a proxy would.
    async fn ask(&self, generation: Option<&Generation>) -> Told<Answer> {
        let mut request = http()?.get(format!("{}{}", self.verifier.address, authorize(NAMESPACE)));
        if let Some(generation) = generation {
            request = request.header(AUTHORIZATION, format!("Bearer {}", generation.value));
        }
        let answer = request.send().await.map_err(|error| format!("the verifier does not answer: {error}"))?;
        Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone() })
    }

    /// Asks until the answer is this one.
    async fn answered(&self, generation: &Generation, status: u16) -> Told<Answer> {
        let ask = async || Ok(Some(self.ask(Some(generation)).await?).filter(|answer| answer.status == status));
        eventually(&format!("the verifier answers {generation} with {status}"), ask).await
    }

    /// Prints a line of the story, with the seconds that have passed.
    fn tell(&self, word: &str, seen: impl AsRef<str>) {
        let seconds = self.start.elapsed().as_secs_f32();
        let seen = seen.as_ref().replace('\n', &format!("\n{:21}", ""));
        println!("{seconds:6.1} s  {word:<11}{seen}");
    }

    fn say_what_to_try(&self) {
        let (address, mut kubectl) = (&self.verifier.address, "kubectl".to_owned());
        println!("\nEverything stays until Ctrl-C. To try more, in another terminal, in {}:\n", root().display());
        let namespace = match &self.cluster.place {
            Place::Own(plane) => {
                println!("  export KUBECONFIG={}", plane.kubeconfig().display());
                "default"
            }
            Place::Theirs(_) => {
                kubectl += &format!(" {} --namespace {NAMESPACE}", self.cluster.flags.join(" "));
                NAMESPACE
            }
        };
        if on_path("kubectl").is_none() {
            println!("  alias kubectl={}", self.cluster.kubectl.display());
        }
        println!("  {kubectl} apply -f examples/");
        println!(
            "  {kubectl} wait --for=condition=Ready --timeout=30s instances,apitokens,serviceaccounts.tokenry.dev --all"
        );
        println!("  {kubectl} get tokenry");
        println!("  {kubectl} get apitokens --watch");
        println!("  curl -i {address}{} \\", authorize(namespace));
        println!(
            "    -H \"Authorization: Bearer $({kubectl} get secret exporter -o go-template='{{{{.data.token | base64decode}}}}')\""
        );
        println!(
            "\nThe verifier listens at {address}, the operator at {}: both serve /metrics.",
            self.operator.address
        );
    }
}

/// Where a proxy asks about requests to the Instance of the story.
fn authorize(namespace: &str) -> String {
    format!("/v1/instances/{namespace}/{INSTANCE}/authorize")
}

/// What status has of a generation, in words.
fn about(record: &Record) -> String {
    let Record { generation, id, sha256, .. } = record;
    let until = record.end().map_or("for ever".into(), |end| format!("until {end}"));
    format!("generation {generation}, id {id:.6}…, SHA-256 {:.8}…, {until}", sha256.to_string())
}

impl Answer {
    fn must_be(&self, status: u16, whose: &str) -> Told {
        if self.status == status { Ok(()) } else { Err(format!("{whose} was answered with {self}, not with {status}")) }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)
    }
}
