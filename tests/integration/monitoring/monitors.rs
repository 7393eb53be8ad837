//! The objects of the Prometheus Operator, with its real definitions, and without them.

use controlplane::Definitions;
use serde_json::{Value, json};

use super::SERVED;
use crate::harness::{
    World,
    grants::{name, of_kind, rendered, template},
    root,
};

/// The kinds, and the parts of `metrics` that render them.
const KINDS: [(&str, &str); 3] =
    [("ServiceMonitor", "serviceMonitor"), ("PodMonitor", "podMonitor"), ("PrometheusRule", "prometheusRule")];

/// The objects of the Prometheus Operator.
fn monitoring(objects: &[Value]) -> Vec<Value> {
    let ours = objects.iter().filter(|object| object["apiVersion"] == "monitoring.coreos.com/v1");
    ours.cloned().collect()
}

#[tokio::test]
async fn the_real_definitions_admit_each_object_as_it_is() {
    let world = World::alone("monitors").await;
    world.plane.install_definitions(&[Definitions::PrometheusOperator]).unwrap();
    let mut kinds = Vec::new();
    for values in ["monitoring", "podmonitor"] {
        let file = root().join(format!("charts/tokenry/ci/{values}-values.yaml"));
        let args = ["--values", file.to_str().unwrap(), "--set", &format!("namespaceOverride={}", world.namespace)];
        for object in monitoring(&rendered(&args)) {
            let apply = ["apply", "--server-side", "--validate=strict", "-f", "-", "-o", "json"];
            let stored = world.plane.kubectl_with_input(&apply, &object.to_string());
            let stored: Value = serde_json::from_str(&stored.unwrap_or_else(|error| panic!("{error}"))).unwrap();
            assert_eq!(stored["spec"], object["spec"], "nothing is pruned or changed");
            assert_eq!(stored["metadata"]["labels"]["release"], "prometheus");
            kinds.push(object["kind"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(kinds, ["PrometheusRule", "ServiceMonitor", "PodMonitor"]);
}

#[tokio::test]
async fn a_release_asks_the_api_server_which_kinds_it_serves() {
    let world = World::alone("monitors").await;
    let with = |mode: &str| {
        let set: Vec<_> = ["serviceMonitor", "prometheusRule"]
            .map(|part| format!("metrics.{part}.enabled=true,metrics.{part}.renderMode={mode}"))
            .into();
        let chart = root().join("charts/tokenry").display().to_string();
        let args = ["install", "seen", &chart, "--namespace", &world.namespace, "--dry-run=server", "-o", "json"];
        let told =
            world.plane.helm(&[&args[..], &["--set", &set.join(","), "--set", "crds.enabled=false"]].concat())?;
        let manifest = serde_json::from_str::<Value>(&told).unwrap()["manifest"].as_str().unwrap().to_owned();
        Ok::<_, String>(manifest.matches("apiVersion: monitoring.coreos.com/v1").count())
    };
    assert_eq!(with("skipIfMissing"), Ok(0));
    let told = with("failIfMissing").unwrap_err();
    assert!(told.contains("the cluster does not serve the kind ") && told.contains("skipIfMissing"), "{told}");
    world.plane.install_definitions(&[Definitions::PrometheusOperator]).unwrap();
    let served = async || (with("skipIfMissing") == Ok(2)).then_some(());
    world.eventually("helm sees the kinds", served).await;
    assert_eq!(with("failIfMissing"), Ok(2));
    world.plane.kubectl(&["delete", "crd", "prometheusrules.monitoring.coreos.com"]).unwrap();
    let served = async || (with("skipIfMissing") == Ok(1)).then_some(());
    world.eventually("helm sees the kind that is left", served).await;
}

#[test]
fn helm_template_renders_a_kind_that_is_missing_only_if_it_should() {
    for (kind, part) in KINDS {
        let with = |mode: &str, served: bool| {
            let set = format!("metrics.{part}.enabled=true,metrics.{part}.renderMode={mode}");
            let set = ["--set", &set];
            let told = template(&[if served { &SERVED[..] } else { &[] }, &set].concat())?;
            Ok::<_, String>(told.contains(&format!("kind: {kind}\n")))
        };
        for (mode, missing) in [("skipIfMissing", Some(false)), ("alwaysRender", Some(true)), ("failIfMissing", None)] {
            assert_eq!(with(mode, true), Ok(true), "{kind} {mode}");
            assert_eq!(with(mode, false).ok(), missing, "{kind} {mode}");
        }
        assert!(of_kind(&rendered(&SERVED), kind).is_empty(), "{kind} is off by default");
    }
}

#[test]
fn monitors_select_the_pods_of_both_components_by_a_port_that_they_have() {
    for (kind, set) in [("ServiceMonitor", "metrics.serviceMonitor"), ("PodMonitor", "metrics.podMonitor")] {
        let objects = rendered(&[&SERVED[..], &["--set", &format!("{set}.enabled=true")]].concat());
        let monitor = of_kind(&objects, kind)[0];
        // Prometheus writes it as app_kubernetes_io_instance. Alerts and dashboard tell releases apart by it.
        let copied = "app.kubernetes.io/instance";
        assert_eq!(monitor["spec"]["podTargetLabels"], json!([copied]));
        let (pods, port) = match kind {
            "ServiceMonitor" => {
                let labels = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
                let has =
                    |object: &&&Value| labels.iter().all(|(key, value)| &object["metadata"]["labels"][key] == value);
                let services = of_kind(&objects, "Service");
                let [service] = services.iter().filter(has).collect::<Vec<_>>()[..] else { panic!("{services:?}") };
                let port = &monitor["spec"]["endpoints"][0]["port"];
                let ports = service["spec"]["ports"].as_array().unwrap();
                assert_eq!(name(service), "tokenry-metrics");
                assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
                (&service["spec"]["selector"], &ports.iter().find(|p| &p["name"] == port).unwrap()["targetPort"])
            }
            _ => (&monitor["spec"]["selector"]["matchLabels"], &monitor["spec"]["podMetricsEndpoints"][0]["port"]),
        };
        for deployment in of_kind(&objects, "Deployment") {
            let template = &deployment["spec"]["template"];
            let all =
                { pods.as_object().unwrap().iter() }.all(|(key, value)| &template["metadata"]["labels"][key] == value);
            let ports = template["spec"]["containers"][0]["ports"].as_array().unwrap();
            assert!(all && ports.iter().any(|open| &open["name"] == port), "{kind}: {}", name(deployment));
            assert_eq!(template["metadata"]["labels"][copied], "tokenry", "the release");
        }
    }
}

#[test]
fn prometheus_sends_its_token_for_the_api_server_to_verified_pods_alone() {
    let endpoint = |sets: &str| {
        let sets = format!("metrics.secure.enabled=true,metrics.serviceMonitor.enabled=true,{sets}");
        let objects = rendered(&[&SERVED[..], &["--set", &sets]].concat());
        of_kind(&objects, "ServiceMonitor")[0]["spec"]["endpoints"][0].clone()
    };
    let properties = "metrics.serviceMonitor.endpointAdditionalProperties";
    let bound = endpoint(&format!("{properties}.bearerTokenFile=/var/run/secrets/tokenry.dev/token"));
    assert_eq!(bound["bearerTokenFile"], "/var/run/secrets/tokenry.dev/token");
    assert_eq!(bound["tlsConfig"], json!({"insecureSkipVerify": true}));
    let verified = endpoint(&format!("metrics.secure.secretName=a,{properties}.tlsConfig.serverName=metrics"));
    assert_eq!(verified["bearerTokenFile"], "/var/run/secrets/kubernetes.io/serviceaccount/token");
    assert_eq!(verified["tlsConfig"], json!({"serverName": "metrics"}));
}

#[test]
fn values_that_would_make_alerts_silent_or_twofold_are_refused() {
    let told = |set: &str| template(&[&SERVED[..], &["--set", set]].concat()).unwrap_err();
    let twice = told("metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true");
    assert!(twice.contains("Prometheus would scrape each Pod twice"), "{twice}");
    for part in ["prometheusRule", "grafanaDashboard"] {
        let renamed =
            format!("metrics.podMonitor.enabled=true,metrics.podMonitor.honorLabels=false,metrics.{part}.enabled=true");
        let told = told(&renamed);
        assert!(told.contains(&format!("renames the labels that metrics.{part} reads")), "{told}");
    }
}

#[test]
fn the_dashboard_is_a_config_map_that_grafana_finds() {
    let file = root().join("charts/tokenry/ci/monitoring-values.yaml");
    let objects = rendered(&["--values", file.to_str().unwrap()]);
    let maps = of_kind(&objects, "ConfigMap");
    let map = { maps.iter() }.find(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1").unwrap();
    assert_eq!(map["metadata"]["labels"]["team"], "platform");
    assert_eq!(map["metadata"]["annotations"], json!({"grafana_folder": "Tokenry"}));
    let dashboard: Value = serde_json::from_str(map["data"]["tokenry.json"].as_str().unwrap()).unwrap();
    assert_eq!(dashboard["title"], "Tokenry");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places: Vec<_> = panels.iter().map(|panel| (panel["id"].clone(), panel["title"].clone())).collect();
    places.dedup();
    assert_eq!(places.len(), panels.len());
    assert!(of_kind(&rendered(&[]), "ConfigMap").is_empty(), "off by default");
    // The label of another sidecar takes the place of ours. A key that is there twice is no YAML.
    let own = "metrics.grafanaDashboard.enabled=true,metrics.grafanaDashboard.additionalLabels.grafana_dashboard=mine";
    let objects = rendered(&["--set", own]);
    assert_eq!(of_kind(&objects, "ConfigMap")[0]["metadata"]["labels"]["grafana_dashboard"], "mine");
}
