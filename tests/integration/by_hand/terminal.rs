//! The same commands in a real pseudo-terminal.

use std::{
    net::TcpListener,
    ops::{Deref, DerefMut},
    process::Command,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use rexpect::{
    process::WaitStatus,
    session::{Options, PtySession, spawn_with_options},
};
use serde_json::{Value, json};
use tokenry::crd::Account;

use super::{connection, hand, secrets, setting};
use crate::harness::{
    clock::Held,
    judged::{Judged, User},
    rights::asking,
};

/// The longest wait for a text on the terminal, in milliseconds.
const DEADLINE: u64 = 60_000;

/// A command in a terminal.
pub(super) struct Terminal {
    session: PtySession,
    /// The path of the terminal's device.
    device: String,
}

impl Deref for Terminal {
    type Target = PtySession;

    fn deref(&self) -> &PtySession {
        &self.session
    }
}

impl DerefMut for Terminal {
    fn deref_mut(&mut self) -> &mut PtySession {
        &mut self.session
    }
}

impl Terminal {
    /// Runs a command in a terminal with this number of columns.
    pub(super) fn of(command: &Command, columns: u16) -> Self {
        let mut sized = within(&format!("tty && stty rows 24 cols {columns} && exec \"$@\""), command);
        sized.env("TERM", "xterm-256color");
        let mut session = spawn_with_options(sized, Options::new().timeout_ms(Some(DEADLINE))).unwrap();
        let device = session.read_line().unwrap();
        Self { session, device }
    }

    /// Waits until a question reads keys.
    fn await_keys(&self) {
        let begun = Instant::now();
        while !self.is_in(&["-icanon"]) {
            assert!(begun.elapsed() < Duration::from_millis(DEADLINE), "nobody reads keys");
        }
    }

    /// True if the terminal is in these modes, as `stty` names them.
    fn is_in(&self, modes: &[&str]) -> bool {
        let told = Command::new("stty").args(["-F", &self.device, "-a"]).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        modes.iter().all(|mode| told.split_whitespace().any(|other| other == *mode))
    }

    /// Waits until a question reads keys, and sends Ctrl-C.
    fn interrupt_question(&mut self) {
        self.await_keys();
        self.send_control('c').unwrap();
    }
}

impl User<'_> {
    /// Runs a command in a terminal of 80 columns.
    pub(super) fn at_a_terminal(&self, args: &[&str]) -> Terminal {
        Terminal::of(&self.command(args), 80)
    }
}

/// Waits for the end of a command, and returns its exit code. A signal that ended it is 128 and more, as in a shell.
pub(super) fn code(session: &PtySession) -> i32 {
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

/// All that a command writes to the terminal until it ends. The session reads each byte as a character.
fn shown(session: &mut Terminal) -> String {
    let bytes = session.exp_eof().unwrap().chars().map(|byte| u8::try_from(u32::from(byte)).unwrap()).collect();
    String::from_utf8(bytes).unwrap()
}

/// All that a command writes to the terminal until it ends well.
pub(super) fn screen(mut session: Terminal) -> String {
    let text = shown(&mut session);
    assert_eq!(code(&session), 0, "{text}");
    text
}

/// The widest line of a screen, in columns. A wait is overwritten: the text after it begins with a carriage return.
pub(super) fn widest(screen: &str) -> usize {
    let lines = screen.split(['\r', '\n']);
    lines.map(|line| console::measure_text_width(line.trim_end())).max().unwrap_or_default()
}

/// The words of a text, without colours, waits and times. Times can differ from one command to the next.
fn words(text: &str) -> Vec<String> {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    let plain = parts.fold(first, |all, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == '?');
        all + rest.get(1..).unwrap_or_default()
    });
    let is_wait = |line: &str| line.trim_start().starts_with(|c| ('\u{2800}'..='\u{28ff}').contains(&c));
    let lines = plain.split(['\r', '\n']).filter(|line| !is_wait(line));
    let is_duration =
        |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with(['s', 'm', 'h', 'd']);
    // An age of less than a second is written as `now`.
    let is_time = |word: &str| word == "now" || is_duration(word);
    let words = lines.flat_map(|line| line.split([' ', '(', ')']));
    words.filter(|word| !word.is_empty() && !is_time(word)).map(str::to_owned).collect()
}

/// The lines that are wider than the terminal. A command to copy is never broken.
fn too_wide(text: &str, columns: usize) -> Vec<&str> {
    let lines = text.split(['\r', '\n']).filter(|line| !line.trim_start_matches([' ', '`']).starts_with("kubectl "));
    lines.filter(|line| console::measure_text_width(line.trim_end()) > columns).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_fits_a_terminal_of_80_columns() {
    let (judged, _operator) = setting("fits").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let (name, system) = (&*format!("nightly-export-{}", "x".repeat(40)), &*"s".repeat(63));
    let long = &*"exports the topics of all clusters every night, and tells nobody ".repeat(3);
    alice.tokenry(&["create", name, "--description", long]).await.well();
    for args in [
        &["check"][..],
        &["check", "--pre"],
        &["version"],
        &["version", "--system-namespace", system],
        &["list"],
        &["status", name],
        &["plan", "rotate", name],
        &["plan", "suspend", name],
        &["plan", "revoke", name],
        &["plan", "delete", name],
        &["explain", name],
        &["explain", name, "--path", "/orders"],
        &["transfer", name, "--to", "team:platform-of-all-clusters"],
        &["set", "description", name, "weekly", "--dry-run"],
        &["set", "role", name, "admin"],
        &["grant", "user:bob", "--create", "--role", "eem:painter", "--policy", "eem:readers", "--claim", name],
        &["grant", "user:bob", "--create", "--apply"],
        &["suspend", name],
        &["rotate", name],
        &["resume", name],
        &["rotate", name, "--wait"],
        &["rotate", name, "--show"],
        &["create", name],
    ] {
        let told = shown(&mut alice.at_a_terminal(args));
        assert!(!told.is_empty() && too_wide(&told, 80).is_empty(), "{args:?}: {:?}: {told}", too_wide(&told, 80));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_shown_at_the_terminal_and_standard_output_has_the_value_alone() {
    let judged = Judged::new("awaited").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let name = &*format!("nightly-export-{}", "x".repeat(40));
    for (args, has_value, said) in [
        (&["create", name][..], true, "this value expires"),
        (&["rotate", name, "--wait"], false, "generation 2 is published"),
        (&["rotate", name, "--show"], true, "generation 3 is published"),
    ] {
        let mut waits = Terminal::of(&within("value=$(\"$@\") && echo \"got <$value>\"", &alice.command(args)), 80);
        // The operator is away, so the wait takes more than a second.
        let before = waits.exp_string("(1s)").unwrap();
        let operator = judged.world.operator(&Held::default()).await;
        let told = format!("{before}{}", shown(&mut waits));
        assert_eq!(code(&waits), 0, "{args:?}: {told}");
        let value = judged.world.value(name).await.filter(|_| has_value).unwrap_or_default();
        assert!(words(&told).join(" ").contains(said), "{args:?}: {told}");
        assert!(told.contains(&format!("got <{value}>")) && too_wide(&told, 80).is_empty(), "{args:?}: {told}");
        operator.stop().await;
    }
}

#[test]
fn a_wait_for_files_is_shown_at_a_terminal_alone() {
    let pipe = std::env::temp_dir().join(format!("slow-{}", std::process::id()));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (command, progress, told) in
        [("scan", "scanning", "no token in 1 file"), ("lint", "reading manifests", "no fault in no object")]
    {
        let mut reads = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        reads.args([command, pipe.to_str().unwrap()]);
        let mut seen = Terminal::of(&reads, 80);
        seen.exp_string(progress).unwrap();
        seen.exp_string("(2s)").unwrap();
        std::fs::write(&pipe, "").unwrap();
        let text = shown(&mut seen);
        assert!(text.contains(told) && code(&seen) == 0, "{command}: {text}");
        reads.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        let child = reads.stderr(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        std::fs::write(&pipe, "").unwrap();
        let done = child.wait_with_output().unwrap();
        let text = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert!(text.contains(told) && !text.contains(progress) && !text.contains('\u{1b}'), "{command}: {text}");
    }
    std::fs::remove_file(&pipe).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_change_is_made_and_an_interrupted_one_is_not() {
    let (judged, _operator) = setting("confirmed").await;
    let (alice, root) = (hand(&judged, "alice", secrets()).await, judged.stranger("root", &["system:masters"]));
    for name in ["ci", "other"] {
        alice.tokenry(&["create", name]).await.well();
    }
    let mut kept = alice.at_a_terminal(&["delete", "account", "ci"]);
    kept.exp_string("Type \"ci\" without the quotes").unwrap();
    kept.interrupt_question();
    kept.exp_string("interrupted; nothing was changed").unwrap();
    assert_eq!(code(&kept), 130);
    let account = judged.world.api::<Account>().get("ci").await.unwrap();
    assert!(account.metadata.deletion_timestamp.is_none() && !judged.token("ci").await.unwrap().spec.revoked);
    let mut suspended = alice.at_a_terminal(&["suspend", "--all"]);
    suspended.exp_string("Suspend these 2 tokens (2 Active)?").unwrap();
    suspended.await_keys();
    suspended.send_line("y").unwrap();
    let told = shown(&mut suspended);
    assert!(told.contains("ci: suspended") && code(&suspended) == 0, "{told}");
    for name in ["ci", "other"] {
        assert!(!judged.token(name).await.unwrap().spec.active);
    }
    // A grant asks nothing.
    for said in ["were created", "exist already"] {
        let told = screen(root.at_a_terminal(&["grant", "user:bob", "--view", "--apply"]));
        assert!(words(&told).join(" ").contains(said), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_asked_before_anything_ends() {
    let (judged, _operator) = setting("asked").await;
    let alice = hand(&judged, "alice", secrets()).await;
    alice.tokenry(&["create", "ci", "--description", "nightly export"]).await.well();
    let mut no = alice.at_a_terminal(&["revoke", "ci"]);
    no.exp_string("Revoke ci?").unwrap();
    no.send_line("").unwrap();
    no.exp_string("not confirmed; nothing was changed").unwrap();
    assert_eq!(code(&no), 8);
    assert!(!judged.token("ci").await.unwrap().spec.revoked);
    for unsure in ["n", "yeah"] {
        let mut no = alice.at_a_terminal(&["revoke", "ci"]);
        no.exp_string("Yes, I'm sure [y/N]").unwrap();
        no.send_line(unsure).unwrap();
        no.exp_string("not confirmed").unwrap();
        assert_eq!(code(&no), 8);
    }
    for asked in ["revoke", "delete"] {
        let mut no = alice.at_a_terminal(&[asked, "ci"]);
        no.await_keys();
        no.send_control('d').unwrap();
        no.exp_string("not confirmed; nothing was changed").unwrap();
        assert_eq!(code(&no), 8, "{asked}: Ctrl-D is no answer");
    }
    alice.tokenry(&["create", "mended", "--description", "weekly export"]).await.well();
    let mut mended = alice.at_a_terminal(&["delete", "mended"]);
    mended.await_keys();
    // Backspace takes back the last letter.
    mended.send_line("weekly exports\u{7f}").unwrap();
    mended.exp_string("mended: deleted").unwrap();
    assert_eq!(code(&mended), 0);
    let mut yes = alice.at_a_terminal(&["revoke", "ci"]);
    yes.exp_string("Yes, I'm sure").unwrap();
    yes.send_line("y").unwrap();
    yes.exp_string("revoked; this is final").unwrap();
    assert_eq!(code(&yes), 0);
    let mut delete = alice.at_a_terminal(&["delete", "ci"]);
    delete.exp_string("Type \"nightly export\" without the quotes").unwrap();
    delete.send_line("nightly").unwrap();
    delete.exp_string("not confirmed").unwrap();
    assert_eq!(code(&delete), 8);
    let mut delete = alice.at_a_terminal(&["delete", "ci"]);
    delete.exp_string("Type \"nightly export\"").unwrap();
    delete.send_line("nightly export").unwrap();
    delete.exp_string("ci: deleted").unwrap();
    assert_eq!(code(&delete), 0);
    judged.world.eventually("it is gone", async || judged.token("ci").await.is_none().then_some(())).await;
}

/// Applies a Deployment that reads the Secret of `ci`, and runs no Pod.
fn reader(judged: &Judged) {
    let template = json!({"metadata": {"labels": {"app": "exporter"}}, "spec": {"containers": [
        {"name": "c", "image": "exporter", "env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "ci", "key": "token"}}}]},
    ]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "exporter"}}, "template": template});
    let metadata = json!({"name": "exporter", "namespace": judged.world.namespace});
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
    let file = judged.world.plane.directory().join(format!("{}-exporter.json", judged.world.namespace));
    std::fs::write(&file, object.to_string()).unwrap();
    judged.world.plane.kubectl(&["apply", "-f", file.to_str().unwrap()]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_says_what_would_break_and_the_list_of_several() {
    let (judged, _operator) = setting("breaks").await;
    let all = json!([
        {"apiGroups": [""], "resources": ["secrets", "pods"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": ["apps", "batch"], "resources": ["*"], "verbs": ["list"]},
    ]);
    let alice = hand(&judged, "alice", all).await;
    for name in ["ci", "other"] {
        alice.tokenry(&["create", name]).await.well();
    }
    reader(&judged);
    for (args, question) in [(["revoke", "ci"], "Revoke ci?"), (["delete", "ci"], "Type \"ci\" without the quotes")] {
        let mut asked = alice.at_a_terminal(&args);
        asked.exp_string("never used").unwrap();
        asked.exp_string("Deployment/exporter (no Pod now, env)").unwrap();
        asked.exp_string(question).unwrap();
        asked.interrupt_question();
        asked.exp_string("interrupted; nothing was changed").unwrap();
        assert_eq!(code(&asked), 130);
    }
    let mut asked = alice.at_a_terminal(&["revoke", "--all"]);
    asked.exp_regex("NAME +VALID +REASON").unwrap();
    asked.exp_string("other").unwrap();
    asked.exp_string("none of them was ever").unwrap();
    asked.exp_string("Deployment/exporter").unwrap();
    asked.exp_string("Revoke these 2 tokens (2 Active)?").unwrap();
    asked.send_line("").unwrap();
    asked.exp_string("not confirmed").unwrap();
    assert_eq!(code(&asked), 8);
    for (args, effect, question) in [
        (&["suspend", "--all"][..], "refused until they are resumed", "Suspend these 2 tokens (2 Active)?"),
        (&["rotate", "ci", "other"], "gets a new value; the present value", "Rotate these 2 tokens (2 Active)?"),
        (&["rotate", "ci", "--previous", "0s"], "the present value ends at once", "Rotate ci?"),
    ] {
        let mut asked = alice.at_a_terminal(args);
        asked.exp_string(effect).unwrap();
        asked.exp_string("Deployment/exporter").unwrap();
        asked.exp_string(question).unwrap();
        asked.send_line("n").unwrap();
        asked.exp_string("not confirmed; nothing was changed").unwrap();
        assert_eq!(code(&asked), 8, "{args:?}");
        let elsewhere = alice.tokenry(args).await;
        assert!(elsewhere.failed(2).contains("give --yes"), "{args:?}: {elsewhere:?}");
    }
    for name in ["ci", "other"] {
        let spec = judged.token(name).await.unwrap().spec;
        assert!(spec.active && spec.regenerate.is_none());
    }
    let plan = alice.tokenry(&["plan", "revoke", "ci", "--output", "json"]).await;
    let plan: Value = serde_json::from_str(plan.well()).unwrap();
    assert_eq!(plan["readers"], json!([{"name": "Deployment/exporter", "pods": 0, "ways": ["env"]}]));
    assert_eq!((&plan["token"], &plan["secret"], &plan["unknown"]), (&json!("ci"), &json!("ci"), &json!([])));
    let account = alice.tokenry(&["delete", "account", "ci"]).await;
    let told = account.failed(2);
    for part in ["stay in the list as AccountDeleted: ci", "Deployment/exporter", "give --confirm"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("and its Secret are deleted"), "{told}");
    judged.world.change("Instance", "eem", json!({"tokens": {"onAccountDeleted": "Delete"}})).await.unwrap();
    let account = alice.tokenry(&["delete", "account", "ci"]).await;
    let told = account.failed(2);
    assert!(told.contains("are deleted with it, and their Secrets too: ci"), "{told}");
    assert!(judged.token("ci").await.is_some() && !judged.token("other").await.unwrap().spec.revoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_all_tokens_counts_those_alone_that_the_answer_would_change() {
    let (judged, _operator) = setting("counted").await;
    let alice = hand(&judged, "alice", secrets()).await;
    for (name, owner) in [("a", "alice"), ("b", "alice"), ("bobs", "bob"), ("gone", "alice"), ("past", "alice")] {
        let spec = json!({"instanceRef": {"name": "eem"}, "owner": format!("user:{owner}")});
        judged.world.accepts("ApiToken", name, spec).await;
        judged.world.await_reason(name, "Active").await;
    }
    alice.tokenry(&["revoke", "past", "--yes"]).await.well();
    alice.tokenry(&["delete", "account", "gone", "--confirm", "gone"]).await.well();
    judged.world.await_reason("gone", "AccountDeleted").await;
    for (command, lacks) in
        [("revoke", "revoke organizations"), ("suspend", "assign owners"), ("rotate", "assign owners")]
    {
        let mut asked = Terminal::of(&alice.command(&[command, "--all"]), 400);
        let before = asked.exp_string("[y/N]").unwrap();
        let own = if command == "revoke" { "revoked already: past" } else { "ended already: 2 of 5 tokens" };
        for part in [own, "gone ended with its account", "left out: 1 of 3 tokens", "bobs: ", lacks] {
            assert!(before.contains(part), "{command}: {part}: {before}");
        }
        assert!(before.contains(" these 2 tokens (2 Active)?"), "{command}: {before}");
        asked.await_keys();
        asked.send_control('d').unwrap();
        asked.exp_string("not confirmed; nothing was changed").unwrap();
        assert_eq!(code(&asked), 8);
    }
    let mut sure = Terminal::of(&alice.command(&["revoke", "--all"]), 400);
    sure.exp_string("[y/N]").unwrap();
    sure.send_line("y").unwrap();
    sure.exp_string("failed for 1 of 4 tokens; done: a, b").unwrap();
    assert_eq!(code(&sure), 10);
    let is_revoked = async |name| judged.token(name).await.unwrap().spec.revoked;
    assert!(is_revoked("a").await && is_revoked("b").await && !is_revoked("bobs").await && !is_revoked("gone").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_things_as_they_are_and_says_so() {
    let judged = Judged::new("interrupted").await;
    let alice = hand(&judged, "alice", secrets()).await;
    // No operator runs, so the value never comes.
    let mut waits = alice.at_a_terminal(&["create", "ci"]);
    waits.exp_string("is it running?").unwrap();
    waits.send_control('c').unwrap();
    let told = format!("interrupted; ApiToken {}/ci was created; nothing else was", alice.home());
    waits.exp_string(&told).unwrap();
    assert_eq!(code(&waits), 130);
    // The operator grants roles of this Instance.
    let members = json!([{"subject": "user:alice", "role": "viewer"}]);
    judged.world.change("Instance", "eem", json!({"ceiling": "Members", "members": members})).await.unwrap();
    let mut refused = alice.at_a_terminal(&["set", "role", "ci", "admin"]);
    refused.exp_string("may not assign roles.tokenry.dev/eem:admin").unwrap();
    refused.exp_string("a grant may be on its way").unwrap();
    refused.send_control('c').unwrap();
    refused.exp_string("interrupted; ").unwrap();
    assert_eq!(code(&refused), 130);
    assert_eq!(judged.token("ci").await.unwrap().spec.role, None);
    // The library of this test turns the echo off by itself.
    let mut hidden = Terminal::of(&within("stty echo && exec \"$@\"", &alice.command(&["verify"])), 80);
    hidden.exp_string("Value, which is not shown here: ").unwrap();
    assert!(hidden.is_in(&["-echo"]));
    hidden.interrupt_question();
    hidden.exp_string("interrupted; nothing was changed").unwrap();
    assert_eq!(code(&hidden), 130);
    assert!(hidden.is_in(&["isig", "icanon", "echo"]));
    let none = alice.tokenry(&["create", "late", "--timeout", "1s"]).await;
    assert!(none.failed(9).contains("not done in time"), "{none:?}");
}

#[test]
fn a_slow_answer_is_shown_and_ctrl_c_ends_each_command_that_waits_for_it() {
    // The kernel accepts the connections, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let answer = "waiting for the API server";
    for (args, shown) in [
        (&["list"][..], answer),
        (&["status", "ci"], answer),
        (&["explain", "ci"], answer),
        (&["version"], answer),
        (&["check"], "checking"),
    ] {
        let mut waits = Terminal::of(&connection::tokenry(&server, args), 80);
        waits.exp_string(shown).unwrap();
        waits.send_control('c').unwrap();
        waits.exp_string("interrupted; nothing was changed").unwrap();
        assert_eq!(code(&waits), 130, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_says_at_a_terminal_what_it_says_to_a_pipe_in_its_width_and_in_colours() {
    let (judged, _operator) = setting("screen").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let long = "exports the topics of all clusters every night, and tells nobody ".repeat(3);
    alice.tokenry(&["create", "ci", "--description", &long, "--expires", "30d"]).await.well();
    judged.world.await_reason("ci", "Active").await;
    let home = alice.home();
    for args in [
        &["list", "--output", "wide"][..],
        &["list", "--output", "name"],
        &["status", "ci"],
        &["explain", "ci"],
        &["show", "ci"],
        &["grant", "user:bob", "--create"],
        &["set", "name", "ci", "Exporter", "--dry-run"],
        &["suspend", "ci", "--dry-run"],
        &["resume", "ci"],
        &["rotate", "ci", "--dry-run"],
        &["revoke", "ci", "--dry-run"],
        &["transfer", "ci", "--to", "user:alice"],
    ] {
        let seen = screen(alice.at_a_terminal(args));
        let done = alice.tokenry(args).await;
        let told = format!("{}{}", done.err, done.well());
        assert_eq!(words(&seen), words(&told), "{args:?}");
        assert!(!told.contains('\u{1b}'), "{args:?}: {told:?}");
    }
    for (columns, most) in [(80, 80), (60, 80), (110, 110)] {
        let table = screen(Terminal::of(&alice.command(&["list"]), columns));
        let widest = widest(&table);
        assert!((most - 20..=most).contains(&widest), "{columns}: {widest}\n{table}");
    }
    let page = screen(alice.at_a_terminal(&["status", "ci"]));
    assert!(page.contains(&format!("\u{1b}[1mApiToken {home}/ci\u{1b}[0m")), "{page:?}");
    assert!(page.contains("\u{1b}[32m√\u{1b}[0m Valid=True Active"), "{page:?}");
    let steps = screen(alice.at_a_terminal(&["explain", "ci"]));
    assert!(steps.contains("\u{1b}[32m√\u{1b}[0m ApiToken"), "{steps:?}");
    for (args, told) in [(["status", "ci"], "√ Valid=True Active"), (["explain", "ci"], "√ ApiToken")] {
        let mut colourless = alice.command(&args);
        colourless.env("NO_COLOR", "1");
        let page = screen(Terminal::of(&colourless, 80));
        assert!(!page.contains('\u{1b}') && page.contains(told), "{page:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_copied_by_the_terminal_and_claimed_after_a_question() {
    let (judged, _operator) = setting("copied").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let value = alice.tokenry(&["create", "ci", "--once"]).await.well().trim().to_owned();
    let copied = screen(alice.at_a_terminal(&["show", "ci", "--copy"]));
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &value);
    assert!(copied.contains(&format!("\u{1b}]52;c;{encoded}\u{7}")), "{copied:?}");
    assert!(copied.contains("copied into the clipboard") && !copied.contains(&value), "{copied:?}");
    let no_terminal = alice.tokenry(&["show", "ci", "--copy"]).await;
    assert!(no_terminal.failed(2).contains("leave --copy out"), "{no_terminal:?}");
    let mut claimed = alice.at_a_terminal(&["show", "ci", "--claim"]);
    claimed.exp_string("Claim the value of ci? Its Secret is deleted").unwrap();
    claimed.send_line("Yes, I'm sure").unwrap();
    claimed.exp_string(&value).unwrap();
    claimed.exp_string("claimed: the Secret of ci is being deleted").unwrap();
    assert_eq!(code(&claimed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_changes_during_the_question_is_the_current_one_after_the_answer_and_none_is_lost() {
    let (judged, _operator) = setting("meanwhile").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let begun = async |name: &str| {
        let value = alice.tokenry(&["create", name, "--once"]).await.well().trim().to_owned();
        let mut asked = alice.at_a_terminal(&["show", name, "--claim"]);
        asked.exp_string(&format!("Claim the value of {name}?")).unwrap();
        asked.exp_string("[y/N]").unwrap();
        (value, asked)
    };
    let gone = async |name: &str| {
        let gone = async || judged.world.value(name).await.is_none().then_some(());
        judged.world.eventually("the Secret is gone", gone).await;
    };
    let (first, mut asked) = begun("rotated").await;
    alice.tokenry(&["rotate", "rotated", "--wait"]).await.well();
    let second = judged.world.value("rotated").await.unwrap();
    asked.send_line("y").unwrap();
    let told = shown(&mut asked);
    assert!(told.contains("rotated was rotated before your answer; this is the new value"), "{told}");
    assert!(told.contains(&second) && !told.contains(&first), "{told}");
    assert_eq!(code(&asked), 0, "{told}");
    gone("rotated").await;
    let (value, mut asked) = begun("claimed").await;
    assert_eq!(alice.tokenry(&["show", "claimed", "--claim", "--yes"]).await.well().trim(), value);
    gone("claimed").await;
    asked.send_line("y").unwrap();
    let told = shown(&mut asked);
    let only = "claimed shows no value any more, so nothing was left to claim";
    assert!(told.contains(only) && told.contains(&value), "{told}");
    assert_eq!(code(&asked), 0, "{told}");
    let (value, mut asked) = begun("revoked").await;
    alice.tokenry(&["revoke", "revoked", "--yes"]).await.well();
    judged.world.await_reason("revoked", "Revoked").await;
    asked.send_line("y").unwrap();
    let told = shown(&mut asked);
    assert!(told.contains("shows no value: it is revoked") && !told.contains(&value), "{told}");
    assert_eq!(code(&asked), 5, "{told}");
}

/// A command within a script of a shell, which calls it by `"$@"`.
fn within(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    command.get_envs().for_each(|(name, value)| match value {
        Some(value) => _ = shell.env(name, value),
        None => _ = shell.env_remove(name),
    });
    shell
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_asked_at_the_terminal_also_if_the_output_is_read_by_another_program() {
    let (judged, _operator) = setting("substituted").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let value = alice.tokenry(&["create", "ci", "--once"]).await.well().trim().to_owned();
    let claim = within("value=$(\"$@\") && echo \"got $value\"", &alice.command(&["show", "ci", "--claim"]));
    let mut claim = Terminal::of(&claim, 80);
    claim.exp_string("Claim the value of ci? Its Secret is deleted").unwrap();
    claim.send_line("y").unwrap();
    let told = shown(&mut claim);
    assert!(told.contains("claimed: the Secret of ci") && told.contains(&format!("got {value}")), "{told}");
    let mut verify = Terminal::of(&within("\"$@\" | cat", &alice.command(&["verify"])), 80);
    verify.exp_string("Value, which is not shown here: ").unwrap();
    verify.send_line(&value).unwrap();
    assert!(shown(&mut verify).contains("allowed: 200 Allowed"));
    for (args, question) in [(["revoke", "ci"], "Yes, I'm sure [y/N]"), (["delete", "ci"], "Type \"ci\"")] {
        let mut asked = Terminal::of(&within("\"$@\" | cat", &alice.command(&args)), 80);
        asked.exp_string(question).unwrap();
        asked.send_line("").unwrap();
        asked.exp_string("not confirmed").unwrap();
    }
    let mut unasked = Terminal::of(&within("\"$@\" < /dev/null", &alice.command(&["revoke", "ci"])), 80);
    let told = words(&shown(&mut unasked)).join(" ");
    assert!(told.contains("there is no terminal to ask at; give --yes"), "{told}");
    assert_eq!(code(&unasked), 2);
}

/// The mark of a claim on a Secret.
async fn claim_on(judged: &Judged, secret: &str) -> Option<String> {
    let secret = judged.world.api::<Secret>().get(secret).await.unwrap();
    secret.metadata.annotations?.get("tokenry.dev/claimed").cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_value_is_claimed_only_after_its_user_has_found_it() {
    let (judged, operator) = setting("pasted").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let value = alice.tokenry(&["create", "ci", "--once"]).await.well().trim().to_owned();
    let unseen = alice.tokenry(&["show", "ci", "--claim", "--copy", "--yes"]).await;
    let told = unseen.failed(2);
    assert!(told.contains("no terminal says that it copied a value") && told.contains("leave --yes out"), "{told}");
    assert!(claim_on(&judged, "ci").await.is_none());
    let asked = || {
        let mut asked = Terminal::of(&alice.command(&["show", "ci", "--claim", "--copy"]), 400);
        let before = asked.exp_string("Paste it now: is the value of ci there? Yes claims it").unwrap();
        assert!(before.contains("\u{1b}]52;c;") && before.contains("copied into the clipboard"), "{before:?}");
        asked.exp_string("[y/N]").unwrap();
        asked
    };
    for unsure in ["", "n"] {
        let mut no = asked();
        no.send_line(unsure).unwrap();
        no.exp_string("not confirmed; nothing was changed").unwrap();
        assert_eq!(code(&no), 8);
    }
    let mut interrupted = asked();
    interrupted.interrupt_question();
    interrupted.exp_string("interrupted; nothing was changed").unwrap();
    assert_eq!(code(&interrupted), 130);
    assert_eq!((claim_on(&judged, "ci").await, judged.world.value("ci").await), (None, Some(value.clone())));
    let mut late = asked();
    alice.tokenry(&["rotate", "ci", "--wait"]).await.well();
    late.send_line("y").unwrap();
    let told = shown(&mut late);
    let command = format!("claim its new value: kubectl tokenry show ci --claim --copy -n {}", alice.home());
    assert!(
        told.contains("nothing was claimed, because ci has just been rotated") && told.contains(&command),
        "{told}"
    );
    assert_eq!(code(&late), 4, "{told}");
    let second = judged.world.value("ci").await.unwrap();
    assert!(second != value && claim_on(&judged, "ci").await.is_none());
    // Without the operator, the Secret and its mark stay.
    operator.stop().await;
    let mut yes = asked();
    yes.send_line("y").unwrap();
    let told = shown(&mut yes);
    assert!(told.contains("claimed: the Secret of ci is being deleted") && !told.contains(&second), "{told}");
    assert_eq!(code(&yes), 0, "{told}");
    assert!(claim_on(&judged, "ci").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_only_a_question_still_has_is_printed_unless_nobody_accepts_it() {
    let (judged, operator) = setting("holding").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let names = ["revoked", "removed", "deleted", "emptied", "marked", "unread"];
    let mut values = Vec::new();
    for name in names {
        values.push(alice.tokenry(&["create", name, "--once"]).await.well().trim().to_owned());
    }
    // Without the operator, the status is late.
    operator.stop().await;
    let mut asked = names.map(|name| {
        let mut asked = Terminal::of(&alice.command(&["show", name, "--claim"]), 400);
        asked.exp_string(&format!("Claim the value of {name}?")).unwrap();
        asked.exp_string("[y/N]").unwrap();
        asked
    });
    let secrets = judged.world.api::<Secret>();
    // Before the token: the garbage collector deletes the Secret of a token that is gone.
    for name in ["revoked", "removed", "deleted", "unread"] {
        secrets.delete(name, &Default::default()).await.unwrap();
    }
    judged.world.change("ApiToken", "revoked", json!({"revoked": true})).await.unwrap();
    judged.world.delete("ApiToken", "deleted").await;
    for (name, key) in [("emptied", "token"), ("marked", "token-id")] {
        let without = Patch::Merge(json!({"data": {key: null}}));
        secrets.patch(name, &PatchParams::default(), &without).await.unwrap();
    }
    let home = alice.home();
    let lost = " shows no value any more, so nothing was left to claim; your copy of its value may be the only one";
    let mut answer = |at: usize| {
        asked[at].send_line("y").unwrap();
        let told = shown(&mut asked[at]);
        (code(&asked[at]), told.contains(&values[at]), told)
    };
    for (at, exit, is_printed, said) in [
        (0, 5, false, "shows no value: it is revoked"),
        (1, 0, true, lost),
        (2, 5, false, "deleted"),
        (3, 0, true, lost),
        (4, 2, true, "the Secret of marked has no key token-id"),
    ] {
        let (code, has_value, told) = answer(at);
        assert_eq!((code, has_value, told.contains(said)), (exit, is_printed, true), "{}: {told}", names[at]);
    }
    let unmarked = alice.tokenry(&["show", "marked", "--claim", "--yes"]).await;
    let told =
        format!("print the value without --claim, or ask for a new one: kubectl tokenry rotate marked -n {home}");
    assert!(unmarked.failed(2).contains(&told) && unmarked.out.is_empty(), "{unmarked:?}");
    assert_eq!(alice.tokenry(&["show", "marked"]).await.well().trim(), values[4]);
    assert!(claim_on(&judged, "marked").await.is_none());
    judged.world.plane.kubectl(&["delete", "rolebindings", "--all", "-n", home]).unwrap();
    for resource in [("apitokens", "tokenry.dev"), ("secrets", "")] {
        judged.world.await_right(false, &asking("alice", &[]), "get", resource, "unread").await;
    }
    let (code, has_value, told) = answer(5);
    assert!(code == 4 && has_value, "{told}");
    assert!(told.contains("nothing was claimed; your value of unread is from before your answer"), "{told}");
    assert!(told.contains("you may not get apitokens.tokenry.dev in"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_ends_a_command_quietly() {
    let (judged, _operator) = setting("unread").await;
    let alice = hand(&judged, "alice", json!([])).await;
    alice.may(secrets()).await;
    alice.tokenry(&["create", "ci"]).await.well();
    for args in [&["grant", "user:bob", "--role", "eem:viewer"][..], &["check"], &["show", "ci"], &["status", "ci"]] {
        assert_eq!(unread(alice.command(args)), (Some(141), String::new()), "{args:?}");
    }
    let mut docs = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    docs.args(["docs", "rotate"]);
    assert_eq!(unread(docs), (Some(141), String::new()));
}

/// The exit code and the error output of a command whose output nobody reads.
fn unread(mut command: Command) -> (Option<i32>, String) {
    command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = command.stdout(writer).spawn().unwrap().wait_with_output().unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_verified_at_a_terminal_without_showing_it_and_files_are_scanned_there() {
    let (judged, _operator) = setting("typed").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let value = alice.tokenry(&["create", "ci"]).await.well().trim().to_owned();
    let mut asked = alice.at_a_terminal(&["verify"]);
    let before = asked.exp_string("Value, which is not shown here: ").unwrap();
    asked.send_line(&value).unwrap();
    let told = shown(&mut asked);
    assert!(told.contains("allowed: 200 Allowed") && !format!("{before}{told}").contains(&value), "{told}");
    assert!(too_wide(&told, 80).is_empty(), "{told}");
    assert_eq!(code(&asked), 0);
    let file = judged.world.plane.directory().join(format!("{}-leak.env", alice.home()));
    std::fs::write(&file, format!("TOKEN={value}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command.args(["scan", file.to_str().unwrap()]);
    let mut found = Terminal::of(&command, 80);
    let told = shown(&mut found);
    let told = words(&told).join(" ");
    assert!(told.contains(":1:7: a token with id ") && told.contains("1 token in 1 file"), "{told}");
    assert_eq!(code(&found), 1);
    std::fs::write(&file, "nothing\n").unwrap();
    let mut none = Terminal::of(&command, 80);
    assert_eq!((shown(&mut none).trim_end(), code(&none)), ("no token in 1 file", 0));
    let long = format!("{}.env", "x".repeat(65));
    std::fs::write(file.with_file_name(&long), format!("TOKEN={value}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command.args(["scan", &long]);
    let there = format!("cd {} && \"$@\"", file.parent().unwrap().display());
    let told = shown(&mut Terminal::of(&within(&there, &command), 80));
    let place = format!("{long}:1:7: a token with id ");
    assert!(words(&told).join(" ").contains(&place) && too_wide(&told, 80).is_empty(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_are_broken_between_words_at_a_terminal_and_not_in_a_pipe() {
    let (judged, _operator) = setting("broken").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let long = "exports the topics of all clusters every night, and tells nobody ".repeat(3);
    alice.tokenry(&["create", "ci", "--description", long.trim_end()]).await.well();
    let page = screen(alice.at_a_terminal(&["status", "ci"]));
    assert!(widest(&page) <= 80, "{page}");
    assert!(alice.tokenry(&["status", "ci"]).await.well().contains(long.trim_end()));
    let name = format!("nightly-export-{}", "x".repeat(25));
    alice.tokenry(&["create", &name]).await.well();
    let all = judged.stranger("root", &["system:masters"]);
    for (user, args) in [(&all, &["list", "-A"][..]), (&alice, &["list"])] {
        let table = screen(user.at_a_terminal(args));
        assert!(widest(&table) <= 80, "{args:?}: {table}");
        assert!(table.contains("nightly"), "{args:?}: {table}");
    }
    let mut refused = alice.at_a_terminal(&["create", "other", "--admin"]);
    let told = shown(&mut refused);
    assert_eq!(code(&refused), 4);
    let command = format!("  kubectl tokenry grant user:alice --role eem:admin -n {} --apply", alice.home());
    assert!(told.lines().any(|line| line.trim_end() == command), "the command is whole: {told:?}");
    let others = told.lines().filter(|line| !line.contains("kubectl ") && !line.contains('\u{1b}'));
    assert!({ others }.all(|line| line.trim_end().chars().count() <= 80), "{told}");
}

#[test]
fn pages_and_errors_of_the_command_line_fit_the_terminal_and_commands_stay_whole() {
    let told = |args: &[&str], columns, exit| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        command.args(args);
        let mut session = Terminal::of(&command, columns);
        let text = shown(&mut session);
        assert_eq!(code(&session), exit, "{args:?}: {text}");
        text
    };
    for args in [&["rotate"][..], &["explain"], &["grant", "user:bob", "--nothing"], &["set", "colour", "ci", "red"]] {
        let text = told(args, 60, 2);
        assert!(widest(&text) <= 60, "{args:?}: {text}");
    }
    // A terminal may not say its width.
    for (args, exit) in [(&["rotate", "--help"][..], 0), (&["--help"], 0), (&["set", "colour", "ci", "red"], 2)] {
        let text = told(args, 0, exit);
        assert!(text.lines().count() > 3 && widest(&text) <= 80, "{args:?}: {text}");
    }
    let manifest = std::env::temp_dir().join(format!("by-hand-{}.yaml", std::process::id()));
    let spec = "instanceRef: {name: shop}, rotation: {schedule: {cron: x}}";
    let token = "apiVersion: tokenry.dev/v1alpha1\nkind: ApiToken\nmetadata: {name: ci}";
    std::fs::write(&manifest, format!("{token}\nspec: {{{spec}}}\n")).unwrap();
    let args = ["lint", manifest.to_str().unwrap()];
    for columns in [80, 0] {
        let text = told(&args, columns, 1);
        assert!(text.contains("\n  ") && widest(&text) <= 80, "{text}");
    }
    let piped = Command::new(env!("CARGO_BIN_EXE_tokenry")).args(args).output().unwrap();
    assert_eq!(String::from_utf8(piped.stdout).unwrap().lines().count(), 1, "tools read one line for each fault");
    let page = told(&["docs", "check#rights"], 80, 0);
    assert!(page.lines().count() > 5 && widest(&page) <= 80, "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_checks_have_colours_on_a_terminal_that_wants_them() {
    let (judged, _operator) = setting("coloured").await;
    let alice = hand(&judged, "alice", json!([])).await;
    let coloured = shown(&mut alice.at_a_terminal(&["check"]));
    for part in ["\u{1b}[32m√", "\u{1b}[33m‼", "see: kubectl tokenry docs check#"] {
        assert!(coloured.contains(part), "{part:?}: {coloured:?}");
    }
    let mut command = alice.command(&["check"]);
    command.env("NO_COLOR", "1");
    let plain = shown(&mut Terminal::of(&command, 80));
    // The progress on standard error moves the cursor, which is no colour.
    assert!(plain.contains("√ the API server answers") && !plain.contains("\u{1b}[3"), "{plain:?}");
}
