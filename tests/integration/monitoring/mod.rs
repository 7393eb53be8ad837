//! What teams see of Tokenry: monitors, alerts and the dashboard of the chart, with a real Prometheus.

mod alerts;
mod live;
mod monitors;
mod prometheus;

use serde_json::Value;

use crate::harness::grants::{of_kind, rendered};

/// The API version of the Prometheus Operator, as `helm template` takes it.
const SERVED: [&str; 2] = ["--api-versions", "monitoring.coreos.com/v1"];

/// The rule file in the PrometheusRule of the chart with these values, as Prometheus reads it.
fn rules(values: &str) -> Value {
    let set = format!("metrics.prometheusRule.enabled=true,{values}");
    let objects = rendered(&[&SERVED[..], &["--set", set.trim_end_matches(',')]].concat());
    of_kind(&objects, "PrometheusRule")[0]["spec"].clone()
}

/// The alerts of a rule file.
fn alerts(rules: &Value) -> Vec<Value> {
    rules["groups"][0]["rules"].as_array().unwrap().clone()
}
