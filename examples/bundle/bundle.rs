//! The bundle by which the Operator Lifecycle Manager (OLM) installs Tokenry: the objects of the chart, in its form.
//! <https://olm.operatorframework.io/docs/tasks/creating-operator-bundle/>

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Map, Value, json};

/// The files below the folder `bundle`, by their paths.
pub type Files = BTreeMap<String, String>;

const NAMESPACE: &str = "tokenry-system";
/// OLM installs no admission policies, and runs no test of helm, so they are no part of the bundle.
const VALUES: &str = "admission.enabled=false,crds.enabled=false,helmTest.enabled=false";
const MEDIA: &str = "operators.operatorframework.io.bundle";
const CHANNEL: &str = "alpha";
const FEATURES: [(&str, bool); 10] = [
    ("cnf", false),
    ("cni", false),
    ("csi", false),
    ("disconnected", true),
    ("fips-compliant", false),
    ("proxy-aware", true),
    ("tls-profiles", false),
    ("token-auth-aws", false),
    ("token-auth-azure", false),
    ("token-auth-gcp", false),
];

const DESCRIPTION: &str = "\
Tokenry issues API access tokens as Kubernetes objects. You apply an `ApiToken`. The operator generates a value, \
writes it
into one Secret, and replaces it on a schedule. The verifier answers the proxy in front of your API.

OLM installs no admission policies. Without them, every user with permission to write tokens can give any role to a \
token.
So apply them, with the program of the same version:

    tokenry admission | kubectl apply -f -

In another namespace than `tokenry-system`, add the names of the accounts there, such as
`--operator system:serviceaccount:NAMESPACE:tokenry-operator` and
`--verifier system:serviceaccount:NAMESPACE:tokenry-verifier`.

The operator then grants no rights to the members of an Instance, and the verifier does not report the use of tokens.
";

/// The files of the bundle, for this image or that of the chart.
///
/// # Errors
/// A file cannot be read, or helm refuses the chart.
pub fn files(root: &Path, image: Option<&str>) -> Result<Files, String> {
    let read = |path: &str| fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"));
    let chart: Value = parse(&read("charts/tokenry/Chart.yaml")?)?.remove(0);
    let path = root.join("charts/tokenry").display().to_string();
    let args = ["template", "tokenry", &path, "--namespace", NAMESPACE, "--kube-version", "1.36", "--set", VALUES];
    let mut objects = parse(&controlplane::helm(&args)?)?;
    objects.retain(|object| !object.is_null());
    objects.iter_mut().for_each(adopt);
    for deployment in objects.iter_mut().filter(|object| object["kind"] == "Deployment") {
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        settle_anywhere(container);
        if let Some(image) = image {
            container["image"] = json!(image);
        }
    }
    let (mut files, mut definitions) = (Files::new(), Vec::new());
    for kind in ["accesspolicies", "apitokens", "instances", "serviceaccounts"] {
        let text = read(&format!("crds/{kind}.tokenry.dev.yaml"))?;
        definitions.extend(parse(&text)?);
        files.insert(format!("manifests/{kind}.tokenry.dev.crd.yaml"), text);
    }
    let examples = examples(root)?;
    let version = service_version(&chart, &objects, &definitions, &examples);
    files.insert("manifests/tokenry.clusterserviceversion.yaml".into(), written(&version)?);
    for object in objects.iter().filter(|object| is_manifest(object, &objects)) {
        let (kind, name) = (text(&object["kind"]).to_lowercase(), text(&object["metadata"]["name"]));
        files.insert(format!("manifests/{name}.{kind}.yaml"), written(object)?);
    }
    files.insert("metadata/annotations.yaml".into(), written(&json!({ "annotations": annotations() }))?);
    files.insert("Dockerfile".into(), dockerfile());
    Ok(files)
}

fn parse(text: &str) -> Result<Vec<Value>, String> {
    serde_saphyr::from_multiple(text).map_err(|error| error.to_string())
}

fn written(value: &Value) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| error.to_string())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Makes an object OLM's: without a namespace, and without the labels of helm.
fn adopt(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
        if let Some(labels) = object.pointer_mut(labels).and_then(Value::as_object_mut) {
            labels.remove("helm.sh/chart");
            labels.remove("app.kubernetes.io/managed-by");
        }
    }
}

/// Makes the arguments those of any namespace. OLM chooses it, and Kubernetes replaces the variable.
fn settle_anywhere(container: &mut Value) {
    for arg in container["args"].as_array_mut().into_iter().flatten() {
        *arg = json!(text(arg).replace(NAMESPACE, "$(POD_NAMESPACE)"));
    }
    let own = json!({"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}});
    container["env"] = json!([own]);
}

/// True for an object that is a file of its own. OLM makes the others from the ClusterServiceVersion.
fn is_manifest(object: &Value, all: &[Value]) -> bool {
    match text(&object["kind"]) {
        "Deployment" | "ServiceAccount" | "ClusterRoleBinding" | "RoleBinding" => false,
        "ClusterRole" | "Role" => !all.iter().any(|binding| binding["roleRef"]["name"] == object["metadata"]["name"]),
        _ => true,
    }
}

/// The rules that bindings of this kind give to each account.
fn permissions(objects: &[Value], kind: &str) -> Vec<Value> {
    let mut rules: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for binding in objects.iter().filter(|object| object["kind"] == kind) {
        let role = objects.iter().find(|object| {
            object["kind"] == binding["roleRef"]["kind"] && object["metadata"]["name"] == binding["roleRef"]["name"]
        });
        let granted = role.and_then(|role| role["rules"].as_array()).cloned().unwrap_or_default();
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            rules.entry(text(&subject["name"])).or_default().extend(granted.clone());
        }
    }
    rules.into_iter().map(|(account, rules)| json!({"serviceAccountName": account, "rules": rules})).collect()
}

/// An example of each kind: the first one in these files.
fn examples(root: &Path) -> Result<Vec<Value>, String> {
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for name in ["instance", "token", "shared-account", "products/policies-and-projects"] {
        let path = root.join("examples").join(name).with_extension("yaml");
        let manifests = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for object in parse(&manifests)? {
            if object["apiVersion"] == "tokenry.dev/v1alpha1" {
                found.entry(text(&object["kind"]).to_owned()).or_insert(object);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The ClusterServiceVersion: all that OLM knows of this version.
fn service_version(chart: &Value, objects: &[Value], definitions: &[Value], examples: &[Value]) -> Value {
    let version = text(&chart["version"]);
    let deployments: Vec<_> = objects.iter().filter(|object| object["kind"] == "Deployment").collect();
    let image = &deployments[0]["spec"]["template"]["spec"]["containers"][0]["image"];
    let mut annotations = Map::from_iter([
        ("alm-examples".to_owned(), json!(format!("{:#}", json!(examples)))),
        ("capabilities".to_owned(), json!("Deep Insights")),
        ("categories".to_owned(), json!("Security")),
        ("containerImage".to_owned(), image.clone()),
        ("description".to_owned(), chart["description"].clone()),
        ("operatorframework.io/suggested-namespace".to_owned(), json!(NAMESPACE)),
        ("support".to_owned(), json!("The Tokenry maintainers")),
    ]);
    annotations.extend(
        FEATURES.map(|(name, has)| (format!("features.operators.openshift.io/{name}"), json!(has.to_string()))),
    );
    let mut spec = json!({
        "displayName": "Tokenry",
        "description": DESCRIPTION,
        "version": version,
        "maturity": CHANNEL,
        "minKubeVersion": "1.33.0",
        "provider": {"name": "The Tokenry maintainers"},
        "keywords": chart["keywords"],
        "installModes": install_modes(),
        "customresourcedefinitions": {"owned": definitions.iter().map(owned).collect::<Vec<_>>()},
        "relatedImages": [{"name": "tokenry", "image": image}],
        "install": {"strategy": "deployment", "spec": {
            "clusterPermissions": permissions(objects, "ClusterRoleBinding"),
            "permissions": permissions(objects, "RoleBinding"),
            "deployments": deployments.iter().map(|deployment| json!({
                "name": deployment["metadata"]["name"],
                "label": deployment["metadata"]["labels"],
                "spec": deployment["spec"],
            })).collect::<Vec<_>>(),
        }},
    });
    if let Some((kind, data)) = text(&chart["icon"]).strip_prefix("data:").and_then(|icon| icon.split_once(";base64,"))
    {
        spec["icon"] = json!([{"base64data": data, "mediatype": kind}]);
    }
    if chart["home"].is_string() {
        spec["links"] = json!([{"name": "Tokenry", "url": chart["home"]}]);
    }
    json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {"name": format!("tokenry.v{version}"), "namespace": "placeholder", "annotations": annotations},
        "spec": spec,
    })
}

/// Tokenry serves all namespaces. Its rights are those of all namespaces.
fn install_modes() -> Vec<Value> {
    let modes = ["OwnNamespace", "SingleNamespace", "MultiNamespace", "AllNamespaces"];
    modes.map(|mode| json!({"type": mode, "supported": mode == "AllNamespaces"})).into()
}

/// A kind, as OLM lists it.
fn owned(definition: &Value) -> Value {
    let (names, version) = (&definition["spec"]["names"], &definition["spec"]["versions"][0]);
    json!({
        "name": definition["metadata"]["name"],
        "kind": names["kind"],
        "displayName": names["kind"],
        "version": version["name"],
        "description": version["schema"]["openAPIV3Schema"]["description"],
    })
}

/// What the image of the bundle says of itself.
fn annotations() -> BTreeMap<String, &'static str> {
    [
        ("mediatype.v1", "registry+v1"),
        ("manifests.v1", "manifests/"),
        ("metadata.v1", "metadata/"),
        ("package.v1", "tokenry"),
        ("channels.v1", CHANNEL),
        ("channel.default.v1", CHANNEL),
    ]
    .map(|(name, value)| (format!("{MEDIA}.{name}"), value))
    .into_iter()
    // Kubernetes 1.33, and newer.
    .chain([("com.redhat.openshift.versions".to_owned(), "v4.20")])
    .collect()
}

fn dockerfile() -> String {
    let labels = annotations().into_iter().map(|(name, value)| format!("LABEL {name}={value}\n"));
    format!(
        "# The image of the bundle, which `cargo bundle` writes.\nFROM scratch\n{}COPY manifests /manifests/\n\
         COPY metadata /metadata/\n",
        labels.collect::<String>()
    )
}
