//! Workloads, as far as rolling them needs to know them.

use std::collections::BTreeMap;

use k8s_openapi::{
    NamespaceResourceScope,
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
};
use kube::{
    Api, Resource,
    api::DynamicObject,
    core::{ApiResource, Request},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Reader, Refusal, Writer,
    writer::{Body, manager},
};
use crate::crd::api_token::WorkloadKind;

/// A Deployment, StatefulSet or DaemonSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The annotations of its Pods. A change of them is a rollout.
    pub annotations: BTreeMap<String, String>,
}

/// The part of a workload that is read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Templated {
    spec: TemplatedSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplatedSpec {
    template: Template,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Annotated,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotated {
    annotations: BTreeMap<String, String>,
}

impl Reader {
    /// A workload as it is now, or nothing where there is none.
    ///
    /// # Errors
    /// There was no answer that says which.
    pub async fn workload(&self, kind: WorkloadKind, namespace: &str, name: &str) -> Result<Option<Workload>, Refusal> {
        let resource = match kind {
            WorkloadKind::Deployment => ApiResource::erase::<Deployment>(&()),
            WorkloadKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            WorkloadKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client().clone(), namespace, &resource);
        let Some(found) = api.get_opt(name).await? else { return Ok(None) };
        let unread = |_| Refusal::Unavailable(format!("{kind} {namespace}/{name} cannot be read"));
        let read: Templated = serde_json::from_value(found.data).map_err(unread)?;
        Ok(Some(Workload {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: found.metadata.uid.unwrap_or_default(),
            annotations: read.spec.template.metadata.annotations,
        }))
    }
}

impl Writer {
    /// Rolls a workload, where it is still the one that was read: its Pods get these annotations besides those that they
    /// have.
    pub async fn roll(&self, workload: &Workload, annotations: &BTreeMap<String, String>) -> Result<(), Refusal> {
        match workload.kind {
            WorkloadKind::Deployment => self.roll_as::<Deployment>(workload, annotations).await,
            WorkloadKind::StatefulSet => self.roll_as::<StatefulSet>(workload, annotations).await,
            WorkloadKind::DaemonSet => self.roll_as::<DaemonSet>(workload, annotations).await,
        }
    }

    async fn roll_as<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
        &self,
        workload: &Workload,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let changes = json!({
            "metadata": {"uid": workload.uid},
            "spec": {"template": {"metadata": {"annotations": annotations}}},
        });
        let path = K::url_path(&(), Some(&workload.namespace));
        let patch = kube::api::Patch::Merge(Body(&changes));
        let request = Request::new(path).patch(&workload.name, &manager(), &patch);
        self.send::<K>("roll", request).await.map(drop)
    }
}
