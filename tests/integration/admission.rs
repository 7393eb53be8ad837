//! Who may write what: the admission policies of the chart, each row with somebody who may and somebody who may not;
//! and attempts to take rights.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokenry::{
    crd::{Account, ApiToken},
    token::Digest,
};

use crate::harness::{
    VERIFIER, World,
    clock::Held,
    judged::{Judged, User, refused, relabel, role, token},
    message,
    rights::asking,
    root,
};

#[tokio::test]
async fn a_role_is_given_by_who_may_assign_it_and_raised_by_nobody_else() {
    let judged = Judged::new("assign").await;
    let (alice, bob) = (judged.user("alice", &[]).await, judged.user("bob", &[]).await);
    alice.may_on("assign", "roles", "eem:viewer").await;
    let lacks = |role: &str| {
        format!("spec.role: user:alice may not assign roles.tokenry.dev/eem:{role} in namespace {}", alice.home())
    };
    for kind in ["ApiToken", "ServiceAccount"] {
        alice.create(kind, "a", token(json!({"role": "viewer"}))).await.unwrap();
        refused(alice.create(kind, "b", token(json!({"role": "admin"}))).await, &lacks("admin"));
        refused(alice.change(kind, "a", json!({"role": "admin"})).await, &lacks("admin"));
        // What is not about rights needs none.
        alice.change(kind, "a", json!({"description": "x"})).await.unwrap();
        alice.create(kind, "plain", token(json!({}))).await.unwrap();
        refused(alice.change(kind, "plain", json!({"role": "contributor"})).await, &lacks("contributor"));
    }
    refused(
        bob.create("ApiToken", "b", token(json!({"role": "viewer"}))).await,
        &format!("spec.role: user:bob may not assign roles.tokenry.dev/eem:viewer in namespace {}", bob.home()),
    );
}

#[tokio::test]
async fn a_role_is_assigned_in_the_namespace_of_the_instance_and_not_in_ones_own() {
    let judged = Judged::new("home").await;
    let keepers = judged.world.beside("keepers", json!({"admission": "judged"})).await;
    keepers.accepts("Instance", "eem", json!({"tokens": {"namespaces": {"from": "All"}}})).await;
    let alice = judged.user("alice", &[]).await;
    alice.may_on("assign", "roles", "eem:admin").await;
    let spec = json!({"instanceRef": {"name": "eem", "namespace": keepers.namespace}, "role": "admin"});
    let told =
        format!("spec.role: user:alice may not assign roles.tokenry.dev/eem:admin in namespace {}", keepers.namespace);
    refused(alice.create("ApiToken", "a", spec.clone()).await, &told);
    let right = json!([{"apiGroups": ["tokenry.dev"], "resources": ["roles"], "resourceNames": ["eem:admin"], "verbs": ["assign"]}]);
    alice.may_in(&keepers, right).await;
    alice.create("ApiToken", "a", spec).await.unwrap();
}

#[tokio::test]
async fn a_further_audience_gives_a_role_there() {
    let judged = Judged::new("audiences").await;
    let alice = judged.user("alice", &[]).await;
    alice.may_on("assign", "roles", "eem:admin").await;
    alice.may_on("assign", "roles", "lax:admin").await;
    let audiences = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    alice.create("ApiToken", "a", token(json!({"role": "admin", "audiences": audiences(&["lax"])}))).await.unwrap();
    let lacks = |index: usize, name: &str| {
        let home = alice.home();
        format!("spec.audiences[{index}]: user:alice may not assign roles.tokenry.dev/{name} in namespace {home}")
    };
    // A lax Instance of one's own, and a strict one as audience.
    let eight = ["lax", "b", "c", "d", "e", "f", "g", "strict"];
    let two = json!({"audiences": audiences(&["lax", "strict"])});
    refused(alice.change("ApiToken", "a", two).await, &lacks(1, "strict:admin"));
    for name in &eight[1..7] {
        alice.may_on("assign", "roles", &format!("{name}:admin")).await;
    }
    refused(alice.change("ApiToken", "a", json!({"audiences": audiences(&eight)})).await, &lacks(7, "strict:admin"));
    alice.may_on("assign", "roles", "strict:admin").await;
    alice.change("ApiToken", "a", json!({"audiences": audiences(&eight)})).await.unwrap();
    // Without a role of its own it would have its account's.
    let told = lacks(0, "lax:*");
    refused(alice.create("ApiToken", "b", token(json!({"audiences": audiences(&["lax"])}))).await, &told);
}

#[tokio::test]
async fn a_policy_gives_actions_and_roles_by_who_may() {
    let judged = Judged::new("policies").await;
    let alice = judged.user("alice", &[]).await;
    let policy =
        |statement: Value| json!({"instanceRef": {"name": "eem"}, "members": ["token:a/b"], "statements": [statement]});
    let listed = policy(json!({"effect": "Allow", "actions": ["*"]}));
    let told =
        format!("spec.instanceRef: user:alice may not assign policies.tokenry.dev/eem in namespace {}", alice.home());
    refused(alice.create("AccessPolicy", "p", listed.clone()).await, &told);
    alice.may_on("assign", "policies", "eem").await;
    alice.create("AccessPolicy", "p", listed).await.unwrap();
    let by_role = policy(json!({"effect": "Allow", "role": "admin"}));
    let told =
        format!("spec.statements: user:alice may not assign roles.tokenry.dev/eem:admin in namespace {}", alice.home());
    refused(alice.create("AccessPolicy", "q", by_role.clone()).await, &told);
    refused(alice.change("AccessPolicy", "p", json!({"statements": by_role["statements"]})).await, &told);
    alice.may_on("assign", "roles", "eem:admin").await;
    alice.create("AccessPolicy", "q", by_role).await.unwrap();
    let many: Vec<_> = (0..17).map(|_| json!({"effect": "Allow", "role": "admin"})).collect();
    let told = "spec.statements: at most 16 of them may be by role; make another AccessPolicy for the rest";
    refused(alice.change("AccessPolicy", "q", json!({"statements": many})).await, told);
    alice.change("AccessPolicy", "q", json!({"statements": many[..16]})).await.unwrap();
    let bob = judged.user("bob", &[]).await;
    let told =
        format!("spec.instanceRef: user:bob may not assign policies.tokenry.dev/eem in namespace {}", bob.home());
    refused(bob.change("AccessPolicy", "p", json!({"members": ["token:bob/b"]})).await, &told);
    refused(bob.delete("AccessPolicy", "p").await, &told);
    alice.delete("AccessPolicy", "p").await.unwrap();
}

#[tokio::test]
async fn a_token_or_an_account_joins_and_leaves_a_policy_by_who_may_assign_it() {
    let judged = Judged::new("joining").await;
    let alice = judged.user("alice", &[]).await;
    let joined = |names: &[&str]| json!({"policies": names});
    let lacks = |policy: &str| {
        let home = alice.home();
        format!("spec.policies: user:alice may not assign policies.tokenry.dev/eem:{policy} in namespace {home}")
    };
    alice.may_on("assign", "policies", "eem").await;
    for kind in ["ApiToken", "ServiceAccount"] {
        refused(alice.create(kind, "a", token(joined(&["readers"]))).await, &lacks("readers"));
        alice.create(kind, "a", token(json!({}))).await.unwrap();
        refused(alice.change(kind, "a", joined(&["readers"])).await, &lacks("readers"));
    }
    let eight = ["readers", "b", "c", "d", "e", "f", "g", "h"];
    for policy in &eight[..7] {
        alice.may_on("assign", "policies", &format!("eem:{policy}")).await;
    }
    refused(alice.change("ApiToken", "a", joined(&eight)).await, &lacks("h"));
    let none = json!({"policies": null});
    for kind in ["ApiToken", "ServiceAccount"] {
        alice.change(kind, "a", joined(&eight[..7])).await.unwrap();
        // All of them are replaced in one request: fourteen checks.
        alice.change(kind, "a", joined(&["readers"])).await.unwrap();
        alice.change(kind, "a", none.clone()).await.unwrap();
    }
    // A policy can deny, so leaving it needs the same right.
    judged.world.change("ApiToken", "a", joined(&["frozen"])).await.unwrap();
    alice.change("ApiToken", "a", json!({"description": "it stays a member"})).await.unwrap();
    refused(alice.change("ApiToken", "a", none).await, &lacks("frozen"));
}

#[tokio::test]
async fn a_token_of_another_is_changed_and_deleted_by_who_may_only() {
    let judged = Judged::new("owners").await;
    let (alice, bob) = (judged.user("alice", &["devs"]).await, judged.user("bob", &["ops"]).await);
    let home = alice.home().to_owned();
    alice.create("ApiToken", "a", token(json!({}))).await.unwrap();
    let account = alice.create("ServiceAccount", "a", token(json!({}))).await.unwrap();
    assert_eq!(account.data["spec"]["owner"], "user:alice", "that is stamped on an account, too");
    assert_eq!(account.metadata.annotations.unwrap()["tokenry.dev/created-by"], "user:alice");
    for (kind, called) in [("ApiToken", "ApiToken"), ("ServiceAccount", "ServiceAccount of tokenry.dev")] {
        let told = format!(
            "spec.owner: this {called} is owned by user:alice: user:bob may not assign owners.tokenry.dev/user:alice in namespace {home}"
        );
        refused(bob.change(kind, "a", json!({"description": "mine"})).await, &told);
        refused(bob.change(kind, "a", json!({"owner": "user:bob"})).await, &told);
        refused(bob.delete(kind, "a").await, &told);
        // A dead owner reference has it collected.
        let dead = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}]);
        refused(bob.patch(kind, "a", json!({"metadata": {"ownerReferences": dead}})).await, &told);
        refused(
            bob.patch(kind, "a", json!({"metadata": {"annotations": {"tokenry.dev/confirm-delete": "a"}}})).await,
            &told,
        );
        // Other metadata is free.
        bob.patch(kind, "a", json!({"metadata": {"annotations": {"example.com/x": "y"}, "labels": {"x": "y"}}}))
            .await
            .unwrap();
    }
    let all = bob
        .api("ApiToken")
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .map(drop)
        .map_err(message);
    assert!(all.unwrap_err().contains("user:bob may not assign owners.tokenry.dev/user:alice"));
    assert!(judged.token("a").await.is_some());
    bob.may_on("assign", "owners", "user:alice").await;
    bob.change("ApiToken", "a", json!({"description": "ours"})).await.unwrap();
    bob.delete("ApiToken", "a").await.unwrap();
    // What a group owns each member may change; a team is known to nobody but the Instance.
    alice.may_on("assign", "owners", "group:devs").await;
    alice.create("ApiToken", "g", token(json!({"owner": "group:devs"}))).await.unwrap();
    let told = format!(
        "spec.owner: this ApiToken is owned by group:devs: user:bob may not assign owners.tokenry.dev/group:devs in namespace {home}"
    );
    refused(bob.delete("ApiToken", "g").await, &told);
    let carol = judged.user("carol", &["devs"]).await;
    carol.change("ApiToken", "g", json!({"description": "ours"})).await.unwrap();
    carol.delete("ApiToken", "g").await.unwrap();
}

#[tokio::test]
async fn a_token_that_names_no_owner_is_that_of_the_owner_of_its_account() {
    let judged = Judged::new("implied").await;
    let _operator = judged.world.operator(&Held::default()).await;
    let root = judged.user("root", &["system:masters"]).await;
    root.create("ServiceAccount", "ci", token(json!({"owner": "user:alice"}))).await.unwrap();
    root.create("ApiToken", "a", token(json!({"serviceAccountRef": {"name": "ci"}}))).await.unwrap();
    // As where nothing stamps.
    let unstamped = json!({"spec": {"owner": null}});
    let world = &judged.world;
    relabel(world, json!({"admission": "none"})).await;
    let bare = async || {
        world.api::<ApiToken>().patch("a", &PatchParams::default(), &Patch::Merge(&unstamped)).await.ok()?;
        judged.token("a").await?.spec.owner.is_none().then_some(())
    };
    world.eventually("it names no owner", bare).await;
    let told = async || judged.token("a").await?.status?.owner?.subject.filter(|subject| subject == "user:alice");
    world.eventually("status says whose it is", told).await;
    relabel(world, json!({"admission": "judged"})).await;
    let bob = judged.user("bob", &[]).await;
    let told = format!(
        "spec.owner: this ApiToken is owned by user:alice: user:bob may not assign owners.tokenry.dev/user:alice in namespace {}",
        bob.home()
    );
    world
        .eventually("it is judged", async || bob.change("ApiToken", "a", json!({"description": "x"})).await.err())
        .await;
    refused(bob.change("ApiToken", "a", json!({"owner": "user:bob"})).await, &told);
    let revoked = format!(
        "spec.revoked: this ApiToken is owned by user:alice: user:bob may not revoke organizations.tokenry.dev/eem in namespace {}",
        bob.home()
    );
    refused(bob.change("ApiToken", "a", json!({"revoked": true})).await, &revoked);
    refused(bob.delete("ApiToken", "a").await, &told);
    let alice = judged.user("alice", &[]).await;
    alice.change("ApiToken", "a", json!({"description": "mine"})).await.unwrap();
}

#[tokio::test]
async fn a_token_without_a_role_is_widened_by_who_may_give_any() {
    let judged = Judged::new("widened").await;
    let (bob, root) = (judged.user("bob", &[]).await, judged.user("root", &["system:masters"]).await);
    let scoped = |more: Value| {
        let mut spec = token(json!({"owner": "user:bob", "organizations": {"listed": ["acme"]}, "projects": ["p"]}));
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let home = bob.home().to_owned();
    root.create("ApiToken", "own", scoped(json!({}))).await.unwrap();
    root.create("ApiToken", "shared", scoped(json!({"serviceAccountRef": {"name": "deployer"}}))).await.unwrap();
    root.create("ServiceAccount", "account", scoped(json!({}))).await.unwrap();
    let may_assign = format!(
        "spec.organizations, spec.projects: user:bob may not assign roles.tokenry.dev/eem:* in namespace {home}"
    );
    let may_use = format!(
        "spec.serviceAccountRef: user:bob may not use serviceaccounts.tokenry.dev/deployer in namespace {home}"
    );
    for wider in [
        json!({"organizations": {"all": true, "listed": null}}),
        json!({"organizations": null}),
        json!({"projects": null}),
        json!({"projects": ["p", "q"]}),
    ] {
        refused(bob.change("ApiToken", "own", wider.clone()).await, &may_assign);
        refused(bob.change("ServiceAccount", "account", wider.clone()).await, &may_assign);
        refused(bob.change("ApiToken", "shared", wider).await, &may_use);
    }
    bob.change("ApiToken", "own", json!({"description": "of no concern"})).await.unwrap();
    bob.may_on("use", "serviceaccounts", "deployer").await;
    bob.change("ApiToken", "shared", json!({"projects": null})).await.unwrap();
    bob.may_on("assign", "roles", "eem:*").await;
    bob.change("ApiToken", "own", json!({"organizations": null})).await.unwrap();
}

#[tokio::test]
async fn nobody_takes_an_account_by_making_a_token_its_owner() {
    let judged = Judged::new("adopted").await;
    let _operator = judged.world.operator(&Held::default()).await;
    let (alice, root) = (judged.user("alice", &[]).await, judged.user("root", &["system:masters"]).await);
    root.create("ServiceAccount", "ci", token(json!({"role": "admin"}))).await.unwrap();
    // She may change it, and give it to nothing that acts as it.
    alice.may_on("assign", "owners", "user:root").await;
    let uid = alice.create("ApiToken", "ci", token(json!({}))).await.unwrap().metadata.uid.unwrap();
    judged.world.await_reason("ci", "AccountForeign").await;
    let owned = |version: &str| {
        let owner = json!({"apiVersion": version, "kind": "ApiToken", "name": "ci", "uid": uid, "controller": true});
        json!({"metadata": {"ownerReferences": [owner]}})
    };
    let told = format!(
        "metadata.ownerReferences: user:alice may not use serviceaccounts.tokenry.dev/ci in namespace {}",
        alice.home()
    );
    refused(alice.patch("ServiceAccount", "ci", owned("tokenry.dev/v1alpha1")).await, &told);
    refused(alice.patch("ServiceAccount", "ci", owned("tokenry.dev/v9")).await, &told);
    // What says so under another name is no owner for the operator.
    alice.patch("ServiceAccount", "ci", owned("example.com/v1")).await.unwrap();
    alice.change("ApiToken", "ci", json!({"description": "look again"})).await.unwrap();
    let looked = async || {
        let status = judged.token("ci").await?.status?;
        (status.observed_generation == Some(2)).then_some(status)
    };
    let status = judged.world.eventually("it is looked at", looked).await;
    assert_eq!((status.records.len(), status.account), (0, None));
    judged.world.await_reason("ci", "AccountForeign").await;
}

#[tokio::test]
async fn a_token_is_handed_to_another_by_who_may_and_to_an_administrator_by_nobody() {
    let judged = Judged::new("transfer").await;
    let alice = judged.user("alice", &["devs"]).await;
    let home = alice.home().to_owned();
    let told =
        |owner: &str| format!("spec.owner: user:alice may not assign owners.tokenry.dev/{owner} in namespace {home}");
    refused(alice.create("ApiToken", "a", token(json!({"owner": "user:root"}))).await, &told("user:root"));
    refused(alice.create("ServiceAccount", "a", token(json!({"owner": "user:root"}))).await, &told("user:root"));
    refused(alice.create("ApiToken", "a", token(json!({"owner": "group:admins"}))).await, &told("group:admins"));
    refused(alice.create("ApiToken", "a", token(json!({"owner": "team:platform"}))).await, &told("team:platform"));
    alice.create("ApiToken", "a", token(json!({}))).await.unwrap();
    refused(alice.change("ApiToken", "a", json!({"owner": "user:root"})).await, &told("user:root"));
    alice.may_on("assign", "owners", "user:bob").await;
    let handed = alice.change("ApiToken", "a", json!({"owner": "user:bob"})).await.unwrap();
    let annotations = handed.metadata.annotations.unwrap();
    assert_eq!(annotations["tokenry.dev/created-by"], "user:alice", "that stays");
    assert!(!annotations.contains_key("tokenry.dev/owner-groups"), "the groups were alice's");
    let written = "spec.owner: write the user of a core ServiceAccount as serviceaccount:NAMESPACE/NAME";
    let core = "user:system:serviceaccount:a:b";
    let root = judged.user("root", &["system:masters"]).await;
    refused(root.create("ApiToken", "b", token(json!({"owner": core}))).await, written);
}

#[tokio::test]
async fn an_account_is_used_by_who_may_also_one_that_does_not_exist_yet() {
    let judged = Judged::new("use").await;
    let alice = judged.user("alice", &[]).await;
    let acts = |account: &str| token(json!({"serviceAccountRef": {"name": account}}));
    let told = format!(
        "spec.serviceAccountRef: user:alice may not use serviceaccounts.tokenry.dev/ci in namespace {}",
        alice.home()
    );
    refused(alice.create("ApiToken", "a", acts("ci")).await, &told);
    alice.may_on("use", "serviceaccounts", "ci").await;
    alice.may_on("assign", "roles", "eem:viewer").await;
    let mut spec = acts("ci");
    spec["role"] = json!("viewer");
    alice.create("ApiToken", "a", spec.clone()).await.unwrap();
    // A role that is left out is the account's.
    judged.world.plane.kubectl(&["delete", "role,rolebinding", "--all", "--namespace", alice.home()]).unwrap();
    judged.world.await_right(false, &asking("alice", &[]), "use", ("serviceaccounts", "tokenry.dev"), "ci").await;
    let verbs = json!(["get", "create", "patch"]);
    alice.may(json!([{"apiGroups": ["tokenry.dev"], "resources": ["apitokens"], "verbs": verbs}])).await;
    refused(alice.change("ApiToken", "a", json!({"role": null})).await, &told);
}

#[tokio::test]
async fn a_token_of_another_is_revoked_by_who_may_and_nothing_else_is_done_to_it() {
    let judged = Judged::new("revoke").await;
    let _operator = judged.world.operator(&Held::default()).await;
    let (alice, bob) = (judged.user("alice", &[]).await, judged.user("bob", &[]).await);
    alice.create("ApiToken", "a", token(json!({}))).await.unwrap();
    judged.world.await_reason("a", "Active").await;
    let told = format!(
        "spec.owner: this ApiToken is owned by user:alice: user:bob may not assign owners.tokenry.dev/user:alice in namespace {}",
        bob.home()
    );
    let revoked = format!(
        "spec.revoked: this ApiToken is owned by user:alice: user:bob may not revoke organizations.tokenry.dev/eem in namespace {}",
        bob.home()
    );
    refused(bob.change("ApiToken", "a", json!({"revoked": true})).await, &revoked);
    bob.may_on("revoke", "organizations", "eem").await;
    refused(bob.change("ApiToken", "a", json!({"revoked": true, "description": "x"})).await, &told);
    bob.change("ApiToken", "a", json!({"revoked": true, "revocationReason": "Compromised"})).await.unwrap();
    // Not by `false`, and not by `null` and then `false`.
    let last = "revoked is final: make another ApiToken";
    for value in [json!(false), json!(null)] {
        let answer = alice.change("ApiToken", "a", json!({"revoked": value, "revocationReason": null})).await;
        assert!(answer.unwrap_err().contains(last));
    }
}

#[tokio::test]
async fn a_secret_of_ones_choice_takes_the_right_to_create_secrets() {
    let judged = Judged::new("secrets").await;
    let alice = judged.user("alice", &[]).await;
    let told = format!(
        "spec.secret: user:alice may not create secrets in namespace {}, and so may choose neither name, labels, annotations nor data of one",
        alice.home()
    );
    let chosen = [
        json!({"name": "cluster-admin"}),
        json!({"labels": {"argocd.argoproj.io/secret-type": "cluster"}}),
        json!({"annotations": {"a": "b"}}),
        json!({"data": {"config": "{{ token }}"}}),
    ];
    let plain = json!({"delivery": "Once", "name": "a", "serviceBinding": {"type": "t"}});
    alice.create("ApiToken", "a", token(json!({"secret": plain}))).await.unwrap();
    for secret in &chosen {
        refused(alice.create("ApiToken", "b", token(json!({"secret": secret}))).await, &told);
        refused(alice.change("ApiToken", "a", json!({"secret": secret})).await, &told);
    }
    // What somebody else chose stays when she changes the rest, and she may take some of it away.
    let root = judged.user("root", &["system:masters"]).await;
    let by_root = json!({"name": "other", "labels": {"a": "b", "c": "d"}, "data": {"config": "{{ token }}"}});
    root.create("ApiToken", "r", token(json!({"owner": "user:alice", "secret": by_root}))).await.unwrap();
    alice.change("ApiToken", "r", json!({"secret": {"onRevoke": "Keep", "labels": {"c": null}}})).await.unwrap();
    refused(alice.change("ApiToken", "r", json!({"secret": {"labels": {"a": "c"}}})).await, &told);
    refused(alice.change("ApiToken", "r", json!({"secret": {"data": {"config": "{{ name }}"}}})).await, &told);
    refused(alice.change("ApiToken", "r", json!({"secret": {"name": "third"}})).await, &told);
    alice.change("ApiToken", "r", json!({"secret": null})).await.unwrap();
    alice.may(json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}])).await;
    for (index, secret) in chosen.iter().enumerate() {
        alice.create("ApiToken", &format!("c{index}"), token(json!({"secret": secret}))).await.unwrap();
    }
}

#[tokio::test]
async fn a_workload_is_restarted_for_who_may_patch_it() {
    let judged = Judged::new("restarts").await;
    let alice = judged.user("alice", &[]).await;
    let named = |names: &[&str]| {
        let all = names.iter().map(|name| json!({"kind": "Deployment", "name": name})).collect::<Vec<_>>();
        json!({ "restart": all })
    };
    let lacks = |index: usize, name: &str| {
        format!("spec.restart[{index}]: user:alice may not patch {name} in namespace {}", alice.home())
    };
    refused(alice.create("ApiToken", "a", token(named(&["payments"]))).await, &lacks(0, "Deployment payments"));
    let mine = json!([{"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["a", "b", "c", "d", "e", "f", "g"], "verbs": ["patch"]}]);
    alice.may(mine).await;
    alice.create("ApiToken", "a", token(named(&["a", "b", "c", "d", "e", "f", "g"]))).await.unwrap();
    // All checks of rights that one request can need, together.
    let root = judged.user("root", &["system:masters"]).await;
    let mut most = token(named(&["a", "b", "c", "d", "e", "f", "g", "h"]));
    most["role"] = json!("admin");
    most["owner"] = json!("user:somebody");
    most["serviceAccountRef"] = json!({"name": "x"});
    most["secret"] = json!({"name": "other"});
    most["audiences"] = (0..8).map(|n| json!({"name": format!("i{n}")})).collect();
    root.create("ApiToken", "most", most).await.unwrap();
    refused(
        alice.change("ApiToken", "a", named(&["a", "b", "c", "d", "e", "f", "g", "payments"])).await,
        &lacks(7, "Deployment payments"),
    );
    let stateful = json!({"restart": [{"kind": "StatefulSet", "name": "a"}]});
    refused(alice.change("ApiToken", "a", stateful).await, &lacks(0, "StatefulSet a"));
}

#[tokio::test]
async fn a_refusal_shows_the_role_that_allows_it() {
    let judged = Judged::new("shown").await;
    let alice = judged.user("alice", &[]).await;
    let owner = "user:o'neil \"the\\boss\"/50%";
    for spec in [json!({"role": "viewer"}), json!({"owner": "serviceaccount:ci/bot"}), json!({"owner": owner})] {
        let (rules, _) = shown(&judged.world, alice.create("ApiToken", "a", token(spec.clone())).await);
        alice.may(rules).await;
        alice.create("ApiToken", "a", token(spec)).await.unwrap();
        alice.delete("ApiToken", "a").await.unwrap();
    }
}

/// The rules of the Role that a refusal shows, after it was applied.
fn shown<T>(world: &World, answer: Result<T, String>) -> (Value, String) {
    let told = answer.err().expect("it is refused");
    let mut role = role(&told).unwrap_or_else(|| panic!("{told}"));
    assert_eq!(role["metadata"]["namespace"], world.namespace.as_str());
    world.plane.kubectl_with_input(&["apply", "-f", "-"], &role.to_string()).unwrap();
    (role["rules"].take(), told)
}

#[tokio::test]
async fn who_may_only_revoke_is_shown_the_role_to_revoke() {
    let judged = Judged::new("shown-revoke").await;
    let keepers = judged.world.beside("shown-keepers", json!({"admission": "judged"})).await;
    let _operator = judged.world.operator(&Held::default()).await;
    let (alice, bob) = (judged.user("alice", &[]).await, judged.user("bob", &[]).await);
    // The organization of one is in its spec, and its Instance elsewhere. That of the other is in its status.
    let instance = json!({"name": "eem", "namespace": keepers.namespace});
    let spec = json!({"instanceRef": instance, "organizations": {"listed": ["shop", "eem"]}});
    alice.create("ApiToken", "a", spec).await.unwrap();
    alice.create("ApiToken", "b", token(json!({}))).await.unwrap();
    judged.world.await_reason("b", "Active").await;
    let ends = json!({"revoked": true, "revocationReason": "Compromised"});
    for (name, home, right) in [("a", &keepers, "shop"), ("b", &judged.world, "eem")] {
        let (rules, told) = shown(home, bob.change("ApiToken", name, ends.clone()).await);
        let wanted = json!([{
            "apiGroups": ["tokenry.dev"], "resources": ["organizations"], "resourceNames": [right], "verbs": ["revoke"],
        }]);
        assert_eq!(rules, wanted, "{told}");
        bob.may_in(home, rules).await;
        // Whatever else is asked for takes the right to act for the owner.
        let more = json!({"revoked": true, "description": "x"});
        let told = bob.change("ApiToken", name, more).await.unwrap_err();
        assert_eq!(role(&told).unwrap()["rules"][0]["verbs"], json!(["assign"]), "{told}");
        bob.change("ApiToken", name, ends.clone()).await.unwrap();
    }
}

/// An external endpoint with these fields. It is unguarded if it names no guard. Null takes a field away.
fn external(more: Value) -> Value {
    let mut endpoint = json!({"name": "admin", "type": "external", "host": "a.example.com"});
    endpoint["allowUnguarded"] = (more.get("guard").is_none()).into();
    let fields = endpoint.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    fields.retain(|_, value| !value.is_null());
    endpoint
}

#[tokio::test]
async fn an_instance_exposes_what_its_keeper_could_expose() {
    let judged = Judged::new("expose").await;
    let names = ["none", "alice"];
    let [none, alice] = [judged.user(names[0], &[]).await, judged.user(names[1], &[]).await];
    let service = json!({"manager": {"service": {"name": "database"}}});
    let told = |name: &str, path: &str, what: &str| {
        format!("{path}: user:{name} may not create {what} in namespace {}", alice.home())
    };
    let services = told("none", "spec.manager.service", "services");
    refused(none.create("Instance", "a", service.clone()).await, &services);
    refused(none.change("Instance", "eem", service.clone()).await, &services);
    alice.may(json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["create"]}])).await;
    alice.create("Instance", "a", service).await.unwrap();

    let at = "spec.manager.endpoints";
    let of = |endpoint: &Value| json!({"manager": {"service": {"name": "database"}, "endpoints": [endpoint]}});
    let mut granted = Vec::new();
    // Each is granted once, in this order. An endpoint needs the last one, and those before it.
    for (endpoint, group, resource) in [
        (external(json!({"host": null, "ingress": {}})), "networking.k8s.io", "ingresses"),
        (external(json!({"gateway": {}})), "gateway.networking.k8s.io", "httproutes"),
        (external(json!({"host": null, "route": {}})), "route.openshift.io", "routes"),
        (external(json!({"route": {}})), "route.openshift.io", "routes/custom-host"),
        (external(json!({"ingress": {}, "guard": "Traefik"})), "traefik.io", "middlewares"),
        (external(json!({"gateway": {}, "guard": "EnvoyGateway"})), "gateway.envoyproxy.io", "securitypolicies"),
        (
            external(json!({"gateway": {}, "guard": "Istio", "istio": {"provider": "p"}})),
            "security.istio.io",
            "authorizationpolicies",
        ),
    ] {
        let what = format!("{resource}.{group}");
        refused(alice.change("Instance", "a", of(&endpoint)).await, &told("alice", at, &what));
        alice.may(json!([{"apiGroups": [group], "resources": [resource], "verbs": ["create"]}])).await;
        granted.push(endpoint.clone());
        alice.change("Instance", "a", of(&endpoint)).await.unwrap();
    }
    for endpoint in granted {
        alice.change("Instance", "a", of(&endpoint)).await.unwrap();
    }
    for free in ["ExternalAuth", "Backend"] {
        alice.change("Instance", "a", of(&external(json!({"gateway": {}, "guard": free})))).await.unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_without_a_way_in_may_get_any_of_them() {
    let judged = Judged::new("any-way").await;
    let alice = judged.user("alice", &[]).await;
    let spec =
        json!({"manager": {"service": {"name": "database"}, "endpoints": [external(json!({"guard": "Backend"}))]}});
    let mut rights = vec![("", "services", "spec.manager.service")];
    for (group, resource) in [
        ("gateway.networking.k8s.io", "httproutes"),
        ("networking.k8s.io", "ingresses"),
        ("route.openshift.io", "routes"),
        ("route.openshift.io", "routes/custom-host"),
    ] {
        rights.push((group, resource, "spec.manager.endpoints"));
    }
    for (group, resource, path) in rights {
        let dot = if group.is_empty() { "" } else { "." };
        let home = alice.home();
        let told = format!("{path}: user:alice may not create {resource}{dot}{group} in namespace {home}");
        refused(alice.create("Instance", "a", spec.clone()).await, &told);
        alice.may(json!([{"apiGroups": [group], "resources": [resource], "verbs": ["create"]}])).await;
    }
    alice.create("Instance", "a", spec).await.unwrap();
}

#[tokio::test]
async fn a_network_policy_is_made_for_who_may_make_it_also_by_default() {
    let judged = Judged::new("network").await;
    let alice = judged.user("alice", &[]).await;
    alice.may(json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["create"]}])).await;
    let of = |from: Value, type_: &str| {
        let endpoint = json!({"name": "admin", "type": type_});
        json!({"manager": {"service": {"name": "database"}, "networkPolicy": {"from": from}, "endpoints": [endpoint]}})
    };
    let mut bare = of(json!(null), "internal");
    bare["manager"].as_object_mut().unwrap().remove("networkPolicy");
    let told = format!(
        "spec.manager.networkPolicy: user:alice may not create networkpolicies.networking.k8s.io in namespace {}",
        alice.home()
    );
    let asking =
        [bare, of(json!(null), "internal"), of(json!("Cluster"), "disabled"), of(json!("Proxies"), "internal")];
    for (nth, spec) in asking.iter().enumerate() {
        refused(alice.create("Instance", &format!("a-{nth}"), spec.clone()).await, &told);
    }
    for (name, spec) in [("none", of(json!("None"), "internal")), ("disabled", of(json!(null), "disabled"))] {
        alice.create("Instance", name, spec).await.unwrap();
    }
    let right = json!([{"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["create"]}]);
    alice.may(right).await;
    for (nth, spec) in asking.into_iter().enumerate() {
        alice.create("Instance", &format!("a-{nth}"), spec).await.unwrap();
    }
}

#[tokio::test]
async fn a_change_elsewhere_in_an_exposed_instance_takes_no_right_of_exposure() {
    let judged = Judged::new("elsewhere").await;
    let alice = judged.user("alice", &[]).await;
    // As large as the schema lets it be.
    let annotations: serde_json::Map<_, _> =
        (0..64).map(|nth| (format!("example.com/{nth}"), json!("x".repeat(1000)))).collect();
    let ingress = json!({"className": "traefik", "annotations": annotations, "tls": {"secretName": "t"}});
    let endpoint = external(json!({"ingress": ingress, "guard": "Traefik"}));
    let manager =
        json!({"service": {"name": "database"}, "networkPolicy": {"from": "Cluster"}, "endpoints": [endpoint]});
    judged.world.accepts("Instance", "a", json!({ "manager": manager })).await;
    alice.change("Instance", "a", json!({"tokens": {"prefix": "eem"}})).await.unwrap();
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    alice.patch("Instance", "a", label).await.unwrap();
    // All of it is judged again with a change in it.
    let port = json!({"manager": {"service": {"name": "database", "port": 8443}}});
    let told = format!("spec.manager.service: user:alice may not create services in namespace {}", alice.home());
    refused(alice.change("Instance", "a", port).await, &told);
    alice.change("Instance", "a", json!({"manager": null})).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_whose_type_is_left_out_is_let_in_with_a_warning() {
    let judged = Judged::new("silent").await;
    let warned = |verb: &str, args: &[&str], input: &str| {
        let always = [verb, "--namespace", &judged.world.namespace, "--warnings-as-errors"];
        judged.world.plane.kubectl_with_input(&[&always[..], args].concat(), input)
    };
    let of = |endpoint: Value| {
        let spec = json!({"manager": {"service": {"name": "database"}, "endpoints": [endpoint]}});
        json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "a"}, "spec": spec})
            .to_string()
    };
    let mut silent = external(json!({"ingress": {}}));
    silent.as_object_mut().unwrap().remove("type");
    let dry = ["--dry-run=server", "-f", "-"];
    let warning = "spec.manager.endpoints: an endpoint without type is external, and reached from outside the cluster";
    let told = judged
        .world
        .eventually("kubectl knows the kind", async || {
            let told = warned("create", &dry, &of(silent.clone())).unwrap_err();
            (!told.contains("no matches for kind")).then_some(told)
        })
        .await;
    assert!(told.contains(warning), "{told}");
    for written in [external(json!({"ingress": {}})), json!({"name": "admin", "type": "internal"})] {
        warned("create", &dry, &of(written)).unwrap();
    }
    // Told once, of the change that earns it.
    judged.world.create("Instance", "a", read_spec(&of(silent))).await.unwrap();
    let patch = |spec: Value| {
        let patch = json!({ "spec": spec }).to_string();
        warned("patch", &["instance", "a", "--type", "merge", "-p", &patch], "")
    };
    patch(json!({"tokens": {"prefix": "eem"}})).unwrap();
    patch(json!({"manager": {"service": {"name": "database", "port": 8443}}})).unwrap();
    patch(json!({"manager": {"endpoints": [external(json!({"ingress": {}}))]}})).unwrap();
}

/// The spec of an object in JSON.
fn read_spec(object: &str) -> Value {
    serde_json::from_str::<Value>(object).unwrap()["spec"].take()
}

#[tokio::test]
async fn certificates_are_taken_from_a_secret_by_whoever_may_get_it() {
    let judged = Judged::new("trust").await;
    let alice = judged.user("alice", &[]).await;
    alice.may(json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["create"]}])).await;
    let policies = json!({"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["create"]});
    alice.may(json!([policies])).await;
    let trusting = |secret: &str| {
        let endpoint = json!({"name": "admin", "type": "internal", "ca": {"secretName": secret}});
        json!({"manager": {"service": {"name": "shop"}, "endpoints": [endpoint]}})
    };
    let told = |secret: &str| {
        format!("spec.manager.endpoints: user:alice may not get Secret {secret} in namespace {}", alice.home())
    };
    refused(alice.create("Instance", "a", trusting("admin-tls")).await, &told("admin-tls"));
    refused(alice.change("Instance", "eem", trusting("admin-tls")).await, &told("admin-tls"));
    let named = json!(["admin-tls"]);
    alice.may(json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": named, "verbs": ["list"]}])).await;
    refused(alice.create("Instance", "a", trusting("admin-tls")).await, &told("admin-tls"));
    alice.may(json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": named, "verbs": ["get"]}])).await;
    alice.create("Instance", "a", trusting("admin-tls")).await.unwrap();
    refused(alice.change("Instance", "a", trusting("other-tls")).await, &told("other-tls"));
    // Bob may change everything else of an Instance that reads a Secret.
    let bob = judged.user("bob", &[]).await;
    bob.change("Instance", "a", json!({"organization": "acme"})).await.unwrap();
}

#[tokio::test]
async fn nobody_writes_a_digest_but_the_operator() {
    let judged = Judged::new("digests").await;
    let _operator = judged.world.operator(&Held::default()).await;
    judged.world.accepts("ApiToken", "a", token(json!({}))).await;
    judged.world.await_reason("a", "Active").await;
    let status = json!(["apitokens/status", "serviceaccounts/status", "instances/status", "accesspolicies/status"]);
    let rights = json!([{"apiGroups": ["tokenry.dev"], "resources": status, "verbs": ["get", "patch", "update"]}]);
    let editor = judged.user("editor", &[]).await;
    editor.may(rights.clone()).await;
    let root = judged.user("root", &["system:masters"]).await;
    let forged = json!({"status": {"records": [{
        "generation": 9, "id": "0123456789abcdef", "sha256": Digest::of("mine"), "state": "Active",
        "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2099-01-01T00:00:00Z",
    }]}});
    let write = async |client: &Client, status: &Value| {
        let api: Api<ApiToken> = Api::namespaced(client.clone(), &judged.world.namespace);
        api.patch_status("a", &PatchParams::default(), &Patch::Merge(status.clone())).await.map_err(message)
    };
    let told = "status: is written by the operator of Tokenry alone: whoever can write a digest into it can mint";
    for user in [&editor, &root] {
        refused(write(&user.client, &forged).await, told);
        refused(
            user.api("Instance")
                .patch_status("eem", &PatchParams::default(), &Patch::Merge(json!({"status": {"organization": "x"}})))
                .await
                .map_err(message),
            told,
        );
    }
    let verifier = judged.world.acting_as(VERIFIER);
    let told = "status: the verifier of Tokenry writes status.use of ApiTokens, and nothing else";
    refused(write(&verifier, &forged).await, told);
    refused(write(&verifier, &json!({"status": {"revocation": null, "records": null}})).await, told);
    // Nor does it say what nobody could reckon with.
    let told = "status.use: is about generations on record, and times before the year 9000";
    for (generation, first, last) in [
        (2, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        (1, "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        (1, "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
    ] {
        let used = json!([{"generation": generation, "firstUsedAt": first, "lastUsedAt": last}]);
        refused(write(&verifier, &json!({"status": {"use": used}})).await, told);
    }
    let used = json!([{"generation": 1, "firstUsedAt": "2026-01-01T00:00:00Z", "lastUsedAt": "2026-01-01T00:00:00Z"}]);
    write(&verifier, &json!({"status": {"use": used}})).await.unwrap();
}

#[tokio::test]
async fn who_made_a_token_and_the_groups_of_its_owner_are_stamped_and_kept() {
    let judged = Judged::new("stamps").await;
    let alice = judged.user("alice", &["devs", "ops"]).await;
    let made = alice.create("ApiToken", "a", token(json!({}))).await.unwrap();
    assert_eq!(made.data["spec"]["owner"], "user:alice");
    let annotations = made.metadata.annotations.unwrap();
    assert_eq!(annotations["tokenry.dev/created-by"], "user:alice");
    assert_eq!(annotations["tokenry.dev/owner-groups"], "0\ndevs\nops\nsystem:authenticated");
    // An update that says nothing of an owner keeps it, also one that replaces the object.
    let mut whole = alice.api("ApiToken").get("a").await.unwrap();
    whole.data["spec"] = token(json!({"description": "x"}));
    let before = whole.metadata.resource_version.clone().unwrap();
    whole.metadata.annotations = None;
    let kept = alice.api("ApiToken").replace("a", &PostParams::default(), &whole).await.unwrap();
    assert_eq!(kept.data["spec"]["owner"], "user:alice");
    let annotations = kept.metadata.annotations.unwrap();
    assert_eq!(annotations["tokenry.dev/created-by"], "user:alice");
    assert_eq!(annotations["tokenry.dev/owner-groups"], format!("{before}\ndevs\nops\nsystem:authenticated"));
    // Whoever applies the same again changes nothing, also where it leaves out what was stamped.
    let mut same = alice.api("ApiToken").get("a").await.unwrap();
    let version = same.metadata.resource_version.clone();
    same.data["spec"].as_object_mut().unwrap().remove("owner");
    same.metadata.annotations = None;
    let again = alice.api("ApiToken").replace("a", &PostParams::default(), &same).await.unwrap();
    assert_eq!(again.metadata.resource_version, version);
    // An administrator who changes it stamps no groups of its own.
    let root = judged.user("root", &["system:masters"]).await;
    let changed = root.change("ApiToken", "a", json!({"description": "y"})).await.unwrap();
    assert_eq!(
        changed.metadata.annotations.unwrap()["tokenry.dev/owner-groups"],
        annotations["tokenry.dev/owner-groups"]
    );
    let forge = async |user: &User<'_>, key: &str, value: Value| {
        user.patch("ApiToken", "a", json!({"metadata": {"annotations": {format!("tokenry.dev/{key}"): value}}})).await
    };
    let told = "metadata.annotations[tokenry.dev/created-by]: says who made the object, and is not changed";
    refused(forge(&alice, "created-by", json!("user:root")).await, told);
    let told = "metadata.annotations[tokenry.dev/owner-groups]: says which groups the owner is in, and is stamped by the API server";
    refused(forge(&root, "owner-groups", json!("0\nadmins")).await, told);
    refused(forge(&alice, "owner-groups", json!("0\nadmins")).await, told);
    // And what is taken away comes back.
    let erased = forge(&alice, "created-by", json!(null)).await.unwrap().metadata.annotations.unwrap();
    assert_eq!(erased["tokenry.dev/created-by"], "user:alice");
    let erased = forge(&root, "owner-groups", json!(null)).await.unwrap().metadata.annotations.unwrap();
    assert!(erased["tokenry.dev/owner-groups"].ends_with("\ndevs\nops\nsystem:authenticated"));
    // Who restores it for her restores it without her groups.
    let mut backup = alice.api("ApiToken").get("a").await.unwrap();
    backup.metadata.resource_version = None;
    alice.delete("ApiToken", "a").await.unwrap();
    let restored = root.api("ApiToken").create(&PostParams::default(), &backup).await.unwrap();
    let annotations = restored.metadata.annotations.unwrap();
    assert_eq!((&*annotations["tokenry.dev/created-by"], annotations.len()), ("user:root", 1));
    assert_eq!(restored.data["spec"]["owner"], "user:alice");
    let account = judged.user("system:serviceaccount:ci:builder", &["system:serviceaccounts"]).await;
    let made = account.create("ApiToken", "b", token(json!({}))).await.unwrap();
    assert_eq!(made.data["spec"]["owner"], "serviceaccount:ci/builder");
}

#[tokio::test]
async fn a_token_is_deleted_without_confirmation_only_where_none_is_asked_for() {
    let judged = Judged::new("confirm").await;
    let _operator = judged.world.operator(&Held::default()).await;
    judged.world.change("Instance", "eem", json!({"tokens": {"confirmDelete": true}})).await.unwrap();
    let alice = judged.user("alice", &[]).await;
    alice.create("ApiToken", "a", token(json!({"description": "nightly export"}))).await.unwrap();
    let mirrored = async || judged.token("a").await?.status?.policy.filter(|policy| policy.confirm_delete);
    judged.world.eventually("status says so", mirrored).await;
    let told =
        "metadata.annotations: to delete this ApiToken, annotate it first: tokenry.dev/confirm-delete=nightly export";
    refused(alice.delete("ApiToken", "a").await, told);
    let confirm = |text: &str| json!({"metadata": {"annotations": {"tokenry.dev/confirm-delete": text}}});
    alice.patch("ApiToken", "a", confirm("yes")).await.unwrap();
    refused(alice.delete("ApiToken", "a").await, told);
    // An empty description is none.
    alice.change("ApiToken", "a", json!({"description": ""})).await.unwrap();
    alice.patch("ApiToken", "a", confirm("")).await.unwrap();
    refused(
        alice.delete("ApiToken", "a").await,
        "metadata.annotations: to delete this ApiToken, annotate it first: tokenry.dev/confirm-delete=a",
    );
    alice.change("ApiToken", "a", json!({"description": "nightly export"})).await.unwrap();
    alice.patch("ApiToken", "a", confirm("nightly export")).await.unwrap();
    alice.delete("ApiToken", "a").await.unwrap();
}

#[tokio::test]
async fn an_immutable_token_is_revoked_and_regenerated_where_its_instance_says_so() {
    let judged = Judged::new("immutable").await;
    let _operator = judged.world.operator(&Held::default()).await;
    judged.world.change("Instance", "eem", json!({"tokens": {"immutable": {"always": true}}})).await.unwrap();
    let alice = judged.user("alice", &[]).await;
    alice.create("ApiToken", "a", token(json!({"description": "x"}))).await.unwrap();
    let mirrored = async |regenerate: bool| {
        let policy = judged.token("a").await?.status?.policy;
        policy.filter(|policy| policy.immutable && policy.regenerate == regenerate)
    };
    judged.world.eventually("status says so", async || mirrored(false).await).await;
    let told = "spec: the token is immutable: only revoked, revocationReason and, if the Instance allows it, regenerate may change; make another ApiToken";
    refused(alice.change("ApiToken", "a", json!({"description": "y"})).await, told);
    let regenerate = json!({"regenerate": {"id": "leak"}});
    let forbidden = "spec.regenerate: the token is immutable, and its Instance does not permit it to be regenerated (tokens.immutable.regenerate)";
    refused(alice.change("ApiToken", "a", regenerate.clone()).await, forbidden);
    judged.world.change("Instance", "eem", json!({"tokens": {"immutable": {"regenerate": "Allow"}}})).await.unwrap();
    judged.world.eventually("status says so", async || mirrored(true).await).await;
    alice.change("ApiToken", "a", regenerate).await.unwrap();
    alice.change("ApiToken", "a", json!({"revoked": true})).await.unwrap();
    let said = alice.create("ApiToken", "b", token(json!({"immutable": true}))).await.unwrap();
    assert_eq!(said.data["spec"]["immutable"], true);
    assert!(
        alice.change("ApiToken", "b", json!({"immutable": false})).await.unwrap_err().contains("immutable is true")
    );
}

#[tokio::test]
async fn a_namespace_that_is_going_lets_tokens_go_and_nothing_be_raised() {
    let judged = Judged::new("going").await;
    // Other tests have users of the same cluster, who must not have these rights.
    let [alices, bobs] = ["going-alice", "going-bob"];
    let (alice, bob) = (judged.user(alices, &[]).await, judged.user(bobs, &[]).await);
    let held = json!({"name": "a", "finalizers": ["example.com/hold"]});
    alice.create_with("ApiToken", held, token(json!({}))).await.unwrap();
    // Roles go with a namespace, so these rights are bound in all of them.
    let rules =
        json!([{"apiGroups": ["tokenry.dev"], "resources": ["apitokens"], "verbs": ["get", "patch", "delete"]}]);
    let subjects: Vec<_> = [alices, bobs]
        .map(|name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}))
        .into();
    let name = judged.world.namespace.clone();
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}, "subjects": subjects,
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}},
    ]});
    judged.world.plane.kubectl_with_input(&["apply", "-f", "-"], &objects.to_string()).unwrap();
    let namespaces: Api<Namespace> = Api::all(judged.world.client.clone());
    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    let told = format!("spec.role: user:{alices} may not assign roles.tokenry.dev/eem:admin in namespace {name}");
    let going = async || {
        let token = judged.token("a").await?;
        token.metadata.deletion_timestamp.map(|_| ())
    };
    judged.world.eventually("the token is being deleted and held", going).await;
    refused(alice.change("ApiToken", "a", json!({"role": "admin"})).await, &told);
    // The policies hear of the namespace some moments later.
    judged.world.eventually("it may be deleted", async || bob.delete("ApiToken", "a").await.ok()).await;
    alice.patch("ApiToken", "a", json!({"metadata": {"finalizers": null}})).await.unwrap();
    let gone = async || namespaces.get_opt(&name).await.unwrap().is_none().then_some(());
    judged.world.eventually("the namespace is gone", gone).await;
}

#[tokio::test]
async fn when_the_operator_is_ready_tokens_can_be_made() {
    let alone = World::alone("early").await;
    let judged = alone.beside("early", json!({"admission": "judged"})).await;
    judged.plane.kubectl(&["apply", "--server-side", "-f", &root().join("crds").display().to_string()]).unwrap();
    let operator = judged.operator(&Held::default()).await;
    let ready = async || {
        let (status, said) = operator.get("/readyz").await;
        let waits = [
            "waiting for the permissions from the API server",
            "waiting for the first list of: ",
            "waiting until the API server can stamp tokens: ",
        ];
        assert!(status.is_success() || waits.iter().any(|wait| said.starts_with(wait)), "{said}");
        status.is_success().then_some(())
    };
    judged.eventually("the operator is ready", ready).await;
    let made = judged.accepts("ApiToken", "first", token(json!({}))).await;
    assert_eq!(made.data["spec"]["owner"], "user:admin");
    let left = judged.api::<Account>().list(&ListParams::default()).await.unwrap();
    assert!(left.items.is_empty(), "trying it leaves nothing: {left:?}");
}

#[tokio::test]
async fn who_collects_what_is_left_over_is_let_whatever_account_the_controller_manager_uses() {
    let judged = Judged::new("collectors").await;
    let alice = judged.user("alice", &[]).await;
    for user in [
        "system:serviceaccount:kube-system:generic-garbage-collector",
        "system:serviceaccount:kube-system:namespace-controller",
        "system:kube-controller-manager",
    ] {
        alice.create("ApiToken", "a", token(json!({}))).await.unwrap();
        judged.user(user, &[]).await.delete("ApiToken", "a").await.unwrap();
    }
}

#[tokio::test]
async fn what_may_be_a_slip_is_let_in_with_a_warning() {
    let judged = Judged::new("warned").await;
    let spec = token(json!({"audiences": [{"name": "strict"}], "expiry": {"never": true}}));
    let object =
        json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "a"}, "spec": spec});
    let args =
        ["create", "--namespace", &judged.world.namespace, "--dry-run=server", "--warnings-as-errors", "-f", "-"];
    // A definition is served some moments before kubectl discovers it.
    let told = judged
        .world
        .eventually("kubectl knows the kind", async || {
            let told = judged.world.plane.kubectl_with_input(&args, &object.to_string()).unwrap_err();
            (!told.contains("no matches for kind")).then_some(told)
        })
        .await;
    for warning in [
        "spec.audiences: each further Instance gives the token its role there",
        "spec.expiry.never: the values of this token never run out of time",
    ] {
        assert!(told.contains(warning), "{told}");
    }
    assert!(!told.contains("each value of this token expires"), "{told}");
    let end = "2037-06-30T00:00:00Z";
    for (expiry, warning) in [
        (
            json!({}),
            "spec.expiry: each value of this token expires by the default of its Instance, see status.expiresAt",
        ),
        (json!({"after": "30d"}), "spec.expiry: each value of this token expires 30d after its creation"),
        (json!({"at": end}), "spec.expiry: each value of this token expires at the latest at 2037-06-30T00:00:00Z"),
    ] {
        let object = json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "b"},
            "spec": token(json!({ "expiry": expiry })),
        });
        let told = judged.world.plane.kubectl_with_input(&args, &object.to_string()).unwrap_err();
        assert!(told.contains(warning), "{told}");
    }
    // Told once, of the change that earns it.
    let (namespace, plane) = (judged.world.namespace.as_str(), &judged.world.plane);
    let create = ["create", "--namespace", namespace, "-f", "-"];
    plane.kubectl_with_input(&create, &object.to_string()).unwrap();
    let patch = |spec: Value| {
        let patch = json!({ "spec": spec }).to_string();
        let args =
            ["patch", "apitoken", "a", "--namespace", namespace, "--warnings-as-errors", "--type", "merge", "-p"];
        plane.kubectl(&[&args[..], &[&patch]].concat())
    };
    patch(json!({"description": "x"})).unwrap();
    patch(json!({"expiry": {"never": null, "after": "30d"}})).unwrap();
    patch(json!({"expiry": null})).unwrap();
    let told = patch(json!({"audiences": [{"name": "strict"}, {"name": "second"}]})).unwrap_err();
    assert!(told.contains("spec.audiences: ") && !told.contains("spec.expiry.never: "), "{told}");
}

#[tokio::test]
async fn a_namespace_with_tokens_of_many_owners_is_deleted_by_who_may_delete_it() {
    let judged = Judged::new("full").await;
    let _operator = judged.world.operator(&Held::default()).await;
    for name in ["alice", "bob"] {
        let user = judged.user(name, &[]).await;
        user.create("ApiToken", name, token(json!({"description": name}))).await.unwrap();
        judged.world.await_reason(name, "Active").await;
    }
    let namespaces: Api<Namespace> = Api::all(judged.world.client.clone());
    namespaces.delete(&judged.world.namespace, &DeleteParams::default()).await.unwrap();
    let gone = async || namespaces.get_opt(&judged.world.namespace).await.unwrap().is_none().then_some(());
    judged.world.eventually("the namespace is gone", gone).await;
}

#[tokio::test]
async fn what_nobody_owns_is_that_of_its_maker_or_of_who_may_use_it() {
    let judged = Judged::new("unowned").await;
    let (alice, bob) = (judged.user("alice", &[]).await, judged.user("bob", &[]).await);
    let home = alice.home().to_owned();
    // They are older than the policies.
    relabel(&judged.world, json!({"admission": null})).await;
    let by = json!({"name": "made", "annotations": {"tokenry.dev/created-by": "user:alice"}});
    let unstamped = async || {
        let made = judged.world.create("ApiToken", "bare", token(json!({}))).await.ok()?;
        let bare = made.data["spec"].get("owner").is_none();
        if !bare {
            judged.world.delete("ApiToken", "bare").await;
        }
        bare.then_some(())
    };
    judged.world.eventually("nothing is stamped", unstamped).await;
    alice.create_with("ApiToken", by, token(json!({}))).await.unwrap();
    judged.world.accepts("ServiceAccount", "bare", token(json!({}))).await;
    relabel(&judged.world, json!({"admission": "judged"})).await;
    let told = format!(
        "spec.owner: nobody owns this ApiToken: user:bob may not assign owners.tokenry.dev/* in namespace {home}"
    );
    let again = async || bob.change("ApiToken", "bare", json!({"description": "x"})).await.err();
    let refusal = judged.world.eventually("the policies hold again", again).await;
    assert!(refusal.contains(&told), "{refusal}");
    refused(bob.delete("ApiToken", "bare").await, &told);
    let told = format!(
        "spec.owner: nobody owns this ApiToken: user:bob may not assign owners.tokenry.dev/user:alice in namespace {home}"
    );
    refused(bob.delete("ApiToken", "made").await, &told);
    alice.change("ApiToken", "made", json!({"description": "mine"})).await.unwrap();
    let told = format!(
        "spec.owner: nobody owns this ServiceAccount of tokenry.dev: user:bob may not use serviceaccounts.tokenry.dev/bare in namespace {home}"
    );
    refused(bob.change("ServiceAccount", "bare", json!({"description": "x"})).await, &told);
    refused(bob.delete("ServiceAccount", "bare").await, &told);
    bob.may_on("use", "serviceaccounts", "bare").await;
    bob.delete("ServiceAccount", "bare").await.unwrap();
    bob.may_on("assign", "owners", "*").await;
    bob.delete("ApiToken", "bare").await.unwrap();
}

#[tokio::test]
async fn an_owner_is_named_as_the_api_server_knows_it() {
    let judged = Judged::new("names").await;
    let ann = judged.user("Ann B. Müller, CN=Ops", &["web ops", "düne"]).await;
    let made = ann.create("ApiToken", "a", token(json!({}))).await.unwrap();
    assert_eq!(made.data["spec"]["owner"], "user:Ann B. Müller, CN=Ops");
    let annotations = made.metadata.annotations.unwrap();
    assert_eq!(annotations["tokenry.dev/owner-groups"], "0\nweb ops\ndüne\nsystem:authenticated");
    ann.change("ApiToken", "a", json!({"description": "mine"})).await.unwrap();
    let named = json!({"members": [{"subject": "user:Ann B. Müller, CN=Ops", "role": "viewer"}]});
    judged.world.change("Instance", "eem", named).await.unwrap();
    // A name that is longer than a subject can be owns nothing, and is told so.
    let long = judged.user(&"ü".repeat(200), &[]).await;
    let told = long.create("ApiToken", "b", token(json!({}))).await.unwrap_err();
    assert!(told.contains("spec.owner: is needed, and your name can be none"), "{told}");
    let told = long.create("ServiceAccount", "b", token(json!({}))).await.unwrap_err();
    assert!(told.contains("spec.owner: is needed, and your name can be none"), "{told}");
}

#[tokio::test]
async fn a_policy_is_held_up_by_who_may_write_it() {
    let judged = Judged::new("held").await;
    let alice = judged.user("alice", &[]).await;
    let statements = json!([{"effect": "Allow", "actions": ["topics:read"]}]);
    let spec = json!({"instanceRef": {"name": "eem"}, "members": ["user:alice"], "statements": statements});
    judged.user("root", &["system:masters"]).await.create("AccessPolicy", "p", spec).await.unwrap();
    let told = format!("user:alice may not assign policies.tokenry.dev/eem in namespace {}", alice.home());
    let held = alice.patch("AccessPolicy", "p", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    assert!(held.unwrap_err().contains(&told));
    let many: Vec<_> = (0..64).map(|n| format!("example.com/{n}")).collect();
    let held = alice.patch("AccessPolicy", "p", json!({"metadata": {"finalizers": many[..16]}})).await;
    assert!(held.unwrap_err().contains(&told));
    assert!(alice.patch("AccessPolicy", "p", json!({"metadata": {"finalizers": many}})).await.is_err());
    alice.patch("AccessPolicy", "p", json!({"metadata": {"annotations": {"example.com/x": "y"}}})).await.unwrap();
    alice.may_on("assign", "policies", "eem").await;
    alice.patch("AccessPolicy", "p", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await.unwrap();
    alice.patch("AccessPolicy", "p", json!({"metadata": {"finalizers": null}})).await.unwrap();
}

#[tokio::test]
async fn an_account_is_deleted_with_confirmation_where_that_is_asked_for() {
    let judged = Judged::new("confirm-account").await;
    let _operator = judged.world.operator(&Held::default()).await;
    judged.world.change("Instance", "eem", json!({"tokens": {"confirmDelete": true}})).await.unwrap();
    let alice = judged.user("alice", &[]).await;
    alice.create("ServiceAccount", "a", token(json!({}))).await.unwrap();
    let account = async || judged.world.api::<Account>().get("a").await.unwrap();
    let mirrored = async || account().await.status?.policy.filter(|policy| policy.confirm_delete);
    judged.world.eventually("status says so", mirrored).await;
    let told = "metadata.annotations: to delete this ServiceAccount of tokenry.dev, annotate it first: tokenry.dev/confirm-delete=a";
    refused(alice.delete("ServiceAccount", "a").await, told);
    let confirm = json!({"metadata": {"annotations": {"tokenry.dev/confirm-delete": "a"}}});
    alice.patch("ServiceAccount", "a", confirm).await.unwrap();
    alice.delete("ServiceAccount", "a").await.unwrap();
}

#[tokio::test]
async fn an_account_of_a_token_stays_with_it() {
    let judged = Judged::new("belongs").await;
    let _operator = judged.world.operator(&Held::default()).await;
    let alice = judged.user("alice", &[]).await;
    alice.create("ApiToken", "ci", token(json!({}))).await.unwrap();
    judged.world.await_reason("ci", "Active").await;
    let root = judged.user("root", &["system:masters"]).await;
    let bare = root.patch("ServiceAccount", "ci", json!({"metadata": {"ownerReferences": null}})).await;
    refused(
        bare,
        "metadata.ownerReferences: the account belongs to its token: nobody but the operator of Tokenry takes it away from that",
    );
    let many: Vec<_> = (0..65)
        .map(|n| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": format!("00000000-0000-0000-0000-{n:012}")}))
        .collect();
    let many = alice.patch("ServiceAccount", "ci", json!({"metadata": {"ownerReferences": many}})).await;
    refused(many, "metadata.ownerReferences: at most 64; with more of them they are not changed");
}

#[tokio::test]
async fn a_role_is_left_out_by_who_may_give_any() {
    let judged = Judged::new("left-out").await;
    let alice = judged.user("alice", &[]).await;
    for role in ["viewer", "contributor"] {
        alice.may_on("assign", "roles", &format!("eem:{role}")).await;
    }
    let told = format!("spec.role: user:alice may not assign roles.tokenry.dev/eem:* in namespace {}", alice.home());
    for kind in ["ApiToken", "ServiceAccount"] {
        alice.create(kind, "a", token(json!({"role": "viewer"}))).await.unwrap();
        alice.change(kind, "a", json!({"role": "contributor"})).await.unwrap();
        // What stands in its place may be more.
        refused(alice.change(kind, "a", json!({"role": null})).await, &told);
    }
    alice.may_on("assign", "roles", "eem:*").await;
    for kind in ["ApiToken", "ServiceAccount"] {
        alice.change(kind, "a", json!({"role": null})).await.unwrap();
    }
}

#[tokio::test]
async fn labels_and_annotations_are_few_and_what_has_more_can_still_be_ended() {
    let judged = Judged::new("marks").await;
    let alice = judged.user("alice", &[]).await;
    let many = |count: usize| -> Value {
        (0..count).map(|key| (format!("x{key}"), json!("y"))).collect::<serde_json::Map<_, _>>().into()
    };
    let told = "metadata.annotations: at most 256 of them; remove some";
    refused(
        alice.create_with("ApiToken", json!({"name": "a", "annotations": many(16_000)}), token(json!({}))).await,
        told,
    );
    alice.create("ApiToken", "a", token(json!({}))).await.unwrap();
    refused(alice.patch("ApiToken", "a", json!({"metadata": {"annotations": many(300)}})).await, told);
    let told = "metadata.labels: at most 256 of them; remove some";
    refused(alice.patch("ApiToken", "a", json!({"metadata": {"labels": many(300)}})).await, told);
    // One that has them from before.
    relabel(&judged.world, json!({"admission": null})).await;
    let marked = async || alice.patch("ApiToken", "a", json!({"metadata": {"annotations": many(16_000)}})).await.ok();
    judged.world.eventually("nothing is refused", marked).await;
    relabel(&judged.world, json!({"admission": "judged"})).await;
    let probe = async || alice.create("ApiToken", "probe", token(json!({"role": "admin"}))).await.err();
    judged.world.eventually("the policies hold again", probe).await;
    alice.change("ApiToken", "a", json!({"revoked": true})).await.unwrap();
    alice.delete("ApiToken", "a").await.unwrap();
}

#[tokio::test]
async fn what_is_narrowed_takes_no_right_and_what_is_widened_does() {
    let judged = Judged::new("narrowed").await;
    let (bob, root) = (judged.user("bob", &[]).await, judged.user("root", &["system:masters"]).await);
    let given = |more: Value| {
        let mut spec = token(json!({"owner": "user:bob", "role": "contributor"}));
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    root.create("ApiToken", "a", given(json!({"audiences": [{"name": "further"}]}))).await.unwrap();
    root.create("ApiToken", "b", given(json!({"role": null, "serviceAccountRef": {"name": "a"}}))).await.unwrap();
    root.create("ServiceAccount", "a", given(json!({}))).await.unwrap();
    let listed = |names: &[&str]| json!({"organizations": {"all": null, "listed": names}});
    for (kind, name) in [("ApiToken", "a"), ("ApiToken", "b"), ("ServiceAccount", "a")] {
        // From all to some, to fewer of them, and to none.
        for narrower in [
            json!({"organizations": {"all": true}}),
            listed(&["acme", "other"]),
            listed(&["acme"]),
            json!({"projects": ["p", "q"]}),
            json!({"projects": ["q"]}),
            listed(&[]),
        ] {
            bob.change(kind, name, narrower).await.unwrap();
        }
        for wider in
            [listed(&["acme"]), json!({"organizations": null}), json!({"projects": ["p"]}), json!({"projects": []})]
        {
            assert!(bob.change(kind, name, wider).await.unwrap_err().contains("user:bob may not "));
        }
    }
    // A weaker role is one that is given.
    let weaker = json!({"role": "viewer", "projects": ["q"]});
    let told = format!("spec.role: user:bob may not assign roles.tokenry.dev/eem:viewer in namespace {}", bob.home());
    refused(bob.change("ApiToken", "a", weaker.clone()).await, &told);
    refused(bob.change("ServiceAccount", "a", weaker).await, &told);
}

#[tokio::test]
async fn annotations_without_number_cost_no_more_than_on_any_object() {
    let judged = Judged::new("crowded").await;
    let world = &judged.world;
    let root = judged.user("root", &["system:masters"]).await;
    let keys = |count: usize| (0..count).map(|n| (format!("k{n}"), json!(""))).collect::<serde_json::Map<_, _>>();
    let crowd = |count: usize| json!({"name": "many", "annotations": keys(count)});
    let told = "metadata.annotations: at most 256 of them; remove some";
    refused(root.create_with("ApiToken", crowd(257), token(json!({}))).await, told);
    let labels = json!({"name": "many", "labels": keys(257)});
    let told = "metadata.labels: at most 256 of them; remove some";
    refused(root.create_with("ServiceAccount", labels, token(json!({}))).await, told);
    // As where no policy held.
    relabel(world, json!({"admission": "none"})).await;
    let made = async || root.create_with("ApiToken", crowd(16_000), token(json!({}))).await.ok();
    world.eventually("no policy holds", made).await;
    let map = json!({"metadata": crowd(16_000)});
    let maps: Api<ConfigMap> = world.api();
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    let changed = json!({"metadata": {"annotations": {"k7": "x"}}});
    let bare = cheapest(&root.api("ApiToken"), &changed).await;
    relabel(world, json!({"admission": "judged"})).await;
    let more = json!({"metadata": {"annotations": {"another": ""}}});
    let judges = async || root.patch("ApiToken", "many", more.clone()).await.err();
    let told = world.eventually("the policies hold", judges).await;
    assert!(told.ends_with("metadata.annotations: at most 256 of them; remove some"), "{told}");
    // It can be changed, and admission adds to that no more than twice what a ConfigMap of that size costs in all. (A
    // custom resource costs the API server two to three times as much as a ConfigMap, also where no policy holds.)
    let (token, map) = (cheapest(&root.api("ApiToken"), &changed).await, cheapest(&maps, &changed).await);
    assert!(token.saturating_sub(bare) <= map * 2, "{token:?}, without policies {bare:?}, beside {map:?}");
    let spec = json!({"revoked": true, "owner": "user:root"});
    let revoked = cheapest(&root.api("ApiToken"), &json!({ "spec": spec })).await;
    assert!(revoked <= bare * 4, "{revoked:?} beside {bare:?}");
    root.change("ApiToken", "many", spec).await.unwrap();
    root.delete("ApiToken", "many").await.unwrap();
}

/// The least time that this change of the object `many` takes, for a trial.
async fn cheapest<K>(api: &Api<K>, change: &Value) -> Duration
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let trial = PatchParams { dry_run: true, ..PatchParams::default() };
    let mut least = Duration::MAX;
    for _ in 0..8 {
        let start = Instant::now();
        api.patch("many", &trial, &Patch::Merge(change)).await.unwrap();
        least = least.min(start.elapsed());
    }
    least
}

async fn account(world: &World, name: &str) -> Option<Account> {
    world.api::<Account>().get_opt(name).await.unwrap()
}

/// An object as a backup holds it: without what the API server gives.
fn kept<K: serde::Serialize>(object: &K, kind: (&str, &str)) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value["apiVersion"] = json!(kind.0);
    value["kind"] = json!(kind.1);
    value.as_object_mut().unwrap().remove("status");
    let metadata = value["metadata"].as_object_mut().unwrap();
    for key in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
        metadata.remove(key);
    }
    value
}

#[tokio::test]
async fn a_backup_of_account_and_secret_beside_a_living_token_ends_nothing() {
    let judged = Judged::new("backup").await;
    let world = &judged.world;
    let _operator = world.operator(&Held::default()).await;
    let manifest = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "a", "namespace": world.namespace}, "spec": token(json!({}))});
    let apply = |verb: &str, object: &Value| {
        world.plane.kubectl_with_input(&[verb, "--namespace", &world.namespace, "-f", "-"], &object.to_string())
    };
    apply("apply", &manifest).unwrap();
    world.await_reason("a", "Active").await;
    let account_kept = kept(&account(world, "a").await.unwrap(), ("tokenry.dev/v1alpha1", "ServiceAccount"));
    let secret_kept = kept(&world.api::<Secret>().get("a").await.unwrap(), ("v1", "Secret"));
    world.delete("ApiToken", "a").await;
    let gone = async || account(world, "a").await.is_none().then_some(());
    world.eventually("its account is collected", gone).await;
    // The token anew, and a moment later what belonged to the old one.
    apply("apply", &manifest).unwrap();
    world.await_reason("a", "Active").await;
    let uid = account(world, "a").await.unwrap().uid();
    for verb in ["apply", "replace"] {
        let told = apply(verb, &account_kept).unwrap_err();
        assert!(told.contains("the account belongs to its token"), "{told}");
    }
    // Nothing is the controller of a Secret beside another: to apply it is refused, and to replace it is not.
    assert!(apply("apply", &secret_kept).is_err());
    apply("replace", &secret_kept).unwrap();
    // Whoever collects what belongs to nobody has seen it by the time that the Secret is collected or mended.
    let mended = async || {
        let secret = world.api::<Secret>().get_opt("a").await.unwrap()?;
        let owner = judged.token("a").await?.uid();
        secret.owner_references().iter().any(|tie| Some(&tie.uid) == owner.as_ref()).then_some(())
    };
    world.eventually("the Secret is the token's again", mended).await;
    world.change("ApiToken", "a", json!({"regenerate": {"id": "proof"}})).await.unwrap();
    let lives = async || {
        let status = judged.token("a").await?.status?;
        let asked = status.records.iter().map(|record| record.generation).max()? > 1;
        (asked && status.account.as_ref().map(|account| &account.uid) == uid.as_ref()).then_some(())
    };
    world.eventually("it mints another value as the same account", lives).await;
}

/// What an example says, object by object.
fn objects_of(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join(format!("examples/products/{file}.yaml"))).unwrap();
    text.split("\n---\n").map(|object| serde_saphyr::from_str(object).unwrap()).collect()
}

#[tokio::test]
async fn the_rules_of_each_product_are_applied_by_its_keeper_and_the_rest_by_the_owners_that_they_name() {
    for file in ["self-service", "policies-and-projects", "bounded-by-creator", "account-owned"] {
        let judged = Judged::new(file).await;
        let keeper = judged.user("keeper@example.com", &[]).await;
        keeper.may_on("assign", "policies", "automate").await;
        let apply = async |user: &User<'_>, object: &Value| {
            let (kind, spec) = (object["kind"].as_str().unwrap(), object["spec"].clone());
            user.create_with(kind, object["metadata"].clone(), spec).await
        };
        let mut users: Vec<User<'_>> = Vec::new();
        for object in objects_of(file) {
            let spec = &object["spec"];
            if ["Instance", "AccessPolicy"].contains(&object["kind"].as_str().unwrap()) {
                let statements = spec["statements"].as_array().cloned().unwrap_or_default();
                for role in statements.iter().filter_map(|statement| statement["role"].as_str()) {
                    keeper.may_on("assign", "roles", &format!("automate:{role}")).await;
                }
                apply(&keeper, &object).await.unwrap();
                continue;
            }
            let owner =
                spec["owner"].as_str().and_then(|owner| owner.strip_prefix("user:")).unwrap_or("dora@example.com");
            if users.iter().all(|user| user.name != owner) {
                users.push(judged.user(owner, &[]).await);
            }
            let user = users.iter().find(|user| user.name == owner).unwrap();
            let (instance, role) = (spec["instanceRef"]["name"].as_str().unwrap(), spec["role"].as_str());
            if let Some(role) = role {
                let told = apply(user, &object).await.unwrap_err();
                assert!(told.contains(&format!("may not assign roles.tokenry.dev/{instance}:{role}")), "{told}");
                user.may_on("assign", "roles", &format!("{instance}:{role}")).await;
            }
            for policy in spec["policies"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let told = apply(user, &object).await.unwrap_err();
                assert!(told.contains(&format!("may not assign policies.tokenry.dev/{instance}:{policy}")), "{told}");
                user.may_on("assign", "policies", &format!("{instance}:{policy}")).await;
            }
            if let Some(account) = spec["serviceAccountRef"]["name"].as_str() {
                let told = apply(user, &object).await;
                if let Err(told) = told {
                    assert!(told.contains(&format!("may not use serviceaccounts.tokenry.dev/{account}")), "{told}");
                    user.may_on("use", "serviceaccounts", account).await;
                } else {
                    continue;
                }
            }
            apply(user, &object).await.unwrap();
        }
    }
}
