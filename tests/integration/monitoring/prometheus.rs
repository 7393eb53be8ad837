//! A Prometheus at work, and promtool.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use controlplane::{NAMESPACE, Process, program};
use serde_json::{Value, json};

use crate::harness::World;

/// A Prometheus that scrapes the programs of a test, and evaluates alerts.
pub struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

impl Prometheus {
    /// Scrapes these Pods of a release twice in a second, with the labels that a monitor of the chart gives them.
    pub async fn scraping(world: &World, pods: &[(&str, SocketAddr)], rules: &Value) -> Self {
        let folder = world.plane.directory().join(format!("prometheus-{}", world.namespace));
        fs::create_dir_all(&folder).unwrap();
        let target = |(pod, address): &(&str, SocketAddr)| {
            let labels = json!({"namespace": NAMESPACE, "pod": pod, "app_kubernetes_io_instance": "tokenry"});
            json!({"targets": [address.to_string()], "labels": labels})
        };
        let targets: Vec<_> = pods.iter().map(target).collect();
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "tokenry", "honor_labels": true, "static_configs": targets}],
        });
        fs::write(folder.join("rules.yml"), rules.to_string()).unwrap();
        fs::write(folder.join("prometheus.yml"), config.to_string()).unwrap();
        let mut command = Command::new(program("prometheus").unwrap());
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]);
        let process = Process::start("prometheus", within(command, &folder), &folder.join("prometheus.log")).unwrap();
        let listening = async || {
            let log = process.log();
            let line = log.lines().find(|line| line.contains("Listening on"))?;
            line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
        };
        let address = world.eventually("Prometheus listens", listening).await;
        Self { _process: process, address }
    }

    /// An answer of the HTTP API. `None` until Prometheus is ready.
    pub async fn api(&self, path: &str) -> Option<Value> {
        let answer = reqwest::get(format!("http://{}/api/v1/{path}", self.address)).await.ok()?;
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success() || status.is_server_error(), "{path}: {text}");
        let answer: Value = serde_json::from_str(&text).ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// The series that a query returns now. Panics if Prometheus cannot read the query.
    pub async fn query(&self, query: &str) -> Option<Vec<Value>> {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        self.api(&format!("query?{query}")).await?["result"].as_array().cloned()
    }

    /// The names of the alerts that fire now.
    pub async fn firing(&self) -> Option<BTreeSet<String>> {
        let firing = self.query(r#"ALERTS{alertstate="firing"}"#).await?;
        Some(firing.iter().map(|alert| alert["metric"]["alertname"].as_str().unwrap().to_owned()).collect())
    }
}

/// Runs promtool on these files in a folder of its own, the first with `args`. Returns its output, or else its error.
pub fn promtool(test: &str, args: &[&str], files: &[(&str, &Value)]) -> Result<String, String> {
    let folder = Folder::new(test);
    for (name, file) in files {
        fs::write(folder.0.join(name), file.to_string()).unwrap();
    }
    let mut command = within(Command::new(program("promtool").unwrap()), &folder.0);
    let output = command.args(args).arg(files[0].0).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// The command in a folder, without the variables of this process.
fn within(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder).env_clear().env("HOME", folder);
    command
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tokenry-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
