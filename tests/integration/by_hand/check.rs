//! `check` and `version`, on a release of the chart with an operator and two verifiers.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use tokenry::outside::Extent;

use crate::harness::{
    World,
    clock::Held,
    hand::{Done, run},
    judged::{Judged, User},
    release,
    rights::asking,
    root,
    run::Running,
};

/// A release whose programs run in this process, each with a Pod.
struct Released {
    judged: Judged,
    operator: Running,
}

impl Released {
    async fn new(name: &str) -> (Self, Vec<Running>) {
        let world = release::installed(name).await;
        let clock = Held::default();
        let operator = world.leader(&clock).await;
        let verifiers = vec![world.verifier(&clock).await, world.verifier(&clock).await];
        world.ready(&operator).await;
        world.pod_of("operator", 0, &operator).await;
        for (nth, verifier) in verifiers.iter().enumerate() {
            world.pod_of("verifier", nth, verifier).await;
        }
        world.smallest().await;
        world.await_reason("ci", "Active").await;
        (Self { judged: Judged { world }, operator }, verifiers)
    }

    fn world(&self) -> &World {
        &self.judged.world
    }

    /// Changes the cluster as its administrator.
    fn kubectl(&self, args: &[&str]) -> String {
        self.world().plane.kubectl(args).unwrap()
    }

    /// A user without any right of its own.
    fn user(&self, name: &str) -> User<'_> {
        User::of(&self.judged, self.world().acting_as(name), name)
    }

    /// A user with all rights.
    async fn root(&self) -> User<'_> {
        let binding = ["create", "clusterrolebinding", "root", "--clusterrole", "cluster-admin", "--user", "root"];
        // A second binding of this name is refused.
        let _ = self.world().plane.kubectl(&binding);
        self.world().await_right(true, &asking("root", &[]), "*", ("*", "*"), "").await;
        self.user("root")
    }
}

/// The results of `check --output json`.
fn results(done: &Done) -> Vec<Value> {
    let told: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    told["checks"].as_array().unwrap().clone()
}

/// The things that are wrong with a part, each in one line.
fn wrong(done: &Done, part: &str) -> String {
    let of_part = results(done).into_iter().filter(|result| result["part"] == part);
    let each = of_part.flat_map(|result| result["wrong"].as_array().cloned().unwrap_or_default());
    each.map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
}

const JSON: [&str; 3] = ["check", "-o", "json"];
/// The parts of an installation that are checked.
const PARTS: [&str; 6] = ["cluster", "definitions", "admission", "rights", "operator", "verifiers"];

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_is_checked_and_each_fault_and_each_missing_right_is_named() {
    let (released, verifiers) = Released::new("check").await;
    all_is_well(&released).await;
    few_rights(&released).await;
    documented_rights(&released).await;
    faults_of_policies(&released).await;
    faults_of_rights(&released).await;
    faults_of_verifiers(&released, verifiers).await;
    operators_without_an_election(&released).await;
    faults_of_the_leader(released).await;
}

async fn all_is_well(released: &Released) {
    let root = released.root().await;
    let well = root.tokenry(&["check", "--wait", "60s"]).await;
    assert!(well.well().ends_with("√ all is well\n") && !well.out.contains(['×', '‼']), "{well:?}");
    assert!(well.out.lines().all(|line| line.chars().count() <= 80), "{well:?}");
    assert!(well.out.contains("√ the verifiers know the same objects"), "{well:?}");
    assert!(well.out.contains("√ one operator leads: tokenry-operator-0 since 20"), "{well:?}");
    assert!(well.out.contains("√ the operator may lead by Lease tokenry-system/tokenry-operator"), "{well:?}");
    for kept in ["the tokens of others", "Instances and policies"] {
        assert!(well.out.contains(&format!("√ you may keep {kept} in namespace ")), "{kept}: {well:?}");
    }
    assert_eq!(root.tokenry(&["check", "--output", "short"]).await.well(), "");
    let parts: Vec<_> = results(&root.tokenry(&JSON).await).iter().map(|result| result["part"].clone()).collect();
    for part in PARTS {
        assert!(parts.contains(&json!(part)), "{part}: {parts:?}");
    }
    let elsewhere = root.tokenry(&["check", "-o", "json", "--system-namespace", "default"]).await;
    assert!(wrong(&elsewhere, "operator").contains("no Pod of the operator is in namespace default"));
    assert_eq!(elsewhere.code, 1);
}

async fn faults_of_policies(released: &Released) {
    let root = released.root().await;
    let binding = released.kubectl(&["get", "validatingadmissionpolicybinding", "tokenry-organizations", "-o", "json"]);
    released.kubectl(&["delete", "validatingadmissionpolicybinding", "tokenry-organizations"]);
    let unbound = async || {
        let done = root.tokenry(&JSON).await;
        let told = wrong(&done, "admission");
        assert!(told.contains("ValidatingAdmissionPolicyBinding tokenry-organizations does not exist"), "{told}");
        (done.code == 1 && told.contains("a dry run with a forged label was accepted")).then_some(())
    };
    released.world().eventually("the policy is not in force", unbound).await;
    // It waits until the binding is there again.
    let mut waiting = root.command(&["check", "--wait", "60s"]);
    let waiting = waiting.stdout(Stdio::null()).spawn().unwrap();
    let mut binding: Value = serde_json::from_str(&binding).unwrap();
    binding["metadata"] = json!({"name": "tokenry-organizations"});
    released.world().plane.kubectl_with_input(&["create", "-f", "-"], &binding.to_string()).unwrap();
    assert_eq!(tokio::task::block_in_place(|| waiting.wait_with_output()).unwrap().status.code(), Some(0));
}

async fn faults_of_rights(released: &Released) {
    let root = released.root().await;
    let columns = r#"[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/0"}]"#;
    released.kubectl(&["patch", "crd", "apitokens.tokenry.dev", "--type", "json", "--patch", columns]);
    // Rights that the operator does not use now, so that none of its requests is refused.
    let verbs =
        |rule: usize, verbs: &[&str]| json!({"op": "replace", "path": format!("/rules/{rule}/verbs"), "value": verbs});
    let patch = json!([verbs(0, &["list", "watch"]), verbs(1, &["get", "list", "watch"])]).to_string();
    released.kubectl(&["patch", "clusterrole", "tokenry-operator", "--type", "json", "--patch", &patch]);
    // The operator has its Lease already.
    let patch = json!([verbs(0, &["list"])]).to_string();
    released.kubectl(&["patch", "clusterrole", "tokenry-operator-leader", "--type", "json", "--patch", &patch]);
    let done = root.tokenry(&JSON).await;
    assert_eq!(done.code, 1);
    let told = wrong(&done, "definitions");
    assert_eq!(
        told,
        "CustomResourceDefinition apitokens.tokenry.dev differs at spec.versions[0].additionalPrinterColumns"
    );
    let missing = async || {
        let told = wrong(&root.tokenry(&JSON).await, "rights");
        let all = ["get instances.tokenry.dev", "create leases.coordination.k8s.io", "delete apitokens.tokenry.dev"];
        (told == all.map(|right| format!("missing: {right}")).join("\n")).then_some(())
    };
    released.world().eventually("the missing rights are named", missing).await;
}

/// Two operators of which none leads are a warning.
async fn operators_without_an_election(released: &Released) {
    let (world, operator) = (released.world(), ["deployment", "tokenry-operator", "--namespace", "tokenry-system"]);
    let deployment = released.kubectl(&[&["get"], &operator[..], &["-o", "json"]].concat());
    let deployment: Value = serde_json::from_str(&deployment).unwrap();
    let given = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    let set = |args: &Value| {
        let change = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": args}]);
        released.kubectl(&[&["patch"], &operator[..], &["--type", "json", "--patch", &change.to_string()]].concat());
    };
    set(&json!(["operator"]));
    world.pod_of("operator", 0, &released.operator).await;
    world.pod_of("operator", 1, &released.operator).await;
    let told = wrong(&released.root().await.tokenry(&JSON).await, "operator");
    assert!(told.contains("2 operators run, and refuse each other's writes"), "{told}");
    set(given);
    world.pod_of("operator", 0, &released.operator).await;
    let gone = ["delete", "pod", "tokenry-operator-1", "--namespace", "tokenry-system", "--force", "--grace-period=0"];
    released.kubectl(&gone);
}

/// The Lease is stale once its leader was killed, and nobody may look at it without a right.
async fn faults_of_the_leader(released: Released) {
    let Released { judged, operator } = released;
    let root = User::of(&judged, judged.world.acting_as("root"), "root");
    let told = async || wrong(&root.tokenry(&JSON).await, "operator");
    let kubectl = |args: &[&str]| {
        judged.world.plane.kubectl(&[args, &["lease", "tokenry-operator", "--namespace", "tokenry-system"]].concat())
    };
    assert_eq!(told().await, "");
    operator.kill().await;
    let stale = async || {
        let told = told().await;
        let wanted = ["Lease tokenry-system/tokenry-operator is stale", "by tokenry-operator-0 since "];
        wanted.iter().all(|text| told.contains(text)).then_some(())
    };
    judged.world.eventually("the Lease is stale", stale).await;
    kubectl(&["delete"]).unwrap();
    let gone = told().await;
    assert!(gone.contains("Lease tokenry-system/tokenry-operator does not exist"), "{gone}");
    judged.world.plane.stop_api_server();
}

async fn faults_of_verifiers(released: &Released, verifiers: Vec<Running>) {
    let root = released.root().await;
    // One verifier is away, and another one serves another namespace.
    let mut others = verifiers.into_iter();
    let (kept, stopped) = (others.next().unwrap(), others.next().unwrap());
    stopped.stop().await;
    let done = root.tokenry(&JSON).await;
    let told = wrong(&done, "verifiers");
    assert!(told.contains("Pod tokenry-verifier-1 does not answer: "), "{told}");
    let elsewhere = released.world().beside("elsewhere", json!({})).await;
    let client = released.world().plane.client_for(&released.world().identities.verifier);
    let scope = Extent::of([&elsewhere.namespace]);
    // A verifier of one namespace reads it by name, which the release for all namespaces need not.
    let own = ["clusterrole", "own-namespace", "--verb", "get,watch", "--resource", "namespaces"];
    released.kubectl(&[&["create"], &own[..]].concat());
    let bound = ["--clusterrole", "own-namespace", "--serviceaccount", "tokenry-system:tokenry-verifier"];
    released.kubectl(&[&["create", "clusterrolebinding", "own-namespace"], &bound[..]].concat());
    let deaf = elsewhere.verifier_by(client, &Held::default(), |options| options.scope = scope).await;
    elsewhere.ready(&deaf).await;
    released.world().pod_of("verifier", 1, &deaf).await;
    let told = wrong(&root.tokenry(&JSON).await, "verifiers");
    assert!(told.contains("apitokens: Pod tokenry-verifier-0 knows 1, and Pod tokenry-verifier-1 knows 0"), "{told}");
    drop(kept);
}

/// A user with few rights gets warnings that name the missing ones.
async fn few_rights(released: &Released) {
    let nobody = released.user("nobody");
    let done = nobody.tokenry(&JSON).await;
    assert_eq!(done.code, 0, "{done:?}");
    let home = nobody.home();
    for (part, right) in [
        ("definitions", "not checked: you may not get customresourcedefinitions".to_owned()),
        ("admission", "not checked: you may not list validatingadmissionpolicies".to_owned()),
        ("admission", format!("not checked: you may not create apitokens.tokenry.dev in namespace {home}")),
        ("rights", "not checked: you may not create subjectaccessreviews".to_owned()),
        ("rights", "missing: create apitokens.tokenry.dev".to_owned()),
        ("operator", "not checked: you may not list pods in namespace tokenry-system".to_owned()),
        ("operator", "not checked: you may not get leases.coordination.k8s.io in namespace tokenry-system".to_owned()),
        ("verifiers", "not checked: you may not list pods in namespace tokenry-system".to_owned()),
    ] {
        assert!(wrong(&done, part).contains(&right), "{right}: {done:?}");
    }
    assert!(results(&done).iter().all(|result| result["health"] != "failed"), "{done:?}");
    assert!(!done.out.contains("the tokens of others") && !done.out.contains("Instances and policies"), "{done:?}");
    for form in ["table", "short"] {
        let told = nobody.tokenry(&["check", "--output", form]).await;
        let command = format!("\n  kubectl tokenry check --system-namespace tokenry-system -n {home}\n");
        assert_eq!(told.well().matches("let an administrator run this check").count(), 1, "{told:?}");
        assert!(told.out.ends_with(&command), "{told:?}");
    }
    keeper(released).await;
    let told = nobody.tokenry(&["version"]).await;
    assert!(told.well().contains("you may not list pods in namespace tokenry-system"), "{told:?}");
    let advice = "if the release is not in namespace tokenry-system, name its namespace by --system-namespace; \
                  the versions need the right to list pods there\n\
                  you may not list pods in namespace tokenry-system; an administrator allows it by:\n  \
                  kubectl tokenry grant user:nobody --workloads -n tokenry-system --apply\n";
    assert!(told.err.ends_with(advice), "{told:?}");
    assert!(told.out.contains("kinds") && told.out.contains("v1alpha1"), "{told:?}");

    let role = ["create", "role", "look", "--verb", "list", "--resource", "pods", "--namespace", "tokenry-system"];
    released.kubectl(&role);
    let bind = ["create", "rolebinding", "look", "--role", "look", "--user", "looker", "--namespace", "tokenry-system"];
    released.kubectl(&bind);
    let looker = released.user("looker");
    let listed = async || {
        let told = wrong(&looker.tokenry(&JSON).await, "verifiers");
        told.contains("not checked: you may not get pods/proxy in namespace tokenry-system").then_some(())
    };
    released.world().eventually("the looker may list Pods", listed).await;
    let told: Value = serde_json::from_str(looker.tokenry(&["version", "-o", "json"]).await.well()).unwrap();
    let pod = json!({"program": "operator", "pod": "tokenry-operator-0", "version": env!("CARGO_PKG_VERSION")});
    assert_eq!(told["pods"][0], pod);
    let root = released.root().await;
    let elsewhere = root.tokenry(&["version", "--system-namespace", "default"]).await;
    assert!(elsewhere.well().contains("no Pod is in namespace default"), "{elsewhere:?}");
    assert!(elsewhere.err.contains("name its namespace by --system-namespace"), "{elsewhere:?}");

    let before = nobody.tokenry(&["check", "--pre", "-o", "json"]).await;
    assert_eq!(before.code, 1, "{before:?}");
    let told = wrong(&before, "installation");
    assert!(told.contains("missing: create clusterroles.rbac.authorization.k8s.io"), "{told}");
    for right in
        ["create secrets", "create rolebindings.rbac.authorization.k8s.io", "create poddisruptionbudgets.policy"]
    {
        assert!(told.contains(&format!("missing: {right}")), "{right}: {told}");
    }
    // Rights of the operator, of one that grants, of one that keeps a certificate, and of the verifier.
    for right in [
        "create secrets",
        "use serviceaccounts.tokenry.dev",
        "patch configmaps",
        "update leases.coordination.k8s.io",
        "watch accesspolicies.tokenry.dev",
    ] {
        assert!(told.contains(&format!("missing: {right}")), "{right}: {told}");
    }
    assert!(told.contains("not checked: you may not list customresourcedefinitions"), "{told}");
    released.kubectl(&["annotate", "crd", "apitokens.tokenry.dev", "meta.helm.sh/release-name-"]);
    let before = root.tokenry(&["check", "--pre", "-o", "json"]).await;
    let told = wrong(&before, "installation");
    assert_eq!(
        told,
        "CustomResourceDefinition apitokens.tokenry.dev exists, in the same form, and belongs to no helm release"
    );
}

/// The rights that the page gives a user that checks, each with its namespace. `None`: in all namespaces.
fn documented(home: &str) -> Vec<(String, Option<String>)> {
    let page = fs::read_to_string(root().join("docs/how-to/check.md")).unwrap();
    let (_, section) = page.split_once("\n## Rights of a user that checks\n").unwrap();
    let cells = section.lines().filter(|line| line.starts_with("| `")).map(|row| row.split('|').nth(1).unwrap());
    let right = |cell: &str| {
        let namespace = [("`tokenry-system`", "tokenry-system"), ("your namespace", home)]
            .into_iter()
            .find_map(|(place, namespace)| cell.contains(place).then(|| namespace.to_owned()));
        (cell.split('`').nth(1).unwrap().to_owned(), namespace)
    };
    cells.map(right).collect()
}

/// With exactly the documented rights, everything is checked. Without one of them, the warnings name it and no other.
async fn documented_rights(released: &Released) {
    let rights = documented(released.user("x").home());
    let holder = |nth: usize| format!("checker-{nth}");
    let mut objects = Vec::new();
    for (nth, (right, namespace)) in rights.iter().enumerate() {
        let (verb, resource) = right.split_once(' ').unwrap();
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let api = "rbac.authorization.k8s.io";
        let rules = json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]);
        let (name, version) = (holder(nth), format!("{api}/v1"));
        objects.push(json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}));
        let others = (0..=rights.len()).filter(|other| *other != nth);
        let subjects: Vec<_> =
            others.map(|other| json!({"apiGroup": api, "kind": "User", "name": holder(other)})).collect();
        let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
        let role = json!({"apiGroup": api, "kind": "ClusterRole", "name": name});
        objects.push(json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace},
            "roleRef": role, "subjects": subjects}));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    released.world().plane.kubectl_with_input(&["create", "-f", "-"], &list).unwrap();
    let unchecked = async |nth: usize| {
        let done = released.user(&holder(nth)).tokenry(&JSON).await;
        let all = PARTS.map(|part| wrong(&done, part)).join("\n");
        let told = all.lines().filter_map(|text| text.strip_prefix("not checked: you may not "));
        (done.code, told.map(str::to_owned).collect::<Vec<_>>())
    };
    let complete = async || (unchecked(rights.len()).await == (0, Vec::new())).then_some(());
    released.world().eventually("the documented rights are enough", complete).await;
    for (nth, (right, namespace)) in rights.iter().enumerate() {
        let place = namespace.as_ref().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
        let (_, told) = unchecked(nth).await;
        assert!(!told.is_empty() && told.iter().all(|told| *told == format!("{right}{place}")), "{right}: {told:?}");
    }
}

/// A user that keeps the tokens of others, and lacks a right for it.
async fn keeper(released: &Released) {
    let bind = ["create", "clusterrolebinding", "keeper", "--clusterrole", "tokenry-keeper", "--user", "keeper"];
    released.kubectl(&bind);
    let keeper = released.user("keeper");
    let missing = async || {
        let told = wrong(&keeper.tokenry(&JSON).await, "rights");
        told.contains("missing: patch apitokens.tokenry.dev\nmissing: delete apitokens.tokenry.dev").then_some(told)
    };
    let told = released.world().eventually("a keeper is told the missing rights", missing).await;
    assert!(!told.contains("missing: assign") && !told.contains("missing: revoke"), "{told}");
}

#[test]
fn the_version_of_the_client_needs_no_cluster_and_an_absent_one_is_told() {
    let command = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(args).env("KUBECONFIG", "/nowhere").env("HOME", "/nowhere");
        run(command, "")
    };
    let own = env!("CARGO_PKG_VERSION");
    assert!(command(&["version", "--client"]).well().contains(own));
    let told: Value = serde_json::from_str(command(&["version", "--client", "-o", "json"]).well()).unwrap();
    assert_eq!(told, json!({"client": own}));
    let away = command(&["version"]);
    assert!(away.code == 3 && away.out.contains(own) && away.err.contains("no cluster is configured"), "{away:?}");
    assert_eq!(
        away.err,
        "tokenry: no cluster is configured; run in a cluster or set KUBECONFIG: there is no file /nowhere\n"
    );
    assert_eq!(command(&["check"]).code, 3);
    assert!(command(&["docs"]).well().contains("troubleshooting"));
    assert!(command(&["docs", "check#rights"]).well().starts_with("## Rights\n"));
    assert!(command(&["docs", "nothing"]).failed(2).contains("`kubectl tokenry docs` lists all pages"));
}
