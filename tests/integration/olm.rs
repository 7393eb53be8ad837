//! The bundle for OLM: it is that of the chart, and its validators accept it.

use std::{fs, process::Command};

use controlplane::{Definitions, NAMESPACE, program};
use serde_json::{Value, json};

use crate::{
    bundle::files,
    harness::{
        World,
        grants::{of_kind, rendered},
        root,
    },
};

fn version(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Warnings that ask for nothing. The second one takes every right on events for one on the Events of an old version.
const HARMLESS: [&str; 3] =
    [r#"The \"operatorhub\" validator is deprecated"#, "removed in v1.25. More info", "csv.Spec.Icon not specified"];

const CSV: &str = "manifests/tokenry.clusterserviceversion.yaml";

#[test]
fn the_committed_bundle_is_that_of_the_chart() {
    let files = files(root(), None).unwrap();
    for (name, text) in &files {
        let committed = fs::read_to_string(root().join("bundle").join(name)).unwrap_or_default();
        assert_eq!(&committed, text, "bundle/{name} is out of date: cargo bundle");
    }
    let folders = ["manifests", "metadata"].map(|folder| fs::read_dir(root().join("bundle").join(folder)).unwrap());
    assert_eq!(folders.into_iter().flatten().count() + 1, files.len(), "bundle has stale files: cargo bundle");
}

#[test]
fn the_validators_of_olm_find_no_fault() {
    let validate = |folder: &str| {
        let mut command = Command::new(program("operator-verify").unwrap());
        let output =
            command.args(["manifests", "--operatorhub_validate", "--object_validate", folder]).output().unwrap();
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    };
    let bundle = root().join("bundle");
    let told = validate(bundle.join("manifests").to_str().unwrap());
    let unknown = told.lines().filter(|line| !HARMLESS.iter().any(|known| line.contains(known)));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&str>::new());
    let folder = std::env::temp_dir().join(format!("tokenry-bundle-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(bundle.join("manifests")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    fs::remove_file(folder.join("apitokens.tokenry.dev.crd.yaml")).unwrap();
    let told = validate(folder.to_str().unwrap());
    fs::remove_dir_all(&folder).unwrap();
    assert!(told.contains("Kind=ApiToken\\\" not found in bundle"), "a missing definition is found: {told}");
}

#[tokio::test]
async fn the_real_definition_admits_the_version_and_the_api_server_its_objects() {
    let world = World::alone("olm").await;
    world.plane.install_definitions(&[Definitions::Olm]).unwrap();
    for (name, text) in files(root(), None).unwrap() {
        if !name.starts_with("manifests/") || name.ends_with(".crd.yaml") {
            continue;
        }
        let args = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server"];
        let args = [&args[..], &["--namespace", &world.namespace, "-f", "-"]].concat();
        let text = text.replace("namespace: placeholder", &format!("namespace: {}", world.namespace));
        world.plane.kubectl_with_input(&args, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// The arguments of the container of a Deployment.
fn args_of(deployment: &Value) -> Value {
    deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone()
}

/// The arguments of a container in a namespace, as Kubernetes fills in its variables.
fn settled(container: &Value, namespace: &str) -> Value {
    let own = json!({"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}});
    assert_eq!(container["env"], json!([own]));
    let args = container["args"].as_array().unwrap().iter();
    args.map(|arg| arg.as_str().unwrap().replace("$(POD_NAMESPACE)", namespace)).collect()
}

#[test]
fn in_another_namespace_the_programs_have_the_arguments_of_a_release_there() {
    let csv = version(&files(root(), None).unwrap()[CSV]);
    let values = ["--set", "admission.enabled=false", "--namespace", "elsewhere"];
    let objects = rendered(&values);
    let deployments = csv["spec"]["install"]["spec"]["deployments"].as_array().unwrap();
    for (mine, chart) in deployments.iter().zip(of_kind(&objects, "Deployment")) {
        assert!(!mine.to_string().contains(NAMESPACE), "{mine}");
        assert_eq!(settled(&mine["spec"]["template"]["spec"]["containers"][0], "elsewhere"), args_of(chart));
    }
}

#[test]
fn the_version_has_the_deployments_and_the_rights_of_the_chart() {
    let csv = version(&files(root(), Some("images.example.com/tokenry@sha256:0")).unwrap()[CSV]);
    let spec = &csv["spec"]["install"]["spec"];
    let objects = rendered(&["--set", "admission.enabled=false,crds.enabled=false", "--kube-version", "1.36"]);
    let deployments = of_kind(&objects, "Deployment");
    for (mine, chart) in spec["deployments"].as_array().unwrap().iter().zip(&deployments) {
        assert_eq!(mine["name"], chart["metadata"]["name"]);
        assert_eq!(mine["spec"]["selector"], chart["spec"]["selector"]);
        let container = &mine["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "images.example.com/tokenry@sha256:0");
        assert_eq!(settled(container, NAMESPACE), args_of(chart));
    }
    assert_eq!(csv["spec"]["relatedImages"][0]["image"], "images.example.com/tokenry@sha256:0");
    for account in ["tokenry-operator", "tokenry-verifier"] {
        let roles = of_kind(&objects, "ClusterRole").into_iter();
        let role = { roles }.find(|role| role["metadata"]["name"] == account).unwrap();
        let granted = spec["clusterPermissions"].as_array().unwrap();
        let granted = granted.iter().find(|granted| granted["serviceAccountName"] == account).unwrap();
        let rules = granted["rules"].as_array().unwrap();
        assert!(role["rules"].as_array().unwrap().iter().all(|rule| rules.contains(rule)), "{account}");
    }
    assert_eq!(csv["spec"]["customresourcedefinitions"]["owned"].as_array().unwrap().len(), 4);
    let examples: Value =
        serde_json::from_str(csv["metadata"]["annotations"]["alm-examples"].as_str().unwrap()).unwrap();
    assert_eq!(examples.as_array().unwrap().len(), 4, "an example of each kind: {}", json!(examples));
}
