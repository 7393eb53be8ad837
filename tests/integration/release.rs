//! A release of the chart by the real helm: what an upgrade and an uninstall change, and what they leave as it is.

use std::{fs, path::Path, sync::Arc, time::Duration};

use controlplane::{ControlPlane, NAMESPACE};
use serde_json::{Value, json};
use tokenry::crd::{Account, Instance};

use crate::harness::{Plane, World, clock::Held, release::identities, root, run::Running};

/// Every object of the chart has it.
const OURS: &str = "app.kubernetes.io/part-of=tokenry";

/// A release called `tokenry` on a control plane of its own.
struct Release {
    plane: Arc<ControlPlane>,
    chart: String,
}

impl Release {
    /// Nothing is installed yet. The servers end with the release and its worlds.
    fn new() -> Self {
        let plane = Arc::new(ControlPlane::start().unwrap());
        Self { plane, chart: root().join("charts/tokenry").display().to_string() }
    }

    fn helm(&self, args: &[&str]) -> Result<String, String> {
        self.plane.helm(&[args, &["--namespace", NAMESPACE]].concat())
    }

    fn install(&self, chart: &str, args: &[&str]) {
        self.helm(&[&["install", "tokenry", chart, "--create-namespace"], args].concat()).unwrap();
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crds", "--selector", OURS]);
    }

    fn upgrade(&self, args: &[&str]) {
        self.helm(&[&["upgrade", "tokenry", &self.chart], args].concat()).unwrap();
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.plane.kubectl(args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    fn get(&self, kind: &str, name: &str) -> Value {
        let text = self.kubectl(&["get", kind, name, "--namespace", NAMESPACE, "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    }

    /// The names of those of our objects in the cluster that are not definitions.
    fn parts(&self) -> String {
        let namespaced = "deployments,services,serviceaccounts,poddisruptionbudgets";
        let get = ["get", "--selector", OURS, "-o", "name"];
        self.kubectl(&[&get[..], &[namespaced, "--namespace", NAMESPACE]].concat())
            + &self.kubectl(&[&get[..], &["clusterroles,clusterrolebindings"]].concat())
    }

    fn definitions(&self) -> String {
        self.kubectl(&["get", "crds", "--selector", OURS, "-o", "name"])
    }

    /// A namespace that the accounts of the release serve.
    async fn world(&self) -> World {
        let plane = Plane { plane: self.plane.clone(), identities: identities(&self.plane) };
        World::within(&plane, "release", json!({})).await
    }
}

impl World {
    /// An operator and a verifier, as the Deployments of the release would run them, and as `--wait` would wait for
    /// them.
    async fn components(&self, clock: &Held) -> (Running, Running) {
        let (operator, verifier) = (self.operator(clock).await, self.verifier(clock).await);
        self.ready(&operator).await;
        (operator, verifier)
    }

    /// Everything that users and the operator made in the namespace, as it is stored.
    fn stored(&self) -> Vec<Value> {
        let kinds = "instances,serviceaccounts.tokenry.dev,apitokens,secrets";
        let text = self.plane.kubectl(&["get", kinds, "--namespace", &self.namespace, "-o", "json"]).unwrap();
        let mut list: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(list["items"].take()).unwrap()
    }

    /// Uses the token `ci`, and waits until that is written, and the token counted: what changes then, no release has
    /// changed.
    async fn first_use(&self, verifier: &Running) {
        self.await_verdict(verifier, &self.value("ci").await.unwrap(), 200).await;
        let used = async || self.token("ci").await.status?.used().first().map(|_| ());
        self.eventually("its first use is written", used).await;
        let counted = async || {
            let instance = self.api::<Instance>().get("eem").await.unwrap().status?.tokens?;
            let account = self.api::<Account>().get("ci").await.unwrap().status?;
            (instance.active == 1 && account.tokens?.active == 1 && account.last_used_at.is_some()).then_some(())
        };
        self.eventually("the token is counted", counted).await;
    }

    /// Shows in another namespace that the operator is at work: what is not changed in this one, it has left alone.
    async fn another_token_is_served(&self) -> World {
        let another = self.beside("another", json!({})).await;
        another.smallest().await;
        another.await_reason("ci", "Active").await;
        another
    }
}

/// Waits until the garbage collector has heard that there are ApiTokens, which it asks about twice in a minute. It
/// collects nothing of a kind that it never knew.
async fn collector_knows_tokens(another: &World) {
    another.delete("ApiToken", "ci").await;
    another.eventually("the Secret goes", async || another.value("ci").await.is_none().then_some(())).await;
}

/// Makes the chart of an older release in `folder`: its definition of ApiToken knows no `displayName`, and it has no
/// values.
fn older(folder: &Path) -> String {
    let chart = folder.join("tokenry");
    copy(&root().join("charts/tokenry"), &chart);
    let edit = |path: &str, change: &dyn Fn(String) -> String| {
        let path = chart.join(path);
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
    };
    edit("Chart.yaml", &|text| text.replace("0.1.0", "0.0.9"));
    edit("values.yaml", &|_| "{}".into());
    edit("files/crds/apitokens.tokenry.dev.yaml", &|text| {
        let mut definition: Value = serde_saphyr::from_str(&text).unwrap();
        let fields = definition.pointer_mut(SPEC).unwrap().as_object_mut().unwrap();
        fields.remove("displayName").unwrap();
        let rules = definition.pointer_mut(RULES).unwrap().as_array_mut().unwrap();
        rules.retain(|rule| !rule["rule"].as_str().unwrap().contains("displayName"));
        definition.to_string()
    });
    chart.display().to_string()
}

/// Where a definition lists the rules of a spec.
const RULES: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations";

/// Where a definition lists the fields of a spec.
const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";

/// Copies a folder with all that it has.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn an_upgrade_brings_the_definitions_up_to_date_and_leaves_tokens_as_they_are() {
    let release = Release::new();
    release.install(&older(release.plane.directory()), &["--set", "verifier.replicaCount=1"]);
    let (world, clock) = (release.world().await, Held::default());
    let (operator, verifier) = world.components(&clock).await;
    world.accepts("Instance", "eem", json!({})).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "displayName": "Exporter"});
    let token = world.accepts("ApiToken", "ci", spec).await;
    assert_eq!(token.data["spec"].get("displayName"), None, "the older definition does not know it");
    world.await_reason("ci", "Active").await;
    world.first_use(&verifier).await;
    let value = world.value("ci").await.unwrap();
    let before = world.stored();
    assert_eq!(before.len(), 4, "{before:?}");

    // Also with nothing but the values that it had.
    release.upgrade(&["--reuse-values"]);
    let parts = release.parts();
    assert_eq!(release.get("deployment", "tokenry-verifier")["spec"]["replicas"], 1);
    release.upgrade(&["--reset-then-reuse-values", "--set", "verifier.replicaCount=3,log.level=debug"]);
    assert_eq!(release.parts(), parts);
    let deployment = release.get("deployment", "tokenry-verifier");
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"]["helm.sh/chart"], "tokenry-0.1.0");
    let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(args.as_array().unwrap().contains(&json!("--log-level=debug")), "{args}");
    let definition = release.get("crd", "apitokens.tokenry.dev");
    assert_eq!(definition["metadata"]["labels"]["app.kubernetes.io/version"], "0.1.0");
    assert_eq!(definition.pointer(SPEC).unwrap()["displayName"]["type"], "string");
    operator.stop().await;
    let operator = world.operator(&clock).await;
    world.another_token_is_served().await;
    assert_eq!(world.stored(), before);
    assert_eq!(verifier.present(&world, &value).await, 200);

    // Definitions that the release no longer has are kept too.
    release.upgrade(&["--reset-then-reuse-values", "--set", "crds.enabled=false"]);
    world.another_token_is_served().await;
    assert_eq!(world.stored(), before);
    let token = world.change("ApiToken", "ci", json!({"displayName": "Exporter"})).await.unwrap();
    assert_eq!(token.data["spec"]["displayName"], "Exporter");
    operator.stop().await;
}

#[tokio::test]
async fn definitions_that_were_applied_by_hand_are_handed_over_and_then_upgraded() {
    let release = Release::new();
    let definitions = Path::new(&older(release.plane.directory())).join("files/crds");
    // The way of those who had no chart: kubectl keeps the fields that it has applied.
    release.kubectl(&["apply", "--filename", &definitions.display().to_string()]);
    let named = |definition: &Value| definition.pointer(SPEC).unwrap().get("displayName").is_some();
    assert!(!named(&release.get("crd", "apitokens.tokenry.dev")), "the older definition does not know it");
    let install = ["install", "tokenry", &release.chart, "--create-namespace"];
    let told = release.helm(&install).unwrap_err();
    let commands: Vec<_> = told.lines().filter_map(|line| line.trim().strip_prefix("kubectl ")).collect();
    assert_eq!(commands.len(), 2, "{told}");
    for command in commands {
        release.kubectl(&command.split_whitespace().collect::<Vec<_>>());
    }
    assert!(told.contains("run helm again with --force-conflicts"), "{told}");
    release.install(&release.chart, &["--force-conflicts"]);
    assert!(named(&release.get("crd", "apitokens.tokenry.dev")), "the release upgrades them");
    assert_eq!(release.definitions().lines().count(), 4);
    // From now on they are the release's, like any others.
    release.upgrade(&["--reset-then-reuse-values", "--set", "commonLabels.team=a"]);
    assert_eq!(release.get("crd", "instances.tokenry.dev")["metadata"]["labels"]["team"], "a");
}

#[tokio::test]
async fn an_upgrade_grants_rights_only_where_the_release_does_so_or_is_asked_to() {
    let release = Release::new();
    // As a release of a chart that knew no grants.
    release.install(&release.chart, &["--set", "grants.enabled=false"]);
    let grants = || {
        let deployment = release.get("deployment", "tokenry-operator");
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        let role = release.get("clusterrole", "tokenry-operator")["rules"].to_string();
        (args.to_string().contains("--grants"), role.contains("rolebindings"))
    };
    let notes = || release.helm(&["get", "notes", "tokenry"]).unwrap();
    assert_eq!(grants(), (false, false));
    release.upgrade(&["--reset-values"]);
    assert_eq!(grants(), (false, false));
    assert!(notes().contains("An upgrade begins it only with --set grants.enabled=true."), "{}", notes());
    release.upgrade(&["--set", "grants.enabled=true"]);
    assert_eq!(grants(), (true, true));
    release.upgrade(&["--reset-values"]);
    assert_eq!(grants(), (true, true), "it stays as it is");
    assert!(notes().contains("Members of an Instance with ceiling: Members may give their roles"), "{}", notes());
    release.upgrade(&["--set", "grants.enabled=false"]);
    assert_eq!(grants(), (false, false));
}

/// Values of a release that is nothing but namespaced objects.
const SMALL: &str = "crds.enabled=false,rbac.create=false,admission.enabled=false";

/// A release of nothing but namespaced objects, by one version of helm.
struct Small<'a> {
    release: &'a Release,
    version: u8,
}

impl Small<'_> {
    fn helm(&self, args: &[&str]) -> Result<String, String> {
        let args = [args, &["--namespace", NAMESPACE]].concat();
        if self.version == 3 { self.release.plane.helm3(&args) } else { self.release.plane.helm(&args) }
    }

    fn install(&self, chart: &str, values: &str) {
        self.helm(&["install", "tokenry", chart, "--create-namespace", "--set", &format!("{SMALL},{values}")]).unwrap();
    }

    fn upgrade(&self, values: &str, more: &[&str]) -> Result<String, String> {
        let args = ["upgrade", "tokenry", &self.release.chart, "--reset-then-reuse-values", "--set", values];
        self.helm(&[&args, more].concat())
    }

    /// A field of the specification of a Deployment.
    fn spec(&self, component: &str, field: &str) -> Value {
        self.release.get("deployment", &format!("tokenry-{component}"))["spec"][field].clone()
    }
}

#[test]
fn an_upgrade_that_begins_an_autoscaler_keeps_the_number_of_verifiers() {
    let release = Release::new();
    let autoscaled = |on: bool| format!("verifier.autoscaling.enabled={on}");
    for version in [3, 4] {
        let small = Small { release: &release, version };
        let verifiers = || small.spec("verifier", "replicas");
        small.install(&release.chart, "verifier.replicaCount=4");
        for change in [autoscaled(true), "log.level=debug".into()] {
            small.upgrade(&change, &[]).unwrap();
            assert_eq!(verifiers(), 4, "helm {version}: {change}");
        }
        // The autoscaler writes this part of the Deployment.
        release.kubectl(&["scale", "deployment/tokenry-verifier", "--replicas=6", "--namespace", NAMESPACE]);
        for level in ["warn", "info"] {
            small.upgrade(&format!("log.level={level}"), &[]).unwrap();
            assert_eq!(verifiers(), 6, "helm {version}: {level}");
        }
        small.helm(&["rollback", "tokenry", "4"]).unwrap();
        assert_eq!(verifiers(), 6, "helm {version}: a rollback");
        let ends = small.upgrade(&autoscaled(false), &[]);
        if version == 4 {
            let told = ends.unwrap_err();
            assert!(told.contains("Apply failed with 1 conflict") && told.contains(".spec.replicas"), "{told}");
            small.upgrade(&autoscaled(false), &["--force-conflicts"]).unwrap();
        } else {
            ends.unwrap();
        }
        assert_eq!(verifiers(), 4, "helm {version}: replicaCount");
        small.helm(&["uninstall", "tokenry"]).unwrap();
    }
}

#[test]
fn the_strategy_of_a_release_can_be_changed_and_changed_back() {
    let (release, recreate) = (Release::new(), "operator.strategy.type=Recreate");
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    for version in [3, 4] {
        let small = Small { release: &release, version };
        let strategy = || small.spec("operator", "strategy");
        small.install(&release.chart, "log.level=info");
        assert_eq!(strategy(), rolling, "as Kubernetes has it by default");
        small.upgrade(recreate, &[]).unwrap();
        assert_eq!(strategy(), json!({"type": "Recreate"}), "helm {version}");
        small.upgrade("operator.strategy.type=RollingUpdate", &[]).unwrap();
        assert_eq!(strategy(), rolling, "helm {version}");
        small.helm(&["uninstall", "tokenry"]).unwrap();
    }
    // An older chart said nothing of it.
    let small = Small { release: &release, version: 4 };
    small.install(&older(release.plane.directory()), "log.level=info");
    let told = small.upgrade(recreate, &[]).unwrap_err();
    assert!(told.contains("spec.strategy.rollingUpdate: Forbidden"), "{told}");
    small.upgrade(recreate, &["--server-side=false"]).unwrap();
    assert_eq!(small.spec("operator", "strategy"), json!({"type": "Recreate"}));
}

#[tokio::test]
async fn an_uninstall_leaves_definitions_and_tokens_which_the_next_install_takes_over() {
    let release = Release::new();
    release.install(&release.chart, &[]);
    let (mut world, clock) = (release.world().await, Held::default());
    let (operator, verifier) = world.components(&clock).await;
    world.smallest().await;
    world.await_reason("ci", "Active").await;
    world.first_use(&verifier).await;
    let value = world.value("ci").await.unwrap();
    let (before, parts, definitions) = (world.stored(), release.parts(), release.definitions());
    assert_eq!((before.len(), parts.lines().count(), definitions.lines().count()), (4, 23, 4), "{parts}{definitions}");
    operator.stop().await;
    verifier.stop().await;

    let told = release.helm(&["uninstall", "tokenry"]).unwrap();
    for kind in ["instances", "serviceaccounts", "apitokens", "accesspolicies"] {
        assert!(
            told.contains(&format!("[CustomResourceDefinition] {kind}.tokenry.dev")),
            "it says what is kept: {told}"
        );
    }
    assert_eq!((release.parts(), release.definitions()), (String::new(), definitions.clone()));
    assert_eq!(world.stored(), before);

    let other = ["install", "other", &release.chart, "--dry-run=server"];
    let told = release.helm(&other).unwrap_err();
    assert!(
        told.contains("exist and do not belong to this release") && told.contains("kubectl annotate crds "),
        "{told}"
    );

    release.install(&release.chart, &[]);
    assert_eq!((release.parts(), release.definitions()), (parts, definitions));
    // Installed anew, the accounts are others.
    world.identities = identities(&release.plane);
    let (operator, verifier) = world.components(&clock).await;
    let another = world.another_token_is_served().await;
    assert_eq!(world.stored(), before);
    assert_eq!(verifier.present(&world, &value).await, 200);
    operator.stop().await;
    verifier.stop().await;

    release.upgrade(&["--reset-then-reuse-values", "--set", "crds.keep=false"]);
    assert_eq!(world.stored(), before);
    collector_knows_tokens(&another).await;
    release.helm(&["uninstall", "tokenry"]).unwrap();
    // A definition that was changed just before is not listed for a while ("storage is (re)initializing"), and the API
    // server waits longer before each further try to delete its objects.
    let gone = async || release.definitions().is_empty().then_some(());
    world.patiently(Duration::from_mins(10), "the definitions go", gone).await;
    world.eventually("the Secrets go", async || world.value("ci").await.is_none().then_some(())).await;
}
