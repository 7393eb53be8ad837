//! Two releases for one namespace each, with Roles alone, on one control plane.

use std::sync::Arc;

use controlplane::{ControlPlane, Identities};
use serde_json::{Value, json};
use tokenry::outside::Extent;

use crate::harness::{Plane, World, clock::Held, root, run::Running};

/// Every object of the chart has it.
const OURS: &str = "app.kubernetes.io/part-of=tokenry";

impl World {
    /// A namespace with a release of its own, called `tokenry` like all others. Its programs act as the accounts of the
    /// release.
    async fn released(plane: &Arc<ControlPlane>, name: &str, values: &str) -> Self {
        let none = Identities { operator: String::new(), verifier: String::new() };
        let mut world = Self::within(&Plane { plane: plane.clone(), identities: none }, name, json!({})).await;
        let chart = root().join("charts/tokenry").display().to_string();
        let scope = format!("scopedNamespace={0},scopedRBAC=true,{values}", world.namespace);
        plane.helm(&["install", "tokenry", &chart, "--namespace", &world.namespace, "--set", &scope]).unwrap();
        let token = |account: &str| {
            let args = ["create", "token", account, "--namespace", &world.namespace];
            plane.kubectl(&args).unwrap().trim().to_owned()
        };
        world.identities = Identities { operator: token("tokenry-operator"), verifier: token("tokenry-verifier") };
        world.scope = Extent::Namespace(world.namespace.clone());
        world
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
        let alice = "user:alice@example.com";
        let members = json!([{"subject": alice, "role": "admin", "organizations": {"all": true}}]);
        self.accepts("Instance", "eem", json!({"ceiling": "Members", "members": members})).await;
        let spec = json!({"instanceRef": {"name": "eem"}, "owner": alice, "role": "viewer"});
        self.accepts("ApiToken", "ci", spec).await;
        self.await_reason("ci", "Active").await;
        let value = self.value("ci").await.unwrap();
        self.await_verdict(verifier, &value, 200).await;
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

    /// True if the account of this release may do that in `namespace`.
    fn account_may(&self, account: &str, verb: &str, resource: &str, namespace: &str) -> bool {
        let user = format!("system:serviceaccount:{}:tokenry-{account}", self.namespace);
        let args = ["auth", "can-i", verb, resource, "--as", &user, "--namespace", namespace];
        self.plane.kubectl(&args).is_ok_and(|answer| answer.trim() == "yes")
    }
}

#[tokio::test]
async fn two_releases_side_by_side_have_roles_alone_and_do_not_refuse_each_other() {
    let plane = Arc::new(ControlPlane::start().unwrap());
    let first = World::released(&plane, "team-a", "admission.requireOwner=true").await;
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crds", "--all"]).unwrap();
    let second = World::released(&plane, "team-b", "crds.enabled=false").await;
    let of_cluster = ["get", "clusterroles,clusterrolebindings", "--selector", OURS, "--output", "name"];
    assert_eq!(plane.kubectl(&of_cluster).unwrap(), "");
    let ((operator_a, verifier_a), (operator_b, verifier_b)) = (first.programs().await, second.programs().await);
    first.serves(&verifier_a).await;
    second.serves(&verifier_b).await;

    for (account, verb, resource) in [("operator", "get", "secrets"), ("verifier", "list", "apitokens.tokenry.dev")] {
        let held = |namespace: &str| first.account_may(account, verb, resource, namespace);
        assert_eq!((held(&first.namespace), held(&second.namespace)), (true, false), "{account}: {verb} {resource}");
    }
    assert!(!first.account_may("operator", "list", "namespaces", &first.namespace));
    // Neither verifier knows the tokens of the other.
    let value = second.value("ci").await.unwrap();
    assert_eq!((verifier_a.present(&second, &value).await, verifier_b.present(&second, &value).await), (401, 200));

    // The policies of each judge its own namespace, and nobody writes the status of a token there.
    for world in [&first, &second] {
        let forged = json!({"status": {"records": []}}).to_string();
        let args =
            ["patch", "apitoken", "ci", "--subresource=status", "--type=merge", "--patch", &forged, "--namespace"];
        let told = plane.kubectl(&[&args[..], &[&world.namespace]].concat()).unwrap_err();
        assert!(told.contains(&format!("tokenry-{}-status", world.namespace)), "{told}");
    }

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
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice@example.com", "role": "viewer"});
    second.accepts("ApiToken", "later", spec).await;
    second.await_reason("later", "Active").await;
    operator_b.stop().await;
    verifier_b.stop().await;
}
