//! The objects in `tests/exposure`, which the operator builds, applied to a real API server with the definitions of the
//! products that read them.
#![allow(clippy::unwrap_used, reason = "nobody builds on a test")]

use std::{fs, path::Path, sync::OnceLock};

use controlplane::{ControlPlane, Definitions};
use serde_json::Value;

/// A control plane with the definitions of all kinds, and the experimental channel of Gateway API.
fn plane() -> &'static ControlPlane {
    static PLANE: OnceLock<()> = OnceLock::new();
    let plane = ControlPlane::shared();
    PLANE.get_or_init(|| {
        let standard = [Definitions::GatewayApi];
        plane.install_definitions(&standard).unwrap();
        let refused = apply("standard", &text("external-gateway-externalauth.yaml")).unwrap_err();
        assert!(refused.contains("externalAuth: field not declared in schema"), "{refused}");
        let all = [
            Definitions::GatewayApiExperimental,
            Definitions::OpenShiftRoute,
            Definitions::Traefik,
            Definitions::EnvoyGateway,
            Definitions::Istio,
        ];
        plane.install_definitions(&all).unwrap();
    });
    plane
}

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../exposure").join(name)).unwrap()
}

/// Applies objects in a new namespace, as the operator does.
fn apply(namespace: &str, objects: &str) -> Result<String, String> {
    let plane = ControlPlane::shared();
    plane.kubectl(&["create", "namespace", namespace])?;
    plane.kubectl_with_input(&["apply", "--server-side", "--namespace", namespace, "-f", "-"], objects)
}

/// The objects of a text, as kubectl reads them with these arguments.
fn read(args: &[&str], objects: &str) -> Vec<Value> {
    let args = [args, &["-o", "json", "-f", "-"]].concat();
    let told = ControlPlane::shared().kubectl_with_input(&args, objects).unwrap();
    let told = serde_json::Deserializer::from_str(&told).into_iter::<Value>().map(Result::unwrap);
    told.flat_map(|value| value["items"].as_array().cloned().unwrap_or_else(|| vec![value])).collect()
}

/// True if `standing` says all that `wanted` says.
fn holds(standing: &Value, wanted: &Value) -> bool {
    match (standing, wanted) {
        (Value::Object(standing), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| standing.get(key).is_some_and(|standing| holds(standing, value)))
        }
        (Value::Array(standing), Value::Array(wanted)) => {
            standing.len() == wanted.len() && standing.iter().zip(wanted).all(|(one, other)| holds(one, other))
        }
        (standing, wanted) => standing == wanted,
    }
}

#[test]
fn each_object_is_admitted_and_stands_as_it_was_applied() {
    plane();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exposure");
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let (objects, namespace) = (text(&name), name.trim_end_matches(".yaml"));
        apply(namespace, &objects).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        // Else the operator would write the object again and again.
        stand(&["--namespace", namespace], &objects);
    }
}

/// Checks that objects stand as their text says. `place` are the arguments of kubectl for their namespace.
fn stand(place: &[&str], objects: &str) {
    let wanted = read(&[&["create", "--dry-run=client"], place].concat(), objects);
    let standing = read(&[&["get"], place].concat(), objects);
    assert_eq!(wanted.len(), standing.len());
    for (wanted, standing) in wanted.iter().zip(&standing) {
        assert!(holds(&standing["spec"], &wanted["spec"]), "{standing:#} is not {wanted:#}");
    }
}

#[test]
fn the_example_of_external_auth_is_admitted_and_stands_as_it_was_applied() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/proxies/gateway-external-auth.yaml");
    let text = fs::read_to_string(file).unwrap();
    for namespace in ["events", "tokenry-system"] {
        // Another test may have made it.
        let _ = plane().kubectl(&["create", "namespace", namespace]);
    }
    plane().kubectl_with_input(&["apply", "--server-side", "-f", "-"], &text).unwrap();
    stand(&[], &text);
}
