//! Tells objects of the keeper from those that somebody else made under the same name. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::crd::name;

/// True if Tokenry made the object with this metadata, or if its label and its content say so.
///
/// A label is easily copied together with an object. So the label has to be a field of Tokenry's field manager. Else
/// the object has to hold the keeper's own certificates (`is_known`), as after a restore from a backup. An object that
/// a controller owns is never the keeper's.
pub(super) fn is_ours(metadata: &ObjectMeta, is_known: bool) -> bool {
    let is_labelled = metadata.labels.as_ref().and_then(|labels| labels.get(name::MANAGED_BY));
    let is_controlled = metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
    is_labelled.is_some_and(|by| by == name::MANAGER) && !is_controlled && (is_known || has_written_label(metadata))
}

/// True if the label is a field of Tokenry's field manager.
fn has_written_label(metadata: &ObjectMeta) -> bool {
    metadata.managed_fields.iter().flatten().any(|entry| {
        let label = || {
            let fields = &entry.fields_v1.as_ref()?.0;
            fields.get("f:metadata")?.get("f:labels")?.get(format!("f:{}", name::MANAGED_BY))
        };
        entry.manager.as_deref() == Some(name::MANAGER) && label().is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// An object whose label was written by this field manager.
    fn written_by(manager: &str) -> Value {
        let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/managed-by": {}}}});
        json!({
            "labels": {"app.kubernetes.io/managed-by": "tokenry"},
            "managedFields": [{"manager": "someone"}, {"manager": manager, "fieldsV1": fields}],
        })
    }

    fn ours(metadata: Value, is_known: bool) -> bool {
        is_ours(&serde_json::from_value(metadata).unwrap(), is_known)
    }

    #[test]
    fn an_object_of_ours_has_a_label_that_we_wrote_or_certificates_of_ours() {
        assert!(ours(written_by("tokenry"), false));
        assert!(!ours(written_by("kubectl-client-side-apply"), false), "the label was copied");
        assert!(ours(written_by("velero-server"), true), "restored from a backup");
        let mut unlabelled = written_by("tokenry");
        unlabelled["labels"] = json!({"app.kubernetes.io/managed-by": "Helm"});
        assert!(!ours(unlabelled, true));
        assert!(!ours(json!({}), true));
    }

    #[test]
    fn an_object_that_has_a_controller_is_of_that_controller() {
        let mut owned = written_by("tokenry");
        let owner =
            |controller| json!([{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "u", "controller": controller}]);
        owned["ownerReferences"] = owner(true);
        assert!(!ours(owned.clone(), true));
        owned["ownerReferences"] = owner(false);
        assert!(ours(owned, false));
    }

    #[test]
    fn another_field_of_our_manager_is_no_sign() {
        let mut other = written_by("tokenry");
        other["managedFields"][1]["fieldsV1"] = json!({"f:data": {"f:ca.crt": {}}});
        assert!(!ours(other, false));
    }
}
