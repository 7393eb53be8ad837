//! In a real pseudo-terminal: the commands that only look, and the end of an account.

use std::{process::Command, time::Duration};

use serde_json::json;
use tokenry::crd::Account;
use tokio::time::{Instant, sleep};

use super::{
    hand, secrets, setting,
    terminal::{Terminal, code, screen, widest},
};
use crate::harness::hand::run;

#[tokio::test(flavor = "multi_thread")]
async fn each_command_that_looks_fits_a_terminal_and_says_the_same_to_a_pipe() {
    let (judged, _operator) = setting("looking").await;
    let root = judged.stranger("root", &["system:masters"]);
    root.tokenry(&["create", "ci", "--description", "exports the topics of all clusters every night"]).await.well();
    judged.world.await_reason("ci", "Active").await;
    for (args, said) in [
        (&["plan", "rotate", "ci"][..], "no workload reads its Secret (ci)"),
        (&["plan", "revoke", "ci"], "is refused at once, and for good"),
        (&["plan", "delete", "ci"], "no workload reads its Secret (ci)"),
        (&["explain", "ci", "--method", "DELETE", "--path", "/topics/a"], "allowed: 200"),
        (&["version"], "client"),
    ] {
        let seen = screen(root.at_a_terminal(args));
        assert!(seen.contains(said) && widest(&seen) <= 80, "{args:?}: {}\n{seen}", widest(&seen));
        let done = root.tokenry(args).await;
        assert!(done.well().contains(said) && !done.out.contains('\u{1b}'), "{args:?}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_says_while_the_operator_is_away_that_a_token_is_revoked_or_suspended() {
    let (judged, operator) = setting("away").await;
    let alice = hand(&judged, "alice", secrets()).await;
    for name in ["ci", "idle"] {
        alice.tokenry(&["create", name]).await.well();
        judged.world.await_reason(name, "Active").await;
    }
    operator.stop().await;
    alice.tokenry(&["revoke", "ci", "--yes"]).await.well();
    alice.tokenry(&["suspend", "idle"]).await.well();
    for (name, said) in [("ci", "× Valid=False Revoked: spec.revoked is true"), ("idle", "× Valid=False Suspended: ")]
    {
        let page = alice.tokenry(&["status", name]).await;
        assert!(page.well().contains(said) && !page.out.contains("Valid=True"), "{page:?}");
        assert!(page.out.contains("‼ the operator has not seen the current spec yet"), "{page:?}");
        let seen = screen(alice.at_a_terminal(&["status", name]));
        assert!(widest(&seen) <= 80, "{}\n{seen}", widest(&seen));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_the_events_of_its_token_and_none_of_a_deleted_one_of_that_name() {
    let (judged, _operator) = setting("renewed").await;
    let root = judged.stranger("root", &["system:masters"]);
    let page_with = async |event: &str| {
        let page = root.tokenry(&["status", "ci"]).await;
        page.well().contains(&format!("Normal {event}: ")).then_some(page.out)
    };
    root.tokenry(&["create", "ci"]).await.well();
    root.tokenry(&["rotate", "ci", "--wait"]).await.well();
    judged.world.eventually("the rotation has an Event", async || page_with("Regenerated").await).await;
    root.tokenry(&["delete", "ci", "--confirm", "ci"]).await.well();
    let free = async || {
        let account = judged.world.api::<Account>().get_opt("ci").await.unwrap();
        (account.is_none() && judged.world.value("ci").await.is_none()).then_some(())
    };
    judged.world.eventually("the name is free", free).await;
    root.tokenry(&["create", "ci"]).await.well();
    let page = judged.world.eventually("the new token has an Event", async || page_with("Issued").await).await;
    assert!(!page.contains("Regenerated"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_cut_for_a_terminal_alone() {
    let (judged, _operator) = setting("uncut").await;
    let alice = hand(&judged, "alice", json!([])).await;
    let long = "exports the topics of all clusters every night ".repeat(4);
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:alice", "description": long.trim_end()});
    judged.world.accepts("ApiToken", "ci", spec).await;
    judged.world.await_reason("ci", "Active").await;
    let piped = alice.tokenry(&["list"]).await;
    assert!(piped.well().contains("DESCRIPTION") && piped.out.contains(long.trim_end()), "{piped:?}");
    let seen = screen(alice.at_a_terminal(&["list"]));
    assert!(!seen.contains(long.trim_end()) && widest(&seen) <= 80, "{seen}");
}

#[test]
fn the_list_of_pages_fits_a_terminal() {
    let mut docs = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    docs.arg("docs");
    let seen = screen(Terminal::of(&docs, 80));
    assert!(seen.contains("rotate") && widest(&seen) <= 80, "{}\n{seen}", widest(&seen));
    assert!(!run(docs, "").well().contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_deleted_at_a_terminal_by_its_name_and_its_tokens_end_with_it() {
    let (judged, _operator) = setting("ended").await;
    let alice = hand(&judged, "alice", secrets()).await;
    alice.tokenry(&["create", "ci"]).await.well();
    for (typed, exit, said) in [("no", 8, "not confirmed; nothing was changed"), ("ci", 0, "account ci: deleted")] {
        let mut asked = alice.at_a_terminal(&["delete", "account", "ci"]);
        asked.exp_string("these tokens act as this account, and end with it, for good").unwrap();
        asked.exp_string("list as AccountDeleted: ci").unwrap();
        asked.exp_string("every request with ci is refused at once, and for good").unwrap();
        asked.exp_string("Deleting account ci is final.").unwrap();
        asked.exp_string("Type \"ci\" without the quotes").unwrap();
        asked.send_line(typed).unwrap();
        asked.exp_string(said).unwrap();
        assert_eq!(code(&asked), exit, "{typed}");
    }
    judged.world.await_reason("ci", "AccountDeleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_waits_for_a_grant_that_the_api_server_does_not_heed_yet() {
    let (judged, _operator) = setting("heeded").await;
    let spec = json!({"instanceRef": {"name": "eem"}, "owner": "user:bob"});
    judged.world.accepts("ApiToken", "ci", spec).await;
    judged.world.await_reason("ci", "Active").await;
    for args in [&["list"][..], &["status", "ci"], &["show", "ci"], &["plan", "revoke", "ci"], &["verify"]] {
        let value = judged.world.value("ci").await.unwrap();
        // A busy machine may heed the grant too late for one user.
        let mut last = None;
        for nth in 0..5 {
            let user = judged.stranger(&format!("{}-{nth}", args[0]), &[]);
            let late = async {
                sleep(Duration::from_millis(300)).await;
                let read = json!({"apiGroups": ["tokenry.dev"], "resources": ["*"], "verbs": ["get", "list"]});
                user.may(json!([read, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}])).await;
            };
            let (done, ()) = tokio::join!(user.tokenry_reading(&value, args), late);
            let is_well = done.code == 0;
            last = Some(done);
            if is_well {
                break;
            }
        }
        last.unwrap().well();
    }
    let begun = Instant::now();
    let refused = judged.stranger("erin", &[]).tokenry(&["list"]).await;
    assert!(refused.failed(4).contains("you may not list apitokens.tokenry.dev"), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(9), "no operator grants this right");
}
