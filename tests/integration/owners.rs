//! Whose tokens and accounts are, where nothing stamps it and by names that are none.

use serde_json::json;
use tokenry::{
    admission::{Options, validating},
    crd::{Account, Instance},
};

use crate::harness::{
    OPERATOR, VERIFIER, World,
    clock::Held,
    judged::{Judged, User, relabel, token},
    root,
    run::Running,
};

const ACCOUNT: &str = "ServiceAccount";

#[tokio::test]
async fn where_nothing_stamps_an_owner_is_named() {
    let judged = Judged::new("unstamped").await;
    let alice = judged.user("alice", &[]).await;
    for (label, required) in [("required", true), ("free", false)] {
        await_unstamped(&alice, label, required).await;
        for kind in ["ApiToken", ACCOUNT] {
            let told = "spec.owner: is needed, and nothing stamps it here: name yourself, user:alice";
            if required {
                let asked = async || {
                    // Each policy comes to hold by itself: until this one does, the object is made. When it does, only
                    // the administrator may delete an object that nobody owns.
                    let answer = alice.create(kind, &format!("{label}-none"), token(json!({}))).await;
                    if answer.is_ok() {
                        judged.world.delete(kind, &format!("{label}-none")).await;
                    }
                    answer.err().filter(|said| said.contains(told))
                };
                judged.world.eventually("an owner is asked for", asked).await;
            } else {
                let made = async || alice.create(kind, &format!("{label}-none"), token(json!({}))).await.ok();
                let made = judged.world.eventually("none is asked for", made).await;
                assert!(made.data["spec"].get("owner").is_none());
            }
            alice.create(kind, &format!("{label}-own"), token(json!({"owner": "user:alice"}))).await.unwrap();
        }
    }
    // Who is called by what is no name names another.
    relabel(&judged.world, json!({"admission": "required"})).await;
    let star = judged.user("*", &[]).await;
    let told = "spec.owner: is needed, and your name can be none: have it made by somebody whose name has at most 253 bytes and no control \
        characters";
    let asked = async || {
        let answer = star.create("ApiToken", "star", token(json!({}))).await;
        answer.err().filter(|said| said.ends_with(told))
    };
    judged.world.eventually("the policies hold again", asked).await;
}

#[tokio::test]
async fn where_nothing_stamps_a_manifest_may_name_the_labels_of_organizations_or_lack_them() {
    let judged = Judged::new("unmarked").await;
    let (alice, bob) = (judged.user("alice", &[]).await, judged.user("bob", &[]).await);
    await_unstamped(&alice, "unmarked", true).await;
    let key = |name: &str| format!("organization.tokenry.dev/{name}");
    let of = |listed: &[&str]| token(json!({"owner": "user:alice", "organizations": {"listed": listed}}));
    let labelled = |labels: serde_json::Value| json!({"metadata": {"labels": labels}});
    let with = |name: &str, label: &str| json!({"name": name, "labels": {key(label): ""}});
    // Until the policy holds, a probe is let in. So each has a name of its own.
    let probe = json!({"generateName": "probe-", "labels": {key("west"): ""}});
    let holds = async || alice.create_with("ApiToken", probe.clone(), of(&["north"])).await.err();
    let told = judged.world.eventually("the policy holds", holds).await;
    assert!(told.contains(&format!("metadata.labels: remove {}; ", key("west"))), "{told}");
    let bare = alice.create("ApiToken", "bare", of(&["north"])).await.unwrap();
    assert_eq!(bare.metadata.labels, None);
    alice.create_with("ApiToken", with("marked", "north"), of(&["north", "south"])).await.unwrap();
    let odd = alice.patch("ApiToken", "marked", labelled(json!({key("north"): "x"}))).await.unwrap_err();
    assert!(odd.contains("such a label has an empty value"), "{odd}");
    // Nobody else takes it away; to name an organization of the token is free.
    let taken = bob.patch("ApiToken", "marked", labelled(json!({key("north"): null}))).await.unwrap_err();
    assert!(taken.contains("is owned by user:alice"), "{taken}");
    bob.patch("ApiToken", "bare", labelled(json!({key("north"): ""}))).await.unwrap();
    // It goes with the organization.
    let left = json!({"organizations": {"listed": ["south"]}});
    let told = alice.change("ApiToken", "marked", left.clone()).await.unwrap_err();
    assert!(told.contains(&format!("metadata.labels: remove {}; ", key("north"))), "{told}");
    let both = json!({"metadata": {"labels": {key("north"): null, key("south"): ""}}, "spec": left});
    alice.patch("ApiToken", "marked", both).await.unwrap();
}

/// Installs policies that stamp nothing, for the namespaces of this label, and waits until they and no others hold.
async fn await_unstamped(alice: &User<'_>, label: &str, required: bool) {
    let world = &alice.judged.world;
    unstamped(world, label, required);
    relabel(world, json!({"admission": label})).await;
    // Made and refused: the policies hold, and nothing stamps.
    let holds = async || {
        let stamps = json!({"name": "probe", "annotations": {"tokenry.dev/created-by": "user:root"}});
        let forged = alice.create_with("ApiToken", stamps, token(json!({"owner": "user:alice"}))).await;
        forged.err().filter(|told| told.contains(&format!("{label}-")))
    };
    world.eventually("other policies hold", holds).await;
    let left = async || {
        let stamped = alice.create("ApiToken", "left", token(json!({"owner": "user:alice"}))).await.ok()?;
        alice.delete("ApiToken", "left").await.unwrap();
        stamped.metadata.annotations.is_none().then_some(())
    };
    world.eventually("nothing stamps", left).await;
}

/// Policies that judge the namespaces of this label, and stamp nothing.
pub fn unstamped(world: &World, label: &str, required: bool) {
    let options = Options {
        name: label.to_owned(),
        operator: OPERATOR.into(),
        verifier: VERIFIER.into(),
        require_owner: required.to_string(),
        exempt: Vec::new(),
        namespaces: json!({"matchLabels": {"admission": label}}),
    };
    let list = json!({"apiVersion": "v1", "kind": "List", "items": validating(&options)});
    world.plane.kubectl_with_input(&["apply", "-f", "-"], &list.to_string()).unwrap();
}

impl World {
    /// Waits until the operator says whether tokens are stamped, in its metric and of the Instance `strict`, which
    /// judges by owners.
    async fn await_stamped(&self, operator: &Running, stamped: bool) {
        let line = format!("tokenry_stamped {}", u8::from(stamped));
        let says = async || {
            let counted = operator.get("/metrics").await.1.lines().any(|said| said == line);
            let told = self.told_of_missing_stamps("strict").await.is_some();
            (counted && told != stamped).then_some(())
        };
        self.eventually(&format!("it says whether tokens are stamped: {stamped}"), says).await;
    }

    /// What an Instance says of missing stamps, if it says anything. Either way it is ready.
    async fn told_of_missing_stamps(&self, instance: &str) -> Option<String> {
        let conditions = self.api::<Instance>().get(instance).await.unwrap().status?.conditions;
        let one = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
        assert_eq!(one("Ready")?.status, "True");
        assert!(one("Stalled").is_none() && one("Reconciling").is_none(), "{conditions:?}");
        one("StampsMissing").map(|missing| format!("{} {}: {}", missing.status, missing.reason, missing.message))
    }
}

#[tokio::test]
async fn that_nothing_stamps_is_told_once_in_log_metric_and_status_until_something_does() {
    let world = World::alone("unstamped").await;
    let crds = root().join("crds").display().to_string();
    world.plane.kubectl(&["apply", "--server-side", "-f", &crds]).unwrap();
    let policies = "mutatingadmissionpolicies,mutatingadmissionpolicybindings";
    world.plane.kubectl(&["delete", "--all", policies]).unwrap();
    let operator = world.operator(&Held::default()).await;
    let process = world.operator_process(0);
    world.ready(&operator).await;
    world.accepts("Instance", "strict", json!({"ceiling": "Members"})).await;
    world.accepts("Instance", "lax", json!({})).await;
    world.await_stamped(&operator, false).await;
    let told = world.told_of_missing_stamps("strict").await.unwrap();
    let wanted = "True StampsMissing: nothing stamps the requester on tokens and accounts: each must name its owner";
    assert!(told.starts_with(wanted), "{told}");
    assert_eq!(world.told_of_missing_stamps("lax").await, None, "it does not judge by owners");

    world.plane.install_rights(root()).unwrap();
    world.await_stamped(&operator, true).await;
    let logged =
        async || process.log().contains("the API server stamps the requester on each new token").then(|| process.log());
    let log = world.eventually("the log says so", logged).await;
    assert_eq!(log.matches("nothing stamps the requester on tokens: install the chart with").count(), 1, "{log}");
}

#[tokio::test]
async fn a_group_with_a_carriage_return_is_no_group() {
    let judged = Judged::new("carriage").await;
    let world = &judged.world;
    let editors = ["create", "rolebinding", "odd", "--clusterrole", "edit", "--user", "odd"];
    world.plane.kubectl(&[&editors[..], &["--namespace", &world.namespace]].concat()).unwrap();
    let client = world.plane.client_for(world.plane.odd_token());
    let api: kube::Api<Account> = kube::Api::namespaced(client.clone(), &world.namespace);
    let odd = User::of(&judged, client, "odd");
    let allowed = async || api.list(&Default::default()).await.ok();
    world.eventually("odd may edit", allowed).await;
    let made = odd.create("ApiToken", "a", token(json!({}))).await.unwrap();
    assert_eq!(made.data["spec"]["owner"], "user:odd");
    let groups = &made.metadata.annotations.unwrap()["tokenry.dev/owner-groups"];
    assert_eq!(groups, "0\nx\nsystem:authenticated");
}
