//! The control plane as its users see it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use controlplane::{ControlPlane, Definitions, helm, kubernetes_version};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, api::PostParams};

/// Set in the copy of this program that a test kills.
const VICTIM: &str = "CONTROLPLANE_TEST_VICTIM";

/// Waits until something is so, with a limit that only a failure reaches.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "never came to be: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The ids of the processes whose command line names `directory`.
fn processes_of(directory: &Path) -> Vec<u32> {
    let directory = directory.to_str().unwrap().as_bytes();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|process: &u32| {
            fs::read(format!("/proc/{process}/cmdline"))
                .is_ok_and(|line| line.windows(directory.len()).any(|part| part == directory))
        })
        .collect()
}

#[tokio::test]
async fn serves_the_pinned_version_to_clients_that_verify_it() {
    // Called inside of a runtime, which must not matter.
    let client = ControlPlane::shared().client();
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(version.git_version, kubernetes_version());
}

#[tokio::test]
async fn audits_who_did_what() {
    let plane = ControlPlane::shared();
    let (_, offset) = plane.audit_from(0);
    let configmap: ConfigMap = serde_json::from_value(serde_json::json!({"metadata": {"name": "audited"}})).unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(plane.client());
    api.create(&PostParams::default(), &configmap).await.unwrap();
    eventually("an event of the creation", || {
        plane.audit_from(offset).0.iter().any(|event| {
            (&*event.user, &*event.verb, &*event.resource) == ("admin", "create", "configmaps")
                && (&*event.namespace, &*event.name, event.code) == ("default", "audited", 201)
        })
    });
}

#[tokio::test]
async fn a_stranger_is_refused() {
    let client = ControlPlane::shared().client_for("no-such-token");
    let error = Api::<Namespace>::all(client).list(&Default::default()).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 401));
}

#[test]
fn controllers_run() {
    let plane = ControlPlane::shared();
    plane.kubectl(&["create", "namespace", "controllers"]).unwrap();
    let kubectl = |args: &[&str]| plane.kubectl(&[&["--namespace=controllers"], args].concat());
    for wanted in ["serviceaccount/default", "configmap/kube-root-ca.crt"] {
        eventually(wanted, || kubectl(&["get", wanted]).is_ok());
    }

    kubectl(&["create", "configmap", "owner"]).unwrap();
    let uid = kubectl(&["get", "configmap", "owner", "--output=jsonpath={.metadata.uid}"]).unwrap();
    let owned = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: owned, ownerReferences: [
            {{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]}}}}"
    );
    plane.kubectl_with_input(&["-n=controllers", "apply", "-f=-"], &owned).unwrap();
    kubectl(&["delete", "configmap", "owner"]).unwrap();
    eventually("the owned object is collected", || {
        kubectl(&["get", "configmap", "owned"]).is_err_and(|error| error.contains("NotFound"))
    });

    kubectl(&["delete", "namespace", "controllers"]).unwrap();
}

#[test]
fn definitions_of_other_products_are_served() {
    let plane = ControlPlane::shared();
    plane.install_definitions(&[Definitions::GatewayApi, Definitions::OpenShiftRoute, Definitions::Traefik]).unwrap();
    let filters = || plane.kubectl(&["explain", "httproutes.spec.rules.filters"]).unwrap();
    assert!(!filters().contains("externalAuth"), "the standard channel has no such filter");
    let others = [Definitions::EnvoyGateway, Definitions::Istio, Definitions::GatewayApiExperimental];
    plane.install_definitions(&others).unwrap();
    eventually("the experimental channel replaced it", || filters().contains("externalAuth"));
    for (kind, field) in [
        ("routes.route.openshift.io", "spec.tls.termination"),
        ("middlewares.traefik.io", "spec.forwardAuth.authResponseHeaders"),
        ("securitypolicies.gateway.envoyproxy.io", "spec.extAuth.failOpen"),
        ("authorizationpolicies.security.istio.io", "spec.provider.name"),
        ("referencegrants.gateway.networking.k8s.io", "spec.from"),
    ] {
        plane.kubectl(&["get", kind, "--all-namespaces"]).unwrap();
        let (resource, group) = kind.split_once('.').unwrap();
        let explained = || plane.kubectl(&["explain", &format!("{resource}.{field}")]);
        eventually(&format!("{field} of {resource} in {group}"), || explained().is_ok());
    }
}

#[test]
fn helm_speaks_to_the_cluster_or_to_none() {
    let releases = ControlPlane::shared().helm(&["list", "--all-namespaces", "--short"]);
    assert_eq!(releases.unwrap(), "");
    assert!(helm(&["version", "--short"]).unwrap().starts_with("v4."));
}

#[test]
fn a_private_one_outlives_its_thread_keeps_its_data_and_ends_when_dropped() {
    let plane = thread::spawn(ControlPlane::start).join().unwrap().unwrap();
    plane.kubectl(&["create", "configmap", "kept"]).unwrap();

    plane.stop_api_server();
    assert!(plane.kubectl(&["get", "configmap", "kept"]).is_err());
    plane.start_api_server().unwrap();
    plane.kubectl(&["get", "configmap", "kept"]).unwrap();

    let directory = plane.directory().to_owned();
    assert!(!processes_of(&directory).is_empty());
    drop(plane);
    assert_eq!(processes_of(&directory), Vec::<u32>::new());
    assert!(!directory.exists());
}

#[test]
fn nothing_is_left_of_a_process_that_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        println!("\n{}", ControlPlane::shared().directory().display());
        loop {
            thread::park();
        }
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_of_a_process_that_is_killed", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let directory = BufReader::new(victim.stdout.take().unwrap())
        .lines()
        .map(|line| PathBuf::from(line.unwrap()))
        .find(|line| line.is_absolute())
        .expect("the copy of this program starts a control plane");
    assert!(!processes_of(&directory).is_empty());

    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually("the servers are gone", || processes_of(&directory).is_empty());
    eventually("the directory is gone", || !directory.exists());
}
