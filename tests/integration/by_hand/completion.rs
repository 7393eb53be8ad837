//! Completion of names from the cluster: in bash, and by kubectl.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use rexpect::session::{Options, spawn_with_options};
use serde_json::{Value, json};

use super::{hand, setting};
use crate::harness::{hand::run, judged::User};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tokenry");

/// A folder with the program under each of its names, and with kubectl.
fn folder(user: &User<'_>) -> PathBuf {
    let folder = user.judged.world.plane.directory().join(format!("{}-bin", user.home()));
    fs::create_dir_all(&folder).unwrap();
    for name in ["tokenry", "kubectl-tokenry", "kubectl_complete-tokenry"] {
        symlink(PROGRAM, folder.join(name)).unwrap();
    }
    symlink(controlplane::program("kubectl").unwrap(), folder.join("kubectl")).unwrap();
    folder
}

/// A program that finds those of the folder, and uses the cluster of the user.
fn beside(folder: &Path, user: &User<'_>, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
    command.env("KUBECONFIG", user.judged.world.plane.kubeconfig());
    command
}

/// An Instance with an organization and a policy, and a token with its account.
async fn filled(user: &User<'_>) {
    let world = &user.judged.world;
    let members = json!([{"subject": "team:ops", "role": "viewer"}]);
    world.change("Instance", "eem", json!({"organizations": ["north", "south"], "members": members})).await.unwrap();
    let of = |more: Value| {
        let mut spec = json!({"instanceRef": {"name": "eem"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let allow = json!([{"effect": "Allow", "actions": ["*"]}]);
    let root = user.judged.stranger("root", &["system:masters"]);
    root.create("AccessPolicy", "readers", of(json!({ "statements": allow }))).await.unwrap();
    world.accepts("ApiToken", "exporter", of(json!({"owner": format!("user:{}", user.name)}))).await;
    world.await_reason("exporter", "Active").await;
    user.create("ServiceAccount", "elephant", of(json!({}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_completes_names_of_each_kind_from_the_namespace_and_the_context() {
    let (judged, _operator) = setting("completed").await;
    let alice = hand(&judged, "alice", json!([])).await;
    filled(&alice).await;
    let (home, user) = (alice.home(), format!("--as={}", alice.name));
    let group = "--as-group=system:authenticated";
    let folder = folder(&alice);
    let complete = |words: &[&str]| {
        let mut kubectl = beside(&folder, &alice, folder.join("kubectl").to_str().unwrap());
        kubectl.args(["__complete", "tokenry"]).args(words);
        let done = run(kubectl, "");
        done.well().lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let here = ["-n", home, user.as_str(), group];
    for (words, current, expected) in [
        (&["show"][..], "", &["exporter"][..]),
        (&["show"], "exp", &["exporter"]),
        (&["show"], "x", &[]),
        (&["plan", "revoke"], "e", &["exporter"]),
        (&["revoke"], "e", &["exporter"]),
        (&["delete"], "e", &["exporter"]),
        (&["delete", "account"], "e", &["elephant", "exporter"]),
        (&["create", "new", "--instance"], "e", &["eem"]),
        (&["create", "new", "--organization"], "", &["north", "south"]),
        (&["create", "new", "--policy"], "r", &["readers"]),
        (&["create", "new", "--role"], "a", &["admin"]),
        (&["list", "--organization"], "n", &["north"]),
        (&["list", "--instance"], "", &["eem"]),
        (&["explain"], "e", &["exporter"]),
        (&["explain", "--instance"], "", &["eem"]),
        (&["verify", "--organization"], "n", &["north"]),
        (&["grant", "user:bob", "--account"], "e", &["elephant", "exporter"]),
        (&["grant", "user:bob", "--revoke"], "s", &["south"]),
        (&["grant", "user:bob", "--role"], "eem:a", &["eem:admin"]),
        (&["grant", "user:bob", "--role"], "eem:*", &["eem:*"]),
        (&["grant", "user:bob", "--policy"], "e", &["eem", "eem:readers"]),
        (&["grant", "user:bob", "--owner"], "user:a", &["user:alice"]),
        (&["create", "new", "--owner"], "team:", &["team:ops"]),
        (&["transfer", "exporter", "--to"], "t", &["team:ops"]),
        (&["set", "role", "exporter"], "a", &["admin"]),
        (&["set", "policies", "exporter"], "r", &["readers"]),
        (&["set", "description", "exporter"], "", &[]),
    ] {
        let words = [&words[..1], &here[..], &words[1..], &[current][..]].concat();
        let mut told = complete(&words);
        assert_eq!(told.pop().as_deref(), Some(":4"), "{words:?}: no file is a name");
        let names: Vec<_> = told.iter().filter(|word| !word.starts_with('-')).collect();
        let expected: Vec<_> = expected.iter().filter(|name| name.starts_with(current)).collect();
        assert_eq!(names, expected, "{words:?}");
    }
    let part = &home[..home.len() - 1];
    for flag in ["-n", "--system-namespace"] {
        assert!(complete(&["version", flag, part]).contains(&home.to_owned()), "{flag}");
        let lacking = complete(&["version", &user, group, flag, part]);
        assert_eq!(lacking, [":4"], "{flag}: alice may not list namespaces");
    }
    let elsewhere = complete(&["show", "-n", "default", user.as_str(), group, ""]);
    assert!(!elsewhere.contains(&"exporter".to_owned()), "{elsewhere:?}");
    let unreachable = complete(&["show", "--context", "nowhere", ""]);
    assert!(!unreachable.contains(&"exporter".to_owned()), "{unreachable:?}");
    assert!(complete(&["sh"]).contains(&"show".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_completes_a_command_a_flag_and_a_name() {
    let (judged, _operator) = setting("bash").await;
    let alice = hand(&judged, "alice", json!([])).await;
    filled(&alice).await;
    let mut bash = beside(&folder(&alice), &alice, "sh");
    // The session switches the echo off, and readline would follow it.
    bash.args(["-c", "stty echo && exec bash --norc --noprofile -i"]).env("PS1", "ready> ").env("TERM", "dumb");
    bash.env("INPUTRC", "/dev/null").env_remove("PROMPT_COMMAND");
    let mut session = spawn_with_options(bash, Options::new().timeout_ms(Some(60_000))).unwrap();
    session.exp_string("ready> ").unwrap();
    session.send_line("source <(tokenry completion bash)").unwrap();
    session.exp_string("ready> ").unwrap();
    session.send(&format!("tokenry sho\t--name\t{} exp\t", alice.home())).unwrap();
    session.flush().unwrap();
    session.exp_string(&format!("tokenry show --namespace {} exporter ", alice.home())).unwrap();
    session.send_control('c').unwrap();
    session.exp_string("ready> ").unwrap();
    // An interactive bash ignores the signal that ends it at the end of the test.
    session.send_line("exit").unwrap();
    session.exp_eof().unwrap();
}

/// Begins a session in a shell, loads the script by the line of `completion --help`, and completes a command, a flag
/// and a name. `shell` is the program and its arguments.
fn completes(user: &User<'_>, shell: &[&str], load: &str) {
    let mut sized = beside(&folder(user), user, "sh");
    sized.args(["-c", "stty rows 24 cols 200 echo && exec \"$@\"", "sh"]).args(shell);
    sized.env("PS1", "ready> ").env("TERM", "dumb").env("HOME", user.judged.world.plane.directory());
    let mut session = spawn_with_options(sized, Options::new().timeout_ms(Some(60_000))).unwrap();
    session.exp_string("ready> ").unwrap();
    // The shell echoes the quotes, and prints the word without them.
    session.send_line(&format!("{load}; echo script-'is'-loaded")).unwrap();
    session.exp_string("script-is-loaded").unwrap();
    session.exp_string("ready> ").unwrap();
    session.send(&format!("tokenry sho\t--namesp\t{} exp\t", user.home())).unwrap();
    session.flush().unwrap();
    // A shell moves the cursor between the words.
    for word in ["show ", "--namespace ", user.home(), "exporter"] {
        session.exp_string(word).unwrap();
    }
    // Ctrl-U empties the line. Ctrl-C would also drop keys that come right after it.
    session.send("\u{15}").unwrap();
    session.send_line("exit").unwrap();
    session.exp_eof().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn zsh_completes_a_command_a_flag_and_a_name() {
    let (judged, _operator) = setting("zsh").await;
    let alice = hand(&judged, "alice", json!([])).await;
    filled(&alice).await;
    let zsh = tokio::task::block_in_place(|| controlplane::shell("zsh")).unwrap();
    let load = "autoload -Uz compinit && compinit -u -D && source <(tokenry completion zsh)";
    completes(&alice, &[zsh.to_str().unwrap(), "-f", "-i"], load);
}

#[tokio::test(flavor = "multi_thread")]
async fn fish_completes_a_command_a_flag_and_a_name() {
    let (judged, _operator) = setting("fish").await;
    let alice = hand(&judged, "alice", json!([])).await;
    filled(&alice).await;
    let fish = tokio::task::block_in_place(|| controlplane::shell("fish")).unwrap();
    let prompt = "function fish_prompt; echo 'ready> '; end";
    let shell = [fish.to_str().unwrap(), "--no-config", "--init-command", prompt, "--interactive"];
    completes(&alice, &shell, "tokenry completion fish | source");
}

#[test]
fn each_shell_gets_a_script_that_asks_the_program() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = Command::new(PROGRAM);
        command.args(["completion", shell]);
        let script = run(command, "");
        assert!(script.well().contains("TOKENRY_COMPLETE") && script.out.contains("tokenry"), "{shell}: {script:?}");
    }
}
