//! The same commands in a real pseudo-terminal.

use std::time::Duration;

use rexpect::{
    process::WaitStatus,
    session::{Options, PtySession, spawn_with_options},
};

use serde_json::json;

use super::{Hand, hand, secrets, setting};

/// The longest wait for a text on the terminal, in milliseconds.
const DEADLINE: u64 = 60_000;

impl Hand<'_> {
    /// Runs a command in a terminal.
    fn at_a_terminal(&self, args: &[&str]) -> PtySession {
        let options = Options::new().timeout_ms(Some(DEADLINE));
        let mut command = self.command(args);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        spawn_with_options(command, options).unwrap()
    }
}

/// Waits for the end of a command, and returns its exit code. A signal that ended it is 128 and more, as in a shell.
fn code(session: &PtySession) -> i32 {
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_asked_before_anything_ends() {
    let (judged, _operator) = setting("asked").await;
    let alice = hand(&judged, "alice", secrets()).await;
    alice.tokenry(&["create", "ci", "--description", "nightly export"]).well();
    let mut no = alice.at_a_terminal(&["revoke", "ci"]);
    no.exp_string("Revoke ci?").unwrap();
    no.send_line("").unwrap();
    no.exp_string("not confirmed; nothing was changed").unwrap();
    assert_eq!(code(&no), 8);
    assert!(!judged.token("ci").await.unwrap().spec.revoked);
    let mut interrupted = alice.at_a_terminal(&["revoke", "ci"]);
    interrupted.exp_string("Revoke ci?").unwrap();
    interrupted.send_control('c').unwrap();
    assert_eq!(code(&interrupted), 130, "as of Ctrl-C");
    assert!(!judged.token("ci").await.unwrap().spec.revoked);
    let mut yes = alice.at_a_terminal(&["revoke", "ci"]);
    yes.exp_string("Yes, I'm sure").unwrap();
    yes.send("\x1b[B\r").unwrap();
    yes.flush().unwrap();
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
    tokio::time::timeout(Duration::from_secs(60), async { while judged.token("ci").await.is_some() {} }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_checks_have_colours_on_a_terminal_that_wants_them() {
    let (judged, _operator) = setting("coloured").await;
    let alice = hand(&judged, "alice", json!([])).await;
    let mut coloured = alice.at_a_terminal(&["check"]);
    coloured.exp_string("\u{1b}[32m√").unwrap();
    coloured.exp_string("\u{1b}[33m‼").unwrap();
    let rest = coloured.exp_eof().unwrap();
    assert!(rest.contains("see: kubectl tokenry docs check#"), "{rest}");
    let mut command = alice.command(&["check"]);
    command.env("TERM", "xterm-256color").env("NO_COLOR", "1");
    let mut plain = spawn_with_options(command, Options::new().timeout_ms(Some(DEADLINE))).unwrap();
    let all = plain.exp_eof().unwrap();
    // The progress on standard error moves the cursor, which is no colour.
    assert!(all.contains("√ the API server answers") && !all.contains("\u{1b}[3"), "{all:?}");
}
