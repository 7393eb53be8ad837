//! The chart as a part of a parent chart, which may switch it off.

use std::{env, fs, process};

use controlplane::Cluster;

use crate::{harness::root, release::copy};

const PARENT: &str = "apiVersion: v2
name: platform
version: 1.0.0
dependencies:
- name: tokenry
  version: 0.1.0
  condition: tokenry.enabled
";

#[test]
fn both_helms_take_the_condition_of_a_parent_chart() {
    let folder = env::temp_dir().join(format!("tokenry-parent-{}", process::id()));
    copy(&root().join("charts/tokenry"), &folder.join("charts/tokenry"));
    fs::write(folder.join("Chart.yaml"), PARENT).unwrap();
    let (parent, helms) = (folder.display().to_string(), Cluster::new("/dev/null", &folder));
    for (set, deployments) in [("global.a=b", 2), ("tokenry.enabled=true", 2), ("tokenry.enabled=false", 0)] {
        let args = ["template", "platform", &parent, "--set", set];
        for (helm, told) in [("Helm 3", helms.helm3(&args)), ("Helm 4", helms.helm(&args))] {
            let told = told.unwrap_or_else(|error| panic!("{helm}: {set}: {error}"));
            assert_eq!(told.matches("\nkind: Deployment\n").count(), deployments, "{helm}: {set}");
        }
    }
    fs::remove_dir_all(folder).unwrap();
}
