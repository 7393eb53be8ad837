//! The baseline: a kind with almost no schema, whose status is one condition and one record.

use controlplane::ControlPlane;
use kube::api::ApiResource;
use serde_json::{Value, json};
use tokenry::crd::name;

use crate::{Outcome, bare::Template};

/// The kind, and a Role for writes to its status.
const OBJECTS: &str = include_str!("small.yaml");

/// Installs the kind, and the permission to write it in `namespace`. Returns the writes of a bare client there.
pub async fn install(plane: &ControlPlane, namespace: &str) -> Outcome<Template> {
    plane.kubectl_with_input(&["apply", "--server-side", "-n", namespace, "-f", "-"], OBJECTS)?;
    plane.kubectl(&["wait", "--for=condition=Established", "crd/smalls.bench.tokenry.dev"])?;
    let kind = ApiResource {
        group: "bench.tokenry.dev".into(),
        version: "v1".into(),
        api_version: "bench.tokenry.dev/v1".into(),
        kind: "Small".into(),
        plural: "smalls".into(),
    };
    let owner = json!({"apiVersion": kind.api_version, "kind": kind.kind, "name": "", "uid": ""});
    let metadata =
        json!({"labels": {name::OWNER_UID: ""}, "annotations": {name::TOKEN_ID: ""}, "ownerReferences": [owner]});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}});
    let (recorded, settled) = (status("False", &Value::Null), status("True", &json!("2026-01-01T00:00:00Z")));
    Ok(Template { namespace: namespace.into(), kind, recorded, settled, secret })
}

/// An object of the kind, without a name.
pub fn body() -> Value {
    json!({"apiVersion": "bench.tokenry.dev/v1", "kind": "Small", "spec": {}})
}

fn status(ready: &str, published_at: &Value) -> Value {
    let condition = json!({
        "type": "Ready", "status": ready, "reason": "Active", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    json!({"conditions": [condition], "records": [{"id": "", "sha256": "", "publishedAt": published_at}]})
}
