//! Commands that say a mistake before they write, and leave no object that is of no use.

use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;

use super::{hand, secrets, setting};
use crate::harness::hand::{Done, run};

/// Runs a command that knows no cluster.
fn offline(args: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command.args(args).env("KUBECONFIG", "/nowhere");
    run(command, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_and_organizations_that_the_instance_does_not_read_are_told_before_and_in_the_status() {
    let (judged, _operator) = setting("unread-projects").await;
    let alice = hand(&judged, "alice", secrets()).await;
    for (flag, name, thing) in [("--project", "blue", "project"), ("--organization", "eem", "organization")] {
        let refused = alice.tokenry(&["create", "ci", flag, name]).await;
        let told = refused.failed(2);
        for part in ["nothing was created", &format!("/eem reads no {thing} from requests"), "each request is refused"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(told.contains(&format!("set spec.api.{thing}From there, or leave the {thing}s out")), "{told}");
        assert!(judged.token("ci").await.is_none());
    }
    alice.tokenry(&["create", "ci"]).await.well();
    let refused = alice.tokenry(&["set", "projects", "ci", "blue"]).await;
    assert!(refused.failed(2).contains("nothing was changed: spec.projects: Instance "), "{refused:?}");
    assert!(judged.token("ci").await.unwrap().spec.projects.is_empty());
    // A manifest, and a user that may not read the Instance, are not held back. The status names the cause.
    judged.world.change("ApiToken", "ci", json!({"projects": ["blue"]})).await.unwrap();
    judged.world.await_reason("ci", "NoPermissions").await;
    let page = alice.tokenry(&["status", "ci"]).await;
    let cause = "its Instance reads no project from requests; set spec.api.projectFrom of the Instance, or remove";
    assert!(page.well().contains(cause) && !page.out.contains("give a role"), "{page:?}");
    judged.world.change("Instance", "eem", json!({"api": {"projectFrom": {"header": "X-Project"}}})).await.unwrap();
    judged.world.await_reason("ci", "Active").await;
    alice.may_on("assign", "roles", "eem:*").await;
    alice.tokenry(&["set", "projects", "ci", "blue,green"]).await.well();
    let limits = json!([{"apiGroups": ["tokenry.dev"], "resources": ["apitokens"], "verbs": ["get", "patch"]}]);
    let dora = judged.stranger("dora", &[]);
    judged.world.accepts("ApiToken", "hers", json!({"instanceRef": {"name": "eem"}, "owner": "user:dora"})).await;
    dora.may(limits).await;
    dora.tokenry(&["set", "projects", "hers", "blue"]).await.well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_that_opens_nothing_says_so() {
    let (judged, _operator) = setting("useless").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let of_use = alice.tokenry(&["create", "first"]).await;
    assert!(!of_use.well().is_empty() && !of_use.err.contains("is let in"), "{of_use:?}");
    let roles = json!({"api": {"authorization": "Roles"}, "tokens": {"defaultRole": null}});
    judged.world.change("Instance", "eem", roles).await.unwrap();
    judged.world.await_reason("first", "NoPermissions").await;
    let useless = alice.tokenry(&["create", "ci"]).await;
    assert!(!useless.well().is_empty(), "{useless:?}");
    assert!(useless.err.contains("but no request with it is let in (NoPermissions): "), "{useless:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ended_says_one_thing_and_does_not_change() {
    let (judged, _operator) = setting("final").await;
    let alice = hand(&judged, "alice", secrets()).await;
    for name in ["gone", "revoked", "living"] {
        alice.tokenry(&["create", name]).await.well();
    }
    alice.tokenry(&["delete", "account", "gone", "--confirm", "gone"]).await.well();
    judged.world.await_reason("gone", "AccountDeleted").await;
    alice.tokenry(&["revoke", "revoked", "--yes"]).await.well();
    judged.world.await_reason("revoked", "Revoked").await;
    let another = format!("; `kubectl tokenry create NAME -n {}` makes a token of another name", alice.home());
    let of_account = format!("gone ended with its account, and that is final{another}");
    for args in [
        &["rotate", "gone"][..],
        &["rotate", "gone", "--show"],
        &["suspend", "gone"],
        &["plan", "rotate", "gone"],
        &["revoke", "gone", "--yes"],
        &["set", "description", "gone", "other"],
        &["transfer", "gone", "--to", "user:bob"],
    ] {
        let done = alice.tokenry(args).await;
        assert_eq!(done.failed(5), format!("tokenry: {of_account}\n"), "{args:?}");
    }
    let shown = alice.tokenry(&["show", "gone"]).await;
    assert!(shown.failed(5).contains("shows no value: it has ended"), "{shown:?}");
    let spec = judged.token("gone").await.unwrap().spec;
    assert!(spec.regenerate.is_none() && spec.active && !spec.revoked && spec.description.is_none());
    let again = alice.tokenry(&["revoke", "revoked"]).await;
    assert!(again.well().is_empty() && again.err.contains("revoked already: revoked"));
    let page = alice.tokenry(&["status", "revoked"]).await;
    let is_value = |line: &&str| line.contains(" 1 Revoked, made ");
    let value = page.well().lines().find(is_value).unwrap();
    assert!(value.contains(", ended 20") && !value.contains("ends"), "{page:?}");
    // One of several that a user names fails, and holds up no other one.
    for (command, yes) in [("rotate", &["--yes"][..]), ("suspend", &["--yes"]), ("resume", &[])] {
        let done = alice.tokenry(&[&[command, "living", "revoked"], yes].concat()).await;
        let told = done.failed(10);
        let failed = format!(
            "failed for 1 of 2 tokens; done: living\nfailed: revoked: revoked is revoked, and that is final{another}\n"
        );
        assert!(told.ends_with(&failed), "{command}: {told}");
        let none = alice.tokenry(&[&[command, "gone", "revoked"], yes].concat()).await;
        assert!(none.failed(10).contains("failed for 2 of 2 tokens; none is done"), "{command}: {none:?}");
    }
    // Those of all, or of a selection, are only told.
    let all = alice.tokenry(&["rotate", "--all", "--yes"]).await;
    let ends = "ended already: 2 of 3 tokens; gone ended with its account; revoked is revoked\n";
    assert!(all.well().is_empty() && all.err.contains(ends), "{all:?}");
    assert!(all.err.contains("living: a new value is asked for"), "{all:?}");
    // A token that is there already counts as one that is done.
    for told in ["living: suspended; its Secret stays\n", "suspended already: living\n"] {
        let all = alice.tokenry(&["suspend", "--all", "--yes"]).await;
        assert!(all.well().is_empty() && all.err.contains(told) && all.err.contains(ends), "{all:?}");
    }
    let mixed = alice.tokenry(&["suspend", "living", "revoked", "--yes"]).await;
    assert!(mixed.failed(10).contains("failed for 1 of 2 tokens"), "{mixed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_an_account_or_a_secret_of_another_has_is_refused_before_anything_is_created() {
    let (judged, _operator) = setting("taken").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let home = alice.home();
    judged.world.accepts("ServiceAccount", "bot", json!({"instanceRef": {"name": "eem"}, "owner": "user:alice"})).await;
    let foreign: Secret = serde_json::from_value(json!({"metadata": {"name": "db"}, "type": "Opaque"})).unwrap();
    judged.world.api::<Secret>().create(&PostParams::default(), &foreign).await.unwrap();
    for (name, taken, way) in [
        ("bot", format!("ServiceAccount {home}/bot of tokenry.dev exists"), "names it in spec.serviceAccountRef"),
        ("db", format!("Secret {home}/db exists and is of type \"Opaque\""), "choose another name"),
    ] {
        for more in [&[][..], &["--dry-run"]] {
            let refused = alice.tokenry(&[&["create", name], more].concat()).await;
            let told = refused.failed(4);
            assert!(told.contains(&format!("nothing was created: {taken}")) && told.contains(way), "{told}");
            assert!(!told.contains("delete"), "{told}");
        }
        assert!(judged.token(name).await.is_none());
    }
    // The account and the Secret of a token are its own.
    alice.tokenry(&["create", "ci"]).await.well();
    assert!(alice.tokenry(&["create", "ci"]).await.failed(4).contains("exists already; choose another name"));
}

#[test]
fn a_name_that_no_object_can_have_is_an_error_of_the_command_line() {
    for args in [
        &["create", "My_Token"][..],
        &["create", "ci", "--instance", "a/b/c"],
        &["create", "ci", "--policy", "A"],
        &["status", "CI"],
        &["show", "a/b"],
        &["rotate", "ci", "C.I"],
        &["set", "role", "c i", "viewer"],
        &["transfer", "-ci", "--to", "user:bob"],
        &["delete", "account", "A"],
        &["plan", "rotate", "ci-"],
        &["explain", "ci_"],
        &["verify", "--instance", "a/B"],
        &["create", "ci", "--owner", "bob"],
        &["create", "ci", "--role", "The Viewer"],
        &["create", "ci", "--organization", "a b"],
        &["create", "ci", "--project", "a b"],
        &["transfer", "ci", "--to", "bad form"],
        &["rotate", "ci", "--previous", "-2h"],
        &["set", "role", "ci", "The Viewer"],
        &["list", "-n", "No_ns"],
        &["check", "--system-namespace", "a.b"],
    ] {
        let refused = offline(args);
        assert!(refused.code == 2 && !refused.err.contains("kubeconfig"), "{args:?}: {refused:?}");
    }
    let told = offline(&["create", "My_Token"]).err;
    assert!(told.contains("invalid value 'My_Token'") && told.contains("lower-case letters"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_a_message_advises_has_its_namespace() {
    let (judged, _operator) = setting("advised").await;
    let alice = hand(&judged, "alice", secrets()).await;
    alice.tokenry(&["create", "ci"]).await.well();
    alice.tokenry(&["suspend", "ci"]).await.well();
    judged.world.await_reason("ci", "Suspended").await;
    let resume = format!("kubectl tokenry resume ci -n {}", alice.home());
    for args in [&["status", "ci"][..], &["explain", "ci"]] {
        let told = alice.tokenry(args).await;
        assert!(told.out.contains(&resume), "{args:?}: {told:?}");
    }
    let create = format!("kubectl tokenry grant user:dora --create -n {} --apply", alice.home());
    let checked = judged.stranger("dora", &[]).tokenry(&["check"]).await;
    assert!(checked.out.contains(&create), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_does_not_exist_is_told_to_who_may_look_for_it() {
    let (judged, _operator) = setting("nowhere").await;
    judged.world.change("Instance", "eem", json!({"tokens": {"namespaces": {"from": "All"}}})).await.unwrap();
    let root = judged.stranger("root", &["system:masters"]);
    let instance = format!("{}/eem", root.home());
    for args in [
        &["create", "ci"][..],
        &["create", "ci", "--instance", &instance],
        &["grant", "user:bob", "--create", "--apply"],
    ] {
        let told = run(root.command_in("tokenry-nowhere", args), "");
        let missing = "namespace tokenry-nowhere does not exist; give another one by --namespace";
        assert!(told.failed(5).contains(missing), "{args:?}: {told:?}");
    }
    // A user that may look for namespaces, and creates nothing there.
    let looker = judged.stranger("looker", &[]);
    let rule = json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "looks-for-namespaces"}, "rules": [rule]});
    judged.world.plane.kubectl_with_input(&["apply", "-f", "-"], &role.to_string()).unwrap();
    let bind = ["create", "clusterrolebinding", "looks-for-namespaces", "--clusterrole", "looks-for-namespaces"];
    judged.world.plane.kubectl(&[&bind[..], &["--user", "looker"]].concat()).unwrap();
    let missing = async || {
        let told = run(looker.command_in("tokenry-nowhere", &["create", "ci", "--dry-run"]), "");
        (told.code == 5 && told.err.contains("namespace tokenry-nowhere does not exist")).then_some(())
    };
    judged.world.eventually("no grant is advised there", missing).await;
    let hidden = judged.stranger("dora", &[]);
    let told = run(hidden.command_in("tokenry-nowhere", &["create", "ci", "--dry-run"]), "");
    assert!(told.failed(4).contains("grant user:dora --create -n tokenry-nowhere"), "{told:?}");
    let listed = run(root.command_in("tokenry-nowhere", &["list"]), "");
    assert!(listed.well().is_empty(), "{listed:?}");
}

#[test]
fn a_directory_that_does_not_exist_is_made() {
    let root = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("made-{}", std::process::id()));
    for (command, file) in [("crds", "instances.tokenry.dev.yaml"), ("admission", "mutating.yaml")] {
        let dir = root.join(command).join("deep");
        offline(&[command, "--dir", dir.to_str().unwrap()]).well();
        assert!(dir.join(file).is_file(), "{command}");
    }
    let both = offline(&["admission", "--dir", root.to_str().unwrap(), "--name", "x"]);
    assert!(both.failed(2).contains("--dir"), "{both:?}");
    std::fs::write(root.join("file"), "").unwrap();
    let taken = offline(&["crds", "--dir", root.join("file").to_str().unwrap()]);
    assert!(taken.failed(6).contains("cannot make "), "{taken:?}");
}

#[test]
fn the_owner_is_set_by_another_command() {
    let refused = offline(&["set", "owner", "ci", "user:bob@example.com"]);
    let told = refused.failed(2);
    assert!(told.contains("another command changes the owner"), "{told}");
    assert!(told.ends_with("kubectl tokenry transfer ci --to user:bob@example.com\n"), "{told}");
    let elsewhere = offline(&["set", "owner", "ci", "user:bob", "-n", "shop"]);
    assert!(elsewhere.failed(2).ends_with(" transfer ci --to user:bob -n shop\n"), "{elsewhere:?}");
    assert!(!offline(&["set", "--help"]).well().contains("- owner"), "it is no field of this command");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_value_that_is_shown_once_says_so() {
    let (judged, _operator) = setting("once-more").await;
    let alice = hand(&judged, "alice", secrets()).await;
    alice.tokenry(&["create", "ci", "--once"]).await.well();
    let rotated = alice.tokenry(&["rotate", "ci", "--show"]).await;
    let once = format!("or by `kubectl tokenry show ci --claim -n {}`", alice.home());
    assert!(rotated.well().starts_with("tkn_"), "{rotated:?}");
    assert!(rotated.err.contains("this value is shown once: ") && rotated.err.contains(&once), "{rotated:?}");
}
