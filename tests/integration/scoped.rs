//! Releases for some namespaces each, with Roles alone, side by side on one control plane.

use std::{iter, sync::Arc};

use controlplane::{ControlPlane, Identities};
use serde_json::{Value, json};
use tokenry::outside::Extent;

use crate::harness::{Plane, World, clock::Held, rights::asking, root, run::Running};

/// Every object of the chart has it.
const OURS: &str = "app.kubernetes.io/part-of=tokenry";
/// The owner of all tokens.
const ALICE: &str = "user:alice@example.com";

impl World {
    /// A namespace without a release.
    async fn bare(plane: &Arc<ControlPlane>, name: &str) -> Self {
        let none = Identities { operator: String::new(), verifier: String::new() };
        Self::within(&Plane { plane: plane.clone(), identities: none }, name, json!({})).await
    }

    /// A namespace with a release of its own, called `tokenry` like all others, which serves the namespaces of `others`
    /// too. Its programs act as the accounts of the release.
    async fn released(plane: &Arc<ControlPlane>, name: &str, others: &[&Self], values: &str) -> Self {
        let mut world = Self::bare(plane, name).await;
        world.release("install", others, values);
        let token = |account: &str| {
            let args = ["create", "token", account, "--namespace", &world.namespace];
            plane.kubectl(&args).unwrap().trim().to_owned()
        };
        world.identities = Identities { operator: token("tokenry-operator"), verifier: token("tokenry-verifier") };
        world
    }

    /// Installs or upgrades the release, so that it serves this namespace and `others`.
    fn release(&mut self, action: &str, others: &[&Self], values: &str) {
        let chart = root().join("charts/tokenry").display().to_string();
        let others = others.iter().map(|world| &*world.namespace);
        let further: Vec<_> = others.clone().map(|name| format!("additionalScopedNamespaces={{{name}}},")).collect();
        let scope = format!("scopedNamespace={},{}scopedRBAC=true,{values}", self.namespace, further.concat());
        let args = [action, "tokenry", &chart, "--namespace", &self.namespace, "--set", scope.trim_end_matches(',')];
        self.plane.helm(&args).unwrap();
        self.scope = Extent::of(iter::once(&*self.namespace).chain(others));
    }

    /// The operator and the verifier of the release.
    async fn programs(&self) -> (Running, Running) {
        let clock = Held::default();
        let operator = self.operator_by(self.plane.client_for(&self.identities.operator), &clock).await;
        self.ready(&operator).await;
        (operator, self.verifier(&clock).await)
    }

    /// Makes an Instance with a member and a token of it, and waits until the token is in force and used.
    async fn serves(&self, verifier: &Running) {
        let members = json!([{"subject": ALICE, "role": "admin", "organizations": {"all": true}}]);
        let spec = json!({"ceiling": "Members", "members": members, "tokens": {"namespaces": {"from": "All"}}});
        self.accepts("Instance", "eem", spec).await;
        self.issues("ci", self, verifier).await;
        // The verifier's policy lets its verifier write, and the operator's policy lets its operator grant.
        let used = async || self.token("ci").await.status?.used().first().map(|_| ());
        self.eventually("its first use is written", used).await;
        let bindings =
            ["get", "rolebindings", "--selector", "tokenry.dev/owner-uid", "--output", "name", "--namespace"];
        let granted = async || {
            let found = self.plane.kubectl(&[&bindings[..], &[&self.namespace]].concat()).unwrap();
            (!found.trim().is_empty()).then_some(())
        };
        self.eventually("the member may give its role", granted).await;
    }

    /// Makes a token of the Instance in the namespace `home`, and waits until it is in force.
    async fn issues(&self, name: &str, home: &Self, verifier: &Running) -> String {
        let instance = json!({"name": "eem", "namespace": home.namespace});
        self.accepts("ApiToken", name, json!({"instanceRef": instance, "owner": ALICE, "role": "viewer"})).await;
        self.await_reason(name, "Active").await;
        let value = self.value(name).await.unwrap();
        home.await_verdict(verifier, &value, 200).await;
        value
    }

    /// Issues, rotates and revokes tokens of the Instance in the namespace `home`. The token `ci` stays.
    async fn lives(&self, home: &Self, verifier: &Running) {
        let revoked = self.issues("gone", home, verifier).await;
        self.change("ApiToken", "gone", json!({"revoked": true})).await.unwrap();
        home.await_verdict(verifier, &revoked, 401).await;
        let leaked = self.issues("ci", home, verifier).await;
        let again = json!({"regenerate": {"id": "leak", "previous": {"after": "0s"}}});
        self.change("ApiToken", "ci", again).await.unwrap();
        self.await_generation("ci", 2).await;
        let value = self.value("ci").await.unwrap();
        home.await_verdict(verifier, &value, 200).await;
        home.await_verdict(verifier, &leaked, 401).await;
    }

    /// An account of this release, as a subject of requests.
    fn account(&self, name: &str) -> Value {
        asking(&format!("system:serviceaccount:{}:tokenry-{name}", self.namespace), &[])
    }

    /// Waits until the accounts of this release may keep and judge the tokens of that namespace, or until neither may.
    async fn await_keeping(&self, other: &Self, kept: bool) {
        other.await_right(kept, &self.account("operator"), "get", ("secrets", ""), "").await;
        other.await_right(kept, &self.account("verifier"), "list", ("apitokens", "tokenry.dev"), "").await;
    }
}

#[tokio::test]
async fn two_releases_side_by_side_have_roles_alone_and_do_not_refuse_each_other() {
    let plane = Arc::new(ControlPlane::start().unwrap());
    let jobs = World::bare(&plane, "team-a-jobs").await;
    let mut first = World::released(&plane, "team-a", &[&jobs], "admission.requireOwner=true").await;
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crds", "--all"]).unwrap();
    let second = World::released(&plane, "team-b", &[], "crds.enabled=false").await;
    let of_cluster = ["get", "clusterroles,clusterrolebindings", "--selector", OURS, "--output", "name"];
    assert_eq!(plane.kubectl(&of_cluster).unwrap(), "");
    let ((operator_a, verifier_a), (operator_b, verifier_b)) = (first.programs().await, second.programs().await);
    first.serves(&verifier_a).await;
    second.serves(&verifier_b).await;
    jobs.lives(&first, &verifier_a).await;

    for (world, served) in [(&first, true), (&jobs, true), (&second, false)] {
        first.await_keeping(world, served).await;
    }
    assert!(!first.allows(&first.account("operator"), "list", ("namespaces", ""), "").await);
    // Neither verifier knows the tokens of the other.
    let value = second.value("ci").await.unwrap();
    assert_eq!((verifier_a.present(&second, &value).await, verifier_b.present(&second, &value).await), (401, 200));

    // The policies of each judge its own namespaces, and nobody writes the status of a token there.
    for (world, release) in [(&first, &first), (&jobs, &first), (&second, &second)] {
        let forged = json!({"status": {"records": []}}).to_string();
        let args =
            ["patch", "apitoken", "ci", "--subresource=status", "--type=merge", "--patch", &forged, "--namespace"];
        let told = plane.kubectl(&[&args[..], &[&world.namespace]].concat()).unwrap_err();
        assert!(told.contains(&format!("tokenry-{}-status", release.namespace)), "{told}");
    }

    // A namespace goes from a release, with all rights there. Its tokens are known no more, and stay as they are.
    operator_a.stop().await;
    verifier_a.stop().await;
    first.release("upgrade", &[], "admission.requireOwner=true");
    for (world, served) in [(&first, true), (&jobs, false)] {
        first.await_keeping(world, served).await;
    }
    let (operator_a, verifier_a) = first.programs().await;
    for (world, status) in [(&first, 200), (&jobs, 401)] {
        let value = world.value("ci").await.unwrap();
        assert_eq!(verifier_a.present(&first, &value).await, status);
    }
    assert_eq!(verifier_b.present(&second, &value).await, 200);

    // The other release goes, and this one stays as it is.
    operator_a.stop().await;
    verifier_a.stop().await;
    let policies = ["get", "validatingadmissionpolicies", "--selector", OURS, "--output", "json"];
    let count = || {
        let list: Value = serde_json::from_str(&plane.kubectl(&policies).unwrap()).unwrap();
        list["items"].as_array().unwrap().len()
    };
    let both = count();
    plane.helm(&["uninstall", "tokenry", "--namespace", &first.namespace]).unwrap();
    assert_eq!(count() * 2, both);
    second.issues("later", &second, &verifier_b).await;
    operator_b.stop().await;
    verifier_b.stop().await;
}

#[tokio::test]
async fn a_role_that_is_missing_in_one_namespace_is_named_and_the_others_are_heard_meanwhile() {
    let plane = Arc::new(ControlPlane::start().unwrap());
    let jobs = World::bare(&plane, "team-jobs").await;
    let mut team = World::released(&plane, "team", &[&jobs], "").await;
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crds", "--all"]).unwrap();
    let unbind = |account: &str| {
        let binding = format!("tokenry-{account}-scoped");
        plane.kubectl(&["delete", "rolebinding", &binding, "--namespace", &jobs.namespace]).unwrap();
    };
    unbind("operator");
    unbind("verifier");
    let clock = Held::default();
    let operator = team.operator_by(plane.client_for(&team.identities.operator), &clock).await;
    let verifier = team.unready_verifier(&clock).await;
    for (program, right) in [(&operator, "create secrets"), (&verifier, "list apitokens.tokenry.dev")] {
        team.awaits_not_ready(program, &format!("{right} in namespace {}", jobs.namespace)).await;
        let (_, told) = program.get("/readyz").await;
        assert!(!told.contains(&format!("in namespace {}", team.namespace)), "{told}");
    }
    team.release("upgrade", &[&jobs], "");
    team.ready(&operator).await;
    team.ready(&verifier).await;
    team.serves(&verifier).await;
    let (here, there) = (team.value("ci").await.unwrap(), jobs.issues("ci", &team, &verifier).await);

    // The Role goes while the programs run.
    unbind("verifier");
    let unheard = async || {
        let metrics = verifier.get("/metrics").await.1;
        let age = metrics
            .lines()
            .find_map(|line| line.strip_prefix(r#"tokenry_heard_age_seconds{kind="apitokens.tokenry.dev"} "#));
        (age.unwrap().parse::<f64>().unwrap() > 10.0).then_some(())
    };
    team.eventually("the verifier hears nothing of one namespace", unheard).await;
    for world in [&team, &jobs] {
        world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
        world.await_reason("ci", "Revoked").await;
    }
    team.await_verdict(&verifier, &here, 401).await;
    assert_eq!(verifier.present(&team, &there).await, 200, "it judges by the objects that it heard of last");
    team.release("upgrade", &[&jobs], "");
    team.await_verdict(&verifier, &there, 401).await;
    operator.stop().await;
    verifier.stop().await;
}
