//! A Prometheus inside the node. It evaluates the alerts of the chart on the metrics of both components.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

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
/// The time between two looks at the metrics and alerts, in seconds.
const EVERY: u64 = 5;

pub struct Prometheus<'a> {
    machine: &'a Machine,
    folder: PathBuf,
    /// Its process within the node.
    pid: String,
}

impl<'a> Prometheus<'a> {
    /// Starts it with the rules that the chart renders with these values. It scrapes the Pods that run now.
    pub fn start(site: &Site, machine: &'a Machine, values: &str) -> Told<Self> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hour-prometheus");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mut this = Self { machine, folder, pid: String::new() };
        this.write("rules.yml", &site.rules(values)?)?;
        this.find(site)?;
        let program = program("prometheus").map_err(|error| error.to_string())?;
        let start = format!(
            "cd {} || exit; setsid {} --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address={LISTEN} \
             </dev/null >prometheus.log 2>&1 & echo $!",
            this.folder.display(),
            program.display()
        );
        machine.in_node(&["bash", "-c", &start])?.trim().clone_into(&mut this.pid);
        Ok(this)
    }

    fn write(&self, name: &str, content: &Value) -> Told {
        fs::write(self.folder.join(name), content.to_string()).map_err(|error| format!("{name}: {error}"))
    }

    fn find(&self, site: &Site) -> Told {
        let pods: Vec<_> = site.pods("operator,verifier")?.iter().map(target).collect();
        self.write("prometheus.yml", &configuration(&pods))
    }

    /// Scrapes the Pods that run now.
    pub fn follow(&self, site: &Site) -> Told {
        self.find(site)?;
        self.machine.in_node(&["kill", "-HUP", &self.pid]).map(drop)
    }

    /// The names of the alerts that fire now.
    pub fn firing(&self) -> Told<BTreeSet<String>> {
        let alerts = self.ask(r#"ALERTS{alertstate="firing"}"#)?;
        Ok(alerts.iter().map(name).collect())
    }

    /// The names of all alerts that have fired, with the seconds for which they did.
    pub fn fired(&self) -> Told<BTreeMap<String, u64>> {
        let firing = format!(
            r#"sum by (alertname) (sum_over_time(max by (alertname) (ALERTS{{alertstate="firing"}})[3h:{EVERY}s]))"#
        );
        let alerts = self.ask(&firing)?;
        let seconds = |alert: &Value| {
            let looks = alert["value"][1].as_str().and_then(|looks| looks.parse::<u64>().ok()).unwrap_or_default();
            (name(alert), looks * EVERY)
        };
        Ok(alerts.iter().map(seconds).collect())
    }

    /// The result of a query.
    fn ask(&self, query: &str) -> Told<Vec<Value>> {
        let address = format!("http://{LISTEN}/api/v1/query");
        let query = format!("query={query}");
        let said = self.machine.in_node(&["curl", "-sS", "--get", &address, "--data-urlencode", &query])?;
        let answer: Value = serde_json::from_str(&said).map_err(|error| format!("{said}: {error}"))?;
        answer["data"]["result"].as_array().cloned().ok_or_else(|| format!("Prometheus says: {said}"))
    }
}

fn name(alert: &Value) -> String {
    alert["metric"]["alertname"].as_str().unwrap_or_default().to_owned()
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.machine.in_node(&["kill", &self.pid]);
    }
}

/// The target of a Pod, with the labels that a monitor of the chart gives it.
fn target(pod: &Value) -> Value {
    let address = format!("{}:{PORT}", pod["status"]["podIP"].as_str().unwrap_or_default());
    let release = &pod["metadata"]["labels"]["app.kubernetes.io/instance"];
    let labels = json!({
        "namespace": SYSTEM, "pod": pod["metadata"]["name"], "app_kubernetes_io_instance": release,
    });
    json!({"targets": [address], "labels": labels})
}

fn configuration(targets: &[Value]) -> Value {
    json!({
        "global": {"scrape_interval": format!("{EVERY}s"), "evaluation_interval": format!("{EVERY}s")},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "tokenry", "honor_labels": true, "static_configs": targets}],
    })
}
