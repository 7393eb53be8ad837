//! `tokenry reach`, by which `helm test` asks the verifier, and the Pod that runs it.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::harness::{
    grants::{of_kind, read, rendered},
    process::Served,
};

/// Runs the program. Returns its exit code and its error output.
fn run(args: &[&str]) -> (i32, String) {
    run_with(args, &[])
}

/// Runs the program with these environment variables.
fn run_with(args: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    let done = program.arg("reach").args(args).envs(variables.iter().copied()).output().unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_the_wanted_status_is_success_and_any_other_is_told() {
    let served = Served::new("reached", &[]).await;
    let url = |path: &str| format!("http://{}{path}", served.address);
    assert_eq!(run(&[&url("/readyz")]), (0, String::new()));
    let without_roots = [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")];
    assert_eq!(run_with(&[&url("/readyz")], &without_roots), (0, String::new()), "plain HTTP needs no certificate");
    let asked = url(&served.path);
    assert_eq!(run(&[&asked, "--status=401"]), (0, String::new()));
    let (code, told) = run(&[&asked, "--timeout=1s"]);
    let wanted = format!("{asked} did not answer 200 in time; the last answer: 401; look at the Pods behind it");
    assert_eq!((code, told.trim()), (3, &*format!("tokenry: {wanted}")));
    let (code, told) = run(&["http://127.0.0.1:1/readyz", "--timeout=1s"]);
    assert!(code == 3 && told.contains("the last answer: ") && told.contains("refused"), "{told}");
    let (code, told) = run(&["/readyz"]);
    assert!(code == 3 && told.contains("the URL has no scheme or no host"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_verified_by_the_named_ca_alone() {
    let served = Served::new("reached-tls", &[]).await;
    let plane = &served.world.plane;
    let (certificate, key) = plane.certificate("localhost").unwrap();
    let file = |name: &str, text: &str| {
        let path = plane.directory().join(format!("reached-{name}"));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (pair, ca) = ([file("tls.crt", &certificate), file("tls.key", &key)], file("ca.crt", plane.ca_pem()));
    let (of_cert, of_key) = (format!("--tls-cert={}", pair[0]), format!("--tls-key={}", pair[1]));
    let secure = served.world.verifier_process(&["--tls-listen=127.0.0.1:0", &of_cert, &of_key]);
    let port = served.world.await_address(&secure, "https").await.port();
    let url = format!("https://localhost:{port}/readyz");
    assert_eq!(run(&[&url, &format!("--ca={ca}")]), (0, String::new()));
    let (code, told) = run(&[&url, "--timeout=1s"]);
    assert!(code == 3 && told.contains("certificate"), "{told}");
    let (code, told) = run(&[&url, "--ca=/nowhere"]);
    assert!(code == 2 && told.contains("there is no file or folder /nowhere"), "{told}");
}

#[test]
fn the_pod_of_helm_test_asks_what_the_values_serve_and_holds_no_right() {
    let asks = |sets: &str| -> Vec<(String, Vec<String>)> {
        let objects = rendered(&["--set", sets]);
        let [pod] = of_kind(&objects, "Pod")[..] else { return Vec::new() };
        assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
        let containers: Vec<Value> = read(&pod["spec"]["containers"]);
        let container = |it: Value| {
            let args: Vec<String> = read(&it["args"]);
            let (code, told) =
                run(&[&args.iter().skip(1).map(String::as_str).collect::<Vec<_>>()[..], &["--help"]].concat());
            assert_eq!((args[0].as_str(), code), ("reach", 0), "{told}");
            (read(&it["name"]), args)
        };
        containers.into_iter().map(container).collect()
    };
    let names = |sets: &str| asks(sets).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("log.level=info"), ["http", "https", "ready"]);
    assert_eq!(names("verifier.tls.enabled=false"), ["http", "ready"]);
    assert_eq!(names("verifier.plainHttp=false"), ["https", "ready"]);
    // It has no certificate of its own, and without a CA it trusts nobody.
    assert_eq!(names("verifier.tls.clientCA.secretName=a"), ["http", "ready"]);
    assert_eq!(names("verifier.tls.secretName=a"), ["http", "ready"]);
    assert_eq!(names("verifier.tls.secretName=a,verifier.tls.caConfigMapName=b"), ["http", "https", "ready"]);
    assert_eq!(names("helmTest.enabled=false"), Vec::<String>::new());
    let http = &asks("helmTest.timeout=2m")[0].1;
    let url = "http://tokenry-verifier.tokenry-system.svc:80/v1/instances/tokenry-system/helm-test/authorize";
    assert_eq!(json!(http), json!(["reach", url, "--status=401", "--timeout=2m"]));
}
