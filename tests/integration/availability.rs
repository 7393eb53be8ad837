//! The values of the chart by which Pods stay available: their number, their places, their replacement, their Service.

use controlplane::{NAMESPACE, helm};
use serde_json::{Value, json};

use crate::harness::grants::{CHART, name, of_kind, rendered, template};

/// A field of the object of a kind that the chart makes with these values. The path is a JSON pointer.
fn field(sets: &str, kind: &str, named: &str, path: &str) -> Value {
    let objects = rendered(&["--set-json", sets]);
    let found = of_kind(&objects, kind).into_iter().find(|object| name(object) == named);
    found.and_then(|object| object.pointer(path)).cloned().unwrap_or(Value::Null)
}

const OPERATOR: &str = "tokenry-operator";
const VERIFIER: &str = "tokenry-verifier";

#[test]
fn each_value_is_in_its_field() {
    let pods = json!({"matchLabels": {
        "app.kubernetes.io/name": "tokenry", "app.kubernetes.io/instance": "tokenry",
        "app.kubernetes.io/component": "verifier",
    }});
    // Else an upgrade needs a free node, where each Pod has to have a node of its own.
    let of_version = ["pod-template-hash"];
    let apart = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": pods, "matchLabelKeys": of_version});
    let preferred = json!({"podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": apart}],
    }});
    let required = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}});
    let loosely = "ScheduleAnyway";
    let spread =
        |key: &str| json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": loosely, "labelSelector": pods});
    let spreads = json!([spread("topology.kubernetes.io/zone"), spread("kubernetes.io/hostname")]);
    let own = json!([{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]);
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    let (spec, pod) = ("/spec", "/spec/template/spec");
    let (service, account) = ("Service", "ServiceAccount");
    for (sets, kind, named, path, wanted) in [
        ("log={}", "Deployment", OPERATOR, format!("{spec}/replicas"), json!(1)),
        ("log={}", "Deployment", VERIFIER, format!("{spec}/replicas"), json!(2)),
        ("operator.replicaCount=0", "Deployment", OPERATOR, format!("{spec}/replicas"), json!(0)),
        ("highAvailability.enabled=true", "Deployment", OPERATOR, format!("{spec}/replicas"), json!(2)),
        ("highAvailability.enabled=true", "Deployment", VERIFIER, format!("{spec}/replicas"), json!(2)),
        (
            "highAvailability.enabled=true,operator.replicaCount=3",
            "Deployment",
            OPERATOR,
            format!("{spec}/replicas"),
            json!(3),
        ),
        ("highAvailability.enabled=true", "PodDisruptionBudget", OPERATOR, format!("{spec}/maxUnavailable"), json!(1)),
        (
            "highAvailability.enabled=true,verifier.podDisruptionBudget.enabled=false",
            "PodDisruptionBudget",
            VERIFIER,
            format!("{spec}/maxUnavailable"),
            json!(1),
        ),
        ("log={}", "PodDisruptionBudget", OPERATOR, "/kind".into(), Value::Null),
        // Two who set the number of Pods would undo each other's changes. Nobody was asked for the number that exists.
        ("verifier.autoscaling.enabled=true", "Deployment", VERIFIER, format!("{spec}/replicas"), Value::Null),
        ("verifier.autoscaling.enabled=true", "Deployment", OPERATOR, format!("{spec}/replicas"), json!(1)),
        ("log={}", "HorizontalPodAutoscaler", VERIFIER, "/kind".into(), Value::Null),
        ("log={}", "Deployment", VERIFIER, format!("{pod}/affinity"), preferred.clone()),
        ("verifier.antiAffinity=\"Required\"", "Deployment", VERIFIER, format!("{pod}/affinity"), required),
        ("verifier.antiAffinity=\"None\"", "Deployment", VERIFIER, format!("{pod}/affinity"), Value::Null),
        (
            "verifier.affinity={\"nodeAffinity\":{}}",
            "Deployment",
            VERIFIER,
            format!("{pod}/affinity/podAntiAffinity"),
            preferred["podAntiAffinity"].clone(),
        ),
        (
            "verifier.affinity={\"podAntiAffinity\":{\"a\":1}}",
            "Deployment",
            VERIFIER,
            format!("{pod}/affinity"),
            json!({"podAntiAffinity": {"a": 1}}),
        ),
        ("log={}", "Deployment", VERIFIER, format!("{pod}/topologySpreadConstraints"), spreads),
        ("log={}", "Deployment", OPERATOR, format!("{pod}/topologySpreadConstraints"), Value::Null),
        (
            "verifier.topologySpreadConstraints=[]",
            "Deployment",
            VERIFIER,
            format!("{pod}/topologySpreadConstraints"),
            Value::Null,
        ),
        (
            &format!("verifier.topologySpreadConstraints={own}"),
            "Deployment",
            VERIFIER,
            format!("{pod}/topologySpreadConstraints"),
            own,
        ),
        ("log={}", "Deployment", OPERATOR, format!("{spec}/strategy"), rolling),
        (
            "operator.strategy={\"type\":\"Recreate\"}",
            "Deployment",
            OPERATOR,
            format!("{spec}/strategy"),
            json!({"type": "Recreate"}),
        ),
        ("log={}", "Deployment", VERIFIER, format!("{pod}/terminationGracePeriodSeconds"), json!(30)),
        (
            "verifier.terminationGracePeriodSeconds=9",
            "Deployment",
            VERIFIER,
            format!("{pod}/terminationGracePeriodSeconds"),
            json!(9),
        ),
        (
            "verifier.deploymentAnnotations={\"a\":\"b\"}",
            "Deployment",
            VERIFIER,
            "/metadata/annotations/a".into(),
            json!("b"),
        ),
        ("log={}", "Deployment", VERIFIER, format!("{pod}/hostUsers"), Value::Null),
        ("verifier.hostUsers=false", "Deployment", VERIFIER, format!("{pod}/hostUsers"), json!(false)),
        ("log={}", "Deployment", VERIFIER, format!("{pod}/dnsPolicy"), Value::Null),
        ("operator.dnsPolicy=\"Default\"", "Deployment", OPERATOR, format!("{pod}/dnsPolicy"), json!("Default")),
        (
            "operator.dnsConfig={\"searches\":[\"a\"]}",
            "Deployment",
            OPERATOR,
            format!("{pod}/dnsConfig"),
            json!({"searches": ["a"]}),
        ),
        ("log={}", "Deployment", VERIFIER, format!("{pod}/containers/0/resources/limits"), json!({"memory": "512Mi"})),
        ("log={}", "Deployment", OPERATOR, format!("{pod}/containers/0/resources/limits"), json!({"memory": "512Mi"})),
        ("log={}", service, VERIFIER, "/spec/type".into(), json!("ClusterIP")),
        ("verifier.service.type=\"LoadBalancer\"", service, VERIFIER, "/spec/type".into(), json!("LoadBalancer")),
        ("verifier.service.port=8080", service, VERIFIER, "/spec/ports/0/port".into(), json!(8080)),
        ("verifier.service.httpsPort=8443", service, VERIFIER, "/spec/ports/1/port".into(), json!(8443)),
        (
            "verifier.service.type=\"NodePort\",verifier.service.nodePort=30080",
            service,
            VERIFIER,
            "/spec/ports/0/nodePort".into(),
            json!(30080),
        ),
        (
            "verifier.service.type=\"NodePort\",verifier.service.httpsNodePort=30443",
            service,
            VERIFIER,
            "/spec/ports/1/nodePort".into(),
            json!(30443),
        ),
        ("verifier.service.labels={\"a\":\"b\"}", service, VERIFIER, "/metadata/labels/a".into(), json!("b")),
        (
            "verifier.service.ipFamilyPolicy=\"PreferDualStack\"",
            service,
            "tokenry-peers",
            "/spec/ipFamilyPolicy".into(),
            json!("PreferDualStack"),
        ),
        (
            "verifier.service.ipFamilyPolicy=\"PreferDualStack\",metrics.serviceMonitor.enabled=true,\
             metrics.serviceMonitor.renderMode=\"alwaysRender\"",
            service,
            "tokenry-metrics",
            "/spec/ipFamilyPolicy".into(),
            json!("PreferDualStack"),
        ),
        ("verifier.service.ipFamilies=[\"IPv6\"]", service, VERIFIER, "/spec/ipFamilies".into(), json!(["IPv6"])),
        ("log={}", service, VERIFIER, "/spec/trafficDistribution".into(), Value::Null),
        (
            "verifier.service.trafficDistribution=\"PreferSameZone\"",
            service,
            VERIFIER,
            "/spec/trafficDistribution".into(),
            json!("PreferSameZone"),
        ),
        ("log={}", account, VERIFIER, "/automountServiceAccountToken".into(), json!(false)),
        ("log={}", "Deployment", VERIFIER, format!("{pod}/automountServiceAccountToken"), json!(true)),
        (
            "verifier.serviceAccount.automount=true",
            account,
            VERIFIER,
            "/automountServiceAccountToken".into(),
            json!(true),
        ),
        ("verifier.serviceAccount.labels={\"a\":\"b\"}", account, VERIFIER, "/metadata/labels/a".into(), json!("b")),
    ] {
        assert_eq!(field(sets, kind, named, &path), wanted, "{sets}: {kind} {named} {path}");
    }
}

#[test]
fn the_autoscaler_measures_as_the_values_say() {
    let metrics = |sets: &str| {
        let sets = format!("verifier.autoscaling.enabled=true,{sets}");
        field(&sets, "HorizontalPodAutoscaler", VERIFIER, "/spec/metrics")
    };
    let of = |resource: &str, percent: u32| {
        json!({"type": "Resource", "resource": {"name": resource, "target": {
            "type": "Utilization", "averageUtilization": percent,
        }}})
    };
    let own = json!({"type": "Object"});
    assert_eq!(metrics("log={}"), json!([of("cpu", 70)]));
    let both = "verifier.autoscaling.targetMemoryUtilizationPercentage=80";
    assert_eq!(metrics(both), json!([of("cpu", 70), of("memory", 80)]));
    let alone =
        format!("verifier.autoscaling.targetCPUUtilizationPercentage=null,verifier.autoscaling.metrics=[{own}]");
    assert_eq!(metrics(&alone), json!([own]));
    let target =
        field("verifier.autoscaling.enabled=true", "HorizontalPodAutoscaler", VERIFIER, "/spec/scaleTargetRef");
    assert_eq!(target, json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": VERIFIER}));
    let none = "verifier.autoscaling.enabled=true,verifier.autoscaling.targetCPUUtilizationPercentage=null";
    let told = template(&["--set-json", none]).unwrap_err();
    assert!(told.contains("verifier.autoscaling measures nothing"), "{told}");
}

#[test]
fn values_that_cannot_work_together_are_refused_with_the_value_to_set() {
    let elsewhere = "--api-versions=monitoring.coreos.com/v1";
    for (sets, told) in [
        ("rbac.create=false,highAvailability.enabled=true", "Set leaderElection.enabled: true"),
        ("leaderElection.enabled=false,operator.replicaCount=2", "or run one operator"),
        ("verifier.autoscaling.enabled=true,verifier.autoscaling.minReplicas=9", "Set maxReplicas to minReplicas"),
        ("verifier.terminationGracePeriodSeconds=5", "minimum: got 5, want 6"),
        ("leaderElection.leaseDuration=10s", "Set leaseDuration above renewDeadline"),
        (
            "leaderElection.leaseDuration=1m,leaderElection.renewDeadline=0h1m30s",
            "Set leaseDuration above renewDeadline",
        ),
        ("leaderElection.leaseDuration=301s", "Set it to 300s at most"),
        ("leaderElection.retryPeriod=6s", "Set renewDeadline to twice retryPeriod at least"),
        ("leaderElection.retryPeriod=0s", "and retryPeriod to 1s at least"),
        ("verifier.service.port=443", "port and httpsPort are both 443"),
        ("verifier.service.nodePort=30080", "Set type to NodePort or LoadBalancer"),
        (
            "verifier.service.type=NodePort,verifier.service.nodePort=30080,verifier.service.httpsNodePort=30080",
            "nodePort and httpsNodePort are both 30080",
        ),
        ("verifier.podDisruptionBudget.minAvailable=2", "minAvailable is 2, and there are 2 Pods"),
        ("verifier.podDisruptionBudget.minAvailable=51%", "Set it lower, raise replicaCount"),
        (
            "operator.podDisruptionBudget.enabled=true,operator.podDisruptionBudget.minAvailable=1",
            "minAvailable is 1, and there are 1 Pods",
        ),
        ("metrics.podMonitor.enabled=true,metrics.secure.enabled=true", "has no token of Prometheus"),
        ("metrics.serviceMonitor.enabled=true,metrics.secure.enabled=true", "for the audience tokenry.dev/metrics"),
        (
            "metrics.serviceMonitor.enabled=true,metrics.secure.enabled=true,metrics.secure.secretName=a",
            "metrics.serviceMonitor.endpointAdditionalProperties.tlsConfig",
        ),
        ("metrics.serviceMonitor.endpointAdditionalProperties.honorLabels=false", "invalid propertyName 'honorLabels'"),
    ] {
        let refused = template(&[elsewhere, "--set", sets]).unwrap_err();
        assert!(refused.contains(told), "{sets}: {refused}");
    }
    for sets in [
        "leaderElection.enabled=false,leaderElection.leaseDuration=1s",
        "verifier.service.port=443,verifier.tls.enabled=false",
        "verifier.service.port=443,verifier.plainHttp=false",
        "verifier.podDisruptionBudget.minAvailable=50%",
        "verifier.podDisruptionBudget.minAvailable=2,verifier.autoscaling.enabled=true",
        "verifier.podDisruptionBudget.minAvailable=2,verifier.replicaCount=0",
    ] {
        assert!(template(&["--set", sets]).is_ok(), "{sets} can work");
    }
    let least = "highAvailability.enabled=true,verifier.autoscaling.enabled=true,verifier.autoscaling.minReplicas=1";
    assert_eq!(field(least, "HorizontalPodAutoscaler", VERIFIER, "/spec/minReplicas"), 2, "two of everything");
}

#[test]
fn roles_in_one_namespace_are_bound_under_other_names_because_a_binding_never_changes_its_role() {
    let bindings = |sets: &str| -> Vec<_> {
        let objects = rendered(&["--set", &format!("scopedNamespace=team-a{sets}")]);
        of_kind(&objects, "RoleBinding").iter().map(|it| name(it).to_owned()).collect()
    };
    let (before, after) = (bindings(""), bindings(",scopedRBAC=true"));
    assert_eq!(before.len(), after.len());
    assert!(before.iter().all(|name| !after.contains(name)), "{before:?}, {after:?}");
}

#[test]
fn another_port_of_the_service_reaches_guards_and_notes() {
    let objects = rendered(&["--set", "verifier.service.port=8080,verifier.service.httpsPort=8443"]);
    let deployment = of_kind(&objects, "Deployment").into_iter().find(|it| name(it) == OPERATOR).unwrap();
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().iter();
    let exposure = args.filter_map(|arg| arg.as_str().unwrap().strip_prefix("--exposure=")).next().unwrap();
    let exposure: Value = serde_json::from_str(exposure).unwrap();
    assert_eq!((&exposure["verifier"]["port"], &exposure["verifier"]["https"]["port"]), (&json!(8080), &json!(8443)));
    let notes = |sets: &str| {
        let args = ["install", "tokenry", CHART, "--dry-run=client", "--namespace", NAMESPACE, "--set", sets];
        helm(&args).unwrap().rsplit_once("NOTES:\n").unwrap().1.to_owned()
    };
    let told = notes("verifier.service.httpsPort=8443");
    assert!(told.contains("\n  helm test tokenry -n tokenry-system\n"), "{told}");
    assert!(told.contains("https://tokenry-verifier.tokenry-system.svc:8443/v1/instances/"), "{told}");
    let told = notes("verifier.tls.enabled=false,helmTest.enabled=false");
    assert!(told.contains("http://tokenry-verifier.tokenry-system.svc/v1/instances/"), "{told}");
    assert!(!told.contains("helm test"), "{told}");
    let urls: Vec<_> = of_kind(&objects, "Pod")[0]["spec"]["containers"].as_array().unwrap().iter().collect();
    let asked = |port: u16| urls.iter().any(|it| it["args"][1].as_str().unwrap().contains(&format!(".svc:{port}/")));
    assert!(asked(8080) && asked(8443) && asked(8081), "{urls:?}");
}
