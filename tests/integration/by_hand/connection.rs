//! The flags about the connection of a command, with a server that never answers.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

/// A command with a kubeconfig of this server, for which a proxy of the environment is never used.
pub(super) fn tokenry(server: &str, args: &[&str]) -> Command {
    let name = server.replace([':', '/'], "-");
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("silent-{}-{name}", std::process::id()));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "a", "user": {"token": "a"}}],
    });
    fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command.args(args).arg("--kubeconfig").arg(file).env("NO_PROXY", "*");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ended(child: Child) -> (Option<i32>, String) {
    let done = child.wait_with_output().unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn a_request_ends_at_its_timeout_also_while_it_connects() {
    // The kernel accepts the connections, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // With TLS no connection is made. Without TLS there is one, and no answer.
    for scheme in ["https", "http"] {
        let server = format!("{scheme}://{address}");
        // The limit for a connection is 30 seconds, and there is none for an answer.
        let mut patient = tokenry(&server, &["list", "--request-timeout", "0"]).spawn().unwrap();
        for (index, args) in [&["list"][..], &["show", "ci"], &["create", "ci"], &["version"]].into_iter().enumerate() {
            let hasty = [args, &["--request-timeout", "1s"]].concat();
            let (code, told) = ended(tokenry(&server, &hasty).spawn().unwrap());
            assert_eq!(code, Some(3), "{scheme} {args:?}: {told}");
            assert!(told.contains("the API server is not available: no answer in time"), "{scheme} {args:?}: {told}");
            assert!(told.contains("; look at the kubeconfig, and at the network"), "{scheme} {args:?}: {told}");
            assert!(index > 0 || patient.try_wait().unwrap().is_none(), "{scheme}: without a limit it waits on");
        }
        patient.kill().unwrap();
        patient.wait().unwrap();
    }
}

/// Begins an answer, and sends a byte of its body every 100 ms for a minute.
fn trickle(caller: &mut TcpStream) -> std::io::Result<()> {
    BufReader::new(caller.try_clone()?).lines().map_while(Result::ok).find(String::is_empty);
    caller.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 600\r\n\r\n")?;
    (0..600).try_for_each(|_| {
        thread::sleep(Duration::from_millis(100));
        caller.write_all(b" ")
    })
}

#[test]
fn a_request_ends_at_its_timeout_also_while_its_answer_trickles() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut caller in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || trickle(&mut caller));
        }
    });
    for args in [&["list"][..], &["list", "--watch"], &["show", "ci"], &["create", "ci"], &["version"]] {
        let begun = Instant::now();
        let (code, told) = ended(tokenry(&server, &[args, &["--request-timeout", "1s"]].concat()).spawn().unwrap());
        assert_eq!(code, Some(3), "{args:?}: {told}");
        assert!(
            told.contains("the API server is not available: no answer in time; look at the kube"),
            "{args:?}: {told}"
        );
        assert!(begun.elapsed() < Duration::from_secs(30), "{args:?}");
    }
}

#[test]
fn flags_that_mean_nothing_are_named() {
    for (args, said) in [
        (["list", "--request-timeout", "soon"], "invalid value 'soon' for '--request-timeout <DURATION>'"),
        (["list", "--request-timeout", "0x"], "must be a duration such as 30s or 1m30s, or a number of seconds; 0"),
        (["list", "--expiring", "-2h"], "invalid value '-2h' for '--expiring <DURATION>': must be whole days"),
        (["grant", "user:bob", "--apply"], "name a right: --create, --view, --workloads, --read TOKEN, "),
        (["list", "--context", "nowhere"], "--context nowhere: the kubeconfig has no such context"),
    ] {
        let (code, told) = ended(tokenry("https://127.0.0.1:1", &args).spawn().unwrap());
        assert!((2..=3).contains(&code.unwrap()) && told.contains(said), "{args:?}: {told}");
    }
}
