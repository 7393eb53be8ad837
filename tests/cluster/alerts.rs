//! A Prometheus inside the node. It evaluates the alerts of the chart on the metrics of both components.

use std::{collections::BTreeSet, fs, path::PathBuf};

use controlplane::program;
use serde_json::{Value, json};

use crate::{
    Told,
    machine::Machine,
    site::{SYSTEM, Site},
};

/// The port of the metrics in each Pod.
const PORT: u16 = 8081;
/// The address of Prometheus inside the node.
const LISTEN: &str = "127.0.0.1:9090";
/// The alerts that fire now.
const FIRING: &str = r#"query=ALERTS{alertstate="firing"}"#;

pub struct Prometheus<'a> {
    machine: &'a Machine,
    folder: PathBuf,
}

impl<'a> Prometheus<'a> {
    /// Starts it with the rules that the chart renders with these values.
    pub fn start(site: &Site, machine: &'a Machine, values: &str) -> Told<Self> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hour-prometheus");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let this = Self { machine, folder };
        this.write("rules.yml", &site.rules(values)?)?;
        this.write("prometheus.yml", &configuration(&[]))?;
        let program = program("prometheus").map_err(|error| error.to_string())?;
        let start = format!(
            "cd {} && setsid {} --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address={LISTEN} \
             </dev/null >prometheus.log 2>&1 &",
            this.folder.display(),
            program.display()
        );
        machine.in_node(&["bash", "-c", &start])?;
        Ok(this)
    }

    fn write(&self, name: &str, content: &Value) -> Told {
        fs::write(self.folder.join(name), content.to_string()).map_err(|error| format!("{name}: {error}"))
    }

    /// Scrapes the Pods that run now.
    pub fn follow(&self, site: &Site) -> Told {
        let pods = site.get(&["pods", "--namespace", SYSTEM])?;
        let pods = pods["items"].as_array().into_iter().flatten();
        let pods: Vec<_> = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).map(target).collect();
        self.write("prometheus.yml", &configuration(&pods))?;
        self.machine.in_node(&["pkill", "-HUP", "-x", "prometheus"]).map(drop)
    }

    /// The names of the alerts that fire now.
    pub fn firing(&self) -> Told<BTreeSet<String>> {
        let address = format!("http://{LISTEN}/api/v1/query");
        let said = self.machine.in_node(&["curl", "-sS", "--get", &address, "--data-urlencode", FIRING])?;
        let answer: Value = serde_json::from_str(&said).map_err(|error| format!("{said}: {error}"))?;
        let alerts = answer["data"]["result"].as_array().ok_or_else(|| format!("Prometheus says: {said}"))?;
        Ok(alerts.iter().filter_map(|alert| alert["metric"]["alertname"].as_str()).map(str::to_owned).collect())
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.machine.in_node(&["pkill", "-x", "prometheus"]);
    }
}

/// The target of a Pod, with the labels that a monitor of the chart gives it.
fn target(pod: &Value) -> Value {
    let address = format!("{}:{PORT}", pod["status"]["podIP"].as_str().unwrap_or_default());
    json!({"targets": [address], "labels": {"namespace": SYSTEM, "pod": pod["metadata"]["name"]}})
}

fn configuration(targets: &[Value]) -> Value {
    json!({
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "tokenry", "honor_labels": true, "static_configs": targets}],
    })
}
