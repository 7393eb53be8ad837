//! `kubectl tokenry plan`: the effects of a rotation, a revocation or a deletion, before it is done.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt;
use serde::Serialize;

use super::{pick, times::both, view::last_used};
use crate::{
    cli::{
        Error, client,
        connection::{Connection, Workplace},
        output::{self, ObjectForm},
    },
    crd::{AccessPolicy, ApiToken},
    outside::{Clock, SystemClock},
};

#[derive(Args)]
pub(crate) struct Planning {
    /// PlannedChange to plan
    change: PlannedChange,
    /// Name of the ApiToken
    name: String,
    /// ObjectForm of the output; default: text
    #[arg(long, short)]
    output: Option<ObjectForm>,
    #[command(flatten)]
    connection: Connection,
}

/// A change of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlannedChange {
    /// A new value
    Rotate,
    /// The end of the token
    Revoke,
    /// The deletion of the token
    Delete,
}

/// The objects that a change of a token concerns.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Effects {
    token: String,
    secret: Option<String>,
    last_used: Option<Timestamp>,
    /// The Pods that read the Secret, by the workload that owns them.
    readers: Vec<SecretReader>,
    /// The workloads that are restarted after a new value.
    restarts: Vec<String>,
    /// The policies that name the token as a member.
    policies: Vec<String>,
}

/// A workload, or a Pod without one, that reads the Secret.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct SecretReader {
    name: String,
    pods: usize,
    ways: Vec<&'static str>,
}

impl Planning {
    pub(crate) fn main(self) -> Result<(), Error> {
        let effects = client::block_on(async {
            let place = self.connection.open().await?;
            let token = pick::one(&place, &self.name).await?;
            effects(&place, &token).await
        })?;
        match self.output {
            Some(form) => output::object(&effects, form)?,
            None => told(self.change, &effects, SystemClock.now()).iter().for_each(|line| output::line(line)),
        }
        Ok(())
    }
}

async fn effects(place: &Workplace, token: &ApiToken) -> Result<Effects, Error> {
    let Workplace { desk, namespace } = place;
    let status = token.status.clone().unwrap_or_default();
    let secret = status.secret_name.clone();
    let pods: Vec<Pod> = if secret.is_some() { desk.list(Some(namespace), None).await? } else { Vec::new() };
    let instance = token.spec.instance_ref.namespace_or(namespace);
    let policies: Vec<AccessPolicy> = desk.list(Some(instance), None).await?;
    let member = format!("token:{namespace}/{}", token.name_any());
    let names = |policy: &&AccessPolicy| policy.spec.members.iter().any(|named| named.as_str() == member);
    let restarts = token.spec.restart.iter().map(|target| format!("{:?}/{}", target.kind, target.name));
    Ok(Effects {
        token: token.name_any(),
        last_used: last_used(&status),
        readers: secret.as_deref().map(|secret| readers(&pods, secret)).unwrap_or_default(),
        restarts: restarts.collect(),
        policies: policies.iter().filter(names).map(ResourceExt::name_any).collect(),
        secret,
    })
}

/// The readers of a Secret among Pods.
fn readers(pods: &[Pod], secret: &str) -> Vec<SecretReader> {
    let mut all = BTreeMap::<String, SecretReader>::new();
    for pod in pods {
        let ways = pod.spec.as_ref().map(|spec| ways(spec, secret)).unwrap_or_default();
        if ways.is_empty() {
            continue;
        }
        let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
        let name =
            owner.map_or_else(|| format!("Pod/{}", pod.name_any()), |owner| format!("{}/{}", owner.kind, owner.name));
        let reader = all.entry(name.clone()).or_insert(SecretReader { name, pods: 0, ways });
        reader.pods += 1;
    }
    all.into_values().collect()
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
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let is_env = containers().any(|container| reads_env(container, secret));
    let is_env_from = containers().any(|container| {
        let sources = container.env_from.iter().flatten().filter_map(|source| source.secret_ref.as_ref());
        { sources }.any(|source| source.name == secret)
    });
    let is_pull = spec.image_pull_secrets.iter().flatten().any(|named| named.name == secret);
    let all = [
        (is_volume, "volume"),
        (is_projected, "projected volume"),
        (is_env, "env"),
        (is_env_from, "envFrom"),
        (is_pull, "imagePullSecrets"),
    ];
    all.into_iter().filter_map(|(reads, way)| reads.then_some(way)).collect()
}

fn reads_env(container: &Container, secret: &str) -> bool {
    let sources = container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()?.secret_key_ref.as_ref());
    { sources }.any(|source| source.name == secret)
}

fn told(change: PlannedChange, effects: &Effects, now: Timestamp) -> Vec<String> {
    let Effects { token, secret, last_used, readers, restarts, policies } = effects;
    let used = last_used.map_or_else(|| "never used".to_owned(), |at| format!("last used {}", both(at, now)));
    let mut lines = vec![match change {
        PlannedChange::Rotate => {
            format!("{token} gets a new value; the previous one works until its overlap is over; {used}")
        }
        PlannedChange::Revoke => format!("every request with {token} is refused at once, and for good; {used}"),
        PlannedChange::Delete => {
            format!("{token} and its Secret are deleted, and every request with it is refused at once; {used}")
        }
    }];
    let secret = secret.as_deref().unwrap_or("none");
    lines.push(match readers[..] {
        [] => format!("no Pod reads its Secret ({secret})"),
        _ => format!("these read its Secret ({secret}):"),
    });
    for SecretReader { name, pods, ways } in readers {
        let late = if ways.iter().any(|way| way.starts_with("env")) && change == PlannedChange::Rotate {
            "; env is read at the start of a container only, so restart it"
        } else {
            ""
        };
        lines.push(format!("  {name} ({pods} Pods, {}){late}", ways.join(", ")));
    }
    if change == PlannedChange::Rotate {
        lines.extend(restarts.iter().map(|workload| format!("restarted after the new value is published: {workload}")));
    }
    if change == PlannedChange::Delete {
        lines.extend(
            policies.iter().map(|policy| format!("AccessPolicy {policy} names it as a member, and would name nobody")),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, owner: Option<&str>, spec: Value) -> Pod {
        let owners = owner.map(|name| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", "controller": true}]));
        serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": owners}, "spec": spec})).unwrap()
    }

    #[test]
    fn every_way_to_read_a_secret_is_seen() {
        let env = json!([{"name": "T", "valueFrom": {"secretKeyRef": {"name": "ci", "key": "token"}}}]);
        let from = json!([{"secretRef": {"name": "ci"}}]);
        let of = |container: Value| json!({"containers": [container]});
        let plain = || json!({"name": "c"});
        for (spec, way) in [
            (json!({"containers": [plain()], "volumes": [{"name": "v", "secret": {"secretName": "ci"}}]}), "volume"),
            (
                json!({"containers": [plain()], "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "ci"}}]}}]}),
                "projected volume",
            ),
            (of(json!({"name": "c", "env": env})), "env"),
            (of(json!({"name": "c", "envFrom": from})), "envFrom"),
            (json!({"containers": [plain()], "initContainers": [{"name": "i", "env": env}]}), "env"),
            (json!({"containers": [plain()], "imagePullSecrets": [{"name": "ci"}]}), "imagePullSecrets"),
        ] {
            let pods = [pod("a", Some("w"), spec.clone()), pod("b", Some("w"), spec), pod("c", None, of(plain()))];
            let readers = readers(&pods, "ci");
            assert_eq!(readers, [SecretReader { name: "ReplicaSet/w".into(), pods: 2, ways: vec![way] }]);
            assert_eq!(super::readers(&pods, "other"), []);
        }
    }

    #[test]
    fn a_plan_says_whom_a_change_concerns() {
        let reader = SecretReader { name: "ReplicaSet/w".into(), pods: 2, ways: vec!["env"] };
        let effects = Effects {
            token: "ci".into(),
            secret: Some("ci".into()),
            last_used: None,
            readers: vec![reader],
            restarts: vec!["Deployment/w".into()],
            policies: vec!["p".into()],
        };
        let told = |change| told(change, &effects, Timestamp::UNIX_EPOCH).join("\n");
        assert!(
            told(PlannedChange::Rotate).contains("so restart it")
                && told(PlannedChange::Rotate).contains("Deployment/w")
        );
        assert!(
            told(PlannedChange::Revoke).contains("ReplicaSet/w (2 Pods, env)")
                && !told(PlannedChange::Revoke).contains("restarted")
        );
        assert!(told(PlannedChange::Delete).contains("AccessPolicy p"));
    }
}
