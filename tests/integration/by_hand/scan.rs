//! `scan` and the expression of the documentation, with a value that was really issued.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{hand, sarif, secrets, setting};
use crate::harness::{
    hand::{Done, run},
    root,
};

/// Runs `scan`, which needs no cluster.
fn scan(folder: &Path, input: &str, args: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command.arg("scan").args(args).current_dir(folder).env("KUBECONFIG", "/nowhere");
    run(command, input)
}

/// The expression that the page gives to other scanners.
fn expression() -> String {
    let page = fs::read_to_string(root().join("docs/how-to/by-hand.md")).unwrap();
    let quoted = page.split('`').find(|part| part.starts_with(r"\b[a-z]"));
    quoted.expect("the page has the expression").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_found_by_its_place_and_never_printed_and_by_the_expression_of_the_page() {
    let (judged, _operator) = setting("scan").await;
    let alice = hand(&judged, "alice", secrets()).await;
    let value = alice.tokenry(&["create", "ci"]).await.well().trim().to_owned();
    let id = value.split('_').nth(1).unwrap();
    let folder = judged.world.plane.directory().join(alice.home());
    fs::create_dir_all(folder.join("app/.git")).unwrap();
    let encoded = STANDARD.encode(&value);
    let text = format!("# settings\nTOKEN={value}\nkeys: [{encoded}]\n");
    fs::write(folder.join("app/dev.env"), &text).unwrap();
    fs::write(folder.join("app/.git/old"), &text).unwrap();
    fs::write(folder.join("app/clean.txt"), "tkn_aaaa_bbbb is no token\n").unwrap();
    let found = scan(&folder, "", &["app"]);
    let lines = format!("app/dev.env:2:7: a token with id {id}\napp/dev.env:3:8: a token with id {id}\n");
    assert_eq!((found.code, found.out.as_str()), (1, lines.as_str()), "{found:?}");
    assert!(found.err.contains("2 tokens in 2 files: rotate with --previous 0s, or revoke"), "{found:?}");
    let command = format!("kubectl tokenry list -A --id {id}");
    assert!(found.err.contains(&format!("find its ApiToken by the id: {command}\n")), "{found:?}");
    let named = alice.tokenry(&["list", "--id", id, "--output", "name"]).await;
    assert_eq!(named.well(), "apitoken/ci\n");
    for name in [named.out.trim(), "apitokens.tokenry.dev/ci"] {
        assert!(alice.tokenry(&["status", name]).await.well().starts_with("ApiToken "), "{name}");
    }
    let account = alice.tokenry(&["delete", "account", "apitoken/ci", "--confirm", "ci"]).await;
    assert!(account.failed(2).contains("must be"), "a token is no account: {account:?}");
    let other = alice.tokenry(&["status", "secret/ci"]).await;
    assert!(other.failed(2).contains("invalid value 'secret/ci'"), "{other:?}");
    let other = alice.tokenry(&["list", "--id", &"0".repeat(16)]).await;
    assert!(other.well().is_empty() && other.err.contains("no ApiToken matches"), "{other:?}");
    let log = scan(&folder, "", &["app", "--output", "sarif"]);
    let report: Value = serde_json::from_str(&log.out).unwrap();
    let results = report["runs"][0]["results"].as_array().unwrap();
    let region = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!((log.code, report["version"].as_str(), results.len()), (1, Some("2.1.0"), 2));
    assert_eq!(
        (&region["artifactLocation"]["uri"], &region["region"]["startLine"]),
        (&"app/dev.env".into(), &2.into())
    );
    assert!(results[0]["message"]["text"].as_str().unwrap().ends_with(&command), "{results:?}");
    for told in [&found, &log] {
        let all = format!("{}{}", told.out, told.err);
        assert!(!all.contains(&value) && !all.contains(&encoded), "{all}");
    }
    let clean = scan(&folder, "", &["app/clean.txt"]);
    assert_eq!((clean.well(), clean.err.as_str()), ("", "no token in 1 file\n"));
    sarif::validate(&log.out);
    assert_eq!(scan(&folder, &text, &["-"]).code, 1);
    let absent = scan(&folder, "", &["missing"]);
    assert!(absent.failed(2).contains("there is no file or folder missing; give the path of one"), "{absent:?}");
    let partly = scan(&folder, "", &["app/dev.env", "missing"]);
    assert_eq!((partly.code, partly.out.as_str()), (2, lines.as_str()), "findings before a failure are told");
    // The memory of this process opens, and refuses the read at its begin.
    let unread = scan(&folder, "", &["/proc/self/mem", "app/dev.env"]);
    assert_eq!((unread.code, unread.out.as_str()), (1, lines.as_str()), "{unread:?}");
    assert!(unread.err.contains("cannot read /proc/self/mem: "), "{unread:?}");
    let unread = scan(&folder, "", &["/proc/self/mem", "app/clean.txt"]);
    assert!(unread.failed(6).contains("no token in 1 file, but 1 other could not be read"), "{unread:?}");
    symlink("app/dev.env", folder.join("linked")).unwrap();
    assert_eq!(scan(&folder, "", &["linked"]).code, 1, "a link that the user names is read");
    assert_eq!(scan(&folder, &text, &["/dev/stdin"]).code, 1);
    let mut grep = Command::new("grep");
    grep.args(["-rohE", &expression(), "app"]).current_dir(&folder);
    let by_others = run(grep, "");
    assert_eq!(by_others.well(), format!("{value}\n{value}\n"), "the same value, in two files");
}
