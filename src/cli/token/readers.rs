//! The workloads of a namespace that read a Secret.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{EnvFromSource, EnvVar, Pod, PodSpec},
};
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::{
    cli::{Error, connection::Workplace, lacking::Unlisted},
    outside::reader::Read,
};

/// A workload, or a Pod without one, that reads a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SecretReader {
    /// Its kind and its name, such as `Deployment/exporter`.
    pub(crate) name: String,
    /// The number of its Pods.
    pub(crate) pods: usize,
    /// The ways in which it reads the Secret, such as `env`.
    pub(crate) ways: Vec<&'static str>,
}

/// The Pods and the workloads of a namespace, as far as the user may list them.
#[derive(Debug, Default)]
pub(crate) struct NamespaceWorkloads {
    pods: Vec<Pod>,
    /// The Pod templates of the workloads, by kind and name.
    templates: Vec<(String, PodSpec)>,
    /// The owner of each Job that has one, both by kind and name.
    owners: BTreeMap<String, String>,
    /// The lists that the user may not read.
    pub(crate) unknown: Unlisted,
}

impl NamespaceWorkloads {
    /// Lists the Pods and the workloads of the namespace.
    pub(crate) async fn of(place: &Workplace) -> Result<Self, Error> {
        let mut all = Self::default();
        all.pods = all.unknown.permitted(place.desk.list(Some(&place.namespace), None).await)?;
        all.add::<Deployment>(place, |workload| workload.spec.as_ref()?.template.spec.as_ref()).await?;
        all.add::<StatefulSet>(place, |workload| workload.spec.as_ref()?.template.spec.as_ref()).await?;
        all.add::<DaemonSet>(place, |workload| workload.spec.as_ref()?.template.spec.as_ref()).await?;
        all.add::<CronJob>(place, |workload| {
            workload.spec.as_ref()?.job_template.spec.as_ref()?.template.spec.as_ref()
        })
        .await?;
        all.add::<Job>(place, |workload| workload.spec.as_ref()?.template.spec.as_ref()).await?;
        Ok(all)
    }

    async fn add<K: Read>(&mut self, place: &Workplace, spec: fn(&K) -> Option<&PodSpec>) -> Result<(), Error> {
        let listed = place.desk.list::<K>(Some(&place.namespace), None).await;
        for workload in self.unknown.permitted(listed)? {
            let name = format!("{}/{}", K::kind(&()), workload.name_any());
            match (controller(&workload), spec(&workload)) {
                (Some(owner), _) => drop(self.owners.insert(name, owner)),
                (None, Some(spec)) => self.templates.push((name, spec.clone())),
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// The readers of a Secret.
    pub(crate) fn readers(&self, secret: &str) -> Vec<SecretReader> {
        let mut all = BTreeMap::<String, SecretReader>::new();
        let mut add = |name: String, pods: usize, spec: &PodSpec| {
            let ways = ways(spec, secret);
            if !ways.is_empty() {
                all.entry(name.clone()).or_insert(SecretReader { name, pods: 0, ways }).pods += pods;
            }
        };
        self.templates.iter().for_each(|(name, spec)| add(name.clone(), 0, spec));
        let pods = self.pods.iter().filter_map(|pod| Some((pod, pod.spec.as_ref()?)));
        pods.for_each(|(pod, spec)| add(self.workload(pod), 1, spec));
        all.into_values().collect()
    }

    /// The workload of a Pod. A Pod without one is its own.
    fn workload(&self, pod: &Pod) -> String {
        let Some(owner) = controller(pod) else { return format!("Pod/{}", pod.name_any()) };
        // A ReplicaSet of a Deployment is called as the Deployment, with this hash.
        let hash = pod.labels().get("pod-template-hash").map(|hash| format!("-{hash}"));
        let deployment = hash.and_then(|hash| owner.strip_prefix("ReplicaSet/")?.strip_suffix(&hash));
        let above = deployment.map(|name| format!("Deployment/{name}")).or_else(|| self.owners.get(&owner).cloned());
        above.unwrap_or(owner)
    }
}

/// The kind and the name of the controller of an object.
fn controller(object: &impl Resource) -> Option<String> {
    let owner = object.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    Some(format!("{}/{}", owner.kind, owner.name))
}

/// The ways in which a Pod reads a Secret.
fn ways(spec: &PodSpec, secret: &str) -> Vec<&'static str> {
    let volumes = spec.volumes.iter().flatten();
    let is_volume = volumes
        .clone()
        .any(|volume| volume.secret.as_ref().is_some_and(|source| source.secret_name.as_deref() == Some(secret)));
    let is_projected = volumes.clone().filter_map(|volume| volume.projected.as_ref()).any(|projected| {
        let sources = projected.sources.iter().flatten().filter_map(|source| source.secret.as_ref());
        { sources }.any(|source| source.name == secret)
    });
    let is_csi = { volumes }
        .filter_map(|volume| volume.csi.as_ref()?.node_publish_secret_ref.as_ref())
        .any(|named| named.name == secret);
    let is_env = environments(spec).any(|(env, _)| {
        let sources = env.iter().filter_map(|env| env.value_from.as_ref()?.secret_key_ref.as_ref());
        { sources }.any(|source| source.name == secret)
    });
    let is_env_from = environments(spec).any(|(_, env_from)| {
        let sources = env_from.iter().filter_map(|source| source.secret_ref.as_ref());
        { sources }.any(|source| source.name == secret)
    });
    let is_pull = spec.image_pull_secrets.iter().flatten().any(|named| named.name == secret);
    let all = [
        (is_volume, "volume"),
        (is_projected, "projected volume"),
        (is_csi, "CSI volume"),
        (is_env, "env"),
        (is_env_from, "envFrom"),
        (is_pull, "imagePullSecrets"),
    ];
    all.into_iter().filter_map(|(reads, way)| reads.then_some(way)).collect()
}

/// The variables of each container of a Pod, and the sources of further ones.
fn environments(spec: &PodSpec) -> impl Iterator<Item = (&[EnvVar], &[EnvFromSource])> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let containers = containers.map(|container| (&container.env, &container.env_from));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let all = containers.chain(ephemeral.map(|container| (&container.env, &container.env_from)));
    all.map(|(env, from)| (env.as_deref().unwrap_or_default(), from.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(owner: Option<(&str, &str)>, spec: &Value) -> Pod {
        let owners = owner.map(|(kind, name)| {
            json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}])
        });
        let labels = json!({"pod-template-hash": "7f9"});
        let metadata = json!({"name": "p", "ownerReferences": owners, "labels": labels});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn container(more: Value) -> Value {
        let mut container = json!({"name": "c"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        container
    }

    #[test]
    fn every_way_to_read_a_secret_is_seen() {
        let env = json!({"env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "ci", "key": "token"}}}]});
        let from = json!({"envFrom": [{"secretRef": {"name": "ci"}}]});
        let plain = || container(json!({}));
        let mounts = |source: Value| json!({"containers": [plain()], "volumes": [source]});
        for (spec, way) in [
            (mounts(json!({"name": "v", "secret": {"secretName": "ci"}})), "volume"),
            (mounts(json!({"name": "v", "projected": {"sources": [{"secret": {"name": "ci"}}]}})), "projected volume"),
            (
                mounts(json!({"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "ci"}}})),
                "CSI volume",
            ),
            (json!({"containers": [container(env.clone())]}), "env"),
            (json!({"containers": [container(from.clone())]}), "envFrom"),
            (json!({"containers": [plain()], "initContainers": [container(env.clone())]}), "env"),
            (json!({"containers": [plain()], "ephemeralContainers": [container(env)]}), "env"),
            (json!({"containers": [plain()], "ephemeralContainers": [container(from)]}), "envFrom"),
            (json!({"containers": [plain()], "imagePullSecrets": [{"name": "ci"}]}), "imagePullSecrets"),
        ] {
            let pods = [&spec, &spec, &json!({"containers": [plain()]})].map(|spec| pod(None, spec));
            let all = NamespaceWorkloads { pods: pods.to_vec(), ..NamespaceWorkloads::default() };
            assert_eq!(all.readers("ci"), [SecretReader { name: "Pod/p".into(), pods: 2, ways: vec![way] }]);
            assert_eq!(all.readers("other"), []);
        }
    }

    #[test]
    fn a_workload_is_named_with_all_of_its_pods_and_without_any() {
        let spec = json!({"containers": [{"name": "c"}], "imagePullSecrets": [{"name": "ci"}]});
        let read: PodSpec = serde_json::from_value(spec.clone()).unwrap();
        let owners = [("ReplicaSet", "web-7f9"), ("ReplicaSet", "web-7f9"), ("ReplicaSet", "bare"), ("Job", "night-1")];
        let all = NamespaceWorkloads {
            pods: owners.map(|owner| pod(Some(owner), &spec)).to_vec(),
            templates: vec![("Deployment/web".into(), read.clone()), ("CronJob/day".into(), read)],
            owners: [("Job/night-1".to_owned(), "CronJob/night".to_owned())].into(),
            unknown: Unlisted::default(),
        };
        let readers: Vec<_> = all.readers("ci").into_iter().map(|reader| (reader.name, reader.pods)).collect();
        let told = [("CronJob/day", 0), ("CronJob/night", 1), ("Deployment/web", 2), ("ReplicaSet/bare", 1)];
        assert_eq!(readers, told.map(|(name, pods)| (name.to_owned(), pods)));
    }
}
