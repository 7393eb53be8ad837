//! `list --watch` in a real pseudo-terminal, and its connection through a proxy.

use serde_json::json;

use super::{
    hand, setting,
    terminal::{Terminal, code},
};
use crate::harness::tunnel::{Protocol, cuttable};

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_each_change_also_after_its_connection_was_cut_until_ctrl_c() {
    let (judged, _operator) = setting("watched").await;
    let alice = hand(&judged, "alice", json!([])).await;
    let spec = |more: &str| json!({"instanceRef": {"name": "eem"}, "owner": "user:alice", "description": more});
    judged.world.accepts("ApiToken", "ci", spec("first text")).await;
    judged.world.await_reason("ci", "Active").await;
    alice.may_on("watch", "apitokens", "").await;
    let (proxy, asked, cut) = cuttable(Protocol::Connect).await;
    let mut command = alice.command(&["list", "--watch", "--mine"]);
    let (world, proxy) = (&judged.world, format!("http://{proxy}"));
    command.env("KUBECONFIG", world.afar(alice.home(), world.plane.admin_token(), Some(&proxy)));
    let mut watch = Terminal::of(&command, 80);
    watch.exp_string("NAME").unwrap();
    watch.exp_string("first text").unwrap();
    assert!(!asked.lock().unwrap().is_empty(), "the command goes through the proxy");
    judged.world.change("ApiToken", "ci", json!({"description": "second"})).await.unwrap();
    watch.exp_regex("ci +yes +Active .*second").unwrap();
    judged.world.accepts("ApiToken", "other", json!({"instanceRef": {"name": "eem"}, "owner": "user:bob"})).await;
    judged.world.await_reason("other", "Active").await;
    let (before, connections) = (judged.world.token("ci").await.metadata.generation, asked.lock().unwrap().len());
    cut.notify_waiters();
    judged.world.change("ApiToken", "ci", json!({"description": "third"})).await.unwrap();
    let printed = watch.exp_string("third").unwrap();
    assert!(!printed.contains("other") && judged.world.token("ci").await.metadata.generation > before, "{printed}");
    assert!(asked.lock().unwrap().len() > connections, "a connection was made again");
    alice.delete("ApiToken", "ci").await.unwrap();
    watch.exp_regex("ci +no +Deleted").unwrap();
    watch.send_control('c').unwrap();
    let rest = watch.exp_eof().unwrap();
    assert!(!rest.contains("tokenry:"), "it ends quietly: {rest}");
    assert_eq!(code(&watch), 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_without_the_right_to_watch_says_so_and_ends() {
    let (judged, _operator) = setting("unwatched").await;
    let alice = hand(&judged, "alice", json!([])).await;
    let refused = alice.tokenry(&["list", "--watch"]).await;
    let told = format!(
        "you may not watch apitokens.tokenry.dev in namespace {0}; an administrator allows it by:\n  \
                        kubectl tokenry grant user:alice --view -n {0} --apply",
        alice.home()
    );
    assert!(refused.failed(4).contains(&told), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_at_a_given_timeout_of_requests() {
    let (judged, _operator) = setting("timed").await;
    let alice = hand(&judged, "alice", json!([])).await;
    alice.may_on("watch", "apitokens", "").await;
    let told = alice.tokenry(&["list", "--watch", "--request-timeout", "10s"]).await;
    assert!(told.well().is_empty() && told.err == "no ApiToken matches yet\n", "{told:?}");
}
