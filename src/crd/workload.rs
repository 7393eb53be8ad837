//! Workloads that are restarted when a new value is published.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ObjectName;

/// The most workloads that a token may restart.
pub const MAX_RESTARTED: usize = 8;

/// Annotation on a Pod template that triggers a restart. The uid of the token follows the slash. So several tokens can
/// restart one workload, and none overwrites the annotation of another.
pub const RESTART: &str = "restart.tokenry.dev/";

/// A kind of workload that can be restarted. A variant has the name of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

/// A workload that is restarted once for each generation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RestartTarget {
    /// The kind of the workload, in `apps/v1`.
    pub kind: WorkloadKind,
    /// The name of the workload, in the token's namespace.
    pub name: ObjectName,
}

impl fmt::Display for RestartTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// The state of the restart for a generation, or for a later change of the keys `endpoint` and `ca.crt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Restart {
    /// The published generation that the workloads restart for.
    pub generation: i64,
    /// A digest of the keys `endpoint` and `ca.crt` that the workloads restart for. If omitted or null, an earlier
    /// release wrote this status.
    // `None` is written as null, because a status is merged: a key that is left out of a nested object would keep its
    // old value.
    #[serde(default)]
    pub endpoint_digest: Option<String>,
    /// The time at which the operator noticed a change of these keys in the Secret. If omitted or null, they are
    /// unchanged since the generation was published.
    #[serde(default)]
    pub changed_at: Option<Time>,
    /// The time at which the restart was triggered. It is not triggered again for this generation and these keys. If
    /// omitted or null, it was not triggered yet.
    #[serde(default)]
    pub at: Option<Time>,
}

impl Restart {
    /// The restart for a generation that was just published.
    pub fn published(generation: i64, endpoint_digest: Option<String>) -> Self {
        Self { generation, endpoint_digest, changed_at: None, at: None }
    }

    /// The cause of the restart, in words.
    pub fn cause(&self) -> String {
        let generation = self.generation;
        match self.changed_at {
            None => format!("generation {generation}"),
            Some(_) => format!("the changed endpoint or ca.crt of generation {generation}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_restart_takes_the_times_of_the_one_before_away() {
        let pending = serde_json::to_value(Restart::published(2, None)).unwrap();
        let nothing = serde_json::Value::Null;
        let expected =
            serde_json::json!({"generation": 2, "endpointDigest": nothing, "changedAt": nothing, "at": nothing});
        assert_eq!(pending, expected);
    }
}
