//! The definitions (CRDs) of other products, read from pinned Go modules.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{ControlPlane, Error, programs::go};

const MODFILE: &str = "definitions.mod";
const MODULES: &str = include_str!("../definitions.mod");

/// The definitions of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definitions {
    /// All kinds of the standard channel of Gateway API.
    GatewayApi,
    /// All kinds of the experimental channel of Gateway API. They replace those of the standard channel.
    GatewayApiExperimental,
    /// Route of OpenShift.
    OpenShiftRoute,
    /// All kinds of Traefik, such as Middleware. Traefik reads them all at its start.
    Traefik,
    /// SecurityPolicy of Envoy Gateway.
    EnvoyGateway,
    /// AuthorizationPolicy of Istio.
    Istio,
    /// All kinds of the Prometheus Operator, such as PrometheusRule.
    PrometheusOperator,
    /// Kustomization of Flux.
    Flux,
    /// HelmRelease of Flux.
    FluxHelm,
    /// GitRepository and the other sources of Flux.
    FluxSource,
    /// ClusterServiceVersion of the Operator Lifecycle Manager.
    Olm,
}

/// Where definitions are.
struct Place {
    module: &'static str,
    folder: &'static str,
    group: &'static str,
    /// The plural name of the only kind, or `None` for all kinds of the group.
    only: Option<&'static str>,
}

impl Definitions {
    fn place(self) -> Place {
        match self {
            Self::GatewayApi => Place {
                module: "sigs.k8s.io/gateway-api",
                folder: "config/crd/standard",
                group: "gateway.networking.k8s.io",
                only: None,
            },
            Self::GatewayApiExperimental => Place { folder: "config/crd/experimental", ..Self::GatewayApi.place() },
            Self::OpenShiftRoute => Place {
                module: "github.com/openshift/api",
                folder: "route/v1/zz_generated.crd-manifests",
                group: "route.openshift.io",
                only: None,
            },
            Self::Traefik => Place {
                module: "github.com/traefik/traefik/v3",
                folder: "docs/content/reference/dynamic-configuration",
                group: "traefik.io",
                only: None,
            },
            Self::EnvoyGateway => Place {
                module: "github.com/envoyproxy/gateway",
                folder: "charts/gateway-crds-helm/templates/generated",
                group: "gateway.envoyproxy.io",
                only: Some("securitypolicies"),
            },
            Self::Istio => Place {
                module: "istio.io/api",
                folder: "kubernetes",
                group: "security.istio.io",
                only: Some("authorizationpolicies"),
            },
            Self::PrometheusOperator => Place {
                module: "github.com/prometheus-operator/prometheus-operator",
                folder: "example/prometheus-operator-crd",
                group: "monitoring.coreos.com",
                only: None,
            },
            Self::Flux => Place {
                module: "github.com/fluxcd/kustomize-controller",
                folder: "config/crd/bases",
                group: "kustomize.toolkit.fluxcd.io",
                only: None,
            },
            Self::FluxHelm => Place {
                module: "github.com/fluxcd/helm-controller",
                group: "helm.toolkit.fluxcd.io",
                ..Self::Flux.place()
            },
            Self::FluxSource => Place {
                module: "github.com/fluxcd/source-controller",
                group: "source.toolkit.fluxcd.io",
                ..Self::Flux.place()
            },
            Self::Olm => Place {
                module: "github.com/operator-framework/api",
                folder: "crds",
                group: "operators.coreos.com",
                only: Some("clusterserviceversions"),
            },
        }
    }

    /// The definitions as YAML documents. The first call on a machine downloads their module.
    pub fn manifests(self) -> Result<String, Error> {
        let place = self.place();
        let folder = downloaded(place.module)?.join(place.folder);
        let failed = |source| Error::io("read the definitions in", &folder, source);
        let mut manifests = String::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = fs::read_to_string(&path).map_err(failed)?;
                place.definitions(&text).for_each(|document| manifests += &format!("---\n{document}\n"));
            }
        }
        Ok(manifests)
    }
}

impl Place {
    /// The YAML documents of `text` that are wanted here.
    fn definitions(&self, text: &str) -> impl Iterator<Item = String> {
        // Some files are templates of charts. Their only template lines are a condition around all.
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("{{")).collect();
        let documents = lines.split(|line| *line == "---").map(|document| document.join("\n")).collect::<Vec<_>>();
        documents.into_iter().filter(|document| {
            let lines = || document.lines();
            let mut names = lines().filter_map(|line| line.strip_prefix("  name: "));
            let wanted = names
                .next()
                .and_then(|name| name.trim_matches('"').split_once('.'))
                .is_some_and(|(plural, group)| group == self.group && self.only.is_none_or(|only| only == plural));
            wanted && lines().any(|line| line == "kind: CustomResourceDefinition")
        })
    }
}

impl ControlPlane {
    /// Applies definitions of other products and waits until they are served.
    ///
    /// # Errors
    /// The error of the download, or the error output of kubectl.
    pub fn install_definitions(&self, definitions: &[Definitions]) -> Result<(), String> {
        let texts: Result<Vec<_>, _> = definitions.iter().map(|definitions| definitions.manifests()).collect();
        let manifests = texts.map_err(|error| error.to_string())?.concat();
        self.kubectl_with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &manifests)?;
        // A definition that was made just now has no conditions yet, and kubectl fails for that.
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", "-"];
        let waited = || self.kubectl_with_input(&wait, &manifests);
        waited().or_else(|_| waited()).or_else(|_| waited()).map(drop)
    }
}

/// The folder of the files of a module, which is downloaded if need be. Go compares it with `definitions.sum`.
fn downloaded(module: &str) -> Result<PathBuf, Error> {
    /// The answer of `go mod download -json`.
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Download {
        dir: Option<PathBuf>,
        error: Option<String>,
    }
    let version = MODULES
        .lines()
        .find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(' '))
        .expect("definitions.mod requires the modules of all definitions");
    let failed = |message: String| Error::Download { module: module.to_owned(), message };
    let modfile = format!("-modfile={MODFILE}");
    let mut go = go(&["mod", "download", &modfile, "-json", &format!("{module}@{version}")]);
    let output = go.output().map_err(|error| failed(format!("cannot run go: {error}")))?;
    let download: Download = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed(String::from_utf8_lossy(&output.stderr).into_owned()))?;
    download.dir.filter(|dir| Path::is_dir(dir)).ok_or_else(|| failed(download.error.unwrap_or_default()))
}
