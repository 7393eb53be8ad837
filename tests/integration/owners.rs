//! Whose tokens and accounts are, where nothing stamps it and by names that are none.

use serde_json::json;
use tokenry::{
    admission::{Options, validating},
    crd::Account,
};

use crate::harness::{
    OPERATOR, VERIFIER, World,
    judged::{Judged, User, refused, relabel, token},
};

const ACCOUNT: &str = "ServiceAccount";

#[tokio::test]
async fn where_nothing_stamps_an_owner_is_named() {
    let judged = Judged::new("unstamped").await;
    let alice = judged.user("alice", &[]).await;
    for (label, required) in [("required", true), ("free", false)] {
        unstamped(&judged.world, label, required);
        relabel(&judged.world, json!({"admission": label})).await;
        // Made and refused: the policies hold, and nothing stamps.
        let holds = async || {
            let stamps = json!({"name": "probe", "annotations": {"tokenry.dev/created-by": "user:root"}});
            let forged = alice.create_with("ApiToken", stamps, token(json!({"owner": "user:alice"}))).await;
            forged.err().filter(|told| told.contains(&format!("{label}-")))
        };
        judged.world.eventually("other policies hold", holds).await;
        let left = async || {
            let stamped = alice.create("ApiToken", "left", token(json!({"owner": "user:alice"}))).await.ok()?;
            alice.delete("ApiToken", "left").await.unwrap();
            stamped.metadata.annotations.is_none().then_some(())
        };
        judged.world.eventually("nothing stamps", left).await;
        for kind in ["ApiToken", ACCOUNT] {
            let told = "spec.owner: is needed, and nothing stamps it here: name yourself, user:alice";
            let answer = alice.create(kind, &format!("{label}-none"), token(json!({}))).await;
            if required {
                refused(answer, told);
            } else {
                assert!(answer.unwrap().data["spec"].get("owner").is_none());
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

/// Policies that judge the namespaces of this label, and stamp nothing.
fn unstamped(world: &World, label: &str, required: bool) {
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
