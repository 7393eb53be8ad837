//! The chart: that it renders for every kind of values, refuses what it does not know, and grants what is needed alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use controlplane::{EXPOSING, NAMESPACE, REVIEWING_CALLERS, helm};
use http::StatusCode;
use k8s_openapi::{
    api::core::v1::{Pod, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Client,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams},
    core::Request,
};
use serde_json::{Map, Value, json};
use tokenry::{
    crd::endpoint::{IngressTemplate, PodPeer},
    exposure::{ExposureConfig, PieceKind},
    operator,
    outside::{Extent, reviewer::REVIEWING, rights::Wanted},
    verifier,
};

use crate::{
    harness::{
        OPERATOR, World,
        clock::Held,
        evidence::Right,
        grants::{CHART, Grants, name, of_kind, read, rendered, template},
        message,
        rights::asking,
        root,
    },
    levels,
};

/// Our kinds, and what they are called in rules.
const KINDS: [(&str, &str); 4] = [
    ("AccessPolicy", "accesspolicies"),
    ("Instance", "instances"),
    ("ServiceAccount", "serviceaccounts"),
    ("ApiToken", "apitokens"),
];

/// Every set of values that the chart is tried with.
fn values() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("charts/tokenry/ci")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert!(files.iter().any(|file| file.ends_with("default-values.yaml")), "{files:?}");
    assert!(files.iter().all(|file| file.to_str().unwrap().ends_with("-values.yaml")), "{files:?}");
    files
}

/// The objects that the chart makes of the values in `file`, where `namespace` stands for each namespace that they
/// name.
fn rendered_within(namespace: &str, file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let named = ["namespaceOverride", "scopedNamespace", "additionalScopedNamespaces", "leaderElection"].into_iter();
    let named = named.filter(|value| text.contains(value)).map(|value| match value {
        "additionalScopedNamespaces" => format!("{value}={{{namespace}}}"),
        "leaderElection" => format!("{value}.namespace={namespace}"),
        value => format!("{value}={namespace}"),
    });
    let set: Vec<_> = named.collect();
    rendered(&["--namespace", namespace, "--values", file.to_str().unwrap(), "--set", &set.join(",")])
}

#[test]
fn it_is_clean_and_renders_with_every_kind_of_values() {
    for file in values() {
        let file = file.to_str().unwrap();
        helm(&["lint", "--strict", CHART, "--values", file]).unwrap_or_else(|error| panic!("{file}: {error}"));
        let objects = rendered(&["--values", file]);
        assert_eq!(of_kind(&objects, "Deployment").len(), 2, "{file}");
        let services = of_kind(&objects, "Service").into_iter().filter(|service| !name(service).ends_with("-metrics"));
        assert_eq!(services.count(), 2, "{file}: that which is asked, and by which peers are found");
        let mut names: Vec<_> =
            objects.iter().map(|o| (o["kind"].as_str(), o["metadata"]["namespace"].as_str(), name(o))).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{file}: an object is there twice");
    }
}

#[tokio::test]
async fn the_api_server_takes_what_it_renders() {
    let world = World::new("chart").await;
    for file in values() {
        let mut objects = rendered_within(&world.namespace, &file);
        // The control plane does not have the definitions of these kinds.
        objects.retain(|object| object["kind"] != "ReferenceGrant" && object["kind"] != "BackendTLSPolicy");
        objects.retain(|object| object["apiVersion"] != "monitoring.coreos.com/v1");
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let apply = ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict", "-f", "-"];
        let done = world.plane.kubectl_with_input(&apply, &objects.to_string());
        assert!(done.is_ok(), "{}: {}", file.display(), done.unwrap_err());
    }
}

#[tokio::test]
async fn its_pods_are_admitted_where_pod_security_is_restricted() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let world = World::new("chart").await.beside("restricted", labels).await;
    for file in values() {
        let objects = rendered_within(&world.namespace, &file);
        // The Pod of `helm test` is tried like a template of Pods.
        let tests = of_kind(&objects, "Pod")
            .into_iter()
            .map(|pod| json!({"metadata": {"name": name(pod)}, "spec": {"template": pod}}));
        let tests: Vec<_> = tests.collect();
        for deployment in of_kind(&objects, "Deployment").into_iter().chain(&tests) {
            let told = world.tries_pod_of(deployment).await;
            assert!(told.is_ok(), "{}: {}: {}", file.display(), name(deployment), told.unwrap_err());
        }
    }
    // That it is checked at all.
    let loose = rendered(&["--set", "securityContext.allowPrivilegeEscalation=true"]);
    for deployment in of_kind(&loose, "Deployment") {
        let told = world.tries_pod_of(deployment).await.unwrap_err();
        assert!(told.contains("violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation"), "{told}");
    }
}

impl World {
    /// What the API server says to a Pod of this Deployment, which is not made. Of Deployments it would ask nothing.
    pub(crate) async fn tries_pod_of(&self, deployment: &Value) -> Result<Pod, String> {
        let mut pod = deployment["spec"]["template"].clone();
        // No Pod is admitted without its account.
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
        let patch = Patch::Apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}));
        self.api::<ServiceAccount>().patch(&account, &PatchParams::apply("test"), &patch).await.map_err(message)?;
        pod["metadata"]["name"] = deployment["metadata"]["name"].clone();
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        self.api::<Pod>().create(&dry_run, &read(&pod)).await.map_err(message)
    }
}

#[test]
fn a_value_that_does_not_exist_or_is_of_another_form_is_refused_with_its_place() {
    for (set, place, told) in [
        ("nosuch=1", "''", "additional properties 'nosuch' not allowed"),
        ("enabled=yes", "'/enabled'", "got string, want boolean"),
        ("image.nosuch=1", "'/image'", "additional properties 'nosuch' not allowed"),
        ("imagePullSecrets[0].nosuch=1", "'/imagePullSecrets/0'", "additional properties 'nosuch' not allowed"),
        ("crds.nosuch=1", "'/crds'", "additional properties 'nosuch' not allowed"),
        ("rbac.nosuch=1", "'/rbac'", "additional properties 'nosuch' not allowed"),
        ("restart.nosuch=1", "'/restart'", "additional properties 'nosuch' not allowed"),
        ("grants.nosuch=1", "'/grants'", "additional properties 'nosuch' not allowed"),
        ("grants.enabled=yes", "'/grants/enabled'", "must be one of 'auto', true, false"),
        ("exposure.nosuch=1", "'/exposure'", "additional properties 'nosuch' not allowed"),
        ("exposure.kinds={Pod}", "'/exposure/kinds/0'", "must be one of 'HTTPRoute', 'Ingress', 'Route'"),
        ("exposure.kinds={Ingress,Ingress}", "'/exposure/kinds'", "items at 0 and 1 are equal"),
        ("exposure.gateway[0].namespace=a", "'/exposure/gateway/0'", "missing property 'name'"),
        ("exposure.ingress.nosuch=1", "'/exposure/ingress'", "additional properties 'nosuch' not allowed"),
        ("exposure.proxies[0].labels=1", "'/exposure/proxies/0'", "additional properties 'labels' not allowed"),
        ("exposure.referenceGrants.nosuch=1", "'/exposure/referenceGrants'", "additional properties 'nosuch'"),
        (
            "exposure.referenceGrants.namespaces={A}",
            "'/exposure/referenceGrants/namespaces/0'",
            "does not match pattern",
        ),
        ("exposure.askByHttps=1", "'/exposure/askByHttps'", "must be one of 'auto', true, false"),
        ("exposure.probeLocal=1", "'/exposure/probeLocal'", "got number, want boolean"),
        ("log.nosuch=1", "'/log'", "additional properties 'nosuch' not allowed"),
        ("operator.nosuch=1", "'/operator'", "additional properties 'nosuch' not allowed"),
        ("verifier.replicas=1", "'/verifier'", "additional properties 'replicas' not allowed"),
        (
            "verifier.serviceAccount.nosuch=1",
            "'/verifier/serviceAccount'",
            "additional properties 'nosuch' not allowed",
        ),
        ("verifier.service.nosuch=1", "'/verifier/service'", "additional properties 'nosuch' not allowed"),
        (
            "verifier.podDisruptionBudget.nosuch=1",
            "'/verifier/podDisruptionBudget'",
            "additional properties 'nosuch' not allowed",
        ),
        ("operator.livenessProbe.nosuch=1", "'/operator/livenessProbe'", "additional properties 'nosuch' not allowed"),
        (
            "operator.readinessProbe.httpGet=1",
            "'/operator/readinessProbe'",
            "additional properties 'httpGet' not allowed",
        ),
        ("operator.service.annotations.a=b", "'/operator/service'", "false schema"),
        ("operator.tls.secretName=a", "'/operator/tls'", "false schema"),
        ("operator.plainHttp=false", "'/operator/plainHttp'", "false schema"),
        ("verifier.plainHttp=no", "'/verifier/plainHttp'", "got string, want boolean"),
        ("verifier.tls.nosuch=1", "'/verifier/tls'", "additional properties 'nosuch' not allowed"),
        ("verifier.tls.enabled=1", "'/verifier/tls/enabled'", "got number, want boolean"),
        ("verifier.tls.secretName=A", "'/verifier/tls/secretName'", "does not match pattern"),
        ("verifier.tls.caConfigMapName=A", "'/verifier/tls/caConfigMapName'", "does not match pattern"),
        (
            "verifier.tls.clientCA.secretName=a,verifier.tls.clientCA.configMapName=b",
            "'/verifier/tls/clientCA/configMapName'",
            "value must be ''",
        ),
        ("operator.audit.mode=off", "'/operator/audit'", "false schema"),
        ("verifier.audit.mode=false", "'/verifier/audit/mode'", "value must be one of 'drop', 'block', 'off'"),
        ("verifier.audit.to=stderr", "'/verifier/audit/to'", "value must be one of 'stdout', 'otlp'"),
        ("verifier.audit.sample=0", "'/verifier/audit/sample'", "minimum: got 0, want 1"),
        ("verifier.audit.sample=1.5", "'/verifier/audit/sample'", "does not match pattern"),
        ("verifier.audit.nosuch=1", "'/verifier/audit'", "additional properties 'nosuch' not allowed"),
        ("operator.introspection.enabled=true", "'/operator/introspection'", "false schema"),
        ("verifier.introspection.enabled=yes", "'/verifier/introspection/enabled'", "got string, want boolean"),
        ("verifier.introspection.nosuch=1", "'/verifier/introspection'", "additional properties 'nosuch' not allowed"),
        ("scopedRBAC=yes", "'/scopedRBAC'", "got string, want boolean"),
        ("highAvailability.nosuch=1", "'/highAvailability'", "additional properties 'nosuch' not allowed"),
        ("helmTest.timeout=soon", "'/helmTest/timeout'", "does not match pattern"),
        ("crds.annotations.a=1", "'/crds/annotations/a'", "got number, want string"),
        ("operator.autoscaling.enabled=true", "'/operator/autoscaling'", "false schema"),
        ("verifier.autoscaling.nosuch=1", "'/verifier/autoscaling'", "additional properties 'nosuch' not allowed"),
        ("verifier.autoscaling.minReplicas=0", "'/verifier/autoscaling/minReplicas'", "minimum: got 0, want 1"),
        ("verifier.service.type=ExternalName", "'/verifier/service/type'", "must be one of 'ClusterIP', 'NodePort'"),
        ("verifier.service.port=0", "'/verifier/service/port'", "minimum: got 0, want 1"),
        ("verifier.service.ipFamilies={IPv5}", "'/verifier/service/ipFamilies/0'", "must be one of 'IPv4', 'IPv6'"),
        ("verifier.antiAffinity=Some", "'/verifier/antiAffinity'", "must be one of 'Preferred', 'Required', 'None'"),
        ("verifier.hostUsers=no", "'/verifier/hostUsers'", "got string, want null or boolean"),
        ("verifier.dnsPolicy=Odd", "'/verifier/dnsPolicy'", "must be one of '', 'ClusterFirst'"),
        ("operator.strategy=Recreate", "'/operator/strategy'", "got string, want object"),
        (
            "operator.networkPolicy.ingress.proxies.enabled=true",
            "'/operator/networkPolicy/ingress/proxies'",
            "false schema",
        ),
        (
            "verifier.networkPolicy.egress.endpoints.enabled=true",
            "'/verifier/networkPolicy/egress/endpoints'",
            "false schema",
        ),
        (
            "verifier.networkPolicy.ingress.proxies.from[0].labels=1",
            "'/verifier/networkPolicy/ingress/proxies/from/0'",
            "additional properties 'labels' not allowed",
        ),
        (
            "verifier.networkPolicy.ingress.apiServer.cidrs={10.0.0.1}",
            "'/verifier/networkPolicy/ingress/apiServer/cidrs/0'",
            "does not match pattern",
        ),
        (
            "verifier.networkPolicy.egress.otlp.enabled=yes",
            "'/verifier/networkPolicy/egress/otlp/enabled'",
            "must be one of 'auto', true, false",
        ),
        (
            "verifier.networkPolicy.egress.dns.ports={dns}",
            "'/verifier/networkPolicy/egress/dns/ports/0'",
            "got string, want integer",
        ),
        ("operator.replicaCount=two", "'/operator/replicaCount'", "got string, want integer"),
        ("operator.replicaCount=-1", "'/operator/replicaCount'", "minimum: got -1, want 0"),
        ("revisionHistoryLimit=-1", "'/revisionHistoryLimit'", "minimum: got -1, want 0"),
        (
            "verifier.podDisruptionBudget.minAvailable=1,verifier.podDisruptionBudget.maxUnavailable=1",
            "'/verifier/podDisruptionBudget/maxUnavailable'",
            "value must be ''",
        ),
        (
            "verifier.podDisruptionBudget.minAvailable=most",
            "'/verifier/podDisruptionBudget/minAvailable'",
            "does not match pattern",
        ),
        ("operator.livenessProbe.periodSeconds=0", "'/operator/livenessProbe/periodSeconds'", "minimum: got 0, want 1"),
        ("operator.extraVolumes=x", "'/operator/extraVolumes'", "got string, want array"),
        ("verifier.extraVolumeMounts[0]=x", "'/verifier/extraVolumeMounts/0'", "got string, want object"),
        ("verifier.extraContainers[0]=x", "'/verifier/extraContainers/0'", "got string, want object"),
        ("extraObjects[0]=1", "'/extraObjects/0'", "got number, want string or object"),
        ("namespaceOverride=Issuers", "'/namespaceOverride'", "does not match pattern"),
        ("crds.enabled=yes", "'/crds/enabled'", "got string, want boolean"),
        ("rbac.create=1", "'/rbac/create'", "got number, want boolean"),
        ("scopedNamespace=Team_A", "'/scopedNamespace'", "does not match pattern"),
        ("additionalScopedNamespaces=b", "'/additionalScopedNamespaces'", "got string, want array"),
        ("additionalScopedNamespaces={B}", "'/additionalScopedNamespaces/0'", "does not match pattern"),
        ("additionalScopedNamespaces={b,b}", "'/additionalScopedNamespaces'", "items at 0 and 1 are equal"),
        ("fullnameOverride=9lives", "'/fullnameOverride'", "does not match pattern"),
        ("image.digest=latest", "'/image/digest'", "does not match pattern"),
        ("image.tag=1", "'/image/tag'", "got number, want string"),
        ("image.repository=", "'/image/repository'", "minLength"),
        ("image.pullPolicy=Sometimes", "'/image/pullPolicy'", "must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("admission.stamps=yes", "'/admission/stamps'", "must be one of 'auto', 'always', 'never'"),
        ("log.level=warning", "'/log/level'", "does not match pattern"),
        ("log.level=loud", "'/log/level'", "does not match pattern"),
        ("global.imagePullSecrets[0]=", "'/global/imagePullSecrets/0'", "minLength"),
        ("global.imagePullSecrets[0].other=x", "'/global/imagePullSecrets/0'", "missing property 'name'"),
        ("metrics.nosuch=1", "'/metrics'", "additional properties 'nosuch' not allowed"),
        ("metrics.serviceMonitor.interval=30", "'/metrics/serviceMonitor/interval'", "got number, want string"),
        ("metrics.podMonitor.renderMode=always", "'/metrics/podMonitor/renderMode'", "must be one of 'skipIfMissing'"),
        ("metrics.prometheusRule.for=5 min", "'/metrics/prometheusRule/for'", "does not match pattern"),
        ("metrics.prometheusRule.nosuch=1", "'/metrics/prometheusRule'", "additional properties 'nosuch' not allowed"),
        ("metrics.grafanaDashboard.enabled=1", "'/metrics/grafanaDashboard/enabled'", "got number, want boolean"),
        ("log.format=xml", "'/log/format'", "must be one of 'json', 'text'"),
        ("operator.extraArgs=x", "'/operator/extraArgs'", "got string, want array"),
        ("commonLabels.a=1", "'/commonLabels/a'", "got number, want string"),
    ] {
        let error = template(&["--set", set]).expect_err(set);
        let said = format!("at {place}: ");
        assert!(error.contains(&said) && error.contains(told), "{set}: {error}");
    }
}

/// A schema's own properties, or those of the one that it refers to.
fn properties<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Map<String, Value>> {
    let referred = schema["$ref"].as_str().map(|place| root.pointer(place.trim_start_matches('#')).unwrap());
    let schema = referred.unwrap_or(schema);
    let properties = schema["properties"].as_object()?;
    assert_eq!(schema["additionalProperties"], false, "it refuses what it does not know: {schema}");
    Some(properties)
}

/// The paths of all values that a schema knows and that hold no further values it knows.
fn known(root: &Value, schema: &Value, path: &str) -> BTreeSet<String> {
    let Some(properties) = properties(root, schema) else { return BTreeSet::from([path.to_owned()]) };
    properties.iter().flat_map(|(key, inner)| known(root, inner, &format!("{path}/{key}"))).collect()
}

/// The schema without what no values file holds: `global` and `enabled` are a parent chart's, and nobody asks the
/// operator.
fn schema() -> (Value, BTreeSet<String>) {
    let text = fs::read_to_string(root().join("charts/tokenry/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let mut paths = known(&schema, &schema, "");
    assert!(paths.remove("/global") && paths.remove("/enabled"));
    let serving = [
        "/operator/service/",
        "/operator/tls/",
        "/operator/plainHttp",
        "/operator/audit/",
        "/operator/introspection/",
        "/operator/autoscaling/",
        "/operator/networkPolicy/ingress/proxies/",
        "/verifier/networkPolicy/egress/endpoints/",
    ];
    let all = paths.len();
    paths.retain(|path| !serving.iter().any(|of| path.starts_with(of)));
    assert_eq!(paths.len(), all - 32);
    (schema, paths)
}

fn values_of(file: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn the_values_and_their_schema_know_the_same() {
    let (schema, known) = schema();
    let values = values_of(&root().join("charts/tokenry/values.yaml"));
    for path in &known {
        assert!(values.pointer(path).is_some(), "{path} is in values.schema.json and not in values.yaml");
    }
    let mut places = vec![(String::new(), &schema, &values)];
    while let Some((path, inner, values)) = places.pop() {
        let Some(properties) = properties(&schema, inner) else { continue };
        for (key, value) in values.as_object().unwrap() {
            let path = format!("{path}/{key}");
            let inner = properties.get(key);
            let inner = inner.unwrap_or_else(|| panic!("{path} is in values.yaml and not in values.schema.json"));
            places.push((path, inner, value));
        }
    }
}

#[test]
fn each_value_is_tried() {
    let (_, known) = schema();
    let tried: Vec<_> = values().iter().map(|file| values_of(file)).collect();
    // What is the same for both components is tried for one of them.
    let other = |path: &str| match path.strip_prefix("/operator/") {
        Some(rest) => format!("/verifier/{rest}"),
        None => path.replacen("/verifier/", "/operator/", 1),
    };
    let untried = known
        .iter()
        .filter(|path| !tried.iter().any(|v| v.pointer(path).or_else(|| v.pointer(&other(path))).is_some()));
    assert_eq!(untried.collect::<Vec<_>>(), Vec::<&String>::new(), "no file of charts/tokenry/ci sets these");
}

#[test]
fn workloads_may_be_restarted_only_where_that_is_wanted() {
    let grants = |enabled: bool| {
        let objects = rendered(&["--set", &format!("restart.enabled={enabled}")]);
        let role = of_kind(&objects, "ClusterRole").into_iter().find(|role| name(role) == "tokenry-operator").unwrap();
        let groups = |rule: &Value| rule["apiGroups"].as_array().unwrap().contains(&"apps".into());
        role["rules"].as_array().unwrap().iter().any(groups)
    };
    assert_eq!((grants(true), grants(false)), (true, false));
}

#[test]
fn rights_are_granted_by_a_new_release_and_where_that_is_wanted() {
    let grants = |args: &[&str]| {
        let objects = rendered(args);
        let roles = of_kind(&objects, "ClusterRole").into_iter();
        let role = { roles }.find(|role| name(role) == "tokenry-operator");
        let groups = |rule: &Value| rule["apiGroups"] == json!(["rbac.authorization.k8s.io"]);
        let granted = role.is_some_and(|role| role["rules"].as_array().unwrap().iter().any(groups));
        let deployments = of_kind(&objects, "Deployment").into_iter();
        let deployment = { deployments }.find(|deployment| name(deployment) == "tokenry-operator").unwrap();
        let args: Vec<String> = read(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
        (granted, args.contains(&"--grants".to_owned()))
    };
    for (args, wanted) in [
        (&[][..], (true, true)),
        (&["--set", "grants.enabled=true"], (true, true)),
        (&["--set", "grants.enabled=false"], (false, false)),
        // Nobody can be asked about the release before.
        (&["--is-upgrade"], (false, false)),
        (&["--is-upgrade", "--set", "grants.enabled=true"], (true, true)),
        (&["--set", "rbac.create=false"], (false, false)),
        (&["--set", "rbac.create=false,grants.enabled=true"], (false, true)),
        // Without the policies nothing holds the operator to its own Roles.
        (&["--set", "admission.enabled=false"], (false, false)),
        (&["--set", "admission.enabled=false,grants.enabled=true"], (true, true)),
    ] {
        assert_eq!(grants(args), wanted, "{args:?}");
    }
}

/// The arguments of the operator.
fn operator_args(objects: &[Value]) -> Vec<String> {
    let deployments = of_kind(objects, "Deployment").into_iter();
    let deployment = { deployments }.find(|deployment| name(deployment).ends_with("-operator")).unwrap();
    read(&deployment["spec"]["template"]["spec"]["containers"][0]["args"])
}

#[test]
fn an_election_has_its_flags_and_its_rights_only_where_it_is_on() {
    let leads = |sets: &str| {
        let objects = rendered(&["--set", sets]);
        let named = objects.iter().filter(|object| name(object).ends_with("-operator-leader")).count();
        let args = operator_args(&objects).into_iter().filter(|arg| arg.starts_with("--leader-elect"));
        (named, args.collect::<Vec<_>>())
    };
    let usual = ["", "ion-namespace=tokenry-system", "ion-name=tokenry-operator", "ion-lease-duration=15s"];
    let rest = ["ion-renew-deadline=10s", "ion-retry-period=2s"];
    let usual: Vec<_> = usual.iter().chain(&rest).map(|end| format!("--leader-elect{end}")).collect();
    assert_eq!(leads("revisionHistoryLimit=1"), (2, usual.clone()));
    assert_eq!(leads("leaderElection=null"), (2, usual.clone()), "values of an older chart");
    assert_eq!(leads("leaderElection.enabled=false"), (0, vec![]));
    assert_eq!(leads("rbac.create=false"), (0, vec![]), "nobody has granted rights for the Lease");
    assert_eq!(leads("rbac.create=false,leaderElection.enabled=true"), (0, usual));
    let (_, elsewhere) = leads("leaderElection.namespace=leases,leaderElection.leaseDuration=1m,fullnameOverride=x");
    for arg in ["namespace=leases", "name=x-operator", "lease-duration=1m"] {
        assert!(elsewhere.contains(&format!("--leader-election-{arg}")), "{elsewhere:?}");
    }
    let objects = rendered(&["--set", "leaderElection.namespace=leases"]);
    let binding = objects.iter().find(|object| object["kind"] == "RoleBinding" && name(object).ends_with("-leader"));
    assert_eq!(binding.unwrap()["metadata"]["namespace"], "leases");
}

#[test]
fn high_availability_gives_both_programs_a_second_replica_and_a_budget() {
    let replicas = |sets: &str| {
        let objects = rendered(&["--set", sets]);
        let deployments = of_kind(&objects, "Deployment").into_iter();
        let replicas: Vec<_> = deployments.map(|it| it["spec"]["replicas"].as_u64().unwrap()).collect();
        (replicas, of_kind(&objects, "PodDisruptionBudget").len())
    };
    assert_eq!(replicas("highAvailability.enabled=false"), (vec![1, 2], 1));
    assert_eq!(replicas("highAvailability=null"), (vec![1, 2], 1));
    assert_eq!(replicas("highAvailability.enabled=true,verifier.replicaCount=1"), (vec![2, 2], 2));
    assert_eq!(replicas("highAvailability.enabled=true,operator.replicaCount=3"), (vec![3, 2], 2));
}

#[test]
fn the_audit_log_of_the_verifier_is_as_the_values_say() {
    let args = |sets: &[&str]| -> Vec<String> {
        let objects = rendered(sets);
        let deployments = of_kind(&objects, "Deployment").into_iter();
        let deployment = { deployments }.find(|deployment| name(deployment).ends_with("-verifier")).unwrap();
        let args: Vec<String> = read(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
        args.into_iter().filter(|arg| arg.starts_with("--audit")).collect()
    };
    assert_eq!(args(&[]), ["--audit=drop", "--audit-sample=1", "--audit-to=stdout"]);
    let chosen = "verifier.audit.mode=off,verifier.audit.sample=0.0001,verifier.audit.to=otlp";
    assert_eq!(args(&["--set", chosen]), ["--audit=off", "--audit-sample=0.0001", "--audit-to=otlp"]);
    assert!(args(&["--set", "verifier.audit.sample=100000"]).contains(&"--audit-sample=100000".to_owned()));
    assert!(!operator_args(&rendered(&[])).iter().any(|arg| arg.starts_with("--audit")));
}

/// The settings for exposing endpoints that the operator gets.
fn exposure(objects: &[Value]) -> ExposureConfig {
    let args = operator_args(objects);
    let json = args.iter().find_map(|arg| arg.strip_prefix("--exposure=")).unwrap();
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_kind_that_exposes_endpoints_may_be_made_only_where_it_is_switched_on() {
    let on = |kinds: &[PieceKind]| {
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        let set = format!("exposure.kinds={}", json!(names));
        let (all, scoped) = (rendered(&["--set-json", &set]), "scopedNamespace=team-a");
        let scoped = rendered(&["--set-json", &set, "--set", scoped]);
        let wanted = BTreeSet::from_iter(kinds.iter().copied());
        assert_eq!((exposure(&all).kinds, exposure(&scoped).kinds), (wanted.clone(), wanted));
        (Grants::of(&all).to("tokenry-operator"), Grants::of(&scoped).to("tokenry-operator"))
    };
    let none = on(&[]);
    let added = |all: &BTreeSet<Right>, none: &BTreeSet<Right>| all.difference(none).map(told).collect::<BTreeSet<_>>();
    for kind in PieceKind::ALL.into_iter().filter(|kind| *kind != PieceKind::Service) {
        let (all, scoped) = on(&[kind]);
        let wanted: BTreeSet<_> = operator::exposing_rights(kind).iter().map(ToString::to_string).collect();
        let rights = wanted.iter().filter(|right| right.contains("/custom-host")).count();
        assert_eq!(rights, if kind == PieceKind::Route { 2 } else { 0 });
        assert_eq!(added(&all[&None], &none.0[&None]), wanted);
        let team = Some("team-a".to_owned());
        // Classes lie in no namespace, and a Gateway can lie in any.
        let is_outside = |right: &String| ["list ingressclasses", "get gateway"].iter().any(|it| right.starts_with(it));
        let (outside, inside) = wanted.into_iter().partition(is_outside);
        assert_eq!(added(&scoped[&team], &none.1[&team]), inside);
        let nothing = BTreeSet::new();
        let seen = added(scoped.get(&None).unwrap_or(&nothing), none.1.get(&None).unwrap_or(&nothing));
        assert_eq!(seen, outside, "{}: rights outside the namespace", kind.name());
    }
    let by_default = [PieceKind::NetworkPolicy, PieceKind::HttpRoute, PieceKind::Ingress];
    assert_eq!(exposure(&rendered(&[])).kinds, BTreeSet::from(by_default));
    assert_eq!(Grants::of(&rendered(&[])).to("tokenry-operator"), on(&by_default).0);
}

#[test]
fn the_defaults_for_endpoints_reach_the_operator() {
    let full = root().join("charts/tokenry/ci/full-values.yaml");
    let objects = rendered(&["--values", full.to_str().unwrap()]);
    let config = exposure(&objects);
    let verifier = config.verifier.unwrap();
    let service = of_kind(&objects, "Service").into_iter().find(|service| name(service) == verifier.name).unwrap();
    assert_eq!(service["metadata"]["namespace"], *verifier.namespace);
    let https = verifier.https.unwrap();
    assert_eq!((&*https.ca, &*https.ca_secret), ("verifier-ca", "my-issuer-verifier-ca"));
    let ports = &service["spec"]["ports"];
    assert_eq!((&ports[0]["port"], &ports[1]["port"]), (&json!(verifier.port), &json!(https.port)));
    let peer = |value: Value| Some(read::<PodPeer>(&value));
    let deployments = of_kind(&objects, "Deployment").into_iter();
    let deployment = { deployments }.find(|deployment| name(deployment).ends_with("-operator")).unwrap();
    let home = json!({"matchLabels": {"kubernetes.io/metadata.name": deployment["metadata"]["namespace"]}});
    let pods = &deployment["spec"]["selector"];
    assert_eq!(config.operator, peer(json!({"namespaceSelector": home, "podSelector": pods})));
    let values = &values_of(&full)["exposure"];
    assert_eq!(config.proxies.into_iter().next(), peer(values["proxies"][0].clone()));
    assert_eq!(json!(config.gateway), values["gateway"]);
    assert_eq!(json!(config.ingress), values["ingress"]);
    assert!(operator_args(&objects).contains(&"--probe-local".to_owned()));
    let plain = rendered(&[]);
    assert!(!operator_args(&plain).contains(&"--probe-local".to_owned()));
    assert_eq!(exposure(&plain).ingress, None);
    let cluster_class = rendered(&["--set-json", "exposure.ingress={}"]);
    assert_eq!(exposure(&cluster_class).ingress, Some(IngressTemplate::default()));
}

#[test]
fn guards_ask_by_https_where_they_can_verify_the_verifier_and_no_other_way_is_without_a_message() {
    let named = "verifier.tls.secretName=a";
    let with_ca = "verifier.tls.secretName=a,verifier.tls.caConfigMapName=b";
    let demanding = "verifier.tls.clientCA.secretName=a";
    let ports = |sets: &[&str]| {
        let verifier = exposure(&rendered(&["--set", &sets.join(",")])).verifier;
        verifier.map(|verifier| (verifier.port, verifier.https.map(|https| https.ca)))
    };
    let (plain, own) = ((Some(80), None), (Some(80), Some("tokenry-verifier-tls-ca".to_owned())));
    let (alone, off) = ("verifier.plainHttp=false", "exposure.askByHttps=false");
    for (sets, wanted) in [
        (&["exposure.askByHttps=auto"][..], Some(own.clone())),
        (&["exposure.askByHttps=true"], Some(own.clone())),
        (&[off], Some(plain.clone())),
        (&["verifier.tls.enabled=false"], Some(plain.clone())),
        (&["rbac.create=false"], Some(plain.clone())),
        (&[named], Some(plain.clone())),
        (&[with_ca], Some((Some(80), Some("b".to_owned())))),
        (&[with_ca, demanding], Some(plain.clone())),
        (&[demanding], Some(plain)),
        (&[alone], Some((None, own.1))),
        (&[alone, with_ca], Some((None, Some("b".to_owned())))),
        (&[alone, named, off], None),
        (&[alone, demanding, off], None),
    ] {
        assert_eq!(ports(sets), wanted, "{sets:?}");
    }
    let (no_ca, no_pair) = ("name the ConfigMap that has it in verifier.tls.caConfigMapName", "clientCA demands one");
    for (sets, told) in [
        (&["exposure.askByHttps=true", named][..], no_ca),
        (&["exposure.askByHttps=true", demanding], no_pair),
        (&["exposure.askByHttps=true", "verifier.tls.enabled=false"], "set verifier.tls.enabled"),
        (&[alone, named], no_ca),
        (&[alone, demanding], no_pair),
        (&[alone, demanding], "If no endpoint has a guard, set exposure.askByHttps: false"),
    ] {
        let error = template(&["--set", &sets.join(",")]).unwrap_err();
        assert!(
            error.contains("guards cannot ask the verifier by HTTPS: ") && error.contains(told),
            "{sets:?} {error}"
        );
    }
}

#[test]
fn gateways_verify_the_verifier_by_a_policy_of_a_version_that_the_cluster_serves() {
    const V1: &str = "v1/Pod,gateway.networking.k8s.io/v1/BackendTLSPolicy";
    const ALPHA: &str = "v1/Pod,gateway.networking.k8s.io/v1alpha3/BackendTLSPolicy";
    let listed = "exposure.referenceGrants.namespaces={events}";
    let policies = |served: &str, set: &str| {
        let objects = rendered(&["--api-versions", served, "--set", set]);
        let policies = of_kind(&objects, "BackendTLSPolicy").into_iter();
        policies.map(|policy| policy["apiVersion"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (v1, alpha) = ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha3");
    for (served, set, wanted) in [
        // Nobody was asked.
        ("", "log.level=info", &[][..]),
        ("", listed, &[v1]),
        // A server was. The namespaces of guards need not be listed.
        (V1, "log.level=info", &[v1]),
        (ALPHA, "log.level=info", &[alpha]),
        (&format!("{V1},{ALPHA}"), listed, &[v1]),
        ("v1/Pod", listed, &[]),
        ("", &format!("exposure.askByHttps=false,{listed}"), &[]),
        // A guard that goes back to plain HTTP never lacks it.
        (V1, "exposure.askByHttps=false", &[v1]),
        (V1, "verifier.tls.enabled=false", &[]),
        (V1, "verifier.tls.secretName=a", &[]),
        (V1, "exposure.kinds={Ingress}", &[]),
    ] {
        assert_eq!(policies(served, set), wanted, "{served} {set}");
    }
    let alone = format!("verifier.plainHttp=false,{listed}");
    let error = template(&["--api-versions", "v1/Pod", "--set", &alone]).unwrap_err();
    assert!(error.contains("install Gateway API 1.4 or newer, or leave verifier.plainHttp at true"), "{error}");
    let named = rendered(&["--set", listed, "--set", "verifier.tls.secretName=a,verifier.tls.caConfigMapName=b"]);
    let authority = &of_kind(&named, "BackendTLSPolicy")[0]["spec"]["validation"]["caCertificateRefs"][0];
    assert_eq!((&authority["kind"], &authority["name"]), (&json!("ConfigMap"), &json!("b")));
}

#[test]
fn guards_refer_to_the_verifier_from_the_namespaces_that_are_listed_alone() {
    let grants = |count: usize| -> Vec<Value> {
        let names: Vec<_> = (0..count).map(|nth| format!("team-{nth}")).collect();
        let objects = rendered(&["--set-json", &format!("exposure.referenceGrants.namespaces={}", json!(names))]);
        of_kind(&objects, "ReferenceGrant").into_iter().cloned().collect()
    };
    assert!(grants(0).is_empty());
    let two = grants(2);
    let from =
        |kind: &str, group: &str, nth: usize| json!({"group": group, "kind": kind, "namespace": format!("team-{nth}")});
    let both = |nth| {
        let route = from("HTTPRoute", "gateway.networking.k8s.io", nth);
        [route, from("SecurityPolicy", "gateway.envoyproxy.io", nth)]
    };
    let to = json!([{"group": "", "kind": "Service", "name": "tokenry-verifier"}]);
    assert_eq!(two.len(), 1);
    assert_eq!(two[0]["metadata"]["namespace"], NAMESPACE);
    let of_both = [both(0), both(1)].concat();
    assert_eq!(two[0]["spec"], json!({"from": of_both, "to": to}));
    // Gateway API admits 16 entries in each of them.
    let many = grants(9);
    assert_eq!(many.iter().map(name).collect::<Vec<_>>(), ["tokenry-verifier", "tokenry-verifier-1"]);
    let sizes: Vec<_> = many.iter().map(|grant| grant["spec"]["from"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [16, 2]);
}

#[test]
fn the_verifier_can_read_no_secret_and_write_statuses_only_where_admission_holds_it_to_its_part() {
    for file in values() {
        let file = file.to_str().unwrap();
        let objects = rendered(&["--values", file]);
        let grants = Grants::of(&objects);
        let account =
            of_kind(&objects, "Deployment").into_iter().find(|deployment| name(deployment).ends_with("-verifier"));
        let account = account.unwrap()["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap().to_owned();
        let admission = !of_kind(&objects, "ValidatingAdmissionPolicyBinding").is_empty();
        for right in grants.to(&account).into_values().flatten() {
            assert!(!right.resource.contains("secrets") && !right.resource.contains('*'), "{file}: {right}");
            let writes = right.resource == "apitokens/status" && right.verb == "patch" && admission;
            let reviews =
                ["tokenreviews", "subjectaccessreviews"].contains(&&*right.resource) && right.verb == "create";
            let reads = right.verb == "get" && right.resource == "namespaces";
            assert!(["list", "watch"].contains(&right.verb.as_str()) || reads || writes || reviews, "{file}: {right}");
        }
    }
}

#[test]
fn introspection_is_answered_only_where_it_is_switched_on_and_never_for_one_namespace() {
    let reviews = |args: &[&str]| {
        let objects = rendered(args);
        let rights = Grants::of(&objects).to("tokenry-verifier").into_values().flatten().collect::<Vec<_>>();
        let deployments = of_kind(&objects, "Deployment").into_iter();
        let flagged = deployments.filter(|one| one.to_string().contains("--introspection")).map(name);
        (rights.iter().filter(|right| right.verb == "create").count(), flagged.map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(reviews(&[]), (0, vec![]));
    let introspecting = "verifier.introspection.enabled=true";
    assert_eq!(reviews(&["--set", introspecting]), (2, vec!["tokenry-verifier".to_owned()]));
    let error = template(&["--set", introspecting, "--set", "scopedNamespace=team-a"]).unwrap_err();
    assert!(error.contains("Leave out scopedNamespace"), "{error}");
}

#[test]
fn scrapers_prove_themselves_only_where_that_is_switched_on_and_off_takes_its_rights_away() {
    let secure = |args: &[&str]| {
        let objects = rendered(args);
        let grants = Grants::of(&objects);
        let reviews = |account: &str| {
            let rights = grants.to(account).remove(&None).unwrap_or_default();
            rights.into_iter().filter(|right| right.resource.ends_with("reviews")).count()
        };
        let readers =
            grants.for_users().into_iter().filter(|(_, rights)| rights.iter().any(|of| of.resource == "/metrics"));
        let readers: Vec<_> = readers.map(|(role, _)| role.to_owned()).collect();
        let deployments = of_kind(&objects, "Deployment").into_iter();
        let flagged = deployments.filter(|one| one.to_string().contains("--metrics-secure")).count();
        ([reviews("tokenry-operator"), reviews("tokenry-verifier")], readers, flagged)
    };
    let on = ([2, 2], vec!["tokenry-metrics-reader".to_owned()], 2);
    assert_eq!(secure(&[]), ([0, 0], vec![], 0));
    assert_eq!(secure(&["--set", "metrics.secure.enabled=true"]), on);
    assert_eq!(secure(&["--set", "metrics.secure.enabled=true,scopedNamespace=team-a"]), on);
    assert_eq!(secure(&["--set", "metrics.secure.enabled=true,rbac.create=false"]), ([0, 0], vec![], 2));
    let roles_alone = "metrics.secure.enabled=true,scopedNamespace=team-a,scopedRBAC=true";
    let error = template(&["--set", roles_alone]).unwrap_err();
    assert!(error.contains("Leave out scopedRBAC, or set metrics.secure.enabled=false."), "{error}");
    let (container, volumes, _) =
        served("metrics.secure.enabled=true,metrics.secure.secretName=m,verifier.tls.enabled=false");
    assert!(container["args"].as_array().unwrap().contains(&json!("--metrics-tls-key=/etc/tokenry/metrics/tls.key")));
    assert_eq!(volumes, json!([{"name": "tokenry-metrics", "secret": {"secretName": "m", "optional": true}}]));
    let traced = |sets: &str| {
        served(sets).0["args"].as_array().unwrap().iter().filter(|arg| arg.to_string().contains("trace")).count()
    };
    assert_eq!((traced("traces.sample=0.5"), traced("traces.endpoint=http://c:4317")), (0, 1));
}

#[test]
fn one_namespace_is_served_with_rights_in_it_alone() {
    let everywhere = Grants::of(&rendered(&[]));
    let scoped = Grants::of(&rendered(&["--set", "scopedNamespace=team-a"]));
    let by_roles = Grants::of(&rendered(&["--set", "scopedNamespace=team-a,scopedRBAC=true"]));
    for account in ["tokenry-operator", "tokenry-verifier"] {
        let rights = everywhere.to(account).remove(&None).unwrap();
        // Classes lie in no namespace. A Gateway can lie in any.
        let outside = ["ingressclasses", "gateways", "gatewayclasses"];
        let (outside, mut inside): (BTreeSet<_>, BTreeSet<_>) =
            rights.into_iter().partition(|right| outside.contains(&&*right.resource));
        // Its own namespace is read by name.
        let own = |verb: &str| Right { group: String::new(), resource: "namespaces".into(), verb: verb.into() };
        assert!(inside.remove(&own("list")) && inside.insert(own("get")) && inside.contains(&own("watch")));
        let (mut of_scoped, home) = (scoped.to(account), Some(NAMESPACE.to_owned()));
        // The certificate lies in the namespace of the components.
        assert_eq!(of_scoped.remove(&home), everywhere.to(account).remove(&home));
        let mut of_roles = by_roles.to(account);
        assert_eq!(of_roles.remove(&home), everywhere.to(account).remove(&home));
        let inside = (Some("team-a".to_owned()), inside);
        assert_eq!(of_roles, BTreeMap::from([inside.clone()]));
        let outside = (!outside.is_empty()).then_some((None, outside));
        assert_eq!(of_scoped, outside.into_iter().chain([inside]).collect::<BTreeMap<_, _>>());
    }
    let error = template(&["--set", "scopedRBAC=true"]).unwrap_err();
    assert!(error.contains("Set scopedNamespace, or leave out scopedRBAC."), "{error}");
}

#[test]
fn several_namespaces_are_served_with_the_rights_of_one_in_each() {
    let several = "scopedNamespace=team-a,additionalScopedNamespaces={jobs,web,team-a}";
    for roles in ["", ",scopedRBAC=true"] {
        let (one, all) = (format!("scopedNamespace=team-a{roles}"), format!("{several}{roles}"));
        let (one, all) = (rendered(&["--set", &one]), rendered(&["--set", &all]));
        let team = |name: &str| Some(name.to_owned());
        for account in ["tokenry-operator", "tokenry-verifier"] {
            let mut wanted = Grants::of(&one).to(account);
            let inside = wanted[&team("team-a")].clone();
            wanted.extend([(team("jobs"), inside.clone()), (team("web"), inside)]);
            assert_eq!(Grants::of(&all).to(account), wanted, "{account}{roles}");
        }
        // Users are bound to Roles of the same names in each namespace.
        let (few, many) = (of_kind(&one, "Role"), of_kind(&all, "Role"));
        for role in few.iter().filter(|role| role["metadata"]["namespace"] == "team-a") {
            let same =
                many.iter().filter(|other| name(other) == name(role)).map(|other| &other["metadata"]["namespace"]);
            assert_eq!(same.collect::<Vec<_>>(), ["team-a", "jobs", "web"], "{}", name(role));
        }
        for deployment in of_kind(&all, "Deployment") {
            let args: Vec<String> = read(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
            let named = args.iter().filter(|arg| arg.starts_with("--namespace="));
            assert_eq!(named.collect::<Vec<_>>(), ["--namespace=team-a", "--namespace=jobs", "--namespace=web"]);
        }
        let selected = json!({"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", "jobs", "web"]}
        ]});
        for binding in of_kind(&all, "ValidatingAdmissionPolicyBinding") {
            // These judge operator and verifier of the release, wherever they write.
            let of_program = ["-grants", "-verifier"].iter().any(|end| name(binding).ends_with(end));
            let wanted = if of_program { &json!({}) } else { &selected };
            assert_eq!(binding["spec"]["matchResources"]["namespaceSelector"], *wanted, "{}", name(binding));
        }
    }
    let error = template(&["--set", "additionalScopedNamespaces={jobs}"]).unwrap_err();
    assert!(error.contains("Set scopedNamespace, or leave out additionalScopedNamespaces"), "{error}");
    let notes = ["install", "tokenry", CHART, "--dry-run=client", "--namespace", NAMESPACE, "--set", several];
    let told = helm(&notes).unwrap();
    assert!(told.contains("serves namespaces team-a, jobs, web."), "{told}");
}

#[test]
fn with_roles_alone_nothing_but_definitions_and_admission_is_outside_of_namespaces() {
    let objects = rendered(&["--set", "scopedNamespace=team-a,scopedRBAC=true,admission.stamps=always"]);
    let outside = objects.iter().filter(|object| object["metadata"]["namespace"].is_null());
    let mut kinds = BTreeSet::new();
    for object in outside {
        let kind = object["kind"].as_str().unwrap();
        kinds.insert(kind);
        let named = name(object).starts_with("tokenry-team-a-") || kind == "CustomResourceDefinition";
        assert!(named, "releases of one name in two namespaces do not meet: {kind} {}", name(object));
    }
    let admission = |kind: &str| [format!("{kind}AdmissionPolicy"), format!("{kind}AdmissionPolicyBinding")];
    let wanted = ["Mutating", "Validating"].map(admission).concat();
    let wanted = wanted.iter().map(String::as_str).chain(["CustomResourceDefinition"]);
    assert_eq!(kinds, wanted.collect());
}

/// A right as a check names it: `update apitokens.tokenry.dev/status`.
pub(crate) fn told(right: &Right) -> String {
    let (resource, part) = right.resource.split_once('/').map_or((&*right.resource, ""), |(of, part)| (of, part));
    let (dot, slash) = (if right.group.is_empty() { "" } else { "." }, if part.is_empty() { "" } else { "/" });
    format!("{} {resource}{dot}{}{slash}{part}", right.verb, right.group)
}

#[test]
fn operator_and_verifier_check_at_their_start_the_rights_that_the_chart_grants() {
    let grants = Grants::of(&rendered(&["--set", EXPOSING, "--set", REVIEWING_CALLERS]));
    let exposing = PieceKind::ALL.into_iter().filter(|kind| *kind != PieceKind::Service);
    let exposing = exposing.flat_map(operator::exposing_rights).collect();
    let (reviewing, electing) = (REVIEWING.to_vec(), operator::ELECTING.to_vec());
    let further = [operator::GRANTING.to_vec(), operator::CERTIFYING.to_vec(), electing, exposing, reviewing].concat();
    let outside = |right: &&Right| ["ingressclasses", "gateways", "gatewayclasses"].contains(&&*right.resource);
    let roles = Grants::of(&rendered(&["--set", EXPOSING, "--set", "scopedNamespace=team-a,scopedRBAC=true"]));
    let scope = Extent::of(["team-a"]);
    for (Wanted { program, needed, useful }, further) in [(operator::RIGHTS, &*further), (verifier::RIGHTS, &REVIEWING)]
    {
        let account = format!("tokenry-{program}");
        let granted: BTreeSet<_> = grants.to(&account).into_values().flatten().collect();
        // A release for one namespace grants the same for that namespace, but for objects outside of namespaces.
        let inside = [needed, useful, further].concat().into_iter().map(|right| right.within(&scope).to_string());
        let beyond: BTreeSet<_> = granted.iter().filter(outside).map(told).collect();
        let inside: BTreeSet<_> = inside
            .filter(|right| {
                !beyond.contains(right)
                    && !right.ends_with("reviews.authentication.k8s.io")
                    && !right.ends_with("reviews.authorization.k8s.io")
            })
            .collect();
        let by_roles: BTreeSet<_> = roles.to(&account).into_values().flatten().map(|right| told(&right)).collect();
        assert_eq!(by_roles, inside, "{program}");
        let granted: BTreeSet<_> = granted.iter().map(told).collect();
        let checked: Vec<_> = [needed, useful, further].concat().iter().map(ToString::to_string).collect();
        let checked_once: BTreeSet<_> = checked.iter().cloned().collect();
        assert_eq!(checked.len(), checked_once.len(), "{program}: a right is listed twice");
        let (unchecked, ungranted) = (&granted - &checked_once, &checked_once - &granted);
        assert!(unchecked.is_empty(), "{program}: RIGHTS lacks rights that the chart grants: {unchecked:?}");
        assert!(ungranted.is_empty(), "{program}: the chart lacks rights of RIGHTS: {ungranted:?}");
    }
}

#[test]
fn users_are_granted_the_kinds_and_neither_a_status_nor_a_secret() {
    let kinds = BTreeSet::from(KINDS.map(|(_, resource)| ("tokenry.dev", resource)));
    for file in values() {
        let file = file.to_str().unwrap();
        let objects = rendered(&["--values", file]);
        let grants = Grants::of(&objects);
        let mut roles = grants.for_users();
        roles.retain(|name, _| !name.ends_with("-service-binding") && !name.ends_with("-metrics-reader"));
        if roles.is_empty() {
            assert!(file.ends_with("byo-values.yaml") && grants.all().is_empty(), "{file}");
            continue;
        }
        let roles: Vec<_> = roles.into_iter().collect();
        let names: Vec<_> = roles.iter().map(|(name, _)| *name).collect();
        let [admin, edit, keeper, giver, view] = names[..] else { panic!("{file}: {names:?}") };
        assert!(admin.ends_with("-admin") && edit.ends_with("-edit") && view.ends_with("-view"), "{file}: {names:?}");
        assert!(keeper.ends_with("-keeper") && giver.ends_with("-role-giver"), "{file}: {names:?}");
        let (asked_for, roles): (Vec<_>, Vec<_>) =
            roles.into_iter().partition(|(name, _)| [keeper, giver].contains(name));
        let asked_for = asked_for.iter().map(|(_, rights)| rights.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(asked_for.eq([
            vec![
                "revoke organizations of tokenry.dev".to_owned(),
                "assign owners of tokenry.dev".into(),
                "assign policies of tokenry.dev".into()
            ],
            vec!["assign roles of tokenry.dev".into()],
        ]));
        let granted = roles
            .iter()
            .map(|(_, rights)| rights.iter().map(|right| (&*right.group, &*right.resource)).collect::<BTreeSet<_>>());
        let instances = BTreeSet::from([("tokenry.dev", "instances")]);
        assert!(granted.eq([instances.clone(), &kinds - &instances, kinds.clone()]), "{file}");
        let aggregated = of_kind(&objects, "ClusterRole").into_iter().filter(|role| {
            let labels = role["metadata"]["labels"].as_object().unwrap();
            labels.keys().any(|label| label.starts_with("rbac.authorization.k8s.io/aggregate-to-"))
        });
        let aggregated: Vec<_> = aggregated.map(name).collect();
        let wanted = if file.ends_with("scoped-values.yaml") { vec![] } else { vec![view, edit, admin] };
        assert_eq!(aggregated, wanted, "{file}");
    }
}

/// A request about the object `it` of a kind: as a whole, or about a part of it such as `status`.
fn request(verb: &str, path: &str, part: &str, object: &Value) -> http::Request<Vec<u8>> {
    let (request, put) = (Request::new(path), PostParams::default());
    let body = serde_json::to_vec(object).unwrap();
    let nothing = Patch::Merge(json!({}));
    let request = match (verb, part) {
        ("get", "") => request.get("it", &GetParams::default()),
        ("list", "") => request.list(&ListParams::default()),
        ("watch", "") => request.watch(&WatchParams::default().timeout(1), "0"),
        ("create", "") => request.create(&put, body),
        ("update", "") => request.replace("it", &put, body),
        ("patch", "") => request.patch("it", &PatchParams::default(), &nothing),
        ("delete", "") => request.delete("it", &DeleteParams::default()),
        ("deletecollection", "") => request.delete_collection(&DeleteParams::default(), &ListParams::default()),
        ("get", _) => request.get_subresource(part, "it"),
        ("update", _) => request.replace_subresource(part, "it", &put, body),
        ("patch", _) => request.patch_subresource(part, "it", &PatchParams::default(), &nothing),
        _ => panic!("{verb} {part}"),
    };
    request.unwrap()
}

async fn answer(client: &Client, request: http::Request<Vec<u8>>) -> StatusCode {
    client.send(request.map(kube::client::Body::from)).await.unwrap().status()
}

#[tokio::test]
async fn a_user_can_do_what_the_role_says_and_nothing_else() {
    let world = World::new("roles").await;
    let view = (world.acting_by("tokenry-view"), ["get", "list", "watch"].as_slice());
    let all = ["create", "update", "patch", "delete", "deletecollection"].as_slice();
    let (edit, admin) = ((world.acting_by("tokenry-edit"), all), (world.acting_by("tokenry-admin"), all));
    for (kind, resource) in KINDS {
        let (edit, other) = if kind == "Instance" { (&admin, &edit) } else { (&edit, &admin) };
        let path = format!("/apis/tokenry.dev/v1alpha1/namespaces/{}/{resource}", world.namespace);
        let mut spec = if kind == "Instance" { json!({}) } else { json!({"instanceRef": {"name": "eem"}}) };
        if kind == "AccessPolicy" {
            spec["statements"] = json!([{"effect": "Deny", "actions": ["*"]}]);
        }
        let new = json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": {"name": "it"}, "spec": spec});
        // A role is in force some moments after it is bound. Neither of these changes anything.
        for (client, harmless) in [(&view.0, "list"), (&edit.0, "deletecollection")] {
            let allowed = async || answer(client, request(harmless, &path, "", &new)).await.is_success().then_some(());
            world.eventually(&format!("a user may {harmless} {resource}"), allowed).await;
        }
        let object = async || world.client.request(request("get", &path, "", &new)).await.unwrap_or(new.clone());
        let tried = async |verb: &str, part: &str, may: bool, client: &Client| {
            let answer = answer(client, request(verb, &path, part, &object().await)).await;
            assert!(if may { answer.is_success() } else { answer == 403 }, "{verb} {resource} {part}: {answer}");
        };
        for verb in ["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"] {
            // Who may not comes first and finds things as who may.
            let mut users = [&view, edit];
            users.sort_by_key(|(_, verbs)| verbs.contains(&verb));
            for (client, verbs) in users {
                tried(verb, "", verbs.contains(&verb), client).await;
            }
        }
        for verb in all {
            tried(verb, "", false, &other.0).await;
        }
        for verb in ["get", "update", "patch"] {
            tried(verb, "status", false, &view.0).await;
            tried(verb, "status", false, &edit.0).await;
        }
    }
}

#[tokio::test]
async fn a_controller_of_service_bindings_reads_tokens_and_finds_their_secret() {
    let world = World::new("bindings").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "eem", json!({})).await;
    let spec = json!({"instanceRef": {"name": "eem"}, "secret": {"serviceBinding": {}}});
    world.accepts("ApiToken", "it", spec.clone()).await;
    world.await_reason("it", "Active").await;
    let client = world.acting_by("tokenry-service-binding");
    let path = format!("/apis/tokenry.dev/v1alpha1/namespaces/{}/apitokens", world.namespace);
    let new =
        json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "it"}, "spec": spec});
    for verb in ["get", "list", "watch"] {
        let allowed = async || answer(&client, request(verb, &path, "", &new)).await.is_success().then_some(());
        world.eventually(&format!("a controller may {verb} tokens"), allowed).await;
    }
    for verb in ["create", "update", "patch", "delete"] {
        assert_eq!(answer(&client, request(verb, &path, "", &new)).await, 403, "{verb}");
    }
    let read: Value = client.request(request("get", &path, "", &new)).await.unwrap();
    let secret = read["status"]["binding"]["name"].as_str().unwrap();
    assert_eq!(world.key(secret, "type").await.as_deref(), Some("api-token"));
    // By these labels such a controller finds the kind, and gets the role.
    let objects = rendered(&[]);
    let kinds = of_kind(&objects, "CustomResourceDefinition").into_iter();
    let bindable = kinds.filter(|kind| kind["metadata"]["labels"]["servicebinding.io/provisioned-service"] == "true");
    assert_eq!(bindable.map(name).collect::<Vec<_>>(), ["apitokens.tokenry.dev"]);
    let roles = of_kind(&objects, "ClusterRole").into_iter();
    let aggregated = roles.filter(|role| role["metadata"]["labels"]["servicebinding.io/controller"] == "true");
    assert_eq!(aggregated.map(name).collect::<Vec<_>>(), ["tokenry-service-binding"]);
}

#[tokio::test]
async fn a_user_who_may_edit_a_namespace_may_make_tokens_and_write_no_status() {
    let world = World::new("users").await;
    for role in ["view", "edit", "admin"] {
        let args =
            ["create", "rolebinding", role, "--clusterrole", role, "--user", role, "--namespace", &world.namespace];
        world.plane.kubectl(&args).unwrap();
    }
    let may = async |user: &str, verb: &str, kind: &str| {
        world.allows(&asking(user, &[]), verb, (kind, "tokenry.dev"), "").await
    };
    for (_, kind) in KINDS {
        let status = format!("{kind}/status");
        world.await_right(true, &asking(OPERATOR, &[]), "patch", (&status, "tokenry.dev"), "").await;
        // The roles of the cluster take in those of the chart some moments later.
        let is_instance = kind == "instances";
        // Who may write an Instance says who may do what.
        let writer = if is_instance { "admin" } else { "edit" };
        for (user, verb) in [("view", "list"), (writer, "create"), ("admin", "delete")] {
            world.await_right(true, &asking(user, &[]), verb, (kind, "tokenry.dev"), "").await;
        }
        for verb in ["create", "update", "patch", "delete"] {
            assert!(!may("view", verb, kind).await, "{verb} {kind}");
            assert_eq!(may("edit", verb, kind).await, !is_instance, "{verb} {kind}");
        }
        for user in ["view", "edit", "admin"] {
            for verb in ["update", "patch"] {
                assert!(!may(user, verb, &status).await, "{user}: {verb} {status}");
            }
        }
    }
}

#[test]
fn the_definitions_are_those_of_the_program_with_labels_and_to_be_kept() {
    let files = fs::read_dir(root().join("crds")).unwrap().map(|entry| entry.unwrap().path());
    let mut wanted: Vec<CustomResourceDefinition> =
        files.map(|path| serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()).collect();
    let of = |args: &[&str]| -> Vec<CustomResourceDefinition> {
        let mut all: Vec<CustomResourceDefinition> =
            of_kind(&rendered(args), "CustomResourceDefinition").into_iter().map(read).collect();
        all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        all
    };
    wanted.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let keep = BTreeMap::from([("helm.sh/resource-policy".to_owned(), "keep".to_owned())]);
    let noted = BTreeMap::from([("note".to_owned(), "a".to_owned())]);
    for (args, annotations) in [
        (&[][..], Some(keep)),
        (&["--set", "crds.keep=false"][..], None),
        (&["--set", "crds.keep=false,crds.annotations.note=a"], Some(noted)),
    ] {
        let mut rendered = of(args);
        for definition in &mut rendered {
            let mut labels = definition.metadata.labels.take().unwrap();
            assert_eq!(labels["app.kubernetes.io/part-of"], "tokenry");
            labels.retain(|label, _| label.starts_with("servicebinding.io/"));
            definition.metadata.labels = (!labels.is_empty()).then_some(labels);
            assert_eq!(definition.metadata.annotations.take(), annotations);
        }
        assert_eq!(rendered, wanted);
    }
    assert!(of(&["--set", "crds.enabled=false"]).is_empty());
}

#[test]
fn the_page_of_the_chart_in_a_registry_names_what_it_installs() {
    let chart = values_of(&root().join("charts/tokenry/Chart.yaml"));
    let part = |key: &str| -> Vec<Value> {
        let text = chart["annotations"][format!("artifacthub.io/{key}")].as_str().unwrap();
        serde_saphyr::from_str(text).unwrap()
    };
    let objects = rendered(&[]);
    let kind = |definition: &Value| {
        let spec = &definition["spec"];
        (name(definition).to_owned(), spec["names"]["kind"].clone(), spec["versions"][0]["name"].clone())
    };
    let installed: BTreeSet<_> =
        of_kind(&objects, "CustomResourceDefinition").into_iter().map(kind).map(|it| json!(it).to_string()).collect();
    let told = part("crds").into_iter().map(|it| json!([it["name"], it["kind"], it["version"]]).to_string());
    assert_eq!(told.collect::<BTreeSet<_>>(), installed);
    let image = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(part("images")[0]["image"], *image);
    let kinds = ["added", "changed", "deprecated", "removed", "fixed", "security"];
    let changes = part("changes");
    assert!(!changes.is_empty());
    for change in changes {
        assert!(kinds.contains(&change["kind"].as_str().unwrap()) && change["description"].is_string(), "{change}");
    }
    assert!(part("crdsExamples").iter().all(|it| it["apiVersion"] == "tokenry.dev/v1alpha1"));
    for key in ["home", "icon", "kubeVersion", "description"] {
        assert!(chart[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
}

#[test]
fn the_deployments_call_the_program_as_it_can_be_called() {
    // With --help nothing runs, and a wrong argument before it is an error all the same.
    let understands = |args: &[&str]| {
        let called = Command::new(env!("CARGO_BIN_EXE_tokenry")).args(args).arg("--help").output().unwrap();
        called.status.success()
    };
    assert!(!understands(&["operator", "--log-format=xml"]) && !understands(&["operator", "--nosuch"]));
    for file in values() {
        let file = file.to_str().unwrap();
        for deployment in of_kind(&rendered(&["--values", file]), "Deployment") {
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            let args: Vec<String> = read(&container["args"]);
            assert!(understands(&args.iter().map(String::as_str).collect::<Vec<_>>()), "{file}: {args:?}");
            assert!(name(deployment).ends_with(&format!("-{}", args[0])), "{file}: {args:?}");
            let is_plain = !args.contains(&"--plain-http=false".to_owned());
            let is_secure = args.iter().any(|arg| arg.starts_with("--tls-cert="));
            let proves = args.contains(&"--metrics-secure".to_owned());
            let ports = [("http", 8080, is_plain), ("https", 8443, is_secure), ("probes", 8081, true)];
            let ports = ports.into_iter().chain([("metrics", 8444, proves)]);
            let ports = ports.into_iter().filter(|(.., serves)| *serves);
            let ports: Vec<_> = ports.map(|(name, port, _)| json!({"name": name, "containerPort": port})).collect();
            assert_eq!(container["ports"], json!(ports), "{file}: the ports that the program listens at by default");
        }
    }
}

/// The container of the verifier, the volumes of its Pod, and the ports of its Service by name.
fn served(sets: &str) -> (Value, Value, Vec<(String, i64)>) {
    let objects = rendered(&["--set", sets]);
    let deployments = of_kind(&objects, "Deployment").into_iter();
    let deployment = { deployments }.find(|deployment| name(deployment) == "tokenry-verifier").unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let services = of_kind(&objects, "Service").into_iter();
    let service = { services }.find(|service| name(service) == "tokenry-verifier").unwrap();
    let port = |port: &Value| (read(&port["targetPort"]), port["port"].as_i64().unwrap());
    let ports = service["spec"]["ports"].as_array().unwrap().iter().map(port).collect();
    (pod["containers"][0].clone(), pod["volumes"].clone(), ports)
}

#[test]
fn https_is_beside_plain_http_with_the_named_certificate_and_only_its_two_keys_are_mounted() {
    let (http, https) = (("http".to_owned(), 80), ("https".to_owned(), 443));
    let named = "verifier.tls.secretName=a";
    let args = |container: &Value| -> Vec<String> { read(&container["args"]) };
    let (container, volumes, ports) = served(named);
    assert_eq!(ports, [http.clone(), https.clone()]);
    let items = json!([{"key": "tls.crt", "path": "tls.crt"}, {"key": "tls.key", "path": "tls.key"}]);
    // Without it, the Pod would not start while the operator has not made the Secret yet.
    let pair = json!({"secret": {"name": "a", "items": items, "optional": true}});
    assert_eq!(volumes, json!([{"name": "tokenry-tls", "projected": {"sources": [pair]}}]));
    let mount = json!({"name": "tokenry-tls", "mountPath": "/etc/tokenry/tls", "readOnly": true});
    assert_eq!(container["volumeMounts"], json!([mount]));
    assert!(!args(&container).iter().any(|arg| arg.starts_with("--plain-http") || arg.starts_with("--tls-client-ca")));
    assert_eq!(served(&format!("{named},verifier.plainHttp=false,verifier.tls.caConfigMapName=b")).2, [https]);
    let items = json!([{"key": "ca.crt", "path": "client-ca.crt"}]);
    for (value, source) in [("secretName", "secret"), ("configMapName", "configMap")] {
        let (container, volumes, _) = served(&format!("{named},verifier.tls.clientCA.{value}=b"));
        assert_eq!(
            volumes[0]["projected"]["sources"][1],
            json!({source: {"name": "b", "items": items, "optional": true}})
        );
        assert!(args(&container).contains(&"--tls-client-ca=/etc/tokenry/tls/client-ca.crt".to_owned()));
    }
    for without in ["verifier.tls.enabled=false", "rbac.create=false"] {
        let (container, volumes, ports) = served(without);
        assert_eq!((ports, &volumes, &container["volumeMounts"]), (vec![http.clone()], &Value::Null, &Value::Null));
        let told = template(&["--set", &format!("{without},verifier.plainHttp=false")]).unwrap_err();
        assert!(told.contains("verifier.plainHttp: false needs a certificate"), "{told}");
    }
}

#[test]
fn the_operator_keeps_the_certificate_that_the_verifier_mounts_unless_another_is_named() {
    let kept = |sets: &str| {
        let objects = rendered(&["--set", sets]);
        let roles = of_kind(&objects, "ClusterRole").into_iter().map(name);
        let may = roles.filter(|name| name.ends_with("-operator-certificate")).count();
        let args = operator_args(&objects).into_iter().filter(|arg| arg.starts_with("--certificate"));
        (args.collect::<Vec<_>>(), may)
    };
    let [place, names] = [
        "--certificate=tokenry-system/tokenry-verifier-tls",
        "--certificate-name=tokenry-verifier,tokenry-verifier.tokenry-system,tokenry-verifier.tokenry-system.svc,\
         tokenry-verifier.tokenry-system.svc.cluster.local",
    ];
    assert_eq!(kept("log.level=info"), (vec![place.to_owned(), names.to_owned()], 1));
    assert_eq!(served("log.level=info").1[0]["projected"]["sources"][0]["secret"]["name"], "tokenry-verifier-tls");
    for without in ["verifier.tls.secretName=a", "verifier.tls.enabled=false", "rbac.create=false"] {
        assert_eq!(kept(without), (Vec::new(), 0), "{without}");
    }
}

#[test]
fn a_level_of_the_log_is_refused_by_the_chart_where_the_program_refuses_it() {
    let refused = |level: &str| {
        let args = ["operator", "--listen", "127.0.0.1:0", "--probes", "off", "--log-level", level];
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
        let done = command.args(args).env("KUBECONFIG", "/nowhere").env_remove("KUBERNETES_SERVICE_HOST").output();
        let done = done.unwrap();
        let told = String::from_utf8(done.stderr).unwrap();
        let by_level = done.status.code() == Some(2) && told.contains("--log-level");
        assert!(by_level || done.status.code() == Some(3), "{level}: {told}");
        by_level
    };
    let (good, bad) = (levels::GOOD.map(|level| (level, false)), levels::BAD.map(|level| (level, true)));
    for (level, is_none) in good.into_iter().chain(bad) {
        assert_eq!(refused(level), is_none, "{level}");
        let rendered = template(&["--set-json", &format!("log.level={}", Value::from(level))]);
        assert_eq!(rendered.is_err(), is_none, "{level}");
    }
}

#[tokio::test]
async fn definitions_that_exist_already_are_told_of_with_the_commands_that_go_on() {
    let world = World::alone("existing").await;
    world.plane.install_crds(root()).unwrap();
    let install = |more: &[&str]| {
        let args = ["install", "issuer", CHART, "--dry-run=server", "--namespace", NAMESPACE];
        world.plane.helm(&[&args, more].concat())
    };
    let told = install(&["--set", "rbac.create=false,admission.enabled=false"]).unwrap_err();
    let names = KINDS.map(|(_, resource)| format!("{resource}.tokenry.dev"));
    assert!(names.iter().all(|name| told.contains(name)), "{told}");
    let without = ["--set", "rbac.create=false,admission.enabled=false,crds.enabled=false", "--set"];
    let accounts = "operator.serviceAccount.create=false,verifier.serviceAccount.create=false";
    install(&[&without[..], &[accounts]].concat()).unwrap();
    let commands: Vec<_> = told.lines().filter_map(|line| line.trim().strip_prefix("kubectl ")).collect();
    assert_eq!(commands.len(), 2, "{told}");
    for command in commands {
        world.plane.kubectl(&command.split_whitespace().collect::<Vec<_>>()).unwrap();
    }
    let handed_over = ["--set", "rbac.create=false,admission.enabled=false", "--set", accounts];
    install(&handed_over).unwrap();
}

#[tokio::test]
async fn the_notes_show_how_ones_own_tokens_are_listed() {
    let world = World::new("mine").await;
    for (name, owner) in [("mine", "user:alice@example.com"), ("other", "user:bob@example.com")] {
        world.accepts("ApiToken", name, json!({"instanceRef": {"name": "demo"}, "owner": owner})).await;
    }
    let said = helm(&["install", "tokenry", CHART, "--dry-run=client", "--namespace", NAMESPACE]).unwrap();
    let (_, notes) = said.rsplit_once("NOTES:\n").unwrap();
    let commands: Vec<_> = notes.lines().filter(|line| line.contains("--field-selector")).collect();
    assert_eq!(commands.len(), 2, "{notes}");
    for (command, listed) in commands.iter().zip([1, 2]) {
        let args: Vec<_> = command.trim().strip_prefix("kubectl ").unwrap().split(' ').collect();
        let found = world.eventually("kubectl knows the kind", async || world.plane.kubectl(&args).ok()).await;
        let ours = found.lines().filter(|line| line.starts_with(&world.namespace));
        assert_eq!(ours.count(), listed, "{command}: {found}");
    }
}

#[test]
fn what_is_asked_for_by_values_reaches_the_pods() {
    let scoped = rendered(&["--set", "scopedNamespace=team-a"]);
    for deployment in of_kind(&scoped, "Deployment") {
        let args: Vec<String> = read(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
        assert!(args.contains(&"--namespace=team-a".to_owned()), "{args:?}");
    }
    // Accounts that are not created are not bound by accident to another's name.
    let byo = root().join("charts/tokenry/ci/byo-values.yaml");
    let objects = rendered(&["--values", byo.to_str().unwrap()]);
    assert!(of_kind(&objects, "ServiceAccount").is_empty());
    let accounts: Vec<_> = of_kind(&objects, "Deployment")
        .into_iter()
        .map(|deployment| deployment["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap())
        .collect();
    assert_eq!(accounts, ["my-operator", "default"]);
}

#[test]
fn what_is_added_by_values_is_in_the_pods() {
    let full = root().join("charts/tokenry/ci/full-values.yaml");
    let objects = rendered(&["--values", full.to_str().unwrap()]);
    let [operator, verifier] = of_kind(&objects, "Deployment")[..] else { panic!("{objects:?}") };
    assert_eq!(operator["spec"]["revisionHistoryLimit"], 2);
    let pod = &operator["spec"]["template"]["spec"];
    let [container, sidecar] = pod["containers"].as_array().unwrap().as_slice() else { panic!("{pod}") };
    assert_eq!((&container["name"], &sidecar["name"]), (&json!("operator"), &json!("sidecar")));
    let certificate = json!({"name": "tokenry-metrics", "mountPath": "/etc/tokenry/metrics", "readOnly": true});
    assert_eq!(container["volumeMounts"], json!([certificate, {"name": "scratch", "mountPath": "/tmp"}]));
    let certificate = json!({"name": "tokenry-metrics", "secret": {"secretName": "metrics-tls", "optional": true}});
    assert_eq!(pod["volumes"], json!([certificate, {"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]));
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    let live = json!({
        "httpGet": {"path": "/healthz", "port": "probes"},
        "initialDelaySeconds": 5, "periodSeconds": 20, "timeoutSeconds": 2, "failureThreshold": 6,
    });
    assert_eq!(container["livenessProbe"], live);
    let ready = json!({
        "httpGet": {"path": "/readyz", "port": "probes"},
        "initialDelaySeconds": 1, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 4,
    });
    assert_eq!(verifier["spec"]["template"]["spec"]["containers"][0]["readinessProbe"], ready);
    assert_eq!(of_kind(&objects, "Service")[0]["metadata"]["annotations"], json!({"example.com/note": "verifier"}));
}

#[test]
fn verifiers_find_each_other_whether_or_not_they_are_ready() {
    let objects = rendered(&[]);
    let services = of_kind(&objects, "Service");
    let peers = services.iter().find(|service| name(service) == "tokenry-peers").unwrap();
    let spec = &peers["spec"];
    assert_eq!((&spec["clusterIP"], &spec["publishNotReadyAddresses"]), (&json!("None"), &json!(true)));
    assert_eq!(spec["ports"], json!([{"name": "probes", "port": 8081, "targetPort": "probes"}]));
    let deployments = of_kind(&objects, "Deployment");
    let verifier = deployments.iter().find(|deployment| name(deployment) == "tokenry-verifier").unwrap();
    let template = &verifier["spec"]["template"];
    let args: Vec<String> = read(&template["spec"]["containers"][0]["args"]);
    let namespace = peers["metadata"]["namespace"].as_str().unwrap();
    assert!(args.contains(&format!("--peers=tokenry-peers.{namespace}.svc:8081")), "{args:?}");
    for (label, value) in spec["selector"].as_object().unwrap() {
        assert_eq!(&template["metadata"]["labels"][label], value);
    }
    let probe = &template["spec"]["containers"][0]["readinessProbe"];
    let of = |field: &str| probe[field].as_u64().unwrap();
    // A probe that is due right after the Pod began to hang, and those that follow until it is enough.
    let noticed = of("periodSeconds") + of("failureThreshold") * of("timeoutSeconds").max(of("periodSeconds"));
    assert!(noticed <= 6, "a Pod that hangs is noticed after {noticed} s");
}

#[test]
fn the_image_is_named_by_tag_or_digest() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let by_digest = format!("image.digest={digest}");
    for (set, wanted) in [
        ("image.repository=tokenry", "tokenry:0.1.0".to_owned()),
        ("image.repository=mirror.example.com:5000/tokenry", "mirror.example.com:5000/tokenry:0.1.0".to_owned()),
        ("image.tag=0.1.1-debug", "tokenry:0.1.1-debug".to_owned()),
        (&by_digest, format!("tokenry@{digest}")),
        (&format!("image.tag=ignored,{by_digest}"), format!("tokenry@{digest}")),
    ] {
        for deployment in of_kind(&rendered(&["--set", set]), "Deployment") {
            assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], wanted, "{set}");
        }
    }
    let mirror = root().join("charts/tokenry/ci/mirror-values.yaml");
    for deployment in of_kind(&rendered(&["--values", mirror.to_str().unwrap()]), "Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "parent"}, {"name": "mirror"}]), "each once");
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    }
}

#[test]
fn the_drain_of_a_node_leaves_a_verifier() {
    let budgets = |args: &[&str]| -> Vec<Value> {
        let objects = rendered(args);
        let selector = |name: &str| {
            let deployments = of_kind(&objects, "Deployment").into_iter();
            deployments.filter(|d| d["metadata"]["name"] == name).map(|d| d["spec"]["selector"].clone()).next()
        };
        let budgets = of_kind(&objects, "PodDisruptionBudget").into_iter().map(|budget| {
            assert_eq!(Some(&budget["spec"]["selector"]), selector(name(budget)).as_ref());
            json!([name(budget), budget["spec"]["minAvailable"], budget["spec"]["maxUnavailable"]])
        });
        budgets.collect()
    };
    let verifier = |least: Value, most: Value| vec![json!(["tokenry-verifier", least, most])];
    assert_eq!(budgets(&[]), verifier(Value::Null, json!(1)));
    for (set, wanted) in [
        ("verifier.podDisruptionBudget.minAvailable=0", verifier(json!(0), Value::Null)),
        ("verifier.podDisruptionBudget.minAvailable=50%", verifier(json!("50%"), Value::Null)),
        ("verifier.podDisruptionBudget.maxUnavailable=0", verifier(Value::Null, json!(0))),
        ("verifier.podDisruptionBudget.maxUnavailable=2", verifier(Value::Null, json!(2))),
        ("verifier.podDisruptionBudget.maxUnavailable=null", verifier(Value::Null, json!(1))),
        ("verifier.podDisruptionBudget.enabled=false", vec![]),
    ] {
        assert_eq!(budgets(&["--set", set]), wanted, "{set}");
    }
    let both = budgets(&["--set", "operator.podDisruptionBudget.enabled=true"]);
    assert_eq!(both.len(), 2, "{both:?}");
}

#[test]
fn another_namespace_is_that_of_everything_in_one() {
    let objects = rendered(&["--set", "namespaceOverride=issuers"]);
    let subjects = objects.iter().flat_map(|object| object["subjects"].as_array().into_iter().flatten());
    let namespaces = subjects
        .map(|subject| &subject["namespace"])
        .chain(objects.iter().map(|object| &object["metadata"]["namespace"]).filter(|namespace| !namespace.is_null()));
    let namespaces: Vec<_> = namespaces.collect();
    assert!(namespaces.len() > 8 && namespaces.iter().all(|namespace| *namespace == "issuers"), "{namespaces:?}");
}

#[test]
fn further_objects_are_rendered_like_templates() {
    let full = root().join("charts/tokenry/ci/full-values.yaml");
    let objects = rendered(&["--values", full.to_str().unwrap()]);
    let told: Vec<_> = of_kind(&objects, "ConfigMap")
        .into_iter()
        .map(|object| (name(object), object["metadata"]["namespace"].as_str().unwrap(), &object["data"]))
        .collect();
    let (given, text) = (json!({"release": "tokenry"}), json!({"verifiers": "3"}));
    assert_eq!(told, [("my-issuer-note", NAMESPACE, &given), ("tokenry-replicas", NAMESPACE, &text)]);
}

#[test]
fn stamps_are_left_out_only_where_they_cannot_be_or_are_not_wanted() {
    const ABLE: &str = "v1/Pod,admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";
    const UNABLE: &str = "v1/Pod,admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy";
    let stamps = |args: &[&str]| {
        let objects = rendered(args);
        let policies = of_kind(&objects, "MutatingAdmissionPolicy").len();
        assert_eq!(policies, of_kind(&objects, "MutatingAdmissionPolicyBinding").len(), "{args:?}");
        policies > 0
    };
    for (version, kinds, auto) in [
        // Nobody was asked.
        ("1.35.9", "", false),
        ("1.36.0", "", true),
        ("v1.36.0-eks-1a2b3c", "", true),
        ("1.37.1", "", true),
        // A server was.
        ("1.36.0", UNABLE, false),
        ("1.35.0", ABLE, true),
        ("1.36.0", ABLE, true),
    ] {
        let set = |said: &str| {
            let set = format!("admission.stamps={said}");
            let server = ["--kube-version", version, "--api-versions", kinds, "--set", &set];
            stamps(&server)
        };
        assert_eq!([set("auto"), set("always"), set("never")], [auto, true, false], "{version} {kinds}");
    }
    assert!(!stamps(&["--set", "admission.stamps=always,admission.enabled=false"]));
}

#[test]
fn the_notes_say_whether_who_makes_a_token_is_stamped() {
    let notes = |set: &str| {
        let args = ["install", "tokenry", CHART, "--dry-run=client", "--namespace", NAMESPACE, "--set", set];
        let said = helm(&args).unwrap();
        said.rsplit_once("NOTES:\n").unwrap().1.to_owned()
    };
    assert!(notes("admission.stamps=always").contains("\nThe API server sets the creator of a token as its owner"));
    let unstamped = "\nThe API server does not set the owner of a token (admission.stamps, docs/admission.md). ";
    for (set, so) in [
        ("admission.stamps=never", "New tokens and accounts without spec.owner are rejected."),
        ("admission.stamps=never,admission.requireOwner=false", "A token without spec.owner has no owner."),
        ("admission.enabled=false", "A token without spec.owner has no owner."),
    ] {
        let notes = notes(set);
        assert!(notes.contains(&format!("{unstamped}{so}\n")), "{set}: {notes}");
    }
}

/// The paths of all values in a values file: of those that hold others, and of the rest.
fn paths(values: &Value) -> (Vec<String>, Vec<String>) {
    let (mut holders, mut rest) = (Vec::new(), Vec::new());
    let mut places = vec![(String::new(), values)];
    while let Some((path, value)) = places.pop() {
        for (key, inner) in value.as_object().unwrap() {
            let path = format!("{path}{key}");
            if inner.as_object().is_some_and(|inner| !inner.is_empty()) {
                places.push((format!("{path}."), inner));
                holders.push(format!("{path}=null"));
            } else {
                rest.push(format!("{path}=null"));
            }
        }
    }
    (holders, rest)
}

#[test]
fn a_value_that_is_not_there_takes_no_object_and_no_right_away() {
    // As of a release of an older chart that is upgraded with its values alone.
    let seen = |args: &[&str]| {
        let objects = rendered(args);
        let parts = objects.iter().map(|object| (object["kind"].clone(), object["metadata"]["name"].clone()));
        let roles = of_kind(&objects, "ClusterRole").into_iter().map(|role| (name(role).into(), role["rules"].clone()));
        let calls = of_kind(&objects, "Deployment").into_iter().map(|deployment| {
            let spec = &deployment["spec"];
            let container = &spec["template"]["spec"]["containers"][0];
            (spec["replicas"].clone(), json!([container["args"], container["image"], container["imagePullPolicy"]]))
        });
        parts.chain(roles).chain(calls).collect::<Vec<(Value, Value)>>()
    };
    let wanted = seen(&[]);
    let (holders, rest) = paths(&values_of(&root().join("charts/tokenry/values.yaml")));
    for without in holders.into_iter().chain([rest.join(",")]) {
        assert_eq!(seen(&["--set", &without]), wanted, "{without}");
    }
}

#[test]
fn the_committed_policies_are_those_that_the_program_makes() {
    let generated = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("admission-{}", std::process::id()));
    fs::create_dir_all(&generated).unwrap();
    let dir = generated.to_str().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_tokenry")).args(["admission", "--dir", dir]).status().unwrap();
    assert!(done.success());
    const DIR: &str = "charts/tokenry/files/admission";
    for file in ["validating.yaml", "mutating.yaml"] {
        let (wanted, there) =
            (fs::read_to_string(generated.join(file)), fs::read_to_string(root().join(DIR).join(file)));
        assert!(
            wanted.unwrap() == there.unwrap(),
            "{DIR}/{file} is out of date: run `cargo run -- admission --dir {DIR}`"
        );
    }
    fs::remove_dir_all(&generated).unwrap();
}

#[test]
fn the_chart_installs_the_policies_that_the_program_prints() {
    let printed = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_tokenry")).arg("admission").args(args).output().unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(done.stdout).unwrap()).unwrap();
        objects.iter().map(|object| (name(object).to_owned(), object["spec"].clone())).collect::<BTreeMap<_, _>>()
    };
    let installed = |args: &[&str]| {
        let objects = rendered(args);
        let policies = objects.iter().filter(|object| object["apiVersion"] == "admissionregistration.k8s.io/v1");
        policies.map(|object| (name(object).to_owned(), object["spec"].clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(installed(&["--set", "admission.stamps=always"]), printed(&[]));
    assert_eq!(installed(&["--set", "admission.stamps=never"]), printed(&["--no-mutation"]));
    let exempt = [
        "--exempt",
        "argo",
        "--exempt",
        "system:serviceaccount:flux:flux",
        "--namespaces",
        "kubernetes.io/metadata.name=team-a",
    ];
    let set = "admission.exempt={argo,system:serviceaccount:flux:flux},scopedNamespace=team-a,admission.stamps=always";
    assert_eq!(installed(&["--set", set]), printed(&exempt));
    let several = ["--no-mutation", "--namespaces", "kubernetes.io/metadata.name=team-a,jobs"];
    let set = "admission.stamps=never,scopedNamespace=team-a,additionalScopedNamespaces={jobs}";
    assert_eq!(installed(&["--set", set]), printed(&several));
    assert_eq!(installed(&["--set", "admission.enabled=false"]), BTreeMap::new());
}
