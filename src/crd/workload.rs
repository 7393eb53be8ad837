//! Workloads that are restarted with a new value.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ObjectName;

/// The most workloads that a token can have restarted.
pub const MAX_RESTARTED: usize = 8;

/// What begins the annotation on a Pod template that has it restarted; the uid of the token follows. So several tokens
/// can have one workload restarted and none undoes what another wrote.
pub const RESTART: &str = "restart.tokenry.dev/";

/// What can be restarted. Its name is the kind's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

/// Names a workload that is restarted once for each generation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RestartTarget {
    /// Its kind, of `apps/v1`.
    pub kind: WorkloadKind,
    /// Its name, in the token's namespace.
    pub name: ObjectName,
}

impl fmt::Display for RestartTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// How the restart for a generation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Restart {
    /// The published generation that it is for.
    pub generation: i64,
    /// When the workloads were told to restart; they never are again for this generation. Left out: not yet.
    // Written as null where it is none: a status is merged, and what is left out of a nested object stays.
    #[serde(default)]
    pub at: Option<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_restart_takes_the_time_of_the_one_before_away() {
        let pending = serde_json::to_value(Restart { generation: 2, at: None }).unwrap();
        assert_eq!(pending, serde_json::json!({"generation": 2, "at": null}));
    }
}
