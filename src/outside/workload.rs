//! Workloads, limited to the fields that a restart needs. No other field is kept or written.

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    api::{GetParams, Patch},
    core::Request,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Location, Reader, Receipt, Refusal, Verb, Writer,
    reader::found,
    writer::{Written, manager},
};
use crate::crd::{RestartTarget, WorkloadKind};

/// A workload as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid. A later workload of the same name has another uid.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// The annotations of its Pod template.
    pub annotations: BTreeMap<String, String>,
}

/// The fields that are read from a workload. Times are left out, because our types cannot hold every time.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WorkloadReply {
    metadata: WorkloadMeta,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[serde(rename_all = "camelCase")]
struct WorkloadMeta {
    uid: String,
    resource_version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    template: PodTemplate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodTemplate {
    metadata: Option<TemplateMeta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    annotations: Option<BTreeMap<String, String>>,
}

/// The API path of a kind's workloads in a namespace.
fn path(kind: WorkloadKind, namespace: &str) -> String {
    fn of<K: Written>(namespace: &str) -> String {
        K::url_path(&(), Some(namespace))
    }
    match kind {
        WorkloadKind::Deployment => of::<Deployment>(namespace),
        WorkloadKind::StatefulSet => of::<StatefulSet>(namespace),
        WorkloadKind::DaemonSet => of::<DaemonSet>(namespace),
    }
}

impl Reader {
    /// The current workload. `None` if the workload does not exist.
    ///
    /// # Errors
    /// The API server refused the read or did not answer.
    pub async fn workload(&self, namespace: &str, target: &RestartTarget) -> Result<Option<Workload>, Refusal> {
        let request = Request::new(path(target.kind, namespace)).get(target.name.as_str(), &GetParams::default());
        let reply = self.asked(request).await;
        let found = match target.kind {
            WorkloadKind::Deployment => found::<Deployment, _>(reply, namespace, target.name.as_str()),
            WorkloadKind::StatefulSet => found::<StatefulSet, _>(reply, namespace, target.name.as_str()),
            WorkloadKind::DaemonSet => found::<DaemonSet, _>(reply, namespace, target.name.as_str()),
        };
        Ok(found?.map(|reply: WorkloadReply| Workload {
            kind: target.kind,
            namespace: namespace.to_owned(),
            name: target.name.to_string(),
            uid: reply.metadata.uid,
            version: reply.metadata.resource_version,
            annotations: reply.spec.template.metadata.and_then(|metadata| metadata.annotations).unwrap_or_default(),
        }))
    }
}

impl Writer {
    /// Sets annotations of a workload's Pod template, and removes those without a value. The write is refused if the
    /// workload has changed since it was read. The workload's own controller then replaces the Pods by the workload's
    /// update strategy.
    ///
    /// If two callers do this at the same time, the later write is refused as stale. Its caller reads the workload
    /// again and finds the restart done.
    pub async fn roll(
        &self,
        workload: &Workload,
        annotations: &BTreeMap<String, Option<String>>,
    ) -> Result<Receipt, Refusal> {
        let body = changes(workload, annotations);
        match workload.kind {
            WorkloadKind::Deployment => self.roll_a::<Deployment>(workload, body).await,
            WorkloadKind::StatefulSet => self.roll_a::<StatefulSet>(workload, body).await,
            WorkloadKind::DaemonSet => self.roll_a::<DaemonSet>(workload, body).await,
        }
    }

    async fn roll_a<K: Written>(&self, workload: &Workload, body: Value) -> Result<Receipt, Refusal> {
        let Workload { kind, namespace, name, .. } = workload;
        let request = Request::new(path(*kind, namespace)).patch(name, &manager(), &Patch::Merge(body));
        self.send::<K>(Verb::PATCH, &Location { namespace, name }, request).await
    }
}

fn changes(workload: &Workload, annotations: &BTreeMap<String, Option<String>>) -> Value {
    let template = json!({ "metadata": { "annotations": annotations } });
    let seen = json!({ "uid": workload.uid, "resourceVersion": workload.version });
    json!({ "metadata": seen, "spec": { "template": template } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_read_whatever_else_stands_in_it() {
        let odd = json!({
            "metadata": {"uid": "u", "managedFields": [{"time": "9999-12-31T23:59:59Z"}]},
            "spec": {"template": {"metadata": {"annotations": {"a": "b"}}, "spec": {"containers": 7}}},
            "status": "odd",
        });
        let reply: WorkloadReply = serde_json::from_value(odd).unwrap();
        assert_eq!(reply.metadata.uid, "u");
        assert_eq!(reply.spec.template.metadata.unwrap().annotations.unwrap()["a"], "b");
        for bare in [json!({"spec": {"template": {"metadata": null}}}), json!({"spec": {"template": {"metadata": {}}}})]
        {
            assert!(serde_json::from_value::<WorkloadReply>(bare).is_ok());
        }
    }

    #[test]
    fn a_restart_names_the_workload_as_it_was_read_and_touches_annotations_alone() {
        let workload = Workload {
            kind: WorkloadKind::Deployment,
            namespace: "events".into(),
            name: "exporter".into(),
            uid: "u".into(),
            version: "7".into(),
            annotations: BTreeMap::new(),
        };
        let annotations = [("new".to_owned(), Some("id".to_owned())), ("old".to_owned(), None)].into();
        let expected = json!({
            "metadata": {"uid": "u", "resourceVersion": "7"},
            "spec": {"template": {"metadata": {"annotations": {"new": "id", "old": null}}}},
        });
        assert_eq!(changes(&workload, &annotations), expected);
        assert_eq!(path(workload.kind, "events"), "/apis/apps/v1/namespaces/events/deployments");
    }
}
